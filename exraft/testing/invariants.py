"""What must hold in a cluster whatever happens to it, judged where it could break: at the store.

Knows every entry that was ever written, who voted for whom, who led, and what was committed and
answered; each write to a watched store is compared with that, so nothing is ever scanned. Must not
know how the servers are driven.

Figure 3 of the Raft paper names the first five of `INVARIANTS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from exraft.names import Peer
from exraft.raft import (
    CONFIG,
    AppendReply,
    Config,
    Entry,
    InstallReply,
    Message,
    Raft,
    TimeoutNow,
    VoteReply,
)
from exraft.raft.config import decode_config
from exraft.raft.snapshot import Snapshot

if TYPE_CHECKING:
    from exraft.testing.store import Owner, WatchedStore

INVARIANTS = {
    "one leader a term": "no two servers ever lead the same term (Raft §5.2)",
    "leader append-only": "a leader deletes and overwrites nothing in its log (Raft §5.3)",
    "log matching": "an index and a term name one entry, with one entry before it (Raft §5.3)",
    "leader completeness": "who leads has all that was committed in earlier terms (Raft §5.4)",
    "state machine safety": "nobody applies another entry at an index than anybody else does",
    "one vote a term": "a store gives its vote to one candidate of a term at most, and keeps it",
    "elected by a majority": "who leads has the votes of a majority, and they are stored",
    "promises are stored": "votes and acknowledgements tell what is stored, as the leader has it",
    "terms never fall": "a server's term never goes back",
    "commit never back": "a server's commit index never goes back, nor beyond its log",
    "commit by a majority": "what a leader commits is its term's, and stored by a majority",
    "applied at most committed": "nothing is applied before it is committed",
    "configurations follow the log": "the newest configuration in a server's log is in force there",
    "one change at a time": "configurations differ by one voter, and are committed one by one",
    "new voters have the log": "a server gets its vote only once it has caught up",
    "new stores are new members": "a store under a member's name is none before it is named",
    "hand-over to who has all": "who is told to campaign has all that its leader has",
    "acknowledged writes are kept": "what a caller was told is applied stays at its index",
    "what failed is not applied": "what a caller was told is not applied is never committed",
    "answers are not stale": "an answer knows all that was answered before its call was made",
    "one answer a call": "no call is answered twice, and none is forgotten",
    "snapshots say what is committed": "a snapshot has index, term and configuration of the log",
    "cut what a snapshot holds": "no entry is cut off that is in no complete, stored snapshot",
    "what is synced stays": "who opens a store again finds what was synced, nothing unwritten",
    "installing loses nothing": "a snapshot moves no commit index back, and keeps what agrees",
    "other clusters have no effect": "a message of another cluster changes nothing",
    "replicas agree": "every replica gives the same reply to an entry, and has the same state",
    "reads change nothing": "the state after a read is what it was before",
    "effects once": "a side effect runs once at most, and only where its entry's term is led",
    "the machine's own": "what the test says of the state holds after every entry",
    "linearizability": "the answers are those of one machine that serves one call at a time",
    "liveness": "when the faults stop, a leader is elected, calls are answered, all logs agree",
    "nothing raises": "no message, request or deadline makes a server raise",
}
"""What each is called in a `Violation`, and what it says."""


class Violation(AssertionError):
    """An invariant does not hold.

    Attributes:
        invariant: which of `INVARIANTS`.
        what: who did what.
    """

    def __init__(self, invariant: str, what: str) -> None:
        self.invariant = invariant
        self.what = what
        super().__init__(f"{invariant}: {what}")


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
        self._written: dict[bytes, None] = {}
        """Every command that was ever in a log."""
        self._committed: dict[bytes, int] = {}
        """Every command that is committed, and where."""
        self._configs: list[tuple[int, Entry]] = []
        """Every configuration that is committed, and where."""
        self.counts: Counter[str] = Counter()
        self.held: dict[Peer, list[Owner]] = {}
        """Every store that a member ever had: an acknowledgement outlives its giver."""
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._votes: dict[tuple[str, int], Peer] = {}
        self._stored_votes: dict[tuple[str, int], Peer] = {}
        self._last_term = 0
        self._decoded: dict[bytes, Config] = {}
        self._led: dict[int, Owner] = {}
        self._committed_by: dict[int, int] = {}
        """The last index that the leader of a term committed."""

    def decode(self, entry: Entry) -> Config:
        config = self._decoded.get(entry.data)
        if config is None:
            config = self._decoded[entry.data] = decode_config(entry.data)
        return config

    # Votes and leaders.

    def voted(self, store: WatchedStore, term: int, candidate: Peer) -> None:
        """One vote a term."""
        first = self._votes.setdefault((store.store_id, term), candidate)
        if first != candidate:
            raise Violation(
                "one vote a term", f"{store.peer} votes in {term} for {first} and for {candidate}"
            )

    def unvoted(self, store: WatchedStore, term: int, candidate: Peer | None) -> None:
        """A ballot that nobody was told of is lost: that of `term` holds again."""
        if store.voted_for is not None and (store.term, store.voted_for) != (term, candidate):
            self._votes.pop((store.store_id, store.term), None)

    def vote_stored(self, store: WatchedStore, term: int, candidate: Peer | None) -> None:
        if candidate is not None:
            self._stored_votes[store.store_id, term] = candidate

    def balloted(self, store: WatchedStore, term: int, voted_for: Peer | None) -> None:
        """Terms never fall, and a vote is kept to the end of its term."""
        if term < store.term:
            raise Violation("terms never fall", f"{store.peer} goes from {store.term} to {term}")
        if voted_for is not None:
            self.voted(store, term, voted_for)
        elif term == store.term and store.voted_for is not None:
            raise Violation("one vote a term", f"{store.peer} forgets its vote of term {term}")

    def elected(self, store: WatchedStore, term: int) -> None:
        """One leader a term, and leader completeness."""
        first = self.leaders.setdefault(term, store.peer)
        if first != store.peer:
            raise Violation("one leader a term", f"{first} and {store.peer} lead term {term}")
        if term in self._led:
            return
        self._check_votes(store, term)
        self._led[term] = store.owner
        self._last_term = max(self._last_term, term)
        self.counts["elections"] += 1
        last = max((i for t, i in self._committed_by.items() if t < term), default=0)
        self._complete(store, term, last)

    def _check_votes(self, store: WatchedStore, term: int) -> None:
        """Elected by a majority of the voters of its configuration."""
        few = self._too_few(
            store.config,
            lambda owner: self._stored_votes.get((owner.store_id, term)) == store.peer,
        )
        if few:
            raise Violation(
                "elected by a majority", f"{store.peer} leads {term} by the votes of {few}"
            )

    def _too_few(self, config: Config, holds: Callable[[Owner], bool]) -> str:
        """Of how many voters a store is so, if they are no real majority; else nothing."""
        those = [
            peer
            for peer in config.voters
            if any(
                holds(owner)
                for owner in self.held.get(peer, ())
                if config.store_of(peer) in ("", owner.store_id)
            )
        ]
        enough = len(those) >= len(config.voters) // 2 + 1
        return "" if enough else f"{len(those)} of {len(config.voters)} voters"

    def promises(
        self, store: WatchedStore, to: Peer, message: Message, *, standby: bool = False
    ) -> None:
        """What leaves a server binds it: votes, acknowledgements, and the word to take over."""
        if type(message) is TimeoutNow:
            self._check_heir(store, to)
        elif type(message) is VoteReply and message.granted:
            self._check_vote(store, to, message.term, standby)
        elif type(message) is AppendReply and message.accepted:
            self._check_acknowledgement(store, to, message.term, message.index)
        elif type(message) is InstallReply:
            self._check_pieces(store, to, message)

    def _check_vote(self, store: WatchedStore, to: Peer, term: int, standby: bool) -> None:
        """Promises are stored; new stores are new members."""
        if self._stored_votes.get((store.store_id, term)) != to:
            raise Violation(
                "promises are stored",
                f"{store.peer} tells {to} of a vote in {term} that it has not stored",
            )
        # The candidate may know it as a member by this store already.
        asked = any(
            owner.life.config.store_of(store.peer) == store.store_id
            for owner in self.held.get(to, ())
        )
        if standby and not asked:
            raise Violation("new stores are new members", f"{store.peer} votes for {to} on standby")

    def _check_acknowledgement(self, store: WatchedStore, to: Peer, term: int, index: int) -> None:
        """Promises are stored, and what is acknowledged is the leader's log."""
        if not index or term != store.term:
            # What was stored for an earlier term may be on its way out again, and binds nobody.
            return
        if store.safe_index < index:
            raise Violation(
                "promises are stored",
                f"{store.peer} acknowledges {index} to {to}, and has stored {store.safe_index}",
            )
        owner = self._led.get(term)
        if owner is None:
            return
        life = owner.life
        if life.lost or not life.leads or life.term != term:
            return
        if life.last_index < index or life.term_of(index) != store.term_of(index):
            raise Violation(
                "promises are stored",
                f"{store.peer} acknowledges {index} to {to}, whose entry there is another",
            )

    def _check_pieces(self, store: WatchedStore, to: Peer, reply: InstallReply) -> None:
        """Promises are stored: so are the pieces of a snapshot that are said to be here."""
        received = store.received
        if store.damaged or received is None or received[0].crc != reply.crc:
            # It is here whole by now, or begun anew; what is told of the one before binds nobody.
            return
        if reply.held > store.safe_pieces:
            raise Violation(
                "promises are stored",
                f"{store.peer} tells {to} of {reply.held} bytes of a snapshot, and has stored"
                f" {store.safe_pieces}",
            )

    def _check_heir(self, store: WatchedStore, heir: Peer) -> None:
        """Hand-over to who has all."""
        last = store.last_index
        lives = [owner.life for owner in self.held.get(heir, ())]
        if not any(
            # What it acknowledged and lost since is not its leader's to know.
            life.lost or (life.last_index >= last and life.term_of(last) == store.term_of(last))
            for life in lives
        ):
            raise Violation(
                "hand-over to who has all", f"{store.peer} hands over to {heir}, who lacks {last}"
            )

    def believes(self, store: WatchedStore, raft: Raft) -> None:
        """Configurations follow the log, and what counts as stored is stored."""
        held = store.configs_held
        if raft.config_index != (held[-1][0] if held else 0) or raft.config != store.config:
            raise Violation(
                "configurations follow the log",
                f"{store.peer} goes by {raft.config.voters} of {raft.config_index}, and its log has"
                f" {store.config.voters}",
            )
        if raft.durable_index > store.safe_index:
            raise Violation(
                "promises are stored",
                f"{store.peer} counts {raft.durable_index} as stored, and {store.safe_index} is",
            )

    def refuses(self, command: bytes) -> None:
        """What failed is not applied: a caller is told that its command is in no log."""
        if command in self._written:
            raise Violation("what failed is not applied", "a command is refused that was logged")
        self.refused[command] = None

    def drops(self, command: bytes) -> None:
        """What failed is not applied: a caller is told that its command never will be."""
        if command in self._committed:
            raise Violation(
                "what failed is not applied",
                f"a command is dropped that is committed at {self._committed[command]}",
            )
        self.dropped[command] = None

    def _complete(self, store: WatchedStore, term: int, last: int) -> None:
        # By log matching, who has the last one has those before it.
        if last and (store.last_index < last or store.term_of(last) != self.committed[last].term):
            raise Violation(
                "leader completeness", f"{store.peer} leads {term} without entry {last}"
            )

    # The log.

    def written(self, store: WatchedStore, index: int, entry: Entry, before: int) -> None:
        """Log matching: `entry` stands at `index` of a log now, after an entry of term `before`."""
        known = self._entries.get((index, entry.term))
        if known is None:
            if not store.leads or store.term != entry.term:
                raise Violation(
                    "log matching",
                    f"{store.peer} writes {_shown(entry)} at {index} without leading its term",
                )
            if entry.kind == CONFIG:
                self._changed(store, index, entry, before)
            self._entries[index, entry.term] = (entry, before)
        elif known[1] != before or (known[0] is not entry and known[0] != entry):
            raise Violation(
                "log matching",
                f"{store.peer} has {_shown(entry)} after term {before} at {index}, and another"
                f" {_shown(known[0])} after term {known[1]}",
            )
        self._written[entry.data] = None
        if entry.data in self.refused:
            raise Violation(
                "what failed is not applied",
                f"a command was refused, yet {store.peer} has it at {index}",
            )

    def deleted(self, store: WatchedStore, first: int) -> None:
        """Leader append-only; and nobody deletes what is committed."""
        if first <= store.commit_index:
            raise Violation(
                "commit never back",
                f"{store.peer} deletes {first}, and {store.commit_index} is committed",
            )
        if store.leads:
            raise Violation("leader append-only", f"{store.peer} deletes from {first} on")
        self.counts["truncations"] += 1

    def _changed(self, store: WatchedStore, index: int, entry: Entry, before: int) -> None:
        """One change at a time, after an entry of the own term (rule 15)."""
        last, config = store.configs_held[-1] if store.configs_held else (0, None)
        voters = self.decode(entry).voters
        if before != entry.term:
            # The entry with which a leader begins.
            if config is not None and config.voters != voters:
                raise Violation(
                    "one change at a time", f"{store.peer} begins its term with {voters}"
                )
            return
        committed = store.commit_index
        if last > committed or store.term_at(committed) != entry.term:
            raise Violation(
                "one change at a time",
                f"{store.peer} logs a configuration at {index} while {last} holds and"
                f" {committed} of term {store.term_at(committed)} is committed",
            )
        assert config is not None
        changed = [p for p in voters if p not in config.voters]
        changed += [p for p in config.voters if p not in voters]
        if len(changed) > 1:
            raise Violation("one change at a time", f"{store.peer} changes {changed} at once")
        for peer in changed:
            stores = self.held.get(peer, ())
            if peer in voters and stores and not any(each.life.last_index for each in stores):
                raise Violation("new voters have the log", f"{peer} becomes one, and has nothing")

    # What is committed.

    def commits(self, store: WatchedStore, index: int) -> None:
        """Commit never back; a majority has it, counted in the own term; state machine safety."""
        before = store.commit_index
        if index < before:
            raise Violation("commit never back", f"{store.peer} goes from {before} to {index}")
        if index > store.last_index:
            raise Violation("commit never back", f"{store.peer} commits {index} beyond its log")
        if store.leads:
            self._check_committed(store, index)
        for place, entry in enumerate(store.slice(before + 1, index - before), before + 1):
            known = self.committed.get(place)
            if known is None:
                if not store.leads:
                    raise Violation(
                        "state machine safety",
                        f"{store.peer} commits {place}, which no leader committed",
                    )
                if entry.data in self.dropped:
                    raise Violation(
                        "what failed is not applied",
                        f"a command was dropped, yet it is committed at {place}",
                    )
                self.committed[place] = entry
                self._committed[entry.data] = place
                if entry.kind == CONFIG:
                    self._configs.append((place, entry))
            elif known is not entry and known != entry:
                raise Violation(
                    "state machine safety",
                    f"{store.peer} commits {_shown(entry)} at {place}, where another committed"
                    f" {_shown(known)}",
                )
        if not store.leads:
            return
        self.last_committed = max(self.last_committed, index)
        term = store.term
        self._committed_by[term] = max(self._committed_by.get(term, 0), index)
        if term < self._last_term:
            for later, owner in self._led.items():
                if later > term and owner.life.leads and owner.life.term == later:
                    self._complete(owner.life, later, index)

    def _check_committed(self, store: WatchedStore, index: int) -> None:
        """What a leader commits is of its own term, and a real majority of voters has stored it."""
        term = store.term_at(index)
        if term != store.term:
            raise Violation(
                "commit by a majority",
                f"{store.peer} counts {index}, of an earlier term (Raft Figure 8)",
            )
        if not store.configs_held:
            raise Violation("commit by a majority", f"{store.peer} has no configuration")
        few = self._too_few(
            store.config,
            lambda owner: owner.life.safe_index >= index and owner.life.term_of(index) == term,
        )
        if few:
            raise Violation("commit by a majority", f"{store.peer} commits {index} with {few}")

    # Snapshots.

    def adopts(self, store: WatchedStore, snapshot: Snapshot) -> None:
        """A snapshot that a server took says what is committed, and stored there."""
        self._check_snapshot(store, snapshot)
        if snapshot.index > store.safe_index:
            raise Violation(
                "snapshots say what is committed",
                f"{store.peer} takes one of {snapshot.index}, and has stored {store.safe_index}",
            )
        self.counts["snapshots taken"] += 1

    def _check_snapshot(self, store: WatchedStore, snapshot: Snapshot) -> None:
        index = snapshot.index
        entry = self.committed.get(index)
        if entry is None or entry.term != snapshot.term:
            raise Violation(
                "snapshots say what is committed",
                f"{store.peer} has one of {index} in term {snapshot.term}, where {_shown(entry)} is"
                " committed",
            )
        place, config = next((c for c in reversed(self._configs) if c[0] <= index), (0, None))
        if config is None or (snapshot.config_index, snapshot.config_term, snapshot.config) != (
            place,
            config.term,
            self.decode(config),
        ):
            raise Violation(
                "snapshots say what is committed",
                f"{store.peer} has one of {index} with {snapshot.config.voters} of"
                f" {snapshot.config_index}, and the configuration there is of {place}",
            )

    def cuts(self, store: WatchedStore, upto: int) -> None:
        """Nothing is cut off that is in no stored snapshot (rule 24)."""
        snapshot = store.snapshot
        if snapshot is None or upto > snapshot.index:
            held = "nothing" if snapshot is None else f"what is up to {snapshot.index}"
            raise Violation(
                "cut what a snapshot holds",
                f"{store.peer} cuts its log up to {upto}, and its snapshot holds {held}",
            )
        self.counts["logs cut"] += 1

    def installs(
        self, store: WatchedStore, base: int, entries: Sequence[Entry], committed: int
    ) -> None:
        """A snapshot has taken the place of the entries after `base`, which were committed up to
        `committed` (rule 23).
        """
        snapshot = store.snapshot
        assert snapshot is not None
        self._check_snapshot(store, snapshot)
        index = snapshot.index
        if not committed < index <= store.commit_index <= store.last_index:
            raise Violation(
                "installing loses nothing",
                f"{store.peer}, which had committed {committed}, installs a snapshot of {index} and"
                f" goes to {store.commit_index}",
            )
        last = base + len(entries)
        agrees = index <= last and entries[index - base - 1].term == snapshot.term
        if agrees and store.last_index < last:
            raise Violation(
                "installing loses nothing",
                f"{store.peer} drops the entries up to {last}, which agree with the snapshot of"
                f" {index} that it installs",
            )
        before = snapshot.term
        for place, entry in enumerate(store.slice(index + 1, store.last_index), index + 1):
            self.written(store, place, entry, before)
            before = entry.term
        self.counts["snapshots installed"] += 1

    def applies(self, peer: Peer, index: int, entry: Entry, commit_index: int) -> None:
        """Applied at most committed, and state machine safety."""
        if index > commit_index:
            raise Violation(
                "applied at most committed", f"{peer} applies {index}, {commit_index} is committed"
            )
        known = self.committed[index]
        if known is not entry and known != entry:
            raise Violation(
                "state machine safety",
                f"{peer} applies {_shown(entry)} at {index}, where {_shown(known)} is committed",
            )

    def acknowledges(self, index: int, term: int, what: object) -> None:
        """Acknowledged writes are kept: what stands at a committed index stands there for good."""
        known = self.committed.get(index)
        if known is None or known.term != term:
            raise Violation(
                "acknowledged writes are kept",
                f"{what!r} was acknowledged at {index} of term {term}, where there is"
                f" {_shown(known)}",
            )


def _shown(entry: Entry | None) -> str:
    """An entry, without the bytes of its command."""
    if entry is None:
        return "nothing"
    return f"a {'configuration' if entry.kind == CONFIG else 'command'} of term {entry.term}"
