"""What stands in for the beginning of a log, and how others get it: rules 23 to 25."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from exraft.names import Peer
from exraft.raft import (
    Append,
    AppendReply,
    Done,
    Install,
    InstallReply,
    Logged,
    Options,
    PreVote,
    Reach,
    Snapshot,
    SnapshotReader,
    VoteReply,
)
from exraft.raft.progress import MAX_PIECES, MUCH
from exraft.storage import LentStore, MemoryStore
from exraft.testing.cluster import QUICK
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
    from_store,
    holds,
    install,
    of_cluster,
    pre_vote_reply,
    reach_reply,
    refuse,
    snapshot_of,
    store_of,
    vote,
    vote_reply,
    with_log,
    with_snapshot,
)
from tests.raft.hand import commands as entries_of

CUT = replace(QUICK, keep_entries=0, keep_bytes=0, snapshot_chunk_bytes=4)
"""Nothing is kept of what a snapshot holds, and it travels in pieces of four bytes."""
STATE = b"twelve bytes"
LONG = bytes(range(100))


def follower(*, commit: int = 1, entries: int = 4, options: Options = CUT) -> Hand:
    """A, in term 1, whose log holds the configuration and commands."""
    log = [configuration(1, A, B, C), *entries_of(1, entries)]
    return Hand(owner=with_log(A, *log, commit=commit), options=options)


def leader(state: bytes = STATE) -> tuple[Hand, Snapshot]:
    """A leads term 2 and has cut its log at 6; B has everything, C has never answered."""
    hand = follower()
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    hand.hear(accept(B, 2, 6))
    return hand, hand.snapshot(state)


def pieces(hand: Hand, to: Peer = C) -> list[tuple[int, bytes]]:
    """The pieces of a snapshot that have just left; a question for how much is there has none."""
    return [(piece.offset, piece.data) for piece in hand.told(Install, to)]


class Readers(MemoryStore):
    """A store that knows how many of its readers are open."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(store_of(peer))
        self.open_readers = 0

    def lend(self) -> LentStore:
        self._lives += 1
        self._lent = CountingStore(self, self._lives, self._lent)
        return self._lent


class CountingStore(LentStore):
    __slots__ = ("owner",)

    def __init__(self, owner: Readers, incarnation: int, before: LentStore | None) -> None:
        super().__init__(owner.store_id, incarnation, before)
        self.owner = owner

    def open_snapshot(self) -> SnapshotReader:
        self.owner.open_readers += 1
        return CountedReader(super().open_snapshot(), self.owner)


class CountedReader:
    def __init__(self, reader: SnapshotReader, owner: Readers) -> None:
        self.snapshot = reader.snapshot
        self.read = reader.read
        self._owner = owner

    def close(self) -> None:
        self._owner.open_readers -= 1


def leader_with_readers(entries: int = 4) -> tuple[Hand, Readers, Snapshot]:
    """As `leader`; and C is being sent the snapshot."""
    owner = Readers(A)
    life = owner.lend()
    life.append([configuration(1, A, B, C), *entries_of(1, entries)])
    life.set_ballot(1, None, leads=False)
    life.set_commit(1)
    life.sync()
    hand = Hand(owner=owner, options=CUT)
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    hand.hear(accept(B, 2, entries + 2))
    taken = hand.snapshot(STATE)
    assert owner.open_readers == 1
    return hand, owner, taken


# Rule 23: what a follower makes of a snapshot.


def test_a_snapshot_that_is_here_whole_takes_the_place_of_a_shorter_log() -> None:
    """Rule 23."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    assert (hand.store.base_index, hand.store.base_term) == (9, 2)
    assert (hand.raft.last_index, hand.raft.last_term) == (9, 2)
    assert hand.raft.commit_index == 9
    assert hand.log() == []


def test_a_snapshot_that_is_here_whole_is_acknowledged_as_entries_are() -> None:
    """Rules 8 and 23."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    reply = hand.only(AppendReply, B)
    assert (reply.accepted, reply.index, reply.commit) == (True, 9, 9)
    assert not hand.told(InstallReply)


def test_a_snapshot_is_acknowledged_only_when_it_is_stored() -> None:
    """Rules 2 and 23."""
    hand = follower()
    hand.hear(append(B, 3, (0, 0)))
    hand.raft.step(install(B, 3, snapshot_of(9, 2), 0, b"state"), hand.now)
    hand.raft.flush(hand.now)
    out = hand.raft.out
    assert hand.store.dirty
    assert not out.early
    assert [type(message) for _, message in out.late] == [AppendReply]


def test_an_empty_snapshot_is_acknowledged_only_when_it_is_stored() -> None:
    """Rules 2 and 23: that the log begins after it is to be stored."""
    hand = follower()
    hand.hear(append(B, 3, (0, 0)))
    hand.raft.step(install(B, 3, snapshot_of(9, 2, b"")), hand.now)
    assert hand.raft.commit_index == 9
    assert hand.store.dirty


def test_a_piece_is_acknowledged_only_when_it_is_stored() -> None:
    """Rules 2 and 25."""
    hand = follower()
    hand.hear(append(B, 3, (0, 0)))
    hand.raft.step(install(B, 3, snapshot_of(9, 2), 0, b"sta"), hand.now)
    assert hand.store.dirty
    assert not hand.raft.out.early
    assert [type(message) for _, message in hand.raft.out.late] == [InstallReply]


def test_installing_never_moves_the_commit_index_back() -> None:
    """Rule 23."""
    hand = follower(commit=5)
    hand.hear(install(B, 3, snapshot_of(3, 1), 0, b"state"))
    assert hand.raft.commit_index == 5
    assert len(hand.log()) == 4
    assert hand.store.snapshot is None


