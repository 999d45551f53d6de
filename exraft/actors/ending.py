"""How a process is asked to end, and how one that does not is given up.

Knows the ways from an order to a fence, for our own processes and for Pykka's actors that were
adopted. Must not know who decides it, nor what happens in the process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, current_thread
from typing import Any, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors import fence, lineage
from exraft.actors.exits import ExitSignal
from exraft.actors.mailbox import Mailbox, refuse
from exraft.actors.registry import ActorRegistry
from exraft.actors.watching import Down, ProcessRef, watchers_of

logger = logging.getLogger("exraft.actors")


def send(ref: pykka.ActorRef[Any], message: object) -> None:
    """Put a message object, as it is, into the mailbox of a process; nobody waits for an answer.

    Pykka's `tell` would put an envelope around it. After the process has ended it is refused.
    """
    cast(Mailbox, ref.actor_inbox).put(message)


def send_exit(ref: pykka.ActorRef[Any], reason: object) -> None:
    """Ask a process to end with `reason`, without waiting (OTP `exit/2`); use a monitor to wait.

    One that traps exits gets an `ExitSignal` as a message instead. The reason `"kill"` can't be
    trapped: see `kill`. Nothing happens if the process has ended already.

    Raises:
        TypeError: `ref` is of a plain Pykka actor that nobody watches: it would not understand.
    """
    watchers_of(ref)
    if isinstance(reason, str) and reason == "kill":
        kill(ref)
    else:
        send(ref, ExitSignal(reason, lineage.current()))


def kill(ref: pykka.ActorRef[Any]) -> None:
    """Give up a process, without any callback of it (OTP `exit(Pid, kill)`, `brutal_kill`).

    A thread can't be killed, so it is fenced. From now on the process counts as dead, with the
    reason `"killed"`: its names are free, what waits in its mailbox is refused, whoever waits for
    its answer is told, and so are its monitors. Should its thread go on, then what it sends,
    answers, registers or starts through this package is ignored or refused; if it is found in code
    of its author's, `SystemExit` rises there. What it does beside that - to files, to objects that
    it shares with other threads, through plain Pykka actors - nobody can prevent.

    Nothing happens if the process has ended already.

    Raises:
        TypeError: `ref` is of a plain Pykka actor that nobody watches.
        Exit: the calling thread was given up itself, or has given itself up just now.
    """
    lineage.must_go_on()
    # One that is given up itself meanwhile must not leave this half done.
    with fence.lifted():
        _kill(ref)
    # Of itself, or of whom it hangs below: raised by the outermost kill only, as an inner one must
    # not cut short what that has to do.
    lineage.must_go_on()


def _kill(ref: pykka.ActorRef[Any]) -> None:
    down = Down(ref, "killed")
    watchers = watchers_of(ref)
    monitors = watchers.close(down)
    if monitors is None:
        # It has ended by itself and tells so, or another has given it up: it will be over soon.
        watchers.await_over()
        return
    assert isinstance(ref, ProcessRef)
    life = ref.life
    own = life is not None and life.thread is current_thread()
    if life is not None:
        fence.fence(life)
    # First of all: should its thread wake up just now, it finds nothing to do.
    mailbox = cast(Mailbox, ref.actor_inbox)
    closing = mailbox.undelivered = _Closing()
    mailbox.close()
    if life is not None:
        _contain(ref, life.left_behind)
        if life.last_started is not None:
            _kill_unborn(life.last_started)
    pykka.ActorRegistry.unregister(ref)
    ref.actor_stopped.set()
    ActorRegistry.release_names(ref)
    closing.over()
    if life is not None:
        life.start_failed("killed")
    watchers.deliver(down, monitors)
    if life is not None and not own and fence.interrupt(life):
        logger.warning("%s was killed at work, and its thread is left behind", ref)


class _Closing:
    """Refuses what comes to one that is being given up; who stops it waits until that is over."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stops: list[Any] | None = []

    def __call__(self, item: Any) -> None:
        if isinstance(item, Envelope) and isinstance(item.message, _ActorStop):
            with self._lock:
                if self._stops is not None:
                    self._stops.append(item)
                    return
        refuse(item, "killed")

    def over(self) -> None:
        with self._lock:
            stops, self._stops = self._stops or [], None
        for stop in stops:
            refuse(stop, "killed")


def _kill_unborn(ref: pykka.ActorRef[Any]) -> None:
    """Nobody else knows of one that was just being started."""
    life = lineage.life_of(ref)
    if life is not None and life.starting:
        _kill(ref)


def _contain(ref: pykka.ActorRef[Any], step: Callable[[], object]) -> None:
    # The steps that follow must not depend on it.
    try:
        step()
    except Exception:
        logger.exception("%s could not be left behind in order:", ref)
