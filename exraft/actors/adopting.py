"""Any unchanged `pykka.ThreadingActor` as a process: watched, ended and killed like one of ours.

Knows Pykka's loop and what it lets get lost, and puts another in its place, on the one instance.
Must not know who wants to have the actor, nor what its callbacks do.

What its author knows of Pykka stays true: an exception under `ask` goes to who asked, one under
`tell` to `on_failure`, a stop calls `on_stop`, and proxies work. What differs makes it a process:

- Who starts it waits for `on_start`, and gets what it raises.
- A `BaseException` (`SystemExit`, say) ends this actor instead of all actors; `on_stop` is called
  as in Pykka, and who asked gets a `ProcessDown`.
- A stop overtakes the messages that wait, those of the same sender too; they are refused, as are
  later ones. So no `ask` hangs.
- **Dying has an order**, that of `Process`: Pykka forgets the actor; `on_stop` or `on_failure`; the
  names are free; the mailbox is closed and what is left in it refused; whoever waits for an answer,
  or for the stop, gets it; the monitors are told.
- Its thread is a daemon, so that a forgotten one does not keep the program from its exit.

Some things can't be kept: an overridden `start` and a metaclass's `__call__` are passed by, and so
are overridden private hooks of Pykka's, except `_handle_receive` and `_start_actor_loop`.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from exraft.actors import fence, lineage
from exraft.actors.exits import Exit, ExitSignal, Order, let_go
from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import Mailbox, refuse
from exraft.actors.process import Process
from exraft.actors.registry import ActorRegistry
from exraft.actors.watching import Down, ProcessRef
from exraft.errors import StartFailed

__all__ = ["adopt"]

logger = logging.getLogger("exraft.actors")

A = TypeVar("A", bound=pykka.ThreadingActor)


def adopt(
    cls: type[A], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> ProcessRef[A]:
    """Start a Pykka actor as a process; return its reference when `on_start` has returned.

    It is made in this thread, as by `cls(*args, **kwargs)`. A reference that its constructor gave
    away is the one that is returned, and works as well.

    Raises:
        StartFailed: the constructor or `on_start` raised, or no thread could be had; the cause says
            what. Nothing is left of the actor. Its monitors, if a reference got out, are told.
        TypeError: `cls` is no class of Pykka's threading actors, or is of a `Process`, which has a
            `start` of its own.
        Exit: the calling thread was given up, and starts nobody.
    """
    if not (isinstance(cls, type) and issubclass(cls, pykka.ThreadingActor)):
        raise TypeError(f"{cls!r} is no subclass of pykka.ThreadingActor")
    if issubclass(cls, Process):
        raise TypeError(f"{cls.__name__} is a Process already: use its start()")
    lineage.must_go_on()
    inbox = Mailbox(partial(refuse, reason="noproc"))
    try:
        actor = _make(cls, args, kwargs or {}, inbox)
    except BaseException as error:
        # A reference may have got out of the constructor, and somebody may have asked.
        inbox.close()
        raise StartFailed(cls.__name__, error) from error
    return cast(ProcessRef[A], _Life(actor, inbox).begin())


def _make(cls: type[A], args: Sequence[Any], kwargs: Mapping[str, Any], inbox: Mailbox) -> A:
    actor = cls.__new__(cls, *args, **kwargs)
    # Past a __setattr__ of the class. From the beginning: no message that a thread of the
    # constructor's sends is in an inbox that nobody looks at any more.
    vars(actor)["_create_actor_inbox"] = lambda: inbox
    cls.__init__(actor, *args, **kwargs)
    del vars(actor)["_create_actor_inbox"]
    if "_actor_ref" not in vars(actor):
        raise TypeError(f"{cls.__name__}.__init__ has not called super().__init__()")
    return actor


class _GivenUp(BaseException):
    """Raised in the thread of an actor that was killed, to end it."""


class _Life:
    """What runs in the actor's thread, in place of Pykka's loop; see `fence.Life`."""

    def __init__(self, actor: pykka.ThreadingActor, inbox: Mailbox) -> None:
        self.thread: threading.Thread | None = None
        self.killed = False
        self.over = False
        self.last_started: pykka.ActorRef[Any] | None = None
        self.spawning = False
        self._ordered = False
        self._actor = actor
        self._inbox = inbox
        self._ancestors = lineage.here()
        self._started: OneLockFuture[None] = OneLockFuture()
        # What a callback is at work on (None if on no message), as long as it is. Whoever takes
        # it out, the actor or its killer, answers it, and knows the other will not.
        self._in_hand: deque[Any] = deque()
        # What has ended the actor, and is answered last.
        self._unanswered: deque[Any] = deque()
        self._asked_for: object = "normal"
        self._failure: BaseException | None = None

        ref = actor.actor_ref
        attributes = vars(actor)
        attributes["actor_inbox"] = inbox
        attributes["use_daemon_thread"] = True
        attributes["_handle_failure"] = self._handle_failure
        attributes["_actor_loop"] = self._run
        # The reference changes its class and not its identity: the constructor may have handed
        # it out, and references are compared by identity.
        vars(ref).update(vars(ProcessRef(actor, self)))
        ref.__class__ = ProcessRef
        self._ref = cast(ProcessRef[Any], ref)

    @property
    def starting(self) -> bool:
        return not self._started.done()

    @property
    def waited_for(self) -> bool:
        return self._ordered or self.starting

    def begin(self) -> ProcessRef[Any]:
        """Start the thread, and wait for `on_start`."""
        ref = self._ref
        try:
            lineage.begets(ref)
        except Exit:
            self._die("killed")
            self._part()
            raise
        ActorRegistry.register(ref)
        if self.killed:
            pykka.ActorRegistry.unregister(ref)
        try:
            try:
                self._actor._start_actor_loop()
            except Exception as error:  # no thread could be had
                self._die(error)
                self._part()
                raise StartFailed(ref.actor_class.__name__, error) from error
            finally:
                lineage.begot()
            self._started.get()
        except StartFailed:
            raise
        except BaseException:
            # Ctrl-C, say: nobody waits for it any more, and nobody would have its reference.
            ref.stop(block=False)
            raise
        return ref

    def start_failed(self, reason: object) -> None:
        """Tell who waits for its start, if any does, that it failed."""
        self._started.fail(StartFailed(self._ref.actor_class.__name__, reason))

    def left_behind(self) -> None:
        """Answer who waits for it. In the killer's thread."""
        if not self._refuse(self._in_hand, "killed"):
            # It is in no callback and will begin none. SystemExit must not find it in the midst
            # of ours: giving an answer, say, whose lock would never be free again.
            self.over = True
        self._refuse(self._unanswered, "killed")

    # In the actor's thread.

    def _run(self) -> None:
        try:
            self._live()
        except BaseException:
            # Who was given up ends quietly, wherever the SystemExit of the fence reached it.
            if not self.killed:
                raise
            self._refuse(self._unanswered, "killed")
        finally:
            fence.leave(self)
            self._part()
            let_go(self._failure)

    def _live(self) -> None:
        self.thread = threading.current_thread()
        lineage.enter((self._ref, *self._ancestors))
        try:
            self._call(self._actor.on_start)
        except BaseException as error:
            if self.killed:
                raise
            self._die(error)
            self.start_failed(error)
            return
        self._started.set()
        try:
            while not self._ref.actor_stopped.is_set() and not self.killed:
                self._take(self._inbox.get())
        except BaseException as error:
            # Of no callback: those are contained. It was given up while it waited for a message,
            # or it has answered a foreign future that takes no answer.
            self._fail(error)
        if self.killed:
            raise _GivenUp
        self._die(self._asked_for if self._failure is None else self._failure)

    def _take(self, item: Any) -> None:
        if isinstance(item, Envelope):
            if isinstance(item.message, _ActorStop):
                # Answered when everything is over, like those stops that still wait.
                self._unanswered.append(item)
                self._stop()
            else:
                self._receive(item)
        elif isinstance(item, ExitSignal | Order):
            self._ordered = self._ordered or isinstance(item, Order)
            if isinstance(item, Order) or item.counts:
                self._asked_for = item.reason
                self._stop()
        elif hasattr(item, "refuse"):
            self._refuse(deque([item]), "noproc")
        else:
            self._receive(Envelope(item))

    def _receive(self, envelope: Envelope[Any]) -> None:
        """Handle a message as Pykka's loop does, except that nothing escapes."""
        actor, reply_to = self._actor, envelope.reply_to
        try:
            response = self._call(actor._handle_receive, envelope.message, item=envelope)
        except _GivenUp:
            raise
        except Exception as error:
            if reply_to is None:
                self._fail(error)
                self._call_last(actor.on_failure, *sys.exc_info())
            else:
                logger.info("Exception returned from %s to caller:", actor, exc_info=True)
                reply_to.set_exception()
        except BaseException as error:
            # In the caller's thread it would end the caller too: it gets a ProcessDown.
            self._unanswered.append(envelope)
            # By itself, with Pykka's _stop: then its on_stop has run.
            stopped = self._ref.actor_stopped.is_set()
            self._fail(error)
            if not stopped:
                self._call_last(actor.on_stop)
        else:
            if reply_to is not None:
                reply_to.set(response)

    def _stop(self) -> None:
        self._leave_pykka()
        self._call_last(self._actor.on_stop)

    def _call_last(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            self._call(callback, *args)
        except BaseException as error:
            self._fail(error)

    def _call(self, callback: Callable[..., Any], *args: Any, item: Any = None) -> Any:
        """Call what may take for ever, with the item in hand that it is called for.

        Raises:
            _GivenUp: the actor was killed before it returned, or before it was called.
            BaseException: what it raises.
        """
        hand = self._in_hand
        hand.append(item)
        try:
            # Looked at with the item in hand; the killer looks at the hand when this is set. So
            # one of us finds what the other has not seen.
            if not self.killed:
                return callback(*args)
        finally:
            try:
                hand.pop()
            except IndexError:
                raise _GivenUp from None
        self._unanswered.append(item)
        raise _GivenUp

    def _fail(self, error: BaseException) -> None:
        """It ends with this failure, unless there was another one before."""
        if self.killed:
            raise _GivenUp
        if self._failure is None:
            self._failure = error
        logger.error("%s failed:", self._actor, exc_info=error)
        self._leave_pykka()

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In place of Pykka's. An actor that calls Pykka's _stop itself comes here if that fails.
        assert exception_value is not None
        self._fail(exception_value)

    def _leave_pykka(self) -> None:
        pykka.ActorRegistry.unregister(self._ref)
        self._ref.actor_stopped.set()

    def _die(self, reason: object) -> None:
        self._leave_pykka()
        ActorRegistry.release_names(self._ref)
        self._inbox.undelivered = partial(refuse, reason=reason)
        self._inbox.close()
        self._refuse(self._unanswered, reason)
        self._ref.watchers.tell(Down(self._ref, reason))

    def _part(self) -> None:
        # Who holds the other can be forgotten at once, without a run of the garbage collector.
        del self._actor

    def _refuse(self, items: deque[Any], reason: object) -> bool:
        """Take them out and refuse them; say whether there were any."""
        found = False
        while True:
            try:
                item = items.pop()
            except IndexError:
                return found
            found = True
            try:
                refuse(item, reason)
            except Exception:
                # Nor must the next ones go without an answer for it.
                logger.exception("A message to %s could not be refused", self._ref)
