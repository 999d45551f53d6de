"""The worker that runs a server's side effects beside its thread.

Knows callables, their order, and how many may wait. Must not know where they come from, nor whether
their server lives: it outlives crashes, so that the effects of two lives keep their order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final

from exraft.machine import SideEffect

logger = logging.getLogger("exraft.actors")

MAX_EFFECTS: Final = 10_000
"""Side effects that may wait; beyond it the server refuses writes with `Overloaded`."""


class _Here(threading.local):
    worker: str | None = None


_here = _Here()


def current_worker() -> str | None:
    """The name of the server whose side effect this thread runs, if it runs one."""
    return _here.worker


class Effects:
    """Runs side effects one after the other. Its thread starts with the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[SideEffect | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def queued(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        return self._queue.qsize() >= MAX_EFFECTS

    def run(self, effects: Sequence[SideEffect]) -> None:
        """Run `effects` after those that wait already; returns at once."""
        for effect in effects:
            self._queue.put(effect)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"{self._name} side effects", daemon=True
            )
            self._thread.start()

    def close(self, timeout: float | None) -> bool:
        """Let what waits run out, at most `timeout` seconds; say whether it did.

        What has not begun by then is never run.
        """
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        self._closed = True
        return not self._thread.is_alive()

    def _work(self) -> None:
        _here.worker = self._name
        while (effect := self._queue.get()) is not None and not self._closed:
            try:
                effect()
            except BaseException:
                # The user's code, which must not end the worker: not by SystemExit either.
                logger.exception("A side effect of %s failed: %r", self._name, effect)
