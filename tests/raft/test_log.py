"""How logs come to agree, and what counts as committed: rules 7 to 14."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

from exraft.names import Peer, Role
from exraft.raft import (
    CONFIG,
    Append,
    AppendReply,
    Config,
    Message,
    PreVote,
    Raft,
    Refusal,
)
from exraft.raft.config import config_entry, decode_config
from exraft.raft.progress import MUCH
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
    pre_vote_reply,
    refuse,
    vote,
    vote_reply,
    with_log,
)
from tests.raft.hand import commands as entries_of
from tests.raft.views import commands

# Rule 7: a follower deletes only what conflicts.


def test_a_follower_keeps_its_entries_when_a_shorter_append_arrives_late() -> None:
    """Rule 7."""
    hand = Hand()
    log = entries_of(1, 3)
    hand.hear(append(B, 1, (0, 0), log))
    hand.hear(append(B, 1, (0, 0), log[:1]))
    assert hand.store.last_index == 3


def test_a_follower_keeps_its_entries_when_an_old_heartbeat_arrives_late() -> None:
    """Rule 7."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), entries_of(1, 3)))
    hand.hear(append(B, 1, (0, 0)))
    assert hand.store.last_index == 3


def test_an_append_that_comes_twice_changes_nothing_the_second_time() -> None:
    """Rules 7 and 12."""
    hand = Hand()
    message = append(B, 1, (0, 0), entries_of(1, 3), commit=2)
    hand.hear(message)
    before = hand.log()
    hand.hear(message)
    assert hand.log() == before
    assert hand.raft.commit_index == 2


def test_an_append_that_overlaps_adds_only_what_is_new() -> None:
    """Rule 7."""
    hand = Hand()
    log = entries_of(1, 5)
    hand.hear(append(B, 1, (0, 0), log[:3]))
    hand.hear(append(B, 1, (1, 1), log[1:]))
    assert hand.log() == [(1, b"%d" % n) for n in range(5)]


def test_entries_are_deleted_from_the_first_whose_term_conflicts() -> None:
    """Rule 7."""
    hand = Hand(owner=with_log(A, command(1, b"a"), command(2, b"b"), command(2, b"c")))
    hand.hear(append(C, 3, (0, 0), [command(1, b"a"), command(3, b"d")]))
    assert hand.log() == [(1, b"a"), (3, b"d")]


def test_a_committed_entry_is_never_overwritten() -> None:
    """Rule 7."""
    hand = Hand(owner=with_log(A, command(1, b"a"), command(1, b"b"), commit=2))
    hand.hear(append(C, 3, (0, 0), [command(3, b"c")]))
    assert hand.log() == [(1, b"a"), (1, b"b")]
    assert not hand.told(AppendReply)
    assert "committed" in hand.reports[0]


# Rule 8: what an append vouches for.


def test_a_follower_commits_no_more_than_the_append_vouched_for() -> None:
    """Rule 8: what stands behind it may be another leader's."""
    hand = Hand(owner=with_log(A, command(1), command(2), command(2)))
    hand.hear(append(B, 3, (1, 1), commit=3))
    assert hand.raft.commit_index == 1


def test_a_follower_commits_no_more_than_its_leader() -> None:
    """Rule 8."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), entries_of(1, 3), commit=2))
    assert hand.raft.commit_index == 2


def test_a_commit_index_never_goes_back() -> None:
    """Rule 8."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), entries_of(1, 3), commit=3))
    hand.hear(append(B, 1, (0, 0), commit=1))
    hand.hear(append(C, 2, (3, 1), commit=0))
    assert hand.raft.commit_index == 3


