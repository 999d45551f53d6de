"""Who is called what on this node: `pykka.ActorRegistry` with names.

Knows names, who bears them, and names that are kept free for a successor; must not know what a
bearer is or does, beyond whether it lives.

Finding somebody takes no lock: one look into a dict. Everything that changes the dict takes one.
Between the look and the delivery anything may happen to the bearer, so a delivery relies on two
things that can be closed: a mailbox, which answers what comes too late, and a reservation, which
then says no, upon which the name is looked up again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from threading import Event, Lock, RLock
from typing import Any, ClassVar

import pykka

from exraft.actors import lineage
from exraft.actors.mailbox import refuse
from exraft.actors.watching import Down, ProcessRef, Watchers
from exraft.errors import AlreadyStarted, ServerNotFound
from exraft.names import check_name

logger = logging.getLogger("exraft.actors")

__all__ = ["ActorRegistry", "Reservation"]


def _refuse_noproc(item: object) -> None:
    refuse(item, "noproc")


class Reservation:
    """A name that is taken though nobody lives under it (a server between two lives).

    Made by `ActorRegistry.reserve`. What is delivered to the name meanwhile is parked.
    Ends with `bind` or `free`, whichever is called first; after that, both do nothing.

    Attributes:
        name: the name.
        bearer: who bore it before, or `None`.
    """

    __slots__ = ("_lock", "_parked", "_refuse", "bearer", "name")

    def __init__(
        self,
        name: str,
        bearer: pykka.ActorRef[Any] | None,
        refuse: Callable[[Any], object],
    ) -> None:
        self.name = name
        self.bearer = bearer
        self._refuse = refuse
        self._lock = Lock()
        # None once the reservation has ended.
        self._parked: list[Any] | None = []

    def park(self, item: Any) -> bool:
        """Keep an item for the successor; `False` if the reservation has ended."""
        with self._lock:
            if self._parked is None:
                return False
            self._parked.append(item)
            return True

    def bind(self, ref: pykka.ActorRef[Any]) -> bool:
        """Give the name to `ref`, and what was parked, in order and before anything newer.

        Returns:
            `False` if the reservation had ended.

        Raises:
            ValueError: `ref` is dead, or of a plain Pykka actor; the reservation stays.
        """
        return ActorRegistry._end(self, ref)

    def free(self) -> bool:
        """Give the name up; what was parked is refused.

        Returns:
            `False` if the reservation had ended.
        """
        return ActorRegistry._end(self, None)


class ActorRegistry(pykka.ActorRegistry):
    """`pykka.ActorRegistry` with names (atom-like strings such as `":raft1"`).

    Raft servers and supervisors bear names; users' own actors may too. A dead actor has no name.
    All of it is safe from any thread, and none of it is inherited by a forked child.
    """

    _names: ClassVar[dict[str, pykka.ActorRef[Any] | Reservation]] = {}
    _names_lock: ClassVar[Lock] = Lock()

    @classmethod
    def get_by_name(cls, name: str) -> pykka.ActorRef[Any] | None:
        """Return who bears `name` and lives, or `None`."""
        bearer = cls._names.get(name)
        if bearer is None or bearer.__class__ is Reservation:
            return None
        assert not isinstance(bearer, Reservation)
        return bearer if bearer.is_alive() else None

    @classmethod
    def register_name(cls, name: str, ref: pykka.ActorRef[Any]) -> None:
        """Give `name` to an actor; it loses it when it ends, or by `unregister_name`.

        Raises:
            ValueError: `name` is no name, or the actor is dead.
            AlreadyStarted: another actor bears it, or had it until a moment ago and its
                supervisor is about to start a successor.
            Exit: the calling thread was given up.
        """
        check_name(name)
        lineage.must_go_on()
        with cls._names_lock:
            _must_live(name, ref)
            cls._must_be_free(name, ref)
            cls._names[name] = ref

    @classmethod
    def unregister_name(cls, name: str) -> None:
        """Take `name` from who bears it. One that nobody bears, or that is reserved, stays so.

        Raises:
            Exit: the calling thread was given up.
        """
        lineage.must_go_on()
        with cls._names_lock:
            if not isinstance(cls._names.get(name), Reservation):
                cls._names.pop(name, None)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names that living actors bear, sorted."""
        with cls._names_lock:
            return sorted(
                name
                for name, bearer in cls._names.items()
                if not isinstance(bearer, Reservation) and bearer.is_alive()
            )

    @classmethod
    def release_names(cls, ref: ProcessRef[Any]) -> None:
        """Take all its names from a process that ends, and counts as dead already.

        For `Process`. Until then they stay its own, so that a successor never overlaps its
        `on_stop`. It gets no new one: only the living do, and that is looked at under our lock.
        """
        with cls._names_lock:
            for name in [name for name, bearer in cls._names.items() if bearer is ref]:
                del cls._names[name]

    @classmethod
    def reserve(
        cls,
        name: str,
        *,
        bearer: pykka.ActorRef[Any] | None = None,
        refuse: Callable[[Any], object] = _refuse_noproc,
    ) -> Reservation:
        """Keep a name for a successor.

        Args:
            name: the name.
            bearer: who bears it now, and loses it by this.
            refuse: called with each item that was parked if the reservation is given up.

        Raises:
            ValueError: `name` is no name.
            AlreadyStarted: another than `bearer` bears it, or it is reserved already.
            Exit: the calling thread was given up.
        """
        lineage.must_go_on()
        reservation = Reservation(check_name(name), bearer, refuse)
        with cls._names_lock:
            cls._must_be_free(name, bearer)
            cls._names[name] = reservation
        return reservation

    @classmethod
    def deliver(cls, name: str, item: Any) -> None:
        """Put a message object of ours into the mailbox of the process called `name`.

        Exactly one of these will happen to the item: the process gets it, or it is refused (see
        `exraft.actors.mailbox.refuse`) because the process or the reservation of its name ended.

        Raises:
            ServerNotFound: no process of ours is called so.
        """
        while True:
            bearer = cls._names.get(name)
            if bearer.__class__ is ProcessRef:
                bearer.actor_inbox.put(item)
                return
            if not isinstance(bearer, Reservation):
                # Nobody, or a plain Pykka actor, whose inbox takes nothing but envelopes.
                raise ServerNotFound(name)
            if bearer.park(item):
                return

    @classmethod
    def post(cls, name: str, item: Any) -> bool:
        """Put a one-way message into the mailbox of the process called `name`, before all calls.

        A server must hear its peers however many callers it has: their acknowledgements and
        heartbeats would else wait behind a backlog for longer than an election timeout.

        Returns:
            `False` if nobody is called so. `True` is no promise: like any one-way message it may
            be lost, and to a name that is reserved at the moment it is.
        """
        bearer = cls._names.get(name)
        if bearer.__class__ is ProcessRef:
            bearer.actor_inbox.put_first(item)  # type: ignore[attr-defined]
            return True
        return isinstance(bearer, Reservation)

    @classmethod
    def _must_be_free(cls, name: str, ref: pykka.ActorRef[Any] | None) -> None:
        bearer = cls._names.get(name)
        if bearer is None or bearer is ref:
            return
        if isinstance(bearer, Reservation):
            raise AlreadyStarted(bearer.bearer, name)
        # A process of ours gives its names back itself; of a plain actor nobody tells us.
        if isinstance(bearer, ProcessRef) or bearer.is_alive():
            raise AlreadyStarted(bearer, name)

    @classmethod
    def _end(cls, reservation: Reservation, ref: pykka.ActorRef[Any] | None) -> bool:
        with cls._names_lock, reservation._lock:
            if reservation._parked is None:
                return False
            if ref is None:
                del cls._names[reservation.name]
            else:
                if not isinstance(ref, ProcessRef):
                    raise ValueError(f"what was parked is for one of our processes, not {ref}")
                # Who lives now can't close its mailbox before it has released its names, which
                # takes our lock: so none of these is answered here, with locks held; unless it is
                # being given up at this moment, and then no more than refused.
                _must_live(reservation.name, ref)
                # Before the name is given: nothing newer can be in its mailbox by that name.
                for item in reservation._parked:
                    ref.actor_inbox.put(item)
                cls._names[reservation.name] = ref
            parked, reservation._parked = reservation._parked, None
        if ref is None:
            for item in parked:
                try:
                    reservation._refuse(item)
                except Exception:
                    # The others wait for an answer too.
                    logger.exception("A message to %s could not be refused", reservation.name)
        return True


def _must_live(name: str, ref: pykka.ActorRef[Any]) -> None:
    if not ref.is_alive():
        raise ValueError(f"a dead actor can't be called {name!r}: {ref}")


def _forget_all() -> None:
    # No thread but the forking one lives on in the child, and the locks may have been held.
    ActorRegistry._names_lock = Lock()
    ActorRegistry._names.clear()
    # Of ours Pykka knows nothing any more either: its stop_all() would wait for them for ever.
    pykka.ActorRegistry._actor_refs_lock = RLock()
    for ref in pykka.ActorRegistry.get_all():
        if isinstance(ref, ProcessRef):
            pykka.ActorRegistry.unregister(ref)
            # New ones: of the old ones the locks may have been held.
            ref.actor_stopped = Event()
            ref.actor_stopped.set()
            ref.watchers = Watchers()
            ref.watchers.tell(Down(ref, "noproc"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
