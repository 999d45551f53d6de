"""How a supervisor starts its children, and what it refuses to start."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from exraft import ActorRegistry
from exraft.actors import Down, Ignore, Process, monitor
from exraft.errors import AlreadyStarted, OptionError, StartFailed
from exraft.supervision import ChildSpec, DynamicSupervisor, SpecError, Supervisor
from tests.helpers import LIMIT, in_thread
from tests.supervision.family import (
    Boom,
    Family,
    Plain,
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


# 1


def test_children_start_in_list_order(any_family: Family) -> None:
    """S1: children start in list order."""
    any_family.start("cab")
    assert any_family.lines() == ["start c", "start a", "start b"]


def test_the_children_of_a_nested_supervisor_start_in_its_place(family: Family) -> None:
    """S1: a supervisor among the children has started its own before the next one starts."""
    inner = Supervisor.child_spec(family.specs("bc"), id="inner")
    family.start([family.spec("a"), inner, family.spec("d")])
    assert family.lines() == ["start a", "start b", "start c", "start d"]


def test_a_start_may_be_given_by_name(any_family: Family) -> None:
    """S1: a child whose class is written down as text starts in its place as well."""
    name = f"tests.supervision.family:{any_family.kind.__name__}"
    spec = ChildSpec("b", (name, (any_family.script("b"),), {}))
    any_family.start([any_family.spec("a"), spec, any_family.spec("c")])
    assert any_family.lines() == ["start a", "start b", "start c"]


def test_a_child_starts_after_its_elder_has_started(any_family: Family) -> None:
    """S1: the next child is not begun while one is still starting."""
    gate = any_family.gate()
    any_family.script("a").at("start", gate.pass_through)
    with in_thread(lambda: any_family.start("ab")):
        gate.await_someone()
        assert any_family.attempts("b") == 0
        gate.open()
    assert any_family.lines() == ["start a", "start b"]


# 2


def test_start_returns_when_all_children_have_started(any_family: Family) -> None:
    """S2: `start` returns only after all of them have started."""
    gate = any_family.gate()
    any_family.script("b").at("start", gate.pass_through)
    returned: list[Any] = []
    with in_thread(lambda: returned.append(any_family.start("ab"))):
        gate.await_someone()
        assert returned == []
        gate.open()
    assert any_family.lines() == ["start a", "start b"]
    assert states(returned[0]) == [("a", "running"), ("b", "running")]


def test_start_returns_the_reference_of_a_supervisor_that_lives(family: Family) -> None:
    """S2: the caller gets a reference that can be called, by name too."""
    sup = family.start("a", name=":shop")
    assert sup.is_alive()
    assert ActorRegistry.get_by_name(":shop") is sup
    assert states(":shop") == states(sup) == [("a", "running")]


@pytest.mark.parametrize("error", [Boom("no"), SystemExit(3)], ids=repr)
def test_a_start_up_failure_reaches_the_caller(any_family: Family, error: BaseException) -> None:
    """S2: what an actor's `on_start` raises is raised by `start`."""
    any_family.script("a").at("start", raising(error))
    with pytest.raises(StartFailed) as caught:
        any_family.start("a")
    assert type(error).__name__ in str(caught.value)


def test_a_failure_in_a_constructor_reaches_the_caller(any_family: Family) -> None:
    """S2: so is what its constructor raises."""

    class Misbuilt(any_family.kind):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            raise Boom("no bricks")

    with pytest.raises(StartFailed, match="no bricks"):
        any_family.start([any_family.spec("a"), ChildSpec("b", (Misbuilt, (), {}))])
    assert any_family.lines() == ["start a", "stop a"]


# 3


def test_a_child_that_fails_to_start_stops_the_earlier_ones(any_family: Family) -> None:
    """S3: the earlier ones stop in reverse, and the later ones never start."""
    any_family.fails_to_start("c", times=1)
    with pytest.raises(StartFailed):
        any_family.start("abcd")
    assert any_family.lines() == ["start a", "start b", "stop b", "stop a"]
    assert any_family.attempts("d") == 0


def test_the_earlier_ones_are_stopped_with_shutdown(any_family: Family) -> None:
    """S3: their exit reason is `shutdown`."""
    reasons: list[Down] = []

    def watch_the_others_and_fail() -> None:
        for id in "ab":
            monitor(any_family.last_life(id), reasons.append)
        raise Boom

    any_family.script("c").at("start", watch_the_others_and_fail)
    with pytest.raises(StartFailed):
        any_family.start("abc")
    assert reasons == [Down(any_family.last_life(id), "shutdown") for id in "ba"]


