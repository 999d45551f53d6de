"""One server of a simulated cluster: a core, the store it was lent, its machine, and its clock.

Knows what a server has and what of that ends with a life. Must not know what happens to it, nor
the other servers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from exraft.names import Peer
from exraft.raft import Message, Options, Output, Raft
from exraft.replica import Replica, Waiting
from exraft.replica.caller import Caller
from exraft.testing.store import Owner, Syncing, WatchedStore

NEVER = float("inf")


@dataclass(slots=True)
class Sync:
    """A sync that a server has begun, and what leaves when it is done."""

    raft: Raft
    mark: Any
    begun: Syncing
    out: Output


Job: TypeAlias = Message | Sync | Callable[[], None]
"""What a server may find in its inbox."""


@dataclass(slots=True)
class Server:
    """One member: a store that outlives crashes, and the core that holds it at the moment."""

    peer: Peer
    founders: tuple[Peer, ...]
    options: Options
    owner: Owner
    raft: Raft | None = None
    replica: Replica | None = None
    """The user's machine, if the cluster runs one."""
    applied: int = 0
    replayed: int = 0
    """What an earlier life had committed: its side effects and replies are past (rule 26)."""
    taking: bool = False
    """Whether it is taking a snapshot."""
    standby: bool = False
    pace: float = 1.0
    """How fast this server's clock runs."""
    sync_takes: tuple[float, float] | None = None
    """How long a sync takes, in seconds; None if it is done at once."""
    busy_until: float = 0.0
    """Until then what arrives waits in `inbox`, and the time is not looked at."""
    full: float | None = None
    """When it looks for room again, if there is none to store anything: until then it is deaf."""
    doomed: str = ""
    """Dies the next time it has to write, after its first messages have left: "kept" before the
    sync, with a store that outlives it; "unsynced" likewise, and what was not synced is lost;
    "installing" likewise, as soon as it has to sync a snapshot that it has received; "synced" right
    after the sync."""
    intact: bool = True
    """Whether the store is as the last life left it, so that the next may resume."""
    inbox: list[Job] = field(default_factory=list)
    batching: bool = False
    """Whether it is at a batch of its inbox: what the core wants done is done at its end."""
    callers: list[Any] = field(default_factory=list)
    """Whose requests this life has taken."""
    syncing: deque[Sync] = field(default_factory=deque)
    synced_at: float = 0.0
    """When the last sync that was begun will be done."""
    reads: list[tuple[int, Any]] = field(default_factory=list)
    """Confirmed reads that wait for the machine: (index, ticket)."""
    waiting: Waiting[Caller] = field(default_factory=Waiting)

    @property
    def store(self) -> WatchedStore:
        assert self.raft is not None
        store = self.raft.store
        assert isinstance(store, WatchedStore)
        return store

    def clock(self, now: float) -> float:
        """What this server's clock shows."""
        return now * self.pace

    @property
    def due(self) -> float:
        """When this server does something by itself."""
        if self.raft is None:
            return NEVER
        if self.inbox:
            return self.busy_until
        if self.full is not None:
            return max(self.full, self.busy_until)
        return max(self.raft.deadline / self.pace, self.busy_until)

    def end_life(self) -> None:
        """Forget what a life does not leave to the next."""
        self.raft = None
        self.replica = None
        self.busy_until = 0.0
        self.doomed = ""
        self.taking = False
        self.full = None
        self.inbox = []
        self.callers = []
        self.syncing.clear()
        self.reads = []
        self.waiting = Waiting()
