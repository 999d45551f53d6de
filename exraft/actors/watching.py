"""Who wants to know that a process has ended: monitors, as in OTP.

Knows the watchers of one process and that each is told exactly once; must not know what
makes a process end, or what a watcher does with the news.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import pykka

logger = logging.getLogger("exraft.actors")

A = TypeVar("A", bound=pykka.Actor)


@dataclass(frozen=True, slots=True)
class Down:
    """The news that a process has ended (OTP's `'DOWN'`).

    Attributes:
        ref: of the process.
        reason: its exit reason (`"normal"`, `"shutdown"`, `("shutdown", term)`, `"killed"`, the
            exception), or `"noproc"` if it had ended before the monitor was made.
    """

    ref: pykka.ActorRef[Any]
    reason: object


class Watchers:
    """The monitors of one process. Outlives the actor object: its reference holds it."""

    __slots__ = ("_lock", "_monitors")

    def __init__(self) -> None:
        self._lock = Lock()
        # In the order in which they were made; None once all were told.
        self._monitors: dict[Monitor, None] | None = {}

    def add(self, monitor: Monitor) -> bool:
        """Add a monitor; `False` if the process has ended and nobody is told any more."""
        with self._lock:
            if self._monitors is None:
                return False
            self._monitors[monitor] = None
            return True

    def remove(self, monitor: Monitor) -> bool:
        """Remove a monitor; `False` if it is not there (any more)."""
        with self._lock:
            if self._monitors is None or monitor not in self._monitors:
                return False
            del self._monitors[monitor]
            return True

    def tell(self, down: Down) -> None:
        """Tell every monitor, once and for all; a second call tells nobody."""
        with self._lock:
            monitors, self._monitors = self._monitors or {}, None
        # Outside the lock: what is called may look at monitors itself.
        for monitor in monitors:
            monitor.tell(down)


class ProcessRef(pykka.ActorRef[A]):
    """The `pykka.ActorRef` of one of our processes; users need not tell it from another.

    Attributes:
        watchers: who is told of its end.
    """

    def __init__(self, actor: A) -> None:
        super().__init__(actor)
        self.watchers = Watchers()


class Monitor:
    """A watch on one process; made by `monitor`.

    Attributes:
        ref: of the process.
        fired: whether the `Down` was delivered, or is being so.
    """

    __slots__ = ("_cancelled", "_deliver", "fired", "ref")

    def __init__(self, ref: pykka.ActorRef[Any], deliver: Callable[[Down], object]) -> None:
        self.ref = ref
        self._deliver = deliver
        self._cancelled = False
        self.fired = False

    def tell(self, down: Down) -> None:
        """Deliver the news. For `Watchers` and `monitor`, which do it once."""
        self.fired = True
        try:
            self._deliver(down)
        except Exception:
            # The others want to know too.
            logger.exception("A watcher of %s could not be told of its end", self.ref)

    def cancel(self) -> bool:
        """Stop watching; say whether the monitor had fired.

        `False`: there was and will be no `Down`. `True`: it was delivered, or is being so in this
        moment. Calling it again gives the same answer.
        """
        if not self._cancelled and _watchers(self.ref).remove(self):
            self._cancelled = True
        return not self._cancelled


def monitor(ref: pykka.ActorRef[Any], deliver: Callable[[Down], object]) -> Monitor:
    """Have `deliver(down)` called exactly once when the process has ended (OTP `monitor/2`).

    That is after its `on_stop` or `on_failure` has returned and its name is free, in its thread,
    so `deliver` must be quick; what it raises is logged. If the process had ended before,
    `deliver` is called at once, in this thread, with the reason `"noproc"`.

    Raises:
        TypeError: `ref` is not of one of our processes: a plain Pykka actor tells nobody.
    """
    watch = Monitor(ref, deliver)
    if not _watchers(ref).add(watch):
        watch.tell(Down(ref, "noproc"))
    return watch


def _watchers(ref: pykka.ActorRef[Any]) -> Watchers:
    if isinstance(ref, ProcessRef):
        return ref.watchers
    raise TypeError(f"{ref} is not a process that can be watched: derive it from exraft's Process")
