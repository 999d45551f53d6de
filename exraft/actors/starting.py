"""How a child is started, whatever it is.

Knows what may stand in a child spec's start: a class of actors, ours or Pykka's, or a function that
starts one. Must not know who wants it started, or what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka

from exraft.actors.adopting import adopt
from exraft.actors.exits import Ignore
from exraft.actors.process import Process
from exraft.actors.watching import ProcessRef
from exraft.errors import StartFailed


def start(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> pykka.ActorRef[Any]:
    """Start an actor so that it can be watched; return its reference when it has started.

    Args:
        function: a subclass of `Process` or, unchanged, of `pykka.ThreadingActor`; the `start` of
            one; or a function that starts one of these and returns its reference.
        *args: what it is called with, as are the keywords.

    Raises:
        Ignore: it declined to start.
        StartFailed: it could not be started, the cause says why; nothing is left of it. A thread
            that was given up starts nobody.
    """
    cls = actor_class(function)
    name = name_of(function)
    try:
        if cls is None:
            return _reference(name, function(*args, **kwargs))
        if issubclass(cls, Process):
            return cls.start(*args, **kwargs)
        return adopt(cls, args, kwargs)
    except StartFailed as error:
        if isinstance(error.cause, Ignore):
            raise error.cause from None
        raise
    except Ignore:
        raise
    except BaseException as error:
        # It is the starter's thread that it was raised in, but not the starter's end.
        raise StartFailed(name, error) from error


def name_of(function: object) -> str:
    """What a start function is called in the error of its failure."""
    named = actor_class(function) or function
    return str(getattr(named, "__name__", repr(named)))


def actor_class(function: object) -> type[pykka.ThreadingActor] | None:
    """The class of actors that a start function is, or is the `start` of."""
    if isinstance(function, type) and issubclass(function, pykka.ThreadingActor):
        return function
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, pykka.ThreadingActor):
        # Not one that the class has made its own: that does what its author wanted.
        plain = getattr(function, "__func__", None) in (_PYKKA_START, _OUR_START)
        return owner if plain else None
    return None


_PYKKA_START = pykka.Actor.start.__func__  # type: ignore[attr-defined]
_OUR_START = Process.start.__func__  # type: ignore[attr-defined]


def _reference(name: str, started: object) -> pykka.ActorRef[Any]:
    if isinstance(started, ProcessRef):
        return started
    if isinstance(started, pykka.ActorRef):
        started.stop(block=False)
        raise StartFailed(
            name,
            TypeError(
                f"it returned {started}, a plain Pykka actor, which tells nobody of its end: start"
                " it with exraft.actors.start(cls, ...), or let the spec's start be its class"
            ),
        )
    raise StartFailed(
        name,
        TypeError(f"it returned {started!r}: the reference of the actor it started is wanted"),
    )
