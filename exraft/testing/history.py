"""What clients asked of a cluster, when, and what they were told: the evidence to be judged.

Knows calls, answers and the order of events, from a simulation's clock or from real threads.
Must not know what the right answers are, nor how a cluster works.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal, TypeVar, overload

from exraft.codec import copy_exception, encode, own_copy
from exraft.errors import ExRaftError, NotSerialisable, machines_own, maybe_applied

Kind = Literal["write", "read"]
"""Whether a call may change the state; one that is a "read" never does."""

_Reply = TypeVar("_Reply")


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, or have the same pickle.

    Objects of a class without `__eq__`, and NaN, never equal their copies.
    """
    if one == other:
        return True
    if type(one) is not type(other) or isinstance(one, Raised):
        return False
    try:
        return encode(one) == encode(other)
    except NotSerialisable:
        return False


class Raised:
    """An answer that is an exception of the machine's own.

    Equal to another of the same type with arguments that are equal or have the same pickle. One
    of our own errors, such as a `MachineError`, is equal to another with the same reason: its
    text may name servers and indexes. Notes and attributes don't count.
    """

    __slots__ = ("exception",)

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Raised):
            return NotImplemented
        mine, its = self.exception, other.exception
        if type(mine) is not type(its):
            return False
        if isinstance(mine, ExRaftError) and isinstance(its, ExRaftError):
            return mine.reason == its.reason
        return alike(mine.args, its.args)

    def __hash__(self) -> int:
        return hash(type(self.exception))

    def __repr__(self) -> str:
        return f"raised {self.exception!r}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client.

    Attributes:
        client: who called.
        call: the command or the query.
        kind: whether it was a command ("write") or a query ("read").
        invoked: when it began, in seconds of any clock that all operations share.
        returned: when it ended; `None` if it never did, so that its effect may come at any
            later time, or never.
        result: what it answered; means nothing if it never returned.
        raised: whether the machine's callback raised `result`, an exception.

    Raises:
        ValueError: `kind` is another word, a time is no number, or it ended before it began.
    """

    client: str
    call: Any
    kind: Kind
    invoked: float
    returned: float | None = None
    result: Any = None
    raised: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("write", "read"):
            raise ValueError(f'kind is "write" or "read", not {self.kind!r}')
        ended = self.invoked if self.returned is None else self.returned
        if not -math.inf < self.invoked <= ended < math.inf:
            raise ValueError(
                f"an operation begins at a finite time and ends no earlier, not"
                f" {self.invoked!r} to {self.returned!r}"
            )

    @property
    def pending(self) -> bool:
        """Whether it never returned."""
        return self.returned is None

    @property
    def answer(self) -> Any:
        """What a model's answer is compared with: the result, or `Raised`."""
        return Raised(self.result) if self.raised else self.result

    def __str__(self) -> str:
        answer = "?" if self.pending else _plain(self.answer)
        return f"{self.client}: {self.asked} -> {answer}"

    @property
    def asked(self) -> str:
        """The call in few words, such as `put x 1` or `read x`."""
        call = self.call
        if isinstance(call, tuple) and call and isinstance(call[0], str):
            return " ".join(_plain(part) for part in call)
        return f"{self.kind} {_plain(call)}"


