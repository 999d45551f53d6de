"""How servers come and go: names, failed starts, reasons, forgotten stops, forks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ChildSpec, ExRaft, Peer, maybe_applied
from exraft.errors import AlreadyStarted, CallTimeout, ServerDown, ServerNotFound, StartFailed
from exraft.supervision.supervisor import SupervisorProcess
from tests.helpers import (
    LIMIT,
    PATIENT,
    Gate,
    Journal,
    KeyValueStore,
    crash,
    in_thread,
    outcome,
    run_script,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)

# Names.


def test_a_server_and_its_supervisor_have_names() -> None:
    ref = ExRaft.start_server(KeyValueStore, {}, name=":raft1")
    assert ActorRegistry.names() == [":ExRaft.Supervisor.raft1", ":raft1"]
    assert ActorRegistry.get_by_name(":ExRaft.Supervisor.raft1") == ref
    assert isinstance(ref, pykka.ActorRef)
    assert ref.actor_class is SupervisorProcess
    server = ActorRegistry.get_by_name(":raft1")
    assert server is not None
    assert server.is_alive()


def test_a_name_that_nobody_has_is_found_with_nobody() -> None:
    assert ActorRegistry.get_by_name(":nobody") is None


def test_a_dead_actor_has_no_name() -> None:
    start(":raft1")
    ExRaft.stop_server(":raft1")
    assert ActorRegistry.get_by_name(":raft1") is None
    assert ActorRegistry.names() == []


def test_actors_of_the_user_may_have_names_too() -> None:
    class Mailer(pykka.ThreadingActor):
        use_daemon_thread = True

    mailer = Mailer.start()
    ActorRegistry.register_name(":mailer", mailer)
    assert ActorRegistry.get_by_name(":mailer") == mailer
    with pytest.raises(AlreadyStarted) as raised:
        start(":mailer")
    assert raised.value.ref == mailer
    ActorRegistry.unregister_name(":mailer")
    assert ActorRegistry.get_by_name(":mailer") is None
    start(":mailer")
    mailer.stop()


def test_the_registry_is_pykkas() -> None:
    assert issubclass(ActorRegistry, pykka.ActorRegistry)
    ref = ExRaft.start_server(KeyValueStore, {}, name=":raft1")
    assert ref in ActorRegistry.get_all()


def test_a_second_server_of_the_same_name_is_refused_with_the_first_ones_reference() -> None:
    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "k", 1))
    with pytest.raises(AlreadyStarted, match="use another, or stop that one first") as raised:
        start(":raft1")
    assert raised.value.ref == ActorRegistry.get_by_name(":raft1")
    assert raised.value.reason == ("already_started", raised.value.ref)
    assert ExRaft.read(raft1, "k") == 1
    assert len(pykka.ActorRegistry.get_all()) == 2


def test_one_of_many_that_start_at_once_wins() -> None:
    outcomes: list[Any] = []

    def attempt() -> None:
        outcomes.append(outcome(partial(ExRaft.start_server, KeyValueStore, {}, name=":raft1")))

    threads = [threading.Thread(target=attempt, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    started = [each for each in outcomes if isinstance(each, pykka.ActorRef)]
    assert started == [supervisor_of(":raft1")]
    assert [type(each) for each in outcomes if each not in started] == [AlreadyStarted] * 7
    assert len(pykka.ActorRegistry.get_all()) == 2


# Starting.


def test_a_start_returns_when_init_has_returned() -> None:
    gate = Gate()
    seen: list[bool] = []

    class Slow(KeyValueStore):
        def init(self, init_arg: Any) -> Any:
            gate.pass_through()
            seen.append(True)
            return {}

    def let_go() -> None:
        gate.await_someone()
        assert seen == []
        gate.open()

    with in_thread(let_go):
        ExRaft.start_server(Slow, {}, name=":raft1")
        assert seen == [True]


class NoRoom(Exception):
    pass


def _raise(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [NoRoom("on the disk"), SystemExit(1), KeyboardInterrupt()])
def test_an_init_that_raises_fails_the_start_and_leaves_nothing(error: BaseException) -> None:
    machine = type("Failing", (KeyValueStore,), {"init": _raise(error)})
    with pytest.raises(StartFailed, match=":raft1 could not be started") as raised:
        ExRaft.start_server(machine, {}, name=":raft1")
    assert raised.value.name == ":raft1"
    assert raised.value.reason == ("start_failed", raised.value.cause)
    assert type(error).__name__ in str(raised.value)
    if isinstance(error, NoRoom):
        assert isinstance(raised.value.cause, NoRoom)
        assert raised.value.__cause__ is raised.value.cause
    assert not maybe_applied(raised.value)
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []
    start(":raft1")


def test_a_first_transition_that_raises_fails_the_start_and_leaves_nothing() -> None:
    machine = type("Failing", (KeyValueStore,), {"transition": _raise(NoRoom("here"))})
    with pytest.raises(StartFailed, match="NoRoom: here"):
        ExRaft.start_server(machine, {}, name=":raft1")
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []


def test_a_child_spec_starts_a_server() -> None:
    spec = KeyValueStore.child_spec({"k": 1}, name=":foo", **PATIENT)
    assert isinstance(spec, ChildSpec)
    _, args, options = spec.start
    ref = spec.start_function()(*args, **options)
    assert ref == supervisor_of(":foo")
    assert ExRaft.read(":foo", "k") == 1


# Stopping.


def test_a_stop_returns_when_everything_has_ended() -> None:
    ref = ExRaft.start_server(KeyValueStore, {}, name=":raft1")
    ExRaft.stop_server(":raft1")
    assert not ref.is_alive()
    assert ActorRegistry.names() == []
    assert pykka.ActorRegistry.get_all() == []
    with pytest.raises(ServerNotFound):
        ExRaft.stop_server(":raft1")


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", {"for": "lunch"})], ids=str)
def test_an_orderly_stop_logs_no_error(
    reason: object, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    start(":raft1", journal)
    ExRaft.stop_server(":raft1", reason)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert journal.lines("terminate") == [("terminate", ":raft1", reason, {})]


@pytest.mark.parametrize(
    "reason", ["because", ("because", 1), ValueError("because"), None, ("shutdown",)], ids=repr
)
def test_a_stop_for_another_reason_logs_an_error_report(
    reason: object, caplog: pytest.LogCaptureFixture, journal: Journal
) -> None:
    start(":raft1", journal)
    ExRaft.stop_server(":raft1", reason)
    assert [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert journal.lines("terminate") == [("terminate", ":raft1", reason, {})]
    assert ActorRegistry.names() == []


def test_a_stop_that_takes_too_long_goes_on_after_its_timeout() -> None:
    gate = Gate()

    class Slow(KeyValueStore):
        def terminate(self, reason: Any, state: Any) -> None:
            gate.pass_through()

    ExRaft.start_server(Slow, {}, name=":raft1")
    with pytest.raises(CallTimeout, match="no answer from :raft1") as raised:
        ExRaft.stop_server(":raft1", timeout=0.05)
    assert not maybe_applied(raised.value)
    gate.open()
    wait_until(lambda: ActorRegistry.names() == [], "it has ended")


def test_two_who_stop_a_server_both_see_it_end() -> None:
    gate = Gate()

    class Slow(KeyValueStore):
        def terminate(self, reason: Any, state: Any) -> None:
            gate.pass_through()

    ExRaft.start_server(Slow, {}, name=":raft1")
    with in_thread(partial(ExRaft.stop_server, ":raft1", timeout=LIMIT)):
        gate.await_someone()
        threading.Timer(0.02, gate.open).start()
        ExRaft.stop_server(":raft1", timeout=LIMIT)
        assert ActorRegistry.get_by_name(":raft1") is None


def test_a_stop_overtakes_calls_that_wait() -> None:
    gate = Gate()

    class Slow(KeyValueStore):
        def handle_write(self, command: Any, state: Any) -> Any:
            gate.pass_through()
            return super().handle_write(command, state)

    ExRaft.start_server(Slow, {}, name=":raft1", **PATIENT)
    first = ExRaft.write_async(":raft1", ("add", "n", 1))
    gate.await_someone()
    others = [ExRaft.write_async(":raft1", ("add", "n", 1)) for _ in range(5000)]
    with in_thread(partial(ExRaft.stop_server, ":raft1", timeout=LIMIT)):
        wait_until(lambda: not supervisor_waits(":raft1"), "the stop has come in")
        gate.open()
    assert first.get(timeout=LIMIT) == 1
    outcomes = [outcome(lambda each=each: each.get(timeout=LIMIT)) for each in others]  # type: ignore[misc]
    refused = [each for each in outcomes if isinstance(each, ServerDown | ServerNotFound)]
    assert refused
    assert not any(maybe_applied(each) for each in refused if isinstance(each, ServerNotFound))


def supervisor_waits(server: str) -> bool:
    """Whether its supervisor has messages that it has not handled."""
    return not supervisor_of(server).actor_inbox.empty()


def test_a_stopped_servers_store_is_dropped() -> None:
    raft1 = start(":raft1")
    ExRaft.write(raft1, ("put", "k", 1))
    ExRaft.stop_server(raft1)
    start(":raft1")
    assert ExRaft.read(raft1, "k") is None
    assert ExRaft.status(raft1).restarts == 0


def test_a_server_is_stopped_by_any_of_its_addresses() -> None:
    for server in (":raft1", Peer(":raft1"), (":raft1", "nonode@nohost")):
        start(":raft1")
        ExRaft.stop_server(server)
        assert ActorRegistry.names() == []


def test_a_server_that_was_started_again_can_be_stopped() -> None:
    raft1 = start(":raft1")
    crash(raft1)
    ExRaft.stop_server(raft1, timeout=LIMIT)
    assert ActorRegistry.names() == []


def test_a_stop_of_a_whole_cluster_leaves_nothing(journal: Journal) -> None:
    for peer in start_cluster(journal=journal):
        ExRaft.stop_server(peer, timeout=LIMIT)
    assert pykka.ActorRegistry.get_all() == []
    assert len(journal.lines("terminate")) == 3


# At the end of the program.

MACHINE = """
import os, sys, threading
import pykka
from exraft import ActorRegistry, ExRaft, StateMachine
from exraft.errors import ServerNotFound

