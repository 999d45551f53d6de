"""What the log is told about children (OTP's supervisor reports), on logger `exraft.supervision`.

Knows the words and levels of a report. Must not know when one is due.

A record has `supervisor`, `child` (its id) and `reason` as attributes too, for handlers that want
them apart.
"""

from __future__ import annotations

import logging

from exraft.actors.exits import describe
from exraft.child_spec import ChildSpec

logger = logging.getLogger("exraft.supervision")


def child_terminated(supervisor: str, spec: ChildSpec, reason: object, *, restarts: bool) -> None:
    """A child has ended although nobody asked it to (OTP `child_terminated`)."""
    # Without the traceback: the child has logged that itself.
    follows = "" if restarts else f". It is {spec.restart}, and not started again"
    _report(f"%s, child of %s, has ended: %s{follows}", supervisor, spec, reason)


def start_failed(supervisor: str, spec: ChildSpec, reason: object) -> None:
    """A child could not be started again (OTP `start_error`)."""
    _report("%s, child of %s, could not be started again: %s", supervisor, spec, reason)


def ended_otherwise(
    supervisor: str, spec: ChildSpec, reason: object, patience: float | None
) -> None:
    """A child was stopped, and ended with another reason than asked (OTP `shutdown_error`).

    `patience`: the seconds after which it was given up, if it was.
    """
    late = "" if patience is None else f", as it had not ended within {patience:g} s"
    _report(f"%s, child of %s, was stopped and ended with: %s{late}", supervisor, spec, reason)


def gave_up(
    supervisor: str, spec: ChildSpec, reason: object, max_restarts: int, max_seconds: float
) -> None:
    """A child would have to be restarted once too often (OTP `reached_max_restart_intensity`)."""
    _report(
        "%s, child of %s, is not started again after: %s. That would be one restart too many, with"
        f" {max_restarts} in {max_seconds:g} s behind it: its supervisor gives up and ends",
        supervisor,
        spec,
        reason,
    )


def _report(text: str, supervisor: str, spec: ChildSpec, reason: object) -> None:
    if logger.isEnabledFor(logging.ERROR):
        logger.error(
            text,
            spec.id,
            supervisor,
            describe(reason),
            extra={"supervisor": supervisor, "child": spec.id, "reason": reason},
        )


def started(supervisor: str, spec: ChildSpec) -> None:
    """A child has started (OTP's progress report)."""
    logger.debug("%s, child of %s, has started", spec.id, supervisor)


def auto_shutdown(supervisor: str, spec: ChildSpec) -> None:
    """A significant child has ended, and the supervisor ends with it."""
    logger.info("%s ends, as its significant child %s has ended", supervisor, spec.id)
