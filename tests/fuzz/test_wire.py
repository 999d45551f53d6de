"""What comes over a wire is a message, or is refused: there is no third.

Knows how messages become bytes, and how bytes are damaged. Must not know who carries them.
"""

from __future__ import annotations

import random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exraft.raft import Message
from exraft.raft.nonsense import UNDECODABLE
from tests.fuzz.judge import Judged
from tests.fuzz.messages import KINDS, garbled, messages
from tests.raft.hand import A, B, C

WIRE = msgspec.msgpack.Decoder(Message)

few = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def receive(frame: bytes) -> Message | None:
    """What a frame says; None if it is refused."""
    try:
        message: Message = WIRE.decode(frame)
    except UNDECODABLE:
        return None
    return message


def is_well_formed(message: Message) -> bool:
    """Whether every field, and what is in it, has the type that is declared."""
    plain = msgspec.to_builtins(message, builtin_types=(bytes,))
    again = msgspec.convert(plain, type(message))
    return again == message and type(message) in KINDS


@few
@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    again = receive(msgspec.msgpack.encode(message))
    assert again == message
    assert type(again) is type(message)


@few
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_are_refused(frame: bytes) -> None:
    message = receive(frame)
    assert message is None or is_well_formed(message)


@few
@given(messages)
def test_a_frame_that_is_cut_short_is_refused(message: Message) -> None:
    frame = msgspec.msgpack.encode(message)
    for length in range(len(frame)):
        assert receive(frame[:length]) is None


@few
@given(messages, st.data())
def test_a_frame_with_a_flipped_bit_is_a_message_or_is_refused(
    message: Message, data: st.DataObject
) -> None:
    frame = bytearray(msgspec.msgpack.encode(message))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    damaged = receive(bytes(frame))
    assert damaged is None or is_well_formed(damaged)


def test_text_that_is_no_text_and_nesting_without_end_are_refused() -> None:
    """msgspec raises Python's own errors for these two."""
    vote = msgspec.msgpack.encode(["Vote", "here"]).replace(b"here", b"\xff\xff\xff\xff")
    assert receive(vote) is None
    assert receive(b"\x9a\xa5Reach\xa0\x92\xa0\xa0\x00" + b"\x91" * 100_000 + b"\xc0") is None


def test_what_a_later_version_adds_to_a_message_is_not_looked_at() -> None:
    reach = ["Reach", "here", [":a", "here"], 7, {"since": "then"}]
    message = receive(msgspec.msgpack.encode(reach))
    assert message is not None
    assert message.term == 7


def test_a_server_survives_whatever_a_damaged_frame_says() -> None:
    rng = random.Random(0)
    server = Judged(A, (A, B, C))
    heard = 0
    for _ in range(1000):
        frame = bytearray(msgspec.msgpack.encode(garbled(rng, server.raft, rng.choice(KINDS))))
        for _ in range(rng.randrange(3)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        message = receive(bytes(frame))
        if message is not None:
            server.hear(message)
            heard += 1
    assert heard > 200
