"""A durable cluster under steady traffic, looked at from outside.

Knows how to keep one leader busy, and how much a process and a directory hold. Must not know what
is to become of it: `bounded` and `laggard` say that.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pykka

from exraft import ActorRegistry, ExRaft, Peer, StateMachine

LIMIT = 120.0
"""Seconds after which what should happen has not."""

NAMES = (":soak1", ":soak2", ":soak3")
KEYS = 1000
OUTSTANDING = 1000


class Counters(StateMachine):
    """A thousand keys, written over and over, and how many writes there were."""

    def init(self, init_arg: Any) -> dict[Any, Any]:
        return {"writes": 0}

    def handle_write(self, command: tuple[int, bytes], state: dict[Any, Any]) -> Any:
        key, value = command
        state[key] = value
        state["writes"] += 1
        return state["writes"], state

    def handle_read(self, query: Any, state: dict[Any, Any]) -> Any:
        return state.get(query)


class Writer:
    """One caller with so many writes under way, to whom none may fail."""

    def __init__(self, leader: Peer) -> None:
        self.leader = leader
        self.acknowledged = 0
        self._sent = 0
        self._waiting: deque[pykka.Future[Any]] = deque()

    def write(self, count: int) -> float:
        """Send so many more; return how many were acknowledged a second meanwhile."""
        before, began = self.acknowledged, monotonic()
        for _ in range(count):
            command = (self._sent % KEYS, b"%0100d" % self._sent)
            self._waiting.append(ExRaft.write_async(self.leader, command))
            self._sent += 1
            if len(self._waiting) >= OUTSTANDING:
                self._settle_one()
        return (self.acknowledged - before) / (monotonic() - began)

    def settle(self) -> None:
        """Wait for all that are under way."""
        while self._waiting:
            self._settle_one()

    def _settle_one(self) -> None:
        number = self._waiting.popleft().get(timeout=LIMIT)
        self.acknowledged += 1
        if number != self.acknowledged:
            raise AssertionError(f"write {self.acknowledged} was counted as {number}")


def start(name: str, directory: Path, **options: Any) -> None:
    ExRaft.start_server(Counters, name=name, initial_config=NAMES, data_dir=directory, **options)


@contextmanager
def cluster(directory: Path, **options: Any) -> Iterator[Peer]:
    """Three servers; yields their leader."""
    try:
        for name in NAMES:
            start(name, directory, **options)
        yield ExRaft.await_leader(NAMES[0], LIMIT)
    finally:
        for name in NAMES:
            if ActorRegistry.get_by_name(name) is not None:
                ExRaft.stop_server(name)


def resident_bytes() -> int:
    """Of this process."""
    statm = Path("/proc/self/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bytes_on_disk(directory: Path) -> int:
    """What the files there take; those that vanish meanwhile take nothing."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
