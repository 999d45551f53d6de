"""A follower that was away for many writes, and comes back while the writes go on.

Knows when it counts as caught up. Must not know how it gets what it lacks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from exraft import ExRaft, Peer
from tests.soak.traffic import LIMIT, NAMES, OUTSTANDING, Writer, cluster, start

STEP = 1000
"""Writes between two looks."""

LEAST = 20 * STEP
"""Writes over which the rate is taken, however soon it is back."""


@dataclass(frozen=True, slots=True)
class Return:
    """How a follower came back; rates in writes a second, times in seconds."""

    missed: int
    before: float
    meanwhile: float
    took: float
    by_snapshot: bool

    def __str__(self) -> str:
        way = "a snapshot and the log after it" if self.by_snapshot else "the log"
        return (
            f"away for {self.missed:,} writes, back within {self.took:.1f} s by {way};"
            f" {self.before:,.0f} writes/s before, {self.meanwhile:,.0f} meanwhile"
            f" ({self.meanwhile / self.before:.0%})"
        )


def run(
    directory: Path,
    writes: int,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Return:
    """Stop a follower, write, start it again, and write on until it has caught up."""
    with cluster(directory, **options) as leader:
        writer = Writer(leader)
        writer.write(STEP)
        away = next(name for name in NAMES if name != leader.name)
        ExRaft.stop_server(away)
        rates = []
        for done in range(0, writes, STEP):
            rates.append(writer.write(STEP))
            if done % (20 * STEP) == 0:
                progress(f"{done:,} of {writes:,} writes without it, {rates[-1]:,.0f} a second")
        began = monotonic()
        had = writer.acknowledged
        back = threading.Thread(target=start, args=(away, directory), kwargs=options)
        back.start()
        took = None
        while took is None or writer.acknowledged < had + LEAST:
            writer.write(STEP)
            if took is None and _has_caught_up(away, leader, back):
                took = monotonic() - began
            if monotonic() - began > LIMIT:
                raise AssertionError(f"{away} has not caught up within {LIMIT:.0f} s")
        meanwhile = (writer.acknowledged - had) / (monotonic() - began)
        status = ExRaft.status(away, LIMIT)
        writer.settle()
        by_snapshot = status.first_index > had - writes
    return Return(writes, median(rates[-100:]), meanwhile, took, by_snapshot)


def _has_caught_up(away: str, leader: Peer, back: threading.Thread) -> bool:
    """Whether it lacks no more than what is under way."""
    if back.is_alive():
        return False
    has = ExRaft.status(away, LIMIT).applied_index
    return has >= ExRaft.status(leader, LIMIT).commit_index - 2 * OUTSTANDING
