"""Who leads, and how long: rules 1 to 6."""

from __future__ import annotations

import random
from dataclasses import replace

from exraft.names import Peer, Role
from exraft.raft import (
    Append,
    AppendReply,
    Message,
    PreVote,
    PreVoteReply,
    Raft,
    Refusal,
    Vote,
    VoteReply,
)
from exraft.storage import MemoryStore
from exraft.testing.cluster import QUICK, Cluster
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
    pre_vote,
    pre_vote_reply,
    vote,
    vote_reply,
    with_log,
)

# Rule 1: quorums.


def test_neither_half_of_four_servers_has_a_leader_or_commits() -> None:
    """Rule 1."""
    cluster = Cluster(4)
    leader = cluster.elect()
    other = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.isolate(leader.me, other)
    cluster.write(leader.me, b"lost")
    cluster.wait(20)
    assert cluster.leader() is None
    assert b"lost" not in cluster.done
    assert len(cluster.leaders) == 1


def test_a_fresh_cluster_of_four_split_in_halves_never_elects() -> None:
    """Rule 1."""
    cluster = Cluster(4)
    cluster.isolate(A, B)
    cluster.wait(20)
    assert not cluster.leaders


def test_neither_of_two_servers_leads_or_commits_alone() -> None:
    """Rule 1."""
    cluster = Cluster(2)
    leader = cluster.elect()
    cluster.isolate(A)
    cluster.write(leader.me, b"lost")
    cluster.wait(20)
    assert cluster.leader() is None
    assert not cluster.done


def test_min_majority_raises_the_quorum_of_votes_and_of_commits() -> None:
    """Rule 1."""
    hand = Hand(options=replace(QUICK, min_majority=3))
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    assert hand.campaigns()
    hand.hear(vote_reply(C, 1))
    assert hand.leads()
    hand.hear(accept(B, 1, 1))
    assert hand.raft.commit_index == 0
    hand.hear(accept(C, 1, 1))
    assert hand.raft.commit_index == 1


# Rule 2: stored before it is told.


def fresh(founders: tuple[Peer, ...] = (A, B, C)) -> tuple[Raft, MemoryStore]:
    """A core whose store nobody syncs but the test."""
    owner = MemoryStore()
    return Raft(A, owner.lend(), QUICK, random.Random(0), 0.0, founders), owner


def waits_for_the_store(raft: Raft, kind: type[Message]) -> bool:
    """Whether an answer is handed out as one that leaves only after a sync, which is due."""
    raft.flush(0.0)
    out = raft.take()
    assert not out.early
    return any(isinstance(m, kind) for _, m in out.late) and raft.store.dirty


def test_a_vote_is_stored_before_it_is_given() -> None:
    """Rule 2."""
    raft, _ = fresh()
    raft.step(vote(B, 1), 0.0)
    assert waits_for_the_store(raft, VoteReply)


def test_a_new_term_is_stored_before_a_vote_in_it_is_refused() -> None:
    """Rule 2."""
    raft = Raft(A, with_log(A, command(1)).lend(), QUICK, random.Random(0), 0.0, (A, B, C))
    raft.step(vote(B, 2), 0.0)
    assert raft.term == 2
    assert raft.store.voted_for is None
    assert waits_for_the_store(raft, VoteReply)


def test_entries_are_stored_before_they_are_acknowledged() -> None:
    """Rule 2."""
    raft, _ = fresh()
    raft.step(append(B, 1, (0, 0), [command(1)]), 0.0)
    assert waits_for_the_store(raft, AppendReply)


def test_a_truncation_is_stored_before_it_is_acknowledged() -> None:
    """Rule 2."""
    raft = Raft(
        A, with_log(A, command(1), command(1)).lend(), QUICK, random.Random(0), 0.0, (A, B, C)
    )
    raft.step(append(B, 2, (1, 1), [command(2)]), 0.0)
    assert waits_for_the_store(raft, AppendReply)


def test_a_new_term_is_stored_before_an_append_in_it_is_refused() -> None:
    """Rule 2."""
    raft, _ = fresh()
    raft.step(append(B, 3, (7, 2)), 0.0)
    assert raft.term == 3
    assert waits_for_the_store(raft, AppendReply)


def test_a_candidate_counts_its_own_vote_only_once_it_is_stored() -> None:
    """Rule 2."""
    raft, _ = fresh()
    raft.campaign(0.0)
    mark = raft.store.mark()
    raft.step(vote_reply(B, 1), 0.0)
    assert not raft.store.leads
    raft.stored(mark, 0.0)
    assert raft.store.leads


