"""What nodes say to each other: the frames, and what is in them.

Knows the shape of everything that crosses, its version, and how large a piece of it may be. Must
not know sockets, nor what becomes of it: decoding is of plain data, and nothing of a user's is
looked into here.

A frame begins with two bytes, a mark and the version of the protocol, and goes on in MessagePack.
Version 0 is kept for what every version must understand: a refusal, with the version that is spoken
here, in decimal digits. A frame travels as parts of `PART` bytes at most, for the limit on parts is
what keeps strangers from having us hold their bytes.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from exraft.names import Peer
from exraft.raft import Message

PROTOCOL: Final = 1
"""The version that is spoken here. What another one says is refused."""
PART: Final = 64 * 1024
"""Bytes of a frame's part, at most."""
LARGEST_PART: Final = PART + 1024
"""Bytes, encrypted: what is announced to be longer ends the connection."""
LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a frame, at most."""
LARGEST_VALUE: Final = LARGEST - 4096
"""Bytes of a command or query that a frame has room for, beside what else is in it."""
DEEPEST: Final = LARGEST // PART + 1

_MARK: Final = 0xE7
_REFUSAL: Final = 0


class Post(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A message from server to server."""

    to: str
    message: Message


class Write(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """`ExRaft.write`, of a serialised command."""

    id: int
    to: str
    data: bytes


class Read(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """`ExRaft.read` or `read_dirty`, of a serialised query."""

    id: int
    to: str
    query: bytes
    dirty: bool


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """A call without arguments: `what` names it."""

    id: int
    to: str
    what: str


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """`ExRaft.add_server` or `remove_server`; patience in seconds, None for ever."""

    id: int
    to: str
    peer: Peer
    add: bool
    patience: float | None


class Transfer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """`ExRaft.transfer_leadership`."""

    id: int
    to: str
    heir: Peer | None


class Stop(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """`ExRaft.stop_server`, with a serialised reason; timeout in seconds, None for ever."""

    id: int
    to: str
    reason: bytes
    timeout: float | None


class Fetch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=8):
    """Bytes of a snapshot that was opened for the asker; of size 0: it needs no more of them."""

    id: int
    to: str
    handle: str
    offset: int
    size: int


class Cancel(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=9):
    """Nobody waits for the call `id` of this connection any more."""

    id: int


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=10):
    """To the call `id`; the data are as its kind has them."""

    id: int
    data: bytes


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=11):
    """What the call `id` raised."""

    id: int
    data: bytes


class Misaddressed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=12):
    """The call `id` was not looked at: `node` is who is reached at this address."""

    id: int
    node: str


Request: TypeAlias = Write | Read | Ask | Change | Transfer | Stop | Fetch
Parcel: TypeAlias = Post | Request | Cancel | Answer | Failure | Misaddressed


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Several parcels for one node, which is named: an address may have become another one's."""

    to: str
    parcels: list[Parcel]


class Malformed(ValueError):
    """What arrived is no frame."""


class Incompatible(Exception):
    """What arrived is of another version of the protocol.

    Attributes:
        version: that is spoken there.
        refused: whether it is itself the refusal of what was sent from here.
    """

    def __init__(self, version: int, *, refused: bool) -> None:
        super().__init__(version)
        self.version = version
        self.refused = refused


_PREFIX: Final = bytes((_MARK, PROTOCOL))
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode(to: str, parcels: list[Parcel]) -> bytes:
    """The bytes of a frame."""
    return _PREFIX + _encode(Frame(to, parcels))


def decode(data: bytes) -> Frame:
    """The frame that `data` is.

    Raises:
        Malformed: it is none.
        Incompatible: another version of the protocol made it.
    """
    if data[:2] != _PREFIX:
        raise _stranger(data)
    try:
        return _decode(memoryview(data)[2:])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None


def _stranger(data: bytes) -> Exception:
    if len(data) < 2 or data[0] != _MARK:
        return Malformed("it does not begin as a frame does")
    version = data[1]
    if version != _REFUSAL:
        return Incompatible(version, refused=False)
    digits = data[2:6]
    if not digits.isdigit():
        return Malformed("a refusal without a version")
    return Incompatible(int(digits), refused=True)


def refusal() -> bytes:
    """What is answered to a frame of another version: it was dropped, and what is spoken here."""
    return bytes((_MARK, _REFUSAL)) + b"%d" % PROTOCOL


def split(data: bytes) -> list[bytes | memoryview]:
    """The parts in which a frame travels."""
    if len(data) <= PART:
        return [data]
    view = memoryview(data)
    return [view[start : start + PART] for start in range(0, len(data), PART)]


def differ(name: str, version: int) -> str:
    """What to tell of a node that speaks another version."""
    return (
        f"{name} speaks version {version} of exraft's protocol between nodes, and this process"
        f" version {PROTOCOL}: install the same release of exraft there and here"
    )
