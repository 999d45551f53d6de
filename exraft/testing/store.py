"""The stores of a simulated cluster: real ones, whose every write is watched, and which can fail.

Knows what a power failure leaves of what was written, and how a disk fails. Must not know what is
right to write: `invariants` judges that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from exraft.names import Peer
from exraft.raft import CONFIG, Config, Entry
from exraft.raft.log import DamagedSnapshot
from exraft.raft.snapshot import Snapshot
from exraft.storage import LentStore, MemoryStore
from exraft.storage.sinks import SnapshotSink
from exraft.testing.invariants import Watch

ALL: Final = sys.maxsize
"""As an index: no entry is touched."""


class StoreFailed(OSError):
    """The disk under a store does not take what is written."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(f"the disk of {peer} fails")
        self.peer = peer


class Syncing(NamedTuple):
    """What a sync that has begun will have made durable."""

    upto: int
    """How many writes, since the life began."""
    term: int
    voted_for: Peer | None


# What it takes to undo a write. `safe` is the last index that its loss would leave alone; `loses`
# says whether anything is less than it was then.


@dataclass(frozen=True, slots=True)
class _Ballot:
    """It was this before."""

    term: int
    voted_for: Peer | None
    leads: bool
    safe: int = ALL
    loses: bool = True


@dataclass(frozen=True, slots=True)
class _Tail:
    """These entries stood behind the index `safe`."""

    safe: int
    entries: Sequence[Entry]
    loses: bool = True


@dataclass(frozen=True, slots=True)
class _Head:
    """These entries stood at the beginning, and were cut off."""

    base_index: int
    base_term: int
    entries: Sequence[Entry]
    safe: int = ALL
    loses: bool = False


@dataclass(frozen=True, slots=True)
class _Pieces:
    """So many bytes of the snapshot that is arriving were here."""

    held: int
    safe: int = ALL
    loses: bool = True


@dataclass(frozen=True, slots=True)
class _Whole:
    """The log, before a snapshot took its place."""

    base_index: int
    base_term: int
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    content: bytes
    safe: int
    """What was committed then."""
    loses: bool = True


_Undo: TypeAlias = _Ballot | _Tail | _Head | _Pieces | _Whole


class Owner:
    """A store whose every life is watched."""

    store_id: str
    at_once = False
    """Whether a sync is done when it returns, whatever time it takes."""

    def __init__(self, watch: Watch, peer: Peer) -> None:
        self.watch = watch
        self.peer = peer
        self.founders: tuple[Peer, ...] = ()
        """The voters as long as the log holds no configuration."""
        self.fails = ""
        """What fails: `"write"` (as a full disk does), `"sync"`, or nothing."""
        self.life = WatchedStore(self, 0, None)
        watch.held.setdefault(peer, []).append(self)

    @property
    def pristine(self) -> bool:
        """Whether nothing was ever promised under this name, from here or an earlier store."""
        return all(
            owner.life.term == 0 and owner.life.last_index == 0
            for owner in self.watch.held[self.peer]
        )

    @property
    def broken(self) -> bool:
        """Whether this process can do nothing more with it."""
        return bool(self.fails)

    def repair(self) -> None:
        """Nothing fails any more."""
        self.fails = ""

    def lose_unsynced(self, keep: int) -> None:
        """The power fails, while nobody is lent the store."""
        self.life.lose_unsynced(keep)

    def lend(self) -> WatchedStore:
        raise NotImplementedError


class WatchedOwner(Owner, MemoryStore):
    """A store in memory, whose every life is watched."""

    def __init__(self, watch: Watch, peer: Peer, store_id: str) -> None:
        MemoryStore.__init__(self, store_id)
        self._incarnations = 0
        Owner.__init__(self, watch, peer)

    def lend(self) -> WatchedStore:
        self._incarnations += 1
        before = self.life
        self.life = WatchedStore(self, self._incarnations, before)
        before.fence()
        return self.life

    def peek(self) -> WatchedStore:
        return self.life


