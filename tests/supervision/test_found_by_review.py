"""What a reader of the code found wrong, each with how it shows."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import partial
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, Role
from exraft.actors import Down, Process, kill, members, monitor
from exraft.actors.spec import Estate, Tenure
from exraft.actors.transport import local
from exraft.errors import StartFailed
from exraft.options import make_spec
from exraft.raft import Config
from exraft.raft.messages import VoteReply
from exraft.storage import MemoryStore
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor
from tests.helpers import LIMIT, RAFT, Gate, Network, in_thread, wait_until
from tests.supervision.test_raft_in_a_tree import Tally, founders, spec


class Worker(Process):
    """Runs the functions that it is sent."""

    def on_receive(self, message: Any) -> Any:
        return message(self)


def worker(id: str, **fields: Any) -> ChildSpec:
    return ChildSpec(id, (Worker, (), {}), **fields)


def child(sup: pykka.ActorRef[Any], number: int) -> pykka.ActorRef[Any]:
    ref = Supervisor.which_children(sup, LIMIT)[number].ref
    assert isinstance(ref, pykka.ActorRef)
    return ref


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_child_that_kills_its_supervisor_leaves_no_sibling_alive(number: int) -> None:
    """S34."""
    ended = threading.Event()
    sup = Supervisor.start([worker(id) for id in "abc"], on_end=ended.set)
    child(sup, number).tell(lambda self: kill(sup))
    assert ended.wait(LIMIT)
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "nobody is left")


def test_a_stranger_founds_nothing_anew_while_others_may_come_back(network: Network) -> None:
    """Rule 29: though nobody of its cluster lives at that moment. The one that lags would vote for
    it, and both would know nothing of what was acknowledged."""
    behind = RAFT[2]
    network.lose(lambda sender, to, _: behind in (sender.name, to.name))
    quick: dict[str, Any] = {"min_election_timeout": 0.3, "max_election_timeout": 0.6}
    sup = Supervisor.start(founders(**quick), max_restarts=100)
    client = ExRaft.client(RAFT[:2])
    assert client.write(7, timeout=LIMIT) == 7
    for name in RAFT:
        Supervisor.terminate_child(sup, name, timeout=LIMIT)
    Supervisor.delete_child(sup, RAFT[1], timeout=LIMIT)
    network.heal()
    Supervisor.start_child(sup, spec(RAFT[1], initial_config=RAFT, **quick), timeout=LIMIT)
    Supervisor.restart_child(sup, behind, timeout=LIMIT)
    ExRaft.trigger_election(RAFT[1], LIMIT)
    assert ExRaft.state(RAFT[1], LIMIT) is Role.FOLLOWER
    Supervisor.restart_child(sup, RAFT[0], timeout=LIMIT)
    assert ExRaft.client(RAFT).read(None, timeout=LIMIT) == 7


def test_a_supervisor_that_is_given_up_at_its_end_takes_no_store_from_its_successor() -> None:
    estate = Estate(make_spec(Tally, 0, ":late", {}, local), MemoryStore(), local)
    gate = Gate()
    first, second = Tenure(estate), Tenure(estate)
    first.begin_life()
    first.effects.run([gate.pass_through])
    with in_thread(first.close):
        gate.await_someone()
        # Killed meanwhile: nobody waits for it.
        present = second.begin_life()
        gate.open()
    present.set_ballot(1, None, leads=False)
    present.sync()
    second.close()


def test_a_supervisor_that_ends_after_its_successor_has_begun_takes_nothing_from_it() -> None:
    """Its `on_end` may be late: who kills it waits a second at most."""
    estate = Estate(make_spec(Tally, 0, ":late", {}, local), MemoryStore(), local)
    first, second = Tenure(estate), Tenure(estate)
    first.begin_life()
    present = second.begin_life()
    members.note(estate.spec.peer, Config((estate.spec.peer,)), present)
    first.close()
    present.set_ballot(1, None, leads=False)
    present.sync()
    assert estate.spec.peer in members._living
    second.close()
    assert estate.spec.peer not in members._living


def test_a_vote_is_noted_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 29: one that is given up in between has promised something."""
    noted: list[str] = []
    sent: list[tuple[str, bool]] = []
    note = members.note

    def note_it(peer: Any, *args: Any) -> None:
        noted.append(peer.name)
        note(peer, *args)

    monkeypatch.setattr(members, "note", note_it)

    def look(sender: Any, to: Any, message: Any) -> bool:
        if isinstance(message, VoteReply) and message.granted:
            sent.append((sender.name, sender.name in noted))
        return False

    local.drop = look
    try:
        Supervisor.start(founders(), name=":top")
        ExRaft.await_leader(RAFT[0], LIMIT)
    finally:
        local.drop = None
    assert all(was_noted for _, was_noted in sent)


