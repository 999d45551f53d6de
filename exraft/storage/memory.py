"""A store in memory, which outlives the servers that it is lent to.

Knows how a life of a server gets the store and loses it again. Must not know why it died, nor who
starts the next one.

A `MemoryStore` is lent to one life at a time. What a life writes goes into lists of its own, which
become the store's when the next life is lent them: so a life that was given up for dead, and wakes,
holds a token that is void and lists that are nobody's.
"""

from __future__ import annotations

import uuid
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from threading import Lock

from exraft.names import Peer
from exraft.raft.log import CONFIG, DamagedSnapshot, Entry, Mark
from exraft.raft.snapshot import Snapshot, SnapshotReader
from exraft.storage.sinks import MemoryReader, MemorySink, SnapshotSink, check_whole


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
        self._lock = Lock()
        """Held while what can't be seen half done is done: not by one life while another begins."""

    def open(self) -> None:
        """A supervisor of the server begins; what is in memory is open as long as it lasts."""

    def close(self) -> None:
        """A supervisor of the server has ended; the next one finds everything as it was."""

    def lend(self) -> LentStore:
        """Take the store back from the life before, and lend it to the next."""
        with self._lock:
            before = self._lent
            if before is not None:
                before.fence()
            self._lives += 1
            self._lent = LentStore(self.store_id, self._lives, before, self._lock)
            return self._lent

    def peek(self) -> LentStore | None:
        """What the present life holds, to be looked at only; None before the first."""
        return self._lent


