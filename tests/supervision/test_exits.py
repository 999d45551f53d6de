"""Monitors, calls to the dead, reports, and what a death leaves behind."""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft
from exraft.actors import Down, Ignore, Process, ProcessDown, kill, monitor, send_exit
from exraft.errors import CallTimeout, ServerNotFound
from exraft.supervision import (
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
    SupervisorDown,
    SupervisorNotFound,
)
from tests.helpers import LIMIT, in_thread, outcome
from tests.supervision.family import (
    BRIEF,
    PATIENT,
    Boom,
    Family,
    Plain,
    Ref,
    Reports,
    Watch,
    Worker,
    a_family_of,
    await_message,
    child,
    children,
    crash,
    leave,
    leaving,
    raising,
    states,
    waiting_at,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


# 51


def _be_stopped(sup: Ref, ref: Ref) -> object:
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    return "shutdown"


def _leave(sup: Ref, ref: Ref) -> object:
    ref.stop(timeout=LIMIT)
    return "normal"


BOOM = Boom("boom")


def _crash(sup: Ref, ref: Ref) -> object:
    ref.tell(leaving(BOOM))
    return BOOM


def _be_killed(sup: Ref, ref: Ref) -> object:
    kill(ref)
    return "killed"


def _be_asked_to_exit(sup: Ref, ref: Ref) -> object:
    send_exit(ref, ("shutdown", "because"))
    return ("shutdown", "because")


@pytest.mark.parametrize(
    "end",
    [_be_stopped, _leave, _crash, _be_killed, _be_asked_to_exit],
    ids=lambda end: end.__name__.lstrip("_"),
)
def test_a_monitor_fires_once_with_the_reason(
    any_family: Family, end: Callable[[Ref, Ref], object]
) -> None:
    """S51: a monitor fires exactly once, with the reason."""
    sup = any_family.start([any_family.spec("a", restart="temporary")])
    ref = child(sup, "a")
    downs: SimpleQueue[Down] = SimpleQueue()
    monitor(ref, downs.put)
    last = Watch(ref)
    reason = end(sup, ref)
    last.reason()
    assert downs.get(timeout=LIMIT) == Down(ref, reason)
    ref.stop(timeout=LIMIT)
    kill(ref)
    any_family.await_first_thread("a")
    assert downs.empty()


def test_a_monitor_on_the_dead_fires_at_once(any_family: Family) -> None:
    """S51: on someone already dead, at once, with `noproc`."""
    sup = any_family.start("a")
    ref = child(sup, "a")
    crash(sup, "a")
    downs: list[Down] = []
    monitor(ref, downs.append)
    assert downs == [Down(ref, "noproc")]


def test_a_process_monitors_in_its_own_thread(any_family: Family) -> None:
    """S51: a process is told by a message."""
    news: SimpleQueue[tuple[Any, threading.Thread]] = SimpleQueue()

    class Watcher(Process):
        def on_receive(self, message: Any) -> Any:
            if isinstance(message, Down):
                news.put((message, threading.current_thread()))
                return None
            self.monitor(message)
            return threading.current_thread()

    sup = any_family.start([any_family.spec("a", restart="temporary"), any_family.spec("b")])
    watcher = Watcher.start()
    watched = child(sup, "a")
    thread = watcher.ask(watched, timeout=LIMIT)
    watched.tell(leaving(BOOM))
    assert news.get(timeout=LIMIT) == (Down(watched, BOOM), thread)
    watcher.ask(watched, timeout=LIMIT)
    assert news.get(timeout=LIMIT) == (Down(watched, "noproc"), thread)
    assert news.empty()
    watcher.stop(timeout=LIMIT)


def test_a_supervisor_can_be_monitored_as_well(family: Family) -> None:
    """S51: each end of a supervisor is told alike."""
    sup = family.start("a", max_restarts=0)
    told = Watch(sup)
    crash(sup, "a")
    assert told.reason() == "shutdown"
    assert Watch(sup).reason() == "noproc"


@pytest.mark.parametrize("heard", [False, True], ids=["heard by nobody", "heard by another"])
def test_the_reason_of_a_child_is_known_though_it_ended_at_once(
    family: Family, heard: bool
) -> None:
    """S51: its supervisor knows it, even if the child ended before it could be monitored."""

    def start_and_end() -> Ref:
        ref = Worker.start(family.script("a"))
        told = Watch(ref) if heard else None
        ref.stop(timeout=LIMIT)
        if told is not None:
            told.reason()
        return ref

    spec = ChildSpec("a", (start_and_end, (), {}), restart="transient")
    sup = family.start([spec, family.spec("b")], **PATIENT)
    assert states(sup) == [("a", None), ("b", "running")]


# 52


CALLS: dict[str, Callable[[Any], object]] = {
    "which_children": lambda sup: Supervisor.which_children(sup, timeout=LIMIT),
    "count_children": lambda sup: Supervisor.count_children(sup, timeout=LIMIT),
    "terminate_child": lambda sup: Supervisor.terminate_child(sup, "a", timeout=LIMIT),
    "restart_child": lambda sup: Supervisor.restart_child(sup, "a", timeout=LIMIT),
    "delete_child": lambda sup: Supervisor.delete_child(sup, "a", timeout=LIMIT),
    "stop": lambda sup: Supervisor.stop(sup, timeout=LIMIT),
}


@pytest.mark.parametrize("call", CALLS)
def test_calling_a_missing_supervisor_is_an_error(family: Family, call: str) -> None:
    """S52: calling a missing name: not found, with the reason `noproc`; a dead one alike."""
    with pytest.raises(SupervisorNotFound, match=":nobody") as caught:
        CALLS[call](":nobody")
    assert caught.value.reason == "noproc"
    assert not caught.value.maybe_applied
    sup = family.start("a")
    Supervisor.stop(sup, timeout=LIMIT)
    with pytest.raises(SupervisorNotFound) as caught:
        CALLS[call](sup)
    assert caught.value.reason == "noproc"


def test_calling_a_missing_dynamic_supervisor_is_an_error(family: Family) -> None:
    """S52: dynamic ones alike."""
    with pytest.raises(SupervisorNotFound):
        DynamicSupervisor.start_child(":nobody", family.spec("a"), timeout=LIMIT)
    sup = family.start_dynamic("a")
    sup.stop(timeout=LIMIT)
    with pytest.raises(SupervisorNotFound):
        DynamicSupervisor.which_children(sup, timeout=LIMIT)


def test_calling_a_missing_server_is_an_error() -> None:
    """S52: calling a missing name: `ServerNotFound`."""
    with pytest.raises(ServerNotFound) as caught:
        ExRaft.ping(":nobody")
    assert caught.value.reason == "noproc"


@contextmanager
def _held_up(family: Family, sup: Ref) -> Iterator[None]:
    """A supervisor that does nothing but start its child a during the block."""
    gate = family.gate()
    family.script("a").at("start", gate.pass_through)
    crash(sup, "a")
    gate.await_someone()
    try:
        yield
    finally:
        gate.open()


@pytest.mark.parametrize("call", CALLS)
def test_when_the_supervisor_dies_its_callers_learn_at_once(family: Family, call: str) -> None:
    """S52: when the callee dies during the call, the caller learns at once, with the reason."""
    sup = family.start("ab")
    failures: list[Any] = []
    with (
        _held_up(family, sup),
        in_thread(lambda: failures.append(outcome(lambda: CALLS[call](sup)))),
    ):
        await_message(sup)
        kill(sup)
    if call == "stop":
        # It has ended, as was wanted.
        assert failures == [None]
        return
    assert isinstance(failures[0], SupervisorDown)
    assert failures[0].why == "killed"
    assert failures[0].reason == ("down", "killed")
    assert failures[0].maybe_applied


def _callers_learn(family: Family, reason: object) -> None:
    sup = family.start("a")
    ref, gate = child(sup, "a"), family.gate()
    ref.tell(waiting_at(gate))
    ref.tell(leaving(reason))
    waiting = [ref.ask(lambda actor: "never", block=False) for _ in range(3)]
    gate.open()
    for each in waiting:
        with pytest.raises(ProcessDown) as caught:
            each.get(timeout=LIMIT)
        assert caught.value.reason == reason


@pytest.mark.parametrize("error", [BOOM, SystemExit(2)], ids=repr)
def test_when_a_child_dies_its_callers_learn_at_once(
    any_family: Family, error: BaseException
) -> None:
    """S52: whoever asks a child learns what it died of, also who waits behind others."""
    _callers_learn(any_family, error)


@pytest.mark.parametrize("reason", ["normal", ("shutdown", "x"), "because"], ids=repr)
def test_when_a_child_leaves_its_callers_learn_at_once(family: Family, reason: object) -> None:
    """S52: an orderly exit reason too."""
    _callers_learn(family, reason)


def test_a_late_reply_of_a_supervisor_is_dropped(family: Family) -> None:
    """S52: a late reply after a timeout is dropped, and harms nobody."""
    sup = family.start("ab")
    with _held_up(family, sup), pytest.raises(CallTimeout):
        Supervisor.which_children(sup, timeout=BRIEF)
    assert states(sup) == [("a", "running"), ("b", "running")]


def test_a_late_reply_of_a_child_is_dropped(any_family: Family) -> None:
    """S52: a child's as well."""
    sup = any_family.start("a")
    ref, gate = child(sup, "a"), any_family.gate()
    ref.tell(waiting_at(gate))
    with pytest.raises(pykka.Timeout):
        ref.ask(lambda actor: "late", timeout=BRIEF)
    gate.open()
    assert ref.ask(lambda actor: "in time", timeout=LIMIT) == "in time"
    assert child(sup, "a") is ref


# 53


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Reports:
    return Reports(caplog)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_child_that_fails_is_reported(any_family: Family, reports: Reports, restart: str) -> None:
    """S53: child terminated: once, with the child, its reason and its supervisor."""
    spec = any_family.spec("clerk", restart=restart)
    sup = any_family.start([spec, any_family.spec("other")], name=":office")
    leave(sup, "clerk", Boom("out of paper"))
    states(sup)
    [report] = reports()
    for word in ("clerk", "out of paper", ":office"):
        assert word in report


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x")], ids=repr)
def test_a_permanent_child_that_ends_is_reported_whatever_the_reason(
    family: Family, reports: Reports, reason: object
) -> None:
    """S53: one that must run has no clean exits."""
    sup = family.start([family.spec("clerk")])
    leave(sup, "clerk", reason)
    states(sup)
    [report] = reports()
    assert "clerk" in report


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "x")], ids=repr)
def test_a_clean_exit_of_a_child_that_need_not_run_is_not_reported(
    family: Family, reports: Reports, restart: str, reason: object
) -> None:
    """S53: none for clean exits of children that need not run."""
    sup = family.start([family.spec("clerk", restart=restart), family.spec("other")])
    leave(sup, "clerk", reason)
    states(sup)
    assert reports(logging.INFO) == []


