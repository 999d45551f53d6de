"""What can be asked for on the command line, and what a wrong word there is told.

Knows the commands, their arguments and the exit statuses: 0 when all went well, 1 when something
did not, 2 when the command line makes no sense. Must not know what a command does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from exraft.names import LOCAL_NODE, as_peer, check_name

_RESCUE = ("log", "backup", "restore", "recover", "rename")

INTERRUPTED = 130
"""The exit status of who was interrupted, as shells have it (128 + SIGINT)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    parser = _parser()
    arguments = _parsed(parser, argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        # Each command brings rich along, and the help must not wait for that.
        if arguments.command == "demo":
            from exraft import demo

            return demo.main(fast=arguments.fast)
        if arguments.command == "simulate":
            if arguments.trace and arguments.seed is None:
                parser.error("--trace shows one run: give --seed as well")
            from exraft import simulate

            return simulate.main(
                arguments.function,
                seeds=arguments.seeds,
                first=arguments.first,
                jobs=arguments.jobs,
                seed=arguments.seed,
                trace=arguments.trace,
            )
        if arguments.command == "cluster":
            from exraft import cluster

            return cluster.main(fast=arguments.fast)
        if arguments.command == "serve":
            return _serve(arguments)
        if arguments.command == "call":
            return _call(arguments)
        if arguments.command in _RESCUE:
            return _rescue(parser, arguments)
        if arguments.command == "keygen":
            return _keygen(parser, arguments)
        from exraft import shell

        return shell.main(arguments.script)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has had enough (`... | head`). What is left in the buffer goes
        # nowhere, or the interpreter would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    given, left = parser.parse_known_args(argv)
    # argparse takes an argument that may be missing for missing when an option stands before it.
    if given.command == "call" and given.argument is None and left and left[0][:1] != "-":
        given.argument = left.pop(0)
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    return given


def _use_cookie(file: str | None) -> None:
    if file is not None:
        # What is said on the command line goes before what stands in the environment.
        os.environ.pop("EXRAFT_COOKIE", None)
        os.environ["EXRAFT_COOKIE_FILE"] = file


def _serve(given: argparse.Namespace) -> int:
    from exraft import serve

    _use_cookie(given.cookie_file)
    names = (*(option for option, *_ in _START_OPTIONS), "dirty_read")
    chosen = {name: getattr(given, name) for name in names}
    return serve.main(
        given.machine,
        name=given.name,
        node=given.node,
        peers=given.peers,
        bind=given.bind,
        init=given.init,
        keys=given.keys,
        codec=given.codec,
        style=given.log,
        level=given.log_level,
        stop_timeout=given.stop_timeout,
        options={name: value for name, value in chosen.items() if value is not None},
    )


def _call(given: argparse.Namespace) -> int:
    from exraft import call

    _use_cookie(given.cookie_file)
    return call.main(
        given.node,
        given.name,
        given.action,
        given.argument,
        timeout=given.timeout,
        python=given.python,
        as_json=given.json,
        follow=given.follow,
        force=given.force,
        keys=given.keys,
        codec=given.codec,
    )


def _rescue(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from exraft.rescue import commands

    if given.command == "log":
        if given.decode and given.entries is None:
            parser.error("--decode is for entries: give --entries as well")
        return commands.look(given.path, given.entries, decoding=given.decode, as_json=given.json)
    if given.command == "backup":
        return commands.backup(given.path, given.file, force=given.force, as_json=given.json)
    if given.command == "restore":
        return commands.restore(
            given.file, given.data_dir, given.name, given.node, as_json=given.json
        )
    if given.command == "recover":
        return commands.recover(
            given.path,
            given.members,
            accepted=given.i_accept_data_loss,
            despite_damage=given.despite_damage,
            as_json=given.json,
        )
    return commands.rename(given.path, given.node, given.name, as_json=given.json)


def _keygen(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    if given.node is not None and given.keys is None:
        parser.error("--node is for a pair of keys: give --keys as well")
    from exraft.nodes import keygen

    return keygen.main(given.file, given.keys, given.node)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exraft",
        description="Raft consensus for Python, as named actors under supervision.",
    )
    parser.add_argument("--version", action="version", version=f"exraft {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a cluster elect, replicate, crash and recover",
        description="Watch a cluster of three, then four servers elect a leader, replicate, lose"
        " its leader and recover. The exit status is 0 only if everything held.",
    )
    demo.add_argument(
        "--fast", action="store_true", help="do not pause between steps on a terminal"
    )
    simulate = commands.add_parser(
        "simulate",
        help="let simulated clusters live through faults by the thousand",
        description="Run simulated clusters, each from a seed, on every core of this machine, until"
        " all is done or one fails; or look into one seed. The exit status is 0 only if everything"
        " held.",
    )
    simulate.add_argument(
        "function",
        nargs="?",
        help="a function that takes a seed and returns an exraft.testing.Simulation, as"
        " module:function; without it exraft tests itself",
    )
    simulate.add_argument(
        "--seeds", type=_positive, default=1000, metavar="N", help="how many (1000)"
    )
    simulate.add_argument(
        "--first", type=int, default=0, metavar="SEED", help="the first one of them (0)"
    )
    simulate.add_argument(
        "--jobs", type=_positive, metavar="N", help="processes (one for each core)"
    )
    simulate.add_argument(
        "--seed", type=int, metavar="SEED", help="run this one only, and shrink it if it fails"
    )
    simulate.add_argument(
        "--trace", action="store_true", help="with --seed: print everything that happens"
    )
    shell = commands.add_parser(
        "shell",
        help="type at a cluster of three servers",
        description="Type at a cluster of three servers, or let a script do so; 'help' there lists"
        " the commands. With a script, or lines from a pipe, the exit status is 1 if a line"
        " failed.",
    )
    shell.add_argument(
        "script", nargs="?", help="a file of commands, one a line; standard input without it"
    )
    _add_nodes(commands)
    _add_rescue(commands)
    _add_keygen(commands)
    return parser


def _add_nodes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cluster = commands.add_parser(
        "cluster",
        help="watch three processes be a cluster, and one of them killed",
        description="Start three processes with a server each on this machine, write to them, kill"
        " the leader's, start it again, and end all in order. The exit status is 0 only if"
        " everything held.",
    )
    cluster.add_argument(
        "--fast", action="store_true", help="do not pause between steps on a terminal"
    )
    _add_serve(commands)
    _add_call(commands)


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="run one server in a process of its own, as a service",
        description="Be a node, and run one server there until SIGTERM or SIGINT: then it hands"
        " over if it leads, and stops. A second signal ends it at once. The exit status is 0 after"
        " an orderly end, 1 if it could not start or go on, 2 if what was asked for makes no"
        " sense. The log goes to standard error, and one line to standard output when it is ready."
        " If $NOTIFY_SOCKET is set, systemd is told as well.",
    )
    serve.add_argument(
        "machine",
        metavar="MODULE:MACHINE",
        help="a subclass of exraft.StateMachine, or a function that makes one; modules are looked"
        " for in the working directory, too",
    )
    serve.add_argument("--name", type=_name, required=True, help="of the server, such as :raft1")
    serve.add_argument(
        "--node",
        required=True,
        metavar="HOST:PORT",
        help="this process, as the others reach it: a name of DNS is better than an address",
    )
    serve.add_argument(
        "--bind", metavar="HOST:PORT", help="where it listens, if that is another address or port"
    )
    serve.add_argument(
        "--peers",
        metavar="SERVER,...",
        help="the founding members, this one too, the same for all of them: such as"
        " :raft1@db-1:7001,:raft2@db-2:7001 (`:raft2` alone means this node). Without it, the"
        " server is alone; or waits to be added, with --min-majority 2",
    )
    serve.add_argument("--init", metavar="JSON", help="what the machine's init is given ([])")
    for option, kind, metavar, text in _START_OPTIONS:
        serve.add_argument("--" + option.replace("_", "-"), type=kind, metavar=metavar, help=text)
    serve.add_argument(
        "--no-dirty-read", action="store_const", const=False, dest="dirty_read", help="refuse it"
    )
    serve.add_argument(
        "--stop-timeout",
        type=_seconds,
        default=20.0,
        metavar="SECONDS",
        help="that an orderly end may take (20); let the service manager wait longer",
    )
    _add_secrets(serve)
    serve.add_argument("--log", choices=["human", "json"], default="human", help="(human)")
    serve.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], default="info", help="(info)"
    )


