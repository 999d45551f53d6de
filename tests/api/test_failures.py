"""What a failed write or read means: who is told what, and whether it may have been applied."""

from __future__ import annotations

from typing import Any

import pytest

from exraft import ExRaft, Peer, maybe_applied
from exraft.actors.calls import Read, Reply, Transfer, Write, WriteReply
from exraft.actors.server import current_server
from exraft.codec import encode
from exraft.errors import (
    CallTimeout,
    CommandDropped,
    CommandTooLarge,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    Redirect,
    ServerDown,
    TransferFailed,
    Transferring,
)
from exraft.raft.messages import AppendReply, TimeoutNow
from tests.helpers import (
    LIMIT,
    PATIENT,
    QUICK,
    RAFT,
    KeyValueStore,
    Network,
    agree,
    crash,
    done,
    elect,
    held_up,
    outcome,
    send,
    start,
    start_cluster,
    wait_until,
)


def test_a_server_that_knows_no_leader_says_so() -> None:
    start(":raft1", min_majority=2)
    for call in (
        lambda: ExRaft.write(":raft1", ("put", "k", 1)),
        lambda: ExRaft.read(":raft1", "k"),
        lambda: ExRaft.add_server(":raft1", ":raft2"),
        lambda: ExRaft.remove_server(":raft1", ":raft2"),
        lambda: ExRaft.transfer_leadership(":raft1"),
    ):
        with pytest.raises(NoLeader, match=r"wait with ExRaft\.await_leader") as raised:
            call()
        assert raised.value.reason == "no_leader"
        assert not maybe_applied(raised.value)


def test_a_follower_redirects_to_the_leader() -> None:
    leader, follower, other = start_cluster()
    before = ExRaft.status(leader).last_index
    for call in (
        lambda: ExRaft.write(follower, ("put", "k", 1)),
        lambda: ExRaft.read(follower, "k"),
        lambda: ExRaft.add_server(follower, ":raft4"),
        lambda: ExRaft.remove_server(follower, other),
        lambda: ExRaft.transfer_leadership(follower),
    ):
        with pytest.raises(Redirect, match=f"call {leader}") as raised:
            call()
        assert raised.value.leader == leader
        assert raised.value.reason == ("redirect", leader)
        assert not maybe_applied(raised.value)
    assert ExRaft.status(leader).last_index == before


