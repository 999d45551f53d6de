"""How the rescue commands talk: to people, to programs, and on a terminal while they are at work.

Knows where each kind of thing is printed, and what those are told who begin a new cluster. Must not
know how that is done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from exraft.names import Peer
from exraft.rescue.founding import config_in_force
from exraft.storage.image import Image


def warnings(image: Image, me: Peer, others: Sequence[Peer]) -> list[str]:
    config = config_in_force(image)
    members = () if config is None else config.members()
    gone = [peer for peer in members if peer != me]
    last, known = image.last_index, image.commit_index
    lines = [
        f"A new cluster goes on from what {me} alone has stored, which ends with index {last}.",
        "What may be lost: all that the others had acknowledged after that. Nothing here says"
        " whether, or how much.",
    ]
    if last > known:
        lines.append(
            f"What may come: the entries from {known + 1} to {last} are not known to be committed."
            " They will be, even if their callers were told that they had failed."
        )
    if gone:
        lines.append(
            f"The other members of the old cluster ({_listed(gone)}) can't come back with what they"
            " have: the new cluster takes them for another's, and they it. If enough of them can"
            " still be started for a majority, start those instead."
        )
    if others:
        lines.append(
            f"{_listed(others)} must start on empty directories. A majority of the members is"
            " needed before anything can be written."
        )
    if image.problems:
        lines.append(f"The directory is damaged; what follows index {last} can't be read.")
    return lines


def next_steps(me: Peer, others: Sequence[Peer]) -> list[str]:
    empty = "on empty directories, with min_majority=2 and no initial_config"
    later = f"More servers: start them {empty}, then ExRaft.add_server({me.name!r}, ...)."
    if not others:
        return [f"Start {me} on it, without min_majority.", later]
    return [f"Start {me} on it, and {_listed(others)} {empty}: they are members already.", later]


def _listed(peers: Sequence[Peer]) -> str:
    return ", ".join(map(str, peers))


def print_all(*shown: RenderableType) -> None:
    # As wide as it must be: a path that is broken in two can't be copied.
    console = Console(width=10_000, highlight=False, markup=False, emoji=False)
    for each in shown:
        with console.capture() as captured:
            console.print(each)
        for line in captured.get().splitlines():
            print(line.rstrip())


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def complain(*texts: str) -> None:
    for text in texts:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def busy(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show on a terminal that something takes its time; yield what counts bytes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda size: None
        return
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    columns += [TimeElapsedColumn()] if total is None else [BarColumn(), DownloadColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda size: progress.advance(task, size)
