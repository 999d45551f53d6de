"""A cluster of cores in one thread, with virtual time, a network of its own, and one seed.

Knows how to drive cores as a server does (see `exraft.raft.outcome.Output`) and which invariants hold
after every step. Must not know threads, nor a clock that runs by itself.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exraft.names import Peer, Role
from exraft.raft import (
    CONFIG,
    Answer,
    Append,
    Entry,
    Logged,
    Message,
    Options,
    Raft,
    Refusal,
)
from exraft.raft.config import decode_config
from exraft.storage import LentStore, MemoryStore

QUICK = Options(min_election_timeout=1.0, max_election_timeout=2.0, heartbeat_timeout=0.1)


@dataclass
class Faults:
    """How bad the network is: chances per message, and the range of delays in seconds."""

    loss: float = 0.0
    doubling: float = 0.0
    delay: tuple[float, float] = (0.001, 0.005)


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Server:
    """One member: a store that outlives crashes, and the core that holds it at the moment."""

    peer: Peer
    founders: tuple[Peer, ...]
    options: Options
    owner: MemoryStore
    raft: Raft | None = None
    applied: int = 0
    standby: bool = False

    @property
    def store(self) -> LentStore:
        assert self.raft is not None
        store = self.raft.store
        assert isinstance(store, LentStore)
        return store


class Cluster:
    """Servers `:a`, `:b`, … and everything that happens to them."""

    def __init__(
        self,
        count: int = 3,
        *,
        seed: int = 0,
        options: Options = QUICK,
        faults: Faults | None = None,
        start: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.options = options
        self.faults = faults or Faults()
        self.now = 0.0
        self.steps = 0
        self.peers = tuple(Peer(f":{chr(ord('a') + n)}") for n in range(count))
        self.servers: dict[Peer, Server] = {}
        self.cut: dict[tuple[Peer, Peer], None] = {}
        """Pairs (from, to) that no message passes."""
        self.filter: Callable[[Peer, Peer, Message], bool] = lambda sender, to, message: True
        self.answers: dict[Any, Any] = {}
        self.confirmed: dict[Any, int] = {}
        self.reports: list[tuple[Peer, str, str]] = []
        self._queue: list[tuple[float, int, Peer, Message]] = []
        self._sequence = 0
        # What the invariants remember.
        self.leaders: dict[int, Peer] = {}
        self.committed: dict[int, Entry] = {}
        self.elections = 0
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._votes: dict[tuple[str, int], Peer | None] = {}
        self._commits: dict[str, int] = {}
        self._acknowledged = 0
        self._asked_at: dict[Any, int] = {}
        self._waiting: dict[tuple[int, int], Any] = {}
        self.done: dict[Any, int] = {}
        """Commands and changes by ticket that were applied, with their index."""
        for peer in self.peers:
            self.add(peer, self.peers)
        if start:
            for peer in self.peers:
                self.start(peer)

    # Servers.

    def add(self, peer: Peer, founders: Sequence[Peer], *, min_majority: int = 1) -> Server:
        options = replace(self.options, min_majority=min_majority)
        store = MemoryStore(f"{self.rng.getrandbits(64):016x}")
        server = Server(peer, tuple(founders), options, store)
        self.servers[peer] = server
        return server

    def start(self, peer: Peer, *, resume: bool = False) -> Raft:
        server = self.servers[peer]
        server.raft = Raft(
            peer,
            server.owner.lend(),
            server.options,
            random.Random(self.rng.random()),
            self.now,
            server.founders,
            resume=resume,
            standby=server.standby,
        )
        server.applied = 0
        self.settle(server)
        return server.raft

    def crash(self, peer: Peer) -> None:
        self.servers[peer].raft = None

    def raft(self, peer: Peer) -> Raft:
        raft = self.servers[peer].raft
        assert raft is not None
        return raft

    def running(self) -> list[Server]:
        return [server for server in self.servers.values() if server.raft is not None]

    def leader(self) -> Raft | None:
        """The leader of the greatest term among those who lead."""
        leading = [s.raft for s in self.running() if s.raft and s.raft.state is Role.LEADER]
        return max(leading, key=lambda raft: raft.term, default=None)

    # The network.

    def isolate(self, *peers: Peer) -> None:
        """Cut `peers` off from everyone else, both ways."""
        for one in peers:
            for other in self.servers:
                if other not in peers:
                    self.cut[one, other] = None
                    self.cut[other, one] = None

    def heal(self) -> None:
        self.cut.clear()

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        if (sender, to) in self.cut or not self.filter(sender, to, message):
            return
        if self.rng.random() < self.faults.loss:
            return
        copies = 2 if self.rng.random() < self.faults.doubling else 1
        for _ in range(copies):
            self._sequence += 1
            at = self.now + self.rng.uniform(*self.faults.delay)
            heapq.heappush(self._queue, (at, self._sequence, to, message))

    # Time.

    def step(self) -> None:
        """Let the next thing happen: a message arrives, or a deadline passes."""
        running = self.running()
        due = min(
            ((s.raft.deadline, n) for n, s in enumerate(running) if s.raft),
            default=(float("inf"), 0),
        )
        if self._queue and self._queue[0][0] <= due[0]:
            at, _, to, message = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            server = self.servers.get(to)
            if server is not None and server.raft is not None and (message.sender, to) not in self.cut:
                server.raft.step(message, self.now)
                self.settle(server)
        elif running:
            self.now = max(self.now, due[0])
            server = running[due[1]]
            assert server.raft is not None
            server.raft.tick(self.now)
            self.settle(server)
        self.steps += 1

    def run(self, until: Callable[[], Any], *, within: float = 60.0) -> None:
        """Let things happen until `until` holds; a failure after `within` virtual seconds."""
        end = self.now + within
        while not until():
            if self.now > end:
                raise AssertionError(f"it did not come about within {within} virtual seconds")
            self.step()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        self.run(lambda: self.now >= end, within=seconds + 1)

    def elect(self) -> Raft:
        """Run until a leader has committed in its term and everyone running follows it."""

        def elected() -> bool:
            leader = self.leader()
            return (
                leader is not None
                and leader.committed_in_term
                and leader.config_index <= leader.commit_index
                and all(s.raft.leader == leader.me for s in self.running() if s.raft)
            )

        self.run(elected)
        leader = self.leader()
        assert leader is not None
        return leader

    # Requests.

    def write(self, peer: Peer, data: bytes) -> int | Refusal:
        raft = self.raft(peer)
        outcome = raft.propose(data, self.now)
        if isinstance(outcome, int):
            self._waiting[outcome, raft.term] = data
        self.settle(self.servers[peer])
        return outcome

    def read(self, peer: Peer, ticket: Any) -> None:
        self._asked_at[ticket] = self._acknowledged
        self.raft(peer).read(ticket, self.now)
        self.settle(self.servers[peer])

    def change(self, peer: Peer, ticket: Any, other: Peer, *, add: bool) -> None:
        self.raft(peer).change(ticket, other, add=add, patience=10.0, now=self.now)
        self.settle(self.servers[peer])

    def transfer(self, peer: Peer, ticket: Any, to: Peer | None = None) -> None:
        self.raft(peer).transfer(ticket, to, self.now)
        self.settle(self.servers[peer])

    def settle(self, server: Server) -> None:
        """Carry out what the core wants done, in the order that it states."""
        raft = server.raft
        assert raft is not None
        raft.flush(self.now)
        while out := raft.take():
            for to, message in out.early:
                self.send(server.peer, to, message)
            self.sync(server)
            for to, message in out.late:
                self.send(server.peer, to, message)
            for answer in out.answers:
                self.answered(raft, answer)
            for read in out.confirmed:
                for ticket in read.tickets:
                    self._check_read(ticket, read.index)
            for severity, text in out.reports:
                self.reports.append((server.peer, severity, text))
            raft.flush(self.now)
        self.sync(server)
        self.check(server)
        self.apply(server)
        if raft.out or server.store.dirty:
            self.settle(server)

    def sync(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        if server.store.dirty:
            mark = server.store.mark()
            server.store.sync()
            raft.stored(mark, self.now)
            raft.flush(self.now)

    def answered(self, raft: Raft, answer: Answer) -> None:
        if answer.ticket in self.answers and not isinstance(self.answers[answer.ticket], Logged):
            raise Violation(f"{answer.ticket} was answered twice")
        self.answers[answer.ticket] = answer.outcome
        if isinstance(answer.outcome, Logged):
            self._waiting[answer.outcome.index, answer.outcome.term] = answer.ticket

    def apply(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        while server.applied < raft.commit_index:
            server.applied += 1
            entry = server.store.slice(server.applied, 1)[0]
            known = self.committed.setdefault(server.applied, entry)
            if known != entry:
                raise Violation(
                    f"state machine safety: {server.peer} applies {entry} at {server.applied},"
                    f" where {known} was applied"
                )
            ticket = self._waiting.pop((server.applied, entry.term), None)
            if ticket is not None:
                self.done[ticket] = server.applied
                self._acknowledged = max(self._acknowledged, server.applied)

    # Invariants.

    def check(self, server: Server) -> None:
        """What must hold after every step, for the server that was part of it."""
        raft = server.raft
        assert raft is not None
        store = server.store
        self._check_votes(store)
        self._check_log(server)
        before = self._commits.get(store.store_id, 0)
        if raft.commit_index < before:
            raise Violation(f"commit went back on {server.peer}: {before} to {raft.commit_index}")
        if raft.commit_index > store.last_index:
            raise Violation(f"{server.peer} committed {raft.commit_index} beyond its log")
        if raft.state is Role.LEADER:
            self._check_leader(raft)
            if raft.commit_index > before:
                self._check_quorum(raft)
        self._commits[store.store_id] = raft.commit_index

    def _check_votes(self, store: LentStore) -> None:
        if store.voted_for is None:
            return
        first = self._votes.setdefault((store.store_id, store.term), store.voted_for)
        if first != store.voted_for:
            raise Violation(f"two votes in term {store.term}: {first} and {store.voted_for}")

    def _check_log(self, server: Server) -> None:
        """Log matching: the same index and term, the same entry after the same entry."""
        store = server.store
        index = store.last_index
        while index:
            entry = store.slice(index, 1)[0]
            here = (entry, store.term_at(index - 1))
            known = self._entries.get((index, entry.term))
            if known == here:
                return
            if known is not None:
                raise Violation(f"log matching: {server.peer} has {here} at {index}, not {known}")
            self._entries[index, entry.term] = here
            index -= 1

    def _check_leader(self, raft: Raft) -> None:
        if raft.term not in self.leaders:
            self.elections += 1
        first = self.leaders.setdefault(raft.term, raft.me)
        if first != raft.me:
            raise Violation(f"two leaders in term {raft.term}: {first} and {raft.me}")
        if self.committed:
            last = max(self.committed)
            if raft.last_index < last or raft.store.term_at(last) != self.committed[last].term:
                terms_later = raft.term > self.committed[last].term
                if terms_later:
                    raise Violation(f"leader completeness: {raft.me} lacks entry {last}")

    def _check_quorum(self, raft: Raft) -> None:
        """What a leader commits, a real majority of its voters has."""
        index = raft.commit_index
        config = raft.config
        holders = 0
        for peer in config.voters:
            server = self.servers.get(peer)
            if server is None:
                continue
            held = server.owner.peek()
            if (
                held is not None
                and held.last_index >= index
                and held.term_at(index) == raft.store.term_at(index)
                and config.store_of(peer) in ("", held.store_id)
            ):
                holders += 1
        if holders < len(config.voters) // 2 + 1:
            raise Violation(f"{raft.me} committed {index} with {holders} of {len(config.voters)}")

    def _check_read(self, ticket: Any, index: int) -> None:
        if index < self._asked_at[ticket]:
            raise Violation(
                f"read {ticket} at {index}, though {self._asked_at[ticket]} was acknowledged before"
            )
        self.confirmed[ticket] = index


def commands(cluster: Cluster, peer: Peer) -> list[bytes]:
    """The commands that a server has applied, in order."""
    server = cluster.servers[peer]
    entries = server.store.slice(1, server.applied)
    return [entry.data for entry in entries if entry.kind != CONFIG]


def voters(cluster: Cluster, peer: Peer) -> tuple[Peer, ...]:
    return cluster.raft(peer).config.voters


__all__ = [
    "QUICK",
    "Append",
    "Cluster",
    "Faults",
    "Server",
    "Violation",
    "commands",
    "decode_config",
    "voters",
]
