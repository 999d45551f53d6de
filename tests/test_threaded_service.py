"""The box office of the examples, under requests while everything in its tree crashes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import pykka
import pytest

from examples import threaded_service
from examples.threaded_service import SERVERS, Clerk, Web, request, service
from exraft import ActorRegistry, ExRaft, ExRaftError
from exraft.actors import kill
from exraft.supervision import Supervisor
from tests.helpers import LIMIT, Gate, end_of, in_thread, outcome, wait_until

STOCK = 10_000

A = TypeVar("A", bound=pykka.Actor)
T = TypeVar("T")


@pytest.fixture
def port() -> Iterator[int]:
    """A box office that is open, with 10 000 tickets."""
    with service(stock=STOCK) as port:
        yield port


def order(port: int, key: str, count: int = 1) -> tuple[int, Any]:
    return request(port, "POST", f"/tickets/{count}", key)


class Customers:
    """Threads that buy as long as the block lasts, and never repeat an order."""

    def __init__(self, port: int, number: int = 4) -> None:
        self._port = port
        self._closing = False
        self._changed = threading.Condition()
        self._begun = 0
        self._answers: list[tuple[str, Any]] = []
        self._threads = [threading.Thread(target=self._buy, args=(n,)) for n in range(number)]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a customer got no answer"

    def await_more(self) -> None:
        """Wait until each has been served twice: so orders that begin now were answered, too."""
        with self._changed:
            goal = len(self._answers) + 2 * len(self._threads)
            assert self._changed.wait_for(lambda: len(self._answers) >= goal, LIMIT)

    def answers(self) -> dict[str, Any]:
        """What came of each order, by its key: ticket numbers, or how it failed."""
        with self._changed:
            return dict(self._answers)

    def _buy(self, customer: int) -> None:
        number = 0
        while not self._closing:
            number += 1
            key = f"customer {customer}, order {number}"
            answer = outcome(lambda: order(self._port, key, 1 + number % 3))  # noqa: B023
            if isinstance(answer, tuple) and answer[0] == 201:
                answer = answer[1]["tickets"]
            with self._changed:
                self._answers.append((key, answer))
                self._changed.notify_all()


# Who is looked for may be between two lives: all of these wait for the next one.


def patiently(call: Callable[[], T]) -> T:
    """What a call returns when it finds somebody who answers."""
    returned: list[T] = []

    def again() -> bool:
        with suppress(ExRaftError):
            returned.append(call())
        return bool(returned)

    wait_until(again, "somebody answers")
    return returned[0]


def named(name: str) -> pykka.ActorRef[Any]:
    wait_until(lambda: ActorRegistry.get_by_name(name), f"there is a {name}")
    return ActorRegistry.get_by_name(name) or named(name)


def some(actor_class: type[A]) -> list[pykka.ActorRef[A]]:
    wait_until(lambda: pykka.ActorRegistry.get_by_class(actor_class), f"there is a {actor_class}")
    return pykka.ActorRegistry.get_by_class(actor_class) or some(actor_class)


def clerks() -> list[pykka.ActorRef[Clerk]]:
    return some(Clerk)


def web() -> pykka.ActorRef[Web]:
    return some(Web)[0]


def leader() -> str:
    return patiently(lambda: ExRaft.await_leader(SERVERS[0], LIMIT)).name


def follower() -> str:
    return next(name for name in SERVERS if name != leader())


def supervisor_of(server: str) -> pykka.ActorRef[Any]:
    return named(f":ExRaft.Supervisor.{server[1:]}")


def stop_until_its_supervisor_gives_up(server: str) -> None:
    """It is started again by the tree then, and is the member that it was."""
    before = patiently(lambda: ExRaft.status(server, LIMIT))
    supervisor = supervisor_of(server)
    gave_up = end_of(supervisor)

    def stop_once_more() -> bool:
        named(server).stop()
        return gave_up.is_set()

    wait_until(stop_once_more, f"the supervisor of {server} gives up")
    after = patiently(lambda: ExRaft.status(server, LIMIT))
    assert supervisor_of(server) is not supervisor
    assert after.store_id == before.store_id
    assert after.last_index >= before.last_index
    assert not after.standby


CRASHES: dict[str, list[Callable[[], object]]] = {
    "clerks": [
        lambda: clerks()[0].tell("this is no order"),
        lambda: clerks()[0].stop(),
        lambda: kill(clerks()[0]),
        lambda: [clerk.stop() for clerk in clerks()],
        lambda: named(":clerks").stop(),
        lambda: kill(named(":clerks")),
    ],
    "raft servers": [
        lambda: named(follower()).stop(),
        lambda: kill(named(follower())),
        lambda: named(leader()).stop(),
        lambda: kill(named(leader())),
        lambda: [named(name).stop() for name in SERVERS],
    ],
    "supervisors of raft servers": [
        lambda: kill(supervisor_of(leader())),
        lambda: stop_until_its_supervisor_gives_up(follower()),
        lambda: stop_until_its_supervisor_gives_up(leader()),
        lambda: named(":raft").stop(),
        lambda: kill(named(":raft")),
    ],
    "web servers": [
        lambda: web().tell(OSError("crashed on purpose")),
        lambda: web().stop(),
        lambda: kill(web()),
    ],
}


@pytest.mark.parametrize("who", CRASHES)
def test_no_request_fails_and_every_order_counts_once_while_these_crash(
    who: str, port: int
) -> None:
    with Customers(port) as customers:
        customers.await_more()
        for crash in CRASHES[who]:
            crash()
            customers.await_more()
    check_books(port, customers)


def test_no_request_fails_when_everything_crashes_at_once(port: int) -> None:
    with Customers(port) as customers:
        customers.await_more()
        named(":raft").stop()
        web().tell(OSError("crashed on purpose"))
        kill(named(":clerks"))
        customers.await_more()
    check_books(port, customers)


def check_books(port: int, customers: Customers) -> None:
    answers = customers.answers()
    failed = {key: answer for key, answer in answers.items() if not isinstance(answer, list)}
    assert failed == {}
    status, books = request(port, "GET", "/tickets")
    assert (status, books["orders"]) == (200, answers)
    sold = sorted(number for numbers in answers.values() for number in numbers)
    assert sold == list(range(1, STOCK - books["left"] + 1))


def test_a_repeated_order_is_answered_alike_and_counts_once(port: int) -> None:
    first = order(port, "ann", 2)
    assert first == (201, {"order": "ann", "tickets": [1, 2]})
    web().stop()
    assert order(port, "ann", 2) == first
    assert order(port, "bob") == (201, {"order": "bob", "tickets": [3]})


def test_the_cluster_refuses_what_can_not_be_met_and_keys_that_are_taken() -> None:
    with service(stock=3) as port:
        assert order(port, "ann", 2)[0] == 201
        assert order(port, "bob", 2)[0] == 409
        assert order(port, "ann", 1)[0] == 409
        assert request(port, "GET", "/tickets")[1] == {"left": 1, "orders": {"ann": [1, 2]}}


BAD_REQUESTS = [
    ("POST", "/tickets/2", None, 400),
    ("POST", "/tickets/2", "k" * 101, 400),
    ("POST", "/tickets/0", "ann", 400),
    ("POST", "/tickets/101", "ann", 400),
    ("POST", "/tickets/-1", "ann", 400),
    ("POST", "/tickets/two", "ann", 400),
    ("POST", f"/tickets/{'9' * 5000}", "ann", 400),
    ("POST", "/tickets", "ann", 404),
    ("GET", "/tickets/2", None, 404),
    ("GET", "/", None, 404),
    ("GET", "//[", None, 404),
    ("DELETE", "/tickets", None, 501),
]


def test_bad_requests_are_refused_with_a_reason_in_json(port: int) -> None:
    for method, path, key, status in BAD_REQUESTS:
        answered, body = request(port, method, path, key)
        assert (answered, set(body)) == (status, {"error"}), (method, path, key)


def test_what_is_no_http_is_refused_in_json(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        connection.sendall(b"is anybody there, please?\r\n\r\n")
        assert json.loads(connection.makefile("rb").read())["error"].startswith("Bad request")


def test_an_order_that_no_cluster_takes_is_told_so_and_may_be_repeated(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SERVERS:
        Supervisor.terminate_child(":raft", name)
    monkeypatch.setattr(threaded_service, "TRY", 0.1)
    monkeypatch.setattr(threaded_service, "PATIENCE", 0.0)
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    connection.request("POST", "/tickets/2", headers={"Idempotency-Key": "ann"})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert body["maybe_applied"] is False
    assert request(port, "GET", "/tickets")[0] == 503

    monkeypatch.undo()
    for name in SERVERS:
        Supervisor.restart_child(":raft", name)
    assert order(port, "ann", 2) == (201, {"order": "ann", "tickets": [1, 2]})


def test_an_order_whose_clerk_gets_no_answer_may_have_been_taken_and_may_be_repeated(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Clerk.on_receive

    def write_and_hear_nothing(clerk: Clerk, message: Any) -> Any:
        write(clerk, message)
        raise pykka.Timeout("nobody says whether it was written")

    monkeypatch.setattr(Clerk, "on_receive", write_and_hear_nothing)
    monkeypatch.setattr(threaded_service, "PATIENCE", 0.0)
    status, body = order(port, "ann", 2)
    assert (status, body["maybe_applied"]) == (503, True)
    monkeypatch.undo()
    assert order(port, "ann", 2) == (201, {"order": "ann", "tickets": [1, 2]})
    assert request(port, "GET", "/tickets")[1]["left"] == STOCK - 2


def test_health_shows_the_tree_and_whether_orders_are_taken(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: request(port, "GET", "/health")[0] == 200, "it is ready")
    kill(clerks()[0])
    wait_until(lambda: len(clerks()) == threaded_service.CLERKS, "the clerk is back")
    status, body = request(port, "GET", "/health")
    assert (status, body["ready"], body["left"]) == (200, True, STOCK)
    assert [child["id"] for child in body["tree"]["children"]] == [":raft", ":clerks", "web"]
    pool = body["tree"]["children"][1]["children"]
    assert {child["state"] for child in pool} == {"running"}
    assert sum(child["restarts"] for child in pool) == 1

    monkeypatch.setattr(threaded_service, "GLANCE", 0.1)
    for name in SERVERS[:2]:
        Supervisor.terminate_child(":raft", name)
    wait_until(lambda: request(port, "GET", "/health")[0] == 503, "it is not ready")


def test_a_stop_lets_a_request_in_flight_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    write = Clerk.on_receive

    def hesitate_and_write(clerk: Clerk, message: Any) -> Any:
        gate.pass_through()
        return write(clerk, message)

    monkeypatch.setattr(Clerk, "on_receive", hesitate_and_write)
    answers: list[Any] = []
    office = service()
    port = office.__enter__()
    serving = web()
    with in_thread(lambda: answers.append(order(port, "ann", 2))):
        gate.await_someone()
        with in_thread(lambda: office.__exit__(None, None, None)):
            wait_until(lambda: not serving.is_alive(), "the web server is told to stop")
            assert ActorRegistry.get_by_name(":clerks") is not None
            gate.open()
    assert answers == [(201, {"order": "ann", "tickets": [1, 2]})]


def test_a_stop_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())
    with service() as port:
        order(port, "ann")
        kill(web())
        order(port, "bob")
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []
    wait_until(lambda: set(threading.enumerate()) <= before, "all threads have ended")
    with service(port=port) as again:
        assert again == port


def test_who_runs_it_is_told_when_the_tree_gives_up() -> None:
    gave_up = threading.Event()

    def stop_the_clerks() -> bool:
        ref = ActorRegistry.get_by_name(":clerks")
        if ref is not None:
            ref.stop()
        return gave_up.is_set()

    with service(on_end=gave_up.set):
        wait_until(stop_the_clerks, "the tree gives up")
    assert ActorRegistry.names() == []


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_it_in_order(number: signal.Signals) -> None:
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-m", "examples.threaded_service"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        port = int(program.stdout.readline().split(". ")[0].rpartition(":")[2])
        assert order(port, "ann")[0] == 201
        program.send_signal(number)
        assert program.stdout.readlines()[-1] == f"closed: {number.name}\n"
        assert program.stderr.read() == ""
        assert program.wait(LIMIT) == 0
