"""What is stored, as people and programs are shown it.

Knows how a directory, or a backup, is set in lines and tables, and in JSON. Must not know how it is
read, nor where it is printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from os.path import basename, join
from typing import Any, NamedTuple, TypeAlias

from rich.console import RenderableType
from rich.table import Table

from exraft.codec import decode
from exraft.names import LOCAL_NODE, Peer
from exraft.raft.config import Config, decode_config
from exraft.raft.log import COMMAND, Entry
from exraft.rescue.founding import config_in_force
from exraft.storage.directory import LOCK
from exraft.storage.frame import VERSION
from exraft.storage.image import Image

Span: TypeAlias = tuple[int, int | None]
"""The first and the last index of the entries to be shown; None for those to the end."""


class Shown(NamedTuple):
    """What is to be shown of an image beside what it is.

    Attributes:
        created: when a backup was made; None if it is a directory.
        span: of the entries; None for none.
        decoding: whether commands are decoded.
    """

    created: str | None = None
    span: Span | None = None
    decoding: bool = False


def facts(image: Image, shown: Shown) -> dict[str, Any]:
    """All of it, for a program."""
    identity = image.identity
    config = config_in_force(image)
    found: dict[str, Any] = {
        "path": image.path,
        "format": VERSION,
        "name": None if identity is None else identity.name,
        "node": None if identity is None else identity.node,
        "cluster": "" if config is None else config.cluster,
    }
    if shown.created is None:
        note, lives = holder(image.path)
        found |= {
            "store": None if identity is None else identity.store_id,
            "lock": {"note": note, "lives": lives} if note else None,
            "term": image.term,
            "voted_for": None if image.voted_for is None else str(image.voted_for),
            "leads": image.leads,
        }
    else:
        found |= {"created": shown.created}
    snapshot = image.snapshot
    found |= {
        "commit_index": image.commit_index,
        "base_index": image.base_index,
        "last_index": image.last_index,
        "voters": [] if config is None else [peer._asdict() for peer in config.voters],
        "learners": [] if config is None else [peer._asdict() for peer in config.learners],
        "stores": {} if config is None else {str(peer): store for peer, store in config.stores},
        "snapshot": None
        if snapshot is None
        else {
            "index": snapshot.index,
            "term": snapshot.term,
            "bytes": snapshot.size,
            "crc": snapshot.crc,
        },
        "files": [vars(report) for report in image.files],
        "problems": [problem._asdict() for problem in image.problems],
        "damaged": bool(image.problems),
    }
    if shown.span is not None:
        found["entries"] = [
            {"index": index, "term": entry.term, "committed": index <= image.commit_index}
            | _entry_facts(entry, shown.decoding)
            for index, entry in _within(image, shown.span)
        ]
    return found


def lines(image: Image, shown: Shown) -> Iterator[RenderableType]:
    """All of it, for people."""
    yield f"{whose(image)}, in {image.path}"
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for label, text in _rows(image, shown):
        table.add_row(f"  {label}", text)
    yield table
    if shown.created is None:
        yield ""
        yield _files(image)
    if shown.span is not None:
        yield ""
        yield _entries(image, shown.span, decoding=shown.decoding)
    yield ""
    if not image.problems:
        yield "All checksums are right."
    for problem in image.problems:
        at = "" if problem.offset is None else f", byte {problem.offset}"
        yield f"DAMAGED: {problem.path}{at}: {problem.says}"


def table_of(images: list[Image]) -> Table:
    """The servers below a `data_dir`, a line each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("directory", "server", "term", "commit", "last", "snapshot", "voters", "state"):
        table.add_column(column)
    for image in images:
        config = config_in_force(image)
        voters = "" if config is None else _listed(config.voters)
        table.add_row(
            basename(image.path),
            whose(image),
            str(image.term),
            str(image.commit_index),
            str(image.last_index),
            "" if image.snapshot is None else str(image.snapshot.index),
            voters,
            "DAMAGED" if image.problems else "right",
        )
    return table


def whose(image: Image) -> str:
    return "an unknown server" if image.identity is None else str(image.identity.peer)


def holder(path: str) -> tuple[str, bool | None]:
    """Who held the directory last, and whether that process lives, if that can be told.

    Empty if nobody did. Whether it is held now could only be learnt by holding it.
    """
    try:
        with open(join(path, LOCK), encoding="utf-8", errors="replace") as file:
            note = file.read(1000).strip()
    except OSError:
        return "", None
    words = note.split()
    if sys.platform == "win32" or len(words) < 4 or not words[1].isdecimal():
        return note, None
    # On another machine it is another process.
    return note, _lives(int(words[1])) if words[3] == os.uname().nodename else None


