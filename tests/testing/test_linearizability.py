from __future__ import annotations

import random
import threading
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.kv_store import KeyValueStore
from exraft import ExRaft, StateMachine
from exraft.errors import ExRaftError, NoLeader
from exraft.testing import search
from exraft.testing.history import History, Kind, Operation, Raised
from exraft.testing.linearizability import linearizable
from exraft.testing.models import Counter, KeyValue, MachineModel, Model, Register
from exraft.testing.strategies import histories, spoiled_histories

PENDING = None

FIXED = settings(
    deadline=None,
    derandomize=True,
    # The same thoroughness for all examples is what is meant.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def write(client: str, value: Any, invoked: float, returned: float | None) -> Operation:
    return Operation(client, ("write", value), "write", invoked, returned, "ok")


def cas(
    client: str, old: Any, new: Any, result: bool, invoked: float, returned: float | None
) -> Operation:
    return Operation(client, ("cas", old, new), "write", invoked, returned, result)


def read(client: str, value: Any, invoked: float, returned: float | None) -> Operation:
    return Operation(client, None, "read", invoked, returned, value)


def add(client: str, amount: int, result: int, invoked: float, returned: float | None) -> Operation:
    return Operation(client, amount, "write", invoked, returned, result)


# By naming what is special about each.
LINEARIZABLE: dict[str, tuple[Model[Any], list[Operation]]] = {
    "nothing": (Register(), []),
    "one after the other": (Register(), [write("a", 1, 1, 2), read("b", 1, 3, 4)]),
    "a read beside a write sees it": (Register(), [write("a", 1, 1, 9), read("b", 1, 2, 3)]),
    "a read beside a write misses it": (Register(), [write("a", 1, 1, 9), read("b", None, 2, 3)]),
    "two reads beside a write": (
        Register(),
        [write("a", 1, 1, 9), read("b", None, 2, 3), read("b", 1, 4, 5)],
    ),
    "concurrent writes in either order": (
        Register(),
        [write("a", 1, 1, 9), write("b", 2, 1, 9), read("c", 2, 2, 3), read("c", 1, 4, 5)],
    ),
    "touching operations are concurrent": (Register(), [write("a", 1, 2, 3), read("b", 1, 1, 2)]),
    "a pending write took effect late": (
        Register(),
        [write("a", 1, 1, PENDING), write("b", 2, 2, 3), read("c", 2, 4, 5), read("c", 1, 8, 9)],
    ),
    "a pending write never took effect": (
        Register(),
        [write("a", 1, 1, PENDING), write("b", 2, 2, 3), read("c", 2, 8, 9)],
    ),
    "a pending read tells nothing": (Register(), [write("a", 1, 1, 2), read("b", 7, 3, PENDING)]),
    "the same write twice": (
        Register(),
        [write("a", 1, 1, 2), write("b", 2, 3, 4), write("a", 1, 5, 6), read("c", 1, 7, 8)],
    ),
    "a write that changes nothing where it could first stand": (
        Register(1),
        [write("a", 1, 1, 9), write("b", 2, 2, 3), read("c", 1, 4, 5)],
    ),
    "a chain of comparisons": (
        Register(0),
        [
            cas("a", 2, 3, True, 1, 9),
            cas("b", 1, 2, True, 1, 9),
            cas("c", 0, 1, True, 1, 9),
            cas("d", 0, 9, False, 1, 9),
            read("e", 3, 10, 11),
        ],
    ),
    "a pending comparison was needed": (
        Register(0),
        [cas("a", 0, 1, False, 1, PENDING), cas("b", 1, 2, True, 2, 3), read("c", 2, 4, 5)],
    ),
    "a pending write was needed though the next to return fits without it": (
        Register(),
        [
            *(write("a", 1, 0, PENDING), write("b", 2, 1, 3), read("c", 1, 1, 4)),
            read("d", 2, 5, 6),
        ],
    ),
    "a write that must wait for another, as a comparison needs it": (
        Register(),
        [
            *(write("a", 1, 1, 3), write("b", 9, 1, 4), cas("c", 1, 2, True, 1, 6)),
            read("d", 2, 7, 8),
        ],
    ),
    "pending additions were needed": (
        Counter(),
        [
            add("a", 1, 0, 1, PENDING),
            add("b", 1, 0, 1, PENDING),
            add("c", 1, 0, 1, PENDING),
            add("d", 5, 7, 2, 3),
            Operation("e", None, "read", 4, 5, 8),
        ],
    ),
}

NOT_LINEARIZABLE: dict[str, tuple[Model[Any], list[Operation]]] = {
    "a stale read": (
        Register(),
        [write("a", 1, 1, 2), write("a", 2, 3, 4), read("b", 1, 5, 6)],
    ),
    "a value from nowhere": (Register(), [write("a", 1, 1, 2), read("b", 7, 3, 4)]),
    "a read from the future": (Register(), [read("b", 1, 1, 2), write("a", 1, 3, 4)]),
    "reads that go backwards": (
        Register(),
        [write("a", 1, 1, 9), read("b", 1, 2, 3), read("c", None, 4, 5)],
    ),
    "readers who disagree on the order": (
        Register(),
        [
            *(write("a", 1, 1, 9), write("b", 2, 1, 9)),
            *(read("c", 1, 2, 3), read("c", 2, 4, 5)),
            *(read("d", 2, 2, 3), read("d", 1, 4, 5)),
        ],
    ),
    "a pending write seen before it was invoked": (
        Register(),
        [read("b", 1, 1, 2), write("a", 1, 3, PENDING)],
    ),
    "a pending write that took effect twice": (
        Register(),
        [
            *(write("a", 1, 1, PENDING), read("c", 1, 2, 3)),
            *(write("b", 2, 4, 5), read("c", 2, 6, 7), read("c", 1, 8, 9)),
        ],
    ),
    "an acknowledged write that was lost": (
        Register(0),
        [write("a", 1, 1, 2), read("b", 0, 3, 4)],
    ),
    "two comparisons that both won": (
        Register(0),
        [cas("a", 0, 1, True, 1, 9), cas("b", 0, 2, True, 1, 9)],
    ),
    "a lost update": (Counter(), [add("a", 1, 1, 1, 2), add("b", 1, 1, 3, 4)]),
    "one addition too many": (
        Counter(),
        [
            *(add("a", 1, 0, 1, PENDING), add("b", 1, 0, 1, PENDING)),
            Operation("c", None, "read", 2, 3, 3),
        ],
    ),
}


@pytest.fixture(params=["quick search", "with all states looked at"], autouse=True)
def thoroughness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "quick search":
        monkeypatch.setattr(search, "_QUICK", 0)


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_a_history_that_has_an_order_is_linearizable(name: str) -> None:
    model, operations = LINEARIZABLE[name]
    verdict = linearizable(operations, model)
    assert verdict, verdict.explain()
    assert_order(verdict.order, operations, model)


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_a_history_that_has_no_order_is_not_linearizable(name: str) -> None:
    model, operations = NOT_LINEARIZABLE[name]
    verdict = linearizable(operations, model)
    assert not verdict
    assert not verdict.unknown
    assert_contradiction(verdict, operations, model)


class Queue(StateMachine):
    """First in, first out: the machine of Herlihy and Wing's figures."""

    def handle_write(self, command: Any, state: list[str]) -> Any:
        if command[0] == "enqueue":
            return "ok", [*state, command[1]]
        if not state:
            raise LookupError("the queue is empty")
        return state[0], state[1:]

    def handle_read(self, query: Any, state: list[str]) -> int:
        return len(state)


def enqueue(client: str, item: str, invoked: float, returned: float | None) -> Operation:
    return Operation(client, ("enqueue", item), "write", invoked, returned, "ok")


def dequeue(client: str, item: str, invoked: float, returned: float | None) -> Operation:
    return Operation(client, ("dequeue",), "write", invoked, returned, item)


# Herlihy and Wing 1990, Figure 1, and what their section 2 says of each.
QUEUES = {
    "a: concurrent enqueues, either of which may be first": (
        True,
        [
            *(enqueue("A", "x", 1, 4), enqueue("B", "y", 2, 5)),
            *(dequeue("B", "x", 6, 8), dequeue("A", "y", 7, 9), enqueue("A", "z", 10, 11)),
        ],
    ),
    "b: y is dequeued first though x was enqueued before": (
        False,
        [enqueue("A", "x", 1, 2), enqueue("B", "y", 3, 4), dequeue("A", "y", 5, 6)],
    ),
    "c: x is dequeued while it is being enqueued": (
        True,
        [enqueue("A", "x", 1, 4), dequeue("B", "x", 2, 3)],
    ),
    "d: y is dequeued twice": (
        False,
        [
            *(enqueue("A", "x", 1, 3), enqueue("B", "y", 2, 4)),
            *(dequeue("A", "y", 5, 7), dequeue("C", "y", 6, 8)),
        ],
    ),
}


@pytest.mark.parametrize("figure", QUEUES)
def test_the_queues_of_herlihy_and_wing_are_judged_as_they_say(figure: str) -> None:
    expected, operations = QUEUES[figure]
    model = MachineModel(Queue)
    verdict = linearizable(operations, model)
    assert bool(verdict) is expected
    if expected:
        assert_order(verdict.order, operations, model)
    else:
        assert_contradiction(verdict, operations, model)


def test_what_a_machine_raises_has_its_place_in_the_order() -> None:
    def empty(invoked: float, returned: float) -> Operation:
        error = LookupError("the queue is empty")
        return Operation("B", ("dequeue",), "write", invoked, returned, error, raised=True)

    model = MachineModel(Queue)
    assert linearizable([enqueue("A", "x", 1, 4), empty(2, 3)], model)
    verdict = linearizable([enqueue("A", "x", 1, 2), empty(3, 4)], model)
    assert not verdict
    assert "right answer to `dequeue` is 'x', but B was told raised LookupError" in str(verdict)


class Dial(Model[int]):
    """Is set to 0, 1 or 2, or turned by one. Always answers "ok", whatever a turn leads to."""

    initial = 0

    def step(self, state: int, call: Any, kind: Kind) -> tuple[Any, int]:
        if kind == "read":
            return state, state
        return "ok", (state + 1) % 3 if call == "turn" else call

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return kind == "write" and call != "turn"


MODELS: list[Model[Any]] = [Register(), KeyValue(), Counter(), Dial()]


def naive(operations: Sequence[Operation], model: Model[Any]) -> bool:
    """Try every permutation with every choice of pending writes."""
    completed = [o for o in operations if not o.pending]
    pending = [o for o in operations if o.pending and o.kind == "write"]

    def possible(rest: list[Operation], state: Any) -> bool:
        for each in rest:
            others = [other for other in rest if other is not each]
            if any(o.returned is not None and o.returned < each.invoked for o in others):
                continue
            answer, after = model.step(state, each.call, each.kind)
            fits = each.pending or model.matches(answer, each.answer)
            if fits and possible(others, after):
                return True
        return not rest

    return any(
        possible([*completed, *chosen], model.initial)
        for number in range(len(pending) + 1)
        for chosen in combinations(pending, number)
    )


def scribbled(chance: random.Random, model: Model[Any]) -> list[Operation]:
    """Operations at random times with answers at random."""
    span, values = chance.choice([3, 6, 12]), chance.choice([1, 2, 30])
    operations = []
    for number in range(chance.randint(1, 5)):
        invoked = chance.randint(0, span)
        returned = invoked + chance.randint(0, chance.choice([1, 6]))
        call, kind, result = scribble(chance, model, values)
        ended = None if chance.random() < 0.25 else returned
        operations.append(Operation(f"client {number}", call, kind, invoked, ended, result))
    return operations


def scribble(chance: random.Random, model: Model[Any], values: int) -> tuple[Any, Kind, Any]:
    value, old = chance.randint(1, values), chance.choice([None, chance.randint(1, values)])
    lot = chance.random()
    if isinstance(model, Counter):
        if lot < 0.4:
            return None, "read", chance.randint(0, 4)
        return chance.choice([1, 1, 2]), "write", chance.randint(1, 5)
    if isinstance(model, Dial):
        if lot < 0.4:
            return None, "read", chance.randint(0, 2)
        return chance.choice([0, 1, 2, "turn", "turn"]), "write", "ok"
    key = (chance.choice("xy"),) if isinstance(model, KeyValue) else ()
    if lot < 0.45:
        return (key[0] if key else None), "read", old
    if lot < 0.8:
        return ("put" if key else "write", *key, value), "write", "ok"
    if lot < 0.9 and key:
        return ("delete", *key), "write", old
    return ("cas", *key, old, value), "write", chance.random() < 0.5


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_thousands_of_small_histories_are_judged_as_by_trying_every_permutation(
    model: Model[Any],
) -> None:
    tally: Tally[bool] = Tally()
    for seed in range(1500):
        operations = scribbled(random.Random(seed), model)
        verdict = linearizable(operations, model)
        assert verdict.ok is naive(operations, model), (seed, operations)
        if verdict:
            assert_order(verdict.order, operations, model)
        else:
            assert_contradiction(verdict, operations, model)
        tally[verdict.ok] += 1
    assert min(tally[True], tally[False]) > 150


def lossy(chance: random.Random, model: Model[Any]) -> list[Operation]:
    """Linearizable by its making, of few values, and half of the writes never return."""
    effects = []
    for client in range(4):
        now = chance.random()
        for number in range(4):
            ended = now + chance.expovariate(1.0)
            lost = chance.random() < 0.4
            late = chance.expovariate(0.3) if lost else 0.0
            moment = chance.uniform(now, ended) + late
            effects.append((moment, f"{client}.{number}", now, None if lost else ended))
            now = ended
    state = model.initial
    operations = []
    for _, name, invoked, returned in sorted(effects, key=lambda effect: effect[0]):
        call, kind, _ = scribble(chance, model, 2)
        answer = None
        if returned is not None or chance.random() < 0.8:
            answer, state = model.step(state, call, kind)
        told = None if returned is None else answer
        operations.append(Operation(name, call, kind, invoked, returned, told))
    return operations


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_history_is_linearizable_whichever_lost_writes_took_effect(model: Model[Any]) -> None:
    for seed in range(1500):
        operations = lossy(random.Random(seed), model)
        verdict = linearizable(operations, model)
        assert verdict, (seed, verdict.explain())
        assert_order(verdict.order, operations, model)


@settings(FIXED, max_examples=60)
@given(histories(KeyValue(), clients=5, size=40))
def test_a_history_of_calls_that_took_effect_one_by_one_is_linearizable(history: History) -> None:
    verdict = linearizable(history, KeyValue())
    assert verdict, verdict.explain()
    assert_order(verdict.order, list(history), KeyValue())


@settings(FIXED, max_examples=60)
@given(spoiled_histories(KeyValue(), clients=4, size=16), st.randoms(use_true_random=False))
def test_the_order_in_which_operations_are_given_does_not_matter(
    history: History, chance: random.Random
) -> None:
    shuffled = list(history)
    chance.shuffle(shuffled)
    assert linearizable(shuffled, KeyValue()).ok is linearizable(history, KeyValue()).ok


class Whole(KeyValue):
    """The same store, judged as a whole."""

    def key(self, call: Any, kind: Kind) -> None:
        return None

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return False


@settings(FIXED, max_examples=60)
@given(spoiled_histories(KeyValue(), clients=4, size=10))
def test_judging_keys_apart_does_not_change_the_verdict(history: History) -> None:
    assert linearizable(history, KeyValue()).ok is linearizable(history, Whole()).ok


@settings(FIXED, max_examples=50)
@given(spoiled_histories(KeyValue(), clients=4, size=10))
def test_a_machine_is_judged_as_its_model(history: History) -> None:
    class Store(KeyValueStore):
        def handle_write(self, command: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            match command:
                case ("cas", key, old, new):
                    if state.get(key) != old:
                        return False, state
                    return True, {**state, key: new}
            return super().handle_write(command, state)

    verdict = linearizable(history, MachineModel(Store, key=KeyValue().key))
    assert verdict.ok is linearizable(history, KeyValue()).ok


class Listed(KeyValue):
    """A store that can also be asked for everything: `""`."""

    def key(self, call: Any, kind: Kind) -> Any:
        return None if call == "" else super().key(call, kind)

    def step(self, state: Any, call: Any, kind: Kind) -> tuple[Any, Any]:
        return (dict(state.held), state) if call == "" else super().step(state, call, kind)


def test_one_call_that_touches_everything_joins_all_keys() -> None:
    def put(key: str, invoked: float, returned: float | None) -> Operation:
        return Operation(f"writer of {key}", ("put", key, 1), "write", invoked, returned, "ok")

    def everything(invoked: float, result: dict[str, int]) -> Operation:
        return Operation("reader", "", "read", invoked, invoked + 1, result)

    model = Listed()
    both = [everything(2, {}), everything(4, {"x": 1, "y": 1})]
    for returned in (9.0, PENDING):
        writes = [put("x", 1, returned), put("y", 1, returned)]
        assert linearizable([*writes, *both], model)
        one = [everything(2, {"x": 1}), everything(4, {"y": 1})]
        assert not linearizable([*writes, *one], model)


def test_one_key_that_many_clients_write_at_once_is_judged_soon() -> None:
    """Twenty at a time, on one key: without looking at all states, some 10 ** 5 are searched."""
    operations = crowded(random.Random(4), clients=20, rounds=20)
    verdict = linearizable(operations, Register(-1), limit=20_000)
    assert verdict
    last = next(o for o in reversed(operations) if o.kind == "read")
    stale = [o for o in operations if o.kind == "write" and not o.pending][3].call[1]
    spoiled = [o for o in operations if o is not last]
    spoiled.append(read(last.client, stale, last.invoked, last.returned))
    verdict = linearizable(spoiled, Register(-1), limit=20_000)
    assert not verdict
    assert verdict.contradiction is not None
    assert len(verdict.contradiction.operations) <= 4


def crowded(chance: random.Random, *, clients: int, rounds: int) -> list[Operation]:
    """Everybody is always busy with the same register, and takes effect at a random moment."""
    effects = []
    for client in range(clients):
        now = chance.random()
        for _ in range(rounds):
            ended = now + chance.expovariate(1.0)
            effects.append((chance.uniform(now, ended), f"client {client}", now, ended))
            now = ended
    value = -1
    operations = []
    for number, (_, name, invoked, ended) in enumerate(sorted(effects)):
        if chance.random() < 0.5:
            operations.append(read(name, value, invoked, ended))
        else:
            value = number
            returned = None if chance.random() < 0.02 else ended
            operations.append(write(name, value, invoked, returned))
    return operations


def test_a_limit_leaves_the_verdict_unknown() -> None:
    # Any sum may be reached, but for the one that was read.
    operations = [add(f"client {n}", 2**n, 0, 0, PENDING) for n in range(8)]
    operations.append(Operation("reader", None, "read", 0, 100, 999))
    verdict = linearizable(operations, Counter(), limit=50)
    assert not verdict
    assert verdict.unknown
    assert verdict.contradiction is None
    assert verdict.searched == 50
    assert verdict.explain() == "unknown: the limit was reached after 50 states"
    verdict = linearizable(operations, Counter(), limit=None)
    assert not verdict
    assert not verdict.unknown


def hard(key: str) -> list[Operation]:
    """What was read of it is no sum of what may have been added to it."""
    added = [
        Operation(f"{key} client {n}", (key, 2**n), "write", 0.0, None, None) for n in range(12)
    ]
    return [*added, Operation(f"{key} reader", (key, 0), "read", 0.0, 100.0, 99_999)]


class Sums(Model[int]):
    """A number for each key, that is added to."""

    initial = 0

    def step(self, state: int, call: Any, kind: Any) -> tuple[Any, int]:
        return (state, state) if kind == "read" else ("ok", state + call[1])

    def key(self, call: Any, kind: Any) -> str:
        return str(call[0])


@pytest.mark.parametrize("plain", ["first", "last"])
def test_a_key_that_is_too_hard_hides_no_contradiction_of_another(plain: str) -> None:
    contradiction = Operation("bob", ("plain", 0), "read", 200.0, 201.0, 7)
    history = [*hard("a"), *hard("b"), contradiction]
    if plain == "first":
        history = [replace(contradiction, invoked=-2.0, returned=-1.0), *history[:-1]]
    verdict = linearizable(history, Sums(), limit=300)
    assert not verdict.unknown
    assert verdict.contradiction is not None
    assert verdict.contradiction.key == "plain"
    assert verdict.searched < 300


def test_keys_that_are_too_hard_have_no_more_than_the_limit_together() -> None:
    verdict = linearizable([*hard("a"), *hard("b"), *hard("c")], Sums(), limit=301)
    assert verdict.unknown
    assert verdict.searched == 301


def test_what_other_keys_leave_of_the_limit_is_for_the_hard_ones() -> None:
    easy = [Operation("ann", (f"easy {n}", 1), "write", 0.0, 1.0, "ok") for n in range(20)]
    alone = linearizable(hard("a"), Sums())
    assert not alone.ok
    assert not linearizable([*hard("a"), *easy], Sums(), limit=alone.searched * 3).unknown


def test_an_explanation_names_the_few_operations_that_contradict_each_other() -> None:
    noise = [
        Operation(client, ("put", key, n), "write", n, n + 0.5, "ok")
        for n in range(10)
        for client, key in [("noise", "y"), ("other", "x")]
    ]
    old = Operation("alice", ("put", "x", "old"), "write", 20, 21, "ok")
    new = Operation("bob", ("put", "x", "new"), "write", 22, 23, "ok")
    fine = Operation("dave", "x", "read", 24, 25, "new")
    stale = Operation("carol", "x", "read", 26, 27, "old")
    verdict = linearizable([*noise, old, new, fine, stale], KeyValue())
    why = verdict.contradiction
    assert why is not None
    assert why.culprit is stale
    assert why.key == "x"
    assert stale in why.operations
    assert old in why.operations
    assert len(why.operations) == 3
    assert verdict.explain().endswith(
        "After it the state is {'x': 'new'}, and the right answer to `read x` is 'new',"
        " but carol was told 'old'."
    )
    assert "carol: read x -> old   <- has no place" in verdict.explain()


def test_an_explanation_says_so_if_an_earlier_answer_depends_on_the_culprit() -> None:
    operations = [add("a", 1, 2, 1, 3), add("b", 1, 2, 2, 4)]
    verdict = linearizable(operations, Counter())
    why = verdict.contradiction
    assert why is not None
    assert why.culprit.client == "b"
    assert why.place < len(why.order)
    assert why.expected == 1
    assert "Before place 1 the state is 0, and the right answer" in verdict.explain()


def test_what_a_model_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="is no command"):
        linearizable([Operation("a", ("put",), "write", 1, 2)], Register())


class Liar(Counter):
    """Says that an addition overwrites."""

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return kind == "write"


def test_a_model_that_is_wrong_about_overwriting_is_found_out_rather_than_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_QUICK", 0)
    with pytest.raises(ValueError, match="says that 1 overwrites"):
        linearizable([add("a", 1, 1, 1, 2), add("b", 1, 2, 1, 2)], Liar())


def test_a_real_cluster_is_judged_by_its_own_machine() -> None:
    history = History()
    ExRaft.start_server(KeyValueStore, name=":judged")
    try:
        ExRaft.await_leader(":judged")

        def client(name: str) -> None:
            for number in range(20):
                command = ("put", "x", f"{name} {number}")
                history.write(name, command, partial(ExRaft.write, ":judged", command))
                history.read(name, "x", lambda: ExRaft.read(":judged", "x"))

        threads = [threading.Thread(target=client, args=(f"client {n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
    finally:
        ExRaft.stop_server(":judged")
    assert len(history) == 120
    verdict = linearizable(history, MachineModel(KeyValueStore))
    assert verdict, verdict.explain()


class Plain:
    """An object without `__eq__`."""


class Brittle:
    """A reply that can be pickled and not be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Clumsy(StateMachine):
    """Counts what is written and fails in the way that the call names."""

    def init(self, init_arg: Any) -> int:
        return 0

    def handle_write(self, command: str, state: int) -> Any:
        return 5 if command == "malformed" else (self._fail(command, state), state + 1)

    def handle_read(self, query: str, state: int) -> Any:
        return self._fail(query, state)

    def _fail(self, how: str, state: int) -> Any:
        class Locked(Exception):
            lock = None

        match how:
            case "exit":
                raise SystemExit(3)
            case "ours":
                raise NoLeader
            case "locked":
                error = Locked(state)
                error.lock = threading.Lock()  # type: ignore[assignment]
                raise error
            case "nan":
                raise ValueError(float("nan"))
            case "plain":
                raise ValueError(Plain())
            case "lock":
                return threading.Lock()
            case "brittle":
                return Brittle()
        return state


def test_a_real_cluster_is_judged_by_its_own_machine_however_that_fails() -> None:
    history = History()
    server = ":clumsy"
    ExRaft.start_server(Clumsy, name=server)
    calls = ("malformed", "exit", "ours", "locked", "nan", "plain", "lock", "brittle")
    try:
        ExRaft.await_leader(server)
        for call in calls:
            with pytest.raises((ExRaftError, ValueError)):
                history.write("alice", call, partial(ExRaft.write, server, call))
            history.read("alice", "count", partial(ExRaft.read, server, "count"))
            if call != "malformed":
                with pytest.raises((ExRaftError, ValueError)):
                    history.read("alice", call, partial(ExRaft.read, server, call))
    finally:
        ExRaft.stop_server(server)
    assert [o.call for o in history if o.kind == "write" and o.raised] == list(calls)
    verdict = linearizable(history, MachineModel(Clumsy))
    assert verdict, verdict.explain()


def assert_order(order: Sequence[Any], operations: Sequence[Operation], model: Model[Any]) -> None:
    """It is an order as the definition wants it."""
    placed = [each.operation for each in order]
    assert len({id(operation) for operation in placed}) == len(placed)
    assert {id(o) for o in operations if not o.pending} <= {id(o) for o in placed}
    state = model.initial
    latest = float("-inf")
    for operation, at in order:
        answer, state = model.step(state, operation.call, operation.kind)
        assert operation.pending or model.matches(answer, operation.answer)
        assert at >= latest
        assert operation.invoked <= at
        assert operation.pending or at <= operation.returned
        latest = at
    for place, operation in enumerate(placed):
        for later in placed[place + 1 :]:
            assert later.pending or later.returned >= operation.invoked


def assert_contradiction(verdict: Any, operations: Sequence[Operation], model: Model[Any]) -> None:
    """It is one, none of it can be spared, and the whole history shares it."""
    why = verdict.contradiction
    assert why.shortest
    mine = {id(operation) for operation in operations}
    assert all(id(operation) in mine for operation in (*why.operations, *why.others))
    assert any(operation is why.culprit for operation in why.operations)
    assert not naive(why.operations, model)
    free = [freed(operation) for operation in why.others]
    assert not linearizable([*why.operations, *free], model)
    for each in why.operations:
        rest = [operation for operation in why.operations if operation is not each]
        spared = [freed(each)] if each.kind == "write" else []
        assert linearizable([*rest, *spared, *free], model), each
    assert not model.matches(why.expected, why.culprit.answer)
    assert isinstance(why.expected, Raised) or repr(why.expected) in verdict.explain()


def freed(operation: Operation) -> Operation:
    return Operation(operation.client, operation.call, operation.kind, operation.invoked)
