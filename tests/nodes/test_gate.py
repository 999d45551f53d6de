from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exraft.errors import NodeError
from exraft.nodes.keys import ALLOWED, SECRET, CookieKeys, KeyPair, Keys, ListedKeys, new_pair

pytest.importorskip("zmq")

import zmq  # noqa: E402
from zmq.utils.monitor import parse_monitor_message  # noqa: E402

from exraft.nodes.gate import Gate, dress_connector, dress_listener  # noqa: E402

LIMIT_MS = 30_000
NODE = "db-1:7001"
COOKIE = CookieKeys("a-cookie-of-the-tests-0123456789")
OTHER_COOKIE = CookieKeys("another-cookie-of-the-tests-0123")

REFUSED = {
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
    zmq.Event.HANDSHAKE_FAILED_AUTH,
}


class Listed:
    """Keys that a test changes as it likes."""

    def __init__(self, own: KeyPair) -> None:
        self.own = own
        self.admitted = {own.public}

    def key_of(self, node: str) -> bytes | None:
        return self.own.public if node == NODE else None

    def admits(self, public: bytes) -> bool:
        return public in self.admitted

    def revision(self) -> int:
        return 0


class As:
    """The keys of who connects: any pair, and the right key of the listener."""

    def __init__(self, own: KeyPair, listener: bytes) -> None:
        self.own = own
        self.listener = listener

    def key_of(self, node: str) -> bytes | None:
        return self.listener

    def admits(self, public: bytes) -> bool:
        return False

    def revision(self) -> int:
        return 0


class Place:
    """A listener behind a gate, and who connects to it, each in a context of its own."""

    def __init__(self, keys: Keys) -> None:
        self.here = zmq.Context()
        self.there = zmq.Context()
        self.gate = Gate(self.here, keys)
        self.gate.start()
        self.listener = self.here.socket(zmq.ROUTER)
        dress_listener(self.listener, keys)
        self.port = self.listener.bind_to_random_port("tcp://127.0.0.1")

    def connector(self) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self.there.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        return made

    def come(self, keys: Keys) -> zmq.Socket[bytes]:
        connector = self.connector()
        dress_connector(connector, keys, NODE)
        return connector

    def outcome(self, connector: zmq.Socket[bytes]) -> zmq.Event:
        """What becomes of an attempt to connect: the first event of a handshake."""
        monitor = connector.get_monitor_socket(
            zmq.Event.HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | sum(REFUSED)
        )
        connector.connect(f"tcp://127.0.0.1:{self.port}")
        assert monitor.poll(LIMIT_MS), "nothing became of it"
        what = zmq.Event(parse_monitor_message(monitor.recv_multipart())["event"])
        connector.disable_monitor()
        return what

    def is_admitted(self, keys: Keys) -> bool:
        connector = self.come(keys)
        what = self.outcome(connector)
        if what == zmq.Event.HANDSHAKE_SUCCEEDED:
            connector.send(b"a word")
            assert self.listener.poll(LIMIT_MS)
            assert self.listener.recv_multipart()[1:] == [b"a word"]
            return True
        assert what in REFUSED
        return False

    def close(self) -> None:
        self.there.destroy(linger=0)
        self.listener.close(linger=0)
        self.gate.stop()
        self.here.destroy(linger=0)


@pytest.fixture
def places() -> Iterator[list[Place]]:
    made: list[Place] = []
    yield made
    for place in made:
        place.close()


@pytest.fixture
def place(places: list[Place]) -> Place:
    places.append(Place(COOKIE))
    return places[0]


def test_who_has_the_cookie_comes_in(place: Place) -> None:
    assert place.is_admitted(COOKIE)
    assert place.gate.refused == 0


def test_who_has_another_cookie_stays_out(place: Place) -> None:
    assert not place.is_admitted(OTHER_COOKIE)


