"""A process that is a node, and what others meet who call it, or should not be there."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
import zmq

from exraft import ExRaft, Peer, distribution, maybe_applied, node
from exraft.errors import (
    ExRaftError,
    NodeError,
    NodeUnreachable,
    Redirect,
    ServerDown,
    ServerNotFound,
)
from exraft.nodes import wire
from exraft.nodes.gate import Gate, dress_connector, dress_listener
from exraft.nodes.keys import CookieKeys
from exraft.raft.messages import Append, PreVote
from exraft.remote.values import encode_answer
from exraft.supervision import Supervisor
from tests.helpers import LIMIT, KeyValueStore
from tests.helpers import Gate as Threshold
from tests.serving import COOKIE, Service, free_nodes, serving


@pytest.fixture(autouse=True)
def _caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EXRAFT_COOKIE", COOKIE)
    monkeypatch.setattr(distribution, "_given", (None, None))
    yield
    distribution._stop()


def server_of(service: Service) -> Peer:
    return Peer(service.name, service.node)


@contextmanager
def raw(service: Service, cookie: str = COOKIE) -> Iterator[zmq.Socket[bytes]]:
    """A connection of our own to its node, with the right keys."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    connection = context.socket(zmq.DEALER)
    connection.linger = 0
    connection.rcvtimeo = round(LIMIT * 1000)
    dress_connector(connection, CookieKeys(cookie), service.node)
    connection.connect(f"tcp://{service.node}")
    try:
        yield connection
    finally:
        connection.close()
        context.term()


def ask(service: Service, call_id: int = 1) -> wire.Ask:
    return wire.Ask(call_id, service.name, "ping")


# Calls.


def test_every_call_reaches_a_server_of_another_node(tmp_path: Path) -> None:
    with serving(":raft1", "--data-dir", str(tmp_path / "data")) as service:
        server = server_of(service)
        assert ExRaft.await_leader(server, LIMIT) == server
        assert ExRaft.leader(server, LIMIT) == server
        assert ExRaft.state(server, LIMIT) == "leader"
        assert ExRaft.ping(server, LIMIT) == "pong"
        assert ExRaft.write(server, "/", LIMIT) == 1
        assert ExRaft.write_async(server, "/").get(timeout=LIMIT) == 2
        assert ExRaft.read(server, "/", LIMIT) == 2
        assert ExRaft.read_dirty(server, None, LIMIT) == {"/": 2}
        assert ExRaft.client([server]).write("/", LIMIT) == 3
        status = ExRaft.status(server, LIMIT)
        assert (status.server, status.role, status.leader) == (server, "leader", server)
        index = ExRaft.snapshot(server, LIMIT)
        assert ExRaft.backup(server, tmp_path / "backup", LIMIT) == index
        assert (tmp_path / "backup").stat().st_size > 100
        ExRaft.remove_server(server, (":raft2", service.node), LIMIT)
        ExRaft.trigger_election(server, LIMIT)
        assert ExRaft.await_leader(server, LIMIT) == server


def test_what_it_raises_is_raised_as_at_home() -> None:
    with serving(":raft1") as service:
        server = server_of(service)
        ExRaft.await_leader(server, LIMIT)
        with pytest.raises(ValueError, match="no such page") as raised:
            ExRaft.write(server, "raise", LIMIT)
        assert maybe_applied(raised.value)
        assert any(":raft1" in note for note in raised.value.__notes__)
        with pytest.raises(ServerNotFound, match=f":nobody on {service.node}") as unknown:
            ExRaft.ping((":nobody", service.node), LIMIT)
        assert not isinstance(unknown.value, NodeUnreachable)
        with pytest.raises(ExRaftError):
            ExRaft.transfer_leadership(server, (":raft9", service.node), LIMIT)


def test_a_server_is_stopped_from_another_process() -> None:
    with serving(":raft1") as service:
        ExRaft.await_leader(server_of(service), LIMIT)
        ExRaft.stop_server(server_of(service), timeout=LIMIT)
        # Which is the end of the service as well.
        assert service.ended() == 0


def test_a_write_whose_connection_is_lost_may_have_been_applied() -> None:
    with serving(":raft1") as service:
        server = server_of(service)
        ExRaft.await_leader(server, LIMIT)
        service.signal(signal.SIGSTOP)
        write = ExRaft.write_async(server, "/")
        service.signal(signal.SIGKILL)
        with pytest.raises(ServerDown) as raised:
            write.get(timeout=LIMIT)
        assert raised.value.reason == ("down", ("nodedown", service.node))
        assert maybe_applied(raised.value)


