"""Threads that were given up: they can't be killed, so they are fenced.

Knows which threads these are, and how one may be made to end sooner. Must not know what they were
doing, nor what is kept from them: whoever takes something from a thread asks here first.

A fenced thread may wake up at any time, in the middle of what it was doing, while a successor is at
work already. So mailboxes take nothing from it, names are not given to it, and it starts nobody.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Thread, current_thread, local
from time import sleep
from typing import Any, Final, Protocol

import pykka

threads: dict[Thread, None] = {}
"""The fenced ones that have not ended yet. Nearly always empty, which costs nothing to see."""

ATTEMPTS: Final = 20
"""How often a thread is looked at until it is found in code of its author's."""

_OURS = tuple(
    os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), pykka.__file__)
)
_PYTHON = os.path.dirname(os.__file__) + os.sep
_MAILBOX = os.path.join(os.path.dirname(__file__), "mailbox.py")

_lock = Lock()


class _Here(local):
    exempt = False


_here = _Here()


@contextmanager
def lifted() -> Iterator[None]:
    """In the block the calling thread is not fenced, whoever gives it up meanwhile.

    For what must not be left half done: one who gives up another may be given up himself.
    """
    before, _here.exempt = _here.exempt, True
    try:
        yield
    finally:
        _here.exempt = before


class Life(Protocol):
    """What runs in a thread of its own, and can be fenced.

    Attributes:
        thread: its thread, once it runs.
        killed: whether it was given up.
        over: whether the thread has left it, or is about to do nothing but that.
        starting: whether who starts it waits for its `on_start`.
        waited_for: whether who starts it waits for it, or a supervisor that has ordered it to end.
        last_started: the process that it was the last to start; if it is given up in the middle of
            that, nobody else knows of it yet.
        spawning: whether its thread is about to start another, and must not be interrupted.
    """

    thread: Thread | None
    killed: bool
    over: bool
    last_started: pykka.ActorRef[Any] | None
    spawning: bool

    @property
    def starting(self) -> bool: ...

    @property
    def waited_for(self) -> bool: ...

    def left_behind(self) -> None:
        """Called in the killer's thread: tell who waits for it; what it raises is logged."""

    def start_failed(self, reason: object) -> None:
        """Called in the killer's thread at the end: tell who waits for its start, if any does."""


def is_fenced() -> bool:
    """Whether the calling thread was given up."""
    return bool(threads) and current_thread() in threads and not _here.exempt


def fence(life: Life) -> None:
    """From now on the thread of `life` can do no harm to others."""
    with _lock:
        life.killed = True
        if life.thread is not None and not life.over:
            threads[life.thread] = None


def spawns(life: Life) -> None:
    """Its thread is about to start another.

    Up to Python 3.11 a thread bears the number of the one that starts it until it runs: what is
    meant for the one would hit the other, and both would wait for ever.
    """
    with _lock:
        life.spawning = True


def interrupt(life: Life) -> bool:
    """Let `SystemExit` rise in the fenced thread, which may end it sooner: a loop without end, say.

    Only while it is in code of its author's. In the middle of the standard library's, of Pykka's or
    of ours it could leave a lock closed for ever that others need: that of the log, for instance.

    Returns:
        whether the thread was found at work, and may go on for a while.
    """
    for _ in range(ATTEMPTS):
        with _lock:
            # Under the lock of `leave`: a thread that has ended may have given its number to
            # another.
            thread = life.thread
            if not life.killed or life.over or thread is None or thread.ident is None:
                return False
            if life.spawning:
                return True
            file = _where(thread.ident)
            if file == _MAILBOX:
                # It waits for a message, and is woken by the end of its mailbox.
                return False
            if _may_be_interrupted(file):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
                )
                return True
        sleep(0.0)
    return True


def _where(ident: int) -> str:
    """The file of the code that a thread is in; empty if it is in none."""
    # Up to Python 3.12 a collection in the middle of this may stop the interpreter for ever
    # (gh-106883): it runs others' code while all threads are held.
    collects = gc.isenabled()
    gc.disable()
    try:
        frame = sys._current_frames().get(ident)
        return "" if frame is None else frame.f_code.co_filename
    finally:
        if collects:
            gc.enable()


def _may_be_interrupted(file: str) -> bool:
    if file.startswith(_PYTHON):
        # What was installed beside the standard library lies in a folder of it.
        return "-packages" in file[len(_PYTHON) :] and not file.startswith(_OURS)
    return bool(file) and not file.startswith((*_OURS, "<frozen"))


def leave(life: Life) -> None:
    """The last thing that the thread of a life does."""
    try:
        _leave(life)
    except SystemExit:
        # The one of `interrupt`, at the last moment; there is no other.
        _leave(life)


def _leave(life: Life) -> None:
    with _lock:
        life.over = True
        if life.thread is not None:
            threads.pop(life.thread, None)


def _forget_all() -> None:
    global _lock
    _lock = Lock()
    threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
