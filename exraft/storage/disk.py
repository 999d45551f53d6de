"""A store on disk, which outlives the process: the one in memory, and a journal of what it is told.

Knows when what was written through a hold comes to the disk. Must not know how, nor what the log
says.
"""

from __future__ import annotations

import logging
import os
import weakref
from threading import Lock

from exraft.errors import StorageError
from exraft.names import Peer
from exraft.raft.snapshot import Snapshot
from exraft.storage.directory import directory_of
from exraft.storage.files import Files, OsFiles
from exraft.storage.health import Health
from exraft.storage.journal import SEGMENT_BYTES
from exraft.storage.memory import LentStore
from exraft.storage.opening import Opened, open_directory
from exraft.storage.records import Record
from exraft.storage.sinks import SnapshotSink
from exraft.storage.snapshots import DiskReader, DiskSink

log = logging.getLogger("exraft.storage")


class DiskStore:
    """The directory of a server, for as long as it is open; owned by whoever restarts the server.

    Attributes:
        path: of the server's own directory.
        store_id: random and made with the directory (rule 29); empty before it was first opened.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        peer: Peer,
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        store_id: str | None = None,
    ) -> None:
        """Nothing is done yet.

        Args:
            data_dir: where the server's directory is, or will be; others may share it.
            peer: whose it is.
            files: the disk; the operating system's if none is given.
            segment_bytes: of the largest files of the log.
            store_id: of a new directory; random if none is given.
        """
        self.path = directory_of(os.fspath(data_dir), peer)
        self.peer = peer
        self.store_id = ""
        self._new_id = store_id
        self._files = files if files is not None else OsFiles()
        self._segment_bytes = segment_bytes
        self._health = Health(self._files, self.path)
        self._opened: Opened | None = None
        self._lives = 0
        self._lent: LentDiskStore | None = None
        self._lock = Lock()
        """Held while anything is written through a hold: none can be fenced in the middle."""
        self._before = 0, 0, 0
        """What was counted before it was opened the last time."""
        _stores.add(self)

    @property
    def failed(self) -> str:
        """Why this process must not use the directory any more; empty if it may."""
        return self._health.failed

    @property
    def syncs(self) -> int:
        """How often anything of the log was synced, by all lives."""
        return self._counted()[0]

    @property
    def writes(self) -> int:
        """How many records and notes were written."""
        return self._counted()[1]

    @property
    def written(self) -> int:
        """Bytes of them."""
        return self._counted()[2]

    def _counted(self) -> tuple[int, int, int]:
        syncs, writes, written = self._before
        if self._opened is None:
            return self._before
        journal = self._opened.journal
        return syncs + journal.syncs, writes + journal.writes, written + journal.written

    @property
    def segments(self) -> int:
        """How many files the log has; 0 if it is closed."""
        opened = self._opened
        return 0 if opened is None else opened.journal.segments

    def open(self) -> None:
        """Hold the directory, make it if there is none, and read and verify what is in it.

        Nothing happens if it is open.

        Raises:
            StoreLocked: another process holds it, or another server of this one.
            StoreMismatch: it is another server's, or of another format.
            StoreDamaged: what is stored is not what was written.
            StoreFailed: the disk failed, now or earlier in this process.
            DiskFull: there is no room for a new one.
        """
        with self._lock:
            self._open()

    def _open(self) -> Opened:
        self._health.check()
        if self._opened is None:
            self._opened = open_directory(
                self._files,
                self.path,
                self.peer,
                self._health,
                self._segment_bytes,
                self._new_id,
            )
            self.store_id = self._opened.store_id
        return self._opened

    def lend(self) -> LentDiskStore:
        """Take the store back from the life before, and lend it to the next; opens it if need be.

        Raises:
            StorageError: as `open`.
        """
        with self._lock:
            opened = self._open()
            before = self._lent
            if before is not None:
                before.fence()
                if before.opened is not opened:
                    before = None
            self._lives += 1
            self._lent = LentDiskStore(self._lock, opened, self._health, self._lives, before)
            return self._lent

    def peek(self) -> LentDiskStore | None:
        """What the present life holds, to be looked at only; None before the first."""
        return self._lent

    def close(self) -> None:
        """Let go of the directory; what was written and not synced is forgotten."""
        with self._lock:
            self._before = self._counted()
            opened, self._opened = self._opened, None
            if self._lent is not None:
                self._lent.fence()
            if opened is not None:
                try:
                    opened.close()
                except StorageError as error:
                    log.warning("closed without a last note: %s", error)

    def _let_go_in_child(self) -> None:
        """A forked child shares the open files, and must neither write nor hold the directory."""
        self._lock = Lock()
        self._opened = None
        if self._lent is not None:
            self._lent.fence()


class LentDiskStore(LentStore):
    """One life's hold on a `DiskStore`; see `exraft.raft.log.Store` for the meaning.

    All that the core reads is in memory. Whatever reaches the disk may raise `DiskFull`, which
    leaves everything as it was, to be tried again, or `StoreFailed`, which is for good.
    """

    __slots__ = ("_health", "_kept", "opened")

    def __init__(
        self,
        lock: Lock,
        opened: Opened,
        health: Health,
        incarnation: int,
        before: LentDiskStore | None,
    ) -> None:
        self.opened = opened
        self._health = health
        self._kept = 0
        """Up to here the log is on the disk as it is here."""
        super().__init__(opened.store_id, incarnation, before, lock)
        if before is None:
            self._load()
        self.received = opened.snapshots.received

    def _load(self) -> None:
        state, self._entries = self.opened.take_log()
        self.term = state.term
        self.voted_for = state.voted_for
        # The process that led is gone: rule 27.
        self.leads = False
        self.commit_index = state.commit_index
        self.base_index = state.base_index
        self.base_term = state.base_term
        self.snapshot = self.opened.snapshots.newest
        self._count()
        self._kept = self.last_index

    def _take_over(self, before: LentStore) -> None:
        super()._take_over(before)
        assert isinstance(before, LentDiskStore)
        # Looked at after the entries, as `truncate` lowers it before: the life before may be at it.
        self._kept = before._kept
        self.dirty = True

    def truncate(self, first: int) -> None:
        self._check()
        self._kept = min(self._kept, first - 1)
        super().truncate(first)

    def cut(self, upto: int) -> None:
        super().cut(upto)
        self._kept = max(self._kept, self.base_index)
        self.dirty = True

    def sync(self) -> None:
        """Return when everything written so far is on the disk.

        Raises:
            Fenced: another life holds the store.
            DiskFull, StoreFailed: it is not.
        """
        with self._lock:
            self._check()
            self._health.check()
            if not self.dirty:
                return
            first = self._kept + 1
            self.opened.journal.write(
                Record(
                    self.term,
                    self.voted_for,
                    self.leads,
                    min(self.commit_index, self.last_index),
                    self.base_index,
                    self.base_term,
                    first,
                    self.slice(first, self.last_index),
                )
            )
            self._kept = self.last_index
            self.dirty = False

    def note_commit(self) -> None:
        """Write down how far is committed, before that is applied. It survives the process.

        After a power failure it may be gone, which the rules allow: the leader tells it again.
        """
        with self._lock:
            self._check()
            self._health.check()
            # Not of entries that the disk may have others for: they would pass for committed.
            index = min(self.commit_index, self._kept)
            if index > self.opened.journal.state.commit_index:
                self.opened.journal.note(index)

    # Snapshots.

    def open_snapshot(self) -> DiskReader:
        return self.opened.snapshots.read()

    def begin_snapshot(self, snapshot: Snapshot) -> SnapshotSink:
        """Where the bytes of a snapshot go that this server takes; from any thread.

        It and what it returns raise `DiskFull` and `StoreFailed`.
        """
        self._check()
        self._health.check()
        return self.opened.snapshots.begin(snapshot)

    def adopt(self, sink: SnapshotSink) -> None:
        """Let a finished snapshot be the newest, unless a newer one was installed meanwhile."""
        assert isinstance(sink, DiskSink)
        with self._lock:
            self._check()
            self._health.check()
            self.opened.snapshots.adopt(sink)
            self.snapshot = self.opened.snapshots.newest

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> int:
        with self._lock:
            self._check()
            self._health.check()
            try:
                return self.opened.snapshots.receive(snapshot, offset, data)
            finally:
                self.received = self.opened.snapshots.received

    def forget_received(self) -> None:
        with self._lock:
            self._check()
            self.opened.snapshots.forget_received()
            self.received = None

    def install(self) -> None:
        with self._lock:
            self._check()
            self._health.check()
            try:
                snapshot = self.opened.snapshots.install()
            finally:
                self.received = self.opened.snapshots.received
            self._start_from(snapshot)
            self._kept = snapshot.index


_stores: weakref.WeakSet[DiskStore] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for store in list(_stores):
        store._let_go_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
