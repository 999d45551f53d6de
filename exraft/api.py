"""What a user calls.

Knows every call with its default timeout, and how it becomes a message to a server. Must not know
what servers do with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Unpack

import pykka

from exraft.actors.calls import (
    Ask,
    AwaitLeader,
    Change,
    ChangeReply,
    LeaderReply,
    Read,
    Reply,
    SnapshotReply,
    TakeSnapshot,
    Transfer,
    TriggerElection,
)
from exraft.actors.spec import Estate
from exraft.actors.status import Status
from exraft.actors.transport import local
from exraft.calling import call, peer_of, send_write, stop_here
from exraft.child_spec import ChildSpec
from exraft.client import Client
from exraft.codec import own_copy
from exraft.describe import describe_context, describe_log
from exraft.limits import check_timeout
from exraft.machine import MachineFactory, StateMachine
from exraft.names import LOCAL_NODE, Peer, Role, Server, as_peer, node
from exraft.options import StartOptions, make_spec, unreachable
from exraft.storage import DiskStore, MemoryStore
from exraft.supervision import raft
from exraft.supervision.nesting import checks

_EMPTY: Any = []
"""The default init_arg. Never handed out: it is serialised at once."""


class ExRaft:
    """Raft servers by name: the functions of Elixir's ExRaft 0.2, and more.

    A namespace of static methods; nothing is instantiated. A `server` is a name such as `":raft1"`,
    a `Peer`, or a `(name, node)` tuple. Timeouts are seconds; `None` waits for ever. Every call is
    safe from any thread, and raises, beside what it names itself:

    - `ServerNotFound`: nobody has that name (`reason` `"noproc"`).
    - `ServerDown`: the server died while the call waited.
    - `CallTimeout`: no answer came in time.
    - `SelfCall`: a callback of the server's own machine called it, which would deadlock.
    - `ValueError`: a name or a timeout makes no sense.

    `exraft.maybe_applied(error)` says whether the command may have been applied all the same.
    """

    @staticmethod
    def start_server(
        machine: type[StateMachine] | MachineFactory,
        init_arg: Any = _EMPTY,
        *,
        name: str,
        **options: Unpack[StartOptions],
    ) -> pykka.ActorRef[Any]:
        """Start a server's supervisor, and under it the server (ExRaft `start_server/3`).

        Returns when the machine's `init` has returned.

        Args:
            machine: a `StateMachine` class, or a function that makes one.
            init_arg: given to `init`; an empty list by default. Serialised once.
            name: the server's name, such as `":raft1"`. The supervisor is registered as
                `":ExRaft.Supervisor.raft1"`.
            initial_config: the members of a new cluster, as names or peers; the server itself is
                always one. The same on all of them, or left out (see `min_majority`).
            min_majority: raises the quorum to this many voters. A server that knows no other, with
                2 or more here, waits to be added to a cluster; without it, it leads one of its own.
            min_election_timeout, max_election_timeout: a follower that hears no leader waits a
                random time between these two, in seconds (1.0 and 10.0).
            heartbeat_timeout: seconds between two messages of an idle leader (0.1).
            batch_size: most entries in one append message (100).
            dirty_read: whether `read_dirty` is served (True).
            debug: log changes of role; check that reads and raising writes change nothing (False).
            max_command_bytes: the largest serialised command, in bytes (4 MiB).
            max_uncommitted_bytes: commands that may wait for a quorum, in bytes (64 MiB).
            max_restarts, max_seconds: the supervisor gives up when the server dies more often than
                `max_restarts` times in `max_seconds` seconds (3 in 5.0).
            data_dir: where the server keeps its log and snapshots, in a directory of its own, so
                that several may be given the same; made if it is missing. A server that is started
                on what it has stored goes on from there, with the configuration that it knows
                instead of `initial_config`. None, the default, keeps them in memory, as long as the
                server's supervisor lives, or the tree's child spec.
            snapshot_every, snapshot_bytes: a snapshot is taken, and the log cut, when so many
                entries (100,000), or so many bytes of them (64 MiB), were applied since the last.
                None: never for that reason.
            keep_entries: how many entries stay in the log all the same, for those that are a
                little behind and need not be sent a snapshot (10,000).

        Returns:
            the supervisor's reference.

        Raises:
            OptionError: an option is unknown or makes no sense (a `ValueError` too).
            TypeError: `machine` is neither a class nor a function that makes a machine.
            NotSerialisable: `init_arg` can't be serialised.
            AlreadyStarted: the name is taken.
            StartFailed: `init` or `restore` raised.
            StoreLocked, StoreMismatch, StoreDamaged, StoreFailed, DiskFull: what is stored in
                `data_dir` can't be used, the message says why and what to do.

        After an error nothing is left running or registered.
        """
        return raft.start(_estate(machine, init_arg, name, options))

    @staticmethod
    def stop_server(
        server: Server, reason: object = "normal", timeout: float | None = None
    ) -> None:
        """Stop a server and its supervisor in order (ExRaft `stop_server/3`).

        A store in memory is dropped; unless it stands in a supervision tree, which starts it again
        with it. What is in `data_dir` stays.

        A leader hands over first, if its other voters that it has heard lately make a quorum. Then
        `terminate(reason, state)` runs, and side effects run out. A reason other than `"normal"`,
        `"shutdown"` or `("shutdown", term)` logs an error report.

        Raises:
            CallTimeout: it has not ended within `timeout` seconds; it will all the same.
        """
        check_timeout(timeout)
        peer = peer_of(server)
        if peer.node == node():
            stop_here(peer, reason, timeout)
        else:
            from exraft.distribution import stop_there

            stop_there(peer, reason, timeout)

    @staticmethod
    def await_leader(server: Server, timeout: float | None = 60.0) -> Peer:
        """Wait until the server knows, or becomes, the leader; return that (ExRaft)."""
        return call(server, AwaitLeader(LeaderReply()), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def leader(server: Server, timeout: float | None = 1.0) -> Peer | None:
        """Return the leader that the server knows, or `None` (ExRaft)."""
        return call(server, Ask(Reply(), "leader"), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def state(server: Server, timeout: float | None = 1.0) -> Role:
        """Return the server's role (ExRaft); one that asks for pre-votes is a follower."""
        return call(server, Ask(Reply(), "state"), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def ping(server: Server, timeout: float | None = 1.0) -> str:
        """Return `"pong"` if the server answers (ExRaft)."""
        return call(server, Ask(Reply(), "ping"), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def status(server: Server, timeout: float | None = 1.0) -> Status:
        """Return what the server tells of itself to programs."""
        return call(server, Ask(Reply(), "status"), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def trigger_election(server: Server, timeout: float | None = 1.0) -> None:
        """Make the server campaign, past pre-votes and a leader that is alive (ExRaft).

        Returns at once. Nothing happens if it campaigns already, or is no voter. A leader steps
        down for it: its waiting reads get `NoLeader`, its waiting writes stay.
        """
        call(server, TriggerElection(Reply()), timeout)

    @staticmethod
    def write(server: Server, command: Any, timeout: float | None = 60.0) -> Any:
        """Log, replicate and apply `command`; return `handle_write`'s reply (ExRaft).

        Raises:
            NoLeader, Redirect, Transferring: the server does not lead; nothing was logged.
            CommandRejected: the machine's `is_command` refused it.
            CommandDropped: it was lost at a change of leader, and will not be applied.
            OutcomeUnknown: it may have been applied; the server can't tell.
            Overloaded: too much waits already.
            NotSerialisable, CommandTooLarge: refused at the caller.
            Exception: what `handle_write` raised, with a note that says where.
        """
        check_timeout(timeout)
        return send_write(server, command).wait(timeout)

    @staticmethod
    def write_async(server: Server, command: Any) -> pykka.Future[Any]:
        """Like `write`, without waiting: the future's `get(timeout=...)` returns or raises.

        `await` works too, and does not block the event loop. What is wrong with the arguments is
        raised at once.
        """
        return send_write(server, command).reply

    @staticmethod
    def read(server: Server, query: Any, timeout: float | None = 60.0) -> Any:
        """Return `handle_read`'s reply from a state that holds every write acknowledged before.

        Linearizable (in ExRaft it was not): the leader makes sure that it still leads, with one
        round of messages for all reads that wait. The errors are those of `write`.
        """
        return call(server, Read(Reply(), own_copy(query), dirty=False), timeout)

    @staticmethod
    def read_dirty(server: Server, query: Any, timeout: float | None = 60.0) -> Any:
        """Return `handle_read`'s reply from the server's own, maybe old, state (ExRaft).

        Raises:
            DirtyReadDisabled: the server was started with `dirty_read=False`.
        """
        return call(server, Read(Reply(), own_copy(query), dirty=True), timeout)

    @staticmethod
    def add_server(server: Server, new_server: Server, timeout: float | None = 60.0) -> None:
        """Make `new_server` a member, when it has caught up with the log (ExRaft `add_server/3`).

        Returns when the new configuration is committed; at once if it is a member already.

        Raises:
            NoLeader, Redirect, Transferring: as for `write`.
            NoCommit: the leader could not commit anything in its term in time.
            UnstableConfig: another change is under way.
            CatchUpFailed: the new server does not answer, or does not catch up.
            ForeignServer: it has entries of another cluster.
            BelowMinMajority: it comes back with an empty store, and its old self can't be removed.
        """
        _change(server, new_server, timeout, add=True)

    @staticmethod
    def remove_server(server: Server, old_server: Server, timeout: float | None = 60.0) -> None:
        """Take `old_server` out of the configuration (ExRaft `remove_server/3`).

        Returns when the new configuration is committed; at once if it is no member. A leader that
        removes itself hands over then. The server goes on running: stop it.

        Raises:
            LastServer, BelowMinMajority: too few would be left.
            NoLeader, Redirect, Transferring, NoCommit, UnstableConfig: as for `add_server`.
        """
        _change(server, old_server, timeout, add=False)

    @staticmethod
    def transfer_leadership(
        server: Server, to: Server | None = None, timeout: float | None = 10.0
    ) -> Peer:
        """Hand leadership over to `to`, or to the most up-to-date voter; return the new leader.

        Raises:
            NoLeader, Redirect, Transferring: as for `write`.
            TransferFailed: it could not be done, and the leader goes on.
        """
        target = None if to is None else as_peer(to)
        return call(server, Transfer(Reply(), target), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def snapshot(server: Server, timeout: float | None = 60.0) -> int:
        """Have the server take a snapshot of its own state; return the index that it is of.

        It holds all that the server had applied at the call. If the newest one does already, that
        one's index is returned at once (0 if nothing was ever applied). The log is cut then, but
        for `keep_entries`. Nothing happens on other servers.

        Raises:
            SnapshotFailed: the machine's `snapshot` or its writer raised, or there is no room.
        """
        return call(server, TakeSnapshot(SnapshotReply()), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def backup(
        server: Server,
        path: str | PathLike[str],
        timeout: float | None = 60.0,
        *,
        overwrite: bool = False,
    ) -> int:
        """Write all that the server has applied into one file; return the index that it is of.

        A snapshot is taken for it, as `snapshot` does. Everything that was acknowledged before is
        in a leader's; a follower's may lack the last of it. The file is there when it is whole and
        on the disk. `python -m exraft restore` begins a new cluster with it. `timeout` is for the
        server's part; the copying is done by the caller.

        Raises:
            SnapshotFailed: as for `snapshot`.
            StorageError: there is such a file and `overwrite` is False, it can't be written, or
                nothing was ever applied.
        """
        # Only who makes a backup pays for the import.
        from exraft.rescue.backup import write_backup

        ExRaft.snapshot(server, timeout)
        peer = peer_of(server)
        if peer.node == node():
            reader = call(peer, Ask(Reply(), "snapshot"), timeout)
        else:
            from exraft.distribution import open_snapshot

            reader = open_snapshot(peer, timeout)
        try:
            return write_backup(path, peer, reader, overwrite=overwrite)
        finally:
            if reader is not None:
                reader.close()

    @staticmethod
    def inspect(server: Server, flag: str, timeout: float | None = 1.0) -> None:
        """Print the server's `"context"` or `"log"` to standard output, for people (ExRaft).

        Raises:
            ValueError: another flag.
        """
        if flag == "context":
            print(describe_context(ExRaft.status(server, timeout)))
        elif flag == "log":
            print(describe_log(*call(server, Ask(Reply(), "log"), timeout)))
        else:
            raise ValueError(f"inspect prints 'context' or 'log', not {flag!r}")

    @staticmethod
    def client(servers: Iterable[Server]) -> Client:
        """A handle on a cluster that finds the leader by itself; what most programs should use.

        Raises:
            ValueError: `servers` is empty, or holds no names or peers.
        """
        return Client(servers)


def _change(server: Server, other: Server, timeout: float | None, *, add: bool) -> None:
    peer = as_peer(other)
    if add and as_peer(server).node != node() and peer.node == LOCAL_NODE:
        raise ValueError(f"{peer} is to be added on another node: say on which it is itself")
    if add and as_peer(server).node == node() and not local.reaches(peer.node):
        raise ValueError(f"{peer}: {unreachable(peer.node)}")
    check_timeout(timeout)
    # A little less than the caller waits, so that it hears why before it gives up.
    patience = float("inf") if timeout is None else timeout - min(0.1 * timeout, 0.25)
    call(server, Change(ChangeReply(), peer, add=add, patience=patience), timeout)


def child_spec(
    machine: MachineFactory, init_arg: Any, name: str, options: Mapping[str, Any]
) -> ChildSpec:
    """Return how a tree starts a server; for `StateMachine.child_spec`, which says more.

    Raises:
        OptionError, TypeError, NotSerialisable: as `ExRaft.start_server`, at once.
    """
    return raft.child_spec(_estate(machine, init_arg, name, options))


def _estate(machine: object, init_arg: Any, name: str, options: Mapping[str, Any]) -> Estate:
    spec = make_spec(machine, init_arg, name, options, local)
    store = MemoryStore() if spec.data_dir is None else DiskStore(spec.data_dir, spec.peer)
    return Estate(spec, store, local)


def _refuse_as_child(*args: Any, **kwargs: Any) -> None:
    # Its log would be made anew with each start, and a restart by the tree would forget it.
    raise ValueError(
        "as the child of a tree a server needs a log that outlives its supervisor: let the spec be"
        " that of Machine.child_spec(init_arg, name=..., ...)"
    )


checks(ExRaft.start_server, _refuse_as_child)
