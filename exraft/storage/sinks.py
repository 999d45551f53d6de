"""Where the bytes of a snapshot go when it is taken, and where they come from when it is sent.

Knows how a snapshot is written and read as a file is, wherever it is kept. Must not know what the
bytes mean, nor when a snapshot is taken.
"""

from __future__ import annotations

import io
import zlib
from typing import Protocol, TypeAlias

import msgspec

from exraft.raft.log import DamagedSnapshot
from exraft.raft.snapshot import Snapshot, SnapshotReader

Bytes: TypeAlias = bytes | bytearray | memoryview
Writable: TypeAlias = bytearray | memoryview


class SnapshotSink(Protocol):
    """A snapshot that is being written, by a thread of its own.

    Attributes:
        snapshot: what it is of; with size and checksum once it is finished.
    """

    snapshot: Snapshot

    def write(self, data: Bytes, /) -> int:
        """Take more bytes, as a binary file does."""

    def finish(self) -> Snapshot:
        """Return when all that was written is stored completely."""

    def discard(self) -> None:
        """Forget what was written; nothing happens if it was adopted."""


class Sink(io.RawIOBase):
    """Counts and sums up what is written. A subclass says where it goes."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        self._size = 0
        self._crc = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Bytes, /) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        self._put(view)
        self._size += len(view)
        self._crc = zlib.crc32(view, self._crc)
        return len(view)

    def _put(self, view: memoryview) -> None:
        raise NotImplementedError

    def _complete(self) -> Snapshot:
        self.snapshot = msgspec.structs.replace(self.snapshot, size=self._size, crc=self._crc)
        return self.snapshot


class MemorySink(Sink):
    """Keeps the bytes."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self._kept = bytearray()

    def _put(self, view: memoryview) -> None:
        self._kept += view

    def finish(self) -> Snapshot:
        return self._complete()

    def discard(self) -> None:
        self._kept = bytearray()

    def content(self) -> bytes:
        return bytes(self._kept)


class MemoryReader:
    """Reads bytes that are kept."""

    def __init__(self, snapshot: Snapshot, content: bytes) -> None:
        self.snapshot = snapshot
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]

    def close(self) -> None:
        """Nothing is held."""


class SnapshotFile(io.RawIOBase):
    """A snapshot as the file that a machine's `restore` reads.

    Other threads get their turn between two pieces, even when it is unpickled in one go.
    """

    def __init__(self, reader: SnapshotReader) -> None:
        super().__init__()
        self._reader = reader
        self._place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Writable, /) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        data = self._reader.read(self._place, len(view))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def check_whole(snapshot: Snapshot, size: int, crc: int) -> None:
    """Compare what is there with what should be.

    Raises:
        DamagedSnapshot: it is something else.
    """
    if size != snapshot.size:
        raise DamagedSnapshot(
            f"the snapshot of {snapshot.index} has {size} bytes instead of {snapshot.size}"
        )
    if crc != snapshot.crc:
        raise DamagedSnapshot(
            f"the checksum of the snapshot of {snapshot.index} is {crc:#010x} instead of"
            f" {snapshot.crc:#010x}"
        )
