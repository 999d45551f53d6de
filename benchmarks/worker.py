"""The process of one group: `python -m benchmarks.worker INDEX PINNED PLAN`.

Writes what happens to standard output, a JSON object a line. Must not know who reads them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace

from benchmarks.groups import GROUPS
from benchmarks.measure import Plan, log


class _Progress(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(json.dumps({"doing": record.getMessage()}), flush=True)


def main(index: str, pinned: str, plan: str) -> None:
    on_one_core = pinned == "pinned"
    if on_one_core:
        # Before any thread starts: threads inherit it.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    log.addHandler(_Progress())
    log.setLevel(logging.INFO)
    log.propagate = False
    for row in GROUPS[int(index)].measure(Plan(**json.loads(plan))):
        print(json.dumps({"row": replace(row, pinned=on_one_core).to_json()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