def test_a_snapshot_of_what_is_committed_here_is_acknowledged_without_its_bytes() -> None:
    """Rule 23."""
    hand = follower(commit=5)
    hand.hear(install(B, 3, snapshot_of(3, 1)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (True, 3)
    assert not hand.told(InstallReply)


def test_a_server_that_has_a_snapshots_last_entry_keeps_its_log_and_only_commits() -> None:
    """Rule 23 (Raft §7)."""
    hand = follower(commit=1)
    hand.hear(install(B, 3, snapshot_of(3, 1), 0, b"state"))
    assert hand.raft.commit_index == 3
    assert len(hand.log()) == 4
    assert hand.store.base_index == 0
    assert hand.only(AppendReply).index == 3


def test_what_follows_a_snapshots_last_entry_is_not_acknowledged_with_it() -> None:
    """Rules 8 and 23: it may be another leader's."""
    hand = follower(commit=1, entries=6)
    hand.hear(install(B, 3, snapshot_of(3, 1)))
    assert (hand.raft.last_index, hand.only(AppendReply).index) == (7, 3)


def test_a_log_that_disagrees_with_a_snapshot_is_discarded_whole() -> None:
    """Rule 23 (Raft §7)."""
    hand = follower(commit=1, entries=8)
    hand.hear(install(B, 3, snapshot_of(5, 2), 0, b"state"))
    assert (hand.raft.last_index, hand.raft.last_term) == (5, 2)
    assert hand.log() == []


def test_what_was_discarded_for_a_snapshot_does_not_count_as_stored() -> None:
    """Rules 10 and 23."""
    hand = follower(commit=1, entries=8)
    hand.raft.step(install(B, 3, snapshot_of(5, 2), 0, b"state"), hand.now)
    assert hand.raft.durable_index == 1
    hand.carry_out()
    assert hand.raft.durable_index == 5


def test_a_mark_from_before_an_install_counts_for_nothing() -> None:
    """Rule 10: a sync that was begun before it ends after it."""
    hand = follower(commit=1, entries=8)
    shorter = hand.store.mark()._replace(last_index=3)
    marks = [shorter, hand.store.mark(), hand.store.mark()._replace(last_index=5)]
    hand.raft.step(install(B, 3, snapshot_of(5, 2), 0, b"state"), hand.now)
    for mark in marks:
        hand.raft.stored(mark, hand.now)
    assert hand.raft.durable_index == 1


def test_a_mark_from_before_a_cut_counts_for_nothing() -> None:
    """Rule 10: the log can't tell any more whether it is its own."""
    hand, _ = leader()
    durable = hand.raft.durable_index
    hand.raft.stored(hand.store.mark()._replace(last_index=3, last_term=1), hand.now)
    assert hand.raft.durable_index == durable


def test_an_install_from_nothing_founds_nothing_of_its_own() -> None:
    """Rules 17 and 23: a new server is of the cluster whose snapshot it has installed."""
    hand = Hand(D, (D,), options=replace(CUT, min_majority=2))
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    assert hand.raft.cluster == "here"
    assert hand.voters() == (A, B, C)


def test_the_log_goes_on_after_an_installed_snapshot() -> None:
    """Rule 23."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    hand.hear(append(B, 3, (9, 2), [command(3, b"x")], commit=10))
    assert hand.log() == [(3, b"x")]
    assert hand.raft.commit_index == 10
    assert hand.only(AppendReply).index == 10


def test_a_gap_after_an_installed_snapshot_is_refused_with_its_last_entry() -> None:
    """Rules 11 and 23."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    hand.hear(append(B, 3, (12, 3)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.hint_index, reply.hint_term) == (False, 9, 2)


def test_an_empty_snapshot_is_installed_by_the_question_for_it() -> None:
    """Rule 23: a state may have no bytes at all."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2, b"")))
    assert hand.raft.commit_index == 9
    assert hand.only(AppendReply).index == 9


def test_a_snapshot_of_a_newer_index_replaces_the_one_that_was_installed() -> None:
    """Rule 23."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    hand.hear(install(B, 3, snapshot_of(20, 3, b"newer"), 0, b"newer"))
    assert (hand.store.base_index, hand.raft.commit_index) == (20, 20)
    assert hand.store.open_snapshot().read(0, 9) == b"newer"


def test_an_older_snapshot_does_not_replace_the_one_that_was_installed() -> None:
    """Rules 12 and 23: it may be late."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(20, 3, b"newer"), 0, b"newer"))
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    assert (hand.store.base_index, hand.raft.commit_index) == (20, 20)
    assert hand.store.open_snapshot().read(0, 9) == b"newer"


def test_the_same_snapshot_again_changes_nothing() -> None:
    """Rules 12 and 23."""
    hand = Hand(options=CUT)
    message = install(B, 3, snapshot_of(9, 2), 0, b"state")
    hand.hear(message)
    hand.hear(append(B, 3, (9, 2), [command(3, b"x")]))
    hand.hear(message)
    assert hand.log() == [(3, b"x")]
    assert hand.only(AppendReply).index == 9


def test_a_snapshot_and_what_follows_it_are_acknowledged_at_once() -> None:
    """Rules 8 and 23: in one batch."""
    hand = Hand(options=CUT)
    hand.hear(
        install(B, 3, snapshot_of(9, 2), 0, b"state"),
        append(B, 3, (9, 2), [command(3, b"x")]),
    )
    assert hand.only(AppendReply).index == 10


def test_what_one_leader_installed_is_not_acknowledged_to_the_next() -> None:
    """Rules 12 and 23."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"), append(C, 4, (3, 1)))
    assert not hand.told(AppendReply, B)
    assert hand.only(AppendReply, C).index == 3


# Rule 23: the configuration that a snapshot carries.


