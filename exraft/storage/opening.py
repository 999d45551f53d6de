"""What is done when a directory is opened: made, or held, read, verified and brought to one state.

Knows every state that a crash may leave, and what is damage instead. Must not know who uses it.

The order in which things come to the disk is what makes this work. A new directory gets its first
segment, then its identity, and is a store from then on. A snapshot gets its name when all of it is
there; the log is cut, or discarded in its favour, by a record that comes later, and segments are
deleted after that. So a snapshot may be newer than the log, and segments may be left over.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from os.path import dirname, join
from time import monotonic

from exraft.errors import StoreDamaged
from exraft.names import Peer
from exraft.raft.log import Entry
from exraft.storage.directory import (
    IDENTITY,
    PART,
    Identity,
    check_identity,
    hold,
    read_identity,
    write_identity,
)
from exraft.storage.files import Files, Lock
from exraft.storage.health import Health
from exraft.storage.journal import Journal
from exraft.storage.reading import (
    Replay,
    read_segments,
    read_whole,
    reconcile,
    segment_name,
    segment_numbers,
)
from exraft.storage.records import Record, Segment, read_segment
from exraft.storage.snapshots import RECEIVED, Snapshots, snapshot_names

log = logging.getLogger("exraft.storage")

LONG = 2.0
"""Seconds after which it is said how long the reading took."""

ADVICE = (
    "Nothing was changed. `python -m exraft log {}` shows what can be read; take a copy of the"
    " directory, then delete it, and let the server be removed and added again, or restore a backup"
)


@dataclass
class Opened:
    """A directory that is held."""

    store_id: str
    lock: Lock
    snapshots: Snapshots
    journal: Journal
    state: Record
    entries: list[Entry]

    def take_log(self) -> tuple[Record, list[Entry]]:
        """What was read; only once, as it is changed then."""
        entries, self.entries = self.entries, []
        return self.state, entries

    def close(self) -> None:
        """Let go of it; raises `StorageError` if the last note could not be written."""
        try:
            self.snapshots.close()
            self.journal.close()
        finally:
            self.lock.close()


def open_directory(
    files: Files,
    directory: str,
    peer: Peer,
    health: Health,
    segment_bytes: int,
    store_id: str | None,
) -> Opened:
    """Hold a directory, made if need be, verified, and ready to be written to.

    Raises:
        StorageError: it can't be; see `DiskStore.open`.
    """
    with health.opening(directory):
        files.make_directory(dirname(directory))
        files.make_directory(directory)
        lock = hold(files, directory)
    snapshots = Snapshots(files, directory, health)
    journal: Journal | None = None
    try:
        with health.opening(directory):
            # Of what can be seen, the process before may have failed to sync it.
            files.sync_directory(directory)
            identity = _identify(files, directory)
            if identity is None:
                _clear(files, directory)
                log.info("%s: a new directory, for %s", directory, peer)
                identity = Identity(peer.name, peer.node, store_id or uuid.uuid4().hex[:16])
                journal = Journal(files, directory, health, identity.store_id, segment_bytes)
                journal.create()
                write_identity(files, directory, identity)
                return Opened(identity.store_id, lock, snapshots, journal, Record(), [])
            check_identity(directory, identity, peer)
            snapshots.open()
            segments, replay = _read(files, directory, identity.store_id)
            state, entries = reconcile(directory, replay, snapshots.newest)
            # All of it is verified: only now is anything changed.
            _clear(files, directory)
            snapshots.tidy()
            log.info(
                "%s: goes on in term %d with %d entries after %d, committed up to %d",
                directory,
                state.term,
                len(entries),
                state.base_index,
                state.commit_index,
            )
            journal = Journal(files, directory, health, identity.store_id, segment_bytes)
            journal.go_on(segments, replay.state.without_entries())
            _delete_leftovers(files, directory, segments[0].header.number)
            if (state.term, state.base_index) != (
                replay.state.term,
                replay.state.base_index,
            ):
                journal.write(state)
            return Opened(identity.store_id, lock, snapshots, journal, state, entries)
    except BaseException as error:
        if journal is not None:
            journal.abandon()
        snapshots.close()
        lock.close()
        if isinstance(error, StoreDamaged):
            said = str(error).removeprefix(f"{error.path}: ")
            raise StoreDamaged(
                error.path, f"{said}. {ADVICE.format(directory)}", offset=error.offset
            ) from error
        raise


def _clear(files: Files, directory: str) -> None:
    """Delete what the process before did not bring to its end; but of what was received."""
    for name in files.names(directory):
        if name.endswith(PART) and name != RECEIVED:
            files.unlink(join(directory, name))


def _identify(files: Files, directory: str) -> Identity | None:
    """Whose directory it is; None for a new one."""
    names = files.names(directory)
    if IDENTITY in names:
        return read_identity(files, directory)
    numbers = segment_numbers(names)
    if snapshot_names(names) or numbers not in ([], [1]):
        raise StoreDamaged(join(directory, IDENTITY), "it is missing, and a log is there")
    if numbers:
        # It would have been named next.
        path = join(directory, segment_name(1))
        segment = read_segment(path, read_whole(files, path), None)
        if segment.problem or segment.torn or any(r != Record() for _, r in segment.records):
            raise StoreDamaged(join(directory, IDENTITY), "it is missing, and a log is there")
        files.unlink(path)
    return None


def _read(files: Files, directory: str, store_id: str) -> tuple[list[Segment], Replay]:
    began = monotonic()
    segments = []
    replay = Replay()
    for segment in read_segments(files, directory, store_id):
        where = segment.path
        for number, (place, record) in enumerate(segment.records, 1):
            try:
                replay.add(record)
            except ValueError as error:
                raise StoreDamaged(
                    where, f"record {number} at byte {place} does not follow: {error}", offset=place
                ) from error
        if segment.problem:
            raise StoreDamaged(
                where,
                f"record {len(segment.records) + 1} at byte {segment.end},"
                f" after index {replay.last_index}: {segment.problem}",
                offset=segment.end,
            )
        if segment.torn:
            log.warning(
                "%s: a write that did not come to its end is cut off at byte %d: the log ends with"
                " index %d. Nothing in it was acknowledged, unless the disk has damaged its very"
                " end",
                where,
                segment.end,
                replay.last_index,
            )
        segments.append(segment)
    if not segments:
        raise StoreDamaged(directory, "the log is missing")
    try:
        replay.close()
    except ValueError as error:
        raise StoreDamaged(segments[0].path, str(error)) from error
    took = monotonic() - began
    if took > LONG:
        count = len(replay.entries)
        log.info("%s: read %d entries in %.1f s (%.0f/s)", directory, count, took, count / took)
    return segments, replay


def _delete_leftovers(files: Files, directory: str, first: int) -> None:
    """Segments that were deleted once, and came back by a power failure."""
    for number in segment_numbers(files.names(directory)):
        if number < first:
            files.unlink(join(directory, segment_name(number)))
