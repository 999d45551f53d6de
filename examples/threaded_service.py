"""A box office over HTTP: its web server, its workers and three raft servers hang in one tree.

    :service              one_for_one: they find each other by name, so each restarts alone
    ├── :raft             the raft servers, which keep what was sold, each with its supervisor
    ├── :clerks           the workers: Pykka actors as anybody writes them
    └── web               the web server: the last to start, and so the first to stop

What it promises, whatever crashes, as long as the tree is not told to stop:

- No request fails because a clerk, a raft server, or one of their supervisors crashes. Whoever
  waited for the dead asks again, as each order has a key of its buyer's and counts once.
- None fails because the web server crashes either. What it has accepted it finishes before its
  successor starts. New connections wait meanwhile: the socket that listens is an argument of the
  child, and outlives it.
- Where that does not help within `PATIENCE`, as a majority of the raft servers is gone, the answer
  is 503. It says whether the order may have been taken; it may be repeated in either case.
- A stop lets every accepted request finish. Connections that nobody has accepted are closed unread.

Run it: python examples/threaded_service.py, with --demo to see it crash.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

import pykka

from exraft import ActorRegistry, Client, ExRaft, ExRaftError, StateMachine, maybe_applied
from exraft.supervision import ChildSpec, Node, Supervisor, SupervisorNotFound, print_tree, tree

SERVERS = [":tickets1", ":tickets2", ":tickets3"]
CLERKS = 4
MOST = 100
"""Tickets that one order may ask for."""
TRY = 2.0
"""Seconds that one try to get an answer may take."""
PATIENCE = 20.0
"""Seconds after which no further try is made."""
GLANCE = 1.0
"""Seconds that a look at the health of the box office may wait."""
POLL = 0.05
"""Seconds after which the web server looks whether its actor still lives."""

logger = logging.getLogger(__name__)


# What the cluster keeps.


class Refused(Exception):
    """The order can't be met; the cluster says so, and will say it again."""


@dataclass
class Sales:
    left: int
    sold: int = 0
    orders: dict[str, list[int]] = field(default_factory=dict)
    """The numbers of the tickets of each order, by its key."""


class Tickets(StateMachine):
    """The command is `(key, count)`, answered with ticket numbers; there is one query, `None`."""

    def init(self, init_arg: int) -> Sales:
        return Sales(left=init_arg)

    def handle_write(self, command: tuple[str, int], state: Sales) -> tuple[list[int], Sales]:
        key, wanted = command
        if key not in state.orders:
            if wanted > state.left:
                raise Refused(f"{wanted} tickets are wanted, and {state.left} are left")
            state.orders[key] = list(range(state.sold + 1, state.sold + wanted + 1))
            state.sold += wanted
            state.left -= wanted
        elif len(state.orders[key]) != wanted:
            raise Refused(f"{key} is the key of another order, of {len(state.orders[key])} tickets")
        return state.orders[key], state

    def handle_read(self, query: None, state: Sales) -> dict[str, Any]:
        return {"left": state.left, "orders": state.orders}


# Who takes the orders.


class Clerk(pykka.ThreadingActor):
    """Writes one order after the other into the cluster. It knows nothing of supervision."""

    def __init__(self, cluster: Client) -> None:
        super().__init__()
        self._cluster = cluster

    def on_receive(self, message: tuple[str, int]) -> Any:
        key, wanted = message
        return self._cluster.write((key, wanted), TRY)


def ask_a_clerk(key: str, wanted: int) -> Any:
    # Looked up each time: after a restart it is another actor.
    clerks = pykka.ActorRegistry.get_by_class(Clerk)
    if not clerks:
        raise pykka.ActorDeadError("no clerk is there")
    # Longer than a clerk may take, who knows better what went wrong.
    return random.choice(clerks).ask((key, wanted), block=True, timeout=TRY + 5.0)


class NoAnswer(Exception):
    """Nobody answered in time."""

    def __init__(self, why: object, maybe: bool) -> None:
        super().__init__(f"the box office is not to be reached: {why}")
        self.maybe = maybe
        """Whether what was asked for may have been done."""


