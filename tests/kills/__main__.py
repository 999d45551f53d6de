"""`python -m tests.kills --kills 100 --seed N`: a campaign of kills, with its progress."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.kills.campaign import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    parser.add_argument("--keep", type=Path, help="a directory to work in, which is kept")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        print(run(given.keep, given.seed, given.kills, print))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        print(run(Path(directory), given.seed, given.kills, print))
    return 0


if __name__ == "__main__":
    sys.exit(main())
