"""Every invariant is judged: each is broken here, by hand, by a machine or by a mutilated core."""

from __future__ import annotations

import ast
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

import exraft.testing
from exraft import StateMachine
from exraft.names import Peer
from exraft.raft import (
    COMMAND,
    AppendReply,
    Config,
    Entry,
    InstallReply,
    Options,
    Raft,
    TimeoutNow,
    VoteReply,
    reads,
)
from exraft.raft.config import config_entry
from exraft.raft.leader import Leader
from exraft.raft.outcome import Confirmed
from exraft.raft.snapshot import Snapshot
from exraft.storage import LentStore
from exraft.testing import INVARIANTS, Counter, Faults, Violation
from exraft.testing.cluster import Cluster
from exraft.testing.disk import SimulatedFile
from exraft.testing.server import Server
from exraft.testing.store import WatchedOwner, WatchedStore
from exraft.testing.world import World
from tests.testing.machines import CALM, Sum, small

A, B, C, D, E = (Peer(f":{name}") for name in "abcde")
ALL = Config(voters=(A, B, C), cluster="ours")


@contextmanager
def breaks(invariant: str, text: str = "") -> Iterator[None]:
    with pytest.raises(Violation) as caught:
        yield
    assert caught.value.invariant == invariant
    assert text in str(caught.value)


@pytest.fixture
def stores() -> tuple[WatchedStore, WatchedStore, WatchedStore]:
    """What three servers have written: nothing yet."""
    cluster = Cluster(3, start=False)
    a, b, c = (server.owner.lend() for server in cluster.servers.values())
    return a, b, c


Three = tuple[WatchedStore, WatchedStore, WatchedStore]


def vote(term: int, candidate: WatchedStore, *voters: WatchedStore) -> None:
    for voter in voters:
        voter.set_ballot(term, candidate.peer, leads=False)
        voter.sync()


def lead(term: int, leader: WatchedStore, *others: WatchedStore) -> None:
    vote(term, leader, leader, *others)
    leader.set_ballot(term, leader.peer, leads=True)
    leader.sync()


def write(store: WatchedStore, *entries: Entry) -> None:
    store.append(entries)
    store.sync()


def begin(term: int, leader: WatchedStore, *others: WatchedStore) -> Entry:
    """Lead, with a first entry that these have stored as well."""
    lead(term, leader, *others)
    first = config_entry(term, ALL)
    for store in (leader, *others):
        write(store, first)
    return first


def command(term: int, data: bytes = b"x") -> Entry:
    return Entry(term, COMMAND, data)


def commit(index: int, *stores: WatchedStore) -> None:
    for store in stores:
        store.set_commit(index)


def snapshot(index: int, term: int = 1, **said: Any) -> Snapshot:
    """One of three bytes, after the founding configuration."""
    whole = {"config": ALL, "config_index": 1, "config_term": 1, "size": 3, "crc": crc32(b"abc")}
    return Snapshot(index, term, **{**whole, **said})


def adopt(store: WatchedStore, taken: Snapshot) -> None:
    sink = store.begin_snapshot(taken)
    sink.write(b"abc")
    sink.finish()
    store.adopt(sink)


def install(store: WatchedStore, received: Snapshot) -> None:
    store.receive(received, 0, b"abc")
    store.install()


# Votes and leaders.


def test_two_leaders_of_a_term_are_found(stores: Three) -> None:
    a, b, c = stores
    lead(1, a, b)
    vote(1, c, c)
    with breaks("one leader a term", ":a and :c lead term 1"):
        c.set_ballot(1, C, leads=True)


def test_a_leader_whose_store_knows_nothing_of_it_is_found() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.servers[leader.me].store.leads = False
    with breaks("one leader a term", "unnoticed"):
        cluster.wait(1.0)


def test_a_leader_without_the_votes_of_a_majority_is_found(stores: Three) -> None:
    a, b, _ = stores
    with breaks("elected by a majority", "1 of 3"):
        lead(1, a)


def test_a_vote_that_is_not_stored_elects_nobody(stores: Three) -> None:
    a, b, _ = stores
    b.set_ballot(1, A, leads=False)
    with breaks("elected by a majority"):
        lead(1, a)


