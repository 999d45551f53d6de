"""A directory as rescue tools see it: read without holding it, and written anew.

Knows how to read whatever can be read, beside a server that may be at work on it, and to say what
is wrong without stopping there. Must not know what a cluster is, or what its members should be.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from os.path import basename, dirname, join
from typing import NamedTuple

from exraft.errors import StorageError, StoreDamaged, StoreMismatch
from exraft.names import Peer
from exraft.raft.log import Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage.directory import (
    IDENTITY,
    LOCK,
    Identity,
    directory_of,
    read_identity,
)
from exraft.storage.disk import DiskStore
from exraft.storage.files import OsFiles
from exraft.storage.reading import (
    Replay,
    contiguous,
    read_header,
    read_whole,
    reconcile,
    segment_name,
    segment_numbers,
)
from exraft.storage.records import Segment, read_segment
from exraft.storage.snapshots import read_header as read_snapshot_header
from exraft.storage.snapshots import snapshot_names, verify

_ATTEMPTS = 20
_PIECE = 1 << 20
_BATCH = 10_000
"""Entries that are written in one record."""


class Problem(NamedTuple):
    """What is wrong, and where: the byte is known if it is one of a file."""

    path: str
    offset: int | None
    says: str


@dataclass
class FileReport:
    """What was found in a file. Of a segment: how many records, of which entries up to where."""

    name: str
    bytes: int
    records: int = 0
    first_index: int = 0
    """The lowest index of an entry in it; 0 if it has none."""
    last_index: int = 0
    used: int = 0
    """Bytes of a segment that hold records."""
    torn: int = 0
    """Bytes, at most, of a write that did not come to its end, or is under way."""
    problem: str = ""


@dataclass
class Image:
    """All that can be read of a directory.

    Attributes:
        entries: from `base_index` + 1 on, as far as the log is whole.
        snapshot: the newest that is whole; its bytes are in the file `snapshot_path`.
        files: in the order of their names.
        problems: a directory with any of them would not be opened.
    """

    path: str
    identity: Identity | None = None
    term: int = 0
    voted_for: Peer | None = None
    leads: bool = False
    commit_index: int = 0
    base_index: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    snapshot: Snapshot | None = None
    snapshot_path: str = ""
    files: list[FileReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a server's directory, changing nothing, whether or not a server is at work on it.

    What is read beside a running server is a consistent beginning of what it has: what is wrong
    must be so twice, as a file may be written or deleted while it is read.

    Raises:
        StorageError: it is no such directory, or can't be read.
    """
    path = os.fspath(path)
    files = OsFiles()
    image: Image | None = None
    for _ in range(_ATTEMPTS):
        try:
            names = files.names(path)
            before, image = image, _read(files, path, names)
            if not image.problems or (
                before is not None
                and before.problems == image.problems
                and names == files.names(path)
            ):
                break
        except FileNotFoundError as error:
            if not os.path.isdir(path):
                raise StorageError(path, "there is no such directory") from error
        except OSError as error:
            raise StorageError(path, f"it can't be read: {error}") from error
    if image is None:
        raise StorageError(path, "it changes faster than it can be read: stop the server")
    if image.identity is None and not any(
        report.name.startswith(("log-", "snapshot-")) for report in image.files
    ):
        raise StorageError(
            path, "it is no server's directory; those are below the data_dir of their servers"
        )
    return image


def _read(files: OsFiles, path: str, names: list[str]) -> Image:
    image = Image(path)
    reports = {
        name: FileReport(name, os.path.getsize(join(path, name))) for name in names if name != LOCK
    }
    image.files = list(reports.values())
    try:
        image.identity = read_identity(files, path)
    except FileNotFoundError:
        image.problems.append(Problem(join(path, IDENTITY), None, "it is missing"))
    except StorageError as error:
        _note(image, reports, error)
    for name in snapshot_names(names):
        try:
            image.snapshot = verify(files, join(path, name))
        except StorageError as error:
            _note(image, reports, error)
            continue
        image.snapshot_path = join(path, name)
        reports[name].last_index = image.snapshot.index
        break
    replay, whole = _replay(files, image, reports, names)
    state, image.entries = replay.state, replay.entries
    try:
        replay.close()
        state, image.entries = reconcile(path, replay, image.snapshot)
    except (ValueError, StoreDamaged) as error:
        # Of a log that is not whole, it may follow from what was found before.
        if whole and isinstance(error, StoreDamaged):
            _note(image, reports, error)
        elif whole:
            image.problems.append(Problem(path, None, str(error)))
    image.base_index = state.base_index
    image.base_term = state.base_term
    if image.entries and replay.first > state.base_index + 1:
        # What is between is missing: the log is what is there.
        image.base_index, image.base_term = replay.first - 1, 0
    image.term = state.term
    image.voted_for = state.voted_for
    image.leads = state.leads
    image.commit_index = min(state.commit_index, image.last_index)
    return image


def _note(image: Image, reports: dict[str, FileReport], error: StorageError) -> None:
    says = str(error).removeprefix(f"{error.path}: ")
    offset = error.offset if isinstance(error, StoreDamaged) else None
    image.problems.append(Problem(error.path, offset, says))
    report = reports.get(basename(error.path))
    if report is not None:
        report.problem = says


