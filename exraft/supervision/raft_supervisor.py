"""The supervisor of one raft server (ExRaft's `ExRaft.Supervisor`).

Knows its one permanent child, what outlives the child's lives (store, name, side effects), and when
it has died too often. Must not know what the server does; what follows from an exit is `decision`'s
to say.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import pykka

from exraft.actors import members, watching
from exraft.actors.calls import Shutdown
from exraft.actors.effects import Effects
from exraft.actors.future import OneLockFuture
from exraft.actors.process import Exit, Process, is_orderly, leave_behind, send
from exraft.actors.server import RaftServer
from exraft.actors.spec import Estate, ServerSpec
from exraft.actors.transport import Transport
from exraft.actors.watching import Down
from exraft.errors import StartFailed
from exraft.storage import MemoryStore
from exraft.supervision.decision import Verdict, after_exit
from exraft.supervision.intensity import Intensity

logger = logging.getLogger("exraft.supervision")

PATIENCE = 5.0
"""Seconds that a server is given to end when its supervisor is stopped from outside."""


class StopServer:
    """Stop the server with `reason`, and the supervisor after it.

    `patience`: seconds for handing over and for side effects to run out, and how long a server may
    hang beyond that; None: as long as it takes, but for side effects, which get 5 seconds then.
    """

    __slots__ = ("hand_over", "patience", "reason")

    urgent = True

    def __init__(self, reason: object, patience: float | None, *, hand_over: bool = True) -> None:
        self.reason = reason
        self.patience = patience
        self.hand_over = hand_over


class _TryAgain:
    """A start has failed: the next attempt, after the messages that wait."""


class RaftSupervisor(Process):
    """Starts a server, and restarts it when it dies for whatever reason; gives up in the end.

    Args:
        spec: the server.
        store: its store, which outlives the server's lives.
        transport: how it reaches its peers.
    """

    def __init__(self, spec: ServerSpec, store: MemoryStore, transport: Transport) -> None:
        super().__init__()
        self._spec = spec
        self._transport = transport
        name = spec.peer.name
        self._estate = Estate(
            store,
            Effects(name),
            self.actor_inbox.put,
            standby=False,
        )
        self._intensity = Intensity(spec.max_restarts, spec.max_seconds)
        self._child: pykka.ActorRef[Any] | None = None
        self._order: StopServer | None = None
        self._stop_by: float | None = None

    def __str__(self) -> str:
        return self._spec.supervisor_name

    def on_start(self) -> None:
        self.register(self._spec.supervisor_name)
        self._estate.standby = members.is_forgotten(self._spec.peer)
        try:
            self._start_child()
        except BaseException:
            self._drop_estate()
            raise

    def _start_child(self) -> None:
        self._child = RaftServer.start(self._spec, self._estate, self._transport)

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Down):
            if self._child is not None and message.ref == self._child:
                self._child_has_ended(message.reason)
        elif isinstance(message, StopServer):
            self._stop_server(message)
        elif isinstance(message, _TryAgain):
            self._restart()
        else:
            return super().on_receive(message)
        return None

    def _child_has_ended(self, reason: object) -> None:
        self._child = None
        if self._order is not None:
            raise Exit(self._order.reason)
        self._judge(reason)

    def _judge(self, reason: object) -> None:
        verdict = after_exit(
            restart="permanent",
            orderly=is_orderly(reason),
            stopping=False,
            patience=self._intensity.allows(monotonic()),
        )
        if verdict is Verdict.RESTART:
            # With what it died of, but without the traceback: the server has logged that itself.
            logger.error(
                "%s, child of %s, has died: %r. It is started again with its log",
                self._spec.peer,
                self._spec.supervisor_name,
                reason,
            )
            self._restart()
            return
        logger.error(
            "%s died more than %d times in %g s: its supervisor gives up. The last reason was %r",
            self._spec.peer,
            self._spec.max_restarts,
            self._spec.max_seconds,
            reason,
        )
        raise Exit("shutdown")

    def _restart(self) -> None:
        self._estate.restarts += 1
        try:
            self._start_child()
        except StartFailed as error:
            logger.error("%s could not be started again: %s", self._spec.peer, error)
            # Not in this turn: between two attempts it still answers, a stop for instance.
            if self._intensity.allows(monotonic()):
                self.actor_inbox.put(_TryAgain())
            else:
                logger.error("%s failed to start too often: given up", self._spec.peer)
                raise Exit("shutdown") from error

    def _stop_server(self, order: StopServer) -> None:
        if self._order is not None:
            return
        self._order = order
        self._estate.ending = True
        if self._child is None:
            raise Exit(order.reason)
        patience = float("inf") if order.patience is None else order.patience
        if order.patience is not None:
            self._stop_by = monotonic() + order.patience + PATIENCE
        send(self._child, Shutdown(order.reason, patience, hand_over=order.hand_over))

    def deadline(self) -> float | None:
        return self._stop_by

    def on_deadline(self, now: float) -> None:
        """The server hangs: it is left behind."""
        self._stop_by = None
        assert self._order is not None
        raise Exit(self._order.reason)

    def on_stop(self) -> None:
        self._end_child()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self._end_child()

    def _end_child(self) -> None:
        """Whatever ends the supervisor, its server ends with it, and before it."""
        self._estate.ending = True
        child = self._child
        if child is not None:
            ended: OneLockFuture[None] = OneLockFuture()
            watching.monitor(child, lambda down: ended.set())
            send(child, Shutdown("shutdown", 0.0, hand_over=False))
            try:
                ended.get(timeout=PATIENCE)
            except pykka.Timeout:
                logger.error(
                    "%s has not ended within %g s and is left behind", self._spec.peer, PATIENCE
                )
                leave_behind(child)
        self._drop_estate()

    def _drop_estate(self) -> None:
        estate = self._estate
        patience = None if self._order is None else self._order.patience
        if not estate.effects.close(PATIENCE if patience is None else patience):
            logger.error("Side effects of %s were left undone", self._spec.peer)
        if estate.reservation is not None:
            estate.reservation.free()
        estate.store.take_back()
        members.drop(self._spec.peer)
