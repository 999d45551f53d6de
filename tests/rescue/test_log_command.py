from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from exraft import ExRaft
from exraft.codec import encode
from exraft.raft.log import COMMAND, Entry
from tests.helpers import RAFT
from tests.rescue.stories import (
    CLUSTER,
    Terminal,
    command,
    contents,
    damage,
    image_of,
    put,
    start,
    stopped_cluster,
    tear,
    write_log,
)

ROOT = Path(__file__).parent.parent.parent
LIMIT = 60.0

ENTRIES = [command(f"say {number}") for number in range(2, 11)]
"""Together with the configuration, indexes 1 to 10."""


def test_a_directory_is_shown_with_all_that_it_says(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=8, term=3, snapshot_at=4)
    shown = terminal.type("log", path)
    assert (shown.status, shown.err) == (0, "")
    for said in (
        f":raft1, in {path}",
        "nonode@nohost",
        CLUSTER,
        image_of(path).identity.store_id,  # type: ignore[union-attr]
        "3, voted for :raft1",
        "indexes 5 to 10; the last 2 not known to be committed",
        ":raft1 (store",
        ":raft3 (store not known yet)",
        "of index 4, term 1: 9 bytes, verified",
        "log-0000000001",
        "snapshot-4-1",
        "All checksums are right.",
    ):
        assert said in shown.out


