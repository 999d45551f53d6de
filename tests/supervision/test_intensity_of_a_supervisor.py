"""How many restarts a supervisor has patience for; the window alone is in `test_intensity`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from exraft.actors import Ignore
from exraft.supervision import DynamicSupervisor, Supervisor, SupervisorNotFound, supervising
from tests.helpers import LIMIT, in_thread
from tests.supervision.family import (
    PATIENT,
    Family,
    Plain,
    Watch,
    Worker,
    a_family_of,
    answered_between,
    await_message,
    child,
    children,
    crash,
    leave,
    raising,
    states,
    watch,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)

SLOW: dict[str, Any] = {"max_seconds": 300.0}
"""So that nothing ages out, however slow the machine."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Hold the clock that supervisors look at; what is returned moves it on by so many seconds."""
    now = [1000.0]
    monkeypatch.setattr(supervising, "monotonic", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


# 20


def test_max_restarts_are_survived(any_family: Family) -> None:
    """S20: exactly `max_restarts` in the window survive."""
    sup = any_family.start("ab", max_restarts=3, **SLOW)
    for _ in range(3):
        crash(sup, "a")
    assert states(sup) == [("a", "running"), ("b", "running")]
    assert any_family.attempts("a") == 1 + 3


def test_one_more_stops_the_supervisor(any_family: Family) -> None:
    """S20: one more stops the supervisor."""
    sup = any_family.start("ab", max_restarts=3, **SLOW)
    told = Watch(sup)
    for _ in range(4):
        crash(sup, "a")
    assert told.reason() == "shutdown"
    assert any_family.attempts("a") == 1 + 3
    with pytest.raises(SupervisorNotFound):
        Supervisor.which_children(sup, timeout=LIMIT)


def test_restarts_of_all_children_count_together(any_family: Family) -> None:
    """S20: the window is the supervisor's, whichever child it is."""
    sup = any_family.start("abc", max_restarts=2, **SLOW)
    told = Watch(sup)
    crash(sup, "a")
    crash(sup, "b")
    assert states(sup) == [(id, "running") for id in "abc"]
    crash(sup, "c")
    assert told.reason() == "shutdown"


def test_an_orderly_end_that_is_mended_counts(any_family: Family) -> None:
    """S20: a permanent child that ends in order is restarted, which counts."""
    sup = any_family.start("a", max_restarts=1, **SLOW)
    told = Watch(sup)
    leave(sup, "a", "normal")
    assert states(sup) == [("a", "running")]
    leave(sup, "a", "normal")
    assert told.reason() == "shutdown"


def test_an_end_that_is_not_mended_does_not_count(any_family: Family) -> None:
    """S20: what counts is restarts, not deaths."""
    sup = any_family.start(
        [
            any_family.spec("a", restart="temporary"),
            any_family.spec("b", restart="transient"),
            any_family.spec("c"),
        ],
        max_restarts=0,
    )
    crash(sup, "a")
    leave(sup, "b", "normal")
    assert states(sup) == [("b", None), ("c", "running")]


def test_a_supervisor_that_gave_up_is_restarted_by_its_own(family: Family) -> None:
    """S20: for the supervisor above it is one restart, and the one below begins anew."""
    inner = Supervisor.child_spec(family.specs("a"), id="inner", max_restarts=1, **SLOW)
    sup = family.start([inner], max_restarts=1, **SLOW)
    told = Watch(sup)
    for _ in range(2):
        first = child(sup, "inner")
        ended = Watch(first)
        crash(first, "a")
        crash(first, "a")
        assert ended.reason() == "shutdown"
    assert told.reason() == "shutdown"
    # Two lives of the inner one, of two lives of the child each.
    assert family.attempts("a") == 4


def test_a_dynamic_supervisor_has_as_much_patience(any_family: Family) -> None:
    """S20: a dynamic supervisor counts alike."""
    sup = any_family.start_dynamic("ab", max_restarts=2, **SLOW)
    told = Watch(sup)
    crash(sup, "a")
    crash(sup, "b")
    assert states(sup) == [("a", "running"), ("b", "running")]
    crash(sup, "a")
    assert told.reason() == "shutdown"


# 21


def test_without_any_restarts_the_first_crash_stops_it(any_family: Family) -> None:
    """S21: `max_restarts=0`: the first crash stops it."""
    sup = any_family.start("ab", max_restarts=0)
    told = Watch(sup)
    crash(sup, "a")
    assert told.reason() == "shutdown"
    assert any_family.attempts("a") == 1


# 22


def test_a_supervisor_that_gives_up_exits_with_shutdown(any_family: Family) -> None:
    """S22: it exits with `shutdown`, after its children in reverse."""
    sup = any_family.start("abcd", max_restarts=0)
    told = Watch(sup)
    any_family.journal.clear()
    crash(sup, "b")
    assert told.reason() == "shutdown"
    assert any_family.lines() == ["fail b", "stop d", "stop c", "stop a"]


def test_the_children_of_a_supervisor_that_gives_up_are_told_shutdown(any_family: Family) -> None:
    """S22: the others are stopped as they always are, before it is known to have ended."""
    sup = any_family.start("abc", max_restarts=0)
    told, others = Watch(sup), watch(sup)
    crash(sup, "b")
    told.reason()
    assert others["a"].over()
    assert others["c"].over()
    assert {id: others[id].reason() for id in "ac"} == {"a": "shutdown", "c": "shutdown"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_supervisor_that_gives_up_restarts_nobody_first(
    any_family: Family, strategy: str
) -> None:
    """S22: whatever its strategy."""
    sup = any_family.start("abc", strategy=strategy, max_restarts=0)
    told = Watch(sup)
    any_family.journal.clear()
    crash(sup, "a")
    told.reason()
    assert any_family.lines() == ["fail a", "stop c", "stop b"]


def test_a_transient_supervisor_that_gave_up_is_not_restarted(family: Family) -> None:
    """S22: `shutdown` is an orderly end to the supervisor above (OTP, too)."""
    inner = Supervisor.child_spec(
        family.specs("a"), id="inner", restart="transient", max_restarts=0
    )
    sup = family.start([inner])
    told = Watch(child(sup, "inner"))
    crash(child(sup, "inner"), "a")
    told.reason()
    assert states(sup) == [("inner", None)]


# 23


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_failed_attempts_count(any_family: Family, strategy: str) -> None:
    """S23: failed attempts count, each as one."""
    sup = any_family.start("ab", strategy=strategy, max_restarts=3, **SLOW)
    told = Watch(sup)
    any_family.fails_to_start("a")
    crash(sup, "a")
    assert told.reason() == "shutdown"
    assert any_family.attempts("a") == 1 + 3


def test_failed_attempts_of_a_dynamic_supervisor_count(any_family: Family) -> None:
    """S23: in a dynamic supervisor as well."""
    sup = any_family.start_dynamic("a", max_restarts=3, **SLOW)
    told = Watch(sup)
    any_family.fails_to_start("a")
    crash(sup, "a")
    assert told.reason() == "shutdown"
    assert any_family.attempts("a") == 1 + 3


def test_who_declines_to_start_again_has_not_failed(any_family: Family) -> None:
    """S23: to decline is no failed attempt: the restart counts once."""
    sup = any_family.start("ab", max_restarts=1, **SLOW)
    any_family.script("a").at("start", raising(Ignore()))
    crash(sup, "a")
    assert states(sup) == [("a", None), ("b", "running")]


# 24


def test_between_attempts_it_answers_calls(any_family: Family) -> None:
    """S24: between attempts it still answers calls."""
    sup = any_family.start("a", **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    assert [states(sup) for _ in range(20)] == [[("a", "restarting")]] * 20
    assert Supervisor.count_children(sup, timeout=LIMIT).active == 0


def test_between_attempts_another_child_can_be_started(any_family: Family) -> None:
    """S24: those that change something included."""
    sup = any_family.start("a", **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    Supervisor.start_child(sup, any_family.spec("b"), timeout=LIMIT)
    assert states(sup) == [("a", "restarting"), ("b", "running")]


def test_between_attempts_the_child_can_be_terminated(any_family: Family) -> None:
    """S24: which ends the attempts."""
    sup = any_family.start("ab", **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    attempts = any_family.attempts("a")
    assert states(sup) == [("a", None), ("b", "running")]
    assert any_family.attempts("a") == attempts


def test_siblings_do_not_wait_for_one_whose_attempts_were_ended(any_family: Family) -> None:
    """S24: those that waited for it are started all the same."""
    sup = any_family.start("abc", strategy="one_for_all", **PATIENT)
    answered_between(
        any_family,
        sup,
        "b",
        lambda: Supervisor.terminate_child(sup, "b", timeout=LIMIT),
        crashes="a",
    )
    for id in "ac":
        assert child(sup, id) is any_family.last_life(id)


def test_between_attempts_it_can_be_stopped(any_family: Family) -> None:
    """S24: stop included."""
    sup = any_family.start("ab", **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    told = Watch(sup)
    Supervisor.stop(sup, timeout=LIMIT)
    assert told.reason() == "normal"
    assert any_family.lines()[-1] == "stop b"


def test_a_stop_that_waits_comes_before_the_next_attempt(any_family: Family) -> None:
    """S24: there is no further attempt then."""
    sup = any_family.start("a", **PATIENT)
    gate = any_family.fails_behind_a_gate("a")
    crash(sup, "a")
    gate.await_someone()
    with in_thread(lambda: Supervisor.stop(sup, timeout=LIMIT)):
        await_message(sup)
        gate.open()
    assert any_family.attempts("a") == 2


# 25


def test_old_restarts_age_out(any_family: Family, clock: Callable[[float], None]) -> None:
    """S25: those of longer ago than `max_seconds` are forgotten."""
    sup = any_family.start("a", max_restarts=2, max_seconds=5.0)
    for _ in range(10):
        crash(sup, "a")
        crash(sup, "a")
        assert states(sup) == [("a", "running")]
        clock(5.1)


def test_restarts_within_the_window_are_remembered(
    any_family: Family, clock: Callable[[float], None]
) -> None:
    """S25: the window slides: each ages out by itself."""
    sup = any_family.start("a", max_restarts=2, max_seconds=5.0)
    told = Watch(sup)
    crash(sup, "a")
    children(sup)
    clock(3.0)
    crash(sup, "a")
    children(sup)
    clock(3.0)
    # The first is 6 s old, the second 3 s.
    crash(sup, "a")
    assert states(sup) == [("a", "running")]
    clock(1.0)
    crash(sup, "a")
    assert told.reason() == "shutdown"


def test_the_window_does_not_follow_the_wall_clock(
    any_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S25: the window is monotonic time: who sets the clock of the machine changes nothing."""
    sup = any_family.start("a", max_restarts=1, **SLOW)
    told = Watch(sup)
    crash(sup, "a")
    children(sup)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e6)
    crash(sup, "a")
    assert told.reason() == "shutdown"


# 26


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_an_incident_counts_once_however_many_are_restarted(
    any_family: Family, strategy: str
) -> None:
    """S26: one_for_all counts once an incident, and so does rest_for_one."""
    sup = any_family.start("abcde", strategy=strategy, max_restarts=2, **SLOW)
    told = Watch(sup)
    crash(sup, "a")
    crash(sup, "a")
    assert states(sup) == [(id, "running") for id in "abcde"]
    assert any_family.attempts("e") == 3
    crash(sup, "a")
    assert told.reason() == "shutdown"


# 27


def test_terminating_children_does_not_count(any_family: Family) -> None:
    """S27: `terminate_child` does not count, nor does `restart_child`."""
    sup = any_family.start("ab", max_restarts=0)
    for _ in range(5):
        Supervisor.terminate_child(sup, "a", timeout=LIMIT)
        Supervisor.restart_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("a", "running"), ("b", "running")]
    assert any_family.attempts("a") == 6


def test_terminating_children_of_a_dynamic_supervisor_does_not_count(any_family: Family) -> None:
    """S27: in a dynamic supervisor neither."""
    sup = any_family.start_dynamic("abc", max_restarts=0)
    for ref in children(sup).values():
        assert isinstance(ref, pykka.ActorRef)
        DynamicSupervisor.terminate_child(sup, ref, timeout=LIMIT)
    assert states(sup) == []