def test_a_node_that_is_not_there_is_named_with_its_address() -> None:
    [away] = free_nodes()
    with pytest.raises(
        NodeUnreachable, match=f"node of :raft1 on {away}.*is the node started"
    ) as raised:
        ExRaft.write((":raft1", away), "/", LIMIT)
    assert raised.value.reason == ("nodedown", away)
    assert not maybe_applied(raised.value)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(NodeUnreachable, match="the name 'no.such.host.invalid' is not resolved"):
        ExRaft.ping((":raft1", "no.such.host.invalid:7001"), LIMIT)


def test_a_wrong_cookie_is_asked_about() -> None:
    with serving(":raft1") as service:
        distribution.connect(cookie="another one, of which nobody there knows 4711")
        with pytest.raises(NodeUnreachable, match="is the cookie the same there"):
            ExRaft.ping(server_of(service), LIMIT)
        distribution.connect(cookie=COOKIE)
        assert ExRaft.ping(server_of(service), LIMIT) == "pong"


def test_a_node_that_comes_back_is_reached_again() -> None:
    with serving(":raft1") as service:
        server = server_of(service)
        assert ExRaft.ping(server, LIMIT) == "pong"
        service.signal(signal.SIGKILL)
        service.ended()
        with pytest.raises(ExRaftError):
            ExRaft.ping(server, LIMIT)
        again = Service(":raft1", service.node)
        try:
            again.await_ready()
            end = monotonic() + LIMIT
            while True:
                try:
                    assert ExRaft.ping(server, LIMIT) == "pong"
                    break
                except NodeUnreachable:
                    assert monotonic() < end
        finally:
            again.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_has_said_its_cookie_need_not_say_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXRAFT_COOKIE", "another one, of which nobody there knows 4711")
    with serving(":raft1") as service:
        server = server_of(service)
        distribution.connect(cookie=COOKIE)
        assert ExRaft.await_leader(server, LIMIT) == server
        assert ExRaft.write(server, "/", LIMIT) == 1
        distribution.stop_node()
        assert ExRaft.write(server, "/", LIMIT) == 2
        child = os.fork()
        if child == 0:
            # Nothing of the tests may run twice, whatever happens.
            try:
                os._exit(0 if ExRaft.write(server, "/", LIMIT) == 3 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ExRaft.write(server, "/", LIMIT) == 4


def test_who_asks_a_follower_is_told_the_leaders_node() -> None:
    nodes = free_nodes(3)
    peers = ",".join(f":raft{i}@{each}" for i, each in enumerate(nodes, 1))
    services = [Service(f":raft{i}", each, "--peers", peers) for i, each in enumerate(nodes, 1)]
    try:
        for service in services:
            service.await_ready()
        leader = ExRaft.await_leader(server_of(services[0]), LIMIT)
        follower = next(s for s in services if server_of(s) != leader)
        ExRaft.await_leader(server_of(follower), LIMIT)
        with pytest.raises(Redirect) as raised:
            ExRaft.write(server_of(follower), "/", LIMIT)
        assert raised.value.leader == leader
        assert ExRaft.client([server_of(follower)]).write("/", LIMIT) == 1
    finally:
        for service in services:
            service.close()


# Who should not be there, and what makes no sense.


def test_another_version_of_the_protocol_is_refused_naming_both() -> None:
    with serving(":raft1") as service, raw(service) as connection:
        frame = wire.encode(service.node, [ask(service)])
        other = bytes([frame[0], wire.PROTOCOL + 1]) + frame[2:]
        connection.send(other)
        with pytest.raises(wire.Incompatible) as refused:
            wire.decode(connection.recv())
        assert (refused.value.version, refused.value.refused) == (wire.PROTOCOL, True)
        connection.send(frame)
        wire.decode(connection.recv())
        told = [line["message"] for line in service.log() if "version" in line["message"]]
        assert f"version {wire.PROTOCOL + 1}" in told[0]
        assert f"version {wire.PROTOCOL}" in told[0]


def test_a_call_to_another_version_names_both() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = CookieKeys(COOKIE)
    gate = Gate(context, keys)
    gate.start()
    listener = context.socket(zmq.ROUTER)
    dress_listener(listener, keys)
    port = listener.bind_to_random_port("tcp://127.0.0.1")

    def refuse() -> None:
        route, _ = listener.recv_multipart()
        listener.send_multipart([route, bytes([0xE7, 0]) + b"7"])

    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        with pytest.raises(NodeUnreachable, match="speaks version 7 .* version 1:") as raised:
            ExRaft.write((":raft1", f"127.0.0.1:{port}"), "/", LIMIT)
        assert not maybe_applied(raised.value)
    finally:
        thread.join()
        listener.close(linger=0)
        gate.stop()
        context.term()


def test_an_answer_that_comes_with_the_end_of_its_node_is_received() -> None:
    """ZeroMQ may let go of a connection with what has come through it, if it is let."""
    keys = CookieKeys(COOKIE)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    gate = Gate(context, keys)
    gate.start()
    listener = context.socket(zmq.ROUTER)
    dress_listener(listener, keys)
    port = listener.bind_to_random_port("tcp://127.0.0.1")
    call = ExRaft.write_async((":raft1", f"127.0.0.1:{port}"), "/")
    route, frame = listener.recv_multipart()
    [asked] = wire.decode(frame).parcels
    assert isinstance(asked, wire.Write)
    # Whoever receives here has other things to do until all of it has come.
    busy = Threshold()
    assert distribution._running is not None
    distribution._running.loop.call_soon(busy.pass_through)
    busy.await_someone()
    answer = wire.Answer(asked.id, encode_answer("value", 5))
    listener.send_multipart([route, wire.encode("", [answer])])
    listener.close(linger=round(LIMIT * 1000))
    gate.stop()
    context.term()
    busy.open()
    assert call.get(timeout=LIMIT) == 5


def test_what_is_meant_for_another_node_is_not_served() -> None:
    with serving(":raft1") as service, raw(service) as connection:
        connection.send(wire.encode("other:7001", [ask(service)]))
        [told] = wire.decode(connection.recv()).parcels
        assert told == wire.Misaddressed(1, service.node)


def parcels(service: Service) -> list[wire.Parcel]:
    me = Peer(":evil", "127.0.0.1:1")
    return [
        wire.Post(service.name, PreVote("", me, 1, "", 0, 0)),
        wire.Post(service.name, Append("other", me, 3, 5, 2, (), 4, 1)),
        wire.Write(1, service.name, b"\x80\x05no pickle"),
        wire.Read(2, service.name, b"nothing", dirty=True),
        wire.Read(3, service.name, b"", dirty=False),
        wire.Ask(4, service.name, "no such thing"),
        wire.Ask(-5, ":nobody", "ping"),
        wire.Change(6, service.name, Peer("no name", "no node"), True, 0.1),
        wire.Transfer(7, service.name, me),
        wire.Stop(8, ":nobody", b"", 0.1),
        wire.Fetch(9, service.name, "no handle", -1, 1 << 62),
        wire.Cancel(10),
        wire.Answer(11, b""),
        wire.Failure(12, b""),
        wire.Misaddressed(13, ""),
    ]


def spoilt(rng: random.Random, service: Service) -> list[bytes]:
    """The parts of a message that makes no sense, or too much."""
    whole = wire.encode(service.node, rng.sample(parcels(service), rng.randint(1, 4)))
    kind = rng.randrange(7)
    if kind == 0:
        return [rng.randbytes(rng.randrange(200))]
    if kind == 1:
        return [whole[: rng.randrange(len(whole))]]
    if kind == 2:
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return [bytes(changed)]
    if kind == 3:
        return [whole[:2] + b"\x92" * rng.randrange(1, 100_000)]
    if kind == 4:
        return [whole[:2] + b"\xdd" + struct.pack(">I", rng.randrange(1 << 32)) + whole[2:]]
    if kind == 5:
        return [b""] * rng.randint(2, 2 * wire.DEEPEST)
    return [whole[:2] + msgspec.msgpack.encode([service.node, [[rng.randrange(20), "x", {}]]])]


def test_a_thousand_messages_that_make_no_sense_change_nothing(tmp_path: Path) -> None:
    rng = random.Random(4711)
    with serving(":raft1", "--data-dir", str(tmp_path)) as service, raw(service) as connection:
        server = server_of(service)
        ExRaft.await_leader(server, LIMIT)
        assert ExRaft.write(server, "/", LIMIT) == 1
        connection.rcvtimeo = 0
        for _ in range(1000):
            connection.send_multipart(spoilt(rng, service))
        for each in parcels(service):
            connection.send(wire.encode(service.node, [each]))
        connection.rcvtimeo = round(LIMIT * 1000)
        connection.send(wire.encode(service.node, [ask(service, 99)]))
        # Who gets an answer to the last one knows that all others were dealt with.
        while not any(
            type(each) in (wire.Answer, wire.Failure) and each.id == 99  # type: ignore[union-attr]
            for each in answers(connection)
        ):
            pass
        assert ExRaft.write(server, "/", LIMIT) == 2
        assert ExRaft.status(server, LIMIT).restarts == 0
        lines = [line["message"] for line in service.log()]
        assert not [line for line in lines if "the node's thread goes on after" in line], lines
        assert any("was dropped" in line for line in lines)


def answers(connection: zmq.Socket[bytes]) -> list[wire.Parcel]:
    try:
        return wire.decode(b"".join(connection.recv_multipart())).parcels
    except wire.Incompatible:
        return []


def test_strangers_are_closed_out_and_cost_nothing() -> None:
    with serving(":raft1") as service:
        server = server_of(service)
        ExRaft.await_leader(server, LIMIT)
        before = resident(service)
        host, port = service.node.split(":")
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15 + 32)
        giant = b"\x06" + struct.pack(">Q", 1 << 30)
        says = [b"", b"GET / HTTP/1.1\r\n\r\n", greeting, greeting + giant + bytes(100_000)]
        strangers = []
        for number in range(200):
            stranger = socket.create_connection((host, int(port)))
            strangers.append(stranger)
            try:
                stranger.sendall(says[number % len(says)])
            except OSError:
                # It was closed before all was said.
                continue
        assert ExRaft.write(server, "/", LIMIT) == 1
        for stranger in strangers:
            stranger.settimeout(LIMIT)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionError:
                continue
        assert ExRaft.write(server, "/", LIMIT) == 2
        assert resident(service) - before < 20 << 20
        for stranger in strangers:
            stranger.close()


