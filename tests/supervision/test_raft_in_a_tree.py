"""Raft servers in supervision trees: what their parent's restarts and stops mean for them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, Peer, Role, StateMachine
from exraft.actors.calls import Crash
from exraft.actors.ending import kill
from exraft.actors.exits import Exit
from exraft.actors.registry import ActorRegistry as Registry
from exraft.actors.spec import Estate, Tenure
from exraft.actors.transport import local
from exraft.child_spec import ChildSpec
from exraft.errors import AlreadyStarted, ServerDown, ServerNotFound, StartFailed
from exraft.options import make_spec
from exraft.storage import MemoryStore
from exraft.storage.memory import Fenced
from exraft.supervision import DynamicSupervisor, SpecError, Supervisor
from tests.helpers import LIMIT, PATIENT, RAFT, Gate, end_of, supervisor_of, wait_until

NAME = ":kept"


class Tally(StateMachine):
    """Adds up what is written."""

    def init(self, init_arg: Any) -> int:
        return int(init_arg)

    def handle_write(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state + command

    def handle_read(self, query: Any, state: int) -> int:
        return state


def spec(name: str = NAME, init_arg: Any = 0, **options: Any) -> ChildSpec:
    return Tally.child_spec(init_arg, name=name, **(PATIENT | options))


def tree(*specs: ChildSpec, **options: Any) -> pykka.ActorRef[Any]:
    options = {"max_restarts": 100, "max_seconds": 300.0} | options
    return Supervisor.start(specs, name=":tree", **options)


def give_up(name: str = NAME) -> None:
    """Crash a server that may not be restarted once; return when its supervisor has ended.

    Once, not until the supervisor has ended: by then the next tenure's server may have the name.
    """
    supervisor = supervisor_of(name)
    server = ActorRegistry.get_by_name(name)
    assert server is not None
    ended = end_of(supervisor)
    server.actor_inbox.put(Crash(RuntimeError("crashed on purpose")))  # type: ignore[arg-type]
    assert ended.wait(LIMIT)


def await_server(name: str = NAME) -> None:
    """Wait until a life of it leads, or follows a leader."""
    wait_until(lambda: ActorRegistry.get_by_name(name) is not None, f"{name} lives")
    ExRaft.await_leader(name, LIMIT)


def write(amount: int, name: str = NAME) -> int:
    return ExRaft.write(name, amount, LIMIT)  # type: ignore[no-any-return]


def founders(names: Sequence[str] = RAFT, **options: Any) -> list[ChildSpec]:
    return [spec(name, initial_config=names, **options) for name in names]


# What a spec is.


def test_a_server_stands_in_a_tree_beside_other_children() -> None:
    class Greeter(pykka.ThreadingActor):
        def on_receive(self, message: str) -> str:
            return f"hello, {message}"

    inner = Supervisor.child_spec([spec()], id="inner")
    sup = tree(ChildSpec("greeter", (Greeter, (), {})), inner)
    assert [child.id for child in Supervisor.which_children(sup)] == ["greeter", "inner"]
    assert write(5) == 5
    Supervisor.stop(sup, timeout=LIMIT)
    assert ActorRegistry.names() == []


def test_the_init_arg_is_that_of_when_the_spec_was_made() -> None:
    class Listing(Tally):
        def init(self, init_arg: Any) -> int:
            return len(init_arg)

    given = ["one"]
    made = Listing.child_spec(given, name=NAME)
    given.append("two")
    tree(made)
    assert ExRaft.read(NAME, None, LIMIT) == 1


def test_a_taken_name_refuses_the_start_and_names_who_has_it() -> None:
    """S3, S7."""
    ExRaft.start_server(Tally, 0, name=NAME)
    taken = ActorRegistry.get_by_name(NAME)
    with pytest.raises(StartFailed) as caught:
        tree(spec())
    assert caught.value.name == NAME
    assert isinstance(caught.value.cause, AlreadyStarted)
    assert caught.value.cause.ref is taken
    assert write(1) == 1


def test_an_init_that_raises_refuses_the_start() -> None:
    """S3."""
    with pytest.raises(StartFailed, match=":kept could not be started .ValueError") as caught:
        tree(spec(":fine"), spec(init_arg="no number"))
    assert caught.value.name == NAME
    assert ActorRegistry.names() == []


def test_one_spec_starts_one_server_at_a_time() -> None:
    one = spec()
    tree(one)
    pool = DynamicSupervisor.start(name=":pool")
    with pytest.raises(StartFailed) as caught:
        DynamicSupervisor.start_child(pool, one)
    assert isinstance(caught.value.cause, AlreadyStarted)
    assert write(1) == 1


def test_no_second_start_harms_a_server_between_two_lives() -> None:
    one, gate = spec(), Gate()
    waits = threading.Event()

    class Waits(Tally):
        def init(self, init_arg: Any) -> int:
            if waits.is_set():
                gate.pass_through()
            return 0

    one = Waits.child_spec(0, name=NAME)
    tree(one)
    write(1)
    waits.set()
    Registry.deliver(NAME, Crash(RuntimeError()))
    gate.await_someone()
    pool = DynamicSupervisor.start(name=":pool")
    with pytest.raises(StartFailed):
        DynamicSupervisor.start_child(pool, one)
    gate.open()
    assert write(1) == 2


def test_what_a_child_spec_has_may_be_given() -> None:
    made = spec(id="counter", restart="temporary", shutdown=20.0)
    assert (made.id, made.restart, made.shutdown) == ("counter", "temporary", 20.0)
    sup = tree(made)
    ended = end_of(supervisor_of(NAME))
    ExRaft.stop_server(NAME, timeout=LIMIT)
    assert ended.wait(LIMIT)
    wait_until(lambda: not Supervisor.which_children(sup), "its spec is gone")


def test_a_start_that_would_forget_its_log_is_refused() -> None:
    made = ChildSpec("tally", (ExRaft.start_server, (Tally, 0), {"name": NAME}))
    with pytest.raises(SpecError, match="child 'tally', start: .* a log that outlives"):
        tree(made)


# Its store.


def test_a_server_whose_supervisor_gave_up_finds_its_log_again() -> None:
    tree(spec(max_restarts=0))
    write(7)
    give_up()
    await_server()
    assert write(1) == 8
    assert ExRaft.status(NAME, LIMIT).restarts == 1


def test_a_member_whose_supervisor_gave_up_comes_back_as_the_member_it_was() -> None:
    """Rule 29: it has lost nothing, so that nobody need add it again."""
    tree(*founders(max_restarts=0))
    leader = ExRaft.await_leader(RAFT[0], LIMIT)
    client = ExRaft.client(RAFT)
    client.write(7, timeout=LIMIT)
    for name in RAFT:
        give_up(name)
        await_server(name)
        assert client.write(1, timeout=LIMIT) > 7
    assert client.read(None, timeout=LIMIT) == 10
    config = ExRaft.status(ExRaft.await_leader(leader, LIMIT), LIMIT).config
    assert sorted(peer.name for peer in config.voters) == sorted(RAFT)


def test_a_cluster_that_is_restarted_as_a_whole_finds_its_logs_again() -> None:
    tree(*founders(max_restarts=0), strategy="one_for_all")
    client = ExRaft.client(RAFT)
    client.write(7, timeout=LIMIT)
    before = {name: supervisor_of(name) for name in RAFT}
    ended = [end_of(ref) for ref in before.values()]
    give_up(RAFT[1])
    assert all(each.wait(LIMIT) for each in ended)
    for name in RAFT:
        await_server(name)
        assert supervisor_of(name) is not before[name]
    assert client.write(1, timeout=LIMIT) == 8


def test_a_tree_that_its_parent_restarts_finds_its_logs_again() -> None:
    """The specs of a nested supervisor are among its start arguments."""
    inner = Supervisor.child_spec([spec(max_restarts=0)], name=":inner", max_restarts=0)
    tree(inner)
    write(7)
    ref = ActorRegistry.get_by_name(":inner")
    assert ref is not None
    ended = end_of(ref)
    give_up()
    assert ended.wait(LIMIT)
    await_server()
    assert write(1) == 8


def test_terminate_child_stops_a_server_and_restart_child_finds_its_log_again() -> None:
    sup = tree(spec())
    write(7)
    Supervisor.terminate_child(sup, NAME, timeout=LIMIT)
    assert ActorRegistry.names() == [":tree"]
    with pytest.raises(ServerNotFound):
        ExRaft.ping(NAME)
    Supervisor.restart_child(sup, NAME, timeout=LIMIT)
    assert write(1) == 8


def test_stop_server_is_a_restart_in_a_tree() -> None:
    """S9: a permanent child. It keeps its log, or three such calls would lose a cluster's."""
    sup = tree(spec())
    write(7)
    ended = end_of(supervisor_of(NAME))
    ExRaft.stop_server(NAME, timeout=LIMIT)
    assert ended.is_set()
    await_server()
    assert write(1) == 8
    assert sup.is_alive()


