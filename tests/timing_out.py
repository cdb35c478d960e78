"""What the tests of time limits share."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest

from graphql_prod import (
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiographql.client.transport import GraphQLSession


Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]

ONCE = RetryPolicy(attempts=1)
ONE_SLOT = PoolPolicy(requests=1, retry_headroom=0)
INCREMENT = "mutation Add { increment }"


@contextlib.asynccontextmanager
async def http_session(
    backend: Backend,
    *,
    limit: int = 100,
    connect: float | None = None,
    read: float | None = None,
    total: float | None = None,
) -> AsyncIterator[GraphQLSession]:
    """A caller's session with limits of its own; None means none."""
    if backend == "aiohttp":
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=read)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit), timeout=timeout
        ) as session:
            yield session
    else:
        async with httpx.AsyncClient(
            limits=httpx.Limits(max_connections=limit),
            timeout=httpx.Timeout(None, connect=connect, read=read),
            verify=False,
        ) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of(
    url: str,
    backend: Backend,
    owner: Owner = "owned",
    *,
    limit: int = 100,
    validate: bool = False,
    **settings: Any,
) -> AsyncIterator[ProductionClient]:
    """A client with one attempt a call, unless told otherwise."""
    settings.setdefault("retry", ONCE)
    if owner == "owned":
        config = ProductionConfig(backend=backend, **settings)
        async with ProductionClient(url, validate=validate, config=config) as client:
            yield client
    else:
        async with http_session(backend, limit=limit) as session:
            config = ProductionConfig(**settings)
            async with ProductionClient(url, session=session, validate=validate, config=config) as client:
                yield client


async def timed_out(
    client: ProductionClient, query: str = "{ hello }", **options: Any
) -> RequestTimeoutError:
    """The timeout that a call ends in."""
    with pytest.raises(RequestTimeoutError) as caught:
        await client.query(query, **options)
    return caught.value


@contextlib.asynccontextmanager
async def held(client: ProductionClient, server: ScriptedServer) -> AsyncIterator[None]:
    """One call that holds its connection while the block runs."""
    gate, before = asyncio.Event(), len(server.requests)
    server.on("Holder", Answer(gate=gate))
    holder = asyncio.create_task(client.with_options(timeout=30).query("query Holder { hello }"))
    await server.received(before + 1)
    try:
        yield
    finally:
        gate.set()
        await holder
