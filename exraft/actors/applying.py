"""What a server's machine has applied, and who waits for it.

Knows how the machine gets on: entry by entry, over what an earlier life had applied (rule 26), or
at one bound with a snapshot. Must not know why an entry is committed, nor where a snapshot came
from.
"""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import Any, Final

from exraft.actors.beside import Beside
from exraft.actors.calls import Call, Read, Write
from exraft.actors.effects import Effects
from exraft.actors.mailbox import Mailbox
from exraft.actors.process import Process
from exraft.codec import decode
from exraft.errors import ExRaftError, OutcomeUnknown, Overloaded
from exraft.names import Peer
from exraft.raft import COMMAND, Entry, Raft
from exraft.raft.config import decode_config
from exraft.raft.leader import Leader
from exraft.raft.snapshot import SnapshotReader
from exraft.replica import Replica, Waiting
from exraft.storage.memory import LentStore
from exraft.storage.sinks import SnapshotFile

logger = logging.getLogger("exraft.server")

SLICE: Final = 1024
"""Entries applied in one turn at most."""
MAX_HELD: Final = 100_000
"""Calls that wait for a replay at most."""
PIECE: Final = 256 * 1024
"""Bytes of a snapshot that are read at once."""


class Applying:
    """The machine of one life of a server.

    Attributes:
        applied: the index of the last entry that the machine has applied.
        replayed: up to here an earlier life had applied it, or a snapshot holds it: side effects
            and replies are past (rule 26).
        fault: why nothing is applied any more, if so.
        waiting: who waits for an entry.
        held: calls that came while entries of an earlier life are replayed.
        restoring: the work on a snapshot, while it lasts.
        reads: confirmed reads, with the index that must be applied first.
        release_from: the index from which it counts that the machine takes a snapshot to be
            worthwhile.
        on_release: called when it does.
    """

    def __init__(self, life: Process, me: Peer, store: LentStore, effects: Effects, turn: float):
        self._life = life
        self._me = me
        self._store = store
        self._effects = effects
        self._turn = turn
        """Seconds that one turn may take, so that peers are heard in time."""
        self._mailbox: Mailbox = life.actor_inbox
        self.applied = 0
        self.replayed = 0
        self.fault: str | None = None
        self.waiting: Waiting[Call] = Waiting()
        self.held: list[Write | Read] = []
        self.restoring: Restoring | None = None
        self.release_from = inf
        self.on_release: Callable[[], object] = lambda: None
        self._current: Call | None = None
        """Whose entry is being applied."""
        self.reads: deque[tuple[int, deque[Read]]] = deque()
        self._progress: _Progress | None = None
        self.replica: Replica | None = None
        self._raft: Raft

    # The beginning.

    def restore_now(self, replica: Replica) -> None:
        """Begin with the newest snapshot, in this thread, if there is one.

        Raises:
            ApplyFailed: the machine raised.
        """
        if self._store.snapshot is not None:
            job = Restoring(self._me, replica, self._store.open_snapshot(), self._mailbox)
            job.work()
            replica.state = job.state
            self.applied = job.index

    def begin(self, raft: Raft, replica: Replica, replayed: int) -> None:
        """From now on there is a machine; an earlier life had committed `replayed`."""
        self._raft = raft
        self.replayed = replayed
        self.replica = replica
        snapshot = self._store.snapshot
        if snapshot is not None and self.applied < snapshot.index:
            self._restore(replica)

    # Entries.

    @property
    def goes_on(self) -> bool:
        """Whether what is committed can be applied now."""
        return self.fault is None and self.restoring is None

    @property
    def readable(self) -> bool:
        """Whether a read that is confirmed can be answered."""
        return bool(self.reads and self.reads[0][0] <= self.applied)

    def apply(self) -> None:
        """Apply what is committed, in slices: messages and heartbeats come in between.

        Raises:
            DiskFull: how far is committed can't be stored; nothing was applied.
        """
        if self.fault is not None or self.restoring is not None:
            return
        raft = self._raft
        store = self._store
        replica = self.replica
        assert replica is not None
        if self.applied < store.base_index:
            self._restore(replica)
            return
        store.note_commit()
        until = monotonic() + self._turn
        count = min(SLICE, raft.commit_index - self.applied)
        index = self.applied
        waiting = self.waiting
        for entry in store.slice(index + 1, count):
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
                        if self._life.killed:
                            raise  # The fence's SystemExit.
                        self._stop_at(index, call, error)
                        return
                effects = replica.write(index, command, call)
            else:
                effects = replica.configure(decode_config(entry.data))
                if call is not None:
                    call.reply.set(None)
            self.applied = index
            if effects and self._may_run_effects(index, entry):
                self._effects.run(effects)
            if replica.released:
                replica.released = False
                if index >= self.release_from:
                    # At once, while its state is what it takes to be worth keeping.
                    self.on_release()
            if monotonic() >= until:
                break
        self._current = None
        if self._progress is not None or self.applied < self.replayed:
            self._watch_progress(index)
        if self.reads:
            self.answer_reads()

    def _may_run_effects(self, index: int, entry: Entry) -> bool:
        """Only of the term that this server leads, and never twice (rule 26)."""
        raft = self._raft
        leads = entry.term == raft.term and type(raft.role) is Leader
        return leads and index > self.replayed and not self._life.killed

    def _watch_progress(self, index: int) -> None:
        if self._progress is None:
            self._progress = _Progress(self._me, index)
        elif index < self.replayed:
            self._progress.tell(index, self.replayed - index)
        else:
            self._progress.end(index)
            self._progress = None

    def _stop_at(self, index: int, call: Call | None, error: BaseException) -> None:
        """An entry can't be decoded (rule 13)."""
        self.fault = (
            f"the command at index {index} can't be decoded: {type(error).__name__}: {error}."
            " Is its class importable here, and the same as where it was written?"
        )
        logger.error("%s applies nothing any more: %s", self._me, self.fault)
        if call is not None:
            call.reply.fail(OutcomeUnknown(self.fault))

    def refuse_all(self) -> None:
        """Nothing is applied any more: nobody waits for it."""
        why = f"{self._me} stopped applying: {self.fault}"
        for each in self.waiting:
            each.reply.fail(OutcomeUnknown(why))
        self.waiting.clear()
        for call in self.held:
            call.reply.fail(OutcomeUnknown(why, maybe_applied=False))
        self.held.clear()
        self.refuse_reads(lambda: OutcomeUnknown(why, maybe_applied=False))

    # A snapshot in the place of entries.

    def _restore(self, replica: Replica) -> None:
        """Let a thread beside make the state; the server hears its peers meanwhile."""
        reader = self._store.open_snapshot()
        self.replayed = max(self.replayed, reader.snapshot.index)
        self.waiting.pass_by(reader.snapshot.index)
        self.restoring = Restoring(self._me, replica, reader, self._mailbox)
        self.restoring.start()

    def restored(self, job: Restoring) -> None:
        """The state is there; if another snapshot has come meanwhile, that one is next.

        Raises:
            BaseException: it is not, and this server can't go on.
        """
        assert self.replica is not None
        self.restoring = None
        if job.error is not None:
            raise job.error
        self.replica.state = job.state
        self.applied = job.index
        self.answer_reads()

    # Reads, and calls for which it is too early.

    def hold(self, call: Write | Read) -> None:
        """Until what an earlier life had applied is applied again."""
        if self.fault is not None:
            call.reply.fail(OutcomeUnknown(self.fault, maybe_applied=False))
        elif len(self.held) < MAX_HELD:
            self.held.append(call)
        else:
            call.reply.fail(Overloaded("the server replays its log: call again in a moment"))

    def take_held(self) -> list[Write | Read]:
        """Those whose time has come; they were before all that came later."""
        held, self.held = self.held, []
        return held

    def confirmed(self, index: int, tickets: list[Any]) -> None:
        """These reads may be answered as soon as `index` is applied."""
        self.reads.append((index, deque(tickets)))

    def answer_reads(self) -> None:
        assert self.replica is not None
        until = monotonic() + self._turn
        while self.reads and self.reads[0][0] <= self.applied:
            calls = self.reads[0][1]
            while calls:
                # Only then taken off: should it end this life, its caller is told.
                self.replica.read(calls[0].query, calls[0])
                calls.popleft()
                if monotonic() >= until:
                    return
            self.reads.popleft()

    def refuse_reads(self, why: Callable[[], ExRaftError]) -> None:
        """Confirmed reads can't be answered. Each caller gets an error of its own."""
        for _, calls in self.reads:
            for call in calls:
                call.reply.fail(why())
        self.reads.clear()

    # Who waits.

    @property
    def waiting_reads(self) -> int:
        """Confirmed reads that wait."""
        return sum(len(calls) for _, calls in self.reads)

    def calls(self) -> Iterator[Call]:
        """Everyone who waits for something that was begun here."""
        if self._current is not None:
            yield self._current
        yield from self.waiting
        for _, calls in self.reads:
            yield from calls

    def end(self) -> None:
        """The life ends."""
        job = self.restoring
        if job is not None:
            job.give_up()


