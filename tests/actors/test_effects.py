"""Side effects run beside the server, in order, and none of them can hurt it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

import pytest

from exraft.actors import effects as effects_module
from exraft.actors.effects import Effects

LIMIT = 30.0


class Held:
    """An effect that does not end before it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.let.wait(LIMIT)


def raising(error: BaseException) -> Callable[[], object]:
    def effect() -> None:
        raise error

    return effect


def test_they_run_in_the_order_in_which_they_came() -> None:
    done: list[int] = []
    effects = Effects(":a")
    for number in range(0, 100, 2):
        effects.run([partial(done.append, number), partial(done.append, number + 1)])
    assert effects.close(LIMIT)
    assert done == list(range(100))


def test_they_run_in_one_thread_that_is_not_the_servers() -> None:
    threads: set[int] = set()
    effects = Effects(":a")
    effects.run([lambda: threads.add(threading.get_ident())] * 10)
    effects.close(LIMIT)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_run_does_not_wait_for_a_slow_one() -> None:
    held = Held()
    effects = Effects(":a")
    effects.run([held])
    assert held.begun.wait(LIMIT)
    effects.run([lambda: None] * 3)
    assert effects.queued == 3
    held.let.set()
    assert effects.close(LIMIT)


def test_no_thread_is_started_before_there_is_one_to_run() -> None:
    before = threading.active_count()
    assert Effects(":a").close(0.0)
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_one_that_fails_is_logged_and_the_next_ones_run(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    effects = Effects(":a")
    effects.run([raising(error), lambda: done.append("next")])
    assert effects.close(LIMIT)
    assert done == ["next"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert ":a" in record.getMessage()


def test_it_is_full_when_as_many_wait_as_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects_module, "MAX_EFFECTS", 2)
    held = Held()
    effects = Effects(":a")
    effects.run([held])
    assert held.begun.wait(LIMIT)
    effects.run([lambda: None])
    assert not effects.full
    effects.run([lambda: None])
    assert effects.full
    held.let.set()
    effects.close(LIMIT)


def test_closing_lets_what_waits_run_out() -> None:
    done: list[str] = []
    held = Held()
    effects = Effects(":a")
    effects.run([held, lambda: done.append("waited")])
    held.let.set()
    assert effects.close(LIMIT)
    assert done == ["waited"]


def test_closing_says_when_the_time_was_not_enough() -> None:
    held = Held()
    effects = Effects(":a")
    effects.run([held])
    assert not effects.close(0.0)
    held.let.set()
    assert effects.close(LIMIT)
