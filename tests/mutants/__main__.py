"""`python -m tests.mutants`: break each rule in turn, and see who notices."""

from __future__ import annotations

import sys

from tests.mutants.campaign import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
