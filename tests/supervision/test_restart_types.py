"""Which exits of a child its supervisor mends."""

from __future__ import annotations

from typing import Any

import pytest

from exraft import ActorRegistry
from exraft.actors import Down, Process, send
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor
from tests.helpers import LIMIT
from tests.supervision.family import (
    PATIENT,
    Boom,
    Family,
    Kind,
    Plain,
    Watch,
    Worker,
    a_family_of,
    child,
    children,
    crash,
    leave,
    leaving,
    states,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)

ORDERLY = ["normal", "shutdown", ("shutdown", "because")]
FAILURES = ["killed", ("down", "x"), "because", None, Boom("boom"), SystemExit(2)]
OF_PLAIN_ONES = ["normal", Boom("boom"), SystemExit(2)]
"""Pykka's own actors are stopped, or raise: they know no other reasons."""


def _both(reasons: list[Any]) -> pytest.MarkDecorator:
    """For each reason a worker that leaves with it, and a plain actor if that can."""
    cases: list[tuple[Kind, Any]] = [(Worker, reason) for reason in reasons]
    cases += [(Plain, reason) for reason in reasons if reason in OF_PLAIN_ONES]
    return pytest.mark.parametrize(
        ("any_family", "reason"),
        cases,
        indirect=["any_family"],
        ids=[f"{kind.__name__}-{reason!r}" for kind, reason in cases],
    )


def _start(family: Family, restart: str) -> Any:
    return family.start([family.spec("a", restart=restart), family.spec("b")])


# 9


@_both([*ORDERLY, *FAILURES])
def test_a_permanent_child_is_restarted_whatever_the_reason(
    any_family: Family, reason: object
) -> None:
    """S9: permanent: restarted whatever the reason, `normal` included."""
    sup = _start(any_family, "permanent")
    leave(sup, "a", reason)
    assert states(sup) == [("a", "running"), ("b", "running")]
    assert any_family.attempts("a") == 2
    assert any_family.attempts("b") == 1


def test_a_permanent_supervisor_is_restarted_with_its_children(family: Family) -> None:
    """S9: a supervisor among the children likewise, and its children with it."""
    sup = family.start([Supervisor.child_spec(family.specs("ab"), id="inner")])
    inner = child(sup, "inner")
    told = Watch(inner)
    Supervisor.stop(inner, timeout=LIMIT)
    assert told.reason() == "normal"
    assert child(sup, "inner") is not inner
    assert family.lines() == ["start a", "start b", "stop b", "stop a", "start a", "start b"]


@_both(["normal", Boom("boom")])
def test_a_permanent_child_of_a_dynamic_supervisor_is_restarted(
    any_family: Family, reason: object
) -> None:
    """S9: a dynamic supervisor restarts its children by the same rule."""
    sup = any_family.start_dynamic("a")
    leave(sup, "a", reason)
    assert states(sup) == [("a", "running")]
    assert any_family.attempts("a") == 2


# 10


@_both(FAILURES)
def test_a_transient_child_is_restarted_after_a_failure(any_family: Family, reason: object) -> None:
    """S10: transient: restarted unless it ended in order."""
    sup = _start(any_family, "transient")
    leave(sup, "a", reason)
    assert states(sup) == [("a", "running"), ("b", "running")]
    assert any_family.attempts("a") == 2


@_both(ORDERLY)
def test_a_transient_child_is_left_after_an_orderly_exit(
    any_family: Family, reason: object
) -> None:
    """S10: `normal`, `shutdown`, `("shutdown", x)`: its spec stays, without an actor."""
    sup = _start(any_family, "transient")
    leave(sup, "a", reason)
    assert states(sup) == [("a", None), ("b", "running")]
    assert any_family.attempts("a") == 1


