"""Who belongs: the keys by which nodes know each other, and where they are kept.

Knows cookies, lists of keys and the files that hold them. Must not know connections: who asks is
told whether a key is admitted, and shuts the door himself.

The theory of the file: CURVE (the security of ZeroMQ) knows public and secret keys, and users want
one word. So the pair is derived from the cookie, all holders have the same one, and the key that is
admitted is that key. From a recorded handshake one can find out whether a guess at the cookie was
right, without asking anybody; so a guess must take long (scrypt), and there must be many to try.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import secrets
import stat
import struct
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from exraft.errors import NodeError
from exraft.nodes.address import parse

logger = logging.getLogger("exraft.nodes")

COOKIE: Final = "EXRAFT_COOKIE"
COOKIE_FILE: Final = "EXRAFT_COOKIE_FILE"
"""The environment variables that hold a cookie, or name the file that does."""

SHORTEST: Final = 16
"""Characters of a cookie, at least."""
WEAK: Final = 64
"""Bits, as `_bits` guesses them, below which a cookie is warned of."""

SECRET: Final = "secret"
ALLOWED: Final = "allowed"
"""The two files in a directory of keys."""

_KEYGEN: Final = "`python -m exraft keygen` makes a strong one"
_LARGEST_FILE: Final = 1 << 20
_KEY_LENGTH: Final = 40

# https://rfc.zeromq.org/spec/32/
_Z85: Final = frozenset(
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)

# With 32 MiB and 50 to 100 ms for each guess. To change any of it is to lock out every older node.
_SALT: Final = b"exraft cookie 1"
_N, _R, _P = 2**15, 8, 1


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret one, as Z85: 40 bytes each."""

    public: bytes
    secret: bytes = field(repr=False)


class Keys(Protocol):
    """Whom this process knows, and as whom it is known; any thread may ask."""

    @property
    def own(self) -> KeyPair:
        """What this process listens with, and shows others."""

    def key_of(self, node: str) -> bytes | None:
        """The public key that the node's listener has; `None` if it is not in the list."""

    def admits(self, public: bytes) -> bool:
        """Say whether who shows this public key (and has the secret one) may come in."""

    def revision(self) -> int:
        """A number that grows when somebody who was admitted is admitted no more."""


class CookieKeys:
    """Whoever has the cookie belongs: one pair of keys for all, derived from it.

    Raises:
        NodeError: the cookie is too short, or there is no CURVE here.
    """

    def __init__(self, cookie: str) -> None:
        if not isinstance(cookie, str):
            raise NodeError(f"a cookie is a string, not a {type(cookie).__name__}")
        cookie = cookie.strip()
        if len(cookie) < SHORTEST:
            raise NodeError(
                f"the cookie has {len(cookie)} characters, and at least {SHORTEST} are needed,"
                f" for it can be guessed from a recorded handshake: {_KEYGEN}"
            )
        if _bits(cookie) < WEAK:
            logger.warning(
                "the cookie looks as if it could be guessed from a recorded handshake: %s", _KEYGEN
            )
        self._own = _derived(cookie)

    @property
    def own(self) -> KeyPair:
        return self._own

    def key_of(self, node: str) -> bytes | None:
        return self._own.public

    def admits(self, public: bytes) -> bool:
        return public == self._own.public

    def revision(self) -> int:
        return 0