def _add_call(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    call = commands.add_parser(
        "call",
        help="make one call to a server of another process",
        description="Make one call to a server, from a process that is no node. The exit status is"
        " 0 when it was done, 1 when it failed and surely nothing was done, 2 when the command line"
        " makes no sense, 3 when it failed and may have been done, 4 when the state machine was"
        " asked and raised.",
        epilog="A COMMAND or QUERY is JSON, and so is the answer: '{\"put\": 1}'. With --python"
        ' both are literals of Python, which has tuples, sets and bytes: \'("put", "k", 1)\'.'
        " A SERVER is written :raft2@db-2:7001, or :raft2 if it is on the same node.",
    )
    call.add_argument("node", metavar="HOST:PORT", help="the node, as it is called by all")
    call.add_argument("name", type=_name, metavar=":NAME", help="of the server there")
    call.add_argument("action", choices=_ACTIONS, metavar="CALL", help=", ".join(_ACTIONS))
    call.add_argument(
        "argument",
        nargs="?",
        metavar="ARG",
        help="COMMAND of write, QUERY of read and read-dirty (`-`: from standard input), SERVER of"
        " add, remove and transfer, FILE of backup",
    )
    call.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="(10)")
    call.add_argument(
        "--python", action="store_true", help="ARG and the answer are literals of Python"
    )
    call.add_argument("--json", action="store_true", help="for programs")
    call.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let write, read, add, remove and transfer find the leader (they do)",
    )
    call.add_argument("--force", action="store_true", help="let backup replace a file")
    _add_secrets(call)


