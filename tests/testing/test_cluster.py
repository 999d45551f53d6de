from __future__ import annotations

from dataclasses import replace

import pytest

from exraft.names import Peer, Role
from exraft.raft import Append, AppendReply, Message, Raft, Refusal, VoteReply
from exraft.testing import Faults
from exraft.testing.cluster import QUICK, Cluster
from exraft.testing.server import Server

A, B, C = (Peer(f":{name}") for name in "abc")


def follower_of(cluster: Cluster) -> Server:
    """Some server that follows the leader, once there is one."""
    leader = cluster.elect()
    return next(each for each in cluster.running() if each.peer != leader.me)


def leading(cluster: Cluster) -> Server:
    return cluster.servers[cluster.elect().me]


# Lives.


def test_a_cluster_elects_a_leader_and_all_apply_what_it_commits() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader.me, b"x")
    cluster.wait(1.0)
    assert cluster.acknowledged == {b"x": leader.last_index}
    assert {each.applied for each in cluster.running()} == {leader.last_index}


def test_a_restart_by_the_supervisor_keeps_everything_and_may_lead_on() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    term, last = cluster.raft(server.peer).term, cluster.raft(server.peer).last_index
    server.store.append([])
    assert server.store.unsynced
    cluster.crash(server.peer)
    assert server.intact
    raft = cluster.start(server.peer, resume=True)
    assert (raft.state, raft.term, raft.last_index) == (Role.LEADER, term, last)
    assert cluster.counts["leaders resumed"] == 1


def test_a_new_process_has_only_what_was_synced_and_follows() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    last = server.store.last_index
    server.sync_takes = (0.5, 0.5)
    cluster.write(server.peer, b"x")
    assert server.store.last_index == last + 1
    cluster.crash(server.peer, lossy=True)
    assert not server.intact
    raft = cluster.start(server.peer)
    assert (raft.state, raft.last_index) == (Role.FOLLOWER, last)
    assert cluster.counts["unsynced writes lost"] == 1


def test_the_first_unsynced_writes_may_survive_a_crash() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    last = server.store.last_index
    server.sync_takes = (0.5, 0.5)
    for text in (b"x", b"y", b"z"):
        cluster.write(server.peer, text)
    cluster.crash(server.peer, lossy=True, keep=2)
    assert cluster.start(server.peer).last_index == last + 2


def test_nothing_of_a_life_is_left_to_the_next_but_the_store() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    server.busy_until = cluster.now + 9.0
    server.doomed = "synced"
    server.inbox.append(lambda: None)
    server.reads.append((9, "a read"))
    cluster.write(server.peer, b"x")
    cluster.crash(server.peer)
    assert (server.raft, server.inbox, server.reads, server.doomed) == (None, [], [], "")
    assert (len(server.waiting), len(server.syncing), server.busy_until) == (0, 0, 0.0)


def test_a_store_that_is_lost_is_another_one_afterwards() -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    before = server.owner
    cluster.replace_store(server.peer, standby=True)
    raft = cluster.start(server.peer)
    assert server.owner.store_id != before.store_id
    assert (raft.term, raft.last_index, raft.standby) == (0, 0, True)
    assert cluster.watch.held[server.peer] == [before, server.owner]


