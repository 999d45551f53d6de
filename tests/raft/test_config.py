"""Configurations, and the one function that says what a quorum is."""

from __future__ import annotations

import pytest

from exraft.raft import CONFIG, Config, quorum
from exraft.raft.config import config_entry, decode_config, reached_by
from tests.raft.hand import A, B, C, D


@pytest.mark.parametrize(
    ("servers", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_quorum_is_more_than_half_of_the_voters(servers: int, needed: int) -> None:
    """Rule 1."""
    voters = tuple(A._replace(name=f":{n}") for n in range(servers))
    assert quorum(Config(voters), 1) == needed
    assert 2 * needed > servers


@pytest.mark.parametrize(("min_majority", "needed"), [(1, 2), (2, 2), (3, 3), (9, 9)])
def test_min_majority_raises_a_quorum_and_never_lowers_it(min_majority: int, needed: int) -> None:
    """Rule 1."""
    assert quorum(Config((A, B, C)), min_majority) == needed


def test_learners_are_not_counted_in_a_quorum() -> None:
    """Rule 16."""
    assert quorum(Config((A, B, C), learners=(D,)), 1) == 2


def test_what_a_quorum_reaches_is_what_the_slowest_of_the_fastest_has() -> None:
    assert reached_by(1, [3, 9, 5]) == 9
    assert reached_by(2, [3, 9, 5]) == 5
    assert reached_by(3, [3, 9, 5]) == 3


def test_too_few_reach_nothing() -> None:
    assert reached_by(4, [3, 9, 5]) is None
    assert reached_by(1, []) is None


def test_a_new_voter_is_named_with_its_store() -> None:
    config = Config((A, B), cluster="here", stores=((A, "a"),)).with_voter(C, "c")
    assert config == Config((A, B, C), cluster="here", stores=((A, "a"), (C, "c")))


def test_a_learner_that_becomes_voter_is_a_learner_no_more() -> None:
    assert Config((A,), learners=(B, C)).with_voter(B, "b").learners == (C,)


def test_a_voter_with_another_store_takes_the_place_of_the_one_before() -> None:
    """Rule 29."""
    config = Config((A, B), stores=((B, "old"),)).without(B).with_voter(B, "new")
    assert config.store_of(B) == "new"


def test_a_server_that_is_removed_leaves_nothing_behind() -> None:
    config = Config((A, B), learners=(C,), stores=((A, "a"), (B, "b"), (C, "c")))
    assert config.without(B) == Config((A,), learners=(C,), stores=((A, "a"), (C, "c")))
    assert config.without(C) == Config((A, B), stores=((A, "a"), (B, "b")))


def test_a_store_that_is_known_is_not_replaced_by_what_is_heard_later() -> None:
    """Rule 29."""
    config = Config((A, B), stores=((A, "first"),)).with_stores([(A, "later"), (B, "b")])
    assert config.stores == ((A, "first"), (B, "b"))


def test_stores_of_others_than_members_are_not_recorded() -> None:
    """Rule 29."""
    assert Config((A,)).with_stores([(B, "b"), (A, "")]).stores == ()


def test_a_store_that_nobody_knows_has_an_empty_id() -> None:
    assert Config((A,)).store_of(A) == ""


def test_members_are_voters_and_learners() -> None:
    assert Config((A, B), learners=(C,)).members() == (A, B, C)


def test_a_configuration_comes_back_from_its_entry_as_it_was() -> None:
    config = Config((A, B), learners=(C,), cluster="here", stores=((A, "a"),))
    entry = config_entry(7, config)
    assert (entry.term, entry.kind) == (7, CONFIG)
    assert decode_config(entry.data) == config
