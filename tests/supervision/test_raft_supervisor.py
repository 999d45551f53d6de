"""The supervisor of one raft server: which deaths it mends, when it gives up, and how it ends."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, ExRaftError, Peer, StateMachine, maybe_applied
from exraft.actors.calls import AwaitLeader, Crash, Reply, Write, WriteReply
from exraft.actors.ending import send_exit
from exraft.actors.server import RaftServer
from exraft.actors.spec import Estate, ServerSpec
from exraft.actors.transport import local
from exraft.actors.watching import Down, monitor
from exraft.codec import encode
from exraft.errors import AlreadyStarted, CallTimeout, ServerDown, ServerNotFound, StartFailed
from exraft.options import make_spec
from exraft.storage import MemoryStore
from exraft.storage.memory import Fenced
from exraft.supervision import raft
from exraft.supervision.supervising import Stop, Supervising
from tests.helpers import LIMIT, Gate, does, end_of, send, supervisor_of, unchanged, wait_until

NAME = ":watched"
ENDLESS: dict[str, Any] = {"max_restarts": 1_000_000, "max_seconds": 1.0}


class Injected(Exception):
    """What a server is made to die of."""


class Tally(StateMachine):
    """Adds up what is written; a hook of the test's runs at each callback."""

    def __init__(self, hook: Callable[[str], object] = lambda callback: None) -> None:
        self._hook = hook

    def init(self, init_arg: Any) -> int:
        self._hook("init")
        return 0

    def handle_write(self, command: int, state: int) -> tuple[int, int]:
        self._hook("handle_write")
        return state + command, state + command

    def handle_read(self, query: Any, state: int) -> int:
        return state

    def transition(self, to_state: Any, state: int) -> None:
        self._hook("transition")

    def terminate(self, reason: Any, state: int) -> None:
        self._hook("terminate")


class Hook:
    """Does what the test says at the next callbacks of a name; counts them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, list[Callable[[], object]]] = {}
        self.count: dict[str, int] = {}

    def __call__(self, callback: str) -> None:
        with self._lock:
            self.count[callback] = self.count.get(callback, 0) + 1
            waiting = self._next.get(callback)
            todo = waiting.pop(0) if waiting else None
        if todo is not None:
            todo()

    def at(self, callback: str, *todo: Callable[[], object]) -> None:
        with self._lock:
            self._next.setdefault(callback, []).extend(todo)


def raising(error: BaseException) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


def start(hook: Hook | None = None, **options: Any) -> pykka.ActorRef[Any]:
    machine = Tally if hook is None else partial(Tally, hook)
    return ExRaft.start_server(machine, name=NAME, **options)


def server_of(name: str = NAME) -> pykka.ActorRef[Any]:
    """The present life; waits for one."""

    def alive() -> bool:
        return ActorRegistry.get_by_name(name) is not None

    wait_until(alive, f"{name} lives")
    ref = ActorRegistry.get_by_name(name)
    assert ref is not None
    return ref


def write(amount: int) -> int:
    return ExRaft.write(NAME, amount, timeout=LIMIT)  # type: ignore[no-any-return]


# Every kind of death.


def _crash(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    ActorRegistry.deliver(NAME, Crash(Injected("in the loop")))


def _exit_from_outside(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    send_exit(ref, "killed")


def _orderly_exit_from_outside(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    send_exit(ref, "normal")


def _stop_of_pykka(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    ref.stop(timeout=LIMIT)


def _system_exit(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    ActorRegistry.deliver(NAME, Crash(SystemExit(1)))


def _keyboard_interrupt(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    ActorRegistry.deliver(NAME, Crash(KeyboardInterrupt()))


def _system_exit_from_transition(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    hook.at("transition", raising(SystemExit(1)))
    ExRaft.trigger_election(NAME, timeout=LIMIT)


def _out_of_memory_in_handle_write(ref: pykka.ActorRef[Any], hook: Hook) -> None:
    hook.at("handle_write", raising(MemoryError()))
    with pytest.raises(ServerDown):
        ExRaft.write(NAME, 0, timeout=LIMIT)


@pytest.mark.parametrize(
    "kill",
    [
        _crash,
        _exit_from_outside,
        _orderly_exit_from_outside,
        _stop_of_pykka,
        _system_exit,
        _keyboard_interrupt,
        _system_exit_from_transition,
        _out_of_memory_in_handle_write,
    ],
    ids=lambda kill: kill.__name__.strip("_").replace("_", " "),
)
def test_the_server_is_started_again_with_its_log(
    kill: Callable[[pykka.ActorRef[Any], Hook], None],
) -> None:
    """OTP statements 9 and 12: a permanent child; the ref is new, the name the same."""
    hook = Hook()
    supervisor = start(hook)
    write(1)
    before = server_of()
    ended = end_of(before)
    kill(before, hook)
    assert ended.wait(LIMIT)
    assert write(2) == 3
    assert server_of() != before
    assert ExRaft.status(NAME, timeout=LIMIT).restarts == 1
    assert supervisor.is_alive()


def test_a_successor_never_overlaps_the_terminate_of_who_died() -> None:
    """OTP statement 55."""
    hook, gate = Hook(), Gate()
    start(hook)
    hook.at("terminate", gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    assert hook.count["init"] == 1
    gate.open()
    write(1)
    assert hook.count["init"] == 2


def test_the_report_of_a_death_tells_the_reason_however_short_the_life(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OTP statement 53. A life may end before the one that started it looks at it again."""
    hook, gate = Hook(), Gate()
    start(hook, **ENDLESS)
    hook.at("init", gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected("first")))
    gate.await_someone()
    # Waits for the next life, which it ends at once.
    ActorRegistry.deliver(NAME, Crash(Injected("second")))
    gate.open()
    wait_until(lambda: ExRaft.status(NAME, LIMIT).restarts == 2, "two restarts")
    first, second = (each for each in caplog.records if each.name == "exraft.supervision")
    assert "first" in first.getMessage()
    assert "second" in second.getMessage()


