"""Servers that crash and come back, and leaders that die for good: rules 26 to 29."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from exraft.names import Peer, Role
from exraft.raft import (
    CONFIG,
    Append,
    AppendReply,
    Config,
    Done,
    Entry,
    Logged,
    Message,
    Options,
    PreVote,
    PreVoteReply,
    Refusal,
    Vote,
    VoteReply,
)
from exraft.raft.config import config_entry, decode_config
from exraft.storage import Fenced
from exraft.testing.cluster import QUICK, Cluster
from exraft.testing.faults import Faults
from tests.raft.hand import (
    A,
    B,
    C,
    D,
    E,
    Hand,
    accept,
    append,
    command,
    configuration,
    from_store,
    pre_vote,
    pre_vote_reply,
    reach_reply,
    refuse,
    store_of,
    vote,
    vote_reply,
    with_log,
)
from tests.raft.hand import commands as entries_of
from tests.raft.views import commands, voters

# Rule 26: a restart.


def test_a_restarted_server_has_its_commit_index_again() -> None:
    """Rule 26."""
    before = Hand()
    before.hear(append(B, 1, (0, 0), entries_of(1, 3), commit=2))
    hand = Hand(owner=before.owner)
    assert hand.raft.commit_index == 2
    assert hand.log() == before.log()
    assert hand.raft.term == 1


def test_a_restarted_server_knows_its_cluster_again() -> None:
    """Rules 17 and 26."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C, cluster="here"), commit=1))
    assert hand.raft.cluster == "here"


