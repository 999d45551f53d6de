"""What the core asks of the place where term, vote and log are kept.

Knows the shape of an entry and the small protocol that `exraft.storage` implements. Must not know
how or where anything is kept.

Writing is in two steps: a change is visible to the core at once and *durable* after `sync`, which
is the driver's to call, once for a whole batch (rule 2). What was durable when is told back to the
core by a `Mark` that was taken before the sync (rule 10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from exraft.names import Peer

if TYPE_CHECKING:
    from exraft.raft.snapshot import Snapshot, SnapshotReader

COMMAND = 0
"""An entry that holds a serialised command of the user's."""
CONFIG = 1
"""An entry that holds a `Config`."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One place in the log. Its index is its place; indexes begin with 1."""

    term: int
    kind: int
    data: bytes


class Mark(NamedTuple):
    """How far the store had been written when it was taken."""

    term: int
    last_index: int
    last_term: int


class DamagedSnapshot(ValueError):
    """What was received is not the snapshot that it should be."""


class Store(Protocol):
    """Term, vote, who leads, commit index, log and newest snapshot of one server.

    `store_id` is random and made with the store (rule 29). `incarnation` counts the lives that were
    lent it (rule 27). `leads` says that this server leads `term`.

    The log holds the entries after `base_index`, which is 0 until it is cut. Everything up to there
    is committed, and in the snapshot (rule 24).
    """

    @property
    def store_id(self) -> str: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def voted_for(self) -> Peer | None: ...
    @property
    def leads(self) -> bool: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def base_index(self) -> int:
        """The index of the entry before the first one that is kept."""

    @property
    def base_term(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def snapshot(self) -> Snapshot | None:
        """The newest one that is stored completely."""

    @property
    def size(self) -> int:
        """Bytes of all entries' data."""

    @property
    def dirty(self) -> bool:
        """Whether anything was written since the last `sync`, by this life or an earlier one.

        A driver syncs before it makes a core of such a store, if it can: then what is there counts
        as stored.
        """

    def set_ballot(self, term: int, voted_for: Peer | None, leads: bool) -> None:
        """Change term, vote and leadership together, so that nobody can forget one of them."""

    def set_commit(self, index: int) -> None:
        """Note how far is committed. Never more durable than the entries that it speaks of."""

    def append(self, entries: Sequence[Entry]) -> None: ...
    def truncate(self, first: int) -> None:
        """Delete the entries from `first` on."""

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`, which is the base or one that is kept.

        0 for index 0.
        """

    def last_at_most(self, index: int, term: int) -> int:
        """The greatest index up to `index`, from the base on, whose entry's term is at most `term`.

        0 if none is.
        """

    def slice(self, first: int, count: int) -> Sequence[Entry]:
        """At most `count` entries from `first` on, which is not before the first one kept."""

    def cut(self, upto: int) -> None:
        """Forget the entries up to `upto`, which a stored snapshot holds (rule 24)."""

    def open_snapshot(self) -> SnapshotReader:
        """The newest snapshot, to be read and then closed."""

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        """Take a piece of a snapshot; return how many bytes of it are here, from its start on.

        A piece beyond what is here is dropped, what is here already is passed over, and a snapshot
        that is not the one under way begins anew (rule 25).
        """

    @property
    def received(self) -> tuple[Snapshot, int] | None:
        """The snapshot that is on its way here, and how many bytes of it are here."""

    def forget_received(self) -> None:
        """It is not needed any more."""

    def install(self) -> None:
        """Let what was received whole take the place of the log, and be committed (rule 23).

        Raises:
            DamagedSnapshot: it is not what it should be; it is forgotten.
        """

    def configs(self) -> Iterator[tuple[int, Entry]]:
        """The configuration entries that are kept, with their indexes, in order."""

    def mark(self) -> Mark: ...
    def sync(self) -> None:
        """Return when everything written so far will survive what the store survives."""
