"""A user's machine as one server runs it, and the callers who wait for what it answers.

It knows callbacks, replies and which entry a caller waits for. It must not know threads, mailboxes
or why an entry is committed: an actor and a simulation run the very same code.
"""

from exraft.replica.refusals import error_of
from exraft.replica.replica import ApplyFailed, Replica
from exraft.replica.waiting import Waiting

__all__ = ["ApplyFailed", "Replica", "Waiting", "error_of"]
