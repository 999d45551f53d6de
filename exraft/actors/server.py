"""A raft server: the process that drives a core.

Knows the turn of its loop: take a bounded batch of messages, then look at the time, store once,
send once a peer, apply, reply. Must not know the rules of consensus (the core's), nor what a
machine may do (the replica's).

The mailbox is the clock: the loop waits no longer than the core's deadline. Nothing here blocks on
another server: between servers there are only one-way messages.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from math import inf
from queue import Empty
from time import monotonic
from typing import Any, Final

from exraft.actors import members, watching
from exraft.actors.calls import (
    Ask,
    AwaitLeader,
    Call,
    Change,
    Crash,
    LeaderGone,
    Read,
    Transfer,
    TriggerElection,
    Write,
)
from exraft.actors.exits import Exit, Order
from exraft.actors.mailbox import refuse
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry
from exraft.actors.spec import PATIENCE, Tenure, supervisor_name
from exraft.actors.status import Status, status_of
from exraft.codec import copy_exception, decode
from exraft.errors import (
    AlreadyStarted,
    CommandTooLarge,
    DirtyReadDisabled,
    NotSerialisable,
    OutcomeUnknown,
    Overloaded,
    ServerNotFound,
    TransferFailed,
)
from exraft.machine import make_machine
from exraft.names import Peer, Role, node
from exraft.raft import COMMAND, Answer, Config, Entry, Logged, Raft, Refusal
from exraft.raft.config import decode_config
from exraft.raft.leader import Leader
from exraft.raft.messages import Append, AppendReply, Header
from exraft.raft.outcome import Output
from exraft.replica import Replica, Waiting, error_of

logger = logging.getLogger("exraft.server")

BATCH: Final = 512
"""Messages taken in one turn, so that under load the time still comes (rule 14)."""
SLICE: Final = 1024
"""Entries applied in one turn at most."""
LEVELS: Final = {"warning": logging.WARNING, "error": logging.ERROR}
MAX_HELD: Final = 100_000
"""Calls that wait for a replay at most."""


class _Here(threading.local):
    server: Peer | None = None


_here = _Here()


def current_server() -> Peer | None:
    """The server whose thread this is, if it is one's."""
    return _here.server