def insist(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer: whoever was asked may die. Asking twice must be harmless."""
    deadline = monotonic() + PATIENCE
    maybe = False
    while True:
        try:
            return ask()
        except (ExRaftError, pykka.ActorDeadError, pykka.Timeout) as error:
            maybe = maybe or maybe_applied(error)
            if monotonic() > deadline:
                raise NoAnswer(error, maybe) from error
        sleep(0.01)


# The web server.


def whole(text: str) -> int:
    """The number that a text is, 0 if it is none."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


class Handler(BaseHTTPRequestHandler):
    """Answers one request, in a thread of its own, with JSON."""

    server: Server
    timeout = 5.0  # For who connects and says nothing: a stop waits for that too.

    def respond(self) -> None:
        # Nobody needs a body, but with a rest unread a connection may lose the answer.
        self.rfile.read(min(whole(self.headers.get("Content-Length", "")), 1 << 16))
        try:
            status, body = self.route(self.path.partition("?")[0].strip("/").split("/"))
        except Refused as error:
            status, body = 409, {"error": str(error)}
        except (NoAnswer, ExRaftError) as error:
            taken = isinstance(error, NoAnswer) and error.maybe
            advice = "repeat it, an order with the same Idempotency-Key"
            status, body = 503, {"error": str(error), "maybe_applied": taken, "advice": advice}
        self.answer(status, body)

    do_GET = do_POST = respond

    def route(self, path: list[str]) -> tuple[int, dict[str, Any]]:
        key = self.headers.get("Idempotency-Key", "")
        match self.command, path:
            case "GET", ["tickets"]:
                return 200, insist(lambda: self.server.cluster.read(None, TRY))
            case "GET", ["health"]:
                return self.health()
            case "POST", ["tickets", wanted] if not 1 <= whole(wanted) <= MOST:
                return 400, {"error": f"an order is for 1 to {MOST} tickets, not {wanted}"}
            case "POST", ["tickets", _] if not 1 <= len(key) <= 100:
                return 400, {"error": "an order needs an Idempotency-Key, of 1 to 100 letters"}
            case "POST", ["tickets", wanted]:
                numbers = insist(lambda: ask_a_clerk(key, whole(wanted)))
                return 201, {"order": key, "tickets": numbers}
        return 404, {"error": "try GET /tickets, GET /health or POST /tickets/<number>"}

    def health(self) -> tuple[int, dict[str, Any]]:
        """Ready is who can tell how many tickets are left."""
        # While the tree stops, it waits for this request: so this one must not wait for it.
        health: dict[str, Any] = {"tree": as_json(tree(":service", timeout=GLANCE))}
        try:
            left = self.server.cluster.read(None, timeout=GLANCE)["left"]
        except ExRaftError as error:
            return 503, health | {"ready": False, "error": str(error)}
        return 200, health | {"ready": True, "left": left}

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself."""
        self.answer(code, {"error": message or self.responses[code][0]})

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


class Server(ThreadingHTTPServer):
    """A stdlib web server on a socket that listens already."""

    daemon_threads = False  # So that closing it waits for the requests in flight.

    def __init__(self, listener: socket.socket, cluster: Client) -> None:
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        # Closing the duplicate leaves the original listening, for the next one.
        self.socket = listener.dup()
        self.cluster = cluster


class Web(pykka.ThreadingActor):
    """Holds the web server, whose thread serves as long as this actor lives."""

    def __init__(self, listener: socket.socket, cluster: Client) -> None:
        super().__init__()
        # A daemon: a program that forgets to stop its tree ends all the same, and that stops it.
        self._thread = threading.Thread(target=self._serve, args=(listener, cluster), daemon=True)

    def on_start(self) -> None:
        self._thread.start()

    def on_receive(self, message: BaseException) -> None:
        raise message

    # By now the actor counts as dead, so its thread ends when the requests in flight are answered.
    # Until then the supervisor takes neither the next step of a stop nor that of a restart.

    def on_stop(self) -> None:
        self._thread.join()

    def on_failure(self, *_: Any) -> None:
        self._thread.join()

    def _serve(self, listener: socket.socket, cluster: Client) -> None:
        try:
            with Server(listener, cluster) as server:
                while self.actor_ref.is_alive():
                    server.handle_request()
        except Exception as error:
            # An actor must not outlive the thread that does its work.
            self.actor_ref.tell(error)


# The tree.


def children(listener: socket.socket, stock: int) -> list[ChildSpec]:
    """Who is in it. They start in this order, and stop in the reverse."""
    cluster = ExRaft.client(SERVERS)
    options: dict[str, Any] = {"initial_config": SERVERS, "max_election_timeout": 2.0}
    servers = [Tickets.child_spec(stock, name=name, **options) for name in SERVERS]
    clerks = [
        ChildSpec(id=f"clerk {number}", start=(Clerk, (cluster,), {}))
        for number in range(1, CLERKS + 1)
    ]
    return [
        Supervisor.child_spec(servers, name=":raft"),
        # Bad orders may take several with them at once: that is no reason to give up.
        Supervisor.child_spec(clerks, name=":clerks", max_restarts=5 * CLERKS),
        # Longer than a request takes whose sender means well.
        ChildSpec(id="web", start=(Web, (listener, cluster), {}), shutdown=2 * PATIENCE),
    ]


@contextmanager
def service(
    port: int = 0, stock: int = 10_000, on_end: Callable[[], object] | None = None
) -> Iterator[int]:
    """Run the box office, on any free port if it is 0; gives the port.

    The tree gives up when too much crashes at once; `on_end` is called when it has ended.
    """
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        # Handed down to the servers: they wait no longer for a connection.
        listener.settimeout(POLL)
        root = Supervisor.start(
            children(listener, stock), max_restarts=10, name=":service", on_end=on_end
        )
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(SupervisorNotFound):  # It has given up.
                Supervisor.stop(root)


def as_json(node: Node) -> dict[str, Any]:
    """What of a tree can be said in JSON."""
    about = {"id": node.id, "state": node.state, "restarts": node.restarts, "uptime": node.uptime}
    return about | {"children": [as_json(child) for child in node.children]}


def serve(port: int) -> int:
    """Run it until Ctrl-C or SIGTERM; return the exit status."""
    news: SimpleQueue[str] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: news.put(signal.Signals(number).name))
    with service(port, on_end=partial(news.put, "gave up")) as port:
        url = f"http://127.0.0.1:{port}"
        print(f"The box office is open at {url}. Ctrl-C closes it. Try:")
        print(f"  curl -X POST -H 'Idempotency-Key: ann 1' {url}/tickets/2   # and once more")
        print(f"  curl {url}/tickets")
        print(f"  curl {url}/health", flush=True)
        why = news.get()
    print(f"closed: {why}")
    return int(why == "gave up")


# A demonstration.


def request(port: int, method: str, path: str, key: str | None = None) -> tuple[int, Any]:
    """Make a request; return the status and the body of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={"Idempotency-Key": key} if key else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def named(name: str) -> pykka.ActorRef[Any]:
    ref = ActorRegistry.get_by_name(name)
    assert ref is not None, name
    return ref


CRASHES: dict[str, Callable[[], object]] = {
    "a clerk": lambda: pykka.ActorRegistry.get_by_class(Clerk)[0].tell("this is no order"),
    "the leader": lambda: named(ExRaft.await_leader(SERVERS[0]).name).stop(),
    "a raft server's supervisor": lambda: named(":ExRaft.Supervisor.tickets1").stop(),
    "the web server": lambda: pykka.ActorRegistry.get_by_class(Web)[0].tell(OSError("crashed")),
}


def demo() -> int:
    """Let threads buy while everything crashes; return the exit status."""
    answers: SimpleQueue[tuple[str, int, Any]] = SimpleQueue()
    closing = threading.Event()

    def customer(name: str) -> None:
        keys = (f"{name} {number}" for number in count(1))
        while not closing.is_set():
            key = next(keys)
            answers.put((key, *request(port, "POST", "/tickets/2", key)))

    with service() as port:
        customers = [threading.Thread(target=customer, args=(name,)) for name in ("ann", "bob")]
        for thread in customers:
            thread.start()
        heard = [answers.get(timeout=60) for _ in range(50)]
        for what, crash in CRASHES.items():
            print(f"{len(heard)} orders were answered. Now {what} crashes:")
            crash()
            heard += [answers.get(timeout=60) for _ in range(50)]
        closing.set()
        for thread in customers:
            thread.join()
        heard += [answers.get() for _ in range(answers.qsize())]
        print_tree(":service")
        orders = request(port, "GET", "/tickets")[1]["orders"]
    failed = [answer for answer in heard if answer[1] != 201]
    once = orders == {key: body["tickets"] for key, status, body in heard if status == 201}
    print(f"{len(heard)} orders were answered, {len(failed)} of them failed: {failed}")
    print(f"the others are in the books once: {once}")
    return int(bool(failed) or not once)


def main() -> int:
    parser = argparse.ArgumentParser(description="A box office over HTTP, in a supervision tree.")
    parser.add_argument("--port", type=int, default=0, help="where it listens (any free port)")
    parser.add_argument("--demo", action="store_true", help="buy, crash, and end")
    options = parser.parse_args()
    if not options.demo:
        return serve(options.port)
    # What supervisors report, and not the tracebacks of their children.
    reports = logging.StreamHandler(sys.stdout)
    reports.addFilter(logging.Filter("exraft.supervision"))
    logging.basicConfig(handlers=[reports], format="  %(message)s")
    return demo()


if __name__ == "__main__":
    sys.exit(main())
