"""Links and exit signals: who ends with whom, and who is only told."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pykka
import pytest

from exraft.actors import Exit, ExitSignal, Process, kill, links, monitor, send_exit, start
from tests.helpers import LIMIT, wait_until


class Worker(Process):
    """Runs the functions that it is sent, and keeps the exit signals that it traps."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: SimpleQueue[ExitSignal] = SimpleQueue()

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, ExitSignal):
            self.signals.put(message)
            return None
        return message(self)


class Plain(pykka.ThreadingActor):
    """Pykka's own, unchanged."""


@pytest.fixture(autouse=True)
def _leaves_no_link() -> Any:
    yield
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    wait_until(lambda: not links._links, "no link is left")


def worker(*, traps: bool = False) -> pykka.ActorRef[Worker]:
    ref = Worker.start()
    ref.ask(lambda self: setattr(self, "trap_exit", traps))
    return ref


def linked(*, traps: bool = False) -> tuple[pykka.ActorRef[Worker], pykka.ActorRef[Worker]]:
    one, other = worker(), worker(traps=traps)
    one.ask(lambda self: self.link(other))
    return one, other


def end_of(ref: pykka.ActorRef[Any]) -> SimpleQueue[Any]:
    """Where the reason of its end will be."""
    reasons: SimpleQueue[Any] = SimpleQueue()
    monitor(ref, lambda down: reasons.put(down.reason))
    return reasons


def trapped(ref: pykka.ActorRef[Worker]) -> ExitSignal:
    signals: Any = ref.ask(lambda self: self.signals)
    signal: ExitSignal = signals.get(timeout=LIMIT)
    return signal


def leave(reason: object) -> Any:
    def exit_(self: Process) -> None:
        raise Exit(reason)

    return exit_


def lives(ref: pykka.ActorRef[Worker]) -> bool:
    """It has handled what came before this."""
    return bool(ref.ask(lambda self: True))


@pytest.mark.parametrize("reason", ["boom", "shutdown", ("shutdown", "for the night")])
@pytest.mark.parametrize("first", [0, 1])
def test_linked_processes_end_together_with_the_reason_of_the_first(
    reason: object, first: int
) -> None:
    pair = linked()
    ended = end_of(pair[1 - first])
    pair[first].tell(leave(reason))
    assert ended.get(timeout=LIMIT) == reason


def test_an_exception_takes_the_linked_one_along() -> None:
    one, other = linked()
    ended = end_of(other)
    error = RuntimeError("boom")

    def crash(self: Process) -> None:
        raise error

    one.tell(crash)
    assert ended.get(timeout=LIMIT) is error


def test_a_normal_end_takes_nobody_along() -> None:
    one, other = linked()
    ended = end_of(one)
    one.stop(timeout=LIMIT)
    assert ended.get(timeout=LIMIT) == "normal"
    assert lives(other)


@pytest.mark.parametrize("reason", ["normal", "boom"])
def test_who_traps_exits_is_told_instead(reason: str) -> None:
    one, other = linked(traps=True)
    one.tell(leave(reason))
    signal = trapped(other)
    assert (signal.reason, signal.sender, signal.linked) == (reason, one, True)
    assert lives(other)


def test_a_killed_process_takes_the_linked_one_along() -> None:
    one, other = linked()
    ended = end_of(other)
    kill(one)
    assert ended.get(timeout=LIMIT) == "killed"


def test_a_link_to_one_that_has_ended_is_broken_at_once() -> None:
    gone, other = worker(), worker(traps=True)
    gone.stop(timeout=LIMIT)
    wait_until(lambda: not gone.is_alive(), "it has ended")
    other.ask(lambda self: self.link(gone))
    assert trapped(other).reason == "noproc"


def test_one_link_is_made_however_often_it_is_asked_for() -> None:
    one, other = linked(traps=True)
    one.ask(lambda self: self.link(other))
    other.ask(lambda self: self.link(one))
    one.tell(leave("boom"))
    assert trapped(other).reason == "boom"
    assert lives(other)
    assert other.ask(lambda self: self.signals.empty())


@pytest.mark.parametrize("who", [0, 1])
def test_either_may_undo_the_link(who: int) -> None:
    pair = linked()
    pair[who].ask(lambda self: self.unlink(pair[1 - who]))
    ended = end_of(pair[0])
    pair[0].tell(leave("boom"))
    assert ended.get(timeout=LIMIT) == "boom"
    assert lives(pair[1])


def test_to_undo_a_link_that_is_none_changes_nothing() -> None:
    one, other = worker(), worker()
    one.ask(lambda self: self.unlink(other))
    assert lives(other)


def test_nobody_is_linked_to_itself() -> None:
    ref = worker()
    ref.ask(lambda self: self.link(self.actor_ref))
    assert not links._links


def test_a_chain_of_links_ends_as_a_whole() -> None:
    chain = [worker() for _ in range(10)]
    for one, other in zip(chain, chain[1:], strict=False):
        one.ask(lambda self, other=other: self.link(other))
    ended = end_of(chain[-1])
    chain[0].tell(leave("boom"))
    assert ended.get(timeout=LIMIT) == "boom"


def test_a_started_plain_actor_can_be_linked() -> None:
    one, plain = worker(), start(Plain)
    one.ask(lambda self: self.link(plain))
    ended = end_of(plain)
    one.tell(leave("boom"))
    assert ended.get(timeout=LIMIT) == "boom"


def test_a_plain_actor_survives_the_normal_end_of_a_linked_one() -> None:
    one, plain = worker(), start(Plain)
    one.ask(lambda self: self.link(plain))
    ended = end_of(one)
    one.stop(timeout=LIMIT)
    assert ended.get(timeout=LIMIT) == "normal"
    assert plain.ask("still there?") is None


def test_one_that_nobody_watches_can_not_be_linked() -> None:
    plain = Plain.start()
    with pytest.raises(TypeError, match="tells nobody"):
        worker().ask(lambda self: self.link(plain))


def test_an_exit_signal_tells_who_sent_it() -> None:
    other = worker(traps=True)
    sender = worker()
    sender.ask(lambda self: send_exit(other, "please"))
    signal = trapped(other)
    assert (signal.reason, signal.sender, signal.linked) == ("please", sender, False)
    send_exit(other, "from outside")
    assert trapped(other).sender is None


def test_an_exit_signal_ends_who_does_not_trap_it() -> None:
    ref = worker()
    ended = end_of(ref)
    send_exit(ref, "please")
    assert ended.get(timeout=LIMIT) == "please"


def test_a_broken_link_leaves_no_monitor_behind() -> None:
    one = worker(traps=True)
    for _ in range(20):
        other = worker()
        one.ask(lambda self, other=other: self.link(other))
        other.tell(leave("boom"))
        assert trapped(one).reason == "boom"
    wait_until(lambda: not links._links, "all are broken")
    assert not one.watchers._monitors  # type: ignore[attr-defined]
