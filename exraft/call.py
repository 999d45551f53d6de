"""One call from the command line, to a server of another process: `python -m exraft call`.

Knows the words for the calls, how an argument and an answer are written, and what the exit status
says of a failure: whether the call may be repeated. Must not know how a call gets there.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from exraft.actors.status import Status
from exraft.api import ExRaft
from exraft.client import Client
from exraft.describe import describe_context
from exraft.distribution import connect
from exraft.errors import (
    CallTimeout,
    NotSerialisable,
    Redirect,
    ServerNotFound,
    machines_own,
    maybe_applied,
)
from exraft.names import Peer, check_name
from exraft.spelling import read_node, read_server, write_server

DONE: Final = 0
NOT_DONE: Final = 1
"""It failed, and surely changed nothing: it may be repeated."""
WRONG_USAGE: Final = 2
UNKNOWN: Final = 3
"""It failed, and may have been done, or may yet be: look before it is repeated."""
REFUSED: Final = 4
"""The state machine was asked, and raised: to repeat it is to hear the same."""
LAST: Final = 1.0
"""Seconds left in which an attempt may be over before it has failed."""
AGAIN: Final = 0.1
"""Seconds until a server that was not there is looked for again."""

_VALUES: Final = frozenset({"COMMAND", "QUERY"})
"""Arguments that are values of the user's, and so are the answers."""

TIMEOUT: Final = 10.0
"""Seconds that a call may take, if nothing else is said."""


