"""How a supervisor stops its children, and what becomes of one that does not stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import Exit, Process, kill, send
from exraft.errors import CallTimeout, SelfCall
from exraft.supervision import DynamicSupervisor, Supervisor
from tests.helpers import LIMIT, Gate, in_thread
from tests.supervision.family import (
    BRIEF,
    Boom,
    Family,
    Plain,
    Ref,
    Reports,
    Watch,
    Worker,
    a_family_of,
    child,
    children,
    crash,
    raising,
    states,
    waiting_at,
    watch,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


def _stop(sup: Ref) -> None:
    Supervisor.stop(sup, timeout=LIMIT)


def _stop_as_pykka_does(sup: Ref) -> None:
    sup.stop(timeout=LIMIT)


ways_to_stop = pytest.mark.parametrize(
    "stop", [_stop, _stop_as_pykka_does], ids=["Supervisor.stop", "ActorRef.stop"]
)


# 28


@ways_to_stop
def test_children_stop_in_reverse_order(any_family: Family, stop: Callable[[Ref], None]) -> None:
    """S28: reverse of the start order."""
    sup = any_family.start("cab")
    any_family.journal.clear()
    stop(sup)
    assert any_family.lines() == ["stop b", "stop a", "stop c"]
    assert not sup.is_alive()


@ways_to_stop
def test_a_tree_stops_in_reverse_order(any_family: Family, stop: Callable[[Ref], None]) -> None:
    """S28: a nested supervisor stops in its place, with its children."""
    inner = Supervisor.child_spec(any_family.specs("bc"), id="inner")
    sup = any_family.start([any_family.spec("a"), inner, any_family.spec("d")])
    any_family.journal.clear()
    stop(sup)
    assert any_family.lines() == ["stop d", "stop c", "stop b", "stop a"]


def test_a_child_stops_before_its_elder_is_asked(any_family: Family) -> None:
    """S28: one after the other: an elder works on until its juniors have ended."""
    sup = any_family.start("ab")
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    elder = child(sup, "a")
    with in_thread(lambda: _stop(sup)):
        gate.await_someone()
        assert elder.ask(lambda actor: "at work", timeout=LIMIT) == "at work"
        gate.open()
    assert any_family.lines()[-2:] == ["stop b", "stop a"]


def test_children_that_do_not_run_are_passed_over(any_family: Family) -> None:
    """S28: those that were stopped before are not stopped again."""
    sup = any_family.start("abc")
    Supervisor.terminate_child(sup, "b", timeout=LIMIT)
    any_family.journal.clear()
    _stop(sup)
    assert any_family.lines() == ["stop c", "stop a"]


def test_when_stop_returns_all_have_ended(any_family: Family) -> None:
    """S28: the children, and the supervisor; its name is free."""
    sup = any_family.start("ab", name=":shop")
    told, others = Watch(sup), watch(sup)
    Supervisor.stop(":shop", timeout=LIMIT)
    assert all(other.over() for other in others.values())
    assert told.over()
    assert ActorRegistry.get_by_name(":shop") is None
    any_family.start(name=":shop")


# 29


def test_a_child_that_ends_in_time_ends_with_shutdown(any_family: Family) -> None:
    """S29: with a timeout: first it is told `shutdown`, and its `on_stop` is called."""
    sup = any_family.start([any_family.spec("a", shutdown=LIMIT)])
    told = Watch(child(sup, "a"))
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert told.reason() == "shutdown"
    assert any_family.lines() == ["start a", "stop a"]


def test_a_child_that_hangs_in_on_stop_is_killed_when_its_time_is_up(any_family: Family) -> None:
    """S29: then it is waited for, and then it is `killed`."""
    sup = any_family.start([any_family.spec("a"), any_family.spec("b", shutdown=BRIEF)])
    told = watch(sup)
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    _stop(sup)
    assert told["b"].reason() == "killed"
    assert told["a"].reason() == "shutdown"


def test_a_child_that_hangs_in_a_message_is_killed_when_its_time_is_up(
    any_family: Family,
) -> None:
    """S29: wherever it hangs."""
    sup = any_family.start([any_family.spec("a", shutdown=BRIEF)])
    ref = child(sup, "a")
    told, gate = Watch(ref), any_family.gate()
    ref.tell(waiting_at(gate))
    gate.await_someone()
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert told.reason() == "killed"
    assert not ref.is_alive()
    assert states(sup) == [("a", None)]


def test_a_sibling_that_hangs_does_not_keep_the_others_from_their_restart(
    any_family: Family,
) -> None:
    """S29: a strategy waits for it no longer than a stop does."""
    specs = [any_family.spec("a"), any_family.spec("b", shutdown=BRIEF)]
    sup = any_family.start(specs, strategy="one_for_all")
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    old = children(sup)
    crash(sup, "a")
    new = children(sup)
    assert states(sup) == [("a", "running"), ("b", "running")]
    assert not old["b"].is_alive()
    assert new["b"].ask(lambda actor: "at work", timeout=LIMIT) == "at work"


def test_no_time_at_all_is_a_shutdown_as_well(any_family: Family) -> None:
    """S29: with a timeout of 0 a child that hangs is killed at once."""
    sup = any_family.start([any_family.spec("a", shutdown=0)])
    ref = child(sup, "a")
    told, gate = Watch(ref), any_family.gate()
    ref.tell(waiting_at(gate))
    gate.await_someone()
    _stop(sup)
    assert told.reason() == "killed"


# 30


def _hang(family: Family, shutdown: Any = "brutal_kill") -> tuple[Ref, Ref, Gate]:
    """A supervisor, its child, which hangs, and what it hangs at."""
    sup = family.start([family.spec("a", shutdown=shutdown)])
    ref, gate = child(sup, "a"), family.gate()
    ref.tell(waiting_at(gate))
    gate.await_someone()
    return sup, ref, gate


def test_brutal_kill_calls_no_terminate(any_family: Family) -> None:
    """S30: no terminate, reason `killed`."""
    sup = any_family.start([any_family.spec("a", shutdown="brutal_kill")])
    told = Watch(child(sup, "a"))
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert told.reason() == "killed"
    any_family.await_first_thread("a")
    assert any_family.lines() == ["start a"]


def test_a_killed_child_counts_as_dead(any_family: Family) -> None:
    """S30: it is marked dead, and Pykka does not know it any more."""
    sup, ref, _ = _hang(any_family)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert not ref.is_alive()
    assert ref not in pykka.ActorRegistry.get_all()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("too late")
    assert ref.stop(timeout=LIMIT) is False


def test_the_name_of_a_killed_child_is_free(any_family: Family) -> None:
    """S30: a successor may take it at once, and keeps it when the old one wakes up."""
    sup, ref, gate = _hang(any_family)
    ActorRegistry.register_name(":named", ref)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert ActorRegistry.get_by_name(":named") is None
    Supervisor.restart_child(sup, "a", timeout=LIMIT)
    new = child(sup, "a")
    ActorRegistry.register_name(":named", new)
    gate.open()
    any_family.await_first_thread("a")
    assert ActorRegistry.get_by_name(":named") is new


def test_who_waits_for_a_killed_child_is_told_at_once(any_family: Family) -> None:
    """S30: its inbox is dropped: nobody waits for the dead."""
    sup, ref, _ = _hang(any_family)
    waiting = [ref.ask(lambda actor: "never", block=False) for _ in range(3)]
    stopping = ref.stop(block=False)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    for each in waiting:
        with pytest.raises(pykka.ActorDeadError):
            each.get(timeout=LIMIT)
    stopping.get(timeout=LIMIT)


def test_who_asked_what_a_killed_child_hangs_in_is_told_at_once(any_family: Family) -> None:
    """S30: and whoever waits for what it was doing; its own answer comes too late."""
    sup = any_family.start([any_family.spec("a", shutdown="brutal_kill")])
    ref, gate = child(sup, "a"), any_family.gate()
    answer = ref.ask(_stubborn(gate, lambda actor: "too late"), block=False)
    gate.await_someone()
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    with pytest.raises(pykka.ActorDeadError):
        answer.get(timeout=LIMIT)
    gate.open()
    any_family.await_first_thread("a")
    with pytest.raises(pykka.ActorDeadError):
        answer.get(timeout=LIMIT)


def test_a_killed_child_that_wakes_up_handles_no_more_messages(any_family: Family) -> None:
    """S30: what waited for it is gone, and its callbacks are not called."""
    sup, ref, gate = _hang(any_family)
    handled: list[int] = []
    for number in range(10):
        ref.tell(lambda actor, number=number: handled.append(number))
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    gate.open()
    any_family.await_first_thread("a")
    assert handled == []
    assert any_family.lines() == ["start a"]


class _Listener(Process):
    """Writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if message == "what?":
            return list(self.heard)
        self.heard.append(message)
        return "thanks"


