"""How far one peer is, as its leader sees it.

Knows what a leader remembers of a peer between messages, after etcd's progress tracking. Must not
know what is sent, nor what it is counted for.

A peer is *probed*, one message at a time, until an append fits its log; from then on it is
*replicated* to, with several messages under way and `next` running ahead of `match`. A refusal
leads back to probing. A peer that lacks what the log does not hold any more is sent the snapshot
first (rule 25).

Appends without entries may overtake those with entries, so they go after what is *due*: what the
peer has, or was sent a heartbeat ago or earlier (rule 12). Much takes longer on its way, so it is
due only when nothing has moved for an election timeout.
"""

from __future__ import annotations

from collections import deque

from exraft.raft.snapshot import Snapshot, SnapshotReader

MAX_INFLIGHT = 64
"""Most appends under way to one peer."""
MAX_INFLIGHT_BYTES = 8 * 1024 * 1024
"""Most bytes of entries under way to one peer; one append may always leave."""
MUCH = 64 * 1024
"""Bytes under way that may take longer than a heartbeat: more than that."""
MOST_PATIENCE = 50
"""Heartbeats without movement after which what is under way is lost, however much it is."""

MOST_TIMES = 64
"""How many times as patient a leader becomes, at most, with a peer on a slow road."""

MAX_PIECES = 8
"""Most pieces of a snapshot under way to one peer."""


class Sending:
    """A snapshot on its way to a peer. Sizes are in bytes.

    The peer is probed, once a heartbeat, until it says how much of it is there; from then on
    several pieces are under way. When nothing has moved between two heartbeats, it is probed again;
    if much is under way, only when nothing has moved for an election timeout.
    """

    __slots__ = ("_probed", "_probing", "_still", "_times", "held", "next", "reader", "snapshot")

    def __init__(self, reader: SnapshotReader) -> None:
        self.reader = reader
        self.snapshot: Snapshot = reader.snapshot
        self.held = 0
        """How much of it is stored there."""
        self.next = 0
        self._probing = True
        self._probed = False
        self._still = 0
        """Heartbeats since something has moved."""
        self._times = 1
        """How many times as patient as usual, as in `Progress`."""

    def piece(self, largest: int) -> int | None:
        """How many bytes from `next` on may leave now, at most `largest`; None if it must wait.

        A probe has none: what is there already, or on its way to nobody, is not sent for it.
        """
        if self._probing:
            return None if self._probed else 0
        size = min(largest, self.snapshot.size - self.next)
        return size if size > 0 and self.next < self.held + MAX_PIECES * largest else None

    def sent(self, size: int) -> None:
        self._probed = True
        self.next += size

    def has(self, held: int) -> None:
        """The peer has stored the first `held` bytes."""
        if self._probing or held > self.next:
            self.next = held
            self._still = 0
        elif held < self.held:
            # An old answer; or it has lost what it had, which the next probe shows.
            return
        if held > self.held:
            self._still = 0
        self.held = held
        self._probing = False

    def tick(self, patience: float) -> None:
        """A heartbeat has passed. `patience`: heartbeats that much may take on its way."""
        self._still += 1
        laden = self.next - self.held > MUCH
        if self._probing or self._still > (patience * self._times if laden else 1):
            if laden:
                self._times = min(2 * self._times, MOST_TIMES)
            self.next = self.held
            self._probing = True
            self._probed = False


class Progress:
    """A leader's view of one peer; times are in seconds, sizes in bytes of entries' data."""

    __slots__ = (
        "_due",
        "_inflight",
        "_inflight_bytes",
        "_older",
        "_still",
        "_times",
        "beat",
        "commit",
        "heard",
        "match",
        "next",
        "owed",
        "probed",
        "probing",
        "round",
        "sending",
        "store",
        "stranger",
    )

    def __init__(self, next_index: int, heard: float) -> None:
        self.match = 0
        self.next = next_index
        self.commit = 0
        self.heard = heard
        self.round = 0
        self.store = ""
        self.stranger = False
        """It answers from another store than the member that bears its name (rule 29)."""
        self.owed = True
        """It is to be sent an append even if there are no entries for it."""
        self.beat = False
        """It is to be sent one without entries, which arrives although entries may not."""
        self.probing = True
        self.probed = False
        """A probe is under way; the next leaves upon its answer, or with the next heartbeat."""
        self._inflight: deque[tuple[int, int]] = deque()
        self._inflight_bytes = 0
        self._due = 0
        self._older = 0
        """The last index that was under way a heartbeat ago."""
        self._still = 0
        """Heartbeats since something has moved."""
        self._times = 1
        """How many times as patient as usual: who sends again what is on its way makes the way
        longer, so each time that was in vain the peer is given twice as long."""
        self.sending: Sending | None = None
        """The snapshot that it needs first."""

    @property
    def inflight(self) -> int:
        return len(self._inflight)

    @property
    def ready(self) -> bool:
        """Whether another append with entries may leave now."""
        if self.probing:
            return not self.probed
        return len(self._inflight) < MAX_INFLIGHT and (
            not self._inflight or self._inflight_bytes < MAX_INFLIGHT_BYTES
        )

    @property
    def laden(self) -> bool:
        """Whether so much is under way that it may take longer than a heartbeat."""
        return self._inflight_bytes > MUCH

    @property
    def due(self) -> int:
        """The last index that the peer has, or that it lacks only because something was lost.

        In probing, the one that is asked for.
        """
        return self.next - 1 if self.probing else max(self.match, self._due)

    def sent(self, last: int, size: int) -> None:
        """Entries up to `last` are under way."""
        if self.probing:
            self.probed = True
        else:
            if not self._inflight:
                self._still = 0
            self.next = last + 1
            self._inflight.append((last, size))
            self._inflight_bytes += size

    def accepted(self, index: int) -> None:
        """The peer's log agrees with ours up to `index`."""
        if index > self.match:
            self.match = index
            self._still = 0
        if self.probing:
            self.probing = self.probed = False
            self.next = self.match + 1
            self._due = self._older = self.match
        else:
            self.next = max(self.next, self.match + 1)
            inflight = self._inflight
            while inflight and inflight[0][0] <= index:
                self._inflight_bytes -= inflight.popleft()[1]
            if not inflight:
                self._times = 1

    def refused(self, index: int, may_fit: int) -> None:
        """An append after `index` did not fit; one after `may_fit` may.

        A refusal of an append from before the last probe, or after an index known to match, is an
        old one and says nothing.
        """
        if index <= self.match or (self.probing and index != self.next - 1):
            return
        self.next = max(min(index, may_fit + 1), self.match + 1)
        if self.laden:
            self._times = min(2 * self._times, MOST_TIMES)
        self.probing = True
        self.probed = False
        self._inflight.clear()
        self._inflight_bytes = 0

    def tick(self, patience: float) -> None:
        """A heartbeat has passed, and the next one is owed.

        `patience`: heartbeats that much may take on its way.
        """
        self.probed = False
        self.owed = self.beat = True
        self._still += 1
        if not self.laden or self._still > patience * self._times:
            self._due = self._older
        self._older = self.next - 1
        if self.sending is not None:
            self.sending.tick(patience)

    def stop_sending(self) -> None:
        """The snapshot is not needed any more, or not this one."""
        if self.sending is not None:
            self.sending.reader.close()
            self.sending = None
            self.probing = True
            self.probed = False
