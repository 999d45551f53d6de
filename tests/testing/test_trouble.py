from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from exraft.names import Peer, Role
from exraft.raft import Raft
from exraft.testing import Faults
from exraft.testing.cluster import Cluster
from exraft.testing.plan import Happening, rates
from exraft.testing.trouble import Trouble

A, B, C = (Peer(f":{name}") for name in "abc")
KINDS = [kind for kind in rates(Faults(), 1.0, 0.5) if kind not in ("write", "read")]
DRAWS = range(40)


def troubled(
    count: int = 3, *, hasty: bool = False, on_disk: bool = False
) -> tuple[Cluster, Trouble]:
    """A cluster that has elected a leader."""
    cluster = Cluster(count, on_disk=on_disk)
    cluster.elect()
    cluster.wait(1.0)
    return cluster, Trouble(cluster, min_majority=1, hasty=hasty)


def lives(kind: str, *, count: int = 3, wait: float = 0.0) -> list[tuple[Cluster, Trouble]]:
    """Clusters after such a happening, each with other choices."""
    result = []
    for draw in DRAWS:
        cluster, trouble = troubled(count)
        trouble.happen(Happening(0.0, kind, draw))
        cluster.wait(wait)
        result.append((cluster, trouble))
    return result


def leads(cluster: Cluster) -> bool:
    leader = cluster.leader()
    return leader is not None and leader.committed_in_term


def write(cluster: Cluster, peer: Peer) -> None:
    cluster.write(peer, b"x")


def total(clusters: list[tuple[Cluster, Trouble]], kind: str) -> int:
    return sum(cluster.counts[kind] for cluster, _ in clusters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "on_disk"), [(1, False), (2, False), (5, False), (3, True)])
def test_a_cluster_of_any_size_survives_it(kind: str, count: int, on_disk: bool) -> None:
    for draw in range(10):
        cluster, trouble = troubled(count, on_disk=on_disk)
        for number in range(3):
            trouble.happen(Happening(0.0, kind, 10 * draw + number))
            cluster.wait(0.2)
        trouble.calm = True
        cluster.heal()
        for server in cluster.servers.values():
            server.owner.repair()
            server.doomed = ""
            server.busy_until = 0.0
        for peer in cluster.servers:
            trouble.start(peer)
        cluster.run(partial(leads, cluster))


@pytest.mark.parametrize("kind", ["crash", "cut one direction", "cut one link"])
def test_followers_lose_the_connection_to_a_leader_that_is_gone_or_cut_off(kind: str) -> None:
    lost = total(lives(kind, wait=0.2), "connections lost")
    assert lost > 5


def test_connections_are_closed_for_nothing_in_a_bad_network_only() -> None:
    def lost(faults: Faults) -> int:
        cluster = Cluster(3, faults=faults)
        cluster.elect()
        trouble = Trouble(cluster, min_majority=1, hasty=False)
        for draw in range(100):
            trouble.happen(Happening(0.0, "stall", draw))
        return cluster.counts["connections lost"]

    assert lost(Faults()) == 0
    assert lost(Faults(partitions=0.1)) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_its_choices_come_from_its_own_seed(kind: str) -> None:
    def life(draw: int, before: int) -> list[str]:
        cluster, trouble = troubled(5)
        trouble.happen(Happening(0.0, "stall", before))
        for server in cluster.servers.values():
            server.busy_until = 0.0
        seen: list[str] = []
        cluster.observe = lambda at, who, what: seen.append(f"{at} {who} {what}")
        trouble.happen(Happening(0.0, kind, draw))
        cluster.wait(1.0)
        seen.append(str(sorted(cluster.counts.items())))
        return seen

    assert life(3, before=1) == life(3, before=2)


def test_who_crashes_is_started_again() -> None:
    crashed = lives("crash", wait=2.0)
    assert all(server.raft for cluster, _ in crashed for server in cluster.servers.values())
    assert total(crashed, "crashes, restarted by the supervisor") > 0
    assert total(crashed, "crashes, started as a new process") > 0
    assert total(crashed, "leaders resumed") > 0


def test_nobody_is_started_again_once_the_faults_have_stopped() -> None:
    cluster, trouble = troubled()
    trouble.happen(Happening(0.0, "crash", 1))
    down = [server for server in cluster.servers.values() if server.raft is None]
    trouble.calm = True
    cluster.wait(3.0)
    assert len(down) == 1
    assert down[0].raft is None


def test_who_dies_midway_is_started_again() -> None:
    for cluster, _ in lives("crash midway", wait=1.0):
        assert all(server.raft for server in cluster.servers.values())
        # One that was to die when it installs a snapshot has had none to install.
        assert {server.doomed for server in cluster.servers.values()} <= {"", "installing"}
    died = lives("crash midway")
    for cluster, _ in died:
        leader = cluster.leader()
        assert leader
        cluster.write(leader.me, b"x")
        cluster.wait(0.05)
    assert 0 < total(died, "crashes between two steps") <= len(died)


