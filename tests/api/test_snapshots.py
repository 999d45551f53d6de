"""Snapshots that a server takes of its machine: when, how, and what becomes of one that fails."""

from __future__ import annotations

import io
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, BinaryIO

import pytest

from exraft import RELEASE_CURSOR, ExRaft, Peer, StateMachine, maybe_applied
from exraft.actors import kill
from exraft.actors.calls import SnapshotReply, TakeSnapshot
from exraft.errors import SelfCall, ServerDown, SnapshotFailed
from tests.helpers import (
    LIMIT,
    PATIENT,
    Gate,
    Journal,
    agree,
    await_restarts,
    crash,
    done,
    outcome,
    send,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)

NAME = ":raft1"


class Adding(StateMachine):
    """Sums up numbers. Its state is a list of one, so that it can be changed in place."""

    def handle_write(self, command: Any, state: list[Any]) -> Any:
        if command == "release":
            return state[0], state, [RELEASE_CURSOR]
        if command == "lock":
            state.append(threading.Lock())
        elif command == "unlock":
            del state[1:]
        else:
            state[0] += command
        return state[0], state

    def handle_read(self, query: Any, state: list[Any]) -> Any:
        return state[0]


class InTwoSteps(Adding):
    """Captures cheaply, and writes when it is let."""

    def __init__(self, gate: Gate, journal: Journal) -> None:
        self.gate = gate
        self.journal = journal

    def snapshot(self, state: list[Any]) -> Callable[[BinaryIO], object]:
        captured = list(state)
        self.journal.add("captured", captured[0])

        def write(file: BinaryIO) -> None:
            self.gate.pass_through()
            pickle.dump(captured, file)

        return write

    def restore(self, file: BinaryIO) -> Any:
        state = pickle.load(file)
        self.journal.add("restored", state[0])
        return state


class Failing(Adding):
    """Its writer does what the test says."""

    def __init__(self, write: Callable[[BinaryIO, list[Any]], object]) -> None:
        self.write = write

    def snapshot(self, state: list[Any]) -> Callable[[BinaryIO], object]:
        captured = list(state)
        return lambda file: self.write(file, captured)


def serve(machine: Callable[[], StateMachine] = Adding, **options: Any) -> Peer:
    ExRaft.start_server(machine, [0], name=NAME, **(PATIENT | options))
    return Peer(NAME)


def add(server: Peer, times: int = 1) -> None:
    for write in [ExRaft.write_async(server, 1) for _ in range(times)]:
        write.get(timeout=LIMIT)


def await_snapshot(server: Peer, at_least: int) -> None:
    def taken() -> bool:
        status = ExRaft.status(server, LIMIT)
        return status.snapshot_index >= at_least and not status.snapshotting

    wait_until(taken, f"{server} has taken a snapshot of {at_least}")


@contextmanager
def writing(**options: Any) -> Iterator[tuple[Peer, Gate, Journal, Any]]:
    """A server in the middle of a snapshot of the sum 1."""
    gate, journal = Gate(), Journal()
    server = serve(partial(InTwoSteps, gate, journal), **options)
    add(server)
    call = send(server, TakeSnapshot(SnapshotReply()))
    gate.await_someone()
    try:
        yield server, gate, journal, call
    finally:
        gate.open()


# When.


def test_a_snapshot_is_taken_and_the_log_cut_after_so_many_entries() -> None:
    server = serve(snapshot_every=50, keep_entries=10)
    add(server, 60)
    await_snapshot(server, 50)
    status = ExRaft.status(server)
    assert status.first_index == status.snapshot_index - 10 + 1
    assert status.log_entries == status.last_index - status.first_index + 1
    assert status.snapshot_bytes > 0


def test_every_server_takes_its_own() -> None:
    leader, *others = start_cluster(snapshot_every=20, keep_entries=0)
    for n in range(40):
        ExRaft.write(leader, ("put", n, n))
    for peer in (leader, *others):
        await_snapshot(peer, 20)


def test_a_snapshot_is_taken_after_so_many_bytes() -> None:
    server = start(NAME, snapshot_every=None, snapshot_bytes=10_000, keep_entries=0)
    for n in range(12):
        ExRaft.write(server, ("put", n, bytes(1000)))
    await_snapshot(server, 5)
    assert ExRaft.status(server).log_bytes < 10_000


def test_none_is_taken_by_itself_where_neither_entries_nor_bytes_count() -> None:
    server = serve(snapshot_every=None, snapshot_bytes=None)
    add(server, 100)
    status = ExRaft.status(server)
    assert (status.snapshot_index, status.first_index) == (0, 1)


def test_on_demand_it_holds_all_that_was_applied() -> None:
    server = serve(keep_entries=0)
    add(server, 7)
    applied = ExRaft.status(server).applied_index
    assert ExRaft.snapshot(server) == applied
    status = ExRaft.status(server)
    assert (status.snapshot_index, status.first_index, status.log_entries) == (
        applied,
        applied + 1,
        0,
    )
    add(server)
    assert ExRaft.read(server, None) == 8


