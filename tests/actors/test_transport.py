"""Messages between the servers of a process: by name, one way, and lost where a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry
from exraft.actors.transport import ProcessTransport
from exraft.names import LOCAL_NODE, Peer
from exraft.raft import Message, Reach

LIMIT = 30.0
A, B = Peer(":sender"), Peer(":receiver")
MESSAGE = Reach("", A, 1)


class Receiver(Process):
    def __init__(self) -> None:
        super().__init__()
        self.received: SimpleQueue[Any] = SimpleQueue()
        self._actor_ref.received = self.received  # type: ignore[attr-defined]

    def on_start(self) -> None:
        self.register(B.name)

    def on_receive(self, message: Any) -> None:
        self.received.put(message)


@pytest.fixture
def received() -> Iterator[SimpleQueue[Any]]:
    ref: Any = Receiver.start()
    yield ref.received
    ref.stop(timeout=LIMIT)


def test_a_message_gets_into_the_mailbox_of_who_has_the_name(received: SimpleQueue[Any]) -> None:
    ProcessTransport().send(A, B, MESSAGE)
    assert received.get(timeout=LIMIT) is MESSAGE


def test_messages_to_one_peer_keep_their_order(received: SimpleQueue[Any]) -> None:
    transport = ProcessTransport()
    for term in range(100):
        transport.send(A, B, Reach("", A, term))
    assert [received.get(timeout=LIMIT).term for _ in range(100)] == list(range(100))


def test_a_message_to_nobody_is_lost() -> None:
    ProcessTransport().send(A, Peer(":nobody"), MESSAGE)


def test_a_message_to_a_name_between_two_lives_is_lost() -> None:
    reservation = ActorRegistry.reserve(B.name)
    ProcessTransport().send(A, B, MESSAGE)
    ref: Any = _Unnamed.start()
    reservation.bind(ref)
    ProcessTransport().send(A, B, Reach("", A, 2))
    assert ref.received.get(timeout=LIMIT).term == 2
    ref.stop(timeout=LIMIT)


class _Unnamed(Receiver):
    def on_start(self) -> None:
        pass


def test_the_hook_decides_which_messages_are_lost(received: SimpleQueue[Any]) -> None:
    asked: list[tuple[Peer, Peer, Message]] = []

    def drop(sender: Peer, to: Peer, message: Message) -> bool:
        asked.append((sender, to, message))
        return message.term == 1

    transport = ProcessTransport()
    transport.drop = drop
    second = Reach("", A, 2)
    transport.send(A, B, MESSAGE)
    transport.send(A, B, second)
    assert received.get(timeout=LIMIT) is second
    assert asked == [(A, B, MESSAGE), (A, B, second)]


def test_only_this_node_is_reached() -> None:
    assert ProcessTransport().reaches(LOCAL_NODE)
    assert not ProcessTransport().reaches("far@away")
