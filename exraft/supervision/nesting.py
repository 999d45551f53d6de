"""Supervisors as children of supervisors.

Knows how a supervisor is written down as a child, how its own specs are looked into before anything
starts, and how its failure to start is told. Must not know what kinds of supervisors there are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

import pykka

from exraft.child_spec import ChildSpec, Restart, Shutdown
from exraft.errors import AlreadyStarted, OptionError, StartFailed
from exraft.supervision import at_exit
from exraft.supervision.checking import check_spec
from exraft.supervision.supervising import Supervising

Check = Callable[..., object]

_checks: Final[list[tuple[Callable[..., Any], Check]]] = []
"""Each start function of supervisors, with what checks its arguments."""


def checks(start: Callable[..., Any], check: Check) -> None:
    """Have the arguments of `start` checked by `check` wherever it stands in a child spec."""
    _checks.append((start, check))


def look_into(spec: ChildSpec) -> None:
    """Refuse the spec of a supervisor whose own children or options make no sense.

    Raises:
        SpecError, OptionError: as its start would.
    """
    _, args, kwargs = spec.start
    function = spec.start_function()
    # Not looked up in a mapping: a callable need not be hashable.
    for start, check in _checks:
        if function is start:
            check(*args, **kwargs)


def supervisor_spec(
    start: Callable[..., Any],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    kind: str,
    id: str | None,
    restart: Restart,
    shutdown: Shutdown,
    significant: bool,
) -> ChildSpec:
    """Return how a supervisor is started as a child; see `Supervisor.child_spec`.

    `kind` is its id if it has neither `id` nor a name.

    Raises:
        OptionError: there is no such option.
        SpecError: it makes no sense, its options included.
    """
    known = inspect.signature(start).parameters
    for option in options:
        if option not in known:
            close = get_close_matches(option, known, n=1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise OptionError(f"a supervisor has no option {option}{hint}")
    spec = ChildSpec(
        id=options.get("name") or kind if id is None else id,
        start=(start, args, options),
        restart=restart,
        shutdown=shutdown,
        type="supervisor",
        significant=significant,
    )
    # Whether it may be significant is its supervisor's to say, which checks it again.
    return check_spec(spec, auto_shutdown="any_significant", nested=look_into)


def start_process(cls: type[Supervising], *args: Any) -> pykka.ActorRef[Any]:
    """Start a supervisor's actor.

    Raises:
        AlreadyStarted: its name is taken.
        StartFailed: a child could not be started; named for the child.
    """
    at_exit.install()
    try:
        return cls.start(*args)
    except StartFailed as error:
        failure = error
    cause = failure.cause
    # What went wrong in the supervisor's thread goes wrong here: its own start adds nothing.
    raise cause if isinstance(cause, AlreadyStarted | StartFailed) else failure
