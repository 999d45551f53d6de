"""Nothing mutable is shared: between callers, servers, lives of a server, and their machines."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from exraft import ExRaft, StateMachine, maybe_applied
from exraft.errors import MachineError, NoLeader, NotSerialisable
from exraft.machine import WriteResult
from tests.helpers import (
    LIMIT,
    Gate,
    Journal,
    KeyValueStore,
    agree,
    await_restarts,
    crash,
    does,
    outcome,
    run_script,
    start,
    start_cluster,
    unchanged,
    wait_until,
)

# Commands and their copies.


def test_a_command_changed_after_the_call_is_written_as_it_was() -> None:
    raft1 = start(":raft1")
    value = [1]
    written = ExRaft.write_async(raft1, ("put", "k", value))
    value.append(2)
    written.get(timeout=LIMIT)
    assert ExRaft.read(raft1, "k") == [1]


def test_a_machine_that_keeps_a_command_keeps_none_of_the_callers() -> None:
    raft1 = start(":raft1")
    value = [1]
    ExRaft.write(raft1, ("put", "k", value))
    value.append(2)
    assert ExRaft.read(raft1, "k") == [1]


def test_every_replica_has_a_copy_of_its_own_of_a_command(journal: Journal) -> None:
    peers = start_cluster(journal=journal)
    ExRaft.write(peers[0], ("put", "k", []))
    wait_until(lambda: agree(peers), "all have applied it")
    values = [command[2] for _, _, command in journal.lines("write")]
    assert len(values) == 3
    assert len({id(value) for value in values}) == 3


def test_a_filter_that_changes_a_command_changes_nothing_of_what_is_logged() -> None:
    class Greedy(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            command[2].clear()
            return True

    ExRaft.start_server(Greedy, {}, name=":raft1")
    ExRaft.write(":raft1", ("put", "k", [1]))
    assert ExRaft.read(":raft1", "k") == [1]


# Replies and reads.


def test_a_reply_that_its_caller_changes_leaves_the_state_as_it_is() -> None:
    start(":raft1", init_arg={"k": [1]})
    machine = does(peek=lambda state: (state["k"], state), get=lambda state: state["k"])
    ExRaft.start_server(machine, {"k": [1]}, name=":raft2")
    ExRaft.write(":raft2", "peek").append(2)
    ExRaft.write_async(":raft2", "peek").get(timeout=LIMIT).append(3)
    assert ExRaft.read(":raft2", "get") == [1]


def test_an_answer_that_its_caller_changes_leaves_the_state_as_it_is() -> None:
    start(":raft1", init_arg={"k": [1]})
    ExRaft.read(":raft1", "k").append(2)
    ExRaft.read_dirty(":raft1", "k").append(3)
    ExRaft.client([":raft1"]).read("k").append(4)
    assert ExRaft.read(":raft1", "k") == [1]


def test_what_holds_something_mutable_leaves_as_a_copy_too() -> None:
    start(":raft1", init_arg={"k": (1, [2])})
    ExRaft.read(":raft1", "k")[1].append(3)
    assert ExRaft.read(":raft1", "k") == (1, [2])


def test_each_get_of_a_reply_is_a_copy() -> None:
    ExRaft.start_server(does(peek=unchanged([1])), name=":raft1")
    reply = ExRaft.write_async(":raft1", "peek")
    reply.get(timeout=LIMIT).append(2)
    assert reply.get(timeout=LIMIT) == [1]


def test_a_reply_that_cannot_be_serialised_says_so_and_was_applied() -> None:
    gate = Gate()  # It holds locks.
    ExRaft.start_server(does(give=unchanged(gate), get=lambda state: gate), name=":raft1")
    with pytest.raises(NotSerialisable, match="Gate") as raised:
        ExRaft.write(":raft1", "give")
    assert maybe_applied(raised.value)
    with pytest.raises(NotSerialisable) as raised:
        ExRaft.read(":raft1", "get")
    assert not maybe_applied(raised.value)
    assert ExRaft.ping(":raft1") == "pong"


def test_a_query_that_the_machine_changes_stays_its_callers_own() -> None:
    class Eager(KeyValueStore):
        def handle_read(self, query: Any, state: Any) -> Any:
            query.append("changed")
            return len(query)

    ExRaft.start_server(Eager, {}, name=":raft1")
    query = ["asked"]
    assert ExRaft.read(":raft1", query) == 2
    assert ExRaft.read_dirty(":raft1", query) == 2
    assert ExRaft.client([":raft1"]).read(query) == 2
    assert query == ["asked"]


def test_a_query_that_cannot_be_serialised_is_refused_at_the_caller() -> None:
    start(":raft1")
    for read in (ExRaft.read, ExRaft.read_dirty):
        with pytest.raises(NotSerialisable, match="Gate") as raised:
            read(":raft1", Gate())
        assert not maybe_applied(raised.value)


# What a server is started with.


def test_an_init_arg_changed_afterwards_changes_no_life() -> None:
    init_arg = {"k": [1]}
    raft1 = start(":raft1", init_arg=init_arg)
    init_arg["k"].append(2)
    assert ExRaft.read(raft1, "k") == [1]
    crash(raft1)
    assert ExRaft.read(raft1, "k") == [1]


def test_every_life_gets_a_fresh_copy_of_its_init_arg() -> None:
    class Appending(StateMachine):
        def handle_write(self, command: Any, state: Any) -> WriteResult:
            state.append(command)
            return list(state), state

        def handle_read(self, query: Any, state: Any) -> Any:
            return state

    ExRaft.start_server(Appending, ["begin"], name=":raft1")
    ExRaft.write(":raft1", 1)
    crash(":raft1")
    await_restarts(":raft1", 1)
    # Not ["begin", 1, 1]: what the first life changed in its copy is gone.
    assert ExRaft.read(":raft1", None) == ["begin", 1]


def test_the_state_begins_as_an_empty_list_of_the_servers_own() -> None:
    machine = does(append=lambda state: (None, [*state, 1]), get=lambda state: state)
    ExRaft.start_server(machine, name=":raft1")
    ExRaft.start_server(machine, name=":raft2")
    ExRaft.write(":raft1", "append")
    assert ExRaft.read(":raft1", "get") == [1]
    assert ExRaft.read(":raft2", "get") == []


# Exceptions.


class Overdrawn(Exception):
    def __init__(self, account: str, history: list[int]) -> None:
        super().__init__(f"{account} is overdrawn")
        self.history = history


class Unportable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.gate = Gate()


def test_what_a_machine_raises_arrives_with_its_type_text_and_fields() -> None:
    def overdraw(state: Any) -> Any:
        raise Overdrawn("alice", [1, 2])

    ExRaft.start_server(does(overdraw=overdraw), name=":raft1")
    with pytest.raises(Overdrawn, match="alice is overdrawn") as raised:
        ExRaft.write(":raft1", "overdraw")
    assert raised.value.history == [1, 2]
    assert maybe_applied(raised.value)
    with pytest.raises(Overdrawn) as raised:
        ExRaft.read(":raft1", "overdraw")
    assert not maybe_applied(raised.value)


def test_a_note_names_server_index_and_callback() -> None:
    raft1 = start(":raft1")
    error = outcome(lambda: ExRaft.write(raft1, ("raise", ValueError("no"))))
    assert error.__notes__ == [
        f"raised by handle_write of :raft1 at index {ExRaft.status(raft1).last_index}"
    ]
    ExRaft.start_server(does(get=lambda state: 1 / 0), name=":raft2")
    error = outcome(lambda: ExRaft.read(":raft2", "get"))
    assert error.__notes__ == ["raised by handle_read of :raft2"]


def test_an_exception_changed_by_its_caller_leaves_the_state_as_it_is() -> None:
    def overdraw(state: Any) -> Any:
        raise Overdrawn("alice", state)

    ExRaft.start_server(does(overdraw=overdraw, get=lambda state: state), [1], name=":raft1")
    error = outcome(lambda: ExRaft.write(":raft1", "overdraw"))
    error.history.append(2)
    assert ExRaft.read(":raft1", "get") == [1]


def test_an_exception_brings_no_frame_of_the_machine_along() -> None:
    def overdraw(state: Any) -> Any:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Overdrawn("alice", []) from error

    ExRaft.start_server(does(overdraw=overdraw), name=":raft1")
    error = outcome(lambda: ExRaft.write(":raft1", "overdraw"))
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert "overdraw" not in functions
    assert "handle_write" not in functions
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize(
    ("error", "type_name", "text"),
    [
        (Unportable, f"{__name__}.Unportable", "holds a lock"),
        (SystemExit, "SystemExit", "SystemExit"),
        (KeyboardInterrupt, "KeyboardInterrupt", "KeyboardInterrupt"),
        (NoLeader, "exraft.errors.NoLeader", "knows no leader"),
    ],
)
def test_what_cannot_be_handed_on_arrives_as_a_machine_error(
    error: type[BaseException], type_name: str, text: str
) -> None:
    def fail(state: Any) -> Any:
        raise error()

    ExRaft.start_server(does(fail=fail), name=":raft1")
    for call, applied in ((ExRaft.write, True), (ExRaft.read, False)):
        with pytest.raises(MachineError, match=text) as raised:
            call(":raft1", "fail")
        assert raised.value.type_name == type_name
        assert raised.value.reason == ("machine_error", type_name)
        assert maybe_applied(raised.value) is applied
    assert ExRaft.status(":raft1").restarts == 0


# Serialisation.


def test_lambdas_cross() -> None:
    class Applying(StateMachine):
        def handle_write(self, command: Any, state: Any) -> WriteResult:
            state = command(state)
            return state, state

        def handle_read(self, query: Any, state: Any) -> Any:
            return query(state)

    ExRaft.start_server(Applying, 1, name=":raft1")
    summand = 41
    assert ExRaft.write(":raft1", lambda state: state + summand) == 42
    assert ExRaft.read(":raft1", lambda state: state * 2) == 84


def test_instances_of_local_classes_cross() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "point", Point(3)))
    point = ExRaft.read(raft1, "point")
    assert type(point) is Point
    assert point.x == 3


def test_a_command_that_the_leader_cannot_decode_is_never_logged() -> None:
    raft1 = start(":raft1")
    before = ExRaft.status(raft1).last_index
    with pytest.raises(NotSerialisable, match="can't be decoded: ZeroDivisionError") as raised:
        ExRaft.write(raft1, ("put", "k", Undecodable()))
    assert not maybe_applied(raised.value)
    assert ExRaft.status(raft1).last_index == before


class Undecodable:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def test_the_serialised_form_is_pickle_five() -> None:
    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "k", 1))
    size = len(pickle.dumps(("put", "k", 1), 5))
    before = ExRaft.status(raft1).log_bytes
    ExRaft.write(raft1, ("put", "k", 1))
    assert ExRaft.status(raft1).log_bytes - before == size


def test_a_script_writes_and_reads_instances_of_its_own_classes(tmp_path: Path) -> None:
    result = run_script(SCRIPT, tmp_path)
    assert result.stderr == ""
    assert result.stdout.split() == ["late", "Point", "True", "3"]
    assert result.returncode == 0


SCRIPT = """
import sys
from exraft import ExRaft, StateMachine

class Point:
    def __init__(self, x):
        self.x = x

class Store(StateMachine):
    def handle_write(self, command, state):
        return "ok", command
    def handle_read(self, query, state):
        return state

ExRaft.start_server(Store, name=":raft1")
ExRaft.write(":raft1", ("plain", "data"))
print("early" if "cloudpickle" in sys.modules else "late")
ExRaft.write(":raft1", Point(3))
point = ExRaft.read(":raft1", None)
print(type(point).__name__, isinstance(point, Point), point.x)
ExRaft.stop_server(":raft1")
"""
