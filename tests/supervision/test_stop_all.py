"""`pykka.ActorRegistry.stop_all()`, every Pykka script's last line, leaves nothing alive (S56).

However much goes on meanwhile: here the actors of a forest are killed and started again by other
threads. It is done 200 times; `STRESS_SEED` makes it other ones.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaftError
from exraft.actors import Process, fence, kill, links, send_exit
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor
from exraft.supervision.decision import Strategy
from tests.helpers import LIMIT, QUICK, KeyValueStore

TIMES = 200
KILLERS = 3
SEED = int(os.environ.get("STRESS_SEED", "2024"))

LENIENT: dict[str, Any] = {"max_restarts": 1_000_000, "max_seconds": 300.0}


class Worker(Process):
    """A child that is one of our processes."""

    def on_receive(self, message: Callable[[], Any]) -> Any:
        return message()


class Plain(pykka.ThreadingActor):
    """A child that knows nothing of us."""

    def on_receive(self, message: Callable[[], Any]) -> Any:
        return message()


class Forest:
    """Trees of all kinds, in which threads of their own kill and start actors."""

    def __init__(self, seed: int, number: int) -> None:
        self._seed = f"{seed} {number}"
        self._over = threading.Event()
        self._began = threading.Barrier(KILLERS + 1)
        # One after the other has another strategy, and every fourth a raft server.
        strategies: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one")
        strategy = strategies[number % 3]
        middle = [
            self._leaf("a"),
            Supervisor.child_spec([self._leaf("b"), self._leaf("c")], id="inner", **LENIENT),
            self._leaf("d"),
        ]
        if number % 4 == 0:
            middle.insert(1, KeyValueStore.child_spec({}, name=":raft1", **(QUICK | LENIENT)))
        top = [
            Supervisor.child_spec(middle, name=":middle", strategy=strategy, **LENIENT),
            DynamicSupervisor.child_spec(name=":pool", **LENIENT),
            # It gives up, and is started again.
            Supervisor.child_spec([self._leaf("e"), self._leaf("f")], id="strict", max_restarts=1),
        ]
        Supervisor.start(top, name=":top", **LENIENT)
        # A root of its own, which may give up before it is stopped.
        Supervisor.start([self._leaf("g")], name=":other", max_restarts=10)
        self._threads = [
            threading.Thread(target=self._rage, args=(n,), name=f"killer {n}", daemon=True)
            for n in range(KILLERS)
        ]

    def _leaf(self, id: str) -> ChildSpec:
        return ChildSpec(id=id, start=(Worker if ord(id[0]) % 2 else Plain, (), {}))

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        self._began.wait(LIMIT)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _rage(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        ways = (kill, _stop, _crash, _exit, _signal, self._start, self._terminate)
        turn = 0
        while not self._over.is_set():
            turn += 1
            if turn == 3:
                self._began.wait(LIMIT)
            refs = pykka.ActorRegistry.get_all()
            if refs:
                with suppress(pykka.ActorDeadError, ExRaftError):
                    rng.choice(ways)(rng.choice(refs))
            elif turn > 3:
                return

    def _start(self, ref: object) -> None:
        DynamicSupervisor.start_child(":pool", self._leaf("h"), timeout=LIMIT)

    def _terminate(self, ref: object) -> None:
        Supervisor.terminate_child(":middle", "d", timeout=LIMIT)
        Supervisor.restart_child(":middle", "d", timeout=LIMIT)


def _stop(ref: pykka.ActorRef[Any]) -> None:
    ref.stop(block=False)


def _crash(ref: pykka.ActorRef[Any]) -> None:
    _tell(ref, ZeroDivisionError())


def _exit(ref: pykka.ActorRef[Any]) -> None:
    _tell(ref, SystemExit())


def _tell(ref: pykka.ActorRef[Any], error: BaseException) -> None:
    def fail() -> None:
        raise error

    if issubclass(ref.actor_class, Worker | Plain):
        ref.tell(fail)


def _signal(ref: pykka.ActorRef[Any]) -> None:
    send_exit(ref, "odd")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of deaths are not told to pytest's log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def everything() -> list[str]:
    """What must not be there afterwards."""
    return [
        *(f"the actor {ref}" for ref in pykka.ActorRegistry.get_all()),
        *(f"the name {name}" for name in ActorRegistry._names),
        *(f"the fence of {thread}" for thread in list(fence.threads)),
        *(f"the link of {pair}" for pair in list(links._links)),
    ]


def await_the_end(others: set[threading.Thread]) -> list[str]:
    """Wait until all new threads have ended; what is there then."""
    deadline = monotonic() + LIMIT
    pause = threading.Event()
    # One that has not begun yet can't be joined.
    while (left := set(threading.enumerate()) - others) and monotonic() < deadline:
        pause.wait(0.001)
    return [f"the thread {thread}" for thread in left] + everything()


def test_stop_all_in_the_midst_of_a_storm_leaves_nothing_alive() -> None:
    """S56: 200 times of 200; a supervisor that is being stopped restarts nobody."""
    others = set(threading.enumerate())
    for number in range(TIMES):
        with Forest(SEED, number):
            pykka.ActorRegistry.stop_all(timeout=LIMIT)
        # The others have returned from what they were at, a kill for instance: no more than that.
        left = [f"{ref} is alive" for ref in pykka.ActorRegistry.get_all()]
        left += await_the_end(others)
        assert left == [], f"in forest {number}: STRESS_SEED={SEED}"
