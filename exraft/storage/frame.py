"""A checksummed piece at the beginning of a file, which says what the file is.

Knows the kind, the format version and the checksum. Must not know what is said in it.
"""

from __future__ import annotations

import struct
import zlib

from exraft.errors import StoreDamaged, StoreMismatch

VERSION = 1
"""Of the format of everything in a directory."""

_HEAD = struct.Struct("<8sIII")
"""Kind, version, length of what is said, and the checksum of these three and of it."""

BEGINNING = _HEAD.size
"""Bytes that tell how long a frame is."""

LONGEST = 1 << 24
"""Bytes of what is said, at most. The longest thing to say is a configuration."""


def frame(kind: bytes, said: bytes) -> bytes:
    """Return `said` with all that it takes to trust it."""
    return _HEAD.pack(kind, VERSION, len(said), _crc(kind, VERSION, said)) + said


def length(kind: bytes, data: bytes, path: str) -> int:
    """How many bytes a frame takes, of which at least the first `BEGINNING` should be here.

    Raises:
        StoreDamaged: it is none.
    """
    if len(data) < _HEAD.size:
        raise StoreDamaged(path, f"the file is cut off, {len(data)} bytes are left", offset=0)
    found, _, size, _ = _HEAD.unpack_from(data)
    if found != kind or size > LONGEST:
        raise StoreDamaged(path, "the beginning of the file is damaged", offset=0)
    return _HEAD.size + int(size)


def unframe(kind: bytes, data: bytes, path: str) -> bytes:
    """Return what is said in the frame that `data` begins with.

    Raises:
        StoreDamaged: it is none, or not what was written.
        StoreMismatch: it is of another version.
    """
    end = length(kind, data, path)
    said = data[_HEAD.size : end]
    _, version, _, crc = _HEAD.unpack_from(data)
    if len(data) < end or crc != _crc(kind, version, said):
        raise StoreDamaged(path, "the beginning of the file is damaged", offset=0)
    if version != VERSION:
        raise StoreMismatch(
            path,
            f"it is of format {version}, and this ExRaft knows format {VERSION}:"
            " use the ExRaft that wrote it, or a newer one",
        )
    return said


def _crc(kind: bytes, version: int, said: bytes) -> int:
    return zlib.crc32(said, zlib.crc32(_HEAD.pack(kind, version, len(said), 0)))
