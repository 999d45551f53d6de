"""Who belongs to a cluster, and how that changes: rules 15 to 19."""

from __future__ import annotations

from dataclasses import replace

from exraft.names import Peer, Role
from exraft.raft import (
    Append,
    AppendReply,
    Done,
    Logged,
    PreVote,
    Reach,
    ReachReply,
    Refusal,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.membership import MAX_ROUNDS
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
    configuration,
    of_cluster,
    pre_vote,
    pre_vote_reply,
    reach_reply,
    refuse,
    store_of,
    vote,
    vote_reply,
    with_log,
)
from tests.raft.views import commands, voters


def waiting_server(cluster: Cluster, peer: Peer) -> None:
    """Start a server that knows no other, and waits to be added."""
    cluster.add(peer, [peer], min_majority=2)
    cluster.start(peer)


def alone() -> Hand:
    """The leader of a cluster of one."""
    hand = Hand(founders=(A,))
    assert hand.leads()
    assert hand.raft.committed_in_term
    return hand


# Rule 15: one configuration holds, and one change at a time.


def test_a_configuration_holds_as_soon_as_it_is_appended() -> None:
    """Rule 15 (Raft §6)."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, A, B, C, D, E)]))
    assert hand.raft.commit_index == 0
    assert hand.raft.quorum == 3
    hand.campaign()
    assert {to for to, message in hand.sent if isinstance(message, Vote)} == {B, C, D, E}


def test_when_a_configuration_is_truncated_the_one_before_holds_again() -> None:
    """Rule 15."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, A, B, C), command(1)], commit=1))
    hand.hear(append(B, 1, (2, 1), [configuration(1, A, B, C, D)]))
    assert hand.voters() == (A, B, C, D)
    hand.hear(append(C, 2, (2, 1), [command(2)]))
    assert hand.voters() == (A, B, C)
    assert hand.raft.config_index == 1


def test_when_the_first_configuration_is_truncated_the_founders_hold_again() -> None:
    """Rule 15."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, A, B, C, D)]))
    hand.hear(append(C, 2, (0, 0), [command(2)]))
    assert hand.voters() == (A, B, C)
    assert hand.raft.config_index == 0


def test_a_restarted_server_takes_up_the_newest_configuration_of_its_log() -> None:
    """Rules 15 and 26."""
    log = [configuration(1, A, B, C), command(1), configuration(1, A, B, C, D)]
    hand = Hand(owner=with_log(A, *log, commit=1))
    assert hand.voters() == (A, B, C, D)
    hand.hear(append(C, 2, (2, 1), [command(2)]))
    assert hand.voters() == (A, B, C)


def test_no_change_is_logged_before_an_entry_of_the_term_is_committed() -> None:
    """Rule 15: the 2015 single-server bug."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    hand.change("remove", C, add=False)
    assert hand.store.last_index == 1
    assert "remove" not in hand.answers
    hand.hear(accept(B, 1, 1))
    assert isinstance(hand.answers.get("remove"), Logged)
    assert hand.voters() == (A, B)


def test_a_change_that_waits_too_long_for_the_first_commit_is_refused() -> None:
    """Rule 15."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    hand.change("remove", C, add=False)
    for _ in range(101):
        hand.hear(refuse(B, 1, 0))
        hand.wait(0.1)
    assert hand.answers.get("remove") == Refusal("no_commit")


def test_a_change_that_waits_is_refused_once_leadership_is_handed_over() -> None:
    """Rules 15 and 22."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    hand.change("remove", C, add=False)
    hand.transfer("t", B)
    hand.hear(accept(C, 1, 1))
    assert hand.refused("remove") == "transferring"


def test_a_second_change_is_refused_while_one_is_under_way() -> None:
    """Rule 15."""
    hand = Hand()
    hand.elect()
    hand.change("first", C, add=False)
    hand.change("second", B, add=False)
    assert isinstance(hand.answers.get("first"), Logged)
    assert hand.answers.get("second") == Refusal("unstable_config")
    hand.accept_all()
    hand.change("third", B, add=False)
    assert isinstance(hand.answers.get("third"), Logged)


def test_a_change_is_refused_while_a_server_is_being_caught_up() -> None:
    """Rule 15."""
    hand = Hand()
    hand.elect()
    hand.change("add", D, add=True)
    hand.change("remove", C, add=False)
    assert hand.answers.get("remove") == Refusal("unstable_config")