def test_the_commit_index_is_in_the_store_before_entries_are_applied() -> None:
    """Rule 2."""
    raft, owner = fresh()
    raft.step(append(B, 1, (0, 0), [command(1)], commit=1), 0.0)
    life = owner.peek()
    assert life is not None
    assert raft.commit_index == life.commit_index == 1


# Rule 3: one vote a term.


def test_a_second_candidate_of_a_term_gets_no_vote() -> None:
    """Rule 3."""
    hand = Hand()
    hand.hear(vote(B, 1), vote(C, 1))
    assert [reply.granted for reply in hand.told(VoteReply, B)] == [True]
    assert [reply.granted for reply in hand.told(VoteReply, C)] == [False]


def test_a_candidate_that_asks_twice_gets_the_same_answer_twice() -> None:
    """Rules 3 and 12."""
    hand = Hand()
    hand.hear(vote(B, 1), vote(B, 1))
    assert [reply.granted for reply in hand.told(VoteReply, B)] == [True, True]


def test_a_candidate_of_an_earlier_term_gets_no_vote() -> None:
    """Rule 3."""
    hand = Hand(owner=with_log(A, command(1), term=5))
    hand.hear(vote(B, 4, (9, 4)))
    reply = hand.only(VoteReply)
    assert (reply.granted, reply.term) == (False, 5)
    assert hand.store.voted_for is None


def test_no_pre_vote_is_given_for_a_term_that_has_begun() -> None:
    """Rule 3."""
    hand = Hand(owner=with_log(A, command(1), term=5))
    hand.hear(pre_vote(B, 5, (9, 4)))
    assert not hand.only(PreVoteReply).granted


def test_a_candidate_does_not_give_way_to_another_of_its_term() -> None:
    """Rule 3."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote(B, 1, (9, 0)))
    assert hand.campaigns()
    assert not hand.only(VoteReply).granted


def test_who_follows_a_live_leader_gives_no_vote_in_its_term() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(vote(C, 1))
    assert not hand.only(VoteReply).granted


def test_a_vote_is_kept_over_a_restart() -> None:
    """Rule 3."""
    before = Hand()
    before.hear(vote(B, 1))
    hand = Hand(owner=before.owner)
    hand.hear(vote(C, 1))
    assert [reply.granted for reply in hand.told(VoteReply, C)] == [False]


def test_a_candidate_that_steps_down_in_its_term_has_voted_for_itself() -> None:
    """Rule 3: ExRaft 0.2 forgot the vote there."""
    hand = Hand()
    hand.campaign()
    hand.hear(append(B, 1, (0, 0)))
    assert hand.follows()
    hand.hear(vote(C, 1, force=True))
    assert [reply.granted for reply in hand.told(VoteReply, C)] == [False]


def test_a_leader_that_steps_down_in_its_term_has_voted_for_itself() -> None:
    """Rule 3."""
    hand = Hand()
    hand.elect()
    for _ in range(12):
        hand.wait(0.1)
    assert hand.follows()
    hand.hear(vote(C, 1, (9, 9), force=True))
    assert [reply.granted for reply in hand.told(VoteReply, C)] == [False]


def granted_to(last: tuple[int, int]) -> bool:
    """Whether a candidate with that last entry has the vote of a server with (2, 2)."""
    hand = Hand(owner=with_log(A, command(1), command(2)))
    hand.hear(vote(B, 3, last))
    return hand.only(VoteReply, B).granted


def test_a_log_that_ends_in_an_older_term_gets_no_vote_however_long_it_is() -> None:
    """Rule 3 (Raft §5.4.1)."""
    assert not granted_to((9, 1))


def test_a_shorter_log_of_the_same_last_term_gets_no_vote() -> None:
    """Rule 3 (Raft §5.4.1)."""
    assert not granted_to((1, 2))


def test_a_log_that_is_as_far_gets_the_vote() -> None:
    """Rule 3 (Raft §5.4.1)."""
    assert granted_to((2, 2))


def test_a_shorter_log_of_a_later_term_gets_the_vote() -> None:
    """Rule 3 (Raft §5.4.1)."""
    assert granted_to((1, 3))


def test_a_pre_vote_is_refused_to_an_older_log() -> None:
    """Rule 3."""
    hand = Hand(owner=with_log(A, command(1), command(2)))
    hand.hear(pre_vote(B, 3, (9, 1)))
    assert not hand.only(PreVoteReply, B).granted


def test_a_vote_that_comes_twice_counts_once() -> None:
    """Rule 3."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.campaign()
    hand.hear(vote_reply(B, 1), vote_reply(B, 1), vote_reply(B, 1))
    assert hand.campaigns()
    hand.hear(vote_reply(C, 1))
    assert hand.leads()


