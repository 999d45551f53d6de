"""The campaigns across processes, in full: `python -m tests.distributed`.

Knows what is run, how long, and from which seed. Must not know how any of it is judged.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.distributed import kills, partitions
from tests.distributed.cluster import CampaignFailed
from tests.distributed.networks import Namespaces, Proxy, Unavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.distributed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of killing (60)")
    parser.add_argument("--rounds", type=int, default=5, help="of each way to be cut off (5)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    try:
        with tempfile.TemporaryDirectory() as directory:
            print(kills.run(Path(directory), given.seed, given.seconds, _say), flush=True)
        for kind in (Namespaces, Proxy):
            with tempfile.TemporaryDirectory() as directory:
                try:
                    partitions.run(Path(directory), kind, rounds=given.rounds, progress=_say)
                except Unavailable as error:
                    print(f"not run: {error}", flush=True)
    except CampaignFailed as error:
        print(f"FAILED with seed {given.seed}: {error}", file=sys.stderr)
        return 1
    return 0


def _say(words: object) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
