"""Where term, vote, log and commit index are kept.

It knows bytes that must survive. It must not know what a term or a vote is good for.
"""

from exraft.storage.disk import DiskStore, LentDiskStore
from exraft.storage.files import Files, OsFiles
from exraft.storage.memory import Fenced, LentStore, MemoryStore

__all__ = [
    "DiskStore",
    "Fenced",
    "Files",
    "LentDiskStore",
    "LentStore",
    "MemoryStore",
    "OsFiles",
]
