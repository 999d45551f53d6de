from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.member import serve
from benchmarks.rows import Row, judged

ROOT = Path(__file__).parent.parent
LIMIT = 100.0


def measured(folder: Path, rows: str) -> dict[str, Row]:
    """The rows of a run in the smallest form, by their keys."""
    arguments = ("--quick", "--unpinned", "--seconds", "0.02", "--rows", rows)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--out", str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "quick.json").read_text(encoding="utf-8"))["rows"]
    return {row.key: row for row in map(Row.from_json, found)}


def row(subject: str, name: str, unit: str, *samples: float) -> Row:
    return Row(subject, name, unit, samples[len(samples) // 2], samples=samples)


def test_writes_between_processes_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("zmq")
    found = measured(tmp_path, "*/nodes.write*")
    ours = {key.removeprefix("exraft/") for key in found if key.startswith("exraft/")}
    assert ours == {
        "nodes.write.1.home",
        "nodes.write.1",
        "nodes.write.64",
        "nodes.write.pipelined.1000",
    }
    assert all(row.value > 0 for row in found.values())


def test_the_death_of_the_leaders_process_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("zmq")
    found = measured(tmp_path, "exraft/nodes.leader.killed")
    took = found["exraft/nodes.leader.killed"]
    assert took.ratio == pytest.approx(took.value / 1000)


def test_rows_of_the_same_rounds_are_compared_round_by_round() -> None:
    ours = row("exraft", "nodes.write.64", "1/s", 10.0, 30.0, 90.0)
    theirs = row("pysyncobj", "nodes.write.64", "1/s", 1.0, 20.0, 30.0)
    compared = judged([ours, theirs])[-1]
    assert (compared.name, compared.value) == ("over PySyncObj: nodes.write.64", 3.0)
    assert (compared.target, compared.reached) == (">= 1.8", True)
    assert compared.note is not None


def test_between_processes_only_some_leads_have_targets() -> None:
    ours = row("exraft", "nodes.durable.write.1", "ms", 2.0)
    theirs = row("etcd", "nodes.durable.write.1", "ms", 1.0)
    compared = judged([ours, theirs])[-1]
    assert (compared.value, compared.target) == (0.5, None)


def test_a_member_strikes_in_the_middle_of_its_writes() -> None:
    class Calm:
        refused = Exception
        written = 0

        def leads(self) -> bool:
            return True

        def write(self) -> None:
            self.written += 1

        def write_async(self) -> None: ...

        def wait(self, handle: None) -> None: ...

    member = Calm()
    said: list[object] = []
    orders = iter([["leads"], ["outage"], ["struck"]])
    with pytest.raises(StopIteration):
        serve(member, lambda: next(orders), said.append)
    assert said[:3] == ["ready", True, "strike"]
    assert member.written > 5
    assert isinstance(said[3], float)


def test_a_member_refuses_an_order_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no order"):
        serve(_Nobody(), lambda: ["dance"], [].append)


class _Nobody:
    refused = Exception

    def leads(self) -> bool:
        return False

    def write(self) -> None: ...

    def write_async(self) -> None: ...

    def wait(self, handle: None) -> None: ...
