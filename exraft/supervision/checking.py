"""What is refused before anything starts, and what it is told.

Knows every field of a child spec and every option of a supervisor, with what they may be and what
was likely meant by something else. Must not know what a supervisor does with them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, get_args

import pykka

from exraft.actors.starting import actor_class
from exraft.child_spec import ChildSpec, ChildType, Restart, Start
from exraft.errors import OptionError
from exraft.limits import LONGEST, count_fault, duration_fault
from exraft.names import check_name
from exraft.supervision.arguments import own_start
from exraft.supervision.decision import AutoShutdown, Strategy
from exraft.supervision.errors import SpecError

Nested = Callable[[ChildSpec], object]
"""Looks into a spec for a tree of its own; raises `ValueError` for what is wrong there."""

_EXAMPLE = "(Mailer, ('smtp.local',), {'retries': 3})"

# Other people's values in a message: at a length that can be read, whatever their repr does.
_repr = Repr()
_repr.maxstring = _repr.maxother = 100
_show = _repr.repr


# Children.


def check_children(
    children: object, *, auto_shutdown: AutoShutdown = "never", nested: Nested | None = None
) -> tuple[ChildSpec, ...]:
    """Return the specs, with start arguments of their own (see `check_spec`).

    Args:
        children: a list or tuple of child specs, each with an id of its own.
        auto_shutdown: their supervisor's.
        nested: see `check_spec`.

    Raises:
        SpecError: the message names the child, the field and what is wanted.
    """
    if not isinstance(children, list | tuple):
        raise SpecError(None, None, f"a list of child specs is wanted{_no_list(children)}")
    specs = tuple(
        check_spec(spec, auto_shutdown=auto_shutdown, nested=nested, place=place)
        for place, spec in enumerate(children, start=1)
    )
    places: dict[str, int] = {}
    for place, spec in enumerate(specs, start=1):
        first = places.setdefault(spec.id, place)
        if first != place:
            raise SpecError(
                spec.id,
                "id",
                f"children number {first} and {place} have the same: give each an id of its own",
            )
    return specs


def _no_list(children: object) -> str:
    if isinstance(children, ChildSpec):
        return ", not a single one: put it into a list"
    if isinstance(children, Mapping):
        return ", not a mapping: the id belongs into each ChildSpec"
    many = isinstance(children, Iterable) and not isinstance(children, str)
    return f", not {_show(children)}{': use list(...)' if many else ''}"


def check_spec(
    spec: object,
    *,
    auto_shutdown: AutoShutdown | None = "never",
    extra_arguments: tuple[Any, ...] = (),
    nested: Nested | None = None,
    place: int | None = None,
) -> ChildSpec:
    """Return the spec, with start arguments of its own (S12, see `own_start`).

    A start function that is given by name is looked up here, and its module imported.

    Args:
        spec: what was given.
        auto_shutdown: the supervisor's; `None` for one that has none.
        extra_arguments: of the supervisor, which come before those of the spec (S50).
        nested: is called with a spec whose fields are right, to look into a start function that has
            specs among its arguments. A `ValueError` (which `SpecError` and `OptionError` are) is
            raised anew as this child's, with its message.
        place: the spec's in its list, from 1; names a child that has no id.

    Raises:
        SpecError: the message names the child, the field and what is wanted.
    """
    if not isinstance(spec, ChildSpec):
        raise SpecError(place, None, _no_spec(spec))
    if not isinstance(spec.id, str) or not spec.id:
        raise SpecError(place, "id", f"a string that is not empty is wanted, not {_show(spec.id)}")
    _check_start(spec, extra_arguments)
    _check_word(spec, "restart", get_args(Restart))
    _check_shutdown(spec)
    _check_word(spec, "type", get_args(ChildType))
    _check_significant(spec, auto_shutdown)
    own = replace(spec, start=own_start(spec.start))
    if nested is not None:
        try:
            nested(own)
        except ValueError as error:
            raise SpecError(spec.id, "start", f"in its own tree, {error}") from error
    return own


def _name(function: Any) -> str:
    if isinstance(function, str):
        return repr(function)
    return str(getattr(function, "__name__", type(function).__name__))


def _no_spec(value: object) -> str:
    """What is wanted instead of `value`, which is no `ChildSpec`."""
    wanted = f"a ChildSpec is wanted, not {_show(value)}"
    if isinstance(value, type) and issubclass(value, ChildSpec):
        return f"{wanted}: did you mean ChildSpec(id='mailer', start={_EXAMPLE})?"
    if callable(getattr(value, "child_spec", None)):
        return f"{wanted}: did you mean {_name(value)}.child_spec(...)?"
    if isinstance(value, pykka.ActorRef | pykka.Actor):
        return f"{wanted}: it runs already. A supervisor starts its children itself: give the class"
    if isinstance(value, Mapping):
        fields = ", ".join(f"{key}={_show(item)}" for key, item in value.items())
        return f"a ChildSpec is wanted, not a mapping: did you mean ChildSpec({fields})?"
    meant = _meant(value)
    if meant is not None:
        spec = f"ChildSpec(id={_name(meant[0])!r}, start={_show_start(meant)})"
        return f"{wanted}: did you mean {spec}?"
    return f"{wanted}. One is ChildSpec(id='mailer', start={_EXAMPLE})"


def _meant(value: Any) -> Start | None:
    """The start that was likely meant by a class, or by a tuple that begins with one."""
    if callable(value):
        return value, (), {}
    if not isinstance(value, tuple | list) or not value or not callable(value[0]):
        return None
    function = value[0]
    args: Any = list(value[1:])
    kwargs = args.pop() if args and isinstance(args[-1], dict) else {}
    if len(args) == 1 and isinstance(args[0], tuple | list):
        (args,) = args
    return function, tuple(args), kwargs


def _show_start(start: Start) -> str:
    function, args, kwargs = start
    return f"({_name(function)}, {_show(args)}, {_show(kwargs)})"


def _check_start(spec: ChildSpec, extra_arguments: tuple[Any, ...]) -> None:
    start: Any = spec.start
    if not isinstance(start, tuple) or len(start) != 3:
        raise SpecError(spec.id, "start", _no_start(start))
    function, args, kwargs = start
    if not isinstance(function, str) and not callable(function):
        running = isinstance(function, pykka.ActorRef | pykka.Actor)
        hint = ". It runs already: give its class" if running else ""
        raise SpecError(
            spec.id,
            "start",
            "the first of the three is a class, a function, or the name of one as"
            f" 'package.module:attribute', not {_show(function)}{hint}",
        )
    if not isinstance(args, tuple):
        # Without its comma, a tuple of one is none.
        meant = tuple(args) if isinstance(args, list) else (args,)
        raise SpecError(
            spec.id,
            "start",
            "the second of the three is the tuple of the positional arguments,"
            f" not {_show(args)}: did you mean {_show(meant)}?",
        )
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise SpecError(
            spec.id,
            "start",
            "the third of the three is the dict of the keyword arguments, by name,"
            f" not {_show(kwargs)}",
        )
    try:
        found = spec.start_function()
    except Exception as error:  # Importing a module may raise anything.
        raise SpecError(
            spec.id,
            "start",
            f"{function!r} can't be looked up ({type(error).__name__}: {error}):"
            " the name of a function is written 'package.module:attribute'",
        ) from error
    fault = _no_actor(found) or _misfit(found, (*extra_arguments, *args), kwargs)
    if fault is not None:
        raise SpecError(spec.id, "start", fault)


def _no_start(start: Any) -> str:
    wanted = (
        "a tuple of three is wanted, the class or function, its positional and its keyword"
        f" arguments, such as {_EXAMPLE}"
    )
    if start is None:
        return f"missing; {wanted}"
    meant = (start, (), {}) if isinstance(start, str) else _meant(start)
    if meant is not None:
        return f"{wanted}: did you mean {_show_start(meant)}?"
    return f"{wanted}, not {_show(start)}"


def _no_actor(function: Any) -> str | None:
    """Why `function` starts no actor, if that can be known."""
    if not isinstance(function, type) or actor_class(function) is not None:
        return None
    fault = (
        f"{function.__name__} is no class of actors, which are the subclasses of"
        " pykka.ThreadingActor: one of these is wanted, or a function that starts one"
    )
    hint = f". Did you mean {function.__name__}.child_spec(...)?"
    return fault + (hint if hasattr(function, "child_spec") else "")


def _misfit(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Why `function` can't be called with these arguments; None: it can, or can't be known."""
    # Its class says what it takes: the start of one would take anything, and pass it on.
    function = actor_class(function) or function
    try:
        # As it is called: what a wrapper adds to the arguments is not missing from them.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # Some functions written in C have none.
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"{_name(function)}{signature} can't be called with the arguments given: {error}"
    return None


