"""Log, memory and disk under many writes with snapshots: they must stay within bounds.

Knows what is looked at and when. Must not know why it grows or shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exraft import ExRaft
from tests.soak.traffic import LIMIT, NAMES, Writer, bytes_on_disk, cluster, resident_bytes


@dataclass(frozen=True, slots=True)
class Look:
    """After so many writes; sizes in bytes, of the server that has the most where it is one's."""

    writes: int
    rate: float
    log_entries: int
    log_bytes: int
    on_disk: int
    resident: int


def run(
    directory: Path,
    writes: int,
    looks: int = 100,
    progress: Callable[[Look], None] = lambda look: None,
    **options: Any,
) -> list[Look]:
    """Write, and look so many times."""
    taken = []
    with cluster(directory, **options) as leader:
        writer = Writer(leader)
        for _ in range(looks):
            rate = writer.write(writes // looks)
            status = [ExRaft.status(name, LIMIT) for name in NAMES]
            taken.append(
                Look(
                    writer.acknowledged,
                    rate,
                    max(each.log_entries for each in status),
                    max(each.log_bytes for each in status),
                    bytes_on_disk(directory),
                    resident_bytes(),
                )
            )
            progress(taken[-1])
        writer.settle()
    return taken


def plot(taken: Sequence[Look], path: Path) -> None:
    """Log and memory over the writes; needs matplotlib (extra `bench`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 7), sharex=True)
    writes = [look.writes for look in taken]
    above.plot(writes, [look.log_entries for look in taken], label="entries in the longest log")
    above.set_ylabel("entries")
    above.legend(loc="lower right")
    for name, values in (
        ("resident memory of the process", [look.resident for look in taken]),
        ("on disk, three servers", [look.on_disk for look in taken]),
        ("bytes in the largest log", [look.log_bytes for look in taken]),
    ):
        below.plot(writes, [value / 2**20 for value in values], label=name)
    below.set_ylabel("MiB")
    below.set_xlabel("writes acknowledged")
    below.legend(loc="lower right")
    for axis in (above, below):
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.suptitle("Three durable servers in one process, snapshots on")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
