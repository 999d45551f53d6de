"""A cluster of real cores over real stores, in one thread and in virtual time.

Knows how to drive cores as a server does (see `exraft.raft.outcome.Output`), how messages and time
reach them, and what callers may rely on. Must not know what befalls a cluster (`trouble`), nor
what a user's machine makes of an entry (`world`); `invariants` judges what holds in every log.
"""

from __future__ import annotations

import heapq
import io
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from exraft.errors import DiskFull, OutcomeUnknown
from exraft.errors import StoreFailed as DiskFailed
from exraft.machine import Writer
from exraft.names import Peer, Role
from exraft.raft import (
    Answer,
    AppendReply,
    Entry,
    Install,
    InstallReply,
    Logged,
    Message,
    Options,
    Output,
    Raft,
    Refusal,
    TimeoutNow,
    VoteReply,
)
from exraft.raft.snapshot import Snapshot
from exraft.replica.caller import Caller
from exraft.testing.disk import PowerLost
from exraft.testing.durable import DiskOwner
from exraft.testing.faults import Faults
from exraft.testing.invariants import Violation, Watch
from exraft.testing.network import Network
from exraft.testing.server import NEVER, Job, Server, Sync
from exraft.testing.store import Owner, StoreFailed, WatchedOwner

PIECE = 32
"""Bytes of a snapshot that are read or written at once."""
QUICK = Options(min_election_timeout=1.0, max_election_timeout=2.0, heartbeat_timeout=0.1)


class Waiter:
    """Who waits for an entry of a cluster that runs no machine."""

    __slots__ = ("_cluster", "index", "ticket")

    may_apply = True

    def __init__(self, cluster: Cluster, ticket: Hashable, index: int) -> None:
        self._cluster = cluster
        self.ticket = ticket
        self.index = index

    @property
    def reply(self) -> Waiter:
        return self

    def set(self, value: Any = None, /) -> None:
        self._cluster.acknowledge(self)

    def fail(self, error: BaseException, /) -> None:
        if isinstance(error, OutcomeUnknown):
            self._cluster.pass_by(self)
        else:
            self._cluster.drop(self)


