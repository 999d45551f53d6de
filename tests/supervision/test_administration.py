"""What can be asked of a supervisor that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest

from exraft.actors import Ignore
from exraft.errors import AlreadyStarted, SelfCall, StartFailed
from exraft.supervision import (
    AlreadyPresent,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Counts,
    DynamicSupervisor,
    Supervisor,
)
from tests.helpers import LIMIT, outcome
from tests.supervision.family import (
    PATIENT,
    Boom,
    Family,
    Plain,
    Ref,
    Watch,
    Worker,
    a_family_of,
    child,
    children,
    crash,
    raising,
    states,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


def _always_restarting(family: Family) -> Ref:
    """A supervisor of a, which fails to start again and again, and of b."""
    sup = family.start("ab", **PATIENT)
    family.fails_to_start("a")
    crash(sup, "a")
    return sup


# 40


def test_a_child_can_be_added(any_family: Family) -> None:
    """S40: `start_child` returns its reference when it has started."""
    sup = any_family.start("a")
    ref = Supervisor.start_child(sup, any_family.spec("b"), timeout=LIMIT)
    assert any_family.lines() == ["start a", "start b"]
    assert isinstance(ref, pykka.ActorRef)
    assert ref is child(sup, "b")


def test_the_id_of_a_running_child_is_taken(any_family: Family) -> None:
    """S40: `start_child` with the id of a running one: already started, with its ref."""
    sup = any_family.start("a")
    with pytest.raises(AlreadyStarted) as caught:
        Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert caught.value.ref is child(sup, "a")
    assert any_family.attempts("a") == 1


def test_the_id_of_a_stopped_child_is_taken(any_family: Family) -> None:
    """S40: of a stopped one: already present."""
    sup = any_family.start("a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    with pytest.raises(AlreadyPresent, match="a") as caught:
        Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert caught.value.child == "a"
    assert states(sup) == [("a", None)]
    assert any_family.attempts("a") == 1


def test_a_supervisor_is_found_by_its_name(family: Family) -> None:
    """S40: every call takes a name as well as a reference."""
    family.start("a", name=":shop")
    Supervisor.start_child(":shop", family.spec("b"), timeout=LIMIT)
    Supervisor.terminate_child(":shop", "b", timeout=LIMIT)
    Supervisor.restart_child(":shop", "b", timeout=LIMIT)
    Supervisor.terminate_child(":shop", "b", timeout=LIMIT)
    Supervisor.delete_child(":shop", "b", timeout=LIMIT)
    assert states(":shop") == [("a", "running")]
    assert Supervisor.count_children(":shop", timeout=LIMIT).specs == 1


# 41


def test_a_child_that_was_terminated_keeps_its_spec(any_family: Family) -> None:
    """S41: `terminate_child` keeps the spec, no restart."""
    sup = any_family.start("ab")
    told = Watch(child(sup, "a"))
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert told.over()
    assert told.reason() == "shutdown"
    assert states(sup) == [("a", None), ("b", "running")]
    assert any_family.attempts("a") == 1


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_terminating_a_child_touches_no_sibling(any_family: Family, strategy: str) -> None:
    """S41: no restart of anybody, whatever the strategy."""
    sup = any_family.start("abc", strategy=strategy)
    before = children(sup)
    Supervisor.terminate_child(sup, "b", timeout=LIMIT)
    assert children(sup) == before | {"b": None}


def test_a_nested_supervisor_is_terminated_with_its_children(family: Family) -> None:
    """S41: and keeps its place."""
    inner = Supervisor.child_spec(family.specs("bc"), id="inner")
    sup = family.start([family.spec("a"), inner])
    Supervisor.terminate_child(sup, "inner", timeout=LIMIT)
    assert family.lines()[3:] == ["stop c", "stop b"]
    Supervisor.restart_child(sup, "inner", timeout=LIMIT)
    assert family.lines()[5:] == ["start b", "start c"]


def test_terminating_a_stopped_child_changes_nothing(any_family: Family) -> None:
    """S41: it is done already."""
    sup = any_family.start("a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("a", None)]


def test_terminating_an_unknown_child_is_an_error(family: Family) -> None:
    """S41: unknown: not found."""
    sup = family.start("a")
    with pytest.raises(ChildNotFound, match="nobody") as caught:
        Supervisor.terminate_child(sup, "nobody", timeout=LIMIT)
    assert caught.value.child == "nobody"
    assert states(sup) == [("a", "running")]


# 42


def test_a_stopped_child_can_be_restarted(any_family: Family) -> None:
    """S42: `restart_child` starts a stopped one, and returns its reference."""
    sup = any_family.start("ab")
    old = child(sup, "a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    new = Supervisor.restart_child(sup, "a", timeout=LIMIT)
    assert new is child(sup, "a")
    assert new is not old
    assert states(sup) == [("a", "running"), ("b", "running")]


def test_a_child_that_declines_is_restarted_to_nothing(any_family: Family) -> None:
    """S42: one that declines stays without an actor."""
    sup = any_family.start("a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    any_family.script("a").at("start", raising(Ignore()))
    assert Supervisor.restart_child(sup, "a", timeout=LIMIT) is None
    assert states(sup) == [("a", None)]


def test_a_child_that_fails_to_be_restarted_stays_stopped(any_family: Family) -> None:
    """S42: its failure is the caller's, and there are no further attempts."""
    sup = any_family.start("a")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    any_family.script("a").at("start", raising(Boom("out of paper")))
    with pytest.raises(StartFailed, match="a.*out of paper"):
        Supervisor.restart_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("a", None)]
    assert any_family.attempts("a") == 2


