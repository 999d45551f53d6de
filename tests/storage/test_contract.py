"""What every store does, in memory and on disk."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from exraft.names import Peer
from exraft.raft import COMMAND, CONFIG, Config, Entry
from exraft.raft.log import DamagedSnapshot
from exraft.raft.snapshot import Snapshot
from exraft.storage import DiskStore, Fenced, LentStore, MemoryStore
from exraft.testing.disk import SimulatedFiles

A = Peer(":a")
CONTENT = b"the state of a machine" * 100


@pytest.fixture(params=["memory", "disk", "simulated"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore | DiskStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "disk":
        store = DiskStore(tmp_path, A)
        store.open()
        request.addfinalizer(store.close)
        return store
    return DiskStore("/data", A, files=SimulatedFiles(random.Random(0)))


def entries(*terms: int) -> list[Entry]:
    return [Entry(term, COMMAND, b"%d" % n) for n, term in enumerate(terms)]


def snapshot(index: int, term: int, content: bytes = CONTENT) -> Snapshot:
    config = Config((A,))
    return Snapshot(index, term, config, 1, 1, len(content), zlib.crc32(content))


def take(store: LentStore, index: int) -> Snapshot:
    sink = store.begin_snapshot(snapshot(index, store.term_at(index), b""))
    sink.write(CONTENT)
    taken = sink.finish()
    store.adopt(sink)
    return taken


def test_a_new_store_is_empty(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    assert (store.term, store.voted_for, store.leads) == (0, None, False)
    assert (store.commit_index, store.last_index, store.size) == (0, 0, 0)
    assert (store.base_index, store.base_term, store.snapshot) == (0, 0, None)
    assert store.dirty is False


def test_what_is_written_is_there_before_it_is_synced(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    store.set_ballot(3, A, leads=True)
    store.append(entries(1, 1, 3))
    assert (store.term, store.voted_for, store.leads) == (3, A, True)
    assert store.slice(2, 10) == entries(1, 1, 3)[1:]
    assert store.dirty
    store.sync()
    assert not store.dirty


def test_the_next_life_finds_what_was_not_synced(owner: MemoryStore | DiskStore) -> None:
    """Rules 26 and 27."""
    before = owner.lend()
    before.set_ballot(3, A, leads=True)
    before.append(entries(1, 1, 3))
    before.sync()
    before.truncate(3)
    before.append(entries(3, 3))
    store = owner.lend()
    assert (store.term, store.voted_for, store.leads) == (3, A, True)
    assert store.slice(1, 10) == [*entries(1, 1), *entries(3, 3)]
    assert store.incarnation == 2
    store.sync()


def test_a_life_that_was_given_up_promises_nothing(owner: MemoryStore | DiskStore) -> None:
    """Rule 27."""
    before = owner.lend()
    before.append(entries(1))
    owner.lend()
    with pytest.raises(Fenced):
        before.sync()
    with pytest.raises(Fenced):
        before.receive(snapshot(9, 2), 0, CONTENT)


def test_a_taken_snapshot_is_the_newest_once_it_is_adopted(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    store.append(entries(1, 1, 1))
    sink = store.begin_snapshot(snapshot(2, 1, b""))
    sink.write(CONTENT[:100])
    sink.write(CONTENT[100:])
    taken = sink.finish()
    assert taken == snapshot(2, 1)
    assert store.snapshot is None
    store.adopt(sink)
    assert store.snapshot == taken
    reader = store.open_snapshot()
    assert reader.snapshot == taken
    assert reader.read(0, 1 << 20) == CONTENT
    assert reader.read(5, 7) == CONTENT[5:12]
    assert reader.read(len(CONTENT), 7) == b""
    reader.close()


def test_a_snapshot_stays_readable_when_a_newer_one_replaces_it(
    owner: MemoryStore | DiskStore,
) -> None:
    store = owner.lend()
    store.append(entries(1, 1, 1))
    take(store, 1)
    reader = store.open_snapshot()
    take(store, 3)
    assert reader.snapshot.index == 1
    assert reader.read(0, 1 << 20) == CONTENT
    reader.close()


def test_an_older_snapshot_does_not_replace_a_newer_one(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    store.append(entries(1, 1, 1))
    late = store.begin_snapshot(snapshot(1, 1, b""))
    late.finish()
    take(store, 2)
    store.adopt(late)
    assert store.snapshot is not None
    assert store.snapshot.index == 2


def test_a_snapshot_that_is_discarded_was_never_there(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    sink = store.begin_snapshot(snapshot(1, 1, b""))
    sink.write(CONTENT)
    sink.discard()
    assert store.snapshot is None


def test_a_log_is_cut_up_to_the_snapshot_and_no_further(owner: MemoryStore | DiskStore) -> None:
    """Rule 24."""
    store = owner.lend()
    store.append(entries(1, 1, 2, 2))
    with pytest.raises(ValueError, match="no stored snapshot"):
        store.cut(1)
    take(store, 3)
    with pytest.raises(ValueError, match="no stored snapshot"):
        store.cut(4)
    store.cut(3)
    store.sync()
    assert (store.base_index, store.base_term, store.last_index) == (3, 2, 4)
    assert store.slice(4, 9) == [entries(1, 1, 2, 2)[3]]
    with pytest.raises(IndexError):
        store.slice(3, 1)


def test_a_log_is_cut_beyond_what_was_synced(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    store.append(entries(1, 1))
    store.sync()
    store.append(entries(1, 1))
    take(store, 3)
    store.cut(3)
    store.sync()
    assert (store.base_index, store.last_index) == (3, 4)


def test_pieces_may_come_twice_late_and_not_at_all(owner: MemoryStore | DiskStore) -> None:
    """Rule 25."""
    store = owner.lend()
    coming = snapshot(9, 2)
    assert store.receive(coming, 100, CONTENT[100:200]) == 0
    assert store.receive(coming, 0, CONTENT[:100]) == 100
    assert store.receive(coming, 0, CONTENT[:100]) == 100
    assert store.receive(coming, 50, CONTENT[50:300]) == 300
    assert store.receive(coming, 400, CONTENT[400:500]) == 300
    assert store.received == (coming, 300)


def test_another_snapshot_begins_anew(owner: MemoryStore | DiskStore) -> None:
    store = owner.lend()
    store.receive(snapshot(9, 2), 0, CONTENT[:100])
    other = snapshot(10, 2)
    assert store.receive(other, 100, CONTENT[100:200]) == 0
    assert store.received == (other, 0)
    assert store.receive(other, 0, CONTENT) == len(CONTENT)


def test_an_installed_snapshot_takes_the_place_of_the_log(owner: MemoryStore | DiskStore) -> None:
    """Rule 23."""
    store = owner.lend()
    store.set_ballot(2, None, leads=False)
    store.append([Entry(1, CONFIG, Config((A,)).encode()), *entries(1, 1)])
    store.sync()
    store.receive(snapshot(9, 2), 0, CONTENT)
    store.install()
    assert (store.base_index, store.base_term, store.last_index) == (9, 2, 9)
    assert store.commit_index == 9
    assert store.snapshot == snapshot(9, 2)
    assert store.received is None
    assert list(store.configs()) == []
    assert store.open_snapshot().read(0, 1 << 20) == CONTENT
    store.append(entries(2))
    store.sync()
    assert store.last_index == 10


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?"], ids=["short", "other"])
def test_a_snapshot_that_is_not_what_it_should_be_is_forgotten(
    owner: MemoryStore | DiskStore, content: bytes
) -> None:
    store = owner.lend()
    store.append(entries(1, 1))
    store.receive(snapshot(9, 2), 0, content)
    with pytest.raises(DamagedSnapshot):
        store.install()
    assert store.received is None
    assert (store.last_index, store.snapshot) == (2, None)
    with pytest.raises(DamagedSnapshot):
        store.install()
    store.receive(snapshot(9, 2), 0, CONTENT)
    store.install()
    assert store.last_index == 9


def test_opening_and_closing_a_store_twice_changes_nothing(owner: MemoryStore | DiskStore) -> None:
    owner.open()
    owner.open()
    store = owner.lend()
    store.append(entries(1, 2))
    store.sync()
    owner.close()
    owner.close()
    again = owner.lend()
    assert again.slice(1, 9) == entries(1, 2)
    assert again.incarnation == 2
    assert again.store_id == store.store_id
