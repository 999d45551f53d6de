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
    return parser


def _version() -> str:
    try:
        return version("exraft")
    except PackageNotFoundError:
        return "(not installed)"
