"""The story of a cluster, told while it happens: `python -m exraft demo`.

Knows the steps of the story, how each is shown, and what must hold after it. Uses nothing that a
user could not use, but for the crash on purpose. Must not know how any of it works.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pykka
from rich import box
from rich.console import Console
from rich.table import Table

from exraft.actors.calls import Crash
from exraft.actors.ending import send
from exraft.actors.registry import ActorRegistry
from exraft.actors.spec import supervisor_name
from exraft.actors.status import Status
from exraft.api import ExRaft
from exraft.errors import ExRaftError, Redirect, ServerNotFound, maybe_applied
from exraft.machine import StateMachine, WriteResult
from exraft.names import Peer, Role, Server, as_peer
from exraft.story import Story, Unexpected, console_and_pause, literal, milliseconds
from exraft.supervision import ChildSpec, Node, Supervisor, print_tree, tree

FOUNDERS = (":raft1", ":raft2", ":raft3")
NEWCOMER = ":raft4"
SHOP = ":shop"
STOCK = (":stock1", ":stock2", ":stock3")

WRITERS = 8
WRITES = 250
"""Writes of each writer while the leader crashes."""
PATIENCE = 10.0
"""Seconds that a call of the story may take; most take less than a millisecond."""

State = dict[str, tuple[str, int]]


class KeyValueStore(StateMachine):
    """Keys with their values, and how often each was written.

    The state is `{key: (value, version)}`. The command `("put", key, value)` is answered with the
    version; the query is a key, answered with its value and version, or None for everything.
    """

    def init(self, init_arg: Any) -> State:
        return dict(init_arg)

    def is_command(self, command: Any, state: State) -> bool:
        return isinstance(command, tuple) and len(command) == 3 and command[0] == "put"

    def handle_write(self, command: Any, state: State) -> WriteResult:
        _, key, value = command
        _, version = state.get(key, ("", 0))
        state[key] = (value, version + 1)
        return version + 1, state

    def handle_read(self, query: str | None, state: State) -> Any:
        return state if query is None else state.get(query)


class Mailer(pykka.ThreadingActor):
    """An ordinary actor of Pykka's, which knows nothing of supervisors."""

    def on_receive(self, message: Any) -> None:
        raise ValueError(f"{message!r} is no letter")


def main(*, fast: bool = False) -> int:
    """Tell the story on standard output; return the exit status."""
    return 0 if tell(*console_and_pause(fast=fast)) else 1


def tell(console: Console, pause: float = 0.0, **options: Any) -> bool:
    """Tell the story; return whether everything held. Leaves no server running.

    Args:
        console: where it is told.
        pause: seconds between two steps.
        options: for `ExRaft.start_server`, beside what the story itself needs.
    """
    story = Story(console, pause)
    with log_lines(lambda line: story.aside(line, "yellow")):
        try:
            _tell(story, options)
        except (ExRaftError, Unexpected) as error:
            story.check(False, f"{type(error).__name__}: {error}")
        finally:
            stop_all((*FOUNDERS, NEWCOMER))
            shop = ActorRegistry.get_by_name(SHOP)
            if shop is not None:
                shop.stop()
    return story.end()