def test_another_spec_of_that_name_begins_with_an_empty_log() -> None:
    sup = tree(spec())
    write(7)
    Supervisor.terminate_child(sup, NAME, timeout=LIMIT)
    Supervisor.delete_child(sup, NAME, timeout=LIMIT)
    Supervisor.start_child(sup, spec(), timeout=LIMIT)
    assert write(1) == 1


def test_a_member_that_comes_back_by_another_spec_is_a_stranger() -> None:
    """Rule 29: it has forgotten its votes, and waits to be added again."""
    sup = tree(*founders())
    client = ExRaft.client(RAFT)
    client.write(7, timeout=LIMIT)
    leader = ExRaft.await_leader(RAFT[0], LIMIT)
    follower = next(name for name in RAFT if name != leader.name)
    Supervisor.terminate_child(sup, follower, timeout=LIMIT)
    Supervisor.delete_child(sup, follower, timeout=LIMIT)
    Supervisor.start_child(sup, spec(follower, initial_config=RAFT), timeout=LIMIT)
    ExRaft.trigger_election(follower, LIMIT)
    assert ExRaft.state(follower, LIMIT) is Role.FOLLOWER
    leader = ExRaft.await_leader(leader, LIMIT)
    ExRaft.add_server(leader, follower, LIMIT)
    assert client.write(1, timeout=LIMIT) == 8


