"""What goes wrong during a stress test, by seed.

Knows how messages are lost, servers die, and members come and go; never drops a majority of the
stores. Must not know what the cluster is used for meanwhile.

At most one member's store is lost at a time: a server is removed before it is stopped, or, if it is
stopped unremoved, taken in again with its empty store before the next one goes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event
from time import monotonic
from typing import Any

from exraft import ActorRegistry, Config, ExRaft, ExRaftError, Peer, Role, StateMachine, Status
from exraft.actors.calls import Crash
from exraft.actors.transport import local
from exraft.errors import AlreadyStarted
from exraft.raft import Append, Message, PreVote

QUICK: dict[str, Any] = {
    "min_election_timeout": 0.3,
    "max_election_timeout": 0.6,
    "heartbeat_timeout": 0.05,
}
"""Durations for clusters that elect often; in seconds."""
ENDLESS = {"max_restarts": 1_000_000, "max_seconds": 1.0}
"""However often a server is made to die, its supervisor does not give up."""


class InjectedCrash(Exception):
    """The only error that a server may die of here."""


class Network:
    """Loses messages between chosen servers, and watches who claims to lead which term."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random(0)
        self._cut: frozenset[tuple[str, str]] = frozenset()
        self._loss = 0.0
        self._leaders: dict[int, Peer] = {}
        self.violations: list[str] = []
        self.canvassed: Counter[str] = Counter()
        """Pre-votes asked for, by server, since the last cut: how long it has had no leader."""

    def __enter__(self) -> Network:
        local.drop = self
        return self

    def __exit__(self, *_: object) -> None:
        local.drop = None

    def __call__(self, sender: Peer, to: Peer, message: Message) -> bool:
        if type(message) is Append:
            # Only the leader of a term sends appends in it.
            leader = self._leaders.setdefault(message.term, sender)
            if leader != sender:
                self.violations.append(f"{leader} and {sender} both led term {message.term}")
        elif type(message) is PreVote:
            self.canvassed[sender.name] += 1
        if (sender.name, to.name) in self._cut:
            return True
        return bool(self._loss) and self._rng.random() < self._loss

    @property
    def elections(self) -> int:
        return len(self._leaders)

    def heal(self) -> None:
        self._cut = frozenset()
        self._loss = 0.0

    def cut(self, pairs: set[tuple[str, str]]) -> None:
        """Lose what the first of each pair sends to the second."""
        self.canvassed = Counter()
        self._cut = frozenset(pairs)

    def split(self, one: Sequence[str], other: Sequence[str]) -> None:
        self.cut({pair for a in one for b in other for pair in ((a, b), (b, a))})

    def lose(self, share: float) -> None:
        self._loss = share


def status_of(name: str) -> Status | None:
    try:
        return ExRaft.status(name, timeout=2.0)
    except ExRaftError:
        return None


