"""How commands, replies and exceptions cross between caller, log and state machine.

Knows how a value becomes bytes and a copy, so that nothing mutable is shared.
Must not know what the bytes are for, nor which thread or node they cross to.

A process uses one codec. Bytes say which one made them: a pickle begins with 0x80, and plain data
with 0xC1, which begins no pickle and no MessagePack either, and a letter. To unpickle is to run
whatever the bytes say, so where a plain codec is used nothing is unpickled but what has surely
never left the process.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from types import EllipsisType, FunctionType
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec

from exraft.errors import (
    CommandTooLarge,
    ExRaftError,
    MachineError,
    NotSerialisable,
    mark_applied,
)

_dumps = pickle.dumps
_loads = pickle.loads

CODECS: Final = ("pickle", "msgpack", "json")
"""What a process may use; the first unless it is told otherwise."""

MAX_DEPTH: Final = 100
"""Lists, tuples and dicts in each other that plain data may have: any thread can decode those."""

# Exact types: a subclass may carry attributes that can change.
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})

# Their text lives in C fields that only their own __init__ sets.
_FILLED_BY_INIT = (StopIteration, SyntaxError, UnicodeError)

_Ours = TypeVar("_Ours", bound=ExRaftError)


def use(name: str, *, reads_pickles: bool = False) -> None:
    """Let this process encode by another codec from now on: one of `CODECS`.

    By `"pickle"` it decodes what any codec made. By `"msgpack"` or `"json"` it decodes what either
    of them made, and takes no pickles: unless `reads_pickles` says so, for the time in which a
    cluster moves from pickles to plain data.

    Raises:
        ValueError: there is no such codec; the message lists them.
    """
    global _plain, _unpickle, _chosen
    if name not in CODECS:
        raise ValueError(f"there is no codec {name!r}: use one of {', '.join(CODECS)}")
    _plain = _PLAIN.get(name)
    _unpickle = _loads if _plain is None or reads_pickles else _refuse_pickle
    _chosen = True


def chosen() -> bool:
    """Say whether this process was told which codec to use."""
    return _chosen


def in_use() -> str:
    """The name of the codec by which this process encodes."""
    return CODECS[0] if _plain is None else _plain.name


def encode(value: Any) -> bytes:
    """Serialise `value` so that another process can decode it.

    By a plain codec a tuple comes back as one, but those in it as lists; anything else comes back
    as what it was, or is refused.

    Raises:
        NotSerialisable: the codec in use can't; the message names the type.
    """
    if _plain is not None:
        return _encode_plain(value, _plain)
    try:
        data = _dumps(value, 5)
    except MemoryError:
        raise
    except Exception:  # Lambdas, local classes: cloudpickle decides.
        return _by_value(value)
    # Pickled by reference, what a script defines is found at home only.
    # One byte is looked for ten times as fast as eight.
    start = data.find(b"_")
    return data if start < 0 or data.find(b"__main__", start) < 0 else _by_value(value)


def encode_state(state: Any) -> bytes:
    """Serialise a state for a snapshot, which takes its place on some servers and not on others.

    So it must come back altogether as it was. By a plain codec a tuple in it would not, and a list
    or dict that is in two places would be two from then on.

    Raises:
        NotSerialisable: as `encode`, or it has such a thing in it.
    """
    data = encode(state)
    if _plain is not None and type(state) in (list, tuple, dict):
        _check_exact(state, _plain, {id(state)})
    return data


def decode(data: bytes) -> Any:
    """Turn what `encode` made into a new object.

    Raises:
        NotSerialisable: it is a pickle, and this process takes none.
        Exception: whatever a class raises that refuses, or `data` that is malformed.
    """
    return _decode_plain(data) if data[0] == _MARK else _unpickle(data)


def load(file: BinaryIO) -> Any:
    """As `decode`, of all that is in a file; a pickle is read piece by piece.

    Args:
        file: at its start; buffered, or one that can seek.
    """
    if isinstance(file, io.BufferedReader):
        start = file.peek(1)[:1]
    else:
        start = file.read(1)
        file.seek(0)
    if start == _START and _unpickle is _loads:
        return pickle.load(file)
    return decode(file.read())


def encode_at_home(value: Any) -> bytes:
    """Serialise what never leaves the process, whatever codec is in use.

    Raises:
        NotSerialisable: neither pickle nor cloudpickle can; the message names the type.
    """
    # Here every class is known: none goes by value that can be found by its name.
    try:
        return _dumps(value, 5)
    except Exception:
        return _by_value(value)


def decode_at_home(data: bytes) -> Any:
    """Turn what `encode_at_home` made into a new object. Raises whatever a class does."""
    return _loads(data)


def encode_command(command: Any, max_bytes: int) -> bytes:
    """Serialise a command for the log.

    Raises:
        NotSerialisable: as `encode`.
        CommandTooLarge: it takes more than `max_bytes`.
    """
    data = encode(command)
    if len(data) > max_bytes:
        raise CommandTooLarge(len(data), max_bytes)
    return data


class Encoded:
    """A reply on its way: serialised by the server's thread, decoded by the caller's."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def copy_reply(value: Any, *, maybe_applied: bool = True) -> Any:
    """Return `value` if nobody can change it (scalars, flat tuples of them), else `Encoded`.

    By a plain codec always `Encoded`: what another node can't be answered is refused here too.
    Runs in the server's thread; `reveal` in the caller's gives the value.

    Raises:
        NotSerialisable: as `encode`, with `maybe_applied` as given: the reply to a write can
            be refused only after its command was consumed. The exception has this frame's
            callers in its traceback: hand on `without_frames(error)`.
    """
    if _plain is None:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is tuple:
            for item in value:
                if type(item) not in _SCALARS:
                    break
            else:
                return value
    try:
        return Encoded(encode(value))
    except NotSerialisable as error:
        error.maybe_applied = maybe_applied
        raise
    except MemoryError:
        raise
    # A class that exits while it is pickled must not take the server with it.
    except BaseException as error:
        raise NotSerialisable(_refusal(value, error), maybe_applied=maybe_applied) from error


