"""A slice of what `python -m tests.distributed` does for as long as is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed import kills, partitions
from tests.distributed.networks import Namespaces, Proxy, why_no_namespaces

SOME = {
    name: partitions.CASES[name]
    for name in ("symmetric", "one way: the leader is mute", "partial: leader and follower")
}


def test_what_killed_processes_have_acknowledged_is_there_once(tmp_path: Path) -> None:
    told = kills.run(tmp_path, seed=7, seconds=8.0)
    assert sum(told.kills.values()) > 0
    assert told.acknowledged > 100


def test_a_majority_goes_on_when_a_proxy_cuts_the_leader_off(tmp_path: Path) -> None:
    measured = partitions.run(tmp_path, Proxy, SOME)
    assert measured.keys() == SOME.keys()


def test_a_majority_goes_on_when_the_network_cuts_the_leader_off(tmp_path: Path) -> None:
    why = why_no_namespaces()
    if why is not None:
        pytest.skip(why)
    measured = partitions.run(tmp_path, Namespaces, SOME)
    assert measured.keys() == SOME.keys()
