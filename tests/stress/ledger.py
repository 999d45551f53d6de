"""A ledger whose every transfer is accounted for, on both sides of the API.

Knows the machine that the servers run, and the books of what its callers were told. Must not know
which faults happen meanwhile: whatever they are, the two must agree in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeAlias

import exraft
from exraft import StateMachine

ACCOUNTS = tuple(f"account {number}" for number in range(8))
OPENING = 100
EVERYTHING = "everything"

Transfer: TypeAlias = tuple[str, str, str, int]
"""(unique id, from, to, amount)."""


class Overdraft(Exception):
    """The account holds less than is to be taken from it."""


@dataclass
class Accounts:
    balances: dict[str, int]
    made: dict[str, int] = field(default_factory=dict)
    """How often each transfer, by its id, was made."""
    count: int = 0
    """Transfers made; never goes back."""


class Ledger(StateMachine):
    def init(self, init_arg: Any) -> Accounts:
        return Accounts(dict.fromkeys(ACCOUNTS, OPENING))

    def handle_write(self, command: Transfer, state: Accounts) -> tuple[int, Accounts]:
        """Answers the number of the transfer: the first one made is 1."""
        unique, source, target, amount = command
        if state.balances[source] < amount:
            raise Overdraft(unique)
        state.balances[source] -= amount
        state.balances[target] += amount
        state.made[unique] = state.made.get(unique, 0) + 1
        state.count += 1
        return state.count, state

    def handle_read(self, query: str, state: Accounts) -> Any:
        """The count of transfers, and whether the one that is asked for was made; or everything."""
        if query == EVERYTHING:
            return state
        return state.count, query in state.made


class Books:
    """What callers were told of their transfers, and whether it is linearizable so far.

    The count that an operation answers is at least that of every operation that had ended before
    this one began: `floor` before, `seen` after.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._floor = 0
        self._numbers: set[int] = set()
        self.acknowledged: dict[str, int] = {}
        self.refused: set[str] = set()
        self.definite: set[str] = set()
        self.unknown: set[str] = set()
        self.why: Counter[str] = Counter()
        """Failed writes by the type of their error."""
        self.reads = 0
        self.violations: list[str] = []

    @property
    def floor(self) -> int:
        return self._floor

    def any_acknowledged(self) -> str:
        """The last one; empty if there is none yet."""
        with self._lock:
            return next(reversed(self.acknowledged), "")

    def acknowledge(self, unique: str, number: int, floor: int) -> None:
        with self._lock:
            self.acknowledged[unique] = number
            if number in self._numbers:
                self.violations.append(f"two transfers were told that they are number {number}")
            self._numbers.add(number)
            if number <= floor:
                self.violations.append(f"{unique} is number {number} although {floor} came before")
            self._floor = max(self._floor, number)

    def fail(self, unique: str, error: BaseException) -> None:
        with self._lock:
            self.why[type(error).__name__] += 1
            if isinstance(error, Overdraft):
                self.refused.add(unique)
            elif exraft.maybe_applied(error):
                self.unknown.add(unique)
            else:
                self.definite.add(unique)

    def see(self, count: int, floor: int, unique: str, found: bool) -> None:
        """A linearizable read, begun when `floor` was known and `unique` acknowledged."""
        with self._lock:
            self.reads += 1
            if count < floor:
                self.violations.append(f"a read saw {count} transfers after {floor} were seen")
            if not found:
                self.violations.append(f"a read did not see {unique}, acknowledged before")
            self._floor = max(self._floor, count)

    def audit(self, replicas: Mapping[str, Accounts]) -> list[str]:
        """Compare with every replica; return what is wrong."""
        wrong = list(self.violations)
        for name, state in replicas.items():
            made = state.made
            wrong += [
                f"{name}: acknowledged {each} is lost" for each in self.acknowledged.keys() - made
            ]
            wrong += [f"{name}: {each} was made {n} times" for each, n in made.items() if n != 1]
            wrong += _found(name, "failed for certain", self.definite, made)
            wrong += _found(name, "was refused", self.refused, made)
            if state.count != len(made):
                wrong.append(f"{name}: counted {state.count} transfers and made {len(made)}")
            if sum(state.balances.values()) != OPENING * len(ACCOUNTS):
                wrong.append(f"{name}: money was made or lost: {state.balances}")
            if min(state.balances.values()) < 0:
                wrong.append(f"{name}: overdrawn: {state.balances}")
        first, *others = replicas.items()
        for name, state in others:
            if state != first[1]:
                wrong.append(f"{name} differs from {first[0]}")
        return wrong


def _found(name: str, what: str, ids: Iterable[str], made: Mapping[str, int]) -> list[str]:
    return [f"{name}: {each} {what}, and was made" for each in ids if each in made]
