"""How a call gets to a server, and its answer back.

Knows how a server is found and which calls are refused on the way. Must not know what the calls
mean.
"""

from __future__ import annotations

from typing import Any, Final

from exraft.actors import lineage
from exraft.actors.calls import Call, Write, WriteReply
from exraft.actors.registry import ActorRegistry
from exraft.actors.server import current_server
from exraft.actors.watching import ProcessRef
from exraft.codec import encode, encode_command
from exraft.errors import Overloaded, SelfCall, ServerNotFound
from exraft.limits import check_timeout
from exraft.names import Peer, Server, as_peer, node

MAX_QUEUED: Final = 100_000
"""Messages that may wait in a server's mailbox; beyond it calls are `Overloaded`."""


def local_peer(server: Server) -> Peer:
    """The server of this process that is meant.

    Raises:
        ValueError: `server` is no name, peer or tuple.
        ServerNotFound: it is on a node that this process does not know.
        SelfCall: the call comes from the server's own thread.
    """
    peer = as_peer(server)
    if peer.node != node():
        raise ServerNotFound(f"{peer.name} on the unknown node {peer.node}")
    if current_server() == peer:
        raise SelfCall()
    return peer


def deliver(peer: Peer, message: Call) -> None:
    """Put a call into the server's mailbox.

    Raises:
        ServerNotFound: nobody has that name.
        Overloaded: too much waits there already.
        Exit: this thread was given up.
    """
    lineage.must_go_on()
    message.reply.server = peer
    ref = ActorRegistry.get_by_name(peer.name)
    if not isinstance(ref, ProcessRef):
        # Nobody, or a server between two lives, whose name is reserved.
        ActorRegistry.deliver(peer.name, message)
    elif ref.actor_inbox.qsize() >= MAX_QUEUED:  # type: ignore[attr-defined]
        raise Overloaded()
    else:
        ref.actor_inbox.put(message)  # type: ignore[arg-type]


def call(server: Server, message: Call, timeout: float | None) -> Any:
    """Deliver a call and wait for its answer."""
    check_timeout(timeout)
    deliver(local_peer(server), message)
    return message.wait(timeout)


def encode_for(peer: Peer, command: Any) -> bytes:
    """Serialise a command as the server wants it.

    Raises:
        NotSerialisable, CommandTooLarge: refused here, at the caller.
    """
    ref = ActorRegistry.get_by_name(peer.name)
    limit = getattr(ref, "max_command_bytes", None)
    # Between two lives of a server nobody can tell its limit here; the server will.
    return encode(command) if limit is None else encode_command(command, limit)


def send_write(server: Server, command: Any) -> Write:
    """Send a command; its reply is a future, which fails if the server can't be reached.

    Raises:
        NotSerialisable, CommandTooLarge: the command can't be logged.
        ServerNotFound: it is on a node that this process does not know.
        SelfCall, ValueError: as `local_peer`.
    """
    peer = local_peer(server)
    write = Write(WriteReply(), encode_for(peer, command))
    try:
        deliver(peer, write)
    except (Overloaded, ServerNotFound) as error:
        write.reply.fail(error)
    return write
