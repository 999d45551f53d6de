"""One call from the command line: its words, what is printed, and the exit status."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exraft import cli, codec, distribution
from tests.helpers import LIMIT
from tests.serving import COOKIE, Service, free_nodes, serving

Run = Callable[..., int]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving(":raft1") as one:
        yield one


@pytest.fixture(autouse=True)
def _caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EXRAFT_COOKIE", COOKIE)
    monkeypatch.setattr(distribution, "_given", (None, None))
    yield
    distribution._stop()


@pytest.fixture
def call(service: Service, capsys: pytest.CaptureFixture[str]) -> Run:
    """Make a call to the service; return the exit status."""

    def call(*words: str) -> int:
        return status_of("call", service.node, service.name, *words)

    assert call("await-leader") == 0
    capsys.readouterr()
    return call


def status_of(*words: str) -> int:
    """The exit status of a command line."""
    try:
        return cli.main(list(words))
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


# What is printed.


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["ping"], "pong"),
        (["state"], "leader"),
        (["read", '"/none"'], "null"),
        (["read", '"/none"', "--python"], "None"),
        (["read-dirty", "'/none'", "--python"], "None"),
        (["trigger-election"], ":raft1@{node} campaigns"),
        (["await-leader"], ":raft1@{node}"),
        (["leader"], ":raft1@{node}"),
        (["leader", "--json"], '":raft1@{node}"'),
        (["remove", ":raft7"], ":raft7@{node} is no member any more: stop it"),
    ],
)
def test_what_is_asked_is_printed(
    call: Run,
    service: Service,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    printed: str,
) -> None:
    assert call(*words) == 0
    assert said(capsys) == printed.format(node=service.node)


def test_a_write_prints_what_the_machine_answers(
    call: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("write", '"/a"') == 0
    assert said(capsys) == "1"
    assert call("write", "'/a'", "--python", "--no-follow") == 0
    assert said(capsys) == "2"
    monkeypatch.setattr("sys.stdin", io.StringIO('"/a"\n'))
    assert call("write", "-") == 0
    assert said(capsys) == "3"
    assert call("read", '"/a"', "--no-follow") == 0
    assert said(capsys) == "3"


def test_a_status_is_text_or_json(
    call: Run, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("status") == 0
    assert f"leader: :raft1 on {service.node}" in said(capsys)
    assert call("status", "--json") == 0
    status = json.loads(said(capsys))
    assert status["leader"] == f":raft1@{service.node}"
    assert status["role"] == "leader"


def test_a_backup_is_a_file_here(
    call: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("write", '"/b"') == 0
    assert call("snapshot") == 0
    capsys.readouterr()
    assert call("backup", str(tmp_path / "kept")) == 0
    assert int(said(capsys)) > 0
    assert (tmp_path / "kept").stat().st_size > 0
    assert call("backup", str(tmp_path / "kept")) == 1
    assert "is there already" in capsys.readouterr().err
    assert call("backup", str(tmp_path / "kept"), "--force") == 0


def test_who_is_stopped_is_there_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(":raft9") as other:
        words = ("call", other.node, other.name)
        assert status_of(*words, "await-leader") == 0
        assert status_of(*words, "stop") == 0
        assert f":raft9@{other.node} has stopped" in capsys.readouterr().out
        assert other.ended() == 0


def test_who_waits_for_a_leader_waits_for_its_server() -> None:
    [node] = free_nodes()
    found: list[int] = []
    words = ("call", node, ":raft8", "await-leader", "--timeout", str(LIMIT))
    waiter = threading.Thread(target=lambda: found.append(status_of(*words)))
    waiter.start()
    other = Service(":raft8", node)
    try:
        waiter.join(2 * LIMIT)
        assert found == [0]
    finally:
        other.close()


# What fails.


def test_who_waits_in_vain_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    [node] = free_nodes()
    assert status_of("call", node, ":raft8", "await-leader", "--timeout", "0.5") == 1
    assert "nothing answers there: is the node started?" in capsys.readouterr().err


def test_a_write_whose_reply_can_not_be_read_may_have_been_done(
    call: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took it for refused would repeat it."""
    try:
        assert call("write", '"/c"', "--no-follow", "--json", "--codec", "msgpack") == 3
    finally:
        codec.use("pickle")
    about = json.loads(capsys.readouterr().err)
    assert (about["maybe_applied"], about["refused_by_machine"]) == (True, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["write"], "write needs its COMMAND"),
        (["ping", "5"], "ping takes no argument, and '5' is one"),
        (["write", "tea"], "'tea' is no JSON"),
        (["write", "tea", "--python"], "'tea' is no literal of Python"),
        (["write", "[" * 100_000], "is no JSON"),
        (["add", "raft2"], "'raft2' is no name"),
        (["add", ":raft2@db"], "host:port"),
        (["pingg"], "invalid choice: 'pingg'"),
        (["ping", "--timeout", "soon"], "--timeout"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(
    call: Run, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert call(*words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("node", "name", "told"),
    [("db-1", ":raft1", "host:port"), ("db-1:7001", "raft1", "'raft1' is no name")],
)
def test_a_server_is_named_as_one(
    capsys: pytest.CaptureFixture[str], node: str, name: str, told: str
) -> None:
    assert status_of("call", node, name, "ping") == 2
    assert told in capsys.readouterr().err


def test_what_surely_was_not_done_ends_with_1(
    call: Run, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("call", service.node, ":nobody", "ping") == 1
    failure = capsys.readouterr().err
    assert f"there is no server :nobody on {service.node}" in failure
    assert "nothing was done" in failure
    assert call("transfer", ":raft7") == 1


def test_what_the_machine_raises_ends_with_4(call: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("write", '"raise"') == 4
    assert "ValueError: no such page" in capsys.readouterr().err
    assert call("write", '"raise"', "--json") == 4
    about = json.loads(capsys.readouterr().err)
    assert (about["error"], about["refused_by_machine"]) == ("ValueError", True)


def test_what_nobody_can_tell_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(":raft1") as stuck:
        where = ("call", stuck.node, stuck.name)
        assert status_of(*where, "await-leader") == 0
        assert status_of(*where, "write", '"hang"', "--timeout", "0.5") == 3
        assert "it may have been done, or may yet be" in capsys.readouterr().err


def test_a_wrong_cookie_is_asked_about(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXRAFT_COOKIE", "another one, of which nobody there knows 4711")
    assert status_of("call", service.node, service.name, "ping") == 1
    assert "is the cookie the same there?" in capsys.readouterr().err