def test_a_pre_vote_that_comes_twice_counts_once() -> None:
    """Rule 3."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(B, 0, 1), pre_vote_reply(B, 0, 1))
    assert hand.follows()
    hand.hear(pre_vote_reply(C, 0, 1))
    assert hand.campaigns()


def test_a_refused_vote_does_not_count() -> None:
    """Rule 3."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1, granted=False), vote_reply(C, 1, granted=False))
    assert hand.campaigns()


# Rule 4: who was cut off comes back without deposing anyone, and nobody stays stuck.


def test_a_pre_vote_changes_neither_term_nor_vote_nor_timer() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.now += 1.1
    before = (hand.raft.term, hand.store.voted_for, hand.raft.deadline)
    hand.hear(pre_vote(C, 9))
    assert hand.only(PreVoteReply, C).granted
    assert (hand.raft.term, hand.store.voted_for, hand.raft.deadline) == before


def test_asking_for_pre_votes_changes_no_term() -> None:
    """Rule 4."""
    hand = Hand()
    for _ in range(20):
        hand.wait_for_deadline()
        assert hand.told(PreVote)
    assert hand.raft.term == 0


def test_a_pre_vote_is_refused_as_long_as_a_live_leader_was_heard_lately() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.now += 0.9
    hand.hear(pre_vote(C, 2))
    assert not hand.only(PreVoteReply, C).granted
    hand.now += 0.2
    hand.hear(pre_vote(C, 2))
    assert hand.only(PreVoteReply, C).granted


def test_a_leader_refuses_pre_votes() -> None:
    """Rule 4."""
    hand = Hand()
    hand.elect()
    hand.hear(pre_vote(B, 2, (9, 9)))
    assert not hand.only(PreVoteReply, B).granted


def test_a_vote_is_refused_without_its_term_while_a_live_leader_is_heard() -> None:
    """Rule 4 (dissertation §4.2.3)."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.now += 0.9
    hand.hear(vote(C, 7))
    assert not hand.only(VoteReply, C).granted
    assert hand.raft.term == 1
    assert hand.raft.leader == B


def test_a_leader_refuses_a_vote_without_taking_its_term() -> None:
    """Rule 4."""
    hand = Hand()
    hand.elect()
    hand.hear(vote(B, 7, (9, 9)))
    assert not hand.only(VoteReply, B).granted
    assert (hand.raft.state, hand.raft.term) == (Role.LEADER, 1)


def test_the_force_of_a_triggered_election_passes_a_live_leader() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(vote(C, 2, force=True))
    assert hand.only(VoteReply, C).granted
    assert hand.raft.term == 2


def test_a_triggered_election_is_held_with_force_and_without_pre_vote() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.campaign()
    assert [request.force for request in hand.told(Vote)] == [True, True]
    assert hand.raft.term == 2


def test_an_election_after_pre_votes_is_held_without_force() -> None:
    """Rule 4."""
    hand = Hand()
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(B, 0, 1))
    assert [request.force for request in hand.told(Vote)] == [False, False]


def test_who_asks_for_a_pre_vote_takes_the_higher_term_of_a_refusal() -> None:
    """Rule 4."""
    hand = Hand()
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(B, 8, 1, granted=False))
    assert hand.raft.term == 8
    hand.wait_for_deadline()
    assert [request.term for request in hand.told(PreVote)] == [9, 9]


def test_a_candidate_takes_the_higher_term_of_a_refusal() -> None:
    """Rule 4."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 8, granted=False))
    assert (hand.raft.state, hand.raft.term) == (Role.FOLLOWER, 8)


def test_an_append_of_a_lower_term_is_answered_with_the_higher_one() -> None:
    """Rule 4."""
    hand = Hand()
    hand.hear(append(B, 5, (0, 0)))
    hand.hear(append(C, 4, (0, 0)))
    reply = hand.only(AppendReply, C)
    assert (reply.term, reply.accepted) == (5, False)
    assert hand.raft.leader == B