def test_on_demand_the_newest_does_if_nothing_was_applied_since(journal: Journal) -> None:
    gate = Gate()
    gate.open()
    server = serve(partial(InTwoSteps, gate, journal))
    add(server)
    assert ExRaft.snapshot(server) == ExRaft.snapshot(server)
    assert journal.lines("captured") == [("captured", 1)]


def test_where_nothing_was_ever_applied_its_index_is_0() -> None:
    server = serve(min_majority=2)
    assert ExRaft.snapshot(server) == 0


def test_who_asks_while_one_is_taken_waits_for_the_next_if_that_one_lacks_something() -> None:
    with writing() as (server, gate, journal, first):
        joins = send(server, TakeSnapshot(SnapshotReply()))
        add(server)
        wants_more = send(server, TakeSnapshot(SnapshotReply()))
        gate.open()
        index = first.get(timeout=LIMIT)
        assert joins.get(timeout=LIMIT) == index
        assert wants_more.get(timeout=LIMIT) == index + 1
        assert journal.lines("captured") == [("captured", 1), ("captured", 2)]


def test_a_machine_that_can_forget_brings_one_about() -> None:
    server = serve(snapshot_every=1600)
    add(server, 100)
    ExRaft.write(server, "release")
    await_snapshot(server, 100)


def test_it_does_so_on_every_server() -> None:
    names = (":raft1", ":raft2", ":raft3")
    for name in names:
        ExRaft.start_server(
            Adding, [0], name=name, initial_config=names, snapshot_every=160, **PATIENT
        )
    peers = [Peer(name) for name in names]
    leader = ExRaft.await_leader(peers[0], LIMIT)
    add(leader, 10)
    ExRaft.write(leader, "release")
    for peer in peers:
        await_snapshot(peer, 10)


def test_it_is_not_heard_before_a_sixteenth_of_the_usual_entries() -> None:
    server = serve(snapshot_every=1600)
    add(server, 20)
    ExRaft.write(server, "release")
    add(server, 100)
    status = ExRaft.status(server)
    assert (status.snapshot_index, status.snapshotting) == (0, False)


