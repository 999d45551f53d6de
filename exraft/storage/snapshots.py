"""The snapshots of a directory: taken here, received from a leader, read.

Knows how one comes to the disk whole or not at all. Must not know when one is taken, nor what it
means for the log.

A file of a snapshot begins with what the snapshot is of, its size and its checksum; its bytes
follow. It gets its name when all of it is on the disk. Before, a snapshot that is taken here is
worth nothing after a restart, and one that is received goes on where it was.
"""

from __future__ import annotations

import logging
import os
import zlib
from contextlib import suppress
from itertools import count
from os.path import basename, join

import msgspec

from exraft.errors import StoreDamaged, StoreMismatch
from exraft.raft.log import DamagedSnapshot
from exraft.raft.snapshot import Snapshot
from exraft.storage.files import File, Files
from exraft.storage.frame import BEGINNING, frame, length, unframe
from exraft.storage.health import Health
from exraft.storage.sinks import Sink, check_whole

RECEIVED = "received.part"
"""What is received, until it is whole."""

log = logging.getLogger("exraft.storage")

_PREFIX = "snapshot-"
_KIND = b"exraft S"
_ALIGNED = 512
_PIECE = 1 << 20
"""Bytes that are read or written in one go."""
_numbers = count(1)
_OFTEN = 16 << 20
"""Bytes after which what is written is synced, so that the last sync is not a long one."""


def snapshot_name(snapshot: Snapshot) -> str:
    return f"{_PREFIX}{snapshot.index}-{snapshot.term}"


def snapshot_names(names: list[str]) -> list[str]:
    """The names of snapshots among those of a directory's files, the newest first."""

    def index_and_term(name: str) -> list[int]:
        return [int(number) for number in name.removeprefix(_PREFIX).split("-")]

    return sorted(
        (
            name
            for name in names
            if name.startswith(_PREFIX)
            and all(part.isdecimal() for part in name.removeprefix(_PREFIX).split("-"))
        ),
        key=index_and_term,
        reverse=True,
    )


def encode_header(snapshot: Snapshot) -> bytes:
    """What a snapshot's file begins with; as long whatever size and checksum are."""
    longest = msgspec.structs.replace(snapshot, size=2**63, crc=2**32 - 1)
    start = len(frame(_KIND, msgspec.msgpack.encode((2**32 - 1, longest))))
    start += -start % _ALIGNED
    return frame(_KIND, msgspec.msgpack.encode((start, snapshot))).ljust(start, b"\0")


def read_header(file: File, path: str) -> tuple[int, Snapshot]:
    """Return where the snapshot's bytes begin, and what it is of.

    Raises:
        StoreDamaged, StoreMismatch: it is none, or of another format.
        OSError: it can't be read.
    """
    data = file.read(length(_KIND, file.read(BEGINNING, 0), path), 0)
    try:
        start, snapshot = msgspec.msgpack.decode(
            unframe(_KIND, data, path), type=tuple[int, Snapshot]
        )
    except msgspec.DecodeError as error:
        raise StoreDamaged(path, f"the header says nonsense ({error})", offset=0) from error
    return start, snapshot


def verify(files: Files, path: str) -> Snapshot:
    """Read a snapshot's whole file, and return what it is of; raises as `read_header` does."""
    file = files.open(path)
    try:
        start, snapshot = read_header(file, path)
        size = crc = 0
        while data := file.read(_PIECE, start + size):
            crc = zlib.crc32(data, crc)
            size += len(data)
        try:
            check_whole(snapshot, size, crc)
        except DamagedSnapshot as error:
            raise StoreDamaged(path, str(error), offset=start) from error
        if basename(path) != snapshot_name(snapshot):
            raise StoreDamaged(path, f"it is {snapshot_name(snapshot)} under another name")
        return snapshot
    finally:
        file.close()


class DiskReader:
    """A snapshot that is read. Its file may be deleted meanwhile."""

    def __init__(self, files: Files, path: str, health: Health) -> None:
        self._path = path
        self._health = health
        with health.writing(path):
            self._file = files.open(path)
        try:
            with health.syncing(path):
                self._start, self.snapshot = read_header(self._file, path)
        except BaseException:
            self._file.close()
            raise

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""
        with self._health.syncing(self._path):
            return self._file.read(size, self._start + offset)

    def close(self) -> None:
        self._file.close()


