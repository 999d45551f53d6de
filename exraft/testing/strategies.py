"""Hypothesis strategies: for faults, for histories that are linearizable, and for spoiled ones.

Knows Hypothesis, which nothing else in the package imports. Must not know how a history is judged,
nor what faults do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from hypothesis import strategies as st

from exraft.testing.faults import GENTLE, Faults
from exraft.testing.history import History, Kind, Operation, Raised
from exraft.testing.models import Counter, KeyValue, Model, Register

Calls: TypeAlias = "st.SearchStrategy[tuple[Kind, Any]]"
"""What clients may ask: `("write", command)` and `("read", query)`."""

_KEYS = st.sampled_from(["x", "y"])
_VALUES = st.integers(0, 3)


@dataclass(slots=True)
class _Running:
    """An operation of a client that has not returned."""

    token: int
    kind: Kind
    call: Any
    done: bool = False
    answer: Any = None


_CHANCES = st.sampled_from([0.0, 0.02, 0.1, 0.3])
_RATES = st.sampled_from([0.0, 0.3, 1.0, 3.0])


def faults() -> st.SearchStrategy[Faults]:
    """What a simulated cluster may suffer from; shrinks to a network in good order."""
    return st.builds(
        Faults,
        loss=_CHANCES,
        doubling=_CHANCES,
        delay=st.sampled_from([GENTLE, (0.001, 0.02), (0.01, 0.1)]),
        lag=_CHANCES,
        partitions=_RATES,
        crashes=_RATES,
        stalls=_RATES,
        slow_disks=st.sampled_from([0.0, 0.002, 0.02, 0.1]),
        failing_disks=_RATES,
        lost_disks=_RATES,
        clock_drift=st.sampled_from([0.0, 0.05, 0.2]),
        changes=_RATES,
        transfers=_RATES,
        elections=_RATES,
        strangers=_RATES,
        snapshots=_RATES,
        damage=_CHANCES,
    )


def calls_of(model: Model[Any]) -> Calls:
    """Calls that one of the ready models knows, of few keys and values, so that they meet.

    Raises:
        TypeError: the model is none of them, and its calls must be given.
    """
    if isinstance(model, KeyValue):
        return st.one_of(
            st.tuples(st.just("read"), _KEYS),
            st.tuples(st.just("write"), st.tuples(st.just("put"), _KEYS, _VALUES)),
            st.tuples(st.just("write"), st.tuples(st.just("delete"), _KEYS)),
            st.tuples(st.just("write"), st.tuples(st.just("cas"), _KEYS, _VALUES, _VALUES)),
        )
    if isinstance(model, Register):
        return st.one_of(
            st.tuples(st.just("read"), st.none()),
            st.tuples(st.just("write"), st.tuples(st.just("write"), _VALUES)),
            st.tuples(st.just("write"), st.tuples(st.just("cas"), _VALUES, _VALUES)),
        )
    if isinstance(model, Counter):
        return st.one_of(
            st.tuples(st.just("read"), st.none()),
            st.tuples(st.just("write"), st.integers(1, 2)),
        )
    raise TypeError(f"give calls= for a {type(model).__name__}: what may its clients ask?")


@st.composite
def histories(
    draw: st.DrawFn,
    model: Model[Any],
    calls: Calls | None = None,
    *,
    clients: int = 4,
    size: int = 12,
) -> History:
    """Histories of concurrent clients that are linearizable: each call takes effect, by the model,
    at one moment between its invocation and its return.

    Some never return, with an effect or without. The client then goes on under another name, as a
    process that was restarted would.

    Args:
        model: says what is answered.
        calls: what is asked; may be left out for the ready models.
        clients: the most at one time.
        size: the most operations.
    """
    asked = draw(st.lists(calls_of(model) if calls is None else calls, max_size=size))
    history = History(clock=lambda: 0.0)
    running: list[_Running | None] = [None] * clients
    lives = [0] * clients
    state = model.initial
    now = 0.0
    while asked or any(running):
        now += 1.0
        turn = draw(st.integers(0, clients - 1))
        operation = running[turn]
        if operation is None:
            if not asked:
                turn, operation = next((i, o) for i, o in enumerate(running) if o is not None)
            else:
                kind, call = asked.pop()
                name = f"client {turn + 1}" + "'" * lives[turn]
                running[turn] = _Running(history.invoke(name, call, kind, now), kind, call)
                continue
        lost = draw(st.integers(0, 9)) == 9
        if not operation.done and not lost:
            operation.answer, state = model.step(state, operation.call, operation.kind)
            operation.done = True
            continue
        running[turn] = None
        if lost:
            lives[turn] += 1
        elif isinstance(operation.answer, Raised):
            history.complete(operation.token, operation.answer.exception, now, raised=True)
        else:
            history.complete(operation.token, operation.answer, now)
    return history


@st.composite
def spoiled_histories(
    draw: st.DrawFn,
    model: Model[Any],
    calls: Calls | None = None,
    *,
    clients: int = 4,
    size: int = 12,
) -> History:
    """The same, with the answer of one operation given to another: most are not linearizable.

    Which ones are is for a checker to say: the answers may be equal, or both be right.
    """
    operations = list(draw(histories(model, calls, clients=clients, size=size)))
    returned = [place for place, operation in enumerate(operations) if not operation.pending]
    if returned:
        told, other = draw(st.sampled_from(returned)), draw(st.sampled_from(returned))
        source: Operation = operations[other]
        operations[told] = replace(operations[told], result=source.result, raised=source.raised)
    return History(operations)
