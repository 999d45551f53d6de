"""The journal that is being written: segments of records, and the next segment made ready.

Knows where the next record goes, and what it takes until it is on the disk. Must not know what a
record is for.

A record is written where the synced ones end and is synced before the next is written; `records`
says what follows from that. A note is written there too, but not synced, and the next record takes
its place: it says nothing that the record does not say again.

A segment has its full size before it is used, so that a sync has nothing to write but the records:
it is filled with zeros beside the server's thread, or was used before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from os.path import join
from typing import NamedTuple

import msgspec

from exraft.storage.files import File, Files
from exraft.storage.health import NO_ROOM, Health
from exraft.storage.reading import segment_name
from exraft.storage.records import (
    END,
    OVERHEAD,
    Header,
    Record,
    Segment,
    encode,
    encode_header,
    mark_of,
    put,
    seal,
)

SEGMENT_BYTES = 16 << 20
"""Of the largest segments, unless a single record takes more."""

FIRST_BYTES = 1 << 20
"""Of the first segment; each has twice the bytes of the one before, up to the largest."""

_STEP = 1 << 20
"""Bytes of zeros that are written in one go."""

_HEADER_ROOM = 256
"""Bytes that are enough for the header of a segment."""


_SPARES = 2
"""Segments that are kept to be used again, at most."""

_NEXT = "next.part"


class Older(NamedTuple):
    """A segment that is full."""

    number: int
    size: int
    highest: int
    """The highest index of an entry in it."""


class Journal:
    """The segments of a directory, the last of them open.

    Attributes:
        state: what is synced, as a record without entries.
        syncs, writes, written: how often something was synced and written, and how many bytes.
    """

    def __init__(
        self, files: Files, directory: str, health: Health, store_id: str, segment_bytes: int
    ) -> None:
        self._files = files
        self._directory = directory
        self._health = health
        self._store_id = store_id
        self._segment_bytes = segment_bytes
        self.state = Record()
        self.syncs = 0
        self.writes = 0
        self.written = 0
        self._older: list[Older] = []
        self._file: File | None = None
        self._number = 0
        self._path = ""
        self._mark = 0
        self._end = 0
        """Where the synced records of the segment end."""
        self._size = 0
        self._highest = 0
        self._next: _Next | None = None
        """The next segment, filled with zeros."""
        self._spares: list[str] = []
        """Segments of full size that are not needed any more, and can be used again."""

    def create(self) -> None:
        """Make the first segment of a directory that has none; raises as `write` does."""
        self._begin_segment(0)

    def go_on(self, segments: list[Segment], state: Record) -> None:
        """Write after what was read; a torn tail is cut off.

        What the log ends with is written again: the process before may have failed to sync it, and
        what was read of it was the memory of the operating system then. Written again, it is on the
        disk or fails.

        Args:
            segments: those that were read. Of all but the last, no records are needed.
            state: what they add up to.

        Raises:
            StorageError: it can't be written.
        """
        last = segments[-1]
        self._older = [Older(each.header.number, each.size, each.highest) for each in segments[:-1]]
        self.state = state
        self._number = last.header.number
        self._mark = last.mark
        self._end = last.end
        self._size = last.size
        self._highest = last.highest
        path = self._path = join(self._directory, segment_name(self._number))
        with self._health.opening(path):
            self._file = file = self._files.open(path, writable=True)
            # Not read again: what the disk holds may be another thing than what was verified.
            file.write(last.last + END, last.last_place)
            file.sync()

    @property
    def segments(self) -> int:
        """How many there are."""
        return len(self._older) + 1

    def write(self, record: Record) -> None:
        """Return when the record is on the disk.

        Raises:
            DiskFull: it is not, and all is as it was.
            StoreFailed: the disk fails.
        """
        said = encode(record)
        if self._end + OVERHEAD + len(said) + len(END) > self._size:
            self._begin_segment(OVERHEAD + len(said) + len(END))
        self._put(said)
        with self._health.syncing(self._path):
            assert self._file is not None
            self._file.sync()
        self.syncs += 1
        self._end += OVERHEAD + len(said)
        self.state = record
        if record.entries:
            self._highest = max(self._highest, record.last_index)
        if self._older and self._older[0].highest <= record.base_index:
            self._forget(record.base_index)
        if not self._spares and self._next is None and 2 * self._end > self._size:
            self._next = _Next(self._files, join(self._directory, _NEXT), self._next_size())

    def note(self, commit_index: int) -> None:
        """Write down how far is committed, of what is synced; survives all but a power failure.

        Raises:
            DiskFull, StoreFailed: as `write`.
        """
        state = msgspec.structs.replace(self._without_entries(), commit_index=commit_index)
        self._put(encode(state))
        self.state = state

    def close(self) -> None:
        """End with a note that proves that all before it was synced.

        Raises:
            DiskFull, StoreFailed: it was not written; all that `write` returned for is there.
        """
        try:
            if self._file is not None and not self._health.failed:
                self.note(self.state.commit_index)
                with self._health.syncing(self._path):
                    self._file.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close what is open, and write nothing."""
        if self._next is not None:
            self._next.drop()
            self._next = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _without_entries(self) -> Record:
        # Made when it is needed, which is less often than a record is written.
        if self.state.entries:
            self.state = self.state.without_entries()
        return self.state

    def _put(self, said: bytes) -> None:
        """Write it after what is synced."""
        assert self._file is not None
        data = put(self._mark, self._end, said)
        with self._health.writing(self._path):
            self._file.write(data, self._end)
        self.writes += 1
        self.written += len(data)

    # The next segment.

    def _begin_segment(self, need: int) -> None:
        """Go on in a new segment that has room for a record of `need` bytes."""
        number = self._number + 1
        file, part = self._take_next(need + _HEADER_ROOM)
        try:
            size = file.size()
            header = encode_header(Header(self._store_id, number, self._end, size))
            mark = mark_of(header)
            note = put(mark, len(header), encode(self._without_entries()))
            with self._health.writing(part):
                file.write(header + note, 0)
            with self._health.syncing(part):
                file.sync()
            path = join(self._directory, segment_name(number))
            with self._health.writing(path):
                self._files.rename(part, path)
            with self._health.syncing(path):
                self._files.sync_directory(self._directory)
        except BaseException:
            file.close()
            raise
        self.syncs += 2
        before, full = self._file, self._path
        sealed = self._end, seal(self._mark, self._end)
        if before is not None:
            self._older.append(Older(self._number, self._size, self._highest))
        self._file, self._path, self._number = file, path, number
        self._mark, self._size, self._end, self._highest = mark, size, len(header), 0
        if before is not None:
            self._seal(before, full, *sealed)

    def _seal(self, file: File, path: str, end: int, data: bytes) -> None:
        """Let the segment before say that there is another: so nobody misses it unawares."""
        try:
            with self._health.writing(path):
                file.write(data, end)
            with self._health.syncing(path):
                file.sync()
        finally:
            file.close()
        self.syncs += 1

    def _take_next(self, need: int) -> tuple[File, str]:
        """A file to begin a segment in, and its path: with `need` bytes at least."""
        if self._spares and need <= self._segment_bytes:
            path = self._spares.pop()
            with self._health.writing(path):
                return self._files.open(path, writable=True), path
        path = join(self._directory, _NEXT)
        ready, self._next = self._next, None
        file = ready.take() if ready is not None else None
        if file is not None:
            if file.size() >= need:
                return file, path
            file.close()
        size = max(self._next_size(), need)
        with self._health.writing(path):
            try:
                return _zeroed(self._files, path, size), path
            except OSError as error:
                if size == need or error.errno not in NO_ROOM:
                    raise
            # There is no room for a whole one: one that is as small as it can be.
            return _zeroed(self._files, path, need), path

    def _next_size(self) -> int:
        return min(max(2 * self._size, FIRST_BYTES), self._segment_bytes)

    def _forget(self, base_index: int) -> None:
        """Let go of the segments, from the first on, that hold no entry after `base_index`."""
        while self._older and self._older[0].highest <= base_index:
            oldest = self._older[0]
            path = join(self._directory, segment_name(oldest.number))
            with self._health.syncing(path):
                try:
                    if oldest.size >= self._segment_bytes and len(self._spares) < _SPARES:
                        self._keep(path, oldest.number)
                    else:
                        _unlink(self._files, path)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    # Even to let go of a file may take room. What was written is on the disk.
                    return
            del self._older[0]

    def _keep(self, path: str, number: int) -> None:
        """Keep a file to be used again."""
        spare = join(self._directory, f"spare-{number}.part")
        self._files.rename(path, spare)
        # Before anything else is written to it, it must not be found under its old name.
        self._files.sync_directory(self._directory)
        self.syncs += 1
        self._spares.append(spare)