def test_start_names_the_child_that_failed_and_its_reason(any_family: Family) -> None:
    """S3: `start` raises, naming the child and its reason."""
    any_family.script("culprit").at("start", raising(Boom("out of paper")))
    with pytest.raises(StartFailed) as caught:
        any_family.start([any_family.spec("innocent"), any_family.spec("culprit")])
    message = str(caught.value)
    assert "culprit" in message
    assert "out of paper" in message
    assert "innocent" not in message


def test_start_names_the_child_of_a_nested_supervisor_that_failed(family: Family) -> None:
    """S3: in a tree, the child is named as well as the supervisor that it belongs to."""
    family.script("culprit").at("start", raising(Boom("out of paper")))
    inner = Supervisor.child_spec([family.spec("b"), family.spec("culprit")], id="inner")
    with pytest.raises(StartFailed) as caught:
        family.start([family.spec("a"), inner])
    for word in ("inner", "culprit", "out of paper"):
        assert word in str(caught.value)
    assert family.lines() == ["start a", "start b", "stop b", "stop a"]


def test_a_start_that_failed_leaves_its_name_free(family: Family) -> None:
    """S3: nothing is left of a supervisor that could not start."""
    family.fails_to_start("a", times=1)
    with pytest.raises(StartFailed):
        family.start("a", name=":shop")
    assert ActorRegistry.get_by_name(":shop") is None
    family.start("a", name=":shop")


def test_a_start_that_failed_is_not_tried_again(family: Family) -> None:
    """S3: restarts are for what has once been up."""
    family.fails_to_start("a")
    with pytest.raises(StartFailed):
        family.start("a")
    assert family.attempts("a") == 1


# 4


def test_duplicate_ids_are_refused_before_anything_starts(any_family: Family) -> None:
    """S4: duplicate ids are refused, with the id."""
    with pytest.raises(SpecError, match="'twin'.*id") as caught:
        any_family.start([any_family.spec(id) for id in ("a", "twin", "twin")])
    assert (caught.value.child, caught.value.field) == ("twin", "id")
    assert any_family.attempts("a") == 0


def test_duplicate_ids_of_a_nested_supervisor_are_refused_when_its_spec_is_made(
    family: Family,
) -> None:
    """S4: those of a nested supervisor before there is any supervisor."""
    with pytest.raises(SpecError, match="twin"):
        Supervisor.child_spec([family.spec("twin"), family.spec("twin")])


def test_the_same_id_may_occur_in_different_supervisors(family: Family) -> None:
    """S4: ids are unique among the children of one supervisor only."""
    inner = Supervisor.child_spec([family.spec("a")], id="inner")
    family.start([family.spec("a"), inner])
    assert family.lines() == ["start a", "start a"]


# 5


def _start_of(*start: Any) -> dict[str, Any]:
    return {"start": start}


NONSENSE: list[tuple[str, dict[str, Any]]] = [
    ("start", {"start": None}),
    ("start", {"start": Worker}),
    ("start", _start_of()),
    ("start", _start_of(Worker)),
    ("start", _start_of(Worker, ())),
    ("start", _start_of(None, (), {})),
    ("start", _start_of("no module", (), {})),
    ("start", _start_of(Worker, "args", {})),
    ("start", _start_of(Worker, (), ())),
    ("start", _start_of(Worker, (), {1: 2})),
    ("start", _start_of(Worker, (), {})),
    ("start", _start_of(dict, (), {})),
    ("restart", {"restart": "always"}),
    ("restart", {"restart": None}),
    ("restart", {"restart": True}),
    ("shutdown", {"shutdown": -1}),
    ("shutdown", {"shutdown": float("nan")}),
    ("shutdown", {"shutdown": "kill"}),
    ("shutdown", {"shutdown": True}),
    ("type", {"type": "manager"}),
    ("type", {"type": None}),
    ("significant", {"significant": "yes"}),
    ("significant", {"significant": None}),
]


@pytest.mark.parametrize(("field", "given"), NONSENSE, ids=str)
def test_a_spec_that_makes_no_sense_is_refused_before_anything_starts(
    family: Family, field: str, given: dict[str, Any]
) -> None:
    """S5: a missing start, a bad restart or shutdown: the message names the child and the field."""
    fields = {"id": "odd", "start": (Worker, (family.script("odd"),), {})} | given
    with pytest.raises(SpecError, match=f"'odd'.*{field}") as caught:
        family.start([family.spec("a"), ChildSpec(**fields)])
    assert (caught.value.child, caught.value.field) == ("odd", field)
    assert family.attempts("a") == family.attempts("odd") == 0


