from __future__ import annotations

import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exraft.testing import Simulation, Total, run_campaign, run_seeds
from exraft.testing.campaign import CHUNK, EXERCISED, default, named
from tests.testing.machines import CALM, shelf, small

HERE = "tests.testing.test_campaign"
SLICE = range(0, 240)
PART = 20


def fine(seed: int) -> Simulation:
    return shelf(seed, faults=CALM, events=100)


def fails_at_seven(seed: int) -> Simulation:
    """As if something were wrong with this seed alone."""

    def check(state: dict[str, int]) -> bool:
        return seed != 7

    return shelf(seed, faults=CALM, events=100, check=check, shrink=0)


def mistaken(seed: int) -> Simulation:
    def commands(rng: random.Random) -> Any:
        raise LookupError(f"in the test, with {seed}")

    return shelf(seed, faults=CALM, commands=commands)


def nothing(seed: int) -> Any:
    return None


def dies_at_seven(seed: int) -> Simulation:
    """As if the machine made the interpreter crash."""
    if seed == 7:
        os._exit(3)
    return fine(seed)


def exits(seed: int) -> Simulation:
    raise SystemExit(0)


no_function = 7


# What this project is tested by: a part of what `make simulate` runs by the thousand.

exercised: Counter[str] = Counter()
lived: dict[int, None] = {}


@pytest.mark.parametrize("first", SLICE[::PART])
def test_clusters_survive_everything_at_once(first: int) -> None:
    for seed in range(first, first + PART):
        report = default(seed).run()
        assert report.steps >= 2000
        assert report.commits >= 50
        assert report.decided
        exercised.update(report.counts)
        lived[seed] = None


def test_the_seeds_have_met_every_kind_of_trouble() -> None:
    if len(lived) < len(SLICE):
        pytest.skip("says something only of all seeds together")
    assert [kind for kind in EXERCISED if not exercised[kind]] == []


def test_clusters_have_three_to_seven_servers_unless_it_is_said() -> None:
    assert {default(seed).servers for seed in range(60)} == {3, 4, 5, 6, 7}
    assert {default(seed, servers=(2, 2)).servers for seed in range(10)} == {2}


# Seeds, one after the other.


def test_what_seeds_have_met_is_added_up() -> None:
    total, failed = run_seeds(fine, range(3))
    reports = [fine(seed).run() for seed in range(3)]
    assert failed is None
    assert (total.seeds, total.undecided) == (3, 0)
    assert total.steps == sum(report.steps for report in reports)
    assert total.commits == sum(report.commits for report in reports)
    assert total.seconds == pytest.approx(sum(report.seconds for report in reports))
    assert total.least_steps == min(report.steps for report in reports)
    assert total.least_commits == min(report.commits for report in reports)
    assert total.suffered_steps == sum(report.suffered_steps for report in reports)
    assert total.suffered_commits == sum(report.suffered_commits for report in reports)
    assert total.least_suffered_steps == min(report.suffered_steps for report in reports)
    assert total.least_suffered_commits == min(report.suffered_commits for report in reports)
    assert total.counts == sum((report.counts for report in reports), Counter())
    assert total.took > 0


def test_the_first_failure_ends_it() -> None:
    total, failed = run_seeds(fails_at_seven, range(5, 20))
    assert failed is not None
    assert (failed.seed, failed.invariant) == (7, "the machine's own")
    assert failed.text.startswith("the machine's own: not so after ")
    assert "seed 7:" in failed.text
    assert total.seeds == 2


def test_what_returns_no_simulation_is_told_so() -> None:
    _, failed = run_seeds(nothing, [3])
    assert failed is not None
    assert "returned None for 3, and no Simulation" in failed.text


def forgetful(seed: int) -> Simulation:
    return small()


def test_a_simulation_of_another_seed_is_a_mistake() -> None:
    _, failed = run_seeds(forgetful, [0, 3])
    assert failed is not None
    assert failed.seed == 3
    assert "returned the simulation of seed 0 for 3: it must pass seed= on" in failed.text


def test_what_the_test_raises_is_a_failure_of_its_seed() -> None:
    total, failed = run_seeds(mistaken, range(3, 9))
    assert failed is not None
    assert (total.seeds, failed.seed, failed.invariant) == (0, 3, "")
    assert failed.text.startswith("seed 3: the test itself raised\nTraceback ")
    assert failed.text.endswith("LookupError: in the test, with 3")


def test_a_test_that_exits_does_not_end_the_campaign_unnoticed() -> None:
    _, failed = run_seeds(exits, [3])
    assert failed is not None
    assert failed.text.endswith("SystemExit: 0")


# Totals.


def parts() -> Iterator[Total]:
    for seed in range(3):
        total = Total()
        total.add(fine(seed).run())
        yield total


