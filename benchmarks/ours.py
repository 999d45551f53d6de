"""exraft: three servers in this process, in memory, through the public API.

Knows the API and the work to be done with it. Must not know anything inside exraft: what is
measured here is what a user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Unpack

import pykka

from benchmarks import floors
from benchmarks.measure import (
    DEADLINE,
    Plan,
    Work,
    blocking,
    compared,
    cpu_bound_thread,
    fill,
    memory_per_entry,
    outage,
    pipelined,
    row_of,
)
from benchmarks.rows import LARGE, PAYLOAD, Row
from exraft import ActorRegistry, ExRaft, Peer, StateMachine
from exraft.errors import ExRaftError
from exraft.options import StartOptions

VALUE = b"v" * PAYLOAD
LARGE_VALUE = b"v" * LARGE

# Enough calls for a figure. Without a bound large commands would make the log gigabytes long, and
# the samples of a short log would make it a long one.
MOST_LARGE = 8_000
MOST_SHORT = 2_000


class KeyValueStore(StateMachine):
    """Starts with so many keys; a command puts one."""

    def init(self, init_arg: int) -> dict[int, bytes]:
        return dict.fromkeys(range(init_arg), VALUE)

    def handle_write(
        self, command: tuple[int, bytes], state: dict[int, bytes]
    ) -> tuple[str, dict[int, bytes]]:
        key, value = command
        state[key] = value
        return "ok", state

    def handle_read(self, query: int, state: dict[int, bytes]) -> bytes | None:
        return state.get(query)


class Misled(Exception):
    """What happened is not what the row says."""


class Cluster:
    """Three servers and their first leader, which gets all calls: a client would find it too."""

    def __init__(self, title: str, keys: int, options: StartOptions) -> None:
        self.servers = [f":{title}{number}" for number in (1, 2, 3)]
        options = {**options, "initial_config": self.servers}
        try:
            for name in self.servers:
                last_start = perf_counter()
                ExRaft.start_server(KeyValueStore, keys, name=name, **options)
            self.leader: Peer = ExRaft.await_leader(self.servers[-1], timeout=DEADLINE)
        except BaseException:
            self.close()
            raise
        self.elected_in = (perf_counter() - last_start) * 1e3
        """Milliseconds from the start of the last server until it knew a leader."""

    def close(self) -> None:
        for name in self.servers:
            if ActorRegistry.get_by_name(name) is not None:
                ExRaft.stop_server(name)

    def write(self, value: bytes = VALUE) -> Any:
        return ExRaft.write(self.leader, (1, value), timeout=DEADLINE)

    def write_async(self, value: bytes = VALUE) -> pykka.Future[Any]:
        return ExRaft.write_async(self.leader, (1, value))

    def read(self) -> Any:
        return ExRaft.read(self.leader, 1, timeout=DEADLINE)

    def read_dirty(self) -> Any:
        return ExRaft.read_dirty(self.leader, 1, timeout=DEADLINE)

    def fill(self, entries: int) -> None:
        fill(self.write_async, answer, entries)

    def crash(self) -> float:
        """Milliseconds without a write around a crash of the leader, which leads on.

        It is stopped behind its supervisor's back, to which that is a death like any other.
        """
        before = ExRaft.status(self.leader, timeout=DEADLINE)
        took = self._outage(_actor(self.leader.name).stop)
        after = ExRaft.status(self.leader, timeout=DEADLINE)
        if after.restarts != before.restarts + 1 or after.term != before.term:
            raise Misled(f"a crash of the leader of term {before.term} left {after}")
        return took

    def stop(self) -> float:
        """Milliseconds without a write around an orderly stop of the leader: it hands over."""
        return self._deposed(partial(ExRaft.stop_server, self.leader))

    def gone(self) -> float:
        """Milliseconds without a write around the end of the leader's supervisor.

        The leader ends with it, hands over to nobody, and is not started again.
        """
        supervisor = _actor(":ExRaft.Supervisor" + self.leader.name.replace(":", "."))
        return self._deposed(supervisor.stop)

    def _deposed(self, fault: Callable[[], object]) -> float:
        took = self._outage(fault)
        left = next(name for name in self.servers if name != self.leader.name)
        successor = ExRaft.await_leader(left, timeout=DEADLINE)
        if successor == self.leader or ActorRegistry.get_by_name(self.leader.name) is not None:
            raise Misled(f"{self.leader} is to be gone, and {successor} leads")
        self.leader = successor
        return took

    def _outage(self, fault: Callable[[], object]) -> float:
        client = ExRaft.client(self.servers)
        return outage(partial(client.write, (1, VALUE)), ExRaftError, fault)


def answer(future: pykka.Future[Any]) -> Any:
    return future.get(timeout=DEADLINE)


def _actor(name: str) -> pykka.ActorRef[Any]:
    ref = ActorRegistry.get_by_name(name)
    assert ref is not None
    return ref


@contextmanager
def cluster(
    title: str = "bench", keys: int = 0, **options: Unpack[StartOptions]
) -> Iterator[Cluster]:
    """A fresh cluster with a leader, stopped afterwards."""
    three = Cluster(title, keys, options)
    try:
        yield three
    finally:
        three.close()


def throughput(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes and reads, one at a time, many at once, and pipelined."""
    with floors.running() as below, cluster() as three:
        write_large = partial(three.write, LARGE_VALUE)
        send_large = partial(three.write_async, LARGE_VALUE)
        rate = partial(Work, unit="1/s", floor=floors.PING_PONG)
        streamed = partial(Work, unit="1/s", floor=floors.MAILBOX_PIPELINED)
        works = [
            Work("write.1", "ms", blocking(three.write), floors.PING_PONG, times=2),
            rate("write.8", run=blocking(three.write, threads=8)),
            rate("write.64", run=blocking(three.write, threads=64)),
            rate("write.64.large", run=blocking(write_large, 64, MOST_LARGE)),
            streamed("write.pipelined", run=pipelined(three.write_async, answer)),
            Work(
                "write.pipelined.large",
                "1/s",
                pipelined(send_large, answer, MOST_LARGE),
                floors.KEPT,
            ),
            Work("read.1", "ms", blocking(three.read), floors.PING_PONG, times=2),
            rate("read.64", run=blocking(three.read, threads=64)),
            rate("read.dirty", run=blocking(three.read_dirty)),
        ]
        yield from compared(subject, works, below, plan)