def test_a_follower_acknowledges_what_was_verified_and_not_its_whole_log() -> None:
    """Rule 8."""
    hand = Hand(owner=with_log(A, command(1), command(2), command(2)))
    hand.hear(append(B, 3, (1, 1)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (True, 1)


def test_a_batch_of_appends_is_acknowledged_once_with_the_last_index() -> None:
    """Rules 8 and 14."""
    hand = Hand()
    log = entries_of(1, 3)
    hand.hear(append(B, 1, (0, 0), log[:1]), append(B, 1, (1, 1), log[1:]), append(B, 1, (0, 0)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (True, 3)


def test_what_one_leader_vouched_for_is_not_acknowledged_to_the_next() -> None:
    """Rule 8."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), entries_of(1, 3)), append(C, 2, (1, 1)))
    assert not hand.told(AppendReply, B)
    reply = hand.only(AppendReply, C)
    assert (reply.term, reply.index) == (2, 1)


# Rule 9: what a leader counts.


def test_a_leader_commits_no_entry_of_an_older_term_by_counting() -> None:
    """Rule 9 (Raft §5.4.2)."""
    hand = Hand(owner=with_log(A, command(1), command(2), term=3))
    hand.campaign()
    hand.hear(vote_reply(B, 4))
    hand.hear(accept(B, 4, 2), accept(C, 4, 2))
    assert hand.raft.commit_index == 0
    hand.hear(accept(B, 4, 3))
    assert hand.raft.commit_index == 3


def test_figure_8_no_entry_is_overwritten_after_it_was_acknowledged() -> None:
    """Rule 9: the schedule of the Raft paper's Figure 8, by which ExRaft 0.2 lost writes."""
    cluster = Cluster(3, options=replace(QUICK, batch_size=1))
    a, b, c = cluster.peers
    cluster.make_leader(a)
    # (a) The first leader has an entry that nobody else has.
    cluster.isolate(a)
    cluster.write(a, b"x")
    x = cluster.raft(a).last_index
    # (b) Another leads a later term, and has another entry at its place.
    cluster.filter = lambda sender, to, m: not (isinstance(m, Append) and m.entries)
    cluster.run(lambda: campaign_until_leader(cluster, c))
    assert cluster.raft(c).last_index == x
    cluster.crash(c)
    # (c) The first leads again. Its old entry gets to a majority, the one of its own term does not.
    cluster.heal()
    cluster.filter = lambda sender, to, m: (
        not (isinstance(m, Append) and m.prev_index >= x and cluster.raft(b).last_index >= x)
    )
    cluster.run(lambda: campaign_until_leader(cluster, a))
    cluster.run(lambda: cluster.raft(b).last_index == x)
    cluster.wait(0.5)
    assert cluster.raft(a).state is Role.LEADER
    assert b"x" not in cluster.done
    # (d) The other comes back and wins: the old entry is overwritten on the majority that had it.
    cluster.crash(a)
    cluster.filter = lambda sender, to, m: True
    cluster.start(c)
    cluster.run(lambda: campaign_until_leader(cluster, c))
    cluster.run(lambda: cluster.raft(b).commit_index > x)
    cluster.start(a)
    cluster.elect()
    assert b"x" not in cluster.done
    assert [commands(cluster, peer) for peer in cluster.peers] == [[], [], []]


def campaign_until_leader(cluster: Cluster, peer: Peer) -> bool:
    if cluster.raft(peer).state is Role.FOLLOWER:
        cluster.campaign(peer)
    return cluster.raft(peer).state is Role.LEADER


def test_a_new_leader_at_once_writes_the_full_configuration_in_its_own_term() -> None:
    """Rule 9."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    assert hand.store.last_index == 1
    entry = hand.store.slice(1, 1)[0]
    assert (entry.term, entry.kind) == (1, CONFIG)
    assert decode_config(entry.data).voters == (A, B, C)
    assert [message.entries for message in hand.told(Append)] == [(entry,), (entry,)]


# Rule 10: storing while sending.


def leader_with_unstored_entry() -> Raft:
    hand = Hand()
    hand.elect()
    raft = hand.raft
    raft.propose(b"x", 0.0)
    raft.flush(0.0)
    return raft


def test_a_leader_sends_entries_before_it_has_stored_them() -> None:
    """Rule 10."""
    raft = leader_with_unstored_entry()
    sent = [m for _, m in raft.take().early if isinstance(m, Append)]
    assert [m.entries[0].data for m in sent] == [b"x", b"x"]
    assert raft.store.dirty


def test_a_leader_counts_itself_only_once_its_entries_are_stored() -> None:
    """Rule 10."""
    raft = leader_with_unstored_entry()
    index = raft.last_index
    mark = raft.store.mark()
    raft.step(accept(B, 1, index), 0.0)
    raft.flush(0.0)
    assert raft.commit_index < index
    raft.stored(mark, 0.0)
    raft.flush(0.0)
    assert raft.commit_index == index


def test_a_leader_may_commit_what_a_quorum_of_others_has_stored() -> None:
    """Rule 10 (dissertation §10.2.1)."""
    raft = leader_with_unstored_entry()
    raft.step(accept(B, 1, raft.last_index), 0.0)
    raft.step(accept(C, 1, raft.last_index), 0.0)
    raft.flush(0.0)
    assert raft.commit_index == raft.last_index


def core_with_log() -> Raft:
    """A follower that has two entries of term 1, the second of them not yet stored."""
    raft = Raft(A, with_log(A, command(1)).lend(), QUICK, random.Random(0), 0.0, (A, B, C))
    raft.step(append(B, 1, (1, 1), [command(1)]), 0.0)
    return raft


def test_a_late_stored_for_entries_that_were_replaced_meanwhile_counts_for_nothing() -> None:
    """Rule 10: the append ABA race."""
    raft = core_with_log()
    mark = raft.store.mark()
    raft.step(append(C, 2, (1, 1), [command(2)]), 0.0)
    raft.stored(mark, 0.0)
    assert raft.last_index == 2
    assert raft.durable_index == 1


def test_a_late_stored_for_entries_that_were_truncated_meanwhile_counts_for_nothing() -> None:
    """Rule 10."""
    raft = core_with_log()
    raft.step(append(B, 1, (2, 1), [command(1), command(1)]), 0.0)
    mark = raft.store.mark()
    raft.step(append(C, 2, (1, 1), [command(2)]), 0.0)
    raft.stored(mark, 0.0)
    assert raft.durable_index == 1


def test_what_was_stored_and_then_truncated_is_not_stored_any_more() -> None:
    """Rule 10."""
    raft = core_with_log()
    raft.stored(raft.store.mark(), 0.0)
    assert raft.durable_index == 2
    raft.step(append(C, 2, (1, 1), [command(2)]), 0.0)
    assert raft.durable_index == 1


def test_a_stored_of_a_part_of_the_log_counts_for_that_part() -> None:
    """Rule 10."""
    raft = core_with_log()
    mark = raft.store.mark()
    raft.step(append(B, 1, (2, 1), [command(1)]), 0.0)
    raft.stored(mark, 0.0)
    assert raft.durable_index == 2


# Rule 11: finding where logs agree.


def refusals_until_caught_up(follower: list[int], leader: list[int]) -> int:
    """How often a follower refuses until its log is the leader's, given their entries' terms."""
    hand = Hand(owner=with_log(A, *(command(term) for term in leader)))
    other = Hand(B, owner=with_log(B, *(command(term) for term in follower)))
    hand.campaign()
    hand.hear(vote_reply(C, hand.raft.term))
    refusals = 0
    while other.store.last_index < hand.raft.last_index or other.raft.last_term != hand.raft.term:
        other.hear(*hand.told(Append, B))
        replies = other.told(AppendReply, A)
        assert replies, "the follower is never sent what it lacks"
        refusals += sum(not reply.accepted for reply in replies)
        hand.hear(*replies)
    assert other.log() == hand.log()
    return refusals


def test_a_follower_that_lacks_much_is_caught_up_after_one_refusal() -> None:
    """Rule 11."""
    assert refusals_until_caught_up([1] * 10, [1] * 500) <= 1


def test_a_follower_with_a_long_tail_of_another_term_is_caught_up_after_two_refusals() -> None:
    """Rule 11."""
    assert refusals_until_caught_up([1] * 10 + [2] * 500, [1] * 10 + [3] * 500) <= 2


def test_a_refusal_costs_a_term_and_not_an_index() -> None:
    """Rule 11."""
    follower = [1] * 10 + [2] * 100 + [4] * 100 + [6] * 100
    leader = [1] * 10 + [3] * 100 + [5] * 100 + [7] * 100
    assert refusals_until_caught_up(follower, leader) <= 4


def test_a_follower_says_where_its_log_may_fit() -> None:
    """Rule 11."""
    hand = Hand(owner=with_log(A, *entries_of(1, 3), *entries_of(4, 5)))
    hand.hear(append(B, 5, (7, 3)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (False, 7)
    assert (reply.hint_index, reply.hint_term) == (3, 1)


# Rule 12: a network that loses, doubles, delays and reorders.


def test_writes_survive_a_network_that_doubles_and_reorders_everything() -> None:
    """Rule 12."""
    faults = Faults(loss=0.1, doubling=1.0, delay=(0.001, 0.09))
    cluster = Cluster(3, seed=4, faults=faults)
    written = []
    for n in range(30):
        leader = cluster.elect()
        data = b"%d" % n
        if isinstance(cluster.write(leader.me, data), int):
            written.append(data)
        cluster.wait(0.05)
    cluster.network.faults = Faults()
    cluster.run(lambda: set(written) <= set(cluster.done))
    cluster.wait(1)
    for peer in cluster.peers:
        applied = commands(cluster, peer)
        assert len(applied) == len(set(applied))
        assert set(written) <= set(applied)


def test_a_late_vote_of_an_earlier_term_does_not_count() -> None:
    """Rule 12."""
    hand = Hand()
    hand.campaign()
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(B, 1, 2))
    assert (hand.campaigns(), hand.raft.term) == (True, 2)
    hand.hear(vote_reply(B, 1), vote_reply(C, 1))
    assert hand.campaigns()
    hand.hear(vote_reply(B, 2))
    assert hand.leads()


def test_a_late_vote_deposes_no_leader_and_makes_none() -> None:
    """Rule 12."""
    hand = Hand()
    hand.elect()
    hand.hear(vote_reply(C, 1))
    assert hand.leads()
    hand.hear(append(B, 2, (0, 0)))
    hand.hear(vote_reply(B, 2), vote_reply(C, 2))
    assert hand.follows()


def test_a_pre_vote_that_was_given_for_an_earlier_term_does_not_count() -> None:
    """Rule 12."""
    hand = Hand()
    hand.wait_for_deadline()
    hand.hear(append(B, 3, (0, 0)))
    hand.wait_for_deadline()
    assert hand.told(PreVote)
    hand.hear(pre_vote_reply(C, 0, 1))
    assert hand.follows()
    hand.hear(pre_vote_reply(C, 3, 4))
    assert hand.campaigns()


def test_an_acknowledgement_of_an_earlier_term_does_not_count() -> None:
    """Rule 12: the entry that was acknowledged then may be replaced since."""
    hand = Hand(owner=with_log(A, command(1), term=2))
    hand.campaign()
    hand.hear(vote_reply(B, 3))
    assert hand.raft.last_index == 2
    hand.hear(accept(B, 1, 2), accept(C, 2, 2))
    assert hand.raft.commit_index == 0
    hand.hear(accept(B, 3, 2))
    assert hand.raft.commit_index == 2


def test_acknowledgements_that_come_twice_or_out_of_order_count_once() -> None:
    """Rule 12."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    before = hand.raft.commit_index
    hand.propose(b"x", b"y")
    hand.hear(accept(B, 1, before + 2), accept(B, 1, before + 2), accept(B, 1, before + 1))
    assert hand.raft.commit_index == before
    hand.hear(accept(C, 1, before + 1))
    assert hand.raft.commit_index == before + 1


def test_an_old_refusal_takes_back_nothing_that_was_acknowledged() -> None:
    """Rule 12."""
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    hand.accept_all()
    committed = hand.raft.commit_index
    hand.hear(refuse(B, 1, 1))
    hand.propose(b"y")
    assert [m.prev_index for m in hand.told(Append, B)] == [committed]


def test_a_follower_ignores_the_answers_that_only_a_leader_awaits() -> None:
    """Rule 12."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.hear(accept(C, 1, 5), refuse(C, 1, 5), vote_reply(C, 1), pre_vote_reply(C, 1, 2))
    assert hand.follows()
    assert hand.raft.leader == B


# Rule 13: who can't apply.


def test_a_leader_that_cannot_apply_its_log_stops_leading() -> None:
    """Rule 13."""
    hand = Hand()
    hand.elect()
    hand.raft.halt(hand.now)
    assert hand.follows()
    assert hand.raft.propose(b"x", hand.now) == Refusal("no_leader")


def test_a_server_that_cannot_apply_its_log_never_campaigns() -> None:
    """Rule 13."""
    hand = Hand()
    hand.raft.halt(hand.now)
    for _ in range(5):
        hand.wait(10)
        assert not hand.told(PreVote)
    hand.campaign()
    assert hand.follows()


def test_a_server_that_cannot_apply_its_log_still_stores_and_acknowledges() -> None:
    """Rule 13."""
    hand = Hand()
    hand.raft.halt(hand.now)
    hand.hear(append(B, 1, (0, 0), entries_of(1, 2)))
    assert hand.only(AppendReply).index == 2


def test_nothing_is_handed_out_as_committed_before_a_quorum_has_it() -> None:
    """Rule 13."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    before = hand.raft.commit_index
    hand.propose(b"x")
    hand.hear(accept(B, 1, before + 1))
    assert hand.raft.commit_index == before
    hand.hear(accept(C, 1, before + 1))
    assert hand.raft.commit_index == before + 1


# Rule 14: time is judged last.


def test_a_heartbeat_that_waited_is_handled_before_the_deadline_that_it_answers() -> None:
    """Rule 14."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.now = hand.raft.deadline + 5
    hand.raft.step(append(B, 1, (0, 0)), hand.now)
    hand.raft.tick(hand.now)
    hand.carry_out()
    assert not hand.told(PreVote)
    assert hand.raft.leader == B


def test_a_follower_that_was_stalled_gives_its_leader_a_moment_before_it_campaigns() -> None:
    """Rule 14."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.wait(30)
    assert not hand.told(PreVote)
    hand.wait_for_deadline()
    assert hand.told(PreVote)


def test_a_leader_that_was_stalled_asks_before_it_believes_that_it_is_cut_off() -> None:
    """Rule 14."""
    hand = Hand()
    hand.elect()
    hand.wait(30)
    assert hand.leads()
    assert len(hand.told(Append)) == 2
    hand.wait(0.5)
    hand.hear(accept(B, 1, 1))
    hand.wait(0.9)
    assert hand.leads()


# What leaves at once, and how much of it: bounds.


def test_several_appends_are_under_way_to_a_peer_that_keeps_up() -> None:
    """Nothing waits for the acknowledgement of what was sent before."""
    hand = Hand()
    hand.elect()
    first = hand.raft.last_index
    for n in range(5):
        hand.propose(b"%d" % n)
        assert [m.prev_index for m in hand.told(Append, B)] == [first + n]


def test_a_peer_that_refuses_is_probed_with_one_append_at_a_time() -> None:
    """As in etcd's progress tracker."""
    hand = Hand()
    hand.elect()
    hand.propose(b"x")
    hand.hear(refuse(B, 1, hand.raft.last_index, (1, 1)))
    assert len(hand.told(Append, B)) == 1
    hand.propose(b"y")
    assert not hand.told(Append, B)
    hand.hear(accept(B, 1, hand.raft.last_index))
    hand.propose(b"z")
    assert len(hand.told(Append, B)) == 1


def test_what_waits_for_a_peer_leaves_in_appends_of_bounded_number_and_size() -> None:
    options = replace(QUICK, batch_size=4, max_append_bytes=10)
    hand = Hand(options=options)
    hand.elect()
    hand.propose(*[b"1"] * 4, *[b"666666"] * 2, b"9" * 50)
    sizes = [[len(entry.data) for entry in m.entries] for m in hand.told(Append, B)]
    assert sizes == [[1, 1, 1, 1], [6], [6], [50]]


def test_a_leader_refuses_more_than_its_bound_of_uncommitted_bytes() -> None:
    hand = Hand(options=replace(QUICK, max_uncommitted_bytes=10))
    hand.elect()
    hand.propose(b"123456")
    outcome = hand.raft.propose(b"123456", hand.now)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "overloaded"
    hand.carry_out()
    hand.accept_all()
    hand.propose(b"123456")


def test_a_command_larger_than_the_bound_passes_when_nothing_else_waits() -> None:
    hand = Hand(options=replace(QUICK, max_uncommitted_bytes=10))
    hand.elect()
    hand.propose(b"x" * 100)


def test_a_second_leader_of_a_term_is_reported_and_not_followed() -> None:
    hand = Hand(owner=with_log(A, configuration(1, A, B, C), commit=1))
    hand.elect()
    hand.hear(append(B, hand.raft.term, (1, 1)))
    assert hand.leads()
    assert "claims to lead" in hand.reports[-1]


def test_what_an_idle_leader_and_its_followers_say_comes_to_rest() -> None:
    """An acknowledgement is not answered, so that an idle cluster is quiet between heartbeats."""
    hand = Hand()
    hand.elect()
    hand.wait_for_deadline()
    assert len(hand.sent) == 2
    hand.accept_all()
    assert not hand.sent


def test_what_an_earlier_leader_vouched_for_is_void_when_a_term_begins_without_a_leader() -> None:
    """Rule 8."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), entries_of(1, 3)), vote(C, 2, force=True))
    hand.hear(append(C, 2, (5, 2)))
    reply = hand.only(AppendReply, C)
    assert not reply.accepted


def test_an_older_word_of_the_store_takes_back_nothing_that_was_stored() -> None:
    """Rule 10."""
    hand = Hand()
    hand.elect()
    older = hand.store.mark()
    hand.propose(b"x")
    newest = hand.raft.durable_index
    assert newest == hand.raft.last_index
    hand.raft.stored(older, hand.now)
    assert hand.raft.durable_index == newest


def test_a_new_leader_keeps_the_learners() -> None:
    """Rule 9: they are part of the configuration that it writes."""
    entry = config_entry(1, Config((A, B, C), (D,), "here"))
    hand = Hand(owner=with_log(A, entry, commit=1))
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    assert hand.leads()
    assert hand.raft.config_index == 2
    assert hand.raft.config.learners == (D,)


def test_a_probe_that_was_lost_is_sent_again_with_the_next_heartbeat() -> None:
    """Rules 11 and 12."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    assert hand.only(Append, B).entries
    hand.wait(0.1)
    sent = hand.told(Append, B)
    assert len(sent) == 2
    again, heartbeat = sent
    assert (again.prev_index, bool(again.entries)) == (heartbeat.prev_index, True)
    assert not heartbeat.entries


# Rule 12: heartbeats overtake entries.

HEAVY = b"x" * (MUCH + 1)


def leading() -> Hand:
    """A leads B and C, who have all of its log."""
    hand = Hand()
    hand.elect()
    return hand


def test_a_heartbeat_asks_for_nothing_that_has_just_left() -> None:
    """Rule 12: it may arrive before that does."""
    hand = leading()
    last = hand.raft.last_index
    hand.propose(b"x")
    hand.wait(0.1)
    beat = hand.only(Append, B)
    assert (beat.entries, beat.prev_index) == ((), last)


def test_a_heartbeat_asks_for_what_left_a_heartbeat_ago() -> None:
    """Rule 12: it is lost, or will be acknowledged once more."""
    hand = leading()
    hand.propose(b"x")
    hand.wait(0.1)
    hand.wait(0.1)
    beat = hand.only(Append, B)
    assert (beat.entries, beat.prev_index) == ((), hand.raft.last_index)
    hand.hear(refuse(B, 1, beat.prev_index, (beat.prev_index - 1, 1)))
    assert [entry.data for entry in hand.only(Append, B).entries] == [b"x"]


def test_the_acknowledgement_of_a_heartbeat_lets_nothing_leave_again() -> None:
    """Rule 12."""
    hand = leading()
    last = hand.raft.last_index
    hand.propose(b"x")
    hand.wait(0.1)
    hand.hear(accept(B, 1, last))
    assert not hand.told(Append, B)
    hand.propose(b"y")
    assert [entry.data for entry in hand.only(Append, B).entries] == [b"y"]


def test_a_heartbeat_that_overtakes_entries_answers_a_round() -> None:
    """Rules 12 and 20."""
    hand = leading()
    last = hand.raft.last_index
    hand.read("r1")
    hand.propose(b"x")
    hand.read("r2")
    beat = hand.only(Append, B)
    assert (beat.entries, beat.prev_index) == ((), last)
    hand.hear(accept(B, 1, last, round=beat.round))
    assert set(hand.confirmed) == {"r1"}
    hand.hear(accept(B, 1, last + 1))
    assert hand.confirmed == {"r1": last, "r2": last + 1}


def test_a_heartbeat_does_not_wait_for_heavy_entries_of_the_same_moment() -> None:
    """Rule 12."""
    hand = leading()
    last = hand.raft.last_index
    hand.raft.tick(hand.now + 0.1)
    hand.propose(HEAVY)
    heavy, *beats = hand.told(Append, B)
    assert heavy.entries
    assert [(beat.entries, beat.prev_index) for beat in beats] == [((), last)]


def test_a_read_round_does_not_wait_for_heavy_entries_of_the_same_moment() -> None:
    """Rule 12."""
    hand = leading()
    last = hand.raft.last_index
    hand.raft.read("r", hand.now)
    hand.propose(HEAVY)
    sent = hand.told(Append, B)
    assert len(sent) == 2
    heavy, question = sent
    assert heavy.entries
    assert (question.entries, question.prev_index) == ((), last)


def test_a_heartbeat_does_not_wait_for_light_entries_either() -> None:
    """Rule 12: what is on their road beside them may be heavy."""
    hand = leading()
    last = hand.raft.last_index
    hand.raft.tick(hand.now + 0.1)
    hand.propose(b"x")
    sent = hand.told(Append, B)
    assert len(sent) == 2
    entries, heartbeat = sent
    assert [entry.data for entry in entries.entries] == [b"x"]
    assert (heartbeat.entries, heartbeat.prev_index) == ((), last)


def test_light_entries_are_a_read_round_as_well() -> None:
    hand = leading()
    hand.read("r")
    hand.propose(b"x")
    assert hand.only(Append, B).entries


def test_heavy_entries_are_waited_for_longer() -> None:
    """Rule 12: on a slow road they would be sent over and over."""
    hand = leading()
    last = hand.raft.last_index
    hand.propose(HEAVY)
    asked = []
    for _ in range(11):
        hand.wait(0.1)
        asked.append(hand.only(Append, B).prev_index)
        hand.hear(accept(B, 1, last), accept(C, 1, last))
        assert not hand.told(Append)
    assert asked == [last] * 10 + [last + 1]


def test_who_is_asked_where_its_log_agrees_is_sent_no_heavy_entries_for_it() -> None:
    """Rule 11: nobody may be there, and each heartbeat asks again."""
    hand = leading()
    hand.propose(HEAVY)
    last = hand.raft.last_index
    hand.hear(refuse(B, 1, last, (last - 2, 1)))
    for _ in range(3):
        question = hand.only(Append, B)
        assert (question.entries, question.prev_index) == ((), last - 1)
        hand.wait(0.1)
    hand.hear(accept(B, 1, last - 1))
    assert [entry.data for entry in hand.only(Append, B).entries] == [HEAVY]


class Lanes(Cluster):
    """A cluster whose entries come 50 ms later than everything else.

    `entries` are those that were sent, by receiver; `refusals` the appends that did not fit.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(3, seed=seed)
        self.road: dict[Peer, float] = {}
        self.entries: Counter[tuple[Peer, int]] = Counter()
        self.refusals = 0

    def send(self, sender: Peer, to: Peer, message: Message) -> None:
        if isinstance(message, AppendReply):
            self.refusals += not message.accepted
        if isinstance(message, Append) and message.entries:
            first = message.prev_index + 1
            self.entries.update((to, first + n) for n in range(len(message.entries)))
            # One after the other, whatever the network adds.
            leaves = max(self.now + 0.05, self.road.get(to, 0.0) + 0.01)
            self.road[to] = leaves
            self.later(leaves - self.now, partial(super().send, sender, to, message))
        else:
            super().send(sender, to, message)


def test_entries_that_are_overtaken_are_neither_refused_nor_sent_again() -> None:
    """Rule 12: heartbeats, read rounds and acknowledgements travel on another road."""
    for seed in range(10):
        cluster = Lanes(seed)
        cluster.make_leader(A)
        cluster.entries.clear()
        cluster.refusals = 0
        for n in range(100):
            cluster.wait(cluster.rng.random() * 0.1)
            cluster.write(A, b"%d" % n)
            if n % 3 == 0:
                cluster.wait(cluster.rng.random() * 0.05)
                cluster.read(A, f"r{n}")
        cluster.wait(1.0)
        assert len(cluster.done) >= 100
        assert len(cluster.read_at) == 34
        assert cluster.refusals == 0
        assert set(cluster.entries.values()) == {1}


def test_entries_that_were_lost_leave_again_within_two_heartbeats() -> None:
    """Rule 12."""
    for seed in range(10):
        cluster = Lanes(seed)
        cluster.make_leader(A)
        cluster.filter = lambda sender, to, message: (
            not (isinstance(message, Append) and message.entries)
        )
        cluster.wait(cluster.rng.random() * 0.1)
        cluster.write(A, b"x")
        cluster.wait(0.06)
        cluster.filter = lambda sender, to, message: True
        cluster.wait(0.22)
        assert b"x" in cluster.done


def test_a_transfer_waits_for_what_is_overtaken() -> None:
    """Rules 12 and 22."""
    cluster = Lanes(0)
    cluster.make_leader(A)
    for n in range(10):
        cluster.write(A, b"%d" % n)
    cluster.transfer(A, "t1", B)
    cluster.run(lambda: cluster.raft(B).state is Role.LEADER, within=0.3)
    cluster.run(lambda: len(commands(cluster, B)) == 10, within=0.3)


def test_a_follower_that_is_stalled_again_campaigns_all_the_same() -> None:
    """Rule 14: it gives a leader that it does not hear one moment, and not one after the other."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0)))
    hand.wait(30)
    hand.wait(30)
    assert hand.told(PreVote)
