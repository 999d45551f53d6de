"""What a server does with a user's machine, done wrongly: rules 13, 21, 26 and 28.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.actors.applying import Applying
from exraft.actors.server import RaftServer
from exraft.replica import Replica, Waiting
from tests.mutants.mutant import Mutant
from tests.replica import test_replica as replica
from tests.replica import test_waiting as waiting

MUTANTS = [
    Mutant(
        13,
        "a caller is answered with another one's entry",
        Waiting.take,
        "if len(by_term) == 1 and term in by_term:",
        "if len(by_term) == 1:\n        term = next(iter(by_term))",
        (waiting.test_who_waits_at_an_index_where_another_term_is_applied_is_told,),
    ),
    Mutant(
        13,
        "who waits for an entry that was replaced waits for ever",
        Waiting.take,
        "call.reply.fail(CommandDropped())",
        "pass",
        (
            waiting.test_who_waits_at_an_index_where_another_term_is_applied_is_told,
            waiting.test_when_a_later_term_is_applied_everyone_of_an_earlier_one_is_told,
        ),
    ),
    Mutant(
        13,
        "who waits is told that its entry is lost while it may be committed",
        Waiting.take,
        "if other_term < term:",
        "if other_term > term:",
        (
            waiting.test_who_waits_at_an_index_where_another_term_is_applied_is_told,
            waiting.test_when_a_later_term_is_applied_everyone_of_an_earlier_one_is_told,
        ),
    ),
    Mutant(
        13,
        "a caller is answered twice",
        Waiting.take,
        "return by_term[term].pop(index, None)\n    for",
        "return by_term[term].get(index)\n    for",
        (waiting.test_who_waits_for_an_entry_is_found_by_its_term_and_index_and_only_once,),
    ),
    Mutant(
        13,
        "a command that fails for want of memory is skipped",
        Replica.write,
        "except (MemoryError, RecursionError) as error:",
        "except ZeroDivisionError as error:",
        (
            "tests/replica/test_replica.py"
            "::test_what_may_differ_between_replicas_ends_this_one[MemoryError()]",
        ),
    ),
    Mutant(
        13,
        "what a machine raises ends the server",
        Replica.write,
        'self._check_unchanged(before, f"handle_write raised at index {index}, but")',
        "raise",
        (
            "tests/replica/test_replica.py"
            "::test_what_a_write_raises_is_the_answer_and_leaves_the_state[LookupError('x')]",
        ),
    ),
    Mutant(
        13,
        "a malformed return becomes the state",
        Replica.write,
        '_malformed("handle_write", result, index))',
        '_malformed("handle_write", result, index))\n            self.state = result',
        (
            "tests/replica/test_replica.py"
            "::test_a_malformed_return_is_an_error_at_the_caller_and_leaves_the_state[None]",
        ),
    ),
    Mutant(
        13,
        "an answer shares objects with the state",
        Replica._reply,
        "copy_reply(reply, maybe_applied=call.reply.may_apply)",
        "reply",
        (
            replica.test_a_reply_is_a_copy,
            replica.test_a_read_is_answered_with_a_copy,
        ),
    ),
    Mutant(
        13,
        "a command whose filter fails is let in",
        Replica.check,
        'return CommandRejected(\n            f"is_command',
        'return None and CommandRejected(\n            f"is_command',
        (replica.test_what_is_command_says_counts_and_raising_says_no,),
    ),
    Mutant(
        13,
        "a command that can't be decoded is skipped",
        Applying.apply,
        "self._stop_at(index, call, error)\n                    return",
        "continue",
        (
            "tests/api/test_failures.py"
            "::test_an_entry_that_cannot_be_decoded_stops_a_follower_from_applying_and_leading",
        ),
        hangs=True,
    ),
    Mutant(
        13,
        "a server that can't apply its log leads on, in the actor",
        RaftServer._apply,
        "raft.halt(now)",
        "pass",
        (
            "tests/api/test_failures.py"
            "::test_an_entry_that_cannot_be_decoded_stops_a_follower_from_applying_and_leading",
        ),
    ),
    Mutant(
        21,
        "a query that fails leaves its caller waiting",
        Replica.read,
        "call.reply.fail(copy_exception(error, note, maybe_applied=False))",
        "pass",
        ("tests/replica/test_replica.py::test_what_a_read_raises_is_the_answer[LookupError('x')]",),
    ),
    Mutant(
        26,
        "a replay runs the side effects again",
        Applying._may_run_effects,
        " and index > self.replayed",
        "",
        (
            "tests/api/test_side_effects.py"
            "::test_the_replay_after_a_crash_runs_no_side_effect_again",
            "tests/api/test_faults_of_exraft.py::test_the_replay_after_a_crash_runs_no_side_effect",
        ),
    ),
    Mutant(
        26,
        "side effects run on every server",
        Applying._may_run_effects,
        " and type(raft.role) is Leader",
        "",
        (
            "tests/api/test_side_effects.py::test_a_side_effect_runs_once_and_on_the_leader_alone",
            "tests/api/test_side_effects.py"
            "::test_an_entry_that_a_later_leader_commits_has_its_side_effect_nowhere",
        ),
    ),
    Mutant(
        26,
        "a later leader runs the side effects of an earlier one",
        Applying._may_run_effects,
        "entry.term == raft.term and ",
        "",
        (
            "tests/api/test_side_effects.py"
            "::test_an_entry_that_a_later_leader_commits_has_its_side_effect_nowhere",
        ),
    ),
    Mutant(
        28,
        "nobody hears of a leader's death",
        RaftServer._handle,
        "self._raft.leader_gone(item.peer, now)",
        "pass",
        (
            "tests/api/test_time.py"
            "::test_followers_elect_at_once_when_the_leaders_supervisor_gives_up",
        ),
        hangs=True,
    ),
]
