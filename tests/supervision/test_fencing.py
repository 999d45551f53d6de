"""Who was given up: it delays nobody, and can do no harm when it wakes up (S29, S30, S34).

A thread can't be killed, so it is fenced. What is tried here is everything that a fenced thread
can get its hands on; what it does to files, or to objects that it shares, nobody can prevent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, ExRaftError
from exraft.actors import DEFERRED, Process, ProcessDown, fence, kill, links, monitor
from exraft.actors import start as start_actor
from exraft.actors.lineage import life_of
from exraft.actors.watching import watchers_of
from exraft.errors import StartFailed
from exraft.supervision import ChildSpec, DynamicSupervisor, Supervisor
from tests.helpers import (
    LIMIT,
    PATIENT,
    Gate,
    Journal,
    KeyValueStore,
    in_thread,
    leader_and_followers,
    wait_until,
)
from tests.supervision.family import (
    BRIEF,
    Family,
    Plain,
    Ref,
    Watch,
    Worker,
    a_family_of,
    child,
    children,
    states,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


@pytest.fixture(autouse=True)
def _nobody_stays_fenced() -> Iterator[None]:
    """In the end every fenced thread has ended, and has left the fence and its links."""
    before = len(links._links)
    yield
    for thread in list(fence.threads):
        thread.join(LIMIT)
    assert list(fence.threads) == []
    assert len(links._links) == before


def stubborn(gate: Gate, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A message whose receiver hangs, and does `act` when it wakes up, given up or not."""

    def hang_and_act(actor: Any) -> Any:
        # The SystemExit that a thread may get when it is given up is no obstacle.
        with suppress(SystemExit):
            gate.pass_through()
        return act(actor)

    return hang_and_act


class Zombie:
    """A child that hangs, was given up for it, and will wake up."""

    def __init__(self, family: Family, act: Callable[[Any], Any], *before: Callable[[Any], Any]):
        self._family = family
        self._gate = family.gate()
        self.outcome: list[Any] = []
        self.sup = family.start([family.spec("zombie", shutdown="brutal_kill")])
        self.ref = child(self.sup, "zombie")
        for each in before:
            self.ref.ask(each, timeout=LIMIT)
        self.ref.tell(stubborn(self._gate, lambda actor: self._do(act, actor)))
        self._gate.await_someone()
        Supervisor.terminate_child(self.sup, "zombie", timeout=LIMIT)

    def _do(self, act: Callable[[Any], Any], actor: Any) -> None:
        try:
            self.outcome.append(act(actor))
        except Exception as error:
            self.outcome.append(error)

    def wake(self) -> Any:
        """Let it go on, and wait until its thread has ended; what came of its act."""
        self._gate.open()
        self._family.await_first_thread("zombie")
        [outcome] = self.outcome
        return outcome


# Its own time, and no more.


def test_one_that_hangs_delays_a_stop_by_its_own_time_only(any_family: Family) -> None:
    """S29: the stop returns while it still hangs, and the others have stopped in order."""
    specs = [any_family.spec(id, shutdown=BRIEF if id == "b" else LIMIT) for id in "abc"]
    sup = any_family.start(specs)
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    any_family.journal.clear()
    Supervisor.stop(sup, timeout=LIMIT)
    gate.await_someone()
    assert any_family.lines() == ["stop c", "stop a"]


def test_those_that_hang_side_by_side_are_given_up_together(any_family: Family) -> None:
    """S49: under a dynamic supervisor each has its time at the same time."""
    sup = any_family.start_dynamic()
    gates = [any_family.gate() for _ in range(20)]
    for number, gate in enumerate(gates):
        spec = any_family.spec(f"{number}", shutdown=BRIEF)
        any_family.script(f"{number}").at("stop", gate.pass_through)
        DynamicSupervisor.start_child(sup, spec, timeout=LIMIT)
    innocent = any_family.spec("innocent", shutdown=LIMIT)
    DynamicSupervisor.start_child(sup, innocent, timeout=LIMIT)
    DynamicSupervisor.stop(sup, timeout=LIMIT)
    for gate in gates:
        gate.await_someone()
    assert any_family.lines()[-1] == "stop innocent"


