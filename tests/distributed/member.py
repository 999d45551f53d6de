"""A process of a cluster: a node with one server, which does what its pipe says.

Knows how to start both, and how to ask them. Must not know what is done to it, and why.

Started by `tests.distributed.cluster`, with the cookie in the environment. A line on standard input
is a request in JSON, `{"id": 1, "do": "status", ...}`; a line on standard output is an answer,
`{"id": 1, "is": ...}` or `{"id": 1, "failed": TYPE, "says": TEXT, "maybe_applied": BOOL}`. Requests
are served side by side. The process ends when its standard input does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import exraft
from exraft import ExRaft, Peer
from tests.stress.ledger import Ledger


def say(answer: Mapping[str, Any]) -> None:
    """One line, whole, at once."""
    os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def read_hosts(hosts: Mapping[str, str]) -> None:
    """Have this process find these hosts at these addresses, as /etc/hosts would."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> Any:
        return ask(hosts.get(host, host), *args, **named)

    socket.getaddrinfo = getaddrinfo


def speak(version: int) -> None:
    """Be of a release whose protocol has another number."""
    from exraft.nodes import wire

    wire.PROTOCOL = version  # type: ignore[misc]
    wire._PREFIX = bytes((wire._MARK, version))  # type: ignore[misc]


class Served:
    """What can be asked of this process."""

    def __init__(self, me: Peer) -> None:
        self._me = me
        self._words: dict[str, Callable[[dict[str, Any]], Any]] = {
            "status": self._status,
            "node": self._node,
            "read": self._read,
            "write": self._write,
            "client": self._client,
        }

    def serve(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            answer["is"] = self._words[request["do"]](request)
        except Exception as error:
            answer |= {
                "failed": type(error).__name__,
                "says": str(error),
                "maybe_applied": exraft.maybe_applied(error),
            }
        say(answer)

    def _status(self, request: dict[str, Any]) -> dict[str, Any]:
        status = ExRaft.status(self._me, request["timeout"])
        return {
            "role": status.role,
            "term": status.term,
            "leader": status.leader,
            "last_index": status.last_index,
            "applied_index": status.applied_index,
            "snapshot_index": status.snapshot_index,
            "restarts": status.restarts,
            "fault": status.fault,
        }

    def _node(self, request: dict[str, Any]) -> dict[str, Any]:
        return dataclasses.asdict(exraft.node_status())

    def _read(self, request: dict[str, Any]) -> Any:
        """A read that the server confirms with its quorum."""
        return ExRaft.read(self._me, request["query"], request["timeout"])

    def _write(self, request: dict[str, Any]) -> Any:
        return ExRaft.write(self._me, tuple(request["command"]), request["timeout"])

    def _client(self, request: dict[str, Any]) -> Any:
        """A write by way of any of these servers."""
        client = ExRaft.client(tuple(server) for server in request["servers"])
        return client.write(tuple(request["command"]), request["timeout"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.distributed.member")
    parser.add_argument("name")
    parser.add_argument("node")
    parser.add_argument("--bind")
    parser.add_argument("--founders", type=json.loads, required=True, help="a list of pairs")
    parser.add_argument("--options", type=json.loads, default={}, help="of the server")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--hosts", type=json.loads, default={}, help="where hosts are found")
    parser.add_argument("--protocol", type=int)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    read_hosts(given.hosts)
    if given.protocol is not None:
        speak(given.protocol)
    node = exraft.start_node(given.node, bind=given.bind)
    ExRaft.start_server(
        Ledger,
        name=given.name,
        initial_config=[tuple(each) for each in given.founders],
        data_dir=given.data_dir,
        **given.options,
    )
    served = Served(Peer(given.name, node))
    say({"id": 0, "is": "ready"})
    for line in sys.stdin:
        threading.Thread(target=served.serve, args=(json.loads(line),), daemon=True).start()
    ExRaft.stop_server(given.name)
    exraft.stop_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