def resident(service: Service) -> int:
    """Bytes of memory that its process has."""
    pages = Path(f"/proc/{service._process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# Being a node.


def test_a_node_is_not_started_while_servers_run() -> None:
    ExRaft.start_server(KeyValueStore, {}, name=":raft1")
    with pytest.raises(NodeError, match=r"start_node while servers run \(:raft1\)"):
        distribution.start_node(free_nodes()[0])
    ExRaft.stop_server(":raft1")


def test_a_bare_name_means_this_node() -> None:
    [me] = free_nodes()
    assert distribution.start_node(me) == me == node()
    ExRaft.start_server(KeyValueStore, {}, name=":raft1")
    assert ExRaft.await_leader(":raft1", LIMIT) == (":raft1", me)
    assert ExRaft.write((":raft1", me), ("put", 1, 2), LIMIT) is not None
    with pytest.raises(NodeError, match="stop_node while servers run"):
        distribution.stop_node()
    with pytest.raises(NodeError, match=f"is the node {me} already"):
        distribution.start_node(me)
    ExRaft.stop_server(":raft1")
    distribution.stop_node()
    assert node() == "nonode@nohost"


def test_a_spec_from_before_the_node_is_refused() -> None:
    spec = KeyValueStore.child_spec({}, name=":raft1")
    distribution.start_node(free_nodes()[0])
    with pytest.raises(ExRaftError, match="start_node first"):
        Supervisor.start([spec], strategy="one_for_one")


def test_a_place_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        name = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NodeError, match=f"can't listen on {name}"):
            distribution.start_node(name)
    assert node() == "nonode@nohost"


def test_without_a_cookie_nobody_else_is_listened_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("EXRAFT_COOKIE")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NodeError, match="no cookie to keep strangers out"):
        distribution.start_node("192.0.2.1:7001")
    distribution.start_node(free_nodes()[0])
    assert "listens on loopback only" in caplog.text


def test_a_call_to_what_is_no_node_says_how_one_is_written() -> None:
    with pytest.raises(NodeUnreachable, match="'shop@host' is no address") as raised:
        ExRaft.ping((":raft1", "shop@host"))
    assert not maybe_applied(raised.value)
    _: Any = raised
