"""What numbers are no sensible duration or count, and what was likely meant.

Knows seconds and whole numbers. Must not know which option they are given for: the caller names it
in the error that it raises.
"""

from __future__ import annotations

import math

LONGEST = 300.0
"""Seconds; a longer duration was most likely meant in milliseconds, as OTP's and ExRaft's are."""


def duration_fault(value: object, *, zero: bool = False, longest: float = LONGEST) -> str | None:
    """Say why `value` is no sensible number of seconds; None if it is one.

    Args:
        value: what was given.
        zero: whether 0 makes sense.
        longest: more seconds than these make none; infinite where OTP counts seconds too.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a number of seconds is wanted, not {value!r}"
    if not 0 <= value < math.inf or (value == 0 and not zero):
        return f"a number of seconds {'from 0 on' if zero else 'above 0'} is wanted, not {value!r}"
    if value > longest:
        # Only what would be right then.
        meant = f": did you mean {value / 1000}?" if value <= longest * 1000 else ""
        return (
            f"{value!r} seconds is longer than {longest:g} s. OTP and ExRaft count milliseconds,"
            f" exraft seconds{meant}"
        )
    return None


def count_fault(value: object, *, least: int) -> str | None:
    """Say why `value` is no whole number from `least` on; None if it is one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        return f"a whole number from {least} on is wanted, not {value!r}"
    return None


def check_timeout(timeout: object) -> None:
    """Refuse what is no timeout of a call: seconds, or None to wait for ever.

    Raises:
        ValueError: the message says what is wanted.
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ValueError(f"timeout is a number of seconds, or None, not {timeout!r}")
    if not 0 <= timeout < math.inf:
        raise ValueError(f"timeout={timeout!r}: a finite number of seconds from 0 on is wanted")
