"""What runs for a server beside its own thread, and which threads are a server's.

Knows one piece of work, its thread and its end. Must not know what the work is for.
"""

from __future__ import annotations

import threading
from typing import Any

import pykka

from exraft.actors import fence
from exraft.actors.mailbox import Mailbox
from exraft.names import Peer


class _Here(threading.local):
    server: Peer | None = None


_here = _Here()


def current_server() -> Peer | None:
    """The server whose callbacks run in this thread, if it is one's."""
    return _here.server


def enter(server: Peer) -> None:
    """This thread is one of `server`'s."""
    _here.server = server


class Beside:
    """A piece of work for one life of a server, which finds it in its mailbox when it is done.

    Given up, its thread is fenced as that of a process is, see `fence.Life`.

    Attributes:
        error: what ended it, if it failed.
    """

    thread: threading.Thread | None = None
    killed = False
    over = False
    last_started: pykka.ActorRef[Any] | None = None
    spawning = False
    starting = False
    waited_for = False

    def __init__(self, server: Peer, what: str, mailbox: Mailbox) -> None:
        self.error: BaseException | None = None
        self._server = server
        self._what = what
        self._mailbox = mailbox

    def work(self) -> None:
        """Do it; what is raised becomes the error."""
        raise NotImplementedError

    def start(self) -> None:
        self.thread = threading.Thread(
            target=self._run, name=f"{self._server.name} {self._what}", daemon=True
        )
        self.thread.start()

    def give_up(self) -> None:
        """The life has ended that it was for."""
        fence.fence(self)
        fence.interrupt(self)

    def left_behind(self) -> None:
        """Nobody waits for it."""

    def start_failed(self, reason: object) -> None:
        """Nobody waits for it."""

    def _run(self) -> None:
        enter(self._server)
        try:
            try:
                self.work()
            except BaseException as error:
                # The user's code, or the end of it; the server judges.
                self.error = error
            self._mailbox.put(self)
        finally:
            fence.leave(self)
