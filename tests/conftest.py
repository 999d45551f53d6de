"""What holds around every test: it leaves nothing behind that the next one could stumble over."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from exraft import ActorRegistry
from exraft.actors.transport import local
from exraft.supervision.at_exit import stop_all
from tests.helpers import LIMIT, Journal, Network


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """Stop every server; fail the test that leaves a name, a thread or a hook all the same."""
    before = set(threading.enumerate())
    yield
    left = [f"{ref}, still running" for ref in stop_all(LIMIT)]
    left += [f"the name {name}" for name in ActorRegistry.names()]
    left += [
        f"the thread {thread.name}"
        for thread in set(threading.enumerate()) - before
        if not thread.daemon
    ]
    if local.drop is not None:
        local.drop = None
        left.append("local.drop")
    if left:
        pytest.fail(f"left behind: {', '.join(left)}")


@pytest.fixture
def network() -> Iterator[Network]:
    """What carries messages between servers, and may lose them."""
    net = Network()
    local.drop = net
    yield net
    local.drop = None


@pytest.fixture
def journal() -> Journal:
    """What machines write down of their callbacks."""
    return Journal()
