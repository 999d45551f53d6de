"""A store in memory, lent to one life of a server at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from exraft.names import Peer
from exraft.raft import COMMAND, CONFIG, Config, Entry, Mark, Snapshot
from exraft.storage import Fenced, LentStore, MemoryStore

A = Peer(":a")


def entries(*terms: int) -> list[Entry]:
    return [Entry(term, COMMAND, b"%d" % n) for n, term in enumerate(terms)]


def store_with(*terms: int) -> LentStore:
    store = MemoryStore().lend()
    store.append(entries(*terms))
    return store


def test_a_new_store_is_empty() -> None:
    store = MemoryStore().lend()
    assert (store.term, store.voted_for, store.leads) == (0, None, False)
    assert (store.commit_index, store.last_index, store.size) == (0, 0, 0)
    assert store.term_at(0) == 0
    assert store.slice(1, 10) == []


def test_every_store_has_an_id_of_its_own() -> None:
    """Rule 29."""
    ids = {MemoryStore().store_id for _ in range(100)}
    assert len(ids) == 100


def test_each_life_has_the_same_store_id_and_the_next_incarnation() -> None:
    """Rules 27 and 29."""
    owner = MemoryStore()
    lives = [owner.lend() for _ in range(3)]
    assert [life.incarnation for life in lives] == [1, 2, 3]
    assert {life.store_id for life in lives} == {owner.store_id}


def test_the_next_life_finds_everything_that_the_one_before_wrote() -> None:
    """Rules 3, 26 and 27."""
    owner = MemoryStore()
    life = owner.lend()
    life.set_ballot(7, A, leads=True)
    life.append(entries(1, 1, 7))
    life.set_commit(2)
    after = owner.lend()
    assert (after.term, after.voted_for, after.leads) == (7, A, True)
    assert (after.commit_index, after.last_index, after.size) == (2, 3, life.size)
    assert after.slice(1, 10) == entries(1, 1, 7)
    assert after.last_at_most(3, 6) == 2


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set_ballot(9, None, leads=False),
        lambda store: store.set_commit(1),
        lambda store: store.append(entries(9)),
        lambda store: store.truncate(1),
        lambda store: store.sync(),
    ],
    ids=["set_ballot", "set_commit", "append", "truncate", "sync"],
)
def test_a_life_that_was_given_up_writes_and_promises_nothing(
    write: Callable[[LentStore], None],
) -> None:
    """Rule 27."""
    owner = MemoryStore()
    old = owner.lend()
    old.append(entries(1))
    new = owner.lend()
    with pytest.raises(Fenced):
        write(old)
    assert (new.term, new.commit_index, new.last_index) == (0, 0, 1)


def test_a_store_that_was_taken_back_is_nobodys_until_it_is_lent_again() -> None:
    owner = MemoryStore()
    old = owner.lend()
    old.append(entries(1))
    old.fence()
    with pytest.raises(Fenced):
        old.append(entries(2))
    assert owner.lend().last_index == 1


def test_nobody_holds_a_store_that_was_never_lent() -> None:
    owner = MemoryStore()
    assert owner.peek() is None
    assert owner.lend().last_index == 0


def test_a_store_can_be_looked_at_without_being_lent() -> None:
    owner = MemoryStore()
    life = owner.lend()
    life.append(entries(1))
    seen = owner.peek()
    assert seen is not None
    assert seen.last_index == 1
    life.append(entries(1))


def test_what_a_dead_life_holds_is_not_what_the_next_one_writes() -> None:
    owner = MemoryStore()
    old = owner.lend()
    old.append(entries(1))
    owner.lend().append(entries(2, 2))
    assert old.slice(1, 10) == entries(1)


def test_writes_make_a_store_dirty_until_it_is_synced() -> None:
    """Rule 2."""
    store = MemoryStore().lend()
    assert not store.dirty
    store.set_ballot(1, A, leads=False)
    assert store.dirty
    store.sync()
    assert not store.dirty
    store.append(entries(1))
    assert store.dirty
    store.sync()
    store.truncate(1)
    assert store.dirty


def test_entries_are_found_by_their_index() -> None:
    store = store_with(1, 1, 2)
    assert [store.term_at(index) for index in range(4)] == [0, 1, 1, 2]
    assert store.slice(2, 1) == entries(1, 1, 2)[1:2]
    assert store.slice(2, 99) == entries(1, 1, 2)[1:]
    assert store.slice(4, 99) == []


def test_truncation_deletes_from_an_index_on() -> None:
    store = store_with(1, 2, 2, 3)
    store.truncate(3)
    assert store.last_index == 2
    assert store.slice(1, 9) == entries(1, 2)
    assert store.size == 2
    assert store.last_at_most(2, 9) == 2
    store.append(entries(4))
    assert store.term_at(3) == 4


def test_size_counts_the_bytes_of_all_data() -> None:
    store = MemoryStore().lend()
    store.append([Entry(1, COMMAND, b"123"), Entry(1, CONFIG, b"12345")])
    assert store.size == 8
    store.truncate(2)
    assert store.size == 3


def test_configurations_are_found_with_their_indexes() -> None:
    store = MemoryStore().lend()
    log = [Entry(1, CONFIG, b"a"), Entry(1, COMMAND, b"x"), Entry(2, CONFIG, b"b")]
    store.append(log)
    assert list(store.configs()) == [(1, log[0]), (3, log[2])]


def test_a_mark_says_how_far_was_written() -> None:
    """Rule 10."""
    store = store_with(1, 2)
    store.set_ballot(3, A, leads=False)
    assert store.mark() == Mark(3, 2, 2)


def last_at_most(terms: list[int], index: int, term: int) -> int:
    """What the store's answer must be, found the long way."""
    return max((i for i, t in enumerate(terms, 1) if i <= index and t <= term), default=0)


def test_the_last_entry_of_at_most_a_term_is_found() -> None:
    """Rule 11."""
    rng = random.Random(0)
    for _ in range(200):
        terms = sorted(rng.randint(1, 6) for _ in range(rng.randint(0, 12)))
        store = store_with(*terms)
        if terms and rng.random() < 0.5:
            first = rng.randint(1, len(terms))
            store.truncate(first)
            del terms[first - 1 :]
        for index in range(len(terms) + 1):
            for term in range(8):
                assert store.last_at_most(index, term) == last_at_most(terms, index, term)


def test_after_a_truncation_terms_begin_where_they_begin_now() -> None:
    """Rule 11."""
    store = store_with(1, 1, 3)
    store.truncate(2)
    store.append(entries(3))
    assert store.last_at_most(2, 1) == 1


def test_a_cut_is_not_seen_half_done_by_the_next_life() -> None:
    owner = MemoryStore()
    store = owner.lend()
    store.append([Entry(1, COMMAND, b"x")] * 9)
    sink = store.begin_snapshot(Snapshot(9, 1, Config((A,)), 1, 1))
    sink.finish()
    store.adopt(sink)
    seen = []

    class Watching(list[Entry]):
        def __delitem__(self, place: Any) -> None:
            seen.append(owner._lock.locked())
            super().__delitem__(place)

    store._entries = Watching(store._entries)
    store.cut(5)
    assert seen == [True]