def test_a_server_never_redirects_to_itself(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    ExRaft.trigger_election(leader)
    error = outcome(lambda: ExRaft.write(leader, ("put", "k", 1)))
    assert isinstance(error, NoLeader)


def test_a_command_that_lost_its_place_is_dropped(network: Network) -> None:
    leader, follower, other = peers = start_cluster()
    network.cut(leader)
    lost = ExRaft.write_async(leader, ("put", "lost", 1))
    elect(follower)
    ExRaft.write(follower, ("put", "kept", 1))
    assert not done(lost)
    network.heal()
    with pytest.raises(CommandDropped, match="will not be applied: write it again") as raised:
        lost.get(timeout=LIMIT)
    assert raised.value.reason == "dropped"
    assert not maybe_applied(raised.value)
    wait_until(lambda: agree(peers), "all have applied the same")
    assert [ExRaft.read_dirty(peer, "lost") for peer in peers] == [None] * 3
    assert [ExRaft.read_dirty(peer, "kept") for peer in peers] == [1] * 3


def test_a_writer_to_a_leader_that_steps_down_hears_when_it_is_applied_after_all(
    network: Network,
) -> None:
    leader, follower, other = start_cluster()
    network.lose(lambda sender, to, message: isinstance(message, AppendReply) and to == leader)
    write = ExRaft.write_async(leader, ("add", "n", 1))
    last = ExRaft.status(leader).last_index
    wait_until(lambda: ExRaft.status(follower).last_index == last, "the follower has it")
    network.cut(leader)
    elect(follower)
    assert not done(write)
    network.heal()
    assert write.get(timeout=LIMIT) == 1
    assert ExRaft.read(follower, "n") == 1


def test_truncation_alone_proves_nothing_to_a_writer(network: Network) -> None:
    first, second, third = start_cluster()
    # The entry gets to the second, and nobody hears of that.
    network.lose(lambda sender, to, message: third in (sender, to) or to == first)
    write = ExRaft.write_async(first, ("add", "n", 1))
    last = ExRaft.status(first).last_index
    wait_until(lambda: ExRaft.status(second).last_index == last, "the second has it")
    # It lives on there alone when the third, which has less, can't lead the first one.
    network.cut(first)
    elect(second)
    network.heal()
    assert write.get(timeout=LIMIT) == 1


def test_a_write_during_a_hand_over_is_refused(network: Network) -> None:
    leader, follower, _ = start_cluster()
    network.lose(lambda sender, to, message: isinstance(message, TimeoutNow))
    handed_over = send(leader, Transfer(Reply(), follower))
    with pytest.raises(Transferring, match=f"handed over to {follower}") as raised:
        ExRaft.write(leader, ("put", "k", 1))
    assert raised.value.to == follower
    assert raised.value.reason == ("transferring", follower)
    assert not maybe_applied(raised.value)
    for change in (ExRaft.add_server, ExRaft.remove_server):
        with pytest.raises(Transferring):
            change(leader, ":raft4")
    with pytest.raises(Transferring):
        ExRaft.transfer_leadership(leader)
    network.heal()
    assert handed_over.get(timeout=LIMIT) == follower
    assert ExRaft.write(follower, ("put", "k", 1)) == "ok"


def test_leadership_is_handed_to_whom_it_is_asked_for() -> None:
    leader, follower, other = start_cluster()
    term = ExRaft.status(leader).term
    assert ExRaft.transfer_leadership(leader, other, LIMIT) == other
    assert ExRaft.transfer_leadership(other, follower, LIMIT) == follower
    assert ExRaft.status(follower).term == term + 2


def test_leadership_is_handed_to_the_most_up_to_date_voter(network: Network) -> None:
    leader, follower, other = start_cluster()
    network.cut(follower)
    ExRaft.write(leader, ("put", "k", 1))
    last = ExRaft.status(leader).last_index
    wait_until(
        lambda: ExRaft.status(leader).peers[other].match_index == last, "the other has it all"
    )
    assert ExRaft.transfer_leadership(leader, timeout=LIMIT) == other


def test_a_leader_that_is_to_hand_over_to_itself_leads_on() -> None:
    leader, *_ = start_cluster()
    term = ExRaft.status(leader).term
    assert ExRaft.transfer_leadership(leader, leader) == leader
    assert ExRaft.status(leader).term == term


def test_leadership_is_not_handed_to_who_is_no_voter() -> None:
    leader, *_ = start_cluster()
    start(":raft4", min_majority=2)
    with pytest.raises(TransferFailed, match=":raft4 is no voter") as raised:
        ExRaft.transfer_leadership(leader, ":raft4")
    assert raised.value.reason == "transfer_failed"
    assert not maybe_applied(raised.value)
    assert ExRaft.state(leader) == "leader"


def test_a_lone_leader_has_nobody_to_hand_over_to() -> None:
    start(":raft1")
    with pytest.raises(TransferFailed, match="no other voter"):
        ExRaft.transfer_leadership(":raft1")


def test_a_leader_that_could_not_hand_over_goes_on_leading(network: Network) -> None:
    leader, follower, _ = start_cluster(min_election_timeout=1.0)
    term = ExRaft.status(leader).term
    network.lose(lambda sender, to, message: isinstance(message, TimeoutNow))
    with pytest.raises(TransferFailed, match="did not take over within 1 s"):
        ExRaft.transfer_leadership(leader, follower, LIMIT)
    assert ExRaft.write(leader, ("put", "k", 1)) == "ok"
    assert ExRaft.status(leader).term == term


def test_calls_beyond_the_bound_of_the_queue_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raft1 = start(":raft1")
    monkeypatch.setattr("exraft.calling.MAX_QUEUED", 10)
    with held_up(raft1):
        writes = [ExRaft.write_async(raft1, ("add", "n", 1)) for _ in range(15)]
        with pytest.raises(Overloaded, match="wait for replies") as raised:
            ExRaft.read(raft1, "n")
        assert raised.value.reason == "overloaded"
        assert not maybe_applied(raised.value)
    outcomes = [outcome(lambda write=write: write.get(timeout=LIMIT)) for write in writes]  # type: ignore[misc]
    assert outcomes[:10] == list(range(1, 11))
    assert [type(each) for each in outcomes[10:]] == [Overloaded] * 5
    assert ExRaft.read(raft1, "n") == 10


def test_bytes_that_wait_for_a_quorum_are_bounded(network: Network) -> None:
    leader, *_ = start_cluster(max_command_bytes=1000, max_uncommitted_bytes=1000)
    network.cut(leader)
    writes = [ExRaft.write_async(leader, ("put", n, "x" * 400)) for n in range(2)]
    with pytest.raises(Overloaded, match="too many bytes wait for a quorum") as raised:
        ExRaft.write(leader, ("put", 2, "x" * 400))
    assert raised.value.reason == "overloaded"
    assert not maybe_applied(raised.value)
    assert 800 < ExRaft.status(leader).uncommitted_bytes <= 1000
    network.heal()
    assert [write.get(timeout=LIMIT) for write in writes] == ["ok", "ok"]
    assert ExRaft.read(leader, 2) is None
    assert ExRaft.status(leader).uncommitted_bytes == 0
    assert ExRaft.write(leader, ("put", 2, "x" * 400)) == "ok"


def test_a_write_that_waits_in_a_dying_server_may_have_been_applied(network: Network) -> None:
    leader, *_ = start_cluster()
    network.cut(leader)
    write = ExRaft.write_async(leader, ("put", "k", 1))
    read = send(leader, Read(Reply(), "k", dirty=False))
    wait_until(lambda: ExRaft.status(leader).waiting_writes == 1, "it waits for a quorum")
    crash(leader, RuntimeError("crashed on purpose"))
    with pytest.raises(ServerDown, match="may have been applied: read the state") as raised:
        write.get(timeout=LIMIT)
    assert isinstance(raised.value.why, RuntimeError)
    assert raised.value.reason == ("down", raised.value.why)
    assert maybe_applied(raised.value)
    with pytest.raises(ServerDown, match="nothing was written: call again") as raised:
        read.get(timeout=LIMIT)
    assert not maybe_applied(raised.value)


def test_an_entry_that_cannot_be_decoded_stops_a_follower_from_applying_and_leading(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    leader, follower, other = start_cluster()
    ExRaft.write(leader, ("put", "k", Picky(leader, other)))
    wait_until(lambda: ExRaft.status(follower).fault, "it is found out")
    status = ExRaft.status(follower)
    assert status.fault is not None
    assert f"the command at index {status.last_index} can't be decoded: LookupError" in status.fault
    assert status.applied_index == status.last_index - 1
    assert "applies nothing any more" in caplog.text
    # It votes and stores on, but never leads, and never skips an entry.
    ExRaft.trigger_election(follower)
    assert ExRaft.state(follower) == "follower"
    ExRaft.write(leader, ("put", "after", 1))
    wait_until(
        lambda: ExRaft.status(follower).commit_index == ExRaft.status(leader).last_index,
        "it stores on",
    )
    assert ExRaft.read_dirty(follower, "after") is None


def test_a_writer_hears_that_a_leader_can_no_longer_tell(network: Network) -> None:
    class Filtering(KeyValueStore):
        def is_command(self, command: Any, state: Any) -> bool:
            Picky.tolerant = False
            return True

    Picky.tolerant = True
    try:
        ExRaft.start_server(Filtering, {}, name=":raft1", **PATIENT)
        with pytest.raises(OutcomeUnknown, match="index 2 can't be decoded") as raised:
            ExRaft.write(":raft1", ("put", "k", Picky()))
        assert raised.value.reason == "unknown"
        assert maybe_applied(raised.value)
        assert ExRaft.state(":raft1") == "follower"
    finally:
        Picky.tolerant = False


class Picky:
    """Is decoded by some servers only, as a class that is not installed everywhere."""

    tolerant = False

    def __init__(self, *where: Peer) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return _decode_picky, self.where


def _decode_picky(*where: Peer) -> Picky:
    if current_server() not in where and not Picky.tolerant:
        raise LookupError("no such class here")
    return Picky(*where)


def test_a_command_within_the_callers_limit_is_refused_by_a_stricter_leader() -> None:
    start(":raft1", max_command_bytes=100, initial_config=RAFT)
    start(":raft2", max_command_bytes=100, initial_config=RAFT)
    start(":raft3", initial_config=RAFT)
    leader = ExRaft.await_leader(":raft1", LIMIT)
    if leader == Peer(":raft3"):
        leader = ExRaft.transfer_leadership(leader, ":raft1")
    data = encode(("put", "k", "x" * 200))
    with pytest.raises(CommandTooLarge, match="the limit is 100"):
        send(leader, Write(WriteReply(), data)).get(timeout=LIMIT)


def test_a_hand_over_that_ends_with_somebody_else_has_failed() -> None:
    leader, *_ = start_cluster(**QUICK)
    # It can never be elected: it wants five votes of four.
    start(":raft4", min_majority=5, **QUICK)
    ExRaft.add_server(leader, ":raft4", LIMIT)
    with pytest.raises(TransferFailed, match="was elected, not :raft4"):
        ExRaft.transfer_leadership(leader, ":raft4", LIMIT)


def test_who_waits_for_a_leader_in_vain_is_told_what_to_look_at() -> None:
    start(":raft1", min_majority=2)
    with pytest.raises(CallTimeout, match="it knows no leader.*add_server"):
        ExRaft.await_leader(":raft1", timeout=0.01)