def test_a_snapshots_configuration_is_in_force_once_it_is_installed() -> None:
    """Rules 15 and 23."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2, voters=(A, B, D), config=(7, 2)), 0, b"state"))
    assert hand.voters() == (A, B, D)
    assert hand.raft.config_index == 7
    assert hand.raft.config_place == (2, 7)


def test_a_snapshots_configuration_is_in_force_after_a_restart() -> None:
    """Rules 15 and 23."""
    snapshot = snapshot_of(9, 2, voters=(A, B, D), config=(7, 2))
    hand = Hand(owner=with_snapshot(A, snapshot, b"state", command(2)))
    assert hand.voters() == (A, B, D)
    assert hand.raft.config_place == (2, 7)
    assert hand.raft.cluster == "here"


def test_a_later_configuration_in_the_log_goes_before_the_snapshots() -> None:
    """Rules 15 and 23."""
    snapshot = snapshot_of(9, 2, voters=(A, B, D), config=(7, 2))
    hand = Hand(owner=with_snapshot(A, snapshot, b"state", configuration(3, A, B, C)))
    assert hand.voters() == (A, B, C)
    assert hand.raft.config_place == (3, 10)


def test_when_later_configurations_are_truncated_the_snapshots_holds_again() -> None:
    """Rules 15 and 23."""
    snapshot = snapshot_of(9, 2, voters=(A, B, D), config=(7, 2))
    hand = Hand(owner=with_snapshot(A, snapshot, b"state", configuration(3, A, B, C)))
    hand.hear(append(B, 4, (9, 2), [command(4)]))
    assert hand.voters() == (A, B, D)
    assert hand.raft.config_place == (2, 7)


def test_when_later_configurations_are_truncated_one_that_was_cut_off_holds_again() -> None:
    """Rules 15 and 23: it stands in the log no more, and is in force all the same."""
    log = [configuration(1, A, B, C), configuration(1, A, B), *entries_of(1, 2)]
    hand = Hand(owner=with_log(A, *log, configuration(1, A, B, D), commit=4), options=CUT)
    hand.snapshot()
    assert hand.store.base_index == 4
    assert hand.voters() == (A, B, D)
    hand.hear(append(B, 2, (4, 1), [command(2)]))
    assert hand.voters() == (A, B)
    assert hand.raft.config_place == (1, 2)


def test_configurations_of_a_log_that_was_discarded_never_were() -> None:
    """Rules 15 and 23."""
    log = [configuration(1, A, B, C), *entries_of(1, 6), configuration(1, A, B, D)]
    hand = Hand(owner=with_log(A, *log, commit=1), options=CUT)
    hand.hear(install(B, 3, snapshot_of(5, 2), 0, b"state"))
    assert hand.voters() == (A, B, C)
    assert hand.raft.config_index == 1


def test_a_server_outside_the_configuration_of_its_snapshot_does_not_campaign() -> None:
    """Rules 16 and 23."""
    snapshot = snapshot_of(9, 2, voters=(B, C, D), config=(7, 2))
    hand = Hand(owner=with_snapshot(A, snapshot, b"state"))
    hand.wait(60)
    assert not hand.told(PreVote)
    assert hand.raft.deadline == float("inf")


def test_a_snapshot_tells_a_new_store_that_it_is_the_members_now() -> None:
    """Rules 23 and 29."""
    hand = Hand(options=CUT, standby=True)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"sta"))
    assert hand.only(InstallReply).standby
    hand.hear(install(B, 3, snapshot_of(9, 2), 3, b"te"))
    assert not hand.only(AppendReply).standby
    assert not hand.raft.standby


def test_a_snapshot_that_names_another_store_leaves_a_new_one_waiting() -> None:
    """Rules 23 and 29."""
    owner = MemoryStore("a new one")
    hand = Hand(owner=owner, options=CUT, standby=True)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    assert hand.raft.standby
    assert hand.only(AppendReply).standby


# Votes by a log that was cut.


def test_votes_are_asked_for_by_the_snapshots_last_entry_if_the_log_holds_none() -> None:
    """Rules 3 and 23."""
    hand = Hand(owner=with_snapshot(A, snapshot_of(9, 2, config=(7, 2)), b"state"))
    hand.wait_for_deadline()
    request = hand.only(PreVote, B)
    assert (request.last_index, request.last_term) == (9, 2)
    assert request.config == (2, 7)


def test_no_vote_goes_to_a_log_that_is_behind_the_snapshot() -> None:
    """Rules 3 and 23."""
    hand = Hand(owner=with_snapshot(A, snapshot_of(9, 2), b"state"))
    hand.hear(vote(B, 3, (8, 2)), vote(C, 4, (20, 1)))
    assert [reply.granted for reply in hand.told(VoteReply)] == [False, False]


def test_a_vote_goes_to_a_log_that_ends_where_the_snapshot_does() -> None:
    """Rules 3 and 23."""
    hand = Hand(owner=with_snapshot(A, snapshot_of(9, 2), b"state"))
    hand.hear(vote(B, 3, (9, 2)))
    assert hand.only(VoteReply).granted


def test_a_server_of_a_snapshots_configuration_is_elected_and_leads_on_from_it() -> None:
    """Rules 9 and 23."""
    hand = Hand(owner=with_snapshot(A, snapshot_of(9, 2), b"state"), options=CUT)
    hand.campaign()
    hand.hear(vote_reply(B, 3))
    assert hand.only(Append, B).prev_index == 9
    hand.hear(accept(B, 3, 10))
    assert hand.leads()
    assert hand.raft.commit_index == 10


def test_a_leader_resumes_with_a_log_that_was_cut() -> None:
    """Rules 24 and 27."""
    hand, taken = leader()
    again = Hand(owner=hand.owner, options=CUT, resume=True)
    assert again.leads()
    assert (again.raft.last_index, again.raft.commit_index) == (6, 6)
    again.hear(refuse(C, 2, 6))
    assert again.only(Install, C).snapshot == taken
    again.propose(b"x")
    again.hear(accept(B, 2, 7))
    assert again.raft.commit_index == 7


def test_a_leader_that_resumes_with_nothing_but_a_snapshot_writes_no_second_first_entry() -> None:
    """Rules 9 and 27: the entry that its term began with is in the snapshot."""
    hand, _ = leader()
    assert hand.store.last_index == hand.store.base_index == 6
    again = Hand(owner=hand.owner, options=CUT, resume=True)
    assert again.raft.last_index == 6


# Appends that begin before what the log holds still.


def cut_follower(*entries: int) -> Hand:
    """A follower of B in term 3: a snapshot of 9 in term 2, then entries of these terms."""
    log = [command(term) for term in entries]
    return Hand(owner=with_snapshot(A, snapshot_of(9, 2), b"state", *log, term=3), options=CUT)


def test_an_append_wholly_before_the_base_is_acknowledged_as_far_as_it_went() -> None:
    """Rules 8 and 23: what the log holds no more is committed, so every leader has it."""
    hand = cut_follower(2, 2)
    hand.hear(append(B, 3, (4, 1), entries_of(1, 3), commit=11))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (True, 7)
    assert len(hand.log()) == 2
    assert hand.raft.commit_index == 9


def test_a_heartbeat_from_before_the_base_is_acknowledged() -> None:
    """Rules 8 and 23."""
    hand = cut_follower(2, 2)
    hand.hear(append(B, 3, (4, 1), commit=11))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.index) == (True, 4)
    assert hand.raft.commit_index == 9


def test_an_append_that_overlaps_the_base_adds_only_what_is_new() -> None:
    """Rules 7 and 23."""
    hand = cut_follower()
    hand.hear(append(B, 3, (7, 2), [command(2), command(2), command(2, b"x"), command(3, b"y")]))
    assert hand.log() == [(2, b"x"), (3, b"y")]
    assert hand.only(AppendReply).index == 11


def test_configurations_before_the_base_do_not_hold_again() -> None:
    """Rules 15 and 23: an old append comes late."""
    snapshot = snapshot_of(9, 2, voters=(A, B, D), config=(8, 2))
    hand = Hand(owner=with_snapshot(A, snapshot, b"state", term=3), options=CUT)
    hand.hear(append(B, 3, (6, 2), [configuration(2, A, B, C), configuration(2, A, B, D)]))
    assert hand.voters() == (A, B, D)
    assert hand.raft.config_index == 8
    late = [configuration(2, A, B, C), configuration(2, A, B, D), command(2), command(3)]
    hand.hear(append(B, 3, (6, 2), late))
    assert (hand.voters(), hand.raft.last_index) == ((A, B, D), 10)


def test_an_overlapping_append_that_comes_twice_changes_nothing_the_second_time() -> None:
    """Rules 12 and 23."""
    hand = cut_follower()
    message = append(B, 3, (7, 2), [command(2), command(2), command(2, b"x")])
    hand.hear(message)
    hand.hear(append(B, 3, (10, 2), [command(3, b"y")]))
    hand.hear(message)
    assert hand.log() == [(2, b"x"), (3, b"y")]
    assert hand.only(AppendReply).index == 10


def test_an_overlapping_append_deletes_what_conflicts_after_the_base() -> None:
    """Rules 7 and 23."""
    hand = cut_follower(2, 2, 2)
    hand.hear(append(B, 3, (8, 2), [command(2), command(2), command(3, b"y")]))
    assert hand.log() == [(2, b"x"), (3, b"y")]


def test_an_append_that_ends_at_the_base_deletes_nothing() -> None:
    """Rules 7 and 23."""
    hand = cut_follower(2, 2)
    hand.hear(append(B, 3, (6, 2), [command(2)] * 3))
    assert len(hand.log()) == 2
    assert hand.only(AppendReply).index == 9


def test_an_append_that_contradicts_the_snapshot_is_dropped_and_reported() -> None:
    """Rules 7 and 23: no leader lacks what is committed."""
    hand = cut_follower(2)
    hand.hear(append(B, 3, (8, 1), [command(3), command(3)]))
    assert len(hand.log()) == 1
    assert not hand.told(AppendReply)
    assert "overwrite the committed entry 9" in hand.reports[0]


def test_a_late_append_of_an_earlier_term_from_before_the_base_is_refused() -> None:
    """Rules 4 and 23: its sender learns the term, whatever it sends."""
    hand = cut_follower()
    hand.hear(append(C, 2, (4, 1), [command(1)]))
    reply = hand.only(AppendReply, C)
    assert (reply.accepted, reply.term) == (False, 3)
    assert (reply.hint_index, reply.hint_term) == (0, 0)


def test_an_append_after_an_entry_older_than_the_snapshot_is_refused() -> None:
    """Rules 11 and 30: nothing of what is here can fit it."""
    hand = cut_follower(2)
    hand.hear(append(B, 3, (10, 1)))
    reply = hand.only(AppendReply)
    assert (reply.accepted, reply.hint_index, reply.hint_term) == (False, 0, 0)


# Rule 24: what is cut, and what is kept.


def compacting(hand: Hand, **options: int) -> Hand:
    """The same server with other options; all of its log is committed."""
    hand.raft.options = replace(hand.raft.options, **options)
    hand.raft.set_commit(hand.raft.last_index)
    return hand


def test_the_newest_entries_of_a_snapshot_are_kept_for_who_is_behind() -> None:
    """Rule 24."""
    hand = compacting(follower(entries=9), keep_entries=3, keep_bytes=1000)
    hand.snapshot()
    assert (hand.store.base_index, hand.raft.last_index) == (7, 10)


def test_a_log_shorter_than_what_is_kept_is_not_cut() -> None:
    """Rule 24."""
    hand = compacting(follower(entries=9), keep_entries=30, keep_bytes=1000)
    hand.snapshot()
    assert hand.store.base_index == 0


def test_what_is_kept_is_bounded_in_bytes() -> None:
    """Rule 24: entries_of makes commands of a byte each."""
    hand = compacting(follower(entries=9), keep_entries=6, keep_bytes=2)
    hand.snapshot()
    assert hand.store.base_index == 8
    assert hand.store.size == 2


def test_the_log_is_never_cut_past_the_snapshot() -> None:
    """Rule 24: whatever does not fit what may be kept."""
    hand = compacting(follower(entries=3), keep_entries=0, keep_bytes=0)
    hand.hear(append(B, 1, (4, 1), [command(1, b"a longer one")]))
    hand.snapshot()
    assert (hand.store.base_index, hand.raft.last_index) == (4, 5)


def test_a_log_without_a_snapshot_is_not_cut() -> None:
    """Rule 24."""
    hand = compacting(follower(), keep_entries=0, keep_bytes=0)
    hand.raft.compact(hand.now)
    assert hand.store.base_index == 0


def test_a_store_does_not_cut_what_no_snapshot_holds() -> None:
    """Rule 24."""
    hand = follower(commit=3)
    with pytest.raises(ValueError, match="no stored snapshot"):
        hand.store.cut(1)
    hand.snapshot()
    with pytest.raises(ValueError, match="no stored snapshot"):
        hand.store.cut(4)
    assert (hand.store.base_index, hand.raft.last_index) == (3, 5)


def test_a_snapshot_that_is_not_finished_cuts_nothing() -> None:
    """Rule 24: only a complete, stored one stands for the log."""
    hand = compacting(follower(), keep_entries=0)
    sink = hand.store.begin_snapshot(hand.raft.snapshot_at(5))
    sink.write(b"sta")
    hand.raft.compact(hand.now)
    assert hand.store.base_index == 0
    sink.discard()
    assert hand.store.snapshot is None


def test_a_log_that_was_cut_is_the_end_of_the_whole_one() -> None:
    """Rule 24: wherever it is cut, and cut again."""
    log = [configuration(1, A, B, C), *entries_of(1, 2), configuration(2, A, B), command(2, b"xy")]
    log += [command(4), configuration(4, A, B, C), command(5)]
    whole = Hand(owner=with_log(A, *log, commit=8)).store
    for first in range(9):
        for upto in range(first, 9):
            hand = Hand(owner=with_log(A, *log, commit=8), options=replace(CUT, keep_bytes=10**6))
            hand.raft.options = replace(hand.raft.options, keep_entries=8)
            hand.snapshot()
            hand.store.cut(first)
            hand.store.cut(upto)
            cut = hand.store
            assert (cut.base_index, cut.last_index) == (upto, 8)
            assert cut.slice(upto + 1, 99) == log[upto:]
            assert cut.size == sum(len(entry.data) for entry in log[upto:])
            assert [at for at, _ in cut.configs()] == [at for at in (1, 4, 7) if at > upto]
            for index in range(upto, 9):
                assert cut.term_at(index) == whole.term_at(index)
                for term in range(7):
                    found = whole.last_at_most(index, term)
                    assert cut.last_at_most(index, term) == (found if found >= upto else 0)
            cut.append([command(5), command(6)])
            assert [cut.last_at_most(10, term) for term in (5, 6)] == [9, 10]


def test_a_log_is_not_cut_back_when_more_is_to_be_kept() -> None:
    """Rule 24: what is gone is gone."""
    hand = compacting(follower(), keep_entries=0)
    hand.snapshot()
    compacting(hand, keep_entries=4).raft.compact(hand.now)
    assert hand.store.base_index == 5


def test_a_snapshot_that_was_overtaken_while_it_was_written_is_not_adopted() -> None:
    """Rules 23 and 24: another was installed meanwhile."""
    hand = follower(commit=3)
    sink = hand.store.begin_snapshot(hand.raft.snapshot_at(3))
    sink.write(b"mine")
    sink.finish()
    newer = snapshot_of(9, 2)
    hand.hear(install(B, 3, newer, 0, b"state"))
    hand.store.adopt(sink)
    hand.raft.compact(hand.now)
    assert hand.store.snapshot == newer
    assert hand.store.open_snapshot().read(0, 9) == b"state"


def test_a_snapshot_says_which_configuration_was_in_force_at_its_index() -> None:
    """Rule 23: not the one in force when it is taken."""
    log = [configuration(1, A, B, C), command(1), configuration(2, A, B), command(2)]
    hand = Hand(owner=with_log(A, *log, configuration(2, A, B, D), commit=4), options=CUT)
    before, after = hand.raft.snapshot_at(2), hand.raft.snapshot_at(4)
    assert (before.config.voters, before.config_index, before.config_term) == ((A, B, C), 1, 1)
    assert (after.config.voters, after.config_index, after.config_term) == ((A, B), 3, 2)
    assert (before.term, after.term) == (1, 2)


def test_the_next_snapshot_has_its_configuration_from_the_one_before() -> None:
    """Rule 23: the log holds it no more."""
    hand = follower(commit=3)
    first = hand.snapshot()
    hand.raft.set_commit(5)
    second = hand.snapshot()
    assert (first.index, second.index) == (3, 5)
    assert (second.config, second.config_index, second.config_term) == (first.config, 1, 1)


def test_a_restarted_server_has_its_snapshot_and_its_cut_log_again() -> None:
    """Rules 24 and 26."""
    hand = follower(commit=4)
    taken = hand.snapshot()
    again = Hand(owner=hand.owner, options=CUT)
    assert again.store.snapshot == taken
    assert (again.store.base_index, again.store.base_term, again.raft.last_index) == (4, 1, 5)
    assert again.raft.commit_index == 4
    assert again.store.open_snapshot().read(0, 9) == b"state"


def follower_behind(keep_entries: int, **options: int) -> Hand:
    """A leads; B has all of the 30 entries, C has acknowledged 10 of them, just now."""
    hand = Hand(
        owner=with_log(A, configuration(1, A, B, C), *entries_of(1, 28), commit=1),
        options=replace(CUT, keep_entries=keep_entries, **{"keep_bytes": 1000} | options),
    )
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    hand.hear(accept(B, 2, 30), accept(C, 2, 10))
    assert hand.raft.commit_index == 30
    return hand


def test_entries_are_kept_for_a_follower_that_is_behind_and_heard() -> None:
    """Rule 24: it would need a snapshot the sooner again."""
    hand = follower_behind(2)
    hand.snapshot()
    assert hand.store.base_index == 10
    assert not hand.told(Install)


def test_entries_are_not_kept_for_a_follower_that_is_silent() -> None:
    """Rule 24: one that is gone for good must not fill the memory of the others."""
    hand = follower_behind(2)
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(accept(B, 2, 30))
    hand.snapshot()
    assert hand.store.base_index == 28


def test_what_is_kept_for_a_follower_is_bounded_in_entries() -> None:
    """Rule 24: sixteen times what is always kept."""
    hand = follower_behind(1)
    hand.snapshot()
    assert hand.store.base_index == 14


def test_what_is_kept_for_a_follower_is_bounded_in_bytes() -> None:
    """Rule 24."""
    hand = follower_behind(2, keep_bytes=300)
    entries = hand.store.slice(11, 20)
    assert sum(len(entry.data) for entry in entries) < 300
    hand.raft.options = replace(hand.raft.options, keep_bytes=len(entries[-1].data) + 4)
    hand.snapshot()
    assert hand.store.base_index > 20


def test_entries_are_not_kept_for_another_store_than_the_members() -> None:
    """Rules 24 and 29."""
    hand = follower_behind(2)
    hand.hear(from_store(accept(C, 2, 10), "a new one"))
    hand.snapshot()
    assert hand.store.base_index == 28


def test_a_follower_keeps_entries_for_nobody_in_particular() -> None:
    """Rule 24: it does not know who is behind."""
    hand = follower_behind(2)
    hand.hear(append(B, 3, (30, 2)))
    hand.snapshot()
    assert hand.store.base_index == 28


def test_what_follows_a_snapshot_under_way_is_kept_for_who_is_sent_it() -> None:
    """Rules 24 and 25: or it would never be caught up."""
    hand, taken = leader()
    hand.raft.options = replace(CUT, keep_bytes=1000)
    hand.hear(holds(C, 2, taken, 4))
    hand.propose(b"a", b"b", b"c")
    hand.hear(accept(B, 2, 9))
    assert hand.snapshot().index == 9
    assert hand.store.base_index == taken.index
    hand.hear(accept(C, 2, taken.index))
    assert hand.only(Append, C).prev_index == taken.index


# Rule 25: how a snapshot is sent.


def test_who_lacks_what_was_cut_off_is_asked_how_much_of_the_snapshot_it_has() -> None:
    """Rule 25: not a byte leaves for who may not be there."""
    hand, taken = leader()
    question = hand.only(Install, C)
    assert (question.snapshot, question.offset, question.data) == (taken, 0, b"")
    assert not hand.told(Install, B)


def test_a_refusal_whose_hint_lies_before_the_base_leads_to_a_snapshot() -> None:
    """Rules 11 and 25."""
    hand, taken = leader()
    hand.hear(accept(C, 2, 6))
    hand.propose(b"x")
    hand.hear(refuse(C, 2, 6, (3, 1)))
    assert not hand.told(Install)
    again = Hand(owner=hand.owner, options=CUT, resume=True)
    assert again.only(Append, C).prev_index == 7
    again.hear(refuse(C, 2, 7, (3, 1)))
    assert again.only(Install, C).snapshot == taken


def test_a_refusal_whose_hint_is_the_base_leads_to_an_append() -> None:
    """Rules 11 and 24: what was kept is enough."""
    hand, _ = leader()
    hand.propose(b"x")
    again = Hand(owner=hand.owner, options=CUT, resume=True)
    again.hear(refuse(C, 2, 7, (6, 2)))
    assert not again.told(Install)
    assert again.only(Append, C).prev_index == 6


def test_the_pieces_of_a_snapshot_leave_when_it_is_known_how_much_is_there() -> None:
    """Rule 25."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand) == [(0, b"twel"), (4, b"ve b"), (8, b"ytes")]


