"""Every failure of a call, and whether the command may have been applied all the same.

Knows the words of a refusal, its reason and what a caller should do next.
Must not know who raises it or when: servers, supervisors and the API decide that.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import pykka

from exraft.names import Peer

_APPLIED = "__exraft_maybe_applied__"

_Error = TypeVar("_Error", bound=BaseException)


def maybe_applied(exc: BaseException) -> bool:
    """Say whether the command of a call that failed with `exc` may have been applied.

    `False` is a promise: the command is not in the log and never will be, so repeating it
    is safe. `True` means that it was, may have been or may yet be applied: look before
    repeating it.

    - An `ExRaftError` carries the answer, set for each instance.
    - What a machine's `handle_write` raised is `True`: the command was consumed, it is in the
      log and every replica has refused it alike. What `handle_read` raised is `False`. Both
      were marked when they left the machine.
    - A plain `TypeError` or `ValueError` without that mark comes from checking the arguments
      of a call that was never sent: `False`.
    - Anything else (`KeyboardInterrupt`, `asyncio.CancelledError`, a timeout that another
      library raised around the call) may have cut the waiting short: `True`.
    """
    if isinstance(exc, ExRaftError):
        return exc.maybe_applied
    mark = vars(exc).get(_APPLIED)
    if mark is not None:
        return bool(mark)
    return type(exc) not in (TypeError, ValueError)


def machines_own(exc: BaseException) -> bool:
    """Say whether `exc`, which a call raised, is the state machine's answer to it.

    Then the call has reached the machine and was answered by it: of a write, the command is
    applied. Otherwise the call failed on its way, and `maybe_applied` says what to make of it.

    - What `handle_write` or `handle_read` raised: it was marked when it left the machine.
    - A `MachineError`, which stands for what can't be handed on as it is.
    - A `NotSerialisable` of which `maybe_applied` is `True`: the command was applied and its
      reply can't be sent. Of a read, one can't tell the reply from the query: `False`.
    """
    if isinstance(exc, ExRaftError):
        return isinstance(exc, MachineError) or (
            isinstance(exc, NotSerialisable) and exc.maybe_applied
        )
    return _APPLIED in vars(exc)


def mark_applied(exc: _Error, applied: bool) -> _Error:
    """Note on a foreign exception what `maybe_applied` shall say of it; returns `exc`.

    The mark survives pickling, as everything in an exception's `__dict__` does.
    """
    # Past __setattr__, which a user's exception may have overridden.
    vars(exc)[_APPLIED] = applied
    return exc


def _rebuild(cls: type[ExRaftError], args: tuple[Any, ...]) -> ExRaftError:
    exc = cls.__new__(cls)
    exc.args = args
    return exc


class ExRaftError(Exception):
    """A call that failed; every error of this package is one.

    Attributes:
        reason: what happened in ExRaft's own words, e.g. `"no_leader"`, `("redirect", leader)`.
        maybe_applied: whether the command may have been applied; see `maybe_applied()`.
            `None` in the constructor means what is usual for the class.
    """

    word: ClassVar[str] = "error"
    """The reason, or the first word of it."""
    says: ClassVar[str] = "the call failed"
    """The message of an instance that was given none."""
    usually_applied: ClassVar[bool] = False

    reason: object
    maybe_applied: bool

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: object = None,
        maybe_applied: bool | None = None,
    ) -> None:
        super().__init__(self.says if message is None else message)
        self.reason = self.word if reason is None else reason
        self.maybe_applied = self.usually_applied if maybe_applied is None else maybe_applied

    # Pickle would call the class with `args`, which is the message and not what the
    # constructors of the subclasses take.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args), self._portable()

    def _portable(self) -> dict[str, Any]:
        return dict(vars(self))


# Refused: the command is not in the log.


class NoLeader(ExRaftError):
    """The server knows no leader (reason `"no_leader"`)."""

    word = "no_leader"
    says = "the server knows no leader: wait with ExRaft.await_leader, then call again"


class Redirect(ExRaftError):
    """Another server leads (reason `("redirect", leader)`).

    Attributes:
        leader: the server to call; never the one that said so.
    """

    word = "redirect"
    leader: Peer

    def __init__(self, leader: Peer, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"another server leads: call {leader}, or let ExRaft.client follow the leader",
            reason=(self.word, leader),
            maybe_applied=maybe_applied,
        )
        self.leader = leader


class Transferring(ExRaftError):
    """Leadership is being handed over (reason `("transferring", to)`).

    Attributes:
        to: the server that is to lead.
    """

    word = "transferring"
    to: Peer

    def __init__(self, to: Peer, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"leadership is being handed over to {to}: wait a moment, then call {to}",
            reason=(self.word, to),
            maybe_applied=maybe_applied,
        )
        self.to = to


class TransferFailed(ExRaftError):
    """Leadership could not be handed over; the leader goes on leading."""

    word = "transfer_failed"
    says = (
        "leadership could not be handed over and stays where it was:"
        " look at the other server with ExRaft.status, then try again"
    )


class CommandRejected(ExRaftError):
    """The machine's `is_command` said `False`, or raised (reason `"rejected"`)."""

    word = "rejected"
    says = "the state machine's is_command refused the command: mend the command"


