"""Answers and failures as bytes, for a caller on another node.

Knows what each kind of answer consists of, and what of an exception must cross for it to look as
raised at home. Must not know who asks, nor how the bytes travel.

Whatever is ours crosses as typed MessagePack: names from a fixed table, and plain data that is
checked against the types. A value of the user's is in the bytes of `exraft.codec`, and only an
exception of the user's is ever unpickled, where the codec in use allows that.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any, Final, Literal, TypeAlias

import msgspec

from exraft import errors
from exraft.actors.status import Status
from exraft.codec import Encoded, encode, pickle_exception, stand_in, unpickle_exception
from exraft.errors import (
    ExRaftError,
    MachineError,
    StartFailed,
    machines_own,
    mark_applied,
    maybe_applied,
)
from exraft.names import Peer, Role
from exraft.raft.log import Entry
from exraft.supervision import errors as supervision_errors

Kind: TypeAlias = Literal[
    "value", "leader", "peer", "role", "text", "status", "log", "index", "none"
]
"""What an answer is: see `_ANSWERS`; `"value"` is a machine's reply."""

_ANSWERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    kind: msgspec.msgpack.Decoder(type_)
    for kind, type_ in (
        ("leader", Peer | None),
        ("peer", Peer),
        ("role", Role),
        ("text", str),
        ("status", Status),
        ("log", tuple[int, list[Entry]]),
        ("index", int),
        ("none", None),
    )
}


def encode_answer(kind: Kind, value: Any) -> bytes:
    """Serialise the answer to a call.

    Raises:
        NotSerialisable: it is a machine's reply that no `Encoded` is of yet, and can't be one.
    """
    if kind != "value":
        return msgspec.msgpack.encode(value)
    return value.data if type(value) is Encoded else encode(value)


def decode_answer(kind: Kind, data: bytes) -> Any:
    """Return what was answered; of a `"value"`, the `Encoded` that its caller's thread reveals.

    Raises:
        ValueError: `data` is no answer of that kind.
    """
    return Encoded(data) if kind == "value" else _decoded(_ANSWERS[kind], data)


# Failures. What they have as attributes is told by a few shapes.


class _Server(msgspec.Struct, frozen=True, array_like=True, tag="peer"):
    peer: Peer


class _Tuple(msgspec.Struct, frozen=True, array_like=True, tag="tuple"):
    items: tuple[_Told, ...]


class _Field(msgspec.Struct, frozen=True, array_like=True, tag="field"):
    """The same object as the error's attribute of that name."""

    name: str


class _Ours(msgspec.Struct, frozen=True, array_like=True, tag="ours"):
    """An `ExRaftError`: its class is `name`, its `reason` stands for itself."""

    name: str
    text: str
    maybe_applied: bool
    reason: _Told
    fields: dict[str, _Told]
    notes: list[str]


class _Theirs(msgspec.Struct, frozen=True, array_like=True, tag="theirs"):
    """Another exception; `pickled` is empty if it can't be, or mustn't.

    `answers` says whether it is a state machine's answer to the call.
    """

    type_name: str
    text: str
    maybe_applied: bool
    answers: bool
    notes: list[str]
    pickled: bytes


_Error: TypeAlias = _Ours | _Theirs
_Told: TypeAlias = None | bool | int | float | str | _Server | _Tuple | _Field | _Error
_PLAIN = (type(None), bool, float)


def _attributes(cls: type[ExRaftError]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    names = {
        name
        for base in cls.__mro__
        if issubclass(base, ExRaftError) and base is not ExRaftError
        for name in inspect.get_annotations(base)
    }
    return {name: hints[name] for name in sorted(names)}


_CLASSES: Final[dict[str, type[ExRaftError]]] = {
    name: value
    for module in (errors, supervision_errors)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, ExRaftError) and not name.startswith("_")
}
"""All that a failure may claim to be."""

_ATTRIBUTES: Final[dict[str, dict[str, Any]]] = {
    name: _attributes(cls) for name, cls in _CLASSES.items()
}
"""What each has beside the attributes of all, and their types."""

_failures = msgspec.msgpack.Decoder(_Error)


def encode_failure(error: BaseException) -> bytes:
    """Serialise what a call is to raise. Never raises on account of `error`.

    An error of ours keeps its class, message, reason, notes, `maybe_applied` and attributes; of
    those, what is neither plain nor a peer, an exception, or a tuple of such, becomes its `repr`.
    Another exception is pickled; by a plain codec, or if that can't be done, only what a
    `MachineError` tells of it crosses.
    """
    return msgspec.msgpack.encode(_error(error))


