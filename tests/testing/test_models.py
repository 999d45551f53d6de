from __future__ import annotations

import threading
from typing import Any

import pytest

from examples.kv_store import KeyValueStore
from exraft import StateMachine
from exraft.errors import MachineError, NotSerialisable
from exraft.testing.history import Kind, Raised
from exraft.testing.models import Counter, KeyValue, MachineModel, Model, Register


def answers(model: Model[Any], *calls: tuple[Kind, Any]) -> list[Any]:
    state = model.initial
    result = []
    for kind, call in calls:
        answer, state = model.step(state, call, kind)
        result.append(answer)
    return result


def raised(answer: Any) -> BaseException:
    assert isinstance(answer, Raised)
    return answer.exception


def test_a_register_is_written_read_and_compared() -> None:
    assert answers(
        Register(0),
        ("read", None),
        ("write", ("write", 1)),
        ("write", ("cas", 0, 2)),
        ("write", ("cas", 1, 2)),
        ("read", None),
    ) == [0, "ok", False, True, 2]


def test_a_key_value_store_keeps_its_keys_apart() -> None:
    assert answers(
        KeyValue({"z": 9}),
        ("write", ("put", "x", 1)),
        ("read", "x"),
        ("read", "y"),
        ("write", ("cas", "x", 2, 3)),
        ("write", ("cas", "x", 1, 3)),
        ("write", ("delete", "x")),
        ("write", ("delete", "x")),
        ("read", "z"),
    ) == ["ok", 1, None, False, True, 3, None, 9]


def test_a_counter_answers_the_sum() -> None:
    assert answers(Counter(5), ("write", 2), ("read", None), ("write", -3)) == [7, 7, 4]


def test_a_key_value_call_is_confined_to_its_key() -> None:
    model = KeyValue()
    calls: list[tuple[Kind, Any]] = [
        ("read", "x"),
        ("write", ("put", "x", 1)),
        ("write", ("delete", "x")),
        ("write", ("cas", "x", 1, 2)),
    ]
    assert [model.key(call, kind) for kind, call in calls] == ["x"] * 4


@pytest.mark.parametrize("model", [Register(), KeyValue()])
def test_an_unknown_command_is_refused(model: Model[Any]) -> None:
    with pytest.raises(ValueError, match="is no command of a"):
        model.step(model.initial, ("increment",), "write")


def test_an_unknown_command_has_no_key() -> None:
    with pytest.raises(ValueError, match="is no command of a key-value store"):
        KeyValue().key(("put", "x"), "write")


def test_equal_key_value_states_are_equal_however_they_were_reached() -> None:
    model = KeyValue()
    _, xy = model.step(
        model.step(model.initial, ("put", "x", 1), "write")[1], ("put", "y", []), "write"
    )
    _, yx = model.step(
        model.step(model.initial, ("put", "y", []), "write")[1], ("put", "x", 1), "write"
    )
    assert xy == yx
    assert hash(xy) == hash(yx)
    assert xy != model.initial
    assert model.describe(xy) == "{'x': 1, 'y': []}"


class Shop(StateMachine):
    """Every way in which a callback can end."""

    def init(self, init_arg: Any) -> dict[str, Any]:
        return {"stock": 2, "seen": [], **dict(init_arg)}

    def handle_write(self, command: Any, state: dict[str, Any]) -> Any:
        state["seen"].append(command)
        match command:
            case "buy":
                if not state["stock"]:
                    raise LookupError("sold out")
                state["stock"] -= 1
                return state["stock"], state, [lambda: None]
            case "malformed":
                return [0, state]
            case "effects":
                return 0, {}, ["no callable"]
            case "exit":
                raise SystemExit(3)
            case "lock":
                return threading.Lock(), state
            case "state":
                return state, state
            case "memory":
                raise MemoryError
            case "nan":
                raise ValueError(float("nan"))
            case ["list"]:
                command.append("changed")
        return None, state

    def handle_read(self, query: Any, state: dict[str, Any]) -> Any:
        if query == "raise":
            raise KeyError(query)
        if query == "memory":
            raise MemoryError
        if query == "spoil":
            state["stock"] = 0
        return state["stock"] if query == "stock" else state["seen"]


def test_a_machine_is_its_own_model() -> None:
    assert answers(
        MachineModel(KeyValueStore, {"z": 9}),
        ("write", ("put", "x", 1)),
        ("read", "x"),
        ("read", "z"),
        ("write", ("delete", "x")),
        ("read", "x"),
    ) == ["ok", 1, 9, 1, None]