class Cluster:
    """Servers `:a`, `:b`, … and everything that happens to them.

    Requests are answered in `answers` (what the core says, at once or later), `done`,
    `acknowledged`, `dropped`, `passed` and `read_at`, each by the ticket that was given with the
    request; a command is its own ticket.
    """

    def __init__(
        self,
        count: int = 3,
        *,
        seed: int = 0,
        options: Options = QUICK,
        faults: Faults | None = None,
        start: bool = True,
        min_majority: int = 1,
        on_disk: bool = False,
    ) -> None:
        self.seed = seed
        self.on_disk = on_disk
        """Whether the stores are those on disk, and the disks simulated."""
        self.rng = random.Random(seed)
        self.options = options
        self.now = 0.0
        self.steps = 0
        self.peers = tuple(Peer(f":{chr(ord('a') + n)}") for n in range(count))
        self.servers: dict[Peer, Server] = {}
        self.watch = Watch()
        self.counts = self.watch.counts
        """What was exercised, by kind."""
        self.snapshot_every: int | None = None
        """How many entries a server applies until it takes a snapshot by itself."""
        self.network = Network(seed, faults or Faults(), self.counts)
        self.filter: Callable[[Peer, Peer, Message], bool] = lambda sender, to, message: True
        self.answers: dict[Any, Any] = {}
        self.confirmed: dict[Any, int] = {}
        self.reports: list[tuple[Peer, str, str]] = []
        self.observe: Callable[[float, str, object], None] | None = None
        """Is told of everything that happens: when, to whom, what."""
        self._queue: list[tuple[float, int, Peer | None, Job]] = []
        self._sequence = 0
        # What callers were told.
        self._asked_at: dict[Any, int] = {}
        self._tickets: dict[tuple[int, int], Any] = {}
        """Commands and changes by index and term."""
        self.done: dict[Any, int] = {}
        """Commands and changes by ticket that were applied, with their index."""
        self.acknowledged: dict[Any, int] = {}
        """Those of them whose callers, waiting where they had asked, were told so."""
        self.dropped: dict[Any, int] = {}
        """Those whose callers were told that they are never applied."""
        self.passed: dict[Any, int] = {}
        """Those whose callers were told that a snapshot had jumped past them."""
        self.read_at: dict[Any, int] = {}
        """Reads by ticket that were answered, with the index that the machine had applied."""
        self.answered_floor = 0
        """The last index that any caller knows of by an answer."""
        self._written: dict[bytes, tuple[int, bytes]] = {}
        """What stands for a state in a snapshot: of which index it is, and the state itself."""
        self._taking = random.Random(f"{seed} snapshots").random
        self._damage = random.Random(f"{seed} damage").random
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
        owner = self._new_store(peer, tuple(founders), watch)
        server = self.servers[peer] = Server(peer, tuple(founders), options, owner)
        return server

    def _new_store(
        self, peer: Peer, founders: tuple[Peer, ...], watch: Watch | None = None
    ) -> Owner:
        watch = watch or self.watch
        store_id = f"{self.rng.getrandbits(64):016x}"
        owner: Owner = (
            DiskOwner(watch, peer, store_id, self.seed)
            if self.on_disk
            else WatchedOwner(watch, peer, store_id)
        )
        owner.founders = founders
        return owner

    def replace_store(self, peer: Peer, *, standby: bool) -> None:
        """The store is lost; the next life of this name begins with an empty one (rule 29)."""
        server = self.servers[peer]
        self.crash(peer)
        server.owner = self._new_store(peer, server.founders)
        server.intact = False
        server.standby = standby

    def start(self, peer: Peer, *, resume: bool = False) -> Raft:
        server = self.servers[peer]
        store = server.owner.lend()
        server.applied = 0
        server.replayed = store.commit_index
        self.note(str(peer), "starts, resuming" if resume else "starts")
        self.on_start(server)
        if store.dirty:
            # As a server does before it promises anything by what an earlier life wrote.
            store.sync()
        raft = server.raft = Raft(
            peer,
            store,
            server.options,
            random.Random(f"{self.seed} {peer} {store.store_id} {store.incarnation}"),
            server.clock(self.now),
            server.founders,
            resume=resume,
            standby=server.standby,
        )
        if resume and raft.state is Role.LEADER:
            self.counts["leaders resumed"] += 1
        if store.snapshot is not None:
            self._restore(server)
        self.settle(server)
        return raft

    def crash(
        self, peer: Peer, *, lossy: bool = False, keep: int = 0, killed: bool = False
    ) -> None:
        """End this life.

        `lossy`: what was not synced is lost, but for the first `keep` writes. `killed`: with its
        process.
        """
        server = self.servers[peer]
        if server.raft is None:
            return
        self.note(str(peer), "dies, and what was not synced is lost" if lossy else "dies")
        if lossy and server.store.lose_unsynced(keep):
            self.counts["unsynced writes lost"] += 1
        elif killed and not lossy and server.store.end_process():
            self.counts["writes lost with their process"] += 1
        if server.taking:
            self.counts["snapshots lost with their server"] += 1
        server.intact = not lossy and not killed
        server.end_life()

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
                    self.network.cut((one, other), (other, one))

    def heal(self) -> None:
        self.network.heal()

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        kind = type(message)
        if kind is AppendReply or kind is VoteReply or kind is TimeoutNow or kind is InstallReply:
            server = self.servers[sender]
            assert server.raft is not None
            # A vote that waited for its sync was given when this may have been otherwise.
            standby = server.raft.standby and server.sync_takes is None
            server.owner.watch.promises(server.store, to, message, standby=standby)
        if (sender, to) in self.network.cuts or not self.filter(sender, to, message):
            self.counts["messages cut off"] += 1
            return

        damage = self.network.faults.damage
        if kind is Install:
            self.counts["pieces of snapshots"] += bool(message.data)  # type: ignore[union-attr]
            if damage and self._damage() < damage:
                message = self._damaged(message)  # type: ignore[arg-type]

        def put(at: float) -> None:
            self._push(at, to, message)

        self.network.carry(sender, to, self.now, put)

    def _damaged(self, piece: Install) -> Install:
        """One bit of the piece is another one on its way."""
        if not piece.data:
            return piece
        self.counts["pieces of snapshots damaged"] += 1
        data = bytearray(piece.data)
        data[int(len(data) * self._damage())] ^= 1 << int(8 * self._damage())
        return msgspec.structs.replace(piece, data=bytes(data))

    def _push(self, at: float, to: Peer | None, job: Job) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (at, self._sequence, to, job))

    # Time.

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        """Call `happen` when that time has passed."""
        self._push(self.now + seconds, None, happen)

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
        try:
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
        except StoreFailed as failed:
            self._store_failed(self.servers[failed.peer])
        except (PowerLost, DiskFailed):
            for server in self.servers.values():
                if server.owner.broken:
                    self._store_failed(server)
        self.steps += 1
        return True

    def _store_failed(self, server: Server) -> None:
        """Its server dies of it, and of what was not synced nobody knows how much is there."""
        life = server.owner.life
        power = isinstance(server.owner, DiskOwner) and server.owner.disk.dark
        self.counts["power failures at any operation" if power else "disks that failed"] += 1
        keep = self.rng.randint(0, life.unsynced)
        if server.raft is None:
            # It had not even started.
            server.owner.lose_unsynced(keep)
        else:
            self.crash(server.peer, lossy=True, keep=keep)

    def _arrive(self, to: Peer | None, job: Job) -> None:
        if to is None:
            job()  # type: ignore[operator]
            return
        server = self.servers.get(to)
        if server is None or server.raft is None:
            return
        if type(job) is Sync:
            # What another life had begun is nobody's.
            if job.raft is not server.raft:
                return
        elif (job.sender, to) in self.network.cuts:  # type: ignore[union-attr]
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
            server.batching = True
            try:
                for job in inbox:
                    self._do(server, job)
                    if server.raft is not raft:
                        return
            finally:
                server.batching = False
        # A clock that runs faster or slower shows the deadline only up to rounding.
        if server.full is not None:
            self._look_for_room(server)
        elif self.now >= raft.deadline / server.pace:
            self.note(str(server.peer), "looks at the time")
            raft.tick(max(server.clock(self.now), raft.deadline))
        self.settle(server)

    def _do(self, server: Server, job: Job) -> None:
        raft = server.raft
        assert raft is not None
        if type(job) is Sync:
            self.note(str(server.peer), "has synced")
            self._finish(server, job)
        elif callable(job):
            job()
        elif server.full is None:
            self.note(str(server.peer), job)
            try:
                raft.step(job, server.clock(self.now))  # type: ignore[arg-type]
            except DiskFull:
                # A piece of a snapshot is as good as lost.
                self.counts["pieces of snapshots without room"] += 1

    # A full disk.

    def _has_no_room(self, server: Server) -> None:
        """Nothing was stored, and nothing of it was promised: it is deaf until there is room."""
        assert server.raft is not None
        self.counts["disks that were full"] += 1
        self.note(str(server.peer), "has no room, and leads and follows no more")
        server.full = self.now + self.options.heartbeat_timeout / server.pace
        server.raft.pause(server.clock(self.now))

    def _look_for_room(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        if server.full is None or self.now < server.full:
            return
        store = server.store
        mark = store.mark()
        try:
            store.sync()
            store.note_commit()
        except DiskFull:
            server.full = self.now + self.options.heartbeat_timeout / server.pace
            return
        self.note(str(server.peer), "has room again, and goes on")
        server.full = None
        raft.stored(mark, server.clock(self.now))

    def when_free(self, peer: Peer, request: Callable[[], None]) -> None:
        """Put a request to a server: next, or when it gets to look at its inbox."""

        def put() -> None:
            server = self.servers[peer]
            if server.inbox or self.now < server.busy_until:
                server.inbox.append(request)
            else:
                request()

        self.later(0.0, put)

    def live_until(self, end: float) -> None:
        """Let everything happen that happens before the time `end`."""
        while self.step(before=end):
            pass
        self.now = max(self.now, end)

    def run(self, until: Callable[[], Any], *, within: float = 60.0) -> None:
        """Let things happen until `until` holds; a failure after `within` virtual seconds."""
        end = self.now + within
        while not until():
            if self.now > end:
                raise AssertionError(f"it did not come about within {within} virtual seconds")
            if not self.step():
                raise AssertionError("it did not come about, and nothing happens any more")

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end and self.step():
            pass
        self.now = max(self.now, end)

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

    def write(self, peer: Peer, data: bytes, ticket: Any = None) -> int | Refusal:
        """Propose a command; it is its own ticket unless another is given."""
        server = self.servers[peer]
        raft = self.raft(peer)
        outcome = raft.propose(data, server.clock(self.now))
        if isinstance(outcome, int):
            self.wait_for(server, outcome, raft.term, data if ticket is None else ticket)
        self.settle(server)
        return outcome

    def read(self, peer: Peer, ticket: Any) -> None:
        self._asked_at[ticket] = max(self.watch.last_committed, self.answered_floor)
        self._request(peer, lambda raft, now: raft.read(ticket, now))

    def change(
        self, peer: Peer, ticket: Any, other: Peer, *, add: bool, patience: float = 10.0
    ) -> None:
        self.note(str(peer), ("add" if add else "remove", other))
        self._request(
            peer,
            lambda raft, now: raft.change(ticket, other, add=add, patience=patience, now=now),
        )

    def transfer(self, peer: Peer, ticket: Any, to: Peer | None = None) -> None:
        self.note(str(peer), ("transfer", to))
        self._request(peer, lambda raft, now: raft.transfer(ticket, to, now))

    def campaign(self, peer: Peer) -> None:
        self.note(str(peer), "is told to campaign")
        if self.servers[peer].full is None:
            self._request(peer, lambda raft, now: raft.campaign(now))

    def leader_gone(self, peer: Peer, leader: Peer) -> None:
        """Tell a server that `leader` has died for good."""
        self.note(str(peer), f"hears that {leader} is gone")
        if self.servers[peer].full is None:
            self._request(peer, lambda raft, now: raft.leader_gone(leader, now))

    def leader_lost(self, peer: Peer, leader: Peer) -> None:
        """Tell a server that its connection to `leader` was closed."""
        self.note(str(peer), f"loses its connection to {leader}")
        if self.servers[peer].full is None:
            self._request(peer, lambda raft, now: raft.leader_lost(leader, now))

    def _request(self, peer: Peer, ask: Callable[[Raft, float], None]) -> None:
        server = self.servers[peer]
        ask(self.raft(peer), server.clock(self.now))
        self.settle(server)

    def make_leader(self, peer: Peer) -> Raft:
        """Hand leadership to `peer`, and let things come to rest."""
        leader = self.elect()
        if leader.me != peer:
            self.transfer(leader.me, ("make leader", self.steps), peer)
            self.run(lambda: self.leader() is self.raft(peer))
            self.elect()
        self.wait(0.5)
        return self.raft(peer)

    # What the core wants done.

    def settle(self, server: Server) -> None:
        """Carry out what the core wants done, in the order that it states."""
        raft = server.raft
        if raft is None or server.batching:
            # Once for all that a batch brings.
            return
        store = server.store
        while True:
            raft.flush(server.clock(self.now))
            out = raft.take()
            if not out and not (store.dirty and server.full is None):
                break
            for to, message in out.early:
                self.send(server.peer, to, message)
            if store.dirty and (
                server.doomed in ("kept", "unsynced")
                or (server.doomed == "installing" and store.installing)
            ):
                self._meet_doom(server)
                return
            slow = server.sync_takes is not None and not server.owner.at_once
            if server.syncing or (store.dirty and slow):
                self._begin_sync(server, out)
                continue
            if self._sync(server) and server.doomed == "synced":
                self._meet_doom(server)
                return
            if server.full is not None:
                # It promises what is not stored (rule 2).
                out.late.clear()
            self._deliver(server, out)
        self._check(server)
        if not server.syncing:
            self.apply(server)

    def _meet_doom(self, server: Server) -> None:
        self.counts["crashes between two steps"] += 1
        lossy = server.doomed != "kept"
        # The disk may have taken some of it all the same, in order.
        keep = self.rng.randint(0, server.store.unsynced) if lossy else 0
        if server.doomed == "installing":
            # Not the install, which is the last of it.
            keep = min(keep, server.store.unsynced - 1)
        self.crash(server.peer, lossy=lossy, keep=keep)

    def _sync(self, server: Server) -> bool:
        """Sync what was written, if anything was; whether it was."""
        raft = server.raft
        assert raft is not None
        if not server.store.dirty or server.full is not None:
            return False
        mark = server.store.mark()
        try:
            server.store.sync()
        except DiskFull:
            self._has_no_room(server)
            return False
        raft.stored(mark, server.clock(self.now))
        if server.sync_takes is not None:
            self.counts["slow syncs"] += 1
            shortest, longest = server.sync_takes
            busy = self.now + shortest + (longest - shortest) * self.rng.random()
            server.busy_until = max(server.busy_until, busy)
        return True

    def _begin_sync(self, server: Server, out: Output) -> None:
        assert server.raft is not None
        store = server.store
        at = self.now
        if store.dirty:
            self.counts["slow syncs"] += 1
            shortest, longest = server.sync_takes or (0.0, 0.0)
            at += shortest + (longest - shortest) * self.rng.random()
        # One after the other; where nothing was written, what leaves waits for those before only.
        at = server.synced_at = max(at, server.synced_at)
        sync = Sync(server.raft, store.mark(), store.begin_sync(), out)
        server.syncing.append(sync)
        self._push(at, server.peer, sync)

    def _finish(self, server: Server, sync: Sync) -> None:
        assert server.syncing[0] is sync
        server.syncing.popleft()
        server.store.end_sync(sync.begun)
        sync.raft.stored(sync.mark, server.clock(self.now))
        self._deliver(server, sync.out)

    def _deliver(self, server: Server, out: Output) -> None:
        """What may leave once everything before it is stored."""
        for to, message in out.late:
            self.send(server.peer, to, message)
        for answer in out.answers:
            self.on_answer(server, answer)
        for read in out.confirmed:
            for ticket in read.tickets:
                self._check_read(ticket, read.index)
                server.reads.append((read.index, ticket))
        for severity, text in out.reports:
            self.note(str(server.peer), text)
            self.reports.append((server.peer, severity, text))
            if "steps down" in text:
                self.counts["leaders that heard no quorum"] += 1
        for role in out.roles:
            self.on_role(server, role)

    def _check(self, server: Server) -> None:
        """Who leads is known to lead."""
        raft = server.raft
        assert raft is not None
        if raft.state is Role.LEADER and (
            server.owner.watch.leaders.get(raft.term) != raft.me or not server.store.leads
        ):
            raise Violation("one leader a term", f"{raft.me} leads term {raft.term} unnoticed")
        server.owner.watch.believes(server.store, raft)

    def apply(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        if server.full is not None:
            return
        if server.applied < server.store.base_index:
            self._restore(server)
        commit = raft.commit_index
        if server.applied < commit:
            try:
                server.store.note_commit()
            except DiskFull:
                self._has_no_room(server)
                self.settle(server)
                return
            first = server.applied + 1
            watch = server.owner.watch
            for index, entry in enumerate(server.store.slice(first, commit - first + 1), first):
                watch.applies(server.peer, index, entry, commit)
                caller = server.waiting.take(entry.term, index)
                self.on_apply(server, index, entry, caller)
                server.applied = index
                ticket = self._tickets.pop((index, entry.term), None)
                if ticket is not None:
                    self.done[ticket] = index
        if server.reads:
            ready = [ticket for index, ticket in server.reads if index <= server.applied]
            server.reads = [read for read in server.reads if read[0] > server.applied]
            for ticket in ready:
                self._read_answered(server, ticket)
        every = self.snapshot_every
        if every is not None and server.applied >= _newest(server) + every:
            self.take_snapshot(server.peer)

    # Snapshots.

    def take_snapshot(self, peer: Peer) -> None:
        """Capture what is applied now; it is written, and the log cut, a while later."""
        server = self.servers[peer]
        index = server.applied
        if server.taking or index <= _newest(server):
            return
        writer = self.on_capture(server)
        if writer is None:
            return
        life = self.raft(peer)
        try:
            sink = server.store.begin_snapshot(life.snapshot_at(index))
        except DiskFull:
            self.counts["snapshots without room"] += 1
            return
        server.taking = True
        self.note(str(peer), f"begins a snapshot of {index}")

        def without_room() -> None:
            self.counts["snapshots without room"] += 1
            server.taking = False
            sink.discard()

        def write() -> None:
            if server.raft is not life:
                return
            file = io.BytesIO()
            writer(file)
            content = self._stands_for(index, file.getvalue())
            try:
                for place in range(0, len(content), PIECE):
                    sink.write(content[place : place + PIECE])
                sink.finish()
            except DiskFull:
                without_room()
            else:
                self.when_free(peer, adopt)

        def adopt() -> None:
            if server.raft is not life:
                return
            store = server.store
            try:
                store.adopt(sink)
            except DiskFull:
                without_room()
                return
            server.taking = False
            life.compact(server.clock(self.now))
            self.note(str(peer), f"has a snapshot of {index}, and its log from {store.base_index}")
            self.settle(server)

        self.later(0.2 * self._taking(), write)

    def _stands_for(self, index: int, state: bytes) -> bytes:
        """What stands in a snapshot for the state, and for no other.

        Not the state itself: how long its pickle is depends on the version of Python.
        """
        content = b"@%d" % len(self._written)
        content = content.ljust(int(8 + 100 * self._taking()))
        self._written[content] = index, state
        return content

    def _restore(self, server: Server) -> None:
        """Go on from the snapshot: the entries that it stands for may be here no more."""
        reader = server.store.open_snapshot()
        snapshot = reader.snapshot
        content = b""
        while piece := reader.read(len(content), PIECE):
            content += piece
        reader.close()
        index, state = self._written.get(content, (0, b""))
        if index != snapshot.index or len(content) != snapshot.size:
            raise Violation(
                "replicas agree",
                f"{server.peer} restores {len(content)} bytes from its snapshot of"
                f" {snapshot.index} that nobody has written for it",
            )
        self.counts["snapshots restored"] += 1
        self.note(str(server.peer), f"restores its snapshot of {index}")
        server.waiting.pass_by(index)
        self.on_restore(server, snapshot, state)
        server.applied = index
        server.replayed = max(server.replayed, index)

    # What callers are told.

    def wait_for(self, server: Server, index: int, term: int, ticket: Any) -> None:
        """Remember who waits for the entry at `index`, of term `term`."""
        self._tickets[index, term] = ticket
        server.waiting.add(term, index, self.waiter(ticket, index))

    def waiter(self, ticket: Any, index: int) -> Caller:
        """Who is told when the entry is applied, or never will be."""
        return Waiter(self, ticket, index)

    def acknowledge(self, waiter: Waiter) -> None:
        self._told(waiter.ticket)
        self.acknowledged[waiter.ticket] = waiter.index

    def drop(self, waiter: Waiter) -> None:
        self._told(waiter.ticket)
        self.dropped[waiter.ticket] = waiter.index
        if isinstance(waiter.ticket, bytes):
            self.watch.drops(waiter.ticket)

    def pass_by(self, waiter: Waiter) -> None:
        self._told(waiter.ticket)
        self.passed[waiter.ticket] = waiter.index

    def _told(self, ticket: Any) -> None:
        if ticket in self.acknowledged or ticket in self.dropped or ticket in self.passed:
            raise Violation("one answer a call", f"{ticket} was answered twice")

    def _check_read(self, ticket: Any, index: int) -> None:
        if ticket in self.confirmed or ticket in self.answers:
            raise Violation("one answer a call", f"{ticket} was answered twice")
        if index < self._asked_at[ticket]:
            raise Violation(
                "answers are not stale",
                f"{ticket} reads at {index}, and {self._asked_at[ticket]} was known before",
            )
        self.confirmed[ticket] = index

    def _read_answered(self, server: Server, ticket: Any) -> None:
        index = server.applied
        if index < self._asked_at[ticket]:
            raise Violation(
                "answers are not stale",
                f"{ticket} is answered from {index}, and {self._asked_at[ticket]} was known before",
            )
        self.answered_floor = max(self.answered_floor, index)
        self.read_at[ticket] = index
        self.on_read(server, ticket)

    # What a cluster with a machine does besides.

    def on_start(self, server: Server) -> None:
        """A life begins."""

    def on_role(self, server: Server, role: Role) -> None:
        """A server has taken on a role."""

    def on_apply(self, server: Server, index: int, entry: Entry, caller: Caller | None) -> None:
        """An entry is applied; `caller` waits for it here."""
        if caller is not None:
            caller.reply.set(None)

    def on_capture(self, server: Server) -> Writer | None:
        """Capture the machine's state; what is returned writes it later. None: it can't be."""
        return lambda file: None

    def on_restore(self, server: Server, snapshot: Snapshot, state: bytes) -> None:
        """The machine goes on from what a snapshot holds."""

    def on_read(self, server: Server, ticket: Any) -> None:
        """A read may be answered from what the server has applied."""

    def on_answer(self, server: Server, answer: Answer) -> None:
        """The core has answered a request."""
        self.note(str(server.peer), answer)
        if answer.ticket in self.answers or answer.ticket in self.confirmed:
            raise Violation("one answer a call", f"{answer.ticket} was answered twice")
        self.answers[answer.ticket] = answer.outcome
        outcome = answer.outcome
        if isinstance(outcome, Logged):
            self.wait_for(server, outcome.index, outcome.term, answer.ticket)


def _newest(server: Server) -> int:
    """The index of the server's snapshot."""
    snapshot = server.store.snapshot
    return 0 if snapshot is None else snapshot.index


__all__ = ["NEVER", "QUICK", "Cluster", "Server"]
