"""What a program that followed the stock's production guide meets after the swap: docs/migration.md."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import tenacity
from aiographql.client import GraphQLClient
from aiographql.client.exceptions import GraphQLTransportException
from subscribing import until

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from subscribing import Backend

QUERY = "query Hello { hello }"


async def test_tenacity_around_it_multiplies(server: ScriptedServer) -> None:
    """Four attempts of the guide's recipe around four of ours are sixteen; the retry budget stops at 14."""
    server.always(Answer.page(503))
    with no_waiting():
        async with ProductionClient(server.url, validate=False) as client:
            recipe = tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_none(), reraise=True
            )
            with pytest.raises(HTTPStatusError):
                await recipe(client.query, QUERY)
    assert len(server.requests) == 14


async def test_tenacity_given_to_it_does_not(server: ScriptedServer) -> None:
    """The same object as ``retry=``: its stop and wait hold, and the table decides what is tried again."""
    server.always(Answer.page(503))
    retry = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    async with ProductionClient(server.url, validate=False, retry=retry) as client:
        with pytest.raises(HTTPStatusError):
            await client.query(QUERY)
    assert len(server.requests) == 3


async def test_a_total_of_the_session_limits_an_attempt(server: ScriptedServer) -> None:
    """``ClientTimeout(total=…)`` on a given session ends an attempt, and the next one begins."""
    server.always(Answer.hang())
    timeout = aiohttp.ClientTimeout(total=0.1)
    with no_waiting():
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            ProductionClient(server.url, session=session, validate=False) as client,
        ):
            with pytest.raises(RequestTimeoutError) as caught:
                await client.query(QUERY)
    assert (caught.value.phase, caught.value.attempts) == ("attempt", 4)
    assert "the session's own limit" in str(caught.value)


async def test_a_slow_query_names_the_limit_that_cut_it(server: ScriptedServer, backend: Backend) -> None:
    """A query that takes longer than ``read`` works on the stock; the error says which setting to raise."""
    server.always(Answer.hang())
    config = ProductionConfig(
        backend=backend,
        timeout=TimeoutPolicy(total=0.7, read=0.3),
        retry=RetryPolicy(wait_initial=0.001, wait_max=0.001),
    )
    async with ProductionClient(server.url, config=config, validate=False) as client:
        with pytest.raises(RequestTimeoutError) as caught:
            await client.query(QUERY)
    assert caught.value.phase == "total"
    assert "timeout.read (0.3 s)" in str(caught.value)
    assert "raise timeout.read" in str(caught.value)
    assert "raise timeout.total" not in str(caught.value)


async def test_plain_callbacks_run_on_the_loop(server: ScriptedServer, backend: Backend) -> None:
    """In the loop's own thread: whoever waits there for the loop waits for ever. The stock uses a thread."""
    server.tick = 0.001
    seen: list[int] = []

    def on_data(event: Any) -> None:
        seen.append(threading.get_ident())

    async with ProductionClient(server.url, validate=False, backend=backend) as client:
        subscription = await client.subscribe("subscription { count }", on_data=on_data)
        await until(lambda: seen)
        await subscription.unsubscribe_and_wait()
    assert set(seen) == {threading.get_ident()}


async def test_waiting_for_a_connection_is_limited(server: ScriptedServer, backend: Backend) -> None:
    """A call that gets no connection within ``timeout.pool`` (5 s) fails, and names the pool."""
    server.always(Answer.hang())
    pool = PoolPolicy(requests=1, retry_headroom=0)
    config = ProductionConfig(backend=backend, pool=pool, timeout=TimeoutPolicy(total=30, pool=0.05))
    async with ProductionClient(server.url, config=config, validate=False) as client:
        first = asyncio.create_task(client.query(QUERY))
        await server.received(1)
        with no_waiting(), pytest.raises(RequestTimeoutError) as caught:
            await client.query(QUERY)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
    assert caught.value.phase == "pool"
    assert "pool.requests" in str(caught.value)


async def test_errors_of_aiohttp_are_causes(backend: Backend) -> None:
    """``except aiohttp.ClientError`` catches nothing, as with the stock; the exception is the cause."""
    with no_waiting():
        async with ProductionClient("http://127.0.0.1:1/graphql", validate=False, backend=backend) as client:
            with pytest.raises(GraphQLTransportException) as caught:
                await client.query(QUERY)
    assert isinstance(caught.value, TransportError)
    assert not isinstance(caught.value, aiohttp.ClientError | OSError)
    assert caught.value.__cause__ is not None


async def test_not_used_again(server: ScriptedServer) -> None:
    """After ``async with``, and after ``close()``, calls are refused; the stock opens new connections."""
    async with ProductionClient(server.url, validate=False) as client:
        await client.query(QUERY)
    with pytest.raises(ClientClosedError):
        await client.query(QUERY)
    stock = GraphQLClient(server.url, validate=False)
    async with stock:
        await stock.query(QUERY)
    assert (await stock.query(QUERY)).data
    await stock.close()


async def test_trace_configs_are_the_sessions(server: ScriptedServer) -> None:
    """A given session keeps its ``trace_configs``: one HTTP request an attempt goes through them."""
    seen: list[str] = []
    trace = aiohttp.TraceConfig()

    async def begin(*given: Any) -> None:
        seen.append(given[2].method)

    trace.on_request_start.append(begin)
    server.script(Answer.page(503))
    with no_waiting():
        async with (
            aiohttp.ClientSession(trace_configs=[trace]) as session,
            ProductionClient(server.url, session=session, validate=False) as client,
        ):
            await client.query(QUERY)
    assert seen == ["POST", "POST"]
