"""What the machine can do: the least that a road through threads and mailboxes costs in Python.

Knows queues, locks and plain Pykka. Must not know exraft, so that a slow exraft cannot lower them.
"""

from __future__ import annotations

import pickle
import threading
from _thread import LockType, allocate_lock
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import pykka

from benchmarks.measure import Measured, Plan, Work, blocking, compared, pipelined, timed
from benchmarks.rows import LARGE, Row

PING_PONG = "ping-pong"
PYKKA_ASK = "pykka.ask"
MAILBOX = "mailbox"
MAILBOX_PIPELINED = "mailbox.pipelined"
KEPT = "kept.large"
"""What fresh memory costs: a large command serialised and kept, as a log must keep it."""

THREAD_RESTART = "thread.restart"
"""The least that a supervisor of threads must do: one ends, its owner starts the next."""

MOST_KEPT = 2_000


class _OneLockFuture:
    """An answer to come: the lock is free once it is there."""

    __slots__ = ("_answered", "_value")

    def __init__(self) -> None:
        self._answered: LockType = allocate_lock()
        self._answered.acquire()
        self._value: Any = None

    def set(self, value: Any) -> None:
        self._value = value
        self._answered.release()

    def get(self) -> Any:
        self._answered.acquire()
        return self._value


class _Echo(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


class _Heir:
    """A thread that can be told to end, and an owner who then starts the next one."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._deaths: SimpleQueue[float | None] = SimpleQueue()
        self._lives: SimpleQueue[float] = SimpleQueue()
        self._owner = threading.Thread(target=self._own)
        self._owner.start()
        self._deaths.put(perf_counter())
        self._lives.get()

    def _own(self) -> None:
        while (died := self._deaths.get()) is not None:
            threading.Thread(target=self._live, args=(died,)).start()

    def _live(self, died: float) -> None:
        self._lives.put(perf_counter() - died)
        self._deaths.put(perf_counter() if self._orders.get() else None)

    def restart(self) -> float:
        """Seconds from just before the note of a thread's death until the next thread runs."""
        self._orders.put(True)
        return self._lives.get()

    def close(self) -> None:
        self._orders.put(False)
        self._owner.join()


@contextmanager
def running() -> Iterator[Mapping[str, Measured]]:
    """The floors by name, ready to be measured beside other work."""
    pings: SimpleQueue[str | None] = SimpleQueue()
    pongs: SimpleQueue[str | None] = SimpleQueue()
    mailbox: SimpleQueue[tuple[Any, _OneLockFuture] | None] = SimpleQueue()

    def play() -> None:
        while (ping := pings.get()) is not None:
            pongs.put(ping)

    def serve() -> None:
        while (letter := mailbox.get()) is not None:
            message, future = letter
            future.set(message["command"])

    def ping() -> None:
        pings.put("ping")
        pongs.get()

    def send() -> _OneLockFuture:
        future = _OneLockFuture()
        mailbox.put(({"command": "ping"}, future))
        return future

    log: list[bytes] = []
    value = b"v" * LARGE

    def keep() -> None:
        log.append(pickle.dumps((1, value), 5))

    threads = [threading.Thread(target=play), threading.Thread(target=serve)]
    for thread in threads:
        thread.start()
    echo = _Echo.start()
    heir = _Heir()
    try:
        yield {
            PING_PONG: blocking(ping),
            PYKKA_ASK: blocking(lambda: echo.ask("ping")),
            MAILBOX: blocking(lambda: send().get()),
            MAILBOX_PIPELINED: pipelined(send, _OneLockFuture.get),
            KEPT: blocking(keep, most=MOST_KEPT),
            THREAD_RESTART: timed(heir.restart),
        }
    finally:
        heir.close()
        echo.stop()
        pings.put(None)
        mailbox.put(None)
        for thread in threads:
            thread.join()


def measure(subject: str, plan: Plan) -> Iterator[Row]:
    """The floors as rows of their own."""
    with running() as floors:
        each = (PING_PONG, PYKKA_ASK, MAILBOX, THREAD_RESTART)
        works = [Work(name, "ms", floors[name]) for name in each]
        works += [Work(name, "1/s", floors[name]) for name in (MAILBOX_PIPELINED, KEPT)]
        yield from compared(subject, works, floors, plan)
