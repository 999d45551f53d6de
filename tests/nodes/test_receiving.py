"""The one server of a process, which receives for the whole process while it has nothing to do."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

import exraft
from exraft import ActorRegistry, ExRaft, distribution
from exraft.actors.calls import Crash
from exraft.nodes.keys import CookieKeys
from tests.helpers import LIMIT, PATIENT, Gate, end_of, supervisor_of
from tests.nodes.ends import SERVER, End, ends
from tests.serving import COOKIE, Pages, free_nodes, serving

OTHER = ":raft2"


class Gated(Pages):
    """Comes to the end of "wait" when it is let."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def handle_write(self, command: str, state: dict[str, int]) -> tuple[int, dict[str, int]]:
        if command == "wait":
            self.gate.pass_through()
        return 1, state


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def here(gate: Gate) -> Iterator[str]:
    """The name of this process's node, in which one server runs."""
    name = exraft.start_node(free_nodes()[0], cookie=COOKIE)
    try:
        start(SERVER, gate)
        yield name
        gate.open()
        ExRaft.stop_server(SERVER, timeout=LIMIT)
    finally:
        exraft.stop_node()
        distribution._given = (None, None)


def start(server: str, gate: Gate) -> None:
    ExRaft.start_server(lambda: Gated(gate), {}, name=server, **(PATIENT | {"max_restarts": 1_000}))
    ExRaft.await_leader(server, LIMIT)


def caller() -> End:
    return End(CookieKeys(COOKIE))


def crash() -> None:
    """End a life of the server; it has another one soon."""
    ref = ActorRegistry.get_by_name(SERVER)
    if ref is not None:
        ended = end_of(ref)
        ref.actor_inbox.put(Crash(RuntimeError("crashed on purpose")))  # type: ignore[arg-type]
        assert ended.wait(LIMIT)


def test_the_node_goes_on_while_its_server_hangs(here: str, gate: Gate) -> None:
    with serving(OTHER) as service:
        away = (OTHER, service.node)
        ExRaft.await_leader(away, LIMIT)
        assert ExRaft.ping((SERVER, here), LIMIT) == "pong"
        hanging = ExRaft.write_async(SERVER, "wait")
        gate.await_someone()
        assert ExRaft.write(away, "/", LIMIT) == 1
        gate.open()
        assert hanging.get(timeout=LIMIT) == 1


def test_a_new_life_of_it_receives_on(here: str) -> None:
    one = caller()
    with ends(one):
        for _ in range(5):
            one.reaches(here)
            crash()
        one.reaches(here)


def test_a_second_server_is_reached_as_well_and_so_is_the_first_when_it_is_gone(
    here: str, gate: Gate
) -> None:
    one = caller()
    with ends(one):
        for _ in range(5):
            start(OTHER, gate)
            assert one.call(here) == "pong"
            assert one.call(here, OTHER) == "pong"
            ExRaft.stop_server(OTHER, timeout=LIMIT)
            assert one.call(here) == "pong"
            assert "no server :raft2" in one.call(here, OTHER)


def test_every_call_comes_back_however_often_it_crashes(here: str) -> None:
    """With an answer, or with the news that there will be none."""
    rng = random.Random(6)
    over = threading.Event()
    told: list[str] = []

    def call_on(end: End) -> None:
        while not over.is_set():
            told.append(end.call(here))

    those = [caller() for _ in range(3)]
    with ends(*those):
        threads = [threading.Thread(target=call_on, args=(end,)) for end in those for _ in "ab"]
        for thread in threads:
            thread.start()
        for _ in range(100):
            seen = len(told) + rng.randrange(20)
            crash()
            while len(told) < seen:
                those[0].reaches(here)
        over.set()
        for thread in threads:
            thread.join(2 * LIMIT)
            assert not thread.is_alive()
        assert those[0].call(here) == "pong"
    assert supervisor_of(SERVER).is_alive()
    assert "pong" in told
    strange = {each for each in told if each != "pong" and "down" not in each}
    assert strange == set()