def reveal(value: Any, *, maybe_applied: bool = True) -> Any:
    """Return the value that `copy_reply` was given; the caller's own copy, if it can change.

    Raises:
        MachineError: the reply's class pickles but doesn't unpickle; `maybe_applied` as given.
        NotSerialisable: it is a pickle, and this process takes none; `maybe_applied` as given.
    """
    if type(value) is not Encoded:
        return value
    try:
        return decode(value.data)
    except MemoryError:
        raise
    except Exception as error:
        if _unpickle is _refuse_pickle and isinstance(error, NotSerialisable):
            raise NotSerialisable(f"the reply: {error}", maybe_applied=maybe_applied) from None
        raise MachineError(
            _type_name(error),
            f"{_text(error)} (while the reply was decoded)",
            maybe_applied=maybe_applied,
        ) from error


def own_copy(value: Any) -> Any:
    """Return a copy of a query that its caller keeps; `value` itself if nobody can change it.

    Raises:
        NotSerialisable: as `encode`.
    """
    return reveal(copy_reply(value, maybe_applied=False), maybe_applied=False)


def copy_exception(exc: BaseException, note: str | None, *, maybe_applied: bool) -> Exception:
    """Return a copy of what a machine raised, without the frames that hold its state.

    The copy has the type, arguments, attributes and notes of `exc`, but no traceback, cause
    or context; it has `note`, and `exraft.maybe_applied` says of it what is given here
    (`True` for `handle_write`: the command was consumed; `False` for `handle_read`).

    What can't be copied into the same type, what is no `Exception` (it would end the
    caller's thread), and an `ExRaftError` (the caller would take it for ours) become a
    `MachineError`; and so does everything by a plain codec, as it would on its way to another
    node. Never raises on account of `exc`.
    """
    copy: Exception
    try:
        if _plain is not None:
            raise TypeError("by a plain codec a MachineError stands for it")
        copy = _same_again(exc)
        if note is not None:
            copy.add_note(note)
    # Pickling runs the user's code, which may raise anything, and an answer is owed.
    except BaseException:
        copy = stand_in(exc, maybe_applied=maybe_applied)
        if note is not None:
            copy.add_note(note)
        return copy
    return mark_applied(copy, maybe_applied)


def stand_in(exc: BaseException, *, maybe_applied: bool) -> MachineError:
    """Return what stands for an exception that can't be handed on: it tells its type and text."""
    return MachineError(_type_name(exc), _text(exc), maybe_applied=maybe_applied)


