"""What a supervisor is told about a child: how it starts, stops and is started again.

Knows the words of an OTP child specification and how a start function is written down.
Must not know whether they make sense together, or what a supervisor does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Start: TypeAlias = tuple[Callable[..., Any] | str, tuple[Any, ...], Mapping[str, Any]]
"""A function, its positional and its keyword arguments.

The function is a callable, or its name as `"package.module:attribute"`, which is looked up
only when the child starts: so a spec can name what its maker must not import.
"""
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Shutdown: TypeAlias = float | Literal["brutal_kill"] | None
ChildType: TypeAlias = Literal["worker", "supervisor"]

_BY_TYPE: Any = object()


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child as its supervisor is told of it (OTP `supervisor:child_spec()`).

    It is plain data and checks nothing; the supervisor that gets it does.

    Attributes:
        id: what the supervisor calls the child; unique among its children.
        start: the function that starts it and the arguments of every start; see `Start`.
        restart: `"permanent"` is always restarted, `"transient"` unless it ended normally,
            `"temporary"` never.
        shutdown: how long it may take to stop, in seconds; `None` has no limit and
            `"brutal_kill"` no patience. Not given: 5 seconds for a worker, no limit for a
            supervisor.
        type: whether it is a supervisor itself.
        significant: whether its end may stop the supervisor.
    """

    id: str
    start: Start
    restart: Restart = "permanent"
    shutdown: Shutdown = _BY_TYPE
    type: ChildType = "worker"
    significant: bool = False

    def __post_init__(self) -> None:
        if self.shutdown is _BY_TYPE:
            patience = None if self.type == "supervisor" else 5.0
            object.__setattr__(self, "shutdown", patience)

    def start_function(self) -> Callable[..., Any]:
        """Return the callable that `start` holds or names.

        Raises:
            ImportError, AttributeError: there is no such module or attribute.
            ValueError: the text is no such name.
            TypeError: what it names can't be called.
        """
        function: Any = self.start[0]
        if isinstance(function, str):
            import pkgutil

            function = pkgutil.resolve_name(function)
        if not callable(function):
            raise TypeError(f"the start of {self.id!r} is {self.start[0]!r}, which can't be called")
        return function  # type: ignore[no-any-return]
