"""A snapshot that is read from another node, for a backup.

Knows the readers that are open here for others, and how one of another node is read. Must not know
what the bytes are for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

import msgspec

from exraft.errors import SnapshotFailed
from exraft.raft.snapshot import Snapshot, SnapshotReader

PIECE: Final = 1 << 20
"""Bytes that are asked for at once, at most."""
UNUSED: Final = 60.0
"""Seconds after which a reader that nobody asks for anything is closed."""


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """What is open over there; no snapshot: there is none."""

    handle: str
    snapshot: Snapshot | None


class Readers:
    """What is open here for other nodes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, tuple[float, SnapshotReader]] = {}

    def open(self, name: str, reader: SnapshotReader | None) -> bytes:
        """Keep a reader until it is closed, or not used any more; the answer to who has asked."""
        self._close_unused()
        handle = os.urandom(8).hex()
        if reader is None:
            return msgspec.msgpack.encode(Opened(handle, None))
        with self._lock:
            self._open[handle] = monotonic(), reader
        return msgspec.msgpack.encode(Opened(handle, reader.snapshot))

    def fetch(self, handle: str, offset: int, size: int) -> bytes:
        """Bytes of what is open; with a size of 0 it is closed.

        Raises:
            SnapshotFailed: it is not open any more, or can't be read.
        """
        with self._lock:
            _, reader = self._open.pop(handle, (0.0, None))
        if reader is None:
            raise SnapshotFailed("the snapshot is not open any more: call again")
        if size <= 0:
            reader.close()
            return b""
        try:
            data = reader.read(max(0, offset), min(size, PIECE))
        except (OSError, ValueError, OverflowError) as error:
            reader.close()
            raise SnapshotFailed(f"the snapshot can't be read: {error}") from None
        with self._lock:
            self._open[handle] = monotonic(), reader
        return data

    def _close_unused(self) -> None:
        since = monotonic() - UNUSED
        with self._lock:
            unused = [handle for handle, (used, _) in self._open.items() if used < since]
            readers = [self._open.pop(handle)[1] for handle in unused]
        for reader in readers:
            reader.close()

    def close(self) -> None:
        with self._lock:
            readers = [reader for _, reader in self._open.values()]
            self._open.clear()
        for reader in readers:
            reader.close()


class RemoteReader:
    """Reads a snapshot that is open on another node; a `SnapshotReader`.

    Args:
        snapshot: that it is of.
        fetch: asks for bytes: of an offset, so many; 0 to have it closed.
    """

    def __init__(self, snapshot: Snapshot, fetch: Callable[[int, int], bytes]) -> None:
        self.snapshot = snapshot
        self._fetch = fetch

    def read(self, offset: int, size: int) -> bytes:
        pieces = []
        while size > 0:
            piece = self._fetch(offset, size)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._fetch(0, 0)
