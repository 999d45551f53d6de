"""Several ends of connections in one process, each as if it were a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from exraft.actors.calls import Ask, Reply
from exraft.distribution import _Running
from exraft.errors import ExRaftError
from exraft.names import Peer
from exraft.nodes.address import parse
from exraft.nodes.keys import ALLOWED, SECRET, KeyPair, Keys, ListedKeys, new_pair
from tests.helpers import LIMIT, wait_until

SERVER = ":raft1"
"""Who answers at whatever end is asked: the ends share the servers of the process."""


class KeyRing:
    """A directory of keys, whose list is changed while it is used."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self.renew()

    def renew(self) -> None:
        """Have another pair of keys; whoever reads the directory from now on has it."""
        self.own = new_pair()
        self._write(SECRET, self.own.secret.decode())

    def allow(self, pairs: Mapping[str, KeyPair]) -> None:
        """Admit these and nobody else."""
        lines = [f"{pair.public.decode()} {name}" for name, pair in pairs.items()]
        self._write(ALLOWED, "\n".join(lines))

    def keys(self) -> ListedKeys:
        return ListedKeys(self._path, every=0.0)

    def _write(self, name: str, text: str) -> None:
        # At once, as who reads it in between would find an empty list.
        beside = self._path / f".{name}"
        beside.write_text(text + "\n", encoding="ascii")
        beside.chmod(0o600)
        beside.replace(self._path / name)


class End:
    """What a process has that is a node, or calls some."""

    def __init__(self, keys: Keys) -> None:
        self.running = _Running(keys)

    def listen(self, name: str, place: str | None = None) -> End:
        """Be the node `name`, reached at `place`."""
        self.running.listen(name, [parse(place or name)])
        return self

    def start(self) -> End:
        self.running.loop.start()
        return self

    def call(self, node: str, server: str = SERVER) -> str:
        """Ask a server there for a sign of life; return it, or why there is none."""
        call = Ask(Reply(), "ping")
        call.reply.server = Peer(server, node)
        try:
            self.running.ask(call.reply.server, call)
            return str(call.wait(LIMIT))
        except ExRaftError as error:
            return str(error)

    def reaches(self, node: str) -> None:
        """Wait until it does."""
        wait_until(lambda: self.call(node) == "pong", f"{node} answers")

    def is_cut_off(self, node: str, why: str) -> None:
        """Wait until it is told so."""
        wait_until(lambda: why in self.call(node), f"{node} is out of reach: {why}")

    def close(self) -> None:
        self.running.close(0.0)


@contextmanager
def ends(*those: End) -> Iterator[None]:
    """Start them, and close them in the end."""
    try:
        for each in those:
            each.start()
        yield
    finally:
        for each in those:
            each.close()
