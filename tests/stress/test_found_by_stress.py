"""What the stress test, and looking for its like, has found wrong around the core."""

from __future__ import annotations

import pytest

from exraft import ExRaft
from exraft import client as client_module
from exraft.errors import CallTimeout, maybe_applied
from tests.stress.faults import QUICK
from tests.stress.ledger import ACCOUNTS, Ledger

LIMIT = 30.0
WAITING, LEADING = ":waiting", ":leading"
TRANSFER = ("one", *ACCOUNTS[:2], 1)


def test_an_asynchronous_write_does_not_hang_on_a_server_that_never_hears_of_a_leader() -> None:
    """It had the first server that lives say who leads, and waited for that one only."""
    ExRaft.start_server(Ledger, name=WAITING, min_majority=2, **QUICK)
    ExRaft.start_server(Ledger, name=LEADING, **QUICK)
    client = ExRaft.client([WAITING, LEADING])
    assert client.write_async(TRANSFER).get(timeout=LIMIT) == 1


def test_an_asynchronous_write_is_given_up_after_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody looked at the time while it waited for a leader."""
    monkeypatch.setattr(client_module, "PATIENCE", 0.05)
    ExRaft.start_server(Ledger, name=WAITING, min_majority=2, **QUICK)
    future = ExRaft.client([WAITING]).write_async(TRANSFER)
    with pytest.raises(CallTimeout) as caught:
        future.get(timeout=LIMIT)
    assert not maybe_applied(caught.value)


def test_an_asynchronous_write_waits_for_a_server_that_is_not_started_yet() -> None:
    """As a blocking one does."""
    future = ExRaft.client([LEADING]).write_async(TRANSFER)
    ExRaft.start_server(Ledger, name=LEADING, **QUICK)
    assert future.get(timeout=LIMIT) == 1
