"""What follows from an exit, and who is restarted with whom: no actors, no clocks.

S1 to S57 are the numbers of docs/supervision.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from exraft.child_spec import ChildSpec
from exraft.child_spec import Restart as RestartType
from exraft.supervision.decision import (
    AfterExit,
    AutoShutdown,
    RestartPlan,
    Strategy,
    after_exit,
    restart,
)

both = pytest.mark.parametrize("orderly", [True, False])


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    spec: ChildSpec
    present: bool = True

    def __repr__(self) -> str:
        return self.spec.id


def a_child(
    id: str,
    restart: RestartType = "permanent",
    *,
    significant: bool = False,
    present: bool = True,
) -> Child:
    return Child(ChildSpec(id, ("m:f", (), {}), restart, significant=significant), present)


def never_looked_at() -> Iterator[Child]:
    raise AssertionError("the siblings were looked at")
    yield


def judge(
    child: Child, *siblings: Child, orderly: bool, auto_shutdown: AutoShutdown = "never"
) -> AfterExit:
    return after_exit(child, siblings, orderly=orderly, auto_shutdown=auto_shutdown)


# Restart types.


@both
def test_a_permanent_child_is_restarted_and_reported_whatever_the_reason(orderly: bool) -> None:
    """S9, S53."""
    verdict = judge(a_child("a"), orderly=orderly)
    assert verdict == AfterExit(report=True, restart=True, drop=False, end=False)


def test_a_transient_child_is_restarted_and_reported_after_a_failure() -> None:
    """S10, S53."""
    verdict = judge(a_child("a", "transient"), orderly=False)
    assert verdict == AfterExit(report=True, restart=True, drop=False, end=False)


def test_a_transient_child_that_ended_well_keeps_its_spec_and_is_not_reported() -> None:
    """S10, S53."""
    verdict = judge(a_child("a", "transient"), orderly=True)
    assert verdict == AfterExit(report=False, restart=False, drop=False, end=False)


@both
def test_a_temporary_child_is_never_restarted_and_its_spec_goes(orderly: bool) -> None:
    """S11, S53."""
    verdict = judge(a_child("a", "temporary"), orderly=orderly)
    assert verdict == AfterExit(report=not orderly, restart=False, drop=True, end=False)


# Auto-shutdown.


@pytest.mark.parametrize(
    ("kind", "orderly", "ends"),
    [
        ("transient", True, True),
        ("transient", False, False),
        ("temporary", True, True),
        ("temporary", False, True),
    ],
)
def test_with_any_significant_one_that_ended_for_good_ends_the_supervisor(
    kind: RestartType, orderly: bool, ends: bool
) -> None:
    """S35, S36."""
    child = a_child("a", kind, significant=True)
    sibling = a_child("b", "transient", significant=True)
    verdict = judge(child, sibling, orderly=orderly, auto_shutdown="any_significant")
    assert verdict.end is ends
    assert verdict.restart is not ends


@pytest.mark.parametrize("auto_shutdown", ["never", "any_significant", "all_significant"])
def test_a_child_that_is_not_significant_ends_nobody(auto_shutdown: AutoShutdown) -> None:
    """S35."""
    verdict = judge(a_child("a", "temporary"), orderly=True, auto_shutdown=auto_shutdown)
    assert not verdict.end


def test_without_auto_shutdown_a_significant_child_ends_nobody() -> None:
    child = a_child("a", "temporary", significant=True)
    assert not judge(child, orderly=True, auto_shutdown="never").end


def test_with_all_significant_only_the_last_one_ends_the_supervisor() -> None:
    """S37."""
    child = a_child("a", "temporary", significant=True)
    other = a_child("b", "transient", significant=True)
    assert not judge(child, other, orderly=True, auto_shutdown="all_significant").end
    assert judge(child, orderly=True, auto_shutdown="all_significant").end


def test_with_all_significant_only_significant_siblings_hold_the_supervisor() -> None:
    """S37."""
    child = a_child("a", "temporary", significant=True)
    others = [a_child("b"), a_child("c", "transient"), a_child("d", "temporary")]
    assert judge(child, *others, orderly=True, auto_shutdown="all_significant").end


def test_with_all_significant_a_sibling_without_an_actor_counts_as_ended() -> None:
    """S37; it ended well, was stopped by terminate_child (S39), or declined to start."""
    child = a_child("a", "temporary", significant=True)
    gone = a_child("b", "transient", significant=True, present=False)
    assert judge(child, gone, orderly=True, auto_shutdown="all_significant").end


def test_the_child_itself_may_be_among_the_children_and_does_not_hold_the_supervisor() -> None:
    """S37."""
    child = a_child("a", "transient", significant=True)
    assert judge(a_child("b"), child, orderly=True, auto_shutdown="all_significant").end is False
    assert judge(child, child, orderly=True, auto_shutdown="all_significant").end


def test_with_all_significant_a_failure_of_the_last_one_restarts_it() -> None:
    """S36."""
    child = a_child("a", "transient", significant=True)
    verdict = judge(child, orderly=False, auto_shutdown="all_significant")
    assert (verdict.restart, verdict.end) == (True, False)


@pytest.mark.parametrize(
    ("kind", "significant", "auto_shutdown"),
    [
        ("temporary", True, "never"),
        ("temporary", True, "any_significant"),
        ("temporary", False, "all_significant"),
        ("permanent", False, "all_significant"),
    ],
)
def test_siblings_are_looked_at_only_for_the_last_significant_one(
    kind: RestartType, significant: bool, auto_shutdown: AutoShutdown
) -> None:
    child = a_child("a", kind, significant=significant)
    after_exit(child, never_looked_at(), orderly=True, auto_shutdown=auto_shutdown)


# Strategies.


def ids(*groups: tuple[Child, ...]) -> list[str]:
    return ["".join(child.spec.id for child in group) for group in groups]


def plan(strategy: Strategy, of: str, *children: Child) -> list[str]:
    """The ids of who is stopped, dropped, started, when the child called `of` is restarted."""
    child = next(child for child in children if child.spec.id == of)
    result = restart(child, children, strategy)
    return ids(result.stop, result.drop, result.start)


def test_one_for_one_restarts_the_child_alone_and_looks_at_nobody_else() -> None:
    """S14."""
    child = a_child("a")
    assert restart(child, never_looked_at(), "one_for_one") == RestartPlan((), (), (child,))


@pytest.mark.parametrize("of", "abcd")
def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order(of: str) -> None:
    """S15."""
    children = [a_child("a"), a_child("b", "transient"), a_child("c"), a_child("d")]
    assert plan("one_for_all", of, *children) == ["dcba".replace(of, ""), "", "abcd"]


@pytest.mark.parametrize(
    ("of", "stopped", "started"),
    [("a", "dcb", "abcd"), ("b", "dc", "bcd"), ("c", "d", "cd"), ("d", "", "d")],
)
def test_rest_for_one_touches_the_child_and_the_later_ones(
    of: str, stopped: str, started: str
) -> None:
    """S16."""
    children = [a_child("a"), a_child("b", "transient"), a_child("c"), a_child("d")]
    assert plan("rest_for_one", of, *children) == [stopped, "", started]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("one_for_all", ["dca", "ad", "bc"]), ("rest_for_one", ["dc", "d", "bc"])],
)
def test_a_temporary_sibling_is_stopped_and_not_started_again(
    strategy: Strategy, expected: list[str]
) -> None:
    """S17."""
    children = [a_child("a", "temporary"), a_child("b"), a_child("c"), a_child("d", "temporary")]
    assert plan(strategy, "b", *children) == expected


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_sibling_without_an_actor_is_not_stopped_but_started(strategy: Strategy) -> None:
    """As in OTP, where start_children asks nobody why it had no pid."""
    children = [a_child("a"), a_child("b", "transient", present=False), a_child("c")]
    assert plan(strategy, "a", *children) == ["c", "", "abc"]


def test_the_next_attempt_starts_from_the_one_that_failed_to_start() -> None:
    """S18: with rest_for_one, those before it were started and stay."""
    children = [a_child("a"), a_child("b"), a_child("c"), a_child("d", present=False)]
    assert plan("rest_for_one", "c", *children) == ["", "", "cd"]


def test_the_next_attempt_of_one_for_all_stops_those_that_were_started() -> None:
    """S18."""
    children = [a_child("a"), a_child("b"), a_child("c", present=False)]
    assert plan("one_for_all", "b", *children) == ["a", "", "abc"]
