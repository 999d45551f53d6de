"""How messages get from server to server.

Knows how a mailbox of this process is found, and whom to give what is for another node. Must not
know what the messages say, nor what carries them out of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from exraft.actors.fence import is_fenced
from exraft.actors.mailbox import Mailbox
from exraft.actors.registry import ActorRegistry
from exraft.names import Peer, node
from exraft.raft import Message


class Transport(Protocol):
    """Carries messages one way. It may lose, double, delay and reorder them: Raft copes.

    What a thread sends between `hold` and `release` may wait for its next `flush`, so that what
    goes to one place goes in one piece.
    """

    def send(self, sender: Peer, to: Peer, message: Message) -> None: ...

    def hold(self) -> None: ...
    def flush(self) -> None: ...
    def release(self) -> None: ...

    def wait(self, mailbox: Mailbox, seconds: float) -> Any:
        """Return the next item of the caller's mailbox, as its `get` does."""

    def reaches(self, node_name: str) -> bool:
        """Whether servers on that node can be sent anything at all."""

    def watch(self, node_name: str, lost: Callable[[], object]) -> Callable[[], object]:
        """Have `lost` called whenever the connection to that node is lost; return what ends it."""


class ProcessTransport:
    """What the servers of a process share: straight into the mailboxes of their own node.

    Attributes:
        beyond: carries what is for other nodes; None as long as this process is no node.
        drop: a hook for tests: says which messages (from, to, what) are lost.
    """

    def __init__(self) -> None:
        self.drop: Callable[[Peer, Peer, Message], bool] | None = None
        self.beyond: Transport | None = None

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        if self.drop is not None and self.drop(sender, to, message):
            return
        if to.node == node():
            ActorRegistry.post(to.name, message)
        elif self.beyond is not None and not is_fenced():
            # Into a mailbox nothing comes from a thread that was given up; nor does it leave.
            self.beyond.send(sender, to, message)

    def hold(self) -> None:
        if self.beyond is not None:
            self.beyond.hold()

    def flush(self) -> None:
        if self.beyond is not None:
            self.beyond.flush()

    def release(self) -> None:
        if self.beyond is not None:
            self.beyond.release()

    def wait(self, mailbox: Mailbox, seconds: float) -> Any:
        if self.beyond is None:
            return mailbox.get(seconds)
        return self.beyond.wait(mailbox, seconds)

    def reaches(self, node_name: str) -> bool:
        return node_name == node() or (self.beyond is not None and self.beyond.reaches(node_name))

    def watch(self, node_name: str, lost: Callable[[], object]) -> Callable[[], object]:
        if self.beyond is None or node_name == node():
            return lambda: None
        return self.beyond.watch(node_name, lost)


local = ProcessTransport()
"""The one of this process."""
