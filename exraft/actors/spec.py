"""What a raft server is made of.

Knows what stays the same over all lives of a server, and what one life leaves to the next. Must not
know how a life is started or judged: that is its supervisor's business.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol

import pykka

from exraft.actors import members
from exraft.actors.effects import Effects
from exraft.actors.exits import Exit
from exraft.actors.registry import ActorRegistry, Reservation
from exraft.actors.transport import Transport
from exraft.errors import OptionError
from exraft.machine import MachineFactory
from exraft.names import Peer, node
from exraft.raft import Options
from exraft.storage import DiskStore, OsFiles
from exraft.storage.memory import LentStore
from exraft.storage.siblings import witness

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
    data_dir: str | None = None
    """An absolute path; None if the store is in memory."""
    snapshot_every: int | None = 100_000
    snapshot_bytes: int | None = 64 * 1024 * 1024

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


class Owner(Protocol):
    """Who keeps a server's store, and lends it to one life at a time.

    `open` comes before the first life that a supervisor starts, `close` when the supervisor has
    ended; both do nothing if it is so already.
    """

    @property
    def store_id(self) -> str: ...
    def open(self) -> None: ...
    def lend(self) -> LentStore: ...
    def peek(self) -> LentStore | None: ...
    def close(self) -> None: ...


class Estate:
    """What belongs to a server's child spec: it outlives its lives, and its supervisors too.

    So the server is the member it was when the parent of its supervisor starts another one.

    Attributes:
        lives: how many it has had, the present one included.
        resumes: whether the present life follows another that has left the store just as it is
            (rule 27): not if it was read from a disk since.
    """

    __slots__ = ("_lock", "lives", "resumes", "spec", "store", "transport")

    def __init__(self, spec: ServerSpec, store: Owner, transport: Transport) -> None:
        self.spec = spec
        self.store = store
        self.transport = transport
        self.lives = 0
        self.resumes = False
        self._lock = Lock()

    @property
    def place(self) -> str:
        """Where the store is."""
        return self.store.path if isinstance(self.store, DiskStore) else "memory"

    @property
    def syncs(self) -> int:
        """How often anything of the log was synced; in memory nothing is."""
        return self.store.syncs if isinstance(self.store, DiskStore) else 0

    def open(self) -> None:
        """A supervisor is about to start its first life.

        Raises:
            OptionError: no directory can be made of `data_dir`.
            StorageError: the store can't be used, which is another's or damaged, for instance.
        """
        if self.spec.peer.node != node():
            raise OptionError(
                f"{self.spec.peer.name} was specified for {self.spec.peer.node}, and this process"
                f" is {node()}: call start_node first, then say which servers there are"
            )
        with self._lock:
            if self.spec.data_dir is not None:
                _make_directory(self.spec.data_dir)
            self.store.open()
            self.resumes = not isinstance(self.store, DiskStore) and self.lives > 0

    def lend(self) -> LentStore:
        """Lend the store to a life that begins.

        Raises:
            StoreFailed: it has failed in the hands of an earlier one.
        """
        with self._lock:
            lent = self.store.lend()
            self.lives += 1
            return lent

    def comes_too_late(self) -> str:
        """What to tell if its log is empty although its cluster was founded; else nothing.

        Directories beside it show that. Only where it was started with others: one by itself waits
        or leads as it was told to.
        """
        spec = self.spec
        if spec.data_dir is None or len(spec.founders) == 1:
            return ""
        shown = witness(spec.data_dir, spec.peer, self.store.store_id, spec.founders)
        if shown is None:
            return ""
        other, path = shown
        return (
            f"{spec.peer} has an empty directory, and {other} in {path} belongs to a cluster that"
            " exists already: it waits, and founds no other. If a majority of that cluster is left,"
            f" take it in again with ExRaft.add_server(leader, {spec.peer.name!r}); if none is:"
            f" python -m exraft recover {path} --members {other.name}"
        )

    def take_back(self, lent: LentStore | None) -> None:
        """A supervisor has ended, of which `lent` was the last hold.

        Nothing happens if that is not the newest: should the supervisor have been given up, another
        may have the store.
        """
        with self._lock:
            if self.store.peek() is lent:
                members.ended(self.spec.peer)
                self.store.close()


def _make_directory(path: str) -> None:
    try:
        OsFiles().make_directory(path)
    except OSError as error:
        raise OptionError(
            f"data_dir={path!r} is no directory, and can't be made one: {error.strerror}"
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise OptionError(f"data_dir={path!r}: this process may not write there")


_ADVICE: Final = (
    "{0} starts with an empty store although a living cluster counts it as a member: it waits. Take"
    " it in again with ExRaft.add_server(leader, {0.name!r}), or stop all members to found the"
    " cluster anew"
)


class Tenure:
    """The time of one supervisor of a server; what its lives leave to each other.

    Once it is closed no life begins in it: a supervisor that was given up, and wakes, takes the
    store from nobody.

    `kept` are the ids of the stores with which servers that have ended may come back, see
    `members`.

    Attributes:
        estate: what outlives it.
        effects: the worker of the server's side effects.
        grace: seconds that these get to run out in the end.
        standby: whether the server is a stranger under the name of a member (rule 29).
        advice: what to tell its operator then.
    """

    __slots__ = (
        "_closed",
        "_kept",
        "_lent",
        "_lock",
        "_opened",
        "_reservation",
        "advice",
        "effects",
        "estate",
        "grace",
        "standby",
    )

    def __init__(self, estate: Estate, kept: Collection[str] = ()) -> None:
        self.estate = estate
        self._kept = kept
        self.effects = Effects(estate.spec.peer.name)
        self.grace = PATIENCE
        self.standby = False
        self.advice = ""
        self._reservation: Reservation | None = None
        """The server's name between two lives."""
        self._lock = Lock()
        self._lent: LentStore | None = None
        """What its present life holds; `None` before the first."""
        self._opened = False
        self._closed = False

    def begin_life(self) -> LentStore:
        """Lend the store to a life that begins; whoever held it holds a dead token.

        Raises:
            Exit: the tenure is closed.
            OptionError, StorageError: there is no store.
        """
        estate = self.estate
        with self._lock:
            if self._closed:
                raise Exit("killed")
            if self._lent is None:
                estate.open()
                self._opened = True
                self.standby = members.is_forgotten(
                    estate.spec.peer, estate.store.store_id, self._kept
                )
            else:
                estate.resumes = True
            first = self._lent is None
            lent = self._lent = estate.lend()
            if self.standby:
                self.advice = _ADVICE.format(estate.spec.peer)
            elif first and lent.last_index == 0:
                self.advice = estate.comes_too_late()
                self.standby = bool(self.advice)
            return lent

    def keep_name(self, ref: pykka.ActorRef[Any]) -> None:
        """A life ends: its name is the next one's, if one may follow.

        Raises:
            AlreadyStarted: somebody has taken the name away from it.
        """
        with self._lock:
            if not self._closed and self._reservation is None:
                name = self.estate.spec.peer.name
                self._reservation = ActorRegistry.reserve(name, bearer=ref)

    def take_name(self, ref: pykka.ActorRef[Any]) -> bool:
        """A life begins: it gets the name that the one before has kept; `False` if none has."""
        with self._lock:
            if self._reservation is None:
                return False
            self._reservation.bind(ref)
            self._reservation = None
            return True

    def close(self) -> bool:
        """The supervisor ends: no life follows under it. The store stays what it is.

        Returns:
            whether all side effects have run.
        """
        with self._lock:
            self._closed = True
            lent = self._lent
            if self._reservation is not None:
                self._reservation.free()
                self._reservation = None
        if lent is not None:
            # Its own hold only: should this supervisor have been given up, another may hold the
            # store.
            lent.fence()
        if self._opened:
            self.estate.take_back(lent)
        return self.effects.close(self.grace)
