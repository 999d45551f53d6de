"""What is to befall a simulated cluster, and when: drawn from a seed, or given, or cut down.

Knows kinds of happenings and how often each comes. Must not know what any of them does.

A happening brings the seed of every choice that it makes, so one that is left out changes nothing
about the others: that is what makes a failing run shrink.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import fsum

from exraft.testing.faults import Faults


@dataclass(frozen=True, slots=True)
class Happening:
    at: float
    """The virtual time, in seconds."""
    kind: str
    draw: int
    """The seed of its choices."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens, when the faults stop, and how much is done after that."""

    happenings: tuple[Happening, ...]
    end: float
    """The virtual time at which the faults stop, in seconds."""
    calls: int = 0
    """How often a write (and a read) is seen answered when all is quiet again."""


def rates(faults: Faults, calls: float, reads: float) -> dict[str, float]:
    """How often each kind happens in a virtual second."""
    cuts = faults.partitions / 5
    return {
        "write": calls * (1 - reads),
        "read": calls * reads,
        "crash": faults.crashes * 2 / 3,
        "crash midway": faults.crashes / 3,
        "cut off a group": cuts,
        "depose a leader unawares": 2 * cuts,
        "cut one direction": cuts,
        "cut one link": cuts,
        "stall": faults.stalls,
        "fail a disk": faults.failing_disks,
        "lose a store": faults.lost_disks,
        "change members": faults.changes,
        "transfer": faults.transfers,
        "trigger an election": faults.elections,
        "send a foreign message": faults.strangers * 3 / 4,
        "add a foreign server": faults.strangers / 4,
        "take a snapshot": faults.snapshots,
    }


class Drawing:
    """Happenings without end, from a seed."""

    def __init__(self, seed: int, weights: dict[str, float]) -> None:
        self._rng = random.Random(f"{seed} plan")
        self._kinds = [(kind, weight) for kind, weight in weights.items() if weight]
        # Not sum(), which rounds otherwise from Python 3.12 on.
        self._rate = fsum(weight for _, weight in self._kinds)
        self._at = 0.0

    def next(self) -> Happening:
        rng = self._rng
        self._at += 2 * rng.random() / self._rate
        place = rng.random() * self._rate
        kind = self._kinds[-1][0]
        for each, weight in self._kinds:
            place -= weight
            if place < 0:
                kind = each
                break
        return Happening(self._at, kind, rng.getrandbits(48))
