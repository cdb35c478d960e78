"""WebSocket upgrades are not redirected, on our own sessions and on a caller's."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiographql.client.transport.aiohttp import AiohttpSubscriptionTransport
from raw_sockets import Peer, RawServer
from subscribing import Follower, client_of, until

from graphql_prod import ConfigurationError, HTTPStatusError, ProductionClient, TransportError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Backend

SECRET = "s3cret-key"


async def test_a_redirect_of_an_upgrade_is_not_followed(server: ScriptedServer, backend: Backend) -> None:
    """Headers and connection_init stay with the endpoint: the redirect's target hears nothing."""
    async with ScriptedServer() as target:
        location = f"http://localhost:{target.port}/graphql?token={SECRET}"
        server.on_connect = lambda _: Answer.redirect(location, 307)
        headers = {"X-Api-Key": SECRET}
        async with ProductionClient(server.url, headers, validate=False, backend=backend) as client:
            with pytest.raises(TransportError, match="redirect to localhost") as caught:
                await client.subscribe("subscription { count }")
        assert SECRET not in str(caught.value)
        assert len(server.upgrades) == 1
        assert not target.upgrades + target.requests


@pytest.fixture
async def hooked() -> AsyncIterator[aiohttp.ClientSession]:
    """A caller's session with a hook of its own."""
    own = aiohttp.TraceConfig()
    async with aiohttp.ClientSession(trace_configs=[own], headers={"X-Session": SECRET}) as session:
        yield session
        assert session.trace_configs == [own], "what is ours has gone, what is theirs is there"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nor_is_one_over_a_callers_session(
    server: ScriptedServer, hooked: aiohttp.ClientSession, status: int
) -> None:
    """A caller's aiohttp session follows redirects; ours of an upgrade it does not."""
    async with ScriptedServer() as target:
        location = f"http://localhost:{target.port}/graphql?token={SECRET}"
        server.on_connect = lambda _: Answer.redirect(location, status)
        headers = {"X-Api-Key": SECRET, "Authorization": f"Bearer {SECRET}"}
        async with client_of(server.url, objects={"session": hooked, "headers": headers}) as client:
            with pytest.raises(TransportError, match="redirect to localhost") as caught:
                await client.subscribe("subscription { count }")
        assert SECRET not in str(caught.value)
        assert len(server.upgrades) == 1
        assert not target.upgrades + target.requests


async def test_nor_is_one_of_a_stock_transport_over_a_callers_session(
    server: ScriptedServer, hooked: aiohttp.ClientSession
) -> None:
    """A subscription transport of the stock's follows none either on the session that it is given."""
    async with ScriptedServer() as target:
        server.on_connect = lambda _: Answer.redirect(f"http://localhost:{target.port}/graphql", 307)
        objects = {"session": hooked, "subscription_transport": AiohttpSubscriptionTransport(server.url)}
        async with client_of(server.url, objects=objects) as client:
            with pytest.raises(TransportError, match="redirect to localhost"):
                await client.subscribe("subscription { count }", session=hooked)
        assert not target.upgrades + target.requests


async def test_nor_is_a_reconnect(hooked: aiohttp.ClientSession) -> None:
    """What once was right is redirected at the second connection: the target hears nothing."""

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.write(peer.event(await peer.subscribed(), 1))
        else:
            location = f"http://localhost:{target.port}/graphql"
            await peer.write(f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    async with (
        ScriptedServer() as target,
        RawServer(script) as server,
        client_of(server.url, objects={"session": hooked}) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.began()
        await until(lambda: len(server.peers) >= 3 or follower.task.done())
        assert not target.upgrades + target.requests


async def test_other_requests_of_the_session_are_let_alone(server: ScriptedServer) -> None:
    """While an upgrade is under way others follow redirects: beside it, and of a middleware within it."""
    reached: list[str] = []
    upgrading, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        away = "302 Found\r\nLocation: /end" if "/graphql" in peer.line else "200 OK"
        await peer.write(f"HTTP/1.1 {away}\r\nContent-Length: 7\r\nConnection: close\r\n\r\narrived".encode())

    async def fetch() -> None:
        async with session.get(other.url) as answer:
            reached.append(str(answer.url.path))

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if "Sec-WebSocket-Key" in request.headers:
            await fetch()
            upgrading.set()
            await go_on.wait()
        return await handler(request)

    async with (
        RawServer(script) as other,
        aiohttp.ClientSession(middlewares=[middleware]) as session,
        client_of(server.url, objects={"session": session}) as client,
        Follower(client, "stream") as follower,
    ):
        await asyncio.wait_for(upgrading.wait(), 10)
        assert session.trace_configs
        await fetch()
        assert reached == ["/end", "/end"]
        go_on.set()
        await follower.began()


async def test_a_cancelled_upgrade_leaves_no_hook(hooked: aiohttp.ClientSession) -> None:
    """Whatever ends an upgrade, also in the midst of it, the caller's session is as it was."""

    async def script(peer: Peer) -> None:
        await peer.read_on()

    async with RawServer(script) as server, client_of(server.url, objects={"session": hooked}) as client:
        task = asyncio.create_task(client.subscribe("subscription { count }"))
        await until(lambda: server.peers)
        assert len(hooked.trace_configs) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(hooked.trace_configs) == 1)


async def test_a_session_that_takes_no_hook_is_refused(server: ScriptedServer) -> None:
    """Hooks in a tuple cannot be added to: no credentials are sent where a redirect could take them along."""
    own: Any = (aiohttp.TraceConfig(),)
    async with (
        aiohttp.ClientSession(trace_configs=own) as session,
        client_of(server.url, objects={"session": session}) as client,
    ):
        with pytest.raises(ConfigurationError, match="Give the session a list"):
            await client.subscribe("subscription { count }")
    assert not server.upgrades


async def test_a_refused_upgrade_says_its_status(server: ScriptedServer, backend: Backend) -> None:
    """What is no redirect is told as the status that it is, with the headers."""
    server.on_connect = lambda _: Answer.page(404, headers={"X-Id": "7"})
    async with ProductionClient(server.url, validate=False, backend=backend) as client:
        with pytest.raises(HTTPStatusError, match="404 Not Found") as caught:
            await client.subscribe("subscription { count }")
    assert (caught.value.status, caught.value.headers["x-id"]) == (404, "7")


def test_the_seam_of_websockets() -> None:
    """websockets asks the method in which we refuse redirects; under another name it would not."""
    connect = pytest.importorskip("websockets.asyncio.client").connect
    parameters = inspect.signature(connect.process_redirect).parameters
    assert list(parameters) == ["self", "exc"]


async def test_many_at_once_share_one_hook(server: ScriptedServer, hooked: aiohttp.ClientSession) -> None:
    """aiohttp runs every hook for every request: one for each upgrade would be their number squared."""
    at_once: list[int] = []
    server.on_connect = lambda _: at_once.append(len(hooked.trace_configs))
    async with client_of(server.url, objects={"session": hooked}) as client:
        subscriptions = await asyncio.gather(
            *(client.subscribe("subscription { count }") for _ in range(40)),
        )
        assert len(server.upgrades) == 40
        assert max(at_once) == 2, "one of the caller's, and one of ours"
        for subscription in subscriptions:
            await subscription.unsubscribe_and_wait()
