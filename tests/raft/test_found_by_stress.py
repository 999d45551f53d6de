"""What the stress test has found wrong with the core, each as a test of one core driven by hand."""

from __future__ import annotations

from tests.raft.hand import B, C, Hand, accept, from_store


def test_adding_a_member_of_another_store_that_does_not_answer_fails() -> None:
    """Rules 16 and 29: it was called done, and the member counted for nothing as before."""
    hand = Hand()
    hand.elect()
    hand.hear(from_store(accept(C, hand.raft.term, 0), "another"))
    hand.change("add", C, add=True)
    for _ in range(15):
        hand.hear(accept(B, hand.raft.term, hand.raft.last_index))
        hand.wait(0.1)
    assert hand.refused("add") == "catch_up_failed"
