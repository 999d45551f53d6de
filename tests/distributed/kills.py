"""Members killed without a word, in the middle of a ledger's traffic, and started again.

Knows who dies and when, by seed, and what must be so in the end. Must not know what the ledger's
users do: whatever it is, their books and the replicas must agree.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, cast

from exraft import ExRaft
from tests.distributed.cluster import (
    LIMIT,
    CampaignFailed,
    Cluster,
    Member,
    caller,
    cluster,
    loopback,
)
from tests.stress.campaign import Users
from tests.stress.ledger import ACCOUNTS, EVERYTHING, Accounts, Books

KINDS = {"one": 12, "the leader": 6, "two": 5, "a starting one": 5, "all": 1}
"""What is killed, and how often in comparison."""
STRIKES = Counter({"one": 1, "two": 2, "all": 3})


@dataclass
class Killed:
    """What was done, and what came of it."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    acknowledged: int = 0
    definite: int = 0
    refused: int = 0
    unknown: int = 0
    unknown_made: int = 0
    reads: int = 0
    longest_gap: float = 0.0
    why: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        kills = ", ".join(f"{n} of {kind}" for kind, n in sorted(self.kills.items()))
        return (
            f"seed {self.seed}: {self.lives} lives of three processes (kills: {kills});"
            f" {self.acknowledged:,} writes acknowledged, {self.refused:,} refused by the machine,"
            f" {self.definite:,} failed for certain, {self.unknown:,} of unknown outcome,"
            f" {self.unknown_made:,} of them made; {self.reads:,} linearizable reads;"
            f" at most {self.longest_gap:.2f} s without a write; failed: {self.why}"
        )


def run(
    directory: Path, seed: int, seconds: float, progress: Callable[[str], object] = lambda _: None
) -> Killed:
    """Kill for so many seconds, let everybody come back, and compare.

    Raises:
        CampaignFailed: replicas differ from what callers were told, or from each other.
    """
    rng = random.Random(f"{seed} kills")
    told = Killed(seed)
    books = Books()
    calm = threading.Event()
    options = {"snapshot_every": 2000, "keep_entries": 500, "max_restarts": 0}
    with cluster(directory, loopback(), **options) as made, caller(made.cookie):
        # Theirs are names, ours are peers: they ask whoever it is.
        users = Users(seed, books, calm, cast("list[str]", made.peers))
        made.leader()
        users.start()
        try:
            _kill(made, rng, seconds, books, told, progress)
        finally:
            calm.set()
        wrong = users.join()
        wrong += _compare(made, books, told)
        told.lives = sum(member.lives for member in made.members)
    told.why = dict(books.why)
    if wrong:
        listed = "\n".join(wrong[:20])
        raise CampaignFailed(
            f"{told}\n{listed}\nreplay: python -m tests.distributed kills"
            f" --seconds {seconds:g} --seed {seed}"
        )
    return told


def _kill(
    made: Cluster,
    rng: random.Random,
    seconds: float,
    books: Books,
    told: Killed,
    progress: Callable[[str], object],
) -> None:
    pause = threading.Event()
    began = monotonic()
    while monotonic() - began < seconds:
        pause.wait(rng.uniform(0.1, 1.5))
        kind = rng.choices([*KINDS], [*KINDS.values()])[0]
        victims = _victims(kind, made, rng)
        for victim in victims:
            victim.kill()
            told.kills[kind] += 1
        pause.wait(rng.choice((0.0, rng.uniform(0.0, 1.0))))
        begun = [made.begin(each) for each in victims]
        if kind == "a starting one":
            # Anywhere between the first line of its program and its first election.
            pause.wait(rng.uniform(0.0, 1.0))
            for victim in victims:
                victim.kill()
                told.kills[kind] += 1
            begun = [made.begin(each) for each in victims]
        _await(begun)
        if kind in ("all", "two"):
            _await_writes(books, told)
        progress(
            f"{monotonic() - began:5.1f} s, {told.kills.total()} kills,"
            f" {len(books.acknowledged):,} acknowledged"
        )
    _await_writes(books, told)


def _victims(kind: str, made: Cluster, rng: random.Random) -> list[Member]:
    if kind == "the leader":
        for view in rng.sample(made.views(), k=len(made.members)):
            leaders = [each for each in made.members if [*each.peer] == view["leader"]]
            if leaders:
                return leaders
    return rng.sample(made.members, k=max(1, STRIKES[kind]))


def _await(begun: list[Future[Any]]) -> None:
    for ready in begun:
        ready.result(LIMIT)


def _await_writes(books: Books, told: Killed) -> None:
    """One that was begun before and one after."""
    began, target = monotonic(), len(books.acknowledged) + 100
    pause = threading.Event()
    while len(books.acknowledged) < target:
        if monotonic() - began > LIMIT:
            raise CampaignFailed(f"{told}\nno writes any more, though all members run")
        pause.wait(0.02)
    told.longest_gap = max(told.longest_gap, monotonic() - began)


def _compare(made: Cluster, books: Books, told: Killed) -> list[str]:
    floor = books.floor
    last = ("the last transfer", ACCOUNTS[0], ACCOUNTS[1], 0)
    number = ExRaft.client(made.peers).write(last, timeout=LIMIT)
    books.acknowledge(last[0], number, floor)
    made.settle()
    replicas: dict[str, Accounts] = {
        str(peer): ExRaft.read_dirty(peer, EVERYTHING, LIMIT) for peer in made.peers
    }
    told.acknowledged = len(books.acknowledged)
    told.definite, told.refused = len(books.definite), len(books.refused)
    told.unknown, told.reads = len(books.unknown), books.reads
    wrong = books.audit(replicas)
    for name, state in replicas.items():
        told.unknown_made = len(books.unknown & state.made.keys())
        strange = state.made.keys() - books.acknowledged.keys() - books.unknown
        wrong += [f"{name}: {each} was made, and nobody was told so" for each in strange]
    return wrong
