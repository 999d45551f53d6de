"""All rules that are broken on purpose.

Knows the files that say how. Must not know what is done with them.
"""

from __future__ import annotations

from tests.mutants import (
    actors,
    decisions,
    hand_over,
    log,
    membership,
    nonsense,
    reads,
    replica,
    restart,
    snapshots,
    supervision,
    votes,
)

CORE = [
    *votes.MUTANTS,
    *log.MUTANTS,
    *membership.MUTANTS,
    *reads.MUTANTS,
    *hand_over.MUTANTS,
    *restart.MUTANTS,
    *snapshots.MUTANTS,
    *nonsense.MUTANTS,
]
OTHERS = [*replica.MUTANTS, *decisions.MUTANTS, *supervision.MUTANTS, *actors.MUTANTS]

MUTANTS = [*CORE, *OTHERS]

RULES = {*range(1, 31)}
