from __future__ import annotations

import random
from dataclasses import fields
from typing import Any

import pytest

from exraft.testing import Faults
from exraft.testing.plan import Drawing, rates


def test_faults_that_are_not_named_do_not_happen() -> None:
    assert set(rates(Faults(), calls=10.0, reads=0.5).values()) == {0.0, 5.0}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"loss": 1.5}, "loss is a chance, at most 1, and not 1.5"),
        ({"doubling": 2}, "doubling is a chance"),
        ({"lag": 1.01}, "lag is a chance"),
        ({"damage": 1.01}, "damage is a chance"),
        ({"loss": -0.1}, "loss must not be -0.1"),
        ({"crashes": float("inf")}, "crashes must not be inf"),
        ({"crashes": float("nan")}, "crashes must not be nan"),
        ({"crashes": True}, "crashes must not be True"),
        ({"crashes": "often"}, "crashes must not be 'often'"),
        ({"crashes": None}, "crashes must not be None"),
        ({"delay": 0.1}, "delay must not be 0.1"),
        ({"delay": (0.1,)}, "delay is a pair"),
        ({"delay": ()}, "delay is a pair"),
        ({"delay": (0.1, 0.2, 0.3)}, "delay is a pair"),
        ({"delay": (0.2, 0.1)}, "delay goes from 0.2 to less: 0.1"),
        ({"delay": (-1, 1)}, "delay must not be"),
        ({"lagging": (2.0, 1.0)}, "lagging goes from 2.0 to less: 1.0"),
        ({"partitions": (0.1, 0.2)}, "partitions must not be"),
    ],
)
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Faults(**wrong)
    assert text in str(caught.value)


def test_everything_has_some_of_every_kind() -> None:
    everything = Faults.everything()
    for field in fields(Faults):
        if field.name != "lagging":
            assert getattr(everything, field.name) != getattr(Faults(), field.name), field.name


def test_what_is_drawn_has_each_kind_at_times_and_lacks_it_at_times() -> None:
    drawn = [Faults.drawn(random.Random(seed)) for seed in range(200)]
    for field in fields(Faults):
        assert len({getattr(each, field.name) for each in drawn}) > 1, field.name


def test_the_same_chance_draws_the_same_faults() -> None:
    assert Faults.drawn(random.Random(5)) == Faults.drawn(random.Random(5))


def test_happenings_come_as_often_as_their_rates_say() -> None:
    weights = rates(Faults(crashes=3.0, transfers=1.0), calls=5.0, reads=0.4)
    drawing = Drawing(0, weights)
    drawn = [drawing.next() for _ in range(9000)]
    seconds = drawn[-1].at
    assert 900 < seconds < 1100
    for kind, rate in weights.items():
        count = sum(each.kind == kind for each in drawn)
        assert 0.8 * rate * seconds <= count <= 1.2 * rate * seconds, kind


def test_happenings_come_in_the_order_of_time_each_with_choices_of_its_own() -> None:
    drawing = Drawing(0, rates(Faults.everything(), calls=20.0, reads=0.4))
    drawn = [drawing.next() for _ in range(1000)]
    assert [each.at for each in drawn] == sorted(each.at for each in drawn)
    assert len({each.draw for each in drawn}) == 1000


def test_the_same_seed_has_the_same_in_store_and_another_something_else() -> None:
    def drawn(seed: int) -> list[Any]:
        drawing = Drawing(seed, rates(Faults.everything(), calls=20.0, reads=0.4))
        return [drawing.next() for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
