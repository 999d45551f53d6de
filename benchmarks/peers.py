"""PySyncObj: three nodes over loopback, in this process or each in its own, doing the work of ours.

Knows PySyncObj alone, in its default setting and in the one for low latency. Must not know exraft.
"""

from __future__ import annotations

import json
from _thread import LockType, allocate_lock
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, SyncObjException
from pysyncobj.batteries import ReplDict

from benchmarks import disk, floors
from benchmarks.measure import (
    DEADLINE,
    Plan,
    Work,
    blocking,
    compared,
    fill,
    memory_per_entry,
    outage,
    pipelined,
    row_of,
)
from benchmarks.processes import Process, free_ports
from benchmarks.rows import LARGE, PAYLOAD, UNBATCHED, Row

MIN_ELECTION_TIMEOUT = SyncObjConf().raftMinTimeout
"""Seconds."""

VALUE = b"v" * PAYLOAD
LARGE_VALUE = b"v" * LARGE
MOST_LARGE = 8_000


class Refused(Exception):
    """A pipelined write was not acknowledged."""


class Answer:
    """Of a write that was sent without waiting: the lock is free once it is there."""

    __slots__ = ("_answered", "_failure")

    def __init__(self) -> None:
        self._answered: LockType = allocate_lock()
        self._answered.acquire()
        self._failure: Any = None

    def set(self, result: Any, failure: Any) -> None:
        self._failure = failure
        self._answered.release()

    def get(self) -> None:
        if not self._answered.acquire(timeout=DEADLINE):
            raise TimeoutError(f"no answer within {DEADLINE:g} s")
        if self._failure:
            raise Refused(self._failure)


class Node:
    """One of three, with its copy of the dictionary."""

    def __init__(self, address: str, others: list[str], options: dict[str, Any]) -> None:
        self.address = address
        self._data = ReplDict()
        self._raft = SyncObj(address, others, SyncObjConf(**options), consumers=[self._data])

    def write(self, value: bytes = VALUE) -> None:
        self._data.set(1, value, sync=True, timeout=DEADLINE)

    def write_async(self, value: bytes = VALUE) -> Answer:
        answer = Answer()
        self._data.set(1, value, callback=answer.set)
        return answer

    def read_dirty(self) -> Any:
        return self._data.get(1)

    def leader(self) -> str | None:
        status = self._raft.getStatus()
        return str(status["leader"]) if status["leader"] is not None else None

    def destroy(self) -> None:
        if self._raft.tick_thread_alive():
            self._raft.destroy_synchronous()


class Member(Node):
    """The only one of its process, as `benchmarks.member` wants it."""

    refused = SyncObjException

    def leads(self) -> bool:
        while (leader := self.leader()) is None:
            # Its status is all there is to wait on.
            sleep(0.001)
        return leader == self.address

    def wait(self, handle: Answer) -> None:
        handle.get()


def member(subject: str, address: str, others: list[str], journal: str | None) -> Member:
    """What `python -m benchmarks.member benchmarks.peers` runs."""
    options: dict[str, Any] = {} if journal is None else {"journalFile": journal}
    return Member(address, others, _in_setting(subject, options))


@contextmanager
def processes(
    subject: str, journals: Iterator[Path] | None = None
) -> Iterator[tuple[Process, Sequence[Process]]]:
    """A fresh cluster of three processes: the leader's, and all three."""
    # The node with the larger address connects, and after a failure only five seconds later.
    addresses = sorted(f"127.0.0.1:{port}" for port in free_ports(3))
    with ExitStack() as stack:
        members = []
        for address in addresses:
            settings = {
                "subject": subject,
                "address": address,
                "others": [other for other in addresses if other != address],
                "journal": None if journals is None else str(next(journals)),
            }
            started = Process("benchmarks.member", "benchmarks.peers", json.dumps(settings))
            members.append(stack.enter_context(started))
            assert started.hear() == "ready"
        yield next(member for member in members if member.ask("leads")), members


