"""Who is restarted with a child that has ended, and in what order."""

from __future__ import annotations

from typing import Any

import pytest

from exraft.actors import Ignore
from exraft.supervision import Supervisor
from tests.helpers import LIMIT
from tests.supervision.family import (
    PATIENT,
    Family,
    Plain,
    Watch,
    Worker,
    a_family_of,
    answered_between,
    child,
    children,
    crash,
    leave,
    raising,
    states,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)

RUNNING = "running"


# 14


@pytest.mark.parametrize("dead", ["a", "b", "c"])
def test_one_for_one_touches_the_dead_one_only(any_family: Family, dead: str) -> None:
    """S14: one_for_one touches the dead one only."""
    sup = any_family.start("abc", strategy="one_for_one")
    before = children(sup)
    any_family.journal.clear()
    crash(sup, dead)
    after = children(sup)
    assert any_family.lines() == [f"fail {dead}", f"start {dead}"]
    assert [id for id in "abc" if after[id] is not before[id]] == [dead]


def test_one_for_one_keeps_the_place_of_the_dead_one(any_family: Family) -> None:
    """S14: it comes back to its own place."""
    sup = any_family.start("abc")
    crash(sup, "a")
    assert states(sup) == [("a", RUNNING), ("b", RUNNING), ("c", RUNNING)]


# 15


@pytest.mark.parametrize("dead", ["a", "b", "d"])
def test_one_for_all_stops_and_starts_all(any_family: Family, dead: str) -> None:
    """S15: one_for_all: the others stop in reverse, all start in order."""
    sup = any_family.start("abcd", strategy="one_for_all")
    before = children(sup)
    any_family.journal.clear()
    crash(sup, dead)
    after = children(sup)
    stops = [f"stop {id}" for id in "dcba" if id != dead]
    starts = [f"start {id}" for id in "abcd"]
    assert any_family.lines() == [f"fail {dead}", *stops, *starts]
    assert not any(after[id] is before[id] for id in "abcd")


def test_one_for_all_stops_the_others_with_shutdown(any_family: Family) -> None:
    """S15: the others are stopped as they always are."""
    sup = any_family.start("ab", strategy="one_for_all")
    other = Watch(child(sup, "b"))
    crash(sup, "a")
    assert other.reason() == "shutdown"


