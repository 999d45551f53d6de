"""ExRaft's README example line by line, and its three integration scenarios in our words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from exraft import ExRaft, Peer, Role, StateMachine
from exraft.errors import CommandRejected, LastServer, Redirect
from exraft.machine import WriteResult
from tests.helpers import LIMIT, PATIENT, QUICK, RAFT, Journal, leader_and_followers, wait_until


class KeyValueStore(StateMachine):
    """The machine of ExRaft's README."""

    def init(self, init_arg: Any) -> Any:
        return dict(init_arg)

    def is_command(self, command: Any, state: Any) -> bool:
        return isinstance(command, tuple) and command[0] == "put"

    def handle_write(self, command: Any, state: Any) -> WriteResult:
        _, key, value = command
        state[key] = value
        return "ok", state

    def handle_read(self, query: Any, state: Any) -> Any:
        return state.get(query)


def test_the_example_of_the_readme() -> None:
    init_arg: dict[str, str] = {}
    initial_config = [":raft1", ":raft2"]
    ExRaft.start_server(KeyValueStore, init_arg, name=":raft1", initial_config=initial_config)
    ExRaft.start_server(KeyValueStore, init_arg, name=":raft2", initial_config=initial_config)
    # This one waits until it is added.
    ExRaft.start_server(KeyValueStore, init_arg, name=":raft3", min_majority=2)

    leader = ExRaft.await_leader(":raft1")
    ExRaft.add_server(leader, ":raft3")
    assert ExRaft.write(leader, ("put", "key", "value")) == "ok"
    assert ExRaft.read(leader, "key") == "value"

    follower = ":raft3"
    assert ExRaft.await_leader(follower) == leader
    with pytest.raises(Redirect) as raised:
        ExRaft.write(follower, ("put", "key", "other"))
    assert raised.value.leader == leader
    assert raised.value.reason == ("redirect", leader)

    ExRaft.stop_server(leader)
    ExRaft.trigger_election(":raft3")
    (other,) = {":raft1", ":raft2"} - {leader.name}
    new_leader = ExRaft.await_leader(":raft3")
    assert new_leader in {Peer(other), Peer(":raft3")}
    assert ExRaft.client([other, ":raft3"]).read("key") == "value"