def test_a_fenced_thread_takes_no_name_away() -> None:
    """S30: in an `on_stop` that wakes up late, say."""
    gate, outcome = Gate(), threading.Event()

    def sleep(self: Process) -> None:
        gate.pass_through()
        try:
            ActorRegistry.unregister_name(":till")
        finally:
            outcome.set()

    sup = Supervisor.start([worker("till", shutdown="brutal_kill")])
    old = child(sup, 0)
    ActorRegistry.register_name(":till", old)
    old.tell(sleep)
    gate.await_someone()
    Supervisor.terminate_child(sup, "till", timeout=LIMIT)
    Supervisor.restart_child(sup, "till", timeout=LIMIT)
    new = child(sup, 0)
    ActorRegistry.register_name(":till", new)
    gate.open()
    assert outcome.wait(LIMIT)
    assert ActorRegistry.get_by_name(":till") is new


class Slow(Process):
    """Its start takes as long as the test wants."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def on_start(self) -> None:
        self.gate.pass_through()


def test_what_a_killed_worker_was_just_starting_is_killed_with_it() -> None:
    """S30, S34: it need not be a supervisor."""
    gate = Gate()
    starter = Worker.start()
    starter.tell(lambda self: Slow.start(gate))
    gate.await_someone()
    kill(starter)
    gate.open()
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "nobody is left")


def test_two_that_are_started_by_one_function_are_killed_both() -> None:
    """S34: the second was being started when the supervisor was killed."""
    gate = Gate()

    def start_two() -> pykka.ActorRef[Any]:
        first = Worker.start()
        with suppress(StartFailed):
            Slow.start(gate)
        return first

    with in_thread(partial(_start_quietly, [ChildSpec("two", (start_two, (), {}))])):
        gate.await_someone()
        sup = ActorRegistry.get_by_name(":two")
        assert sup is not None
        kill(sup)
        gate.open()
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "nobody is left")


def _start_quietly(specs: list[ChildSpec]) -> None:
    with pytest.raises(Exception, match="killed"):
        Supervisor.start(specs, name=":two")


def test_two_that_kill_each_other_as_they_end_both_end() -> None:
    for _ in range(20):
        pool = DynamicSupervisor.start()
        one, other = (DynamicSupervisor.start_child(pool, worker("x")) for _ in range(2))
        assert one is not None
        assert other is not None
        monitor(one, lambda down, other=other: kill(other))  # type: ignore[misc]
        monitor(other, lambda down, one=one: kill(one))  # type: ignore[misc]
        DynamicSupervisor.stop(pool, timeout=LIMIT)
    wait_until(lambda: not pykka.ActorRegistry.get_all(), "nobody is left")


def test_a_killed_supervisor_waits_for_no_on_end_that_hangs() -> None:
    """S30: nor does who kills it, for long."""
    gate = Gate()
    sup = Supervisor.start([worker("a")], on_end=gate.pass_through)
    kill(sup)
    assert not sup.is_alive()
    gate.open()


def test_cancelled_monitors_are_not_kept() -> None:
    other, ref = Worker.start(), Worker.start()

    def watch(self: Process) -> int:
        for _ in range(100):
            self.monitor(other).cancel()
        return len(self._monitors)

    assert ref.ask(watch) == 0
    pykka.ActorRegistry.stop_all(timeout=LIMIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_a_forked_child_the_references_of_its_parent_are_dead() -> None:
    sup = Supervisor.start([worker("a")], name=":parent")
    pid = os.fork()
    if pid == 0:
        news: list[Down] = []
        monitor(sup, news.append)
        os._exit(0 if not sup.is_alive() and news[0].reason == "noproc" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert sup.is_alive()
    Supervisor.stop(sup, timeout=LIMIT)


def test_the_least_window_of_time_is_no_error() -> None:
    sup = Supervisor.start([worker("a")], max_restarts=1, max_seconds=1e-12)

    def crash(self: Process) -> None:
        raise RuntimeError("crashed on purpose")

    for _ in range(3):
        before = child(sup, 0)
        before.tell(crash)
        wait_until(lambda before=before: child(sup, 0) is not before, "it is another")  # type: ignore[misc]
    Supervisor.stop(sup, timeout=LIMIT)
