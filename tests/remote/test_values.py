"""What crosses to a caller on another node looks as it does at home, or is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from exraft import codec, errors
from exraft.actors.status import PeerStatus, Status
from exraft.codec import Encoded, copy_exception, copy_reply, encode, reveal
from exraft.errors import (
    AlreadyStarted,
    CallTimeout,
    ExRaftError,
    MachineError,
    NodeUnreachable,
    NotSerialisable,
    Redirect,
    ServerDown,
    ServerNotFound,
    StartFailed,
    StoreDamaged,
    machines_own,
    mark_applied,
    maybe_applied,
)
from exraft.names import Peer, Role
from exraft.raft.config import Config
from exraft.raft.log import COMMAND, CONFIG, Entry
from exraft.remote.values import (
    Kind,
    decode_answer,
    decode_failure,
    encode_answer,
    encode_failure,
)
from exraft.supervision import errors as supervision_errors
from tests.supervision.test_errors import EVERY as SUPERVISION_ERRORS
from tests.test_errors import EVERY as ERRORS

PEER = Peer(":raft2", "db-2:7001")
OTHER = Peer(":raft3", "[::1]:7001")


@pytest.fixture
def _pickle_again() -> Iterator[None]:
    yield
    codec.use("pickle")


@pytest.fixture(params=codec.CODECS)
def any_codec(request: pytest.FixtureRequest, _pickle_again: None) -> str:
    codec.use(request.param)
    return str(request.param)


@pytest.fixture(params=["msgpack", "json"])
def plain(request: pytest.FixtureRequest, _pickle_again: None) -> str:
    codec.use(request.param)
    return str(request.param)


STATUS = Status(
    server=PEER,
    role=Role.LEADER,
    term=3,
    leader=PEER,
    config=Config((PEER, OTHER), (Peer(":raft4"),), "cluster", ((PEER, "store"),)),
    config_index=7,
    cluster="cluster",
    store_id="store",
    commit_index=2**40,
    applied_index=9,
    last_index=11,
    first_index=1,
    log_entries=11,
    log_bytes=1000,
    storage="/var/lib/exraft",
    storage_full=False,
    syncs=5,
    snapshot_index=0,
    snapshot_bytes=0,
    snapshotting=True,
    receiving=(7, 10, 100),
    replaying=0,
    uncommitted_bytes=17,
    queue_length=1,
    waiting_writes=2,
    waiting_reads=3,
    side_effects=4,
    restarts=5,
    foreign_messages=6,
    standby=False,
    fault="the command at index 9 can't be decoded",
    peers={
        OTHER: PeerStatus(9, 10, True, 2, 0.25, False, (7, 10, 100)),
        Peer(":raft4"): PeerStatus(0, 1, False, 0, 1e9, True, None),
    },
)


# Answers.


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("leader", PEER),
        ("leader", None),
        ("peer", Peer(":raft1")),
        ("role", Role.CANDIDATE),
        ("text", "pong"),
        ("status", STATUS),
        ("log", (5, [Entry(1, COMMAND, b"\x80"), Entry(2, CONFIG, b"")])),
        ("log", (1, [])),
        ("index", 2**40),
        ("none", None),
    ],
)
def test_an_answer_comes_back_equal_and_of_its_types(
    any_codec: str, kind: Kind, value: object
) -> None:
    twin = decode_answer(kind, encode_answer(kind, value))
    assert twin == value
    assert repr(twin) == repr(value)
    assert type(twin) is type(value)


def test_a_status_comes_back_with_its_peers_config_and_tuples() -> None:
    twin = decode_answer("status", encode_answer("status", STATUS))
    assert type(twin.server) is type(twin.leader) is Peer
    assert type(twin.role) is Role
    assert type(twin.config) is Config
    assert [type(peer) for peer in twin.config.voters] == [Peer, Peer]
    assert [type(peer) for peer in twin.peers] == [Peer, Peer]
    assert twin.peers[OTHER] == STATUS.peers[OTHER]
    assert type(twin.receiving) is tuple


@pytest.mark.parametrize("reply", [None, "ok", ("ok", 1), {"k": [1]}, [("a", 1)]])
def test_a_reply_is_decoded_in_its_callers_thread_and_as_at_home(
    any_codec: str, reply: object
) -> None:
    held = copy_reply(reply)
    twin = decode_answer("value", encode_answer("value", held))
    assert type(twin) is Encoded
    assert reveal(twin) == reveal(held)


def test_a_reply_that_is_encoded_already_is_passed_on_as_it_is() -> None:
    assert encode_answer("value", Encoded(b"anything")) == b"anything"


def test_a_reply_that_cannot_be_decoded_fails_where_it_is_revealed(plain: str) -> None:
    twin = decode_answer("value", pickle.dumps(1))
    with pytest.raises(NotSerialisable, match="this process takes no pickles"):
        reveal(twin)


@pytest.mark.parametrize(
    "kind", ["leader", "peer", "role", "text", "status", "log", "index", "none"]
)
def test_an_answer_of_another_kind_is_refused(kind: Kind) -> None:
    wrong: list[object] = [3.5, [1], {"a": 1}, {"server": ["a", "b"]}, b"x"]
    deep = b"\x91" * 100_000 + b"\xc0"
    for data in [*map(msgspec.msgpack.encode, wrong), b"", b"\xc1", pickle.dumps(1), deep]:
        with pytest.raises(ValueError):
            decode_answer(kind, data)


# Failures of ours.

EVERY: list[ExRaftError] = [row[0] for row in [*ERRORS, *SUPERVISION_ERRORS]] + [
    Redirect(PEER),
    ServerNotFound(PEER),
    ServerNotFound((":raft2", "db-2:7001")),
    NodeUnreachable(PEER, "db-2:7001", "connection refused"),
    ServerDown(("nodedown", "db-2:7001")),
    ServerDown("killed", maybe_applied=False),
    ServerDown(MachineError("shop.SoldOut", "none left")),
    CallTimeout(PEER, 2),
    CallTimeout(PEER, 2.5, next_step="read first", maybe_applied=False),
    CallTimeout(),
    StoreDamaged("log-1", "it ends here"),
    NotSerialisable("the reply", maybe_applied=True),
    ExRaftError("nothing is called so"),
    AlreadyStarted(None, ":raft1"),
    MachineError("malformed return", "", maybe_applied=False),
]


def same(twin: object, error: object) -> bool:
    """Exceptions are equal if all that makes them up is."""
    if isinstance(error, BaseException):
        return (
            isinstance(twin, BaseException)
            and type(twin) is type(error)
            and str(twin) == str(error)
            and twin.args == error.args
            and vars(twin).keys() == vars(error).keys()
            and all(same(vars(twin)[name], value) for name, value in vars(error).items())
        )
    if isinstance(error, tuple):
        return (
            type(twin) is type(error)
            and isinstance(twin, tuple)
            and len(twin) == len(error)
            and all(map(same, twin, error))
        )
    return type(twin) is type(error) and twin == error


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_of_ours_comes_back_as_at_home(any_codec: str, error: ExRaftError) -> None:
    original = copy.copy(error)
    original.maybe_applied = not error.maybe_applied
    original.add_note("from :raft1")
    original.add_note("twice")
    for each in (error, original):
        twin = decode_failure(encode_failure(each))
        assert same(twin, each)
        assert maybe_applied(twin) is each.maybe_applied
        assert machines_own(twin) is machines_own(each)
    assert twin.__notes__ == ["from :raft1", "twice"]


def test_every_error_of_ours_was_tried() -> None:
    defined = {
        value
        for module in (errors, supervision_errors)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, ExRaftError) and name[0] != "_"
    }
    assert {type(error) for error in EVERY} == defined


def test_an_error_keeps_its_place_among_pythons(any_codec: str) -> None:
    twin = decode_failure(encode_failure(CallTimeout(PEER, 1.0)))
    assert isinstance(twin, TimeoutError)
    assert twin.errno is None
    assert isinstance(decode_failure(encode_failure(ServerNotFound(PEER))), LookupError)


def test_a_dead_servers_exception_is_one_object_in_the_reason_too(any_codec: str) -> None:
    twin = decode_failure(encode_failure(ServerDown(StoreDamaged("log-1", "it ends here"))))
    assert isinstance(twin, ServerDown)
    assert isinstance(twin.why, StoreDamaged)
    assert twin.reason == ("down", twin.why)


def test_a_failed_start_has_its_cause(any_codec: str) -> None:
    twin = decode_failure(encode_failure(StartFailed(":raft1", StoreDamaged("log-1", "x"))))
    assert isinstance(twin, StartFailed)
    assert twin.__cause__ is twin.cause
    assert same(twin.cause, StoreDamaged("log-1", "x"))


def test_an_attribute_that_is_nothing_plain_is_told_by_its_repr(any_codec: str) -> None:
    why = ("left", [1, {2}], Role.LEADER, 2**70, b"x")
    twin = decode_failure(encode_failure(ServerDown(why)))
    assert isinstance(twin, ServerDown)
    assert twin.why == ("left", "[1, {2}]", repr(Role.LEADER), str(2**70), "b'x'")
    assert twin.reason == ("down", twin.why)


def test_an_attribute_whose_repr_raises_harms_nobody(any_codec: str) -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise SystemExit(3)

    error = ServerDown("killed")
    error.why = Unspeakable()
    twin = decode_failure(encode_failure(error))
    assert isinstance(twin, ServerDown)
    assert twin.why == "a Unspeakable that has no repr"


def test_a_path_that_is_no_text_is_escaped(any_codec: str) -> None:
    error = StoreDamaged("data/\udcff", "it ends here")
    error.add_note("in \udcff")
    twin = decode_failure(encode_failure(error))
    assert isinstance(twin, StoreDamaged)
    assert twin.path == r"data/\udcff"
    assert str(twin) == r"data/\udcff: it ends here"
    assert twin.__notes__ == [r"in \udcff"]


def test_of_a_class_that_the_other_node_may_not_have_the_nearest_known_one_crosses() -> None:
    class Mine(Redirect):
        pass

    twin = decode_failure(encode_failure(Mine(PEER)))
    assert type(twin) is Redirect
    assert twin.leader == PEER


def test_nothing_but_its_declared_attributes_crosses_with_an_error(any_codec: str) -> None:
    error = Redirect(PEER)
    error.with_traceback = "gone"  # type: ignore[method-assign,assignment]
    assert "with_traceback" not in vars(decode_failure(encode_failure(error)))


# Failures of a machine's own.


class Overdraft(ValueError):
    """As exceptions are mostly written, and as pickle can't copy them."""

    def __init__(self, account: str, missing: int) -> None:
        super().__init__(f"{account} lacks {missing}")
        self.account = account
        self.missing = missing


