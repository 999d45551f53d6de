from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from exraft.errors import (
    CallTimeout,
    CommandRejected,
    MachineError,
    NoLeader,
    NotSerialisable,
    mark_applied,
)
from exraft.testing.history import History, Operation, Raised, alike, times


class SoldOut(Exception):
    pass


def failing(error: BaseException) -> object:
    def call() -> None:
        raise error

    return call


def run(history: History, kind: str, error: BaseException) -> None:
    record = history.write if kind == "write" else history.read
    with pytest.raises(type(error)):
        record("alice", "call", failing(error))  # type: ignore[arg-type]


def test_a_history_is_the_sequence_of_its_operations_by_invocation() -> None:
    history = History()
    first = history.invoke("alice", ("put", "x", 1), "write", 1.0)
    second = history.invoke("bob", "x", "read", 2.0)
    history.complete(second, 1, 3.0)
    history.complete(first, "ok", 4.0)
    assert list(history) == [
        Operation("alice", ("put", "x", 1), "write", 1.0, 4.0, "ok"),
        Operation("bob", "x", "read", 2.0, 3.0, 1),
    ]
    assert len(history) == 2
    assert history[1].client == "bob"
    assert [operation.client for operation in history[:1]] == ["alice"]


def test_what_was_neither_completed_nor_failed_is_pending() -> None:
    history = History()
    history.invoke("alice", 1, "write", 1.0)
    assert history[0].pending
    assert history[0].returned is None


def test_a_failed_operation_leaves_the_history() -> None:
    history = History()
    token = history.invoke("alice", 1, "write", 1.0)
    history.fail(token)
    assert list(history) == []
    with pytest.raises(KeyError):
        history.complete(token, "ok", 2.0)


def test_an_operation_returns_once() -> None:
    history = History()
    token = history.invoke("alice", 1, "write", 1.0)
    history.complete(token, "ok", 2.0)
    with pytest.raises(ValueError, match="returned already"):
        history.complete(token, "ok", 3.0)
    with pytest.raises(ValueError, match="returned already"):
        history.fail(token)


def test_events_of_one_instant_keep_the_order_in_which_they_were_recorded() -> None:
    history = History()
    for turn in range(3):
        history.complete(history.invoke("alice", turn, "write", 5.0), turn, 5.0)
    history.complete(history.invoke("alice", 3, "write", 6.0), 3, 6.0)
    for before, after in pairwise(history):
        assert before.returned is not None
        assert before.returned < after.invoked
    assert history[3].invoked == 6.0
    assert history[2].invoked == pytest.approx(5.0, abs=1e-12)


def test_a_history_can_begin_with_operations_in_any_order() -> None:
    late, early = Operation("a", 1, "write", 2.0, 3.0), Operation("b", 2, "write", 1.0)
    history = History([late, early])
    assert list(history) == [early, late]
    history.invoke("c", 3, "write", 4.0)
    assert len(history) == 3


def test_calls_and_results_are_kept_as_copies() -> None:
    command: list[object] = ["put", [1]]
    result = [2]
    history = History()
    history.complete(history.invoke("alice", command, "write", 1.0), result, 2.0)
    command.append(3)
    result.append(4)
    assert history[0].call == ["put", [1]]
    assert history[0].result == [2]


def test_a_call_that_returns_is_recorded_around_its_run() -> None:
    now = iter([1.0, 2.0, 3.0, 4.0])
    history = History(clock=lambda: next(now))
    assert history.write("alice", ("put", "x", 1), lambda: "ok") == "ok"
    assert history.read("bob", "x", lambda: 1) == 1
    assert [str(operation) for operation in history] == [
        "alice: put x 1 -> ok",
        "bob: read x -> 1",
    ]
    assert [(o.invoked, o.returned) for o in history] == [(1.0, 2.0), (3.0, 4.0)]


@pytest.mark.parametrize("error", [CommandRejected(), NoLeader(), NotSerialisable(), TypeError()])
def test_a_write_that_surely_was_not_applied_leaves_the_history(error: Exception) -> None:
    history = History()
    run(history, "write", error)
    assert list(history) == []


@pytest.mark.parametrize(
    "error", [CallTimeout(), NoLeader(maybe_applied=True), KeyboardInterrupt(), OSError()]
)
def test_a_write_that_may_have_been_applied_stays_pending(error: BaseException) -> None:
    history = History()
    run(history, "write", error)
    assert history[0].pending


@pytest.mark.parametrize("error", [CallTimeout(), NoLeader(), KeyboardInterrupt(), OSError()])
def test_a_read_that_failed_leaves_the_history(error: BaseException) -> None:
    history = History()
    run(history, "read", error)
    assert list(history) == []


