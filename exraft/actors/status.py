"""What a server tells of itself to programs.

Knows the fields, their units, and where in the core they are found. Must not know who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exraft.names import Peer, Role
from exraft.raft import Config, Raft
from exraft.raft.leader import Leader
from exraft.raft.snapshot import Snapshot
from exraft.storage.memory import LentStore


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How far one peer is, as its leader sees it (etcd's progress tracking).

    Attributes:
        match_index: the last entry known to be stored there.
        next_index: the next entry to be sent.
        probing: whether the leader still looks for where the logs agree.
        inflight: appends under way.
        heard_ago: seconds since its last answer.
        stranger: it has come back with another store and counts for nothing; add it again.
        snapshot: while it is sent one, `(index, bytes acknowledged, bytes in all)`.
    """

    match_index: int
    next_index: int
    probing: bool
    inflight: int
    heard_ago: float
    stranger: bool
    snapshot: tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Status:
    """A server at a moment; indexes count entries, sizes are in bytes.

    Attributes:
        server: whose status it is.
        role: `Role.FOLLOWER`, `Role.CANDIDATE` or `Role.LEADER`.
        term: its current term.
        leader: the leader that it knows.
        config: the configuration in force.
        config_index: where that stands in the log; 0 for what the server was started with.
        cluster: the cluster's id; empty until the first commit.
        store_id: the id of the server's store.
        commit_index, applied_index, last_index: how far its log is committed, applied, written.
        first_index: of the first entry that its log still holds, or will hold.
        log_entries, log_bytes: the size of its log.
        storage: the directory in which it stores; `"memory"` if it does not.
        storage_full: there is no room: it takes part in nothing until there is some.
        syncs: how often anything of its log was synced; 0 in memory.
        snapshot_index, snapshot_bytes: its newest snapshot; 0 if there is none.
        snapshotting: whether one is being taken.
        receiving: while its leader sends it one, `(index, bytes received, bytes in all)`.
        replaying: entries that an earlier life had applied, and this one has not yet.
        uncommitted_bytes: bytes of commands that wait for a quorum (leader).
        queue_length: messages and calls that wait in its mailbox.
        waiting_writes, waiting_reads: calls that wait for the log, or for a round of confirmation.
        side_effects: side effects that wait to be run.
        restarts: how often its supervisor has restarted it.
        foreign_messages: messages of other clusters that were dropped.
        standby: its store is new under a member's name, so it waits to be added again.
        fault: why it applies nothing any more, if so.
        peers: how far each peer is (leader).
    """

    server: Peer
    role: Role
    term: int
    leader: Peer | None
    config: Config
    config_index: int
    cluster: str
    store_id: str
    commit_index: int
    applied_index: int
    last_index: int
    first_index: int
    log_entries: int
    log_bytes: int
    storage: str
    storage_full: bool
    syncs: int
    snapshot_index: int
    snapshot_bytes: int
    snapshotting: bool
    receiving: tuple[int, int, int] | None
    replaying: int
    uncommitted_bytes: int
    queue_length: int
    waiting_writes: int
    waiting_reads: int
    side_effects: int
    restarts: int
    foreign_messages: int
    standby: bool
    fault: str | None
    peers: Mapping[Peer, PeerStatus]


def status_of(
    raft: Raft,
    store: LentStore,
    *,
    now: float,
    applied: int,
    queued: int,
    writes: int,
    reads: int,
    side_effects: int,
    restarts: int,
    fault: str | None,
    storage: str,
    storage_full: bool,
    syncs: int,
    snapshotting: bool,
    replaying: int,
) -> Status:
    """The status of the server that drives `raft`; the rest is what only the driver knows."""
    leader = raft.role if type(raft.role) is Leader else None
    return Status(
        server=raft.me,
        role=raft.state,
        term=raft.term,
        leader=raft.leader,
        config=raft.config,
        config_index=raft.config_index,
        cluster=raft.cluster,
        store_id=store.store_id,
        commit_index=raft.commit_index,
        applied_index=applied,
        last_index=raft.last_index,
        first_index=store.base_index + 1,
        log_entries=store.last_index - store.base_index,
        log_bytes=store.size,
        storage=storage,
        storage_full=storage_full,
        syncs=syncs,
        snapshot_index=store.snapshot.index if store.snapshot else 0,
        snapshot_bytes=store.snapshot.size if store.snapshot else 0,
        snapshotting=snapshotting,
        receiving=_part(*store.received) if store.received else None,
        replaying=replaying,
        uncommitted_bytes=leader.uncommitted_bytes if leader else 0,
        queue_length=queued,
        waiting_writes=writes,
        waiting_reads=reads + (leader.reads.waiting if leader else 0),
        side_effects=side_effects,
        restarts=restarts,
        foreign_messages=raft.foreign,
        standby=raft.standby,
        fault=fault,
        peers={
            peer: PeerStatus(
                match_index=progress.match,
                next_index=progress.next,
                probing=progress.probing,
                inflight=progress.inflight,
                heard_ago=max(0.0, now - progress.heard),
                stranger=progress.stranger,
                snapshot=_part(progress.sending.snapshot, progress.sending.held)
                if progress.sending
                else None,
            )
            for peer, progress in (leader.peers.items() if leader else ())
        },
    )


def _part(snapshot: Snapshot, held: int) -> tuple[int, int, int]:
    return snapshot.index, held, snapshot.size
