from __future__ import annotations

import pytest

from exraft.names import Peer
from exraft.raft import COMMAND, Config, Entry, VoteReply
from exraft.raft.config import config_entry
from exraft.testing.cluster import Cluster
from exraft.testing.store import StoreFailed, WatchedStore, known_configs

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


def texts(store: WatchedStore) -> list[bytes]:
    return [each.data for each in store.slice(1, store.last_index) if each.kind == COMMAND]


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
