"""Who leads, as one server knows it: told to those who wait for a leader, and watched.

Knows the leader of the moment and how its death is noticed at once (rule 28). Must not know how it
was elected.
"""

from __future__ import annotations

from collections.abc import Callable

from exraft.actors import watching
from exraft.actors.calls import Call, LeaderGone, LeaderLost, Transfer
from exraft.actors.mailbox import Mailbox
from exraft.actors.registry import ActorRegistry
from exraft.actors.spec import supervisor_name
from exraft.actors.transport import Transport
from exraft.errors import TransferFailed
from exraft.names import Peer, node

MANY = 16
"""Calls that may wait without a look at whether their callers do."""


class Following:
    """What one life of a server knows of leaders.

    Attributes:
        leader: the one that it knows; None if it knows none.
        waiting: calls that wait for one.
    """

    def __init__(self, me: Peer, mailbox: Mailbox, transport: Transport) -> None:
        self.leader: Peer | None = None
        self.waiting: list[Call] = []
        self._me = me
        self._mailbox = mailbox
        self._transport = transport
        self._unwatch: Callable[[], object] | None = None
        self._many = MANY

    def wait(self, call: Call) -> None:
        """Tell it of the next leader. Those whose callers have given up are forgotten."""
        if len(self.waiting) >= self._many:
            self.waiting = [each for each in self.waiting if not each.reply.done()]
            self._many = max(MANY, 2 * len(self.waiting))
        self.waiting.append(call)

    def follow(self, leader: Peer | None) -> None:
        """The leader has changed: tell who waits for one, and watch it (rule 28)."""
        self.leader = leader
        self.end()
        if leader is None:
            return
        self.tell(leader)
        if leader == self._me:
            return
        mailbox = self._mailbox
        if leader.node != node():
            lost = LeaderLost(leader)
            self._unwatch = self._transport.watch(leader.node, lambda: mailbox.put(lost))
            return
        gone = LeaderGone(leader)
        supervisor = ActorRegistry.get_by_name(supervisor_name(leader.name))
        if supervisor is None:
            mailbox.put(gone)
        else:
            monitor = watching.monitor(supervisor, lambda down: mailbox.put(gone))
            self._unwatch = monitor.cancel

    def tell(self, leader: Peer | None) -> None:
        """Tell who waits, if there is one."""
        if leader is None:
            return
        for call in self.waiting:
            answer(call, leader)
        self.waiting.clear()

    def end(self) -> None:
        """Watch nobody any more."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None


def answer(call: Call, leader: Peer) -> None:
    """Tell who waits for a leader; a hand-over to somebody else has failed."""
    if isinstance(call, Transfer) and call.to not in (None, leader):
        call.reply.fail(TransferFailed(f"{leader} was elected, not {call.to}: ask {leader} again"))
    else:
        call.reply.set(leader)
