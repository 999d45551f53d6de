"""Nodes with keys of their own: who is taken out of the list is cut off, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exraft import ExRaft
from exraft.nodes import links
from tests.helpers import LIMIT, KeyValueStore
from tests.nodes.ends import SERVER, End, KeyRing, ends
from tests.serving import free_nodes

NOT_LISTED = "not in this process's list of allowed keys"
NOT_ADMITTED = "it does not admit this process"


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(links, "LOOK_AGAIN", 0.01)
    ExRaft.start_server(KeyValueStore, name=SERVER)
    ExRaft.await_leader(SERVER, LIMIT)
    yield
    ExRaft.stop_server(SERVER, timeout=LIMIT)


class Three:
    """The nodes a, b and c, each with its keys; all know all."""

    def __init__(self, path: Path) -> None:
        self.names = dict(zip("abc", free_nodes(3), strict=True))
        self.rings = {each: KeyRing(path / each) for each in "abc"}
        for each in "abc":
            self.allow(each, "abc")

    def allow(self, owner: str, allowed: str) -> None:
        pairs = {self.names[each]: self.rings[each].own for each in allowed}
        self.rings[owner].allow(pairs)

    def end(self, owner: str) -> End:
        return End(self.rings[owner].keys()).listen(self.names[owner])


def test_who_is_revoked_is_cut_off_while_connected_and_the_others_are_not(tmp_path: Path) -> None:
    three = Three(tmp_path)
    a, b, c = map(three.end, "abc")
    with ends(a, b, c):
        b.reaches(three.names["a"])
        c.reaches(three.names["a"])
        three.allow("a", "ac")
        b.is_cut_off(three.names["a"], NOT_ADMITTED)
        c.reaches(three.names["a"])


def test_who_revokes_does_not_speak_to_the_revoked_either(tmp_path: Path) -> None:
    three = Three(tmp_path)
    a, b, c = map(three.end, "abc")
    with ends(a, b, c):
        a.reaches(three.names["b"])
        a.reaches(three.names["c"])
        three.allow("a", "ac")
        a.is_cut_off(three.names["b"], NOT_LISTED)
        a.reaches(three.names["c"])


def test_who_is_put_back_comes_in_again(tmp_path: Path) -> None:
    three = Three(tmp_path)
    a, b, c = map(three.end, "abc")
    with ends(a, b, c):
        b.reaches(three.names["a"])
        three.allow("a", "ac")
        b.is_cut_off(three.names["a"], NOT_ADMITTED)
        a.is_cut_off(three.names["b"], NOT_LISTED)
        three.allow("a", "abc")
        b.reaches(three.names["a"])
        a.reaches(three.names["b"])


def test_a_node_whose_key_was_changed_is_known_by_the_new_one(tmp_path: Path) -> None:
    three = Three(tmp_path)
    a, b = map(three.end, "ab")
    with ends(a, b):
        a.reaches(three.names["b"])
        b.close()
        three.rings["b"].renew()
        three.allow("b", "abc")
        anew = three.end("b")
        with ends(anew):
            # Not before everybody else was told.
            a.is_cut_off(three.names["b"], "can't be reached")
            anew.is_cut_off(three.names["a"], NOT_ADMITTED)
            three.allow("a", "abc")
            a.reaches(three.names["b"])
            anew.reaches(three.names["a"])