def test_a_vote_for_another_is_found(stores: Three) -> None:
    a, _, _ = stores
    a.set_ballot(1, B, leads=False)
    with breaks("one vote a term", "votes in 1 for :b and for :c"):
        a.set_ballot(1, C, leads=False)


def test_a_vote_that_is_forgotten_is_found(stores: Three) -> None:
    a, _, _ = stores
    a.set_ballot(1, B, leads=False)
    with breaks("one vote a term", "forgets"):
        a.set_ballot(1, None, leads=False)


def test_a_vote_that_was_lost_with_the_power_may_be_given_to_another(stores: Three) -> None:
    a, _, _ = stores
    a.set_ballot(1, B, leads=False)
    a.lose_unsynced()
    a.set_ballot(1, C, leads=False)
    assert a.voted_for == C


def test_a_term_that_falls_is_found(stores: Three) -> None:
    a, _, _ = stores
    a.set_ballot(3, None, leads=False)
    with breaks("terms never fall", "from 3 to 2"):
        a.set_ballot(2, None, leads=False)


def test_a_vote_that_is_told_before_it_is_stored_is_found(stores: Three) -> None:
    a, _, _ = stores
    a.set_ballot(1, B, leads=False)
    told = VoteReply("", A, 1, a.store_id, True)
    with breaks("promises are stored", "of a vote in 1"):
        a.watch.promises(a, B, told)
    a.sync()
    a.watch.promises(a, B, told)


def test_a_vote_of_a_new_store_that_nobody_has_named_is_found(stores: Three) -> None:
    a, b, _ = stores
    vote(1, b, a)
    told = VoteReply("", A, 1, a.store_id, True)
    with breaks("new stores are new members", ":a votes for :b on standby"):
        a.watch.promises(a, B, told, standby=True)
    b.configs_held.append((1, ALL.with_stores([(A, a.store_id)])))
    a.watch.promises(a, B, told, standby=True)


def test_a_hand_over_to_who_lacks_something_is_found(stores: Three) -> None:
    a, b, c = stores
    begin(1, a, b)
    told = TimeoutNow("", A, 1)
    a.watch.promises(a, B, told)
    with breaks("hand-over to who has all", ":a hands over to :c, who lacks 1"):
        a.watch.promises(a, C, told)
    with breaks("hand-over to who has all", ":d"):
        a.watch.promises(a, D, told)


def test_a_server_that_goes_by_another_configuration_than_its_logs_is_found() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    leader.configs.append((9, Config(voters=(A,))))
    with breaks("configurations follow the log", "goes by (Peer(name=':a'"):
        cluster.settle(cluster.servers[leader.me])


def test_what_counts_as_stored_before_it_is_is_found() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    leader.durable_index = 99
    with breaks("promises are stored", "counts 99 as stored"):
        cluster.settle(cluster.servers[leader.me])


def acknowledgement(store: WatchedStore, index: int) -> AppendReply:
    return AppendReply("", store.peer, store.term, store.store_id, True, index, 0, 0, 0, 0)


def test_an_acknowledgement_of_what_is_not_stored_is_found(stores: Three) -> None:
    a, b, _ = stores
    lead(1, a, b)
    first = config_entry(1, ALL)
    write(a, first)
    b.append([first])
    with breaks("promises are stored", "acknowledges 1 to :a, and has stored 0"):
        b.watch.promises(b, A, acknowledgement(b, 1))


def test_an_acknowledgement_of_another_entry_than_the_leaders_is_found(stores: Three) -> None:
    a, b, c = stores
    begin(1, a, b)
    write(a, command(1))
    lead(2, c, b)
    write(c, config_entry(2, ALL))
    vote(2, c, a)
    with breaks("promises are stored", "whose entry there is another"):
        a.watch.promises(a, C, acknowledgement(a, 1))


def test_leaders_are_counted_once_a_term(stores: Three) -> None:
    a, b, c = stores
    lead(1, a, b)
    a.set_ballot(1, A, leads=True)
    lead(2, c, b)
    assert a.watch.counts["elections"] == 2
    assert a.watch.leaders == {1: A, 2: C}


# The log.


