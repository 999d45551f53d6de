"""Which members of which clusters live in this process, and which have lost their store (rule 29).

Knows, for each server here that was ever part of an election, the newest configuration that it
knows, and whose stores were dropped. Must not know what follows from it: a server that starts under
a forgotten member's name waits to be added again, for it has forgotten its votes and what it
acknowledged.
"""

from __future__ import annotations

import os
from threading import Lock

from exraft.names import Peer
from exraft.raft import Config

_lock = Lock()
_living: dict[Peer, Config] = {}
_dropped: dict[Peer, list[str]] = {}
"""The clusters that a server of this name belonged to when its store was dropped.

An empty string stands for a cluster whose id it had not heard yet: it may have voted in it.
"""


def note(peer: Peer, config: Config) -> None:
    """`peer` lives here, has a ballot, and `config` is the newest configuration that it knows."""
    with _lock:
        _living[peer] = config


def drop(peer: Peer) -> None:
    """The store of `peer` is gone."""
    with _lock:
        config = _living.pop(peer, None)
        if config is not None:
            _dropped.setdefault(peer, []).append(config.cluster)
        # A cluster of which nobody lives here any more may be founded anew, as if for the first
        # time: notebooks and tests do that all day.
        for name in list(_dropped):
            _dropped[name] = [cluster for cluster in _dropped[name] if _lives(name, cluster)]
            if not _dropped[name]:
                del _dropped[name]


def _lives(peer: Peer, cluster: str) -> bool:
    """Whether a member of that cluster lives here; if it is unknown, one that knows `peer`."""
    return any(
        peer in config.members() if not cluster else config.cluster in ("", cluster)
        for config in _living.values()
    )


def is_forgotten(peer: Peer) -> bool:
    """Whether a living server here counts `peer` as a member, with a store that is gone."""
    with _lock:
        lost = _dropped.get(peer, [])
        return any(
            peer in config.members()
            and (bool(config.store_of(peer)) or _may_be_one_of(config.cluster, lost))
            for other, config in _living.items()
            if other != peer
        )


def _may_be_one_of(cluster: str, lost: list[str]) -> bool:
    return cluster in lost or "" in lost or (not cluster and bool(lost))


def _forget_all() -> None:
    global _lock
    _lock = Lock()
    _living.clear()
    _dropped.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
