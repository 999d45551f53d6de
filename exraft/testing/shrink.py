"""A failing run, made as short as it can be made within a number of tries.

Knows how to leave things out: happenings, kinds of faults, and the time after. Must not know what
any of them means; a run that still breaks the same invariant is a better one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from exraft.testing.faults import Faults
from exraft.testing.invariants import Violation
from exraft.testing.plan import Happening, Plan
from exraft.testing.simulation import BEGINNING, Run, Simulation, SimulationFailed

_NETWORK = ("loss", "doubling", "delay", "lag", "slow_disks", "clock_drift")
"""What has a part in a run whose happenings are given."""


def shrunk(simulation: Simulation, failed: Run, found: Violation) -> SimulationFailed:
    """Return what is to be said of a failed run, with the shortest one that was found."""
    before = failed.report()
    shrinking = Shrinking(simulation, found.invariant, before.steps)
    plan, faults = shrinking.run(before.plan, failed.faults)
    last = Run(simulation, faults, plan, trace=True)
    again = last.live()
    if again is None or again.invariant != found.invariant:
        # Not even the run itself fails again: something besides the seed has a say in it.
        return SimulationFailed(
            found,
            before,
            simulation.again,
            f"seed {simulation.seed}, and a second run of it went otherwise: does the machine,"
            " commands or queries use chance, time, or the order of a set?",
        )
    report = last.report()
    story = (
        f"seed {simulation.seed}: {before.servers} servers, {before.steps:,} steps,"
        f" {len(before.plan.happenings):,} happenings. Shrunk in {shrinking.tried:,} runs to"
        f" {report.steps:,} steps and {_named(plan.happenings)}, with {_told(faults)}:"
    )
    return SimulationFailed(again, report, simulation.again, story)


class Shrinking:
    """The search for a run of fewer happenings, and no more steps, that breaks `invariant`."""

    def __init__(self, simulation: Simulation, invariant: str, steps: int) -> None:
        self.tried = 0
        self._simulation = simulation
        self._invariant = invariant
        self._steps = steps
        self._most = simulation.shrink

    def run(self, plan: Plan, faults: Faults) -> tuple[Plan, Faults]:
        while True:
            before = (plan, faults)
            plan = self._fewer(plan, faults)
            faults = self._milder(plan, faults)
            if (plan, faults) == before or self.tried >= self._most:
                return plan, faults

    def _fails(self, plan: Plan, faults: Faults) -> bool:
        if self.tried >= self._most:
            return False
        self.tried += 1
        run = Run(self._simulation, faults, plan, trace=False)
        found = run.live()
        if found is None or found.invariant != self._invariant:
            return False
        return run.world.steps <= self._steps

    def _fewer(self, plan: Plan, faults: Faults) -> Plan:
        """Leave out halves, quarters, and so on, down to one (Zeller's delta debugging)."""
        size = max(1, len(plan.happenings) // 2)
        while True:
            for candidate in _without(plan, size):
                if self._fails(candidate, faults):
                    plan = candidate
                    break
            else:
                if size == 1 or self.tried >= self._most:
                    return plan
                size = max(1, size // 2)
            size = min(size, max(1, len(plan.happenings) // 2))

    def _milder(self, plan: Plan, faults: Faults) -> Faults:
        for name in _NETWORK:
            nothing = getattr(Faults(), name)
            if getattr(faults, name) != nothing:
                candidate = replace(faults, **{name: nothing})
                if self._fails(plan, candidate):
                    faults = candidate
        return faults


def _without(plan: Plan, size: int) -> Iterator[Plan]:
    """The plan without each run of `size` happenings, the last ones first."""
    happenings = plan.happenings
    for first in range((max(0, len(happenings) - 1) // size) * size, -1, -size):
        left = happenings[:first] + happenings[first + size :]
        end = plan.end
        if first + size >= len(happenings):
            # Nothing happens after the last one that is left.
            end = min(end, BEGINNING + (left[-1].at if left else 0.0) + 1.0)
        if len(left) < len(happenings):
            yield Plan(left, end)


def _named(happenings: tuple[Happening, ...]) -> str:
    if not happenings:
        return "nothing happening"
    counts: dict[str, int] = {}
    for happening in happenings:
        counts[happening.kind] = counts.get(happening.kind, 0) + 1
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def _told(faults: Faults) -> str:
    left = [
        f"{name} {getattr(faults, name)}"
        for name in _NETWORK
        if getattr(faults, name) != getattr(Faults(), name)
    ]
    return ", ".join(left) if left else "a network in good order"
