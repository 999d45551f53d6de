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
from collections import deque
from collections.abc import Iterator
from copy import copy
from functools import partial
from math import inf
from queue import Empty
from time import monotonic
from typing import Any, Final

from exraft.actors import ending, following, members
from exraft.actors.applying import Applying, Restoring
from exraft.actors.beside import Beside, current_server, enter
from exraft.actors.calls import (
    Ask,
    AwaitLeader,
    Call,
    Change,
    Crash,
    LeaderGone,
    LeaderLost,
    Read,
    TakeSnapshot,
    Transfer,
    TriggerElection,
    Write,
)
from exraft.actors.exits import Exit, Order
from exraft.actors.following import Following
from exraft.actors.mailbox import refuse
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry
from exraft.actors.room import Room
from exraft.actors.snapshots import Snapshots, Taking
from exraft.actors.spec import PATIENCE, Tenure, supervisor_name
from exraft.actors.status import Status, status_of
from exraft.codec import Encoded, copy_exception, decode, decode_at_home, without_frames
from exraft.errors import (
    AlreadyStarted,
    CommandTooLarge,
    DirtyReadDisabled,
    DiskFull,
    NotSerialisable,
    Overloaded,
    ServerNotFound,
    StorageError,
    StoreFailed,
)
from exraft.machine import make_machine
from exraft.names import Peer, Role, node
from exraft.raft import Answer, Config, Logged, Raft, Refusal
from exraft.raft.leader import Leader
from exraft.raft.messages import Append, AppendReply, Header, Install
from exraft.raft.outcome import Output
from exraft.replica import Replica, error_of

__all__ = ["RaftServer", "current_server"]

logger = logging.getLogger("exraft.server")