@pytest.mark.parametrize(("doom", "stored"), [("kept", True), ("unsynced", False)])
def test_a_leader_may_die_when_its_appends_have_left_and_nothing_is_synced(
    doom: str, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(3, seed=1)
    monkeypatch.setattr(cluster.rng, "randint", lambda least, most: least)
    server = leading(cluster)
    last = server.store.last_index
    server.doomed = doom
    cluster.write(server.peer, b"x")
    assert server.raft is None
    assert cluster.counts["crashes between two steps"] == 1
    assert (server.owner.life.last_index == last + 1) is stored
    cluster.elect()
    cluster.wait(1.0)
    # The others have got it, and a majority is enough.
    assert b"x" in cluster.done


def test_a_server_may_die_right_after_its_sync() -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    heard: list[Message] = []

    def listen(sender: Peer, to: Peer, message: Message) -> bool:
        if sender == server.peer:
            heard.append(message)
        return True

    cluster.filter = listen
    last = server.store.last_index
    server.doomed = "synced"
    cluster.write(cluster.elect().me, b"x")
    cluster.run(lambda: server.raft is None)
    assert server.owner.life.last_index == last + 1
    assert not any(type(each) is AppendReply and each.index > last for each in heard)


def test_a_power_failure_midway_leaves_some_of_the_unsynced_writes_by_chance() -> None:
    kept = set()
    for seed in range(30):
        cluster = Cluster(3, seed=seed)
        server = leading(cluster)
        server.sync_takes = (0.5, 0.5)
        last = server.store.last_index
        cluster.write(server.peer, b"x")
        cluster.write(server.peer, b"y")
        server.doomed = "unsynced"
        cluster.write(server.peer, b"z")
        kept.add(server.owner.life.last_index - last)
    assert kept == {0, 1, 2, 3}


# Disks.


@pytest.mark.parametrize("fails", ["write", "sync"])
def test_a_failing_disk_ends_the_life_and_a_new_process_goes_on(fails: str) -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    server.owner.fails = fails
    cluster.write(cluster.elect().me, b"x")
    cluster.run(lambda: server.raft is None)
    assert cluster.counts["disks that failed"] == 1
    server.owner.fails = ""
    cluster.start(server.peer)
    cluster.elect()
    cluster.run(lambda: server.store.last_index == cluster.elect().last_index)


def test_a_disk_that_fails_before_its_server_has_started_leaves_it_down() -> None:
    cluster = Cluster(1, start=False)
    server = cluster.servers[A]
    server.owner.fails = "sync"
    cluster.later(0.1, lambda: None if cluster.start(A) else None)
    cluster.wait(1.0)
    assert server.raft is None
    assert cluster.counts["disks that failed"] == 1


def test_a_promise_waits_for_a_slow_sync() -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    server.sync_takes = (0.5, 0.5)
    asked = cluster.now
    answered: list[float] = []

    def listen(sender: Peer, to: Peer, message: Message) -> bool:
        if sender == server.peer and type(message) is AppendReply and message.index > last:
            answered.append(cluster.now)
        return True

    last = server.store.last_index
    cluster.filter = listen
    cluster.write(cluster.elect().me, b"x")
    cluster.run(lambda: answered)
    assert answered[0] >= asked + 0.5
    assert cluster.counts["slow syncs"] > 0


def test_appends_of_a_leader_do_not_wait_for_its_slow_sync() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    server.sync_takes = (0.5, 0.5)
    sent: list[Message] = []

    def listen(sender: Peer, to: Peer, message: Message) -> bool:
        sent.append(message)
        return True

    cluster.filter = listen
    cluster.write(server.peer, b"x")
    assert [len(each.entries) for each in sent if type(each) is Append] == [1, 1]


def test_slow_syncs_end_one_after_the_other() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    server.sync_takes = (0.0, 0.5)
    ends = []
    for number in range(20):
        cluster.write(server.peer, b"%d" % number)
        ends.append(server.synced_at)
    assert ends == sorted(ends)
    cluster.wait(1.0)
    assert len(cluster.acknowledged) == 20


def test_a_sync_of_an_earlier_life_tells_the_present_one_nothing() -> None:
    cluster = Cluster(3)
    server = leading(cluster)
    server.sync_takes = (0.5, 0.5)
    cluster.write(server.peer, b"x")
    mark = server.syncing[-1].mark
    cluster.crash(server.peer)
    server.sync_takes = None
    raft = cluster.start(server.peer)
    stored: list[object] = []
    raft.stored = lambda mark, now: stored.append(mark)  # type: ignore[method-assign]
    cluster.live_until(cluster.now + 0.6)
    assert mark not in stored


# Clocks, and servers that do not run.


def test_a_clock_that_runs_twice_as_fast_reaches_its_deadline_in_half_the_time() -> None:
    cluster = Cluster(3, start=False)
    for peer, pace in ((A, 1.0), (B, 2.0)):
        cluster.servers[peer].pace = pace
        cluster.now = 8.0
        raft = cluster.start(peer)
        wait = raft.deadline - 8.0 * pace
        assert cluster.servers[peer].due == pytest.approx(8.0 + wait / pace)


def test_a_server_acts_by_its_own_clock() -> None:
    cluster = Cluster(3, start=False)
    cluster.servers[B].pace = 2.0
    cluster.now = 8.0
    raft = cluster.start(B)
    due = cluster.servers[B].due
    cluster.step()
    assert cluster.now == due
    assert raft.now == pytest.approx(due * 2)


def test_what_arrives_at_a_server_that_does_not_run_waits_and_is_one_batch() -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    server.busy_until = cluster.now + 0.6
    cluster.live_until(cluster.now + 0.5)
    assert len(server.inbox) > 2
    before = server.store.last_index
    cluster.live_until(cluster.now + 0.2)
    assert server.inbox == []
    assert server.store.last_index >= before
    assert cluster.counts["batches"] > 0


def test_a_server_looks_at_its_messages_before_it_looks_at_the_time() -> None:
    cluster = Cluster(3)
    server = follower_of(cluster)
    raft = cluster.raft(server.peer)
    term = raft.term
    server.busy_until = cluster.now + 10.0
    cluster.live_until(cluster.now + 10.5)
    assert cluster.elect().term == term
    assert raft.state is Role.FOLLOWER


def test_to_wait_for_what_can_never_come_about_ends() -> None:
    cluster = Cluster(3, start=False)
    cluster.wait(1.0)
    assert cluster.now == 1.0
    with pytest.raises(AssertionError, match="nothing happens any more"):
        cluster.run(lambda: cluster.leader())


# Messages.


def test_a_message_on_a_way_that_is_cut_is_lost_and_counted() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    before = cluster.counts["messages cut off"]
    cluster.isolate(leader.me)
    cluster.write(leader.me, b"x")
    assert cluster.counts["messages cut off"] >= before + 2
    assert cluster.acknowledged == {}


def test_what_is_on_its_way_when_the_way_is_cut_is_lost_as_well() -> None:
    cluster = Cluster(3, faults=Faults(delay=(0.01, 0.01)))
    leader = cluster.elect()
    cluster.wait(1.0)
    last = leader.last_index
    cluster.write(leader.me, b"x")
    cluster.isolate(leader.me)
    cluster.live_until(cluster.now + 0.05)
    others = [each for each in cluster.running() if each.peer != leader.me]
    assert [each.store.last_index for each in others] == [last, last]


def test_those_on_one_side_of_a_cut_hear_each_other_and_go_on_after_it() -> None:
    cluster = Cluster(5)
    leader = cluster.elect()
    other = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.isolate(leader.me, other)
    cluster.run(lambda: (found := cluster.leader()) and found.term > leader.term)
    cluster.heal()
    assert cluster.elect().me not in (leader.me, other)


def test_a_filter_says_what_arrives() -> None:
    cluster = Cluster(3)
    cluster.filter = lambda sender, to, message: type(message) is not VoteReply
    with pytest.raises(AssertionError, match="did not come about within 20 virtual seconds"):
        cluster.run(lambda: cluster.leader(), within=20)


# Requests.


def test_a_write_at_a_follower_is_refused_with_the_leaders_name() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = follower_of(cluster)
    assert cluster.write(follower.peer, b"x") == Refusal("redirect", leader.me)


def test_a_write_that_never_comes_about_is_dropped_and_its_caller_told() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader.me)
    cluster.write(leader.me, b"x")
    cluster.run(lambda: (found := cluster.leader()) and found.me != leader.me)
    cluster.heal()
    cluster.run(lambda: cluster.dropped)
    assert list(cluster.dropped) == [b"x"]
    assert b"x" in cluster.watch.dropped


