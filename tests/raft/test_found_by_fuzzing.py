"""What fuzzing has found wrong with the core, each as a test of one core driven by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from exraft.names import Peer
from exraft.raft import (
    CONFIG,
    AppendReply,
    Config,
    Entry,
    Message,
    Raft,
    Reach,
    ReachReply,
    Vote,
    VoteReply,
)
from exraft.raft.nonsense import MAX_LEAP, MAX_TERM
from exraft.testing.cluster import QUICK
from tests.raft.hand import (
    A,
    B,
    C,
    Hand,
    accept,
    append,
    command,
    commands,
    configuration,
    pre_vote,
    vote,
    with_log,
)


def follower() -> Hand:
    """It follows `B` in term 2, with a configuration and two commands."""
    hand = Hand()
    log = [configuration(1, A, B, C), command(1), command(2)]
    hand.hear(append(B, 2, (0, 0), log, commit=1))
    return hand


def entry(config: Config) -> Entry:
    return Entry(2, CONFIG, config.encode())


@pytest.mark.parametrize(
    "message",
    [append(A, 3, (3, 2)), vote(A, 3, (3, 2), force=True), pre_vote(A, 3, (3, 2))],
    ids=lambda message: type(message).__name__,
)
def test_a_server_does_not_answer_what_comes_in_its_own_name(message: Message) -> None:
    """It sent itself an answer, or followed itself: two servers may bear one name by mistake."""
    hand = follower()
    hand.hear(message)
    assert not hand.sent
    assert hand.raft.term == 2
    assert hand.raft.leader == B
    assert "own name" in hand.reports[-1]


NONSENSE: dict[str, Message] = {
    "an append after an index below 0": append(B, 2, (-1, 2)),
    "entries after an index below 0": append(B, 2, (-4, 0), [command(2)]),
    "a term that the wire cannot count on from": append(B, 2**63, (3, 2)),
    "a vote in such a term": vote(C, 2**64 - 1, (9, 9), force=True),
    "a vote in the last term of all": vote(C, MAX_TERM, (9, 9), force=True),
    "a leader too far ahead": append(B, 2 + MAX_LEAP + 1, (3, 2)),
    "an entry of an earlier term than the one before": append(B, 2, (3, 2), [command(1)]),
    "entries whose terms fall": append(B, 2, (3, 2), [command(2), command(1)]),
    "an entry of a later term than the message": append(B, 3, (3, 2), [command(4)]),
    "an entry of no term": append(B, 3, (0, 0), [command(0), command(3)]),
    "an entry of an unknown kind": append(
        B, 2, (3, 2), [Entry(2, 7, entry(Config((A, B), cluster="here")).data)]
    ),
    "bytes that are no configuration": append(
        B, 2, (3, 2), [Entry(2, CONFIG, b"no configuration")]
    ),
    "a configuration with text that is none": append(
        B, 2, (3, 2), [Entry(2, CONFIG, b"\x81\xa7cluster\xa1\xff")]
    ),
    "a configuration nested without end": append(
        B, 2, (3, 2), [Entry(2, CONFIG, b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0")]
    ),
    "a configuration without voters": append(B, 2, (3, 2), [entry(Config((), cluster="here"))]),
    "a configuration that names a voter twice": append(
        B, 2, (3, 2), [entry(Config((A, A, B), cluster="here"))]
    ),
    "a configuration with a voter who learns": append(
        B, 2, (3, 2), [entry(Config((A, B), (B,), cluster="here"))]
    ),
    "a configuration of another cluster": append(
        B, 2, (3, 2), [entry(Config((A, B), cluster="elsewhere"))]
    ),
    "a configuration that takes the cluster its name": append(
        B, 2, (3, 2), [entry(Config((A, B)))]
    ),
}


@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_dropped_and_reported_and_changes_nothing(message: Message) -> None:
    """It raised, or was stored, so that every later life of the server raised as well."""
    hand = follower()
    before = seen(hand.raft)
    hand.hear(message)
    assert seen(hand.raft) == before
    assert not hand.sent
    assert hand.reports[-1].endswith(": dropped")


def seen(raft: Raft) -> tuple[object, ...]:
    log = list(raft.store.slice(1, raft.last_index))
    return raft.term, raft.store.voted_for, raft.leader, raft.deadline, raft.commit_index, log


def test_nobody_leads_term_0() -> None:
    hand = Hand()
    hand.hear(append(B, 0, (0, 0)))
    hand.hear(append(B, 0, (0, 0), [command(0)]))
    assert hand.raft.last_index == 0
    assert hand.raft.leader is None


def test_a_read_is_not_confirmed_by_an_answer_to_a_round_that_never_began() -> None:
    """Rule 20: a round from the far future confirmed all the reads that came after it."""
    hand = Hand()
    hand.elect()
    hand.hear(accept(B, 1, hand.raft.last_index, round=2**60))
    hand.read("read")
    assert "read" not in hand.confirmed
    assert hand.reports[-1].endswith(": dropped")


def test_an_acknowledgement_of_entries_that_are_not_there_does_not_count() -> None:
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    hand.hear(accept(B, 1, hand.raft.last_index + 1))
    assert hand.raft.commit_index < hand.raft.last_index
    assert hand.reports[-1].endswith(": dropped")


def test_a_server_acknowledges_no_more_than_it_has_if_two_claim_one_term() -> None:
    """Rule 2: it acknowledged what the other one's append had deleted again."""
    hand = follower()
    hand.hear(
        append(B, 2, (3, 2), commands(2, 3)),
        append(C, 2, (1, 1), [command(2)]),
    )
    assert hand.raft.last_index == 2
    assert hand.only(AppendReply).index == 2


