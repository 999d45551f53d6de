"""What a raft server is made of.

Knows what stays the same over all lives of a server, and what one life leaves to the next. Must not
know how a life is started or judged: that is the supervisor's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exraft.actors.effects import Effects
from exraft.actors.registry import Reservation
from exraft.actors.watching import Down
from exraft.machine import MachineFactory
from exraft.names import Peer
from exraft.raft import Options
from exraft.storage import MemoryStore


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


def supervisor_name(name: str) -> str:
    """The name of the supervisor of the server called `name`, as in ExRaft."""
    return f":ExRaft.Supervisor.{name[1:]}"


class Estate:
    """What outlives a life of a server; its supervisor's.

    `reservation` is the server's name between two lives; `restarts` counts the lives after the
    first; `ending` says that the server was asked to end, so that no life follows. `on_end` is told
    of the end of each life, which watches itself from the beginning: so no end is missed, nor its
    reason, however short the life was.
    """

    __slots__ = ("effects", "ending", "on_end", "reservation", "restarts", "standby", "store")

    def __init__(
        self,
        store: MemoryStore,
        effects: Effects,
        on_end: Callable[[Down], object],
        *,
        standby: bool,
    ) -> None:
        self.store = store
        self.effects = effects
        self.on_end = on_end
        self.standby = standby
        self.reservation: Reservation | None = None
        self.restarts = 0
        self.ending = False