class ListedKeys:
    """Whoever is in the list belongs: a directory with this process's secret key and the list.

    The list is looked at again once in `every` seconds, when somebody asks. One that can't be read
    or makes no sense changes nothing: the log says what is wrong, and the old one holds.

    Raises:
        NodeError: a file is missing, makes no sense, or is open to others.
    """

    def __init__(self, directory: str | os.PathLike[str], *, every: float = 1.0) -> None:
        _require_curve()
        self._path = Path(directory) / ALLOWED
        self._every = every
        self._own = _pair_of(_checked_key(Path(directory) / SECRET))
        self._lock = threading.Lock()
        self._looked_at = monotonic()
        self._text = _read(self._path, stat.S_IWGRP | stat.S_IWOTH, "change")
        self._list = _parse_list(self._path, self._text)
        self._revision = 0
        self._fault = ""

    @property
    def own(self) -> KeyPair:
        return self._own

    def key_of(self, node: str) -> bytes | None:
        with self._lock:
            self._look()
            return self._list.nodes.get(node)

    def admits(self, public: bytes) -> bool:
        with self._lock:
            self._look()
            return public in self._list.names

    def revision(self) -> int:
        with self._lock:
            self._look()
            return self._revision

    def _look(self) -> None:
        now = monotonic()
        if now - self._looked_at < self._every:
            return
        self._looked_at = now
        try:
            # All of it, and not its times first: two edits in a tick of the file system's clock
            # leave the same time, and the second may be the one that revokes.
            text = _read(self._path, stat.S_IWGRP | stat.S_IWOTH, "change")
            if text == self._text and not self._fault:
                return
            found = _parse_list(self._path, text)
        except NodeError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                logger.error("the list of allowed keys stays as it was: %s", error)
            return
        self._fault = ""
        self._text = text
        self._change(found)

    def _change(self, found: _List) -> None:
        gone = self._list.names.keys() - found.names.keys()
        came = found.names.keys() - self._list.names.keys()
        if gone:
            self._revision += 1
        logger.info(
            "the list of allowed keys has changed: %d keys, new: %s, revoked: %s",
            len(found.names),
            ", ".join(sorted(found.names[key] for key in came)) or "none",
            ", ".join(sorted(self._list.names[key] for key in gone)) or "none",
        )
        self._list = found


def find_cookie(given: str | None) -> str | None:
    """The cookie: the one that was given, else of the environment, else of the user's file.

    That is `$EXRAFT_COOKIE`, the file that `$EXRAFT_COOKIE_FILE` names, `~/.exraft.cookie`. `None`
    if there is none of them.

    Raises:
        NodeError: what is found first can't be used, such as a file that others can read.
    """
    if given is not None:
        return given
    word = os.environ.get(COOKIE)
    if word is not None:
        if not word.strip():
            raise NodeError(f"${COOKIE} is set and empty: unset it, or give it a cookie; {_KEYGEN}")
        return word.strip()
    named = os.environ.get(COOKIE_FILE)
    if named is not None:
        if not named:
            raise NodeError(f"${COOKIE_FILE} is set and empty: unset it, or name a file with it")
        return _cookie_in(Path(named))
    home = _home()
    usual = None if home is None else home / ".exraft.cookie"
    return _cookie_in(usual) if usual is not None and os.path.lexists(usual) else None


def loopback_cookie() -> str:
    """A cookie of this user's own, for nodes of one machine; it is made at its first use.

    Raises:
        NodeError: there is no place for it, or it is open to others.
    """
    home = _home()
    if home is None:
        raise NodeError(f"without a cookie and without a home there is no secret: {_give_one()}")
    path = home / ".exraft" / "loopback.cookie"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not os.path.lexists(path):
            write_new(path, f"{new_cookie()}\n")
    except FileExistsError:
        # Another process was quicker; or what should be a directory is none, which is told below.
        pass
    except OSError as error:
        raise NodeError(f"no cookie was given, and none can be made: {error}; {_give_one()}") from (
            None
        )
    _check_own(path.parent)
    _check_own(path)
    return _cookie_in(path)


def new_cookie() -> str:
    """A cookie that nobody guesses: 256 bits of chance, and nothing that a shell takes amiss."""
    return secrets.token_hex(32)


def new_pair() -> KeyPair:
    """A new pair of keys.

    Raises:
        NodeError: there is no CURVE here.
    """
    _require_curve()
    import zmq

    while True:
        public, secret = zmq.curve_keypair()
        # One that begins so would be a comment in a list.
        if not public.startswith(b"#"):
            return KeyPair(public, secret)


