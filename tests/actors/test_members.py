"""Which names come back as strangers (rule 29): the book of members and their stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exraft.actors import members
from exraft.names import Peer
from exraft.raft import Config

A, B, C = Peer(":member1"), Peer(":member2"), Peer(":member3")
TWO = Config((A, B), cluster="here")
THREE = Config((A, B, C), cluster="here", stores=((A, "a"), (B, "b"), (C, "c")))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    members._forget_all()
    yield
    members._forget_all()


def test_nobody_is_forgotten_where_nobody_lives() -> None:
    assert not members.is_forgotten(A, "a new store")


def test_a_member_whose_store_was_dropped_is_forgotten_while_others_live() -> None:
    members.note(A, THREE)
    members.note(B, THREE)
    members.ended(A, "its store")
    assert members.is_forgotten(A, "a new store")
    assert not members.is_forgotten(B, "a new store")


def test_a_founder_that_starts_late_is_not_forgotten() -> None:
    """The others may have elected a leader before it starts for the first time."""
    members.note(A, TWO)
    assert not members.is_forgotten(B, "a new store")


def test_a_name_under_a_recorded_store_is_forgotten_even_if_it_never_lived_here() -> None:
    members.note(A, THREE)
    assert members.is_forgotten(C, "a new store")


def test_when_all_were_dropped_they_found_a_new_cluster() -> None:
    for peer in (A, B, C):
        members.note(peer, THREE)
    for peer in (A, B, C):
        members.ended(peer, "its store")
    assert not any(members.is_forgotten(peer, "a new store") for peer in (A, B, C))


def test_the_next_cluster_of_the_same_names_knows_nothing_of_the_first() -> None:
    for peer in (A, B):
        members.note(peer, TWO)
    for peer in (A, B):
        members.ended(peer, "its store")
    members.note(A, Config((A, B), cluster="there"))
    assert not members.is_forgotten(B, "a new store")


def test_a_server_that_never_had_a_ballot_is_dropped_without_a_trace() -> None:
    members.note(A, TWO)
    members.ended(B, "its store")
    assert not members.is_forgotten(B, "a new store")


def test_a_founder_that_may_have_voted_is_forgotten_although_no_cluster_has_an_id_yet() -> None:
    founders = Config((A, B, C))
    members.note(A, founders)
    members.note(B, founders)
    members.ended(B, "its store")
    assert members.is_forgotten(B, "a new store")
    members.note(A, Config((A, B, C), cluster="here"))
    assert members.is_forgotten(B, "a new store")


def test_when_all_founders_were_dropped_before_their_election_they_begin_anew() -> None:
    founders = Config((A, B))
    for peer in (A, B):
        members.note(peer, founders)
    for peer in (A, B):
        members.ended(peer, "its store")
    members.note(A, founders)
    assert not members.is_forgotten(B, "a new store")


def test_a_removed_member_that_was_dropped_may_come_back_as_anybody() -> None:
    members.note(A, THREE)
    members.note(C, THREE)
    members.note(A, THREE.without(C))
    members.ended(C, "its store")
    assert not members.is_forgotten(C, "a new store")


def test_a_living_server_is_not_forgotten_by_its_own_configuration() -> None:
    members.note(A, THREE)
    assert not members.is_forgotten(A, "a new store")


def test_dropping_one_twice_is_no_error() -> None:
    members.note(A, TWO)
    members.note(B, TWO)
    members.ended(A, "its store")
    members.ended(A, "its store")
    assert members.is_forgotten(A, "a new store")


def test_who_comes_back_with_the_store_that_it_had_is_not_forgotten() -> None:
    for peer in (A, B, C):
        members.note(peer, THREE)
    members.ended(B, "b")
    assert not members.is_forgotten(B, "b")
    assert members.is_forgotten(B, "another")


def test_it_is_not_forgotten_either_when_the_others_have_not_recorded_its_store() -> None:
    members.note(A, TWO)
    members.note(B, TWO)
    members.ended(B, "b")
    assert not members.is_forgotten(B, "b")
    assert members.is_forgotten(B, "another")


def test_a_store_that_comes_back_does_not_make_an_older_one_return() -> None:
    members.note(A, TWO)
    for store in ("first", "second"):
        members.note(B, TWO)
        members.ended(B, store)
    assert members.is_forgotten(B, "second")
