from __future__ import annotations

import logging

import pytest

from exraft.nodes.seldom import Seldom

logger = logging.getLogger("tests.seldom")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_repeats_itself_is_logged_once_and_counted_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    seldom = Seldom(logger, 5.0, clock=clock)
    for stranger in range(4):
        seldom.log(logging.WARNING, "a stranger: %d", stranger)
    clock.now += 5.0
    seldom.log(logging.WARNING, "a stranger: %d", 4)
    clock.now += 5.0
    seldom.log(logging.WARNING, "a stranger: %d", 5)
    assert caplog.messages == [
        "a stranger: 0",
        "a stranger: 4 (and 3 more like it)",
        "a stranger: 5",
    ]


def test_another_message_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logger, 5.0, clock=Clock())
    seldom.log(logging.WARNING, "one")
    seldom.log(logging.ERROR, "another, 100%")
    assert caplog.messages == ["one", "another, 100%"]
