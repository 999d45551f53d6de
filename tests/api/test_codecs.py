"""A cluster by a plain codec: what it carries, what it refuses, and how one moves there."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exraft import ExRaft, Peer, StateMachine, codec, maybe_applied
from exraft.actors.calls import Write, WriteReply
from exraft.calling import deliver
from exraft.errors import MachineError, NotSerialisable, SnapshotFailed, StartFailed
from exraft.raft.log import COMMAND
from exraft.storage.directory import directory_of
from exraft.storage.image import Image, read_image
from tests.helpers import LIMIT, PATIENT, RAFT, leader_and_followers, wait_until

NAME = ":raft1"


class Overdraft(Exception):
    pass


class Shelf(StateMachine):
    """Puts, and shows what it was given."""

    def init(self, init_arg: Any) -> Any:
        return init_arg if isinstance(init_arg, dict) else {}

    def handle_write(self, command: Any, state: dict[str, Any]) -> Any:
        verb, key, value = command
        if verb == "fail":
            raise Overdraft(f"{key} lacks {value}")
        if verb == "keep a set":
            state[key] = set(value)
        elif verb == "put":
            state[key] = value
        return ("was", type(command).__name__, state.get(key)), state

    def handle_read(self, query: Any, state: dict[str, Any]) -> Any:
        return state if query == "all" else state.get(query)


def start(machine: type[StateMachine], init_arg: Any = (), **options: Any) -> None:
    ExRaft.start_server(machine, init_arg, name=NAME, **(PATIENT | options))


def start_cluster() -> list[Peer]:
    for name in RAFT:
        ExRaft.start_server(Shelf, {}, name=name, initial_config=RAFT, **PATIENT)
    ExRaft.await_leader(RAFT[0], LIMIT)
    wait_until(lambda: all(ExRaft.leader(name) for name in RAFT), "all know the leader")
    return leader_and_followers(RAFT)


@pytest.fixture(autouse=True)
def _pickle_again() -> Iterator[None]:
    yield
    codec.use("pickle")


@pytest.fixture(params=["msgpack", "json"])
def plain(request: pytest.FixtureRequest) -> str:
    codec.use(request.param)
    return str(request.param)


def stored(tmp_path: Path) -> Image:
    return read_image(directory_of(str(tmp_path), Peer(NAME)))


def commands(tmp_path: Path) -> list[bytes]:
    return [entry.data for entry in stored(tmp_path).entries if entry.kind == COMMAND]


def test_plain_commands_queries_and_replies_go_through(plain: str) -> None:
    names = start_cluster()
    client = ExRaft.client(names)
    assert client.write(("put", "k", [1, {"a": 1.5}])) == ("was", "tuple", [1, {"a": 1.5}])
    assert client.write(["put", "l", ("a", 1)]) == ("was", "list", ["a", 1])
    assert client.read("all") == {"k": [1, {"a": 1.5}], "l": ["a", 1]}


def test_what_is_not_plain_is_refused_and_nothing_is_written(plain: str) -> None:
    start(Shelf)
    with pytest.raises(NotSerialisable, match="a value of type set") as refused:
        ExRaft.write(NAME, ("put", "k", {1}))
    assert maybe_applied(refused.value) is False
    with pytest.raises(NotSerialisable, match="a value of type complex") as refused:
        ExRaft.read(NAME, 1j)
    assert maybe_applied(refused.value) is False
    assert ExRaft.read(NAME, "all") == {}


def test_a_reply_that_is_not_plain_is_refused_at_home_as_it_would_be_elsewhere(plain: str) -> None:
    start(Shelf)
    with pytest.raises(NotSerialisable, match=f"the reply of {NAME}'s machine") as refused:
        ExRaft.write(NAME, ("keep a set", "k", [1]))
    assert maybe_applied(refused.value) is True
    with pytest.raises(NotSerialisable):
        ExRaft.read(NAME, "k")


def test_what_a_machine_raises_is_a_machine_error_at_home_as_it_would_be_elsewhere(
    plain: str,
) -> None:
    start(Shelf)
    with pytest.raises(MachineError, match="Overdraft: anna lacks 5") as raised:
        ExRaft.write(NAME, ("fail", "anna", 5))
    assert maybe_applied(raised.value) is True


def test_a_pickled_command_never_gets_into_the_log(plain: str) -> None:
    """As another node may send one."""
    start(Shelf)
    write = Write(WriteReply(), pickle.dumps(("put", "k", 1)))
    deliver(Peer(NAME), write)
    with pytest.raises(NotSerialisable, match="takes no pickles") as refused:
        write.wait(LIMIT)
    assert maybe_applied(refused.value) is False
    assert ExRaft.read(NAME, "all") == {}


def test_an_init_arg_and_what_the_machine_keeps_need_not_be_plain(plain: str) -> None:
    start(Shelf, {"k": frozenset({1})})
    assert ExRaft.write(NAME, ("put", "l", 1)) == ("was", "tuple", 1)


def test_a_restarted_server_has_what_was_written_plainly(plain: str, tmp_path: Path) -> None:
    start(Shelf, data_dir=tmp_path)
    ExRaft.write(NAME, ("put", "a", [1]))
    ExRaft.snapshot(NAME)
    ExRaft.write(NAME, ("put", "b", [2]))
    ExRaft.stop_server(NAME)
    assert {data[:1] for data in commands(tmp_path)} == {b"\xc1"}
    start(Shelf, data_dir=tmp_path)
    assert ExRaft.read(NAME, "all") == {"a": [1], "b": [2]}


def test_a_server_that_takes_no_pickles_halts_at_one_in_its_log(tmp_path: Path) -> None:
    start(Shelf, data_dir=tmp_path)
    ExRaft.write(NAME, ("put", "k", 1))
    ExRaft.stop_server(NAME)
    codec.use("msgpack")
    start(Shelf, data_dir=tmp_path)
    wait_until(lambda: ExRaft.status(NAME).fault, "it has halted")
    fault = ExRaft.status(NAME).fault
    assert fault is not None
    assert "this process takes no pickles (codec 'msgpack')" in fault
    # Nothing is lost by that.
    ExRaft.stop_server(NAME)
    codec.use("pickle")
    start(Shelf, data_dir=tmp_path)
    assert ExRaft.read(NAME, "k") == 1


def test_a_server_that_takes_no_pickles_does_not_start_with_a_pickled_snapshot(
    tmp_path: Path,
) -> None:
    start(Shelf, data_dir=tmp_path)
    ExRaft.write(NAME, ("put", "k", 1))
    ExRaft.snapshot(NAME)
    ExRaft.stop_server(NAME)
    codec.use("msgpack")
    with pytest.raises(StartFailed, match="this process takes no pickles"):
        start(Shelf, data_dir=tmp_path)
    codec.use("pickle")
    start(Shelf, data_dir=tmp_path)
    assert ExRaft.read(NAME, "k") == 1


def test_a_cluster_moves_from_pickles_to_plain_data(plain: str, tmp_path: Path) -> None:
    codec.use("pickle")
    start(Shelf, data_dir=tmp_path)
    ExRaft.write(NAME, ("put", "a", [1]))
    ExRaft.snapshot(NAME)
    ExRaft.write(NAME, ("put", "b", [2]))
    ExRaft.stop_server(NAME)
    # Plain data is written from here on, and pickles are still read.
    codec.use(plain, reads_pickles=True)
    start(Shelf, data_dir=tmp_path, keep_entries=0)
    moved = ExRaft.status(NAME).last_index
    ExRaft.write(NAME, ("put", "c", [3]))
    ExRaft.snapshot(NAME)
    wait_until(lambda: ExRaft.status(NAME).first_index > moved, "the log is cut")
    ExRaft.write(NAME, ("put", "d", [4]))
    ExRaft.stop_server(NAME)
    assert [data[:1] for data in commands(tmp_path)] == [b"\xc1"]
    # And now no more.
    codec.use(plain)
    start(Shelf, data_dir=tmp_path)
    assert ExRaft.read(NAME, "all") == {"a": [1], "b": [2], "c": [3], "d": [4]}


def test_a_state_that_pickles_have_filled_must_be_plain_to_move(plain: str, tmp_path: Path) -> None:
    codec.use("pickle")
    start(Shelf, data_dir=tmp_path)
    ExRaft.write(NAME, ("put", "k", ("a", 1)))
    codec.use(plain, reads_pickles=True)
    with pytest.raises(SnapshotFailed, match="a tuple in a state"):
        ExRaft.snapshot(NAME)


def test_all_replicas_apply_the_same_command(plain: str) -> None:
    """The leader decodes what it logs, as the others do."""
    names = start_cluster()
    ExRaft.client(names).write(("put", "k", ("a", ("b",))))
    for name in names:
        wait_until(partial(ExRaft.read_dirty, name, "k"), f"{name} has applied it")
        assert ExRaft.read_dirty(name, "k") == ["a", ["b"]]
