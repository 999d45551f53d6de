"""A server's own directory: what it is called, whose it is, and who holds it.

Knows names of directories, the identity and the lock. Must not know the log and the snapshots.
"""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import UTC, datetime
from os.path import join
from urllib.parse import quote

import msgspec

from exraft.errors import StoreDamaged, StoreLocked, StoreMismatch
from exraft.names import LOCAL_NODE, Peer
from exraft.storage.files import Files, Held, Lock
from exraft.storage.frame import frame, unframe
from exraft.storage.reading import read_whole

IDENTITY = "identity"
LOCK = "lock"
PART = ".part"
"""How the names of files end that are being written."""

_KIND = b"exraft I"
_LONGEST = 200
"""Characters of a directory's name, of the 255 bytes that file systems take."""


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Whose directory it is, and which store (rule 29)."""

    name: str
    node: str
    store_id: str

    @property
    def peer(self) -> Peer:
        return Peer(self.name, self.node)


def directory_of(data_dir: str, peer: Peer) -> str:
    """Return the directory of a server under `data_dir`, which others may share."""
    name = peer.name.removeprefix(":")
    # What is left alone is safe on every file system, but for names of dots only.
    quoted = quote(name, safe="").replace(".", "%2E") if name.startswith(".") else quote(name, "")
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[: _LONGEST - 40]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return join(data_dir, quoted)


def read_identity(files: Files, directory: str) -> Identity:
    """Return whose directory it is.

    Raises:
        StoreDamaged: the file says nonsense.
        StoreMismatch: it is of another format.
        OSError: it can't be read; FileNotFoundError if there is none.
    """
    path = join(directory, IDENTITY)
    try:
        return msgspec.msgpack.decode(unframe(_KIND, read_whole(files, path), path), type=Identity)
    except msgspec.DecodeError as error:
        raise StoreDamaged(path, f"the identity says nonsense ({error})", offset=0) from error


def write_identity(files: Files, directory: str, identity: Identity) -> None:
    """Write it, or put another in its place; raises `OSError`."""
    path = join(directory, IDENTITY)
    part = path + PART
    if os.path.basename(part) in files.names(directory):
        files.unlink(part)
    file = files.create(part)
    try:
        file.write(frame(_KIND, msgspec.msgpack.encode(identity)), 0)
        file.sync()
    finally:
        file.close()
    files.rename(part, path)
    files.sync_directory(directory)


def check_identity(directory: str, identity: Identity, peer: Peer) -> None:
    """Refuse the directory of another server.

    Raises:
        StoreMismatch: it is one.
    """
    if identity.peer == peer:
        return
    if identity.name != peer.name:
        raise StoreMismatch(
            directory,
            f"it is the directory of {identity.peer}, and not of {peer}: give each server its own",
        )
    if identity.node == LOCAL_NODE:
        raise StoreMismatch(
            directory,
            f"it was written before this process had a node, and would be of {peer} now. If the"
            f" whole cluster moves: python -m exraft rename {directory} --node {peer.node}",
        )
    raise StoreMismatch(
        directory, f"it is the directory of {peer.name} on {identity.node}, not on {peer.node}"
    )


def hold(files: Files, directory: str) -> Lock:
    """Hold the directory for this process alone.

    Raises:
        StoreLocked: somebody else holds it.
        OSError: it can't be held.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        note = f"process {os.getpid()} on {platform.node()} since {since}"
        return files.lock(join(directory, LOCK), note)
    except Held as held:
        own = str(held).startswith(f"process {os.getpid()} on {platform.node()} ")
        who = f"another server of this process ({held})" if own else str(held) or "somebody"
        raise StoreLocked(
            directory, f"{who} holds it: stop that one first, or use another data_dir"
        ) from None
