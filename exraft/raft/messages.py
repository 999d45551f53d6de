"""What servers say to each other.

Knows the messages, which are typed, frozen, small, and their own wire format. Must not know what
they mean: that is the roles' business.

Every message names the cluster (empty until the sender knows a committed configuration, rule 17),
its sender and the sender's term. Votes and acknowledgements carry the id of the store that they
were given from (rule 29).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from exraft.names import Peer
from exraft.raft.log import Entry
from exraft.raft.snapshot import Snapshot


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True):
    cluster: str
    sender: Peer
    term: int


class Append(Header, frozen=True, array_like=True, gc=False, tag=True):
    """Entries after `prev_index`, or none of them: a heartbeat (Raft §5.3).

    `round` numbers the leader's read rounds (rule 20); the reply carries it back.
    """

    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


class AppendReply(Header, frozen=True, array_like=True, gc=False, tag=True):
    """Accepted: `index` is the last one that the append vouched for (rule 8).

    Refused: `index` is the `prev_index` that did not fit, and the hints are the last index and term
    that may (rule 11). `commit` is the follower's commit index. `standby`: this store is new under
    a member's name, and not to be taken for the member's even if nobody knows that one (rule 29).
    """

    store: str
    accepted: bool
    index: int
    hint_index: int
    hint_term: int
    commit: int
    round: int
    standby: bool = False


class PreVote(Header, frozen=True, array_like=True, gc=False, tag=True):
    """Would you vote for me in term `term`? (dissertation §9.6)

    `whose` is the id of the store that the asked member is known by, if it is known, and `config`
    is the term and index of the configuration that says so (rule 29).
    """

    store: str
    last_index: int
    last_term: int
    whose: str = ""
    config: tuple[int, int] = (0, 0)


class PreVoteReply(Header, frozen=True, array_like=True, gc=False, tag=True):
    """`asked` is the term that the pre-vote named."""

    store: str
    asked: int
    granted: bool


class Vote(Header, frozen=True, array_like=True, gc=False, tag=True):
    """Vote for me in term `term` (Raft §5.2). `force`: also if you hear a leader (rule 4)."""

    store: str
    last_index: int
    last_term: int
    force: bool
    whose: str = ""
    config: tuple[int, int] = (0, 0)


class VoteReply(Header, frozen=True, array_like=True, gc=False, tag=True):
    store: str
    granted: bool


class TimeoutNow(Header, frozen=True, array_like=True, gc=False, tag=True):
    """The leader of `term` asks the receiver to campaign at once (dissertation §3.10)."""


class Reach(Header, frozen=True, array_like=True, gc=False, tag=True):
    """Who are you? Asked before a server is added (rule 16); changes nothing there."""


class ReachReply(Header, frozen=True, array_like=True, gc=False, tag=True):
    """`belongs_to` is the cluster of the newest configuration in the log, if there is one.

    `standby` as in `AppendReply`; such a server belongs to no cluster before that is committed.
    """

    store: str
    belongs_to: str
    standby: bool = False


class Install(Header, frozen=True, array_like=True, gc=False, tag=True):
    """The bytes of a snapshot from `offset` on (Raft §7, rule 25).

    A snapshot that is here whole is acknowledged as entries are, by an `AppendReply`.
    """

    snapshot: Snapshot
    offset: int
    data: bytes


class InstallReply(Header, frozen=True, array_like=True, gc=False, tag=True):
    """`held` bytes of the snapshot of `index` that has this `crc` are here, from its start on.

    They need not be synced: what is lost is asked for again. The whole is, before it counts.
    """

    store: str
    index: int
    crc: int
    held: int
    standby: bool = False


Message: TypeAlias = (
    Append
    | AppendReply
    | PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | TimeoutNow
    | Reach
    | ReachReply
    | Install
    | InstallReply
)