def write_new(path: Path, text: str) -> None:
    """Make a file that only its owner can read and write: all of it at once, or not at all.

    Raises:
        FileExistsError: it is there already, and stays as it is.
        OSError: it can't be written.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is there already")
    number, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A rename would replace what another process has put there meanwhile.
        os.link(beside, path)
    finally:
        os.unlink(beside)


@dataclass(frozen=True, slots=True)
class _List:
    names: dict[bytes, str]
    """Whom each admitted key belongs to, as the log calls them."""
    nodes: dict[str, bytes]
    """The key of each name."""


def _parse_list(path: Path, text: bytes) -> _List:
    names: dict[bytes, str] = {}
    nodes: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        where = f"line {number} of {path}"
        key = words[0]
        if not _is_key(key):
            raise NodeError(
                f"{where} begins with no public key, which has {_KEY_LENGTH} characters"
            )
        if len(words) == 1:
            raise NodeError(f"{where} says not whose key it is: add a node, such as db-1:7001")
        if key in names:
            raise NodeError(f"{where} has a key that a line above has: put the names on one line")
        called = [_name(where, word) for word in words[1:]]
        for name in called:
            if name in nodes:
                raise NodeError(f"{where} gives {name} a second key: keep the one that it has")
            nodes[name] = key
        names[key] = " ".join(called)
    if not names:
        # What a file looks like while it is being written anew; nobody means it.
        raise NodeError(f"{path} lists no key at all, not even this process's own")
    return _List(names, nodes)


def _name(where: str, word: bytes) -> str:
    try:
        name = word.decode("utf-8")
        if ":" in name:
            parse(name)
    except ValueError as error:
        raise NodeError(f"{where}: {error}") from None
    return name


def _is_key(word: bytes) -> bool:
    if len(word) != _KEY_LENGTH or not _Z85.issuperset(word):
        return False
    from zmq.utils import z85

    try:
        z85.decode(word)
    except struct.error:
        # Five characters can say more than four bytes can.
        return False
    return True


def _checked_key(path: Path) -> bytes:
    key = _read_own(path).strip()
    if not _is_key(key):
        raise NodeError(f"{path} holds no secret key, which has {_KEY_LENGTH} characters of Z85")
    return key


def _pair_of(secret: bytes) -> KeyPair:
    import zmq

    return KeyPair(zmq.curve_public(secret), secret)


@functools.lru_cache(maxsize=8)
def _derived(cookie: str) -> KeyPair:
    _require_curve()
    from zmq.utils import z85

    raw = hashlib.scrypt(
        cookie.encode("utf-8", "surrogateescape"),
        salt=_SALT,
        n=_N,
        r=_R,
        p=_P,
        maxmem=2 * 128 * _N * _R,
        dklen=32,
    )
    return _pair_of(z85.encode(raw))


def _bits(cookie: str) -> float:
    """How much chance there can be in it, at most, if its characters were drawn one by one."""
    return len(cookie) * math.log2(len(set(cookie)))


def _cookie_in(path: Path) -> str:
    cookie = _read_own(path).decode("utf-8", "surrogateescape").strip()
    if not cookie:
        raise NodeError(f"{path} is empty: write a cookie into it; {_KEYGEN}")
    return cookie


def _read_own(path: Path) -> bytes:
    return _read(path, stat.S_IRWXG | stat.S_IRWXO, "read")


def _read(path: Path, forbidden: int, verb: str) -> bytes:
    """What is in a file that nobody else may `verb`."""
    try:
        # What is opened is what is looked at; and to open a pipe must not wait for who writes it.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(number, "rb") as file:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise NodeError(f"{path} is no file")
            if hasattr(os, "geteuid") and found.st_uid not in (0, os.geteuid()):
                raise NodeError(f"{path} is another user's: chown it to the one who runs this")
            # Where there are no such bits, others are kept out by other means.
            if sys.platform != "win32" and found.st_mode & forbidden:
                raise NodeError(
                    f"others than its owner can {verb} {path} (its mode is"
                    f" {stat.S_IMODE(found.st_mode):04o}), and must not: chmod 600 {path}"
                )
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise NodeError(f"{path} can't be read: {error.strerror or error}") from None
    if len(text) > _LARGEST_FILE:
        raise NodeError(f"{path} is larger than {_LARGEST_FILE} bytes: is it the right file?")
    return text


def _check_own(path: Path) -> None:
    """Nobody else may have put there what this user takes for a secret."""
    if sys.platform == "win32":
        return
    try:
        found = os.stat(path)
    except OSError as error:
        raise NodeError(f"{path} can't be used: {error.strerror}; {_give_one()}") from None
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NodeError(f"{path} belongs to somebody else, or others can write it; {_give_one()}")


def _give_one() -> str:
    return f"give a cookie, as an argument or as ${COOKIE}; {_KEYGEN}"


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None


def _require_curve() -> None:
    try:
        import zmq
    except ImportError:
        raise NodeError("nodes need pyzmq: pip install pyzmq") from None
    if not zmq.has("curve"):
        raise NodeError(
            "the pyzmq that is installed can't encrypt (it was built without CURVE):"
            " pip install --force-reinstall pyzmq"
        )
