"""The store on disk by itself, without servers: a batch of entries appended and synced.

Knows one store, and the floor that `benchmarks.disk` measures. Must not know what a server does.

Between two samples the log is cut, as snapshots cut it: the store is in the state that it is in
most of its life, where files are used again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks import disk
from benchmarks.measure import Measured, Plan, Sample, Work, blocking, compared
from benchmarks.rows import PAYLOAD, Row
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentDiskStore

APPEND = {count: f"storage.append.{count}" for count in disk.BATCHES}

_PEER = Peer(":alone")
_WARM = 300 * 2**20
"""Bytes written before anything is measured: the files have their full size then."""


def measure(subject: str, plan: Plan) -> Iterator[Row]:
    """Batches a second, and what share of the floor that is."""
    with tempfile.TemporaryDirectory() as directory, disk.running() as floors:
        owner = DiskStore(directory, _PEER)
        hold = owner.lend()
        hold.set_ballot(1, _PEER, leads=True)
        try:
            _warm(hold)
            works = [
                Work(name, "1/s", _appending(hold, count), disk.APPEND[count])
                for count, name in APPEND.items()
            ]
            yield from compared(subject, works, floors, plan)
        finally:
            owner.close()


def _warm(hold: LentDiskStore) -> None:
    large = [Entry(1, COMMAND, bytes(2**20))]
    for _ in range(_WARM // 2**20):
        hold.append(large)
        hold.sync()
        if hold.size > 80 * 2**20:
            _cut(hold)


def _appending(hold: LentDiskStore, count: int) -> Measured:
    batch = [Entry(1, COMMAND, b"v" * PAYLOAD) for _ in range(count)]

    def append() -> None:
        hold.append(batch)
        hold.sync()

    appending = blocking(append)

    def measured(seconds: float) -> Sample:
        _cut(hold)
        return appending(seconds)

    return measured


def _cut(hold: LentDiskStore) -> None:
    sink = hold.begin_snapshot(Snapshot(hold.last_index, 1, Config((_PEER,)), 0, 0))
    sink.finish()
    hold.adopt(sink)
    hold.cut(hold.last_index)
    hold.sync()
