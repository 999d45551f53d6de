"""A cluster of cores in one thread, with virtual time, a network of its own, and one seed.

Knows how to drive cores as a server does (see `exraft.raft.outcome.Output`), and what callers may
rely on. Must not know threads, nor a clock that runs by itself; what holds in every log is judged
by `invariants`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from exraft.names import Peer, Role
from exraft.raft import (
    CONFIG,
    Answer,
    Append,
    Entry,
    Logged,
    Message,
    Options,
    Output,
    Raft,
    Refusal,
)
from exraft.raft.config import decode_config
from tests.raft.invariants import Violation, Watch, WatchedOwner, WatchedStore

QUICK = Options(min_election_timeout=1.0, max_election_timeout=2.0, heartbeat_timeout=0.1)


NEVER = float("inf")


@dataclass
class Faults:
    """How bad the network is: chances per message, and the range of delays in seconds."""

    loss: float = 0.0
    doubling: float = 0.0
    delay: tuple[float, float] = (0.001, 0.005)
    lag: float = 0.0
    """The chance of a delay out of `lagging` instead."""
    lagging: tuple[float, float] = (0.1, 1.0)


@dataclass
class Sync:
    """A sync that a server has begun, and what leaves when it is done."""

    raft: Raft
    mark: Any
    upto: int
    out: Output


Job: TypeAlias = Message | Sync | Callable[[], None]


@dataclass
class Server:
    """One member: a store that outlives crashes, and the core that holds it at the moment."""

    peer: Peer
    founders: tuple[Peer, ...]
    options: Options
    owner: WatchedOwner
    raft: Raft | None = None
    applied: int = 0
    standby: bool = False
    sync_takes: tuple[float, float] | None = None
    """How long a sync takes, in seconds; None if it is done at once."""
    busy_until: float = 0.0
    """Until then what arrives waits in `inbox`, and the time is not looked at."""
    doomed: str = ""
    """Dies the next time it has to write, after its first messages have left: "kept" before the
    sync, with a store that outlives it; "unsynced" likewise, and what was not synced is lost;
    "synced" right after the sync."""
    intact: bool = True
    """Whether the store is as the last life left it, so that the next may resume."""
    inbox: list[Job] = field(default_factory=list)
    syncing: deque[Sync] = field(default_factory=deque)
    synced_at: float = 0.0
    """When the last sync that was begun will be done."""
    reads: list[tuple[int, Any]] = field(default_factory=list)
    """Confirmed reads that wait for the machine: (index, ticket)."""
    waiting: dict[int, list[tuple[int, Any]]] = field(default_factory=dict)
    """Who waits here for the entry at an index: (its term, ticket)."""

    @property
    def store(self) -> WatchedStore:
        assert self.raft is not None
        store = self.raft.store
        assert isinstance(store, WatchedStore)
        return store

    @property
    def due(self) -> float:
        """When this server does something by itself."""
        if self.raft is None:
            return NEVER
        if self.inbox:
            return self.busy_until
        return max(self.raft.deadline, self.busy_until)


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
        min_majority: int = 1,
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
        self._queue: list[tuple[float, int, Peer, Message | Sync]] = []
        self._sequence = 0
        self._arrivals: dict[tuple[Peer, Peer], float] = {}
        self.watch = Watch()
        self.counts = self.watch.counts
        """What was exercised, by kind."""
        self.trace: deque[tuple[float, str, object]] = deque(maxlen=200)
        """What happened last: (time, who, what)."""
        self.observe: Callable[[float, str, object], None] | None = None
        """Is told of everything that the trace is."""
        # What callers were told.
        self._asked_at: dict[Any, int] = {}
        self._waiting: dict[tuple[int, int], Any] = {}
        self.done: dict[Any, int] = {}
        """Commands and changes by ticket that were applied, with their index."""
        self.acknowledged: dict[Any, int] = {}
        """Those of them whose callers, waiting where they had asked, were told so."""
        self.dropped: dict[Any, int] = {}
        """Those whose callers were told that another entry was applied at their index."""
        self.read_at: dict[Any, int] = {}
        """Reads by ticket that were answered, with the index that the machine had applied."""
        self._read_floor = 0
        for peer in self.peers:
            self.add(peer, self.peers, min_majority=min_majority)
        if start:
            for peer in self.peers:
                self.start(peer)

    # Servers.

    def add(
        self,
        peer: Peer,
        founders: Sequence[Peer],
        *,
        min_majority: int = 1,
        watch: Watch | None = None,
    ) -> Server:
        """`watch`: of the cluster that the server belongs to, if that is another one."""
        options = replace(self.options, min_majority=min_majority)
        server = Server(peer, tuple(founders), options, self._new_store(peer, watch))
        self.servers[peer] = server
        return server

    def _new_store(self, peer: Peer, watch: Watch | None = None) -> WatchedOwner:
        return WatchedOwner(watch or self.watch, peer, f"{self.rng.getrandbits(64):016x}")

    def replace_store(self, peer: Peer, *, standby: bool) -> None:
        """The store is lost; the next life of this name begins with an empty one (rule 29)."""
        server = self.servers[peer]
        self.crash(peer)
        server.owner = self._new_store(peer)
        server.intact = False
        server.standby = standby

    def start(self, peer: Peer, *, resume: bool = False) -> Raft:
        server = self.servers[peer]
        raft = server.raft = Raft(
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
        self.note(str(peer), "starts, resuming" if resume else "starts")
        if resume and raft.state is Role.LEADER:
            self.counts["leaders resumed"] += 1
        self.settle(server)
        return raft

    def crash(self, peer: Peer, *, lossy: bool = False) -> None:
        """End this life. `lossy`: what was not synced is lost, as in a power failure."""
        server = self.servers[peer]
        if server.raft is None:
            return
        self.note(str(peer), "dies, and what was not synced is lost" if lossy else "dies")
        if lossy and server.store.lose_unsynced():
            self.counts["unsynced writes lost"] += 1
        server.intact = not lossy
        server.raft = None
        server.busy_until = 0.0
        server.doomed = ""
        server.inbox.clear()
        server.syncing.clear()
        server.reads.clear()
        server.waiting.clear()

    @property
    def leaders(self) -> dict[int, Peer]:
        return self.watch.leaders

    @property
    def committed(self) -> dict[int, Entry]:
        return self.watch.committed

    @property
    def elections(self) -> int:
        return self.counts["elections"]

    def note(self, who: str, what: object) -> None:
        self.trace.append((self.now, who, what))
        if self.observe is not None:
            self.observe(self.now, who, what)

    def raft(self, peer: Peer) -> Raft:
        raft = self.servers[peer].raft
        assert raft is not None
        return raft

    def running(self) -> list[Server]:
        return [server for server in self.servers.values() if server.raft is not None]

    def leader(self) -> Raft | None:
        """The leader of the greatest term among those who lead."""
        leading = [
            s.raft
            for s in self.running()
            if s.raft and s.raft.state is Role.LEADER and s.owner.watch is self.watch
        ]
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
            self.counts["messages cut off"] += 1
            return
        faults = self.faults
        chance = self.rng.random
        if faults.loss and chance() < faults.loss:
            self.counts["messages lost"] += 1
            return
        copies = 1
        if faults.doubling and chance() < faults.doubling:
            self.counts["messages doubled"] += 1
            copies = 2
        for _ in range(copies):
            shortest, longest = faults.delay
            if faults.lag and chance() < faults.lag:
                self.counts["messages delayed"] += 1
                shortest, longest = faults.lagging
            at = self.now + shortest + (longest - shortest) * chance()
            if at < self._arrivals.get((sender, to), 0.0):
                self.counts["messages reordered"] += 1
            else:
                self._arrivals[sender, to] = at
            self._push(at, to, message)

    def _push(self, at: float, to: Peer, job: Message | Sync) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at, self._sequence, to, job))

    # Time.

    def step(self, before: float = NEVER) -> bool:
        """Let the next thing happen: a message arrives, or a deadline passes.

        False, and nothing happens, if that is not before `before`.
        """
        due = NEVER
        next_server: Server | None = None
        for server in self.servers.values():
            if server.raft is not None:
                at = server.due
                if at < due:
                    due, next_server = at, server
        if self._queue and self._queue[0][0] <= due:
            if self._queue[0][0] >= before:
                return False
            at, _, to, job = heapq.heappop(self._queue)
            self.now = max(self.now, at)
            self._arrive(to, job)
        elif next_server is not None and due < before:
            self.now = max(self.now, due)
            self._turn(next_server)
        else:
            return False
        self.steps += 1
        return True

    def _arrive(self, to: Peer, job: Message | Sync) -> None:
        server = self.servers.get(to)
        if server is None or server.raft is None:
            return
        if type(job) is Sync:
            # What another life had begun is nobody's.
            if job.raft is not server.raft:
                return
        elif (job.sender, to) in self.cut:  # type: ignore[union-attr]
            self.counts["messages cut off"] += 1
            return
        if server.inbox or self.now < server.busy_until:
            server.inbox.append(job)
            return
        self._do(server, job)
        self.settle(server)

    def _turn(self, server: Server) -> None:
        """A server looks at what waits, and then at the time (rule 14)."""
        raft = server.raft
        assert raft is not None
        if server.inbox:
            inbox, server.inbox = server.inbox, []
            self.counts["batches"] += len(inbox) > 1
            for job in inbox:
                self._do(server, job)
                if server.raft is not raft:
                    return
        if self.now >= raft.deadline:
            self.note(str(server.peer), "looks at the time")
            raft.tick(self.now)
        self.settle(server)

    def _do(self, server: Server, job: Job) -> None:
        raft = server.raft
        assert raft is not None
        if type(job) is Sync:
            self._finish(server, job)
        elif callable(job):
            job()
        else:
            self.note(str(server.peer), job)
            raft.step(job, self.now)  # type: ignore[arg-type]

    def when_free(self, peer: Peer, request: Callable[[], None]) -> None:
        """Put a request to a server: at once, or when it gets to look at its inbox."""
        server = self.servers[peer]
        if server.inbox or self.now < server.busy_until:
            server.inbox.append(request)
        else:
            request()

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
        self.note(str(peer), ("write", data, outcome))
        if isinstance(outcome, int):
            self._await(self.servers[peer], outcome, raft.term, data)
        self.settle(self.servers[peer])
        return outcome

    def read(self, peer: Peer, ticket: Any) -> None:
        self._asked_at[ticket] = max(self.watch.last_committed, self._read_floor)
        self.note(str(peer), ("read", ticket))
        self.raft(peer).read(ticket, self.now)
        self.settle(self.servers[peer])

    def change(
        self, peer: Peer, ticket: Any, other: Peer, *, add: bool, patience: float = 10.0
    ) -> None:
        self.note(str(peer), ("add" if add else "remove", other))
        self.raft(peer).change(ticket, other, add=add, patience=patience, now=self.now)
        self.settle(self.servers[peer])

    def transfer(self, peer: Peer, ticket: Any, to: Peer | None = None) -> None:
        self.note(str(peer), ("transfer", to))
        self.raft(peer).transfer(ticket, to, self.now)
        self.settle(self.servers[peer])

    def campaign(self, peer: Peer) -> None:
        self.note(str(peer), "is told to campaign")
        self.raft(peer).campaign(self.now)
        self.settle(self.servers[peer])

    def leader_gone(self, peer: Peer, leader: Peer) -> None:
        """Tell a server that `leader` has died for good."""
        self.note(str(peer), f"hears that {leader} is gone")
        self.raft(peer).leader_gone(leader, self.now)
        self.settle(self.servers[peer])

    def make_leader(self, peer: Peer) -> Raft:
        """Hand leadership to `peer`, and let things come to rest."""
        leader = self.elect()
        if leader.me != peer:
            self.transfer(leader.me, ("make leader", self.steps), peer)
            self.run(lambda: self.leader() is self.raft(peer))
            self.elect()
        self.wait(0.5)
        return self.raft(peer)

    def settle(self, server: Server) -> None:
        """Carry out what the core wants done, in the order that it states."""
        raft = server.raft
        if raft is None:
            return
        store = server.store
        while True:
            raft.flush(self.now)
            out = raft.take()
            if not out and not store.dirty:
                break
            for to, message in out.early:
                self.send(server.peer, to, message)
            if store.dirty and server.doomed in ("kept", "unsynced"):
                self._meet_doom(server)
                return
            if server.syncing or (store.dirty and server.sync_takes is not None):
                self._begin_sync(server, out)
                continue
            if self.sync(server) and server.doomed == "synced":
                self._meet_doom(server)
                return
            self._deliver(server, out)
        self.check(server)
        if not server.syncing:
            self.apply(server)

    def _meet_doom(self, server: Server) -> None:
        self.counts["crashes between two steps"] += 1
        self.crash(server.peer, lossy=server.doomed != "kept")

    def sync(self, server: Server) -> bool:
        """Sync what was written, if anything was; whether it was."""
        raft = server.raft
        assert raft is not None
        if not server.store.dirty:
            return False
        mark = server.store.mark()
        server.store.sync()
        raft.stored(mark, self.now)
        return True

    def _begin_sync(self, server: Server, out: Output) -> None:
        assert server.raft is not None
        assert server.sync_takes is not None
        self.counts["slow syncs"] += 1
        store = server.store
        sync = Sync(server.raft, store.mark(), store.begin_sync(), out)
        # One after the other.
        shortest, longest = server.sync_takes
        at = self.now + shortest + (longest - shortest) * self.rng.random()
        at = server.synced_at = max(at, server.synced_at)
        server.syncing.append(sync)
        self._push(at, server.peer, sync)

    def _finish(self, server: Server, sync: Sync) -> None:
        assert server.syncing[0] is sync
        server.syncing.popleft()
        server.store.end_sync(sync.upto)
        sync.raft.stored(sync.mark, self.now)
        self._deliver(server, sync.out)

    def _deliver(self, server: Server, out: Output) -> None:
        """What may leave once everything before it is stored."""
        raft = server.raft
        assert raft is not None
        for to, message in out.late:
            self.send(server.peer, to, message)
        for answer in out.answers:
            self.note(str(server.peer), answer)
            self.answered(raft, answer)
        for read in out.confirmed:
            for ticket in read.tickets:
                self._check_read(ticket, read.index)
                server.reads.append((read.index, ticket))
        for severity, text in out.reports:
            self.note(str(server.peer), text)
            self.reports.append((server.peer, severity, text))
            if "steps down" in text:
                self.counts["leaders that heard no quorum"] += 1

    def answered(self, raft: Raft, answer: Answer) -> None:
        if answer.ticket in self.answers or answer.ticket in self.confirmed:
            raise Violation(f"{answer.ticket} was answered twice")
        self.answers[answer.ticket] = answer.outcome
        if isinstance(answer.outcome, Logged):
            outcome = answer.outcome
            self._await(self.servers[raft.me], outcome.index, outcome.term, answer.ticket)

    def _await(self, server: Server, index: int, term: int, ticket: Any) -> None:
        self._waiting[index, term] = ticket
        server.waiting.setdefault(index, []).append((term, ticket))

    def apply(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        commit = raft.commit_index
        if server.applied < commit:
            first = server.applied + 1
            committed = server.owner.watch.committed
            for index, entry in enumerate(server.store.slice(first, commit - first + 1), first):
                known = committed[index]
                if known is not entry and known != entry:
                    raise Violation(
                        f"state machine safety: {server.peer} applies {entry} at {index},"
                        f" where {known} was applied"
                    )
                server.applied = index
                ticket = self._waiting.pop((index, entry.term), None)
                if ticket is not None:
                    self.done[ticket] = index
                for term, waiter in server.waiting.pop(index, ()):
                    self._reply(waiter, index, applied=term == entry.term)
        if server.reads:
            ready = [ticket for index, ticket in server.reads if index <= server.applied]
            server.reads = [read for read in server.reads if read[0] > server.applied]
            for ticket in ready:
                self._read_answered(ticket, server.applied)

    def _reply(self, ticket: Any, index: int, *, applied: bool) -> None:
        if ticket in self.acknowledged or ticket in self.dropped:
            raise Violation(f"{ticket} was answered twice")
        if applied:
            self.acknowledged[ticket] = index
        else:
            self.dropped[ticket] = index
            if isinstance(ticket, bytes):
                self.watch.dropped[ticket] = None

    # Invariants.

    def check(self, server: Server) -> None:
        """What must hold after every step, for the server that was part of it."""
        raft = server.raft
        assert raft is not None
        if server.applied > raft.commit_index:
            raise Violation(f"{server.peer} applied {server.applied}, more than is committed")
        if raft.state is Role.LEADER and (
            server.owner.watch.leaders.get(raft.term) != raft.me or not server.store.leads
        ):
            raise Violation(f"{raft.me} leads term {raft.term} unnoticed")

    def _check_read(self, ticket: Any, index: int) -> None:
        if ticket in self.confirmed or ticket in self.answers:
            raise Violation(f"read {ticket} was answered twice")
        if index < self._asked_at[ticket]:
            raise Violation(
                f"read {ticket} at {index}, though {self._asked_at[ticket]} was acknowledged before"
            )
        self.confirmed[ticket] = index

    def _read_answered(self, ticket: Any, index: int) -> None:
        if index < self._asked_at[ticket]:
            raise Violation(f"read {ticket} answers {index}, older than {self._asked_at[ticket]}")
        self._read_floor = max(self._read_floor, index)
        self.read_at[ticket] = index


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
    "Job",
    "Server",
    "Violation",
    "commands",
    "decode_config",
    "voters",
]
