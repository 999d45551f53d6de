"""How commands, replies and exceptions cross between caller, log and state machine.

Knows how a value becomes bytes and a copy, so that nothing mutable is shared.
Must not know what the bytes are for, nor which thread or node they cross to.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import threading
from collections.abc import Callable
from types import EllipsisType, FunctionType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from exraft.errors import (
    CommandTooLarge,
    ExRaftError,
    MachineError,
    NotSerialisable,
    mark_applied,
)

_dumps = pickle.dumps
_loads = pickle.loads

decode: Callable[[bytes], Any] = pickle.loads
"""Turn what `encode` made into a new object. Raises whatever a class does that refuses."""

# Exact types: a subclass may carry attributes that can change.
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, EllipsisType})

# Their text lives in C fields that only their own __init__ sets.
_FILLED_BY_INIT = (StopIteration, SyntaxError, UnicodeError)

_Ours = TypeVar("_Ours", bound=ExRaftError)


def encode(value: Any) -> bytes:
    """Serialise `value` so that another process can decode it.

    Raises:
        NotSerialisable: neither pickle nor cloudpickle can; the message names the type.
    """
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

    Runs in the server's thread; `reveal` in the caller's gives the value.

    Raises:
        NotSerialisable: as `encode`, with `maybe_applied` as given: the reply to a write can
            be refused only after its command was consumed. The exception has this frame's
            callers in its traceback: hand on `without_frames(error)`.
    """
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
    """
    if type(value) is not Encoded:
        return value
    try:
        return _loads(value.data)
    except MemoryError:
        raise
    except Exception as error:
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
    `MachineError`. Never raises on account of `exc`.
    """
    copy: Exception
    try:
        copy = _same_again(exc)
        if note is not None:
            copy.add_note(note)
    # Pickling runs the user's code, which may raise anything, and an answer is owed.
    except BaseException:
        copy = MachineError(_type_name(exc), _text(exc), maybe_applied=maybe_applied)
        if note is not None:
            copy.add_note(note)
        return copy
    return mark_applied(copy, maybe_applied)


def without_frames(error: _Ours) -> _Ours:
    """Strip an error of ours, raised in a server's thread, of all that holds the state."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _same_again(exc: BaseException) -> Exception:
    if isinstance(exc, ExRaftError) or not isinstance(exc, Exception):
        raise TypeError("only a MachineError may stand for it")
    cls = type(exc)
    copy: Any
    if _init_knows_no_pickle(exc):
        args, fields = _loads(_by_reference((exc.args, vars(exc))))
        copy = cls.__new__(cls, *args)
        copy.args = args
        vars(copy).update(fields)
    else:
        copy = _loads(_by_reference(exc))
    if type(copy) is not cls or copy is exc:
        raise TypeError(f"{cls.__qualname__} doesn't unpickle into a copy of itself")
    return copy


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


def _by_reference(value: Any) -> bytes:
    # A copy that stays in the process needs no class by value, __main__ or not.
    try:
        return _dumps(value, 5)
    except Exception:
        return _by_value(value)


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
