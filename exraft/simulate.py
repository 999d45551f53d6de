"""Simulations from the command line: thousands of seeds with progress, or one that is looked into.

Knows what is shown on a terminal and what the exit status says. Must not know how a simulation
goes: that is `exraft.testing`'s.
"""

from __future__ import annotations

import os
import sys

from exraft.testing.campaign import Make, Total, made, named, raised, run_campaign
from exraft.testing.simulation import Report, SimulationFailed

MANY = 100
"""Seeds that take long enough to say in between how far they are."""
DEFAULT = "exraft.testing.campaign:default"


def main(
    name: str | None, *, seeds: int, first: int, jobs: int | None, seed: int | None, trace: bool
) -> int:
    """Run it; return the exit status: 0 if everything held, 1 if not, 2 if `name` names nothing.

    Raises:
        KeyboardInterrupt: with what was met so far printed.
    """
    function = DEFAULT if name is None else name
    try:
        make = named(function)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if seed is not None:
        return _look_into(make, seed, trace=trace)
    return _campaign(function, range(first, first + seeds), jobs, _again(name))


def _again(name: str | None) -> str:
    """How to see a seed again; and that it will be the same then.

    A machine of the user's may depend on the order of a set, which differs between processes unless
    it is told not to.
    """
    if name is None:
        return "python -m exraft simulate --seed"
    order = os.environ.get("PYTHONHASHSEED", "random")
    if order == "random":
        order = os.environ["PYTHONHASHSEED"] = "0"
    return f"PYTHONHASHSEED={order} python -m exraft simulate {name} --seed"


def _look_into(make: Make, seed: int, *, trace: bool) -> int:
    try:
        report = made(make, seed).run(trace=trace)
    except SimulationFailed as failure:
        print(failure if not trace else "\n".join([*failure.trace, str(failure)]), file=sys.stderr)
        return 1
    except (Exception, SystemExit):
        print(raised(seed), file=sys.stderr)
        return 1
    if trace:
        print("\n".join(report.trace))
    print("\n".join(_told(report)))
    return 0


def _told(report: Report) -> list[str]:
    lines = [f"{count:14,}  {kind}" for kind, count in sorted(report.counts.items())]
    lines.append(
        f"seed {report.seed}: {report.servers} servers, {report.steps:,} steps,"
        f" {report.seconds:.1f} virtual seconds, {report.commits:,} commits."
        f" {_verdict(not report.decided)}"
    )
    return lines


def _campaign(function: str, seeds: range, jobs: int | None, again: str) -> int:
    progress = _Progress(len(seeds))
    try:
        with progress:
            total, failed = run_campaign(function, seeds, jobs=jobs, progress=progress.show)
    except KeyboardInterrupt:
        print("\n".join(_lines(function, progress.total)), flush=True)
        raise
    print("\n".join(_lines(function, total)))
    if failed is not None:
        print(f"\n{failed.text}\n\nsee it again: {again} {failed.seed}", file=sys.stderr)
        return 1
    missing = total.missing() if function == DEFAULT and total.seeds >= 1000 else []
    if missing:
        print(f"nothing was proved of: {', '.join(missing)}", file=sys.stderr)
        return 1
    print(_verdict(total.undecided))
    return 0


def _verdict(undecided: int) -> str:
    if not undecided:
        return "Everything holds."
    return (
        "Everything else holds, but it was not found out whether the answers are linearizable:"
        " that took too long."
    )


def _lines(function: str, total: Total) -> list[str]:
    lines = total.lines()
    if function == DEFAULT:
        return lines
    # A machine of the user's need not have what ours has: side effects, commands that raise.
    return [line for line in lines if not line.startswith(f"{'none':>14}")]


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, seeds: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._seeds = seeds
        self._tenths = 0
        self.total = Total()
        """What was done so far."""
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("seeds"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            Remaining(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("seeds", total=seeds, rate="")

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, total: Total) -> None:
        self.total = total
        rate = total.seeds / max(total.took, 1e-9)
        hours = total.seconds / 60 / max(total.took, 1e-9)
        told = f"{rate:,.1f} seeds/s, {hours:,.1f} simulated hours/min"
        self._bar.update(self._task, completed=total.seeds, rate=told)
        tenths = 10 * total.seeds // self._seeds
        if self._bar.disable and tenths > self._tenths and self._seeds >= MANY:
            self._tenths = tenths
            print(f"{total.seeds:,} of {self._seeds:,} seeds, {told}", file=sys.stderr)