def _tell(actor: Any, listener: Ref) -> None:
    listener.tell("late")


def _send(actor: Any, listener: Ref) -> None:
    send(listener, "late")


def _ask(actor: Any, listener: Ref) -> None:
    listener.ask("late", timeout=LIMIT)


def _stop_somebody(actor: Any, listener: Ref) -> None:
    listener.stop(timeout=LIMIT)


def _kill_somebody(actor: Any, listener: Ref) -> None:
    kill(listener)


def _register(actor: Any, listener: Ref) -> None:
    ActorRegistry.register_name(":late", actor.actor_ref)


def _register_somebody(actor: Any, listener: Ref) -> None:
    ActorRegistry.register_name(":late", listener)


def _start_somebody(actor: Any, listener: Ref) -> None:
    ActorRegistry.register_name(":late", Process.start())


def _stubborn(gate: Gate, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A message whose receiver goes on with `act` when it wakes up, even if it was killed."""

    def hang_and_act(actor: Any) -> Any:
        # The SystemExit that a killed thread may get is no obstacle.
        with suppress(SystemExit):
            gate.pass_through()
        return act(actor)

    return hang_and_act


@pytest.mark.parametrize("shutdown", ["brutal_kill", BRIEF], ids=["brutal_kill", "time is up"])
@pytest.mark.parametrize(
    "harm",
    [
        _tell,
        _send,
        _ask,
        _stop_somebody,
        _kill_somebody,
        _register,
        _register_somebody,
        _start_somebody,
    ],
    ids=lambda harm: harm.__name__.lstrip("_"),
)
def test_a_killed_child_that_wakes_up_can_do_no_harm(
    any_family: Family, harm: Callable[[Any, Ref], None], shutdown: Any
) -> None:
    """S30: its later sends and registrations are ignored."""
    listener = _Listener.start()
    sup = any_family.start([any_family.spec("a", shutdown=shutdown)])
    ref, gate = child(sup, "a"), any_family.gate()
    went_on = threading.Event()

    def do_harm(actor: Any) -> None:
        went_on.set()
        harm(actor, listener)

    ref.tell(_stubborn(gate, do_harm))
    gate.await_someone()
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    before = pykka.ActorRegistry.get_all()
    gate.open()
    any_family.await_first_thread("a")
    assert went_on.is_set()
    assert listener.ask("what?", timeout=LIMIT) == []
    assert ActorRegistry.get_by_name(":late") is None
    assert pykka.ActorRegistry.get_all() == before
    listener.stop(timeout=LIMIT)


def test_a_killed_child_may_be_restarted_by_hand_while_its_thread_hangs(
    any_family: Family,
) -> None:
    """S30: it is left behind."""
    sup, _, gate = _hang(any_family)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.restart_child(sup, "a", timeout=LIMIT)
    new = child(sup, "a")
    assert new.ask(lambda actor: "at work", timeout=LIMIT) == "at work"
    gate.open()
    assert new.ask(lambda actor: "at work", timeout=LIMIT) == "at work"


def test_a_child_that_somebody_kills_is_restarted(any_family: Family) -> None:
    """S30: `killed` is a failure: a transient child is restarted too, while its thread hangs."""
    sup = any_family.start([any_family.spec("a", restart="transient")])
    ref, gate = child(sup, "a"), any_family.gate()
    ref.tell(waiting_at(gate))
    gate.await_someone()
    told = Watch(ref)
    kill(ref)
    assert told.reason() == "killed"
    assert child(sup, "a") is not ref


def test_a_supervisor_that_is_killed_takes_its_children_along(any_family: Family) -> None:
    """S30: a supervisor below may be killed as well; nobody would be left to stop its children."""
    inner = Supervisor.child_spec(any_family.specs("ab"), id="inner", shutdown="brutal_kill")
    sup = any_family.start([inner])
    told = watch(child(sup, "inner"))
    Supervisor.terminate_child(sup, "inner", timeout=LIMIT)
    assert {id: each.reason() for id, each in told.items()} == {"a": "killed", "b": "killed"}


# 31


def test_without_a_limit_a_child_is_waited_for(any_family: Family) -> None:
    """S31: no limit: waits."""
    sup = any_family.start([any_family.spec("a", shutdown=None)])
    told, gate = Watch(child(sup, "a")), any_family.gate()
    any_family.script("a").at("stop", gate.pass_through)
    stopped: list[bool] = []

    def stop() -> None:
        _stop(sup)
        stopped.append(True)

    with in_thread(stop):
        gate.await_someone()
        # The caller's patience is no limit to the child's.
        with pytest.raises(CallTimeout):
            Supervisor.which_children(sup, timeout=BRIEF)
        assert not stopped
        assert not told.over()
        gate.open()
    assert stopped
    assert told.reason() == "shutdown"
    assert any_family.lines() == ["start a", "stop a"]


def test_a_nested_supervisor_is_waited_for(any_family: Family) -> None:
    """S31: that is what a supervisor among the children has by default."""
    inner = Supervisor.child_spec([any_family.spec("a", shutdown=None)], id="inner")
    sup = any_family.start([inner])
    told, gate = Watch(child(sup, "inner")), any_family.gate()
    any_family.script("a").at("stop", gate.pass_through)
    with in_thread(lambda: _stop(sup)):
        gate.await_someone()
        with pytest.raises(CallTimeout):
            Supervisor.which_children(sup, timeout=BRIEF)
        assert not told.over()
        gate.open()
    assert told.reason() == "shutdown"


def test_who_has_no_time_to_wait_for_a_stop_is_told(any_family: Family) -> None:
    """S31: a stop may have a timeout of its own; the supervisor does end."""
    sup = any_family.start([any_family.spec("a", shutdown=None)])
    told, gate = Watch(sup), any_family.gate()
    any_family.script("a").at("stop", gate.pass_through)
    with pytest.raises(CallTimeout):
        Supervisor.stop(sup, timeout=BRIEF)
    gate.open()
    assert told.reason() == "normal"


# 32


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Reports:
    return Reports(caplog)


def test_a_child_that_fails_to_stop_is_reported(any_family: Family, reports: Reports) -> None:
    """S32: a child that ends with another reason than asked is reported."""
    any_family.script("culprit").at("stop", raising(Boom("out of paper")))
    sup = any_family.start([any_family.spec("culprit"), any_family.spec("innocent")])
    told = watch(sup)
    _stop(sup)
    assert isinstance(told["culprit"].reason(), Boom)
    [report] = reports()
    assert "culprit" in report
    assert "out of paper" in report


def test_a_child_whose_time_was_up_is_reported(any_family: Family, reports: Reports) -> None:
    """S32: so is one that had to be killed."""
    sup, _, _ = _hang(any_family, BRIEF)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    [report] = reports()
    assert "killed" in report


@pytest.mark.parametrize("shutdown", [LIMIT, None, "brutal_kill"], ids=repr)
def test_a_child_that_ends_as_asked_is_not_reported(
    any_family: Family, shutdown: Any, reports: Reports
) -> None:
    """S32: one that was to be killed is `killed`; one that was to stop ends with `shutdown`."""
    sup = any_family.start([any_family.spec("a", shutdown=shutdown)])
    _stop(sup)
    assert reports() == []


@pytest.mark.parametrize(
    ("restart", "reason", "reported"),
    [
        ("permanent", "normal", True),
        ("permanent", ("shutdown", "x"), False),
        ("transient", "normal", False),
        ("temporary", "normal", False),
        ("transient", "because", True),
        ("temporary", "because", True),
    ],
    ids=repr,
)
def test_which_other_reasons_are_as_good(
    family: Family, restart: str, reason: object, reported: bool, reports: Reports
) -> None:
    """S32: who need not run may have left by itself just then, in order: that is no error."""
    family.script("clerk").at("stop", raising(Exit(reason)))
    sup = family.start([family.spec("clerk", restart=restart)])
    told = Watch(child(sup, "clerk"))
    _stop(sup)
    assert told.reason() == reason
    assert len(reports()) == reported


# 33


@pytest.mark.parametrize(
    "reason", ["normal", "shutdown", ("shutdown", "for the night"), "because"], ids=repr
)
def test_a_supervisor_exits_with_the_reason_of_the_stop(any_family: Family, reason: object) -> None:
    """S33: `Supervisor.stop(reason)` exits with that reason; children get `shutdown`."""
    sup = any_family.start("ab")
    told, others = Watch(sup), watch(sup)
    Supervisor.stop(sup, reason, timeout=LIMIT)
    assert told.reason() == reason
    assert [others[id].reason() for id in "ab"] == ["shutdown", "shutdown"]
    assert any_family.lines() == ["start a", "start b", "stop b", "stop a"]


def test_the_reason_of_a_stop_is_normal_by_default(family: Family) -> None:
    """S33: as in OTP."""
    sup = family.start("a")
    told = Watch(sup)
    Supervisor.stop(sup)
    assert told.reason() == "normal"


def test_a_child_cannot_stop_its_own_supervisor(any_family: Family) -> None:
    """S33: it would wait for its own end: refused, and nothing is stopped."""
    sup = any_family.start([Supervisor.child_spec(any_family.specs("a"), id="inner")])
    inner = child(sup, "inner")
    for above in (inner, sup):
        with pytest.raises(SelfCall):
            child(inner, "a").ask(lambda actor, above=above: Supervisor.stop(above), timeout=LIMIT)
    assert any_family.lines() == ["start a"]


def test_a_dynamic_supervisor_exits_with_the_reason_of_the_stop(any_family: Family) -> None:
    """S33: a dynamic one as well."""
    sup = any_family.start_dynamic("ab")
    told, others = Watch(sup), watch(sup)
    DynamicSupervisor.stop(sup, ("shutdown", "for the night"), timeout=LIMIT)
    assert told.reason() == ("shutdown", "for the night")
    assert [others[id].reason() for id in "ab"] == ["shutdown", "shutdown"]


def test_a_nested_supervisor_is_told_shutdown_like_any_child(family: Family) -> None:
    """S33: whatever the reason of the one above it."""
    sup = family.start([Supervisor.child_spec(family.specs("a"), id="inner")])
    told = Watch(child(sup, "inner"))
    Supervisor.stop(sup, "because", timeout=LIMIT)
    assert told.reason() == "shutdown"


# 34


def _kill(sup: Ref) -> None:
    kill(sup)


class _Bug(BaseException):
    pass


class _Odd:
    """A message that no supervisor knows, and that can't be refused either."""

    def refuse(self, reason: object) -> None:
        raise _Bug


def _end_by_a_bug(sup: Ref) -> None:
    send(sup, _Odd())


@pytest.mark.parametrize("end", [_kill, _end_by_a_bug], ids=["killed", "a bug"])
@pytest.mark.parametrize("kind", ["Supervisor", "DynamicSupervisor"])
def test_when_a_supervisor_dies_its_children_stop_too(
    any_family: Family, end: Callable[[Ref], None], kind: str
) -> None:
    """S34: when a supervisor dies its children stop too, however it dies."""
    sup = any_family.start("ab") if kind == "Supervisor" else any_family.start_dynamic("ab")
    told, others = Watch(sup), watch(sup)
    end(sup)
    told.reason()
    for other in others.values():
        assert other.reason() in ("shutdown", "killed")
    assert not pykka.ActorRegistry.get_by_class(any_family.kind)


def test_when_a_supervisor_dies_its_grandchildren_stop_too(any_family: Family) -> None:
    """S34: and theirs."""
    inner = Supervisor.child_spec(
        [*any_family.specs("ab"), DynamicSupervisor.child_spec(id="pool")], id="inner"
    )
    sup = any_family.start([inner])
    pool = child(child(sup, "inner"), "pool")
    DynamicSupervisor.start_child(pool, any_family.spec("c"), timeout=LIMIT)
    others = [Watch(any_family.last_life(id)) for id in "abc"] + [Watch(pool)]
    kill(sup)
    for other in others:
        other.reason()
    assert not pykka.ActorRegistry.get_by_class(any_family.kind)


def test_a_supervisor_that_dies_while_it_starts_a_child_leaves_nothing(
    any_family: Family,
) -> None:
    """S34: who is just being started is stopped as well."""
    sup = any_family.start("ab")
    gate = any_family.gate()
    any_family.script("a").at("start", gate.pass_through)
    crash(sup, "a")
    gate.await_someone()
    half_started = Watch(any_family.last_life("a"))
    other = Watch(any_family.last_life("b"))
    kill(sup)
    assert other.reason() == "killed"
    gate.open()
    half_started.reason()
    assert not pykka.ActorRegistry.get_by_class(any_family.kind)


def test_a_supervisor_that_was_killed_is_restarted_by_its_own(family: Family) -> None:
    """S34: the children of its earlier life are gone before it starts its own again."""
    sup = family.start([Supervisor.child_spec(family.specs("ab"), id="inner")])
    others = watch(child(sup, "inner"))
    old = child(sup, "inner")
    told = Watch(old)
    kill(old)
    told.reason()
    assert all(other.over() for other in others.values())
    new = child(sup, "inner")
    assert new is not old
    assert states(new) == [("a", "running"), ("b", "running")]
