"""The consensus core: what must happen next, given what arrived.

It knows terms, votes, logs and quorums. It must not know threads, clocks, sockets, Pykka, or the
user's commands: time, chance and the store are handed in, and everything it wants done is handed
out, so that an actor, a simulator and a test run the very same code.
"""

from exraft.raft.config import Config, quorum
from exraft.raft.core import Options, Raft
from exraft.raft.log import COMMAND, CONFIG, DamagedSnapshot, Entry, Mark, Store
from exraft.raft.messages import (
    Append,
    AppendReply,
    Install,
    InstallReply,
    Message,
    PreVote,
    PreVoteReply,
    Reach,
    ReachReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.outcome import Answer, Confirmed, Done, Logged, Outcome, Output, Refusal
from exraft.raft.snapshot import Snapshot, SnapshotReader

__all__ = [
    "COMMAND",
    "CONFIG",
    "Answer",
    "Append",
    "AppendReply",
    "Config",
    "Confirmed",
    "Done",
    "DamagedSnapshot",
    "Entry",
    "Install",
    "InstallReply",
    "Logged",
    "Mark",
    "Message",
    "Options",
    "Outcome",
    "Output",
    "PreVote",
    "PreVoteReply",
    "Raft",
    "Reach",
    "ReachReply",
    "Refusal",
    "Snapshot",
    "SnapshotReader",
    "Store",
    "TimeoutNow",
    "Vote",
    "VoteReply",
    "quorum",
]
