"""A failing run, made as short as it can be made within a number of tries.

Knows how to leave things out: happenings, calls, kinds of faults, and the time after. Must not know
what any of them means; a run that still fails in the same way is a better one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from exraft.testing.faults import Faults
from exraft.testing.invariants import Violation
from exraft.testing.plan import Plan
from exraft.testing.simulation import BEGINNING, Report, Run, Simulation, SimulationFailed

_NETWORK: Final = ("loss", "doubling", "delay", "lag", "slow_disks", "clock_drift", "damage")
"""What has a part in a run whose happenings are given."""
_LINE: Final = re.compile(r'^ *File (".*", line \d+), in ', re.MULTILINE)
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+")
_WHERE: Final = re.compile(r":? after \d+ on ")


def shrunk(simulation: Simulation, failed: Run, found: Violation) -> SimulationFailed:
    """Return what is to be said of a failed run, with the shortest one that was found."""
    before = failed.report()
    shrinking = Shrinking(simulation, found, before)
    stopped = ""
    try:
        shrinking.run()
    except KeyboardInterrupt:
        # Who does not wait for the end of the search still wants to see what was found.
        stopped = " and an interruption"
    last = Run(simulation, shrinking.faults, shrinking.plan, trace=True)
    again = _outcome(last)
    what = found.what.partition("\n")[0]
    story = (
        f"seed {simulation.seed}: {before.servers} servers, {before.steps:,} steps,"
        f" {len(before.plan.happenings):,} happenings: {what}\n"
    )
    if again is None or outline(again) != outline(found):
        # Not even the run itself fails again: something besides the seed has a say in it.
        story += (
            "and a second run of it went otherwise: does the machine, commands or queries use"
            " chance, time, or the order of a set?"
        )
        return SimulationFailed(found, before, simulation.again, story)
    report = last.report()
    story += (
        f"Shrunk in {shrinking.tried:,} runs{stopped} to {report.steps:,} steps and"
        f" {_named(shrinking.plan)}, with {_told(shrinking.faults)}:"
    )
    return SimulationFailed(again, report, simulation.again, story)


def outline(found: Violation) -> tuple[str, ...]:
    """Return what two violations have in common if they are the same failure.

    That is the invariant and, where a machine may break it in several ways, which of them: what was
    raised by which line, or what the test says of the state, whatever the numbers in it.
    """
    if found.invariant == "nothing raises":
        kind, _, rest = found.what.partition(":")
        return found.invariant, kind, *_LINE.findall(rest)[-1:]
    if found.invariant == "the machine's own":
        return found.invariant, _NUMBER.sub("#", _WHERE.split(found.what)[0])
    return (found.invariant,)


class Shrinking:
    """The search for a run of fewer happenings, and no more steps, that fails as `found` did.

    Attributes:
        plan: of the shortest run so far.
        faults: of the shortest run so far.
        tried: how many runs there were.
    """

    def __init__(self, simulation: Simulation, found: Violation, report: Report) -> None:
        self.plan = report.plan
        self.faults = report.faults
        self.tried = 0
        self._simulation = simulation
        self._outline = outline(found)
        self._steps = report.steps
        self._most = simulation.shrink

    def run(self) -> None:
        while True:
            before = (self.plan, self.faults)
            self._leave_out_happenings()
            self._leave_out_calls()
            self._leave_out_faults()
            if (self.plan, self.faults) == before or self.tried >= self._most:
                return

    def _fails(self, plan: Plan, faults: Faults) -> bool:
        """Try it; if it fails, it is the shortest so far."""
        if self.tried >= self._most:
            return False
        self.tried += 1
        run = Run(self._simulation, faults, plan, trace=False)
        found = _outcome(run)
        if found is None or outline(found) != self._outline or run.world.steps > self._steps:
            return False
        self.plan, self.faults = plan, faults
        return True

    def _leave_out_happenings(self) -> None:
        """Leave out halves, quarters, and so on, down to one (Zeller's delta debugging)."""
        size = max(1, len(self.plan.happenings) // 2)
        while True:
            if not any(self._fails(each, self.faults) for each in _without(self.plan, size)):
                if size == 1 or self.tried >= self._most:
                    return
                size = max(1, size // 2)
            size = min(size, max(1, len(self.plan.happenings) // 2))

    def _leave_out_calls(self) -> None:
        """Leave out all that come after the faults, or half of them, and so on, down to one."""
        fewer = self.plan.calls
        while fewer:
            left = self.plan.calls - fewer
            if left < 0 or not self._fails(replace(self.plan, calls=left), self.faults):
                fewer //= 2

    def _leave_out_faults(self) -> None:
        for name in _NETWORK:
            nothing = getattr(Faults(), name)
            if getattr(self.faults, name) != nothing:
                self._fails(self.plan, replace(self.faults, **{name: nothing}))


def _outcome(run: Run) -> Violation | None:
    """Live through a run like the one that failed.

    What is raised out of it is the test's own mistake, in commands that the other run did not draw:
    that must not hide what was found.
    """
    try:
        return run.live()
    except Exception:
        return None


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
            yield replace(plan, happenings=left, end=end)


def _named(plan: Plan) -> str:
    counts = Counter(happening.kind for happening in plan.happenings)
    told = [f"{count} x {kind}" for kind, count in counts.items()]
    if plan.calls:
        told.append(f"{plan.calls} x a call after the faults")
    return ", ".join(told) if told else "nothing happening"


def _told(faults: Faults) -> str:
    left = [
        f"{name} {getattr(faults, name)}"
        for name in _NETWORK
        if getattr(faults, name) != getattr(Faults(), name)
    ]
    return ", ".join(left) if left else "a network in good order"
