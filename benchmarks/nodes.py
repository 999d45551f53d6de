"""Three members in three processes: exraft, PySyncObj and etcd in the same rounds.

Knows which rows there are, and in whose process the client of each sits. Must not know how a
member of any kind is started.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from benchmarks import disk, distributed, etcd, wire
from benchmarks.measure import (
    OUTSTANDING,
    Measured,
    Plan,
    Work,
    blocking,
    interleaved,
    log,
    pipelined,
    row_of,
)
from benchmarks.processes import Process, with_cpu_of
from benchmarks.rows import BATCHED, ETCD, UNBATCHED, Row

WRITE = ("nodes.write.1.home", "nodes.write.1", "nodes.write.64")
PIPELINED = {count: f"nodes.write.pipelined.{count}" for count in (OUTSTANDING, 10 * OUTSTANDING)}
"""With so many on their way."""
READ = ("nodes.read.1", "nodes.read.64")
DURABLE_WRITE = ("nodes.durable.write.1", "nodes.durable.write.64")
DURABLE_READ = ("nodes.durable.read.1", "nodes.durable.read.64")
KILLED = "nodes.leader.killed"

MOST_KILLED_PEERS = 5

Works = list[tuple[str, Work]]


def throughput(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes and reads in memory, one at a time, many at once, and pipelined."""
    writes = (*WRITE, *_pipelined(plan).values())
    works: Works = []
    with ExitStack() as stack:
        floors = stack.enter_context(wire.running())
        works += [("floor", Work(name, "ms", run)) for name, run in floors.items()]
        if plan.wants(subject, *writes, *READ):
            works += _ours(subject, stack.enter_context(distributed.cluster()), plan)
        for setting in _settings(plan, *writes):
            from benchmarks import peers

            works += _theirs(setting, *stack.enter_context(peers.processes(setting)), plan)
        yield from interleaved(works, floors, plan)


def _ours(subject: str, three: distributed.Cluster, plan: Plan) -> Works:
    def work(name: str, unit: str, run: Measured, times: int = 1) -> tuple[str, Work]:
        run = with_cpu_of(three.pids, run)
        return subject, Work(name, unit, run, wire.PING_PONG if unit == "ms" else None, times)

    leader = three.leader
    return [
        work(WRITE[0], "ms", three.home.sampled("blocking", 1)),
        work(WRITE[1], "ms", blocking(leader.write), times=2),
        work(WRITE[2], "1/s", blocking(leader.write, threads=64)),
        *(
            work(name, "1/s", pipelined(leader.write_async, leader.wait, outstanding=count))
            for count, name in _pipelined(plan).items()
        ),
        work(READ[0], "ms", blocking(leader.read), times=2),
        work(READ[1], "1/s", blocking(leader.read, threads=64)),
    ]


def _theirs(setting: str, leader: Process, members: Sequence[Process], plan: Plan) -> Works:
    together = partial(with_cpu_of, [member.pid for member in members])
    one = together(leader.sampled("blocking", 1))
    return [
        (setting, Work(WRITE[0], "ms", one, wire.PING_PONG)),
        (setting, Work(WRITE[1], "ms", one, wire.PING_PONG, times=2)),
        (setting, Work(WRITE[2], "1/s", together(leader.sampled("blocking", 64)))),
        *(
            (setting, Work(name, "1/s", together(leader.sampled("pipelined", count))))
            for count, name in _pipelined(plan).items()
        ),
    ]


def durable(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes on disk, and reads from members that keep their log there."""
    works: Works = []
    with ExitStack() as stack:
        below = stack.enter_context(disk.running())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if plan.wants(subject, *DURABLE_WRITE, *DURABLE_READ):
            three = stack.enter_context(distributed.cluster(str(folder)))
            together = partial(with_cpu_of, three.pids)
            works += _on_disk(subject, together, three.leader.write, three.leader.read)
        if which("etcd") is not None and plan.wants(ETCD, *DURABLE_WRITE, *DURABLE_READ):
            others = stack.enter_context(etcd.cluster())
            together = partial(with_cpu_of, others.pids)
            works += _on_disk(ETCD, together, others.leader.write, others.leader.read)
        # By default it takes 0.1 s for a write, whether it has a journal or not.
        if UNBATCHED in _settings(plan, *DURABLE_WRITE):
            from benchmarks import peers

            journals = (folder / f"journal{number}" for number in range(3))
            leader, members = stack.enter_context(peers.processes(UNBATCHED, journals))
            together = partial(with_cpu_of, [member.pid for member in members])
            one, many = (together(leader.sampled("blocking", count)) for count in (1, 64))
            works += [
                (UNBATCHED, Work(DURABLE_WRITE[0], "ms", one, disk.APPEND[1])),
                (UNBATCHED, Work(DURABLE_WRITE[1], "1/s", many, disk.APPEND[10])),
            ]
        yield from interleaved(works, below, plan)


def _on_disk(
    subject: str,
    together: Callable[[Measured], Measured],
    write: Callable[[], object],
    read: Callable[[], object],
) -> Works:
    one, many = disk.APPEND[1], disk.APPEND[10]
    works = [
        Work(DURABLE_WRITE[0], "ms", together(blocking(write)), one),
        Work(DURABLE_WRITE[1], "1/s", together(blocking(write, threads=64)), many),
        Work(DURABLE_READ[0], "ms", together(blocking(read)), one),
        Work(DURABLE_READ[1], "1/s", together(blocking(read, threads=64)), many),
    ]
    return [(subject, work) for work in works]


def killed(subject: str, plan: Plan) -> Iterator[Row]:
    """How long nobody can write when the leader's process is killed."""
    if plan.wants(subject, KILLED):
        took = []
        for again in range(1, plan.kills + 1):
            log.info("%s, %d of %d", KILLED, again, plan.kills)
            with distributed.cluster() as three:
                three.fill(plan.short_log)
                took.append(three.killed())
        yield _outages(subject, took, distributed.MIN_ELECTION_TIMEOUT)
    # It elects alike in both settings.
    if BATCHED in _settings(plan, KILLED):
        from benchmarks import peers

        took = []
        for again in range(1, min(plan.kills, MOST_KILLED_PEERS) + 1):
            log.info("%s/%s, %d", BATCHED, KILLED, again)
            with peers.processes(BATCHED) as (leader, members):
                leader.ask("pipelined", OUTSTANDING, plan.seconds)
                other = next(member for member in members if member is not leader)
                other.tell("outage")
                assert other.hear() == "strike"
                leader.kill()
                took.append(other.ask("struck"))
        yield _outages(BATCHED, took, peers.MIN_ELECTION_TIMEOUT)


def _outages(subject: str, took: list[float], timeout: float) -> Row:
    """In units of the least time that a follower of its kind waits before it elects another."""
    row = row_of(subject, KILLED, "ms", took)
    ratio = row.value / timeout / 1e3
    floor = "election timeout"
    return replace(row, p99=max(took), floor=floor, floor_value=timeout * 1e3, ratio=ratio)


def _pipelined(plan: Plan) -> dict[int, str]:
    return {count: name for count, name in PIPELINED.items() if count <= plan.most_outstanding}


def _settings(plan: Plan, *rows: str) -> list[str]:
    """Those of PySyncObj that are to be measured, if it is there."""
    if find_spec("pysyncobj") is None:
        return []
    return [setting for setting in (BATCHED, UNBATCHED) if plan.wants(setting, *rows)]
