"""`python -m tests.stress --seconds 20 --seed N`: one stress test, with its progress."""

from __future__ import annotations

import argparse
import sys
import time

from tests.stress.campaign import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long faults go on (20)")
    parser.add_argument("--seed", type=int, default=None, help="any by default")
    given = parser.parse_args()
    seed = time.time_ns() % 1_000_000 if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    live = sys.stdout.isatty()
    report = run(
        seed, given.seconds, (lambda text: print(text, end="\r", flush=True)) if live else None
    )
    print(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
