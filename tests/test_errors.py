"""What a failed call says, and whether its command may have been applied."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading

import pykka
import pytest

from exraft import errors
from exraft.errors import (
    AlreadyStarted,
    BelowMinMajority,
    CallTimeout,
    CatchUpFailed,
    CommandDropped,
    CommandRejected,
    CommandTooLarge,
    DirtyReadDisabled,
    DiskFull,
    ExRaftError,
    ForeignServer,
    LastServer,
    MachineError,
    NoCommit,
    NodeError,
    NodeUnreachable,
    NoLeader,
    NotSerialisable,
    OptionError,
    OutcomeUnknown,
    Overloaded,
    Redirect,
    SelfCall,
    ServerDown,
    ServerNotFound,
    SnapshotFailed,
    StartFailed,
    StorageError,
    StoreDamaged,
    StoreFailed,
    StoreLocked,
    StoreMismatch,
    TransferFailed,
    Transferring,
    UnstableConfig,
    machines_own,
    mark_applied,
    maybe_applied,
)
from exraft.names import Peer

PEER = Peer(":raft2")

EVERY: list[tuple[ExRaftError, object, bool]] = [
    (NoLeader(), "no_leader", False),
    (Redirect(PEER), ("redirect", PEER), False),
    (Transferring(PEER), ("transferring", PEER), False),
    (TransferFailed(), "transfer_failed", False),
    (CommandRejected(), "rejected", False),
    (CommandDropped(), "dropped", False),
    (OutcomeUnknown(), "unknown", True),
    (Overloaded(), "overloaded", False),
    (NotSerialisable(), "not_serialisable", False),
    (CommandTooLarge(5_000_000, 4_194_304), "command_too_large", False),
    (NoCommit(), "no_commit", False),
    (UnstableConfig(), "unstable_config", False),
    (LastServer(), "last_server", False),
    (BelowMinMajority(), "below_min_majority", False),
    (CatchUpFailed(), "catch_up_failed", False),
    (ForeignServer(), "foreign_server", False),
    (DirtyReadDisabled(), "dirty_read_disabled", False),
    (ServerNotFound(":raft9"), "noproc", False),
    (
        NodeUnreachable(PEER, "db-2:7001", "connection refused"),
        ("nodedown", "db-2:7001"),
        False,
    ),
    (ServerDown("killed"), ("down", "killed"), True),
    (CallTimeout(":raft1", 60.0), "timeout", True),
    (SelfCall(), "calling_self", False),
    (MachineError("shop.SoldOut", "none left"), ("machine_error", "shop.SoldOut"), True),
    (StartFailed(":raft1", "no room"), ("start_failed", "no room"), False),
    (AlreadyStarted(None), ("already_started", None), False),
    (NodeError("start one first"), "node", False),
    (StorageError("data", "is gone"), "storage", False),
    (StoreLocked("data", "another process has it"), "store_locked", False),
    (StoreMismatch("data", "is another server's"), "store_mismatch", False),
    (StoreDamaged("data/log-1", "a record is damaged", offset=17), "store_damaged", False),
    (StoreFailed("data/log-1", "a sync failed"), "store_failed", False),
    (DiskFull("data/log-1", "there is no room"), "disk_full", False),
    (SnapshotFailed("the disk is full"), "snapshot_failed", False),
    (OptionError("min above max"), "bad_option", False),
]
every_error = pytest.mark.parametrize(
    ("error", "reason", "applied"), EVERY, ids=[type(row[0]).__name__ for row in EVERY]
)


def test_the_table_of_errors_is_complete() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ExRaftError)
    }
    assert defined - {ExRaftError} == {type(row[0]) for row in EVERY}


@every_error
def test_every_error_has_its_reason_and_says_whether_it_may_be_applied(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    assert error.reason == reason
    assert error.maybe_applied is applied
    assert maybe_applied(error) is applied


@every_error
def test_every_error_survives_pickling_with_attributes_and_notes(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    original = copy.copy(error)
    original.maybe_applied = not applied
    original.add_note("from :raft1")
    twin = pickle.loads(pickle.dumps(original))
    assert type(twin) is type(original)
    assert str(twin) == str(original)
    assert twin.args == original.args
    assert vars(twin) == vars(original)
    assert twin.__notes__ == ["from :raft1"]


@every_error
def test_every_message_is_a_plain_sentence(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    assert str(error)
    assert str(error)[0] not in "'\"("
    assert str(error) == error.args[0]


def test_maybe_applied_is_set_for_each_instance() -> None:
    assert maybe_applied(CallTimeout(":raft1", 1.0, maybe_applied=False)) is False
    assert maybe_applied(ServerDown("killed", maybe_applied=False)) is False
    assert maybe_applied(Redirect(PEER, maybe_applied=True)) is True
    assert maybe_applied(NotSerialisable("the reply", maybe_applied=True)) is True
    assert maybe_applied(NotSerialisable("the command")) is False


def test_a_timeout_says_what_to_do_next_by_whether_it_may_be_applied() -> None:
    assert "read the state" in str(CallTimeout(":raft1", 1.0))
    assert "call again" in str(CallTimeout(":raft1", 1.0, maybe_applied=False))
    assert str(CallTimeout(":raft1", 0.5)).startswith("no answer from :raft1 within 0.5 s;")
    assert str(CallTimeout()).startswith("no answer in time;")


def test_a_dead_server_is_what_pykka_calls_a_dead_actor() -> None:
    assert isinstance(ServerDown("killed"), pykka.ActorDeadError)
    assert isinstance(ServerNotFound(":raft1"), pykka.ActorDeadError)
    assert isinstance(ServerNotFound(":raft1"), LookupError)


def test_a_timeout_is_pythons_and_pykkas() -> None:
    error = CallTimeout(":raft1", 2)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, pykka.Timeout)
    assert error.errno is None
    assert (error.server, error.timeout) == (":raft1", 2)


def test_a_bad_option_is_a_value_error() -> None:
    assert isinstance(OptionError("heartbeat"), ValueError)


def test_an_unreachable_node_is_a_server_that_is_not_found() -> None:
    error = NodeUnreachable(PEER, "db-2:7001", "connection refused")
    assert isinstance(error, ServerNotFound)
    assert (error.server, error.node, error.why) == (PEER, "db-2:7001", "connection refused")
    assert "db-2:7001 of :raft2 can't be reached: connection refused" in str(error)


def test_a_redirect_names_the_leader() -> None:
    assert Redirect(PEER).leader == PEER
    assert ":raft2" in str(Redirect(PEER))


def test_a_failed_start_keeps_its_cause_in_another_process() -> None:
    error = StartFailed(":raft1", KeyError("accounts"))
    assert isinstance(error.__cause__, KeyError)
    assert "KeyError: 'accounts'" in str(error)
    twin = pickle.loads(pickle.dumps(error))
    assert twin.__cause__ is twin.cause
    assert twin.cause.args == ("accounts",)


def test_already_started_leaves_the_reference_at_home() -> None:
    error = AlreadyStarted(threading.Lock())  # As little picklable as an ActorRef.
    assert error.reason == ("already_started", error.ref)
    twin = pickle.loads(pickle.dumps(error))
    assert twin.ref is None
    assert str(twin) == str(error)


def test_what_came_out_of_a_machine_answers_by_its_mark() -> None:
    assert maybe_applied(mark_applied(ValueError("overdraft"), True)) is True
    assert maybe_applied(mark_applied(RuntimeError("query"), False)) is False


def test_the_mark_survives_pickling() -> None:
    twin = pickle.loads(pickle.dumps(mark_applied(ValueError("overdraft"), True)))
    assert maybe_applied(twin) is True


def test_a_mark_gets_past_an_overridden_setattr() -> None:
    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    assert maybe_applied(mark_applied(Frozen(), False)) is False


@pytest.mark.parametrize("error", [TypeError("missing argument"), ValueError("'raft1'")])
def test_a_wrong_argument_was_never_sent(error: Exception) -> None:
    assert maybe_applied(error) is False


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), asyncio.CancelledError(), TimeoutError(), pykka.Timeout(), OSError()],
)
def test_what_cut_the_waiting_short_promises_nothing(error: BaseException) -> None:
    assert maybe_applied(error) is True


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("error", [ValueError("overdraft"), KeyError("x"), TimeoutError()])
def test_what_was_marked_when_it_left_a_machine_is_its_answer(
    error: Exception, applied: bool
) -> None:
    assert not machines_own(copy.copy(error))
    assert machines_own(mark_applied(copy.copy(error), applied))


@every_error
def test_of_our_errors_only_a_machine_error_and_a_reply_not_serialisable_are_a_machines_answer(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    assert machines_own(error) is isinstance(error, MachineError)
    late = copy.copy(error)
    late.maybe_applied = True
    assert machines_own(late) is isinstance(error, MachineError | NotSerialisable)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), OSError()])
def test_what_cut_the_waiting_short_is_no_machines_answer(error: BaseException) -> None:
    assert not machines_own(error)
