"""What a script may expect of a server, and of how many messages there are.

Knows how an expectation is read and compared with what is there. Must not know how things came to
be as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from exraft.names import Role
from exraft.raft import Raft
from tests.scenarios.words import Malformed, commands, log_fits, name_of, show_log
from tests.scenarios.world import Server


class Unmet(AssertionError):
    """What a line expects is not so."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected: {expected}\n   found: {found}")


def counted(text: str) -> tuple[Callable[[int], bool], str, str]:
    """`nothing a -> b`, `no votes`, `at most 3 acks`, or one; which numbers fit, and the rest."""
    if text == "nothing":
        text = "no everything"
    parts = re.fullmatch(r"(nothing|no|(at most |at least )?(\d+)) (.*)", text)
    if parts is None:
        return (1).__eq__, "1", text
    number = int(parts[3] or 0)
    fits = {"at most ": number.__ge__, "at least ": number.__le__}.get(parts[2], number.__eq__)
    return fits, parts[1], parts[4]


def _voters(raft: Raft) -> str:
    return " ".join(name_of(peer) for peer in raft.config.voters)


_ROLES = {"leads": Role.LEADER, "follows": Role.FOLLOWER, "campaigns": Role.CANDIDATE}


def unlike(server: Server, fact: str) -> str | None:
    """What is found instead of the fact; None if it is so."""
    store = server.store
    raft = server.raft
    word, _, value = fact.partition(" ")
    if fact in ("down", "runs", "fenced"):
        so = {"down": raft is None, "runs": raft is not None, "fenced": server.fenced}[fact]
        return None if so else "it is not"
    if word in ("term", "commit", "last") and value.isdigit():
        numbers = {"term": store.term, "commit": store.commit_index, "last": store.last_index}
        return None if numbers[word] == int(value) else str(numbers[word])
    if word == "vote" and value:
        found = name_of(store.voted_for)
        return None if found == value else found
    if word in ("base", "received") and value.isdigit():
        held = store.base_index if word == "base" else store.received and store.received[1] or 0
        return None if held == int(value) else str(held)
    if word == "snapshot" and value:
        found = "none" if store.snapshot is None else str(store.snapshot.index)
        return None if found == value else found
    if word == "state" and value and store.snapshot is not None:
        reader = store.open_snapshot()
        found = reader.read(0, reader.snapshot.size).decode() or "nothing"
        wanted = value if value == "nothing" else " ".join(commands(value))
        return None if found == wanted else found
    if word == "log" and value:
        return None if log_fits(value, server.log) else show_log(server.log)
    if raft is None:
        return "it is down"
    if fact in _ROLES:
        return None if raft.state is _ROLES[fact] else str(raft.state)
    if word == "leader" and value:
        found = name_of(raft.leader)
        return None if found == value else found
    if word == "voters" and value:
        return None if _voters(raft) == value else _voters(raft)
    if fact in ("standby", "no standby"):
        return None if raft.standby == (fact == "standby") else f"standby is {raft.standby}"
    if word == "durable" and value.isdigit():
        return None if raft.durable_index == int(value) else str(raft.durable_index)
    if word == "dropped" and value.isdigit():
        return None if raft.foreign == int(value) else str(raft.foreign)
    raise Malformed(
        f"{fact!r} is none of: leads, follows, campaigns, down, runs, fenced, standby, no standby,"
        " term 2, commit 3, last 4, vote b, leader b, log 1:config 1:x, voters a b c,"
        " durable 3, dropped 1, base 3, snapshot 3, state x y, received 4"
    )
