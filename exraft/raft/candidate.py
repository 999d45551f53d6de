"""A server that asks for the votes of its term (Raft §5.2).

Knows how votes are counted: by sender, once each, under the store that the configuration names
(rules 3 and 29), its own only when it is stored (rule 2). Must not know to whom votes are given:
that is `voting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exraft.names import Peer, Role
from exraft.raft.log import Mark
from exraft.raft.messages import Vote, VoteReply
from exraft.raft.voting import ask_voters

if TYPE_CHECKING:
    from exraft.raft.core import Raft


class Candidate:
    name = Role.CANDIDATE

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self.deadline = raft.now + raft.retry_timeout()
        self._votes: dict[Peer, str] = {}

    def begin(self, force: bool) -> None:
        raft = self._raft
        request = Vote(
            raft.cluster,
            raft.me,
            raft.term,
            raft.store.store_id,
            raft.last_index,
            raft.last_term,
            force,
        )
        ask_voters(raft, request)

    def on_vote_reply(self, message: VoteReply) -> None:
        raft = self._raft
        if (
            message.granted
            and message.sender in raft.config.voters
            and raft.knows_as_member(message.sender, message.store)
        ):
            self._count(message.sender, message.store)

    def stored(self, mark: Mark) -> None:
        raft = self._raft
        if mark.term == raft.term and raft.is_voter:
            self._count(raft.me, raft.store.store_id)

    def _count(self, voter: Peer, store: str) -> None:
        self._votes[voter] = store
        if len(self._votes) >= self._raft.quorum:
            self._raft.become_leader(list(self._votes.items()))

    def tick(self) -> None:
        """The vote was split, or nobody answers: ask around again before taking another term."""
        raft = self._raft
        raft.become_follower(raft.term, None)
        if raft.may_campaign and raft.state is Role.FOLLOWER:
            raft.canvass()

    def flush(self) -> None:
        pass
