"""What must come about once the faults have stopped, and within what time.

Knows the promises of liveness: a leader is elected by whatever majority is left, calls are
answered, who lost its store becomes a member again, all logs and states agree, and then nobody
disturbs the leader. Must not know what went wrong before.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from exraft.names import Peer, Role
from exraft.raft import Options
from exraft.testing.faults import Faults
from exraft.testing.invariants import Violation
from exraft.testing.store import known_configs
from exraft.testing.trouble import Trouble
from exraft.testing.world import World


class Calm:
    """The quiet after the faults.

    Args:
        serves: whether a write and a read that were asked for since have been answered; asks, if
            nobody has. Given `True`, forgets what was asked before.
    """

    def __init__(
        self,
        world: World,
        trouble: Trouble,
        options: Options,
        seed: int,
        serves: Callable[[bool], bool],
    ) -> None:
        self._world = world
        self._trouble = trouble
        self._options = options
        self._rng = random.Random(f"{seed} calm")
        self._serves = serves
        self._waits = ""
        """Who still waits, when nobody should."""
        # The clocks may run at a different pace.
        self._slowest = 1 / (1 + world.network.faults.clock_drift)
        self._a_while = 15 * options.max_election_timeout / self._slowest

    def come(self) -> None:
        """Stop all faults, and see what comes about.

        Raises:
            Violation: something does not.
        """
        world = self._world
        trouble = self._trouble
        trouble.calm = True
        lagging = world.network.faults.lagging[1]
        world.heal()
        world.network.faults = Faults()
        world.note("network", "the faults stop")
        for server in world.servers.values():
            server.busy_until = min(server.busy_until, world.now)
            server.doomed = ""
            server.owner.repair()
        down = self._minority()
        for peer in down:
            world.crash(peer, lossy=True)
        for peer in world.servers:
            if peer not in down:
                trouble.start(peer)
        self._serves(True)
        if down:
            names = " and ".join(map(str, down))
            world.counts["quiet times without a minority"] += 1
            self._until(self._led, f"no leader is elected without {names}")
            self._until(self._serve, f"nothing is answered without {names}")
            for peer in down:
                trouble.start(peer)
            self._serves(True)
        self._until(self._led, "no leader is elected")
        self._until(self._all_are_members, "someone who lost its store is no member again")
        self.serve()
        self.agree()
        self._until(self._all_answered, "someone is not answered")
        if self._rng.random() < 0.5:
            # What was on its way all the time has arrived by then.
            world.live_until(world.now + lagging)
            self.agree()
            self._stays()
            self.agree()

    def serve(self) -> None:
        """See calls answered."""
        self._until(self._serve, "no write and no read is answered")

    def agree(self) -> None:
        """See all logs and states agree."""
        self._until(self._agree, "the logs do not agree")
        world = self._world
        leader = world.leader()
        assert leader is not None
        world.compare_states([world.servers[peer] for peer in leader.config.voters])

    def _until(self, condition: Callable[[], Any], otherwise: str) -> None:
        world = self._world
        end = world.now + self._a_while
        self._waits = ""
        while not condition():
            if world.now >= end:
                waits = f" ({self._waits})" if self._waits else ""
                raise Violation(
                    "liveness",
                    f"{otherwise}{waits} within {self._a_while:.0f} quiet virtual seconds",
                )
            world.live_until(min(end, world.now + 0.05))

    def _minority(self) -> list[Peer]:
        """Some who may stay away: every configuration that may hold has a quorum without them."""
        down: list[Peer] = []
        if self._rng.random() < 0.6:
            return down
        world = self._world
        trouble = self._trouble
        # Until nothing on its way, and nobody's wish, can bring another configuration.
        world.live_until(world.now + self._options.min_election_timeout * 2 / self._slowest)
        if any(trouble.is_open(each) for each in trouble.tickets if each.startswith("change")):
            return down
        configs = [
            config
            for server in trouble.ours()
            for config in known_configs(server.owner.life, server.founders)
            # One who waits to be added founds nothing.
            if server.peer in world.peers or len(config.voters) > 1
        ]
        for peer in self._rng.sample(world.peers, len(world.peers)):
            without = [*down, peer]
            if all(
                sum(trouble.genuine(config, p) and p not in without for p in config.voters)
                >= max(len(config.voters) // 2 + 1, 2)
                for config in configs
            ):
                down = without
        return down

    def _led(self) -> bool:
        leader = self._world.leader()
        return leader is not None and leader.committed_in_term

    def _serve(self) -> bool:
        return self._serves(False)

    def _all_are_members(self) -> bool:
        trouble = self._trouble
        leader = self._world.leader()
        if leader is None or trouble.is_open(trouble.change):
            return False
        config = leader.config
        for peer in config.voters:
            if not trouble.genuine(config, peer):
                trouble.ask_change(leader.me, peer, add=True)
                return False
        return leader.config_index <= leader.commit_index

    def _agree(self) -> bool:
        world = self._world
        leader = world.leader()
        if leader is None or leader.commit_index < leader.last_index:
            return False
        last = leader.last_index
        for peer in leader.config.voters:
            server = world.servers[peer]
            raft = server.raft
            assert raft is not None
            if (raft.last_index, raft.commit_index, server.applied) != (last, last, last):
                return False
            if raft.last_term != leader.last_term or raft.leader != leader.me:
                return False
        return True

    def _all_answered(self) -> bool:
        world = self._world
        trouble = self._trouble
        for ticket, (peer, life) in trouble.tickets.items():
            if trouble.is_open(ticket):
                server = world.servers[peer]
                # The answer may be given already, and wait for a sync.
                known = ticket in life.tickets() or server.syncing or server.inbox
                if not known:
                    raise Violation("one answer a call", f"{peer} has forgotten {ticket}")
                self._waits = f"{ticket} at {peer}"
                return False
        leader = world.leader()
        if leader is None:
            return False
        for peer in leader.config.voters:
            overdue = world.overdue(world.servers[peer])
            if overdue:
                self._waits = f"{overdue} at {peer}"
                return False
        return True

    def _stays(self) -> None:
        """Nobody deposes a leader that is well (rule 4); one that is cut off leaves (rule 5)."""
        world = self._world
        leader = world.leader()
        assert leader is not None
        term = leader.term
        others = [peer for peer in leader.config.voters if peer != leader.me]
        options = self._options
        kind = self._rng.choice(
            ("nothing happens", "one is away", "one link is cut", "the leader is away")
        )
        if len(others) < 2:
            kind = "nothing happens"
        world.note("network", kind)
        world.counts[f"quiet times in which {kind}"] += 1
        if kind == "one is away":
            world.isolate(self._rng.choice(others))
        elif kind == "one link is cut":
            other = self._rng.choice(others)
            world.network.cut((leader.me, other), (other, leader.me))
        elif kind == "the leader is away":
            world.isolate(leader.me)
            # Its heartbeat is its clock.
            limit = options.min_election_timeout + 2.5 * options.heartbeat_timeout
            world.live_until(world.now + limit / self._slowest)
            if leader.state is Role.LEADER:
                raise Violation("liveness", f"{leader.me} leads on, though it hears nobody")
            self._until(self._led, "no new leader is elected")
            world.heal()
            return
        world.live_until(world.now + 2.5 * options.max_election_timeout / self._slowest)
        world.heal()
        world.live_until(world.now + options.max_election_timeout / self._slowest)
        if leader.state is not Role.LEADER or leader.term != term:
            raise Violation("liveness", f"{leader.me} led term {term} and was disturbed")
