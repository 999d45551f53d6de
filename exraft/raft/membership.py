"""Changes of the configuration, one at a time (dissertation §4, rules 15 to 18 and 29).

Knows the change that is under way and how far it is. Must not know how the log gets to a new
server: it lets the leader replicate to it, and watches.

A new server is first *reached*, which tells whether it is there, free, and with which store; then
it *catches up* outside the configuration; then one entry makes it a voter. A name that has come
back with another store is first removed, then added.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from exraft.names import Peer
from exraft.raft.config import Config, config_entry
from exraft.raft.messages import Reach, ReachReply
from exraft.raft.outcome import Done, Logged, Refusal, Ticket
from exraft.raft.progress import Progress

if TYPE_CHECKING:
    from exraft.raft.core import Raft
    from exraft.raft.leader import Leader

MAX_ROUNDS = 10
"""Rounds of catching up before it is given up (dissertation §4.2.1)."""


class _Phase(Enum):
    REACHING = auto()
    REMOVING = auto()
    """Removing the member that the new server's name was, before it is added."""
    CATCHING_UP = auto()


class _Request:
    """One caller's wish."""

    def __init__(self, ticket: Ticket, peer: Peer, add: bool, patience_ends: float) -> None:
        self.ticket = ticket
        self.peer = peer
        self.add = add
        self.patience_ends = patience_ends


class _Addition:
    """A server on its way in."""

    def __init__(self, request: _Request, deadline: float) -> None:
        self.request = request
        self.peer = request.peer
        self.phase = _Phase.REACHING
        self.deadline = deadline
        self.store = ""
        self.rounds = 0
        self.round_began = 0.0
        self.round_ends = 0
        """The index that the server must have for the round to be over."""