def test_a_restarted_server_applies_each_entry_once_in_its_life() -> None:
    """Rules 13 and 26."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    cluster.write(A, b"x")
    cluster.write(A, b"y")
    cluster.wait(0.5)
    cluster.crash(C)
    cluster.start(C)
    assert commands(cluster, C) == [b"x", b"y"]
    cluster.wait(1)
    assert commands(cluster, C) == [b"x", b"y"]


def test_a_life_that_was_given_up_for_dead_writes_nothing_any_more() -> None:
    """Rule 27: a successor holds the store."""
    before = Hand()
    hand = Hand(owner=before.owner)
    with pytest.raises(Fenced):
        before.hear(append(B, 1, (0, 0), [command(1)]))
    assert hand.store.last_index == 0


# Rule 27: a leader that crashed leads on.


def crashed_leader() -> Hand:
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    return hand


def test_a_leader_that_is_restarted_in_its_term_leads_on_in_it() -> None:
    """Rule 27."""
    before = crashed_leader()
    hand = Hand(owner=before.owner, resume=True)
    assert (hand.leads(), hand.raft.term) == (True, 1)
    assert hand.log() == [(1, b"x")]
    index = hand.raft.last_index
    hand.hear(accept(B, 1, index))
    assert hand.raft.commit_index == index


def test_a_restarted_leader_counts_no_acknowledgement_of_its_life_before() -> None:
    """Rule 27: match indexes start afresh."""
    before = Hand(founders=(A, B, C, D, E))
    before.elect()
    before.propose(b"x")
    before.hear(accept(B, 1, before.raft.last_index))
    hand = Hand(founders=before.raft.config.voters, owner=before.owner, resume=True)
    index = hand.raft.last_index
    hand.hear(accept(C, 1, index))
    assert hand.raft.commit_index < index
    hand.hear(accept(B, 1, index))
    assert hand.raft.commit_index == index


def test_read_rounds_do_not_repeat_within_a_term_over_a_restart() -> None:
    """Rule 27: the incarnation comes first in their number."""
    before = crashed_leader()
    for n in range(5):
        before.read(f"before {n}")
    answered = max(message.round for message in before.told(Append))
    hand = Hand(owner=before.owner, resume=True)
    hand.read("after")
    last = hand.raft.last_index
    hand.hear(accept(B, 1, last, round=answered), accept(C, 1, last, round=answered))
    assert not hand.confirmed
    hand.wait_for_deadline()
    (number,) = {message.round for message in hand.told(Append)}
    assert number > answered
    hand.hear(accept(B, 1, last, round=number))
    assert list(hand.confirmed) == ["after"]


def test_check_quorum_starts_afresh_for_a_restarted_leader() -> None:
    """Rule 27."""
    before = crashed_leader()
    hand = Hand(owner=before.owner, resume=True, now=100.0)
    for _ in range(9):
        hand.wait(0.1)
    assert hand.leads()
    for _ in range(3):
        hand.wait(0.1)
    assert hand.follows()


def test_a_leader_that_stepped_down_does_not_lead_on_when_restarted() -> None:
    """Rule 27: cleared at every step-down."""
    before = crashed_leader()
    for _ in range(12):
        before.wait(0.1)
    assert (before.follows(), before.raft.term) == (True, 1)
    hand = Hand(owner=before.owner, resume=True)
    assert hand.follows()


def test_a_leader_that_was_deposed_does_not_lead_on_when_restarted() -> None:
    """Rule 27."""
    before = crashed_leader()
    before.hear(vote(B, 2, (9, 9), force=True))
    hand = Hand(owner=before.owner, resume=True)
    assert (hand.follows(), hand.raft.term) == (True, 2)


def test_a_leader_that_was_told_to_campaign_does_not_lead_on_when_restarted() -> None:
    """Rule 27."""
    before = crashed_leader()
    before.campaign()
    hand = Hand(owner=before.owner, resume=True)
    assert (hand.follows(), hand.raft.term) == (True, 2)


def test_a_leader_whose_supervisor_died_as_well_does_not_lead_on() -> None:
    """Rule 27."""
    before = crashed_leader()
    hand = Hand(owner=before.owner)
    assert hand.follows()
    assert not hand.store.leads
    again = Hand(owner=before.owner, resume=True)
    assert again.follows()


def test_a_candidate_does_not_lead_when_restarted() -> None:
    """Rule 27."""
    before = Hand()
    before.campaign()
    hand = Hand(owner=before.owner, resume=True)
    assert hand.follows()


def test_a_leader_that_is_no_voter_any_more_does_not_lead_on() -> None:
    """Rule 27."""
    before = crashed_leader()
    before.change("remove", A, add=False)
    hand = Hand(owner=before.owner, resume=True)
    assert hand.follows()


def test_a_leader_that_crashed_before_its_first_entry_writes_it_when_restarted() -> None:
    """Rules 9 and 27."""
    owner = with_log(A, configuration(1, A, B, C), commit=1)
    owner.lend().set_ballot(2, A, leads=True)
    hand = Hand(owner=owner, resume=True)
    assert (hand.leads(), hand.raft.last_term) == (True, 2)
    hand.hear(accept(B, 2, 2))
    assert hand.raft.committed_in_term


def test_entries_are_in_the_store_before_a_message_that_carries_them_leaves() -> None:
    """Rule 27: a resumed leader must never write another entry at an index that it gave away."""
    before = Hand()
    before.elect()
    before.raft.propose(b"x", before.now)
    before.raft.flush(before.now)
    sent = [m for _, m in before.raft.take().early if isinstance(m, Append)]
    hand = Hand(owner=before.owner, resume=True)
    index = sent[0].prev_index + 1
    assert tuple(hand.store.slice(index, 1)) == sent[0].entries


def test_a_leader_crashed_in_mid_traffic_leads_on_and_loses_nothing() -> None:
    """Rule 27."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    term = cluster.raft(A).term
    for n in range(20):
        cluster.write(A, b"%d" % n)
        if n % 5 == 4:
            cluster.crash(A)
            cluster.start(A, resume=True)
    cluster.run(lambda: len(cluster.done) >= 20)
    assert (cluster.raft(A).state, cluster.raft(A).term) == (Role.LEADER, term)
    assert commands(cluster, A) == [b"%d" % n for n in range(20)]


# Rule 28: a leader that is gone for good.


def test_a_follower_that_learns_of_its_leaders_death_asks_for_votes_at_once() -> None:
    """Rule 28."""
    for seed in range(20):
        hand = Hand(seed=seed)
        hand.hear(append(B, 1, (0, 0)))
        hand.raft.leader_gone(B, hand.now)
        assert hand.raft.leader is None
        assert 0 <= hand.raft.deadline - hand.now <= 0.02
        hand.wait_for_deadline()
        assert hand.told(PreVote)


