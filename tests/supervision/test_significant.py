"""Children whose end ends their supervisor."""

from __future__ import annotations

from typing import Any

import pytest

from exraft.supervision import SpecError, Supervisor
from tests.helpers import LIMIT
from tests.supervision.family import (
    Boom,
    Family,
    Plain,
    Ref,
    Watch,
    Worker,
    a_family_of,
    child,
    crash,
    leave,
    states,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)

ANY = "any_significant"
ALL = "all_significant"


def _start(
    family: Family, restart: str, auto_shutdown: str = ANY, significant: str = "b", **options: Any
) -> Ref:
    """Children a, b and c, of which some are significant, and of that restart type."""
    specs = [
        family.spec(id, restart=restart, significant=True) if id in significant else family.spec(id)
        for id in "abc"
    ]
    return family.start(specs, auto_shutdown=auto_shutdown, **options)


# 35


@pytest.mark.parametrize(
    ("restart", "reason"),
    [
        ("transient", "normal"),
        ("transient", "shutdown"),
        ("transient", ("shutdown", "done")),
        ("temporary", "normal"),
        ("temporary", "shutdown"),
        ("temporary", "because"),
        ("temporary", Boom("boom")),
    ],
    ids=repr,
)
def test_the_end_of_a_significant_child_stops_the_supervisor(
    family: Family, restart: str, reason: object
) -> None:
    """S35: any_significant: a transient one's orderly exit, or a temporary one's any exit."""
    sup = _start(family, restart)
    told = Watch(sup)
    leave(sup, "b", reason)
    assert told.reason() == "shutdown"


@pytest.mark.parametrize(
    ("restart", "reason"), [("transient", "normal"), ("temporary", Boom("boom"))], ids=repr
)
def test_the_others_stop_in_reverse(any_family: Family, restart: str, reason: object) -> None:
    """S35: it stops with `shutdown`, after its children in reverse."""
    sup = _start(any_family, restart)
    told = Watch(sup)
    leave(sup, "b", reason)
    assert told.reason() == "shutdown"
    lines = any_family.lines()
    assert lines[:3] == ["start a", "start b", "start c"]
    assert lines[4:] == ["stop c", "stop a"]


def test_a_significant_supervisor_is_such_a_child_too(family: Family) -> None:
    """S35: a supervisor may be significant to the one above it."""
    inner = Supervisor.child_spec(
        family.specs("b"), id="inner", restart="transient", significant=True
    )
    sup = family.start([family.spec("a"), inner], auto_shutdown=ANY)
    told = Watch(sup)
    child(sup, "inner").stop(timeout=LIMIT)
    assert told.reason() == "shutdown"
    assert family.lines()[2:] == ["stop b", "stop a"]


def test_an_end_that_is_significant_passes_up_the_tree(family: Family) -> None:
    """S35: the `shutdown` of one that ends so is an orderly end to the next."""
    innermost = family.spec("a", restart="transient", significant=True)
    inner = Supervisor.child_spec(
        [innermost], id="inner", restart="transient", significant=True, auto_shutdown=ANY
    )
    sup = family.start([inner], auto_shutdown=ANY)
    told = Watch(sup)
    leave(child(sup, "inner"), "a", "normal")
    assert told.reason() == "shutdown"


def test_the_end_of_another_child_stops_nobody(any_family: Family) -> None:
    """S35: only significant ones count."""
    specs = [
        any_family.spec("a", restart="transient", significant=True),
        any_family.spec("b", restart="transient"),
        any_family.spec("c", restart="temporary"),
    ]
    sup = any_family.start(specs, auto_shutdown=ANY)
    leave(sup, "b", "normal")
    crash(sup, "c")
    assert states(sup) == [("a", "running"), ("b", None)]


# 36


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize("reason", [Boom("boom"), SystemExit(1)], ids=repr)
def test_the_failure_of_a_significant_transient_child_is_mended(
    any_family: Family, auto_shutdown: str, reason: object
) -> None:
    """S36: a transient one's abnormal exit restarts it."""
    sup = _start(any_family, "transient", auto_shutdown)
    leave(sup, "b", reason)
    assert states(sup) == [(id, "running") for id in "abc"]
    assert any_family.attempts("b") == 2


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_sibling_that_a_strategy_stops_triggers_nothing(
    any_family: Family, restart: str, strategy: str, auto_shutdown: str
) -> None:
    """S36: a sibling stopped by a strategy triggers nothing."""
    sup = _start(any_family, restart, auto_shutdown, strategy=strategy)
    crash(sup, "a")
    left = [id for id in "abc" if restart == "transient" or id != "b"]
    assert states(sup) == [(id, "running") for id in left]


