"""How votes are asked for, and to whom a server gives its own, in whatever role it is.

Knows rules 3, 4 and 29: one vote a term, only to a log at least as up to date, and none against a
leader that is alive. Must not know how votes are counted: that is the candidate's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exraft.names import Role
from exraft.raft.messages import PreVote, PreVoteReply, Vote, VoteReply

if TYPE_CHECKING:
    from exraft.raft.core import Raft


def ask_voters(raft: Raft, request: PreVote | Vote) -> None:
    """Send `request` to the other voters, each with what the asker knows of it (rule 29)."""
    config = raft.config
    for peer in config.voters:
        if peer != raft.me:
            known = msgspec.structs.replace(
                request, whose=config.store_of(peer), config=raft.config_place
            )
            raft.send(peer, known)


def answer_pre_vote(raft: Raft, message: PreVote) -> None:
    """Say whether a vote would be given. Changes nobody's term, vote or timer (rule 4)."""
    granted = (
        message.term > raft.term
        and not raft.hears_leader(message.sender)
        and _deserves_vote(raft, message)
    )
    raft.send(
        message.sender,
        PreVoteReply(raft.cluster, raft.me, raft.term, raft.store.store_id, message.term, granted),
    )


def answer_vote(raft: Raft, message: Vote) -> None:
    """Give the vote of the term, or refuse it."""
    # Against a live leader the request is refused without even adopting its term, so that a server
    # that was cut off deposes nobody (rule 4; dissertation §4.2.3).
    listening = message.force or not raft.hears_leader(message.sender)
    if listening and message.term > raft.term:
        raft.become_follower(message.term, None)
    granted = (
        listening
        and message.term == raft.term
        and raft.state is Role.FOLLOWER
        and raft.store.voted_for in (None, message.sender)
        and _deserves_vote(raft, message)
    )
    if granted:
        raft.grant_vote(message.sender)
    raft.send(
        message.sender,
        VoteReply(raft.cluster, raft.me, raft.term, raft.store.store_id, granted),
    )


def _deserves_vote(raft: Raft, message: PreVote | Vote) -> bool:
    if raft.standby and message.whose != raft.store.store_id:
        # This store has forgotten what the member promised (rule 29). Once it is a member by its
        # own name it must vote, even if the entry that says so has not come yet: there may be no
        # leader who could send it.
        return False
    # Who has a newer configuration knows better under which store it is a member: a record here may
    # be from before it was taken in again, and there may be no leader to mend it (rule 29).
    if message.config <= raft.config_place and not raft.knows_as_member(
        message.sender, message.store
    ):
        return False
    # Raft §5.4.1: the last term decides, then the last index.
    return (message.last_term, message.last_index) >= (raft.last_term, raft.last_index)
