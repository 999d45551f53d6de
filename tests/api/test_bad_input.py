"""What makes no sense is refused with a message that helps, before anything starts or is logged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, StateMachine, maybe_applied
from exraft.errors import (
    CommandTooLarge,
    ExRaftError,
    NotSerialisable,
    OptionError,
    ServerNotFound,
    StartFailed,
)
from tests.helpers import KeyValueStore, start

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"min_election_timeut": 1}, "did you mean min_election_timeout"),
    ({"colour": "red"}, "no start option colour: there are initial_config"),
    ({"min_election_timeout": 1000}, r"milliseconds, exraft seconds: did you mean 1\.0\?"),
    (
        {"max_election_timeout": 10_000},
        r"max_election_timeout: 10000 seconds.*did you mean 10\.0\?",
    ),
    ({"max_seconds": 5000}, r"did you mean 5\.0\?"),
    ({"heartbeat_timeout": 0}, "heartbeat_timeout: a number of seconds above 0 is wanted, not 0"),
    ({"heartbeat_timeout": -0.1}, "seconds above 0"),
    ({"heartbeat_timeout": float("nan")}, "seconds above 0"),
    ({"max_election_timeout": float("inf")}, "seconds above 0"),
    ({"max_election_timeout": True}, "a number of seconds is wanted, not True"),
    ({"max_election_timeout": "10"}, "a number of seconds is wanted, not '10'"),
    ({"max_election_timeout": None}, "a number of seconds is wanted, not None"),
    ({"heartbeat_timeout": 1.0}, "heartbeat_timeout=1.0 is not below min_election_timeout=1.0"),
    (
        {"min_election_timeout": 11.0},
        "min_election_timeout=11.0 is above max_election_timeout=10.0",
    ),
    ({"batch_size": 0}, "batch_size: a whole number from 1 on is wanted, not 0"),
    ({"batch_size": 1.5}, "a whole number from 1 on is wanted, not 1.5"),
    ({"batch_size": True}, "a whole number from 1 on is wanted, not True"),
    ({"max_command_bytes": 0}, "max_command_bytes: a whole number"),
    ({"max_uncommitted_bytes": "many"}, "max_uncommitted_bytes: a whole number"),
    ({"max_command_bytes": 100, "max_uncommitted_bytes": 99}, "is above max_uncommitted_bytes"),
    (
        {"max_command_bytes": 1 << 28, "max_uncommitted_bytes": 1 << 30},
        "all that can get to a server of another node",
    ),
    ({"max_restarts": -1}, "max_restarts: a whole number from 0 on"),
    ({"min_majority": 0}, "min_majority: a whole number from 1 on"),
    (
        {"min_majority": 3, "initial_config": [":raft1", ":raft2"]},
        "min_majority=3 is above the 2 servers of initial_config",
    ),
    ({"dirty_read": "yes"}, "dirty_read is True or False, not 'yes'"),
    ({"debug": 1}, "debug is True or False, not 1"),
    ({"initial_config": ":raft2"}, "a list of names or peers.*not ':raft2'"),
    ({"initial_config": 3}, "a list of names or peers"),
    ({"initial_config": [":raft2", "raft3"]}, "'raft3' is no name.*':raft3'"),
    ({"initial_config": [":raft2", ":raft2"]}, "names :raft2 twice"),
    ({"initial_config": [(":raft2", "far@away")]}, ":raft2 on far@away: this process is no node"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[each[1] for each in OPTIONS])
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as raised:
        ExRaft.start_server(KeyValueStore, {}, name=":raft1", **options)
    assert isinstance(raised.value, ValueError)
    assert raised.value.reason == "bad_option"
    assert ActorRegistry.names() == []


def test_the_longest_duration_is_three_hundred_seconds() -> None:
    start(":raft1", max_election_timeout=300)
    with pytest.raises(OptionError, match="longer than 300 s"):
        start(":raft2", max_election_timeout=300.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raft1", "such as ':raft1'"),
        (":", "such as ':raft1'"),
        ("", "such as ':raft1'"),
        (":raft 1", "without whitespace, such as ':raft1'"),
        (":raft1\n", "without whitespace"),
        (1, "not 1"),
        (None, "not None"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is_right(name: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExRaft.start_server(KeyValueStore, {}, name=name)
    assert ActorRegistry.names() == []


def test_a_server_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="name"):
        ExRaft.start_server(KeyValueStore, {})  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (KeyValueStore(), "give the class KeyValueStore"),
        (dict, "dict is no subclass of exraft.StateMachine"),
        (StateMachine, "lacks handle_read and handle_write"),
        ("KeyValueStore", "no state machine: give a subclass"),
        (None, "no state machine"),
        (lambda size: KeyValueStore(), "can't be called without arguments"),
    ],
)
def test_a_machine_that_is_none_is_refused(machine: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ExRaft.start_server(machine, {}, name=":raft1")
    assert ActorRegistry.names() == []


def test_a_factory_that_makes_no_machine_fails_the_start() -> None:
    def build() -> Any:
        return {}

    with pytest.raises(StartFailed, match=r"build returned \{\}, which is no instance"):
        ExRaft.start_server(build, name=":raft1")
    assert ActorRegistry.names() == []


def test_an_init_arg_that_cannot_be_serialised_is_refused() -> None:
    with pytest.raises(NotSerialisable, match="lock"):
        ExRaft.start_server(KeyValueStore, {"lock": threading.Lock()}, name=":raft1")
    assert ActorRegistry.names() == []


def test_a_command_that_cannot_be_serialised_is_refused_at_the_caller() -> None:
    raft1 = start(":raft1")
    before = ExRaft.status(raft1).last_index
    client = ExRaft.client([raft1])
    writes: list[Callable[[Any], Any]] = [
        partial(ExRaft.write, raft1),
        partial(ExRaft.write_async, raft1),
        client.write,
        client.write_async,
    ]
    for write in writes:
        with pytest.raises(NotSerialisable, match="without locks") as raised:
            write(("put", "lock", threading.Lock()))
        assert raised.value.reason == "not_serialisable"
        assert not maybe_applied(raised.value)
    assert ExRaft.status(raft1).last_index == before


def test_a_command_that_is_too_large_is_refused_at_the_caller() -> None:
    raft1 = start(":raft1", max_command_bytes=1000)
    before = ExRaft.status(raft1).last_index
    with pytest.raises(CommandTooLarge, match="the limit is 1000: split it") as raised:
        ExRaft.write_async(raft1, ("put", "k", "x" * 1000))
    assert raised.value.limit == 1000
    assert raised.value.size > 1000
    assert raised.value.reason == "command_too_large"
    assert not maybe_applied(raised.value)
    assert ExRaft.status(raft1).last_index == before
    assert ExRaft.write(raft1, ("put", "k", "x" * 900)) == "ok"


def _beside(server: Any) -> Any:
    """Another server of the same node."""
    return (":raft2", server[1]) if isinstance(server, tuple) else ":raft2"


CALLS: list[Callable[..., Any]] = [
    ExRaft.stop_server,
    ExRaft.await_leader,
    ExRaft.leader,
    ExRaft.state,
    ExRaft.ping,
    ExRaft.trigger_election,
    ExRaft.status,
    ExRaft.transfer_leadership,
    lambda server, **kw: ExRaft.write(server, ("put", 1, 1), **kw),
    lambda server, **kw: ExRaft.read(server, 1, **kw),
    lambda server, **kw: ExRaft.read_dirty(server, 1, **kw),
    lambda server, **kw: ExRaft.add_server(server, _beside(server), **kw),
    lambda server, **kw: ExRaft.remove_server(server, ":raft2", **kw),
    lambda server, **kw: ExRaft.inspect(server, "log", **kw),
]
IDS = [
    *(call.__name__ for call in CALLS[:8]),
    *("write", "read", "read_dirty", "add_server", "remove_server", "inspect"),
]


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_a_call_to_a_name_that_nobody_has_fails_at_once(call: Callable[..., Any]) -> None:
    with pytest.raises(ServerNotFound, match="no server :nobody: start it") as raised:
        call(":nobody")
    error = raised.value
    assert isinstance(error, LookupError)
    assert isinstance(error, pykka.ActorDeadError)
    assert isinstance(error, ExRaftError)
    assert error.reason == "noproc"
    assert not maybe_applied(error)


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_a_call_to_an_unknown_node_fails_at_once(call: Callable[..., Any]) -> None:
    start(":raft1")
    with pytest.raises(ServerNotFound, match="'far@away' is no address"):
        call((":raft1", "far@away"))


@pytest.mark.parametrize("call", CALLS, ids=IDS)
@pytest.mark.parametrize(
    ("server", "message"),
    [("raft1", "such as ':raft1'"), (7, "such as ':raft1'"), ((":a", ""), "no node")],
)
def test_a_call_to_what_is_no_server_is_refused(
    call: Callable[..., Any], server: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(server)


@pytest.mark.parametrize("call", CALLS, ids=IDS)
@pytest.mark.parametrize("timeout", ["1", True, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(call: Callable[..., Any], timeout: Any) -> None:
    raft1 = start(":raft1")
    with pytest.raises(ValueError, match="number of seconds"):
        call(raft1, timeout=timeout)
    assert ExRaft.ping(raft1) == "pong"


@pytest.mark.parametrize(
    ("change", "server", "message"),
    [
        (ExRaft.add_server, "raft2", "such as ':raft2'"),
        (ExRaft.remove_server, "raft2", "such as ':raft2'"),
        (ExRaft.transfer_leadership, "raft2", "such as ':raft2'"),
        (ExRaft.add_server, (":raft2", "far@away"), "on far@away: this process is no node"),
    ],
)
def test_a_change_that_names_no_server_is_refused_before_it_is_logged(
    change: Callable[..., Any], server: Any, message: str
) -> None:
    raft1 = start(":raft1")
    before = ExRaft.status(raft1).last_index
    with pytest.raises(ValueError, match=message):
        change(raft1, server)
    assert ExRaft.status(raft1).last_index == before


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ([], "at least one server"),
        (":raft1", r"a list of servers, such as \[':raft1'\]"),
        (["raft1"], "such as ':raft1'"),
    ],
)
def test_a_client_of_no_servers_is_refused(servers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExRaft.client(servers)


def test_inspect_prints_nothing_but_the_context_and_the_log() -> None:
    start(":raft1")
    with pytest.raises(ValueError, match="'context' or 'log', not 'state'"):
        ExRaft.inspect(":raft1", "state")


def test_nothing_of_a_refused_start_is_made() -> None:
    made: list[KeyValueStore] = []

    def build() -> KeyValueStore:
        made.append(KeyValueStore())
        return made[-1]

    with pytest.raises(OptionError):
        ExRaft.start_server(build, name=":raft1", batch_size=0)
    assert made == []
    ExRaft.start_server(partial(build), {}, name=":raft1")
    assert len(made) == 1


def test_an_initial_config_of_none_is_as_good_as_none_at_all() -> None:
    start(":raft1", initial_config=None)
    assert ExRaft.await_leader(":raft1", 30.0).name == ":raft1"
