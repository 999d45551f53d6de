"""What a road between two processes costs: a message there and back over ZeroMQ, encrypted.

Knows two sockets, and `python -m benchmarks.wire` is the far end. Must not know exraft, so that a
slow exraft cannot lower the floor.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from benchmarks.measure import DEADLINE, Measured, blocking
from benchmarks.processes import Process, with_cpu_of

PING_PONG = "nodes.ping-pong"
"""200 bytes from one process to another and back, between ROUTER and DEALER with CURVE."""

SIZE = 200


@contextmanager
def running() -> Iterator[dict[str, Measured]]:
    """The floor by its name, ready to be measured beside other work."""
    with Process("benchmarks.wire") as far, zmq.Context() as context:
        port, key = far.hear()
        near: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        near.linger = 0
        near.rcvtimeo = int(DEADLINE * 1000)
        near.curve_publickey, near.curve_secretkey = zmq.curve_keypair()
        near.curve_serverkey = key.encode()
        near.connect(f"tcp://127.0.0.1:{port}")
        message = bytes(SIZE)

        def ping() -> None:
            near.send(message)
            near.recv()

        try:
            yield {PING_PONG: with_cpu_of([far.pid], blocking(ping))}
        finally:
            near.close()


def echo() -> None:
    """Send back what comes, until standard input ends."""

    def listen() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    socket: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    public, socket.curve_secretkey = zmq.curve_keypair()
    socket.curve_server = True
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(json.dumps([port, public.decode()]), flush=True)
    while True:
        socket.send_multipart(socket.recv_multipart())


if __name__ == "__main__":
    echo()
