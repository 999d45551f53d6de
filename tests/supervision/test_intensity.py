"""How many restarts are too many: the window, on a clock of the test's."""

from __future__ import annotations

from exraft.supervision.intensity import Intensity


def test_exactly_max_restarts_in_the_window_are_allowed() -> None:
    """OTP statement 20."""
    intensity = Intensity(3, 5.0)
    assert [intensity.allows(now) for now in (0.0, 1.0, 2.0)] == [True, True, True]


def test_one_more_is_too_many() -> None:
    """OTP statement 20."""
    intensity = Intensity(3, 5.0)
    for now in (0.0, 1.0, 2.0):
        intensity.allows(now)
    assert not intensity.allows(4.9)


def test_with_no_restarts_allowed_the_first_is_too_many() -> None:
    """OTP statement 21."""
    assert not Intensity(0, 5.0).allows(0.0)


def test_every_attempt_counts_allowed_or_not() -> None:
    """OTP statement 23."""
    intensity = Intensity(1, 5.0)
    intensity.allows(0.0)
    assert not intensity.allows(4.0)
    # The first is out of the window by now; the one that was too many is not.
    assert not intensity.allows(6.0)


def test_old_restarts_age_out() -> None:
    """OTP statement 25."""
    intensity = Intensity(1, 5.0)
    assert intensity.allows(0.0)
    assert intensity.allows(5.1)


def test_a_restart_of_exactly_the_window_ago_counts_no_more() -> None:
    """OTP statement 25."""
    intensity = Intensity(1, 5.0)
    assert intensity.allows(0.0)
    assert intensity.allows(5.0)


def test_restarts_further_apart_than_the_window_go_on_for_ever() -> None:
    """OTP statement 25."""
    intensity = Intensity(1, 1.0)
    assert all(intensity.allows(float(now)) for now in range(1000))


def test_each_restart_ages_out_by_itself() -> None:
    """OTP statement 25."""
    intensity = Intensity(max_restarts=2, max_seconds=5.0)
    assert intensity.allows(0.0)
    assert intensity.allows(4.0)
    assert intensity.allows(6.0)
    assert not intensity.allows(8.0)
