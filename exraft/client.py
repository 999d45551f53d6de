"""A handle on a cluster that finds the leader by itself.

Knows the servers it may ask, and which failures may be tried again: only those that say that the
command was surely not applied. Must not know why a server leads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any

import pykka

from exraft.actors.calls import AwaitLeader, Read, Reply, Write, WriteReply
from exraft.actors.server import current_server
from exraft.calling import deliver, encode_for, peer_of
from exraft.codec import own_copy
from exraft.errors import (
    CallTimeout,
    CommandDropped,
    DiskFull,
    ExRaftError,
    NoLeader,
    Redirect,
    SelfCall,
    ServerDown,
    ServerNotFound,
    Transferring,
)
from exraft.limits import check_timeout
from exraft.names import Peer, Server

PATIENCE = 60.0
"""Seconds that an asynchronous write is tried for."""
PAUSE = 0.02
"""Seconds between two rounds of asking when no server can say who leads."""
ELECTION = 0.25
"""Seconds that one server is given at most to say who leads, before the others are asked again."""

_AGAIN = (
    NoLeader,
    Redirect,
    Transferring,
    ServerNotFound,
    ServerDown,
    CommandDropped,
    DiskFull,
)
"""Failures of a server, not of the command: worth another try if nothing was applied."""


class Client:
    """Writes to and reads from whichever of `servers` leads; made by `ExRaft.client`.

    It follows redirects and waits out elections until the timeout, and tries again only what surely
    was not applied: so a command is applied at most once a call. Safe from any thread.
    """

    def __init__(self, servers: Iterable[Server]) -> None:
        if isinstance(servers, str | Peer):
            raise ValueError(f"a client takes a list of servers, such as [{servers!r}]")
        self._servers = [peer_of(server) for server in servers]
        if not self._servers:
            raise ValueError("a client needs at least one server to ask")
        self._leader = self._servers[0]
        self._lock = threading.Lock()
        self._pausing: list[_Attempt] = []
        """Asynchronous writes that are tried again when the pause is over."""

    def write(self, command: Any, timeout: float | None = 60.0) -> Any:
        """Write through the leader; see `ExRaft.write` for what it returns and raises.

        Raises:
            CallTimeout: no leader was found in time (`maybe_applied` is False), or no answer came.
        """
        check_timeout(timeout)
        self._check_caller()
        data = encode_for(self._leader, command)
        return self._persist(lambda: Write(WriteReply(), data), timeout)

    def read(self, query: Any, timeout: float | None = 60.0) -> Any:
        """Read through the leader, linearizably; see `ExRaft.read`."""
        check_timeout(timeout)
        self._check_caller()
        query = own_copy(query)
        return self._persist(lambda: Read(Reply(), query, dirty=False), timeout)

    def write_async(self, command: Any) -> pykka.Future[Any]:
        """Like `write`, without waiting; tried for at most 60 seconds."""
        self._check_caller()
        data = encode_for(self._leader, command)
        result = WriteReply()
        result.server = self._leader
        _Attempt(self, data, result, monotonic() + PATIENCE).send()
        return result

    def _check_caller(self) -> None:
        """Refuse a callback of one of the servers: it would wait for itself."""
        if current_server() in self._servers:
            raise SelfCall()

    def _persist(self, make: Any, timeout: float | None) -> Any:
        deadline = None if timeout is None else monotonic() + timeout
        asked = 0
        while True:
            peer = self._leader
            remaining = None if deadline is None else max(0.0, deadline - monotonic())
            message = make()
            try:
                deliver(peer, message)
                return message.wait(remaining)
            except CallTimeout as error:
                raise self._timeout(peer, timeout, error) from None
            except _AGAIN as error:
                if error.maybe_applied:
                    raise
                asked += 1
                self._after(error, peer)
                if asked % (len(self._servers) + 1) == 0:
                    self._await_leader(peer, deadline)
                # Before it is sent once more, as nobody could tell then what became of it.
                if deadline is not None and monotonic() >= deadline:
                    raise self._timeout(peer, timeout, error) from error

    def _timeout(self, peer: Peer, timeout: float | None, last: ExRaftError) -> CallTimeout:
        """What a caller is told in the end: what the last server said, if one said something."""
        if last.maybe_applied:
            return CallTimeout(peer, timeout, maybe_applied=True)
        servers = ", ".join(map(str, self._servers))
        said = "" if isinstance(last, CallTimeout) else f" The last answer was: {last}"
        step = f"no leader was found by way of {servers}, and nothing was applied.{said}"
        return CallTimeout(peer, timeout, next_step=step, maybe_applied=False)

    def _await_leader(self, failed: Peer, deadline: float | None) -> None:
        """Everyone was asked in vain: wait until a server hears of another leader than `failed`."""
        remaining = ELECTION if deadline is None else deadline - monotonic()
        question = AwaitLeader(Reply())
        try:
            deliver(self._leader, question)
            leader = question.wait(max(0.0, min(ELECTION, remaining)))
        except ExRaftError:
            leader = None
        if leader is None or leader == failed:
            threading.Event().wait(PAUSE)
        else:
            self._leader = leader

    def _after(self, error: ExRaftError, peer: Peer) -> None:
        """Whom to ask next."""
        if isinstance(error, Redirect):
            self._leader = error.leader
        elif isinstance(error, Transferring):
            self._leader = error.to
        else:
            self._leader = self._next(peer)

    def _after_a_pause(self, attempt: _Attempt) -> None:
        """Try again with all others that have found no leader by then; one thread serves them."""
        with self._lock:
            self._pausing.append(attempt)
            if len(self._pausing) > 1:
                return
        timer = threading.Timer(PAUSE, self._resume)
        timer.daemon = True
        timer.start()

    def _resume(self) -> None:
        with self._lock:
            attempts, self._pausing = self._pausing, []
        for attempt in attempts:
            attempt.send()

    def _next(self, peer: Peer) -> Peer:
        if peer not in self._servers:
            return self._servers[0]
        return self._servers[(self._servers.index(peer) + 1) % len(self._servers)]


class _Attempt:
    """One asynchronous write on its way through the servers, carried by their threads."""

    def __init__(self, client: Client, data: bytes, result: Reply, deadline: float) -> None:
        self._client = client
        self._data = data
        self._result = result
        self._deadline = deadline
        self._asked = 0

    def send(self) -> None:
        peer = self._client._leader
        write = Write(WriteReply(), self._data)
        try:
            deliver(peer, write)
        except ExRaftError as error:
            self._failed(error, peer)
        else:
            write.reply.on_done(lambda reply: self._answered(reply, peer))

    def _answered(self, reply: Any, peer: Peer) -> None:
        try:
            value = reply.get(timeout=0)
        except _AGAIN as error:
            if error.maybe_applied:
                self._result.fail(error)
            else:
                self._failed(error, peer)
        except BaseException as error:
            self._result.fail(error)
        else:
            self._result.set(value)

    def _failed(self, error: ExRaftError, peer: Peer) -> None:
        if not isinstance(error, _AGAIN):
            self._result.fail(error)
            return
        if monotonic() >= self._deadline:
            self._result.fail(self._client._timeout(peer, PATIENCE, error))
            return
        self._client._after(error, peer)
        self._asked += 1
        if self._asked % (len(self._client._servers) + 1):
            self.send()
        else:
            self._client._after_a_pause(self)
