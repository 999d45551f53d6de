"""What is measured together: each group in a process of its own, so that none disturbs another.

Knows where a group's code is and which rows come out. Imports it only in the group's own process,
for PySyncObj need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from benchmarks.disk import APPEND, BATCHES, GROW
from benchmarks.measure import Plan
from benchmarks.rows import BATCHED, ETCD, UNBATCHED, Row

Measure = Callable[[str, Plan], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Group:
    subject: str
    title: str
    module: str
    function: str
    rows: tuple[str, ...]
    pinned_too: bool = True
    """Whether the figures depend much on the number of cores (timeouts and memory do not)."""
    beside: tuple[str, ...] = ()
    """Other subjects, of which it takes such rows in the same rounds if they are there."""

    def wanted(self, plan: Plan) -> bool:
        return any(plan.wants(subject, *self.rows) for subject in (self.subject, *self.beside))

    def measure(self, plan: Plan) -> Iterator[Row]:
        function = cast(Measure, getattr(import_module(self.module), self.function))
        return (row for row in function(self.subject, plan) if plan.wants(row.subject, row.name))


_WRITES = (
    "write.1",
    "write.8",
    "write.64",
    "write.64.large",
    "write.pipelined",
    "write.pipelined.large",
)
_DURABLE = ("durable.write.1", "durable.write.64", "durable.write.pipelined")
_OURS = "benchmarks.ours"
_PEERS = "benchmarks.peers"
NODES_MODULE = "benchmarks.nodes"
_PEER_THROUGHPUT = ("writes and reads", _PEERS, "throughput", (*_WRITES, "read.dirty"))
_PEER_FAILOVER = ("elections", _PEERS, "failover", ("leader.first", "leader.gone"))

GROUPS = (
    Group(
        "floor",
        "threads and mailboxes",
        "benchmarks.floors",
        "measure",
        ("ping-pong", "pykka.ask", "mailbox", "mailbox.pipelined", "kept.large", "thread.restart"),
    ),
    Group(
        "exraft",
        "writes and reads",
        _OURS,
        "throughput",
        (*_WRITES, "read.1", "read.64", "read.dirty"),
    ),
    Group(
        "exraft", "beside a CPU-bound thread", _OURS, "busy", ("write.1.busy", "write.1.busy.rate")
    ),
    Group(
        "exraft",
        "elections",
        _OURS,
        "failover",
        ("leader.first", "leader.crash", "leader.stop", "leader.gone"),
    ),
    Group(
        "exraft",
        "long logs and large states",
        _OURS,
        "size",
        (
            "size.short.1",
            "size.short.pipelined",
            "size.log.1",
            "size.log.pipelined",
            "size.keys.1",
            "size.keys.pipelined",
            "leader.crash.long",
            "leader.stop.long",
        ),
    ),
    Group(
        "exraft",
        "restarts of crashed children",
        "benchmarks.restarts",
        "measure",
        (
            "restart",
            "restart.bare",
            "restart.rate",
            "restart.pykka",
            "restart.pykka.bare",
            "restart.pykka.rate",
            "restart.many",
        ),
    ),
    Group(
        "floor",
        "disk",
        "benchmarks.disk",
        "measure",
        (*APPEND.values(), *GROW.values()),
        pinned_too=False,
    ),
    Group(
        "exraft",
        "the store alone",
        "benchmarks.storage",
        "measure",
        tuple(f"storage.append.{count}" for count in BATCHES),
        pinned_too=False,
    ),
    Group(
        "exraft",
        "durable writes",
        "benchmarks.durable",
        "throughput",
        (
            "memory.write.1",
            "memory.write.64",
            "memory.write.pipelined",
            *_DURABLE,
            "durable.write.1.more",
            "durable.syncs.64",
        ),
        pinned_too=False,
    ),
    Group("exraft", "memory", _OURS, "memory", ("memory",), pinned_too=False),
    Group(
        "exraft",
        "judging histories",
        "benchmarks.checker",
        "measure",
        ("check.50", "check.50.no", "check.20", "check.20.no", "check.1", "check.1.no"),
        pinned_too=False,
    ),
    Group(BATCHED, *_PEER_THROUGHPUT),
    Group(UNBATCHED, *_PEER_THROUGHPUT),
    Group(BATCHED, *_PEER_FAILOVER, pinned_too=False),
    Group(UNBATCHED, *_PEER_FAILOVER, pinned_too=False),
    Group(BATCHED, "journalled writes", _PEERS, "journalled", _DURABLE, pinned_too=False),
    Group(UNBATCHED, "journalled writes", _PEERS, "journalled", _DURABLE, pinned_too=False),
    Group(ETCD, "writes", "benchmarks.etcd", "throughput", _DURABLE[:2], pinned_too=False),
    Group(BATCHED, "memory", _PEERS, "memory", ("memory",), pinned_too=False),
    Group(
        "exraft",
        "writes and reads between processes",
        NODES_MODULE,
        "throughput",
        (
            "nodes.ping-pong",
            "nodes.write.1.home",
            "nodes.write.1",
            "nodes.write.64",
            "nodes.write.pipelined.1000",
            "nodes.write.pipelined.10000",
            "nodes.read.1",
            "nodes.read.64",
        ),
        pinned_too=False,
        beside=("floor", BATCHED, UNBATCHED),
    ),
    Group(
        "exraft",
        "durable writes between processes",
        NODES_MODULE,
        "durable",
        (
            "nodes.durable.write.1",
            "nodes.durable.write.64",
            "nodes.durable.read.1",
            "nodes.durable.read.64",
        ),
        pinned_too=False,
        beside=(UNBATCHED, ETCD),
    ),
    Group(
        "exraft",
        "the leader's process killed",
        NODES_MODULE,
        "killed",
        ("nodes.leader.killed",),
        pinned_too=False,
        beside=(BATCHED,),
    ),
)
