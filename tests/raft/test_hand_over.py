"""Handing leadership over: rule 22."""

from __future__ import annotations

from exraft.names import Role
from exraft.raft import Done, Logged, Refusal, TimeoutNow, Vote
from exraft.testing.cluster import Cluster
from tests.raft.hand import (
    A,
    B,
    C,
    D,
    E,
    Hand,
    accept,
    append,
    configuration,
    reach_reply,
    vote,
)


def leader_with_lagging_peers() -> Hand:
    """Its last entry is committed by nobody, and C lacks one more than B."""
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    hand.hear(accept(B, 1, hand.raft.last_index))
    hand.propose(b"y")
    return hand


def timeout_now(term: int) -> TimeoutNow:
    return TimeoutNow("", B, term)


def test_the_target_is_told_once_it_has_the_leaders_last_entry() -> None:
    """Rule 22 (dissertation §3.10)."""
    hand = leader_with_lagging_peers()
    last = hand.raft.last_index
    hand.transfer("t", C)
    assert not hand.told(TimeoutNow)
    hand.hear(accept(C, 1, last - 1))
    assert not hand.told(TimeoutNow)
    hand.hear(accept(C, 1, last))
    assert [(to, m.term) for to, m in hand.sent if isinstance(m, TimeoutNow)] == [(C, 1)]


def test_new_commands_are_refused_while_leadership_is_handed_over() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    assert hand.raft.propose(b"z", hand.now) == Refusal("transferring", C)


def test_changes_are_refused_while_leadership_is_handed_over() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    hand.change("remove", B, add=False)
    assert hand.answers.get("remove") == Refusal("transferring", C)


def test_a_second_hand_over_is_refused_while_one_is_under_way() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("first", C)
    hand.transfer("second", B)
    assert hand.answers == {"second": Refusal("transferring", C)}


def test_a_pending_change_is_committed_before_the_target_is_told() -> None:
    """Rule 22."""
    hand = Hand(founders=(A, B, C, D))
    hand.elect()
    hand.change("remove", D, add=False)
    last = hand.raft.last_index
    hand.transfer("t", C)
    hand.hear(accept(C, 1, last - 1))
    assert not hand.told(TimeoutNow)
    hand.hear(accept(C, 1, last))
    assert hand.raft.commit_index == last
    assert hand.told(TimeoutNow, C)


def test_a_target_is_not_told_while_a_change_waits_for_others() -> None:
    """Rule 22."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    hand.change("remove", D, add=False)
    last = hand.raft.last_index
    hand.transfer("t", C)
    hand.hear(accept(C, 1, last))
    assert hand.raft.commit_index < last
    assert not hand.told(TimeoutNow)
    hand.hear(accept(B, 1, last))
    assert hand.told(TimeoutNow, C)


def test_a_target_that_a_pending_change_removes_does_not_take_over() -> None:
    """Rule 22."""
    hand = Hand()
    hand.elect()
    hand.change("remove", C, add=False)
    assert isinstance(hand.answers.get("remove"), Logged)
    hand.transfer("t", C)
    assert hand.refused("t") == "transfer_failed"
    assert hand.raft.propose(b"x", hand.now)


def test_leadership_goes_to_the_most_up_to_date_voter_if_nobody_is_named() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t")
    hand.hear(accept(C, 1, hand.raft.last_index))
    assert not hand.told(TimeoutNow)
    hand.hear(accept(B, 1, hand.raft.last_index))
    assert [to for to, m in hand.sent if isinstance(m, TimeoutNow)] == [B]


def test_leadership_is_not_handed_to_who_does_not_vote() -> None:
    """Rule 22."""
    hand = Hand()
    hand.elect()
    hand.transfer("t", D)
    assert hand.refused("t") == "transfer_failed"


def test_a_lone_leader_has_nobody_to_hand_over_to() -> None:
    """Rule 22."""
    hand = Hand(founders=(A,))
    hand.transfer("t")
    assert hand.refused("t") == "transfer_failed"


def test_handing_over_to_the_leader_itself_is_done_at_once() -> None:
    """Rule 22."""
    hand = Hand()
    hand.elect()
    hand.transfer("t", A)
    assert hand.answers == {"t": Done(A)}
    assert hand.leads()


def test_only_a_leader_hands_over() -> None:
    """Rule 22."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.transfer("t", C)
    assert hand.answers == {"t": Refusal("redirect", B)}


