"""What all supervisors do: start children, learn of their ends, start them again, stop them.

Knows a supervisor's children and carries out what `decision` and `intensity` say. Must not know
what children do, nor how they are named and added: that is what `supervisor` and `dynamic` differ
in.

The supervisor is one process, and does one thing after the other, as OTP's does: while it starts a
child, or waits for one to end, nobody is answered. So each change is seen whole or not at all.
Only the order to stop overtakes what waits in its mailbox (S57).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pykka

from exraft.actors import fence, starting
from exraft.actors.ending import kill, send
from exraft.actors.exits import Exit, ExitSignal, Ignore, Order, is_orderly, is_shutdown
from exraft.actors.future import OneLockFuture
from exraft.actors.lineage import Lineage
from exraft.actors.process import Process
from exraft.actors.watching import Down, watch_child
from exraft.child_spec import ChildSpec, ChildType, Shutdown
from exraft.errors import SelfCall, StartFailed
from exraft.supervision import reports
from exraft.supervision.arguments import own_start
from exraft.supervision.decision import AutoShutdown, Strategy, after_exit, restart
from exraft.supervision.intensity import Intensity

logger = logging.getLogger("exraft.supervision")

Started: TypeAlias = pykka.ActorRef[Any] | None
"""A child that was started; `None` if it declined."""


class Listed(NamedTuple):
    """One line of `which_children`; equal to the plain tuple."""

    id: str
    ref: pykka.ActorRef[Any] | Literal["restarting"] | None
    """The actor; `"restarting"` if it is to be started again; `None` if it is stopped."""
    type: ChildType


class Counts(NamedTuple):
    """What `count_children` counts: specs, those of them that run, and specs by type."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Seen(NamedTuple):
    """What a supervisor knows of a child, at the moment when it is asked; see `Child`."""

    spec: ChildSpec
    ref: pykka.ActorRef[Any] | None
    restarting: bool
    restarts: int
    since: float


