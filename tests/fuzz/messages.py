"""Every message that a core can be given, sensible or not, drawn to fit the state that it is in.

Knows the shape of the messages and which values are likely to hurt: just before, at and just past
what the core has, and far from it. Must not know what the core ought to make of them.

Whatever is drawn comes from a `random.Random`, so that a seed, a Hypothesis example
(`hypothesis.strategies.randoms`) and a coverage-guided fuzzer all draw the same things.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from exraft.names import Peer, Role
from exraft.raft import (
    COMMAND,
    CONFIG,
    Append,
    AppendReply,
    Config,
    Entry,
    Message,
    PreVote,
    PreVoteReply,
    Raft,
    Reach,
    ReachReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.leader import Leader
from tests.raft.hand import A, B, C, D, E, store_of

T = TypeVar("T")

MEMBERS = (A, B, C, D, E)
"""Those of whom some are members at first, and others may become members."""
KINDS: tuple[type[Message], ...] = (
    Append,
    AppendReply,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
    TimeoutNow,
    Reach,
    ReachReply,
)
HUGE = (2**31, 2**62, 2**63 - 1, 2**64 - 1)
"""The last is the greatest number that the wire carries."""


def message(rng: random.Random, raft: Raft) -> Message:
    """Any message, more often than not one that could make sense to `raft` now."""
    if rng.randrange(3):
        return sensible(rng, raft)
    return garbled(rng, raft, rng.choice(KINDS))


def garbled(rng: random.Random, raft: Raft, kind: type[Message]) -> Message:
    """A message of that kind whose fields know nothing of each other."""
    drawn: Any = kind
    made: Message = drawn(*[FIELDS[name](rng, raft) for name in kind.__struct_fields__])
    return made


def altered(rng: random.Random, raft: Raft, message: Message) -> Message:
    """The same message with another value in one field, to fit `raft`, who will get it."""
    name = rng.choice(message.__struct_fields__)
    changed: Message = msgspec.structs.replace(message, **{name: FIELDS[name](rng, raft)})
    return changed


def sensible(rng: random.Random, raft: Raft) -> Message:
    """What one of the others could well say now, as far as `raft` can tell."""
    term = raft.term
    if raft.state is Role.LEADER:
        kind: type[Message] = rng.choice((*[AppendReply] * 12, ReachReply, ReachReply, *KINDS))
    elif raft.state is Role.CANDIDATE:
        kind = rng.choice((VoteReply, VoteReply, *KINDS))
    else:
        kind = rng.choice((Append, Append, Append, PreVoteReply, PreVoteReply, *KINDS))
    others = [peer for peer in (*raft.config.voters, *MEMBERS) if peer != raft.me]
    peer = rng.choice(others)
    cluster = raft.config.cluster or "here"
    store = store_of(peer)
    last = raft.last_index
    if kind is Append:
        prev = max(0, last - rng.choice((0, 0, 0, 1, 2)))
        prev_term = raft.store.term_at(prev)
        term += rng.choice((0, 0, 1)) or not term
        entries = _entries(rng, raft, cluster, prev_term, term)
        return Append(cluster, peer, term, prev, prev_term, entries, _near(rng, last), 0)
    if kind is AppendReply:
        accepted = rng.random() < 0.8
        index = max(0, last - rng.choice((0, 0, 0, 1, 2)))
        leading = raft.role
        round = leading.reads.round if type(leading) is Leader else 0
        hint = max(0, index - 1)
        return AppendReply(
            cluster,
            peer,
            term,
            store,
            accepted,
            index,
            hint,
            raft.store.term_at(hint),
            raft.commit_index,
            round,
        )
    if kind is PreVote:
        return PreVote(cluster, peer, term + 1, store, last, raft.last_term)
    if kind is PreVoteReply:
        return PreVoteReply(cluster, peer, term, store, term + 1, True)
    if kind is Vote:
        return Vote(cluster, peer, term + 1, store, last, raft.last_term, rng.random() < 0.5)
    if kind is VoteReply:
        return VoteReply(cluster, peer, term, store, True)
    if kind is TimeoutNow:
        return TimeoutNow(cluster, raft.leader or peer, term)
    if kind is Reach:
        return Reach(cluster, peer, term)
    return ReachReply(cluster, peer, term, store, rng.choice(("", cluster)))


def _entries(
    rng: random.Random, raft: Raft, cluster: str, before: int, term: int
) -> tuple[Entry, ...]:
    """Entries as a log has them: terms never fall, and seldom a configuration among them."""
    entries = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        before = rng.choice((max(before, 1), term))
        if rng.randrange(6):
            entries.append(Entry(before, COMMAND, b"x"))
        else:
            entries.append(Entry(before, CONFIG, config(rng, raft, cluster).encode()))
    return tuple(entries)


def config(rng: random.Random, raft: Raft, cluster: str) -> Config:
    """A configuration such as a leader logs."""
    count = rng.choice((1, 2, 3, 3, 4))
    first = rng.randrange(len(MEMBERS))
    members = [MEMBERS[(first + n) % len(MEMBERS)] for n in range(count + rng.randrange(2))]
    made = Config(tuple(members[:count]), tuple(members[count:]), cluster)
    return made.with_stores([(peer, store_of(peer)) for peer in members if rng.randrange(3)])


# What a field may hold, by its name.


def peer(rng: random.Random, raft: Raft) -> Peer:
    return rng.choice(
        (
            *MEMBERS,
            *raft.config.members(),
            raft.leader or raft.me,
            raft.me,
            # There is no end of strangers.
            Peer(f":x{rng.randrange(1000)}"),
            Peer(":a", "elsewhere"),
            Peer("", ""),
        )
    )


def _cluster(rng: random.Random, raft: Raft) -> str:
    return rng.choice(("", raft.cluster, raft.config.cluster, "here", "elsewhere"))


def _store(rng: random.Random, raft: Raft) -> str:
    known = [store for _, store in raft.config.stores]
    return rng.choice(("", "another", raft.store.store_id, *known, *map(store_of, MEMBERS)))


def _near(rng: random.Random, number: int) -> int:
    return rng.choice((number, number, number - 1, number + 1, number + 2, number // 2))


def _number(rng: random.Random, raft: Raft) -> int:
    return rng.choice(
        (
            0,
            1,
            _near(rng, raft.term),
            _near(rng, raft.last_index),
            _near(rng, raft.commit_index),
            raft.last_term,
            -1,
            -raft.last_index,
            rng.choice(HUGE),
        )
    )


def _term(rng: random.Random, raft: Raft) -> int:
    return _near(rng, raft.term) if rng.randrange(4) else _number(rng, raft)


def _index(rng: random.Random, raft: Raft) -> int:
    return _near(rng, raft.last_index) if rng.randrange(3) else _number(rng, raft)


def _flag(rng: random.Random, raft: Raft) -> bool:
    return rng.random() < 0.5


def _any_entries(rng: random.Random, raft: Raft) -> tuple[Entry, ...]:
    return tuple([_any_entry(rng, raft) for _ in range(rng.choice((0, 1, 1, 2, 4)))])


def _any_entry(rng: random.Random, raft: Raft) -> Entry:
    kind = rng.choice((COMMAND, COMMAND, CONFIG, CONFIG, 2, -1))
    return Entry(_term(rng, raft), kind, _content(rng, raft))


def _content(rng: random.Random, raft: Raft) -> bytes:
    made = config(rng, raft, _cluster(rng, raft))
    sound = made.encode()
    a, b = made.voters[0], rng.choice(MEMBERS)
    return rng.choice(
        (
            sound,
            sound[: rng.randrange(len(sound))],
            sound.replace(b":", b"\xff"),
            msgspec.msgpack.encode(None),
            msgspec.msgpack.encode({"voters": [["a"], 7]}),
            msgspec.msgpack.encode({"voters": made.voters, "later": {"than": "this"}}),
            b"\x81\xa1x" + b"\x91" * 5000 + b"\xc0",
            b"",
            Config(()).encode(),
            Config((), made.voters, made.cluster).encode(),
            Config((a, a, b), (), made.cluster).encode(),
            Config((a, b), (b,), made.cluster).encode(),
            Config((a,), (), made.cluster, ((a, "one"), (a, "two"), (b, ""))).encode(),
        )
    )


def _round(rng: random.Random, raft: Raft) -> int:
    now = raft.role.reads.round if type(raft.role) is Leader else 0
    return rng.choice((now, now, now - 1, now + 1, -1, 2**63))


def _place(rng: random.Random, raft: Raft) -> tuple[int, int]:
    return rng.choice((raft.config_place, (0, 0), (_term(rng, raft), _index(rng, raft))))


FIELDS: dict[str, Callable[[random.Random, Raft], Any]] = {
    "cluster": _cluster,
    "sender": peer,
    "term": _term,
    "prev_index": _index,
    "prev_term": _term,
    "entries": _any_entries,
    "commit": _index,
    "round": _round,
    "store": _store,
    "accepted": _flag,
    "index": _index,
    "hint_index": _index,
    "hint_term": _term,
    "standby": _flag,
    "last_index": _index,
    "last_term": _term,
    "whose": _store,
    "config": _place,
    "asked": _term,
    "granted": _flag,
    "force": _flag,
    "belongs_to": _cluster,
}

numbers = st.integers(-(2**63), 2**64 - 1)
"""What the wire carries as a number."""

names = st.text(max_size=20)

peers = st.builds(Peer, names, names)

entries = st.builds(Entry, numbers, numbers, st.binary(max_size=40))

_OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: names,
    int: numbers,
    bool: st.booleans(),
    Peer: peers,
    tuple[Entry, ...]: st.lists(entries, max_size=4).map(tuple),
    tuple[int, int]: st.tuples(numbers, numbers),
}


def _of_kind(kind: type[Message]) -> st.SearchStrategy[Message]:
    fields = msgspec.structs.fields(kind)
    made: st.SearchStrategy[Message] = st.builds(
        kind, **{field.name: _OF_TYPE[field.type] for field in fields}
    )
    return made


messages: st.SearchStrategy[Message] = st.one_of([_of_kind(kind) for kind in KINDS])
"""Well-formed messages that fit no particular server."""
