"""Supervisors that are called, or started, by processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import Process, kill
from exraft.errors import SelfCall
from exraft.supervision import ChildSpec, Supervisor
from tests.helpers import LIMIT, run_script, wait_until
from tests.supervision.family import Watch


class Keeper(Process):
    """Starts a supervisor of its own, as a worker may do."""

    def on_start(self) -> None:
        Supervisor.start([ChildSpec("kept", (Process, (), {}))], name=":kept")

    def on_receive(self, message: Any) -> Any:
        raise RuntimeError(message)


@pytest.mark.parametrize(
    "end",
    [lambda ref: ref.stop(timeout=LIMIT), lambda ref: ref.tell("boom"), kill],
    ids=["stop", "crash", "kill"],
)
def test_a_supervisor_ends_with_the_process_that_started_it(
    end: Callable[[pykka.ActorRef[Any]], object],
) -> None:
    """S34: and with it its children, whatever ended the process."""
    ref = Keeper.start()
    kept = ActorRegistry.get_by_name(":kept")
    assert kept is not None
    told = Watch(kept)
    end(ref)
    assert told.reason() == "shutdown"
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "nobody is left")


def test_a_worker_that_starts_a_supervisor_can_be_started_again() -> None:
    """S54: its name is free by then, or soon: an attempt that came too early is repeated."""
    sup = Supervisor.start(
        [ChildSpec("keeper", (Keeper, (), {}))], max_restarts=1_000_000, max_seconds=300.0
    )
    before = ActorRegistry.get_by_name(":kept")
    keeper = Supervisor.which_children(sup)[0].ref
    assert isinstance(keeper, pykka.ActorRef)
    keeper.tell("boom")

    def again() -> bool:
        kept = ActorRegistry.get_by_name(":kept")
        return kept is not None and kept is not before and kept.is_alive()

    wait_until(again, "another one is there")
    Supervisor.stop(sup, timeout=LIMIT)
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "both are gone")


def test_a_child_can_not_terminate_itself_through_its_supervisor() -> None:
    """S41: it would be waited for by who waits for it."""

    class Tired(Process):
        def on_receive(self, message: Any) -> Any:
            Supervisor.terminate_child(":top", "tired", timeout=LIMIT)

    sup = Supervisor.start([ChildSpec("tired", (Tired, (), {}))], name=":top")
    tired = Supervisor.which_children(sup)[0].ref
    assert isinstance(tired, pykka.ActorRef)
    with pytest.raises(SelfCall, match="from within"):
        tired.ask("rest")
    assert tired.is_alive()
    Supervisor.stop(sup, timeout=LIMIT)


@pytest.mark.parametrize("base", [Process, pykka.ThreadingActor])
def test_a_child_that_is_ordered_to_end_can_not_call_who_waits_for_that(
    base: type[pykka.ThreadingActor],
) -> None:
    """S28: its supervisor waits for the end of its `on_stop`, and so does that one's."""
    refused: list[Exception] = []

    class Curious(base):  # type: ignore[valid-type, misc]
        def on_stop(self) -> None:
            for name in (":inner", ":top"):
                try:
                    Supervisor.which_children(name, timeout=LIMIT)
                except SelfCall as error:
                    refused.append(error)

    inner = Supervisor.child_spec([ChildSpec("curious", (Curious, (), {}))], name=":inner")
    sup = Supervisor.start([inner], name=":top")
    Supervisor.stop(sup, timeout=LIMIT)
    assert len(refused) == 2


def test_a_child_that_one_supervisor_stops_may_call_another() -> None:
    """S41: those further up do not wait for it then."""
    seen: list[int] = []

    class Curious(Process):
        def on_stop(self) -> None:
            seen.append(Supervisor.count_children(":top", timeout=LIMIT).active)

    inner = Supervisor.child_spec([ChildSpec("curious", (Curious, (), {}))], name=":inner")
    sup = Supervisor.start([inner], name=":top")
    Supervisor.terminate_child(":inner", "curious", timeout=LIMIT)
    assert seen == [1]
    Supervisor.stop(sup, timeout=LIMIT)


def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    """S2: who presses Ctrl-C meanwhile gets no reference by which to stop it."""
    result = run_script(SCRIPT, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["interrupted", "nobody"]


SCRIPT = """
import signal, threading
import pykka
from exraft.supervision import ChildSpec, Supervisor

gate = threading.Event()


class Slow(pykka.ThreadingActor):
    def on_start(self):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert gate.wait(30)


try:
    Supervisor.start([ChildSpec("slow", (Slow, (), {}))], name=":top")
except KeyboardInterrupt:
    print("interrupted")
gate.set()
while pykka.ActorRegistry.get_all():
    threading.Event().wait(0.01)
print("nobody")
"""
