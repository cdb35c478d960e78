"""Fixtures of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from schema_world import (
    Hand,
    client_of,
)
from telemetry_sdk import sdk_fixture  # noqa: F401 -- the fixture

from graphql_prod import (
    ProductionClient,
    clock,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from schema_world import Backend

    from graphql_prod.testing import ScriptedServer


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Time that passes when the test says so."""
    with clock.using(found := Hand()):
        yield found


@pytest.fixture
async def client(server: ScriptedServer, backend: Backend) -> AsyncIterator[ProductionClient]:
    """A strict client that knows nothing yet, and tries once."""
    async with client_of(server.url, backend) as client:
        yield client
