"""Networks between members in which single directions can be cut, and healed.

Knows two: namespaces of the kernel with a router between them, where packets are dropped, and a
proxy in this process, where bytes are held. Must not know what the members say to each other.

In both a cut closes nothing: what is under way stays so, and after healing it goes on, as TCP tries
again what got no answer. The proxy tells who connects by where: a member finds each other one at an
address of its own, as if there was a wire for each pair.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol, TypeAlias

from tests.distributed.cluster import MEMBERS, Place, free_ports

_PIECE: Final = 64 * 1024


Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Network(Protocol):
    """Members are numbered as in the cluster."""

    name: str
    places: Sequence[Place]

    def cut(self, source: int, target: int) -> None:
        """Let nothing through from one to the other any more."""

    def heal(self) -> None:
        """Let everything through."""


class Proxy:
    """Between all members, in a thread of this process; needs no rights."""

    name = "proxy"

    def __init__(self) -> None:
        (port,) = free_ports(1)
        self.places: Sequence[Place] = [
            Place(
                f"member-{me}:{port}",
                bind=f"{_listens(me)}:{port}",
                hosts={f"member-{other}": _wire(me, other) for other in MEMBERS},
            )
            for me in MEMBERS
        ]
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._open: dict[tuple[int, int], asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    async def _listen(self) -> None:
        for pair in itertools.permutations(MEMBERS, 2):
            self._open[pair] = asyncio.Event()
            self._open[pair].set()
            serve = self._serve_pair(*pair)
            await asyncio.start_server(serve, _wire(*pair), self._port, backlog=1024)

    def _serve_pair(self, source: int, target: int) -> Serve:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._carry(source, target, reader, writer)
            finally:
                self._tasks.discard(task)

        return serve

    async def _carry(
        self,
        source: int,
        target: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection, until either end has closed it, and that has got through."""
        there, back = self._open[source, target], self._open[target, source]
        try:
            # What the kernel does by itself here takes packets both ways elsewhere.
            await there.wait()
            await back.wait()
            far_reader, far_writer = await asyncio.open_connection(_listens(target), self._port)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_pump(there, reader, far_writer))
                ways.create_task(_pump(back, far_reader, writer))
        except* OSError:
            pass
        finally:
            writer.close()
            far_writer.close()

    def cut(self, source: int, target: int) -> None:
        self._call(self._open[source, target].clear)

    def heal(self) -> None:
        for gate in self._open.values():
            self._call(gate.set)

    def _call(self, what: Callable[[], object]) -> None:
        """In the proxy's thread, and wait for it."""

        async def call() -> None:
            what()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Closed(OSError):
    """One end has closed the connection: so is the other one."""


async def _pump(
    gate: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        await gate.wait()
        data = await reader.read(_PIECE)
        await gate.wait()
        if not data:
            raise _Closed
        writer.write(data)
        await writer.drain()


def _listens(member: int) -> str:
    return f"127.0.0.{member}"


def _wire(source: int, target: int) -> str:
    return f"127.0.{source}.{target}"


class Namespaces:
    """A network namespace for each member, and one for the router between them."""

    name = "namespaces"

    def __init__(self) -> None:
        self._mark = f"exraft{os.getpid()}"
        self._router = f"{self._mark}r"
        self.places: Sequence[Place] = [
            Place(f"{_host(me)}:7001", prefix=("ip", "netns", "exec", self._space(me)))
            for me in MEMBERS
        ]
        self._cuts: list[tuple[str, ...]] = []

    def _space(self, member: int) -> str:
        return f"{self._mark}m{member}"

    def start(self) -> None:
        _ip("netns", "add", self._router)
        for me in MEMBERS:
            space, port = self._space(me), f"port{me}"
            _ip("netns", "add", space)
            _ip(
                "-n",
                self._router,
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                space,
            )
            _ip("-n", self._router, "addr", "add", f"{_host(me, 254)}/24", "dev", port)
            _ip("-n", self._router, "link", "set", port, "up")
            _ip("-n", space, "addr", "add", f"{_host(me)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "route", "add", "default", "via", _host(me, 254))
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _ip("netns", "exec", self._router, "sh", "-c", forward)

    def cut(self, source: int, target: int) -> None:
        rule = ("iif", f"port{source}", "to", _host(target), "blackhole")
        _ip("-n", self._router, "rule", "add", *rule)
        self._cuts.append(rule)

    def heal(self) -> None:
        while self._cuts:
            _ip("-n", self._router, "rule", "del", *self._cuts.pop())

    def close(self) -> None:
        for space in (self._router, *map(self._space, MEMBERS)):
            with suppress(Unavailable):
                _ip("netns", "del", space)


class Unavailable(Exception):
    """Such a network can't be made here; the message says why."""


def _host(member: int, last: int = 1) -> str:
    # Of the block that is kept for tests of networks (RFC 2544).
    return f"198.18.{member}.{last}"


def _ip(*words: str) -> None:
    done = subprocess.run(("ip", *words), capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"ip {' '.join(words)}: {done.stderr.strip()}")


def why_no_namespaces() -> str | None:
    """What keeps network namespaces from being made here; None if nothing does."""
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (Debian: iproute2), and it is not installed"
    if os.geteuid() != 0:
        return "network namespaces are made by root only"
    network = Namespaces()
    try:
        network.start()
        network.cut(1, 2)
        network.heal()
    except Unavailable as error:
        return f"network namespaces can't be made here: {error}"
    finally:
        network.close()
    return None


@contextmanager
def network(kind: type[Proxy] | type[Namespaces]) -> Iterator[Network]:
    made = kind()
    try:
        made.start()
        yield made
    finally:
        made.close()


def both_ways(ones: Iterable[int], others: Sequence[int]) -> list[tuple[int, int]]:
    """The directions that are cut to part these from those."""
    return [way for one in ones for other in others for way in ((one, other), (other, one))]