@pytest.mark.parametrize(
    "call", [Supervisor.restart_child, Supervisor.delete_child], ids=lambda call: call.__name__
)
class TestRestartAndDelete:
    """What the two refuse alike."""

    def test_a_running_child_is_refused(
        self, any_family: Family, call: Callable[..., object]
    ) -> None:
        """S42: running ones are errors. S43: `delete_child` only when stopped."""
        sup = any_family.start("a")
        ref = child(sup, "a")
        with pytest.raises(ChildRunning) as caught:
            call(sup, "a", timeout=LIMIT)
        assert caught.value.child == "a"
        assert children(sup) == {"a": ref}

    def test_a_restarting_child_is_refused(
        self, any_family: Family, call: Callable[..., object]
    ) -> None:
        """S42: restarting ones are errors. S43: `delete_child` only when stopped."""
        sup = _always_restarting(any_family)
        with pytest.raises(ChildRestarting) as caught:
            call(sup, "a", timeout=LIMIT)
        assert caught.value.child == "a"
        assert states(sup) == [("a", "restarting"), ("b", "running")]

    def test_an_unknown_child_is_refused(self, family: Family, call: Callable[..., object]) -> None:
        """S42: unknown ones are errors. S43: so they are here."""
        sup = family.start("a")
        with pytest.raises(ChildNotFound) as caught:
            call(sup, "nobody", timeout=LIMIT)
        assert caught.value.child == "nobody"
        assert states(sup) == [("a", "running")]


# 43


def test_a_stopped_child_can_be_deleted(any_family: Family) -> None:
    """S43: `delete_child` only when stopped: then its spec is gone, and its id is free."""
    sup = any_family.start("ab")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.delete_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("b", "running")]
    with pytest.raises(ChildNotFound):
        Supervisor.restart_child(sup, "a", timeout=LIMIT)
    Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert states(sup) == [("b", "running"), ("a", "running")]


def test_a_child_whose_attempts_were_ended_can_be_deleted(any_family: Family) -> None:
    """S43: one that is terminated between two attempts is stopped."""
    sup = _always_restarting(any_family)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.delete_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("b", "running")]


# 44