def test_a_clean_exit_of_a_plain_child_that_need_not_run_is_not_reported(
    any_family: Family, reports: Reports
) -> None:
    """S53: a stop of a plain actor is one."""
    sup = any_family.start([any_family.spec("clerk", restart="transient")])
    leave(sup, "clerk", "normal")
    states(sup)
    assert reports(logging.INFO) == []


def test_a_failure_to_start_again_is_reported(any_family: Family, reports: Reports) -> None:
    """S53: start error: each attempt, with the child and its reason."""
    sup = any_family.start([any_family.spec("clerk")], **PATIENT)
    any_family.script("clerk").at("start", *[raising(Boom("out of ink"))] * 2)
    leave(sup, "clerk", Boom("out of paper"))
    child(sup, "clerk")
    first, *attempts = reports()
    assert "out of paper" in first
    assert len(attempts) == 2
    for report in attempts:
        assert "clerk" in report
        assert "out of ink" in report


def test_a_failure_to_stop_is_reported(any_family: Family, reports: Reports) -> None:
    """S53: shutdown error: with the child and its reason."""
    sup = any_family.start([any_family.spec("clerk")], name=":office")
    any_family.script("clerk").at("stop", raising(Boom("out of paper")))
    sup.stop(timeout=LIMIT)
    [report] = reports()
    for word in ("clerk", "out of paper", ":office"):
        assert word in report


