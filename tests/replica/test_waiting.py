"""Who is answered with which entry, and who is told that theirs is lost."""

from __future__ import annotations

import pytest

from exraft.actors.calls import Write, WriteReply
from exraft.errors import CommandDropped, OutcomeUnknown
from exraft.replica import Waiting


def a_call() -> Write:
    return Write(WriteReply(), b"")


def is_dropped(call: Write) -> bool:
    if not call.reply.done():
        return False
    with pytest.raises(CommandDropped):
        call.reply.get(timeout=0)
    return True


def test_who_waits_for_an_entry_is_found_by_its_term_and_index_and_only_once() -> None:
    """Rule 13."""
    waiting: Waiting[Write] = Waiting()
    call = a_call()
    waiting.add(1, 5, call)
    assert waiting.take(1, 4) is None
    assert waiting.take(1, 5) is call
    assert waiting.take(1, 5) is None
    assert not waiting


def test_who_waits_at_an_index_where_another_term_is_applied_is_told() -> None:
    """Rule 13: a later entry of the term it was written in may stand elsewhere, and never here."""
    waiting: Waiting[Write] = Waiting()
    here, later = a_call(), a_call()
    waiting.add(3, 5, here)
    waiting.add(3, 6, later)
    assert waiting.take(2, 5) is None
    assert is_dropped(here)
    assert not later.reply.done()


def test_when_a_later_term_is_applied_everyone_of_an_earlier_one_is_told() -> None:
    """Rule 13: terms never fall along a log."""
    waiting: Waiting[Write] = Waiting()
    lost, kept = a_call(), a_call()
    waiting.add(1, 9, lost)
    waiting.add(2, 5, kept)
    assert waiting.take(2, 5) is kept
    assert is_dropped(lost)
    assert not kept.reply.done()


def test_who_waits_is_counted_and_seen_whatever_the_term() -> None:
    waiting: Waiting[Write] = Waiting()
    assert not waiting
    one, other = a_call(), a_call()
    waiting.add(1, 1, one)
    waiting.add(2, 2, other)
    assert (len(waiting), list(waiting)) == (2, [one, other])
    waiting.clear()
    assert not waiting


def test_who_waits_where_a_snapshot_jumped_past_is_told_that_nobody_knows() -> None:
    waiting: Waiting[Write] = Waiting()
    passed, other, later = a_call(), a_call(), a_call()
    waiting.add(1, 5, passed)
    waiting.add(2, 6, other)
    waiting.add(2, 7, later)
    waiting.pass_by(6)
    for call in (passed, other):
        with pytest.raises(OutcomeUnknown, match="jumped past") as raised:
            call.reply.get(timeout=0)
        assert raised.value.maybe_applied
    assert list(waiting) == [later]
