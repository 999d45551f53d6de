"""Durable servers to be rescued, and the commands that do it, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exraft import ExRaft, Peer, cli
from exraft.raft.config import Config, config_entry
from exraft.raft.log import COMMAND, Entry
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, LentDiskStore
from exraft.storage.image import Image, read_image
from tests.helpers import QUICK, RAFT, KeyValueStore, wait_until

ME = Peer(":raft1")
CLUSTER = "00000000c0ffee00"


class Done(NamedTuple):
    """What a command did: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """Where commands are typed, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def type(self, *words: object) -> Done:
        self._capsys.readouterr()
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            status = ended.code
        return Done(status, *self._capsys.readouterr())


def start(data_dir: Path, names: Iterable[str] = RAFT, **options: Any) -> None:
    """Start servers on what they have stored, or as a new cluster of them."""
    founders = tuple(names)
    for name in founders:
        settings: Mapping[str, Any] = {"initial_config": founders, **QUICK, **options}
        ExRaft.start_server(KeyValueStore, {}, name=name, data_dir=data_dir, **settings)


def start_empty(data_dir: Path, *names: str) -> None:
    """Start servers that wait to be taken in."""
    for name in names:
        ExRaft.start_server(
            KeyValueStore, {}, name=name, data_dir=data_dir, min_majority=2, **QUICK
        )


def stop(*names: str) -> None:
    for name in names or RAFT:
        ExRaft.stop_server(name)


def put(names: Iterable[str], first: int, last: int) -> None:
    """Write keys from `first` to `last`, each with itself as the value."""
    client = ExRaft.client(names)
    for key in range(first, last + 1):
        assert client.write(("put", key, key)) == "ok"


def held(names: Iterable[str], first: int, last: int) -> list[int]:
    """Which of the keys have their value."""
    client = ExRaft.client(names)
    return [key for key in range(first, last + 1) if client.read(key) == key]


def stopped_cluster(data_dir: Path, writes: int = 10) -> None:
    """What a cluster of three leaves behind, each with all of it: 1 to `writes`.

    The first has a snapshot of half of them.
    """
    start(data_dir)
    put(RAFT, 1, writes // 2)
    ExRaft.snapshot(RAFT[0])
    put(RAFT, writes // 2 + 1, writes)
    wait_until(
        lambda: all(ExRaft.read_dirty(name, writes) == writes for name in RAFT),
        "the last write on all servers",
    )
    stop()


def config(*voters: str, store: str = "", me: Peer = ME) -> Config:
    stores = ((me, store),) if store else ()
    return Config(tuple(Peer(name, me.node) for name in voters), cluster=CLUSTER, stores=stores)


def command(text: str, term: int = 1) -> Entry:
    return Entry(term, COMMAND, text.encode())


def write_log(
    data_dir: Path,
    entries: list[Entry] | None = None,
    *,
    commit: int | None = None,
    term: int = 1,
    me: Peer = ME,
    voters: Iterable[str] = RAFT,
    snapshot_at: int = 0,
) -> Path:
    """A directory as a server leaves it, made by hand; index 1 is the configuration."""
    store = DiskStore(data_dir, me)
    hold = store.lend()
    said = [config_entry(1, config(*voters, store=store.store_id, me=me)), *(entries or [])]
    hold.set_ballot(term, me, leads=False)
    hold.append(said)
    hold.set_commit(len(said) if commit is None else commit)
    hold.sync()
    hold.note_commit()
    if snapshot_at:
        take_snapshot(hold, snapshot_at, b"the state", config(*voters, me=me))
        hold.cut(snapshot_at)
        hold.sync()
    store.close()
    return Path(store.path)


def take_snapshot(hold: LentDiskStore, index: int, state: bytes, config: Config) -> None:
    sink = hold.begin_snapshot(Snapshot(index, hold.term_at(index), config, 1, 1))
    sink.write(state)
    sink.finish()
    hold.adopt(sink)


def image_of(path: Path) -> Image:
    return read_image(path)


def damage(path: Path, place: int) -> None:
    """Turn a bit of the byte at `place`."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def tear(directory: Path) -> None:
    """Let the log end with a write that did not come to its end."""
    (report,) = (each for each in image_of(directory).files if each.name.startswith("log-"))
    content = bytearray((directory / report.name).read_bytes())
    content[report.used : report.used + 40] = b"torn" * 10
    (directory / report.name).write_bytes(content)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
