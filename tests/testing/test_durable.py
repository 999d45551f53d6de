"""Clusters whose stores are those on disk, and whose disks fail, are full and lose power."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from exraft.names import Peer, Role
from exraft.raft import COMMAND, Entry
from exraft.testing import Faults, Violation
from exraft.testing.campaign import default
from exraft.testing.cluster import QUICK, Cluster
from exraft.testing.durable import DiskOwner, WatchedDisk
from exraft.testing.server import Server

A, B, C = (Peer(f":{name}") for name in "abc")
SMALL = replace(QUICK, keep_entries=2, snapshot_chunk_bytes=16)


def on_disk(count: int = 3, **chosen: object) -> Cluster:
    return Cluster(count, on_disk=True, options=SMALL, **chosen)  # type: ignore[arg-type]


def owner(server: Server) -> DiskOwner:
    assert isinstance(server.owner, DiskOwner)
    return server.owner


def follower_of(cluster: Cluster) -> Server:
    leader = cluster.elect()
    return next(each for each in cluster.running() if each.peer != leader.me)


def write(cluster: Cluster, count: int) -> None:
    """Commands, each acknowledged before the next."""
    for _ in range(count):
        leader = cluster.elect()
        data = b"%d" % len(cluster.committed)
        cluster.write(leader.me, data)
        cluster.run(partial(cluster.done.__contains__, data))


def _is_down(server: Server) -> bool:
    return server.raft is None


@pytest.fixture
def store() -> WatchedDisk:
    """Of a leader that is alone, with three entries that are synced and committed."""
    cluster = on_disk(1)
    write(cluster, 2)
    life = owner(cluster.servers[A]).life
    assert isinstance(life, WatchedDisk)
    return life


def again(store: WatchedDisk) -> WatchedDisk:
    life = store.owner.life
    assert isinstance(life, WatchedDisk)
    assert life is not store
    return life


def append(store: WatchedDisk, data: bytes) -> None:
    store.append([Entry(store.term, COMMAND, data)])


def test_what_was_synced_survives_a_power_failure(store: WatchedDisk) -> None:
    assert not store.lose_unsynced()
    life = again(store)
    assert (life.last_index, life.term, life.voted_for) == (3, 1, A)
    assert not life.lost
    assert life.configs_held == store.configs_held


def test_who_leads_leads_no_more_in_another_process(store: WatchedDisk) -> None:
    assert store.leads
    store.end_process()
    assert not again(store).leads


def test_what_was_never_synced_is_lost_with_the_process(store: WatchedDisk) -> None:
    append(store, b"x")
    assert store.end_process()
    life = again(store)
    assert (life.last_index, life.lost) == (3, True)


def test_how_far_is_committed_survives_the_process_and_not_every_power_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for power in (False, True):
        kept = set()
        for seed in range(20):
            cluster = on_disk(1, seed=seed)
            write(cluster, 2)
            life = owner(cluster.servers[A]).life
            assert isinstance(life, WatchedDisk)
            # Else it may fail while the store is opened.
            monkeypatch.setattr(owner(cluster.servers[A]), "lose_power_soon", lambda _: None)
            if power:
                life.lose_unsynced()
            else:
                life.end_process()
            kept.add(again(life).commit_index)
        assert kept == ({2, 3} if power else {3})


def test_the_power_may_go_in_the_middle_of_a_sync_and_leave_all_or_nothing() -> None:
    left = set()
    for seed in range(30):
        cluster = on_disk(1, seed=seed)
        write(cluster, 2)
        server = cluster.servers[A]
        owner(server).lose_power_soon(1 + seed % 2)
        cluster.when_free(A, partial(cluster.write, A, b"x"))  # type: ignore[arg-type]
        cluster.run(partial(_is_down, server))
        assert cluster.counts["power failures at any operation"] == 1
        left.add(server.owner.life.last_index)
    assert left == {3, 4}


def test_a_store_that_is_opened_is_the_one_that_the_next_life_is_lent(store: WatchedDisk) -> None:
    store.end_process()
    first = again(store)
    assert store.owner.lend() is first
    assert store.owner.lend() is not first
    assert first.fenced


def test_a_commit_index_that_nobody_had_is_found(store: WatchedDisk) -> None:
    append(store, b"x")
    store.sync()
    store.opened.journal.note(4)
    store.commit_index = 3
    with pytest.raises(Violation, match="takes 4 for committed"):
        store.end_process()


# Servers.


def test_a_cluster_on_disk_goes_on_when_each_server_has_lost_power() -> None:
    cluster = on_disk()
    write(cluster, 5)
    for peer in cluster.peers:
        cluster.crash(peer, lossy=True)
    for peer in cluster.peers:
        cluster.start(peer)
    write(cluster, 5)
    cluster.wait(1.0)
    assert {each.applied for each in cluster.running()} == {cluster.elect().last_index}


def test_a_server_without_room_is_deaf_and_comes_back_by_itself() -> None:
    cluster = on_disk()
    server = follower_of(cluster)
    owner(server).fill(0)
    for _ in range(40):
        cluster.write(cluster.elect().me, b"x" * 100 + b"%d" % len(cluster.committed))
        cluster.wait(0.05)
        if server.full is not None:
            break
    assert server.full is not None
    raft = server.raft
    before = server.store.last_index
    majority = [each for each in cluster.running() if each is not server]
    cluster.wait(3.0)
    assert all(each.raft and each.raft.leader is not None for each in majority)
    assert (server.raft, server.store.last_index) == (raft, before)
    owner(server).repair()
    cluster.run(lambda: server.full is None)
    cluster.run(lambda: server.applied == cluster.elect().last_index)
    assert server.raft is raft


def test_a_leader_without_room_steps_down_and_loses_nothing() -> None:
    cluster = on_disk()
    write(cluster, 3)
    leader = cluster.elect()
    server = cluster.servers[leader.me]
    owner(server).fill(0)
    number = 0
    while server.full is None:
        number += 1
        cluster.write(leader.me, b"x" * 100 + b"%d" % number)
        cluster.wait(0.02)
    assert leader.state is Role.FOLLOWER
    others = [peer for peer in cluster.peers if peer != leader.me]
    cluster.run(lambda: (found := cluster.leader()) and found.me in others)
    owner(server).repair()
    cluster.run(lambda: server.applied == cluster.elect().last_index)


def test_a_server_whose_disk_fails_ends_and_a_new_process_goes_on() -> None:
    cluster = on_disk()
    write(cluster, 3)
    server = follower_of(cluster)
    owner(server).fail_soon(1)
    cluster.write(cluster.elect().me, b"x")
    cluster.run(lambda: server.raft is None)
    assert cluster.counts["disks that failed"] == 1
    owner(server).repair()
    cluster.start(server.peer)
    cluster.run(lambda: server.applied == cluster.elect().last_index)


def test_a_snapshot_without_room_is_given_up_and_taken_later() -> None:
    cluster = on_disk(1)
    write(cluster, 3)
    server = cluster.servers[A]
    owner(server).fill(0)
    cluster.take_snapshot(A)
    cluster.wait(1.0)
    assert (server.store.snapshot, server.taking) == (None, False)
    assert cluster.counts["snapshots without room"] == 1
    owner(server).repair()
    cluster.take_snapshot(A)
    cluster.run(lambda: server.store.snapshot)


# Crash points.


def lived(operation: int, victim: int) -> tuple[Cluster, int]:
    """Elections, writes, snapshots taken and installed; and one disk loses its power once.

    Returned is how many operations it had until then, or until all was quiet.
    """
    cluster = on_disk(seed=victim, start=False)
    cluster.snapshot_every = 6
    server = cluster.servers[cluster.peers[victim]]
    owner(server).lose_power_soon(operation)

    def start(peer: Peer) -> None:
        if cluster.servers[peer].raft is None:
            cluster.start(peer)

    def up() -> None:
        for peer in cluster.peers:
            cluster.later(0.0, partial(start, peer))

    up()
    for away in (victim, victim + 1, victim):
        cluster.wait(1.0)
        up()
        cluster.isolate(cluster.peers[away % 3])
        for number in range(12):
            cluster.wait(0.2)
            leader = cluster.leader()
            if leader is not None:
                request = partial(cluster.write, leader.me, b"%d %d" % (cluster.steps, number))
                cluster.when_free(leader.me, request)  # type: ignore[arg-type]
        cluster.heal()
    operations = owner(server).disk.operations
    owner(server).disk.work_again()
    up()
    cluster.elect()
    leader = cluster.elect()
    cluster.run(lambda: all(each.applied == leader.last_index for each in cluster.running()))
    assert all(ticket in cluster.done for ticket in cluster.acknowledged)
    return cluster, operations


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_nothing_is_lost_wherever_the_power_goes(victim: int) -> None:
    unharmed, operations = lived(10**9, victim)
    assert unharmed.counts["snapshots installed"]
    assert unharmed.counts["snapshots taken"]
    for operation in range(1, operations + 1):
        harmed, _ = lived(operation, victim)
        assert harmed.counts["power failures at any operation"] == 1, operation


def test_simulated_worlds_may_be_on_disk() -> None:
    counts: Counter[str] = Counter()
    for seed in range(6):
        simulation = default(seed)
        simulation.on_disk = True
        simulation.faults = replace(Faults.everything(), crashes=1.5, failing_disks=0.5)
        counts += simulation.run().counts
    assert counts["power failures at any operation"]
    assert counts["power failures while a store was opened"]
    assert counts["disks that failed"]