def _add_secrets(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--cookie-file",
        metavar="FILE",
        help="with the cluster's secret; else it is $EXRAFT_COOKIE, the file $EXRAFT_COOKIE_FILE,"
        " or ~/.exraft.cookie",
    )
    which.add_argument("--keys", metavar="DIR", help="with a key of this node's own instead")
    command.add_argument(
        "--codec",
        choices=["pickle", "msgpack", "json"],
        help="of commands and replies; the same on all nodes ($EXRAFT_CODEC, or pickle)",
    )


def _add_rescue(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    log = commands.add_parser(
        "log",
        help="show and verify what a server has stored",
        description="Show what is in a server's directory, in all that are below a data_dir, or in"
        " a backup, and verify every checksum. Nothing is changed and nothing is locked: a server"
        " may be at work on it. The exit status is 1 if anything is damaged.",
    )
    log.add_argument("path", metavar="DIR", help="a server's directory, a data_dir, or a backup")
    log.add_argument(
        "--entries",
        nargs="?",
        const=(0, None),
        type=_span,
        metavar="FIRST[:LAST]",
        help="show the log's entries as well: all, those from an index on, or up to another",
    )
    log.add_argument(
        "--decode",
        action="store_true",
        help="show the commands in them instead of their size. That unpickles them, which runs"
        " whatever code they name: only for what you trust",
    )
    backup = commands.add_parser(
        "backup",
        help="copy what a server knows to be committed into one file",
        description="Copy what a server's directory holds and knows to be committed, the newest"
        " snapshot and the entries after it, into one file. A server may be at work on it; a"
        " leader's has everything that was acknowledged before.",
    )
    backup.add_argument("path", metavar="DIR", help="a server's directory")
    backup.add_argument("file", metavar="FILE", help="that is written")
    backup.add_argument("--force", action="store_true", help="replace the file if it is there")
    restore = commands.add_parser(
        "restore",
        help="begin a new cluster with what is in a backup",
        description="Make the directory of the first server of a new cluster from a backup. Start"
        " it, then add the others.",
    )
    restore.add_argument("file", metavar="FILE", help="a backup")
    restore.add_argument("data_dir", metavar="DATA_DIR", help="below which the directory is made")
    restore.add_argument("--name", type=_name, required=True, help="of the server, such as :new1")
    restore.add_argument(
        "--node", type=_node, default=LOCAL_NODE, help=f"that it will run on ({LOCAL_NODE})"
    )
    recover = commands.add_parser(
        "recover",
        help="begin a new cluster with what one server of a lost one has left",
        description="Make the directory of a server whose cluster has lost its majority for good"
        " that of the first server of a new cluster. What the others had and this one has not is"
        " lost; what this one has and was never committed is committed. Stop all servers first, and"
        " take the directory whose log is the longest (`log` says so). The old one is kept beside"
        " it.",
    )
    recover.add_argument("path", metavar="DIR", help="the server's directory")
    recover.add_argument(
        "--members",
        type=_names,
        required=True,
        metavar=":NAME[,:NAME...]",
        help="of the new cluster: this server, and any who will start with empty directories",
    )
    recover.add_argument(
        "--i-accept-data-loss",
        action="store_true",
        help="without it nothing is done, and it is said what would be",
    )
    recover.add_argument(
        "--despite-damage",
        action="store_true",
        help="go on from what can be read of a damaged directory",
    )
    rename = commands.add_parser(
        "rename",
        help="let what was written before a process had a node go on under it",
        description="Change the node's name in a server's directory, or in all below a data_dir:"
        " whose it is, whom it voted for, and every configuration. All members' directories must be"
        " changed alike, with all servers stopped. The old ones are kept beside.",
    )
    rename.add_argument("path", metavar="DIR", help="a server's directory, or a data_dir")
    rename.add_argument(
        "--node", type=_node, required=True, metavar="HOST:PORT", help="such as db-1:7001"
    )
    rename.add_argument(
        "--name", type=_name, help="another name for a server that is its cluster's only member"
    )
    for each in (log, backup, restore, recover, rename):
        each.add_argument("--json", action="store_true", help="for programs")


def _add_keygen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keygen = commands.add_parser(
        "keygen",
        help="make the secret by which nodes know each other",
        description="Print a cookie for all nodes, or write it into a file that only its owner can"
        " read. Or make a pair of keys for one node, where single nodes are to be shut out later.",
    )
    what = keygen.add_mutually_exclusive_group()
    what.add_argument("--file", metavar="PATH", help="write a cookie there; a file stays as it is")
    what.add_argument("--keys", metavar="DIR", help="make a pair of keys there, and a list of keys")
    keygen.add_argument(
        "--node", type=_node, metavar="NODE", help="with --keys: whose they are, as db-1:7001"
    )


def _span(text: str) -> tuple[int, int | None]:
    first, colon, last = text.partition(":")
    if not first.isdecimal() or (last and not last.isdecimal()) or (colon and not last):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like FIRST or FIRST:LAST, as in 1:100; DIR comes before --entries"
        )
    return int(first), int(last) if last else None


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> list[str]:
    return [_name(each.strip()) for each in text.split(",")]


