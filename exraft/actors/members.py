"""Which members of which clusters live in this process, and which have lost their store (rule 29).

Knows, for each server here that was ever part of an election, the newest configuration that it
knows, and with which store each has ended. Must not know what follows from it: a server that starts
under a forgotten member's name waits to be added again, for it has forgotten its votes and what it
acknowledged. One that comes back with the store it had has forgotten nothing.
"""

from __future__ import annotations

import os
from threading import Lock

from exraft.names import Peer
from exraft.raft import Config

_lock = Lock()
_living: dict[Peer, Config] = {}
_ended: dict[Peer, dict[str, str]] = {}
"""The clusters that a server of this name belonged to when it ended, by the id of its store.

An empty string stands for a cluster whose id it had not heard yet: it may have voted in it.
"""


def note(peer: Peer, config: Config) -> None:
    """`peer` lives here, has a ballot, and `config` is the newest configuration that it knows."""
    with _lock:
        _living[peer] = config


def ended(peer: Peer, store: str) -> None:
    """`peer` lives here no more; that store may come back with it, or be gone."""
    with _lock:
        config = _living.pop(peer, None)
        if config is not None:
            _ended.setdefault(peer, {})[store] = config.cluster
        # A cluster of which nobody lives here any more may be founded anew, as if for the first
        # time: notebooks and tests do that all day.
        for name, stores in list(_ended.items()):
            left = {store: cluster for store, cluster in stores.items() if _lives(name, cluster)}
            if left:
                _ended[name] = left
            else:
                del _ended[name]


def _lives(peer: Peer, cluster: str) -> bool:
    """Whether a member of that cluster lives here; if it is unknown, one that knows `peer`."""
    return any(
        peer in config.members() if not cluster else config.cluster in ("", cluster)
        for config in _living.values()
    )


def is_forgotten(peer: Peer, store: str) -> bool:
    """Whether a living server here counts `peer` as a member, with another store than this one."""
    with _lock:
        others = _ended.get(peer, {}).items()
        lost = [cluster for other_store, cluster in others if other_store != store]
        return any(
            peer in config.members() and _has_lost(config, peer, store, lost)
            for other, config in _living.items()
            if other != peer
        )


def _has_lost(config: Config, peer: Peer, store: str, lost: list[str]) -> bool:
    """Whether `peer` was a member of that cluster with a store that is none of `store`."""
    known = config.store_of(peer)
    if known:
        return known != store
    return config.cluster in lost or "" in lost or (not config.cluster and bool(lost))


def _forget_all() -> None:
    global _lock
    _lock = Lock()
    _living.clear()
    _ended.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
