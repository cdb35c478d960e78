"""``shutdown.lame_duck``: ready() is false first, and calls are taken for a while longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from subscribing import until

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    ShutdownPolicy,
)

if TYPE_CHECKING:
    from graphql_prod.testing import ScriptedServer

HI = "query Hi { hello }"


def lame(url: str, seconds: float = 20.0) -> ProductionClient:
    """A client with a long lame duck."""
    config = ProductionConfig(shutdown={"lame_duck": seconds, "deadline": 25})
    return ProductionClient(url, validate=False, config=config)


async def test_not_ready_and_still_taking_calls(server: ScriptedServer) -> None:
    """Calls go on until it is over; a shorter deadline ends it."""
    client = lame(server.url)
    assert await client.ready()
    ending = asyncio.create_task(client.shutdown())
    await asyncio.sleep(0)
    ready = await client.ready()
    assert not ready
    assert "about to drain" in str(ready.reason)
    assert client.state == "open"
    assert (await client.query(HI)).data
    asked = len(server.requests)
    joining = asyncio.create_task(client.shutdown(0.2))
    await until(lambda: client.state != "open")
    with pytest.raises(ClientClosedError):
        await client.query(HI)
    report = await ending
    assert report == await joining
    assert report.clean
    assert len(server.requests) == asked


async def test_it_ends_by_itself(server: ScriptedServer) -> None:
    """After so many seconds the shutdown goes its way."""
    client = lame(server.url, 0.05)
    assert (await client.shutdown()).clean
    assert client.state == "closed"


async def test_a_deadline_of_nothing_skips_it(server: ScriptedServer) -> None:
    """An exception that leaves the block is no time for politeness."""
    client = lame(server.url)
    with pytest.raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    assert client.state == "closed"


async def test_a_cancel_of_the_caller(server: ScriptedServer) -> None:
    """It does not stop the end, nor the lame duck."""
    client = lame(server.url, 0.1)
    ending = asyncio.create_task(client.shutdown())
    await asyncio.sleep(0)
    ending.cancel()
    await until(lambda: client.state == "closed")


def test_longer_than_the_deadline() -> None:
    """Named at construction."""
    with pytest.raises(ConfigurationError, match="lame_duck"):
        ShutdownPolicy(lame_duck=30, deadline=25)