def test_a_supervisor_that_gives_up_reports_it(any_family: Family, reports: Reports) -> None:
    """S53: and so is the end of a supervisor's patience, with the last child and its reason."""
    sup = any_family.start([any_family.spec("clerk")], name=":office", max_restarts=0)
    told = Watch(sup)
    leave(sup, "clerk", Boom("out of paper"))
    told.reason()
    last = reports()[-1]
    for word in (":office", "clerk", "out of paper", "gives up"):
        assert word in last


def test_what_is_asked_for_is_not_reported(any_family: Family, reports: Reports) -> None:
    """S53: none for a start, a stop, and what administrators do."""
    any_family.script("b").at("start", raising(Ignore()))
    sup = any_family.start("ab")
    Supervisor.restart_child(sup, "b", timeout=LIMIT)
    Supervisor.terminate_child(sup, "b", timeout=LIMIT)
    Supervisor.delete_child(sup, "b", timeout=LIMIT)
    Supervisor.stop(sup, timeout=LIMIT)
    assert reports(logging.INFO) == []


# 54


def test_a_name_is_free_before_its_owner_is_restarted(any_family: Family) -> None:
    """S54: a name is free before its owner's restart registers it again."""

    class Named(any_family.kind):  # type: ignore[name-defined,misc]
        def on_start(self) -> None:
            ActorRegistry.register_name(":named", self.actor_ref)
            super().on_start()

    spec = ChildSpec("a", (Named, (any_family.script("a"),), {}))
    sup = any_family.start([spec, *any_family.specs("bc")], strategy="one_for_all", **PATIENT)
    for number, id in enumerate("abcabcabc", start=1):
        crash(sup, id)
        named = child(sup, "a")
        assert ActorRegistry.get_by_name(":named") is named
        # At the first attempt.
        assert any_family.attempts("a") == 1 + number


