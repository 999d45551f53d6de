"""Linearizable reads without writing to the log (dissertation §6.4, rules 20 and 21).

Knows which reads wait for which round of confirmation. Must not know the state machine: a confirmed
read is handed out with the index that the machine must have applied.

A round is a number that the leader's appends carry and their replies carry back. It never repeats
within a term: the store's incarnation comes first in it, then a counter (rule 27).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exraft.raft.config import reached_by
from exraft.raft.outcome import Confirmed, Ticket

if TYPE_CHECKING:
    from exraft.raft.core import Raft
    from exraft.raft.leader import Leader

INCARNATION_BITS = 32


class Reads:
    def __init__(self, raft: Raft, leader: Leader) -> None:
        self._raft = raft
        self._leader = leader
        self.round = raft.store.incarnation << INCARNATION_BITS
        self._arrived: list[Ticket] = []
        """Reads that no round has started for."""
        self._rounds: deque[tuple[int, int, list[Ticket]]] = deque()
        """(round, last index at its start, the reads that it serves), oldest first."""

    @property
    def waiting(self) -> int:
        return len(self._arrived) + sum(len(tickets) for _, _, tickets in self._rounds)

    def ask(self, ticket: Ticket) -> None:
        self._arrived.append(ticket)

    def flush(self) -> None:
        """Start a round for the reads that have arrived since the last one.

        It does not wait for an earlier one, whose messages may be lost.
        """
        raft = self._raft
        if not self._arrived:
            return
        self.round += 1
        # The log as it stands is to be committed first. That includes an entry of this term, before
        # which a leader does not know how far its predecessors had committed. And who reads to see
        # what became of a write without an answer is not told "nothing" while its entry is on its
        # way: the commit index would do for the protocol, but not for that.
        self._rounds.append((self.round, raft.last_index, self._arrived))
        self._arrived = []
        for progress in self._leader.voters:
            progress.owed = True
        self.confirm()

    def confirm(self) -> None:
        """Hand out the reads whose round a quorum has answered, and whose entries are committed."""
        if not self._rounds:
            return
        leader = self._leader
        answered = [progress.round for progress in leader.voters if not progress.stranger]
        if leader.votes:
            answered.append(self.round)
        confirmed = reached_by(self._raft.quorum, answered)
        if confirmed is None:
            return
        committed = self._raft.commit_index
        while self._rounds and self._rounds[0][0] <= confirmed and self._rounds[0][1] <= committed:
            _, index, tickets = self._rounds.popleft()
            self._raft.out.confirmed.append(Confirmed(index, tickets))

    def tickets(self) -> list[Ticket]:
        return [ticket for _, _, each in self._rounds for ticket in each] + self._arrived

    def abdicate(self) -> None:
        """A deposed leader never answers from its state (rule 21)."""
        refusal = self._raft.refusal()
        for ticket in self.tickets():
            self._raft.answer(ticket, refusal)
        self._rounds.clear()
        self._arrived.clear()