def test_a_follower_whose_leader_died_for_good_grants_pre_votes_and_votes() -> None:
    """Rule 28: it clears the stickiness of rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.raft.leader_gone(B, hand.now)
    hand.hear(pre_vote(C, 2))
    assert hand.only(PreVoteReply, C).granted
    hand.hear(vote(C, 2))
    assert hand.only(VoteReply, C).granted


def test_the_death_of_a_server_that_does_not_lead_changes_nothing() -> None:
    """Rule 28."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    before = (hand.raft.leader, hand.raft.deadline)
    hand.raft.leader_gone(C, hand.now)
    assert (hand.raft.leader, hand.raft.deadline) == before


def test_the_death_of_an_earlier_leader_changes_nothing() -> None:
    """Rule 28."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(append(C, 2, (0, 0)))
    hand.raft.leader_gone(B, hand.now)
    assert hand.raft.leader == C


def test_refused_pre_votes_after_a_leaders_death_are_asked_for_every_heartbeat() -> None:
    """Rule 28."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.raft.leader_gone(B, hand.now)
    hand.wait_for_deadline()
    asked = 0
    while hand.now < 1.0:
        hand.hear(pre_vote_reply(C, 1, 2, granted=False))
        assert hand.raft.deadline - hand.now == pytest.approx(0.1)
        hand.wait_for_deadline()
        asked += len(hand.told(PreVote, C))
    assert asked >= 9


def test_a_leader_that_dies_for_good_is_replaced_without_waiting_for_a_timeout() -> None:
    """Rule 28."""
    soon = 0
    for seed in range(20):
        cluster = Cluster(3, seed=seed)
        cluster.make_leader(A)
        cluster.crash(A)
        for peer in (B, C):
            cluster.leader_gone(peer, A)
        died = cluster.now
        cluster.run(lambda cluster=cluster: cluster.leader() is not None)  # type: ignore[misc]
        soon += cluster.now < died + 0.5
    # In the others a heartbeat was under way, which in a process can't be.
    assert soon >= 10


# Rule 28: a connection to the leader that was closed.

PATIENT = Options(min_election_timeout=1.0, max_election_timeout=10.0, heartbeat_timeout=0.1)


def doubting(seed: int = 0) -> Hand:
    """A heard B at 0, and lost the connection to it at 0.3."""
    hand = Hand(seed=seed, options=PATIENT)
    hand.hear(append(B, 1, (0, 0)))
    hand.wait(0.3)
    hand.raft.leader_lost(B, hand.now)
    return hand


def test_a_follower_that_loses_its_leader_asks_for_votes_when_they_may_be_given() -> None:
    """Rule 28."""
    for seed in range(20):
        hand = doubting(seed)
        assert 1.0 <= hand.raft.deadline <= 1.02
        hand.wait_for_deadline()
        assert hand.told(PreVote)


def test_followers_that_lose_their_leader_do_not_ask_all_at_once() -> None:
    """Rule 28."""
    assert len({doubting(seed).raft.deadline for seed in range(20)}) == 20


def test_a_follower_that_loses_its_leader_sticks_to_it_as_long_as_before() -> None:
    """Rules 4 and 28: it may be the network."""
    hand = doubting()
    assert hand.raft.leader == B
    hand.wait(0.69)
    hand.hear(pre_vote(C, 2), vote(C, 2))
    assert not hand.only(PreVoteReply, C).granted
    assert not hand.only(VoteReply, C).granted
    assert hand.raft.term == 1
    hand.wait(0.01)
    hand.hear(pre_vote(C, 2))
    assert hand.only(PreVoteReply, C).granted


def test_a_follower_that_has_not_heard_its_leader_for_long_asks_as_it_loses_it() -> None:
    """Rule 28."""
    hand = Hand(options=PATIENT)
    hand.hear(append(B, 1, (0, 0)))
    assert hand.raft.deadline > 2.0
    hand.now = 1.5
    hand.raft.leader_lost(B, hand.now)
    assert 1.5 <= hand.raft.deadline <= 1.52


def test_refused_pre_votes_after_a_loss_are_asked_for_every_heartbeat() -> None:
    """Rule 28: others may have heard the leader a heartbeat later."""
    hand = doubting()
    hand.wait_for_deadline()
    asked = 0
    while hand.now < 1.9:
        hand.hear(pre_vote_reply(C, 1, 2, granted=False))
        assert hand.raft.deadline - hand.now == pytest.approx(0.1)
        hand.wait_for_deadline()
        asked += len(hand.told(PreVote, C))
    assert asked >= 8


