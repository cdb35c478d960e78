"""Fixtures of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from schema_world import (
    Hand,
)

from graphql_prod import (
    clock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Time that passes when the test says so."""
    with clock.using(found := Hand()):
        yield found
