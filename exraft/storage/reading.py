"""The journal of a directory, read from its first segment to its last.

Knows which segments belong together, and what the records of a log add up to. Must not know who
reads, nor what becomes of damage: it is named, with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from os.path import join

import msgspec

from exraft.errors import StoreDamaged
from exraft.raft.log import Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage.files import Files
from exraft.storage.frame import BEGINNING, length
from exraft.storage.records import (
    SEGMENT,
    Header,
    Record,
    Segment,
    decode_header,
    read_segment,
)

_PREFIX = "log-"


def segment_name(number: int) -> str:
    return f"{_PREFIX}{number:010}"


def segment_numbers(names: list[str]) -> list[int]:
    """The numbers of the segments among the names of a directory's files, in order."""
    return sorted(
        int(name.removeprefix(_PREFIX))
        for name in names
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX).isdecimal()
    )


def contiguous(numbers: list[int]) -> list[list[int]]:
    """Part numbers, which are in order, at their gaps."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def read_header(files: Files, path: str) -> Header:
    """Raises `StoreDamaged`, `StoreMismatch` or `OSError`."""
    file = files.open(path)
    try:
        beginning = file.read(BEGINNING, 0)
        return decode_header(file.read(length(SEGMENT, beginning, path), 0), path)
    finally:
        file.close()


def read_whole(files: Files, path: str) -> bytes:
    """What is in a file."""
    file = files.open(path)
    try:
        return file.read(file.size(), 0)
    finally:
        file.close()


def read_segments(files: Files, directory: str, store_id: str) -> Iterator[Segment]:
    """Yield the segments that belong together, each read; of the last only what is proven.

    Those before a gap are leftovers: segments are deleted from the first on, and a power failure
    may bring some back. Should one have been needed, then the log does not reach back to its base,
    which `Replay.close` finds.

    Raises:
        StoreDamaged, StoreMismatch: a header is damaged, or is another store's.
        OSError: a file can't be read.
    """
    runs = contiguous(segment_numbers(files.names(directory)))
    numbers = runs[-1] if runs else []
    headers = []
    for number in numbers:
        path = join(directory, segment_name(number))
        header = read_header(files, path)
        if (header.store_id, header.number) != (store_id, number):
            raise StoreDamaged(
                path,
                f"it is segment {header.number} of store {header.store_id},"
                f" and should be segment {number} of store {store_id}",
                offset=0,
            )
        headers.append(header)
    for place, number in enumerate(numbers):
        path = join(directory, segment_name(number))
        end = headers[place + 1].end if place + 1 < len(headers) else None
        segment = read_segment(path, read_whole(files, path), end)
        if end is None and segment.sealed and not segment.problem:
            segment.problem = f"{segment_name(number + 1)}, which followed, is missing"
        yield segment


class Replay:
    """What records add up to.

    Attributes:
        state: the newest record; its own entries are not to be looked at.
        first: the index of the first of `entries`.
        entries: those that are known, from the base on after `close`.
    """

    def __init__(self) -> None:
        self.state = Record()
        self.first = 0
        self.entries: list[Entry] = []
        self._begun = False

    @property
    def last_index(self) -> int:
        return self.first + len(self.entries) - 1 if self._begun else 0

    def add(self, record: Record) -> None:
        """Let the next record have its effect.

        Raises:
            ValueError: it does not follow.
        """
        first = record.first
        if not self._begun or (first > self.last_index + 1 and first == record.base_index + 1):
            # The first one there is, or all before it is in a snapshot.
            self._begun = True
            self.first = first
            self.entries = []
        elif first > self.last_index + 1:
            raise ValueError(f"the log goes from {self.last_index} to {first}")
        elif first < self.first:
            self.first = first
            self.entries = []
        else:
            del self.entries[first - self.first :]
        self.entries += record.entries
        self.state = record
        if record.last_index < record.base_index:
            raise ValueError(f"the log ends at {record.last_index}, before its base")

    def close(self) -> None:
        """Forget what is before the base.

        Raises:
            ValueError: what should follow the base is missing.
        """
        base = self.state.base_index
        if not self._begun:
            self.first = 1
        if base + 1 < self.first:
            raise ValueError(
                f"the entries from {base + 1} to {self.first - 1} are missing: a segment is"
            )
        del self.entries[: base + 1 - self.first]
        self.first = base + 1


def reconcile(
    directory: str, replay: Replay, snapshot: Snapshot | None
) -> tuple[Record, list[Entry]]:
    """Return the state and the log that go with the newest snapshot.

    Raises:
        StoreDamaged: they don't.
    """
    state = replay.state.without_entries()
    base, last = state.base_index, replay.last_index
    commit = min(state.commit_index, last)
    if base and (snapshot is None or snapshot.index < base):
        found = "there is none" if snapshot is None else f"the newest is of {snapshot.index}"
        raise StoreDamaged(directory, f"the log begins after {base} and needs a snapshot: {found}")
    if snapshot is None:
        return msgspec.structs.replace(state, commit_index=commit, first=last + 1), replay.entries
    if snapshot.term > state.term:
        # It was installed, and the record that says so is not there: nor is the newer term.
        state = msgspec.structs.replace(state, term=snapshot.term, voted_for=None)
    entries = replay.entries
    if snapshot.index == base:
        term = state.base_term
    elif snapshot.index <= last:
        term = entries[snapshot.index - base - 1].term
    else:
        term = -1
    if term != snapshot.term:
        if snapshot.index <= base:
            raise StoreDamaged(
                directory, f"the snapshot of {base} is of term {snapshot.term}, the log of {term}"
            )
        state = msgspec.structs.replace(
            state, base_index=snapshot.index, base_term=snapshot.term, first=snapshot.index + 1
        )
        entries, last = [], snapshot.index
    state = msgspec.structs.replace(state, commit_index=max(commit, snapshot.index), first=last + 1)
    return state, entries
