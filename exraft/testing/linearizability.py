"""Whether there is one order of all operations that explains every answer: linearizability.

Knows what a verdict says, and how a history without an order is made short. Must not know what a
call means, which a model tells, how an order is searched for, nor where a history comes from.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from exraft.testing.history import Operation, Raised, times
from exraft.testing.models import Model
from exraft.testing.search import Found, Search

_SHRINKING = 20_000
"""States that each attempt at a shorter explanation may search."""


class Placed(NamedTuple):
    """An operation at its place in an order, and a moment within its time that suits that order."""

    operation: Operation
    at: float


@dataclass(frozen=True)
class Contradiction:
    """Why there is no order.

    Attributes:
        operations: what contradicts itself: not linearizable, by itself. Each one is needed: were
            one of its reads left out, or the answer and return of one of its writes not known,
            there would be an order (unless `shortest` is false).
        culprit: the one of them that returned last. Without it, all that came before has an order.
        others: writes of the same key, invoked before the culprit returned. Whichever of them are
            allowed to take effect, at any time from their invocation on, there is no order.
        order: an order of what came before the culprit's return, with some of `others`, whose
            answers and returns are left open. So is the culprit itself, if an earlier answer
            depends on its effect.
        place: where in `order` the culprit is, or would come: 0 is before all others.
        state: what the model's state is there, in words.
        expected: what the culprit would have answered there.
        key: what the operations are confined to; `None` if it is the whole state.
        shortest: whether the search for a shorter explanation came to its end everywhere.
    """

    operations: tuple[Operation, ...]
    culprit: Operation
    others: tuple[Operation, ...]
    order: tuple[Placed, ...]
    place: int
    state: str
    expected: Any
    key: Hashable | None
    shortest: bool

    @property
    def reason(self) -> str:
        """What the culprit was told, and what it should have been, in a sentence."""
        place, length = self.place, len(self.order)
        where = (
            "At first"
            if not length
            else "After it"
            if place == length
            else (f"Before place {place + 1}")
        )
        right = str(self.expected) if isinstance(self.expected, Raised) else repr(self.expected)
        return (
            f"{where} the state is {self.state}, and the right answer to `{self.culprit.asked}` is"
            f" {right}, but {self.culprit.client} was told {self.culprit.answer!r}."
        )


@dataclass(frozen=True)
class Verdict:
    """What is known of a history; true if it is linearizable.

    Attributes:
        ok: whether there is an order; `False` as well if that is `unknown`.
        unknown: whether the limit was reached before it was found out.
        order: on "yes", an order of the whole history with the pending writes that took effect.
        contradiction: on "no", the shortest explanation that was found.
        searched: the number of states that were searched.
    """

    ok: bool
    unknown: bool = False
    order: tuple[Placed, ...] = ()
    contradiction: Contradiction | None = None
    searched: int = 0
    history: tuple[Operation, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return self.ok

    def explain(self) -> str:
        """Return the verdict in words, for a terminal."""
        if self.ok:
            return f"linearizable: {len(self.order)} operations in order"
        if self.contradiction is None:
            return f"unknown: the limit was reached after {self.searched} states"
        return _explained(self.contradiction)

    def __str__(self) -> str:
        return self.explain()

    def draw(self, path: str | Path) -> None:
        """Draw the history with its order, or the contradiction; see `exraft.testing.drawing`."""
        from exraft.testing.drawing import draw

        draw(self.history, path, self)


def linearizable(
    history: Iterable[Operation], model: Model[Any], *, limit: int | None = None
) -> Verdict:
    """Decide whether `history` is linearizable with respect to `model`.

    It is if all its completed operations, and some of its pending writes, can be put into one order
    in which each answered what the model answers, and none comes before another that had returned
    before it was invoked (Herlihy and Wing 1990). The initial state is the model's.

    Args:
        history: the operations, in any order.
        model: what each call answers and does.
        limit: the most states to search, over all keys, each of which has its share; `None`
            searches on until it is known, which can take for ever where very many operations of one
            key overlap.

    Returns:
        A verdict, which is true if there is such an order. With a `limit` look at `unknown` too.

    Raises:
        ValueError: the model was caught at being wrong about what overwrites.
        Exception: what the model raises, for example at a call that it doesn't know.
    """
    operations = sorted(history, key=_by_invocation)
    order: list[Placed] = []
    searched = 0
    waiting = _partitions(operations, model)
    # A hard key must not hide the plain "no" of another, so each is given its share of the limit;
    # what the others leave of theirs is then for those that are hard.
    while waiting and (limit is None or searched < limit):
        hard = []
        for number, (key, part) in enumerate(waiting):
            share = None if limit is None else (limit - searched) // (len(waiting) - number)
            found = Search(part, model, key is not None).run(share)
            searched += found.searched
            if found.ok is None:
                hard.append((key, part))
            elif found.ok:
                order += _placed(found.order)
            else:
                return Verdict(
                    False,
                    contradiction=_Shrinking(part, model, key).contradiction(found.passed),
                    searched=searched,
                    history=tuple(operations),
                )
        waiting = hard
    if waiting:
        return Verdict(False, unknown=True, searched=searched, history=tuple(operations))
    # Within a key the moments never go back, and sorting is stable.
    order.sort(key=lambda placed: placed.at)
    return Verdict(True, order=tuple(order), searched=searched, history=tuple(operations))


def _by_invocation(operation: Operation) -> tuple[float, float, str]:
    ended = math.inf if operation.returned is None else operation.returned
    return operation.invoked, ended, operation.client


def _partitions(
    operations: Sequence[Operation], model: Model[Any]
) -> list[tuple[Hashable | None, list[Operation]]]:
    parts: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        key = model.key(operation.call, operation.kind)
        if key is None:
            return [(None, list(operations))]
        parts.setdefault(key, []).append(operation)
    return list(parts.items())


def _placed(order: Sequence[Operation]) -> list[Placed]:
    """Give each operation a moment within its time, none before that of the one before it."""
    earliest = list(accumulate((o.invoked for o in order), max))
    ends = [math.inf if o.returned is None else o.returned for o in order]
    latest = list(accumulate(reversed(ends), min))[::-1]
    horizon = max((end for end in (*ends, *earliest) if end < math.inf), default=0.0)
    # The middle of what is possible.
    return [
        Placed(operation, begin + (max(begin, min(end, horizon)) - begin) / 2)
        for operation, begin, end in zip(order, earliest, latest, strict=True)
    ]


class _Shrinking:
    """Makes a short contradiction out of operations of one key that have no order.

    Two steps never turn a history that has an order into one that has none, so what they leave
    without an order was the reason before as well: to leave a read out, and to forget when a write
    returned and what it answered, as if it were pending. (To leave a write out is no such step:
    that alone may be why a read has no explanation.)
    """

    def __init__(
        self, operations: Sequence[Operation], model: Model[Any], key: Hashable | None
    ) -> None:
        self._model = model
        self._key = key
        self._operations = operations
        self._completed = sorted(
            (o for o in operations if o.returned is not None), key=lambda o: o.returned or 0.0
        )
        self._shortest = True

    def contradiction(self, passed: int) -> Contradiction:
        """Explain it, given how many operations, by their return, surely have an order."""
        core = self._minimal(self._completed[: self._first_failing(passed) + 1])
        *before, culprit = core
        others = self._others(before, culprit)
        found = self._search(before, others)
        if not found.ok and culprit.kind == "write":
            # An answer that came before the culprit's may have made use of its effect.
            found = self._search(before, [*others, culprit])
        order = found.order
        place = next((i for i, o in enumerate(order) if o is culprit), len(order))
        state = self._model.initial
        for operation in order[:place]:
            _, state = self._model.step(state, operation.call, operation.kind)
        expected, _ = self._model.step(state, culprit.call, culprit.kind)
        return Contradiction(
            operations=tuple(sorted(core, key=_by_invocation)),
            culprit=culprit,
            others=tuple(others),
            order=tuple(_placed(order)),
            place=place,
            state=self._model.describe(state),
            expected=expected,
            key=self._key,
            shortest=self._shortest and found.ok is True,
        )

    def _first_failing(self, low: int) -> int:
        """The number of the first operation with whose return there is no order any more."""
        high = len(self._completed) - 1
        middle = low
        while low < high:
            if self._fails(self._completed[: middle + 1]):
                high = middle
            else:
                low = middle + 1
            middle = (low + high) // 2
        return high

    def _minimal(self, core: list[Operation]) -> list[Operation]:
        """Leave out what isn't needed, in ever smaller pieces; what was needed once stays so."""
        *kept, culprit = core
        size = len(kept)
        while size:
            start = 0
            while start < len(kept):
                fewer = kept[:start] + kept[start + size :]
                if self._fails([*fewer, culprit]):
                    kept = fewer
                else:
                    start += size
            size //= 2
        return [*kept, culprit]

    def _fails(self, core: list[Operation]) -> bool:
        ok = self._search(core, self._others(core[:-1], core[-1])).ok
        if ok is None:
            self._shortest = False
        return ok is False

    def _search(self, core: list[Operation], others: list[Operation]) -> Found:
        """Search for an order of `core` and of whichever of `others` take effect."""
        freed = [replace(o, returned=None, result=None, raised=False) for o in others]
        found = Search([*core, *freed], self._model, self._key is not None).run(_SHRINKING)
        original = {id(free): other for free, other in zip(freed, others, strict=True)}
        return replace(found, order=[original.get(id(o), o) for o in found.order])

    def _others(self, core: list[Operation], last: Operation) -> list[Operation]:
        """Writes beside `core` and `last` that may have had an effect before `last` returned."""
        end = last.returned or 0.0
        inside = {id(operation) for operation in (*core, last)}
        return [
            operation
            for operation in self._operations
            if operation.kind == "write"
            and operation.invoked <= end
            and id(operation) not in inside
        ]


def _explained(why: Contradiction) -> str:
    culprit = why.culprit
    about = "" if why.key is None else f" about {why.key!r}"
    lines = [f"not linearizable: these operations{about} contradict each other", ""]
    for operation in why.operations:
        mark = "   <- has no place" if operation is culprit else ""
        lines.append(f"  {times(operation):>23}  {operation}{mark}")
    lines.append("")
    if not why.shortest:
        lines += ["Perhaps not all of them are needed for it: the search for fewer was cut.", ""]
    if why.others:
        several = len(why.others) > 1
        lines += [
            f"{len(why.others)} other write{'s' * several} may take effect at any time from"
            f" {'their' if several else 'its'} invocation on, or never: that does not help.",
            "",
        ]
    if why.order:
        lines.append("What came before has an order, for example:")
        for place, (operation, _) in enumerate(why.order, 1):
            needed = any(operation is each for each in why.operations)
            answer = "" if needed or operation.pending else " (or whatever it answered)"
            lines.append(f"  {place}. {operation}{answer}")
    lines.append(why.reason)
    return "\n".join(lines)
