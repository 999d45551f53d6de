"""A backup: one file that holds what a server knew to be committed.

Knows its format, and how it is written whole or not at all. Must not know where the state comes
from, nor what is made of it.

The file begins with a frame that says what is in it. The snapshot's bytes follow, then the entries
after it, in pieces. Each piece says how long it is, and has a checksum that goes on from the one
before, the first from that of the beginning: a piece that is damaged, missing, or of another backup
is noticed.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from os.path import abspath, basename, dirname, lexists

import msgspec

from exraft.errors import StorageError, StoreDamaged
from exraft.names import Peer
from exraft.raft.log import Entry
from exraft.raft.snapshot import Snapshot, SnapshotReader
from exraft.storage.directory import Identity
from exraft.storage.files import File, OsFiles
from exraft.storage.frame import BEGINNING, frame, length, unframe
from exraft.storage.image import FileReport, Image, Problem
from exraft.storage.snapshots import encode_header, read_header

KIND = b"exraft B"

_PIECE = 1 << 20
"""Bytes that are read or written in one go."""
_TOGETHER = 1 << 20
"""Bytes of entries after which a new piece begins."""
_HEAD = struct.Struct("<QI")
"""Length of a piece, and its checksum."""

Progress = Callable[[int], object]
"""Told how many more bytes were copied."""


class Contents(msgspec.Struct, frozen=True, array_like=True):
    """What a backup holds: a snapshot, if there is one, and the entries after it."""

    name: str
    node: str
    created: str
    """In ISO 8601, UTC."""
    snapshot: Snapshot | None
    count: int
    """Of entries."""


def write_backup(
    path: str | os.PathLike[str],
    peer: Peer,
    reader: SnapshotReader | None,
    entries: Sequence[Entry] = (),
    *,
    overwrite: bool = False,
    progress: Progress = lambda size: None,
) -> int:
    """Write a backup; return the index up to which everything is in it.

    Args:
        path: of the file. It is there when all of it is on the disk, or not at all.
        peer: the server that it is of.
        reader: of its snapshot; None if it has none.
        entries: those after the snapshot that are committed.
        overwrite: whether a file that is there is replaced.
        progress: see `Progress`.

    Raises:
        StorageError: there is such a file, there is nothing to be backed up, or it can't be
            written. Nothing is left of it then.
        StoreDamaged: the snapshot is not what it should be.
    """
    path = abspath(os.fspath(path))
    snapshot = None if reader is None else reader.snapshot
    index = (0 if snapshot is None else snapshot.index) + len(entries)
    if not index:
        raise StorageError(path, f"{peer} has nothing that is committed: there is nothing to keep")
    check_free(path, overwrite=overwrite)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    beginning = frame(
        KIND,
        msgspec.msgpack.encode(Contents(peer.name, peer.node, now, snapshot, len(entries))),
    )
    part = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.part"
    files = OsFiles()
    try:
        file = files.create(part)
        try:
            place = _put(file, beginning, 0)
            if reader is not None:
                place = _copy(file, place, reader, progress)
            crc = zlib.crc32(beginning)
            for piece in _pieces(entries):
                crc = zlib.crc32(piece, crc)
                place = _put(file, _HEAD.pack(len(piece), crc) + piece, place)
                progress(len(piece))
            file.sync()
        finally:
            file.close()
        check_free(path, overwrite=overwrite)
        files.rename(part, path)
        files.sync_directory(dirname(path))
    except OSError as error:
        raise StorageError(path, f"it can't be written: {error}") from error
    finally:
        with suppress(OSError):
            files.unlink(part)
    return index


def check_free(path: str, *, overwrite: bool) -> None:
    """Raise `StorageError` if something is there that must not be replaced."""
    if os.path.isdir(path):
        raise StorageError(path, "it is a directory: name the file that is to be written")
    if lexists(path) and not overwrite:
        raise StorageError(
            path, "it is there already: name another file, or replace it (--force, overwrite=True)"
        )


def _put(file: File, data: bytes, place: int) -> int:
    file.write(data, place)
    return place + len(data)


def _copy(file: File, place: int, reader: SnapshotReader, progress: Progress) -> int:
    snapshot = reader.snapshot
    size = crc = 0
    while data := reader.read(size, _PIECE):
        place = _put(file, data, place)
        size += len(data)
        crc = zlib.crc32(data, crc)
        progress(len(data))
    if (size, crc) != (snapshot.size, snapshot.crc):
        raise StoreDamaged(
            f"the snapshot of {snapshot.index}",
            f"it has {size} bytes with the checksum {crc:#010x},"
            f" instead of {snapshot.size} with {snapshot.crc:#010x}",
        )
    return place


def _pieces(entries: Sequence[Entry]) -> Iterator[bytes]:
    gathered: list[Entry] = []
    size = 0
    for entry in entries:
        gathered.append(entry)
        size += len(entry.data)
        if size >= _TOGETHER:
            yield msgspec.msgpack.encode(gathered)
            gathered, size = [], 0
    if gathered:
        yield msgspec.msgpack.encode(gathered)


class FileReader:
    """A snapshot whose bytes stand in a file, from `start` on. It may be deleted meanwhile."""

    def __init__(self, file: File, start: int, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._file = file
        self._start = start

    def read(self, offset: int, size: int) -> bytes:
        most = min(size, self.snapshot.size - offset)
        return self._file.read(most, self._start + offset) if most > 0 else b""

    def close(self) -> None:
        self._file.close()


def open_snapshot(path: str) -> FileReader:
    """The snapshot in a file as a directory has it.

    Raises:
        StoreDamaged, StoreMismatch: it is none, or of another format.
        OSError: it can't be read; FileNotFoundError if it is not there.
    """
    file = OsFiles().open(path)
    try:
        start, snapshot = read_header(file, path)
    except BaseException:
        file.close()
        raise
    return FileReader(file, start, snapshot)


class Backup:
    """A backup that was read and verified.

    Attributes:
        image: what it says; its identity has no store, and its snapshot no file of its own.
        created: when it was made; empty if that can't be read.
        start: where the snapshot's bytes begin.
    """

    def __init__(self, image: Image, created: str, start: int) -> None:
        self.image = image
        self.created = created
        self.start = start

    def unpack(self, path: str) -> Image:
        """Write its snapshot, if it has one, into a file as a directory has it.

        Raises:
            StorageError: it can't be written.
        """
        snapshot = self.image.snapshot
        if snapshot is None:
            return self.image
        files = OsFiles()
        try:
            reader = FileReader(files.open(self.image.path), self.start, snapshot)
            try:
                file = files.create(path)
                try:
                    place = _put(file, encode_header(snapshot), 0)
                    _copy(file, place, reader, lambda size: None)
                finally:
                    file.close()
            finally:
                reader.close()
        except OSError as error:
            raise StorageError(path, f"it can't be written: {error}") from error
        return replace(self.image, snapshot_path=path)


def read_backup(path: str | os.PathLike[str]) -> Backup:
    """Read a backup and verify it. What is wrong with it is among the image's problems.

    Raises:
        StorageError: it is none, or can't be read.
        StoreMismatch: it is of another format.
    """
    path = os.fspath(path)
    try:
        file = OsFiles().open(path)
    except OSError as error:
        raise StorageError(path, f"it can't be read: {error}") from error
    try:
        return _read(file, path)
    except OSError as error:
        raise StorageError(path, f"it can't be read: {error}") from error
    finally:
        file.close()


def _read(file: File, path: str) -> Backup:
    beginning = file.read(BEGINNING, 0)
    if not beginning.startswith(KIND):
        raise StorageError(path, "it is no backup of ExRaft")
    report = FileReport(basename(path), file.size())
    image = Image(path, files=[report])
    backup = Backup(image, "", 0)
    try:
        beginning = file.read(length(KIND, beginning, path), 0)
        contents = msgspec.msgpack.decode(unframe(KIND, beginning, path), type=Contents)
        backup.created = contents.created
        backup.start = len(beginning)
        image.identity = Identity(contents.name, contents.node, "")
        end = backup.start
        if contents.snapshot is not None:
            image.base_index, image.base_term = contents.snapshot.index, contents.snapshot.term
            end += _verify(file, path, end, contents.snapshot)
            image.snapshot = contents.snapshot
        _read_entries(file, path, end, zlib.crc32(beginning), contents.count, image.entries)
    except msgspec.DecodeError as error:
        image.problems.append(Problem(path, None, f"it says nonsense ({error})"))
    except StoreDamaged as error:
        says = str(error).removeprefix(f"{path}: ")
        image.problems.append(Problem(path, error.offset, says))
    if image.problems:
        report.problem = image.problems[0].says
    else:
        report.used = report.bytes
    image.term = image.entries[-1].term if image.entries else image.base_term
    image.commit_index = image.last_index
    return backup


def _verify(file: File, path: str, start: int, snapshot: Snapshot) -> int:
    size = crc = 0
    while data := file.read(min(_PIECE, snapshot.size - size), start + size):
        size += len(data)
        crc = zlib.crc32(data, crc)
    if (size, crc) != (snapshot.size, snapshot.crc):
        what = "is cut off" if size < snapshot.size else "is damaged"
        raise StoreDamaged(path, f"the snapshot in it {what}", offset=start)
    return size


def _read_entries(
    file: File, path: str, place: int, crc: int, count: int, entries: list[Entry]
) -> None:
    while len(entries) < count:
        head = file.read(_HEAD.size, place)
        said = b""
        if len(head) == _HEAD.size:
            size, expected = _HEAD.unpack(head)
            left = file.size() - place - _HEAD.size
            said = file.read(size, place + _HEAD.size) if size <= left else b""
            crc = zlib.crc32(said, crc)
        if not said or crc != expected:
            raise StoreDamaged(
                path,
                f"it is damaged or cut off after {len(entries)} of {count} entries",
                offset=place,
            )
        entries += msgspec.msgpack.decode(said, type=list[Entry])
        place += _HEAD.size + len(said)
    if len(entries) != count or place != file.size():
        raise StoreDamaged(path, "there is more in it than it says", offset=place)