def test_a_child_that_fails_to_be_added_leaves_no_spec(any_family: Family) -> None:
    """S44: a failed `start_child` keeps no spec, and there are no further attempts."""
    sup = any_family.start("a", max_restarts=0)
    any_family.script("b").at("start", raising(Boom("out of paper")))
    with pytest.raises(StartFailed, match="b.*out of paper"):
        Supervisor.start_child(sup, any_family.spec("b"), timeout=LIMIT)
    assert states(sup) == [("a", "running")]
    assert any_family.attempts("b") == 1
    Supervisor.start_child(sup, any_family.spec("b"), timeout=LIMIT)
    assert states(sup) == [("a", "running"), ("b", "running")]


# 45


def test_which_children_tells_id_and_reference_and_type(any_family: Family) -> None:
    """S45: `which_children`: id, ref or `restarting` or none, type; in start order."""
    specs = [
        any_family.spec("runs"),
        any_family.spec("fails"),
        Supervisor.child_spec(id="inner"),
        any_family.spec("stopped"),
        DynamicSupervisor.child_spec(id="pool"),
    ]
    sup = any_family.start(specs, **PATIENT)
    runs, inner, pool = (child(sup, id) for id in ("runs", "inner", "pool"))
    Supervisor.terminate_child(sup, "stopped", timeout=LIMIT)
    any_family.fails_to_start("fails")
    crash(sup, "fails")
    assert Supervisor.which_children(sup, timeout=LIMIT) == [
        ("runs", runs, "worker"),
        ("fails", "restarting", "worker"),
        ("inner", inner, "supervisor"),
        ("stopped", None, "worker"),
        ("pool", pool, "supervisor"),
    ]


def test_a_supervisor_without_children_has_none_to_tell_of(family: Family) -> None:
    """S45: the list may be empty."""
    assert Supervisor.which_children(family.start(), timeout=LIMIT) == []


def test_the_references_are_of_actors_that_can_be_asked(any_family: Family) -> None:
    """S45: each is Pykka's own, of the child's class."""
    sup = any_family.start("a")
    [(_, ref, _)] = Supervisor.which_children(sup, timeout=LIMIT)
    assert isinstance(ref, pykka.ActorRef)
    assert ref.actor_class is any_family.kind
    assert ref.ask(lambda actor: actor.script.id, timeout=LIMIT) == "a"
    assert ref.proxy().script.get(timeout=LIMIT) is any_family.script("a")


def test_a_child_may_ask_its_own_supervisor(any_family: Family) -> None:
    """S45: a child may look at its siblings, as its supervisor does not wait for it."""
    sup = any_family.start("ab")
    seen = child(sup, "a").ask(lambda actor: states(sup), timeout=LIMIT)
    assert seen == [("a", "running"), ("b", "running")]


def test_a_child_that_starts_cannot_ask_its_own_supervisor(any_family: Family) -> None:
    """S45: but not while its supervisor waits for it: refused, as it would be for ever."""
    sup = any_family.start()
    refused: list[Any] = []
    any_family.script("a").at("start", lambda: refused.append(outcome(lambda: states(sup))))
    Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert [type(error) for error in refused] == [SelfCall]
    assert states(sup) == [("a", "running")]


# 46


def test_count_children_counts_specs_and_who_is_active(any_family: Family) -> None:
    """S46: `count_children`: specs, active, supervisors, workers."""
    specs = [
        *any_family.specs("abcd"),
        Supervisor.child_spec(any_family.specs("xyz"), id="inner"),
        Supervisor.child_spec(id="stopped"),
    ]
    sup = any_family.start(specs, **PATIENT)
    for id in ("a", "b", "stopped"):
        Supervisor.terminate_child(sup, id, timeout=LIMIT)
    counts = Supervisor.count_children(sup, timeout=LIMIT)
    assert counts == Counts(specs=6, active=3, supervisors=2, workers=4)
    assert isinstance(counts, Counts)


def test_who_is_restarting_is_not_active(any_family: Family) -> None:
    """S46: one that fails to start again has a spec, but no actor."""
    sup = _always_restarting(any_family)
    counts = Supervisor.count_children(sup, timeout=LIMIT)
    assert counts == Counts(specs=2, active=1, supervisors=0, workers=2)
