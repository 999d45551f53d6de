from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from exraft import StateMachine
from exraft.errors import (
    CommandDropped,
    CommandRejected,
    MachineError,
    NoLeader,
    OutcomeUnknown,
    Redirect,
    ServerDown,
    ServerNotFound,
)
from exraft.machine import RELEASE_CURSOR
from exraft.names import Peer, Role
from exraft.testing import Faults, Violation
from exraft.testing.cluster import QUICK
from exraft.testing.server import Server
from exraft.testing.world import Attempt, Check, World
from tests.testing.machines import CALM, Sum

A, B, C = (Peer(f":{name}") for name in "abc")


def world(
    machine: Any = Sum, *, count: int = 3, check: Check | None = None, faults: Faults = CALM
) -> World:
    """A cluster of machines that has elected a leader."""
    made = World(
        count,
        machine,
        [],
        seed=0,
        options=QUICK,
        faults=faults,
        min_majority=1,
        check=check,
    )
    for peer in made.peers:
        made.start(peer)
    made.elect()
    return made


class Asked:
    """A request, and what its client was told."""

    def __init__(self, world: World, peer: Peer, call: Any, *, write: bool = True) -> None:
        self.told: list[Any] = []
        data = world.unique(call) if write else b""
        self.attempt = Attempt(peer, call, data, self._tell)
        world.serve(self.attempt)

    def _tell(self, attempt: Attempt, value: Any, error: Any) -> None:
        assert attempt is self.attempt
        self.told.append(value if error is None else error)


def leading(world: World) -> Server:
    return world.servers[world.elect().me]


def following(world: World) -> Server:
    leader = world.elect()
    return next(each for each in world.running() if each.peer != leader.me)


def ask(world: World, call: Any, *, write: bool = True) -> Any:
    """What the leader answers in the end."""
    asked = Asked(world, leading(world).peer, call, write=write)
    world.run(lambda: asked.told)
    return asked.told[0]


# What callers are told.


def test_a_write_is_answered_by_the_machine_and_reaches_every_replica() -> None:
    cluster = world()
    assert ask(cluster, 2) == 2
    assert ask(cluster, 3) == 5
    cluster.wait(0.5)
    assert [each.replica.state for each in cluster.running() if each.replica] == [5, 5, 5]
    assert cluster.commits == 2


def test_a_read_is_answered_by_the_machine_and_is_no_commit() -> None:
    cluster = world()
    ask(cluster, 2)
    assert ask(cluster, None, write=False) == 2
    assert cluster.commits == 1


def test_an_answer_to_a_write_is_judged_where_its_caller_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = world()
    judged: list[tuple[int, int, str]] = []
    monkeypatch.setattr(
        cluster.watch,
        "acknowledges",
        lambda index, term, what: judged.append((index, term, repr(what))),
    )
    ask(cluster, 2)
    cluster.wait(0.5)
    leader = cluster.elect()
    assert judged == [(leader.last_index, leader.term, "write 2")]


def test_equal_commands_are_different_entries() -> None:
    cluster = world()
    assert cluster.unique(2) != cluster.unique(2)
    ask(cluster, 2)
    assert ask(cluster, 2) == 4


def test_who_asks_nobody_is_told_so() -> None:
    cluster = world()
    follower = following(cluster)
    cluster.crash(follower.peer)
    down = Asked(cluster, follower.peer, 1)
    unknown = Asked(cluster, Peer(":x"), 1)
    assert isinstance(down.told[0], ServerNotFound)
    assert isinstance(unknown.told[0], ServerNotFound)


def test_who_asks_a_follower_is_sent_to_the_leader() -> None:
    cluster = world()
    leader = leading(cluster).peer
    for write in (True, False):
        told = Asked(cluster, following(cluster).peer, 1, write=write).told
        cluster.wait(0.1)
        assert isinstance(told[0], Redirect)
        assert told[0].leader == leader


def test_who_asks_where_no_leader_is_known_is_told_so() -> None:
    cluster = world()
    follower = following(cluster)
    cluster.isolate(follower.peer)
    cluster.crash(follower.peer)
    cluster.start(follower.peer)
    asked = Asked(cluster, follower.peer, 1)
    assert isinstance(asked.told[0], NoLeader)
    assert asked.attempt.data in cluster.watch.refused


def test_a_refused_command_is_noted_as_a_promise() -> None:
    cluster = world()
    asked = Asked(cluster, following(cluster).peer, 1)
    assert asked.attempt.data in cluster.watch.refused