def _check_shutdown(spec: ChildSpec) -> None:
    shutdown: Any = spec.shutdown
    if shutdown is None or (isinstance(shutdown, str) and shutdown == "brutal_kill"):
        return
    fault = duration_fault(shutdown, zero=True)
    if fault is None:
        return
    if isinstance(shutdown, int | float) and LONGEST < shutdown < math.inf:
        fault += " (None: no limit)"
    else:
        fault = (
            "a number of seconds from 0 on, 'brutal_kill' (no patience) or None (no limit) is"
            f" wanted, not {_show(shutdown)}{_hint(shutdown, ('brutal_kill',))}"
        )
    raise SpecError(spec.id, "shutdown", fault)


def _check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown | None) -> None:
    if not isinstance(spec.significant, bool):
        raise SpecError(
            spec.id, "significant", f"True or False is wanted, not {_show(spec.significant)}"
        )
    if not spec.significant:
        return
    if spec.restart == "permanent":
        raise SpecError(
            spec.id,
            "significant",
            "a permanent child is always started again, so that its end means nothing:"
            " make it 'transient' or 'temporary', or leave significant out",
        )
    if auto_shutdown is None:
        raise SpecError(
            spec.id,
            "significant",
            "a DynamicSupervisor does not end with its children: leave significant out",
        )
    if auto_shutdown == "never":
        raise SpecError(
            spec.id,
            "significant",
            "its supervisor has auto_shutdown='never', and would not end with it: start it with"
            " auto_shutdown='any_significant' or 'all_significant', or leave significant out",
        )


