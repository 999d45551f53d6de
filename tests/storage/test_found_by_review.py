"""What a reading of the disk store found, each as it was reached."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentStore, OsFiles
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
