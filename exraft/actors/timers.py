"""Messages to come: what a process wants to be told later (OTP `send_after/2`).

Knows when each message is due. Must not know clocks, nor who is told: the mailbox is the clock, and
its owner asks here how long it may wait.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any


class Timer:
    """One message to come; made by `Process.send_after`.

    Attributes:
        at: when it is due, on `time.monotonic()`'s clock.
    """

    __slots__ = ("at", "message", "pending")

    def __init__(self, at: float, message: Any) -> None:
        self.at = at
        self.message = message
        self.pending = True


class Timers:
    """The timers of one process; all calls are its own thread's."""

    __slots__ = ("_cancelled", "_heap", "_numbers")

    def __init__(self) -> None:
        # The number keeps those that are due at the same time in the order they were made.
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._cancelled = 0

    def add(self, timer: Timer) -> None:
        heappush(self._heap, (timer.at, next(self._numbers), timer))

    def cancel(self, timer: Timer) -> bool:
        """Forget it; `False` if it was due or cancelled before."""
        if not timer.pending:
            return False
        timer.pending = False
        timer.message = None
        self._cancelled += 1
        # Who cancels most of what it sets must not keep them all until they are due.
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [each for each in self._heap if each[2].pending]
            heapify(self._heap)
            self._cancelled = 0
        return True

    def next(self) -> float | None:
        """When the next one is due."""
        heap = self._heap
        while heap and not heap[0][2].pending:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Timer | None:
        """Take out the next one that is due at `now`."""
        due = self.next()
        if due is None or due > now:
            return None
        timer = heappop(self._heap)[2]
        timer.pending = False
        return timer