def test_what_followers_delete_is_counted(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    b.truncate(1)
    assert a.watch.counts["truncations"] == 1


def test_a_leader_that_deletes_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    with breaks("leader append-only"):
        a.truncate(1)


def test_an_entry_that_no_leader_wrote_is_found(stores: Three) -> None:
    _, b, _ = stores
    b.set_ballot(1, A, leads=False)
    with breaks("log matching", "without leading its term"):
        b.append([command(1)])


def test_another_entry_of_the_same_index_and_term_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.append([command(1, b"one")])
    with breaks("log matching"):
        b.append([command(1, b"another")])


def test_the_same_entry_after_another_one_is_found(stores: Three) -> None:
    a, b, c = stores
    begin(1, a, b)
    lead(2, b, c)
    b.append([config_entry(2, ALL), command(2)])
    lead(3, c, b)
    c.append([config_entry(3, ALL)])
    with breaks("log matching", "after term 3"):
        c.append([command(2)])


def test_a_leader_that_lacks_what_is_committed_is_found(stores: Three) -> None:
    a, b, c = stores
    begin(1, a, b)
    a.set_commit(1)
    with breaks("leader completeness", ":c leads 2 without entry 1"):
        lead(2, c, b)


def test_a_commit_that_a_later_leader_lacks_is_found(stores: Three) -> None:
    a, b, c = stores
    begin(1, a, b)
    lead(2, c, b)
    with breaks("leader completeness", ":c leads 2 without entry 1"):
        a.set_commit(1)


def test_a_leader_that_begins_with_other_voters_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    lead(2, b, a)
    with breaks("one change at a time", "begins its term with"):
        b.append([config_entry(2, Config(voters=(A, B)))])


def test_two_voters_that_change_at_once_are_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    with breaks("one change at a time", "at once"):
        a.append([config_entry(1, Config(voters=(A, B, C, D, E)))])


def test_a_new_voter_that_has_nothing_of_the_log_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    WatchedOwner(a.watch, D, "of d")
    with breaks("new voters have the log", ":d becomes one"):
        a.append([config_entry(1, Config(voters=(A, B, C, D)))])


def test_a_change_while_another_is_not_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    a.append([config_entry(1, Config(voters=(A, B, C, D)))])
    with breaks("one change at a time", "while 2 holds"):
        a.append([config_entry(1, Config(voters=(A, B, C, D, E)))])


def test_a_change_before_anything_of_the_term_is_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    lead(2, b, a)
    b.append([command(2)])
    with breaks("one change at a time", "while 1 holds and 0 of term 0 is committed"):
        b.append([config_entry(2, Config(voters=(A, B)))])


# What is committed.


def test_a_commit_index_that_goes_back_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    with breaks("commit never back", "from 1 to 0"):
        a.set_commit(0)


def test_a_commit_beyond_the_log_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    with breaks("commit never back", "commits 2 beyond its log"):
        a.set_commit(2)


def test_who_deletes_what_is_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    b.set_commit(1)
    with breaks("commit never back", ":b deletes 1"):
        b.truncate(1)


def test_a_commit_that_only_a_minority_has_is_found(stores: Three) -> None:
    a, b, _ = stores
    lead(1, a, b)
    write(a, config_entry(1, ALL))
    with breaks("commit by a majority", "1 of 3"):
        a.set_commit(1)


def test_what_is_written_and_not_synced_does_not_count_for_a_commit(stores: Three) -> None:
    a, b, _ = stores
    lead(1, a, b)
    write(a, config_entry(1, ALL))
    b.append([config_entry(1, ALL)])
    with breaks("commit by a majority", "1 of 3"):
        a.set_commit(1)


def test_a_store_that_the_configuration_does_not_mean_does_not_count_for_a_commit(
    stores: Three,
) -> None:
    a, b, _ = stores
    lead(1, a, b)
    first = config_entry(1, Config(voters=(A, B, C), stores=((B, "the lost one"),)))
    write(a, first)
    write(b, first)
    with breaks("commit by a majority", "1 of 3"):
        a.set_commit(1)


def test_an_entry_of_an_earlier_term_that_is_counted_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    lead(2, a, b)
    with breaks("commit by a majority", "Figure 8"):
        a.set_commit(1)


def test_a_leader_without_a_configuration_commits_nothing(stores: Three) -> None:
    a, b, _ = stores
    lead(1, a, b)
    write(a, command(1))
    write(b, command(1))
    with breaks("commit by a majority", "no configuration"):
        a.set_commit(1)


def test_a_follower_that_commits_before_any_leader_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    with breaks("state machine safety", ":b commits 1, which no leader committed"):
        b.set_commit(1)


def test_another_entry_that_is_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    a.watch.committed[1] = command(1)
    with breaks("state machine safety", ":b commits"):
        b.set_commit(1)


def test_another_entry_that_is_applied_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    with breaks("state machine safety", ":b applies"):
        a.watch.applies(B, 1, command(1), 1)


# Snapshots.


def committed(stores: Three) -> WatchedStore:
    """A follower, with three entries that are committed."""
    a, b, _ = stores
    begin(1, a, b)
    for store in (a, b):
        write(store, command(1, b"x"), command(1, b"y"))
    commit(3, a, b)
    return b


def test_a_snapshot_of_what_is_not_committed_is_found(stores: Three) -> None:
    store = committed(stores)
    with breaks("snapshots say what is committed", "one of 4 in term 1, where nothing is"):
        adopt(store, snapshot(4))


def test_a_snapshot_of_another_term_is_found(stores: Three) -> None:
    store = committed(stores)
    with breaks("snapshots say what is committed", "one of 3 in term 2, where a command of term 1"):
        adopt(store, snapshot(3, term=2))


@pytest.mark.parametrize(
    "said", [{"config": Config((A,), cluster="ours")}, {"config_index": 2}, {"config_term": 2}]
)
def test_a_snapshot_with_another_configuration_is_found(stores: Three, said: Any) -> None:
    store = committed(stores)
    with breaks("snapshots say what is committed", "the configuration there is of 1"):
        adopt(store, snapshot(3, **said))


def test_a_snapshot_of_what_is_not_stored_is_found(stores: Three) -> None:
    a, b, c = stores
    committed(stores)
    vote(1, a, c)
    c.append([config_entry(1, ALL), command(1, b"x"), command(1, b"y")])
    commit(3, c)
    with breaks("snapshots say what is committed", ":c takes one of 3, and has stored 0"):
        adopt(c, snapshot(3))


def test_a_log_that_is_cut_without_a_snapshot_is_found(stores: Three) -> None:
    store = committed(stores)
    with breaks(
        "cut what a snapshot holds", "cuts its log up to 2, and its snapshot holds nothing"
    ):
        store.cut(2)


def test_a_log_that_is_cut_past_its_snapshot_is_found(stores: Three) -> None:
    store = committed(stores)
    adopt(store, snapshot(2))
    store.cut(2)
    with breaks("cut what a snapshot holds", "holds what is up to 2"):
        store.cut(3)


def test_a_snapshot_that_moves_the_commit_index_back_is_found(stores: Three) -> None:
    store = committed(stores)
    with breaks("installing loses nothing", ":b, which had committed 3, installs a snapshot of 2"):
        install(store, snapshot(2))


def test_a_snapshot_that_drops_what_agrees_with_it_is_found(stores: Three) -> None:
    a, b, c = stores
    first = begin(1, a, b, c)
    assert first
    for store in stores:
        write(store, command(1, b"x"), command(1, b"y"))
    commit(2, a)
    with breaks("installing loses nothing", ":c drops the entries up to 3, which agree"):
        install(c, snapshot(2))


def test_entries_that_are_kept_behind_a_snapshot_and_do_not_fit_it_are_found(
    stores: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = stores
    begin(1, a, b, c)
    for store in (a, c):
        write(store, command(1, b"x"), command(1, b"y"))
    lead(2, b, a)
    a.truncate(2)
    for store in (b, a):
        write(store, config_entry(2, ALL))
    commit(2, b)
    left = c.slice(3, 1)

    def keep(store: LentStore, snapshot: Snapshot) -> None:
        start_from(store, snapshot)
        store._entries = list(left)
        store._count()

    start_from = LentStore._start_from
    monkeypatch.setattr(LentStore, "_start_from", keep)
    with breaks("log matching", ":c has a command of term 1 after term 2 at 3"):
        install(c, snapshot(2, term=2, config_index=2, config_term=2))


def test_an_acknowledgement_of_an_install_that_is_not_synced_is_found(stores: Three) -> None:
    committed(stores)
    a, _, c = stores
    install(c, snapshot(3))
    c.set_ballot(1, None, leads=False)
    reply = AppendReply("ours", C, 1, c.store_id, True, 3, 0, 0, 3, 0)
    with breaks("promises are stored", ":c acknowledges 3 to :a, and has stored 0"):
        c.watch.promises(c, a.peer, reply)
    c.sync()
    c.watch.promises(c, a.peer, reply)


def test_pieces_that_are_acknowledged_and_not_synced_are_found(stores: Three) -> None:
    a, _, c = stores
    received = snapshot(3)
    c.receive(received, 0, b"a")
    c.sync()
    c.receive(received, 1, b"b")
    reply = InstallReply("ours", C, 1, c.store_id, 3, received.crc, 2)
    with breaks("promises are stored", ":c tells :a of 2 bytes of a snapshot, and has stored 1"):
        c.watch.promises(c, a.peer, reply)
    c.sync()
    c.watch.promises(c, a.peer, reply)


def test_a_snapshot_that_nobody_has_written_is_found_where_it_is_restored() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.take_snapshot(leader.me)
    cluster.run(lambda: leader.store.snapshot)
    cluster.servers[leader.me].store._content = b"something else"
    cluster.crash(leader.me)
    with breaks("replicas agree", "that nobody has written for it"):
        cluster.start(leader.me)


class Forgetful(Sum):
    """Restores another state than was captured."""

    def restore(self, file: Any) -> Any:
        return super().restore(file) + 1


def test_a_disk_that_forgets_what_was_synced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with breaks("what is synced stays", "which it never had"):
        for seed in range(20):
            cluster = Cluster(1, seed=seed, on_disk=True)
            leader = cluster.elect()
            with monkeypatch.context() as broken:
                broken.setattr(SimulatedFile, "sync", lambda file: None)
                cluster.write(leader.me, b"x")
            cluster.crash(leader.me, lossy=True)


def test_a_machine_that_restores_another_state_than_it_captured_is_found() -> None:
    with breaks("replicas agree", "and another replica had"):
        small(Forgetful, faults=Faults(crashes=2.0, snapshots=5.0), shrink=0, commits=40).run()


class Shallow(StateMachine):
    """Captures a list that goes on being changed."""

    def handle_write(self, command: Any, state: Any) -> Any:
        state.append(command)
        return len(state), state

    def handle_read(self, query: Any, state: Any) -> Any:
        return len(state)

    def snapshot(self, state: Any) -> Any:
        return lambda file: pickle.dump(state, file)


def test_a_capture_that_changes_before_it_is_written_is_found() -> None:
    with breaks("replicas agree"):
        for seed in range(20):
            small(
                Shallow,
                [],
                seed=seed,
                faults=Faults(crashes=2.0, snapshots=5.0),
                shrink=0,
                commits=40,
            ).run()


def test_an_entry_that_is_applied_before_it_is_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    first = begin(1, a, b)
    with breaks("applied at most committed", ":a applies 1, 0 is committed"):
        a.watch.applies(A, 1, first, 0)


# What callers are told.


def test_an_acknowledgement_of_what_stands_nowhere_is_found(stores: Three) -> None:
    a, _, _ = stores
    with breaks("acknowledged writes are kept"):
        a.watch.acknowledges(1, 1, "a write")


def test_an_acknowledgement_at_another_term_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.set_commit(1)
    a.watch.acknowledges(1, 1, "a write")
    with breaks("acknowledged writes are kept", "at 1 of term 2"):
        a.watch.acknowledges(1, 2, "a write")


def test_a_command_that_was_refused_and_is_logged_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    a.watch.refused[b"no"] = None
    with breaks("what failed is not applied", "was refused"):
        a.append([command(1, b"no")])


def test_a_command_that_was_dropped_and_is_committed_is_found(stores: Three) -> None:
    a, b, _ = stores
    begin(1, a, b)
    write(a, command(1, b"never"))
    write(b, command(1, b"never"))
    a.watch.dropped[b"never"] = None
    with breaks("what failed is not applied", "was dropped"):
        a.set_commit(2)


def test_a_read_of_an_older_state_than_was_known_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "Confirmed", lambda index, tickets: Confirmed(0, tickets))
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.read(leader.me, "a read")
    with breaks("answers are not stale", "a read reads at 0, and "):
        cluster.wait(1.0)


def test_a_read_that_the_machine_is_not_ready_for_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    monkeypatch.setattr(cluster, "apply", lambda server: None)
    cluster.write(leader.me, b"x")
    cluster.run(lambda: leader.commit_index == leader.last_index)
    cluster.read(leader.me, "a read")
    cluster.run(lambda: "a read" in cluster.confirmed)
    server = cluster.servers[leader.me]
    server.reads = [(0, "a read")]
    monkeypatch.undo()
    monkeypatch.setattr(server.store, "commit_index", server.applied)
    with breaks("answers are not stale", "a read is answered from "):
        cluster.apply(server)


def twice(answer: Callable[..., None]) -> Callable[..., None]:
    def answer_twice(raft: Raft, ticket: Any, outcome: Any) -> None:
        answer(raft, ticket, outcome)
        answer(raft, ticket, outcome)

    return answer_twice


def test_a_request_that_is_answered_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    monkeypatch.setattr(Raft, "answer", twice(Raft.answer))
    with breaks("one answer a call", "a transfer was answered twice"):
        cluster.transfer(leader.me, "a transfer", leader.me)


def test_a_read_that_is_confirmed_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "Confirmed", lambda index, tickets: Confirmed(index, tickets * 2))
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.read(leader.me, "a read")
    with breaks("one answer a call", "a read was answered twice"):
        cluster.wait(1.0)


