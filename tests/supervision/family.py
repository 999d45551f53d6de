"""A family of children to supervise, whose lives do what the test says, and are written down.

Knows how a test makes a child crash, leave, hang or refuse to start, and how it waits for what
follows; must not know what a supervisor should do about it, which the tests say.

A test takes the fixture that its file makes with `a_family_of`. The lines of the journal are:

- `("start", id)`: its `on_start` has returned,
- `("stop", id)`: its `on_stop` has returned,
- `("fail", id)`: its `on_failure` has returned.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Any, TypeAlias

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import Down, Exit, Process, monitor
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor
from exraft.supervision.dynamic import DynamicSupervisorProcess
from tests.helpers import LIMIT, Gate, Journal, in_thread, wait_until

Act: TypeAlias = Callable[[], object]
Ref: TypeAlias = pykka.ActorRef[Any]

PATIENT: dict[str, Any] = {"max_restarts": 1_000_000, "max_seconds": 300.0}
"""Options of a supervisor that restarts whatever a test does to its children."""

BRIEF = 0.05
"""Seconds of a shutdown that a child that hangs is to exceed."""


class Boom(Exception):
    """What a child is made to die of."""


class Script:
    """What the lives of one child do at their callbacks, each time the next act that is left.

    It is shared by the test and all lives of the child.
    """

    def __init__(self, id: str, journal: Journal) -> None:
        self.id = id
        self.journal = journal
        self.lives: list[Ref] = []
        """All that were begun, those included that failed to start."""
        self.threads: list[threading.Thread] = []
        """Theirs."""
        self.arguments: list[tuple[Any, ...]] = []
        """What each life was made with, beside this."""
        self._acts: dict[str, deque[Act]] = {"start": deque(), "stop": deque(), "fail": deque()}

    def at(self, callback: str, *acts: Act) -> None:
        """Do these, one a time, at the next times that the callback is called."""
        self._acts[callback].extend(acts)

    def forget(self) -> None:
        for acts in self._acts.values():
            acts.clear()

    def play(self, callback: str) -> None:
        acts = self._acts[callback]
        if acts:
            acts.popleft()()
        self.journal.add(callback, self.id)


class _Member:
    """The callbacks of a child; what it is told is a function, which it calls with itself."""

    actor_ref: Ref

    def __init__(self, script: Script, *args: Any) -> None:
        super().__init__()
        self.script = script
        self.args = args
        script.arguments.append(args)

    def on_start(self) -> None:
        self.script.lives.append(self.actor_ref)
        self.script.threads.append(threading.current_thread())
        self.script.play("start")

    def on_stop(self) -> None:
        self.script.play("stop")

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.script.play("fail")

    def on_receive(self, message: Callable[[Any], Any]) -> Any:
        return message(self)


class Worker(_Member, Process):
    """A child that is one of our processes."""


class Plain(_Member, pykka.ThreadingActor):
    """A child that knows nothing of us: Pykka's own actor."""


Kind: TypeAlias = type[Worker] | type[Plain]


class Family:
    """Children of one kind, their journal, and the supervisors that were started for them."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.journal = Journal()
        self._scripts: dict[str, Script] = {}
        self._gates: list[Gate] = []
        self._supervisors: list[Ref] = []
        self._others = set(threading.enumerate())

    # Before it lives.

    def script(self, id: str) -> Script:
        if id not in self._scripts:
            self._scripts[id] = Script(id, self.journal)
        return self._scripts[id]

    def spec(self, id: str, *args: Any, **fields: Any) -> ChildSpec:
        return ChildSpec(id=id, start=(self.kind, (self.script(id), *args), {}), **fields)

    def specs(self, ids: str, **fields: Any) -> list[ChildSpec]:
        """Children that have a letter for an id, and the other fields in common."""
        return [self.spec(id, **fields) for id in ids]

    def start(self, children: str | Sequence[ChildSpec] = (), **options: Any) -> Ref:
        """Start a supervisor of these children; it is stopped when the test has ended."""
        specs = self.specs(children) if isinstance(children, str) else children
        return self._take_care_of(Supervisor.start(specs, **options))

    def start_dynamic(self, children: str = "", **options: Any) -> Ref:
        sup = self._take_care_of(DynamicSupervisor.start(**options))
        for spec in self.specs(children):
            DynamicSupervisor.start_child(sup, spec)
        return sup

    def _take_care_of(self, sup: Ref) -> Ref:
        self._supervisors.append(sup)
        return sup

    def gate(self) -> Gate:
        """A gate that is opened when the test has ended, if not before."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    def fails_to_start(self, id: str, times: int | None = None) -> None:
        """Let the next attempts of a child fail: so many of them, or all."""
        script = self.script(id)
        if times is not None:
            script.at("start", *[raising(Boom(f"{id} does not start"))] * times)
            return

        def fail_again() -> None:
            script.at("start", fail_again)
            raise Boom(f"{id} does not start")

        script.at("start", fail_again)

    def fails_behind_a_gate(self, id: str) -> Gate:
        """Let the next attempt of a child fail as soon as the gate is opened."""
        gate = self.gate()

        def wait_and_fail() -> None:
            gate.pass_through()
            raise Boom(f"{id} does not start")

        self.script(id).at("start", wait_and_fail)
        return gate

    # What became of it.

    def lines(self) -> list[str]:
        """The journal, a line in a word: `"start a"`."""
        return [" ".join(line) for line in self.journal.lines()]

    def await_start(self, id: str, count: int = 1) -> None:
        self.journal.wait_for("start", id, count=count)

    def attempts(self, id: str) -> int:
        """How many times a child was begun, those that failed included."""
        return len(self.script(id).lives)

    def last_life(self, id: str) -> Ref:
        return self.script(id).lives[-1]

    def await_first_thread(self, id: str) -> None:
        """Wait until the thread of a child's first life has ended, killed or not."""
        thread = self.script(id).threads[0]
        thread.join(LIMIT)
        assert not thread.is_alive(), f"the thread of {id} has not ended"

    # When the test is over.

    def end(self) -> None:
        """Stop the supervisors; fail if a thread is left."""
        for script in self._scripts.values():
            script.forget()
        for gate in self._gates:
            gate.open()
        for sup in reversed(self._supervisors):
            sup.stop(timeout=LIMIT)
        deadline = monotonic() + LIMIT
        for thread in set(threading.enumerate()) - self._others:
            thread.join(max(0.0, deadline - monotonic()))
            assert not thread.is_alive(), f"{thread.name} has not ended"