@dataclass(frozen=True, slots=True)
class Options:
    """How a supervisor supervises; see `Supervisor.start` for the meaning."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    name: str | None = None
    on_end: Callable[[], object] | None = None


BY_SPEC: Final = "by_spec"

ON_END_PATIENCE: Final = 1.0
"""Seconds that `on_end` is waited for when its supervisor is killed."""


class Stop:
    """Ends a supervisor with `reason`, past what waits in its mailbox (S33, S57).

    Its children are ordered to end with `for_children`, and get `patience` seconds each (None: as
    long as they take) instead of what their specs say, if it is given. `everyone`: see `Order`.
    """

    __slots__ = ("everyone", "for_children", "patience", "reason")

    urgent = True

    def __init__(
        self,
        reason: object,
        for_children: object = "shutdown",
        patience: float | None | Literal["by_spec"] = BY_SPEC,
        *,
        everyone: bool = False,
    ) -> None:
        self.reason = reason
        self.for_children = for_children
        self.patience = patience
        self.everyone = everyone


class Child:
    """A child as its supervisor knows it, over all its lives."""

    __slots__ = ("attempt", "ended", "key", "ref", "restarting", "restarts", "since", "spec")

    def __init__(self, key: Hashable, spec: ChildSpec) -> None:
        self.key = key
        self.spec = spec
        self.ref: pykka.ActorRef[Any] | None = None
        self.restarting = False
        """Whether it is to be started again, by an attempt to come."""
        self.attempt: _Attempt | None = None
        self.restarts = 0
        """How often it was started after the first time, failed attempts included."""
        self.since = 0.0
        """When its present life began, on the clock of `time.monotonic()`."""
        self.ended: OneLockFuture[Down] = OneLockFuture()
        """The end of its present life."""

    @property
    def present(self) -> bool:
        return self.ref is not None or self.restarting

    def listed(self) -> Listed:
        return Listed(self.spec.id, "restarting" if self.restarting else self.ref, self.spec.type)


class _Attempt:
    """The next attempt to start a child that failed to start, after the messages that wait."""

    __slots__ = ("child", "reason")

    def __init__(self, child: Child, reason: object) -> None:
        self.child = child
        self.reason = reason


class Supervising(Process):
    """The base of supervisors: a process that has children."""

    called = "supervisor"
    """What users know its kind as."""

    # As OTP's: signals of strangers, and of processes that it is linked to, mean nothing (S13).
    trap_exit = True

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.began = monotonic()
        """When it was started, on the clock of `time.monotonic()`."""
        self._intensity = Intensity(options.max_restarts, options.max_seconds)
        self._children: dict[Hashable, Child] = {}
        """In start order."""
        self._by_ref: dict[pykka.ActorRef[Any], Child] = {}
        self._on_end: list[Callable[[], object]] = []
        """Whom to tell when it ends; nobody before it has begun."""
        self._order: Order | Stop | None = None
        """What ends it, if somebody asked."""
        self._ending = False

    def __str__(self) -> str:
        return self.options.name or super().__str__()

    # Its life.

    def on_start(self) -> None:
        if self.options.name is not None:
            self.register(self.options.name)
        if self.options.on_end is not None:
            self._on_end.append(self.options.on_end)
        if self.ancestors:
            # One that was started in a process ends with it (OTP: start_link). A supervisor sees to
            # that itself; a worker that has started one, and crashes, does not.
            self.monitor(self.ancestors[0])
        try:
            self.start_children()
        except BaseException:
            self._end_children()
            raise

    def start_children(self) -> None:
        """Start those that are there from the beginning; raising ends the supervisor."""

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Down):
            if self.ancestors and message.ref is self.ancestors[0]:
                raise Exit("shutdown")
            self._has_ended(message)
        elif isinstance(message, _Attempt):
            self._attempt(message)
        elif isinstance(message, Stop):
            self._order = message
            raise Exit(message.reason)
        elif isinstance(message, ExitSignal):
            logger.debug("%s takes no notice of %r", self, message)
        else:
            return super().on_receive(message)
        return None

    def on_order(self, order: Order) -> None:
        self._order = order
        super().on_order(order)

    def run(self) -> None:
        try:
            super().run()
        finally:
            # Before it is dead to others: who looks for it meanwhile, to stop it for instance,
            # finds it, and waits for its end.
            self._end_children()

    def _end_children(self) -> None:
        """Whatever ends a supervisor, its children end before it (S34)."""
        self._ending = True
        self.stop_children()
        self._let_go()

    def stop_children(self) -> None:
        """Stop them all."""
        raise NotImplementedError

    def _let_go(self) -> None:
        # Once, by whoever comes first: the supervisor, or who gives it up.
        try:
            on_end = self._on_end.pop()
        except IndexError:
            return
        try:
            on_end()
        except BaseException:
            logger.exception("on_end of %s failed:", self)

    def left_behind(self) -> None:
        """Nobody is left to wait for its children, and a successor may start others at once."""
        super().left_behind()
        children = [child.ref for child in list(self._children.values())]
        # The last of them may have started just now, and not be known as a child yet.
        for ref in [*children, self.last_started]:
            if ref is not None:
                kill(ref)
        # Beside this thread: who gives a supervisor up does not wait for what may hang itself.
        closing = threading.Thread(target=self._let_go, name=f"on_end of {self}", daemon=True)
        closing.start()
        closing.join(ON_END_PATIENCE)

    # Starting.

    def begin(self, child: Child) -> None:
        """Start a child; without an actor if it declines (S6).

        Raises:
            StartFailed: named for the child, with its reason.
        """
        spec = child.spec
        _, args, kwargs = own_start(spec.start)
        child.restarting = False
        child.attempt = None
        function: Callable[..., Any] | None = None
        try:
            function = spec.start_function()
            ref = starting.start(function, *args, **kwargs)
            if ref in self._by_ref:
                raise StartFailed(spec.id, f"{ref} is a child of this supervisor already")
        except Ignore:
            self.declined(child)
            return
        except StartFailed as error:
            failure = _named(spec, function, error)
        except Exception as error:  # The function's name can't be resolved.
            failure = StartFailed(spec.id, error)
        else:
            child.ref = ref
            child.since = monotonic()
            child.ended = OneLockFuture()
            self._by_ref[ref] = child
            watch_child(ref, partial(_tell, child.ended, self.actor_inbox))
            if self.killed:
                # Who gave it up could not know of it yet.
                with fence.lifted():
                    kill(ref)
            reports.started(str(self), spec)
            return
        raise failure

    def add(self, child: Child) -> Started:
        """Start a child that is new; its spec is kept if it could be started (S44).

        Raises:
            StartFailed: it could not.
        """
        self._children[child.key] = child
        try:
            self.begin(child)
        except BaseException:
            self.forget(child)
            raise
        return child.ref

    def declined(self, child: Child) -> None:
        """A child has nothing to start: its spec stays without an actor, a temporary one's goes."""
        if child.spec.restart == "temporary":
            self.forget(child)

    def forget(self, child: Child) -> None:
        """Its spec goes."""
        self._children.pop(child.key, None)

    # Ends, and what follows from them.

    def _has_ended(self, down: Down) -> None:
        child = self._by_ref.pop(down.ref, None)
        if child is None:
            # A stranger, or one whose end was asked for and waited for (S13).
            return
        child.ref = None
        reason = down.reason
        follows = after_exit(
            child,
            self._children.values(),
            orderly=is_orderly(reason),
            auto_shutdown=self.options.auto_shutdown,
        )
        if follows.report:
            reports.child_terminated(str(self), child.spec, reason, restarts=follows.restart)
        if follows.drop:
            self.forget(child)
        if follows.restart:
            self._restart(child, reason)
        else:
            self.ended_for_good(child)
        if follows.end:
            reports.auto_shutdown(str(self), child.spec)
            raise Exit("shutdown")

    def ended_for_good(self, child: Child) -> None:
        """A child has ended and is not started again."""

    def _restart(self, child: Child, reason: object) -> None:
        """Restart `child`, and whom the strategy restarts with it, if that is not too often."""
        options = self.options
        if not self._intensity.allows(monotonic()):
            child.restarting = False
            reports.gave_up(
                str(self), child.spec, reason, options.max_restarts, options.max_seconds
            )
            raise Exit("shutdown")
        plan = restart(child, self._children.values(), options.strategy)
        for other in plan.stop:
            self.stop_child(other)
        for other in plan.drop:
            self.forget(other)
        for other in plan.start:
            # If one fails, the others wait for the next attempt with it.
            other.restarting = True
        for other in plan.start:
            other.restarts += 1
            try:
                self.begin(other)
            except StartFailed as error:
                # One further down is named in the error.
                why = error.cause if error.name == other.spec.id else error
                reports.start_failed(str(self), other.spec, why)
                other.restarting = True
                self._attempt_later(other, error.cause)
                return

    def _attempt_later(self, child: Child, reason: object) -> None:
        # Not in this turn: between two attempts it still answers, a stop for instance (S24).
        child.attempt = _Attempt(child, reason)
        self.actor_inbox.put(child.attempt)

    def _attempt(self, attempt: _Attempt) -> None:
        child = attempt.child
        if child.attempt is attempt:
            self._restart(child, attempt.reason)

    def go_on(self) -> None:
        """An attempt was given up: those that waited for it must not wait for ever."""
        waiting = [child for child in self._children.values() if child.restarting]
        if waiting and all(child.attempt is None for child in waiting):
            self._attempt_later(waiting[0], "its sibling was stopped")

    # Stopping.

    def terminate(self, child: Child, caller: Lineage) -> None:
        """Stop one child for an administrator.

        Raises:
            SelfCall: the caller is that child, or somewhere below it.
        """
        if child.ref in caller:
            raise SelfCall(
                f"{child.spec.id!r} can't be terminated from within, as it would be waited for: let"
                " it raise Exit, or another thread terminate it"
            )
        self.stop_child(child)

    def stop_child(self, child: Child) -> None:
        """Stop one child, whatever it takes, and report it if it ended otherwise (S28 to S32)."""
        self.ask_to_end(child)
        self.await_end(child)

    def ask_to_end(self, child: Child) -> None:
        child.restarting = False
        child.attempt = None
        ref = child.ref
        if ref is None:
            return
        reason, patience = self._terms(child)
        if patience == "brutal_kill":
            kill(ref)
        else:
            send(ref, Order(reason, patience, everyone=self._everyone_ends()))

    def await_end(self, child: Child, since: float | None = None) -> None:
        """Wait for its end, as long as its spec says from `since` on; then give it up."""
        ref = child.ref
        if ref is None:
            return
        reason, patience = self._terms(child)
        if patience == "brutal_kill" or patience is None:
            limit = None
        else:
            limit = patience if since is None else max(0.0, since + patience - monotonic())
        given_up: float | None = None
        try:
            down = child.ended.get(timeout=limit)
        except pykka.Timeout:
            kill(ref)
            # Unless it has ended at the last moment: its own reason counts then.
            down = child.ended.get()
            given_up = None if isinstance(patience, str) else patience
        self._by_ref.pop(ref, None)
        child.ref = None
        # Who was given up itself has nothing to report any more.
        if not self.killed and not _as_asked(child.spec, reason, patience, down.reason):
            reports.ended_otherwise(str(self), child.spec, down.reason, given_up)

    def patience(self, child: Child) -> float:
        """Seconds that a child is waited for when it is stopped."""
        patience = self._terms(child)[1]
        if patience == "brutal_kill":
            return 0.0
        return math.inf if patience is None else patience

    def _everyone_ends(self) -> bool:
        """Whether it ends, and nobody said that others go on: as Pykka's `stop_all()` does."""
        if self._order is not None:
            return self._order.everyone
        return self._ending

    def _terms(self, child: Child) -> tuple[object, Shutdown]:
        """The reason that a child is told, and how long it is waited for."""
        order = self._order
        patience = child.spec.shutdown
        if isinstance(order, Stop):
            # A child without patience is without it, whoever stops its supervisor.
            if order.patience != BY_SPEC and patience != "brutal_kill":
                patience = order.patience
            return order.for_children, patience
        if order is not None and order.patience is not None and patience != "brutal_kill":
            # The supervisor itself is given up then: no child has longer.
            patience = order.patience if patience is None else min(patience, order.patience)
        return "shutdown", patience

    # What administrators ask.

    def which_children(self) -> list[Listed]:
        return [child.listed() for child in self._children.values()]

    def count_children(self) -> Counts:
        children = self._children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return Counts(
            specs=len(children),
            active=len(self._by_ref),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    def running(self) -> list[pykka.ActorRef[Any]]:
        """Those of its children that run; for any thread, a moment's value."""
        return list(self._by_ref)

    def specs(self) -> list[ChildSpec]:
        """Its children's specs, of those too that do not run; for any thread, a moment's value."""
        return [child.spec for child in list(self._children.values())]

    def look(self) -> list[Seen]:
        """Return how its children fare, in start order, for a look at the tree."""
        return [
            Seen(child.spec, child.ref, child.restarting, child.restarts, child.since)
            for child in self._children.values()
        ]


def _tell(ended: OneLockFuture[Down], mailbox: Any, down: Down) -> None:
    ended.set(down)
    mailbox.put(down)


def _named(spec: ChildSpec, function: object, error: StartFailed) -> StartFailed:
    """The failure of a start, named for the child; of one further down, for the way to it."""
    if error.name in (spec.id, starting.name_of(function)):
        return StartFailed(spec.id, error.cause)
    return StartFailed(f"{spec.id} > {error.name}", error.cause)


def _as_asked(spec: ChildSpec, wanted: object, patience: Shutdown, reason: object) -> bool:
    if patience == "brutal_kill":
        return isinstance(reason, str) and reason == "killed"
    if reason is wanted or is_shutdown(reason):
        return True
    # OTP supervisor: do_terminate. One that need not run may have ended by itself just now.
    return is_orderly(reason) and spec.restart != "permanent"