def test_a_dropped_command_is_noted_as_a_promise() -> None:
    cluster = world()
    leader = leading(cluster).peer
    cluster.isolate(leader)
    asked = Asked(cluster, leader, 1)
    cluster.run(lambda: (found := cluster.leader()) and found.me != leader)
    cluster.heal()
    cluster.run(lambda: asked.told)
    assert isinstance(asked.told[0], CommandDropped)
    assert asked.attempt.data in cluster.watch.dropped
    assert asked.attempt.data not in cluster.watch.refused


def test_who_waits_for_a_server_that_dies_learns_what_may_have_become_of_the_call() -> None:
    cluster = world()
    leader = leading(cluster).peer
    cluster.isolate(leader)
    write = Asked(cluster, leader, 1)
    read = Asked(cluster, leader, None, write=False)
    cluster.servers[leader].busy_until = cluster.now + 5.0
    unheard = Asked(cluster, leader, 2)
    cluster.crash(leader)
    outcomes = [each.told[0] for each in (write, read, unheard)]
    assert [type(each) for each in outcomes] == [ServerDown] * 3
    assert [each.maybe_applied for each in outcomes] == [True, False, False]
    assert unheard.attempt.data in cluster.watch.refused
    assert write.attempt.data not in cluster.watch.refused


def test_a_request_that_no_server_has_looked_at_can_be_withdrawn() -> None:
    cluster = world()
    server = leading(cluster)
    server.busy_until = cluster.now + 1.0
    asked = Asked(cluster, server.peer, 1)
    assert cluster.withdraw(asked.attempt)
    cluster.wait(2.0)
    assert (asked.told, cluster.commits) == ([], 0)
    assert asked.attempt.data in cluster.watch.refused


def test_a_request_that_a_server_has_looked_at_can_not_be_withdrawn() -> None:
    cluster = world()
    asked = Asked(cluster, leading(cluster).peer, 1)
    assert not cluster.withdraw(asked.attempt)
    cluster.wait(1.0)
    assert asked.told == [1]


def test_a_leader_takes_no_write_before_it_has_applied_what_an_earlier_life_had() -> None:
    cluster = world()
    server = leading(cluster)
    server.replayed = server.applied + 1
    asked = Asked(cluster, server.peer, 3)
    cluster.wait(0.1)
    assert (asked.told, cluster.commits) == ([], 0)
    server.replayed = server.applied
    cluster.run(lambda: asked.told)
    assert asked.told == [3]


def test_a_write_that_waits_for_that_goes_with_the_life() -> None:
    cluster = world()
    server = leading(cluster)
    server.replayed = server.applied + 1
    asked = Asked(cluster, server.peer, 3)
    cluster.crash(server.peer)
    cluster.start(server.peer, resume=True)
    cluster.wait(0.1)
    assert (asked.told, cluster.commits) == ([], 0)


def test_a_client_is_told_once() -> None:
    attempt = Attempt(A, 1, b"1", lambda attempt, value, error: None)
    attempt.set(1)
    with pytest.raises(Violation, match="answered twice"):
        attempt.fail(NoLeader())


# What machines do.


class Strict(Sum):
    """Takes small numbers only, raises at odd ones, and answers nonsense to 8."""

    def is_command(self, command: Any, state: Any) -> bool:
        if command == 99:
            raise LookupError("of the filter")
        return bool(command < 10)

    def handle_write(self, command: Any, state: Any) -> Any:
        if command % 2:
            raise ValueError(f"{command} is odd")
        return "nonsense" if command == 8 else super().handle_write(command, state)

    def handle_read(self, query: Any, state: Any) -> Any:
        if query == "bad":
            raise KeyError(query)
        return state


def test_what_the_filter_refuses_is_in_no_log() -> None:
    cluster = world(Strict)
    last = cluster.elect().last_index
    assert isinstance(ask(cluster, 20), CommandRejected)
    assert isinstance(ask(cluster, 99), CommandRejected)
    assert cluster.elect().last_index == last


def test_what_a_machine_raises_is_the_answer_and_the_command_is_committed() -> None:
    cluster = world(Strict)
    answer = ask(cluster, 3)
    assert isinstance(answer, ValueError)
    assert str(answer) == "3 is odd"
    assert cluster.commits == 1
    assert ask(cluster, 2) == 2


def test_what_a_query_raises_is_the_answer() -> None:
    cluster = world(Strict)
    assert isinstance(ask(cluster, "bad", write=False), KeyError)


def test_a_return_of_another_shape_is_a_machine_error_on_every_replica_alike() -> None:
    cluster = world(Strict)
    assert isinstance(ask(cluster, 8), MachineError)
    cluster.wait(1.0)


