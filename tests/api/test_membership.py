"""Servers join and leave a running cluster; what can't be done is refused and not logged."""

from __future__ import annotations

import pytest

from exraft import ExRaft, Peer, Role, maybe_applied
from exraft.actors.calls import Change, WriteReply
from exraft.errors import (
    BelowMinMajority,
    CatchUpFailed,
    ForeignServer,
    LastServer,
    NoCommit,
    UnstableConfig,
)
from exraft.raft.messages import Append, TimeoutNow
from tests.helpers import (
    LIMIT,
    RAFT,
    Network,
    agree,
    leader_and_followers,
    send,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)


def voters(server: Peer) -> set[Peer]:
    return set(ExRaft.status(server).config.voters)


def test_a_server_that_is_added_gets_the_whole_log() -> None:
    leader, *others = start_cluster()
    for n in range(300):
        ExRaft.write_async(leader, ("put", n, n))
    start(":raft4", min_majority=2)
    ExRaft.add_server(leader, ":raft4")
    assert voters(leader) == {leader, *others, Peer(":raft4")}
    wait_until(lambda: agree([leader, *others, Peer(":raft4")]), "the new one has it all")
    assert ExRaft.read_dirty(":raft4", 299) == 299


def test_a_server_that_is_added_counts() -> None:
    leader = start(":raft1")
    start(":raft2", min_majority=2)
    ExRaft.add_server(leader, ":raft2")
    assert ExRaft.transfer_leadership(leader, ":raft2", LIMIT) == Peer(":raft2")
    assert ExRaft.write(":raft2", ("put", "k", 1)) == "ok"


def test_adding_a_member_returns_and_logs_nothing() -> None:
    leader, follower, _ = start_cluster()
    before = ExRaft.status(leader).last_index
    ExRaft.add_server(leader, follower)
    ExRaft.add_server(leader, leader)
    assert ExRaft.status(leader).last_index == before


def test_removing_a_stranger_returns_and_logs_nothing() -> None:
    leader, *_ = start_cluster()
    before = ExRaft.status(leader).last_index
    ExRaft.remove_server(leader, ":stranger")
    ExRaft.remove_server(leader, (":stranger", "far@away"))
    assert ExRaft.status(leader).last_index == before


def test_a_server_that_is_removed_counts_no_more() -> None:
    leader, follower, other = start_cluster()
    ExRaft.remove_server(leader, follower)
    assert voters(leader) == {leader, other}
    ExRaft.stop_server(follower, timeout=LIMIT)
    assert ExRaft.write(leader, ("put", "k", 1)) == "ok"


def test_a_removed_server_disturbs_nobody() -> None:
    leader, follower, _ = start_cluster()
    ExRaft.remove_server(leader, follower)
    term = ExRaft.status(leader).term
    wait_until(
        lambda: ExRaft.status(follower).commit_index == ExRaft.status(leader).commit_index,
        "it knows of its removal",
    )
    ExRaft.trigger_election(follower)
    assert ExRaft.state(follower) == "follower"
    assert ExRaft.status(leader).term == term


def test_a_leader_that_removes_itself_hands_over(network: Network) -> None:
    leader, *others = start_cluster()
    network.watch()
    ExRaft.remove_server(leader, leader)
    network.await_messages(lambda sender, to, message: isinstance(message, TimeoutNow))
    new, _ = leader_and_followers([peer.name for peer in others])
    assert voters(new) == set(others)
    wait_until(lambda: ExRaft.state(leader) == "follower", "it leads no more")


def test_a_removed_server_can_be_added_again() -> None:
    leader, follower, other = start_cluster()
    ExRaft.write(leader, ("put", "k", 1))
    ExRaft.remove_server(leader, follower)
    ExRaft.add_server(leader, follower)
    assert voters(leader) == {leader, follower, other}
    wait_until(lambda: agree([leader, follower, other]), "all have applied the same")
    assert ExRaft.read_dirty(follower, "k") == 1


def test_the_last_server_cannot_be_removed() -> None:
    raft1 = start(":raft1")
    before = ExRaft.status(raft1).last_index
    with pytest.raises(LastServer, match=r"stop it with ExRaft\.stop_server") as raised:
        ExRaft.remove_server(raft1, raft1)
    assert raised.value.reason == "last_server"
    assert not maybe_applied(raised.value)
    assert ExRaft.status(raft1).last_index == before


def test_a_removal_that_would_leave_fewer_than_min_majority_is_refused() -> None:
    leader, follower = start_cluster(RAFT[:2], min_majority=2)
    with pytest.raises(BelowMinMajority, match="add another server first") as raised:
        ExRaft.remove_server(leader, follower)
    assert raised.value.reason == "below_min_majority"
    assert not maybe_applied(raised.value)
    assert ExRaft.write(leader, ("put", "k", 1)) == "ok"


def test_min_majority_raises_the_quorum(network: Network) -> None:
    leader, follower, other = start_cluster(min_majority=3)
    network.cut(other)
    write = ExRaft.write_async(leader, ("put", "k", 1))
    last = ExRaft.status(leader).last_index
    wait_until(
        lambda: ExRaft.status(leader).peers[follower].match_index == last, "one follower has it"
    )
    assert ExRaft.status(leader).commit_index < last
    network.heal()
    assert write.get(timeout=LIMIT) == "ok"


