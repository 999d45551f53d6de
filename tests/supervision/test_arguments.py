"""A child's arguments are those of the beginning at every start (S12)."""

from __future__ import annotations

import threading
from collections import OrderedDict, UserList, defaultdict, deque
from typing import Any, NamedTuple

import pytest

from exraft.child_spec import ChildSpec
from exraft.supervision.arguments import own_start


class Point(NamedTuple):
    x: list[int]


class Labels(list[str]):
    pass


def owned(value: Any) -> Any:
    """`value` after it was copied as a positional argument."""
    return own_start((print, (value,), {}))[1][0]


@pytest.mark.parametrize(
    "value",
    [[1], {"a": 1}, {1}, bytearray(b"a"), [[1]], {"a": [1]}, ([1],), [({"a": {1}},)]],
    ids=repr,
)
def test_pythons_containers_are_copied_all_the_way_down(value: Any) -> None:
    copy = owned(value)
    assert copy == value
    assert type(copy) is type(value)
    while not isinstance(copy, int):
        if not isinstance(copy, tuple):
            assert copy is not value
        copy, value = (next(iter(v.values() if isinstance(v, dict) else v)) for v in (copy, value))


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        object(),
        Point([1]),
        Labels(["a"]),
        OrderedDict(a=[1]),
        defaultdict(list),
        deque([[1]]),
        UserList([1]),
        frozenset({1}),
        "text",
        b"bytes",
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_passed_on_as_it_is(value: Any) -> None:
    assert owned(value) is value
    assert owned([value])[0] is value
    assert owned({"a": (value,)})["a"][0] is value


def test_keyword_arguments_are_copied_too() -> None:
    hosts = ["a"]
    start = own_start((print, (), {"hosts": hosts}))
    hosts.append("b")
    assert start == (print, (), {"hosts": ["a"]})


def test_the_mapping_of_keyword_arguments_is_copied() -> None:
    given = OrderedDict(retries=3)
    kwargs = own_start((print, (), given))[2]
    given["retries"] = 4
    assert kwargs == {"retries": 3}
    assert type(kwargs) is dict


def test_what_was_one_object_remains_one() -> None:
    shared: list[int] = []
    _, args, kwargs = own_start((print, (shared, [shared]), {"again": shared}))
    assert args[0] is not shared
    assert args[0] is args[1][0] is kwargs["again"]


def test_what_holds_itself_is_copied_with_its_cycle() -> None:
    loop: list[Any] = []
    loop.append(loop)
    copy = owned(loop)
    assert copy is not loop
    assert copy[0] is copy

    names: dict[str, Any] = {}
    names["all"] = [names]
    copied_names = owned(names)
    assert copied_names is not names
    assert copied_names["all"][0] is copied_names

    inner: list[Any] = []
    pair = (inner,)
    inner.append(pair)
    copied_pair = owned(pair)
    assert copied_pair[0] is not inner
    assert copied_pair[0][0] is copied_pair


def test_the_function_is_as_given() -> None:
    assert own_start(("m:f", (), {})) == ("m:f", (), {})


def test_the_specs_of_a_nested_tree_are_those_of_the_beginning() -> None:
    hosts = ["a"]
    store = object()
    nested = ChildSpec("mailer", (print, (hosts, store), {}), restart="transient", shutdown=1.0)
    copy = owned([nested])[0]
    hosts.append("b")
    assert copy.start == (print, (["a"], store), {})
    assert (copy.id, copy.restart, copy.shutdown) == ("mailer", "transient", 1.0)


def test_a_nested_spec_that_is_wrong_is_left_for_its_supervisor_to_refuse() -> None:
    nested: Any = ChildSpec("mailer", None)  # type: ignore[arg-type]
    assert owned(nested) == nested
