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
from collections.abc import Callable
from types import TracebackType

from exraft.errors import DiskFull, StorageError, StoreFailed
from exraft.storage.files import Files

NO_ROOM = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE")
    if hasattr(errno, name)
)
"""The last two: there are too many open files, so what was to be written was not even begun."""

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

    def writing(self, path: str) -> _Around:
        """Around what may find no room.

        Raises:
            DiskFull: it did, and can be tried again.
            StoreFailed: anything else has happened.
        """
        return _Around(path, self._could_not_write)

    def syncing(self, path: str) -> _Around:
        """Around what must not fail at all.

        Raises:
            StoreFailed: it did.
        """
        return _Around(path, self._fail)

    def _could_not_write(self, path: str, error: OSError) -> StorageError:
        if error.errno not in NO_ROOM:
            return self._fail(path, error)
        return DiskFull(
            path,
            f"there is no room for what must be stored ({error.strerror}): make room. A server that"
            " runs goes on by itself then, whatever was to begin is to be begun again",
        )

    def opening(self, path: str) -> _Around:
        """Around what is done before anything was promised.

        Raises:
            DiskFull: there was no room.
            StoreFailed: the disk fails.
            StorageError: it can't be done, for a reason that may pass, such as a permission.
        """
        return _Around(path, self._could_not_open)

    def _could_not_open(self, path: str, error: OSError) -> StorageError:
        if error.errno in NO_ROOM:
            return DiskFull(path, f"there is no room for it ({error.strerror})")
        if error.errno in _BROKEN:
            return self._fail(path, error)
        return StorageError(path, f"it can't be opened: {error}")

    def _fail(self, path: str, error: OSError) -> StoreFailed:
        self._files.failed.setdefault(self._real, f"{path}: {error.strerror or error}")
        return StoreFailed(self._directory, _SAYS.format(self.failed))


class _Around:
    """What `contextmanager` makes, at a third of the time: each write goes through two of them."""

    __slots__ = ("_means", "_path")

    def __init__(self, path: str, means: Callable[[str, OSError], StorageError]) -> None:
        self._path = path
        self._means = means

    def __enter__(self) -> None:
        """Nothing is done before."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise self._means(self._path, error) from error


_SAYS = (
    "the disk has failed ({}), so this process uses the directory no more: look after the disk,"
    " then start a new process, which verifies what is stored"
)
