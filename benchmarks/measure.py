"""How a figure is taken: calls are timed, samples repeated, and floors measured beside them.

Knows clocks, threads, memory and medians. Must not know what it is that is measured.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from sys import maxsize
from time import perf_counter, process_time
from typing import TypeVar

from benchmarks.rows import Row

Handle = TypeVar("Handle")

OUTSTANDING = 1000
"""How many calls a pipelined caller has on their way, at most."""

DEADLINE = 60.0
"""Seconds after which a call that nobody answers ends the run."""

log = logging.getLogger("benchmarks")
"""Hears what is being measured."""

_AROUND_A_FAULT = 5
"""Writes acknowledged before a fault and after it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows to measure, and how thoroughly: lengths in seconds, sizes in entries and keys."""

    rows: str = "*"
    seconds: float = 0.2
    repetitions: int = 9
    failovers: int = 5
    short_log: int = 1_000
    long_log: int = 200_000
    many_keys: int = 100_000
    many_children: int = 1_000
    peer_log: int = 20_000
    kills: int = 10
    most_outstanding: int = 10_000

    def wants(self, subject: str, *names: str) -> bool:
        return any(
            fnmatchcase(f"{subject}/{name}", self.rows) or fnmatchcase(name, self.rows)
            for name in names
        )


QUICK = Plan(
    seconds=0.1,
    repetitions=3,
    failovers=1,
    long_log=20_000,
    many_keys=20_000,
    peer_log=5_000,
    kills=1,
    most_outstanding=OUTSTANDING,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What many calls took: calls per second all together, and seconds for one of them."""

    calls: int
    rate: float
    p50: float
    p99: float
    cpu: float
    """Seconds of processor time a call, of all threads together."""


Measured = Callable[[float], Sample]
"""Takes a sample for about as many seconds as it is told."""


@dataclass(frozen=True, slots=True)
class Work:
    """A row to be measured, and how many times which floor it is to be compared with."""

    name: str
    unit: str
    run: Measured
    floor: str | None = None
    times: int = 1

    def figure(self, sample: Sample) -> float:
        return sample.p50 * 1e3 if self.unit == "ms" else sample.rate


