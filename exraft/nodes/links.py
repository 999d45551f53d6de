"""All connections of a process to other nodes, and what its servers send through them.

Knows which traffic goes through which lane. Must not know whether anybody there listens.

Entries and pieces of snapshots, which may be large, have a lane of their own, so that heartbeats,
votes and acknowledgements overtake them; calls have another, as their answers come back on it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from exraft.names import Peer
from exraft.nodes import wire
from exraft.nodes.address import Address, parse
from exraft.nodes.counts import Counts
from exraft.nodes.keys import Keys
from exraft.nodes.link import UNUSED_CONTROL, Asked, CallLane, Lane
from exraft.nodes.listener import Listener, Route
from exraft.nodes.loop import Loop
from exraft.nodes.seldom import Seldom
from exraft.raft import Message
from exraft.raft.messages import Append, Install

logger = logging.getLogger("exraft.nodes")

LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at whether everybody who is connected is still admitted."""
ROOM_CONTROL: Final = 1_000
ROOM_ENTRIES: Final = 256
ROOM_CALLS: Final = 100_000
"""Frames that may wait for a connection; what there is no room for is dropped, or refused."""


class Mailbox(Protocol):
    """Of a server; see `exraft.actors.mailbox`."""

    on_put: Callable[[], object] | None

    @property
    def closed(self) -> bool: ...
    def empty(self) -> bool: ...
    def get(self, timeout: float | None = None) -> Any: ...


class Link:
    """The lanes to one node. Each is made when it is first used."""

    def __init__(self, links: Links, name: str, address: Address) -> None:
        self._links = links
        self._name = name
        self._address = address
        self._lock = threading.Lock()
        self._closed = False
        self.control: _Control | None = None
        self.entries: Lane | None = None
        self.calls: CallLane | None = None
        self.lost: list[Callable[[], object]] = []
        """Called when servers on that node can't be heard any more."""

    def send(self, parcels: list[wire.Parcel], *, entries: bool) -> bool:
        lane = self.entries if entries else self.control
        if lane is None:
            lane = self._make_entries() if entries else self._make_control()
        if not lane.up:
            lane.want()
            return False
        return lane.send(wire.split(wire.encode(self._name, parcels)))

    def ask(self, call: Asked) -> bool:
        lane = self.calls
        if lane is None:
            lane = self._make_calls()
        return lane.ask(call)

    def cancel(self, call_id: int) -> None:
        if self.calls is not None:
            self.calls.cancel(call_id)

    def _make_control(self) -> Lane:
        with self._lock:
            if self.control is None:
                self.control = _Control(self, self._links, self._name, self._address)
            return self.control

    def _make_entries(self) -> Lane:
        links = self._links
        with self._lock:
            if self.entries is None:
                self.entries = Lane(
                    links.loop,
                    self._name,
                    self._address,
                    links.keys,
                    room=ROOM_ENTRIES,
                    receive=partial(links.on_refusal, self._name),
                )
            return self.entries

    def _make_calls(self) -> CallLane:
        links = self._links
        with self._lock:
            if self.calls is None:
                self.calls = CallLane(links.loop, self._name, self._address, links.keys, ROOM_CALLS)
            return self.calls

    def lanes(self) -> list[Lane]:
        return [lane for lane in (self.control, self.entries, self.calls) if lane is not None]

    @property
    def state(self) -> str:
        """`"up"`, or what stands in the way."""
        lanes = self.lanes()
        if any(lane.up for lane in lanes):
            return "up"
        return lanes[0].why if lanes else "it was not tried yet"


class _Control(Lane):
    """The lane that a follower hears with that its leader's process has ended."""

    def __init__(self, link: Link, links: Links, name: str, address: Address) -> None:
        self._link = link
        super().__init__(
            links.loop,
            name,
            address,
            links.keys,
            room=ROOM_CONTROL,
            receive=partial(links.on_refusal, name),
            unused=UNUSED_CONTROL,
        )

    def on_lost(self) -> None:
        for lost in list(self._link.lost):
            lost()


class _Held(threading.local):
    """What the servers of this thread have to send at the next flush; None outside of a turn."""

    messages: dict[tuple[str, bool], list[wire.Parcel]] | None = None
    answers: dict[Route, list[wire.Parcel]]