class RaftServer(Process):
    """One life of a server."""

    def __init__(self, tenure: Tenure) -> None:
        super().__init__()
        estate = tenure.estate
        spec = self._spec = estate.spec
        self._me = spec.peer
        # For callers, who refuse what is larger before they send it.
        self._actor_ref.max_command_bytes = spec.max_command_bytes  # type: ignore[attr-defined]
        self._tenure = tenure
        self._transport = estate.transport
        self._store = tenure.begin_life()
        self._batch: deque[Any] = deque()
        """The rest of the batch that is being handled."""
        self._interrupted = False
        """Whether it took too long, and is gone on with in the next turn."""
        self._current: Any = None
        """The message that is being handled, or the call whose entry is being applied."""
        self._waiting: Waiting[Call] = Waiting()
        self._applied = 0
        self._reads: deque[tuple[int, deque[Read]]] = deque()
        """Confirmed reads that wait for the index to be applied."""
        self._await_leader: list[Call] = []
        self._held: list[Write | Read] = []
        """Calls that came while an earlier life's entries are replayed."""
        self._replayed = 0
        """What an earlier life had committed: its side effects and replies are past (rule 26)."""
        self._fault: str | None = None
        self._stopping: Order | None = None
        self._stop_by = 0.0
        self._known_leader: Peer | None = None
        self._known_config: Config | None = None
        self._watch: watching.Monitor | None = None
        self._named = False
        self._why: object = "noproc"
        """The exit reason, as callers are told."""
        self._replica: Replica | None = None
        self._raft: Raft
        self._out = Output()
        """What the core wants done, and is being done."""

    def __str__(self) -> str:
        return f"server {self._me}"

    # The life.

    def on_start(self) -> None:
        _here.server = self._me
        spec = self._spec
        tenure = self._tenure
        replica = Replica(
            make_machine(spec.machine), decode(spec.init_arg), self._me, debug=spec.debug
        )
        store = self._store
        if store.dirty:
            store.sync()
        self._replayed = store.commit_index
        now = monotonic()
        self._raft = Raft(
            self._me,
            store,
            spec.options,
            random.Random(),
            now,
            spec.founders,
            resume=tenure.estate.lives > 1,
            standby=tenure.standby,
        )
        self._replica = replica
        if tenure.standby and self._raft.standby:
            logger.warning(
                "%s starts with an empty store although a living cluster counts it as a member: it"
                " waits. Take it in again with ExRaft.add_server(leader, %r), or stop all members"
                " to found the cluster anew",
                self._me,
                self._me.name,
            )
        if not tenure.take_name(self.actor_ref):
            self.register(self._me.name)
        self._named = True
        # A lone server is candidate and leader before anyone looks: it starts as leader.
        self._settle(now, announce=False)
        replica.transition(self._raft.state)

    def run(self) -> None:
        raft = self._raft
        mailbox = self.actor_inbox
        # It may have hung, and been left behind meanwhile.
        while not self.killed:
            if self._interrupted:
                # What callers want has taken long: first hear the peers again.
                self._batch.extendleft(reversed(mailbox.take_first(BATCH)))
            else:
                try:
                    first = mailbox.get(0.0 if self._busy else raft.deadline - monotonic())
                except Empty:
                    pass
                else:
                    self._batch.append(first)
                    self._batch.extend(mailbox.take(BATCH - 1))
            self._handle_batch()
            now = monotonic()
            raft.tick(now)
            self._settle(now)
            if self._applied < raft.commit_index:
                self._apply()
            if self._stopping is not None:
                self._end_if_ready(now)

    @property
    def _busy(self) -> bool:
        """Whether there is something to be done although no message comes."""
        behind = self._applied < self._raft.commit_index and self._fault is None
        return behind or bool(self._reads and self._reads[0][0] <= self._applied)

    def _slice_ends(self) -> float:
        """Until when this turn may deal with callers, so that peers are heard in time."""
        return monotonic() + self._spec.options.heartbeat_timeout / 2

    def _handle_batch(self) -> None:
        """Should a message end this life, the next one gets the rest."""
        now = monotonic()
        until = self._slice_ends()
        batch = self._batch
        self._interrupted = False
        while batch and not self.killed:
            item = self._current = batch.popleft()
            self._handle(item, now)
            if monotonic() >= until:
                self._interrupted = bool(batch)
                break
        self._current = None

    def _handle(self, item: Any, now: float) -> None:
        kind = type(item)
        if kind is Append or kind is AppendReply:
            self._raft.step(item, now)
        elif kind is Write:
            self._write(item, now)
        elif kind is Read:
            self._read(item, now)
        elif isinstance(item, Header):
            self._raft.step(item, now)  # type: ignore[arg-type]
        elif kind is Change:
            self._raft.change(item, item.peer, add=item.add, patience=item.patience, now=now)
        elif kind is Transfer:
            self._raft.transfer(item, item.to, now)
        elif kind is TriggerElection:
            self._raft.campaign(now)
            item.reply.set(None)
        elif kind is AwaitLeader:
            self._await_leader.append(item)
            self._tell_leader()
        elif kind is Ask:
            item.reply.set(self._tell_about(item.what))
        elif kind is LeaderGone:
            self._raft.leader_gone(item.peer, now)
        elif kind is Crash:
            raise item.error
        else:
            self.receive(item)

    # Writes and reads.

    def _write(self, call: Write, now: float) -> None:
        """Refuse what this server can't log; log the rest (rule 13: never what it can't decode)."""
        raft = self._raft
        replica = self._replica
        assert replica is not None
        if type(raft.role) is not Leader:
            self._refuse(call, raft.refusal())
            return
        if self._applied < self._replayed:
            self._hold(call)
            return
        if not call.take():
            return
        if len(call.data) > self._spec.max_command_bytes:
            call.reply.fail(CommandTooLarge(len(call.data), self._spec.max_command_bytes))
            return
        if self._tenure.effects.full:
            call.reply.fail(Overloaded("too many side effects wait to be run: wait for some"))
            return
        try:
            command = decode(call.data)
        except BaseException as error:
            # Whatever it is: nothing is logged yet, and one caller's command must not harm others.
            call.reply.fail(
                NotSerialisable(f"the command can't be decoded: {type(error).__name__}: {error}")
            )
            return
        if not replica.filters:
            call.command = command
            call.decoded = True
        elif (rejection := replica.check(command)) is not None:
            call.reply.fail(rejection)
            return
        outcome = raft.propose(call.data, now)
        if isinstance(outcome, Refusal):
            self._refuse(call, outcome)
        else:
            self._waiting.add(raft.term, outcome, call)

    def _hold(self, call: Write | Read) -> None:
        """Until what an earlier life had applied is applied again."""
        if self._fault is not None:
            call.reply.fail(OutcomeUnknown(self._fault, maybe_applied=False))
        elif len(self._held) < MAX_HELD:
            self._held.append(call)
        else:
            call.reply.fail(Overloaded("the server replays its log: call again in a moment"))

    def _read(self, call: Read, now: float) -> None:
        if not call.dirty:
            self._raft.read(call, now)
        elif not self._spec.dirty_read:
            call.reply.fail(DirtyReadDisabled())
        elif self._applied < self._replayed:
            self._hold(call)
        else:
            assert self._replica is not None
            self._replica.read(call.query, call)

    def _apply(self) -> None:
        """Apply what is committed, in slices: messages and heartbeats come in between."""
        if self._fault is not None:
            return
        raft = self._raft
        replica = self._replica
        assert replica is not None
        until = self._slice_ends()
        count = min(SLICE, raft.commit_index - self._applied)
        index = self._applied
        waiting = self._waiting
        for entry in self._store.slice(index + 1, count):
            index += 1
            call = self._current = waiting.take(entry.term, index)
            if entry.kind == COMMAND:
                if type(call) is Write and call.decoded:
                    command = call.command
                else:
                    try:
                        command = decode(entry.data)
                    except (MemoryError, RecursionError):
                        raise
                    except BaseException as error:
                        if self.killed:
                            raise  # The fence's SystemExit.
                        self._halt(index, call, error)
                        return
                effects = replica.write(index, command, call)
            else:
                effects = replica.configure(decode_config(entry.data))
                if call is not None:
                    call.reply.set(None)
            self._applied = index
            if effects and self._may_run_effects(index, entry):
                self._tenure.effects.run(effects)
            if monotonic() >= until:
                break
        self._current = None
        if self._reads:
            self._answer_reads()
        if self._held and self._applied >= self._replayed:
            # Before those that came later.
            self._batch.extendleft(reversed(self._held))
            self._held = []
            self._interrupted = True

    def _may_run_effects(self, index: int, entry: Entry) -> bool:
        """Only of the term that this server leads, and never twice (rule 26)."""
        raft = self._raft
        leads = entry.term == raft.term and type(raft.role) is Leader
        return leads and index > self._replayed and not self.killed

    def _answer_reads(self) -> None:
        assert self._replica is not None
        until = self._slice_ends()
        while self._reads and self._reads[0][0] <= self._applied:
            calls = self._reads[0][1]
            while calls:
                # Only then taken off: should it end this life, its caller is told.
                self._replica.read(calls[0].query, calls[0])
                calls.popleft()
                if monotonic() >= until:
                    return
            self._reads.popleft()

    def _halt(self, index: int, call: Call | None, error: BaseException) -> None:
        """An entry can't be decoded: stop applying and leading, and say so (rule 13)."""
        self._fault = (
            f"the command at index {index} can't be decoded: {type(error).__name__}: {error}."
            " Is its class importable here, and the same as where it was written?"
        )
        logger.error("%s applies nothing any more: %s", self._me, self._fault)
        if call is not None:
            call.reply.fail(OutcomeUnknown(self._fault))
        self._raft.halt(monotonic())
        self._settle(monotonic())
        why = f"{self._me} stopped applying: {self._fault}"
        for each in self._waiting:
            each.reply.fail(OutcomeUnknown(why))
        self._waiting.clear()
        unread = [read for _, reads in self._reads for read in reads]
        for held in (*unread, *self._held):
            held.reply.fail(OutcomeUnknown(why, maybe_applied=False))
        self._reads.clear()
        self._held.clear()

    # What the core wants done.

    def _settle(self, now: float, *, announce: bool = True) -> None:
        """Carry it out, in the order that `exraft.raft.outcome.Output` states."""
        raft = self._raft
        store = self._store
        send = self._transport.send
        me = self._me
        while True:
            raft.flush(now)
            out = self._out = raft.take()
            for to, message in out.early:
                send(me, to, message)
            dirty = store.dirty
            if dirty:
                mark = store.mark()
                store.sync()
                raft.stored(mark, now)
            # Before a vote of it is sent: from its first ballot on it may have promised something.
            if raft.config is not self._known_config and raft.term:
                self._known_config = raft.config
                members.note(me, raft.config, store)
            for to, message in out.late:
                send(me, to, message)
            for answer in out.answers:
                self._pass_on(answer)
            for confirmed in out.confirmed:
                self._reads.append((confirmed.index, deque(confirmed.tickets)))
            for severity, text in out.reports:
                logger.log(LEVELS[severity], "%s", text)
            if announce:
                assert self._replica is not None
                for role in out.roles:
                    self._log_role(role)
                    self._replica.transition(role)
            # Only what was stored, and a new role, give the core more to say.
            if not dirty and not out.roles:
                break
        if raft.leader != self._known_leader:
            self._follow(raft.leader)
        if self._reads:
            self._answer_reads()

    def _log_role(self, role: Role) -> None:
        level = logging.INFO if self._spec.debug else logging.DEBUG
        logger.log(level, "%s is %s of term %d", self._me, role, self._raft.term)

    def _pass_on(self, answer: Answer) -> None:
        call: Call = answer.ticket
        outcome = answer.outcome
        if call is _HANDING_OVER:
            return
        if isinstance(outcome, Refusal):
            self._refuse(call, outcome)
        elif isinstance(outcome, Logged):
            if outcome.index <= self._applied:
                call.reply.set(None)
            else:
                self._waiting.add(outcome.term, outcome.index, call)
        elif type(call) is not Transfer:
            call.reply.set(None)
        elif outcome.leader is not None:
            _tell(call, outcome.leader)
        else:
            # Handed over; the caller is told when the new leader is known.
            self._await_leader.append(call)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        call.reply.fail(error_of(refusal))

    def _follow(self, leader: Peer | None) -> None:
        """The leader has changed: tell who waits for one, and watch its supervisor (rule 28)."""
        self._known_leader = leader
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if leader is None:
            return
        self._tell_leader()
        if leader == self._me or leader.node != node():
            return
        gone = LeaderGone(leader)
        supervisor = ActorRegistry.get_by_name(supervisor_name(leader.name))
        if supervisor is None:
            self.actor_inbox.put(gone)
        else:
            mailbox = self.actor_inbox
            self._watch = watching.monitor(supervisor, lambda down: mailbox.put(gone))

    def _tell_leader(self) -> None:
        leader = self._raft.leader
        if leader is None:
            return
        for call in self._await_leader:
            _tell(call, leader)
        self._await_leader.clear()

    # The end.

    def on_order(self, order: Order) -> None:
        """Hand over first, if the others can go on by themselves: nobody waits for an election."""
        raft = self._raft
        if self._stopping is not None:
            return
        self._stopping = order
        now = self._stop_by = monotonic()
        if order.patience is not None:
            # Who has less patience than that has no more for side effects.
            spare = order.patience - PATIENCE
            self._tenure.grace = spare if spare > 0.0 else order.patience
        if order.everyone:
            return
        # What it has beyond the time for `terminate` is for this.
        time = inf if order.patience is None else max(0.0, order.patience - PATIENCE)
        self._stop_by += min(time, self._spec.options.min_election_timeout)
        if type(raft.role) is Leader and raft.role.could_hand_over():
            # Not to one that has been stopped a moment ago, as when a whole cluster is being
            # stopped: it would be waited for in vain.
            progress = raft.role.peers
            others = [peer for peer in raft.config.voters if peer != self._me and _lives(peer)]
            if len(others) >= raft.quorum:
                heir = max(others, key=lambda peer: progress[peer].match)
                raft.transfer(_HANDING_OVER, heir, now)

    def _end_if_ready(self, now: float) -> None:
        assert self._stopping is not None
        raft = self._raft
        handing_over = type(raft.role) is Leader and raft.role.transfer.to is not None
        finishing = type(raft.role) is not Leader and bool(self._waiting)
        if now >= self._stop_by or not (handing_over or finishing):
            raise Exit(self._stopping.reason)

    def on_stop(self) -> None:
        self._why = "normal" if self._stopping is None else self._stopping.reason
        self._terminate(self._why)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        reason = exception_value.reason if type(exception_value) is Exit else exception_value
        self._why = copy_reason(reason)
        self._terminate(reason)

    def _terminate(self, reason: object) -> None:
        if self._replica is not None:
            self._replica.terminate(reason)

    def about_to_close(self) -> None:
        """Answer who waits; keep the name, and what was never handled, for the next life."""
        tenure = self._tenure
        if self._watch is not None:
            self._watch.cancel()
        # Not a method: whoever holds the reference of a dead server shall not hold its state.
        self.actor_inbox.undelivered = partial(_give_to_successor, self._me.name, self._why)
        for call in self._calls():
            call.abandon(self._why)
        if self._named and self._stopping is None:
            try:
                tenure.keep_name(self.actor_ref)
            except AlreadyStarted as error:
                # Somebody has taken the name away from it, and the next life will not get it.
                logger.error("%s can't keep its name: %s", self._me, error)
        for item in (*self._held, *self._batch):
            if isinstance(item, Call):
                # At once, as they came before those that wait in the mailbox.
                _give_to_successor(self._me.name, self._why, item)
            else:
                self.hand_back([item])

    def left_behind(self) -> None:
        """Its thread hangs: tell who waits for it, from another one."""
        super().left_behind()
        if self._watch is not None:
            self._watch.cancel()
        # At once: the next life may be long in coming.
        self._store.fence()
        # Nor is anybody to wait for its side effects now.
        self._tenure.grace = 0.0

    def abandon(self) -> None:
        super().abandon()
        for call in self._some_calls():
            call.abandon("killed")
        # What it has taken and never looked at. Should it wake up meanwhile, each is got by one.
        for items in (self._batch, self._held):
            while True:
                try:
                    item = items.pop()
                except IndexError:
                    break
                refuse(item, "killed")

    def _some_calls(self) -> list[Call]:
        """Those that wait, as far as they can be seen from another thread."""
        for _ in range(100):
            try:
                return list(self._calls())
            except RuntimeError:
                # They change under our eyes, so its thread has not ended; it answers them when
                # it does.
                continue
        return []

    def _calls(self) -> Iterator[Call]:
        """Everyone who waits for something that this life has begun."""
        if isinstance(self._current, Call):
            yield self._current
        yield from self._waiting
        for _, reads in self._reads:
            yield from reads
        yield from self._await_leader
        tickets = self._out.tickets()
        if self._replica is not None:
            tickets += self._raft.tickets()
        yield from (call for call in tickets if isinstance(call, Call))

    # A look inside.

    def _tell_about(self, what: str) -> Any:
        raft = self._raft
        if what == "leader":
            return raft.leader
        if what == "state":
            return raft.state
        if what == "ping":
            return "pong"
        if what == "log":
            return self._store.slice(1, self._store.last_index)
        return self._status()

    def _status(self) -> Status:
        return status_of(
            self._raft,
            now=monotonic(),
            applied=self._applied,
            queued=self.actor_inbox.qsize(),
            writes=len(self._waiting),
            reads=sum(len(reads) for _, reads in self._reads),
            side_effects=self._tenure.effects.queued,
            restarts=self._tenure.estate.lives - 1,
            fault=self._fault,
        )


def _tell(call: Call, leader: Peer) -> None:
    """Tell who waits for a leader; a hand-over to somebody else has failed."""
    if isinstance(call, Transfer) and call.to not in (None, leader):
        call.reply.fail(TransferFailed(f"{leader} was elected, not {call.to}: ask {leader} again"))
    else:
        call.reply.set(leader)


def _give_to_successor(name: str, why: object, item: Any) -> None:
    """A call that one life never looked at is not lost: the next one gets it."""
    if isinstance(item, Call):
        try:
            ActorRegistry.deliver(name, item)
        except ServerNotFound:
            item.refuse(why)
    else:
        refuse(item, why)


def _lives(peer: Peer) -> bool:
    """Whether the server is supervised still, as far as it can be known here."""
    return peer.node != node() or ActorRegistry.get_by_name(supervisor_name(peer.name)) is not None


_HANDING_OVER: Any = object()
"""The ticket of the hand-over before a stop, which no caller waits for."""


def copy_reason(reason: object) -> object:
    """An exit reason that may be handed to callers: without the frames that hold the state."""
    if isinstance(reason, BaseException):
        return copy_exception(reason, None, maybe_applied=True)
    return reason