class CommandDropped(ExRaftError):
    """A committed entry of another term stands where the command was (reason `"dropped"`)."""

    word = "dropped"
    says = "the command was lost at a change of leader and will not be applied: write it again"


class Overloaded(ExRaftError):
    """Too many calls are queued, or too many bytes uncommitted (reason `"overloaded"`)."""

    word = "overloaded"
    says = "the server has as much queued as it may hold: wait for replies before writing more"


class NotSerialisable(ExRaftError):
    """A command, reply or other value can't be serialised (reason `"not_serialisable"`)."""

    word = "not_serialisable"
    says = "the value can't be serialised: use plain data, without locks, sockets or open files"


class CommandTooLarge(ExRaftError):
    """A command is larger than `max_command_bytes` (reason `"command_too_large"`).

    Attributes:
        size: of the serialised command, in bytes.
        limit: what the server takes, in bytes.
    """

    word = "command_too_large"
    size: int
    limit: int

    def __init__(self, size: int, limit: int, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"the command takes {size} bytes and the limit is {limit}:"
            " split it, or start the servers with a larger max_command_bytes",
            maybe_applied=maybe_applied,
        )
        self.size = size
        self.limit = limit


class DirtyReadDisabled(ExRaftError):
    """The server was started with `dirty_read=False` (reason `"dirty_read_disabled"`)."""

    word = "dirty_read_disabled"
    says = "the server was started with dirty_read=False: use ExRaft.read"


class SelfCall(ExRaftError):
    """A server's own callback called it through ExRaft, which would deadlock."""

    word = "calling_self"
    says = (
        "a state machine's callback can't call its own server, it would wait for itself:"
        " return a side effect that does it"
    )


# Membership: refused, nothing logged.


class NoCommit(ExRaftError):
    """The leader has committed nothing in its term yet (reason `"no_commit"`)."""

    word = "no_commit"
    says = "the leader has committed nothing in its term yet: call again in a moment"


class UnstableConfig(ExRaftError):
    """Another change of members is under way (reason `"unstable_config"`)."""

    word = "unstable_config"
    says = "another change of members is under way: call again when it has ended"


class LastServer(ExRaftError):
    """The only voter can't be removed (reason `"last_server"`)."""

    word = "last_server"
    says = "the last server can't be removed: stop it with ExRaft.stop_server"


class BelowMinMajority(ExRaftError):
    """Fewer voters than `min_majority` would be left (reason `"below_min_majority"`)."""

    word = "below_min_majority"
    says = (
        "fewer servers than min_majority would be left, and nothing could be committed:"
        " add another server first"
    )


class CatchUpFailed(ExRaftError):
    """The new server was not reached or did not catch up (reason `"catch_up_failed"`)."""

    word = "catch_up_failed"
    says = (
        "the new server did not answer, or did not catch up with the log:"
        " check that it is started, then add it again"
    )


