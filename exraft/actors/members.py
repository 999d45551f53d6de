"""Which members of which clusters live in this process, and which have lost their store (rule 29).

Knows, for each server here that was ever part of an election, the newest configuration that it
knows, and with which store it lives or has ended. Must not know what follows from it: a server that
starts under a forgotten member's name waits to be added again, for it has forgotten its votes and
what it acknowledged. One that comes back with the store it had has forgotten nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from threading import Lock

from exraft.names import Peer
from exraft.raft import Config
from exraft.storage.memory import LentStore

_lock = Lock()
_living: dict[Peer, tuple[str, Config]] = {}
"""With the id of its store."""
_ended: dict[Peer, dict[str, Config]] = {}
"""What a server of this name knew when it ended, by the id of its store."""


def note(peer: Peer, config: Config, store: LentStore) -> None:
    """`peer` lives here, has a ballot, and `config` is the newest configuration that it knows."""
    with _lock:
        # One that was given up has no say any more.
        if not store.fenced:
            _living[peer] = store.store_id, config


def ended(peer: Peer) -> None:
    """`peer` lives here no more; its store may come back with it, or be gone."""
    with _lock:
        if peer in _living:
            store, config = _living.pop(peer)
            _ended.setdefault(peer, {})[store] = config


def is_forgotten(peer: Peer, store: str, kept: Collection[str]) -> bool:
    """Whether a cluster that exists here counts `peer` as a member, with another store than this.

    Args:
        peer: who is about to start.
        store: the id of its store.
        kept: the ids of the stores that those who have ended may come back with. A cluster of which
            nobody lives here, and no store is kept, may be founded anew, as if for the first time:
            notebooks and tests do that all day.
    """
    # Who comes back with the store that it had shows that its cluster is there still.
    kept = {*kept, store}
    with _lock:
        _forget_all_but(kept)
        lost = [config.cluster for other, config in _past(peer) if other != store]
        return any(
            peer in config.members() and _has_lost(config, peer, store, lost)
            for config in _existing(kept, peer)
        )


def _past(peer: Peer) -> Iterator[tuple[str, Config]]:
    """The stores that were its own, and what it knew with each."""
    if peer in _living:
        yield _living[peer]
    yield from _ended.get(peer, {}).items()


def _existing(kept: Collection[str], but: Peer | None = None) -> list[Config]:
    """What those know who live, or may come back."""
    configs = [config for peer, (_, config) in _living.items() if peer != but]
    for peer, stores in _ended.items():
        if peer != but:
            configs += [config for store, config in stores.items() if store in kept]
    return configs


def _forget_all_but(kept: Collection[str]) -> None:
    """Forget those of clusters that exist here no more."""
    existing = _existing(kept)
    for peer, stores in list(_ended.items()):
        left = {
            store: config
            for store, config in stores.items()
            if store in kept or any(_same(peer, config.cluster, other) for other in existing)
        }
        if left:
            _ended[peer] = left
        else:
            del _ended[peer]


def _same(peer: Peer, cluster: str, config: Config) -> bool:
    """Whether it is that cluster; if its id is unknown, one that knows `peer`."""
    return config.cluster in ("", cluster) if cluster else peer in config.members()


def _has_lost(config: Config, peer: Peer, store: str, lost: list[str]) -> bool:
    """Whether `peer` was a member of that cluster with another store than this.

    In `lost` an empty string stands for a cluster whose id it had not heard yet: it may have voted
    in it.
    """
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