class Cluster:
    def __init__(self, options: dict[str, Any], journals: Iterator[Path] | None) -> None:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self.nodes = []
        for address in addresses:
            last_start = perf_counter()
            others = [other for other in addresses if other != address]
            if journals is not None:
                options["journalFile"] = str(next(journals))
            self.nodes.append(Node(address, others, options))
        while (leader := self.nodes[-1].leader()) is None:
            # Its status is all there is to wait on.
            sleep(0.001)
        self.elected_in = (perf_counter() - last_start) * 1e3
        self.leader = next(node for node in self.nodes if node.address == leader)
        self.leader.write()

    def gone(self) -> float:
        """Milliseconds without a write around the end of the leader, for another node's client."""
        other = next(node for node in self.nodes if node is not self.leader)
        other.write()
        return outage(other.write, SyncObjException, self.leader.destroy)


@contextmanager
def cluster(
    subject: str, journals: Iterator[Path] | None = None, **options: Any
) -> Iterator[Cluster]:
    """A fresh cluster with a leader, destroyed afterwards. `journals`: a file for each node."""
    with ExitStack() as stack:
        three = Cluster(_in_setting(subject, options), journals)
        for node in three.nodes:
            stack.callback(node.destroy)
        yield three


def _in_setting(subject: str, options: dict[str, Any]) -> dict[str, Any]:
    return options | {"appendEntriesUseBatch": False} if subject == UNBATCHED else options


def throughput(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes one at a time, many at once, and pipelined; and local reads."""
    with floors.running() as below, cluster(subject) as three:
        leader = three.leader
        write_large = partial(leader.write, LARGE_VALUE)
        send_large = partial(leader.write_async, LARGE_VALUE)
        rate = partial(Work, unit="1/s", floor=floors.PING_PONG)
        streamed = partial(Work, unit="1/s", floor=floors.MAILBOX_PIPELINED)
        works = [
            Work("write.1", "ms", blocking(leader.write), floors.PING_PONG, times=2),
            rate("write.8", run=blocking(leader.write, threads=8)),
            rate("write.64", run=blocking(leader.write, threads=64)),
            rate("write.64.large", run=blocking(write_large, 64, MOST_LARGE)),
            streamed("write.pipelined", run=pipelined(leader.write_async, Answer.get)),
            Work(
                "write.pipelined.large",
                "1/s",
                pipelined(send_large, Answer.get, MOST_LARGE),
                floors.KEPT,
            ),
            rate("read.dirty", run=blocking(leader.read_dirty)),
        ]
        yield from compared(subject, works, below, plan)


def journalled(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes with its journal on disk, which it writes and never syncs."""
    with disk.running() as below, TemporaryDirectory() as folder:
        journals = iter(Path(folder) / f"journal{number}" for number in range(3))
        with cluster(subject, journals=journals) as three:
            leader = three.leader
            works = [
                Work("durable.write.1", "ms", blocking(leader.write), disk.APPEND[1]),
                Work("durable.write.64", "1/s", blocking(leader.write, 64), disk.APPEND[10]),
                Work(
                    "durable.write.pipelined",
                    "1/s",
                    pipelined(leader.write_async, Answer.get),
                    disk.APPEND[100],
                ),
            ]
            yield from compared(subject, works, below, plan)


def failover(subject: str, plan: Plan) -> Iterator[Row]:
    """How long nobody can write: at first, and when the leader's node ends."""
    first, gone = [], []
    for _ in range(min(plan.failovers, 3)):
        with cluster(subject) as three:
            first.append(three.elected_in)
            fill(three.leader.write_async, Answer.get, plan.short_log)
            gone.append(three.gone())
    yield row_of(subject, "leader.first", "ms", first)
    yield row_of(subject, "leader.gone", "ms", gone)


def memory(subject: str, plan: Plan) -> Iterator[Row]:
    """Bytes per entry and node, with compaction (of its own accord after 5,000) put off."""
    never: dict[str, Any] = {"logCompactionMinEntries": 10**9, "logCompactionMinTime": 10**9}
    with cluster(subject, **never) as three:
        send = three.leader.write_async
        fill(send, Answer.get, plan.peer_log // 4)
        grown = memory_per_entry(
            partial(fill, send, Answer.get, plan.peer_log), plan.peer_log, servers=3
        )
        yield row_of(subject, "memory", "B", [grown])
