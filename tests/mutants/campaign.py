"""All mutants in turn, and the table of who noticed each.

Knows the command, what it says meanwhile, and what it sums up. Must not know how a mutant is tried.
"""

from __future__ import annotations

import argparse
import gc
import sys
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.catalogue import CORE, MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.trial import collected
from tests.mutants.verdict import Verdict, judge, named, sound

WIDTH: Final = 200
"""Columns of the table where no terminal says how many it has."""

HEADINGS: Final = ("rule", "what is broken", "noticed by", "after", "scenario", "seeds")


def chosen_of(arguments: argparse.Namespace) -> list[Mutant]:
    pattern = arguments.only.lower()
    return [
        mutant
        for mutant in MUTANTS
        if pattern in mutant.name.lower()
        and arguments.rule in (None, str(mutant.rule))
        and (not arguments.room or mutant.room in arguments.room)
        and not (arguments.quick and mutant.hangs)
    ]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Break each rule, one at a time, and see who notices.",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="those with TEXT in their name")
    parser.add_argument("--rule", help="those of one rule, such as 4 or S14")
    parser.add_argument("--room", nargs="+", help="those in these rooms of exraft, such as raft")
    parser.add_argument("--seeds", type=int, default=50, help="clusters to simulate at most (50)")
    parser.add_argument("--no-simulation", action="store_true", help="the same as --seeds 0")
    parser.add_argument("--no-scenarios", action="store_true", help="run no scripts")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="named tests alone, and without those mutants that make them hang",
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the table there too")
    arguments = parser.parse_args(words)
    mutants = chosen_of(arguments)
    if not mutants:
        print("there is no such mutant", file=sys.stderr)
        return 2
    seeds = 0 if arguments.no_simulation or arguments.quick else arguments.seeds
    stories = not arguments.no_scenarios and not arguments.quick
    verdicts: list[Verdict] = []
    wrong: list[str] = []

    def run() -> None:
        # What is here so far is left alone in the forks, and so shared with them.
        gc.freeze()
        with _bar() as bar:
            if not arguments.quick:
                step = bar.add_task("nothing is broken", total=len(named(mutants)))
                wrong.extend(sound(mutants, lambda: _advance(bar, step)))
            if not wrong:
                step = bar.add_task("broken", total=len(mutants))
                for mutant in mutants:
                    core = mutant in CORE
                    verdicts.append(judge(mutant, seeds if core else 0, stories=stories and core))
                    _advance(bar, step)

    collected([test for test in named(mutants) if isinstance(test, str)], run)
    if wrong:
        print("these tests fail though nothing is broken:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    _show(verdicts)
    if arguments.markdown:
        with open(arguments.markdown, "w", encoding="utf-8") as file:
            file.write(markdown(verdicts))
    return sum_up(verdicts)


def _bar() -> Progress:
    # It draws itself when it is told to: a thread that does would be lost in the forks, with the
    # locks that it holds.
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        disable=not console.is_terminal,
    )


def _advance(bar: Progress, task: Any) -> None:
    bar.advance(task)
    bar.refresh()


def _show(verdicts: list[Verdict]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    table = Table(*HEADINGS)
    for verdict in verdicts:
        style = "red" if verdict.missed else None
        table.add_row(*(escape(cell) for cell in verdict.cells()), style=style)
    console.print(table)


def markdown(verdicts: list[Verdict]) -> str:
    rows = [HEADINGS, tuple("---" for _ in HEADINGS), *(verdict.cells() for verdict in verdicts)]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows
    )


def sum_up(verdicts: list[Verdict]) -> int:
    tried = [verdict for verdict in verdicts if verdict.mutant in CORE]
    told = sum(verdict.story not in ("", "-") for verdict in tried)
    seen = sum(bool(verdict.seen_by_seed) for verdict in tried)
    if any(verdict.story for verdict in tried):
        print(f"{told} of {len(tried)} in the core are noticed by the scenarios as well")
    if any(verdict.seeds for verdict in tried):
        print(f"{seen} of {len(tried)} in the core are noticed by the simulation as well")
    missed = [verdict for verdict in verdicts if verdict.missed]
    mutants = "1 mutant" if len(verdicts) == 1 else f"{len(verdicts)} mutants"
    if not missed:
        print(f"{mutants}, all caught")
        return 0
    print(f"{mutants}, {len(missed)} missed:")
    for verdict in missed:
        print(f"  {verdict.mutant.name}: {verdict.cells()[2]}")
    return 1