def test_a_leader_that_is_heard_after_its_connection_was_closed_is_trusted_as_before() -> None:
    """Rule 28."""
    waits = []
    for seed in range(20):
        hand = doubting(seed)
        hand.wait(0.1)
        hand.hear(append(B, 1, (0, 0)))
        waits.append(hand.raft.deadline - hand.now)
    assert min(waits) >= 1.0
    assert max(waits) > 5.0


def test_who_hears_its_leader_again_is_in_a_hurry_no_more() -> None:
    """Rule 28."""
    hand = Hand(options=replace(PATIENT, max_election_timeout=1.1))
    hand.hear(append(B, 1, (0, 0)))
    hand.wait(0.3)
    hand.raft.leader_lost(B, hand.now)
    hand.now = 0.45
    hand.hear(append(B, 1, (0, 0)))
    hand.wait_for_deadline()
    assert hand.told(PreVote)
    waits = []
    for _ in range(3):
        before = hand.now
        hand.wait_for_deadline()
        waits.append(hand.now - before)
    assert max(waits) > 0.11


def test_what_was_under_way_when_a_connection_was_closed_is_no_sign_of_life() -> None:
    """Rule 28: the last messages of the dead may be handled after the news."""
    hand = doubting()
    hand.wait(0.01)
    hand.hear(append(B, 1, (0, 0)))
    assert 1.31 <= hand.raft.deadline <= 1.33


def test_a_new_leader_is_not_doubted_for_what_befell_the_one_before() -> None:
    """Rule 28."""
    for seed in range(5):
        hand = doubting(seed)
        hand.hear(vote(C, 2, force=True), append(C, 2, (0, 0)))
        assert hand.raft.deadline - hand.now > 1.02


def test_a_connection_that_is_lost_twice_is_lost_once() -> None:
    """Rules 12 and 28."""
    hand = doubting()
    before = hand.raft.deadline
    for _ in range(3):
        hand.wait(0.1)
        hand.raft.leader_lost(B, hand.now)
        assert hand.raft.deadline == before


def test_the_connection_to_who_does_not_lead_changes_nothing() -> None:
    """Rule 28."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(append(C, 2, (0, 0)))
    before = (hand.raft.leader, hand.raft.deadline)
    hand.raft.leader_lost(B, hand.now)
    hand.raft.leader_lost(A, hand.now)
    assert (hand.raft.leader, hand.raft.deadline) == before


def test_who_leads_or_campaigns_has_no_leader_to_lose() -> None:
    """Rule 28."""
    hand = Hand()
    hand.campaign()
    for role in (Role.CANDIDATE, Role.LEADER):
        assert hand.raft.state is role
        before = hand.raft.deadline
        for peer in (A, B):
            hand.raft.leader_lost(peer, hand.now)
        assert (hand.raft.state, hand.raft.deadline) == (role, before)
        hand.hear(vote_reply(B, 1))


def lose(cluster: Cluster, leader: Peer, *peers: Peer) -> None:
    for peer in peers:
        cluster.leader_lost(peer, leader)


@pytest.mark.parametrize("count", [3, 5])
def test_a_leader_whose_process_ends_is_replaced_soon_after_stickiness_ends(count: int) -> None:
    """Rule 28: though an election timeout may be ten times that, and votes are split."""
    for seed in range(20):
        cluster = Cluster(count, seed=seed, options=PATIENT, faults=Faults(delay=(0.001, 0.03)))
        cluster.make_leader(A)
        cluster.crash(A, killed=True)
        lose(cluster, A, *(peer for peer in cluster.peers if peer != A))
        cluster.run(lambda c=cluster: c.leader() is not None, within=2.5)  # type: ignore[misc]


def test_connections_that_are_closed_while_the_leader_lives_disturb_nobody() -> None:
    """Rule 28."""
    for seed in range(10):
        cluster = Cluster(3, seed=seed, options=PATIENT)
        leader = cluster.make_leader(A)
        term = leader.term
        asked: list[PreVote] = []

        def hear(sender: Peer, to: Peer, message: Message, asked: list[PreVote] = asked) -> bool:
            asked += [message] if isinstance(message, PreVote) else []
            return True

        cluster.filter = hear
        for _ in range(30):
            cluster.wait(0.15)
            lose(cluster, A, B, C)
        cluster.wait(3.0)
        assert not asked
        assert [cluster.raft(peer).term for peer in cluster.peers] == [term] * 3


def test_who_loses_its_leader_alone_deposes_nobody() -> None:
    """Rules 4 and 28: the others hear it."""
    cluster = Cluster(3, options=PATIENT)
    leader = cluster.make_leader(A)
    term = leader.term
    cluster.network.cut((A, B), (B, A))
    lose(cluster, A, B)
    cluster.wait(5.0)
    cluster.heal()
    cluster.wait(1.0)
    assert (cluster.leader(), leader.term) == (leader, term)
    assert cluster.raft(B).leader == A


# Rule 29: a member that comes back with another store.


def test_votes_from_another_store_than_the_members_do_not_count() -> None:
    """Rule 29."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C), commit=1))
    hand.campaign()
    hand.hear(from_store(vote_reply(B, 2), "new"), from_store(vote_reply(C, 2), "new"))
    assert hand.campaigns()
    hand.hear(vote_reply(C, 2))
    assert hand.leads()


