from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from exraft.testing.history import History, Operation
from exraft.testing.linearizability import linearizable
from exraft.testing.models import Counter, KeyValue, MachineModel, Register
from exraft.testing.strategies import calls_of, histories, spoiled_histories
from tests.testing.test_linearizability import Queue

# The first one that is found will do.
ONCE = settings(max_examples=2000, database=None, phases=[Phase.generate], derandomize=True)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(histories(Register()))
def test_a_client_has_one_call_at_a_time(history: History) -> None:
    for client in dict.fromkeys(operation.client for operation in history):
        mine = [operation for operation in history if operation.client == client]
        for before, after in pairwise(mine):
            assert before.returned is not None
            assert before.returned < after.invoked


@settings(max_examples=50, deadline=None, derandomize=True)
@given(histories(Counter(), clients=2, size=6))
def test_size_and_clients_bound_a_history(history: History) -> None:
    assert len(history) <= 6
    assert all(operation.client.startswith(("client 1", "client 2")) for operation in history)


def overlap(history: History) -> bool:
    return any(b.returned is not None and b.returned > a.invoked for b, a in pairwise(history))


def seen_though_pending(history: History) -> bool:
    return not linearizable([o for o in history if not o.pending], Register())


@pytest.mark.parametrize("sort", [overlap, seen_though_pending])
def test_such_histories_are_among_them(sort: Callable[[History], bool]) -> None:
    assert sort(find(histories(Register()), sort, settings=ONCE))


def test_some_spoiled_histories_are_not_linearizable() -> None:
    model = Register()
    found = find(spoiled_histories(model), lambda h: not linearizable(h, model), settings=ONCE)
    assert not linearizable(found, model)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    histories(
        MachineModel(Queue),
        st.one_of(
            st.just(("write", ("dequeue",))),
            st.tuples(st.just("write"), st.tuples(st.just("enqueue"), st.sampled_from("xyz"))),
            st.just(("read", "length")),
        ),
    )
)
def test_histories_of_a_machine_are_made_with_calls_of_ones_own(history: History) -> None:
    verdict = linearizable(history, MachineModel(Queue))
    assert verdict, verdict.explain()


def test_what_the_clients_of_a_machine_ask_must_be_given() -> None:
    with pytest.raises(TypeError, match="give calls= for a MachineModel"):
        calls_of(MachineModel(Queue))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(spoiled_histories(KeyValue()))
def test_a_spoiled_history_has_the_same_calls(history: History) -> None:
    assert all(isinstance(operation, Operation) for operation in history)
