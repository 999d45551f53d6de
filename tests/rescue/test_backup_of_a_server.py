from __future__ import annotations

from pathlib import Path

import pytest

from exraft import ExRaft
from exraft.errors import StorageError
from exraft.rescue import read_backup
from tests.helpers import LIMIT, QUICK, RAFT, KeyValueStore
from tests.rescue.stories import Terminal, held, put, start


def start_in_memory() -> None:
    for name in RAFT:
        ExRaft.start_server(KeyValueStore, {}, name=name, initial_config=RAFT, **QUICK)


@pytest.mark.parametrize("durable", [False, True])
def test_what_a_running_server_backs_up_begins_a_new_cluster(
    durable: bool, tmp_path: Path, terminal: Terminal
) -> None:
    if durable:
        start(tmp_path / "old")
    else:
        start_in_memory()
    put(RAFT, 1, 20)
    leader = ExRaft.await_leader(RAFT[0], timeout=LIMIT)
    index = ExRaft.backup(leader, tmp_path / "backup")
    assert index >= 20
    assert read_backup(tmp_path / "backup").image.last_index == index
    words = ("restore", tmp_path / "backup", tmp_path / "new", "--name", ":new1")
    assert terminal.type(*words).status == 0
    start(tmp_path / "new", [":new1"])
    assert held([":new1"], 1, 20) == list(range(1, 21))


def test_a_server_that_waits_to_be_added_has_nothing_to_back_up(tmp_path: Path) -> None:
    ExRaft.start_server(KeyValueStore, {}, name=":raft1", min_majority=2)
    with pytest.raises(StorageError, match="nothing that is committed"):
        ExRaft.backup(":raft1", tmp_path / "backup")


def test_a_file_that_is_there_is_replaced_on_request_only(tmp_path: Path) -> None:
    start_in_memory()
    put(RAFT, 1, 2)
    first = ExRaft.backup(":raft1", tmp_path / "backup")
    with pytest.raises(StorageError, match="there already"):
        ExRaft.backup(":raft1", tmp_path / "backup")
    put(RAFT, 3, 4)
    leader = ExRaft.await_leader(RAFT[0], timeout=LIMIT)
    assert ExRaft.backup(leader, tmp_path / "backup", overwrite=True) > first
