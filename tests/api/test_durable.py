"""Servers that keep their log on a disk: they go on from there, and say what is wrong with it."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pykka
import pytest

from exraft import ActorRegistry, ExRaft, Peer, Role, maybe_applied
from exraft.actors.spec import Estate
from exraft.actors.transport import local
from exraft.errors import (
    CallTimeout,
    DiskFull,
    OptionError,
    ServerDown,
    ServerNotFound,
    SnapshotFailed,
    StartFailed,
    StoreDamaged,
    StoreFailed,
    StoreLocked,
    StoreMismatch,
)
from exraft.options import make_spec
from exraft.raft.messages import PreVote, Vote
from exraft.storage import DiskStore, OsFiles
from exraft.storage.directory import directory_of, hold
from exraft.supervision import Supervisor, raft
from exraft.testing.disk import SimulatedFiles
from tests.helpers import (
    LIMIT,
    PATIENT,
    QUICK,
    RAFT,
    Journal,
    KeyValueStore,
    Network,
    agree,
    crash,
    leader_and_followers,
    run_script,
    start,
    start_cluster,
    supervisor_of,
    wait_until,
)

NAME = ":raft1"


def stop(*servers: Peer | str) -> None:
    for server in servers:
        ExRaft.stop_server(server, timeout=LIMIT)


def directory(tmp_path: Path, server: Peer | str = NAME) -> Path:
    name = server if isinstance(server, str) else server.name
    return Path(directory_of(str(tmp_path), Peer(name)))


def estate_on(disk: SimulatedFiles, name: str = NAME, **options: Any) -> Estate:
    """A server on a disk of the test's own, with a log of small files."""
    machine = partial(KeyValueStore, None, name)
    spec = make_spec(machine, {}, name, PATIENT | options, local)
    return Estate(spec, DiskStore("/data", spec.peer, files=disk, segment_bytes=4096), local)


def start_on(disk: SimulatedFiles, name: str = NAME, **options: Any) -> Peer:
    raft.start(estate_on(disk, name, **options))
    return Peer(name)


def simulated() -> SimulatedFiles:
    return SimulatedFiles(random.Random(0))


# Going on.


def test_a_server_that_is_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    server = start(NAME, data_dir=tmp_path)
    for n in range(10):
        ExRaft.write(server, ("put", n, n))
    store_id = ExRaft.status(server).store_id
    stop(server)
    start(NAME, data_dir=str(tmp_path))
    assert [ExRaft.read(server, n) for n in range(10)] == list(range(10))
    assert ExRaft.status(server).store_id == store_id


def test_a_cluster_that_is_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    leader, *others = start_cluster(data_dir=tmp_path, snapshot_every=20, keep_entries=5)
    for n in range(50):
        ExRaft.write(leader, ("put", n, n))
    term, cluster = ExRaft.status(leader).term, ExRaft.status(leader).cluster
    stop(leader, *others)
    leader, *_ = start_cluster(data_dir=tmp_path)
    assert [ExRaft.read(leader, n) for n in range(50)] == list(range(50))
    status = ExRaft.status(leader)
    assert (status.cluster, status.standby) == (cluster, False)
    assert status.term > term


def test_it_goes_on_in_another_process(tmp_path: Path) -> None:
    script = f"""
from exraft import ExRaft
from tests.helpers import KeyValueStore
ExRaft.start_server(KeyValueStore, {{}}, name={NAME!r}, data_dir={str(tmp_path)!r})
for n in range(10):
    ExRaft.write({NAME!r}, ("put", n, n))
import os
os._exit(0)
"""
    run_script(script, tmp_path).check_returncode()
    server = start(NAME, data_dir=tmp_path)
    assert [ExRaft.read(server, n) for n in range(10)] == list(range(10))


def test_the_configuration_is_that_of_the_log(tmp_path: Path) -> None:
    start(":raft1", data_dir=tmp_path)
    start(":raft2", data_dir=tmp_path, min_majority=2)
    ExRaft.add_server(":raft1", ":raft2", LIMIT)
    stop(":raft1", ":raft2")
    start(":raft1", data_dir=tmp_path, initial_config=[":raft1", ":raft3"])
    start(":raft2", data_dir=tmp_path)
    leader = ExRaft.await_leader(":raft1", LIMIT)
    assert set(ExRaft.status(leader).config.voters) == {Peer(":raft1"), Peer(":raft2")}


