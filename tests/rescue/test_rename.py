from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from exraft import ExRaft, Peer, names
from exraft.errors import StoreMismatch
from exraft.raft.config import Config, config_entry, decode_config
from exraft.raft.log import CONFIG
from exraft.rescue import renamed
from exraft.storage import DiskStore
from exraft.storage.image import Image
from tests.helpers import RAFT
from tests.rescue.stories import (
    CLUSTER,
    ME,
    Terminal,
    command,
    contents,
    damage,
    held,
    image_of,
    put,
    start,
    stopped_cluster,
    write_log,
)

NODE = "shop@host1"
ENTRIES = [command(f"say {number}") for number in range(2, 6)]


def configs(image: Image) -> list[Config]:
    found = [decode_config(entry.data) for entry in image.entries if entry.kind == CONFIG]
    return found if image.snapshot is None else [image.snapshot.config, *found]


def test_a_cluster_goes_on_under_a_node_as_its_refusal_says(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_cluster(tmp_path, writes=10)
    before = {name: image_of(tmp_path / name[1:]) for name in RAFT}
    monkeypatch.setattr(names, "_this_node", NODE)
    for name in RAFT:
        with pytest.raises(StoreMismatch) as refused:
            start(tmp_path, [name])
        told = re.search(r"python -m exraft (rename .*)$", str(refused.value))
        assert told is not None, refused.value
        assert terminal.type(*shlex.split(told[1])).status == 0
    start(tmp_path)
    assert held(RAFT, 1, 10) == list(range(1, 11))
    put(RAFT, 11, 12)
    status = ExRaft.status(":raft1")
    assert status.server == Peer(":raft1", NODE)
    assert set(status.config.voters) == {Peer(name, NODE) for name in RAFT}
    # The same members of the same cluster.
    assert status.config.cluster == configs(before[":raft1"])[-1].cluster
    for name, image in before.items():
        assert image.identity is not None
        assert status.config.store_of(Peer(name, NODE)) == image.identity.store_id


def test_whose_it_is_whom_it_voted_for_and_all_configurations_are_changed(
    tmp_path: Path, terminal: Terminal
) -> None:
    path = write_log(tmp_path, ENTRIES, term=3, snapshot_at=3)
    before = image_of(path)
    assert before.identity is not None
    assert terminal.type("rename", path, "--node", NODE).status == 0
    image = image_of(path)
    assert image.problems == []
    assert image.identity is not None
    assert image.identity.peer == Peer(":raft1", NODE)
    assert image.identity.store_id == before.identity.store_id
    assert (image.term, image.voted_for) == (3, Peer(":raft1", NODE))
    assert (image.commit_index, image.last_index) == (before.commit_index, before.last_index)
    (changed,) = configs(image)
    assert changed.voters == tuple(Peer(name, NODE) for name in RAFT)
    assert changed.cluster == CLUSTER


def test_configurations_in_the_log_are_changed_too(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    assert terminal.type("rename", path, "--node", NODE).status == 0
    (changed,) = configs(image_of(path))
    assert changed.voters == tuple(Peer(name, NODE) for name in RAFT)
    assert [peer for peer, _ in changed.stores] == [Peer(":raft1", NODE)]


def test_all_servers_below_a_data_dir_are_renamed_at_once(
    tmp_path: Path, terminal: Terminal
) -> None:
    stopped_cluster(tmp_path)
    told = terminal.type("rename", tmp_path, "--node", NODE, "--json").json
    assert [(each["name"], each["node"]) for each in told] == [(name, NODE) for name in RAFT]
    for each in told:
        assert image_of(Path(each["path"])).problems == []
        assert Path(each["kept"]).is_dir()


def test_what_is_renamed_already_is_left_as_it_is(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    terminal.type("rename", path, "--node", NODE)
    before = contents(path)
    again = terminal.type("rename", tmp_path, "--node", NODE)
    assert again.status == 0
    assert "already" in again.out
    assert {**contents(path), "lock": b""} == {**before, "lock": b""}
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_there_is_kept(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    before = contents(path)
    done = terminal.type("rename", path, "--node", NODE)
    (kept,) = tmp_path.glob("raft1.before-rename-*")
    assert str(kept) in done.out
    assert {**contents(kept), "lock": b""} == {**before, "lock": b""}


def test_a_server_alone_can_get_another_name(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, voters=[":raft1"])
    done = terminal.type("rename", path, "--node", names.node(), "--name", ":shop")
    assert done.status == 0
    assert not path.exists()
    image = image_of(tmp_path / "shop")
    assert image.identity is not None
    assert image.identity.peer == Peer(":shop")
    assert configs(image)[-1].voters == (Peer(":shop"),)
    store = DiskStore(tmp_path, Peer(":shop"))
    assert store.lend().last_index == 5
    store.close()


def test_a_member_of_others_keeps_its_name(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES)
    before = contents(path)
    refused = terminal.type("rename", path, "--node", NODE, "--name", ":shop")
    assert refused.status == 1
    assert "add :shop to the cluster, then remove :raft1" in refused.err
    assert {**contents(path), "lock": b""} == {**before, "lock": b""}


def test_a_name_that_is_taken_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, voters=[":raft1"])
    write_log(tmp_path, ENTRIES, voters=[":shop"], me=Peer(":shop"))
    refused = terminal.type("rename", path, "--node", NODE, "--name", ":shop")
    assert refused.status == 1
    assert "it is there already" in refused.err
    assert image_of(path).problems == []
    assert len(list(tmp_path.iterdir())) == 2


def test_a_name_is_for_one_server(tmp_path: Path, terminal: Terminal) -> None:
    write_log(tmp_path, ENTRIES)
    refused = terminal.type("rename", tmp_path, "--node", NODE, "--name", ":shop")
    assert refused.status == 2
    assert "--name is for one server" in refused.err


def test_a_cluster_of_several_nodes_is_refused(tmp_path: Path) -> None:
    image = image_of(write_log(tmp_path, ENTRIES))
    here_and_there = Config((ME, Peer(":raft2", "b@host2")), cluster=CLUSTER)
    image.entries.append(config_entry(1, here_and_there))
    with pytest.raises(Exception, match="members on other nodes"):
        renamed(image, NODE)


def test_a_new_name_that_was_anothers_once_is_in_no_configuration_twice(tmp_path: Path) -> None:
    image = image_of(write_log(tmp_path, ENTRIES, voters=[":shop", ":raft1"]))
    image.entries.append(config_entry(1, Config((ME,), cluster=CLUSTER)))
    for config in configs(renamed(image, NODE, ":shop")):
        assert config.members() == (Peer(":shop", NODE),)


def test_a_directory_that_a_server_is_at_work_on_is_refused(
    tmp_path: Path, terminal: Terminal
) -> None:
    start(tmp_path)
    refused = terminal.type("rename", tmp_path, "--node", NODE)
    assert refused.status == 1
    assert "stop that one first" in refused.err
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_directory_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    path = write_log(tmp_path, ENTRIES, snapshot_at=3)
    damage(path / "snapshot-3-1", -1)
    refused = terminal.type("rename", path, "--node", NODE)
    assert refused.status == 1
    assert "Nothing was done" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--node"),
        (["--node", "a b"], "no node"),
        (["--node", NODE, "--name", "shop"], "no name"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    words: list[str], said: str, tmp_path: Path, terminal: Terminal
) -> None:
    refused = terminal.type("rename", write_log(tmp_path, ENTRIES), *words)
    assert refused.status == 2
    assert said in refused.err


def test_a_directory_that_is_not_there_is_an_error_of_the_command_line(
    tmp_path: Path, terminal: Terminal
) -> None:
    assert terminal.type("rename", tmp_path / "nowhere", "--node", NODE).status == 2