# Giving up.


def test_exactly_max_restarts_are_survived() -> None:
    """OTP statement 20."""
    supervisor = start(max_restarts=3, max_seconds=300.0)
    for count in range(3):
        ActorRegistry.deliver(NAME, Crash(Injected(str(count))))
        write(1)
    assert supervisor.is_alive()
    assert write(0) == 3


def test_one_death_more_and_the_supervisor_gives_up_in_order() -> None:
    """OTP statements 20 and 22; its name and the server's are free then."""
    supervisor = start(max_restarts=1, max_seconds=300.0)
    downs: list[Down] = []
    monitor(supervisor, downs.append)
    ended = end_of(supervisor)
    ActorRegistry.deliver(NAME, Crash(Injected("first")))
    write(1)
    ActorRegistry.deliver(NAME, Crash(Injected("second")))
    assert ended.wait(LIMIT)
    assert [down.reason for down in downs] == ["shutdown"]
    assert ActorRegistry.names() == []
    start()
    assert write(5) == 5


def test_with_no_restarts_the_first_death_ends_it() -> None:
    """OTP statement 21."""
    ended = end_of(start(max_restarts=0))
    ActorRegistry.deliver(NAME, Crash(Injected()))
    assert ended.wait(LIMIT)
    with pytest.raises(ServerNotFound):
        ExRaft.ping(NAME)


def test_giving_up_says_so_with_the_last_reason(caplog: pytest.LogCaptureFixture) -> None:
    """OTP statement 53."""
    ended = end_of(start(max_restarts=0))
    ActorRegistry.deliver(NAME, Crash(Injected("the last straw")))
    assert ended.wait(LIMIT)
    said = [each.getMessage() for each in caplog.records if "gives up" in each.getMessage()]
    assert len(said) == 1
    assert "the last straw" in said[0]