def _node(text: str) -> str:
    try:
        return as_peer((":server", text)).node
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _version() -> str:
    try:
        return version("exraft")
    except PackageNotFoundError:
        return "(not installed)"


_START_OPTIONS: tuple[tuple[str, Callable[[str], object], str, str], ...] = (
    ("data_dir", str, "DIR", "where it stores, in a directory of its own (in memory)"),
    ("min_majority", _positive, "N", "raises the quorum; 2, without --peers: wait to be added"),
    ("min_election_timeout", _seconds, "SECONDS", "without a leader, at least (1)"),
    ("max_election_timeout", _seconds, "SECONDS", "without a leader, at most (10)"),
    ("heartbeat_timeout", _seconds, "SECONDS", "between messages of an idle leader (0.1)"),
    ("batch_size", _positive, "N", "most entries in a message (100)"),
    ("max_command_bytes", _positive, "BYTES", "the largest command (4 MiB)"),
    ("max_uncommitted_bytes", _positive, "BYTES", "commands that wait for a quorum (64 MiB)"),
    ("snapshot_every", _positive, "N", "entries after which a snapshot is taken (100,000)"),
    ("snapshot_bytes", _positive, "BYTES", "of log after which one is taken (64 MiB)"),
    ("keep_entries", _whole, "N", "that stay after a snapshot (10,000)"),
    ("max_restarts", _whole, "N", "deaths of the server before the process ends (3) ..."),
    ("max_seconds", _seconds, "SECONDS", "... in so many seconds (5)"),
)
"""Start options of a server that `serve` takes, and nobody else."""

_ACTIONS = (
    "write",
    "read",
    "read-dirty",
    "status",
    "leader",
    "await-leader",
    "ping",
    "state",
    "add",
    "remove",
    "transfer",
    "trigger-election",
    "snapshot",
    "backup",
    "stop",
)
