"""How messages get from server to server.

Knows how a peer's mailbox is found. Must not know what the messages say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from exraft.actors.registry import ActorRegistry
from exraft.names import Peer, node
from exraft.raft import Message


class Transport(Protocol):
    """Carries messages one way. It may lose, double, delay and reorder them: Raft copes."""

    def send(self, sender: Peer, to: Peer, message: Message) -> None: ...

    def reaches(self, node_name: str) -> bool:
        """Whether servers on that node can be sent anything at all."""


class LocalTransport:
    """Between the servers of this process: straight into the other one's mailbox."""

    def __init__(self) -> None:
        self.drop: Callable[[Peer, Peer, Message], bool] | None = None
        """A hook for tests: says which messages (from, to, what) are lost."""

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        if self.drop is not None and self.drop(sender, to, message):
            return
        ActorRegistry.post(to.name, message)

    def reaches(self, node_name: str) -> bool:
        return node_name == node()


local = LocalTransport()
"""The one that the servers of this process share."""
