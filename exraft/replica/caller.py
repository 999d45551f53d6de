"""Who waits for an answer of the machine, as far as the machine's side needs to know.

Knows that a caller can be told a result or an error, once. Must not know how the caller waits: on a
future between threads, or in the virtual time of a simulation.
"""

from __future__ import annotations

from typing import Any, Protocol


class Reply(Protocol):
    """What is told to a caller; only the first outcome counts."""

    @property
    def may_apply(self) -> bool:
        """Whether the call may change something although no answer comes."""

    def set(self, value: Any = None, /) -> object: ...
    def fail(self, error: BaseException, /) -> object: ...


class Caller(Protocol):
    @property
    def reply(self) -> Reply: ...