def test_looking_changes_nothing(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    before = contents(path)
    assert terminal.type("log", path, "--entries", "--json").status == 0
    assert contents(path) == before


def test_a_program_is_told_the_same(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=8, term=3, snapshot_at=4)
    told = terminal.type("log", path, "--json").json
    assert told["name"] == ":raft1"
    assert told["node"] == "nonode@nohost"
    assert told["cluster"] == CLUSTER
    assert (told["term"], told["commit_index"]) == (3, 8)
    assert (told["base_index"], told["last_index"]) == (4, 10)
    assert told["snapshot"]["index"] == 4
    assert [voter["name"] for voter in told["voters"]] == list(RAFT)
    assert told["damaged"] is False
    assert "entries" not in told


def test_entries_are_shown_when_they_are_asked_for(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, commit=8)
    told = terminal.type("log", path, "--entries", "--json").json["entries"]
    assert [entry["index"] for entry in told] == list(range(1, 11))
    assert [entry["committed"] for entry in told] == [True] * 8 + [False] * 2
    assert told[0]["kind"] == "config"
    assert told[1] == {"index": 2, "term": 1, "committed": True, "kind": "command", "bytes": 5}
    shown = terminal.type("log", path, "--entries").out
    assert "config: cluster 00000000c0ffee00, voters :raft1, :raft2, :raft3" in shown
    assert shown.count("command of 5 bytes") == 8
    assert shown.count("not known to be committed") == 3


@pytest.mark.parametrize(
    ("span", "shown"), [("9", [9, 10]), ("3:5", [3, 4, 5]), ("0:1", [1]), ("11", []), ("5:4", [])]
)
def test_a_part_of_the_entries_can_be_asked_for(
    span: str, shown: list[int], tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES)
    told = terminal.type("log", path, "--entries", span, "--json").json["entries"]
    assert [entry["index"] for entry in told] == shown


def test_commands_are_decoded_only_on_request(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, [Entry(1, COMMAND, encode(("put", "tea", 9))), command("no pickle")])
    assert "tea" not in terminal.type("log", path, "--entries").out
    shown = terminal.type("log", path, "--entries", "--decode").out
    assert "command ('put', 'tea', 9)" in shown
    assert "of 9 bytes that can't be decoded here" in shown
    told = terminal.type("log", path, "--entries", "2", "--decode", "--json").json
    assert told["entries"][0]["command"] == "('put', 'tea', 9)"


def test_decoding_without_entries_makes_no_sense(tmp_path: Path, terminal: Terminal) -> None:
    refused = terminal.type("log", write_log(tmp_path), "--decode")
    assert refused.status == 2
    assert "give --entries as well" in refused.err


def test_the_help_warns_of_decoding(terminal: Terminal) -> None:
    assert "runs whatever code they name" in " ".join(terminal.type("log", "--help").out.split())


def test_square_brackets_and_colons_are_shown_as_they_are(
    tmp_path: Path, terminal: Terminal
) -> None:
    data_dir = tmp_path / "[bold]" / ":tea:"
    shown = terminal.type("log", write_log(data_dir))
    assert str(data_dir) in shown.out


def test_all_servers_of_a_data_dir_are_shown_a_line_each(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path)
    shown = terminal.type("log", tmp_path)
    assert shown.status == 0
    for name in RAFT:
        assert f"{name[1:]}      {name}" in shown.out
    assert f"python -m exraft log {tmp_path / 'raft1'}" in shown.out
    told = terminal.type("log", tmp_path, "--json").json
    assert [each["name"] for each in told] == list(RAFT)


def test_one_damaged_server_of_a_data_dir_is_enough_to_fail(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path)
    damage(tmp_path / "raft2" / "log-0000000001", 200)
    shown = terminal.type("log", tmp_path)
    assert shown.status == 1
    assert shown.out.count("DAMAGED") == 1


def test_entries_are_of_one_server(tmp_path: Path, terminal: Terminal) -> None:
    write_log(tmp_path)
    refused = terminal.type("log", tmp_path, "--entries")
    assert refused.status == 2
    assert str(tmp_path / "raft1") in refused.err


def test_damage_is_shown_with_its_place_and_what_can_be_read_before_it(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES)
    segment = path / "log-0000000001"
    place = segment.read_bytes().index(b"say 7")
    damage(segment, place)
    shown = terminal.type("log", path)
    assert shown.status == 1
    assert f"DAMAGED: {segment}, byte " in shown.out
    assert "All checksums are right" not in shown.out
    told = terminal.type("log", path, "--json")
    assert told.status == 1
    assert told.json["damaged"] is True
    problem = told.json["problems"][0]
    assert problem["path"] == str(segment)
    assert 0 < problem["offset"] <= place


def test_a_damaged_snapshot_is_shown(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=4)
    snapshot = path / "snapshot-4-1"
    damage(snapshot, snapshot.stat().st_size - 1)
    shown = terminal.type("log", path)
    assert shown.status == 1
    assert f"DAMAGED: {snapshot}" in shown.out


def test_a_torn_tail_is_no_damage(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    tear(path)
    shown = terminal.type("log", path)
    assert shown.status == 0
    assert "torn tail of " in shown.out


def test_who_holds_it_is_shown_beside_a_running_server(tmp_path: Path, terminal: Terminal) -> None:
    start(tmp_path)
    put(RAFT, 1, 5)
    shown = terminal.type("log", tmp_path / "raft1")
    assert shown.status == 0
    assert f"process {os.getpid()} on " in shown.out
    told = terminal.type("log", tmp_path / "raft1", "--json").json
    assert told["lock"]["note"].startswith(f"process {os.getpid()} ")
    assert told["lock"]["lives"] in (True, None)
    # It went on meanwhile.
    put(RAFT, 6, 7)
    assert ExRaft.ping(":raft1") == "pong"


def test_a_process_that_has_ended_holds_nothing(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(LIMIT)
    here = platform.node()
    (path / "lock").write_text(f"process {ended.pid} on {here} since yesterday\n")
    if sys.platform != "win32":
        assert "which has ended" in terminal.type("log", path).out
    (path / "lock").write_text(f"process {ended.pid} on elsewhere since yesterday\n")
    told = terminal.type("log", path, "--json").json["lock"]
    assert told == {"note": f"process {ended.pid} on elsewhere since yesterday", "lives": None}


def test_a_directory_that_is_not_there_is_an_error_of_the_command_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    refused = terminal.type("log", tmp_path / "nowhere")
    assert (refused.status, refused.out) == (2, "")
    assert "there is no directory" in refused.err


def test_a_directory_that_is_nobodys_is_an_error_of_the_command_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    (tmp_path / "pictures").mkdir()
    refused = terminal.type("log", tmp_path)
    assert refused.status == 2
    assert "name the data_dir of a server" in refused.err


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "notes.txt").write_text("milk, eggs")
    refused = terminal.type("log", tmp_path / "notes.txt")
    assert refused.status == 1
    assert "it is no backup" in refused.err


@pytest.mark.parametrize("span", ["x", "1:", ":5", "1:2:3", "-4", "./data"])
def test_a_span_that_makes_no_sense_is_refused(span: str, terminal: Terminal) -> None:
    refused = terminal.type("log", ".", f"--entries={span}")
    assert refused.status == 2
    assert "FIRST:LAST" in refused.err


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    path = write_log(tmp_path, ENTRIES)
    result = subprocess.run(
        [sys.executable, "-m", "exraft", "log", str(path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "All checksums are right." in result.stdout
    # Nothing is cut to the width of a terminal that there is not.
    assert str(path) in result.stdout
    assert "\x1b" not in result.stdout
