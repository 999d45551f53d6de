"""What a leader remembers of a peer."""

from __future__ import annotations

from exraft.raft.progress import MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MUCH, Progress

PATIENCE = 10


def replicating(match: int = 0) -> Progress:
    """A peer whose log is known to agree up to `match`."""
    progress = Progress(match + 1, 0.0)
    progress.sent(match, 0)
    progress.accepted(match)
    return progress


def test_a_peer_is_probed_with_one_append_at_a_time() -> None:
    progress = Progress(5, 0.0)
    assert progress.ready
    progress.sent(9, 100)
    assert not progress.ready
    assert progress.next == 5


def test_a_probe_that_fits_turns_to_replication_after_what_matched() -> None:
    progress = Progress(5, 0.0)
    progress.sent(9, 100)
    progress.accepted(9)
    assert (progress.probing, progress.match, progress.next) == (False, 9, 10)


def test_in_replication_next_runs_ahead_of_match() -> None:
    progress = replicating(4)
    progress.sent(7, 10)
    progress.sent(9, 10)
    assert progress.ready
    assert (progress.match, progress.next, progress.inflight) == (4, 10, 2)


def test_an_acknowledgement_frees_every_append_up_to_its_index() -> None:
    progress = replicating(4)
    for last in (5, 6, 7):
        progress.sent(last, 10)
    progress.accepted(6)
    assert (progress.match, progress.next, progress.inflight) == (6, 8, 1)


def test_an_acknowledgement_that_comes_late_takes_nothing_back() -> None:
    progress = replicating(4)
    progress.sent(9, 10)
    progress.accepted(9)
    progress.accepted(6)
    assert (progress.match, progress.next) == (9, 10)


def test_the_appends_under_way_are_bounded_in_number() -> None:
    progress = replicating()
    for last in range(1, MAX_INFLIGHT + 1):
        assert progress.ready
        progress.sent(last, 1)
    assert not progress.ready
    progress.accepted(1)
    assert progress.ready


def test_the_appends_under_way_are_bounded_in_bytes() -> None:
    progress = replicating()
    progress.sent(1, MAX_INFLIGHT_BYTES)
    assert not progress.ready
    progress.accepted(1)
    assert progress.ready


def test_a_refusal_leads_back_to_probing_where_the_logs_may_agree() -> None:
    progress = replicating(4)
    progress.sent(20, 10)
    progress.refused(20, 11)
    assert (progress.probing, progress.next, progress.inflight) == (True, 12, 0)
    assert progress.ready


def test_a_hint_that_lies_ahead_of_the_refused_append_is_not_followed() -> None:
    progress = replicating(4)
    progress.sent(20, 10)
    progress.refused(10, 99)
    assert progress.next == 10


def test_next_never_falls_back_to_what_is_known_to_match() -> None:
    progress = replicating(4)
    progress.sent(20, 10)
    progress.refused(20, 0)
    assert progress.next == 5


def test_a_refusal_of_what_is_known_to_match_by_now_is_an_old_one() -> None:
    """Rule 12."""
    progress = replicating(9)
    progress.refused(9, 2)
    assert (progress.probing, progress.next) == (False, 10)


def test_a_refusal_of_an_earlier_probe_is_an_old_one() -> None:
    """Rule 12."""
    progress = Progress(9, 0.0)
    progress.sent(9, 10)
    progress.refused(8, 5)
    assert progress.next == 6
    progress.sent(6, 10)
    progress.refused(8, 1)
    assert progress.next == 6
    assert not progress.ready


def test_a_refusal_forgets_the_bytes_that_were_under_way() -> None:
    progress = replicating()
    progress.sent(1, MAX_INFLIGHT_BYTES)
    progress.refused(1, 0)
    progress.sent(1, 1)
    progress.accepted(1)
    progress.sent(2, 1)
    assert progress.ready


def test_a_peer_that_has_more_than_was_sent_lately_is_sent_what_comes_after() -> None:
    progress = replicating(4)
    progress.accepted(9)
    assert (progress.match, progress.next) == (9, 10)


