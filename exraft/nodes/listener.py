"""Where a node is reached: one socket for all who are admitted.

Knows how frames come in and answers go back, and what is counted of those that make no sense. Must
not know what a parcel asks for: that is given to `Deliver`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from exraft.errors import NodeError
from exraft.nodes import wire
from exraft.nodes.address import Address, resolved
from exraft.nodes.counts import Counts
from exraft.nodes.gate import dress_listener
from exraft.nodes.keys import Keys
from exraft.nodes.link import set_common
from exraft.nodes.loop import Loop, Shared
from exraft.nodes.seldom import Seldom
from exraft.raft import Message

logger = logging.getLogger("exraft.nodes")

ROOM: Final = 100_000
"""Frames that may wait for one connection, either way."""
BACKLOG: Final = 512
REBIND: Final = 0.05
PATIENT: Final = 20
"""Attempts to listen again after which it is told that they fail."""

_REFUSED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

Route = bytes
"""Whose connection an answer is for."""


class Deliver(Protocol):
    """Takes what has arrived, in the node's thread; quick, and blocks on nothing."""

    def post(self, to: str, message: Message) -> None: ...
    def serve(self, route: Route, request: wire.Request) -> None: ...
    def cancel(self, route: Route, call_id: int) -> None: ...


class Listener:
    """Receives for the node `name` at `places`.

    Raises:
        NodeError: nobody can listen there.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        places: list[Address],
        keys: Keys,
        deliver: Deliver,
        counts: Counts,
    ) -> None:
        self._loop = loop
        self._name = name
        self._endpoints = [endpoint for place in places for endpoint in _endpoints(place)]
        self._keys = keys
        self._deliver = deliver
        self._counts = counts
        self._seldom = Seldom(logger, 5.0)
        self._closed = False
        self._shared, self._monitor = self._listen()

    def _listen(self) -> tuple[Shared, Shared]:
        made = self._loop.context.socket(zmq.ROUTER)
        made.setsockopt(zmq.ROUTER_MANDATORY, 1)
        made.setsockopt(zmq.SNDHWM, ROOM)
        made.setsockopt(zmq.RCVHWM, ROOM)
        made.setsockopt(zmq.IPV6, 1)
        made.setsockopt(zmq.BACKLOG, BACKLOG)
        set_common(made)
        dress_listener(made, self._keys)
        monitor = made.get_monitor_socket(_REFUSED)
        # Full, it would hold up the thread that serves all connections.
        monitor.setsockopt(zmq.RCVHWM, 0)
        try:
            for endpoint in self._endpoints:
                made.bind(endpoint)
        except zmq.ZMQError as error:
            made.disable_monitor()
            monitor.close(linger=0)
            made.close(linger=0)
            raise NodeError(
                f"the node {self._name} can't listen on {endpoint.removeprefix('tcp://')}:"
                f" {zmq.strerror(error.errno or 0)}. Is another process there? Give another port,"
                " or bind="
            ) from None
        return (
            self._loop.share(made, self._on_frame),
            self._loop.share(monitor, self._on_event),
        )

    def answer(self, route: Route, parcels: list[wire.Parcel]) -> None:
        """Send answers to who has asked; from any thread."""
        parts = [route, *wire.split(wire.encode("", parcels))]
        # Once: another one may take its place.
        shared = self._shared
        try:
            with shared.lock:
                sent = not shared.closed and shared.send(parts)
        except zmq.ZMQError:
            # Who has asked is gone.
            sent = False
        if sent:
            self._counts.sent += 1
        else:
            self._counts.dropped += 1

    # In the node's thread.

    def _on_frame(self, parts: list[bytes]) -> None:
        route, *rest = parts
        counts = self._counts
        try:
            if len(rest) > wire.DEEPEST:
                raise wire.Malformed(f"it is longer than {wire.LARGEST} bytes")
            frame = wire.decode(rest[0] if len(rest) == 1 else b"".join(rest))
        except wire.Malformed as error:
            counts.malformed += 1
            self._seldom.log(logging.WARNING, "what is no frame was dropped: %s", error)
            return
        except wire.Incompatible as error:
            counts.incompatible += 1
            if not error.refused:
                self._seldom.log(logging.ERROR, wire.differ("a node", error.version))
                self._refuse(route)
            return
        if frame.to != self._name:
            counts.misaddressed += 1
            self._redirect(route, frame)
            return
        counts.received += 1
        deliver = self._deliver
        for parcel in frame.parcels:
            kind = type(parcel)
            if kind is wire.Post:
                deliver.post(parcel.to, parcel.message)  # type: ignore[union-attr]
            elif kind is wire.Cancel:
                deliver.cancel(route, parcel.id)  # type: ignore[union-attr]
            elif isinstance(parcel, wire.Request):
                deliver.serve(route, parcel)
            else:
                # An answer, to who has asked for nothing.
                counts.malformed += 1

    def _refuse(self, route: Route) -> None:
        with self._shared.lock, suppress(zmq.ZMQError):
            self._shared.send([route, wire.refusal()])

    def _redirect(self, route: Route, frame: wire.Frame) -> None:
        """An address may become another node's: what is meant for the old one is not for it."""
        self._seldom.log(
            logging.WARNING,
            "what was meant for the node %.100s has come to %s",
            frame.to,
            self._name,
        )
        wrong = [
            wire.Misaddressed(parcel.id, self._name)
            for parcel in frame.parcels
            if isinstance(parcel, wire.Request)
        ]
        if wrong:
            self.answer(route, [*wrong])

    def _on_event(self, parts: list[bytes]) -> None:
        event = parse_monitor_message(parts)
        self._counts.refused_peers += 1
        self._seldom.log(
            logging.WARNING,
            "a connection to %s was refused or broken off before it was known whose it is (%s): a"
            " wrong cookie or key, or a stranger",
            self._name,
            str(zmq.Event(event["event"]).name).removeprefix("HANDSHAKE_FAILED_").lower(),
        )

    def admit_anew(self) -> None:
        """Somebody is not admitted any more: close all connections; the others come again."""
        logger.warning(
            "somebody is not admitted any more: %s closes all connections, and everybody else is"
            " admitted anew",
            self._name,
        )
        self._close_sockets(0.0)
        self._listen_again(0)

    def _listen_again(self, failed: int) -> None:
        """As soon as ZeroMQ has let go of the old socket, which it does when it likes."""
        if self._closed:
            return
        try:
            self._shared, self._monitor = self._listen()
        except NodeError as error:
            if failed >= PATIENT:
                self._seldom.log(logging.WARNING, "%s", error)
            self._loop.call_later(REBIND, partial(self._listen_again, failed + 1))
        else:
            logger.info("%s listens again", self._name)

    def _close_sockets(self, linger: float) -> None:
        with self._shared.lock:
            if not self._shared.closed:
                self._shared.socket.disable_monitor()
        self._loop.forget(self._monitor)
        self._loop.forget(self._shared, linger)

    def close(self, linger: float) -> None:
        """In the node's thread, or when it has ended."""
        self._closed = True
        self._close_sockets(linger)


def _endpoints(place: Address) -> list[str]:
    """As ZeroMQ has them; a name that has several addresses is listened to at all of them.

    Raises:
        NodeError: the name is not resolved.
    """
    if place.host == "*":
        return [f"tcp://{place}"]
    try:
        found = resolved(place.host)
    except OSError as error:
        raise NodeError(f"the name {place.host!r} is not resolved ({error}): mend bind=") from None
    return [f"tcp://{Address(each, place.port)}" for each in found]
