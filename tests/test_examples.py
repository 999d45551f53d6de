from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exraft import ActorRegistry

ROOT = Path(__file__).parent.parent
LIMIT = 60.0
ARGUMENTS = {"threaded_service": ["--demo"]}
"""Of the examples that would not end by themselves."""
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "__init__")


def test_there_are_examples() -> None:
    assert {"bank_ledger", "counter_service", "kv_store", "threaded_service"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_does_what_it_says_and_stops_its_servers(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS.get(name, [])])
    assert not importlib.import_module(f"examples.{name}").main()
    assert capsys.readouterr().out
    assert ActorRegistry.names() == []


# As __main__, so that its classes are pickled as such.
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_a_program(name: str) -> None:
    result = subprocess.run(
        [sys.executable, str(Path("examples", f"{name}.py")), *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert result.stderr == ""
