"""exraft on nodes: three servers, each in a process of its own, and a client that runs no node.

Knows the API and the work to be done with it. Must not know anything inside exraft: what is
measured here is what a user gets.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pykka

import exraft
from benchmarks.measure import DEADLINE, fill, outage
from benchmarks.ours import VALUE, KeyValueStore, answer
from benchmarks.processes import Process, free_ports
from exraft import ExRaft, Peer
from exraft.errors import ExRaftError

NAME = ":bench"

MIN_ELECTION_TIMEOUT = 1.0
"""Seconds, by default."""


class Server:
    """One of three, called from whatever process this is in."""

    refused = ExRaftError

    def __init__(self, node: str) -> None:
        self.peer = Peer(NAME, node)

    def leads(self) -> bool:
        return ExRaft.await_leader(self.peer, timeout=DEADLINE) == self.peer

    def write(self) -> Any:
        return ExRaft.write(self.peer, (1, VALUE), timeout=DEADLINE)

    def write_async(self) -> pykka.Future[Any]:
        return ExRaft.write_async(self.peer, (1, VALUE))

    def wait(self, handle: pykka.Future[Any]) -> Any:
        return answer(handle)

    def read(self) -> Any:
        return ExRaft.read(self.peer, 1, timeout=DEADLINE)


def member(node: str, nodes: Sequence[str], data_dir: str | None) -> Server:
    """What `python -m benchmarks.member benchmarks.distributed` runs."""
    exraft.start_node(node)
    founders = [(NAME, each) for each in nodes]
    ExRaft.start_server(KeyValueStore, 0, name=NAME, initial_config=founders, data_dir=data_dir)
    return Server(node)


class Cluster:
    """Three processes, and their first leader, which gets all calls: a client would find it too."""

    def __init__(self, processes: dict[str, Process]) -> None:
        self._processes = processes
        self._servers = [Peer(NAME, node) for node in processes]
        self.leader = Server(ExRaft.await_leader(self._servers[0], timeout=DEADLINE).node)
        self.home = processes[self.leader.peer.node]
        """The leader's process."""

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def fill(self, entries: int) -> None:
        fill(self.leader.write_async, answer, entries)

    def killed(self) -> float:
        """Milliseconds without a write around the death of the leader's process."""
        write = partial(ExRaft.client(self._servers).write, (1, VALUE))
        return outage(write, ExRaftError, self.home.kill)


@contextmanager
def cluster(data_dir: str | None = None) -> Iterator[Cluster]:
    """A fresh cluster with a leader; its processes are killed afterwards.

    `data_dir`: where all of them keep what they hold; None: in memory.
    """
    # Theirs and this process's: children inherit it.
    os.environ.setdefault("EXRAFT_COOKIE", secrets.token_urlsafe(32))
    nodes = [f"127.0.0.1:{port}" for port in free_ports(3)]
    with ExitStack() as stack:
        processes = {}
        for number, node in enumerate(nodes):
            folder = None if data_dir is None else os.path.join(data_dir, str(number))
            settings = json.dumps({"node": node, "nodes": nodes, "data_dir": folder})
            started = Process("benchmarks.member", "benchmarks.distributed", settings)
            processes[node] = stack.enter_context(started)
        for process in processes.values():
            assert process.hear() == "ready"
        yield Cluster(processes)
