"""What a user implements: the state machine that every server of a cluster runs alike.

Knows the callbacks, what each returns and what raising in it means.
Must not know who calls them, nor logs, terms or threads.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pkgutil import resolve_name
from typing import Any, BinaryIO, Final, TypeAlias

from exraft.child_spec import ChildSpec, Restart, Shutdown
from exraft.codec import encode_state, load
from exraft.names import Role

SideEffect: TypeAlias = Callable[[], object]
"""What a leader does once after commit; `functools.partial` takes the arguments along."""

WriteResult: TypeAlias = tuple[Any, Any] | tuple[Any, Any, Sequence[SideEffect]]
"""`(reply, state)` or `(reply, state, side_effects)`."""

Writer: TypeAlias = Callable[[BinaryIO], object]
"""Writes a captured state into a file; see `StateMachine.snapshot`."""


class NoReply(Enum):
    """The type of `NOREPLY`: an enumeration, so that a pickled copy is the same object."""

    NOREPLY = "noreply"

    def __repr__(self) -> str:
        return self.name


NOREPLY: Final = NoReply.NOREPLY
"""What `handle_read` returns to leave its caller to time out (kept for ports from ExRaft)."""


class ReleaseCursor(Enum):
    """The type of `RELEASE_CURSOR`."""

    RELEASE_CURSOR = "release_cursor"

    def __repr__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Nothing: it is no effect on the world."""


RELEASE_CURSOR: Final = ReleaseCursor.RELEASE_CURSOR
"""Among side effects it says that a snapshot is worthwhile now (Ra's `release_cursor`).

A queue that has just been emptied returns it, for instance: its state is small, and the log that
led to it is not. Every server hears it, not the leader alone; one that has taken a snapshot not
long before takes no notice.
"""

_ABSENT: Any = object()