class DiskSink(Sink):
    """A snapshot that is taken, written beside the server's thread."""

    def __init__(self, snapshot: Snapshot, files: Files, path: str, health: Health) -> None:
        super().__init__(snapshot)
        self.path = path
        self._files = files
        self._health = health
        self._gathered = bytearray()
        self._unsynced = 0
        self._place = len(encode_header(snapshot))
        self._file: File | None = None
        with health.writing(path):
            self._file = files.create(path)

    def _put(self, view: memoryview) -> None:
        self._gathered += view
        if len(self._gathered) >= _PIECE:
            self._write()

    def _write(self) -> None:
        assert self._file is not None
        with self._health.writing(self.path):
            self._file.write(self._gathered, self._place)
        self._place += len(self._gathered)
        self._unsynced += len(self._gathered)
        self._gathered = bytearray()
        if self._unsynced >= _OFTEN:
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        with self._health.syncing(self.path):
            self._file.sync()
        self._unsynced = 0

    def finish(self) -> Snapshot:
        """Return when all that was written is stored completely.

        Raises:
            DiskFull: there is no room for it.
            StoreFailed: the disk fails.
        """
        assert self._file is not None
        self._write()
        snapshot = self._complete()
        with self._health.writing(self.path):
            self._file.write(encode_header(snapshot), 0)
        self._sync()
        self._file.close()
        self._file = None
        return snapshot

    def discard(self) -> None:
        """Forget what was written; nothing happens if it was adopted."""
        if self._file is not None:
            self._file.close()
            self._file = None
        # Deleted at the next opening, if it can't be now.
        with suppress(OSError):
            self._files.unlink(self.path)


class _Receiving:
    """A snapshot that is on its way here."""

    def __init__(self, file: File, snapshot: Snapshot, start: int) -> None:
        self.file = file
        self.snapshot = snapshot
        self.start = start
        self.held = 0
        self.crc = 0
        self.unsynced = 0

    def add(self, data: bytes) -> None:
        self.held += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self.unsynced += len(data)


