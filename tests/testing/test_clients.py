from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exraft.codec import copy_reply
from exraft.errors import (
    CommandDropped,
    CommandRejected,
    ExRaftError,
    MachineError,
    NoLeader,
    NotSerialisable,
    Overloaded,
    Redirect,
    ServerDown,
    ServerNotFound,
    mark_applied,
    maybe_applied,
)
from exraft.names import Peer
from exraft.testing import Faults, History, Operation
from exraft.testing.clients import Client, Kind
from exraft.testing.cluster import QUICK
from exraft.testing.invariants import Watch
from exraft.testing.world import Attempt, World
from tests.testing.machines import CALM, Sum

A, B, C = (Peer(f":{name}") for name in "abc")

Answer = Callable[[World, Attempt], object]
"""What becomes of a request that has arrived."""


class Scripted(World):
    """Servers that answer what the test says, one request after the other; then nothing."""

    def __init__(self, *answers: Answer, faults: Faults = CALM) -> None:
        super().__init__(
            3, Sum, [], seed=0, options=QUICK, faults=faults, min_majority=1, check=None
        )
        self.script = list(answers)
        self.asked: list[Peer] = []

    def serve(self, attempt: Attempt) -> None:
        self.asked.append(attempt.peer)
        if self.script:
            self.script.pop(0)(self, attempt)


def value(result: Any) -> Answer:
    return lambda world, attempt: attempt.set(result)


def error(failure: ExRaftError) -> Answer:
    return lambda world, attempt: world.fail(attempt, failure)


def own(failure: Exception) -> Answer:
    """What a machine raised, or what stands for it."""
    return lambda world, attempt: attempt.fail(failure)


