"""A look at a tree: who hangs in it and how they fare, as data and as a drawing.

Knows what is asked of every supervisor in a tree, and what their answers look like together. Must
not change anything, nor take a tree for broken because it moves while it is looked at.

All supervisors are asked at once, those on top first, and each answers for its own children at a
moment of its own. One that is starting a child, or waiting for one to end, answers nobody until
that is done: then it alone is `"busy"`, and the look is no longer than its timeout.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pykka
from pykka.messages import ProxyCall

from exraft.actors import lineage, starting
from exraft.actors.future import OneLockFuture
from exraft.actors.lineage import life_of
from exraft.actors.registry import ActorRegistry
from exraft.child_spec import ChildSpec, ChildType, Restart
from exraft.limits import check_timeout
from exraft.supervision import asking
from exraft.supervision.asking import Sup
from exraft.supervision.decision import Strategy
from exraft.supervision.dynamic import DynamicSupervisorProcess
from exraft.supervision.errors import SupervisorNotFound
from exraft.supervision.supervising import Seen, Supervising

if TYPE_CHECKING:
    from rich.console import Console

State: TypeAlias = Literal["running", "restarting", "stopped", "busy"]
"""How an actor fares.

- `"running"`: it lives.
- `"restarting"`: it could not be started again, and will be tried again.
- `"stopped"`: it does not live; or has just died, and its supervisor is yet to act.
- `"busy"`: a supervisor that lives and did not answer in time. Its children are unknown.
"""

TIMEOUT: Final = 5.0
"""Seconds that a look takes at most, unless the caller says otherwise (OTP's default of a call)."""


@dataclass(frozen=True, slots=True)
class Node:
    """An actor in a tree, as it was when somebody looked.

    Attributes:
        id: what its supervisor calls it; of the topmost, its name, or what kind of supervisor it
            is, as `child_spec` has it.
        name: what it is registered as, or `None`; of several names, the first in the alphabet.
        kind: `"supervisor"` or `"worker"`.
        actor_class: the name of its class; `None` if it does not live and its spec does not say.
        ref: its reference, `None` if it does not live.
        state: see `State`.
        restarts: how often it was started again by its supervisor, failed attempts included. 0 for
            the topmost: who could tell is not part of the look.
        uptime: seconds since its present life began; `None` if it does not live.
        restart: when it is started again, see `ChildSpec`; `None` for the topmost.
        strategy: of a supervisor that lives; otherwise `None`.
        children: a supervisor's, in start order.
    """

    id: str
    name: str | None
    kind: ChildType
    actor_class: str | None
    ref: pykka.ActorRef[Any] | None
    state: State
    restarts: int
    uptime: float | None
    restart: Restart | None
    strategy: Strategy | None
    children: tuple[Node, ...]


def tree(sup: Sup, timeout: float | None = TIMEOUT) -> Node:
    """Look at a supervisor and all that hangs below it, raft servers' own supervisors included.

    It is no snapshot of a moment: each supervisor answers for itself, with what holds of all of its
    children together. Who ends meanwhile is `"stopped"`, without children, the topmost too.

    Args:
        sup: a `Supervisor` or a `DynamicSupervisor`, by its reference or its name.
        timeout: seconds for the whole look, `None` for ever. Who has not answered then, or waits
            for the calling thread, is `"busy"`.

    Raises:
        SupervisorNotFound: nobody has that name, or it has ended.
        TypeError: it is no supervisor.
        ValueError: it is no name, or `timeout` is no number of seconds.
    """
    check_timeout(timeout)
    ref = asking.find(sup, Supervising)
    life = life_of(ref)
    if not isinstance(life, Supervising) or not ref.is_alive():
        raise SupervisorNotFound(sup)
    kind = type(life)
    spec = ChildSpec(
        id=life.options.name or _plain(kind.__name__), start=(kind, (), {}), type="supervisor"
    )
    top = Seen(spec, ref, restarting=False, restarts=0, since=life.began)
    answers = _ask_all(ref, inf if timeout is None else monotonic() + timeout)
    return replace(_Picture(answers).node(top), restart=None)


# How it is asked.

_Answers: TypeAlias = dict[pykka.ActorRef[Any], Sequence[Seen] | None]
"""What each has answered; `None` for one that has ended meanwhile."""


def _ask_all(top: pykka.ActorRef[Any], deadline: float) -> _Answers:
    """Ask a supervisor for its children, those of them that supervise for theirs, and so on."""
    answers: _Answers = {}
    asked: set[pykka.ActorRef[Any]] = set()
    done: SimpleQueue[tuple[pykka.ActorRef[Any], OneLockFuture[Any]]] = SimpleQueue()

    def ask(ref: pykka.ActorRef[Any]) -> None:
        if ref not in asked and ref not in deaf:
            asked.add(ref)
            message = ProxyCall(attr_path=("look",), args=(), kwargs={})
            answer: OneLockFuture[Any] = ref.ask(message, block=False)  # type: ignore[assignment]
            answer.on_done(lambda answer: done.put((ref, answer)))

    # They would not hear before this very thread goes on.
    deaf = lineage.waiting_for_me()
    ask(top)
    answered = 0
    while answered < len(asked):
        try:
            left = min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX)
            ref, answer = done.get(timeout=left)
        except Empty:
            break
        answered += 1
        try:
            answers[ref] = answer.get()
        except pykka.ActorDeadError:
            answers[ref] = None
            continue
        for child in answers[ref] or ():
            if child.ref is not None and _supervises(child.ref):
                ask(child.ref)
    return answers


def _supervises(ref: pykka.ActorRef[Any]) -> bool:
    return issubclass(ref.actor_class, Supervising)