def test_one_that_hangs_in_on_failure_delays_its_own_restart_only(any_family: Family) -> None:
    """S55: its successor waits until it is killed; the others are served meanwhile."""
    sup = any_family.start("ab")
    ref, gate = child(sup, "a"), any_family.gate()
    any_family.script("a").at("fail", gate.pass_through)
    ref.tell(lambda actor: 1 / 0)
    gate.await_someone()
    assert child(sup, "b").ask(lambda actor: "at work", timeout=LIMIT) == "at work"
    assert children(sup)["a"] is ref
    kill(ref)
    any_family.await_start("a", 2)
    gate.open()


# What a zombie tries.


class Listener(Process):
    """Writes down all that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.trap_exit = True

    def on_receive(self, message: Any) -> Any:
        if message == "what?":
            return list(self.heard)
        self.heard.append(message)
        return "heard"


@pytest.fixture
def listener() -> Iterator[Ref]:
    ref = Listener.start()
    yield ref
    ref.stop(timeout=LIMIT)


def heard(listener: Ref) -> list[Any]:
    return list(listener.ask("what?", timeout=LIMIT))


def test_what_a_zombie_asks_is_refused_to_it(any_family: Family, listener: Ref) -> None:
    """S30: at once, so that it does not hang again."""
    zombie = Zombie(any_family, lambda actor: listener.ask("late"))
    outcome = zombie.wake()
    assert isinstance(outcome, ProcessDown)
    assert outcome.reason == "killed"
    assert heard(listener) == []


def test_a_zombie_links_to_nobody(any_family: Family, listener: Ref) -> None:
    """S30: neither is the other told of an end, nor does a link stay."""
    zombie = Zombie(any_family, lambda actor: links.link(actor.actor_ref, listener))
    zombie.wake()
    assert heard(listener) == []


def test_the_monitors_of_a_zombie_end_with_it(family: Family, listener: Ref) -> None:
    """S30: nobody keeps a list of what is to be told to the dead."""
    zombie = Zombie(
        family,
        lambda actor: None,
        lambda actor: actor.monitor(listener) and None,
    )
    assert not watchers_of(listener)._monitors
    zombie.wake()


def test_the_links_of_a_zombie_broke_when_it_was_given_up(any_family: Family) -> None:
    """OTP: who is linked to it is told that it was killed, before it wakes up."""
    listener = Listener.start()
    zombie = Zombie(
        any_family,
        lambda actor: None,
        lambda actor: links.link(actor.actor_ref, listener),
    )
    [signal] = heard(listener)
    assert (signal.reason, signal.sender) == ("killed", zombie.ref)
    zombie.wake()
    assert heard(listener) == [signal]
    listener.stop(timeout=LIMIT)


def test_the_timers_of_a_zombie_do_not_fire(family: Family) -> None:
    """S30: neither those that were due meanwhile nor those that it sets when it wakes up."""
    fired: list[str] = []
    zombie = Zombie(
        family,
        lambda actor: actor.send_after(0.0, lambda actor: fired.append("late")) and None,
        lambda actor: actor.send_after(0.0, lambda actor: fired.append("early")) and None,
        lambda actor: actor.send_after(BRIEF, lambda actor: fired.append("meanwhile")) and None,
    )
    zombie.wake()
    assert fired in ([], ["early"])


def _a_process(journal: Journal) -> object:
    class Late(Process):
        def on_start(self) -> None:
            journal.add("late")

    return Late.start()


def _an_actor_of_pykka(journal: Journal) -> object:
    class Late(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_start(self) -> None:
            journal.add("late")

    return start_actor(Late)


def _a_supervisor(journal: Journal) -> object:
    spec = ChildSpec(id="late", start=(_a_process, (journal,), {}))
    return Supervisor.start([spec], name=":late")


def _a_dynamic_supervisor(journal: Journal) -> object:
    return DynamicSupervisor.start(name=":late")


def _a_raft_server(journal: Journal) -> object:
    return ExRaft.start_server(partial(KeyValueStore, journal, ":late"), {}, name=":late")


@pytest.mark.parametrize(
    "somebody",
    [_a_process, _an_actor_of_pykka, _a_supervisor, _a_dynamic_supervisor, _a_raft_server],
    ids=lambda each: each.__name__[1:],
)
def test_a_zombie_starts_nobody(any_family: Family, somebody: Callable[[Journal], object]) -> None:
    """S30: neither process nor supervisor nor server."""
    journal = Journal()
    zombie = Zombie(any_family, lambda actor: somebody(journal))
    before = pykka.ActorRegistry.get_all()
    assert isinstance(zombie.wake(), Exception)
    assert journal.lines() == []
    assert pykka.ActorRegistry.get_all() == before
    assert ActorRegistry.get_by_name(":late") is None


@pytest.mark.parametrize(
    "administer",
    [
        lambda sup: Supervisor.terminate_child(sup, "innocent", timeout=LIMIT),
        lambda sup: Supervisor.stop(sup),
        lambda sup: Supervisor.which_children(sup),
        lambda sup: kill(child(sup, "innocent")),
        lambda sup: pykka.ActorRegistry.stop_all(block=False),
    ],
    ids=["terminate_child", "stop", "which_children", "kill", "stop_all"],
)
def test_a_zombie_has_no_say_in_supervisors(
    any_family: Family, administer: Callable[[Ref], object]
) -> None:
    """S30: what it asks of them is not done."""
    sup = any_family.start([any_family.spec("innocent")])
    innocent = child(sup, "innocent")
    zombie = Zombie(any_family, lambda actor: administer(sup))
    zombie.wake()
    assert sup.is_alive()
    assert child(sup, "innocent") is innocent


@pytest.fixture
def server() -> Iterator[str]:
    ExRaft.start_server(KeyValueStore, {}, name=":raft1", **PATIENT)
    ExRaft.write(":raft1", ("put", "key", 1), timeout=LIMIT)
    yield ":raft1"
    ExRaft.stop_server(":raft1", timeout=LIMIT)


def test_a_zombie_writes_nothing_to_a_raft_server(server: str, any_family: Family) -> None:
    """S30: and is told that at once."""
    before = ExRaft.status(server, LIMIT).last_index
    zombie = Zombie(any_family, lambda actor: ExRaft.write(server, ("put", "key", 2)))
    assert isinstance(zombie.wake(), Exception)
    assert ExRaft.status(server, LIMIT).last_index == before
    assert ExRaft.read(server, "key", timeout=LIMIT) == 1


def test_a_zombie_stops_no_raft_server(server: str, any_family: Family) -> None:
    """S30: neither by its name nor in any other way."""
    zombie = Zombie(any_family, lambda actor: ExRaft.stop_server(server))
    assert isinstance(zombie.wake(), Exception)
    assert ExRaft.write(server, ("put", "key", 2), timeout=LIMIT) == "ok"


def test_a_reply_that_was_put_off_does_not_come_from_a_zombie(family: Family) -> None:
    """S30: who asked has been told that the process was killed."""
    kept: list[Any] = []

    def keep(actor: Any) -> object:
        kept.append(actor.reply_to)
        return DEFERRED

    gate = family.gate()
    sup = family.start([family.spec("zombie", shutdown="brutal_kill")])
    ref = child(sup, "zombie")
    answer = ref.ask(keep, block=False)
    ref.tell(stubborn(gate, lambda actor: kept[0].set("late")))
    gate.await_someone()
    Supervisor.terminate_child(sup, "zombie", timeout=LIMIT)
    for _ in range(2):
        with pytest.raises(ProcessDown) as caught:
            answer.get(timeout=LIMIT)
        assert caught.value.reason == "killed"
        gate.open()
        family.await_first_thread("zombie")


def test_who_waits_for_the_stop_of_one_that_is_killed_is_told(any_family: Family) -> None:
    """S30: it was stopping already, and hung in that."""
    sup = any_family.start("a")
    ref, gate = child(sup, "a"), any_family.gate()
    any_family.script("a").at("stop", gate.pass_through)
    stopped = ref.stop(block=False)
    gate.await_someone()
    kill(ref)
    assert stopped.get(timeout=LIMIT)


def test_who_asked_what_has_ended_one_that_is_killed_is_told(any_family: Family) -> None:
    """S30: it was dying of that already, and hung in that."""
    sup = any_family.start("a")
    ref, gate = child(sup, "a"), any_family.gate()
    for callback in ("stop", "fail"):
        any_family.script("a").at(callback, gate.pass_through)

    def leave(actor: Any) -> None:
        raise SystemExit

    answer = ref.ask(leave, block=False)
    gate.await_someone()
    kill(ref)
    with pytest.raises(pykka.ActorDeadError):
        answer.get(timeout=LIMIT)


def test_who_asks_at_the_moment_of_a_kill_is_told() -> None:
    """S30: the question is neither in the mailbox any more nor being answered yet."""
    taken, gate = Gate(), Gate()

    class Slow(Process):
        def receive(self, item: Any) -> None:
            with suppress(SystemExit):
                taken.open()
                gate.pass_through()
            super().receive(item)

        def on_receive(self, message: Any) -> Any:
            return "late"

    ref = Slow.start()
    answer = ref.ask("?", block=False)
    gate.await_someone()
    kill(ref)
    gate.open()
    with pytest.raises(ProcessDown) as caught:
        answer.get(timeout=LIMIT)
    assert caught.value.reason == "killed"


@pytest.mark.parametrize("kind", [Process, pykka.ThreadingActor])
def test_all_monitors_are_told_of_one_that_is_killed_as_it_ends(
    kind: type[pykka.ThreadingActor], listener: Ref
) -> None:
    """S51: exactly once, by the process itself or by who kills it."""
    cls = type("Ending", (kind,), {})
    for number in range(300):
        ref = start_actor(cls)
        for name in ("one", "other"):
            news = number, name
            monitor(ref, lambda down, news=news: listener.tell(news))  # type: ignore[misc]
        together = threading.Barrier(2)

        def kill_it(victim: Ref = ref, together: threading.Barrier = together) -> None:
            together.wait(LIMIT)
            kill(victim)

        with in_thread(kill_it):
            together.wait(LIMIT)
            ref.stop(block=False)
    expected = sorted((number, name) for number in range(300) for name in ("one", "other"))
    wait_until(lambda: len(heard(listener)) >= len(expected), "all are told")
    assert sorted(heard(listener)) == expected


def test_who_starts_one_that_is_killed_is_told_when_all_of_it_is_over(family: Family) -> None:
    """S3, S54: the name of a supervisor that was killed as it started is free by then."""
    gate = family.gate()
    family.script("a").at("start", gate.pass_through)
    outcomes: list[object] = []

    def start_twice() -> None:
        with pytest.raises(StartFailed):
            family.start("a", name=":top")
        outcomes.append(ActorRegistry.get_by_name(":top"))
        outcomes.append(family.script("a").lives[0].is_alive())
        family.start("a", name=":top")

    with in_thread(start_twice):
        gate.await_someone()
        top = ActorRegistry.get_by_name(":top")
        assert top is not None
        kill(top)
    assert outcomes == [None, False]
    gate.open()


@pytest.mark.parametrize("kind", [Process, pykka.ThreadingActor])
def test_one_that_is_killed_before_it_has_begun_does_not_begin(
    kind: type[pykka.ThreadingActor],
) -> None:
    """S30: its constructor has handed its reference out."""
    began: list[str] = []

    def construct(self: Any) -> None:
        kind.__init__(self)
        self.victims.append(self.actor_ref)

    def begin(self: Any) -> None:
        began.append("on_start")

    def start_loop(self: Any) -> None:
        kill(self.actor_ref)
        kind._start_actor_loop(self)

    members = {
        "victims": [],
        "__init__": construct,
        "on_start": begin,
        "_start_actor_loop": start_loop,
    }
    cls: Any = type("Early", (kind,), members)
    others = set(threading.enumerate())
    with pytest.raises(StartFailed) as caught:
        start_actor(cls)
    assert caught.value.cause == "killed"
    for thread in set(threading.enumerate()) - others:
        thread.join(LIMIT)
    assert began == []
    assert not any(ref in pykka.ActorRegistry.get_all() for ref in cls.victims)


# Threads that can be ended.


def _busy(actor: Any) -> None:
    while True:
        pass


def test_a_loop_without_end_is_ended(any_family: Family) -> None:
    """S30: an asynchronous `SystemExit` ends a thread that runs Python code."""
    sup = any_family.start([any_family.spec("a", shutdown="brutal_kill")])
    began = Gate()

    def loop(actor: Any) -> None:
        began.open()
        _busy(actor)

    child(sup, "a").tell(loop)
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    any_family.await_first_thread("a")


def test_a_loop_without_end_in_on_stop_is_ended(any_family: Family) -> None:
    """S29: when its time is up."""
    sup = any_family.start([any_family.spec("a", shutdown=BRIEF)])
    any_family.script("a").at("stop", partial(_busy, None))
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    any_family.await_first_thread("a")


def test_a_loop_without_end_in_on_start_is_ended(any_family: Family) -> None:
    """S2: who starts it waits for ever, unless somebody kills it."""
    script = any_family.script("a")
    script.at("start", partial(_busy, None))
    failures: list[StartFailed] = []

    def start() -> None:
        with pytest.raises(StartFailed) as caught:
            any_family.start("a")
        failures.append(caught.value)

    with in_thread(start):
        wait_until(lambda: script.threads, "it has begun")
        kill(script.lives[0])
    assert failures[0].cause == "killed"
    any_family.await_first_thread("a")


def test_one_that_waits_for_messages_is_ended(any_family: Family) -> None:
    """S30: it has nothing to wait for any more."""
    sup = any_family.start("a")
    child(sup, "a").ask(lambda actor: "at work", timeout=LIMIT)
    kill(child(sup, "a"))
    any_family.await_first_thread("a")


# Supervisors that are given up.


def test_a_supervisor_that_is_given_up_because_of_a_grandchild_leaves_nobody(
    any_family: Family,
) -> None:
    """S29, S34: not even the one that hangs, and no name."""
    inner = Supervisor.child_spec(
        [any_family.spec("a"), any_family.spec("b", shutdown=None), any_family.spec("c")],
        name=":inner",
        shutdown=BRIEF,
    )
    sup = any_family.start([Supervisor.child_spec([inner], name=":middle", shutdown=BRIEF)])
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    ActorRegistry.register_name(":hanging", any_family.last_life("b"))
    Supervisor.terminate_child(sup, ":middle", timeout=LIMIT)
    gate.await_someone()
    assert pykka.ActorRegistry.get_by_class(any_family.kind) == []
    assert ActorRegistry.names() == []
    Supervisor.restart_child(sup, ":middle", timeout=LIMIT)
    assert states(":inner") == [("a", "running"), ("b", "running"), ("c", "running")]


def test_a_tree_that_is_killed_while_it_starts_a_grandchild_leaves_nobody(
    any_family: Family,
) -> None:
    """S34: from the top down to the one that has not started yet."""
    inner = Supervisor.child_spec(any_family.specs("ab"), name=":inner")
    sup = any_family.start([Supervisor.child_spec([inner], name=":middle")])
    gate = any_family.gate()
    any_family.script("b").at("start", gate.pass_through)
    kill(children(":middle")[":inner"])
    gate.await_someone()
    half = Watch(any_family.last_life("b"))
    kill(sup)
    assert half.reason() == "killed"
    assert ActorRegistry.names() == []
    gate.open()
    wait_until(lambda: not fence.threads, "all of them have ended")
    assert pykka.ActorRegistry.get_by_class(any_family.kind) == []


def test_a_supervisor_that_is_killed_while_it_stops_leaves_nobody(any_family: Family) -> None:
    """S34: those that it had not come to are killed, not stopped."""
    sup = any_family.start([any_family.spec("a"), any_family.spec("b", shutdown=None)])
    gate = any_family.gate()
    any_family.script("b").at("stop", gate.pass_through)
    stopped = sup.stop(block=False)
    gate.await_someone()
    kill(sup)
    assert stopped.get(timeout=LIMIT)
    assert pykka.ActorRegistry.get_by_class(any_family.kind) == []


def test_a_supervisor_that_is_killed_while_it_kills_a_child_leaves_nobody(listener: Ref) -> None:
    """S34, S51: nor does who watches the child miss its end."""
    gate = Gate()

    class Held(Process):
        def on_start(self) -> None:
            self.register(":held")

        def left_behind(self) -> None:
            gate.pass_through()
            super().left_behind()

    spec = ChildSpec(id="held", start=(Held, (), {}), shutdown="brutal_kill")
    sup = Supervisor.start([spec])
    supervising, held = life_of(sup), child(sup, "held")
    assert supervising is not None
    monitor(held, lambda down: listener.tell(down.reason))

    def terminate() -> None:
        with pytest.raises(pykka.ActorDeadError):
            Supervisor.terminate_child(sup, "held", timeout=LIMIT)

    def kill_it() -> None:
        kill(sup)
        assert not held.is_alive()
        assert held not in pykka.ActorRegistry.get_all()
        assert ActorRegistry.get_by_name(":held") is None

    with in_thread(terminate):
        gate.await_someone()
        with in_thread(kill_it):
            wait_until(lambda: supervising.killed, "it is given up")
            gate.open()
    wait_until(lambda: heard(listener), "it is told")
    assert heard(listener) == ["killed"]


# Raft servers that are given up.


class Tree:
    """A raft server under a supervisor in a tree, which hangs in a write when it is told to."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.gate = Gate()
        self._threads: list[threading.Thread] = []

        def hang(text: str) -> None:
            if not self._threads:
                self._threads.append(threading.current_thread())
                with suppress(SystemExit):
                    self.gate.pass_through()

        class Hanging(KeyValueStore):
            def __init__(self) -> None:
                super().__init__(journal, ":raft1")

            def handle_write(self, command: Any, state: Any) -> Any:
                if command == ("effect", "hang"):
                    hang(command)
                return super().handle_write(command, state)

        spec = Hanging.child_spec({}, name=":raft1", **PATIENT)
        inner = Supervisor.child_spec([replace(spec, shutdown=BRIEF)], name=":inner")
        self.sup = Supervisor.start([inner], name=":tree")
        ExRaft.write(":raft1", ("put", "key", 1), timeout=LIMIT)

    def hang(self) -> pykka.Future[Any]:
        """Have a write hang; its future."""
        answer = ExRaft.write_async(":raft1", ("effect", "hang"))
        self.gate.await_someone()
        return answer

    def wake(self) -> None:
        self.gate.open()
        [thread] = self._threads
        thread.join(LIMIT)
        assert not thread.is_alive()


