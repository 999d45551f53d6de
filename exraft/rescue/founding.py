"""What a server has stored, said of another cluster, or under another name.

Knows what must change in a log so that it can live on as somebody else's. Must not know files.

A log that is to begin a new cluster must name that cluster in every configuration: servers that are
brought up to date with it take nothing that names another one (rule 17). And in each but the last
the server that has the log is the only member, as indeed it is the only one that these entries are
stored on: nobody who holds only a part of them may take an earlier member for a voter.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from exraft.errors import StorageError
from exraft.names import Peer
from exraft.raft.config import Config, config_entry, decode_config
from exraft.raft.log import CONFIG, Entry
from exraft.storage.directory import Identity
from exraft.storage.image import Image


def random_id() -> str:
    """Of a cluster or of a store."""
    return uuid.uuid4().hex[:16]


def config_in_force(image: Image) -> Config | None:
    """The newest configuration, committed or not (rule 15); None if there is none."""
    for entry in reversed(image.entries):
        if entry.kind == CONFIG:
            return decode_config(entry.data)
    return None if image.snapshot is None else image.snapshot.config


def refounded(image: Image, me: Peer, others: Sequence[Peer] = ()) -> Image:
    """Return what the first server of a new cluster has, which goes on from `image`.

    All that the image's log holds counts as committed. The cluster's id and the store's are new,
    and so is the term.

    Args:
        image: not changed.
        me: the server that it is to be.
        others: the other voters, who must have nothing stored (rule 29).

    Raises:
        StorageError: there is nothing to go on from.
    """
    whole = from_snapshot(image)
    if not whole.last_index:
        raise StorageError(image.path, "nothing is in its log: start a new cluster instead")
    cluster, store = random_id(), random_id()
    alone = Config(voters=(me,), cluster=cluster, stores=((me, store),))
    changed = _reconfigured(whole, lambda _: alone)
    term = max(whole.term, _last_term(whole)) + 1
    founding = msgspec.structs.replace(alone, voters=(me, *others))
    return replace(
        changed,
        identity=Identity(me.name, me.node, store),
        term=term,
        voted_for=None,
        leads=False,
        commit_index=whole.last_index + 1,
        entries=[*changed.entries, config_entry(term, founding)],
    )


def renamed(image: Image, node: str, name: str | None = None) -> Image:
    """Return what the same server has when its node is called `node`; and it itself `name`.

    It is the same member of the same cluster, if all members' directories are changed alike.

    Raises:
        StorageError: other members would not hear of it.
    """
    if image.identity is None:
        raise StorageError(image.path, "it does not say whose it is")
    old = image.identity.peer
    new = Peer(name or old.name, node)
    config = config_in_force(image)
    members = () if config is None else config.members()
    elsewhere = [peer for peer in members if peer.node != old.node]
    if elsewhere:
        raise StorageError(
            image.path,
            f"its cluster has members on other nodes ({_listed(elsewhere)}), who would not hear of"
            f" it: remove {old} from the cluster, then add it anew",
        )
    others = [peer for peer in members if peer != old]
    if name not in (None, old.name) and others:
        raise StorageError(
            image.path,
            f"its cluster has other members ({_listed(others)}), who would not hear of the new"
            f" name: add {name} to the cluster, then remove {old.name}",
        )

    def move(peer: Peer) -> Peer:
        if peer == old:
            return new
        return Peer(peer.name, node) if peer.node == old.node else peer

    def moved(config: Config) -> Config:
        # The new name may have been another member's once.
        voters = tuple(dict.fromkeys(map(move, config.voters)))
        learners = dict.fromkeys(map(move, config.learners))
        return msgspec.structs.replace(
            config,
            voters=voters,
            learners=tuple(peer for peer in learners if peer not in voters),
            stores=tuple({move(peer): store for peer, store in config.stores}.items()),
        )

    changed = _reconfigured(from_snapshot(image), moved)
    voted = image.voted_for
    return replace(
        changed,
        identity=Identity(new.name, new.node, image.identity.store_id),
        voted_for=None if voted is None else move(voted),
    )


def committed(image: Image) -> Image:
    """Return what is known to be committed of it: newest snapshot, and the entries after it."""
    whole = from_snapshot(image)
    return replace(whole, entries=whole.entries[: whole.commit_index - whole.base_index])


def from_snapshot(image: Image) -> Image:
    """Return the same without the entries that its snapshot stands for.

    Raises:
        StorageError: the snapshot that the log needs is missing.
    """
    snapshot = image.snapshot
    if image.base_index > (0 if snapshot is None else snapshot.index):
        raise StorageError(
            image.path,
            f"its log begins after {image.base_index}, and the snapshot of what was before is"
            " missing or damaged: nothing can be made of it",
        )
    if snapshot is None:
        return image
    kept = image.entries[snapshot.index - image.base_index :]
    at = snapshot.index - image.base_index - 1
    if 0 <= at < len(image.entries) and image.entries[at].term != snapshot.term:
        # It was installed in place of a log that differed.
        kept = []
    return replace(
        image,
        base_index=snapshot.index,
        base_term=snapshot.term,
        entries=kept,
        commit_index=max(image.commit_index, snapshot.index),
    )


def _reconfigured(image: Image, change: Callable[[Config], Config]) -> Image:
    """The same, with every configuration changed."""

    def changed(entry: Entry) -> Entry:
        if entry.kind != CONFIG:
            return entry
        return config_entry(entry.term, change(decode_config(entry.data)))

    snapshot = image.snapshot
    if snapshot is not None:
        snapshot = msgspec.structs.replace(snapshot, config=change(snapshot.config))
    return replace(image, snapshot=snapshot, entries=[changed(entry) for entry in image.entries])


def _last_term(image: Image) -> int:
    return image.entries[-1].term if image.entries else image.base_term


def _listed(peers: Sequence[Peer]) -> str:
    return ", ".join(map(str, peers))
