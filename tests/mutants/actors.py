"""What processes, mailboxes and names keep, broken: S2 to S57 of docs/supervision.md, and more.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.actors.effects import Effects
from exraft.actors.exits import ExitSignal
from exraft.actors.fence import is_fenced
from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import Mailbox, refuse
from exraft.actors.members import _forget_all_but, _has_lost, is_forgotten, note
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry, _must_live
from exraft.actors.timers import Timers
from exraft.actors.watching import Monitor, Watchers, monitor, watch_child
from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "S2",
        "a failing on_start does not reach the starter",
        Process._live,
        "self.start_failed(error)",
        "self._started.set()",
        (
            "tests/actors/test_process.py"
            "::test_a_failing_on_start_reaches_the_starter_and_leaves_nothing[error0]",
        ),
    ),
    Mutant(
        "S30",
        "what a fenced thread sends arrives",
        is_fenced,
        "bool(threads) and current_thread() in threads and not _here.exempt",
        "False",
        (
            "tests/supervision/test_stopping.py"
            "::test_a_killed_child_that_wakes_up_can_do_no_harm[Worker-tell-brutal_kill]",
        ),
    ),
    Mutant(
        "S51",
        "a monitor is told twice",
        Watchers.close,
        "monitors, self._monitors = self._monitors, None",
        "monitors = self._monitors",
        ("tests/actors/test_watching.py::test_each_monitor_is_told_once_with_the_reason",),
    ),
    Mutant(
        "S51",
        "a monitor on the dead does not fire",
        monitor,
        'watch.tell(Down(ref, "noproc"))',
        "pass",
        (
            "tests/actors/test_watching.py::test_a_monitor_on_the_dead_fires_at_once",
            "tests/supervision/test_exits.py::test_a_monitor_on_the_dead_fires_at_once[Worker]",
        ),
    ),
    Mutant(
        "S51",
        "a monitor that was cancelled fires",
        Monitor.cancel,
        "watchers_of(self.ref).remove(self)",
        "True",
        ("tests/actors/test_watching.py::test_a_cancelled_monitor_does_not_fire",),
    ),
    Mutant(
        "S51",
        "the reason of a child that ended at once is lost",
        watch_child,
        'watchers.last_words() or Down(ref, "noproc")',
        'Down(ref, "noproc")',
        (
            "tests/supervision/test_exits.py"
            "::test_the_reason_of_a_child_is_known_though_it_ended_at_once[Worker-heard by nobody]",
        ),
    ),
    Mutant(
        "S51",
        "a link takes both along though the end was normal",
        ExitSignal.counts,
        'not (self.linked and self.reason == "normal")',
        "True",
        ("tests/actors/test_links.py::test_a_normal_end_takes_nobody_along",),
    ),
    Mutant(
        "S51",
        "a process that traps exits is ended by one",
        Process.receive,
        "item.__class__ is ExitSignal and not self.trap_exit",
        "item.__class__ is ExitSignal",
        (
            "tests/supervision/test_restart_types.py"
            "::test_the_end_of_a_process_that_is_linked_to_the_supervisor_is_ignored[Worker-Worker]",
        ),
    ),
    Mutant(
        "S52",
        "what waits when a mailbox is closed is never answered",
        Mailbox.close,
        "self._drain()",
        "pass",
        ("tests/actors/test_mailbox.py::test_what_is_left_at_the_close_is_undelivered_once",),
    ),
    Mutant(
        "S52",
        "what is put into a closed mailbox is never answered",
        Mailbox.put,
        "if self._closed:\n        self._drain()",
        "pass",
        ("tests/actors/test_mailbox.py::test_what_is_put_after_the_close_is_undelivered_at_once",),
    ),
    Mutant(
        "S52",
        "a message that cannot be refused keeps the next from it",
        Mailbox._give_up,
        'logger.exception("An undelivered message could not be refused")',
        "raise",
        (
            "tests/actors/test_mailbox.py"
            "::test_an_item_that_cannot_be_refused_does_not_keep_the_next_from_it",
        ),
    ),
    Mutant(
        "S52",
        "an ask that nobody will handle is dropped",
        refuse,
        "item.reply_to.set_exception((ProcessDown, ProcessDown(reason), None))",
        "pass",
        ("tests/actors/test_mailbox.py::test_a_refused_ask_fails_with_the_exit_reason",),
    ),
    Mutant(
        "S52",
        "a second answer takes the place of the first",
        OneLockFuture.set,
        "return False",
        "pass",
        ("tests/actors/test_future.py::test_a_late_reply_is_dropped",),
    ),
    Mutant(
        "S52",
        "a failure takes the place of the answer",
        OneLockFuture._settle,
        "return False",
        "pass",
        ("tests/actors/test_future.py::test_a_late_reply_is_dropped",),
    ),
    Mutant(
        "S52",
        "a wait that timed out leaves itself behind",
        OneLockFuture._wait,
        "self._drop(lock)",
        "pass",
        ("tests/actors/test_future.py::test_a_wait_that_timed_out_leaves_nothing_behind",),
    ),
    Mutant(
        "S54",
        "who has ended keeps its names",
        Process._die,
        "    self._contain(lambda: ActorRegistry.release_names(self._actor_ref))\n",
        "",
        (
            "tests/actors/test_process.py"
            "::test_who_asked_for_the_stop_is_answered_after_everything_is_free",
        ),
    ),
    Mutant(
        "S54",
        "a name is given to two",
        ActorRegistry.register_name,
        "cls._must_be_free(name, ref)",
        "pass",
        (
            "tests/actors/test_registry.py::test_a_name_belongs_to_one_living_actor",
            "tests/actors/test_process.py::test_a_taken_name_says_who_has_it",
        ),
    ),
    Mutant(
        "S54",
        "the dead get names",
        _must_live,
        "if not ref.is_alive():",
        "if False:",
        ("tests/actors/test_registry.py::test_a_dead_actor_has_no_name_and_gets_none",),
    ),
    Mutant(
        "S54",
        "a name that is reserved is free for anybody",
        ActorRegistry._must_be_free,
        "raise AlreadyStarted(bearer.bearer, name)",
        "return",
        ("tests/actors/test_registry.py::test_a_reserved_name_is_taken_for_everybody_else",),
    ),
    Mutant(
        "S54",
        "what was parked for a successor comes in another order",
        ActorRegistry._end,
        "for item in reservation._parked:",
        "for item in reversed(reservation._parked):",
        (
            "tests/actors/test_registry.py"
            "::test_what_is_delivered_to_a_reserved_name_waits_for_the_successor",
        ),
    ),
    Mutant(
        "S55",
        "an end is told before on_stop has returned",
        Process._die,
        "if goodbye is not None:",
        "self._contain(lambda: self._actor_ref.watchers.tell(Down(self.actor_ref, reason)))\n"
        "    if goodbye is not None:",
        (
            "tests/actors/test_process.py::test_death_has_an_order",
            "tests/supervision/test_exits.py"
            "::test_a_death_is_noticed_when_its_last_callback_has_returned[Worker-'normal'-'stop']",
        ),
    ),
    Mutant(
        "S55",
        "a failing on_stop counts as an orderly end",
        Process._say_goodbye,
        "return error",
        "return reason",
        ("tests/actors/test_process.py::test_a_failing_on_stop_changes_an_orderly_reason[error0]",),
    ),
    Mutant(
        "S57",
        "a stop waits behind the backlog",
        Mailbox.put,
        "urgent = item.message.__class__ is _ActorStop",
        "urgent = False",
        (
            "tests/actors/test_mailbox.py::test_a_stop_overtakes_the_backlog[stop1]",
            "tests/actors/test_process.py"
            "::test_a_stop_overtakes_the_backlog_whose_callers_are_answered",
        ),
    ),
    Mutant(
        "S57",
        "an order waits behind the backlog",
        Mailbox.put,
        'getattr(item, "urgent", False) is True',
        "False",
        (
            "tests/actors/test_mailbox.py::test_a_stop_overtakes_the_backlog[stop0]",
            "tests/actors/test_process.py::test_an_exit_signal_overtakes_the_backlog",
        ),
    ),
    Mutant(
        "S57",
        "the trace of an item that overtook is taken for an item",
        Mailbox.take,
        "self._stale -= 1",
        "batch.append(item)",
        (
            "tests/actors/test_mailbox.py"
            "::test_the_trace_of_an_overtaking_item_is_not_taken_for_an_item",
        ),
    ),
    Mutant(
        12,
        "a message to a name between two lives waits for the next",
        ActorRegistry.post,
        "return isinstance(bearer, Reservation)",
        "if isinstance(bearer, Reservation):\n        return bearer.park(item)\n    return False",
        (
            "tests/actors/test_registry.py::test_a_note_to_a_reserved_name_is_dropped",
            "tests/actors/test_transport.py::test_a_message_to_a_name_between_two_lives_is_lost",
        ),
    ),
    Mutant(
        13,
        "a side effect that fails ends the worker",
        Effects._work,
        'logger.exception("A side effect of %s failed: %r", self._name, effect)',
        "raise",
        (
            "tests/actors/test_effects.py"
            "::test_one_that_fails_is_logged_and_the_next_ones_run[ValueError('x')]",
        ),
    ),
    Mutant(
        13,
        "side effects are never too many",
        Effects.full,
        "self._queue.qsize() >= MAX_EFFECTS",
        "False",
        ("tests/actors/test_effects.py::test_it_is_full_when_as_many_wait_as_may",),
    ),
    Mutant(
        14,
        "the deadline is judged before the messages that wait",
        Process.run,
        "if mailbox.empty() or self.killed:",
        "if True:",
        (
            "tests/actors/test_process.py"
            "::test_messages_that_wait_are_handled_before_the_deadline_is_judged",
        ),
    ),
    Mutant(
        14,
        "under load the time never comes",
        Process.run,
        "for _ in range(BATCH):",
        "while True:",
        ("tests/actors/test_process.py::test_a_deadline_comes_under_load_too",),
    ),
    Mutant(
        14,
        "a timer comes before its time",
        Timers.pop_due,
        "if due is None or due > now:",
        "if due is None:",
        ("tests/actors/test_timers.py::test_what_is_due_comes_out_in_the_order_of_its_time",),
    ),
    Mutant(
        29,
        "a member that was given up speaks for its successor",
        note,
        "if not store.fenced:",
        "if True:",
        ("tests/actors/test_members.py::test_one_that_was_given_up_says_nothing_more",),
    ),
    Mutant(
        29,
        "a name whose store was dropped is the member",
        is_forgotten,
        "_has_lost(config, peer, store, lost)",
        "False",
        (
            "tests/actors/test_members.py"
            "::test_a_member_whose_store_was_dropped_is_forgotten_while_others_live",
        ),
    ),
    Mutant(
        29,
        "who comes back with the store that it had is a newcomer",
        _has_lost,
        "known != store",
        "True",
        (
            "tests/actors/test_members.py"
            "::test_who_comes_back_with_the_store_that_it_had_is_not_forgotten",
        ),
    ),
    Mutant(
        29,
        "the next cluster of the same names knows of the first",
        _forget_all_but,
        "del _ended[peer]",
        "pass",
        (
            "tests/actors/test_members.py"
            "::test_when_all_founders_were_dropped_before_their_election_they_begin_anew",
        ),
    ),
    Mutant(
        29,
        "a founder that starts late is forgotten",
        _has_lost,
        'config.cluster in lost or "" in lost or (not config.cluster and bool(lost))',
        "True",
        ("tests/actors/test_members.py::test_a_founder_that_starts_late_is_not_forgotten",),
    ),
]
