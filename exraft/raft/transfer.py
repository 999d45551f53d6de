"""Handing leadership over (dissertation §3.10, rule 22).

Knows the one hand-over that may be under way: to whom, until when, and for which caller. Must not
know how the target wins its election: it campaigns by force, as `TimeoutNow` tells it to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exraft.names import Peer
from exraft.raft.messages import TimeoutNow
from exraft.raft.outcome import Done, Refusal, Ticket

if TYPE_CHECKING:
    from exraft.raft.core import Raft
    from exraft.raft.leader import Leader

NOBODY = object()
"""The ticket of a hand-over that no caller waits for."""


class Transfer:
    def __init__(self, raft: Raft, leader: Leader) -> None:
        self._raft = raft
        self._leader = leader
        self.to: Peer | None = None
        """Who is to lead; None if no hand-over is under way. New commands are refused meanwhile."""
        self._ticket: Ticket = NOBODY
        self._deadline = 0.0
        self._told = False
        self._retiring = False

    def ask(self, ticket: Ticket, to: Peer | None) -> None:
        raft = self._raft
        if self.to is not None:
            raft.answer(ticket, Refusal("transferring", self.to))
            return
        if to == raft.me:
            raft.answer(ticket, Done(raft.me))
            return
        if to is None:
            to = self.best()
            if to is None:
                raft.answer(
                    ticket,
                    Refusal("transfer_failed", None, "there is no other voter: add a server first"),
                )
                return
        elif to not in raft.config.voters:
            text = f"{to} is no voter of the cluster: add it first"
            raft.answer(ticket, Refusal("transfer_failed", to, text))
            return
        self._start(ticket, to)

    def retire(self) -> None:
        """This leader has left the configuration: hand over and step down (rule 18)."""
        if self._retiring:
            return
        to = self.best()
        if to is None:
            self._raft.become_follower(self._raft.term, None)
            return
        if self.to is not None:
            self._refuse()
        self._retiring = True
        self._start(NOBODY, to)

    def best(self) -> Peer | None:
        """The most up-to-date voter beside this server, of those heard lately if there are any.

        The first of equals.
        """
        raft = self._raft
        lately = raft.now - raft.options.min_election_timeout
        best: Peer | None = None
        merit = (False, -1)
        for peer in raft.config.voters:
            if peer == raft.me or self._leader.peers[peer].stranger:
                continue
            progress = self._leader.peers[peer]
            if (progress.heard > lately, progress.match) > merit:
                best = peer
                merit = (progress.heard > lately, progress.match)
        return best

    def _start(self, ticket: Ticket, to: Peer) -> None:
        raft = self._raft
        self.to = to
        self._ticket = ticket
        self._told = False
        self._deadline = raft.now + raft.options.min_election_timeout
        self._leader.peers[to].owed = True

    def flush(self) -> None:
        raft = self._raft
        if self.to is None or self._told:
            return
        # A pending change of the configuration is finished first. Who retires sees its log
        # committed, for it will not hear of that any more.
        if raft.config_index > raft.commit_index:
            return
        if self.to not in raft.config.voters:
            self._refuse()
            return
        if self._retiring and raft.commit_index < raft.last_index:
            return
        if self._has_all(self.to):
            self._tell()
            if self._retiring:
                raft.become_follower(raft.term, None)

    def _has_all(self, peer: Peer) -> bool:
        progress = self._leader.peers.get(peer)
        return progress is not None and progress.match == self._raft.last_index

    def _tell(self) -> None:
        raft = self._raft
        assert self.to is not None
        self._told = True
        raft.send(self.to, TimeoutNow(raft.cluster, raft.me, raft.term))

    def tick(self) -> None:
        """Given up after an election timeout: the leader goes on."""
        raft = self._raft
        if self.to is None:
            return
        if raft.now < self._deadline:
            # The word may be lost; but a server that was on its way in may have become a voter
            # since, and whoever lacks that entry is not to campaign.
            if self._told and self._has_all(self.to):
                self._tell()
        elif self._retiring:
            raft.become_follower(raft.term, None)
        else:
            self._refuse()

    def _refuse(self) -> None:
        raft = self._raft
        to, self.to = self.to, None
        if self._ticket is not NOBODY:
            patience = self._raft.options.min_election_timeout
            text = f"{to} did not take over within {patience:g} s: is it started, and reached?"
            raft.answer(self._ticket, Refusal("transfer_failed", to, text))
            self._ticket = NOBODY

    def tickets(self) -> list[Ticket]:
        return [] if self._ticket is NOBODY else [self._ticket]

    def abdicate(self) -> None:
        """Leadership has ended: in the new leader's favour, if that was asked for."""
        raft = self._raft
        if self.to is None or self._ticket is NOBODY:
            return
        raft.answer(self._ticket, Done(raft.leader) if self._told else raft.refusal())