class ForeignServer(ExRaftError):
    """The new server holds entries of another cluster (reason `"foreign_server"`)."""

    word = "foreign_server"
    says = (
        "the new server has entries of another cluster:"
        " stop it, delete its directory if it has one and nobody needs it,"
        " start it with min_majority=2 so that it waits to be added, then add it again"
    )


# The call was sent and the answer is missing.


class OutcomeUnknown(ExRaftError):
    """The server can't tell what became of the command (reason `"unknown"`)."""

    word = "unknown"
    says = (
        "the server can't tell what became of the command, which may have been applied:"
        " read the state before writing it again"
    )
    usually_applied = True


def _next_step(maybe_applied: bool) -> str:
    if maybe_applied:
        return "the command may have been applied: read the state before writing it again"
    return "nothing was written: call again"


class ServerNotFound(ExRaftError, LookupError, pykka.ActorDeadError):
    """Nobody has that name (reason `"noproc"`).

    Attributes:
        server: what was called.
    """

    word = "noproc"
    server: object

    def __init__(self, server: object, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"there is no server {server}: start it, or mend the name. One in a supervision tree"
            " may be about to be started again, which ExRaft.client waits for",
            maybe_applied=maybe_applied,
        )
        self.server = server


class NodeUnreachable(ServerNotFound):
    """The server is on a node that can't be reached (reason `("nodedown", node)`, as in OTP).

    Attributes:
        node: its name, `host:port`.
        why: what stands in the way, in words.
    """

    word = "nodedown"
    node: str
    why: str

    def __init__(
        self, server: object, node: str, why: str, *, maybe_applied: bool | None = None
    ) -> None:
        ExRaftError.__init__(
            self,
            # A peer that is printed names its node itself.
            f"the node of {server} can't be reached: {why}"
            if node in str(server)
            else f"the node {node} of {server} can't be reached: {why}",
            reason=(self.word, node),
            maybe_applied=maybe_applied,
        )
        self.server = server
        self.node = node
        self.why = why


class ServerDown(ExRaftError, pykka.ActorDeadError):
    """The server died while the call waited (reason `("down", why)`).

    Attributes:
        why: the exit reason. An exception given here goes to every caller that waited, so it
            must be a copy without the frames that hold the server's state.
    """

    word = "down"
    usually_applied = True
    why: object

    def __init__(self, why: object, *, maybe_applied: bool | None = None) -> None:
        applied = self.usually_applied if maybe_applied is None else maybe_applied
        super().__init__(
            f"the server went down ({why if isinstance(why, str) else repr(why)})"
            f" while the call waited; {_next_step(applied)}",
            reason=(self.word, why),
            maybe_applied=applied,
        )
        self.why = why


class CallTimeout(ExRaftError, TimeoutError, pykka.Timeout):
    """No answer came in time (reason `"timeout"`).

    Attributes:
        server: what was called, if known.
        timeout: how long the call waited, in seconds, if known.
    """

    word = "timeout"
    usually_applied = True
    server: object
    timeout: float | None

    def __init__(
        self,
        server: object = None,
        timeout: float | None = None,
        *,
        next_step: str | None = None,
        maybe_applied: bool | None = None,
    ) -> None:
        applied = self.usually_applied if maybe_applied is None else maybe_applied
        whom = "" if server is None else f" from {server}"
        when = "in time" if timeout is None else f"within {timeout:g} s"
        super().__init__(
            f"no answer{whom} {when}; {next_step or _next_step(applied)}", maybe_applied=applied
        )
        self.server = server
        self.timeout = timeout


# The state machine failed.


