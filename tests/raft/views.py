"""What tests look at in a simulated cluster."""

from __future__ import annotations

from exraft.names import Peer
from exraft.raft import CONFIG
from exraft.testing.cluster import Cluster


def commands(cluster: Cluster, peer: Peer) -> list[bytes]:
    """The commands that a server has applied, in order."""
    server = cluster.servers[peer]
    entries = server.store.slice(1, server.applied)
    return [entry.data for entry in entries if entry.kind != CONFIG]


def voters(cluster: Cluster, peer: Peer) -> tuple[Peer, ...]:
    return cluster.raft(peer).config.voters