def _tell(story: Story, options: dict[str, Any]) -> None:
    story.step("Three servers start, each under a supervisor of its own")
    founding = {"initial_config": list(FOUNDERS), **options}
    for name in FOUNDERS:
        story.call(ExRaft.start_server, KeyValueStore, name=name, **founding)

    story.step("They elect a leader: two of three votes are a majority")
    leader = story.call(ExRaft.await_leader, FOUNDERS[0])
    story.check(
        wait_until(lambda: {ExRaft.leader(name) for name in FOUNDERS} == {leader}),
        f"all three follow {leader}",
    )
    story.console.print(servers_table(FOUNDERS))

    story.step("A write is logged, copied to a majority, applied, and answered")
    story.call(ExRaft.write, leader, ("put", "colour", "blue"))
    story.check(story.call(ExRaft.read, leader, "colour") == ("blue", 1), "it can be read")

    story.step("A fourth server joins: it gets the log first, and a vote when it has it")
    story.call(ExRaft.start_server, KeyValueStore, name=NEWCOMER, min_majority=2, **options)
    story.call(ExRaft.add_server, leader, NEWCOMER)
    everyone = (*FOUNDERS, NEWCOMER)
    story.check(len(ExRaft.status(leader).config.voters) == 4, "the cluster has four voters")
    _compare(story, everyone, "the newcomer has what was written before it came")

    follower = next(name for name in FOUNDERS if name != leader.name)
    story.step("Only the leader takes writes: a follower says who that is")
    refusal = story.refused(ExRaft.write, follower, ("put", "colour", "red"))
    story.check(
        isinstance(refusal, Redirect) and refusal.leader == leader, f"it redirects to {leader}"
    )
    story.check(not maybe_applied(refusal), "nothing was written: maybe_applied(error) is False")

    story.step(f"The leader crashes while {WRITERS} threads write through a client")
    _crash_in_mid_traffic(story, leader, everyone)

    leader = ExRaft.await_leader(FOUNDERS[0])
    story.step("The leader is stopped: it hands over first, so nobody waits for an election")
    rest = tuple(name for name in everyone if name != leader.name)
    client = ExRaft.client(rest)
    before = perf_counter()
    story.call(ExRaft.stop_server, leader)
    story.call(client.write, ("put", "colour", "green"), timeout=PATIENCE)
    story.aside(f"{milliseconds(perf_counter() - before)} from the stop to the next answer")
    successor = story.call(ExRaft.await_leader, rest[0])
    story.check(successor.name in rest, f"{successor} leads in its place")

    story.step("The stopped server is still a member: without it, two of three are enough again")
    story.call(ExRaft.remove_server, successor, leader.name)
    story.check(len(ExRaft.status(successor).config.voters) == 3, "three voters are left")

    story.step("A follower can be made to stand for election")
    chosen = next(name for name in rest if name != successor.name)
    story.call(ExRaft.trigger_election, chosen)
    elected = story.call(ExRaft.await_leader, chosen)
    story.check(elected.name == chosen, f"{chosen} leads")
    story.call(client.write, ("put", "colour", "white"), timeout=PATIENCE)

    story.step("In the end every replica holds the same")
    _compare(story, rest, "their states are equal, key by key")
    story.check(
        story.call(ExRaft.read_dirty, rest[-1], "colour") == ("white", 4),
        "the colour was written four times, and the last one stands",
    )
    story.console.print(servers_table(rest))

    story.step("Servers stand in a tree beside other actors: what crashes is started again")
    _crash_in_a_tree(story, options)


def _crash_in_mid_traffic(story: Story, leader: Peer, everyone: tuple[str, ...]) -> None:
    traffic = Traffic(everyone)
    restarts = ExRaft.status(leader).restarts
    story.show(f"client = ExRaft.client({literal(list(everyone))})")
    story.show(f'client.write(("put", key, value))    # {WRITERS} threads, {WRITES} keys each')
    began = perf_counter()
    traffic.start()
    if not traffic.halfway.wait(PATIENCE):
        raise Unexpected("the writers are stuck")
    crashed = perf_counter()
    crash(leader.name)
    story.show(f"crash({literal(leader)})    # an exception in its loop, in the midst of it")
    ExRaft.client(everyone).write(("put", "colour", "grey"), timeout=PATIENCE)
    recovered = perf_counter() - crashed
    traffic.join()
    seconds = perf_counter() - began
    total = WRITERS * WRITES
    acknowledged = len(traffic.acknowledged)
    story.aside(f"{milliseconds(recovered)} from the crash to the next answer")
    story.aside(f"{total} writes in {seconds:.2f} s, of which {acknowledged} were acknowledged")
    story.check(not traffic.errors, "no writer gave up" + "".join(map(_line, traffic.errors)))
    story.check(
        ExRaft.status(leader).restarts == restarts + 1, f"its supervisor started {leader} again"
    )
    state = _compare(story, everyone, "all replicas are equal")
    there = sum(state.get(key) == (key, 1) for key in traffic.acknowledged)
    story.check(
        there == acknowledged,
        f"{there} of {acknowledged} acknowledged writes are there, each exactly once",
    )
    unsure = [state.get(key, ("", 0))[1] for key in traffic.unsure]
    story.check(
        all(version in (0, 1) for version in unsure),
        f"{len(unsure)} failed with ServerDown, maybe applied: {sum(unsure)} were, none twice",
    )
    story.check(not traffic.refused & state.keys(), "none is there that surely was not applied")
    story.console.print(servers_table(everyone))