def test_no_second_configuration_is_logged_while_one_is_not_committed() -> None:
    """Rules 15 and 29: the id of a store that is learnt meanwhile waits."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1), accept(B, 1, 1))
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D), accept(C, 1, 1))
    hand.hear(accept(D, 1, hand.raft.last_index))
    pending = [index for index, _ in hand.store.configs() if index > hand.raft.commit_index]
    assert len(pending) == 1
    assert isinstance(hand.answers.get("add"), Logged)
    assert hand.raft.config.store_of(C) == store_of(C)


def test_a_change_waits_until_the_ids_of_stores_that_were_learnt_are_committed() -> None:
    """Rules 15 and 29."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.campaign()
    hand.hear(vote_reply(B, 1), vote_reply(C, 1), accept(B, 1, 1), accept(C, 1, 1))
    hand.hear(accept(D, 1, 1))
    hand.change("remove", E, add=False)
    pending = [index for index, _ in hand.store.configs() if index > hand.raft.commit_index]
    assert len(pending) == 1
    assert "remove" not in hand.answers
    last = hand.raft.last_index
    hand.hear(accept(B, 1, last), accept(C, 1, last))
    assert isinstance(hand.answers.get("remove"), Logged)


def test_the_2015_single_server_bug_commits_nothing_twice() -> None:
    """Rule 15: two leaders change the configuration, neither knowing of the other's change."""
    cluster = Cluster(4)
    a, b, c, d = cluster.peers
    base = cluster.make_leader(a).last_index
    waiting_server(cluster, E)
    # The first leader adds E, and only E hears of it.
    cluster.filter = lambda sender, to, m: (
        not (isinstance(m, Append) and sender == a and to in (b, c, d))
    )
    cluster.change(a, "add", E, add=True)
    cluster.run(lambda: E in voters(cluster, a) and E in voters(cluster, E))
    cluster.isolate(a, E)
    # The second is elected by the rest, and removes the first; D hears nothing of it.
    cluster.filter = lambda sender, to, m: not (isinstance(m, Append) and to == d)
    cluster.run(lambda: lead(cluster, b))
    cluster.change(b, "remove", a, add=False)
    cluster.wait(0.5)
    cluster.crash(b)
    cluster.crash(c)
    # The first comes back, with D and E for a quorum of its configuration.
    cluster.filter = lambda sender, to, m: True
    cluster.heal()
    cluster.run(lambda: lead(cluster, a))
    cluster.run(lambda: "add" in cluster.done)
    assert "remove" not in cluster.done
    cluster.start(b)
    cluster.start(c)
    cluster.elect()
    assert cluster.done["add"] > base


def lead(cluster: Cluster, peer: Peer) -> bool:
    if cluster.raft(peer).state is Role.FOLLOWER:
        cluster.campaign(peer)
    return cluster.raft(peer).state is Role.LEADER


# Rule 16: a server is added.


def test_a_new_server_is_reached_before_anything_is_sent_to_it_or_logged() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    last = hand.raft.last_index
    hand.change("add", D, add=True)
    assert len(hand.told(Reach, D)) == 1
    assert not hand.told(Append, D)
    assert hand.raft.last_index == last


def test_a_new_server_is_caught_up_outside_the_configuration() -> None:
    """Rule 16: it neither votes nor counts."""
    hand = Hand()
    hand.elect()
    hand.change("add", D, add=True)
    hand.propose(b"x")
    index = hand.raft.last_index
    hand.hear(reach_reply(D))
    assert hand.told(Append, D)
    assert hand.voters() == (A, B, C)
    hand.propose(b"y")
    hand.hear(accept(D, 1, index - 1))
    assert hand.voters() == (A, B, C)
    assert hand.raft.commit_index == index - 1


def test_one_entry_makes_a_server_that_has_caught_up_a_voter() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    before = hand.raft.last_index
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    hand.hear(accept(D, 1, before))
    assert hand.answers.get("add") == Logged(before + 1, 1)
    assert hand.voters() == (A, B, C, D)
    assert hand.raft.config.learners == ()
    assert hand.raft.config.store_of(D) == store_of(D)
    # Of four, three must have it now; of three, two had been enough.
    hand.hear(accept(D, 1, before + 1))
    assert hand.raft.commit_index == before
    hand.hear(accept(B, 1, before + 1))
    assert hand.raft.commit_index == before + 1


