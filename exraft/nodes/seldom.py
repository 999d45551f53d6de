"""What is logged seldom, however often it happens.

Knows when a message was logged last, and how many like it were left out since. Must not know what
it is about: strangers and broken peers can repeat themselves faster than a disk can write.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic


class Seldom:
    """Logs each message (as it is before its arguments are filled in) once in `seconds`, at most.

    Any thread may use it.
    """

    def __init__(
        self, logger: logging.Logger, seconds: float, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}
        """Of each message: when it was logged, and how many were left out since."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Log it as `logging.Logger.log` does, with how many like it were left out before."""
        now = self._clock()
        with self._lock:
            told = self._told.get(message)
            if told is not None and now - told[0] < self._seconds:
                self._told[message] = told[0], told[1] + 1
                return
            self._told[message] = now, 0
        if told is not None and told[1]:
            message, arguments = f"{message} (and %d more like it)", (*arguments, told[1])
        self._logger.log(level, message, *arguments)
