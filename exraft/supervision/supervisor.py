"""The supervisor of children that are known by their ids (OTP `supervisor`).

Knows what may be asked about a child by its id, and in which order children start and stop. Must
not know how one is started, watched or given up (`supervising`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pykka

from exraft.actors import lineage
from exraft.child_spec import ChildSpec, Restart, Shutdown
from exraft.supervision import asking
from exraft.supervision.asking import Sup
from exraft.supervision.checking import check_children, check_options, check_spec
from exraft.supervision.decision import AutoShutdown, Strategy
from exraft.supervision.errors import (
    AlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
)
from exraft.supervision.nesting import checks, look_into, start_process, supervisor_spec
from exraft.supervision.supervising import (
    Child,
    Counts,
    Listed,
    Options,
    Started,
    Stop,
    Supervising,
)


class SupervisorProcess(Supervising):
    """The actor behind `Supervisor`."""

    called = "Supervisor"

    def __init__(self, specs: Sequence[ChildSpec], options: Options) -> None:
        super().__init__(options)
        self._children = {spec.id: Child(spec.id, spec) for spec in specs}

    def start_children(self) -> None:
        # A copy: a temporary child that declines to start is forgotten.
        for child in list(self._children.values()):
            self.begin(child)

    def stop_children(self) -> None:
        for child in reversed(list(self._children.values())):
            self.stop_child(child)

    def start_child(self, spec: ChildSpec) -> Started:
        spec = check_spec(spec, auto_shutdown=self.options.auto_shutdown, nested=look_into)
        child = self._children.get(spec.id)
        if child is None:
            return self.add(Child(spec.id, spec))
        if child.present:
            raise ChildAlreadyStarted(child.ref, spec.id)
        raise AlreadyPresent(spec.id)

    def terminate_child(self, id: str, caller: lineage.Lineage) -> None:
        child = self._child(id)
        self.terminate(child, caller)
        if child.spec.restart == "temporary":
            self.forget(child)
        self.go_on()

    def restart_child(self, id: str) -> Started:
        child = self._stopped_child(id)
        child.restarts += 1
        self.begin(child)
        return child.ref

    def delete_child(self, id: str) -> None:
        self.forget(self._stopped_child(id))

    def _child(self, id: str) -> Child:
        child = self._children.get(id) if isinstance(id, str) else None
        if child is None:
            raise ChildNotFound(id)
        return child

    def _stopped_child(self, id: str) -> Child:
        child = self._child(id)
        if child.restarting:
            raise ChildRestarting(id)
        if child.ref is not None:
            raise ChildRunning(id)
        return child


class Supervisor:
    """Starts children, and starts them again when they end (OTP `supervisor`, Elixir `Supervisor`).

    A namespace of static methods; nothing is instantiated. A `sup` is the reference that `start`
    returned, or a name. A child is whatever a `ChildSpec` says how to start: a raft server
    (`StateMachine.child_spec`), another supervisor (`Supervisor.child_spec`), an actor derived from
    `exraft.actors.Process`, or any `pykka.ThreadingActor`, unchanged.

    Every call is safe from any thread, waits at most `timeout` seconds (`None`: for ever), and
    raises, beside what it names itself:

    - `SupervisorNotFound`: nobody has that name, or it has ended.
    - `SupervisorDown`: it ended while the call waited.
    - `CallTimeout`: no answer came in time. What was asked for may be done later.
    - `SelfCall`: the supervisor waits for this very thread, as it does while a child starts.
    """

    @staticmethod
    def start(
        children: Sequence[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        name: str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> pykka.ActorRef[Any]:
        """Start a supervisor and its children, one after the other; return its reference.

        Args:
            children: the specs, in start order.
            strategy: who is restarted when a child ends: `"one_for_one"` that one only,
                `"one_for_all"` all of them, `"rest_for_one"` it and those after it.
            max_restarts, max_seconds: more than so many restarts in so many seconds, and the
                supervisor stops its children and ends with the reason `"shutdown"`.
            auto_shutdown: whether it ends with its significant children: `"never"`,
                `"any_significant"` when one of them has ended, `"all_significant"` with the last.
            name: what it is registered as, such as `":shop"`.
            on_end: called when it ends, after its last child, and before its name is free.

        Raises:
            SpecError: a spec makes no sense; nothing was started.
            OptionError: an option makes no sense; nothing was started.
            AlreadyStarted: the name is taken.
            StartFailed: a child could not be started, its `name` and `cause` say which and why;
                those before it were stopped again.
        """
        specs, options = _checked(
            children,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            auto_shutdown=auto_shutdown,
            name=name,
            on_end=on_end,
        )
        return start_process(SupervisorProcess, specs, options)

    @staticmethod
    def child_spec(
        children: Sequence[ChildSpec] = (),
        *,
        id: str | None = None,
        restart: Restart = "permanent",
        shutdown: Shutdown = None,
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Return how a supervisor is started as the child of another; takes what `start` takes.

        Its id is its name, or `"Supervisor"`, unless another is given. It may take as long as its
        children to stop, unless `shutdown` says otherwise.

        Raises:
            OptionError: there is no such option.
            SpecError: it makes no sense, its own children and options included.
        """
        return supervisor_spec(
            Supervisor.start, (children,), options, "Supervisor", id, restart, shutdown, significant
        )

    @staticmethod
    def which_children(sup: Sup, timeout: float | None = None) -> list[Listed]:
        """Return `(id, ref, type)` of each child, in start order.

        In the place of the reference stands `"restarting"` for a child that is to be started
        again, and `None` for one that is stopped.
        """
        return asking.ask(sup, SupervisorProcess, timeout, "which_children")  # type: ignore[no-any-return]

    @staticmethod
    def count_children(sup: Sup, timeout: float | None = None) -> Counts:
        """Return how many specs there are, how many of them run, and how many are of which type."""
        return asking.ask(sup, SupervisorProcess, timeout, "count_children")  # type: ignore[no-any-return]

    @staticmethod
    def start_child(sup: Sup, spec: ChildSpec, timeout: float | None = None) -> Started:
        """Add a child after the others, and start it; return its reference, `None` if it declined.

        Raises:
            SpecError: the spec makes no sense.
            AlreadyStarted: a child of that id runs, or is to be started again.
            AlreadyPresent: a child of that id is there, and stopped.
            StartFailed: it could not be started; its spec is not kept.
        """
        return asking.ask(sup, SupervisorProcess, timeout, "start_child", spec)  # type: ignore[no-any-return]

    @staticmethod
    def terminate_child(sup: Sup, id: str, timeout: float | None = None) -> None:
        """Stop a child. Its spec stays, unless it is temporary, and nobody starts it again but you.

        Raises:
            ChildNotFound: there is no such child.
        """
        asking.ask(sup, SupervisorProcess, timeout, "terminate_child", id, lineage.here())

    @staticmethod
    def restart_child(sup: Sup, id: str, timeout: float | None = None) -> Started:
        """Start a child that is stopped; return its reference, `None` if it declined.

        Raises:
            ChildNotFound: there is no such child.
            ChildRunning, ChildRestarting: it is not stopped.
            StartFailed: it could not be started; it stays stopped.
        """
        return asking.ask(sup, SupervisorProcess, timeout, "restart_child", id)  # type: ignore[no-any-return]

    @staticmethod
    def delete_child(sup: Sup, id: str, timeout: float | None = None) -> None:
        """Forget a child that is stopped.

        Raises:
            ChildNotFound: there is no such child.
            ChildRunning, ChildRestarting: it is not stopped.
        """
        asking.ask(sup, SupervisorProcess, timeout, "delete_child", id)

    @staticmethod
    def stop(sup: Sup, reason: object = "normal", timeout: float | None = None) -> None:
        """Stop the children, the last one first, then the supervisor, which ends with `reason`.

        Raises:
            CallTimeout: it has not ended within `timeout` seconds; it will all the same.
            SelfCall: the caller is a process of its own tree.
        """
        asking.stop(sup, SupervisorProcess, Stop(reason), timeout)


def _checked(
    children: Sequence[ChildSpec] = (), **options: Any
) -> tuple[Sequence[ChildSpec], Options]:
    """What `Supervisor.start` was given, if it makes sense."""
    chosen = Options(**options)
    check_options(
        strategy=chosen.strategy,
        max_restarts=chosen.max_restarts,
        max_seconds=chosen.max_seconds,
        auto_shutdown=chosen.auto_shutdown,
        name=chosen.name,
        on_end=chosen.on_end,
    )
    specs = check_children(children, auto_shutdown=chosen.auto_shutdown, nested=look_into)
    return specs, chosen


checks(Supervisor.start, _checked)