class Forgetful(Exception):
    """Loses on its way what it carries."""

    def __reduce__(self) -> Any:
        return Forgetful, self.args


class Sealed(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("sealed")


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(
    "error",
    [ValueError("x", 1), KeyError("k"), Overdraft("anna", 5), Forgetful("x"), OSError(28, "full")],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_of_the_machines_comes_back_as_at_home(
    error: Exception, applied: bool
) -> None:
    error = copy_exception(error, "raised by handle_write at index 7", maybe_applied=applied)
    twin = decode_failure(encode_failure(error))
    assert same(twin, error)
    assert twin.__notes__ == ["raised by handle_write at index 7"]
    assert maybe_applied(twin) is applied
    assert machines_own(twin)


def test_an_exception_of_a_class_that_cannot_be_found_by_name_crosses_by_value() -> None:
    class Local(Exception):
        pass

    twin = decode_failure(encode_failure(mark_applied(Local("x"), True)))
    assert type(twin).__name__ == "Local"
    assert twin.args == ("x",)


def test_an_exception_that_came_out_of_no_machine_is_not_taken_for_its_answer() -> None:
    twin = decode_failure(encode_failure(ValueError("'raft1' is no name")))
    assert type(twin) is ValueError
    assert not machines_own(twin)
    assert maybe_applied(twin) is False


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Sealed("x"), "x"),
        (lambda: Unwilling("x"), "x"),
        (Mute, "(its text raised RuntimeError)"),
        (lambda: SystemExit(3), "3"),
    ],
    ids=["sealed", "unwilling", "mute", "exit"],
)
def test_a_machine_error_stands_for_what_cannot_cross(
    any_codec: str, make: Callable[[], BaseException], text: str
) -> None:
    error = mark_applied(make(), True)
    error.add_note("at index 7")
    twin = decode_failure(encode_failure(error))
    if any_codec == "pickle" and isinstance(error, Mute):
        assert type(twin) is Mute
    else:
        assert type(twin) is MachineError
        assert twin.type_name.endswith(type(error).__name__)
        assert twin.text == text
    assert twin.__notes__ == ["at index 7"]
    assert maybe_applied(twin) is True


