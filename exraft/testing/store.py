"""The stores of a simulated cluster: real ones, whose every write is watched, and which can fail.

Knows what a power failure leaves of what was written, and how a disk fails. Must not know what is
right to write: `invariants` judges that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from exraft.names import Peer
from exraft.raft import CONFIG, Config, Entry
from exraft.storage import LentStore, MemoryStore
from exraft.testing.invariants import Watch


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


class WatchedOwner(MemoryStore):
    """A store whose every life is watched."""

    def __init__(self, watch: Watch, peer: Peer, store_id: str) -> None:
        super().__init__(store_id)
        self.watch = watch
        self.peer = peer
        self.founders: tuple[Peer, ...] = ()
        """The voters as long as the log holds no configuration."""
        self.fails = ""
        """What fails: `"write"` (as a full disk does), `"sync"`, or nothing."""
        self.life = WatchedStore(self, 0, None)
        self._incarnations = 0
        watch.held.setdefault(peer, []).append(self)

    @property
    def pristine(self) -> bool:
        """Whether nothing was ever promised under this name, from here or an earlier store."""
        return all(
            owner.life.term == 0 and owner.life.last_index == 0
            for owner in self.watch.held[self.peer]
        )

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

    __slots__ = ("_forgotten", "_undo", "configs_held", "lost", "owner", "peer", "watch")

    def __init__(self, owner: WatchedOwner, incarnation: int, before: WatchedStore | None) -> None:
        super().__init__(owner.store_id, incarnation, before)
        self.owner = owner
        self.watch = owner.watch
        self.peer = owner.peer
        self.configs_held: list[tuple[int, Config]] = []
        """Every configuration in the log, with its index."""
        if before is not None:
            self.configs_held = before.configs_held.copy()
        # What it takes to undo the writes since the last sync, oldest first: the ballot, or an
        # index and the entries that stood behind it.
        self._undo: list[tuple[int, Sequence[Entry]] | tuple[int, Peer | None, bool]] = []
        if before is not None:
            # What the life before did not sync is not synced by its end.
            self._undo = before._undo.copy()
            self.dirty = bool(self._undo)
        self._forgotten = 0
        self.lost = False
        """Whether some of what was written is lost."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.configs_held[-1][1] if self.configs_held else Config(self.owner.founders)

    @property
    def safe_index(self) -> int:
        """The last index that a loss of all unsynced writes would leave alone."""
        return min((undo[0] for undo in self._undo if len(undo) == 2), default=self.last_index)

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        self._may_fail("write")
        self.watch.balloted(self, term, voted_for)
        self._undo.append((self.term, self.voted_for, self.leads))
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
        self._undo.append((first - 1, ()))
        super().append(entries)
        for index, entry in enumerate(entries, first):
            self.watch.written(self, index, entry, before)
            before = entry.term
            if entry.kind == CONFIG:
                self.configs_held.append((index, self.watch.decode(entry)))

    def truncate(self, first: int) -> None:
        self._may_fail("write")
        self.watch.deleted(self, first)
        self._undo.append((first - 1, self.slice(first, self.last_index)))
        super().truncate(first)
        while self.configs_held and self.configs_held[-1][0] >= first:
            self.configs_held.pop()

    def sync(self) -> None:
        self._may_fail("sync")
        super().sync()
        self._settled(len(self._undo), self.term, self.voted_for)

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
            if len(undo) == 3:
                # A vote that was given and went with its term, all before the sync.
                self.watch.vote_stored(self, undo[0], undo[1])
        self.watch.vote_stored(self, term, voted_for)
        del self._undo[:writes]
        self._forgotten += writes

    def lose_unsynced(self, keep: int = 0) -> bool:
        """What a power failure does; whether there was anything to lose.

        The first `keep` of the unsynced writes have reached the disk all the same.
        """
        del self._undo[:keep]
        lost = self.lost = bool(self._undo)
        # A commit index is never more durable than the entries that it speaks of.
        self.commit_index = min(self.commit_index, self.safe_index)
        for undo in reversed(self._undo):
            if len(undo) == 3:
                self.watch.unvoted(self, undo[0], undo[1])
                super().set_ballot(*undo)
                continue
            index, entries = undo
            if index < self.last_index:
                super().truncate(index + 1)
            super().append(entries)
        self._undo.clear()
        if lost:
            self.configs_held = [
                (index, self.watch.decode(entry)) for index, entry in self.configs()
            ]
        return lost

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
