"""When a server takes a snapshot of its machine, and how.

Knows the thresholds, who asked, and the two steps: a capture in the server's thread, and the
writing beside it. Must not know what is in a snapshot, nor how and where it is kept.

A snapshot is taken one at a time. One that fails harms nothing: the log stays as long as it is, and
it is tried again when as much has been applied as for the first.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import Any, Final

from exraft.actors import lineage
from exraft.actors.applying import Applying
from exraft.actors.beside import Beside
from exraft.actors.calls import TakeSnapshot
from exraft.actors.mailbox import Mailbox
from exraft.actors.process import Process
from exraft.actors.spec import ServerSpec
from exraft.errors import DiskFull, ExRaftError, SnapshotFailed, StoreFailed
from exraft.machine import Writer
from exraft.names import Peer
from exraft.raft import Raft
from exraft.storage.memory import LentStore
from exraft.storage.sinks import Bytes, SnapshotSink

logger = logging.getLogger("exraft.server")

PIECE: Final = 1024 * 1024
"""Bytes that are written at once."""
OFTEN: Final = 16
"""A machine may ask for snapshots so many times as often as `snapshot_every` brings them."""
EVERY: Final = 100_000
"""What that means where `snapshot_every` is None."""


class Snapshots:
    """The snapshots that one life of a server takes.

    Attributes:
        asked: the calls that wait for one, each with the least index that will do.
        next_index, next_size: how far is applied, and how many bytes the log holds, when the next
            one is due.
    """

    def __init__(
        self, life: Process, spec: ServerSpec, store: LentStore, machine: Applying
    ) -> None:
        self._life = life
        self._me = spec.peer
        self._every = inf if spec.snapshot_every is None else spec.snapshot_every
        self._bytes = inf if spec.snapshot_bytes is None else spec.snapshot_bytes
        self._gap = (spec.snapshot_every or EVERY) // OFTEN
        self._heartbeat = spec.options.heartbeat_timeout
        self._store = store
        self._machine = machine
        self._job: Taking | None = None
        self.asked: list[tuple[int, TakeSnapshot]] = []
        self.next_index = inf
        self.next_size = inf
        self._warned = False
        self._raft: Raft

    def begin(self, raft: Raft) -> None:
        self._raft = raft
        self._machine.on_release = self.take
        self.count_anew()

    @property
    def taking(self) -> bool:
        """Whether one is under way."""
        return self._job is not None

    @property
    def _newest(self) -> int:
        snapshot = self._store.snapshot
        return 0 if snapshot is None else snapshot.index

    def _count_from(self, index: int, size: int) -> None:
        """The next one is due by what comes after `index`, and after the log's first `size` bytes.

        The bytes are those that the log holds, applied or not: to count what is applied would cost
        as much as a write's other book-keeping together.
        """
        self.next_index = index + self._every
        self.next_size = size + self._bytes
        self._machine.release_from = index + self._gap

    def count_anew(self) -> None:
        """The newest one is not of this life's own making."""
        store = self._store
        held = store.slice(store.base_index + 1, self._newest - store.base_index)
        self._count_from(self._newest, sum(len(entry.data) for entry in held))

    def ask(self, call: TakeSnapshot) -> None:
        """Answer as soon as there is one of all that is applied now."""
        applied = self._machine.applied
        if applied <= self._newest and self._machine.restoring is None:
            call.reply.set(self._newest)
        else:
            self.asked.append((applied, call))

    def take(self) -> None:
        """Capture the state, and let a thread beside write it; unless one is under way.

        Raises:
            StoreFailed: this server can't go on.
        """
        machine = self._machine
        if self._job is not None:
            self._look_at(self._job)
            return
        if machine.restoring is not None:
            return
        assert machine.replica is not None
        index = machine.applied
        if index <= self._newest:
            self._answer(self._newest)
            return
        begun = monotonic()
        try:
            writer = machine.replica.capture()
            self._judge(monotonic() - begun, own=machine.replica.captures)
            sink = self._store.begin_snapshot(self._raft.snapshot_at(index))
        except BaseException as error:
            self._failed(error, index)
            return
        # Before it starts: whoever gives this life up must find it.
        self._job = Taking(self._me, index, self._store.size, writer, sink, self._life.actor_inbox)
        try:
            self._job.start()
        except RuntimeError as error:  # There are no threads to be had.
            self._job = None
            sink.discard()
            self._failed(error, index)
            return
        self._count_from(index, self._store.size)

    def _look_at(self, job: Taking) -> None:
        """Say so if the next one is due already, and this one is still being written."""
        machine = self._machine
        if machine.applied < self.next_index and self._store.size < self.next_size:
            return
        logger.warning(
            "%s has been writing the snapshot of index %d for %.1f s, and its log grows meanwhile:"
            " does the writer hang, or is snapshot_every too small for it?",
            self._me,
            job.index,
            monotonic() - job.begun,
        )
        self._count_from(machine.applied, self._store.size)

    def _judge(self, took: float, *, own: bool) -> None:
        if took <= self._heartbeat or self._warned:
            return
        self._warned = True
        logger.warning(
            "capturing the state of %s took %.2f s, longer than a heartbeat (%g s): meanwhile it"
            " answers nobody, and may be taken for dead. %s, and do the slow rest in the writer"
            " that it returns, which runs beside the server's thread: see StateMachine.snapshot",
            self._me,
            took,
            self._heartbeat,
            "Let the machine's snapshot(state) capture less"
            if own
            else "Give the machine a snapshot(state) that makes a cheap copy",
        )

    def taken(self, job: Taking, now: float) -> None:
        """The writing has ended.

        Raises:
            StoreFailed: this server can't go on.
        """
        self._job = None
        error = job.error
        if error is None:
            try:
                self._store.adopt(job.sink)
            except DiskFull as full:
                job.sink.discard()
                error = full
        if error is not None:
            self._failed(error, job.index)
            return
        size = self._store.size
        self._raft.compact(now)
        cut = size - self._store.size
        self._count_from(self._newest, job.log_size - cut)
        logger.info(
            "%s has taken a snapshot of index %d, %d bytes, in %.1f s; its log begins at %d",
            self._me,
            job.index,
            job.sink.snapshot.size,
            monotonic() - job.begun,
            self._store.base_index + 1,
        )
        self._answer(self._newest)

    def _answer(self, index: int) -> None:
        """There is one of `index`; who came since the capture waits for the next one."""
        for call in self._take_asked(index):
            call.reply.set(index)

    def _failed(self, error: BaseException, index: int) -> None:
        if self._life.killed or isinstance(error, StoreFailed):
            raise error
        why = str(error) if isinstance(error, ExRaftError) else f"{type(error).__name__}: {error}"
        logger.error(
            "%s could not take a snapshot of index %d, and tries again later: %s",
            self._me,
            index,
            why,
            exc_info=None if isinstance(error, ExRaftError) else error,
        )
        self._count_from(self._machine.applied, self._store.size)
        for call in self._take_asked(index):
            call.reply.fail(SnapshotFailed(f"no snapshot of {self._me} could be taken: {why}"))

    def _take_asked(self, index: int) -> list[TakeSnapshot]:
        served = [call for wanted, call in self.asked if wanted <= index]
        self.asked = [each for each in self.asked if each[0] > index]
        return served

    def calls(self) -> Iterator[TakeSnapshot]:
        """Who waits for one."""
        for _, call in self.asked:
            yield call

    def end(self) -> None:
        """The life ends; what is being written is discarded."""
        job = self._job
        if job is not None:
            job.give_up()


