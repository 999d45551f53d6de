from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from exraft import ExRaft, Peer
from exraft.errors import StorageError, StoreDamaged
from exraft.names import LOCAL_NODE
from exraft.raft.config import decode_config
from exraft.raft.log import CONFIG
from exraft.raft.snapshot import Snapshot
from exraft.rescue import backup, commands, read_backup, write_backup
from exraft.storage import DiskStore
from exraft.storage.files import OsFile
from exraft.storage.image import Image
from exraft.storage.sinks import MemoryReader, MemorySink
from tests.helpers import LIMIT, RAFT
from tests.rescue.stories import (
    CLUSTER,
    ME,
    Terminal,
    command,
    config,
    contents,
    damage,
    held,
    image_of,
    put,
    start,
    start_empty,
    stop,
    stopped_cluster,
    tear,
    write_log,
)

ENTRIES = [command(f"say {number}") for number in range(2, 11)]
NEW = Peer(":new1")


def backed_up(
    tmp_path: Path,
    terminal: Terminal,
    *,
    commit: int = 10,
    term: int = 1,
    snapshot_at: int = 0,
) -> Path:
    """A backup of a log that is made by hand."""
    path = write_log(tmp_path / "old", ENTRIES, commit=commit, term=term, snapshot_at=snapshot_at)
    assert terminal.type("backup", path, tmp_path / "backup").status == 0
    return tmp_path / "backup"


def leader() -> str:
    return ExRaft.await_leader(RAFT[0], timeout=LIMIT).name


# Stories.


def test_a_backup_of_a_running_cluster_begins_a_new_one_with_all_that_was_acknowledged(
    tmp_path: Path, terminal: Terminal
) -> None:
    start(tmp_path / "old", snapshot_every=100)
    put(RAFT, 1, 300)
    acknowledged = list(range(1, 301))
    done = threading.Event()
    written = threading.Thread(target=write_until, args=(done,), daemon=True)
    written.start()
    try:
        for number in range(5):
            before = acknowledged.copy()
            file = tmp_path / f"backup-{number}"
            made = terminal.type("backup", tmp_path / "old" / leader()[1:], file)
            assert made.status == 0, made.err
            put(RAFT, 301 + number, 301 + number)
            acknowledged.append(301 + number)
            restored = terminal.type("restore", file, tmp_path / f"new-{number}", "--name", ":new1")
            assert restored.status == 0, restored.err
            start(tmp_path / f"new-{number}", [":new1"])
            assert held([":new1"], 1, before[-1]) == before
            stop(":new1")
    finally:
        done.set()
        written.join(LIMIT)


def write_until(done: threading.Event) -> None:
    client = ExRaft.client(RAFT)
    number = 0
    while not done.is_set():
        number += 1
        client.write(("put", "counter", number))


def test_others_are_added_to_what_was_restored(tmp_path: Path, terminal: Terminal) -> None:
    stopped_cluster(tmp_path / "old", writes=10)
    assert terminal.type("backup", tmp_path / "old" / "raft1", tmp_path / "backup").status == 0
    assert (
        terminal.type("restore", tmp_path / "backup", tmp_path / "new", "--name", ":new1").status
        == 0
    )
    start(tmp_path / "new", [":new1"])
    start_empty(tmp_path / "new", ":new2", ":new3")
    for name in (":new2", ":new3"):
        ExRaft.add_server(":new1", name, timeout=LIMIT)
    put([":new1", ":new2", ":new3"], 11, 12)
    stop(":new1")
    assert held([":new2", ":new3"], 1, 12) == list(range(1, 13))


def test_the_old_cluster_and_the_new_one_live_beside_each_other(
    tmp_path: Path, terminal: Terminal
) -> None:
    start(tmp_path)
    put(RAFT, 1, 10)
    terminal.type("backup", tmp_path / leader()[1:], tmp_path / "backup")
    terminal.type("restore", tmp_path / "backup", tmp_path, "--name", ":new1")
    start(tmp_path, [":new1"])
    put([":new1"], 11, 12)
    put(RAFT, 21, 22)
    assert held([":new1"], 1, 30) == list(range(1, 13))
    assert held(RAFT, 1, 30) == [*range(1, 11), 21, 22]


# What is in a backup.


