"""What the core's refusals are called as exceptions.

Knows the words of both. Must not know when anything is refused.
"""

from __future__ import annotations

from exraft.errors import (
    BelowMinMajority,
    CatchUpFailed,
    ExRaftError,
    ForeignServer,
    LastServer,
    NoCommit,
    NoLeader,
    Overloaded,
    Redirect,
    TransferFailed,
    Transferring,
    UnstableConfig,
)
from exraft.raft import Refusal

_BY_CODE: dict[str, type[ExRaftError]] = {
    kind.word: kind
    for kind in (
        BelowMinMajority,
        CatchUpFailed,
        ForeignServer,
        LastServer,
        NoCommit,
        NoLeader,
        Overloaded,
        TransferFailed,
        UnstableConfig,
    )
}


def error_of(refusal: Refusal) -> ExRaftError:
    """The exception that says to a caller what the core said."""
    code, peer, text = refusal
    if peer is not None and code == Redirect.word:
        return Redirect(peer)
    if peer is not None and code == Transferring.word:
        return Transferring(peer)
    return _BY_CODE[code](text or None)
