"""How much goes wrong in a simulated cluster.

Knows the kinds of trouble, how often each comes and how hard it is. Must not know how any of them
is brought about.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from math import isfinite
from typing import Final

MOST: Final = 1000.0
"""Of a rate; more in a second than that leaves no time for anything else."""
GENTLE: Final = (0.001, 0.005)


@dataclass(frozen=True, slots=True)
class Faults:
    """What a simulated cluster suffers from; `Faults()` is a network in good order.

    Chances are between 0 and 1 and count for each message, rates are times a virtual second, and
    durations and ranges of durations are virtual seconds.
    """

    loss: float = 0.0
    """The chance that a message is lost."""
    doubling: float = 0.0
    """The chance that a message arrives twice."""
    delay: tuple[float, float] = GENTLE
    """How long a message takes. A range that is wide against the traffic reorders messages."""
    lag: float = 0.0
    """The chance that a message takes a time out of `lagging` instead."""
    lagging: tuple[float, float] = (0.1, 1.0)
    partitions: float = 0.0
    """The rate at which the network is cut: around a group, in one direction, one link, or around a
    leader that is deposed meanwhile."""
    crashes: float = 0.0
    """The rate at which servers die. Half of them keep what they wrote and are started again by
    their supervisor; of the others, only what was synced is left to the next process. A third die
    in the middle of what they do: before a sync or after it, when they have received a snapshot, or
    at any operation of a disk."""
    stalls: float = 0.0
    """The rate at which a server does not run for a while, as on a machine under load."""
    slow_disks: float = 0.0
    """The longest time that a sync takes; 0: it is done at once."""
    failing_disks: float = 0.0
    """The rate at which a disk takes nothing more until its server is started again, or is full for
    a while."""
    lost_disks: float = 0.0
    """The rate at which a server loses its store for good; only as many as the rules cover."""
    clock_drift: float = 0.0
    """How much faster or slower a server's clock may run: 0.25 is from 4/5 to 5/4 of the time."""
    changes: float = 0.0
    """The rate at which operators add and remove servers, the leader among them."""
    transfers: float = 0.0
    """The rate at which leadership is handed over."""
    elections: float = 0.0
    """The rate at which `trigger_election` is called."""
    strangers: float = 0.0
    """The rate of messages of another cluster, and of attempts to add one of its servers."""
    snapshots: float = 0.0
    """The rate at which a server is told to take a snapshot."""
    damage: float = 0.0
    """The chance that a piece of a snapshot is damaged on its way."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if field.name in ("delay", "lagging") else (value,)
            if not isinstance(numbers, tuple) or not all(map(_is_amount, numbers)):
                raise ValueError(f"{field.name} must not be {value!r}: {_WANTED}")
            if field.name in ("loss", "doubling", "lag", "damage") and value > 1:
                raise ValueError(f"{field.name} is a chance, at most 1, and not {value!r}")
            if field.name not in ("delay", "lagging") and value > MOST:
                raise ValueError(f"{field.name} is {MOST:g} at most, and not {value!r}")
            if len(numbers) > 1 and numbers[0] > numbers[1]:
                raise ValueError(f"{field.name} goes from {numbers[0]} to less: {numbers[1]}")
        for name in ("delay", "lagging"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} is a pair (shortest, longest), in seconds")

    @classmethod
    def everything(cls) -> Faults:
        """Return a bit of every kind at once."""
        return cls(
            loss=0.05,
            doubling=0.05,
            delay=(0.001, 0.02),
            lag=0.02,
            partitions=0.6,
            crashes=0.6,
            stalls=0.5,
            slow_disks=0.02,
            failing_disks=0.1,
            lost_disks=0.3,
            clock_drift=0.1,
            changes=0.8,
            transfers=0.4,
            elections=0.2,
            strangers=0.2,
            snapshots=0.5,
            damage=0.02,
        )

    @classmethod
    def drawn(cls, rng: random.Random) -> Faults:
        """Return a choice of kinds and strengths: few clusters suffer from everything.

        What hides a fault is often another one that is always there, so a thousand different
        mixtures find more than the same mixture a thousand times (Groce et al., "Swarm testing").
        """
        return cls(
            loss=rng.choice((0.0, 0.02, 0.1, 0.2)),
            doubling=rng.choice((0.0, 0.05, 0.3)),
            delay=rng.choice((GENTLE, (0.001, 0.02), (0.01, 0.1))),
            lag=rng.choice((0.0, 0.02, 0.1)),
            lagging=rng.choice(((0.1, 0.6), (0.1, 2.0))),
            partitions=rng.choice((0.0, 0.5, 1.5)),
            crashes=rng.choice((0.0, 0.3, 1.5)),
            stalls=rng.choice((0.0, 0.0, 1.0)),
            slow_disks=rng.choice((0.0, 0.0, 0.002, 0.02, 0.1)),
            failing_disks=rng.choice((0.0, 0.0, 0.5)),
            lost_disks=rng.choice((0.0, 1.0)),
            clock_drift=rng.choice((0.0, 0.05, 0.2)),
            changes=rng.choice((0.0, 2.0)),
            transfers=rng.choice((0.0, 0.5)),
            elections=rng.choice((0.0, 0.3, 2.0)),
            strangers=rng.choice((0.0, 0.5)),
            snapshots=rng.choice((0.0, 0.5, 2.0)),
            damage=rng.choice((0.0, 0.0, 0.05)),
        )


_WANTED: Final = "amounts are finite numbers that are not negative, and ranges pairs of them"


def _is_amount(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and value >= 0
    )
