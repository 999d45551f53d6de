"""A server that dies, for whatever reason, is started again with its log and leads on."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, Peer, Role, StateMachine, maybe_applied
from exraft.actors.calls import AwaitLeader, Crash, Reply
from exraft.errors import ServerDown, ServerNotFound
from exraft.raft.messages import PreVote, Vote
from tests.helpers import (
    LIMIT,
    PATIENT,
    RAFT,
    Gate,
    Journal,
    KeyValueStore,
    Network,
    agree,
    await_restarts,
    crash,
    does,
    done,
    elect,
    end_of,
    held_up,
    outcome,
    send,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)


def test_a_leader_that_crashes_leads_on_in_its_term(network: Network) -> None:
    leader, *_ = peers = start_cluster()
    ExRaft.write(leader, ("put", "k", 1))
    term = ExRaft.status(leader).term
    network.watch()
    crash(leader)
    assert ExRaft.write(leader, ("add", "k", 1), LIMIT) == 2
    status = ExRaft.status(leader)
    assert (status.role, status.term, status.restarts) == (Role.LEADER, term, 1)
    wait_until(lambda: agree(peers), "all have applied it")
    assert network.seen(lambda sender, to, message: isinstance(message, Vote | PreVote)) == 0


def test_a_follower_that_crashes_follows_again_with_its_log() -> None:
    leader, follower, _ = peers = start_cluster()
    ExRaft.write(leader, ("put", "k", 1))
    wait_until(lambda: agree(peers), "all have applied it")
    term = ExRaft.status(leader).term
    crash(follower)
    await_restarts(follower, 1)
    assert ExRaft.read_dirty(follower, "k") == 1
    ExRaft.write(leader, ("put", "k", 2))
    wait_until(lambda: ExRaft.read_dirty(follower, "k") == 2, "it has the new one")
    assert ExRaft.status(leader).term == term


def test_a_follower_keeps_its_vote_over_a_crash() -> None:
    leader, follower, _ = start_cluster()
    term = ExRaft.status(follower).term
    crash(follower)
    await_restarts(follower, 1)
    assert ExRaft.status(follower).term == term


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr
)
def test_whatever_kills_a_server_kills_that_server_only(error: BaseException) -> None:
    bystander = start(":bystander")
    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "k", 1))
    crash(raft1, error)
    assert ExRaft.read(raft1, "k", LIMIT) == 1
    assert ExRaft.status(raft1).restarts == 1
    assert ExRaft.status(bystander).restarts == 0
    assert threading.main_thread().is_alive()


class Quitter(KeyValueStore):
    """Exits when it becomes a candidate for the first time."""

    def transition(self, to_state: Role, state: Any) -> None:
        first_time = not self.journal.lines("transition", self.name, Role.CANDIDATE)
        super().transition(to_state, state)
        if to_state is Role.CANDIDATE and first_time:
            raise SystemExit("I quit")


def test_a_machine_that_exits_at_a_transition_is_started_again(journal: Journal) -> None:
    leader, *others = start_cluster(RAFT[:2])
    quitter = ":quitter"
    machine = partial(Quitter, journal, quitter)
    ExRaft.start_server(machine, {}, name=quitter, min_majority=2, **PATIENT)
    ExRaft.add_server(leader, quitter)
    ExRaft.write(leader, ("put", "k", 1))
    ExRaft.trigger_election(quitter, LIMIT)
    await_restarts(quitter, 1)
    assert journal.lines("terminate", quitter)
    assert [ExRaft.status(peer).restarts for peer in (leader, *others)] == [0, 0]
    elect(leader)
    assert ExRaft.write(leader, ("put", "k", 2), LIMIT) == "ok"
    wait_until(lambda: ExRaft.read_dirty(quitter, "k", LIMIT) == 2, "it has the new one")


def test_a_lone_machine_that_exits_at_a_transition_leads_on(journal: Journal) -> None:
    machine = partial(Quitter, journal, ":raft1")
    ExRaft.start_server(machine, {"k": 1}, name=":raft1", **PATIENT)
    ExRaft.trigger_election(":raft1", LIMIT)
    await_restarts(":raft1", 1)
    assert ExRaft.await_leader(":raft1", LIMIT) == Peer(":raft1")
    assert ExRaft.read(":raft1", "k", 1.0) == 1


def test_a_server_that_is_stopped_from_outside_is_started_again() -> None:
    leader, *_ = start_cluster()
    ExRaft.write(leader, ("put", "k", 1))
    ref = ActorRegistry.get_by_name(leader.name)
    assert ref is not None
    term = ExRaft.status(leader).term
    ref.stop()
    assert ExRaft.read(leader, "k", LIMIT) == 1
    assert ExRaft.status(leader).term == term
    assert ActorRegistry.get_by_name(leader.name) != ref


def test_a_server_keeps_its_name_and_changes_its_reference() -> None:
    raft1 = start(":raft1")
    before = ActorRegistry.get_by_name(":raft1")
    supervisor = supervisor_of(raft1)
    crash(raft1)
    await_restarts(raft1, 1)
    after = ActorRegistry.get_by_name(":raft1")
    assert after is not None
    assert after != before
    assert supervisor_of(raft1) == supervisor


def test_every_death_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    raft1 = start(":raft1")
    crash(raft1, RuntimeError("crashed on purpose"))
    await_restarts(raft1, 1)
    reports = [each for each in caplog.records if each.name == "exraft.supervision"]
    assert "child of :ExRaft.Supervisor.raft1, has ended: RuntimeError" in reports[0].getMessage()
    assert "crashed on purpose" in reports[0].getMessage()


def test_a_supervisor_gives_up_a_server_that_dies_too_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raft1 = start(":raft1", max_restarts=2, max_seconds=300.0)
    ended = end_of(supervisor_of(raft1))
    for life in (1, 2):
        crash(raft1)
        await_restarts(raft1, life)
    assert not ended.is_set()
    crash(raft1)
    assert ended.wait(LIMIT)
    assert "with 2 in 300 s behind it: its supervisor gives up and ends" in caplog.text
    assert ActorRegistry.names() == []
    with pytest.raises(ServerNotFound):
        ExRaft.ping(raft1)
    start(":raft1")
    assert ExRaft.write(raft1, ("put", "k", 1)) == "ok"


def test_without_patience_the_first_death_is_the_last() -> None:
    raft1 = start(":raft1", max_restarts=0)
    ended = end_of(supervisor_of(raft1))
    crash(raft1)
    assert ended.wait(LIMIT)
    assert ActorRegistry.names() == []


def test_a_call_that_waits_in_a_dying_server_learns_at_once(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    writes = [ExRaft.write_async(leader, ("put", n, n)) for n in range(10)]
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 10, "they wait for a quorum")
    crash(leader)
    for write in writes:
        error = outcome(lambda write=write: write.get(timeout=0))  # type: ignore[misc]
        assert isinstance(error, ServerDown)
        assert maybe_applied(error)


def test_a_call_that_waits_in_a_server_given_up_learns_at_once(network: Network) -> None:
    leader, *_ = start_cluster(max_restarts=0)
    network.cut(leader)
    write = ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "it waits for a quorum")
    crash(leader)
    with pytest.raises(ServerDown):
        write.get(timeout=0)


def test_a_call_that_the_dead_server_never_looked_at_is_served_by_the_next() -> None:
    gate = Gate()
    raft1 = _held_at_its_second_start(gate)
    ActorRegistry.deliver(raft1.name, Crash(RuntimeError("crashed on purpose")))
    gate.await_someone()
    # Its name stays taken, and its calls wait.
    write = ExRaft.write_async(raft1, ("put", "k", 1))
    assert not done(write)
    gate.open()
    assert write.get(timeout=LIMIT) == "ok"
    assert ExRaft.status(raft1).restarts == 1


def test_a_call_to_a_server_that_never_comes_back_was_surely_not_applied() -> None:
    gate = Gate()
    raft1 = _held_at_its_second_start(gate, fails=True, max_restarts=1, max_seconds=300.0)
    ActorRegistry.deliver(raft1.name, Crash(RuntimeError("crashed on purpose")))
    gate.await_someone()
    write = ExRaft.write_async(raft1, ("put", "k", 1))
    gate.open()
    error = outcome(lambda: write.get(timeout=LIMIT))
    assert isinstance(error, ServerNotFound | ServerDown)
    assert not maybe_applied(error)
    wait_until(lambda: ActorRegistry.names() == [], "it is given up")


def test_a_call_to_a_server_that_is_being_started_again_may_time_out() -> None:
    gate = Gate()
    raft1 = _held_at_its_second_start(gate)
    ActorRegistry.deliver(raft1.name, Crash(RuntimeError("crashed on purpose")))
    gate.await_someone()
    with pytest.raises(TimeoutError):
        ExRaft.read(raft1, "k", timeout=0.01)
    gate.open()
    assert ExRaft.read(raft1, "k", LIMIT) is None


def test_a_start_that_fails_again_and_again_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    gate.open()
    raft1 = _held_at_its_second_start(gate, fails=True, max_restarts=3, max_seconds=300.0)
    ended = end_of(supervisor_of(raft1))
    crash(raft1)
    assert ended.wait(LIMIT)
    assert "could not be started again" in caplog.text
    assert ActorRegistry.names() == []


def test_a_server_whose_supervisor_waits_for_it_to_start_can_be_stopped() -> None:
    gate = Gate()
    raft1 = _held_at_its_second_start(gate)
    ActorRegistry.deliver(raft1.name, Crash(RuntimeError("crashed on purpose")))
    gate.await_someone()
    threading.Timer(0.02, gate.open).start()
    ExRaft.stop_server(raft1, timeout=LIMIT)
    assert ActorRegistry.names() == []


def _held_at_its_second_start(gate: Gate, *, fails: bool = False, **options: Any) -> Peer:
    journal = Journal()

    class Slow(KeyValueStore):
        def init(self, init_arg: Any) -> Any:
            state = super().init(init_arg)
            if len(journal.lines("init")) > 1:
                gate.pass_through()
                if fails:
                    raise OSError("no room")
            return state

    ExRaft.start_server(partial(Slow, journal), {}, name=":raft1", **PATIENT, **options)
    return Peer(":raft1")


def test_a_replay_rebuilds_the_state_without_answering_again(journal: Journal) -> None:
    raft1 = start(":raft1", journal)
    for _ in range(3000):
        last = ExRaft.write_async(raft1, ("add", "n", 1))
    assert last.get(timeout=LIMIT) == 3000
    crash(raft1)
    assert ExRaft.read(raft1, "n", LIMIT) == 3000
    assert ExRaft.write(raft1, ("add", "n", 1)) == 3001
    assert last.get(timeout=0) == 3000


def test_a_dirty_read_sees_no_half_replayed_state() -> None:
    raft1 = start(":raft1")
    for _ in range(3000):
        last = ExRaft.write_async(raft1, ("add", "n", 1))
    last.get(timeout=LIMIT)
    crash(raft1)
    assert ExRaft.read_dirty(raft1, "n", LIMIT) == 3000


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_what_may_differ_between_replicas_crashes_the_server_and_names_the_command(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def swell(state: Any) -> Any:
        raise error

    ExRaft.start_server(
        does(swell=swell), name=":raft1", max_restarts=1, max_seconds=300.0, **PATIENT
    )
    ended = end_of(supervisor_of(":raft1"))
    with pytest.raises(ServerDown) as raised:
        ExRaft.write(":raft1", "swell")
    assert maybe_applied(raised.value)
    # The command is in the log, so each life meets it again.
    assert ended.wait(LIMIT)
    last_report = [each for each in caplog.records if each.name == "exraft.supervision"][-1]
    assert "'swell' at index 2" in last_report.getMessage()


def test_a_leader_that_crashes_again_and_again_loses_nothing() -> None:
    leader, *_ = peers = start_cluster(max_restarts=100)
    client = ExRaft.client(RAFT)
    acknowledged = 0
    for _ in range(20):
        acknowledged = client.write(("add", "n", 1), LIMIT)
        crash(ExRaft.await_leader(leader, LIMIT))
    assert acknowledged == 20
    assert client.read("n", LIMIT) == 20
    wait_until(lambda: agree(peers), "all have applied the same")


def test_the_end_of_all_actors_leaves_nothing_alive() -> None:
    start_cluster()
    start(":lone")
    pykka.ActorRegistry.stop_all()
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []


def test_the_end_of_all_actors_leaves_nothing_alive_in_traffic() -> None:
    leader, *_ = start_cluster()
    writes = [ExRaft.write_async(leader, ("add", "n", 1)) for _ in range(500)]
    pykka.ActorRegistry.stop_all()
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []
    for write in writes:
        outcome(lambda write=write: write.get(timeout=LIMIT))  # type: ignore[misc]
        assert done(write)


def test_a_death_is_no_secret_in_the_log_of_its_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        raft1 = start(":raft1")
        crash(raft1, RuntimeError("crashed on purpose"))
        await_restarts(raft1, 1)
    assert any(each.exc_info for each in caplog.records)


class Lingering(StateMachine):
    """Appends what is written, and takes its time to die."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def handle_write(self, command: Any, state: Any) -> Any:
        return None, [*state, command]

    def handle_read(self, query: Any, state: Any) -> Any:
        return state

    def terminate(self, reason: Any, state: Any) -> None:
        self.gate.pass_through()