class Store(StateMachine):
    def handle_write(self, command, state):
        return "ok", [*state, command]
    def handle_read(self, query, state):
        return state
    def terminate(self, reason, state):
        print("terminate", reason, state, flush=True)
"""


def test_a_script_that_forgets_its_servers_exits_after_terminate(tmp_path: Path) -> None:
    result = run_script(
        MACHINE
        + """
for name in (":raft1", ":raft2"):
    ExRaft.start_server(Store, name=name, initial_config=[":raft1", ":raft2"])
print(ExRaft.client([":raft1", ":raft2"]).write(1))
""",
        tmp_path,
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "ok"
    assert len([line for line in lines if line.startswith("terminate shutdown [")]) == 2
    assert (result.returncode, result.stderr) == (0, "")


def test_a_script_exits_although_a_machine_does_not_end(tmp_path: Path) -> None:
    result = run_script(
        MACHINE
        + """
class Clinging(Store):
    def terminate(self, reason, state):
        threading.Event().wait()
ExRaft.start_server(Clinging, name=":raft1")
ExRaft.start_server(Store, name=":raft2")
""",
        tmp_path,
    )
    assert "terminate shutdown []" in result.stdout
    assert "did not stop within 1 s" in result.stderr
    assert result.returncode == 0


def test_a_script_that_ends_with_pykkas_last_line_exits(tmp_path: Path) -> None:
    result = run_script(
        MACHINE
        + """
