from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exraft import StateMachine
from exraft.errors import NotSerialisable
from exraft.raft import Options, Raft
from exraft.testing import (
    Faults,
    History,
    KeyValue,
    MachineModel,
    Simulation,
    SimulationFailed,
    linearizable,
)
from exraft.testing.plan import Happening, Plan, rates
from tests.testing.machines import CALM, Sum, shelf, small

ROOT = Path(__file__).parent.parent.parent
LIMIT = 60.0

DIGESTS = """
import hashlib
from tests.testing.machines import shelf
for seed in range(4):
    report = shelf(seed).run(trace=True)
    text = "\\n".join([*report.trace, str(report.history), repr(report.plan), repr(report.counts)])
    print(hashlib.sha256(text.encode()).hexdigest())
"""


def failing(simulation: Simulation) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as caught:
        simulation.run()
    return caught.value


def told(report: Any) -> str:
    """Everything that a run says, without its trace."""
    parts = (report.history, report.plan, report.counts, report.steps, report.seconds)
    return "\n".join(map(str, parts))


# The same seed.


def test_the_same_seed_gives_the_same_run_byte_for_byte_in_any_process() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 4


@pytest.mark.parametrize("seed", range(3))
def test_a_trace_changes_nothing(seed: int) -> None:
    traced = shelf(seed).run(trace=True)
    assert traced.trace
    untraced = shelf(seed).run()
    assert untraced.trace == []
    assert told(traced) == told(untraced)


def test_a_simulation_can_be_run_again() -> None:
    simulation = shelf(3)
    assert told(simulation.run()) == told(simulation.run())


def test_another_seed_is_another_run() -> None:
    assert len({told(shelf(seed).run()) for seed in range(5)}) == 5


def test_the_plan_of_a_report_gives_the_same_run() -> None:
    first = small(seed=4, faults=Faults.everything(), events=2000, commits=0).run()
    again = small(seed=4, faults=Faults.everything(), events=2000, commits=0).run(plan=first.plan)
    assert told(first) == told(again)


def test_an_empty_plan_is_a_run_in_which_nothing_happens() -> None:
    report = small(faults=Faults.everything()).run(plan=Plan((), 1.0))
    assert report.plan.happenings == ()
    assert report.counts["crashes, started as a new process"] == 0


# What a run goes through.


def test_a_run_has_the_steps_and_commits_that_were_asked_for() -> None:
    for seed in range(5):
        report = shelf(seed, events=700, commits=30).run()
        assert report.steps >= 700
        assert report.commits >= 30


@pytest.mark.parametrize("servers", [1, 2, 4, 9])
def test_a_cluster_may_have_any_number_of_servers(servers: int) -> None:
    for seed in range(4):
        report = shelf(seed, servers=servers, faults=Faults.everything()).run()
        assert report.servers == servers


def test_a_report_tells_what_it_was() -> None:
    faults = Faults(loss=0.1)
    report = shelf(7, faults=faults).run()
    assert (report.seed, report.servers, report.faults) == (7, 3, faults)
    assert report.seconds > report.plan.end > 0
    assert report.counts["elections"] > 0
    assert report.counts["writes answered"] > 0
    assert report.decided


def test_a_history_is_that_of_the_clients_and_can_be_judged_by_another_model() -> None:
    def command(rng: random.Random) -> Any:
        return "put", rng.choice("ab"), rng.randrange(9)

    class Store(StateMachine):
        def handle_write(self, command: Any, state: Any) -> Any:
            _, key, value = command
            return "ok", {**state, key: value}

        def handle_read(self, query: Any, state: Any) -> Any:
            return state.get(query)

    report = small(
        Store, {}, commands=command, queries=lambda rng: rng.choice("ab"), model=KeyValue()
    ).run()
    assert isinstance(report.history, History)
    assert {each.kind for each in report.history} == {"write", "read"}
    assert linearizable(report.history, KeyValue()).ok
    clients = {each.client.partition(".")[0] for each in report.history}
    assert len(clients) > 3


