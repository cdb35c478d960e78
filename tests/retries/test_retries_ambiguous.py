"""What was sent and not answered is retried where it may be repeated."""

from __future__ import annotations

import asyncio

import pytest
from aiographql.client.exceptions import GraphQLTransportException
from retrying import (
    ALL_ATTEMPTS,
    AS_QUERY,
    LOST,
    MARKED,
    MUTATION,
    ONCE,
    QUERY,
    REPEATABLE,
    UNMARKED,
    Connect,
    assert_told,
    failure_of,
    forget,
    host_of,
)

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    RequestTimeoutError,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

lost = pytest.mark.parametrize("answer", LOST.values(), ids=LOST.keys())


@lost
async def test_a_lost_answer_is_asked_for_again(
    client: ProductionClient, server: ScriptedServer, answer: Answer
) -> None:
    """Queries and marked mutations are repeated after an ambiguous end, and tell the truth about it."""
    for kind in REPEATABLE:
        forget(server)
        server.always(answer)
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is TransportError, kind
        assert isinstance(error, GraphQLTransportException)
        assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: ALL_ATTEMPTS}, kind


@lost
async def test_a_mutation_whose_answer_was_lost_is_never_sent_twice(
    client: ProductionClient, server: ScriptedServer, answer: Answer
) -> None:
    """An unmarked mutation ran at most once, and the error says that it may have."""
    for kind in ONCE:
        forget(server)
        server.always(answer)
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is TransportError, kind
        assert_told(error, host_of(server), 1, may_have_executed=True)
        assert server.executions == {"increment": 1}, kind
        assert len(server.requests) == 1


async def test_one_lost_answer_costs_one_attempt(client: ProductionClient, server: ScriptedServer) -> None:
    """After a fault the next attempt brings the answer, and the caller notices nothing."""
    for name, answer in LOST.items():
        for kind in REPEATABLE:
            forget(server)
            server.script(answer)
            response = await kind.view(client).query(kind.document)
            assert response.data is not None, (name, kind)
            assert not response.errors
            assert len(server.requests) == 2, (name, kind)


SILENT = {
    "hang": Answer.hang(execute=True),
    "drip": Answer.drip(chunk=4, pause=2.0),
}
silent = pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT.keys())


@silent
async def test_silence_is_a_read_timeout(connect: Connect, server: ScriptedServer, answer: Answer) -> None:
    """A server that goes quiet gives a timeout of phase "read", ambiguous by nature."""
    client = await connect(server.url, timeout=TimeoutPolicy(read=0.06))
    for kind in (AS_QUERY, MARKED[0], UNMARKED):
        forget(server)
        server.always(answer)
        attempts = 1 if kind is UNMARKED else 2
        error = await failure_of(kind.view(client, attempts=2), kind.document)
        assert type(error) is RequestTimeoutError, kind
        assert isinstance(error, GraphQLTransportException)
        assert isinstance(error, TimeoutError)
        assert error.phase == "read"
        assert_told(error, host_of(server), attempts, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: attempts}


async def test_the_attempts_own_limit_is_ambiguous_once_sent(
    connect: Connect, server: ScriptedServer
) -> None:
    """A drip that never pauses for long beats the read timeout, not the attempt's."""
    client = await connect(server.url, timeout=TimeoutPolicy(attempt=0.1))
    for kind in (AS_QUERY, MARKED[0], UNMARKED):
        forget(server)
        server.always(Answer.drip(chunk=1, pause=0.02))
        attempts = 1 if kind is UNMARKED else 2
        error = await failure_of(kind.view(client, attempts=2), kind.document)
        assert type(error) is RequestTimeoutError, kind
        assert error.phase == "attempt"
        assert_told(error, host_of(server), attempts, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: attempts}


async def test_the_total_ends_the_call_in_mid_attempt(connect: Connect, server: ScriptedServer) -> None:
    """The total is one deadline: it is not tried again after it, by anyone."""
    client = await connect(server.url, timeout=TimeoutPolicy(total=0.12))
    for kind in (AS_QUERY, MARKED[0], UNMARKED):
        forget(server)
        server.always(Answer.hang(execute=True))
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is RequestTimeoutError, kind
        assert isinstance(error, TimeoutError)
        assert error.phase == "total"
        assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: 1}


async def test_the_last_failure_is_the_cause_when_the_total_runs_out(
    connect: Connect, server: ScriptedServer
) -> None:
    """Whoever reads "no time left" also reads what went wrong before."""
    server.script(Answer.page(503), Answer.hang())
    client = await connect(server.url, timeout=TimeoutPolicy(total=0.2))
    error = await failure_of(client)
    assert error.phase == "total"
    assert error.attempts == 2
    assert isinstance(error.__cause__, HTTPStatusError)
    assert error.__cause__.status == 503


async def test_a_link_that_breaks_after_some_bytes_is_ambiguous(
    connect: Connect, server: ScriptedServer
) -> None:
    """A network that cuts answers short makes no mutation run twice."""
    async with FaultyProxy(server.port) as proxy:
        proxy.limit_bytes = 40
        client = await connect(proxy.url_for())
        error = await failure_of(client, MUTATION)
        assert_told(error, f"{proxy.host}:{proxy.port}", 1, may_have_executed=True)
        assert server.executions == {"increment": 1}
        error = await failure_of(client, QUERY)
        assert error.attempts == ALL_ATTEMPTS


async def test_a_proxy_that_resets_every_connection_is_met_by_every_attempt(
    connect: Connect, server: ScriptedServer
) -> None:
    """Accepted and reset at once: a query is tried to the end, a mutation never runs."""
    async with FaultyProxy(server.port) as proxy:
        proxy.refuse = True
        client = await connect(proxy.url_for())
        error = await failure_of(client, QUERY)
        assert type(error) is TransportError
        assert error.attempts == ALL_ATTEMPTS
        await failure_of(client, MUTATION)
    assert server.executions == {}


async def test_a_request_that_is_cut_off_while_it_is_sent_counts_as_sent(connect: Connect) -> None:
    """A reset in the middle of sending: nobody knows what arrived, so a mutation is not sent again."""
    connections = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(65536)
        writer.transport.abort()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        client = await connect(f"http://127.0.0.1:{port}/graphql", timeout=TimeoutPolicy(read=5))
        error = await failure_of(client, MUTATION, extensions={"padding": "x" * 1_000_000})
    assert type(error) is TransportError
    assert_told(error, f"127.0.0.1:{port}", 1, may_have_executed=True)
    assert connections == 1
