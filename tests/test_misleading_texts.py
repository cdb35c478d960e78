"""Texts that would send somebody the wrong way at night: redirects, refused upgrades, a server's words."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest

from graphql_prod import (
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionClosedError,
    SubscriptionPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.urls import redirect_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from subscribing import Backend

Owner = Literal["owned", "given"]
ENDPOINT = "https://user:s3cret@api.example.com/graphql?key=s3cret"


@contextlib.asynccontextmanager
async def client_of(url: str, backend: Backend, owner: Owner = "owned") -> AsyncIterator[ProductionClient]:
    config = ProductionConfig(
        retry=RetryPolicy(attempts=1), subscriptions=SubscriptionPolicy(connect_attempts=1, max_reconnects=0)
    )
    async with contextlib.AsyncExitStack() as stack:
        session: Any = None
        if owner == "given":
            library: Any = aiohttp.ClientSession if backend == "aiohttp" else httpx.AsyncClient
            session = await stack.enter_async_context(library())
        client = ProductionClient(
            url, validate=False, config=config, session=session, backend=None if session else backend
        )
        yield await stack.enter_async_context(client)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/graphql/", "https://api.example.com/graphql/"),
        ("graphql/", "https://api.example.com/graphql/"),
        ("https://api.example.com/v2/graphql?key=s3cret#s3cret", "https://api.example.com/v2/graphql"),
        ("http://api.example.com/graphql", "http://api.example.com/graphql"),
        ("https://api.example.com:8443/graphql", "https://api.example.com:8443/graphql"),
        ("https://user:s3cret@api.example.com:8443/graphql", "https://api.example.com:8443/graphql"),
        ("wss://api.example.com/ws", "wss://api.example.com/ws"),
        ("//other.example/s3cret", "other.example"),
        ("https://other.example:444/s3cret", "other.example:444"),
        ("http://other.example/s3cret?s3cret", "http://other.example"),
        ("https://api.example.com:443/graphql", None),
        ("https://API.example.com/graphql?key=other", None),
        ("?key=s3cret", None),
        ("", None),
        ("https://[::1", "an address that cannot be read"),
        ("https://h:99999/", "an address that cannot be read"),
        ("/\x1b[31m\u202e", "https://api.example.com/\\x1b[31m\\u202e"),
    ],
)
def test_where_a_redirect_leads(location: str, shown: str | None) -> None:
    """What differs is shown; no credentials, no query, and of another host no path."""
    assert redirect_of(ENDPOINT, location) == shown


async def test_a_missing_slash(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """The commonest redirect of all says what to change."""
    server.always(Answer.redirect(f"{server.url}/?token=s3cret", status=301))
    async with client_of(f"{server.url}?key=s3cret", backend, owner) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("{ hello }")
    assert f"a redirect to {server.url}/, which is not followed" in str(caught.value)
    assert f"If {server.url}/ is right, make it the endpoint." in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_the_same_address(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Nobody is told to make the endpoint what it is."""
    server.always(Answer.redirect(f"{server.url}?session=1"))
    async with client_of(server.url, backend, owner) as client:
        with pytest.raises(HTTPStatusError, match="a redirect to the same address") as caught:
            await client.query("{ hello }")
    assert "make it the endpoint" not in str(caught.value)


@contextlib.asynccontextmanager
async def upgrading(answer: Callable[[int], bytes]) -> AsyncIterator[int]:
    port = 0

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(port))
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield port


async def test_a_redirected_upgrade(backend: Backend) -> None:
    """By both socket libraries, in the same words."""

    def answer(port: int) -> bytes:
        location = f"http://127.0.0.1:{port}/graphql/?token=s3cret"
        return f"HTTP/1.1 301 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()

    async with (
        upgrading(answer) as port,
        client_of(f"http://127.0.0.1:{port}/graphql", backend) as client,
    ):
        with pytest.raises(TransportError) as caught:
            await client.subscribe("subscription { count }")
    assert f"://127.0.0.1:{port}/graphql/, which is not followed" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_forbidden_upgrade(backend: Backend) -> None:
    """Envoy answers 403 where upgrades are not configured: not only the credentials are to be looked at."""
    async with (
        upgrading(lambda _: b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n") as port,
        client_of(f"http://127.0.0.1:{port}/graphql", backend) as client,
    ):
        with pytest.raises(SubscriptionClosedError) as caught:
            await client.subscribe("subscription { count }")
    for word in ("403", "credentials", "path", "proxy", "WebSocket upgrades"):
        assert word in str(caught.value)


@pytest.mark.parametrize("how", ["close", "connection_error"])
async def test_a_servers_words_are_escaped(backend: Backend, how: str) -> None:
    """A close reason and a refusal: in the text escaped, as an attribute as they came."""
    from websockets.asyncio.server import serve

    said = "\x1b[2J\r\nno \u202e"

    async def refuse(socket: Any) -> None:
        with contextlib.suppress(Exception):
            await socket.recv()
            if how == "close":
                await socket.close(4403, said)
            else:
                await socket.send(json.dumps({"type": "connection_error", "payload": {"message": said}}))
                await socket.wait_closed()

    async with (
        serve(refuse, "127.0.0.1", 0, subprotocols=["graphql-ws"]) as listener,  # type: ignore[list-item]
        client_of(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/g", backend) as client,
    ):
        with pytest.raises(SubscriptionClosedError) as caught:
            await client.subscribe("subscription { count }", protocols="graphql-ws")
    assert str(caught.value).isprintable()
    assert r"\x1b[2J\r\nno \u202e" in str(caught.value)
    if how == "close":
        assert caught.value.close_reason == said


async def test_a_content_type_is_escaped(backend: Backend) -> None:
    """And bounded, as everything that a server writes."""
    head = f"HTTP/1.1 200 X\r\nContent-Type: text/{'x' * 4000}\r\nContent-Length: 1\r\n\r\nx".encode()
    async with upgrading(lambda _: head) as port, client_of(f"http://127.0.0.1:{port}/g", backend) as client:
        with pytest.raises(InvalidResponseError, match="text/xxx") as caught:
            await client.query("{ hello }", method="get")
    assert len(str(caught.value)) < 700
