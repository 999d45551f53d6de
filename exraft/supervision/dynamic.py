"""The supervisor of children that come and go (Elixir `DynamicSupervisor`).

Knows many children from one kind of spec, each by its reference, and in no order. Must not know how
one is started, watched or given up (`supervising`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import Any, Literal

import pykka

from exraft.actors import lineage
from exraft.child_spec import ChildSpec, Restart, Shutdown
from exraft.supervision import asking
from exraft.supervision.arguments import own_start
from exraft.supervision.asking import Sup
from exraft.supervision.checking import check_dynamic_options, check_spec
from exraft.supervision.errors import ChildNotFound, TooManyChildren
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


class DynamicSupervisorProcess(Supervising):
    """The actor behind `DynamicSupervisor`."""

    called = "DynamicSupervisor"

    def __init__(
        self, options: Options, max_children: int | None, extra_arguments: tuple[Any, ...]
    ) -> None:
        super().__init__(options)
        self._max_children = max_children
        # As they were at the beginning, whatever becomes of the caller's (S12).
        self._extra_arguments = own_start((self.start_child, extra_arguments, {}))[1]
        self._numbers = count()

    def start_child(self, spec: ChildSpec) -> Started:
        spec = check_spec(
            spec,
            auto_shutdown=None,
            extra_arguments=self._extra_arguments,
            nested=look_into,
        )
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise TooManyChildren(self._max_children)
        function, args, kwargs = spec.start
        spec = replace(spec, start=(function, (*self._extra_arguments, *args), kwargs))
        return self.add(Child(next(self._numbers), spec))

    def terminate_child(self, ref: pykka.ActorRef[Any], caller: lineage.Lineage) -> None:
        child = self._by_ref.get(ref)
        if child is None:
            raise ChildNotFound(ref)
        self.terminate(child, caller)
        self.forget(child)

    # No id is known by which a child without an actor could be started later.

    def ended_for_good(self, child: Child) -> None:
        self.forget(child)

    def declined(self, child: Child) -> None:
        self.forget(child)

    def stop_children(self) -> None:
        """All at once: each has the time that its spec gives it, and all have it together."""
        began = monotonic()
        for child in list(self._children.values()):
            self.ask_to_end(child)
        # Who has least time comes first, and is not given up late because of another.
        for child in sorted(self._children.values(), key=self.patience):
            self.await_end(child, since=began)


class DynamicSupervisor:
    """Starts children on demand, any number of them from one kind of spec (Elixir's).

    A namespace of static methods, as `Supervisor`; see there for children, references, timeouts and
    what every call raises. Children need no ids of their own and have no order: each is terminated
    by its reference, they stop side by side, and one that has ended for good is forgotten.
    """

    @staticmethod
    def start(
        *,
        strategy: Literal["one_for_one"] = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        max_children: int | None = None,
        extra_arguments: Sequence[Any] = (),
        name: str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> pykka.ActorRef[Any]:
        """Start a supervisor without children; return its reference.

        Args:
            strategy: `"one_for_one"`: a child is restarted by itself.
            max_restarts, max_seconds: as `Supervisor.start`.
            max_children: how many children it may have; `None` for any number.
            extra_arguments: what every child's start gets before the arguments of its spec.
            name: what it is registered as, such as `":connections"`.
            on_end: as `Supervisor.start`.

        Raises:
            OptionError: an option makes no sense.
            AlreadyStarted: the name is taken.
        """
        check_dynamic_options(
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            max_children=max_children,
            extra_arguments=extra_arguments,
            name=name,
            on_end=on_end,
        )
        options = Options(
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            name=name,
            on_end=on_end,
        )
        return start_process(
            DynamicSupervisorProcess, options, max_children, tuple(extra_arguments)
        )

    @staticmethod
    def child_spec(
        *,
        id: str | None = None,
        restart: Restart = "permanent",
        shutdown: Shutdown = None,
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Return how one is started as the child of another supervisor; takes what `start` takes.

        Its id is its name, or `"DynamicSupervisor"`, unless another is given.

        Raises:
            OptionError: there is no such option.
            SpecError: it makes no sense, its options included.
        """
        return supervisor_spec(
            DynamicSupervisor.start,
            (),
            options,
            "DynamicSupervisor",
            id,
            restart,
            shutdown,
            significant,
        )

    @staticmethod
    def start_child(sup: Sup, spec: ChildSpec, timeout: float | None = None) -> Started:
        """Start a child; return its reference, `None` if it declined.

        Raises:
            SpecError: the spec makes no sense.
            TooManyChildren: `max_children` are there.
            StartFailed: it could not be started.
        """
        return asking.ask(sup, DynamicSupervisorProcess, timeout, "start_child", spec)  # type: ignore[no-any-return]

    @staticmethod
    def terminate_child(sup: Sup, ref: pykka.ActorRef[Any], timeout: float | None = None) -> None:
        """Stop a child, and forget it.

        Raises:
            ChildNotFound: it is no child of this supervisor, or has been restarted since.
        """
        asking.ask(sup, DynamicSupervisorProcess, timeout, "terminate_child", ref, lineage.here())

    @staticmethod
    def which_children(sup: Sup, timeout: float | None = None) -> list[Listed]:
        """Return `(id, ref, type)` of each child; `"restarting"` instead of the reference of one
        that is to be started again. The id is that of its spec."""
        return asking.ask(sup, DynamicSupervisorProcess, timeout, "which_children")  # type: ignore[no-any-return]

    @staticmethod
    def count_children(sup: Sup, timeout: float | None = None) -> Counts:
        """Return how many children there are, how many of them run, and how many are of which
        type."""
        return asking.ask(sup, DynamicSupervisorProcess, timeout, "count_children")  # type: ignore[no-any-return]

    @staticmethod
    def stop(sup: Sup, reason: object = "normal", timeout: float | None = None) -> None:
        """Stop the children, all at once, then the supervisor, which ends with `reason`.

        Raises:
            CallTimeout: it has not ended within `timeout` seconds; it will all the same.
            SelfCall: the caller is a process of its own tree.
        """
        asking.stop(sup, DynamicSupervisorProcess, Stop(reason), timeout)


def _check(
    *,
    strategy: object = "one_for_one",
    max_restarts: object = 3,
    max_seconds: object = 5.0,
    **options: Any,
) -> None:
    check_dynamic_options(
        strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, **options
    )


checks(DynamicSupervisor.start, _check)
