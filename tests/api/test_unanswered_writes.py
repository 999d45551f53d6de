"""What becomes of a write that nobody answered, and how its caller finds out."""

from __future__ import annotations

import pytest

from exraft import ExRaft, maybe_applied
from exraft.actors.calls import Read, Reply
from exraft.errors import CallTimeout, ServerDown
from tests.helpers import LIMIT, Network, crash, held_up, send, start_cluster, wait_until


def test_a_write_that_times_out_before_its_server_looked_at_it_is_withdrawn() -> None:
    leader, *_ = start_cluster()
    with held_up(leader):
        with pytest.raises(CallTimeout) as caught:
            ExRaft.write(leader, ("put", "k", 1), timeout=0.0)
        assert not maybe_applied(caught.value)
    assert ExRaft.read(leader, "k", LIMIT) is None


def test_a_write_that_times_out_after_its_server_took_it_may_be_applied(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    answer = ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "the write is in the log")
    with pytest.raises(CallTimeout) as caught:
        answer.get(timeout=0.0)
    assert maybe_applied(caught.value)
    network.heal()
    assert answer.get(timeout=LIMIT) == "ok"


def test_a_read_waits_for_a_write_whose_caller_gave_up(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "the write is in the log")
    seen = send(leader, Read(Reply(), "k", dirty=False))
    network.heal()
    assert seen.get(timeout=LIMIT) == 1


def test_a_read_sees_a_write_that_a_crash_left_without_an_answer(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    answer = ExRaft.write_async(leader, ("put", "k", 1))
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "the write is in the log")
    crash(leader)
    with pytest.raises(ServerDown) as caught:
        answer.get(timeout=LIMIT)
    assert maybe_applied(caught.value)
    seen = send(leader, Read(Reply(), "k", dirty=False))
    network.heal()
    assert seen.get(timeout=LIMIT) == 1
