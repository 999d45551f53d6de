from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import Mailbox, ProcessDown, refuse

LIMIT = 30.0


class Urgent:
    urgent = True


def ignore(_: Any) -> None:
    raise AssertionError("nothing should be undelivered here")


def test_items_come_out_in_the_order_in_which_they_were_put() -> None:
    mailbox = Mailbox(ignore)
    for item in range(5):
        mailbox.put(item)
    assert [mailbox.get() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_get_says_empty_when_nothing_comes_in_time() -> None:
    mailbox = Mailbox(ignore)
    for timeout in (0.001, 0.0, -1.0):
        with pytest.raises(Empty):
            mailbox.get(timeout)


def test_get_takes_a_timeout_longer_than_the_system_can_wait() -> None:
    mailbox = Mailbox(ignore)
    mailbox.put(1)
    assert mailbox.get(float("inf")) == 1


def test_get_wakes_for_an_item_put_by_another_thread() -> None:
    mailbox = Mailbox(ignore)
    threading.Thread(target=mailbox.put, args=("late",)).start()
    assert mailbox.get(LIMIT) == "late"


def test_take_returns_what_waits_and_no_more_than_asked_for() -> None:
    mailbox = Mailbox(ignore)
    for item in range(5):
        mailbox.put(item)
    assert mailbox.take(3) == [0, 1, 2]
    assert mailbox.take(3) == [3, 4]
    assert mailbox.take(3) == []


@pytest.mark.parametrize("stop", [Urgent(), Envelope(_ActorStop())])
def test_a_stop_overtakes_the_backlog(stop: Any) -> None:
    mailbox = Mailbox(ignore)
    mailbox.put("first")
    mailbox.put("second")
    mailbox.put(stop)
    assert mailbox.get() is stop
    assert mailbox.take(9) == ["first", "second"]
    mailbox.put("third")
    mailbox.put(stop)
    assert mailbox.take(9) == [stop, "third"]


def test_an_owner_that_waits_wakes_for_an_urgent_item() -> None:
    mailbox = Mailbox(ignore)
    stop = Urgent()
    threading.Thread(target=mailbox.put, args=(stop,)).start()
    assert mailbox.get(LIMIT) is stop


def test_the_trace_of_an_overtaking_item_is_not_taken_for_an_item() -> None:
    mailbox = Mailbox(ignore)
    mailbox.put(Urgent())
    assert (mailbox.qsize(), mailbox.empty()) == (1, False)
    mailbox.get()
    assert (mailbox.qsize(), mailbox.empty()) == (0, True)
    with pytest.raises(Empty):
        mailbox.get(0)
    mailbox.put(Urgent())
    mailbox.put("plain")
    mailbox.get()
    assert mailbox.qsize() == 1
    assert mailbox.take(9) == ["plain"]
    assert mailbox.qsize() == 0


def test_what_is_left_at_the_close_is_undelivered_once() -> None:
    undelivered: list[Any] = []
    mailbox = Mailbox(undelivered.append)
    stop = Urgent()
    mailbox.put(1)
    mailbox.put(stop)
    mailbox.put(2)
    mailbox.close()
    mailbox.close()
    assert undelivered == [stop, 1, 2]


def test_what_is_put_after_the_close_is_undelivered_at_once() -> None:
    undelivered: list[Any] = []
    mailbox = Mailbox(undelivered.append)
    mailbox.close()
    mailbox.put(1)
    mailbox.put(2)
    assert undelivered == [1, 2]


def test_what_is_put_while_it_closes_is_undelivered() -> None:
    undelivered: list[Any] = []
    mailbox = Mailbox(undelivered.append)

    class Slow(SimpleQueue[Any]):
        """Somebody puts just after the closing thread has found it empty."""

        late = ["late"]

        def get_nowait(self) -> Any:
            try:
                return super().get_nowait()
            except Empty:
                if self.late:
                    mailbox.put(self.late.pop())
                raise

    mailbox._queue = Slow()
    mailbox.close()
    assert undelivered == ["late"]


def test_an_item_that_cannot_be_refused_does_not_keep_the_next_from_it() -> None:
    undelivered: list[Any] = []

    def picky(item: Any) -> None:
        undelivered.append(item)
        if item == 1:
            raise RuntimeError("not this one")

    mailbox = Mailbox(picky)
    mailbox.put(1)
    mailbox.put(2)
    mailbox.close()
    assert undelivered == [1, 2]


@pytest.mark.parametrize("round_", range(20))
def test_nothing_is_lost_or_doubled_when_many_put_while_it_closes(round_: int) -> None:
    undelivered: list[Any] = []
    mailbox = Mailbox(undelivered.append)
    start = threading.Barrier(5)

    def put_many(thread: int) -> None:
        start.wait(LIMIT)
        for number in range(300):
            mailbox.put((thread, number))
            if number % 50 == 0:
                mailbox.put(Urgent())

    threads = [threading.Thread(target=put_many, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    start.wait(LIMIT)
    got = [mailbox.get(LIMIT) for _ in range(round_ * 10)]
    got += mailbox.take(100)
    mailbox.close()
    for thread in threads:
        thread.join(LIMIT)
    plain = [item for item in got + undelivered if isinstance(item, tuple)]
    urgent = [item for item in got + undelivered if isinstance(item, Urgent)]
    assert sorted(plain) == [(t, n) for t in range(4) for n in range(300)]
    assert len(urgent) == len(set(urgent)) == 4 * 6


def test_a_refused_ask_fails_with_the_exit_reason() -> None:
    future: OneLockFuture[Any] = OneLockFuture()
    refuse(Envelope("question", reply_to=future), "shutdown")
    with pytest.raises(pykka.ActorDeadError, match="shutdown") as caught:
        future.get(timeout=0)
    assert isinstance(caught.value, ProcessDown)
    assert caught.value.reason == "shutdown"


def test_a_refused_stop_has_succeeded() -> None:
    future: OneLockFuture[Any] = OneLockFuture()
    refuse(Envelope(_ActorStop(), reply_to=future), "normal")
    assert future.get(timeout=0) is None


def test_a_refused_object_is_told_the_reason_if_it_wants_to_know() -> None:
    reasons: list[object] = []

    class Call:
        def refuse(self, reason: object) -> None:
            reasons.append(reason)

    refuse(Call(), "noproc")
    refuse(Envelope("told"), "noproc")
    refuse("plain", "noproc")
    assert reasons == ["noproc"]


def test_a_reason_that_cannot_be_printed_does_not_keep_the_caller_waiting() -> None:
    class Rude(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "Rude" in str(ProcessDown(Rude()))
