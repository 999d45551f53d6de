"""What the directories beside an empty one say of the server that it is for (rule 29).

Knows that a cluster which one of them belongs to was founded, whether or not it runs. Must not know
what becomes of a server that comes too late for that.

Servers that share a `data_dir` are mostly those of one cluster. When most of their directories were
lost and all are started as they always were, the empty ones would make a majority by themselves,
and found another cluster beside what is left of theirs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator

from exraft.errors import StorageError
from exraft.names import Peer
from exraft.raft import CONFIG, Config
from exraft.raft.config import decode_config
from exraft.storage.directory import IDENTITY, directory_of
from exraft.storage.image import Image, read_image

log = logging.getLogger("exraft.storage")


def witness(
    data_dir: str, peer: Peer, store_id: str, founders: Collection[Peer]
) -> tuple[Peer, str] | None:
    """Who shows that `peer`, whose log is empty, founds nothing any more, and by which directory.

    Somebody whose configuration has it as a member with another store than `store_id`; or one of
    its fellow founders, whose configuration does not have it at all.
    """
    for image in _siblings(data_dir, peer):
        assert image.identity is not None
        config = _newest(image)
        if config is None:
            continue
        other = image.identity.peer
        if peer in config.members():
            if config.store_of(peer) not in ("", store_id):
                return other, image.path
        elif other in founders:
            return other, image.path
    return None


def _siblings(data_dir: str, peer: Peer) -> Iterator[Image]:
    for name in sorted(os.listdir(data_dir)):
        path = os.path.join(data_dir, name)
        if not os.path.exists(os.path.join(path, IDENTITY)):
            continue
        try:
            image = read_image(path)
        except (StorageError, OSError) as error:
            log.warning("what is beside the empty directory of %s can't be read: %s", peer, error)
            continue
        # Copies that were put aside are nobody's.
        if (
            image.identity is not None
            and image.identity.peer != peer
            and directory_of(data_dir, image.identity.peer) == path
        ):
            yield image


def _newest(image: Image) -> Config | None:
    for entry in reversed(image.entries):
        if entry.kind == CONFIG:
            return decode_config(entry.data)
    return None if image.snapshot is None else image.snapshot.config