class _Next:
    """A segment that is filled with zeros beside the server's thread."""

    def __init__(self, files: Files, path: str, size: int) -> None:
        self._files = files
        self._path = path
        self._size = size
        self._file: File | None = None
        self._dropped = False
        self._wait = files.beside(self._fill)

    def _fill(self) -> None:
        try:
            self._file = _zeroed(self._files, self._path, self._size, lambda: self._dropped)
        except OSError:
            # It is tried again when it is needed, and then there is somebody to be told.
            self._file = None

    def take(self) -> File | None:
        """The file; None if it could not be made."""
        self._wait()
        return self._file

    def drop(self) -> None:
        """Forget about it."""
        self._dropped = True
        file = self.take()
        if file is not None:
            file.close()
            with suppress(OSError):
                # Else it goes when the directory is opened next.
                self._files.unlink(self._path)


def _zeroed(files: Files, path: str, size: int, stop: Callable[[], bool] = lambda: False) -> File:
    """A new file of zeros, on the disk. Overwriting it changes none of what a sync must write."""
    # What an attempt before has left.
    _unlink(files, path)
    file = files.create(path)
    try:
        for start in range(0, size, _STEP):
            if stop():
                break
            file.write(bytes(min(_STEP, size - start)), start)
            # Piece by piece, so that no sync of the journal waits long behind it.
            file.sync()
    except OSError:
        file.close()
        with suppress(OSError):
            # Room for others. Else it goes when the directory is opened next.
            _unlink(files, path)
        raise
    return file


def _unlink(files: Files, path: str) -> None:
    with suppress(FileNotFoundError):
        files.unlink(path)
