"""How scenario scripts spell entries, logs, messages and selections of messages.

Knows the spelling both ways, so that what a failure prints can be pasted into a script. Must not
know servers, nor how anything gets from one to another.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from exraft.names import Peer
from exraft.raft import (
    COMMAND,
    Append,
    AppendReply,
    Config,
    Entry,
    Install,
    InstallReply,
    Message,
    PreVote,
    PreVoteReply,
    Reach,
    ReachReply,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.config import config_entry, decode_config
from exraft.raft.reads import INCARNATION_BITS

CLUSTER = "here"
"""The id of the cluster that a script is about."""
OTHER_CLUSTER = "elsewhere"


class Malformed(ValueError):
    """A piece of a script that says nothing that could be done or checked."""


class Letter(NamedTuple):
    """A message on its way."""

    sender: Peer
    to: Peer
    message: Message


def peer_of(name: str) -> Peer:
    return Peer(f":{name}")


def name_of(peer: Peer | None) -> str:
    return "none" if peer is None else peer.name[1:]


def store_of(name: str, which: str = "1") -> str:
    """The id of the store that a server has, or of its second, third, … one."""
    return f"store of {name}" if which == "1" else f"store {which} of {name}"


# Commands, entries and logs.


def commands(text: str) -> list[str]:
    """`x y z`, where `x1..x9` stands for nine commands."""
    found: list[str] = []
    for word in text.split():
        span = re.fullmatch(r"([a-z]+)(\d+)\.\.([a-z]+)(\d+)", word)
        if span is None:
            if not re.fullmatch(r"[a-z]+\d*", word):
                raise Malformed(f"{word!r} is no command: use letters, then digits if you like")
            found.append(word)
        elif span[1] == span[3] and int(span[2]) <= int(span[4]):
            found += [f"{span[1]}{n}" for n in range(int(span[2]), int(span[4]) + 1)]
        else:
            raise Malformed(f"{word!r} is no range of commands such as x1..x9")
    return found


def data_of(command: str, size: int = 0) -> bytes:
    return command.encode().ljust(size, b".")


def command_of(data: bytes) -> str:
    return data.rstrip(b".").decode()


def config_of(voters: Iterable[str], cluster: str = CLUSTER) -> Config:
    """A configuration that knows everybody's first store."""
    peers = tuple(peer_of(name) for name in voters)
    config = Config(peers, cluster=cluster)
    return config.with_stores([(peer, store_of(name_of(peer))) for peer in peers])


def entries(
    text: str, first: int = 1, founders: Sequence[str] = (), cluster: str = CLUSTER
) -> list[Entry]:
    """`1:config 1:x 2:y1..y3`, or terms alone: then each command is called after its index."""
    made: list[Entry] = []
    for word in text.split():
        term, colon, what = word.partition(":")
        if not term.isdigit():
            raise Malformed(f"{word!r} is no entry such as 2:x, 2:config or 2")
        if not colon:
            made.append(Entry(int(term), COMMAND, b"at%d" % (first + len(made))))
        elif what.startswith("config"):
            voters = re.fullmatch(r"config(?:\(([a-z]+)\))?", what)
            if voters is None:
                raise Malformed(f"{word!r} is no configuration such as 2:config(abc)")
            made.append(config_entry(int(term), config_of(voters[1] or founders, cluster)))
        else:
            made += [Entry(int(term), COMMAND, data_of(each)) for each in commands(what)]
    return made


def show_entry(entry: Entry) -> str:
    if entry.kind == COMMAND:
        return f"{entry.term}:{command_of(entry.data)}"
    voters = "".join(name_of(peer) for peer in decode_config(entry.data).voters)
    return f"{entry.term}:config({voters})"


def show_log(log: Sequence[Entry]) -> str:
    """With `2:x1..x9` for a run of commands that are numbered."""
    spans: list[list[str]] = []
    for entry in log:
        shown = show_entry(entry)
        if spans and _next(spans[-1][-1]) == shown:
            spans[-1].append(shown)
        else:
            spans.append([shown])
    words = [
        f"{span[0]}..{span[-1].partition(':')[2]}" if len(span) > 2 else " ".join(span)
        for span in spans
    ]
    return " ".join(words) or "nothing"


def _next(shown: str) -> str:
    """`2:x9` after `2:x8`; nothing after what has no number."""
    numbered = re.fullmatch(r"(\d+:[a-z]+)(\d+)", shown)
    return f"{numbered[1]}{int(numbered[2]) + 1}" if numbered else ""


