"""etcd: three members as processes on loopback, each with its own directory, doing the same writes.

Knows etcd's HTTP gateway. Must not know exraft. The client is this process: a row's processor time
is the client's share alone.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

from benchmarks import disk
from benchmarks.measure import DEADLINE, Plan, Work, blocking, compared
from benchmarks.processes import free_ports
from benchmarks.rows import PAYLOAD, Row

KEY = base64.b64encode(b"1").decode()
PUT = json.dumps(
    {
        "key": KEY,
        "value": base64.b64encode(b"v" * PAYLOAD).decode(),
    }
)
GET = json.dumps({"key": KEY})
"""Linearizable, as reads are by default."""


class Cluster(NamedTuple):
    """Who leads, and the processes of all three."""

    leader: Member
    pids: list[int]


class Refused(Exception):
    """A member answered something else than "done"."""


class Member:
    """One of three, and this process's connections to it: one for each thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._here = threading.local()

    def post(self, path: str, body: str) -> Any:
        connection = getattr(self._here, "connection", None)
        if connection is None:
            connection = self._here.connection = HTTPConnection(
                "127.0.0.1", self.port, timeout=DEADLINE
            )
        connection.request("POST", path, body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Refused(f"{answer.status}: {text.decode(errors='replace')}")
        return json.loads(text)

    def hang_up(self) -> None:
        """Forget this thread's connection, which may be in the middle of something."""
        self._here.connection = None

    def write(self) -> None:
        self.post("/v3/kv/put", PUT)

    def read(self) -> None:
        self.post("/v3/kv/range", GET)

    def leads(self) -> bool:
        status = self.post("/v3/maintenance/status", "{}")
        return bool(status.get("leader")) and status["leader"] == status["header"]["member_id"]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A fresh cluster with a leader."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = free_ports(6)
        peers = [f"http://127.0.0.1:{port}" for port in ports[:3]]
        members = ",".join(f"m{number}={url}" for number, url in enumerate(peers))
        pids = []
        for number, peer in enumerate(peers):
            client = f"http://127.0.0.1:{ports[3 + number]}"
            process = subprocess.Popen(
                [
                    *("etcd", "--name", f"m{number}", "--data-dir", str(folder / f"m{number}")),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--initial-cluster", members, "--initial-cluster-state", "new"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            pids.append(process.pid)
        yield Cluster(_leader([Member(port) for port in ports[3:]]), pids)


def _leader(members: list[Member]) -> Member:
    end = perf_counter() + DEADLINE
    while perf_counter() < end:
        for member in members:
            try:
                if member.leads():
                    member.write()
                    return member
            except (OSError, HTTPException, Refused):
                # It is not up yet; its status is all there is to wait on.
                member.hang_up()
        sleep(0.05)
    raise TimeoutError(f"etcd has no leader after {DEADLINE:g} s")


def throughput(subject: str, plan: Plan) -> Iterator[Row]:
    """Writes one at a time, and many at once."""
    with disk.running() as below, cluster() as three:
        leader = three.leader
        works = [
            Work("durable.write.1", "ms", blocking(leader.write), disk.APPEND[1]),
            Work("durable.write.64", "1/s", blocking(leader.write, threads=64), disk.APPEND[10]),
        ]
        yield from compared(subject, works, below, plan)