def test_a_write_that_is_answered_twice_is_found() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    server = cluster.servers[leader.me]
    cluster.write(leader.me, b"x")
    cluster.wait_for(server, leader.last_index + 1, leader.term, b"x")
    cluster.write(leader.me, b"y")
    with breaks("one answer a call", "b'x' was answered twice"):
        cluster.wait_for(server, leader.last_index, leader.term, b"x")
        cluster.wait(1.0)


def test_a_client_that_is_answered_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raft, "answer", twice(Raft.answer))
    with breaks("one answer a call", "read None at"):
        small(calls=50, shrink=0, faults=Faults(elections=2)).run()


def test_a_request_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Raft.answer

    def forget(raft: Raft, ticket: Any, outcome: Any) -> None:
        if not str(ticket).startswith("transfer"):
            real(raft, ticket, outcome)

    monkeypatch.setattr(Raft, "answer", forget)
    with breaks("one answer a call", "has forgotten transfer"):
        small(faults=Faults(transfers=2), shrink=0).run()


# What only a machine can show.


def test_a_message_of_another_cluster_that_changes_something_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Raft, "_is_foreign", lambda raft, message: False)
    with breaks("other clusters have no effect", "has changed :"):
        small(faults=Faults(strangers=5), events=1000, shrink=0).run()


