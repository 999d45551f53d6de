"""When servers act on silence, and when they need not wait for it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from exraft import ExRaft, Peer
from exraft.actors.calls import Ask, Read, Reply
from exraft.raft.messages import Append, PreVote, TimeoutNow
from tests.helpers import (
    LIMIT,
    PATIENT,
    QUICK,
    RAFT,
    Journal,
    Network,
    crash,
    does,
    held_up,
    in_thread,
    leader_and_followers,
    send,
    start_cluster,
    supervisor_of,
    wait_until,
)

# Messages before the time (rule 14).


def test_a_server_that_was_held_up_does_not_campaign_against_heartbeats_it_holds(
    journal: Journal, network: Network
) -> None:
    leader, follower, _ = start_cluster(journal=journal, **QUICK)
    term = ExRaft.status(leader).term
    journal.clear()
    with held_up(follower):
        network.watch()
        # More than its election timeout, 30 heartbeats at most.
        network.await_messages(
            lambda sender, to, message: to == follower and isinstance(message, Append), count=40
        )
        network.watch()
    status = ExRaft.status(follower, LIMIT)
    assert (status.leader, status.term) == (leader, term)
    asked = network.seen(
        lambda sender, to, message: sender == follower and isinstance(message, PreVote)
    )
    assert asked == 0
    assert journal.lines("transition", follower.name) == []


def test_under_a_flood_of_messages_the_time_still_comes(network: Network) -> None:
    _, follower, _ = start_cluster(**QUICK)
    campaigned = threading.Event()

    def flood() -> None:
        while not campaigned.is_set():
            answers = [send(follower, Ask(Reply(), "ping")) for _ in range(2000)]
            # Its mailbox is never empty: the next come when half of these are answered.
            answers[1000].get(timeout=LIMIT)

    with in_thread(flood):
        network.watch()
        network.cut(follower)
        network.await_messages(
            lambda sender, to, message: sender == follower and isinstance(message, PreVote)
        )
        campaigned.set()


def test_a_follower_that_hears_nothing_campaigns(network: Network) -> None:
    leader, *others = start_cluster(**QUICK)
    network.cut(leader)
    wait_until(
        lambda: any(ExRaft.state(peer) == "leader" for peer in others), "one of the others leads"
    )
    wait_until(lambda: ExRaft.state(leader) != "leader", "the old one has stepped down")


def test_a_server_that_was_cut_off_deposes_nobody_when_it_comes_back(network: Network) -> None:
    leader, follower, _ = start_cluster(**QUICK)
    term = ExRaft.status(leader).term
    network.cut(follower)
    network.watch()
    network.await_messages(
        lambda sender, to, message: sender == follower and isinstance(message, PreVote), count=4
    )
    network.heal()
    wait_until(lambda: ExRaft.leader(follower) == leader, "it follows again")
    assert ExRaft.status(leader).term == term


# A leader whose supervisor has gone (rule 28): no timeout explains these, they are minutes.

MINUTES = {**PATIENT, "min_election_timeout": 200.0, "max_election_timeout": 300.0}


def _await_new_leader(others: list[Peer], old_term: int) -> Peer:
    leader, *_ = leader_and_followers([peer.name for peer in others])
    assert ExRaft.status(leader).term > old_term
    assert ExRaft.write(leader, ("put", "k", 1), LIMIT) == "ok"
    return leader


def test_followers_elect_at_once_when_the_leaders_supervisor_gives_up() -> None:
    leader, *others = start_cluster(max_restarts=0, **MINUTES)
    term = ExRaft.status(leader).term
    crash(leader)
    _await_new_leader(others, term)


def test_followers_elect_at_once_when_the_leaders_supervisor_is_stopped_from_outside() -> None:
    leader, *others = start_cluster(**MINUTES)
    term = ExRaft.status(leader).term
    supervisor_of(leader).stop()
    _await_new_leader(others, term)


def test_the_crash_of_a_leader_that_is_restarted_starts_no_election(network: Network) -> None:
    leader, *_ = start_cluster(**MINUTES)
    network.watch()
    crash(leader)
    assert ExRaft.write(leader, ("put", "k", 1), LIMIT) == "ok"
    assert network.seen(lambda sender, to, message: isinstance(message, PreVote)) == 0


def test_the_end_of_a_follower_disturbs_nobody(network: Network) -> None:
    leader, follower, other = start_cluster(**MINUTES)
    network.watch()
    supervisor_of(follower).stop()
    assert ExRaft.write(leader, ("put", "k", 1), LIMIT) == "ok"
    assert ExRaft.read(leader, "k") == 1
    assert network.seen(lambda sender, to, message: isinstance(message, PreVote)) == 0


@pytest.mark.parametrize("stops", [1, 2])
def test_a_cluster_elects_again_after_each_leader_that_goes(stops: int) -> None:
    names = (*RAFT, ":raft4", ":raft5")
    leader, *others = start_cluster(names, **MINUTES)
    for _ in range(stops):
        term = ExRaft.status(leader).term
        supervisor_of(leader).stop()
        leader = _await_new_leader(others, term)
        others.remove(leader)


# Stopping a leader hands over first.


def test_a_leader_that_is_stopped_hands_over(network: Network) -> None:
    leader, *others = start_cluster(**MINUTES)
    term = ExRaft.status(leader).term
    network.watch()
    ExRaft.stop_server(leader, timeout=LIMIT)
    assert network.seen(lambda sender, to, message: isinstance(message, TimeoutNow))
    new, _ = leader_and_followers([peer.name for peer in others])
    assert ExRaft.status(new).term == term + 1


def test_a_leader_whose_others_are_no_quorum_is_stopped_without_handing_over(
    network: Network,
) -> None:
    leader, follower = start_cluster(RAFT[:2], **MINUTES)
    network.watch()
    ExRaft.stop_server(leader, timeout=LIMIT)
    assert network.seen(lambda sender, to, message: isinstance(message, TimeoutNow)) == 0


def test_a_leader_hands_over_to_nobody_who_was_stopped_before_it(network: Network) -> None:
    leader, follower, other = start_cluster(**MINUTES)
    ExRaft.stop_server(follower, timeout=LIMIT)
    network.watch()
    ExRaft.stop_server(leader, timeout=LIMIT)
    assert network.seen(lambda sender, to, message: isinstance(message, TimeoutNow)) == 0
    ExRaft.stop_server(other, timeout=LIMIT)


def test_a_leader_waits_for_a_hand_over_no_longer_than_its_timeout(network: Network) -> None:
    leader, *_ = start_cluster(**MINUTES)
    network.lose(lambda sender, to, message: isinstance(message, TimeoutNow))
    ref = supervisor_of(leader)
    # The stop and the wait for it end at the same time.
    with suppress(TimeoutError):
        ExRaft.stop_server(leader, timeout=0.1)
    wait_until(lambda: not ref.is_alive(), "it has ended")


def test_a_leader_waits_for_a_hand_over_no_longer_than_an_election_timeout(
    network: Network,
) -> None:
    leader, *_ = start_cluster(**QUICK)
    network.lose(lambda sender, to, message: isinstance(message, TimeoutNow))
    ExRaft.stop_server(leader, timeout=LIMIT)


def test_slow_reads_keep_no_leader_from_its_heartbeats(network: Network) -> None:
    """As many as would keep it silent for several election timeouts."""
    pause = threading.Event()
    machine = does(slow=lambda state: pause.wait(0.02), quick=lambda state: "quick")
    options = {**PATIENT, "min_election_timeout": 1.0, "max_election_timeout": 1.5}
    for name in RAFT:
        ExRaft.start_server(machine, name=name, initial_config=RAFT, **options)
    leader, *_ = leader_and_followers(RAFT)
    network.watch()
    reads = [send(leader, Read(Reply(), "slow", dirty=dirty)) for dirty in (True, False) * 75]
    for read in reads:
        read.get(timeout=LIMIT)
    assert network.seen(lambda sender, to, message: isinstance(message, PreVote)) == 0
