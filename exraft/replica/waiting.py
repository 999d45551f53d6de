"""Who waits for which entry to be applied.

Knows calls by term and index, and when one of them can't be answered with a result any more. Must
not know what the entries hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from exraft.errors import CommandDropped, OutcomeUnknown
from exraft.replica.caller import Caller

C = TypeVar("C", bound=Caller)

_PASSED = (
    "a snapshot jumped past its index, so the server can't tell what became of the command, which"
    " may have been applied: read the state before writing it again"
)


class Waiting(Generic[C]):
    """The calls whose entries are in the log and not applied yet.

    A leader that steps down keeps them: its entries may be committed by the next one.
    """

    __slots__ = ("_by_term",)

    def __init__(self) -> None:
        self._by_term: dict[int, dict[int, C]] = {}

    def __bool__(self) -> bool:
        return any(self._by_term.values())

    def __len__(self) -> int:
        return sum(map(len, self._by_term.values()))

    def __iter__(self) -> Iterator[C]:
        for calls in self._by_term.values():
            yield from calls.values()

    def add(self, term: int, index: int, call: C) -> None:
        calls = self._by_term.get(term)
        if calls is None:
            calls = self._by_term[term] = {}
        calls[index] = call

    def take(self, term: int, index: int) -> C | None:
        """Who waits for the entry that is applied now.

        Whoever waits for one that can't be committed any more gets `CommandDropped`: that is
        another one at this index, and, as terms never fall along a log, every one of an earlier
        term from here on.
        """
        by_term = self._by_term
        if len(by_term) == 1 and term in by_term:
            return by_term[term].pop(index, None)
        for other_term, calls in list(by_term.items()):
            if other_term < term:
                lost = list(calls.values())
                del by_term[other_term]
            elif other_term > term and index in calls:
                lost = [calls.pop(index)]
            else:
                continue
            for call in lost:
                call.reply.fail(CommandDropped())
        return by_term[term].pop(index, None) if term in by_term else None

    def pass_by(self, index: int) -> None:
        """A snapshot has jumped past `index`: which entries it stands for can't be told."""
        for calls in self._by_term.values():
            for passed in [each for each in calls if each <= index]:
                calls.pop(passed).reply.fail(OutcomeUnknown(_PASSED))

    def clear(self) -> None:
        self._by_term.clear()
