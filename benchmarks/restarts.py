"""What a supervisor costs: a child crashes, the supervisor notices it and starts it again.

Knows the API of supervisors and processes. Must not know anything inside them, and measures what a
user's child sees: from the line that raises until the `on_start` of its next life.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import pykka

from benchmarks import floors
from benchmarks.measure import DEADLINE, Measured, Plan, Sample, Work, compared, timed
from benchmarks.rows import Row
from exraft.actors import Process
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor

# They would be the end of any child, and of the samples.
OFTEN = 10**9


class Crash(Exception):
    """Ends a child."""


class Witness:
    """What one child after another says of its lives."""

    def __init__(self) -> None:
        self._raised = perf_counter()
        self._lives: SimpleQueue[tuple[pykka.ActorRef[Any], float]] = SimpleQueue()
        self._child: pykka.ActorRef[Any]

    def lives(self, child: pykka.ActorRef[Any]) -> None:
        self._lives.put((child, perf_counter() - self._raised))

    def crashes(self) -> None:
        self._raised = perf_counter()
        raise Crash

    def await_life(self) -> float:
        """Seconds from the last crash until the present life began."""
        self._child, took = self._lives.get(timeout=DEADLINE)
        return took

    def restart(self) -> float:
        self._child.tell("crash")
        return self.await_life()


class OurChild(Process):
    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def on_start(self) -> None:
        self._witness.lives(self.actor_ref)

    def on_receive(self, message: Any) -> None:
        self._witness.crashes()


class PykkaChild(pykka.ThreadingActor):
    """The same, of which nobody has told Pykka's authors."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def on_start(self) -> None:
        self._witness.lives(self.actor_ref)

    def on_receive(self, message: Any) -> None:
        self._witness.crashes()


@contextmanager
def _only_child(cls: type[pykka.ThreadingActor]) -> Iterator[Witness]:
    witness = Witness()
    supervisor = Supervisor.start([_spec("child", cls, witness)], max_restarts=OFTEN)
    try:
        witness.await_life()
        yield witness
    finally:
        Supervisor.stop(supervisor)


def _one_of(children: int) -> Measured:
    """Restarts of one of so many, which are there only meanwhile: Pykka too must search them all
    for the one that has died, whoever's children they are."""

    def measured(seconds: float) -> Sample:
        witness = Witness()
        supervisor = DynamicSupervisor.start(max_restarts=OFTEN)
        try:
            # The last one is whom the witness has seen last.
            for number in range(children):
                DynamicSupervisor.start_child(supervisor, _spec(str(number), OurChild, witness))
                witness.await_life()
            return timed(witness.restart)(seconds)
        finally:
            DynamicSupervisor.stop(supervisor)

    return measured


def _spec(name: str, cls: type[pykka.ThreadingActor], witness: Witness) -> ChildSpec:
    return ChildSpec(name, (cls, (witness,), {}))


@contextmanager
def _reports_off() -> Iterator[None]:
    """How long a traceback takes to the terminal is not the supervisor's."""
    logger = logging.getLogger("exraft")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def measure(subject: str, plan: Plan) -> Iterator[Row]:
    """Restarts of our process, of an unchanged Pykka actor, and of one child among many."""
    with (
        _reports_off(),
        floors.running() as below,
        _only_child(OurChild) as our_child,
        _only_child(PykkaChild) as pykka_child,
    ):
        ours, pykkas = timed(our_child.restart), timed(pykka_child.restart)
        works = [
            Work("restart", "ms", ours, floors.PING_PONG),
            Work("restart.bare", "ms", ours, floors.THREAD_RESTART),
            Work("restart.rate", "1/s", ours, floors.THREAD_RESTART),
            Work("restart.pykka", "ms", pykkas, floors.PING_PONG),
            Work("restart.pykka.bare", "ms", pykkas, floors.THREAD_RESTART),
            Work("restart.pykka.rate", "1/s", pykkas, floors.THREAD_RESTART),
            Work("restart.many", "ms", _one_of(plan.many_children), floors.THREAD_RESTART),
        ]
        yield from compared(subject, works, below, plan)
