"""Every message that a core can be given, sensible or not, drawn to fit the state that it is in.

Knows the shape of the messages and which values are likely to hurt: just before, at and just past
what the core has, and far from it. Must not know what the core ought to make of them.

Whatever is drawn comes from a `random.Random`, so that a seed, a Hypothesis example
(`hypothesis.strategies.randoms`) and a coverage-guided fuzzer all draw the same things.
"""

from __future__ import annotations

import random
import zlib
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
    Install,
    InstallReply,
    Message,
    PreVote,
    PreVoteReply,
    Raft,
    Reach,
    ReachReply,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.leader import Leader
from exraft.raft.progress import Sending
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
    Install,
    InstallReply,
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
        others_are = [AppendReply] * 12 + [InstallReply] * (8 if _sendings(raft) else 1)
        kind: type[Message] = rng.choice((*others_are, ReachReply, ReachReply, *KINDS))
    elif raft.state is Role.CANDIDATE:
        kind = rng.choice((VoteReply, VoteReply, *KINDS))
    else:
        kind = rng.choice((Append, Append, Append, Install, PreVoteReply, PreVoteReply, *KINDS))
    others = [peer for peer in (*raft.config.voters, *MEMBERS) if peer != raft.me]
    peer = rng.choice(others)
    cluster = raft.config.cluster or "here"
    store = store_of(peer)
    last = raft.last_index
    if kind is Append:
        prev = max(0, last - rng.choice((0, 0, 0, 1, 2)))
        prev_term = _term_at(raft, prev)
        term += rng.choice((0, 0, 1)) or not term
        entries = _entries(rng, raft, cluster, prev_term, term)
        return Append(cluster, peer, term, prev, prev_term, entries, _near(rng, last), 0)
    if kind is AppendReply:
        accepted = rng.random() < 0.8
        index = max(0, last - rng.choice((0, 0, 0, 1, 2)))
        leading = raft.role
        round = leading.reads.round if type(leading) is Leader else 0
        if not accepted and type(leading) is Leader and peer in leading.peers:
            index = leading.peers[peer].next - 1
        hint = rng.choice((0, max(0, index - 1)))
        return AppendReply(
            cluster,
            peer,
            term,
            store,
            accepted,
            index,
            hint,
            _term_at(raft, hint),
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
    if kind is Install:
        term += rng.choice((0, 0, 1)) or not term
        return Install(cluster, peer, term, *_piece(rng, raft, cluster, term))
    if kind is InstallReply:
        return _held(rng, raft, InstallReply(cluster, peer, term, store, last, 0, 0))
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


def _term_at(raft: Raft, index: int) -> int:
    """Of an entry that the log holds still; else what it could be."""
    store = raft.store
    return store.term_at(index) if index >= store.base_index else min(index, store.base_term)


STATES = (b"", b"state", b"a longer state", b"another state!")


def _piece(rng: random.Random, raft: Raft, cluster: str, term: int) -> tuple[Snapshot, int, bytes]:
    """Some bytes of a snapshot: more often than not of one that is under way, and the next ones."""
    received = raft.store.received
    if received is not None and rng.randrange(4):
        snapshot, held = received
    else:
        snapshot, held = _sound_snapshot(rng, raft, cluster, term), 0
    state = next((each for each in STATES if zlib.crc32(each) == snapshot.crc), b"")
    size = rng.choice((0, 1, 4, 4, 100))
    if not rng.randrange(8):
        held = rng.randrange(len(state) + 1)
    return snapshot, held, state[held : held + size]


def _sound_snapshot(rng: random.Random, raft: Raft, cluster: str, term: int) -> Snapshot:
    """As the leader of `term` might have taken it."""
    index = max(1, raft.last_index + rng.choice((-2, -1, 0, 0, 1, 1, 5)))
    known = raft.store.base_index <= index <= raft.last_index
    of = (
        raft.store.term_at(index)
        if known and rng.randrange(3)
        else rng.choice((term, max(1, raft.last_term)))
    )
    place = max(1, index - rng.randrange(4))
    state = rng.choice(STATES)
    return Snapshot(index, of, config(rng, raft, cluster), place, of, len(state), zlib.crc32(state))


def _sendings(raft: Raft) -> list[tuple[Peer, Sending, str]]:
    """To whom `raft` is sending a snapshot, and the store that it knows each by."""
    if type(raft.role) is not Leader:
        return []
    return [
        (peer, one.sending, raft.config.store_of(peer) or one.store or store_of(peer))
        for peer, one in raft.role.peers.items()
        if one.sending is not None
    ]


def _held(rng: random.Random, raft: Raft, reply: InstallReply) -> InstallReply:
    """The same answer, about a snapshot that is being sent if there is one."""
    under_way = _sendings(raft)
    if not under_way:
        return reply
    peer, sending, store = rng.choice(under_way)
    snapshot = sending.snapshot
    held = min(snapshot.size, sending.held + rng.choice((0, 0, 1, 4, 100)))
    return msgspec.structs.replace(
        reply,
        sender=peer,
        store=store,
        index=snapshot.index,
        crc=snapshot.crc,
        held=held,
    )


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


def _any_snapshot(rng: random.Random, raft: Raft) -> Snapshot:
    made = _sound_snapshot(rng, raft, _cluster(rng, raft), _term(rng, raft))
    for name in ("index", "term", "config_index", "config_term", "size", "crc"):
        if not rng.randrange(6):
            made = msgspec.structs.replace(made, **{name: _number(rng, raft)})
    if not rng.randrange(6):
        made = msgspec.structs.replace(made, config=Config(()))
    return made


def _offset(rng: random.Random, raft: Raft) -> int:
    received = raft.store.received
    return rng.choice((0, 4, received[1] if received is not None else 1, _number(rng, raft)))


def _bytes(rng: random.Random, raft: Raft) -> bytes:
    state = rng.choice(STATES)
    return state[rng.randrange(len(state) + 1) :]


def _crc(rng: random.Random, raft: Raft) -> int:
    return rng.choice((*map(zlib.crc32, STATES), _number(rng, raft)))


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
    "snapshot": _any_snapshot,
    "offset": _offset,
    "data": _bytes,
    "crc": _crc,
    "held": _offset,
}

numbers = st.integers(-(2**63), 2**64 - 1)
"""What the wire carries as a number."""

names = st.text(max_size=20)

peers = st.builds(Peer, names, names)

entries = st.builds(Entry, numbers, numbers, st.binary(max_size=40))

configs = st.builds(
    Config,
    st.lists(peers, max_size=3).map(tuple),
    st.lists(peers, max_size=3).map(tuple),
    names,
    st.lists(st.tuples(peers, names), max_size=3).map(tuple),
)

snapshots = st.builds(Snapshot, numbers, numbers, configs, numbers, numbers, numbers, numbers)

_OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: names,
    int: numbers,
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    Peer: peers,
    Snapshot: snapshots,
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
