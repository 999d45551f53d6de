"""How a server is written where there are only words: `:raft2@db-2:7001`.

Knows that one spelling, for command lines and what they print. Must not know where it is used.
"""

from __future__ import annotations

from exraft.names import LOCAL_NODE, Peer, check_name
from exraft.nodes.address import parse


def read_server(text: str, home: str) -> Peer:
    """Return the server that is meant; one without a node is on `home`.

    Raises:
        ValueError: it is none; the message shows how one is written.
    """
    name, at, node = text.rpartition("@")
    if not at:
        return Peer(check_name(text), home)
    try:
        return Peer(check_name(name), read_node(node))
    except ValueError as error:
        raise ValueError(
            f"{text!r} names no server, write it like :raft2@db-2:7001 ({error})"
        ) from None


def read_node(text: str) -> str:
    """Return the name of the node, in the one way in which it is written.

    Raises:
        ValueError: it is no host:port.
    """
    return str(parse(text))


def write_server(peer: Peer) -> str:
    """What `read_server` reads."""
    return peer.name if peer.node == LOCAL_NODE else f"{peer.name}@{peer.node}"
