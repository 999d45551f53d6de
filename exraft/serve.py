"""One server in a process of its own, until it is told to end: `python -m exraft serve`.

Knows the order in which a node and a server start and end, what is said meanwhile, and the exit
status: 0 after an orderly end, 1 when something failed, 2 when what was asked for makes no sense.
Must not know how nodes and servers work.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, TypeAlias

from exraft.actors.watching import Down, monitor
from exraft.api import ExRaft
from exraft.distribution import node_status, start_node, stop_node
from exraft.errors import (
    CallTimeout,
    ExRaftError,
    NotSerialisable,
    OptionError,
)
from exraft.logs import Style, fields, set_up
from exraft.machine import MachineFactory, check_machine
from exraft.names import Peer
from exraft.spelling import read_node, read_server, write_server

LOOK = 0.25
"""Seconds between two looks at who leads and which nodes are connected."""
STOP = 20.0
"""Seconds that an orderly end may take; service managers commonly kill after 30."""

logger = logging.getLogger("exraft.serve")

News: TypeAlias = SimpleQueue[signal.Signals | Down]


class Mistake(Exception):
    """What was asked for makes no sense; the message says what would."""


def main(
    machine: str,
    *,
    name: str,
    node: str,
    peers: str | None,
    bind: str | None,
    init: str | None,
    keys: str | None,
    codec: str | None,
    style: Style,
    level: str,
    stop_timeout: float = STOP,
    options: Mapping[str, Any],
) -> int:
    """Serve until SIGTERM or SIGINT, or until it can't go on; return the exit status.

    A second signal ends the process at once, with 128 and its number as the exit status.
    """
    handler = set_up(style, level)
    news: News = SimpleQueue()
    with _told_of_signals(news):
        try:
            factory = _machine(machine)
            init_arg = _init_arg(init)
            node = _node(node)
            options = dict(options) | _founding(peers, name, node)
            _make_room(options.get("data_dir"))
            _open_files()
            start_node(node, bind=bind, keys=keys, codec=codec)
        except (Mistake, ValueError) as error:
            logger.error("%s", error)
            return 2
        except (ExRaftError, OSError) as error:
            return _failed(error, f"the node {node} does not start")
        try:
            return _serve(factory, init_arg, name, options, news, handler, stop_timeout)
        finally:
            stop_node()


def _serve(
    machine: MachineFactory,
    init_arg: object,
    name: str,
    options: Any,
    news: News,
    handler: logging.Handler,
    stop_timeout: float,
) -> int:
    try:
        arguments = () if init_arg is None else (init_arg,)
        supervisor = ExRaft.start_server(machine, *arguments, name=name, **options)
    except (OptionError, NotSerialisable, TypeError, ValueError) as error:
        logger.error("%s", error)
        return 2
    except ExRaftError as error:
        return _failed(error, f"{name} does not start")
    monitor(supervisor, news.put)
    watch = _Watch(name)
    _say_ready(handler, watch.server)
    tell_service_manager("READY=1")
    why = _wait(news, watch)
    tell_service_manager("STOPPING=1")
    if isinstance(why, signal.Signals):
        return _stop(name, why, stop_timeout)
    if why.reason == "normal":
        logger.info("%s was stopped by a call", name, extra=fields(event="stopped"))
        return 0
    logger.critical(
        "%s has died too often, and its supervisor has given up: what it died of is above. This"
        " process ends, so that whoever watches it starts it again. If that does not help, look at"
        " what it has stored: python -m exraft log DIR",
        name,
        extra=fields(event="gave_up"),
    )
    return 1


def _stop(name: str, why: signal.Signals, timeout: float) -> int:
    logger.info("%s: %s stops", why.name, name, extra=fields(event="stopping", signal=why.name))
    try:
        ExRaft.stop_server(name, "shutdown", timeout)
    except CallTimeout:
        logger.error(
            "%s has not stopped within %g s, in which it hands over, ends its side effects and"
            " calls terminate. The process ends all the same",
            name,
            timeout,
        )
        # Its threads may hold up the interpreter's own end.
        logging.shutdown()
        os._exit(1)
    logger.info("%s has stopped", name, extra=fields(event="stopped"))
    return 0


def _failed(error: Exception, what: str) -> int:
    logger.error("%s: %s", what, error, extra=fields(event="failed", error=type(error).__name__))
    return 1


# What is asked for.


def _machine(name: str) -> MachineFactory:
    """The machine that `module:Machine` names."""
    module, _, path = name.partition(":")
    if not module or not path or module.startswith("."):
        raise Mistake(f"{name!r} names no machine: write it like module:Machine")
    try:
        found: Any = import_module(module)
    except (Exception, SystemExit) as error:
        # A module may raise anything while it is imported.
        why = " ".join(str(error).split())
        raise Mistake(
            f"the machine's module {module} can't be imported ({type(error).__name__}: {why});"
            f" it is looked for in {_places()}. The whole traceback: python -c 'import {module}'"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise Mistake(f"{name} names no machine: {module} has no {path}")
        found = getattr(found, part)
    try:
        return check_machine(found)
    except TypeError as error:
        raise Mistake(f"{name}: {error}") from None


def _places() -> str:
    shown = [os.path.abspath(place) for place in sys.path if not place.endswith(".zip")]
    return ", ".join(shown[:1] + [place for place in shown[1:] if "lib/python" not in place])


def _init_arg(text: str | None) -> object:
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise Mistake(f"--init {text!r} is no JSON ({error}): such as '{{}}' or '[1, 2]'") from None
    if value is None:
        raise Mistake("--init null: leave --init out, and the machine's init is given []")
    return value


def _node(text: str) -> str:
    try:
        return read_node(text)
    except ValueError as error:
        raise Mistake(f"--node: {error}") from None


def _founding(peers: str | None, name: str, node: str) -> dict[str, Any]:
    """The founding members, if there are any."""
    if peers is None:
        return {}
    try:
        founders = [read_server(each.strip(), node) for each in peers.split(",") if each.strip()]
    except ValueError as error:
        raise Mistake(f"--peers: {error}") from None
    me = Peer(name, node)
    if me not in founders:
        shown = ", ".join(map(write_server, founders))
        raise Mistake(
            f"--peers names the founding members, and {write_server(me)} is none of {shown}: add"
            " it, there and for all others alike; or, to join a cluster that is there already,"
            " leave --peers out and give --min-majority 2"
        )
    return {"initial_config": founders}


def _make_room(data_dir: object) -> None:
    """What can't be made today may be there tomorrow, such as a disk that is not mounted yet."""
    if data_dir is not None:
        Path(str(data_dir)).mkdir(parents=True, exist_ok=True)


