from __future__ import annotations

import re
import socket

import pytest

from exraft.nodes.address import Address, is_loopback, parse, resolved

RIGHT = [
    ("db-1:7001", Address("db-1", 7001)),
    ("db_1.shop.example:1", Address("db_1.shop.example", 1)),
    ("10.0.0.7:65535", Address("10.0.0.7", 65535)),
    ("[::1]:7001", Address("::1", 7001)),
    ("[fe80::1%eth0]:7001", Address("fe80::1%eth0", 7001)),
    ("raft-0.raft.svc.cluster.local.:7001", Address("raft-0.raft.svc.cluster.local.", 7001)),
]

WRONG = [
    ("", "'db-1:7001'"),
    ("db-1", "'db-1:7001'"),
    ("db-1:", "'db-1:7001'"),
    (":7001", "'db-1:7001'"),
    ("db 1:7001", "'db-1:7001'"),
    ("tcp://db-1:7001", "'db-1:7001'"),
    ("-db:7001", "'db-1:7001'"),
    ("db-1:7001\n", "'db-1:7001'"),
    ("db-1:0", "'db-1:7001'"),
    ("db-1:07001", "'db-1:7001'"),
    ("db-1:65536", "'db-1:7001'"),
    ("db-1:" + "9" * 9999, "'db-1:7001'"),
    ("db-1:٧٠٠١", "'db-1:7001'"),
    ("::1", "'[::1]:7001'"),
    ("fe80::17:7001", "'[fe80::17:7001]:7001'"),
    ("[db-1]:7001", "'[::1]:7001'"),
    ("[::1]", "'[::1]:7001'"),
    ("[fe80::1%a b]:7001", "'[::1]:7001'"),
    (7001, "'db-1:7001'"),
    (None, "'db-1:7001'"),
]


def resolving_to(*places: str) -> object:
    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, 0)) for place in places]

    return getaddrinfo


@pytest.mark.parametrize(("name", "address"), RIGHT)
def test_an_address_is_read_and_written_back_as_it_was(name: str, address: Address) -> None:
    assert parse(name) == address
    assert str(parse(name)) == name


@pytest.mark.parametrize(("name", "right_one"), WRONG)
def test_what_is_no_address_is_told_a_right_one(name: object, right_one: str) -> None:
    with pytest.raises(ValueError, match=re.escape(right_one)):
        parse(name)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_in_numbers_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "::ffff:10.0.0.7", "192.0.2.1"])
def test_other_numbers_are_not(host: str) -> None:
    assert not is_loopback(host)


def test_localhost_is_loopback() -> None:
    assert is_loopback("localhost")


def test_a_name_is_loopback_only_if_all_that_it_is_resolved_to_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.1", "::1"))
    assert is_loopback("here")
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("127.0.0.1", "10.0.0.7"))
    assert not is_loopback("here-and-there")


def test_a_name_that_is_not_resolved_is_not_known_to_be_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert not is_loopback("nowhere")


def test_what_no_name_server_can_be_asked_for_is_not_resolved() -> None:
    with pytest.raises(OSError, match="can't be resolved"):
        resolved("a" * 64 + ".example")


def test_each_number_of_a_name_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving_to("::1", "127.0.0.1", "::1"))
    assert resolved("here") == ("::1", "127.0.0.1")
