"""Whatever can happen to a server, one thing after another.

Knows all that may be done to one core, or to a few of them with a network between them that alters
what it carries. Must not know what is right: each server has its judge.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from exraft.names import Peer, Role
from exraft.raft import Message
from tests.fuzz.judge import Judged
from tests.fuzz.messages import MEMBERS, STATES, altered, message, peer
from tests.raft.hand import A, B, C


def play_alone(rng: random.Random, steps: int) -> Judged:
    """One server to whom all the others are played, by nobody who means well."""
    founders = rng.choice(((A, B, C), (A, B, C), (A, B), (A,), (B, C)))
    server = Judged(A, founders, standby=not rng.randrange(8))
    for _ in range(steps):
        happen(rng, server)
    return server


def happen(rng: random.Random, server: Judged) -> None:
    """Something happens to `server`: mostly messages, one at a time or in batches."""
    raft = server.raft
    choice = rng.randrange(32)
    if choice < 20:
        server.hear(*[message(rng, raft) for _ in range(rng.choice((1, 1, 1, 2, 4)))])
    elif choice < 24:
        server.tick(when(rng, server))
    else:
        do(rng, server)


def do(rng: random.Random, server: Judged) -> None:
    """A caller, the disk, or death."""
    raft = server.raft
    choice = rng.randrange(20)
    if choice < 3:
        server.propose(b"x" * rng.choice((0, 1, 1, 30, 100)))
    elif choice < 5:
        server.read()
    elif choice < 7:
        patience = rng.choice((0.0, 0.5, 5.0))
        server.change(peer(rng, raft), add=rng.random() < 0.6, patience=patience)
    elif choice == 7:
        server.transfer(rng.choice((None, peer(rng, raft))))
    elif choice == 8:
        server.campaign()
    elif choice == 9:
        tell = server.leader_gone if rng.random() < 0.5 else server.leader_lost
        tell(rng.choice((raft.leader or raft.me, peer(rng, raft))))
    elif choice == 10:
        server.slow = not server.slow
    elif choice < 13:
        server.finish_sync()
    elif choice == 13:
        server.repeat_mark(rng)
    elif choice == 14:
        server.crash(lossy=rng.random() < 0.5, resume=rng.random() < 0.5)
    elif choice < 17:
        server.begin_snapshot(rng.choice(STATES))
    elif choice < 19:
        server.finish_snapshot()
    elif not rng.randrange(20):
        server.halt()


def when(rng: random.Random, server: Judged) -> float:
    """A time to look at the clock: on time, early, late, much too late."""
    due = server.raft.deadline
    on_time = due if due < float("inf") else server.now
    later = rng.choice((0.0, 0.001, 0.05, 0.3, 1.5, 20.0))
    return on_time if rng.randrange(4) else server.now + later


@dataclass
class Network:
    """A few servers, and what is on its way between them."""

    servers: dict[Peer, Judged]
    under_way: list[tuple[Peer, Message]] = field(default_factory=list)
    now: float = 0.0

    def collect(self) -> None:
        for server in self.servers.values():
            self.under_way += server.sent
            server.sent.clear()
        # What nobody ever got is lost.
        del self.under_way[:-100]


def play_together(rng: random.Random, steps: int) -> Network:
    """Servers that mean well, and a network that alters a field of some messages."""
    founders = rng.choice((MEMBERS[:2], MEMBERS[:3]))
    net = Network({each: Judged(each, founders, seed=n) for n, each in enumerate(founders)})
    for server in net.servers.values():
        server.watch = net.servers[founders[0]].story.append
    for _ in range(steps):
        net.collect()
        happen_between(rng, net)
    return net


def happen_between(rng: random.Random, net: Network) -> None:
    choice = rng.randrange(24)
    if choice < 16 and net.under_way:
        # In order more often than not.
        place = 0 if rng.randrange(4) else rng.randrange(len(net.under_way))
        to, carried = net.under_way[place]
        if choice:
            del net.under_way[place]
        server = net.servers.get(to)
        if server is None or choice == 1:
            return
        server.now = max(server.now, net.now)
        server.hear(carried if choice > 3 else altered(rng, server.raft, carried))
    elif choice == 16:
        for server in net.servers.values():
            if server.raft.state is Role.LEADER:
                server.propose(b"x" * rng.choice((1, 30)))
                server.begin_snapshot(rng.choice(STATES))
                server.finish_snapshot()
    elif choice < 22:
        server = min(net.servers.values(), key=lambda each: each.raft.deadline)
        net.now = max(net.now, when(rng, server))
        server.tick(net.now)
    else:
        server = net.servers[rng.choice(list(net.servers))]
        server.now = max(server.now, net.now)
        do(rng, server)
