"""Fixtures of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from subscribing import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from graphql_prod import (
        ProductionClient,
    )
    from graphql_prod.testing import ScriptedServer


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[ProductionClient]:
    """A client of the server, whose deadline is not what ends it."""
    async with client_of(server.url) as client:
        yield client
