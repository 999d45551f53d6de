"""What notices a broken rule without having been written for it: the scenarios and the simulation.

Knows how each of them is run, and when it has failed. Must not know what is broken meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from exraft.testing.campaign import default
from exraft.testing.invariants import Violation
from tests.mutants.aside import Tell
from tests.scenarios.script import run_script

SCRIPTS: Final = sorted((Path(__file__).parents[1] / "scenarios").rglob("*.txt"))


class Story(NamedTuple):
    """A scenario script was run."""

    name: str
    failed: bool
    seconds: float


class Seed(NamedTuple):
    """A cluster was simulated from a seed."""

    number: int
    why: str
    """Empty if everything held."""


def tell_stories(tell: Tell) -> None:
    """Run the scenario scripts, up to the first that fails."""
    for script in SCRIPTS:
        began = perf_counter()
        failed = False
        try:
            run_script(script)
        except Exception:
            # A line is not met; or the core raises what it never should.
            failed = True
        tell(Story(script.stem, failed, perf_counter() - began))
        if failed:
            return


def sow_seeds(count: int, tell: Tell) -> None:
    """Simulate clusters from so many seeds, up to the first in which something does not hold."""
    for seed in range(count):
        why = simulate(seed)
        tell(Seed(seed, why))
        if why:
            return


def simulate(seed: int) -> str:
    """What does not hold in the cluster of that seed; empty if everything does."""
    simulation = default(seed)
    simulation.events, simulation.commits, simulation.shrink = 600, 20, 0
    try:
        simulation.run()
    except Violation as violation:
        return violation.invariant
    return ""