class Numbered(Sum):
    """Each replica answers with what no other has."""

    made = 0

    def __init__(self) -> None:
        Numbered.made += 1
        self.number = Numbered.made


class Diverging(Numbered):
    def handle_write(self, command: Any, state: Any) -> Any:
        return None, self.number


class Answering(Numbered):
    def handle_write(self, command: Any, state: Any) -> Any:
        return self.number, state


class Raising(Numbered):
    def handle_write(self, command: Any, state: Any) -> Any:
        raise ValueError(self.number)


def test_replicas_whose_states_differ_are_found() -> None:
    with breaks("replicas agree", "has the state"):
        small(Diverging, queries=None, faults=CALM, shrink=0).run()


def test_replicas_that_answer_differently_are_found() -> None:
    with breaks("replicas agree", "handle_write must depend on command and state only"):
        small(Answering, faults=CALM, shrink=0).run()


def test_replicas_that_raise_differently_are_found() -> None:
    with breaks("replicas agree", "ValueError: "):
        small(Raising, faults=CALM, shrink=0).run()


def test_objects_that_know_no_equality_are_compared_by_what_they_hold() -> None:
    class Box:
        def __init__(self, number: int) -> None:
            self.number = number

    class Boxes(Sum):
        def init(self, init_arg: Any) -> Any:
            return Box(0)

        def handle_write(self, command: Any, state: Any) -> Any:
            return Box(command), Box(state.number + command)

        def handle_read(self, query: Any, state: Any) -> Any:
            return Box(state.number)

    assert small(Boxes, faults=CALM).run().commits


