"""What can be asked for on the command line, and what a wrong word there is told.

Knows the commands, their arguments and the exit statuses: 0 when all went well, 1 when something
did not, 2 when the command line makes no sense. Must not know what a command does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from exraft.names import LOCAL_NODE, as_peer, check_name

_RESCUE = ("log", "backup", "restore", "recover", "rename")

INTERRUPTED = 130
"""The exit status of who was interrupted, as shells have it (128 + SIGINT)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
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
        if arguments.command in _RESCUE:
            return _rescue(parser, arguments)
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
    _add_rescue(commands)
    return parser


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
    rename.add_argument("--node", type=_node, required=True, help="such as shop@host1")
    rename.add_argument(
        "--name", type=_name, help="another name for a server that is its cluster's only member"
    )
    for each in (log, backup, restore, recover, rename):
        each.add_argument("--json", action="store_true", help="for programs")


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


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _version() -> str:
    try:
        return version("exraft")
    except PackageNotFoundError:
        return "(not installed)"
