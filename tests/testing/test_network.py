from __future__ import annotations

from collections import Counter

from exraft.names import Peer
from exraft.testing import Faults
from exraft.testing.network import Network

A, B, C = (Peer(f":{name}") for name in "abc")
OFTEN = 1000


def arrivals(
    faults: Faults,
    *,
    seed: int = 0,
    way: tuple[Peer, Peer] = (A, B),
    network: Network | None = None,
) -> list[list[float]]:
    """When the copies of each of many messages arrive, which leave a second apart."""
    network = network or Network(seed, faults, Counter())
    result: list[list[float]] = []
    for second in range(OFTEN):
        copies: list[float] = []
        network.carry(*way, float(second), copies.append)
        result.append([at - second for at in copies])
    return result


def test_a_good_network_carries_each_message_once_and_within_its_delay() -> None:
    carried = arrivals(Faults(delay=(0.2, 0.5)))
    assert all(len(copies) == 1 and 0.2 <= copies[0] <= 0.5 for copies in carried)
    assert len({copies[0] for copies in carried}) > OFTEN // 2


def test_messages_are_lost_as_often_as_it_is_said_and_counted() -> None:
    counts: Counter[str] = Counter()
    carried = arrivals(Faults(loss=0.3), network=Network(0, Faults(loss=0.3), counts))
    lost = sum(not copies for copies in carried)
    assert 0.25 * OFTEN < lost < 0.35 * OFTEN
    assert counts["messages lost"] == lost


def test_messages_are_doubled_as_often_as_it_is_said_and_counted() -> None:
    faults = Faults(doubling=0.3)
    counts: Counter[str] = Counter()
    carried = arrivals(faults, network=Network(0, faults, counts))
    doubled = sum(len(copies) == 2 for copies in carried)
    assert 0.25 * OFTEN < doubled < 0.35 * OFTEN
    assert counts["messages doubled"] == doubled
    assert all(len(set(copies)) == len(copies) for copies in carried)


def test_messages_that_lag_take_their_own_time_and_are_counted() -> None:
    faults = Faults(lag=0.3, lagging=(5.0, 6.0))
    counts: Counter[str] = Counter()
    carried = arrivals(faults, network=Network(0, faults, counts))
    late = sum(5.0 <= copies[0] <= 6.0 for copies in carried)
    assert 0.25 * OFTEN < late < 0.35 * OFTEN
    assert counts["messages delayed"] == late


def test_messages_that_overtake_others_are_counted() -> None:
    counts: Counter[str] = Counter()
    network = Network(0, Faults(delay=(0.0, 10.0)), counts)
    came: list[tuple[float, int]] = []
    for number in range(100):
        arrived: list[float] = []
        network.carry(A, B, number / 10, arrived.append)
        came += [(at, number) for at in arrived]
    in_order = [number for _, number in sorted(came)]
    assert in_order != sorted(in_order)
    latest = 0.0
    overtaken = 0
    for at, _ in came:
        overtaken += at < latest
        latest = max(latest, at)
    assert counts["messages reordered"] == overtaken > 0


def test_the_same_seed_gives_the_same_fate_to_each_message_and_another_another() -> None:
    bad = Faults(loss=0.2, doubling=0.2, lag=0.2)
    assert arrivals(bad, seed=1) == arrivals(bad, seed=1)
    assert arrivals(bad, seed=1) != arrivals(bad, seed=2)


def test_what_happens_on_one_way_does_not_depend_on_the_others() -> None:
    bad = Faults(loss=0.2, doubling=0.2, lag=0.2)
    network = Network(0, bad, Counter())
    for way in ((B, A), (A, C), (C, B)):
        arrivals(bad, way=way, network=network)
    assert arrivals(bad, network=network) == arrivals(bad)


def test_each_way_has_a_fate_of_its_own() -> None:
    bad = Faults(loss=0.2)
    assert len({str(arrivals(bad, way=way)) for way in ((A, B), (B, A), (A, C))}) == 3


def test_a_way_is_open_when_each_of_its_cuts_is_mended() -> None:
    network = Network(0, Faults(), Counter())
    network.cut((A, B), (B, A))
    network.cut((A, B))
    network.mend((A, B), (B, A))
    assert (A, B) in network.cuts
    assert (B, A) not in network.cuts
    network.mend((A, B))
    assert network.cuts == {}


def test_to_mend_what_is_whole_changes_nothing() -> None:
    network = Network(0, Faults(), Counter())
    network.mend((A, B))
    network.cut((A, B))
    assert (A, B) in network.cuts


def test_to_heal_undoes_every_cut() -> None:
    network = Network(0, Faults(), Counter())
    network.cut((A, B))
    network.cut((A, B), (B, C))
    network.heal()
    assert network.cuts == {}