@pytest.mark.parametrize("applied", [True, False])
def test_by_a_plain_codec_a_machine_error_stands_for_any_exception_here_and_there(
    plain: str, applied: bool
) -> None:
    here = copy_exception(Overdraft("anna", 5), "at index 7", maybe_applied=applied)
    there = decode_failure(encode_failure(here))
    assert type(there) is MachineError
    assert same(there, here)
    unmarked = decode_failure(encode_failure(Overdraft("anna", 5)))
    assert type(unmarked) is MachineError
    assert unmarked.text == "anna lacks 5"


def test_a_plain_process_does_not_unpickle_what_another_has_pickled(plain: str) -> None:
    codec.use("pickle")
    data = encode_failure(mark_applied(Overdraft("anna", 5), True))
    codec.use(plain)
    twin = decode_failure(data)
    assert type(twin) is MachineError
    assert twin.text == "anna lacks 5"
    assert maybe_applied(twin) is True


# Malformed failures.


def raw(**changed: Any) -> bytes:
    parts = {
        "tag": "ours",
        "name": "Redirect",
        "text": "another server leads",
        "maybe_applied": False,
        "reason": ["tuple", ["redirect", ["peer", list(PEER)]]],
        "fields": {"leader": ["peer", list(PEER)]},
        "notes": [],
    }
    return msgspec.msgpack.encode(list((parts | changed).values()))


