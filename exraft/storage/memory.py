"""A store in memory, which outlives the servers that it is lent to.

Knows how a life of a server gets the store and loses it again. Must not know why it died, nor who
starts the next one.

A `MemoryStore` is lent to one life at a time. What a life writes goes into lists of its own, which
become the store's when the next life is lent them: so a life that was given up for dead, and wakes,
holds a token that is void and lists that are nobody's.
"""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter

from exraft.names import Peer
from exraft.raft.log import CONFIG, Entry, Mark


class Fenced(RuntimeError):
    """The store is lent to another life of the server by now."""

    def __init__(self) -> None:
        super().__init__("this store was taken back: another life of the server holds it")


class MemoryStore:
    """Owned by whoever restarts the server; as lasting as its owner."""

    def __init__(self, store_id: str | None = None) -> None:
        self.store_id = store_id or uuid.uuid4().hex[:16]
        self._lives = 0
        self._lent: LentStore | None = None

    def lend(self) -> LentStore:
        """Take the store back from the life before, and lend it to the next."""
        before = self._lent
        if before is not None:
            before.fence()
        self._lives += 1
        self._lent = LentStore(self.store_id, self._lives, before)
        return self._lent

    def peek(self) -> LentStore | None:
        """What the present life holds, to be looked at only; None before the first."""
        return self._lent


class LentStore:
    """One life's hold on a `MemoryStore`; see `exraft.raft.log.Store` for the meaning.

    `append`, `term_at` and `slice` cost the same however long the log is.
    """

    __slots__ = (
        "_entries",
        "_runs",
        "commit_index",
        "dirty",
        "fenced",
        "incarnation",
        "last_index",
        "leads",
        "size",
        "store_id",
        "term",
        "voted_for",
    )

    def __init__(self, store_id: str, incarnation: int, before: LentStore | None) -> None:
        self.fenced = False
        self.store_id = store_id
        self.incarnation = incarnation
        self.dirty = False
        self.term = 0
        self.voted_for: Peer | None = None
        self.leads = False
        self.commit_index = 0
        # Its own list, and all that follows from it counted anew: the life before may be at work on
        # its own one still.
        self._entries: list[Entry] = []
        if before is not None:
            self.term = before.term
            self.voted_for = before.voted_for
            self.leads = before.leads
            self.commit_index = before.commit_index
            self._entries = before._entries.copy()
        self.size = sum([len(entry.data) for entry in self._entries])
        self.last_index = len(self._entries)
        self._runs = _runs(self._entries)
        """(first index, term) of each run of entries of one term, oldest first."""

    def fence(self) -> None:
        """Make this hold a dead one: whatever is written through it raises `Fenced`."""
        self.fenced = True

    def _check(self) -> None:
        if self.fenced:
            raise Fenced

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        self._check()
        self.term = term
        self.voted_for = voted_for
        self.leads = leads
        self.dirty = True

    def set_commit(self, index: int) -> None:
        self._check()
        self.commit_index = index

    def append(self, entries: Sequence[Entry]) -> None:
        self._check()
        runs = self._runs
        term = runs[-1][1] if runs else 0
        size = 0
        for offset, entry in enumerate(entries, 1):
            size += len(entry.data)
            if entry.term != term:
                term = entry.term
                runs.append((self.last_index + offset, term))
        self._entries.extend(entries)
        self.last_index += len(entries)
        self.size += size
        self.dirty = True

    def truncate(self, first: int) -> None:
        self._check()
        self.size -= sum(len(entry.data) for entry in self._entries[first - 1 :])
        del self._entries[first - 1 :]
        self.last_index = first - 1
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        self.dirty = True

    def term_at(self, index: int) -> int:
        return self._entries[index - 1].term if index else 0

    def last_at_most(self, index: int, term: int) -> int:
        end = self.last_index
        for first, run_term in reversed(self._runs):
            if run_term <= term and first <= index:
                return min(index, end)
            end = first - 1
        return 0

    def slice(self, first: int, count: int) -> list[Entry]:
        return self._entries[first - 1 : first - 1 + count]

    def configs(self) -> Iterator[tuple[int, Entry]]:
        for index, entry in enumerate(self._entries, 1):
            if entry.kind == CONFIG:
                yield index, entry

    def mark(self) -> Mark:
        return Mark(self.term, self.last_index, self.term_at(self.last_index))

    def sync(self) -> None:
        """Memory survives what its owner survives, at once.

        A hold that was fenced is told here at the latest, before it promises anything: what it
        wrote while the next life took the store over may have been missed.
        """
        self._check()
        self.dirty = False


def _runs(entries: list[Entry]) -> list[tuple[int, int]]:
    """Where each term begins. Terms never fall along a log, so the next one is found by halving."""
    runs = []
    start = 0
    while start < len(entries):
        term = entries[start].term
        runs.append((start + 1, term))
        start = bisect_right(entries, term, lo=start, key=attrgetter("term"))
    return runs