def log_fits(text: str, log: Sequence[Entry]) -> bool:
    """Whether a log is as described: `2` is any entry of term 2, `2:config` any configuration."""
    wanted: list[str] = []
    for word in text.split() if text != "nothing" else ():
        term, colon, what = word.partition(":")
        if ".." in what:
            wanted += [f"{term}:{each}" for each in commands(what)]
        elif re.fullmatch(r"\d+(:config(\([a-z]+\))?|:[a-z]+\d*)?", word):
            wanted.append(word)
        else:
            raise Malformed(f"{word!r} is no entry such as 2:x, 2:config or 2")
    return len(wanted) == len(log) and all(
        shown == word or shown.startswith((f"{word}(", f"{word}:"))
        for word, shown in zip(wanted, map(show_entry, log), strict=True)
    )


# Messages.


def _any(message: Any) -> bool:
    return True


KINDS: dict[str, tuple[type[Message], Callable[[Any], bool]]] = {
    "append": (Append, lambda message: bool(message.entries)),
    "heartbeat": (Append, lambda message: not message.entries),
    "ack": (AppendReply, lambda message: message.accepted),
    "refusal": (AppendReply, lambda message: not message.accepted),
    "pre-vote": (PreVote, _any),
    "pre-vote reply": (PreVoteReply, _any),
    "vote": (Vote, _any),
    "vote reply": (VoteReply, _any),
    "timeout-now": (TimeoutNow, _any),
    "reach": (Reach, _any),
    "reach reply": (ReachReply, _any),
    "piece": (Install, lambda message: bool(message.data)),
    "probe": (Install, lambda message: not message.data),
    "piece reply": (InstallReply, _any),
}
"""An append without entries is a heartbeat; the reply to either is an ack or a refusal. A probe
asks how much of a snapshot is there; a whole one is answered by an ack."""


def kind_of(message: Message) -> str:
    for word, (kind, fits) in KINDS.items():
        if isinstance(message, kind) and fits(message):
            return word
    raise AssertionError(message)


def _kind(text: str) -> str:
    word = text
    for plural, one in (("replies", "reply"), ("reaches", "reach"), ("s", "")):
        if word not in KINDS and word.endswith(plural):
            word = word.removesuffix(plural) + one
    if word in KINDS:
        return word
    raise Malformed(f"{text!r} is no kind of message: there are {', '.join(KINDS)}")


HIDDEN = ("cluster", "sender", "store", "whose", "config", "crc")
"""Fields that are shown nowhere: they would be the same in almost every message."""


def show_field(name: str, value: Any) -> str:
    if name == "entries":
        return show_log(value).replace(" ", ",") if value else "none"
    if name == "round":
        return f"{value >> INCARNATION_BITS}.{value & (1 << INCARNATION_BITS) - 1}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Snapshot):
        return f"{value.index}.{value.term}"
    if isinstance(value, bytes):
        return value.decode().replace(" ", "_")
    return str(value)


def show_letter(letter: Letter) -> str:
    message = letter.message
    fields = [
        f" {name}={show_field(name, getattr(message, name))}"
        for name in message.__struct_fields__
        if name not in HIDDEN and getattr(message, name) not in (0, False, "", (), b"")
    ]
    who = f"{name_of(letter.sender)} -> {name_of(letter.to)}"
    return f"{kind_of(message)} {who}{''.join(fields)}"


def fields_of(text: str) -> dict[str, str]:
    """`term=2 commit=3`, as a dictionary of texts."""
    found: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not value or name in found:
            raise Malformed(f"{word!r} is no field such as term=2, or was given before")
        found[name] = value
    return found


def message_of(
    kind: str, sender: Peer, fields: dict[str, str], cluster: str, founders: Sequence[str]
) -> Message:
    """A message from thin air. What is not said is 0, no, nothing, or as `sender` would say it."""
    word = _kind(kind)
    struct = KINDS[word][0]
    if struct is Install:
        return _install_of(sender, fields, cluster, founders)
    values: dict[str, Any] = {"cluster": cluster, "sender": sender}
    for each in msgspec.structs.fields(struct):
        if each.name in values and each.name not in fields:
            continue
        text = fields.pop(each.name, None)
        if each.name == "entries":
            given = (text or "").replace(",", " ")
            first = values["prev_index"] + 1
            values["entries"] = tuple(entries(given, first, founders))
        elif each.name == "accepted":
            values["accepted"] = word == "ack" if text is None else _value("accepted", text, bool)
        elif text is not None:
            values[each.name] = _value(each.name, text, each.type)
        elif each.name == "store":
            values["store"] = store_of(name_of(sender))
        elif each.default is not msgspec.NODEFAULT:
            values[each.name] = each.default
        else:
            assert isinstance(each.type, type)
            values[each.name] = each.type()
    if fields:
        raise Malformed(f"a {word} has no field {', '.join(fields)}")
    return msgspec.convert(list(_tagged(struct, values)), struct)


