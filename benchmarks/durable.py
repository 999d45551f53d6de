"""exraft with its log on disk, beside the same servers in memory.

Knows the API and the work to be done with it. Must not know how anything is kept: what is measured
here is what a user gets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks import disk
from benchmarks.measure import DEADLINE, Plan, Work, blocking, compared, pipelined, row_of
from benchmarks.ours import Cluster, answer, cluster
from benchmarks.rows import Row
from exraft import ExRaft

COUNTED = 20_000
"""Writes of which the syncs are counted."""


def throughput(subject: str, plan: Plan) -> Iterator[Row]:
    """The same writes in memory and on disk, in turn; and what was synced for them."""
    with (
        disk.running() as below,
        cluster("memory") as memory,
        tempfile.TemporaryDirectory() as folder,
        cluster("durable", data_dir=folder) as durable,
    ):
        works = []
        for stage, three in (("memory", memory), ("durable", durable)):
            works += [
                Work(f"{stage}.write.1", "ms", blocking(three.write), disk.APPEND[1]),
                Work(f"{stage}.write.64", "1/s", blocking(three.write, 64), disk.APPEND[10]),
                Work(
                    f"{stage}.write.pipelined",
                    "1/s",
                    pipelined(three.write_async, answer),
                    disk.APPEND[100],
                ),
            ]
        rows = {row.name: row for row in compared(subject, works, below, plan)}
        yield from rows.values()
        if {"memory.write.1", "durable.write.1"} <= set(rows):
            in_memory, on_disk = rows["memory.write.1"], rows["durable.write.1"]
            assert on_disk.floor_value is not None
            spent = (on_disk.value - in_memory.value) / on_disk.floor_value
            yield row_of(subject, "durable.write.1.more", "x", [spent])
        if plan.wants(subject, "durable.syncs.64"):
            yield row_of(subject, "durable.syncs.64", "x", _syncs_per_write(durable))


def _syncs_per_write(three: Cluster) -> list[float]:
    """Of each server, as its store counts them, while 64 threads write."""
    before = [_syncs(name) for name in three.servers]
    first = ExRaft.status(three.leader, DEADLINE).commit_index
    blocking(partial(three.write), 64, COUNTED)(float("inf"))
    writes = ExRaft.status(three.leader, DEADLINE).commit_index - first
    after = [_syncs(name) for name in three.servers]
    return [(b - a) / writes for a, b in zip(before, after, strict=True)]


def _syncs(name: str) -> int:
    return ExRaft.status(name, DEADLINE).syncs