def test_a_server_that_is_reached_changes_nothing_by_that() -> None:
    """Rule 16."""
    hand = Hand(founders=(A,), options=replace(QUICK, min_majority=2))
    before = (hand.raft.term, hand.raft.leader, hand.raft.deadline)
    hand.hear(Reach("other", B, 7))
    assert hand.only(ReachReply, B).belongs_to == ""
    assert (hand.raft.term, hand.raft.leader, hand.raft.deadline) == before


def test_a_server_that_does_not_answer_is_not_added() -> None:
    """Rule 16."""
    cluster = Cluster(3)
    leader = cluster.make_leader(A)
    last = leader.last_index
    cluster.change(leader.me, "add", D, add=True)
    cluster.run(lambda: "add" in cluster.answers, within=1.3)
    assert cluster.answers["add"].code == "catch_up_failed"
    assert leader.last_index == last


def test_a_server_that_falls_silent_while_it_catches_up_is_not_added() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    last = hand.raft.last_index
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    for _ in range(11):
        hand.wait(0.1)
        hand.hear(accept(B, 1, last))
    assert hand.refused("add") == "catch_up_failed"
    assert hand.raft.last_index == last
    hand.wait(0.1)
    assert not hand.told(Append, D)


def slow_rounds(hand: Hand, count: int) -> None:
    """Rounds of catching up, each of which takes longer than an election timeout."""
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    for _ in range(count):
        goal = hand.raft.last_index
        hand.propose(b"more")
        for _ in range(11):
            hand.wait(0.1)
            hand.hear(accept(D, 1, goal - 1))
        hand.hear(accept(D, 1, goal))


def test_a_server_becomes_voter_only_after_a_round_shorter_than_an_election_timeout() -> None:
    """Rule 16 (dissertation §4.2.1)."""
    hand = alone()
    slow_rounds(hand, 3)
    assert D not in hand.voters()
    hand.hear(accept(D, 1, hand.raft.last_index))
    assert D in hand.voters()


def test_after_ten_rounds_a_server_is_not_added() -> None:
    """Rule 16."""
    hand = alone()
    slow_rounds(hand, MAX_ROUNDS - 1)
    assert "add" not in hand.answers
    goal = hand.raft.last_index
    for _ in range(11):
        hand.wait(0.1)
        hand.hear(accept(D, 1, goal - 1))
    hand.hear(accept(D, 1, goal))
    assert hand.refused("add") == "catch_up_failed"
    assert [index for index, _ in hand.store.configs()] == [1]


def test_who_adds_is_redirected_when_leadership_is_lost_before_the_entry() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    hand.change("add", D, add=True)
    hand.hear(reach_reply(D))
    hand.hear(append(B, 2, (1, 1)))
    assert hand.answers.get("add") == Refusal("redirect", B)


def test_who_waits_for_the_first_commit_is_redirected_when_leadership_is_lost() -> None:
    """Rule 16."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    hand.change("remove", C, add=False)
    hand.hear(append(B, 2, (0, 0)))
    assert hand.answers.get("remove") == Refusal("redirect", B)


def test_adding_a_member_is_done_without_an_entry() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    last = hand.raft.last_index
    hand.change("add", C, add=True)
    hand.hear(reach_reply(C))
    assert hand.answers.get("add") == Done()
    hand.change("self", A, add=True)
    assert hand.answers.get("self") == Done()
    assert hand.raft.last_index == last


def test_adding_a_member_that_does_not_answer_is_done_after_an_election_timeout() -> None:
    """Rule 16."""
    cluster = Cluster(3)
    leader = cluster.elect()
    away = next(peer for peer in cluster.peers if peer != leader.me)
    cluster.crash(away)
    cluster.change(leader.me, "add", away, add=True)
    cluster.run(lambda: "add" in cluster.answers, within=1.3)
    assert cluster.answers.get("add") == Done()


def test_removing_who_is_no_member_is_done_without_an_entry() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    hand.change("remove", D, add=False)
    assert hand.answers.get("remove") == Done()


def test_the_last_server_is_not_removed() -> None:
    hand = alone()
    hand.change("remove", A, add=False)
    assert hand.answers.get("remove") == Refusal("last_server", A)


def test_no_removal_leaves_fewer_voters_than_min_majority() -> None:
    hand = Hand(options=replace(QUICK, min_majority=3))
    hand.elect()
    hand.change("remove", C, add=False)
    assert hand.answers.get("remove") == Refusal("below_min_majority", C)


def test_a_server_outside_its_own_newest_configuration_never_campaigns() -> None:
    """Rule 16."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, B, C)], commit=1))
    for _ in range(5):
        hand.wait(10)
        assert not hand.told(PreVote)
    hand.campaign()
    assert not hand.told(Vote)
    assert hand.follows()