class Faults:
    """One thread's worth of trouble for five servers.

    Args:
        machine: what they run.
        rng: decides everything that can be decided.
        network: between them.
        calm: set when it shall end.
    """

    SIZE = 5

    def __init__(
        self, machine: type[StateMachine], rng: random.Random, network: Network, calm: Event
    ) -> None:
        self._machine = machine
        self._rng = rng
        self._network = network
        self._calm = calm
        self._born = 0
        self._lost: str | None = None
        """A member whose store was dropped, and which is not taken in again yet."""
        self.running: list[str] = []
        self.done: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], bool]] = {
            "crash": self._crash,
            "crash of the leader": self._crash_leader,
            "crash of all": self._crash_all,
            "stop from outside": self._stop_from_outside,
            "symmetric partition": self._split,
            "one-way partition": self._cut_one_way,
            "partial partition": self._cut_partly,
            "loss of messages": self._lose_messages,
            "healing": self._heal,
            "triggered election": self._trigger_election,
            "usurpation": self._usurp,
            "transfer of leadership": self._transfer,
            "removal and stop": self._remove_and_stop,
            "new server": self._start_and_add_new,
            "return of a name": self._return_of_a_name,
            "loss of a store": self._lose_a_store,
        }
        self._gone: list[str] = []

    def found(self) -> None:
        names = [self._new_name() for _ in range(self.SIZE)]
        for name in names:
            ExRaft.start_server(self._machine, name=name, initial_config=names, **(QUICK | ENDLESS))
            self.running.append(name)

    def run(self) -> None:
        """Each kind once in any order, then any of them; in between the cluster may breathe."""
        todo: list[str] = []
        while not self._calm.is_set():
            if not todo:
                todo = list(self.kinds)
                self._rng.shuffle(todo)
            kind = todo.pop()
            if self.kinds[kind]():
                self.done[kind] += 1
            if self._rng.random() < 0.5:
                self._network.heal()
            # Some faults strike together, and some last until the cluster has got over them.
            self._calm.wait(self._rng.choice((0.0, 0.02, 0.1, 0.7)))

    def repair(self) -> None:
        """Heal, and take in again who is still on the way."""
        self._network.heal()
        self._await_return()

    def leader(self) -> Status | None:
        """The status of who leads the highest term that is led."""
        known = [status_of(name) for name in self.running]
        leading = [each for each in known if each is not None and each.role is Role.LEADER]
        return max(leading, key=lambda each: each.term, default=None)

    # Deaths.

    def _crash(self) -> bool:
        return self._kill(self._rng.choice(self.running))

    def _crash_leader(self) -> bool:
        leader = self.leader()
        return leader is not None and self._kill(leader.server.name)

    def _crash_all(self) -> bool:
        for name in self.running:
            self._kill(name)
        return True

    def _kill(self, name: str) -> bool:
        ActorRegistry.deliver(name, Crash(InjectedCrash(name)))
        return True

    def _stop_from_outside(self) -> bool:
        ref = ActorRegistry.get_by_name(self._rng.choice(self.running))
        if ref is None:
            return False
        ref.stop(block=self._rng.random() < 0.5, timeout=30.0)
        return True

    # Losses of messages.

    def _split(self) -> bool:
        names = self.running.copy()
        self._rng.shuffle(names)
        size = self._rng.randint(1, len(names) - 1)
        self._network.split(names[:size], names[size:])
        return True

    def _cut_one_way(self) -> bool:
        one = self._rng.choice(self.running)
        others = [name for name in self.running if name != one]
        if self._rng.random() < 0.5:
            self._network.cut({(one, other) for other in others})
        else:
            self._network.cut({(other, one) for other in others})
        return True

    def _cut_partly(self) -> bool:
        """Some pairs can't talk although others can talk to both (Cloudflare, 2020)."""
        pairs = {
            pair
            for index, a in enumerate(self.running)
            for b in self.running[index + 1 :]
            if self._rng.random() < 0.35
            for pair in ((a, b), (b, a))
        }
        self._network.cut(pairs)
        return bool(pairs)

    def _lose_messages(self) -> bool:
        self._network.lose(self._rng.uniform(0.01, 0.3))
        return True

    def _heal(self) -> bool:
        self._network.heal()
        return True

    # Leadership.

    def _trigger_election(self) -> bool:
        return _works(lambda: ExRaft.trigger_election(self._rng.choice(self.running), timeout=2.0))

    def _usurp(self) -> bool:
        """A new leader while the old one, who was cut off this very moment, still believes."""
        leader = self.leader()
        if leader is None:
            return False
        others = [name for name in self.running if name != leader.server.name]
        self._rng.shuffle(others)
        size = self._rng.randint(0, 1)
        self._network.split([leader.server.name, *others[:size]], others[size:])
        return _works(lambda: ExRaft.trigger_election(others[-1], timeout=2.0))

    def _transfer(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        to = self._rng.choice([None, *self.running])
        return _works(lambda: ExRaft.transfer_leadership(leader.server, to, timeout=5.0))

    # Members.

    def _remove_and_stop(self) -> bool:
        config = self._stable_config()
        if config is None or len(config.voters) < self.SIZE:
            return False
        name = self._rng.choice(config.voters).name
        if not self._change(lambda leader: ExRaft.remove_server(leader, name, timeout=5.0)):
            return False
        self._stop(name)
        return True

    def _start_and_add_new(self) -> bool:
        return self._fill(self._new_name)

    def _return_of_a_name(self) -> bool:
        return self._fill(lambda: self._gone.pop(0))

    def _fill(self, next_name: Callable[[], str]) -> bool:
        """Give the place of a removed member to another; remove one if none was."""
        config = self._stable_config()
        if config is None:
            return False
        if len(config.voters) == self.SIZE:
            return self._remove_and_stop() and self._fill(next_name)
        members = {peer.name for peer in config.voters}
        # One that could not be added before is still there.
        idle = [each for each in self.running if each not in members]
        if idle:
            name = idle[0]
        else:
            name = next_name()
            self._start(name)
        return self._change(lambda leader: ExRaft.add_server(leader, name, timeout=5.0))

    def _lose_a_store(self) -> bool:
        config = self._stable_config()
        if config is None or len(config.voters) < self.SIZE:
            return False
        candidates = [peer.name for peer in config.voters if config.store_of(peer)]
        if not candidates:
            return False
        name = self._lost = self._rng.choice(candidates)
        self._stop(name)
        self._gone.remove(name)
        self._start(name)
        return self._take_in_again()

    def _take_in_again(self) -> bool:
        """Done when the leader's configuration names the new store.

        That the server was added is not enough: a member that does not answer counts as one, and
        the leader may not have heard yet that it has another store.
        """
        name = self._lost
        assert name is not None
        if not self._change(lambda leader: ExRaft.add_server(leader, name, timeout=5.0)):
            return False
        leader, returned = self.leader(), status_of(name)
        if leader is None or returned is None:
            return False
        if leader.config.store_of(returned.server) != returned.store_id:
            return False
        self._lost = None
        return True

    def _await_return(self) -> None:
        deadline = monotonic() + 60.0
        while self._lost is not None and not self._take_in_again():
            assert monotonic() < deadline, f"{self._lost} could not be taken in again"

    def _stable_config(self) -> Config | None:
        """The configuration, if it is committed and no member's store is lost."""
        if self._lost is not None and not self._take_in_again():
            return None
        leader = self.leader()
        if leader is None or leader.config_index > leader.commit_index:
            return None
        return leader.config

    def _change(self, change: Callable[[Peer], None]) -> bool:
        """Only what is known to have happened counts."""
        leader = self.leader()
        return leader is not None and _works(lambda: change(leader.server))

    def _start(self, name: str) -> None:
        ExRaft.start_server(self._machine, name=name, min_majority=2, **(QUICK | ENDLESS))
        self.running.append(name)

    def _stop(self, name: str) -> None:
        ExRaft.stop_server(name, timeout=30.0)
        self.running.remove(name)
        self._gone.append(name)

    def _new_name(self) -> str:
        self._born += 1
        return f":stress{self._born}"


def _works(step: Callable[[], object]) -> bool:
    try:
        step()
    except AlreadyStarted:
        raise
    except ExRaftError:
        return False
    return True
