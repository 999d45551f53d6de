"""The rules of consensus, each broken on purpose: what a careless change could do to the core.

Knows, for each rule, a piece of `exraft.raft` that keeps it, what it would be if somebody got it
wrong, and which tests must notice. Must not know how the tests are run: that is `test_mutants`.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType

from exraft.raft import Raft
from exraft.raft.candidate import Candidate
from exraft.raft.config import quorum
from exraft.raft.follower import Follower, refuse_append
from exraft.raft.leader import Leader
from exraft.raft.membership import Membership
from exraft.raft.progress import Progress
from exraft.raft.reads import Reads
from exraft.raft.transfer import Transfer
from exraft.raft.voting import _deserves_vote, answer_pre_vote, answer_vote
from exraft.storage import LentStore
from tests.raft import test_hand_over as hand_over
from tests.raft import test_log as log
from tests.raft import test_membership as membership
from tests.raft import test_reads as reads
from tests.raft import test_restart_and_return as restart
from tests.raft import test_votes_and_terms as votes


@dataclass(frozen=True)
class Mutant:
    """One rule, broken in one place."""

    rule: int
    what: str
    """What is wrong with it."""
    where: object
    """A function, a method or a property of the core."""
    right: str
    """A piece of its source, which stands in it once."""
    wrong: str
    """What to put there instead."""
    caught_by: tuple[Callable[[], None], ...]

    def target(self) -> FunctionType:
        return _plain(self.where)

    def code(self) -> CodeType:
        """The function's code with the wrong piece in it."""
        function = self.target()
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.right) == 1, f"{function.__qualname__} has no {self.right!r}"
        source = source.replace(self.right, self.wrong)
        scope = dict(function.__globals__)
        # Compiled with this module's own future: annotations stay unevaluated.
        exec(compile(source, f"<{self.what}>", "exec"), scope)
        return _plain(scope[function.__name__]).__code__


def _plain(where: object) -> FunctionType:
    function = where.fget if isinstance(where, property) else where
    assert isinstance(function, FunctionType)
    return function


