"""The consensus core: what must happen next, given what arrived.

It knows terms, votes, logs and quorums. It must not know threads, clocks, sockets, Pykka, or the
user's commands: time, chance and the store are handed in, and everything it wants done is handed
out, so that an actor, a simulator and a test run the very same code.
"""

from exraft.raft.config import Config, quorum
from exraft.raft.core import Options, Raft
from exraft.raft.log import COMMAND, CONFIG, Entry, Mark, Store
from exraft.raft.messages import (
    Append,
    AppendReply,
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

__all__ = [
    "COMMAND",
    "CONFIG",
    "Answer",
    "Append",
    "AppendReply",
    "Config",
    "Confirmed",
    "Done",
    "Entry",
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
    "Store",
    "TimeoutNow",
    "Vote",
    "VoteReply",
    "quorum",
]
