"""`python -m benchmarks`: runs the groups one after another, each in a process of its own.

Knows the order of things and what has failed. Must not measure anything itself: threads of its own
would stand beside the measured ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import report
from benchmarks.groups import GROUPS, NODES_MODULE
from benchmarks.measure import QUICK, Plan
from benchmarks.rows import BATCHED, ETCD, UNBATCHED, Row, judged

RESULTS = Path(__file__).parent / "results"

LIMIT = 180.0
"""Seconds after which a group is taken to hang."""

ATTEMPTS = 2
"""On a busy machine a leader may be deposed in the middle of a sample, which spoils the group."""


class GroupFailedError(Exception):
    """A group's process ended in an error, or did not end."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    plan = replace(QUICK if options.quick else Plan(), rows=options.rows)
    if options.seconds is not None:
        plan = replace(plan, seconds=options.seconds)
    console = Console()
    runs, notes = _runs(plan, options.pinnings)
    for note in notes:
        console.print(note)
    if not runs:
        console.print(f"no row is named like {options.rows!r}")
        return 2
    facts = _facts(plan)
    rows, failures = _run_all(runs, plan, console)
    facts["load average after"] = _load()
    rows = judged(rows)
    if not rows:
        for failure in failures:
            console.print(f"failed: {failure}", style="red", markup=False)
        console.print("nothing was measured")
        return 1
    wide = Console(width=max(console.width, report.WIDTH))
    (console if console.is_terminal else wide).print(report.table(rows))
    for path in report.write(rows, facts, options.out, "quick" if options.quick else "benchmark"):
        console.print(f"wrote {path}")
    for failure in failures:
        console.print(f"failed: {failure}", style="red", markup=False)
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="some one and a half minutes; the figures are rough"
    )
    parser.add_argument(
        "--rows", default="*", metavar="GLOB", help="only such rows, as 'exraft/*' or 'write.64*'"
    )
    parser.add_argument("--seconds", type=float, help="length of one sample")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for the results")
    pinning = parser.add_mutually_exclusive_group()
    pinning.add_argument(
        "--pinned",
        dest="pinnings",
        action="store_const",
        const=(True,),
        help="only with the process pinned to one core",
    )
    pinning.add_argument(
        "--unpinned", dest="pinnings", action="store_const", const=(False,), help="only without"
    )
    parser.set_defaults(pinnings=(False, True))
    options = parser.parse_args(arguments)
    if options.seconds is not None and not 0 < options.seconds <= 10:
        parser.error("--seconds is the length of one sample: above 0, at most 10")
    return options


def _runs(plan: Plan, pinnings: Sequence[bool]) -> tuple[list[tuple[int, bool]], list[str]]:
    """Which groups to run, by index, and how; and what a person should know about the choice."""
    notes = []
    if True in pinnings and not hasattr(os, "sched_setaffinity"):
        notes.append("this system cannot pin a process to a core: unpinned only")
        pinnings = [pinned for pinned in pinnings if not pinned]
    absent = set()
    if find_spec("pysyncobj") is None:
        absent |= {BATCHED, UNBATCHED}
        notes.append("PySyncObj is not installed (extra `bench`): without it")
    if find_spec("zmq") is None:
        absent.add(NODES_MODULE)
        notes.append("pyzmq is not installed (extra `nodes`): no rows between processes")
    if which("etcd") is None:
        absent.add(ETCD)
        notes.append("etcd is not on this machine: without it")
    runs = [
        (index, pinned)
        for pinned in pinnings
        for index, group in enumerate(GROUPS)
        if group.wanted(plan)
        and not {group.subject, group.module} & absent
        and (group.pinned_too or not pinned)
    ]
    return runs, notes


def _run_all(
    runs: Sequence[tuple[int, bool]], plan: Plan, console: Console
) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    failures: list[str] = []
    with Progress(
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=len(runs))
        for index, pinned in runs:
            group = GROUPS[index]
            title = f"{'pinned' if pinned else 'unpinned'}: {group.subject}, {group.title}"
            progress.update(task, description=title)

            def tell(doing: str, title: str = title) -> None:
                progress.update(task, description=f"{title}: {doing}")

            began = progress.get_time()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    rows += _run(index, pinned, plan, tell)
                except GroupFailedError as failure:
                    if attempt == ATTEMPTS:
                        failures.append(f"{title}: {failure}")
                    progress.console.print(f"{title}: FAILED ({attempt} of {ATTEMPTS})")
                else:
                    progress.console.print(f"{title}: {progress.get_time() - began:.0f} s")
                    break
            progress.advance(task)
    return rows, failures


def _run(index: int, pinned: bool, plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.worker", str(index)]
    command += ["pinned" if pinned else "unpinned", json.dumps(asdict(plan))]
    rows = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            for line in process.stdout:
                event = json.loads(line)
                if "row" in event:
                    rows.append(Row.from_json(event["row"]))
                else:
                    tell(event["doing"])
            status = process.wait()
        finally:
            limit.cancel()
            process.kill()
        if status != 0:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-8:]
            raise GroupFailedError("\n".join([f"exit status {status}", *last]))
    return rows


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {
            name: _version(name) for name in ("exraft", "pykka", "msgspec", "pyzmq", "pysyncobj")
        },
        "plan": asdict(plan),
        "load average before": _load(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _load() -> float:
    return round(os.getloadavg()[0], 2)


if __name__ == "__main__":
    sys.exit(main())
