"""What a failed call to a supervisor says."""

from __future__ import annotations

import copy
import pickle
import threading

import pykka
import pytest

from exraft.errors import AlreadyStarted, ExRaftError, maybe_applied
from exraft.supervision import errors
from exraft.supervision.errors import (
    AlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    SpecError,
    SupervisorDown,
    SupervisorNotFound,
    TooManyChildren,
)

EVERY: list[tuple[ExRaftError, object, bool]] = [
    (SpecError("mailer", "restart", "'permanent' is wanted"), "bad_child_spec", False),
    (AlreadyPresent("mailer"), "already_present", False),
    (ChildAlreadyStarted(None, "mailer"), ("already_started", None), False),
    (ChildNotFound("mailer"), "not_found", False),
    (ChildRunning("mailer"), "running", False),
    (ChildRestarting("mailer"), "restarting", False),
    (TooManyChildren(10), "max_children", False),
    (SupervisorNotFound(":shop"), "noproc", False),
    (SupervisorDown("killed"), ("down", "killed"), True),
]
every_error = pytest.mark.parametrize(
    ("error", "reason", "applied"), EVERY, ids=[type(row[0]).__name__ for row in EVERY]
)


def test_the_table_of_errors_is_complete() -> None:
    defined = {
        value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ExRaftError) and name[0] != "_"
    }
    assert defined - {ExRaftError, AlreadyStarted} == {type(row[0]) for row in EVERY}


@every_error
def test_every_error_has_its_reason_and_says_whether_it_may_be_applied(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    assert error.reason == reason
    assert maybe_applied(error) is applied


@every_error
def test_every_error_survives_pickling_with_attributes_and_notes(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    original = copy.copy(error)
    original.maybe_applied = not applied
    original.add_note("from :shop")
    twin = pickle.loads(pickle.dumps(original))
    assert type(twin) is type(original)
    assert str(twin) == str(original)
    assert twin.args == original.args
    assert vars(twin) == vars(original)


@every_error
def test_every_message_is_a_plain_sentence(
    error: ExRaftError, reason: object, applied: bool
) -> None:
    assert str(error)[0] not in "'\"("
    assert "{" not in str(error)
    assert str(error) == error.args[0]


@pytest.mark.parametrize(
    "error",
    [
        AlreadyPresent("a"),
        ChildAlreadyStarted(None, "a"),
        ChildNotFound("a"),
        ChildRunning("a"),
        ChildRestarting("a"),
    ],
)
def test_an_error_about_a_child_names_it(error: ExRaftError) -> None:
    assert "child 'a'" in str(error)
    assert vars(error)["child"] == "a"


def test_a_bad_spec_is_a_value_error_that_names_child_and_field() -> None:
    error = SpecError("mailer", "restart", "'permanent' is wanted, not 'always'")
    assert isinstance(error, ValueError)
    assert (error.child, error.field) == ("mailer", "restart")
    assert str(error) == "child 'mailer', restart: 'permanent' is wanted, not 'always'"


def test_a_bad_spec_without_an_id_is_named_by_its_place() -> None:
    assert str(SpecError(2, "id", "a string is wanted")).startswith("child number 2, id: ")
    assert str(SpecError(2, None, "a ChildSpec is wanted")).startswith("child number 2: ")
    assert str(SpecError(None, "id", "a string is wanted")).startswith("the child, id: ")


def test_what_is_not_found_is_a_lookup_error() -> None:
    assert isinstance(ChildNotFound("a"), LookupError)
    assert isinstance(SupervisorNotFound(":shop"), LookupError)


def test_a_supervisor_that_is_gone_is_what_pykka_calls_a_dead_actor() -> None:
    assert isinstance(SupervisorNotFound(":shop"), pykka.ActorDeadError)
    assert isinstance(SupervisorDown("killed"), pykka.ActorDeadError)
    assert SupervisorDown("killed").why == "killed"


def test_a_reference_stays_at_home() -> None:
    ref = threading.Lock()  # As little picklable as an ActorRef.
    child = ChildNotFound(ref)
    supervisor = SupervisorNotFound(ref)
    assert child.child is ref
    assert supervisor.supervisor is ref
    for error, attribute in [(child, "child"), (supervisor, "supervisor")]:
        twin = pickle.loads(pickle.dumps(error))
        assert vars(twin)[attribute] is None
        assert str(twin) == str(error)


def test_too_many_children_says_how_many_are_allowed() -> None:
    assert TooManyChildren(10).max_children == 10
    assert "10" in str(TooManyChildren(10))