def _crash_in_a_tree(story: Story, options: dict[str, Any]) -> None:
    founding = {"initial_config": list(STOCK), **options}
    stock = [KeyValueStore.child_spec(name=name, **founding) for name in STOCK]
    story.show(f"names = {literal(list(STOCK))}")
    story.show("stock = [KeyValueStore.child_spec(name=n, initial_config=names) for n in names]")
    mailer = ChildSpec(id="mailer", start=(Mailer, (), {}))
    story.show('mailer = ChildSpec(id="mailer", start=(Mailer, (), {}))    # a plain Pykka actor')
    Supervisor.start([Supervisor.child_spec(stock, id="stock"), mailer], name=SHOP)
    story.show('children = [Supervisor.child_spec(stock, id="stock"), mailer]')
    story.show(f"Supervisor.start(children, name={literal(SHOP)})")
    leader = story.call(ExRaft.await_leader, STOCK[0])
    client = ExRaft.client(STOCK)
    story.call(client.write, ("put", "pears", "twelve"), timeout=PATIENCE)

    before = list(_everyone(tree(SHOP, PATIENCE)))
    crash(leader.name)
    story.show(f"crash({literal(leader)})")
    postman = next(node.ref for node in before if node.id == mailer.id)
    assert postman is not None
    postman.tell("a parcel")
    story.show('mailer.tell("a parcel")    # at which it raises')

    def recovered() -> bool:
        after = list(_everyone(tree(SHOP, PATIENCE)))
        restarts = sum(node.restarts for node in after)
        return restarts == 2 and all(node.state == "running" for node in after)

    story.check(wait_until(recovered), "each was started again by its own supervisor")
    left_alone = {node.ref for node in before} & {node.ref for node in _everyone(tree(SHOP))}
    story.check(len(left_alone) == len(before) - 2, "all others were left alone")
    story.check(
        story.call(client.read, "pears", timeout=PATIENCE) == ("twelve", 1),
        "nothing was lost",
    )
    story.show(f"print_tree({literal(SHOP)})")
    print_tree(SHOP, story.console, timeout=PATIENCE)
    story.call(Supervisor.stop, SHOP)
    left = [name for name in ActorRegistry.names() if name in (SHOP, *STOCK)]
    story.check(not left, "whoever hung in the tree has stopped with it")