ExRaft.start_server(Store, name=":raft1")
pykka.ActorRegistry.stop_all()
print(ActorRegistry.names(), pykka.ActorRegistry.get_all())
""",
        tmp_path,
    )
    assert result.stdout.splitlines()[-1] == "[] []"
    assert result.returncode == 0


def test_a_script_that_fails_exits_with_its_failure(tmp_path: Path) -> None:
    result = run_script(
        MACHINE + 'ExRaft.start_server(Store, name=":raft1")\nraise ValueError("mine")\n', tmp_path
    )
    assert "terminate shutdown []" in result.stdout
    assert "ValueError: mine" in result.stderr
    assert result.returncode == 1


def test_a_forked_child_has_no_servers_and_can_start_its_own(tmp_path: Path) -> None:
    result = run_script(
        MACHINE
        + """
import warnings
warnings.simplefilter("ignore")
ExRaft.start_server(Store, name=":raft1")
ExRaft.write(":raft1", "parent")
child = os.fork()
if child == 0:
    print(ActorRegistry.names(), pykka.ActorRegistry.get_all(), flush=True)
    try:
        ExRaft.ping(":raft1")
    except ServerNotFound:
        print("not found", flush=True)
    ExRaft.start_server(Store, name=":raft1")
    print(ExRaft.read(":raft1", None), flush=True)
    ExRaft.stop_server(":raft1", "normal")
    pykka.ActorRegistry.stop_all()
    sys.exit(7)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
print(ExRaft.read(":raft1", None))
""",
        tmp_path,
    )
    assert result.stdout.splitlines() == [
        "[] []",
        "not found",
        "[]",
        "terminate normal []",
        "7",
        "['parent']",
        "terminate shutdown ['parent']",
    ]
    assert (result.returncode, result.stderr) == (0, "")
