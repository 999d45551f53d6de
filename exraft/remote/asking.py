"""A call on its way to a server of another node.

Knows how a call becomes a parcel, and what its caller is told of whatever becomes of it. Must not
know connections, nor how the call is served there.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Literal

from exraft import codec
from exraft.actors import calls
from exraft.errors import CommandTooLarge, NodeUnreachable, OutcomeUnknown, Overloaded
from exraft.names import Peer
from exraft.nodes import wire
from exraft.nodes.links import Links
from exraft.remote.values import Kind, decode_answer, decode_failure

_ids = itertools.count(1)

ASKS: dict[type[calls.Call], tuple[str, Kind]] = {
    calls.AwaitLeader: ("await_leader", "peer"),
    calls.TriggerElection: ("trigger_election", "none"),
    calls.TakeSnapshot: ("take_snapshot", "index"),
}
"""Calls without arguments: what they are called on the way, and the kind of their answer."""
LOOKS: dict[str, Kind] = {
    "leader": "leader",
    "state": "role",
    "ping": "text",
    "status": "status",
    "log": "log",
}
"""What can be looked at, and the kind of the answer."""


class Asked:
    """A call that another node is asked for; see `exraft.nodes.link.Asked`."""

    __slots__ = ("_call", "_kind", "_links", "_peer", "parcel")

    parcel: wire.Request

    def __init__(self, links: Links, peer: Peer, call: calls.Call) -> None:
        self._links = links
        self._peer = peer
        self._call = call
        self.parcel, self._kind = _parcel(call, peer.name)

    def send(self) -> None:
        """Send it.

        Raises:
            Overloaded: too many wait already.
        """
        try:
            link = self._links.to(self._peer.node)
            # Not a method of this call's: a reply that leads back to itself would be the garbage
            # collector's.
            self._call.reply.cancel = partial(link.cancel, self.parcel.id)
            taken = link.ask(self)
        except (ValueError, OSError) as error:
            raise NodeUnreachable(self._peer, self._peer.node, str(error)) from None
        if not taken:
            raise Overloaded()

    def take(self) -> bool:
        call = self._call
        return call.take() if type(call) is calls.Write else not call.reply.done()

    def answered(self, parcel: wire.Answer | wire.Failure) -> None:
        reply = self._call.reply
        try:
            if type(parcel) is wire.Failure:
                reply.set(calls.Told(partial(self._failure, parcel.data)))
            elif self._kind == "bytes":
                reply.set(parcel.data)
            else:
                reply.set(decode_answer(self._kind, parcel.data))
        except ValueError as error:
            reply.fail(self._nonsense(error))

    def _failure(self, data: bytes) -> Exception:
        try:
            return decode_failure(data)
        except ValueError as error:
            return self._nonsense(error)

    def _nonsense(self, error: ValueError) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"the answer of {self._peer} makes no sense here ({error}):"
            " install the same release of exraft there and here",
            maybe_applied=self._call.reply.may_apply,
        )

    def unreachable(self, node: str, why: str) -> None:
        self._call.reply.fail(NodeUnreachable(self._peer, node, why))

    def lost(self, node: str) -> None:
        self._call.abandon((NodeUnreachable.word, node))


def _parcel(call: calls.Call, to: str) -> tuple[wire.Request, Kind | Literal["bytes"]]:
    call_id = next(_ids)
    kind = type(call)
    if isinstance(call, calls.Write):
        return wire.Write(call_id, to, _checked(call.data)), "value"
    if isinstance(call, calls.Read):
        query = _checked(codec.encode(call.query))
        return wire.Read(call_id, to, query, call.dirty), "value"
    if isinstance(call, calls.Ask):
        return wire.Ask(call_id, to, call.what), LOOKS[call.what]
    if isinstance(call, calls.Change):
        patience = None if call.patience == float("inf") else call.patience
        return wire.Change(call_id, to, call.peer, call.add, patience), "none"
    if isinstance(call, calls.Transfer):
        return wire.Transfer(call_id, to, call.to), "peer"
    if isinstance(call, Stop):
        return wire.Stop(call_id, to, call.reason, call.timeout), "none"
    if isinstance(call, Open):
        return wire.Ask(call_id, to, "open_snapshot"), "bytes"
    if isinstance(call, Fetch):
        return wire.Fetch(call_id, to, call.handle, call.offset, call.size), "bytes"
    what, answer = ASKS[kind]
    return wire.Ask(call_id, to, what), answer


def _checked(data: bytes) -> bytes:
    if len(data) > wire.LARGEST_VALUE:
        raise CommandTooLarge(len(data), wire.LARGEST_VALUE)
    return data


class Stop(calls.Call):
    """`ExRaft.stop_server`, of a server on another node."""

    __slots__ = ("reason", "timeout")

    def __init__(self, reply: calls.Reply, reason: Any, timeout: float | None) -> None:
        super().__init__(reply)
        self.reason = codec.encode(reason)
        self.timeout = timeout


class Open(calls.Call):
    """Have the newest snapshot opened; see `exraft.remote.reading`."""

    __slots__ = ()


class Fetch(calls.Call):
    """Bytes of a snapshot that was opened, or none, to have it closed."""

    __slots__ = ("handle", "offset", "size")

    def __init__(self, reply: calls.Reply, handle: str, offset: int, size: int) -> None:
        super().__init__(reply)
        self.handle = handle
        self.offset = offset
        self.size = size
