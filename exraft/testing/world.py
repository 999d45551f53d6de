"""A simulated cluster whose servers run a user's machine.

Knows what a server does with a machine, and judges what only the machines can show: that all
replicas agree, that a caller's answer is that of the log, that side effects run once. Must not know
who calls, nor what befalls the servers.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from exraft.codec import decode, encode, reveal, without_frames
from exraft.errors import (
    CommandDropped,
    ExRaftError,
    MachineError,
    NotSerialisable,
    ServerDown,
    ServerNotFound,
)
from exraft.machine import MachineFactory, SideEffect, Writer, make_machine
from exraft.names import Peer, Role
from exraft.raft import COMMAND, Answer, Entry, Logged, Options, Refusal
from exraft.raft.config import decode_config
from exraft.raft.snapshot import Snapshot
from exraft.replica import Replica, error_of
from exraft.replica.caller import Caller
from exraft.testing.cluster import Cluster
from exraft.testing.faults import Faults
from exraft.testing.history import Raised, alike
from exraft.testing.invariants import Violation, Watch
from exraft.testing.server import Server

Check: TypeAlias = Callable[[Any], object]
"""What must hold of a state: raising, or returning what is false but not `None`, says no."""


class Attempt:
    """One request of a client at one server; told its outcome once, or told nothing."""

    def __init__(
        self, peer: Peer, call: Any, data: bytes, tell: Callable[[Attempt, Any, Any], None]
    ) -> None:
        self.peer = peer
        self.call = call
        self.data = data
        """The command as it stands in the log, like no other; empty for a read."""
        self.silent = False
        """Whether the machine answered `NOREPLY`."""
        self.waits = False
        """Whether it lies in a server's inbox, so that its client can still withdraw it."""
        self.withdrawn = False
        self.index = 0
        """Where the answer was given: at the command's place in the log, or at what was applied."""
        self._tell = tell
        self._told = False

    @property
    def told(self) -> bool:
        return self._told

    def __repr__(self) -> str:
        return f"{'write' if self.may_apply else 'read'} {self.call!r}"

    @property
    def may_apply(self) -> bool:
        return bool(self.data)

    @property
    def reply(self) -> Attempt:
        return self

    def set(self, value: Any = None, /) -> None:
        self._once()
        self._tell(self, value, None)

    def fail(self, error: BaseException, /) -> None:
        _let_pass(error)
        self._once()
        self._tell(self, None, error)

    def _once(self) -> None:
        if self._told:
            raise Violation("one answer a call", f"{self} at {self.peer} was answered twice")
        self._told = True


class _Witness:
    """Hears what a replica answers to an entry, and hands it to the caller, if there is one."""

    __slots__ = ("_caller", "error", "value")

    may_apply = True

    def __init__(self, caller: Caller | None) -> None:
        self._caller = caller
        self.value: Any = None
        self.error: BaseException | None = None

    @property
    def reply(self) -> _Witness:
        return self

    def set(self, value: Any = None, /) -> None:
        self.value = value
        if self._caller is not None:
            self._caller.reply.set(value)

    def fail(self, error: BaseException, /) -> None:
        _let_pass(error)
        self.error = error
        if self._caller is not None:
            self._caller.reply.fail(error)

    def said(self) -> Any:
        """The answer as a caller gets it, or `Raised`."""
        if self.error is not None:
            return Raised(self.error)
        try:
            return reveal(self.value)
        except MachineError as undecodable:
            return Raised(without_frames(undecodable))