def test_what_one_caller_has_written_keeps_its_order_over_a_crash() -> None:
    gate = Gate()
    ExRaft.start_server(partial(Lingering, gate), name=":raft1", **PATIENT)
    with held_up(":raft1"):
        ActorRegistry.deliver(":raft1", Crash(RuntimeError("on purpose")))
        # In one batch with the crash, and in the mailbox of the dying server.
        for number in range(3):
            ExRaft.write_async(":raft1", number)
    gate.await_someone()
    last = [ExRaft.write_async(":raft1", number) for number in range(3, 6)]
    gate.open()
    assert [answer.get(timeout=LIMIT) for answer in last] == [None, None, None]
    assert ExRaft.read(":raft1", "all", LIMIT) == [0, 1, 2, 3, 4, 5]


def test_who_waits_is_told_of_a_death_even_if_the_name_was_taken_away() -> None:
    raft1 = start(":raft1", min_majority=2)
    ref = ActorRegistry.get_by_name(raft1.name)
    assert ref is not None
    waiting = send(raft1, AwaitLeader(Reply()))
    ExRaft.ping(raft1, LIMIT)
    given_up = end_of(supervisor_of(raft1))
    ActorRegistry.unregister_name(raft1.name)
    usurper = pykka.ThreadingActor.start()
    ActorRegistry.register_name(raft1.name, usurper)
    ref.stop(block=False)
    with pytest.raises(ServerDown):
        waiting.get(timeout=LIMIT)
    assert given_up.wait(LIMIT)
    usurper.stop()
