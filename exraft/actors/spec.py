"""What a raft server is made of.

Knows what stays the same over all lives of a server, and what one life leaves to the next. Must not
know how a life is started or judged: that is its supervisor's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exraft.actors import members
from exraft.actors.effects import Effects
from exraft.actors.registry import Reservation
from exraft.actors.transport import Transport
from exraft.machine import MachineFactory
from exraft.names import Peer
from exraft.raft import Options
from exraft.storage import MemoryStore
from exraft.storage.memory import LentStore

PATIENCE: Final = 5.0
"""Seconds that `terminate` is given, and side effects, if who stops a server does not say."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A server as it was asked for; see `ExRaft.start_server` for the meaning.

    `init_arg` is serialised: every life of the machine gets a copy of its own.
    """

    peer: Peer
    machine: MachineFactory
    init_arg: bytes
    founders: tuple[Peer, ...]
    options: Options
    dirty_read: bool = True
    debug: bool = False
    max_command_bytes: int = 4 * 1024 * 1024
    max_restarts: int = 3
    max_seconds: float = 5.0

    @property
    def supervisor_name(self) -> str:
        return supervisor_name(self.peer.name)

    @property
    def shutdown(self) -> float:
        """Seconds that a server is given to end: to hand over, for side effects, to terminate."""
        return max(PATIENCE, self.options.min_election_timeout) + PATIENCE


def supervisor_name(name: str) -> str:
    """The name of the supervisor of the server called `name`, as in ExRaft."""
    return f":ExRaft.Supervisor.{name[1:]}"


class Estate:
    """What a server has beyond its lives; made with its child spec, and as lasting as that.

    Its store and its count of lives outlive its supervisor too, so that it is the member it was
    when the parent of that starts another one. The rest is opened with the first life under a
    supervisor, and closed with that: the worker of its side effects, and its name between two
    lives.

    Attributes:
        lives: how many it has had, the present one included.
        standby: whether it is a stranger under the name of a member (rule 29).
        grace: seconds that side effects get to run out when its supervisor ends.
        reservation: the server's name between two lives.
    """

    __slots__ = (
        "_open",
        "effects",
        "grace",
        "lives",
        "reservation",
        "spec",
        "standby",
        "store",
        "transport",
    )

    def __init__(self, spec: ServerSpec, store: MemoryStore, transport: Transport) -> None:
        self.spec = spec
        self.store = store
        self.transport = transport
        self.lives = 0
        self.standby = False
        self.grace = PATIENCE
        self.reservation: Reservation | None = None
        self.effects = Effects(spec.peer.name)
        self._open = False

    def begin_life(self) -> LentStore:
        """Lend the store to a life that begins; whoever held it holds a dead token."""
        if not self._open:
            self._open = True
            self.effects = Effects(self.spec.peer.name)
            self.grace = PATIENCE
            self.standby = members.is_forgotten(self.spec.peer, self.store.store_id)
        self.lives += 1
        return self.store.lend()

    def close(self) -> bool:
        """Its supervisor ends: no life follows under this one. Its store stays what it is.

        Returns:
            whether all side effects have run.
        """
        if not self._open:
            return True
        ran_out = self.effects.close(self.grace)
        if self.reservation is not None:
            self.reservation.free()
            self.reservation = None
        self.store.take_back()
        members.ended(self.spec.peer, self.store.store_id)
        self._open = False
        return ran_out
