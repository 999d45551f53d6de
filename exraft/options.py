"""What may be set when a server is started, and what a wrong value is told.

Knows every start option with its default and its limits. Must not know what the options do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from os import PathLike
from typing import Any, TypedDict

from exraft.actors.spec import ServerSpec
from exraft.actors.transport import Transport
from exraft.codec import encode_at_home
from exraft.errors import OptionError
from exraft.limits import count_fault, duration_fault
from exraft.machine import check_machine
from exraft.names import LOCAL_NODE, Peer, Server, as_peer, check_name, node
from exraft.nodes.wire import LARGEST_VALUE
from exraft.raft import Options


class StartOptions(TypedDict, total=False):
    """The start options, for type checkers; see `ExRaft.start_server` for their meaning."""

    initial_config: Iterable[Server] | None
    min_majority: int | None
    min_election_timeout: float
    max_election_timeout: float
    heartbeat_timeout: float
    batch_size: int
    dirty_read: bool
    debug: bool
    max_command_bytes: int
    max_uncommitted_bytes: int
    max_restarts: int
    max_seconds: float
    data_dir: str | PathLike[str] | None
    snapshot_every: int | None
    snapshot_bytes: int | None
    keep_entries: int


DEFAULTS: Mapping[str, Any] = {
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


def make_spec(
    machine: object, init_arg: Any, name: object, options: Mapping[str, Any], transport: Transport
) -> ServerSpec:
    """Check everything that `start_server` was given, before anything starts.

    Raises:
        ValueError: the name is no name, or an option is unknown or makes no sense (`OptionError`).
        TypeError: `machine` is not a `StateMachine` class or a factory of such.
        NotSerialisable: `init_arg` can't be serialised.
    """
    factory = check_machine(machine)
    me = Peer(check_name(name), node())
    for option in options:
        if option not in DEFAULTS:
            raise OptionError(_unknown(option))
    given = {**DEFAULTS, **options}
    if given["initial_config"] is None:
        given["initial_config"] = ()
    founders = _founders(me, given["initial_config"], transport)
    min_majority = given["min_majority"]
    if min_majority is not None:
        _check("min_majority", count_fault(min_majority, least=1))
        if given["initial_config"] and min_majority > len(founders):
            raise OptionError(
                f"min_majority={min_majority} is above the {len(founders)} servers of"
                " initial_config: they could never elect a leader"
            )
    for option in ("min_election_timeout", "max_election_timeout", "heartbeat_timeout"):
        _check(option, duration_fault(given[option]))
    _check("max_seconds", duration_fault(given["max_seconds"]))
    if given["min_election_timeout"] > given["max_election_timeout"]:
        raise OptionError(
            f"min_election_timeout={given['min_election_timeout']} is above"
            f" max_election_timeout={given['max_election_timeout']}"
        )
    if given["heartbeat_timeout"] >= given["min_election_timeout"]:
        raise OptionError(
            f"heartbeat_timeout={given['heartbeat_timeout']} is not below"
            f" min_election_timeout={given['min_election_timeout']}: followers would hold"
            " elections between two heartbeats. Both are in seconds; a tenth of it is usual"
        )
    for option in ("batch_size", "max_command_bytes", "max_uncommitted_bytes"):
        _check(option, count_fault(given[option], least=1))
    for option in ("max_restarts", "keep_entries"):
        _check(option, count_fault(given[option], least=0))
    for option in ("snapshot_every", "snapshot_bytes"):
        if given[option] is not None:
            _check(option, count_fault(given[option], least=1))
    for option in ("dirty_read", "debug"):
        if not isinstance(given[option], bool):
            raise OptionError(f"{option} is True or False, not {given[option]!r}")
    if given["max_command_bytes"] > LARGEST_VALUE:
        raise OptionError(
            f"max_command_bytes={given['max_command_bytes']} is above {LARGEST_VALUE}, which is all"
            " that can get to a server of another node: keep elsewhere what is so large, and write"
            " where it is"
        )
    if given["max_command_bytes"] > given["max_uncommitted_bytes"]:
        raise OptionError("max_command_bytes is above max_uncommitted_bytes")
    return ServerSpec(
        peer=me,
        machine=factory,
        init_arg=encode_at_home(init_arg),
        founders=founders,
        options=Options(
            min_election_timeout=float(given["min_election_timeout"]),
            max_election_timeout=float(given["max_election_timeout"]),
            heartbeat_timeout=float(given["heartbeat_timeout"]),
            batch_size=given["batch_size"],
            min_majority=1 if min_majority is None else min_majority,
            max_uncommitted_bytes=given["max_uncommitted_bytes"],
            keep_entries=given["keep_entries"],
        ),
        dirty_read=given["dirty_read"],
        debug=given["debug"],
        max_command_bytes=given["max_command_bytes"],
        max_restarts=given["max_restarts"],
        max_seconds=float(given["max_seconds"]),
        data_dir=_directory(given["data_dir"]),
        snapshot_every=given["snapshot_every"],
        snapshot_bytes=given["snapshot_bytes"],
    )


def _unknown(option: str) -> str:
    close = get_close_matches(option, DEFAULTS, n=1)
    hint = f": did you mean {close[0]}?" if close else f": there are {', '.join(DEFAULTS)}"
    return f"there is no start option {option}{hint}"


def _founders(me: Peer, initial_config: object, transport: Transport) -> tuple[Peer, ...]:
    if isinstance(initial_config, str | Peer) or not isinstance(initial_config, Iterable):
        raise OptionError(
            f"initial_config is a list of names or peers, such as [':raft1', ':raft2'],"
            f" not {initial_config!r}"
        )
    founders: list[Peer] = []
    for server in initial_config:
        try:
            peer = as_peer(server)
        except ValueError as error:
            raise OptionError(f"initial_config: {error}") from None
        if not transport.reaches(peer.node):
            raise OptionError(f"initial_config: {peer}: {unreachable(peer.node)}")
        if peer in founders:
            raise OptionError(f"initial_config names {peer} twice")
        founders.append(peer)
    # All founding members must agree on the order, and this one may not have named itself.
    return tuple(founders) if me in founders else (me, *founders)


def unreachable(name: str) -> str:
    """What to tell who names a server on a node that can't be reached from here."""
    if name == LOCAL_NODE:
        return f"this process is the node {node()}, and {LOCAL_NODE} is no node to others"
    if node() == LOCAL_NODE:
        return "this process is no node: call exraft.start_node first, with its own host:port"
    return f"{name!r} is no node: a node is host:port, such as {node()!r}"


def _directory(data_dir: object) -> str | None:
    """An absolute path, so that it stays the same; the disk is not touched."""
    if data_dir is None:
        return None
    path = _path_of(data_dir)
    if not path or "\0" in path:
        raise OptionError(f"data_dir={data_dir!r} is no path")
    return os.path.abspath(path)


def _path_of(data_dir: object) -> str:
    path = os.fspath(data_dir) if isinstance(data_dir, PathLike) else data_dir
    if not isinstance(path, str):
        raise OptionError(
            f"data_dir is a path, such as './data', or None for memory, not {data_dir!r}"
        )
    return path


def _check(option: str, fault: str | None) -> None:
    if fault is not None:
        raise OptionError(f"{option}: {fault}")
