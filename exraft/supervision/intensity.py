"""How many restarts are too many (OTP supervisor: intensity).

Knows the moments of past restarts within a window of time. Must not know clocks: the time is passed
in.
"""

from __future__ import annotations

from collections import deque


class Intensity:
    """At most `max_restarts` restarts within `max_seconds` seconds; one more is too many."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        self._max_seconds = max_seconds
        self._restarts: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count a restart at `now`; say whether there is still patience for it."""
        self._restarts.append(now)
        while self._restarts and self._restarts[0] <= now - self._max_seconds:
            self._restarts.popleft()
        return len(self._restarts) <= self._max_restarts
