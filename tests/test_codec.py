"""Nothing mutable is shared between caller, log and machine, and no exception holds a state."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import gc
import io
import pickle
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exraft import codec
from exraft.codec import (
    Encoded,
    copy_exception,
    copy_reply,
    decode,
    encode,
    encode_command,
    reveal,
    without_frames,
)
from exraft.errors import (
    CommandTooLarge,
    MachineError,
    NoLeader,
    NotSerialisable,
    maybe_applied,
)
from exraft.names import Peer


class Account:
    def __init__(self) -> None:
        self.balance = 1


class Overdraft(ValueError):
    """As exceptions are mostly written, and as pickle can't copy them."""

    def __init__(self, account: str, missing: int) -> None:
        super().__init__(f"{account} lacks {missing}")
        self.account = account
        self.missing = missing


@dataclasses.dataclass
class Refused(Exception):
    account: str
    missing: int


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    account: str


class Quota(OSError):
    pass


class Sealed(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("sealed")


class Changeling(Exception):
    def __reduce__(self) -> Any:
        return (ValueError, ("something else",))


class Immortal(Exception):
    def __reduce__(self) -> str:
        return "IMMORTAL"


IMMORTAL = Immortal()


class Poison:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Unwilling:
    """Pickles, and doesn't unpickle."""

    def __reduce__(self) -> Any:
        return (int, ("not a number",))


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Slotted(Exception):
    __slots__ = ("account",)

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


# Values


@pytest.mark.parametrize(
    "value",
    [None, 0, -1.5, "text", b"bytes", ("put", "k", [1, {2}]), {"a": {"b": 1}}, Peer(":raft1")],
)
def test_a_value_comes_back_equal_and_of_its_type(value: object) -> None:
    twin = decode(encode(value))
    assert twin == value
    assert type(twin) is type(value)


def test_a_value_comes_back_as_a_copy() -> None:
    value = {"a": [1]}
    data = encode(value)
    value["a"].append(2)
    assert decode(data) == {"a": [1]}


def test_what_is_found_by_name_goes_by_pickle_protocol_5() -> None:
    assert encode(("put", Account)) == pickle.dumps(("put", Account), 5)


def test_a_lambda_and_a_local_class_cross_by_value() -> None:
    class Local:
        x = 1

    assert decode(encode(lambda n: n + 1))(1) == 2
    assert decode(encode(Local())).x == 1


def test_what_a_script_defines_can_be_decoded_by_another_process() -> None:
    script = (
        "import sys; from exraft.codec import encode\n"
        "class Put:\n"
        "    def __init__(self, key): self.key = key\n"
        "sys.stdout.buffer.write(encode(Put('k')))\n"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert decode(made.stdout).key == "k"


def test_decoding_leaves_a_scripts_own_class_as_it_is() -> None:
    script = (
        "from exraft.codec import decode, encode\n"
        "class Put:\n"
        "    made = 0\n"
        "    def key(self): return 'k'\n"
        "data = encode(Put()); Put.made = 5; key = Put.key\n"
        "twin = decode(data)\n"
        "assert type(twin) is Put and Put.made == 5 and Put.key is key\n"
        "assert encode(Put()) == data\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_class_from_elsewhere_is_one_class_here_and_goes_on_by_value() -> None:
    script = (
        "import dataclasses, enum, sys; from exraft.codec import encode\n"
        "class Kind(enum.Enum):\n"
        "    PUT = 1\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Base:\n"
        "    kind: Kind\n"
        "class Put(Base):\n"
        "    def kinds(self): return [Base, Put, super().__eq__]\n"
        "for part in (encode(Put(Kind.PUT)), encode([Kind.PUT, Base(Kind.PUT)])):\n"
        "    sys.stdout.buffer.write(len(part).to_bytes(4, 'big') + part)\n"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    length = int.from_bytes(made.stdout[:4], "big")
    first, second = made.stdout[4 : 4 + length], made.stdout[8 + length :]
    put = decode(first)
    assert type(decode(first)) is type(put)
    assert put == decode(first)
    assert put.kinds()[:2] == [type(put).__mro__[1], type(put)]
    kind, base = decode(second)
    assert kind is put.kind
    assert type(base) is type(put).__mro__[1]
    onward = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from exraft.codec import decode\n"
            "print(decode(sys.stdin.buffer.read()).kind.name)",
        ],
        input=encode(put),
        capture_output=True,
        check=True,
    )
    assert onward.stdout.split() == [b"PUT"]


def test_a_class_that_refers_to_itself_crosses_by_value() -> None:
    class Node:
        root: Any = None

    Node.root = Node
    assert decode(encode(Node())).root is Node


def test_a_class_that_cannot_cross_by_value_is_refused() -> None:
    class Holder:
        lock = threading.Lock()

    with pytest.raises(NotSerialisable, match="Holder"):
        encode(Holder())


def test_text_that_mentions_main_is_only_text() -> None:
    assert decode(encode("if __name__ == '__main__':")) == "if __name__ == '__main__':"


def test_cloudpickle_is_imported_on_first_need() -> None:
    script = (
        "import sys; from exraft.codec import encode, copy_reply\n"
        "encode({'a': 1}); copy_reply([1])\n"
        "assert 'cloudpickle' not in sys.modules\n"
        "encode(lambda: 1)\n"
        "assert 'cloudpickle' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in [1]), Sealed])
def test_what_cannot_be_serialised_is_refused_by_type_and_with_advice(
    make: Callable[[], object],
) -> None:
    value = make()
    with pytest.raises(NotSerialisable) as refused:
        encode(value)
    assert type(value).__name__ in str(refused.value)
    assert "use plain data" in str(refused.value)
    assert refused.value.maybe_applied is False


def test_what_is_nested_too_deep_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    try:
        with pytest.raises(NotSerialisable):
            encode(value)
    finally:
        while value:  # Unnest it, so that its end doesn't recurse either.
            value = value.pop()


def test_a_command_may_be_as_large_as_the_limit() -> None:
    size = len(encode(b"x" * 1000))
    assert len(encode_command(b"x" * 1000, size)) == size


def test_a_larger_command_is_refused_with_both_sizes() -> None:
    size = len(encode(b"x" * 1000))
    with pytest.raises(CommandTooLarge, match=f"{size} bytes and the limit is 1000") as refused:
        encode_command(b"x" * 1000, 1000)
    assert (refused.value.size, refused.value.limit) == (size, 1000)


# Replies


@pytest.mark.parametrize(
    "reply",
    [None, True, 1, 1.5, 1j, "text", b"bytes", ..., (), ("ok", 1, None), 10**400],
)
def test_a_reply_that_nobody_can_change_passes_as_it_is(reply: object) -> None:
    assert copy_reply(reply) is reply
    assert reveal(reply) is reply


@pytest.mark.parametrize(
    "reply", [[1], {"a": 1}, ("ok", [1]), (1, (2,)), bytearray(b"x"), Peer(":raft1")]
)
def test_any_other_reply_is_a_copy_made_in_two_halves(reply: object) -> None:
    held = copy_reply(reply)
    assert type(held) is Encoded
    copy = reveal(held)
    assert copy == reply
    assert copy is not reply


def test_a_subclass_of_a_scalar_is_copied_with_what_it_carries() -> None:
    reply = type_with_luggage("text")
    reply.luggage.append(2)
    copy = reveal(copy_reply(reply))
    reply.luggage.append(3)
    assert copy.luggage == [1, 2]


class type_with_luggage(str):  # noqa: N801
    def __init__(self, _: str) -> None:
        self.luggage = [1]


def test_a_reply_that_cannot_be_serialised_tells_that_the_write_was_consumed() -> None:
    with pytest.raises(NotSerialisable) as refused:
        copy_reply({"lock": threading.Lock()})
    assert maybe_applied(refused.value) is True
    with pytest.raises(NotSerialisable) as refused:
        copy_reply({"lock": threading.Lock()}, maybe_applied=False)
    assert maybe_applied(refused.value) is False


def test_a_reply_that_exits_while_it_is_pickled_does_not_take_the_server_along() -> None:
    with pytest.raises(NotSerialisable, match="SystemExit: 3"):
        copy_reply([Poison()])


def test_a_reply_that_cannot_be_decoded_is_the_machines_fault() -> None:
    held = copy_reply(Unwilling())
    with pytest.raises(MachineError, match="while the reply was decoded") as failed:
        reveal(held)
    assert failed.value.type_name == "ValueError"
    assert maybe_applied(failed.value) is True


def test_a_refused_reply_can_be_stripped_of_the_frames_that_hold_the_state() -> None:
    error, state = refuse_reply()
    gc.collect()
    assert state() is not None
    assert without_frames(error) is error
    gc.collect()
    assert state() is None


def refuse_reply() -> tuple[NotSerialisable, weakref.ref[Account]]:
    state = Account()
    try:
        copy_reply([state, threading.Lock()])
    except NotSerialisable as error:
        return error, weakref.ref(state)
    raise AssertionError("a lock was serialised")


# Exceptions


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("overdraft"),
        KeyError("k"),
        Exception(),
        RuntimeError("a", 1, ["b"]),
        FileNotFoundError(2, "no such file", "accounts"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ExceptionGroup("both", [ValueError(1), KeyError("k")]),
        Quota(28, "full"),
        Overdraft("anna", 5),
        Refused("anna", 5),
        Slotted("anna"),
        ZeroDivisionError("division by zero"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_an_exception_is_copied_with_type_text_and_arguments(exc: Exception) -> None:
    copy = copy_exception(raised(exc), None, maybe_applied=True)
    assert type(copy) is type(exc)
    assert copy is not exc
    assert str(copy) == str(exc)
    assert repr(copy) == repr(exc)
    assert maybe_applied(copy) is True
    assert not hasattr(copy, "__notes__")


def test_an_exceptions_attributes_are_copied() -> None:
    copy = copy_exception(raised(Overdraft("anna", 5)), None, maybe_applied=True)
    assert isinstance(copy, Overdraft)
    assert (copy.account, copy.missing) == ("anna", 5)
    assert copy.args == ("anna lacks 5",)


def test_an_exception_of_a_class_that_cannot_be_found_by_name_keeps_its_type() -> None:
    class Local(Exception):
        def __init__(self, account: str, missing: int) -> None:
            super().__init__(f"{account} lacks {missing}")

    copy = copy_exception(raised(Local("anna", 5)), None, maybe_applied=True)
    assert type(copy) is Local
    assert str(copy) == "anna lacks 5"


def test_the_copy_shares_nothing_that_can_change() -> None:
    items = [1]
    exc = ValueError(items)
    copy = copy_exception(raised(exc), None, maybe_applied=True)
    items.append(2)
    assert copy.args == ([1],)


def test_the_note_comes_after_the_machines_own_and_leaves_the_original_alone() -> None:
    exc = ValueError("overdraft")
    exc.add_note("the machine's")
    copy = copy_exception(exc, "raised by handle_write of :raft1 at index 7", maybe_applied=True)
    assert copy.__notes__ == ["the machine's", "raised by handle_write of :raft1 at index 7"]
    assert exc.__notes__ == ["the machine's"]


def test_what_a_read_raised_was_not_applied() -> None:
    copy = copy_exception(ValueError("no such key"), None, maybe_applied=False)
    assert maybe_applied(copy) is False
    copy = copy_exception(Sealed(), None, maybe_applied=False)
    assert maybe_applied(copy) is False


@pytest.mark.parametrize(
    ("exc", "type_name", "text"),
    [
        (Sealed("tight"), f"{__name__}.Sealed", "tight"),
        (Changeling("me"), f"{__name__}.Changeling", "me"),
        (IMMORTAL, f"{__name__}.Immortal", ""),
        (Frozen("anna"), f"{__name__}.Frozen", "anna"),
        (ValueError("lock", threading.Lock()), "ValueError", "lock"),
        (ValueError(Poison()), "ValueError", "Poison"),
        (ValueError(Unwilling()), "ValueError", "Unwilling"),
        (Mute(Poison()), f"{__name__}.Mute", "its text raised RuntimeError"),
        (NoLeader(), "exraft.errors.NoLeader", "knows no leader"),
        (MachineError("a.B", "c"), "exraft.errors.MachineError", "a.B"),
        (SystemExit(3), "SystemExit", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (GeneratorExit(), "GeneratorExit", ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_handed_on_becomes_a_machine_error(
    exc: BaseException, type_name: str, text: str
) -> None:
    copy = copy_exception(raised(exc), "at index 7", maybe_applied=True)
    assert type(copy) is MachineError
    assert copy.type_name == type_name
    assert text in copy.text
    assert copy.__notes__ == ["at index 7"]
    assert maybe_applied(copy) is True
    assert (copy.__traceback__, copy.__cause__, copy.__context__) == (None, None, None)


def handle_write(state: Account, make: Callable[[], BaseException]) -> None:
    """Raise as a machine does: in a frame that holds the state, with cause and context."""
    held = [state]
    try:
        raise LookupError(len(held))
    except LookupError as error:
        raise make() from error


@pytest.mark.parametrize(
    "make",
    [lambda: ValueError("x"), lambda: Overdraft("anna", 5), Sealed, NoLeader, SystemExit],
    ids=["plain", "own", "sealed", "ours", "exit"],
)
def test_no_copy_keeps_the_state_alive(make: Callable[[], BaseException]) -> None:
    copy, state = copy_from_a_machine(make)
    gc.collect()
    assert state() is None
    assert (copy.__traceback__, copy.__cause__, copy.__context__) == (None, None, None)


def copy_from_a_machine(
    make: Callable[[], BaseException],
) -> tuple[Exception, weakref.ref[Account]]:
    state = Account()
    try:
        handle_write(state, make)
    except BaseException as exc:
        return copy_exception(exc, "at index 7", maybe_applied=True), weakref.ref(state)
    raise AssertionError("nothing was raised")


def test_the_exception_class_of_a_script_is_not_made_again() -> None:
    script = (
        "from exraft.codec import copy_exception\n"
        "class Overdraft(Exception):\n"
        "    seen = 0\n"
        "    def __init__(self, who, lacks): super().__init__(f'{who} lacks {lacks}')\n"
        "exc = Overdraft('anna', 5); Overdraft.seen += 1\n"
        "copy = copy_exception(exc, None, maybe_applied=True)\n"
        "assert type(copy) is Overdraft and str(copy) == 'anna lacks 5'\n"
        "import sys; assert 'cloudpickle' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Plain codecs.


@pytest.fixture
def _pickle_again() -> Iterator[None]:
    yield
    codec.use("pickle")


@pytest.fixture(params=["msgpack", "json"])
def plain(request: pytest.FixtureRequest, _pickle_again: None) -> str:
    codec.use(request.param)
    return str(request.param)


@pytest.fixture
def msgpack(_pickle_again: None) -> None:
    codec.use("msgpack")


@pytest.fixture
def json(_pickle_again: None) -> None:
    codec.use("json")


def test_a_process_uses_pickle_unless_it_is_told_otherwise(_pickle_again: None) -> None:
    assert codec.in_use() == "pickle"
    for name in codec.CODECS:
        codec.use(name)
        assert codec.in_use() == name


def test_an_unknown_codec_is_refused_with_those_that_there_are(_pickle_again: None) -> None:
    codec.use("json")
    with pytest.raises(ValueError, match="no codec 'yaml': use one of pickle, msgpack, json"):
        codec.use("yaml")
    assert codec.in_use() == "json"


def test_the_bytes_say_which_codec_made_them(_pickle_again: None) -> None:
    starts = {}
    for name in codec.CODECS:
        codec.use(name)
        starts[name] = encode({"k": 1})[:2], encode(("put", "k"))[:2]
    assert starts == {
        "pickle": (b"\x80\x05", b"\x80\x05"),
        "msgpack": (b"\xc1m", b"\xc1M"),
        "json": (b"\xc1j", b"\xc1J"),
    }


def test_pickle_decodes_what_any_codec_made(plain: str) -> None:
    data = encode({"k": [1, "v"]})
    codec.use("pickle")
    assert decode(data) == {"k": [1, "v"]}


def test_the_plain_codecs_decode_each_other(plain: str) -> None:
    data = encode({"k": [1, "v"]})
    codec.use("json" if plain == "msgpack" else "msgpack")
    assert decode(data) == {"k": [1, "v"]}


PLAIN: list[object] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    1e300,
    -0.0,
    "text",
    "\0\n\u2028\U0001f600",
    [],
    {},
    ["a", [1, [None]]],
    {"a": {"b": [1.0]}},
    ("put", "k", {"v": [1]}),
    (),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_comes_back_equal_and_of_its_type(plain: str, value: object) -> None:
    twin = decode(encode(value))
    assert twin == value
    assert type(twin) is type(value)
    assert repr(twin) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        [b"", {"k": b"v"}],
        {1: "a", 1.5: "b", None: "c", b"k": "d", False: "e"},
        {("a", (1, b"k")): [1]},
        datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        float("inf"),
    ],
    ids=repr,
)
def test_messagepack_carries_bytes_times_in_utc_and_any_plain_key(
    msgpack: None, value: object
) -> None:
    twin = decode(encode(value))
    assert twin == value
    assert repr(twin) == repr(value)


def test_messagepack_carries_what_is_no_number(msgpack: None) -> None:
    twin = decode(encode(float("nan")))
    assert twin != twin


def test_a_tuple_comes_back_as_one_and_those_in_it_as_lists(plain: str) -> None:
    assert decode(encode(("put", ("a", 1)))) == ("put", ["a", 1])
    assert decode(encode([("a", 1)])) == [["a", 1]]
    assert decode(encode({"k": ("a", 1)})) == {"k": ["a", 1]}


class Text(str):
    pass


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Record(msgspec.Struct):
    x: int


@dataclasses.dataclass
class Point:
    x: int


REFUSED: list[tuple[object, str]] = [
    ({1}, "set"),
    (frozenset({1}), "frozenset"),
    (1j, "complex"),
    (..., "ellipsis"),
    (bytearray(b"b"), "bytearray"),
    (memoryview(b"b"), "memoryview"),
    (2**64, "int"),
    (-(2**63) - 1, "int"),
    (Text("t"), "Text"),
    (Colour.RED, "Colour"),
    (Number.ONE, "Number"),
    (Point(1), "Point"),
    (Record(1), "Record"),
    (Peer(":raft1"), "Peer"),
    (collections.OrderedDict(a=1), "OrderedDict"),
    (collections.defaultdict(list), "defaultdict"),
    (collections.deque([1]), "deque"),
    (datetime(2024, 2, 29), "datetime"),
    (datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=1))), "datetime"),
    (date(2024, 2, 29), "date"),
    (timedelta(1), "timedelta"),
    (decimal.Decimal("1.1"), "Decimal"),
    (uuid.UUID(int=0), "UUID"),
    (msgspec.msgpack.Ext(1, b""), "Ext"),
    (msgspec.Raw(b"1"), "Raw"),
    ("\ud800", "str"),
    (Account(), "Account"),
    (Account, "type"),
    (len, "builtin_function_or_method"),
]


@pytest.mark.parametrize(
    ("value", "name"), REFUSED, ids=[f"{name}-{n}" for n, (_, name) in enumerate(REFUSED)]
)
def test_what_would_come_back_as_something_else_is_refused_by_its_type(
    plain: str, value: object, name: str
) -> None:
    with pytest.raises(NotSerialisable, match=f"{name}.* can't be serialised.* '{plain}' takes"):
        encode(value)
    inside: tuple[object, ...] = ([value], (1, value), {"k": value}, {"k": [{"l": (value,)}]})
    for each in inside:
        with pytest.raises(NotSerialisable, match=f"the codec '{plain}' takes"):
            encode(each)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_refuses_what_it_has_no_number_for(json: None, value: float) -> None:
    with pytest.raises(NotSerialisable, match="type float that is -?(nan|inf)"):
        encode(["x", value])


def test_json_refuses_bytes_and_times(json: None) -> None:
    with pytest.raises(NotSerialisable, match="type bytes can't be serialised: the codec 'json'"):
        encode({"k": b"v"})
    with pytest.raises(NotSerialisable, match="datetime can't be serialised"):
        encode(datetime(2024, 2, 29, tzinfo=UTC))


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), Text("t"), Colour.RED])
def test_json_refuses_a_key_that_is_no_text(json: None, key: object) -> None:
    with pytest.raises(NotSerialisable, match="a key of type .*JSON has keys of text only"):
        encode({"a": {key: 1}})


@pytest.mark.parametrize("key", [Text("t"), Colour.RED, frozenset({1}), ("a", Text("t")), 1j])
def test_messagepack_refuses_a_key_that_would_come_back_as_another(
    msgpack: None, key: object
) -> None:
    with pytest.raises(NotSerialisable, match="the codec 'msgpack' takes"):
        encode({key: 1})


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}])
def test_plain_data_may_be_nested_a_hundred_deep(plain: str, wrap: Callable[[Any], Any]) -> None:
    value: Any = "x"
    for _ in range(codec.MAX_DEPTH):
        value = wrap(value)
    encode(value)
    with pytest.raises(NotSerialisable, match="nested more than 100 deep"):
        encode(wrap(value))