class Mailer(StateMachine):
    def handle_write(self, command: Any, state: Any) -> Any:
        return None, state, [lambda: None]

    def handle_read(self, query: Any, state: Any) -> Any:
        return state


def test_a_side_effect_that_runs_twice_is_found() -> None:
    world = World(
        1,
        Mailer,
        [],
        seed=0,
        options=Options(),
        faults=CALM,
        min_majority=1,
        check=None,
    )
    world.start(A)
    leader = world.elect()
    world.write(A, world.unique("a letter"), "a ticket")
    index = leader.last_index
    assert world.counts["side effects"] == 1
    server: Server = world.servers[A]
    with breaks("effects once", f"those of {index} ran on :a"):
        world.on_apply(server, index, server.store.slice(index, 1)[0], None)


def test_a_state_of_which_the_check_says_no_is_found() -> None:
    with breaks("the machine's own", "not so after"):
        small(check=lambda state: state < 20, shrink=0).run()


def test_answers_that_the_model_does_not_give_are_found() -> None:
    class Doubling(Sum):
        def handle_read(self, query: Any, state: Any) -> Any:
            return 2 * state

    with breaks("linearizability"):
        small(Doubling, model=Counter(), faults=CALM, shrink=0).run()


def test_a_cluster_that_elects_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raft, "may_campaign", property(lambda raft: False))
    with breaks("liveness", "no leader is elected"):
        small(faults=CALM, shrink=0).run()