@pytest.mark.parametrize("snapshot_at", [0, 4, 8])
def test_a_backup_holds_what_is_committed_and_nothing_else(
    snapshot_at: int, tmp_path: Path, terminal: Terminal
) -> None:
    file = backed_up(tmp_path, terminal, commit=8, snapshot_at=snapshot_at)
    told = terminal.type("log", file, "--entries", "--json").json
    assert told["commit_index"] == told["last_index"] == 8
    assert (told["snapshot"] or {"index": 0})["index"] == told["base_index"] == snapshot_at
    assert [entry["index"] for entry in told["entries"]] == list(range(snapshot_at + 1, 9))


def test_a_backup_is_shown_as_a_directory_is(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=4)
    shown = terminal.type("log", file)
    assert shown.status == 0
    for said in (
        f":raft1, in {file}",
        CLUSTER,
        "indexes 5 to 10",
        "of index 4, term 1: 9 bytes, verified",
        "created       20",
        "All checksums are right.",
    ):
        assert said in shown.out
    assert "lock" not in shown.out


def test_a_program_is_told_what_was_backed_up(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=8)
    file = tmp_path / "backup"
    told = terminal.type("backup", path, file, "--json").json
    assert told == {"path": str(file), "index": 8, "bytes": file.stat().st_size}


