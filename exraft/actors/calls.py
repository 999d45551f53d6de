"""What callers put into a server's mailbox.

Knows the messages of the API, each with the reply that its caller waits for. Must not know how a
server serves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka

from exraft.actors.future import OneLockFuture
from exraft.codec import reveal
from exraft.errors import CallTimeout, ServerDown, ServerNotFound
from exraft.names import Peer


class Told:
    """The outcome of a call that has failed elsewhere: its caller's thread makes the error.

    To do so may run and import what is the user's, for which no other thread has the time.
    """

    __slots__ = ("error",)

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error


class Reply(OneLockFuture[Any]):
    """What a caller waits for; gives it a copy of its own of what the machine answered."""

    server: Peer | None = None
    may_apply = False
    """Whether the call may change something although no answer comes."""
    cancel: Callable[[], object] | None = None
    """Tells another node, if the call went to one, that nobody waits for it any more."""
    after_timeout = "it changed nothing and may be called again: is a majority running?"

    def get(self, *, timeout: float | None = None) -> Any:
        """Return the answer.

        Raises:
            CallTimeout: none came within `timeout` seconds.
            Exception: what the server or its machine answered instead.
        """
        try:
            value = super().get(timeout=timeout)
            if type(value) is Told:
                raise value.error()
            return reveal(value, maybe_applied=self.may_apply)
        except CallTimeout:
            raise
        except pykka.Timeout:
            raise CallTimeout(
                self.server,
                timeout,
                next_step=self.after_timeout,
                maybe_applied=self.may_apply,
            ) from None

    def forgo(self) -> None:
        """Nobody wants it any more: from now on it is done, and nobody is told."""
        OneLockFuture._settle(self, None)


class WriteReply(Reply):
    may_apply = True
    after_timeout = "the command may have been applied, or may yet be: wait for this future again"


class ChangeReply(Reply):
    may_apply = True
    after_timeout = (
        "the change may have been made, or may yet be: is a majority running?"
        " Look with ExRaft.status, then call again"
    )


class LeaderReply(Reply):
    after_timeout = (
        "it knows no leader: are the other members started? If it waits to be added, call"
        " ExRaft.add_server(leader, it)"
    )


class SnapshotReply(Reply):
    after_timeout = "it harms nothing, and may be taken yet: call again"


class Call:
    """Something that a caller waits for."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def wait(self, timeout: float | None) -> Any:
        """Return the answer; wait at most `timeout` seconds.

        Raises:
            CallTimeout: none came.
            Exception: what the server or its machine answered instead.
        """
        try:
            return self.reply.get(timeout=timeout)
        except CallTimeout:
            if self.reply.cancel is not None:
                self.reply.cancel()
            raise

    def refuse(self, reason: object) -> None:
        """The server never got it: so whatever it asks for was surely not done."""
        if reason == "noproc":
            self.reply.fail(ServerNotFound(self.reply.server))
        else:
            self.reply.fail(ServerDown(reason, maybe_applied=False))

    def abandon(self, reason: object) -> None:
        """The server got it, and died."""
        self.reply.fail(ServerDown(reason, maybe_applied=self.reply.may_apply))


class Write(Call):
    """A command. Either the server takes it, or a caller who gives up withdraws it; never both."""

    __slots__ = ("_token", "command", "data", "decoded")

    def __init__(self, reply: Reply, data: bytes) -> None:
        self.reply = reply
        self.data = data
        self._token = [None]
        self.command: Any = None
        """A copy that nobody has seen but the server, if `decoded`."""
        self.decoded = False

    def take(self) -> bool:
        """For the server, before it logs the command: whether it may."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def withdraw(self) -> bool:
        """For the caller: whether the server has not taken the command, and never will."""
        return self.take()

    def wait(self, timeout: float | None) -> Any:
        """As any call; but when no answer comes, the command is withdrawn if it still can be.

        Raises:
            CallTimeout: `maybe_applied` is False if it was withdrawn.
        """
        try:
            return super().wait(timeout)
        except CallTimeout:
            withdrawn = self.withdraw()
            raise CallTimeout(self.reply.server, timeout, maybe_applied=not withdrawn) from None


class Read(Call):
    __slots__ = ("dirty", "query")

    def __init__(self, reply: Reply, query: Any, *, dirty: bool) -> None:
        self.reply = reply
        self.query = query
        self.dirty = dirty


class Change(Call):
    """Add or remove a server; `patience`: seconds to wait for the first commit of the term."""

    __slots__ = ("add", "patience", "peer")

    def __init__(self, reply: Reply, peer: Peer, *, add: bool, patience: float) -> None:
        super().__init__(reply)
        self.peer = peer
        self.add = add
        self.patience = patience


class Transfer(Call):
    __slots__ = ("to",)

    def __init__(self, reply: Reply, to: Peer | None) -> None:
        super().__init__(reply)
        self.to = to


class AwaitLeader(Call):
    """Answered with the leader, once there is one: so it may wait where nobody else does."""

    __slots__ = ()

    def wait(self, timeout: float | None) -> Any:
        try:
            return super().wait(timeout)
        except CallTimeout:
            self.reply.forgo()
            raise


class TriggerElection(Call):
    __slots__ = ()


class TakeSnapshot(Call):
    """Answered with the index of a snapshot that holds all that was applied by then."""

    __slots__ = ()


class Ask(Call):
    """A look at the server: `"leader"`, `"state"`, `"ping"`, `"status"`, `"context"`, `"log"`.

    `"snapshot"` is answered with a reader of the newest one, to be closed; None if there is none.
    """

    __slots__ = ("what",)

    def __init__(self, reply: Reply, what: str) -> None:
        super().__init__(reply)
        self.what = what


class LeaderGone:
    """The supervisor of the server `peer` has ended (rule 28)."""

    __slots__ = ("peer",)

    def __init__(self, peer: Peer) -> None:
        self.peer = peer


class LeaderLost:
    """The connection to the node of the server `peer` was lost: it may have died."""

    __slots__ = ("peer",)

    def __init__(self, peer: Peer) -> None:
        self.peer = peer


class Crash:
    """Makes the server raise `error` in its loop: for demonstrations and tests of recovery."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error
