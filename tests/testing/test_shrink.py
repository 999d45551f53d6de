from __future__ import annotations

import random
from typing import Any

import pytest

from exraft.raft import core
from exraft.testing import Faults, MachineModel, Simulation, SimulationFailed, Violation
from exraft.testing.plan import Happening, Plan
from exraft.testing.shrink import _without, outline
from exraft.testing.simulation import BEGINNING, ROWS, Run
from tests.testing.machines import CALM, Sum, shelf, small

BAD = Faults(loss=0.05, doubling=0.1, lag=0.05, partitions=0.5, crashes=0.5, slow_disks=0.01)


def below(limit: int) -> Any:
    def check(state: int) -> None:
        if state >= limit:
            raise AssertionError(f"{limit} is too much")

    return check


def failing(simulation: Simulation) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as caught:
        simulation.run()
    return caught.value


def test_a_failing_run_is_made_shorter_and_still_fails() -> None:
    unshrunk = failing(small(check=below(60), faults=BAD, shrink=0))
    failure = failing(small(check=below(60), faults=BAD))
    assert failure.invariant == unshrunk.invariant == "the machine's own"
    assert "60 is too much" in failure.what
    plan = failure.report.plan
    assert len(plan.happenings) < len(unshrunk.report.plan.happenings) / 2
    assert failure.report.steps <= unshrunk.report.steps
    simulation = small(check=below(60), faults=BAD)
    found = Run(simulation, failure.report.faults, plan, trace=False).live()
    assert found is not None
    assert found.invariant == failure.invariant


def test_nothing_is_left_that_is_not_needed() -> None:
    failure = failing(small(check=below(1), commands=lambda rng: 1, faults=BAD, shrink=1000))
    # One write is one too many; if none is left, it is that of who asks when all is calm.
    assert [each.kind for each in failure.report.plan.happenings] in ([], ["write"])
    assert "with a network in good order" in str(failure)


def test_a_plan_ends_soon_after_the_last_happening_that_is_left() -> None:
    happenings = tuple(Happening(float(at), "crash", at) for at in range(4))
    plans = list(_without(Plan(happenings, 50.0), 2))
    assert plans == [
        Plan(happenings[:2], BEGINNING + 1.0 + 1.0),
        Plan(happenings[2:], 50.0),
    ]
    assert list(_without(Plan(happenings, 50.0), 4)) == [Plan((), BEGINNING + 1.0)]


def test_faults_that_have_no_part_in_it_are_left_out() -> None:
    bad = Faults(loss=0.05, doubling=0.1, delay=(0.01, 0.1), lag=0.05, slow_disks=0.01)
    failure = failing(small(check=below(20), faults=bad))
    assert failure.report.faults == CALM