class StateMachine(ABC):
    """The state that a cluster keeps, and what commands and queries do with it.

    Subclass it and give the class to `ExRaft.start_server`. Each server makes an instance of
    its own, and another one each time it is restarted: what matters belongs in the state,
    which is passed to every callback; what an instance keeps on `self` is not replicated.
    Callbacks run in the server's thread: a slow one delays its heartbeats, and a call
    through `ExRaft` to the same server is refused with `SelfCall`.
    """

    def init(self, init_arg: Any) -> Any:
        """Return the first state. Not required: `init_arg` is the state.

        Called at the start of a server and of each of its restarts, with a fresh copy of
        what `start_server` was given. Raising refuses the start with `StartFailed`.
        """
        return init_arg

    def is_command(self, command: Any, state: Any) -> bool:
        """Return whether `command` may enter the log. Not required: `True`.

        Called on the leader alone, before logging (ExRaft's `command?`). `state` is what has
        been applied so far and may lag writes in flight: what must hold is refused in
        `handle_write`. `False`, or raising, refuses the command with `CommandRejected`.
        """
        return True

    @abstractmethod
    def handle_write(self, command: Any, state: Any) -> WriteResult:
        """Apply a committed command; return `(reply, state)` or `(reply, state, side_effects)`.

        Required. Called on every server, in log order, with its own copy of the command: so
        it must be deterministic, and whether it raises may depend on command and state only.
        The caller gets a copy of the reply. `side_effects` are callables without arguments
        (see `SideEffect`): a leader runs those of entries of the term that it leads, in log
        order, beside its thread, at most once; a failing one is logged and changes nothing.
        `RELEASE_CURSOR` among them says that a snapshot is worthwhile now.

        What it raises is the answer to the caller, with a note that names server and index;
        the command stays in the log as one that did nothing. What is no `Exception`, can't
        be pickled, or is an `ExRaftError`, arrives as `MachineError`, and so does a return
        of another shape. The previous state object is kept, but what was changed in place
        before the raise stays changed, on every server alike: check first, then change.
        `MemoryError` and `RecursionError`, which may differ between servers, crash the server.
        """

    @abstractmethod
    def handle_read(self, query: Any, state: Any) -> Any:
        """Return the answer to `query`, or `NOREPLY`. Required.

        Changes nothing: it runs on one server only and leaves no trace in the log. The caller
        gets a copy of the answer. What it raises is the answer to the caller, as for
        `handle_write`; the state is what it was.
        """

    def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
        """Return the state, or `(state, side_effects)`, after an entry of the cluster's own.

        Not required: the state stays as it is. Called on every server, in log order; `kind`
        is `"config"` and `content` the new configuration. Kinds to come must be ignored.
        Deterministic as `handle_write`, and what it raises leaves the previous state; nobody
        waits for it, so it is logged.
        """
        return state

    def snapshot(self, state: Any) -> Writer:
        """Capture the state as it is now; return a function that writes it into a file.

        Not required: the state is serialised in one go, here, by the codec that the process uses,
        of which a plain one takes plain data without tuples only. That takes the server's thread
        for as long as it lasts, and is reported when a heartbeat would have been due. A big state
        is better taken in two steps (hashicorp/raft's `FSM.Snapshot` and `FSMSnapshot.Persist`): a
        cheap capture now, in the server's thread, of what won't change any more - a shallow copy,
        a persistent map, a list of immutable parts -, and a writer that does the slow rest.

            def snapshot(self, state):
                items = state.copy()          # the values are never changed in place
                return lambda file: pickle.dump(items, file, protocol=5)

        The writer is called once, beside the server's thread, while commands are applied: it must
        not look at anything that they change. It writes bytes into a binary file, which it need
        not close. What either raises is logged, the log stays as long as it is, and it is tried
        again later; a caller of `ExRaft.snapshot` gets `SnapshotFailed`. On every server, whenever
        one of its own is due: so it must not depend on what others do.
        """
        data = encode_state(state)
        return lambda file: file.write(data)

    def restore(self, file: BinaryIO) -> Any:
        """Return the state that the writer of `snapshot` has written into `file`.

        Not required where the writer is the default one; nor where it pickles the state, unless the
        process uses a plain codec, which takes no pickles. A `restore` that unpickles does so
        whatever the codec is. Called when a server starts with a snapshot, after `init`, and when
        its leader has sent it one, as its own log is too far behind: then beside its thread, and
        the state that it returns takes the place of the one before. Raising refuses the start, or
        crashes the server. `file` is read from its start on, and is not to be used after the
        return.
        """
        return load(file)

    # Callbacks that need not do anything are no abstract methods.

    def transition(self, to_state: Role, state: Any) -> None:  # noqa: B027
        """Be told of the server's new role, the first one included.

        Not required: nothing happens. The return value is ignored. Raising crashes the
        server, which its supervisor restarts.
        """

    def terminate(self, reason: Any, state: Any) -> None:  # noqa: B027
        """Be told that the server stops, and why.

        Not required: nothing happens. Called when the server is stopped, and before a
        crashed one exits, if it can run. The return value is ignored, and raising only logged.
        """

    @classmethod
    def child_spec(
        cls,
        init_arg: Any = _ABSENT,
        *,
        name: str,
        id: str | None = None,
        restart: Restart = "permanent",
        shutdown: Shutdown = None,
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Return how a supervision tree starts a server of this machine.

        Takes what `ExRaft.start_server` takes, and refuses what it refuses, at once; and what a
        `ChildSpec` has. The child's id is `name`, unless another is given, so that servers of one
        machine can stand in one tree; it is a permanent supervisor without limit for its shutdown,
        unless these are given.

        The server's log belongs to the spec: when its own supervisor gives up, and the tree starts
        another, the server is the member that it was. So it is after `ExRaft.stop_server`, which
        in a tree is a restart: `Supervisor.terminate_child` stops it for good, and it forgets
        when the spec is gone. One spec starts one server at a time.
        """
        # By name: a machine must not import the API, which stands above it.
        make = resolve_name("exraft.api:child_spec")
        spec: ChildSpec = make(cls, [] if init_arg is _ABSENT else init_arg, name, options)
        return replace(
            spec,
            id=spec.id if id is None else id,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
        )


MachineFactory: TypeAlias = Callable[[], StateMachine]


def check_machine(machine: object) -> MachineFactory:
    """Return `machine` if it is a `StateMachine` class, or a factory of such machines.

    A factory is a callable without arguments, such as `functools.partial(Ledger, "EUR")`.
    What it makes is checked by `make_machine`, at each start.

    Raises:
        TypeError: it is neither; an instance is refused too.
    """
    if isinstance(machine, StateMachine):
        name = type(machine).__name__
        raise TypeError(
            f"{name}() is an instance: give the class {name}, or a function that makes one,"
            " as each life of a server needs a machine of its own"
        )
    if isinstance(machine, type):
        _check_class(machine)
    if not callable(machine):
        raise TypeError(
            f"{machine!r} is no state machine: give a subclass of exraft.StateMachine,"
            " or a function that makes one"
        )
    try:
        inspect.signature(machine).bind()
    except ValueError:  # A callable written in C may not tell its signature.
        pass
    except TypeError as error:
        name = getattr(machine, "__name__", repr(machine))
        raise TypeError(
            f"{name} can't be called without arguments ({error}):"
            f" give functools.partial({name}, ...), or what varies as init_arg"
        ) from None
    return machine


def make_machine(factory: MachineFactory) -> StateMachine:
    """Make the machine of one life of a server.

    Raises:
        TypeError: the factory returned something else.
        Exception: whatever the factory raised.
    """
    machine: object = factory()
    if not isinstance(machine, StateMachine):
        name = getattr(factory, "__name__", repr(factory))
        raise TypeError(f"{name} returned {machine!r}, which is no instance of StateMachine")
    return machine


def _check_class(machine: type) -> None:
    if not issubclass(machine, StateMachine):
        raise TypeError(f"{machine.__name__} is no subclass of exraft.StateMachine")
    missing = sorted(machine.__abstractmethods__)
    if missing:
        raise TypeError(f"{machine.__name__} lacks {' and '.join(missing)}: define it")