def test_a_server_whose_removal_is_not_committed_campaigns_without_counting_itself() -> None:
    """Rule 16 (dissertation §4.2.2): nobody else may have a log that is as far."""
    hand = Hand(founders=(A, B, C, D))
    hand.hear(append(B, 1, (0, 0), [configuration(1, B, C, D)]))
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(C, 1, 2))
    assert hand.follows()
    hand.hear(pre_vote_reply(D, 1, 2))
    assert hand.campaigns()
    hand.hear(vote_reply(C, 2))
    assert hand.campaigns()
    hand.hear(vote_reply(D, 2))
    assert hand.leads()


def test_a_leader_is_found_when_only_the_removed_server_has_the_removal() -> None:
    """Rule 16: three of four servers live, and none of the three may be stuck."""
    cluster = Cluster(4)
    a, b, c, d = cluster.peers
    cluster.make_leader(a)
    cluster.filter = lambda sender, to, m: not (isinstance(m, Append) and to in (b, c))
    cluster.change(a, "remove", d, add=False)
    cluster.run(lambda: voters(cluster, d) == (a, b, c))
    cluster.crash(a)
    cluster.filter = lambda sender, to, m: True
    cluster.run(lambda: "remove" in cluster.done)
    cluster.run(lambda: (leader := cluster.leader()) is not None and leader.me in (b, c))
    assert voters(cluster, b) == voters(cluster, c) == (a, b, c)


def test_a_server_that_waits_to_be_added_never_campaigns() -> None:
    """Rule 16."""
    hand = Hand(founders=(A,), options=replace(QUICK, min_majority=2))
    hand.wait(60)
    hand.campaign()
    assert (hand.raft.term, hand.raft.state) == (0, Role.FOLLOWER)


def test_a_lone_server_leads_at_once() -> None:
    hand = alone()
    hand.propose(b"x")
    assert hand.raft.commit_index == 2


def test_a_cluster_grows_from_one_to_five_and_shrinks_again() -> None:
    """Rules 15 to 18."""
    cluster = Cluster(1)
    cluster.elect()
    for peer in (B, C, D, E):
        waiting_server(cluster, peer)
        cluster.write(A, peer.name.encode())
        cluster.change(A, f"with {peer}", peer, add=True)
        until_done(cluster, f"with {peer}")
        cluster.elect()
    assert voters(cluster, E) == (A, B, C, D, E)
    assert commands(cluster, E) == [b":b", b":c", b":d", b":e"]
    for peer in (A, B, C):
        leader = cluster.elect()
        cluster.change(leader.me, f"without {peer}", peer, add=False)
        until_done(cluster, f"without {peer}")
        cluster.wait(1)
        assert cluster.raft(peer).state is Role.FOLLOWER
        cluster.crash(peer)
    assert voters(cluster, cluster.elect().me) == (D, E)


def until_done(cluster: Cluster, ticket: str) -> None:
    cluster.run(lambda: ticket in cluster.done)


# Rule 17: clusters have ids.


def test_the_first_configuration_names_the_cluster_by_a_random_id() -> None:
    """Rule 17."""
    ids = set()
    for seed in range(5):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        cluster.wait(1)
        assert {cluster.raft(peer).cluster for peer in cluster.peers} == {leader.cluster}
        ids.add(leader.cluster)
    assert len(ids) == 5
    assert "" not in ids


