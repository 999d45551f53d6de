"""What can befall a simulated cluster, and what of that is fair.

Knows how each kind of trouble is brought about, and what operators do. Must not know what is right
in a log or an answer; nor does it bring what no rule can cover: the stores of a majority are never
lost, nor more than one at a time that does not know it (rule 29).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from exraft.errors import DiskFull
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
    PreVote,
    PreVoteReply,
    Raft,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.snapshot import Snapshot
from exraft.testing.cluster import Cluster
from exraft.testing.durable import DiskOwner
from exraft.testing.invariants import Violation, Watch
from exraft.testing.plan import Happening
from exraft.testing.server import Server
from exraft.testing.store import known_configs

FOREIGN = "f" * 16
SPARES = 3
"""Servers that wait to be added."""


class Trouble:
    """Brings about what happens to `cluster`.

    Args:
        min_majority: of every server.
        hasty: whether changes are asked for while others are under way.
    """

    def __init__(self, cluster: Cluster, *, min_majority: int, hasty: bool) -> None:
        self.cluster = cluster
        self.counts = cluster.counts
        self.min_majority = min_majority
        self.tickets: dict[str, tuple[Peer, Raft]] = {}
        """Changes and transfers that were asked for, and of which life."""
        self.change = ""
        """The last change that was asked for."""
        self.calm = False
        """Whether what was to come later, as the end of a trouble, comes no more."""
        self._hasty = hasty
        self._rng = random.Random(0)
        self._connections = random.Random(0)
        self._number = 0
        self._founded = len(cluster.peers)
        self._spares = 0
        self._replaced: dict[Peer, None] = {}
        self._fresh: Peer | None = None
        """A server that began with an empty store unbeknown to itself."""
        self._kinds: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "crash midway": self._crash_midway,
            "cut off a group": self._cut_group,
            "depose a leader unawares": self._depose,
            "cut one direction": self._cut_direction,
            "cut one link": self._cut_link,
            "stall": self._stall,
            "fail a disk": self._fail_disk,
            "lose a store": self._lose_store,
            "change members": self._change_members,
            "transfer": self._transfer,
            "trigger an election": self._trigger_election,
            "send a foreign message": self._send_foreign,
            "add a foreign server": self._add_foreign,
            "take a snapshot": self._take_snapshot,
        }

    def happen(self, happening: Happening) -> None:
        """Bring it about; every choice comes from the happening's own seed."""
        self._rng = random.Random(happening.draw)
        # Of its own, so that what else happens does not depend on it.
        self._connections = random.Random(f"{happening.draw} connections")
        self._kinds[happening.kind]()
        if self.cluster.network.faults.partitions and self._connections.random() < 0.1:
            self._close_connections()

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        self.cluster.later(seconds, lambda: None if self.calm else then())

    # Who is there.

    def ours(self) -> list[Server]:
        cluster = self.cluster
        return [s for s in cluster.servers.values() if s.owner.watch is cluster.watch]

    def running(self) -> list[Peer]:
        return [server.peer for server in self.ours() if server.raft is not None]

    def _someone(self) -> Peer | None:
        running = self.running()
        return self._rng.choice(running) if running else None

    def _leader(self, surely: float = 0.85) -> Peer | None:
        """The leader, most of the time; anybody else otherwise."""
        leader = self.cluster.leader()
        if leader is not None and self._rng.random() < surely:
            return leader.me
        return self._someone()

    def start(self, peer: Peer, *, resume: bool = False) -> None:
        server = self.cluster.servers[peer]
        if server.raft is None:
            try:
                self.cluster.start(peer, resume=resume and server.intact)
            except DiskFull:
                server.end_life()
                self._later(0.1, partial(self.start, peer))

    def _ticket(self, kind: str, peer: Peer) -> str:
        self._number += 1
        ticket = f"{kind} {self._number}"
        self.tickets[ticket] = (peer, self.cluster.raft(peer))
        return ticket

    def is_open(self, ticket: str) -> bool:
        """Whether a living server still owes the answer."""
        cluster = self.cluster
        if ticket not in self.tickets:
            return False
        peer, life = self.tickets[ticket]
        return cluster.servers[peer].raft is life and ticket not in cluster.answers

    # What operators do.

    def _ask(self, peer: Peer, ticket: str, ask: Callable[[Peer, str], None]) -> None:
        """Ask a server for something as soon as it looks, if it still is in the same life."""
        life = self.tickets[ticket][1]

        def put() -> None:
            if self.cluster.servers[peer].raft is life:
                ask(peer, ticket)

        self.cluster.when_free(peer, put)

    def _trigger_election(self) -> None:
        running = self.running()
        for peer in self._rng.sample(running, min(len(running), self._rng.choice((1, 1, 2)))):
            self.counts["elections triggered"] += 1
            self._tell_to_campaign(peer)

    def _if_running(self, peer: Peer, then: Callable[[Peer], None]) -> None:
        if self.cluster.servers[peer].raft is not None:
            then(peer)

    def _take_snapshot(self) -> None:
        peer = self._leader(0.3)
        if peer is not None:
            take = partial(self._if_running, peer, self.cluster.take_snapshot)
            self.cluster.when_free(peer, take)

    def _transfer(self) -> None:
        peer = self._leader()
        if peer is None:
            return
        self.counts["transfers"] += 1
        to = self._rng.choice([None, *self.cluster.raft(peer).config.voters])
        ticket = self._ticket("transfer", peer)
        self._ask(peer, ticket, partial(self.cluster.transfer, to=to))

    def _change_members(self) -> None:
        if self.is_open(self.change) and not self._hasty:
            return
        peer = self._leader(0.95)
        if peer is None:
            return
        rng = self._rng
        config = self.cluster.raft(peer).config
        strangers = [each for each in config.voters if not self.genuine(config, each)]
        if strangers and rng.random() < 0.7:
            self.counts["readmissions"] += 1
            self.ask_change(peer, rng.choice(strangers), add=True)
        elif len(config.voters) > 2 and rng.random() < 0.5:
            other = peer if rng.random() < 0.3 else rng.choice(config.voters)
            if self._may_remove(config, other):
                self.counts["removals of the leader" if other == peer else "removals"] += 1
                self.ask_change(peer, other, add=False)
        elif len(config.voters) <= self._founded:
            outside = [each for each in self.running() if each not in config.voters]
            if self._spares < SPARES and (not outside or rng.random() < 0.3):
                outside = [self._spare()]
            if outside:
                self.counts["additions"] += 1
                self.ask_change(peer, rng.choice(outside), add=True)

    def ask_change(self, peer: Peer, other: Peer, *, add: bool) -> None:
        self.change = ticket = self._ticket("change", peer)
        patience = self._rng.choice((0.2, 2.0))
        self._ask(
            peer, ticket, partial(self.cluster.change, other=other, add=add, patience=patience)
        )

    def _spare(self) -> Peer:
        """A new server that waits to be added."""
        peer = Peer(f":{chr(ord('a') + self._founded + self._spares)}")
        self._spares += 1
        self.cluster.add(peer, (peer,), min_majority=2)
        self.cluster.start(peer)
        return peer

    # Servers that die, hang, or lose what they had.

    def _crash(self) -> None:
        peer = self._leader(0.4)
        if peer is None:
            return
        cluster = self.cluster
        rng = self._rng
        if rng.random() < 0.5:
            self.counts["crashes, restarted by the supervisor"] += 1
            cluster.crash(peer)
            self._later(rng.random() * 0.05, partial(self.start, peer, resume=True))
            return
        self.counts["crashes, started as a new process"] += 1
        led = cluster.raft(peer).state is Role.LEADER
        unsynced = cluster.servers[peer].store.unsynced
        lossy = rng.random() < 0.7
        cluster.crash(peer, lossy=lossy, keep=rng.randint(0, unsynced), killed=True)
        self._later(rng.random() * 1.5, partial(self.start, peer))
        if led:
            for other in self.running():
                self._tell_lost(other, peer, 0.8)
        if led and rng.random() < 0.7:
            self._tell_gone(peer)

    def _tell_lost(self, other: Peer, peer: Peer, chance: float) -> None:
        """A server may notice at once, or a while later, that a connection was closed (rule 28)."""
        rng = self._connections
        if rng.random() < chance:
            self.counts["connections lost"] += 1
            lose = partial(self.cluster.leader_lost, leader=peer)
            put = partial(self.cluster.when_free, other, partial(self._if_running, other, lose))
            self._later(rng.choice((0.0, 0.01, 0.2)) * rng.random(), put)

    def _close_connections(self) -> None:
        """Some of those to the leader, for nothing: it goes on, and is heard again."""
        leader = self.cluster.leader()
        if leader is not None:
            for other in self.running():
                self._tell_lost(other, leader.me, 0.5)

    def _tell_gone(self, peer: Peer) -> None:
        """Who watches its supervisor hears that a leader died for good (rule 28)."""
        self.counts["leaders gone"] += 1
        for other in self.running():
            self.cluster.when_free(other, partial(self._hear_gone, other, peer))

    def _hear_gone(self, other: Peer, peer: Peer) -> None:
        servers = self.cluster.servers
        if servers[other].raft is not None and servers[peer].raft is None:
            self.cluster.leader_gone(other, peer)

    def _crash_midway(self) -> None:
        """Let a server die in the middle of what it does next."""
        peer = self._leader(0.6)
        if peer is None:
            return
        server = self.cluster.servers[peer]
        doom = self._rng.choice(("kept", "unsynced", "synced"))
        if self._rng.random() < 0.5:
            server = self._rng.choice(self._behind())
            doom = "installing"
        owner = server.owner
        if isinstance(owner, DiskOwner) and doom != "installing" and self._rng.random() < 0.7:
            doom = ""
            owner.lose_power_soon(self._rng.randint(1, 12))
        server.doomed = doom
        # A supervisor that has kept the store lets the server resume.
        kept = server.doomed == "kept"

        def bury() -> None:
            if server.raft is not None and server.doomed == "installing":
                # It may be long until it is sent a snapshot.
                self._later(0.5, bury)
                return
            server.doomed = ""
            if isinstance(owner, DiskOwner):
                owner.disk.work_again()
            self.start(server.peer, resume=kept)

        self._later(0.1 if kept else 0.3, bury)

    def _behind(self) -> list[Server]:
        """Those who lack what the leader has cut off, so that it will send them its snapshot.

        If nobody does, all who run: it may come to that.
        """
        running = [each for each in self.ours() if each.raft is not None]
        leader = self.cluster.leader()
        base = 0 if leader is None else leader.store.base_index
        return [each for each in running if each.store.last_index < base] or running

    def _stall(self) -> None:
        """A server does not run for a while."""
        peer = self._leader(0.5)
        if peer is not None:
            self.counts["stalls"] += 1
            seconds = self._rng.choice((0.01, 0.1, 0.5, 1.5)) * self._rng.random()
            server = self.cluster.servers[peer]
            server.busy_until = max(server.busy_until, self.cluster.now + seconds)

    def _fail_disk(self) -> None:
        """A disk takes nothing more, or nothing reaches it, until there is a new process."""
        peer = self._leader(0.5)
        if peer is None:
            return
        server = self.cluster.servers[peer]
        owner = server.owner
        seconds = 0.1 + self._rng.random()
        if not isinstance(owner, DiskOwner):
            owner.fails = self._rng.choice(("write", "sync"))
        elif self._rng.random() < 0.5:
            owner.fill(self._rng.choice((0, 0, 300)))
            seconds = 1 + 3 * self._rng.random()
        else:
            owner.fail_soon(self._rng.randint(1, 12))

        def replace() -> None:
            owner.repair()
            if server.owner is owner:
                self.start(peer)

        self._later(seconds, replace)

    # Stores that are lost: only as many, and only then, as the rules can cover.

    def genuine(self, config: Config, peer: Peer) -> bool:
        """Whether the member's store is the one that the configuration means."""
        recorded = config.store_of(peer)
        server = self.cluster.servers[peer]
        return server.owner.store_id == recorded if recorded else peer not in self._replaced

    def _may_remove(self, config: Config, peer: Peer) -> bool:
        left = [each for each in config.voters if each != peer]
        whole = [each for each in left if self.genuine(config, each)]
        return len(whole) >= max(len(left) // 2 + 1, self.min_majority)

    def _may_lose(self, peer: Peer, *, standby: bool) -> bool:
        """Whether the others can go on, and each of them knows whose store was lost.

        As long as a member's store is in no configuration, the next one can't be told from it;
        then, unless it knows itself that it is new, only one that has promised nothing may be lost.
        """
        server = self.cluster.servers[peer]
        owner = server.owner
        for other in self.ours():
            for config in known_configs(other.owner.life, other.founders):
                if peer not in config.voters:
                    continue
                nameless = not config.store_of(peer) and other is not server
                if nameless and not standby and not owner.pristine:
                    return False
                whole = [
                    each for each in config.voters if each != peer and self.genuine(config, each)
                ]
                if len(whole) < max(len(config.voters) // 2 + 1, self.min_majority):
                    return False
        return True

    def _lose_store(self) -> None:
        peer = self._leader(0.2)
        standby = self._fresh is not None or self._rng.random() < 0.5
        if peer is None or self.is_open(self.change):
            return
        if not self._may_lose(peer, standby=standby):
            return
        cluster = self.cluster
        led = cluster.raft(peer).state is Role.LEADER
        cluster.note(str(peer), "loses its store")
        cluster.replace_store(peer, standby=standby)
        self._replaced[peer] = None
        if standby:
            self.counts["stores lost, on standby"] += 1
        else:
            # At most one: two that begin with nothing may found a cluster of their own.
            self._fresh = peer
            self.counts["stores lost, found out by the others"] += 1
        self._later(self._rng.random(), partial(self.start, peer))
        if led and self._rng.random() < 0.7:
            self._tell_gone(peer)

    # The network.

    def _cut_group(self) -> None:
        peers = list(self.cluster.servers)
        if len(peers) < 2:
            return
        self._rng.shuffle(peers)
        leader = self.cluster.leader()
        if leader is not None and self._rng.random() < 0.5:
            # It goes on for a while, and what it writes conflicts with what the others do.
            peers.remove(leader.me)
            peers.insert(0, leader.me)
        group = peers[: self._rng.randint(1, len(peers) // 2)]
        pairs = [(one, other) for one in group for other in peers if other not in group]
        self.counts["cuts of a group"] += 1
        self._cut(pairs + [(other, one) for one, other in pairs])

    def _cut_direction(self) -> None:
        peers = list(self.cluster.servers)
        if len(peers) < 2:
            return
        one = self._leader(0.5) or peers[0]
        others = [peer for peer in peers if peer != one]
        others = self._rng.sample(others, self._rng.randint(1, len(others)))
        pairs = [(one, other) for other in others]
        if self._rng.random() < 0.5:
            pairs = [(other, one) for one, other in pairs]
        self.counts["cuts of one direction"] += 1
        self._cut(pairs)

    def _cut_link(self) -> None:
        peers = list(self.cluster.servers)
        if len(peers) < 2:
            return
        one, other = self._rng.sample(peers, 2)
        self.counts["cuts of one link"] += 1
        self._cut([(one, other), (other, one)])

    def _cut(self, ways: list[tuple[Peer, Peer]], seconds: float | None = None) -> None:
        cluster = self.cluster
        cluster.note("network", "cut: " + ", ".join(f"{one} to {other}" for one, other in ways))
        cluster.network.cut(*ways)
        leader = cluster.leader()
        if leader is not None:
            # What was open between two is closed for both, whichever way is cut.
            for other in self.running():
                if (leader.me, other) in ways or (other, leader.me) in ways:
                    self._tell_lost(other, leader.me, 0.5)
        if seconds is None:
            seconds = self._rng.choice((0.2, 1.0, 3.0)) * self._rng.random()
        self._later(seconds, partial(cluster.network.mend, *ways))

    def _depose(self) -> None:
        """Another is elected while a leader, cut off with a few, does not know it yet.

        It has a while left to answer reads and take writes as if it led, until it misses its quorum
        (rule 5); then it is back, and may campaign with what it took.
        """
        leader = self.cluster.leader()
        if leader is None:
            return
        rng = self._rng
        old = leader.me
        others = [peer for peer in leader.config.voters if peer != old]
        if len(others) < 2:
            return
        rng.shuffle(others)
        alone = rng.randint(0, max(0, len(others) // 2 - 1))
        few = [old, *others[:alone]]
        pairs = [(one, other) for one in few for other in self.cluster.servers if other not in few]
        self.counts["leaders deposed unawares"] += 1
        seconds = rng.choice((0.2, 0.6, 1.2)) * (0.5 + rng.random())
        self._cut(pairs + [(other, one) for one, other in pairs], seconds)
        self._later(0.1 * rng.random(), partial(self._tell_to_campaign, others[-1]))
        if rng.random() < 0.5:
            self._later(seconds + 0.02 * rng.random(), partial(self._tell_to_campaign, old))

    def _tell_to_campaign(self, peer: Peer) -> None:
        self.cluster.when_free(peer, partial(self._if_running, peer, self.cluster.campaign))

    # Other clusters.

    def _add_foreign(self) -> None:
        """Try to add a server that has a cluster of its own (rule 17)."""
        peer = self._leader(1.0)
        if peer is None or (self.is_open(self.change) and not self._hasty):
            return
        other = Peer(":foreign")
        cluster = self.cluster
        if other not in cluster.servers:
            server = cluster.add(other, (other,), watch=Watch())
            # It has founded its cluster before anybody asks; or it would be free to join ours.
            server.sync_takes = None
            cluster.start(other)
        self.counts["foreign servers to be added"] += 1
        self.ask_change(peer, other, add=True)

    def _send_foreign(self) -> None:
        """A message of another cluster, as strong as it can be, must have no effect (rule 17)."""
        peer = self._someone()
        if peer is None:
            return
        cluster = self.cluster
        server = cluster.servers[peer]
        raft = cluster.raft(peer)
        if not raft.cluster or server.inbox or cluster.now < server.busy_until:
            return
        now = server.clock(cluster.now)
        message = self._forge(raft)
        before = _all_of(raft)
        raft.step(message, now)
        raft.flush(now)
        self.counts["foreign messages"] += 1
        if _all_of(raft) != before or raft.out:
            raise Violation("other clusters have no effect", f"{message} has changed {peer}")

    def _forge(self, raft: Raft) -> Message:
        sender = self._rng.choice(list(self.cluster.servers))
        store = self.cluster.servers[sender].owner.store_id
        term = raft.term + self._rng.randint(0, 5)
        head: tuple[str, Peer, int] = (FOREIGN, sender, term)
        last = raft.last_index
        entries = (Entry(term, COMMAND, b"foreign"),)
        snapshot = Snapshot(last + 9, term, Config((sender,), cluster=FOREIGN), 1, 1, 7, 0)
        forged: list[Message] = [
            Append(*head, last, raft.last_term, entries, last + 1, 1 << 60),
            AppendReply(*head, store, True, last, 0, 0, last, 1 << 60),
            PreVote(*head, store, last + 9, term),
            PreVoteReply(*head, store, raft.term + 1, self._rng.random() < 0.5),
            Vote(*head, store, last + 9, term, True),
            VoteReply(*head, store, True),
            TimeoutNow(*head),
            Install(*head, snapshot, 0, b"foreign"),
            InstallReply(*head, store, last, 0, 7),
        ]
        return self._rng.choice(forged)


def _all_of(raft: Raft) -> tuple[Any, ...]:
    return (
        *(raft.term, raft.store.voted_for, raft.store.leads, raft.leader, raft.leader_heard),
        *(raft.last_index, raft.commit_index, raft.state, raft.deadline, raft.config),
        *(raft.store.base_index, raft.store.snapshot),
    )