def test_what_it_says_is_no_side_effect_that_runs(caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    ExRaft.write(server, "release")
    assert ExRaft.status(server).side_effects == 0
    ExRaft.stop_server(server)
    assert caplog.records == []


# Beside the server's thread.


def test_a_server_goes_on_while_a_snapshot_is_written() -> None:
    with writing() as (server, gate, _, call):
        assert ExRaft.status(server).snapshotting
        add(server, 5)
        assert ExRaft.read(server, None) == 6
        assert not done(call)
        gate.open()
        assert call.get(timeout=LIMIT) == ExRaft.status(server).applied_index - 5
        assert not ExRaft.status(server).snapshotting


def test_a_writer_that_takes_longer_than_the_next_snapshot_is_away_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with writing(snapshot_every=10) as (server, gate, _, call):
        add(server, 8)
        ExRaft.ping(server, LIMIT)
        assert "does the writer hang" not in caplog.text
        add(server, 5)
        # It looks after it has answered.
        ExRaft.ping(server, LIMIT)
        assert caplog.text.count("does the writer hang") == 1
        gate.open()
        call.get(timeout=LIMIT)


def test_a_snapshot_holds_what_was_captured_and_not_what_came_after() -> None:
    with writing(keep_entries=0) as (server, gate, journal, call):
        add(server, 5)
        gate.open()
        call.get(timeout=LIMIT)
        crash(server)
        assert ExRaft.read(server, None, LIMIT) == 6
        assert journal.lines("restored") == [("restored", 1)]


def test_by_default_the_state_is_captured_whole() -> None:
    server = serve(keep_entries=0)
    add(server, 3)
    ExRaft.snapshot(server)
    add(server, 2)
    crash(server)
    assert ExRaft.read(server, None, LIMIT) == 5


def test_one_at_a_time_is_taken() -> None:
    with writing(snapshot_every=10) as (server, gate, journal, call):
        add(server, 100)
        assert len(journal.lines("captured")) == 1
        gate.open()
        call.get(timeout=LIMIT)


def test_a_writer_that_calls_its_own_server_is_refused() -> None:
    refused: list[Any] = []

    def write(file: BinaryIO, state: Any) -> None:
        refused.append(outcome(lambda: ExRaft.read(NAME, None)))
        file.write(b"whatever")

    server = serve(partial(Failing, write))
    add(server)
    ExRaft.snapshot(server)
    assert isinstance(refused[0], SelfCall)


def test_a_writer_may_close_its_file_and_write_small_pieces() -> None:
    def write(file: BinaryIO, state: Any) -> None:
        text = io.TextIOWrapper(file, encoding="ascii")
        for _ in range(10_000):
            text.write("piece ")
        text.close()

    server = serve(partial(Failing, write))
    add(server)
    ExRaft.snapshot(server)
    assert ExRaft.status(server).snapshot_bytes == 60_000


def test_a_capture_that_takes_longer_than_a_heartbeat_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Slow(Adding):
        def snapshot(self, state: list[Any]) -> Callable[[BinaryIO], object]:
            begun = monotonic()
            wait_until(lambda: monotonic() > begun + 0.03, "more than a heartbeat has passed")
            return super().snapshot(state)

    server = serve(Slow, heartbeat_timeout=0.01)
    for _ in range(2):
        add(server)
        ExRaft.snapshot(server)
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "longer than a heartbeat" in warnings[0]
    assert "StateMachine.snapshot" in warnings[0]


# Failures.


def test_a_state_that_cannot_be_serialised_fails_the_snapshot_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve()
    ExRaft.write(server, "lock")
    with pytest.raises(SnapshotFailed, match="can't be serialised") as raised:
        ExRaft.snapshot(server)
    assert not maybe_applied(raised.value)
    assert len([each for each in caplog.records if "snapshot" in each.getMessage()]) == 1
    add(server)
    ExRaft.write(server, "unlock")
    assert ExRaft.snapshot(server) == ExRaft.status(server).applied_index


@pytest.mark.parametrize("error", [OSError("no luck"), SystemExit(1)], ids=repr)
def test_a_writer_that_raises_fails_the_snapshot_and_nothing_else(error: BaseException) -> None:
    def write(file: BinaryIO, state: Any) -> None:
        file.write(b"the beginning")
        raise error

    server = serve(partial(Failing, write))
    add(server)
    with pytest.raises(SnapshotFailed, match=type(error).__name__):
        ExRaft.snapshot(server)
    add(server)
    status = ExRaft.status(server)
    assert (status.snapshot_index, status.snapshotting, status.restarts) == (0, False, 0)


def test_a_snapshot_that_is_no_function_fails() -> None:
    class Wrong(Adding):
        def snapshot(self, state: list[Any]) -> Any:
            return state

    server = serve(Wrong)
    add(server)
    with pytest.raises(SnapshotFailed, match="where a function is wanted"):
        ExRaft.snapshot(server)


def test_after_a_failure_it_is_tried_again_at_the_next_threshold() -> None:
    failures: list[int] = []

    def write(file: BinaryIO, state: Any) -> None:
        if not failures:
            failures.append(state[0])
            raise OSError("no luck")
        file.write(b"whatever")

    server = serve(partial(Failing, write), snapshot_every=10)
    add(server, 10)
    wait_until(lambda: failures, "the first has failed")
    wait_until(lambda: not ExRaft.status(server).snapshotting, "it is over")
    assert ExRaft.status(server).snapshot_index == 0
    add(server, 10)
    await_snapshot(server, 10)


# Ends.


def test_a_snapshot_of_a_life_that_ends_is_discarded_and_the_next_life_takes_another() -> None:
    with writing() as (server, gate, journal, call):
        crash(server)
        with pytest.raises(ServerDown) as raised:
            call.get(timeout=LIMIT)
        assert not maybe_applied(raised.value)
        await_restarts(server, 1)
        assert ExRaft.status(server).snapshot_index == 0
        gate.open()
        assert ExRaft.snapshot(server, LIMIT) == ExRaft.status(server).applied_index
        assert journal.lines("captured") == [("captured", 1), ("captured", 1)]


def test_a_stop_does_not_wait_for_a_snapshot() -> None:
    with writing() as (server, _, _, call):
        ExRaft.stop_server(server, timeout=LIMIT)
        assert isinstance(outcome(lambda: call.get(timeout=LIMIT)), ServerDown)


def test_the_writer_of_a_server_that_was_killed_calls_nobody() -> None:
    gate = Gate()
    ended = threading.Event()
    raised: list[Any] = []

    def write(file: BinaryIO, state: Any) -> None:
        gate.pass_through()
        try:
            ExRaft.ping(":other")
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    server = serve(partial(Failing, write))
    start(":other")
    add(server)
    send(server, TakeSnapshot(SnapshotReply()))
    gate.await_someone()
    kill(supervisor_of(server))
    gate.open()
    assert ended.wait(LIMIT)
    assert raised != []


def test_a_snapshot_leaves_followers_in_agreement() -> None:
    leader, *others = start_cluster(snapshot_every=5, keep_entries=0)
    for n in range(50):
        ExRaft.write(leader, ("put", n, n))
    wait_until(lambda: agree([leader, *others]), "all have applied it")
    for peer in (leader, *others):
        assert [ExRaft.read_dirty(peer, n) for n in range(50)] == list(range(50))
