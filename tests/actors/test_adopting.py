from __future__ import annotations

import gc
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pykka
import pytest

from exraft.actors import fence, lineage
from exraft.actors.adopting import adopt
from exraft.actors.ending import kill, send, send_exit
from exraft.actors.exits import Exit, Ignore, Order
from exraft.actors.mailbox import Mailbox, ProcessDown
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry
from exraft.actors.watching import Down, ProcessRef, monitor
from exraft.errors import AlreadyStarted, StartFailed
from tests.helpers import LIMIT, Gate, in_thread, outcome, wait_until

FATAL = [SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
ANY = [ValueError("v"), *FATAL]


class Worker(pykka.ThreadingActor):
    """Knows nothing of this package. Does what it is told: a message takes the worker."""

    def __init__(self, diary: list[Any] | None = None, **hooks: Callable[[Any], object]) -> None:
        super().__init__()
        self.diary: list[Any] = [] if diary is None else diary
        self._hooks = hooks

    def _hook(self, name: str) -> None:
        self._hooks.get(name, lambda _: None)(self)

    def on_start(self) -> None:
        self._hook("on_start")

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.diary.append(message)
        return None

    def on_stop(self) -> None:
        self.diary.append("on_stop")
        self._hook("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.diary.append(("on_failure", exception_value))
        self._hook("on_failure")

    def twice(self, number: int) -> int:
        return 2 * number

    def fail(self, error: BaseException) -> None:
        raise error


def start(diary: list[Any] | None = None, **hooks: Callable[[Any], object]) -> ProcessRef[Any]:
    return adopt(Worker, (diary,), hooks)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(_: Any) -> Any:
        raise error

    return act


def through(gate: Gate) -> Callable[[Any], Any]:
    return lambda _: gate.pass_through()


def downs_of(ref: pykka.ActorRef[Any]) -> queue.SimpleQueue[Down]:
    downs: queue.SimpleQueue[Down] = queue.SimpleQueue()
    monitor(ref, downs.put)
    return downs


def reason_of(downs: queue.SimpleQueue[Down]) -> object:
    """The reason of the one and only news."""
    reason = downs.get(timeout=LIMIT).reason
    await_no_thread()
    assert downs.empty()
    return reason


def workers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("Worker-")]


def await_no_thread() -> None:
    wait_until(lambda: not workers(), "the threads of all workers have ended")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(pykka.ActorRegistry.get_all())
    yield
    for ref in set(pykka.ActorRegistry.get_all()) - before:
        ref.stop(timeout=LIMIT)
    await_no_thread()
    assert ActorRegistry.names() == []
    assert not fence.threads


# Start


def test_it_is_made_in_the_callers_thread_and_started_in_its_own() -> None:
    made: list[Any] = []

    class Noting(Worker):
        def __init__(self, *args: Any, key: str) -> None:
            super().__init__()
            made.append((args, key, threading.current_thread()))

        def on_start(self) -> None:
            self.diary.append(threading.current_thread())

    ref = adopt(Noting, (1, 2), {"key": "k"})
    assert made == [((1, 2), "k", threading.current_thread())]
    [thread] = ref.proxy().diary.get(timeout=LIMIT)
    assert thread is not threading.current_thread()
    assert thread.daemon
    ref.stop(timeout=LIMIT)


def test_adopt_returns_after_on_start_has() -> None:
    gate, refs = Gate(), queue.SimpleQueue[Any]()
    with in_thread(lambda: refs.put(start(on_start=through(gate)))):
        gate.await_someone()
        assert refs.empty()
        gate.open()
    assert refs.get(timeout=LIMIT).is_alive()


def test_pykka_knows_it_by_its_own_class() -> None:
    ref = start()
    assert pykka.ActorRegistry.get_by_class(Worker) == [ref]
    assert ref.ask(lambda worker: type(worker), timeout=LIMIT) is Worker


@pytest.mark.parametrize("error", [*ANY, Ignore(), Exit()])
def test_a_failing_on_start_reaches_the_starter_and_leaves_nothing(error: BaseException) -> None:
    refs: list[Any] = []
    diary: list[Any] = []

    def fail(worker: Worker) -> None:
        refs.append(worker.actor_ref)
        downs.append(downs_of(worker.actor_ref))
        ActorRegistry.register_name(":failing", worker.actor_ref)
        raise error

    downs: list[queue.SimpleQueue[Down]] = []
    bystander = pykka.ThreadingActor.start()
    with pytest.raises(StartFailed) as caught:
        start(diary, on_start=fail)
    assert caught.value.name == "Worker"
    assert caught.value.cause is error
    assert refs[0] not in pykka.ActorRegistry.get_all()
    assert not refs[0].is_alive()
    assert ActorRegistry.get_by_name(":failing") is None
    assert reason_of(downs[0]) is error
    assert diary == []
    assert bystander.is_alive()


@pytest.mark.parametrize("error", ANY)
def test_a_failing_constructor_reaches_the_starter(error: BaseException) -> None:
    asked: list[pykka.Future[Any]] = []

    class Failing(Worker):
        def __init__(self) -> None:
            super().__init__()
            asked.append(self.actor_ref.ask("anybody there?", block=False))
            raise error

    with pytest.raises(StartFailed) as caught:
        adopt(Failing)
    assert caught.value.cause is error
    assert pykka.ActorRegistry.get_by_class(Failing) == []
    with pytest.raises(ProcessDown):
        asked[0].get(timeout=LIMIT)


def test_a_thread_that_cannot_be_had_reaches_the_starter() -> None:
    refs: list[Any] = []

    class Threadless(Worker):
        def _start_actor_loop(self) -> None:
            refs.append(self.actor_ref)
            downs.append(downs_of(self.actor_ref))
            raise RuntimeError("can't start new thread")

    downs: list[queue.SimpleQueue[Down]] = []
    with pytest.raises(StartFailed, match="can't start new thread") as caught:
        adopt(Threadless)
    assert reason_of(downs[0]) is caught.value.cause
    assert refs[0] not in pykka.ActorRegistry.get_all()


def test_a_constructor_that_does_not_call_pykkas_is_told_so() -> None:
    class Forgetful(pykka.ThreadingActor):
        def __init__(self) -> None:
            pass

    with pytest.raises(StartFailed, match="super"):
        adopt(Forgetful)


@pytest.mark.parametrize("cls", [Process, pykka.Actor, int, "Worker", Worker.start])
def test_what_is_no_class_of_plain_actors_is_refused(cls: Any) -> None:
    with pytest.raises(TypeError):
        adopt(cls)


def test_a_reference_from_the_constructor_is_the_one_that_is_returned() -> None:
    class Leaking(Worker):
        def __init__(self, leaked: list[Any]) -> None:
            super().__init__()
            leaked.append(self.actor_ref)
            self.actor_ref.tell("first")
            self._later = self.actor_ref.proxy()

        def by_itself(self) -> pykka.Future[int]:
            return self._later.twice(4)  # type: ignore[no-any-return]

    leaked: list[Any] = []
    ref = adopt(Leaking, (leaked,))
    assert leaked == [ref]
    assert type(ref) is ProcessRef
    assert ref.ask(lambda worker: worker.actor_ref, timeout=LIMIT) is ref
    assert ref.proxy().diary.get(timeout=LIMIT) == ["first"]
    assert ref.proxy().by_itself().get(timeout=LIMIT).get(timeout=LIMIT) == 8
    ref.stop(timeout=LIMIT)


def test_an_inbox_of_its_own_is_replaced_by_one_that_can_be_closed() -> None:
    class Own(Worker):
        @staticmethod
        def _create_actor_inbox() -> Any:
            return queue.LifoQueue()

    ref = adopt(Own)
    assert ref.ask(lambda _: "heard", timeout=LIMIT) == "heard"
    ref.stop(timeout=LIMIT)


def test_its_lineage_is_that_of_our_processes() -> None:
    class Parent(Process):
        def on_receive(self, message: Any) -> Any:
            return start(on_start=lambda worker: worker.diary.append(lineage.waiting_for_me()))

    parent = Parent.start()
    ref: Any = parent.ask("have a child", timeout=LIMIT)
    here = ref.ask(lambda _: (lineage.current(), lineage.here()), timeout=LIMIT)
    assert here == (ref, (ref, parent))
    assert ref.ask(lambda worker: worker.diary, timeout=LIMIT) == [(ref, parent)]
    assert ref.ask(lambda _: lineage.waiting_for_me(), timeout=LIMIT) == (ref,)
    parent.stop(timeout=LIMIT)


# Messages


def test_ask_tell_and_proxies_work_as_in_pykka() -> None:
    ref = start()
    assert ref.ask(lambda _: 5, timeout=LIMIT) == 5
    ref.tell("told")
    proxy = ref.proxy()
    assert proxy.twice(4).get(timeout=LIMIT) == 8
    assert proxy.diary.get(timeout=LIMIT) == ["told"]
    proxy.diary = ["new"]
    assert proxy.diary.get(timeout=LIMIT) == ["new"]


def test_an_exception_under_ask_or_proxy_goes_to_the_caller_and_it_lives() -> None:
    ref = start()
    error = ValueError("v")
    assert outcome(lambda: ref.ask(raising(error), timeout=LIMIT)) is error
    assert outcome(lambda: ref.proxy().fail(error).get(timeout=LIMIT)) is error
    assert ref.ask(lambda _: "alive", timeout=LIMIT) == "alive"


def test_an_exception_under_tell_is_the_exit_reason_and_on_failure_hears_of_it() -> None:
    diary: list[Any] = []
    ref = start(diary)
    downs, error = downs_of(ref), ValueError("v")
    ref.tell(raising(error))
    assert reason_of(downs) is error
    assert diary == [("on_failure", error)]


def test_an_exception_of_a_proxys_deferred_call_is_the_exit_reason() -> None:
    ref = start()
    downs, error = downs_of(ref), ValueError("v")
    ref.proxy().fail.defer(error)
    assert reason_of(downs) is error


@pytest.mark.parametrize("error", FATAL)
@pytest.mark.parametrize("how", ["tell", "ask", "proxy"])
def test_a_base_exception_ends_this_actor_only(error: BaseException, how: str) -> None:
    bystanders = [pykka.ThreadingActor.start(), start()]
    diary: list[Any] = []
    ref = start(diary)
    downs = downs_of(ref)
    if how == "tell":
        ref.tell(raising(error))
    else:
        with pytest.raises(ProcessDown) as caught:
            if how == "ask":
                ref.ask(raising(error), timeout=LIMIT)
            else:
                ref.proxy().fail(error).get(timeout=LIMIT)
        assert caught.value.reason is error
    assert downs.get(timeout=LIMIT) == Down(ref, error)
    assert diary == ["on_stop"]
    assert all(each.is_alive() for each in bystanders)


def test_a_message_object_put_in_as_it_is_comes_to_on_receive() -> None:
    diary: list[Any] = []
    ref, other = start(diary), start()
    send(ref, "as it is")
    monitor(other, lambda down: send(ref, down))
    other.stop(timeout=LIMIT)
    wait_until(lambda: len(diary) == 2, "the Down has come")
    assert diary == ["as it is", Down(other, "normal")]


class Question:
    def __init__(self, error: Exception | None = None) -> None:
        self.reasons: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.error = error

    def refuse(self, reason: object) -> None:
        self.reasons.put(reason)
        if self.error is not None:
            raise self.error


def test_a_message_object_that_wants_an_answer_of_ours_is_refused() -> None:
    diary: list[Any] = []
    ref = start(diary)
    question = Question(ValueError("a refusal that fails does no harm"))
    send(ref, question)
    assert question.reasons.get(timeout=LIMIT) == "noproc"
    assert ref.ask(lambda _: "alive", timeout=LIMIT) == "alive"
    assert diary == []


# Ends


def test_a_stop_is_a_normal_end() -> None:
    diary: list[Any] = []
    ref = start(diary)
    downs = downs_of(ref)
    assert ref.stop(timeout=LIMIT) is True
    assert reason_of(downs) == "normal"
    assert diary == ["on_stop"]
    assert ref.stop(timeout=LIMIT) is False


@pytest.mark.parametrize("ask", [True, False])
def test_it_can_stop_itself(ask: bool) -> None:
    diary: list[Any] = []
    ref = start(diary)
    downs = downs_of(ref)
    if ask:
        assert ref.ask(lambda worker: worker.stop(), timeout=LIMIT) is None
    else:
        ref.tell(lambda worker: worker.stop())
    assert reason_of(downs) == "normal"
    assert diary == ["on_stop"]


def test_it_can_stop_itself_in_on_start() -> None:
    diary: list[Any] = []
    downs = downs_of(start(diary, on_start=lambda worker: worker.stop()))
    assert downs.get(timeout=LIMIT).reason in ("normal", "noproc")
    await_no_thread()
    assert diary == ["on_stop"]


def test_it_can_stop_at_once_by_the_flag_as_in_pykka() -> None:
    diary: list[Any] = []
    ref = start(diary)
    downs = downs_of(ref)
    assert ref.ask(lambda worker: worker.actor_stopped.set() or "set", timeout=LIMIT) == "set"
    assert reason_of(downs) == "normal"
    assert diary == []
    assert ref not in pykka.ActorRegistry.get_all()


def test_pykkas_own_immediate_stop_calls_on_stop_once() -> None:
    diary: list[Any] = []
    ref = start(diary)
    downs = downs_of(ref)
    assert ref.ask(lambda worker: worker._stop() or "stopped", timeout=LIMIT) == "stopped"
    assert reason_of(downs) == "normal"
    assert diary == ["on_stop"]


def test_an_immediate_stop_before_a_base_exception_is_not_repeated() -> None:
    def act(worker: Worker) -> None:
        worker._stop()
        raise error

    diary: list[Any] = []
    ref = start(diary)
    downs, error = downs_of(ref), SystemExit(3)
    ref.tell(act)
    assert reason_of(downs) is error
    assert diary == ["on_stop"]


def test_an_immediate_stop_whose_on_stop_fails_is_a_failure() -> None:
    error = ValueError("v")
    ref = start(on_stop=raising(error))
    downs = downs_of(ref)
    ref.tell(lambda worker: worker._stop())
    assert reason_of(downs) is error


@pytest.mark.parametrize("error", ANY)
def test_a_failing_on_stop_changes_the_reason(error: BaseException) -> None:
    ref = start(on_stop=raising(error))
    downs = downs_of(ref)
    assert ref.stop(timeout=LIMIT) is True
    assert reason_of(downs) is error


@pytest.mark.parametrize("error", ANY)
def test_a_failing_on_failure_does_not_change_the_reason(error: BaseException) -> None:
    first = ValueError("first")
    ref = start(on_failure=raising(error))
    downs = downs_of(ref)
    ref.tell(raising(first))
    assert reason_of(downs) is first


@pytest.mark.parametrize("error", ANY)
def test_an_on_stop_that_fails_after_a_base_exception_does_not_change_the_reason(
    error: BaseException,
) -> None:
    first = SystemExit("first")
    ref = start(on_stop=raising(error))
    downs = downs_of(ref)
    ref.tell(raising(first))
    assert reason_of(downs) is first


def test_on_failure_finds_the_exception_where_pykka_leaves_it() -> None:
    seen: list[Any] = []
    ref = start(on_failure=lambda _: seen.append(sys.exc_info()[1]))
    downs, error = downs_of(ref), ValueError("v")
    ref.tell(raising(error))
    assert reason_of(downs) is error
    assert seen == [error]


@pytest.mark.parametrize("reason", ["shutdown", ("shutdown", 3), "normal", ValueError("linked")])
@pytest.mark.parametrize("order", [True, False])
def test_an_order_overtakes_the_backlog_and_its_reason_is_the_exit_reason(
    reason: object, order: bool
) -> None:
    diary: list[Any] = []
    ref = start(diary)
    gate, downs = Gate(), downs_of(ref)
    ref.tell(through(gate))
    gate.await_someone()
    for number in range(100):
        ref.tell(number)
    if order:
        send(ref, Order(reason, LIMIT))
    else:
        send_exit(ref, reason)
    gate.open()
    assert reason_of(downs) == reason
    assert diary == ["on_stop"]


def test_an_order_that_meets_a_failing_on_stop_is_not_the_reason() -> None:
    error = ValueError("v")
    ref = start(on_stop=raising(error))
    downs = downs_of(ref)
    send(ref, Order("shutdown", None))
    assert reason_of(downs) is error


def test_the_normal_end_of_who_is_linked_to_it_does_not_end_it() -> None:
    class Linker(Process):
        def on_receive(self, message: Any) -> Any:
            return self.link(message)

    linker, ref = Linker.start(), start()
    linker.ask(ref, timeout=LIMIT)
    linker.stop(timeout=LIMIT)
    assert ref.ask(lambda _: "alive", timeout=LIMIT) == "alive"


def test_who_is_linked_to_it_and_fails_ends_it() -> None:
    class Linker(Process):
        def on_receive(self, message: Any) -> Any:
            self.link(message)
            raise SystemExit(3)

    linker, ref = Linker.start(), start()
    downs = downs_of(ref)
    linker.tell(ref)
    reason = reason_of(downs)
    assert isinstance(reason, SystemExit)


def test_stop_all_stops_it_with_all_others() -> None:
    refs = [start(), pykka.ThreadingActor.start(), start()]
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    assert not any(ref.is_alive() for ref in refs)


def test_death_has_an_order() -> None:
    diary: list[Any] = []

    def look(worker: Worker) -> None:
        listed = worker.actor_ref in pykka.ActorRegistry.get_all()
        diary.append((listed, worker.actor_ref.is_alive(), name_is_taken()))

    def name_is_taken() -> bool:
        try:
            ActorRegistry.register_name(":worker", other)
        except AlreadyStarted:
            return True
        ActorRegistry.unregister_name(":worker")
        return False

    class Leftover:
        def refuse(self, reason: object) -> None:
            diary.append(("refused", reason, name_is_taken()))

    other = start()
    ref = start(diary, on_stop=look)
    ActorRegistry.register_name(":worker", ref)
    told, gate = threading.Event(), Gate()
    ref.tell(through(gate))
    gate.await_someone()
    send(ref, Leftover())
    asked = ref.ask("never handled", block=False)
    stop = ref.stop(block=False)

    def be_told(down: Down) -> None:
        diary.append(("told", down.reason, name_is_taken()))
        # They are answered already: this does not wait.
        diary.append((type(outcome(lambda: asked.get(timeout=0))), stop.get(timeout=0)))
        told.set()

    monitor(ref, be_told)
    gate.open()
    assert told.wait(LIMIT)
    assert diary == [
        "on_stop",
        (False, False, True),
        ("refused", "normal", False),
        ("told", "normal", False),
        (ProcessDown, True),
    ]


def test_who_stopped_it_is_answered_after_its_name_is_free() -> None:
    for _ in range(50):
        ref = start()
        ActorRegistry.register_name(":worker", ref)
        assert ref.stop(timeout=LIMIT)


def test_who_is_told_of_its_failure_can_start_a_successor_by_the_same_name() -> None:
    successors: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def named(worker: Worker) -> None:
        ActorRegistry.register_name(":worker", worker.actor_ref)

    ref = start(on_start=named)
    monitor(ref, lambda _: successors.put(outcome(lambda: start(on_start=named))))
    ref.tell(raising(ValueError("v")))
    successor = successors.get(timeout=LIMIT)
    assert ActorRegistry.get_by_name(":worker") is successor


def test_no_ask_that_races_a_stop_is_lost() -> None:
    for _ in range(100):
        ref = start()
        line = threading.Barrier(3)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(ref: Any = ref, line: Any = line, answers: Any = answers) -> None:
            line.wait(LIMIT)
            for _ in range(50):
                answers.put(ref.ask(lambda _: "yes", block=False))

        with in_thread(ask), in_thread(ask):
            line.wait(LIMIT)
            assert ref.stop(timeout=LIMIT)
        for _ in range(100):
            answer = answers.get(timeout=LIMIT)
            with suppress(pykka.ActorDeadError):
                assert answer.get(timeout=LIMIT) == "yes"


def test_no_ask_that_races_a_failure_or_a_kill_is_lost() -> None:
    for turn in range(100):
        ref = start()
        downs = downs_of(ref)
        line = threading.Barrier(3)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(ref: Any = ref, line: Any = line, answers: Any = answers) -> None:
            line.wait(LIMIT)
            for _ in range(50):
                answers.put(ref.ask(lambda _: "yes", block=False))

        with in_thread(ask), in_thread(ask):
            line.wait(LIMIT)
            if turn % 2:
                kill(ref)
            else:
                ref.tell(raising(SystemExit()))
        for _ in range(100):
            answer = answers.get(timeout=LIMIT)
            with suppress(pykka.ActorDeadError):
                assert answer.get(timeout=LIMIT) == "yes"
        reason_of(downs)


def test_an_end_and_a_kill_that_meet_are_told_once() -> None:
    for turn in range(200):
        ref = start()
        downs = downs_of(ref)
        line = threading.Barrier(2)

        def strike(ref: Any = ref, line: Any = line) -> None:
            line.wait(LIMIT)
            kill(ref)

        with in_thread(strike):
            line.wait(LIMIT)
            if turn % 2:
                send(ref, Order("shutdown", LIMIT))
            else:
                with suppress(pykka.ActorDeadError):
                    ref.tell(raising(SystemExit()))
        reason = reason_of(downs)
        assert reason in ("shutdown", "killed") or isinstance(reason, SystemExit)


# Reports


@pytest.mark.parametrize(
    "hooks",
    [{}, {"on_stop": raising(ValueError("boom"))}],
)
def test_a_failure_is_logged_once_with_its_traceback(
    hooks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ref = start(**hooks)
    downs = downs_of(ref)
    if hooks:
        ref.stop(timeout=LIMIT)
    else:
        ref.tell(raising(ValueError("boom")))
    reason = reason_of(downs)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("exraft.actors", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is reason
    assert "in act" in caplog.text


def test_an_orderly_end_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    ref = start()
    send(ref, Order("shutdown", LIMIT))
    reason_of(downs_of(ref))
    start().stop(timeout=LIMIT)
    assert caplog.records == []


# Kills


def test_one_that_waits_for_messages_can_be_killed_and_its_thread_ends() -> None:
    diary: list[Any] = []
    ref = start(diary)
    ActorRegistry.register_name(":worker", ref)
    downs = downs_of(ref)
    kill(ref)
    assert downs.get(timeout=LIMIT) == Down(ref, "killed")
    assert ActorRegistry.get_by_name(":worker") is None
    assert ref not in pykka.ActorRegistry.get_all()
    await_no_thread()
    assert diary == []
    assert isinstance(outcome(lambda: ref.ask("?", timeout=LIMIT)), pykka.ActorDeadError)


def test_one_that_hangs_in_a_message_is_killed_and_everybody_is_answered() -> None:
    diary: list[Any] = []
    ref = start(diary)
    gate, downs = Gate(), downs_of(ref)
    handled = ref.ask(through(gate), block=False)
    gate.await_someone()
    waiting = [ref.ask(str, block=False) for _ in range(3)]
    stops = [ref.stop(block=False) for _ in range(2)]
    question = Question()
    send(ref, question)
    kill(ref)
    # At once: it still hangs.
    for answer in (handled, *waiting):
        with pytest.raises(ProcessDown) as caught:
            answer.get(timeout=0)
        assert caught.value.reason == "killed"
    assert [stop.get(timeout=0) for stop in stops] == [True, True]
    assert question.reasons.get_nowait() == "killed"
    assert downs.get_nowait().reason == "killed"
    gate.open()
    await_no_thread()
    assert diary == []
    assert downs.empty()


@pytest.mark.parametrize("where", ["on_stop", "on_failure", "after SystemExit"])
def test_one_that_hangs_at_its_end_is_killed(where: str) -> None:
    gate, diary = Gate(), list[Any]()
    ref = start(diary, on_stop=through(gate), on_failure=through(gate))
    downs, stop = downs_of(ref), None
    if where == "on_stop":
        stop = ref.stop(block=False)
    else:
        ref.tell(raising(ValueError() if where == "on_failure" else SystemExit()))
    gate.await_someone()
    kill(ref)
    assert downs.get_nowait().reason == "killed"
    if stop is not None:
        assert stop.get(timeout=0) is True
    gate.open()
    await_no_thread()
    assert downs.empty()
    assert len(diary) == 1


def test_one_that_hangs_in_on_start_is_killed_and_its_starter_told() -> None:
    gate, refs = Gate(), queue.SimpleQueue[Any]()
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hang(worker: Worker) -> None:
        refs.put(worker.actor_ref)
        gate.pass_through()

    with in_thread(lambda: outcomes.put(outcome(lambda: start(on_start=hang)))):
        gate.await_someone()
        kill(refs.get(timeout=LIMIT))
        failed = outcomes.get(timeout=LIMIT)
    assert isinstance(failed, StartFailed)
    assert failed.cause == "killed"
    gate.open()


@pytest.mark.parametrize("error", [None, *ANY])
def test_who_was_killed_and_wakes_ends_quietly(
    error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    gate, diary = Gate(), list[Any]()
    ref = start(diary)

    def hang(_: Worker) -> str:
        gate.pass_through()
        if error is not None:
            raise error
        return "late"

    answer = ref.ask(hang, block=False)
    gate.await_someone()
    kill(ref)
    gate.open()
    await_no_thread()
    with pytest.raises(ProcessDown):
        answer.get(timeout=LIMIT)
    # What the killer says; the thread says nothing.
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "left behind" in caplog.text
    assert diary == []


def test_who_was_killed_and_wakes_can_do_no_harm() -> None:
    gate, other_diary = Gate(), list[Any]()
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    other = start(other_diary)

    def hang(worker: Worker) -> None:
        # SystemExit is to reach it where it waits: it goes on all the same.
        with suppress(SystemExit):
            gate.pass_through()
        other.tell("from beyond")
        results.put(outcome(lambda: other.ask("from beyond", timeout=LIMIT)))
        results.put(outcome(lambda: ActorRegistry.register_name(":beyond", other)))
        results.put(outcome(start))

    ref = start()
    ref.tell(hang)
    gate.await_someone()
    kill(ref)
    gate.open()
    asked, registered, started = (results.get(timeout=LIMIT) for _ in range(3))
    assert isinstance(asked, ProcessDown)
    assert isinstance(registered, Exit)
    assert isinstance(started, Exit)
    assert other.ask(lambda worker: list(worker.diary), timeout=LIMIT) == []
    other.stop(timeout=LIMIT)


def test_who_is_killed_with_a_message_taken_but_not_begun_does_not_begin_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, diary = Gate(), list[Any]()
    get = Mailbox.get

    def hesitate(inbox: Any, timeout: float | None = None) -> Any:
        item = get(inbox, timeout)
        gate.pass_through()
        return item

    monkeypatch.setattr(Mailbox, "get", hesitate)
    ref = start(diary)
    answer = ref.ask("too late", block=False)
    gate.await_someone()
    kill(ref)
    gate.open()
    with pytest.raises(ProcessDown):
        answer.get(timeout=LIMIT)
    await_no_thread()
    assert diary == []


def test_a_kill_lets_it_give_the_answer_that_it_is_giving() -> None:
    giving, killed = threading.Event(), list[bool]()

    class Slow(pykka.ThreadingFuture[Any]):
        def set(self, value: Any = None) -> None:
            # Interrupted here, it would leave somebody without an answer.
            giving.set()
            while not killed:
                pass
            super().set(value)

    class Answering(Worker):
        @staticmethod
        def _create_future() -> Any:
            return Slow()

    ref = adopt(Answering)
    answer = ref.ask(lambda _: "given", block=False)
    assert giving.wait(LIMIT)
    kill(ref)
    killed.append(True)
    assert answer.get(timeout=LIMIT) == "given"


def test_who_is_killed_when_about_to_tell_its_end_is_heard() -> None:
    diary: list[Any] = []
    gate, ref, watcher = Gate(), start(), start(diary)
    # A monitor as that of a process: the news is a message, and the fenced can send none.
    monitor(ref, lambda down: send(watcher, down))

    class Leftover:
        def refuse(self, reason: object) -> None:
            gate.pass_through()

    held = Gate()
    ref.tell(through(held))
    held.await_someone()
    send(ref, Leftover())
    ref.stop(block=False)
    held.open()
    gate.await_someone()
    with ExitStack() as after, pykka.ActorRegistry._actor_refs_lock:
        # It fences the thread, and then stands still at the lock.
        after.enter_context(in_thread(lambda: kill(ref)))
        wait_until(lambda: fence.threads, "the thread is fenced")
        gate.open()
        wait_until(lambda: not fence.threads, "the thread has ended")
    wait_until(lambda: diary, "the news came")
    assert diary == [Down(ref, "killed")]


def test_one_that_computes_for_ever_is_ended_by_the_kill() -> None:
    entered = threading.Event()

    def compute(_: Worker) -> None:
        entered.set()
        while True:
            pass

    ref = start()
    ref.tell(compute)
    assert entered.wait(LIMIT)
    kill(ref)
    await_no_thread()


def test_what_begins_after_its_kill_does_not_begin() -> None:
    diary: list[Any] = []

    class Doomed(Worker):
        def _start_actor_loop(self) -> None:
            kill(self.actor_ref)
            super()._start_actor_loop()

    with pytest.raises(StartFailed) as caught:
        adopt(Doomed, (diary,), {"on_start": lambda worker: worker.diary.append("started")})
    assert caught.value.cause == "killed"
    wait_until(
        lambda: not any(each.name.startswith("Doomed-") for each in threading.enumerate()),
        "its thread has ended",
    )
    assert diary == []


# Memory


def test_a_dead_one_is_forgotten_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        ref = start()
        actor = ref._actor_weakref
        assert actor() is not None
        ref.stop(timeout=LIMIT)
        wait_until(lambda: actor() is None, "the actor is gone")
    finally:
        gc.enable()
    assert ref.life is None


# What stays as it is with Pykka


def play(ref: Any, script: str) -> None:
    match script:
        case "stop":
            ref.stop(timeout=LIMIT)
        case "stops itself":
            ref.tell(lambda worker: worker.stop())
        case "fails":
            ref.tell(raising(ValueError("v")))
        case "answers":
            ref.ask(raising(ValueError("v")), block=False)
            ref.tell("told")
            ref.proxy().twice(2).get(timeout=LIMIT)
            ref.stop(timeout=LIMIT)
        case "stops at once":
            ref.ask(lambda worker: worker._stop(), timeout=LIMIT)


@pytest.mark.parametrize("script", ["stop", "stops itself", "fails", "answers", "stops at once"])
@pytest.mark.parametrize("failing", [None, "on_stop", "on_failure"])
def test_its_callbacks_are_those_that_pykka_calls(script: str, failing: str | None) -> None:
    hooks = {} if failing is None else {failing: raising(ValueError("later"))}
    diaries: list[list[Any]] = []
    for begin in (start, Worker.start):
        diary: list[Any] = []
        play(begin(diary, **hooks), script)
        await_no_thread()
        diaries.append([each if isinstance(each, str) else each[0] for each in diary])
    adopted, plain = diaries
    assert adopted == plain
