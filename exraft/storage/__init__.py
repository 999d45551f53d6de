"""Where term, vote, log and commit index are kept.

It knows bytes that must survive. It must not know what a term or a vote is good for.
"""

from exraft.storage.memory import Fenced, LentStore, MemoryStore

__all__ = ["Fenced", "LentStore", "MemoryStore"]
