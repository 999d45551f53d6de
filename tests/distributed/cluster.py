"""Processes that are a cluster, started, killed and asked from outside.

Knows how a member is run, and how it is spoken to by its pipe, whatever the network does. Must not
know what is tried with it.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final

import exraft
from exraft import Peer

LIMIT: Final = 60.0
"""Seconds after which what should happen has not, on a machine under any load."""

OPTIONS: Final[dict[str, Any]] = {
    "min_election_timeout": 0.3,
    "max_election_timeout": 1.0,
    "heartbeat_timeout": 0.05,
}
MEMBERS: Final = (1, 2, 3)


class CampaignFailed(AssertionError):
    """The cluster did what it must not do, or did not what it must."""


class Failed(Exception):
    """What a member was asked for has failed there.

    Attributes:
        type: the name of the error's class.
        maybe_applied: what it says of itself.
    """

    def __init__(self, type_name: str, says: str, maybe_applied: bool) -> None:
        super().__init__(f"{type_name}: {says}")
        self.type = type_name
        self.maybe_applied = maybe_applied


@dataclass
class Place:
    """Where a member is run.

    Attributes:
        node: its name, as all know it.
        bind: where it listens, if that is not its name.
        hosts: where it finds the hosts of others.
        prefix: what its command begins with.
    """

    node: str
    bind: str | None = None
    hosts: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()


class Member:
    """One member, over all its lives."""

    def __init__(self, number: int, place: Place, directory: Path) -> None:
        self.number = number
        self.place = place
        self.peer = Peer(f":raft{number}", place.node)
        self.log = directory / f"{number}.log"
        self.lives = 0
        self._data = directory / f"data{number}"
        self._ids = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"member {self.number}"

    def start(
        self,
        founders: Sequence[Peer],
        cookie: str,
        *,
        durable: bool = True,
        protocol: int | None = None,
        **options: Any,
    ) -> Future[Any]:
        """Start its process; what is returned is done when it is ready."""
        command = [
            *self.place.prefix,
            *(sys.executable, "-m", "tests.distributed.member", *self.peer),
            *("--founders", json.dumps(founders)),
            *("--options", json.dumps({**OPTIONS, **options})),
            *("--hosts", json.dumps(self.place.hosts)),
        ]
        if self.place.bind is not None:
            command += ["--bind", self.place.bind]
        if durable:
            command += ["--data-dir", str(self._data)]
        if protocol is not None:
            command += ["--protocol", str(protocol)]
        ready: Future[Any] = Future()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "EXRAFT_COOKIE": cookie},
            )
        self.lives += 1
        self._process = process
        self._waiting = {0: ready}
        threading.Thread(
            target=self._listen, args=(process, self._waiting), name=str(self), daemon=True
        ).start()
        return ready

    def _listen(self, process: subprocess.Popen[bytes], waiting: dict[int, Future[Any]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith(b"\n"):
                answer = json.loads(line)
                with self._lock:
                    future = waiting.pop(answer["id"])
                if "failed" in answer:
                    future.set_exception(
                        Failed(answer["failed"], answer["says"], answer["maybe_applied"])
                    )
                else:
                    future.set_result(answer["is"])
        with self._lock:
            left = list(waiting.values())
            waiting.clear()
        for future in left:
            future.set_exception(CampaignFailed(f"{self} has ended: {self.last_words()}"))

    def ask(self, do: str, **what: Any) -> Future[Any]:
        """Have it do something; the future fails with `Failed`."""
        process = self._process
        assert process is not None and process.stdin is not None
        future: Future[Any] = Future()
        number = next(self._ids)
        with self._lock:
            self._waiting[number] = future
            line = json.dumps({"id": number, "do": do, "timeout": LIMIT, **what})
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        return future

    def get(self, do: str, **what: Any) -> Any:
        return self.ask(do, **what).result(LIMIT + 30.0)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Without a word; it is over when this returns."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise CampaignFailed(
                f"{self} has ended by itself, with {self._process.returncode}: {self.last_words()}"
            )
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self) -> None:
        """In good order, if it runs."""
        if self._process is None or not self.alive:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            # To see where it hangs.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            raise CampaignFailed(f"{self} does not come to its end") from None
        if self._process.returncode:
            raise CampaignFailed(
                f"{self} has ended with {self._process.returncode}: {self.last_words()}"
            )

    def destroy(self) -> None:
        if self.alive:
            assert self._process is not None
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        # What it has not read any more is lost with it.
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        statm = Path(f"/proc/{self.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Cluster:
    """Three members, and who asks all of them."""

    def __init__(self, directory: Path, places: Sequence[Place], **options: Any) -> None:
        self.cookie = secrets.token_hex(32)
        self.members = [
            Member(number, place, directory) for number, place in zip(MEMBERS, places, strict=True)
        ]
        self.peers = [member.peer for member in self.members]
        self._options = options

    def start(self, *members: Member, **options: Any) -> None:
        """Start them, or all, and wait until they are ready."""
        for ready in [self.begin(each, **options) for each in members or self.members]:
            ready.result(LIMIT)

    def begin(self, member: Member, **options: Any) -> Future[Any]:
        return member.start(self.peers, self.cookie, **{**self._options, **options})

    def leader(self) -> Member:
        """Who leads, once all who run agree on it."""
        found: list[Member] = []

        def agreed() -> bool:
            views = [each.get("status") for each in self.members if each.alive]
            named = {(view["term"], tuple(view["leader"] or ())) for view in views}
            if len(named) != 1 or not (peer := named.pop()[1]):
                return False
            found[:] = [each for each in self.members if each.peer == peer]
            return bool(found) and found[0].alive

        wait_until(agreed, lambda: f"no agreement on a leader: {self.views()}")
        return found[0]

    def settle(self) -> int:
        """Wait until all have applied the same; return their term."""

        def settled() -> bool:
            views = [each.get("status") for each in self.members]
            one = {
                (view["term"], tuple(view["leader"] or ()), view["last_index"]) for view in views
            }
            applied = all(view["applied_index"] == view["last_index"] for view in views)
            return len(one) == 1 and applied and bool(views[0]["leader"])

        wait_until(settled, lambda: f"no convergence: {self.views()}")
        term: int = self.members[0].get("status")["term"]
        return term

    def views(self) -> list[Any]:
        return [each.get("status") for each in self.members if each.alive]

    def complaints(self) -> list[str]:
        """What no log may hold, of any life: an exception of the node's thread, or of a server."""
        found = []
        for member in self.members:
            for line in member.log.read_text(errors="replace").splitlines():
                if "the node's thread goes on after" in line or "Traceback" in line:
                    found.append(f"{member}: {line}, see {member.log}")
        return found


