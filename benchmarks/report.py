"""What a person and a program get to see: a table, JSON, and a plot.

Knows rich and matplotlib. Must not know how a row came about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.rows import BATCHED, ETCD, UNBATCHED, Row

WIDTH = 140
"""Columns of text that the table takes."""

SUBJECTS = ("floor", "exraft", BATCHED, UNBATCHED, ETCD)
_COLOURS = dict(zip(SUBJECTS, ("#b0b0b0", "#1f6fb4", "#d98a2b", "#e8c28c", "#6a9f58"), strict=True))
_PLOTTED = {
    "1/s": ("write.8", "write.64", "write.64.large", "write.pipelined", "read.64"),
    "ms": ("write.1", "read.1", "leader.first", "leader.crash", "leader.stop", "leader.gone"),
}


def table(rows: Sequence[Row]) -> Group:
    """A table for each pinning."""
    return Group(
        *(
            _table(chosen, "pinned to one core" if pinned else "unpinned")
            for pinned in (False, True)
            if (chosen := [row for row in rows if row.pinned is pinned])
        )
    )


def write(rows: Sequence[Row], facts: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    """Write the table, JSON and (given matplotlib) the plot; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data, plot = (folder / f"{stem}.{kind}" for kind in ("txt", "json", "png"))
    with text.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=WIDTH)
        console.print(table(rows))
        console.print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    content = {"machine": facts, "rows": [row.to_json() for row in rows]}
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return [text, data, plot] if _plot(rows, plot) else [text, data]


def _table(rows: Sequence[Row], title: str) -> Table:
    result = Table(title=title, title_justify="left", caption_justify="left")
    result.add_column("row", no_wrap=True)
    for column in ("figure", "p99", "cpu", "ratio"):
        result.add_column(column, justify="right", no_wrap=True)
    for column in ("of", "to reach", "met"):
        result.add_column(column, no_wrap=True)
    notes = list(dict.fromkeys(row.note for row in rows if row.note is not None))
    for subject, group in groupby(sorted(rows, key=_place), key=lambda row: row.subject):
        result.add_section()
        result.add_row(Text(subject, style="bold"))
        for row in group:
            result.add_row(
                f"  {row.name}" + (_mark(notes.index(row.note)) if row.note else ""),
                _figure(row.value, row.unit),
                _figure(row.p99, row.unit),
                _figure(row.cpu, "us"),
                f"{row.ratio:,.3g}" if row.ratio is not None else "",
                row.floor or "",
                row.target or "",
                _verdict(row.reached),
            )
    if notes:
        result.caption = "\n".join(f"{_mark(at)} {note}" for at, note in enumerate(notes))
    return result


def _mark(number: int) -> str:
    """What a row carries that the note with this number is about, counted from 0."""
    return " " + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number + 1))


def _place(row: Row) -> int:
    return SUBJECTS.index(row.subject) if row.subject in SUBJECTS else len(SUBJECTS)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit.removeprefix('1')}"


def _verdict(reached: bool | None) -> Text:
    if reached is None:
        return Text("")
    return Text("yes", style="green") if reached else Text("NO", style="bold red")


def _plot(rows: Sequence[Row], path: Path) -> bool:
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pinnings = [p for p in (False, True) if any(row.pinned is p for row in rows)]
    figure, axes = pyplot.subplots(
        len(pinnings), 2, figsize=(13, 4.2 * len(pinnings)), squeeze=False, layout="constrained"
    )
    for line, pinned in zip(axes, pinnings, strict=True):
        chosen = [row for row in rows if row.pinned is pinned]
        where = "pinned to one core" if pinned else "unpinned"
        _bars(line[0], chosen, "1/s", f"calls per second, {where} (more is better)")
        _bars(line[1], chosen, "ms", f"milliseconds, {where} (less is better)")
    figure.suptitle("Three servers in one process, in memory, 100-byte values")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _bars(axis: Any, rows: Sequence[Row], unit: str, title: str) -> None:
    """For each work a bar of each subject, the floor that was measured beside ours among them."""
    values: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.unit == unit and row.name in _PLOTTED[unit]:
            values[row.subject, row.name] = row.value
            if row.floor_value is not None:
                values.setdefault(("floor", row.name), row.floor_value)
    names = [name for name in _PLOTTED[unit] if any(name == key[1] for key in values)]
    width = 0.8 / len(SUBJECTS)
    for place, subject in enumerate(SUBJECTS):
        bars = [(at, values[subject, n]) for at, n in enumerate(names) if (subject, n) in values]
        axis.bar(
            [at + (place - 1.5) * width for at, _ in bars],
            [value for _, value in bars],
            width,
            label=subject,
            color=_COLOURS[subject],
        )
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_yscale("log")
    axis.set_title(title, fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