def test_a_read_is_answered_from_all_that_was_acknowledged_before() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader.me, b"x")
    cluster.run(lambda: cluster.acknowledged)
    cluster.read(leader.me, "a read")
    cluster.run(lambda: cluster.read_at)
    assert cluster.read_at["a read"] >= cluster.acknowledged[b"x"]


def test_a_request_waits_until_its_server_looks() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    server = cluster.servers[leader.me]
    server.busy_until = cluster.now + 0.3
    asked = cluster.now
    taken: list[float] = []
    cluster.when_free(leader.me, lambda: taken.append(cluster.now))
    cluster.run(lambda: taken)
    assert taken[0] >= asked + 0.3


def test_leadership_can_be_given_to_whom_a_test_wants() -> None:
    cluster = Cluster(3)
    for peer in (C, A, B):
        assert cluster.make_leader(peer).me == peer
    assert isinstance(cluster.leader(), Raft)


# Chance.


def life(seed: int) -> list[tuple[float, str, str]]:
    bad = Faults(loss=0.1, doubling=0.1, lag=0.1)
    cluster = Cluster(3, seed=seed, faults=bad)
    seen: list[tuple[float, str, str]] = []
    cluster.observe = lambda at, who, what: seen.append((at, who, str(what)))
    cluster.wait(3.0)
    return seen


def test_the_same_seed_gives_the_same_life_and_another_another() -> None:
    assert life(1) == life(1)
    assert life(1) != life(2)


# Snapshots.

SMALL = replace(QUICK, keep_entries=2, snapshot_chunk_bytes=16)