def test_a_name_that_somebody_else_gave_is_free_as_well(any_family: Family) -> None:
    """S54: whoever registered it."""
    sup = any_family.start("a")
    taken: list[object] = []
    ActorRegistry.register_name(":named", child(sup, "a"))
    any_family.script("a").at("start", lambda: taken.append(ActorRegistry.names()))
    crash(sup, "a")
    child(sup, "a")
    assert taken == [[]]


def test_the_name_of_a_supervisor_is_free_before_it_is_restarted(family: Family) -> None:
    """S54: a supervisor's too."""
    sup = family.start([Supervisor.child_spec(family.specs("a"), name=":inner")], **PATIENT)
    for number in range(1, 10):
        inner = child(sup, ":inner")
        told = Watch(inner)
        inner.stop(timeout=LIMIT)
        told.reason()
        new = child(sup, ":inner")
        assert ActorRegistry.get_by_name(":inner") is new
        assert family.attempts("a") == 1 + number


# 55


@pytest.mark.parametrize(("reason", "callback"), [(BOOM, "fail"), ("normal", "stop")], ids=repr)
def test_a_death_is_noticed_when_its_last_callback_has_returned(
    any_family: Family, reason: object, callback: str
) -> None:
    """S55: after the dead actor's `on_stop` or `on_failure` has returned."""
    sup = any_family.start("a")
    old, gate = child(sup, "a"), any_family.gate()
    any_family.script("a").at(callback, gate.pass_through)
    told = Watch(old)
    if reason == "normal":
        old.stop(block=False)
    else:
        old.tell(leaving(reason))
    gate.await_someone()
    assert children(sup) == {"a": old}
    assert not told.over()
    gate.open()
    any_family.await_start("a", count=2)
    assert any_family.lines() == ["start a", f"{callback} a", "start a"]