def test_a_value_that_holds_itself_is_refused(plain: str) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotSerialisable, match="nested"):
        encode(value)


def test_a_large_command_is_refused_by_a_plain_codec_too(plain: str) -> None:
    with pytest.raises(CommandTooLarge):
        encode_command("x" * 100, 100)


ATTACK = pickle.dumps(Poison.__mro__, 5)


def test_a_plain_codec_takes_no_pickle(plain: str) -> None:
    for data in (ATTACK, pickle.dumps(1, 0), b"", b"garbage"):
        with pytest.raises((NotSerialisable, IndexError)) as refused:
            decode(data)
        if data:
            assert f"this process takes no pickles (codec '{plain}')" in str(refused.value)


def test_a_plain_codec_runs_nothing_of_a_pickle(plain: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    data = pickle.dumps(Toucher(str(witness)), 5)
    for attack in (data, b"\xc1" + data, b"\xc1m" + data, b"\xc1p" + data):
        with pytest.raises((NotSerialisable, ValueError)):
            decode(attack)
        with pytest.raises((NotSerialisable, MachineError)):
            reveal(Encoded(attack))
        with pytest.raises((NotSerialisable, ValueError)):
            codec.load(io.BytesIO(attack))
        assert codec.unpickle_exception(attack) is None
    assert not witness.exists()
    codec.use("pickle")
    decode(data)
    assert witness.exists()


class Toucher:
    """Shows that it was unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_bytes_of_no_known_codec_are_refused(_pickle_again: None) -> None:
    for name in codec.CODECS:
        codec.use(name)
        for data in (b"\xc1", b"\xc1z123", b"\xc1m", b"\xc1m\x01\x01", b"\xc1j{", b"\xc1M\x80"):
            with pytest.raises(ValueError):
                decode(data)
        with pytest.raises(ValueError, match="extension 5 is no plain data"):
            decode(b"\xc1m\xc7\x03\x05abc")


def test_plain_data_nested_too_deep_raises_what_a_server_survives(plain: str) -> None:
    for data in (b"\xc1m" + b"\x91" * 100_000 + b"\xc0", b"\xc1j" + b"[" * 100_000):
        with pytest.raises(RecursionError):
            decode(data)


def test_pickles_are_read_while_a_cluster_moves(plain: str) -> None:
    codec.use(plain, reads_pickles=True)
    assert codec.in_use() == plain
    assert encode(1)[:1] == b"\xc1"
    assert decode(pickle.dumps({1}, 5)) == {1}
    assert reveal(Encoded(pickle.dumps({1}, 5))) == {1}
    assert codec.load(io.BytesIO(pickle.dumps({1}, 5))) == {1}
    codec.use(plain)
    with pytest.raises(NotSerialisable):
        decode(pickle.dumps({1}, 5))


def test_what_stays_at_home_is_pickled_by_any_codec(_pickle_again: None) -> None:
    for name in codec.CODECS:
        codec.use(name)
        value = {1: Account()}
        twin = codec.decode_at_home(codec.encode_at_home(value))
        assert twin[1].balance == 1
        assert twin[1] is not value[1]
        assert codec.decode_at_home(codec.encode_at_home(lambda: 5))() == 5


@pytest.mark.parametrize("reply", [1, "ok", ("ok", 1), {"k": [1]}, None, [("a", 1)]])
def test_a_reply_by_a_plain_codec_is_at_home_what_it_is_elsewhere(
    plain: str, reply: object
) -> None:
    held = copy_reply(reply)
    assert type(held) is Encoded
    assert reveal(held) == decode(encode(reply)) == codec.own_copy(reply)


@pytest.mark.parametrize("reply", [..., 1j, ("ok", 1j), 2**70, {1}])
def test_a_reply_that_could_not_cross_is_refused_at_home(plain: str, reply: object) -> None:
    with pytest.raises(NotSerialisable) as refused:
        copy_reply(reply)
    assert refused.value.maybe_applied is True
    with pytest.raises(NotSerialisable) as refused:
        codec.own_copy(reply)
    assert refused.value.maybe_applied is False


@pytest.mark.parametrize("applied", [True, False])
def test_a_reply_that_is_a_pickle_is_refused_as_what_it_is(plain: str, applied: bool) -> None:
    with pytest.raises(NotSerialisable, match="the reply: this process takes no pickles") as no:
        reveal(Encoded(ATTACK), maybe_applied=applied)
    assert no.value.maybe_applied is applied


def test_a_reply_that_lost_its_end_is_the_machines_fault_by_a_plain_codec(plain: str) -> None:
    data = encode({"k": ["v", 1.5]})
    for length in range(len(data)):
        if data[:length]:
            with pytest.raises(MachineError):
                reveal(Encoded(data[:length]))


def test_a_machine_error_stands_for_any_exception_by_a_plain_codec(plain: str) -> None:
    copy = copy_exception(raised(Overdraft("anna", 5)), "at index 7", maybe_applied=True)
    assert type(copy) is MachineError
    assert copy.type_name.endswith("Overdraft")
    assert copy.text == "anna lacks 5"
    assert copy.__notes__ == ["at index 7"]
    assert maybe_applied(copy) is True


@pytest.mark.parametrize("state", [{"k": [1]}, {1, 2}, "text"])
def test_a_pickle_is_loaded_from_a_file_of_any_kind(state: object) -> None:
    data = encode(state)
    assert codec.load(io.BytesIO(data)) == state
    assert codec.load(io.BufferedReader(Unseekable(data))) == state


def test_plain_data_is_loaded_from_a_file_of_any_kind(plain: str) -> None:
    data = encode({"k": ["x" * 100_000]})
    for name in codec.CODECS:
        codec.use(name)
        assert codec.load(io.BytesIO(data)) == {"k": ["x" * 100_000]}
        assert codec.load(io.BufferedReader(Unseekable(data))) == {"k": ["x" * 100_000]}


class Unseekable(io.RawIOBase):
    """As a snapshot is, that a server reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._rest = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = min(len(buffer), len(self._rest), 1000)
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


# Exceptions for another process.


@pytest.mark.parametrize(
    "exc",
    [ValueError("x"), KeyError("k"), Overdraft("anna", 5), Refused("anna", 5), Quota(1, "full")],
    ids=lambda exc: type(exc).__name__,
)
def test_an_exception_is_pickled_with_type_text_attributes_and_notes(exc: Exception) -> None:
    exc = copy_exception(exc, "at index 7", maybe_applied=True)
    twin = codec.unpickle_exception(codec.pickle_exception(exc))
    assert type(twin) is type(exc)
    assert str(twin) == str(exc)
    assert vars(twin) == vars(exc)
    assert twin.__notes__ == ["at index 7"]
    assert maybe_applied(twin) is True


@pytest.mark.parametrize("exc", [Sealed(), NoLeader(), SystemExit(3), KeyboardInterrupt()])
def test_what_must_not_be_handed_on_is_not_pickled(exc: BaseException) -> None:
    assert codec.pickle_exception(exc) == b""


@pytest.mark.parametrize("value", [NoLeader(), SystemExit(3), "text", ValueError, (1, 2), Poison()])
def test_only_an_exception_of_the_users_is_unpickled_as_one(value: object) -> None:
    assert codec.unpickle_exception(pickle_of(value)) is None


def pickle_of(value: object) -> bytes:
    # By the steps of Poison itself, which can't be pickled.
    return b"cbuiltins\nexit\n(I3\ntR." if isinstance(value, Poison) else pickle.dumps(value, 5)


def test_a_plain_codec_pickles_no_exception(plain: str) -> None:
    assert codec.pickle_exception(ValueError("x")) == b""
