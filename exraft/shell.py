"""A cluster to type at: `python -m exraft shell`.

Knows the words of the shell, which call each of them is, and how what goes wrong is told: on
standard error, with the number of the line where lines come from a pipe or a file. Must not know
what the servers make of it.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TextIO

from rich.console import Console
from rich.table import Table

from exraft.actors.registry import ActorRegistry
from exraft.api import ExRaft
from exraft.demo import (
    FOUNDERS,
    KeyValueStore,
    crash,
    log_lines,
    servers_table,
    status_of,
    stop_all,
    wait_until,
)
from exraft.errors import ExRaftError, NoLeader, ServerNotFound
from exraft.names import Peer, as_peer, check_name
from exraft.supervision import print_tree
from exraft.supervision.at_exit import roots

PATIENCE = 5.0
"""Seconds that a line may take."""
PROMPT = "exraft> "


def main(script: str | None = None) -> int:
    """Start a cluster of three and do what `script`, or standard input, says.

    Returns:
        the exit status: 1 if a line of a script or a pipe failed, 2 if there is no such script.
    """
    for stream in (sys.stdin, sys.stdout):
        # What isn't text in this locale is shown as its code, and ends nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if script is None:
        return _run(sys.stdin, interactive=sys.stdin.isatty())
    try:
        with open(script, encoding="utf-8", errors="backslashreplace") as lines:
            return _run(lines, interactive=False)
    except OSError as error:
        print(f"can't read {script}: {error.strerror}", file=sys.stderr)
        return 2


def _run(lines: TextIO, *, interactive: bool) -> int:
    shell = Shell(sys.stdout, sys.stderr)
    with log_lines(shell.complain):
        try:
            shell.begin()
            if interactive:
                shell.say("A cluster of three servers runs. 'help' lists what can be typed.")
                _converse(shell)
                return 0
            return 0 if shell.run(lines) else 1
        except ExRaftError as error:
            shell.complain(str(error))
            return 1
        finally:
            shell.end()


def _converse(shell: Shell) -> None:
    """Take lines from a terminal until the user has had enough."""
    with suppress(ImportError):
        # Gives `input` a history and line editing, where Python was built with it.
        import readline  # noqa: F401
    while not shell.over:
        try:
            line = input(PROMPT)
        except EOFError:
            shell.say("")
            return
        except KeyboardInterrupt:
            shell.say("")
            continue
        try:
            shell.obey(line)
        except KeyboardInterrupt:
            shell.complain("interrupted")
        except Mistake as mistake:
            shell.complain(str(mistake))


class Mistake(Exception):
    """A line that could not be done; the message says why."""


@dataclass(frozen=True, slots=True)
class _Command:
    do: Callable[..., None]
    arguments: tuple[str, ...]
    optional: int
    """How many arguments, from the last, may be left out."""
    help: str

    def usage(self, word: str) -> str:
        needed = len(self.arguments) - self.optional
        shown = [each if at < needed else f"[{each}]" for at, each in enumerate(self.arguments)]
        return " ".join([word, *shown])


class Shell:
    """Does line by line what it is told, to the servers that it has started."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._names = list(FOUNDERS)
        """Every server there has been, the stopped ones too."""
        self.over = False
        self._commands = {
            "put": _Command(
                self._put, ("KEY", "VALUE", "SERVER"), 1, "write through the leader, or at SERVER"
            ),
            "get": _Command(
                self._get, ("KEY", "SERVER"), 1, "read; with SERVER its own, maybe old, value"
            ),
            "status": _Command(self._status, (), 0, "show all servers"),
            "tree": _Command(self._tree, (), 0, "show who supervises whom, and how they fare"),
            "log": _Command(self._log, ("SERVER",), 1, "show the log of SERVER, or of the leader"),
            "crash": _Command(self._crash, ("SERVER",), 0, "raise an exception in its loop"),
            "stop": _Command(self._stop, ("SERVER",), 0, "stop it in order; its log is dropped"),
            "start": _Command(self._start, ("SERVER",), 0, "start a stopped or a new one"),
            "add": _Command(self._add, ("SERVER",), 0, "make it a member; starts it if needed"),
            "remove": _Command(self._remove, ("SERVER",), 0, "make it a member no more"),
            "elect": _Command(self._elect, ("SERVER",), 0, "make it stand for election"),
            "transfer": _Command(
                self._transfer, ("SERVER",), 1, "hand leadership over, to SERVER if given"
            ),
            "help": _Command(self._help, (), 0, "show this"),
            "quit": _Command(self._quit, (), 0, "stop all servers and leave"),
        }

    # From line to line.

    def begin(self) -> None:
        """Start the servers, and wait until they have a leader."""
        for name in FOUNDERS:
            self._found(name)
        ExRaft.await_leader(FOUNDERS[0])

    def end(self) -> None:
        stop_all(self._names)

    def run(self, lines: Iterable[str]) -> bool:
        """Obey one line after the other; say which ones fail. Returns whether none did."""
        well = True
        for number, line in enumerate(lines, 1):
            try:
                self.obey(line)
            except Mistake as mistake:
                well = False
                self.complain(f"line {number}: {mistake}")
            if self.over:
                break
        return well

    def obey(self, line: str) -> None:
        """Do what one line says; a `#` begins a comment.

        Raises:
            Mistake: the line makes no sense, or the cluster refused it.
        """
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise Mistake(f"{error}".lower()) from None
        if not words:
            return
        command = self._command(words[0])
        given = words[1:]
        most = len(command.arguments)
        if not most - command.optional <= len(given) <= most:
            raise Mistake(f"{words[0]} is used like this: {command.usage(words[0])}")
        try:
            command.do(*given)
        except (ExRaftError, ValueError) as error:
            raise Mistake(str(error)) from None

    def _command(self, word: str) -> _Command:
        word = "quit" if word == "exit" else word
        command = self._commands.get(word)
        if command is None:
            close = get_close_matches(word, self._commands, n=1)
            hint = f"did you mean {close[0]}?" if close else "'help' lists what there is"
            raise Mistake(f"there is no command {word!r}: {hint}")
        return command

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def complain(self, text: str) -> None:
        self._out.flush()
        print(text, file=self._err, flush=True)

    def _show(self, table: Table) -> None:
        Console(file=self._out, highlight=False).print(table)
        self._out.flush()

    # What the lines say.

    def _put(self, key: str, value: str, server: str | None = None) -> None:
        command = ("put", key, value)
        if server is None:
            version = ExRaft.client(self._running()).write(command, timeout=PATIENCE)
        else:
            version = ExRaft.write(server, command, timeout=PATIENCE)
        self.say(f"ok, version {version}")

    def _get(self, key: str, server: str | None = None) -> None:
        if server is None:
            found = ExRaft.client(self._running()).read(key, timeout=PATIENCE)
        else:
            found = ExRaft.read_dirty(server, key, timeout=PATIENCE)
        self.say("(not set)" if found is None else found[0])

    def _status(self) -> None:
        self._show(servers_table(self._names))

    def _tree(self) -> None:
        self._running()
        console = Console(file=self._out, highlight=False)
        for root in roots():
            print_tree(root, console, timeout=PATIENCE)
        self._out.flush()

    def _log(self, server: str | None = None) -> None:
        ExRaft.inspect(self._leader() if server is None else server, "log")

    def _crash(self, name: str) -> None:
        crash(self._own(name))
        # Comes behind the crash, so it is the next life that answers.
        after = status_of(name)
        if after is None:
            raise Mistake(f"{name} crashed too often: its supervisor has given up; start it again")
        self.say(f"{name} crashed and was started again; it is {after.role} of term {after.term}")

    def _stop(self, name: str) -> None:
        ExRaft.stop_server(self._own(name), timeout=PATIENCE)
        self.say(f"{name} has stopped")

    def _start(self, name: str) -> None:
        if ActorRegistry.get_by_name(check_name(name)) is not None:
            raise Mistake(f"{name} runs already")
        # Founders found a cluster as long as none has begun; who comes later waits to be added.
        statuses = [status_of(each) for each in self._names]
        begun = any(status is not None and status.last_index for status in statuses)
        if name in FOUNDERS and not begun:
            self._found(name)
            self.say(f"{name} has started, as one of {', '.join(FOUNDERS)}")
        else:
            ExRaft.start_server(KeyValueStore, name=name, min_majority=2)
            self.say(f"{name} has started, empty, and waits: add {name}")
        if name not in self._names:
            self._names.append(name)

    def _add(self, name: str) -> None:
        leader = self._leader()
        if ActorRegistry.get_by_name(check_name(name)) is None:
            self._start(name)
        ExRaft.add_server(leader, name, timeout=PATIENCE)
        self._say_members(leader)

    def _remove(self, name: str) -> None:
        leader = self._leader()
        members = ExRaft.status(leader).config.members()
        if as_peer(name) not in members:
            raise Mistake(f"{name} is no member; members are {', '.join(map(str, members))}")
        ExRaft.remove_server(leader, name, timeout=PATIENCE)
        self._say_members(leader)

    def _elect(self, name: str) -> None:
        ExRaft.trigger_election(name, timeout=PATIENCE)
        leader = ExRaft.await_leader(name, timeout=PATIENCE)
        self.say(f"{leader} leads term {ExRaft.status(name).term}")

    def _transfer(self, name: str | None = None) -> None:
        leader = ExRaft.transfer_leadership(self._leader(), name, timeout=PATIENCE)
        self.say(f"{leader} leads")

    def _help(self) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        for word, command in self._commands.items():
            table.add_row(command.usage(word), command.help)
        table.add_row("# ...", "a comment; quotes keep blanks together: put 'a key' 'a value'")
        table.add_row("", "a SERVER is a name such as :raft1; a line takes at most 5 seconds")
        # Square brackets are no markup here.
        Console(file=self._out, highlight=False, markup=False).print(table)

    def _quit(self) -> None:
        self.over = True

    # Who is there.

    def _found(self, name: str) -> None:
        # The same min_majority as who joins later, so that all agree on what a quorum is.
        ExRaft.start_server(KeyValueStore, name=name, initial_config=FOUNDERS, min_majority=2)

    def _running(self) -> list[str]:
        running = [name for name in self._names if ActorRegistry.get_by_name(name) is not None]
        if not running:
            raise Mistake("no server runs: start one, as in 'start :raft1'")
        return running

    def _own(self, name: str) -> str:
        if check_name(name) not in self._names:
            raise ServerNotFound(as_peer(name))
        return name

    def _leader(self) -> Peer:
        """Who leads, as soon as a server knows one that runs."""
        found: list[Peer] = []

        def known() -> bool:
            for name in self._running():
                status = status_of(name)
                if status is not None and status.leader == status.server:
                    found.append(status.server)
            return bool(found)

        if not wait_until(known, PATIENCE):
            raise NoLeader("there is no leader: is a majority of the members running?")
        return found[-1]

    def _say_members(self, leader: Peer) -> None:
        voters = ExRaft.status(leader).config.voters
        self.say(f"members: {', '.join(map(str, voters))}")
