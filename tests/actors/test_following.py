"""Who waits for a leader."""

from __future__ import annotations

from typing import cast

from exraft.actors.calls import AwaitLeader, Reply
from exraft.actors.following import MANY, Following
from exraft.actors.mailbox import Mailbox
from exraft.actors.transport import local
from exraft.names import Peer

ME = Peer(":raft1")


def following() -> Following:
    return Following(ME, cast(Mailbox, None), local)


def test_who_has_given_up_is_not_kept() -> None:
    """A caller that asks again and again, of a server that finds no leader for days."""
    one = following()
    for _ in range(100 * MANY):
        call = AwaitLeader(Reply())
        one.wait(call)
        call.reply.forgo()
    assert len(one.waiting) <= MANY


def test_who_waits_is_kept_however_many_there_are() -> None:
    one = following()
    calls = [AwaitLeader(Reply()) for _ in range(10 * MANY)]
    for call in calls:
        one.wait(call)
    assert one.waiting == calls
    one.follow(ME)
    assert {call.reply.get(timeout=0) for call in calls} == {ME}
