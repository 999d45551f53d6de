"""Nodes whose names are of the DNS, which may come to mean another address."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from exraft import ExRaft
from exraft.nodes import link
from exraft.nodes.keys import CookieKeys
from tests.helpers import LIMIT, KeyValueStore
from tests.nodes.ends import SERVER, End, ends
from tests.serving import COOKIE, free_nodes

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin", reason="only 127.0.0.1 of its network is there"
)
HOST = "db-1.example"


@pytest.fixture(autouse=True)
def _server() -> Iterator[None]:
    ExRaft.start_server(KeyValueStore, name=SERVER)
    ExRaft.await_leader(SERVER, LIMIT)
    yield
    ExRaft.stop_server(SERVER, timeout=LIMIT)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """What names are resolved to when a connection is made."""
    known: dict[str, tuple[str, ...]] = {}

    def resolved(host: str) -> tuple[str, ...]:
        if host not in known:
            raise OSError("no such host")
        return known[host]

    monkeypatch.setattr(link, "resolved", resolved)
    return known


@pytest.fixture
def name() -> str:
    """The node's, with a port that nobody has."""
    _, _, port = free_nodes()[0].rpartition(":")
    return f"{HOST}:{port}"


def end() -> End:
    return End(CookieKeys(COOKIE))


def at(address: str, name: str) -> End:
    """The node of that name, at an address of this machine."""
    return end().listen(name, name.replace(HOST, address))


def test_a_name_that_moves_to_another_address_is_followed(
    dns: dict[str, tuple[str, ...]], name: str
) -> None:
    caller = end()
    with ends(caller):
        dns[HOST] = ("127.0.0.1",)
        with ends(at("127.0.0.1", name)):
            caller.reaches(name)
        with ends(at("127.0.0.2", name)):
            dns[HOST] = ("127.0.0.2",)
            caller.reaches(name)


def test_a_name_that_is_not_resolved_says_so_until_it_is(
    dns: dict[str, tuple[str, ...]], name: str
) -> None:
    caller = end()
    with ends(caller, at("127.0.0.1", name)):
        assert f"the name '{HOST}' is not resolved (no such host)" in caller.call(name)
        dns[HOST] = ("127.0.0.1",)
        caller.reaches(name)


def test_the_address_that_answers_is_found_among_several(
    dns: dict[str, tuple[str, ...]], name: str
) -> None:
    caller = end()
    dns[HOST] = ("127.0.0.3", "127.0.0.2", "127.0.0.1")
    with ends(caller, at("127.0.0.1", name)):
        # At once, and not only when it is tried again.
        assert caller.call(name) == "pong"


def test_an_address_that_is_now_another_nodes_is_not_taken_for_the_old_one(
    dns: dict[str, tuple[str, ...]], name: str
) -> None:
    caller = end()
    dns[HOST] = ("127.0.0.1",)
    other = name.replace(HOST, "db-2.example")
    with ends(caller, end().listen(other, name.replace(HOST, "127.0.0.1"))):
        assert f"its address is now that of {other}" in caller.call(name)