def test_a_successor_never_overlaps_the_dead_one(any_family: Family) -> None:
    """S55: a successor never overlaps it, however it ends."""
    counting = threading.Lock()
    together = most = 0

    class Alone(any_family.kind):  # type: ignore[name-defined,misc]
        def on_start(self) -> None:
            nonlocal together, most
            with counting:
                together += 1
                most = max(most, together)
            super().on_start()

        def on_stop(self) -> None:
            super().on_stop()
            self.leave()

        def on_failure(self, *exception: Any) -> None:
            super().on_failure(*exception)
            self.leave()

        def leave(self) -> None:
            nonlocal together
            with counting:
                together -= 1

    spec = ChildSpec("a", (Alone, (any_family.script("a"),), {}))
    sup = any_family.start([spec, any_family.spec("b")], strategy="one_for_all", **PATIENT)
    for number in range(30):
        if number % 3 == 2:
            crash(sup, "b")
        else:
            leave(sup, "a", [BOOM, "normal"][number % 3])
    Supervisor.stop(sup, timeout=LIMIT)
    assert (most, together) == (1, 0)
    assert any_family.attempts("a") == 31


# 56


class Storm:
    """Threads that make children crash, one after the other, until it is calmed."""

    def __init__(self, kind: type[Any], seed: int) -> None:
        self._kind = kind
        self._calm = threading.Event()
        self._threads = [
            threading.Thread(target=self._blow, args=(random.Random(seed * 10 + number),))
            for number in range(3)
        ]
        for thread in self._threads:
            thread.start()

    def _blow(self, chance: random.Random) -> None:
        # The pause leaves the interpreter to the others when nobody is left.
        while not self._calm.wait(0.0001):
            alive = pykka.ActorRegistry.get_by_class(self._kind)
            if alive:
                ref = chance.choice(alive)
                told = Watch(ref)
                # It may have died since.
                with suppress(pykka.ActorDeadError):
                    ref.tell(leaving(Boom("the storm")))
                told.reason()

    def calm(self) -> None:
        self._calm.set()
        for thread in self._threads:
            thread.join(LIMIT)


