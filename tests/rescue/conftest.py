from __future__ import annotations

import pytest

from tests.rescue.stories import Terminal


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)
