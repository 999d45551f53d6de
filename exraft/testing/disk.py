"""A disk in memory that loses power, fails and is full at will: in the place of a store's files.

Knows what was synced, sector by sector and name by name, and what else a power failure may leave.
Must not know what the files are for.

What it may leave is as bad as POSIX allows: of the sectors written since a file was synced, any may
have reached the disk, and one may be torn at any byte; of the names changed since a directory was
synced, any may have. A file that was synced is lost with its name all the same. And a sync that
fails leaves sectors that can be read, are not on the disk, and that no later sync writes, unless
they are written again (as Linux does since 4.13).
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os.path import dirname
from sys import maxsize
from typing import Final, TypeVar

from exraft.storage.files import Held

Thing = TypeVar("Thing")

SECTOR: Final = 512

_POWER: Final = -1

_EARLY: Final = 0.1
"""The chance, at each write, that the system writes back what was written before."""


class PowerLost(BaseException):
    """The power went; nothing can be done until it is back."""


class _Inode:
    """The bytes of a file: as they are read, and as the disk has them."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        """The sectors that the next sync writes."""
        self.doubtful: set[int] = set()
        """The sectors that a failed sync has not written, and that count as clean."""

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if len(self.content) < end:
            self.content += bytes(end - len(self.content))
        self.content[offset:end] = data
        if data:
            touched = range(offset // SECTOR, (end - 1) // SECTOR + 1)
            self.dirty.update(touched)
            self.doubtful.difference_update(touched)

    def store(self, sector: int, upto: int = SECTOR) -> None:
        """Bring a sector to the disk, or the first bytes of it."""
        start = sector * SECTOR
        end = min(start + upto, len(self.content))
        if len(self.durable) < end:
            self.durable += bytes(end - len(self.durable))
        self.durable[start:end] = self.content[start:end]

    def sync(self) -> None:
        for sector in self.dirty:
            self.store(sector)
        self.dirty.clear()


_Change = dict[str, _Inode | None]


class SimulatedFiles:
    """Files as a store needs them (`exraft.storage.Files`), on a disk that never was.

    Attributes:
        operations: how many were begun that a fault can be put at.
        trace: the kind and the path of each.
        capacity: bytes that all files together may have; None: as many as there are.
        failed: directories that the present process must not use any more.
    """

    def __init__(self, rng: random.Random) -> None:
        """Nothing is on it.

        Args:
            rng: decides what a power failure leaves.
        """
        self.operations = 0
        self.trace: list[tuple[str, str]] = []
        self.capacity: int | None = None
        self.failed: dict[str, str] = {}
        self._rng = rng
        self._names: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._changes: dict[str, list[_Change]] = {}
        """Of the names in each directory, since it was synced."""
        self._directories = {"/", ""}
        self._held: dict[str, str] = {}
        self.process = 0
        """How many ended before the present one."""
        self._power_goes_at: int | None = None
        self._faults: dict[int, int] = {}
        self._dark = False

    # What is done to it.

    def lose_power_at(self, operation: int) -> None:
        """Let the power go in the middle of that operation, the first being 1."""
        self._power_goes_at = operation

    def fail_at(self, operation: int, number: int, times: int = 1) -> None:
        """Let that operation fail with an `errno`, and those after it, `times` in all."""
        for each in range(operation, operation + times):
            self._faults[each] = number

    def work_again(self) -> None:
        """No fault is to come."""
        self._faults.clear()
        self._power_goes_at = None

    def kill(self) -> None:
        """End the process: what was written stays, open files and locks go."""
        self.process += 1
        self._held.clear()
        self.failed.clear()
        self._dark = False

    def lose_power(self) -> None:
        """End the process and forget what was not synced, but for what reached the disk anyway."""
        self.kill()
        for changes in self._changes.values():
            for change in self._some(changes):
                _apply(self._durable, change)
        self._changes.clear()
        self._names = dict(self._durable)
        for inode in dict.fromkeys([*self._names.values()]):
            sectors = self._some(sorted(inode.dirty | inode.doubtful))
            torn = self._rng.choice(sectors) if sectors and self._rng.random() < 0.5 else None
            for sector in sectors:
                inode.store(sector, self._rng.randrange(SECTOR) if sector == torn else SECTOR)
            inode.content = bytearray(inode.durable)
            inode.dirty.clear()
            inode.doubtful.clear()

    def _some(self, things: list[Thing]) -> list[Thing]:
        """None of them, all, the first ones, or any."""
        how = self._rng.randrange(4)
        if how < 2:
            return things if how else []
        if how == 2:
            return things[: self._rng.randint(0, len(things))]
        return [thing for thing in things if self._rng.random() < 0.5]

    def content(self, path: str) -> bytes:
        """What is in a file."""
        return bytes(self._named(path).content)

    def damage(self, path: str, offset: int, mask: int = 0xFF) -> None:
        """Change a byte of a file, as an old disk does, and nobody notices."""
        inode = self._named(path)
        for content in (inode.content, inode.durable):
            if offset < len(content):
                content[offset] ^= mask

    # What a store does with it.

    def real(self, path: str) -> str:
        return os.path.normpath(path)

    def make_directory(self, path: str) -> None:
        if path not in self._directories:
            with self._operation("make_directory", path):
                while path not in self._directories:
                    self._directories.add(path)
                    path = dirname(path)

    def create(self, path: str) -> SimulatedFile:
        with self._operation("create", path):
            if path in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._change(path, {path: _Inode()})
        return SimulatedFile(self, path, self._names[path])

    def open(self, path: str, writable: bool = False) -> SimulatedFile:
        with self._operation("open", path):
            return SimulatedFile(self, path, self._named(path))

    def rename(self, old: str, new: str) -> None:
        with self._operation("rename", new):
            self._change(new, {old: None, new: self._named(old)})

    def unlink(self, path: str) -> None:
        with self._operation("unlink", path):
            self._named(path)
            self._change(path, {path: None})

    def names(self, path: str) -> list[str]:
        with self._operation("names", path):
            if path not in self._directories:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return sorted(os.path.basename(name) for name in self._names if dirname(name) == path)

    def sync_directory(self, path: str) -> None:
        with self._operation("sync_directory", path):
            for change in self._changes.pop(path, []):
                _apply(self._durable, change)

    def lock(self, path: str, note: str) -> SimulatedLock:
        with self._operation("lock", path):
            if path in self._held:
                raise Held(self._held[path])
            self._held[path] = note
            return SimulatedLock(self._held, path, self)

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        """At once, so that everything happens in one order."""
        work()
        return lambda: None

    # How anything is done to it.

    @contextmanager
    def _operation(self, kind: str, path: str) -> Iterator[None]:
        """Around what a fault may come before. What a power failure comes before may be done."""
        fault = self.begin(kind, path)
        if fault == _POWER:
            if self._rng.random() < 0.5:
                with suppress(OSError, Held):
                    yield
            raise PowerLost
        if fault:
            raise OSError(fault, os.strerror(fault), path)
        yield

    def begin(self, kind: str, path: str) -> int:
        """Count an operation; return the number of the error it has to fail with, or 0."""
        if self._dark:
            raise PowerLost
        self.operations += 1
        self.trace.append((kind, path))
        if self.operations == self._power_goes_at:
            self._dark = True
            return _POWER
        return self._faults.pop(self.operations, 0)

    def _named(self, path: str) -> _Inode:
        inode = self._names.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return inode

    def _change(self, path: str, change: _Change) -> None:
        _apply(self._names, change)
        self._changes.setdefault(dirname(path), []).append(change)

    def room(self) -> int:
        """Bytes that are free."""
        if self.capacity is None:
            return maxsize
        return self.capacity - sum(len(inode.content) for inode in self._names.values())

    def written(self, inode: _Inode, data: bytes, offset: int) -> None:
        """Write to a file, and now and then bring to the disk what was written to it before."""
        if inode.dirty and self._rng.random() < _EARLY:
            for sector in self._some(sorted(inode.dirty)):
                inode.store(sector)
        inode.write(data, offset)

    def part(self, size: int) -> int:
        """How many bytes of a write are done that does not come to its end."""
        return self._rng.randint(0, size)

    def half_synced(self, inode: _Inode, forgotten: bool) -> None:
        """What a sync does that does not come to its end, and which it may forget to go on with."""
        for sector in self._some(sorted(inode.dirty)):
            inode.store(sector)
            inode.dirty.discard(sector)
        if forgotten:
            inode.doubtful |= inode.dirty
            inode.dirty.clear()


class SimulatedFile:
    """An open file; dead when its process is."""

    def __init__(self, files: SimulatedFiles, path: str, inode: _Inode) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._process = files.process

    def read(self, size: int, offset: int) -> bytes:
        fault = self._begin("read")
        if fault:
            raise self._error(fault)
        return bytes(self._inode.content[offset : offset + size])

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        fault = self._begin("write")
        data = bytes(data)
        room = len(self._inode.content) + self._files.room() - offset
        done = len(data) if not fault else self._files.part(len(data))
        if not fault and done > room:
            done, fault = max(0, room), errno.ENOSPC
        if fault == errno.ENOSPC:
            # Room is found for a sector before it is written to.
            done = min(done, len(data) - 1)
            done = max(0, (offset + done) // SECTOR * SECTOR - offset)
        data = data[:done]
        self._files.written(self._inode, data, offset)
        if fault:
            raise self._error(fault)

    def sync(self) -> None:
        fault = self._begin("sync")
        if fault:
            self._files.half_synced(self._inode, forgotten=fault != _POWER)
            raise self._error(fault)
        self._inode.sync()

    def size(self) -> int:
        return len(self._inode.content)

    def close(self) -> None:
        """Nothing is held."""

    def _begin(self, kind: str) -> int:
        if self._process != self._files.process:
            raise OSError(errno.EBADF, "its process has ended", self._path)
        return self._files.begin(kind, self._path)

    def _error(self, fault: int) -> BaseException:
        return PowerLost() if fault == _POWER else OSError(fault, os.strerror(fault), self._path)


class SimulatedLock:
    """Held until it is closed or its process ends."""

    def __init__(self, held: dict[str, str], path: str, files: SimulatedFiles) -> None:
        self._held = held
        self._path = path
        self._files = files
        self._process = files.process

    def close(self) -> None:
        if self._process == self._files.process:
            self._held.pop(self._path, None)


def _apply(names: dict[str, _Inode], change: _Change) -> None:
    for path, inode in change.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode
