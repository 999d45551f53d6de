"""Children that come and go."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import Ignore
from exraft.errors import StartFailed
from exraft.supervision import (
    ChildNotFound,
    ChildSpec,
    Counts,
    DynamicSupervisor,
    SpecError,
    Supervisor,
    TooManyChildren,
)
from tests.helpers import LIMIT
from tests.supervision.family import (
    BRIEF,
    PATIENT,
    Boom,
    Family,
    Plain,
    Ref,
    Watch,
    Worker,
    a_family_of,
    child,
    crash,
    leave,
    raising,
    states,
    waiting_at,
    watch,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


def _add(family: Family, sup: Ref, id: str, **fields: Any) -> Ref:
    ref = DynamicSupervisor.start_child(sup, family.spec(id, **fields), timeout=LIMIT)
    assert isinstance(ref, pykka.ActorRef)
    return ref


def _refs(sup: Ref) -> list[Any]:
    return [ref for _, ref, _ in DynamicSupervisor.which_children(sup, timeout=LIMIT)]


# 47


def test_many_children_of_one_spec(any_family: Family) -> None:
    """S47: many children from one kind of spec, whose id need not be unique."""
    sup = any_family.start_dynamic()
    spec = any_family.spec("a")
    refs = [DynamicSupervisor.start_child(sup, spec, timeout=LIMIT) for _ in range(20)]
    assert len(set(refs)) == 20
    children = DynamicSupervisor.which_children(sup, timeout=LIMIT)
    assert children == [("a", ref, "worker") for ref in refs]
    counts = DynamicSupervisor.count_children(sup, timeout=LIMIT)
    assert counts == Counts(specs=20, active=20, supervisors=0, workers=20)


def test_children_are_terminated_by_reference(any_family: Family) -> None:
    """S47: terminated by ref; nothing is kept of it, and no other is touched."""
    sup = any_family.start_dynamic()
    first, second, third = (_add(any_family, sup, "a") for _ in range(3))
    told = Watch(second)
    DynamicSupervisor.terminate_child(sup, second, timeout=LIMIT)
    assert told.over()
    assert told.reason() == "shutdown"
    assert _refs(sup) == [first, third]


def test_terminating_someone_else_is_an_error(any_family: Family) -> None:
    """S47: an unknown one is not found: nobody's child, another's, or one that has ended."""
    sup, other = any_family.start_dynamic(), any_family.start_dynamic()
    gone, strange = _add(any_family, sup, "a"), _add(any_family, other, "b")
    DynamicSupervisor.terminate_child(sup, gone, timeout=LIMIT)
    for ref in (gone, strange, sup):
        with pytest.raises(ChildNotFound) as caught:
            DynamicSupervisor.terminate_child(sup, ref, timeout=LIMIT)
        assert caught.value.child is ref
    assert strange.is_alive()


def test_one_that_was_restarted_is_terminated_by_its_new_reference(any_family: Family) -> None:
    """S47: the reference of its earlier life is not found any more."""
    sup = any_family.start_dynamic()
    old = _add(any_family, sup, "a")
    crash(sup, "a")
    new = child(sup, "a")
    with pytest.raises(ChildNotFound):
        DynamicSupervisor.terminate_child(sup, old, timeout=LIMIT)
    DynamicSupervisor.terminate_child(sup, new, timeout=LIMIT)
    assert _refs(sup) == []


@pytest.mark.parametrize(("restart", "left"), [("permanent", 3), ("temporary", 2)])
def test_each_child_is_restarted_by_its_own_type(
    any_family: Family, restart: str, left: int
) -> None:
    """S47: the others of the same spec are not touched."""
    sup = any_family.start_dynamic()
    refs = [_add(any_family, sup, "a", restart=restart) for _ in range(3)]
    told = Watch(refs[1])
    refs[1].tell(lambda actor: raising(Boom())())
    told.reason()
    after = _refs(sup)
    assert len(after) == left
    assert refs[0] in after
    assert refs[2] in after
    assert refs[1] not in after


def test_a_child_that_fails_to_start_leaves_nothing(any_family: Family) -> None:
    """S47: the caller is told why, and nothing is tried again."""
    sup = any_family.start_dynamic()
    any_family.script("a").at("start", raising(Boom("out of paper")))
    with pytest.raises(StartFailed, match="a.*out of paper"):
        _add(any_family, sup, "a")
    assert _refs(sup) == []
    assert any_family.attempts("a") == 1


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_child_that_declines_leaves_nothing(any_family: Family, restart: str) -> None:
    """S47: nothing is kept of one that declines, as nobody could ask for it again."""
    sup = any_family.start_dynamic()
    any_family.script("a").at("start", raising(Ignore()))
    spec = any_family.spec("a", restart=restart)
    assert DynamicSupervisor.start_child(sup, spec, timeout=LIMIT) is None
    assert _refs(sup) == []


def test_a_child_that_declines_to_start_again_leaves_nothing(any_family: Family) -> None:
    """S47: nor of one that declines later."""
    sup = any_family.start_dynamic("a")
    any_family.script("a").at("start", raising(Ignore()))
    crash(sup, "a")
    assert _refs(sup) == []


def test_supervisors_may_come_and_go_as_well(any_family: Family) -> None:
    """S47: whole trees can be added."""
    sup = any_family.start_dynamic(name=":pool")
    spec = Supervisor.child_spec(any_family.specs("ab"), id="tree")
    for _ in range(2):
        DynamicSupervisor.start_child(":pool", spec, timeout=LIMIT)
    assert DynamicSupervisor.count_children(sup, timeout=LIMIT).supervisors == 2
    first, second = _refs(sup)
    told = watch(first)
    DynamicSupervisor.terminate_child(":pool", first, timeout=LIMIT)
    assert [told[id].reason() for id in "ab"] == ["shutdown", "shutdown"]
    assert _refs(sup) == [second]


def test_a_dynamic_supervisor_is_a_child_like_any_other(any_family: Family) -> None:
    """S47: when it is restarted it begins without children."""
    pool = DynamicSupervisor.child_spec(name=":pool", max_restarts=0)
    sup = any_family.start([any_family.spec("a"), pool])
    first = ActorRegistry.get_by_name(":pool")
    assert first is child(sup, ":pool")
    _add(any_family, first, "b")
    told = Watch(first)
    crash(first, "b")
    assert told.reason() == "shutdown"
    second = child(sup, ":pool")
    assert second is ActorRegistry.get_by_name(":pool")
    assert second is not first
    assert _refs(second) == []


# 48


def test_more_than_max_children_is_an_error(any_family: Family) -> None:
    """S48: `max_children` is an error past the bound."""
    sup = any_family.start_dynamic("ab", max_children=2)
    with pytest.raises(TooManyChildren, match="2") as caught:
        _add(any_family, sup, "c")
    assert caught.value.max_children == 2
    assert any_family.attempts("c") == 0
    assert states(sup) == [("a", "running"), ("b", "running")]


def test_who_has_gone_leaves_room(any_family: Family) -> None:
    """S48: those count that are there: not who was terminated, or ended for good, or failed."""
    sup = any_family.start_dynamic(max_children=1)
    for restart in ("permanent", "temporary"):
        ref = _add(any_family, sup, "a", restart=restart)
        DynamicSupervisor.terminate_child(sup, ref, timeout=LIMIT)
    _add(any_family, sup, "a", restart="transient")
    leave(sup, "a", "normal")
    any_family.fails_to_start("a", times=1)
    with pytest.raises(StartFailed):
        _add(any_family, sup, "a")
    _add(any_family, sup, "b")
    assert states(sup) == [("b", "running")]


def test_who_is_restarting_takes_up_room(any_family: Family) -> None:
    """S48: one that fails to start again is there."""
    sup = any_family.start_dynamic("a", max_children=1, **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    with pytest.raises(TooManyChildren):
        _add(any_family, sup, "b")


def test_a_supervisor_may_have_no_room_at_all(any_family: Family) -> None:
    """S48: nought is a bound too."""
    sup = any_family.start_dynamic(max_children=0)
    with pytest.raises(TooManyChildren):
        _add(any_family, sup, "a")


# 49


def test_children_stop_side_by_side(any_family: Family) -> None:
    """S49: they stop side by side, in no order: each waits for all the others here."""
    sup = any_family.start_dynamic("abcdefgh")
    together = threading.Barrier(8)
    for id in "abcdefgh":
        any_family.script(id).at("stop", lambda: together.wait(LIMIT))
    told = watch(sup)
    DynamicSupervisor.stop(sup, timeout=LIMIT)
    assert {each.reason() for each in told.values()} == {"shutdown"}
    assert len(any_family.journal.lines("stop")) == 8


def test_children_that_hang_are_waited_for_side_by_side(any_family: Family) -> None:
    """S49: and killed one by one when their time is up; who ends in time is not killed."""
    sup = any_family.start_dynamic()
    gate = any_family.gate()
    hanging = [_add(any_family, sup, "a", shutdown=BRIEF) for _ in range(5)]
    for ref in hanging:
        ref.tell(waiting_at(gate))
    last = any_family.gate()
    any_family.script("z").at("stop", last.pass_through)
    orderly = _add(any_family, sup, "z", shutdown=None)
    told = [Watch(ref) for ref in hanging]
    told_of_orderly = Watch(orderly)
    ended = Watch(sup)
    sup.stop(block=False)
    last.await_someone()
    last.open()
    assert [each.reason() for each in told] == ["killed"] * 5
    assert told_of_orderly.reason() == "shutdown"
    assert ended.reason() == "normal"


# 50


def test_extra_arguments_come_first(any_family: Family) -> None:
    """S50: `extra_arguments` come first, at restarts too."""
    script = any_family.script("a")
    sup = any_family.start_dynamic(extra_arguments=(script, "extra"))
    spec = ChildSpec("a", (any_family.kind, ("own",), {}))
    DynamicSupervisor.start_child(sup, spec, timeout=LIMIT)
    assert script.arguments == [("extra", "own")]
    crash(sup, "a")
    child(sup, "a")
    assert script.arguments == [("extra", "own"), ("extra", "own")]


def test_extra_arguments_are_those_of_the_beginning(any_family: Family) -> None:
    """S50: what children and callers do to them meanwhile does not matter, as in statement 12."""
    script = any_family.script("a")
    extra: list[list[int]] = [[1]]
    sup = any_family.start_dynamic(extra_arguments=(script, *extra))
    extra[0].append(2)
    spec = ChildSpec("a", (any_family.kind, (), {}))
    DynamicSupervisor.start_child(sup, spec, timeout=LIMIT)
    child(sup, "a").ask(lambda actor: actor.args[0].append(3), timeout=LIMIT)
    crash(sup, "a")
    child(sup, "a")
    assert script.arguments[1] == ([1],)


def test_a_spec_that_does_not_fit_the_extra_arguments_is_refused(any_family: Family) -> None:
    """S50: a spec is judged together with them."""

    class Lonely(any_family.kind):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            raise AssertionError

    sup = any_family.start_dynamic(extra_arguments=(1,))
    with pytest.raises(SpecError, match="'a'.*start"):
        DynamicSupervisor.start_child(sup, ChildSpec("a", (Lonely, (), {})), timeout=LIMIT)
    assert not pykka.ActorRegistry.get_by_class(Lonely)
