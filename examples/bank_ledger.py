"""A ledger that refuses an overdraft, and transfers that may safely be repeated.

Shows how a machine refuses a command by raising, checking before it changes anything; and what to
do after a failure that leaves open whether a transfer was made: each one carries an id, which the
ledger remembers, so that the second time changes nothing.

Run it: python examples/bank_ledger.py
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Any

from exraft import Client, ExRaft, StateMachine, maybe_applied
from exraft.errors import CallTimeout, Redirect

SERVERS = [":bank1", ":bank2", ":bank3"]
OPENING = {"ann": 100, "bob": 100, "cleo": 100}


class Overdraft(Exception):
    """The account does not hold enough."""


@dataclass
class Books:
    balances: dict[str, int]
    made: set[str] = field(default_factory=set)
    """The ids of the transfers that were made."""


class Ledger(StateMachine):
    """The command is `("transfer", id, from, to, amount)`; the query is an account, or None."""

    def init(self, init_arg: dict[str, int]) -> Books:
        return Books(balances=init_arg)

    def handle_write(self, command: Any, state: Books) -> tuple[int, Books]:
        """Transfer, and answer with what is left on the first account."""
        _, transfer_id, source, target, amount = command
        balances = state.balances
        if transfer_id in state.made:
            return balances[source], state
        # All checks come before the first change: what is changed before a raise stays changed.
        for account in (source, target):
            if account not in balances:
                raise LookupError(f"there is no account {account}")
        if amount <= 0:
            raise ValueError(f"an amount is above 0, not {amount}")
        if balances[source] < amount:
            raise Overdraft(f"{source} has {balances[source]}, which is less than {amount}")
        balances[source] -= amount
        balances[target] += amount
        state.made.add(transfer_id)
        return balances[source], state

    def handle_read(self, query: str | None, state: Books) -> Any:
        return dict(state.balances) if query is None else state.balances[query]


def main() -> None:
    for name in SERVERS:
        ExRaft.start_server(Ledger, OPENING, name=name, initial_config=SERVERS)
    leader = ExRaft.await_leader(SERVERS[0])
    bank = ExRaft.client(SERVERS)

    left = bank.write(("transfer", "t1", "ann", "bob", 30))
    assert left == 70
    print(f"ann gave bob 30 and has {left} left")

    refuse_an_overdraft(bank)
    refuse_at_a_follower(leader.name)
    repeat_after_a_timeout(bank)
    transfer_from_many_threads(bank)

    for name in SERVERS:
        ExRaft.stop_server(name)


def refuse_an_overdraft(bank: Client) -> None:
    try:
        bank.write(("transfer", "t2", "ann", "bob", 1000))
    except Overdraft as error:
        # The command stands in the log, as one that did nothing: it was consumed.
        assert maybe_applied(error)
        print(f"refused on every replica alike: {error}")
    else:
        raise AssertionError("an overdraft was granted")
    assert bank.read(None) == {"ann": 70, "bob": 130, "cleo": 100}


def refuse_at_a_follower(leader: str) -> None:
    follower = next(name for name in SERVERS if name != leader)
    try:
        ExRaft.write(follower, ("transfer", "t3", "bob", "ann", 1))
    except Redirect as error:
        assert not maybe_applied(error)
        print(f"surely not applied: {error}")
    else:
        raise AssertionError("a follower took a transfer")


def repeat_after_a_timeout(bank: Client) -> None:
    transfer = ("transfer", "t4", "bob", "cleo", 50)
    try:
        bank.write(transfer, timeout=0)
    except CallTimeout as error:
        # No answer says nothing about what was done, and a look at the balance would not settle
        # it: the command may be on its way still. With its id, the transfer can be repeated.
        print(f"{'perhaps' if maybe_applied(error) else 'surely not'} applied: {error}")
    assert bank.write(transfer) == 80
    assert bank.read("cleo") == 150
    print("the transfer was repeated, and made once")


def transfer_from_many_threads(bank: Client) -> None:
    refused: list[str] = []

    def transfer_at_random(thread: int) -> None:
        chance = random.Random(thread)
        for number in range(100):
            source, target = chance.sample(sorted(OPENING), 2)
            amount = chance.randint(1, 120)
            transfer_id = f"thread {thread}, transfer {number}"
            try:
                bank.write(("transfer", transfer_id, source, target, amount))
            except Overdraft:
                refused.append(transfer_id)

    threads = [threading.Thread(target=transfer_at_random, args=(each,)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    balances = bank.read(None)
    assert sum(balances.values()) == sum(OPENING.values())
    assert min(balances.values()) >= 0
    print(f"800 transfers from 8 threads, {len(refused)} refused: {balances}")


if __name__ == "__main__":
    main()
