"""Simulations by the thousand, each from its seed, on every core of the machine.

Knows how to spread seeds over processes, add up what they met, and say how fast that went. Must not
know what is simulated: that is a function from a seed to a `Simulation`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any, Final, TypeAlias

from exraft.machine import RELEASE_CURSOR, StateMachine
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
    "disks that were full",
    "elections",
    "elections triggered",
    "foreign messages",
    "foreign servers to be added",
    "installs undone by a power failure",
    "leaders deposed unawares",
    "leaders gone",
    "connections lost",
    "leaders resumed",
    "leaders that heard no quorum",
    "logs cut",
    "messages cut off",
    "messages delayed",
    "messages doubled",
    "messages lost",
    "messages reordered",
    "pieces of snapshots",
    "pieces of snapshots damaged",
    "power failures at any operation",
    "power failures while a store was opened",
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
    "snapshots installed",
    "snapshots lost with their server",
    "snapshots restored",
    "snapshots taken",
    "snapshots that arrived damaged",
    "snapshots that the machine asked for",
    "snapshots without room",
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
PATIENCE: Final = 5.0
"""Seconds that a process is given to end."""


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
        if not state[item]:
            return 0, state, [_nothing, RELEASE_CURSOR]
        return state[item], state, [_nothing]

    def handle_read(self, query: Any, state: dict[str, int]) -> int:
        return state.get(query[1], 0)

    def handle_system_write(self, kind: str, content: Any, state: dict[str, int]) -> Any:
        if kind == "config":
            state["members"] = len(content.voters)
        return state, [_nothing]


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
    suffered_steps: int = 0
    """While faults were on."""
    suffered_commits: int = 0
    undecided: int = 0
    """Histories of which it was not found out if they are linearizable."""
    least_steps: int = 0
    least_commits: int = 0
    least_suffered_steps: int = 0
    least_suffered_commits: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """Real seconds."""

    def add(self, report: Report) -> None:
        self.merge(
            Total(
                seeds=1,
                steps=report.steps,
                seconds=report.seconds,
                commits=report.commits,
                suffered_steps=report.suffered_steps,
                suffered_commits=report.suffered_commits,
                undecided=int(not report.decided),
                least_steps=report.steps,
                least_commits=report.commits,
                least_suffered_steps=report.suffered_steps,
                least_suffered_commits=report.suffered_commits,
                counts=report.counts,
            )
        )

    def merge(self, other: Total) -> None:
        for least in ("steps", "commits", "suffered_steps", "suffered_commits"):
            name = f"least_{least}"
            known = [getattr(each, name) for each in (self, other) if each.seeds]
            setattr(self, name, min(known, default=0))
        self.seeds += other.seeds
        self.steps += other.steps
        self.seconds += other.seconds
        self.commits += other.commits
        self.suffered_steps += other.suffered_steps
        self.suffered_commits += other.suffered_commits
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
        lines += [
            f"{self.steps:,} steps (at least {self.least_steps:,} a seed), of them"
            f" {self.suffered_steps:,} under faults (at least {self.least_suffered_steps:,})",
            f"{self.commits:,} commits (at least {self.least_commits:,} a seed), of them"
            f" {self.suffered_commits:,} under faults (at least {self.least_suffered_commits:,})",
            f"{self.undecided:,} histories undecided",
        ]
        return lines


@dataclass(frozen=True)
class Failed:
    """A seed that did not come to a good end.

    Attributes:
        seed: which one.
        invariant: which one does not hold; `""` if it is the test itself that failed: it raised an
            exception, or its process died.
        text: what happened, for people.
    """

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
    except (Exception, SystemExit) as error:
        # A module may raise anything while it is imported.
        why = " ".join(str(error).split())
        raise ValueError(f"{name}: {type(error).__name__}: {why}") from error
    if not callable(found):
        raise ValueError(f"{name} is {found!r}, and not a function from a seed to a Simulation")
    make: Make = found
    return make


def made(make: Make, seed: int) -> Simulation:
    """Return the simulation of a seed.

    Raises:
        TypeError: `make` returned something else.
        ValueError: it returned the simulation of another seed.
        Exception: what `make` raises.
    """
    simulation: object = make(seed)
    if not isinstance(simulation, Simulation):
        raise TypeError(f"{make!r} returned {simulation!r} for {seed}, and no Simulation")
    if simulation.seed != seed:
        raise ValueError(
            f"{make!r} returned the simulation of seed {simulation.seed} for {seed}: it must pass"
            " seed= on"
        )
    return simulation


def raised(seed: int) -> str:
    """Say of the exception that is being handled that it is the test's, and whose seed it was."""
    return f"seed {seed}: the test itself raised\n{traceback.format_exc().rstrip()}"