class History(Sequence[Operation]):
    """Records the operations of many clients, and is the sequence of them, by invocation.

    Safe from any thread. Two ways to record:

    - `write` and `read` run a call and take the time from `clock`:
      `history.write("alice", command, lambda: ExRaft.write(":raft1", command))`
    - `invoke`, then `complete` or `fail`, with times of your own, as from a simulated clock.
      Events are to be recorded in the order in which they happened.

    What was neither completed nor failed stays pending.

    Args:
        operations: to begin with, in any order.
        clock: gives the time in seconds to those calls that are not told it; the time since the
            history was made, if not given.
    """

    def __init__(
        self,
        operations: Iterable[Operation] = (),
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        began = time.monotonic()
        self._clock = clock or (lambda: time.monotonic() - began)
        self._lock = Lock()
        # By token. A failed operation leaves nothing.
        self._recorded: dict[int, Operation] = dict(enumerate(operations))
        self._next = len(self._recorded)
        self._sorted: tuple[Operation, ...] | None = None
        self._now = -math.inf
        self._stamp = -math.inf

    def invoke(self, client: str, call: Any, kind: Kind, at: float | None = None) -> int:
        """Record that a client calls, just before it does; returns the operation's token.

        Args:
            client: who calls.
            call: the command or query; a copy is kept.
            kind: "write" or "read".
            at: when, in seconds; by default the clock's time. Of events at the same instant,
                the one that is recorded first is taken to have been first.
        """
        call = own_copy(call)
        with self._lock:
            token = self._next
            self._recorded[token] = Operation(client, call, kind, self._time(at))
            self._next += 1
            self._sorted = None
            return token

    def complete(
        self, token: int, result: Any, at: float | None = None, *, raised: bool = False
    ) -> None:
        """Record that a call has returned.

        Args:
            token: the operation, as `invoke` returned it.
            result: what it answered; a copy is kept.
            at: when, in seconds; by default the clock's time.
            raised: whether `result` is an exception, and the machine's answer: what its callback
                raised, or what the caller was told of that (see `exraft.errors.machines_own`).

        Raises:
            KeyError: there is no such operation, or it has failed.
            ValueError: it has returned already.
        """
        result = _exception(result) if raised else own_copy(result)
        with self._lock:
            operation = self._pending(token)
            self._recorded[token] = replace(
                operation, returned=self._time(at), result=result, raised=raised
            )
            self._sorted = None

    def fail(self, token: int) -> None:
        """Record that a call surely had no effect and never will: it leaves the history.

        Raises:
            KeyError: there is no such operation, or it has failed already.
            ValueError: it has returned.
        """
        with self._lock:
            self._pending(token)
            del self._recorded[token]
            self._sorted = None

    def write(self, client: str, command: Any, call: Callable[[], _Reply]) -> _Reply:
        """Run `call`, which writes `command`, and record it; returns what it returns.

        What it raises is raised. If the machine's own callback raised it, that is the answer;
        if by `exraft.maybe_applied` the command surely was not applied, the operation leaves
        the history; else it stays pending.
        """
        return self._run(client, command, "write", call)

    def read(self, client: str, query: Any, call: Callable[[], _Reply]) -> _Reply:
        """Run `call`, which reads `query`, and record it; returns what it returns.

        What it raises is raised. If the machine's own callback raised it, that is the answer;
        else the operation leaves the history: a read has no effect.
        """
        return self._run(client, query, "read", call)

    def _run(self, client: str, asked: Any, kind: Kind, call: Callable[[], _Reply]) -> _Reply:
        token = self.invoke(client, asked, kind)
        try:
            reply = call()
        except BaseException as error:
            if machines_own(error):
                self.complete(token, error, raised=True)
            elif kind == "read" or not maybe_applied(error):
                self.fail(token)
            raise
        self.complete(token, reply)
        return reply

    def _pending(self, token: int) -> Operation:
        operation = self._recorded.get(token)
        if operation is None:
            raise KeyError(f"there is no operation {token}, or it has failed")
        if not operation.pending:
            raise ValueError(f"operation {token} has returned already: {operation}")
        return operation

    def _time(self, at: float | None) -> float:
        # Under a coarse or virtual clock many events share an instant, though one was known to
        # be over when the next was recorded: the smallest step that a float can make says so.
        now = self._clock() if at is None else at
        if now < self._now:
            return now
        if now == self._now or now <= self._stamp:
            self._stamp = math.nextafter(self._stamp, math.inf)
        else:
            self._stamp = now
        self._now = now
        return self._stamp

    def operations(self) -> tuple[Operation, ...]:
        """All that has been recorded so far, by invocation."""
        with self._lock:
            if self._sorted is None:
                self._sorted = tuple(sorted(self._recorded.values(), key=lambda o: o.invoked))
            return self._sorted

    @overload
    def __getitem__(self, index: int) -> Operation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Operation]: ...
    def __getitem__(self, index: int | slice) -> Operation | Sequence[Operation]:
        return self.operations()[index]

    def __len__(self) -> int:
        return len(self.operations())

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations())

    def __repr__(self) -> str:
        operations = self.operations()
        pending = sum(operation.pending for operation in operations)
        clients = len({operation.client for operation in operations})
        return f"<History of {len(operations)} operations of {clients} clients, {pending} pending>"

    def __str__(self) -> str:
        return "\n".join(f"{times(operation):>23}  {operation}" for operation in self.operations())


def times(operation: Operation) -> str:
    """When the operation began and ended, in seconds, for people."""
    end = "..." if operation.returned is None else f"{operation.returned:.6g}"
    return f"{operation.invoked:.6g} - {end}"


def _exception(answer: BaseException) -> Any:
    """A copy without frames, as a caller is told it."""
    if isinstance(answer, ExRaftError) and machines_own(answer):
        # It stands for what the machine did already, and must not be taken for what it raised.
        return own_copy(answer)
    return copy_exception(answer, None, maybe_applied=maybe_applied(answer))


def _plain(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable() and not value.isspace():
        text = value
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