def test_a_voter_that_its_leader_tells_to_campaigns_at_once_and_by_force() -> None:
    """Rule 22."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(timeout_now(1))
    assert [(m.term, m.force) for m in hand.told(Vote)] == [(2, True), (2, True)]


def test_a_hand_over_is_not_taken_from_an_earlier_term() -> None:
    """Rule 22."""
    hand = Hand()
    hand.hear(append(B, 3, (0, 0)))
    hand.hear(timeout_now(2))
    assert hand.follows()


def test_a_hand_over_is_not_taken_from_who_does_not_lead() -> None:
    """Rule 22."""
    hand = Hand()
    hand.hear(append(C, 1, (0, 0)))
    hand.hear(timeout_now(1))
    assert hand.follows()


def test_a_hand_over_is_taken_by_voters_only() -> None:
    """Rule 22."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, B, C)], commit=1))
    hand.hear(timeout_now(1))
    assert hand.follows()


def test_a_hand_over_that_is_told_twice_makes_one_campaign() -> None:
    """Rules 12 and 22."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(timeout_now(1), timeout_now(1))
    assert hand.raft.term == 2


def test_a_hand_over_is_given_up_after_an_election_timeout_and_the_leader_goes_on() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    for _ in range(11):
        hand.wait(0.1)
        hand.hear(accept(B, 1, hand.raft.last_index))
    assert hand.refused("t") == "transfer_failed"
    assert hand.leads()
    hand.propose(b"z")


def test_the_caller_hears_that_another_leads() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    hand.hear(accept(C, 1, hand.raft.last_index))
    hand.hear(append(C, 2, (hand.raft.last_index, 1)))
    assert hand.answers == {"t": Done(C)}


def test_the_caller_hears_if_another_server_was_elected_before_the_target_was_told() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    hand.hear(append(B, 2, (1, 1)))
    assert hand.answers == {"t": Refusal("redirect", B)}


def test_the_target_wins_although_everyone_hears_a_live_leader() -> None:
    """Rules 4 and 22."""
    cluster = Cluster(5)
    old = cluster.make_leader(A)
    cluster.write(A, b"x")
    cluster.transfer(A, "t", D)
    cluster.run(lambda: cluster.leader() is cluster.raft(D), within=0.3)
    assert cluster.raft(D).term == old.term == max(cluster.leaders)
    assert old.state is Role.FOLLOWER
    cluster.run(lambda: b"x" in cluster.done)


def test_a_told_target_that_hears_nothing_is_told_again() -> None:
    """Rule 22: the first word may be lost."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    hand.hear(accept(C, 1, hand.raft.last_index))
    hand.wait_for_deadline()
    assert hand.told(TimeoutNow, C)


def test_a_leader_steps_down_before_the_forced_vote_of_its_successor() -> None:
    """Rule 22."""
    hand = leader_with_lagging_peers()
    hand.transfer("t", C)
    hand.hear(accept(C, 1, hand.raft.last_index))
    hand.hear(vote(C, 2, (hand.raft.last_index, 1), force=True))
    assert hand.follows()
    assert hand.store.voted_for == C


def test_a_target_that_is_removed_meanwhile_does_not_take_over() -> None:
    """Rules 22 and 29: it has come back with another store, and is being taken in again."""
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    hand.hear(accept(B, 1, hand.raft.last_index))
    hand.change("add", C, add=True)
    hand.transfer("t", C)
    hand.hear(reach_reply(C, 1, store="another"))
    assert hand.voters() == (A, B)
    hand.hear(accept(B, 1, hand.raft.last_index))
    assert hand.refused("t") == "transfer_failed"
