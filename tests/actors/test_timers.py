"""Messages to come: when they come, in which order, and how they are cancelled."""

from __future__ import annotations

import math
import threading
from queue import SimpleQueue
from typing import Any

import pykka
import pytest

from exraft.actors import Exit, Process, Timer, process
from exraft.actors.timers import Timers
from tests.helpers import LIMIT, Gate


class Clock(Process):
    """Runs the functions that it is sent, and keeps everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.came: SimpleQueue[Any] = SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.came.put(message)
        return None


@pytest.fixture
def clock() -> Any:
    ref = Clock.start()
    yield ref
    ref.stop(timeout=LIMIT)


def came(clock: pykka.ActorRef[Clock]) -> SimpleQueue[Any]:
    queue: Any = clock.ask(lambda self: self.came)
    assert isinstance(queue, SimpleQueue)
    return queue


# The list of them, whose time is passed in.


def test_what_is_due_comes_out_in_the_order_of_its_time() -> None:
    timers = Timers()
    for at in (3.0, 1.0, 2.0):
        timers.add(Timer(at, at))
    assert timers.next() == 1.0
    assert timers.pop_due(0.5) is None
    found = [timers.pop_due(2.5), timers.pop_due(2.5), timers.pop_due(2.5)]
    assert [None if each is None else each.message for each in found] == [1.0, 2.0, None]
    assert timers.next() == 3.0


def test_what_is_due_at_the_same_time_comes_in_the_order_it_was_set() -> None:
    timers = Timers()
    for number in range(20):
        timers.add(Timer(1.0, number))
    assert [timers.pop_due(1.0).message for _ in range(20)] == list(range(20))  # type: ignore[union-attr]


def test_a_cancelled_one_does_not_come() -> None:
    timers = Timers()
    first, second = Timer(1.0, "first"), Timer(2.0, "second")
    timers.add(first)
    timers.add(second)
    assert timers.cancel(first)
    assert not timers.cancel(first)
    assert timers.next() == 2.0
    assert timers.pop_due(5.0) is second
    assert not timers.cancel(second)
    assert timers.pop_due(5.0) is None


def test_who_cancels_what_it_sets_keeps_little() -> None:
    timers = Timers()
    for _ in range(10_000):
        timer = Timer(1e9, "x")
        timers.add(timer)
        timers.cancel(timer)
    assert len(timers._heap) < 200


def test_those_that_stay_survive_the_tidying() -> None:
    timers = Timers()
    kept = [Timer(float(number), number) for number in range(50)]
    for timer in kept:
        timers.add(timer)
    for _ in range(1_000):
        timer = Timer(0.5, "x")
        timers.add(timer)
        timers.cancel(timer)
    assert [timers.pop_due(100.0) for _ in range(51)] == [*kept, None]


# A process's.


def test_a_message_comes_when_its_time_has_come(clock: pykka.ActorRef[Clock]) -> None:
    clock.ask(lambda self: self.send_after(0.01, "tick"))
    assert came(clock).get(timeout=LIMIT) == "tick"


def test_two_come_in_the_order_of_their_times(clock: pykka.ActorRef[Clock]) -> None:
    def set_both(self: Clock) -> None:
        self.send_after(0.02, "later")
        self.send_after(0.01, "sooner")

    clock.ask(set_both)
    queue = came(clock)
    assert [queue.get(timeout=LIMIT), queue.get(timeout=LIMIT)] == ["sooner", "later"]


def test_one_of_no_time_comes_after_what_waits(clock: pykka.ActorRef[Clock]) -> None:
    gate = Gate()

    def set_one(self: Clock) -> None:
        self.send_after(0.0, "timer")
        gate.pass_through()

    clock.tell(set_one)
    gate.await_someone()
    clock.tell("waits")
    gate.open()
    queue = came(clock)
    assert [queue.get(timeout=LIMIT), queue.get(timeout=LIMIT)] == ["waits", "timer"]


def test_a_cancelled_timer_tells_how_much_was_left(
    clock: pykka.ActorRef[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]

    def cancel(self: Clock) -> tuple[float | None, float | None]:
        monkeypatch.setattr(process, "monotonic", lambda: now[0])
        timer = self.send_after(10.0, "never")
        now[0] += 4.0
        left = self.cancel_timer(timer), self.cancel_timer(timer)
        monkeypatch.undo()
        return left

    assert clock.ask(cancel) == (6.0, None)


def test_a_timer_that_has_come_can_not_be_cancelled(clock: pykka.ActorRef[Clock]) -> None:
    timer = clock.ask(lambda self: self.send_after(0.0, "tick"))
    assert came(clock).get(timeout=LIMIT) == "tick"
    assert clock.ask(lambda self: self.cancel_timer(timer)) is None


def test_a_timer_set_by_a_timer_s_message_comes_too() -> None:
    done = threading.Event()

    class Counts(Process):
        def on_start(self) -> None:
            self.send_after(0.0, 3)

        def on_receive(self, message: int) -> None:
            if message:
                self.send_after(0.001, message - 1)
            else:
                done.set()

    ref = Counts.start()
    assert done.wait(LIMIT)
    ref.stop(timeout=LIMIT)


def test_what_a_timer_s_message_raises_ends_the_process() -> None:
    class Ends(Process):
        def on_start(self) -> None:
            self.send_after(0.0, "end")

        def on_receive(self, message: str) -> None:
            raise Exit(("shutdown", message))

        def on_stop(self) -> None:
            done.set()

    done = threading.Event()
    Ends.start()
    assert done.wait(LIMIT)


def test_timers_and_a_deadline_of_its_own_go_together() -> None:
    came: SimpleQueue[str] = SimpleQueue()

    class Both(Process):
        def __init__(self) -> None:
            super().__init__()
            self._deadline: float | None = 0.0

        def on_start(self) -> None:
            self.send_after(0.0, "timer")

        def deadline(self) -> float | None:
            return self._deadline

        def on_deadline(self, now: float) -> None:
            self._deadline = None
            came.put("deadline")

        def on_receive(self, message: str) -> None:
            came.put(message)

    ref = Both.start()
    assert {came.get(timeout=LIMIT), came.get(timeout=LIMIT)} == {"timer", "deadline"}
    ref.stop(timeout=LIMIT)


@pytest.mark.parametrize("seconds", [-1, math.nan, True, "1", None])
def test_what_is_no_time_is_refused(clock: pykka.ActorRef[Clock], seconds: Any) -> None:
    with pytest.raises(ValueError, match="a number of seconds from 0 on"):
        clock.ask(lambda self: self.send_after(seconds, "x"))
