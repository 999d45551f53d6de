"""Side effects run beside the server, of the entries of the term it leads, at most once."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from exraft import ExRaft, maybe_applied
from exraft.errors import Overloaded, SelfCall
from exraft.raft.messages import AppendReply
from tests.helpers import (
    LIMIT,
    PATIENT,
    Gate,
    Journal,
    Network,
    agree,
    await_restarts,
    crash,
    does,
    elect,
    outcome,
    start,
    start_cluster,
    wait_until,
)


def test_a_side_effect_runs_once_and_on_the_leader_alone(journal: Journal) -> None:
    leader, *others = start_cluster(journal=journal)
    ExRaft.write(leader, ("effect", "ring"))
    wait_until(lambda: agree([leader, *others]), "all have applied it")
    for peer in (leader, *others):
        ExRaft.stop_server(peer, timeout=LIMIT)
    assert journal.lines("effect") == [("effect", leader.name, "ring")]


def test_side_effects_run_in_log_order(journal: Journal) -> None:
    leader, *_ = start_cluster(journal=journal)
    for write in [ExRaft.write_async(leader, ("effect", n)) for n in range(100)]:
        write.get(timeout=LIMIT)
    journal.wait_for("effect", count=100)
    assert [text for _, _, text in journal.lines("effect")] == list(range(100))


def test_side_effects_of_one_command_run_in_order(journal: Journal) -> None:
    effects = [partial(journal.add, "effect", n) for n in range(3)]
    ExRaft.start_server(does(act=lambda state: (None, state, tuple(effects))), name=":raft1")
    ExRaft.write(":raft1", "act")
    journal.wait_for("effect", count=3)
    assert journal.lines("effect") == [("effect", 0), ("effect", 1), ("effect", 2)]


def test_a_slow_side_effect_holds_up_neither_server_nor_heartbeats(network: Network) -> None:
    gate = Gate()
    ExRaft.start_server(
        does(
            slow=lambda state: (None, state, [gate.pass_through]),
            quick=lambda state: ("ok", state),
        ),
        name=":raft1",
        **PATIENT,
    )
    start(":raft2", min_majority=2)
    ExRaft.add_server(":raft1", ":raft2")
    ExRaft.write(":raft1", "slow")
    gate.await_someone()
    network.watch()
    network.await_messages(lambda sender, to, message: sender.name == ":raft1", count=3)
    assert ExRaft.write(":raft1", "quick", LIMIT) == "ok"
    gate.open()


def test_side_effects_run_on_a_worker_of_their_own(journal: Journal) -> None:
    def look() -> None:
        journal.add("ran in", threading.current_thread().name)

    def act(state: Any) -> Any:
        journal.add("applied in", threading.current_thread().name)
        return None, state, [look]

    ExRaft.start_server(does(act=act), name=":raft1")
    ExRaft.write(":raft1", "act")
    journal.wait_for("ran in", ":raft1 side effects")
    assert journal.lines("applied in") != [("applied in", ":raft1 side effects")]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_failing_side_effect_is_logged_and_changes_nothing(
    error: type[BaseException], journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error("no bell")

    effects = [fail, partial(journal.add, "effect", "after it")]
    ExRaft.start_server(does(act=lambda state: ("ok", state, effects)), name=":raft1")
    assert ExRaft.write(":raft1", "act") == "ok"
    journal.wait_for("effect", "after it")
    assert "A side effect of :raft1 failed" in caplog.text
    assert ExRaft.write(":raft1", "act") == "ok"


def test_the_replay_after_a_crash_runs_no_side_effect_again(journal: Journal) -> None:
    raft1 = start(":raft1", journal)
    ExRaft.write(raft1, ("effect", "once"))
    journal.wait_for("effect")
    crash(raft1)
    await_restarts(raft1, 1)
    ExRaft.write(raft1, ("effect", "after it"))
    journal.wait_for("effect", ":raft1", "after it")
    assert len(journal.lines("write", ":raft1", ("effect", "once"))) == 2
    assert [text for _, _, text in journal.lines("effect")] == ["once", "after it"]


def test_side_effects_that_wait_survive_a_crash_in_order(journal: Journal) -> None:
    gate = Gate()
    ExRaft.start_server(
        does(
            slow=lambda state: (None, state, [gate.pass_through]),
            ring=lambda state: (None, state, [partial(journal.add, "effect", "ring")]),
            knock=lambda state: (None, state, [partial(journal.add, "effect", "knock")]),
        ),
        name=":raft1",
        **PATIENT,
    )
    ExRaft.write(":raft1", "slow")
    ExRaft.write(":raft1", "ring")
    crash(":raft1")
    ExRaft.write(":raft1", "knock")
    gate.open()
    journal.wait_for("effect", count=2)
    assert journal.lines("effect") == [("effect", "ring"), ("effect", "knock")]


def test_an_entry_that_a_later_leader_commits_has_its_side_effect_nowhere(
    journal: Journal, network: Network
) -> None:
    leader, follower, _ = peers = start_cluster(journal=journal)
    # The others have the entry, but the leader never hears of that.
    network.lose(lambda sender, to, message: isinstance(message, AppendReply) and to == leader)
    write = ExRaft.write_async(leader, ("effect", "lost"))
    wait_until(
        lambda: all(ExRaft.status(p).last_index == ExRaft.status(leader).last_index for p in peers),
        "all have the entry",
    )
    network.cut(leader)
    elect(follower)
    network.heal()
    # It was committed, so its writer hears that; but nobody led its term when it was.
    assert write.get(timeout=LIMIT) == "ok"
    ExRaft.write(follower, ("effect", "found"))
    journal.wait_for("effect", follower.name, "found")
    wait_until(lambda: agree(peers), "all have applied it")
    for peer in peers:
        ExRaft.stop_server(peer, timeout=LIMIT)
    assert journal.lines("effect") == [("effect", follower.name, "found")]


def test_a_stop_lets_side_effects_run_out(journal: Journal) -> None:
    gate = Gate()
    effects = [gate.pass_through, *(partial(journal.add, "effect", n) for n in range(10))]
    ExRaft.start_server(does(act=lambda state: (None, state, effects)), name=":raft1")
    ExRaft.write(":raft1", "act")
    gate.await_someone()
    threading.Timer(0.05, gate.open).start()
    ExRaft.stop_server(":raft1")
    assert len(journal.lines("effect")) == 10


def test_a_stop_leaves_side_effects_undone_at_its_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    ExRaft.start_server(does(act=lambda state: (None, state, [gate.pass_through])), name=":raft1")
    ExRaft.write(":raft1", "act")
    gate.await_someone()
    outcome(partial(ExRaft.stop_server, ":raft1", timeout=0.05))
    wait_until(lambda: "Side effects of :raft1 were left undone" in caplog.text, "it is reported")
    gate.open()


def test_the_queue_of_side_effects_is_bounded_and_in_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exraft.actors.effects.MAX_EFFECTS", 3)
    gate = Gate()
    ExRaft.start_server(does(act=lambda state: ("ok", state, [gate.pass_through])), name=":raft1")
    ExRaft.write(":raft1", "act")
    gate.await_someone()
    for queued in (1, 2, 3):
        ExRaft.write(":raft1", "act")
        assert ExRaft.status(":raft1").side_effects == queued
    before = ExRaft.status(":raft1").last_index
    with pytest.raises(Overloaded, match="too many side effects") as raised:
        ExRaft.write(":raft1", "act")
    assert raised.value.reason == "overloaded"
    assert not maybe_applied(raised.value)
    assert ExRaft.status(":raft1").last_index == before
    gate.open()
    wait_until(lambda: ExRaft.status(":raft1").side_effects == 0, "they have run")
    assert ExRaft.write(":raft1", "act") == "ok"


def test_a_side_effect_that_would_stop_its_own_server_is_refused() -> None:
    """The server waits for its side effects, so it would wait for itself."""
    outcomes: list[Exception] = []
    told = threading.Event()

    def stop() -> None:
        try:
            ExRaft.stop_server(":raft1")
        except SelfCall as error:
            outcomes.append(error)
        told.set()

    machine = does(stop=lambda state: (None, state, [stop]))
    ExRaft.start_server(machine, name=":raft1", **PATIENT)
    ExRaft.write(":raft1", "stop", LIMIT)
    assert told.wait(LIMIT)
    assert "another thread" in str(outcomes[0])
    assert ExRaft.ping(":raft1", LIMIT) == "pong"