def without_frames(error: _Ours) -> _Ours:
    """Strip an error of ours, raised in a server's thread, of all that holds the state."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def pickle_exception(exc: BaseException) -> bytes:
    """Serialise what `copy_exception` made, for another process; nothing by a plain codec.

    Empty, too, if it is of no class that can be pickled. Never raises on account of `exc`.
    """
    if _plain is not None or isinstance(exc, ExRaftError) or not isinstance(exc, Exception):
        return b""
    try:
        apart = _init_knows_no_pickle(exc)
        return encode((type(exc), exc.args, vars(exc)) if apart else exc)
    except BaseException:  # As in `copy_exception`.
        return b""


def unpickle_exception(data: bytes) -> Exception | None:
    """Turn what `pickle_exception` made into an exception; None if that is not to be had here.

    Runs code of the user's, and may import it.
    """
    try:
        value = decode(data)
        if type(value) is tuple:
            cls, args, fields = value
            value = _assembled(cls, args, fields)
    except BaseException:  # As in `copy_exception`.
        return None
    return value if isinstance(value, Exception) and not isinstance(value, ExRaftError) else None


def _same_again(exc: BaseException) -> Exception:
    if isinstance(exc, ExRaftError) or not isinstance(exc, Exception):
        raise TypeError("only a MachineError may stand for it")
    cls = type(exc)
    copy: Any
    if _init_knows_no_pickle(exc):
        copy = _assembled(cls, *_loads(encode_at_home((exc.args, vars(exc)))))
    else:
        copy = _loads(encode_at_home(exc))
    if type(copy) is not cls or copy is exc:
        raise TypeError(f"{cls.__qualname__} doesn't unpickle into a copy of itself")
    return copy


def _assembled(cls: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    exc = cls.__new__(cls, *args)
    exc.args = args
    vars(exc).update(fields)
    return exc


def _init_knows_no_pickle(exc: Exception) -> bool:
    # `def __init__(self, account, missing): super().__init__(f"...")` is how exceptions are
    # mostly written, and what pickle can't copy: it would call the class with the message.
    cls: Any = type(exc)
    return (
        isinstance(cls.__init__, FunctionType)
        and not isinstance(cls.__new__, FunctionType)
        and cls.__reduce__ is BaseException.__reduce__
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__getstate__ is object.__getstate__
        and cls.__setstate__ is BaseException.__setstate__
        and not isinstance(exc.__getstate__(), tuple)  # It has __slots__ of its own.
        and not issubclass(cls, _FILLED_BY_INIT)
    )


# Plain data.

_MARK: Final = 0xC1
_START: Final = b"\x80"


class _Plain(NamedTuple):
    """A codec of plain data: each value comes back as what it was, or is refused.

    Attributes:
        a_tuple, value: what begins the bytes of a tuple, and of any other value.
        write: makes the rest of them.
        sure: types of which any value comes back as it was, or is refused by `write`.
        takes: what it carries, in words.
    """

    name: str
    a_tuple: bytes
    value: bytes
    write: Callable[[Any], bytes]
    sure: frozenset[type]
    takes: str


_PLAIN: Final = {
    "msgpack": _Plain(
        "msgpack",
        b"\xc1M",
        b"\xc1m",
        msgspec.msgpack.Encoder().encode,
        frozenset({type(None), bool, int, float, str, bytes}),
        "None, bool, int, float, str, bytes, datetime in UTC, list, tuple and dict",
    ),
    "json": _Plain(
        "json",
        b"\xc1J",
        b"\xc1j",
        msgspec.json.Encoder().encode,
        frozenset({type(None), bool, str}),
        "None, bool, int, float, str, list, tuple, and dict with keys of text",
    ),
}


def _no_extension(code: int, data: memoryview) -> Any:
    raise ValueError(f"MessagePack's extension {code} is no plain data")


_READERS: Final[dict[bytes, Callable[[memoryview], Any]]] = {
    b"m": msgspec.msgpack.Decoder(ext_hook=_no_extension).decode,
    b"M": msgspec.msgpack.Decoder(tuple, ext_hook=_no_extension).decode,
    b"j": msgspec.json.Decoder().decode,
    b"J": msgspec.json.Decoder(tuple).decode,
}

_chosen = False
_plain: _Plain | None = None
"""The codec in use; None for pickle."""
_unpickle: Callable[[bytes], Any] = _loads


def _refuse_pickle(data: bytes) -> Any:
    raise NotSerialisable(
        f"this process takes no pickles (codec {in_use()!r}): let whoever writes use a plain codec"
        " as well, and see docs/codecs.md for what was written before"
    )


def _encode_plain(value: Any, plain: _Plain) -> bytes:
    try:
        if type(value) not in plain.sure:
            _check_plain(value, plain, MAX_DEPTH)
        return (plain.a_tuple if type(value) is tuple else plain.value) + plain.write(value)
    except (MemoryError, NotSerialisable):
        raise
    # Integers beyond 64 bits, half of a surrogate pair, a dict that another thread changes.
    except Exception as error:
        raise NotSerialisable(
            f"a value of type {_type_name(value)} can't be serialised"
            f" ({type(error).__name__}: {_text(error)}): the codec {plain.name!r}"
            f" takes {plain.takes}"
        ) from error


def _check_plain(value: Any, plain: _Plain, depth: int) -> None:
    """Refuse what would come back as something else. All of `plain.sure` needs no look."""
    kind = type(value)
    sure = plain.sure
    if kind is list or kind is tuple:
        _check_depth(plain, depth)
        for item in value:
            if type(item) not in sure:
                _check_plain(item, plain, depth - 1)
    elif kind is dict:
        _check_depth(plain, depth)
        for key, item in value.items():
            if type(key) is not str:
                _check_key(key, plain, depth - 1)
            if type(item) not in sure:
                _check_plain(item, plain, depth - 1)
    elif kind is datetime and plain.name == "msgpack":
        if value.tzinfo is not UTC:
            raise _not_plain(value, " that is not in UTC", plain)
    elif kind is float:
        if not isfinite(value):
            raise _not_plain(value, f" that is {value}", plain)
    elif kind is int:
        # As in MessagePack: not whatever reads JSON takes more.
        if not -(2**63) <= value < 2**64:
            raise _not_plain(value, " that has more than 64 bits", plain)
    else:
        raise _not_plain(value, "", plain)


def _check_key(key: Any, plain: _Plain, depth: int) -> None:
    if plain.name == "json":
        raise NotSerialisable(
            f"a key of type {_type_name(key)} can't be serialised: JSON has keys of text only;"
            " write it as text, or use the codec 'msgpack'"
        )
    if type(key) not in plain.sure:
        _check_plain(key, plain, depth)


def _check_depth(plain: _Plain, depth: int) -> None:
    if depth <= 0:
        raise NotSerialisable(
            f"a value can't be serialised that is nested more than {MAX_DEPTH} deep: the codec"
            f" {plain.name!r} takes no more"
        )


def _check_exact(value: Any, plain: _Plain, seen: set[int]) -> None:
    """Refuse what differs from its copy, in plain data that was checked; `seen` are parts of it."""
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is tuple:
            raise NotSerialisable(
                "a tuple in a state can't be serialised, as it comes back as a list by the codec"
                f" {plain.name!r}: use lists, or a snapshot and restore of the machine's own"
            )
        if kind is list or kind is dict:
            if id(item) in seen:
                raise NotSerialisable(
                    f"a {kind.__name__} that is in two places of a state can't be serialised, as it"
                    f" comes back as two by the codec {plain.name!r}: keep it in one of them, or"
                    " use a snapshot and restore of the machine's own"
                )
            seen.add(id(item))
            _check_exact(item, plain, seen)


def _not_plain(value: Any, which: str, plain: _Plain) -> NotSerialisable:
    return NotSerialisable(
        f"a value of type {_type_name(value)}{which} can't be serialised: the codec"
        f" {plain.name!r} takes {plain.takes}"
    )


def _decode_plain(data: bytes) -> Any:
    read = _READERS.get(data[1:2])
    if read is None:
        raise ValueError(f"bytes that begin with {data[:2]!r} are of no codec that is known here")
    return read(memoryview(data)[2:])


# Pickles.


def _by_value(value: Any) -> bytes:
    file = io.BytesIO()
    try:
        _by_value_pickler()(file, 5).dump(value)
    except MemoryError:
        raise
    except Exception as error:
        raise NotSerialisable(_refusal(value, error)) from error
    return file.getvalue()


# cloudpickle sends the whole body of a class with each of its instances, and decoding one
# writes that body over the class, at home too: attributes set since are lost, and threads
# that decode race. So a class crosses under a key, its body is made once, and it is only
# used where the key is unknown.
_bodies: WeakKeyDictionary[type, tuple[bytes, bytes]] = WeakKeyDictionary()
_classes: WeakValueDictionary[bytes, type] = WeakValueDictionary()
_classes_lock = threading.Lock()


@functools.cache
def _by_value_pickler() -> Any:
    import cloudpickle  # type: ignore[import-untyped]

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if not isinstance(obj, type):
                return super().reducer_override(obj)
            if obj not in _bodies:
                reduced = super().reducer_override(obj)
                if not isinstance(reduced, tuple) or len(reduced) < 6:
                    return reduced  # By name, or one of Python's own.
                _register(obj, os.urandom(16), cloudpickle.dumps(obj, 5))
            return _class_of, _bodies[obj]

    return Pickler


def _class_of(key: bytes, body: bytes) -> type:
    known = _classes.get(key)
    return _register(_loads(body), key, body) if known is None else known


def _register(cls: type, key: bytes, body: bytes) -> type:
    with _classes_lock:
        key, _ = _bodies.setdefault(cls, (key, body))
        return _classes.setdefault(key, cls)


def _refusal(value: Any, error: BaseException) -> str:
    return (
        f"a value of type {_type_name(value)} can't be serialised"
        f" ({type(error).__name__}: {_text(error)}):"
        " use plain data, without locks, sockets, open files, threads or generators"
    )


def _type_name(value: Any) -> str:
    cls = type(value)
    prefix = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return prefix + cls.__qualname__


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except BaseException as error:  # A __str__ of the user's, of which we only report.
        return f"(its text raised {type(error).__name__})"
