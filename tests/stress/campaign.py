"""One stress test from beginning to end: a ledger in use while everything goes wrong.

Knows who writes and reads, for how long, and what must hold when calm has returned. Must not know
how servers are made to fail: that is `faults`.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import Any

import pykka

from exraft import ActorRegistry, Client, ExRaft, ExRaftError
from exraft.errors import Redirect
from exraft.names import Server
from tests.stress.faults import Faults, InjectedCrash, Network, status_of
from tests.stress.ledger import ACCOUNTS, EVERYTHING, Accounts, Books, Ledger, Overdraft, Transfer

WRITERS = 16
READERS = 4
PATIENCE = 60.0
"""Seconds that anything may take on a loaded machine once calm has returned."""
BURST = 10
"""Transfers of one writer between two pauses."""
GRACE = 30.0
"""Seconds past its timeout after which a call counts as hung."""


@dataclass
class Report:
    """What a campaign exercised, and what was wrong."""

    seed: int
    seconds: float
    totals: dict[str, int] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.seconds:.1f} s"]
        lines += [f"  {count:>8}  {what}" for what, count in self.totals.items()]
        lines.append("failed writes: " + ", ".join(f"{n} {why}" for why, n in self.why.items()))
        lines += [f"WRONG: {each}" for each in self.wrong[:20]]
        if self.wrong:
            lines.append(
                f"replay: python -m tests.stress --seconds {self.seconds:.0f} --seed {self.seed}"
            )
        return "\n".join(lines)


class Users:
    """Threads that write and read until calm is called, each in a way of its own."""

    def __init__(self, seed: int, books: Books, calm: threading.Event, names: list[str]) -> None:
        self._books = books
        self._calm = calm
        self._names = names
        """Who runs; changes meanwhile."""
        self.hung: list[str] = []
        ways = (self._through_client, self._directly, self._through_client_async, self._pipelined)
        self._threads = [
            threading.Thread(
                target=ways[number % len(ways)],
                args=(f"writer{number}", random.Random(f"{seed} writer {number}")),
                name=f"writer {number}",
                daemon=True,
            )
            for number in range(WRITERS)
        ] + [
            threading.Thread(
                target=self._read,
                args=(random.Random(f"{seed} reader {number}"), number % 2 == 0),
                name=f"reader {number}",
                daemon=True,
            )
            for number in range(READERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> list[str]:
        """Wait for their last calls; return who hangs."""
        deadline = monotonic() + PATIENCE + GRACE
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        alive = [f"{thread.name} hangs" for thread in self._threads if thread.is_alive()]
        return alive + self.hung

    def _client(self, rng: random.Random) -> Client:
        """One that begins to ask anywhere."""
        names = self._names.copy()
        rng.shuffle(names)
        return ExRaft.client(names)

    def _transfers(self, who: str, rng: random.Random) -> Iterator[Transfer]:
        """At a walking pace: what is tried here is faults, and more of them than of entries."""
        number = 0
        while not self._calm.is_set():
            number += 1
            if number % BURST == 0:
                self._calm.wait(rng.uniform(0.0, 0.05))
            source, target = rng.sample(ACCOUNTS, 2)
            yield f"{who}.{number}", source, target, rng.randint(1, 40)

    def _through_client(self, who: str, rng: random.Random) -> None:
        client = self._client(rng)
        for transfer in self._transfers(who, rng):
            timeout = rng.choice((0.05, 2.0, 10.0))
            error = self._write(transfer, timeout, partial(client.write, transfer))
            if isinstance(error, ExRaftError) or rng.random() < 0.05:
                client = self._client(rng)

    def _directly(self, who: str, rng: random.Random) -> None:
        server: Server = rng.choice(self._names)
        for transfer in self._transfers(who, rng):
            write = partial(ExRaft.write, server, transfer)
            error = self._write(transfer, rng.choice((0.05, 5.0)), write)
            server = self._whom_next(server, error, rng)

    def _whom_next(self, server: Server, error: BaseException | None, rng: random.Random) -> Server:
        """Mostly the leader; now and then another server, who may lead without others knowing."""
        if isinstance(error, Redirect) and rng.random() < 0.9:
            return error.leader
        astray = isinstance(error, ExRaftError) or rng.random() < 0.1
        return rng.choice(self._names) if astray else server

    def _write(
        self, transfer: Transfer, timeout: float, write: Callable[..., int]
    ) -> BaseException | None:
        floor = self._books.floor
        began = monotonic()
        try:
            number = write(timeout=timeout)
        except (ExRaftError, Overdraft) as error:
            self._books.fail(transfer[0], error)
            return error
        else:
            self._books.acknowledge(transfer[0], number, floor)
            return None
        finally:
            self._check_in_time(transfer[0], began, timeout)

    def _through_client_async(self, who: str, rng: random.Random) -> None:
        client = self._client(rng)

        def write(transfer: Transfer) -> pykka.Future[int]:
            return client.write_async(transfer)

        for error in self._many_at_once(who, rng, write):
            if isinstance(error, ExRaftError):
                client = self._client(rng)

    def _pipelined(self, who: str, rng: random.Random) -> None:
        server: Server = rng.choice(self._names)

        def write(transfer: Transfer) -> pykka.Future[int]:
            return ExRaft.write_async(server, transfer)

        for error in self._many_at_once(who, rng, write):
            server = self._whom_next(server, error, rng)

    def _many_at_once(
        self, who: str, rng: random.Random, write: Callable[[Transfer], pykka.Future[int]]
    ) -> Iterator[BaseException | None]:
        """Rounds of writes that wait together; yields the last error of each round."""
        transfers = self._transfers(who, rng)
        while not self._calm.is_set():
            floor = self._books.floor
            failed: BaseException | None = None
            waiting: list[tuple[str, pykka.Future[int]]] = []
            for transfer in islice(transfers, rng.randint(1, 30)):
                try:
                    waiting.append((transfer[0], write(transfer)))
                except ExRaftError as error:
                    self._books.fail(transfer[0], error)
                    failed = error
            for unique, future in waiting:
                began = monotonic()
                try:
                    self._books.acknowledge(unique, future.get(timeout=5.0), floor)
                except (ExRaftError, Overdraft) as error:
                    self._books.fail(unique, error)
                    failed = error
                self._check_in_time(unique, began, 5.0)
            yield failed

    def _read(self, rng: random.Random, through_client: bool) -> None:
        client = self._client(rng)
        server: Server = rng.choice(self._names)
        while not self._calm.is_set():
            # Known before the read begins, so it must see all of it.
            floor = self._books.floor
            unique = self._books.any_acknowledged()
            began = monotonic()
            timeout = rng.choice((0.5, 3.0))
            try:
                if through_client:
                    count, found = client.read(unique, timeout)
                else:
                    count, found = ExRaft.read(server, unique, timeout)
            except ExRaftError as error:
                server = self._whom_next(server, error, rng)
                continue
            finally:
                self._check_in_time("a read", began, timeout)
            self._books.see(count, floor, unique, found or not unique)

    def _check_in_time(self, what: str, began: float, timeout: float) -> None:
        took = monotonic() - began
        if took > timeout + GRACE:
            self.hung.append(f"{what} took {took:.1f} s, and its timeout was {timeout} s")


class Watchman(logging.Handler):
    """Notes what no server may do, whatever is done to it: die by itself, or be wronged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.wrong: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # What a supervisor reports of a child's end.
        reason = getattr(record, "reason", None)
        if isinstance(error, InjectedCrash) or isinstance(reason, InjectedCrash):
            return
        if reason == "normal":
            return
        self.wrong.append(f"{record.getMessage()} {_where(error)}")

    def on_thread(self, args: threading.ExceptHookArgs) -> None:
        who = args.thread.name if args.thread else "a thread"
        self.wrong.append(f"{who} died: {args.exc_value!r} {_where(args.exc_value)}")


