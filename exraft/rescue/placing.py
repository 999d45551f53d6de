"""A server's directory put in the place of another, which is kept beside it.

Knows how that is done so that an interruption leaves the old one, or the new one, and never half of
either. Must not know what is in them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from os.path import basename, dirname, join, lexists

from exraft.errors import StorageError
from exraft.storage.directory import hold, read_identity
from exraft.storage.files import OsFiles
from exraft.storage.image import Image, write_directory

_HERE = -100
"""AT_FDCWD: a path that is not absolute begins in the working directory."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.ENOTSUP}

_rename = os.rename


@contextmanager
def holding(path: str) -> Iterator[None]:
    """Keep servers from a directory, from before it is read until another has its place.

    Raises:
        StoreLocked: a server is at work on it.
        StorageError: it can't be held.
    """
    try:
        lock = hold(OsFiles(), path)
    except OSError as error:
        raise StorageError(path, f"it can't be held: {error}") from error
    try:
        yield
    finally:
        lock.close()


def replace_directory(path: str, image: Image, word: str) -> tuple[str, str]:
    """Write a directory that says what `image` says, in the place of the one at `path`.

    That one must be held.

    Args:
        path: of a server's directory.
        image: with the identity that the new one is to have; another name moves the directory.
        word: what is being done, for the name under which the old one is kept.

    Returns:
        the paths of the new one and of the old one.

    Raises:
        StorageError: it could not be done, and the old one is in its place.
    """
    assert image.identity is not None
    files = OsFiles()
    path = files.real(path)
    kept = _unused(f"{path}.before-{word}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    beside = _unused(f"{path}.{word}.part")
    parent = dirname(path)
    holds_old = False
    """Whether the old one is where the new one was written."""
    try:
        peer = image.identity.peer
        written = write_directory(beside, image, peer=peer, store_id=image.identity.store_id)
        moves = read_identity(files, path).name != peer.name
        place = join(parent, basename(written)) if moves else path
        if place != path and lexists(place):
            raise StorageError(place, "it is there already: nothing is written over it")
        if place != path or not _exchange(written, path):
            _move(path, kept, written, place)
        else:
            holds_old = True
            _rename(written, kept)
            holds_old = False
        files.sync_directory(parent)
    except OSError as error:
        raise StorageError(path, f"it can't be replaced: {error}") from error
    finally:
        if not holds_old:
            shutil.rmtree(beside, ignore_errors=True)
    return place, kept


def _move(path: str, kept: str, written: str, place: str) -> None:
    """For a moment nothing has the name: better than two directories of one server."""
    _rename(path, kept)
    try:
        _rename(written, place)
    except BaseException:
        _rename(kept, path)
        raise


def _exchange(one: str, other: str) -> bool:
    """Let two directories change places in one step; False where that can't be done."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in _CANNOT:
        return False
    raise OSError(error, os.strerror(error), one, None, other)


def _unused(path: str) -> str:
    """The path, or one like it where nothing is."""
    number, found = 1, path
    while lexists(found):
        number += 1
        found = f"{path}-{number}"
    return found