@_both(["normal"])
def test_a_dynamic_supervisor_keeps_nothing_of_a_transient_child_that_ended_in_order(
    any_family: Family, reason: object
) -> None:
    """S10: whose children have no id, so that a spec without an actor would serve nobody."""
    sup = any_family.start_dynamic()
    DynamicSupervisor.start_child(sup, any_family.spec("a", restart="transient"))
    leave(sup, "a", reason)
    assert states(sup) == []


def test_a_transient_supervisor_that_was_stopped_is_left(family: Family) -> None:
    """S10: a supervisor among the children likewise."""
    inner = Supervisor.child_spec(family.specs("a"), id="inner", restart="transient")
    sup = family.start([inner])
    told = Watch(child(sup, "inner"))
    Supervisor.stop(child(sup, "inner"), timeout=LIMIT)
    told.reason()
    assert states(sup) == [("inner", None)]
    assert family.lines() == ["start a", "stop a"]


# 11


@_both([*ORDERLY, *FAILURES])
def test_a_temporary_child_is_never_restarted(any_family: Family, reason: object) -> None:
    """S11: temporary: never restarted, spec gone."""
    sup = _start(any_family, "temporary")
    leave(sup, "a", reason)
    assert states(sup) == [("b", "running")]
    assert any_family.attempts("a") == 1


def test_the_id_of_a_temporary_child_that_has_ended_is_free(any_family: Family) -> None:
    """S11: so another may be started under its id."""
    sup = _start(any_family, "temporary")
    crash(sup, "a")
    Supervisor.start_child(sup, any_family.spec("a"), timeout=LIMIT)
    assert states(sup) == [("b", "running"), ("a", "running")]


def test_a_temporary_child_that_was_terminated_leaves_no_spec(any_family: Family) -> None:
    """S11: its spec goes with it, however it ended."""
    sup = _start(any_family, "temporary")
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    assert states(sup) == [("b", "running")]


# 12