def _open_files() -> None:
    """Let the process have as many files open as it may: connections and segments are such."""
    try:
        import resource
    except ImportError:  # Not on Windows, where there is no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        # On macOS "unlimited" is refused. What there is will mostly do.
        logger.warning("the limit of open files stays at %d: %s", soft, error)


# What it is told.


@contextmanager
def _told_of_signals(news: News) -> Iterator[None]:
    """Put the first SIGTERM or SIGINT into `news`; let the second one end the process."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            # At once: what is stored is safe, and the lock ends with the process.
            os._exit(128 + number)
        heard.append(number)
        news.put(signal.Signals(number))

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _wait(news: News, watch: _Watch) -> signal.Signals | Down:
    """Wait for a signal or the server's end; meanwhile log what changes."""
    while True:
        watch.look()
        try:
            return news.get(timeout=LOOK)
        except Empty:
            continue


# What it says.


def _say_ready(handler: logging.Handler, server: Peer) -> None:
    """One line on standard output, whatever the level, for who has started this process."""
    about = fields(event="ready", node=server.node, name=server.name, pid=os.getpid())
    record = logger.makeRecord(
        logger.name,
        logging.INFO,
        __file__,
        0,
        "ready: %s on %s, pid %d",
        (server.name, server.node, os.getpid()),
        None,
        extra=about,
    )
    print(handler.format(record), flush=True)


class _Watch:
    """Logs who leads, and which nodes are connected, whenever that has changed."""

    def __init__(self, name: str) -> None:
        self.server = ExRaft.status(name, timeout=None).server
        self._led: object = None
        self._links: dict[str, str] = {}

    def look(self) -> None:
        try:
            status = ExRaft.status(self.server, timeout=1.0)
        except ExRaftError as error:
            # Between two lives, or busy; when it has ended for good, its supervisor says so.
            logger.debug("%s says nothing of itself: %s", self.server.name, error)
            return
        led = (status.role, status.leader, status.term if status.leader else None)
        if led != self._led:
            self._led = led
            leader = None if status.leader is None else write_server(status.leader)
            logger.info(
                "%s is %s in term %d, %s",
                self.server.name,
                status.role,
                status.term,
                "and knows no leader"
                if leader is None
                else "led by itself"
                if status.leader == self.server
                else f"led by {leader}",
                extra=fields(event="role", role=status.role, term=status.term, leader=leader),
            )
        links = node_status().links
        for node in sorted(links.keys() | self._links.keys()):
            state = links.get(node, "gone")
            if state != self._links.get(node):
                logger.info(
                    "%s is %s",
                    node,
                    state if state in ("up", "gone") else f"not connected: {state}",
                    extra=fields(event="link", node=node, state=state),
                )
        self._links = dict(links)


def tell_service_manager(message: str, *, environment: Mapping[str, str] = os.environ) -> None:
    """Send systemd a word, if it waits for one (`sd_notify(3)`)."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return
    # An "@" stands for the null byte with which an abstract name begins.
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(message.encode(), path)
    except OSError as error:
        logger.warning(
            "the service manager at %s could not be told %s: %s", address, message, error
        )
