"""What ExRaft 0.2 was seen to do wrong, on the same schedules: ours does not."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from exraft import ExRaft, Peer, Role
from exraft.actors.calls import Read, Reply
from exraft.errors import CommandDropped, NoLeader, Redirect
from exraft.raft import Message
from exraft.raft.messages import Append, AppendReply, Vote
from tests.helpers import (
    LIMIT,
    QUICK,
    RAFT,
    Journal,
    Network,
    agree,
    await_restarts,
    crash,
    done,
    elect,
    outcome,
    send,
    start,
    start_cluster,
    wait_until,
)

FOUR = (":raft1", ":raft2", ":raft3", ":raft4")


def test_no_half_of_four_servers_elects_a_leader(journal: Journal, network: Network) -> None:
    leader, *others = peers = start_cluster(FOUR, journal)
    halves = (peers[:2], peers[2:])
    network.split(*halves)
    network.watch()
    journal.clear()
    for half in halves:
        for peer in half:
            ExRaft.trigger_election(peer, LIMIT)
        network.await_messages(
            lambda sender, to, message, half=half: (  # type: ignore[misc]
                sender in half and to in half and isinstance(message, Vote)
            )
        )
    # Each has had all the votes that it can get when these have been answered.
    wait_until(
        lambda: all(ExRaft.state(half[0]) == "follower" for half in halves), "the votes are split"
    )
    assert [line for line in journal.lines("transition") if line[2] is Role.LEADER] == []
    network.heal()
    for peer in peers:
        assert ExRaft.await_leader(peer, LIMIT) in peers


def test_no_half_of_four_servers_acknowledges_a_write(network: Network) -> None:
    leader, *others = peers = start_cluster(FOUR)
    network.split([leader, others[0]], others[1:])
    write = ExRaft.write_async(leader, ("put", "k", "old"))
    ExRaft.trigger_election(others[1])
    last = ExRaft.status(leader).last_index
    wait_until(
        lambda: ExRaft.status(leader).peers[others[0]].match_index == last, "its half has it"
    )
    assert not done(write)
    assert ExRaft.status(leader).commit_index < last
    network.heal()
    elect(leader)
    assert write.get(timeout=LIMIT) == "ok"
    wait_until(lambda: agree(peers), "all have applied the same")


def test_a_leader_of_half_of_four_servers_steps_down(network: Network) -> None:
    leader, *others = start_cluster(FOUR, **QUICK)
    network.split([leader, others[0]], others[1:])
    wait_until(lambda: ExRaft.state(leader) == "follower", "it steps down")
    assert all(ExRaft.state(peer) != "leader" for peer in others)
    error = outcome(lambda: ExRaft.write(leader, ("put", "k", 1)))
    assert isinstance(error, NoLeader)


def test_no_half_of_two_servers_leads(network: Network) -> None:
    leader, follower = start_cluster(RAFT[:2])
    network.cut(leader)
    ExRaft.trigger_election(follower)
    write = ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.state(follower) == "follower", "nobody votes for it")
    assert not done(write)
    network.heal()
    elect(leader)
    assert write.get(timeout=LIMIT) == "ok"
    wait_until(lambda: agree([leader, follower]), "both have applied it")
    assert ExRaft.read_dirty(follower, "k") == 1


def test_what_is_acknowledged_survives_the_schedule_of_figure_8(network: Network) -> None:
    # Raft §5.4.2: an entry of an earlier term that a majority has may still be overwritten, so it
    # must not be acknowledged before an entry of the leader's own term stands above it.
    first, second, third = peers = start_cluster(batch_size=1)
    network.cut(first)
    old = [ExRaft.write_async(first, ("put", n, "old")) for n in range(100)]
    old_term = ExRaft.status(first).term
    last = ExRaft.status(first).last_index

    # The third is elected by the second, and writes what nobody else gets.
    def second_votes_only(sender: Peer, to: Peer, message: Message) -> bool:
        return first in (sender, to) or isinstance(message, Append)

    network.lose(second_votes_only)
    elect(third)
    new = ExRaft.write_async(third, ("put", "new", "new"))
    new_term = ExRaft.status(third).term

    # The first leads again, with the second's vote. Its old entries get there, its new one only
    # to be refused, for it comes before them.
    refused = threading.Event()

    def only_old_entries(sender: Peer, to: Peer, message: Message) -> bool:
        if sender == second and isinstance(message, AppendReply) and message.term > new_term:
            refused.set()
        return third in (sender, to) or (
            refused.is_set()
            and isinstance(message, Append)
            and any(each.term > old_term for each in message.entries)
        )

    network.lose(only_old_entries)
    elect(first)
    wait_until(lambda: ExRaft.status(second).last_index == last, "the second has the old entries")
    wait_until(
        lambda: ExRaft.status(first).peers[second].match_index == last, "and the first knows"
    )
    assert not any(done(write) for write in old)
    assert ExRaft.status(first).commit_index < last - 99

    # So the third may still be elected by the second, and overwrite them all.
    network.cut(first)
    elect(third)
    ExRaft.write(third, ("put", "k", 1), LIMIT)
    network.heal()
    for write in old:
        with pytest.raises(CommandDropped):
            write.get(timeout=LIMIT)
    assert new.get(timeout=LIMIT) == "ok"
    wait_until(lambda: agree(peers), "all have applied the same")
    for peer in peers:
        assert [ExRaft.read_dirty(peer, key) for key in (0, 99, "new", "k")] == [
            None,
            None,
            "new",
            1,
        ]


def test_a_deposed_leader_never_answers_an_old_value(network: Network) -> None:
    old, new, _ = peers = start_cluster()
    ExRaft.write(old, ("put", "k", "old"))
    wait_until(lambda: agree(peers), "all have applied it")
    network.cut(old)
    elect(new)
    ExRaft.write(new, ("put", "k", "new"))
    assert ExRaft.read(new, "k") == "new"
    assert ExRaft.state(old) == "leader"  # It does not know.
    read = send(old, Read(Reply(), "k", dirty=False))
    assert ExRaft.status(old).waiting_reads == 1
    network.heal()
    with pytest.raises((Redirect, NoLeader)):
        read.get(timeout=LIMIT)


def test_a_deposed_leader_that_leads_again_answers_the_new_value(network: Network) -> None:
    old, new, _ = peers = start_cluster()
    ExRaft.write(old, ("put", "k", "old"))
    wait_until(lambda: agree(peers), "all have applied it")
    network.cut(old)
    elect(new)
    ExRaft.write(new, ("put", "k", "new"))
    network.heal()
    wait_until(lambda: agree(peers), "all have applied it")
    elect(old)
    assert ExRaft.read(old, "k", LIMIT) == "new"


def test_the_replay_after_a_crash_runs_no_side_effect(journal: Journal) -> None:
    leader, *_ = start_cluster(journal=journal)
    for n in range(10):
        ExRaft.write(leader, ("effect", n))
    journal.wait_for("effect", count=10)
    crash(leader)
    await_restarts(leader, 1)
    ExRaft.write(leader, ("effect", "last"))
    journal.wait_for("effect", leader.name, "last")
    assert len(journal.lines("effect")) == 11


def test_a_command_that_makes_handle_write_raise_kills_nobody() -> None:
    leader, *others = peers = start_cluster(max_restarts=0)
    for error in (ValueError("no"), KeyError("no"), AssertionError("no")):
        with pytest.raises(type(error)):
            ExRaft.write(leader, ("raise", error))
    with pytest.raises(LookupError, match="no such command"):
        ExRaft.write(leader, "nonsense")
    assert ExRaft.write(leader, ("put", "k", 1)) == "ok"
    wait_until(lambda: agree(peers), "all have applied it")
    assert [ExRaft.status(peer).restarts for peer in peers] == [0, 0, 0]


def test_a_write_whose_entry_is_overwritten_is_answered(network: Network) -> None:
    old, new, _ = start_cluster()
    network.cut(old)
    overwritten: list[Any] = [ExRaft.write_async(old, ("put", n, "old")) for n in range(10)]
    elect(new)
    # One entry tells all of them: what comes after it is of a later term than theirs.
    ExRaft.write(new, ("put", 0, "new"))
    network.heal()
    for write in overwritten:
        with pytest.raises(CommandDropped):
            write.get(timeout=LIMIT)


def test_the_length_of_the_log_and_the_size_of_the_state_cost_a_write_nothing(
    network: Network,
) -> None:
    # ExRaft scanned its whole log for each append, and copied the whole state for each heartbeat.
    leader, *_ = start_cluster(init_arg={n: n for n in range(100_000)})
    for write in [ExRaft.write_async(leader, ("put", n, n)) for n in range(5_000)]:
        write.get(timeout=LIMIT)
    network.watch()
    ExRaft.write(leader, ("put", "k", 1))
    sizes = [
        sum(len(entry.data) for entry in message.entries)
        for sender, _, message in network.messages()
        if isinstance(message, Append)
    ]
    assert max(sizes) < 100


def test_a_follower_that_was_left_behind_catches_up_in_a_few_messages(network: Network) -> None:
    # ExRaft found the match one entry a heartbeat: 20 s for 401 entries.
    leader, follower, _ = start_cluster()
    network.cut(follower)
    for write in [ExRaft.write_async(leader, ("put", n, n)) for n in range(401)]:
        write.get(timeout=LIMIT)
    network.watch()
    network.heal()
    last = ExRaft.status(leader).last_index
    wait_until(lambda: ExRaft.status(follower).last_index == last, "it has caught up")
    appends = network.seen(
        lambda sender, to, message: (
            to == follower and isinstance(message, Append) and bool(message.entries)
        )
    )
    assert appends < 401 / 10


def test_a_lone_server_goes_on_after_all_that_was_thrown_at_it() -> None:
    raft1 = start(":raft1")
    outcome(lambda: ExRaft.write(raft1, ("raise", SystemExit())))
    outcome(lambda: ExRaft.write(raft1, ("return", None)))
    outcome(lambda: ExRaft.write(raft1, None))
    assert ExRaft.write(raft1, ("put", "k", 1)) == "ok"
    assert ExRaft.status(raft1).restarts == 0
