"""What docs/supervision.md promises, and who guards it: each of its statements has a test."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
STATEMENTS = range(1, 58)


def test_every_statement_is_in_the_guide_once() -> None:
    guide = (HERE.parent.parent / "docs" / "supervision.md").read_text()
    numbers = [int(number) for number in re.findall(r"^- \*\*S(\d+)\.\*\*", guide, re.MULTILINE)]
    assert numbers == list(STATEMENTS)


def test_every_statement_has_a_test_that_names_it() -> None:
    named: set[int] = set()
    for file in HERE.glob("test_*.py"):
        for docstring in re.findall(r'def test_.*?:\n    """(.*?)"""', file.read_text(), re.DOTALL):
            head = docstring.split(":")[0]
            named.update(int(number) for number in re.findall(r"\bS(\d+)\b", head))
    assert sorted(named) == list(STATEMENTS)
