"""A raft server in a supervision tree (ExRaft's `ExRaft.Supervisor`).

Knows what stands between a tree and a server: an ordinary supervisor with the server as its one
child, whose store is part of the child's spec. Must not know what the server does, nor how
supervisors work.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pykka

from exraft.actors.lineage import life_of
from exraft.actors.registry import ActorRegistry
from exraft.actors.server import RaftServer
from exraft.actors.spec import PATIENCE, Estate, Tenure
from exraft.child_spec import ChildSpec
from exraft.codec import copy_exception, without_frames
from exraft.errors import AlreadyStarted, OptionError, StartFailed, StorageError
from exraft.names import Peer
from exraft.supervision import asking
from exraft.supervision.supervising import Stop, Supervising
from exraft.supervision.supervisor import Supervisor, SupervisorProcess

logger = logging.getLogger("exraft.supervision")


def child_spec(estate: Estate) -> ChildSpec:
    """Return how a tree starts the server: permanent, and with as much time as it needs to stop."""
    return ChildSpec(id=estate.spec.peer.name, start=(start, (estate,), {}), type="supervisor")


def start(estate: Estate) -> pykka.ActorRef[Any]:
    """Start the server's supervisor, and under it the server; return the supervisor's reference.

    Raises:
        AlreadyStarted: the name is taken.
        OptionError: no directory can be made of `data_dir`.
        StorageError: the store can't be used.
        StartFailed: the machine's `init` or `restore` raised; nothing is left running or
            registered.
    """
    spec = estate.spec
    taken = ActorRegistry.get_by_name(spec.peer.name)
    if taken is not None:
        raise AlreadyStarted(taken, spec.peer.name)

    tenure = Tenure(estate, _kept_stores())

    def close() -> None:
        if not tenure.close():
            logger.error("Side effects of %s were left undone", spec.peer)

    server = ChildSpec(id=spec.peer.name, start=(RaftServer, (tenure,), {}), shutdown=spec.shutdown)
    try:
        return Supervisor.start(
            [server],
            max_restarts=spec.max_restarts,
            max_seconds=spec.max_seconds,
            name=spec.supervisor_name,
            on_end=close,
        )
    except StartFailed as error:
        failure = _own_error(error)
    # Not in the handler, which would put another error in the place of the failure's cause.
    raise failure


def _kept_stores() -> set[str]:
    """The ids of the stores of all servers that stand in a tree here, whether they run or not."""
    kept: set[str] = set()
    for ref in pykka.ActorRegistry.get_by_class(Supervising):
        life = life_of(ref)
        if isinstance(life, Supervising):
            for spec in life.specs():
                _collect(spec, kept)
    return kept


def _collect(value: Any, kept: set[str]) -> None:
    """The specs of a nested tree are among the start arguments of its supervisor."""
    if isinstance(value, ChildSpec):
        _collect(value.start[1:], kept)
    elif isinstance(value, Mapping):
        _collect(tuple(value.values()), kept)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, kept)
    elif isinstance(value, Tenure):
        kept.add(value.estate.store.store_id)
    elif isinstance(value, Estate):
        kept.add(value.store.store_id)


def _own_error(error: StartFailed) -> Exception:
    """What the caller is told; without the frames that hold the server's state."""
    cause = error.cause
    if isinstance(cause, AlreadyStarted | OptionError | StorageError):
        return without_frames(cause)
    if isinstance(cause, BaseException):
        cause = copy_exception(cause, None, maybe_applied=False)
    return StartFailed(error.name, cause)


def stop(
    supervisor: pykka.ActorRef[Any], peer: Peer, reason: object, timeout: float | None
) -> None:
    """Stop a server with its supervisor, and wait for that.

    The server is told `reason`, has `timeout` seconds to hand over and for its side effects, and
    then as long as ever for `terminate`.

    Raises:
        CallTimeout: it has not ended within `timeout` seconds; it will all the same.
    """
    patience = None if timeout is None else timeout + PATIENCE
    asking.stop(supervisor, SupervisorProcess, Stop(reason, reason, patience), timeout, peer)
