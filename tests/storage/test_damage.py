"""A disk store whose files are not what was written: a torn tail is cut, damage is refused."""

from __future__ import annotations

import logging
import random
from os.path import basename

import pytest

from exraft.errors import StorageError, StoreDamaged, StoreMismatch
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentDiskStore, frame
from exraft.storage.records import read_segment
from exraft.testing.disk import SimulatedFiles

A = Peer(":a")
FIRST = "/data/a/log-0000000001"
SECOND = "/data/a/log-0000000002"


def entry(index: int) -> Entry:
    return Entry(1, COMMAND, b"entry %d" % index)


def disk(batches: int = 4, segment_bytes: int = 4096) -> SimulatedFiles:
    """A disk with a log of so many records of two entries each, whose process was killed."""
    files = SimulatedFiles(random.Random(0))
    store = DiskStore("/data", A, files=files, segment_bytes=segment_bytes)
    hold = store.lend()
    hold.set_ballot(1, A, leads=False)
    for batch in range(batches):
        hold.append([entry(2 * batch + 1), entry(2 * batch + 2)])
        hold.sync()
    files.kill()
    return files


def opened(files: SimulatedFiles, segment_bytes: int = 4096) -> LentDiskStore:
    return DiskStore("/data", A, files=files, segment_bytes=segment_bytes).lend()


def ends(files: SimulatedFiles, path: str = FIRST) -> tuple[int, int]:
    """Where the last record of a segment begins and where it ends."""
    segment = read_segment(path, files.content(path), None)
    return segment.records[-1][0], segment.end


def log_of(hold: LentDiskStore) -> list[Entry]:
    return hold.slice(1, hold.last_index)


def test_a_tail_torn_at_any_byte_of_the_last_record_is_cut_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin, end = ends(disk())
    for torn in range(begin + 1, end):
        files = disk()
        for offset in range(torn, end):
            files.damage(FIRST, offset, files.content(FIRST)[offset])
        caplog.clear()
        hold = opened(files)
        assert log_of(hold) == [entry(n) for n in range(1, 7)]
        assert "cut off at byte" in caplog.text
        files.kill()
        caplog.clear()
        hold = opened(files)
        assert not caplog.records
        hold.append([entry(7)])
        hold.sync()
        files.lose_power()
        assert log_of(opened(files)) == [entry(n) for n in range(1, 8)]
        assert not caplog.records


def test_a_byte_that_changed_anywhere_is_refused_or_in_the_last_record_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin, end = ends(disk())
    cut = []
    for offset in range(end):
        for mask in (0x01, 0xFF):
            files = disk()
            files.damage(FIRST, offset, mask)
            caplog.clear()
            try:
                hold = opened(files)
            except (StoreDamaged, StoreMismatch) as error:
                assert error.path == FIRST
                continue
            assert log_of(hold) == [entry(n) for n in range(1, 7)]
            assert "cut off at byte" in caplog.text
            cut.append(offset)
    assert set(cut) == set(range(begin, end))


def test_a_byte_that_changed_behind_the_last_record_costs_nothing() -> None:
    _, end = ends(disk())
    for offset in range(end, end + 200):
        files = disk()
        files.damage(FIRST, offset)
        assert log_of(opened(files)) == [entry(n) for n in range(1, 9)]


def test_a_log_that_was_closed_is_refused_wherever_its_entries_changed() -> None:
    """Its last note proves that what is before it was synced."""

    def closed() -> SimulatedFiles:
        files = disk()
        store = DiskStore("/data", A, files=files)
        store.open()
        store.close()
        files.kill()
        return files

    _, end = ends(disk())
    for offset in range(end):
        files = closed()
        files.damage(FIRST, offset)
        with pytest.raises((StoreDamaged, StoreMismatch)):
            opened(files)


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_a_byte_that_changed_in_an_older_segment_is_refused(path: str) -> None:
    files = disk(batches=12, segment_bytes=100)
    segment = read_segment(path, files.content(path), None)
    assert segment.sealed
    for offset in range(segment.end):
        files = disk(batches=12, segment_bytes=100)
        files.damage(path, offset)
        with pytest.raises((StoreDamaged, StoreMismatch)) as caught:
            opened(files)
        assert caught.value.path == path


def test_damage_is_named_with_its_place_and_what_to_do() -> None:
    files = disk()
    begin, _ = ends(disk())
    files.damage(FIRST, begin - 1)
    with pytest.raises(StoreDamaged) as caught:
        opened(files)
    assert caught.value.offset is not None
    assert 0 < caught.value.offset < begin
    says = str(caught.value)
    assert FIRST in says
    assert f"at byte {caught.value.offset}" in says
    assert "after index 4" in says
    assert "python -m exraft log /data/a" in says


