"""What happened in a simulated cluster, for people: a line each, a column a server.

Knows how messages, requests and states are put in few words. Must not know what they are good for.
No pickled bytes stand in a trace, and nothing that depends on where or when it was made.
"""

from __future__ import annotations

import textwrap
from typing import Any, Final

from exraft.names import Peer
from exraft.raft import (
    CONFIG,
    Answer,
    Append,
    AppendReply,
    Done,
    Entry,
    Install,
    InstallReply,
    Logged,
    PreVote,
    PreVoteReply,
    Reach,
    ReachReply,
    Refusal,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.config import decode_config
from exraft.raft.messages import Header
from exraft.testing.cluster import Cluster

WIDE: Final = 30
NARROW: Final = 22
"""A column of few servers and of many, in characters."""


class Trace:
    """Looks on while `cluster` lives, and remembers."""

    def __init__(self, cluster: Cluster) -> None:
        self.rows: list[tuple[float, str, str]] = []
        """When, to whom, what."""
        self._cluster = cluster
        self._seen: dict[str, str] = {}
        self._last = 0.0
        """When something happened last: what is found changed has changed then."""
        cluster.observe = self._observe

    def _observe(self, at: float, who: str, what: object) -> None:
        self.look()
        self._last = at
        self.rows.append((at, who, what if isinstance(what, str) else told(what)))

    def look(self) -> None:
        """Note whose state has changed since the last time."""
        cluster = self._cluster
        for peer, server in cluster.servers.items():
            raft = server.raft
            state = "down"
            if raft is not None:
                base = raft.store.base_index
                state = f"{raft.state} of term {raft.term}, log {f'from {base} ' if base else ''}to"
                state += f" {raft.last_index} ({raft.last_term}), committed {raft.commit_index}"
            name = str(peer)
            if self._seen.get(name, "down") != state:
                self._seen[name] = state
                self.rows.append((self._last, name, f"= {state}"))

    def lines(self, last: int | None = None) -> list[str]:
        """Return the trace as a table; of its `last` rows only, if given."""
        rows = self.rows[-last:] if last else self.rows
        names = [str(peer) for peer in self._cluster.servers]
        width = WIDE if len(names) <= 5 else NARROW
        head = " " * 11 + "".join(f"{name:{width}}" for name in names)
        table = [head.rstrip()]
        if len(rows) < len(self.rows):
            table.append(f"{'':11}({len(self.rows) - len(rows):,} rows before)")
        for at, who, what in rows:
            if who not in names:
                table.append(f"{at:9.4f}  -- {who}: {what}")
                continue
            indent = " " * (width * names.index(who))
            for number, part in enumerate(textwrap.wrap(what, width - 2) or [""]):
                time = f"{at:9.4f}  " if number == 0 else " " * 11
                table.append(f"{time}{indent}{part}")
        return table


def told(what: object) -> str:
    """A message, an answer or a request in few words."""
    if isinstance(what, Header):
        return f"{what.sender} t{what.term}: {_message(what)}"
    if isinstance(what, Answer):
        return f"answers {what.ticket}: {_outcome(what.outcome)}"
    if isinstance(what, tuple):
        return " ".join(told(each) if isinstance(each, Header) else _plain(each) for each in what)
    return _plain(what)


def _plain(value: object) -> str:
    return str(value) if isinstance(value, Peer | str) or value is None else repr(value)


def _message(message: Header) -> str:
    match message:
        case Append():
            text = f"append after {message.prev_index} ({message.prev_term})"
            if message.entries:
                text += ": " + " ".join(map(_entry, message.entries))
            return f"{text}, commit {message.commit}, round {_round(message.round)}"
        case AppendReply(accepted=True):
            return f"has {message.index}, committed {message.commit}, round {_round(message.round)}"
        case AppendReply():
            hint = f"{message.hint_index} ({message.hint_term})"
            return f"refuses after {message.index}, maybe {hint}, round {_round(message.round)}"
        case PreVote():
            return f"pre-vote? log to {message.last_index} ({message.last_term})"
        case PreVoteReply():
            return f"pre-vote of {message.asked}: {'yes' if message.granted else 'no'}"
        case Vote():
            force = ", forced" if message.force else ""
            return f"vote? log to {message.last_index} ({message.last_term}){force}"
        case VoteReply():
            return f"vote: {'yes' if message.granted else 'no'}"
        case Install(snapshot=snapshot):
            size = len(message.data)
            what = f"{size} at {message.offset} of {snapshot.size} bytes" if size else "is for you"
            return f"the snapshot of {snapshot.index} ({snapshot.term}): {what}"
        case InstallReply():
            return f"has {message.held} bytes of the snapshot of {message.index}"
        case TimeoutNow():
            return "campaign now"
        case Reach():
            return "who are you?"
        case ReachReply():
            return f"is of cluster {message.belongs_to or '(none)'}"
        case _:
            return type(message).__name__


def _round(number: int) -> int:
    """Without the incarnation, which comes first in it."""
    return number & 0xFFFFFFFF


def _entry(entry: Entry) -> str:
    """Commands are not shown: their bytes may differ between versions of Python."""
    if entry.kind != CONFIG:
        return str(entry.term)
    voters = ",".join(map(str, decode_config(entry.data).voters))
    return f"{entry.term}[{voters}]"


def _outcome(outcome: Any) -> str:
    match outcome:
        case Refusal(code, peer):
            return code if peer is None else f"{code} ({peer})"
        case Logged(index=index, term=term):
            return f"logged at {index} ({term})"
        case Done():
            return "done"
        case _:
            return repr(outcome)
