"""A row of the table: one figure, what it is compared with, and what it should reach.

Knows how rows are named, judged and written down. Must not know how anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` is the median of the ratios of each sample to the floor beside it.

    `cpu` is processor time in microseconds a call: what else the machine does hardly changes it.
    """

    subject: str
    name: str
    unit: str
    value: float
    floor: str | None = None
    floor_value: float | None = None
    ratio: float | None = None
    p99: float | None = None
    cpu: float | None = None
    samples: tuple[float, ...] = ()
    pinned: bool = False
    target: str | None = None
    reached: bool | None = None
    note: str | None = None

    @property
    def key(self) -> str:
        """What `--rows` selects by, for example `exraft/write.64`."""
        return f"{self.subject}/{self.name}"

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        return cls(**data | {"samples": tuple(data["samples"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure: on its ratio to the floor beside it, or on its value if it has none."""

    at_most: float | None = None
    at_least: float | None = None

    def judge(self, row: Row) -> Row:
        if row.ratio is None:
            figure, of = row.value, "" if row.unit == "x" else f" {row.unit}"
        else:
            figure, of = row.ratio, " x"
        if self.at_most is not None:
            reached, text = figure <= self.at_most, f"<= {self.at_most:.3g}{of}"
        else:
            assert self.at_least is not None
            reached, text = figure >= self.at_least, f">= {self.at_least:.3g}{of}"
        return replace(row, target=text, reached=reached)


PAYLOAD = 100
"""Bytes of value in a usual command; a large one has `LARGE`."""

LARGE = 10 * 1024

# By (row, pinned); a row that is missing here is reported without a target.
TARGETS: dict[tuple[str, bool], Target] = {
    ("exraft/write.1", False): Target(at_most=1.5),
    ("exraft/write.1", True): Target(at_most=4.0),
    ("exraft/write.64", True): Target(at_least=0.5),
    ("exraft/write.pipelined", False): Target(at_least=0.15),
    ("exraft/write.pipelined", True): Target(at_least=0.09),
    ("exraft/memory", False): Target(at_most=PAYLOAD + 400),
    ("exraft/leader.first", False): Target(at_most=500),
    ("exraft/leader.first", True): Target(at_most=500),
    ("exraft/storage.append.10", False): Target(at_least=0.6),
    ("exraft/storage.append.100", False): Target(at_least=0.6),
    ("exraft/storage.append.1000", False): Target(at_least=0.6),
    ("exraft/durable.write.1.more", False): Target(at_most=2.5),
    ("exraft/durable.syncs.64", False): Target(at_most=0.15),
    ("exraft/restart", False): Target(at_most=6.0),
    ("exraft/restart.bare", True): Target(at_most=2.5),
    ("exraft/restart.pykka", False): Target(at_most=6.0),
    ("exraft/restart.pykka.bare", True): Target(at_most=2.5),
    ("exraft/nodes.leader.killed", False): Target(at_most=2.0),
}

NODES = "nodes."
"""Begins the names of the rows whose members are processes. Theirs and ours are taken in the same
rounds."""

# By (whom, row): how many times better than theirs ours is to be. Between processes a row that is
# missing here has no target; elsewhere ours is to be no worse.
LEADS: dict[tuple[str, str], Target] = {
    ("PySyncObj", "nodes.write.1.home"): Target(at_least=1.3),
    ("PySyncObj", "nodes.write.1"): Target(at_least=1.0),
    ("PySyncObj", "nodes.write.64"): Target(at_least=1.8),
    ("PySyncObj", "nodes.write.pipelined.1000"): Target(at_least=1.5),
    ("PySyncObj", "nodes.write.pipelined.10000"): Target(at_least=1.5),
    ("etcd", "nodes.durable.write.64"): Target(at_least=1.0),
}

_AT_HOME = "PySyncObj's client sits in the leader's process, ours in a process of its own"
_NEVER_SYNCED = f"its journal is written and never synced; {_AT_HOME}"

# What a quotient with another's figures has to be read with, by (whom, row).
NOTES: dict[tuple[str, str], str] = {
    ("PySyncObj", "nodes.write.1.home"): "both clients sit in the leader's process",
    ("PySyncObj", "nodes.write.1"): _AT_HOME,
    ("PySyncObj", "nodes.write.64"): _AT_HOME,
    ("PySyncObj", "nodes.write.pipelined.1000"): _AT_HOME,
    ("PySyncObj", "nodes.write.pipelined.10000"): _AT_HOME,
    ("PySyncObj", "nodes.durable.write.1"): _NEVER_SYNCED,
    ("PySyncObj", "nodes.durable.write.64"): _NEVER_SYNCED,
    ("PySyncObj", "nodes.leader.killed"): (
        "by default its followers wait 0.4 to 1.4 s, ours 1 to 10 s; its client sits in another"
        " member's process"
    ),
    **{
        ("etcd", f"nodes.{row}"): "both clients are this Python process; etcd's speaks HTTP"
        for row in ("durable.write.1", "durable.write.64", "durable.read.1", "durable.read.64")
    },
}

# Differences under 1.5x mean little on a machine that others use too.
_NOISE = 1.5

# Quotients of the figures of two rows of ours, from one process and one minute:
# (name, numerator, denominator, target).
QUOTIENTS: tuple[tuple[str, str, str, Target], ...] = (
    ("10 KiB / 100 B, 64 writers", "write.64.large", "write.64", Target(at_least=0.5)),
    ("10 KiB / 100 B, pipelined", "write.pipelined.large", "write.pipelined", Target(at_least=0.5)),
    ("64 readers / 64 writers", "read.64", "write.64", Target(at_least=1.5)),
    ("durable / memory, 64 writers", "durable.write.64", "memory.write.64", Target(at_least=0.7)),
    ("time of 1 read / 1 write", "read.1", "write.1", Target(at_most=1.0)),
)

# The same, judged with the process pinned only. Unpinned, a short exchange takes four times as long
# if the scheduler happens to have put its threads on two cores, where it leaves them for seconds:
# two clusters, one after the other, then differ by that more than by what they hold.
PINNED_QUOTIENTS: tuple[tuple[str, str, str, Target], ...] = (
    ("long log / short, 1 writer", "size.log.1", "size.short.1", Target(at_most=_NOISE)),
    ("many keys / few, 1 writer", "size.keys.1", "size.short.1", Target(at_most=_NOISE)),
    (
        "long log / short, pipelined",
        "size.log.pipelined",
        "size.short.pipelined",
        Target(at_least=1 / _NOISE),
    ),
    (
        "many keys / few, pipelined",
        "size.keys.pipelined",
        "size.short.pipelined",
        Target(at_least=1 / _NOISE),
    ),
    ("restart of 1 in many / of the only one", "restart.many", "restart", Target(at_most=_NOISE)),
)

# A local read that may be stale asks nobody: nothing to be ahead of.
NOT_RACED = {"read.dirty"}

BATCHED = "pysyncobj"
UNBATCHED = "pysyncobj-unbatched"
ETCD = "etcd"
PEERS = {"PySyncObj": (BATCHED, UNBATCHED), "etcd": (ETCD,)}
"""Whom ours are compared with, and in which settings."""


def judged(rows: Iterable[Row]) -> list[Row]:
    """The measured rows with their verdicts, and after them the rows that compare two of them."""
    measured = list(rows)
    result = [
        target.judge(row) if (target := TARGETS.get((row.key, row.pinned))) else row
        for row in measured
    ]
    for pinned in (False, True):
        by_key = {row.key: row for row in measured if row.pinned is pinned}
        result += _quotients(by_key, pinned)
        result += _races(by_key, pinned)
    return result


def _quotients(by_key: dict[str, Row], pinned: bool) -> Iterable[Row]:
    for name, above, below, target in QUOTIENTS + PINNED_QUOTIENTS:
        numerator, denominator = by_key.get(f"exraft/{above}"), by_key.get(f"exraft/{below}")
        if numerator is None or denominator is None:
            continue
        row = Row("compared", name, "x", numerator.value / denominator.value, pinned=pinned)
        judge = pinned or (name, above, below, target) in QUOTIENTS
        yield target.judge(row) if judge else row


def _races(by_key: dict[str, Row], pinned: bool) -> Iterable[Row]:
    """How many times better ours is than each peer, in the better of its settings."""
    for ours in by_key.values():
        if ours.subject != "exraft" or ours.name in NOT_RACED:
            continue
        for peer, settings in PEERS.items():
            rivals = [by_key[key] for each in settings if (key := f"{each}/{ours.name}") in by_key]
            if not rivals:
                continue
            more_is_better = ours.unit == "1/s"
            lead = min(
                _compared(ours, rival) if more_is_better else _compared(rival, ours)
                for rival in rivals
            )
            note = NOTES.get((peer, ours.name))
            row = Row("compared", f"over {peer}: {ours.name}", "x", lead, pinned=pinned, note=note)
            usual = None if ours.name.startswith(NODES) else Target(at_least=1.0)
            target = LEADS.get((peer, ours.name), usual)
            yield target.judge(row) if target is not None else row


def _compared(numerator: Row, denominator: Row) -> float:
    """The quotient of two rows: of their samples, if they were taken in the same rounds.

    Of what different minutes gave, it is that of the ratios to the floor, if that is steady.
    Unpinned, a floor depends on where the scheduler has put two threads more than on the minute.
    """
    pairs = list(zip(numerator.samples, denominator.samples, strict=False))
    if numerator.name.startswith(NODES) and numerator.floor == denominator.floor and pairs:
        return median(above / below for above, below in pairs)
    steady = numerator.pinned and numerator.floor == denominator.floor
    if steady and numerator.ratio and denominator.ratio:
        return numerator.ratio / denominator.ratio
    return numerator.value / denominator.value