def test_stop_all_in_a_storm_leaves_nothing_alive(
    any_family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    """S56: `pykka.ActorRegistry.stop_all()` leaves nothing alive, whatever goes on meanwhile."""
    # What is logged costs more than what is tested.
    caplog.set_level(sys.maxsize, "exraft")
    inner = [
        Supervisor.child_spec(any_family.specs("efg"), strategy="one_for_all", id="i", **PATIENT),
        Supervisor.child_spec(any_family.specs("hi"), strategy="rest_for_one", id="j", **PATIENT),
    ]
    tree = [*any_family.specs("abcd"), *inner]
    for seed in range(20):
        any_family.journal.clear()
        any_family.start(tree, name=":tree", **PATIENT)
        any_family.start_dynamic("klm", name=":pool", **PATIENT)
        storm = Storm(any_family.kind, seed)
        try:
            any_family.journal.wait_for("start", count=12 + 20)
            pykka.ActorRegistry.stop_all(timeout=LIMIT)
            assert pykka.ActorRegistry.get_all() == []
            started = len(any_family.journal.lines("start"))
        finally:
            storm.calm()
        assert pykka.ActorRegistry.get_all() == []
        assert ActorRegistry.names() == []
        assert len(any_family.journal.lines("start")) == started


def test_stop_all_of_children_that_are_at_peace_leaves_nothing_alive(any_family: Family) -> None:
    """S56: in a tree that nothing else happens to, too."""
    any_family.start([*any_family.specs("ab"), Supervisor.child_spec(any_family.specs("c"))])
    any_family.start_dynamic("de")
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    assert pykka.ActorRegistry.get_all() == []


def test_a_supervisor_that_is_being_stopped_restarts_nobody(any_family: Family) -> None:
    """S56: a child that dies meanwhile stays dead."""
    sup = any_family.start("abc")
    gate = any_family.gate()
    any_family.script("c").at("stop", gate.pass_through)
    dying = child(sup, "a")
    told = Watch(dying)
    with in_thread(lambda: Supervisor.stop(sup, timeout=LIMIT)):
        gate.await_someone()
        dying.tell(leaving(BOOM))
        told.reason()
        gate.open()
    assert any_family.lines()[3:] == ["fail a", "stop c", "stop b"]
    assert any_family.attempts("a") == 1


# 57


@pytest.mark.parametrize(
    "stop",
    [
        lambda sup: Supervisor.stop(sup, timeout=LIMIT),
        lambda sup: sup.stop(timeout=LIMIT),
    ],
    ids=["Supervisor.stop", "ActorRef.stop"],
)
def test_a_stop_of_a_supervisor_overtakes_the_calls_that_wait(
    family: Family, stop: Callable[[Ref], object]
) -> None:
    """S57: a `stop` is not queued behind a long mailbox."""
    sup = family.start("ab")
    with ThreadPoolExecutor(21) as threads:
        with _held_up(family, sup):
            calls = [
                threads.submit(Supervisor.start_child, sup, family.spec(f"c{number}"), LIMIT)
                for number in range(20)
            ]
            await_message(sup, 20)
            stopped = threads.submit(stop, sup)
            await_message(sup, 21)
        stopped.result(LIMIT)
        failures = [call.exception(LIMIT) for call in calls]
    assert {type(failure) for failure in failures} == {SupervisorDown}
    assert family.lines()[-2:] == ["stop b", "stop a"]
    assert not any(family.attempts(f"c{number}") for number in range(20))


def test_a_child_is_stopped_before_the_messages_that_wait(any_family: Family) -> None:
    """S57: nor is the stop of a child, be it a plain actor's."""
    sup = any_family.start([any_family.spec("a", shutdown=LIMIT)])
    ref, gate = child(sup, "a"), any_family.gate()
    handled: list[int] = []
    ref.tell(waiting_at(gate))
    gate.await_someone()
    for number in range(100):
        ref.tell(lambda actor, number=number: handled.append(number))
    with in_thread(lambda: Supervisor.terminate_child(sup, "a", timeout=LIMIT)):
        await_message(ref, 101)
        gate.open()
    assert handled == []
    assert any_family.lines() == ["start a", "stop a"]


def test_a_nested_supervisor_is_stopped_before_the_calls_that_wait(family: Family) -> None:
    """S57: what a supervisor is ordered by the one above it overtakes calls as well."""
    sup = family.start([Supervisor.child_spec(family.specs("ab"), id="inner")])
    inner = child(sup, "inner")
    with ThreadPoolExecutor(6) as threads:
        with _held_up(family, inner):
            calls = [threads.submit(Supervisor.which_children, inner, LIMIT) for _ in range(5)]
            await_message(inner, 5)
            stopped = threads.submit(Supervisor.terminate_child, sup, "inner", LIMIT)
            await_message(inner, 6)
        stopped.result(LIMIT)
        failures = [call.exception(LIMIT) for call in calls]
    assert {type(failure) for failure in failures} == {SupervisorDown}
