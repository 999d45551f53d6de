"""Who wants to know that a process has ended: monitors, as in OTP.

Knows the watchers of one process and that each is told exactly once; must not know what
makes a process end, or what a watcher does with the news.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock, local
from time import sleep
from typing import Any, TypeVar
from weakref import ref as weak

import pykka

from exraft.actors.exits import describe
from exraft.actors.fence import Life

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


class _Here(local):
    telling = False
    """Whether this thread is telling watchers of an end."""


_here = _Here()


class Watchers:
    """The monitors of one process. Outlives the actor object: its reference holds it."""

    __slots__ = ("_last_words", "_lock", "_monitors", "over")

    def __init__(self) -> None:
        self._lock = Lock()
        # In the order in which they were made; None once all were told.
        self._monitors: dict[Monitor, None] | None = {}
        self._last_words: Down | None = None
        self.over = False
        """Whether all have been told."""

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
        monitors = self.close(down)
        if monitors is not None:
            self.deliver(down, monitors)

    def deliver(self, down: Down, monitors: Iterable[Monitor]) -> None:
        """Tell what `close` has settled."""
        before, _here.telling = _here.telling, True
        try:
            for monitor in monitors:
                monitor.tell(down)
        finally:
            _here.telling = before
            self.over = True

    def close(self, down: Down) -> Iterable[Monitor] | None:
        """Settle what the news is; return who is to be told of it, `None` if it is settled already.

        So one of two threads tells, and the other knows that it need not. The news is kept for
        `last_words`; what is heavy in it only if nobody else hears it.
        """
        with self._lock:
            if self._monitors is None:
                return None
            monitors, self._monitors = self._monitors, None
            if monitors and isinstance(down.reason, BaseException):
                self._last_words = Down(down.ref, describe(down.reason))
            else:
                self._last_words = down
        # To be told outside the lock: what is called may look at monitors itself.
        return monitors

    def await_over(self) -> None:
        """Wait until another thread, which settles the news at this moment, has told it.

        That takes no longer than telling does. Who is telling somebody's end himself does not wait:
        the other might wait for him.
        """
        while not self.over and not _here.telling:
            sleep(0.0001)

    def last_words(self) -> Down | None:
        """The news, for who comes late; once, as an exception holds much that should be let go.

        If others have heard them, the words for an exception must do.
        """
        with self._lock:
            last, self._last_words = self._last_words, None
        return last


class ProcessRef(pykka.ActorRef[A]):
    """The `pykka.ActorRef` of a process that can be watched; users need not tell it from another.

    Attributes:
        watchers: who is told of its end.
        life: what runs in its thread, `None` when that is gone. Weak: whoever holds the reference
            of a dead process shall not hold its state.
    """

    watchers: Watchers
    _life: weak[Life]

    def __init__(self, actor: A, life: Life) -> None:
        super().__init__(actor)
        self.watchers = Watchers()
        self._life = weak(life)

    @property
    def life(self) -> Life | None:
        return self._life()


class Monitor:
    """A watch on one process; made by `monitor`.

    Attributes:
        ref: of the process.
        fired: whether the `Down` was delivered, or is being so.
    """

    __slots__ = ("_cancelled", "_deliver", "fired", "on_cancel", "ref")

    def __init__(self, ref: pykka.ActorRef[Any], deliver: Callable[[Down], object]) -> None:
        self.ref = ref
        self.on_cancel: Callable[[], object] | None = None
        """Called when it is cancelled before it has fired."""
        self._deliver = deliver
        self._cancelled = False
        self.fired = False

    def tell(self, down: Down) -> None:
        """Deliver the news. For `Watchers` and `monitor`, which do it once."""
        self.fired = True
        try:
            self._deliver(down)
        except BaseException:
            # The others want to know too, and it is somebody else's thread.
            logger.exception("A watcher of %s could not be told of its end", self.ref)

    def cancel(self) -> bool:
        """Stop watching; say whether the monitor had fired.

        `False`: there was and will be no `Down`. `True`: it was delivered, or is being so in this
        moment. Calling it again gives the same answer.
        """
        if not self._cancelled and watchers_of(self.ref).remove(self):
            self._cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()
        return not self._cancelled


def monitor(ref: pykka.ActorRef[Any], deliver: Callable[[Down], object]) -> Monitor:
    """Have `deliver(down)` called exactly once when the process has ended (OTP `monitor/2`).

    That is after its `on_stop` or `on_failure` has returned and its name is free, in its thread,
    so `deliver` must be quick; what it raises is logged. If the process had ended before,
    `deliver` is called at once, in this thread, with the reason `"noproc"`.

    Raises:
        TypeError: `ref` is of a plain Pykka actor that nobody watches: it tells nobody.
    """
    if not callable(deliver):
        raise TypeError(f"a monitor calls a function with the news, and {deliver!r} is none")
    watch = Monitor(ref, deliver)
    if not watchers_of(ref).add(watch):
        watch.tell(Down(ref, "noproc"))
    return watch


def watch_child(ref: pykka.ActorRef[Any], deliver: Callable[[Down], object]) -> Monitor:
    """Monitor a process that one has just started, and that may have ended since.

    As `monitor`, but its reason is not lost then: it is that of its end.
    """
    watch = Monitor(ref, deliver)
    watchers = watchers_of(ref)
    if not watchers.add(watch):
        watch.tell(watchers.last_words() or Down(ref, "noproc"))
    return watch


def watchers_of(ref: pykka.ActorRef[Any]) -> Watchers:
    """Return who watches a process.

    Raises:
        TypeError: `ref` is of a plain Pykka actor that nobody watches.
    """
    if isinstance(ref, ProcessRef):
        return ref.watchers
    if not isinstance(ref, pykka.ActorRef):
        raise TypeError(f"{ref!r} is no actor's reference, as start() or get_by_name() return it")
    raise TypeError(
        f"{ref} is a plain Pykka actor, which tells nobody of its end: start it under a supervisor,"
        " or with exraft.actors.start, or derive it from exraft.actors.Process"
    )
