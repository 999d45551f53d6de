from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from exraft import ExRaft, cli, distribution
from exraft.errors import ServerDown
from exraft.serve import tell_service_manager
from tests.helpers import LIMIT
from tests.serving import COOKIE, free_nodes, serving

MACHINE = "tests.serving:Pages"


@pytest.fixture
def _client() -> Iterator[None]:
    """This process calls servers elsewhere, with the cookie that they have."""
    distribution.connect(cookie=COOKIE)
    yield
    distribution.stop_node()


def test_a_server_serves_until_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _client: None
) -> None:
    place = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(place)
        manager.settimeout(LIMIT)
        with serving(":raft1", "--init", '{"/": 2}', "--data-dir", str(tmp_path)) as service:
            assert manager.recv(100) == b"READY=1"
            assert service.ready["event"] == "ready"
            assert (service.ready["name"], service.ready["node"]) == (":raft1", service.node)
            server = (":raft1", service.node)
            assert ExRaft.await_leader(server, LIMIT) == server
            assert ExRaft.write(server, "/", LIMIT) == 3
            assert service.await_event("role")["role"] in ("follower", "leader")
            service.signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert service.ended() == 0
            assert [line["event"] for line in service.log() if "event" in line][-2:] == [
                "stopping",
                "stopped",
            ]


def test_it_lets_itself_open_as_many_files_as_it_may(_client: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with serving(":raft1") as service:
            server = (":raft1", service.node)
            ExRaft.await_leader(server, LIMIT)
            assert ExRaft.read(server, "open files", LIMIT) == (hard, hard)
            # The second half of it: whoever types Ctrl-C gets the same end.
            service.signal(signal.SIGINT)
            assert service.ended() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_second_signal_ends_it_at_once() -> None:
    with serving(":raft1", machine="Stuck") as service:
        service.signal(signal.SIGTERM)
        service.await_event("stopping")
        service.signal(signal.SIGINT)
        assert service.ended() == 130


def test_an_end_that_takes_too_long_is_a_failure_that_says_so() -> None:
    with serving(":raft1", "--stop-timeout", "0.1", machine="Stuck") as service:
        service.signal(signal.SIGTERM)
        assert service.ended() == 1
        assert "has not stopped within 0.1 s" in service.log()[-1]["message"]


def test_when_the_supervisor_gives_up_the_process_ends_with_a_failure(_client: None) -> None:
    with serving(":raft1") as service:
        server = (":raft1", service.node)
        ExRaft.await_leader(server, LIMIT)
        with pytest.raises(ServerDown):
            ExRaft.write(server, "crash", LIMIT)
        assert service.ended() == 1
        assert service.await_event("gave_up")["level"] == "CRITICAL"
        # Tracebacks are in it, and each line is an object all the same.
        assert any("MemoryError" in line.get("traceback", "") for line in service.log())


def test_who_stops_the_server_by_a_call_ends_the_process_in_order(_client: None) -> None:
    with serving(":raft1") as service:
        ExRaft.stop_server((":raft1", service.node), timeout=LIMIT)
        assert service.ended() == 0


def test_nobody_need_wait_for_a_word_to_the_service_manager() -> None:
    tell_service_manager("READY=1", environment={})


def test_a_service_manager_with_an_abstract_name_is_told() -> None:
    name = f"exraft test {os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(LIMIT)
        tell_service_manager("READY=1", environment={"NOTIFY_SOCKET": f"@{name}"})
        assert manager.recv(100) == b"READY=1"


# What makes no sense, in this process: nothing of it gets as far as a node.


@pytest.fixture
def _own_log() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    logging.root.handlers.clear()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit status and what is said."""
    try:
        status = cli.main(["serve", *words])
    except SystemExit as end:
        status = int(str(end.code))
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return status, said.err


HERE = ["--name", ":raft1", "--node", "127.0.0.1:7001"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["Pages", *HERE], "write it like module:Machine"),
        (["no_such_module:Pages", *HERE], "No module named 'no_such_module'"),
        (["tests.serving:NoPages", *HERE], "tests.serving has no NoPages"),
        (["tests.serving:COOKIE", *HERE], "no state machine"),
        ([MACHINE, "--name", "raft1", "--node", "db-1:7001"], "such as ':raft1'"),
        ([MACHINE, "--name", ":raft1", "--node", "db-1"], "db-1:7001"),
        ([MACHINE, *HERE, "--bind", "nowhere"], "nowhere:7001"),
        ([MACHINE, *HERE, "--init", "{'a': 1}"], "is no JSON"),
        ([MACHINE, *HERE, "--peers", ":raft2@db-2:7001"], ":raft1@127.0.0.1:7001 is none of"),
        ([MACHINE, *HERE, "--peers", ":raft1,raft2"], "'raft2' is no name"),
        ([MACHINE, *HERE, "--peers", ":raft1,:raft2@db"], ":raft2@db-2:7001"),
        ([MACHINE, *HERE, "--min-majority", "0"], "1 or more"),
        ([MACHINE, *HERE, "--cookie-file", "a", "--keys", "b"], "not allowed with"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str], _own_log: None
) -> None:
    status, said = refused(capsys, *words)
    assert status == 2
    assert hint in said


def test_an_option_that_makes_no_sense_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, _own_log: None
) -> None:
    monkeypatch.setenv("EXRAFT_COOKIE", COOKIE)
    here = ["--name", ":raft1", "--node", free_nodes()[0]]
    status, said = refused(capsys, MACHINE, *here, "--heartbeat-timeout", "9")
    assert status == 2
    assert "heartbeat_timeout=9.0 is not below min_election_timeout" in said


def test_a_port_that_is_taken_is_a_failure_that_may_pass(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, _own_log: None
) -> None:
    monkeypatch.setenv("EXRAFT_COOKIE", COOKIE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = refused(capsys, MACHINE, "--name", ":raft1", "--node", node)
    assert status == 1
    assert node in said


def test_without_a_cookie_nobody_listens_to_other_hosts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    _own_log: None,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EXRAFT_COOKIE", raising=False)
    monkeypatch.delenv("EXRAFT_COOKIE_FILE", raising=False)
    status, said = refused(capsys, MACHINE, "--name", ":raft1", "--node", "192.0.2.1:7001")
    assert status == 1
    assert "keygen" in said


def test_a_directory_that_cannot_be_made_is_a_failure_that_may_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], _own_log: None
) -> None:
    (tmp_path / "file").write_text("")
    status, said = refused(capsys, MACHINE, *HERE, "--data-dir", str(tmp_path / "file" / "data"))
    assert status == 1
    assert str(tmp_path / "file") in said


def test_a_failure_is_an_object_a_line_too(
    capsys: pytest.CaptureFixture[str], _own_log: None
) -> None:
    status, said = refused(capsys, "tests.serving:NoPages", *HERE, "--log", "json")
    assert status == 2
    assert json.loads(said)["level"] == "ERROR"