def first_failure(**chosen: Any) -> Violation:
    for seed in range(60):
        try:
            small(seed=seed, faults=CALM, events=50, commits=1, shrink=0, **chosen).run()
        except Violation as violation:
            return violation
    pytest.fail("nothing was found")


def test_a_leader_that_leads_on_without_a_quorum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leader, "_hears_quorum", lambda leader: True)
    with breaks("liveness", "leads on, though it hears nobody"):
        raise first_failure()


def test_who_disturbs_a_leader_that_is_well_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raft, "hears_leader", lambda raft, besides: False)
    with breaks("liveness", "was disturbed"):
        raise first_failure()


def test_a_core_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(raft: Raft, now: float) -> None:
        raise ZeroDivisionError("in the core")

    monkeypatch.setattr(Raft, "tick", tick)
    with breaks("nothing raises", "ZeroDivisionError: in the core"):
        small(faults=CALM, shrink=0).run()


def test_a_read_that_changes_the_state_is_found() -> None:
    class Curious(Sum):
        def init(self, init_arg: Any) -> Any:
            return {"sum": 0, "reads": 0}

        def handle_write(self, command: Any, state: Any) -> Any:
            state["sum"] += command
            return state["sum"], state

        def handle_read(self, query: Any, state: Any) -> Any:
            state["reads"] += 1
            return state["sum"]

    with breaks("reads change nothing", "'reads': 1"):
        small(Curious, faults=CALM).run()


# That nothing is left out.


def test_every_invariant_is_broken_by_a_test_of_this_file() -> None:
    broken = {
        call.args[0].value
        for call in ast.walk(ast.parse(inspect.getsource(sys.modules[__name__])))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "breaks"
        and isinstance(call.args[0], ast.Constant)
    }
    assert broken == set(INVARIANTS)


def test_every_violation_names_an_invariant_and_every_invariant_has_one() -> None:
    named = {}
    for file in Path(exraft.testing.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id == "Violation"
            ):
                first = call.args[0]
                assert isinstance(first, ast.Constant), f"{file.name}:{call.lineno}"
                named[first.value] = f"{file.name}:{call.lineno}"
    assert set(named) == set(INVARIANTS), named


def test_a_violation_says_which_invariant_and_who_did_what() -> None:
    violation = Violation("one vote a term", ":a votes twice")
    assert isinstance(violation, AssertionError)
    assert (violation.invariant, violation.what) == ("one vote a term", ":a votes twice")
    assert str(violation) == "one vote a term: :a votes twice"
