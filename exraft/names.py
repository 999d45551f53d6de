"""What a server is called.

Knows the shape of a name (`":raft1"`), of a peer (name and node) and the words for a role.
Must not know who bears a name: that is the registry's business (`exraft.actors.registry`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

LOCAL_NODE = "nonode@nohost"
"""The node of a process that has not started one, as on the BEAM."""

_NAME = re.compile(r":\S+")


class Role(StrEnum):
    """What a server does at the moment; equal to its plain string."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Peer(NamedTuple):
    """A server as other servers name it; equal to the plain tuple `(name, node)`."""

    name: str
    node: str = LOCAL_NODE

    def __str__(self) -> str:
        return self.name if self.node == LOCAL_NODE else f"{self.name} on {self.node}"


Server: TypeAlias = str | Peer | tuple[str, str]
"""What a call is addressed to: `":raft1"` (on this node), a `Peer`, or a `(name, node)` tuple."""


_this_node = LOCAL_NODE


def node() -> str:
    """This process's node name: `"nonode@nohost"` as long as no node was started."""
    return _this_node


def set_node(name: str) -> None:
    """From now on this process is the node `name`; for `exraft.start_node`, while nobody lives."""
    global _this_node
    _this_node = name


def check_name(name: object) -> str:
    """Return `name` if it is atom-like.

    Raises:
        ValueError: it is not; the message shows a name that would be right.
    """
    if not isinstance(name, str):
        raise ValueError(f"a name is a string such as ':raft1', not {name!r}")
    if _NAME.fullmatch(name) is None:
        words = "".join(name.split()).lstrip(":") or "raft1"
        raise ValueError(
            f"{name!r} is no name: a name is a colon and then one or more characters"
            f" without whitespace, such as {':' + words!r}"
        )
    return name


def as_peer(server: object) -> Peer:
    """Return the peer that `server` addresses (a name means this node).

    Raises:
        ValueError: `server` is neither a name, nor a peer, nor a `(name, node)` tuple.
    """
    if isinstance(server, str):
        return _peer(server, node())
    if isinstance(server, tuple) and len(server) == 2:
        name, at = server
        if isinstance(name, str) and isinstance(at, str):
            return _peer(name, at)
    raise ValueError(
        f"{server!r} names no server: use a name such as ':raft1',"
        f" or a (name, node) tuple such as (':raft1', {LOCAL_NODE!r})"
    )


# Every call names its server, so what was found right once is not looked at again.
@lru_cache(maxsize=1024)
def _peer(name: str, at: str) -> Peer:
    if at.split() != [at]:
        raise ValueError(f"{at!r} is no node: a node is named like {LOCAL_NODE!r}")
    return Peer(check_name(name), at)