def test_a_leader_takes_the_higher_term_of_an_answer_and_steps_down() -> None:
    """Rule 4."""
    hand = Hand()
    hand.elect()
    hand.hear(AppendReply("", B, 6, "store of :b", False, 0, 0, 0, 0, 0))
    assert (hand.raft.state, hand.raft.term) == (Role.FOLLOWER, 6)


def test_a_server_that_was_cut_off_comes_back_without_deposing_anyone() -> None:
    """Rule 4."""
    cluster = Cluster(3)
    leader = cluster.elect()
    away = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.isolate(away)
    cluster.wait(30)
    cluster.write(leader.me, b"x")
    cluster.heal()
    cluster.wait(10)
    assert len(cluster.leaders) == 1
    assert cluster.raft(away).term == leader.term
    assert cluster.raft(away).commit_index == leader.commit_index


def test_a_server_that_comes_back_with_a_higher_term_is_not_stuck() -> None:
    """Rule 4."""
    cluster = Cluster(3)
    leader = cluster.elect()
    away = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.isolate(away)
    for _ in range(5):
        cluster.campaign(away)
        cluster.wait(1)
    assert cluster.raft(away).term > leader.term
    cluster.heal()
    cluster.elect()
    cluster.write(cluster.elect().me, b"x")
    cluster.run(lambda: b"x" in cluster.done)
    assert len({server.store.term for server in cluster.running()}) == 1


def test_a_leader_stays_when_one_follower_hears_only_the_other_follower() -> None:
    """Rule 4: the partial partition that took Cloudflare down in 2020."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    cluster.network.cut((A, B), (B, A))
    before = dict(cluster.leaders)
    cluster.wait(30)
    assert cluster.leaders == before
    assert cluster.leader() is cluster.raft(A)
    cluster.write(A, b"x")
    cluster.run(lambda: b"x" in cluster.done)


def test_a_leader_is_found_when_only_one_server_still_reaches_a_quorum() -> None:
    """Rule 4: every link is down but those of one follower, and the leader holds no quorum."""
    cluster = Cluster(5)
    cluster.make_leader(A)
    for one in cluster.peers:
        for other in cluster.peers:
            if one != other and B not in (one, other):
                cluster.network.cut((one, other))
    cluster.run(lambda: cluster.leader() is cluster.raft(B))
    cluster.write(B, b"x")
    cluster.run(lambda: b"x" in cluster.done)
    term = cluster.raft(B).term
    cluster.wait(30)
    assert cluster.raft(B).term == term


def test_a_leader_that_is_heard_but_hears_nobody_is_replaced() -> None:
    """Rules 4 and 5: its heartbeats must not hold the others off an election for ever."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    cluster.network.cut((B, A), (C, A))
    cluster.run(lambda: (found := cluster.leader()) is not None and found.me != A)
    assert cluster.raft(A).state is Role.FOLLOWER


# Rule 5: check-quorum.


def test_a_leader_that_hears_no_quorum_for_an_election_timeout_steps_down() -> None:
    """Rule 5 (dissertation §6.2)."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    for _ in range(9):
        hand.wait(0.1)
        hand.hear(accept(B, 1, 1))
    assert hand.leads()
    for _ in range(3):
        hand.wait(0.1)
        hand.hear(accept(B, 1, 1))
    assert hand.follows()
    assert hand.raft.propose(b"x", hand.now) == Refusal("no_leader")


def test_a_leader_that_hears_a_quorum_stays() -> None:
    """Rule 5."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    for _ in range(50):
        hand.wait(0.1)
        hand.hear(accept(B, 1, 1), accept(C, 1, 1))
    assert hand.leads()


