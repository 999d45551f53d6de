"""A server that follows, and asks for pre-votes when it hears no leader.

Knows how a log is made to agree with the leader's (rules 7, 8, 11, 23) and when a follower doubts
that it has a leader (rule 6). Must not know how an election goes on: that is the candidate's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exraft.names import Peer, Role
from exraft.raft.log import DamagedSnapshot, Mark
from exraft.raft.messages import (
    Append,
    AppendReply,
    Install,
    InstallReply,
    PreVote,
    PreVoteReply,
)
from exraft.raft.voting import ask_voters

if TYPE_CHECKING:
    from exraft.raft.config import Config
    from exraft.raft.core import Raft

NEVER = float("inf")

HURRY = 0.02
"""Seconds within which the followers of a leader that surely died ask for pre-votes (rule 28)."""


class Follower:
    name = Role.FOLLOWER

    def __init__(self, raft: Raft, *, soon: bool = False) -> None:
        self._raft = raft
        self.deadline = raft.now + (raft.retry_timeout() if soon else raft.election_timeout())
        self._granted: dict[Peer, None] | None = None
        """Who would vote for this server; None as long as it does not ask."""
        self._hurried_until = -NEVER
        self._doubted_at: float | None = None
        """When the connection to the leader was closed, if it was not heard well after that."""
        self._forgiven = False
        self._verified = -1
        """The last index that this batch's appends vouched for; -1 if none did."""
        self._round = 0

    def enter_term(self) -> None:
        """A new term begins without a leader: what was asked and owed in the old one is void."""
        self._granted = None
        self._doubted_at = None
        self._verified = -1
        self._round = 0

    def on_append(self, message: Append, configs: list[tuple[int, Config]]) -> None:
        """Take a message of the leader of this term (Raft §5.3).

        `configs`: the configurations among its entries, with their indexes.
        """
        raft = self._raft
        self._hear(message.sender)
        store = raft.store
        base = store.base_index
        prev = message.prev_index
        if prev > store.last_index or (prev >= base and store.term_at(prev) != message.prev_term):
            raft.send(message.sender, refuse_append(raft, message))
            return
        entries = message.entries
        verified = prev + len(entries)
        if entries:
            # What the log does not hold any more is committed, so every leader has it (Raft §5.4).
            new = max(prev + 1, base)
            # Skip what is here already; delete only where a term conflicts, for this may be an old
            # message, and what follows may be acknowledged since (rule 7).
            while new <= store.last_index and new <= verified:
                if store.term_at(new) != entries[new - prev - 1].term:
                    if new <= raft.commit_index:
                        raft.report("error", overwrites(message, new, raft))
                        return
                    # No leader contradicts itself within a batch, but two that claim one term
                    # may: then what was vouched for is gone.
                    self._verified = min(self._verified, new - 1)
                    raft.truncate(new)
                    break
                new += 1
            if new <= verified:
                if new > prev + 1:
                    entries = entries[new - prev - 1 :]
                    configs = [each for each in configs if each[0] >= new]
                raft.adopt(entries, configs)
        # Never beyond what this message vouched for: what stands behind it here may be of another
        # leader's log (rule 8).
        raft.set_commit(min(message.commit, verified))
        self._verified = max(self._verified, verified)
        self._round = max(self._round, message.round)

    def _hear(self, leader: Peer) -> None:
        raft = self._raft
        raft.leader = leader
        raft.leader_heard = raft.now
        raft.ever_led = True
        self._granted = None
        self._forgiven = False
        if self._doubted_at is not None:
            if raft.now < self._doubted_at + raft.options.heartbeat_timeout:
                # It may have been under way when the connection was closed.
                self._hurry_from(self._free())
                return
            self._doubted_at = None
        self._hurried_until = -NEVER
        self.deadline = raft.now + raft.election_timeout()

    def on_install(self, message: Install) -> None:
        """Take a piece of a snapshot of the leader of this term (Raft §7)."""
        raft = self._raft
        self._hear(message.sender)
        store = raft.store
        snapshot = message.snapshot
        index = snapshot.index
        place = min(index, raft.commit_index)
        known = store.term_at(place) if place >= store.base_index else snapshot.term
        if snapshot.term < known or (place == index and snapshot.term != known):
            raft.report("error", overwrites(message, place, raft))
            return
        if index <= raft.commit_index or (
            index <= store.last_index and store.term_at(index) == snapshot.term
        ):
            # What it holds is here, and so may be what comes after it (rule 23).
            raft.set_commit(index)
            self._verified = max(self._verified, index)
            return
        held = store.receive(snapshot, message.offset, message.data)
        if held == snapshot.size:
            try:
                raft.install()
            except DamagedSnapshot as error:
                raft.report(
                    "error", f"{raft.me} begins a snapshot of {message.sender} anew: {error}"
                )
                held = 0
            else:
                self._verified = index
                return
        raft.send(message.sender, answer_install(raft, message, held))

    def on_pre_vote_reply(self, message: PreVoteReply) -> None:
        raft = self._raft
        if (
            self._granted is None
            or not message.granted
            or message.asked != raft.term + 1
            or message.sender not in raft.config.voters
            or not raft.knows_as_member(message.sender, message.store)
        ):
            return
        self._granted[message.sender] = None
        if len(self._granted) >= raft.quorum:
            raft.become_candidate(force=False)

    def hurry(self) -> None:
        """The leader surely died: ask at once, a little apart from the others (rule 28)."""
        self._hurry_from(self._raft.now)

    def doubt(self) -> None:
        """The leader may have died: if it is not heard again, ask as soon as others may grant it.

        They heard it last when this server did, or nearly, so they stick to it as long (rule 4).
        """
        if self._doubted_at is None:
            self._doubted_at = self._raft.now
            self._hurry_from(self._free())

    def _free(self) -> float:
        """When this server stops refusing votes for the sake of the leader (rule 4)."""
        raft = self._raft
        return max(raft.now, raft.leader_heard + raft.options.min_election_timeout)

    def _hurry_from(self, start: float) -> None:
        raft = self._raft
        self.deadline = start + raft.rng.uniform(0, HURRY)
        self._hurried_until = start + raft.options.min_election_timeout

    def tick(self) -> None:
        raft = self._raft
        late = raft.now - self.deadline
        if raft.leader is not None and late > raft.options.heartbeat_timeout and not self._forgiven:
            # This server was not running when it should have looked, so the leader may not have
            # run either: a machine under load must not hold an election for that.
            self._forgiven = True
            self.deadline = raft.now + 2 * raft.options.heartbeat_timeout
            return
        raft.leader = None
        if not raft.may_campaign:
            self.deadline = NEVER
            return
        self.canvass()

    def canvass(self) -> None:
        """Ask for pre-votes (dissertation §9.6)."""
        raft = self._raft
        if raft.alone:
            raft.become_candidate(force=False)
            return
        self._granted = {raft.me: None} if raft.is_voter else {}
        hurried = raft.now < self._hurried_until
        self.deadline = raft.now + (
            raft.options.heartbeat_timeout if hurried else raft.retry_timeout()
        )
        request = PreVote(
            raft.cluster,
            raft.me,
            raft.term + 1,
            raft.store.store_id,
            raft.last_index,
            raft.last_term,
        )
        ask_voters(raft, request)

    def stored(self, mark: Mark) -> None:
        pass

    def flush(self) -> None:
        """Acknowledge once what a whole batch brought."""
        raft = self._raft
        if self._verified < 0 or raft.leader is None:
            return
        raft.send(
            raft.leader,
            AppendReply(
                raft.cluster,
                raft.me,
                raft.term,
                raft.store.store_id,
                True,
                self._verified,
                0,
                0,
                raft.commit_index,
                self._round,
                raft.standby,
            ),
        )
        self._verified = -1
        self._round = 0


