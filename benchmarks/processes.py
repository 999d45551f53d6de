"""Processes beside this one that are measured: started, told what to do, and ended by their ids.

Knows pipes and processor time. Must not know what the processes are.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from benchmarks.measure import Measured, Sample


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Process:
    """`python -m benchmarks.member`, or another module that speaks as it does."""

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def hear(self) -> Any:
        """The next thing that it says."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise EOFError(f"process {self.pid} ended with status {self._child.wait()}")
        return json.loads(line)

    def tell(self, *order: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def ask(self, *order: Any) -> Any:
        self.tell(*order)
        return self.hear()

    def sampled(self, *order: Any) -> Measured:
        """What it measures itself when it is given this order, and for how long."""
        return lambda seconds: Sample(**self.ask(*order, seconds))

    def kill(self) -> None:
        """SIGKILL: its sockets are closed, its memory is gone. Returns when it has ended."""
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()


def with_cpu_of(pids: Sequence[int], measured: Measured) -> Measured:
    """The same, with the processor time of these processes beside that of this one."""
    everyone = {os.getpid(), *pids}

    def all_together(seconds: float) -> Sample:
        before = sum(map(_cpu, everyone))
        sample = measured(seconds)
        return replace(sample, cpu=(sum(map(_cpu, everyone)) - before) / sample.calls)

    return all_together


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used.

    The id of its clock is made as clock_getcpuclockid(3) makes it on Linux.
    """
    return time.clock_gettime((~pid << 3) | 2)
