"""What a supervisor refuses before anything starts, and what it says (S4, S5, S38)."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest.mock import ANY

import pykka
import pytest

from exraft import StateMachine
from exraft.actors.process import Process
from exraft.child_spec import ChildSpec
from exraft.errors import OptionError
from exraft.supervision.checking import (
    check_children,
    check_dynamic_options,
    check_options,
    check_spec,
)
from exraft.supervision.decision import AutoShutdown
from exraft.supervision.errors import SpecError


class Mailer(pykka.ThreadingActor):
    def __init__(self, host: str, retries: int = 0) -> None:
        super().__init__()


class Postman(Process):
    def __init__(self, street: str) -> None:
        super().__init__()


class OwnStart(pykka.ThreadingActor):
    def __init__(self, host: str) -> None:
        super().__init__()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> Any:
        return super().start("the only host")


class Ledger(StateMachine):
    def handle_write(self, command: Any, state: Any) -> Any: ...

    def handle_read(self, query: Any, state: Any) -> Any: ...


def start_mailer(host: str) -> Any: ...


GOOD = ChildSpec("mailer", (Mailer, ("smtp.local",), {"retries": 3}))


def a_spec(**fields: Any) -> ChildSpec:
    return replace(GOOD, **fields)


def refusal(spec: object, **options: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        check_spec(spec, **options)
    return caught.value


def test_a_good_spec_is_returned_as_it_was() -> None:
    assert check_spec(GOOD) == GOOD


def test_a_spec_is_taken_with_arguments_of_its_own() -> None:
    """S12."""
    hosts = ["a"]
    taken = check_spec(a_spec(start=(Mailer, (hosts,), {})))
    hosts.append("b")
    assert taken.start[1] == (["a"],)


# Fields.


@pytest.mark.parametrize("id", ["", None, 7, Mailer, ("a", 1)])
def test_an_id_is_a_string(id: Any) -> None:
    error = refusal(a_spec(id=id), place=3)
    assert (error.child, error.field) == (3, "id")
    assert str(error).startswith("child number 3, id: a string that is not empty is wanted, not ")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (None, "missing; a tuple of three is wanted"),
        (Mailer, r"did you mean \(Mailer, \(\), {}\)\?"),
        ("shop:Mailer", r"did you mean \('shop:Mailer', \(\), {}\)\?"),
        ((Mailer,), r"did you mean \(Mailer, \(\), {}\)\?"),
        ((Mailer, ("a",)), r"did you mean \(Mailer, \('a',\), {}\)\?"),
        ((Mailer, "a"), r"did you mean \(Mailer, \('a',\), {}\)\?"),
        ((Mailer, {"retries": 3}), r"did you mean \(Mailer, \(\), {'retries': 3}\)\?"),
        ([Mailer, ["a"], {}], r"did you mean \(Mailer, \('a',\), {}\)\?"),
        ((Mailer, "a", 3, {}), r"did you mean \(Mailer, \('a', 3\), {}\)\?"),
        ((), r"wanted.*not \(\)"),
        (7, "a tuple of three is wanted.*not 7"),
        ((7, (), {}), "the first of the three is a class, a function.*not 7"),
        ((threading, (), {}), "the first of the three.*not <module 'threading'"),
        ((Mailer, ["a"], {}), r"the second of the three.*did you mean \('a',\)\?"),
        ((Mailer, "a", {}), r"the second of the three.*not 'a': did you mean \('a',\)\?"),
        ((Mailer, None, {}), "the second of the three.*not None"),
        ((Mailer, ("a",), None), "the third of the three.*not None"),
        ((Mailer, ("a",), (("retries", 3),)), "the third of the three"),
        ((Mailer, ("a",), {1: 3}), "the third of the three.*by name, not {1: 3}"),
    ],
)
def test_a_start_is_a_function_with_its_arguments(start: Any, says: str) -> None:
    error = refusal(a_spec(start=start))
    assert (error.child, error.field) == ("mailer", "start")
    with pytest.raises(SpecError, match=f"^child 'mailer', start: .*{says}"):
        raise error


def test_a_running_actor_is_no_start() -> None:
    ref = pykka.ThreadingActor.start()
    try:
        assert "It runs already: give its class" in str(refusal(a_spec(start=(ref, (), {}))))
        error = refusal(ref)
        assert "it runs already" in str(error)
    finally:
        ref.stop()


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:Mailer",
        "threading:NoSuchThing",
        "not a name",
        "",
        "threading",
        "threading:TIMEOUT_MAX",
    ],
)
def test_a_start_function_must_be_found_under_its_name(name: str) -> None:
    """S5."""
    error = refusal(a_spec(start=(name, (), {})))
    assert (error.child, error.field) == ("mailer", "start")
    assert f"{name!r} can't be looked up" in str(error)
    assert "'package.module:attribute'" in str(error)
    assert error.__cause__ is not None


def test_a_module_that_fails_at_its_import_is_named_with_its_failure(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_with_a_fault.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = refusal(a_spec(start=("shop_with_a_fault:Mailer", (), {})))
    assert "ZeroDivisionError" in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ((Mailer, (), {}), "missing a required argument: 'host'"),
        ((Mailer, ("a", 1, 2), {}), "too many positional arguments"),
        ((Mailer, ("a",), {"retrys": 3}), "got an unexpected keyword argument 'retrys'"),
        ((Mailer.start, (), {}), "Mailer.*missing a required argument: 'host'"),
        ((Postman, (), {}), "missing a required argument: 'street'"),
        ((Postman.start, (), {}), "Postman.*missing a required argument: 'street'"),
        ((start_mailer, (), {}), r"start_mailer\(host.*missing a required argument: 'host'"),
        ((lambda: None, (1,), {}), "too many positional arguments"),
        ((functools.partial(start_mailer, "a"), ("b",), {}), "too many positional arguments"),
        ((f"{__name__}:start_mailer", (), {}), "missing a required argument: 'host'"),
    ],
)
def test_arguments_must_fit_the_function(start: Any, says: str) -> None:
    error = refusal(a_spec(start=start))
    assert (error.child, error.field) == ("mailer", "start")
    with pytest.raises(SpecError, match=says):
        raise error


def injecting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def start() -> Any:
        return function("smtp.local")

    return start


class Signless:
    """Callable, and nobody can tell with what."""

    @property
    def __signature__(self) -> Any:
        raise ValueError("none")

    def __call__(self, *args: Any) -> Any: ...


@pytest.mark.parametrize(
    "start",
    [
        (Mailer, ("a",), {}),
        (Mailer.start, ("a",), {"retries": 3}),
        (pykka.ThreadingActor, (), {}),
        (Postman.start, ("a",), {}),
        (OwnStart.start, (), {}),
        (start_mailer, (), {"host": "a"}),
        (functools.partial(start_mailer, "a"), (), {}),
        (injecting(start_mailer), (), {}),
        (Signless(), (1, 2), {}),
        (f"{__name__}:Mailer", ("a",), MappingProxyType({"retries": 3})),
        (f"{__name__}:Mailer.start", ("a",), {}),
    ],
    ids=lambda start: str(start[0]),
)
def test_whatever_starts_an_actor_may_be_the_function(start: Any) -> None:
    check_spec(a_spec(start=start))


def test_extra_arguments_come_before_those_of_the_spec() -> None:
    """S50."""
    check_spec(a_spec(start=(start_mailer, (), {})), extra_arguments=("smtp.local",))
    error = refusal(a_spec(start=(start_mailer, ("a",), {})), extra_arguments=("smtp.local",))
    assert "too many positional arguments" in str(error)


def test_a_class_that_is_none_of_actors_is_refused() -> None:
    error = refusal(a_spec(start=(threading.Thread, (), {})))
    assert (error.child, error.field) == ("mailer", "start")
    assert "Thread is no class of actors" in str(error)


def test_for_a_state_machine_its_child_spec_is_what_was_meant() -> None:
    assert "Did you mean Ledger.child_spec(...)?" in str(
        refusal(a_spec(start=(Ledger, (), {"name": ":raft1"})))
    )


@pytest.mark.parametrize("value", ["permanent", "transient", "temporary"])
def test_the_restart_types_are_otps(value: Any) -> None:
    assert check_spec(a_spec(restart=value)).restart == value


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("restart", "permanant", "not 'permanant': did you mean 'permanent'?"),
        ("restart", ":transient", "not ':transient': did you mean 'transient'?"),
        ("restart", "Temporary", "did you mean 'temporary'?"),
        ("restart", "always", "'permanent', 'transient' or 'temporary' is wanted, not 'always'"),
        ("restart", None, "not None"),
        ("restart", True, "not True"),
        ("restart", ["permanent"], "not ['permanent']"),
        ("restart", ANY, "is wanted, not <ANY>"),
        ("type", "superviser", "did you mean 'supervisor'?"),
        ("type", Mailer, "'worker' or 'supervisor' is wanted, not <class "),
        ("shutdown", "brutal-kill", "not 'brutal-kill': did you mean 'brutal_kill'?"),
        ("shutdown", ":brutal_kill", "did you mean 'brutal_kill'?"),
        ("shutdown", "infinity", "None (no limit) is wanted, not 'infinity'"),
        ("shutdown", float("inf"), "None (no limit) is wanted, not inf"),
        ("shutdown", float("nan"), "not nan"),
        ("shutdown", -1, "a number of seconds from 0 on, 'brutal_kill' (no patience)"),
        ("shutdown", True, "not True"),
        ("shutdown", "5", "not '5'"),
        ("shutdown", 5000, "5000 seconds is longer than 300 s"),
        ("shutdown", 5000, "exraft seconds: did you mean 5.0? (None: no limit)"),
        ("shutdown", 1_000_000, "exraft seconds (None: no limit)"),
        ("shutdown", 10**400, "exraft seconds (None: no limit)"),
        ("significant", 1, "True or False is wanted, not 1"),
        ("significant", None, "not None"),
    ],
)
def test_a_wrong_value_is_told_what_is_wanted(field: str, value: Any, says: str) -> None:
    """S5."""
    error = refusal(a_spec(**{field: value}))
    assert (error.child, error.field) == ("mailer", field)
    assert str(error).startswith(f"child 'mailer', {field}: ")
    assert says in str(error)


@pytest.mark.parametrize("value", [0, 0.5, 5, 300, None, "brutal_kill"])
def test_a_shutdown_is_in_seconds_or_without_limit_or_without_patience(value: Any) -> None:
    assert check_spec(a_spec(shutdown=value)).shutdown == value


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_a_permanent_child_can_not_be_significant(auto_shutdown: AutoShutdown) -> None:
    """S38."""
    error = refusal(a_spec(significant=True), auto_shutdown=auto_shutdown)
    assert (error.child, error.field) == ("mailer", "significant")
    assert "a permanent child is always started again" in str(error)


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_needs_a_supervisor_with_auto_shutdown(restart: Any) -> None:
    """S38."""
    spec = a_spec(restart=restart, significant=True)
    error = refusal(spec, auto_shutdown="never")
    assert (error.child, error.field) == ("mailer", "significant")
    assert "auto_shutdown='never'" in str(error)
    assert check_spec(spec, auto_shutdown="any_significant") == spec
    assert check_spec(spec, auto_shutdown="all_significant") == spec


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_value_whose_repr_fails_or_never_ends_does_not_spoil_the_message() -> None:
    assert "BadRepr" in str(refusal(a_spec(restart=BadRepr())))
    assert len(str(refusal(a_spec(restart="x" * 10_000)))) < 300


# What is no spec.


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Mailer, "did you mean ChildSpec(id='Mailer', start=(Mailer, (), {}))?"),
        (start_mailer, "did you mean ChildSpec(id='start_mailer', start=(start_mailer, (), {}))?"),
        ((Mailer, "a"), "did you mean ChildSpec(id='Mailer', start=(Mailer, ('a',), {}))?"),
        (
            (Mailer, ("a",), {"retries": 3}),
            "did you mean ChildSpec(id='Mailer', start=(Mailer, ('a',), {'retries': 3}))?",
        ),
        ([Mailer, "a"], "did you mean ChildSpec(id='Mailer', start=(Mailer, ('a',), {}))?"),
        ({"id": "a", "shutdown": 5}, "did you mean ChildSpec(id='a', shutdown=5)?"),
        (Ledger, "did you mean Ledger.child_spec(...)?"),
        (ChildSpec, "did you mean ChildSpec(id='mailer', start=(Mailer, "),
        (None, "not None. One is ChildSpec(id='mailer', start=(Mailer, "),
        ("mailer", "not 'mailer'. One is ChildSpec("),
        ((), "not (). One is ChildSpec("),
    ],
)
def test_what_is_no_spec_is_shown_the_spec_that_was_meant(value: Any, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_children([GOOD, value])
    error = caught.value
    assert (error.child, error.field) == (2, None)
    assert str(error).startswith("child number 2: a ChildSpec is wanted, not ")
    assert says in str(error)


@pytest.mark.parametrize(
    ("children", "says"),
    [
        (GOOD, "not a single one: put it into a list"),
        ({"mailer": Mailer}, "not a mapping: the id belongs into each ChildSpec"),
        (Mailer, "not <class "),
        (None, "not None"),
        ("mailer", "not 'mailer'"),
        ({1}, "use list(...)"),
        ((spec for spec in [GOOD]), "use list(...)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_children_are_a_list(children: Any, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_children(children)
    assert str(caught.value).startswith("the child: a list of child specs is wanted")
    assert says in str(caught.value)
    assert ("use list" in str(caught.value)) is ("use list" in says)


def test_children_are_returned_in_their_order_with_arguments_of_their_own() -> None:
    """S1, S12."""
    hosts = ["a"]
    specs = [a_spec(id="b", start=(Mailer, (hosts,), {})), a_spec(id="a")]
    taken = check_children(specs)
    assert list(taken) == specs
    hosts.append("b")
    assert taken[0].start[1] == (["a"],)
    assert check_children(()) == ()


def test_two_children_with_one_id_are_refused_with_both_places() -> None:
    """S4."""
    with pytest.raises(SpecError) as caught:
        check_children([a_spec(id="a"), a_spec(id="b"), a_spec(id="a")])
    assert (caught.value.child, caught.value.field) == ("a", "id")
    assert "children number 1 and 3" in str(caught.value)


def test_children_are_checked_for_their_supervisors_auto_shutdown() -> None:
    """S38."""
    spec = a_spec(restart="transient", significant=True)
    assert check_children([spec], auto_shutdown="any_significant") == (spec,)
    with pytest.raises(SpecError, match="child 'mailer', significant"):
        check_children([spec])


# Trees in trees.


def test_a_nested_tree_is_looked_into_when_its_spec_is_right() -> None:
    seen: list[ChildSpec] = []
    check_children([a_spec(id="a"), a_spec(id="b")], nested=seen.append)
    assert [spec.id for spec in seen] == ["a", "b"]
    with pytest.raises(SpecError):
        check_children([a_spec(id="c", restart="x")], nested=seen.append)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "fault", [SpecError("mailer", "restart", "no"), OptionError("strategy: no"), ValueError("no")]
)
def test_what_is_wrong_in_a_nested_tree_names_the_way_to_it(fault: ValueError) -> None:
    def nested(spec: ChildSpec) -> None:
        raise fault

    error = refusal(a_spec(id="shop"), nested=nested)
    assert (error.child, error.field) == ("shop", "start")
    assert str(error) == f"child 'shop', start: in its own tree, {fault}"
    assert error.__cause__ is fault


# Options.


OPTIONS: dict[str, Any] = {"strategy": "one_for_one", "max_restarts": 3, "max_seconds": 5.0}


@pytest.mark.parametrize("check", [check_options, check_dynamic_options])
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("strategy", "one_for_al", "did you mean 'one_for_all'?"),
        ("strategy", ":one_for_one", "did you mean 'one_for_one'?"),
        ("strategy", None, "is wanted, not None"),
        ("max_restarts", -1, "a whole number from 0 on is wanted, not -1"),
        ("max_restarts", True, "not True"),
        ("max_restarts", 1.0, "not 1.0"),
        ("max_restarts", None, "not None"),
        ("max_seconds", 0, "a number of seconds above 0 is wanted, not 0"),
        ("max_seconds", float("inf"), "not inf"),
        ("max_seconds", float("nan"), "not nan"),
        ("max_seconds", True, "not True"),
        ("max_seconds", "5", "a number of seconds is wanted, not '5'"),
        ("name", "shop", "such as ':shop'"),
        ("name", 7, "not 7"),
        ("on_end", 7, "a function or None is wanted, not 7"),
    ],
)
def test_a_wrong_option_is_told_what_is_wanted(
    check: Callable[..., None], option: str, value: Any, says: str
) -> None:
    with pytest.raises(OptionError) as caught:
        check(**{**OPTIONS, option: value})
    assert str(caught.value).startswith(f"{option}: ")
    assert says in str(caught.value)


def test_a_wrong_auto_shutdown_is_told_the_right_ones() -> None:
    with pytest.raises(OptionError, match="auto_shutdown: .*did you mean 'any_significant'"):
        check_options(**OPTIONS, auto_shutdown="any-significant")
    with pytest.raises(OptionError, match="'never', 'any_significant' or 'all_significant' is"):
        check_options(**OPTIONS, auto_shutdown=None)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("auto_shutdown", ["never", "any_significant", "all_significant"])
def test_otps_options_are_taken(strategy: str, auto_shutdown: str) -> None:
    check_options(
        strategy=strategy,
        max_restarts=0,
        max_seconds=1,
        auto_shutdown=auto_shutdown,
        name=":shop",
        on_end=print,
    )


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_children_in_no_order_have_no_strategy_but_one_for_one(strategy: str) -> None:
    with pytest.raises(OptionError, match="strategy: a DynamicSupervisor has 'one_for_one' only"):
        check_dynamic_options(**{**OPTIONS, "strategy": strategy})


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("max_children", -1, r"a whole number from 0 on is wanted, not -1 \(None: no limit\)"),
        ("max_children", 1.5, "not 1.5"),
        ("max_children", True, "not True"),
        ("max_children", float("inf"), r"not inf \(None: no limit\)"),
        ("extra_arguments", "smtp.local", r"did you mean \('smtp.local',\)\?"),
        ("extra_arguments", None, "a tuple is wanted, not None"),
    ],
)
def test_a_wrong_option_of_a_dynamic_supervisor_is_told_what_is_wanted(
    option: str, value: Any, says: str
) -> None:
    with pytest.raises(OptionError, match=f"^{option}: .*{says}"):
        check_dynamic_options(**OPTIONS, **{option: value})


@pytest.mark.parametrize("max_children", [None, 0, 100])
def test_the_options_of_a_dynamic_supervisor_are_taken(max_children: Any) -> None:
    check_dynamic_options(
        **OPTIONS, max_children=max_children, extra_arguments=["a"], name=":pool", on_end=print
    )
