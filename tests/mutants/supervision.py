"""Supervisors that break what they promise: S1 to S53 of docs/supervision.md.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.supervision.arguments import _own
from exraft.supervision.asking import ask
from exraft.supervision.dynamic import DynamicSupervisorProcess
from exraft.supervision.supervising import Child, Supervising, _as_asked, _named
from exraft.supervision.supervisor import Supervisor, SupervisorProcess
from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "S1",
        "children start in reverse order",
        SupervisorProcess.start_children,
        "list(self._children.values())",
        "reversed(list(self._children.values()))",
        ("tests/supervision/test_start.py::test_children_start_in_list_order[Worker]",),
    ),
    Mutant(
        "S3",
        "those before one that fails to start are left alive",
        Supervising.on_start,
        "self._end_children()",
        "pass",
        (
            "tests/supervision/test_start.py"
            "::test_a_child_that_fails_to_start_stops_the_earlier_ones[Worker]",
        ),
    ),
    Mutant(
        "S3",
        "the child of a nested supervisor that failed is not named",
        _named,
        'StartFailed(f"{spec.id} > {error.name}", error.cause)',
        "StartFailed(spec.id, error.cause)",
        (
            "tests/supervision/test_start.py"
            "::test_start_names_the_child_of_a_nested_supervisor_that_failed[Worker]",
        ),
    ),
    Mutant(
        "S6",
        "the spec of any child that declines is dropped",
        Supervising.declined,
        'if child.spec.restart == "temporary":',
        "if True:",
        (
            "tests/supervision/test_start.py"
            "::test_the_spec_of_a_child_that_declines_to_start_is_kept[Worker]",
        ),
    ),
    Mutant(
        "S6",
        "the spec of a temporary child that declines is kept",
        Supervising.declined,
        'if child.spec.restart == "temporary":',
        "if False:",
        (
            "tests/supervision/test_start.py"
            "::test_the_spec_of_a_temporary_child_that_declines_to_start_is_dropped[Worker]",
        ),
    ),
    Mutant(
        "S7",
        "a supervisor does not take its name",
        Supervising.on_start,
        "if self.options.name is not None:",
        "if False:",
        (
            "tests/supervision/test_start.py"
            "::test_a_taken_name_is_refused_with_the_reference[Worker]",
        ),
    ),
    Mutant(
        "S8",
        "five restarts are survived by default",
        Supervisor.start,
        "max_restarts: int = 3",
        "max_restarts: int = 5",
        ("tests/supervision/test_start.py::test_defaults_of_a_supervisor[Supervisor]",),
    ),
    Mutant(
        "S12",
        "all lives share the arguments of the first",
        Supervising.begin,
        "own_start(spec.start)",
        "spec.start",
        (
            "tests/supervision/test_restart_types.py"
            "::test_a_restart_uses_the_arguments_of_the_beginning[Worker]",
        ),
    ),
    Mutant(
        "S12",
        "what is in a list is not copied",
        _own,
        "copy.extend([_own(item, copies) for item in value])",
        "copy.extend(value)",
        (
            "tests/supervision/test_arguments.py"
            "::test_pythons_containers_are_copied_all_the_way_down[[[1]]]",
        ),
    ),
    Mutant(
        "S13",
        "an exit signal ends a supervisor",
        Supervising.on_receive,
        'logger.debug("%s takes no notice of %r", self, message)',
        "raise Exit(message.reason)",
        (
            "tests/supervision/test_restart_types.py"
            "::test_the_end_of_a_process_that_is_linked_to_the_supervisor_is_ignored[Worker-Worker]",
        ),
    ),
    Mutant(
        "S18",
        "one that failed to start again counts as stopped",
        Supervising._restart,
        "reports.start_failed(str(self), other.spec, why)\n            other.restarting = True",
        "reports.start_failed(str(self), other.spec, why)\n            other.restarting = False",
        (
            "tests/supervision/test_strategies.py"
            "::test_one_that_fails_to_start_again_is_restarting[Worker]",
        ),
    ),
    Mutant(
        "S19",
        "a child that is added comes first",
        Supervising.add,
        "self._children[child.key] = child",
        "self._children = {child.key: child, **self._children}",
        ("tests/supervision/test_strategies.py::test_children_that_are_added_come_last[Worker]",),
    ),
    Mutant(
        "S22",
        "a supervisor that gives up ends as if nothing had happened",
        Supervising._restart,
        'raise Exit("shutdown")',
        'raise Exit("normal")',
        (
            "tests/supervision/test_intensity_of_a_supervisor.py"
            "::test_a_supervisor_that_gives_up_exits_with_shutdown[Worker]",
        ),
    ),
    Mutant(
        "S24",
        "a child that is terminated between two attempts is started again",
        Supervising.ask_to_end,
        "child.restarting = False\n    child.attempt = None",
        "pass",
        (
            "tests/supervision/test_intensity_of_a_supervisor.py"
            "::test_between_attempts_the_child_can_be_terminated[Worker]",
        ),
    ),
    Mutant(
        "S26",
        "a restart counts for each whom it takes along",
        Supervising._restart,
        "other.restarts += 1",
        "other.restarts += 1\n        self._intensity.allows(monotonic())",
        (
            "tests/supervision/test_intensity_of_a_supervisor.py"
            "::test_an_incident_counts_once_however_many_are_restarted[Worker-one_for_all]",
        ),
    ),
    Mutant(
        "S27",
        "terminating a child counts as a restart",
        Supervising.terminate,
        "self.stop_child(child)",
        "if not self._intensity.allows(monotonic()):\n"
        '        raise Exit("shutdown")\n'
        "    self.stop_child(child)",
        (
            "tests/supervision/test_intensity_of_a_supervisor.py"
            "::test_terminating_children_does_not_count[Worker]",
        ),
    ),
    Mutant(
        "S28",
        "children are stopped in their order of start",
        SupervisorProcess.stop_children,
        "reversed(list(self._children.values()))",
        "list(self._children.values())",
        (
            "tests/supervision/test_stopping.py"
            "::test_children_stop_in_reverse_order[Worker-Supervisor.stop]",
            "tests/supervision/test_stopping.py"
            "::test_a_tree_stops_in_reverse_order[Plain-ActorRef.stop]",
        ),
    ),
    Mutant(
        "S28",
        "a child is stopped before the one after it has ended",
        Supervising.stop_child,
        "self.await_end(child)",
        "pass",
        (
            "tests/supervision/test_stopping.py"
            "::test_a_child_stops_before_its_elder_is_asked[Worker]",
        ),
    ),
    Mutant(
        "S29",
        "every child is killed at once",
        Supervising.ask_to_end,
        'if patience == "brutal_kill":',
        "if True:",
        (
            "tests/supervision/test_stopping.py"
            "::test_a_child_that_ends_in_time_ends_with_shutdown[Worker]",
        ),
    ),
    Mutant(
        "S30",
        "brutal_kill asks first",
        Supervising.ask_to_end,
        'if patience == "brutal_kill":\n        kill(ref)',
        'if patience == "brutal_kill":\n        send(ref, Order("killed", None))',
        ("tests/supervision/test_stopping.py::test_brutal_kill_calls_no_terminate[Worker]",),
    ),
    Mutant(
        "S32",
        "nobody is told of a child that ended otherwise than asked",
        Supervising.await_end,
        "not self.killed and not _as_asked",
        "not self.killed and False and not _as_asked",
        (
            "tests/supervision/test_exits.py::test_a_failure_to_stop_is_reported[Worker]",
            "tests/supervision/test_stopping.py"
            "::test_a_child_whose_time_was_up_is_reported[Worker]",
        ),
    ),
    Mutant(
        "S32",
        "a permanent child that ends as it likes is not reported",
        _as_asked,
        ' and spec.restart != "permanent"',
        "",
        (
            "tests/supervision/test_stopping.py"
            "::test_which_other_reasons_are_as_good[Worker-'permanent'-'normal'-True]",
        ),
    ),
    Mutant(
        "S33",
        "a supervisor ends with a reason of its own",
        Supervising.on_receive,
        "raise Exit(message.reason)",
        'raise Exit("shutdown")',
        (
            "tests/supervision/test_stopping.py"
            "::test_a_supervisor_exits_with_the_reason_of_the_stop[Worker-'because']",
            "tests/supervision/test_stopping.py"
            "::test_the_reason_of_a_stop_is_normal_by_default[Worker]",
        ),
    ),
    Mutant(
        "S33",
        "the children get the reason of the supervisor's stop",
        Supervising._terms,
        "return order.for_children, patience",
        "return order.reason, patience",
        (
            "tests/supervision/test_stopping.py"
            "::test_a_nested_supervisor_is_told_shutdown_like_any_child[Worker]",
            "tests/supervision/test_stopping.py"
            "::test_a_supervisor_exits_with_the_reason_of_the_stop[Worker-'because']",
        ),
    ),
    Mutant(
        "S34",
        "a supervisor that ends leaves its children behind",
        Supervising.run,
        "self._end_children()",
        "pass",
        (
            "tests/supervision/test_stopping.py"
            "::test_children_stop_in_reverse_order[Worker-Supervisor.stop]",
        ),
    ),
    Mutant(
        "S34",
        "the children of a supervisor that is killed live on",
        Supervising.left_behind,
        "        kill(ref)",
        "        pass",
        (
            "tests/supervision/test_fencing.py"
            "::test_a_supervisor_that_is_given_up_because_of_a_grandchild_leaves_nobody[Worker]",
            "tests/supervision/test_fencing.py"
            "::test_a_supervisor_that_is_killed_while_it_stops_leaves_nobody[Worker]",
        ),
    ),
    Mutant(
        "S39",
        "an end that was asked for is taken for one that was not",
        Supervising.await_end,
        "self._by_ref.pop(ref, None)",
        "pass",
        (
            "tests/supervision/test_significant.py"
            "::test_terminating_a_significant_child_triggers_nothing"
            "[Worker-transient-any_significant]",
            "tests/supervision/test_administration.py"
            "::test_a_child_that_was_terminated_keeps_its_spec[Worker]",
        ),
    ),
    Mutant(
        "S40",
        "a child that runs is taken for one that is stopped",
        SupervisorProcess.start_child,
        "if child.present:",
        "if False:",
        (
            "tests/supervision/test_administration.py"
            "::test_the_id_of_a_running_child_is_taken[Worker]",
        ),
    ),
    Mutant(
        "S41",
        "terminating a child drops its spec",
        SupervisorProcess.terminate_child,
        'if child.spec.restart == "temporary":',
        "if True:",
        (
            "tests/supervision/test_administration.py"
            "::test_a_child_that_was_terminated_keeps_its_spec[Worker]",
        ),
    ),
    Mutant(
        "S41",
        "a temporary child that was terminated keeps its spec",
        SupervisorProcess.terminate_child,
        'if child.spec.restart == "temporary":',
        "if False:",
        (
            "tests/supervision/test_restart_types.py"
            "::test_a_temporary_child_that_was_terminated_leaves_no_spec[Worker]",
        ),
    ),
    Mutant(
        "S42",
        "a child that runs is started a second time",
        SupervisorProcess._stopped_child,
        "if child.ref is not None:",
        "if False:",
        (
            "tests/supervision/test_administration.py"
            "::TestRestartAndDelete::test_a_running_child_is_refused[Worker-restart_child]",
        ),
    ),
    Mutant(
        "S43",
        "a child that is to be started again can be deleted",
        SupervisorProcess._stopped_child,
        "if child.restarting:",
        "if False:",
        (
            "tests/supervision/test_administration.py"
            "::TestRestartAndDelete::test_a_restarting_child_is_refused[Worker-delete_child]",
        ),
    ),
    Mutant(
        "S44",
        "a child that could not be added leaves its spec",
        Supervising.add,
        "self.forget(child)",
        "pass",
        (
            "tests/supervision/test_administration.py"
            "::test_a_child_that_fails_to_be_added_leaves_no_spec[Worker]",
        ),
    ),
    Mutant(
        "S45",
        "one that is restarting is listed as stopped",
        Child.listed,
        '"restarting" if self.restarting else self.ref',
        "self.ref",
        (
            "tests/supervision/test_strategies.py"
            "::test_one_that_fails_to_start_again_is_restarting[Worker]",
        ),
    ),
    Mutant(
        "S46",
        "those that do not run count as active",
        Supervising.count_children,
        "active=len(self._by_ref)",
        "active=len(children)",
        (
            "tests/supervision/test_administration.py"
            "::test_count_children_counts_specs_and_who_is_active[Worker]",
        ),
    ),
    Mutant(
        "S47",
        "a child that has ended for good is kept",
        DynamicSupervisorProcess.ended_for_good,
        "self.forget(child)",
        "pass",
        (
            "tests/supervision/test_restart_types.py"
            "::test_a_dynamic_supervisor_keeps_nothing_of_a_transient_child_that_ended_in_order[Worker-'normal']",
        ),
    ),
    Mutant(
        "S47",
        "a child that was terminated is kept",
        DynamicSupervisorProcess.terminate_child,
        "self.forget(child)",
        "pass",
        ("tests/supervision/test_dynamic.py::test_children_are_terminated_by_reference[Worker]",),
    ),
    Mutant(
        "S47",
        "a child that declines is kept",
        DynamicSupervisorProcess.declined,
        "self.forget(child)",
        "pass",
        (
            "tests/supervision/test_dynamic.py"
            "::test_a_child_that_declines_leaves_nothing[Worker-permanent]",
        ),
    ),
    Mutant(
        "S48",
        "one child more than max_children is let in",
        DynamicSupervisorProcess.start_child,
        "len(self._children) >= self._max_children",
        "len(self._children) > self._max_children",
        (
            "tests/supervision/test_dynamic.py::test_more_than_max_children_is_an_error[Worker]",
            "tests/supervision/test_dynamic.py::test_a_supervisor_may_have_no_room_at_all[Worker]",
        ),
    ),
    Mutant(
        "S48",
        "one that is restarting takes up no room",
        DynamicSupervisorProcess.start_child,
        "len(self._children) >= self._max_children",
        "len(self._by_ref) >= self._max_children",
        ("tests/supervision/test_dynamic.py::test_who_is_restarting_takes_up_room[Worker]",),
    ),
    Mutant(
        "S49",
        "children stop one after the other",
        DynamicSupervisorProcess.stop_children,
        "self.ask_to_end(child)",
        "self.stop_child(child)",
        ("tests/supervision/test_dynamic.py::test_children_stop_side_by_side[Worker]",),
        hangs=True,
    ),
    Mutant(
        "S50",
        "extra arguments come last",
        DynamicSupervisorProcess.start_child,
        "(*self._extra_arguments, *args)",
        "(*args, *self._extra_arguments)",
        ("tests/supervision/test_dynamic.py::test_extra_arguments_come_first[Worker]",),
    ),
    Mutant(
        "S52",
        "a call to who ended meanwhile says that it was never there",
        ask,
        "raise SupervisorDown(error.reason) from None",
        "raise SupervisorNotFound(sup) from None",
        (
            "tests/supervision/test_exits.py"
            "::test_when_the_supervisor_dies_its_callers_learn_at_once[Worker-which_children]",
        ),
    ),
    Mutant(
        "S53",
        "a supervisor gives up without a word",
        Supervising._restart,
        "reports.gave_up(\n"
        "            str(self), child.spec, reason, options.max_restarts, options.max_seconds\n"
        "        )",
        "pass",
        ("tests/supervision/test_exits.py::test_a_supervisor_that_gives_up_reports_it[Worker]",),
    ),
    Mutant(
        "S53",
        "a failed attempt to start again is not reported",
        Supervising._restart,
        "reports.start_failed(str(self), other.spec, why)",
        "pass",
        ("tests/supervision/test_exits.py::test_a_failure_to_start_again_is_reported[Worker]",),
    ),
]
