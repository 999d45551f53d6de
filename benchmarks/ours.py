"""exraft: three servers in this process, in memory, through the public API.

Knows the API and the work to be done with it. Must not know anything inside exraft: what is
measured here is what a user gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

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

SERVERS = (":bench1", ":bench2", ":bench3")
VALUE = b"v" * PAYLOAD
LARGE_VALUE = b"v" * LARGE

# Enough calls for a figure. Without a bound large commands would make the log gigabytes long, and
# the samples of a short log would make it a long one.
MOST_LARGE = 2_000
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


class Cluster:
    """Three servers and their first leader, which gets all calls: a client would find it too."""

    def __init__(self, keys: int) -> None:
        for name in SERVERS:
            last_start = perf_counter()
            ExRaft.start_server(KeyValueStore, keys, name=name, initial_config=SERVERS)
        self.leader: Peer = ExRaft.await_leader(SERVERS[-1], timeout=DEADLINE)
        self.elected_in = (perf_counter() - last_start) * 1e3
        """Milliseconds from the start of the last server until it knew a leader."""

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
        """Milliseconds without a write around a crash of the leader.

        It is stopped behind its supervisor's back, to which that is a death like any other.
        """
        leader = ActorRegistry.get_by_name(self._leader().name)
        assert leader is not None
        return self._outage(partial(leader.stop, block=False))

    def stop(self) -> float:
        """Milliseconds without a write around an orderly stop of the leader."""
        return self._outage(partial(ExRaft.stop_server, self._leader()))

    def _leader(self) -> Peer:
        return ExRaft.await_leader(self.leader, timeout=DEADLINE)

    def _outage(self, fault: partial[Any]) -> float:
        client = ExRaft.client(SERVERS)
        return outage(partial(client.write, (1, VALUE)), ExRaftError, fault)


def answer(future: pykka.Future[Any]) -> Any:
    return future.get(timeout=DEADLINE)


@contextmanager
def cluster(keys: int = 0) -> Iterator[Cluster]:
    """A fresh cluster with a leader, stopped afterwards."""
    try:
        yield Cluster(keys)
    finally:
        for name in SERVERS:
            if ActorRegistry.get_by_name(name) is not None:
                ExRaft.stop_server(name)


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
            streamed("write.pipelined.large", run=pipelined(send_large, answer, MOST_LARGE)),
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
    """How long nobody can write: at first, when the leader crashes, and when it is stopped."""
    first, crash, stop = [], [], []
    for _ in range(plan.failovers):
        with cluster() as three:
            first.append(three.elected_in)
            three.fill(plan.short_log)
            crash.append(three.crash())
            stop.append(three.stop())
    yield row_of(subject, "leader.first", "ms", first)
    yield row_of(subject, "leader.crash", "ms", crash)
    yield row_of(subject, "leader.stop", "ms", stop)


def size(subject: str, plan: Plan) -> Iterator[Row]:
    """The same writes on a short log, on a long one, and on a state of many keys."""
    with floors.running() as below:

        def works(stage: str, three: Cluster) -> list[Work]:
            stream = pipelined(three.write_async, answer, MOST_SHORT)
            return [
                Work(f"size.{stage}.1", "ms", blocking(three.write), floors.PING_PONG, times=2),
                Work(f"size.{stage}.pipelined", "1/s", stream, floors.MAILBOX_PIPELINED),
            ]

        with cluster() as three:
            three.fill(plan.short_log)
            yield from compared(subject, works("short", three), below, plan)
            three.fill(plan.long_log)
            yield from compared(subject, works("log", three), below, plan)
            crashes = [three.crash() for _ in range(min(plan.failovers, 3))]
            yield row_of(subject, "leader.crash.long", "ms", crashes)
        with cluster(plan.many_keys) as three:
            three.fill(plan.short_log)
            yield from compared(subject, works("keys", three), below, plan)


def memory(subject: str, plan: Plan) -> Iterator[Row]:
    """Bytes per entry and server; the commands put one key, so that the state does not grow."""
    with cluster() as three:
        three.fill(plan.long_log // 20)
        grown = memory_per_entry(
            partial(three.fill, plan.long_log), plan.long_log, servers=len(SERVERS)
        )
        yield row_of(subject, "memory", "B", [grown])
