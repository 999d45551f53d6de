"""How a call gets to a server, and its answer back.

Knows how a server is found and which calls are refused on the way. Must not know what the calls
mean.
"""

from __future__ import annotations

from typing import Any, Final

from exraft.actors import lineage
from exraft.actors.calls import Call, Write, WriteReply
from exraft.actors.effects import current_worker
from exraft.actors.registry import ActorRegistry
from exraft.actors.server import current_server
from exraft.actors.spec import supervisor_name
from exraft.actors.watching import ProcessRef
from exraft.codec import encode, encode_command
from exraft.distribution import ask
from exraft.errors import Overloaded, SelfCall, ServerNotFound
from exraft.limits import check_timeout
from exraft.names import Peer, Server, as_peer, node
from exraft.supervision import SupervisorNotFound, raft

MAX_QUEUED: Final = 100_000
"""Messages that may wait in a server's mailbox; beyond it calls are `Overloaded`."""


def peer_of(server: Server) -> Peer:
    """The server that is meant.

    Raises:
        ValueError: `server` is no name, peer or tuple.
        SelfCall: the call comes from the server's own thread.
    """
    peer = as_peer(server)
    if current_server() == peer:
        raise SelfCall()
    return peer


def deliver(peer: Peer, message: Call) -> None:
    """Send a call to the server, wherever it is.

    Raises:
        ServerNotFound: nobody has that name here.
        NodeUnreachable: what should be its node's name is none.
        NodeError: this process can't reach other nodes.
        CommandTooLarge: no other node takes that much.
        Overloaded: too much waits there already, or for the connection.
        Exit: this thread was given up.
    """
    lineage.must_go_on()
    message.reply.server = peer
    if peer.node == node():
        deliver_here(peer.name, message)
    else:
        ask(peer, message)


def deliver_here(name: str, message: Call) -> None:
    """Put a call into the mailbox of a server of this process.

    Raises:
        ServerNotFound, Overloaded: as `deliver`.
    """
    ref = ActorRegistry.get_by_name(name)
    if not isinstance(ref, ProcessRef):
        # Nobody, or a server between two lives, whose name is reserved.
        ActorRegistry.deliver(name, message)
    elif ref.actor_inbox.qsize() >= MAX_QUEUED:  # type: ignore[attr-defined]
        raise Overloaded()
    else:
        ref.actor_inbox.put(message)  # type: ignore[arg-type]


def call(server: Server, message: Call, timeout: float | None) -> Any:
    """Deliver a call and wait for its answer."""
    check_timeout(timeout)
    deliver(peer_of(server), message)
    return message.wait(timeout)


def encode_for(peer: Peer, command: Any) -> bytes:
    """Serialise a command as the server wants it.

    Raises:
        NotSerialisable, CommandTooLarge: refused here, at the caller.
    """
    ref = ActorRegistry.get_by_name(peer.name) if peer.node == node() else None
    limit = getattr(ref, "max_command_bytes", None)
    # Of another node's, or between two lives, nobody can tell its limit here; the server will.
    return encode(command) if limit is None else encode_command(command, limit)


def send_write(server: Server, command: Any) -> Write:
    """Send a command; its reply is a future, which fails if the server can't be reached.

    Raises:
        NotSerialisable, CommandTooLarge: the command can't be logged.
        SelfCall, ValueError: as `peer_of`.
        NodeError: this process can't reach other nodes.
    """
    peer = peer_of(server)
    write = Write(WriteReply(), encode_for(peer, command))
    try:
        deliver(peer, write)
    except (Overloaded, ServerNotFound) as error:
        write.reply.fail(error)
    return write


def stop_here(peer: Peer, reason: object, timeout: float | None) -> None:
    """Stop a server of this process, with its supervisor; see `ExRaft.stop_server`.

    Raises:
        ServerNotFound, SelfCall, CallTimeout: as there.
    """
    if current_worker() == peer.name:
        raise SelfCall(
            "a side effect can't stop its own server, which waits for its side effects:"
            " let it tell another thread to"
        )
    supervisor = ActorRegistry.get_by_name(supervisor_name(peer.name))
    if supervisor is None:
        raise ServerNotFound(peer)
    try:
        raft.stop(supervisor, peer, reason, timeout)
    except SupervisorNotFound:
        raise ServerNotFound(peer) from None