def test_after_a_crash_a_leader_leads_on_in_its_term(tmp_path: Path, network: Network) -> None:
    leader, *_ = start_cluster(data_dir=tmp_path)
    ExRaft.write(leader, ("put", "k", 1))
    term = ExRaft.status(leader).term
    network.watch()
    crash(leader)
    assert ExRaft.write(leader, ("add", "k", 1), LIMIT) == 2
    assert ExRaft.status(leader).term == term
    assert network.seen(lambda sender, to, message: isinstance(message, Vote | PreVote)) == 0


def test_after_a_stop_nobody_leads_the_term_that_was(tmp_path: Path) -> None:
    """Rule 27: what it sent and did not store is gone."""
    server = start(NAME, data_dir=tmp_path)
    term = ExRaft.status(server).term
    stop(server)
    start(NAME, data_dir=tmp_path)
    assert ExRaft.status(server).term > term


def test_what_was_applied_before_runs_no_side_effect_again(
    tmp_path: Path, journal: Journal
) -> None:
    server = start(NAME, journal, data_dir=tmp_path)
    ExRaft.write(server, ("effect", "once"))
    stop(server)
    start(NAME, journal, data_dir=tmp_path)
    ExRaft.write(server, ("effect", "then"))
    stop(server)
    assert [text for *_, text in journal.lines("effect")] == ["once", "then"]


def test_a_server_starts_with_its_snapshot(tmp_path: Path, journal: Journal) -> None:
    server = start(NAME, journal, data_dir=tmp_path, keep_entries=0)
    ExRaft.write(server, ("put", "old", 1))
    index = ExRaft.snapshot(server)
    ExRaft.write(server, ("put", "new", 1))
    stop(server)
    journal.clear()
    start(NAME, journal, data_dir=tmp_path)
    status = ExRaft.status(server)
    assert (status.snapshot_index, status.first_index) == (index, index + 1)
    assert [ExRaft.read(server, key) for key in ("old", "new")] == [1, 1]
    assert journal.lines("write") == [("write", NAME, ("put", "new", 1))]


def test_a_snapshot_that_cannot_be_restored_refuses_the_start(tmp_path: Path) -> None:
    class Forgetful(KeyValueStore):
        def restore(self, file: Any) -> Any:
            raise LookupError("what is this?")

    server = start(NAME, data_dir=tmp_path)
    ExRaft.write(server, ("put", "k", 1))
    ExRaft.snapshot(server)
    stop(server)
    with pytest.raises(StartFailed, match="what is this"):
        ExRaft.start_server(Forgetful, {}, name=NAME, data_dir=tmp_path)
    assert ActorRegistry.names() == []
    start(NAME, data_dir=tmp_path)
    assert ExRaft.read(server, "k") == 1


def test_a_child_of_a_tree_goes_on_too_and_its_spec_touches_no_disk(tmp_path: Path) -> None:
    data = tmp_path / "data"
    spec = KeyValueStore.child_spec({}, name=NAME, data_dir=data, **PATIENT)
    assert not data.exists()
    tree = Supervisor.start([spec])
    ExRaft.write(NAME, ("put", "k", 1))
    Supervisor.terminate_child(tree, NAME, timeout=LIMIT)
    Supervisor.restart_child(tree, NAME, timeout=LIMIT)
    assert ExRaft.read(NAME, "k") == 1
    Supervisor.stop(tree, timeout=LIMIT)
    start(NAME, data_dir=data)
    assert ExRaft.read(NAME, "k") == 1


def test_where_and_how_often_it_stores_is_in_its_status(tmp_path: Path) -> None:
    durable = start(NAME, data_dir=tmp_path)
    in_memory = start(":raft2")
    before = ExRaft.status(durable).syncs
    ExRaft.write(durable, ("put", "k", 1))
    status = ExRaft.status(durable)
    assert status.storage == str(directory(tmp_path))
    assert status.syncs == before + 1
    assert (ExRaft.status(in_memory).storage, ExRaft.status(in_memory).syncs) == ("memory", 0)


def test_a_path_is_that_of_the_start_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = make_spec(KeyValueStore, {}, NAME, {"data_dir": "data"}, local)
    assert spec.data_dir == str(tmp_path / "data")


# Stores that are another's, new or gone (rule 29).