BATCH: Final = 512
"""Messages taken in one turn, so that under load the time still comes (rule 14)."""
LEVELS: Final = {"warning": logging.WARNING, "error": logging.ERROR}


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
        """The message that is being handled."""
        self._turn = spec.options.heartbeat_timeout / 2
        """Seconds that one turn may deal with callers, so that peers are heard in time."""
        self._machine = Applying(self, self._me, self._store, tenure.effects, self._turn)
        self._snapshots = Snapshots(self, spec, self._store, self._machine)
        self._room = Room(self._me, self._store, spec.options.heartbeat_timeout)
        self._following = Following(self._me, self.actor_inbox, estate.transport)
        self._stopping: Order | None = None
        self._stop_by = 0.0
        self._known_config: Config | None = None
        self._named = False
        self._why: object = "noproc"
        """The exit reason, as callers are told."""
        self._raft: Raft
        self._out = Output()
        """What the core wants done, and is being done."""

    def __str__(self) -> str:
        return f"server {self._me}"

    # The life.

    def on_start(self) -> None:
        enter(self._me)
        spec = self._spec
        tenure = self._tenure
        resumes = tenure.estate.resumes
        replica = Replica(
            make_machine(spec.machine), decode_at_home(spec.init_arg), self._me, debug=spec.debug
        )
        store = self._store
        # What a life before has left in memory is stored by this one, even if there was no room.
        goes_on = store.dirty
        without_room: DiskFull | None = None
        if goes_on:
            try:
                store.sync()
            except DiskFull as error:
                without_room = error
        if not resumes:
            self._machine.restore_now(replica)
        replayed = store.commit_index
        now = monotonic()
        self._raft = raft = Raft(
            self._me,
            store,
            spec.options,
            random.Random(),
            now,
            spec.founders,
            resume=resumes and without_room is None,
            standby=tenure.standby,
        )
        self._machine.begin(raft, replica, replayed)
        self._snapshots.begin(raft)
        if tenure.standby and raft.standby:
            logger.warning("%s", tenure.advice)
        if not tenure.take_name(self.actor_ref):
            self.register(self._me.name)
        self._named = True
        if without_room is not None:
            self._run_out_of_room(without_room, now)
        # A lone server is candidate and leader before anyone looks: it starts as leader.
        self._settle(now, announce=False)
        if self._room.full and not goes_on:
            raise self._room.refusal()
        replica.transition(raft.state)

    def run(self) -> None:
        raft = self._raft
        store = self._store
        machine = self._machine
        snapshots = self._snapshots
        room = self._room
        mailbox = self.actor_inbox
        transport = self._transport
        transport.hold()
        wait = transport.wait
        # It may have hung, and been left behind meanwhile.
        while not self.killed:
            if self._interrupted:
                # What callers want has taken long: first hear the peers again.
                self._batch.extendleft(reversed(mailbox.take_first(BATCH)))
            else:
                try:
                    busy = machine.applied < store.commit_index or machine.reads or room.full
                    first = wait(mailbox, self._idle_for() if busy else raft.deadline - monotonic())
                except Empty:
                    pass
                else:
                    self._batch.append(first)
                    self._batch.extend(mailbox.take(BATCH - 1))
            self._handle_batch()
            now = monotonic()
            if not room.full:
                raft.tick(now)
            elif now >= room.look_at:
                room.look(raft, now)
            self._settle(now)
            if machine.applied < store.commit_index:
                self._apply(now)
            if machine.held or snapshots.asked:
                self._serve_who_waited()
            transport.flush()
            if self._stopping is not None:
                self._end_if_ready(now)

    def _idle_for(self) -> float:
        """Seconds until there is something to be done although no message comes."""
        machine = self._machine
        if self._room.full:
            return self._room.look_at - monotonic()
        if machine.readable or (machine.goes_on and machine.applied < self._store.commit_index):
            return 0.0
        return self._raft.deadline - monotonic()

    def _handle_batch(self) -> None:
        """Should a message end this life, the next one gets the rest."""
        now = monotonic()
        until = now + self._turn
        batch = self._batch
        handle = self._handle_without_room if self._room.full else self._handle
        self._interrupted = False
        while batch and not self.killed:
            item = self._current = batch.popleft()
            handle(item, now)
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
        elif kind is Install:
            self._room.take_piece(item, self._raft, now)
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
            self._following.wait(item)
            self._following.tell(self._raft.leader)
        elif kind is Ask:
            item.reply.set(self._tell_about(item.what))
        elif kind is TakeSnapshot:
            self._snapshots.ask(item)
        elif isinstance(item, Beside):
            self._done_beside(item, now)
        elif kind is LeaderGone:
            self._raft.leader_gone(item.peer, now)
        elif kind is LeaderLost:
            self._raft.leader_lost(item.peer, now)
        elif kind is Crash:
            raise item.error
        else:
            self.receive(item)

    def _handle_without_room(self, item: Any, now: float) -> None:
        if not self._room.refuses(item):
            self._handle(item, now)

    # Writes and reads.

    def _write(self, call: Write, now: float) -> None:
        """Refuse what this server can't log; log the rest (rule 13: never what it can't decode)."""
        raft = self._raft
        machine = self._machine
        replica = machine.replica
        assert replica is not None
        if type(raft.role) is not Leader:
            self._refuse(call, raft.refusal())
            return
        if machine.applied < machine.replayed:
            machine.hold(call)
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
            machine.waiting.add(raft.term, outcome, call)

    def _read(self, call: Read, now: float) -> None:
        machine = self._machine
        if type(call.query) is Encoded:
            # It comes from another node.
            try:
                call.query = decode(call.query.data)
            except BaseException as error:
                call.reply.fail(
                    NotSerialisable(f"the query can't be decoded: {type(error).__name__}: {error}")
                )
                return
        if not call.dirty:
            self._raft.read(call, now)
        elif not self._spec.dirty_read:
            call.reply.fail(DirtyReadDisabled())
        elif machine.applied < machine.replayed:
            machine.hold(call)
        else:
            assert machine.replica is not None
            machine.replica.read(call.query, call)

    # The machine.

    def _apply(self, now: float) -> None:
        """Let the machine get on, as far as one turn goes."""
        machine = self._machine
        raft = self._raft
        if self._room.full:
            return
        try:
            machine.apply()
        except DiskFull as error:
            self._run_out_of_room(error, now)
            self._settle(now)
        if machine.fault is not None and not raft.halted:
            raft.halt(now)
            self._settle(now)
            machine.refuse_all()
        snapshots = self._snapshots
        if machine.applied >= snapshots.next_index or self._store.size >= snapshots.next_size:
            snapshots.take()

    def _serve_who_waited(self) -> None:
        """For the machine to get so far, or for a snapshot."""
        machine = self._machine
        if machine.held and machine.applied >= machine.replayed:
            # Before those that came later.
            self._batch.extendleft(reversed(machine.take_held()))
            self._interrupted = True
        if self._snapshots.asked:
            self._snapshots.take()

    def _done_beside(self, job: Beside, now: float) -> None:
        if isinstance(job, Restoring):
            self._machine.restored(job)
            self._snapshots.count_anew()
        elif isinstance(job, Taking):
            self._snapshots.taken(job, now)

    def _run_out_of_room(self, error: DiskFull, now: float) -> None:
        self._room.has_run_out(error, self._raft, now)
        for call in self._machine.take_held():
            self._room.refuse(call)

    # What the core wants done.

    def _settle(self, now: float, *, announce: bool = True) -> None:
        """Carry it out, in the order that `exraft.raft.outcome.Output` states."""
        raft = self._raft
        store = self._store
        machine = self._machine
        room = self._room
        send = self._transport.send
        flush = self._transport.flush
        me = self._me
        while True:
            try:
                raft.flush(now)
            except DiskFull as error:
                # A snapshot that is to be sent could not be opened.
                self._run_out_of_room(error, now)
                raft.flush(now)
            out = self._out = raft.take()
            for to, message in out.early:
                send(me, to, message)
            if out.early:
                # Who has to store them does so while this server does.
                flush()
            dirty = store.dirty and not room.full
            if dirty:
                mark = store.mark()
                try:
                    store.sync()
                except DiskFull as error:
                    self._run_out_of_room(error, now)
                else:
                    raft.stored(mark, now)
            if room.full:
                # It promises what is not stored (rule 2).
                out.late.clear()
            # Before a vote of it is sent: from its first ballot on it may have promised something.
            if raft.config is not self._known_config and raft.term:
                self._known_config = raft.config
                members.note(me, raft.config, store)
            for to, message in out.late:
                send(me, to, message)
            if out.late:
                flush()
            for answer in out.answers:
                self._pass_on(answer)
            for confirmed in out.confirmed:
                machine.confirmed(confirmed.index, confirmed.tickets)
            for severity, text in out.reports:
                logger.log(LEVELS[severity], "%s", text)
            if announce:
                assert machine.replica is not None
                for role in out.roles:
                    self._log_role(role)
                    machine.replica.transition(role)
            # Only what was stored, and a new role, give the core more to say.
            if not dirty and not out.roles:
                break
        if raft.leader != self._following.leader:
            self._following.follow(raft.leader)
        if machine.reads:
            machine.answer_reads()
            if room.full:
                machine.refuse_reads(room.refusal)

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
            if outcome.index <= max(self._machine.applied, self._store.base_index):
                call.reply.set(None)
            else:
                self._machine.waiting.add(outcome.term, outcome.index, call)
        elif type(call) is not Transfer:
            call.reply.set(None)
        elif outcome.leader is not None:
            following.answer(call, outcome.leader)
        else:
            # Handed over; the caller is told when the new leader is known.
            self._following.wait(call)

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        call.reply.fail(error_of(refusal))

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
        finishing = type(raft.role) is not Leader and bool(self._machine.waiting)
        if now >= self._stop_by or not (handing_over or finishing):
            raise Exit(self._stopping.reason)

    def on_stop(self) -> None:
        self._why = "normal" if self._stopping is None else self._stopping.reason
        self._terminate(self._why)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        reason = exception_value.reason if type(exception_value) is Exit else exception_value
        self._why = copy_reason(reason)
        if isinstance(reason, StoreFailed):
            self._end_supervisor(reason)
        self._terminate(reason)

    def _end_supervisor(self, failure: StoreFailed) -> None:
        """No other life can have this store: only another process may, which verifies it."""
        logger.error(
            "%s is not started again in this process, as its store has failed: %s. Look at the"
            " disk, then start it in a new process, which verifies what is stored",
            self._me,
            failure,
        )
        if self.ancestors:
            ending.send(self.ancestors[0], Order("shutdown", None))

    def _terminate(self, reason: object) -> None:
        if self._machine.replica is not None:
            self._machine.replica.terminate(reason)

    def about_to_close(self) -> None:
        """Answer who waits; keep the name, and what was never handled, for the next life."""
        tenure = self._tenure
        self._transport.release()
        self._end_what_runs_beside()
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
        for item in (*self._machine.held, *self._batch):
            if isinstance(item, Call):
                # At once, as they came before those that wait in the mailbox.
                _give_to_successor(self._me.name, self._why, item)
            else:
                self.hand_back([item])

    def _end_what_runs_beside(self) -> None:
        self._following.end()
        self._machine.end()
        self._snapshots.end()

    def left_behind(self) -> None:
        """Its thread hangs: tell who waits for it, from another one."""
        super().left_behind()
        self._end_what_runs_beside()
        # At once: the next life may be long in coming.
        self._store.fence()
        # Nor is anybody to wait for its side effects now.
        self._tenure.grace = 0.0

    def abandon(self) -> None:
        super().abandon()
        for call in self._some_calls():
            call.abandon("killed")
        # What it has taken and never looked at. Should it wake up meanwhile, each is got by one.
        for items in (self._batch, self._machine.held):
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
        yield from self._machine.calls()
        yield from self._snapshots.calls()
        yield from self._following.waiting
        tickets = self._out.tickets()
        if self._machine.replica is not None:
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
            first = self._store.base_index + 1
            return first, self._store.slice(first, self._store.last_index)
        if what == "snapshot":
            return None if self._store.snapshot is None else self._store.open_snapshot()
        return self._status()

    def _status(self) -> Status:
        machine = self._machine
        return status_of(
            self._raft,
            self._store,
            now=monotonic(),
            applied=machine.applied,
            queued=self.actor_inbox.qsize(),
            writes=len(machine.waiting),
            reads=machine.waiting_reads,
            side_effects=self._tenure.effects.queued,
            restarts=self._tenure.estate.lives - 1,
            fault=machine.fault,
            storage=self._tenure.estate.place,
            storage_full=self._room.full,
            syncs=self._tenure.estate.syncs,
            snapshotting=self._snapshots.taking,
            replaying=max(0, machine.replayed - machine.applied),
        )


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
    if isinstance(reason, StorageError):
        # Ours, and of none of the machine's making.
        return without_frames(copy(reason))
    if isinstance(reason, BaseException):
        return copy_exception(reason, None, maybe_applied=True)
    return reason
