"""A storm over a forest of supervisors: 200 children that are made to end in every way, by seed.

Knows how children are ended, and writes down what becomes of them. Must not know what should become
of them: that is said by the tests of `test_storms`.

Each life of a child is written down with numbers of one sequence: when it began, was up, and ended.
It has ended when its monitors are told, whoever tells them: its own thread after its last callback,
or who gave it up.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any, Literal, TypeAlias

import pykka
import pytest

from exraft import ActorRegistry
from exraft.actors import (
    Down,
    Exit,
    Process,
    ProcessDown,
    fence,
    kill,
    lineage,
    links,
    monitor,
    send_exit,
)
from exraft.child_spec import Restart
from exraft.errors import AlreadyStarted, ExRaftError, StartFailed
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor, SupervisorDown, supervising
from exraft.supervision.intensity import Intensity
from exraft.supervision.supervising import Supervising
from exraft.supervision.tree import Node, tree

KILLERS = 8
PATIENCE = 60.0
"""Seconds that anything may take on a loaded machine."""
LENIENT: dict[str, Any] = {"max_restarts": 1_000_000, "max_seconds": 300.0}
BRIEF = 0.5
"""The window of supervisors that give up again and again, in seconds."""

Kind: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "dynamic"]
Ref: TypeAlias = pykka.ActorRef[Any]


class InjectedCrash(Exception):
    """What children are made to die of."""


class CrashAtStart(InjectedCrash):
    """What a child is made to fail to start with."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.key)
        self.life = life


class Abort(BaseException):
    """One that Pykka stops all actors for."""


# What is written down.


class Life:
    """One life of a child, with the numbers at which it came to something.

    Attributes:
        key: the child's id, which no other child of the forest has.
        parent: its supervisor; `None` for the root.
        ref: its reference; `None` for a supervisor that failed to start.
        up: when it had started; `None` if it failed to.
        leaving, left: when its last callback was called, and when that had returned.
        by_hand: whether an administrator started it, and not its supervisor by itself; `"new"` if
            its spec was new too.
        window: of a supervisor, the restarts that it counted.
    """

    def __init__(self, key: str, parent: Ref | None, began: int) -> None:
        self.key = key
        self.parent = parent
        self.began = began
        self.ref: Ref | None = None
        self.up: int | None = None
        self.leaving: int | None = None
        self.left: int | None = None
        self.ended: int | None = None
        self.reason: object = None
        self.by_hand: Literal["no", "again", "new"] = "no"
        self.window: Window | None = None

    def __repr__(self) -> str:
        return f"{self.key}({self.began}, {self.up}, {self.ended}, {self.reason!r})"


_BY_THEMSELVES = ("failures to start", "failures at the end", "slow ends", "zombies that woke up")
"""What children do without being told."""