def test_what_is_there_already_is_not_sent_again() -> None:
    """Rule 25."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 5))
    assert pieces(hand) == [(5, b"e by"), (9, b"tes")]


def test_only_so_many_pieces_are_under_way_at_once() -> None:
    """Rule 25: nobody's memory is filled with a large state."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    assert len(pieces(hand)) == MAX_PIECES
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand) == []


def test_the_next_pieces_leave_as_earlier_ones_are_acknowledged() -> None:
    """Rule 25."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.hear(holds(C, 2, taken, 8))
    assert pieces(hand) == [(32, LONG[32:36]), (36, LONG[36:40])]


def test_old_answers_about_a_snapshot_change_nothing() -> None:
    """Rules 12 and 25."""
    hand, taken = leader(LONG)
    for held in (0, 8, 12, 4):
        hand.hear(holds(C, 2, taken, held))
    assert pieces(hand) == []
    hand.wait(0.1)
    hand.wait(0.1)
    assert pieces(hand) == [(12, b"")]


def test_pieces_that_were_lost_leave_again_when_nothing_moves_between_two_heartbeats() -> None:
    """Rule 25."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    hand.hear(holds(C, 2, taken, 4))
    hand.wait(0.1)
    assert pieces(hand) == []
    hand.wait(0.1)
    assert pieces(hand) == [(4, b"")]
    hand.hear(holds(C, 2, taken, 4))
    assert pieces(hand)[0] == (4, LONG[4:8])
    assert len(pieces(hand)) == MAX_PIECES