class Links:
    """The connections; as `exraft.actors.transport.Transport`, what carries messages beyond.

    Attributes:
        listener: through which answers go back to those who ask; None without a node.
    """

    def __init__(self, loop: Loop, keys: Keys, counts: Counts) -> None:
        self.loop = loop
        self.keys = keys
        self.counts = counts
        self.listener: Listener | None = None
        self._links: dict[str, Link] = {}
        self._lock = threading.Lock()
        self._servers = 0
        self._revision = keys.revision()
        loop.call_soon(self.watch_keys)
        self._held = _Held()
        self._seldom = Seldom(logger, 5.0)

    def to(self, node: str) -> Link:
        """The link to a node.

        Raises:
            ValueError: `node` is no address.
        """
        link = self._links.get(node)
        if link is None:
            address = parse(node)
            with self._lock:
                link = self._links.get(node)
                if link is None:
                    link = self._links[node] = Link(self, node, address)
        return link

    def watch_keys(self) -> None:
        """In the node's thread, now and then: who is not admitted any more is cut off."""
        revision = self.keys.revision()
        if revision != self._revision:
            self._revision = revision
            if self.listener is not None:
                self.listener.admit_anew()
            with self._lock:
                links = list(self._links.values())
            for link in links:
                for lane in link.lanes():
                    lane.look_at_key()
        self.loop.call_later(LOOK_AGAIN, self.watch_keys)

    def states(self) -> dict[str, str]:
        with self._lock:
            return {name: link.state for name, link in self._links.items()}

    def on_refusal(self, node: str, parts: list[bytes]) -> None:
        """Messages are not answered, but when they are of a version that is not spoken there."""
        try:
            wire.decode(b"".join(parts))
        except wire.Incompatible as error:
            self._seldom.log(logging.ERROR, wire.differ(node, error.version))
        except wire.Malformed as error:
            self._seldom.log(logging.WARNING, "%s has sent what is no frame: %s", node, error)

    # As a transport.

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        kind = type(message)
        entries = kind is Install or (kind is Append and bool(message.entries))  # type: ignore[union-attr]
        held = self._held.messages
        if held is None:
            self._send(to.node, [wire.Post(to.name, message)], entries=entries)
            return
        key = (to.node, entries)
        parcels = held.get(key)
        if parcels is None:
            held[key] = [wire.Post(to.name, message)]
        else:
            parcels.append(wire.Post(to.name, message))

    def _send(self, node: str, parcels: list[wire.Parcel], *, entries: bool) -> None:
        try:
            sent = self.to(node).send(parcels, entries=entries)
        except ValueError:
            # A member from before there were nodes, such as nonode@nohost.
            sent = False
        if sent:
            self.counts.sent += 1
        else:
            self.counts.dropped += 1

    def wait(self, mailbox: Mailbox, seconds: float) -> Any:
        """Return the next item of a server's mailbox.

        A server that has nothing to do receives for the whole process: what is for itself then
        reaches it without a change of threads. That is for the only server of a process, as others
        would have to wait for what it does in between.
        """
        loop = self.loop
        if self._servers != 1 or seconds <= 0.0 or not mailbox.empty() or not loop.take_turn():
            return mailbox.get(seconds)
        until = monotonic() + seconds
        mailbox.on_put = loop.ring
        try:
            while mailbox.empty() and (left := until - monotonic()) > 0.0:
                loop.receive(left)
                self.flush()
                if mailbox.closed:
                    break
        finally:
            mailbox.on_put = None
            loop.give_back(urgently=False)
        return mailbox.get(0.0)

    def hold(self) -> None:
        with self._lock:
            self._servers += 1
        self._held.messages = {}
        self._held.answers = {}

    def flush(self) -> None:
        held = self._held
        if held.messages:
            messages, held.messages = held.messages, {}
            for (node, entries), parcels in messages.items():
                self._send(node, parcels, entries=entries)
        if held.messages is not None and held.answers:
            answers, held.answers = held.answers, {}
            for route, parcels in answers.items():
                self._answer(route, parcels)

    def release(self) -> None:
        self.flush()
        if self._held.messages is not None:
            with self._lock:
                self._servers -= 1
        self._held.messages = None

    def reaches(self, node_name: str) -> bool:
        try:
            parse(node_name)
        except ValueError:
            return False
        return True

    def watch(self, node_name: str, lost: Callable[[], object]) -> Callable[[], object]:
        if not self.reaches(node_name):
            return lambda: None
        watchers = self.to(node_name).lost
        watchers.append(lost)
        return lambda: watchers.remove(lost)

    # Answers.

    def answer(self, route: Route, parcel: wire.Parcel) -> None:
        """Answer who has asked: at once, or at the end of the turn of the server that answers."""
        held = self._held
        if held.messages is None:
            self._answer(route, [parcel])
            return
        parcels = held.answers.get(route)
        if parcels is None:
            held.answers[route] = [parcel]
        else:
            parcels.append(parcel)

    def _answer(self, route: Route, parcels: list[wire.Parcel]) -> None:
        if self.listener is not None:
            self.listener.answer(route, parcels)

    def close(self, linger: float) -> None:
        """In the node's thread, or when it has ended."""
        with self._lock:
            links = list(self._links.values())
        for link in links:
            for lane in link.lanes():
                lane.close(linger)
