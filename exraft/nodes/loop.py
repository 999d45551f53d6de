"""The node's thread: it receives for the whole process, and does what takes a moment now and then.

Knows when something can be received, and whom to tell. Must not know what is received.

The theory of the file: a ZeroMQ socket may be used by several threads as long as a lock keeps them
apart, and so servers and callers send for themselves, which saves each message two changes of
thread. What can't be kept apart by a lock is waiting: so this thread waits on the socket's file
descriptor and not on the socket. That descriptor tells of changes, not of a state: after it has
fired, everything must be received; and since sending takes notice of changes too, whoever has sent
looks whether there is something to be received, and wakes this thread then.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import monotonic, sleep
from typing import Any, Final, TypeAlias

import zmq
import zmq.backend

from exraft.nodes.seldom import Seldom

logger = logging.getLogger("exraft.nodes")
_faults = Seldom(logger, 5.0)

Receive: TypeAlias = Callable[[list[bytes]], object]
"""Takes the parts of a message, in the node's thread."""

SHORT: Final = 0.003
"""Seconds after which the node's own thread receives if nobody else does."""
LONG: Final = 0.05
"""Seconds between two looks at that, at most, as long as somebody does."""
PATIENCE: Final = 0.05
"""Seconds to wait for the turn, which is given up as soon as the bell is heard."""
AWAKE: Final = 0.0002
"""Seconds that a thread which waits for what comes soon stays awake."""
SOON: Final = 0.001
"""Seconds after which it did not come soon."""
MOST_SOCKETS: Final = 16_384
BATCH: Final = 256
"""Messages that one socket is received from before the others have their turn."""


# Under the sockets' own methods, which take several times as long for what they do besides.
_send: Final = zmq.backend.Socket.send
_recv: Final = zmq.backend.Socket.recv
_get: Final = zmq.backend.Socket.get
_NOW: Final = int(zmq.NOBLOCK)
_NOW_AND_MORE: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_EVENTS: Final = int(zmq.EVENTS)
_READABLE: Final = int(zmq.POLLIN)


_let_others: Final = getattr(os, "sched_yield", partial(sleep, 0))


class Shared:
    """A socket that several threads send through and one receives from.

    Attributes:
        lock: held by whoever touches the socket.
    """

    def __init__(
        self, loop: Loop, made: zmq.Socket[bytes], receive: Receive, *, one_way: bool
    ) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.socket = made
        self.fd: int = made.getsockopt(zmq.FD)  # type: ignore[assignment]
        self._loop = loop
        self._receive = receive
        self._one_way = one_way

    def send(self, parts: Sequence[Any]) -> bool:
        """Send at once, with the lock held; say whether there was room.

        Raises:
            zmq.ZMQError: it could not be, for another reason.
        """
        made = self.socket
        try:
            for part in parts[:-1]:
                _send(made, part, _NOW_AND_MORE)
            _send(made, parts[-1], _NOW)
        except zmq.Again:
            return False
        if not self._one_way and int(_get(made, _EVENTS)) & _READABLE:
            self._loop.call_soon(self.drain)
        return True

    def drain(self) -> bool:
        """In the node's thread: receive what is there, or some of it; say whether there is more."""
        receive = self._receive
        made = self.socket
        for _ in range(BATCH):
            with self.lock:
                # To ask costs less than to be told by an exception that nothing is there.
                if self.closed or not int(_get(made, _EVENTS)) & _READABLE:
                    return False
                frame = _recv(made, _NOW, False)
                parts = [frame.bytes]
                while frame.more:
                    frame = _recv(made, _NOW, False)
                    parts.append(frame.bytes)
            receive(parts)
        self._loop.call_soon(self.drain)
        return True

    def close(self, linger: float) -> None:
        """In the node's thread; what is not sent yet has `linger` seconds."""
        with self.lock:
            if not self.closed:
                self.closed = True
                self.socket.close(linger=round(linger * 1000))