def _replay(
    files: OsFiles, image: Image, reports: dict[str, FileReport], names: list[str]
) -> tuple[Replay, bool]:
    """What the records add up to until something is wrong; and whether nothing is."""
    runs = contiguous(segment_numbers(names))
    if not runs:
        image.problems.append(Problem(image.path, None, "the log is missing"))
        return Replay(), False
    replay, whole = _replay_run(files, image, reports, runs[-1])
    missing = replay.first - replay.state.base_index - 1
    if len(runs) > 1 and whole and missing > 0:
        # Those before the gap are no leftovers: the log ends there.
        says = f"{segment_name(runs[-2][-1] + 1)} is missing, and what it has is needed"
        image.problems.append(Problem(image.path, None, says))
        return _replay_run(files, image, reports, runs[-2])[0], False
    return replay, whole


def _replay_run(
    files: OsFiles, image: Image, reports: dict[str, FileReport], numbers: list[int]
) -> tuple[Replay, bool]:
    replay = Replay()
    whole = True
    for number in numbers:
        following = number + 1 if number != numbers[-1] else None
        segment = _read_one(files, image, reports, number, following)
        whole = whole and segment is not None
        if segment is None or not whole:
            continue
        for place, record in segment.records:
            try:
                replay.add(record)
            except ValueError as error:
                _note(image, reports, StoreDamaged(segment.path, str(error), offset=place))
                whole = False
                break
        if segment.problem:
            whole = False
            _note(
                image,
                reports,
                StoreDamaged(
                    segment.path,
                    f"record {len(segment.records) + 1} at byte {segment.end},"
                    f" after index {replay.last_index}: {segment.problem}",
                    offset=segment.end,
                ),
            )
    return replay, whole


def _read_one(
    files: OsFiles,
    image: Image,
    reports: dict[str, FileReport],
    number: int,
    following: int | None,
) -> Segment | None:
    path = join(image.path, segment_name(number))
    end = None
    if following is not None:
        try:
            end = read_header(files, join(image.path, segment_name(following))).end
        except StorageError:
            # Told of the following one. This one is read as far as it goes.
            end = None
    try:
        segment = read_segment(path, read_whole(files, path), end)
    except StorageError as error:
        _note(image, reports, error)
        return None
    if segment.sealed and following is None and not segment.problem:
        segment.problem = f"{segment_name(number + 1)}, which followed, is missing"
    report = reports[segment_name(number)]
    report.records = len(segment.records)
    report.used = segment.end
    report.torn = segment.torn
    report.last_index = segment.highest
    report.first_index = min(
        (record.first for _, record in segment.records if record.entries), default=0
    )
    expected = image.identity.store_id if image.identity is not None else segment.header.store_id
    if segment.header.number != number or segment.header.store_id != expected:
        _note(image, reports, StoreDamaged(path, "it is a segment of another log", offset=0))
        return None
    return segment


def write_directory(
    data_dir: str | os.PathLike[str],
    image: Image,
    *,
    peer: Peer | None = None,
    store_id: str | None = None,
) -> str:
    """Write a new directory that says what an image says; return its path.

    All of it is there, or nothing: it gets its name last.

    Args:
        data_dir: below which the directory is made.
        image: what it is to say. A snapshot's bytes are read from the file `snapshot_path`.
        peer: whose it is to be; the one the image is of if it is not given.
        store_id: of the new store; random if it is not given, as whoever wrote the image may go
            on under its own.

    Raises:
        StoreMismatch: there is such a directory.
        StorageError: it can't be written.
    """
    data_dir = os.fspath(data_dir)
    if peer is None:
        if image.identity is None:
            raise StorageError(image.path, "it says not whose it is: name the server")
        peer = image.identity.peer
    path = directory_of(data_dir, peer)
    if os.path.lexists(path):
        raise StoreMismatch(path, "it is there already: nothing is written over it")
    beside = join(data_dir, f".{basename(path)}.{os.getpid()}.part")
    store = DiskStore(beside, peer, store_id=store_id)
    try:
        store.open()
        try:
            _write(store, image)
        finally:
            store.close()
        os.rename(store.path, path)
        OsFiles().sync_directory(dirname(path))
    except OSError as error:
        raise StorageError(path, f"it can't be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def _write(store: DiskStore, image: Image) -> None:
    hold = store.lend()
    hold.set_ballot(image.term, image.voted_for, leads=False)
    entries = image.entries
    if image.snapshot is not None:
        file = OsFiles().open(image.snapshot_path)
        try:
            start, _ = read_snapshot_header(file, image.snapshot_path)
            held = 0
            hold.receive(image.snapshot, 0, b"")
            while data := file.read(_PIECE, start + held):
                held = hold.receive(image.snapshot, held, data)
        finally:
            file.close()
        hold.install()
        entries = entries[image.snapshot.index - image.base_index :]
    elif image.base_index:
        raise StorageError(image.path, f"the log begins after {image.base_index}: see its snapshot")
    for begin in range(0, len(entries), _BATCH):
        hold.append(entries[begin : begin + _BATCH])
        hold.sync()
    hold.set_commit(max(hold.commit_index, min(image.commit_index, hold.last_index)))
    hold.sync()
    hold.note_commit()
