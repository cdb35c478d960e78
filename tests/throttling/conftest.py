"""Fixtures of these tests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from telemetry_sdk import client_of, owner_fixture, sdk_fixture  # noqa: F401 -- the fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from telemetry_sdk import Backend, Owner

    from graphql_prod import ProductionClient


@pytest.fixture
async def throttled(
    backend: Backend, owner: Owner
) -> AsyncIterator[Callable[..., Awaitable[ProductionClient]]]:
    """Makes clients of all four kinds of session whose throttling is on, and closes them."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(url: str, throttling: Any = "github", **options: Any) -> ProductionClient:
            made = client_of(url, backend, owner, throttling=throttling, **options)
            return await stack.enter_async_context(made)

        yield make