def test_pre_votes_from_another_store_than_the_members_do_not_count() -> None:
    """Rule 29."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C), commit=1))
    hand.wait_for_deadline()
    hand.hear(from_store(pre_vote_reply(B, 1, 2), "new"))
    assert hand.follows()
    hand.hear(pre_vote_reply(B, 1, 2))
    assert hand.campaigns()


def test_acknowledgements_from_another_store_than_the_members_do_not_count() -> None:
    """Rule 29."""
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    index = hand.raft.last_index
    hand.hear(from_store(accept(B, 1, index), "new"), from_store(accept(C, 1, index), "new"))
    assert hand.raft.commit_index < index


def test_what_a_member_acknowledged_counts_no_more_when_its_store_is_lost() -> None:
    """Rule 29."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    hand.propose(b"x")
    index = hand.raft.last_index
    hand.hear(accept(B, 1, index))
    hand.hear(from_store(refuse(B, 1, index), "new"))
    hand.hear(accept(C, 1, index))
    assert hand.raft.commit_index < index


def test_a_member_with_another_store_does_not_keep_a_leader_in_office() -> None:
    """Rules 5 and 29."""
    hand = Hand()
    hand.elect()
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(from_store(accept(B, 1, 1), "new"), from_store(accept(C, 1, 1), "new"))
    assert hand.follows()


def test_a_candidate_with_another_store_than_the_members_gets_no_vote() -> None:
    """Rule 29."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C), commit=1))
    hand.hear(from_store(vote(B, 2, (9, 9)), "new"), from_store(pre_vote(B, 3, (9, 9)), "new"))
    assert not hand.only(VoteReply).granted
    assert not hand.only(PreVoteReply).granted


def test_the_log_says_what_to_do_about_a_member_with_another_store() -> None:
    """Rule 29."""
    hand = Hand()
    hand.elect()
    hand.hear(from_store(accept(B, 1, 1), "new"), from_store(accept(B, 1, 1), "new"))
    (report,) = hand.reports
    assert "ExRaft.add_server" in report


def test_the_ids_of_stores_are_recorded_as_soon_as_they_are_known() -> None:
    """Rule 29."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    assert dict(hand.raft.config.stores) == {A: store_of(A), B: store_of(B)}
    hand.hear(accept(B, 1, 1))
    hand.hear(accept(C, 1, 1))
    assert dict(hand.raft.config.stores) == {peer: store_of(peer) for peer in (A, B, C)}


def test_votes_and_acknowledgements_carry_the_id_of_the_store() -> None:
    """Rule 29."""
    hand = Hand()
    hand.hear(pre_vote(B, 1), vote(B, 1), append(B, 1, (0, 0)), append(B, 1, (7, 7)))
    assert {m.store for m in hand.told(PreVoteReply)} == {store_of(A)}
    assert {m.store for m in hand.told(VoteReply)} == {store_of(A)}
    assert [m.store for m in hand.told(AppendReply)] == [store_of(A)] * 2
    hand.campaign()
    assert {m.store for m in hand.told(Vote)} == {store_of(A)}


def test_a_new_store_under_a_members_name_neither_votes_nor_campaigns() -> None:
    """Rule 29."""
    hand = Hand(standby=True)
    hand.hear(vote(B, 1), pre_vote(C, 1))
    assert not hand.only(VoteReply).granted
    assert not hand.only(PreVoteReply).granted
    hand.wait(60)
    hand.campaign()
    assert hand.follows()
    assert not hand.sent