def test_calls_that_wait_for_a_next_life_that_never_comes_fail_for_certain() -> None:
    hook, gate = Hook(), Gate()
    start(hook, max_restarts=0)
    hook.at("terminate", gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    waiting = send(NAME, Write(WriteReply(), encode(1)))
    gate.open()
    with pytest.raises(ExRaftError) as caught:
        waiting.get(timeout=LIMIT)
    assert not isinstance(caught.value, CallTimeout)
    assert not maybe_applied(caught.value)


# A restart that fails.


def test_a_failing_init_at_a_restart_is_tried_again() -> None:
    """OTP statement 18."""
    hook = Hook()
    start(hook)
    write(1)
    hook.at("init", raising(Injected("once")), raising(Injected("twice")))
    ActorRegistry.deliver(NAME, Crash(Injected()))
    assert write(2) == 3
    assert hook.count["init"] == 4


def test_failed_attempts_to_restart_count() -> None:
    """OTP statement 23."""
    hook = Hook()
    ended = end_of(start(hook, max_restarts=3, max_seconds=300.0))
    hook.at("init", *[raising(Injected()) for _ in range(100)])
    ActorRegistry.deliver(NAME, Crash(Injected()))
    assert ended.wait(LIMIT)
    # The first start, and one more for each restart that was allowed.
    assert hook.count["init"] == 1 + 3
    assert ActorRegistry.names() == []


def test_between_failing_attempts_the_supervisor_can_be_stopped() -> None:
    """OTP statement 24."""
    hook, gate = Hook(), Gate()
    start(hook, **ENDLESS)
    hook.at("init", gate.pass_through)

    def fail_again() -> None:
        hook.at("init", fail_again)
        raise Injected("again and again")

    hook.at("init", fail_again)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.open()
    wait_until(lambda: hook.count["init"] > 10, "attempts fail")
    ExRaft.stop_server(NAME, timeout=LIMIT)
    assert ActorRegistry.names() == []


def test_a_call_waits_through_failing_attempts() -> None:
    hook, gate = Hook(), Gate()
    start(hook)
    hook.at("init", raising(Injected()), gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    waiting = send(NAME, Write(WriteReply(), encode(7)))
    gate.open()
    assert waiting.get(timeout=LIMIT) == 7


# The name.


def test_the_name_stays_taken_between_two_lives() -> None:
    hook, gate = Hook(), Gate()
    start(hook)
    hook.at("init", gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    with pytest.raises(AlreadyStarted):
        start()
    gate.open()
    assert write(1) == 1


def test_a_first_start_that_fails_leaves_nothing() -> None:
    """OTP statement 2; and nothing is restarted that never ran."""
    hook = Hook()
    hook.at("init", raising(Injected("no")))
    with pytest.raises(StartFailed) as caught:
        start(hook)
    assert isinstance(caught.value.cause, Injected)
    assert hook.count["init"] == 1
    assert ActorRegistry.names() == []


# The store.


def test_an_old_life_that_wakes_up_can_change_nothing() -> None:
    owner = MemoryStore()
    supervisor = raft.start(Estate(make_spec(Tally, None, NAME, {}, local), owner, local))
    write(1)
    old = owner.peek()
    assert old is not None
    ActorRegistry.deliver(NAME, Crash(Injected()))
    write(2)
    with pytest.raises(Fenced):
        old.set_ballot(99, None, leads=True)
    with pytest.raises(Fenced):
        old.append([])
    with pytest.raises(Fenced):
        old.truncate(1)
    with pytest.raises(Fenced):
        old.set_commit(99)
    with pytest.raises(Fenced):
        old.sync()
    held = owner.peek()
    assert held is not None
    assert held.term < 99
    assert write(4) == 7
    assert supervisor.is_alive()


def test_when_the_supervisor_has_ended_nobody_holds_the_store() -> None:
    owner = MemoryStore()
    raft.start(Estate(make_spec(Tally, None, NAME, {}, local), owner, local))
    held = owner.peek()
    assert held is not None
    ExRaft.stop_server(NAME, timeout=LIMIT)
    with pytest.raises(Fenced):
        held.set_commit(0)


# Its end.


def test_a_stop_while_the_server_is_being_restarted() -> None:
    """OTP statements 24 and 57."""
    hook, gate = Hook(), Gate()
    supervisor = start(hook)
    hook.at("init", gate.pass_through)
    ActorRegistry.deliver(NAME, Crash(Injected()))
    gate.await_someone()
    ended = end_of(supervisor)
    supervisor.actor_inbox.put(cast(Any, Stop("normal")))
    gate.open()
    assert ended.wait(LIMIT)
    assert ActorRegistry.names() == []


def test_stop_takes_the_reason_to_terminate_and_to_the_monitors() -> None:
    """OTP statement 33."""
    supervisor = start()
    downs: list[Down] = []
    monitor(supervisor, downs.append)
    ended = end_of(supervisor)
    ExRaft.stop_server(NAME, ("shutdown", "for the night"), timeout=LIMIT)
    assert ended.wait(LIMIT)
    assert [down.reason for down in downs] == [("shutdown", "for the night")]


def test_an_exit_of_somebody_unknown_is_ignored() -> None:
    """OTP statement 13."""
    supervisor = start()
    supervisor.actor_inbox.put(cast(Any, Down(supervisor, "killed")))
    assert write(1) == 1
    assert ExRaft.status(NAME, timeout=LIMIT).restarts == 0


class Traffic:
    """Writers who write until nobody is there any more; each call must end."""

    def __init__(self, writers: int = 4) -> None:
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(writers)]
        self._flowing = threading.Semaphore(0)
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self._flowing.acquire(timeout=LIMIT)

    def _write(self) -> None:
        began = False
        while True:
            try:
                ExRaft.write(NAME, 1, timeout=LIMIT)
            except ServerNotFound:
                return
            except (ServerDown, ExRaftError) as error:
                if isinstance(error, CallTimeout):
                    self._failures.append(error)
                    return
            if not began:
                began = True
                self._flowing.release()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        assert self._failures == []


def _stop_the_supervisor(supervisor: pykka.ActorRef[Any]) -> None:
    supervisor.stop(timeout=LIMIT)


def _stop_everything(supervisor: pykka.ActorRef[Any]) -> None:
    pykka.ActorRegistry.stop_all(timeout=LIMIT)


@pytest.mark.parametrize(
    "end", [_stop_the_supervisor, _stop_everything], ids=["ActorRef.stop()", "stop_all()"]
)
def test_a_stop_in_the_midst_of_traffic_leaves_nothing_alive(
    end: Callable[[pykka.ActorRef[Any]], None],
) -> None:
    """OTP statements 34 and 56."""
    for _ in range(50):
        supervisor = start(**ENDLESS)
        traffic = Traffic()
        end(supervisor)
        traffic.join()
        assert ActorRegistry.names() == []
        assert not any(
            issubclass(ref.actor_class, Supervising | RaftServer)
            for ref in pykka.ActorRegistry.get_all()
        )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ServerSpec, "shutdown", 0.05)
    monkeypatch.setattr(raft, "PATIENCE", 0.05)
    yield


def test_a_stop_with_a_timeout_says_so_when_terminate_hangs() -> None:
    """OTP statement 29, as far as a thread can be ended."""
    hook, gate = Hook(), Gate()
    ended = end_of(start(hook))
    hook.at("terminate", gate.pass_through)
    with pytest.raises(CallTimeout) as caught:
        ExRaft.stop_server(NAME, timeout=0.05)
    assert not maybe_applied(caught.value)
    gate.open()
    assert ended.wait(LIMIT)
    assert ActorRegistry.names() == []


@pytest.mark.parametrize("where", ["terminate", "handle_write"])
def test_a_server_that_hangs_is_left_behind_when_the_supervisor_is_stopped(
    where: str, impatient: None
) -> None:
    """OTP statement 30: its name is free, and its thread, should it wake, can do nothing."""
    hook, gate = Hook(), Gate()
    supervisor = start(hook)
    old = server_of()
    hook.at(where, gate.pass_through)
    first = send(NAME, Write(WriteReply(), encode(1)))
    if where == "handle_write":
        gate.await_someone()
    second = send(NAME, AwaitLeader(Reply()))
    supervisor.stop(timeout=LIMIT)
    assert ActorRegistry.names() == []
    assert not old.is_alive()
    for waiting in (first, second):
        try:
            waiting.get(timeout=LIMIT)
        except ExRaftError as error:
            assert not isinstance(error, CallTimeout)
    start()
    assert write(10) == 10
    gate.open()
    assert write(10) == 20


def test_a_stop_with_a_timeout_leaves_a_server_behind_that_hangs_for_longer(
    impatient: None,
) -> None:
    """OTP statement 29: within its timeout and our patience, whatever the server does."""
    hook, gate = Hook(), Gate()
    supervisor = start(hook)
    ended = end_of(supervisor)
    hook.at("handle_write", gate.pass_through)
    waiting = send(NAME, Write(WriteReply(), encode(1)))
    gate.await_someone()
    with suppress(CallTimeout):
        ExRaft.stop_server(NAME, timeout=0.01)
    assert ended.wait(LIMIT)
    assert ActorRegistry.names() == []
    with pytest.raises(ServerDown):
        waiting.get(timeout=LIMIT)
    gate.open()


def test_the_thread_of_a_server_that_was_left_behind_ends_when_it_wakes(impatient: None) -> None:
    hook, gate = Hook(), Gate()
    supervisor = start(hook)
    threads: list[threading.Thread] = []

    def hang() -> None:
        threads.append(threading.current_thread())
        gate.pass_through()

    hook.at("handle_write", hang)
    send(NAME, Write(WriteReply(), encode(1)))
    gate.await_someone()
    supervisor.stop(timeout=LIMIT)
    gate.open()
    threads[0].join(LIMIT)
    assert not threads[0].is_alive()


# What callers are told.


class State:
    """Something that can be watched until nobody holds it."""


class Holder(StateMachine):
    """Remembers its states weakly, so that a test can see who keeps them."""

    states: list[weakref.ref[State]]

    def init(self, init_arg: Any) -> State:
        state = State()
        self.states.append(weakref.ref(state))
        return state

    def handle_write(self, command: Any, state: State) -> Any:
        raise MemoryError(command)

    def handle_read(self, query: Any, state: State) -> None:
        return None


def test_the_reason_that_callers_get_does_not_keep_the_state_alive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # What is logged is kept by pytest.
    caplog.set_level(sys.maxsize, "exraft")
    Holder.states = []
    ExRaft.start_server(Holder, name=NAME, max_restarts=0)
    ended = end_of(server_of())
    supervisor_ended = end_of(supervisor_of(NAME))
    with pytest.raises(ServerDown) as caught:
        ExRaft.write(NAME, "boom", timeout=LIMIT)
    error = caught.value
    assert "ApplyFailed" in repr(error.why)
    assert isinstance(error.why, Exception)
    assert error.why.__traceback__ is None
    assert error.why.__cause__ is None
    assert ended.wait(LIMIT)
    assert supervisor_ended.wait(LIMIT)
    assert maybe_applied(error)

    def dead() -> bool:
        gc.collect()
        return all(state() is None for state in Holder.states)

    wait_until(dead, "nobody holds the state")


def test_the_reference_of_a_stopped_server_does_not_keep_its_state_alive() -> None:
    Holder.states = []
    ExRaft.start_server(Holder, name=NAME)
    ref = server_of()
    ExRaft.stop_server(NAME, timeout=LIMIT)

    def dead() -> bool:
        gc.collect()
        return all(state() is None for state in Holder.states)

    wait_until(dead, "nobody holds the state")
    assert not ref.is_alive()


def test_who_waits_for_the_entry_that_ends_the_server_is_told_at_once() -> None:
    """The call was on its way from those that wait to its answer."""
    hook = Hook()
    start(hook)
    hook.at("handle_write", raising(RecursionError()))
    with pytest.raises(ServerDown) as caught:
        ExRaft.write(NAME, 1, timeout=None)
    assert maybe_applied(caught.value)


def test_calls_behind_the_one_that_ends_the_server_are_served_by_the_next_life() -> None:
    actions = does(wait=unchanged("done"))
    ExRaft.start_server(actions, name=NAME)
    gate = Gate()

    class HoldUp:
        def refuse(self, reason: object) -> None:
            gate.pass_through()

    ActorRegistry.deliver(NAME, HoldUp())
    gate.await_someone()
    ActorRegistry.deliver(NAME, Crash(Injected()))
    waiting = [send(NAME, Write(WriteReply(), encode("wait"))) for _ in range(10)]
    gate.open()
    assert [each.get(timeout=LIMIT) for each in waiting] == ["done"] * 10
    assert ExRaft.leader(NAME, timeout=LIMIT) == Peer(NAME)
