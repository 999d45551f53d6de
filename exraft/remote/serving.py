"""What other nodes ask of the servers of this one.

Knows how a parcel becomes a call, and a reply an answer. Must not know connections: where an answer
goes is a route that is handed back as it came.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, get_args

from exraft import codec
from exraft.actors import calls
from exraft.actors.future import OneLockFuture
from exraft.actors.registry import ActorRegistry
from exraft.calling import deliver_here, stop_here
from exraft.codec import Encoded
from exraft.errors import ExRaftError, NotSerialisable, ServerNotFound
from exraft.names import Peer, node
from exraft.nodes import wire
from exraft.nodes.links import Links
from exraft.nodes.listener import Route
from exraft.raft import Message
from exraft.remote.asking import ASKS, LOOKS
from exraft.remote.reading import Readers
from exraft.remote.values import Kind, encode_answer, encode_failure

_ASKS = {what: (kind, answer) for kind, (what, answer) in ASKS.items()}
_ENCODERS: dict[Kind, Callable[[Any], bytes]] = {
    kind: partial(encode_answer, kind) for kind in get_args(Kind)
}


class Answering(calls.Reply):
    """A reply whose caller is on another node: the first outcome leaves as an answer."""

    def __init__(
        self,
        serving: Serving,
        route: Route,
        request: wire.Request,
        encode: Callable[[Any], bytes],
        may_apply: bool,
    ) -> None:
        super().__init__()
        self.may_apply = may_apply
        self._serving = serving
        self._route = route
        self._to = request.to
        self._id = request.id
        self._encode = encode

    @property
    def server(self) -> Peer:  # type: ignore[override]
        return Peer(self._to, node())

    def set(self, value: Any = None) -> bool:  # type: ignore[override]
        if not super().set(value):
            return False
        parcel: wire.Parcel
        try:
            parcel = wire.Answer(self._id, self._encode(value))
        except Exception as error:
            # The call was served; what it has to say can't be said.
            failure = NotSerialisable(
                f"the answer can't be serialised: {type(error).__name__}: {error}",
                maybe_applied=self.may_apply,
            )
            parcel = wire.Failure(self._id, encode_failure(failure))
        self._serving.answer(self._route, parcel)
        return True

    def _settle(self, outcome: Any) -> bool:
        if not super()._settle(outcome):
            return False
        self._serving.answer(self._route, wire.Failure(self._id, encode_failure(outcome.error)))
        return True


class Serving:
    """What a node does with what arrives; see `exraft.nodes.listener.Deliver`."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._calls: dict[tuple[Route, int], calls.Call] = {}
        """Those that were not answered yet."""
        self._readers = Readers()
        self._threads: set[threading.Thread] = set()

    def post(self, to: str, message: Message) -> None:
        ActorRegistry.post(to, message)

    def answer(self, route: Route, parcel: wire.Answer | wire.Failure) -> None:
        self._calls.pop((route, parcel.id), None)
        self._links.answer(route, parcel)

    def cancel(self, route: Route, call_id: int) -> None:
        call = self._calls.pop((route, call_id), None)
        if isinstance(call, calls.Write):
            call.withdraw()
        elif call is not None:
            call.reply.forgo()

    def serve(self, route: Route, request: wire.Request) -> None:
        kind = type(request)
        # The common ones first.
        call: calls.Call
        if kind is wire.Write:
            reply = self._reply(route, request, "value", may_apply=True)
            call = calls.Write(reply, request.data)  # type: ignore[union-attr]
        elif kind is wire.Read:
            reply = self._reply(route, request, "value")
            query = Encoded(request.query)  # type: ignore[union-attr]
            call = calls.Read(reply, query, dirty=request.dirty)  # type: ignore[union-attr]
        elif isinstance(request, wire.Ask):
            if request.what == "open_snapshot":
                opened = partial(self._readers.open, request.to)
                call = calls.Ask(Answering(self, route, request, opened, False), "snapshot")
            elif request.what in LOOKS:
                reply = self._reply(route, request, LOOKS[request.what])
                call = calls.Ask(reply, request.what)
            elif request.what in _ASKS:
                make, answer = _ASKS[request.what]
                call = make(self._reply(route, request, answer))
            else:
                self._refuse(route, request, f"nothing is called {request.what!r} here")
                return
        elif isinstance(request, wire.Change):
            reply = self._reply(route, request, "none", may_apply=True)
            patience = float("inf") if request.patience is None else request.patience
            call = calls.Change(reply, request.peer, add=request.add, patience=patience)
        elif isinstance(request, wire.Transfer):
            call = calls.Transfer(self._reply(route, request, "peer"), request.heir)
        elif isinstance(request, wire.Stop):
            self._stop(request, self._reply(route, request, "none"))
            return
        else:
            assert isinstance(request, wire.Fetch)
            fetch = partial(self._readers.fetch, request.handle, request.offset, request.size)
            self._run(fetch, Answering(self, route, request, bytes, False))
            return
        self._calls[route, request.id] = call
        try:
            deliver_here(request.to, call)
        except ServerNotFound:
            # Whoever asks wants to know on which node it is not.
            call.refuse("noproc")
        except ExRaftError as error:
            call.reply.fail(error)

    def _reply(
        self, route: Route, request: wire.Request, kind: Kind, *, may_apply: bool = False
    ) -> Answering:
        return Answering(self, route, request, _ENCODERS[kind], may_apply)

    def _refuse(self, route: Route, request: wire.Request, why: str) -> None:
        reply = self._reply(route, request, "none")
        reply.fail(ExRaftError(why + ": install the same release of exraft there and here"))

    def _stop(self, request: wire.Stop, reply: Answering) -> None:
        def stop() -> None:
            peer = Peer(request.to, node())
            stop_here(peer, codec.decode(request.reason), request.timeout)

        self._run(stop, reply)

    def _run(self, what: Callable[[], object], reply: OneLockFuture[Any]) -> None:
        """What takes its time, in a thread of its own."""

        def run() -> None:
            try:
                reply.set(what())
            except Exception as error:
                reply.fail(error)
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name="exraft-serving", daemon=True)
        self._threads.add(thread)
        thread.start()

    def finish(self, seconds: float) -> None:
        """Wait so long at most for answers that are being made: a server may end with its node."""
        deadline = monotonic() + seconds
        for thread in self._threads.copy():
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))

    def close(self) -> None:
        self._readers.close()
