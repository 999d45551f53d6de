"""A slice of `python -m tests.soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import bounded, laggard

EVERY = 5_000
KEPT = 1_000


@pytest.mark.slow
def test_the_log_stays_bounded_in_memory_and_on_disk_however_much_is_written(
    tmp_path: Path,
) -> None:
    taken = bounded.run(tmp_path, 50_000, looks=20, snapshot_every=EVERY, keep_entries=KEPT)
    assert taken[-1].writes >= 45_000
    # What is logged while a snapshot is being written comes on top.
    assert max(look.log_entries for look in taken) < 6 * EVERY
    assert taken[-1].log_entries < 6 * EVERY


@pytest.mark.slow
def test_a_follower_that_missed_more_than_the_log_holds_catches_up_under_traffic(
    tmp_path: Path,
) -> None:
    came = laggard.run(tmp_path, 20_000, snapshot_every=EVERY, keep_entries=KEPT)
    assert came.by_snapshot
