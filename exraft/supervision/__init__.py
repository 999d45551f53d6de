"""How things start, stop, and start again.

It knows lives and their exit reasons. It must not know what a child does while it lives.
"""

from exraft.supervision.raft_supervisor import RaftSupervisor, StopServer

__all__ = ["RaftSupervisor", "StopServer"]