def test_a_failure_is_what_these_tests_take_it_for() -> None:
    assert same(decode_failure(raw(text=str(Redirect(PEER)))), Redirect(PEER))


@pytest.mark.parametrize(
    "changed",
    [
        {"tag": "yours"},
        {"name": "Exception"},
        {"name": "SystemExit"},
        {"name": "_ChildError"},
        {"name": "NoLeader"},
        {"text": 5},
        {"maybe_applied": "no"},
        {"reason": {"a": 1}},
        {"reason": ["field", "follower"]},
        {"fields": {}},
        {"fields": {"leader": "raft1"}},
        {"fields": {"leader": None}},
        {"fields": {"leader": ["peer", [1]]}},
        {"fields": {"leader": ["field", "leader"]}},
        {"fields": {"leader": ["peer", list(PEER)], "with_traceback": 1}},
        {"fields": {"leader": ["peer", list(PEER)], "__class__": 1}},
        {"notes": [1]},
        {"notes": None},
    ],
    ids=str,
)
def test_a_failure_that_makes_no_sense_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        decode_failure(raw(**changed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        b"\xc1",
        pickle.dumps(ValueError("x")),
        encode(ValueError("x")),
        msgspec.msgpack.encode(["theirs", "a", "b"]),
        raw() + b"\xc0",
        raw()[:-1],
        raw(reason=1)[:-50],
    ],
)
def test_bytes_that_are_no_failure_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_failure(data)


def test_a_failure_nested_without_end_is_refused() -> None:
    reason: Any = "x"
    for _ in range(300):
        reason = ["tuple", [reason]]
    tail = msgspec.msgpack.encode(reason)
    deep = b"\x92\xa5tuple\x91" * 100_000 + tail
    data = raw(reason="REASON").replace(msgspec.msgpack.encode("REASON"), deep)
    with pytest.raises(ValueError, match="nested too deep"):
        decode_failure(data)


def test_a_pickle_in_a_failure_that_is_no_exception_is_not_raised() -> None:
    for value in (1, ValueError, NotSerialisable("x"), SystemExit(3), ("a", "b", "c"), ()):
        told = ["theirs", "shop.SoldOut", "none", True, True, [], pickle.dumps(value)]
        twin = decode_failure(msgspec.msgpack.encode(told))
        assert type(twin) is MachineError
        assert twin.type_name == "shop.SoldOut"
