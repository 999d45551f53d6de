from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from exraft import ActorRegistry, ExRaft, cli, demo

ROOT = Path(__file__).parent.parent
LIMIT = 60.0
# So that a machine that stands still for a while does not hold an election of its own.
PATIENT = {"min_election_timeout": 30.0, "max_election_timeout": 60.0}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exraft", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="module")
def story() -> tuple[bool, str, list[str]]:
    """Whether it held, what was told, and the names that were left."""
    text = io.StringIO()
    held = demo.tell(Console(file=text, highlight=False, soft_wrap=True), **PATIENT)
    return held, text.getvalue(), ActorRegistry.names()


def test_the_story_holds_and_leaves_no_server_running(story: tuple[bool, str, list[str]]) -> None:
    held, text, left = story
    assert held, text
    assert "FAILED" not in text
    assert left == []


def test_the_story_counts_what_was_acknowledged_in_the_crash(
    story: tuple[bool, str, list[str]],
) -> None:
    text = story[1]
    counted = re.search(r"(\d+) of (\d+) acknowledged writes are there, each exactly once", text)
    assert counted is not None, text
    assert counted[1] == counted[2]
    assert int(counted[1]) > demo.WRITERS * demo.WRITES // 2


def test_each_step_shows_the_calls_that_it_makes(story: tuple[bool, str, list[str]]) -> None:
    text = story[1]
    for call in ("start_server", "await_leader", "add_server", "write", "read", "stop_server"):
        assert f">>> ExRaft.{call}(" in text
    assert ">>> crash(" in text
    assert ">>> Supervisor.start(" in text
    assert "raises Redirect" in text


def test_the_tree_is_drawn_with_what_was_started_again(story: tuple[bool, str, list[str]]) -> None:
    lines = story[1].splitlines()
    start = next(at for at, line in enumerate(lines) if ">>> print_tree(" in line)
    drawn = lines[start + 1 : start + 10]
    assert drawn[0].startswith(":shop  Supervisor one_for_one  running")
    restarted = [line for line in drawn if line.endswith(", 1 restart")]
    assert len(restarted) == 2
    assert sum("RaftServer  running" in line for line in restarted) == 1
    assert sum("mailer  Mailer  running" in line for line in restarted) == 1


def test_a_story_that_takes_another_turn_says_so() -> None:
    ExRaft.start_server(demo.KeyValueStore, name=demo.FOUNDERS[0])
    text = io.StringIO()
    assert not demo.tell(Console(file=text, soft_wrap=True), **PATIENT)
    assert "FAILED: AlreadyStarted: " in text.getvalue()


def test_a_check_that_fails_shows_in_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    ExRaft.start_server(demo.KeyValueStore, name=demo.FOUNDERS[0])
    assert cli.main(["demo"]) == 1
    assert "1 of 1 checks FAILED" in capsys.readouterr().out


def test_piped_the_demo_is_plain_text() -> None:
    result = run("demo")
    assert "\x1b" not in result.stdout
    assert " 1  Three servers start" in result.stdout
    assert result.stderr == ""
    assert (result.returncode == 0) == ("checks held" in result.stdout.splitlines()[-1])


def test_the_demo_can_be_shown_where_there_is_only_ascii() -> None:
    result = run("demo", PYTHONIOENCODING="ascii")
    assert "checks" in result.stdout.splitlines()[-1], result.stderr


def test_the_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "demo" in result.stdout
    assert "shell" in result.stdout


def test_an_unknown_command_is_an_error_that_names_the_known_ones() -> None:
    result = run("dmo")
    assert result.returncode == 2
    assert "dmo" in result.stderr
    assert "demo" in result.stderr
    assert "shell" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_command_is_an_error() -> None:
    result = run()
    assert result.returncode == 2
    assert "COMMAND" in result.stderr