@pytest.mark.parametrize("kind", ["cut off a group", "cut one direction", "cut one link"])
def test_a_cut_is_mended_after_a_while(kind: str) -> None:
    for cluster, _ in lives(kind):
        assert cluster.network.cuts
        cluster.wait(3.1)
        assert cluster.network.cuts == {}


def shapes(kind: str, count: int = 5) -> list[dict[tuple[Peer, Peer], int]]:
    return [cluster.network.cuts for cluster, _ in lives(kind, count=count)]


def test_a_group_is_cut_off_both_ways_from_all_others() -> None:
    sizes = set()
    for cuts in shapes("cut off a group"):
        assert all((other, one) in cuts for one, other in cuts)
        group = {one for one, _ in cuts if sum(each == one for each, _ in cuts) > 2}
        sizes.add(len(cuts))
        assert len(cuts) in (2 * 1 * 4, 2 * 2 * 3), group
    assert len(sizes) == 2


def test_one_direction_is_cut_and_the_other_is_not() -> None:
    ways = [list(cuts) for cuts in shapes("cut one direction")]
    assert not any((other, one) in cut for cut in ways for one, other in cut)
    assert any(len({one for one, _ in cut}) == 1 < len(cut) for cut in ways)
    assert any(len({other for _, other in cut}) == 1 < len(cut) for cut in ways)


def test_one_link_is_cut_both_ways() -> None:
    for cuts in shapes("cut one link"):
        (one, other), back = cuts
        assert back == (other, one)


def test_a_stalled_server_does_not_run_for_a_while() -> None:
    stalled = lives("stall")
    for cluster, _ in stalled:
        busy = [each for each in cluster.running() if each.busy_until > cluster.now]
        assert len(busy) == 1
        assert busy[0].busy_until <= cluster.now + 1.5
    assert total(stalled, "stalls") == len(stalled)


def test_a_disk_that_fails_is_replaced_with_the_process() -> None:
    failed = lives("fail a disk")
    assert {s.owner.fails for cluster, _ in failed for s in cluster.running()} == {
        "",
        "write",
        "sync",
    }
    for cluster, _ in failed:
        leader = cluster.leader()
        assert leader
        cluster.later(0.0, partial(write, cluster, leader.me))
        cluster.wait(2.0)
        assert all(server.raft for server in cluster.servers.values())
        assert not any(server.owner.fails for server in cluster.servers.values())
    assert total(failed, "disks that failed") > len(failed) / 2


def test_a_store_is_lost_at_times_knowing_it_and_at_times_not() -> None:
    lost = lives("lose a store", wait=2.0)
    assert total(lost, "stores lost, on standby") > 0
    assert total(lost, "stores lost, found out by the others") > 0
    for cluster, _ in lost:
        assert sum(len(owners) for owners in cluster.watch.held.values()) <= 4


def test_no_more_stores_are_lost_than_the_others_can_cover() -> None:
    for draw in DRAWS:
        cluster, trouble = troubled(3)
        for number in range(20):
            trouble.happen(Happening(0.0, "lose a store", 100 * draw + number))
        leader = cluster.leader()
        config = leader.config if leader else cluster.servers[A].owner.life.config
        whole = [peer for peer in config.voters if trouble.genuine(config, peer)]
        assert len(whole) >= 2


def test_no_store_is_lost_of_two_servers_or_one() -> None:
    for count in (1, 2):
        lost = lives("lose a store", count=count)
        assert all(len(owners) == 1 for c, _ in lost for owners in c.watch.held.values())


def test_members_are_added_and_removed_the_leader_too() -> None:
    changed = lives("change members", count=4, wait=3.0)
    for kind in ("additions", "removals", "removals of the leader"):
        assert total(changed, kind) > 0, kind
    sizes = {len(leader.config.voters) for c, _ in changed if (leader := c.leader())}
    assert sizes == {3, 4, 5}


def test_changes_wait_for_each_other_unless_in_haste() -> None:
    def asked(hasty: bool) -> int:
        cluster, trouble = troubled(5, hasty=hasty)
        cluster.isolate(cluster.elect().me)
        for draw in range(20):
            trouble.happen(Happening(0.0, "change members", draw))
            cluster.wait(0.01)
        return len(trouble.tickets)

    assert asked(hasty=False) < asked(hasty=True)


def test_leadership_is_transferred() -> None:
    transferred = lives("transfer", wait=2.0)
    assert total(transferred, "transfers") == len(transferred)
    assert len({leader.me for c, _ in transferred if (leader := c.leader())}) == 3
    for cluster, trouble in transferred:
        assert not any(map(trouble.is_open, trouble.tickets))
        assert set(trouble.tickets) == set(cluster.answers)


def test_elections_are_triggered() -> None:
    triggered = lives("trigger an election", wait=2.0)
    assert total(triggered, "elections triggered") >= len(triggered)
    assert all(cluster.counts["elections"] > 1 for cluster, _ in triggered)