def test_pieces_that_have_just_left_are_not_asked_for_by_the_next_heartbeat() -> None:
    """Rules 12 and 25: the question may overtake them."""
    hand, taken = leader(LONG)
    hand.wait(0.1)
    hand.wait(0.1)
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    assert pieces(hand) == []
    hand.wait(0.1)
    assert pieces(hand) == [(0, b"")]


HEAVY = bytes(1 << 20)


def heavy() -> tuple[Hand, Snapshot]:
    """As `leader`; C takes in a snapshot of 1 MiB, in pieces of 16 KiB."""
    hand = follower(options=replace(CUT, snapshot_chunk_bytes=1 << 14))
    hand.campaign()
    hand.hear(vote_reply(B, 2))
    hand.hear(accept(B, 2, 6))
    taken = hand.snapshot(HEAVY)
    hand.hear(holds(C, 2, taken, 0))
    assert len(pieces(hand)) == MAX_PIECES
    return hand, taken


def test_a_heavy_snapshot_on_a_slow_road_is_sent_once() -> None:
    """Rule 25: sent again each heartbeat it would hold itself up for ever."""
    hand, taken = heavy()
    sent = [offset for offset, _ in pieces(hand)]
    for held in range(1 << 14, len(HEAVY) + 1, 1 << 14):
        for _ in range(8):
            hand.wait(0.1)
            assert pieces(hand) == []
            hand.hear(refuse(C, 2, 6), accept(B, 2, 6))
        if len(HEAVY) - held <= MUCH:
            break
        hand.hear(holds(C, 2, taken, held))
        sent += [offset for offset, _ in pieces(hand)]
    assert sent == list(range(0, len(HEAVY), 1 << 14))


def test_a_heavy_snapshot_of_which_nothing_arrives_is_asked_for() -> None:
    """Rule 25."""
    hand, taken = heavy()
    for _ in range(10):
        hand.wait(0.1)
        assert pieces(hand) == []
        hand.hear(accept(B, 2, 6))
    hand.wait(0.1)
    assert pieces(hand) == [(0, b"")]
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand)[0] == (0, HEAVY[: 1 << 14])


def test_a_snapshot_that_was_not_waited_for_long_enough_is_given_twice_as_long() -> None:
    """Rule 25: each time it is asked for, what was under way is so again, behind itself."""
    hand, taken = heavy()
    for times in (1, 2, 4):
        for _ in range(10 * times):
            hand.wait(0.1)
            assert pieces(hand) == []
            hand.hear(accept(B, 2, 6))
        hand.wait(0.1)
        assert pieces(hand) == [(0, b"")]
        hand.hear(accept(B, 2, 6), holds(C, 2, taken, 0))
        assert len(pieces(hand)) > 1


def test_a_heartbeat_asks_for_the_newest_if_what_its_peer_has_is_cut_off() -> None:
    """Rules 12 and 24: the log does not say any more of which term that was."""
    hand, _ = leader()
    hand.hear(accept(C, 2, 6))
    hand.hear(accept(C, 2, 6))
    for n in range(20):
        hand.propose(b"%d" % n)
    hand.hear(accept(B, 2, 26))
    hand.snapshot()
    assert hand.store.base_index > 6
    hand.propose(b"x")
    hand.read("r1")
    beat = hand.only(Append, C)
    assert (beat.entries, beat.prev_index) == ((), 27)


def test_who_has_lost_what_it_had_of_a_snapshot_gets_it_again() -> None:
    """Rules 25 and 26: it was restarted, or what it had was damaged."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.hear(holds(C, 2, taken, 40))
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand) == []
    hand.wait(0.1)
    hand.wait(0.1)
    assert pieces(hand) == [(40, b"")]
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand)[0] == (0, LONG[:4])


def test_a_lost_acknowledgement_of_a_whole_snapshot_is_asked_for_again() -> None:
    """Rules 12 and 25."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    hand.wait(0.1)
    assert pieces(hand) == [(0, b"")]
    hand.hear(accept(C, 2, 6))
    hand.wait(0.1)
    assert pieces(hand) == []


def test_a_peer_that_is_not_there_is_sent_a_question_each_heartbeat_and_no_bytes() -> None:
    """Rule 25."""
    hand, _ = leader(LONG)
    for _ in range(5):
        hand.wait(0.1)
        assert pieces(hand) == [(0, b"")]
        assert len(hand.told(Append, C)) == 1
        hand.hear(accept(B, 2, 6))
        assert pieces(hand) == []


def test_a_peer_that_falls_silent_is_sent_no_more_bytes() -> None:
    """Rule 25."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    for _ in range(5):
        hand.wait(0.1)
        assert pieces(hand) in ([], [(0, b"")])
        hand.hear(accept(B, 2, 6))
        assert pieces(hand) == []


def test_heartbeats_go_on_beside_a_snapshot() -> None:
    """Rule 25."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    beat = hand.only(Append, C)
    assert (beat.entries, beat.prev_index) == ((), 6)


def test_a_heartbeat_leaves_before_the_pieces_of_the_same_moment() -> None:
    """Rule 25: it does not wait behind them."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    hand.raft.tick(hand.now + 0.1)
    hand.hear(holds(C, 2, taken, 8))
    kinds = [type(message) for peer, message in hand.sent if peer == C]
    assert kinds == [Append, *[Install] * MAX_PIECES]


def test_a_read_round_goes_on_beside_a_snapshot() -> None:
    """Rules 20 and 25: a refused heartbeat answers it."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.read("r1")
    beat = hand.only(Append, C)
    hand.hear(refuse(C, 2, beat.prev_index, (3, 1), round=beat.round))
    assert hand.confirmed == {"r1": 6}


def test_who_is_sent_a_snapshot_counts_as_heard() -> None:
    """Rules 5 and 25."""
    hand, taken = leader(LONG)
    for held in range(15):
        hand.wait(0.1)
        hand.hear(holds(C, 2, taken, held))
    assert hand.leads()


