"""Fixtures of these tests."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from retrying import AT_ONCE, Backend, Connect, Ownership, _owner

from graphql_prod import (
    ProductionClient,
    ProductionConfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiographql.client.transport import GraphQLSession

    from graphql_prod.testing import ScriptedServer


@pytest.fixture(params=["owned", "given"])
def ownership(request: pytest.FixtureRequest) -> Ownership:
    """Whose session it is: opened by the client, or given to it."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def connect(backend: Backend, ownership: Ownership) -> AsyncIterator[Connect]:
    """Makes clients; closes them, and the sessions that were given to them."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(url: str, **options: Any) -> ProductionClient:
            session: GraphQLSession | None = options.pop("session", None)
            if session is None and ownership == "given":
                session = (
                    aiohttp.ClientSession()
                    if backend == "aiohttp"
                    else httpx.AsyncClient(trust_env=False, verify=options.pop("verify", False))
                )
            options.pop("verify", None)
            if session is not None:
                await stack.enter_async_context(session)
            stock = {"headers": options.pop("headers", None), "validate": options.pop("validate", False)}
            config = ProductionConfig(**{"retry": AT_ONCE, **options})
            client = ProductionClient(url, session=session, backend=backend, config=config, **stock)
            return await stack.enter_async_context(client)

        yield connect


@pytest.fixture
async def client(connect: Connect, server: ScriptedServer) -> ProductionClient:
    """A client that repeats at once, and carries secrets wherever a client can: four times, on each
    backend with a session of its own and with one of the caller's.
    """
    return await connect(
        f"{server.url}?token=s3cret-query", headers={"Authorization": "Bearer s3cret-header"}
    )


@pytest.fixture
async def owner(backend: Backend, server: ScriptedServer) -> AsyncIterator[ProductionClient]:
    """The same with sessions of its own only: on both backends."""
    async with _owner(server, backend) as client:
        yield client


@pytest.fixture
async def simple(server: ScriptedServer) -> AsyncIterator[ProductionClient]:
    """The same on one backend, for what is decided before any backend is asked."""
    async with _owner(server, "aiohttp") as client:
        yield client


# --- unsent ---------------------------------------------------------------------------------------


@pytest.fixture
def refusing() -> Iterator[str]:
    """host:port of a port that nobody listens on, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
