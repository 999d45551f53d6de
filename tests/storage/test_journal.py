"""What it costs a disk store to write: syncs, and files that come and go."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentDiskStore
from exraft.storage.files import OsFiles
from exraft.testing.disk import PowerLost, SimulatedFiles

A = Peer(":a")


def log_names(files: SimulatedFiles) -> list[str]:
    names = files.names("/data/a")
    return [name for name in names if name.startswith("log-") and not name.endswith(".part")]


def write(hold: LentDiskStore, count: int, size: int = 100) -> None:
    for _ in range(count):
        hold.append([Entry(1, COMMAND, bytes(size))])
        hold.sync()


def adopt(hold: LentDiskStore, index: int) -> None:
    sink = hold.begin_snapshot(Snapshot(index, 1, Config((A,)), 0, 0))
    sink.finish()
    hold.adopt(sink)


def test_a_batch_of_any_changes_is_one_write_and_one_sync() -> None:
    store = DiskStore("/data", A, files=SimulatedFiles(random.Random(0)))
    hold = store.lend()
    syncs, writes = store.syncs, store.writes
    hold.append([Entry(1, COMMAND, b"a")] * 10)
    hold.set_ballot(2, A, leads=False)
    hold.truncate(5)
    hold.append([Entry(2, COMMAND, b"b")] * 10)
    hold.sync()
    assert (store.syncs - syncs, store.writes - writes) == (1, 1)


def test_a_sync_of_nothing_costs_nothing() -> None:
    files = SimulatedFiles(random.Random(0))
    store = DiskStore("/data", A, files=files)
    hold = store.lend()
    before = store.syncs, files.operations
    hold.sync()
    hold.note_commit()
    assert (store.syncs, files.operations) == before


def test_a_note_is_not_synced() -> None:
    store = DiskStore("/data", A, files=SimulatedFiles(random.Random(0)))
    hold = store.lend()
    write(hold, 3)
    before = store.syncs
    hold.set_commit(2)
    hold.note_commit()
    assert store.syncs == before
    assert store.writes > 0


def test_counters_go_on_when_a_store_is_opened_again() -> None:
    store = DiskStore("/data", A, files=SimulatedFiles(random.Random(0)))
    write(store.lend(), 3)
    store.close()
    before = store.syncs, store.writes, store.written
    write(store.lend(), 3)
    assert store.syncs > before[0] >= 3
    assert store.writes > before[1] >= 3
    assert store.written > before[2] > 300


def test_a_full_segment_is_followed_by_the_next() -> None:
    files = SimulatedFiles(random.Random(0))
    store = DiskStore("/data", A, files=files, segment_bytes=1000)
    write(store.lend(), 30)
    assert store.segments == len(log_names(files)) > 3
    files.lose_power()
    after = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    assert after.last_index == 30


def test_a_record_that_is_larger_than_a_segment_has_one_of_its_own() -> None:
    files = SimulatedFiles(random.Random(0))
    store = DiskStore("/data", A, files=files, segment_bytes=1000)
    hold = store.lend()
    write(hold, 2)
    write(hold, 1, size=50_000)
    write(hold, 2)
    files.lose_power()
    after = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    assert [len(entry.data) for entry in after.slice(1, 9)] == [100, 100, 50_000, 100, 100]


def test_segments_grow_so_that_a_small_server_has_small_files() -> None:
    files = SimulatedFiles(random.Random(0))
    hold = DiskStore("/data", A, files=files).lend()
    write(hold, 4, size=400_000)
    sizes = [len(files.content(f"/data/a/{name}")) for name in log_names(files)]
    assert sizes == [1 << 20, 2 << 20]


def test_segments_that_hold_nothing_after_the_base_are_deleted() -> None:
    files = SimulatedFiles(random.Random(0))
    store = DiskStore("/data", A, files=files, segment_bytes=1000)
    hold = store.lend()
    write(hold, 30)
    before = log_names(files)
    adopt(hold, 20)
    hold.cut(15)
    assert log_names(files) == before
    hold.sync()
    assert 1 < len(log_names(files)) < len(before)
    adopt(hold, 30)
    hold.cut(30)
    hold.sync()
    assert len(log_names(files)) == store.segments <= 2
    files.kill()
    after = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    assert (after.base_index, after.last_index) == (30, 30)


def test_a_segment_that_is_not_needed_any_more_is_used_again() -> None:
    files = SimulatedFiles(random.Random(0))
    hold = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    write(hold, 30)
    made = [path for kind, path in files.trace if kind == "create"]
    for _ in range(40):
        write(hold, 4)
        adopt(hold, hold.last_index)
        hold.cut(hold.last_index - 2)
    later = [path for kind, path in files.trace if kind == "create"][len(made) :]
    assert len([path for path in later if path.endswith("next.part")]) <= 2
    files.lose_power()
    after = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    assert after.last_index == 190


def test_a_segment_that_is_used_again_is_never_found_under_its_old_name() -> None:
    """A power failure may forget its new name, and not what was written to it."""

    def work(files: SimulatedFiles) -> None:
        hold = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
        write(hold, 20)
        adopt(hold, 20)
        hold.cut(12)
        write(hold, 12)

    files = SimulatedFiles(random.Random(0))
    work(files)
    kept = files.trace.index(("rename", "/data/a/spare-1.part")) + 1
    named = files.trace.index(("rename", "/data/a/log-0000000004")) + 1
    assert kept < named
    for seed in range(40):
        for operation in range(kept, named + 3):
            files = SimulatedFiles(random.Random(seed))
            files.lose_power_at(operation)
            with pytest.raises(PowerLost):
                work(files)
            files.lose_power()
            after = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
            assert after.last_index >= 20


def test_segments_that_came_back_are_deleted_again() -> None:
    """A power failure may forget that one was deleted, and remember it of the next."""
    files = SimulatedFiles(random.Random(0))
    hold = DiskStore("/data", A, files=files, segment_bytes=1000).lend()
    write(hold, 30)
    first = files.content("/data/a/log-0000000001")
    adopt(hold, 30)
    hold.cut(20)
    hold.sync()
    files.kill()
    files.create("/data/a/log-0000000001").write(first, 0)
    store = DiskStore("/data", A, files=files, segment_bytes=1000)
    after = store.lend()
    assert (after.base_index, after.last_index) == (20, 30)
    assert "log-0000000001" not in files.names("/data/a")
    assert len(log_names(files)) == store.segments


def test_the_next_segment_is_made_ready_beside_the_server(tmp_path: Path) -> None:
    threads = []

    class Watched(OsFiles):
        def create(self, path: str):  # type: ignore[no-untyped-def]
            if path.endswith("next.part"):
                threads.append(threading.current_thread())
            return super().create(path)

    store = DiskStore(tmp_path, A, files=Watched(), segment_bytes=20_000)
    write(store.lend(), 30, size=1000)
    store.close()
    assert threads
    assert threading.current_thread() not in threads[1:]


def test_a_log_is_what_was_written_to_files_of_the_system(tmp_path: Path) -> None:
    rng = random.Random(0)
    written: list[Entry] = []
    for _ in range(4):
        store = DiskStore(tmp_path, A, segment_bytes=10_000)
        hold = store.lend()
        assert hold.slice(1, 1 << 30) == written
        for _ in range(20):
            batch = [Entry(1, COMMAND, rng.randbytes(rng.randrange(500))) for _ in range(9)]
            hold.append(batch)
            hold.sync()
            written += batch
        store.close()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 5000])
def test_a_snapshot_of_any_size_is_read_as_it_was_written(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    store = DiskStore(tmp_path, A)
    hold = store.lend()
    hold.append([Entry(1, COMMAND, b"")])
    sink = hold.begin_snapshot(Snapshot(1, 1, Config((A,)), 0, 0))
    sink.write(content)
    sink.finish()
    hold.adopt(sink)
    store.close()
    reader = store.lend().open_snapshot()
    assert reader.read(0, size + 1) == content
    reader.close()
    store.close()