def test_a_lone_founder_with_a_new_store_waits_as_well() -> None:
    """Rule 29: whatever its initial configuration says."""
    hand = Hand(founders=(A,), standby=True)
    hand.wait(60)
    assert (hand.follows(), hand.raft.term) == (True, 0)


def test_a_new_store_becomes_a_member_by_the_configuration_that_names_it() -> None:
    """Rule 29."""
    hand = Hand(standby=True)
    hand.hear(append(B, 1, (0, 0), [configuration(1, B, C), configuration(1, A, B, C)], commit=2))
    hand.hear(vote(C, 2, (2, 1), force=True))
    assert hand.only(VoteReply).granted
    hand.wait_for_deadline()
    assert hand.told(PreVote)


def test_a_new_store_that_the_asker_knows_as_the_members_votes() -> None:
    """Rule 29: the entry that names it may not have come, and no leader be there to send it."""
    hand = Hand(standby=True)
    hand.campaign()
    asker = Hand(B, owner=with_log(B, configuration(1, A, B, C), commit=1))
    asker.campaign()
    hand.hear(*asker.told(Vote, A))
    assert hand.only(VoteReply).granted


def test_a_name_that_came_back_with_a_new_store_is_taken_in_again_in_two_steps() -> None:
    """Rule 29."""
    hand = Hand()
    hand.elect()
    before = hand.raft.last_index
    hand.change("add", C, add=True)
    hand.hear(reach_reply(C, store="new"))
    assert hand.voters() == (A, B)
    assert "add" not in hand.answers
    hand.hear(accept(B, 1, before + 1))
    hand.hear(from_store(accept(C, 1, before + 1), "new"))
    assert hand.voters() == (A, B, C)
    assert hand.raft.config.store_of(C) == "new"
    assert hand.answers.get("add") == Logged(before + 2, 1)


def test_the_same_store_is_not_taken_in_twice() -> None:
    """Rule 29."""
    hand = Hand()
    hand.elect()
    hand.change("add", C, add=True)
    hand.hear(reach_reply(C))
    assert hand.answers.get("add") == Done()


def test_no_first_step_leaves_fewer_voters_than_min_majority() -> None:
    """Rule 29."""
    hand = Hand(options=replace(QUICK, min_majority=3))
    hand.elect()
    hand.change("add", C, add=True)
    hand.hear(reach_reply(C, store="new"))
    assert hand.answers.get("add") == Refusal("below_min_majority", C)


def test_a_member_that_lost_its_store_cannot_help_to_forget_a_write() -> None:
    """Rule 29: it acknowledged the write, and does not know it any more."""
    cluster = Cluster(3)
    a, b, c = cluster.peers
    cluster.make_leader(a)
    cluster.isolate(b)
    cluster.write(a, b"x")
    cluster.run(lambda: b"x" in cluster.done)
    cluster.crash(a)
    cluster.heal()
    cluster.replace_store(c, standby=False)
    cluster.start(c)
    cluster.wait(20)
    assert cluster.leader() is None
    cluster.start(a)
    cluster.run(lambda: cluster.leader() is cluster.raft(a))
    cluster.run(lambda: commands(cluster, b) == [b"x"])


def test_a_member_that_lost_its_store_is_added_again_and_then_counts() -> None:
    """Rule 29."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    cluster.write(A, b"x")
    cluster.run(lambda: b"x" in cluster.done)
    cluster.replace_store(C, standby=True)
    cluster.start(C)
    cluster.wait(3)
    assert commands(cluster, C) == []
    assert any("add_server" in text for _, _, text in cluster.reports)
    cluster.change(A, "again", C, add=True)
    cluster.run(lambda: "again" in cluster.done)
    cluster.wait(0.5)
    assert commands(cluster, C) == [b"x"]
    assert voters(cluster, C) == (A, B, C)
    cluster.crash(B)
    cluster.write(A, b"y")
    cluster.run(lambda: b"y" in cluster.done)


def founder_heard_by_one() -> Hand:
    """A leader that has heard B, and C not yet: nobody knows the store of C."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    hand.hear(accept(B, 1, 1))
    assert hand.raft.config.store_of(C) == ""
    return hand


