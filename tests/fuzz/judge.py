"""What one server keeps to whatever the others say: its own promises, its own log, its own callers.

Knows how to carry out what a core asks for, and compares each write and each thing that leaves with
what was there before. Must not know what is sent to the core: a liar may be behind every message,
so nothing that takes honest peers is judged here (that is the simulated cluster's business).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from exraft.names import Peer, Role
from exraft.raft import (
    COMMAND,
    CONFIG,
    Append,
    AppendReply,
    Config,
    Entry,
    Install,
    InstallReply,
    Mark,
    Message,
    Options,
    Output,
    PreVote,
    Raft,
    Snapshot,
    SnapshotReader,
    Vote,
    VoteReply,
)
from exraft.raft.config import decode_config, quorum
from exraft.raft.follower import Follower
from exraft.raft.leader import Leader
from exraft.storage import LentStore
from exraft.storage.sinks import SnapshotSink
from tests.raft.hand import store_of

QUICK = Options(
    min_election_timeout=1.0,
    max_election_timeout=2.0,
    heartbeat_timeout=0.1,
    batch_size=3,
    max_append_bytes=64,
    max_uncommitted_bytes=64,
    keep_entries=2,
    keep_bytes=40,
    snapshot_chunk_bytes=4,
)
WIRE = msgspec.msgpack.Decoder(Message)
MAX_REPORTS = 2
"""What one message may have to say to the operator."""


@dataclass(frozen=True)
class Durable:
    """What a loss of all that was not synced would leave."""

    term: int = 0
    voted_for: Peer | None = None
    leads: bool = False
    commit_index: int = 0
    base_index: int = 0
    base_term: int = 0
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    state: bytes = b""
    pieces: dict[tuple[int, int], int] = field(default_factory=dict)
    """The most bytes that were ever here of a snapshot with this index and checksum."""

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)


class JudgedStore(LentStore):
    """A hold that refuses to be written what no server may write, whoever asks for it."""

    def __init__(self, store_id: str, incarnation: int, left: Durable) -> None:
        super().__init__(store_id, incarnation, None)
        self.states: dict[Snapshot, bytes] = {}
        """Of the snapshots that were ever the newest."""
        self.open_readers = 0
        self.pieces: dict[tuple[int, int], int] = {}
        if left.snapshot is not None:
            super().receive(left.snapshot, 0, left.state)
            super().install()
            self.states[left.snapshot] = left.state
        self.base_index = left.base_index
        self.base_term = left.base_term
        self._entries = list(left.entries)
        self._count()
        super().set_ballot(left.term, left.voted_for, left.leads)
        super().set_commit(left.commit_index)
        self.dirty = False
        self.known = left
        """As of the last sync that is done."""

    def content(self) -> Durable:
        # A commit index is never more durable than the entries that it speaks of.
        return Durable(
            self.term,
            self.voted_for,
            self.leads,
            self.commit_index,
            self.base_index,
            self.base_term,
            tuple(self.slice(self.base_index + 1, self.last_index)),
            self.snapshot,
            self._content,
            self.pieces.copy(),
        )

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        assert term >= self.term, f"the term goes back from {self.term} to {term}"
        if term == self.term and self.voted_for is not None:
            assert voted_for == self.voted_for, f"a second vote in term {term}"
        super().set_ballot(term, voted_for, leads)

    def set_commit(self, index: int) -> None:
        assert self.commit_index <= index <= self.last_index, f"commit index {index}"
        # Figure 8: only an entry of the own term is counted (rule 9).
        assert not self.leads or self.term_at(index) == self.term, f"a leader commits {index}"
        super().set_commit(index)

    def append(self, entries: Sequence[Entry]) -> None:
        before = self.term_at(self.last_index)
        for entry in entries:
            assert max(before, 1) <= entry.term <= self.term, f"{entry} after term {before}"
            assert entry.kind in (COMMAND, CONFIG), f"{entry} is of no known kind"
            if entry.kind == CONFIG:
                config = decode_config(entry.data)
                members = config.members()
                assert config.voters and len(set(members)) == len(members), config
                if self.leads:
                    self._judge_change(config, first=before != self.term)
            before = entry.term
        super().append(entries)

    def _judge_change(self, config: Config, *, first: bool) -> None:
        """One change at a time, and none before an entry of the own term (rule 15)."""
        index, last = 0, None
        if self.snapshot is not None:
            index, last = self.snapshot.config_index, self.snapshot.config
        for index, entry in self.configs():  # noqa: B007
            last = decode_config(entry.data)
        if first:
            assert last is None or last.members() == config.members(), "a term begins with a change"
            return
        assert last is not None and index <= self.commit_index, "two changes at once"
        assert self.term_at(self.commit_index) == self.term, "a change before the first commit"
        assert len({*last.members()} ^ {*config.members()}) <= 1, "two members change"

    def truncate(self, first: int) -> None:
        assert first > self.commit_index, f"{first} is committed, and deleted"
        assert not self.leads, "a leader deletes from its own log"
        super().truncate(first)

    def cut(self, upto: int) -> None:
        assert upto <= self.commit_index, f"{upto} is cut off, and not committed"
        assert self.snapshot is not None and upto <= self.snapshot.index, "no snapshot holds it"
        super().cut(upto)

    def adopt(self, sink: SnapshotSink) -> None:
        assert sink.snapshot.index <= self.commit_index
        super().adopt(sink)
        self._judge_snapshot()

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        held = super().receive(snapshot, offset, data)
        what = snapshot.index, snapshot.crc
        self.pieces[what] = max(held, self.pieces.get(what, 0))
        return held

    def install(self) -> None:
        """It takes the place of a log that is not as good (rule 23)."""
        assert not self.leads, "a leader replaces its own log"
        before, commit = self.content(), self.commit_index
        super().install()
        self._judge_snapshot()
        assert self.snapshot is not None
        index = self.snapshot.index
        assert self.commit_index == index > commit, "the commit index goes back"
        if index <= before.last_index:
            kept = before.entries[index - before.base_index - 1]
            assert kept.term != self.snapshot.term, "a log that agrees is discarded"

    def _judge_snapshot(self) -> None:
        snapshot, state = self.snapshot, self._content
        assert snapshot is not None
        assert (len(state), zlib.crc32(state)) == (snapshot.size, snapshot.crc), "it is damaged"
        self.states[snapshot] = state

    def open_snapshot(self) -> SnapshotReader:
        self.open_readers += 1
        return _Reader(super().open_snapshot(), self)


class _Reader:
    """Is missed by its store when it is not closed."""

    def __init__(self, reader: SnapshotReader, store: JudgedStore) -> None:
        self.snapshot = reader.snapshot
        self.read = reader.read
        self._store = store

    def close(self) -> None:
        self._store.open_readers -= 1


@dataclass
class _Sync:
    """A sync under way, and what leaves when it is done."""

    mark: Mark
    content: Durable
    out: Output


@dataclass
class _Read:
    """A read that waits, and who has answered the leader since it came."""

    commit: int
    answered: dict[Peer, None] = field(default_factory=dict)


class Judged:
    """One server and its judge. What it sends is kept in `sent` until somebody takes it."""

    def __init__(
        self, me: Peer, founders: Sequence[Peer], *, seed: int = 0, standby: bool = False
    ) -> None:
        self.me = me
        self.now = 0.0
        self.slow = False
        """Whether syncs take their time from now on: until `finish_sync`."""
        self.sent: list[tuple[Peer, Message]] = []
        self.story: list[str] = []
        """What happened, to be read when something is wrong."""
        self.watch: Callable[[str], None] = self.story.append
        self.counts: dict[str, int] = {}
        self._founders = tuple(founders)
        self._named: dict[Peer, None] = dict.fromkeys((me, *founders))
        """Everyone whom the server has a reason to remember."""
        self._rng = random.Random(seed)
        self._standby = standby
        self._votes: dict[int, Peer] = {}
        """Who was told that the vote of a term is theirs."""
        self._tickets = 0
        self._waiting: dict[int, _Read | None] = {}
        """Who waits for an answer; reads with what is known of them."""
        self._committed: dict[int, Entry] = {}
        """What this server knew to be committed, by its index, as far as its log held it."""
        self._sinks: list[SnapshotSink] = []
        """Snapshots that are being written."""
        self._syncing: list[_Sync] = []
        self._marks: list[Mark] = []
        self._incarnation = 0
        self._begin(Durable(), resume=False)

    # What happens to the server.

    def hear(self, *messages: Message) -> None:
        """A batch of messages arrives."""
        for message in messages:
            self.watch(f"{self.me} hears {message}")
            before = len(self.raft.out.reports)
            commit = self.raft.commit_index
            base = self.store.base_index
            self.raft.step(message, self.now)
            self._count("installs", self.store.base_index > base)
            assert len(self.raft.out.reports) <= before + MAX_REPORTS
            if self.raft.commit_index > commit:
                # A follower's; a leader commits when the batch is over.
                assert isinstance(message, Append | Install)
                if isinstance(message, Install):
                    vouched_for = message.snapshot.index
                else:
                    vouched_for = message.prev_index + len(message.entries)
                assert self.raft.commit_index <= vouched_for, "nobody vouched for that (rule 8)"
            if isinstance(message, AppendReply):
                for read in self._waiting.values():
                    if read is not None:
                        read.answered[message.sender] = None
        self._settle()

    def tick(self, at: float) -> None:
        """Look at the time; nobody looks at a deadline for ever that does not move."""
        self.now = max(self.now, at)
        self.watch(f"{self.me} looks at the time, {self.now:.3f}")
        for _ in range(3):
            self.raft.tick(self.now)
            self._settle()
            if self.raft.deadline > self.now:
                return
        raise AssertionError(f"{self.raft.state} looks at the time over and over")

    def propose(self, data: bytes) -> None:
        self.watch(f"{self.me} is asked to write {len(data)} bytes")
        if isinstance(self.raft.propose(data, self.now), int):
            self._count("writes")
        self._settle()

    def read(self) -> None:
        self.watch(f"{self.me} is asked to read")
        ticket = self._ticket(_Read(self.raft.commit_index))
        self.raft.read(ticket, self.now)
        self._settle()

    def change(self, peer: Peer, *, add: bool, patience: float) -> None:
        self.watch(f"{self.me} is asked to {'add' if add else 'remove'} {peer}")
        self._named[peer] = None
        self.raft.change(self._ticket(None), peer, add=add, patience=patience, now=self.now)
        self._settle()

    def transfer(self, to: Peer | None) -> None:
        self.watch(f"{self.me} is asked to hand over to {to}")
        self.raft.transfer(self._ticket(None), to, self.now)
        self._settle()

    def campaign(self) -> None:
        self.watch(f"{self.me} is told to campaign")
        self.raft.campaign(self.now)
        self._settle()

    def leader_gone(self, peer: Peer) -> None:
        self.watch(f"{self.me} hears that {peer} is gone")
        self.raft.leader_gone(peer, self.now)
        self._settle()

    def leader_lost(self, peer: Peer) -> None:
        self.watch(f"{self.me} loses its connection to {peer}")
        before = (self.raft.term, self.raft.leader, self.raft.leader_heard, self.raft.state)
        self.raft.leader_lost(peer, self.now)
        assert before == (
            *(self.raft.term, self.raft.leader, self.raft.leader_heard, self.raft.state),
        )
        self._settle()

    def halt(self) -> None:
        self.watch(f"{self.me} cannot apply its log")
        self.raft.halt(self.now)
        self._settle()

    def begin_snapshot(self, state: bytes) -> None:
        """A snapshot of all that is committed is written, beside whatever else happens."""
        index = self.raft.commit_index
        if index > self.store.base_index:
            self.watch(f"{self.me} begins a snapshot of {index}")
            taken = self.raft.snapshot_at(index)
            assert (taken.index, taken.term) == (index, self.store.term_at(index))
            assert (taken.config_index, taken.config) == self.raft.configs[0]
            sink = self.store.begin_snapshot(taken)
            sink.write(state)
            sink.finish()
            self._sinks.append(sink)

    def finish_snapshot(self) -> None:
        if self._sinks:
            sink = self._sinks.pop(0)
            self.watch(f"{self.me} has written a snapshot of {sink.snapshot.index}")
            before = self.store.base_index
            self.store.adopt(sink)
            self.raft.compact(self.now)
            self._count("cuts", self.store.base_index > before)
            self._settle()

    def repeat_mark(self, rng: random.Random) -> None:
        """The core is told once more of a sync that was done long ago, or of one that it can't
        have asked for: it names an entry that is not in the log."""
        foreign = Mark(self.raft.term - 1, rng.randrange(9), self.raft.term + 1)
        mark = rng.choice((*self._marks[-8:], foreign))
        self.watch(f"{self.me} hears again of {mark}")
        self.raft.stored(mark, self.now)
        self._settle()

    def finish_sync(self) -> None:
        """The sync that was begun first is done."""
        if self._syncing:
            self.watch(f"a sync of {self.me} is done")
            sync = self._syncing.pop(0)
            self._synced(sync.mark, sync.content)
            self._deliver(sync.out)
            self._settle()

    def crash(self, *, lossy: bool, resume: bool) -> None:
        """This life ends, and the next one begins. `lossy`: with what was synced only."""
        self.watch(f"{self.me} dies{', loses what was not synced' if lossy else ''}, begins again")
        left = self.store.known if lossy else self.store.content()
        self._count("crashes")
        self._waiting.clear()
        self._syncing.clear()
        self._marks.clear()
        self._sinks.clear()
        self._begin(left, resume=resume and not lossy)

    # What the server does.

    def _begin(self, left: Durable, *, resume: bool) -> None:
        self._incarnation += 1
        first = left.base_index + 1
        committed = left.entries[: left.commit_index - left.base_index]
        self._committed = dict(enumerate(committed, first))
        self.store = JudgedStore(store_of(self.me), self._incarnation, left)
        self.raft = Raft(
            self.me,
            self.store,
            QUICK,
            random.Random(self._rng.random()),
            self.now,
            self._founders,
            resume=resume,
            standby=self._standby,
        )
        self._settle()

    def _settle(self) -> None:
        """Carry out what the core wants done, in the order that `Output` states."""
        raft = self.raft
        for _ in range(100):
            raft.flush(self.now)
            out = raft.take()
            if not out and not self.store.dirty:
                self._judge()
                return
            for to, message in out.early:
                self._judge_early(to, message)
            if self._syncing or (self.slow and self.store.dirty):
                self.store.dirty = False
                self._syncing.append(_Sync(self.store.mark(), self.store.content(), out))
                continue
            if self.store.dirty:
                mark = self.store.mark()
                self.store.sync()
                self._synced(mark, self.store.content())
            self._deliver(out)
        raise AssertionError(f"{raft.state} always wants something more")

    def _synced(self, mark: Mark, content: Durable) -> None:
        self.store.known = content
        self._marks.append(mark)
        self.raft.stored(mark, self.now)

    def _deliver(self, out: Output) -> None:
        assert len(out.late) <= 200, "one batch is answered by a flood"
        for to, message in out.late:
            self._judge_promise(to, message)
        for ticket, outcome in out.answers:
            self.watch(f"{self.me} answers {ticket}: {outcome}")
            del self._waiting[ticket]
        for confirmed in out.confirmed:
            for ticket in confirmed.tickets:
                self.watch(f"{self.me} confirms {ticket}")
                self._judge_read(ticket, confirmed.index)
        for role in out.roles:
            self._count(role)
        self._count("reports", len(out.reports))

    def _ticket(self, read: _Read | None) -> int:
        self._tickets += 1
        self._waiting[self._tickets] = read
        return self._tickets

    def _count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    # What is judged.

    def _judge_early(self, to: Peer, message: Message) -> None:
        """Only a leader's appends may leave before they are stored (rule 10); its snapshot is."""
        self._judge_sent(to, message)
        assert isinstance(message, Append | Install)
        if isinstance(message, Install):
            end = message.offset + len(message.data)
            state = self.store.states[message.snapshot]
            assert message.data == state[message.offset : end], "other bytes than the snapshot's"
            assert message.term == self.store.term
            self._count("pieces", bool(message.data))
            return
        assert message.prev_term == self.store.term_at(message.prev_index)
        assert message.commit <= self.store.commit_index
        assert message.term == self.store.term

    def _judge_promise(self, to: Peer, message: Message) -> None:
        """What promises something leaves when it is stored, and not before (rule 2)."""
        self._judge_sent(to, message)
        known = self.store.known
        if isinstance(message, PreVote):
            assert message.term <= known.term + 1
            return
        assert message.term <= known.term, f"{message} leaves before its term is stored"
        if isinstance(message, Vote):
            assert known.term > message.term or known.voted_for == self.me
        elif isinstance(message, VoteReply) and message.granted:
            assert known.term > message.term or known.voted_for == to
            assert self._votes.setdefault(message.term, to) == to, f"two votes in {message.term}"
            self._count("votes")
        elif isinstance(message, AppendReply) and message.accepted:
            assert message.index >= 0
            # In a later term than it promised, it may have deleted what it had promised.
            assert known.term > message.term or message.index <= known.last_index
            self._count("acknowledgements")
        elif isinstance(message, InstallReply):
            stored = known.pieces.get((message.index, message.crc), 0)
            assert message.held <= stored, "it has not stored so much"

    def _judge_sent(self, to: Peer, message: Message) -> None:
        assert to != self.me, f"{self.me} speaks to itself: {message}"
        assert message.sender == self.me
        assert WIRE.decode(msgspec.msgpack.encode(message)) == message, "no wire carries it"
        self.watch(f"{self.me} sends {to} {message}")
        self.sent.append((to, message))

    def _judge_read(self, ticket: int, index: int) -> None:
        """After a quorum was asked since the read came, and has answered (rule 20)."""
        read = self._waiting.pop(ticket)
        assert read is not None
        assert read.commit <= index <= self.raft.commit_index
        # The batch that confirmed it may have brought another configuration since.
        assert any(self._confirms(read, config) for _, config in self.raft.configs)
        self._count("reads")

    def _confirms(self, read: _Read, config: Config) -> bool:
        answered = [peer for peer in config.voters if peer == self.me or peer in read.answered]
        return len(answered) >= quorum(config, QUICK.min_majority)

    def _judge(self) -> None:
        """What holds between any two things that happen."""
        raft = self.raft
        store = self.store
        assert (raft.state is Role.LEADER) == store.leads
        if raft.state is not Role.FOLLOWER:
            assert store.voted_for == self.me
        assert raft.leader != self.me or raft.state is Role.LEADER
        self._judge_log()
        self._judge_memory()
        waiting = list(raft.tickets())
        for sync in self._syncing:
            waiting += sync.out.tickets()
        assert sorted(waiting) == sorted(self._waiting), "a caller is forgotten"

    def _judge_log(self) -> None:
        raft = self.raft
        store = self.store
        assert 0 <= store.base_index <= store.commit_index <= store.last_index
        first = store.base_index + 1
        if store.snapshot is not None:
            assert first <= store.snapshot.index + 1 <= store.commit_index + 1
        committed = dict(enumerate(store.slice(first, store.commit_index + 1 - first), first))
        known = self._committed
        assert committed == {at: known.get(at, entry) for at, entry in committed.items()}
        self._count("commits", len(committed.keys() - known.keys()))
        known |= committed
        # A leader counts it (rule 10): by then all that it wrote as a follower is stored, unless it
        # was elected by votes that it had not asked for yet.
        left = store.known
        if raft.state is Role.LEADER and left.term == raft.term and left.base_index < first:
            durable = tuple(store.slice(first, max(0, raft.durable_index + 1 - first)))
            stored = left.entries[first - 1 - left.base_index :]
            assert stored[: len(durable)] == durable, "it counts what is not stored"
        logged = [(index, decode_config(entry.data)) for index, entry in store.configs()]
        settled = [each for each in logged if each[0] <= store.commit_index]
        base = settled[-1:] or [(0, Config(self._founders))]
        snapshot = store.snapshot
        if snapshot is not None and not settled:
            base = [(snapshot.config_index, snapshot.config)]
            assert raft.configs == base + logged[len(settled) :], "not the log's configurations"
        later = [config for _, config in logged]
        for config in [*later, *(config for _, config in base)]:
            self._named.update(dict.fromkeys((*config.members(), *dict(config.stores))))

    def _judge_memory(self) -> None:
        """Strangers leave no trace."""
        raft = self.raft
        remembered = [*raft._strangers]
        if isinstance(raft.role, Leader):
            remembered += raft.role.peers
            sent = [each for each in raft.role.peers.values() if each.sending is not None]
            assert self.store.open_readers == len(sent), "a snapshot is not closed"
        elif isinstance(raft.role, Follower):
            remembered += raft.role._granted or ()
        else:
            remembered += raft.role._votes
        strangers = [peer for peer in remembered if peer not in self._named]
        assert not strangers, f"{strangers} are remembered"
        if not isinstance(raft.role, Leader):
            assert not self.store.open_readers, "a snapshot is not closed"
