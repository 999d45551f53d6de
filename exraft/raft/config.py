"""Who belongs to a cluster, and how many of them decide.

Knows the configuration as it stands in the log, and the one function that says what a quorum is.
Must not know how a configuration changes: that is `membership`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from exraft.names import Peer
from exraft.raft.log import CONFIG, Entry

Number = TypeVar("Number", int, float)


class Config(msgspec.Struct, frozen=True):
    """The members of a cluster (Raft §6), as the log carries them.

    `voters` vote and count; `learners` get the log and do neither. `cluster` is the cluster's
    random id (rule 17). `stores` gives the id of each member's store as far as it is known (rule
    29): votes and acknowledgements that a member gives under another id come from a server that has
    forgotten what the member had promised.
    """

    voters: tuple[Peer, ...]
    learners: tuple[Peer, ...] = ()
    cluster: str = ""
    stores: tuple[tuple[Peer, str], ...] = ()

    def members(self) -> tuple[Peer, ...]:
        return self.voters + self.learners

    def store_of(self, peer: Peer) -> str:
        """The id of the member's store; empty as long as nobody has heard it."""
        for member, store in self.stores:
            if member == peer:
                return store
        return ""

    def with_voter(self, peer: Peer, store: str) -> Config:
        return msgspec.structs.replace(
            self,
            voters=(*self.voters, peer),
            learners=tuple(each for each in self.learners if each != peer),
            stores=(*(pair for pair in self.stores if pair[0] != peer), (peer, store)),
        )

    def without(self, peer: Peer) -> Config:
        return msgspec.structs.replace(
            self,
            voters=tuple(each for each in self.voters if each != peer),
            learners=tuple(each for each in self.learners if each != peer),
            stores=tuple(pair for pair in self.stores if pair[0] != peer),
        )

    def with_stores(self, known: Iterable[tuple[Peer, str]]) -> Config:
        """The same members, with those store ids filled in that were not known yet."""
        recorded = dict(self.stores)
        for peer, store in known:
            if store and peer in self.members() and not recorded.get(peer):
                recorded[peer] = store
        ordered = tuple((peer, recorded[peer]) for peer in self.members() if recorded.get(peer))
        return msgspec.structs.replace(self, stores=ordered)

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


def decode_config(data: bytes) -> Config:
    return msgspec.msgpack.decode(data, type=Config)


def config_entry(term: int, config: Config) -> Entry:
    return Entry(term, CONFIG, config.encode())


def quorum(config: Config, min_majority: int) -> int:
    """How many voters must agree: a strict majority, raised by `min_majority` (rule 1).

    The one function for pre-votes, votes, commits, check-quorum and reads. ExRaft 0.2 took
    `ceil(n / 2)`, which lets two halves of four servers each elect a leader.
    """
    return max(len(config.voters) // 2 + 1, min_majority)


def reached_by(needed: int, values: list[Number]) -> Number | None:
    """The greatest number that at least `needed` of `values` reach; None if there are too few."""
    if len(values) < needed:
        return None
    values.sort()
    return values[-needed]
