"""What a store asks of the operating system, and nothing else: every file it touches goes through.

Knows files, their directories, and what it takes until either is on the disk for good. Must not
know what is in them. `exraft.testing` puts a disk in its place that fails and loses power at will.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_PAST_THE_NOTE = 1 << 30
"""Which byte is locked where locks are mandatory, so that the note before it can be read."""


class Held(Exception):
    """Somebody holds the lock; the message is the note that they left in it."""


class File(Protocol):
    """An open file; who reads or writes says where."""

    def read(self, size: int, offset: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the file."""

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of it, or raise, with any part of it written."""

    def sync(self) -> None:
        """Return when everything that was written is on the disk."""

    def size(self) -> int: ...
    def close(self) -> None: ...


class Lock(Protocol):
    def close(self) -> None:
        """Let go of it."""


class Files(Protocol):
    """What a process can do to files. All of it may raise `OSError`."""

    failed: dict[str, str]
    """Directories (their real paths) that this process must not use any more, and why."""

    def real(self, path: str) -> str:
        """The one path by which this process knows a directory."""

    def make_directory(self, path: str) -> None:
        """Make it, and what leads there, for good, if it is not there."""

    def create(self, path: str) -> File:
        """An empty file that was not there."""

    def open(self, path: str, writable: bool = False) -> File: ...
    def rename(self, old: str, new: str) -> None:
        """Atomically, in the place of any file `new`. It lasts once the directory is synced."""

    def unlink(self, path: str) -> None:
        """It lasts once the directory is synced."""

    def names(self, path: str) -> list[str]:
        """What is in a directory, sorted."""

    def sync_directory(self, path: str) -> None:
        """Return when the names in it are on the disk."""

    def lock(self, path: str, note: str) -> Lock:
        """Hold a file, against other processes and other holders in this one, and note who does.

        Raises:
            Held: somebody else holds it.
        """

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        """Begin work that the caller need not wait for; the function returned waits for it."""


class OsFiles:
    """The files of the operating system."""

    failed: dict[str, str] = {}  # noqa: RUF012  a process has one view of a disk
    """Of the whole process: what one store was told of a disk is true for every other."""

    def __init__(self) -> None:
        self._locks: dict[str, OsLock] = {}
        """By directory."""

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def make_directory(self, path: str) -> None:
        path = os.path.abspath(path)
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.make_directory(parent)
        # Another server may be making the same one.
        os.makedirs(path, exist_ok=True)
        # Even if it was there: whoever made it may not have come to this.
        with suppress(PermissionError):  # Then it is not one that this process could have made.
            self.sync_directory(parent)

    def create(self, path: str) -> OsFile:
        return OsFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def open(self, path: str, writable: bool = False) -> OsFile:
        return OsFile(path, os.O_RDWR if writable else os.O_RDONLY)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def sync_directory(self, path: str) -> None:
        if sys.platform == "win32":
            return  # NTFS keeps a journal of names, and gives no other hold on it.
        held = self._locks.get(path)
        if held is not None and held.directory >= 0:
            # Nothing need be opened, which may fail when a name was given already.
            _sync_names(held.directory)
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _sync_names(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str, note: str) -> OsLock:
        lock = self._locks[os.path.dirname(path)] = OsLock(path, note)
        return lock

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        thread = threading.Thread(target=work, name="exraft-storage", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # The interpreter ends, and starts no more threads.
            work()
            return lambda: None
        return thread.join


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: str, flags: int) -> None:
        self._descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)

    if sys.platform == "win32":

        def read(self, size: int, offset: int) -> bytes:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            parts = []
            while size > 0 and (part := os.read(self._descriptor, size)):
                parts.append(part)
                size -= len(part)
            return b"".join(parts)

        def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    else:

        def read(self, size: int, offset: int) -> bytes:
            data = os.pread(self._descriptor, size, offset)
            # One call reads no more than 2 GiB.
            while len(data) < size and (
                more := os.pread(self._descriptor, size - len(data), offset + len(data))
            ):
                data += more
            return data

        def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
            written = os.pwrite(self._descriptor, data, offset)
            while written < len(data):
                # What stopped it short is told by the next call, a full disk for instance.
                written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)

    def sync(self) -> None:
        _sync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)


if sys.platform == "win32":

    def _sync(descriptor: int) -> None:
        os.fsync(descriptor)

elif sys.platform == "darwin":

    def _sync(descriptor: int) -> None:
        # fsync leaves it in the drive's cache there: fsync(2) of macOS.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)

else:

    def _sync(descriptor: int) -> None:
        os.fdatasync(descriptor)


def _sync_names(descriptor: int) -> None:
    if sys.platform == "darwin":
        _sync(descriptor)
    else:
        # Not fdatasync, which on older kernels passes over names that do not change its size.
        os.fsync(descriptor)


class OsLock:
    """A lock that ends with the process at the latest, and is not inherited by a forked child.

    Attributes:
        directory: the descriptor of the directory that it is in; -1 where there is none.
    """

    def __init__(self, path: str, note: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _hold(self._descriptor)
        except OSError as error:
            left = os.read(self._descriptor, 1000).decode(errors="replace").strip()
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise
            raise Held(left) from None
        self.directory = -1
        _locks.add(self)
        if sys.platform != "win32":
            try:
                self.directory = os.open(os.path.dirname(path), os.O_RDONLY)
            except BaseException:
                self.let_go()
                raise
        # The note is for people; that there is no room for it must not decide who holds what.
        with suppress(OSError):
            # In this order, so that whoever reads it meanwhile finds one.
            said = note.encode() + b"\n"
            os.write(self._descriptor, said)
            os.ftruncate(self._descriptor, len(said))

    def close(self) -> None:
        """Let go of it, and of the note."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        self.let_go()

    def let_go(self) -> None:
        """In a forked child, whose parent goes on holding it."""
        _locks.discard(self)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1


if sys.platform == "win32":

    def _hold(descriptor: int) -> None:
        os.lseek(descriptor, _PAST_THE_NOTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:

    def _hold(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_locks: weakref.WeakSet[OsLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # A lock of flock(2) belongs to the open file, which parent and child share: it would outlive
    # the parent in any child that does.
    for lock in list(_locks):
        lock.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