@pytest.fixture
def tree(journal: Journal) -> Iterator[Tree]:
    tree = Tree(journal)
    yield tree
    tree.gate.open()
    if tree.sup.is_alive():
        Supervisor.stop(tree.sup, timeout=LIMIT)


def _terminate(tree: Tree) -> None:
    Supervisor.terminate_child(":inner", ":raft1", timeout=LIMIT)


def _kill_its_supervisor(tree: Tree) -> None:
    kill(children(":inner")[":raft1"])


def _kill_the_server(tree: Tree) -> None:
    server = ActorRegistry.get_by_name(":raft1")
    assert server is not None
    kill(server)


ways_to_give_up = pytest.mark.parametrize(
    "give_up",
    [_terminate, _kill_its_supervisor, _kill_the_server],
    ids=lambda way: way.__name__[1:],
)


def _go_on(give_up: Callable[[Tree], None]) -> None:
    """Wait for the successor, which is started by hand where nobody else does it."""
    if give_up is _terminate:
        Supervisor.restart_child(":inner", ":raft1", timeout=LIMIT)
    wait_until(lambda: ActorRegistry.get_by_name(":raft1") is not None, "it is there again")
    leader_and_followers([":raft1"])


@ways_to_give_up
def test_a_server_that_hangs_goes_on_with_its_log_after_it_was_given_up(
    tree: Tree, give_up: Callable[[Tree], None]
) -> None:
    """S30: its token of the store is void: while it hangs a successor has the store."""
    tree.hang()
    give_up(tree)
    _go_on(give_up)
    assert ExRaft.read(":raft1", "key", timeout=LIMIT) == 1
    assert ExRaft.write(":raft1", ("add", "key", 1), timeout=LIMIT) == 2


