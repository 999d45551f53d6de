from __future__ import annotations

import re
from typing import Any

from exraft.names import Peer
from exraft.raft import (
    COMMAND,
    Answer,
    Append,
    AppendReply,
    Config,
    Done,
    Entry,
    Install,
    InstallReply,
    Logged,
    PreVote,
    PreVoteReply,
    Reach,
    ReachReply,
    Refusal,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.config import config_entry
from exraft.raft.snapshot import Snapshot
from exraft.testing import Faults
from exraft.testing.cluster import Cluster
from exraft.testing.trace import Trace, told
from tests.testing.machines import CALM, shelf, small

A, B, C = (Peer(f":{name}") for name in "abc")
HEAD: tuple[str, Peer, int] = ("ours", A, 3)
ROUND = (7 << 32) + 5
TAKEN = Snapshot(9, 2, Config(voters=(A, B)), 1, 1, 7, 1)


def test_every_message_is_told_in_few_words() -> None:
    entries = (Entry(2, COMMAND, b"\x80secret"), config_entry(3, Config(voters=(A, B))))
    messages: dict[Any, str] = {
        Append(*HEAD, 4, 2, entries, 1, ROUND): "append after 4 (2): 2 3[:a,:b], commit 1, round 5",
        Append(*HEAD, 4, 2, (), 1, ROUND): "append after 4 (2), commit 1, round 5",
        AppendReply(*HEAD, "s", True, 6, 0, 0, 4, ROUND): "has 6, committed 4, round 5",
        AppendReply(*HEAD, "s", False, 6, 2, 1, 4, ROUND): (
            "refuses after 6, maybe 2 (1), round 5"
        ),
        PreVote(*HEAD, "s", 6, 2): "pre-vote? log to 6 (2)",
        PreVoteReply(*HEAD, "s", 4, True): "pre-vote of 4: yes",
        PreVoteReply(*HEAD, "s", 4, False): "pre-vote of 4: no",
        Vote(*HEAD, "s", 6, 2, False): "vote? log to 6 (2)",
        Vote(*HEAD, "s", 6, 2, True): "vote? log to 6 (2), forced",
        VoteReply(*HEAD, "s", True): "vote: yes",
        VoteReply(*HEAD, "s", False): "vote: no",
        Install(*HEAD, TAKEN, 3, b"abc"): "the snapshot of 9 (2): 3 at 3 of 7 bytes",
        Install(*HEAD, TAKEN, 0, b""): "the snapshot of 9 (2): is for you",
        InstallReply(*HEAD, "s", 9, 1, 6): "has 6 bytes of the snapshot of 9",
        TimeoutNow(*HEAD): "campaign now",
        Reach(*HEAD): "who are you?",
        ReachReply(*HEAD, "s", "theirs"): "is of cluster theirs",
        ReachReply(*HEAD, "s", ""): "is of cluster (none)",
    }
    for message, words in messages.items():
        assert told(message) == f":a t3: {words}"


def test_answers_and_requests_are_told_in_few_words() -> None:
    words: dict[Any, str] = {
        Answer("change 1", Refusal("no_leader")): "answers change 1: no_leader",
        Answer("change 1", Refusal("redirect", B)): "answers change 1: redirect (:b)",
        Answer("change 1", Logged(5, 2)): "answers change 1: logged at 5 (2)",
        Answer("change 1", Done()): "answers change 1: done",
        ("add", B): "add :b",
        ("transfer", None): "transfer None",
    }
    for what, text in words.items():
        assert told(what) == text


def test_no_pickled_bytes_stand_in_a_trace_and_a_command_as_it_is_written() -> None:
    class Marker:
        def __init__(self, number: int) -> None:
            self.number = number

        def __repr__(self) -> str:
            return f"<the marker {self.number}>"

        def __radd__(self, other: int) -> int:
            return other + self.number

    report = small(
        commands=lambda rng: Marker(rng.randrange(10)), faults=Faults.everything(), seed=2
    ).run(trace=True)
    text = " ".join(" ".join(report.trace).split())
    assert re.search(r"write <the marker \d>", text)
    assert "\\x" not in text
    assert "b'" not in text
    assert text.isprintable()


def test_a_trace_has_a_column_for_each_server_in_order() -> None:
    report = shelf(1, servers=3, faults=CALM).run(trace=True)
    head, *rows = report.trace
    assert head.split() == [":a", ":b", ":c"]
    columns = {name: head.index(name) for name in head.split()}
    starts = [row for row in rows if row.endswith(" starts")]
    assert sorted(row.index("starts") for row in starts) == sorted(columns.values())


def test_more_servers_have_narrower_columns() -> None:
    few, many = (shelf(1, servers=n, faults=CALM).run(trace=True).trace[0] for n in (3, 7))
    assert many.index(":b") < few.index(":b")


def test_a_row_says_when_and_no_row_is_wider_than_its_column() -> None:
    report = shelf(2, faults=Faults.everything()).run(trace=True)
    table = [row for row in report.trace[1:] if " -- " not in row]
    width = report.trace[0].index(":b") - report.trace[0].index(":a")
    times = [float(row[:9]) for row in report.trace[1:] if row[:9].strip()]
    assert times == sorted(times)
    assert not any(row[:9].strip() for row in table if row.endswith(" (0), committed 0"))
    for row in table:
        text = row[11:]
        column = len(text) - len(text.lstrip())
        assert len(text) - column < width, row


def test_what_clients_and_the_network_do_stands_across_the_columns() -> None:
    report = shelf(2, faults=Faults(partitions=2.0), events=1000).run(trace=True)
    assert any(re.match(r" *[\d.]+  -- client \d+: hears from :\w", row) for row in report.trace)
    assert any("-- network: cut: " in row for row in report.trace)
    assert any("-- network: the faults stop" in row for row in report.trace)


def test_a_change_of_state_is_noted_with_the_time_of_what_brought_it_about() -> None:
    cluster = Cluster(3, start=False)
    trace = Trace(cluster)
    for number, peer in enumerate(cluster.peers, 1):
        cluster.now = number / 10
        cluster.start(peer)
    cluster.elect()
    trace.look()
    told_of: dict[str, float] = {}
    for at, who, what in trace.rows:
        if what.startswith("= "):
            assert told_of[who] == at, (at, who, what)
        else:
            told_of[who] = at
    assert any("= leader of term 1" in what for _, _, what in trace.rows)


def test_the_last_rows_say_how_many_there_were_before() -> None:
    cluster = Cluster(3)
    trace = Trace(cluster)
    cluster.elect()
    assert len(trace.rows) > 10
    lines = trace.lines(last=4)
    assert lines[0] == trace.lines()[0]
    assert lines[1].strip() == f"({len(trace.rows) - 4} rows before)"
    assert lines[2:] == trace.lines()[-len(lines[2:]) :]


def test_a_server_that_dies_is_down_until_it_starts_again() -> None:
    cluster = Cluster(3)
    trace = Trace(cluster)
    cluster.elect()
    cluster.crash(A)
    cluster.wait(0.2)
    cluster.start(A)
    trace.look()
    whats = [what for _, who, what in trace.rows if who == ":a"]
    assert whats.index("dies") < whats.index("= down") < whats.index("starts")


def test_a_trace_tells_of_snapshots_and_where_a_log_begins() -> None:
    cluster = Cluster(1)
    trace = Trace(cluster)
    cluster.elect()
    for number in range(3):
        cluster.write(A, b"%d" % number)
    cluster.take_snapshot(A)
    cluster.wait(0.5)
    cluster.crash(A)
    cluster.start(A)
    whats = [what for _, _, what in trace.rows]
    for what in (
        "begins a snapshot of 4",
        "has a snapshot of 4, and its log from 0",
        "restores its snapshot of 4",
    ):
        assert what in whats
