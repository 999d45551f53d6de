"""What holds in a crash storm: order, counts and intensity are right, and nothing is left behind.

`STRESS_SECONDS` and `STRESS_SEED` make it longer or another one; the default is a short slice from
a fixed seed. The numbers S1 to S57 are the statements about supervision.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import pytest

from exraft.actors import is_orderly
from exraft.supervision.tree import Node
from tests.stress.storm import BRIEF, Branch, Life, Storm, Window

SECONDS = float(os.environ.get("STRESS_SECONDS", "4"))
SEED = int(os.environ.get("STRESS_SEED", "2024"))
CHILDREN = 200

Supervised: TypeAlias = tuple[Branch, Life, list[Life]]
"""A supervisor, one life of it, and the lives that its children had meanwhile."""

pytestmark = [pytest.mark.stress, pytest.mark.timeout(SECONDS + 400)]


@pytest.fixture(scope="module")
def storm() -> Storm:
    storm = Storm(SEED, SECONDS, CHILDREN)
    print(storm)
    return storm


def check(storm: Storm, wrong: Sequence[str]) -> None:
    shown = "\n  ".join(wrong[:20])
    assert not wrong, f"{len(wrong)} times:\n  {shown}\n{storm}"


def supervised(storm: Storm, *kinds: str) -> Iterator[Supervised]:
    """All lives of the supervisors of these kinds that had started."""
    for key, branch in storm.forest.branches.items():
        # Of an incident that began with one that was killed before it began nobody knows.
        if branch.kind in kinds and storm.book.all_have_begun(branch.keys):
            for life in storm.book.lives[key]:
                if life.ref is not None:
                    yield branch, life, storm.under[life.ref]


def survived(storm: Storm, life: Life) -> bool:
    """Whether it lived until all were stopped."""
    return life.ended is not None and life.ended > storm.stopping


def by_itself(branch: Branch, lives: Sequence[Life]) -> list[Life]:
    """Those that the supervisor started by itself, after the first ones."""
    return [life for life in lives[len(branch.keys) :] if life.by_hand == "no"]


def was_terminated(storm: Storm, key: str, first: int, last: int) -> bool:
    """Whether an administrator had it terminated between two numbers."""
    return any(
        began < last and first < ended for began, ended in storm.book.terminated.get(key, ())
    )


def test_everything_that_can_happen_has_happened(storm: Storm) -> None:
    kinds = {branch.kind for branch in storm.forest.branches.values()}
    assert kinds == {"one_for_one", "one_for_all", "rest_for_one", "dynamic"}
    assert len(storm.forest.above) >= CHILDREN
    check(storm, [f"no {what}" for what, number in storm.book.done.items() if not number])


def test_no_life_overlaps_its_successor_and_no_zombie_does_harm(storm: Storm) -> None:
    """S54, S55, S30: what was seen to be wrong when it happened; calls that hung as well."""
    check(storm, storm.book.wrong)


def test_every_life_has_ended_once(storm: Storm) -> None:
    check(storm, [f"{life} has not ended" for life in storm.book.all() if life.ended is None])


def test_children_start_in_list_order(storm: Storm) -> None:
    """S1: in every life of a supervisor."""
    kinds = "one_for_one", "one_for_all", "rest_for_one"
    check(
        storm,
        [
            f"{life} started {found}"
            for branch, life, lives in supervised(storm, *kinds)
            if (found := tuple(each.key for each in lives[: len(branch.keys)])) != branch.keys
        ],
    )


def test_who_ends_is_restarted_as_its_spec_says(storm: Storm) -> None:
    """S9, S10, S11, S14: exactly once, or not at all."""
    wrong = []
    for _, sup, lives in supervised(storm, "one_for_one", "dynamic"):
        if not survived(storm, sup) or sup.ref in storm.book.doubtful:
            continue
        by_key: dict[str, list[Life]] = defaultdict(list)
        for life in lives:
            by_key[life.key].append(life)
        for key, own in by_key.items():
            for former, successor in pairwise([*own, None]):
                assert former is not None
                assert former.ended is not None
                last = storm.stopping if successor is None else successor.began
                if former.ended > storm.stopping or was_terminated(storm, key, former.began, last):
                    continue
                if former.up is None and former.by_hand != "no":
                    expected = False  # S44; one that was started again by hand stays stopped
                else:
                    expected = former.up is None or restarts(storm, former)
                found = successor is not None and successor.by_hand == "no"
                if found != expected:
                    wrong.append(f"after {former} came {successor}")
    check(storm, wrong)


def restarts(storm: Storm, life: Life) -> bool:
    spec = storm.forest.specs.get(life.key)
    kind = "permanent" if spec is None else spec.restart
    return kind == "permanent" or (kind == "transient" and not is_orderly(life.reason))


def test_each_restart_is_counted_once(storm: Storm) -> None:
    """S20, S23: by one_for_one, as often as a child was begun again."""
    wrong = []
    for branch, sup, lives in supervised(storm, "one_for_one", "dynamic"):
        if sup.window is None or sup.ref in storm.book.doubtful:
            continue
        allowed = sum(answer for _, answer in sup.window.answers)
        begun = len(by_itself(branch, lives))
        # Who is killed may have counted restarts that it did not come to.
        if begun != allowed and not (sup.reason == "killed" and begun < allowed):
            wrong.append(f"{sup} counted {allowed} restarts and began {begun} lives")
    check(storm, wrong)


def test_each_incident_is_counted_once(storm: Storm) -> None:
    """S26: by one_for_all and rest_for_one, as often as they started those that are affected."""
    wrong = []
    for branch, sup, lives in supervised(storm, "one_for_all", "rest_for_one"):
        if sup.window is None or sup.ref in storm.book.doubtful:
            continue
        allowed = sum(answer for _, answer in sup.window.answers)
        seen = len(rounds(storm, branch, by_itself(branch, lives)))
        if seen != allowed and not (sup.reason == "killed" and seen < allowed):
            wrong.append(f"{sup} counted {allowed} incidents, and there were {seen}")
    check(storm, wrong)


def rounds(storm: Storm, branch: Branch, lives: Sequence[Life]) -> list[list[Life]]:
    """The lives in groups: each is what one incident has made the supervisor start."""
    keys = lasting(storm, branch)
    found: list[list[Life]] = []
    for life in lives:
        # One that fails to start ends the round. The next one may begin with its neighbour, if it
        # was terminated before the next attempt.
        last = found[-1][-1] if found else None
        if last is not None and last.up is not None and pairs(keys, last.key, life.key):
            found[-1].append(life)
        else:
            found.append([life])
    return found


def lasting(storm: Storm, branch: Branch) -> list[str]:
    """Its children in order, without the temporary ones, which are not started again."""
    specs = storm.forest.specs
    return [k for k in branch.keys if k not in specs or specs[k].restart != "temporary"]


def pairs(keys: Sequence[str], one: str, other: str) -> bool:
    return (one, other) in pairwise(keys)


def test_a_strategy_starts_again_who_is_affected_in_order(storm: Storm) -> None:
    """S15, S16, S17, S18: up to the last one, or up to one that fails to start."""
    wrong = []
    for branch, sup, lives in supervised(storm, "one_for_all", "rest_for_one"):
        if sup.ref in storm.book.doubtful:
            continue
        keys = lasting(storm, branch)
        found = rounds(storm, branch, by_itself(branch, lives))
        for number, started in enumerate(found):
            last = started[-1]
            # Who is killed may stop anywhere.
            complete = last.key == keys[-1] or (sup.reason == "killed" and number + 1 == len(found))
            if not complete and last.up is not None and last.reason != "killed":
                wrong.append(f"{sup} went no further than {started}")
            if branch.kind == "one_for_all" and started[0].key != keys[0]:
                wrong.append(f"{sup} began with {started}")
            if any(life.key not in keys for life in started):
                wrong.append(f"{sup} started a temporary child again: {started}")
    check(storm, wrong)


def test_a_strategy_stops_who_is_affected_in_reverse(storm: Storm) -> None:
    """S15, S16: and nobody who is not; S22 and S28: in the end it stops all of them."""
    wrong = []
    for branch, sup, lives in supervised(storm, "one_for_all", "rest_for_one"):
        if sup.ref in storm.book.doubtful:
            continue
        order = {key: number for number, key in enumerate(branch.keys)}
        starts = [each[0] for each in rounds(storm, branch, by_itself(branch, lives))]
        ordered = sorted((life for life in lives if was_ordered(storm, life)), key=end)
        for began, first in pairwise([0, *(each.began for each in starts), storm.book.now()]):
            stopped = [order[life.key] for life in ordered if began < end(life) < first]
            if stopped != sorted(stopped, reverse=True):
                wrong.append(f"{sup} stopped {stopped}, before {first}")
            trigger = next((each for each in starts if each.began == first), None)
            if branch.kind == "rest_for_one" and trigger is not None:
                elders = [number for number in stopped if number <= order[trigger.key]]
                wrong += [f"{sup} stopped {number} for {trigger}" for number in elders]
    check(storm, wrong)


def end(life: Life) -> int:
    assert life.ended is not None
    return life.ended


def was_ordered(storm: Storm, life: Life) -> bool:
    """Whether its supervisor ended it, and nobody had asked for that."""
    ordered = life.reason == "shutdown"
    return ordered and not was_terminated(storm, life.key, end(life) - 1, end(life) + 1)


def test_the_counters_of_restarts_agree(storm: Storm) -> None:
    """What the tree says in the end: a child began once, and then as often as it was restarted."""
    wrong: list[str] = []
    pending = [storm.calm]
    while pending:
        node = pending.pop()
        pending += node.children
        if node.kind == "supervisor":
            wrong += miscounted(storm, node)
    check(storm, wrong)


def miscounted(storm: Storm, sup: Node) -> Iterator[str]:
    if sup.ref is None or sup.ref in storm.book.doubtful:
        return
    lives = storm.under[sup.ref]
    for child in sup.children:
        own = [life for life in lives if life.key == child.id]
        # A new spec counts from the beginning.
        newest = max((n for n, life in enumerate(own) if life.by_hand == "new"), default=0)
        begun = len(own) - newest
        if begun != 1 + child.restarts:
            yield f"{child.id} began {begun} times, and was restarted {child.restarts} times"
        if child.ref is not None and own[-1].ref is not child.ref:
            yield f"{child.id} is another life than {own[-1]}"


def test_a_supervisor_gives_up_when_its_limit_is_passed_and_not_before(storm: Storm) -> None:
    """S20, S22, S25: told by the moments at which it had to restart somebody."""
    wrong: list[str] = []
    gave_up = 0
    for _, sup, _ in supervised(storm, "one_for_one", "one_for_all", "rest_for_one", "dynamic"):
        if sup.window is None:
            continue
        wrong += [f"{sup}: {each}" for each in misjudged(sup.window)]
        if not all(answer for _, answer in sup.window.answers):
            gave_up += 1
            if sup.reason not in ("shutdown", "killed"):
                wrong.append(f"{sup} went on after its limit was passed")
        elif sup.reason == "shutdown" and is_strict(sup) and not survived(storm, sup):
            wrong.append(f"{sup} gave up though its limit was not passed")
    if not gave_up:
        wrong.append("nobody has ever given up")
    check(storm, wrong)


def is_strict(sup: Life) -> bool:
    """Whether nobody but itself ends it with `"shutdown"`."""
    return sup.window is not None and sup.window.limits[1] == BRIEF


def misjudged(window: Window) -> Iterator[str]:
    most, seconds = window.limits
    moments = [moment for moment, _ in window.answers]
    for number, (now, answer) in enumerate(window.answers):
        recent = number + 1 - bisect_right(moments, now - seconds, hi=number + 1)
        if answer != (recent <= most):
            yield f"{recent} of {most} restarts in {seconds} s, and the answer was {answer}"
        if not answer and number + 1 < len(moments):
            yield "it restarted somebody after that"


def test_in_the_end_all_are_stopped_in_reverse(storm: Storm) -> None:
    """S28: one after the other, those under a supervisor of any kind but the dynamic."""
    wrong = []
    for _, sup, lives in supervised(storm, "one_for_one", "one_for_all", "rest_for_one"):
        if not survived(storm, sup):
            continue
        newest = {life.key: life for life in lives if life.by_hand == "new"}
        place = {life.key: life.began for life in reversed(lives)} | {
            key: life.began for key, life in newest.items()
        }
        ended = sorted((life for life in lives if end(life) > storm.stopping), key=end)
        places = [place[life.key] for life in ended]
        if places != sorted(places, reverse=True):
            wrong.append(f"{sup} stopped {ended}")
    check(storm, wrong)


def test_nothing_is_left(storm: Storm) -> None:
    """Threads, actors, names, fences and links are as before."""
    check(storm, storm.left)
