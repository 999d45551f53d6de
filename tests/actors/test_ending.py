"""How a process is given up: who is told, and what its thread may do from then on."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from queue import SimpleQueue
from typing import Any

import pykka
import pytest

from exraft.actors import Down, Exit, Process, kill, monitor, send_exit
from exraft.actors.fence import _may_be_interrupted, threads
from exraft.errors import StartFailed
from tests.helpers import LIMIT, Gate, in_thread, wait_until


class Worker(Process):
    """Runs the functions that it is sent."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


class Heir(Process):
    """Keeps what it hears of another's end."""

    def __init__(self, other: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self._other = other
        self.heard: SimpleQueue[Any] = SimpleQueue()

    def on_start(self) -> None:
        self.monitor(self._other)

    def on_receive(self, message: Any) -> Any:
        self.heard.put(message)


def heir_of(ref: pykka.ActorRef[Any]) -> SimpleQueue[Any]:
    life = Heir.start(ref)._actor_weakref()
    assert life is not None
    return life.heard


@pytest.fixture(autouse=True)
def _stops_all() -> Any:
    yield
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    wait_until(lambda: not threads, "no thread is fenced any more")


def test_one_that_kills_itself_is_heard() -> None:
    """Its monitors deliver into mailboxes, which take nothing from a fenced thread."""
    ref = Worker.start()
    heard = heir_of(ref)
    ref.tell(lambda self: kill(self.actor_ref))
    assert heard.get(timeout=LIMIT) == Down(ref, "killed")


def test_one_that_kills_itself_does_nothing_more() -> None:
    done: list[str] = []

    class Doomed(Worker):
        def on_stop(self) -> None:
            done.append("on_stop")

        def on_failure(self, *error: Any) -> None:
            done.append("on_failure")

    ref = Doomed.start()
    ended = threading.Event()
    monitor(ref, lambda down: ended.set())
    thread: Any = ref.ask(lambda self: threading.current_thread())

    def end(self: Process) -> None:
        kill(self.actor_ref)
        done.append("after")

    ref.tell(end)
    assert ended.wait(LIMIT)
    thread.join(LIMIT)
    assert done == []


def test_the_exit_reason_kill_is_a_kill() -> None:
    """OTP exit/2: it can't be trapped."""
    ref = Worker.start()
    ref.ask(lambda self: setattr(self, "trap_exit", True))
    heard = heir_of(ref)
    send_exit(ref, "kill")
    assert heard.get(timeout=LIMIT) == Down(ref, "killed")


def test_of_many_who_kill_one_only_one_is_heard() -> None:
    for _ in range(50):
        ref = Worker.start()
        news: list[Down] = []
        monitor(ref, news.append)
        with in_thread(lambda ref=ref: kill(ref)), in_thread(lambda ref=ref: ref.stop()):  # type: ignore[misc]
            kill(ref)
        wait_until(lambda news=news: news, "the news came")  # type: ignore[misc]
        assert len(news) == 1


def test_a_killed_thread_that_waits_for_messages_ends() -> None:
    ref = Worker.start()
    thread: Any = ref.ask(lambda self: threading.current_thread())
    kill(ref)
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_start_that_is_killed_fails() -> None:
    gate = Gate()
    refs: list[Any] = []

    class Slow(Process):
        def on_start(self) -> None:
            refs.append(self.actor_ref)
            gate.pass_through()

    def start() -> None:
        with pytest.raises(StartFailed, match="killed"):
            Slow.start()

    with in_thread(start):
        gate.await_someone()
        kill(refs[0])
    gate.open()


def test_a_killed_starter_takes_what_it_starts_with_it() -> None:
    """Whoever kills it can't know of a process that nobody else knows yet: it may start no more."""
    gate = Gate()
    outcome: SimpleQueue[Any] = SimpleQueue()
    starter = Worker.start()

    def start_another(self: Process) -> None:
        gate.pass_through()
        try:
            outcome.put(Worker.start())
        except Exit as exit_:
            outcome.put(exit_.reason)

    starter.tell(start_another)
    gate.await_someone()
    kill(starter)
    gate.open()
    assert outcome.get(timeout=LIMIT) == "killed"


class State:
    """What a process has in hand, watched until nobody holds it."""


def test_the_reference_of_a_crashed_process_does_not_hold_its_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # What is logged is kept by pytest.
    caplog.set_level(sys.maxsize, "exraft")
    held: list[weakref.ref[State]] = []

    def crash(self: Process) -> None:
        state = State()
        held.append(weakref.ref(state))
        raise RuntimeError("with this state in hand", len(vars(state)))

    ref = Worker.start()
    reasons: list[Any] = []
    monitor(ref, lambda down: reasons.append(down.reason))
    ref.tell(crash)
    wait_until(lambda: reasons, "it has crashed")

    def gone() -> bool:
        gc.collect()
        return held[0]() is None and ref._actor_weakref() is None

    wait_until(gone, "nobody holds its state")
    # What happened, and where, can be read all the same.
    assert reasons[0].__traceback__ is not None


@pytest.mark.parametrize(
    ("file", "may_be"),
    [
        (threading.__file__, False),
        (pykka.__file__, False),
        (Process.__module__, True),
        (kill.__code__.co_filename, False),
        (__file__, True),
        ("<stdin>", True),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_only_code_of_its_authors_is_interrupted(file: str, may_be: bool) -> None:
    """In the libraries' a lock could be left closed for ever: the log's, say, or a mailbox's."""
    assert _may_be_interrupted(file) is may_be