def test_nothing_is_read_without_queries() -> None:
    report = small(queries=None, faults=CALM).run()
    assert {each.kind for each in report.history} == {"write"}
    assert not any("reads" in kind for kind in report.counts)


def test_without_faults_nothing_goes_wrong() -> None:
    counts = small(faults=CALM, queries=None).run().counts
    for kind in ("messages lost", "messages doubled", "slow syncs", "disks that failed", "stalls"):
        assert counts[kind] == 0
    assert not any("crash" in kind or "lost" in kind for kind in counts)


def test_slow_disks_and_clocks_of_another_pace_are_survived() -> None:
    report = shelf(1, faults=Faults(slow_disks=0.1, clock_drift=0.5)).run()
    assert report.counts["slow syncs"] > 0


def test_the_options_of_the_servers_can_be_chosen() -> None:
    quick = Options(min_election_timeout=0.2, max_election_timeout=0.3, heartbeat_timeout=0.05)
    assert shelf(0, options=quick, faults=CALM).run().seconds < 20


def test_what_is_drawn_for_a_seed_does_not_depend_on_what_is_given() -> None:
    assert shelf(5).faults == shelf(5, options=Options()).faults
    assert shelf(5).options == shelf(5, faults=CALM).options


# Machines.


def test_what_a_machine_raises_is_a_result() -> None:
    class Picky(Sum):
        def handle_write(self, command: Any, state: Any) -> Any:
            if command % 2:
                raise ValueError(f"{command} is odd")
            return super().handle_write(command, state)

        def handle_read(self, query: Any, state: Any) -> Any:
            raise LookupError("nothing to see")

    report = small(Picky, faults=CALM).run()
    assert report.counts["writes answered by an exception"] > 0
    assert report.counts["reads answered by an exception"] > 0
    assert {str(each.result) for each in report.history if each.raised} > {"nothing to see"}


def test_what_a_filter_refuses_leaves_the_history() -> None:
    class Small(Sum):
        def is_command(self, command: Any, state: Any) -> bool:
            return bool(command < 5)

    report = small(Small).run()
    assert report.counts["writes refused"] > 0
    assert all(each.call < 5 for each in report.history if each.kind == "write")


def test_side_effects_run_once_at_most() -> None:
    ran: list[int] = []

    class Mailer(StateMachine):
        def handle_write(self, command: Any, state: Any) -> Any:
            return state, state + 1, [lambda: ran.append(state)]

        def handle_read(self, query: Any, state: Any) -> Any:
            return state

    crashing = Faults(crashes=2.0, elections=0.5)
    report = small(Mailer, 0, seed=2, faults=crashing, events=2000, commits=50).run()
    assert report.counts["crashes, restarted by the supervisor"] > 0
    assert len(ran) == len(set(ran)) == report.counts["side effects"] > 20


def test_a_machine_that_uses_chance_is_found() -> None:
    class Dice(Sum):
        def handle_write(self, command: Any, state: Any) -> Any:
            return random.random(), state

    failure = failing(small(Dice, faults=CALM))
    assert failure.invariant == "replicas agree"
    assert "handle_write must depend on command and state only" in str(failure)


def test_a_machine_that_runs_out_of_stack_is_found() -> None:
    class Deep(Sum):
        def handle_write(self, command: Any, state: Any) -> Any:
            raise RecursionError

    failure = failing(small(Deep, faults=CALM))
    assert failure.invariant == "nothing raises"
    assert "RecursionError" in str(failure)


def test_a_machine_whose_init_raises_is_shown_with_where_it_was() -> None:
    class Broken(Sum):
        def init(self, init_arg: Any) -> Any:
            raise LookupError("no such colour")

    failure = failing(small(Broken, model=KeyValue(), faults=CALM))
    assert failure.invariant == "nothing raises"
    assert "LookupError: no such colour" in str(failure)
    assert Path(__file__).name in str(failure)


