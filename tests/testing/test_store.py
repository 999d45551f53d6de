from __future__ import annotations

from zlib import crc32

import pytest

from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry, VoteReply
from exraft.raft.config import config_entry
from exraft.raft.log import DamagedSnapshot
from exraft.raft.snapshot import Snapshot
from exraft.testing.cluster import Cluster
from exraft.testing.store import StoreFailed, WatchedOwner, WatchedStore, known_configs

A, B, C = (Peer(f":{name}") for name in "abc")
ALL = Config(voters=(A, B, C), cluster="ours")


@pytest.fixture
def store() -> WatchedStore:
    """A leader's, with one entry that is stored."""
    cluster = Cluster(3, start=False)
    a, b, _ = (server.owner.lend() for server in cluster.servers.values())
    for voter in (a, b):
        voter.set_ballot(1, A, leads=False)
        voter.sync()
    a.set_ballot(1, A, leads=True)
    a.append([config_entry(1, ALL)])
    a.sync()
    return a


def write(store: WatchedStore, *texts: bytes) -> None:
    for text in texts:
        store.append([Entry(store.term, COMMAND, text)])


def texts(store: WatchedStore, first: int = 1) -> list[bytes]:
    return [each.data for each in store.slice(first, store.last_index) if each.kind == COMMAND]


def test_what_was_synced_survives_a_power_failure(store: WatchedStore) -> None:
    write(store, b"one")
    store.sync()
    assert not store.lose_unsynced()
    assert texts(store) == [b"one"]


def test_what_was_not_synced_is_lost_in_a_power_failure(store: WatchedStore) -> None:
    write(store, b"one")
    store.sync()
    write(store, b"two", b"three")
    assert store.unsynced == 2
    assert store.lose_unsynced()
    assert texts(store) == [b"one"]


def test_the_first_of_the_unsynced_writes_may_have_reached_the_disk(store: WatchedStore) -> None:
    write(store, b"one", b"two", b"three")
    assert store.lose_unsynced(keep=2)
    assert texts(store) == [b"one", b"two"]


def test_a_ballot_that_was_not_synced_is_lost(store: WatchedStore) -> None:
    store.set_ballot(2, B, leads=False)
    store.set_ballot(3, C, leads=False)
    store.lose_unsynced(keep=1)
    assert (store.term, store.voted_for) == (2, B)
    store.set_ballot(4, None, leads=False)
    store.lose_unsynced()
    assert (store.term, store.voted_for) == (2, B)


def test_a_sync_stores_every_vote_that_was_given_before_it(store: WatchedStore) -> None:
    store.set_ballot(2, B, leads=False)
    store.set_ballot(3, C, leads=False)
    store.set_ballot(4, None, leads=False)
    store.sync()
    for term, candidate in ((2, B), (3, C)):
        vote = VoteReply("ours", A, term, store.store_id, True)
        store.watch.promises(store, candidate, vote)


def test_what_was_deleted_and_not_synced_is_there_again(store: WatchedStore) -> None:
    write(store, b"one", b"two")
    store.sync()
    store.set_ballot(2, None, leads=False)
    store.truncate(2)
    assert texts(store) == []
    store.lose_unsynced()
    assert texts(store) == [b"one", b"two"]


def test_a_configuration_is_lost_and_there_again_with_its_entry(store: WatchedStore) -> None:
    store.set_ballot(2, None, leads=False)
    store.sync()
    store.truncate(1)
    assert store.configs_held == []
    store.lose_unsynced()
    assert store.configs_held == [(1, ALL)]


def test_the_commit_index_is_never_more_durable_than_its_entries(store: WatchedStore) -> None:
    write(store, b"one")
    store.sync()
    write(store, b"two")
    store.watch.committed[1], store.watch.committed[2], store.watch.committed[3] = store.slice(1, 3)
    store.leads = False
    store.set_commit(3)
    store.lose_unsynced()
    assert store.commit_index == 2


