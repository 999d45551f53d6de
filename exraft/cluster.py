"""A cluster of three processes, told while it happens: `python -m exraft cluster`.

Knows the steps of the story and what must hold after each. Uses nothing that a user could not: the
servers are `python -m exraft serve`, and this process is their client. Must not know how any of it
works.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

from rich.console import Console

from exraft.api import ExRaft
from exraft.client import Client
from exraft.demo import servers_table, status_of, wait_until
from exraft.distribution import connect
from exraft.errors import ExRaftError, ServerDown
from exraft.names import Peer
from exraft.spelling import write_server
from exraft.story import Story, Unexpected, console_and_pause, literal, milliseconds

MACHINE = "exraft.demo:KeyValueStore"
NAMES = (":raft1", ":raft2", ":raft3")
TIMEOUTS = {"--min-election-timeout": "0.5", "--max-election-timeout": "1.0"}
"""Shorter than usual, so that nobody waits long for the story to go on."""
PATIENCE = 15.0
"""Seconds that a step may take; most take a few milliseconds."""
WRITES = 200
"""Writes while one of the three is dead."""


class Member:
    """One server with the process in which it runs, which may be started again."""

    def __init__(self, peer: Peer, command: list[str], environment: Mapping[str, str]) -> None:
        self.peer = peer
        self.command = command
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._said: list[str] = []

    def start(self) -> None:
        """Begin the process; `await_ready` waits for it."""
        self._ready.clear()
        self._said = []
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=self._environment,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._said.append(line.rstrip())
                if _event(line) == "ready":
                    self._ready.set()
        # What waits for it hears of the end at once.
        self._ready.set()

    def await_ready(self) -> int:
        """Wait until it serves; return the process id."""
        assert self._process is not None
        self._ready.wait(PATIENCE)
        if not any(_event(line) == "ready" for line in self._said):
            raise Unexpected("\n".join([f"{self.peer.name} does not serve; it said:", *self._said]))
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def ended(self) -> int:
        """Wait until the process has ended; return its exit status, `-SIGKILL` if it was killed."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"{self.peer.name} does not end") from None

    def kill(self) -> None:
        """Leave nothing behind, whatever has happened."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _event(line: str) -> object:
    try:
        about = json.loads(line)
    except ValueError:
        return None
    return about.get("event") if isinstance(about, dict) else None


def main(*, fast: bool = False) -> int:
    """Tell the story on standard output; return the exit status."""
    console, pause = console_and_pause(fast=fast)

    def hear(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # So that the processes that were started here end with this one.
    before = signal.signal(signal.SIGTERM, hear)
    try:
        return 0 if tell(console, pause) else 1
    finally:
        signal.signal(signal.SIGTERM, before)


def tell(console: Console, pause: float = 0.0) -> bool:
    """Tell the story; return whether everything held. Leaves no process and no file behind."""
    story = Story(console, pause)
    cookie = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="exraft-") as directory:
        members = [
            Member(peer, command, os.environ | {"EXRAFT_COOKIE": cookie})
            for peer, command in _commands(_free_nodes(len(NAMES)), directory)
        ]
        with _ended_in_the_end(members):
            try:
                connect(cookie=cookie)
                _tell(story, members, cookie)
            except (ExRaftError, Unexpected) as error:
                story.check(False, f"{type(error).__name__}: {error}")
    return story.end()


def _tell(story: Story, members: list[Member], cookie: str) -> None:
    peers = [member.peer for member in members]
    story.step("Three processes start, each a node with one server, and a directory for its log")
    story.shell("export EXRAFT_COOKIE=...    # one secret for all: who has it belongs to them")
    for member in members:
        story.shell(_shown(member.command))
        member.start()
    for member in members:
        story.aside(f"{member.peer} is ready, pid {member.await_ready()}")

    story.step("They elect a leader. This process runs no node: it is a client, with the cookie")
    leader = story.call(ExRaft.await_leader, peers[0], timeout=PATIENCE)
    story.check(
        wait_until(lambda: {ExRaft.leader(peer, PATIENCE) for peer in peers} == {leader}, PATIENCE),
        f"all three follow {leader}",
    )

    story.step("A call to a server on another node is like one at home")
    client = ExRaft.client(peers)
    story.show(f"client = ExRaft.client({literal(peers)})")
    story.call(client.write, ("put", "colour", "blue"), timeout=PATIENCE)
    story.check(
        story.call(client.read, "colour", timeout=PATIENCE) == ("blue", 1), "it can be read"
    )
    words = ["call", leader.node, leader.name, "read", '"colour"']
    story.shell(_shown([sys.executable, "-m", "exraft", *words]))
    answer = _call(words, cookie)
    story.aside(answer)
    story.check(answer == '["blue", 1]', "from the command line, too")
    story.console.print(servers_table(peers))

    story.step("The leader's process is killed, and writes go on with the other two")
    killed = next(member for member in members if member.peer == leader)
    story.shell(f"kill -9 {killed.await_ready()}    # {leader}")
    began = perf_counter()
    killed.send(signal.SIGKILL)
    _written(story, client, ("put", "colour", "green"))
    story.aside(f"{milliseconds(perf_counter() - began)} from the kill to the next answer")
    story.check(killed.ended() == -signal.SIGKILL, "the process is gone, with all that it held")
    began = perf_counter()
    futures = [client.write_async(("put", f"key {number}", "there")) for number in range(WRITES)]
    for future in futures:
        future.get(timeout=PATIENCE)
    story.show('client.write_async(("put", key, "there"))    # for many keys')
    story.aside(f"{WRITES} more writes in {milliseconds(perf_counter() - began)}")
    rest = [peer for peer in peers if peer != leader]
    successor = story.call(ExRaft.await_leader, rest[0], timeout=PATIENCE)
    story.check(successor in rest, f"{successor} leads in its place")

    story.step("It is started again, by the same command: it goes on from its log and catches up")
    story.shell(_shown(killed.command))
    killed.start()
    story.aside(f"{killed.peer} is ready, pid {killed.await_ready()}")
    written = ExRaft.status(successor, PATIENCE).commit_index
    story.check(
        wait_until(lambda: _applied(leader) >= written, PATIENCE),
        "it has applied all that was written meanwhile",
    )
    states: list[Any] = [ExRaft.read_dirty(peer, None, PATIENCE) for peer in peers]
    story.show("ExRaft.read_dirty(server, None)    # each server's own state")
    story.check(states[0] == states[1] == states[2], "the three hold the same, key by key")
    there = sum(f"key {number}" in states[0] for number in range(WRITES))
    story.check(there == WRITES, f"{there} of {WRITES} acknowledged writes are there")
    story.console.print(servers_table(peers))

    story.step("SIGTERM ends a process in order: who leads hands over first")
    for member in members:
        member.send(signal.SIGTERM)
    for member in members:
        story.check(member.ended() == 0, f"{member.peer} has ended with exit status 0")


def _written(story: Story, client: Client, command: object) -> None:
    """Write what may be written twice: once more, if nobody can tell what became of it."""
    try:
        story.call(client.write, command, timeout=PATIENCE)
    except ServerDown as error:
        story.aside(f"raises ServerDown: {error}", "yellow")
        story.aside("It was on its way. To put the same twice is harmless, so once more:")
        story.call(client.write, command, timeout=PATIENCE)


@contextmanager
def _ended_in_the_end(members: Iterable[Member]) -> Iterator[None]:
    try:
        yield
    finally:
        for member in members:
            member.kill()


def _commands(nodes: list[str], directory: str) -> Iterator[tuple[Peer, list[str]]]:
    """How each server is started."""
    peers = [Peer(name, node) for name, node in zip(NAMES, nodes, strict=True)]
    for peer in peers:
        yield (
            peer,
            [
                *(sys.executable, "-m", "exraft", "serve", MACHINE),
                *("--name", peer.name, "--node", peer.node),
                *("--peers", ",".join(map(write_server, peers))),
                *("--data-dir", str(Path(directory, peer.name[1:]))),
                *(word for pair in TIMEOUTS.items() for word in pair),
                *("--log", "json"),
            ],
        )


def _applied(server: Peer) -> int:
    status = status_of(server)
    return 0 if status is None else status.applied_index


def _free_nodes(count: int) -> list[str]:
    """Names of nodes on this machine whose ports nobody has."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _call(words: list[str], cookie: str) -> str:
    """What `python -m exraft` prints."""
    result = subprocess.run(
        [sys.executable, "-m", "exraft", *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
        env=os.environ | {"EXRAFT_COOKIE": cookie},
    )
    return (result.stdout + result.stderr).strip()


def _shown(command: list[str]) -> str:
    """As one would type it, with the long options on lines of their own."""
    text = shlex.join(["python", *command[1:]])
    for option in ("--peers", "--data-dir"):
        text = text.replace(f" {option} ", f" \\\n          {option} ")
    return text