def test_messages_of_another_cluster_are_dropped() -> None:
    """Rule 17."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C, cluster="here"), commit=1))
    for message in (
        append(B, 9, (1, 1), [command(9)], commit=2),
        vote(B, 9, (9, 9), force=True),
        pre_vote(B, 9, (9, 9)),
        vote_reply(B, 9),
    ):
        hand.hear(of_cluster(message, "there"))
        assert not hand.sent
    assert hand.raft.foreign == 4
    assert (hand.raft.term, hand.raft.last_index) == (1, 1)
    hand.hear(of_cluster(append(B, 9, (1, 1)), "here"))
    assert hand.raft.term == 9


def test_a_leader_of_a_cluster_without_an_id_is_not_obeyed_by_who_has_one() -> None:
    """Rule 17: a leader always names its cluster, a committed one or its own that is to be."""
    hand = Hand(owner=with_log(A, configuration(1, A, B, C, cluster="here"), commit=1))
    hand.raft.step(append(E, 9, (1, 1), [command(9)], commit=2), hand.now)
    hand.carry_out()
    assert not hand.sent
    assert (hand.raft.term, hand.raft.last_index, hand.raft.foreign) == (1, 1, 1)


def test_a_leader_names_its_cluster_before_it_is_committed() -> None:
    """Rule 17."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(B, 1))
    assert {message.cluster for message in hand.told(Append)} == {hand.raft.config.cluster}
    assert hand.raft.cluster == ""


def test_a_server_of_another_cluster_is_not_added() -> None:
    """Rule 17."""
    cluster = Cluster(3)
    leader = cluster.elect()
    # Started without min_majority, it has at once founded a cluster of its own.
    other = Hand(D, founders=(D,))
    last = leader.last_index
    cluster.change(leader.me, "add", D, add=True)
    other.hear(Reach(leader.cluster, leader.me, leader.term))
    reply = other.only(ReachReply)
    assert reply.belongs_to == other.raft.cluster
    leader.step(reply, cluster.now)
    cluster.settle(cluster.servers[leader.me])
    assert cluster.answers.get("add") == Refusal("foreign_server", D)
    assert leader.last_index == last


def test_while_a_cluster_is_founded_two_tentative_ids_do_not_keep_it_apart() -> None:
    """Rule 17: a founder that led without committing named the cluster in vain."""
    cluster = Cluster(3)
    a, b, c = cluster.peers
    cluster.filter = lambda sender, to, m: not (isinstance(m, Append) and m.entries)
    cluster.run(lambda: lead(cluster, a))
    first = cluster.raft(a).config.cluster
    cluster.isolate(a)
    cluster.run(lambda: lead(cluster, b))
    second = cluster.raft(b).config.cluster
    assert first and second and first != second
    assert cluster.raft(a).cluster == cluster.raft(b).cluster == ""
    cluster.filter = lambda sender, to, m: True
    cluster.heal()
    leader = cluster.elect()
    cluster.wait(1)
    assert leader.cluster in (first, second)
    assert {cluster.raft(peer).cluster for peer in cluster.peers} == {leader.cluster}
    assert not any(cluster.raft(peer).foreign for peer in cluster.peers)


