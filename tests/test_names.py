"""What a server may be called."""

from __future__ import annotations

import pickle

import pytest

from exraft.names import LOCAL_NODE, Peer, Role, as_peer, check_name, node


def test_a_process_without_a_node_is_nonode_at_nohost() -> None:
    assert node() == LOCAL_NODE == "nonode@nohost"


@pytest.mark.parametrize("name", [":raft1", ":ExRaft.Supervisor.raft1", ":a", "::", ":größe"])
def test_an_atom_like_string_is_a_name(name: str) -> None:
    assert check_name(name) is name


@pytest.mark.parametrize("name", ["raft1", "", ":", " :raft1", ":raft 1", ":raft1\n", ":\t"])
def test_other_strings_are_refused_and_a_right_name_is_shown(name: str) -> None:
    with pytest.raises(ValueError, match="such as ':[^ ]+'"):
        check_name(name)


def test_the_name_shown_is_the_one_probably_meant() -> None:
    with pytest.raises(ValueError, match="':raft7'"):
        check_name("raft7")


@pytest.mark.parametrize("name", [None, 1, b":raft1", (":raft1",)])
def test_what_is_no_string_is_no_name(name: object) -> None:
    with pytest.raises(ValueError, match="is a string such as ':raft1'"):
        check_name(name)


def test_a_peer_equals_the_plain_tuple() -> None:
    assert Peer(":raft1", "a@host") == (":raft1", "a@host")
    assert hash(Peer(":raft1")) == hash((":raft1", LOCAL_NODE))


def test_a_peer_on_this_node_is_shown_by_its_name() -> None:
    assert str(Peer(":raft1")) == ":raft1"
    assert str(Peer(":raft1", "a@host")) == ":raft1 on a@host"


def test_a_peer_survives_pickling_as_a_peer() -> None:
    copy = pickle.loads(pickle.dumps(Peer(":raft1", "a@host")))
    assert type(copy) is Peer
    assert copy == Peer(":raft1", "a@host")


def test_a_name_addresses_a_peer_on_this_node() -> None:
    assert as_peer(":raft1") == Peer(":raft1", LOCAL_NODE)


def test_a_tuple_and_a_peer_address_a_peer_elsewhere() -> None:
    assert as_peer((":raft1", "a@host")) == Peer(":raft1", "a@host")
    assert as_peer(Peer(":raft1", "a@host")) == Peer(":raft1", "a@host")
    assert type(as_peer((":raft1", "a@host"))) is Peer


@pytest.mark.parametrize(
    "server",
    [None, 7, (":raft1",), (":raft1", "a", "b"), [":raft1", "a"], ("raft1", "a"), (":raft1", 1)],
)
def test_what_addresses_nobody_is_refused(server: object) -> None:
    with pytest.raises(ValueError, match="':raft"):
        as_peer(server)


@pytest.mark.parametrize("there", ["", " ", "a host", "host\n"])
def test_a_node_without_a_plain_name_is_refused(there: str) -> None:
    with pytest.raises(ValueError, match="is no node"):
        as_peer((":raft1", there))


def test_a_role_equals_its_plain_string() -> None:
    assert {Role.LEADER: 1} == {"leader": 1}
    assert f"{Role.FOLLOWER} {Role.CANDIDATE}" == "follower candidate"
