"""A store on a simulated disk at work, beside a model of it that says what a crash may leave."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

from exraft.errors import DiskFull
from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentDiskStore
from exraft.testing.disk import SimulatedFiles

PEER = Peer(":a")
CONFIG = Config((PEER,))


@dataclass
class Taken:
    """A snapshot and its bytes."""

    of: Snapshot
    content: bytes


@dataclass
class State:
    """What the log and the ballot of a store are."""

    term: int = 0
    vote: Peer | None = None
    base: tuple[int, int] = (0, 0)
    log: list[Entry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.base[0] + len(self.log)

    def term_at(self, index: int) -> int:
        place = index - self.base[0]
        return self.log[place - 1].term if place else self.base[1]

    def copy(self) -> State:
        return State(self.term, self.vote, self.base, list(self.log))

    def beside(self, taken: Taken | None) -> State:
        """What opening makes of it when this is the newest snapshot."""
        state = self.copy()
        if taken is None:
            return state
        of = taken.of
        assert of.index >= state.base[0]
        if of.term > state.term:
            state.term, state.vote = of.term, None
        if of.index > state.last or state.term_at(of.index) != of.term:
            state.base, state.log = (of.index, of.term), []
        return state


def read(store: LentDiskStore) -> tuple[State, Taken | None]:
    """What a store holds, all of it."""
    taken = None
    if store.snapshot is not None:
        reader = store.open_snapshot()
        taken = Taken(reader.snapshot, reader.read(0, 1 << 30))
        assert reader.snapshot == store.snapshot
        reader.close()
    log = store.slice(store.base_index + 1, store.last_index)
    return State(store.term, store.voted_for, (store.base_index, store.base_term), log), taken


class Workload:
    """Random work, at most one thing of which is under way when something happens."""

    def __init__(self, seed: int, files: SimulatedFiles) -> None:
        self.rng = random.Random(seed)
        self.files = files
        self.segment_bytes = self.rng.choice((300, 600, 3000))
        self.now = State()
        self.synced = State()
        self.syncing = False
        """Whether what is written may be on the disk, and need not."""
        self.taken: Taken | None = None
        self.naming: Taken | None = None
        """A snapshot that may be on the disk, and need not."""
        self.commit = 0
        self.disk_full = 0

    def start(self) -> None:
        """A process starts, and finds one of the states that it may find."""
        self.store = DiskStore("/data", PEER, files=self.files, segment_bytes=self.segment_bytes)
        self.store.open()
        self.hold = self.store.lend()
        found, taken = read(self.hold)
        assert (found, taken) in self.may_find()
        least = 0 if taken is None else taken.of.index
        assert least <= self.hold.commit_index <= min(found.last, max(self.commit, least))
        assert self.hold.leads is False
        self.now, self.synced, self.syncing = found, found.copy(), False
        self.taken, self.naming = taken, None
        self.commit = self.hold.commit_index
        if not self.now.term:
            self.ballot()

    def may_find(self) -> list[tuple[State, Taken | None]]:
        return [
            (state.beside(taken), taken)
            for state in ([self.synced, self.now] if self.syncing else [self.synced])
            for taken in ([self.taken, self.naming] if self.naming else [self.taken])
        ]

    def work(self, steps: int) -> None:
        """Do so many things, going on where there was no room."""
        kinds = [
            *[self.append] * 4,
            *[self.sync] * 6,
            self.truncate,
            self.ballot,
            self.note,
            *[self.compact] * 3,
            self.receive,
            self.next_life,
            self.reopen,
        ]
        for _ in range(steps):
            try:
                self.rng.choice(kinds)()
            except DiskFull:
                self.disk_full += 1

    def append(self) -> None:
        entries = [
            Entry(self.now.term, COMMAND, self.rng.randbytes(self.rng.choice((0, 9, 40, 300))))
            for _ in range(self.rng.randint(1, 4))
        ]
        self.hold.append(entries)
        self.now.log += entries

    def truncate(self) -> None:
        """Only entries that are not committed, and by who hears of a newer term."""
        low = max(self.commit, self.now.base[0])
        if low < self.now.last:
            first = self.rng.randint(low + 1, self.now.last)
            self.ballot()
            self.hold.truncate(first)
            del self.now.log[first - 1 - self.now.base[0] :]

    def ballot(self) -> None:
        self.now.term += 1
        self.now.vote = self.rng.choice((None, PEER, Peer(":b", "n@h")))
        self.hold.set_ballot(self.now.term, self.now.vote, self.rng.random() < 0.3)

    def note(self) -> None:
        self.commit = self.rng.randint(self.commit, max(self.commit, self.now.last))
        self.hold.set_commit(self.commit)
        self.hold.note_commit()

    def sync(self) -> None:
        self.syncing = True
        try:
            self.hold.sync()
        except DiskFull:
            self.syncing = False
            raise
        self.synced, self.syncing = self.now.copy(), False

    def take(self) -> None:
        """A snapshot of what is applied, which is committed."""
        if self.commit <= self.now.base[0]:
            return
        content = self.content()
        of = Snapshot(self.commit, self.now.term_at(self.commit), CONFIG, 0, 0)
        sink = self.hold.begin_snapshot(of)
        try:
            for start in range(0, len(content), 1000):
                sink.write(content[start : start + 1000])
            of = sink.finish()
            assert (of.size, of.crc) == (len(content), zlib.crc32(content))
            if self.taken is None or self.taken.of.index < of.index:
                self.naming = Taken(of, content)
            self.hold.adopt(sink)
        except DiskFull:
            self.naming = None
            sink.discard()
            raise
        self.named()

    def content(self) -> bytes:
        return self.rng.randbytes(self.rng.choice((0, 5, 3000)))

    def named(self) -> None:
        if self.naming is not None:
            self.taken, self.naming = self.naming, None
        assert self.taken is not None
        assert self.hold.snapshot == self.taken.of

    def compact(self) -> None:
        self.note()
        self.take()
        self.cut()

    def cut(self) -> None:
        if self.taken is not None and self.taken.of.index > self.now.base[0]:
            upto = self.rng.randint(self.now.base[0] + 1, self.taken.of.index)
            term = self.now.term_at(upto)
            self.hold.cut(upto)
            del self.now.log[: upto - self.now.base[0]]
            self.now.base = upto, term

    def receive(self) -> None:
        """A snapshot of a leader that is far ahead; not always all of it."""
        content = self.content()
        if self.rng.random() < 0.5:
            self.ballot()
        index = self.now.last + self.rng.randint(1, 5)
        of = Snapshot(index, self.now.term, CONFIG, 0, 0, len(content), zlib.crc32(content))
        held = self.hold.receive(of, 0, b"")
        while held < len(content):
            held = self.hold.receive(of, held, content[held : held + 700])
        if self.rng.random() < 0.3:
            return
        self.naming = Taken(of, content)
        try:
            self.hold.install()
        except DiskFull:
            self.naming = None
            raise
        self.named()
        self.now = State(self.now.term, self.now.vote, (of.index, of.term))
        self.commit = index
        self.sync()

    def next_life(self) -> None:
        self.hold = self.store.lend()
        assert read(self.hold) == (self.now, self.taken)

    def reopen(self) -> None:
        """A process ends well, and the next one starts, as soon as there is room."""
        self.store.close()
        self.files.kill()
        while True:
            try:
                return self.start()
            except DiskFull:
                self.disk_full += 1