class Restoring(Beside):
    """Makes a machine's state of a snapshot.

    Attributes:
        index: of the snapshot.
        state: what the machine made of it, when that is done.
    """

    def __init__(
        self, server: Peer, replica: Replica, reader: SnapshotReader, mailbox: Mailbox
    ) -> None:
        super().__init__(server, "restores", mailbox)
        self.index = reader.snapshot.index
        self.state: Any = None
        self._replica = replica
        self._reader = reader

    def work(self) -> None:
        begun = monotonic()
        try:
            self.state = self._replica.restored(
                io.BufferedReader(SnapshotFile(self._reader), buffer_size=PIECE)
            )
        finally:
            self._reader.close()
        logger.info(
            "%s has restored the snapshot of index %d, %d bytes, in %.1f s",
            self._server,
            self.index,
            self._reader.snapshot.size,
            monotonic() - begun,
        )


class _Progress:
    """Tells how a replay goes, when it takes long. Times are in seconds."""

    EVERY = 2.0

    def __init__(self, server: Peer, index: int) -> None:
        self._server = server
        self._first = index
        self._begun = monotonic()
        self._due = self._begun + self.EVERY

    def tell(self, index: int, left: int) -> None:
        now = monotonic()
        if now >= self._due:
            self._due = now + self.EVERY
            logger.info(
                "%s replays its log: %d entries so far, %d/s, %d left",
                self._server,
                *self._rate(index, now),
                left,
            )

    def end(self, index: int) -> None:
        now = monotonic()
        if now - self._begun >= self.EVERY:
            logger.info("%s has replayed %d entries, %d/s", self._server, *self._rate(index, now))

    def _rate(self, index: int, now: float) -> tuple[int, float]:
        entries = index - self._first
        return entries, entries / (now - self._begun)
