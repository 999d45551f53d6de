"""Linearizable reads: rules 20 and 21."""

from __future__ import annotations

from exraft.names import Peer, Role
from exraft.raft import Append, AppendReply, Refusal
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
    command,
    from_store,
    reach_reply,
    refuse,
    vote,
    vote_reply,
    with_log,
)


def leader_of(*founders: Peer) -> Hand:
    hand = Hand(founders=founders)
    hand.elect()
    return hand


def round_of(hand: Hand) -> int:
    """The round that the appends which have just left carry."""
    (number,) = {message.round for message in hand.told(Append)}
    return number


def answer(hand: Hand, peer: Peer, number: int) -> None:
    """`peer` answers a round."""
    hand.hear(accept(peer, hand.raft.term, 1, round=number))


# Rule 20.


def test_a_read_is_confirmed_by_a_quorum_that_answers_its_round() -> None:
    """Rule 20 (dissertation §6.4)."""
    hand = leader_of(A, B, C, D, E)
    hand.read("r")
    number = round_of(hand)
    answer(hand, B, number)
    assert not hand.confirmed
    answer(hand, C, number)
    assert hand.confirmed == {"r": hand.raft.commit_index}


def test_a_read_is_not_answered_without_a_round() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    hand.read("r")
    assert not hand.confirmed


def test_the_same_answer_twice_is_no_quorum() -> None:
    """Rules 12 and 20."""
    hand = leader_of(A, B, C, D, E)
    hand.read("r")
    number = round_of(hand)
    answer(hand, B, number)
    answer(hand, B, number)
    assert not hand.confirmed


def test_a_round_that_started_before_the_read_arrived_does_not_confirm_it() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    hand.read("first")
    number = round_of(hand)
    hand.read("second")
    answer(hand, B, number)
    assert list(hand.confirmed) == ["first"]


def test_a_heartbeat_from_before_the_read_does_not_confirm_it() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    hand.wait_for_deadline()
    number = round_of(hand)
    hand.read("r")
    answer(hand, B, number)
    answer(hand, C, number)
    assert not hand.confirmed


def test_a_refused_append_of_the_same_term_answers_a_round() -> None:
    """Rule 20: the follower acknowledges the leader, if not its log."""
    hand = leader_of(A, B, C)
    hand.read("r")
    hand.hear(refuse(B, 1, hand.raft.last_index, (1, 1), round=round_of(hand)))
    assert list(hand.confirmed) == ["r"]


def test_a_follower_that_refuses_an_append_of_its_term_answers_its_round() -> None:
    """Rule 20."""
    hand = Hand()
    hand.hear(append(B, 3, (7, 2), round=99))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.round) == (False, 99)


def test_a_follower_that_refuses_an_append_of_an_earlier_term_answers_no_round() -> None:
    """Rule 20: the sender may lead again by now, and count its rounds anew."""
    hand = Hand()
    hand.hear(append(C, 5, (0, 0)))
    hand.hear(append(B, 4, (0, 0), round=99))
    reply = hand.only(AppendReply, B)
    assert (reply.term, reply.accepted, reply.round) == (5, False, 0)


def test_a_late_append_of_a_leaders_earlier_term_confirms_no_read_of_its_later_one() -> None:
    """Rule 20: a stale answer must not stand in for one that came after the read."""
    hand = leader_of(A, B, C)
    hand.read("old")
    late = hand.only(Append, B)
    hand.hear(vote(C, 2, (9, 9), force=True))
    hand.elect()
    assert hand.raft.term == 3
    follower = Hand(B)
    follower.hear(append(A, 3, (0, 0)))
    follower.hear(late)
    stale = follower.only(AppendReply)
    hand.read("new")
    hand.hear(stale)
    assert "new" not in hand.confirmed


def test_an_answer_of_an_earlier_term_does_not_confirm_a_read() -> None:
    """Rules 12 and 20."""
    hand = leader_of(A, B, C)
    hand.hear(append(B, 2, (1, 1)))
    hand.elect()
    hand.read("r")
    number = round_of(hand)
    hand.hear(accept(B, 1, 1, round=number), accept(C, 2, 1, round=number))
    assert not hand.confirmed


def test_servers_outside_the_configuration_confirm_no_read() -> None:
    """Rules 19 and 20."""
    hand = leader_of(A, B, C)
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    hand.read("r")
    number = round_of(hand)
    hand.hear(accept(D, 1, 0, round=number), accept(E, 1, 0, round=number))
    assert not hand.confirmed
    answer(hand, B, number)
    assert list(hand.confirmed) == ["r"]


def test_a_member_with_another_store_confirms_no_read() -> None:
    """Rules 20 and 29."""
    hand = leader_of(A, B, C)
    hand.read("r")
    hand.hear(from_store(accept(B, 1, 1, round=round_of(hand)), "another"))
    assert not hand.confirmed


def test_a_leader_that_is_leaving_does_not_count_itself_for_reads() -> None:
    """Rules 18 and 20."""
    hand = leader_of(A, B, C)
    hand.change("remove", A, add=False)
    hand.read("r")
    term, last = hand.raft.term, hand.raft.last_index
    number = round_of(hand)
    hand.hear(accept(B, term, last, round=number))
    assert not hand.confirmed
    hand.hear(accept(C, term, last, round=number))
    assert list(hand.confirmed) == ["r"]