def test_a_leader_whose_snapshot_nobody_acknowledges_steps_down() -> None:
    """Rules 5 and 25."""
    hand, _ = leader(LONG)
    for _ in range(15):
        hand.wait(0.1)
    assert hand.follows()


def test_when_the_snapshot_is_there_the_log_follows() -> None:
    """Rule 25."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 0))
    hand.propose(b"x")
    assert not hand.told(Append, C)
    hand.hear(accept(C, 2, 6))
    follows = hand.only(Append, C)
    assert (follows.prev_index, follows.prev_term) == (6, 2)
    assert [entry.data for entry in follows.entries] == [b"x"]
    assert not hand.told(Install)


def test_an_acknowledged_snapshot_counts_for_the_commit_of_what_follows() -> None:
    """Rules 9 and 25."""
    hand, _ = leader()
    hand.propose(b"x")
    hand.hear(accept(C, 2, 6))
    assert hand.raft.commit_index == 6
    hand.hear(accept(C, 2, 7))
    assert hand.raft.commit_index == 7


def test_a_peer_that_turns_out_to_have_it_is_sent_no_snapshot() -> None:
    """Rules 12 and 25: its acknowledgements were lost; it fits a heartbeat."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 0))
    hand.wait(0.1)
    hand.hear(accept(C, 2, 6))
    hand.wait(0.1)
    assert not hand.told(Install)


def test_a_snapshot_that_was_begun_is_sent_to_its_end_though_a_newer_one_is_taken() -> None:
    """Rule 25: or a slow peer would begin anew for ever."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 0))
    hand.propose(b"x")
    hand.hear(accept(B, 2, 7))
    newer = hand.snapshot(b"and another state")
    assert newer.index == 7
    hand.wait(0.1)
    hand.wait(0.1)
    hand.hear(holds(C, 2, taken, 4))
    assert [piece.snapshot for piece in hand.told(Install, C)] == [taken, taken]
    assert pieces(hand) == [(4, b"ve b"), (8, b"ytes")]


def test_who_is_behind_the_base_after_a_snapshot_is_sent_the_newer_one() -> None:
    """Rule 25."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 0))
    hand.propose(b"x")
    hand.hear(accept(B, 2, 7))
    newer = hand.snapshot(b"and another state")
    hand.hear(accept(C, 2, taken.index))
    question = hand.only(Install, C)
    assert (question.snapshot, question.data) == (newer, b"")


def test_answers_about_another_snapshot_move_nothing() -> None:
    """Rule 25: they may be about the one that was sent before, or by another leader."""
    hand, taken = leader(LONG)
    for other in ({"crc": taken.crc ^ 1}, {"index": 5}):
        hand.hear(holds(C, 2, msgspec.structs.replace(taken, **other), 40))
        assert not hand.told(Install)
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand)[0] == (0, LONG[:4])


def test_answers_of_an_earlier_term_about_a_snapshot_move_nothing() -> None:
    """Rules 12 and 25."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 1, taken, 40))
    assert not hand.told(Install)


def test_an_answer_about_a_snapshot_of_a_later_term_deposes() -> None:
    """Rule 4."""
    hand, taken = leader()
    hand.hear(holds(C, 5, taken, 0))
    assert hand.follows()
    assert hand.raft.term == 5


def test_who_has_more_of_a_snapshot_than_there_is_talks_nonsense() -> None:
    """Rule 30."""
    hand, taken = leader()
    hand.hear(holds(C, 2, taken, 13), holds(C, 2, taken, -1))
    assert not hand.told(Install)
    assert len(hand.reports) == 2


def test_answers_about_a_snapshot_from_outside_the_configuration_count_for_nothing() -> None:
    """Rule 19."""
    hand, taken = leader()
    hand.hear(holds(D, 2, taken, 0), holds(D, 9, taken, 0))
    assert hand.leads()
    assert not hand.told(Install)


def test_answers_about_a_snapshot_that_nobody_is_sent_count_for_nothing() -> None:
    """Rule 12."""
    hand, taken = leader()
    hand.hear(holds(B, 2, taken, 4))
    assert not hand.told(Install, B)


def test_a_stranger_is_sent_no_snapshot() -> None:
    """Rule 29: another store answers in the member's name."""
    hand, taken = leader()
    hand.hear(from_store(holds(C, 2, taken, 0), "a new one"))
    assert not hand.told(Install)
    assert "empty store" in hand.reports[0]
    hand.wait(0.1)
    assert len(hand.told(Append, C)) == 1
    assert not hand.told(Install)


def test_a_strangers_answers_about_a_snapshot_do_not_keep_a_leader() -> None:
    """Rules 5 and 29."""
    hand, taken = leader()
    for _ in range(15):
        hand.wait(0.1)
        hand.hear(from_store(holds(C, 2, taken, 0), "a new one"))
    assert hand.follows()


def test_answers_about_a_snapshot_from_another_cluster_are_dropped() -> None:
    """Rule 17."""
    hand, taken = leader()
    hand.hear(of_cluster(holds(C, 2, taken, 0), "elsewhere"))
    assert not hand.told(Install)
    assert hand.raft.foreign == 1


# Rule 25: how a snapshot arrives.


def test_pieces_in_order_make_up_the_snapshot() -> None:
    """Rule 25."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    for offset in (0, 4):
        hand.hear(install(B, 3, taken, offset, STATE[offset : offset + 4]))
        reply = hand.only(InstallReply, B)
        assert (reply.index, reply.crc, reply.held) == (9, taken.crc, offset + 4)
        assert hand.raft.commit_index == 0
    hand.hear(install(B, 3, taken, 8, STATE[8:]))
    assert hand.store.open_snapshot().read(0, 99) == STATE
    assert hand.store.received is None


def test_the_question_how_much_is_there_is_answered_and_changes_nothing() -> None:
    """Rule 25."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    for held in (0, 4):
        hand.hear(install(B, 3, taken))
        assert hand.only(InstallReply).held == held
        hand.hear(install(B, 3, taken, 0, STATE[:4]))


def test_a_piece_that_comes_twice_is_taken_once() -> None:
    """Rules 12 and 25."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    for offset, held in ((0, 4), (0, 4), (4, 8), (0, 8), (4, 8)):
        hand.hear(install(B, 3, taken, offset, STATE[offset : offset + 4]))
        assert hand.only(InstallReply).held == held
    hand.hear(install(B, 3, taken, 8, STATE[8:]))
    assert hand.store.open_snapshot().read(0, 99) == STATE


def test_a_piece_that_overlaps_what_is_here_adds_only_what_is_new() -> None:
    """Rule 25: another leader may cut it into other pieces."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(B, 3, taken, 0, STATE[:5]))
    hand.hear(install(B, 3, taken, 3, STATE[3:]))
    assert hand.store.open_snapshot().read(0, 99) == STATE


def test_a_piece_beyond_what_is_here_is_dropped() -> None:
    """Rule 25: it will come again in its turn."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(B, 3, taken, 4, STATE[4:8]))
    assert hand.only(InstallReply).held == 0
    hand.hear(install(B, 3, taken, 0, STATE[:4]), install(B, 3, taken, 8, STATE[8:]))
    assert [reply.held for reply in hand.told(InstallReply)] == [4, 4]
    hand.hear(install(B, 3, taken, 4, STATE[4:8]), install(B, 3, taken, 8, STATE[8:]))
    assert hand.store.open_snapshot().read(0, 99) == STATE


def test_a_piece_of_another_snapshot_begins_anew() -> None:
    """Rule 25: the state of the same index has other bytes on another server."""
    hand = Hand(options=CUT)
    other = b"other  bytes"
    hand.hear(install(B, 3, snapshot_of(9, 2, STATE), 0, STATE[:8]))
    hand.hear(install(C, 4, snapshot_of(9, 2, other)))
    assert hand.only(InstallReply).held == 0
    hand.hear(install(C, 4, snapshot_of(9, 2, other), 0, other))
    assert hand.store.open_snapshot().read(0, 99) == other


def test_the_next_leader_goes_on_with_the_same_snapshot_where_the_one_before_ended() -> None:
    """Rule 25."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(B, 3, taken, 0, STATE[:8]))
    hand.hear(install(C, 4, taken))
    reply = hand.only(InstallReply, C)
    assert (reply.term, reply.held) == (4, 8)
    hand.hear(install(C, 4, taken, 8, STATE[8:]))
    assert hand.store.open_snapshot().read(0, 99) == STATE