def _check_word(spec: ChildSpec, field: str, words: tuple[str, ...]) -> None:
    fault = _no_word(getattr(spec, field), words)
    if fault is not None:
        raise SpecError(spec.id, field, fault)


# Options of supervisors.


def check_options(
    *,
    strategy: object,
    max_restarts: object,
    max_seconds: object,
    auto_shutdown: object = "never",
    name: object = None,
    on_end: object = None,
) -> None:
    """Refuse options of a supervisor that make no sense; see `Supervisor.start` for the meaning.

    Raises:
        OptionError: the message names the option and what is wanted.
    """
    _refuse("strategy", _no_word(strategy, get_args(Strategy)))
    _refuse("max_restarts", count_fault(max_restarts, least=0))
    _refuse("max_seconds", duration_fault(max_seconds, longest=math.inf))
    _refuse("auto_shutdown", _no_word(auto_shutdown, get_args(AutoShutdown)))
    if name is not None:
        try:
            check_name(name)
        except ValueError as error:
            raise OptionError(f"name: {error}") from None
    if on_end is not None and not callable(on_end):
        _refuse("on_end", f"a function or None is wanted, not {_show(on_end)}")


def check_dynamic_options(
    *,
    strategy: object,
    max_restarts: object,
    max_seconds: object,
    max_children: object = None,
    extra_arguments: object = (),
    name: object = None,
    on_end: object = None,
) -> None:
    """Refuse options of a dynamic supervisor; see `DynamicSupervisor.start` for the meaning.

    Raises:
        OptionError: the message names the option and what is wanted.
    """
    if strategy in ("one_for_all", "rest_for_one"):
        _refuse(
            "strategy",
            f"a DynamicSupervisor has 'one_for_one' only, as its children are in no order,"
            f" not {strategy!r}: a Supervisor has the others",
        )
    check_options(
        strategy=strategy,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        name=name,
        on_end=on_end,
    )
    if max_children is not None:
        fault = count_fault(max_children, least=0)
        _refuse("max_children", fault and f"{fault} (None: no limit)")
    if not isinstance(extra_arguments, tuple | list):
        _refuse(
            "extra_arguments",
            f"a tuple is wanted, not {_show(extra_arguments)}:"
            f" did you mean {_show((extra_arguments,))}?",
        )


def _refuse(option: str, fault: str | None) -> None:
    if fault is not None:
        raise OptionError(f"{option}: {fault}")


# Words.


def _no_word(value: object, words: tuple[str, ...]) -> str | None:
    if isinstance(value, str) and value in words:
        return None
    return f"{_or(words)} is wanted, not {_show(value)}{_hint(value, words)}"


def _or(words: tuple[str, ...]) -> str:
    *most, last = map(repr, words)
    return f"{', '.join(most)} or {last}"


def _hint(value: object, words: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        return ""
    # As an atom, in capitals, or with hyphens: still the same word.
    plain = value.lstrip(":").lower().replace("-", "_").replace(" ", "_")
    close = get_close_matches(plain, words, n=1)
    return f": did you mean {close[0]!r}?" if close else ""
