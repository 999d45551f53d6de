"""The disk that the tests of stores trust: what it keeps, what it may lose, how it fails."""

from __future__ import annotations

import errno
import random

import pytest

from exraft.storage.files import Held
from exraft.testing.disk import SECTOR, PowerLost, SimulatedFiles


def disks() -> list[SimulatedFiles]:
    """Enough of them that each chance has come."""
    disks = [SimulatedFiles(random.Random(seed)) for seed in range(60)]
    for files in disks:
        files.make_directory("/d")
    return disks


def test_what_was_synced_survives_a_power_failure() -> None:
    for files in disks():
        file = files.create("/d/f")
        file.write(b"x" * 2000, 0)
        file.sync()
        files.sync_directory("/d")
        file.write(b"y", 5000)
        files.lose_power()
        assert files.content("/d/f")[:2000] == b"x" * 2000


def test_what_was_not_synced_survives_whole_torn_or_not_at_all() -> None:
    left = set()
    for files in disks():
        file = files.create("/d/f")
        file.sync()
        files.sync_directory("/d")
        file.write(b"x" * 3 * SECTOR, 0)
        files.lose_power()
        left.add(files.content("/d/f"))
    sizes = {len(content) for content in left}
    assert {0, 3 * SECTOR} < sizes
    assert any(size % SECTOR for size in sizes)
    assert any(content.lstrip(b"\0") not in (b"", content) for content in left)


def test_a_file_is_lost_with_its_name() -> None:
    kept = set()
    for files in disks():
        file = files.create("/d/f")
        file.write(b"x", 0)
        file.sync()
        files.lose_power()
        kept.add(tuple(files.names("/d")))
    assert kept == {(), ("f",)}


def test_a_rename_is_done_or_not() -> None:
    kept = set()
    for files in disks():
        for name, content in (("old", b"old"), ("new", b"new")):
            file = files.create(f"/d/{name}")
            file.write(content, 0)
            file.sync()
        files.sync_directory("/d")
        files.rename("/d/old", "/d/new")
        files.lose_power()
        kept.add((tuple(files.names("/d")), files.content("/d/new")))
    assert kept == {(("new", "old"), b"new"), (("new",), b"old")}


def test_a_process_that_is_killed_loses_nothing_that_it_wrote() -> None:
    for files in disks():
        file = files.create("/d/f")
        file.write(b"x", 0)
        files.lock("/d/lock", "me")
        files.failed["/d"] = "it did"
        files.kill()
        assert files.content("/d/f") == b"x"
        assert files.failed == {}
        files.lock("/d/lock", "another")
        with pytest.raises(OSError):
            file.write(b"late", 0)


def test_a_sync_that_failed_is_not_made_good_by_the_next() -> None:
    """Linux since 4.13: what could not be written counts as clean."""
    kept = set()
    for files in disks():
        file = files.create("/d/f")
        files.sync_directory("/d")
        file.write(b"x", 0)
        files.fail_at(files.operations + 1, errno.EIO)
        with pytest.raises(OSError):
            file.sync()
        assert file.read(1, 0) == b"x"
        file.sync()
        files.lose_power()
        kept.add(files.content("/d/f"))
    assert kept >= {b"", b"x"}


def test_the_power_goes_in_the_middle_of_an_operation_and_stays_away() -> None:
    for files in disks():
        file = files.create("/d/f")
        files.lose_power_at(files.operations + 1)
        with pytest.raises(PowerLost):
            file.write(b"x", 0)
        with pytest.raises(PowerLost):
            files.names("/d")
        files.lose_power()
        files.names("/d")


def test_a_full_disk_takes_what_there_is_room_for() -> None:
    files = disks()[0]
    files.capacity = 10
    file = files.create("/d/f")
    file.write(bytes(10), 0)
    with pytest.raises(OSError) as caught:
        file.write(b"x", 10)
    assert caught.value.errno == errno.ENOSPC
    file.write(b"over", 0)
    files.capacity = 11
    file.write(b"x", 10)
    assert file.size() == 11


def test_a_lock_is_held_by_one() -> None:
    files = disks()[0]
    lock = files.lock("/d/lock", "the first")
    with pytest.raises(Held, match="the first"):
        files.lock("/d/lock", "the second")
    lock.close()
    files.lock("/d/lock", "the second")


def test_the_same_seed_leaves_the_same() -> None:
    left = []
    for _ in range(2):
        files = SimulatedFiles(random.Random(7))
        files.make_directory("/d")
        for n in range(20):
            file = files.create(f"/d/{n}")
            file.write(bytes([n]) * 1000, 0)
            if n % 2:
                file.sync()
        files.lose_power()
        left.append([(name, files.content(f"/d/{name}")) for name in files.names("/d")])
    assert left[0] == left[1]
