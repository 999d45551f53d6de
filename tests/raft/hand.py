"""One core driven by hand: every message comes from the test, and what it sends is kept.

Knows how to carry out what a core asks for, and short forms of the messages. Must not know what a
core ought to do.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from exraft.names import Peer, Role
from exraft.raft import (
    COMMAND,
    Append,
    AppendReply,
    Config,
    Entry,
    Install,
    InstallReply,
    Message,
    Options,
    Outcome,
    PreVote,
    PreVoteReply,
    Raft,
    ReachReply,
    Refusal,
    Snapshot,
    Vote,
    VoteReply,
)
from exraft.raft.config import config_entry, decode_config
from exraft.storage import MemoryStore
from exraft.testing.cluster import QUICK

A, B, C, D, E = (Peer(f":{letter}") for letter in "abcde")

M = TypeVar("M")
S = TypeVar("S", bound=msgspec.Struct)


def store_of(peer: Peer) -> str:
    """The id of the store that a server driven by hand, or played by a test, has."""
    return f"store of {peer.name}"


class Hand:
    """Server `me`, its network, its clock and its disk: all of them the test's."""

    def __init__(
        self,
        me: Peer = A,
        founders: Sequence[Peer] = (A, B, C),
        *,
        options: Options = QUICK,
        owner: MemoryStore | None = None,
        now: float = 0.0,
        seed: int = 0,
        resume: bool = False,
        standby: bool = False,
    ) -> None:
        self.me = me
        self.now = now
        self.owner = owner or MemoryStore(store_of(me))
        self.store = self.owner.lend()
        self.answers: dict[Any, Outcome] = {}
        self.confirmed: dict[Any, int] = {}
        self.reports: list[str] = []
        self.roles: list[Role] = []
        self.sent: list[tuple[Peer, Message]] = []
        """What left since the test last did something."""
        self.raft = Raft(
            me,
            self.store,
            options,
            random.Random(seed),
            now,
            founders,
            resume=resume,
            standby=standby,
        )
        self.carry_out()

    # What the test does.

    def hear(self, *messages: Message) -> None:
        """A batch of messages arrives. An append that names no cluster is of the server's own."""
        for message in messages:
            if isinstance(message, Append | Install) and not message.cluster:
                message = msgspec.structs.replace(message, cluster=self.raft.cluster)
            self.raft.step(message, self.now)
        self.carry_out()

    def wait(self, seconds: float) -> None:
        """Time passes, and is looked at once, at its end."""
        self.now += seconds
        self.raft.tick(self.now)
        self.carry_out()

    def wait_for_deadline(self) -> None:
        self.wait(self.raft.deadline - self.now)

    def propose(self, *commands: bytes) -> None:
        for command in commands:
            assert isinstance(self.raft.propose(command, self.now), int)
        self.carry_out()

    def read(self, ticket: str) -> None:
        self.raft.read(ticket, self.now)
        self.carry_out()

    def change(self, ticket: str, peer: Peer, *, add: bool) -> None:
        self.raft.change(ticket, peer, add=add, patience=10.0, now=self.now)
        self.carry_out()

    def transfer(self, ticket: str, to: Peer | None = None) -> None:
        self.raft.transfer(ticket, to, self.now)
        self.carry_out()

    def campaign(self) -> None:
        self.raft.campaign(self.now)
        self.carry_out()

    def snapshot(self, state: bytes = b"state") -> Snapshot:
        """Take a snapshot of all that is committed, and cut the log."""
        sink = self.store.begin_snapshot(self.raft.snapshot_at(self.raft.commit_index))
        sink.write(state)
        taken = sink.finish()
        self.store.adopt(sink)
        self.raft.compact(self.now)
        self.carry_out()
        return taken

    def elect(self) -> None:
        """Become the leader of the next term by everybody's vote, and commit in it."""
        self.campaign()
        for peer in self.others():
            self.hear(vote_reply(peer, self.raft.term))
        # The second time for the ids of stores that the first acknowledgements told.
        self.accept_all()
        self.accept_all()

    def accept_all(self) -> None:
        """Everybody acknowledges the whole log."""
        for peer in self.others():
            self.hear(accept(peer, self.raft.term, self.raft.last_index))

    def others(self) -> list[Peer]:
        return [peer for peer in self.raft.config.voters if peer != self.me]

    def carry_out(self) -> None:
        raft = self.raft
        self.sent = []
        raft.flush(self.now)
        while True:
            out = raft.take()
            if not out and not self.store.dirty:
                return
            self.sent += out.early
            if self.store.dirty:
                mark = self.store.mark()
                self.store.sync()
                raft.stored(mark, self.now)
            self.sent += out.late
            for ticket, outcome in out.answers:
                self.answers[ticket] = outcome
            for confirmed in out.confirmed:
                self.confirmed.update(dict.fromkeys(confirmed.tickets, confirmed.index))
            self.reports += [text for _, text in out.reports]
            self.roles += out.roles
            raft.flush(self.now)

    # What the test sees.

    def told(self, kind: type[M], to: Peer | None = None) -> list[M]:
        """The messages of that kind that have just left, to everybody or to one."""
        return [m for peer, m in self.sent if isinstance(m, kind) and to in (None, peer)]

    def only(self, kind: type[M], to: Peer | None = None) -> M:
        """The one message of that kind that has just left."""
        told = self.told(kind, to)
        assert len(told) == 1, told
        return told[0]

    def refused(self, ticket: str) -> str:
        """Why a request was refused."""
        outcome = self.answers.get(ticket)
        assert isinstance(outcome, Refusal), outcome
        return outcome.code

    def leads(self) -> bool:
        return self.raft.state is Role.LEADER

    def campaigns(self) -> bool:
        return self.raft.state is Role.CANDIDATE

    def follows(self) -> bool:
        return self.raft.state is Role.FOLLOWER

    def voters(self) -> tuple[Peer, ...]:
        return self.raft.config.voters

    def log(self) -> list[tuple[int, bytes]]:
        """Term and data of every command that the log holds still."""
        entries = self.store.slice(self.store.base_index + 1, self.store.last_index)
        return [(entry.term, entry.data) for entry in entries if entry.kind == COMMAND]