def _everyone(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _everyone(child)


class Traffic:
    """Threads that write keys of their own, each key once, whatever happens to the leader."""

    def __init__(self, servers: Iterable[str]) -> None:
        self._client = ExRaft.client(servers)
        self._lock = threading.Lock()
        self._left_till_halfway = WRITERS * WRITES // 2
        self.halfway = threading.Event()
        """Set when half of the keys are written."""
        self.acknowledged: set[str] = set()
        self.unsure: set[str] = set()
        """Keys of writes that failed and may have been applied all the same."""
        self.refused: set[str] = set()
        """Keys of writes that failed and surely were not applied."""
        self.errors: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._write, args=(writer,), daemon=True)
            for writer in range(WRITERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        for number in range(WRITES):
            key = f"writer {writer}, key {number}"
            try:
                # The client tries again by itself what surely was not applied, until the timeout.
                self._client.write(("put", key, key), timeout=PATIENCE)
            except ExRaftError as error:
                self._note(key, self.unsure if maybe_applied(error) else self.refused)
                if not maybe_applied(error):
                    self.errors.append(error)
                    return
            else:
                self._note(key, self.acknowledged)

    def _note(self, key: str, outcome: set[str]) -> None:
        with self._lock:
            outcome.add(key)
            self._left_till_halfway -= 1
            if self._left_till_halfway == 0:
                self.halfway.set()


# What the shell needs too.


def crash(name: str) -> None:
    """Make a server raise in its loop, as a bug would.

    Raises:
        ServerNotFound: nobody has that name.
    """
    ref = ActorRegistry.get_by_name(name)
    if ref is None:
        raise ServerNotFound(as_peer(name))
    send(ref, Crash(RuntimeError("crashed on purpose")))


def stop_all(names: Iterable[str]) -> None:
    """Stop those that run, without a hand-over: nobody shall be left to lead."""
    for name in names:
        supervisor = ActorRegistry.get_by_name(supervisor_name(name))
        if supervisor is not None:
            supervisor.stop()


def status_of(server: Server) -> Status | None:
    """The status of a server, or None if it does not run, or can't be reached."""
    try:
        return ExRaft.status(server, PATIENCE)
    except ServerNotFound:
        return None


def servers_table(servers: Iterable[Server]) -> Table:
    """A row a server: its role, its term, how far its log is, how often it was restarted."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("server")
    table.add_column("role")
    for heading in ("term", "in the log", "committed", "applied", "restarts"):
        table.add_column(heading, justify="right")
    for server in servers:
        name = as_peer(server).name
        status = status_of(server)
        if status is None:
            table.add_row(name, "stopped", style="dim")
            continue
        style = "bold" if status.role is Role.LEADER else ""
        numbers = (
            status.term,
            status.last_index,
            status.commit_index,
            status.applied_index,
            status.restarts,
        )
        table.add_row(name, _role(status), *map(str, numbers), style=style)
    return table


def _role(status: Status) -> str:
    voters = status.config.voters
    # Who knows nobody and does not lead was told to wait for others.
    if status.standby or (voters == (status.server,) and status.role is not Role.LEADER):
        return "waiting"
    return str(status.role) if status.server in voters else "no member"


def wait_until(holds: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Wait for what no call waits for, such as a follower that is a message behind."""
    deadline = perf_counter() + timeout
    while not holds():
        if perf_counter() >= deadline:
            return False
        threading.Event().wait(0.005)
    return True


@contextmanager
def log_lines(show: Callable[[str], object]) -> Iterator[None]:
    """Have what servers and supervisors log shown as single lines, without tracebacks.

    A crash is logged by the dying server as well; the supervisor's line says more.
    """
    handler = _Lines(show)
    loggers = [logging.getLogger(f"exraft.{part}") for part in ("actors", "server", "supervision")]
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


class _Lines(logging.Handler):
    def __init__(self, show: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "exraft.actors":
            self._show(f"log: {record.getMessage()}")


def _line(error: Exception) -> str:
    return f"; {type(error).__name__}: {error}"


def _compare(story: Story, names: tuple[str, ...], what: str) -> State:
    """Check that all replicas hold the same, once they have all applied what any has committed."""
    upto = max(ExRaft.status(name).commit_index for name in names)
    wait_until(lambda: all(ExRaft.status(name).applied_index >= upto for name in names))
    story.show("ExRaft.read_dirty(server, None)    # each server's own state")
    states: list[State] = [ExRaft.read_dirty(name, None) for name in names]
    sizes = [f"{name} {len(state)}" for name, state in zip(names, states, strict=True)]
    story.aside(f"keys: {', '.join(sizes)}")
    story.check(all(state == states[0] for state in states), what)
    return states[0]