def test_a_leader_that_was_cut_off_stops_answering() -> None:
    """Rule 5."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader.me)
    cluster.run(lambda: leader.state is Role.FOLLOWER, within=1.5)
    assert cluster.write(leader.me, b"x") == Refusal("no_leader")


# Rule 6: the election timeout.


def waits(hand: Hand, count: int) -> list[float]:
    """How long a server waits after each of as many heartbeats."""
    drawn = []
    for _ in range(count):
        hand.hear(append(B, 1, (0, 0)))
        drawn.append(hand.raft.deadline - hand.now)
    return drawn


def test_the_election_timeout_is_drawn_anew_for_each_wait() -> None:
    """Rule 6."""
    drawn = waits(Hand(), 50)
    assert len(set(drawn)) == 50
    assert 1.0 <= min(drawn) < 1.2
    assert 1.8 < max(drawn) <= 2.0


def test_until_a_leader_was_heard_of_the_wait_is_one_to_three_heartbeats() -> None:
    """Rule 6."""
    drawn = [Hand(seed=seed).raft.deadline for seed in range(50)]
    assert len(set(drawn)) == 50
    assert 0.1 <= min(drawn) < 0.15
    assert 0.25 < max(drawn) <= 0.3


def test_refused_pre_votes_are_asked_for_again_at_that_pace() -> None:
    """Rule 6."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.wait_for_deadline()
    for _ in range(10):
        hand.hear(pre_vote_reply(B, 1, 2, granted=False))
        assert 0.1 <= hand.raft.deadline - hand.now <= 0.3
        hand.wait_for_deadline()
        assert hand.told(PreVote)


def test_after_a_split_vote_a_server_asks_again_at_that_pace() -> None:
    """Rule 6."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.campaign()
    assert 0.1 <= hand.raft.deadline - hand.now <= 0.3
    hand.wait_for_deadline()
    assert hand.follows()
    assert hand.told(PreVote)
    assert 0.1 <= hand.raft.deadline - hand.now <= 0.3


def test_a_request_for_votes_that_is_refused_does_not_put_the_own_wait_off() -> None:
    """Rule 6 (Raft §5.2): who campaigns in vain must not keep the others from it."""
    hand = Hand(owner=with_log(A, command(1), command(2)))
    deadline = hand.raft.deadline
    hand.hear(vote(B, 9, (9, 1)))
    assert hand.raft.term == 9
    assert hand.raft.deadline == deadline


def test_a_fresh_cluster_has_its_leader_within_half_a_second() -> None:
    """Rule 6."""
    for seed in range(20):
        cluster = Cluster(3, seed=seed)
        cluster.wait(0.6)
        assert cluster.leader() is not None


def test_heartbeats_are_sent_at_their_pace() -> None:
    """Rule 6."""
    hand = Hand()
    hand.elect()
    hand.wait_for_deadline()
    assert len(hand.told(Append)) == 2
    assert hand.raft.deadline - hand.now == 0.1


def test_a_granted_vote_gives_the_candidate_the_time_to_win() -> None:
    """Rule 6 (Raft §5.2)."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.now = hand.raft.deadline - 0.01
    hand.hear(vote(C, 2))
    assert hand.only(VoteReply).granted
    assert hand.raft.deadline - hand.now >= 1.0


def test_a_leader_that_stepped_down_asks_around_before_long() -> None:
    """Rule 6: it may be the only one with a log that is good enough."""
    hand = Hand()
    hand.elect()
    hand.hear(vote_reply(B, 2, granted=False))
    assert hand.raft.deadline - hand.now <= 3 * QUICK.heartbeat_timeout


def test_a_follower_grants_its_leader_a_pre_vote_as_it_surely_leads_no_more() -> None:
    """Rule 4: the two of them may be all that is left, and the rest lacks entries."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(pre_vote(C, 2))
    assert not hand.only(PreVoteReply).granted
    hand.hear(pre_vote(B, 2))
    assert hand.only(PreVoteReply).granted


# What a driver is told.


def test_the_roles_that_a_server_takes_on_are_told_in_order() -> None:
    hand = Hand()
    hand.elect()
    hand.hear(append(B, 2, (1, 1)))
    assert hand.roles == [Role.CANDIDATE, Role.LEADER, Role.FOLLOWER]
    hand.hear(append(C, 3, (1, 1)))
    assert len(hand.roles) == 3


def test_a_candidate_knows_no_leader_and_holds_to_none() -> None:
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.campaign()
    assert hand.raft.leader is None
    hand.hear(vote(C, 3))
    assert hand.only(VoteReply).granted


def test_everyone_who_waits_for_an_answer_of_the_core_can_be_found() -> None:
    hand = Hand()
    assert hand.raft.tickets() == []
    hand.elect()
    hand.read("sent")
    hand.raft.read("arrived", hand.now)
    hand.change("add", D, add=True)
    hand.transfer("transfer", B)
    assert set(hand.raft.tickets()) == {"sent", "arrived", "add", "transfer"}
    hand.raft.become_follower(hand.raft.term, None)
    assert set(hand.raft.tickets()) == {"sent", "arrived", "add", "transfer"}
    hand.carry_out()
    assert hand.raft.tickets() == []
