"""What the server cannot have seen is retried, whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest
from aiographql.client.exceptions import GraphQLTransportException
from retrying import (
    ALL_ATTEMPTS,
    AS_QUERY,
    MUTATION,
    NEVER,
    QUERY,
    REPEATABLE,
    TWICE,
    UNMARKED,
    Backend,
    Connect,
    Kind,
    Ownership,
    _started,
    assert_told,
    failure_of,
    host_of,
)

from graphql_prod import (
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiographql.client.transport import GraphQLSession


@pytest.fixture
async def full_backlog() -> AsyncIterator[str]:
    """host:port of a listener whose queue is full: whoever connects waits for ever."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(16):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            try:
                await asyncio.wait_for(loop.sock_connect(filler, address), 0.1)
            except TimeoutError:
                break
        else:
            pytest.fail("the listener's queue never became full")
        yield f"{address[0]}:{address[1]}"


async def test_a_refused_port_is_tried_again_by_everyone(connect: Connect, refusing: str) -> None:
    """What was never sent may be sent again, mutations too."""
    client = await connect(f"http://{refusing}/graphql?token=s3cret-query")
    for kind in (*REPEATABLE, UNMARKED):
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is TransportError, kind
        assert isinstance(error, GraphQLTransportException)
        assert_told(error, refusing, ALL_ATTEMPTS, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_name_that_is_not_there_is_asked_for_again(connect: Connect, kind: Kind) -> None:
    """A failed name look-up is unsent."""
    # A resolver that is asked over the network may need a second try of its own, 5 s later.
    limits = TimeoutPolicy(connect=20)
    client = await connect("http://name.invalid/graphql?token=s3cret-query", timeout=limits)
    error = await failure_of(kind.view(client, attempts=2), kind.document)
    assert type(error) is TransportError
    assert "could not be resolved" in str(error)
    assert_told(error, "name.invalid", 2, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_connection_that_is_not_accepted_in_time_is_tried_again(
    connect: Connect, full_backlog: str, kind: Kind
) -> None:
    """A connect timeout is unsent, and says its phase."""
    client = await connect(f"http://{full_backlog}/graphql", timeout=TimeoutPolicy(connect=0.1))
    error = await failure_of(kind.view(client, attempts=2), kind.document)
    assert type(error) is RequestTimeoutError
    assert isinstance(error, GraphQLTransportException)
    assert isinstance(error, TimeoutError)
    assert error.phase == "connect"
    assert_told(error, full_backlog, 2, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_an_attempt_that_ends_while_connecting_was_not_sent(
    backend: Backend, full_backlog: str, kind: Kind
) -> None:
    """The attempt's limit is ambiguous only once something was sent; before that a mutation goes again."""
    config = ProductionConfig(timeout=TimeoutPolicy(attempt=0.1, connect=None), retry=TWICE)
    async with ProductionClient(
        f"http://{full_backlog}/graphql", backend=backend, validate=False, config=config
    ) as client:
        error = await failure_of(client, kind.document)
    assert type(error) is RequestTimeoutError
    assert error.phase == "attempt"
    assert_told(error, full_backlog, 2, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_total_that_ends_while_connecting_was_not_sent(
    backend: Backend, full_backlog: str, kind: Kind
) -> None:
    """The total running out before anything was written leaves no doubt about a mutation."""
    config = ProductionConfig(timeout=TimeoutPolicy(total=0.2, connect=None), retry=TWICE)
    async with ProductionClient(
        f"http://{full_backlog}/graphql", backend=backend, validate=False, config=config
    ) as client:
        error = await failure_of(client, kind.document)
    assert type(error) is RequestTimeoutError
    assert error.phase == "total"
    assert_told(error, full_backlog, 1, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_full_pool_is_tried_again(
    backend: Backend, ownership: Ownership, connect: Connect, server: ScriptedServer, kind: Kind
) -> None:
    """A call that got no connection was never sent; on a caller's aiohttp session pool counts as connect."""
    session: GraphQLSession | None = None
    if ownership == "given":
        session = (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
            if backend == "aiohttp"
            else httpx.AsyncClient(limits=httpx.Limits(max_connections=1), verify=False)
        )
    client = await connect(
        server.url,
        session=session,
        pool=PoolPolicy(requests=1, retry_headroom=0),
        timeout=TimeoutPolicy(pool=0.1, connect=0.1),
        retry=TWICE,
    )
    gate = asyncio.Event()
    server.script(Answer(gate=gate))
    first = asyncio.create_task(client.query(QUERY))
    await server.received(1)
    error = await failure_of(client, kind.document)
    assert type(error) is RequestTimeoutError
    assert error.phase == ("connect" if (backend, ownership) == ("aiohttp", "given") else "pool")
    assert_told(error, host_of(server), 2, may_have_executed=False)
    gate.set()
    assert (await first).data == {"counter": 0}
    assert len(server.requests) == 1


async def test_never_means_not_even_unsent(connect: Connect, refusing: str) -> None:
    """With mutations="never" a mutation has one attempt, however far it got."""
    client = await connect(f"http://{refusing}/graphql")
    error = await failure_of(NEVER.view(client), MUTATION)
    assert_told(error, refusing, 1, may_have_executed=False)


async def test_a_mark_on_the_call_outranks_never(connect: Connect, refusing: str) -> None:
    """A mutation marked idempotent is repeated when unsent as it is when ambiguous: the table's column."""
    client = await connect(f"http://{refusing}/graphql")
    view = NEVER.view(client).with_options(idempotent=True)
    error = await failure_of(view, MUTATION)
    assert error.attempts == ALL_ATTEMPTS


async def test_a_marked_mutation_that_was_sent_once_may_have_executed(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """One attempt that may have arrived is enough, even if the last one was refused."""
    gate = asyncio.Event()
    server.script(Answer(gate=gate))
    view = client.with_options(idempotent=True)
    with contextlib.closing(await _started(view.query(MUTATION))) as running:
        await server.executed("increment", 1)
        await server.stop()
        error = await running.error()
    assert type(error) is TransportError
    assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=True)
    assert server.executions["increment"] == 1