def written(cluster: Cluster, count: int, *, seconds: float = 0.2) -> None:
    """So many commands, each a while after the last."""
    for _ in range(count):
        leader = cluster.leader()
        assert leader is not None
        cluster.write(leader.me, b"%d" % len(cluster.watch.committed))
        cluster.wait(seconds)


def test_a_server_takes_a_snapshot_when_it_has_applied_enough_and_cuts_its_log() -> None:
    cluster = Cluster(1, options=SMALL)
    cluster.snapshot_every = 5
    cluster.elect()
    written(cluster, 10, seconds=0.5)
    store = cluster.servers[A].store
    assert store.snapshot is not None
    assert store.snapshot.index >= 5
    assert store.base_index == store.snapshot.index - 2
    assert cluster.counts["snapshots taken"] == 2


def test_a_snapshot_is_of_what_was_applied_when_it_was_begun() -> None:
    cluster = Cluster(1)
    server = cluster.servers[A]
    cluster.elect()
    written(cluster, 2)
    index = server.applied
    cluster.take_snapshot(A)
    cluster.write(A, b"later")
    assert server.taking
    cluster.run(lambda: server.store.snapshot)
    assert server.store.snapshot is not None
    assert (server.store.snapshot.index, server.taking) == (index, False)


def test_a_snapshot_that_is_being_written_is_lost_with_its_server() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster.take_snapshot(A)
    cluster.crash(A)
    cluster.start(A)
    cluster.wait(1.0)
    assert (cluster.servers[A].store.snapshot, cluster.servers[A].taking) == (None, False)
    assert cluster.counts["snapshots lost with their server"] == 1


def test_a_server_starts_from_its_snapshot() -> None:
    cluster = Cluster(1, options=SMALL)
    cluster.elect()
    written(cluster, 5)
    cluster.take_snapshot(A)
    cluster.wait(0.5)
    cluster.crash(A)
    cluster.start(A)
    assert cluster.counts["snapshots restored"] == 1
    cluster.run(lambda: cluster.servers[A].applied == cluster.elect().last_index)


def behind(cluster: Cluster) -> Server:
    """A follower that lacks what the others have cut off."""
    server = follower_of(cluster)
    cluster.isolate(server.peer)
    cluster.snapshot_every = 5
    written(cluster, 30)
    return server


def test_who_is_far_behind_is_sent_a_snapshot_in_pieces() -> None:
    cluster = Cluster(3, options=SMALL)
    server = behind(cluster)
    cluster.heal()
    cluster.run(lambda: server.applied == cluster.elect().last_index)
    assert cluster.counts["snapshots installed"] >= 1
    assert cluster.counts["pieces of snapshots"] >= 1
    assert server.store.base_index > 5


def test_a_piece_that_is_damaged_on_its_way_is_noticed_and_the_snapshot_sent_again() -> None:
    cluster = Cluster(3, options=SMALL)
    server = behind(cluster)
    cluster.network.faults = replace(cluster.network.faults, damage=1.0)
    cluster.heal()
    cluster.run(lambda: cluster.counts["snapshots that arrived damaged"])
    cluster.network.faults = Faults()
    cluster.run(lambda: server.applied == cluster.elect().last_index)
    assert cluster.counts["pieces of snapshots damaged"] >= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_server_that_dies_when_it_has_just_installed_a_snapshot_begins_anew(seed: int) -> None:
    cluster = Cluster(3, seed=seed, options=SMALL)
    server = behind(cluster)
    server.doomed = "installing"
    cluster.heal()
    cluster.run(lambda: server.raft is None)
    cluster.start(server.peer)
    cluster.run(lambda: server.applied == cluster.elect().last_index)


def test_who_waits_for_an_entry_that_a_snapshot_jumps_past_is_told_so() -> None:
    cluster = Cluster(3, options=SMALL)
    leader = cluster.elect()
    cluster.wait(0.5)
    server = cluster.servers[leader.me]
    others = [peer for peer in cluster.peers if peer != leader.me]
    # It does not hear that its entry is committed.
    cluster.network.cut(*((other, leader.me) for other in others))
    cluster.write(leader.me, b"asked")
    cluster.run(lambda: b"asked" in cluster.done or leader.state is not Role.LEADER)
    cluster.isolate(leader.me)
    cluster.run(lambda: (found := cluster.leader()) and found.me in others)
    cluster.snapshot_every = 3
    cluster.wait(1.0)
    written(cluster, 20)
    cluster.heal()
    cluster.run(lambda: server.applied == cluster.elect().last_index)
    assert list(cluster.passed) == [b"asked"]
    assert b"asked" in cluster.done
