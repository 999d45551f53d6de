"""Something that is run in a process of its own, so that nothing of it stays, and it may hang.

Knows how to fork, how to be told what was found meanwhile, and how to end it when its time is up.
Must not know what is run.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, Final, TypeAlias

Tell: TypeAlias = Callable[[Any], None]

MOST_MEMORY: Final = 4 * 1024**3
"""Bytes that it may have: what is broken may grow without end, and is not to take others along."""

_END = "the end"
_FAULT = "a fault"


class TookTooLong(Exception):
    """Its time was up."""


def aside(work: Callable[[Tell], object], seconds: float) -> Iterator[Any]:
    """Run `work(tell)` in a fork of this process; yield what it tells, as it does.

    It inherits all that is imported and set here, and what it changes is its own. It is killed when
    nobody listens any more.

    Raises:
        TookTooLong: it told nothing for `seconds`.
        RuntimeError: it raised.
    """
    # This process must have no other threads: the locks that they hold would stay closed there.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(work, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        deadline = monotonic() + seconds
        while ours.poll(max(0.0, deadline - monotonic())):
            kind, what = ours.recv()
            if kind == _END:
                return
            if kind == _FAULT:
                raise RuntimeError(what)
            yield what
            deadline = monotonic() + seconds
        raise TookTooLong
    except EOFError:
        raise RuntimeError("it ended without a word") from None
    finally:
        child.kill()
        child.join()
        ours.close()


def _run(work: Callable[[Tell], object], told: Connection) -> None:
    # What tests print is of no interest here.
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    _bound_memory()
    try:
        work(lambda what: told.send((None, what)))
    except BaseException:
        told.send((_FAULT, traceback.format_exc()))
    else:
        told.send((_END, None))
    finally:
        told.close()
        # Past all exit hooks, and past threads that a broken rule has left behind.
        os._exit(0)


def _bound_memory() -> None:
    # Like fork, it is not to be had everywhere where this module is imported.
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > MOST_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, hard))
