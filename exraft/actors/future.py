"""What a caller waits on: a `pykka.Future` that costs little more than a lock.

Knows one outcome and who waits for it; must not know what is asked, or of whom.

The rule of the file: **the first outcome stands**. A list holds a token and whoever waits.
Taking the token out is atomic and can succeed once, so it decides between racing setters; and
whoever waits is taken out of the list by one thread only, so each is told exactly once. A thread
that finds no outcome brings its own lock: a future that is answered before anyone waits needs none.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from _thread import LockType, allocate_lock
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

import pykka

logger = logging.getLogger("exraft.actors")

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")

ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

_PENDING: Any = object()


class _Failure:
    """An outcome that is raised, always with the traceback it came with."""

    __slots__ = ("error", "traceback")

    def __init__(self, error: BaseException, traceback: TracebackType | None) -> None:
        self.error = error
        self.traceback = traceback


class _Call:
    """A callback in the list; compared by identity, whatever the callback's own `__eq__` does."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[Any], object]) -> None:
        self.callback = callback


class _Hook(Generic[T]):
    """How the value of a derived future (`map`, `join`, ...) comes about.

    `sources` are the futures it is made of, or `None` if only the function knows.
    """

    __slots__ = ("func", "lock", "sources")

    def __init__(self, func: Callable[[float | None], T]) -> None:
        self.func = func
        self.sources: tuple[OneLockFuture[Any], ...] | None = None
        # Reentrant as Pykka's: a hook may look at its own future.
        self.lock = threading.RLock()