def test_a_server_whose_directory_was_deleted_waits_while_the_others_live(
    tmp_path: Path,
) -> None:
    leader, lost, _ = start_cluster(data_dir=tmp_path)
    ExRaft.write(leader, ("put", "k", 1))
    stop(lost)
    shutil.rmtree(directory(tmp_path, lost))
    start(lost.name, data_dir=tmp_path, initial_config=RAFT)
    assert ExRaft.status(lost).standby
    ExRaft.add_server(leader, lost, LIMIT)
    wait_until(lambda: ExRaft.read_dirty(lost, "k") == 1, "it is a member again")


def test_one_that_was_stopped_comes_back_as_the_member_that_it_was(tmp_path: Path) -> None:
    leader, follower, other = start_cluster(data_dir=tmp_path)
    stop(follower)
    ExRaft.write(leader, ("put", "k", 1), LIMIT)
    start(follower.name, data_dir=tmp_path)
    wait_until(lambda: agree([leader, follower, other]), "it has caught up")
    assert not ExRaft.status(follower).standby
    assert ExRaft.read_dirty(follower, "k") == 1


def test_where_most_directories_are_lost_the_usual_start_founds_no_other_cluster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start_cluster(data_dir=tmp_path)
    write = ExRaft.client(RAFT).write
    write(("put", "k", 1))
    wait_until(lambda: agree([Peer(name) for name in RAFT]), "all have it")
    for name in RAFT:
        ExRaft.stop_server(name)
    for name in RAFT[:2]:
        shutil.rmtree(directory_of(str(tmp_path), Peer(name)))
    for name in RAFT:
        start(name, initial_config=RAFT, data_dir=tmp_path)
    assert [ExRaft.status(name).standby for name in RAFT] == [True, True, False]
    said = [each.getMessage() for each in caplog.records if "founds no other" in each.getMessage()]
    assert len(said) == 2
    assert "python -m exraft recover" in said[0]
    with pytest.raises(CallTimeout):
        write(("put", "k", 2), timeout=0.5)


def test_where_all_were_stopped_servers_in_memory_found_a_cluster_of_their_own(
    tmp_path: Path,
) -> None:
    leader, *others = start_cluster(data_dir=tmp_path)
    cluster = ExRaft.status(leader).cluster
    stop(leader, *others)
    leader, *others = start_cluster()
    assert ExRaft.status(leader).cluster != cluster
    assert not any(ExRaft.status(peer).standby for peer in (leader, *others))


def test_where_all_were_stopped_and_deleted_they_found_a_new_cluster(tmp_path: Path) -> None:
    leader, *others = start_cluster(data_dir=tmp_path)
    cluster = ExRaft.status(leader).cluster
    stop(leader, *others)
    for peer in (leader, *others):
        shutil.rmtree(directory(tmp_path, peer))
    leader, *_ = start_cluster(data_dir=tmp_path)
    assert ExRaft.status(leader).cluster != cluster


# Directories that can't be used.


def test_a_directory_that_another_holds_is_refused_and_it_is_said_who_does(tmp_path: Path) -> None:
    start(NAME, data_dir=tmp_path)
    stop(NAME)
    held = hold(OsFiles(), str(directory(tmp_path)))
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        start(NAME, data_dir=tmp_path)
    assert ActorRegistry.names() == []
    held.close()
    start(NAME, data_dir=tmp_path)


def test_the_directory_of_another_server_is_refused(tmp_path: Path) -> None:
    start(NAME, data_dir=tmp_path)
    stop(NAME)
    directory(tmp_path).rename(directory(tmp_path, ":raft2"))
    with pytest.raises(StoreMismatch, match=":raft1"):
        start(":raft2", data_dir=tmp_path)
    assert ActorRegistry.names() == []


def test_damage_is_refused_with_its_place(tmp_path: Path) -> None:
    start(NAME, data_dir=tmp_path)
    for n in range(20):
        ExRaft.write(NAME, ("put", n, n))
    stop(NAME)
    log = min(directory(tmp_path).glob("log-*"))
    content = bytearray(log.read_bytes())
    content[200] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(StoreDamaged) as raised:
        start(NAME, data_dir=tmp_path)
    assert raised.value.path == str(log)
    assert raised.value.offset is not None
    assert ActorRegistry.names() == []
    assert log.read_bytes() == content