def test_one_for_all_restarts_nested_supervisors_with_all_their_children(family: Family) -> None:
    """S15: a supervisor among them stops its own children first."""
    inner = Supervisor.child_spec(family.specs("xy"), id="inner")
    sup = family.start([family.spec("a"), inner], strategy="one_for_all")
    family.journal.clear()
    crash(sup, "a")
    assert states(sup) == [("a", RUNNING), ("inner", RUNNING)]
    assert family.lines() == ["fail a", "stop y", "stop x", "start a", "start x", "start y"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_who_is_not_restarted_takes_nobody_along(any_family: Family, strategy: str) -> None:
    """S15: an end that is not mended touches nobody, whatever the strategy."""
    specs = [
        any_family.spec("a", restart="temporary"),
        any_family.spec("b", restart="transient"),
        any_family.spec("c"),
    ]
    sup = any_family.start(specs, strategy=strategy)
    any_family.journal.clear()
    crash(sup, "a")
    leave(sup, "b", "normal")
    assert states(sup) == [("b", None), ("c", RUNNING)]
    assert any_family.lines() == ["fail a", "stop b"]


# 16


@pytest.mark.parametrize("dead", ["a", "b", "d"])
def test_rest_for_one_stops_and_starts_the_later_ones(any_family: Family, dead: str) -> None:
    """S16: rest_for_one: the later ones stop in reverse, then the dead one and they start."""
    sup = any_family.start("abcd", strategy="rest_for_one")
    any_family.journal.clear()
    crash(sup, dead)
    children(sup)
    rest = "abcd"["abcd".index(dead) :]
    stops = [f"stop {id}" for id in reversed(rest[1:])]
    assert any_family.lines() == [f"fail {dead}", *stops, *[f"start {id}" for id in rest]]


def test_rest_for_one_does_not_touch_the_earlier_ones(any_family: Family) -> None:
    """S16: earlier ones are untouched."""
    sup = any_family.start("abcd", strategy="rest_for_one")
    before = children(sup)
    crash(sup, "c")
    after = children(sup)
    assert [id for id in "abcd" if after[id] is before[id]] == ["a", "b"]


# 17


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_sibling_is_not_started_again(any_family: Family, strategy: str) -> None:
    """S17: a temporary sibling stopped that way is not started again, and its spec is gone."""
    specs = [
        any_family.spec("a"),
        any_family.spec("b", restart="temporary"),
        any_family.spec("c", restart="transient"),
    ]
    sup = any_family.start(specs, strategy=strategy)
    any_family.journal.clear()
    crash(sup, "a")
    assert states(sup) == [("a", RUNNING), ("c", RUNNING)]
    assert any_family.lines() == ["fail a", "stop c", "stop b", "start a", "start c"]


def test_a_temporary_sibling_that_nothing_stopped_stays(any_family: Family) -> None:
    """S17: only one that was stopped is concerned."""
    specs = [any_family.spec("a", restart="temporary"), any_family.spec("b")]
    sup = any_family.start(specs, strategy="rest_for_one")
    crash(sup, "b")
    assert states(sup) == [("a", RUNNING), ("b", RUNNING)]
    assert any_family.attempts("a") == 1


# 18


def test_one_that_fails_to_start_again_is_restarting(any_family: Family) -> None:
    """S18: if one fails to start again it is `restarting`."""
    sup = any_family.start("ab", **PATIENT)
    seen = answered_between(any_family, sup, "a", lambda: states(sup))
    assert seen == [("a", "restarting"), ("b", RUNNING)]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_one_that_fails_to_start_again_is_tried_again(any_family: Family, strategy: str) -> None:
    """S18: and is tried again, until it starts."""
    sup = any_family.start("ab", strategy=strategy, **PATIENT)
    any_family.fails_to_start("a", times=3)
    crash(sup, "a")
    any_family.await_start("a", count=2)
    assert states(sup) == [("a", RUNNING), ("b", RUNNING)]
    assert any_family.attempts("a") == 1 + 3 + 1


def test_one_of_several_that_fails_to_start_again_is_restarting(any_family: Family) -> None:
    """S18: so is it if another one's crash has stopped it; the earlier ones run meanwhile."""
    sup = any_family.start("abcd", strategy="one_for_all", **PATIENT)
    seen = answered_between(any_family, sup, "c", lambda: states(sup), crashes="a")
    assert seen[:3] == [("a", RUNNING), ("b", RUNNING), ("c", "restarting")]
    assert seen[3] in [("d", "restarting"), ("d", None)]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("failing", ["b", "c", "d"])
def test_one_of_several_that_fails_to_start_again_is_tried_again(
    any_family: Family, strategy: str, failing: str
) -> None:
    """S18: in the end all run, and those that were stopped have started in order."""
    sup = any_family.start("abcd", strategy=strategy, **PATIENT)
    any_family.fails_to_start(failing, times=2)
    any_family.journal.clear()
    crash(sup, "b")
    any_family.await_start("d")
    assert states(sup) == [(id, RUNNING) for id in "abcd"]
    lines = any_family.lines()
    last = {line: number for number, line in enumerate(lines)}
    starts = [last[f"start {id}"] for id in "bcd"]
    assert starts == sorted(starts)
    for id in "abcd":
        assert any_family.last_life(id) is child(sup, id)


def test_rest_for_one_tries_again_from_who_failed(any_family: Family) -> None:
    """S18: for rest_for_one, who failed is the first of the rest: earlier ones are left alone."""
    sup = any_family.start("abcd", strategy="rest_for_one", **PATIENT)
    any_family.fails_to_start("c", times=2)
    any_family.journal.clear()
    crash(sup, "b")
    any_family.await_start("d")
    expected = ["fail b", "stop d", "stop c", "start b", "start c", "start d"]
    assert any_family.lines() == expected


def test_one_for_all_tries_again_with_all(any_family: Family) -> None:
    """S18: for one_for_all, those that had started already are stopped before the next attempt."""
    sup = any_family.start("abc", strategy="one_for_all", **PATIENT)
    any_family.fails_to_start("b", times=1)
    any_family.journal.clear()
    crash(sup, "c")
    any_family.await_start("c")
    expected = ["fail c", "stop b", "stop a", "start a"]
    expected += ["stop a", "start a", "start b", "start c"]
    assert any_family.lines() == expected


def test_a_nested_supervisor_that_fails_to_start_again_is_tried_again(family: Family) -> None:
    """S18: a supervisor whose child fails has failed to start itself."""
    sup = family.start([Supervisor.child_spec(family.specs("ab"), id="inner")], **PATIENT)
    family.fails_to_start("b", times=2)
    family.journal.clear()
    child(sup, "inner").stop(timeout=LIMIT)
    family.await_start("b")
    assert states(sup) == [("inner", RUNNING)]
    failed = ["start a", "stop a"] * 2
    assert family.lines() == ["stop b", "stop a", *failed, "start a", "start b"]


def test_a_child_of_a_dynamic_supervisor_that_fails_to_start_again_is_tried_again(
    any_family: Family,
) -> None:
    """S18: a dynamic supervisor does so too."""
    sup = any_family.start_dynamic("ab", **PATIENT)
    seen = answered_between(any_family, sup, "a", lambda: states(sup))
    assert seen == [("a", "restarting"), ("b", RUNNING)]
    any_family.await_start("a", count=2)
    assert states(sup) == [("a", RUNNING), ("b", RUNNING)]


# 19


def _grow(family: Family, **options: Any) -> Any:
    sup = family.start("ab", **options)
    for spec in family.specs("cd"):
        Supervisor.start_child(sup, spec, timeout=LIMIT)
    family.journal.clear()
    return sup


def test_children_that_are_added_come_last(any_family: Family) -> None:
    """S19: order holds for children added later: in lists."""
    sup = _grow(any_family)
    assert [id for id, _ in states(sup)] == ["a", "b", "c", "d"]


def test_children_that_were_added_stop_first(any_family: Family) -> None:
    """S19: at the stop of the supervisor."""
    sup = _grow(any_family)
    Supervisor.stop(sup, timeout=LIMIT)
    assert any_family.lines() == ["stop d", "stop c", "stop b", "stop a"]


def test_children_that_were_added_are_restarted_with_the_others(any_family: Family) -> None:
    """S19: in strategies."""
    sup = _grow(any_family, strategy="rest_for_one")
    crash(sup, "c")
    children(sup)
    assert any_family.lines() == ["fail c", "stop d", "start c", "start d"]
    any_family.journal.clear()
    crash(sup, "b")
    children(sup)
    expected = ["fail b", "stop d", "stop c", "start b", "start c", "start d"]
    assert any_family.lines() == expected


def test_a_child_that_is_restarted_by_hand_keeps_its_place(any_family: Family) -> None:
    """S19: its place is that of its spec."""
    sup = _grow(any_family)
    Supervisor.terminate_child(sup, "b", timeout=LIMIT)
    Supervisor.restart_child(sup, "b", timeout=LIMIT)
    any_family.journal.clear()
    Supervisor.stop(sup, timeout=LIMIT)
    assert any_family.lines() == ["stop d", "stop c", "stop b", "stop a"]


def test_a_child_that_was_deleted_and_added_again_comes_last(any_family: Family) -> None:
    """S19: a new spec is a later one."""
    sup = _grow(any_family)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.delete_child(sup, "a", timeout=LIMIT)
    Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert [id for id, _ in states(sup)] == ["b", "c", "d", "a"]


def test_a_child_that_declined_keeps_its_place(any_family: Family) -> None:
    """S19: one that was without an actor as well."""
    any_family.script("a").at("start", raising(Ignore()))
    sup = any_family.start("abc", strategy="one_for_all")
    any_family.journal.clear()
    crash(sup, "b")
    children(sup)
    assert any_family.lines() == ["fail b", "stop c", "start a", "start b", "start c"]
