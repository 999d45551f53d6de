"""What a reading of the disk store found, each as it was reached."""

from __future__ import annotations

import errno
import os
import random
import zlib
from pathlib import Path

import pytest

from exraft.errors import DiskFull, StoreDamaged
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentStore, OsFiles
from exraft.storage.files import Held, OsFile
from exraft.testing.disk import SimulatedFiles

A = Peer(":a")
CONTENT = b"a state" * 100
SNAPSHOT = Snapshot(3, 1, Config((A,)), 1, 1, len(CONTENT), zlib.crc32(CONTENT))


def filled(owner: DiskStore) -> LentStore:
    store = owner.lend()
    store.set_ballot(1, A, leads=False)
    store.append([Entry(1, COMMAND, b"%d" % n) for n in range(9)])
    store.sync()
    return store


def test_a_writer_that_was_given_up_deletes_nothing_of_its_successor(tmp_path: Path) -> None:
    owner = DiskStore(tmp_path, A)
    given_up = filled(owner).begin_snapshot(SNAPSHOT)
    owner.close()
    store = owner.lend()
    present = store.begin_snapshot(SNAPSHOT)
    present.write(CONTENT)
    given_up.discard()
    present.finish()
    store.adopt(present)
    assert store.snapshot == SNAPSHOT
    owner.close()


def test_a_snapshot_that_is_not_needed_any_more_leaves_nothing_behind(tmp_path: Path) -> None:
    owner = DiskStore(tmp_path, A)
    store = filled(owner)
    store.receive(SNAPSHOT, 0, CONTENT[:10])
    assert "received.part" in os.listdir(owner.path)
    store.forget_received()
    assert "received.part" not in os.listdir(owner.path)
    assert owner.lend().received is None
    owner.close()


def test_a_directory_is_synced_into_its_parent_even_if_another_has_made_it(tmp_path: Path) -> None:
    synced = []

    class Watched(OsFiles):
        def sync_directory(self, path: str) -> None:
            synced.append(path)
            super().sync_directory(path)

    data_dir = tmp_path / "data"
    (data_dir / "a").mkdir(parents=True)
    owner = DiskStore(data_dir, A, files=Watched())
    owner.open()
    owner.close()
    assert {str(tmp_path), str(data_dir), str(data_dir / "a")} <= set(synced)


def test_what_is_written_again_at_an_opening_is_what_was_verified() -> None:
    """The pages that were read may be gone when they are read again, and the disk hold zeros."""
    files = SimulatedFiles(random.Random(0))
    owner = DiskStore("/data", A, files=files)
    filled(owner)
    owner.close()
    reads: list[str] = []
    opened = files.open

    class Once:
        """A segment whose bytes are lost once all of it was read."""

        def __init__(self, path: str, writable: bool = False) -> None:
            self._file = opened(path, writable)
            self._path = path

        def read(self, size: int, offset: int) -> bytes:
            data = self._file.read(size, offset)
            if "log-" not in self._path or size < self._file.size():
                return data if self._path not in reads else bytes(len(data))
            reads.append(self._path)
            return data

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    files.open = Once  # type: ignore[assignment,method-assign]
    owner.lend()
    files.open = opened  # type: ignore[method-assign]
    owner.close()
    assert reads
    assert DiskStore("/data", A, files=files).lend().last_index == 9


def test_a_note_for_which_there_is_no_room_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = str(tmp_path / "lock")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", no_room)
        held = OsFiles().lock(path, "nobody reads this")
    with pytest.raises(Held):
        OsFiles().lock(path, "another")
    held.close()
    OsFiles().lock(path, "the next").close()


def test_who_has_let_go_of_a_directory_is_not_named_any_more(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = OsFiles().lock(str(path), "a process")
    assert path.read_text() == "a process\n"
    held.close()
    assert path.read_text() == ""


def test_too_many_open_files_are_no_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*args: object) -> OsFile:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    owner = DiskStore(tmp_path, A)
    store = filled(owner)
    for index, method in enumerate(("create", "open"), 3):
        with monkeypatch.context() as patched:
            patched.setattr(OsFiles, method, too_many)
            with pytest.raises(DiskFull):
                sink = store.begin_snapshot(Snapshot(index, 1, Config((A,)), 1, 1))
                sink.write(CONTENT)
                sink.finish()
                store.adopt(sink)
                store.open_snapshot().close()
        assert not owner.failed
    sink = store.begin_snapshot(Snapshot(6, 1, Config((A,)), 1, 1))
    sink.write(CONTENT)
    taken = sink.finish()
    with monkeypatch.context() as patched:
        # What has its name already is synced without opening anything.
        patched.setattr(os, "open", too_many)
        store.adopt(sink)
    assert store.snapshot == taken
    owner.close()


def test_nothing_is_changed_about_a_directory_that_does_not_open(tmp_path: Path) -> None:
    owner = DiskStore(tmp_path, A)
    filled(owner)
    owner.close()
    here = Path(owner.path)
    (here / "snapshot-3-1.7-1.part").write_bytes(b"a rest")
    segment = here / "log-0000000001"
    damaged = bytearray(segment.read_bytes())
    damaged[damaged.index(b"exraft L") + 100] ^= 1
    segment.write_bytes(damaged)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    with pytest.raises(StoreDamaged):
        DiskStore(tmp_path, A).open()
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.name != "lock"} == {
        name: data for name, data in before.items() if name != "lock"
    }
