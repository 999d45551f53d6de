"""What each call answers: asking, reading, writing without waiting, calling from within."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka
import pytest

from exraft import NOREPLY, ExRaft, Peer, Role, StateMachine, maybe_applied
from exraft.actors.calls import AwaitLeader, Read, Reply
from exraft.errors import (
    CallTimeout,
    CommandRejected,
    DirtyReadDisabled,
    NoLeader,
    SelfCall,
    ServerNotFound,
)
from exraft.machine import WriteResult
from exraft.raft.messages import Append
from tests.helpers import (
    LIMIT,
    PATIENT,
    RAFT,
    Gate,
    Journal,
    KeyValueStore,
    Network,
    agree,
    does,
    elect,
    held_up,
    leader_and_followers,
    outcome,
    send,
    start,
    start_cluster,
    unchanged,
    wait_until,
)

# Asking.


@pytest.mark.parametrize("server", [":raft1", Peer(":raft1"), (":raft1", "nonode@nohost")])
def test_a_server_is_addressed_by_name_peer_or_tuple(server: Any) -> None:
    start(":raft1")
    assert ExRaft.ping(server) == "pong"
    assert ExRaft.write(server, ("put", "k", 1)) == "ok"


def test_a_lone_server_starts_as_leader_at_once() -> None:
    start(":raft1")
    assert ExRaft.state(":raft1") is Role.LEADER
    assert ExRaft.leader(":raft1") == Peer(":raft1")


def test_a_role_equals_its_word() -> None:
    start(":raft1")
    assert ExRaft.state(":raft1") == "leader"


def test_a_lone_server_with_min_majority_waits_to_be_added(network: Network) -> None:
    network.watch()
    start(":raft1", min_majority=2)
    start(":raft2")
    assert ExRaft.state(":raft1") == "follower"
    assert ExRaft.leader(":raft1") is None
    ExRaft.trigger_election(":raft1")
    assert ExRaft.state(":raft1") == "follower"
    assert ExRaft.status(":raft1").term == 0
    ExRaft.add_server(":raft2", ":raft1")
    assert ExRaft.await_leader(":raft1", LIMIT) == Peer(":raft2")


def test_a_fresh_cluster_waits_for_no_election_timeout() -> None:
    for name in RAFT:
        start(name, initial_config=RAFT)
    leader, *_ = leader_and_followers(RAFT)
    assert ExRaft.write(leader, ("put", "k", 1)) == "ok"


def test_all_servers_of_a_cluster_know_the_same_leader() -> None:
    leader, *others = start_cluster()
    assert {ExRaft.await_leader(peer) for peer in (leader, *others)} == {leader}
    assert [ExRaft.state(peer) for peer in others] == ["follower", "follower"]


def test_await_leader_waits_until_there_is_one() -> None:
    start(":raft1", initial_config=RAFT)
    known = send(":raft1", AwaitLeader(Reply()))
    assert ExRaft.leader(":raft1") is None
    assert not known.done()
    start(":raft2", initial_config=RAFT)
    assert known.get(timeout=LIMIT) in {Peer(":raft1"), Peer(":raft2")}


def test_await_leader_gives_up_at_its_timeout() -> None:
    start(":raft1", min_majority=2)
    with pytest.raises(CallTimeout, match=r"no answer from :raft1 within 0\.01 s") as raised:
        ExRaft.await_leader(":raft1", timeout=0.01)
    assert not maybe_applied(raised.value)


def test_no_timeout_waits_for_ever() -> None:
    start(":raft1")
    assert ExRaft.await_leader(":raft1", None) == Peer(":raft1")
    assert ExRaft.write(":raft1", ("put", "k", 1), None) == "ok"


def test_trigger_election_makes_a_follower_lead_past_a_leader_that_lives() -> None:
    leader, follower, _ = start_cluster()
    term = ExRaft.status(leader).term
    elect(follower)
    assert ExRaft.status(follower).term > term
    wait_until(lambda: ExRaft.leader(leader) == follower, "the old leader follows")


def test_a_server_that_is_no_voter_does_not_campaign() -> None:
    leader = start(":raft1")
    start(":raft2", min_majority=2)
    ExRaft.add_server(leader, ":raft2")
    ExRaft.remove_server(leader, ":raft2")

    def knows() -> bool:
        status = ExRaft.status(":raft2")
        return status.config.voters == (leader,) and status.commit_index >= status.config_index

    wait_until(knows, "it knows of its removal")
    ExRaft.trigger_election(":raft2")
    assert ExRaft.state(":raft2") == "follower"


def test_a_leader_made_to_campaign_refuses_its_reads_and_keeps_its_writes(
    network: Network,
) -> None:
    leader, *others = start_cluster()
    network.cut(leader)
    read = send(leader, Read(Reply(), "k", dirty=False))
    write = ExRaft.write_async(leader, ("put", "k", 1))
    ExRaft.trigger_election(leader)
    with pytest.raises(NoLeader):
        read.get(timeout=LIMIT)
    assert ExRaft.status(leader).waiting_writes == 1
    network.heal()
    elect(leader)
    assert write.get(timeout=LIMIT) == "ok"


def test_a_status_tells_programs_how_a_leader_is() -> None:
    leader, *others = start_cluster()
    ExRaft.write(leader, ("put", "k", "x" * 100))
    wait_until(lambda: agree([leader, *others]), "all have applied it")
    status = ExRaft.status(leader)
    assert status.server == status.leader == leader
    assert status.role is Role.LEADER
    assert status.term >= 1
    assert set(status.config.voters) == {leader, *others}
    assert status.commit_index == status.applied_index == status.last_index
    assert status.log_entries == status.last_index
    assert status.log_bytes > 100
    assert status.uncommitted_bytes == 0
    assert (status.queue_length, status.waiting_writes, status.waiting_reads) == (0, 0, 0)
    assert (status.side_effects, status.restarts) == (0, 0)
    assert set(status.peers) == set(others)
    for progress in status.peers.values():
        assert progress.match_index == status.last_index
        assert progress.next_index == status.last_index + 1
        assert not progress.stranger
        assert progress.heard_ago >= 0


def test_a_follower_has_no_progress_of_others_to_tell() -> None:
    _, follower, _ = start_cluster()
    assert ExRaft.status(follower).peers == {}


def test_a_status_does_not_change() -> None:
    start(":raft1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExRaft.status(":raft1").term = 7  # type: ignore[misc]


def test_inspect_prints_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    leader, follower, _ = start_cluster()
    ExRaft.inspect(leader, "context")
    printed = capsys.readouterr().out
    assert printed.startswith(f"{leader}\n")
    assert "role: leader" in printed
    assert f"leader: {leader}" in printed
    assert f"{follower}: match_index" in printed


def test_inspect_prints_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "k", 1))
    ExRaft.inspect(raft1, "log")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 entries"
    assert "config voters :raft1" in lines[1]
    assert "command ('put', 'k', 1)" in lines[2]


# Writing without waiting.


def test_writes_in_flight_are_applied_in_order() -> None:
    leader, *_ = start_cluster()
    writes = [ExRaft.write_async(leader, ("add", "n", 1)) for _ in range(1000)]
    assert [write.get(timeout=LIMIT) for write in writes] == list(range(1, 1001))


def test_a_write_without_waiting_fails_in_its_future() -> None:
    start(":raft1", min_majority=2)
    for server, error in ((":raft1", NoLeader), (":nobody", ServerNotFound)):
        future = ExRaft.write_async(server, ("put", "k", 1))
        with pytest.raises(error):
            future.get(timeout=LIMIT)


def test_a_write_without_waiting_is_a_pykka_future() -> None:
    raft1 = start(":raft1")
    future = ExRaft.write_async(raft1, ("add", "n", 1))
    assert isinstance(future, pykka.Future)
    assert future.map(lambda n: n + 1).get(timeout=LIMIT) == 2


def test_a_write_without_waiting_can_be_awaited() -> None:
    raft1 = start(":raft1")

    async def main() -> Any:
        return await ExRaft.write_async(raft1, ("add", "n", 1))

    assert asyncio.run(main()) == 1


def test_writes_can_be_gathered() -> None:
    leader, *_ = start_cluster()

    async def main() -> list[Any]:
        writes = [ExRaft.write_async(leader, ("add", "n", 1)) for _ in range(20)]
        return await asyncio.gather(*writes)

    assert asyncio.run(main()) == list(range(1, 21))


def test_what_a_machine_raises_is_raised_by_await() -> None:
    raft1 = start(":raft1")

    async def main() -> Any:
        return await ExRaft.write_async(raft1, ("raise", ValueError("no")))

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())


def test_awaiting_does_not_block_the_event_loop() -> None:
    gate = Gate()

    def wait(state: Any) -> WriteResult:
        gate.pass_through()
        return "waited", state

    ExRaft.start_server(does(wait=wait), name=":raft1", **PATIENT)

    async def main() -> Any:
        write = asyncio.ensure_future(_awaited(ExRaft.write_async(":raft1", "wait")))
        await asyncio.to_thread(gate.await_someone)
        # The loop runs although the write has no answer.
        assert not write.done()
        gate.open()
        return await write

    assert asyncio.run(main()) == "waited"


async def _awaited(future: Any) -> Any:
    return await future


def test_a_wait_that_is_cancelled_does_not_cancel_the_write() -> None:
    gate = Gate()

    def wait(state: Any) -> WriteResult:
        gate.pass_through()
        return "waited", state

    ExRaft.start_server(does(wait=wait), name=":raft1", **PATIENT)
    write = ExRaft.write_async(":raft1", "wait")

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(write), 0.01)

    asyncio.run(main())
    gate.open()
    assert write.get(timeout=LIMIT) == "waited"


# Timeouts.


def test_a_write_that_times_out_may_be_applied_all_the_same() -> None:
    gate = Gate()

    def wait(state: Any) -> WriteResult:
        gate.pass_through()
        return None, "written"

    machine = does(wait=wait, get=lambda state: state)
    ExRaft.start_server(machine, name=":raft1", **PATIENT)
    with pytest.raises(CallTimeout, match="may have been applied: read the state") as raised:
        ExRaft.write(":raft1", "wait", timeout=0.01)
    error = raised.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, pykka.Timeout)
    assert error.reason == "timeout"
    assert (error.server, error.timeout) == (Peer(":raft1"), 0.01)
    assert maybe_applied(error)
    with pytest.raises(CallTimeout, match="it changed nothing") as raised:
        ExRaft.read(":raft1", "get", timeout=0.01)
    assert not maybe_applied(raised.value)
    gate.open()
    # The late reply is dropped, and harms nobody.
    assert ExRaft.read(":raft1", "get", LIMIT) == "written"


def test_noreply_leaves_a_reader_to_time_out() -> None:
    machine = does(silence=lambda state: NOREPLY, speak=lambda state: "word")
    ExRaft.start_server(machine, name=":raft1")
    for read in (ExRaft.read, ExRaft.read_dirty):
        with pytest.raises(CallTimeout):
            read(":raft1", "silence", 0.01)
    assert ExRaft.read(":raft1", "speak") == "word"


# Reads.


def test_a_dirty_read_is_answered_by_any_server_from_its_own_state(network: Network) -> None:
    leader, follower, other = start_cluster()
    network.cut(follower)
    ExRaft.write(leader, ("put", "k", "new"))
    assert ExRaft.read_dirty(leader, "k") == "new"
    assert ExRaft.read_dirty(follower, "k") is None


def test_a_dirty_read_is_answered_without_a_leader() -> None:
    start(":raft1", min_majority=2, init_arg={"k": 1})
    assert ExRaft.read_dirty(":raft1", "k") == 1
    with pytest.raises(NoLeader):
        ExRaft.read(":raft1", "k")


def test_a_dirty_read_that_is_switched_off_is_refused_at_once() -> None:
    start(":raft1", dirty_read=False, init_arg={"k": 1})
    with pytest.raises(DirtyReadDisabled, match=r"use ExRaft\.read") as raised:
        ExRaft.read_dirty(":raft1", "k")
    assert raised.value.reason == "dirty_read_disabled"
    assert not maybe_applied(raised.value)
    assert ExRaft.read(":raft1", "k") == 1


def test_a_read_sees_every_write_acknowledged_before_it() -> None:
    leader, *_ = start_cluster()
    for n in range(1, 51):
        ExRaft.write(leader, ("add", "n", 1))
        assert ExRaft.read(leader, "n") == n


def test_one_round_of_confirmation_serves_all_reads_that_wait(network: Network) -> None:
    leader, *_ = start_cluster()
    with held_up(leader):
        network.watch()
        reads = [send(leader, Read(Reply(), "k", dirty=False)) for _ in range(100)]
    assert [read.get(timeout=LIMIT) for read in reads] == [None] * 100
    rounds = {
        message.round
        for sender, _, message in network.messages()
        if sender == leader and isinstance(message, Append)
    }
    assert len(rounds) <= 2  # The one before, in heartbeats, and the reads'.


# From the wrong place.

OWN_CALLS: list[Callable[[], Any]] = [
    partial(ExRaft.write, ":raft1", ("put", "k", 1)),
    partial(ExRaft.write_async, ":raft1", ("put", "k", 1)),
    partial(ExRaft.read, ":raft1", "k"),
    partial(ExRaft.read_dirty, ":raft1", "k"),
    partial(ExRaft.status, ":raft1"),
    partial(ExRaft.await_leader, ":raft1"),
    partial(ExRaft.trigger_election, ":raft1"),
    partial(ExRaft.add_server, ":raft1", ":raft2"),
    partial(ExRaft.transfer_leadership, ":raft1"),
    partial(ExRaft.inspect, ":raft1", "context"),
    partial(ExRaft.stop_server, ":raft1"),
]


@pytest.mark.parametrize("call", OWN_CALLS, ids=[each.func.__name__ for each in OWN_CALLS])  # type: ignore[attr-defined]
def test_a_callback_that_calls_its_own_server_is_refused_at_once(call: Callable[[], Any]) -> None:
    errors: list[Any] = []

    def act(state: Any) -> WriteResult:
        errors.append(outcome(call))
        return None, state

    ExRaft.start_server(does(act=act), name=":raft1")
    ExRaft.write(":raft1", "act", LIMIT)
    assert isinstance(errors[0], SelfCall)
    assert "return a side effect" in str(errors[0])
    assert errors[0].reason == "calling_self"
    assert not maybe_applied(errors[0])


def test_every_callback_is_refused_a_call_to_its_own_server() -> None:
    journal = Journal()

    def attempt(callback: str) -> None:
        journal.add(callback, type(outcome(partial(ExRaft.ping, ":raft1"))))

    class Selfish(KeyValueStore):
        def init(self, init_arg: Any) -> Any:
            attempt("init")
            return {}

        def is_command(self, command: Any, state: Any) -> bool:
            attempt("is_command")
            return True

        def handle_read(self, query: Any, state: Any) -> Any:
            attempt("handle_read")

        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            attempt("handle_system_write")
            return state

        def transition(self, to_state: Role, state: Any) -> None:
            attempt("transition")

        def terminate(self, reason: Any, state: Any) -> None:
            attempt("terminate")

    ExRaft.start_server(Selfish, {}, name=":raft1")
    ExRaft.write(":raft1", ("put", "k", 1))
    ExRaft.read(":raft1", "k")
    ExRaft.stop_server(":raft1")
    assert {line[0] for line in journal.lines()} == {
        "init",
        "is_command",
        "handle_read",
        "handle_system_write",
        "transition",
        "terminate",
    }
    assert {line[1] for line in journal.lines()} == {SelfCall}


def test_a_callback_is_refused_a_client_of_its_own_server() -> None:
    errors: list[Any] = []

    def act(state: Any) -> WriteResult:
        errors.append(outcome(partial(client.read, "k")))
        return None, state

    start(":other")
    ExRaft.start_server(does(act=act), name=":raft1")
    client = ExRaft.client([":raft1", ":other"])
    ExRaft.write(":raft1", "act", LIMIT)
    assert isinstance(errors[0], SelfCall)


def test_a_callback_may_call_another_server() -> None:
    start(":other", init_arg={"k": 1})
    ExRaft.start_server(does(act=lambda state: (ExRaft.read(":other", "k"), state)), name=":raft1")
    assert ExRaft.write(":raft1", "act") == 1


def test_a_side_effect_may_call_its_own_server() -> None:
    answers = Journal()

    def look() -> None:
        answers.add("answer", ExRaft.ping(":raft1"))

    ExRaft.start_server(does(act=lambda state: (None, state, [look])), name=":raft1")
    ExRaft.write(":raft1", "act")
    answers.wait_for("answer", "pong")


def test_calls_come_from_any_number_of_threads() -> None:
    leader, *_ = start_cluster()

    def work() -> None:
        for _ in range(25):
            ExRaft.write(leader, ("add", "n", 1), LIMIT)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert ExRaft.read(leader, "n") == 200


# Being a command.


def test_what_is_no_command_is_rejected_and_not_logged() -> None:
    class Choosy(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            return len(command) == 3

    ExRaft.start_server(Choosy, {}, name=":raft1")
    before = ExRaft.status(":raft1").last_index
    with pytest.raises(CommandRejected, match="is_command refused") as raised:
        ExRaft.write(":raft1", ("put",))
    assert raised.value.reason == "rejected"
    assert not maybe_applied(raised.value)
    with pytest.raises(CommandRejected):
        ExRaft.write(":raft1", 7)  # It raises.
    assert ExRaft.status(":raft1").last_index == before
    assert ExRaft.write(":raft1", ("put", "k", 1)) == "ok"


def test_whether_it_is_a_command_is_asked_on_the_leader_alone(journal: Journal) -> None:
    class Choosy(StateMachine):
        def __init__(self, name: str) -> None:
            self.name = name

        def is_command(self, command: Any, state: Any) -> bool:
            journal.add("asked", self.name, command)
            return True

        def handle_write(self, command: Any, state: Any) -> WriteResult:
            return None, state

        def handle_read(self, query: Any, state: Any) -> Any:
            return None

    peers = [Peer(name) for name in RAFT]
    for name in RAFT:
        machine = partial(Choosy, name)
        ExRaft.start_server(machine, name=name, initial_config=RAFT, **PATIENT)
    leader = ExRaft.await_leader(RAFT[0], LIMIT)
    ExRaft.client(RAFT).write("command", LIMIT)
    wait_until(lambda: agree(peers), "all have applied it")
    asked = {name for _, name, _ in journal.lines("asked")}
    assert asked == {ExRaft.leader(leader).name}  # type: ignore[union-attr]


def test_a_filter_sees_what_is_applied_so_far() -> None:
    class Once(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            return command[1] not in state

    ExRaft.start_server(Once, {}, name=":raft1")
    ExRaft.write(":raft1", ("put", "k", 1))
    with pytest.raises(CommandRejected):
        ExRaft.write(":raft1", ("put", "k", 2))


def test_a_write_may_answer_none() -> None:
    ExRaft.start_server(does(act=unchanged()), name=":raft1")
    assert ExRaft.write(":raft1", "act") is None
