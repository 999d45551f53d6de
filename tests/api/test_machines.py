"""What the callbacks of a state machine are called for, and what follows from what they return."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest

from exraft import Config, ExRaft, Peer, Role, StateMachine, maybe_applied
from exraft.actors.calls import Reply, TriggerElection
from exraft.errors import MachineError
from exraft.machine import WriteResult
from tests.helpers import (
    LIMIT,
    PATIENT,
    RAFT,
    Gate,
    Journal,
    KeyValueStore,
    agree,
    await_restarts,
    crash,
    does,
    elect,
    outcome,
    send,
    start,
    start_cluster,
    unchanged,
    wait_until,
)


def test_a_machine_needs_no_more_than_its_two_handlers() -> None:
    class Minimal(StateMachine):
        def handle_write(self, command: Any, state: Any) -> WriteResult:
            return len(state), [*state, command]

        def handle_read(self, query: Any, state: Any) -> Any:
            return state

    ExRaft.start_server(Minimal, ["begin"], name=":raft1")
    assert ExRaft.write(":raft1", "command") == 1
    assert ExRaft.read(":raft1", None) == ["begin", "command"]


def test_a_machine_may_come_from_a_factory() -> None:
    class Account(StateMachine):
        def __init__(self, currency: str) -> None:
            self.currency = currency

        def handle_write(self, command: Any, state: Any) -> WriteResult:
            return None, state

        def handle_read(self, query: Any, state: Any) -> Any:
            return self.currency

    ExRaft.start_server(partial(Account, "CHF"), name=":raft1")
    assert ExRaft.read(":raft1", None) == "CHF"


def test_every_life_makes_a_machine_of_its_own(journal: Journal) -> None:
    made: list[KeyValueStore] = []

    def build() -> KeyValueStore:
        made.append(KeyValueStore(journal))
        return made[-1]

    ExRaft.start_server(build, {}, name=":raft1")
    assert len(made) == 1
    crash(":raft1")
    await_restarts(":raft1", 1)
    assert len(made) == 2
    assert made[0] is not made[1]


# Writing.


def test_every_replica_applies_every_command_in_log_order(journal: Journal) -> None:
    peers = start_cluster(journal=journal)
    for n in range(20):
        ExRaft.write(peers[0], ("put", "k", n))
    wait_until(lambda: agree(peers), "all have applied it")
    for peer in peers:
        applied = [command[2] for _, _, command in journal.lines("write", peer.name)]
        assert applied == list(range(20))


def test_what_handle_write_raises_leaves_the_state_and_every_server_alive() -> None:
    peers = start_cluster()
    ExRaft.write(peers[0], ("put", "k", 1))
    with pytest.raises(ValueError, match="refused"):
        ExRaft.write(peers[0], ("raise", ValueError("refused")))
    assert ExRaft.write(peers[0], ("add", "k", 1)) == 2
    wait_until(lambda: agree(peers), "all have applied it")
    assert [ExRaft.status(peer).restarts for peer in peers] == [0, 0, 0]
    assert [ExRaft.read_dirty(peer, "k") for peer in peers] == [2, 2, 2]


def test_what_was_changed_in_place_before_a_raise_stays_changed_on_every_replica() -> None:
    def careless(state: Any) -> Any:
        state["n"] += 1
        raise ValueError("too late")

    machine = does(careless=careless, get=lambda state: state["n"])
    peers = [Peer(name) for name in RAFT]
    for name in RAFT:
        ExRaft.start_server(machine, {"n": 0}, name=name, initial_config=RAFT, **PATIENT)
    with pytest.raises(ValueError):
        ExRaft.client(RAFT).write("careless")
    wait_until(lambda: agree(peers), "all have applied it")
    assert [ExRaft.read_dirty(peer, "get") for peer in peers] == [1, 1, 1]


@pytest.mark.parametrize(
    "returned",
    [
        None,
        "ok",
        ["ok", {}],
        ("ok",),
        ("ok", {}, None),
        ("ok", {}, ["not callable"]),
        ("ok", {}, [], "more"),
    ],
    ids=repr,
)
def test_a_malformed_return_is_an_error_of_the_caller_and_changes_nothing(returned: Any) -> None:
    raft1 = start(":raft1", init_arg={"k": 1})
    with pytest.raises(MachineError, match="wanted; the state stays as it was") as raised:
        ExRaft.write(raft1, ("return", returned))
    assert "handle_write returned" in str(raised.value)
    assert maybe_applied(raised.value)
    assert ExRaft.read(raft1, "k") == 1
    assert ExRaft.write(raft1, ("put", "k", 2)) == "ok"
    assert ExRaft.status(raft1).restarts == 0


def test_a_malformed_return_leaves_every_replica_alive() -> None:
    peers = start_cluster()
    with pytest.raises(MachineError):
        ExRaft.write(peers[0], ("return", "nonsense"))
    ExRaft.write(peers[0], ("put", "k", 1))
    wait_until(lambda: agree(peers), "all have applied it")
    assert [ExRaft.read_dirty(peer, "k") for peer in peers] == [1, 1, 1]


# Being told.


def test_a_machine_is_told_of_every_committed_configuration(journal: Journal) -> None:
    class Listening(KeyValueStore):
        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            assert isinstance(content, Config)
            journal.add(kind, self.name, content.voters)
            state["voters"] = [peer.name for peer in content.voters]
            return state

    ExRaft.start_server(partial(Listening, journal, "one"), {}, name=":raft1", **PATIENT)
    ExRaft.start_server(
        partial(Listening, journal, "two"), {}, name=":raft2", min_majority=2, **PATIENT
    )
    ExRaft.add_server(":raft1", ":raft2")
    journal.wait_for("config", "two", (Peer(":raft1"), Peer(":raft2")))
    assert journal.lines("config", "one", (Peer(":raft1"),))
    assert ExRaft.read(":raft1", "voters") == [":raft1", ":raft2"]


def test_a_configuration_may_have_side_effects_on_the_leader(journal: Journal) -> None:
    class Announcing(KeyValueStore):
        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            return state, [partial(journal.add, "announced", self.name)]

    for name in RAFT:
        machine = partial(Announcing, journal, name)
        ExRaft.start_server(machine, {}, name=name, initial_config=RAFT, **PATIENT)
    leader = ExRaft.await_leader(RAFT[0], LIMIT)
    journal.wait_for("announced")
    ExRaft.stop_server(leader, timeout=LIMIT)
    assert {name for _, name in journal.lines("announced")} >= {leader.name}


def test_a_machine_that_raises_at_a_configuration_keeps_its_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Grumpy(KeyValueStore):
        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            raise ValueError("no configurations")

    ExRaft.start_server(Grumpy, {"k": 1}, name=":raft1")
    assert ExRaft.read(":raft1", "k") == 1
    assert "handle_system_write of :raft1 raised; its state stays" in caplog.text


def test_a_machine_is_told_of_every_change_of_role_and_of_the_first(journal: Journal) -> None:
    leader, follower, _ = start_cluster(journal=journal)
    roles = [role for _, _, role in journal.lines("transition", leader.name)]
    assert roles[0] is Role.FOLLOWER
    assert roles[-2:] == [Role.CANDIDATE, Role.LEADER]
    elect(follower)
    journal.wait_for("transition", leader.name, Role.FOLLOWER, count=2)


def test_what_transition_returns_is_ignored() -> None:
    class Talkative(KeyValueStore):
        def transition(self, to_state: Role, state: Any) -> Any:
            return "ignored", {}

    ExRaft.start_server(Talkative, {"k": 1}, name=":raft1")
    assert ExRaft.read(":raft1", "k") == 1


def test_terminate_is_told_the_reason_and_the_state_once(journal: Journal) -> None:
    raft1 = start(":raft1", journal)
    ExRaft.write(raft1, ("put", "k", 1))
    ExRaft.stop_server(raft1, ("shutdown", "for lunch"))
    assert journal.lines("terminate") == [
        ("terminate", ":raft1", ("shutdown", "for lunch"), {"k": 1})
    ]


def test_terminate_is_called_before_a_crashed_server_exits(journal: Journal) -> None:
    raft1 = start(":raft1", journal)
    ExRaft.write(raft1, ("put", "k", 1))
    error = RuntimeError("crashed on purpose")
    crash(raft1, error)
    assert journal.lines("terminate") == [("terminate", ":raft1", error, {"k": 1})]
    assert journal.lines("init")[0] == ("init", ":raft1")


def test_a_terminate_that_raises_is_logged_and_the_server_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Clinging(KeyValueStore):
        def terminate(self, reason: Any, state: Any) -> None:
            raise SystemExit

    ExRaft.start_server(Clinging, {}, name=":raft1")
    ExRaft.stop_server(":raft1", timeout=LIMIT)
    assert "terminate of :raft1 raised" in caplog.text


# Changing what must not change.


def test_debug_reports_a_read_that_changes_the_state(caplog: pytest.LogCaptureFixture) -> None:
    machine = does(meddle=lambda state: state.append(1), look=lambda state: len(state))
    ExRaft.start_server(machine, name=":raft1", debug=True)
    ExRaft.read(":raft1", "look")
    assert not _errors(caplog)
    ExRaft.read(":raft1", "meddle")
    ExRaft.ping(":raft1")
    assert "a read must not change the state" in _errors(caplog)[0]


def test_debug_reports_a_raising_write_that_changes_the_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def careless(state: Any) -> Any:
        state.append(1)
        raise ValueError("too late")

    def careful(state: Any) -> Any:
        raise ValueError("in time")

    ExRaft.start_server(
        does(careless=careless, careful=careful, append=lambda state: (None, [*state, 1])),
        name=":raft1",
        debug=True,
    )
    outcome(partial(ExRaft.write, ":raft1", "careful"))
    ExRaft.write(":raft1", "append")
    assert not _errors(caplog)
    outcome(partial(ExRaft.write, ":raft1", "careless"))
    assert "handle_write raised at index" in _errors(caplog)[0]
    assert "check first, then change" in _errors(caplog)[0]


def test_without_debug_nothing_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    ExRaft.start_server(does(meddle=lambda state: state.append(1)), name=":raft1")
    ExRaft.read(":raft1", "meddle")
    assert not _errors(caplog)


def test_a_state_that_cannot_be_serialised_cannot_be_checked_and_harms_nobody() -> None:
    class Locked(KeyValueStore):
        def init(self, init_arg: Any) -> Any:
            return {"gate": Gate()}

    ExRaft.start_server(Locked, {}, name=":raft1", debug=True)
    assert ExRaft.write(":raft1", ("put", "k", 1)) == "ok"
    assert ExRaft.read(":raft1", "k") == 1
    assert ExRaft.status(":raft1").restarts == 0


def test_debug_logs_changes_of_role(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "exraft"):
        start(":raft1", debug=True)
        assert send(":raft1", TriggerElection(Reply())).get(timeout=LIMIT) is None
        wait_until(lambda: ExRaft.state(":raft1") == "leader", "it leads again")
    assert ":raft1 is candidate of term 2" in caplog.text
    assert ":raft1 is leader of term 2" in caplog.text


def test_a_write_may_have_no_side_effects_in_its_list() -> None:
    ExRaft.start_server(does(act=lambda state: ("ok", state, [])), name=":raft1")
    assert ExRaft.write(":raft1", "act") == "ok"


def test_the_same_command_may_be_written_again() -> None:
    ExRaft.start_server(does(act=unchanged("ok")), name=":raft1")
    assert [ExRaft.write(":raft1", "act") for _ in range(3)] == ["ok"] * 3


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
