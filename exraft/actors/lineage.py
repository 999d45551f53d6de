"""Whose thread this is, and who started whom (OTP's `$ancestors`).

Knows, for each thread of a process, the process, who started it, and so on up. Must not know what
follows from it: that a process can't wait for itself, for instance.
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import pykka

from exraft.actors import fence
from exraft.actors.exits import Exit
from exraft.actors.watching import ProcessRef

Lineage: TypeAlias = tuple[pykka.ActorRef[Any], ...]
"""A process, who started it, who started that one, and so on."""


class _Here(threading.local):
    lineage: Lineage = ()


_here = _Here()


def enter(lineage: Lineage) -> None:
    """This thread is that of the first of `lineage`."""
    _here.lineage = lineage


def here() -> Lineage:
    """The process whose thread this is, and its ancestors; empty in any other thread."""
    return _here.lineage


def current() -> pykka.ActorRef[Any] | None:
    """The process whose thread this is, if it is one's."""
    lineage = _here.lineage
    return lineage[0] if lineage else None


def begets(ref: pykka.ActorRef[Any]) -> None:
    """The process whose thread this is, if it is one's, is about to start `ref`.

    Raises:
        Exit: this thread was given up, and starts nobody.
    """
    life = _own_life()
    if life is not None:
        life.last_started = ref
        fence.spawns(life)
    # Only then: who gives this thread up looks at what it starts after it has fenced it.
    must_go_on()


def begot() -> None:
    """Its thread has been started."""
    life = _own_life()
    if life is not None:
        life.spawning = False


def _own_life() -> fence.Life | None:
    process = current()
    return None if process is None else life_of(process)


def must_go_on() -> None:
    """Let nobody begin anything whose thread was given up.

    Raises:
        Exit: it was; this may end it sooner.
    """
    if fence.is_fenced():
        raise Exit("killed")


def waiting_for_me() -> Lineage:
    """The processes that do nothing else before this thread goes on: a call to one would deadlock.

    The one whose thread this is; who waits for that to start, or has ordered it to end; and so on
    up.
    """
    lineage = _here.lineage
    for number, ref in enumerate(lineage, 1):
        life = life_of(ref)
        if life is None or not life.waited_for:
            return lineage[:number]
    return lineage


def life_of(ref: pykka.ActorRef[Any]) -> fence.Life | None:
    """What runs in the thread of a process."""
    return ref.life if isinstance(ref, ProcessRef) else None
