"""What follows from the exit of a child: from the children as they are to what is stopped and
started.

Knows restart types, strategies and auto-shutdown as OTP's `supervisor.erl` has them; the numbers
S1 to S57 are those of docs/supervision.md. Must not know actors, clocks or the log: so it can be
tested alone.

A child ends, and `after_exit` says what that means: to tell the log, to forget the child, to end
the supervisor, or to restart. A restart must be allowed by the intensity first; then `restart` says
who is stopped and who is started. If one of those fails to start, it is the child of the next
attempt, to which the same applies: the intensity first, then `restart`.

Only exits that the supervisor has not asked for come here. So a child that is stopped by a strategy
(S36), by `terminate_child` (S27, S39) or with its supervisor (S56) counts for nothing and triggers
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import dropwhile
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from exraft.child_spec import ChildSpec

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Who is restarted with a child."""
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""Whose end for good ends the supervisor."""


class Member(Protocol):
    """What a decision reads of a child."""

    @property
    def spec(self) -> ChildSpec: ...

    @property
    def present(self) -> bool:
        """Whether it runs, or is to be started again (OTP: its pid is not `undefined`)."""


C = TypeVar("C", bound=Member)


@dataclass(frozen=True, slots=True)
class AfterExit:
    """What follows from one exit (OTP supervisor: do_restart).

    Attributes:
        report: the log is told (S53).
        restart: the strategy restarts, if the intensity allows it.
        drop: the child's spec goes; otherwise it stays, without an actor if not restarted.
        end: the supervisor ends with `shutdown`.
    """

    report: bool
    restart: bool
    drop: bool
    end: bool


def after_exit(
    child: Member, children: Iterable[Member], *, orderly: bool, auto_shutdown: AutoShutdown
) -> AfterExit:
    """Judge an exit that the supervisor has not asked for.

    Args:
        child: who has ended.
        children: the supervisor's children, with or without `child`; looked at only for
            `all_significant`, and only when a significant child has ended for good.
        orderly: whether the reason was `normal`, `shutdown` or `("shutdown", term)`.
        auto_shutdown: the supervisor's.
    """
    kind = child.spec.restart
    restarts = kind == "permanent" or (kind == "transient" and not orderly)
    return AfterExit(
        report=kind == "permanent" or not orderly,
        restart=restarts,
        drop=kind == "temporary",
        end=not restarts and _ends_supervisor(child, children, auto_shutdown),
    )


def _ends_supervisor(
    child: Member, children: Iterable[Member], auto_shutdown: AutoShutdown
) -> bool:
    """OTP supervisor: do_auto_shutdown, for a child that has ended for good."""
    if auto_shutdown == "never" or not child.spec.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    # Who is to be started again counts as there; who was stopped, or declined to start, does not.
    return not any(
        other.present and other.spec.significant for other in children if other is not child
    )


@dataclass(frozen=True, slots=True)
class RestartPlan(Generic[C]):
    """How a strategy restarts: what is done, in this order.

    Attributes:
        stop: who is stopped first, one after the other: in reverse start order. Holds whoever is
            `present`, so also one that has no actor but was to be started again.
        drop: those whose specs go then, as they are temporary (S17).
        start: who is started then, one after the other. The child itself is among them.
    """

    stop: tuple[C, ...]
    drop: tuple[C, ...]
    start: tuple[C, ...]


def restart(child: C, children: Iterable[C], strategy: Strategy) -> RestartPlan[C]:
    """Say how `child` is restarted, and who with it (OTP supervisor: restart).

    Args:
        child: who is to be started again, and has no actor.
        children: all of the supervisor's children in start order, `child` included (S19);
            `one_for_one` doesn't look at them.
        strategy: the supervisor's.
    """
    if strategy == "one_for_one":
        return RestartPlan((), (), (child,))
    if strategy == "rest_for_one":
        children = dropwhile(lambda one: one is not child, children)
    affected = tuple(children)
    return RestartPlan(
        stop=tuple(one for one in reversed(affected) if one is not child and one.present),
        drop=tuple(one for one in affected if one.spec.restart == "temporary"),
        # All of them, as in OTP (restart_multiple_children: start_children): a sibling that was
        # stopped by terminate_child, has declined, or has ended for good is started here as well.
        start=tuple(one for one in affected if one.spec.restart != "temporary"),
    )