def test_what_is_refused_is_left_as_it_was() -> None:
    files = disk()
    files.damage(FIRST, 70)
    before = files.content(FIRST)
    with pytest.raises(StoreDamaged):
        opened(files)
    assert files.content(FIRST) == before
    with pytest.raises(StoreDamaged):
        opened(files)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_segment_is_refused(number: int) -> None:
    files = disk(batches=12, segment_bytes=100)
    names = [name for name in files.names("/data/a") if name.startswith("log-")]
    assert len(names) > 3
    files.unlink(f"/data/a/log-{number:010}")
    with pytest.raises(StoreDamaged, match="missing"):
        opened(files)


def test_the_newest_segment_is_missed_too() -> None:
    files = disk(batches=12, segment_bytes=100)
    newest = [name for name in files.names("/data/a") if name.startswith("log-")][-1]
    files.unlink(f"/data/a/{newest}")
    with pytest.raises(StoreDamaged, match=f"{newest}, which followed, is missing"):
        opened(files)


def test_a_log_that_is_gone_is_refused() -> None:
    files = disk()
    files.unlink(FIRST)
    with pytest.raises(StoreDamaged, match="the log is missing"):
        opened(files)


def test_a_segment_of_another_store_is_refused() -> None:
    files = disk()
    other = SimulatedFiles(random.Random(0))
    hold = DiskStore("/data", A, files=other).lend()
    hold.append([entry(1)])
    hold.sync()
    files.unlink(FIRST)
    files.create(FIRST).write(other.content(FIRST), 0)
    with pytest.raises(StoreDamaged, match="of store"):
        opened(files)


def test_a_segment_that_was_cut_off_is_refused() -> None:
    """It was filled with zeros, and that was synced, before it was used."""
    files = disk()
    content = files.content(FIRST)
    files.unlink(FIRST)
    files.create(FIRST).write(content[:200], 0)
    with pytest.raises(StoreDamaged, match="cut off"):
        opened(files)


def test_a_record_in_a_users_command_is_not_taken_for_one() -> None:
    """Whatever a torn record holds, it proves nothing."""
    files = disk(segment_bytes=1 << 16)
    hold = opened(files, 1 << 16)
    hold.append([Entry(1, COMMAND, files.content(FIRST)[:400])])
    hold.sync()
    files.kill()
    _, end = ends(files)
    files.damage(FIRST, end - 1)
    assert log_of(opened(files)) == [entry(n) for n in range(1, 9)]


@pytest.mark.parametrize("name", ["identity", "snapshot-2-1"])
def test_a_byte_that_changed_in_the_identity_or_the_snapshot_is_refused(name: str) -> None:
    def with_snapshot() -> SimulatedFiles:
        files = disk()
        hold = opened(files)
        sink = hold.begin_snapshot(Snapshot(2, 1, Config((A,)), 0, 0))
        sink.write(b"a state")
        sink.finish()
        hold.adopt(sink)
        files.kill()
        return files

    path = f"/data/a/{name}"
    content = with_snapshot().content(path)
    for offset in range(len(content)):
        files = with_snapshot()
        files.damage(path, offset)
        try:
            hold = opened(files)
        except StorageError as error:
            assert basename(error.path) in (name, "a")
            continue
        # The zeros between a snapshot's header and its bytes.
        assert content[offset] == 0
        assert hold.open_snapshot().read(0, 100) == b"a state"


def test_a_log_that_was_cut_and_has_no_snapshot_is_refused() -> None:
    files = disk()
    hold = opened(files)
    sink = hold.begin_snapshot(Snapshot(2, 1, Config((A,)), 0, 0))
    sink.finish()
    hold.adopt(sink)
    hold.cut(2)
    hold.sync()
    files.kill()
    files.unlink("/data/a/snapshot-2-1")
    with pytest.raises(StoreDamaged, match="needs a snapshot"):
        opened(files)


def test_an_identity_that_is_gone_is_refused() -> None:
    files = disk()
    files.unlink("/data/a/identity")
    with pytest.raises(StoreDamaged, match="it is missing"):
        opened(files)


def test_a_newer_format_is_refused() -> None:
    files = SimulatedFiles(random.Random(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "VERSION", 2)
        DiskStore("/data", A, files=files).open()
    files.kill()
    with pytest.raises(StoreMismatch, match="format 2"):
        opened(files)


def test_a_commit_index_that_was_noted_survives_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = disk()
    hold = opened(files)
    hold.set_commit(7)
    hold.note_commit()
    files.kill()
    caplog.set_level(logging.WARNING)
    assert opened(files).commit_index == 7
    assert not caplog.records


def test_a_commit_index_is_not_noted_beyond_what_is_synced() -> None:
    """Else entries that the disk has in their place would pass for committed."""
    files = disk()
    hold = opened(files)
    hold.set_ballot(2, None, leads=False)
    hold.truncate(5)
    hold.append([Entry(2, COMMAND, b"other")] * 4)
    hold.set_commit(8)
    hold.note_commit()
    files.kill()
    after = opened(files)
    assert log_of(after) == [entry(n) for n in range(1, 9)]
    assert after.commit_index == 4
