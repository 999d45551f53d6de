"""What a server looks like to people.

Knows how a status and a log are set in lines of text. Must not know where they are printed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from exraft.actors.status import Status
from exraft.codec import decode
from exraft.raft import COMMAND, Config, Entry
from exraft.raft.config import decode_config


def describe_context(status: Status) -> str:
    """A line a field."""
    lines = [f"{status.server}"]
    for field in dataclasses.fields(status):
        value = getattr(status, field.name)
        if isinstance(value, Config):
            value = _config(value)
        if isinstance(value, Mapping):
            lines += [f"  {field.name}:"] if value else []
            lines += [f"    {peer}: {_fields(progress)}" for peer, progress in value.items()]
        else:
            lines.append(f"  {field.name}: {value}")
    return "\n".join(lines)


def describe_log(first: int, entries: Sequence[Entry]) -> str:
    """A line an entry, the first of them at index `first`: index, term and content."""
    lines = [f"{len(entries)} entries"]
    if first > 1:
        lines[0] += f", after the {first - 1} that only a snapshot holds"
    for index, entry in enumerate(entries, first):
        content = (
            f"command {_command(entry.data)}"
            if entry.kind == COMMAND
            else f"config {_config(decode_config(entry.data))}"
        )
        lines.append(f"{index:>8}  term {entry.term:<6} {content}")
    return "\n".join(lines)


def _config(config: Config) -> str:
    voters = "voters " + ", ".join(map(str, config.voters))
    return voters + (
        ", learners " + ", ".join(map(str, config.learners)) if config.learners else ""
    )


def _command(data: bytes) -> str:
    try:
        return repr(decode(data))
    except Exception as error:
        return f"of {len(data)} bytes that can't be decoded here ({type(error).__name__}: {error})"


def _fields(value: Any) -> str:
    return ", ".join(
        f"{field.name} {getattr(value, field.name)}" for field in dataclasses.fields(value)
    )