def test_a_single_server(journal: Journal) -> None:
    class Recorded(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            journal.add("is_command", command)
            return super().is_command(command, state)

        def handle_write(self, command: Any, state: Any) -> WriteResult:
            reply, state, *_ = super().handle_write(command, state)
            return reply, state, [partial(journal.add, "effect")]

        def transition(self, to_state: Role, state: Any) -> None:
            journal.add("transition", to_state)

        def terminate(self, reason: Any, state: Any) -> None:
            journal.add("terminate", reason)

    ExRaft.start_server(Recorded, {}, name=":raft1", **PATIENT)
    assert ExRaft.await_leader(":raft1") == Peer(":raft1")
    assert ExRaft.leader(":raft1") == Peer(":raft1")
    ExRaft.trigger_election(":raft1")
    assert ExRaft.await_leader(":raft1") == Peer(":raft1")
    wait_until(lambda: ExRaft.state(":raft1") == "leader", ":raft1 leads again")
    assert [role for _, role in journal.lines("transition")] == ["leader", "candidate", "leader"]

    assert ExRaft.read(":raft1", "key") is None
    assert ExRaft.read_dirty(":raft1", "key") is None
    with pytest.raises(CommandRejected):
        ExRaft.write(":raft1", "nonsense")
    assert journal.lines("is_command") == [("is_command", "nonsense")]

    assert ExRaft.write(":raft1", ("put", "key", "value")) == "ok"
    assert ExRaft.read(":raft1", "key") == "value"
    assert ExRaft.read_dirty(":raft1", "key") == "value"
    journal.wait_for("effect")

    ExRaft.stop_server(":raft1")
    assert journal.lines("effect") == [("effect",)]
    assert journal.lines("terminate") == [("terminate", "normal")]
    assert len(journal.lines("transition")) == 3


def test_a_static_configuration_with_a_lost_leader() -> None:
    begin = partial(ExRaft.start_server, KeyValueStore, {}, **PATIENT)
    begin(name=":raft1", initial_config=RAFT)
    begin(name=":raft2", min_majority=2)
    begin(name=":raft3", min_majority=2)
    ExRaft.trigger_election(":raft1")
    first = ExRaft.await_leader(":raft2", LIMIT)
    assert first == Peer(":raft1")
    leader_and_followers(RAFT)

    assert ExRaft.write(first, ("put", "key", "value")) == "ok"
    for follower in (":raft2", ":raft3"):
        assert ExRaft.await_leader(follower) == first
        calls: tuple[Callable[[], Any], ...] = (
            partial(ExRaft.write, follower, ("put", "key", "other")),
            partial(ExRaft.read, follower, "key"),
        )
        for call in calls:
            with pytest.raises(Redirect) as raised:
                call()
            assert raised.value.leader == first
    assert ExRaft.read(first, "key") == "value"

    ExRaft.stop_server(first)
    new, other = leader_and_followers((":raft2", ":raft3"))
    assert ExRaft.read(new, "key") == "value"
    assert ExRaft.write(new, ("put", "key", "newer")) == "ok"
    wait_until(lambda: ExRaft.read_dirty(other, "key") == "newer", "the follower has it")


def test_a_dynamic_configuration() -> None:
    begin = partial(ExRaft.start_server, KeyValueStore, {}, **PATIENT)
    begin(name=":raft1")
    begin(name=":raft2", min_majority=2)
    begin(name=":raft3", min_majority=2)
    leader = ExRaft.await_leader(":raft1")
    assert leader == Peer(":raft1")
    assert ExRaft.leader(":raft2") is None

    ExRaft.add_server(leader, leader)
    ExRaft.remove_server(leader, ":stranger")
    with pytest.raises(LastServer):
        ExRaft.remove_server(leader, leader)

    ExRaft.add_server(leader, ":raft2")
    ExRaft.add_server(leader, ":raft3")
    assert set(ExRaft.status(leader).config.voters) == {Peer(name) for name in RAFT}
    assert ExRaft.write(leader, ("put", "key", "value")) == "ok"

    ExRaft.remove_server(leader, leader)
    new, other = leader_and_followers((":raft2", ":raft3"))
    assert ExRaft.await_leader(other) == new
    assert set(ExRaft.status(new).config.voters) == {Peer(":raft2"), Peer(":raft3")}
    assert ExRaft.read(new, "key") == "value"


def test_names_are_stopped_and_started_as_a_new_cluster_over_and_over() -> None:
    clusters = set()
    for life in range(10):
        for name in RAFT:
            ExRaft.start_server(KeyValueStore, {}, name=name, initial_config=RAFT, **PATIENT)
        leader = ExRaft.await_leader(":raft1", LIMIT)
        client = ExRaft.client(RAFT)
        assert client.read("life") is None
        assert client.write(("put", "life", life)) == "ok"
        clusters.add(ExRaft.status(leader).cluster)
        for name in RAFT:
            ExRaft.stop_server(name, timeout=LIMIT)
    assert len(clusters) == 10


def test_a_cluster_is_stopped_and_started_while_its_names_are_written_to() -> None:
    over = threading.Event()
    failures: list[BaseException] = []

    def hammer() -> None:
        client = ExRaft.client(RAFT)
        while not over.is_set():
            try:
                client.write(("put", "key", 1), timeout=0.01)
            except Exception as error:
                failures.append(error)

    writer = threading.Thread(target=hammer, daemon=True)
    writer.start()
    for _ in range(3):
        for name in RAFT:
            ExRaft.start_server(KeyValueStore, {}, name=name, initial_config=RAFT, **QUICK)
        assert ExRaft.client(RAFT).write(("put", "key", 2), timeout=LIMIT) == "ok"
        for name in RAFT:
            ExRaft.stop_server(name, timeout=LIMIT)
    over.set()
    writer.join(LIMIT)
    assert not writer.is_alive()
    assert all(hasattr(error, "reason") for error in failures), failures
