from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exraft import ActorRegistry, ExRaft, Role
from exraft.shell import Mistake, Shell

ROOT = Path(__file__).parent.parent
LIMIT = 60.0


class Session:
    """A shell whose words can be looked at."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.err = io.StringIO()
        self.shell = Shell(self.out, self.err)
        self.shell.begin()

    def __call__(self, line: str) -> str:
        """What the shell says to a line."""
        start = self.out.tell()
        self.shell.obey(line)
        self.out.seek(start)
        return self.out.read().strip()


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.shell.end()
    assert ActorRegistry.names() == []


def leader() -> str:
    return ExRaft.await_leader(":raft1", timeout=LIMIT).name


def follower() -> str:
    return next(name for name in (":raft1", ":raft2", ":raft3") if name != leader())


def run(lines: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exraft", "shell", *arguments],
        input=lines,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )


# Typing


def test_what_was_put_can_be_got(session: Session) -> None:
    assert session("put colour blue") == "ok, version 1"
    assert session("put colour red") == "ok, version 2"
    assert session("get colour") == "red"
    assert session("get shape") == "(not set)"


def test_quotes_keep_blanks_together_and_a_hash_begins_a_comment(session: Session) -> None:
    session("put 'a key' \"a value\"  # and no more")
    assert session("get 'a key'") == "a value"
    assert session("# nothing") == ""
    assert session("   ") == ""


def test_a_put_at_a_follower_is_redirected(session: Session) -> None:
    with pytest.raises(Mistake, match=f"another server leads: call {leader()}"):
        session(f"put colour red {follower()}")


def test_status_shows_every_server(session: Session) -> None:
    stopped = follower()
    session(f"stop {stopped}")
    rows = {row.split()[0]: row.split()[1] for row in session("status").splitlines()[2:]}
    assert rows.keys() == {":raft1", ":raft2", ":raft3"}
    assert rows[stopped] == "stopped"
    assert "leader" in rows.values()


def test_a_crashed_server_is_started_again_with_what_it_had(session: Session) -> None:
    session("put colour blue")
    assert "crashed and was started again" in session(f"crash {leader()}")
    assert session("get colour") == "blue"


def test_the_tree_shows_a_server_and_its_restarts_under_its_supervisor(session: Session) -> None:
    name = follower()
    session(f"crash {name}")
    lines = session("tree").splitlines()
    place = next(at for at, line in enumerate(lines) if f":ExRaft.Supervisor.{name[1:]} " in line)
    assert len(lines) == 6
    assert f"{name}  RaftServer  running" in lines[place + 1]
    assert [", 1 restart" in line for line in lines] == [at == place + 1 for at in range(6)]


def test_there_is_no_tree_without_a_server(session: Session) -> None:
    for name in (":raft1", ":raft2", ":raft3"):
        session(f"stop {name}")
    with pytest.raises(Mistake, match="no server runs"):
        session("tree")


def test_a_server_that_crashes_too_often_is_given_up(session: Session) -> None:
    name = follower()
    with pytest.raises(Mistake, match="crashed too often"):
        for _ in range(5):
            session(f"crash {name}")
    assert ActorRegistry.get_by_name(name) is None


def test_an_elected_server_leads(session: Session) -> None:
    name = follower()
    assert f"{name} leads" in session(f"elect {name}")


def test_leadership_is_handed_over(session: Session) -> None:
    name = follower()
    assert session(f"transfer {name}") == f"{name} leads"
    assert session("transfer") != f"{name} leads"


def test_add_starts_a_server_and_makes_it_a_member(session: Session) -> None:
    session("put colour blue")
    assert "members: :raft1, :raft2, :raft3, :raft4" in session("add :raft4")
    assert ExRaft.status(":raft4").last_index > 0


def test_a_removed_server_is_no_member(session: Session) -> None:
    name = follower()
    assert name not in session(f"remove {name}")
    with pytest.raises(Mistake, match=f"{name} is no member"):
        session(f"remove {name}")


def test_a_stopped_member_comes_back_empty_and_is_added_again(session: Session) -> None:
    session("put colour blue")
    name = follower()
    session(f"stop {name}")
    assert "waits" in session(f"start {name}")
    assert "waiting" in session("status")
    session(f"add {name}")
    session("put colour red")
    assert ExRaft.state(name) is Role.FOLLOWER


def test_when_all_were_stopped_they_found_a_new_cluster(session: Session) -> None:
    session("put colour blue")
    for name in (":raft1", ":raft2", ":raft3"):
        session(f"stop {name}")
    with pytest.raises(Mistake, match="no server runs"):
        session("get colour")
    for name in (":raft1", ":raft2", ":raft3"):
        assert "as one of" in session(f"start {name}")
    leader()
    assert session("get colour") == "(not set)"


def test_help_lists_every_command(session: Session) -> None:
    text = session("help")
    for word in ("put", "get", "status", "crash", "stop", "elect", "add", "remove", "start"):
        assert f"{word} " in text
    assert "tree " in text
    for usage in ("put KEY VALUE [SERVER]", "transfer [SERVER]", "log [SERVER]", "quit"):
        assert usage in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("put colour", "put is used like this: put KEY VALUE"),
        ("crash", "crash is used like this: crash SERVER"),
        ("status please", "status is used like this: status"),
        ("ptu colour blue", "did you mean put?"),
        ("frobnicate", "'help' lists"),
        ("put 'colour", "no closing quotation"),
        ("crash raft1", "such as ':raft1'"),
        ("add raft4", "such as ':raft4'"),
        ("stop :nobody", "there is no server :nobody"),
        ("crash :ExRaft.Supervisor.raft1", "there is no server"),
        ("put a b :nobody", "there is no server :nobody"),
        ("start :raft1", ":raft1 runs already"),
    ],
)
def test_a_wrong_line_is_told_what_is_wrong(session: Session, line: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        session(line)
    assert message in str(caught.value)


# Lines from a pipe or a file


def test_lines_come_from_a_pipe() -> None:
    result = run("put colour blue\nget colour\n")
    assert result.stdout == "ok, version 1\nblue\n"
    assert result.stderr == ""
    assert result.returncode == 0


def test_a_line_that_fails_is_named_and_the_next_ones_are_done() -> None:
    result = run("# a comment\nput colour blue\nbad line\nget colour\nstop :nobody")
    assert result.stdout.endswith("blue\n")
    errors = result.stderr.splitlines()
    assert errors[0].startswith("line 3: there is no command 'bad'")
    assert errors[1].startswith("line 5: there is no server :nobody")
    assert len(errors) == 2
    assert result.returncode == 1


def test_quit_ends_a_script() -> None:
    result = run("quit\nbad line\n")
    assert result.returncode == 0
    assert result.stderr == ""


def test_an_empty_pipe_is_no_error() -> None:
    assert run("").returncode == 0


def test_lines_come_from_a_file(tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("put colour blue\nget colour # and show it\nlog\n", encoding="utf-8")
    result = run("", str(script))
    assert "blue" in result.stdout
    assert "command ('put', 'colour', 'blue')" in result.stdout
    assert result.returncode == 0


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    result = run("", str(tmp_path / "none.txt"))
    assert result.returncode == 2
    assert "none.txt" in result.stderr
    assert "Traceback" not in result.stderr


def test_bytes_that_are_no_text_are_an_error_of_their_line() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "exraft", "shell"],
        input=b"put colour blue\n\xff\xfe\x00\nget colour\n",
        capture_output=True,
        timeout=LIMIT,
        cwd=ROOT,
        check=False,
    )
    assert result.stdout.endswith(b"blue\n") or result.stdout.endswith(b"blue\r\n")
    assert b"line 2: " in result.stderr
    assert b"Traceback" not in result.stderr
    assert result.returncode == 1


def test_a_crash_is_reported_in_a_line_and_no_traceback() -> None:
    result = run("crash :raft1\n")
    assert "log: :raft1, child of :ExRaft.Supervisor.raft1, has ended" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == 0
