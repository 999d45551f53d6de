"""What a user implements, and how a supervision tree is told of it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from exraft import codec
from exraft.child_spec import ChildSpec, Start
from exraft.errors import NotSerialisable, OptionError
from exraft.machine import (
    NOREPLY,
    RELEASE_CURSOR,
    StateMachine,
    WriteResult,
    check_machine,
    make_machine,
)
from exraft.names import Role


class KeyValueStore(StateMachine):
    def __init__(self, currency: str = "EUR") -> None:
        self.currency = currency

    def handle_write(self, command: Any, state: Any) -> WriteResult:
        _, key, value = command
        state[key] = value
        return "ok", state

    def handle_read(self, query: Any, state: Any) -> Any:
        return state.get(query)


class Choosy(KeyValueStore):
    def is_command(self, command: Any, state: Any) -> bool:
        return bool(command[0] == "put")


class Needy(KeyValueStore):
    def __init__(self, currency: str) -> None:
        super().__init__(currency)


class ReadOnly(StateMachine):
    def handle_read(self, query: Any, state: Any) -> Any:
        return state


def test_a_machine_needs_only_its_two_handlers() -> None:
    machine = KeyValueStore()
    state = machine.init({"a": 1})
    assert state == {"a": 1}
    assert machine.is_command(("put", "b", 2), state) is True
    assert machine.handle_system_write("config", object(), state) is state
    machine.transition(Role.LEADER, state)
    machine.terminate("normal", state)
    assert state == {"a": 1}


def test_whether_a_callback_is_overridden_is_seen_on_the_class() -> None:
    assert type(KeyValueStore()).is_command is StateMachine.is_command
    assert type(Choosy()).is_command is not StateMachine.is_command


def test_a_class_is_a_machine() -> None:
    assert check_machine(KeyValueStore) is KeyValueStore
    assert isinstance(make_machine(KeyValueStore), KeyValueStore)


def test_a_factory_is_a_machine() -> None:
    factory = check_machine(functools.partial(Needy, "CHF"))
    machine = make_machine(factory)
    assert isinstance(machine, Needy)
    assert machine.currency == "CHF"


def test_each_life_has_a_machine_of_its_own() -> None:
    assert make_machine(KeyValueStore) is not make_machine(KeyValueStore)


def test_an_instance_is_refused() -> None:
    with pytest.raises(TypeError, match="give the class KeyValueStore"):
        check_machine(KeyValueStore())


def test_a_class_that_lacks_a_handler_is_refused_by_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="ReadOnly lacks handle_write"):
        check_machine(ReadOnly)
    with pytest.raises(TypeError, match="handle_read and handle_write"):
        check_machine(StateMachine)


def test_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match="dict is no subclass of"):
        check_machine(dict)


@pytest.mark.parametrize("machine", [None, "KeyValueStore", 1, {}])
def test_what_cannot_be_called_is_refused(machine: object) -> None:
    with pytest.raises(TypeError, match="is no state machine"):
        check_machine(machine)


def test_a_machine_that_takes_arguments_is_refused_with_a_way_out() -> None:
    with pytest.raises(TypeError, match=r"'currency'\): give functools.partial\(Needy, "):
        check_machine(Needy)


def test_a_factory_of_something_else_is_found_out_when_it_is_used() -> None:
    def build() -> dict[str, int]:
        return {}

    with pytest.raises(TypeError, match=r"build returned \{\}, which is no instance"):
        make_machine(check_machine(build))


def test_noreply_is_one_object_wherever_it_goes() -> None:
    assert pickle.loads(pickle.dumps(NOREPLY)) is NOREPLY
    assert copy.deepcopy(NOREPLY) is NOREPLY
    assert repr(NOREPLY) == "NOREPLY"


def test_a_child_spec_is_that_of_a_permanent_supervisor_without_limit() -> None:
    spec = KeyValueStore.child_spec({"a": 1}, name=":foo", initial_config=[":foo", ":bar"])
    assert spec.id == ":foo"
    assert spec.restart == "permanent"
    assert spec.shutdown is None
    assert spec.type == "supervisor"
    assert not spec.significant


def test_a_child_spec_is_refused_at_once_if_its_server_would_be() -> None:
    with pytest.raises(OptionError, match="heartbeat_timeout"):
        KeyValueStore.child_spec(name=":foo", heartbeat_timeout=1000)
    with pytest.raises(ValueError, match="no name"):
        KeyValueStore.child_spec(name="foo")
    with pytest.raises(NotSerialisable):
        KeyValueStore.child_spec(threading.Lock(), name=":foo")
    with pytest.raises(OptionError, match="initial_confg"):
        KeyValueStore.child_spec(name=":foo", initial_confg=[":foo"])


def test_a_worker_has_five_seconds_to_stop_and_a_supervisor_no_limit() -> None:
    start: Start = (dict, (), {})
    assert ChildSpec("a", start).shutdown == 5.0
    assert ChildSpec("a", start, type="supervisor").shutdown is None
    assert ChildSpec("a", start, shutdown=None).shutdown is None
    assert ChildSpec("a", start, type="supervisor", shutdown="brutal_kill").shutdown == (
        "brutal_kill"
    )


def test_a_child_spec_does_not_change() -> None:
    spec = ChildSpec("a", (dict, (), {}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.restart = "temporary"  # type: ignore[misc]
    assert dataclasses.replace(spec, restart="temporary").restart == "temporary"


def test_a_start_function_is_a_callable_or_its_name() -> None:
    assert ChildSpec("a", (dict, (), {})).start_function() is dict
    assert ChildSpec("a", ("json:JSONEncoder.encode", (), {})).start_function() is (
        json.JSONEncoder.encode
    )


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("exraft.nowhere:start", ImportError),
        ("json:nothing", AttributeError),
        ("no name", ValueError),
        ("json:__name__", TypeError),
    ],
)
def test_a_start_function_that_is_none_is_refused(function: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ChildSpec("a", (function, (), {})).start_function()


def test_by_default_the_state_is_captured_at_once_and_comes_back() -> None:
    machine = KeyValueStore()
    state = {"k": [1]}
    write = machine.snapshot(state)
    state["k"].append(2)
    file = io.BytesIO()
    write(file)
    file.seek(0)
    assert machine.restore(file) == {"k": [1]}


def test_by_default_a_state_that_cannot_be_serialised_is_refused_at_the_capture() -> None:
    with pytest.raises(NotSerialisable):
        KeyValueStore().snapshot({"k": threading.Lock()})


@pytest.fixture(params=["msgpack", "json"])
def plain(request: pytest.FixtureRequest) -> Iterator[str]:
    codec.use(request.param)
    yield request.param
    codec.use("pickle")


def test_by_a_plain_codec_the_state_is_captured_plainly_and_comes_back(plain: str) -> None:
    machine = KeyValueStore()
    file = io.BytesIO()
    machine.snapshot({"k": [1]})(file)
    assert file.getvalue()[:1] == b"\xc1"
    file.seek(0)
    assert machine.restore(file) == {"k": [1]}


def test_by_a_plain_codec_a_state_that_is_not_plain_is_refused_at_the_capture(plain: str) -> None:
    with pytest.raises(NotSerialisable, match="a value of type set can't be serialised"):
        KeyValueStore().snapshot({"k": {1}})


@pytest.mark.parametrize("state", [{"k": ("a", 1)}, [[()]], ("a", ("b",))])
def test_by_a_plain_codec_a_tuple_in_a_state_is_refused_as_a_copy_would_differ(
    plain: str, state: object
) -> None:
    with pytest.raises(NotSerialisable, match="a tuple in a state"):
        KeyValueStore().snapshot(state)


def test_by_a_plain_codec_what_is_in_two_places_of_a_state_is_refused(plain: str) -> None:
    for shared in ([1], {"a": 1}, []):
        with pytest.raises(NotSerialisable, match="in two places of a state"):
            KeyValueStore().snapshot({"items": [shared], "by_name": {"x": shared}})


def test_a_state_of_plain_data_is_captured_whole(plain: str) -> None:
    shared = "text"
    for state in ({"a": [shared, shared], "b": {"c": [[], {}]}}, ("a", [1]), "text", 5):
        file = io.BytesIO()
        KeyValueStore().snapshot(state)(file)
        file.seek(0)
        assert KeyValueStore().restore(file) == state


def test_by_messagepack_a_key_may_be_a_tuple_which_comes_back_as_one() -> None:
    codec.use("msgpack")
    try:
        file = io.BytesIO()
        KeyValueStore().snapshot({("a", (1,)): [2]})(file)
        file.seek(0)
        assert KeyValueStore().restore(file) == {("a", (1,)): [2]}
    finally:
        codec.use("pickle")


def test_by_a_plain_codec_a_pickled_state_is_not_restored(plain: str) -> None:
    for protocol in range(6):
        with pytest.raises(NotSerialisable, match="takes no pickles"):
            KeyValueStore().restore(io.BytesIO(pickle.dumps({"k": [1]}, protocol)))


def test_an_init_arg_never_leaves_the_process_so_it_need_not_be_plain(plain: str) -> None:
    assert KeyValueStore.child_spec({1, 2}, name=":foo").id == ":foo"


def test_the_release_cursor_is_one_object_and_has_no_effect() -> None:
    assert copy.deepcopy(RELEASE_CURSOR) is RELEASE_CURSOR
    assert pickle.loads(pickle.dumps(RELEASE_CURSOR)) is RELEASE_CURSOR
    assert repr(RELEASE_CURSOR) == "RELEASE_CURSOR"
    RELEASE_CURSOR()
