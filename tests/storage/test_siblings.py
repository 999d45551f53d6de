"""Who founds nothing any more, as the directories beside its empty one show (rule 29)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from exraft.names import Peer
from exraft.raft import Config
from exraft.raft.config import config_entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore
from exraft.storage.siblings import witness

A, B, C = Peer(":a"), Peer(":b"), Peer(":c")
ALL = (A, B, C)


def keep(
    data_dir: Path, peer: Peer, voters: Iterable[Peer], *stores: tuple[Peer, str], cut: bool = False
) -> None:
    """Leave a directory with that configuration, in the log or in a snapshot."""
    owner = DiskStore(data_dir, peer)
    store = owner.lend()
    store.set_ballot(1, peer, leads=False)
    config = Config(tuple(voters), cluster="here", stores=stores)
    store.append([config_entry(1, config)])
    store.sync()
    if cut:
        sink = store.begin_snapshot(Snapshot(1, 1, config, 1, 1))
        sink.finish()
        store.adopt(sink)
        store.cut(1)
        store.sync()
    owner.close()


def test_a_member_with_another_store_has_lost_it(tmp_path: Path) -> None:
    keep(tmp_path, B, ALL, (A, "lost"))
    assert witness(str(tmp_path), A, "new", ALL) == (B, str(tmp_path / "b"))


def test_it_is_seen_in_a_snapshot_too(tmp_path: Path) -> None:
    keep(tmp_path, B, ALL, (A, "lost"), cut=True)
    assert witness(str(tmp_path), A, "new", ALL) is not None


def test_a_founder_that_starts_late_is_one(tmp_path: Path) -> None:
    keep(tmp_path, B, ALL, (B, "b"), (C, "c"))
    assert witness(str(tmp_path), A, "new", ALL) is None


def test_a_member_with_the_very_store_is_one(tmp_path: Path) -> None:
    keep(tmp_path, B, ALL, (A, "new"))
    assert witness(str(tmp_path), A, "new", ALL) is None


def test_a_fellow_founder_in_a_cluster_without_it_shows_that_it_comes_too_late(
    tmp_path: Path,
) -> None:
    keep(tmp_path, C, (C,))
    assert witness(str(tmp_path), A, "new", ALL) == (C, str(tmp_path / "c"))


def test_the_cluster_of_a_stranger_is_none_of_its_business(tmp_path: Path) -> None:
    keep(tmp_path, C, (C,))
    assert witness(str(tmp_path), A, "new", (A, B)) is None


def test_a_copy_that_was_put_aside_shows_nothing(tmp_path: Path) -> None:
    keep(tmp_path, B, ALL, (A, "lost"))
    shutil.move(tmp_path / "b", tmp_path / "b.before")
    assert witness(str(tmp_path), A, "new", ALL) is None


def test_what_cannot_be_read_shows_nothing_and_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "identity").write_bytes(b"nonsense")
    (tmp_path / "a file").write_bytes(b"")
    assert witness(str(tmp_path), A, "new", ALL) is None