class WatchedStore(LentStore):
    """A life's hold that tells the watch of each write, and can lose what was not synced."""

    def __init__(self, owner: Owner, incarnation: int, before: WatchedStore | None) -> None:
        super().__init__(owner.store_id, incarnation, before)
        self._watch(owner, before)
        # What the life before did not sync is not synced by its end.
        self.dirty = bool(self._undo)

    def _watch(self, owner: Owner, before: WatchedStore | None) -> None:
        self.owner = owner
        self.watch = owner.watch
        self.peer = owner.peer
        self.configs_held: list[tuple[int, Config]] = []
        """Every configuration in the log, with its index, and that of the snapshot below it."""
        if before is not None:
            self.configs_held = before.configs_held.copy()
        self._undo: list[_Undo] = []
        """What it takes to undo the writes since the last sync, oldest first."""
        if before is not None:
            self._undo = before._undo.copy()
        self._forgotten = 0
        self.lost = False
        """Whether some of what was written is lost."""
        self.damaged = False
        """Whether a snapshot that was received was not what it should be."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.configs_held[-1][1] if self.configs_held else Config(self.owner.founders)

    @property
    def safe_index(self) -> int:
        """The last index that a loss of all unsynced writes would leave alone."""
        return min([self.last_index, *(undo.safe for undo in self._undo)])

    @property
    def safe_pieces(self) -> int:
        """How many bytes of the snapshot that is arriving such a loss would leave alone."""
        held = 0 if self.received is None else self.received[1]
        return min([held, *(undo.held for undo in self._undo if type(undo) is _Pieces)])

    @property
    def installing(self) -> bool:
        """Whether a snapshot has taken the place of the log, and that is not synced."""
        return any(type(undo) is _Whole for undo in self._undo)

    def term_of(self, index: int) -> int:
        """The term of an entry that is here, or in the snapshot."""
        if index < self.base_index:
            return self.watch.committed[index].term
        return self.term_at(index)

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        self._may_fail("write")
        self.watch.balloted(self, term, voted_for)
        self._undo.append(_Ballot(self.term, self.voted_for, self.leads))
        super().set_ballot(term, voted_for, leads)
        if leads:
            self.watch.elected(self, term)

    def set_commit(self, index: int) -> None:
        self.watch.commits(self, index)
        super().set_commit(index)

    def append(self, entries: Sequence[Entry]) -> None:
        self._may_fail("write")
        first = self.last_index + 1
        before = self.term_at(first - 1)
        self._undo.append(_Tail(first - 1, ()))
        super().append(entries)
        for index, entry in enumerate(entries, first):
            self.watch.written(self, index, entry, before)
            before = entry.term
            if entry.kind == CONFIG:
                self.configs_held.append((index, self.watch.decode(entry)))

    def truncate(self, first: int) -> None:
        self._may_fail("write")
        self.watch.deleted(self, first)
        self._undo.append(_Tail(first - 1, self.slice(first, self.last_index)))
        super().truncate(first)
        while self.configs_held and self.configs_held[-1][0] >= first:
            self.configs_held.pop()

    def sync(self) -> None:
        self._may_fail("sync")
        super().sync()
        self._settled(len(self._undo), self.term, self.voted_for)

    # Snapshots.

    def cut(self, upto: int) -> None:
        self._may_fail("write")
        self.watch.cuts(self, upto)
        first = self.base_index + 1
        self._undo.append(
            _Head(self.base_index, self.base_term, self.slice(first, upto + 1 - first))
        )
        super().cut(upto)

    def adopt(self, sink: SnapshotSink) -> None:
        self._may_fail("write")
        self.watch.adopts(self, sink.snapshot)
        super().adopt(sink)

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        self._may_fail("write")
        before = self.received
        held = super().receive(snapshot, offset, data)
        if before != self.received:
            begun = before is not None and before[0] == snapshot
            self._undo.append(_Pieces(before[1] if before is not None and begun else 0))
        return held

    def install(self) -> None:
        self._may_fail("write")
        entries = self.slice(self.base_index + 1, self.last_index)
        before = _Whole(
            self.base_index,
            self.base_term,
            entries,
            self.snapshot,
            self._content,
            self.commit_index,
        )
        try:
            super().install()
        except DamagedSnapshot:
            self.damaged = True
            self._undo.append(_Pieces(0))
            self.watch.counts["snapshots that arrived damaged"] += 1
            raise
        self._undo.append(before)
        self.configs_held = self._known_configs()
        self.watch.installs(self, before.base_index, entries, before.safe)

    def _known_configs(self) -> list[tuple[int, Config]]:
        held = [(index, self.watch.decode(entry)) for index, entry in self.configs()]
        snapshot = self.snapshot
        if snapshot is not None and 0 < snapshot.config_index <= self.base_index:
            held.insert(0, (snapshot.config_index, snapshot.config))
        return held

    def _may_fail(self, what: str) -> None:
        if self.owner.fails == what:
            raise StoreFailed(self.peer)

    # A sync that takes its time: everything up to a point is durable, what came since is not.

    def begin_sync(self) -> Syncing:
        self.dirty = False
        return Syncing(self._forgotten + len(self._undo), self.term, self.voted_for)

    def end_sync(self, syncing: Syncing) -> None:
        self._may_fail("sync")
        done = syncing.upto - self._forgotten
        if done > 0:
            self._settled(done, syncing.term, syncing.voted_for)

    def _settled(self, writes: int, term: int, voted_for: Peer | None) -> None:
        """The first `writes` that could be undone can't any more; then the ballot was this."""
        for undo in self._undo[:writes]:
            if type(undo) is _Ballot:
                # A vote that was given and went with its term, all before the sync.
                self.watch.vote_stored(self, undo.term, undo.voted_for)
        self.watch.vote_stored(self, term, voted_for)
        del self._undo[:writes]
        self._forgotten += writes

    def lose_unsynced(self, keep: int = 0) -> bool:
        """What a power failure does; whether there was anything to lose.

        The first `keep` of the unsynced writes have reached the disk all the same.
        """
        del self._undo[:keep]
        lost = self.lost = any(undo.loses for undo in self._undo)
        # A commit index is never more durable than the entries that it speaks of.
        self.commit_index = min(self.commit_index, self.safe_index)
        for undo in reversed(self._undo):
            self._take_back(undo)
        if self._undo:
            self.configs_held = self._known_configs()
        self._undo.clear()
        return lost

    def end_process(self) -> bool:
        """What is left when the process ends: what was written; whether anything was lost."""
        return False

    def _take_back(self, undo: _Undo) -> None:
        match undo:
            case _Ballot(term, voted_for, leads):
                self.watch.unvoted(self, term, voted_for)
                super().set_ballot(term, voted_for, leads)
            case _Tail(index, entries):
                if index < self.last_index:
                    super().truncate(index + 1)
                super().append(entries)
            case _Head(base_index, base_term, entries):
                self._entries[:0] = entries
                self.base_index, self.base_term = base_index, base_term
                self._count()
            case _Pieces():
                # The next life begins with none of them.
                self.forget_received()
            case _Whole(base_index, base_term, entries, snapshot, content):
                self.watch.counts["installs undone by a power failure"] += 1
                self.snapshot, self._content = snapshot, content
                self._entries = list(entries)
                self.base_index, self.base_term = base_index, base_term
                self._count()

    @property
    def unsynced(self) -> int:
        """How many writes a power failure would lose."""
        return len(self._undo)


def known_configs(store: WatchedStore, founders: Sequence[Peer]) -> list[Config]:
    """The configurations that may be in force as far as a log tells."""
    held = [(0, Config(voters=tuple(founders))), *store.configs_held]
    while len(held) > 1 and held[1][0] <= store.commit_index:
        held.pop(0)
    return [config for _, config in held]