class Membership:
    def __init__(self, raft: Raft, leader: Leader) -> None:
        self._raft = raft
        self._leader = leader
        self._waiting: list[_Request] = []
        """Asked before the first commit of the term, or while store ids are being recorded."""
        self._addition: _Addition | None = None
        self._asked_index = 0
        """Where the last change that a caller asked for stands."""
        self._unrecorded = False
        """Whether a member has answered whose store id no configuration names yet."""
        self._leaving: dict[Peer, tuple[int, float]] = {}
        """Removed servers that are still replicated to: (index of the removal, until when)."""

    def ask(self, ticket: Ticket, peer: Peer, *, add: bool, patience: float) -> None:
        raft = self._raft
        if self._leader.transfer.to is not None:
            raft.answer(ticket, Refusal("transferring", self._leader.transfer.to))
        elif self._under_way:
            raft.answer(ticket, Refusal("unstable_config"))
        else:
            self._waiting.append(_Request(ticket, peer, add, raft.now + patience))

    @property
    def _under_way(self) -> bool:
        return self._addition is not None or self._asked_index > self._raft.commit_index

    @property
    def _settled(self) -> bool:
        """Whether a change may be logged now (rule 15; the 2015 single-server bug)."""
        raft = self._raft
        return raft.committed_in_term and raft.config_index <= raft.commit_index

    def flush(self) -> None:
        raft = self._raft
        # An addition under way records the ids with its own entry: one change at a time (rule 15).
        recordable = self._addition is None and self._leader.transfer.to is None
        if self._unrecorded and recordable and self._settled:
            self._unrecorded = False
            known = raft.config.with_stores(self._known_stores())
            if known != raft.config:
                self._log(known)
        while self._waiting and self._settled:
            request = self._waiting.pop(0)
            if self._leader.transfer.to is not None:
                raft.answer(request.ticket, Refusal("transferring", self._leader.transfer.to))
            elif self._under_way:
                raft.answer(request.ticket, Refusal("unstable_config"))
            elif request.add:
                self._begin_to_add(request)
            else:
                self._remove(request)

    def _remove(self, request: _Request) -> None:
        raft = self._raft
        config = raft.config
        if request.peer not in config.members():
            raft.answer(request.ticket, Done())
        elif config.voters == (request.peer,):
            raft.answer(request.ticket, Refusal("last_server", request.peer))
        elif request.peer in config.voters and len(config.voters) - 1 < raft.options.min_majority:
            raft.answer(request.ticket, Refusal("below_min_majority", request.peer))
        else:
            self._log_for(request, config.without(request.peer))

    def _begin_to_add(self, request: _Request) -> None:
        raft = self._raft
        if request.peer == raft.me:
            raft.answer(request.ticket, Done())
            return
        self._addition = _Addition(request, raft.now + raft.options.min_election_timeout)
        self._reach()

    def _reach(self) -> None:
        raft = self._raft
        assert self._addition is not None
        raft.send(self._addition.peer, Reach(raft.cluster, raft.me, raft.term))

    def on_reach_reply(self, message: ReachReply) -> None:
        raft = self._raft
        addition = self._addition
        if (
            addition is None
            or addition.phase is not _Phase.REACHING
            or message.sender != addition.peer
        ):
            return
        config = raft.config
        addition.store = message.store
        if message.belongs_to and message.belongs_to != config.cluster:
            self._give_up(Refusal("foreign_server", addition.peer))
        elif addition.peer not in config.members():
            self._catch_up(addition)
        elif config.store_of(addition.peer) == message.store or (
            not config.store_of(addition.peer) and not message.standby
        ):
            self._end(Done())
        elif len(config.voters) - 1 < raft.options.min_majority:
            self._give_up(Refusal("below_min_majority", addition.peer))
        else:
            addition.phase = _Phase.REMOVING
            self._log(config.without(addition.peer))

    def _catch_up(self, addition: _Addition) -> None:
        raft = self._raft
        self._leaving.pop(addition.peer, None)
        if addition.peer in self._leader.peers:
            self._leader.forget(addition.peer)
        progress = Progress(raft.last_index + 1, raft.now)
        progress.store = addition.store
        self._leader.peers[addition.peer] = progress
        addition.phase = _Phase.CATCHING_UP
        addition.rounds = 1
        addition.round_began = raft.now
        addition.round_ends = raft.last_index

    def on_progress(self, peer: Peer, progress: Progress) -> None:
        """The server on its way in has more of the log than before."""
        raft = self._raft
        addition = self._addition
        if (
            addition is None
            or addition.phase is not _Phase.CATCHING_UP
            or peer != addition.peer
            or progress.match < addition.round_ends
        ):
            return
        if raft.now - addition.round_began < raft.options.min_election_timeout:
            self._addition = None
            self._log_for(addition.request, raft.config.with_voter(peer, addition.store))
        elif addition.rounds == MAX_ROUNDS:
            text = f"{peer} takes in the log more slowly than it grows: write less meanwhile"
            self._give_up(Refusal("catch_up_failed", peer, text))
        else:
            addition.rounds += 1
            addition.round_began = raft.now
            addition.round_ends = raft.last_index

    def on_store_known(self) -> None:
        self._unrecorded = True

    def on_commit(self) -> None:
        raft = self._raft
        leader = self._leader
        if raft.config_index > raft.commit_index:
            return
        addition = self._addition
        if addition is not None and addition.phase is _Phase.REMOVING:
            self._catch_up(addition)
        if raft.me not in raft.config.members():
            leader.transfer.retire()

    def tick(self) -> None:
        raft = self._raft
        impatient = [request for request in self._waiting if raft.now >= request.patience_ends]
        for request in impatient:
            self._waiting.remove(request)
            raft.answer(request.ticket, Refusal("no_commit"))
        self._tick_addition()
        for peer, (removal, until) in list(self._leaving.items()):
            if raft.commit_index < removal:
                self._leaving[peer] = (removal, raft.now + raft.options.min_election_timeout)
            # It has heard of its removal, or has had the time (rule 18).
            elif self._leader.peers[peer].commit >= removal or raft.now >= until:
                del self._leaving[peer]
                self._leader.forget(peer)

    def _tick_addition(self) -> None:
        raft = self._raft
        addition = self._addition
        if addition is None:
            return
        peer = addition.peer
        text = f"{peer} does not answer: is it started?"
        silent = Refusal("catch_up_failed", peer, text)
        if addition.phase is _Phase.REACHING:
            if raft.now < addition.deadline:
                self._reach()
            elif peer in raft.config.members() and not self._leader.peers[peer].stranger:
                # It is a member, whether or not it answers; unless it is known to have come back
                # with another store (rule 29).
                self._end(Done())
            else:
                self._give_up(silent)
        elif addition.phase is _Phase.CATCHING_UP:
            heard = self._leader.peers[peer].heard
            if raft.now >= heard + raft.options.min_election_timeout:
                self._give_up(silent)

    def _give_up(self, refusal: Refusal) -> None:
        """Nothing was logged for the addition; forget it."""
        addition = self._addition
        assert addition is not None
        if addition.phase is _Phase.CATCHING_UP:
            self._leader.forget(addition.peer)
        self._end(refusal)

    def _end(self, outcome: Done | Refusal) -> None:
        assert self._addition is not None
        self._raft.answer(self._addition.request.ticket, outcome)
        self._addition = None

    def _log_for(self, request: _Request, config: Config) -> None:
        raft = self._raft
        self._log(config)
        self._asked_index = raft.config_index
        raft.answer(request.ticket, Logged(raft.config_index, raft.term))

    def _log(self, config: Config) -> None:
        """Append a configuration; it holds from now on (rule 15)."""
        raft = self._raft
        leader = self._leader
        before = raft.config.members()
        config = config.with_stores(self._known_stores())
        raft.append([config_entry(raft.term, config)])
        for peer in before:
            if peer not in config.members() and peer != raft.me:
                until = raft.now + raft.options.min_election_timeout
                self._leaving[peer] = (raft.config_index, until)
        leader.follow_config()

    def _known_stores(self) -> list[tuple[Peer, str]]:
        return [(peer, progress.store) for peer, progress in self._leader.peers.items()]

    def tickets(self) -> list[Ticket]:
        tickets = [request.ticket for request in self._waiting]
        if self._addition is not None:
            tickets.append(self._addition.request.ticket)
        return tickets

    def abdicate(self) -> None:
        """Nothing of this was logged: the next leader may be asked (rule 16)."""
        raft = self._raft
        refusal = raft.refusal()
        if self._addition is not None:
            self._end(refusal)
        for request in self._waiting:
            raft.answer(request.ticket, refusal)
        self._waiting.clear()
