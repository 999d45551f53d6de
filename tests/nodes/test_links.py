"""What goes through the connections of a process, and what becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from exraft import ExRaft, Peer, distribution
from exraft.errors import NodeUnreachable
from exraft.nodes import link, links
from exraft.nodes.keys import CookieKeys
from exraft.nodes.link import CallLane
from exraft.nodes.loop import Loop
from tests.helpers import LIMIT, Gate, KeyValueStore, wait_until
from tests.nodes.ends import SERVER, End, ends
from tests.serving import COOKIE, Service, free_nodes, serving


@pytest.fixture(autouse=True)
def _caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EXRAFT_COOKIE", COOKIE)
    monkeypatch.setattr(distribution, "_given", (None, None))
    yield
    distribution._stop()


@pytest.fixture
def far() -> Iterator[Peer]:
    with serving(":far") as service:
        yield reached(service)


def reached(service: Service) -> Peer:
    peer = Peer(service.name, service.node)
    assert ExRaft.await_leader(peer, LIMIT) == peer
    return peer


def lane_to(peer: Peer) -> CallLane:
    assert distribution._running is not None
    lane = distribution._running.links.to(peer.node).calls
    assert lane is not None
    return lane


def loop() -> Loop:
    assert distribution._running is not None
    return distribution._running.loop


# Calls that leave together.


def test_an_answer_does_not_wait_for_the_next_command_to_end(far: Peer) -> None:
    lane = lane_to(far)
    with lane._turn:
        first = ExRaft.write_async(far, "/")
        ExRaft.write_async(far, "hang")
    lane._combine()
    assert first.get(timeout=LIMIT / 2) == 1


def test_a_call_that_can_not_be_encoded_takes_no_other_with_it(far: Peer) -> None:
    lane = lane_to(far)
    told: list[Exception] = []

    def stop_in_a_far_future() -> None:
        try:
            ExRaft.stop_server(far, "normal", 10**20)
        except NodeUnreachable as error:
            told.append(error)

    stopping = threading.Thread(target=stop_in_a_far_future)
    with lane._turn:
        stopping.start()
        wait_until(lambda: lane._waiting, "it waits")
        others = [ExRaft.write_async(far, "/") for _ in range(3)]
    lane._combine()
    assert [each.get(timeout=LIMIT) for each in others] == [1, 2, 3]
    stopping.join(LIMIT)
    assert "can't be encoded" in str(told[0])


def test_large_calls_leave_in_frames_of_their_own(
    far: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = lane_to(far)
    frames: list[int] = []
    send = lane._send

    def counted(some: list[link.Asked]) -> bool:
        frames.append(len(some))
        return send(some)

    monkeypatch.setattr(lane, "_send", counted)
    with lane._turn:
        large = [ExRaft.write_async(far, "/" * (link.MUCH // 2)) for _ in range(3)]
        small = [ExRaft.write_async(far, "/") for _ in range(3)]
    lane._combine()
    assert {each.get(timeout=LIMIT) for each in large + small} == {1, 2, 3}
    assert frames == [1, 1, 4]


def test_calls_that_wait_for_others_when_the_connection_breaks_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(":far") as service:
        far = reached(service)
        # As if many were under way.
        monkeypatch.setattr(link, "FEW", 0)
        monkeypatch.setattr(lane_to(far), "_unused", 0.0)
        busy = Gate()
        loop().call_soon(busy.pass_through)
        busy.await_someone()
        service.close()
        late = ExRaft.write_async(far, "/")
        busy.open()
        with pytest.raises(NodeUnreachable):
            late.get(timeout=LIMIT)


# The thread that receives.


def test_who_gives_up_waiting_for_its_turn_leaves_it_to_the_nodes_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Loop()
    one.start()
    try:
        busy = Gate()
        one.call_soon(busy.pass_through)
        busy.await_someone()
        assert not one.take_turn()
        busy.open()
        heard = threading.Event()
        one.call_soon(heard.set)
        assert heard.wait(LIMIT)
    finally:
        one.stop()
        one.end()


# What is not used.


def test_connections_that_nobody_uses_any_more_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "LOOK_AGAIN", 0.01)
    keys = CookieKeys(COOKIE)
    caller = End(keys)
    name = free_nodes()[0]
    with ends(caller):
        assert "can't be reached" in caller.call(name)
        there = caller.running.links.to(name)
        lane = there.calls
        assert lane is not None
        lane._unused = 0.0
        wait_until(lambda: there.calls is None, "it is let go of")
        assert lane.shared.closed
        # It is made again when it is needed.
        ExRaft.start_server(KeyValueStore, name=SERVER)
        with ends(End(keys).listen(name)):
            caller.reaches(name)
    ExRaft.stop_server(SERVER, timeout=LIMIT)


def test_a_process_without_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from exraft.nodes import loop as room

    monkeypatch.setattr(room, "MOST_SOCKETS", 8)
    caller = End(CookieKeys(COOKIE))
    with ends(caller):
        told = [caller.call(name) for name in free_nodes(8)]
    assert "no socket left" in told[-1]


def test_nothing_is_made_after_the_end() -> None:
    caller = End(CookieKeys(COOKIE))
    [name, other] = free_nodes(2)
    with ends(caller):
        there = caller.running.links.to(name)
    with pytest.raises(OSError, match="was stopped"):
        caller.running.links.to(other)
    with pytest.raises(OSError, match="was stopped"):
        there.send([], entries=False)


def test_a_key_that_was_revoked_during_the_handshake_is_not_spoken_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node may hold the handshake up until the list was looked at."""
    keys = CookieKeys(COOKIE)
    name = free_nodes()[0]
    asked: list[str] = []

    class Revoked(CookieKeys):
        def key_of(self, node: str) -> bytes | None:
            asked.append(node)
            # Before the attempt, and when the socket is dressed for it.
            return super().key_of(node) if len(asked) <= 2 else None

    caller = End(Revoked(COOKIE))
    with ends(caller, End(keys).listen(name)):
        assert "not in this process's list" in caller.call(name)
        assert len(asked) >= 3
