from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exraft import ExRaft, Peer
from exraft.errors import ForeignServer, StoreLocked
from exraft.raft.config import config_entry, decode_config
from exraft.raft.log import CONFIG
from exraft.rescue import placing
from exraft.storage import DiskStore
from exraft.storage import image as image_module
from exraft.storage.image import Image
from tests.helpers import LIMIT, RAFT, wait_until
from tests.rescue.stories import (
    CLUSTER,
    ME,
    Done,
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
    write_log,
)

ROOT = Path(__file__).parent.parent.parent
ACCEPTED = "--i-accept-data-loss"
ENTRIES = [command(f"say {number}") for number in range(2, 11)]


def recover(terminal: Terminal, path: Path, *members: str) -> Done:
    return terminal.type("recover", path, "--members", ",".join(members), ACCEPTED)


def kept(path: Path) -> Path:
    (found,) = path.parent.glob(f"{path.name}.before-recover-*")
    return found


def lose(data_dir: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(data_dir / name[1:])


# Stories.


def test_a_cluster_lives_again_from_one_of_three_directories(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path, writes=10)
    lose(tmp_path, ":raft2", ":raft3")
    done = recover(terminal, tmp_path / "raft1", ":raft1")
    assert done.status == 0
    start(tmp_path, [":raft1"])
    assert held([":raft1"], 1, 10) == list(range(1, 11))
    put([":raft1"], 11, 15)
    start_empty(tmp_path, ":raft2", ":raft3")
    for name in (":raft2", ":raft3"):
        ExRaft.client([":raft1"]).write(("put", "before", name))
        ExRaft.add_server(":raft1", name, timeout=LIMIT)
    put(RAFT, 16, 20)
    # And it outlives one of them, as three do.
    stop(":raft1")
    assert held([":raft2", ":raft3"], 1, 20) == list(range(1, 21))
    assert {peer.name for peer in ExRaft.status(":raft2").config.voters} == set(RAFT)


def test_members_with_empty_directories_are_in_the_new_cluster_from_the_first(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path, writes=10)
    lose(tmp_path, ":raft2", ":raft3")
    assert recover(terminal, tmp_path / "raft1", *RAFT).status == 0
    start(tmp_path, [":raft1"], min_majority=1)
    # Alone it is no majority of three.
    assert ExRaft.leader(":raft1") is None
    start_empty(tmp_path, ":raft2", ":raft3")
    assert held(RAFT, 1, 10) == list(range(1, 11))
    put(RAFT, 11, 15)
    stop(":raft1")
    assert held([":raft2", ":raft3"], 1, 15) == list(range(1, 16))


def test_an_old_member_that_comes_back_is_a_foreigner(tmp_path: Path, terminal: Terminal) -> None:
    stopped_cluster(tmp_path, writes=10)
    assert recover(terminal, tmp_path / "raft1", ":raft1").status == 0
    # Before the new one, and with the directory that it had.
    start(tmp_path, [":raft2"], initial_config=RAFT)
    start(tmp_path, [":raft1"])
    put([":raft1"], 11, 12)
    wait_until(lambda: ExRaft.status(":raft1").foreign_messages, "a message of the old cluster")
    assert ExRaft.leader(":raft2") is None
    with pytest.raises(ForeignServer, match="min_majority=2"):
        ExRaft.add_server(":raft1", ":raft2", timeout=LIMIT)
    assert ExRaft.leader(":raft1") == Peer(":raft1")
    assert held([":raft1"], 1, 12) == list(range(1, 13))


def test_old_members_can_elect_a_leader_of_theirs_and_none_hears_the_other(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path, writes=10)
    assert recover(terminal, tmp_path / "raft1", ":raft1", ":raft4").status == 0
    start_empty(tmp_path, ":raft4")
    start(tmp_path, [":raft1"])
    put([":raft1", ":raft4"], 11, 12)
    start(tmp_path, [":raft2", ":raft3"], initial_config=RAFT)
    put([":raft2", ":raft3"], 21, 22)
    put([":raft1", ":raft4"], 13, 14)
    assert held([":raft2", ":raft3"], 11, 22) == [21, 22]
    assert held([":raft1", ":raft4"], 11, 22) == [11, 12, 13, 14]


def test_what_was_never_committed_is_committed_now(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=4, term=7)
    done = recover(terminal, path, ":raft1")
    assert done.status == 0
    assert "the entries from 5 to 10 are not known to be committed" in done.err
    assert image_of(path).commit_index == 11


# What is written.


def test_all_of_it_is_of_a_new_cluster_in_a_new_term_with_a_new_store(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES, commit=4, term=7, snapshot_at=4)
    before = image_of(path)
    assert recover(terminal, path, ":raft1", ":raft9").status == 0
    image = image_of(path)
    assert image.problems == []
    assert (image.term, image.voted_for, image.last_index) == (8, None, 11)
    assert before.identity is not None and image.identity is not None
    assert image.identity.peer == ME
    assert image.identity.store_id != before.identity.store_id
    newest = decode_config(image.entries[-1].data)
    assert image.entries[-1].term == 8
    assert newest.voters == (ME, Peer(":raft9"))
    assert newest.stores == ((ME, image.identity.store_id),)
    assert newest.cluster not in ("", CLUSTER)
    assert image.snapshot is not None
    # Nobody who has but a part of it takes an earlier member for a voter.
    assert image.snapshot.config.voters == (ME,)
    assert image.snapshot.config.cluster == newest.cluster
    assert [entry.data for entry in image.entries[:-1]] == [
        entry.data for entry in before.entries[-6:]
    ]


def test_configurations_in_the_log_name_the_new_cluster(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    assert recover(terminal, path, ":raft1").status == 0
    configs = [
        decode_config(entry.data) for entry in image_of(path).entries if entry.kind == CONFIG
    ]
    assert len(configs) == 2
    assert configs[0].voters == (ME,)
    assert configs[0].cluster == configs[1].cluster != CLUSTER


def test_what_was_there_is_kept_beside(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    before = contents(path)
    done = recover(terminal, path, ":raft1")
    assert str(kept(path)) in done.out
    # But for the note of who holds it.
    assert {**contents(kept(path)), "lock": b""} == {**before, "lock": b""}
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, kept(path).name]
    # It is no server of that data_dir.
    assert [each["path"] for each in terminal.type("log", tmp_path, "--json").json] == [str(path)]


def test_it_can_be_done_twice(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    for _ in range(2):
        assert recover(terminal, path, ":raft1").status == 0
    assert len(list(tmp_path.iterdir())) == 3
    assert image_of(path).last_index == 12


def test_a_program_is_told_what_was_founded(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    told = terminal.type("recover", path, "--members", ":raft1", ACCEPTED, "--json").json
    image = image_of(path)
    assert image.identity is not None
    assert told["store"] == image.identity.store_id
    assert told["cluster"] == decode_config(image.entries[-1].data).cluster
    assert (told["path"], told["index"], told["term"]) == (str(path), 11, 2)
    assert told["kept"] == str(kept(path))


def test_how_to_go_on_is_said(tmp_path: Path, terminal: Terminal) -> None:
    done = recover(terminal, write_log(tmp_path, ENTRIES), ":raft1", ":raft9")
    assert ":raft9 on empty directories, with min_majority=2 and no initial_config" in done.out


# What is refused.


def test_without_the_flag_it_is_said_what_may_be_lost_and_nothing_is_done(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES, commit=4)
    before = contents(path)
    refused = terminal.type("recover", path, "--members", ":raft1")
    assert (refused.status, refused.out) == (2, "")
    for said in (
        "What may be lost: all that the others had acknowledged after that.",
        "What may come: the entries from 5 to 10",
        "(:raft2, :raft3) can't come back",
        "--i-accept-data-loss",
    ):
        assert said in refused.err
    assert contents(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_a_server_is_at_work_on_is_refused(
    tmp_path: Path, terminal: Terminal
) -> None:
    start(tmp_path)
    put(RAFT, 1, 2)
    refused = recover(terminal, tmp_path / "raft1", ":raft1")
    assert refused.status == 1
    assert "stop that one first" in refused.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["raft1", "raft2", "raft3"]


def test_a_server_can_not_be_started_on_it_meanwhile(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES)
    tried = []

    def write_directory(data_dir: str, image: Image, **chosen: str) -> str:
        with pytest.raises(StoreLocked):
            DiskStore(tmp_path, ME).open()
        tried.append(data_dir)
        return image_module.write_directory(data_dir, image, **chosen)  # type: ignore[arg-type]

    monkeypatch.setattr(placing, "write_directory", write_directory)
    assert recover(terminal, path, ":raft1").status == 0
    assert tried


def test_members_without_the_server_itself_are_refused(tmp_path: Path, terminal: Terminal) -> None:
    refused = recover(terminal, write_log(tmp_path, ENTRIES), ":raft2", ":raft3")
    assert refused.status == 2
    assert "must be one of --members" in refused.err


def test_members_that_are_named_twice_are_refused(tmp_path: Path, terminal: Terminal) -> None:
    refused = recover(terminal, write_log(tmp_path, ENTRIES), ":raft1", ":raft1")
    assert refused.status == 2
    assert "twice" in refused.err


@pytest.mark.parametrize("members", ["raft1", ":raft1,,", ":raft1, raft2", "", ":ra ft1"])
def test_members_that_are_no_names_are_refused(
    members: str, tmp_path: Path, terminal: Terminal
) -> None:
    refused = terminal.type("recover", tmp_path, "--members", members, ACCEPTED)
    assert refused.status == 2
    assert "no name" in refused.err


def test_without_members_nothing_is_done(tmp_path: Path, terminal: Terminal) -> None:
    refused = terminal.type("recover", write_log(tmp_path, ENTRIES), ACCEPTED)
    assert refused.status == 2
    assert "--members" in refused.err


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    assert recover(terminal, tmp_path / "nowhere", ":raft1").status == 2


def test_a_data_dir_is_no_servers_own_directory(tmp_path: Path, terminal: Terminal) -> None:
    write_log(tmp_path, ENTRIES)
    refused = recover(terminal, tmp_path, ":raft1")
    assert refused.status == 2
    assert f"name one, such as {tmp_path / 'raft1'}" in refused.err


def test_a_directory_with_an_empty_log_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    store = DiskStore(tmp_path, ME)
    store.open()
    store.close()
    refused = recover(terminal, Path(store.path), ":raft1")
    assert refused.status == 1
    assert "start a new cluster instead" in refused.err


def test_a_damaged_directory_is_refused_with_what_to_do(tmp_path: Path, terminal: Terminal) -> None:
    path = damaged_at_seven(tmp_path)
    before = contents(path)
    refused = recover(terminal, path, ":raft1")
    assert refused.status == 1
    for said in ("log-0000000001", "Nothing was done", "--despite-damage"):
        assert said in refused.err
    assert {**contents(path), "lock": b""} == {**before, "lock": b""}


def test_what_can_be_read_of_a_damaged_one_is_taken_on_request(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = damaged_at_seven(tmp_path)
    done = terminal.type(
        "recover", path, "--members", ":raft1", ACCEPTED, "--despite-damage", "--json"
    )
    assert done.status == 0
    assert "The directory is damaged; what follows index 6 can't be read." in done.err
    image = image_of(path)
    assert image.problems == []
    assert [entry.data for entry in image.entries[1:-1]] == [b"say 2", b"say 3"] + [
        b"say 4",
        b"say 5",
        b"say 6",
    ]


def damaged_at_seven(data_dir: Path) -> Path:
    store = DiskStore(data_dir, ME)
    hold = store.lend()
    hold.set_ballot(1, ME, leads=False)
    hold.append([config_entry(1, config(*RAFT))])
    for entry in ENTRIES:
        hold.append([entry])
        hold.sync()
    store.close()
    segment = Path(store.path) / "log-0000000001"
    damage(segment, segment.read_bytes().index(b"say 7"))
    return Path(store.path)


def test_a_log_whose_snapshot_is_damaged_is_no_beginning_of_anything(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    damage(path / "snapshot-4-1", -1)
    refused = terminal.type("recover", path, "--members", ":raft1", ACCEPTED, "--despite-damage")
    assert refused.status == 1
    assert "the snapshot of what was before is missing or damaged" in refused.err


# Interrupted.


def test_what_is_interrupted_while_it_is_written_leaves_the_old(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES)
    before = contents(path)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(placing, "write_directory", interrupted)
    assert recover(terminal, path, ":raft1").status == 130
    assert {**contents(path), "lock": b""} == {**before, "lock": b""}
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_one_that_can_not_be_put_in_place_leaves_the_old(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES)
    before = contents(path)
    moves: list[str] = []

    def rename(old: str, new: str) -> None:
        moves.append(new)
        if len(moves) == 2:
            raise OSError("not today")
        really(old, new)

    really = os.rename
    monkeypatch.setattr(placing, "_exchange", lambda one, other: False)
    monkeypatch.setattr(placing, "_rename", rename)
    refused = recover(terminal, path, ":raft1")
    assert refused.status == 1
    assert "not today" in refused.err
    assert moves[-1] == str(path)
    assert {**contents(path), "lock": b""} == {**before, "lock": b""}
    assert list(tmp_path.iterdir()) == [path]


def test_where_directories_can_not_change_places_they_are_moved(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_log(tmp_path, ENTRIES)
    monkeypatch.setattr(placing, "_exchange", lambda one, other: False)
    assert recover(terminal, path, ":raft1").status == 0
    assert image_of(path).last_index == 11
    assert image_of(kept(path)).last_index == 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux is known to do it")
def test_two_directories_change_places_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not placing._exchange(str(tmp_path / "one"), str(tmp_path / "other")):
        pytest.skip("not on this file system")
    assert list(contents(tmp_path / "one")) == ["other"]
    assert list(contents(tmp_path / "other")) == ["one"]


@pytest.mark.skipif(os.name != "posix", reason="links to directories are those of POSIX")
def test_a_link_to_a_directory_stays_one(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "big disk").mkdir()
    real = write_log(tmp_path / "big disk", ENTRIES).rename(tmp_path / "big disk" / "of raft1")
    (tmp_path / "data").mkdir()
    link = tmp_path / "data" / "raft1"
    link.symlink_to(real)
    assert recover(terminal, link, ":raft1").status == 0
    assert link.is_symlink()
    assert image_of(link).last_index == 11


def test_it_runs_as_a_command_against_another_process_that_runs(tmp_path: Path) -> None:
    path = write_log(tmp_path, ENTRIES)
    store = DiskStore(tmp_path, ME)
    store.open()
    for status in (1, 0):
        result = subprocess.run(
            [
                *(sys.executable, "-m", "exraft", "recover", str(path)),
                *("--members", ":raft1", ACCEPTED),
            ],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            cwd=ROOT,
            env={**os.environ, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert result.returncode == status, result.stderr
        if status:
            assert f"process {os.getpid()} on " in result.stderr
        store.close()
