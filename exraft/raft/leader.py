"""A server that leads its term (Raft §5.3, §5.4).

Knows how the log reaches the peers and what counts as committed (rules 9, 10 and 18), and that a
leader who hears no quorum must step down (rule 5). Must not know how reads are confirmed, members
changed or leadership handed over: each is a part of its own (`reads`, `membership`, `transfer`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from exraft.names import Peer, Role
from exraft.raft.config import reached_by
from exraft.raft.log import COMMAND, Entry, Mark
from exraft.raft.membership import Membership
from exraft.raft.messages import Append, AppendReply, Install, InstallReply
from exraft.raft.nonsense import Nonsense
from exraft.raft.outcome import Refusal, Ticket
from exraft.raft.progress import MOST_PATIENCE, MUCH, Progress, Sending
from exraft.raft.reads import Reads
from exraft.raft.transfer import Transfer

if TYPE_CHECKING:
    from exraft.raft.core import Raft


class Leader:
    name = Role.LEADER

    def __init__(self, raft: Raft, *, resumed: bool = False) -> None:
        self._raft = raft
        self._resumed = resumed
        self.peers: dict[Peer, Progress] = {}
        """Everyone who is sent the log: members, a server catching up, members on their way out."""
        self.voters: list[Progress] = []
        """Those of `peers` who count."""
        self.votes = False
        """Whether this server counts itself (rule 18)."""
        self.reads = Reads(raft, self)
        self.membership = Membership(raft, self)
        self.transfer = Transfer(raft, self)
        self.deadline = raft.now
        """When the next heartbeat is due."""
        self._quorum_due = raft.now + raft.options.min_election_timeout
        self._progressed = False
        # Bytes proposed, noted and committed in this leadership; what is noted says, by index, how
        # many bytes are committed with it.
        self._proposed = 0
        self._noted = 0
        self._committed = 0
        self._ends: deque[tuple[int, int]] = deque()
        self.follow_config()

    @property
    def uncommitted_bytes(self) -> int:
        return self._proposed - self._committed

    def begin(self) -> None:
        raft = self._raft
        # What the life before had stored counts; if this server is alone, nobody else will say so.
        self._progressed = self._resumed
        if self._resumed and raft.last_term != raft.term:
            raft.begin_term([(raft.me, raft.store.store_id)])
        self.follow_config()

    def follow_config(self) -> None:
        """Reach everyone whom the configuration names; count its voters, and nobody else."""
        raft = self._raft
        config = raft.config
        for peer in config.members():
            if peer != raft.me and peer not in self.peers:
                self.peers[peer] = Progress(raft.last_index + 1, raft.now)
        self.voters = [self.peers[peer] for peer in config.voters if peer != raft.me]
        self.votes = raft.is_voter
        # Of the newest configuration, committed or not: who knows the cluster takes appends of no
        # other, not even of one that is being founded (rule 17).
        self._cluster = config.cluster

    def propose(self, data: bytes) -> int | Refusal:
        raft = self._raft
        if self.transfer.to is not None:
            return Refusal("transferring", self.transfer.to)
        uncommitted = self._proposed - self._committed
        if uncommitted and uncommitted + len(data) > raft.options.max_uncommitted_bytes:
            return Refusal(
                "overloaded",
                None,
                "too many bytes wait for a quorum: wait for replies before writing more",
            )
        self._proposed += len(data)
        raft.store.append((Entry(raft.store.term, COMMAND, data),))
        return raft.store.last_index

    def on_append_reply(self, message: AppendReply) -> None:
        raft = self._raft
        if message.round > self.reads.round or (
            message.accepted and message.index > raft.last_index
        ):
            raise Nonsense(f"an answer to what was never asked: {message}")
        progress = self.peers[message.sender]
        if not self._is_known(message, progress):
            return
        progress.heard = raft.now
        progress.commit = max(progress.commit, message.commit)
        if message.round > progress.round:
            # A refusal answers a round as well: it acknowledges the leader (rule 20).
            progress.round = message.round
            self.reads.confirm()
        if message.accepted:
            progress.accepted(message.index)
            self._progressed = True
            self.membership.on_progress(message.sender, progress)
        else:
            may_fit = raft.store.last_at_most(
                min(message.hint_index, raft.last_index), message.hint_term
            )
            progress.refused(message.index, may_fit)

    def on_install_reply(self, message: InstallReply) -> None:
        progress = self.peers[message.sender]
        if not self._is_known(message, progress):
            return
        progress.heard = self._raft.now
        sending = progress.sending
        if sending is None or (message.index, message.crc) != (
            sending.snapshot.index,
            sending.snapshot.crc,
        ):
            return
        if not 0 <= message.held <= sending.snapshot.size:
            raise Nonsense(f"an answer to what was never asked: {message}")
        sending.has(message.held)

    def _is_known(self, message: AppendReply | InstallReply, progress: Progress) -> bool:
        """Whether it comes from the store that the member has answered from before (rule 29)."""
        raft = self._raft
        known = raft.config.store_of(message.sender) or progress.store
        if known == message.store:
            progress.stranger = False
            return True
        if not known and not message.standby:
            progress.store = message.store
            self.membership.on_store_known()
            return True
        progress.stranger = True
        raft.report_stranger(message.sender, message.store)
        return False

    def stored(self, mark: Mark) -> None:
        self._progressed = True

    def flush(self) -> None:
        raft = self._raft
        if self._progressed:
            self._progressed = False
            self._commit()
            if raft.role is not self:
                return
        self.membership.flush()
        self.reads.flush()
        self.transfer.flush()
        if raft.role is not self:
            return
        if self._proposed > self._noted:
            self._noted = self._proposed
            self._ends.append((raft.last_index, self._proposed))
        self._replicate()

    def _commit(self) -> None:
        """Commit what a quorum has stored, counting only entries of the own term (Figure 8)."""
        raft = self._raft
        if raft.store.commit_index == raft.store.last_index:
            return
        stored = [progress.match for progress in self.voters if not progress.stranger]
        if self.votes:
            stored.append(raft.durable_index)
        index = reached_by(raft.quorum, stored)
        if index is None or index <= raft.commit_index or raft.store.term_at(index) != raft.term:
            return
        raft.set_commit(index)
        ends = self._ends
        while ends and ends[0][0] <= index:
            self._committed = ends.popleft()[1]
        self.membership.on_commit()
        self.reads.confirm()

    def _replicate(self) -> None:
        """Send to each peer what it lacks: at once, and several messages deep (rule 10)."""
        raft = self._raft
        last = raft.last_index
        base = raft.store.base_index
        early = raft.out.early
        packed: dict[int, tuple[Append, int]] = {}
        for peer, progress in self.peers.items():
            if progress.next <= base:
                self._send_snapshot(peer, progress)
                continue
            if progress.sending is not None:
                progress.stop_sending()
            while progress.next <= last and progress.ready and not progress.stranger:
                first = progress.next
                if first not in packed:
                    entries, size = self._pack(first)
                    packed[first] = self._append_after(first - 1, entries), size
                message, size = packed[first]
                if progress.probing and size > MUCH:
                    # Nobody may be there, and the answer may take longer than the next probe.
                    message, size = self._append_after(first - 1, ()), 0
                early.append((peer, message))
                progress.sent(first + len(message.entries) - 1, size)
                # What is heavy may be long on its way, and entries may have a road of their own: a
                # heartbeat does not wait for them.
                progress.beat = progress.beat and bool(message.entries)
                progress.owed = progress.owed and (progress.beat or progress.laden)
            if progress.owed:
                prev = progress.due if progress.due >= base else progress.next - 1
                early.append((peer, self._append_after(prev, ())))
                progress.owed = progress.beat = False

    def _send_snapshot(self, peer: Peer, progress: Progress) -> None:
        """Send what stands in for entries that the log does not hold any more (rule 25).

        Heartbeats go on beside it; whatever they are answered, it says that the peer is there.
        """
        raft = self._raft
        early = raft.out.early
        if progress.owed:
            early.append((peer, self._append_after(raft.store.base_index, ())))
            progress.owed = progress.beat = False
        if progress.stranger:
            progress.stop_sending()
            return
        sending = progress.sending
        if sending is None or sending.snapshot.index <= progress.match:
            progress.stop_sending()
            sending = progress.sending = Sending(raft.store.open_snapshot())
        while (size := sending.piece(raft.options.snapshot_chunk_bytes)) is not None:
            data = sending.reader.read(sending.next, size)
            piece = Install(self._cluster, raft.me, raft.term, sending.snapshot, sending.next, data)
            early.append((peer, piece))
            sending.sent(size)

    def spared(self, upto: int, least: int) -> int:
        """How far the log may be cut, at most `upto` and at least `least`, for its peers' sake.

        Who is there and behind would need a snapshot the sooner again.
        """
        raft = self._raft
        lately = raft.now - raft.options.min_election_timeout
        for progress in self.peers.values():
            if progress.heard > lately and not progress.stranger:
                sending = progress.sending
                upto = min(upto, progress.match if sending is None else sending.snapshot.index)
        return max(upto, least)

    def forget(self, peer: Peer) -> None:
        """The peer is sent nothing more."""
        self.peers.pop(peer).stop_sending()

    def _pack(self, first: int) -> tuple[tuple[Entry, ...], int]:
        """The entries of one append, bounded in number and in bytes."""
        options = self._raft.options
        entries = self._raft.store.slice(first, options.batch_size)
        size = 0
        for count, entry in enumerate(entries):
            size += len(entry.data)
            if size > options.max_append_bytes and count:
                return tuple(entries[:count]), size - len(entry.data)
        return tuple(entries), size

    def _append_after(self, prev: int, entries: tuple[Entry, ...]) -> Append:
        raft = self._raft
        return Append(
            self._cluster,
            raft.me,
            raft.term,
            prev,
            raft.store.term_at(prev),
            entries,
            raft.commit_index,
            self.reads.round,
        )

    def tick(self) -> None:
        raft = self._raft
        late = raft.now - self.deadline
        self.deadline = raft.now + raft.options.heartbeat_timeout
        if late > raft.options.heartbeat_timeout:
            # This server was not running, so it has asked nobody: that time proves nothing about
            # the others.
            for progress in self.peers.values():
                progress.heard = min(progress.heard + late, raft.now)
            self._quorum_due += late
        timeouts = raft.options.min_election_timeout / raft.options.heartbeat_timeout
        patience = min(timeouts, MOST_PATIENCE)
        for progress in self.peers.values():
            progress.tick(patience)
        if raft.now >= self._quorum_due and not self._hears_quorum():
            raft.report(
                "warning",
                f"{raft.me} steps down: it has not heard from a quorum for"
                f" {raft.options.min_election_timeout} s",
            )
            raft.become_follower(raft.term, None)
            return
        self.membership.tick()
        self.transfer.tick()

    def _hears_quorum(self) -> bool:
        """Check-quorum (dissertation §6.2): a leader that was cut off must not go on answering."""
        raft = self._raft
        heard = [progress.heard for progress in self.voters if not progress.stranger]
        if self.votes:
            heard.append(raft.now)
        since = reached_by(raft.quorum, heard)
        if since is None or raft.now >= since + raft.options.min_election_timeout:
            return False
        self._quorum_due = since + raft.options.min_election_timeout
        return True

    def could_hand_over(self) -> bool:
        """Whether the other voters, as far as heard lately, make a quorum by themselves."""
        raft = self._raft
        lately = raft.now - raft.options.min_election_timeout
        heard = [each for each in self.voters if not each.stranger and each.heard > lately]
        return len(heard) >= raft.quorum

    def tickets(self) -> list[Ticket]:
        """Who waits for what only a leader can do."""
        return [*self.reads.tickets(), *self.membership.tickets(), *self.transfer.tickets()]

    def abdicate(self) -> None:
        """This server leads no more: tell who waits for what only a leader can do."""
        for progress in self.peers.values():
            progress.stop_sending()
        self.reads.abdicate()
        self.membership.abdicate()
        self.transfer.abdicate()