def test_who_knows_the_listeners_public_key_only_stays_out(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert not place.is_admitted(As(new_pair(), COOKIE.own.public))
    assert place.gate.refused == 1
    assert "somebody from 127.0.0.1 was refused" in caplog.text


def test_who_does_not_encrypt_stays_out(place: Place) -> None:
    assert place.outcome(place.connector()) in REFUSED
    assert not place.listener.poll(0)


def test_who_shows_a_password_instead_of_a_key_stays_out(place: Place) -> None:
    plain = place.connector()
    plain.setsockopt(zmq.PLAIN_USERNAME, b"db-2")
    plain.setsockopt(zmq.PLAIN_PASSWORD, COOKIE.own.public)
    assert place.outcome(plain) in REFUSED


def test_who_connects_to_a_listener_with_another_key_says_nothing_to_it(
    places: list[Place],
) -> None:
    impostor = Listed(new_pair())
    impostor.admitted.add(COOKIE.own.public)
    places.append(place := Place(impostor))
    assert not place.is_admitted(COOKIE)


def test_strangers_do_not_fill_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        assert not place.is_admitted(As(new_pair(), COOKIE.own.public))
    assert place.gate.refused == 10
    assert len(caplog.records) < 10


def test_who_is_revoked_stays_out_of_the_next_connection(
    places: list[Place], tmp_path: Path
) -> None:
    own, other = new_pair(), new_pair()
    (tmp_path / SECRET).write_bytes(own.secret)
    (tmp_path / SECRET).chmod(0o600)
    allowed = tmp_path / ALLOWED

    def allow(*lines: str) -> None:
        allowed.write_text("\n".join(lines), encoding="utf-8")
        allowed.chmod(0o600)

    mine, theirs = f"{own.public.decode()} {NODE}", f"{other.public.decode()} db-2:7001"
    allow(mine, theirs)
    keys = ListedKeys(tmp_path, every=0.0)
    places.append(place := Place(keys))
    assert place.is_admitted(As(other, own.public))
    allow(mine)
    assert keys.revision() == 1
    assert not place.is_admitted(As(other, own.public))
    assert place.is_admitted(As(own, own.public))
    allow(mine, theirs)
    assert place.is_admitted(As(other, own.public))


def test_nobody_comes_in_where_the_gate_is_gone(place: Place) -> None:
    place.gate.stop()
    assert not place.is_admitted(COOKIE)


def test_keys_that_fail_let_nobody_in_and_do_not_end_the_gate(
    places: list[Place], caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Listed):
        failing = True

        def admits(self, public: bytes) -> bool:
            if self.failing:
                raise OSError("the disk is gone")
            return super().admits(public)

    keys = Failing(new_pair())
    places.append(place := Place(keys))
    assert not place.is_admitted(keys)
    assert "the disk is gone" in caplog.text
    keys.failing = False
    assert place.is_admitted(keys)


GARBAGE: list[list[bytes]] = [
    [b""],
    [b"x"],
    [b"", b""],
    [b"", b"1.0"],
    [b"", b"1.0", b"7", b"exraft", b"\xff", b"", b"CURVE", b"short"],
    [b"", b"1.0", b"7", b"exraft", b"", b"", b"CURVE", b"", b"more"],
    [b"", b"1.0", b"7", b"exraft", b"", b"", b"NULL"],
    [b"", b"1.0", b"7", b"exraft", b"", b"", b"PLAIN", b"a", b"b"],
    [b"", b"1.0", b"7", b"another", b"", b"", b"CURVE", bytes(32)],
    [b"", b"2.0", b"7", b"exraft", b"", b"", b"CURVE", bytes(32)],
    [bytes(99_999)] * 99,
]


def test_a_question_that_makes_no_sense_is_refused_and_the_gate_goes_on(place: Place) -> None:
    for sent, garbage in enumerate(GARBAGE, 1):
        asking = place.here.socket(zmq.DEALER)
        asking.connect("inproc://zeromq.zap.01")
        asking.send_multipart(garbage)
        assert asking.poll(LIMIT_MS)
        assert asking.recv_multipart()[-4] == b"400"
        assert place.gate.refused == sent
        asking.close(linger=0)
    assert place.is_admitted(COOKIE)


def test_a_context_has_one_gate_at_a_time_and_another_after_it() -> None:
    context = zmq.Context()
    for _ in range(20):
        gate = Gate(context, COOKIE)
        gate.start()
        with pytest.raises(NodeError, match="has a gate already"):
            Gate(context, COOKIE).start()
        gate.stop()
        gate.stop()
    context.term()


def test_a_gate_that_was_never_started_is_stopped_all_the_same() -> None:
    context = zmq.Context()
    Gate(context, COOKIE).stop()
    context.term()


def test_a_node_that_is_not_listed_is_not_connected_to(place: Place) -> None:
    with pytest.raises(NodeError, match="db-9:7001 is not in the list"):
        dress_connector(place.connector(), Listed(new_pair()), "db-9:7001")
