"""This process as a node, or as one who calls nodes: started, stopped, and asked how it is.

Knows what belongs together for that: keys, the node's thread, the listener, the connections. Must
not know what goes over them. Nothing here is paid for by a process that never has to do with
another one.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from exraft import codec as codecs
from exraft.actors.calls import Call, Reply
from exraft.actors.registry import ActorRegistry
from exraft.actors.spec import supervisor_name
from exraft.actors.transport import local
from exraft.errors import NodeError, NodeUnreachable
from exraft.names import LOCAL_NODE, Peer, node, set_node
from exraft.supervision import at_exit

if TYPE_CHECKING:
    from exraft.nodes.address import Address
    from exraft.nodes.counts import NodeStatus
    from exraft.nodes.gate import Gate
    from exraft.nodes.keys import Keys
    from exraft.nodes.links import Links
    from exraft.nodes.listener import Listener
    from exraft.nodes.loop import Loop
    from exraft.raft.snapshot import SnapshotReader
    from exraft.remote.serving import Serving

logger = logging.getLogger("exraft.nodes")

LINGER: Final = 0.3
"""Seconds that what was sent last has to leave when a node stops."""
ANSWERING: Final = 2.0
"""Seconds that a node waits for answers that are being made when it stops."""


class _Running:
    """What a process has as long as it is a node, or calls some."""

    def __init__(self, keys: Keys) -> None:
        from exraft.nodes.counts import Counts
        from exraft.nodes.links import Links
        from exraft.nodes.loop import Loop
        from exraft.remote.asking import Asked

        self.pid = os.getpid()
        self.keys = keys
        self.loop: Loop = Loop()
        self.counts = Counts()
        self.links: Links = Links(self.loop, keys, self.counts)
        self.gate: Gate | None = None
        self.listener: Listener | None = None
        self.serving: Serving | None = None
        self.place: str | None = None
        self._asked = Asked

    def ask(self, peer: Peer, call: Call) -> None:
        self._asked(self.links, peer, call).send()

    def listen(self, name: str, places: list[Address]) -> None:
        from exraft.nodes.gate import Gate
        from exraft.nodes.listener import Listener
        from exraft.remote.serving import Serving

        self.gate = Gate(self.loop.context, self.keys)
        self.gate.start()
        try:
            self.serving = Serving(self.links)
            self.listener = Listener(self.loop, name, places, self.keys, self.serving, self.counts)
        except BaseException:
            self.gate.stop()
            raise
        self.links.listener = self.listener
        self.place = ", ".join(map(str, places))

    def close(self, linger: float) -> None:
        if self.pid != os.getpid():
            return
        if self.serving is not None:
            self.serving.finish(ANSWERING)
        self.loop.stop()
        # Who waits is told.
        self.links.close(linger)
        if self.listener is not None:
            self.listener.close(linger)
        if self.gate is not None:
            self.gate.stop()
        if self.serving is not None:
            self.serving.close()
        self.loop.end()


_lock = threading.RLock()
_running: _Running | None = None
_given: tuple[str | None, str | os.PathLike[str] | None] = (None, None)
"""The cookie and the keys that were named last: for a process that is forked, or stops its node."""


def start_node(
    name: str,
    *,
    bind: str | None = None,
    cookie: str | None = None,
    keys: str | os.PathLike[str] | None = None,
    codec: str | None = None,
) -> str:
    """Make this process a node: its servers are reached by others, and reach theirs (OTP).

    Call it before the first server is started. The connections are encrypted, and only who has the
    same cookie, or a key that is in the list of allowed ones, gets one.

    Args:
        name: `host:port`, as others reach this process. The host is resolved anew at each attempt
            to connect, so a name in the DNS is an identity that outlives an address.
        bind: where to listen, as `host:port`, if that is not what others know. By default on all
            interfaces with a cookie or keys, or if the name's host is loopback, on that.
        cookie: the secret that all nodes share. By default $EXRAFT_COOKIE, the content of the file
            that $EXRAFT_COOKIE_FILE names, or of `~/.exraft.cookie`. Without any, the node listens
            on loopback only, for processes of the same user.
        keys: a directory with keys of this node's own instead, as `python -m exraft keygen --keys`
            makes it.
        codec: what commands, queries and replies are serialised with: `"pickle"`, `"msgpack"` or
            `"json"`. By default $EXRAFT_CODEC, or pickle.

    Returns:
        the node's name.

    Raises:
        ValueError: `name` or `bind` is no `host:port`.
        NodeError: pyzmq is missing, this process is a node already or has servers, the place is
            taken, or the secret is missing or can't be used.
    """
    global _running, _given
    try:
        from exraft.nodes.address import parse
    except ImportError:
        raise _no_zmq() from None
    address = parse(name)
    with _lock:
        if node() != LOCAL_NODE:
            raise NodeError(f"this process is the node {node()} already: call stop_node first")
        _check_no_servers("start_node")
        found, shared = _keys(cookie, keys)
        places = _places(address, bind, anywhere=shared)
        _use(codec)
        if _running is not None:
            # Until now it called others only.
            _running.close(LINGER)
            _running = None
        running = _Running(found)
        try:
            running.listen(str(address), places)
        except BaseException:
            running.close(0.0)
            raise
        running.loop.start()
        _running = running
        _given = cookie, keys
        set_node(str(address))
        local.beyond = running.links
        if not shared:
            logger.warning(
                "the node %s has no cookie: it listens on loopback only, for processes of this"
                " user. For other hosts give all nodes the same one: python -m exraft keygen",
                node(),
            )
        _at_the_end()
        return node()


def stop_node() -> None:
    """Make this process no node any more; nothing happens if it is none.

    Calls that wait for servers of other nodes fail. What was connected before is connected anew
    when it is called again.

    Raises:
        NodeError: servers run here: stop them first.
    """
    global _running
    with _lock:
        if node() != LOCAL_NODE:
            _check_no_servers("stop_node")
        _stop()


def _stop() -> None:
    global _running
    with _lock:
        running, _running = _running, None
        local.beyond = None
        set_node(LOCAL_NODE)
    if running is not None:
        running.close(LINGER)


def connect(
    *,
    cookie: str | None = None,
    keys: str | os.PathLike[str] | None = None,
    codec: str | None = None,
) -> None:
    """Say how this process, which is no node, calls servers on nodes.

    Only for what the environment and files don't say: the first call to another node does this by
    itself. The arguments are those of `start_node`. It does not connect to anything yet.

    Raises:
        NodeError: this process is a node, or the secret is missing or can't be used.
    """
    global _running, _given
    with _lock:
        if node() != LOCAL_NODE:
            raise NodeError(f"this process is the node {node()}, which has a secret already")
        running = _connected(cookie, keys, codec)
        _given = cookie, keys
        previous, _running = _running, running
        if previous is not None:
            previous.close(0.0)


def node_status() -> NodeStatus:
    """What this process's node, or its connections to others, tell of themselves.

    Raises:
        NodeError: pyzmq is missing.
    """
    try:
        from exraft.nodes.counts import Counts, NodeStatus
    except ImportError:
        raise _no_zmq() from None
    running = _running
    counts = Counts() if running is None else running.counts
    return NodeStatus(
        node=node(),
        listens_on=None if running is None else running.place,
        links={} if running is None else running.links.states(),
        sent=counts.sent,
        received=counts.received,
        dropped=counts.dropped,
        malformed=counts.malformed,
        misaddressed=counts.misaddressed,
        incompatible=counts.incompatible,
        refused_peers=counts.refused_peers,
        faults=0 if running is None else running.loop.faults,
    )


# For calls.


def ask(peer: Peer, call: Call) -> None:
    """Send a call to a server of another node.

    Raises:
        NodeError, NodeUnreachable, CommandTooLarge, Overloaded: see `exraft.calling.deliver`.
    """
    _reached(peer).ask(peer, call)


def stop_there(peer: Peer, reason: object, timeout: float | None) -> None:
    """Stop a server of another node; see `ExRaft.stop_server`."""
    running = _reached(peer)
    from exraft.remote.asking import Stop

    stop = Stop(Reply(), reason, timeout)
    stop.reply.server = peer
    running.ask(peer, stop)
    # That node answers when the time is over; should it not, nobody waits for ever.
    stop.wait(None if timeout is None else timeout + 5.0)


def open_snapshot(peer: Peer, timeout: float | None) -> SnapshotReader | None:
    """Open the newest snapshot of a server of another node; None if it has none."""
    running = _reached(peer)
    import msgspec

    from exraft.remote.asking import Fetch, Open
    from exraft.remote.reading import Opened, RemoteReader

    def wait(call: Call) -> bytes:
        call.reply.server = peer
        running.ask(peer, call)
        return call.wait(timeout)  # type: ignore[no-any-return]

    def fetch(handle: str, offset: int, size: int) -> bytes:
        return wait(Fetch(Reply(), handle, offset, size))

    opened = msgspec.msgpack.decode(wait(Open(Reply())), type=Opened)
    if opened.snapshot is None:
        return None
    return RemoteReader(opened.snapshot, partial(fetch, opened.handle))


def _reached(peer: Peer) -> _Running:
    """What this process has to call others with, from its first call on."""
    global _running
    running = _running
    if running is None:
        from exraft.nodes.address import parse

        try:
            parse(peer.node)
        except ValueError as error:
            # Before anything is begun for its sake.
            raise NodeUnreachable(peer, peer.node, str(error)) from None
        with _lock:
            running = _running
            if running is None:
                running = _running = _connected(*_given, None)
    return running


def _connected(
    cookie: str | None, keys: str | os.PathLike[str] | None, codec: str | None
) -> _Running:
    found, _ = _keys(cookie, keys)
    _use(codec)
    running = _Running(found)
    running.loop.start()
    _at_the_end()
    return running


def _keys(cookie: str | None, keys: str | os.PathLike[str] | None) -> tuple[Keys, bool]:
    """And whether others than this user's processes may have them."""
    try:
        from exraft.nodes.keys import CookieKeys, ListedKeys, find_cookie, loopback_cookie
    except ImportError:
        raise _no_zmq() from None
    if keys is not None:
        if cookie is not None:
            raise NodeError("a node has a cookie or keys of its own: give one of the two")
        return ListedKeys(keys), True
    found = find_cookie(cookie)
    if found is None:
        return CookieKeys(loopback_cookie()), False
    return CookieKeys(found), True


