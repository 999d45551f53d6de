"""What waits for a process: a Pykka inbox that is also a clock, and that can be closed.

Knows items, two lanes and the end of them; must not know what the items mean, beyond
which of them are urgent and how one that nobody will handle is answered.

The rule of the file: **every item that is put comes out exactly once**, either to the owner
(`get`, `take`) or to `undelivered`. `put` adds the item and then looks whether the mailbox is
closed; `close` marks it closed and then drains; so whichever comes last sees the other, and each
item is popped by one thread only. Pykka's own inbox can't be closed, and loses an `ask` that
races a stop.

The owner is one thread: `get` and `take` are for it alone. Everything else is for any thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors.exits import describe
from exraft.actors.fence import is_fenced
from exraft.actors.fence import threads as fenced

logger = logging.getLogger("exraft.actors")

_MARKER = object()
"""Stands in the queue for an urgent item, so that a waiting owner wakes for it."""

_WAKE = object()
"""Lies in a closed queue, so that an owner who was given up while it waited there wakes."""


class ProcessDown(pykka.ActorDeadError):
    """The process ended before it answered.

    Attributes:
        reason: its exit reason, see `exraft.actors.exits`.
    """

    reason: object

    def __init__(self, reason: object) -> None:
        super().__init__(f"the process ended ({describe(reason)}) before it answered")
        self.reason = reason


def refuse(item: object, reason: object) -> None:
    """Answer an item that nobody will handle; `reason` is why not.

    A Pykka `ask` fails with `ProcessDown`, a Pykka stop succeeds, an object with a method `refuse`
    is told the reason, and a one-way message is dropped.
    """
    if isinstance(item, Envelope):
        if item.reply_to is None:
            return
        if isinstance(item.message, _ActorStop):
            item.reply_to.set(None)
        else:
            item.reply_to.set_exception((ProcessDown, ProcessDown(reason), None))
        return
    answer = getattr(item, "refuse", None)
    if answer is not None:
        answer(reason)


class Mailbox:
    """The inbox of a process.

    Args:
        undelivered: called once with each item that the owner will not get: what is left at
            `close()`, in the closing thread, and what is put later, in the putting thread.
            What it raises is logged.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_queue",
        "_stale",
        "_urgent",
        "on_put",
        "undelivered",
    )

    def __init__(self, undelivered: Callable[[Any], None]) -> None:
        self.undelivered = undelivered
        self.on_put: Callable[[], object] | None = None
        """Called after each item, while the owner waits for something else as well."""
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._urgent: deque[Any] = deque()
        # Markers whose item was taken before the queue came to them.
        self._stale = 0
        self._closed = False

    def put(self, item: Any) -> None:
        """Add an item; never blocks.

        A Pykka stop, or an item with an attribute `urgent` that is `True`, overtakes the others.
        What a thread puts that was given up is refused (see `fence`).
        """
        if fenced and is_fenced():
            refuse(item, "killed")
            return
        if item.__class__ is Envelope:
            urgent = item.message.__class__ is _ActorStop
        else:
            urgent = getattr(item, "urgent", False) is True
        if urgent:
            self.put_first(item)
            return
        self._queue.put(item)
        if self.on_put is not None:
            self.on_put()
        if self._closed:
            self._drain()

    def put_first(self, item: Any) -> None:
        """Add an item that overtakes those that `put` has added; these keep their own order."""
        if fenced and is_fenced():
            refuse(item, "killed")
            return
        self._urgent.append(item)
        self._queue.put(_MARKER)
        if self.on_put is not None:
            self.on_put()
        if self._closed:
            self._drain()

    def get(self, timeout: float | None = None) -> Any:
        """Return the next item, waiting for it at most `timeout` seconds (`None`: for ever).

        With a `timeout` of 0 or less it returns what waits already.

        Raises:
            queue.Empty: nothing came in time, or the mailbox was closed by somebody else.
        """
        if self._urgent:
            self._stale += 1
            return self._urgent.popleft()
        item = self._next(timeout)
        if item is not _MARKER:
            return item
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            # A marker: its item is the next urgent one, unless that was taken before.
            if self._stale == 0:
                return self._urgent.popleft()
            self._stale -= 1
            item = self._next(None if deadline is None else deadline - monotonic())
            if item is not _MARKER:
                return item

    def _next(self, timeout: float | None) -> Any:
        if timeout is None:
            item = self._queue.get()
        elif timeout <= 0.0:
            item = self._queue.get_nowait()
        else:
            item = self._queue.get(True, min(timeout, threading.TIMEOUT_MAX))
        if item is _WAKE:
            raise Empty
        return item

    def take(self, most: int) -> list[Any]:
        """Return what waits already, urgent items first, at most `most` items; never blocks."""
        batch = self.take_first(most)
        get = self._queue.get_nowait
        for _ in range(min(self._queue.qsize(), most - len(batch))):
            item = get()
            if item is _WAKE:
                break
            if item is not _MARKER:
                batch.append(item)
            elif self._stale:
                self._stale -= 1
            else:
                batch.append(self._urgent.popleft())
        return batch

    def take_first(self, most: int) -> list[Any]:
        """Return of what waits already only the urgent items, at most `most`; never blocks."""
        batch: list[Any] = []
        while self._urgent and len(batch) < most:
            self._stale += 1
            batch.append(self._urgent.popleft())
        return batch

    def empty(self) -> bool:
        """Say whether nothing waits."""
        return self.qsize() == 0

    @property
    def closed(self) -> bool:
        """Say whether it takes no more."""
        return self._closed

    def qsize(self) -> int:
        """Return how many items wait; while others put, a moment's value. In a closed one, none."""
        if self._closed:
            return 0
        return max(0, self._queue.qsize() - self._stale)

    def close(self) -> None:
        """Take no more items; what waits, and what is put from now on, goes to `undelivered`.

        The owner calls it when it has ended, and does not `get` or `take` afterwards; or somebody
        else does who gives the owner up, which then wakes, and gets nothing.
        """
        self._closed = True
        self._drain()
        if self.on_put is not None:
            self.on_put()

    def _drain(self) -> None:
        # Several threads may be here at once: popping is atomic, so each item goes to one.
        while True:
            try:
                item = self._urgent.popleft()
            except IndexError:
                break
            self._give_up(item)
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if item is not _MARKER and item is not _WAKE:
                self._give_up(item)
        # Another who drains may take it, but puts one of his own in the end.
        self._queue.put(_WAKE)

    def _give_up(self, item: Any) -> None:
        try:
            self.undelivered(item)
        except Exception:
            # One item that can't be answered must not leave the next ones without an answer.
            logger.exception("An undelivered message could not be refused")