def test_those_who_hear_that_the_leader_is_gone_hurry() -> None:
    gone = [cluster for cluster, _ in lives("crash") if cluster.counts["leaders gone"]]
    took = []
    for cluster in gone:
        before = cluster.now
        cluster.run(cluster.leader)
        took.append(cluster.now - before)
    # Without that, nobody would campaign earlier than this.
    assert sum(took) / len(took) < cluster.options.min_election_timeout


def test_a_message_of_another_cluster_changes_nothing() -> None:
    sent = lives("send a foreign message")
    assert total(sent, "foreign messages") == len(sent)
    assert sum(cluster.raft(each.peer).foreign for cluster, _ in sent for each in cluster.running())


def test_a_server_of_another_cluster_is_not_taken_in() -> None:
    for cluster, trouble in lives("add a foreign server", wait=3.0):
        leader = cluster.leader()
        assert leader
        assert Peer(":foreign") not in leader.config.voters
        assert Peer(":foreign") not in [each.peer for each in trouble.ours()]
        assert cluster.counts["foreign servers to be added"] == 1
        (outcome,) = (cluster.answers[ticket] for ticket in trouble.tickets)
        assert outcome.code == "foreign_server"


def test_a_deposed_leader_leads_on_unawares_while_another_does() -> None:
    def two_lead(cluster: Cluster) -> bool:
        """Whether that comes about at any time in the next two seconds."""
        for _ in range(200):
            states = [cluster.raft(server.peer).state for server in cluster.running()]
            if states.count(Role.LEADER) == 2:
                return True
            cluster.wait(0.01)
        return False

    assert sum(two_lead(cluster) for cluster, _ in lives("depose a leader unawares")) > 10


def test_a_request_of_an_earlier_life_is_not_open() -> None:
    cluster, trouble = troubled()
    leader: Raft = cluster.elect()
    cluster.isolate(leader.me)
    trouble.ask_change(leader.me, Peer(":x"), add=True)
    assert trouble.is_open(trouble.change)
    cluster.crash(leader.me)
    assert not trouble.is_open(trouble.change)


def test_snapshots_are_taken_of_the_leader_and_of_others() -> None:
    taken = lives("take a snapshot", wait=1.0)
    assert total(taken, "snapshots taken") == len(taken)
    whose = {
        server.raft.state
        for cluster, _ in taken
        for server in cluster.running()
        if server.raft and server.store.snapshot
    }
    assert whose == {Role.LEADER, Role.FOLLOWER}


def test_a_disk_of_a_store_on_disk_is_full_or_fails_and_is_repaired() -> None:
    kinds: set[str] = set()
    for draw in DRAWS:
        cluster, trouble = troubled(on_disk=True)
        trouble.happen(Happening(0.0, "fail a disk", draw))
        leader = cluster.leader()
        assert leader is not None
        for number in range(60):
            cluster.later(0.01 * number, partial(write_if_it_leads, cluster, leader, number))
        cluster.wait(4.0)
        assert all(server.raft for server in cluster.servers.values())
        assert all(server.full is None for server in cluster.servers.values())
        kinds.update(kind for kind in cluster.counts if kind.startswith("disks that"))
    assert kinds == {"disks that failed", "disks that were full"}


def write_if_it_leads(cluster: Cluster, leader: Raft, number: int) -> None:
    if cluster.servers[leader.me].raft is leader:
        cluster.write(leader.me, b"%d" % number)


def test_the_power_of_a_store_on_disk_goes_at_any_operation() -> None:
    lost = 0
    for draw in DRAWS:
        cluster, trouble = troubled(on_disk=True)
        trouble.happen(Happening(0.0, "crash midway", draw))
        leader = cluster.leader()
        assert leader is not None
        for number in range(20):
            cluster.later(0.01 * number, partial(write_if_it_leads, cluster, leader, number))
        cluster.wait(3.0)
        assert all(server.raft for server in cluster.servers.values())
        lost += cluster.counts["power failures at any operation"]
    assert lost > len(DRAWS) / 5


def test_who_will_be_sent_a_snapshot_may_die_when_it_installs_it() -> None:
    cluster, trouble = troubled()
    leader = cluster.elect()
    other = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.isolate(other)
    leader.options = replace(leader.options, keep_entries=0)
    for number in range(10):
        cluster.write(leader.me, b"%d" % number)
    # By then it does not count as being there, and nothing is kept for it.
    cluster.wait(1.5)
    cluster.take_snapshot(leader.me)
    cluster.wait(0.5)
    for draw in DRAWS:
        if cluster.servers[other].doomed != "installing":
            trouble.happen(Happening(0.0, "crash midway", draw))
    assert cluster.servers[other].doomed == "installing"
    cluster.heal()
    cluster.wait(3.0)
    assert cluster.counts["snapshots installed"]
    assert cluster.counts["crashes between two steps"]
