"""Every rule that is broken on purpose is noticed by the tests that are there for it.

Mutants whose tests are plain functions are tried here, one by one; the others, whose tests have
threads, in processes of their own. Those that make the tests hang are left to `make mutants`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from exraft.names import Peer
from tests.helpers import LIMIT
from tests.mutants.catalogue import CORE, MUTANTS, OTHERS, RULES
from tests.mutants.mutant import Mutant
from tests.mutants.trial import fails

ROOT = Path(__file__).parents[2]

PLAIN = [mutant for mutant in MUTANTS if all(callable(test) for test in mutant.caught_by)]
ROOMS = sorted({mutant.room for mutant in OTHERS})


@pytest.mark.parametrize("mutant", PLAIN, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    with mutant.in_force():
        blind = [test.__name__ for test in mutant.caught_by if callable(test) and not fails(test)]
    assert not blind


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_what_is_broken_around_the_core_is_noticed() -> None:
    campaign = [sys.executable, "-m", "tests.mutants", "--quick", "--room", *ROOMS]
    ended = subprocess.run(campaign, cwd=ROOT, capture_output=True, text=True, timeout=3 * LIMIT)
    assert re.search(r"^\d+ mutants?, all caught$", ended.stdout, re.MULTILINE), ended
    assert ended.returncode == 0


def test_every_rule_is_broken_in_more_than_one_way() -> None:
    ways = Counter(mutant.rule for mutant in CORE)
    assert {rule for rule, count in ways.items() if count > 1} == RULES


def test_no_two_mutants_have_the_same_name() -> None:
    names = Counter(mutant.name for mutant in MUTANTS)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_mutants_are_the_same() -> None:
    changes = Counter((mutant.target(), mutant.right, mutant.wrong) for mutant in MUTANTS)
    assert [change for change, count in changes.items() if count > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_breaks_stands_in_the_source_once(mutant: Mutant) -> None:
    assert mutant.broken().__code__ != mutant.target().__code__


# Mutants themselves.


def greet(name: str, mark: str = "!") -> str:
    return "Hello " + name + mark


class Loud(Peer):
    def __str__(self) -> str:
        return super().__str__().upper()


def wrong_greeting(right: str = '"Hello "', wrong: str = '"Bye "') -> Mutant:
    return Mutant(0, "the greeting is wrong", greet, right, wrong, ())


def test_a_mutant_is_in_force_for_who_holds_the_function_already_and_no_longer_than_it_should() -> (
    None
):
    held = greet
    with wrong_greeting().in_force():
        assert held("Ann") == "Bye Ann!"
    assert held("Ann") == "Hello Ann!"


def test_a_mutant_is_taken_back_when_it_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), wrong_greeting().in_force():
        raise KeyboardInterrupt
    assert greet("Ann") == "Hello Ann!"


def test_a_default_can_be_broken() -> None:
    with wrong_greeting('mark: str = "!"', 'mark: str = "?"').in_force():
        assert greet("Ann") == "Hello Ann?"
    assert greet("Ann") == "Hello Ann!"


def test_a_method_that_calls_its_super_can_be_broken() -> None:
    ann = Loud(":ann")
    with Mutant(0, "it whispers", Loud.__str__, ".upper()", ".lower()", ()).in_force():
        assert str(ann) == ":ann"
    assert str(ann) == ":ANN"


@pytest.mark.parametrize("right", ["Goodbye", "name"])
def test_a_piece_that_does_not_stand_there_once_is_an_error(right: str) -> None:
    with pytest.raises(LookupError, match="wants it once"):
        wrong_greeting(right).broken()