def test_a_new_store_counts_for_nothing_even_if_nobody_knew_the_members_old_one() -> None:
    """Rule 29: the member may have voted before any configuration named its store."""
    hand = founder_heard_by_one()
    hand.propose(b"x")
    last = hand.raft.last_index
    hand.hear(msgspec.structs.replace(accept(C, 1, last), standby=True))
    assert hand.raft.commit_index < last
    assert any("add_server" in text for text in hand.reports)
    hand.hear(accept(B, 1, last))
    assert hand.raft.commit_index == last


def test_a_new_store_is_taken_in_in_two_steps_even_if_nobody_knew_the_members_old_one() -> None:
    """Rule 29."""
    hand = founder_heard_by_one()
    hand.change("again", C, add=True)
    hand.hear(msgspec.structs.replace(reach_reply(C, 1, store="new"), standby=True))
    assert hand.raft.config.voters == (A, B)


def names(message: Message, voters: int) -> bool:
    """Whether it carries a configuration of so many voters."""
    return isinstance(message, Append) and any(
        len(decode_config(entry.data).voters) == voters
        for entry in message.entries
        if entry.kind == CONFIG
    )


def test_a_member_that_was_taken_in_again_is_elected_by_who_did_not_hear_of_it() -> None:
    """Rule 29: three of five live, and an old record must not keep them without a leader."""
    cluster = Cluster(5)
    a, b, c, d, e = cluster.peers
    cluster.make_leader(a)
    # D hears of nothing, C of the first step only.
    cluster.isolate(d)
    cluster.filter = lambda sender, to, message: not (to == c and names(message, 5))
    cluster.replace_store(e, standby=True)
    cluster.start(e)
    cluster.change(a, "again", e, add=True)
    cluster.run(lambda: "again" in cluster.done)
    cluster.run(lambda: cluster.raft(e).commit_index >= cluster.done["again"])
    assert (len(voters(cluster, c)), len(voters(cluster, d))) == (4, 5)
    cluster.crash(a)
    cluster.crash(b)
    cluster.heal()
    cluster.filter = lambda sender, to, message: True
    cluster.run(lambda: cluster.leader() is cluster.raft(e))


def test_a_new_store_does_not_campaign_in_the_place_of_the_one_that_was_lost() -> None:
    """Rules 16 and 29: taken out of the configuration, it has nobody's log to save."""
    hand = Hand()
    record = known_by(A, "lost")
    hand.hear(append(B, 1, (0, 0), [record, configuration(1, B, C)], commit=1))
    for _ in range(5):
        hand.wait(10)
        assert not hand.told(PreVote)


def known_by(peer: Peer, store: str) -> Entry:
    """A configuration that knows `peer` by another store."""
    config = Config((A, B, C), cluster="here", stores=((peer, store),))
    return config_entry(1, config)


def test_a_leader_that_was_deposed_by_the_term_of_an_answer_does_not_lead_on() -> None:
    """Rule 27."""
    before = crashed_leader()
    before.hear(refuse(B, 2, 1))
    hand = Hand(owner=before.owner, resume=True)
    assert (hand.follows(), hand.raft.term) == (True, 2)


def test_a_lone_leader_that_is_restarted_commits_what_it_had_stored() -> None:
    """Rule 27: nobody else will tell it that this is enough."""
    before = Hand(founders=(A,))
    before.raft.propose(b"x", before.now)
    hand = Hand(founders=(A,), owner=before.owner, resume=True)
    assert hand.raft.last_index == 2
    assert hand.raft.commit_index == 2


def test_followers_of_a_leader_that_died_do_not_all_ask_at_the_same_moment() -> None:
    """Rule 28: they would split the vote."""
    deadlines = {}
    for seed in range(20):
        hand = Hand(seed=seed)
        hand.hear(append(B, 1, (0, 0)))
        hand.raft.leader_gone(B, hand.now)
        deadlines[hand.raft.deadline - hand.now] = seed
    assert len(deadlines) == 20


def test_an_election_timeout_after_a_leaders_death_votes_are_asked_for_at_the_usual_pace() -> None:
    """Rule 28."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.raft.leader_gone(B, hand.now)
    while hand.now < 1.1:
        hand.wait_for_deadline()
    waits = []
    for _ in range(20):
        waits.append(hand.raft.deadline - hand.now)
        hand.wait_for_deadline()
    assert max(waits) > 0.2
