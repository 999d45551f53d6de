"""How a machine's callbacks are called, and what becomes of what they return or raise."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from exraft import NOREPLY, RELEASE_CURSOR, ExRaftError, StateMachine, maybe_applied
from exraft.actors.calls import Read, Reply, Write, WriteReply
from exraft.errors import MachineError, NoLeader, NotSerialisable, StoreFailed
from exraft.names import Peer, Role
from exraft.raft import Config
from exraft.replica import ApplyFailed, Replica

ME = Peer(":me")
CONFIG = Config((ME,))


class Doing(StateMachine):
    """Its write and read commands are functions of the state; the rest does nothing."""

    def handle_write(self, command: Callable[[Any], Any], state: Any) -> Any:
        return command(state)

    def handle_read(self, query: Callable[[Any], Any], state: Any) -> Any:
        return query(state)


def replica(machine: StateMachine | None = None, state: Any = None, debug: bool = False) -> Replica:
    start: Any = [] if state is None else state
    return Replica(machine or Doing(), start, ME, debug=debug)


def write(on: Replica, command: Callable[[Any], Any], index: int = 1) -> Reply:
    call = Write(WriteReply(), b"")
    on.write(index, command, call)
    return call.reply


def read(on: Replica, query: Callable[[Any], Any]) -> Reply:
    call = Read(Reply(), query, dirty=True)
    on.read(query, call)
    return call.reply


def failure(reply: Reply) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: B017
        reply.get(timeout=0)
    return caught.value


def raising(error: BaseException) -> Callable[[Any], Any]:
    def callback(state: Any) -> Any:
        raise error

    return callback


# Writes.


def test_a_write_replies_and_changes_the_state() -> None:
    on = replica(state=1)
    assert write(on, lambda state: ("was", state + 1)).get(timeout=0) == "was"
    assert on.state == 2


def test_the_side_effects_of_a_write_are_handed_back() -> None:
    def effect() -> None: ...

    on = replica()
    assert on.write(1, lambda state: ("ok", state, [effect]), None) == [effect]
    assert on.write(1, lambda state: ("ok", state), None) == ()


def test_a_reply_is_a_copy() -> None:
    on = replica(state=["kept"])
    reply = write(on, lambda state: (state, state))
    reply.get(timeout=0).append("not in the state")
    assert on.state == ["kept"]


@pytest.mark.parametrize(
    "result",
    [None, "ok", ("ok",), ("ok", 2, 3), ("ok", 2, ["not callable"]), ("ok", 2, [], 4), ["ok", 2]],
    ids=repr,
)
def test_a_malformed_return_is_an_error_at_the_caller_and_leaves_the_state(result: Any) -> None:
    on = replica(state=1)
    error = failure(write(on, lambda state: result, index=7))
    assert isinstance(error, MachineError)
    assert "index 7" in error.text
    assert maybe_applied(error)
    assert on.state == 1


@pytest.mark.parametrize("error", [LookupError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_what_a_write_raises_is_the_answer_and_leaves_the_state(error: BaseException) -> None:
    on = replica(state=1)
    told = failure(write(on, raising(error), index=7))
    assert isinstance(told, type(error) if isinstance(error, Exception) else MachineError)
    assert told is not error
    assert told.__notes__ == ["raised by handle_write of :me at index 7"]
    assert maybe_applied(told)
    assert on.state == 1


def test_an_error_of_ours_that_a_machine_raises_is_not_taken_for_ours() -> None:
    told = failure(write(replica(), raising(NoLeader())))
    assert isinstance(told, MachineError)
    assert maybe_applied(told)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()], ids=repr)
def test_what_may_differ_between_replicas_ends_this_one(error: BaseException) -> None:
    on = replica()
    with pytest.raises(ApplyFailed, match="at index 7") as caught:
        on.write(7, raising(error), None)
    assert caught.value.__cause__ is error


def test_a_reply_that_cannot_be_serialised_is_an_error_at_the_caller() -> None:
    on = replica(state=1)
    told = failure(write(on, lambda state: (threading.Lock(), 2)))
    assert isinstance(told, NotSerialisable)
    assert maybe_applied(told)
    assert on.state == 2


def test_a_write_that_nobody_waits_for_needs_no_reply() -> None:
    on = replica(state=1)
    on.write(1, raising(LookupError()), None)
    on.write(2, lambda state: None, None)
    on.write(3, lambda state: (threading.Lock(), 5), None)
    assert on.state == 5


# Commands that are not let in.


class Picky(Doing):
    def is_command(self, command: Any, state: Any) -> Any:
        return command()


def test_only_machines_that_filter_are_asked() -> None:
    assert not replica().filters
    assert replica(Picky()).filters


def test_what_is_command_says_counts_and_raising_says_no() -> None:
    on = replica(Picky())
    assert on.check(lambda: True) is None
    assert "refused the command" in str(on.check(lambda: False))
    assert "refused the command" in str(on.check(lambda: None))

    def fails() -> Any:
        raise SystemExit

    assert "raised SystemExit" in str(on.check(fails))


# Reads.


def test_a_read_is_answered_with_a_copy() -> None:
    on = replica(state=["kept"])
    read(on, lambda state: state).get(timeout=0).append("not in the state")
    assert on.state == ["kept"]


def test_noreply_leaves_the_caller_to_time_out() -> None:
    assert not read(replica(), lambda state: NOREPLY).done()


@pytest.mark.parametrize(
    "error", [LookupError("x"), SystemExit(1), MemoryError(), NoLeader()], ids=repr
)
def test_what_a_read_raises_is_the_answer(error: BaseException) -> None:
    told = failure(read(replica(), raising(error)))
    plain = isinstance(error, Exception) and not isinstance(error, ExRaftError)
    assert isinstance(told, type(error) if plain else MachineError)
    assert told.__notes__ == ["raised by handle_read of :me"]
    assert not maybe_applied(told)


# Configurations.


class Hearing(Doing):
    def __init__(self, answer: Callable[[Any, Any], Any]) -> None:
        self._answer = answer

    def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
        assert kind == "config"
        return self._answer(content, state)


def test_a_configuration_may_change_the_state() -> None:
    on = replica(Hearing(lambda config, state: [*state, config]))
    assert on.configure(CONFIG) == ()
    assert on.state == [CONFIG]


def test_a_configuration_may_have_side_effects() -> None:
    def effect() -> None: ...

    on = replica(Hearing(lambda config, state: ("new", [effect])))
    assert on.configure(CONFIG) == [effect]
    assert on.state == "new"


def test_a_state_that_looks_like_a_state_and_its_effects_stays_what_it_is() -> None:
    on = replica(Hearing(lambda config, state: state), state=("queue", []))
    assert on.configure(CONFIG) == ()
    assert on.state == ("queue", [])


def test_what_a_configuration_raises_is_logged_and_leaves_the_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(config: Any, state: Any) -> Any:
        raise LookupError("x")

    on = replica(Hearing(fails), state=1)
    assert on.configure(CONFIG) == ()
    assert on.state == 1
    assert [each.levelno for each in caplog.records] == [logging.ERROR]


def test_a_configuration_that_cannot_be_taken_in_for_memory_ends_the_replica() -> None:
    def fails(config: Any, state: Any) -> Any:
        raise MemoryError

    with pytest.raises(ApplyFailed):
        replica(Hearing(fails)).configure(CONFIG)


# Changes that must not be.


def _changes_and_fails(state: Any) -> Any:
    state.append("changed")
    raise LookupError("too late")


def test_debug_tells_of_a_write_that_changed_the_state_and_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(replica(debug=True), _changes_and_fails)
    assert ["check first, then change" in each.getMessage() for each in caplog.records] == [True]


def test_debug_tells_of_a_read_that_changed_the_state(caplog: pytest.LogCaptureFixture) -> None:
    read(replica(debug=True), lambda state: state.append("changed"))
    assert ["a read must not change" in each.getMessage() for each in caplog.records] == [True]


def test_without_debug_nothing_is_compared(caplog: pytest.LogCaptureFixture) -> None:
    write(replica(), _changes_and_fails)
    assert caplog.records == []


# The rest of a life.


class Ending(Doing):
    def transition(self, to_state: Role, state: Any) -> None:
        raise SystemExit(to_state)

    def terminate(self, reason: Any, state: Any) -> None:
        state.append(reason)
        raise SystemExit


def test_what_a_transition_raises_ends_the_server() -> None:
    with pytest.raises(SystemExit):
        replica(Ending()).transition(Role.LEADER)


def test_terminate_is_told_the_reason_and_what_it_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    on = replica(Ending())
    on.terminate("shutdown")
    assert on.state == ["shutdown"]
    assert ["terminate of :me" in each.getMessage() for each in caplog.records] == [True]


def test_what_says_that_a_snapshot_is_worthwhile_is_no_side_effect() -> None:
    on = replica()
    assert not on.released
    assert on.write(1, lambda state: ("ok", state, [print, RELEASE_CURSOR]), None) == [print]
    assert on.released


def test_it_may_come_from_a_configuration_too() -> None:
    class Hearing(Doing):
        def handle_system_write(self, kind: str, content: Any, state: Any) -> Any:
            return state, (RELEASE_CURSOR,)

    on = replica(Hearing())
    assert list(on.configure(CONFIG)) == []


def test_a_state_is_captured_and_restored() -> None:
    on = replica(state=[1])
    file = io.BytesIO()
    on.capture()(file)
    file.seek(0)
    assert on.restored(io.BufferedReader(io.BytesIO(file.getvalue()))) == [1]
    assert on.state == [1]


def test_a_capture_that_is_no_function_is_the_machines_fault() -> None:
    class Wrong(Doing):
        def snapshot(self, state: Any) -> Any:
            return state

    with pytest.raises(MachineError, match="where a function is wanted"):
        replica(Wrong()).capture()


def test_a_restore_that_raises_says_whose_it_was() -> None:
    with pytest.raises(ApplyFailed, match="restore of :me"):
        replica().restored(io.BytesIO(b"no pickle"))


def test_a_snapshot_that_cannot_be_read_is_not_the_machines_fault() -> None:
    class Reading(Doing):
        def restore(self, file: Any) -> Any:
            raise StoreFailed("data", "the disk has failed")

    with pytest.raises(StoreFailed):
        replica(Reading()).restored(io.BytesIO())