# 37


@pytest.mark.parametrize(
    ("restart", "reason"), [("transient", "normal"), ("temporary", Boom("boom"))], ids=repr
)
def test_only_the_end_of_the_last_significant_child_stops_the_supervisor(
    any_family: Family, restart: str, reason: object
) -> None:
    """S37: all_significant: only the last one stops it."""
    sup = _start(any_family, restart, ALL, significant="ab")
    told = Watch(sup)
    leave(sup, "b", reason)
    assert ("a", "running") in states(sup)
    assert ("c", "running") in states(sup)
    leave(sup, "a", reason)
    assert told.reason() == "shutdown"
    assert any_family.lines()[-1] == "stop c"


def test_one_that_was_started_again_by_hand_counts_again(any_family: Family) -> None:
    """S37: what counts is who is left at the end."""
    sup = _start(any_family, "transient", ALL, significant="ab")
    told = Watch(sup)
    leave(sup, "b", "normal")
    Supervisor.restart_child(sup, "b", timeout=LIMIT)
    leave(sup, "a", "normal")
    assert states(sup) == [("a", None), ("b", "running"), ("c", "running")]
    leave(sup, "b", "normal")
    assert told.reason() == "shutdown"


# 38


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
def test_a_significant_child_that_is_permanent_is_refused(
    family: Family, auto_shutdown: str
) -> None:
    """S38: significant with permanent: refused, before anything starts."""
    odd = family.spec("odd", significant=True)
    with pytest.raises(SpecError, match="'odd'.*significant.*permanent") as caught:
        family.start([family.spec("a"), odd], auto_shutdown=auto_shutdown)
    assert (caught.value.child, caught.value.field) == ("odd", "significant")
    assert family.attempts("a") == 0


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_of_a_supervisor_without_auto_shutdown_is_refused(
    family: Family, restart: str
) -> None:
    """S38: or without auto_shutdown: refused, before anything starts."""
    odd = family.spec("odd", significant=True, restart=restart)
    with pytest.raises(SpecError, match="'odd'.*significant.*auto_shutdown"):
        family.start([family.spec("a"), odd])
    assert family.attempts("a") == 0


def test_a_significant_child_that_is_added_is_checked_alike(family: Family) -> None:
    """S38: by `start_child` too."""
    never, any_one = family.start(), family.start(auto_shutdown=ANY)
    with pytest.raises(SpecError, match="auto_shutdown"):
        Supervisor.start_child(
            never, family.spec("odd", significant=True, restart="transient"), timeout=LIMIT
        )
    with pytest.raises(SpecError, match="permanent"):
        Supervisor.start_child(any_one, family.spec("odd", significant=True), timeout=LIMIT)
    assert family.attempts("odd") == 0


def test_a_nested_supervisor_is_checked_against_the_one_above_it(family: Family) -> None:
    """S38: a significant supervisor needs auto_shutdown of the one above, not of its own."""
    inner = Supervisor.child_spec(
        id="inner", restart="transient", significant=True, auto_shutdown=ANY
    )
    with pytest.raises(SpecError, match="'inner'.*significant"):
        family.start([inner])


# 39


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_terminating_a_significant_child_triggers_nothing(
    any_family: Family, restart: str, auto_shutdown: str
) -> None:
    """S39: `terminate_child` doesn't trigger it."""
    sup = _start(any_family, restart, auto_shutdown)
    Supervisor.terminate_child(sup, "b", timeout=LIMIT)
    left = dict(states(sup))
    assert left.pop("b", None) is None
    assert left == {"a": "running", "c": "running"}


def test_one_that_was_terminated_is_not_waited_for(any_family: Family) -> None:
    """S39: but the last one that is left is the last one then."""
    sup = _start(any_family, "transient", ALL, significant="ab")
    told = Watch(sup)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    leave(sup, "b", "normal")
    assert told.reason() == "shutdown"