def refuse_append(raft: Raft, message: Append) -> AppendReply:
    """With what the leader needs to find where the logs agree in a few rounds (rule 11).

    The answer names this server's term. Refusing an append of an earlier one, it answers no round:
    the sender may lead again by now, and count its rounds anew (rule 20).
    """
    hint = raft.store.last_at_most(min(message.prev_index, raft.last_index), message.prev_term)
    return AppendReply(
        raft.cluster,
        raft.me,
        raft.term,
        raft.store.store_id,
        False,
        message.prev_index,
        hint,
        raft.store.term_at(hint),
        raft.commit_index,
        message.round if message.term == raft.term else 0,
        raft.standby,
    )


def overwrites(message: Append | Install, index: int, raft: Raft) -> str:
    """What is reported of a message that contradicts what is committed here."""
    return (
        f"{message.sender} would overwrite the committed entry {index} of {raft.me}: dropped."
        " Do two clusters share this server's name?"
    )


def answer_install(raft: Raft, message: Install, held: int) -> InstallReply:
    """Say how much of the snapshot is here; to who led an earlier term, the term as well."""
    snapshot = message.snapshot
    return InstallReply(
        raft.cluster,
        raft.me,
        raft.term,
        raft.store.store_id,
        snapshot.index,
        snapshot.crc,
        held,
        raft.standby,
    )