def _lock(path: str) -> str:
    note, lives = holder(path)
    if not note:
        return "held by nobody so far"
    return note if lives is None else f"{note}, which {'lives' if lives else 'has ended'}"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _rows(image: Image, shown: Shown) -> Iterator[tuple[str, str]]:
    identity = image.identity
    config = config_in_force(image)
    if identity is not None:
        yield "name", identity.name
        yield "node", identity.node + (" (none was started)" if identity.node == LOCAL_NODE else "")
    if shown.created is None:
        yield "store", "unknown" if identity is None else identity.store_id
    yield "cluster", (config.cluster if config is not None else "") or "not known yet"
    yield "format", str(VERSION)
    if shown.created is None:
        yield "lock", _lock(image.path)
        voted = "nobody" if image.voted_for is None else str(image.voted_for)
        yield "term", f"{image.term}, voted for {voted}" + (", leads" if image.leads else "")
    else:
        yield "created", shown.created or "unknown"
        yield "term", str(image.term)
    yield "commit index", str(image.commit_index)
    yield "log", _log(image)
    yield "voters", "none" if config is None else _members(config, config.voters)
    if config is not None and config.learners:
        yield "learners", _members(config, config.learners)
    snapshot = image.snapshot
    yield (
        "snapshot",
        "none"
        if snapshot is None
        else f"of index {snapshot.index}, term {snapshot.term}: {snapshot.size:,} bytes, verified",
    )


def _log(image: Image) -> str:
    first, last = image.base_index + 1, image.last_index
    if last < first:
        return f"empty, after index {image.base_index}" if image.base_index else "empty"
    text = f"indexes {first} to {last}"
    open_ones = last - image.commit_index
    if open_ones > 0:
        text += f"; the last {open_ones} not known to be committed"
    return text


def _members(config: Config, peers: tuple[Peer, ...]) -> str:
    return ", ".join(f"{peer} (store {config.store_of(peer) or 'not known yet'})" for peer in peers)


def _listed(peers: tuple[Peer, ...]) -> str:
    return ", ".join(map(str, peers))


def _files(image: Image) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  file")
    for column in ("bytes", "used", "records", "entries"):
        table.add_column(column, justify="right")
    table.add_column("")
    for report in image.files:
        segment = bool(report.records or report.used)
        span = f"{report.first_index} to {report.last_index}" if report.first_index else ""
        said = [f"torn tail of {report.torn} bytes, which is no damage"] if report.torn else []
        said += [f"DAMAGED: {report.problem}"] if report.problem else []
        table.add_row(
            f"  {report.name}",
            f"{report.bytes:,}",
            f"{report.used:,}" if segment else "",
            f"{report.records:,}" if segment else "",
            span,
            "; ".join(said),
        )
    return table


def _entries(image: Image, span: Span, *, decoding: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("  index", "term"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("entry")
    for index, entry in _within(image, span):
        state = "" if index <= image.commit_index else "not known to be committed"
        table.add_row(f"  {index}", str(entry.term), state, _told(entry, decoding))
    return table


def _within(image: Image, span: Span) -> Iterator[tuple[int, Entry]]:
    first, last = span
    end = image.last_index if last is None else min(last, image.last_index)
    for index in range(max(first, image.base_index + 1), end + 1):
        yield index, image.entries[index - image.base_index - 1]


def _told(entry: Entry, decoding: bool) -> str:
    if entry.kind != COMMAND:
        config = decode_config(entry.data)
        learners = f", learners {_listed(config.learners)}" if config.learners else ""
        return f"config: cluster {config.cluster}, voters {_listed(config.voters)}{learners}"
    if not decoding:
        return f"command of {len(entry.data):,} bytes"
    return f"command {_decoded(entry.data)}"


def _entry_facts(entry: Entry, decoding: bool) -> dict[str, Any]:
    if entry.kind != COMMAND:
        config = decode_config(entry.data)
        return {
            "kind": "config",
            "cluster": config.cluster,
            "voters": [peer._asdict() for peer in config.voters],
            "learners": [peer._asdict() for peer in config.learners],
        }
    found: dict[str, Any] = {"kind": "command", "bytes": len(entry.data)}
    if decoding:
        found["command"] = _decoded(entry.data)
    return found


def _decoded(data: bytes) -> str:
    try:
        return repr(decode(data))
    except Exception as error:
        return (
            f"of {len(data):,} bytes that can't be decoded here ({type(error).__name__}: {error})"
        )
