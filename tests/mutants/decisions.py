"""Wrong decisions of supervision that need no actors: S4 to S53 of docs/supervision.md.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.actors.exits import is_shutdown
from exraft.supervision.checking import _check_significant, check_children
from exraft.supervision.decision import _ends_supervisor, after_exit, restart
from exraft.supervision.intensity import Intensity
from tests.mutants.mutant import Mutant
from tests.supervision import test_checking as checking
from tests.supervision import test_decision as decision
from tests.supervision import test_intensity as intensity

MUTANTS = [
    Mutant(
        "S4",
        "two children may have one id",
        check_children,
        "if first != place:",
        "if False:",
        (checking.test_two_children_with_one_id_are_refused_with_both_places,),
    ),
    Mutant(
        "S9",
        "a permanent child that ended in order is not started again",
        after_exit,
        'restarts = kind == "permanent" or',
        'restarts = kind == "permanent" and not orderly or',
        (
            "tests/supervision/test_decision.py"
            "::test_a_permanent_child_is_restarted_and_reported_whatever_the_reason[True]",
            "tests/supervision/test_restart_types.py"
            "::test_a_permanent_child_is_restarted_whatever_the_reason[Worker-'normal']",
        ),
    ),
    Mutant(
        "S10",
        "a transient child is started again after an orderly end",
        after_exit,
        '(kind == "transient" and not orderly)',
        'kind == "transient"',
        (decision.test_a_transient_child_that_ended_well_keeps_its_spec_and_is_not_reported,),
    ),
    Mutant(
        "S10",
        "a transient child is not started again after a failure",
        after_exit,
        '(kind == "transient" and not orderly)',
        "False",
        (decision.test_a_transient_child_is_restarted_and_reported_after_a_failure,),
    ),
    Mutant(
        "S10",
        "an end with a term of its own is no orderly one",
        is_shutdown,
        'isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"',
        "False",
        (
            "tests/supervision/test_restart_types.py"
            "::test_a_transient_child_is_left_after_an_orderly_exit"
            "[Worker-('shutdown', 'because')]",
        ),
    ),
    Mutant(
        "S11",
        "the spec of a temporary child stays",
        after_exit,
        'drop=kind == "temporary"',
        "drop=False",
        (
            "tests/supervision/test_decision.py"
            "::test_a_temporary_child_is_never_restarted_and_its_spec_goes[True]",
            "tests/supervision/test_restart_types.py"
            "::test_a_temporary_child_is_never_restarted[Worker-'normal']",
        ),
    ),
    Mutant(
        "S14",
        "one_for_one takes along whoever comes after",
        restart,
        'if strategy == "one_for_one":',
        "if False:",
        (decision.test_one_for_one_restarts_the_child_alone_and_looks_at_nobody_else,),
    ),
    Mutant(
        "S15",
        "one_for_all leaves those before the dead one alone",
        restart,
        'if strategy == "rest_for_one":',
        "if True:",
        (
            "tests/supervision/test_decision.py"
            "::test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order[b]",
            decision.test_the_next_attempt_of_one_for_all_stops_those_that_were_started,
        ),
    ),
    Mutant(
        "S15",
        "the others are stopped in their order of start",
        restart,
        "reversed(affected)",
        "affected",
        (
            "tests/supervision/test_decision.py"
            "::test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order[b]",
        ),
    ),
    Mutant(
        "S15",
        "those that were stopped before are not started",
        restart,
        'if one.spec.restart != "temporary")',
        'if one.spec.restart != "temporary" and (one is child or one.present))',
        (
            "tests/supervision/test_decision.py"
            "::test_a_sibling_without_an_actor_is_not_stopped_but_started[one_for_all]",
        ),
    ),
    Mutant(
        "S16",
        "rest_for_one takes along those before",
        restart,
        'if strategy == "rest_for_one":',
        "if False:",
        (
            "tests/supervision/test_decision.py"
            "::test_rest_for_one_touches_the_child_and_the_later_ones[c-d-cd]",
            decision.test_the_next_attempt_starts_from_the_one_that_failed_to_start,
        ),
    ),
    Mutant(
        "S17",
        "a temporary sibling is started again",
        restart,
        'start=tuple(one for one in affected if one.spec.restart != "temporary")',
        "start=affected",
        (
            "tests/supervision/test_decision.py"
            "::test_a_temporary_sibling_is_stopped_and_not_started_again[one_for_all-expected0]",
        ),
    ),
    Mutant(
        "S17",
        "the spec of a temporary sibling that was stopped stays",
        restart,
        'drop=tuple(one for one in affected if one.spec.restart == "temporary")',
        "drop=()",
        (
            "tests/supervision/test_decision.py"
            "::test_a_temporary_sibling_is_stopped_and_not_started_again[one_for_all-expected0]",
        ),
    ),
    Mutant(
        "S20",
        "one restart fewer is survived",
        Intensity.allows,
        "len(self._restarts) <= self._max_restarts",
        "len(self._restarts) < self._max_restarts",
        (intensity.test_exactly_max_restarts_in_the_window_are_allowed,),
    ),
    Mutant(
        "S20",
        "one restart more is survived",
        Intensity.allows,
        "len(self._restarts) <= self._max_restarts",
        "len(self._restarts) <= self._max_restarts + 1",
        (
            intensity.test_one_more_is_too_many,
            intensity.test_with_no_restarts_allowed_the_first_is_too_many,
        ),
    ),
    Mutant(
        "S23",
        "an attempt that was not allowed does not count",
        Intensity.allows,
        "return len(self._restarts) <= self._max_restarts",
        "if len(self._restarts) <= self._max_restarts:\n"
        "        return True\n"
        "    self._restarts.pop()\n"
        "    return False",
        (intensity.test_every_attempt_counts_allowed_or_not,),
    ),
    Mutant(
        "S25",
        "restarts do not age",
        Intensity.allows,
        "self._restarts.popleft()",
        "break",
        (
            intensity.test_old_restarts_age_out,
            intensity.test_restarts_further_apart_than_the_window_go_on_for_ever,
        ),
    ),
    Mutant(
        "S25",
        "all restarts age with the first",
        Intensity.allows,
        "self._restarts.popleft()",
        "self._restarts.clear()",
        (intensity.test_each_restart_ages_out_by_itself,),
    ),
    Mutant(
        "S25",
        "a restart of exactly the window ago counts",
        Intensity.allows,
        "<= now - self._max_seconds",
        "< now - self._max_seconds",
        (intensity.test_a_restart_of_exactly_the_window_ago_counts_no_more,),
    ),
    Mutant(
        "S35",
        "the failure of a temporary significant child ends nobody",
        after_exit,
        "end=not restarts and",
        "end=not restarts and orderly and",
        (
            "tests/supervision/test_decision.py"
            "::test_with_any_significant_one_that_ended_for_good_ends_the_supervisor[temporary-False-True]",
        ),
    ),
    Mutant(
        "S35",
        "any child ends the supervisor, significant or not",
        _ends_supervisor,
        " or not child.spec.significant",
        "",
        (
            "tests/supervision/test_decision.py"
            "::test_a_child_that_is_not_significant_ends_nobody[any_significant]",
        ),
    ),
    Mutant(
        "S36",
        "the failure of a significant transient child ends the supervisor",
        after_exit,
        "end=not restarts and",
        "end=",
        (
            "tests/supervision/test_decision.py"
            "::test_with_any_significant_one_that_ended_for_good_ends_the_supervisor[transient-False-False]",
            decision.test_with_all_significant_a_failure_of_the_last_one_restarts_it,
        ),
    ),
    Mutant(
        "S37",
        "with all_significant the first ends the supervisor",
        _ends_supervisor,
        'auto_shutdown == "any_significant"',
        "True",
        (decision.test_with_all_significant_only_the_last_one_ends_the_supervisor,),
    ),
    Mutant(
        "S37",
        "siblings that are not significant hold the supervisor",
        _ends_supervisor,
        " and other.spec.significant",
        "",
        (decision.test_with_all_significant_only_significant_siblings_hold_the_supervisor,),
    ),
    Mutant(
        "S37",
        "a significant sibling that was stopped holds the supervisor",
        _ends_supervisor,
        "other.present and ",
        "",
        (decision.test_with_all_significant_a_sibling_without_an_actor_counts_as_ended,),
    ),
    Mutant(
        "S38",
        "a permanent child may be significant",
        _check_significant,
        'if spec.restart == "permanent":',
        "if False:",
        (
            "tests/supervision/test_checking.py"
            "::test_a_permanent_child_can_not_be_significant[any_significant]",
        ),
    ),
    Mutant(
        "S38",
        "a child may be significant to a supervisor without auto-shutdown",
        _check_significant,
        'if auto_shutdown == "never":',
        "if False:",
        (
            checking.test_children_are_checked_for_their_supervisors_auto_shutdown,
            "tests/supervision/test_checking.py"
            "::test_a_significant_child_needs_a_supervisor_with_auto_shutdown[transient]",
        ),
    ),
    Mutant(
        "S53",
        "the orderly end of a permanent child is not reported",
        after_exit,
        'report=kind == "permanent" or not orderly',
        "report=not orderly",
        (
            "tests/supervision/test_decision.py"
            "::test_a_permanent_child_is_restarted_and_reported_whatever_the_reason[True]",
        ),
    ),
]
