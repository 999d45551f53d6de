"""What an error of the operating system means to a store.

Knows which errors a store survives, and remembers for the whole process which directories have
failed. Must not know what was written.

A write that finds no room has changed nothing that counts: it can be tried again. After any other
error, and after any failed sync, nobody can tell what is on the disk: Linux forgets what it could
not write, says so once, and then answers reads out of a memory that the disk knows nothing of
(Rebello et al., "Can Applications Recover from fsync Failures?", 2020). So the directory is not
used any more by this process; the next one reads what is there, and writes the end of it again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from exraft.errors import DiskFull, StorageError, StoreFailed
from exraft.storage.files import Files

NO_ROOM = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)
)

_BROKEN = frozenset(
    getattr(errno, name) for name in ("EIO", "EUCLEAN", "ENXIO", "ENODEV") if hasattr(errno, name)
)


class Health:
    """Whether a directory can be trusted."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files = files
        self._real = files.real(directory)
        self._directory = directory

    @property
    def failed(self) -> str:
        """Why it can't be; empty if it can."""
        return self._files.failed.get(self._real, "")

    def check(self) -> None:
        """Raise `StoreFailed` if it can't be trusted."""
        if self.failed:
            raise StoreFailed(self._directory, _SAYS.format(self.failed))

    @contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Around what may find no room.

        Raises:
            DiskFull: it did, and can be tried again.
            StoreFailed: anything else has happened.
        """
        try:
            yield
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(
                    path,
                    f"there is no room for what must be stored ({error.strerror}): make room,"
                    " and the server goes on by itself",
                ) from error
            raise self._fail(path, error) from error

    @contextmanager
    def syncing(self, path: str) -> Iterator[None]:
        """Around what must not fail at all.

        Raises:
            StoreFailed: it did.
        """
        try:
            yield
        except OSError as error:
            raise self._fail(path, error) from error

    @contextmanager
    def opening(self, path: str) -> Iterator[None]:
        """Around what is done before anything was promised.

        Raises:
            DiskFull: there was no room.
            StoreFailed: the disk fails.
            StorageError: it can't be done, for a reason that may pass, such as a permission.
        """
        try:
            yield
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(path, f"there is no room for it ({error.strerror})") from error
            if error.errno in _BROKEN:
                raise self._fail(path, error) from error
            raise StorageError(path, f"it can't be opened: {error}") from error

    def _fail(self, path: str, error: OSError) -> StoreFailed:
        self._files.failed.setdefault(self._real, f"{path}: {error.strerror or error}")
        return StoreFailed(self._directory, _SAYS.format(self.failed))


_SAYS = (
    "the disk has failed ({}), so this process uses the directory no more: look after the disk,"
    " then start a new process, which verifies what is stored"
)
