"""A caller's session is judged by the same table, and so is a call within an except block."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from aiographql.client.exceptions import GraphQLTransportException
from retrying import (
    ALL_ATTEMPTS,
    AT_ONCE,
    LOST,
    MUTATION,
    QUERY,
    TWICE,
    Backend,
    Connect,
    assert_told,
    failure_of,
    forget,
    host_of,
)

from graphql_prod import (
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from aiographql.client.transport import GraphQLSession


# --- sessions of the caller's with habits of their own --------------------------------------------


async def test_a_session_that_raises_for_statuses_is_judged_by_the_status(
    backend: Backend, server: ScriptedServer
) -> None:
    """A session that turns statuses into exceptions changes how it is told, not what happened."""

    async def raising(response: httpx.Response) -> None:
        response.raise_for_status()

    async with contextlib.AsyncExitStack() as stack:
        session: GraphQLSession = (
            aiohttp.ClientSession(raise_for_status=True)
            if backend == "aiohttp"
            else httpx.AsyncClient(event_hooks={"response": [raising]}, verify=False)
        )
        await stack.enter_async_context(session)
        client = ProductionClient(
            server.url, session=session, validate=False, config=ProductionConfig(retry=AT_ONCE)
        )
        seen = {}
        for status in (404, 429, 501, 503):
            server.always(Answer.page(status))
            error = await failure_of(client, MUTATION)
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert (error.status, error.response.json) == (status, {})
            assert isinstance(error.__cause__, GraphQLTransportException)
            seen[status] = (await failure_of(client)).attempts
    assert seen == {404: 1, 429: 1, 501: 1, 503: ALL_ATTEMPTS}


async def test_a_sessions_own_total_is_a_timeout_of_the_attempt(server: ScriptedServer) -> None:
    """aiohttp's own total escapes the stock as a bare TimeoutError; here it is told and retried."""
    server.always(Answer.hang(execute=True))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
        client = ProductionClient(
            server.url, session=session, validate=False, config=ProductionConfig(retry=TWICE)
        )
        error = await failure_of(client)
        assert type(error) is RequestTimeoutError
        assert error.phase == "attempt"
        assert_told(error, host_of(server), 2, may_have_executed=False)
        error = await failure_of(client, MUTATION)
        assert_told(error, host_of(server), 1, may_have_executed=True)
    assert server.executions["increment"] == 1


async def test_a_sessions_own_read_limit_holds_unless_one_is_named(
    backend: Backend, server: ScriptedServer
) -> None:
    """A caller's session keeps its limits; what they end is told like ours."""
    server.always(Answer.hang(execute=True))
    async with contextlib.AsyncExitStack() as stack:
        session: GraphQLSession = (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=0.1))
            if backend == "aiohttp"
            else httpx.AsyncClient(timeout=httpx.Timeout(5, read=0.1), verify=False)
        )
        await stack.enter_async_context(session)
        client = ProductionClient(
            server.url, session=session, validate=False, config=ProductionConfig(retry=TWICE)
        )
        error = await failure_of(client)
        mutation_error = await failure_of(client, MUTATION)
    assert error.phase == "read"
    assert_told(error, host_of(server), 2, may_have_executed=False)
    assert_told(mutation_error, host_of(server), 1, may_have_executed=True)
    assert server.executions == {"counter": 2, "increment": 1}


async def test_a_session_for_one_call_is_judged_like_any(backend: Backend, server: ScriptedServer) -> None:
    """query(session=…) takes the same table."""
    server.always(Answer.reset("before", execute=True))
    async with contextlib.AsyncExitStack() as stack:
        session: GraphQLSession = (
            aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient(verify=False)
        )
        await stack.enter_async_context(session)
        client = ProductionClient(
            server.url, backend=backend, validate=False, config=ProductionConfig(retry=AT_ONCE)
        )
        error = await failure_of(client, QUERY, session=session)
        assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=False)
        error = await failure_of(client, MUTATION, session=session)
        assert_told(error, host_of(server), 1, may_have_executed=True)
    assert server.executions == {"counter": ALL_ATTEMPTS, "increment": 1}


# --- a call made inside an except block -----------------------------------------------------------

EARLIER = {
    "certificate": ssl.SSLCertVerificationError("an earlier one"),
    "refused": ConnectionRefusedError("an earlier one"),
    "name": socket.gaierror("an earlier one"),
    "connector": aiohttp.ServerDisconnectedError("an earlier one"),
    "invalid URL": aiohttp.InvalidURL("an-earlier-one"),
    "httpx refused": httpx.ConnectError("an earlier one"),
    "httpx connect timeout": httpx.ConnectTimeout("an earlier one"),
}


async def _while_handling(before: Exception, client: ProductionClient, document: str = QUERY) -> Any:
    def earlier() -> None:
        raise before

    try:
        earlier()
    except Exception:  # noqa: BLE001 -- the caller's own
        return await failure_of(client, document)


async def test_an_error_that_the_caller_is_handling_does_not_colour_a_mutation(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The usual fallback, `except …: await client.query(…)`: its mutation runs once, whatever was caught."""
    for name, before in EARLIER.items():
        for answer in (LOST["reset before the answer"], LOST["disconnect"], LOST["body cut short"]):
            forget(server)
            server.always(answer)
            error = await _while_handling(before, client, MUTATION)
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert "closed the connection before the answer was whole" in str(error), name
            assert server.executions == {"increment": 1}, name


async def test_an_error_that_the_caller_is_handling_does_not_colour_a_query(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """A query in an except block is retried for what happened to it, not for what happened before."""
    for name, before in EARLIER.items():
        forget(server)
        server.always(Answer.reset("before", execute=True))
        error = await _while_handling(before, client)
        assert error.attempts == ALL_ATTEMPTS, name


async def test_an_error_that_the_caller_is_handling_does_not_colour_a_timeout(
    connect: Connect, server: ScriptedServer
) -> None:
    """A bare TimeoutError carries a context; the caller's own exception at its end means nothing."""
    client = await connect(server.url, timeout=TimeoutPolicy(attempt=0.05), retry=TWICE)
    for name, before in EARLIER.items():
        forget(server)
        server.always(Answer.hang(execute=True))
        error = await _while_handling(before, client, MUTATION)
        assert type(error) is RequestTimeoutError, name
        assert error.phase == "attempt", name
        assert server.executions == {"increment": 1}, name


async def test_an_error_that_the_caller_is_handling_does_not_colour_a_refusal(
    connect: Connect, refusing: str
) -> None:
    """A refused port stays unsent in an except block."""
    client = await connect(f"http://{refusing}/graphql")
    for name, before in EARLIER.items():
        error = await _while_handling(before, client, MUTATION)
        assert_told(error, refusing, ALL_ATTEMPTS, may_have_executed=False)
        assert "could not be reached" in str(error), name