def decode_failure(data: bytes) -> Exception:
    """Return what a call is to raise.

    An exception of the user's is unpickled where the codec in use allows that: it runs code of
    the user's, and may import it. Else, or if that fails, a `MachineError` stands for it.

    Raises:
        ValueError: `data` is no failure.
    """
    return _raised(_decoded(_failures, data))


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except RecursionError:
        raise ValueError("what came from another node is nested too deep") from None


def _error(error: BaseException) -> _Error:
    notes = [_text(note) for note in getattr(error, "__notes__", ())]
    if not isinstance(error, ExRaftError):
        applied = maybe_applied(error)
        stands = stand_in(error, maybe_applied=applied)
        return _Theirs(
            _text(stands.type_name),
            _text(stands.text),
            applied,
            machines_own(error),
            notes,
            pickle_exception(error),
        )
    # The class, or the nearest one above it that the other node is sure to have.
    cls = next(each for each in type(error).__mro__ if _CLASSES.get(each.__name__) is each)
    # What pickle would take along: no references to actors.
    state: dict[str, Any] = error.__reduce__()[2]
    fields = {name: state.get(name) for name in _ATTRIBUTES[cls.__name__]}
    return _Ours(
        cls.__name__,
        _text(error),
        error.maybe_applied,
        _told(state["reason"], fields),
        {name: _told(value, {}) for name, value in fields.items()},
        notes,
    )


def _told(value: Any, fields: dict[str, Any]) -> Any:
    """In the shapes above; an exception among `fields` by its name there."""
    kind = type(value)
    if kind in _PLAIN or (kind is int and -(2**63) <= value < 2**64):
        return value
    if kind is str:
        return _text(value)
    if kind is Peer:
        return _Server(Peer(_text(value.name), _text(value.node)))
    if kind is tuple:
        return _Tuple(tuple(_told(item, fields) for item in value))
    if isinstance(value, BaseException):
        name = next((name for name, field in fields.items() if field is value), None)
        return _error(value) if name is None else _Field(name)
    return _shown(value)


def _raised(error: _Error) -> Exception:
    if isinstance(error, _Theirs):
        return _of_theirs(error)
    cls = _CLASSES.get(error.name)
    if cls is None:
        raise ValueError(f"{error.name!r} is no error that is known here")
    types = _ATTRIBUTES[error.name]
    if error.fields.keys() != types.keys():
        raise ValueError(f"{error.name} has not the attributes {sorted(error.fields)}")
    fields = {name: _value(told, {}) for name, told in error.fields.items()}
    for name, value in fields.items():
        if not _fits(value, types[name]):
            raise ValueError(f"{error.name}.{name} can't be a {type(value).__name__}")
    raised = cls.__new__(cls)
    raised.args = (error.text,)
    vars(raised).update(fields)
    raised.reason = _value(error.reason, fields)
    raised.maybe_applied = error.maybe_applied
    for note in error.notes:
        raised.add_note(note)
    if isinstance(raised, StartFailed) and isinstance(raised.cause, BaseException):
        raised.__cause__ = raised.cause
    return raised


def _of_theirs(error: _Theirs) -> Exception:
    raised = unpickle_exception(error.pickled) if error.pickled else None
    if raised is None:
        raised = MachineError(error.type_name, error.text, maybe_applied=error.maybe_applied)
    elif error.answers:
        mark_applied(raised, error.maybe_applied)
    if error.notes:
        # Past __setattr__, which a user's exception may have overridden.
        vars(raised)["__notes__"] = list(error.notes)
    return raised


def _value(told: Any, fields: dict[str, Any]) -> Any:
    if isinstance(told, _Server):
        return told.peer
    if isinstance(told, _Tuple):
        return tuple(_value(item, fields) for item in told.items)
    if isinstance(told, _Field):
        if told.name not in fields:
            raise ValueError(f"an error has no attribute {told.name!r}")
        return fields[told.name]
    if isinstance(told, _Ours | _Theirs):
        return _raised(told)
    return told


def _fits(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    # An int will do for a float (PEP 484).
    return isinstance(value, hint) or (type(value) is int and isinstance(0.0, hint))


def _shown(value: object) -> str:
    try:
        return _text(repr(value))
    except BaseException:  # A __repr__ of the user's, which may raise anything.
        return f"a {type(value).__name__} that has no repr"


def _text(text: object) -> str:
    """What UTF-8 can't carry, such as half of a surrogate pair in a path, is escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()
