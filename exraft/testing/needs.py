"""What may still be seen of a state: which operations need it, and which writes can bring it back.

Knows all states of a small state space and what each call does in each. Must not know how orders
are searched for: it only tells that search which ways lead nowhere, and which can do no harm.

A register that twenty clients write at once has a million orders, and a few reads rule out nearly
all of them: what has been written must not be overwritten before everybody who saw it has had his
turn. That can be told ahead of the search, of any model whose states can be counted (Gibbons and
Korach 1997 do it for a register of unique values, which then needs no search at all).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from exraft.codec import encode
from exraft.testing.history import Operation
from exraft.testing.models import Model

_STEPS = 500_000
"""What may be asked of the model before the state space is called too large."""

_STATES = 3
"""How many states an operation may account for before the state space is called endless."""

_AHEAD = 32
"""How many operations ahead are looked at: more would prune little more."""


class Needs:
    """The state space of a set of operations.

    Attributes:
        settled: whether a state that nobody needs is as good as any other of that sort: no pending
            write's effect depends on the state in which it is placed.
    """

    settled: bool

    def __init__(
        self, completed: Sequence[Operation], pending: Sequence[Operation], space: _Space
    ) -> None:
        self._completed = completed
        self._pending = pending
        self._ids = space.ids
        states = range(len(space.ids))
        self.settled = all(space.is_constant(o) for o in pending)
        # By state, the numbers of the operations.
        self._needing: list[list[int]] = [[] for _ in states]
        self._leading: list[list[int]] = [[] for _ in states]
        self._pending_leading: list[list[int]] = [[] for _ in states]
        self._fits: list[dict[int, None] | None] = []
        """By operation, the states in which it fits; `None` if it fits everywhere."""
        self._harmless: list[bool] = []
        """By operation, whether it fits everywhere and always leads to the same state."""
        for number, operation in enumerate(completed):
            fits = space.fits(operation)
            constant = operation.kind == "read" or space.is_constant(operation)
            self._fits.append(fits)
            self._harmless.append(fits is None and constant)
            if not self._harmless[number]:
                for state in states if fits is None else fits:
                    self._needing[state].append(number)
            if operation.kind == "write":
                for state in space.lands(operation, fits):
                    self._leading[state].append(number)
        for number, operation in enumerate(pending):
            for state in space.lands(operation, None):
                self._pending_leading[state].append(number)
        for numbers in (*self._needing, *self._leading, *self._pending_leading):
            numbers.sort()

    def is_needed(self, state: Hashable, urgent: int, ahead: int) -> bool:
        """Whether an unplaced operation can tell `state` from others."""
        return (
            next(self._unplaced(self._needing, self._ids[state], urgent, ahead), None) is not None
        )

    def is_closed(self, number: int, after: Hashable, urgent: int, ahead: int) -> bool:
        """Whether operation `number`, which leads to `after`, can be placed here for good, if the
        present state is not needed: whoever needs what it leads to is a read that can follow now.

        From any order the whole block can then be moved to here: what comes next here, and what
        came after it there, are operations that fit everywhere.
        """
        if not self._harmless[number]:
            return False
        now = self._completed[urgent].returned or 0.0
        return all(
            self._completed[needing].kind == "read" and self._completed[needing].invoked <= now
            for needing in self._unplaced(self._needing, self._ids[after], urgent, ahead)
        )

    def allow(
        self, state: Hashable, after: Hashable, by: int | None, urgent: int, ahead: int, used: int
    ) -> bool:
        """Whether `state` may be left for `after`: nobody is left behind who needs it.

        The places are those before operation `by` is placed, or a pending write (`None`), which
        is in `used` already.
        """
        before, then = self._ids[state], self._ids[after]
        looked_at = 0
        for number in self._unplaced(self._needing, before, urgent, ahead):
            fits = self._fits[number]
            if fits is not None and number != by and then not in fits:
                if not self._can_come_back(number, fits, by, urgent, ahead, used):
                    return False
                looked_at += 1
                if looked_at == _AHEAD:
                    break
        return True

    def allow_start(self, initial: Hashable) -> bool:
        """Whether each operation fits in `initial`, or can be brought about."""
        first = self._ids[initial]
        return all(
            fits is None or first in fits or self._can_come_back(number, fits, None, 0, 0, 0)
            for number, fits in enumerate(self._fits)
        )

    def _can_come_back(
        self, number: int, fits: dict[int, None], by: int | None, urgent: int, ahead: int, used: int
    ) -> bool:
        returned = self._completed[number].returned or 0.0
        if len(fits) > _AHEAD:
            return True
        for state in fits:
            writes = self._unplaced(self._leading, state, urgent, ahead)
            for looked_at, write in enumerate(writes):
                if looked_at == _AHEAD:
                    return True
                if write not in (number, by) and self._completed[write].invoked <= returned:
                    return True
            for write in self._pending_leading[state]:
                if not used >> write & 1 and self._pending[write].invoked <= returned:
                    return True
        return False

    @staticmethod
    def _unplaced(table: list[list[int]], state: int, urgent: int, ahead: int) -> Iterator[int]:
        numbers = table[state]
        for index in range(bisect_left(numbers, urgent), len(numbers)):
            if not ahead >> (numbers[index] - urgent) & 1:
                yield numbers[index]


def needs_of(
    completed: Sequence[Operation],
    pending: Sequence[Operation],
    model: Model[Any],
    overwrites: Callable[[Operation], bool],
) -> Needs | None:
    """Find out what is needed; `None` if the state space is too large to be counted."""
    space = _Space(model)
    if space.explore([*completed, *pending], overwrites) and space.affords(completed):
        return Needs(completed, pending, space)
    return None


class _Ids(dict[Any, int]):
    """Numbers of states."""

    def __missing__(self, state: Any) -> int:
        raise ValueError(
            f"the model came to {state!r}, and did not when each call was tried in each state:"
            " it says of a call that it overwrites, which does not, or is not deterministic"
        )


class _Space:
    """All states that any of the calls can lead to, and what each call does in each."""

    def __init__(self, model: Model[Any]) -> None:
        self._model = model
        self._states: list[Any] = [model.initial]
        self.ids = _Ids({model.initial: 0})
        self._does: dict[bytes, list[tuple[Any, int]]] = {}
        """By call, for each state the answer and the state after it; only one if all are alike."""
        self._constant: dict[bytes, bool] = {}
        self._fits: dict[tuple[bytes, bytes], dict[int, None] | None] = {}
        self._steps = 0

    def explore(
        self, operations: Sequence[Operation], overwrites: Callable[[Operation], bool]
    ) -> bool:
        """Return whether it is small enough."""
        calls = {_name(operation): operation for operation in operations}
        blind = {name: operation for name, operation in calls.items() if overwrites(operation)}
        others = {name: operation for name, operation in calls.items() if name not in blind}
        self._does = {name: [] for name in calls}
        for name, operation in blind.items():
            self._ask(name, operation, self._model.initial)
        explored = 0
        while explored < len(self._states):
            for name, operation in others.items():
                self._ask(name, operation, self._states[explored])
            if self._steps > _STEPS or len(self._states) > _STATES * (len(operations) + 10):
                return False
            explored += 1
        for name, operation in blind.items():
            expected, after = self._model.step(self._states[-1], operation.call, operation.kind)
            known, landing = self._does[name][0]
            if self.ids.get(after) != landing or not self._model.matches(known, expected):
                raise ValueError(f"the model says that {operation.call!r} overwrites: it does not")
        return True

    def affords(self, completed: Sequence[Operation]) -> bool:
        """Whether the answers can be compared with all that would fit."""
        comparisons = {
            (name := _name(operation), encode(operation.answer)): len(self._does[name])
            for operation in completed
        }
        return sum(comparisons.values()) <= _STEPS

    def _ask(self, name: bytes, operation: Operation, state: Any) -> None:
        self._steps += 1
        expected, after = self._model.step(state, operation.call, operation.kind)
        if after not in self.ids:
            self.ids[after] = len(self._states)
            self._states.append(after)
        self._does[name].append((expected, self.ids[after]))

    def fits(self, operation: Operation) -> dict[int, None] | None:
        """The states in which it fits; `None` if they are all."""
        name = _name(operation), encode(operation.answer)
        if name not in self._fits:
            does = self._does[name[0]]
            matches, answer = self._model.matches, operation.answer
            found = [state for state, (said, _) in enumerate(does) if matches(said, answer)]
            self._fits[name] = None if len(found) == len(does) else dict.fromkeys(found)
        return self._fits[name]

    def is_constant(self, operation: Operation) -> bool:
        """Whether it leads to the same state from everywhere."""
        name = _name(operation)
        if name not in self._constant:
            self._constant[name] = len({after for _, after in self._does[name]}) == 1
        return self._constant[name]

    def lands(self, operation: Operation, fits: dict[int, None] | None) -> list[int]:
        """The states that it can lead to."""
        does = self._does[_name(operation)]
        if fits is None:
            return list(dict.fromkeys(after for _, after in does))
        return list(dict.fromkeys(does[state][1] for state in fits))


def _name(operation: Operation) -> bytes:
    return operation.kind.encode() + encode(operation.call)
