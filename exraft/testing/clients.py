"""Clients of a simulated cluster: they find the leader, wait, retry, give up, and keep a history.

Knows what a careful caller may do after each failure (what surely was not applied, it may repeat).
Must not know what goes on among the servers.
"""

from __future__ import annotations

import random
from typing import Any, Literal

from exraft.codec import reveal, without_frames
from exraft.errors import (
    CommandRejected,
    CommandTooLarge,
    MachineError,
    NotSerialisable,
    Redirect,
    machines_own,
    maybe_applied,
)
from exraft.names import Peer
from exraft.testing.history import History
from exraft.testing.world import Attempt, World

Kind = Literal["write", "read"]

_FINAL = (CommandRejected, CommandTooLarge, NotSerialisable)
"""Refusals that come again however often one asks."""


class Client:
    """One caller, who makes one call at a time."""

    def __init__(self, name: str, world: World, history: History) -> None:
        self.name = name
        self.busy = False
        self.served = False
        """Whether the last call was answered, or refused for good."""
        self.unknown: list[tuple[int, Attempt]] = []
        """Calls of which it never learnt what became of them, by their place in the history."""
        self._world = world
        self._history = history
        self._rng = random.Random(f"{world.seed} {name}")
        self._lives = 0
        self._leader: Peer | None = None
        self._number = 0
        """Of the present call, so that what an earlier one waited for is not taken for it."""
        self._kind: Kind = "write"
        self._call: Any = None
        self._token: Any = None
        self._deadline = 0.0
        self._attempt: Attempt | None = None

    def call(self, kind: Kind, call: Any, timeout: float) -> None:
        """Make a call, and go on trying for `timeout` virtual seconds."""
        world = self._world
        self.busy = True
        self.served = False
        self._number += 1
        self._kind = kind
        self._call = call
        name = f"{self.name}.{self._lives}" if self._lives else self.name
        self._token = self._history.invoke(name, call, kind, world.now)
        self._deadline = world.now + timeout
        number = self._number
        world.later(timeout, lambda: self._give_up(number))
        self._try(number)

    def _try(self, number: int) -> None:
        world = self._world
        if not self.busy or number != self._number:
            return
        peer = self._leader
        foreign = peer is not None and world.servers[peer].owner.watch is not world.watch
        if peer is None or foreign or self._rng.random() < 0.2:
            # Also who knows a leader asks around now and then: there may be another by now.
            peer = self._rng.choice(world.members())
        data = world.unique(self._call) if self._kind == "write" else b""
        attempt = self._attempt = Attempt(peer, self._call, data, self._told)
        if not self._lost():
            world.later(self._on_the_way(), lambda: world.serve(attempt))

    def _told(self, attempt: Attempt, value: Any, error: Any) -> None:
        """The server has answered; the answer sets out for this client."""
        if not self._lost():
            self._world.later(self._on_the_way(), lambda: self._hear(attempt, value, error))

    def _lost(self) -> bool:
        return self._rng.random() < self._world.network.faults.loss

    def _on_the_way(self) -> float:
        shortest, longest = self._world.network.faults.delay
        return shortest + (longest - shortest) * self._rng.random()

    def _hear(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        if attempt is not self._attempt:
            # Of a call that was given up.
            return
        self._attempt = None
        world = self._world
        try:
            value = reveal(value, maybe_applied=self._kind == "write")
        except MachineError as undecodable:
            error = without_frames(undecodable)
        world.note(self.name, f"hears from {attempt.peer} on {attempt}: {_told(value, error)}")
        if error is None:
            self._leader = attempt.peer
            self.served = True
            self._count("answered")
            self._history.complete(self._token, value, world.now)
            self._end()
        elif machines_own(error):
            self.served = True
            self._count("answered by an exception")
            self._history.complete(self._token, error, world.now, raised=True)
            self._end()
        elif self._kind == "write" and maybe_applied(error):
            self._leave(attempt)
        elif isinstance(error, _FINAL):
            self.served = True
            self._count("refused")
            self._history.fail(self._token)
            self._end()
        else:
            self._count("tried again")
            number = self._number
            self._leader = error.leader if isinstance(error, Redirect) else None
            pause = 0.0 if self._leader else 0.02 + 0.1 * self._rng.random()
            world.later(pause, lambda: self._try(number))

    def _give_up(self, number: int) -> None:
        if not self.busy or number != self._number:
            return
        attempt, self._attempt = self._attempt, None
        self._leader = None
        if self._kind == "read":
            # Who is told nothing, as the machine wants it, is served as well.
            self.served = attempt is not None and attempt.silent
            self._count("timed out")
            self._history.fail(self._token)
            self._end()
        elif attempt is None:
            # Each of its attempts had surely failed.
            self._count("timed out")
            self._history.fail(self._token)
            self._end()
        elif self._world.withdraw(attempt):
            self._count("withdrawn")
            self._history.fail(self._token)
            self._end()
        else:
            self._leave(attempt)

    def _count(self, what: str) -> None:
        self._world.counts[f"{self._kind}s {what}"] += 1

    def _leave(self, attempt: Attempt) -> None:
        """Nobody can say what became of the call. Whoever calls next is another, as far as the
        history is concerned, for this one's call goes on for ever."""
        self._count("left unknown")
        self.unknown.append((self._token, attempt))
        self._lives += 1
        self._end()

    def _end(self) -> None:
        self.busy = False


def _told(value: Any, error: BaseException | None) -> str:
    return repr(value) if error is None else f"{type(error).__name__}: {error}"