def test_what_a_machine_raises_is_its_answer_and_what_it_changed_in_place_stays() -> None:
    buy: tuple[Kind, Any] = ("write", "buy")
    told = answers(MachineModel(Shop), buy, buy, buy, ("read", "seen"))
    assert told[:2] == [1, 0]
    assert told[2] == Raised(LookupError("sold out"))
    assert told[3] == ["buy"] * 3


def test_a_malformed_return_is_a_machine_error_and_leaves_the_state() -> None:
    told = answers(
        MachineModel(Shop), ("write", "malformed"), ("write", "effects"), ("read", "stock")
    )
    for answer in told[:2]:
        error = raised(answer)
        assert isinstance(error, MachineError)
        assert error.type_name == "malformed return"
    assert told[2] == 2


def test_what_is_no_exception_becomes_a_machine_error() -> None:
    (answer,) = answers(MachineModel(Shop), ("write", "exit"))
    error = raised(answer)
    assert isinstance(error, MachineError)
    assert error.type_name == "SystemExit"


def test_a_reply_that_cannot_be_serialised_is_refused_after_the_command_was_applied() -> None:
    told = answers(MachineModel(Shop), ("write", "lock"), ("read", "seen"))
    assert isinstance(raised(told[0]), NotSerialisable)
    assert told[1] == ["lock"]


def test_what_would_crash_a_server_is_raised() -> None:
    model = MachineModel(Shop)
    with pytest.raises(MemoryError):
        model.step(model.initial, "memory", "write")


def test_what_crashes_no_server_in_a_read_is_its_answer() -> None:
    assert answers(MachineModel(Shop), ("read", "memory")) == [Raised(MemoryError())]


def test_a_failure_matches_what_a_caller_is_told_of_it() -> None:
    model = MachineModel(Shop)
    malformed, nan = answers(model, ("write", "malformed"), ("write", "nan"))
    text = "handle_write returned 5 at index 3"
    assert model.matches(malformed, Raised(MachineError("malformed return", text)))
    assert not model.matches(malformed, Raised(MachineError("SystemExit", text)))
    told = ValueError(float("nan"))
    told.add_note("raised by handle_write of :raft1 at index 3")
    assert model.matches(nan, Raised(told))
    assert not model.matches(nan, Raised(ValueError(1)))


def test_a_read_raises_and_leaves_the_state_whatever_it_does_to_it() -> None:
    told = answers(MachineModel(Shop), ("read", "raise"), ("read", "spoil"), ("read", "stock"))
    assert told[0] == Raised(KeyError("raise"))
    assert told[2] == 2


def test_neither_command_nor_reply_is_shared_with_the_machine() -> None:
    model = MachineModel(Shop)
    command = ["list"]
    _, state = model.step(model.initial, command, "write")
    assert command == ["list"]
    reply, _ = model.step(state, "state", "write")
    reply["stock"] = 0
    assert model.step(state, "stock", "read")[0] == 2


def test_the_first_state_of_a_machine_is_that_of_a_fresh_copy_of_init_arg() -> None:
    given = {"stock": 7}
    model = MachineModel(Shop, given)
    given["stock"] = 8
    assert answers(model, ("read", "stock")) == [7]
    assert "'stock': 7" in model.describe(model.initial)


class Plain:
    """An object without `__eq__`."""

    def __init__(self, value: int) -> None:
        self.value = value


def test_replies_of_a_class_without_equality_match_by_their_content() -> None:
    model = MachineModel(Shop)
    assert model.matches(Plain(1), Plain(1))
    assert not model.matches(Plain(1), Plain(2))
    assert model.matches(float("nan"), float("nan"))
    assert not model.matches(1, "1")


def test_a_key_may_be_promised_for_a_machine() -> None:
    model = MachineModel(
        KeyValueStore,
        key=lambda call, kind: call if kind == "read" else call[1],
        overwrites=lambda call, kind: kind == "write" and call[0] == "put",
    )
    assert model.key("x", "read") == model.key(("put", "x", 1), "write") == "x"
    assert model.overwrites(("put", "x", 1), "write")
    assert not model.overwrites(("delete", "x"), "write")
    assert MachineModel(KeyValueStore).key("x", "read") is None
    assert not MachineModel(KeyValueStore).overwrites(("put", "x", 1), "write")


def test_only_a_machine_can_be_a_machine_model() -> None:
    with pytest.raises(TypeError):
        MachineModel(KeyValueStore())  # type: ignore[arg-type]