MUTANTS = [
    Mutant(
        1,
        "half of the voters are a quorum, as in ExRaft 0.2",
        quorum,
        "len(config.voters) // 2 + 1",
        "-(-len(config.voters) // 2)",
        (
            votes.test_neither_half_of_four_servers_has_a_leader_or_commits,
            votes.test_neither_of_two_servers_leads_or_commits_alone,
            votes.test_a_fresh_cluster_of_four_split_in_halves_never_elects,
        ),
    ),
    Mutant(
        1,
        "min_majority does not raise the quorum",
        quorum,
        ", min_majority)",
        ", 1)",
        (votes.test_min_majority_raises_the_quorum_of_votes_and_of_commits,),
    ),
    Mutant(
        2,
        "promises leave before they are stored",
        Raft.send,
        "out.late",
        "out.early",
        (
            votes.test_a_vote_is_stored_before_it_is_given,
            votes.test_entries_are_stored_before_they_are_acknowledged,
            votes.test_a_truncation_is_stored_before_it_is_acknowledged,
            votes.test_a_new_term_is_stored_before_a_vote_in_it_is_refused,
            votes.test_a_new_term_is_stored_before_an_append_in_it_is_refused,
        ),
    ),
    Mutant(
        2,
        "a candidate counts its own vote before it is stored",
        Candidate.begin,
        "raft = self._raft\n",
        "raft = self._raft\n    self._votes[raft.me] = raft.store.store_id\n",
        (votes.test_a_candidate_counts_its_own_vote_only_once_it_is_stored,),
    ),
    Mutant(
        3,
        "the vote is forgotten on stepping down within the term, as in ExRaft 0.2",
        Raft.become_follower,
        "if term > self.term:",
        "if term >= self.term:",
        (
            votes.test_a_candidate_that_steps_down_in_its_term_has_voted_for_itself,
            votes.test_a_leader_that_steps_down_in_its_term_has_voted_for_itself,
        ),
    ),
    Mutant(
        3,
        "the vote is forgotten over a restart",
        LentStore.__init__,
        "self.voted_for = before.voted_for",
        "pass",
        (votes.test_a_vote_is_kept_over_a_restart,),
    ),
    Mutant(
        3,
        "whoever asks gets a vote, also a second one of the term",
        answer_vote,
        "and raft.store.voted_for in (None, message.sender)",
        "",
        (votes.test_a_second_candidate_of_a_term_gets_no_vote,),
    ),
    Mutant(
        3,
        "a vote is given in a term that is over",
        answer_vote,
        "and message.term == raft.term",
        "",
        (votes.test_a_candidate_of_an_earlier_term_gets_no_vote,),
    ),
    Mutant(
        3,
        "the longer log gets the vote, whatever its last term",
        _deserves_vote,
        "(message.last_term, message.last_index) >= (raft.last_term, raft.last_index)",
        "message.last_index >= raft.last_index",
        (
            votes.test_a_log_that_ends_in_an_older_term_gets_no_vote_however_long_it_is,
            votes.test_a_shorter_log_of_a_later_term_gets_the_vote,
            votes.test_a_pre_vote_is_refused_to_an_older_log,
        ),
    ),
    Mutant(
        3,
        "a vote that comes twice counts twice",
        Candidate._count,
        "self._votes[voter] = store",
        "self._votes[voter._replace(node=str(len(self._votes)))] = store",
        (votes.test_a_vote_that_comes_twice_counts_once,),
    ),
    Mutant(
        4,
        "a pre-vote changes the term",
        answer_pre_vote,
        "    raft.send(",
        "    raft.become_follower(max(raft.term, message.term), None)\n    raft.send(",
        (votes.test_a_pre_vote_changes_neither_term_nor_vote_nor_timer,),
    ),
    Mutant(
        4,
        "pre-votes are given against a live leader",
        answer_pre_vote,
        "and not raft.hears_leader(message.sender)",
        "",
        (
            votes.test_a_pre_vote_is_refused_as_long_as_a_live_leader_was_heard_lately,
            votes.test_a_leader_refuses_pre_votes,
        ),
    ),
    Mutant(
        4,
        "followers hold to no leader",
        Raft.hears_leader,
        "self.leader not in (None, besides)",
        "False",
        (votes.test_a_leader_stays_when_one_follower_hears_only_the_other_follower,),
    ),
    Mutant(
        4,
        "a follower holds to a leader that asks it for its vote",
        Raft.hears_leader,
        "self.leader not in (None, besides)",
        "self.leader is not None",
        (votes.test_a_follower_grants_its_leader_a_pre_vote_as_it_surely_leads_no_more,),
    ),
    Mutant(
        4,
        "a request for votes deposes a live leader",
        answer_vote,
        "message.force or not raft.hears_leader(message.sender)",
        "True",
        (
            votes.test_a_vote_is_refused_without_its_term_while_a_live_leader_is_heard,
            votes.test_a_leader_refuses_a_vote_without_taking_its_term,
        ),
    ),
    Mutant(
        4,
        "force does not pass a live leader",
        answer_vote,
        "message.force or not raft.hears_leader(message.sender)",
        "not raft.hears_leader(message.sender)",
        (
            votes.test_the_force_of_a_triggered_election_passes_a_live_leader,
            hand_over.test_the_target_wins_although_everyone_hears_a_live_leader,
        ),
    ),
    Mutant(
        4,
        "there is no pre-vote",
        Follower.canvass,
        "if raft.alone:",
        "if True:",
        (
            votes.test_asking_for_pre_votes_changes_no_term,
            votes.test_a_server_that_was_cut_off_comes_back_without_deposing_anyone,
        ),
    ),
    Mutant(
        4,
        "an append of a lower term is dropped without an answer",
        Raft._on_append,
        "self.send(message.sender, refuse_append(self, message))",
        "pass",
        (
            votes.test_an_append_of_a_lower_term_is_answered_with_the_higher_one,
            votes.test_a_server_that_comes_back_with_a_higher_term_is_not_stuck,
        ),
    ),
    Mutant(
        4,
        "the higher term of a refused pre-vote is not taken",
        Raft._on_pre_vote_reply,
        "not message.granted and message.term > self.term",
        "False",
        (votes.test_who_asks_for_a_pre_vote_takes_the_higher_term_of_a_refusal,),
    ),
    Mutant(
        5,
        "a leader that hears nobody goes on",
        Leader._hears_quorum,
        "return False",
        "return True",
        (
            votes.test_a_leader_that_hears_no_quorum_for_an_election_timeout_steps_down,
            votes.test_a_leader_that_was_cut_off_stops_answering,
            votes.test_a_leader_that_is_heard_but_hears_nobody_is_replaced,
            votes.test_a_leader_is_found_when_only_one_server_still_reaches_a_quorum,
        ),
    ),
    Mutant(
        6,
        "the election timeout is always the same",
        Raft.election_timeout,
        "self.rng.uniform(\n        self.options.min_election_timeout, "
        "self.options.max_election_timeout\n    )",
        "self.options.max_election_timeout",
        (votes.test_the_election_timeout_is_drawn_anew_for_each_wait,),
    ),
    Mutant(
        6,
        "the first leader is waited for as long as any",
        Raft.election_timeout,
        "not self.ever_led",
        "False",
        (
            votes.test_until_a_leader_was_heard_of_the_wait_is_one_to_three_heartbeats,
            votes.test_a_fresh_cluster_has_its_leader_within_half_a_second,
        ),
    ),
    Mutant(
        6,
        "split votes are retried after a whole election timeout",
        Candidate.__init__,
        "raft.retry_timeout()",
        "raft.election_timeout()",
        (votes.test_after_a_split_vote_a_server_asks_again_at_that_pace,),
    ),
    Mutant(
        7,
        "a follower cuts its log to what the append holds",
        Follower.on_append,
        "    entries = message.entries\n",
        "    entries = message.entries\n"
        "    if prev + len(entries) < store.last_index:\n"
        "        raft.truncate(prev + len(entries) + 1)\n",
        (
            log.test_a_follower_keeps_its_entries_when_a_shorter_append_arrives_late,
            log.test_a_follower_keeps_its_entries_when_an_old_heartbeat_arrives_late,
        ),
    ),
    Mutant(
        7,
        "a follower keeps entries that conflict",
        Follower.on_append,
        "raft.truncate(new)\n                break",
        "pass",
        (log.test_entries_are_deleted_from_the_first_whose_term_conflicts,),
    ),
    Mutant(
        8,
        "a follower commits whatever its leader has committed",
        Follower.on_append,
        "min(message.commit, verified)",
        "min(message.commit, store.last_index)",
        (log.test_a_follower_commits_no_more_than_the_append_vouched_for,),
    ),
    Mutant(
        8,
        "a follower acknowledges its whole log",
        Follower.on_append,
        "max(self._verified, verified)",
        "store.last_index",
        (log.test_a_follower_acknowledges_what_was_verified_and_not_its_whole_log,),
    ),
    Mutant(
        8,
        "the commit index goes back",
        Raft.set_commit,
        "if index > self.store.commit_index:",
        "if True:",
        (log.test_a_commit_index_never_goes_back,),
    ),
    Mutant(
        9,
        "entries of older terms are committed by counting, as in ExRaft 0.2",
        Leader._commit,
        "or raft.store.term_at(index) != raft.term",
        "",
        (
            log.test_a_leader_commits_no_entry_of_an_older_term_by_counting,
            log.test_figure_8_no_entry_is_overwritten_after_it_was_acknowledged,
        ),
    ),
    Mutant(
        9,
        "a new leader writes nothing before it is asked to",
        Raft.become_leader,
        "self.append([config_entry(self.term, named.with_stores(stores))])",
        "named.with_stores(stores)",
        (log.test_a_new_leader_at_once_writes_the_full_configuration_in_its_own_term,),
    ),
    Mutant(
        10,
        "a leader counts what it has not stored",
        Leader._commit,
        "stored.append(raft.durable_index)",
        "stored.append(raft.last_index)",
        (log.test_a_leader_counts_itself_only_once_its_entries_are_stored,),
    ),
    Mutant(
        10,
        "a late word of the store counts for entries that were replaced",
        Raft.stored,
        "self.store.term_at(mark.last_index) == mark.last_term",
        "True",
        (log.test_a_late_stored_for_entries_that_were_replaced_meanwhile_counts_for_nothing,),
    ),
    Mutant(
        10,
        "what was truncated still counts as stored",
        Raft.truncate,
        "self.durable_index = min(self.durable_index, first - 1)",
        "pass",
        (log.test_what_was_stored_and_then_truncated_is_not_stored_any_more,),
    ),
    Mutant(
        11,
        "the match is looked for one index at a time",
        Progress.refused,
        "min(index, may_fit + 1)",
        "index",
        (
            log.test_a_follower_that_lacks_much_is_caught_up_after_one_refusal,
            log.test_a_follower_with_a_long_tail_of_another_term_is_caught_up_after_two_refusals,
            log.test_a_refusal_costs_a_term_and_not_an_index,
        ),
    ),
    Mutant(
        12,
        "votes of earlier terms count",
        Raft._on_vote_reply,
        "and message.term == self.term",
        "",
        (log.test_a_late_vote_of_an_earlier_term_does_not_count,),
    ),
    Mutant(
        12,
        "pre-votes for earlier terms count",
        Follower.on_pre_vote_reply,
        "or message.asked != raft.term + 1",
        "",
        (log.test_a_pre_vote_that_was_given_for_an_earlier_term_does_not_count,),
    ),
    Mutant(
        12,
        "acknowledgements of earlier terms count",
        Raft._on_append_reply,
        "message.term == self.term",
        "True",
        (
            log.test_an_acknowledgement_of_an_earlier_term_does_not_count,
            reads.test_an_answer_of_an_earlier_term_does_not_confirm_a_read,
        ),
    ),
    Mutant(
        12,
        "an old refusal takes back what was acknowledged",
        Progress.refused,
        "    if index <= self.match or (self.probing and index != self.next - 1):\n        return\n"
        "    self.next = max(min(index, may_fit + 1), self.match + 1)",
        "    self.match = min(self.match, index)\n    self.next = min(index, may_fit + 1)",
        (log.test_an_old_refusal_takes_back_nothing_that_was_acknowledged,),
    ),
    Mutant(
        13,
        "a leader that can't apply its log leads on",
        Raft.halt,
        "if self.state is not Role.FOLLOWER:",
        "if False:",
        (log.test_a_leader_that_cannot_apply_its_log_stops_leading,),
    ),
    Mutant(
        13,
        "a server that can't apply its log campaigns",
        Raft.may_campaign,
        "self.standby or self.halted",
        "self.standby",
        (log.test_a_server_that_cannot_apply_its_log_never_campaigns,),
    ),
    Mutant(
        14,
        "a follower that was stalled campaigns at once",
        Follower.tick,
        "and not self._forgiven",
        "and False",
        (log.test_a_follower_that_was_stalled_gives_its_leader_a_moment_before_it_campaigns,),
    ),
    Mutant(
        14,
        "a leader that was stalled steps down at once",
        Leader.tick,
        "late > raft.options.heartbeat_timeout",
        "False",
        (log.test_a_leader_that_was_stalled_asks_before_it_believes_that_it_is_cut_off,),
    ),
    Mutant(
        15,
        "a configuration holds only once it is committed",
        Raft.config,
        "return self.configs[-1][1]",
        "return [c for i, c in self.configs if i <= self.commit_index][-1]",
        (
            membership.test_a_configuration_holds_as_soon_as_it_is_appended,
            membership.test_one_entry_makes_a_server_that_has_caught_up_a_voter,
        ),
    ),
    Mutant(
        15,
        "a truncated configuration stays in force",
        Raft.truncate,
        "while self.configs[-1][0] >= first:",
        "while False:",
        (
            membership.test_when_a_configuration_is_truncated_the_one_before_holds_again,
            membership.test_when_the_first_configuration_is_truncated_the_founders_hold_again,
        ),
    ),
    Mutant(
        15,
        "a change waits for no commit of the term: the 2015 single-server bug",
        Membership._settled,
        "return raft.committed_in_term and raft.config_index <= raft.commit_index",
        "return True",
        (
            membership.test_no_change_is_logged_before_an_entry_of_the_term_is_committed,
            membership.test_the_2015_single_server_bug_commits_nothing_twice,
        ),
    ),
    Mutant(
        15,
        "several changes are under way at once",
        Membership._under_way,
        "return self._addition is not None or self._asked_index > self._raft.commit_index",
        "return False",
        (membership.test_a_change_is_refused_while_a_server_is_being_caught_up,),
    ),
    Mutant(
        15,
        "the id of a store is recorded while an addition is under way",
        Membership.flush,
        "recordable = self._addition is None and self._leader.transfer.to is None",
        "recordable = True",
        (membership.test_no_second_configuration_is_logged_while_one_is_not_committed,),
    ),
    Mutant(
        16,
        "a new server is a voter as soon as it was reached",
        Membership._catch_up,
        "addition.round_ends = raft.last_index",
        "self._addition = None\n"
        "    with_it = raft.config.with_voter(addition.peer, addition.store)\n"
        "    self._log_for(addition.request, with_it)",
        (
            membership.test_a_new_server_is_caught_up_outside_the_configuration,
            membership.test_a_server_that_falls_silent_while_it_catches_up_is_not_added,
        ),
    ),
    Mutant(
        16,
        "a server becomes voter however long its round took",
        Membership.on_progress,
        "raft.now - addition.round_began < raft.options.min_election_timeout",
        "True",
        (
            membership.test_a_server_becomes_voter_only_after_a_round_shorter_than_an_election_timeout,
        ),
    ),
    Mutant(
        16,
        "catching up is never given up",
        Membership.on_progress,
        "addition.rounds == MAX_ROUNDS",
        "False",
        (membership.test_after_ten_rounds_a_server_is_not_added,),
    ),
    Mutant(
        16,
        "a server that was removed campaigns",
        Raft.may_campaign,
        "return removed and self._votes_in(self.configs[0][1])",
        "return True",
        (
            membership.test_a_server_outside_its_own_newest_configuration_never_campaigns,
            membership.test_a_removed_server_hears_of_it_and_stops_campaigning,
            hand_over.test_a_hand_over_is_taken_by_voters_only,
        ),
    ),
    Mutant(
        16,
        "a server whose removal is not committed never campaigns",
        Raft.may_campaign,
        "return removed and self._votes_in(self.configs[0][1])",
        "return False",
        (membership.test_a_leader_is_found_when_only_the_removed_server_has_the_removal,),
    ),
    Mutant(
        17,
        "messages of other clusters are taken",
        Raft._is_foreign,
        "return bool(message.cluster) or isinstance(message, Append)",
        "return False",
        (membership.test_messages_of_another_cluster_are_dropped,),
    ),
    Mutant(
        17,
        "who knows its cluster obeys a leader that names none",
        Raft._is_foreign,
        "or isinstance(message, Append)",
        "",
        (membership.test_a_leader_of_a_cluster_without_an_id_is_not_obeyed_by_who_has_one,),
    ),
    Mutant(
        17,
        "a server of another cluster is added",
        Membership.on_reach_reply,
        "if message.belongs_to and message.belongs_to != config.cluster:",
        "if False:",
        (membership.test_a_server_of_another_cluster_is_not_added,),
    ),
    Mutant(
        17,
        "a tentative id keeps founders apart",
        Raft.become_leader,
        "    self.append(",
        "    self.cluster = cluster\n    self.append(",
        (membership.test_while_a_cluster_is_founded_two_tentative_ids_do_not_keep_it_apart,),
    ),
    Mutant(
        18,
        "a leader that removes itself counts itself",
        Leader.follow_config,
        "self.votes = raft.is_voter",
        "self.votes = True",
        (
            membership.test_a_leader_that_removes_itself_does_not_count_itself,
            reads.test_a_leader_that_is_leaving_does_not_count_itself_for_reads,
        ),
    ),
    Mutant(
        18,
        "a leader that removed itself leads on",
        Membership.on_commit,
        "leader.transfer.retire()",
        "pass",
        (
            membership.test_a_leader_that_removed_itself_takes_no_commands_any_more,
            membership.test_a_leader_that_removed_itself_steps_down_even_if_nobody_takes_over,
            membership.test_a_cluster_whose_leader_removes_itself_has_the_next_within_a_moment,
        ),
    ),
    Mutant(
        18,
        "leadership goes to the least up-to-date voter",
        Transfer.best,
        "(progress.heard > lately, progress.match) > merit",
        "best is None or (progress.heard > lately, progress.match) < merit",
        (
            membership.test_a_leader_that_removed_itself_hands_over_to_the_most_up_to_date_voter,
            hand_over.test_leadership_goes_to_the_most_up_to_date_voter_if_nobody_is_named,
        ),
    ),
    Mutant(
        18,
        "a removed server never hears of it",
        Membership._log,
        "self._leaving[peer] = (raft.config_index, until)",
        "del leader.peers[peer]",
        (
            membership.test_a_removed_server_hears_of_it_and_stops_campaigning,
            membership.test_a_removed_server_is_replicated_to_until_it_has_the_committed_removal,
        ),
    ),
    Mutant(
        19,
        "appends are taken from members only",
        Raft._on_append,
        "if message.term < self.term:",
        "if message.term < self.term or message.sender not in self.config.members():",
        (membership.test_a_server_takes_appends_of_a_leader_that_its_configuration_does_not_name,),
    ),
    Mutant(
        19,
        "votes are given to members only",
        _deserves_vote,
        "message.config <= raft.config_place",
        "message.sender not in raft.config.voters or message.config <= raft.config_place",
        (membership.test_a_server_votes_for_a_candidate_that_its_configuration_does_not_name,),
    ),
    Mutant(
        19,
        "votes of anybody count",
        Candidate.on_vote_reply,
        "and message.sender in raft.config.voters",
        "",
        (membership.test_a_candidate_does_not_count_votes_from_outside_its_configuration,),
    ),
    Mutant(
        19,
        "whoever is replicated to is counted",
        Leader._commit,
        "for progress in self.voters if",
        "for progress in self.peers.values() if",
        (membership.test_a_removed_server_is_not_counted_while_it_is_still_replicated_to,),
    ),
    Mutant(
        29,
        "a new store counts as the member's if nobody knew the old one",
        Leader._is_known,
        "not known and not message.standby",
        "not known",
        (restart.test_a_new_store_counts_for_nothing_even_if_nobody_knew_the_members_old_one,),
    ),
    Mutant(
        29,
        "a new store is a member already if nobody knew the old one",
        Membership.on_reach_reply,
        "and not message.standby",
        "",
        (
            restart.test_a_new_store_is_taken_in_in_two_steps_even_if_nobody_knew_the_members_old_one,
        ),
    ),
    Mutant(
        20,
        "reads are answered without a round",
        Reads.flush,
        "self.confirm()",
        "raft.out.confirmed.append(Confirmed(raft.commit_index, self._rounds.pop()[2]))",
        (
            reads.test_a_read_is_not_answered_without_a_round,
            reads.test_a_deposed_leader_never_answers_an_old_value_after_the_new_one_answered,
        ),
    ),
    Mutant(
        20,
        "a round that began before the read serves it as well",
        Reads.flush,
        "self.round += 1",
        "self.round += not self._rounds",
        (reads.test_a_round_that_started_before_the_read_arrived_does_not_confirm_it,),
    ),
    Mutant(
        20,
        "a read does not wait for the first commit of the term, nor for what is on its way",
        Reads.confirm,
        "and self._rounds[0][1] <= committed",
        "",
        (
            reads.test_no_read_is_answered_before_the_first_commit_of_the_term,
            reads.test_a_read_waits_for_the_entries_that_were_on_their_way_when_it_arrived,
        ),
    ),
    Mutant(
        20,
        "a refused append answers no round",
        Leader.on_append_reply,
        "if message.round > progress.round:",
        "if message.accepted and message.round > progress.round:",
        (reads.test_a_refused_append_of_the_same_term_answers_a_round,),
    ),
    Mutant(
        20,
        "an append of an earlier term is answered with its round",
        refuse_append,
        "message.round if message.term == raft.term else 0",
        "message.round",
        (
            reads.test_a_follower_that_refuses_an_append_of_an_earlier_term_answers_no_round,
            reads.test_a_late_append_of_a_leaders_earlier_term_confirms_no_read_of_its_later_one,
        ),
    ),
    Mutant(
        20,
        "learners and leavers confirm reads",
        Reads.confirm,
        "for progress in leader.voters if",
        "for progress in leader.peers.values() if",
        (reads.test_servers_outside_the_configuration_confirm_no_read,),
    ),
    Mutant(
        20,
        "a round waits for the one before it",
        Reads.confirm,
        "while self._rounds and self._rounds[0][0] <= confirmed",
        "while self._rounds and self._rounds[0][0] == confirmed",
        (reads.test_a_later_round_does_not_wait_for_an_unanswered_earlier_one,),
    ),
    Mutant(
        21,
        "a deposed leader answers from its state",
        Reads.abdicate,
        "self._raft.answer(ticket, refusal)",
        "self._raft.out.confirmed.append(Confirmed(self._raft.commit_index, [ticket]))",
        (
            reads.test_a_deposed_leader_redirects_the_reads_that_wait,
            reads.test_a_leader_that_is_told_to_campaign_refuses_the_reads_that_wait,
            reads.test_a_deposed_leader_never_answers_an_old_value_after_the_new_one_answered,
        ),
    ),
    Mutant(
        22,
        "the target is told before it has the whole log",
        Transfer.flush,
        "if self._leader.peers[self.to].match == raft.last_index:",
        "if True:",
        (hand_over.test_the_target_is_told_once_it_has_the_leaders_last_entry,),
    ),
    Mutant(
        22,
        "commands are taken while leadership is handed over",
        Leader.propose,
        "if self.transfer.to is not None:",
        "if False:",
        (hand_over.test_new_commands_are_refused_while_leadership_is_handed_over,),
    ),
    Mutant(
        22,
        "a pending change is not waited for",
        Transfer.flush,
        "if raft.config_index > raft.commit_index:",
        "if False:",
        (hand_over.test_a_target_is_not_told_while_a_change_waits_for_others,),
    ),
    Mutant(
        22,
        "anyone's word to take over is taken",
        Raft._on_timeout_now,
        "and message.sender == self.leader",
        "",
        (hand_over.test_a_hand_over_is_not_taken_from_who_does_not_lead,),
    ),
    Mutant(
        22,
        "a word to take over is taken in a later term",
        Raft._on_timeout_now,
        "and message.term == self.term",
        "",
        (hand_over.test_a_hand_over_is_not_taken_from_an_earlier_term,),
    ),
    Mutant(
        22,
        "a hand-over is never given up",
        Transfer.tick,
        "raft.now < self._deadline",
        "True",
        (hand_over.test_a_hand_over_is_given_up_after_an_election_timeout_and_the_leader_goes_on,),
    ),
    Mutant(
        26,
        "the commit index is lost with the life",
        LentStore.__init__,
        "self.commit_index = before.commit_index",
        "pass",
        (
            restart.test_a_restarted_server_has_its_commit_index_again,
            restart.test_a_restarted_server_knows_its_cluster_again,
        ),
    ),
    Mutant(
        27,
        "a leader that crashed does not lead on",
        Raft.__init__,
        "if resume and store.leads and self.is_voter:",
        "if False:",
        (
            restart.test_a_leader_that_is_restarted_in_its_term_leads_on_in_it,
            restart.test_a_leader_crashed_in_mid_traffic_leads_on_and_loses_nothing,
        ),
    ),
    Mutant(
        27,
        "read rounds begin anew with each life",
        Reads.__init__,
        "raft.store.incarnation << INCARNATION_BITS",
        "0",
        (restart.test_read_rounds_do_not_repeat_within_a_term_over_a_restart,),
    ),
    Mutant(
        27,
        "who stepped down leads on after a restart",
        Raft.become_follower,
        "elif self.store.leads:",
        "elif False:",
        (restart.test_a_leader_that_stepped_down_does_not_lead_on_when_restarted,),
    ),
    Mutant(
        27,
        "who is no voter leads on",
        Raft.__init__,
        "if resume and store.leads and self.is_voter:",
        "if resume and store.leads:",
        (restart.test_a_leader_that_is_no_voter_any_more_does_not_lead_on,),
    ),
    Mutant(
        27,
        "a life that was given up for dead still writes",
        LentStore._check,
        "if self.fenced:",
        "if False:",
        (restart.test_a_life_that_was_given_up_for_dead_writes_nothing_any_more,),
    ),
    Mutant(
        28,
        "any server's death counts",
        Raft.leader_gone,
        "and self.leader == peer",
        "",
        (
            restart.test_the_death_of_a_server_that_does_not_lead_changes_nothing,
            restart.test_the_death_of_an_earlier_leader_changes_nothing,
        ),
    ),
    Mutant(
        28,
        "a leader's death does not clear its stickiness",
        Raft.leader_gone,
        "self.leader = None\n        self.leader_heard = -NEVER\n",
        "",
        (restart.test_a_follower_whose_leader_died_for_good_grants_pre_votes_and_votes,),
    ),
    Mutant(
        28,
        "after a leader's death an election timeout is waited for",
        Raft.leader_gone,
        "self.role.hurry()",
        "pass",
        (
            restart.test_a_follower_that_learns_of_its_leaders_death_asks_for_votes_at_once,
            restart.test_a_leader_that_dies_for_good_is_replaced_without_waiting_for_a_timeout,
        ),
    ),
    Mutant(
        29,
        "a member is known by its name alone",
        Raft.knows_as_member,
        "if recorded and recorded != store:",
        "if False:",
        (
            restart.test_votes_from_another_store_than_the_members_do_not_count,
            restart.test_pre_votes_from_another_store_than_the_members_do_not_count,
            restart.test_a_candidate_with_another_store_than_the_members_gets_no_vote,
            restart.test_a_member_that_lost_its_store_cannot_help_to_forget_a_write,
        ),
    ),
    Mutant(
        29,
        "acknowledgements count whatever store they come from",
        Leader._is_known,
        "if known == message.store:",
        "if known:",
        (
            restart.test_acknowledgements_from_another_store_than_the_members_do_not_count,
            restart.test_what_a_member_acknowledged_counts_no_more_when_its_store_is_lost,
            restart.test_a_member_with_another_store_does_not_keep_a_leader_in_office,
        ),
    ),
    Mutant(
        29,
        "a new store under a member's name votes",
        _deserves_vote,
        "if raft.standby",
        "if False",
        (restart.test_a_new_store_under_a_members_name_neither_votes_nor_campaigns,),
    ),
    Mutant(
        29,
        "an old record of a member's store is held against its new one",
        _deserves_vote,
        "message.config <= raft.config_place and",
        "",
        (restart.test_a_member_that_was_taken_in_again_is_elected_by_who_did_not_hear_of_it,),
    ),
    Mutant(
        29,
        "who is taken out for its new store campaigns as if it were still the member",
        Raft._votes_in,
        'and config.store_of(self.me) in ("", self.store.store_id)',
        "",
        (restart.test_a_new_store_does_not_campaign_in_the_place_of_the_one_that_was_lost,),
    ),
    Mutant(
        29,
        "the ids of stores are not recorded",
        Leader._is_known,
        "self.membership.on_store_known()",
        "pass",
        (restart.test_the_ids_of_stores_are_recorded_as_soon_as_they_are_known,),
    ),
    Mutant(
        29,
        "a name with a new store is taken for the member",
        Membership.on_reach_reply,
        "elif config.store_of(addition.peer) == message.store or (",
        "elif True or (",
        (
            restart.test_a_name_that_came_back_with_a_new_store_is_taken_in_again_in_two_steps,
            restart.test_a_member_that_lost_its_store_is_added_again_and_then_counts,
        ),
    ),
]