class MachineError(ExRaftError):
    """What a state machine did wrong and can't be handed on as it is.

    Stands for an exception that can't be pickled, for one that is no `Exception`, for an
    `ExRaftError` that the machine raised itself (it would be taken for ours), and for a
    callback's malformed return. The reason is `("machine_error", type_name)`.

    Attributes:
        type_name: the full name of the type of what was raised, e.g. `"shop.SoldOut"`.
        text: what it said.
    """

    word = "machine_error"
    usually_applied = True
    type_name: str
    text: str

    def __init__(self, type_name: str, text: str, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            "mend the state machine or the command, it failed with "
            + (f"{type_name}: {text}" if text else type_name),
            reason=(self.word, type_name),
            maybe_applied=maybe_applied,
        )
        self.type_name = type_name
        self.text = text


# Starting.


class StartFailed(ExRaftError):
    """A server or another child could not be started, nothing of it is left.

    The reason is `("start_failed", cause)`.

    Attributes:
        name: of what was to start.
        cause: why not; an exception is also the `__cause__`.
    """

    word = "start_failed"
    name: str
    cause: object

    def __init__(self, name: str, cause: object, *, maybe_applied: bool | None = None) -> None:
        why = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else cause
        super().__init__(
            f"{name} could not be started ({why}): mend the cause, then start it again",
            reason=(self.word, cause),
            maybe_applied=maybe_applied,
        )
        self.name = name
        self.cause = cause
        if isinstance(cause, BaseException):
            self.__cause__ = cause

    def _portable(self) -> dict[str, Any]:
        cause = {"__cause__": self.cause} if isinstance(self.cause, BaseException) else {}
        return super()._portable() | cause


class AlreadyStarted(ExRaftError):
    """The name is taken (reason `("already_started", ref)`).

    Attributes:
        ref: the `pykka.ActorRef` of who has it; `None` after pickling, as a reference means
            nothing elsewhere.
    """

    word = "already_started"
    ref: Any

    def __init__(
        self, ref: Any, name: str | None = None, *, maybe_applied: bool | None = None
    ) -> None:
        taken = "the name" if name is None else f"the name {name}"
        super().__init__(
            f"{taken} is taken, by {ref}: use another, or stop that one first",
            reason=(self.word, ref),
            maybe_applied=maybe_applied,
        )
        self.ref = ref

    def _portable(self) -> dict[str, Any]:
        return super()._portable() | {"ref": None, "reason": (self.word, None)}


class NodeError(ExRaftError):
    """This process's node can't be started, stopped or used as it was asked for.

    The reason is `"node"`; the message says what to do.
    """

    word = "node"
    says = "the node can't be started, stopped or used so"


class StorageError(ExRaftError):
    """A server's store can't be used as it is.

    Attributes:
        path: the file or directory that it is about.
    """

    word = "storage"
    path: str

    def __init__(self, path: object, message: str, *, maybe_applied: bool | None = None) -> None:
        super().__init__(f"{path}: {message}", maybe_applied=maybe_applied)
        self.path = str(path)


class StoreLocked(StorageError):
    """Another process, or another server of this one, has the directory open."""

    word = "store_locked"


class StoreMismatch(StorageError):
    """The directory is another server's, or of another format."""

    word = "store_mismatch"


class StoreDamaged(StorageError):
    """What is stored is not what was written, and nothing was changed about it.

    Attributes:
        offset: the first damaged byte of the file, as far as it is known.
    """

    word = "store_damaged"
    offset: int | None

    def __init__(self, path: object, message: str, *, offset: int | None = None) -> None:
        super().__init__(path, message)
        self.offset = offset


class StoreFailed(StorageError):
    """The disk has failed to store something: this process uses the directory no more."""

    word = "store_failed"


class DiskFull(StorageError):
    """There is no room for what a server must store; nothing of the call was stored."""

    word = "disk_full"


class SnapshotFailed(ExRaftError):
    """The server could not take a snapshot of its state; it goes on without."""

    word = "snapshot_failed"
    says = "no snapshot could be taken: the server's log says why"


class OptionError(ExRaftError, ValueError):
    """A start option is unknown or makes no sense (reason `"bad_option"`)."""

    word = "bad_option"
    says = "a start option is unknown or makes no sense: see ExRaft.start_server"
