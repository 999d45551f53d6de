"""What simulated clusters have found wrong with the core, each as a test of one core by hand."""

from __future__ import annotations

from exraft.raft import Append, AppendReply, PreVote, Reach, ReachReply, TimeoutNow
from exraft.storage import MemoryStore
from tests.raft.hand import (
    A,
    B,
    C,
    D,
    Hand,
    accept,
    append,
    configuration,
    from_store,
    reach_reply,
    store_of,
    vote,
)


def test_a_member_that_was_new_once_campaigns_while_its_removal_is_not_committed() -> None:
    """Rules 16 and 29: its log may be the only up-to-date one, to which nobody else is elected."""
    hand = Hand(standby=True)
    log = [configuration(1, A, B, C), configuration(1, B, C)]
    hand.hear(append(B, 1, (0, 0), log, commit=1))
    hand.wait_for_deadline()
    assert hand.told(PreVote)


def test_a_leader_that_did_not_run_has_heard_nobody_in_the_future() -> None:
    """Rule 5: what waited meanwhile was heard when it ran again, and not later."""
    hand = Hand()
    hand.elect()
    hand.now += 3.0
    hand.accept_all()
    hand.wait(0)
    for _ in range(12):
        hand.wait(0.1)
    assert hand.follows()


def test_the_number_of_a_read_round_does_not_outlive_its_term() -> None:
    """Rule 20: a batch brings the old leader's round, the end of its term, and the new leader."""
    hand = Hand()
    hand.hear(
        append(B, 1, (0, 0), round=500),
        vote(C, 2, force=True),
        append(C, 2, (0, 0), round=3),
    )
    assert hand.only(AppendReply, C).round == 3


def test_a_target_is_not_told_again_before_it_has_what_was_logged_since() -> None:
    """Rule 22: a server that was on its way in became a voter while the word was out."""
    hand = Hand()
    hand.elect()
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    hand.transfer("hand over", B)
    assert hand.told(TimeoutNow, B)
    hand.hear(accept(D, hand.raft.term, hand.raft.last_index))
    assert D in hand.raft.config.voters
    hand.wait(0.1)
    assert not hand.told(TimeoutNow)
    hand.hear(accept(B, hand.raft.term, hand.raft.last_index))
    hand.wait(0.1)
    assert hand.told(TimeoutNow, B)


def test_a_new_store_is_not_bound_by_an_entry_that_it_does_not_know_to_be_committed() -> None:
    """Rules 17 and 29: of a founder that lost, whose entry only the next leader can overwrite."""
    hand = Hand(owner=MemoryStore("new"), standby=True)
    lost = append(B, 1, (0, 0), [configuration(1, A, B, C, cluster="lost")], cluster="lost")
    hand.hear(lost)
    hand.hear(Reach("here", C, 2))
    assert hand.only(ReachReply, C).belongs_to == ""
    hand.hear(append(C, 2, (0, 0), [configuration(2, B, C, cluster="here")], cluster="here"))
    assert hand.only(AppendReply).accepted
    assert hand.raft.config.cluster == "here"


def test_a_new_store_is_bound_by_what_it_knows_to_be_committed() -> None:
    """Rules 17 and 29."""
    hand = Hand(owner=MemoryStore("new"), standby=True)
    hand.hear(append(B, 1, (0, 0), [configuration(1, A, B, C, cluster="there")], commit=1))
    hand.hear(Reach("here", D, 2))
    assert hand.only(ReachReply, D).belongs_to == "there"


def test_a_founder_that_may_have_been_counted_is_bound_although_it_is_a_members_name() -> None:
    """Rule 17: it acknowledged another cluster's first entry, which may be committed by now."""
    hand = Hand()
    hand.elect()
    hand.change("add", B, add=True)
    hand.hear(from_store(reach_reply(B, belongs_to="there"), "other"))
    assert hand.refused("add") == "foreign_server"
    assert hand.raft.config.voters == (A, B, C)


def test_a_leader_that_crashed_before_the_first_entry_of_all_names_its_cluster() -> None:
    """Rules 17 and 27: it named none, and who knew the name dropped that entry (rule 30)."""
    owner = MemoryStore(store_of(A))
    owner.lend().set_ballot(1, A, leads=True)
    hand = Hand(owner=owner, resume=True)
    cluster = hand.raft.config.cluster
    assert cluster
    assert {message.cluster for message in hand.told(Append)} == {cluster}
    hand.hear(accept(B, 1, 1))
    assert hand.raft.cluster == cluster