def test_a_change_while_another_is_under_way_is_refused(network: Network) -> None:
    leader, follower, _ = start_cluster()
    start(":raft4", min_majority=2)
    network.cut(Peer(":raft4"))
    adding = send(leader, Change(WriteReply(), Peer(":raft4"), add=True, patience=LIMIT))
    for change in (ExRaft.add_server, ExRaft.remove_server):
        with pytest.raises(UnstableConfig, match="call again when it has ended") as raised:
            change(leader, follower)
        assert raised.value.reason == "unstable_config"
        assert not maybe_applied(raised.value)
    network.heal()
    adding.get(timeout=LIMIT)
    assert Peer(":raft4") in voters(leader)


def test_a_change_before_the_leaders_first_commit_is_refused_in_the_end(
    network: Network,
) -> None:
    network.lose(lambda sender, to, message: isinstance(message, Append))
    for name in RAFT[:2]:
        start(name, initial_config=RAFT[:2])
    peers = [Peer(name) for name in RAFT[:2]]
    wait_until(lambda: any(ExRaft.state(peer) == "leader" for peer in peers), "one leads")
    (leader,) = (peer for peer in peers if ExRaft.state(peer) == "leader")
    change = send(leader, Change(WriteReply(), Peer(":raft4"), add=False, patience=0.02))
    with pytest.raises(NoCommit, match="call again in a moment") as raised:
        change.get(timeout=LIMIT)
    assert raised.value.reason == "no_commit"
    assert not maybe_applied(raised.value)


def test_a_change_waits_for_the_leaders_first_commit(network: Network) -> None:
    network.lose(lambda sender, to, message: isinstance(message, Append))
    for name in RAFT[:2]:
        start(name, initial_config=RAFT[:2])
    peers = [Peer(name) for name in RAFT[:2]]
    wait_until(lambda: any(ExRaft.state(peer) == "leader" for peer in peers), "one leads")
    (leader,) = (peer for peer in peers if ExRaft.state(peer) == "leader")
    change = send(leader, Change(WriteReply(), Peer(":stranger"), add=False, patience=LIMIT))
    assert not change.done()
    network.heal()
    assert change.get(timeout=LIMIT) is None


def test_a_server_that_does_not_answer_is_not_added() -> None:
    leader = start(":raft1", min_election_timeout=0.2)
    before = ExRaft.status(leader).last_index
    with pytest.raises(CatchUpFailed, match=":nobody does not answer") as raised:
        ExRaft.add_server(leader, ":nobody", LIMIT)
    assert raised.value.reason == "catch_up_failed"
    assert not maybe_applied(raised.value)
    assert ExRaft.status(leader).last_index == before
    assert voters(leader) == {leader}


def test_a_server_of_another_cluster_is_not_added() -> None:
    leader = start(":raft1")
    foreign = start(":foreign")
    ExRaft.write(foreign, ("put", "k", "foreign"))
    with pytest.raises(ForeignServer, match="start it with min_majority=2") as raised:
        ExRaft.add_server(leader, foreign)
    assert raised.value.reason == "foreign_server"
    assert not maybe_applied(raised.value)
    assert voters(leader) == {leader}
    assert ExRaft.read(foreign, "k") == "foreign"


# A server that comes back with an empty store (rule 29).


def test_a_name_that_comes_back_with_an_empty_store_waits_and_is_added_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leader, follower, other = start_cluster()
    ExRaft.write(leader, ("put", "k", 1))
    ExRaft.stop_server(follower, timeout=LIMIT)
    start(follower.name, initial_config=RAFT)
    assert ExRaft.status(follower).standby
    assert "starts with an empty store although a living cluster counts it" in caplog.text
    ExRaft.trigger_election(follower)
    assert ExRaft.state(follower) is Role.FOLLOWER

    ExRaft.add_server(leader, follower)
    assert not ExRaft.status(follower).standby
    assert voters(leader) == {leader, follower, other}
    wait_until(lambda: agree([leader, follower, other]), "it has caught up")
    assert ExRaft.read_dirty(follower, "k") == 1
    assert ExRaft.transfer_leadership(leader, follower, LIMIT) == follower


def test_the_acknowledgements_of_an_empty_store_count_for_nothing(network: Network) -> None:
    leader, follower, other = start_cluster()
    ExRaft.stop_server(follower, timeout=LIMIT)
    start(follower.name, initial_config=RAFT)
    network.cut(other)
    write = ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.status(leader).peers[follower].stranger, "it is found out")
    assert ExRaft.status(leader).commit_index < ExRaft.status(leader).last_index
    network.heal()
    assert write.get(timeout=LIMIT) == "ok"


def test_a_cluster_of_which_nobody_lives_is_founded_anew() -> None:
    for name in RAFT[:2]:
        start(name, initial_config=RAFT[:2])
    leader, follower = leader_and_followers(RAFT[:2])
    cluster = ExRaft.status(leader).cluster
    for peer in (leader, follower):
        ExRaft.stop_server(peer, timeout=LIMIT)
    again, _ = start_cluster(RAFT[:2])
    assert not ExRaft.status(again).standby
    assert ExRaft.status(again).cluster != cluster


def test_the_supervisors_end_drops_the_store_too() -> None:
    leader, follower, _ = start_cluster()
    supervisor_of(follower).stop()
    start(follower.name, initial_config=RAFT)
    assert ExRaft.status(follower).standby