def test_a_machine_that_answers_from_an_old_state_is_found() -> None:
    class Stale(StateMachine):
        """Reads what was written before the last write."""

        def handle_write(self, command: Any, state: Any) -> Any:
            return command, (state[1], command)

        def handle_read(self, query: Any, state: Any) -> Any:
            return state[0]

    class Right(Stale):
        def handle_read(self, query: Any, state: Any) -> Any:
            return state[1]

    model = MachineModel(Right, (0, 0))
    failure = failing(small(Stale, (0, 0), model=model, faults=CALM))
    assert failure.invariant == "linearizability"


# Mistakes in the test itself.


@pytest.mark.parametrize("which", ["commands", "queries"])
def test_what_the_test_itself_raises_is_raised(which: str) -> None:
    def draw(rng: random.Random) -> Any:
        raise KeyError("of mine")

    with pytest.raises(KeyError, match="of mine") as caught:
        small(faults=CALM, **{which: draw}).run()
    assert any(entry.name == "draw" for entry in caught.traceback)


@pytest.mark.parametrize("which", ["commands", "queries"])
def test_what_can_not_be_serialised_is_refused_as_by_a_server(which: str) -> None:
    with pytest.raises(NotSerialisable, match="generator"):
        small(faults=CALM, **{which: lambda rng: (each for each in "abc")}).run()


def test_a_filter_that_refuses_everything_is_a_mistake() -> None:
    class Closed(Sum):
        def is_command(self, command: Any, state: Any) -> bool:
            return False

    with pytest.raises(ValueError, match="0 of 5 committed: does is_command refuse them all"):
        small(Closed).run()


def test_an_argument_of_init_that_can_not_be_copied_is_refused() -> None:
    with pytest.raises(Exception, match="serialise"):
        small(Sum, (each for each in "abc")).run()


def test_an_interruption_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(raft: Raft, now: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Raft, "tick", tick)
    with pytest.raises(KeyboardInterrupt):
        small(faults=CALM).run()


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"machine": Sum()}, TypeError, "is an instance"),
        ({"machine": dict}, TypeError, "no subclass"),
        ({"machine": None}, TypeError, "no state machine"),
        ({"commands": None}, TypeError, "commands is a function that is given a random.Random"),
        ({"commands": [1, 2]}, TypeError, "commands is a function"),
        ({"queries": "get"}, TypeError, "queries is a function"),
        ({"servers": 0}, ValueError, "servers is from 1 to 9, and not 0"),
        ({"servers": 10}, ValueError, "servers is from 1 to 9"),
        ({"servers": 3.0}, ValueError, "servers is from 1 to 9"),
        ({"servers": True}, ValueError, "servers is from 1 to 9"),
        ({"clients": 0}, ValueError, "clients is from 1 to 1,000"),
        ({"events": -1}, ValueError, "events is from 0"),
        ({"commits": -1}, ValueError, "commits is from 0"),
        ({"shrink": -1}, ValueError, "shrink is from 0"),
        ({"shrink": None}, ValueError, "shrink is from 0"),
        ({"calls": 0}, ValueError, "calls is more than 0"),
        ({"calls": float("nan")}, ValueError, "calls is more than 0"),
        ({"calls": "many"}, ValueError, "calls is more than 0"),
        ({"check": 5}, TypeError, "check is a function that is given the state, and not 5"),
        ({"faults": {}}, TypeError, "faults is of the class Faults, and not {}"),
        ({"options": {}}, TypeError, "options is of the class Options"),
        ({"model": KeyValue}, TypeError, "model is of the class Model"),
        ({"seed": "x"}, TypeError, "seed is an int"),
        ({"seed": None}, TypeError, "seed is an int"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(
    wrong: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        small(**wrong)
    assert text in str(caught.value)


def test_a_plan_may_have_every_kind_of_happening() -> None:
    kinds = list(rates(Faults(), 1.0, 0.5))
    happenings = [Happening(2.0 + at / 5, kind, at) for at, kind in enumerate(kinds * 3)]
    report = small(faults=CALM).run(plan=Plan(tuple(happenings), 13.0))
    assert report.plan.happenings == tuple(happenings)
    assert report.plan.end == 13.0
