"""A process that is killed loses nothing that it acknowledged; see `tests.kills.campaign`.

`KILLS` and `KILLS_SEED` make it longer or another one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kills.campaign import KillsFailed, Told, run

KILLS = int(os.environ.get("KILLS", "10"))
SEED = int(os.environ.get("KILLS_SEED", "2026"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_process_killed_in_mid_traffic_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    told = run(tmp_path, SEED, KILLS)
    print(told)
    assert told.kills == KILLS
    assert told.acknowledged


@pytest.mark.parametrize(
    "book",
    [{}, {"acked": 2}, {"acked": 1, "refused": 1}, {"acked": 1, "made up": 1}],
    ids=["lost", "twice", "refused", "made up"],
)
def test_the_judge_notices(book: dict[str, int]) -> None:
    told = Told(asked={"acked", "refused"}, acknowledged={"acked"}, refused={"refused"})
    with pytest.raises(KillsFailed):
        told.judge(book)