def test_the_safe_index_is_the_last_that_no_power_failure_touches(store: WatchedStore) -> None:
    write(store, b"one")
    store.sync()
    assert store.safe_index == 2
    write(store, b"two")
    assert (store.safe_index, store.last_index) == (2, 3)
    store.sync()
    assert store.safe_index == 3


def test_a_slow_sync_stores_what_was_there_when_it_began(store: WatchedStore) -> None:
    write(store, b"one")
    begun = store.begin_sync()
    write(store, b"two")
    store.end_sync(begun)
    store.lose_unsynced()
    assert texts(store) == [b"one"]


def test_a_slow_sync_that_ends_after_a_later_one_changes_nothing(store: WatchedStore) -> None:
    write(store, b"one")
    first = store.begin_sync()
    write(store, b"two")
    second = store.begin_sync()
    store.end_sync(second)
    store.end_sync(first)
    assert store.unsynced == 0


@pytest.mark.parametrize("fails", ["write", "sync"])
def test_a_failing_disk_says_whose_it_is(store: WatchedStore, fails: str) -> None:
    store.owner.fails = fails
    with pytest.raises(StoreFailed, match="the disk of :a fails") as caught:
        write(store, b"one")
        store.sync()
    assert caught.value.peer == A


def test_a_disk_that_takes_no_writes_keeps_nothing_of_them(store: WatchedStore) -> None:
    store.owner.fails = "write"
    with pytest.raises(StoreFailed):
        write(store, b"one")
    with pytest.raises(StoreFailed):
        store.set_ballot(2, B, leads=False)
    with pytest.raises(StoreFailed):
        store.truncate(1)
    assert (texts(store), store.term, store.last_index, store.unsynced) == ([], 1, 1, 0)


def test_a_disk_whose_sync_fails_leaves_everything_unsynced(store: WatchedStore) -> None:
    write(store, b"one")
    begun = store.begin_sync()
    store.owner.fails = "sync"
    with pytest.raises(StoreFailed):
        store.end_sync(begun)
    assert store.unsynced == 1


def test_the_next_life_begins_with_what_the_last_one_left(store: WatchedStore) -> None:
    write(store, b"one")
    store.sync()
    life = store.owner.lend()
    assert (texts(life), life.term, life.voted_for, life.configs_held) == (
        [b"one"],
        1,
        A,
        [(1, ALL)],
    )


def test_a_store_is_pristine_until_something_is_promised_under_its_name() -> None:
    cluster = Cluster(3, start=False)
    store = cluster.servers[A].owner.lend()
    assert store.owner.pristine
    store.set_ballot(1, B, leads=False)
    cluster.replace_store(A, standby=False)
    assert not cluster.servers[A].owner.pristine


def test_the_configurations_that_may_hold_are_the_last_committed_one_and_all_since(
    store: WatchedStore,
) -> None:
    founders = Config(voters=(A, B, C))
    assert known_configs(store, (A, B, C)) == [founders, ALL]
    store.watch.committed[1] = store.slice(1, 1)[0]
    store.leads = False
    store.set_commit(1)
    assert known_configs(store, (A, B, C)) == [ALL]


# Snapshots.


def committed(store: WatchedStore, *texts: bytes) -> None:
    """Write these, and let them be committed."""
    write(store, *texts)
    store.sync()
    b = store.watch.held[B][0].life
    b.append(store.slice(b.last_index + 1, len(texts) + 1))
    b.sync()
    store.set_commit(store.last_index)


def snapshot(index: int, data: bytes = b"abc") -> Snapshot:
    return Snapshot(index, 1, ALL, 1, 1, len(data), crc32(data))


def take(store: WatchedStore, index: int) -> None:
    sink = store.begin_snapshot(snapshot(index))
    sink.write(b"abc")
    sink.finish()
    store.adopt(sink)


