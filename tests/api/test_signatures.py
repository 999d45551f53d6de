"""The functions and options as they are documented: names, order and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import exraft
from exraft import ExRaft
from exraft.actors.transport import local
from exraft.client import Client
from exraft.options import DEFAULTS, make_spec
from exraft.raft import Options
from tests.helpers import KeyValueStore

TIMEOUTS: list[tuple[Callable[..., Any], list[str], float | None]] = [
    (ExRaft.stop_server, ["server", "reason", "timeout"], None),
    (ExRaft.await_leader, ["server", "timeout"], 60.0),
    (ExRaft.leader, ["server", "timeout"], 1.0),
    (ExRaft.state, ["server", "timeout"], 1.0),
    (ExRaft.ping, ["server", "timeout"], 1.0),
    (ExRaft.trigger_election, ["server", "timeout"], 1.0),
    (ExRaft.write, ["server", "command", "timeout"], 60.0),
    (ExRaft.read, ["server", "query", "timeout"], 60.0),
    (ExRaft.read_dirty, ["server", "query", "timeout"], 60.0),
    (ExRaft.add_server, ["server", "new_server", "timeout"], 60.0),
    (ExRaft.remove_server, ["server", "old_server", "timeout"], 60.0),
    (ExRaft.transfer_leadership, ["server", "to", "timeout"], 10.0),
    (ExRaft.snapshot, ["server", "timeout"], 60.0),
    (ExRaft.inspect, ["server", "flag", "timeout"], 1.0),
    (ExRaft.status, ["server", "timeout"], 1.0),
    (Client.write, ["self", "command", "timeout"], 60.0),
    (Client.read, ["self", "query", "timeout"], 60.0),
]


@pytest.mark.parametrize(
    ("function", "parameters", "timeout"), TIMEOUTS, ids=[each[0].__qualname__ for each in TIMEOUTS]
)
def test_a_call_has_the_documented_arguments_and_timeout(
    function: Callable[..., Any], parameters: list[str], timeout: float | None
) -> None:
    signature = inspect.signature(function)
    assert list(signature.parameters) == parameters
    assert signature.parameters["timeout"].default == timeout


def test_asynchronous_writes_take_no_timeout() -> None:
    assert list(inspect.signature(ExRaft.write_async).parameters) == ["server", "command"]
    assert list(inspect.signature(Client.write_async).parameters) == ["self", "command"]


def test_a_client_takes_servers() -> None:
    assert list(inspect.signature(ExRaft.client).parameters) == ["servers"]


def test_a_server_is_stopped_for_the_reason_normal_unless_told_otherwise() -> None:
    assert inspect.signature(ExRaft.stop_server).parameters["reason"].default == "normal"


def test_leadership_goes_to_the_most_up_to_date_voter_unless_told_otherwise() -> None:
    assert inspect.signature(ExRaft.transfer_leadership).parameters["to"].default is None


def test_start_server_takes_its_name_and_options_by_keyword_only() -> None:
    parameters = inspect.signature(ExRaft.start_server).parameters
    assert list(parameters) == ["machine", "init_arg", "name", "options"]
    assert parameters["name"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["name"].default is inspect.Parameter.empty
    assert parameters["options"].kind is inspect.Parameter.VAR_KEYWORD


def test_the_start_options_have_the_documented_defaults() -> None:
    assert DEFAULTS == {
        "initial_config": (),
        "min_majority": None,
        "min_election_timeout": 1.0,
        "max_election_timeout": 10.0,
        "heartbeat_timeout": 0.1,
        "batch_size": 100,
        "dirty_read": True,
        "debug": False,
        "max_command_bytes": 4 * 1024 * 1024,
        "max_uncommitted_bytes": 64 * 1024 * 1024,
        "max_restarts": 3,
        "max_seconds": 5.0,
        "data_dir": None,
        "snapshot_every": 100_000,
        "snapshot_bytes": 64 * 1024 * 1024,
        "keep_entries": 10_000,
    }


def test_every_option_reaches_the_server() -> None:
    spec = make_spec(
        KeyValueStore,
        {},
        ":raft1",
        {
            "initial_config": [":raft1", (":raft2", exraft.node())],
            "min_majority": 2,
            "min_election_timeout": 2,
            "max_election_timeout": 3.5,
            "heartbeat_timeout": 0.2,
            "batch_size": 7,
            "dirty_read": False,
            "debug": True,
            "max_command_bytes": 11,
            "max_uncommitted_bytes": 12,
            "max_restarts": 0,
            "max_seconds": 0.5,
            "data_dir": Path("data"),
            "snapshot_every": 13,
            "snapshot_bytes": None,
            "keep_entries": 0,
        },
        local,
    )
    assert spec.founders == (exraft.Peer(":raft1"), exraft.Peer(":raft2"))
    assert spec.options == Options(
        min_election_timeout=2.0,
        max_election_timeout=3.5,
        heartbeat_timeout=0.2,
        batch_size=7,
        min_majority=2,
        max_uncommitted_bytes=12,
        keep_entries=0,
    )
    assert (spec.dirty_read, spec.debug, spec.max_command_bytes) == (False, True, 11)
    assert (spec.max_restarts, spec.max_seconds) == (0, 0.5)
    assert (spec.data_dir, spec.snapshot_every, spec.snapshot_bytes) == (
        str(Path("data").absolute()),
        13,
        None,
    )


def test_the_package_exports_what_its_users_need() -> None:
    assert {
        "ActorRegistry",
        "ChildSpec",
        "ExRaft",
        "ExRaftError",
        "NOREPLY",
        "Peer",
        "RELEASE_CURSOR",
        "Role",
        "StateMachine",
        "Status",
        "maybe_applied",
        "node",
    } <= set(exraft.__all__)
    assert all(hasattr(exraft, name) for name in exraft.__all__)


def test_every_public_function_says_what_it_does_and_raises() -> None:
    for name, function in vars(ExRaft).items():
        if isinstance(function, staticmethod):
            assert function.__doc__, f"ExRaft.{name} has no docstring"
