"""What tests look at in a simulated cluster."""

from __future__ import annotations

from exraft.names import Peer
from exraft.raft import CONFIG
from exraft.testing.cluster import Cluster


def commands(cluster: Cluster, peer: Peer) -> list[bytes]:
    """The commands that a server has applied, in order, as far as its log holds them still."""
    server = cluster.servers[peer]
    first = server.store.base_index + 1
    entries = server.store.slice(first, server.applied - first + 1)
    return [entry.data for entry in entries if entry.kind != CONFIG]


def voters(cluster: Cluster, peer: Peer) -> tuple[Peer, ...]:
    return cluster.raft(peer).config.voters
