"""A cluster in a world of its own, that lives through everything its seed has in store for it.

Knows how a run begins, goes on, and is judged at its end, and what is said of one that fails. Must
not know how anything is done: that is `trouble`'s, the `clients`', `calm`'s and the `invariants`'.

The way of working is FoundationDB's and TigerBeetle's: the code that runs in production, with time,
chance, network and disk in the hand of the test, so that a failure can be had again from its seed.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from exraft.codec import encode
from exraft.machine import MachineFactory, check_machine
from exraft.raft import Options
from exraft.testing.calm import Calm
from exraft.testing.clients import Client, Kind
from exraft.testing.faults import Faults
from exraft.testing.history import History
from exraft.testing.invariants import Violation
from exraft.testing.linearizability import linearizable
from exraft.testing.models import MachineModel, Model
from exraft.testing.plan import Drawing, Happening, Plan, rates
from exraft.testing.trace import Trace
from exraft.testing.trouble import Trouble
from exraft.testing.world import Check, World

LONGEST: Final = 30.0
"""Virtual seconds of faults at most, however little was committed meanwhile."""
BEGINNING: Final = 0.3
"""Virtual seconds in which the servers are started."""
ROWS: Final = 60
"""Of a trace, in the message of a failure."""
IN_VAIN: Final = 200
"""Commands in a row that may be refused."""
STATES: Final = 50_000
"""Searched at most to decide whether a history is linearizable."""

_EMPTY: list[Any] = []
"""Never handed out: each life is given a copy."""

Draw = Callable[[random.Random], Any]


@dataclass
class Report:
    """What a run has been through.

    Attributes:
        steps: how many messages arrived and deadlines passed.
        seconds: virtual ones.
        commits: commands that were committed.
        suffered_steps: those of the steps that came while faults were on.
        suffered_commits: those of the commits that came while faults were on.
        counts: what was exercised, by kind.
        history: the clients' calls.
        decided: whether it was found out if the history is linearizable (see `linearizable`).
        plan: what happened, when the faults stopped, and what was done after that.
        faults: how bad it was.
        trace: everything that happened, if it was asked for.
    """

    seed: int
    servers: int
    steps: int
    seconds: float
    commits: int
    suffered_steps: int
    suffered_commits: int
    counts: Counter[str]
    history: History
    decided: bool
    plan: Plan
    faults: Faults
    trace: list[str] = field(default_factory=list)


class SimulationFailed(Violation):
    """A run in which an invariant does not hold.

    Attributes:
        invariant: which of `exraft.testing.INVARIANTS`.
        what: who did what.
        seed: of the run.
        again: how to see it again.
        report: of the run, as far as it came; of the shrunk one, if there is one.
        plan: what happened in that run, for `Simulation.run`.
        faults: how bad that run was, for `Simulation`.
        trace: all of it.
    """

    def __init__(self, found: Violation, report: Report, again: str, story: str) -> None:
        super().__init__(found.invariant, found.what)
        self.seed = report.seed
        self.again = again
        self.report = report
        self.plan = report.plan
        self.faults = report.faults
        self.trace = report.trace
        self._story = story

    def __str__(self) -> str:
        last = self.trace[:1] + self.trace[1:][-ROWS:]
        return "\n".join([f"{self.invariant}: {self.what}", self._story, *last, self.again])


class Mistake(Exception):
    """What the test itself raised."""


class Simulation:
    """A simulated cluster, and what happens to it.

    One thread, virtual time: seconds of it take milliseconds. The consensus core, the stores and
    what runs the machine are those that run in production; the network, the disks, the clocks and
    the clients are simulated, and every choice comes from the seed: also whether the stores are
    those in memory or those on disk, and how often servers take snapshots, which the machine's
    `snapshot` and `restore` must be able to stand for. The same seed gives the same
    history, byte for byte, on every supported version of Python, as long as the machine, `commands`
    and `queries` depend on nothing else.

    While it runs, everything in `exraft.testing.INVARIANTS` is judged after every step; at its end,
    once the faults have stopped, the cluster must elect, answer and agree, and what the clients
    were told must be linearizable.

    Args:
        machine: the state machine, as for `ExRaft.start_server`.
        init_arg: what its `init` gets a copy of.
        commands: given a `random.Random`, returns a command.
        queries: given a `random.Random`, returns a query; without it nothing is read.
        servers: how many found the cluster; up to three more may be added to it.
        clients: how many calls are under way at once at most.
        seed: of all chance.
        faults: how much goes wrong; drawn from the seed, if not given (see `Faults.drawn`).
        options: `exraft.raft.Options`, election timeouts and the like; drawn from the seed, if not
            given.
        check: given the state, raises `AssertionError` or returns `False` if something is wrong
            with it (`None` is right); called after every entry on every server. It must not
            change the state.
        model: what the history is held against; the machine itself, if not given. One with keys
            (see `exraft.testing.KeyValue`, or `MachineModel(..., key=)`) is faster.
        events: steps that the faults go on for at least.
        commits: commands that are committed at least.
        calls: of clients, in a virtual second.
        shrink: runs that may be spent to make a failing one shorter.

    Raises:
        TypeError, ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        machine: MachineFactory,
        init_arg: Any = _EMPTY,
        *,
        commands: Draw,
        queries: Draw | None = None,
        servers: int = 5,
        clients: int = 10,
        seed: int = 0,
        faults: Faults | None = None,
        options: Options | None = None,
        check: Check | None = None,
        model: Model[Any] | None = None,
        events: int = 2000,
        commits: int = 50,
        calls: float = 20.0,
        shrink: int = 200,
    ) -> None:
        self.machine = check_machine(machine)
        self.init_arg = init_arg
        for name, draw in (("commands", commands), ("queries", queries)):
            if not callable(draw) and (draw is not None or name == "commands"):
                raise TypeError(
                    f"{name} is a function that is given a random.Random and returns one of them,"
                    f" and not {draw!r}"
                )
        for name, number, least, most in (
            ("servers", servers, 1, 9),
            ("clients", clients, 1, 1000),
            ("events", events, 0, 10_000_000),
            ("commits", commits, 0, 1_000_000),
            ("shrink", shrink, 0, 1_000_000),
        ):
            if type(number) is not int or not least <= number <= most:
                raise ValueError(f"{name} is from {least} to {most:,}, and not {number!r}")
        if not _is_number(calls) or not 0 < calls <= 10_000:
            raise ValueError(f"calls is more than 0 and at most 10,000, and not {calls!r}")
        if check is not None and not callable(check):
            raise TypeError(f"check is a function that is given the state, and not {check!r}")
        for name, value, kind in (
            ("faults", faults, Faults),
            ("options", options, Options),
            ("model", model, Model),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is of the class {kind.__name__}, and not {value!r}")
        if type(seed) is not int:
            raise TypeError(f"seed is an int, and not {seed!r}")
        self.commands = commands
        self.queries = queries
        self.servers = servers
        self.clients = clients
        self.seed = seed
        rng = random.Random(f"{seed} what it suffers from")
        drawn = Faults.drawn(rng)
        self.faults = drawn if faults is None else faults
        drawn_options = _drawn_options(rng)
        self.options = drawn_options if options is None else options
        self.min_majority = rng.choice((1, 1, 2)) if servers > 2 else 1
        self.patience = rng.choice((0.5, 2.0, 5.0))
        """Of clients, in virtual seconds."""
        self.snapshot_every = rng.choice((None, 5, 10, 20, 40))
        """Entries after which a server takes a snapshot by itself; None: only when it is told."""
        self.on_disk = rng.random() < 1 / 3
        """Whether the stores are those on disk, and the disks simulated."""
        self.check = check
        self.model = model
        self.events = events
        self.commits = commits
        self.calls = calls
        self.shrink = shrink
        self.again = f"again: the same Simulation, with seed={seed}"
        """How a failure can be seen again."""

    def run(self, *, trace: bool = False, plan: Plan | None = None) -> Report:
        """Live through it.

        Args:
            trace: keep all that happens in the report.
            plan: what happens, instead of what the seed has in store.

        Raises:
            SimulationFailed: an invariant does not hold. Its message has the seed, and a trace of a
                run that was made as short as possible.
        """
        run = Run(self, self.faults, plan, trace=trace)
        found = run.live()
        if found is None:
            return run.report()
        # Here, for it runs simulations in its turn.
        from exraft.testing.shrink import shrunk

        # The way through the simulator's own code would be all that a report of pytest shows.
        raise shrunk(self, run, found) from None


class Run:
    """One life of a simulation."""

    def __init__(
        self, simulation: Simulation, faults: Faults, plan: Plan | None, *, trace: bool
    ) -> None:
        self.simulation = simulation
        self.faults = faults
        seed = simulation.seed
        self._plan = plan
        self._happened: list[Happening] = []
        self._end = 0.0
        self._suffered: tuple[int, int] | None = None
        self._calls = 0
        self._decided = True
        self.history = History()
        options = simulation.options
        world = self.world = World(
            simulation.servers,
            simulation.machine,
            simulation.init_arg,
            seed=seed,
            options=options,
            faults=faults,
            min_majority=simulation.min_majority,
            check=simulation.check,
            on_disk=simulation.on_disk,
        )
        world.gathering = 0.3
        world.snapshot_every = simulation.snapshot_every
        self.trace = Trace(world) if trace else None
        self._rng = random.Random(f"{seed} servers")
        self.trouble = Trouble(
            world,
            min_majority=simulation.min_majority,
            hasty=simulation.min_majority == 2 and not faults.lost_disks,
        )
        self._clients = [
            Client(f"client {number}", world, self.history)
            for number in range(1, simulation.clients + 1)
        ]
        self._everyone = self._clients.copy()
        self._probes: list[Client] = []
        self._probing = 0
        self.calm = Calm(world, self.trouble, options, seed, self._serves)

    def live(self) -> Violation | None:
        """Run to the end, or to the first invariant that does not hold: that is returned."""
        try:
            self._start()
            self._suffer()
            self.calm.come()
            self._top_up()
            self._judge()
        except Violation as found:
            return found
        except Mistake as mistake:
            assert mistake.__cause__ is not None
            raise mistake.__cause__ from None
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-3:])
            return Violation("nothing raises", f"{type(error).__name__}: {error}\n{where}")
        finally:
            if self.trace is not None:
                self.trace.look()
        return None

    @property
    def end(self) -> float:
        """When the faults stopped; a moment after the run did, if that was before."""
        return self._end or self.world.now + 0.1

    def report(self) -> Report:
        world = self.world
        suffered_steps, suffered_commits = self._suffered or (world.steps, world.commits)
        return Report(
            seed=self.simulation.seed,
            servers=len(world.peers),
            steps=world.steps,
            seconds=world.now,
            commits=world.commits,
            suffered_steps=suffered_steps,
            suffered_commits=suffered_commits,
            counts=world.counts,
            history=self.history,
            decided=self._decided,
            plan=Plan(tuple(self._happened), self.end, self._calls),
            faults=self.faults,
            trace=self.trace.lines() if self.trace is not None else [],
        )

    def _start(self) -> None:
        world = self.world
        for peer in world.peers:

            def start(peer: Any = peer) -> None:
                self.trouble.start(peer)

            world.later(self._rng.random() * BEGINNING, start)
        world.live_until(BEGINNING)

    def _suffer(self) -> None:
        world = self.world
        simulation = self.simulation
        if self._plan is not None:
            for happening in self._plan.happenings:
                self._happen(happening)
            world.live_until(self._plan.end)
        else:
            reads = 0.0 if simulation.queries is None else 0.4
            drawing = Drawing(simulation.seed, rates(self.faults, simulation.calls, reads))
            while world.now < LONGEST and (
                world.steps < simulation.events or world.commits < simulation.commits
            ):
                self._happen(drawing.next())
        self._end = world.now
        self._suffered = world.steps, world.commits

    def _happen(self, happening: Happening) -> None:
        self.world.live_until(BEGINNING + happening.at)
        self._happened.append(happening)
        if happening.kind in ("write", "read"):
            self._call("write" if happening.kind == "write" else "read", happening.draw)
        else:
            self.trouble.happen(happening)

    def _call(self, kind: Kind, draw: int) -> None:
        """Let a client that is idle make a call; or several at once, as it comes in life."""
        rng = random.Random(draw)
        for _ in range(1 if rng.random() < 0.8 else 5):
            idle = [client for client in self._clients if not client.busy]
            if idle:
                client = idle[int(rng.random() * len(idle))]
                client.call(kind, self._drawn(kind, rng), self.simulation.patience)

    def _drawn(self, kind: Kind, rng: random.Random) -> Any:
        simulation = self.simulation
        draw = simulation.commands if kind == "write" else simulation.queries
        assert draw is not None
        try:
            drawn = draw(rng)
            encode(drawn)
        except Exception as error:
            raise Mistake from error
        return drawn

    def _serves(self, anew: bool) -> bool:
        """Whether a write and a read that were asked for since have been answered; else ask."""
        if anew:
            self._probes = []
        if not self._probes:
            for _ in range(1 if self.simulation.queries is None else 2):
                self._probing += 1
                self._probes.append(Client(f"probe {self._probing}", self.world, self.history))
            self._everyone += self._probes
        kinds: tuple[Kind, Kind] = ("write", "read")
        for kind, probe in zip(kinds, self._probes, strict=False):
            if not probe.busy and not probe.served:
                rng = random.Random(f"{probe.name} {self.world.steps}")
                probe.call(
                    kind, self._drawn(kind, rng), self.simulation.options.max_election_timeout
                )
        return all(probe.served for probe in self._probes)

    def _top_up(self) -> None:
        """Do what is left to be done, or planned: the faults may have let little through."""
        simulation = self.simulation
        world = self.world
        in_vain = 0
        plan = self._plan
        while (
            self._calls < plan.calls
            if plan is not None
            else world.commits < simulation.commits or world.steps < simulation.events
        ):
            before = world.commits
            self._calls += 1
            self._probes = []
            self.calm.serve()
            in_vain = 0 if world.commits > before else in_vain + 1
            if plan is None and in_vain >= IN_VAIN and world.commits < simulation.commits:
                raise Mistake from ValueError(
                    f"{IN_VAIN} commands in a row were refused, and {world.commits} of"
                    f" {simulation.commits} committed: does is_command refuse them all?"
                )
        self.calm.agree()

    def _judge(self) -> None:
        """What the clients were told must be what one machine could have told them.

        They don't know what became of some writes. By now all logs agree, so what is in none of
        them had no effect, and nobody may have seen one.
        """
        simulation = self.simulation
        for client in self._everyone:
            for token, attempt in client.unknown:
                if not self.world.has_committed(attempt):
                    self.history.fail(token)
        model = simulation.model
        if model is None:
            model = MachineModel(simulation.machine, simulation.init_arg)
        verdict = linearizable(self.history, model, limit=STATES)
        self._decided = not verdict.unknown
        if not verdict.ok and not verdict.unknown:
            raise Violation("linearizability", verdict.explain())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawn_options(rng: random.Random) -> Options:
    shortest = rng.choice((0.3, 0.5, 1.0))
    return Options(
        min_election_timeout=shortest,
        max_election_timeout=2 * shortest,
        heartbeat_timeout=0.1,
        batch_size=rng.choice((2, 5, 100)),
        max_append_bytes=rng.choice((64, 1024)),
        max_uncommitted_bytes=rng.choice((200, 1 << 20, 1 << 20)),
        keep_entries=rng.choice((0, 1, 5, 20)),
        keep_bytes=rng.choice((100, 1 << 20, 1 << 20)),
        snapshot_chunk_bytes=rng.choice((12, 40, 1024)),
    )