class LentStore:
    """One life's hold on a store; see `exraft.raft.log.Store` for the meaning.

    `append`, `term_at` and `slice` cost the same however long the log is.

    Attributes:
        received: the snapshot that is on its way here, and how many bytes of it are here.
    """

    __slots__ = (
        "_arriving",
        "_configs",
        "_content",
        "_entries",
        "_lock",
        "_runs",
        "base_index",
        "base_term",
        "commit_index",
        "dirty",
        "fenced",
        "incarnation",
        "last_index",
        "leads",
        "received",
        "size",
        "snapshot",
        "store_id",
        "term",
        "voted_for",
    )

    def __init__(
        self,
        store_id: str,
        incarnation: int,
        before: LentStore | None,
        lock: Lock | None = None,
    ) -> None:
        """`lock`: of the owner, who holds it meanwhile."""
        self._lock = lock or Lock()
        self.fenced = False
        self.store_id = store_id
        self.incarnation = incarnation
        self.dirty = False
        self.term = 0
        self.voted_for: Peer | None = None
        self.leads = False
        self.commit_index = 0
        self.base_index = 0
        self.base_term = 0
        self.snapshot: Snapshot | None = None
        self._content = b""
        """The bytes of the snapshot."""
        self.received: tuple[Snapshot, int] | None = None
        self._arriving = bytearray()
        # Its own list, and all that follows from it counted anew: the life before may be at work on
        # its own one still.
        self._entries: list[Entry] = []
        if before is not None:
            self._take_over(before)
        self._count()

    def _take_over(self, before: LentStore) -> None:
        self.term = before.term
        self.voted_for = before.voted_for
        self.leads = before.leads
        self.commit_index = before.commit_index
        self.base_index = before.base_index
        self.base_term = before.base_term
        self.snapshot = before.snapshot
        self._content = before._content
        self._entries = before._entries.copy()

    def _count(self) -> None:
        """What follows from the entries and the base."""
        entries = self._entries
        first = self.base_index + 1
        self.size = sum([len(entry.data) for entry in entries])
        self.last_index = self.base_index + len(entries)
        self._runs = _runs(entries, first)
        """(first index, term) of each run of entries of one term, oldest first."""
        self._configs = [n for n, entry in enumerate(entries, first) if entry.kind == CONFIG]
        """The indexes of the configurations."""

    def fence(self) -> None:
        """Make this hold a dead one: whatever is written through it raises `Fenced`."""
        self.fenced = True

    def _check(self) -> None:
        if self.fenced:
            raise Fenced

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        with self._lock:
            self._check()
            self.term = term
            self.voted_for = voted_for
            self.leads = leads
            self.dirty = True

    def set_commit(self, index: int) -> None:
        self._check()
        self.commit_index = index

    def note_commit(self) -> None:
        """Write down how far is committed, before that is applied; for a driver to call."""

    def append(self, entries: Sequence[Entry]) -> None:
        self._check()
        runs = self._runs
        term = runs[-1][1] if runs else 0
        first = self.last_index + 1
        size = 0
        configs = False
        for entry in entries:
            size += len(entry.data)
            if entry.kind:
                configs = True
        if configs:
            self._configs += [n for n, entry in enumerate(entries, first) if entry.kind]
        # Terms never fall along a log, so the last one tells whether any is another.
        if entries and entries[-1].term != term:
            for index, entry in enumerate(entries, first):
                if entry.term != term:
                    term = entry.term
                    runs.append((index, term))
        self._entries.extend(entries)
        self.last_index += len(entries)
        self.size += size
        self.dirty = True

    def truncate(self, first: int) -> None:
        self._check()
        place = first - 1 - self.base_index
        self.size -= sum(len(entry.data) for entry in self._entries[place:])
        del self._entries[place:]
        self.last_index = first - 1
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        while self._configs and self._configs[-1] >= first:
            self._configs.pop()
        self.dirty = True

    def term_at(self, index: int) -> int:
        place = index - self.base_index
        if place > 0:
            return self._entries[place - 1].term
        if place == 0:
            return self.base_term
        if index == 0:
            return 0
        raise IndexError(f"the log begins after {self.base_index}, and {index} is gone")

    def last_at_most(self, index: int, term: int) -> int:
        end = self.last_index
        for first, run_term in reversed(self._runs):
            if run_term <= term and first <= index:
                return min(index, end)
            end = first - 1
        return self.base_index if self.base_index <= index and self.base_term <= term else 0

    def slice(self, first: int, count: int) -> list[Entry]:
        place = first - 1 - self.base_index
        if place < 0:
            raise IndexError(f"the log begins after {self.base_index}, and {first} is gone")
        return self._entries[place : place + count]

    def configs(self) -> Iterator[tuple[int, Entry]]:
        for index in self._configs:
            yield index, self._entries[index - 1 - self.base_index]

    def mark(self) -> Mark:
        return Mark(self.term, self.last_index, self.term_at(self.last_index))

    def sync(self) -> None:
        """Memory survives what its owner survives, at once.

        A hold that was fenced is told here at the latest, before it promises anything: what it
        wrote while the next life took the store over may have been missed.
        """
        self._check()
        self.dirty = False

    # Snapshots.

    def cut(self, upto: int) -> None:
        with self._lock:
            self._check()
            self._cut(upto)

    def _cut(self, upto: int) -> None:
        if self.snapshot is None or upto > self.snapshot.index:
            raise ValueError(f"no stored snapshot holds the entries up to {upto}")
        gone = upto - self.base_index
        if gone <= 0:
            return
        self.base_term = self.term_at(upto)
        self.size -= sum([len(entry.data) for entry in self._entries[:gone]])
        del self._entries[:gone]
        self.base_index = upto
        runs = self._runs
        kept = bisect_right(runs, upto + 1, key=lambda run: run[0]) - 1
        del runs[:kept]
        if upto == self.last_index:
            runs.clear()
        else:
            runs[0] = upto + 1, runs[0][1]
        del self._configs[: bisect_right(self._configs, upto)]

    def open_snapshot(self) -> SnapshotReader:
        assert self.snapshot is not None
        return MemoryReader(self.snapshot, self._content)

    def begin_snapshot(self, snapshot: Snapshot) -> SnapshotSink:
        """Where the bytes of a snapshot go that this server takes; from any thread."""
        return MemorySink(snapshot)

    def adopt(self, sink: SnapshotSink) -> None:
        """Let a finished snapshot be the newest, unless a newer one was installed meanwhile."""
        assert isinstance(sink, MemorySink)
        with self._lock:
            self._check()
            if self.snapshot is None or sink.snapshot.index > self.snapshot.index:
                self.snapshot = sink.snapshot
                self._content = sink.content()

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        self._check()
        if self.received is None or self.received[0] != snapshot:
            self._arriving = bytearray()
        held = len(self._arriving)
        if offset <= held < offset + len(data):
            self._arriving += data[held - offset :]
            self.dirty = True
        self.received = snapshot, len(self._arriving)
        return len(self._arriving)

    def install(self) -> None:
        self._check()
        received = self.received
        if received is None:
            raise DamagedSnapshot("nothing was received")
        snapshot, content = received[0], bytes(self._arriving)
        self.forget_received()
        check_whole(snapshot, len(content), zlib.crc32(content))
        with self._lock:
            self._check()
            self._content = content
            self._start_from(snapshot)

    def forget_received(self) -> None:
        self._check()
        self.received = None
        self._arriving = bytearray()

    def _start_from(self, snapshot: Snapshot) -> None:
        """The log begins after the snapshot, with nothing in it."""
        self.snapshot = snapshot
        self._entries = []
        self.base_index = snapshot.index
        self.base_term = snapshot.term
        self.commit_index = snapshot.index
        self.dirty = True
        self._count()


def _runs(entries: list[Entry], index: int) -> list[tuple[int, int]]:
    """Where each term begins. Terms never fall along a log, so the next one is found by halving."""
    runs = []
    start = 0
    while start < len(entries):
        term = entries[start].term
        runs.append((start + index, term))
        start = bisect_right(entries, term, lo=start, key=attrgetter("term"))
    return runs
