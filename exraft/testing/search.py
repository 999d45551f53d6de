"""The search for an order of operations in which a model gives every answer that was given.

Knows places, states and what may come next. Must not know why there is no order, if there is none,
nor that there are other keys.

The search is Wing and Gong's (1993): place one operation after the other, each of those that no
unplaced one precedes in real time, and go back where the model answers otherwise. With Lowe's memo
(2017), nothing is gone on from twice if the operations placed and the state are the same. And:

- Completed operations are numbered by their return, and the unplaced one that returned first is
  the *urgent* one: what was invoked after its return must wait for it. So those placed are told by
  the number of the urgent one and a few bits, and what may come next by a short list, made once for
  each number. (This takes the place of the linked list of events in Lowe's and later checkers.)
- A read that fits is placed at once and for good: from any order in which it comes later it can be
  moved to here.
- A pending write may be placed at any time, or never. It is tried last, unless the urgent operation
  needs it; of equal ones only the first invoked that is left; and not at all where the same place
  and state was reached with fewer of them: whatever can follow here can follow there.
- Where that is not soon enough, `exraft.testing.needs` tells which ways lead nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from exraft.codec import encode
from exraft.testing.history import Operation
from exraft.testing.models import Model
from exraft.testing.needs import Needs, needs_of

_QUICK = 5
"""States to be searched for each operation, and for 20 more, before all states are looked at."""

_UNNEEDED: Any = object()
"""Stands for all states that no unplaced operation can tell from others."""

_Chain: TypeAlias = "tuple[Operation, _Chain] | None"
"""The operations placed so far, the last one first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has come to."""

    ok: bool | None
    """`None`: the limit was reached."""
    order: list[Operation]
    """A witness if it is, else the longest one: of those that got furthest, the first."""
    passed: int
    """How many completed operations, by their return, that order has without a gap."""
    state: Any
    searched: int


class _Config(NamedTuple):
    """A point of the search: what has been placed, and the state after that."""

    urgent: int
    """The number of the unplaced completed operation that returned first."""
    ahead: int
    """Those placed after it in number: bit i is number `urgent + i`."""
    used: int
    """The pending writes placed: a bit for each."""
    state: Any
    chain: _Chain
    after_pending: bool = False
    """Whether a pending write came last, and so nothing has yet made use of it."""
    completed_tried: bool = False
    """Whether only the pending writes are left to be tried from here."""


class Search:
    """Looks for an order of operations that are to be judged together.

    Args:
        operations: in any order.
        model: what they are held against.
        confined: whether they are all those of one key.
    """

    def __init__(self, operations: Sequence[Operation], model: Model[Any], confined: bool) -> None:
        self._model = model
        self._completed = sorted(
            (o for o in operations if o.returned is not None), key=lambda o: o.returned or 0.0
        )
        # A pending read tells nothing and does nothing.
        self._pending = sorted(
            (o for o in operations if o.returned is None and o.kind == "write"),
            key=lambda o: o.invoked,
        )
        self._answers = [operation.answer for operation in self._completed]
        self._candidates = _candidates(self._completed)
        self._available = _available(self._completed, self._pending)
        self._twin_before = _twins(self._pending)
        self._confined = confined
        self._overwritten = [self._overwrites(operation) for operation in self._pending]
        self._needs: Needs | None = None
        # For each place and state the sets of pending writes it was reached with, none of which
        # is a part of another.
        self._visited: dict[tuple[int, int, Any], tuple[int, ...]] = {}

    def _overwrites(self, operation: Operation) -> bool:
        call, kind = operation.call, operation.kind
        # What a call does to its key says nothing of the other keys of a state.
        apart = self._confined or self._model.key(call, kind) is None
        return apart and self._model.overwrites(call, kind)

    def run(self, limit: int | None) -> Found:
        """Search, after `limit` states no further."""
        quick = _QUICK * (20 + len(self._completed))
        found = self._run(quick if limit is None else min(quick, limit))
        if found.ok is not None or found.searched == limit:
            return found
        left = None if limit is None else limit - found.searched
        self._needs = needs_of(self._completed, self._pending, self._model, self._overwrites)
        more = self._run(left)
        return replace(more, searched=found.searched + more.searched)

    def _run(self, limit: int | None) -> Found:
        self._visited.clear()
        end = len(self._completed)
        searched = 0
        best = start = _Config(0, 0, 0, self._model.initial, None)
        needs = self._needs
        stack = [start] if needs is None or needs.allow_start(start.state) else []
        while stack:
            if searched == limit:
                return Found(None, _unrolled(best.chain), best.urgent, best.state, searched)
            searched += 1
            config = stack.pop()
            if config.completed_tried:
                self._push_pending(stack, config, self._pending_next(config))
                continue
            config, fitting = self._settle(config)
            if config.urgent > best.urgent:
                best = config
            if config.urgent == end:
                return Found(True, _unrolled(config.chain), end, config.state, searched)
            if fitting is not None:
                self._branch(stack, config, fitting)
        return Found(False, _unrolled(best.chain), best.urgent, best.state, searched)

    def _settle(self, config: _Config) -> tuple[_Config, list[tuple[int, Any]] | None]:
        """Place all that fits and changes nothing. Return where that leads, and what else fits, as
        (number, state after it); or `None` if it was there before."""
        step, matches = self._model.step, self._model.matches
        completed, answers = self._completed, self._answers
        urgent, ahead, state, chain = config.urgent, config.ahead, config.state, config.chain
        fitting: list[tuple[int, Any]] = []
        while urgent < len(completed):
            fitting = []
            for number in self._candidates[urgent]:
                if ahead >> (number - urgent) & 1:
                    continue
                operation = completed[number]
                expected, after = step(state, operation.call, operation.kind)
                if not matches(expected, answers[number]):
                    continue
                if operation.kind == "read":
                    ahead |= 1 << (number - urgent)
                    chain = operation, chain
                else:
                    fitting.append((number, after))
            if not ahead & 1:
                harmless = self._harmless(fitting, state, urgent, ahead)
                if harmless is None:
                    break
                number, state = harmless
                ahead |= 1 << (number - urgent)
                chain = completed[number], chain
            urgent, ahead = _advanced(urgent, ahead)
        if chain is config.chain:
            return config, fitting
        config = _Config(urgent, ahead, config.used, state, chain)
        return config, fitting if self._is_new(config) else None

    def _harmless(
        self, fitting: list[tuple[int, Any]], state: Any, urgent: int, ahead: int
    ) -> tuple[int, Any] | None:
        """A write among those that fit, after which going back can't be called for."""
        needs = self._needs
        if needs is None or not needs.settled or not fitting:
            return None
        if needs.is_needed(state, urgent, ahead):
            return None
        for number, after in fitting:
            if needs.is_closed(number, after, urgent, ahead):
                return number, after
        return None

    def _branch(
        self, stack: list[_Config], config: _Config, fitting: list[tuple[int, Any]]
    ) -> None:
        """Push what may come next, the most promising last: it is taken first."""
        urgent = config.urgent
        if fitting and fitting[0][0] == urgent:
            if self._available[urgent]:
                stack.append(
                    _Config(
                        urgent, config.ahead, config.used, config.state, config.chain,
                        config.after_pending, completed_tried=True,
                    )
                )  # fmt: skip
            self._push_completed(stack, config, fitting)
            return
        pending = self._pending_next(config)
        self._push_pending(stack, config, [n for n in pending if not self._enables(urgent, n[1])])
        self._push_completed(stack, config, [n for n in fitting if not self._enables(urgent, n[1])])
        self._push_pending(stack, config, [n for n in pending if self._enables(urgent, n[1])])
        self._push_completed(stack, config, [n for n in fitting if self._enables(urgent, n[1])])

    def _enables(self, urgent: int, state: Any) -> bool:
        """Whether the urgent operation fits in `state`."""
        operation = self._completed[urgent]
        expected, _ = self._model.step(state, operation.call, operation.kind)
        return self._model.matches(expected, self._answers[urgent])

    def _pending_next(self, config: _Config) -> list[tuple[int, Any]]:
        """The pending writes that may be of use here, each with the state after it."""
        result = []
        used = config.used
        for number in range(self._available[config.urgent]):
            if used >> number & 1:
                continue
            twin = self._twin_before[number]
            if twin is not None and not used >> twin & 1:
                continue
            # What it overwrites would better not have been placed.
            if config.after_pending and self._overwritten[number]:
                continue
            operation = self._pending[number]
            _, after = self._model.step(config.state, operation.call, operation.kind)
            if after != config.state:
                result.append((number, after))
        return result

    def _push_completed(
        self, stack: list[_Config], config: _Config, which: list[tuple[int, Any]]
    ) -> None:
        for number, after in reversed(which):
            if self._needs is not None and not self._needs.allow(
                config.state, after, number, config.urgent, config.ahead, config.used
            ):
                continue
            ahead = config.ahead | 1 << (number - config.urgent)
            urgent, ahead = _advanced(config.urgent, ahead)
            chain = self._completed[number], config.chain
            self._push(stack, _Config(urgent, ahead, config.used, after, chain))

    def _push_pending(
        self, stack: list[_Config], config: _Config, which: list[tuple[int, Any]]
    ) -> None:
        for number, after in reversed(which):
            used = config.used | 1 << number
            if self._needs is not None and not self._needs.allow(
                config.state, after, None, config.urgent, config.ahead, used
            ):
                continue
            chain = self._pending[number], config.chain
            self._push(stack, _Config(config.urgent, config.ahead, used, after, chain, True))

    def _push(self, stack: list[_Config], config: _Config) -> None:
        # Remembered when it is pushed, not when it is taken: whatever is pushed will be taken.
        if self._is_new(config):
            stack.append(config)

    def _is_new(self, config: _Config) -> bool:
        urgent, ahead, used, state = config[:4]
        needs = self._needs
        if needs is not None and needs.settled and not needs.is_needed(state, urgent, ahead):
            state = _UNNEEDED
        place = urgent, ahead, state
        before = self._visited.get(place)
        if before is None:
            self._visited[place] = (used,)
            return True
        for fewer in before:
            if fewer & used == fewer:
                return False
        self._visited[place] = (*(more for more in before if used & more != used), used)
        return True


