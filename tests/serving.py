"""Processes of `python -m exraft serve` for tests, and what they say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exraft.machine import StateMachine, WriteResult
from tests.helpers import LIMIT

ROOT = Path(__file__).parent.parent
COOKIE = "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz"
QUICK = ["--min-election-timeout", "0.4", "--max-election-timeout", "0.8"]


class Pages(StateMachine):
    """The command is a page, answered with how often it came; the query None is all of them.

    Some commands and queries do what others may not.
    """

    def init(self, init_arg: Any) -> dict[str, int]:
        return dict(init_arg)

    def handle_write(self, command: Any, state: dict[str, int]) -> WriteResult:
        if command == "crash":
            # Is no answer, and comes again with each replay.
            raise MemoryError(command)
        if command == "raise":
            raise ValueError("no such page")
        if command == "hang":
            threading.Event().wait(LIMIT)
        page = command if isinstance(command, str) else repr(command)
        state[page] = state.get(page, 0) + 1
        return state[page], state

    def handle_read(self, query: Any, state: dict[str, int]) -> Any:
        if query == "open files":
            import resource

            return resource.getrlimit(resource.RLIMIT_NOFILE)
        return state if query is None else state.get(query)


class Stuck(Pages):
    """Does not come to its end."""

    def terminate(self, reason: Any, state: Any) -> None:
        threading.Event().wait(LIMIT)


class Service:
    """One process that serves, and the lines of its log, which is JSON."""

    def __init__(self, name: str, node: str, *options: str, machine: str = "Pages") -> None:
        self.name = name
        self.node = node
        self.lines: list[str] = []
        self.ready: dict[str, Any] = {}
        self._news = threading.Condition()
        self._over = False
        command = [sys.executable, "-m", "exraft", "serve", f"tests.serving:{machine}"]
        self._process = subprocess.Popen(
            [*command, "--name", name, "--node", node, "--log", "json", *QUICK, *options],
            cwd=ROOT,
            env=os.environ | {"EXRAFT_COOKIE": COOKIE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def await_ready(self) -> Service:
        """Wait for the one line on standard output."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "".join(self.lines)
        self.ready = json.loads(line)
        return self

    def await_event(self, event: str) -> dict[str, Any]:
        """Wait until its log has told of it."""

        def found() -> list[dict[str, Any]]:
            return [each for each in map(json.loads, self.lines) if each.get("event") == event]

        with self._news:
            self._news.wait_for(lambda: found() or self._over, LIMIT)
            assert found(), "".join(self.lines)
            return found()[0]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return the exit status."""
        status = self._process.wait(LIMIT)
        self._listener.join(LIMIT)
        return status

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT)
        self._listener.join(LIMIT)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


def free_nodes(count: int = 1) -> list[str]:
    """Names of nodes on this machine whose ports nobody has."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    nodes = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        listener.close()
    return nodes


@contextmanager
def serving(name: str, *options: str, machine: str = "Pages") -> Iterator[Service]:
    """One server of its own, ready."""
    service = Service(name, free_nodes()[0], *options, machine=machine)
    try:
        yield service.await_ready()
    finally:
        service.close()