class World(Cluster):
    """Servers with machines.

    Args:
        machine: makes the machine of each life.
        init_arg: what each machine's `init` gets a copy of.
        check: what must hold of the state after every entry, on every server.
    """

    def __init__(
        self,
        count: int,
        machine: MachineFactory,
        init_arg: Any,
        *,
        seed: int,
        options: Options,
        faults: Faults,
        min_majority: int,
        check: Check | None,
        on_disk: bool = False,
    ) -> None:
        super().__init__(
            count,
            seed=seed,
            options=options,
            faults=faults,
            start=False,
            min_majority=min_majority,
            on_disk=on_disk,
        )
        self._machine = machine
        self._init_arg = encode(init_arg)
        self._state_check = check
        self._said: dict[int, Any] = {}
        """What the first replica answered to each entry."""
        self._states: dict[int, bytes] = {}
        """The state of the first replica that took a snapshot at an index."""
        self._effects_ran: dict[int, Peer] = {}
        self._proposed = 0
        self.gathering = 0.0
        """The chance that a server that is asked for something is busy for another moment."""
        self._pickles: dict[bytes, bytes] = {}
        self._chance = random.Random(f"{seed} requests").random

    def add(
        self,
        peer: Peer,
        founders: Sequence[Peer],
        *,
        min_majority: int = 1,
        watch: Watch | None = None,
    ) -> Server:
        """As for any cluster; with a clock and a disk as the faults have them."""
        server = super().add(peer, founders, min_majority=min_majority, watch=watch)
        faults = self.network.faults
        rng = random.Random(f"{self.seed} {peer} clock")
        if faults.clock_drift:
            server.pace = (1 + faults.clock_drift) ** rng.uniform(-1, 1)
        if faults.slow_disks:
            server.sync_takes = (0.0, faults.slow_disks)
        return server

    @property
    def commits(self) -> int:
        """How many commands were committed and applied."""
        return len(self._said)

    def members(self) -> list[Peer]:
        """Every server but those of other clusters."""
        return [each.peer for each in self.servers.values() if each.owner.watch is self.watch]

    # Requests of clients.

    def unique(self, command: Any) -> bytes:
        """What stands for the command in the log, and for no other.

        Not the pickle itself, whose length differs between versions of Python: what the core does
        within bounds in bytes would differ with it.
        """
        self._proposed += 1
        data = b"#%d" % self._proposed
        data = data.ljust(int(8 + 40 * self._chance()))
        self._pickles[data] = encode(command)
        return data

    def decoded(self, data: bytes) -> Any:
        """A new copy of the command that `data` stands for."""
        return decode(self._pickles[data])

    def serve(self, attempt: Attempt) -> None:
        """A client's request reaches its server, or finds nobody there."""
        server = self.servers.get(attempt.peer)
        if server is None or server.raft is None:
            self.fail(attempt, ServerNotFound(attempt.peer))
            return
        attempt.waits = True
        life = server.raft

        def take() -> None:
            attempt.waits = False
            if server.raft is life and not attempt.withdrawn:
                self._take(server, attempt)

        idle = not server.inbox and self.now >= server.busy_until
        if idle and self._chance() < self.gathering:
            # It is at something else for a moment, so that what comes meanwhile makes a batch.
            server.busy_until = self.now + 0.003 * self._chance()
            idle = False
        if idle:
            take()
        else:
            server.inbox.append(_Request(attempt, take))

    def fail(self, attempt: Attempt, error: ExRaftError) -> None:
        """Tell a client that its request failed, and note whether that is a promise."""
        if attempt.data and not error.maybe_applied:
            if type(error) is CommandDropped:
                self.watch.drops(attempt.data)
            else:
                self.watch.refuses(attempt.data)
        attempt.fail(error)

    def withdraw(self, attempt: Attempt) -> bool:
        """Whether the server had not looked at the request, and never will."""
        if attempt.waits:
            attempt.withdrawn = True
            self.watch.refuses(attempt.data)
        return attempt.withdrawn

    def has_committed(self, attempt: Attempt) -> bool:
        """Whether the command stands in the log for good, as far as that is committed."""
        entry = self.committed.get(attempt.index)
        return entry is not None and entry.data == attempt.data

    def _take(self, server: Server, attempt: Attempt) -> None:
        self.note(str(server.peer), attempt)
        server.callers.append(attempt)
        if not attempt.data:
            self.read(server.peer, attempt)
            return
        raft = server.raft
        replica = server.replica
        assert raft is not None
        assert replica is not None
        if raft.state is not Role.LEADER:
            self.fail(attempt, error_of(raft.refusal()))
            return
        if server.applied < server.replayed:
            # Until what an earlier life had applied is applied again.
            self.later(0.001, lambda: self.serve(attempt) if server.raft is raft else None)
            return
        if replica.filters and (rejection := replica.check(self.decoded(attempt.data))) is not None:
            self.fail(attempt, rejection)
            return
        outcome = self.write(server.peer, attempt.data, attempt)
        if isinstance(outcome, Refusal):
            self.fail(attempt, error_of(outcome))

    def waiter(self, ticket: Any, index: int) -> Caller:
        if type(ticket) is Attempt:
            ticket.index = index
            return _Dropping(self, ticket)
        return super().waiter(ticket, index)

    # Lives.

    def on_start(self, server: Server) -> None:
        machine = make_machine(self._machine)
        server.replica = Replica(machine, decode(self._init_arg), server.peer, debug=False)

    def on_role(self, server: Server, role: Role) -> None:
        if server.replica is not None:
            server.replica.transition(role)

    def crash(
        self, peer: Peer, *, lossy: bool = False, keep: int = 0, killed: bool = False
    ) -> None:
        """As for any cluster; and callers learn that their server is gone."""
        server = self.servers[peer]
        raft = server.raft
        if raft is None:
            return
        waiting = [each for each in server.waiting if isinstance(each, _Dropping)]
        reads = [ticket for _, ticket in server.reads]
        reads += raft.tickets()
        unheard = [job for job in server.inbox if type(job) is _Request]
        if server.replica is not None and not lossy and not killed:
            # A process that is killed calls nothing any more.
            server.replica.terminate("killed")
        super().crash(peer, lossy=lossy, keep=keep, killed=killed)
        for each in waiting:
            each.attempt.fail(ServerDown("killed", maybe_applied=True))
        for ticket in reads:
            if type(ticket) is Attempt:
                self.fail(ticket, ServerDown("killed", maybe_applied=False))
        for request in unheard:
            if not request.attempt.withdrawn:
                request.attempt.waits = False
                self.fail(request.attempt, ServerDown("killed", maybe_applied=False))

    # Entries and reads.

    def on_apply(self, server: Server, index: int, entry: Entry, caller: Caller | None) -> None:
        replica = server.replica
        assert replica is not None
        if entry.kind == COMMAND:
            if caller is not None:
                self.watch.acknowledges(index, entry.term, caller)
            witness = _Witness(caller)
            command = self.decoded(entry.data)
            shown = repr(command) if self.observe is not None else ""
            effects = replica.write(index, command, witness)
            said = witness.said()
            if shown:
                self.note(str(server.peer), f"applies {index}: {shown} -> {said!r}")
            self._compare(server, index, said)
        else:
            effects = replica.configure(decode_config(entry.data))
            super().on_apply(server, index, entry, caller)
        self._judge_state(server, index)
        self._compare_state(server, index)
        if replica.released:
            replica.released = False
            self.later(0.0, partial(self._take_released, server, server.raft))
        raft = server.raft
        assert raft is not None
        leads = raft.state is Role.LEADER and raft.term == entry.term
        if effects and leads and index > server.replayed:
            self._run_effects(server, index, effects)

    def _compare(self, server: Server, index: int, said: Any) -> None:
        if server.owner.watch is not self.watch:
            return
        first = self._said.setdefault(index, said)
        if first is not said and not alike(first, said):
            raise Violation(
                "replicas agree",
                f"{server.peer} answers {said!r} to the entry at {index}, and another replica"
                f" {first!r}: handle_write must depend on command and state only",
            )

    def _compare_state(self, server: Server, index: int) -> None:
        """Replicas agree: so does a state that was restored, or is compared with one."""
        if server.owner.watch is not self.watch or index not in self._states:
            return
        assert server.replica is not None
        state = server.replica.state
        first = decode(self._states[index])
        if not alike(first, state):
            raise Violation(
                "replicas agree",
                f"after {index} {server.peer} has the state {state!r}, and another replica had"
                f" {first!r}",
            )

    def _take_released(self, server: Server, life: object) -> None:
        """The machine takes a snapshot to be worthwhile."""
        if server.raft is life and not server.taking:
            self.counts["snapshots that the machine asked for"] += 1
            self.take_snapshot(server.peer)

    def on_capture(self, server: Server) -> Writer | None:
        replica = server.replica
        assert replica is not None
        try:
            writer = replica.capture()
        except NotSerialisable as error:
            self.note(str(server.peer), f"can't take a snapshot: {error}")
            return None
        index = server.applied
        if server.owner.watch is self.watch and index not in self._states:
            state = _pickled(replica.state)
            if state:
                self._states[index] = state
        self._compare_state(server, index)
        return writer

    def on_restore(self, server: Server, snapshot: Snapshot, state: bytes) -> None:
        replica = server.replica
        assert replica is not None
        replica.state = replica.restored(io.BytesIO(state))
        self._judge_state(server, snapshot.index)
        self._compare_state(server, snapshot.index)

    def _judge_state(self, server: Server, index: int) -> None:
        if self._state_check is None:
            return
        assert server.replica is not None
        state = server.replica.state
        try:
            said = self._state_check(state)
            holds = said is None or bool(said)
        except Exception as error:
            why = str(error) if isinstance(error, AssertionError) else repr(error)
            raise Violation(
                "the machine's own", f"{why}: after {index} on {server.peer}, in {state!r}"
            ) from error
        if not holds:
            raise Violation(
                "the machine's own", f"not so after {index} on {server.peer}: {state!r}"
            )

    def compare_states(self, servers: list[Server]) -> None:
        """Replicas agree: who has applied the same entries has the same state."""
        first, *others = servers
        assert first.replica is not None
        state = first.replica.state
        for other in others:
            assert other.replica is not None
            theirs = other.replica.state
            if not alike(state, theirs):
                raise Violation(
                    "replicas agree",
                    f"after {first.applied} entries {first.peer} has the state {state!r} and"
                    f" {other.peer} {theirs!r}",
                )

    def overdue(self, server: Server) -> list[Any]:
        """Who has not been answered: when all logs agree and nothing happens, nobody."""
        return [each for each in server.callers if not each.told and not each.silent]

    def _run_effects(self, server: Server, index: int, effects: Sequence[SideEffect]) -> None:
        if server.owner.watch is not self.watch:
            return
        before = self._effects_ran.get(index)
        if before is not None:
            raise Violation(
                "effects once", f"those of {index} ran on {before}, and on {server.peer} again"
            )
        self._effects_ran[index] = server.peer
        self.counts["side effects"] += len(effects)
        for effect in effects:
            try:
                effect()
            except Exception as error:
                # It changes nothing, as it does in production.
                self.counts["side effects that raised"] += 1
                failed = f"a side effect of {index} raised {type(error).__name__}: {error}"
                self.note(str(server.peer), failed)

    def on_read(self, server: Server, ticket: Any) -> None:
        if type(ticket) is not Attempt:
            super().on_read(server, ticket)
            return
        assert server.replica is not None
        ticket.index = server.applied
        replica = server.replica
        before = _pickled(replica.state)
        replica.read(ticket.call, ticket)
        ticket.silent = not ticket.told
        after = _pickled(replica.state)
        if before and after != before and decode(before) != replica.state:
            raise Violation(
                "reads change nothing",
                f"{ticket!r} at {server.peer} changed the state to {replica.state!r}",
            )

    def on_answer(self, server: Server, answer: Answer) -> None:
        ticket = answer.ticket
        if type(ticket) is not Attempt:
            super().on_answer(server, answer)
            return
        assert not isinstance(answer.outcome, Logged)
        assert isinstance(answer.outcome, Refusal)
        self.fail(ticket, error_of(answer.outcome))


