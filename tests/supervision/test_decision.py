"""What follows from an exit, as a table: no actors, no clocks."""

from __future__ import annotations

import pytest

from exraft.actors.process import is_orderly
from exraft.child_spec import Restart
from exraft.supervision.decision import Verdict, after_exit, wants_restart

ORDERLY = ["normal", "shutdown", ("shutdown", "because")]
FAILURES = ["killed", "noproc", ValueError("x"), SystemExit(), ("down", "x"), ("shutdown",), None]


def judge(restart: Restart, reason: object, *, patience: bool = True) -> Verdict:
    return after_exit(
        restart=restart, orderly=is_orderly(reason), stopping=False, patience=patience
    )


@pytest.mark.parametrize("reason", [*ORDERLY, *FAILURES], ids=repr)
def test_a_permanent_child_is_restarted_whatever_the_reason(reason: object) -> None:
    """OTP statement 9."""
    assert judge("permanent", reason) is Verdict.RESTART


@pytest.mark.parametrize("reason", FAILURES, ids=repr)
def test_a_transient_child_is_restarted_after_a_failure(reason: object) -> None:
    """OTP statement 10."""
    assert judge("transient", reason) is Verdict.RESTART


@pytest.mark.parametrize("reason", ORDERLY, ids=repr)
def test_a_transient_child_is_left_after_an_orderly_exit(reason: object) -> None:
    """OTP statement 10."""
    assert judge("transient", reason) is Verdict.LEAVE


@pytest.mark.parametrize("reason", [*ORDERLY, *FAILURES], ids=repr)
def test_a_temporary_child_is_never_restarted(reason: object) -> None:
    """OTP statement 11."""
    assert judge("temporary", reason) is Verdict.LEAVE


def test_without_patience_the_supervisor_gives_up() -> None:
    """OTP statement 20."""
    assert judge("permanent", "killed", patience=False) is Verdict.GIVE_UP
    assert judge("transient", "killed", patience=False) is Verdict.GIVE_UP


def test_who_need_not_be_restarted_costs_no_patience() -> None:
    """OTP statements 10 and 11."""
    assert judge("transient", "normal", patience=False) is Verdict.LEAVE
    assert judge("temporary", "killed", patience=False) is Verdict.LEAVE


@pytest.mark.parametrize("patience", [True, False])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_supervisor_that_is_being_stopped_restarts_nobody(
    restart: Restart, patience: bool
) -> None:
    """OTP statement 56."""
    verdict = after_exit(restart=restart, orderly=False, stopping=True, patience=patience)
    assert verdict is Verdict.LEAVE


def test_whether_a_child_wants_a_restart_depends_on_its_type() -> None:
    """OTP statements 9 to 11."""
    assert wants_restart("permanent", orderly=True)
    assert wants_restart("transient", orderly=False)
    assert not wants_restart("transient", orderly=True)
    assert not wants_restart("temporary", orderly=False)
