"""Rules 20 and 21, broken: reads that may be old.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.raft import Raft
from exraft.raft.follower import Follower, refuse_append
from exraft.raft.leader import Leader
from exraft.raft.reads import Reads
from tests.mutants.mutant import Mutant
from tests.raft import test_found_by_simulation as simulated
from tests.raft import test_reads as reads

MUTANTS = [
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
        20,
        "a leader that is leaving counts itself for reads",
        Reads.confirm,
        "if leader.votes:",
        "if True:",
        (reads.test_a_leader_that_has_left_does_not_count_itself_for_reads,),
    ),
    Mutant(
        20,
        "one answer confirms a read",
        Reads.confirm,
        "reached_by(self._raft.quorum, answered)",
        "max(answered[:-1], default=None)",
        (
            reads.test_a_read_is_confirmed_by_a_quorum_that_answers_its_round,
            reads.test_the_same_answer_twice_is_no_quorum,
        ),
    ),
    Mutant(
        20,
        "a round waits for the next heartbeat",
        Reads.flush,
        "progress.owed = True",
        "pass",
        (reads.test_one_round_serves_every_read_that_waits,),
    ),
    Mutant(
        20,
        "a read waits for what is committed when it arrives, and no more",
        Reads.flush,
        "raft.last_index, self._arrived",
        "raft.commit_index, self._arrived",
        (
            reads.test_no_read_is_answered_before_the_first_commit_of_the_term,
            reads.test_a_read_waits_for_the_entries_that_were_on_their_way_when_it_arrived,
        ),
    ),
    Mutant(
        20,
        "the number of a round outlives its term",
        Follower.enter_term,
        "self._round = 0",
        "pass",
        (simulated.test_the_number_of_a_read_round_does_not_outlive_its_term,),
    ),
    Mutant(
        20,
        "a follower does not answer a round",
        Follower.on_append,
        "self._round = max(self._round, message.round)",
        "pass",
        (
            simulated.test_the_number_of_a_read_round_does_not_outlive_its_term,
            reads.test_a_deposed_leader_never_answers_an_old_value_after_the_new_one_answered,
        ),
    ),
    Mutant(
        20,
        "an append carries no round",
        Leader._append_after,
        "self.reads.round",
        "0",
        (reads.test_a_read_is_confirmed_by_a_quorum_that_answers_its_round,),
    ),
    Mutant(
        20,
        "each round serves one read",
        Reads.flush,
        "self._rounds.append((self.round, raft.last_index, self._arrived))\n    self._arrived = []",
        "self._rounds.append((self.round, raft.last_index, self._arrived[:1]))\n"
        "    self._arrived = self._arrived[1:]",
        (reads.test_one_round_serves_every_read_that_waits,),
    ),
    Mutant(
        20,
        "a read is confirmed at the index of its leader's first entry",
        Reads.confirm,
        "Confirmed(index, tickets)",
        "Confirmed(1, tickets)",
        (reads.test_a_read_sees_what_was_committed_when_its_round_began,),
    ),
    Mutant(
        20,
        "a confirmed read that waited for a commit goes on waiting",
        Leader._commit,
        "self.reads.confirm()",
        "pass",
        (reads.test_a_read_that_waited_for_the_first_commit_is_answered_with_it,),
    ),
    Mutant(
        20,
        "an answer of a round that is over takes one back",
        Leader.on_append_reply,
        "if message.round > progress.round:",
        "if message.round != progress.round:",
        (
            reads.test_a_read_that_waited_for_the_first_commit_is_answered_with_it,
            reads.test_a_read_waits_for_the_entries_that_were_on_their_way_when_it_arrived,
        ),
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
        21,
        "a leader that is told to campaign keeps the reads that wait",
        Raft.become_candidate,
        "left.abdicate()",
        "pass",
        (reads.test_a_leader_that_is_told_to_campaign_refuses_the_reads_that_wait,),
    ),
    Mutant(
        21,
        "a deposed leader keeps the reads that wait",
        Raft.become_follower,
        "left.abdicate()",
        "pass",
        (reads.test_a_deposed_leader_redirects_the_reads_that_wait,),
    ),
    Mutant(
        21,
        "reads that no round has begun for are forgotten",
        Reads.tickets,
        " + self._arrived",
        "",
        (reads.test_a_deposed_leader_redirects_the_reads_that_wait,),
    ),
    Mutant(
        21,
        "a follower answers no read at all",
        Raft.read,
        "self.answer(ticket, self.refusal())",
        "pass",
        (reads.test_a_read_of_a_follower_is_redirected,),
    ),
]