def command(term: int, data: bytes = b"x") -> Entry:
    return Entry(term, COMMAND, data)


def commands(term: int, count: int) -> list[Entry]:
    return [command(term, b"%d" % n) for n in range(count)]


def configuration(term: int, *voters: Peer, cluster: str = "here") -> Entry:
    """As a leader logs it, with the ids of the stores."""
    config = Config(voters, cluster=cluster)
    return config_entry(term, config.with_stores([(peer, store_of(peer)) for peer in voters]))


def with_log(me: Peer, *entries: Entry, term: int = 0, commit: int = 0) -> MemoryStore:
    """A store that has a log already; its term is that of the last entry if none is given."""
    owner = MemoryStore(store_of(me))
    life = owner.lend()
    life.append(entries)
    life.set_ballot(term or entries[-1].term, None, leads=False)
    life.set_commit(commit)
    life.sync()
    return owner


def snapshot_of(
    index: int,
    term: int,
    state: bytes = b"state",
    voters: Sequence[Peer] = (A, B, C),
    *,
    config: tuple[int, int] = (1, 1),
    cluster: str = "here",
) -> Snapshot:
    """A snapshot as another server takes it. `config`: index and term of the configuration."""
    named = decode_config(configuration(0, *voters, cluster=cluster).data)
    return Snapshot(index, term, named, *config, len(state), zlib.crc32(state))


def with_snapshot(
    me: Peer,
    snapshot: Snapshot,
    state: bytes,
    *entries: Entry,
    term: int = 0,
    commit: int = 0,
) -> MemoryStore:
    """A store whose log begins after a snapshot, and goes on with `entries`."""
    owner = MemoryStore(store_of(me))
    life = owner.lend()
    life.receive(snapshot, 0, state)
    life.install()
    life.append(entries)
    life.set_ballot(term or life.term_at(life.last_index), None, leads=False)
    life.set_commit(max(commit, snapshot.index))
    life.sync()
    return owner


def append(
    leader: Peer,
    term: int,
    prev: tuple[int, int],
    entries: Sequence[Entry] = (),
    *,
    commit: int = 0,
    round: int = 0,
    cluster: str = "",
) -> Append:
    """An append after the index and term `prev`."""
    return Append(cluster, leader, term, *prev, tuple(entries), commit, round)


def accept(peer: Peer, term: int, index: int, *, commit: int = 0, round: int = 0) -> AppendReply:
    return AppendReply("", peer, term, store_of(peer), True, index, 0, 0, commit, round)


def install(
    leader: Peer, term: int, snapshot: Snapshot, offset: int = 0, data: bytes = b""
) -> Install:
    """A piece of a snapshot; without data, the question how much of it is there."""
    return Install(snapshot.config.cluster, leader, term, snapshot, offset, data)


def holds(peer: Peer, term: int, snapshot: Snapshot, held: int) -> InstallReply:
    """So many bytes of the snapshot are there."""
    return InstallReply("", peer, term, store_of(peer), snapshot.index, snapshot.crc, held)


def refuse(
    peer: Peer, term: int, index: int, hint: tuple[int, int] = (0, 0), *, round: int = 0
) -> AppendReply:
    """A refusal of an append after `index`; the index and term `hint` may fit."""
    return AppendReply("", peer, term, store_of(peer), False, index, *hint, 0, round)


def pre_vote(peer: Peer, term: int, last: tuple[int, int] = (0, 0)) -> PreVote:
    """`last` is the index and the term of the asker's last entry."""
    return PreVote("", peer, term, store_of(peer), *last)


def pre_vote_reply(peer: Peer, term: int, asked: int, granted: bool = True) -> PreVoteReply:
    return PreVoteReply("", peer, term, store_of(peer), asked, granted)


def vote(peer: Peer, term: int, last: tuple[int, int] = (0, 0), *, force: bool = False) -> Vote:
    return Vote("", peer, term, store_of(peer), *last, force)


def vote_reply(peer: Peer, term: int, granted: bool = True) -> VoteReply:
    return VoteReply("", peer, term, store_of(peer), granted)


def reach_reply(peer: Peer, term: int = 0, *, store: str = "", belongs_to: str = "") -> ReachReply:
    return ReachReply("", peer, term, store or store_of(peer), belongs_to)


def from_store(message: S, store: str) -> S:
    """The same message, given from another store under the same name."""
    return msgspec.structs.replace(message, store=store)


def of_cluster(message: S, cluster: str) -> S:
    return msgspec.structs.replace(message, cluster=cluster)
