from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
RULE = re.compile(r"\brules? (\d+)(?: and (\d+))?")


def page_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # As if typed into a script: what it defines is pickled as what __main__ defines.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        above = text.count("\n", 0, block.start(1))
        # Blank lines above it, so that a traceback names the line of the page.
        exec(compile("\n" * above + block[1], str(page), "exec"), namespace)


def test_the_readme_shows_python() -> None:
    assert len(BLOCK.findall(PAGES[0].read_text(encoding="utf-8"))) >= 5


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_rule_that_the_code_cites_is_in_the_rules() -> None:
    rules = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    stated = {int(number) for number in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)}
    assert stated == set(range(1, 31))
    for module in (ROOT / "exraft").rglob("*.py"):
        for numbers in RULE.findall(module.read_text(encoding="utf-8")):
            cited = {int(number) for number in numbers if number}
            assert cited <= stated, module