class Mistake(Exception):
    """The command line makes no sense; the message says what would."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One call as it was typed.

    Attributes:
        server: whom it goes to.
        argument: as typed; None if there is none.
        timeout: in seconds, for all of it.
        python: whether values are Python literals, instead of JSON.
        follow: whether another server is asked if that one does not lead.
        force: whether a file may be replaced.
    """

    server: Peer
    argument: str | None
    timeout: float
    python: bool
    follow: bool
    force: bool

    def value(self) -> Any:
        """The argument as the value that it stands for; None if there is none."""
        if self.argument is None:
            return None
        text = sys.stdin.read() if self.argument == "-" else self.argument
        try:
            return ast.literal_eval(text.strip()) if self.python else json.loads(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            if self.python:
                raise Mistake(
                    f'{text!r} is no literal of Python ({error}): such as \'("put", "k", 1)\''
                ) from None
            raise Mistake(
                f"{text!r} is no JSON ({error}): text is written '\"text\"', and for tuples and"
                " the like there is --python"
            ) from None

    def peer(self) -> Peer:
        """The argument as another server; one without a node is on the one that is asked."""
        try:
            return read_server(self.given(), self.server.node)
        except ValueError as error:
            raise Mistake(str(error)) from None

    def given(self) -> str:
        assert self.argument is not None
        return self.argument

    def client(self) -> Client:
        """Finds the leader by way of all members that the server knows."""
        members = ExRaft.status(self.server, self.timeout).config.members()
        others = [peer for peer in members if peer != self.server]
        return ExRaft.client([self.server, *others])

    def at_leader(self, call: Callable[[Peer, float], Any]) -> Any:
        """Make a call that only a leader answers, wherever the leader is."""
        server, deadline = self.server, monotonic() + self.timeout
        while True:
            remaining = max(0.0, deadline - monotonic())
            try:
                return call(server, remaining)
            except Redirect as error:
                if not self.follow or remaining <= 0:
                    raise
                server = error.leader


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """What a word does; `wanted` is what its argument is called, `needed` whether it must be."""

    do: Callable[[Asked], Any]
    help: str
    wanted: str = ""
    needed: bool = False


def _write(asked: Asked) -> Any:
    command = asked.value()
    if not asked.follow:
        return ExRaft.write(asked.server, command, asked.timeout)
    began = monotonic()
    client = asked.client()
    return client.write(command, max(0.0, asked.timeout - (monotonic() - began)))


def _read(asked: Asked) -> Any:
    query = asked.value()
    if not asked.follow:
        return ExRaft.read(asked.server, query, asked.timeout)
    began = monotonic()
    client = asked.client()
    return client.read(query, max(0.0, asked.timeout - (monotonic() - began)))


def _await_leader(asked: Asked) -> Peer:
    """Who waits for a leader, waits for the server as well: it may be about to be started."""
    deadline = monotonic() + asked.timeout
    missing: ServerNotFound | None = None
    while True:
        remaining = max(0.0, deadline - monotonic())
        try:
            return ExRaft.await_leader(asked.server, remaining)
        except ServerNotFound as error:
            if remaining <= AGAIN:
                raise
            missing = error
            sleep(AGAIN)
        except CallTimeout:
            if missing is not None and remaining < LAST:
                # There was no time left to hear it once more.
                raise missing from None
            raise


def _transfer(asked: Asked) -> Peer:
    to = None if asked.argument is None else asked.peer()
    return asked.at_leader(  # type: ignore[no-any-return]
        lambda server, timeout: ExRaft.transfer_leadership(server, to, timeout)
    )


def _add(asked: Asked) -> str:
    new = asked.peer()
    asked.at_leader(lambda server, timeout: ExRaft.add_server(server, new, timeout))
    return f"{write_server(new)} is a member"


def _remove(asked: Asked) -> str:
    old = asked.peer()
    asked.at_leader(lambda server, timeout: ExRaft.remove_server(server, old, timeout))
    return f"{write_server(old)} is no member any more: stop it"


def _backup(asked: Asked) -> int:
    return ExRaft.backup(asked.server, asked.given(), asked.timeout, overwrite=asked.force)


def _stop(asked: Asked) -> str:
    ExRaft.stop_server(asked.server, "normal", asked.timeout)
    return f"{write_server(asked.server)} has stopped"


def _trigger_election(asked: Asked) -> str:
    ExRaft.trigger_election(asked.server, asked.timeout)
    return f"{write_server(asked.server)} campaigns"


ACTIONS: Final[Mapping[str, Action]] = {
    "write": Action(_write, "write a command, print its reply", "COMMAND", True),
    "read": Action(_read, "read from a state that has all acknowledged writes", "QUERY"),
    "read-dirty": Action(
        lambda asked: ExRaft.read_dirty(asked.server, asked.value(), asked.timeout),
        "read the server's own state, which may be old",
        "QUERY",
    ),
    "status": Action(
        lambda asked: ExRaft.status(asked.server, asked.timeout), "all that it tells of itself"
    ),
    "leader": Action(
        lambda asked: ExRaft.leader(asked.server, asked.timeout), "the leader that it knows"
    ),
    "await-leader": Action(_await_leader, "the same, once the server is there and has one"),
    "ping": Action(lambda asked: ExRaft.ping(asked.server, asked.timeout), "whether it answers"),
    "state": Action(lambda asked: ExRaft.state(asked.server, asked.timeout), "its role"),
    "add": Action(_add, "make another server a member", "SERVER", True),
    "remove": Action(_remove, "take a server out of the members", "SERVER", True),
    "transfer": Action(_transfer, "hand leadership over, to SERVER or the best", "SERVER"),
    "trigger-election": Action(_trigger_election, "make it campaign"),
    "snapshot": Action(
        lambda asked: ExRaft.snapshot(asked.server, asked.timeout),
        "have it take a snapshot, print its index",
    ),
    "backup": Action(_backup, "write all that it has applied into FILE, here", "FILE", True),
    "stop": Action(_stop, "stop it; the process of `serve` ends with it"),
}
"""The calls that can be made."""


def main(
    node: str,
    name: str,
    action: str,
    argument: str | None,
    *,
    timeout: float,
    python: bool,
    as_json: bool,
    follow: bool,
    force: bool,
    keys: str | None,
    codec: str | None,
) -> int:
    """Make the call, print what it returned; return the exit status."""
    try:
        asked = Asked(_server(node, name), argument, timeout, python, follow, force)
        what = ACTIONS[action]
        _check_argument(action, what, argument)
        connect(keys=keys, codec=codec)
        value = what.do(asked)
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return WRONG_USAGE
    except Exception as error:
        return _failed(error, as_json=as_json)
    print(_value(value, python) if what.wanted in _VALUES else _answer(value, as_json))
    return DONE


def _server(node: str, name: str) -> Peer:
    try:
        return Peer(check_name(name), read_node(node))
    except ValueError as error:
        raise Mistake(str(error)) from None


def _check_argument(word: str, action: Action, argument: str | None) -> None:
    if argument is None and action.needed:
        raise Mistake(f"{word} needs its {action.wanted}")
    if argument is not None and not action.wanted:
        raise Mistake(f"{word} takes no argument, and {argument!r} is one")


# What is said of it.


def _value(value: Any, python: bool) -> str:
    """What a state machine has answered, as one line that can be read back."""
    return repr(value) if python else json.dumps(plain(value), ensure_ascii=False)


def _answer(value: Any, as_json: bool) -> str:
    if as_json:
        return json.dumps(plain(value), ensure_ascii=False, indent=2)
    if isinstance(value, Status):
        return describe_context(value)
    if isinstance(value, Peer):
        return write_server(value)
    return "none" if value is None else str(value)


def _failed(error: Exception, *, as_json: bool) -> int:
    status = _status(error)
    if as_json:
        about = {
            "error": type(error).__name__,
            "message": str(error),
            "reason": plain(getattr(error, "reason", None)),
            "maybe_applied": maybe_applied(error),
            "refused_by_machine": status == REFUSED,
        }
        print(json.dumps(about, ensure_ascii=False), file=sys.stderr)
        return status
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(note, file=sys.stderr)
    print(_VERDICTS[status], file=sys.stderr)
    return status


_VERDICTS = {
    NOT_DONE: "nothing was done (exit status 1)",
    UNKNOWN: "it may have been done, or may yet be (exit status 3)",
    REFUSED: "that is the state machine's own answer (exit status 4)",
}


def _status(error: Exception) -> int:
    if machines_own(error) and not isinstance(error, NotSerialisable):
        return REFUSED
    # Of a reply that can't be read, too: the command was applied.
    return UNKNOWN if maybe_applied(error) else NOT_DONE


def plain(value: Any) -> Any:
    """As much of a value as JSON can say; the rest as Python shows it."""
    if isinstance(value, Peer):
        return write_server(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {_key(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return repr(value)


def _key(key: Any) -> str:
    text = plain(key)
    return text if isinstance(text, str) else json.dumps(text)