class Snapshots:
    """The snapshots of a directory.

    Attributes:
        newest: what the newest complete one is of.
    """

    def __init__(self, files: Files, directory: str, health: Health) -> None:
        self._files = files
        self._directory = directory
        self._health = health
        self.newest: Snapshot | None = None
        self._older: list[str] = []
        self._receiving: _Receiving | None = None

    def open(self) -> None:
        """Verify the newest.

        Raises:
            StoreDamaged, StoreMismatch: the newest is not what was written.
            StorageError: it can't be read.
        """
        with self._health.opening(self._directory):
            names = self._files.names(self._directory)
            found = snapshot_names(names)
            if found:
                self.newest = verify(self._files, join(self._directory, found[0]))
            self._older = found[1:]

    def tidy(self) -> None:
        """Forget what is older, and go on with what was on its way; raises as `open`."""
        self._forget_older()
        with self._health.opening(self._directory):
            names = self._files.names(self._directory)
        if RECEIVED in names:
            self._resume()

    def read(self) -> DiskReader:
        """The newest, which there is."""
        assert self.newest is not None
        return DiskReader(self._files, self._path(self.newest), self._health)

    def begin(self, snapshot: Snapshot) -> DiskSink:
        """Raises `DiskFull` or `StoreFailed`, as its sink does."""
        # Never a name again: a writer that was given up deletes what it began, whenever it wakes.
        path = f"{self._path(snapshot)}.{os.getpid()}-{next(_numbers)}.part"
        return DiskSink(snapshot, self._files, path, self._health)

    def adopt(self, sink: DiskSink) -> None:
        """Let a finished one be the newest, unless a newer one is there; raises as `begin`."""
        if self.newest is not None and sink.snapshot.index <= self.newest.index:
            sink.discard()
            return
        self._name(sink.path, sink.snapshot)

    @property
    def received(self) -> tuple[Snapshot, int] | None:
        """What is on its way, and how many bytes of it are here."""
        receiving = self._receiving
        return None if receiving is None else (receiving.snapshot, receiving.held)

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        """Take a piece; return how many bytes are here, from the start on.

        Raises:
            DiskFull: it was not taken.
            StoreFailed: the disk fails.
        """
        receiving = self._receiving
        if receiving is None or receiving.snapshot != snapshot:
            receiving = self._begin_to_receive(snapshot)
        held = receiving.held
        if offset <= held < offset + len(data):
            self._take(receiving, data[held - offset :])
        return receiving.held

    def install(self) -> Snapshot:
        """Let what was received be the newest.

        Raises:
            DamagedSnapshot: it is not what it should be; it is forgotten.
            StoreFailed: the disk fails.
        """
        receiving = self._receiving
        if receiving is None:
            raise DamagedSnapshot("nothing was received")
        try:
            check_whole(receiving.snapshot, receiving.held, receiving.crc)
        except DamagedSnapshot:
            self.forget_received()
            raise
        part = join(self._directory, RECEIVED)
        with self._health.syncing(part):
            receiving.file.sync()
        receiving.file.close()
        self._receiving = None
        self._name(part, receiving.snapshot)
        return receiving.snapshot

    def close(self) -> None:
        """Close what is open; what was received can be gone on with."""
        if self._receiving is not None:
            self._receiving.file.close()
            self._receiving = None

    def _path(self, snapshot: Snapshot) -> str:
        return join(self._directory, snapshot_name(snapshot))

    def _name(self, part: str, snapshot: Snapshot) -> None:
        """All of it is on the disk: let it be found there."""
        path = self._path(snapshot)
        with self._health.writing(path):
            self._files.rename(part, path)
        with self._health.syncing(path):
            self._files.sync_directory(self._directory)
        before, self.newest = self.newest, snapshot
        if before is not None and snapshot_name(before) != snapshot_name(snapshot):
            self._older.append(snapshot_name(before))
        self._forget_older()

    def _forget_older(self) -> None:
        kept = []
        for name in self._older:
            path = join(self._directory, name)
            with self._health.syncing(path):
                try:
                    self._files.unlink(path)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    # Where an open file can't be deleted, it is when nobody reads it any more.
                    kept.append(name)
        self._older = kept

    def _begin_to_receive(self, snapshot: Snapshot) -> _Receiving:
        self.forget_received()
        path = join(self._directory, RECEIVED)
        header = encode_header(snapshot)
        with self._health.writing(path):
            with suppress(FileNotFoundError):
                self._files.unlink(path)
            file = self._files.create(path)
            try:
                file.write(header, 0)
            except OSError:
                file.close()
                raise
        self._receiving = _Receiving(file, snapshot, len(header))
        return self._receiving

    def _take(self, receiving: _Receiving, data: bytes) -> None:
        path = join(self._directory, RECEIVED)
        with self._health.writing(path):
            receiving.file.write(data, receiving.start + receiving.held)
        receiving.add(data)
        if receiving.unsynced >= _OFTEN:
            with self._health.syncing(path):
                receiving.file.sync()
            receiving.unsynced = 0

    def _resume(self) -> None:
        """Go on with what the process before had received; written again, as it may be unsynced."""
        path = join(self._directory, RECEIVED)
        with self._health.opening(path):
            file = self._files.open(path, writable=True)
            try:
                start, snapshot = read_header(file, path)
            except (StoreDamaged, StoreMismatch) as error:
                log.warning("%s; it was not complete, and will be asked for anew", error)
                file.close()
                self._files.unlink(path)
                return
            receiving = self._receiving = _Receiving(file, snapshot, start)
            file.write(encode_header(snapshot), 0)
            while data := file.read(_PIECE, start + receiving.held):
                file.write(data, start + receiving.held)
                receiving.add(data)

    def forget_received(self) -> None:
        """What was received is not needed any more; a file that is left over harms nothing."""
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.file.close()
            with suppress(OSError):
                self._files.unlink(join(self._directory, RECEIVED))
