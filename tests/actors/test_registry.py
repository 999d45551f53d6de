from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from exraft.actors.ending import send_exit
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry, Reservation
from exraft.actors.watching import monitor
from exraft.errors import AlreadyStarted, ServerNotFound

LIMIT = 30.0


class Keeper(Process):
    """Keeps what it gets."""

    def __init__(self, kept: queue.SimpleQueue[Any] | None = None) -> None:
        super().__init__()
        self.kept: queue.SimpleQueue[Any] = queue.SimpleQueue() if kept is None else kept

    def on_receive(self, message: Any) -> Any:
        self.kept.put(message)


class Note:
    def __init__(self, number: int, refused: queue.SimpleQueue[Any]) -> None:
        self.number = number
        self.refused = refused

    def refuse(self, reason: object) -> None:
        self.refused.put((self.number, reason))


def end(ref: pykka.ActorRef[Any]) -> None:
    over = threading.Event()
    monitor(ref, lambda _: over.set())
    send_exit(ref, "shutdown")
    assert over.wait(LIMIT)


@pytest.fixture(autouse=True)
def everybody_leaves() -> Iterator[None]:
    yield
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    ActorRegistry._names.clear()


# Names


def test_an_actor_is_found_by_its_name() -> None:
    ref, plain = Keeper.start(), pykka.ThreadingActor.start()
    ActorRegistry.register_name(":b", ref)
    ActorRegistry.register_name(":a", plain)
    assert ActorRegistry.get_by_name(":b") is ref
    assert ActorRegistry.get_by_name(":a") is plain
    assert ActorRegistry.names() == [":a", ":b"]
    ActorRegistry.unregister_name(":b")
    ActorRegistry.unregister_name(":b")
    assert ActorRegistry.get_by_name(":b") is None
    assert ActorRegistry.names() == [":a"]


def test_it_is_pykkas_registry_too() -> None:
    ref = Keeper.start()
    assert ActorRegistry.get_all() == pykka.ActorRegistry.get_all() == [ref]


def test_a_name_belongs_to_one_living_actor() -> None:
    first, second = Keeper.start(), Keeper.start()
    ActorRegistry.register_name(":x", first)
    ActorRegistry.register_name(":x", first)
    with pytest.raises(AlreadyStarted) as caught:
        ActorRegistry.register_name(":x", second)
    assert caught.value.ref is first


@pytest.mark.parametrize("name", ["x", "", ":", ":a b", None])
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError):
        ActorRegistry.register_name(name, Keeper.start())
    with pytest.raises(ValueError):
        ActorRegistry.reserve(name)


def test_a_dead_actor_has_no_name_and_gets_none() -> None:
    for ref in (Keeper.start(), pykka.ThreadingActor.start()):
        ActorRegistry.register_name(":x", ref)
        ref.stop(timeout=LIMIT)
        assert ActorRegistry.get_by_name(":x") is None
        assert ActorRegistry.names() == []
        with pytest.raises(ValueError):
            ActorRegistry.register_name(":y", ref)
        successor = Keeper.start()
        ActorRegistry.register_name(":x", successor)
        assert ActorRegistry.get_by_name(":x") is successor
        end(successor)


def test_a_name_registered_while_its_bearer_dies_is_never_left_behind() -> None:
    for _ in range(200):
        ref = Keeper.start()
        start = threading.Barrier(2)

        def name_it(ref: Any = ref, start: threading.Barrier = start) -> None:
            start.wait(LIMIT)
            try:
                ActorRegistry.register_name(":late", ref)
            except ValueError:
                return

        thread = threading.Thread(target=name_it)
        thread.start()
        start.wait(LIMIT)
        end(ref)
        thread.join(LIMIT)
        assert ":late" not in ActorRegistry._names


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(sys.version_info >= (3, 15), reason="untried")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_names() -> None:
    ActorRegistry.register_name(":x", Keeper.start())
    with ActorRegistry._names_lock:  # as if another thread held it at the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if ActorRegistry.names() == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ActorRegistry.names() == [":x"]


# Delivery


def test_what_is_delivered_to_a_name_reaches_its_bearer() -> None:
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ActorRegistry.register_name(":x", Keeper.start(kept))
    ActorRegistry.deliver(":x", "call")
    assert ActorRegistry.post(":x", "note") is True
    assert [kept.get(timeout=LIMIT), kept.get(timeout=LIMIT)] == ["call", "note"]


def test_nobody_of_that_name_is_an_error_for_a_call_and_false_for_a_note() -> None:
    with pytest.raises(ServerNotFound) as caught:
        ActorRegistry.deliver(":nobody", "call")
    assert caught.value.server == ":nobody"
    assert ActorRegistry.post(":nobody", "note") is False


def test_a_plain_actor_is_not_given_what_it_cannot_understand() -> None:
    ref = pykka.ThreadingActor.start()
    ActorRegistry.register_name(":plain", ref)
    with pytest.raises(ServerNotFound):
        ActorRegistry.deliver(":plain", "call")
    assert ActorRegistry.post(":plain", "note") is False
    assert ref.is_alive()


# Reservations