def newcomer(store: WatchedStore) -> WatchedStore:
    """Another server of the cluster, with nothing."""
    return WatchedOwner(store.watch, Peer(":d"), "of d").lend()


def test_a_log_that_is_cut_has_its_beginning_again_after_a_power_failure(
    store: WatchedStore,
) -> None:
    committed(store, b"one", b"two")
    take(store, 3)
    store.cut(2)
    assert (store.base_index, texts(store, 3)) == (2, [b"two"])
    assert not store.lose_unsynced()
    assert (store.base_index, texts(store), store.lost) == (0, [b"one", b"two"], False)
    assert store.configs_held == [(1, ALL)]


def test_a_log_that_is_cut_and_synced_stays_cut(store: WatchedStore) -> None:
    committed(store, b"one", b"two")
    take(store, 3)
    store.cut(2)
    store.sync()
    store.lose_unsynced()
    assert (store.base_index, store.snapshot) == (2, snapshot(3))
    assert store.term_of(1) == store.term_of(3) == 1


def test_the_configuration_of_a_snapshot_is_in_force_where_its_entry_is_gone(
    store: WatchedStore,
) -> None:
    committed(store, b"one")
    new = newcomer(store)
    assert new.config == Config(())
    new.receive(snapshot(2), 0, b"abc")
    new.install()
    assert (new.config, new.configs_held) == (ALL, [(1, ALL)])
    assert known_configs(new, (A,)) == [ALL]


def test_an_install_that_was_not_synced_is_undone_by_a_power_failure(store: WatchedStore) -> None:
    committed(store, b"one", b"two")
    new = newcomer(store)
    new.append(store.slice(1, 2))
    new.set_commit(1)
    new.sync()
    new.receive(snapshot(3), 0, b"abc")
    new.install()
    assert (new.base_index, new.last_index, new.commit_index) == (3, 3, 3)
    assert new.safe_index == 1
    assert new.installing
    assert new.lose_unsynced()
    assert (new.base_index, new.last_index, new.commit_index) == (0, 2, 1)
    assert (new.snapshot, new.received, new.configs_held) == (None, None, [(1, ALL)])
    assert new.watch.counts["installs undone by a power failure"] == 1


def test_an_install_that_was_synced_stays(store: WatchedStore) -> None:
    committed(store, b"one", b"two")
    new = newcomer(store)
    new.receive(snapshot(3), 0, b"abc")
    new.install()
    new.sync()
    assert not new.lose_unsynced()
    assert (new.base_index, new.safe_index, new.commit_index) == (3, 3, 3)
    assert new.open_snapshot().read(0, 9) == b"abc"


def test_what_is_received_is_safe_once_it_is_synced(store: WatchedStore) -> None:
    new = newcomer(store)
    new.receive(snapshot(2), 0, b"a")
    assert new.safe_pieces == 0
    new.sync()
    new.receive(snapshot(2), 1, b"b")
    assert new.safe_pieces == 1
    new.receive(snapshot(3, b"xyz"), 0, b"x")
    assert new.safe_pieces == 0


def test_what_arrives_damaged_is_counted_and_forgotten(store: WatchedStore) -> None:
    committed(store, b"one")
    new = newcomer(store)
    new.receive(snapshot(2), 0, b"abd")
    with pytest.raises(DamagedSnapshot):
        new.install()
    assert (new.received, new.last_index, new.damaged) == (None, 0, True)
    assert new.watch.counts["snapshots that arrived damaged"] == 1


@pytest.mark.parametrize("what", ["cut", "adopt", "receive", "install"])
def test_a_disk_that_takes_no_writes_takes_no_snapshots(store: WatchedStore, what: str) -> None:
    store.owner.fails = "write"
    sink = store.begin_snapshot(snapshot(1))
    arguments = {"cut": (1,), "adopt": (sink,), "receive": (snapshot(1), 0, b"abc"), "install": ()}
    with pytest.raises(StoreFailed):
        getattr(store, what)(*arguments[what])
