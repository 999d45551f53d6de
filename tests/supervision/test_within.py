"""Supervisors that are called, or started, by processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import Process, kill
from exraft.errors import SelfCall
from exraft.supervision import ChildSpec, Supervisor
from tests.helpers import LIMIT, wait_until
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