def _where(error: BaseException | None) -> str:
    if error is None:
        return ""
    frames: list[str] = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        frames.append(f"{step.tb_frame.f_code.co_name}:{step.tb_lineno}")
        step = step.tb_next
    return f"({error!r} at {' > '.join(frames)})"


@contextmanager
def watching() -> Iterator[Watchman]:
    watchman = Watchman()
    logger = logging.getLogger("exraft")
    propagate, hook = logger.propagate, threading.excepthook
    logger.addHandler(watchman)
    logger.propagate = False
    threading.excepthook = watchman.on_thread
    try:
        yield watchman
    finally:
        threading.excepthook = hook
        logger.propagate = propagate
        logger.removeHandler(watchman)


def run(seed: int, seconds: float, progress: Callable[[str], object] | None = None) -> Report:
    """Run five servers under fire for `seconds`, and on until everything was exercised once."""
    report = Report(seed, seconds)
    calm = threading.Event()
    books = Books()
    rng = random.Random(seed)
    with watching() as watchman, Network(random.Random(f"{seed} network")) as network:
        faults = Faults(Ledger, rng, network, calm)
        faults.found()
        users = Users(seed, books, calm, faults.running)
        trouble = threading.Thread(target=faults.run, name="faults", daemon=True)
        try:
            ExRaft.await_leader(faults.running[0], timeout=PATIENCE)
            users.start()
            trouble.start()
            _wait(seconds, lambda: _totals(faults, network, books), progress)
            calm.set()
            trouble.join(PATIENCE)
            if trouble.is_alive():
                report.wrong.append("the thread of faults hangs")
            faults.repair()
            report.wrong += users.join()
            report.wrong += _settle(faults, books)
        finally:
            calm.set()
            network.heal()
            for name in faults.running.copy():
                ExRaft.stop_server(name, timeout=PATIENCE)
        report.totals = _totals(faults, network, books)
        report.why = dict(books.why)
        report.wrong += network.violations
    report.wrong += watchman.wrong
    report.wrong += [f"{name} is still registered" for name in ActorRegistry.names()]
    report.wrong += [f"{kind}: never happened" for kind, n in report.totals.items() if n == 0]
    return report


