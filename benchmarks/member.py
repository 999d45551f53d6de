"""A process that is one member of a cluster: `python -m benchmarks.member MODULE SETTINGS`.

Takes orders from standard input and answers on standard output, a JSON object a line; it ends with
its input, so that nothing outlives who started it. Must not know which kind of member it is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Protocol

from benchmarks.measure import blocking, outage, pipelined


class Member(Protocol):
    """What is asked of every kind; the functions are a client in the member's own process."""

    refused: type[Exception]
    """What `write` raises when there is no leader."""

    def leads(self) -> bool: ...

    def write(self) -> object: ...

    def write_async(self) -> Any: ...

    def wait(self, handle: Any) -> object:
        """Until the write is acknowledged that `write_async` gave a handle on."""


def serve(member: Member, hear: Callable[[], Any], say: Callable[[Any], None]) -> None:
    """Do as told, one order after another, for ever."""
    say("ready")
    while True:
        match hear():
            case ["leads"]:
                say(member.leads())
            case ["blocking", threads, seconds]:
                say(asdict(blocking(member.write, threads)(seconds)))
            case ["pipelined", outstanding, seconds]:
                measured = pipelined(member.write_async, member.wait, outstanding=outstanding)
                say(asdict(measured(seconds)))
            case ["outage"]:

                def fault() -> None:
                    say("strike")
                    assert hear() == ["struck"]

                say(outage(member.write, member.refused, fault))
            case other:
                raise ValueError(f"there is no order {other!r}")


def main(module: str, settings: str) -> None:
    orders: SimpleQueue[Any] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    member: Member = import_module(module).member(**json.loads(settings))
    serve(member, orders.get, lambda answer: print(json.dumps(answer), flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