@pytest.mark.parametrize(("field", "given"), NONSENSE, ids=str)
def test_a_child_that_is_added_is_checked_alike(
    family: Family, field: str, given: dict[str, Any]
) -> None:
    """S5: `start_child` refuses the same specs, and the supervisor lives on."""
    fields = {"id": "odd", "start": (Worker, (family.script("odd"),), {})} | given
    sup, dynamic = family.start("a"), family.start_dynamic()
    with pytest.raises(SpecError, match=f"'odd'.*{field}"):
        Supervisor.start_child(sup, ChildSpec(**fields))
    with pytest.raises(SpecError, match=f"'odd'.*{field}"):
        DynamicSupervisor.start_child(dynamic, ChildSpec(**fields))
    assert states(sup) == [("a", "running")]
    assert states(dynamic) == []
    assert family.attempts("odd") == 0


@pytest.mark.parametrize("id", [None, 7, ""], ids=repr)
def test_a_child_without_an_id_is_refused_by_its_place(family: Family, id: Any) -> None:
    """S5: an id that is none is refused; the message says which child it is, counted from 1."""
    with pytest.raises(SpecError, match="id") as caught:
        family.start([family.spec("a"), ChildSpec(id=id, start=(Worker, (), {}))])
    assert caught.value.field == "id"
    assert family.attempts("a") == 0


@pytest.mark.parametrize("odd", [None, "a", Worker, ("a", Worker)], ids=repr)
def test_what_is_no_spec_is_refused(family: Family, odd: Any) -> None:
    """S5: a child that is no `ChildSpec` at all is refused, by its place."""
    with pytest.raises(SpecError, match="child number 2") as caught:
        family.start([family.spec("a"), odd])
    assert caught.value.field is None
    assert family.attempts("a") == 0


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "one_for_two"},
        {"strategy": None},
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"max_restarts": True},
        {"max_seconds": 0},
        {"max_seconds": -1.0},
        {"max_seconds": "5"},
        {"max_seconds": float("nan")},
        {"max_seconds": float("inf")},
        {"auto_shutdown": "always"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_starts(
    family: Family, options: dict[str, Any]
) -> None:
    """S5: so are the options of the supervisor, by their names."""
    [option] = options
    with pytest.raises(OptionError, match=option):
        family.start("a", **options)
    with pytest.raises(ValueError, match=option):
        Supervisor.child_spec(family.specs("a"), **options)
    assert family.attempts("a") == 0


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "one_for_all"},
        {"max_restarts": -1},
        {"max_seconds": 0},
        {"max_children": -1},
        {"max_children": 1.5},
        {"extra_arguments": "abc"},
    ],
    ids=str,
)
def test_an_option_of_a_dynamic_supervisor_that_makes_no_sense_is_refused(
    options: dict[str, Any],
) -> None:
    """S5: and those of a dynamic one; its only strategy is `one_for_one`."""
    [option] = options
    with pytest.raises(OptionError, match=option):
        DynamicSupervisor.start(**options)
    with pytest.raises(ValueError, match=option):
        DynamicSupervisor.child_spec(**options)


@pytest.mark.parametrize("name", ["shop", "", ":a shop", 7], ids=repr)
def test_a_name_that_is_none_is_refused_before_anything_starts(family: Family, name: Any) -> None:
    """S5: so is a name that is none."""
    with pytest.raises(ValueError, match="name"):
        family.start("a", name=name)
    assert family.attempts("a") == 0


def test_a_start_that_starts_no_process_is_a_failure_to_start(family: Family) -> None:
    """S5: what a start function returns is known only then: it is an error of that child."""
    with pytest.raises(StartFailed, match="odd"):
        family.start([family.spec("a"), ChildSpec("odd", (lambda: "done", (), {}))])
    assert family.lines() == ["start a", "stop a"]


# 6


def test_the_spec_of_a_child_that_declines_to_start_is_kept(any_family: Family) -> None:
    """S6: its spec is kept without an actor, and the others start."""
    any_family.script("b").at("start", raising(Ignore()))
    sup = any_family.start("abc")
    assert any_family.lines() == ["start a", "start c"]
    assert states(sup) == [("a", "running"), ("b", None), ("c", "running")]


def test_the_spec_of_a_temporary_child_that_declines_to_start_is_dropped(
    any_family: Family,
) -> None:
    """S6: a temporary one's spec is dropped."""
    any_family.script("b").at("start", raising(Ignore()))
    sup = any_family.start([any_family.spec("a"), any_family.spec("b", restart="temporary")])
    assert states(sup) == [("a", "running")]


def test_a_start_function_may_decline(family: Family) -> None:
    """S6: it need not be an actor that says so."""
    sup = family.start([ChildSpec(id="b", start=(raising(Ignore()), (), {})), family.spec("a")])
    assert states(sup) == [("b", None), ("a", "running")]


def test_who_has_declined_may_be_started_later(any_family: Family) -> None:
    """S6: the spec that was kept serves `restart_child`."""
    any_family.script("a").at("start", raising(Ignore()))
    sup = any_family.start("a")
    assert Supervisor.restart_child(sup, "a", timeout=LIMIT) is child(sup, "a")