def _install_of(
    sender: Peer, fields: dict[str, str], cluster: str, founders: Sequence[str]
) -> Install:
    """All of a snapshot, in one piece; its configuration is the founders'."""
    place = re.fullmatch(r"(\d+)\.(\d+)", fields.get("snapshot", ""))
    if place is None or not fields.keys() <= {"cluster", "term", "snapshot", "data"}:
        raise Malformed("say of a piece: term=3 snapshot=5.2 data=x_y")
    cluster = fields.get("cluster", cluster)
    data = fields.get("data", "").replace("_", " ").encode()
    config = config_of(founders, cluster)
    snapshot = Snapshot(int(place[1]), int(place[2]), config, 1, 1, len(data), zlib.crc32(data))
    return Install(cluster, sender, int(fields.get("term", 0)), snapshot, 0, data)


def _tagged(struct: type[Message], values: dict[str, Any]) -> list[Any]:
    return [struct.__name__, *(values[name] for name in struct.__struct_fields__)]


def _value(name: str, text: str, kind: Any) -> Any:
    if name == "round" and (life := re.fullmatch(r"(\d+)\.(\d+)", text)):
        return (int(life[1]) << INCARNATION_BITS) + int(life[2])
    if kind is bool and text in ("yes", "no"):
        return text == "yes"
    if kind is int and text.removeprefix("-").isdigit():
        return int(text)
    if kind is str:
        # A store or a cluster; fields have no room for blanks.
        if text == "none":
            return ""
        return store_of(text[:1], text[1:] or "1") if name in ("store", "whose") else text
    raise Malformed(f"{text!r} is no value of {name}")


# Selections.


@dataclass(frozen=True)
class Selection:
    """Which messages: of these kinds, between these servers, with these fields."""

    text: str
    kinds: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)
    nth: int | None = None
    """The one with this position among those that fit; all of them if it is None."""

    def fits(self, letter: Letter) -> bool:
        message = letter.message
        return (
            (not self.kinds or kind_of(message) in self.kinds)
            and (not self.senders or name_of(letter.sender) in self.senders)
            and (not self.receivers or name_of(letter.to) in self.receivers)
            and all(self._has(message, name, text) for name, text in self.fields.items())
        )

    def _has(self, message: Message, name: str, text: str) -> bool:
        if name not in message.__struct_fields__:
            raise Malformed(f"a {kind_of(message)} has no field {name}")
        value = getattr(message, name)
        if name == "entries":
            return log_fits(text.replace(",", " ") if text != "none" else "nothing", value)
        if name in ("store", "whose"):
            return bool(value == _value(name, text, str))
        return show_field(name, value) == text

    def of(self, letters: Sequence[Letter]) -> list[Letter]:
        found = [letter for letter in letters if self.fits(letter)]
        if self.nth is None:
            return found
        at = self.nth if self.nth >= 0 else len(found) + self.nth
        return found[at : at + 1]


_ORDINAL = re.compile(r"(?:(first|last|(\d+)(?:st|nd|rd|th)) )?(.*)")
_SELECTION = re.compile(r"(.*?)(?:(?:^| )([a-z ]+|\*) -> ([a-z ]+?|\*))?((?: [a-z_]+=\S+)*)")


def selection(text: str) -> Selection:
    """`last append a -> b term=2`, `acks and refusals * -> a`, `everything`, `a -> b c`."""
    ordinal = _ORDINAL.fullmatch(text)
    assert ordinal is not None
    parts = _SELECTION.fullmatch(ordinal[3])
    assert parts is not None
    kinds, senders, receivers = parts[1], parts[2], parts[3]
    if senders is not None and senders != "*":
        # The kind and the senders are both words: the senders are the letters at the end.
        words = senders.split()
        letters = len(words)
        while letters and len(words[letters - 1]) == 1:
            letters -= 1
        kinds = " ".join([kinds, *words[:letters]]).strip()
        senders = " ".join(words[letters:])
        if not senders:
            raise Malformed(f"{text!r} does not say from whom")
    nth = None
    if ordinal[1] is not None:
        nth = {"first": 0, "last": -1}.get(ordinal[1], int(ordinal[2] or 1) - 1)
    return Selection(
        text,
        () if kinds in ("", "everything") else tuple(_kind(k) for k in kinds.split(" and ")),
        _names(senders),
        _names(receivers),
        fields_of(parts[4]),
        nth,
    )


def _names(text: str | None) -> tuple[str, ...]:
    if text in (None, "*"):
        return ()
    assert text is not None
    names = tuple(text.split())
    for name in names:
        if len(name) != 1:
            raise Malformed(f"{name!r} is no server: they are called by single letters")
    return names
