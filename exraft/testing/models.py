"""What a history is held against: a machine that does one call after the other, as specified.

Knows states, calls and the one right answer to each. Must not know of time, clients or faults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from exraft.codec import copy_exception, copy_reply, decode, encode, own_copy, reveal
from exraft.errors import MachineError, NotSerialisable
from exraft.machine import MachineFactory, check_machine, make_machine
from exraft.testing.history import Kind, Raised, alike

State = TypeVar("State", bound=Hashable)

_EMPTY: list[Any] = []
"""Never handed out: it is serialised at once."""


class Model(ABC, Generic[State]):
    """A sequential specification. Subclass it, or take `MachineModel` for a machine of yours.

    A state is an immutable, hashable value; equal states must behave alike.
    """

    @property
    @abstractmethod
    def initial(self) -> State:
        """The state before the first call."""

    @abstractmethod
    def step(self, state: State, call: Any, kind: Kind) -> tuple[Any, State]:
        """Return the answer to `call` in `state`, and the state after it.

        An answer that is an exception is `Raised(exception)`. A "read" must not change the
        state. Deterministic: the same arguments, the same answer.
        """

    def key(self, call: Any, kind: Kind) -> Hashable | None:
        """Return what the call is confined to, such as a key; `None` if it is the whole state.

        Calls of different keys must neither see nor change what the others do: they are then
        judged apart (Herlihy and Wing 1990, "locality"), which is much faster. As soon as one
        call of a history has no key, all are judged together.
        """
        return None

    def overwrites(self, call: Any, kind: Kind) -> bool:
        """Return whether answer and state after the call are the same whatever it was before.

        The state of its key, if it has one: a `put` overwrites what is kept there. Only for
        speed: `False` is always right, and a wrong `True` makes wrong verdicts.
        """
        return False

    def matches(self, expected: Any, actual: Any) -> bool:
        """Return whether a client that was told `actual` was told what the model answers."""
        return bool(expected == actual)

    def describe(self, state: State) -> str:
        """Return the state in words, for an explanation."""
        return repr(state)


class Register(Model[Hashable]):
    """One value. Commands: `("write", value)`, answered with "ok", and `("cas", old, new)`,
    answered with whether the value was `old`. Any query reads the value.

    Args:
        initial: the first value.
    """

    def __init__(self, initial: Hashable = None) -> None:
        self._initial = initial

    @property
    def initial(self) -> Hashable:
        return self._initial

    def step(self, state: Hashable, call: Any, kind: Kind) -> tuple[Any, Hashable]:
        if kind == "read":
            return state, state
        match call:
            case ("write", value):
                return "ok", value
            case ("cas", old, new):
                return (True, new) if state == old else (False, state)
        raise ValueError(f"{call!r} is no command of a register")

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return kind == "write" and bool(call[0] == "write")


class KeyValue(Model["Items"]):
    """Values by key, as in `examples/kv_store.py`.

    Commands: `("put", key, value)`, answered with "ok"; `("delete", key)`, answered with what was
    there, or `None`; `("cas", key, old, new)`, answered with whether it was `old`. A query is a
    key, answered with its value, or `None`.

    Args:
        initial: the first keys and values.
    """

    def __init__(self, initial: Mapping[Any, Any] | None = None) -> None:
        self._initial = Items(dict(initial or {}))

    @property
    def initial(self) -> Items:
        return self._initial

    def step(self, state: Items, call: Any, kind: Kind) -> tuple[Any, Items]:
        held = state.held
        if kind == "read":
            return held.get(call), state
        match call:
            case ("put", key, value):
                return "ok", Items({**held, key: value})
            case ("delete", key):
                if key not in held:
                    return None, state
                return held[key], Items({k: v for k, v in held.items() if k != key})
            case ("cas", key, old, new):
                if held.get(key) != old:
                    return False, state
                return True, Items({**held, key: new})
        raise ValueError(f"{call!r} is no command of a key-value store")

    def key(self, call: Any, kind: Kind) -> Hashable:
        found: Hashable
        if kind == "read":
            found = call
            return found
        match call:
            case ("put", key, _) | ("delete", key) | ("cas", key, _, _):
                found = key
                return found
        raise ValueError(f"{call!r} is no command of a key-value store")

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return kind == "write" and bool(call[0] == "put")

    def describe(self, state: Items) -> str:
        return repr(state.held)


class Items:
    """A mapping that never changes."""

    __slots__ = ("_hash", "held")

    def __init__(self, held: dict[Any, Any]) -> None:
        self.held = held
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Items) and self.held == other.held)

    def __hash__(self) -> int:
        if self._hash is None:
            found = 0
            for item in self.held.items():
                # Added up: equal mappings may have been filled in another order.
                found += _hash(item)
            self._hash = hash(found)
        return self._hash

    def __repr__(self) -> str:
        return repr(self.held)


def _hash(item: tuple[Hashable, Any]) -> int:
    try:
        return hash(item)
    except TypeError:  # The value is a list or the like: the key alone must do.
        return hash(item[0])


class Counter(Model[int]):
    """One number. A command is a number to be added, answered with the sum; any query reads it.

    Args:
        initial: the first number.
    """

    def __init__(self, initial: int = 0) -> None:
        self._initial = initial

    @property
    def initial(self) -> int:
        return self._initial

    def step(self, state: int, call: Any, kind: Kind) -> tuple[Any, int]:
        if kind == "read":
            return state, state
        return state + call, state + call


class MachineModel(Model[bytes]):
    """A `StateMachine` of yours as its own specification: run alone, one call after the other.

    Does with returns and exceptions what a server does: an exception is the answer, and the state
    stays (what was changed in place stays changed); a return of another shape is a `MachineError`.
    Side effects do not run, `is_command` is not asked and no configuration is told, as all of a
    cluster's refusals leave the history. A state is kept serialised, so the machine may change in
    place what it is given.

    Args:
        machine: the class, or a function that makes one, as for `ExRaft.start_server`.
        init_arg: what its `init` is given; an empty list by default.
        key: what a call is confined to; see `Model.key`. It is a promise about your machine.
        overwrites: see `Model.overwrites`; a promise as well.

    Raises:
        TypeError: `machine` is none.
        NotSerialisable: `init_arg` or the first state can't be serialised. `step` raises it of
            later states.
        Exception: what `init` raises; and in `step`, `MemoryError` and `RecursionError` of a
            write, which would crash a server.
    """

    def __init__(
        self,
        machine: MachineFactory,
        init_arg: Any = _EMPTY,
        *,
        key: Callable[[Any, Kind], Hashable | None] | None = None,
        overwrites: Callable[[Any, Kind], bool] | None = None,
    ) -> None:
        self._machine = make_machine(check_machine(machine))
        self._initial = encode(self._machine.init(decode(encode(init_arg))))
        self._key = key
        self._overwrites = overwrites
        self._known: dict[tuple[bytes, bytes, Kind], tuple[Any, bytes]] = {}

    @property
    def initial(self) -> bytes:
        return self._initial

    def step(self, state: bytes, call: Any, kind: Kind) -> tuple[Any, bytes]:
        asked = state, encode(call), kind
        known = self._known.get(asked)
        if known is None:
            run = self._write if kind == "write" else self._read
            known = self._known[asked] = run(state, own_copy(call))
        return known

    def _write(self, data: bytes, command: Any) -> tuple[Any, bytes]:
        state = decode(data)
        try:
            result = self._machine.handle_write(command, state)
        except (MemoryError, RecursionError):
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return _raised(error, maybe_applied=True), encode(state)
        if isinstance(result, tuple) and (
            len(result) == 2 or (len(result) == 3 and _are_effects(result[2]))
        ):
            reply, after = result[:2]
            return _told(reply, maybe_applied=True), encode(after)
        text = f"handle_write returned {result!r}"
        malformed = MachineError("malformed return", text, maybe_applied=True)
        return Raised(malformed), encode(state)

    def _read(self, data: bytes, query: Any) -> tuple[Any, bytes]:
        try:
            reply = self._machine.handle_read(query, decode(data))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return _raised(error, maybe_applied=False), data
        return _told(reply, maybe_applied=False), data

    def key(self, call: Any, kind: Kind) -> Hashable | None:
        return None if self._key is None else self._key(call, kind)

    def overwrites(self, call: Any, kind: Kind) -> bool:
        return self._overwrites is not None and self._overwrites(call, kind)

    def matches(self, expected: Any, actual: Any) -> bool:
        return alike(expected, actual)

    def describe(self, state: bytes) -> str:
        return repr(decode(state))


def _are_effects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(callable(effect) for effect in value)


def _raised(error: BaseException, *, maybe_applied: bool) -> Raised:
    return Raised(copy_exception(error, None, maybe_applied=maybe_applied))


def _told(reply: Any, *, maybe_applied: bool) -> Any:
    """The reply as a caller gets it: a copy, or the refusal to make one."""
    try:
        return reveal(copy_reply(reply, maybe_applied=maybe_applied), maybe_applied=maybe_applied)
    except (NotSerialisable, MachineError) as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return Raised(error)
