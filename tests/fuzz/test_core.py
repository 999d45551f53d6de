"""No message can crash a server or make it break what it has promised.

Knows how many examples are tried, and that sound ones are not all dropped. `FUZZ_EXAMPLES` says how
many; without it they are few and always the same. Must not know what is judged: `judge` does.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.judge import Judged
from tests.fuzz.play import play_alone, play_together

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
BY_SEED = EXAMPLES * 20 or 500
"""Examples that no one shrinks are made far faster."""

searching = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

chance = st.randoms(use_true_random=False)


@searching
@given(chance)
def test_a_server_keeps_its_promises_whatever_it_is_told(rng: random.Random) -> None:
    play_alone(rng, 50)


@searching
@given(chance)
def test_servers_keep_their_promises_though_messages_are_altered(rng: random.Random) -> None:
    play_together(rng, 80)


def alone(rng: random.Random) -> list[Judged]:
    return [play_alone(rng, 100)]


def together(rng: random.Random) -> list[Judged]:
    return list(play_together(rng, 250).servers.values())


@pytest.mark.timeout(0)
@pytest.mark.parametrize("play", [alone, together])
def test_promises_are_kept_over_many_seeds(play: Callable[[random.Random], list[Judged]]) -> None:
    """And everything that a server can do was done, or nothing would be shown."""
    first = random.randrange(2**32) if EXAMPLES else 0
    done: Counter[str] = Counter()
    for seed in range(first, first + BY_SEED):
        try:
            servers = play(random.Random(seed))
        except Exception as error:
            error.add_note(f"again: {__name__}.{play.__name__}(random.Random({seed}))")
            raise
        for server in servers:
            done.update(server.counts)
    for what in ("votes", "acknowledgements", "commits", "reads", "writes", "crashes", "leader"):
        assert done[what] > 80, done
    for what in ("cuts", "pieces", "installs"):
        assert done[what] > 2, done
