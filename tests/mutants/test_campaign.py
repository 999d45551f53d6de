"""How mutants are tried: in forks, with patience that ends, and a verdict that can be read."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable

import pytest

from tests.helpers import LIMIT
from tests.mutants.aside import Tell, TookTooLong, aside
from tests.mutants.campaign import markdown, sum_up
from tests.mutants.catalogue import CORE
from tests.mutants.mutant import Mutant
from tests.mutants.trial import Tried
from tests.mutants.verdict import Verdict, judge

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def double(number: int) -> int:
    return 2 * number


def test_double() -> None:
    assert double(2) == 4


def test_nothing() -> None:
    assert double(0) == 0


def test_that_slips() -> None:
    assert double("2") == "22"  # type: ignore[arg-type, comparison-overlap]


def wrong(*caught_by: Callable[[], None], what: str = "it is tripled") -> Mutant:
    return Mutant(1, what, double, "2 * number", "3 * number", caught_by)


# What is run aside.


def test_what_is_told_aside_is_heard_in_order() -> None:
    def count(tell: Tell) -> None:
        for number in range(3):
            tell(number)

    assert list(aside(count, LIMIT)) == [0, 1, 2]


def test_what_is_changed_aside_stays_there() -> None:
    changed = []
    list(aside(lambda tell: changed.append("there"), LIMIT))
    assert changed == []


def hang(tell: Tell) -> None:
    tell("it begins")
    threading.Event().wait()


def test_who_says_nothing_aside_for_too_long_is_ended() -> None:
    with pytest.raises(TookTooLong):
        list(aside(hang, 0.01))
    assert multiprocessing.active_children() == []


def test_who_is_listened_to_no_more_is_ended() -> None:
    for told in aside(hang, LIMIT):
        assert told == "it begins"
        break
    assert multiprocessing.active_children() == []


def raise_it(tell: Tell) -> None:
    raise ValueError("no such luck")


def test_what_raises_aside_is_an_error_here() -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        list(aside(raise_it, LIMIT))


def test_who_ends_aside_without_a_word_is_an_error_here() -> None:
    with pytest.raises(RuntimeError, match="without a word"):
        list(aside(lambda tell: os._exit(0), LIMIT))


# Verdicts.


def test_a_mutant_is_caught_if_all_its_tests_notice() -> None:
    verdict = judge(wrong(test_double), 0, stories=False)
    assert not verdict.missed
    assert [tried.test for tried in verdict.noticed] == ["test_double"]
    assert double(2) == 4


def test_a_mutant_is_missed_if_one_of_its_tests_is_blind() -> None:
    verdict = judge(wrong(test_nothing, test_double), 0, stories=False)
    assert verdict.missed
    assert verdict.blind == ["test_nothing (it passes)"]


def test_a_mutant_that_nothing_is_there_for_is_missed() -> None:
    assert judge(wrong(), 0, stories=False).missed


def test_an_accident_is_not_taken_for_a_test_that_notices() -> None:
    slip = Mutant(1, "a slip", double, "2 * number", "twice(number)", (test_double,))
    verdict = judge(slip, 0, stories=False)
    assert verdict.missed
    assert "NameError" in verdict.blind[0]


def test_the_house_notices_a_quorum_of_half_without_being_told() -> None:
    half = next(mutant for mutant in CORE if "half of the voters" in mutant.what)
    verdict = judge(half, 50, stories=True)
    assert verdict.seen_by_seed
    assert verdict.seeds <= 50


def caught(what: str = "it is tripled") -> Verdict:
    return Verdict(wrong(what=what), [Tried("test_double", True, 0.0042, "6 == 4")])


def test_what_was_missed_is_named_and_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    missed = Verdict(wrong(what="it is a|b"), [], ["test_nothing (it passes)"])
    assert sum_up([caught(), missed]) == 1
    told = capsys.readouterr().out
    assert "2 mutants, 1 missed:" in told
    assert "rule 1: it is a|b: nobody; not by test_nothing (it passes)" in told
    assert "it is tripled" not in told


def test_it_is_said_if_all_were_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert sum_up([caught(), caught()]) == 0
    assert capsys.readouterr().out == "2 mutants, all caught\n"


def test_the_table_has_a_row_a_mutant() -> None:
    verdict = caught("a|b")
    verdict.story, verdict.seeds, verdict.seen_by_seed = "a-story", 3, "two leaders"
    assert markdown([verdict]).splitlines()[2:] == [
        "| 1 | a\\|b | test_double | 4.2 ms | a-story | 3: two leaders |"
    ]
