"""What holds around every test: it leaves nothing behind that the next one could stumble over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from exraft import ActorRegistry
from exraft.actors.transport import local
from exraft.supervision import RaftSupervisor, StopServer
from tests.helpers import LIMIT, Journal, Network, end_of


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    """Stop every server; fail the test that leaves a name, a thread or a hook all the same."""
    before = set(threading.enumerate())
    yield
    left = stop_all_servers()
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


def stop_all_servers() -> list[str]:
    """Stop every server of the process at once; return those that did not end."""
    stopping: list[tuple[str, threading.Event]] = []
    for name in ActorRegistry.names():
        ref = ActorRegistry.get_by_name(name)
        if ref is not None and issubclass(ref.actor_class, RaftSupervisor):
            stopping.append((name, end_of(ref)))
            # Without handing over: the others stop as well.
            ref.actor_inbox.put(StopServer("shutdown", LIMIT, hand_over=False))  # type: ignore[arg-type]
    deadline = monotonic() + LIMIT
    return [
        f"{name}, still running"
        for name, ended in stopping
        if not ended.wait(max(0.0, deadline - monotonic()))
    ]
