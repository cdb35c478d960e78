"""Fixtures of these tests."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_goes_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception of a task of ours is left for asyncio to complain about."""
    yield
    gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []
