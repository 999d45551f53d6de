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
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _version() -> str:
    try:
        return version("exraft")
    except PackageNotFoundError:
        return "(not installed)"
