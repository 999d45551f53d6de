"""The private names of Pykka that `exraft.actors` stands on; the reason for `pykka<5`."""

from __future__ import annotations

import inspect
import queue
import threading
from typing import Any

import pykka
import pytest
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, _ActorStop

LIMIT = 30.0


class Plain(pykka.ThreadingActor):
    use_daemon_thread = True

    def double(self, number: int) -> int:
        return 2 * number

    def on_receive(self, message: Any) -> Any:
        return ("received", message)


class Recorder:
    """An inbox that keeps what is put."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def put(self, envelope: Any, /) -> None:
        self.items.append(envelope)


def recorded() -> tuple[Plain, list[Any]]:
    actor = Plain()
    recorder = Recorder()
    actor.actor_ref.actor_inbox = recorder  # type: ignore[assignment]
    return actor, recorder.items


def test_an_envelope_holds_message_and_reply_to_and_has_no_subclass_of_its_own() -> None:
    actor, items = recorded()
    actor.actor_ref.tell("told")
    asked = actor.actor_ref.ask("asked", block=False)
    assert [item.__class__ for item in items] == [Envelope, Envelope]
    assert [(item.message, item.reply_to) for item in items] == [
        ("told", None),
        ("asked", asked),
    ]


def test_a_stop_is_an_envelope_of_actorstop_from_outside_and_inside() -> None:
    actor, items = recorded()
    actor.actor_ref.stop(block=False)
    actor.stop()
    assert [item.message.__class__ for item in items] == [_ActorStop, _ActorStop]
    assert items[0].reply_to is not None
    assert items[1].reply_to is None


def test_an_actors_constructor_makes_inbox_stop_flag_and_ref() -> None:
    actor = Plain()
    assert actor._actor_ref is actor.actor_ref
    assert actor._actor_ref.actor_inbox is actor.actor_inbox
    assert actor._actor_ref.actor_stopped is actor.actor_stopped
    assert isinstance(actor.actor_stopped, threading.Event)


def test_inbox_and_future_come_from_overridable_methods() -> None:
    made: list[str] = []

    class Making(Plain):
        @staticmethod
        def _create_actor_inbox() -> Any:
            made.append("inbox")
            return Recorder()

        @staticmethod
        def _create_future() -> Any:
            made.append("future")
            return pykka.ThreadingFuture()

    Making().actor_ref.ask("?", block=False)
    assert made == ["inbox", "future"]


def test_the_thread_runs_actor_loop_and_nothing_else() -> None:
    ran = threading.Event()

    class Own(Plain):
        def _actor_loop(self) -> None:
            ran.set()

    actor = Own()
    actor._start_actor_loop()
    assert ran.wait(LIMIT)
    assert not actor.actor_stopped.is_set()


def test_handle_receive_serves_proxies_and_on_receive() -> None:
    actor = Plain()
    assert actor._handle_receive(ProxyCall(("double",), (4,), {})) == 8
    assert actor._handle_receive("message") == ("received", "message")


def test_an_inbox_can_be_had_from_the_instance_before_its_constructor_runs() -> None:
    actor = Plain.__new__(Plain)
    inbox: Any = Recorder()
    vars(actor)["_create_actor_inbox"] = lambda: inbox
    actor.__init__()  # type: ignore[misc]
    assert actor.actor_inbox is inbox
    assert actor.actor_ref.actor_inbox is inbox


def test_loop_and_daemon_flag_are_looked_up_on_the_instance() -> None:
    ran: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for daemon in (True, False):
        actor = pykka.ThreadingActor()
        vars(actor)["_actor_loop"] = lambda: ran.put(threading.current_thread().daemon)
        vars(actor)["use_daemon_thread"] = daemon
        actor._start_actor_loop()
        assert ran.get(timeout=LIMIT) is daemon


def test_a_reference_holds_its_state_in_its_dict_and_may_change_its_class() -> None:
    class Other(pykka.ActorRef[Any]):
        pass

    ref = Plain().actor_ref
    assert set(vars(ref)) == {
        "_actor_weakref",
        "actor_class",
        "actor_urn",
        "actor_inbox",
        "actor_stopped",
    }
    ref.__class__ = Other
    assert isinstance(ref, Other)


def test_references_are_compared_by_identity() -> None:
    assert pykka.ActorRef.__eq__ is object.__eq__


def test_an_immediate_stop_forgets_the_actor_then_calls_on_stop() -> None:
    seen: list[Any] = []

    class Stopping(Plain):
        def on_stop(self) -> None:
            listed = self.actor_ref in pykka.ActorRegistry.get_all()
            seen.append((listed, self.actor_stopped.is_set()))

    actor = Stopping()
    pykka.ActorRegistry.register(actor.actor_ref)
    actor._stop()
    assert seen == [(False, True)]


def test_an_on_stop_that_fails_comes_to_handle_failure_and_a_base_exception_comes_out() -> None:
    class Failing(Plain):
        error: BaseException = ValueError("v")

        def on_stop(self) -> None:
            raise self.error

    actor, failures = Failing(), []
    vars(actor)["_handle_failure"] = lambda *failure: failures.append(failure)
    actor._stop()
    assert [(kind, error) for kind, error, _ in failures] == [(ValueError, actor.error)]
    actor.error = SystemExit(3)
    with pytest.raises(SystemExit):
        actor._stop()


def test_unregister_forgives_a_stranger() -> None:
    ref = Plain().actor_ref
    pykka.ActorRegistry.unregister(ref)
    assert ref not in pykka.ActorRegistry.get_all()


def test_derived_futures_are_made_of_the_class_of_their_source() -> None:
    class Own(pykka.ThreadingFuture[Any]):
        pass

    future = Own()
    for derived in (
        future.map(str),
        future.filter(bool),
        future.join(future),
        future.reduce(lambda x, y: x),
    ):
        assert isinstance(derived, Own)


def test_a_derived_future_is_set_up_through_set_get_hook_alone() -> None:
    source = inspect.getsource(pykka.Future)
    assert source.count("set_get_hook(\n") == 4