def a_family_of(*kinds: Kind) -> Any:
    """Return a fixture: a family of each of these kinds."""

    @pytest.fixture(params=kinds, ids=[kind.__name__ for kind in kinds])
    def a_family(request: pytest.FixtureRequest) -> Iterator[Family]:
        family = Family(request.param)
        try:
            yield family
        finally:
            family.end()

    return a_family


# What children are told, and what they do at their callbacks.


def raising(error: BaseException) -> Act:
    def raise_it() -> None:
        raise error

    return raise_it


def leaving(reason: object) -> Callable[[Any], object]:
    """A message that ends its receiver with that exit reason."""

    def leave(actor: Any) -> None:
        if isinstance(reason, BaseException):
            raise reason
        raise Exit(reason)

    return leave


def waiting_at(gate: Gate) -> Callable[[Any], object]:
    """A message that holds its receiver up."""
    return lambda actor: gate.pass_through()


# Looking at supervisors and their children.


def listed(sup: Ref | str) -> Sequence[tuple[str, Any, str]]:
    """Its `which_children`, be it dynamic or not."""
    ref = ActorRegistry.get_by_name(sup) if isinstance(sup, str) else sup
    if ref is not None and issubclass(ref.actor_class, DynamicSupervisorProcess):
        return DynamicSupervisor.which_children(sup, timeout=LIMIT)
    return Supervisor.which_children(sup, timeout=LIMIT)


def children(sup: Ref | str) -> dict[str, Any]:
    """For each id what `which_children` tells: a reference, `"restarting"` or `None`."""
    return {id: state for id, state, _ in listed(sup)}


def states(sup: Ref | str) -> list[tuple[str, str | None]]:
    """The children in order: `"running"`, `"restarting"` or `None`."""
    return [
        (id, "running" if isinstance(state, pykka.ActorRef) else state)
        for id, state, _ in listed(sup)
    ]


def child(sup: Ref, id: str) -> Ref:
    """A child's present life, which its supervisor knows; waits for one."""
    found: list[Ref] = []

    def runs() -> bool:
        ref = children(sup)[id]
        if isinstance(ref, pykka.ActorRef):
            found.append(ref)
        return bool(found)

    wait_until(runs, f"{id} runs")
    return found[0]


def leave(sup: Ref, id: str, reason: object) -> None:
    """Make a child end; return when its supervisor has been told, which may not have acted yet.

    A plain actor is stopped when the reason is `"normal"`.
    """
    ref = child(sup, id)
    # Made after the supervisor's own monitor, so told after it.
    told = Watch(ref)
    if reason == "normal" and not issubclass(ref.actor_class, Process):
        ref.stop(block=False)
    else:
        ref.tell(leaving(reason))
    told.reason()


def crash(sup: Ref, id: str) -> None:
    """Make a child crash; return when its supervisor has been told, which may not have acted yet.

    What the supervisor is asked afterwards it answers when it has acted.
    """
    leave(sup, id, Boom(f"{id} crashes"))


def answered_between(
    family: Family, sup: Ref, failing: str, call: Callable[[], Any], *, crashes: str | None = None
) -> Any:
    """What a call returns that comes between two attempts to start a child again.

    Let one child crash (the failing one itself, unless another is named), the failing one's
    first attempt fail, and its second succeed; the call comes when the first attempt is under way.
    """
    gate = family.fails_behind_a_gate(failing)
    answers: list[Any] = []
    crash(sup, failing if crashes is None else crashes)
    gate.await_someone()
    with in_thread(lambda: answers.append(call())):
        await_message(sup)
        gate.open()
    return answers[0]


def await_message(ref: Ref, count: int = 1) -> None:
    """Wait until so many messages wait in a process's mailbox."""
    mailbox: Any = ref.actor_inbox
    wait_until(lambda: mailbox.qsize() >= count, f"{count} messages wait for {ref}")


class Reports:
    """What is logged by supervisors from now on, at a level or above it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "exraft.supervision")
        self._caplog = caplog

    def __call__(self, level: int = logging.ERROR) -> list[str]:
        return [
            record.getMessage()
            for record in self._caplog.records
            if record.name == "exraft.supervision" and record.levelno >= level
        ]


class Watch:
    """Waits for the end of a process."""

    def __init__(self, ref: Ref) -> None:
        self._downs: SimpleQueue[Down] = SimpleQueue()
        monitor(ref, self._downs.put)

    def reason(self) -> object:
        """Wait for the end; the exit reason."""
        return self._downs.get(timeout=LIMIT).reason

    def over(self) -> bool:
        """Whether it has ended."""
        return not self._downs.empty()


def watch(sup: Ref) -> dict[str, Watch]:
    """Watches of all children that run."""
    return {id: Watch(ref) for id, ref in children(sup).items() if isinstance(ref, pykka.ActorRef)}
