"""The end of the program: what a script forgot to stop is stopped, `on_stop` callbacks included.

Knows the roots of the trees that live here, and one deadline for all of them. Must not know what
hangs in them.
"""

from __future__ import annotations

import atexit
import logging
import os
from time import monotonic
from typing import Any, Final

import pykka

from exraft.actors import watching
from exraft.actors.ending import send
from exraft.actors.future import OneLockFuture
from exraft.actors.lineage import life_of
from exraft.supervision.supervising import Stop, Supervising

logger = logging.getLogger("exraft.supervision")

PATIENCE: Final = 1.0
"""Seconds that all trees together are given to stop when the interpreter exits."""


def roots() -> list[pykka.ActorRef[Any]]:
    """The supervisors that are nobody's children, oldest first."""
    supervisors = pykka.ActorRegistry.get_by_class(Supervising)
    children: set[pykka.ActorRef[Any]] = set()
    for ref in supervisors:
        life = life_of(ref)
        if isinstance(life, Supervising):
            children.update(life.running())
    return [ref for ref in supervisors if ref not in children]


def stop_all(patience: float) -> list[pykka.ActorRef[Any]]:
    """Stop every tree of the process, all at once; return the roots that have not ended in time."""
    deadline = monotonic() + patience
    stopping: list[tuple[pykka.ActorRef[Any], OneLockFuture[watching.Down]]] = []
    for ref in roots():
        ended: OneLockFuture[watching.Down] = OneLockFuture()
        watching.monitor(ref, ended.set)
        stopping.append((ref, ended))
        send(ref, Stop("shutdown", patience=patience, everyone=True))
    left = []
    for ref, ended in stopping:
        try:
            ended.get(timeout=max(0.0, deadline - monotonic()))
        except pykka.Timeout:
            left.append(ref)
    return left


_installed: set[int] = set()
"""The processes whose exit stops their trees: a forked child runs its parent's exit hooks too."""


def install() -> None:
    """See to it that this process stops its trees when it exits."""
    pid = os.getpid()
    if pid not in _installed:
        _installed.add(pid)
        atexit.register(_at_exit, pid)


def stay_first() -> None:
    """Be called before what was registered meanwhile: trees say goodbye through it."""
    pid = os.getpid()
    if pid in _installed:
        atexit.unregister(_at_exit)
        atexit.register(_at_exit, pid)


def _at_exit(pid: int) -> None:
    if os.getpid() == pid:
        for ref in stop_all(PATIENCE):
            logger.warning(
                "%s and what is below it did not stop within %g s at the exit: stop it before, with"
                " Supervisor.stop, which waits for each child as its spec says",
                life_of(ref) or ref,
                PATIENCE,
            )