def test_many_large_entries_come_back_as_they_were(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_TOGETHER", 1000)
    entries = [command("x" * 300 + str(number)) for number in range(100)]
    path = write_log(tmp_path, entries)
    file = tmp_path / "backup"
    assert terminal.type("backup", path, file).status == 0
    assert read_backup(file).image.entries == image_of(path).entries


def test_a_backup_changes_nothing_of_what_it_copies(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=8, snapshot_at=4)
    before = contents(path)
    terminal.type("backup", path, tmp_path / "backup")
    assert contents(path) == before


def test_a_snapshot_in_memory_is_backed_up_too(tmp_path: Path, terminal: Terminal) -> None:
    sink = MemorySink(Snapshot(7, 3, config(*RAFT), 1, 1))
    sink.write(b"all that there is")
    snapshot = sink.finish()
    file = tmp_path / "backup"
    assert write_backup(file, ME, MemoryReader(snapshot, sink.content())) == 7
    kept = read_backup(file).image
    assert kept.problems == []
    assert (kept.snapshot, kept.last_index, kept.term) == (snapshot, 7, 3)
    restored = terminal.type("restore", file, tmp_path / "new", "--name", ":new1")
    assert restored.status == 0
    image = image_of(tmp_path / "new" / "new1")
    assert image.snapshot is not None
    assert Path(image.snapshot_path).read_bytes().endswith(b"all that there is")


def test_a_snapshot_that_is_not_what_it_says_is_not_backed_up(tmp_path: Path) -> None:
    snapshot = Snapshot(7, 3, config(*RAFT), 1, 1, size=5, crc=1)
    with pytest.raises(StoreDamaged, match="checksum"):
        write_backup(tmp_path / "backup", ME, MemoryReader(snapshot, b"wrong"))
    assert list(tmp_path.iterdir()) == []


# Beside a running server.


def test_it_begins_anew_when_a_snapshot_vanishes(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    snapshot, away = path / "snapshot-4-1", tmp_path / "away"
    images: list[Image] = []

    def read_image(where: str) -> Image:
        if images:
            away.rename(snapshot)
        images.append(image_of(Path(where)))
        if len(images) == 1:
            snapshot.rename(away)
        return images[-1]

    monkeypatch.setattr(commands, "read_image", read_image)
    assert terminal.type("backup", path, tmp_path / "backup").status == 0
    assert len(images) == 2
    assert read_backup(tmp_path / "backup").image.last_index == 10


def test_it_gives_up_when_snapshots_vanish_for_ever(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    image = image_of(path)
    (path / "snapshot-4-1").unlink()
    monkeypatch.setattr(commands, "read_image", lambda where: image)
    refused = terminal.type("backup", path, tmp_path / "backup")
    assert refused.status == 1
    assert "it changes faster than it can be copied" in refused.err


def test_it_is_read_again_when_a_record_was_being_written(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path / "whole", ENTRIES)
    shutil.copytree(path, tmp_path / "torn")
    tear(tmp_path / "torn")
    early = image_of(tmp_path / "torn")
    early.commit_index = 4
    images = [early]
    monkeypatch.setattr(
        commands, "read_image", lambda where: images.pop() if images else image_of(path)
    )
    told = terminal.type("backup", path, tmp_path / "backup", "--json").json
    assert told["index"] == 10


def test_a_tail_that_stays_torn_is_no_obstacle(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    tear(path)
    assert terminal.type("backup", path, tmp_path / "backup").status == 0
    assert read_backup(tmp_path / "backup").image.last_index == 10


# Nothing is written over, and nothing by half.


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    file = tmp_path / "backup"
    file.write_text("of yesterday")
    refused = terminal.type("backup", path, file)
    assert refused.status == 1
    assert "--force" in refused.err
    assert file.read_text() == "of yesterday"
    assert terminal.type("backup", path, file, "--force").status == 0
    assert read_backup(file).image.last_index == 10


def test_a_directory_is_never_replaced(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    refused = terminal.type("backup", path, tmp_path, "--force")
    assert refused.status == 1
    assert "it is a directory" in refused.err


def test_a_backup_that_fails_leaves_what_was_there(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES)
    file = tmp_path / "backup"
    file.write_text("of yesterday")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OsFile, "sync", no_room)
    refused = terminal.type("backup", path, file, "--force")
    assert refused.status == 1
    assert "No space left on device" in refused.err
    assert file.read_text() == "of yesterday"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup", "raft1"]


def test_a_backup_into_nowhere_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    refused = terminal.type("backup", write_log(tmp_path, ENTRIES), tmp_path / "no" / "backup")
    assert refused.status == 1
    assert "can't be written" in refused.err


def test_nothing_is_no_backup(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=0)
    refused = terminal.type("backup", path, tmp_path / "backup")
    assert refused.status == 1
    assert "has nothing that is committed" in refused.err


def test_a_damaged_directory_is_not_backed_up(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    damage(path / "snapshot-4-1", -1)
    refused = terminal.type("backup", path, tmp_path / "backup")
    assert refused.status == 1
    assert "take another server's" in refused.err
    assert not (tmp_path / "backup").exists()


def test_a_directory_that_is_not_there_is_an_error_of_the_command_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    assert terminal.type("backup", tmp_path / "nowhere", tmp_path / "backup").status == 2


def test_a_python_program_replaces_a_file_only_if_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "backup"
    snapshot = Snapshot(7, 3, config(*RAFT), 1, 1)
    reader = MemoryReader(snapshot, b"")
    write_backup(file, ME, reader)
    with pytest.raises(StorageError, match="overwrite=True"):
        write_backup(file, ME, reader)
    assert write_backup(file, ME, reader, overwrite=True) == 7


# Damaged backups.


@pytest.mark.parametrize("where", ["the beginning", "the snapshot", "the entries", "the end"])
def test_damage_of_a_backup_is_found_wherever_it_is(
    where: str, tmp_path: Path, terminal: Terminal
) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=4)
    content = file.read_bytes()
    places = {
        "the beginning": 30,
        "the snapshot": content.index(b"the state"),
        "the entries": content.index(b"say 7"),
        "the end": len(content) - 1,
    }
    damage(file, places[where])
    shown = terminal.type("log", file)
    assert shown.status == 1
    assert f"DAMAGED: {file}" in shown.out
    refused = terminal.type("restore", file, tmp_path / "new", "--name", ":new1")
    assert refused.status == 1
    assert "use another backup" in refused.err
    assert not (tmp_path / "new").exists()


def test_every_byte_of_a_backup_counts(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=8)
    for place in range(8, file.stat().st_size):
        damage(file, place)
        try:
            assert read_backup(file).image.problems, place
        except StorageError:
            # The version of the format: it is another's.
            assert place < 12
        damage(file, place)
    assert not read_backup(file).image.problems


def test_a_backup_that_is_cut_off_anywhere_is_found_out(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=8)
    content = file.read_bytes()
    for size in range(8, len(content)):
        file.write_bytes(content[:size])
        assert read_backup(file).image.problems, size
    file.write_bytes(content + b"\0")
    assert read_backup(file).image.problems


# Restoring.


@pytest.mark.parametrize("snapshot_at", [0, 4])
def test_what_is_restored_is_the_first_of_a_new_cluster(
    snapshot_at: int, tmp_path: Path, terminal: Terminal
) -> None:
    file = backed_up(tmp_path, terminal, commit=8, snapshot_at=snapshot_at, term=5)
    told = terminal.type("restore", file, tmp_path / "new", "--name", ":new1", "--json").json
    image = image_of(tmp_path / "new" / "new1")
    assert image.problems == []
    assert image.identity is not None
    assert (image.identity.peer, image.identity.store_id) == (NEW, told["store"])
    assert image.commit_index == image.last_index == told["index"] == 9
    configs = [decode_config(entry.data) for entry in image.entries if entry.kind == CONFIG]
    configs += [] if image.snapshot is None else [image.snapshot.config]
    for each in configs:
        assert each.voters == (NEW,)
        assert each.cluster == told["cluster"] != CLUSTER
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["new1"]


def test_two_clusters_from_one_backup_are_two(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal)
    told = [
        terminal.type("restore", file, tmp_path / where, "--name", ":new1", "--json").json
        for where in ("one", "two")
    ]
    assert told[0]["cluster"] != told[1]["cluster"]
    assert told[0]["store"] != told[1]["store"]


def test_it_can_be_restored_for_another_node(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal)
    words = ("restore", file, tmp_path / "new", "--name", ":new1", "--node", "shop@host1")
    assert terminal.type(*words).status == 0
    image = image_of(tmp_path / "new" / "new1")
    assert image.identity is not None
    assert image.identity.peer == Peer(":new1", "shop@host1")


def test_nothing_is_restored_over_a_directory(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal)
    path = write_log(tmp_path / "new", [], me=NEW, voters=[":new1"])
    before = contents(path)
    refused = terminal.type("restore", file, tmp_path / "new", "--name", ":new1")
    assert refused.status == 1
    assert "it is there already" in refused.err
    assert contents(path) == before


def test_a_backup_that_is_not_there_is_an_error_of_the_command_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    refused = terminal.type("restore", tmp_path / "backup", tmp_path, "--name", ":new1")
    assert refused.status == 2
    assert "there is no file" in refused.err


def test_a_file_that_is_no_backup_is_not_restored(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "notes.txt").write_text("milk, eggs")
    refused = terminal.type("restore", tmp_path / "notes.txt", tmp_path, "--name", ":new1")
    assert refused.status == 1
    assert "it is no backup" in refused.err


def test_a_backup_of_another_format_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal)
    content = bytearray(file.read_bytes())
    said = content[20 : 20 + int.from_bytes(content[12:16], "little")]
    file.write_bytes(of_version_two(bytes(said)))
    refused = terminal.type("restore", file, tmp_path / "new", "--name", ":new1")
    assert refused.status == 1
    assert "use the ExRaft that wrote it" in refused.err


def of_version_two(said: bytes) -> bytes:
    from exraft.storage import frame

    before = frame.VERSION
    frame.VERSION = 2
    try:
        return frame.frame(backup.KIND, said)
    finally:
        frame.VERSION = before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "new1"], "no name"),
        ([], "--name"),
        (["--name", ":new1", "--node", "a b"], "no node"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    words: list[str], said: str, tmp_path: Path, terminal: Terminal
) -> None:
    refused = terminal.type("restore", tmp_path / "backup", tmp_path, *words)
    assert refused.status == 2
    assert said in refused.err


def test_what_is_interrupted_leaves_nothing(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=4)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "write_directory", interrupted)
    assert terminal.type("restore", file, tmp_path / "new", "--name", ":new1").status == 130
    assert os.listdir(tmp_path / "new") == []


def test_a_store_opens_on_what_was_restored(tmp_path: Path, terminal: Terminal) -> None:
    file = backed_up(tmp_path, terminal, snapshot_at=4)
    terminal.type("restore", file, tmp_path / "new", "--name", ":new1", "--node", LOCAL_NODE)
    store = DiskStore(tmp_path / "new", NEW)
    hold = store.lend()
    assert (hold.commit_index, hold.last_index, hold.base_index) == (11, 11, 4)
    store.close()
