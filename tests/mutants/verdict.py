"""Who notices one mutant, and how soon.

Knows what is tried on it, and what counts. Must not know what the mutants are, nor how a test, a
script or a seed is run.

A mutant is in force in forks of this process only. So nothing has to be taken back, whatever it
broke, and one that hangs is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from tests.mutants.aside import Tell, TookTooLong, aside
from tests.mutants.house import SCRIPTS, Seed, sow_seeds, tell_stories
from tests.mutants.mutant import Mutant, Test, name_of
from tests.mutants.trial import Tried, try_test

PATIENCE: Final = 30.0
"""Seconds that a test may take before it counts as hanging."""
HOUSE_PATIENCE: Final = 10.0
"""As much for a script or a seed, which take a fraction of a second."""
LITTLE_PATIENCE: Final = 5.0
"""As much for mutants that are known to make the tests hang."""

HANGS: Final = "it hangs"
DIES: Final = "it raises"


@dataclass
class Verdict:
    """What noticed one mutant."""

    mutant: Mutant
    noticed: list[Tried] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    """Tests that should have noticed, and why they did not."""
    story: str = ""
    """The first script that failed."""
    seeds: int = 0
    """How many clusters were simulated."""
    seen_by_seed: str = ""
    """What did not hold in the last of them."""

    @property
    def missed(self) -> bool:
        return bool(self.blind) or not self.noticed

    def cells(self) -> tuple[str, str, str, str, str, str]:
        rule = str(self.mutant.rule)
        if self.noticed:
            first, others = self.noticed[0], len(self.noticed) - 1
            by = first.test + (f" and {others} more" if others else "")
            soon = HANGS if first.why == HANGS else f"{first.seconds * 1000:.1f} ms"
        else:
            by, soon = "nobody", ""
        if self.blind:
            by += f"; not by {', '.join(self.blind)}"
        simulated = ""
        if self.seeds:
            simulated = f"{self.seeds}: {self.seen_by_seed}" if self.seen_by_seed else "-"
        return rule, self.mutant.what, by, soon, self.story, simulated


def judge(mutant: Mutant, seeds: int, *, stories: bool) -> Verdict:
    """Try the named tests on the mutant, and whether the house notices without being told.

    Args:
        seeds: clusters to be simulated at most.
        stories: whether the scenario scripts are run.
    """
    verdict = Verdict(mutant)
    for tried in _try(mutant, mutant.caught_by):
        if tried.failed:
            verdict.noticed.append(tried)
        else:
            verdict.blind.append(f"{tried.test} ({tried.why or 'it passes'})")
    if stories:
        verdict.story = _first_story(mutant)
    if seeds:
        verdict.seeds, verdict.seen_by_seed = _first_seed(mutant, seeds)
    return verdict


def _try(mutant: Mutant | None, tests: Iterable[Test]) -> Iterator[Tried]:
    """Try the tests; those that leave threads behind in forks of their own."""
    patience = LITTLE_PATIENCE if mutant is not None and mutant.hangs else PATIENCE
    left: list[list[Test]] = [[test for test in tests if callable(test)]]
    left += [[test] for test in tests if not callable(test)]
    for group in left:
        while group:
            try:
                for tried in _broken(mutant, partial(_try_here, group), patience):
                    del group[0]
                    yield tried
                    if not group:
                        # Its fixtures may wait in vain for what is broken.
                        break
                if group:
                    yield Tried(name_of(group.pop(0)), False, 0.0, "it was not run")
            except TookTooLong:
                hanging = name_of(group.pop(0))
                yield Tried(hanging, mutant is not None, patience, HANGS)
            except RuntimeError as error:
                why = str(error).strip().rpartition("\n")[2]
                yield Tried(name_of(group.pop(0)), False, 0.0, why)


def _try_here(tests: list[Test], tell: Tell) -> None:
    for test in tests:
        try_test(test, tell)


def _first_story(mutant: Mutant) -> str:
    told = 0
    try:
        for story in _broken(mutant, tell_stories, HOUSE_PATIENCE):
            if story.failed:
                return str(story.name)
            told += 1
    except TookTooLong:
        return f"{SCRIPTS[told].stem}: {HANGS}"
    except RuntimeError:
        return f"{SCRIPTS[told].stem}: {DIES}"
    return "-"


def _first_seed(mutant: Mutant, count: int) -> tuple[int, str]:
    sown = 0
    try:
        for seed in _broken(mutant, lambda tell: sow_seeds(count, tell), HOUSE_PATIENCE):
            assert isinstance(seed, Seed)
            sown += 1
            if seed.why:
                return sown, seed.why
    except TookTooLong:
        return sown + 1, HANGS
    except RuntimeError:
        return sown + 1, DIES
    return sown, ""


def _broken(
    mutant: Mutant | None, work: Callable[[Tell], object], patience: float
) -> Iterator[Any]:
    """What `work` tells while the mutant is in force."""

    def work_with_it(tell: Tell) -> None:
        if mutant is None:
            work(tell)
        else:
            with mutant.in_force():
                work(tell)

    return aside(work_with_it, patience)


def sound(mutants: Iterable[Mutant], advance: Callable[[], object]) -> list[str]:
    """The named tests that fail though nothing is broken: what they notice means nothing."""
    wrong = []
    for tried in _try(None, named(mutants)):
        if tried.failed or tried.why:
            wrong.append(f"{tried.test}: {tried.why}")
        advance()
    return wrong


def named(mutants: Iterable[Mutant]) -> list[Test]:
    """All tests that the mutants name, each once."""
    return list({test: None for mutant in mutants for test in mutant.caught_by})