def test_a_file_in_the_place_of_the_directory_is_a_bad_option(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("a file")
    for data_dir in (path, path / "below"):
        with pytest.raises(OptionError, match="no directory"):
            start(NAME, data_dir=data_dir)
    assert ActorRegistry.names() == []


@pytest.mark.parametrize("data_dir", ["", b"data", 7, True, "nul\0"], ids=repr)
def test_what_is_no_path_is_a_bad_option(data_dir: Any) -> None:
    with pytest.raises(OptionError, match="data_dir"):
        start(NAME, data_dir=data_dir)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("snapshot_every", 0),
        ("snapshot_every", 1.5),
        ("snapshot_bytes", -1),
        ("snapshot_bytes", True),
        ("keep_entries", -1),
        ("keep_entries", None),
    ],
)
def test_counts_that_make_no_sense_are_bad_options(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option):
        start(NAME, **{option: value})


# A full disk.


def fill_up(disk: SimulatedFiles, server: Peer) -> list[pykka.Future[Any]]:
    """Write until a leader finds no room; return the writes."""
    disk.capacity = 0
    writes: list[pykka.Future[Any]] = []
    while not ExRaft.status(server, LIMIT).storage_full:
        writes.append(ExRaft.write_async(server, ("put", len(writes), bytes(500))))
    return writes


