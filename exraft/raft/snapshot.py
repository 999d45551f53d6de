"""What a snapshot is, as servers, stores and the wire speak of it (Raft §7, rules 23 to 25).

Knows what a snapshot says of the log that it stands for, and how its bytes are asked for. Must not
know what the bytes mean: they are the machine's.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from exraft.raft.config import Config


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """A machine's state when everything up to `index` was applied, and what else is replicated.

    `term` is that of the entry at `index`. `config` is the configuration in force there, and
    `config_index` and `config_term` say where it stands. `size` (bytes) and `crc` (CRC-32) are of
    the state's bytes, which need not be the same on two servers: together with the rest they tell
    one snapshot from another.
    """

    index: int
    term: int
    config: Config
    config_index: int
    config_term: int
    size: int = 0
    crc: int = 0


class SnapshotReader(Protocol):
    """A stored snapshot that is being read. It stays readable when a newer one replaces it."""

    @property
    def snapshot(self) -> Snapshot: ...

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end."""

    def close(self) -> None: ...
