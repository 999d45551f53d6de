"""What can be done for servers whose cluster can't help them any more, and so that it never has to.

It knows what is stored, and how that is shown, copied and made into another cluster. It must not
know how servers run, nor be needed by one that does.
"""

from exraft.rescue.backup import read_backup, write_backup
from exraft.rescue.founding import refounded, renamed
from exraft.rescue.placing import replace_directory

__all__ = [
    "read_backup",
    "refounded",
    "renamed",
    "replace_directory",
    "write_backup",
]