class OneLockFuture(pykka.Future[T]):
    """A `pykka.Future` for hot roads, safe from any thread.

    Unlike Pykka's own, it drops a second outcome instead of raising `queue.Full` in the
    replier's thread, it can call back, and `await` does not block the event loop.
    """

    __slots__ = ("_outcome", "_waiting")

    _outcome: Any
    _waiting: list[Any]
    _derived: _Hook[T] | None = None

    def __init__(self) -> None:
        # Not Pykka's constructor: it would double the price of a future for two attributes
        # that only its own get() needs.
        self._waiting = [None]  # None is the token
        self._outcome = _PENDING

    def __repr__(self) -> str:
        return f"<OneLockFuture {'done' if self.done() else 'pending'}>"

    def set(self, value: T | None = None) -> bool:  # type: ignore[override]
        """Set the value; say whether it was the first outcome (a later one is dropped)."""
        # As _settle, without the call: every reply comes this way.
        try:
            self._waiting.remove(None)
        except ValueError:
            return False
        self._outcome = value
        if self._waiting:
            self._tell()
        return True

    def fail(self, error: BaseException) -> bool:
        """Set an exception to be raised; say whether it was the first outcome."""
        return self._settle(_Failure(error, error.__traceback__))

    def set_exception(self, exc_info: ExcInfo | None = None) -> bool:  # type: ignore[override]
        """Set an exception from an `exc_info` triple, or the one that is being handled.

        Returns:
            whether it was the first outcome.

        Raises:
            ValueError: there is no exception.
        """
        kind, error, traceback = sys.exc_info() if exc_info is None else exc_info
        if error is None:
            if kind is None:
                raise ValueError("set_exception without an exception: pass exc_info")
            error = kind()
        return self._settle(_Failure(error, traceback))

    def _settle(self, outcome: Any) -> bool:
        try:
            self._waiting.remove(None)
        except ValueError:
            return False
        self._outcome = outcome
        if self._waiting:
            self._tell()
        return True

    def _tell(self) -> None:
        waiting = self._waiting
        while waiting:
            try:
                waiter = waiting.pop(0)
            except IndexError:
                return  # another thread told the last one
            if waiter.__class__ is LockType:
                waiter.release()
            else:
                self._call(waiter.callback)

    def _call(self, callback: Callable[[OneLockFuture[T]], object]) -> None:
        try:
            callback(self)
        except Exception:
            # The caller is the setter: somebody else, often an actor in the middle of its work.
            logger.exception("A callback of a future failed")

    def done(self) -> bool:
        """Say whether `get()` would return or raise the outcome at once."""
        if self._outcome is not _PENDING:
            return True
        hook = self._derived
        if hook is None or hook.sources is None:
            return False
        return all(source.done() for source in hook.sources)

    def on_done(self, callback: Callable[[OneLockFuture[T]], object]) -> None:
        """Call `callback(future)` once, when the outcome is there.

        That is in the setter's thread, or at once in this one if it is there already. The callback
        must be quick; what it raises is logged. For a future derived with Pykka's
        `set_get_hook()`, whose making nobody but the hook knows, a daemon thread waits.
        """
        hook = self._derived
        if hook is None:
            self._wait_with(_Call(callback))
        elif hook.sources is None:
            threading.Thread(target=self._await_hook, args=(callback,), daemon=True).start()
        else:
            self._after(list(hook.sources), callback)

    def _wait_with(self, waiter: _Call | LockType) -> None:
        self._waiting.append(waiter)
        # The setter either finds the waiter in the list, or has set the outcome before.
        if self._outcome is not _PENDING:
            self._tell()

    def _drop(self, waiter: _Call | LockType) -> None:
        # Not there: it was told in this very moment.
        with suppress(ValueError):
            self._waiting.remove(waiter)

    def _after(
        self,
        sources: list[OneLockFuture[Any]],
        callback: Callable[[OneLockFuture[T]], object],
    ) -> None:
        if sources:
            sources.pop(0).on_done(lambda _: self._after(sources, callback))
        else:
            self._call(callback)

    def _await_hook(self, callback: Callable[[OneLockFuture[T]], object]) -> None:
        try:
            self.get()
        except BaseException:
            # An outcome like any other: whoever is called back will meet it in get().
            logger.debug("A derived future failed", exc_info=True)
        self._call(callback)

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value, or raise the exception; wait at most `timeout` seconds.

        May be called again and by several threads.

        Raises:
            pykka.Timeout: no outcome in time.
        """
        outcome = self._outcome
        if outcome is _PENDING:
            if self._derived is not None:
                return self._get_derived(self._derived, timeout)
            outcome = self._wait(timeout)
        if outcome.__class__ is _Failure:
            raise outcome.error.with_traceback(outcome.traceback)
        return outcome  # type: ignore[no-any-return]

    def _wait(self, timeout: float | None) -> Any:
        lock = allocate_lock()
        lock.acquire()
        self._wait_with(lock)
        if not _acquire(lock, timeout):
            self._drop(lock)
            if self._outcome is _PENDING:
                raise pykka.Timeout(f"{timeout} seconds")
        return self._outcome

    # Derived futures: the value is computed in the thread that gets it, as in Pykka.

    def _get_derived(self, hook: _Hook[T], timeout: float | None) -> T:
        if not _acquire(hook.lock, timeout):
            raise pykka.Timeout(f"{timeout} seconds")
        try:
            if self._outcome is _PENDING:
                self._outcome = hook.func(timeout)
            return self._outcome  # type: ignore[no-any-return]
        finally:
            hook.lock.release()

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let `func(timeout)` make the value at the first `get()`; see Pykka.

        For a new future that nobody waits on yet.

        Raises:
            queue.Full: the future has an outcome.
        """
        hook = _Hook(func)
        try:
            self._waiting.remove(None)
        except ValueError:
            raise queue.Full from None
        self._derived = hook

    def _made_of(self, *sources: pykka.Future[Any]) -> None:
        known = tuple(source for source in sources if isinstance(source, OneLockFuture))
        if self._derived is not None and len(known) == len(sources):
            self._derived.sources = known

    def map(self, func: Callable[[T], M]) -> OneLockFuture[M]:
        """Return a future of `func(value)`; `func` runs where that is got."""
        return _derive(super().map(func), self)

    def filter(
        self: OneLockFuture[Iterable[J]], func: Callable[[J], bool]
    ) -> OneLockFuture[Iterable[J]]:
        """Return a future of the list of those items of the value that pass `func`."""
        return _derive(pykka.Future.filter(self, func), self)

    def join(self: OneLockFuture[Any], *futures: pykka.Future[Any]) -> OneLockFuture[Iterable[Any]]:
        """Return a future of the list of this value and those of `futures`."""
        return _derive(pykka.Future.join(self, *futures), self, *futures)

    def reduce(
        self: OneLockFuture[Iterable[J]], func: Callable[[R, J], R], *args: R
    ) -> OneLockFuture[R]:
        """Return a future of the value's items reduced by `func`, from `args` if given."""
        return _derive(pykka.Future.reduce(self, func, *args), self)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            # asyncio takes longer to import than everything else here, and who awaits has it.
            import asyncio

            loop = asyncio.get_running_loop()
            woken: asyncio.Future[None] = loop.create_future()

            def wake(_: object) -> None:
                # The loop may be closed by now: then nobody waits any longer.
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_resolve, woken)

            if self._derived is None:
                waiter = _Call(wake)
                self._wait_with(waiter)
                try:
                    yield from woken
                finally:
                    # A wait that was cancelled leaves nothing behind.
                    self._drop(waiter)
            else:
                self.on_done(wake)
                yield from woken
        return self.get()

    __iter__ = __await__


def _acquire(lock: Any, timeout: float | None) -> bool:
    if timeout is None:
        return bool(lock.acquire())
    if timeout <= 0.0:
        return bool(lock.acquire(False))
    return bool(lock.acquire(True, min(timeout, threading.TIMEOUT_MAX)))


def _resolve(woken: Any) -> None:
    if not woken.done():
        woken.set_result(None)


def _derive(future: pykka.Future[M], *sources: pykka.Future[Any]) -> OneLockFuture[M]:
    # Pykka made it of the class of its first source.
    assert isinstance(future, OneLockFuture)
    future._made_of(*sources)
    return future