def test_configurations_that_are_there_already_are_not_counted_twice() -> None:
    """Rule 15: an append may bring again what is there, and something new behind it."""
    hand = Hand()
    first = configuration(1, A, B, C)
    second = configuration(1, A, B)
    hand.hear(append(B, 1, (0, 0), [first]))
    hand.hear(append(B, 1, (0, 0), [first, command(1), second]))
    assert [index for index, _ in hand.raft.configs] == [0, 1, 3]
    assert hand.voters() == (A, B)


def test_a_stranger_leaves_no_trace() -> None:
    hand = Hand()
    hand.campaign()
    for n in range(100):
        hand.hear(VoteReply("", Peer(f":x{n}"), 1, f"store {n}", True))
    assert hand.campaigns()
    assert not hand.reports


def test_a_server_that_took_in_a_log_before_begins_again_with_it() -> None:
    """A broken configuration in the log would end each life of the server at its beginning."""
    hand = follower()
    hand.hear(append(B, 2, (3, 2), [Entry(2, CONFIG, b"")]))
    again = Hand(owner=hand.owner)
    assert again.raft.last_index == 3


def test_whatever_a_server_says_can_be_carried() -> None:
    """A term from the end of what the wire carries was adopted, and could not be counted on."""
    owner = with_log(A, command(1))
    hand = Hand(owner=owner, options=QUICK)
    hand.hear(VoteReply("", B, 2**64 - 1, "", False))
    hand.campaign()
    for _, message in hand.sent:
        assert msgspec.msgpack.encode(message)


def test_a_server_that_was_away_for_long_takes_over_the_term() -> None:
    hand = follower()
    hand.hear(append(C, 2 + MAX_LEAP, (3, 2)))
    assert hand.raft.term == 2 + MAX_LEAP
    assert hand.raft.leader == C


def test_who_joins_a_cluster_takes_over_its_term_however_late_that_is() -> None:
    """In term 0 it can't tell what is too far ahead."""
    late = 2 * MAX_LEAP
    hand = Hand(founders=(A,), options=replace(QUICK, min_majority=2))
    hand.hear(Reach("here", B, late))
    assert hand.only(ReachReply, B).term == 0
    hand.hear(append(B, late, (0, 0), [configuration(late, B, C)]))
    assert hand.raft.term == late


def test_whoever_took_over_a_term_can_be_elected_in_the_next_ones() -> None:
    """The last term that could be taken over was: the votes of the next one were all dropped."""
    hand = Hand()
    hand.hear(vote(B, MAX_TERM, force=True))
    assert hand.raft.term == 0
    hand.hear(vote(B, MAX_TERM // 2, force=True))
    hand.campaign()
    other = Hand(B)
    other.hear(vote(A, MAX_TERM // 2, force=True))
    other.hear(*hand.told(Vote, B))
    assert other.only(VoteReply, A).granted
