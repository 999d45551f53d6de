"""What a cluster does while some of its members can't reach others, and after that.

Knows the ways to part three members, and how soon which of them must answer, or must not. Must not
know how a network is made that can be cut.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Final, TypeAlias

from tests.distributed.cluster import (
    LIMIT,
    OPTIONS,
    CampaignFailed,
    Cluster,
    Failed,
    Member,
    cluster,
)
from tests.distributed.networks import Namespaces, Network, Proxy, both_ways, network
from tests.stress.ledger import ACCOUNTS

ELECTION: Final[float] = OPTIONS["max_election_timeout"]
MOST_TERMS: Final = 5
"""Terms that a partition and its end may cost: a split vote is no fault, and each costs one."""


@dataclass
class Measured:
    """Of a case, over its rounds; in seconds, but for `terms`.

    Attributes:
        onward: from the cut to the next write that the majority acknowledged.
        silenced: from the cut to when the old leader did not call itself one any more.
        healed: from the end of the cut until all were alike.
        gaps: the longest time between two acknowledged writes during the cut.
        terms: by which the cluster's term grew.
    """

    onward: list[float] = field(default_factory=list)
    silenced: list[float] = field(default_factory=list)
    healed: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        words = {
            "majority's next write": self.onward,
            "old leader silent": self.silenced,
            "longest gap": self.gaps,
            "alike again": self.healed,
        }
        parts = [
            f"{what} after {median(seconds):.2f} s (at most {max(seconds):.2f})"
            for what, seconds in words.items()
            if seconds
        ]
        return f"{'; '.join(parts)}; terms +{max(self.terms)} at most"


class Partitions:
    """A cluster in a network that is cut again and again."""

    def __init__(self, made: Cluster, net: Network) -> None:
        self._made = made
        self._net = net
        self._numbers = count(1)

    def symmetric(self, seen: Measured) -> None:
        """The leader is cut off from both others, in both directions."""
        leader, others = self._parts()
        self._part(seen, leader, others, both_ways([leader.number], _numbers(others)))

    def mute(self, seen: Measured) -> None:
        """Nothing gets from the leader to the others; it hears them."""
        leader, others = self._parts()
        self._part(seen, leader, others, [(leader.number, each.number) for each in others])

    def deaf(self, seen: Measured) -> None:
        """Nothing gets from the others to the leader; they hear it."""
        leader, others = self._parts()
        self._part(seen, leader, others, [(each.number, leader.number) for each in others])

    def partial(self, seen: Measured) -> None:
        """The leader and a follower don't reach each other; the third one reaches both."""
        leader, (other, third) = self._parts()
        self._goes_on(seen, leader, [leader, third], both_ways([leader.number], [other.number]))

    def beside(self, seen: Measured) -> None:
        """Both followers don't reach each other; the leader reaches both."""
        leader, others = self._parts()
        one, other = _numbers(others)
        self._goes_on(seen, leader, self._made.members, both_ways([one], [other]))

    def unheard(self, seen: Measured) -> None:
        """Nothing gets from the leader to one follower, who would like an election."""
        leader, (other, third) = self._parts()
        self._goes_on(seen, leader, [leader, third], [(leader.number, other.number)])

    def _parts(self) -> tuple[Member, list[Member]]:
        leader = self._made.leader()
        return leader, [each for each in self._made.members if each is not leader]

    def _part(
        self, seen: Measured, leader: Member, others: list[Member], ways: list[tuple[int, int]]
    ) -> None:
        """Cut the leader off: the others go on without it, and it answers nobody."""
        with self._cut(seen, ways) as began:
            # Begun when nobody can confirm it any more.
            refused = [
                leader.ask("read", query="", timeout=2 * ELECTION),
                leader.ask("write", command=self._transfer("cut off"), timeout=2 * ELECTION),
            ]
            self._write(others)
            seen.onward.append(monotonic() - began)
            wait_for_end = threading.Event()
            while leader.get("status")["role"] == "leader":
                if monotonic() - began > LIMIT:
                    raise CampaignFailed(f"{leader} is cut off and goes on leading")
                wait_for_end.wait(0.01)
            seen.silenced.append(monotonic() - began)
            refused.append(leader.ask("read", query="", timeout=2 * ELECTION))
            for each in refused:
                try:
                    answer = each.result(LIMIT + 30)
                except Failed:
                    continue
                raise CampaignFailed(f"{leader} is cut off and has answered {answer!r}")

    def _goes_on(
        self, seen: Measured, leader: Member, heard: list[Member], ways: list[tuple[int, int]]
    ) -> None:
        """A cut after which a majority has the leader still: it stays, and leads."""
        with self._cut(seen, ways) as began:
            longest, last = 0.0, began
            # So long that who hears nothing would have stood for election many times.
            while last - began < 4 * ELECTION:
                self._write(heard)
                now = monotonic()
                longest, last = max(longest, now - last), now
            seen.gaps.append(longest)

    @contextmanager
    def _cut(self, seen: Measured, ways: list[tuple[int, int]]) -> Iterator[float]:
        """From a healthy cluster back to one; tells when the cut was there."""
        self._write(self._made.members)
        term = self._made.settle()
        for way in ways:
            self._net.cut(*way)
        try:
            yield monotonic()
        finally:
            self._net.heal()
        began = monotonic()
        self._write(self._made.members)
        after = self._made.settle()
        seen.healed.append(monotonic() - began)
        seen.terms.append(after - term)
        if after - term > MOST_TERMS:
            raise CampaignFailed(f"terms have grown from {term} to {after}")

    def _write(self, by_way_of: list[Member]) -> None:
        """Until one of them has acknowledged it, each asked for itself: a redirect may lead to who
        is cut off, and does not answer."""
        pause = threading.Event()
        began = monotonic()
        while monotonic() - began < LIMIT:
            for member in by_way_of:
                try:
                    member.get("write", command=self._transfer("through"), timeout=LIMIT)
                except Failed:
                    # It does not lead, or not any more.
                    continue
                return
            pause.wait(0.005)
        raise CampaignFailed(f"none of {', '.join(map(str, by_way_of))} takes a write")

    def _transfer(self, what: str) -> tuple[str, str, str, int]:
        return f"{what} {next(self._numbers)}", ACCOUNTS[0], ACCOUNTS[1], 0

    def audit(self) -> None:
        """Each write that got through was made once, and all members are alike."""
        self._made.settle()


