"""Servers whose network, clocks and disks do nothing by themselves.

Knows how to drive cores (in the order that `Output` states), and keeps every message until it is
told what becomes of it. Must not know how a script says any of that; what holds in every log is
judged by the watched stores, after each write.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from exraft.names import Peer, Role
from exraft.raft import (
    CONFIG,
    AppendReply,
    Confirmed,
    Done,
    Entry,
    Install,
    InstallReply,
    Logged,
    Mark,
    Message,
    Options,
    Outcome,
    Output,
    Raft,
    Refusal,
    VoteReply,
)
from exraft.raft.config import config_entry
from exraft.storage.memory import Fenced
from exraft.storage.sinks import SnapshotSink
from exraft.testing.invariants import Violation, Watch
from exraft.testing.store import Syncing, WatchedOwner, WatchedStore
from tests.scenarios.words import (
    OTHER_CLUSTER,
    Letter,
    Selection,
    command_of,
    config_of,
    data_of,
    name_of,
    peer_of,
    show_letter,
    show_log,
    store_of,
)

OPTIONS = Options(min_election_timeout=1.0, max_election_timeout=2.0, heartbeat_timeout=0.1)

# What adding up floats may lose, in seconds.
HAIR = 1e-9

# More steps than any script needs, without an end to them.
ENDLESS = 20_000


class Restless(AssertionError):
    """The servers go on talking without end."""


class Sync(NamedTuple):
    """A sync that a server has begun, and what leaves when it is done."""

    mark: Mark
    syncing: Syncing
    out: Output


@dataclass
class Given:
    """What a server's store holds when the script begins."""

    log: Sequence[Entry]
    term: int
    vote: Peer | None = None
    commit: int = 0


class Died(Exception):
    """A life ends in the middle of what it does."""


@dataclass
class Server:
    """One name, and the life that bears it at the moment."""

    name: str
    founders: tuple[Peer, ...]
    options: Options
    watch: Watch
    owner: WatchedOwner
    stores: int = 1
    raft: Raft | None = None
    now: float = 0.0
    rate: float = 1.0
    """Seconds on its clock in a second of everybody's."""
    standby: bool = False
    slow: bool = False
    """Syncs only when it is told to."""
    syncing: deque[Sync] = field(default_factory=deque)
    paused: bool = False
    inbox: list[Message] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    fenced: bool = False
    taking: SnapshotSink | None = None
    """The snapshot that is being written."""

    @property
    def peer(self) -> Peer:
        return self.owner.peer

    @property
    def store(self) -> WatchedStore:
        store = self.raft.store if self.raft is not None else self.owner.life
        assert isinstance(store, WatchedStore)
        return store

    @property
    def log(self) -> Sequence[Entry]:
        """What it holds still."""
        return self.store.slice(self.store.base_index + 1, self.store.last_index)

    def show(self) -> str:
        store = self.store
        raft = self.raft
        state = [
            f"{self.name}:",
            f"{'down' if raft is None else raft.state:9}",
            f"term {store.term}, vote {name_of(store.voted_for)},",
            f"leader {name_of(raft.leader if raft is not None else None)},",
            f"commit {store.commit_index}, log {show_log(self.log)}",
        ]
        if store.snapshot is not None:
            state.append(f"after {store.base_index}, snapshot {store.snapshot.index}")
        if store.safe_index < store.last_index or self.syncing:
            state.append(f"(synced up to {store.safe_index})")
        state += [word for word in ("paused", "standby", "fenced") if getattr(self, word)]
        return " ".join(state)


