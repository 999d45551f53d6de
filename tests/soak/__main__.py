"""`python -m tests.soak`: a million writes, and a follower that missed half a million.

The exit status is 0 only if log and memory stayed bounded and the follower caught up while the
leader kept half its rate.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.soak import bounded, laggard
from tests.soak.bounded import Look

WHOLE_LOG: dict[str, Any] = {"snapshot_every": None, "snapshot_bytes": None}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--writes", type=int, default=1_000_000, help="in all (1,000,000)")
    parser.add_argument("--missed", type=int, default=500_000, help="by the follower (500,000)")
    parser.add_argument("--plot", type=Path, help="a PNG of log and memory")
    given = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        taken = bounded.run(Path(directory), given.writes, progress=_show)
    if given.plot is not None:
        bounded.plot(taken, given.plot)
    half = len(taken) // 2
    for what in ("log_entries", "log_bytes", "on_disk", "resident"):
        early = max(getattr(look, what) for look in taken[:half])
        late = max(getattr(look, what) for look in taken[half:])
        print(f"{what}: at most {early:,} in the first half, {late:,} in the second")
        if late > 1.25 * early:
            failed.append(f"{what} grows")
    for options in ({}, WHOLE_LOG):
        with tempfile.TemporaryDirectory() as directory:
            came = laggard.run(Path(directory), given.missed, print, **options)
        print(came)
        # Half a million entries, one by one, take the interpreter from the leader in this process.
        if came.by_snapshot and came.meanwhile < came.before / 2:
            failed.append("the leader had less than half its rate")
    print("; ".join(failed) or "all held")
    return 1 if failed else 0


def _show(look: Look) -> None:
    print(
        f"{look.writes:,} writes, {look.rate:,.0f}/s: {look.log_entries:,} entries,"
        f" {look.on_disk / 2**20:,.0f} MiB on disk, {look.resident / 2**20:,.0f} MiB resident",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
