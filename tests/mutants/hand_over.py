"""Rule 22, broken: leadership that is handed over.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.raft import Raft
from exraft.raft.leader import Leader
from exraft.raft.membership import Membership
from exraft.raft.transfer import Transfer
from tests.mutants.mutant import Mutant
from tests.raft import test_found_by_simulation as found
from tests.raft import test_hand_over as hand_over
from tests.raft import test_membership as membership

MUTANTS = [
    Mutant(
        22,
        "the target is told before it has the whole log",
        Transfer.flush,
        "if self._has_all(self.to):",
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
        22,
        "a second hand-over takes the place of the first",
        Transfer.ask,
        "if self.to is not None:",
        "if False:",
        (hand_over.test_a_second_hand_over_is_refused_while_one_is_under_way,),
    ),
    Mutant(
        22,
        "a target that was removed is told all the same",
        Transfer.flush,
        "if self.to not in raft.config.voters:",
        "if False:",
        (hand_over.test_a_target_that_is_removed_meanwhile_does_not_take_over,),
    ),
    Mutant(
        22,
        "who does not vote takes over",
        Raft._on_timeout_now,
        "and self.may_campaign",
        "",
        (hand_over.test_a_hand_over_is_taken_by_voters_only,),
    ),
    Mutant(
        22,
        "the target campaigns without force",
        Raft._on_timeout_now,
        "force=True",
        "force=False",
        (
            hand_over.test_a_voter_that_its_leader_tells_to_campaigns_at_once_and_by_force,
            hand_over.test_the_target_wins_although_everyone_hears_a_live_leader,
        ),
    ),
    Mutant(
        22,
        "a target that did not hear is not told again",
        Transfer.tick,
        "if self._told and self._has_all(self.to):\n            self._tell()",
        "pass",
        (hand_over.test_a_told_target_that_hears_nothing_is_told_again,),
    ),
    Mutant(
        22,
        "a target that lacks what was logged since is told again",
        Transfer.tick,
        "and self._has_all(self.to)",
        "",
        (found.test_a_target_is_not_told_again_before_it_has_what_was_logged_since,),
    ),
    Mutant(
        22,
        "the target is told without the term",
        Transfer._tell,
        "raft.me, raft.term)",
        "raft.me, 0)",
        (hand_over.test_the_target_is_told_once_it_has_the_leaders_last_entry,),
    ),
    Mutant(
        22,
        "the caller is told that another leads whoever was elected",
        Transfer.abdicate,
        "Done(raft.leader) if self._told else raft.refusal()",
        "Done(raft.leader)",
        (hand_over.test_the_caller_hears_if_another_server_was_elected_before_the_target_was_told,),
    ),
    Mutant(
        22,
        "the caller does not hear that another leads",
        Transfer.abdicate,
        "raft.answer(self._ticket, Done(raft.leader) if self._told else raft.refusal())",
        "pass",
        (hand_over.test_the_caller_hears_that_another_leads,),
    ),
    Mutant(
        22,
        "after a hand-over that failed commands are refused for ever",
        Transfer._refuse,
        "to, self.to = self.to, None",
        "to = self.to",
        (hand_over.test_a_hand_over_is_given_up_after_an_election_timeout_and_the_leader_goes_on,),
    ),
    Mutant(
        22,
        "leadership is handed to who does not vote",
        Transfer.ask,
        "elif to not in raft.config.voters:",
        "elif to not in self._leader.peers:",
        (hand_over.test_a_target_that_a_pending_change_removes_does_not_take_over,),
    ),
    Mutant(
        22,
        "a leader hands over to itself",
        Transfer.ask,
        "Done(raft.me)",
        'Refusal("transfer_failed", to)',
        (hand_over.test_handing_over_to_the_leader_itself_is_done_at_once,),
    ),
    Mutant(
        22,
        "the ids of stores are recorded while leadership is handed over",
        Membership.flush,
        "self._addition is None and self._leader.transfer.to is None",
        "self._addition is None",
        (membership.test_a_change_that_waits_is_refused_once_leadership_is_handed_over,),
    ),
    Mutant(
        22,
        "a change that waited is begun while leadership is handed over",
        Membership.flush,
        "if self._leader.transfer.to is not None:",
        "if False:",
        (membership.test_a_change_that_waits_is_refused_once_leadership_is_handed_over,),
    ),
]
