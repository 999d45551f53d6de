"""A Pykka actor that lives and dies like an OTP process.

Knows one thread, its mailbox, its clock and its exit; must not know who supervises it, or what its
messages mean.

Two rules keep it. **Nothing escapes the loop**: whatever a callback raises, `SystemExit` included,
becomes the exit reason of this process and of no other (Pykka would stop every actor there is).
**Dying has an order**: Pykka forgets the actor; `on_stop` or `on_failure`; the names are free; the
mailbox is closed and what is left in it refused; whoever waits for an answer, or for the stop,
gets it; the monitors are told. So who is told can start a successor that never overlaps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from queue import Empty
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors import watching
from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import Mailbox, ProcessDown, refuse
from exraft.actors.registry import ActorRegistry
from exraft.actors.watching import Down, Monitor, ProcessRef
from exraft.errors import StartFailed

__all__ = [
    "DEFERRED",
    "Exit",
    "ExitSignal",
    "Process",
    "ProcessDown",
    "is_orderly",
    "send",
    "send_exit",
]

logger = logging.getLogger("exraft.actors")

BATCH: Final = 100
"""How many messages are handled at most before the clock is looked at."""


class _Deferred:
    def __repr__(self) -> str:
        return "DEFERRED"


DEFERRED: Final = _Deferred()
"""What `on_receive` returns when it has kept `self.reply_to` and will answer later."""


class Exit(Exception):
    """Raised in any callback of a process, it ends that process (OTP `exit/1`).

    Attributes:
        reason: the exit reason: `"normal"`, `"shutdown"`, `("shutdown", term)`, `"killed"`, or an
            exception; anything else is taken for a failure.
    """

    reason: object

    def __init__(self, reason: object = "normal") -> None:
        super().__init__(reason)
        self.reason = reason


class ExitSignal:
    """Asks a process to end with a reason; overtakes what waits in its mailbox."""

    __slots__ = ("reason",)

    urgent = True

    def __init__(self, reason: object) -> None:
        self.reason = reason


def send_exit(ref: pykka.ActorRef[Any], reason: object) -> None:
    """Ask a process to end with `reason`, without waiting (OTP `exit/2`); use a monitor to wait.

    Nothing happens if it has ended already.

    Raises:
        TypeError: `ref` is of a plain Pykka actor, which would not understand.
    """
    if not isinstance(ref, ProcessRef):
        raise TypeError(f"{ref} has no exit reasons: use its stop()")
    send(ref, ExitSignal(reason))


def send(ref: pykka.ActorRef[Any], message: object) -> None:
    """Put a message object, as it is, into the mailbox of a process; nobody waits for an answer.

    Pykka's `tell` would put an envelope around it. After the process has ended it is refused.
    """
    cast(Mailbox, ref.actor_inbox).put(message)


def leave_behind(ref: pykka.ActorRef[Any]) -> None:
    """Give up a process that does not end (OTP would kill it; a thread can't be killed).

    From now on it counts as dead: its names are free, what waits in its mailbox is refused, and its
    monitors are told that it was `"killed"`. Should its thread ever go on, nobody hears of that.

    Raises:
        TypeError: `ref` is of a plain Pykka actor.
    """
    if not isinstance(ref, ProcessRef):
        raise TypeError(f"{ref} is no process of ours: nobody can be told that it is over")
    pykka.ActorRegistry.unregister(ref)
    ref.actor_stopped.set()
    process = ref._actor_weakref()
    if process is not None:
        process._contain(process.left_behind)
    ActorRegistry.release_names(ref)
    cast(Mailbox, ref.actor_inbox).close()
    ref.watchers.tell(Down(ref, "killed"))


def is_orderly(reason: object) -> bool:
    """Say whether a process with this exit reason ended as it should (OTP `transient`).

    That is `"normal"`, `"shutdown"` and `("shutdown", term)`.
    """
    if isinstance(reason, str):
        return reason in ("normal", "shutdown")
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"


class _Refusal:
    """Answers what a mailbox could not deliver.

    Pykka's envelopes are always answered by us; what else a subclass wants to do with its own
    message objects is up to `redirect`.
    """

    def __init__(
        self, reason: object = "noproc", redirect: Callable[[Any], object] | None = None
    ) -> None:
        self._reason = reason
        self._redirect = redirect

    def __call__(self, item: Any) -> None:
        if self._redirect is None or item.__class__ is Envelope:
            refuse(item, self._reason)
        else:
            self._redirect(item)


class Process(pykka.ThreadingActor):
    """Base of our actors: a daemon thread with OTP's start, exit reasons, monitors and clock.

    It is a Pykka actor in every respect: `tell`, `ask`, `stop` and proxies work. It differs where
    Pykka lets things get lost:

    - `start` returns when `on_start` has, and raises what went wrong in it.
    - A stop overtakes the messages that wait; those are refused, as are later ones. None hangs.
    - An `Exception` under `ask` goes to the caller and the process lives, as in Pykka; any
      other exception, and `Exit`, ends the process with that reason, and this one only.
    - A second or late reply is dropped.

    A subclass implements Pykka's callbacks, or replaces `run`.
    """

    use_daemon_thread = True

    reply_to: OneLockFuture[Any] | None
    """In `on_receive`: the future of who asks, or `None` if nobody waits for an answer."""

    _actor_ref: ProcessRef[Any]
    actor_inbox: Mailbox

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self._actor_ref = ProcessRef(self)
        self.reply_to = None
        self._started: OneLockFuture[None] = OneLockFuture()
        self._deferred: set[OneLockFuture[Any]] = set()
        self._unhandled: list[Any] = []
        self._monitors: dict[object, Monitor] = {}

    # How Pykka makes it.

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox(_Refusal())

    @staticmethod
    def _create_future() -> OneLockFuture[Any]:
        return OneLockFuture()

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Start the process; return its reference when `on_start` has returned.

        Args:
            *args: passed on to the constructor, as are the keywords.

        Raises:
            StartFailed: `on_start` raised, the cause says what; nothing is left of the process.
                Its monitors, if `on_start` handed its reference out, are told.
        """
        process = cls(*args, **kwargs)
        ref = process.actor_ref
        ActorRegistry.register(ref)
        try:
            process._start_actor_loop()
        except BaseException as error:  # no thread could be had
            process._die(error)
            raise StartFailed(cls.__name__, error) from error
        process._started.get()
        return ref

    # What a subclass may use.

    def register(self, name: str) -> None:
        """Take a name; it is free again when this process has ended.

        Raises:
            ValueError: `name` is no name.
            AlreadyStarted: somebody else has it.
        """
        ActorRegistry.register_name(name, self.actor_ref)

    def monitor(self, ref: pykka.ActorRef[Any]) -> Monitor:
        """Have a `Down` told to this process when the other one has ended; see `watching`."""
        key = object()
        monitors, mailbox = self._monitors, self.actor_inbox

        def deliver(down: Down) -> None:
            monitors.pop(key, None)
            mailbox.put(down)

        watch = monitors[key] = watching.monitor(ref, deliver)
        if watch.fired:
            monitors.pop(key, None)
        return watch

    def hand_back(self, items: Iterable[Any]) -> None:
        """Give back items that a loop of its own took and won't handle, as it is about to end.

        They are refused when the mailbox is closed.
        """
        self._unhandled.extend(items)

    # What a subclass may replace, beside Pykka's on_start, on_receive, on_stop and on_failure.

    def deadline(self) -> float | None:
        """When `on_deadline` shall be called, on `time.monotonic()`'s clock; `None`: not at all."""
        return None

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; it must move, or this is called again at once."""

    def about_to_close(self) -> None:
        """Called at the end of life, after `on_stop` or `on_failure`, before the names are free.

        It may reserve a name for a successor, and set `self.actor_inbox.undelivered` to a function
        that passes message objects on to it; Pykka's asks and stops are answered all the same.
        """

    def left_behind(self) -> None:
        """Called in another thread when this process is given up (see `leave_behind`)."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message that is no proxy's; what it returns is the answer.

        Return `DEFERRED` to answer later, through what `self.reply_to` is now. Messages that were
        put into the mailbox as they are, a `Down` for instance, come here too. The default refuses
        them if they can be refused, and logs a warning.
        """
        refuse(message, "noproc")
        return super().on_receive(message)

    def run(self) -> None:
        """Handle messages and deadlines until `Exit`, or another exception, is raised.

        Messages that wait are handled before the clock is looked at (a process that was held up
        does not act on a silence that was none), but at most `BATCH` of them, so that under load
        the time still comes.

        A subclass that takes its messages itself gives Pykka's to `receive`, and if it ends in
        the middle of a batch, gives the rest to `hand_back`. Returning means `"normal"`.
        """
        mailbox = self.actor_inbox
        while True:
            deadline = self.deadline()
            wait = None if deadline is None else deadline - monotonic()
            for _ in range(BATCH):
                try:
                    item = mailbox.get(wait)
                except Empty:
                    break
                self.receive(item)
                if mailbox.empty():
                    break
                wait = 0.0
            deadline = self.deadline()
            if deadline is not None and (now := monotonic()) >= deadline:
                self.on_deadline(now)

    def receive(self, item: Any) -> None:
        """Handle one item of the mailbox: one of Pykka's envelopes, or a message as it is.

        Raises:
            Exit: the item asks the process to end, or a callback raised it.
            BaseException: what a callback raised and no caller can be given.
        """
        if item.__class__ is not Envelope:
            if item.__class__ is ExitSignal:
                raise Exit(item.reason)
            self.on_receive(item)
            return
        message, future = item.message, item.reply_to
        if future is None:
            if message.__class__ is _ActorStop:
                raise Exit("normal")
            self._handle_receive(message)
            return
        if message.__class__ is _ActorStop:
            # Answered when everything is over, like those stops that still wait.
            self.hand_back([item])
            raise Exit("normal")
        self._answer(message, cast(OneLockFuture[Any], future))

    def _answer(self, message: Any, future: OneLockFuture[Any]) -> None:
        self.reply_to = future
        try:
            response = self._handle_receive(message)
        except Exit:
            self._defer(future)
            raise
        except Exception as error:
            logger.info("Exception returned from %s to caller:", self, exc_info=True)
            future.fail(error)
        except BaseException:
            # In the caller's thread it would end the caller too: it gets a ProcessDown.
            self._defer(future)
            raise
        else:
            if response is DEFERRED:
                self._defer(future)
            else:
                future.set(response)
        finally:
            self.reply_to = None

    def _defer(self, future: OneLockFuture[Any]) -> None:
        self._deferred.add(future)
        future.on_done(self._deferred.discard)

    # The life.

    def _actor_loop(self) -> None:
        try:
            self.on_start()
        except BaseException as error:
            self._die(error)
            self._started.fail(StartFailed(type(self).__name__, error))
            return
        self._started.set()
        try:
            self.run()
            reason: object = "normal"
        except Exit as exit_:
            reason = exit_.reason
        except BaseException as error:
            reason = error
        self._die(reason, self._say_goodbye)

    def _die(self, reason: object, goodbye: Callable[[object], object] | None = None) -> None:
        self._contain(self._leave_pykka)
        if goodbye is not None:
            reason = goodbye(reason)
        self._contain(self.about_to_close)
        self._contain(lambda: ActorRegistry.release_names(self._actor_ref))
        self._contain(lambda: self._close(reason))
        self._contain(lambda: self._actor_ref.watchers.tell(Down(self.actor_ref, reason)))

    def _leave_pykka(self) -> None:
        pykka.ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()

    def _say_goodbye(self, reason: object) -> object:
        """Run the callback for this exit reason; return the reason that it is in the end."""
        if is_orderly(reason):
            try:
                self.on_stop()
            except Exit as exit_:
                return exit_.reason
            except BaseException as error:
                logger.error("%s failed to stop:", self, exc_info=error)
                return error
        else:
            failure = reason if isinstance(reason, BaseException) else Exit(reason)
            logger.error("%s failed:", self, exc_info=failure)
            self._contain(lambda: self.on_failure(type(failure), failure, failure.__traceback__))
        return reason

    def _close(self, reason: object) -> None:
        mailbox = self.actor_inbox
        redirect = mailbox.undelivered
        mailbox.undelivered = _Refusal(reason, None if isinstance(redirect, _Refusal) else redirect)
        for watch in list(self._monitors.values()):
            watch.cancel()
        mailbox.close()
        # A copy: late repliers take theirs out meanwhile.
        for future in list(self._deferred):
            future.fail(ProcessDown(reason))
        # The stop that ended it is among them, and is answered last.
        for item in self._unhandled:
            mailbox.put(item)
        self._unhandled.clear()

    def _contain(self, step: Callable[[], object]) -> None:
        # Whatever one step of dying raises, the next ones must follow.
        try:
            step()
        except BaseException:
            logger.exception("%s failed at its end:", self)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Called when the process ends with a failure (an exception, `"killed"`, ...).

        A reason that is no exception comes as an `Exit` that carries it.
        """
