"""What must hold in a cluster whatever happens to it, judged where it could break: at the store.

Knows every entry that was ever written, who voted for whom, who led, and what was committed; each
write to a watched store is compared with that, so nothing is ever scanned. Must not know how the
servers are driven.

Figure 3 of the Raft paper names the first five: election safety, leader append-only, log matching,
leader completeness, state machine safety.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from exraft.names import Peer
from exraft.raft import CONFIG, Config, Entry
from exraft.raft.config import decode_config
from exraft.storage import LentStore, MemoryStore


class Violation(AssertionError):
    """An invariant does not hold."""


class Watch:
    """What is known of one cluster."""

    def __init__(self) -> None:
        self.leaders: dict[int, Peer] = {}
        """Who led which term."""
        self.committed: dict[int, Entry] = {}
        self.last_committed = 0
        self.refused: dict[bytes, None] = {}
        """Commands whose callers were told that they are in no log."""
        self.dropped: dict[bytes, None] = {}
        """Commands whose callers were told that they are never applied."""
        self.counts: Counter[str] = Counter()
        self.held: dict[Peer, list[WatchedOwner]] = {}
        """Every store that a member ever had: an acknowledgement outlives its giver."""
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._votes: dict[tuple[str, int], Peer] = {}
        self._last_term = 0
        self._decoded: dict[bytes, Config] = {}
        self._led: dict[int, WatchedOwner] = {}
        self._committed_by: dict[int, int] = {}
        """The last index that the leader of a term committed."""

    def decode(self, entry: Entry) -> Config:
        config = self._decoded.get(entry.data)
        if config is None:
            config = self._decoded[entry.data] = decode_config(entry.data)
        return config

    def voted(self, store: WatchedStore, term: int, candidate: Peer) -> None:
        first = self._votes.setdefault((store.store_id, term), candidate)
        if first != candidate:
            raise Violation(f"{store.peer} votes twice in term {term}: for {first}, {candidate}")

    def unvoted(self, store: WatchedStore, term: int, candidate: Peer | None) -> None:
        """A ballot that nobody was told of is lost: that of `term` holds again."""
        if store.voted_for is not None and (store.term, store.voted_for) != (term, candidate):
            self._votes.pop((store.store_id, store.term), None)

    def elected(self, store: WatchedStore, term: int) -> None:
        first = self.leaders.setdefault(term, store.peer)
        if first != store.peer:
            raise Violation(f"two leaders in term {term}: {first} and {store.peer}")
        if term in self._led:
            return
        self._led[term] = store.owner
        self._last_term = max(self._last_term, term)
        self.counts["elections"] += 1
        last = max((i for t, i in self._committed_by.items() if t < term), default=0)
        self._must_have(store, term, last)

    def _must_have(self, store: WatchedStore, term: int, last: int) -> None:
        # By log matching, who has the last one has those before it.
        if last and (store.last_index < last or store.term_at(last) != self.committed[last].term):
            raise Violation(f"leader completeness: {store.peer} leads {term} without entry {last}")

    def written(self, store: WatchedStore, index: int, entry: Entry, before: int) -> None:
        """`entry` stands at `index` of a log now, after an entry of term `before`."""
        known = self._entries.get((index, entry.term))
        if known is None:
            if not store.leads or store.term != entry.term:
                raise Violation(f"{store.peer} writes {entry} at {index} without leading its term")
            if entry.kind == CONFIG:
                self._config_written(store, index, entry, before)
            self._entries[index, entry.term] = (entry, before)
        elif known[1] != before or (known[0] is not entry and known[0] != entry):
            raise Violation(
                f"log matching: {store.peer} has {entry} after term {before} at {index},"
                f" not {known}"
            )
        if entry.data in self.refused:
            raise Violation(f"{entry.data!r} was refused, yet {store.peer} has it at {index}")

    def _config_written(self, store: WatchedStore, index: int, entry: Entry, before: int) -> None:
        """One change at a time, after an entry of the own term (rule 15)."""
        last, config = store.configs_held[-1] if store.configs_held else (0, None)
        voters = self.decode(entry).voters
        if before != entry.term:
            # The entry with which a leader begins.
            if config is not None and config.voters != voters:
                raise Violation(f"{store.peer} begins its term with a change: {voters}")
            return
        committed = store.commit_index
        if last > committed or store.term_at(committed) != entry.term:
            raise Violation(
                f"{store.peer} logs a configuration at {index} while {last} holds and"
                f" {committed} of term {store.term_at(committed)} is committed"
            )
        assert config is not None
        changed = [p for p in voters if p not in config.voters]
        changed += [p for p in config.voters if p not in voters]
        if len(changed) > 1:
            raise Violation(f"{store.peer} changes {changed} at once")

    def commits(self, store: WatchedStore, first: int, last: int) -> None:
        """A commit index moves over the entries from `first` to `last`."""
        if last > store.last_index:
            raise Violation(f"{store.peer} commits {last} beyond its log")
        if store.leads:
            if store.term_at(last) != store.term:
                raise Violation(f"{store.peer} counts {last}, of an earlier term (Figure 8)")
            self._check_majority(store, last)
        for index, entry in enumerate(store.slice(first, last + 1 - first), first):
            known = self.committed.get(index)
            if known is None:
                if not store.leads:
                    raise Violation(f"{store.peer} commits {index}, which no leader committed")
                if entry.data in self.dropped:
                    raise Violation(f"{entry.data!r} was dropped, yet it is committed at {index}")
                self.committed[index] = entry
            elif known is not entry and known != entry:
                raise Violation(f"{store.peer} commits {entry} at {index}, not {known}")
        if not store.leads:
            return
        self.last_committed = max(self.last_committed, last)
        term = store.term
        self._committed_by[term] = max(self._committed_by.get(term, 0), last)
        if term < self._last_term:
            for later, owner in self._led.items():
                if later > term and owner.life.leads and owner.life.term == later:
                    self._must_have(owner.life, later, last)

    def _check_majority(self, store: WatchedStore, index: int) -> None:
        """What a leader commits, a real majority of its voters has stored."""
        if not store.configs_held:
            raise Violation(f"{store.peer} commits without a configuration")
        config = store.configs_held[-1][1]
        term = store.term_at(index)
        holders = [
            peer
            for peer in config.voters
            if any(
                owner.life.safe_index >= index and owner.life.term_at(index) == term
                for owner in self.held.get(peer, ())
                if config.store_of(peer) in ("", owner.store_id)
            )
        ]
        if len(holders) < len(config.voters) // 2 + 1:
            raise Violation(
                f"{store.peer} commits {index} with {len(holders)} of {len(config.voters)} voters"
            )


class WatchedOwner(MemoryStore):
    """A memory store whose every life is watched."""

    def __init__(self, watch: Watch, peer: Peer, store_id: str) -> None:
        super().__init__(store_id)
        self.watch = watch
        self.peer = peer
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

    __slots__ = ("_forgotten", "_undo", "configs_held", "owner", "peer", "watch")

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
        self._forgotten = 0

    @property
    def safe_index(self) -> int:
        """The last index that a loss of all unsynced writes would leave alone."""
        return min((undo[0] for undo in self._undo if len(undo) == 2), default=self.last_index)

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        if term < self.term:
            raise Violation(f"the term of {self.peer} goes back: {self.term} to {term}")
        if voted_for is not None:
            self.watch.voted(self, term, voted_for)
        elif term == self.term and self.voted_for is not None:
            raise Violation(f"{self.peer} forgets its vote of term {term}")
        self._undo.append((self.term, self.voted_for, self.leads))
        super().set_ballot(term, voted_for, leads)
        if leads:
            self.watch.elected(self, term)

    def set_commit(self, index: int) -> None:
        if index < self.commit_index:
            raise Violation(f"commit of {self.peer} goes back: {self.commit_index} to {index}")
        self.watch.commits(self, self.commit_index + 1, index)
        super().set_commit(index)

    def append(self, entries: Sequence[Entry]) -> None:
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
        if first <= self.commit_index:
            raise Violation(f"{self.peer} deletes {first}, and {self.commit_index} is committed")
        if self.leads:
            raise Violation(f"leader append-only: {self.peer} deletes from {first} on")
        self.watch.counts["truncations"] += 1
        self._undo.append((first - 1, self.slice(first, self.last_index)))
        super().truncate(first)
        while self.configs_held and self.configs_held[-1][0] >= first:
            self.configs_held.pop()

    def sync(self) -> None:
        super().sync()
        self._forgotten += len(self._undo)
        self._undo.clear()

    # A sync that takes its time: everything up to a point is durable, what came since is not.

    def begin_sync(self) -> int:
        self.dirty = False
        return self._forgotten + len(self._undo)

    def end_sync(self, upto: int) -> None:
        done = upto - self._forgotten
        if done > 0:
            del self._undo[:done]
            self._forgotten = upto

    def lose_unsynced(self) -> bool:
        """What a power failure does; whether there was anything to lose."""
        lost = bool(self._undo)
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


def known_configs(store: WatchedStore, founders: Sequence[Peer]) -> list[Config]:
    """The configurations that may be in force as far as a log tells."""
    held = [(0, Config(voters=tuple(founders))), *store.configs_held]
    while len(held) > 1 and held[1][0] <= store.commit_index:
        held.pop(0)
    return [config for _, config in held]