def test_what_has_a_part_in_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # ExRaft 0.2's quorum: two halves of four servers each elect a leader (rule 1).
    monkeypatch.setattr(core, "quorum", lambda config, least: (len(config.voters) + 1) // 2)
    for seed in range(50):
        try:
            shelf(seed, servers=4, faults=Faults(partitions=3.0, delay=(0.01, 0.1))).run()
        except SimulationFailed as failure:
            assert failure.invariant in ("one leader a term", "elected by a majority")
            return
    pytest.fail("a quorum of one half was not found out")


def test_a_message_has_the_seed_what_failed_the_trace_and_how_to_see_it_again() -> None:
    failure = failing(small(seed=3, check=below(20), faults=BAD))
    lines = str(failure).splitlines()
    assert lines[0].startswith("the machine's own: 20 is too much: after ")
    assert lines[1].startswith("seed 3: 3 servers, ")
    assert " happenings: 20 is too much: after " in lines[1]
    assert lines[2].startswith("Shrunk in ")
    assert lines[3].split()[:3] == [":a", ":b", ":c"]
    assert lines[-2] == failure.trace[-1]
    assert lines[-1] == failure.again == "again: the same Simulation, with seed=3"
    assert len(lines) <= ROWS + 5
    assert failure.seed == 3


def test_a_failure_has_the_whole_trace_and_the_report_of_the_shorter_run() -> None:
    failure = failing(small(check=below(60), faults=BAD))
    assert failure.trace == failure.report.trace
    assert any("starts" in line for line in failure.trace)
    assert len(failure.report.history)


def test_a_failure_can_be_left_as_it_is() -> None:
    simulation = small(check=below(60), faults=BAD, shrink=0)
    failure = failing(simulation)
    assert "Shrunk in 0 runs" in str(failure)
    assert failure.report.faults == BAD
    run = Run(simulation, BAD, None, trace=True)
    assert run.live() is not None
    assert failure.trace == run.report().trace


def test_no_more_runs_are_spent_than_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = []
    live = Run.live

    def counted(run: Run) -> Any:
        runs.append(run)
        return live(run)

    monkeypatch.setattr(Run, "live", counted)
    failing(small(check=below(60), faults=BAD, shrink=7))
    # The run itself, and the shrunk one with its trace.
    assert len(runs) == 7 + 2


def test_the_same_failure_is_shrunk_to_the_same_run() -> None:
    first, second = (str(failing(small(check=below(60), faults=BAD))) for _ in range(2))
    assert first == second


def test_another_failure_is_not_taken_for_the_same() -> None:
    class Deep(Sum):
        """Breaks one thing with the state, and another without: a shorter run must not do that."""

        def handle_write(self, command: Any, state: Any) -> Any:
            if command == 0 and state < 30:
                raise RecursionError
            return super().handle_write(command, state)

    def commands(rng: random.Random) -> int:
        return rng.randrange(1, 10)

    failure = failing(small(Deep, commands=commands, check=below(40), faults=CALM))
    assert failure.invariant == "the machine's own"


def test_a_run_that_can_not_be_had_again_says_so() -> None:
    lives = [0]

    class Moody(Sum):
        def init(self, init_arg: Any) -> int:
            lives[0] += 1
            return 0

        def handle_write(self, command: Any, state: Any) -> Any:
            if lives[0] == 4:  # One for the model, and the first cluster.
                raise RecursionError
            return super().handle_write(command, state)

    lives[0] = 1
    failure = failing(small(Moody, faults=CALM))
    assert failure.invariant == "nothing raises"
    assert "and a second run of it went otherwise" in str(failure)
    assert "chance, time, or the order of a set" in str(failure)


def test_what_fails_only_in_the_quiet_after_is_had_again() -> None:
    chosen: dict[str, Any] = {
        "check": below(45),
        "commands": lambda rng: 1,
        "calls": 0.5,
        "commits": 60,
        "events": 10,
        "faults": CALM,
    }
    failure = failing(small(**chosen))
    assert "second run" not in str(failure)
    assert "45 is too much" in failure.what
    assert failure.plan.calls > 20
    assert f"{failure.plan.calls} x a call after the faults" in str(failure)


def test_calls_after_the_faults_that_are_not_needed_are_left_out() -> None:
    class Wrong(Sum):
        def handle_read(self, query: Any, state: Any) -> Any:
            return -1

    def simulation(shrink: int) -> Simulation:
        model = MachineModel(Sum)
        return small(
            Wrong, model=model, calls=0.5, commits=40, events=10, faults=CALM, shrink=shrink
        )

    # That the answers are wrong is found out at the end, when all was done.
    assert failing(simulation(0)).plan.calls > 10
    assert failing(simulation(200)).plan.calls == 0


def test_the_shrunk_run_can_be_had_again_by_its_plan_and_its_faults() -> None:
    failure = failing(small(check=below(60), faults=BAD))
    simulation = small(check=below(60), faults=failure.faults, shrink=0)
    with pytest.raises(SimulationFailed) as caught:
        simulation.run(plan=failure.plan)
    assert caught.value.what == failure.what
    assert caught.value.trace == failure.trace


def test_the_first_that_was_found_is_told_beside_the_shrunk_one() -> None:
    unshrunk = failing(small(check=below(60), faults=BAD, shrink=0))
    failure = failing(small(check=below(60), faults=BAD))
    assert f"{unshrunk.report.steps:,} steps" in str(failure)
    assert unshrunk.what.splitlines()[0] in str(failure)


def test_another_thing_that_the_test_says_is_not_taken_for_the_same() -> None:
    first = small(commands=lambda rng: rng.randrange(1, 1000), faults=CALM).run().history
    begins = next(each.call for each in first.operations() if each.kind == "write")

    class Kept(Sum):
        """Keeps all, so that what was first can be told."""

        def init(self, init_arg: Any) -> Any:
            return []

        def handle_write(self, command: Any, state: Any) -> Any:
            return len(state), [*state, command]

    def check(state: list[int]) -> None:
        if len(state) >= 10:
            raise AssertionError("deep: ten are kept")
        if state and state[0] != begins:
            raise AssertionError("shallow: the first is another")

    failure = failing(
        small(Kept, commands=lambda rng: rng.randrange(1, 1000), check=check, faults=CALM)
    )
    assert failure.what.startswith("deep: ten are kept")


def test_exceptions_of_another_kind_or_line_are_other_failures() -> None:
    where = '  File "machine.py", line {}, in handle_write\n    state[0]\n'
    one = Violation("nothing raises", "KeyError: 7\n" + where.format(3))
    same = Violation("nothing raises", "KeyError: 12\n" + where.format(3))
    other_line = Violation("nothing raises", "KeyError: 7\n" + where.format(4))
    other_kind = Violation("nothing raises", "TypeError: 7\n" + where.format(3))
    assert outline(one) == outline(same)
    assert len({outline(each) for each in (one, other_line, other_kind)}) == 3


def test_a_mistake_of_the_test_while_shrinking_does_not_hide_what_was_found() -> None:
    drawn: dict[int, None] = {}

    def noted(rng: random.Random) -> int:
        drawn[rng.randrange(10**9)] = None
        return 1

    def as_before(rng: random.Random) -> int:
        number = rng.randrange(10**9)
        if number not in drawn:
            raise LookupError(number)
        return 1

    failing(small(commands=noted, check=below(8), events=0, calls=1.0, commits=9, shrink=0))
    failure = failing(small(commands=as_before, check=below(8), events=0, calls=1.0, commits=9))
    assert failure.what.startswith("8 is too much")


def test_who_interrupts_the_shrinking_sees_the_best_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = [0]
    live = Run.live

    def interrupted(run: Run) -> Any:
        lives[0] += 1
        if lives[0] == 8:
            raise KeyboardInterrupt
        return live(run)

    monkeypatch.setattr(Run, "live", interrupted)
    failure = failing(small(check=below(60), faults=BAD))
    assert "Shrunk in 7 runs and an interruption to " in str(failure)
    assert "60 is too much" in failure.what
    assert lives[0] == 9
