"""`python -m exraft`.

Knows where the command line starts. Must not know what it can do: that is `cli`.
"""

import sys

from exraft.cli import main

if __name__ == "__main__":
    sys.exit(main())