@contextmanager
def cluster(directory: Path, places: Sequence[Place], **options: Any) -> Iterator[Cluster]:
    """A cluster that is started, and stopped in good order if nothing went wrong."""
    made = Cluster(directory, places, **options)
    try:
        made.start()
        yield made
        for member in made.members:
            member.stop()
        complaints = made.complaints()
        if complaints:
            raise CampaignFailed("\n".join(complaints[:20]))
    finally:
        for member in made.members:
            member.destroy()


@contextmanager
def caller(cookie: str) -> Iterator[None]:
    """Have this process, which runs no node, call the members."""
    exraft.connect(cookie=cookie)
    try:
        yield
    finally:
        exraft.stop_node()


def loopback(rng: random.Random | None = None) -> list[Place]:
    """Places on this host, at ports that are free."""
    return [Place(f"127.0.0.1:{port}") for port in free_ports(len(MEMBERS), rng)]


def free_ports(many: int, rng: random.Random | None = None) -> list[int]:
    """Below those that connections are given, so that they stay free between two lives."""
    rng = rng or random.Random()
    found: list[int] = []
    while len(found) < many:
        port = rng.randrange(10_000, 30_000)
        with socket.socket() as made:
            try:
                made.bind(("", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def wait_until(done: Callable[[], bool], what: Callable[[], str], every: float = 0.02) -> float:
    """Ask until it is so; return how many seconds that took."""
    pause = threading.Event()
    began = monotonic()
    while not done():
        if monotonic() - began > LIMIT:
            raise CampaignFailed(what())
        pause.wait(every)
    return monotonic() - began