class Brittle:
    """A reply that can be pickled and not be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def silence(world: World, attempt: Attempt) -> None:
    """It was taken, and the answer never comes."""


def inbox(world: World, attempt: Attempt) -> None:
    """Nobody has looked at it yet."""
    attempt.waits = True


class Call:
    """One call of one client, to its end."""

    def __init__(
        self, *answers: Answer, kind: Kind = "write", timeout: float = 1.0, faults: Faults = CALM
    ) -> None:
        self.world = Scripted(*answers, faults=faults)
        self.history = History()
        self.client = Client("client 1", self.world, self.history)
        self.make(kind, timeout)

    def make(self, kind: Kind = "write", timeout: float = 1.0) -> None:
        self.client.call(kind, 7, timeout)
        self.world.run(lambda: not self.client.busy)

    @property
    def operations(self) -> list[Operation]:
        return list(self.history)

    @property
    def counts(self) -> dict[str, int]:
        return {kind: count for kind, count in self.world.counts.items() if kind[-1] != "s"}


def test_an_answer_ends_the_call_and_stands_in_the_history() -> None:
    call = Call(value(42))
    (operation,) = call.operations
    assert (operation.client, operation.call, operation.result) == ("client 1", 7, 42)
    assert not operation.pending
    assert operation.returned is not None
    assert 0 < operation.invoked + 0.001 < operation.returned <= call.world.now
    assert call.client.served
    assert call.counts == {"writes answered": 1}


def test_what_a_machine_raises_is_an_answer() -> None:
    for failure in (
        mark_applied(LookupError("none left"), True),
        MachineError("malformed return", "nonsense"),
        NotSerialisable("the reply is a lock", maybe_applied=True),
    ):
        call = Call(own(failure))
        (operation,) = call.operations
        assert operation.raised
        assert type(operation.result) is type(failure)
        assert call.client.served
        assert call.counts == {"writes answered by an exception": 1}


def test_a_reply_that_cannot_be_decoded_is_an_answer() -> None:
    call = Call(value(copy_reply(Brittle())))
    (operation,) = call.operations
    assert operation.raised
    assert operation.result.type_name == "ValueError"
    assert operation.result.maybe_applied
    assert call.client.served


def test_a_redirect_is_followed_most_of_the_time() -> None:
    call = Call(*[error(Redirect(B))] * 100, value(1), timeout=60.0)
    assert call.counts == {"writes tried again": 100, "writes answered": 1}
    assert len(call.operations) == 1
    assert 70 < call.world.asked.count(B) < 100


def test_who_answered_is_asked_first_the_next_time_most_of_the_time() -> None:
    call = Call(*[value(1)] * 101)
    for _ in range(50):
        call.make()
        call.make("read")
    asked = call.world.asked
    assert 70 < sum(one == other for one, other in zip(asked, asked[1:], strict=False)) < 100


def test_who_knows_no_leader_asks_around() -> None:
    call = Call(*[error(NoLeader())] * 20, value(1), timeout=60.0)
    assert set(call.world.asked) == {A, B, C}


@pytest.mark.parametrize(
    "failure",
    [
        NoLeader(),
        Overloaded("full"),
        ServerNotFound(A),
        ServerDown("killed", maybe_applied=False),
        CommandDropped(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_surely_was_not_applied_is_tried_again(failure: ExRaftError) -> None:
    assert not maybe_applied(failure)
    call = Call(error(failure), value(1))
    assert call.counts == {"writes tried again": 1, "writes answered": 1}
    assert len(call.world.asked) == 2


def test_another_try_is_another_command() -> None:
    seen: list[bytes] = []

    def refuse(world: World, attempt: Attempt) -> None:
        seen.append(attempt.data)
        world.fail(attempt, NoLeader())

    Call(refuse, refuse, value(1))
    assert len(set(seen)) == 2


def test_a_write_that_may_have_been_applied_is_not_repeated() -> None:
    call = Call(error(ServerDown("killed", maybe_applied=True)), value(1))
    assert len(call.world.asked) == 1
    (operation,) = call.operations
    assert operation.pending
    assert call.counts == {"writes left unknown": 1}
    assert not call.client.served


def test_a_read_is_repeated_whatever_became_of_it() -> None:
    call = Call(error(ServerDown("killed", maybe_applied=True)), value(1), kind="read")
    assert len(call.world.asked) == 2
    assert call.counts == {"reads tried again": 1, "reads answered": 1}


@pytest.mark.parametrize("failure", [CommandRejected(), NotSerialisable("no", maybe_applied=False)])
def test_what_is_refused_for_good_is_not_repeated_and_leaves_the_history(
    failure: ExRaftError,
) -> None:
    call = Call(error(failure), value(1))
    assert len(call.world.asked) == 1
    assert call.operations == []
    assert call.client.served
    assert call.counts == {"writes refused": 1}


def test_a_write_without_an_answer_stays_pending_when_its_client_gives_up() -> None:
    call = Call(silence, timeout=2.0)
    (operation,) = call.operations
    assert operation.pending
    assert call.counts == {"writes left unknown": 1}
    assert call.world.now == pytest.approx(2.0)


def test_a_read_without_an_answer_leaves_the_history() -> None:
    call = Call(silence, kind="read")
    assert call.operations == []
    assert call.counts == {"reads timed out": 1}


def test_a_write_that_was_refused_all_the_time_surely_failed() -> None:
    call = Call(*[error(Redirect(B))] * 3, silence)
    assert call.operations[0].pending
    pausing = Call(*[error(NoLeader())] * 1000, timeout=0.05)
    # The answer to the last try has come, and the next one has not begun.
    assert pausing.operations == []
    assert pausing.counts["writes timed out"] == 1


def test_a_write_that_nobody_has_looked_at_is_withdrawn() -> None:
    call = Call(inbox)
    assert call.operations == []
    assert call.counts == {"writes withdrawn": 1}
    assert len(call.world.watch.refused) == 1


def test_who_left_a_call_unknown_goes_on_under_another_name() -> None:
    call = Call(silence, value(1), silence, value(2))
    for _ in range(3):
        call.make()
    assert [each.client for each in call.operations] == [
        "client 1",
        "client 1.1",
        "client 1.1",
        "client 1.2",
    ]


def test_who_has_given_up_a_read_keeps_its_name() -> None:
    call = Call(silence, value(1), kind="read")
    call.make("read")
    assert [each.client for each in call.operations] == ["client 1"]


def test_what_a_client_hears_is_noted() -> None:
    world = Scripted(error(NoLeader()), value("fine"))
    noted: list[str] = []
    world.observe = lambda at, who, what: noted.append(f"{who} {what}")
    client = Client("client 1", world, History())
    client.call("write", 7, 1.0)
    world.run(lambda: not client.busy)
    first, second = (f"client 1 hears from {peer} on write 7: " for peer in world.asked)
    assert noted[0].startswith(first + "NoLeader: the server knows no leader")
    assert noted[1] == second + "'fine'"


def test_an_answer_that_comes_too_late_is_not_heard() -> None:
    late: list[Attempt] = []
    call = Call(lambda world, attempt: late.append(attempt), silence, timeout=0.5)
    late[0].set("late")
    call.make(timeout=0.5)
    assert [each.pending for each in call.operations] == [True, True]


def test_an_end_that_was_for_an_earlier_call_does_not_end_the_next() -> None:
    call = Call(value(1), silence, timeout=1.0)
    call.make(timeout=5.0)
    assert call.world.now >= 5.0


def test_requests_and_answers_can_be_lost() -> None:
    call = Call(value(1), faults=Faults(loss=1.0))
    assert call.world.asked == []
    assert call.operations[0].pending


def test_requests_and_answers_take_their_time() -> None:
    call = Call(value(1), faults=Faults(delay=(0.2, 0.2)))
    (operation,) = call.operations
    assert operation.returned == pytest.approx(0.4)


def test_nobody_is_asked_who_is_of_another_cluster() -> None:
    call = Call(error(Redirect(B)), silence)
    foreign = Peer(":foreign")
    call.world.add(foreign, (foreign,), watch=Watch())
    call.client._leader = foreign
    call.make()
    assert foreign not in call.world.asked