def _numbers(members: list[Member]) -> list[int]:
    return [each.number for each in members]


Case: TypeAlias = Callable[[Partitions, Measured], None]

CASES: Final[Mapping[str, Case]] = {
    "symmetric": Partitions.symmetric,
    "one way: the leader is mute": Partitions.mute,
    "one way: the leader is deaf": Partitions.deaf,
    "one way: a follower hears no leader": Partitions.unheard,
    "partial: leader and follower": Partitions.partial,
    "partial: both followers": Partitions.beside,
}


def run(
    directory: Path,
    kind: type[Proxy] | type[Namespaces],
    cases: Mapping[str, Case] = CASES,
    rounds: int = 1,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Measured]:
    """Go through the cases so many times, with one cluster.

    Raises:
        CampaignFailed: a majority does not go on, a minority does, or it does not heal.
        Unavailable: there is no such network here.
    """
    measured = {name: Measured() for name in cases}
    with network(kind) as net, cluster(directory, net.places) as made:
        partitions = Partitions(made, net)
        for number in range(rounds):
            for name, case in cases.items():
                try:
                    case(partitions, measured[name])
                except CampaignFailed as error:
                    raise CampaignFailed(f"{net.name}, {name}, round {number}: {error}") from error
                progress(f"{net.name}, {name}: {measured[name]}")
        partitions.audit()
    return measured