def _wait(
    seconds: float,
    totals: Callable[[], dict[str, int]],
    progress: Callable[[str], object] | None,
) -> None:
    """For so long, and longer if something has not happened yet; not for ever."""
    pause = threading.Event()
    began = monotonic()
    while True:
        pause.wait(0.5)
        now = monotonic() - began
        counts = totals()
        if progress is not None:
            writes = counts["writes acknowledged"]
            progress(f"{now:5.1f} s  {counts['elections']} elections  {writes} writes")
        if now >= seconds and (all(counts.values()) or now >= seconds + PATIENCE):
            return


def _totals(faults: Faults, network: Network, books: Books) -> dict[str, int]:
    return {
        "elections": network.elections,
        "writes acknowledged": len(books.acknowledged),
        "writes refused by the machine": len(books.refused),
        "writes that failed for certain": len(books.definite),
        "writes of unknown outcome": len(books.unknown),
        "linearizable reads": books.reads,
        **{kind: faults.done[kind] for kind in faults.kinds},
    }


def _settle(faults: Faults, books: Books) -> list[str]:
    """Let every member catch up; compare them with the books."""
    floor = books.floor
    last = ("the last transfer", ACCOUNTS[0], ACCOUNTS[1], 0)
    number = ExRaft.client(faults.running).write(last, timeout=PATIENCE)
    books.acknowledge(last[0], number, floor)
    deadline = monotonic() + PATIENCE
    while True:
        leader = faults.leader()
        if leader is not None and leader.applied_index == leader.last_index:
            members = [peer.name for peer in leader.config.voters]
            states = [status_of(name) for name in members]
            if all(each and each.applied_index == leader.last_index for each in states):
                break
        if monotonic() > deadline:
            return [f"no convergence: {[(name, status_of(name)) for name in faults.running]}"]
    replicas: dict[str, Any] = {
        name: ExRaft.read_dirty(name, EVERYTHING, PATIENCE) for name in members
    }
    wrong = [
        f"{name} read as {state!r}"
        for name, state in replicas.items()
        if type(state) is not Accounts
    ]
    return wrong or books.audit(replicas)