def test_totals_of_parts_are_the_total_of_all() -> None:
    merged = Total()
    for part in parts():
        merged.merge(part)
    together, _ = run_seeds(fine, range(3))
    together.took = 0.0
    assert merged == together


def test_a_part_in_which_nothing_ended_well_does_not_count_as_least() -> None:
    merged = Total()
    for part in (*parts(), Total()):
        merged.merge(part)
    assert merged.least_steps >= 100
    assert merged.least_commits >= 5


def test_the_least_may_be_nothing() -> None:
    merged = Total()
    merged.merge(Total(seeds=1, least_steps=0, least_commits=0))
    merged.merge(Total(seeds=1, least_steps=9, least_commits=9))
    assert (merged.least_steps, merged.least_commits) == (0, 0)


def test_what_was_not_met_is_named() -> None:
    total = Total()
    total.counts.update({kind: 1 for kind in EXERCISED if kind != "stalls"})
    assert total.missing() == ["stalls"]
    assert any(line.split() == ["none", "stalls"] for line in total.lines())


def test_a_total_is_told_with_its_rates() -> None:
    total = Total(
        seeds=20,
        steps=4000,
        seconds=7200.0,
        commits=100,
        suffered_steps=3000,
        suffered_commits=60,
        undecided=1,
        least_steps=150,
        least_commits=3,
        least_suffered_steps=90,
        least_suffered_commits=0,
        took=10.0,
    )
    total.counts["elections"] = 1234
    lines = total.lines()
    assert lines[0].split() == ["1,234", "elections"]
    assert lines[-4:] == [
        "20 seeds in 10.0 s: 2.0 seeds/s, 400 steps/s, 12.0 simulated hours a minute",
        "4,000 steps (at least 150 a seed), of them 3,000 under faults (at least 90)",
        "100 commits (at least 3 a seed), of them 60 under faults (at least 0)",
        "1 histories undecided",
    ]


# Side by side.


def test_processes_side_by_side_meet_what_one_after_the_other_does() -> None:
    seen: list[int] = []
    seeds = range(3 * CHUNK + 2)
    total, failed = run_campaign(
        f"{HERE}:fine", seeds, jobs=2, progress=lambda total: seen.append(total.seeds)
    )
    alone, _ = run_seeds(fine, seeds)
    assert failed is None
    assert seen == sorted(seen)
    assert seen[-1] == total.seeds == len(seeds)
    assert (total.steps, total.commits, total.counts) == (alone.steps, alone.commits, alone.counts)


def test_a_failure_stops_the_others() -> None:
    total, failed = run_campaign(f"{HERE}:fails_at_seven", range(100 * CHUNK), jobs=2)
    assert failed is not None
    assert failed.seed == 7
    assert total.seeds < 50 * CHUNK
    assert multiprocessing.active_children() == []


def test_a_mistake_in_the_test_is_told_with_its_seed() -> None:
    _, failed = run_campaign(f"{HERE}:mistaken", range(4, 6), jobs=1)
    assert failed is not None
    assert failed.seed == 4
    assert "LookupError: in the test, with 4" in failed.text


def test_a_process_that_dies_is_told_with_the_seed_it_died_of() -> None:
    total, failed = run_campaign(f"{HERE}:dies_at_seven", range(4, 14), jobs=1)
    assert failed is not None
    assert (failed.seed, failed.invariant) == (7, "")
    assert failed.text == "seed 7: its process died with exit code 3"
    assert total.seeds == 3


def test_who_interrupts_a_campaign_does_not_wait_for_its_processes() -> None:
    def interrupt(total: Total) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_campaign(f"{HERE}:fine", range(100 * CHUNK), jobs=2, progress=interrupt)
    assert multiprocessing.active_children() == []


def test_no_seeds_are_no_work() -> None:
    total, failed = run_campaign(f"{HERE}:fine", [], jobs=1)
    assert (total.seeds, failed) == (0, None)


# Names.


def test_a_function_is_found_by_its_name() -> None:
    assert named(f"{HERE}:fine") is fine


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "'' is not like module:function"),
        ("fine", "'fine' is not like module:function"),
        (f"{HERE}:", "is not like module:function"),
        (":fine", "is not like module:function"),
        (".test_campaign:fine", "is not like module:function"),
        ("no.such.module:fine", "No module named 'no'"),
        (f"{HERE}:no_such_function", "no_such_function"),
        (f"{HERE}:no_function", "is 7, and not a function from a seed to a Simulation"),
    ],
)
def test_a_name_that_names_nothing_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        named(name)
    assert text in str(caught.value)
    with pytest.raises(ValueError):
        run_campaign(name, range(1), jobs=1)


def test_a_module_that_can_not_be_imported_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_at_import.py").write_text("raise RuntimeError('not\\ntoday')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError) as caught:
        named("broken_at_import:simulation")
    assert str(caught.value) == "broken_at_import:simulation: RuntimeError: not today"
