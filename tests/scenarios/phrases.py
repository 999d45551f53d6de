"""What a line of the language looks like: a pattern over a method.

Knows how a pattern in `{placeholders}` is written down and kept. Must not know which lines there
are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

PLACEHOLDERS = {
    "server": r"[a-z]|the leader",
    "servers": r"all|the leader|[a-z](?: [a-z])*",
    "names": r"[a-z](?: [a-z])*",
    "n": r"\d+",
    "seconds": r"\d+(?:\.\d+)?",
    "factor": r"\d+(?:\.\d+)?",
    "commands": r"[a-z]+\d*(?:\.\.[a-z]+\d+)?(?: [a-z]+\d*(?:\.\.[a-z]+\d+)?)*",
    "ticket": r"[a-z]+\d*",
    "tickets": r"[a-z]+\d*(?: [a-z]+\d*)*",
    "kept": r'"[^"]+"',
    "text": r'"[^"]+"',
    "selection": r"[^\"]+?",
    "kind": r"[a-z-]+(?: reply)?",
    "fields": r"(?: [a-z_]+=\S+)*",
    "facts": r".+",
    "line": r".+",
}
"""What may stand in the place of each."""


@dataclass(frozen=True)
class Phrase:
    form: str
    pattern: re.Pattern[str]
    says: Callable[..., None]
    when: str
    """`setup`: before the servers start; `act`: does something; `expect`: only looks."""


PHRASES: list[Phrase] = []

F = TypeVar("F", bound=Callable[..., None])


def phrase(form: str, when: str = "act") -> Callable[[F], F]:
    """A line of the language, whose placeholders are the method's arguments, in order."""
    pattern = re.sub(
        r"\\\{(\w+)\\\}",
        lambda place: f"({PLACEHOLDERS[place[1]]})",
        re.sub(r"\\ ", " ", re.escape(form)),
    )

    def keep(says: F) -> F:
        PHRASES.append(Phrase(form, re.compile(pattern), says, when))
        return says

    return keep
