"""How a call gets to a supervisor, and its answer back.

Knows how a supervisor is found, which calls would deadlock, and what a failed one is told. Must not
know what the calls mean.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import pykka
from pykka.messages import ProxyCall

from exraft.actors import lineage, watching
from exraft.actors.ending import send
from exraft.actors.future import OneLockFuture
from exraft.actors.mailbox import ProcessDown
from exraft.actors.registry import ActorRegistry
from exraft.errors import CallTimeout, SelfCall
from exraft.limits import check_timeout
from exraft.names import check_name
from exraft.supervision.errors import SupervisorDown, SupervisorNotFound
from exraft.supervision.supervising import Stop, Supervising

Sup: TypeAlias = pykka.ActorRef[Any] | str
"""A supervisor: its reference, or its name."""


def find(sup: object, kind: type[Supervising]) -> pykka.ActorRef[Any]:
    """Return the reference of a supervisor.

    Raises:
        SupervisorNotFound: nobody has that name.
        TypeError: it is no supervisor of that kind.
        ValueError: it is no name.
    """
    if isinstance(sup, pykka.ActorRef):
        ref = sup
    elif isinstance(sup, str):
        found = ActorRegistry.get_by_name(check_name(sup))
        if found is None:
            raise SupervisorNotFound(sup)
        ref = found
    else:
        raise TypeError(
            f"{sup!r} is no supervisor: give the reference that start() returned, or a name"
            " such as ':shop'"
        )
    if not issubclass(ref.actor_class, kind):
        what = getattr(ref.actor_class, "called", ref.actor_class.__name__)
        raise TypeError(f"{sup} is no {kind.called}, but a {what}")
    return ref


def ask(sup: Sup, kind: type[Supervising], timeout: float | None, method: str, *args: Any) -> Any:
    """Have a supervisor run one of its methods; return what that returns, or raise it.

    Raises:
        SupervisorNotFound: nobody has that name, or it has ended.
        SupervisorDown: it ended meanwhile.
        CallTimeout: no answer within `timeout` seconds; what was asked for may be done later.
        SelfCall: the supervisor waits for this very thread.
        Exit: this thread was given up.
    """
    check_timeout(timeout)
    lineage.must_go_on()
    ref = find(sup, kind)
    if ref in lineage.waiting_for_me():
        raise SelfCall(
            f"{sup} can't answer this thread, which it waits for: let another thread ask, or ask"
            " when the child has started"
        )
    try:
        return ref.ask(ProxyCall(attr_path=(method,), args=args, kwargs={}), timeout=timeout)
    except ProcessDown as error:
        if error.reason == "noproc":
            raise SupervisorNotFound(sup) from None
        raise SupervisorDown(error.reason) from None
    except pykka.ActorDeadError:
        if ref.is_alive():
            raise  # Somebody else's end, that a child's start came upon.
        raise SupervisorNotFound(sup) from None
    except CallTimeout:
        raise  # Somebody else's, that a child's start came upon.
    except pykka.Timeout:
        raise CallTimeout(
            sup,
            timeout,
            next_step="a child that starts or ends slowly may hold it up, and it may do it later",
            maybe_applied=True,
        ) from None


def stop(
    sup: Sup,
    kind: type[Supervising],
    order: Stop,
    timeout: float | None,
    called: object = None,
) -> None:
    """Stop a supervisor, and wait for its end; `called`: what its user knows it as, if not `sup`.

    Raises:
        SupervisorNotFound: nobody has that name, or it has ended.
        CallTimeout: it has not ended within `timeout` seconds; it will all the same.
        SelfCall: this thread belongs to a process in its tree, which would wait for itself.
    """
    check_timeout(timeout)
    lineage.must_go_on()
    ref = find(sup, kind)
    if ref in lineage.here():
        raise SelfCall(
            f"{sup} can't be stopped from within, as it would wait for this thread to end: let"
            " another thread do it, or make this child significant and let it end"
        )
    ended: OneLockFuture[watching.Down] = OneLockFuture()
    watch = watching.monitor(ref, ended.set)
    send(ref, order)
    try:
        down = ended.get(timeout=timeout)
    except pykka.Timeout:
        watch.cancel()
        raise CallTimeout(
            called or sup,
            timeout,
            next_step="it goes on stopping: a child may take its time to end",
            maybe_applied=False,
        ) from None
    if down.reason == "noproc":
        raise SupervisorNotFound(sup)
