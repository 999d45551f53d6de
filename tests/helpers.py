"""Machines to try things with, and ways to wait for what happens in other threads.

Nothing here sleeps: a wait ends when what it waits for is there, and fails after `LIMIT` seconds,
which no machine under load needs.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, Peer, Role, StateMachine
from exraft.actors.calls import Call, Crash
from exraft.actors.future import OneLockFuture
from exraft.actors.watching import monitor
from exraft.calling import deliver
from exraft.machine import WriteResult
from exraft.names import as_peer
from exraft.raft import Message

LIMIT = 30.0
"""Seconds after which a wait has failed."""

PATIENT: dict[str, Any] = {
    "min_election_timeout": 100.0,
    "max_election_timeout": 200.0,
    "heartbeat_timeout": 0.02,
}
"""Options of servers that hold an election only when they are made to, however slow the machine:
the first one, which needs no timeout, and those that something else than time brings about."""

QUICK: dict[str, Any] = {
    "min_election_timeout": 0.3,
    "max_election_timeout": 0.6,
    "heartbeat_timeout": 0.02,
}
"""Options of servers that hold an election when they hear nothing."""

RAFT = (":raft1", ":raft2", ":raft3")


class Journal:
    """What happened, a line an event, in order; safe from any thread."""

    def __init__(self) -> None:
        self._lines: list[tuple[Any, ...]] = []
        self._changed = threading.Condition()

    def add(self, *line: Any) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def lines(self, *start: Any) -> list[tuple[Any, ...]]:
        """The lines that begin with `start`, so far."""
        with self._changed:
            return self._beginning_with(start)

    def clear(self) -> None:
        with self._changed:
            self._lines.clear()

    def wait_for(self, *start: Any, count: int = 1) -> None:
        """Wait until `count` lines begin with `start`."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: len(self._beginning_with(start)) >= count, timeout=LIMIT
            ):
                pytest.fail(f"{count} times {start} did not come: {self._lines}")

    def _beginning_with(self, start: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [line for line in self._lines if line[: len(start)] == start]


class Gate:
    """Holds a thread up until it is opened; tells when one has come to it."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def pass_through(self) -> None:
        self._reached.set()
        if not self._opened.wait(LIMIT):
            raise AssertionError("the gate was never opened")

    def await_someone(self) -> None:
        assert self._reached.wait(LIMIT), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class KeyValueStore(StateMachine):
    """The machine of ExRaft's README, with commands for what can go wrong.

    Tells a journal, if it has one, what its callbacks were called for.
    """

    def __init__(self, journal: Journal | None = None, name: str = "") -> None:
        self.journal = Journal() if journal is None else journal
        self.name = name

    def init(self, init_arg: Any) -> Any:
        self.journal.add("init", self.name)
        return dict(init_arg)

    def handle_write(self, command: Any, state: Any) -> Any:
        self.journal.add("write", self.name, command)
        match command:
            case ("put", key, value):
                state[key] = value
                return "ok", state
            case ("add", key, amount):
                state[key] = state.get(key, 0) + amount
                return state[key], state
            case ("raise", error):
                raise error
            case ("return", value):
                return value
            case ("effect", text):
                return "ok", state, [partial(self.journal.add, "effect", self.name, text)]
            case _:
                raise LookupError(f"no such command: {command!r}")

    def handle_read(self, query: Any, state: Any) -> Any:
        return state.get(query)

    def transition(self, to_state: Role, state: Any) -> None:
        self.journal.add("transition", self.name, to_state)

    def terminate(self, reason: Any, state: Any) -> None:
        self.journal.add("terminate", self.name, reason, dict(state))


class Actions(StateMachine):
    """A machine whose commands and queries are the keys of functions of the test's own.

    A function takes the state, and returns what the callback shall.
    """

    def __init__(self, actions: dict[str, Callable[[Any], Any]]) -> None:
        self.actions = actions

    def handle_write(self, command: Any, state: Any) -> Any:
        return self.actions[command](state)

    def handle_read(self, query: Any, state: Any) -> Any:
        return self.actions[query](state)


def does(**actions: Callable[[Any], Any]) -> Callable[[], StateMachine]:
    """A factory of `Actions` machines."""
    return partial(Actions, actions)


def unchanged(reply: Any = None) -> Callable[[Any], WriteResult]:
    """A write that replies and changes nothing."""
    return lambda state: (reply, state)


def start(name: str, journal: Journal | None = None, **options: Any) -> Peer:
    """Start a server of `KeyValueStore`, by itself unless `initial_config` says otherwise."""
    machine = partial(KeyValueStore, journal, name)
    ExRaft.start_server(machine, options.pop("init_arg", {}), name=name, **(PATIENT | options))
    return Peer(name)


def start_cluster(
    names: Sequence[str] = RAFT, journal: Journal | None = None, **options: Any
) -> list[Peer]:
    """Start a static cluster; return its leader, then the others."""
    for name in names:
        start(name, journal, initial_config=names, **options)
    peers = [Peer(name) for name in names]

    def settled() -> bool:
        # On a machine under load two may campaign at once and both lose, which they make good
        # after an election timeout only.
        statuses = [ExRaft.status(peer, LIMIT) for peer in peers]
        if all(status.role is Role.FOLLOWER for status in statuses):
            ahead = max(statuses, key=lambda status: status.last_index)
            ExRaft.trigger_election(ahead.server, LIMIT)
        return agree(peers)

    wait_until(settled, f"{peers} agree on a leader")
    return leader_and_followers(names)


def leader_and_followers(names: Iterable[str]) -> list[Peer]:
    """Once they agree, and nothing is left to be logged: the leader, then the others."""
    peers = [Peer(name) for name in names]

    def settled() -> bool:
        config = ExRaft.status(peers[0], LIMIT).config
        # The ids of all stores are recorded as soon as they are known, in an entry of their own.
        return len(config.stores) == len(config.voters) and agree(peers)

    wait_until(settled, f"{peers} agree on a leader")
    leader = ExRaft.await_leader(peers[0], LIMIT)
    return [leader, *(peer for peer in peers if peer != leader)]


def agree(peers: Iterable[Peer]) -> bool:
    """Whether they follow one leader of one term, and have applied all that it has."""
    statuses = [ExRaft.status(peer, LIMIT) for peer in peers]
    first = statuses[0]
    return (
        len({(each.leader, each.term, each.last_index) for each in statuses}) == 1
        and first.leader is not None
        and all(each.applied_index == first.last_index for each in statuses)
        and any(each.server == first.leader and each.role is Role.LEADER for each in statuses)
    )


def elect(peer: Peer) -> None:
    """Make a server the leader of a new term, by force."""
    ExRaft.trigger_election(peer, LIMIT)

    def leads() -> bool:
        if ExRaft.state(peer, LIMIT) is Role.FOLLOWER:
            ExRaft.trigger_election(peer, LIMIT)
        return ExRaft.state(peer, LIMIT) is Role.LEADER

    wait_until(leads, f"{peer} leads")


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look again and again, as nothing tells when it is so."""
    deadline = monotonic() + LIMIT
    pause = threading.Event()
    while not condition():
        if monotonic() > deadline:
            pytest.fail(f"it did not come to this: {what}")
        pause.wait(0.003)


def send(server: Peer | str, call: Call) -> Any:
    """Put a call into a server's mailbox without waiting; return the future of its answer."""
    deliver(as_peer(server), call)
    return call.reply


class _HoldUp:
    """A message that no server knows, so that it is refused: which takes a while."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def refuse(self, reason: object) -> None:
        self._gate.pass_through()


@contextmanager
def held_up(server: Peer | str) -> Iterator[None]:
    """A server whose thread stands still during the block; its messages wait."""
    gate = Gate()
    ActorRegistry.deliver(as_peer(server).name, _HoldUp(gate))
    gate.await_someone()
    try:
        yield
    finally:
        gate.open()


def done(future: pykka.Future[Any]) -> bool:
    """Whether there is an answer."""
    assert isinstance(future, OneLockFuture)
    return future.done()


def crash(server: Peer | str, error: BaseException | None = None) -> None:
    """Make a server die with an exception; return when that life has ended."""
    name = as_peer(server).name
    ref = ActorRegistry.get_by_name(name)
    assert ref is not None
    ended = end_of(ref)
    ActorRegistry.deliver(name, Crash(error or RuntimeError("crashed on purpose")))
    assert ended.wait(LIMIT)


def end_of(ref: pykka.ActorRef[Any]) -> threading.Event:
    """Set when the process has ended."""
    ended = threading.Event()
    monitor(ref, lambda down: ended.set())
    return ended


def supervisor_of(server: Peer | str) -> pykka.ActorRef[Any]:
    ref = ActorRegistry.get_by_name(f":ExRaft.Supervisor.{as_peer(server).name[1:]}")
    assert ref is not None
    return ref


def await_restarts(server: Peer | str, count: int) -> None:
    wait_until(
        lambda: ExRaft.status(server, LIMIT).restarts == count, f"{server} restarted {count} times"
    )


class Network:
    """Sees every message between servers, and loses what it is told to."""

    def __init__(self) -> None:
        self._lossy: Callable[[Peer, Peer, Message], bool] | None = None
        self._seen = threading.Condition()
        self._messages: list[tuple[Peer, Peer, Message]] = []
        self.remembers = False
        """Whether messages are kept."""

    def __call__(self, sender: Peer, to: Peer, message: Message) -> bool:
        if self.remembers:
            with self._seen:
                self._messages.append((sender, to, message))
                self._seen.notify_all()
        lossy = self._lossy
        return lossy is not None and lossy(sender, to, message)

    def lose(self, lossy: Callable[[Peer, Peer, Message], bool]) -> None:
        """Lose the messages (from, to, what) of which `lossy` says so, and no others."""
        self._lossy = lossy

    def cut(self, *peers: Peer) -> None:
        """Lose everything from and to these."""
        self.lose(lambda sender, to, _: sender in peers or to in peers)

    def split(self, *groups: Sequence[Peer]) -> None:
        """Lose everything between these groups."""
        side = {peer: number for number, group in enumerate(groups) for peer in group}
        self.lose(lambda sender, to, _: side[sender] != side[to])

    def heal(self) -> None:
        self._lossy = None

    def watch(self) -> None:
        """Keep the messages from now on."""
        with self._seen:
            self._messages.clear()
        self.remembers = True

    def messages(self) -> list[tuple[Peer, Peer, Message]]:
        """What was sent since `watch`, those lost included: from, to, what."""
        with self._seen:
            return list(self._messages)

    def seen(self, wanted: Callable[[Peer, Peer, Message], bool]) -> int:
        """How many such messages were sent since `watch`, those lost included."""
        with self._seen:
            return sum(wanted(*each) for each in self._messages)

    def await_messages(self, wanted: Callable[[Peer, Peer, Message], bool], count: int = 1) -> None:
        """Wait until that many such messages were sent since `watch`."""
        with self._seen:
            assert self._seen.wait_for(
                lambda: sum(wanted(*each) for each in self._messages) >= count, timeout=LIMIT
            ), f"{count} such messages did not come, of {len(self._messages)}"


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returned, or what it raised."""
    try:
        return call()
    except Exception as error:
        return error


@contextmanager
def in_thread(function: Callable[[], Any]) -> Iterator[None]:
    """Run `function` beside the block, and end with it; what it raises is raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(LIMIT)
    assert not thread.is_alive(), "the thread did not end"
    if failures:
        raise failures[0]


def run_script(text: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program of its own, and return what it printed and its exit status."""
    script = tmp_path / "script.py"
    script.write_text(text)
    root = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": ""},
    )