class _Picture:
    """What the answers say together."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._now = monotonic()
        self._names: dict[pykka.ActorRef[Any], str] = {}
        for name in ActorRegistry.names():
            ref = ActorRegistry.get_by_name(name)
            if ref is not None:
                self._names.setdefault(ref, name)

    def node(self, seen: Seen) -> Node:
        spec, ref = seen.spec, seen.ref
        answered = ref in self._answers
        children = None if ref is None else self._answers.get(ref)
        if ref is None or not ref.is_alive() or (answered and children is None):
            cls = starting.actor_class(spec.start[0])
            return Node(
                id=spec.id,
                name=None,
                kind=spec.type,
                actor_class=None if cls is None else cls.__name__,
                ref=None,
                state="restarting" if seen.restarting else "stopped",
                restarts=seen.restarts,
                uptime=None,
                restart=spec.restart,
                strategy=None,
                children=(),
            )
        supervises = _supervises(ref)
        # Once: a start function may return the reference of who hangs elsewhere in the tree.
        self._answers[ref] = ()
        life = life_of(ref)
        options = life.options if isinstance(life, Supervising) else None
        since = life.began if isinstance(life, Supervising) else seen.since
        return Node(
            id=spec.id,
            name=self._names.get(ref),
            kind="supervisor" if supervises else spec.type,
            actor_class=ref.actor_class.__name__,
            ref=ref,
            state="busy" if supervises and not answered else "running",
            restarts=seen.restarts,
            uptime=max(0.0, self._now - since),
            restart=spec.restart,
            strategy=None if options is None else options.strategy,
            children=tuple(map(self.node, children or ())),
        )


# How it is drawn.

_STYLES: Final[dict[State, str]] = {
    "running": "green",
    "restarting": "yellow",
    "stopped": "red",
    "busy": "magenta",
}
_GUIDES: Final = ("├── ", "│   ", "└── ", "    ")
_ASCII_GUIDES: Final = ("+-- ", "|   ", "`-- ", "    ")


def print_tree(
    sup: Sup | Node,
    console: Console | None = None,
    *,
    timeout: float | None = TIMEOUT,
    most: int | None = 10,
) -> None:
    """Draw a tree, a line an actor: id, name, class, state, uptime and restarts.

    Args:
        sup: a supervisor, or what `tree` has returned.
        console: where it is drawn, with rich; standard output if not given.
        timeout: as `tree`.
        most: how many children of each `DynamicSupervisor` are shown; `None` for all.

    Raises:
        SupervisorNotFound, TypeError, ValueError: as `tree`.
    """
    # It takes longer to import than everything else here, and few programs draw.
    from rich.console import Console
    from rich.text import Text

    node = sup if isinstance(sup, Node) else tree(sup, timeout)
    console = Console() if console is None else console
    guides = _ASCII_GUIDES if console.options.ascii_only else _GUIDES
    drawing = _Drawing(guides, most, console.encoding)
    lines = [Text.assemble(*line) for line in drawing.lines(node)]
    # A line stays one: where it is piped to, lines may be searched and counted.
    console.print(Text("\n").join(lines), soft_wrap=True)


_Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text, each with its style."""


class _Drawing:
    """Sets nodes in lines."""

    def __init__(self, guides: Sequence[str], most: int | None, encoding: str) -> None:
        self._guides = guides
        self._most = most
        self._encoding = encoding

    def lines(self, node: Node, before: str = "", below: str = "") -> Iterator[_Line]:
        """The line of a node, after `before`, and those of its children, after `below`."""
        fork, pipe, end, space = self._guides
        yield [(before, "dim"), *self._label(node)]
        dynamic = node.actor_class == DynamicSupervisorProcess.__name__
        shown = node.children[: self._most] if dynamic else node.children
        hidden = node.children[len(shown) :]
        for number, child in enumerate(shown, 1):
            if number == len(node.children):
                yield from self.lines(child, below + end, below + space)
            else:
                yield from self.lines(child, below + fork, below + pipe)
        if hidden:
            yield [(f"{below}{end}... and {len(hidden):,} more{_ailing(hidden)}", "dim")]

    def _label(self, node: Node) -> _Line:
        label = [(self._printable(node.id), "bold")]
        if node.name is not None and node.name != node.id:
            label.append((f" ({self._printable(node.name)})", ""))
        if node.actor_class is not None:
            what = _plain(node.actor_class) if node.kind == "supervisor" else node.actor_class
            label.append((f"  {self._printable(what)}", "dim"))
        if node.strategy is not None:
            label.append((f" {node.strategy}", "dim"))
        label.append((f"  {node.state}", _STYLES[node.state]))
        if node.uptime is not None:
            label.append((f" {_duration(node.uptime)}", ""))
        if node.restarts:
            plural = "s" if node.restarts > 1 else ""
            label.append((f", {node.restarts:,} restart{plural}", "yellow"))
        return label

    def _printable(self, text: str) -> str:
        """The text on one line, without what a terminal would obey or can't show."""
        if not text.isprintable():
            text = repr(text)[1:-1]
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)


def _ailing(nodes: Sequence[Node]) -> str:
    """Say who of those that are not shown does not run."""
    states = Counter(node.state for node in nodes if node.state != "running")
    return "".join(f", {count:,} {state}" for state, count in sorted(states.items()))


def _plain(actor_class: str) -> str:
    """A supervisor's class by the name that users know."""
    return actor_class.removesuffix("Process")


def _duration(seconds: float) -> str:
    # Rounded down: there are no 60.0 s.
    if seconds < 1.0:
        return f"{int(seconds * 1000)} ms"
    if seconds < 60.0:
        return f"{int(seconds * 10) / 10} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