@pytest.mark.parametrize(("restart", "kept"), [("permanent", [("a", None)]), ("temporary", [])])
def test_a_child_that_is_added_may_decline(
    any_family: Family, restart: str, kept: list[tuple[str, None]]
) -> None:
    """S6: `start_child` returns `None` then."""
    any_family.script("a").at("start", raising(Ignore()))
    sup = any_family.start()
    assert Supervisor.start_child(sup, any_family.spec("a", restart=restart)) is None
    assert states(sup) == kept


def test_who_declines_to_start_again_stays_without_an_actor(any_family: Family) -> None:
    """S6: declining is no failure at a restart either: there are no more attempts."""
    sup = any_family.start("a")
    any_family.script("a").at("start", raising(Ignore()))
    crash(sup, "a")
    assert states(sup) == [("a", None)]
    assert any_family.attempts("a") == 2


# 7


def test_a_taken_name_is_refused_with_the_reference(family: Family) -> None:
    """S7: already started, with the ref; and no child of the second is started."""
    first = family.start("a", name=":shop")
    with pytest.raises(AlreadyStarted, match=":shop") as caught:
        family.start("b", name=":shop")
    assert caught.value.ref is first
    assert family.attempts("b") == 0
    assert states(":shop") == [("a", "running")]


def test_a_name_that_another_process_bears_is_taken_as_well(family: Family) -> None:
    """S7: whoever bears it."""

    class Bearer(Process):
        def on_start(self) -> None:
            self.register(":shop")

    bearer = Bearer.start()
    with pytest.raises(AlreadyStarted) as caught:
        family.start(name=":shop")
    assert caught.value.ref is bearer
    bearer.stop(timeout=LIMIT)
    family.start(name=":shop")


def test_a_dynamic_supervisor_refuses_a_taken_name_alike(family: Family) -> None:
    """S7: a dynamic supervisor as well."""
    first = family.start_dynamic(name=":pool")
    with pytest.raises(AlreadyStarted) as caught:
        family.start_dynamic(name=":pool")
    assert caught.value.ref is first


def test_a_nested_supervisor_with_a_taken_name_is_a_child_that_fails_to_start(
    family: Family,
) -> None:
    """S7: its supervisor says who could not start, and why."""
    family.start(name=":shop")
    inner = Supervisor.child_spec(id="inner", name=":shop")
    with pytest.raises(StartFailed, match="inner.*:shop"):
        family.start([inner])


# 8


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor], ids=lambda kind: kind.__name__)
def test_defaults_of_a_supervisor(kind: Any) -> None:
    """S8: one_for_one, 3 restarts in 5 s."""
    defaults = _defaults(kind.start)
    assert defaults["strategy"] == "one_for_one"
    assert (defaults["max_restarts"], defaults["max_seconds"]) == (3, 5.0)


def test_by_default_nothing_but_its_patience_ends_a_supervisor() -> None:
    """S8: there is no auto-shutdown, and no bound on dynamic children."""
    assert _defaults(Supervisor.start)["auto_shutdown"] == "never"
    assert _defaults(DynamicSupervisor.start)["max_children"] is None


def test_defaults_of_a_child() -> None:
    """S8: permanent, worker, 5 s shutdown."""
    spec = ChildSpec("a", (Worker, (), {}))
    assert (spec.restart, spec.type, spec.shutdown) == ("permanent", "worker", 5.0)
    assert spec.significant is False


@pytest.mark.parametrize(
    "make",
    [
        Supervisor.child_spec,
        DynamicSupervisor.child_spec,
        lambda: ChildSpec("a", (Worker, (), {}), type="supervisor"),
    ],
    ids=["Supervisor", "DynamicSupervisor", "ChildSpec"],
)
def test_defaults_of_a_child_that_is_a_supervisor(make: Any) -> None:
    """S8: for a supervisor child the shutdown waits without limit."""
    spec = make()
    assert (spec.restart, spec.type, spec.shutdown) == ("permanent", "supervisor", None)
    assert spec.significant is False


def test_the_id_of_a_child_that_is_a_supervisor_is_its_name_if_it_has_one() -> None:
    """S8: its id is given, or its name, or what it is."""
    assert Supervisor.child_spec().id == "Supervisor"
    assert DynamicSupervisor.child_spec().id == "DynamicSupervisor"
    assert Supervisor.child_spec(name=":shop").id == ":shop"
    assert Supervisor.child_spec(name=":shop", id="mine").id == "mine"


def test_by_default_a_crash_touches_the_dead_one_only(any_family: Family) -> None:
    """S8: as one_for_one does."""
    sup = any_family.start("ab")
    before = children(sup)
    crash(sup, "a")
    assert child(sup, "a") is not before["a"]
    assert child(sup, "b") is before["b"]
