"""What a node counts, for those who watch it.

Knows the counters. Must not know what makes them grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Of frames, and of connections that were refused; written without locks, so roughly right."""

    sent: int = 0
    received: int = 0
    dropped: int = 0
    malformed: int = 0
    misaddressed: int = 0
    incompatible: int = 0
    refused_peers: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A process and its connections at a moment; what is counted are frames.

    Attributes:
        node: its name; `"nonode@nohost"` if it runs none.
        listens_on: `host:port`; None if it runs no node.
        links: the nodes that it has connections to: `"up"`, or what stands in the way.
        sent, received: since the node, or the first connection, was started.
        dropped: that were not sent, as there was no connection or no room in it.
        malformed: that arrived and made no sense.
        misaddressed: that were meant for another node.
        incompatible: that were of another version of the protocol.
        refused_peers: connections that were refused, or broken off before they were authenticated.
        faults: what should never have been raised in the node's thread, and is in the log.
    """

    node: str
    listens_on: str | None
    links: Mapping[str, str]
    sent: int
    received: int
    dropped: int
    malformed: int
    misaddressed: int
    incompatible: int
    refused_peers: int
    faults: int