def blocking(call: Callable[[], object], threads: int = 1, most: int | None = None) -> Measured:
    """Each thread calls, waits for the answer, and calls again.

    All of them stop after about `most` calls if that comes before the time is over.
    """
    share = maxsize if most is None else -(-most // threads)

    def caller(start: threading.Barrier, seconds: float) -> list[float]:
        start.wait()
        times = [perf_counter()]
        deadline = times[0] + seconds
        while times[-1] < deadline and len(times) <= share:
            call()
            times.append(perf_counter())
        return times

    def measured(seconds: float) -> Sample:
        start = threading.Barrier(threads)
        used = process_time()
        with ThreadPoolExecutor(threads) as pool:
            callers = [pool.submit(caller, start, seconds) for _ in range(threads)]
            runs = [each.result() for each in callers]
        used = process_time() - used
        elapsed = max(run[-1] for run in runs) - min(run[0] for run in runs)
        laps = sorted(
            after - before for run in runs for before, after in zip(run, run[1:], strict=False)
        )
        return Sample(
            calls=len(laps),
            rate=len(laps) / elapsed,
            p50=median(laps),
            p99=laps[int(len(laps) * 0.99)],
            cpu=used / len(laps),
        )

    return measured


def timed(call: Callable[[], float]) -> Measured:
    """One caller calls again and again; each call says how many seconds of it are to count."""

    def measured(seconds: float) -> Sample:
        laps = []
        used = process_time()
        began = perf_counter()
        deadline = began + seconds
        while perf_counter() < deadline:
            laps.append(call())
        elapsed = perf_counter() - began
        used = process_time() - used
        laps.sort()
        return Sample(
            calls=len(laps),
            rate=len(laps) / elapsed,
            p50=median(laps),
            p99=laps[int(len(laps) * 0.99)],
            cpu=used / len(laps),
        )

    return measured


def pipelined(
    submit: Callable[[], Handle],
    wait: Callable[[Handle], object],
    most: int | None = None,
    outstanding: int = OUTSTANDING,
) -> Measured:
    """One caller sends, and from `outstanding` calls on waits for the oldest each time.

    It stops after `most` calls if that comes before the time is over.
    """
    limit = maxsize if most is None else most

    def measured(seconds: float) -> Sample:
        waiting: deque[Handle] = deque()
        calls = 0
        used = process_time()
        began = perf_counter()
        deadline = began + seconds
        while calls < limit and perf_counter() < deadline:
            waiting.append(submit())
            calls += 1
            if len(waiting) >= outstanding:
                wait(waiting.popleft())
        while waiting:
            wait(waiting.popleft())
        elapsed = perf_counter() - began
        used = process_time() - used
        each = elapsed / calls
        return Sample(calls=calls, rate=1 / each, p50=each, p99=each, cpu=used / calls)

    return measured


def fill(submit: Callable[[], Handle], wait: Callable[[Handle], object], calls: int) -> None:
    """Make so many calls, as fast as they go."""
    pipelined(submit, wait, most=calls)(float("inf"))


def compared(
    subject: str, works: Sequence[Work], floors: Mapping[str, Measured], plan: Plan
) -> Iterator[Row]:
    """Measure a subject's works; see `interleaved`."""
    return interleaved([(subject, work) for work in works], floors, plan)


def interleaved(
    works: Sequence[tuple[str, Work]], floors: Mapping[str, Measured], plan: Plan
) -> Iterator[Row]:
    """Measure the works in turn, over and over, and each time the floors that they need first.

    The machine's pace changes by the minute: what is compared is taken in the same round, and the
    ratio of a row is the median of the ratios of its rounds. Works with the same `run` are rows of
    the same samples.
    """
    chosen = [(subject, work) for subject, work in works if plan.wants(subject, work.name)]
    bases: dict[str, list[Sample]] = {
        work.floor: [] for _, work in chosen if work.floor is not None
    }
    samples: list[list[Sample]] = [[] for _ in chosen]
    for run, name in {work.run: f"{subject}/{work.name}" for subject, work in chosen}.items():
        log.info("%s, warming up", name)
        run(plan.seconds / 5)
    for again in range(1, plan.repetitions + 1):
        for name, taken in bases.items():
            taken.append(floors[name](plan.seconds / 2))
        fresh: dict[Measured, Sample] = {}
        for (subject, work), taken in zip(chosen, samples, strict=True):
            if work.run not in fresh:
                log.info("%s/%s, %d of %d", subject, work.name, again, plan.repetitions)
                fresh[work.run] = work.run(plan.seconds)
            taken.append(fresh[work.run])
    for (subject, work), taken in zip(chosen, samples, strict=True):
        yield _row(subject, work, taken, bases[work.floor] if work.floor else [])


def _row(subject: str, work: Work, samples: list[Sample], bases: list[Sample]) -> Row:
    values = [work.figure(sample) for sample in samples]
    lows = [work.figure(base) * work.times for base in bases]
    return Row(
        subject,
        work.name,
        work.unit,
        median(values),
        p99=median(sample.p99 for sample in samples) * 1e3 if work.unit == "ms" else None,
        cpu=median(sample.cpu for sample in samples) * 1e6,
        samples=tuple(values),
        floor=(f"{work.times} x {work.floor}" if work.times > 1 else work.floor),
        floor_value=median(lows) if lows else None,
        ratio=median(v / low for v, low in zip(values, lows, strict=True)) if lows else None,
    )


def row_of(subject: str, name: str, unit: str, values: Sequence[float]) -> Row:
    """A row of figures that stand beside no floor."""
    return Row(subject, name, unit, median(values), samples=tuple(values))


def outage(
    write: Callable[[], object], refused: type[Exception], fault: Callable[[], object]
) -> float:
    """Milliseconds for which one blocking writer got nothing acknowledged around a fault.

    The longest wait between two acknowledgements: a write that slips in before the fault has struck
    cannot shorten it.
    """
    acknowledged: list[float] = []

    def acknowledge(writes: int) -> None:
        until = perf_counter() + DEADLINE
        goal = len(acknowledged) + writes
        while len(acknowledged) < goal:
            try:
                write()
            except refused:
                if perf_counter() > until:
                    raise
            else:
                acknowledged.append(perf_counter())

    acknowledge(_AROUND_A_FAULT)
    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(fault)
        while not striking.done():
            acknowledge(1)
        striking.result()
    acknowledge(_AROUND_A_FAULT)
    return 1e3 * max(b - a for a, b in zip(acknowledged, acknowledged[1:], strict=False))


@contextmanager
def cpu_bound_thread() -> Iterator[None]:
    """A neighbour in the process that never waits, and gives the interpreter up only when told."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            sum(range(100))

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory_per_entry(action: Callable[[], object], entries: int, servers: int) -> float:
    """Bytes that the process grew by, per entry and server, during an action that logs `entries`.

    Resident memory rather than a tracer: a tracer slows the servers tenfold and holds memory of its
    own. It counts what the allocator rounds up and cannot give back too, as a user's machine does.
    Servers in one process may share the bytes of a command, so the figure is the share of each.
    """
    gc.collect()
    before = _resident_bytes()
    action()
    gc.collect()
    return (_resident_bytes() - before) / entries / servers


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
