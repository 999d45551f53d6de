"""Which names come back as strangers (rule 29): the book of members and their stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exraft.actors import members
from exraft.names import Peer
from exraft.raft import Config
from exraft.storage import MemoryStore
from exraft.storage.memory import LentStore

A, B, C = Peer(":member1"), Peer(":member2"), Peer(":member3")
TWO = Config((A, B), cluster="here")
THREE = Config((A, B, C), cluster="here", stores=((A, "a"), (B, "b"), (C, "c")))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    members._forget_all()
    yield
    members._forget_all()


def note(peer: Peer, config: Config, store: str = "its store") -> LentStore:
    """It lives, with that store."""
    lent = MemoryStore(store).lend()
    members.note(peer, config, lent)
    return lent


def is_forgotten(peer: Peer, store: str, *kept: str) -> bool:
    """Whether it is, if these stores are kept."""
    return members.is_forgotten(peer, store, kept)


def test_nobody_is_forgotten_where_nobody_lives() -> None:
    assert not is_forgotten(A, "a new store")


def test_a_member_whose_store_was_dropped_is_forgotten_while_others_live() -> None:
    note(A, THREE)
    note(B, THREE)
    members.ended(A)
    assert is_forgotten(A, "a new store")
    assert not is_forgotten(B, "a new store")


def test_a_founder_that_starts_late_is_not_forgotten() -> None:
    """The others may have elected a leader before it starts for the first time."""
    note(A, TWO)
    assert not is_forgotten(B, "a new store")


def test_a_name_under_a_recorded_store_is_forgotten_even_if_it_never_lived_here() -> None:
    note(A, THREE)
    assert is_forgotten(C, "a new store")


def test_when_all_were_dropped_they_found_a_new_cluster() -> None:
    for peer in (A, B, C):
        note(peer, THREE)
    for peer in (A, B, C):
        members.ended(peer)
    assert not any(is_forgotten(peer, "a new store") for peer in (A, B, C))


def test_the_next_cluster_of_the_same_names_knows_nothing_of_the_first() -> None:
    for peer in (A, B):
        note(peer, TWO)
    for peer in (A, B):
        members.ended(peer)
    note(A, Config((A, B), cluster="there"))
    assert not is_forgotten(B, "a new store")


def test_a_server_that_never_had_a_ballot_is_dropped_without_a_trace() -> None:
    note(A, TWO)
    members.ended(B)
    assert not is_forgotten(B, "a new store")


def test_a_founder_that_may_have_voted_is_forgotten_although_no_cluster_has_an_id_yet() -> None:
    founders = Config((A, B, C))
    note(A, founders)
    note(B, founders)
    members.ended(B)
    assert is_forgotten(B, "a new store")
    note(A, Config((A, B, C), cluster="here"))
    assert is_forgotten(B, "a new store")


def test_when_all_founders_were_dropped_before_their_election_they_begin_anew() -> None:
    founders = Config((A, B))
    for peer in (A, B):
        note(peer, founders)
    for peer in (A, B):
        members.ended(peer)
    assert not is_forgotten(A, "a new store")
    note(A, founders)
    assert not is_forgotten(B, "a new store")


def test_a_removed_member_that_was_dropped_may_come_back_as_anybody() -> None:
    note(A, THREE)
    note(C, THREE)
    note(A, THREE.without(C))
    members.ended(C)
    assert not is_forgotten(C, "a new store")


def test_a_living_server_is_not_forgotten_by_its_own_configuration() -> None:
    note(A, THREE)
    assert not is_forgotten(A, "a new store")


def test_dropping_one_twice_is_no_error() -> None:
    note(A, TWO)
    note(B, TWO)
    members.ended(A)
    members.ended(A)
    assert is_forgotten(A, "a new store")


def test_who_comes_back_with_the_store_that_it_had_is_not_forgotten() -> None:
    for peer, store in ((A, "a"), (B, "b"), (C, "c")):
        note(peer, THREE, store)
    members.ended(B)
    assert not is_forgotten(B, "b")
    assert is_forgotten(B, "another")


def test_it_is_not_forgotten_either_when_the_others_have_not_recorded_its_store() -> None:
    note(A, TWO)
    note(B, TWO, "b")
    members.ended(B)
    assert not is_forgotten(B, "b")
    assert is_forgotten(B, "another")


def test_a_store_that_comes_back_does_not_make_an_older_one_return() -> None:
    note(A, TWO)
    for store in ("first", "second"):
        note(B, TWO, store)
        members.ended(B)
    assert is_forgotten(B, "second")


@pytest.mark.parametrize("config", [TWO, THREE])
def test_a_cluster_of_which_nobody_lives_exists_as_long_as_one_may_come_back(
    config: Config,
) -> None:
    """Else a stranger would found it anew with one that has forgotten nothing."""
    for peer, store in ((A, "a"), (B, "b")):
        note(peer, config, store)
    for peer in (A, B):
        members.ended(peer)
    assert not is_forgotten(A, "a", "a")
    assert is_forgotten(B, "another", "a")
    assert is_forgotten(B, "another", "a", "b")


def test_when_no_store_is_kept_they_found_a_new_cluster_though_they_were_remembered() -> None:
    for peer, store in ((A, "a"), (B, "b")):
        note(peer, THREE, store)
    for peer in (A, B):
        members.ended(peer)
    assert is_forgotten(B, "another", "a")
    assert not is_forgotten(B, "another")


def test_one_that_was_given_up_says_nothing_more() -> None:
    store = note(A, THREE)
    members.ended(A)
    store.fence()
    members.note(A, THREE, store)
    assert not is_forgotten(B, "another")


def test_who_comes_back_with_its_store_shows_that_the_others_had_theirs() -> None:
    two_recorded = Config((A, B, C), cluster="here", stores=((A, "a"), (B, "b")))
    for peer, store in ((A, "a"), (B, "b"), (C, "c")):
        note(peer, two_recorded, store)
    for peer in (A, B, C):
        members.ended(peer)
    assert not is_forgotten(A, "a")
    note(A, two_recorded, "a")
    assert is_forgotten(C, "another store")
    assert not is_forgotten(C, "c")
