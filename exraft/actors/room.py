"""Whether a server's store has room, and what the server does until it has.

Knows what is refused meanwhile, and when it is tried again. Must not know what is to be stored.

A server that can't store can promise nothing (rule 2): it leads no more, takes no part in elections
and acknowledges nothing, as if it were cut off. What it holds in memory stays as it is, and is
stored as soon as there is room: nothing that was acknowledged is lost.
"""

from __future__ import annotations

import logging
from math import inf

from exraft.actors.calls import Call, Change, LeaderGone, Read, Transfer, TriggerElection, Write
from exraft.errors import DiskFull
from exraft.names import Peer
from exraft.raft import Raft
from exraft.raft.messages import Header, Install
from exraft.raft.snapshot import Snapshot
from exraft.storage.memory import LentStore

logger = logging.getLogger("exraft.server")


class Room:
    """The room that one life of a server has.

    Attributes:
        full: whether there is none.
        look_at: when it is looked for again.
    """

    def __init__(self, me: Peer, store: LentStore, heartbeat: float) -> None:
        self.full = False
        self.look_at = inf
        self._me = me
        self._store = store
        self._heartbeat = heartbeat
        self._path = ""
        self._not_taken: Snapshot | None = None
        """A snapshot of which a piece could not be stored; the log tells once."""

    def has_run_out(self, error: DiskFull, raft: Raft, now: float) -> None:
        """Nothing was stored, and nothing of it was promised: lead no more."""
        self.full = True
        self.look_at = now + self._heartbeat
        self._path = error.path
        logger.error("%s leads and follows no more, until there is room: %s", self._me, error)
        raft.pause(now)

    def look(self, raft: Raft, now: float) -> None:
        """Try again to store what waits for it."""
        store = self._store
        mark = store.mark()
        try:
            store.sync()
            store.note_commit()
        except DiskFull:
            self.look_at = now + self._heartbeat
            return
        self.full = False
        self.look_at = inf
        logger.warning("%s has room in %s again, and goes on", self._me, self._path)
        raft.stored(mark, now)

    def refuses(self, item: object) -> bool:
        """Whether a message is dropped, or a call refused, as there is no room."""
        if isinstance(item, Write | Change | Transfer | TriggerElection) or (
            isinstance(item, Read) and not item.dirty
        ):
            self.refuse(item)
            return True
        return isinstance(item, Header | LeaderGone)

    def refuse(self, call: Call) -> None:
        call.reply.fail(self.refusal())

    def refusal(self) -> DiskFull:
        """What a caller is told."""
        return DiskFull(
            self._path,
            f"{self._me} has no room to store anything, and takes part in nothing: free some, and"
            " it goes on by itself",
        )

    def take_piece(self, message: Install, raft: Raft, now: float) -> None:
        """A piece of a snapshot for which there is no room is as good as lost: it is sent again."""
        try:
            raft.step(message, now)
        except DiskFull as error:
            if self._not_taken != message.snapshot:
                self._not_taken = message.snapshot
                logger.error("%s can't take the snapshot of its leader: %s", self._me, error)
        else:
            self._not_taken = None