def test_a_leader_without_room_steps_down_and_refuses_what_it_would_have_to_store(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = simulated()
    server = start_on(disk)
    fill_up(disk, server)
    calls = (
        lambda: ExRaft.write(server, ("put", "k", 1)),
        lambda: ExRaft.read(server, "k"),
        lambda: ExRaft.add_server(server, ":raft2"),
        lambda: ExRaft.transfer_leadership(server),
        lambda: ExRaft.trigger_election(server),
    )
    for call in calls:
        with pytest.raises(DiskFull, match="no room") as raised:
            call()
        assert not maybe_applied(raised.value)
    assert ExRaft.state(server) is Role.FOLLOWER
    assert ExRaft.read_dirty(server, "k") is None
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(said) == 1
    assert "until there is room" in said[0]


def test_it_goes_on_by_itself_when_there_is_room_and_loses_nothing() -> None:
    disk = simulated()
    server = start_on(disk)
    writes = fill_up(disk, server)
    disk.capacity = None
    wait_until(lambda: not ExRaft.status(server, LIMIT).storage_full, "it has seen the room")
    ExRaft.trigger_election(server)
    wait_until(lambda: ExRaft.state(server, LIMIT) is Role.LEADER, "it leads")
    for n, write in enumerate(writes):
        try:
            write.get(timeout=LIMIT)
        except DiskFull:
            assert ExRaft.read(server, n) is None
        else:
            assert ExRaft.read(server, n) == bytes(500)
    stop(server)
    start_on(disk)
    assert ExRaft.read(server, 0) == bytes(500)


def test_the_others_go_on_without_the_one_that_has_no_room() -> None:
    disks = {name: simulated() for name in RAFT}
    for name, disk in disks.items():
        start_on(disk, name, initial_config=RAFT, **QUICK)
    leader, *others = leader_and_followers(RAFT)
    fill_up(disks[leader.name], leader)
    client = ExRaft.client(others)
    assert client.write(("put", "k", 1), timeout=LIMIT) == "ok"
    assert ExRaft.status(leader, LIMIT).storage_full
    disks[leader.name].capacity = None
    wait_until(lambda: ExRaft.read_dirty(leader, "k", LIMIT) == 1, "it follows again")


def test_a_follower_without_room_is_deaf_and_comes_back() -> None:
    disks = {name: simulated() for name in RAFT}
    for name, disk in disks.items():
        start_on(disk, name, initial_config=RAFT)
    leader, follower, other = leader_and_followers(RAFT)
    disk = disks[follower.name]
    disk.capacity = 0
    for n in range(50):
        ExRaft.write(leader, ("put", n, bytes(500)), LIMIT)
    wait_until(lambda: ExRaft.status(follower, LIMIT).storage_full, "it has no room")
    behind = ExRaft.status(follower).last_index
    ExRaft.write(leader, ("put", "k", 1))
    assert ExRaft.status(follower).last_index == behind
    disk.capacity = None
    wait_until(lambda: agree([leader, follower, other]), "it has caught up")
    assert ExRaft.read_dirty(follower, "k") == 1


def test_a_follower_without_room_names_no_leader_of_the_past() -> None:
    disks = {name: simulated() for name in RAFT}
    for name, disk in disks.items():
        start_on(disk, name, initial_config=RAFT)
    leader, follower, _ = leader_and_followers(RAFT)
    disks[follower.name].capacity = 0
    for n in range(50):
        ExRaft.write(leader, ("put", n, bytes(500)), LIMIT)
    wait_until(lambda: ExRaft.status(follower, LIMIT).storage_full, "it has no room")
    assert ExRaft.leader(follower) is None
    disks[follower.name].capacity = None
    wait_until(lambda: ExRaft.leader(follower, LIMIT) == leader, "it follows again")


def test_a_server_that_crashes_without_room_waits_for_it_in_its_next_life() -> None:
    disk = simulated()
    server = start_on(disk)
    ExRaft.write(server, ("put", "first", 1))
    fill_up(disk, server)
    crash(server)
    wait_until(lambda: ExRaft.status(server, LIMIT).restarts == 1, "it lives again")
    assert ExRaft.status(server, LIMIT).storage_full
    with pytest.raises(DiskFull):
        ExRaft.write(server, ("put", "k", 1), LIMIT)
    disk.capacity = None
    wait_until(lambda: ExRaft.state(server, LIMIT) is Role.LEADER, "it leads")
    assert ExRaft.read(server, "first") == 1


def test_a_snapshot_without_room_fails_alone() -> None:
    disk = simulated()
    server = start_on(disk)
    ExRaft.write(server, ("put", "k", 1))
    disk.capacity = 0
    with pytest.raises(SnapshotFailed, match="no room"):
        ExRaft.snapshot(server)
    disk.capacity = None
    assert ExRaft.snapshot(server) == ExRaft.status(server).applied_index


def test_a_start_without_room_is_refused() -> None:
    disk = simulated()
    disk.capacity = 0
    with pytest.raises(DiskFull):
        start_on(disk)
    assert ActorRegistry.names() == []
    disk.capacity = None
    start_on(disk)


# A disk that fails.


def break_down(disk: SimulatedFiles) -> None:
    disk.fail_at(disk.operations + 1, errno.EIO, times=100)


def test_a_server_whose_disk_fails_ends_and_is_not_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = simulated()
    server = start_on(disk)
    ExRaft.write(server, ("put", "k", 1))
    supervisor = supervisor_of(server)
    break_down(disk)
    with pytest.raises(ServerDown) as raised:
        ExRaft.write(server, ("put", "k", 2))
    assert isinstance(raised.value.why, StoreFailed)
    assert maybe_applied(raised.value)
    assert supervisor.actor_stopped.wait(LIMIT)
    wait_until(lambda: ActorRegistry.names() == [], "nothing is left")
    said = [each.getMessage() for each in caplog.records if "not started again" in each.message]
    assert len(said) == 1
    with pytest.raises(ServerNotFound):
        ExRaft.read(server, "k")


def test_this_process_starts_no_server_on_it_any_more() -> None:
    disk = simulated()
    server = start_on(disk)
    ExRaft.write(server, ("put", "k", 1))
    supervisor = supervisor_of(server)
    break_down(disk)
    with pytest.raises(ServerDown):
        ExRaft.write(server, ("put", "k", 2))
    assert supervisor.actor_stopped.wait(LIMIT)
    wait_until(lambda: ActorRegistry.names() == [], "nothing is left")
    disk.work_again()
    with pytest.raises(StoreFailed):
        start_on(disk)
    disk.kill()
    start_on(disk)
    assert ExRaft.read(server, "k") == 1


def test_a_tree_starts_no_server_on_it_either(caplog: pytest.LogCaptureFixture) -> None:
    disk = simulated()
    tree = Supervisor.start([raft.child_spec(estate_on(disk))])
    break_down(disk)
    with pytest.raises(ServerDown):
        ExRaft.write(NAME, ("put", "k", 1))
    disk.work_again()
    assert tree.actor_stopped.wait(LIMIT)
    wait_until(lambda: ActorRegistry.names() == [], "nothing is left")


def test_a_snapshot_that_meets_a_failing_disk_ends_the_server() -> None:
    disk = simulated()
    server = start_on(disk)
    ExRaft.write(server, ("put", "k", 1))
    break_down(disk)
    with pytest.raises(ServerDown):
        ExRaft.snapshot(server)
    wait_until(lambda: ActorRegistry.names() == [], "nothing is left")


def test_the_others_go_on_without_the_one_whose_disk_has_failed() -> None:
    disks = {name: simulated() for name in RAFT}
    for name, disk in disks.items():
        start_on(disk, name, initial_config=RAFT, **QUICK)
    leader, *others = leader_and_followers(RAFT)
    break_down(disks[leader.name])
    with pytest.raises(ServerDown):
        ExRaft.write(leader, ("put", "k", 1))
    assert ExRaft.client(others).write(("put", "k", 2), timeout=LIMIT) == "ok"
