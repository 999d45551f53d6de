"""What simulated clusters have found wrong with the core, each as a test of one core by hand."""

from __future__ import annotations

from exraft.raft import AppendReply, PreVote
from tests.raft.hand import A, B, C, Hand, append, configuration, vote


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
