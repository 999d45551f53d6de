"""A segment of the journal, as bytes: its header, its records, and where they end.

Knows the format, and how to tell a torn tail from damage. Must not know files, nor which records a
log is made of.

A header names the segment, and records follow without gaps, the last one followed by a few zeros.
Each is written where the synced ones end, and is synced before the next one is written. So:

- Behind the last record are these zeros, or what is left of a write that did not come to its end: a
  *torn tail*, which was promised to nobody.
- Where a record should be and is none, but another one stands anywhere behind it, there was one
  that had been synced: that is *damage*.

A record's checksum begins with the segment's own mark and the record's place. So nothing else is
taken for a record of this segment at this place: not the bytes of a user's command, nor what is
left of the log that the file had before, if it was used before.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import msgspec

from exraft.errors import StoreDamaged
from exraft.names import Peer
from exraft.raft.log import Entry
from exraft.storage.frame import frame, length, unframe

SEGMENT = b"exraft L"

_HEAD = struct.Struct("<III")
"""Mark of the segment, length of what is said, and checksum."""
_PLACE = struct.Struct("<QI")

END = bytes(_HEAD.size)
"""What follows the last record."""

_SEAL = b"\xc0"
"""Said by the last record of a segment when the next one is there."""


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a segment says of itself. `end` is where the records of the one before it end."""

    store_id: str
    number: int
    end: int
    size: int
    """Bytes that the file has at least."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The small state, and that the log is `entries` from `first` on.

    However many changes it stands for, it comes to the disk whole or not at all.
    """

    term: int = 0
    voted_for: Peer | None = None
    leads: bool = False
    commit_index: int = 0
    base_index: int = 0
    base_term: int = 0
    first: int = 1
    entries: list[Entry] = []

    @property
    def last_index(self) -> int:
        return self.first + len(self.entries) - 1

    def without_entries(self) -> Record:
        """The state that it leaves behind, as a record that changes nothing."""
        return msgspec.structs.replace(self, first=self.last_index + 1, entries=[])


_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(Record)
_headers = msgspec.msgpack.Decoder(Header)


def encode_header(header: Header) -> bytes:
    return frame(SEGMENT, _encoder.encode(header))


def decode_header(data: bytes, path: str) -> Header:
    """Raises `StoreDamaged` or `StoreMismatch`."""
    try:
        return _headers.decode(unframe(SEGMENT, data, path))
    except msgspec.DecodeError as error:
        raise StoreDamaged(path, f"the header says nonsense ({error})", offset=0) from error


def mark_of(header: bytes) -> int:
    """What the records of a segment begin with; of its encoded header."""
    return zlib.crc32(header) | 1


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def put(mark: int, place: int, said: bytes) -> bytes:
    """The bytes of a record at its place, and of the end that the next one is written over."""
    crc = zlib.crc32(said, zlib.crc32(_PLACE.pack(place, len(said)), mark))
    return b"".join((_HEAD.pack(mark, len(said), crc), said, END))


def seal(mark: int, place: int) -> bytes:
    """The bytes that say that the next segment is there."""
    return put(mark, place, _SEAL)


OVERHEAD = _HEAD.size
"""Bytes of a record beside what it says."""


@dataclass
class Segment:
    """What was read of a segment."""

    path: str
    header: Header
    size: int
    """Bytes of the file."""
    mark: int
    start: int
    """Where the first record is."""
    end: int
    """Where the last one ends."""
    last: bytes = b""
    """The bytes from the last record on, or from the header if there is none, up to `end`."""
    records: list[tuple[int, Record]] = field(default_factory=list)
    """With the place of each."""
    sealed: bool = False
    torn: int = 0
    """Bytes of what follows and is left of a write that did not come to its end, at most."""
    problem: str = ""
    """What is wrong with what should be at `end`; empty if nothing is."""

    @property
    def last_place(self) -> int:
        """Where `last` begins."""
        return self.records[-1][0] if self.records else 0

    @property
    def highest(self) -> int:
        """The highest index of an entry in it, 0 if there is none."""
        return max((record.last_index for _, record in self.records if record.entries), default=0)


def read_segment(path: str, data: bytes, end: int | None) -> Segment:
    """Read what is in a segment.

    Args:
        path: of it, for errors.
        data: the whole file.
        end: where its records end, known if another segment follows.

    Raises:
        StoreDamaged: the header is damaged.
        StoreMismatch: it is of another version.
    """
    header = decode_header(data, path)
    start = length(SEGMENT, data, path)
    segment = Segment(path, header, len(data), mark_of(data[:start]), start, start)
    with memoryview(data) as view:
        _read_records(segment, view, len(data) if end is None else end)
    if end is not None:
        if not segment.problem and segment.end != end:
            segment.problem = f"its records should end at byte {end}"
    elif not segment.problem and not segment.sealed:
        _judge_tail(segment, data)
    segment.last = data[segment.last_place : segment.end]
    return segment


def _read_records(segment: Segment, view: memoryview, end: int) -> None:
    while segment.end < end:
        place = segment.end
        said = _at(segment.mark, place, view)
        if said is None:
            return
        if said == _SEAL:  # A memoryview compares as bytes do.
            segment.sealed = True
            return
        try:
            segment.records.append((place, _records.decode(said)))
        except msgspec.DecodeError as error:
            segment.problem = f"the record says nonsense ({error})"
            return
        segment.end = place + OVERHEAD + len(said)


def _at(mark: int, place: int, view: memoryview) -> memoryview | None:
    """What the record at `place` says; None if there is none."""
    begin = place + OVERHEAD
    if begin > len(view):
        return None
    found, size, crc = _HEAD.unpack_from(view, place)
    if found != mark or begin + size > len(view):
        return None
    said = view[begin : begin + size]
    if crc != zlib.crc32(said, zlib.crc32(_PLACE.pack(place, size), mark)):
        return None
    return said


def _judge_tail(segment: Segment, data: bytes) -> None:
    """What stands behind the last record of the last segment?"""
    end = segment.end
    if len(data) < segment.header.size:
        # It was filled up, and that was synced, before it was used: no power failure cuts it off.
        segment.problem = f"the file is cut off: {segment.header.size} bytes were written once"
        return
    begins = _HEAD.pack(segment.mark, 0, 0)[:4]
    place = data.find(begins, end + 1)
    with memoryview(data) as view:
        while place >= 0:
            if _at(segment.mark, place, view) is not None:
                segment.problem = f"it is damaged: a record that came later is whole, at {place}"
                return
            place = data.find(begins, place + 1)
    if any(data[end : end + len(END)]):
        segment.torn = len(data.rstrip(b"\0")) - end