@ways_to_give_up
def test_who_waits_for_a_server_that_was_given_up_is_told(
    tree: Tree, give_up: Callable[[Tree], None]
) -> None:
    """S30: at once; and its own answer comes too late."""
    answer = tree.hang()
    give_up(tree)
    with pytest.raises(ExRaftError) as caught:
        answer.get(timeout=LIMIT)
    tree.wake()
    with pytest.raises(type(caught.value)):
        answer.get(timeout=LIMIT)


@ways_to_give_up
def test_a_server_that_wakes_up_after_it_was_given_up_changes_nothing(
    tree: Tree, give_up: Callable[[Tree], None]
) -> None:
    """S30: neither the log of its successor nor the state; and its side effects do not run."""
    tree.hang()
    give_up(tree)
    _go_on(give_up)
    ExRaft.write(":raft1", ("put", "key", 5), timeout=LIMIT)
    ExRaft.write(":raft1", ("effect", "last"), timeout=LIMIT)
    tree.journal.wait_for("effect", ":raft1", "last")
    status = ExRaft.status(":raft1", LIMIT)
    effects = tree.journal.lines("effect")
    tree.wake()
    # What comes after anything that it might have done.
    ExRaft.write(":raft1", ("effect", "after"), timeout=LIMIT)
    tree.journal.wait_for("effect", ":raft1", "after")
    assert tree.journal.lines("effect") == [*effects, ("effect", ":raft1", "after")]
    assert ExRaft.status(":raft1", LIMIT).last_index == status.last_index + 1
    assert ExRaft.read(":raft1", "key", timeout=LIMIT) == 5