class Memory:
    """What a test sees die."""


def test_the_log_is_gone_with_the_spec() -> None:
    sup = tree(spec())
    memory = Memory()
    # Something of the store's own, that lives as long as it.
    child = Supervisor.which_children(sup)[0].ref
    assert isinstance(child, pykka.ActorRef)
    estate = _estate_of(child)
    estate.store.memory = memory
    gone = weakref.ref(memory)
    del memory, estate
    Supervisor.terminate_child(sup, NAME, timeout=LIMIT)
    assert gone() is not None
    Supervisor.delete_child(sup, NAME, timeout=LIMIT)

    def dead() -> bool:
        gc.collect()
        return gone() is None

    wait_until(dead, "nobody holds the store")


def _estate_of(supervisor: pykka.ActorRef[Any]) -> Any:
    from exraft.actors.lineage import life_of

    life: Any = life_of(supervisor)
    return life._children[NAME].spec.start[1][0].estate


def test_a_supervisor_that_was_given_up_takes_the_store_from_nobody() -> None:
    """S30: it may wake up in the middle of a restart, when its successor has a server at work."""
    estate = Estate(make_spec(Tally, 0, NAME, {}, local), MemoryStore(), local)
    given_up, successor = Tenure(estate), Tenure(estate)
    before = given_up.begin_life()
    given_up.close()
    present = successor.begin_life()
    with pytest.raises(Exit):
        given_up.begin_life()
    present.set_ballot(1, None, leads=False)
    with pytest.raises(Fenced):
        before.set_ballot(1, None, leads=False)
    successor.close()


def test_a_kill_of_its_supervisor_ends_the_server_and_its_tree_goes_on() -> None:
    gate, hung = Gate(), threading.Event()

    class Slow(Tally):
        def handle_write(self, command: int, state: int) -> tuple[int, int]:
            if command == 100 and not hung.is_set():
                hung.set()
                gate.pass_through()
            return super().handle_write(command, state)

    tree(Slow.child_spec(0, name=NAME, **PATIENT))
    write(7)
    hanging = ExRaft.write_async(NAME, 100)
    gate.await_someone()
    kill(supervisor_of(NAME))
    with pytest.raises(ServerDown):
        hanging.get(timeout=LIMIT)
    await_server()
    gate.open()
    # It is in the log, and the next life applies it.
    assert write(1) == 108


# Its stop.


def test_a_leader_that_its_tree_terminates_hands_over() -> None:
    sup = tree(*founders())
    leader = ExRaft.await_leader(RAFT[0], LIMIT)
    others = [name for name in RAFT if name != leader.name]
    for name in others:
        ExRaft.await_leader(name, LIMIT)
    ExRaft.client(RAFT).write(1, timeout=LIMIT)
    term = ExRaft.status(leader, LIMIT).term
    Supervisor.terminate_child(sup, leader.name, timeout=LIMIT)
    # With election timeouts of minutes nobody else could lead by now.
    new = ExRaft.await_leader(others[0], LIMIT)
    assert new.name in others
    assert ExRaft.status(new, LIMIT).term == term + 1


def test_a_tree_of_a_whole_cluster_stops_without_waiting_for_elections() -> None:
    sup = tree(*founders())
    ExRaft.client(RAFT).write(1, timeout=LIMIT)
    Supervisor.stop(sup, timeout=LIMIT)
    assert ActorRegistry.names() == []


def test_terminate_is_told_shutdown_by_a_tree() -> None:
    """S33."""
    told: list[Any] = []

    class Told(Tally):
        def terminate(self, reason: Any, state: int) -> None:
            told.append((reason, state))

    sup = tree(Told.child_spec(0, name=NAME))
    write(3)
    Supervisor.stop(sup, "boom", timeout=LIMIT)
    assert told == [("shutdown", 3)]


def test_peers_learn_of_a_tree_that_took_their_leader() -> None:
    """Rule 28: they elect at once, however long their election timeouts."""
    one, *others = founders()
    pool = Supervisor.start(others, name=":others")
    tree(one)
    ExRaft.trigger_election(one.id, LIMIT)
    wait_until(
        lambda: all(ExRaft.leader(name, LIMIT) == Peer(one.id) for name in RAFT), "all follow it"
    )
    ended = end_of(supervisor_of(one.id))
    supervisor_of(one.id).stop(timeout=LIMIT)
    assert ended.wait(LIMIT)
    ExRaft.client([other.id for other in others]).write(1, timeout=LIMIT)
    assert pool.is_alive()
