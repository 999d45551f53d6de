"""The stores of a simulated cluster on disks that are simulated: the code that runs in production.

Knows which states a store may be in when it is opened again: what was synced is there, and what was
never written is not. Must not know how the store manages that, nor what a disk does to it.
"""

from __future__ import annotations

import errno
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exraft.names import Peer
from exraft.raft.snapshot import Snapshot
from exraft.storage.disk import DiskStore, LentDiskStore
from exraft.storage.sinks import SnapshotSink
from exraft.testing.disk import PowerLost, SimulatedFiles
from exraft.testing.invariants import Violation, Watch
from exraft.testing.store import Owner, WatchedStore

if TYPE_CHECKING:
    from exraft.storage.opening import Opened

SEGMENT_BYTES = 512
"""Of the files of the log: small, so that there are many."""


class Disk(SimulatedFiles):
    """A server's own."""

    @property
    def dark(self) -> bool:
        """Whether the power is off."""
        return self._dark

    @property
    def used(self) -> int:
        """Bytes that all files together have."""
        before, self.capacity = self.capacity, 0
        used = -self.room()
        self.capacity = before
        return used


class DiskOwner(Owner, DiskStore):
    """A store on a disk of its own, whose every life is watched."""

    at_once = True

    def __init__(self, watch: Watch, peer: Peer, store_id: str, seed: object) -> None:
        self.rng = random.Random(f"{seed} {peer} {store_id} disk")
        self.disk = Disk(self.rng)
        DiskStore.__init__(
            self,
            "/data",
            peer,
            files=self.disk,
            segment_bytes=SEGMENT_BYTES,
            store_id=store_id,
        )
        self.store_id = store_id
        self._unused: WatchedDisk | None = None
        """The first life since the store was opened, as long as nobody has it."""
        Owner.__init__(self, watch, peer)

    @property
    def broken(self) -> bool:
        """Whether this process can do nothing more with it."""
        return self.disk.dark or bool(self.failed)

    def lend(self) -> WatchedDisk:
        life, self._unused = self._unused, None
        if life is None:
            before = self.life if isinstance(self.life, WatchedDisk) else None
            life = self._lend(before)
        return life

    def peek(self) -> WatchedDisk | None:
        return self.life if isinstance(self.life, WatchedDisk) else None

    def _lend(self, before: WatchedDisk | None) -> WatchedDisk:
        opened = self._open()
        if before is not None:
            before.fence()
        self._lives += 1
        life = WatchedDisk(self, self._lives, before, opened=opened)
        self.life = self._lent = life
        return life

    # What befalls it.

    def fill(self, room: int) -> None:
        """Let the disk have room for so many bytes more."""
        self.disk.capacity = self.disk.used + room

    def fail_soon(self, operations: int) -> None:
        """Let the disk fail for good from so many operations on."""
        self.disk.fail_at(self.disk.operations + operations, errno.EIO, times=1000)

    def lose_power_soon(self, operations: int) -> None:
        """Let the power go that many operations on."""
        self.disk.lose_power_at(self.disk.operations + operations)

    def repair(self) -> None:
        self.disk.work_again()
        self.disk.capacity = None

    def lose_unsynced(self, keep: int) -> None:
        if isinstance(self.life, WatchedDisk):
            self.life.lose_unsynced(keep)
        else:
            # It has never been open.
            self.open_again(power=True)

    def open_again(self, *, power: bool) -> tuple[WatchedDisk, bool]:
        """The process ends, and the next one opens the store; `power`: as the power failed.

        It may fail once more meanwhile; returned is whether it did at all.
        """
        self.repair()
        while True:
            self._opened = None
            if power:
                self.disk.lose_power()
            else:
                self.disk.kill()
            if self.rng.random() < 0.3:
                self.lose_power_soon(self.rng.randint(1, 20))
            try:
                with _quiet():
                    self._unused = self._lend(None)
            except PowerLost:
                power = True
                self.watch.counts["power failures while a store was opened"] += 1
            else:
                self.disk.work_again()
                return self._unused, power


@contextmanager
def _quiet() -> Iterator[None]:
    """Nobody need hear of torn writes on a disk that never was."""
    log = logging.getLogger("exraft.storage")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@dataclass(frozen=True, slots=True)