def test_a_piece_of_an_earlier_leader_is_answered_with_the_term_and_not_taken() -> None:
    """Rules 4 and 25."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(append(C, 4, (0, 0)))
    hand.hear(install(B, 3, taken, 0, STATE))
    reply = hand.only(InstallReply, B)
    assert (reply.term, reply.held) == (4, 0)
    assert hand.store.received is None
    assert hand.raft.leader == C


def test_a_piece_of_an_earlier_leader_does_not_disturb_what_is_under_way() -> None:
    """Rule 25: it comes late."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(C, 4, taken, 0, STATE[:8]))
    hand.hear(install(B, 3, snapshot_of(5, 2, b"older"), 0, b"ol"))
    hand.hear(install(C, 4, taken))
    assert hand.only(InstallReply, C).held == 8


def test_a_damaged_snapshot_is_reported_and_not_installed() -> None:
    """Rules 23 and 25."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2, STATE), 0, b"twelve bytez"))
    assert hand.raft.commit_index == 1
    assert len(hand.log()) == 4
    assert hand.store.snapshot is None
    assert "checksum" in hand.reports[0]
    assert hand.only(InstallReply).held == 0


def test_a_damaged_snapshot_is_begun_anew() -> None:
    """Rule 25."""
    hand = follower()
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(B, 3, taken, 0, b"twelve bytez"))
    hand.hear(install(B, 3, taken, 8, STATE[8:]))
    assert hand.only(InstallReply).held == 0
    hand.hear(install(B, 3, taken, 0, STATE))
    assert hand.store.open_snapshot().read(0, 99) == STATE


def test_who_restarts_in_the_middle_of_a_snapshot_is_sent_what_it_lacks() -> None:
    """Rules 25 and 26: a store in memory begins anew."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, STATE)
    hand.hear(install(B, 3, taken, 0, STATE[:8]))
    again = Hand(owner=hand.owner, options=CUT)
    again.hear(install(B, 3, taken))
    held = again.only(InstallReply).held
    again.hear(install(B, 3, taken, held, STATE[held:]))
    assert again.store.open_snapshot().read(0, 99) == STATE


def test_a_piece_of_a_snapshot_is_a_sign_of_life_of_the_leader() -> None:
    """Rules 4 and 25: no election while a large state is taken in."""
    hand = Hand(options=CUT)
    taken = snapshot_of(9, 2, LONG)
    for n in range(40):
        hand.wait(0.1)
        hand.hear(install(B, 3, taken, n, LONG[n : n + 1]))
        assert not hand.told(PreVote)
    hand.hear(vote(C, 4, (9, 9)))
    assert not hand.only(VoteReply).granted
    assert hand.raft.leader == B


def test_a_candidate_gives_way_to_who_sends_a_snapshot_in_its_term() -> None:
    """Raft §5.2."""
    hand = follower()
    hand.campaign()
    assert hand.campaigns()
    hand.hear(install(B, 2, snapshot_of(9, 2), 0, b"sta"))
    assert hand.follows()
    assert hand.raft.leader == B


def test_a_leader_follows_who_sends_a_snapshot_of_a_later_term() -> None:
    """Rule 4."""
    hand, _ = leader()
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    assert hand.follows()
    assert hand.raft.commit_index == 9


def test_a_second_leader_of_a_term_installs_nothing() -> None:
    """Rule 30: there is none, unless two clusters share a name."""
    hand, _ = leader()
    hand.hear(install(B, 2, snapshot_of(9, 2), 0, b"state"))
    assert hand.leads()
    assert hand.raft.commit_index == 6
    assert "claims to lead term 2" in hand.reports[0]


def test_a_snapshot_of_another_cluster_is_dropped() -> None:
    """Rule 17."""
    hand = follower()
    hand.hear(install(B, 3, snapshot_of(9, 2, cluster="elsewhere"), 0, b"state"))
    assert hand.raft.foreign == 1
    assert (hand.raft.commit_index, hand.raft.term) == (1, 1)


def test_a_snapshot_of_a_cluster_without_a_name_is_dropped() -> None:
    """Rule 17: a leader always names its own."""
    hand = follower()
    hand.raft.step(of_cluster(install(B, 3, snapshot_of(9, 2), 0, b"state"), ""), hand.now)
    hand.carry_out()
    assert hand.raft.foreign == 1
    assert (hand.raft.commit_index, hand.raft.term) == (1, 1)


def test_a_snapshot_is_taken_from_a_server_outside_the_configuration() -> None:
    """Rule 19: this server's own may be old."""
    hand = follower()
    hand.hear(install(E, 3, snapshot_of(9, 2, voters=(A, D, E)), 0, b"state"))
    assert hand.raft.leader == E
    assert hand.voters() == (A, D, E)


def no_snapshots() -> Iterator[tuple[str, Install]]:
    good = snapshot_of(9, 2, STATE)
    change = msgspec.structs.replace
    yield "of nothing", install(B, 3, change(good, index=0, config_index=0))
    yield "without a configuration", install(B, 3, change(good, config_index=0))
    yield "of a configuration to come", install(B, 3, change(good, config_index=10))
    yield "of a configuration of a later term", install(B, 3, change(good, config_term=3))
    yield "of a later term than its leader's", install(B, 3, change(good, term=4))
    yield "of term 0", install(B, 3, change(good, term=0, config_term=0))
    yield "before its beginning", install(B, 3, good, -1, b"t")
    yield "past its end", install(B, 3, good, 10, b"tes")
    yield "of fewer than no bytes", install(B, 3, change(good, size=-1))
    yield "of nobody", install(B, 3, change(good, config=change(good.config, voters=())))
    twice = change(good.config, voters=(A, B, B))
    yield "that names a member twice", install(B, 3, change(good, config=twice))
    other = change(good.config, cluster="elsewhere")
    yield "of another cluster", of_cluster(install(B, 3, change(good, config=other)), "here")
    yield "further than any log", install(B, 3, change(good, index=2**63))
    unnamed = change(good.config, cluster="")
    yield "of a cluster without a name", install(B, 3, change(good, config=unnamed))
    yield "in which it has no name", of_cluster(install(B, 3, change(good, config=unnamed)), "here")


def test_what_is_no_piece_of_a_snapshot_is_dropped_and_changes_nothing() -> None:
    """Rule 30."""
    for what, message in no_snapshots():
        hand = Hand(options=CUT)
        hand.hear(message)
        assert len(hand.reports) == 1, what
        assert (hand.raft.term, hand.raft.leader, hand.store.received) == (0, None, None), what
        assert not hand.sent, what


def two_terms() -> Hand:
    log = [configuration(1, A, B, C), command(1), command(1), command(2), command(2)]
    return Hand(owner=with_log(A, *log, commit=4), options=CUT)


def test_a_snapshot_with_another_term_at_a_committed_index_is_dropped_and_reported() -> None:
    """Rules 7, 23 and 30."""
    hand = two_terms()
    hand.hear(install(B, 3, snapshot_of(3, 2), 0, b"state"))
    assert (hand.raft.last_index, hand.raft.commit_index) == (5, 4)
    assert not hand.told(AppendReply)
    assert "committed entry 3" in hand.reports[0]


def test_a_snapshot_of_an_older_term_than_what_is_committed_is_dropped_and_reported() -> None:
    """Rules 7, 23 and 30: terms never fall along a log."""
    hand = two_terms()
    hand.hear(install(B, 3, snapshot_of(9, 1), 0, b"state"))
    assert (hand.raft.last_index, hand.raft.commit_index) == (5, 4)
    assert not hand.told(AppendReply)
    assert "committed entry 4" in hand.reports[0]


def test_half_a_snapshot_is_forgotten_when_the_log_has_got_past_it() -> None:
    """Rule 25: it is nobody's, and would be kept for ever."""
    hand = follower(commit=1)
    hand.hear(install(B, 3, snapshot_of(7, 2, STATE), 0, STATE[:8]))
    assert hand.store.received is not None
    hand.hear(append(C, 4, (5, 1), [command(2), command(2), command(4)], commit=8))
    assert hand.raft.commit_index == 8
    assert hand.store.received is None