class Book:
    """All lives, and what is wrong at first sight."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._witness = _Witness.start(self)
        self.raging = threading.Event()
        """While it is set, children fail by themselves."""
        self.calm = threading.Event()
        """When it is set, nothing takes its time any more."""
        self.lives: dict[str, list[Life]] = defaultdict(list)
        self.made: Counter[str] = Counter()
        """How many children were made; one that was killed before it began has no life."""
        self.by_ref: dict[Ref, Life] = {}
        self.running: dict[str, Ref] = {}
        """Who runs, or has just ended."""
        self.terminated: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """Between which numbers an administrator had a child terminated."""
        self.doubtful: set[Ref] = set()
        """Supervisors that may have started a child by hand without having told."""
        self.done = Counter(dict.fromkeys(_BY_THEMSELVES, 0))
        self.wrong: list[str] = []

    def now(self) -> int:
        return next(self._numbers)

    def rng(self, who: object) -> random.Random:
        return random.Random(f"{self._seed} {who}")

    def makes(self, key: str) -> None:
        with self._lock:
            self.made[key] += 1

    def all_have_begun(self, keys: Iterable[str]) -> bool:
        """Whether all that were made of these children have begun a life."""
        return all(self.made[key] in (0, len(self.lives[key])) for key in keys)

    def begin(self, key: str, parent: Ref | None) -> Life:
        with self._lock:
            life = Life(key, parent, self.now())
            if self.lives[key] and self.lives[key][-1].ended is None:
                self.wrong.append(f"{life} began before {self.lives[key][-1]} had ended")
            self.lives[key].append(life)
        return life

    def belongs(self, life: Life, ref: Ref) -> None:
        life.ref = ref
        self.by_ref[ref] = life

    def is_up(self, life: Life) -> None:
        life.up = self.now()
        if life.ref is not None:
            self.running[life.key] = life.ref

    def end(self, life: Life, reason: object) -> None:
        with self._lock:
            if life.ended is not None:
                self.wrong.append(f"{life} ended again: {reason!r}")
            life.reason = reason
            life.ended = self.now()
            if reason != "killed" and life.leaving is not None and life.left is None:
                self.wrong.append(f"{life} ended before its last callback had returned")

    def leaves(self, life: Life) -> None:
        with self._lock:
            life.leaving = self.now()
            if life.ended is not None and life.reason != "killed":
                self.wrong.append(f"{life} was called back after its end")

    def all(self) -> list[Life]:
        """All lives, in the order in which they began."""
        with self._lock:
            lives = [life for lives in self.lives.values() for life in lives]
        return sorted(lives, key=lambda life: life.began)

    def complete(self) -> bool:
        """Whether everything has happened once, a supervisor that gave up included."""
        return all(self.done.values()) and any(
            not answer
            for life in self.all()
            if life.window is not None
            for _, answer in life.window.answers.copy()
        )

    def do_harm(self, life: Life) -> None:
        """What a thread that was given up tries when it wakes up."""
        self.done["zombies that woke up"] += 1
        with suppress(Exception):
            self._witness.tell(life)
        with suppress(Exception):
            self._witness.ask(life, timeout=PATIENCE)
        with suppress(Exception):
            ActorRegistry.register_name(f":zombie.{life.began}", self._witness)
            self.wrong.append(f"{life} was given up, and took a name")
        with suppress(Exception):
            _Witness.start(self)
            self.wrong.append(f"{life} was given up, and started somebody")

    def close(self) -> None:
        self._witness.stop(timeout=PATIENCE)


class _Witness(Process):
    """Hears from nobody but those that it must not hear from."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    def on_receive(self, message: Any) -> Any:
        self._book.wrong.append(f"{message} was given up, and was heard")