class Loop:
    """One thread that waits for descriptors, and calls who is concerned.

    Whatever those raise is logged, and the thread goes on.

    Attributes:
        context: of the sockets.
        faults: how often somebody raised.
    """

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Three for each connection; what it does without being told is 1023.
        self.context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
        self.faults = 0
        self._selector = selectors.DefaultSelector()
        self._soon: deque[Callable[[], object]] = deque()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._ids = itertools.count()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._rung = False
        self._ends = False
        self._turn = threading.Lock()
        """Held by who receives at the moment."""
        self._receiver = 0
        """The id of its thread."""
        self._wanted = False
        """Whether somebody wants to have the turn that the node's own thread has."""
        self._left = 0.0
        """When somebody gave the turn back to nobody; 0 while somebody has it."""
        self._called = threading.Event()
        self._busy = False
        """Whether the last wait was short, so that the next may be as well."""
        self._selector.register(self._ear, selectors.EVENT_READ, self._answer_the_bell)
        self._own = 0
        self._thread = threading.Thread(target=self._run, name="exraft-node", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def share(self, made: zmq.Socket[bytes], receive: Receive, *, one_way: bool = False) -> Shared:
        """Have what the socket receives given to `receive`, in this thread.

        With `one_way` nobody waits for what comes in, and it may come late.
        """
        shared = Shared(self, made, receive, one_way=one_way)
        self.call_soon(lambda: self._listen(shared))
        return shared

    def _listen(self, shared: Shared) -> None:
        with shared.lock:
            if shared.closed:
                return
            self._selector.register(shared.fd, selectors.EVENT_READ, shared.drain)
        # What changed before is not told again.
        shared.drain()

    def forget(self, shared: Shared, linger: float = 0.0) -> None:
        """Close a socket; in this thread, or when it has ended."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(shared.fd)
        shared.close(linger)

    def call_soon(self, what: Callable[[], object]) -> None:
        """Have `what` called in this thread."""
        self._soon.append(what)
        self.ring()

    def ring(self) -> None:
        """Have who receives look at what is new; from any thread."""
        if not self._rung and get_ident() != self._receiver:
            self._rung = True
            # Full: it has been rung more often than was heard.
            with suppress(BlockingIOError, OSError):
                self._bell.send(b"!")

    def call_later(self, seconds: float, what: Callable[[], object]) -> None:
        """For this thread: have `what` called in it in so many seconds."""
        heapq.heappush(self._later, (monotonic() + seconds, next(self._ids), what))

    def take_turn(self) -> bool:
        """Have the calling thread receive instead of the node's own: say whether it does now.

        It then calls `receive`, again and again, and `give_back`.
        """
        turn = self._turn
        if not turn.acquire(False):
            if self._receiver != self._own:
                return False
            self._wanted = True
            self.ring()
            if not turn.acquire(True, PATIENCE):
                # Else the node's thread would wait for us, and nobody would receive.
                self._wanted = False
                return False
        self._wanted = False
        self._left = 0.0
        self._receiver = get_ident()
        return True

    def give_back(self, *, urgently: bool) -> None:
        """Let somebody else receive: the node's own thread, but not at once unless it is urgent."""
        self._receiver = 0
        self._left = monotonic()
        self._turn.release()
        if urgently:
            self._called.set()

    def stop(self) -> None:
        """End the thread, and wait for it. The sockets are the callers' to close, then `end`."""
        self._ends = True
        self._called.set()
        self.ring()
        if self._thread.ident is not None:
            self._thread.join()

    def end(self) -> None:
        """After all sockets are closed: what they still have to send has had its linger."""
        self._selector.close()
        self._bell.close()
        self._ear.close()
        self.context.term()

    def _answer_the_bell(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(512):
                pass

    def _run(self) -> None:
        self._own = get_ident()
        while not self._ends:
            with self._turn:
                self._left = 0.0
                self._receiver = self._own
                while not (self._ends or self._wanted):
                    self.receive(None)
                self._receiver = 0
                self._left = monotonic()
            self._watch_over()

    def _watch_over(self) -> None:
        """Whoever has the turn may not come back to it soon: then this thread takes it."""
        pause = SHORT
        while not self._ends:
            if self._called.wait(pause):
                self._called.clear()
                return
            left = self._left
            if left and monotonic() - left > SHORT:
                return
            pause = SHORT if left else min(2 * pause, LONG)

    def receive(self, seconds: float | None) -> None:
        """For who has the turn: wait so long at most, and tell who is concerned."""
        later = self._later
        if later:
            due = max(0.0, later[0][0] - monotonic())
            seconds = due if seconds is None else min(due, seconds)
        for key, _ in self._wait(0.0 if self._soon else seconds):
            self._call(key.data)
        self._rung = False
        for _ in range(len(self._soon)):
            self._call(self._soon.popleft())
        while later and later[0][0] <= monotonic():
            self._call(heapq.heappop(later)[2])

    def _wait(self, seconds: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for a descriptor; awake for a moment, if the last wait was a short one.

        To wake a thread that sleeps takes longer than most of what it is woken for, and one write
        wakes a dozen. Who needs the core meanwhile gets it.
        """
        select = self._selector.select
        found = select(0.0)
        if found or seconds == 0.0:
            return found
        began = monotonic()
        if self._busy:
            until = began + (AWAKE if seconds is None else min(seconds, AWAKE))
            while not found and monotonic() < until:
                _let_others()
                found = select(0.0)
        if not found:
            found = select(seconds)
        self._busy = bool(found) and monotonic() - began < SOON
        return found

    def _call(self, what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:
            # One who is concerned must not keep the thread from the others.
            self.faults += 1
            _faults.log(
                logging.ERROR,
                "the node's thread goes on after:\n%s",
                "".join(traceback.format_exception(error)),
            )