def test_what_is_delivered_to_a_reserved_name_waits_for_the_successor() -> None:
    reservation = ActorRegistry.reserve(":x")
    assert ActorRegistry.get_by_name(":x") is None
    assert ActorRegistry.names() == []
    for number in range(5):
        ActorRegistry.deliver(":x", number)
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ref = Keeper.start(kept)
    assert reservation.bind(ref) is True
    ActorRegistry.deliver(":x", 5)
    assert [kept.get(timeout=LIMIT) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert ActorRegistry.get_by_name(":x") is ref
    assert (reservation.bind(ref), reservation.free()) == (False, False)
    assert ActorRegistry.get_by_name(":x") is ref


def test_what_waited_for_a_reserved_name_is_refused_when_it_is_freed() -> None:
    refused: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reservation = ActorRegistry.reserve(":x")
    for number in range(3):
        ActorRegistry.deliver(":x", Note(number, refused))
    assert reservation.free() is True
    assert [refused.get(timeout=LIMIT) for _ in range(3)] == [(n, "noproc") for n in range(3)]
    with pytest.raises(ServerNotFound):
        ActorRegistry.deliver(":x", "late")
    assert (reservation.free(), reservation.bind(Keeper.start())) == (False, False)


def test_the_holder_may_say_how_items_are_refused_and_a_failure_stops_nothing() -> None:
    refused: list[Any] = []

    def refuse(item: Any) -> None:
        refused.append(item)
        raise RuntimeError("can't")

    reservation = ActorRegistry.reserve(":x", refuse=refuse)
    ActorRegistry.deliver(":x", 1)
    ActorRegistry.deliver(":x", 2)
    reservation.free()
    assert refused == [1, 2]


def test_a_note_to_a_reserved_name_is_dropped() -> None:
    reservation = ActorRegistry.reserve(":x")
    assert ActorRegistry.post(":x", "note") is True
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reservation.bind(Keeper.start(kept))
    ActorRegistry.deliver(":x", "call")
    assert kept.get(timeout=LIMIT) == "call"


def test_a_reserved_name_is_taken_for_everybody_else() -> None:
    former = Keeper.start()
    ActorRegistry.register_name(":x", former)
    with pytest.raises(AlreadyStarted):
        ActorRegistry.reserve(":x")
    reservation = ActorRegistry.reserve(":x", bearer=former)
    with pytest.raises(AlreadyStarted) as caught:
        ActorRegistry.register_name(":x", Keeper.start())
    assert caught.value.ref is former
    with pytest.raises(AlreadyStarted):
        ActorRegistry.reserve(":x", bearer=former)
    ActorRegistry.unregister_name(":x")
    assert ActorRegistry._names[":x"] is reservation


def test_a_reservation_is_bound_to_living_processes_only() -> None:
    reservation = ActorRegistry.reserve(":x")
    dead = Keeper.start()
    dead.stop(timeout=LIMIT)
    for ref in (dead, pykka.ThreadingActor.start()):
        with pytest.raises(ValueError):
            reservation.bind(ref)
    ActorRegistry.deliver(":x", 1)
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reservation.bind(Keeper.start(kept))
    assert kept.get(timeout=LIMIT) == 1


class Phoenix(Keeper):
    """Keeps its name over its death, for the next life."""

    def __init__(
        self, kept: queue.SimpleQueue[Any], reservations: queue.SimpleQueue[Reservation]
    ) -> None:
        super().__init__(kept)
        self.reservations = reservations

    def about_to_close(self) -> None:
        self.reservations.put(ActorRegistry.reserve(":phoenix", bearer=self.actor_ref))


def test_no_call_is_lost_or_out_of_order_over_many_lives() -> None:
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    refused: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reservations: queue.SimpleQueue[Reservation] = queue.SimpleQueue()
    ref = Phoenix.start(kept, reservations)
    ActorRegistry.register_name(":phoenix", ref)
    calls = 2000
    sent = threading.Event()

    def call() -> None:
        for number in range(calls):
            ActorRegistry.deliver(":phoenix", Note(number, refused))
        sent.set()

    thread = threading.Thread(target=call)
    thread.start()
    lives = 0
    while not sent.is_set() or lives < 20:
        send_exit(ref, "shutdown")
        reservation = reservations.get(timeout=LIMIT)
        ref = Phoenix.start(kept, reservations)
        assert reservation.bind(ref)
        lives += 1
    thread.join(LIMIT)
    end(ref)
    reservations.get(timeout=LIMIT).free()
    arrived = [kept.get_nowait().number for _ in range(kept.qsize())]
    gone = [refused.get_nowait()[0] for _ in range(refused.qsize())]
    assert arrived == sorted(arrived)
    assert sorted(arrived + gone) == list(range(calls))


def test_no_call_is_stuck_when_a_reservation_is_freed() -> None:
    for _ in range(200):
        reservation = ActorRegistry.reserve(":x")
        refused: queue.SimpleQueue[Any] = queue.SimpleQueue()
        start = threading.Barrier(2)
        not_found: list[int] = []

        def call(
            start: threading.Barrier = start,
            refused: queue.SimpleQueue[Any] = refused,
            not_found: list[int] = not_found,
        ) -> None:
            start.wait(LIMIT)
            for number in range(20):
                try:
                    ActorRegistry.deliver(":x", Note(number, refused))
                except ServerNotFound:
                    not_found.append(number)

        thread = threading.Thread(target=call)
        thread.start()
        start.wait(LIMIT)
        reservation.free()
        thread.join(LIMIT)
        gone = [refused.get_nowait()[0] for _ in range(refused.qsize())]
        assert sorted(gone + not_found) == list(range(20))