def _places(address: Address, bind: str | None, *, anywhere: bool) -> list[Address]:
    """Where to listen."""
    from exraft.nodes.address import Address, is_loopback, parse, resolved

    place = address if bind is None else parse(bind)
    if is_loopback(place.host):
        # What it was resolved to now, as a name may mean something else a moment later.
        here = [each for each in resolved(place.host) if is_loopback(each)]
        return [Address(each, place.port) for each in here]
    if not anywhere:
        raise NodeError(
            f"{place} is reached from other hosts, and there is no cookie to keep strangers out:"
            " make one with python -m exraft keygen, and give it to all nodes in $EXRAFT_COOKIE;"
            " or listen for this host alone, with bind='127.0.0.1:...'"
        )
    return [Address("*", place.port) if bind is None else place]


def _use(codec: str | None) -> None:
    """What is named; or what the environment says, if the program has chosen nothing."""
    name = codec
    if name is None and not codecs.chosen():
        name = os.environ.get("EXRAFT_CODEC")
    # To name the same again does not take back that pickles are read.
    if name is not None and name != codecs.in_use():
        codecs.use(name)


def _check_no_servers(what: str) -> None:
    prefix = supervisor_name(":")
    running = [name for name in ActorRegistry.names() if name.startswith(prefix)]
    if running:
        servers = ", ".join(":" + name.removeprefix(prefix) for name in running)
        raise NodeError(
            f"{what} while servers run ({servers}) would change their names under their peers:"
            " stop them first"
        )


def _no_zmq() -> NodeError:
    return NodeError("nodes need pyzmq: pip install pyzmq")


_registered: set[int] = set()


def _at_the_end() -> None:
    """After the trees' own hook has run: they say goodbye through us."""
    pid = os.getpid()
    if pid not in _registered:
        _registered.add(pid)
        atexit.register(_stop)
        at_exit.stay_first()


def _forget_all() -> None:
    # The connections are the parent's, and so is the name; the secret is known to both.
    global _lock, _running
    _lock = threading.RLock()
    _running = None
    local.beyond = None
    set_node(LOCAL_NODE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
