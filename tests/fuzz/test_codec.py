"""Values of every shape cross between caller, log and machine as copies, or are refused.

Knows how to make values that nobody thought of. Must not decode bytes that nobody encoded: they are
pickles, and to decode one is to run it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exraft import codec
from exraft.codec import Encoded, copy_exception, copy_reply, decode, encode, own_copy, reveal
from exraft.errors import MachineError, NotSerialisable

few = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["__main__", "__mp_main__", "_" * 50, "exraft"])
    | st.binary(max_size=20)
    | st.just(...)
)


@dataclass
class Item:
    """Stands for what a script of the user's defines."""

    content: Any


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(scalars, inner, max_size=4)
        | st.sets(scalars, max_size=4)
        | st.frozensets(scalars, max_size=4)
        | st.lists(inner, min_size=1, max_size=1).map(lambda content: bytearray(len(content)))
        | inner.map(Item)
    )


values = st.recursive(scalars, _nested, max_leaves=15)


@pytest.fixture(scope="module", autouse=True)
def _item_is_the_scripts() -> Iterator[None]:
    """`Item` is found in `__main__`, as what the user's script defines is."""
    main = sys.modules["__main__"]
    Item.__module__ = "__main__"
    main.Item = Item  # type: ignore[attr-defined]
    yield
    del main.Item
    Item.__module__ = __name__


@few
@given(values)
def test_a_value_of_any_shape_comes_back_equal(value: Any) -> None:
    again = decode(encode(value))
    assert again == value
    assert type(again) is type(value)


@few
@given(values)
def test_a_reply_of_any_shape_shares_nothing_that_can_change(value: Any) -> None:
    shared = {id(part) for part in parts(value)}
    again = own_copy(value)
    assert again == value
    assert not [part for part in parts(again) if id(part) in shared]


def parts(value: Any) -> Iterator[Any]:
    """All that can change of a value, and in it."""
    if isinstance(value, Item):
        yield value
        yield from parts(value.content)
    elif isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list | tuple):
        if isinstance(value, list):
            yield value
        for inner in value:
            yield from parts(inner)
    elif isinstance(value, set | bytearray):
        yield value


@few
@given(values)
def test_a_reply_that_lost_its_end_is_the_machines_fault(value: Any) -> None:
    data = encode(value)
    for length in range(len(data)):
        with pytest.raises(MachineError):
            reveal(Encoded(data[:length]))


@few
@given(st.lists(values, max_size=3), st.none() | st.text(max_size=10))
def test_an_exception_with_any_arguments_can_be_handed_on(
    arguments: list[Any], note: str | None
) -> None:
    error = LookupError(*arguments)
    copy = copy_exception(error, note, maybe_applied=True)
    assert type(copy) is LookupError
    assert copy.args == error.args
    assert copy is not error


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
@pytest.mark.parametrize("wrap", [list, tuple, Item], ids=lambda each: each.__name__)
def test_nesting_of_any_depth_comes_back_or_is_refused(depth: int, wrap: Any) -> None:
    value: Any = None
    for _ in range(depth):
        value = wrap([value]) if wrap is not Item else Item(value)
    try:
        data = encode(value)
    except NotSerialisable:
        assert depth > 10
    else:
        again = reveal(Encoded(data))
        for _ in range(depth):
            again = again.content if wrap is Item else again[0]
        assert again is None
    finally:
        # Freed from the outside in: Python's own recursion has an end, too.
        while value is not None:
            value = value.content if wrap is Item else value[0]


@few
@given(values)
def test_a_scalar_is_handed_on_as_it_is_and_all_else_encoded(value: Any) -> None:
    reply = copy_reply(value)
    assert type(reply) is Encoded or reply is value
    assert reveal(reply) == value


@pytest.fixture
def _pickle_again() -> Iterator[None]:
    yield
    codec.use("pickle")


@pytest.mark.parametrize("name", ["msgpack", "json"])
@few
@given(value=values)
def test_by_a_plain_codec_a_value_comes_back_as_it_was_or_is_refused(
    _pickle_again: None, name: str, value: Any
) -> None:
    codec.use(name)
    try:
        data = encode(value)
    except NotSerialisable:
        return
    again = decode(data)
    assert type(again) is type(value)
    assert told(again) == told(value)
    assert told(own_copy(value)) == told(value)


def told(value: Any) -> Any:
    """With the type of each part; tuples as lists, which they become where they are no key."""
    if isinstance(value, dict):
        return {(type(key), key): told(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [told(inner) for inner in value]
    return type(value), repr(value)


@pytest.mark.parametrize("name", ["msgpack", "json"])
@few
@given(rest=st.binary(max_size=50), letter=st.sampled_from([b"m", b"M", b"j", b"J", b"", b"x"]))
def test_by_a_plain_codec_any_bytes_are_decoded_or_refused(
    _pickle_again: None, name: str, rest: bytes, letter: bytes
) -> None:
    codec.use(name)
    for data in (b"\xc1" + letter + rest, b"\x80" + rest):
        with contextlib.suppress(ValueError, NotSerialisable):
            decode(data)
