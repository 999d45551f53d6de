"""A disk store after everything that can go wrong, at each operation of some random work."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable

import pytest

from exraft.errors import DiskFull, StoreFailed
from exraft.testing.disk import PowerLost, SimulatedFiles
from tests.storage.workload import Workload

FIRST = int(os.environ.get("STORAGE_SEED", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("STORAGE_SEEDS", "6")))
STEPS = 40

CHANGES = {"create", "write", "sync", "rename", "unlink", "sync_directory", "make_directory"}


def operations(seed: int) -> list[tuple[str, str]]:
    """What the work of a seed does when nothing goes wrong."""
    files = SimulatedFiles(random.Random(seed))
    work = Workload(seed, files)
    work.start()
    work.work(STEPS)
    work.store.close()
    return files.trace


def run(files: SimulatedFiles, work: Workload) -> None:
    """Work until something goes wrong, if it does."""
    work.start()
    work.work(STEPS)
    work.store.close()


def goes_on(work: Workload) -> None:
    """The next process opens what is left, works on, and another finds all of it."""
    work.files.work_again()
    work.start()
    # What it has found, and may have answered for, is on the disk.
    work.files.lose_power()
    work.start()
    work.work(5)
    work.reopen()
    work.files.kill()
    work.start()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "crash", [SimulatedFiles.lose_power, SimulatedFiles.kill], ids=["power", "kill"]
)
def test_a_crash_at_any_operation_leaves_what_was_synced_or_written(
    seed: int, crash: Callable[[SimulatedFiles], None]
) -> None:
    for number, (kind, path) in enumerate(operations(seed), 1):
        if kind not in CHANGES:
            continue
        files = SimulatedFiles(random.Random(seed))
        work = Workload(seed, files)
        files.lose_power_at(number)
        with pytest.raises(PowerLost):
            run(files, work)
        crash(files)
        try:
            goes_on(work)
        except BaseException as error:
            error.add_note(f"seed {seed}, after {crash.__name__} at {number}, {kind} of {path}")
            raise


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("after", ["power", "kill"])
def test_any_operation_that_fails_for_good_closes_the_store_and_loses_nothing(
    seed: int, after: str
) -> None:
    for number, (kind, path) in enumerate(operations(seed), 1):
        files = SimulatedFiles(random.Random(seed))
        work = Workload(seed, files)
        files.fail_at(number, errno.EIO)
        try:
            try:
                run(files, work)
            except StoreFailed:
                with pytest.raises(StoreFailed):
                    work.store.lend()
            files.lose_power() if after == "power" else files.kill()
            goes_on(work)
        except BaseException as error:
            error.add_note(f"seed {seed}, EIO at {number}, {kind} of {path}, then {after}")
            raise


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("times", [1, 5])
def test_a_disk_that_was_full_at_any_operation_lets_the_store_go_on(seed: int, times: int) -> None:
    for number, (kind, path) in enumerate(operations(seed), 1):
        if kind not in ("create", "write", "rename"):
            continue
        files = SimulatedFiles(random.Random(seed))
        work = Workload(seed, files)
        files.fail_at(number, errno.ENOSPC, times)
        try:
            try:
                run(files, work)
            except DiskFull:
                # Of a new directory, or at its end.
                pass
            except StoreFailed:
                # One of those that follow was a sync: it must not fail.
                assert times > 1
            files.lose_power()
            goes_on(work)
        except BaseException as error:
            error.add_note(f"seed {seed}, ENOSPC at {number}, {kind} of {path}")
            raise
