"""What the disk can do: the least that keeping a batch of entries costs.

Knows one file, written and synced. Must not know exraft, so that a slow exraft cannot lower it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from benchmarks.measure import Measured, Plan, Work, blocking, compared
from benchmarks.rows import PAYLOAD, Row

BATCHES = (1, 10, 100, 1000)
"""Entries that are stored with one sync."""

APPEND: Mapping[int, str] = {count: f"disk.append.{count}" for count in BATCHES}
"""A batch appended to a file that is there already, and synced."""

GROW: Mapping[int, str] = {count: f"disk.grow.{count}" for count in (1, 100)}
"""The same to a file that grows by it, whose new size must be stored too."""

_ROOM = 64 * 1024 * 1024


class _File:
    def __init__(self, room: int) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        for _ in range(room // 2**20):
            self._file.write(bytes(2**20))
        os.fsync(self._file.fileno())
        self._room = room
        self._end = 0

    def append(self, data: bytes) -> None:
        if self._room and self._end + len(data) > self._room:
            self._end = 0
        os.pwrite(self._file.fileno(), data, self._end)
        os.fdatasync(self._file.fileno())
        self._end += len(data)

    def close(self) -> None:
        self._file.close()


@contextmanager
def running() -> Iterator[Mapping[str, Measured]]:
    """The floors by name, ready to be measured beside other work."""
    there, growing = _File(_ROOM), _File(0)
    try:
        yield {
            **{
                name: blocking(partial(there.append, b"v" * PAYLOAD * count))
                for count, name in APPEND.items()
            },
            **{
                name: blocking(partial(growing.append, b"v" * PAYLOAD * count))
                for count, name in GROW.items()
            },
        }
    finally:
        there.close()
        growing.close()


def measure(subject: str, plan: Plan) -> Iterator[Row]:
    """The floors as rows of their own: batches a second."""
    with running() as floors:
        works = [Work(name, "1/s", floors[name]) for name in floors]
        yield from compared(subject, works, floors, plan)
