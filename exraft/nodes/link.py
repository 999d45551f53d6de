"""What connects this process to another node: one connection for each kind of traffic.

Knows when a connection stands, why it does not, and how it is made again, with the host's name
resolved each time. Must not know what is sent, nor what the answers mean.

The theory of the file: a lane is idle, connecting or up. It leaves idle when it is used, and is
tried again as long as it is. What is sent while it is not up is not sent at all, except for calls:
those wait for the attempt that is under way, and fail with it. What was sent before a connection
broke may have arrived or not. ZeroMQ would reconnect by itself, but not after every kind of
failure, and would resolve the name in the thread that serves all other connections.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from exraft.errors import NodeError
from exraft.nodes import wire
from exraft.nodes.address import Address, resolved
from exraft.nodes.gate import dress_connector
from exraft.nodes.keys import Keys
from exraft.nodes.loop import Loop, Receive
from exraft.nodes.seldom import Seldom

logger = logging.getLogger("exraft.nodes")

FIRST_RETRY: Final = 0.02
LAST_RETRY: Final = 0.5
"""Seconds between two attempts to connect: twice as many after each."""
UNUSED: Final = 30.0
"""Seconds after which nobody tries any more to connect for what was not used meanwhile."""
UNUSED_CONTROL: Final = 3600.0
"""The same for what servers agree by: followers have nothing to say to each other for months, and
are to be heard at once when they elect."""
STUCK: Final = 10.0
"""Seconds after which an attempt of which nothing was heard counts as failed."""
NEVER_MS: Final = 24 * 3600 * 1000
CONNECT_MS: Final = 3000
HANDSHAKE_MS: Final = 5000
ALIVE_MS: Final = 1000
"""Between two questions whether the other end is there."""
DEAD_MS: Final = 4000
"""Without an answer to which the connection counts as lost."""
MOST_WAITING: Final = 10_000
"""Calls that may wait for one connection."""
FEW: Final = 128
"""Calls under way up to which their own threads send them."""
TOGETHER: Final = 64
"""Calls in one frame, at most."""
MUCH: Final = 1024 * 1024
"""Bytes of several calls in one frame, at most."""

NOT_LISTED: Final = "its public key is not in this process's list of allowed keys"
_NO_ROOM: Final = "too much waits for it already"

_EVENTS: Final = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)
_EAGAIN: Final = 11


def set_common(made: zmq.Socket[bytes]) -> None:
    """What holds for both ends of a connection."""
    made.setsockopt(zmq.MAXMSGSIZE, wire.LARGEST_PART)
    made.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    made.setsockopt(zmq.HEARTBEAT_IVL, ALIVE_MS)
    made.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_MS)
    made.setsockopt(zmq.HEARTBEAT_TTL, DEAD_MS)


class Lane:
    """One connection to a node.

    Attributes:
        up: whether it stands.
        why: why it does not, in words.
        rests: whether it was not used for so long that it is not tried any more.
        closed: whether it was given up for good.

    Raises:
        zmq.ZMQError: there are no sockets left.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        keys: Keys,
        *,
        room: int,
        receive: Receive,
        one_way: bool = True,
        unused: float = UNUSED,
    ) -> None:
        self.up = False
        self.why = "it was not tried yet"
        self._loop = loop
        self._name = name
        self._address = address
        self._keys = keys
        self._key: bytes | None = None
        self._unused = unused
        self._endpoint: str | None = None
        self._places: list[str] = []
        """What its name was resolved to, and was not tried yet in this attempt."""
        self._connecting = False
        self._attempt = 0
        """The number of the last one; none has it twice."""
        self._failed = 0
        """Attempts in vain since it stood."""
        self._used_at = monotonic()
        self.rests = False
        self.closed = False
        made = loop.context.socket(zmq.DEALER)
        # ZeroMQ drops what has arrived when it lets go of a connection by itself, as it does with
        # IMMEDIATE, or if it is not to reconnect. So it is to, but much later than we do.
        made.setsockopt(zmq.RECONNECT_IVL, NEVER_MS)
        # What has not left when we let go of one must not leave on the next.
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.SNDHWM, room)
        made.setsockopt(zmq.RCVHWM, 0)
        made.setsockopt(zmq.IPV6, 1)
        made.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        set_common(made)
        try:
            monitor = made.get_monitor_socket(_EVENTS)
        except zmq.ZMQError:
            made.close()
            raise
        # Full, it would hold up the thread that serves all connections.
        monitor.setsockopt(zmq.RCVHWM, 0)
        self.shared = loop.share(made, receive, one_way=one_way)
        self.lock = self.shared.lock
        self._monitor = loop.share(monitor, self._on_event)
        loop.call_soon(self._connect)

    def send(self, parts: list[Any]) -> bool:
        """Send what may be lost; say whether it was sent."""
        if not self.up:
            self.want()
            return False
        with self.lock:
            return self.up and self.shared.send(parts)

    def want(self) -> None:
        """It is used: try to connect, if that was given up meanwhile."""
        self._used_at = monotonic()
        if self.rests and not self.up:
            self.rests = False
            self._loop.call_soon(self._connect)

    # In the node's thread.

    def _connect(self) -> None:
        if self.up or self._connecting or self.closed:
            return
        self._connecting = True
        self._attempt += 1
        attempt = self._attempt
        self._loop.call_later(STUCK, lambda: self._is_stuck(attempt))
        if self._keys.key_of(self._name) is None:
            self._has_failed(NOT_LISTED)
            return
        if _is_numeric(self._address.host):
            self._places = [str(self._address)]
            self._connect_to_next()
        else:
            # Nobody can say how long that takes.
            threading.Thread(
                target=self._resolve, args=(attempt,), name="exraft-resolver", daemon=True
            ).start()

    def _resolve(self, attempt: int) -> None:
        host, port = self._address
        try:
            found = resolved(host)
        except OSError as error:
            why = f"the name {host!r} is not resolved ({error})"
            self._loop.call_soon(lambda: self._not_resolved(attempt, why))
            return
        places = [str(Address(each, port)) for each in found]
        self._loop.call_soon(lambda: self._resolved(attempt, places))

    def _not_resolved(self, attempt: int, why: str) -> None:
        if attempt == self._attempt:
            self._has_failed(why)

    def _resolved(self, attempt: int, places: list[str]) -> None:
        if attempt == self._attempt and self._connecting:
            self._places = places
            self._connect_to_next()

    def _connect_to_next(self) -> None:
        place = self._places.pop(0)
        try:
            with self.lock:
                if self.shared.closed:
                    return
                made = self.shared.socket
                self._key = dress_connector(made, self._keys, self._name)
                self._endpoint = f"tcp://{place}"
                made.connect(self._endpoint)
        except NodeError:
            # It was taken out of the list this moment.
            self._has_failed(NOT_LISTED)

    def look_at_key(self) -> None:
        """The list of keys was changed: who is not in it any more is not spoken to either."""
        if self.up and self._keys.key_of(self._name) != self._key:
            self._is_lost()

    def _is_stuck(self, attempt: int) -> None:
        if attempt == self._attempt and self._connecting:
            self._has_failed("the attempt to connect has led to nothing")

    def _on_event(self, parts: list[bytes]) -> None:
        event = parse_monitor_message(parts)
        what, value = event["event"], int(event["value"])
        if what == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if self._connecting:
                self._stands()
        elif what == zmq.EVENT_CONNECTED:
            self.why = "what listens there is no node, or none that speaks to this process"
        elif what == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._has_failed(
                "it is connected to, but does not answer"
                if value == _EAGAIN
                else "it closed the connection during the handshake: is the cookie the same there?"
            )
        elif what == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._has_failed("it does not admit this process: its key is not in its list there")
        elif what == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._has_failed("what listens there is no node")
        elif what == zmq.EVENT_DISCONNECTED:
            if self.up:
                self._is_lost()
            else:
                self._has_failed(self.why)
        elif what == zmq.EVENT_CLOSED and self._connecting:
            self._has_failed("nothing answers there: is the node started?")

    def _stands(self) -> None:
        if self._keys.key_of(self._name) != self._key:
            # A handshake may be held up until the list was looked at.
            self._has_failed(NOT_LISTED)
            return
        with self.lock:
            self._connecting = False
            self._failed = 0
            self.up = True
        self.on_up()

    def _is_lost(self) -> None:
        try:
            # What came before the end was heard may not have been received yet.
            while self.shared.drain():
                pass
        finally:
            self.why = "the connection was lost"
            self._used_at = monotonic()
            with self.lock:
                self.up = False
            self._let_go()
            self.on_lost()
            self._retry()

    def _has_failed(self, why: str) -> None:
        if not self._connecting:
            return
        self._connecting = False
        self._failed += 1
        self.why = why
        self._let_go()
        if self._places:
            attempt = self._attempt
            self._loop.call_later(FIRST_RETRY, lambda: self._try_next(attempt))
        else:
            self.on_failed()
            self._retry()

    def _try_next(self, attempt: int) -> None:
        if attempt == self._attempt and not self.closed:
            self._connecting = True
            self._connect_to_next()

    def _let_go(self) -> None:
        """Now, and not before the next attempt: what is heard of the old one then would fail it."""
        with self.lock:
            if self._endpoint is not None and not self.shared.closed:
                # It has mostly ended by itself.
                with suppress(zmq.ZMQError):
                    self.shared.socket.disconnect(self._endpoint)
            self._endpoint = None

    def _retry(self) -> None:
        if monotonic() - self._used_at > self._unused:
            self.rests = True
            return
        pause = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self._failed, 10))
        self._loop.call_later(pause * random.uniform(0.5, 1.0), self._connect)

    def close(self, linger: float) -> None:
        with self.lock:
            self.closed = True
            self.up = False
            with suppress(zmq.ZMQError):
                self.shared.socket.disable_monitor()
        self._loop.forget(self._monitor)
        self._loop.forget(self.shared, linger)

    # For those who need to know.

    def on_up(self) -> None: ...

    def on_lost(self) -> None: ...

    def on_failed(self) -> None: ...


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Asked(Protocol):
    """A call on its way to another node. One of the last three is called, once."""

    @property
    def parcel(self) -> wire.Request: ...

    def take(self) -> bool:
        """It is about to be sent; False if its caller does not want it any more."""

    def answered(self, parcel: wire.Answer | wire.Failure) -> None: ...

    def unreachable(self, node: str, why: str) -> None:
        """It was surely not sent, or surely not taken."""

    def lost(self, node: str) -> None:
        """It was sent, and its answer will not come."""


