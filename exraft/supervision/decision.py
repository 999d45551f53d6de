"""What a supervisor does when a child has ended: a function from what was to what follows.

Knows restart types and exit reasons as OTP defines them. Must not know actors, clocks or names: so
it can be tested alone, and the general supervisor can take it over.
"""

from __future__ import annotations

from enum import Enum, auto

from exraft.child_spec import Restart


class Verdict(Enum):
    RESTART = auto()
    """Start it again."""
    GIVE_UP = auto()
    """It should be started again, but has been too often: the supervisor ends with `shutdown`."""
    LEAVE = auto()
    """It has ended for good."""


def after_exit(*, restart: Restart, orderly: bool, stopping: bool, patience: bool) -> Verdict:
    """Judge one exit.

    Args:
        restart: the child's restart type.
        orderly: whether its reason was `normal`, `shutdown` or `("shutdown", term)`.
        stopping: whether the supervisor itself is being stopped; then it restarts nobody.
        patience: whether the restart intensity allows another restart.
    """
    if stopping or not wants_restart(restart, orderly=orderly):
        return Verdict.LEAVE
    return Verdict.RESTART if patience else Verdict.GIVE_UP


def wants_restart(restart: Restart, *, orderly: bool) -> bool:
    """Whether a child of that type is started again after such an exit."""
    return restart == "permanent" or (restart == "transient" and not orderly)
