"""The network of a simulated cluster.

Knows what becomes of a message on its way from one server to another. Must not know what is in it,
nor when the servers look at it.

Each way between two servers has a source of chance of its own, so that what happens on one does not
depend on how much is sent on another: a run that is made shorter stays much the same.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from exraft.names import Peer
from exraft.testing.faults import Faults

Way: TypeAlias = tuple[Peer, Peer]


class _Traffic:
    __slots__ = ("chance", "latest")

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed).random
        self.latest = 0.0
        """When the last message on this way arrives."""


class Network:
    """Ways from server to server."""

    def __init__(self, seed: int, faults: Faults, counts: Counter[str]) -> None:
        self.faults = faults
        self.cuts: dict[Way, int] = {}
        """Ways that no message passes, each with how many cuts are responsible."""
        self._seed = seed
        self._counts = counts
        self._ways: dict[Way, _Traffic] = {}

    def cut(self, *ways: Way) -> None:
        for way in ways:
            self.cuts[way] = self.cuts.get(way, 0) + 1

    def mend(self, *ways: Way) -> None:
        """Undo one cut of each of these ways."""
        for way in ways:
            left = self.cuts.pop(way, 0) - 1
            if left > 0:
                self.cuts[way] = left

    def heal(self) -> None:
        self.cuts.clear()

    def carry(self, sender: Peer, to: Peer, now: float, put: Callable[[float], None]) -> None:
        """Call `put` with the time of each arrival of a message that is sent now."""
        faults = self.faults
        traffic = self._ways.get((sender, to))
        if traffic is None:
            traffic = self._ways[sender, to] = _Traffic(f"{self._seed} {sender} {to}")
        chance = traffic.chance
        if faults.loss and chance() < faults.loss:
            self._counts["messages lost"] += 1
            return
        copies = 1
        if faults.doubling and chance() < faults.doubling:
            self._counts["messages doubled"] += 1
            copies = 2
        for _ in range(copies):
            shortest, longest = faults.delay
            if faults.lag and chance() < faults.lag:
                self._counts["messages delayed"] += 1
                shortest, longest = faults.lagging
            at = now + shortest + (longest - shortest) * chance()
            if at < traffic.latest:
                self._counts["messages reordered"] += 1
            else:
                traffic.latest = at
            put(at)