class Window(Intensity):
    """Writes down which restarts were counted, and what the answers were."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        super().__init__(max_restarts, max_seconds)
        self.limits = max_restarts, max_seconds
        self.answers: list[tuple[float, bool]] = []

    def allows(self, now: float) -> bool:
        answer = super().allows(now)
        self.answers.append((now, answer))
        return answer


# The children.


class _Leaf:
    """The callbacks of a child; what it is told is a function, which it calls with itself."""

    actor_ref: Ref

    def __init__(self, book: Book, key: str) -> None:
        super().__init__()
        self.book = book
        self.key = key
        book.makes(key)

    def on_start(self) -> None:
        book = self.book
        self.life = book.begin(self.key, lineage.here()[1])
        self.rng = book.rng(f"{self.key} {len(book.lives[self.key])}")
        book.belongs(self.life, self.actor_ref)
        # Made before its supervisor's: who is told of its end is told after the book.
        monitor(self.actor_ref, self._has_ended)
        try:
            ActorRegistry.register_name(f":{self.key}", self.actor_ref)
        except AlreadyStarted as error:
            book.wrong.append(f"{self.life} found its name taken: {error}")
            raise
        if book.raging.is_set() and self.rng.random() < 0.03:
            book.done["failures to start"] += 1
            raise CrashAtStart(self.life)
        book.is_up(self.life)

    def _has_ended(self, down: Down) -> None:
        self.book.end(self.life, down.reason)

    def on_stop(self) -> None:
        self._leave()

    def on_failure(self, *_: Any) -> None:
        self._leave()

    def _leave(self) -> None:
        book = self.book
        book.leaves(self.life)
        if self.rng.random() < 0.1:
            book.done["slow ends"] += 1
            book.calm.wait(self.rng.uniform(0.0, 0.01))
        self.life.left = book.now()
        if book.raging.is_set() and self.rng.random() < 0.05:
            book.done["failures at the end"] += 1
            raise InjectedCrash("at the end")

    def on_receive(self, message: Callable[[Any], Any]) -> Any:
        return message(self)

    def fail(self) -> None:
        raise InjectedCrash("through a proxy")

    def hang(self) -> None:
        # Who is given up meanwhile may get a SystemExit.
        with suppress(SystemExit):
            self.book.calm.wait(self.rng.uniform(0.0, 0.1))
        if self.life.ended is not None:
            self.book.do_harm(self.life)


class Worker(_Leaf, Process):
    """A child that is one of our processes."""


class Plain(_Leaf, pykka.ThreadingActor):
    """A child that knows nothing of us."""


def start_supervisor(
    book: Book, key: str, kind: Kind, children: Sequence[ChildSpec], options: dict[str, Any]
) -> Ref:
    """Start a supervisor whose lives are written down as those of any child."""
    above = lineage.here()
    life = book.begin(key, above[0] if above else None)

    def has_let_go() -> None:
        book.end(life, "unknown yet")

    try:
        if kind == "dynamic":
            ref = DynamicSupervisor.start(on_end=has_let_go, **options)
        else:
            ref = Supervisor.start(children, strategy=kind, on_end=has_let_go, **options)
    except BaseException as error:
        if life.ended is None:
            # There never was a process: who was to start it was given up.
            book.end(life, error)
        raise
    book.belongs(life, ref)
    process = lineage.life_of(ref)
    if isinstance(process, Supervising) and isinstance(process._intensity, Window):
        life.window = process._intensity

    def is_told(down: Down) -> None:
        life.reason = down.reason

    monitor(ref, is_told)
    book.is_up(life)
    return ref


@dataclass(frozen=True)
class Branch:
    """A supervisor of the forest, over all its lives.

    Attributes:
        keys: its children at the beginning, in order.
        frail: whether it is ended itself now and then.
    """

    kind: Kind
    keys: tuple[str, ...]
    frail: bool


class Forest:
    """The tree that the storm goes over, with at least `size` children."""

    def __init__(self, book: Book, size: int) -> None:
        self.book = book
        self.branches: dict[str, Branch] = {}
        self.specs: dict[str, ChildSpec] = {}
        """Of all leaves."""
        self.above: dict[str, str] = {}
        """The key of each child's supervisor."""
        self._pooled = count()
        trees = [self._branch("flat", "one_for_one", self._leaves("flat", size * 3 // 10))]
        for number in range(max(1, size // 40)):
            trees += [
                self._group(f"all{number}", "one_for_all"),
                self._group(f"rest{number}", "rest_for_one"),
                self._strict(f"strict{number}", 2 + number),
            ]
        trees.append(self._branch("pool", "dynamic", ()))
        root = self._branch("root", "one_for_one", trees)
        self.root = root.start_function()(*root.start[1])
        for _ in range(size // 5):
            self.start_pooled()

    def _leaf(self, key: str, restart: Restart) -> ChildSpec:
        number = len(self.specs)
        shutdown: Any = (5.0, "brutal_kill", 5.0, 0.02, None)[number % 5]
        kind: type[Worker | Plain] = (Worker, Plain)[number % 2]
        spec = ChildSpec(key, (kind, (self.book, key), {}), restart, shutdown)
        self.specs[key] = spec
        return spec

    def _leaves(self, above: str, number: int) -> list[ChildSpec]:
        restarts: tuple[Restart, ...] = ("permanent", "transient", "permanent", "temporary")
        return [self._leaf(f"{above}.{each}", restarts[each % 4]) for each in range(number)]

    def _group(self, key: str, kind: Kind) -> ChildSpec:
        leaves = self._leaves(key, 6)
        nested = self._branch(f"{key}.nested", kind, self._leaves(f"{key}.nested", 2), frail=True)
        return self._branch(key, kind, [*leaves[:2], nested, *leaves[2:]], frail=True)

    def _strict(self, key: str, most: int) -> ChildSpec:
        options = {"max_restarts": most, "max_seconds": BRIEF}
        leaves = self._leaves(key, 6)
        return self._branch(key, "one_for_one", leaves, frail=True, options=options)

    def _branch(
        self,
        key: str,
        kind: Kind,
        children: Sequence[ChildSpec],
        *,
        frail: bool = False,
        options: dict[str, Any] = LENIENT,
    ) -> ChildSpec:
        self.branches[key] = Branch(kind, tuple(spec.id for spec in children), frail)
        self.above.update((spec.id, key) for spec in children)
        arguments = (self.book, key, kind, tuple(children), options)
        return ChildSpec(key, (start_supervisor, arguments, {}), type="supervisor")

    # What administrators do.

    def terminate(self, key: str) -> None:
        book, sup = self.book, self.book.running[self.above[key]]
        began = book.now()
        try:
            if self.above[key] == "pool":
                DynamicSupervisor.terminate_child(sup, book.running[key], PATIENCE)
            else:
                Supervisor.terminate_child(sup, key, PATIENCE)
        finally:
            book.terminated[key].append((began, book.now()))

    def start_pooled(self) -> None:
        number = next(self._pooled)
        restarts: tuple[Restart, ...] = ("permanent", "transient", "temporary")
        key = f"pool.{number}"
        self.above[key] = "pool"
        self.start_new(self._leaf(key, restarts[number % 3]))

    def start_new(self, spec: ChildSpec) -> None:
        sup = self.book.running[self.above[spec.id]]
        kind = DynamicSupervisor if self.above[spec.id] == "pool" else Supervisor
        self._start_by_hand(sup, "new", lambda: kind.start_child(sup, spec, PATIENCE))

    def start_again(self, key: str) -> None:
        sup = self.book.running[self.above[key]]
        self._start_by_hand(sup, "again", lambda: Supervisor.restart_child(sup, key, PATIENCE))

    def _start_by_hand(
        self, sup: Ref, how: Literal["again", "new"], start: Callable[[], Any]
    ) -> None:
        try:
            ref = start()
        except SupervisorDown:
            self.book.doubtful.add(sup)
            raise
        except StartFailed as error:
            if isinstance(error.cause, CrashAtStart):
                error.cause.life.by_hand = how
            else:
                self.book.doubtful.add(sup)
            raise
        self.book.by_ref[ref].by_hand = how


# Who goes through it.


class Killer:
    """A thread that ends children, and starts others, as its seed says."""

    def __init__(self, forest: Forest, number: int) -> None:
        self._forest = forest
        self._book = forest.book
        self._rng = forest.book.rng(f"killer {number}")
        self._acts = dict(self._ways())
        self._book.done.update(dict.fromkeys(self._acts, 0))
        self.thread = threading.Thread(target=self._run, name=f"killer {number}", daemon=True)

    def _run(self) -> None:
        names = list(self._acts)
        while not self._book.calm.is_set():
            name = self._rng.choice(names)
            try:
                self._acts[name]()
            except pykka.Timeout as error:
                self._book.wrong.append(f"{name} was never answered: {error!r}")
            except (pykka.ActorDeadError, ExRaftError):
                self._book.done["calls that were refused"] += 1
            except BaseException as error:
                self._book.wrong.append(f"{name} raised {error!r}")
            self._book.done[name] += 1
            self._book.calm.wait(self._rng.uniform(0.0, 0.004))

    def _ways(self) -> Iterator[tuple[str, Callable[[], object]]]:
        yield "supervisors killed", lambda: kill(self._supervisor())
        yield "supervisors stopped", self._stop_a_supervisor
        yield "supervisors stopped as Pykka does", self._stop_as_pykka_does
        yield "exceptions under tell", lambda: self._tell(_raise(InjectedCrash("told")))
        yield "exceptions through a proxy", lambda: self._any().proxy().fail.defer()
        yield "exits under tell", lambda: self._tell(_raise(SystemExit()))
        yield "aborts under tell", lambda: self._tell(_raise(Abort()))
        yield "exceptions under ask", self._ask_for_an_exception
        yield "exits under ask", self._ask_for_an_exit
        yield "questions", lambda: self._any().ask(_nothing, timeout=PATIENCE)
        yield "stops", lambda: self._any().stop(block=False)
        yield "stops waited for", lambda: self._any().stop(timeout=PATIENCE)
        yield "exit signals", lambda: send_exit(self._any(), self._reason())
        yield "kills", lambda: kill(self._any())
        yield "ends by a sibling", self._by_a_sibling
        yield "links", self._link
        yield "hanging", lambda: self._tell(lambda child: child.hang())
        yield "killed while hanging", self._kill_a_hanging_one
        yield "terminated by hand", lambda: self._forest.terminate(self._key())
        yield "started again by hand", self._terminate_and_start_again
        yield "replaced by hand", self._replace
        yield "started in the pool", self._start_in_the_pool

    def _key(self) -> str:
        """One of the leaves that run."""
        while True:
            key = self._rng.choice(list(self._book.running))
            if key in self._forest.specs:
                return key

    def _any(self) -> Ref:
        return self._book.running[self._key()]

    def _reason(self) -> object:
        reasons = ("normal", ("shutdown", "storm"), "odd", InjectedCrash("signalled"))
        return self._rng.choice(reasons)

    def _tell(self, act: Callable[[Any], object]) -> None:
        self._any().tell(act)

    def _ask_for_an_exception(self) -> None:
        with suppress(InjectedCrash):
            self._any().ask(_raise(InjectedCrash("asked")), timeout=PATIENCE)
            self._book.wrong.append("an exception under ask did not get to who asked")

    def _ask_for_an_exit(self) -> None:
        with suppress(ProcessDown):
            self._any().ask(_raise(SystemExit()), timeout=PATIENCE)
            self._book.wrong.append("an exit under ask was answered")

    def _by_a_sibling(self) -> None:
        victim, reason = self._any(), self._reason()
        how = self._rng.choice(
            (
                lambda child: kill(victim),
                lambda child: victim.stop(block=False),
                lambda child: send_exit(victim, reason),
            )
        )
        self._tell(how)

    def _link(self) -> None:
        # Nobody whose supervisor's orders are told by the reason "shutdown".
        keys = [key for key in list(self._book.running) if key[:4] == "pool"]
        one, other = (self._book.running[key] for key in self._rng.sample(keys[1:], 2))
        one.tell(lambda child: links.link(one, other))

    def _kill_a_hanging_one(self) -> None:
        ref = self._any()
        ref.tell(lambda child: child.hang())
        self._book.calm.wait(0.002)
        kill(ref)

    def _by_id(self) -> str:
        """A leaf of a supervisor that knows it by its id, running or not."""
        return self._rng.choice([key for key in list(self._forest.specs) if key[:4] != "pool"])

    def _terminate_and_start_again(self) -> None:
        key = self._by_id()
        with suppress(pykka.ActorDeadError, ExRaftError):
            self._forest.terminate(key)
        self._forest.start_again(key)

    def _replace(self) -> None:
        # Only where the order does not matter: the new one comes last.
        key = self._rng.choice(self._forest.branches["flat"].keys)
        sup = self._book.running["flat"]
        with suppress(ExRaftError):
            self._forest.terminate(key)
        with suppress(ExRaftError):
            Supervisor.delete_child(sup, key, PATIENCE)
        self._forest.start_new(self._forest.specs[key])

    def _start_in_the_pool(self) -> None:
        sup = self._book.running["pool"]
        if DynamicSupervisor.count_children(sup, PATIENCE).specs < 80:
            self._forest.start_pooled()

    def _supervisor(self) -> Ref:
        branches = self._forest.branches
        return self._book.running[self._rng.choice([k for k in branches if branches[k].frail])]

    def _stop_a_supervisor(self) -> None:
        Supervisor.stop(self._supervisor(), self._reason(), PATIENCE)

    def _stop_as_pykka_does(self) -> None:
        self._supervisor().stop(timeout=PATIENCE)


def _raise(error: BaseException) -> Callable[[Any], object]:
    def raise_it(child: Any) -> None:
        raise error

    return raise_it


def _nothing(child: Any) -> None:
    pass


# The whole.


class _Watchman(logging.Handler):
    """Notes what is logged that nobody has done on purpose."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, InjectedCrash | Abort | Exit | SystemExit):
            self._wrong.append(f"{record.getMessage()} {error!r}")

    def on_thread(self, args: threading.ExceptHookArgs) -> None:
        self._wrong.append(f"the thread {args.thread} died of {args.exc_value!r}")


@contextmanager
def _watching(wrong: list[str]) -> Iterator[None]:
    watchman, logger = _Watchman(wrong), logging.getLogger("exraft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervising, "Intensity", Window)
        patch.setattr(logger, "propagate", False)
        patch.setattr(threading, "excepthook", watchman.on_thread)
        logger.addHandler(watchman)
        try:
            yield
        finally:
            logger.removeHandler(watchman)


class Storm:
    """A storm that is over.

    Attributes:
        calm: the forest when nothing died any more.
        stopping: the number at which the forest was stopped.
        under: for each life of a supervisor those of its children, in the order they began.
        left: what was there afterwards and not before.
    """

    def __init__(self, seed: int, seconds: float, size: int) -> None:
        self.seed = seed
        self.seconds = seconds
        before = _everything()
        self.book = book = Book(seed)
        with _watching(book.wrong):
            self.forest = forest = Forest(book, size)
            killers = [Killer(forest, number) for number in range(KILLERS)]
            book.raging.set()
            for killer in killers:
                killer.thread.start()
            began = monotonic()
            book.calm.wait(seconds)
            while not book.complete() and monotonic() < began + seconds + PATIENCE:
                # A slow machine has not come to everything yet.
                book.calm.wait(0.1)
            book.raging.clear()
            book.calm.set()
            for killer in killers:
                killer.thread.join(PATIENCE)
                if killer.thread.is_alive():
                    book.wrong.append(f"{killer.thread.name} hangs")
            self.calm = self._settle()
            self.stopping = book.now()
            Supervisor.stop(forest.root, timeout=PATIENCE)
            book.close()
            self.left = _await_end(before)
        self.under: dict[Ref | None, list[Life]] = defaultdict(list)
        for life in book.all():
            self.under[life.parent].append(life)

    def _settle(self) -> Node:
        """Wait until nobody dies any more, and all that have died were noticed; the tree then."""
        deadline = monotonic() + PATIENCE
        while True:
            lives = len(self.book.all())
            self._ask_everybody()
            # A second time: one may have ended another after that had answered.
            calm = self._ask_everybody()
            node = tree(self.forest.root, PATIENCE)
            if calm and len(self.book.all()) == lives:
                return node
            if monotonic() > deadline:
                self.book.wrong.append(f"after {PATIENCE} s it was not calm")
                return node

    def _ask_everybody(self) -> bool:
        """Whether all answer, and none is about to be started again."""
        pending = [tree(self.forest.root, PATIENCE)]
        while pending:
            node = pending.pop()
            pending += node.children
            if node.state in ("restarting", "busy"):
                return False
            if node.ref is not None and node.kind == "worker":
                try:
                    node.ref.ask(_nothing, timeout=PATIENCE)
                except pykka.ActorDeadError:
                    return False
        return True

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.seconds:g} s, {len(self.book.all())} lives"]
        lines += [f"  {number:>8}  {what}" for what, number in sorted(self.book.done.items())]
        lines.append(
            f"replay: STRESS_SECONDS={self.seconds:g} STRESS_SEED={self.seed}"
            " python -m pytest tests/stress/test_storms.py"
        )
        return "\n".join(lines)


def _everything() -> Counter[str]:
    """What a storm must not leave behind."""
    return Counter(
        [f"the thread {thread.name}" for thread in threading.enumerate()]
        + [f"the actor {ref}" for ref in pykka.ActorRegistry.get_all()]
        + [f"the name {name}" for name in ActorRegistry._names]
        + [f"the fence of {thread.name}" for thread in list(fence.threads)]
        + [f"the link of {pair}" for pair in list(links._links)]
    )


def _await_end(before: Counter[str]) -> list[str]:
    """Wait until all threads that are new have ended; what is there then and was not before."""
    deadline = monotonic() + PATIENCE
    for thread in threading.enumerate():
        # One that could not be started at all, which is wrong, can't be joined.
        if f"the thread {thread.name}" not in before and thread.ident is not None:
            thread.join(max(0.0, deadline - monotonic()))
    return sorted((_everything() - before).elements())
