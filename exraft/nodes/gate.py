"""Who may come in: at each handshake the keys are asked, and nobody else is let in.

Knows how ZeroMQ asks (ZAP, https://rfc.zeromq.org/spec/27/) and how a socket is made to speak CURVE
(https://rfc.zeromq.org/spec/26/). Must not know where keys come from, nor what is said afterwards.

CURVE alone lets in whoever knows the listener's public key. ZAP is asked then, in the context of
the listener. Where nobody answers there, ZeroMQ lets everybody in, unless the listener says that it
insists (`ZAP_ENFORCE_DOMAIN`), as ours do. pyzmq's own authenticator would let in who uses no
mechanism at all, is ended by one malformed question, and is waited for without limit.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from itertools import count
from typing import Final

import zmq
from zmq.utils import z85

from exraft.errors import NodeError
from exraft.nodes.keys import Keys
from exraft.nodes.seldom import Seldom

logger = logging.getLogger("exraft.nodes")

_ZAP: Final = "inproc://zeromq.zap.01"
_VERSION: Final = b"1.0"
_DOMAIN: Final = b"exraft"
_KEY_BYTES: Final = 32
_JOINING: Final = 5.0
"""Seconds to wait for the gate's thread, which may be reading a list from a slow disk."""

_numbers = count(1)


class Gate:
    """Answers for all listeners of a context whether a key is admitted.

    Start it before the first listener listens, and stop it after the last one is closed.

    Attributes:
        refused: how many were turned away here. One with a wrong cookie does not come so far: it
            can't say what the listener understands.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self.refused = 0
        self._context = context
        self._keys = keys
        self._seldom = Seldom(logger, 5.0)
        self._ends: zmq.Socket[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to answer.

        Raises:
            NodeError: the context has a gate already.
        """
        asked = self._context.socket(zmq.ROUTER)
        asked.linger = 0
        try:
            asked.bind(_ZAP)
        except zmq.ZMQError as error:
            asked.close()
            raise NodeError(f"this context has a gate already ({error})") from None
        # Told of its end by a socket, as it waits for sockets.
        end = f"inproc://exraft-gate-{next(_numbers)}"
        heard = self._context.socket(zmq.PAIR)
        heard.bind(end)
        self._ends = self._context.socket(zmq.PAIR)
        self._ends.linger = 0
        self._ends.connect(end)
        self._thread = threading.Thread(
            target=self._run, args=(asked, heard), name="exraft-gate", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait for that some seconds at most; once is enough, more does no harm."""
        if self._ends is None or self._thread is None:
            return
        with suppress(zmq.Again):
            # Nobody hears it any more if the thread has ended by itself.
            self._ends.send(b"", zmq.NOBLOCK)
        self._thread.join(_JOINING)
        if self._thread.is_alive():
            logger.error(
                "the gate does not come to its end within %g s: is the disk with the list of"
                " allowed keys slow?",
                _JOINING,
            )
        self._ends.close()
        self._ends = self._thread = None

    def _run(self, asked: zmq.Socket[bytes], end: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(asked, zmq.POLLIN)
        poller.register(end, zmq.POLLIN)
        try:
            while end not in dict(poller.poll()):
                self._answer(asked, asked.recv_multipart())
        except zmq.ContextTerminated:
            # Nobody is left who could ask.
            pass
        finally:
            # To close it gives the place back some time later, and the next gate may not wait.
            with suppress(zmq.ZMQError):
                asked.unbind(_ZAP)
            asked.close()
            end.close(linger=0)

    def _answer(self, asked: zmq.Socket[bytes], parts: list[bytes]) -> None:
        """Answer a question, whatever it looks like: who does not understand it refuses."""
        route, question = _split(parts)
        number = question[1] if len(question) > 1 else b""
        try:
            user = self._admitted(question)
        except Exception:
            # Keys come from files, and whatever fails there must not open the gate, nor shut it
            # for good.
            logger.exception("it can't be said whether a key is admitted: it is refused")
            user = None
        if user is None:
            self.refused += 1
            self._seldom.log(
                logging.WARNING,
                "somebody from %s was refused: not a key that is admitted here",
                question[3].decode("ascii", "replace") if len(question) > 3 else "somewhere",
            )
            answer = [_VERSION, number, b"400", b"", b"", b""]
        else:
            answer = [_VERSION, number, b"200", b"", user, b""]
        asked.send_multipart([*route, b"", *answer], zmq.NOBLOCK)

    def _admitted(self, question: list[bytes]) -> bytes | None:
        """The public key of who wants to come in, if it may."""
        if len(question) != 7:
            return None
        version, _, domain, _, _, mechanism, key = question
        if (version, domain, mechanism) != (_VERSION, _DOMAIN, b"CURVE") or len(key) != _KEY_BYTES:
            return None
        public: bytes = z85.encode(key)
        return public if self._keys.admits(public) else None


def _split(parts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Whom to answer, and what they ask; an empty part stands between them."""
    if b"" not in parts:
        return parts, []
    at = parts.index(b"")
    return parts[:at], parts[at + 1 :]


def dress_listener(listener: zmq.Socket[bytes], keys: Keys) -> None:
    """Have a socket that is going to listen admit nobody whom a gate has not admitted."""
    listener.setsockopt(zmq.CURVE_SERVER, 1)
    listener.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
    listener.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
    listener.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    listener.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def dress_connector(connector: zmq.Socket[bytes], keys: Keys, node: str) -> bytes:
    """Have a socket that is going to connect show its key, and speak to `node` only.

    Returns:
        the public key by which it knows the node.

    Raises:
        NodeError: the node is not in the list of allowed keys.
    """
    key = keys.key_of(node)
    if key is None:
        raise NodeError(f"the public key of {node} is not in the list of allowed keys: add it")
    connector.setsockopt(zmq.CURVE_SERVERKEY, key)
    connector.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
    connector.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
    return key