class _Request:
    """A request in a server's inbox."""

    __slots__ = ("_take", "attempt")

    def __init__(self, attempt: Attempt, take: Callable[[], None]) -> None:
        self.attempt = attempt
        self._take = take

    def __call__(self) -> None:
        self._take()


class _Dropping:
    """A client whose command is in the log: what it is told is noted as a promise."""

    __slots__ = ("_world", "attempt")

    may_apply = True

    def __init__(self, world: World, attempt: Attempt) -> None:
        self._world = world
        self.attempt = attempt

    def __repr__(self) -> str:
        return repr(self.attempt)

    @property
    def reply(self) -> _Dropping:
        return self

    def set(self, value: Any = None, /) -> None:
        self.attempt.set(value)

    def fail(self, error: BaseException, /) -> None:
        if type(error) is CommandDropped:
            self._world.fail(self.attempt, error)
        else:
            self.attempt.fail(error)


def _pickled(state: Any) -> bytes:
    """To tell whether it changes; empty if it can't be pickled, as some states can't."""
    try:
        return encode(state)
    except NotSerialisable:
        return b""


def _let_pass(error: BaseException) -> None:
    """Ctrl-C ends a simulation, though it hit a callback, of which it would be the answer."""
    if isinstance(error, MachineError) and error.type_name == "KeyboardInterrupt":
        raise KeyboardInterrupt
