"""All connections of a process to other nodes, and what its servers send through them.

Knows which traffic goes through which lane. Must not know whether anybody there listens.

Entries and pieces of snapshots, which may be large, have a lane of their own, so that heartbeats,
votes and acknowledgements overtake them; calls have another, as their answers come back on it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

import zmq

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

STOPPED: Final = "this process's node was stopped"
OVERDUE: Final = 0.02
"""Seconds after which answers are sent although the turn of their server has not ended."""
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
        while True:
            lane = self.calls
            if lane is None:
                lane = self._make_calls()
            if lane.ask(call):
                return True
            if not lane.closed:
                return False
            # It was let go of this moment.

    def cancel(self, call_id: int) -> None:
        lane = self.calls
        if lane is not None:
            lane.cancel(call_id)

    def _make_control(self) -> Lane:
        with self._lock, self._making():
            if self.control is None:
                self.control = _Control(self, self._links, self._name, self._address)
            return self.control

    def _make_entries(self) -> Lane:
        links = self._links
        with self._lock, self._making():
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
        with self._lock, self._making():
            if self.calls is None:
                self.calls = CallLane(links.loop, self._name, self._address, links.keys, ROOM_CALLS)
            return self.calls

    @contextmanager
    def _making(self) -> Iterator[None]:
        """Whoever makes a lane, with the lock held, is told in words why there can be none."""
        if self._closed:
            raise OSError(STOPPED)
        try:
            yield
        except zmq.ZMQError as error:
            raise OSError(f"this process has no socket left for it ({error})") from None

    def lanes(self) -> list[Lane]:
        return [lane for lane in (self.control, self.entries, self.calls) if lane is not None]

    def tidy(self) -> None:
        """In the node's thread: let go of what nobody has used for long, and does not stand."""
        with self._lock:
            resting = [lane for lane in self.lanes() if lane.rests and not lane.up]
            if self.control in resting:
                self.control = None
            if self.entries in resting:
                self.entries = None
            if self.calls in resting:
                self.calls = None
        for lane in resting:
            lane.close(0.0)

    def close(self, linger: float) -> None:
        """For good: nothing is made again."""
        with self._lock:
            self._closed = True
            lanes = self.lanes()
        for lane in lanes:
            lane.close(linger)

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


class _Held:
    """What one server has to send at its next flush.

    Attributes:
        lock: for the answers, which others send if that flush does not come.
    """

    def __init__(self) -> None:
        self.messages: dict[tuple[str, bool], list[wire.Parcel]] = {}
        self.answers: dict[Route, list[wire.Parcel]] = {}
        self.lock = threading.Lock()

    def take_answers(self) -> dict[Route, list[wire.Parcel]]:
        with self.lock:
            answers, self.answers = self.answers, {}
        return answers


class _Mine(threading.local):
    """What the server of this thread holds back; None in a thread without one."""

    held: _Held | None = None


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
        self._closed = False
        self._servers: list[_Held] = []
        self._overdue = False
        """Whether a look at answers that are held back is to come."""
        self._revision = keys.revision()
        loop.call_soon(self.watch_keys)
        self._mine = _Mine()
        self._seldom = Seldom(logger, 5.0)

    def to(self, node: str) -> Link:
        """The link to a node.

        Raises:
            ValueError: `node` is no address.
            OSError: there are no connections any more.
        """
        link = self._links.get(node)
        if link is None:
            address = parse(node)
            with self._lock:
                if self._closed:
                    raise OSError(STOPPED)
                link = self._links.get(node)
                if link is None:
                    link = self._links[node] = Link(self, node, address)
        return link

    def watch_keys(self) -> None:
        """In the node's thread, now and then: who is not admitted any more is cut off."""
        with self._lock:
            links = list(self._links.values())
        revision = self.keys.revision()
        if revision != self._revision:
            self._revision = revision
            if self.listener is not None:
                self.listener.admit_anew()
            for link in links:
                for lane in link.lanes():
                    lane.look_at_key()
        for link in links:
            link.tidy()
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
        mine = self._mine.held
        if mine is None:
            self._send(to.node, [wire.Post(to.name, message)], entries=entries)
            return
        held = mine.messages
        key = (to.node, entries)
        parcels = held.get(key)
        if parcels is None:
            held[key] = [wire.Post(to.name, message)]
        else:
            parcels.append(wire.Post(to.name, message))

    def _send(self, node: str, parcels: list[wire.Parcel], *, entries: bool) -> None:
        try:
            sent = self.to(node).send(parcels, entries=entries)
        except (ValueError, OSError):
            # A member from before there were nodes, such as nonode@nohost; or no socket is left.
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
        if len(self._servers) != 1 or seconds <= 0.0 or not mailbox.empty() or not loop.take_turn():
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
        held = self._mine.held = _Held()
        with self._lock:
            self._servers.append(held)

    def flush(self) -> None:
        held = self._mine.held
        if held is None:
            return
        if held.messages:
            messages, held.messages = held.messages, {}
            for (node, entries), parcels in messages.items():
                self._send(node, parcels, entries=entries)
        if held.answers:
            self._answer_all(held)

    def release(self) -> None:
        self.flush()
        held, self._mine.held = self._mine.held, None
        if held is not None:
            with self._lock:
                self._servers.remove(held)

    def reaches(self, node_name: str) -> bool:
        try:
            parse(node_name)
        except ValueError:
            return False
        return True

    def watch(self, node_name: str, lost: Callable[[], object]) -> Callable[[], object]:
        if not self.reaches(node_name):
            return lambda: None
        try:
            watchers = self.to(node_name).lost
        except OSError:
            return lambda: None
        watchers.append(lost)

        def end() -> None:
            # Who has hung, and has been left behind, may come to it late.
            with suppress(ValueError):
                watchers.remove(lost)

        return end

    # Answers.

    def answer(self, route: Route, parcel: wire.Parcel) -> None:
        """Answer who has asked: at once, or at the end of the turn of the server that answers.

        That turn may be long, if the next command is, or never end: then the node's thread does.
        """
        held = self._mine.held
        if held is None:
            self._answer(route, [parcel])
            return
        with held.lock:
            parcels = held.answers.get(route)
            if parcels is None:
                held.answers[route] = [parcel]
            else:
                parcels.append(parcel)
        if not self._overdue:
            self._overdue = True
            self.loop.call_soon(partial(self.loop.call_later, OVERDUE, self._answer_overdue))

    def _answer_overdue(self) -> None:
        """In the node's thread."""
        self._overdue = False
        with self._lock:
            servers = list(self._servers)
        for held in servers:
            self._answer_all(held)

    def _answer_all(self, held: _Held) -> None:
        for route, parcels in held.take_answers().items():
            self._answer(route, parcels)

    def _answer(self, route: Route, parcels: list[wire.Parcel]) -> None:
        if self.listener is not None:
            self.listener.answer(route, parcels)

    def close(self, linger: float) -> None:
        """In the node's thread, or when it has ended."""
        with self._lock:
            self._closed = True
            links = list(self._links.values())
        for link in links:
            link.close(linger)
