"""What the core hands out.

Knows the words in which the core says what must happen next. Must not know who carries it out, nor
the exceptions that refusals become at a caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from exraft.names import Peer, Role
from exraft.raft.messages import Message

Ticket: TypeAlias = Any
"""Stands for a waiting caller; an object of the driver's, kept and given back."""


class Refusal(NamedTuple):
    """Why a request was not done. `code` is ExRaft's word for it."""

    code: str
    peer: Peer | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """The request is done when the entry at `index`, of term `term`, is applied."""

    index: int
    term: int


class Done(NamedTuple):
    """The request is done; `leader` is who leads on, if that was the question."""

    leader: Peer | None = None


Outcome: TypeAlias = Refusal | Logged | Done


class Answer(NamedTuple):
    ticket: Ticket
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Confirmed:
    """These reads may be answered from a state that has applied at least `index` (rule 20)."""

    index: int
    tickets: list[Ticket]


class Output:
    """What must happen next, in this order.

    1. Send `early`: appends of the leader, which may leave before they are stored here (rule 10).
    2. If the store is dirty, sync it, and tell the core by `Raft.stored`.
    3. Send `late`: everything that promises something (rule 2).
    4. Pass on `answers`, and `confirmed` reads as soon as enough is applied.
    5. Log `reports`: what an operator should know, (severity, text).

    `roles` lists the roles that the server has taken on, in order.
    """

    __slots__ = ("answers", "confirmed", "early", "late", "reports", "roles")

    def __init__(self) -> None:
        self.early: list[tuple[Peer, Message]] = []
        self.late: list[tuple[Peer, Message]] = []
        self.answers: list[Answer] = []
        self.confirmed: list[Confirmed] = []
        self.reports: list[tuple[str, str]] = []
        self.roles: list[Role] = []

    def tickets(self) -> list[Ticket]:
        """Whose callers are told something by this."""
        tickets = [answer.ticket for answer in self.answers]
        for confirmed in self.confirmed:
            tickets += confirmed.tickets
        return tickets

    def __bool__(self) -> bool:
        return bool(
            self.early or self.late or self.answers or self.confirmed or self.reports or self.roles
        )
