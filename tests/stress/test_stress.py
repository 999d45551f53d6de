"""A ledger under random faults: nothing acknowledged is lost, nothing refused is done.

`STRESS_SECONDS` and `STRESS_SEED` make it longer or another one; the default is a short slice from
a fixed seed.
"""

from __future__ import annotations

import os

import pytest

from tests.stress.campaign import PATIENCE, run

SECONDS = float(os.environ.get("STRESS_SECONDS", "8"))
SEED = int(os.environ.get("STRESS_SEED", "2024"))


@pytest.mark.stress
@pytest.mark.timeout(SECONDS + 5 * PATIENCE)
def test_every_call_ends_and_every_replica_agrees_with_what_callers_were_told() -> None:
    report = run(SEED, SECONDS)
    print(report)
    assert not report.wrong, str(report)
