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
import threading
from collections.abc import Callable, Iterable
from queue import Empty
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors import fence, lineage, links, watching
from exraft.actors.exits import Exit, ExitSignal, Order, is_orderly, let_go
from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import Mailbox, ProcessDown, refuse
from exraft.actors.registry import ActorRegistry
from exraft.actors.timers import Timer, Timers
from exraft.actors.watching import Down, Monitor, ProcessRef
from exraft.errors import StartFailed

__all__ = ["DEFERRED", "Process", "ProcessDown"]

logger = logging.getLogger("exraft.actors")

BATCH: Final = 100
"""How many messages are handled at most before the clock is looked at."""


class _Deferred:
    def __repr__(self) -> str:
        return "DEFERRED"


DEFERRED: Final = _Deferred()
"""What `on_receive` returns when it has kept `self.reply_to` and will answer later."""


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
    """Base of our actors: a daemon thread with OTP's start, links, monitors, timers and exits.

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

    trap_exit: bool = False
    """Whether exit signals of others, and of links, come to `on_receive` instead of ending it."""

    _actor_ref: ProcessRef[Any]
    actor_inbox: Mailbox

    # What the fence knows of it.
    thread: threading.Thread | None = None
    killed = False
    over = False
    last_started: pykka.ActorRef[Any] | None = None
    spawning = False

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        self._actor_ref = ProcessRef(self, self)
        self._ancestors = lineage.here()
        self._timers = Timers()
        self.reply_to = None
        self._ordered = False
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
            Exit: the calling thread was given up, and starts nobody.
        """
        lineage.must_go_on()
        process = cls(*args, **kwargs)
        ref = process.actor_ref
        lineage.begets(ref)
        ActorRegistry.register(ref)
        if process.killed:
            pykka.ActorRegistry.unregister(ref)
        try:
            try:
                process._start_actor_loop()
            except Exception as error:  # no thread could be had
                process._die(error)
                raise StartFailed(cls.__name__, error) from error
            finally:
                lineage.begot()
            process._started.get()
        except StartFailed:
            raise
        except BaseException:
            # Ctrl-C, say: nobody waits for it any more, and nobody would have its reference.
            ref.stop(block=False)
            raise
        return ref

    @property
    def ancestors(self) -> lineage.Lineage:
        """Who started it, who started that one, and so on up (OTP's `$ancestors`)."""
        return self._ancestors

    @property
    def starting(self) -> bool:
        """Whether who starts it waits for its `on_start`."""
        return not self._started.done()

    @property
    def waited_for(self) -> bool:
        """Whether who starts it waits for its `on_start`, or a supervisor for its end."""
        return self._ordered or self.starting

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
        watch.on_cancel = lambda: monitors.pop(key, None)
        if watch.fired:
            monitors.pop(key, None)
        return watch

    def link(self, ref: pykka.ActorRef[Any]) -> None:
        """Link this process and another (OTP `link/1`); once, however often it is called.

        If one ends with another reason than `"normal"`, the other ends with that reason too; if it
        traps exits, it is told by an `ExitSignal` of any reason instead. One that has ended
        already counts as ended with `"noproc"`.

        Raises:
            TypeError: `ref` is of a plain Pykka actor that nobody watches.
        """
        links.link(self.actor_ref, ref)

    def unlink(self, ref: pykka.ActorRef[Any]) -> None:
        """Undo `link`; nothing happens if there is none."""
        links.unlink(self.actor_ref, ref)

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Have `message` come to `on_receive` in `seconds` seconds (OTP `send_after/2`).

        It comes after what waits by then. The timer ends with the process. To be called in its
        own thread; there is no other: the mailbox is the clock.

        Raises:
            ValueError: `seconds` is no number from 0 on.
            RuntimeError: it is called in another thread.
        """
        if self.thread is not None and self.thread is not threading.current_thread():
            raise RuntimeError(
                f"send_after of {self} is called in another thread: send it a message"
            )
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ValueError(f"send_after takes a number of seconds from 0 on, not {seconds!r}")
        timer = Timer(monotonic() + seconds, message)
        self._timers.add(timer)
        return timer

    def cancel_timer(self, timer: Timer | None) -> float | None:
        """Cancel what `send_after` has set (OTP `cancel_timer/1`); nothing happens for `None`.

        Returns:
            the seconds that were left, or `None` if its message has come, or it was cancelled.
        """
        if timer is None:
            return None
        left = max(0.0, timer.at - monotonic())
        return left if self._timers.cancel(timer) else None

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

    def on_order(self, order: Order) -> None:
        """A supervisor orders this process to end; by default it ends with that reason at once.

        A subclass may go on for a while, but no longer than `order.patience`.
        """
        raise Exit(order.reason)

    def left_behind(self) -> None:
        """Called in the killer's thread when this process is given up (see `ending.kill`).

        A subclass calls this one too.
        """
        for watch in list(self._monitors.values()):
            watch.cancel()
        self.abandon()

    def start_failed(self, reason: object) -> None:
        """Tell who waits for the start of this process, if any does, that it failed."""
        self._started.fail(StartFailed(type(self).__name__, reason))

    def abandon(self) -> None:
        """Answer who waits for an answer: it was given up.

        Called in the killer's thread, and should its own go on, there as well when it ends: for
        what it had in hand at that moment. A subclass calls this one too.
        """
        waiting = self.reply_to
        if waiting is not None:
            waiting.fail(ProcessDown("killed"))
        for future in list(self._deferred):
            future.fail(ProcessDown("killed"))
        for item in self._unhandled:
            refuse(item, "killed")

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
        while not self.killed:
            deadline = self._wake_at()
            wait = None if deadline is None else deadline - monotonic()
            for _ in range(BATCH):
                try:
                    item = mailbox.get(wait)
                except Empty:
                    break
                self.receive(item)
                if mailbox.empty() or self.killed:
                    break
                wait = 0.0
            if self._wake_at() is not None and not self.killed:
                self._look_at_the_clock()

    def _wake_at(self) -> float | None:
        deadline, due = self.deadline(), self._timers.next()
        if deadline is None or due is None:
            return due if deadline is None else deadline
        return min(deadline, due)

    def _look_at_the_clock(self) -> None:
        now = monotonic()
        while (timer := self._timers.pop_due(now)) is not None:
            self.on_receive(timer.message)
            if self.killed:
                return
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self.on_deadline(now)

    def receive(self, item: Any) -> None:
        """Handle one item of the mailbox: one of Pykka's envelopes, or a message as it is.

        Raises:
            Exit: the item asks the process to end, or a callback raised it.
            BaseException: what a callback raised and no caller can be given.
        """
        if self.killed:
            # It has taken it, and not yet looked at it.
            refuse(item, "killed")
            return
        if item.__class__ is not Envelope:
            if item.__class__ is ExitSignal and not self.trap_exit:
                if item.counts:
                    raise Exit(item.reason)
            elif item.__class__ is Order:
                self._ordered = True
                self.on_order(item)
            else:
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
        if self.killed:
            # Who gave it up may have looked before it had this in hand.
            future.fail(ProcessDown("killed"))
            return
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
            reason = self._live()
        finally:
            fence.leave(self)
        # The frames of the traceback hold this one too.
        del self
        let_go(reason)

    def _live(self) -> object:
        self.thread = threading.current_thread()
        lineage.enter((self._actor_ref, *self._ancestors))
        if self.killed:
            return None
        try:
            self.on_start()
        except BaseException as error:
            self._die(error)
            if not self.killed:
                self.start_failed(error)
            return None
        if self.killed:
            return None
        self._started.set()
        try:
            self.run()
            reason: object = "normal"
        except Exit as exit_:
            reason = exit_.reason
        except BaseException as error:
            reason = error
        if self.killed:
            self.abandon()
        else:
            self._die(reason, self._say_goodbye)
        return reason

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
                if not self.killed:
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
        # Whatever one step of dying raises, the next ones must follow; unless it was given up
        # meanwhile: then they were taken by who did.
        if self.killed:
            return
        try:
            step()
        except BaseException:
            if self.killed:
                return
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