class Plain:
    """An object without `__eq__`."""

    def __init__(self, value: object) -> None:
        self.value = value


class Brittle:
    """A reply that can be pickled and not be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Clumsy(Sum):
    """Fails in the way that the command names."""

    def handle_write(self, command: Any, state: Any) -> Any:
        match command:
            case "lock":
                return threading.Lock(), state
            case "brittle":
                return Brittle(), state
            case "exit":
                raise SystemExit
            case "differs":
                raise ValueError(Plain(id(self)))
        raise ValueError(command)


@pytest.mark.parametrize(
    "command", ["lock", "brittle", "exit", Plain(1), float("nan")], ids=lambda each: repr(each)[:8]
)
def test_replicas_agree_however_they_fail(command: Any) -> None:
    cluster = world(Clumsy)
    ask(cluster, command)
    cluster.wait(1.0)
    assert [each.applied for each in cluster.running()] == [cluster.elect().last_index] * 3


def test_replicas_that_raise_different_things_do_not_agree() -> None:
    cluster = world(Clumsy)
    with pytest.raises(Violation, match="answers raised ValueError") as caught:
        ask(cluster, "differs")
        cluster.wait(1.0)
    assert caught.value.invariant == "replicas agree"


class Postman(StateMachine):
    """Sends a letter with every write and every configuration, and keeps a copy."""

    sent: list[Any] = []

    def init(self, init_arg: Any) -> Any:
        return 0

    def handle_write(self, command: Any, state: Any) -> Any:
        return state, state + 1, [lambda: self._send(command)]

    def _send(self, letter: Any) -> None:
        self.sent.append(letter)
        if letter == "bad":
            raise OSError("no stamps")

    def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
        return state, [lambda: self.sent.append(kind)]

    def handle_read(self, query: Any, state: Any) -> Any:
        return state


@pytest.fixture
def postman() -> type[Postman]:
    Postman.sent = []
    return Postman


def test_a_side_effect_runs_on_the_leader_alone(postman: type[Postman]) -> None:
    cluster = world(postman)
    before = cluster.counts["side effects"]
    ask(cluster, "a letter")
    cluster.wait(1.0)
    assert postman.sent.count("a letter") == 1
    assert cluster.counts["side effects"] == before + 1


def test_side_effects_of_a_configuration_run_as_well(postman: type[Postman]) -> None:
    world(postman)
    assert "config" in postman.sent


def test_side_effects_of_an_earlier_life_do_not_run_again(postman: type[Postman]) -> None:
    cluster = world(postman)
    ask(cluster, "a letter")
    server = leading(cluster)
    cluster.crash(server.peer)
    cluster.start(server.peer, resume=True)
    cluster.wait(1.0)
    assert server.applied == cluster.elect().last_index
    assert postman.sent.count("a letter") == 1


def test_a_side_effect_that_raises_changes_nothing_and_is_counted(postman: type[Postman]) -> None:
    cluster = world(postman)
    noted: list[str] = []
    cluster.observe = lambda at, who, what: noted.append(str(what))
    assert ask(cluster, "bad") == 0
    assert ask(cluster, "a letter") == 1
    assert cluster.counts["side effects that raised"] == 1
    assert any("OSError: no stamps" in each for each in noted)


class Observed(Sum):
    """Hears of roles and ends."""

    heard: list[Any] = []

    def transition(self, to_state: Role, state: Any) -> None:
        self.heard.append(to_state)

    def terminate(self, reason: Any, state: Any) -> None:
        self.heard.append(reason)


def test_a_machine_hears_of_its_servers_roles_and_of_its_end() -> None:
    Observed.heard = []
    cluster = world(Observed, count=1)
    cluster.crash(A)
    assert Observed.heard[-2:] == [Role.LEADER, "killed"]


def test_each_life_has_a_machine_and_an_argument_of_its_own() -> None:
    class Keeping(Sum):
        def init(self, init_arg: Any) -> Any:
            init_arg.append(1)
            return len(init_arg)

    cluster = world(Keeping)
    cluster.crash(A)
    cluster.start(A)
    replicas = [each.replica for each in cluster.running()]
    assert [replica.state for replica in replicas if replica] == [1, 1, 1]


# What is said of the state.


def broken(check: Check, machine: Any = Sum) -> Violation:
    cluster = world(machine, check=check)
    with pytest.raises(Violation) as caught:
        ask(cluster, 7)
    return caught.value


def test_a_check_that_returns_false_says_which_state_on_which_server() -> None:
    violation = broken(lambda state: state != 7)
    assert violation.invariant == "the machine's own"
    assert violation.what.startswith("not so after ")
    assert violation.what.endswith(": 7")


def test_a_check_that_asserts_says_why() -> None:
    def check(state: Any) -> None:
        assert state != 7, "seven is not lucky"

    violation = broken(check)
    assert violation.invariant == "the machine's own"
    assert "seven is not lucky" in violation.what
    assert violation.what.endswith("in 7")


def test_a_check_that_raises_something_else_is_shown_with_the_state() -> None:
    def check(state: Any) -> None:
        if state == 7:
            raise KeyError("colour")

    violation = broken(check)
    assert violation.invariant == "the machine's own"
    assert "KeyError('colour')" in violation.what


@pytest.mark.parametrize("fine", [None, True, 1])
def test_a_check_that_returns_nothing_or_what_is_true_holds(fine: object) -> None:
    assert ask(world(check=lambda state: fine), 7) == 7


@pytest.mark.parametrize("wrong", [False, 0, ""])
def test_a_check_that_returns_what_is_false_does_not_hold(wrong: object) -> None:
    assert broken(lambda state: wrong if state == 7 else None).invariant == "the machine's own"


def test_a_state_is_checked_after_a_configuration_too() -> None:
    class Told(Sum):
        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            return -1

    with pytest.raises(Violation, match="the machine's own: not so after 1 on"):
        world(Told, check=lambda state: state >= 0)


# Snapshots.


class Released(Sum):
    """Takes a snapshot to be worthwhile whenever the sum is a multiple of ten."""

    def handle_write(self, command: Any, state: Any) -> Any:
        state += command
        return state, state, [] if state % 10 else [RELEASE_CURSOR]


def test_a_machine_goes_on_from_its_snapshot() -> None:
    cluster = world()
    leader = cluster.elect()
    asked = [Asked(cluster, leader.me, number) for number in (3, 4)]
    cluster.run(lambda: all(each.told for each in asked))
    cluster.take_snapshot(leader.me)
    cluster.run(lambda: leader.store.snapshot)
    cluster.crash(leader.me)
    cluster.start(leader.me)
    server = cluster.servers[leader.me]
    assert server.replica is not None
    assert server.replica.state == 7
    assert cluster.counts["snapshots restored"] == 1


def test_a_machine_may_say_when_a_snapshot_is_worthwhile() -> None:
    cluster = world(Released)
    leader = cluster.elect()
    for number in (3, 7, 1):
        Asked(cluster, leader.me, number)
    cluster.wait(1.0)
    taken = [each.store.snapshot for each in cluster.running()]
    assert all(taken)
    assert cluster.counts["snapshots that the machine asked for"] == 3


def test_side_effects_of_what_a_snapshot_holds_do_not_run_again(postman: type[Postman]) -> None:
    cluster = world(postman, count=1)
    asked = Asked(cluster, A, "a letter")
    cluster.run(lambda: asked.told)
    cluster.take_snapshot(A)
    cluster.wait(0.5)
    cluster.crash(A)
    cluster.start(A)
    cluster.wait(0.5)
    assert postman.sent.count("a letter") == 1


def test_a_state_that_can_not_be_pickled_is_in_no_snapshot() -> None:
    class Holding(Sum):
        def init(self, init_arg: Any) -> Any:
            return threading.Lock()

        def handle_write(self, command: Any, state: Any) -> Any:
            return None, state

    cluster = world(Holding)
    leader = cluster.elect()
    Asked(cluster, leader.me, 1)
    cluster.wait(0.5)
    cluster.take_snapshot(leader.me)
    cluster.wait(0.5)
    assert leader.store.snapshot is None


def test_who_waits_for_a_command_that_a_snapshot_jumps_past_does_not_know_its_outcome() -> None:
    cluster = world()
    cluster.wait(0.5)
    leader = cluster.elect()
    others = [peer for peer in cluster.peers if peer != leader.me]
    # It does not hear that its entry is committed.
    cluster.network.cut(*((other, leader.me) for other in others))
    asked = Asked(cluster, leader.me, 5)
    cluster.run(lambda: leader.state is not Role.LEADER)
    cluster.isolate(leader.me)
    cluster.run(lambda: (found := cluster.leader()) and found.me in others)
    for server in cluster.running():
        assert server.raft is not None
        server.raft.options = replace(server.raft.options, keep_entries=0)
    cluster.snapshot_every = 3
    for number in range(20):
        found = cluster.leader()
        assert found is not None
        Asked(cluster, found.me, number)
        cluster.wait(0.2)
    assert asked.told == []
    cluster.heal()
    cluster.run(lambda: asked.told)
    assert isinstance(asked.told[0], OutcomeUnknown)
