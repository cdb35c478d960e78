"""An operation's own limits hold wherever the operation is: not in ``query()`` alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import pytest
from aiographql.client import GraphQLRequest

from graphql_prod import HTTPStatusError, ProductionClient, ProductionConfig, RequestTimeoutError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Backend = Literal["aiohttp", "httpx"]

SHORT = 0.1
REPORT = "query Report { hello }"
COUNT = "subscription Count { count(to: 0) }"
HELLO = {"hello": "Hello, world!"}


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, *operations: str, **objects: Any
) -> AsyncIterator[ProductionClient]:
    """A client whose total is short, but for some operations."""
    config = ProductionConfig(
        timeout={"total": SHORT},
        retry={"wait_initial": 0.01, "jitter": "none"},
        operations={name: {"timeout": {"total": 30}} for name in operations},
        schema={"mode": "strict" if objects.get("validate") else "off"},
    )
    objects = {"validate": False, **objects}
    async with ProductionClient(url, config=config, backend=backend, **objects) as client:
        yield client


def late(answer: Answer) -> Answer:
    """An answer that comes after the client's total."""
    return dataclasses.replace(answer, delay=2 * SHORT)


async def token() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"Authorization": "Bearer 1"}


@pytest.mark.parametrize("provider", [None, token], ids=["", "provider"])
@pytest.mark.parametrize("named", ["document", "request", "argument"])
async def test_query_data_as(server: ScriptedServer, backend: Backend, provider: Any, named: str) -> None:
    """Decoding is a part of the operation: a retry that fits into its own total is begun."""
    server.script(late(Answer.page(503)))
    both = f"{REPORT} query Other {{ counter }}"
    request: GraphQLRequest | str = REPORT if named == "document" else both
    if named == "request":
        request = GraphQLRequest(both, operation="Report")
    operation = "Report" if named == "argument" else None
    async with client_of(server.url, backend, "Report", headers_provider=provider) as client:
        assert await client.query_data_as(request, dict, operation=operation) == HELLO
    assert len(server.requests) == 2


async def test_query_data_as_of_others(server: ScriptedServer, backend: Backend) -> None:
    """An operation that has none goes by the client's, as a view's own limit comes before all."""
    async with client_of(server.url, backend, "Report") as client:
        server.script(late(Answer.page(503)))
        with pytest.raises(RequestTimeoutError, match=f"{SHORT:g} s"):
            await client.query_data_as("query Other { hello }", dict)
        server.script(late(Answer.page(503)))
        with pytest.raises(RequestTimeoutError, match=f"{SHORT:g} s"):
            await client.with_options(timeout=SHORT).query_data_as(REPORT, dict)


async def test_query_data_as_with_a_shorter_one(server: ScriptedServer, backend: Backend) -> None:
    """A limit of the operation's that is shorter holds too, and is the one that is named."""
    config = ProductionConfig(
        operations={"Report": {"timeout": {"total": SHORT}, "retry": {"attempts": 1}}},
        schema={"mode": "off"},
    )
    async with ProductionClient(server.url, config=config, backend=backend) as client:
        server.script(late(Answer()))
        with pytest.raises(RequestTimeoutError, match=f"{SHORT:g} s"):
            await client.query_data_as(REPORT, dict)
        server.script(Answer.page(503))
        with pytest.raises(HTTPStatusError) as caught:
            await client.query_data_as(REPORT, dict)
        assert caught.value.attempts == 1


@pytest.mark.parametrize("how", ["query", "query_data_as", "validate"])
async def test_the_schema_that_an_operation_waits_for(
    server: ScriptedServer, backend: Backend, how: str
) -> None:
    """Who waits for the schema waits as long as the operation may take."""
    server.on("IntrospectionQuery", late(Answer()))
    async with client_of(server.url, backend, "Report", validate=True) as client:
        if how == "query":
            assert (await client.query(REPORT)).data == HELLO
        elif how == "query_data_as":
            assert await client.query_data_as(REPORT, dict) == HELLO
        else:
            await client.validate(GraphQLRequest(REPORT))


async def test_the_schema_that_a_subscription_waits_for(server: ScriptedServer, backend: Backend) -> None:
    """So does a subscription."""
    server.on("IntrospectionQuery", late(Answer()))
    async with client_of(server.url, backend, "Count", validate=True) as client:
        events = [event async for event in client.stream(COUNT)]
    assert len(events) == 1


async def test_others_wait_no_longer(server: ScriptedServer, backend: Backend) -> None:
    """The client's total holds for who has none of his own."""
    async with client_of(server.url, backend, "Report", validate=True) as client:
        for ask in (client.get_schema, lambda: client.validate(GraphQLRequest("{ hello }"))):
            server.on("IntrospectionQuery", Answer(delay=10 * SHORT))
            with pytest.raises(RequestTimeoutError, match=f"{SHORT:g} s"):
                await ask()


@pytest.mark.parametrize("how", ["introspect", "get_schema", "refresh"])
async def test_the_introspection(server: ScriptedServer, backend: Backend, how: str) -> None:
    """The introspection is an operation like any other: ``IntrospectionQuery``."""
    async with client_of(server.url, backend, "IntrospectionQuery") as client:
        if how == "refresh":
            await client.get_schema()
        server.on("IntrospectionQuery", late(Answer()))
        if how == "introspect":
            schema = await client.introspect()
        else:
            schema = await client.get_schema(refresh=how == "refresh")
    assert schema.query_type is not None


async def test_the_introspection_in_the_background(server: ScriptedServer, backend: Backend) -> None:
    """It is also one where nobody waits for it."""
    config = ProductionConfig(
        timeout={"total": SHORT},
        operations={"IntrospectionQuery": {"timeout": {"total": 30}}},
        schema={"ttl": 0.001},
    )
    async with ProductionClient(server.url, config=config, backend=backend) as client:
        first = await client.get_schema()
        await asyncio.sleep(0.01)
        server.always(late(Answer()), "IntrospectionQuery")
        assert await client.get_schema() is first
        async with asyncio.timeout(10):
            while await client.get_schema() is first:
                await asyncio.sleep(0.01)
