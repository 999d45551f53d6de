"""A machine that goes on from a snapshot: after a crash, and when its log is too far behind."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import pytest

from exraft import ExRaft, Peer, maybe_applied
from exraft.actors import applying
from exraft.actors.calls import Read, Reply
from exraft.errors import OutcomeUnknown, SelfCall
from exraft.raft.messages import Install
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
    done,
    elect,
    leader_and_followers,
    outcome,
    send,
    start,
    supervisor_of,
    wait_until,
)

BIG = bytes(300 * 1024)
"""More than one piece in which a snapshot is sent."""

SPARED = 20
"""More entries than a leader keeps, where it keeps none, for one that it has heard lately."""


class Restoring(KeyValueStore):
    """Tells when it restores, and does so when it is let."""

    def __init__(self, journal: Journal, name: str, gate: Gate | None = None) -> None:
        super().__init__(journal, name)
        self.gate = gate

    def restore(self, file: BinaryIO) -> Any:
        self.journal.add("restore", self.name)
        if self.gate is not None:
            self.gate.pass_through()
        return pickle.load(file)


def serve(journal: Journal, gates: dict[str, Gate] | None = None, **options: Any) -> list[Peer]:
    """A cluster of three whose log holds nothing that a snapshot holds."""
    for name in RAFT:
        machine = partial(Restoring, journal, name, (gates or {}).get(name))
        ExRaft.start_server(
            machine,
            {},
            name=name,
            initial_config=RAFT,
            **(PATIENT | {"keep_entries": 0} | options),
        )
    peers = [Peer(name) for name in RAFT]
    elect(peers[0])
    return leader_and_followers(RAFT)


def write_and_cut(leader: Peer, *keys: Any, value: Any = 1) -> int:
    for key in keys:
        ExRaft.write(leader, ("put", key, value))
    return ExRaft.snapshot(leader)


def left_behind(leader: Peer, behind: Peer, network: Network, *keys: Any, value: Any = 1) -> int:
    """Cut one off, and let the log go on without it; return the index of the snapshot."""
    network.cut(behind)
    for _ in range(SPARED):
        ExRaft.write(leader, ("add", "n", 1))
    return write_and_cut(leader, *keys, value=value)


@contextmanager
def opened_in_the_end(gates: Sequence[Gate]) -> Iterator[None]:
    try:
        yield
    finally:
        for gate in gates:
            gate.open()


# After a crash.


def test_after_a_crash_the_snapshot_is_restored_and_the_rest_replayed(journal: Journal) -> None:
    leader, *_ = serve(journal)
    write_and_cut(leader, "a", "b")
    ExRaft.write(leader, ("put", "c", 1))
    journal.clear()
    crash(leader)
    assert [ExRaft.read(leader, key, LIMIT) for key in "abc"] == [1, 1, 1]
    assert journal.lines("restore", leader.name) == [("restore", leader.name)]
    assert journal.lines("write", leader.name) == [("write", leader.name, ("put", "c", 1))]


def test_a_leader_that_crashed_leads_on_while_it_restores_and_what_waits_for_it_waits(
    journal: Journal,
) -> None:
    gate = Gate()
    with opened_in_the_end([gate]):
        leader, *_ = serve(journal, dict.fromkeys(RAFT, gate))
        term = ExRaft.status(leader).term
        write_and_cut(leader, "a")
        crash(leader)
        gate.await_someone()
        status = ExRaft.status(leader, LIMIT)
        assert (status.term, status.leader, status.applied_index) == (term, leader, 0)
        assert status.replaying == status.snapshot_index
        write = ExRaft.write_async(leader, ("add", "a", 1))
        dirty = send(leader, Read(Reply(), "a", dirty=True))
        ExRaft.ping(leader, LIMIT)
        assert not done(write)
        assert not done(dirty)
        gate.open()
        assert write.get(timeout=LIMIT) == 2
        assert dirty.get(timeout=LIMIT) == 1
        assert ExRaft.status(leader).replaying == 0


def test_a_snapshot_that_is_asked_for_during_a_restore_waits_for_it(journal: Journal) -> None:
    gate = Gate()
    with opened_in_the_end([gate]):
        server = Peer(":alone")
        machine = partial(Restoring, journal, ":alone", gate)
        ExRaft.start_server(machine, {}, name=server.name, keep_entries=0, **PATIENT)
        index = write_and_cut(server, "a")
        crash(server)
        gate.await_someone()
        gate.open()
        assert ExRaft.snapshot(server, LIMIT) == index


def test_a_restore_that_raises_crashes_the_server_and_its_supervisor_judges() -> None:
    class Failing(KeyValueStore):
        def restore(self, file: BinaryIO) -> Any:
            raise LookupError("what is this?")

    ExRaft.start_server(Failing, {}, name=":alone", keep_entries=0, max_restarts=2, **PATIENT)
    write_and_cut(Peer(":alone"), "a")
    supervisor = supervisor_of(":alone")
    crash(":alone")
    assert supervisor.actor_stopped.wait(LIMIT)


def test_a_restore_that_calls_its_own_server_is_refused(journal: Journal) -> None:
    refused: list[Any] = []

    class Calling(KeyValueStore):
        def restore(self, file: BinaryIO) -> Any:
            refused.append(outcome(lambda: ExRaft.ping(":alone")))
            return super().restore(file)

    ExRaft.start_server(Calling, {}, name=":alone", keep_entries=0, **PATIENT)
    write_and_cut(Peer(":alone"), "a")
    crash(":alone")
    assert ExRaft.read(":alone", "a", LIMIT) == 1
    assert isinstance(refused[0], SelfCall)


def test_a_replay_that_takes_long_says_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "SLICE", 10)
    monkeypatch.setattr(applying._Progress, "EVERY", 0.0)
    server = start(":alone")
    for n in range(50):
        ExRaft.write(server, ("put", n, n))
    with caplog.at_level(logging.INFO, logger="exraft.server"):
        crash(server)
        assert ExRaft.read(server, 49, LIMIT) == 49
    said = [each.getMessage() for each in caplog.records if "repla" in each.getMessage()]
    assert any(
        re.search(r"replays its log: 10 entries so far, \d+/s, 3\d left", line) for line in said
    )
    assert re.search(r"has replayed \d+ entries, \d+/s", said[-1])


def test_a_replay_that_is_quick_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = start(":alone")
    ExRaft.write(server, ("put", "k", 1))
    with caplog.at_level(logging.INFO, logger="exraft.server"):
        crash(server)
        assert ExRaft.read(server, "k", LIMIT) == 1
    assert [each for each in caplog.records if "repla" in each.getMessage()] == []


# Far behind.


def test_a_follower_that_is_behind_the_logs_start_gets_the_snapshot(
    journal: Journal, network: Network
) -> None:
    leader, behind, other = serve(journal)
    index = left_behind(leader, behind, network, *range(20), value=BIG)
    journal.clear()
    network.heal()
    wait_until(lambda: agree([leader, behind, other]), "it has caught up")
    assert ExRaft.read_dirty(behind, 19) == BIG
    status = ExRaft.status(behind)
    assert (status.snapshot_index, status.first_index) == (index, index + 1)
    assert journal.lines("restore") == [("restore", behind.name)]
    assert journal.lines("write", behind.name) == []


def test_a_new_server_is_caught_up_from_a_snapshot(journal: Journal) -> None:
    leader, *_ = serve(journal)
    write_and_cut(leader, *range(20))
    machine = partial(Restoring, journal, ":new")
    ExRaft.start_server(machine, {}, name=":new", min_majority=2, **PATIENT)
    ExRaft.add_server(leader, ":new", LIMIT)
    wait_until(lambda: ExRaft.read_dirty(":new", 19, LIMIT) == 1, "it has what the others have")
    assert journal.lines("restore") == [("restore", ":new")]


def test_how_far_a_snapshot_has_come_is_seen_on_both_sides(
    journal: Journal, network: Network
) -> None:
    leader, behind, _ = serve(journal)
    index = left_behind(leader, behind, network, *range(3), value=BIG)
    network.lose(lambda _, to, message: isinstance(message, Install) and message.offset > 0)

    def half_way() -> bool:
        receiving = ExRaft.status(behind, LIMIT).receiving
        sending = ExRaft.status(leader, LIMIT).peers[behind].snapshot
        return receiving is not None and receiving[1] > 0 and sending == receiving

    wait_until(half_way, "both speak of the first piece")
    receiving = ExRaft.status(behind).receiving
    assert receiving is not None
    held, size = receiving[1:]
    assert (receiving[0], size) == (index, ExRaft.status(leader).snapshot_bytes)
    assert 0 < held < size
    network.heal()
    wait_until(lambda: ExRaft.status(behind, LIMIT).applied_index >= index, "it is there")
    assert ExRaft.status(behind).receiving is None
    wait_until(
        lambda: ExRaft.status(leader, LIMIT).peers[behind].snapshot is None, "it is known to be"
    )


def test_a_follower_goes_on_with_messages_while_it_restores(
    journal: Journal, network: Network
) -> None:
    gates = {name: Gate() for name in RAFT}
    with opened_in_the_end(list(gates.values())):
        leader, behind, _ = serve(journal, gates)
        left_behind(leader, behind, network, "a")
        network.heal()
        gates[behind.name].await_someone()
        ExRaft.write(leader, ("put", "b", 1))
        last = ExRaft.status(leader).last_index
        wait_until(lambda: ExRaft.status(behind, LIMIT).last_index == last, "it takes entries")
        dirty = send(behind, Read(Reply(), "a", dirty=True))
        assert ExRaft.status(behind).leader == leader
        assert not done(dirty)
        gates[behind.name].open()
        assert dirty.get(timeout=LIMIT) == 1


def test_another_snapshot_that_comes_during_a_restore_is_restored_after_it(
    journal: Journal, network: Network
) -> None:
    gates = {name: Gate() for name in RAFT}
    with opened_in_the_end(list(gates.values())):
        leader, behind, other = serve(journal, gates)
        left_behind(leader, behind, network, "a")
        network.heal()
        gates[behind.name].await_someone()
        later = left_behind(leader, behind, network, "b", "c")
        network.heal()
        wait_until(
            lambda: ExRaft.status(behind, LIMIT).snapshot_index == later, "the second is here"
        )
        gates[behind.name].open()
        wait_until(lambda: agree([leader, behind, other]), "it has caught up")
        assert [ExRaft.read_dirty(behind, key) for key in "abc"] == [1, 1, 1]
        assert len(journal.lines("restore", behind.name)) == 2


def test_who_waits_where_a_snapshot_jumps_past_learns_that_nobody_knows(
    journal: Journal, network: Network
) -> None:
    leader, successor, _ = serve(journal)
    network.cut(leader)
    write = ExRaft.write_async(leader, ("put", "lost", 1))
    wait_until(lambda: ExRaft.status(leader, LIMIT).waiting_writes == 1, "it is logged")
    elect(successor)
    write_and_cut(successor, *range(SPARED))
    network.heal()
    with pytest.raises(OutcomeUnknown, match="a snapshot jumped past its index") as raised:
        write.get(timeout=LIMIT)
    assert maybe_applied(raised.value)
    wait_until(lambda: ExRaft.status(leader, LIMIT).waiting_writes == 0, "nobody waits")


def test_a_server_that_crashes_while_it_restores_restores_anew(
    journal: Journal, network: Network
) -> None:
    gates = {name: Gate() for name in RAFT}
    with opened_in_the_end(list(gates.values())):
        leader, behind, _ = serve(journal, gates)
        left_behind(leader, behind, network, "a")
        network.heal()
        gates[behind.name].await_someone()
        crash(behind)
        await_restarts(behind, 1)
        gates[behind.name].open()
        wait_until(lambda: ExRaft.status(behind, LIMIT).replaying == 0, "it has restored")
        assert ExRaft.read_dirty(behind, "a") == 1


# To look at.


def test_a_log_that_was_cut_is_printed_from_its_first_entry_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = start(":alone", keep_entries=1)
    index = write_and_cut(server, "gone", "kept")
    ExRaft.write(server, ("put", "new", 1))
    ExRaft.inspect(server, "log")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 entries, after the {index - 1} that only a snapshot holds"
    assert [line.split()[0] for line in lines[1:]] == [str(index), str(index + 1)]
    assert "'kept'" in lines[1]
