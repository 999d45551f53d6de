from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from pykka.messages import _ActorStop

from exraft.actors.ending import send_exit
from exraft.actors.exits import Exit, is_orderly
from exraft.actors.future import OneLockFuture
from exraft.actors.process import DEFERRED, Process, ProcessDown
from exraft.actors.registry import ActorRegistry
from exraft.actors.watching import Down, monitor
from exraft.errors import AlreadyStarted, StartFailed

LIMIT = 30.0


class Note:
    """A message object of ours that can be refused."""

    def __init__(self) -> None:
        self.reasons: queue.SimpleQueue[object] = queue.SimpleQueue()

    def refuse(self, reason: object) -> None:
        self.reasons.put(reason)


class Doer(Process):
    """Does what it is told, in its own thread: a message is a callable that takes the process."""

    def __init__(self, diary: list[Any] | None = None) -> None:
        super().__init__()
        self.diary: list[Any] = [] if diary is None else diary

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.diary.append(message)
        return None

    def on_stop(self) -> None:
        self.diary.append("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.diary.append(("on_failure", exception_value))

    def about_to_close(self) -> None:
        self.diary.append("about_to_close")

    def answer(self, value: Any) -> Any:
        return value


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(_: Any) -> Any:
        raise error

    return act


def end_of(ref: pykka.ActorRef[Any]) -> queue.SimpleQueue[Down]:
    downs: queue.SimpleQueue[Down] = queue.SimpleQueue()
    monitor(ref, downs.put)
    return downs


class Gate:
    """Holds a process up until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _: Any = None) -> None:
        self.entered.set()
        assert self.opened.wait(LIMIT)


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    before = set(pykka.ActorRegistry.get_all())
    yield
    for ref in pykka.ActorRegistry.get_all():
        if ref not in before:
            ref.stop(timeout=LIMIT)
    assert ActorRegistry.names() == []


# Start


def test_start_returns_after_on_start_has() -> None:
    class Slow(Doer):
        def on_start(self) -> None:
            self.diary.append("started")

    diary: list[Any] = []
    Slow.start(diary)
    assert diary == ["started"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), Exit()])
def test_a_failing_on_start_reaches_the_starter_and_leaves_nothing(error: BaseException) -> None:
    diary: list[Any] = []
    refs: list[Any] = []

    class Failing(Doer):
        def on_start(self) -> None:
            self.register(":failing")
            refs.append(self.actor_ref)
            raise error

    with pytest.raises(StartFailed) as caught:
        Failing.start(diary)
    assert caught.value.cause is error
    assert caught.value.__cause__ is error
    assert diary == ["about_to_close"]
    assert ActorRegistry.get_by_name(":failing") is None
    assert refs[0] not in pykka.ActorRegistry.get_all()
    assert not refs[0].is_alive()
    assert end_of(refs[0]).get(timeout=LIMIT).reason == "noproc"


def test_a_taken_name_says_who_has_it() -> None:
    class Named(Doer):
        def on_start(self) -> None:
            self.register(":named")

    first = Named.start()
    with pytest.raises(StartFailed) as caught:
        Named.start()
    assert isinstance(caught.value.cause, AlreadyStarted)
    assert caught.value.cause.ref is first


def test_a_process_runs_on_a_daemon_thread() -> None:
    assert Doer.start().ask(lambda _: threading.current_thread().daemon, timeout=LIMIT)


# Messages


def test_ask_tell_and_proxies_work_as_in_pykka() -> None:
    ref = Doer.start()
    assert ref.ask(lambda _: 5, timeout=LIMIT) == 5
    ref.tell("told")
    proxy = ref.proxy()
    assert proxy.answer(6).get(timeout=LIMIT) == 6
    assert proxy.diary.get(timeout=LIMIT) == ["told"]
    proxy.diary = ["new"]
    assert proxy.diary.get(timeout=LIMIT) == ["new"]
    with pytest.raises(TypeError):
        proxy.answer().get(timeout=LIMIT)


def test_an_exception_under_ask_goes_to_the_caller_and_the_process_lives() -> None:
    ref = Doer.start()
    with pytest.raises(ValueError):
        ref.ask(raising(ValueError()), timeout=LIMIT)
    assert ref.ask(lambda _: "alive", timeout=LIMIT) == "alive"


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_base_exception_under_ask_ends_the_process_but_not_the_caller(
    error: BaseException,
) -> None:
    bystander = Doer.start()
    ref = Doer.start()
    downs = end_of(ref)
    with pytest.raises(pykka.ActorDeadError) as caught:
        ref.ask(raising(error), timeout=LIMIT)
    assert isinstance(caught.value, ProcessDown)
    assert caught.value.reason is error
    assert downs.get(timeout=LIMIT) == Down(ref, error)
    assert bystander.ask(lambda _: "alive", timeout=LIMIT) == "alive"


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(1), KeyboardInterrupt()])
def test_an_exception_under_tell_is_the_exit_reason(error: BaseException) -> None:
    bystander = Doer.start()
    diary: list[Any] = []
    ref = Doer.start(diary)
    downs = end_of(ref)
    ref.tell(raising(error))
    assert downs.get(timeout=LIMIT).reason is error
    assert diary == [("on_failure", error), "about_to_close"]
    assert bystander.is_alive()


def test_a_deferred_reply_comes_later_and_others_are_served_meanwhile() -> None:
    ref = Doer.start()
    kept: list[OneLockFuture[Any]] = []

    def keep(process: Process) -> Any:
        assert process.reply_to is not None
        kept.append(process.reply_to)
        return DEFERRED

    answer = ref.ask(keep, block=False)
    assert ref.ask(lambda p: p.reply_to is not kept[0], timeout=LIMIT)
    ref.tell(lambda p: p.diary.append(p.reply_to))
    assert ref.ask(lambda p: p.diary, timeout=LIMIT) == [None]
    kept[0].set("at last")
    assert answer.get(timeout=LIMIT) == "at last"
    assert ref.ask(lambda p: len(p._deferred), timeout=LIMIT) == 0


def test_a_caller_whose_reply_was_deferred_learns_of_the_end() -> None:
    ref = Doer.start()
    answer = ref.ask(lambda _: DEFERRED, block=False)
    ref.tell(raising(Exit("shutdown")))
    with pytest.raises(ProcessDown) as caught:
        answer.get(timeout=LIMIT)
    assert caught.value.reason == "shutdown"


def test_a_second_reply_does_not_hurt_the_process() -> None:
    ref = Doer.start()

    def twice(process: Process) -> str:
        assert process.reply_to is not None
        process.reply_to.set("first")
        return "second"

    assert ref.ask(twice, timeout=LIMIT) == "first"
    assert ref.ask(lambda _: "alive", timeout=LIMIT) == "alive"


def test_a_message_object_in_the_mailbox_is_received_as_it_is() -> None:
    diary: list[Any] = []
    ref = Doer.start(diary)
    ActorRegistry.register_name(":doer", ref)
    note = Note()
    ActorRegistry.deliver(":doer", note)
    assert ref.ask(lambda _: list(diary), timeout=LIMIT) == [note]


def test_a_message_object_that_a_process_does_not_know_is_refused() -> None:
    ref = Process.start()
    note = Note()
    ref.actor_inbox.put(note)  # type: ignore[arg-type]
    assert note.reasons.get(timeout=LIMIT) == "noproc"


# Exits


def test_pykkas_stop_is_a_normal_exit() -> None:
    diary: list[Any] = []
    ref = Doer.start(diary)
    downs = end_of(ref)
    assert ref.stop(timeout=LIMIT) is True
    assert diary == ["on_stop", "about_to_close"]
    assert downs.get(timeout=LIMIT) == Down(ref, "normal")
    assert ref.stop(timeout=LIMIT) is False


def test_a_process_can_stop_itself() -> None:
    ref = Doer.start()
    downs = end_of(ref)
    ref.tell(lambda process: process.stop())
    assert downs.get(timeout=LIMIT).reason == "normal"


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", 7), "killed", "odd", 4])
def test_exit_ends_the_process_with_its_reason(reason: object) -> None:
    diary: list[Any] = []
    ref = Doer.start(diary)
    downs = end_of(ref)
    ref.tell(raising(Exit(reason)))
    assert downs.get(timeout=LIMIT).reason == reason
    if is_orderly(reason):
        assert diary == ["on_stop", "about_to_close"]
    else:
        [(callback, error), _] = diary
        assert callback == "on_failure"
        assert isinstance(error, Exit)
        assert error.reason == reason


def test_exit_under_ask_ends_the_process_and_tells_the_caller() -> None:
    ref = Doer.start()
    with pytest.raises(ProcessDown) as caught:
        ref.ask(raising(Exit(("shutdown", 1))), timeout=LIMIT)
    assert caught.value.reason == ("shutdown", 1)
    assert not ref.is_alive()


def test_an_exit_signal_overtakes_the_backlog() -> None:
    diary: list[Any] = []
    ref = Doer.start(diary)
    gate, downs = Gate(), end_of(ref)
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    for number in range(1000):
        ref.tell(number)
    send_exit(ref, "shutdown")
    gate.opened.set()
    assert downs.get(timeout=LIMIT).reason == "shutdown"
    assert diary == ["on_stop", "about_to_close"]
    send_exit(ref, "killed")


def test_a_stop_overtakes_the_backlog_whose_callers_are_answered() -> None:
    ref = Doer.start()
    gate, note = Gate(), Note()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    asks = [ref.ask(str, block=False) for _ in range(100)]
    ref.actor_inbox.put(note)  # type: ignore[arg-type]
    stops = [ref.stop(block=False) for _ in range(3)]
    gate.opened.set()
    assert [stop.get(timeout=LIMIT) for stop in stops] == [True] * 3
    for ask in asks:
        with pytest.raises(ProcessDown):
            ask.get(timeout=LIMIT)
    assert note.reasons.get(timeout=LIMIT) == "normal"


def test_who_asked_for_the_stop_is_answered_after_everything_is_free() -> None:
    class Named(Doer):
        def on_start(self) -> None:
            self.register(":named")

        def about_to_close(self) -> None:
            self.diary.append(stop.done())

    diary: list[Any] = []
    ref = Named.start(diary)
    gate = Gate()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    stop: Any = ref.ask(_ActorStop(), block=False)
    gate.opened.set()
    assert stop.get(timeout=LIMIT) is None
    assert ActorRegistry.get_by_name(":named") is None
    assert diary == ["on_stop", False]
    for _ in range(50):
        assert Named.start().stop(timeout=LIMIT)


def test_the_starter_learns_of_a_failed_start_after_everything_is_free() -> None:
    class Failing(Doer):
        def on_start(self) -> None:
            raise ValueError

        def about_to_close(self) -> None:
            self.diary.append(self._started.done())

    diary: list[Any] = []
    with pytest.raises(StartFailed):
        Failing.start(diary)
    assert diary == [False]


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(2)])
def test_a_failing_on_stop_changes_an_orderly_reason(error: BaseException) -> None:
    class Failing(Process):
        def on_stop(self) -> None:
            raise error

    ref = Failing.start()
    downs = end_of(ref)
    assert ref.stop(timeout=LIMIT)
    assert downs.get(timeout=LIMIT).reason is error


def test_a_failing_on_failure_does_not_change_the_reason() -> None:
    class Failing(Doer):
        def on_failure(self, *_: Any) -> None:
            raise SystemExit(9)

        def about_to_close(self) -> None:
            raise KeyboardInterrupt

    error = ValueError("v")
    ref = Failing.start()
    ActorRegistry.register_name(":failing", ref)
    downs = end_of(ref)
    ref.tell(raising(error))
    assert downs.get(timeout=LIMIT).reason is error
    assert ActorRegistry.get_by_name(":failing") is None


def test_a_failure_is_logged_and_an_orderly_exit_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    orderly, failing = Doer.start(), Doer.start()
    orderly.stop(timeout=LIMIT)
    assert caplog.records == []
    downs = end_of(failing)
    failing.tell(raising(ValueError("boom")))
    downs.get(timeout=LIMIT)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("exraft.actors", logging.ERROR)
    assert "boom" in caplog.text


def test_death_has_an_order() -> None:
    diary: list[Any] = []

    class Ordered(Doer):
        def on_start(self) -> None:
            self.register(":ordered")

        def look(self, when: str) -> None:
            listed = self.actor_ref in pykka.ActorRegistry.get_all()
            try:
                ActorRegistry.register_name(":ordered", other)
                ActorRegistry.unregister_name(":ordered")
                taken = False
            except AlreadyStarted:
                taken = True
            diary.append((when, self.actor_ref.is_alive() or listed, taken))

        def on_stop(self) -> None:
            self.look("on_stop")

        def about_to_close(self) -> None:
            self.look("about_to_close")

    class Leftover:
        def refuse(self, reason: object) -> None:
            diary.append(("refused", reason, ActorRegistry.get_by_name(":ordered")))

    other = Doer.start()
    ref = Ordered.start()
    gate = Gate()
    ref.tell(gate)
    gate.entered.wait(LIMIT)
    ref.actor_inbox.put(Leftover())  # type: ignore[arg-type]
    stop = ref.ask(raising(Exit("shutdown")), block=False)
    assert isinstance(stop, OneLockFuture)
    told = threading.Event()
    stop.on_done(lambda _: diary.append("answered"))

    def be_told(down: Down) -> None:
        diary.append(down.reason)
        told.set()

    monitor(ref, be_told)
    send_exit(ref, "shutdown")
    gate.opened.set()
    assert told.wait(LIMIT)
    assert diary == [
        ("on_stop", False, True),
        ("about_to_close", False, True),
        ("refused", "shutdown", None),
        "answered",
        "shutdown",
    ]


def test_no_ask_that_races_a_stop_is_lost() -> None:
    for _ in range(100):
        ref = Doer.start()
        start = threading.Barrier(3)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(
            ref: Any = ref,
            start: threading.Barrier = start,
            answers: queue.SimpleQueue[Any] = answers,
        ) -> None:
            start.wait(LIMIT)
            for _ in range(30):
                answers.put(ref.ask(lambda _: "yes", block=False))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        start.wait(LIMIT)
        ref.stop(timeout=LIMIT)
        for _ in range(60):
            try:
                assert answers.get(timeout=LIMIT).get(timeout=LIMIT) == "yes"
            except pykka.ActorDeadError:
                continue


def test_stop_all_stops_processes_and_plain_actors_alike() -> None:
    refs: list[pykka.ActorRef[Any]] = [Doer.start(), pykka.ThreadingActor.start(), Doer.start()]
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    assert [ref.is_alive() for ref in refs] == [False] * 3


def test_the_reference_does_not_keep_a_dead_process_in_memory() -> None:
    ref = Doer.start()
    actor = ref._actor_weakref
    [thread] = [t for t in threading.enumerate() if t.name.startswith("Doer-")]
    ref.stop(timeout=LIMIT)
    thread.join(LIMIT)
    del thread
    gc.collect()
    assert actor() is None
    assert end_of(ref).get(timeout=LIMIT) == Down(ref, "noproc")


# The clock


class Clock(Doer):
    """Has a deadline a moment ahead, and notes when it comes."""

    next: float | None = None

    def deadline(self) -> float | None:
        return self.next

    def on_deadline(self, now: float) -> None:
        assert self.next is not None
        assert now >= self.next
        self.next = None
        self.diary.append("tick")
        self.came.set()

    def __init__(self, diary: list[Any]) -> None:
        super().__init__(diary)
        self.came = threading.Event()

    def set_clock(self, seconds: float) -> None:
        self.next = time.monotonic() + seconds


def test_a_deadline_comes_to_an_idle_process() -> None:
    diary: list[Any] = []
    ref = Clock.start(diary)
    came = ref.proxy().came.get(timeout=LIMIT)
    ref.tell(lambda process: process.set_clock(0.001))
    assert came.wait(LIMIT)
    assert ref.ask(lambda _: list(diary), timeout=LIMIT) == ["tick"]


def test_messages_that_wait_are_handled_before_the_deadline_is_judged() -> None:
    diary: list[Any] = []
    ref = Clock.start(diary)
    came = ref.proxy().came.get(timeout=LIMIT)
    gate = Gate()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    ref.tell(lambda process: process.set_clock(-1.0))
    for number in range(5):
        ref.tell(number)
    gate.opened.set()
    assert came.wait(LIMIT)
    assert diary == [0, 1, 2, 3, 4, "tick"]


def test_a_deadline_comes_under_load_too() -> None:
    diary: list[Any] = []
    ref = Clock.start(diary)
    came = ref.proxy().came.get(timeout=LIMIT)
    gate = Gate()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    ref.tell(lambda process: process.set_clock(-1.0))
    for number in range(1000):
        ref.tell(number)
    gate.opened.set()
    assert came.wait(LIMIT)
    assert diary.index("tick") <= 200


def test_an_exception_at_the_deadline_is_the_exit_reason() -> None:
    class Failing(Clock):
        def on_deadline(self, now: float) -> None:
            raise Exit("shutdown")

    ref = Failing.start([])
    downs = end_of(ref)
    ref.tell(lambda process: process.set_clock(0.0))
    assert downs.get(timeout=LIMIT).reason == "shutdown"


# A loop of its own


def test_a_loop_of_its_own_takes_batches_and_hands_back_what_it_did_not_handle() -> None:
    class Batching(Doer):
        def run(self) -> None:
            while True:
                batch = [self.actor_inbox.get(), *self.actor_inbox.take(50)]
                while batch:
                    item = batch.pop(0)
                    try:
                        self.receive(item)
                    except BaseException:
                        self.hand_back(batch)
                        raise

    ref = Batching.start()
    gate, note = Gate(), Note()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    ref.tell(raising(ValueError("in the middle of a batch")))
    ask = ref.ask(str, block=False)
    ref.actor_inbox.put(note)  # type: ignore[arg-type]
    gate.opened.set()
    with pytest.raises(ProcessDown):
        ask.get(timeout=LIMIT)
    assert isinstance(note.reasons.get(timeout=LIMIT), ValueError)


def test_messages_may_be_passed_on_at_the_end_but_asks_and_stops_are_answered() -> None:
    passed_on: list[Any] = []

    class Passing(Doer):
        def about_to_close(self) -> None:
            self.actor_inbox.undelivered = passed_on.append

    ref = Passing.start()
    gate, note = Gate(), Note()
    ref.tell(gate)
    assert gate.entered.wait(LIMIT)
    ref.actor_inbox.put(note)  # type: ignore[arg-type]
    ask = ref.ask(str, block=False)
    stops = [ref.stop(block=False) for _ in range(2)]
    gate.opened.set()
    assert [stop.get(timeout=LIMIT) for stop in stops] == [True, True]
    with pytest.raises(ProcessDown):
        ask.get(timeout=LIMIT)
    assert passed_on == [note]
    ref.actor_inbox.put("late")  # type: ignore[arg-type]
    assert passed_on == [note, "late"]


def test_a_loop_of_its_own_that_returns_ends_normally() -> None:
    class Brief(Process):
        def run(self) -> None:
            self.actor_inbox.get()

    ref = Brief.start()
    downs = end_of(ref)
    ref.tell("enough")
    assert downs.get(timeout=LIMIT).reason == "normal"