def test_a_new_leader_keeps_the_id_of_the_cluster() -> None:
    """Rule 17."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    name = cluster.raft(A).cluster
    cluster.make_leader(B)
    assert cluster.raft(B).cluster == name


# Rule 18: a server is removed.


def test_a_leader_that_removes_itself_does_not_count_itself() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    removal = hand.raft.last_index + 1
    hand.change("remove", A, add=False)
    hand.hear(accept(B, 1, removal))
    assert hand.raft.commit_index == removal - 1
    hand.hear(accept(C, 1, removal))
    assert hand.raft.commit_index == removal


def test_a_leader_that_removes_itself_leads_until_that_is_committed() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    hand.change("remove", A, add=False)
    hand.propose(b"x")
    assert hand.leads()
    assert [entry.data for m in hand.told(Append, B) for entry in m.entries] == [b"x"]


def test_a_leader_that_removed_itself_hands_over_to_the_most_up_to_date_voter() -> None:
    """Rule 18."""
    hand = Hand(founders=(A, B, C, D))
    hand.elect()
    removal = hand.raft.last_index + 1
    hand.change("remove", A, add=False)
    hand.propose(b"x")
    hand.hear(accept(B, 1, removal))
    hand.hear(accept(D, 1, removal + 1))
    assert hand.raft.commit_index == removal
    assert not hand.told(TimeoutNow)
    # It hears of no commit any more: so it sees its log committed before it goes.
    hand.hear(accept(C, 1, removal + 1))
    assert [to for to, message in hand.sent if isinstance(message, TimeoutNow)] == [D]
    assert hand.follows()


def test_a_leader_that_removed_itself_takes_no_commands_any_more() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    hand.change("remove", A, add=False)
    hand.propose(b"x")
    removal = hand.raft.last_index - 1
    hand.hear(accept(B, 1, removal), accept(C, 1, removal))
    outcome = hand.raft.propose(b"y", hand.now)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "transferring"


def test_a_leader_that_removed_itself_steps_down_even_if_nobody_takes_over() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    hand.change("remove", A, add=False)
    hand.propose(b"x")
    removal = hand.raft.last_index - 1
    hand.hear(accept(B, 1, removal), accept(C, 1, removal))
    for _ in range(11):
        hand.wait(0.1)
        hand.hear(accept(B, 1, removal), accept(C, 1, removal))
    assert hand.follows()


def test_a_cluster_whose_leader_removes_itself_has_the_next_within_a_moment() -> None:
    """Rule 18."""
    for seed in range(10):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        cluster.change(leader.me, "remove", leader.me, add=False)
        cluster.run(lambda cluster=cluster: "remove" in cluster.done)  # type: ignore[misc]
        left = cluster.now
        cluster.run(
            lambda cluster=cluster, leader=leader: (  # type: ignore[misc]
                cluster.leader() not in (None, leader)
            )
        )
        assert cluster.now < left + 0.5
        assert leader.state is Role.FOLLOWER


def test_a_removed_server_hears_of_it_and_stops_campaigning() -> None:
    """Rule 18."""
    cluster = Cluster(3)
    cluster.make_leader(A)
    cluster.change(A, "remove", C, add=False)
    cluster.run(lambda: "remove" in cluster.done)
    cluster.wait(0.5)
    removed = cluster.raft(C)
    assert removed.commit_index >= cluster.done["remove"]
    assert voters(cluster, C) == (A, B)
    cluster.isolate(C)
    before = removed.term, cluster.counts["messages cut off"]
    cluster.wait(30)
    assert (removed.term, cluster.counts["messages cut off"]) == before


def test_a_removed_server_is_replicated_to_until_it_has_the_committed_removal() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    hand.change("remove", C, add=False)
    removal = hand.raft.last_index
    assert hand.told(Append, C)
    hand.hear(accept(B, 1, removal))
    hand.wait(0.1)
    assert [m.commit for m in hand.told(Append, C)] == [removal]
    hand.hear(accept(C, 1, removal, commit=removal))
    hand.wait(0.1)
    hand.wait(0.1)
    assert not hand.told(Append, C)
    assert hand.told(Append, B)


def test_a_removed_server_that_does_not_answer_is_let_go_after_an_election_timeout() -> None:
    """Rule 18."""
    hand = Hand()
    hand.elect()
    hand.change("remove", C, add=False)
    removal = hand.raft.last_index
    for _ in range(12):
        hand.hear(accept(B, 1, removal))
        hand.wait(0.1)
    assert hand.told(Append, B)
    assert not hand.told(Append, C)


def test_a_removed_server_that_did_not_hear_of_it_disturbs_nobody() -> None:
    """Rules 4 and 18."""
    cluster = Cluster(4)
    cluster.make_leader(A)
    cluster.isolate(D)
    cluster.change(A, "remove", D, add=False)
    cluster.run(lambda: "remove" in cluster.done)
    cluster.wait(5)
    cluster.heal()
    assert voters(cluster, D) == (A, B, C, D)
    leaders = dict(cluster.leaders)
    cluster.wait(30)
    assert cluster.leaders == leaders
    assert cluster.raft(A).state is Role.LEADER


# Rule 19: strangers.


def test_a_server_takes_appends_of_a_leader_that_its_configuration_does_not_name() -> None:
    """Rule 19."""
    hand = Hand()
    hand.hear(append(E, 1, (0, 0), [command(1)]))
    assert hand.only(AppendReply, E).accepted
    assert hand.raft.leader == E


def test_a_server_votes_for_a_candidate_that_its_configuration_does_not_name() -> None:
    """Rule 19."""
    hand = Hand()
    hand.hear(vote(E, 1))
    assert hand.only(VoteReply, E).granted


def test_a_server_outside_its_own_configuration_votes() -> None:
    """Rule 19."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, B, C)]))
    hand.hear(vote(C, 2, (1, 1), force=True))
    assert hand.only(VoteReply, C).granted