class _Greedy(Process):
    """Changes all that it is given."""

    def __init__(self, seen: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        seen.append(repr((args, sorted(kwargs.items()))))
        for value in (*args, *kwargs.values()):
            value.clear()
        kwargs["more"] = 1

    def on_receive(self, message: Any) -> Any:
        return message(self)


class _Seen:
    """Is no container of Python's, so it is passed on as it is."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append(self, line: str) -> None:
        self.lines.append(line)


def _greedy(seen: _Seen) -> tuple[ChildSpec, list[Any]]:
    args = [seen, [1, [2]], {"k": [3]}]
    kwargs = {"key": {4}, "word": bytearray(b"5")}
    spec = ChildSpec("a", (_Greedy, tuple(args), kwargs))
    return spec, [*args[1:], kwargs]


def test_a_restart_uses_the_arguments_of_the_beginning(family: Family) -> None:
    """S12: whatever the child did to them."""
    seen = _Seen()
    spec, _ = _greedy(seen)
    sup = family.start([spec])
    crash(sup, "a")
    crash(sup, "a")
    child(sup, "a")
    assert len(seen.lines) == 3
    assert len(set(seen.lines)) == 1
    assert "[2]" in seen.lines[0]


@pytest.mark.parametrize("start", ["start", "start_child", "dynamic"])
def test_a_restart_does_not_see_what_became_of_the_makers_arguments(
    family: Family, start: str
) -> None:
    """S12: nor what its maker did to them meanwhile."""
    seen = _Seen()
    spec, given = _greedy(seen)
    if start == "start":
        sup = family.start([spec])
    elif start == "start_child":
        sup = family.start()
        Supervisor.start_child(sup, spec)
    else:
        sup = family.start_dynamic()
        DynamicSupervisor.start_child(sup, spec)
    for value in given:
        value.clear()
    crash(sup, "a")
    child(sup, "a")
    assert len(seen.lines) == 2
    assert len(set(seen.lines)) == 1


def test_the_arguments_of_a_nested_tree_are_those_of_the_beginning(family: Family) -> None:
    """S12: the children of a supervisor that is started again, too."""
    seen = _Seen()
    spec, given = _greedy(seen)
    nested = [spec]
    inner = Supervisor.child_spec(nested, id="inner")
    sup = family.start([inner])
    nested.clear()
    for value in given:
        value.clear()
    told = Watch(child(sup, "inner"))
    Supervisor.stop(child(sup, "inner"), timeout=LIMIT)
    told.reason()
    assert list(children(child(sup, "inner"))) == ["a"]
    assert len(seen.lines) == 2
    assert len(set(seen.lines)) == 1


def test_what_is_no_container_is_shared_by_all_lives(any_family: Family) -> None:
    """S12: other objects are the same in each life."""
    shared = object()
    sup = any_family.start([any_family.spec("a", shared)])
    crash(sup, "a")
    child(sup, "a")
    assert any_family.script("a").arguments == [(shared,), (shared,)]


def test_the_reference_of_a_restarted_child_is_new(any_family: Family) -> None:
    """S12: the ref is new."""
    sup = any_family.start("a")
    old = child(sup, "a")
    crash(sup, "a")
    new = child(sup, "a")
    assert new != old
    assert new.actor_urn != old.actor_urn
    assert not old.is_alive()


def test_the_name_of_a_restarted_child_is_the_same(any_family: Family) -> None:
    """S12: the name is the same."""

    class Named(any_family.kind):  # type: ignore[name-defined,misc]
        def on_start(self) -> None:
            ActorRegistry.register_name(":named", self.actor_ref)
            super().on_start()

    sup = any_family.start([ChildSpec("a", (Named, (any_family.script("a"),), {}))])
    old = ActorRegistry.get_by_name(":named")
    assert old is child(sup, "a")
    crash(sup, "a")
    new = child(sup, "a")
    assert ActorRegistry.get_by_name(":named") is new
    assert new is not old


def test_the_name_of_a_restarted_supervisor_is_the_same(family: Family) -> None:
    """S12: a supervisor's as well."""
    inner = Supervisor.child_spec(family.specs("a"), name=":inner")
    sup = family.start([inner])
    old = ActorRegistry.get_by_name(":inner")
    crash(child(sup, ":inner"), "a")
    assert ActorRegistry.get_by_name(":inner") is old
    assert old is not None
    told = Watch(old)
    old.stop(timeout=LIMIT)
    told.reason()
    new = child(sup, ":inner")
    assert ActorRegistry.get_by_name(":inner") is new
    assert new is not old


# 13


def test_the_news_of_an_unknown_end_is_ignored(family: Family) -> None:
    """S13: an exit of someone unknown is ignored."""
    stranger = Process.start()
    stranger.stop(timeout=LIMIT)
    for sup in (family.start("ab", max_restarts=0), family.start_dynamic("c", max_restarts=0)):
        before = children(sup)
        send(sup, Down(stranger, "killed"))
        send(sup, Down(sup, "killed"))
        assert children(sup) == before


def test_the_news_of_an_earlier_life_is_ignored(family: Family) -> None:
    """S13: one that has been restarted since is such a one."""
    sup = family.start("a", **PATIENT)
    old = child(sup, "a")
    crash(sup, "a")
    new = child(sup, "a")
    send(sup, Down(old, "killed"))
    assert children(sup) == {"a": new}


@pytest.mark.parametrize("kind", [Worker])
def test_the_end_of_a_process_that_is_linked_to_the_supervisor_is_ignored(
    family: Family, kind: Kind
) -> None:
    """S13: a supervisor traps exits, those of strangers included."""
    sup = family.start("a", max_restarts=0)
    before = children(sup)
    stranger = kind.start(family.script("stranger"))
    stranger.ask(lambda actor: actor.link(sup), timeout=LIMIT)
    told = Watch(stranger)
    stranger.tell(leaving(Boom("not your child")))
    told.reason()
    assert children(sup) == before
