"""A directory as rescue tools see it."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest

from exraft.errors import StorageError, StoreDamaged, StoreMismatch
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore
from exraft.storage.directory import Identity
from exraft.storage.image import read_image, write_directory

A = Peer(":a")
CONTENT = b"the state of a machine" * 100


def entry(index: int) -> Entry:
    return Entry(2, COMMAND, b"entry %d" % index * 20)


def store_with_snapshot(data_dir: Path) -> DiskStore:
    """Entries 11 to 30, committed up to 25, and a snapshot of 15."""
    store = DiskStore(data_dir, A, segment_bytes=1000)
    hold = store.lend()
    hold.set_ballot(2, A, leads=True)
    for index in range(1, 31):
        hold.append([entry(index)])
        hold.sync()
    sink = hold.begin_snapshot(Snapshot(15, 2, Config((A,)), 0, 0))
    sink.write(CONTENT)
    sink.finish()
    hold.adopt(sink)
    hold.cut(10)
    hold.sync()
    hold.set_commit(25)
    hold.note_commit()
    return store


def test_an_image_says_what_a_running_server_has(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    image = read_image(store.path)
    assert image.problems == []
    assert image.identity == Identity(":a", "nonode@nohost", store.store_id)
    assert (image.term, image.voted_for, image.leads) == (2, A, True)
    assert (image.commit_index, image.base_index, image.last_index) == (25, 10, 30)
    assert image.entries == [entry(index) for index in range(11, 31)]
    assert image.snapshot is not None
    assert image.snapshot.index == 15
    assert Path(image.snapshot_path).read_bytes().endswith(CONTENT)
    store.close()


def test_an_image_reports_every_file(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    reports = {report.name: report for report in read_image(store.path).files}
    assert set(reports) == {path.name for path in (tmp_path / "a").iterdir()} - {"lock"}
    segments = [report for name, report in reports.items() if name.startswith("log-")]
    assert sum(report.records for report in segments) >= 20
    assert segments[-1].last_index == 30
    assert all(0 < report.used <= report.bytes for report in segments)
    assert reports["snapshot-15-2"].last_index == 15


def test_an_image_is_what_the_store_opens_with(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    image = read_image(store.path)
    hold = store.lend()
    assert image.entries == hold.slice(hold.base_index + 1, 1 << 30)
    assert (image.term, image.commit_index) == (hold.term, hold.commit_index)
    assert (image.base_index, image.base_term) == (hold.base_index, hold.base_term)
    assert image.snapshot == hold.snapshot
    store.close()


def test_an_image_changes_nothing(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    read_image(store.path)
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    store.close()


def test_an_image_of_a_server_at_work_is_a_beginning_of_its_log(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A, segment_bytes=3000)
    hold = store.lend()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            first = hold.last_index + 1
            hold.append([entry(index) for index in range(first, first + 3)])
            hold.set_commit(first)
            hold.sync()
            hold.note_commit()
            if first % 60 == 1:
                sink = hold.begin_snapshot(Snapshot(first, 2, Config((A,)), 0, 0))
                sink.write(CONTENT)
                sink.finish()
                hold.adopt(sink)
                hold.cut(first - 1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        last = 0
        for _ in range(30):
            image = read_image(store.path)
            assert image.problems == []
            first = image.base_index + 1
            assert image.entries == [entry(index) for index in range(first, image.last_index + 1)]
            assert image.last_index >= last
            last = image.last_index
    finally:
        over.set()
        thread.join()
        store.close()


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def test_an_image_of_a_damaged_log_has_what_is_before_the_damage(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    third = sorted((tmp_path / "a").glob("log-*"))[2]
    damage(third, 500)
    image = read_image(store.path)
    assert [problem.path for problem in image.problems] == [str(third)]
    offset = image.problems[0].offset
    assert offset is not None
    assert 0 < offset <= 500
    assert 10 < image.last_index < 30
    assert image.entries == [entry(index) for index in range(11, image.last_index + 1)]
    with pytest.raises(StoreDamaged) as caught:
        store.open()
    assert (caught.value.path, caught.value.offset) == (str(third), offset)


def test_an_image_of_a_log_with_a_gap_ends_before_it(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    third = sorted((tmp_path / "a").glob("log-*"))[2]
    third.unlink()
    image = read_image(store.path)
    assert f"{third.name} is missing, and what it has is needed" in [
        problem.says for problem in image.problems
    ]
    assert 10 < image.last_index < 30
    first = image.base_index + 1
    assert image.entries == [entry(index) for index in range(first, image.last_index + 1)]


def test_an_image_of_a_directory_without_identity_says_so(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    (tmp_path / "a" / "identity").unlink()
    image = read_image(store.path)
    assert image.identity is None
    assert [problem.says for problem in image.problems] == ["it is missing"]
    assert image.last_index == 30


def test_an_image_without_the_snapshot_that_the_log_needs_says_so(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    damage(tmp_path / "a" / "snapshot-15-2", 600)
    image = read_image(store.path)
    assert image.snapshot is None
    assert [Path(problem.path).name for problem in image.problems] == ["snapshot-15-2", "a"]
    assert image.entries == [entry(index) for index in range(11, 31)]


def test_what_is_no_servers_directory_has_no_image(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no server's directory"):
        read_image(tmp_path)
    with pytest.raises(StorageError, match="no such directory"):
        read_image(tmp_path / "nothing")


def test_a_directory_written_from_an_image_says_the_same(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path / "old")
    store.close()
    image = read_image(store.path)
    path = write_directory(tmp_path / "new", image)
    assert path == str(tmp_path / "new" / "a")
    again = DiskStore(tmp_path / "new", A)
    hold = again.lend()
    assert (hold.term, hold.voted_for, hold.commit_index) == (2, A, 25)
    assert (hold.base_index, hold.last_index) == (15, 30)
    assert hold.slice(16, 99) == [entry(index) for index in range(16, 31)]
    assert hold.open_snapshot().read(0, 1 << 20) == CONTENT
    assert again.store_id != store.store_id
    again.close()
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == ["a"]


def test_an_image_can_be_changed_and_written_for_another_server(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path / "old")
    store.close()
    image = read_image(store.path)
    assert image.snapshot is not None
    other = Peer(":b", "n@h")
    snapshot = Snapshot(15, 2, Config((other,)), 0, 0, image.snapshot.size, image.snapshot.crc)
    changed = dataclasses.replace(image, entries=image.entries[:8], snapshot=snapshot)
    write_directory(tmp_path / "new", changed, peer=other, store_id="mine")
    again = DiskStore(tmp_path / "new", other)
    hold = again.lend()
    assert (hold.last_index, hold.commit_index) == (18, 18)
    assert hold.snapshot == snapshot
    assert hold.store_id == "mine"
    again.close()


def test_nothing_is_written_over_a_directory(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path)
    store.close()
    with pytest.raises(StoreMismatch, match="there already"):
        write_directory(tmp_path, read_image(store.path))


def test_a_directory_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path / "old")
    store.close()
    image = read_image(store.path)
    shutil.rmtree(store.path)
    with pytest.raises(StorageError):
        write_directory(tmp_path / "new", image)
    assert list((tmp_path / "new").iterdir()) == []