def _advanced(urgent: int, ahead: int) -> tuple[int, int]:
    """Skip those that are placed already."""
    skipped = (~ahead & (ahead + 1)).bit_length() - 1
    return urgent + skipped, ahead >> skipped


def _candidates(completed: Sequence[Operation]) -> list[tuple[int, ...]]:
    """For each number those from it on that were invoked no later than it returned."""
    by_invocation = sorted(range(len(completed)), key=lambda number: completed[number].invoked)
    result = []
    invoked = 0
    open_now: dict[int, None] = {}
    for urgent, operation in enumerate(completed):
        returned = operation.returned or 0.0
        while (
            invoked < len(by_invocation) and completed[by_invocation[invoked]].invoked <= returned
        ):
            open_now[by_invocation[invoked]] = None
            invoked += 1
        result.append(tuple(sorted(open_now)))
        del open_now[urgent]
    return result


def _available(completed: Sequence[Operation], pending: Sequence[Operation]) -> list[int]:
    """For each number how many pending ones were invoked no later than it returned."""
    result = []
    count = 0
    for operation in completed:
        returned = operation.returned or 0.0
        while count < len(pending) and pending[count].invoked <= returned:
            count += 1
        result.append(count)
    return result


def _twins(pending: Sequence[Operation]) -> list[int | None]:
    """For each the one before it with an equal call: in any order the two may change places."""
    last: dict[bytes, int] = {}
    result = []
    for number, operation in enumerate(pending):
        call = encode(operation.call)
        result.append(last.get(call))
        last[call] = number
    return result


def _unrolled(chain: _Chain) -> list[Operation]:
    order = []
    while chain is not None:
        operation, chain = chain
        order.append(operation)
    order.reverse()
    return order