class Taking(Beside):
    """Writes a captured state into a snapshot.

    Attributes:
        index: of the snapshot.
        log_size: how many bytes the log held when the state was captured.
        sink: where it goes.
        begun: when the writing began.
    """

    def __init__(
        self,
        server: Peer,
        index: int,
        log_size: int,
        writer: Writer,
        sink: SnapshotSink,
        mailbox: Mailbox,
    ) -> None:
        super().__init__(server, "takes a snapshot", mailbox)
        self.index = index
        self.log_size = log_size
        self.sink = sink
        self.begun = monotonic()
        self._writer: Writer | None = writer

    def work(self) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None
        target = _Target(self.sink.write)
        try:
            file = _File(target, PIECE)
            writer(file)
            file.flush()
            # A life that has ended stores nothing more.
            lineage.must_go_on()
            self.sink.finish()
        except BaseException:
            self.sink.discard()
            raise
        finally:
            target.close_for_good()

    def refuse(self, reason: object) -> None:
        """Nobody will adopt it."""
        self.sink.discard()


class _File(io.BufferedWriter):
    """What a machine's writer writes into. To close it, as a `TextIOWrapper` does, ends nothing."""

    def close(self) -> None:
        self.flush()


class _Target(io.RawIOBase):
    """Takes bytes as long as they are wanted."""

    def __init__(self, write: Callable[[Bytes], int]) -> None:
        super().__init__()
        self._write: Callable[[Bytes], int] | None = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self._write is None:
            # Too late: what a buffer still held when its owner was done, or failed.
            return len(data)
        lineage.must_go_on()
        return self._write(data)

    def close_for_good(self) -> None:
        self._write = None
