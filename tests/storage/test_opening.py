"""Whose directory it is, who holds it, and what a process before has left in it."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from exraft.errors import (
    DiskFull,
    StorageError,
    StoreDamaged,
    StoreFailed,
    StoreLocked,
    StoreMismatch,
)
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, Fenced, opening
from exraft.storage.directory import directory_of
from exraft.testing.disk import SimulatedFiles

A = Peer(":a")
CONTENT = b"the state of a machine" * 100
COMING = Snapshot(9, 2, Config((A,)), 1, 1, len(CONTENT), zlib.crc32(CONTENT))


def simulated() -> SimulatedFiles:
    return SimulatedFiles(random.Random(0))


# Whose it is.


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        (":raft1", "raft1"),
        (":a/b", "a%2Fb"),
        (":..", "%2E%2E"),
        (":.hidden", "%2Ehidden"),
        (":a.b", "a.b"),
        (":50%", "50%25"),
        (":C:\\x", "C%3A%5Cx"),
        ("::", "%3A"),
    ],
)
def test_any_name_has_a_directory_below_the_one_given(name: str, directory: str) -> None:
    assert directory_of("data", Peer(name)) == os.path.join("data", directory)


def test_a_long_name_has_a_directory_that_can_be_made(tmp_path: Path) -> None:
    long = ":" + "é" * 300
    longer = long + "é"
    paths = {directory_of(str(tmp_path), Peer(name)) for name in (long, longer)}
    assert len(paths) == 2
    for path in paths:
        os.mkdir(path)


def test_servers_share_a_data_dir(tmp_path: Path) -> None:
    stores = [DiskStore(tmp_path / "new" / "data", Peer(f":{n}")) for n in range(3)]
    for store in stores:
        store.open()
    assert len({store.store_id for store in stores}) == 3
    for store in stores:
        store.close()


def test_a_store_keeps_its_id(tmp_path: Path) -> None:
    """Rule 29."""
    store = DiskStore(tmp_path, A)
    store.open()
    first = store.store_id
    store.close()
    again = DiskStore(tmp_path, A)
    assert again.lend().store_id == again.store_id == first
    again.close()


def test_a_directory_that_was_deleted_is_a_new_store(tmp_path: Path) -> None:
    """Rule 29."""
    store = DiskStore(tmp_path, A)
    store.open()
    first = store.store_id
    store.close()
    shutil.rmtree(store.path)
    store.open()
    assert store.store_id != first
    store.close()


def test_the_directory_of_another_server_is_refused(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    store.open()
    store.close()
    os.rename(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StoreMismatch, match="the directory of :a, and not of :b"):
        DiskStore(tmp_path, Peer(":b")).open()


def test_the_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, Peer(":a", "n@h1"))
    store.open()
    store.close()
    with pytest.raises(StoreMismatch, match="of :a on n@h1, not on n@h2"):
        DiskStore(tmp_path, Peer(":a", "n@h2")).open()


def test_a_directory_from_before_there_was_a_node_is_refused_with_what_to_do(
    tmp_path: Path,
) -> None:
    store = DiskStore(tmp_path, A)
    store.open()
    store.close()
    with pytest.raises(StoreMismatch) as caught:
        DiskStore(tmp_path, Peer(":a", "n@h")).open()
    assert f"python -m exraft rename {store.path} --node n@h" in str(caught.value)


def test_a_directory_that_cannot_be_made_is_an_error_that_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file", A)
    with pytest.raises(StorageError, match="can't be opened"):
        store.open()
    assert store.failed == ""


# Who holds it.


def test_two_stores_of_a_process_cannot_hold_a_directory(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    store.open()
    with pytest.raises(StoreLocked, match="another server of this process"):
        DiskStore(tmp_path, A).open()
    store.close()
    other = DiskStore(tmp_path, A)
    other.open()
    other.close()


def test_another_process_is_told_who_holds_a_directory(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    store.open()
    code = (
        "import sys; from exraft.names import Peer; from exraft.storage import DiskStore\n"
        "DiskStore(sys.argv[1], Peer(':a')).open()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    store.close()
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "StoreLocked" in last
    assert f"process {os.getpid()} on " in last
    assert " since 2" in last


def test_a_directory_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from exraft.names import Peer; from exraft.raft import Entry\n"
        "from exraft.storage import DiskStore\n"
        "hold = DiskStore(sys.argv[1], Peer(':a')).lend()\n"
        "hold.append([Entry(1, 0, b'kept')]); hold.sync(); hold.append([Entry(1, 0, b'lost')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60)
    store = DiskStore(tmp_path, A)
    hold = store.lend()
    assert hold.slice(1, 9) == [Entry(1, 0, b"kept")]
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_neither_holds_nor_writes(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    hold = store.lend()
    context = multiprocessing.get_context("fork")
    done, told = context.Event(), context.SimpleQueue()

    def child() -> None:
        try:
            hold.sync()
        except Fenced:
            told.put("fenced")
        try:
            store.open()
        except StoreLocked:
            told.put("locked")
        done.wait(60)

    process = context.Process(target=child)
    process.start()
    assert (told.get(), told.get()) == ("fenced", "locked")
    hold.append([Entry(1, 0, b"parent's")])
    hold.sync()
    store.close()
    other = DiskStore(tmp_path, A)
    assert other.lend().slice(1, 9) == [Entry(1, 0, b"parent's")]
    other.close()
    done.set()
    process.join(60)


def test_closing_a_store_whose_directory_is_gone_is_no_error(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    hold = store.lend()
    hold.append([Entry(1, 0, b"lost")])
    shutil.rmtree(tmp_path / "a")
    store.close()


def test_what_is_written_through_a_store_that_is_closed_is_refused(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, A)
    hold = store.lend()
    store.close()
    with pytest.raises(Fenced):
        hold.append([Entry(1, 0, b"late")])


# What a process before has left.


def test_a_new_process_does_not_lead() -> None:
    """Rule 27."""
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.set_ballot(4, A, leads=True)
    hold.sync()
    files.kill()
    after = DiskStore("/data", A, files=files).lend()
    assert (after.term, after.voted_for, after.leads) == (4, A, False)
    assert not after.dirty


def test_files_that_were_not_finished_are_deleted() -> None:
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.begin_snapshot(COMING).write(CONTENT)
    files.kill()
    DiskStore("/data", A, files=files).open()
    assert not [name for name in files.names("/data/a") if name.endswith(".part")]


def test_a_snapshot_that_was_on_its_way_is_gone_on_with() -> None:
    """Rule 25."""
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.receive(COMING, 0, CONTENT[:500])
    files.kill()
    store = DiskStore("/data", A, files=files)
    hold = store.lend()
    assert hold.received == (COMING, 500)
    assert hold.receive(COMING, 500, CONTENT[500:]) == len(CONTENT)
    hold = store.lend()
    assert hold.received == (COMING, len(CONTENT))
    hold.install()
    assert hold.open_snapshot().read(0, 1 << 20) == CONTENT


def test_a_snapshot_that_was_on_its_way_and_is_damaged_is_asked_for_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.receive(COMING, 0, CONTENT[:500])
    files.kill()
    files.damage("/data/a/received.part", 30)
    hold = DiskStore("/data", A, files=files).lend()
    assert hold.received is None
    assert "asked for anew" in caplog.text
    assert hold.receive(COMING, 0, CONTENT) == len(CONTENT)


def test_an_installed_snapshot_that_the_log_does_not_know_of_takes_its_place() -> None:
    """A crash between the two steps of `install`."""
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.set_ballot(1, A, leads=False)
    hold.append([Entry(1, COMMAND, b"old")] * 3)
    hold.sync()
    hold.receive(COMING, 0, CONTENT)
    hold.install()
    files.kill()
    for _ in range(2):
        hold = DiskStore("/data", A, files=files).lend()
        assert (hold.base_index, hold.base_term, hold.last_index) == (9, 2, 9)
        assert (hold.commit_index, hold.snapshot) == (9, COMING)
        assert (hold.term, hold.voted_for) == (2, None)
        files.kill()


def test_a_snapshot_whose_entry_the_log_has_leaves_the_log_alone() -> None:
    """Rule 23."""
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.set_ballot(2, A, leads=False)
    hold.append([Entry(2, COMMAND, b"%d" % n) for n in range(12)])
    hold.sync()
    hold.receive(COMING, 0, CONTENT)
    hold.install()
    files.kill()
    hold = DiskStore("/data", A, files=files).lend()
    assert (hold.base_index, hold.last_index) == (0, 12)
    assert (hold.commit_index, hold.snapshot) == (9, COMING)
    assert (hold.term, hold.voted_for) == (2, A)


def test_an_older_snapshot_is_deleted_when_a_newer_one_is_there() -> None:
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.append([Entry(1, COMMAND, b"")] * 9)
    for index in (3, 7):
        sink = hold.begin_snapshot(Snapshot(index, 1, Config((A,)), 0, 0))
        sink.finish()
        hold.adopt(sink)
    kept = [name for name in files.names("/data/a") if name.startswith("snapshot")]
    assert kept == ["snapshot-7-1"]


def test_opening_says_how_much_it_read_when_that_took_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.append([Entry(1, COMMAND, b"")] * 9)
    hold.sync()
    files.kill()
    times = iter((0.0, 3.0))
    monkeypatch.setattr(opening, "monotonic", lambda: next(times))
    caplog.set_level(logging.INFO)
    DiskStore("/data", A, files=files).open()
    assert "read 9 entries in 3.0 s (3/s)" in caplog.text


# Disks that fail.


def test_a_failed_sync_closes_the_directory_for_the_process() -> None:
    files = simulated()
    store = DiskStore("/data", A, files=files)
    hold = store.lend()
    hold.append([Entry(1, COMMAND, b"")])
    files.fail_at(files.operations + 2, errno.EIO)
    with pytest.raises(StoreFailed):
        hold.sync()
    assert "Input/output error" in store.failed
    with pytest.raises(StoreFailed):
        hold.sync()
    with pytest.raises(StoreFailed):
        store.lend()
    store.close()
    with pytest.raises(StoreFailed):
        DiskStore("/elsewhere/../data", A, files=files).open()
    files.kill()
    DiskStore("/data", A, files=files).open()


def test_a_sync_that_finds_no_room_has_failed_too() -> None:
    """What was written before it may be on the disk or not."""
    files = simulated()
    store = DiskStore("/data", A, files=files)
    hold = store.lend()
    hold.append([Entry(1, COMMAND, b"")])
    files.fail_at(files.operations + 2, errno.ENOSPC)
    with pytest.raises(StoreFailed):
        hold.sync()
    assert store.failed


def test_what_a_failed_sync_has_left_is_written_again_by_the_next_process() -> None:
    """It can be read, and is not on the disk."""
    found = set()
    for seed in range(40):
        files = SimulatedFiles(random.Random(seed))
        hold = DiskStore("/data", A, files=files).lend()
        hold.append([Entry(1, COMMAND, bytes(2000))])
        files.fail_at(files.operations + 2, errno.EIO)
        with pytest.raises(StoreFailed):
            hold.sync()
        files.kill()
        last = DiskStore("/data", A, files=files).lend().last_index
        files.lose_power()
        assert DiskStore("/data", A, files=files).lend().last_index == last
        found.add(last)
    assert found == {1}


def test_what_was_received_and_not_synced_is_written_again_by_the_next_process() -> None:
    for seed in range(40):
        files = SimulatedFiles(random.Random(seed))
        hold = DiskStore("/data", A, files=files).lend()
        hold.receive(COMING, 0, CONTENT)
        files.fail_at(files.operations + 1, errno.EIO)
        with pytest.raises(StoreFailed):
            hold.install()
        files.kill()
        hold = DiskStore("/data", A, files=files).lend()
        assert hold.received == (COMING, len(CONTENT))
        hold.install()
        hold.sync()
        files.lose_power()
        after = DiskStore("/data", A, files=files).lend()
        assert after.open_snapshot().read(0, 1 << 20) == CONTENT


def test_a_disk_that_was_full_takes_what_it_did_not_when_there_is_room() -> None:
    files = simulated()
    store = DiskStore("/data", A, files=files, segment_bytes=2048)
    hold = store.lend()
    hold.append([Entry(1, COMMAND, b"small")])
    hold.sync()
    files.capacity = 3000
    large = [Entry(1, COMMAND, b"large" * 1000)]
    hold.append(large)
    for _ in range(3):
        with pytest.raises(DiskFull) as caught:
            hold.sync()
        assert caught.value.maybe_applied is False
        assert hold.dirty
    assert store.failed == ""
    files.capacity = None
    hold.sync()
    files.lose_power()
    after = DiskStore("/data", A, files=files).lend()
    assert after.slice(2, 9) == large


def test_a_disk_that_is_nearly_full_is_used_to_its_end() -> None:
    """There is no room for a segment of full size, and there is for a record."""
    files = simulated()
    hold = DiskStore("/data", A, files=files, segment_bytes=100_000).lend()
    files.capacity = 110_000
    written = 0
    with pytest.raises(DiskFull):
        while True:
            hold.append([Entry(1, COMMAND, bytes(500))])
            hold.sync()
            written += 1
    assert written * 500 > 95_000
    files.lose_power()
    files.capacity = None
    assert DiskStore("/data", A, files=files).lend().last_index == written


def test_a_directory_that_is_damaged_is_let_go_of() -> None:
    files = simulated()
    hold = DiskStore("/data", A, files=files).lend()
    hold.append([Entry(1, COMMAND, b"")])
    hold.sync()
    files.kill()
    files.damage("/data/a/identity", 0)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            DiskStore("/data", A, files=files).open()