def test_no_read_is_answered_before_the_first_commit_of_the_term() -> None:
    """Rule 20: before that a leader does not know how far its predecessors had committed."""
    hand = Hand(owner=with_log(A, command(1), command(1)))
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    number = round_of(hand)
    hand.read("r")
    hand.hear(accept(B, 2, 2, round=number + 1), accept(C, 2, 2, round=number + 1))
    assert not hand.confirmed


def test_a_read_that_waited_for_the_first_commit_is_answered_with_it() -> None:
    """Rule 20."""
    hand = Hand(owner=with_log(A, command(1), command(1)))
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    hand.read("r")
    answer(hand, B, round_of(hand))
    assert not hand.confirmed
    hand.hear(accept(B, 2, 3))
    assert hand.confirmed == {"r": 3}


def test_a_read_waits_for_the_entries_that_were_on_their_way_when_it_arrived() -> None:
    """Rule 20, and more: so a read tells what became of a write that was not answered."""
    hand = leader_of(A, B, C)
    hand.propose(b"x")
    index = hand.raft.last_index
    hand.read("r")
    answer(hand, B, round_of(hand))
    assert not hand.confirmed
    hand.accept_all()
    assert hand.confirmed == {"r": index}


def test_a_read_sees_what_was_committed_when_its_round_began() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    hand.propose(b"x")
    hand.accept_all()
    index = hand.raft.commit_index
    hand.read("r")
    number = round_of(hand)
    hand.propose(b"y")
    answer(hand, B, number)
    assert hand.confirmed == {"r": index}


def test_one_round_serves_every_read_that_waits() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    for n in range(100):
        hand.raft.read(n, hand.now)
    hand.carry_out()
    assert len(hand.told(Append)) == 2
    answer(hand, B, round_of(hand))
    assert len(hand.confirmed) == 100


def test_a_later_round_does_not_wait_for_an_unanswered_earlier_one() -> None:
    """Rule 20: its messages may be lost."""
    hand = leader_of(A, B, C)
    hand.read("first")
    hand.read("second")
    answer(hand, B, round_of(hand))
    assert set(hand.confirmed) == {"first", "second"}


def test_a_round_whose_messages_were_lost_is_answered_with_the_next_heartbeat() -> None:
    """Rule 20."""
    hand = leader_of(A, B, C)
    hand.read("r")
    number = round_of(hand)
    hand.wait_for_deadline()
    assert round_of(hand) == number
    answer(hand, C, number)
    assert list(hand.confirmed) == ["r"]


def test_a_lone_server_reads_without_asking_anyone() -> None:
    """Rule 20."""
    hand = Hand(founders=(A,))
    hand.read("r")
    assert hand.confirmed == {"r": 1}


def test_a_read_of_a_follower_is_redirected() -> None:
    """Rule 21."""
    hand = Hand()
    hand.read("none")
    hand.hear(append(B, 1, (0, 0)))
    hand.read("r")
    assert hand.answers == {"none": Refusal("no_leader"), "r": Refusal("redirect", B)}


# Rule 21.


def test_a_deposed_leader_redirects_the_reads_that_wait() -> None:
    """Rule 21."""
    hand = leader_of(A, B, C)
    hand.read("r")
    number = round_of(hand)
    hand.raft.read("unsent", hand.now)
    hand.hear(append(B, 2, (1, 1)))
    assert hand.answers == {"r": Refusal("redirect", B), "unsent": Refusal("redirect", B)}
    hand.hear(accept(B, 1, 1, round=number), accept(C, 1, 1, round=number))
    assert not hand.confirmed


def test_a_leader_that_is_told_to_campaign_refuses_the_reads_that_wait() -> None:
    """Rule 21."""
    hand = leader_of(A, B, C)
    hand.read("r")
    hand.campaign()
    assert hand.answers == {"r": Refusal("no_leader")}


def test_a_deposed_leader_never_answers_an_old_value_after_the_new_one_answered() -> None:
    """Rule 21: as ExRaft 0.2 did."""
    cluster = Cluster(3)
    old = cluster.make_leader(A)
    cluster.isolate(A)
    cluster.read(A, "stale")
    cluster.run(lambda: (leader := cluster.leader()) is not None and leader is not old)
    new = cluster.leader()
    assert new is not None
    cluster.run(lambda: new.committed_in_term)
    cluster.write(new.me, b"newer")
    cluster.run(lambda: b"newer" in cluster.done)
    cluster.read(new.me, "fresh")
    cluster.run(lambda: "fresh" in cluster.read_at)
    if old.state is Role.LEADER:
        cluster.read(A, "late")
    cluster.heal()
    cluster.wait(5)
    assert not {"stale", "late"} & set(cluster.confirmed)
    assert isinstance(cluster.answers.get("stale"), Refusal)


def test_a_leader_that_has_left_does_not_count_itself_for_reads() -> None:
    """Rules 18 and 20: its removal is committed, and an entry behind it is not yet."""
    hand = leader_of(A, B, C, D)
    removal = hand.raft.last_index + 1
    hand.change("remove", A, add=False)
    hand.propose(b"x")
    hand.hear(accept(B, 1, removal), accept(C, 1, removal))
    hand.read("r")
    hand.hear(accept(B, 1, removal, round=round_of(hand)))
    hand.hear(accept(B, 1, removal + 1))
    hand.hear(accept(C, 1, removal + 1))
    assert hand.raft.commit_index == removal + 1
    assert not hand.confirmed
