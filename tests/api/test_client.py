"""A client finds the leader by itself, and applies a command at most once a call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from exraft import ExRaft, Peer, maybe_applied
from exraft.client import Client
from exraft.errors import CallTimeout, CommandRejected, ExRaftError, ServerDown
from exraft.raft.messages import AppendReply
from tests.helpers import (
    LIMIT,
    PATIENT,
    RAFT,
    Journal,
    KeyValueStore,
    Network,
    agree,
    crash,
    elect,
    in_thread,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)

WRITES: list[Callable[[Client, Any], Any]] = [
    lambda client, command: client.write(command, LIMIT),
    lambda client, command: client.write_async(command).get(timeout=LIMIT),
]
both = pytest.mark.parametrize("write", WRITES, ids=["write", "write_async"])


@both
def test_a_client_follows_a_redirect(write: Callable[[Client, Any], Any]) -> None:
    leader, follower, other = start_cluster()
    assert write(ExRaft.client([follower]), ("put", "k", 1)) == "ok"
    assert ExRaft.client([other]).read("k") == 1


@both
def test_a_client_skips_servers_that_nobody_started(write: Callable[[Client, Any], Any]) -> None:
    leader, *_ = start_cluster()
    assert write(ExRaft.client([":nobody", ":nobody2", leader]), ("put", "k", 1)) == "ok"


def test_a_client_waits_out_an_election() -> None:
    start(":raft1", initial_config=RAFT)
    client = ExRaft.client(RAFT)
    written = client.write_async(("add", "n", 1))
    with in_thread(partial(client.write, ("add", "n", 1), LIMIT)):
        start(":raft2", initial_config=RAFT)
    assert written.get(timeout=LIMIT) in (1, 2)
    assert client.read("n") == 2


@both
def test_a_client_finds_the_leader_after_the_old_one_was_stopped(
    write: Callable[[Client, Any], Any],
) -> None:
    leader, follower, other = start_cluster()
    client = ExRaft.client([leader, follower, other])
    write(client, ("add", "n", 1))
    ExRaft.stop_server(leader, timeout=LIMIT)
    assert write(client, ("add", "n", 1)) == 2


@both
def test_a_client_finds_the_leader_after_the_old_ones_supervisor_gave_up(
    write: Callable[[Client, Any], Any],
) -> None:
    leader, follower, other = start_cluster()
    client = ExRaft.client([leader, follower, other])
    write(client, ("add", "n", 1))
    supervisor_of(leader).stop()
    assert write(client, ("add", "n", 1)) == 2


@both
def test_a_client_waits_out_a_crash_of_the_leader(write: Callable[[Client, Any], Any]) -> None:
    leader, *_ = start_cluster()
    client = ExRaft.client(RAFT)
    write(client, ("add", "n", 1))
    crash(leader)
    assert write(client, ("add", "n", 1)) == 2


@both
def test_a_client_writes_again_what_was_surely_dropped(
    write: Callable[[Client, Any], Any], network: Network
) -> None:
    leader, follower, other = peers = start_cluster()
    network.cut(leader)

    def depose() -> None:
        wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "the old leader has it")
        elect(follower)
        ExRaft.write(follower, ("put", "k", 1))
        network.heal()

    with in_thread(depose):
        assert write(ExRaft.client([leader]), ("add", "n", 1)) == 1
    wait_until(lambda: agree(peers), "all have applied the same")
    assert ExRaft.read(follower, "n") == 1


@both
def test_a_client_does_not_write_again_what_may_have_been_applied(
    write: Callable[[Client, Any], Any], network: Network
) -> None:
    leader, *_ = start_cluster()
    client = ExRaft.client([leader])
    network.lose(lambda sender, to, message: isinstance(message, AppendReply) and to == leader)

    def kill() -> None:
        wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "it waits for a quorum")
        crash(leader)
        network.heal()

    with in_thread(kill), pytest.raises(ServerDown) as raised:
        write(client, ("add", "n", 1))
    assert maybe_applied(raised.value)
    # It was logged, and the leader that leads on commits it: once.
    wait_until(lambda: client.read("n", LIMIT), "it is committed")
    assert client.read("n", LIMIT) == 1


@both
def test_a_client_hands_on_what_is_wrong_with_a_command(
    write: Callable[[Client, Any], Any], journal: Journal
) -> None:
    class Choosy(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            journal.add("asked")
            return bool(command[0] != "no")

    ExRaft.start_server(Choosy, {}, name=":raft1", **PATIENT)
    client = ExRaft.client([":raft1"])
    with pytest.raises(CommandRejected):
        write(client, ("no",))
    assert journal.lines("asked") == [("asked",)]
    with pytest.raises(ValueError, match="refused"):
        write(client, ("raise", ValueError("refused")))


def test_a_client_that_finds_no_server_in_time_has_written_nothing() -> None:
    client = ExRaft.client([":nobody", ":nobody2"])
    with pytest.raises(CallTimeout, match="The last answer was: there is no server") as raised:
        client.write(("put", "k", 1), timeout=0.05)
    assert not maybe_applied(raised.value)
    with pytest.raises(CallTimeout) as raised:
        client.read("k", timeout=0.05)
    assert not maybe_applied(raised.value)


def test_a_client_that_finds_no_leader_in_time_gives_up() -> None:
    start(":raft1", min_majority=2)
    with pytest.raises(CallTimeout):
        ExRaft.client([":raft1"]).write(("put", "k", 1), timeout=0.05)


def test_a_client_that_gets_no_answer_in_time_may_have_written(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    with pytest.raises(CallTimeout, match="may have been applied") as raised:
        ExRaft.client([leader]).write(("put", "k", 1), timeout=0.05)
    assert maybe_applied(raised.value)


def test_a_clients_write_can_be_awaited() -> None:
    start_cluster()
    client = ExRaft.client(RAFT)

    async def main() -> list[Any]:
        return await asyncio.gather(*(client.write_async(("add", "n", 1)) for _ in range(10)))

    assert sorted(asyncio.run(main())) == list(range(1, 11))


def test_a_command_is_applied_once_a_call_whatever_happens_to_the_leader() -> None:
    leader, *_ = peers = start_cluster()
    over = threading.Event()
    acknowledged: list[int] = []
    unknown: list[ExRaftError] = []
    lock = threading.Lock()

    def work() -> None:
        client = ExRaft.client(RAFT)
        while not over.is_set():
            try:
                client.write(("add", "n", 1), LIMIT)
            except ExRaftError as error:
                with lock:
                    unknown.append(error)
            else:
                with lock:
                    acknowledged.append(1)

    writers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        for turn in range(6):
            enough = len(acknowledged) + 20
            wait_until(lambda enough=enough: len(acknowledged) >= enough, "writes go on")  # type: ignore[misc]
            leader = ExRaft.await_leader(peers[0], LIMIT)
            if turn % 2:
                ExRaft.transfer_leadership(leader, timeout=LIMIT)
            else:
                crash(leader)
    finally:
        over.set()
        for writer in writers:
            writer.join(LIMIT)
    assert not any(writer.is_alive() for writer in writers)
    assert all(maybe_applied(error) for error in unknown)
    wait_until(lambda: agree(peers), "all have applied the same")
    counts = {ExRaft.read_dirty(peer, "n") for peer in peers}
    assert len(counts) == 1
    assert len(acknowledged) <= counts.pop() <= len(acknowledged) + len(unknown)


def test_a_client_may_be_shared_by_threads() -> None:
    start_cluster()
    client = ExRaft.client([Peer(name) for name in RAFT])

    def work() -> None:
        for _ in range(25):
            client.write(("add", "n", 1), LIMIT)

    with in_thread(work), in_thread(work), in_thread(work):
        pass
    assert client.read("n") == 75