class _Log:
    """What is compared of a log."""

    base: tuple[int, int]
    entries: tuple[object, ...]
    snapshot: Snapshot | None


class WatchedDisk(WatchedStore, LentDiskStore):
    """A life's hold on a store on disk."""

    def __init__(
        self, owner: DiskOwner, incarnation: int, before: WatchedDisk | None, *, opened: Opened
    ) -> None:
        LentDiskStore.__init__(self, owner._lock, opened, owner._health, incarnation, before)
        self._disk = owner
        self._synced_commit: int = 0 if before is None else before._synced_commit
        self._noted_commit: int = 0 if before is None else before._noted_commit
        self._coming: Snapshot | None = None
        """A snapshot that is just getting its name."""
        self._watch(owner, before)

    def __repr__(self) -> str:
        log = f"from {self.base_index} ({self.base_term}) to {self.last_index}"
        return f"the log {log} ({self.term_at(self.last_index)}) and the vote of term {self.term}"

    @property
    def safe_pieces(self) -> int:
        # They are not synced one by one: who has lost some says so when asked next.
        return 0 if self.received is None else self.received[1]

    def sync(self) -> None:
        written = self.dirty
        super().sync()
        if written:
            self._synced_commit = min(self.commit_index, self.last_index)

    def note_commit(self) -> None:
        super().note_commit()
        self._noted_commit = self.opened.journal.state.commit_index

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        return LentDiskStore.receive(self, snapshot, offset, data)

    def adopt(self, sink: SnapshotSink) -> None:
        self._coming = sink.snapshot
        super().adopt(sink)
        self._coming = None

    def install(self) -> None:
        self._coming = None if self.received is None else self.received[0]
        super().install()
        self._coming = None

    def _log(self) -> _Log:
        entries = self.slice(self.base_index + 1, self.last_index)
        return _Log((self.base_index, self.base_term), tuple(entries), self.snapshot)

    def lose_unsynced(self, keep: int = 0) -> bool:
        return self._end(power=True)

    def end_process(self) -> bool:
        return self._end(power=False)

    def _end(self, *, power: bool) -> bool:
        """Open the store again, and find out with how many of the unsynced writes."""
        committed = self.commit_index
        life, power = self._disk.open_again(power=power)
        found = life._log()
        ballot = life.term, life.voted_for
        lost = False
        while not self._is(found, ballot):
            if not self._undo:
                raise Violation(
                    "what is synced stays",
                    f"{self.peer} has {life} when its store is opened again, which it never had"
                    " since its last sync",
                )
            undo = self._undo.pop()
            lost = lost or undo.loses
            self._take_back(undo)
        noted = self._synced_commit if power else max(self._synced_commit, self._noted_commit)
        life._begin_after(lost, noted, committed)
        return lost

    def _is(self, found: _Log, ballot: tuple[int, Peer | None]) -> bool:
        log = self._log()
        coming = self._coming
        installed = self.installing
        if coming is not None and found.snapshot == coming:
            if found.base == (coming.index, coming.term) and not found.entries:
                log = found
                installed = True
            else:
                log = replace(log, snapshot=coming)
        if found != log:
            return False
        if ballot == (self.term, self.voted_for):
            return True
        # A snapshot gets its name before the rest is synced: then the ballot is an earlier one, or
        # none in the snapshot's term.
        if not installed or found.snapshot is None:
            return False
        term, voted_for = found.snapshot.term, None
        while self._undo:
            self._take_back(self._undo.pop())
            known = (self.term, self.voted_for) if self.term >= term else (term, voted_for)
            if known == ballot:
                return True
        return False

    def _begin_after(self, lost: bool, least: int, most: int) -> None:
        """Be the first life of a process; from `least` to `most` was known to be committed."""
        snapshot = self.snapshot
        taken = 0 if snapshot is None else snapshot.index
        commit = self.commit_index
        if not max(least, taken) <= commit <= max(most, taken):
            raise Violation(
                "what is synced stays",
                f"{self.peer} takes {commit} for committed when its store is opened again, and it"
                f" was {least} when that was stored and {most} at last",
            )
        self.lost = lost
        self.configs_held = self._known_configs()
        self._synced_commit = self._noted_commit = commit
        self.watch.vote_stored(self, self.term, self.voted_for)
