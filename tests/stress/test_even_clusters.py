"""Half of a cluster is no majority: four servers cut into two and two, two into one and one.

ExRaft 0.2 took half of an even number for a majority, so that both halves led and committed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from time import monotonic

import pykka
import pytest

from exraft import ExRaft, ExRaftError, Role, maybe_applied
from tests.stress.faults import QUICK, Network
from tests.stress.ledger import ACCOUNTS, Ledger

LIMIT = 30.0
CANVASSES = 6
"""Pre-votes of each server after which it has surely tried to be elected."""


class Halves:
    """A cluster of servers, cut in half again and again."""

    def __init__(self, size: int, network: Network) -> None:
        self.names = [f":half{number}" for number in range(size)]
        self.network = network
        for name in self.names:
            ExRaft.start_server(Ledger, name=name, initial_config=self.names, **QUICK)
        self.leader()

    def leader(self) -> str:
        return ExRaft.await_leader(self.names[0], timeout=LIMIT).name

    def stop(self) -> None:
        for name in self.names:
            ExRaft.stop_server(name, timeout=LIMIT)

    def cut(self, rng: random.Random) -> None:
        rng.shuffle(self.names)
        half = len(self.names) // 2
        self.network.split(self.names[:half], self.names[half:])

    def await_leaderless(self) -> None:
        """Until each server has asked around many times, and none leads."""
        deadline = monotonic() + LIMIT
        while monotonic() < deadline:
            roles = [ExRaft.state(name, timeout=LIMIT) for name in self.names]
            asked = [self.network.canvassed[name] for name in self.names]
            if min(asked) >= CANVASSES and Role.LEADER not in roles:
                return
        raise AssertionError(f"after {LIMIT} s: {asked} pre-votes were asked for by {roles}")

    def counts(self) -> list[int]:
        """How many transfers each server has made."""
        return [ExRaft.read_dirty(name, "", timeout=LIMIT)[0] for name in self.names]


@pytest.fixture(params=[2, 4], ids=["two servers", "four servers"])
def halves(request: pytest.FixtureRequest) -> Iterator[Halves]:
    with Network() as network:
        cluster = Halves(request.param, network)
        try:
            yield cluster
        finally:
            network.heal()
            cluster.stop()


def test_no_half_of_a_cluster_leads_or_commits(halves: Halves) -> None:
    rng = random.Random(4)
    client = ExRaft.client(halves.names)
    for turn in range(2):
        before = client.write((f"{turn}", *ACCOUNTS[:2], 1), timeout=LIMIT)
        halves.cut(rng)
        writes: list[pykka.Future[int]] = [
            ExRaft.write_async(name, (f"{turn} {name}", *ACCOUNTS[:2], 1)) for name in halves.names
        ]
        halves.await_leaderless()
        assert max(halves.counts()) == before
        halves.network.heal()
        assert client.read("", timeout=LIMIT)[0] == before + _acknowledged(writes)
    assert halves.network.violations == []


def _acknowledged(writes: list[pykka.Future[int]]) -> int:
    """How many were made after all; the others were surely not."""
    count = 0
    for write in writes:
        try:
            write.get(timeout=LIMIT)
        except ExRaftError as error:
            assert not maybe_applied(error), error
        else:
            count += 1
    return count
