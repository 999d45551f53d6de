"""Simulations by the thousand, each from its seed, on every core of the machine.

Knows how to spread seeds over processes, add up what they met, and say how fast that went. Must not
know what is simulated: that is a function from a seed to a `Simulation`.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from multiprocessing import get_context
from typing import Any, Final, TypeAlias

from exraft.machine import StateMachine
from exraft.testing.models import MachineModel
from exraft.testing.simulation import Report, Simulation, SimulationFailed

Make: TypeAlias = Callable[[int], Simulation]
"""What a campaign runs: a function from a seed to a simulation."""

EXERCISED: Final = (
    "additions",
    "batches",
    "crashes between two steps",
    "crashes, restarted by the supervisor",
    "crashes, started as a new process",
    "cuts of a group",
    "cuts of one direction",
    "cuts of one link",
    "disks that failed",
    "elections",
    "elections triggered",
    "foreign messages",
    "foreign servers to be added",
    "leaders deposed unawares",
    "leaders gone",
    "leaders resumed",
    "leaders that heard no quorum",
    "messages cut off",
    "messages delayed",
    "messages doubled",
    "messages lost",
    "messages reordered",
    "quiet times in which nothing happens",
    "quiet times in which one is away",
    "quiet times in which one link is cut",
    "quiet times in which the leader is away",
    "quiet times without a minority",
    "readmissions",
    "reads answered",
    "reads timed out",
    "reads tried again",
    "removals",
    "removals of the leader",
    "side effects",
    "slow syncs",
    "stalls",
    "stores lost, found out by the others",
    "stores lost, on standby",
    "transfers",
    "truncations",
    "unsynced writes lost",
    "writes answered",
    "writes answered by an exception",
    "writes left unknown",
    "writes refused",
    "writes timed out",
    "writes tried again",
    "writes withdrawn",
)
"""What many seeds together must have met to prove anything."""

CHUNK: Final = 10
"""Seeds that a process is given at once."""


class Shop(StateMachine):
    """What is simulated if nothing else is given: stock by item, which never falls below nothing.

    Commands add, take and set; some are refused by the filter, some raise, some have side effects.
    """

    def is_command(self, command: tuple[str, str, int], state: dict[str, int]) -> bool:
        return command[0] != "steal"

    def handle_write(self, command: Any, state: dict[str, int]) -> Any:
        verb, item, number = command
        held = state.get(item, 0)
        if verb == "take" and held < number:
            raise LookupError(f"{held} of {item}, not {number}")
        if verb == "set":
            state[item] = number
            return held, state
        state[item] = held + number if verb == "add" else held - number
        return state[item], state, [_nothing]

    def handle_read(self, query: Any, state: dict[str, int]) -> int:
        return state.get(query[1], 0)


def _nothing() -> None:
    """A side effect."""


def _command(rng: random.Random) -> tuple[str, str, int]:
    verb = ("add", "add", "take", "set", "steal")[int(rng.random() * 5.05) % 5]
    return verb, "abcd"[int(rng.random() * 4)], int(rng.random() * 50)


def _query(rng: random.Random) -> tuple[str, str]:
    return "count", "abcd"[int(rng.random() * 4)]


def _never_negative(state: dict[str, int]) -> bool:
    return all(number >= 0 for number in state.values())


def default(seed: int, servers: tuple[int, int] = (3, 7)) -> Simulation:
    """Return the simulation that this project is tested by."""
    few, many = servers
    return Simulation(
        Shop,
        {},
        commands=_command,
        queries=_query,
        check=_never_negative,
        model=MachineModel(Shop, {}, key=lambda call, kind: call[1]),
        servers=few + random.Random(f"{seed} servers").randrange(many + 1 - few),
        seed=seed,
    )


@dataclass
class Total:
    """What the seeds of a campaign have been through together."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    """Virtual ones."""
    commits: int = 0
    undecided: int = 0
    """Histories of which it was not found out if they are linearizable."""
    least_steps: int = 0
    least_commits: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """Real seconds."""

    def add(self, report: Report) -> None:
        first = not self.seeds
        self.seeds += 1
        self.steps += report.steps
        self.seconds += report.seconds
        self.commits += report.commits
        self.undecided += not report.decided
        self.counts += report.counts
        self.least_steps = report.steps if first else min(self.least_steps, report.steps)
        self.least_commits = report.commits if first else min(self.least_commits, report.commits)

    def merge(self, other: Total) -> None:
        if not self.seeds:
            self.least_steps, self.least_commits = other.least_steps, other.least_commits
        elif other.seeds:
            self.least_steps = min(self.least_steps, other.least_steps)
            self.least_commits = min(self.least_commits, other.least_commits)
        self.seeds += other.seeds
        self.steps += other.steps
        self.seconds += other.seconds
        self.commits += other.commits
        self.undecided += other.undecided
        self.counts += other.counts

    def missing(self) -> list[str]:
        """Return what was not met at all."""
        return [kind for kind in EXERCISED if not self.counts[kind]]

    def lines(self) -> list[str]:
        """Return it for people."""
        lines = [f"{count:14,}  {kind}" for kind, count in sorted(self.counts.items())]
        lines += [f"{'none':>14}  {kind}" for kind in self.missing()]
        rate = max(self.took, 1e-9)
        lines.append(
            f"{self.seeds:,} seeds in {self.took:,.1f} s: {self.seeds / rate:,.1f} seeds/s,"
            f" {self.steps / rate:,.0f} steps/s, {self.seconds / 60 / rate:,.1f} simulated hours"
            " a minute"
        )
        lines.append(
            f"{self.steps:,} steps (at least {self.least_steps:,} a seed), {self.commits:,} commits"
            f" (at least {self.least_commits:,}), {self.undecided:,} histories undecided"
        )
        return lines


@dataclass(frozen=True)
class Failed:
    """A seed in which an invariant does not hold."""

    seed: int
    invariant: str
    text: str


def named(name: str) -> Make:
    """Return the function from a seed to a simulation that `module:function` names.

    Raises:
        ValueError: it is no such name, or there is no such module or function.
    """
    module, _, function = name.partition(":")
    if not module or not function or module.startswith("."):
        raise ValueError(f"{name!r} is not like module:function")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name} is {found!r}, and not a function from a seed to a Simulation")
    make: Make = found
    return make


def run_seeds(make: Make, seeds: Iterable[int]) -> tuple[Total, Failed | None]:
    """Run seeds one after the other, up to the first that fails."""
    total = Total()
    began = time.perf_counter()
    failed = None
    for seed in seeds:
        simulation = make(seed)
        if not isinstance(simulation, Simulation):
            raise TypeError(f"{make!r} returned {simulation!r} for {seed}, and no Simulation")
        try:
            total.add(simulation.run())
        except SimulationFailed as failure:
            failed = Failed(seed, failure.invariant, str(failure))
            break
    total.took = time.perf_counter() - began
    return total, failed


def run_campaign(
    name: str,
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    progress: Callable[[Total], None] = lambda total: None,
) -> tuple[Total, Failed | None]:
    """Run seeds side by side, up to the first that fails.

    Args:
        name: of the function from a seed to a simulation, as `module:function`.
        seeds: which ones.
        jobs: processes; one a core of the machine, if not given.
        progress: is called with what was done so far.

    Returns:
        what was met, and the failure, if there was one.

    Raises:
        ValueError: `name` names nothing.
    """
    named(name)
    total = Total()
    began = time.perf_counter()
    jobs = jobs or os.cpu_count() or 1
    chunks = (tuple(seeds[at : at + CHUNK]) for at in range(0, len(seeds), CHUNK))
    failed: Failed | None = None
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for part, found in _each(pool, name, chunks, jobs):
            total.merge(part)
            total.took = time.perf_counter() - began
            progress(total)
            if found is not None:
                failed = found
                pool.shutdown(cancel_futures=True)
                break
    total.took = time.perf_counter() - began
    return total, failed


def _each(
    pool: ProcessPoolExecutor, name: str, chunks: Iterator[tuple[int, ...]], jobs: int
) -> Iterator[tuple[Total, Failed | None]]:
    """Only as many chunks wait as keep the processes busy, so that a failure stops the rest."""
    running: dict[Future[tuple[Total, Failed | None]], None] = {}
    while True:
        for chunk in islice(chunks, 2 * jobs - len(running)):
            running[pool.submit(_run_chunk, name, chunk)] = None
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in [each for each in running if each in done]:
            del running[future]
            yield future.result()


def _run_chunk(name: str, seeds: tuple[int, ...]) -> tuple[Total, Failed | None]:
    return run_seeds(named(name), seeds)