def run_seeds(make: Make, seeds: Iterable[int]) -> tuple[Total, Failed | None]:
    """Run seeds one after the other, up to the first that fails.

    Whatever `make` and its simulation raise is a failure of that seed.
    """
    total = Total()
    began = time.perf_counter()
    failed = None
    for seed in seeds:
        try:
            total.add(made(make, seed).run())
        except SimulationFailed as failure:
            failed = Failed(seed, failure.invariant, str(failure))
        except (Exception, SystemExit):
            failed = Failed(seed, "", raised(seed))
        if failed is not None:
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

    An exception of the test, and the death of a process, are failures of the seed that was running.
    The processes end before this does, however it ends; Ctrl-C is this process's alone.

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
    chunks = iter([seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)])
    failed: Failed | None = None
    with _Workers(name, min(jobs, -(-len(seeds) // CHUNK))) as workers:
        for part, failed in workers.run(chunks):
            total.merge(part)
            total.took = time.perf_counter() - began
            progress(total)
            if failed is not None:
                break
    total.took = time.perf_counter() - began
    return total, failed


class _Workers:
    """Processes that run seeds, until this is left.

    Not a `ProcessPoolExecutor`: that does not tell which seed a process died of, and does not end
    processes that are at work.
    """

    def __init__(self, name: str, jobs: int) -> None:
        self._name = name
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            # What is tested may have made it deaf to termination.
            worker.process.kill()
            worker.process.join()

    def run(self, chunks: Iterator[Sequence[int]]) -> Iterator[tuple[Total, Failed | None]]:
        """Run chunks of seeds; yield what came of each seed."""
        context = get_context("spawn")
        for _ in range(self._jobs):
            self._workers.append(_Worker(context, self._name))
        busy = [worker for worker in self._workers if worker.take(chunks)]
        while busy:
            ready = wait([worker.pipe for worker in busy])
            for worker in [each for each in busy if each.pipe in ready]:
                yield worker.answer()
                if not worker.seeds and not worker.take(chunks):
                    busy.remove(worker)


class _Worker:
    """A process, and the seeds it still has to run."""

    def __init__(self, context: SpawnContext, name: str) -> None:
        self.pipe, theirs = context.Pipe()
        self.seeds: list[int] = []
        self.process = context.Process(target=_work, args=(name, theirs))
        with _deaf_children():
            self.process.start()
        # Or its death would not end the pipe.
        theirs.close()

    def take(self, chunks: Iterator[Sequence[int]]) -> bool:
        """Give it something to do, if there is anything left."""
        self.seeds = list(next(chunks, ()))
        if self.seeds:
            try:
                self.pipe.send(self.seeds)
            except OSError:
                # It is dead, which its answer will tell.
                return True
        return bool(self.seeds)

    def answer(self) -> tuple[Total, Failed | None]:
        """What came of the first of its seeds."""
        seed = self.seeds.pop(0)
        try:
            total, failed = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            text = f"seed {seed}: its process died with exit code {self.process.exitcode}"
            return Total(), Failed(seed, "", text)
        return total, failed


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let a process that is started be deaf to Ctrl-C from its first moment on.

    Ctrl-C reaches every process at the terminal; the one that began the campaign ends the others.
    """
    # Nobody else may set what a signal does; `_work` then has to.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(name: str, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make = named(name)
    while True:
        try:
            seeds = pipe.recv()
        except EOFError:
            return
        for seed in seeds:
            pipe.send(run_seeds(make, [seed]))