def test_a_leader_does_not_count_acknowledgements_from_outside_its_configuration() -> None:
    """Rule 19."""
    hand = Hand(founders=(A, B, C))
    hand.elect()
    before = hand.raft.commit_index
    hand.propose(b"x")
    hand.hear(accept(D, 1, before + 1), refuse(E, 1, before), accept(D, 9, 99))
    assert hand.raft.commit_index == before
    assert (hand.leads(), hand.raft.term) == (True, 1)


def test_a_candidate_does_not_count_votes_from_outside_its_configuration() -> None:
    """Rule 19."""
    hand = Hand()
    hand.campaign()
    hand.hear(vote_reply(D, 1), vote_reply(E, 1))
    assert hand.campaigns()


def test_pre_votes_from_outside_the_configuration_do_not_count() -> None:
    """Rule 19."""
    hand = Hand()
    hand.wait_for_deadline()
    hand.hear(pre_vote_reply(D, 0, 1), pre_vote_reply(E, 0, 1))
    assert hand.follows()


def test_a_removed_server_is_not_counted_while_it_is_still_replicated_to() -> None:
    """Rules 18 and 19."""
    hand = Hand(founders=(A, B, C, D, E))
    hand.elect()
    hand.change("remove", E, add=False)
    removal = hand.raft.last_index
    hand.hear(accept(E, 1, removal), accept(D, 1, removal))
    assert hand.raft.commit_index < removal
    hand.hear(accept(C, 1, removal))
    assert hand.raft.commit_index == removal


def test_an_unknown_answer_to_a_question_of_an_addition_is_ignored() -> None:
    """Rule 12."""
    hand = Hand()
    hand.elect()
    hand.hear(reach_reply(D))
    hand.change("add", D, add=True)
    hand.hear(reach_reply(E))
    assert "add" not in hand.answers
    assert not hand.told(Append, E)


def test_a_leader_that_is_leaving_does_not_count_itself_as_heard() -> None:
    """Rules 5 and 18."""
    hand = Hand()
    hand.elect()
    last = hand.raft.last_index
    hand.change("remove", A, add=False)
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(accept(B, 1, last))
    assert hand.follows()


def test_a_question_to_a_new_server_that_was_lost_is_asked_again() -> None:
    """Rule 16."""
    hand = Hand()
    hand.elect()
    hand.change("add", D, add=True)
    assert hand.told(Reach, D)
    hand.wait(0.1)
    assert hand.told(Reach, D)


def test_a_removed_server_is_replicated_to_as_long_as_its_removal_is_not_committed() -> None:
    """Rule 18."""
    hand = Hand(founders=(A, B, C, D))
    hand.elect()
    last = hand.raft.last_index
    hand.change("remove", D, add=False)
    for _ in range(15):
        hand.wait(0.1)
        hand.hear(accept(B, 1, last), accept(C, 1, last))
    hand.wait(0.1)
    assert hand.raft.commit_index == last
    assert hand.told(Append, D)


def test_a_configuration_that_is_truncated_after_a_commit_below_it_gives_way_too() -> None:
    """Rule 15."""
    hand = Hand()
    first, second = configuration(1, A, B, C), configuration(1, A, B, C, D)
    hand.hear(append(B, 1, (0, 0), [first, second], commit=1))
    assert hand.voters() == (A, B, C, D)
    hand.hear(append(C, 2, (1, 1), [command(2)]))
    assert hand.voters() == (A, B, C)


def test_a_server_tells_its_cluster_before_that_is_committed() -> None:
    """Rule 17: who adds it would overwrite what another cluster may have committed."""
    hand = Hand()
    hand.hear(append(B, 1, (0, 0), [configuration(1, A, B, C)]))
    assert hand.raft.commit_index == 0
    hand.hear(Reach("other", D, 7))
    assert hand.only(ReachReply, D).belongs_to == "here"
