"""Closing the client ends its subscriptions."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequest
from ending import idles, stopped_politely
from subscribing import (
    COUNT,
    STOPS,
    Backend,
    EndlessWaits,
    Follower,
    Mode,
    Protocol,
    client_of,
    sent,
    value_of,
)

from graphql_prod import (
    ClientClosedError,
    ProductionClient,
    TransportError,
    clock,
)
from graphql_prod.testing import FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


class TestClosingTheClient:
    async def test_leaving_the_block_ends_them(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Both kinds end normally, and the server is told of each."""
        async with client_of(counting.url, backend) as client:
            followers = [Follower(client, mode, protocol) for mode in ("subscribe", "stream")]
            for each in followers:
                await each.came()
        for each in followers:
            assert each.task.done() or await each.end() is None
            assert each.task.exception() is None
            assert each.values == list(range(len(each.values)))
        assert client.state == "closed"
        await idles(client)
        await stopped_politely(counting, 2)
        assert await Follower(client, "stream").end() is not None

    async def test_what_is_queued_is_finished(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """``complete`` goes out first; then the consumer gets what had come, and a normal end."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        follower = Follower(client, mode, protocol)
        await follower.came(3)
        follower.gate.clear()
        await server.until(lambda: len(server.events_sent) > 50)
        held = len(follower.values)
        closing = asyncio.create_task(client.close())
        await server.until(lambda: bool(sent(server, STOPS)))
        assert not closing.done()
        assert not follower.task.done()
        follower.gate.set()
        await asyncio.wait_for(closing, 10)
        assert await follower.end() is None
        assert len(follower.values) > held + 1
        assert follower.values == list(range(len(follower.values)))
        await stopped_politely(server)

    @pytest.mark.parametrize("how", ["exception", "cancel"])
    async def test_leaving_by_an_exception_cuts_at_once(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, how: str
    ) -> None:
        """A callback that hangs, a body that hangs: not waited for."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        follower = Follower(client, mode, protocol)
        follower.gate.clear()
        await follower.until(lambda: follower.values)

        async def program() -> None:
            async with client:
                if how == "cancel":
                    await asyncio.Event().wait()
                raise LookupError("body")

        task = asyncio.create_task(program())
        if how == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.done()
        assert task.cancelled() if how == "cancel" else isinstance(task.exception(), LookupError)
        assert client.state == "closed"
        await server.socket_count(0)
        follower.gate.set()
        await asyncio.wait({follower.task}, timeout=10)
        assert follower.task.done()
        error = None if follower.task.cancelled() else follower.task.exception()
        assert error is None or isinstance(error, ClientClosedError)
        await idles(client)

    @pytest.mark.parametrize("stuck", ["acknowledgement", "outage", "waiting"])
    async def test_while_it_connects(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, stuck: str
    ) -> None:
        """No attempt of a closing client goes on; who waits for the first one hears of it."""
        async with FaultyProxy(counting.port) as proxy, client_of(proxy.url_for(), backend) as client:
            with clock.using(EndlessWaits()) as recorded:
                assert isinstance(recorded, EndlessWaits)
                follower = Follower(client, mode, protocol)
                if stuck == "acknowledgement":
                    counting.never_ack = True
                    await counting.until(lambda: bool(counting.messages))
                elif stuck == "outage":
                    await follower.came()
                    waits = len(recorded.waits)
                    await proxy.down()
                    await follower.until(lambda: len(recorded.waits) > waits)
                else:
                    proxy.refuse = True
                    await follower.until(lambda: recorded.waits)
                await asyncio.wait_for(client.close(), 10)
                error = await follower.end()
                if stuck == "outage":
                    assert error is None
                else:
                    assert isinstance(error, ClientClosedError | TransportError)
                await idles(client)
                assert sent(counting, STOPS) == []

    @pytest.mark.parametrize("share", [False, True])
    async def test_at_every_step_of_connecting(
        self, server: ScriptedServer, backend: Backend, mode: Mode, share: bool
    ) -> None:
        """Whatever has just begun ends too: no caller, no slot and no socket is forgotten."""
        server.tick = 600
        subscribed = False
        for steps in range(3000):
            async with client_of(server.url, backend, share_connection=share) as client:
                follower = Follower(client, mode)
                for _ in range(steps):
                    await asyncio.sleep(0)
                subscribed = bool(follower.values)
                await asyncio.wait_for(client.close(), 10)
                error = await follower.end()
                assert error is None or isinstance(error, ClientClosedError), steps
                await idles(client)
            if subscribed:
                break
        assert subscribed
        await server.socket_count(0)

    @pytest.mark.parametrize("how", ["await", "wait_for", "gather", "aexit"])
    async def test_from_inside_a_callback(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """An event may be the reason to stop: no waiting for oneself."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        closed = asyncio.Event()

        async def on_data(_: object) -> None:
            await server.until(lambda: len(server.events_sent) > 5)
            await _close(client, how)
            closed.set()

        subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
        await asyncio.wait_for(closed.wait(), 10)
        assert client.state == "closed"
        assert not subscription.active()
        await server.socket_count(0)

    @pytest.mark.parametrize("how", ["await", "wait_for", "gather", "aexit"])
    async def test_from_inside_the_body_of_a_stream(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """The consumer that closes is not waited for; then it may still take what had come."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        values: list[int] = []

        async def consume() -> None:
            async for event in client.stream(COUNT, protocols=protocol):
                values.append(value_of(event))
                if len(values) == 1:
                    await server.until(lambda: len(server.events_sent) > 5)
                    await _close(client, how)

        await asyncio.wait_for(consume(), 10)
        assert client.state == "closed"
        assert values == list(range(len(values)))
        await server.socket_count(0)
        gc.collect()

    async def test_from_inside_several_bodies(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Whoever is in the middle of closing is not waited for by the others either."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        both = asyncio.Barrier(2)

        async def consume() -> None:
            first = True
            async for _ in client.stream(COUNT, protocols=protocol):
                if first:
                    first = False
                    await both.wait()
                    await client.close()

        await asyncio.wait_for(asyncio.gather(consume(), consume()), 10)
        assert client.state == "closed"

    async def test_a_stream_begun_and_left_alone_does_not_hold_up_the_close(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Nobody takes its events; the client's block is left in the same task."""
        events: AsyncGenerator[Any, None]
        async with client_of(counting.url, backend) as client:
            events = client.stream(COUNT, protocols=protocol)
            await anext(events)
            leaving: Awaitable[None] = client.close()
            await asyncio.wait_for(leaving, 10)
        await events.aclose()
        await counting.socket_count(0)
        await idles(client)

    async def test_after_the_close_nothing_begins(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """ClientClosedError, at once."""
        client = ProductionClient(counting.url, validate=False, backend=backend)
        await client.close()
        assert isinstance(await Follower(client, mode).end(), ClientClosedError)
        assert counting.connections == 0


async def _close(client: ProductionClient, how: str) -> None:
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "await": client.close,
        "wait_for": lambda: asyncio.wait_for(client.close(), 20),
        "gather": lambda: asyncio.gather(client.close(), asyncio.sleep(0)),
        "aexit": lambda: client.__aexit__(None, None, None),
    }
    await ways[how]()


async def test_a_request_object_may_be_used_again(
    server: ScriptedServer, backend: Backend, mode: Mode
) -> None:
    """Subscribing does not change what the caller gave."""
    request = GraphQLRequest(query=COUNT, variables={"to": 1}, headers={"x-mine": "1"})
    async with client_of(server.url, backend) as client:
        for _ in range(2):
            follower = Follower(client, mode, request=request)
            assert await follower.end() is None
            assert follower.values == [0, 1]
    assert request.variables == {"to": 1}
    assert request.headers == {"x-mine": "1"}
