"""Where a node is reached: the host and the port that its name consists of.

Knows how an address is written, and what a host is called in numbers. Must not know who is there.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

_NAMED = re.compile(r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?):(?P<port>\d+)")
_BRACKETED = re.compile(r"\[(?P<host>[^\[\]\s]+)\]:(?P<port>\d+)")
_LAST_PORT = 65535


class Address(NamedTuple):
    """A host, by name or in numbers (without brackets), and a port; `str()` writes it as a name."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(name: object) -> Address:
    """Read an address such as `"db-1:7001"`, `"10.0.0.7:7001"` or `"[::1]:7001"`.

    `str()` of what is returned is `name` again: there is one way to write an address, and so the
    same text always means the same node.

    Raises:
        ValueError: `name` is no address; the message shows one that would be right.
    """
    if not isinstance(name, str):
        raise ValueError(f"an address is a string such as 'db-1:7001', not {name!r}")
    found = _BRACKETED.fullmatch(name) or _NAMED.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no address: it is written {_hint(name)}")
    host, digits = found["host"], found["port"]
    if name.startswith("[") and not _is_v6(host):
        raise ValueError(f"{name!r} is no address: in brackets stands IPv6, as in '[::1]:{digits}'")
    if not digits.isascii() or digits.startswith("0") or int(digits[:6]) > _LAST_PORT:
        raise ValueError(
            f"{name!r} is no address: a port is a number from 1 to {_LAST_PORT},"
            f" as in {str(Address(host, 7001))!r}"
        )
    return Address(host, int(digits))


def resolved(host: str) -> tuple[str, ...]:
    """What `host` is called in numbers, as this machine resolves it now, the best first.

    Raises:
        OSError: it can't be resolved.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # What no name server can be asked for, such as a part of more than 63 letters.
        raise OSError(f"{host!r} can't be resolved: {error}") from None
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine and nothing else, whatever it is resolved to.

    A name that can't be resolved is not known to be: `False`.
    """
    try:
        places = resolved(host)
    except OSError:
        return False
    return bool(places) and all(map(_is_loopback, places))


def _is_loopback(place: str) -> bool:
    address = ip_address(place)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _is_v6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def _hint(name: str) -> str:
    """An address that may be what was meant."""
    if _is_v6(name):
        return f"host:port, and IPv6 in brackets, as in '[{name}]:7001'"
    host, _, port = name.rpartition(":")
    if _is_v6(host) and port.isdecimal():
        return f"with IPv6 in brackets, as in '[{host}]:{port}'"
    if _NAMED.fullmatch(f"{name}:7001"):
        return f"host:port, as in '{name}:7001'"
    return "host:port, as in 'db-1:7001' or '[::1]:7001'"
