"""Why a process ends, and how it is asked to.

Knows exit reasons as OTP has them, and the signals that carry one. Must not know how a process
lives, or how a signal gets to it.

An exit reason is `"normal"`, `"shutdown"`, `("shutdown", term)`, `"killed"`, an exception, or
whatever else somebody chose; the first three are those of an orderly end.
"""

from __future__ import annotations

from traceback import clear_frames
from typing import Any

import pykka


class Exit(Exception):
    """Raised in any callback of a process, it ends that process (OTP `exit/1`).

    Attributes:
        reason: the exit reason: `"normal"`, `"shutdown"`, `("shutdown", term)`, `"killed"`, or an
            exception; anything else is taken for a failure.
    """

    reason: object

    def __init__(self, reason: object = "normal") -> None:
        super().__init__(reason)
        self.reason = reason


class Ignore(Exception):
    """Raised in `on_start`, or by a start function: there is nothing to be started (OTP `ignore`).

    A supervisor keeps such a child without an actor.
    """


class ExitSignal:
    """Asks a process to end with a reason; overtakes what waits in its mailbox.

    A process that traps exits gets it as a message instead.

    Attributes:
        reason: the exit reason.
        sender: the process that sent it, or whose end broke the link; `None` if it was sent by a
            thread that is no process.
        linked: whether it came through a link.
    """

    __slots__ = ("linked", "reason", "sender")

    urgent = True

    def __init__(
        self,
        reason: object,
        sender: pykka.ActorRef[Any] | None = None,
        *,
        linked: bool = False,
    ) -> None:
        self.reason = reason
        self.sender = sender
        self.linked = linked

    def __repr__(self) -> str:
        return f"ExitSignal({self.reason!r}, {self.sender})"

    @property
    def counts(self) -> bool:
        """Whether it ends who does not trap exits: the normal end of a linked process does not."""
        return not (self.linked and self.reason == "normal")


class Order:
    """A supervisor's order to end; overtakes what waits, and can't be trapped.

    Attributes:
        reason: the exit reason that is wanted.
        patience: seconds until who has not ended is killed; `None` for ever.
        everyone: whether all others end as well, as when the program does: there is nobody to hand
            anything over to.
    """

    __slots__ = ("everyone", "patience", "reason")

    urgent = True

    def __init__(self, reason: object, patience: float | None, *, everyone: bool = False) -> None:
        self.reason = reason
        self.patience = patience
        self.everyone = everyone


def is_orderly(reason: object) -> bool:
    """Say whether a process with this exit reason ended as it should (OTP `transient`).

    That is `"normal"`, `"shutdown"` and `("shutdown", term)`.
    """
    return (isinstance(reason, str) and reason == "normal") or is_shutdown(reason)


def is_shutdown(reason: object) -> bool:
    """Say whether it is `"shutdown"` or `("shutdown", term)`."""
    if isinstance(reason, str):
        return reason == "shutdown"
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"


def let_go(reason: object) -> None:
    """Clear the frames that an exit reason holds, if it is an exception: its traceback stays.

    They hold what the dead process had in hand, above all itself; and whoever holds its reference,
    or has been told of its end, holds the reason.
    """
    seen: set[int] = set()
    left = [reason]
    while left:
        error = left.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            clear_frames(error.__traceback__)
            left += [error.__cause__, error.__context__]


def describe(reason: object) -> str:
    """Return an exit reason for people; never raises, whatever the reason's `__repr__` does."""
    if isinstance(reason, str):
        return reason
    try:
        return repr(reason)
    except Exception:
        return f"an unprintable {type(reason).__name__}"