def test_what_is_under_way_is_due_when_it_was_so_for_a_heartbeat() -> None:
    """Rule 12: until then a heartbeat may have overtaken it."""
    progress = replicating(4)
    progress.sent(7, 10)
    assert progress.due == 4
    progress.tick(PATIENCE)
    progress.sent(9, 10)
    assert progress.due == 4
    progress.tick(PATIENCE)
    assert progress.due == 7


def test_what_a_peer_has_is_due_at_once() -> None:
    progress = replicating(4)
    progress.sent(7, 10)
    progress.accepted(7)
    assert progress.due == 7


def test_what_was_due_before_a_refusal_is_due_no_more() -> None:
    """Rule 12."""
    progress = replicating(4)
    progress.sent(9, 10)
    for _ in range(3):
        progress.tick(PATIENCE)
    progress.refused(9, 6)
    progress.sent(9, 10)
    assert progress.due == 6
    progress.accepted(6)
    progress.sent(9, 10)
    progress.tick(PATIENCE)
    assert progress.due == 6


def test_much_is_due_when_nothing_has_moved_for_longer() -> None:
    """Rule 12."""
    progress = replicating(4)
    for _ in range(PATIENCE):
        # Of an idle time nothing is counted.
        progress.tick(PATIENCE)
    progress.sent(5, MUCH)
    progress.sent(6, 1)
    for _ in range(PATIENCE):
        progress.tick(PATIENCE)
        assert progress.due == 4
    progress.tick(PATIENCE)
    assert progress.due == 6


def test_much_of_which_some_has_arrived_is_waited_for_as_long_again() -> None:
    """Rule 12."""
    progress = replicating(4)
    progress.sent(5, MUCH)
    progress.sent(6, MUCH + 1)
    for _ in range(PATIENCE):
        progress.tick(PATIENCE)
    progress.accepted(5)
    for _ in range(PATIENCE):
        progress.tick(PATIENCE)
        assert progress.due == 5


def test_an_acknowledgement_of_what_was_known_moves_nothing() -> None:
    """Rule 12: heartbeats are acknowledged all the time."""
    progress = replicating(4)
    progress.sent(5, MUCH + 1)
    for _ in range(PATIENCE):
        progress.tick(PATIENCE)
        progress.accepted(4)
    assert (progress.probing, progress.next, progress.inflight) == (False, 6, 1)
    progress.tick(PATIENCE)
    assert progress.due == 5


def waits(progress: Progress) -> int:
    """Heartbeats until what is under way is due."""
    for beats in range(1, 100 * PATIENCE):
        progress.tick(PATIENCE)
        if progress.due > progress.match:
            return beats
    raise AssertionError("it is waited for without end")


def test_who_was_not_waited_for_long_enough_is_given_twice_as_long() -> None:
    """Rule 12: what is sent again on a slow road makes it slower still."""
    progress = replicating(4)
    for times in (1, 2, 4, 8, 16, 32, 64, 64):
        progress.sent(5, MUCH + 1)
        assert waits(progress) == times * PATIENCE + 1
        # The heartbeat that has asked for it has overtaken it.
        progress.refused(5, 4)
        progress.accepted(4)


def test_who_has_got_all_is_waited_for_no_longer_than_others() -> None:
    """Rule 12."""
    progress = replicating(4)
    progress.sent(5, MUCH + 1)
    progress.refused(5, 4)
    progress.accepted(4)
    progress.sent(5, MUCH + 1)
    progress.accepted(5)
    progress.sent(6, MUCH + 1)
    assert waits(progress) == PATIENCE + 1


def test_little_that_was_refused_asks_for_no_more_patience() -> None:
    """Rule 12."""
    progress = replicating(4)
    progress.sent(5, 1)
    progress.refused(5, 4)
    progress.accepted(4)
    progress.sent(5, MUCH + 1)
    assert waits(progress) == PATIENCE + 1