def busy(subject: str, plan: Plan) -> Iterator[Row]:
    """One writer while another thread computes: the interpreter's switch interval rules."""
    with floors.running() as below, cluster() as three, cpu_bound_thread():
        writer = blocking(three.write)
        works = [
            Work("write.1.busy", "ms", writer, floors.PING_PONG, times=2),
            Work("write.1.busy.rate", "1/s", writer, floors.PING_PONG),
        ]
        yield from compared(subject, works, below, plan)


def failover(subject: str, plan: Plan) -> Iterator[Row]:
    """How long nobody can write: at first, when the leader crashes, is stopped, or ends."""
    first, crash, stop, gone = [], [], [], []
    for _ in range(plan.failovers):
        with cluster() as three:
            first.append(three.elected_in)
            three.fill(plan.short_log)
            crash.append(three.crash())
            stop.append(three.stop())
        with cluster() as three:
            first.append(three.elected_in)
            three.fill(plan.short_log)
            gone.append(three.gone())
    yield row_of(subject, "leader.first", "ms", first)
    yield row_of(subject, "leader.crash", "ms", crash)
    yield row_of(subject, "leader.stop", "ms", stop)
    yield row_of(subject, "leader.gone", "ms", gone)


def size(subject: str, plan: Plan) -> Iterator[Row]:
    """The same writes on a short log, on a long one, and on a state of many keys, in turn."""

    def works(stage: str, three: Cluster) -> list[Work]:
        writer = blocking(three.write, most=MOST_SHORT // 4)
        stream = pipelined(three.write_async, answer, MOST_SHORT)
        return [
            Work(f"size.{stage}.1", "ms", writer, floors.PING_PONG, times=2),
            Work(f"size.{stage}.pipelined", "1/s", stream, floors.MAILBOX_PIPELINED),
        ]

    with (
        floors.running() as below,
        cluster("short") as short,
        cluster("long", snapshot_every=None, snapshot_bytes=None) as long,
        cluster("keys", plan.many_keys) as keys,
    ):
        short.fill(plan.short_log)
        long.fill(plan.long_log)
        keys.fill(plan.short_log)
        stages = [*works("short", short), *works("log", long), *works("keys", keys)]
        yield from compared(subject, stages, below, plan)
        if plan.wants(subject, "leader.crash.long", "leader.stop.long"):
            crashes = [long.crash() for _ in range(min(plan.failovers, 3))]
            yield row_of(subject, "leader.crash.long", "ms", crashes)
            yield row_of(subject, "leader.stop.long", "ms", [long.stop()])


def memory(subject: str, plan: Plan) -> Iterator[Row]:
    """Bytes per entry and server; the commands put one key, so that the state does not grow."""
    with cluster(snapshot_every=None, snapshot_bytes=None) as three:
        three.fill(plan.long_log // 20)
        grown = memory_per_entry(
            partial(three.fill, plan.long_log), plan.long_log, servers=len(three.servers)
        )
        yield row_of(subject, "memory", "B", [grown])
