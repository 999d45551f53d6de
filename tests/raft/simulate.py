"""Clusters that live through everything at once, each from a seed, and must come out whole.

Knows what can befall a cluster, and what of that is fair: the stores of a majority are never lost,
nor in a way that the rules cannot cover (rule 29). Must not know what is right in a log or an
answer: `cluster` and `invariants` judge that after every step.

Every seed ends with a check of liveness: once the faults have stopped, a leader is elected, a write
commits, reads are answered, whoever lost its store becomes a member again, all logs agree, and then
nobody disturbs the leader any more.

    python -m tests.raft.simulate --seeds 10000
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from exraft.names import Peer, Role
from exraft.raft import (
    COMMAND,
    CONFIG,
    Append,
    AppendReply,
    Config,
    Entry,
    Logged,
    Message,
    Options,
    PreVote,
    PreVoteReply,
    Raft,
    Refusal,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.messages import Header
from tests.raft.cluster import Cluster, Faults, Server
from tests.raft.invariants import Violation, Watch, known_configs

LENGTH = 2.0
"""Virtual seconds of faults in a seed."""
RATE = 25.0
"""What befalls a cluster in a virtual second: requests of clients and faults."""
MOST_VOTERS = 6
FOREIGN = "f" * 16

EXERCISED = (
    "additions",
    "batches",
    "campaigns",
    "cuts of one direction",
    "cuts of one link",
    "cuts of a group",
    "crashes, restarted by the supervisor",
    "crashes, started as a new process",
    "crashes between two steps",
    "elections",
    "foreign messages",
    "foreign servers refused",
    "leaders gone",
    "leaders resumed",
    "leaders that heard no quorum",
    "messages cut off",
    "quiet times in which nothing happens",
    "quiet times in which one is away",
    "quiet times in which one link is cut",
    "quiet times in which the leader is away",
    "quiet times without a minority",
    "messages delayed",
    "messages doubled",
    "messages lost",
    "messages reordered",
    "readmissions",
    "reads answered",
    "reads refused",
    "removals",
    "removals of the leader",
    "slow syncs",
    "stalls",
    "stores lost, found out by the others",
    "stores lost, on standby",
    "transfers",
    "truncations",
    "unsynced writes lost",
    "writes acknowledged",
    "writes dropped",
    "writes refused",
)
"""What a run must have met at least once to prove anything."""


@dataclass
class Report:
    """What a seed has been through."""

    seed: int
    servers: int
    steps: int
    seconds: float
    """Virtual ones."""
    counts: Counter[str]
    digest: str = ""
    """Of the whole history, if it was asked for."""


class Broken(AssertionError):
    """A seed in which something does not hold."""

    def __init__(self, seed: int, why: str, trace: Iterable[str], replay: str) -> None:
        self.seed = seed
        self.why = why
        self.trace = list(trace)
        self.replay = replay
        super().__init__("\n".join([*self.trace, f"seed {seed}: {why}", f"again: {replay}"]))


@dataclass(order=True)
class _Later:
    at: float
    order: int
    happen: Callable[[], None] = field(compare=False)


class Life:
    """One cluster, its clients, and its bad luck."""

    def __init__(self, seed: int, servers: tuple[int, int], length: float) -> None:
        rng = self.rng = random.Random(seed)
        self.length = length
        shortest = rng.choice((0.3, 0.5, 1.0))
        self.options = Options(
            min_election_timeout=shortest,
            max_election_timeout=2 * shortest,
            heartbeat_timeout=0.1,
            batch_size=rng.choice((2, 5, 100)),
            max_append_bytes=rng.choice((12, 1024)),
            max_uncommitted_bytes=rng.choice((40, 1 << 20, 1 << 20)),
        )
        # What this cluster suffers from; few suffer from everything.
        self.membership = rng.random() < 0.6
        self.losses = rng.random() < 0.5
        self.min_majority = rng.choice((1, 1, 2))
        self.hasty = self.min_majority == 2 and not self.losses
        """Whether changes are asked for while others are under way."""
        self.crashes = rng.choice((0.0, 1.0, 3.0))
        self.cuts = rng.choice((0.0, 1.0, 3.0))
        self.stalls = rng.choice((0.0, 0.0, 2.0))
        self.faults = Faults(
            loss=rng.choice((0.0, 0.02, 0.1, 0.3)),
            doubling=rng.choice((0.0, 0.05, 0.3)),
            delay=rng.choice(((0.001, 0.005), (0.001, 0.02), (0.01, 0.1))),
            lag=rng.choice((0.0, 0.02, 0.1)),
            lagging=(0.1, 2 * shortest),
        )
        self.cluster = Cluster(
            rng.randint(*servers),
            seed=rng.getrandbits(32),
            options=self.options,
            faults=self.faults,
            start=False,
            min_majority=self.min_majority,
        )
        self.counts = self.cluster.counts
        if rng.random() < 0.3:
            for server in self.cluster.servers.values():
                server.sync_takes = (0.0, rng.choice((0.002, 0.02, 0.1)))
        self._later: list[_Later] = []
        self._order = 0
        self._tickets: dict[str, tuple[Peer, Raft]] = {}
        """Reads, changes and transfers that were asked for, and of which life."""
        self._number = 0
        self._change = ""
        """The last change that was asked for."""
        self._founded = len(self.cluster.peers)
        self._spares = 0
        self._asked: tuple[bytes, str] | None = None
        """The write and the read that are to prove that the cluster serves."""
        self._patient_until = 0.0
        self._unanswered = ""
        """Who still waits, when nobody should."""
        self._replaced: dict[Peer, None] = {}
        self._fresh: Peer | None = None
        """A server that began with an empty store unbeknown to itself."""
        weights: dict[Callable[[], None], float] = {
            self.write: 12,
            self.read: 8,
            self.campaign: 0.5,
            self.transfer: 0.7,
            self.send_foreign: 0.5,
            self.crash: self.crashes,
            self.doom: self.crashes / 2,
            self.cut_group: self.cuts / 2,
            self.cut_direction: self.cuts / 2,
            self.cut_link: self.cuts / 2,
            self.stall: self.stalls,
            self.change: 3.0 if self.membership else 0.0,
            self.add_foreign: 0.2 if self.membership else 0.0,
            self.lose_store: 2.0 if self.losses else 0.0,
        }
        self._choices = list(weights)
        self._weights = list(weights.values())

    # Time.

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._later, _Later(self.cluster.now + seconds, self._order, happen))

    def live_until(self, end: float) -> None:
        cluster = self.cluster
        while True:
            if self._later and self._later[0].at < end:
                if not cluster.step(before=self._later[0].at):
                    happening = heapq.heappop(self._later)
                    cluster.now = max(cluster.now, happening.at)
                    happening.happen()
            elif not cluster.step(before=end):
                cluster.now = end
                return

    def until(self, condition: Callable[[], Any], what: str, within: float) -> None:
        end = self.cluster.now + within
        while not condition():
            if self.cluster.now >= end:
                waits = f" ({self._unanswered})" if self._unanswered else ""
                raise Violation(
                    f"liveness: {what}{waits} within {within:.1f} quiet virtual seconds"
                )
            self.live_until(min(end, self.cluster.now + 0.05))

    def run(self) -> None:
        for peer in self.cluster.peers:
            self.later(self.rng.random() * 0.3, partial(self.start, peer, resume=False))
        self.live_until(0.3)
        self._befall()
        self.live_until(self.cluster.now + self.length)
        self.check_liveness()

    def _befall(self) -> None:
        self.rng.choices(self._choices, self._weights)[0]()
        self.later(self.rng.expovariate(RATE), self._befall)

    # Who is there.

    def ours(self) -> list[Server]:
        cluster = self.cluster
        return [s for s in cluster.servers.values() if s.owner.watch is cluster.watch]

    def running(self) -> list[Peer]:
        return [server.peer for server in self.ours() if server.raft is not None]

    def someone(self) -> Peer | None:
        running = self.running()
        return self.rng.choice(running) if running else None

    def leader(self, surely: float = 0.85) -> Peer | None:
        """The leader, most of the time; anybody else otherwise."""
        leader = self.cluster.leader()
        if leader is not None and self.rng.random() < surely:
            return leader.me
        return self.someone()

    def start(self, peer: Peer, *, resume: bool) -> None:
        server = self.cluster.servers[peer]
        if server.raft is None:
            self.cluster.start(peer, resume=resume and server.intact)

    def _ticket(self, kind: str, peer: Peer) -> str:
        self._number += 1
        ticket = f"{kind} {self._number}"
        self._tickets[ticket] = (peer, self.cluster.raft(peer))
        return ticket

    def _is_open(self, ticket: str) -> bool:
        """Whether a living server still owes the answer."""
        cluster = self.cluster
        if ticket not in self._tickets:
            return False
        peer, life = self._tickets[ticket]
        if cluster.servers[peer].raft is not life:
            return False
        return ticket not in cluster.answers and ticket not in cluster.confirmed

    # What clients do.

    def write(self) -> None:
        peer = self.leader()
        if peer is not None:
            for _ in range(self.rng.choice((1, 1, 1, 5))):
                self._number += 1
                self.cluster.when_free(peer, partial(self._write, peer, b"w%d" % self._number))

    def _write(self, peer: Peer, data: bytes) -> None:
        if self.cluster.servers[peer].raft is None:
            return
        if isinstance(self.cluster.write(peer, data), Refusal):
            self.cluster.watch.refused[data] = None
            self.counts["writes refused"] += 1

    def read(self) -> None:
        peer = self.leader()
        if peer is not None:
            for _ in range(self.rng.choice((1, 1, 3))):
                ticket = self._ticket("read", peer)
                self.cluster.when_free(peer, partial(self._ask, peer, ticket, self.cluster.read))

    def _ask(self, peer: Peer, ticket: str, ask: Callable[[Peer, str], None]) -> None:
        if self.cluster.servers[peer].raft is self._tickets[ticket][1]:
            ask(peer, ticket)

    def campaign(self) -> None:
        peer = self.someone()
        if peer is not None:
            self.counts["campaigns"] += 1
            self.cluster.when_free(peer, partial(self._if_running, peer, self.cluster.campaign))

    def _if_running(self, peer: Peer, then: Callable[[Peer], None]) -> None:
        if self.cluster.servers[peer].raft is not None:
            then(peer)

    def transfer(self) -> None:
        peer = self.leader()
        if peer is None:
            return
        self.counts["transfers"] += 1
        to = self.rng.choice([None, *self.cluster.raft(peer).config.voters])
        ticket = self._ticket("transfer", peer)
        ask = partial(self.cluster.transfer, to=to)
        self.cluster.when_free(peer, partial(self._ask, peer, ticket, ask))

    # What operators do.

    def change(self) -> None:
        if self._is_open(self._change) and not self.hasty:
            return
        peer = self.leader(0.95)
        if peer is None:
            return
        cluster = self.cluster
        config = cluster.raft(peer).config
        strangers = [each for each in config.voters if not self.genuine(config, each)]
        if strangers and self.rng.random() < 0.7:
            self.counts["readmissions"] += 1
            self._ask_change(peer, self.rng.choice(strangers), add=True)
        elif len(config.voters) > 2 and self.rng.random() < 0.5:
            other = peer if self.rng.random() < 0.3 else self.rng.choice(config.voters)
            if self._may_remove(config, other):
                self.counts["removals of the leader" if other == peer else "removals"] += 1
                self._ask_change(peer, other, add=False)
        elif len(config.voters) < MOST_VOTERS:
            outside = [each for each in self.running() if each not in config.voters]
            if self._spares < 3 and (not outside or self.rng.random() < 0.3):
                outside = [self._spare()]
            if outside:
                self.counts["additions"] += 1
                self._ask_change(peer, self.rng.choice(outside), add=True)

    def _ask_change(self, peer: Peer, other: Peer, *, add: bool) -> str:
        self._change = ticket = self._ticket("change", peer)
        patience = self.rng.choice((0.2, 2.0))
        ask = partial(self.cluster.change, other=other, add=add, patience=patience)
        self.cluster.when_free(
            peer, partial(self._ask, peer, ticket, lambda at, ticket: ask(at, ticket))
        )
        return ticket

    def _spare(self) -> Peer:
        """A new server that waits to be added."""
        peer = Peer(f":{chr(ord('a') + self._founded + self._spares)}")
        self._spares += 1
        self.cluster.add(peer, (peer,), min_majority=2)
        self.cluster.start(peer)
        return peer

    def add_foreign(self) -> None:
        """Try to add a server that has a cluster of its own (rule 17)."""
        peer = self.leader(1.0)
        if peer is None or (self._is_open(self._change) and not self.hasty):
            return
        other = Peer(":foreign")
        cluster = self.cluster
        if other not in cluster.servers:
            cluster.add(other, (other,), watch=Watch())
            cluster.start(other)
        self._ask_change(peer, other, add=True)

    # Bad luck.

    def crash(self) -> None:
        peer = self.leader(0.4)
        if peer is not None:
            self.kill(peer)

    def kill(self, peer: Peer) -> None:
        cluster = self.cluster
        rng = self.rng
        if rng.random() < 0.5:
            self.counts["crashes, restarted by the supervisor"] += 1
            cluster.crash(peer)
            self.later(rng.random() * 0.05, partial(self.start, peer, resume=True))
            return
        self.counts["crashes, started as a new process"] += 1
        led = cluster.raft(peer).state is Role.LEADER
        cluster.crash(peer, lossy=rng.random() < 0.7)
        self.later(rng.random() * 1.5, partial(self.start, peer, resume=False))
        if led and rng.random() < 0.7:
            self._tell_gone(peer)

    def _tell_gone(self, peer: Peer) -> None:
        self.counts["leaders gone"] += 1
        for other in self.running():
            self.cluster.when_free(other, partial(self._hear_gone, other, peer))

    def _hear_gone(self, other: Peer, peer: Peer) -> None:
        servers = self.cluster.servers
        if servers[other].raft is not None and servers[peer].raft is None:
            self.cluster.leader_gone(other, peer)

    def doom(self) -> None:
        """Let a server die in the middle of what it does next."""
        peer = self.leader(0.6)
        if peer is not None:
            server = self.cluster.servers[peer]
            server.doomed = self.rng.choice(("kept", "unsynced", "synced"))
            # A supervisor that has kept the store lets the server resume.
            kept = server.doomed == "kept"
            self.later(0.1 if kept else 0.3, partial(self._bury, server, resume=kept))

    def _bury(self, server: Server, *, resume: bool) -> None:
        server.doomed = ""
        self.start(server.peer, resume=resume)

    def stall(self) -> None:
        """A server does not run for a while."""
        peer = self.leader(0.5)
        if peer is not None:
            self.counts["stalls"] += 1
            seconds = self.rng.choice((0.01, 0.1, 0.5, 1.5)) * self.rng.random()
            server = self.cluster.servers[peer]
            server.busy_until = max(server.busy_until, self.cluster.now + seconds)

    def cut_group(self) -> None:
        peers = list(self.cluster.servers)
        self.rng.shuffle(peers)
        group = peers[: self.rng.randint(1, len(peers) // 2)]
        pairs = [(one, other) for one in group for other in peers if other not in group]
        self.counts["cuts of a group"] += 1
        self._cut(pairs + [(other, one) for one, other in pairs])

    def cut_direction(self) -> None:
        peers = list(self.cluster.servers)
        one = self.leader(0.5) or peers[0]
        others = [peer for peer in peers if peer != one]
        others = self.rng.sample(others, self.rng.randint(1, len(others)))
        pairs = [(one, other) for other in others]
        if self.rng.random() < 0.5:
            pairs = [(other, one) for one, other in pairs]
        self.counts["cuts of one direction"] += 1
        self._cut(pairs)

    def cut_link(self) -> None:
        one, other = self.rng.sample(list(self.cluster.servers), 2)
        self.counts["cuts of one link"] += 1
        self._cut([(one, other), (other, one)])

    def _cut(self, pairs: list[tuple[Peer, Peer]]) -> None:
        cluster = self.cluster
        cluster.note("network", ("cut", pairs))
        cluster.cut.update(dict.fromkeys(pairs))

        def heal() -> None:
            for pair in pairs:
                cluster.cut.pop(pair, None)

        self.later(self.rng.choice((0.2, 1.0, 3.0)) * self.rng.random(), heal)

    def send_foreign(self) -> None:
        """A message of another cluster, as strong as it can be, must have no effect (rule 17)."""
        peer = self.someone()
        if peer is None:
            return
        server = self.cluster.servers[peer]
        raft = self.cluster.raft(peer)
        if not raft.cluster or server.inbox or self.cluster.now < server.busy_until:
            return
        message = self._forge(raft)
        before = self._state(raft)
        raft.step(message, self.cluster.now)
        raft.flush(self.cluster.now)
        self.counts["foreign messages"] += 1
        if self._state(raft) != before or raft.out:
            raise Violation(f"{message} of another cluster has changed {peer}")

    def _state(self, raft: Raft) -> tuple[object, ...]:
        return (
            *(raft.term, raft.store.voted_for, raft.store.leads, raft.leader, raft.leader_heard),
            *(raft.last_index, raft.commit_index, raft.state, raft.deadline, raft.config),
        )

    def _forge(self, raft: Raft) -> Message:
        sender = self.rng.choice(list(self.cluster.servers))
        store = self.cluster.servers[sender].owner.store_id
        term = raft.term + self.rng.randint(0, 5)
        head = (FOREIGN, sender, term)
        last = raft.last_index
        entries = (Entry(term, COMMAND, b"foreign"),)
        forged: list[Message] = [
            Append(*head, last, raft.last_term, entries, last + 1, 1 << 60),
            AppendReply(*head, store, True, last, 0, 0, last, 1 << 60),
            PreVote(*head, store, last + 9, term),
            PreVoteReply(*head, store, raft.term + 1, self.rng.random() < 0.5),
            Vote(*head, store, last + 9, term, True),
            VoteReply(*head, store, True),
            TimeoutNow(*head),
        ]
        return self.rng.choice(forged)

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

    def lose_store(self) -> None:
        peer = self.leader(0.2)
        standby = self._fresh is not None or self.rng.random() < 0.5
        if peer is None or self._is_open(self._change):
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
        self.later(self.rng.random(), partial(self.start, peer, resume=False))
        if led and self.rng.random() < 0.7:
            self._tell_gone(peer)

    # When the faults have stopped.

    def check_liveness(self) -> None:
        cluster = self.cluster
        a_while = 15 * self.options.max_election_timeout
        self._later.clear()
        cluster.heal()
        lagging = cluster.faults.lagging[1]
        cluster.faults = Faults()
        for server in cluster.servers.values():
            server.busy_until = min(server.busy_until, cluster.now)
            server.doomed = ""
        down = self._minority()
        for peer in down:
            cluster.crash(peer, lossy=True)
        for peer in cluster.servers:
            if peer not in down:
                self.start(peer, resume=False)
        if down:
            self.counts["quiet times without a minority"] += 1
            self.until(self._led, f"no leader without {down}", a_while)
            self.until(self._serves, f"nothing is answered without {down}", a_while)
            for peer in down:
                self.start(peer, resume=False)
            self._asked = None
        self.until(self._led, "no leader", a_while)
        self.until(self._all_are_members, "someone who lost its store is no member again", a_while)
        self.until(self._serves, "no write and no read is answered", a_while)
        self.until(self._agree, "the logs do not agree", a_while)
        self.until(self._all_answered, "someone is not answered", a_while)
        if self.rng.random() < 0.5:
            # What was on its way all the time has arrived by then.
            self.live_until(cluster.now + lagging)
            self.until(self._agree, "the logs do not agree", a_while)
            self._stays_calm()
        self._count()

    def _minority(self) -> list[Peer]:
        """Some who may stay away: every configuration that may hold has a quorum without them."""
        down: list[Peer] = []
        if self.rng.random() < 0.6:
            return down
        # Until nothing on its way, and nobody's wish, can bring another configuration.
        self.live_until(self.cluster.now + self.options.min_election_timeout * 2)
        if any(self._is_open(ticket) for ticket in self._tickets if ticket.startswith("change")):
            return down
        configs = [
            config
            for server in self.ours()
            for config in known_configs(server.owner.life, server.founders)
            if len(config.voters) > 1
        ]
        for peer in self.rng.sample(self.cluster.peers, len(self.cluster.peers)):
            without = [*down, peer]
            if all(
                sum(self.genuine(config, each) and each not in without for each in config.voters)
                >= max(len(config.voters) // 2 + 1, 2)
                for config in configs
            ):
                down = without
        return down

    def _led(self) -> bool:
        leader = self.cluster.leader()
        return leader is not None and leader.committed_in_term

    def _all_are_members(self) -> bool:
        leader = self.cluster.leader()
        if leader is None or self._is_open(self._change):
            return False
        config = leader.config
        for peer in config.voters:
            if not self.genuine(config, peer):
                self._ask_change(leader.me, peer, add=True)
                return False
        return leader.config_index <= leader.commit_index

    def _serves(self) -> bool:
        """Whether a write and a read that were asked for now have been answered; else ask."""
        cluster = self.cluster
        if self._asked is not None:
            data, ticket = self._asked
            if data in cluster.acknowledged and ticket in cluster.read_at:
                return True
            failed = isinstance(cluster.answers.get(ticket), Refusal) or data in cluster.dropped
            if not failed and cluster.now < self._patient_until:
                return False
        leader = cluster.leader()
        if leader is None:
            return False
        self._number += 1
        data = b"w%d" % self._number
        ticket = self._ticket("read", leader.me)
        self._asked = (data, ticket)
        # A write waits for ever, if a later leader has cut the log before its place.
        self._patient_until = cluster.now + self.options.max_election_timeout
        if isinstance(cluster.write(leader.me, data), Refusal):
            self._asked = None
        cluster.read(leader.me, ticket)
        return False

    def _agree(self) -> bool:
        cluster = self.cluster
        leader = cluster.leader()
        if leader is None or leader.commit_index < leader.last_index:
            return False
        last = leader.last_index
        for peer in leader.config.voters:
            server = cluster.servers[peer]
            raft = server.raft
            assert raft is not None
            if (raft.last_index, raft.commit_index, server.applied) != (last, last, last):
                return False
            if raft.last_term != leader.last_term or raft.leader != leader.me:
                return False
        return True

    def _all_answered(self) -> bool:
        cluster = self.cluster
        for ticket, (peer, life) in self._tickets.items():
            if self._is_open(ticket):
                if ticket not in life.tickets():
                    raise Violation(f"{peer} has forgotten {ticket}")
                self._unanswered = f"{ticket} at {peer}"
                return False
        leader = cluster.leader()
        if leader is None:
            return False
        members = [cluster.servers[peer] for peer in leader.config.voters]
        for server in members:
            # Who waits for a place that the log has not reached yet goes on waiting.
            overdue = [each for index, each in server.waiting.items() if index <= server.applied]
            if overdue or server.reads:
                self._unanswered = f"{overdue} {server.reads} at {server.peer}"
                return False
        return True

    def _stays_calm(self) -> None:
        """Nobody deposes a leader that is well (rule 4); one that is cut off leaves (rule 5)."""
        cluster = self.cluster
        leader = cluster.leader()
        assert leader is not None
        term = leader.term
        others = [peer for peer in leader.config.voters if peer != leader.me]
        options = self.options
        kind = self.rng.choice(
            ("nothing happens", "one is away", "one link is cut", "the leader is away")
        )
        if len(others) < 2:
            kind = "nothing happens"
        cluster.note("network", kind)
        self.counts[f"quiet times in which {kind}"] += 1
        if kind == "one is away":
            cluster.isolate(self.rng.choice(others))
        elif kind == "one link is cut":
            other = self.rng.choice(others)
            cluster.cut.update({(leader.me, other): None, (other, leader.me): None})
        elif kind == "the leader is away":
            cluster.isolate(leader.me)
            # Its heartbeat is its clock.
            self.live_until(
                cluster.now + options.min_election_timeout + 2.5 * options.heartbeat_timeout
            )
            if leader.state is Role.LEADER:
                raise Violation(f"{leader.me} leads on, though it has heard nobody for long")
            self.until(self._led, "no new leader", 15 * options.max_election_timeout)
            cluster.heal()
            return
        self.live_until(cluster.now + 2.5 * options.max_election_timeout)
        cluster.heal()
        self.live_until(cluster.now + options.max_election_timeout)
        if leader.state is not Role.LEADER or leader.term != term:
            raise Violation(f"liveness: {leader.me} led term {term} and was disturbed")

    def _count(self) -> None:
        cluster = self.cluster
        self.counts["writes acknowledged"] = sum(
            isinstance(each, bytes) for each in cluster.acknowledged
        )
        self.counts["writes dropped"] = sum(isinstance(each, bytes) for each in cluster.dropped)
        self.counts["reads answered"] = len(cluster.read_at)
        for ticket, outcome in cluster.answers.items():
            if isinstance(outcome, Refusal):
                self.counts[f"{ticket.split()[0]}s refused"] += 1
                self.counts["foreign servers refused"] += outcome.code == "foreign_server"
                self.counts[f"refused: {outcome.code}"] += 1
            elif isinstance(outcome, Logged):
                self.counts["changes logged"] += 1


def run_seed(
    seed: int,
    *,
    servers: tuple[int, int] = (3, 5),
    length: float = LENGTH,
    digest: bool = False,
    trace: bool = False,
) -> Report:
    """Let one cluster live through what its seed has in store for it.

    Raises:
        Broken: something does not hold; its message is a trace.
    """
    life = Life(seed, servers, length)
    history = hashlib.sha256()
    if digest:
        life.cluster.observe = lambda at, who, what: history.update(
            f"{at!r} {who} {what!r}\n".encode()
        )
    if trace:
        life.cluster.observe = lambda at, who, what: print(told(at, who, what))
    try:
        life.run()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if not isinstance(error, Violation):
            why += "\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
        last = [told(*happened) for happened in life.cluster.trace]
        replay = (
            f"python -m tests.raft.simulate --seeds 1 --first {seed}"
            f" --servers {servers[0]}-{servers[1]} --length {length:g}"
        )
        raise Broken(seed, why, last, replay) from error
    return Report(
        seed=seed,
        servers=len(life.cluster.peers),
        steps=life.cluster.steps,
        seconds=life.cluster.now,
        counts=life.counts,
        digest=history.hexdigest() if digest else "",
    )


def told(at: float, who: str, what: object) -> str:
    """One line of a trace, for people."""
    if not isinstance(what, Header):
        text = str(what).replace(", node='nonode@nohost'", "").replace("Peer(name=", "(")
        return f"{at:9.4f}  {who:8} {text}"
    fields = [f"{what.sender} -> {who}", type(what).__name__, f"term {what.term}"]
    for name in what.__struct_fields__[3:]:
        value = getattr(what, name)
        if name == "entries":
            value = [
                f"{each.term}:{'config' if each.kind == CONFIG else each.data.decode()}"
                for each in value
            ]
        if value or name in ("granted", "accepted", "index"):
            fields.append(f"{name} {value}")
    return f"{at:9.4f}  {', '.join(fields)}"


def missing(counts: Counter[str]) -> list[str]:
    """What was not exercised."""
    return [kind for kind in EXERCISED if not counts[kind]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.raft.simulate",
        description="Clusters from seeds, and what befalls them.",
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--servers", default="3-5", help="from-to (default: 3-5)")
    parser.add_argument("--length", type=float, default=LENGTH, help="virtual seconds of faults")
    parser.add_argument("--digest", action="store_true", help="print a digest of all histories")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    chosen = parser.parse_args(arguments)
    low, _, high = chosen.servers.partition("-")
    servers = (int(low), int(high or low))
    total: Counter[str] = Counter()
    steps = 0
    history = hashlib.sha256()
    began = time.perf_counter()
    try:
        for seed in _progress(range(chosen.first, chosen.first + chosen.seeds)):
            report = run_seed(
                seed,
                servers=servers,
                length=chosen.length,
                digest=chosen.digest,
                trace=chosen.trace,
            )
            total += report.counts
            steps += report.steps
            history.update(report.digest.encode())
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    took = time.perf_counter() - began
    for kind, count in sorted(total.items()):
        print(f"{count:10,}  {kind}")
    for kind in missing(total):
        print(f"{'none':>10}  {kind}")
    if chosen.digest:
        print(f"digest {history.hexdigest()}")
    print(
        f"{chosen.seeds:,} seeds in {took:.1f} s: {chosen.seeds / took:,.0f} seeds/s,"
        f" {steps / took:,.0f} steps/s. Everything holds."
    )
    return 0


def _progress(seeds: range) -> Iterable[int]:
    if not sys.stderr.isatty():
        return seeds
    from rich.console import Console
    from rich.progress import track

    return track(seeds, "seeds", console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