def _size(parcel: wire.Request) -> int:
    """Roughly: what a user has given may be large, and nothing else is."""
    if type(parcel) is wire.Write:
        return len(parcel.data)
    if type(parcel) is wire.Read:
        return len(parcel.query)
    return len(parcel.reason) if type(parcel) is wire.Stop else 0


class CallLane(Lane):
    """The lane of the calls, which get their answers the same way."""

    def __init__(self, loop: Loop, name: str, address: Address, keys: Keys, room: int) -> None:
        self._asked: dict[int, Asked] = {}
        self._waiting: deque[Asked] = deque()
        """For a connection, or for others to leave with."""
        self._turn = threading.Lock()
        """Held by who sends what waits."""
        self._flushes = False
        """Whether the node's thread is about to send what waits."""
        self._seldom = Seldom(logger, 5.0)
        super().__init__(
            loop, name, address, keys, room=room, receive=self._on_frame, one_way=False
        )

    def ask(self, call: Asked) -> bool:
        """Send it, now or once there is a connection; False if too many wait already.

        Nobody waits for another one who sends: who does takes along what came meanwhile, as a frame
        costs both ends as much as a call. When many are under way, those that come while the node's
        thread gets round to it leave together.
        """
        waiting = self._waiting
        if self.up:
            waiting.append(call)
            if len(self._asked) < FEW or len(waiting) >= TOGETHER:
                self._combine()
            elif not self._flushes:
                self._flushes = True
                self._loop.call_soon(self._flush)
            if not self.up:
                # It was lost a moment ago.
                self._is_down()
            return True
        with self.lock:
            if self.closed or len(waiting) >= MOST_WAITING:
                return False
            waiting.append(call)
        self.want()
        return True

    def _is_down(self) -> None:
        if self.closed:
            self.on_failed()
        else:
            self.want()

    def _combine(self) -> None:
        turn = self._turn
        # Who does not get it goes away: who has it looks again after having let go of it.
        while self._waiting and turn.acquire(False):
            try:
                with self.lock:
                    if not self.up:
                        return
                    self._send_waiting()
            finally:
                turn.release()

    def _flush(self) -> None:
        with self.lock:
            self._flushes = False
            if self.up:
                self._send_waiting()
                return
        if self._waiting:
            # Lost meanwhile, and nobody may have called since.
            self._is_down()

    def _send_waiting(self) -> None:
        """With the lock held, and the connection up."""
        waiting = self._waiting
        calls = [waiting.popleft() for _ in range(len(waiting))]
        some: list[Asked] = []
        size = 0
        for call in calls:
            # The other end takes no frame that is larger than one call may be.
            own = _size(call.parcel)
            if some and (len(some) == TOGETHER or size + own > MUCH):
                self._send_or_refuse(some)
                some, size = [], 0
            some.append(call)
            size += own
        if some:
            self._send_or_refuse(some)

    def _send_or_refuse(self, calls: list[Asked]) -> None:
        why = _NO_ROOM
        try:
            if self._send(calls):
                return
        except (ValueError, OverflowError) as error:
            # One can't be encoded: the others must not suffer for it.
            if len(calls) > 1:
                for call in calls:
                    self._send_or_refuse([call])
                return
            why = f"the call can't be encoded ({error})"
        for call in calls:
            self._loop.call_soon(partial(call.unreachable, self._name, why))

    def _send(self, calls: list[Asked]) -> bool:
        """With the lock held, and the connection up."""
        # Before any is taken: it may fail.
        frame = wire.encode(self._name, [call.parcel for call in calls])
        taken = [call for call in calls if call.take()]
        if not taken:
            return True
        parcels = [call.parcel for call in taken]
        if len(taken) < len(calls):
            frame = wire.encode(self._name, [*parcels])
        asked = self._asked
        asked.update(zip([parcel.id for parcel in parcels], taken, strict=True))
        if self.shared.send(wire.split(frame)):
            return True
        for parcel in parcels:
            asked.pop(parcel.id, None)
        return False

    def cancel(self, call_id: int) -> None:
        """Nobody waits for the call any more."""
        with self.lock:
            if self._asked.pop(call_id, None) is not None and self.up:
                self.shared.send([wire.encode(self._name, [wire.Cancel(call_id)])])

    # In the node's thread.

    def _on_frame(self, parts: list[bytes]) -> None:
        try:
            parcels = wire.decode(b"".join(parts)).parcels
        except wire.Incompatible as error:
            self._is_incompatible(error.version)
            return
        except wire.Malformed as error:
            self._seldom.log(logging.WARNING, "%s answers with what is none: %s", self._name, error)
            return
        asked = self._asked
        for parcel in parcels:
            kind = type(parcel)
            if kind is wire.Answer or kind is wire.Failure:
                call = asked.pop(parcel.id, None)  # type: ignore[union-attr]
                if call is not None:
                    call.answered(parcel)  # type: ignore[arg-type]
            elif kind is wire.Misaddressed:
                call = asked.pop(parcel.id, None)  # type: ignore[union-attr]
                if call is not None:
                    why = f"its address is now that of {parcel.node}"  # type: ignore[union-attr]
                    call.unreachable(self._name, why)

    def _is_incompatible(self, version: int) -> None:
        """Whatever was sent is dropped there."""
        why = wire.differ(self._name, version)
        self._seldom.log(logging.ERROR, why)
        with self.lock:
            asked = list(self._asked.values())
            self._asked.clear()
        for call in asked:
            call.unreachable(self._name, why)

    def on_up(self) -> None:
        self._flush()

    def on_lost(self) -> None:
        with self.lock:
            lost = list(self._asked.values())
            self._asked.clear()
        for call in lost:
            call.lost(self._name)

    def on_failed(self) -> None:
        with self.lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for call in waiting:
            call.unreachable(self._name, self.why)

    def close(self, linger: float) -> None:
        super().close(linger)
        self.why = "this process's node was stopped"
        self.on_lost()
        self.on_failed()
