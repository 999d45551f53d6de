"""What no correct server says, whatever has happened to it.

Knows how to tell by a message alone that a bug or a damaged memory made it up (rule 30): such a
one is dropped and reported, and changes nothing. Must not know what a message that makes sense
does.

A server is not asked to withstand liars, who need only say what would make sense. But a log that
one broken peer has spoilt for good breaks every life of the server that reads it.
"""

from __future__ import annotations

import msgspec

from exraft.names import Peer
from exraft.raft.config import Config, decode_config
from exraft.raft.log import COMMAND, CONFIG, Entry
from exraft.raft.messages import Append, Install, Message

MAX_LEAP = 2**32
"""No cluster makes so many terms while a server is away: with one a second, it takes a century."""
MAX_TERM = MAX_INDEX = 2**62
"""No cluster lives to see it; what comes after it still fits what the wire carries."""

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding the bytes of others may raise: for text that is no UTF-8, and for nesting without
end, msgspec has no error of its own."""


class Nonsense(ValueError):
    """No correct server sends this; the text says why."""


def check_header(message: Message, me: Peer, term: int) -> None:
    """Look at what all messages have, as server `me` in `term`.

    Raises:
        Nonsense: it claims to be from `me`, or its term is none, or too far ahead to be true. A
            term that was taken over must leave room for those to come, or nobody can be elected in
            the next one.
    """
    if message.sender == me:
        raise Nonsense("a message in this server's own name. Is another one started under it?")
    # Who joins a cluster is in term 0, and can't tell how far the others are.
    latest = min(term + MAX_LEAP, MAX_TERM) if term else MAX_TERM // 2
    if not 0 <= message.term <= latest:
        raise Nonsense(f"the term {message.term} in term {term}")


def read_configs(message: Append) -> list[tuple[int, Config]]:
    """The configurations among the entries of an append, with their indexes.

    Raises:
        Nonsense: the entries, after the one before them, are no piece of a log of a leader of that
            term.
    """
    term = message.term
    prev = message.prev_index
    if term == 0 or prev < 0:
        raise Nonsense(f"an append of term {term} after the index {prev}")
    configs = []
    before = message.prev_term or 1
    for index, entry in enumerate(message.entries, prev + 1):
        if entry.term != before:
            if not before < entry.term <= term:
                raise Nonsense(f"an entry of term {entry.term} after one of {before} in {term}")
            before = entry.term
        if entry.kind != COMMAND:
            configs.append((index, _read_config(entry, message.cluster)))
    return configs


def check_install(message: Install) -> None:
    """Look at a piece of a snapshot.

    Raises:
        Nonsense: it is none, or not of a leader of that term.
    """
    snapshot = message.snapshot
    if not 0 < snapshot.config_index <= snapshot.index < MAX_INDEX or not (
        0 < snapshot.config_term <= snapshot.term <= message.term
    ):
        raise Nonsense(
            f"a snapshot of {snapshot.index} in term {snapshot.term}, with a configuration of"
            f" {snapshot.config_index} in {snapshot.config_term}, in term {message.term}"
        )
    end = message.offset + len(message.data)
    if not 0 <= message.offset <= end <= snapshot.size < MAX_INDEX:
        raise Nonsense(f"{len(message.data)} bytes at {message.offset} of {snapshot.size}")
    # Who was never in a cluster learns from it which one it is in.
    if not message.cluster:
        raise Nonsense("a snapshot of a cluster without a name")
    _check_config(snapshot.config, message.cluster)


def _read_config(entry: Entry, cluster: str) -> Config:
    if entry.kind != CONFIG:
        raise Nonsense(f"an entry of the unknown kind {entry.kind}")
    try:
        config = decode_config(entry.data)
    except UNDECODABLE as error:
        raise Nonsense(f"a configuration that can't be decoded: {error}") from error
    _check_config(config, cluster)
    return config


def _check_config(config: Config, cluster: str) -> None:
    members = config.members()
    if not config.voters or len(set(members)) < len(members):
        raise Nonsense(f"a configuration of the voters {config.voters}, {config.learners} learning")
    if cluster and config.cluster != cluster:
        raise Nonsense(f"a configuration of the cluster {config.cluster!r} in one of {cluster!r}")