@pytest.mark.parametrize("kind", ["write", "read"])
@pytest.mark.parametrize("error", [SoldOut("all"), ValueError("no"), KeyError("x")])
def test_what_the_machine_raised_is_the_answer(kind: str, error: Exception) -> None:
    history = History()
    run(history, kind, mark_applied(error, kind == "write"))
    assert history[0].raised
    assert history[0].answer == Raised(error)
    assert history[0].result.__traceback__ is None


def test_an_error_that_stands_for_what_the_machine_did_is_the_answer() -> None:
    history = History()
    run(history, "write", MachineError("shop.Closed", "today"))
    run(history, "write", NotSerialisable("the reply", maybe_applied=True))
    assert [operation.raised for operation in history] == [True, True]


def test_raised_answers_are_equal_by_type_and_arguments() -> None:
    assert Raised(SoldOut("x")) == Raised(SoldOut("x"))
    assert Raised(SoldOut("x")) != Raised(SoldOut("y"))
    assert Raised(ValueError("x")) != Raised(SoldOut("x"))
    assert Raised(ValueError("x")) != "x"
    assert len({Raised(SoldOut("x")), Raised(SoldOut("x"))}) == 1


class Plain:
    """An object without `__eq__`."""

    def __init__(self, value: object) -> None:
        self.value = value


def test_an_error_that_stands_for_what_the_machine_did_is_kept_as_it_is() -> None:
    history = History()
    for error in (
        MachineError("SystemExit", "3"),
        NotSerialisable("the reply", maybe_applied=True),
    ):
        error.add_note("raised by handle_write")
        run(history, "write", error)
        kept = history[-1].result
        assert kept is not error
        assert type(kept) is type(error)
        assert vars(kept) == vars(error)
        assert str(kept) == str(error)
        assert kept.__traceback__ is None


def test_another_error_of_ours_that_a_machine_raised_becomes_a_machine_error() -> None:
    history = History()
    history.complete(history.invoke("alice", 1, "write", 1.0), NoLeader(), 2.0, raised=True)
    assert isinstance(history[0].result, MachineError)
    assert history[0].result.type_name == "exraft.errors.NoLeader"


def test_raised_answers_whose_arguments_know_no_equality_are_equal_by_their_content() -> None:
    for make in (Plain, lambda value: float("nan") if value == 1 else value):
        assert Raised(ValueError(make(1))) == Raised(ValueError(make(1)))
        assert Raised(ValueError(make(1))) != Raised(ValueError(make(2)))


def test_notes_of_raised_answers_do_not_count() -> None:
    noted = ValueError(float("nan"))
    noted.add_note("raised by handle_write of :raft1 at index 3")
    assert Raised(noted) == Raised(ValueError(float("nan")))


def test_values_are_alike_that_are_equal_or_have_the_same_pickle() -> None:
    assert alike(1, 1.0)
    assert alike(float("nan"), float("nan"))
    assert alike([Plain(1)], [Plain(1)])
    assert not alike([Plain(1)], [Plain(2)])
    assert not alike(1, "1")
    assert not alike(threading.Lock(), threading.Lock())


def test_errors_of_ours_are_equal_by_reason() -> None:
    assert Raised(MachineError("A", "at index 1")) == Raised(MachineError("A", "at index 2"))
    assert Raised(MachineError("A", "")) != Raised(MachineError("B", ""))


def test_many_threads_record_into_one_history() -> None:
    history = History()

    def client(name: str) -> None:
        for turn in range(100):
            history.write(name, turn, lambda turn=turn: turn)  # type: ignore[misc]

    threads = [threading.Thread(target=client, args=(f"client {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(history) == 400
    moments = [moment for o in history for moment in (o.invoked, o.returned)]
    assert len(moments) == len(dict.fromkeys(moments))
    for name in {operation.client for operation in history}:
        mine = [operation for operation in history if operation.client == name]
        assert [operation.call for operation in mine] == list(range(100))


@pytest.mark.parametrize("returned", [0.5, float("inf"), float("nan")])
def test_an_operation_ends_at_a_time_not_before_it_began(returned: float) -> None:
    with pytest.raises(ValueError, match="begins at a finite time"):
        Operation("alice", 1, "write", 1.0, returned)


def test_an_operation_is_a_write_or_a_read() -> None:
    with pytest.raises(ValueError, match="'delete'"):
        Operation("alice", 1, "delete", 1.0)  # type: ignore[arg-type]


def test_a_history_is_readable() -> None:
    history = History([Operation("a", "x y", "read", 1.0), Operation("b", ("", 2), "write", 2, 3)])
    assert repr(history) == "<History of 2 operations of 2 clients, 1 pending>"
    assert str(history).splitlines() == [
        f"{'1 - ...':>23}  a: read x y -> ?",
        f"{'2 - 3':>23}  b: '' 2 -> None",
    ]
    assert times(history[1]) == "2 - 3"
