"""A headers_provider that calls the client it belongs to would wait for itself: it is told at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

import pytest

from graphql_prod import HTTPStatusError, ProductionClient, ProductionConfig, TransportError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable

Backend = Literal["aiohttp", "httpx"]

HELLO = {"hello": "Hello, world!"}


def client_of(url: str, provider: Any, backend: Backend = "aiohttp", **arguments: Any) -> ProductionClient:
    arguments = {"validate": False, **arguments}
    return ProductionClient(url, headers_provider=provider, backend=backend, **arguments)


def tokens(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


async def bare() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("how", ["query", "mutation", "view", "subscribe", "stream", "introspect", "schema"])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("share", [False, True])
async def test_told(server: ScriptedServer, backend: Backend, how: str, plain: bool, share: bool) -> None:
    """It fails at once, with words, whatever it calls and whatever it was asked for."""
    inner: list[Exception] = []
    config = ProductionConfig(timeout={"total": 50.0}, subscriptions={"share_connection": share})

    async def call() -> None:
        if how == "query":
            await client.query("{ hello }")
        elif how == "mutation":
            await client.query("mutation { increment }")
        elif how == "view":
            await client.with_options(timeout=40, headers={"A": "b"}).query("{ hello }")
        elif how == "subscribe":
            await client.subscribe("subscription { count }")
        elif how == "stream":
            await anext(client.stream("subscription { count }"))
        elif how == "introspect":
            await client.introspect()
        else:
            await client.get_schema()

    async def provider() -> dict[str, str]:
        try:
            await call()
        except Exception as error:
            inner.append(error)
            raise
        return {}

    def function() -> Awaitable[dict[str, str]]:
        return provider()

    asked = function if plain else provider
    async with client_of(server.url, asked, backend, config=config) as client:
        for outer in (client.query("{ hello }"), client.subscribe("subscription { count }")):
            inner.clear()
            with pytest.raises(TransportError, match="called the client that it belongs to") as caught:
                async with asyncio.timeout(20):
                    await outer
            assert "with_options(headers_provider=" in str(caught.value)
            assert [type(each) for each in inner] == [TransportError]
            assert "called the client that it belongs to" in str(inner[0])
    assert server.requests == []


async def test_waiting_for_the_schema(server: ScriptedServer, backend: Backend) -> None:
    """The schema is asked for, which asks the provider: a view of its own that needs it says so."""

    async def provider() -> dict[str, str]:
        await client.with_options(headers_provider=dict).query("{ hello }")
        return {}

    async with client_of(server.url, provider, backend, validate=True) as client:
        with pytest.raises(TransportError, match="called the client that it belongs to"):
            async with asyncio.timeout(20):
                await client.query("{ hello }")


async def test_a_view_with_a_provider_of_its_own(server: ScriptedServer, backend: Backend) -> None:
    """A login is a mutation of the same server: a view that carries nothing may send it."""

    async def provider() -> dict[str, str]:
        anonymous = client.with_options(headers_provider=dict, validate=False)
        answer = await anonymous.query('{ echo(value: "token") }')
        return {"Authorization": answer.data["echo"]}

    async with client_of(server.url, provider, backend, validate=True) as client:
        assert (await client.query("{ hello }")).data == HELLO
    assert set(tokens(server)) == {None, "token"}


async def test_two_clients_in_a_circle(server: ScriptedServer) -> None:
    """Each asks the other: that is told too."""

    async def of_one() -> dict[str, str]:
        await two.query("{ hello }")
        return {}

    async def of_two() -> dict[str, str]:
        await one.query("{ hello }")
        return {}

    async with client_of(server.url, of_one) as one, client_of(server.url, of_two) as two:
        with pytest.raises(TransportError, match="called the client that it belongs to"):
            async with asyncio.timeout(20):
                await one.query("{ hello }")


async def test_what_it_leaves_behind(server: ScriptedServer) -> None:
    """A task that a provider began may call its client once the provider has answered."""
    tasks: list[asyncio.Task[Any]] = []
    answered = asyncio.Event()

    async def later() -> Any:
        await answered.wait()
        return await client.query("{ hello }")

    async def provider() -> dict[str, str]:
        if not tasks:
            tasks.append(asyncio.create_task(later()))
        return {}

    async with client_of(server.url, provider) as client:
        await client.query("{ hello }")
        answered.set()
        assert (await tasks[0]).data == HELLO


async def test_a_caught_failure(server: ScriptedServer) -> None:
    """A provider that can do without is served."""

    async def provider() -> dict[str, str]:
        with contextlib.suppress(TransportError):
            await client.query("{ hello }")
        return {"Authorization": "spare"}

    async with client_of(server.url, provider) as client:
        await client.query("{ hello }")
    assert tokens(server) == ["spare"]


async def test_a_failure_of_the_server(server: ScriptedServer) -> None:
    """What fails for other reasons is not taken for it."""
    server.always(Answer.page(401))
    async with client_of(server.url, bare) as client:
        with pytest.raises(HTTPStatusError):
            await client.with_options(headers_provider=dict).query("{ hello }")
