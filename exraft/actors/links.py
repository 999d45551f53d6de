"""Processes that die together (OTP `link/1`).

Knows pairs of processes of which each is sent the exit reason of the other. Must not know what
a process does with it: it ends as well, or, if it traps exits, gets a message.

A link is a pair of monitors, so it breaks once: whoever ends first breaks it for both.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

import pykka

from exraft.actors import watching
from exraft.actors.ending import send
from exraft.actors.exits import ExitSignal
from exraft.actors.watching import Down, Monitor

_lock = Lock()
_links: dict[tuple[pykka.ActorRef[Any], pykka.ActorRef[Any]], _Link] = {}
"""Each link under both orders of its pair."""


class _Link:
    __slots__ = ("_monitors", "_pair")

    def __init__(self, one: pykka.ActorRef[Any], other: pykka.ActorRef[Any]) -> None:
        self._pair = (one, other)
        self._monitors: list[Monitor] = []

    def make(self) -> None:
        for ref in self._pair:
            # Appended before or after it was broken: either way `_cancel` sees both in the end.
            self._monitors.append(watching.monitor(ref, self._broken))
        if _links.get(self._pair) is not self:
            self._cancel()

    def _broken(self, down: Down) -> None:
        one, other = self._pair
        partner = other if down.ref is one else one
        if self.forget():
            self._cancel()
            send(partner, ExitSignal(down.reason, down.ref, linked=True))

    def forget(self) -> bool:
        """Take it out; `False` if it is broken already."""
        one, other = self._pair
        with _lock:
            if _links.get((one, other)) is not self:
                return False
            del _links[one, other], _links[other, one]
        return True

    def _cancel(self) -> None:
        for monitor in self._monitors:
            monitor.cancel()

    def undo(self) -> None:
        if self.forget():
            self._cancel()


def link(one: pykka.ActorRef[Any], other: pykka.ActorRef[Any]) -> None:
    """Link two processes; once, however often it is called. Nobody is linked to itself.

    If one of them has ended, the other is sent `"noproc"`.

    Raises:
        TypeError: one is a plain Pykka actor that nobody watches.
    """
    for ref in (one, other):
        watching.watchers_of(ref)
    if one is other:
        return
    made = _Link(one, other)
    with _lock:
        if (one, other) in _links:
            return
        _links[one, other] = _links[other, one] = made
    made.make()


def unlink(one: pykka.ActorRef[Any], other: pykka.ActorRef[Any]) -> None:
    """Undo `link`; nothing happens if there is none."""
    with _lock:
        found = _links.get((one, other))
    if found is not None:
        found.undo()


def _forget_all() -> None:
    global _lock
    _lock = Lock()
    _links.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