class World:
    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.options = OPTIONS
        self.watch = Watch()
        self.servers: dict[str, Server] = {}
        self.founders: tuple[str, ...] = ()
        self.way: list[Letter] = []
        self.sent: list[Letter] = []
        """Everything that was sent, lost or not, since the counting began."""
        self.kept: dict[str, list[Letter]] = {}
        self.held: dict[str, Selection] = {}
        """What is kept from now on, by the name under which it is."""
        self.lost: list[Selection] = []
        self.cut: dict[tuple[str, str], None] = {}
        self.answers: dict[str, str] = {}
        """What callers were told, by ticket; a command is its own."""
        self._asked_at: dict[str, int] = {}
        self._given: dict[str, Given] = {}

    # How it begins.

    def found(self, names: Sequence[str], *, fresh: bool) -> None:
        """Declare the servers of the cluster; unless it is fresh, they have founded it before."""
        self.founders = tuple(names)
        for name in names:
            self._declare(name, names, self.watch, self.options)
            if not fresh:
                self._given[name] = Given([config_entry(1, config_of(names))], 1, commit=1)

    def found_other(self, names: Sequence[str]) -> None:
        """Another cluster, with an id of its own."""
        watch = Watch()
        for name in names:
            self._declare(name, names, watch, self.options)
            self._given[name] = Given(
                [config_entry(1, config_of(names, OTHER_CLUSTER))], 1, commit=1
            )

    def give(self, name: str, given: Given) -> None:
        self._given[name] = given

    def _declare(
        self, name: str, founders: Sequence[str], watch: Watch, options: Options
    ) -> Server:
        peers = tuple(peer_of(each) for each in founders)
        owner = _new_owner(watch, name, peers)
        server = self.servers[name] = Server(name, peers, options, watch, owner)
        return server

    def begin(self) -> None:
        """Write what was given, as if earlier leaders had, and start everybody."""
        past: dict[tuple[int, int, int], WatchedStore] = {}
        for name, given in self._given.items():
            server = self.servers[name]
            life = server.owner.life
            for index, entry in enumerate(given.log, 1):
                here = (id(server.watch), index, entry.term)
                if here not in past:
                    past[here] = self._as_its_leader(server, given.log[:index])
            life.append(given.log)
            life.set_ballot(given.term, given.vote, leads=False)
            life.sync()
        for name, given in self._given.items():
            if given.commit:
                server = self.servers[name]
                index = given.commit
                past[id(server.watch), index, server.owner.life.term_at(index)].set_commit(index)
                server.owner.life.set_commit(index)
        for server in self.servers.values():
            self.start(server)

    def _as_its_leader(self, server: Server, log: Sequence[Entry]) -> WatchedStore:
        """The store of a leader of long ago, whom everybody elected, with all that it wrote."""
        term = log[-1].term
        life = _new_owner(server.watch, "before", server.founders, f"{term} {len(log)}").life
        for peer in server.founders:
            voter = self.servers[name_of(peer)].owner.life
            server.watch.vote_stored(voter, term, life.peer)
        life.append(log[:-1])
        life.set_ballot(term, life.peer, leads=True)
        life.append(log[-1:])
        life.sync()
        return life

    def newcomer(self, name: str) -> None:
        """Start a server that waits until somebody adds it."""
        options = replace(self.options, min_majority=2)
        self.start(self._declare(name, (name,), self.watch, options))

    # Lives.

    def start(self, server: Server, *, resume: bool = False) -> None:
        store = server.owner.lend()
        if store.dirty:
            # As a server does before it promises anything by what an earlier life wrote.
            store.sync()
        server.raft = Raft(
            server.peer,
            store,
            server.options,
            random.Random(f"{self.seed} {server.name} {store.incarnation}"),
            server.now,
            server.founders,
            resume=resume,
            standby=server.standby,
        )
        self._settle(server)

    def crash(self, server: Server, *, lossy: bool = False) -> None:
        if lossy:
            server.store.lose_unsynced()
        server.raft = None
        server.paused = False
        server.inbox.clear()
        server.syncing.clear()
        server.taking = None

    def doom(self, server: Server) -> None:
        """Its life will end between noting that it leads and writing anything as a leader."""
        assert server.raft is not None

        def die(stores: object) -> None:
            raise Died

        server.raft.begin_term = die  # type: ignore[method-assign]

    def new_store(self, server: Server, *, standby: bool) -> None:
        """The store is lost, and the next life begins with an empty one (rule 29)."""
        self.crash(server)
        server.stores += 1
        server.owner = _new_owner(server.watch, server.name, server.founders, str(server.stores))
        server.standby = standby
        self.start(server)

    def supersede(self, server: Server, ghost: str) -> None:
        """A new life resumes while the old one, given up for dead, goes on as `ghost`."""
        self.servers[ghost] = replace(server, name=ghost, syncing=deque(), inbox=[], reports=[])
        server.raft = None
        self.start(server, resume=True)

    def wake(self, server: Server) -> None:
        """It looks at what waits, all in one batch, and then at the time (rule 14)."""
        server.paused = False
        inbox, server.inbox = server.inbox, []

        def look(raft: Raft, now: float) -> None:
            for message in inbox:
                raft.step(message, now)
            raft.tick(now)

        self.act(server, look)

    # The network.

    def _send(self, server: Server, to: Peer, message: Message) -> None:
        letter = Letter(server.peer, to, message)
        self.sent.append(letter)
        link = name_of(letter.sender), name_of(to)
        if link in self.cut or any(rule.fits(letter) for rule in self.lost):
            return
        for name, rule in self.held.items():
            if rule.fits(letter):
                self.kept[name].append(letter)
                return
        self.way.append(letter)

    def take(self, letters: Sequence[Letter]) -> None:
        """Take these off the way."""
        gone = set(map(id, letters))
        self.way = [letter for letter in self.way if id(letter) not in gone]

    def arrive(self, letters: Sequence[Letter]) -> None:
        """These reach their receiver, who is one and the same, in one batch."""
        server = self.servers.get(name_of(letters[0].to))
        if server is None or server.raft is None:
            return
        if server.paused:
            server.inbox += [letter.message for letter in letters]
            return

        def step(raft: Raft, now: float) -> None:
            for letter in letters:
                raft.step(letter.message, now)

        self.act(server, step)

    def deliver_all(self) -> None:
        """Until nothing is on its way."""
        for _ in range(ENDLESS):
            if not self.way:
                return
            self.arrive([self.way.pop(0)])
        raise Restless(f"{len(self.way)} messages are still on their way after {ENDLESS}")

    # Time.

    def advance(
        self,
        seconds: float,
        servers: Sequence[Server],
        then: Callable[[], bool] = lambda: False,
    ) -> None:
        """Let the clocks of `servers` go on, each looking at its own whenever something is due.

        `then` is called after each such look; time stops when it returns True.
        """
        left = seconds
        for _ in range(ENDLESS):
            due, next_server = left + HAIR, None
            for server in servers:
                if server.raft is not None and not server.paused:
                    wait = (server.raft.deadline - server.now) / server.rate
                    if wait <= due and (next_server is None or wait < due):
                        due, next_server = wait, server
            passed = max(min(due, left), 0.0)
            for server in servers:
                server.now += passed * server.rate
            left -= passed
            if next_server is None:
                return
            self.look(next_server)
            if then():
                return
        raise Restless(f"clocks were looked at {ENDLESS} times")

    def look(self, server: Server) -> None:
        """Its deadline has come."""
        assert server.raft is not None
        server.now = max(server.now, server.raft.deadline)
        self.act(server, lambda raft, now: raft.tick(now))

    # Requests.

    def write(self, server: Server, commands: Sequence[str], size: int = 0) -> None:
        """Propose these in one batch."""

        def propose(raft: Raft, now: float) -> None:
            for command in commands:
                data = data_of(command, size)
                outcome = raft.propose(data, now)
                if isinstance(outcome, int):
                    self._answer(command, f"logged {outcome}")
                else:
                    server.watch.refused[data] = None
                    self._answer(command, _show(outcome))

        self.act(server, propose)

    def read(self, server: Server, tickets: Sequence[str]) -> None:
        """Ask for these reads in one batch."""

        def ask(raft: Raft, now: float) -> None:
            for ticket in tickets:
                self._asked_at[ticket] = server.watch.last_committed
                raft.read(ticket, now)

        self.act(server, ask)

    # Snapshots.

    def begin_snapshot(self, server: Server, before: str = "") -> None:
        """Of all that is committed there: the commands in order, and `before` at the beginning."""
        index = server.store.commit_index
        assert server.raft is not None
        server.taking = server.store.begin_snapshot(server.raft.snapshot_at(index))
        words = [before, *(command_of(entry.data) for entry in self._commands(server, index))]
        server.taking.write(" ".join(filter(None, words)).encode())

    def finish_snapshot(self, server: Server) -> None:
        sink = server.taking
        assert sink is not None
        server.taking = None
        sink.finish()

        def adopt(raft: Raft, now: float) -> None:
            server.store.adopt(sink)
            raft.compact(now)

        self.act(server, adopt)

    def _commands(self, server: Server, upto: int) -> list[Entry]:
        committed = server.watch.committed
        entries = [committed[index] for index in sorted(committed) if index <= upto]
        return [entry for entry in entries if entry.kind != CONFIG]

    def damage(self, letter: Letter) -> Letter:
        """The same message, with other bytes in its piece of a snapshot."""
        message = letter.message
        assert isinstance(message, Install)
        other = bytes(byte ^ 1 for byte in message.data)
        return letter._replace(message=msgspec.structs.replace(message, data=other))

    # Carrying out what a core wants done.

    def act(self, server: Server, do: Callable[[Raft, float], None]) -> None:
        """Have its core do something, and carry out what comes of it."""
        assert server.raft is not None
        try:
            do(server.raft, server.now)
            self._settle(server)
        except Fenced:
            server.fenced = True
            self.crash(server)
        except Died:
            self.crash(server)

    def _settle(self, server: Server) -> None:
        raft = server.raft
        assert raft is not None
        store = server.store
        while True:
            raft.flush(server.now)
            out = raft.take()
            if not out and not store.dirty:
                break
            for to, message in out.early:
                self._send(server, to, message)
            if server.syncing or (store.dirty and server.slow):
                server.syncing.append(Sync(store.mark(), store.begin_sync(), out))
                continue
            if store.dirty:
                mark = store.mark()
                store.sync()
                raft.stored(mark, server.now)
            self._deliver(server, out)
        if raft.state is Role.LEADER and (
            server.watch.leaders.get(raft.term) != raft.me or not store.leads
        ):
            raise Violation("one leader a term", f"{server.name} leads term {raft.term} unnoticed")

    def sync(self, server: Server) -> None:
        """The oldest sync that was begun is done."""
        assert server.raft is not None
        sync = server.syncing.popleft()
        server.store.end_sync(sync.syncing)
        server.raft.stored(sync.mark, server.now)
        self._deliver(server, sync.out)
        self._settle(server)

    def _deliver(self, server: Server, out: Output) -> None:
        """What may leave once everything before it is stored."""
        for to, message in out.late:
            if isinstance(message, AppendReply | InstallReply | VoteReply):
                server.watch.promises(server.store, to, message)
            self._send(server, to, message)
        for ticket, outcome in out.answers:
            self._answer(ticket, _show(outcome))
        for read in out.confirmed:
            self._confirm(read)
        server.reports += [text for _, text in out.reports]

    def _confirm(self, read: Confirmed) -> None:
        for ticket in read.tickets:
            asked_at = self._asked_at[ticket]
            if read.index < asked_at:
                raise Violation(
                    "answers are not stale",
                    f"{ticket} reads at {read.index}, older than {asked_at}",
                )
            self._answer(ticket, f"confirmed {read.index}")

    def _answer(self, ticket: object, text: str) -> None:
        assert isinstance(ticket, str)
        if ticket in self.answers:
            raise Violation(
                "one answer a call",
                f"{ticket} was answered twice: {self.answers[ticket]}, then {text}",
            )
        self.answers[ticket] = text

    # What is to be seen.

    def leader(self) -> Server | None:
        """The one of the greatest term among those who lead."""
        leading = [
            server
            for server in self.servers.values()
            if server.raft is not None
            and server.raft.state is Role.LEADER
            and server.watch is self.watch
        ]
        return max(leading, key=lambda server: server.store.term, default=None)

    def committed(self) -> list[str]:
        """The commands that some leader has committed, in the order of the log."""
        done = self.watch.committed
        return [command_of(done[n].data) for n in sorted(done) if done[n].kind != CONFIG]

    def show(self) -> str:
        lines = [server.show() for server in self.servers.values()]
        lines.append("on the way:" if self.way else "on the way: nothing")
        lines += [f"  {show_letter(letter)}" for letter in self.way]
        for name, letters in self.kept.items():
            lines.append(f"kept as {name}:")
            lines += [f"  {show_letter(letter)}" for letter in letters]
        if self.cut:
            lines.append("cut: " + ", ".join(f"{one} -> {other}" for one, other in self.cut))
        # What was logged is to be seen in the logs.
        told = [f"{ticket}: {text}" for ticket, text in self.answers.items() if "log" not in text]
        if told:
            lines.append("answers: " + ", ".join(told))
        return "\n".join(lines)


def _new_owner(
    watch: Watch, name: str, founders: tuple[Peer, ...], store: str = "1"
) -> WatchedOwner:
    owner = WatchedOwner(watch, peer_of(name), store_of(name, store))
    owner.founders = founders
    return owner


def _show(outcome: Outcome) -> str:
    if isinstance(outcome, Logged):
        return f"logged {outcome.index}"
    if isinstance(outcome, Refusal):
        who = f" {name_of(outcome.peer)}" if outcome.peer is not None else ""
        return f"{outcome.code}{who}"
    assert isinstance(outcome, Done)
    return f"done {name_of(outcome.leader)}" if outcome.leader is not None else "done"