# Readers are closed.


def test_a_snapshot_that_was_sent_is_closed() -> None:
    """Rule 25."""
    hand, owner, _ = leader_with_readers()
    hand.hear(accept(C, 2, 6))
    assert owner.open_readers == 0


def test_a_leader_deposed_while_it_sends_a_snapshot_closes_it() -> None:
    """Rule 25."""
    hand, owner, _ = leader_with_readers()
    hand.hear(append(B, 3, (6, 2)))
    assert hand.follows()
    assert owner.open_readers == 0


def test_a_leader_that_campaigns_while_it_sends_a_snapshot_closes_it() -> None:
    """Rule 25: forced to, by a caller."""
    hand, owner, _ = leader_with_readers()
    hand.campaign()
    assert owner.open_readers == 0


def test_a_leader_that_can_store_nothing_closes_the_snapshot_that_it_sends() -> None:
    """Rule 25: its disk is full, and it steps down."""
    hand, owner, _ = leader_with_readers()
    hand.raft.pause(hand.now)
    hand.carry_out()
    assert hand.follows()
    assert owner.open_readers == 0


def test_the_snapshot_that_a_stranger_was_sent_is_closed() -> None:
    """Rules 25 and 29."""
    hand, owner, taken = leader_with_readers()
    hand.hear(from_store(holds(C, 2, taken, 0), "a new one"))
    assert owner.open_readers == 0


def test_when_a_newer_snapshot_is_sent_the_older_one_is_closed() -> None:
    """Rule 25."""
    hand, owner, taken = leader_with_readers()
    hand.propose(b"x")
    hand.hear(accept(B, 2, 7))
    hand.snapshot()
    hand.hear(accept(C, 2, taken.index))
    assert len(hand.told(Install, C)) == 1
    assert owner.open_readers == 1


def test_who_is_removed_while_it_is_sent_a_snapshot_is_given_up_and_it_is_closed() -> None:
    """Rules 18 and 25."""
    hand, owner, taken = leader_with_readers()
    hand.change("c1", C, add=False)
    hand.hear(accept(B, 2, 7))
    assert hand.raft.commit_index == 7
    hand.hear(holds(C, 2, taken, 0))
    assert hand.told(Install, C)
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(accept(B, 2, 7))
    assert not hand.told(Append, C)
    assert owner.open_readers == 0


def test_who_is_taken_in_again_while_it_is_sent_a_snapshot_is_sent_one_anew() -> None:
    """Rules 16 and 25: of two readers the first is closed."""
    hand, owner, taken = leader_with_readers()
    hand.change("c1", C, add=False)
    hand.hear(accept(B, 2, 7))
    hand.hear(holds(C, 2, taken, 0))
    hand.change("c2", C, add=True)
    hand.hear(reach_reply(C, belongs_to="here"))
    hand.hear(refuse(C, 2, 7))
    assert pieces(hand) == [(0, b"")]
    assert owner.open_readers == 1


# Rule 16: a new server behind the base.


def adding(state: bytes = STATE) -> tuple[Hand, Snapshot]:
    """A leads B and C, who have everything, and adds D, which has answered that it is free."""
    hand, taken = leader(state)
    hand.hear(accept(C, 2, 6))
    hand.change("c1", D, add=True)
    assert hand.told(Reach, D)
    hand.hear(reach_reply(D))
    hand.hear(refuse(D, 2, 6))
    return hand, taken


def test_a_new_server_is_sent_the_snapshot_before_it_gets_a_vote() -> None:
    """Rules 16 and 25."""
    hand, taken = adding()
    assert pieces(hand, D) == [(0, b"")]
    hand.hear(holds(D, 2, taken, 0))
    assert len(pieces(hand, D)) == 3
    assert hand.voters() == (A, B, C)
    hand.hear(accept(D, 2, 6))
    assert hand.voters() == (A, B, C, D)
    assert hand.answers["c1"] == Logged(7, 2)


def test_a_new_server_that_is_sent_a_snapshot_does_not_count() -> None:
    """Rule 16: neither with what it holds, nor as heard."""
    hand, taken = adding(LONG)
    hand.propose(b"x")
    for _ in range(15):
        hand.wait(0.1)
        hand.hear(holds(D, 2, taken, 0))
    assert hand.follows()
    assert hand.raft.commit_index == 6
    assert hand.refused("c1") == "no_leader"


def test_a_snapshot_that_takes_long_does_not_count_as_a_quick_round() -> None:
    """Rule 16: another round must show that the new server keeps up."""
    hand, taken = adding(LONG)
    for held in range(15):
        hand.wait(0.1)
        hand.hear(accept(B, 2, 6), accept(C, 2, 6), holds(D, 2, taken, held))
    hand.propose(b"x")
    hand.hear(accept(D, 2, 6))
    assert hand.voters() == (A, B, C)
    hand.hear(accept(D, 2, 7))
    assert hand.voters() == (A, B, C, D)


def test_a_new_server_that_falls_silent_in_a_snapshot_is_given_up() -> None:
    """Rule 16."""
    hand, taken = adding(LONG)
    hand.hear(holds(D, 2, taken, 0))
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(accept(B, 2, 6), accept(C, 2, 6))
    assert hand.refused("c1") == "catch_up_failed"
    assert hand.voters() == (A, B, C)
    hand.wait(0.1)
    assert not [message for peer, message in hand.sent if peer == D]


def test_a_new_server_that_takes_in_a_snapshot_slowly_is_not_given_up() -> None:
    """Rules 16 and 25."""
    hand, taken = adding(LONG)
    for held in range(0, 60, 4):
        hand.wait(0.9)
        hand.hear(accept(B, 2, 6), accept(C, 2, 6), holds(D, 2, taken, held))
    assert "c1" not in hand.answers
    assert pieces(hand, D)


def test_what_a_new_server_was_sent_is_closed_when_it_is_given_up() -> None:
    """Rules 16 and 25."""
    hand, owner, _ = leader_with_readers()
    hand.hear(accept(C, 2, 6))
    hand.change("c1", D, add=True)
    hand.hear(reach_reply(D))
    hand.hear(refuse(D, 2, 6))
    assert owner.open_readers == 1
    for _ in range(12):
        hand.wait(0.1)
        hand.hear(accept(B, 2, 6), accept(C, 2, 6))
    assert hand.refused("c1") == "catch_up_failed"
    assert owner.open_readers == 0


# Leadership, and servers that are sent a snapshot.


def test_leadership_is_handed_over_to_who_is_sent_a_snapshot_once_it_has_everything() -> None:
    """Rules 22 and 25."""
    hand, taken = leader()
    hand.transfer("t1", C)
    hand.hear(holds(C, 2, taken, 0))
    assert pieces(hand)
    hand.hear(accept(C, 2, 6))
    assert [type(m).__name__ for peer, m in hand.sent if peer == C][-1] == "TimeoutNow"
    hand.hear(append(C, 3, (6, 2)))
    assert hand.answers["t1"] == Done(C)


def test_the_next_leader_finds_out_how_far_everybody_is_with_its_snapshot() -> None:
    """Rules 12 and 25: nothing is known of what the leader before was told."""
    hand, taken = leader(LONG)
    hand.hear(holds(C, 2, taken, 40))
    hand.campaign()
    hand.hear(vote_reply(B, 3))
    hand.hear(accept(B, 3, 7), refuse(C, 3, 6))
    assert pieces(hand) == [(0, b"")]
    hand.hear(holds(C, 3, taken, 40))
    assert pieces(hand)[0] == (40, LONG[40:44])


def test_a_server_with_nothing_but_a_snapshot_asks_for_votes_and_is_elected() -> None:
    """Rules 3 and 23."""
    hand = Hand(options=CUT)
    hand.hear(install(B, 3, snapshot_of(9, 2), 0, b"state"))
    hand.wait(30)
    hand.wait(30)
    assert hand.told(PreVote, C)
    hand.hear(pre_vote_reply(C, 3, 4))
    hand.hear(vote_reply(C, 4))
    assert hand.leads()
    assert hand.raft.last_index == 10
