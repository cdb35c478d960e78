"""The retry table, row by row, over real sockets: both backends, our sessions and the caller's."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import heapq
import logging
import random
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import aiohttp
import httpx
import pytest
import tenacity
import trustme
from aiographql.client import GraphQLClientException, GraphQLRequest, GraphQLRequestException
from aiographql.client.exceptions import GraphQLTransportException

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    InvalidResponseError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
    clock,
)
from graphql_prod.documents import runs_nothing
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]
Ownership = Literal["owned", "given"]

QUERY = "query Read { counter }"
MUTATION = "mutation Add { increment }"
AT_ONCE = RetryPolicy(wait_initial=0, wait_max=0, budget=None)
TWICE = RetryPolicy(attempts=2, wait_initial=0, wait_max=0, budget=None)
ALL_ATTEMPTS = 4
SECRETS = ("Bearer", "s3cret-header", "s3cret-query")


# --- how a test gets its client -------------------------------------------------------------------


class Connect(Protocol):
    async def __call__(self, url: str, **options: Any) -> ProductionClient: ...


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


def _owner(server: ScriptedServer, backend: Backend, **config: Any) -> ProductionClient:
    return ProductionClient(
        f"{server.url}?token=s3cret-query",
        headers={"Authorization": "Bearer s3cret-header"},
        validate=False,
        backend=backend,
        config=ProductionConfig(**{"retry": AT_ONCE, **config}),
    )


def forget(server: ScriptedServer) -> None:
    """Begin a new case on a server: no facts, no scripts."""
    server.requests.clear()
    server.executions.clear()
    server.always(None)


@dataclass(frozen=True)
class Kind:
    """One column of the table."""

    name: str
    document: str = MUTATION
    idempotent: bool | None = None
    retry: dict[str, Any] = field(default_factory=dict)

    @property
    def field(self) -> str:
        return "counter" if self.document == QUERY else "increment"

    def view(self, client: ProductionClient, **retry: Any) -> ProductionClient:
        policy = RetryPolicy(**{"wait_initial": 0, "wait_max": 0, **retry, **self.retry})
        return client.with_options(retry=policy, idempotent=self.idempotent)


AS_QUERY = Kind("query", QUERY)
UNMARKED = Kind("mutation")
NEVER = Kind("mutation, never", retry={"mutations": "never"})
MARKED = (
    Kind("mutation marked for this call", idempotent=True),
    Kind("mutation with a key", retry={"idempotency_header": "Idempotency-Key"}),
    Kind("mutation, always", retry={"mutations": "always"}),
)
REPEATABLE = (AS_QUERY, *MARKED)
TAKEN_BACK = (
    Kind("mutation, always, taken back", idempotent=False, retry={"mutations": "always"}),
    Kind(
        "mutation with a key, taken back", idempotent=False, retry={"idempotency_header": "Idempotency-Key"}
    ),
)
ONCE = (UNMARKED, NEVER, *TAKEN_BACK)
KINDS = (*REPEATABLE, *ONCE)

repeatable = pytest.mark.parametrize("kind", REPEATABLE, ids=lambda kind: kind.name)
once = pytest.mark.parametrize("kind", ONCE, ids=lambda kind: kind.name)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


async def failure_of(client: ProductionClient, document: str = QUERY, **arguments: Any) -> Any:
    """The error that ends the call: a sound one, whatever it is."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- which one is the caller's question
        await client.query(document, **arguments)
    error: Any = caught.value
    assert isinstance(error, GraphQLClientException)
    return error


def assert_told(error: Any, host: str, attempts: int, *, may_have_executed: bool) -> None:
    """The error carries the facts, says them in words, and keeps secrets."""
    assert error.attempts == attempts
    assert 0 <= error.elapsed < 30
    assert error.may_have_executed is may_have_executed
    text = str(error)
    assert host in text
    assert f"after {attempts} attempt" in text
    for secret in SECRETS:
        assert secret not in text
        assert secret not in repr(error)


def host_of(server: ScriptedServer) -> str:
    return f"{server.host}:{server.port}"


# --- unsent ---------------------------------------------------------------------------------------


@pytest.fixture
def refusing() -> Iterator[str]:
    """host:port of a port that nobody listens on, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


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


class _Running:
    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task

    async def error(self) -> Any:
        with pytest.raises(GraphQLClientException) as caught:
            await self.task
        return caught.value

    def close(self) -> None:
        self.task.cancel()


async def _started(call: Any) -> _Running:
    return _Running(asyncio.create_task(call))


# --- ambiguous ------------------------------------------------------------------------------------

LOST = {
    "reset before the answer": Answer.reset("before", execute=True),
    "reset after the headers": Answer.reset("headers", execute=True),
    "reset in mid-body": Answer.reset("body", execute=True),
    "disconnect": Answer.disconnect(execute=True),
    "body cut short": Answer.truncated(),
    "body cut to nothing": Answer.truncated(keep=0),
}
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


# --- answered -------------------------------------------------------------------------------------

TRANSIENT = (500, 502, 503, 504, 507, 508, 509, 520, 530, 599)
FINAL = (400, 401, 403, 404, 405, 408, 409, 413, 422, 425, 429, 451, 501, 505, 506, 510, 511)


def _html(status: int) -> Answer:
    return Answer.page(status, execute=True)


def _json(status: int) -> Answer:
    return Answer.graphql(status, errors=["no"], media_type="application/json", execute=True)


def _graphql(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer.graphql(status, errors=["no"], execute=True, headers=headers or {})


pages = pytest.mark.parametrize("page", [_html, _json], ids=["html", "json"])


@pages
async def test_an_error_page_with_a_transient_status_is_retried_for_queries(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """5XX as a page of whoever stands in between: again, then HTTPStatusError with status and headers."""
    for status in TRANSIENT:
        forget(server)
        server.always(page(status))
        error = await failure_of(client)
        assert type(error) is HTTPStatusError, status
        assert isinstance(error, GraphQLRequestException)
        assert error.status == status
        assert error.headers["content-TYPE"]
        assert str(status) in str(error)
        assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=False)
        assert server.executions == {"counter": ALL_ATTEMPTS}, status


@pages
async def test_an_error_page_with_a_transient_status_is_retried_for_marked_mutations(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """Who marks a mutation says that running it again does no harm."""
    for status in (500, 503, 599):
        for kind in MARKED:
            forget(server)
            server.always(page(status))
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is HTTPStatusError, (status, kind)
            assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=True)
            assert server.executions == {"increment": ALL_ATTEMPTS}, (status, kind)


@pages
async def test_a_mutation_answered_with_an_error_page_is_not_repeated(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """A 5XX may hide an execution: once, and said so."""
    for status in TRANSIENT:
        for kind in ONCE:
            forget(server)
            server.always(page(status))
            error = await failure_of(kind.view(client), MUTATION)
            assert type(error) is HTTPStatusError, (status, kind)
            assert error.status == status
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert server.executions == {"increment": 1}, (status, kind)


async def test_a_status_that_says_never_is_not_retried(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """501, 505 and 4XX blame the request: nobody repeats it."""
    for status in FINAL:
        for kind in KINDS:
            forget(server)
            server.always(Answer.page(status))
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is HTTPStatusError, (status, kind)
            assert isinstance(error, GraphQLRequestException)
            assert error.status == status
            assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
            assert len(server.requests) == 1, (status, kind)


async def test_a_graphql_answer_with_a_transient_status_is_retried_and_then_returned(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """What the stock client returns is returned, also after the last attempt."""
    for kind in REPEATABLE:
        forget(server)
        server.always(_graphql(503))
        response = await kind.view(client).query(kind.document)
        assert [error.message for error in response.errors] == ["no"]
        assert server.executions == {kind.field: ALL_ATTEMPTS}, kind


async def test_a_graphql_answer_to_a_mutation_is_returned_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """An unmarked mutation that was answered is not repeated, whatever the status."""
    for status in TRANSIENT:
        for kind in ONCE:
            forget(server)
            server.always(_graphql(status))
            response = await kind.view(client).query(kind.document)
            assert [error.message for error in response.errors] == ["no"]
            assert server.executions == {"increment": 1}, (status, kind)


async def test_a_graphql_answer_with_any_other_status_is_returned_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """An answer is an answer: errors of the operation are the caller's affair."""
    for status in (200, 294, 400, 401, 404, 422, 429, 501, 505):
        forget(server)
        server.always(_graphql(status))
        response = await client.query(QUERY)
        assert [error.message for error in response.errors] == ["no"]
        assert len(server.requests) == 1, status


async def test_what_comes_out_is_what_the_last_attempt_came_to(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """Not what looked best: an error after answers is raised, an answer after errors is returned."""
    server.script(_graphql(503), _graphql(503), _graphql(503), _html(502))
    error = await failure_of(owner)
    assert error.status == 502
    assert error.attempts == ALL_ATTEMPTS
    server.script(_html(502), _html(502), _html(502), _graphql(503))
    assert [error.message for error in (await owner.query(QUERY)).errors] == ["no"]
    server.script(_graphql(503), _html(502))
    response = await owner.query(QUERY)
    assert response.data == {"counter": 0}
    assert not response.errors


@pytest.mark.parametrize("page", [_html, _graphql], ids=["html", "graphql"])
async def test_429_is_retried_once_it_is_a_status_of_the_policy(
    owner: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """The statuses are a setting; they widen the row, and change no column."""
    for kind in (AS_QUERY, *MARKED):
        forget(server)
        server.script(page(429))
        await kind.view(owner, statuses={429, 503}).query(kind.document)
        assert len(server.requests) == 2, kind
    forget(server)
    server.always(page(429))
    with contextlib.suppress(HTTPStatusError):
        await UNMARKED.view(owner, statuses={429, 503}).query(MUTATION)
    assert len(server.requests) == 1


async def test_a_status_taken_out_of_the_policy_is_not_retried(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The statuses are a setting: what is not among them ends the call."""
    server.always(Answer.page(503))
    error = await failure_of(AS_QUERY.view(simple, statuses={429}))
    assert error.attempts == 1


# --- a success that is no GraphQL answer ----------------------------------------------------------

INVALID = {
    "login page": Answer.login_page(execute=True),
    "JSON cut short": Answer(body=b'{"data": {"coun', media_type="application/json", execute=True),
    "JSON list": Answer(body=b'[{"data": {}}]', media_type="application/json", execute=True),
    "data is a list": Answer(body={"data": []}, execute=True),
    "data is a text": Answer(body={"data": "yes"}, execute=True),
    "errors are a text": Answer(body={"errors": "no"}, execute=True),
    "errors are texts": Answer(body={"errors": ["no"]}, execute=True),
    "another object": Answer(body={"message": "fine"}, execute=True),
    "null": Answer(body=b"null", media_type="application/json", execute=True),
    "nothing": Answer(body=b"", media_type="application/graphql-response+json", execute=True),
    "no content": Answer(status=204, body=b"", execute=True),
}


async def test_a_success_without_graphql_is_asked_for_again(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """What the stock returns as empty data is a failure: again, then InvalidResponseError."""
    for name, answer in INVALID.items():
        for kind in (AS_QUERY, MARKED[0]):
            forget(server)
            server.always(answer)
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is InvalidResponseError, (name, kind)
            assert isinstance(error, GraphQLRequestException)
            assert error.status == (answer.status or 200)
            assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=kind is not AS_QUERY)
            assert server.executions == {kind.field: ALL_ATTEMPTS}, (name, kind)


async def test_a_mutation_answered_without_graphql_is_not_repeated(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The mutation may have run behind that page: once."""
    for name, answer in INVALID.items():
        for kind in ONCE:
            forget(server)
            server.always(answer)
            error = await failure_of(kind.view(client), MUTATION)
            assert type(error) is InvalidResponseError, (name, kind)
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert server.executions == {"increment": 1}, (name, kind)


async def test_an_odd_answer_is_still_an_answer(client: ProductionClient, server: ScriptedServer) -> None:
    """Null data, no fields, errors beside null: GraphQL's own business, returned as it is."""
    bodies: list[dict[str, Any]] = [
        {"data": None},
        {"data": {}},
        {"data": None, "errors": [{"message": "no"}]},
        {"data": {"counter": None}, "errors": [{"message": "no", "path": ["counter"]}]},
        {"errors": [{}]},
    ]
    for body in bodies:
        forget(server)
        server.always(Answer(body=body))
        response = await client.query(QUERY)
        assert response.json == body
        assert len(server.requests) == 1, body


# --- error codes ----------------------------------------------------------------------------------


def _coded(*codes: str | None, **around: Any) -> Answer:
    errors = [
        {"message": "no"} if code is None else {"message": "no", "extensions": {"code": code}}
        for code in codes
    ]
    return Answer.graphql(errors=errors, execute=True, **around)


CODES = frozenset({"BUSY", "LATER"})


async def test_an_answer_whose_every_error_has_such_a_code_is_retried(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A refusal in the answer itself is retried, and returned after the last attempt."""
    for codes in (("BUSY",), ("BUSY", "LATER")):
        for kind in REPEATABLE:
            forget(server)
            server.always(_coded(*codes))
            response = await kind.view(owner, error_codes=CODES).query(kind.document)
            assert len(response.errors) == len(codes)
            assert len(server.requests) == ALL_ATTEMPTS, (codes, kind)


async def test_an_answer_with_such_a_code_ends_a_mutation(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A code is an answer: an unmarked mutation is not repeated for it."""
    for kind in ONCE:
        forget(server)
        server.always(_coded("BUSY"))
        response = await kind.view(owner, error_codes=CODES).query(kind.document)
        assert response.errors
        assert server.executions == {"increment": 1}, kind


async def test_one_error_without_such_a_code_ends_the_call(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """Only an answer without data, all of whose errors ask for it, is retried."""
    for answer in (
        _coded("BUSY", "FORBIDDEN"),
        _coded("BUSY", None),
        _coded(None),
        _coded("BUSY", data={"counter": 1}),
        Answer.graphql(errors=[{"message": "no", "extensions": "BUSY"}]),
        Answer.graphql(errors=[{"message": "no", "extensions": {"code": ["BUSY"]}}]),
        Answer.graphql(errors=[{"message": "no", "extensions": None}]),
    ):
        forget(server)
        server.always(answer)
        response = await AS_QUERY.view(owner, error_codes=CODES).query(QUERY)
        assert response.errors
        assert len(server.requests) == 1, answer


async def test_no_code_is_retried_unless_it_was_named(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The set of codes is empty by default."""
    server.always(_coded("BUSY"))
    await simple.query(QUERY)
    assert len(server.requests) == 1


# --- what can never succeed -----------------------------------------------------------------------


async def test_a_redirect_is_never_followed(client: ProductionClient, server: ScriptedServer) -> None:
    """A redirect is an error that names its target's host, once."""
    async with ScriptedServer(host="localhost") as elsewhere:
        target = f"http://user:s3cret-query@localhost:{elsewhere.port}/graphql?token=s3cret-query"
        for status in (301, 302, 303, 307, 308):
            for kind in KINDS:
                forget(server)
                server.always(Answer.redirect(target, status))
                error = await failure_of(kind.view(client), kind.document)
                assert type(error) is HTTPStatusError, (status, kind)
                assert error.status == status
                assert "localhost" in str(error)
                assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
                assert len(server.requests) == 1, (status, kind)
        assert elsewhere.connections == 0


async def test_a_redirect_is_not_followed_by_a_session_that_would(
    backend: Backend, server: ScriptedServer
) -> None:
    """A caller's httpx client that follows redirects does not follow ours."""
    if backend == "aiohttp":
        pytest.skip("aiohttp has no such setting on its session")
    server.always(Answer.redirect(server.url, 307))
    async with httpx.AsyncClient(follow_redirects=True, verify=False) as session:
        error = await failure_of(ProductionClient(server.url, session=session, validate=False))
    assert error.status == 307
    assert len(server.requests) == 1


BAD_LOCATIONS = ("http://[::1/x", "http://x:y/", "javascript:alert(1)", "http://exa mple/", "//", "", "/x")


async def test_a_redirect_to_nowhere_is_raised_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """Whatever a Location says: an error of ours, at once, and no surprise of a parser."""
    outcomes = {}
    for location in BAD_LOCATIONS:
        forget(server)
        server.always(Answer.redirect(location, 302))
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- told below, for all of them at once
            await client.query(QUERY)
        error: Any = caught.value
        outcomes[location] = (isinstance(error, GraphQLClientException), error.attempts)
    assert outcomes == dict.fromkeys(BAD_LOCATIONS, (True, 1))


async def test_a_body_that_does_not_decode_is_raised_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """A codec error will be the same the next time."""
    for kind in KINDS:
        forget(server)
        server.always(Answer(body=b"this is not gzip", headers={"Content-Encoding": "gzip"}, execute=True))
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is TransportError, kind
        assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: 1}, kind


async def test_a_gzip_body_that_decodes_is_an_answer(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The row above is about broken gzip, not about gzip."""
    body = gzip.compress(b'{"data": {"counter": 7}}')
    server.always(Answer(body=body, media_type="application/json", headers={"Content-Encoding": "gzip"}))
    assert (await client.query(QUERY)).data == {"counter": 7}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def encrypted(authority: trustme.CA, name: str) -> AsyncIterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    async with ScriptedServer(ssl_context=context) as server:
        yield server


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_an_untrusted_certificate_is_raised_at_once(
    connect: Connect, authority: trustme.CA, kind: Kind
) -> None:
    """Nobody trusts this authority: there is nothing to hope for, and nothing was sent."""
    async with encrypted(authority, "127.0.0.1") as server:
        client = await connect(server.url, verify=ssl.create_default_context())
        error = await failure_of(kind.view(client), kind.document)
        assert server.connections == 1
    assert type(error) is TransportError
    assert "certificate" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)


async def test_a_certificate_of_another_host_is_raised_at_once(
    backend: Backend, authority: trustme.CA
) -> None:
    """A trusted authority, but the wrong name: once."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with encrypted(authority, "other.example") as server, contextlib.AsyncExitStack() as stack:
        session: GraphQLSession = (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))
            if backend == "aiohttp"
            else httpx.AsyncClient(verify=trust)
        )
        await stack.enter_async_context(session)
        error = await failure_of(ProductionClient(server.url, session=session, validate=False))
        assert server.connections == 1
    assert "certificate" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_plain_http_where_tls_is_expected_is_raised_at_once(
    connect: Connect, server: ScriptedServer, kind: Kind
) -> None:
    """A port that speaks no TLS will speak none the next time."""
    client = await connect(f"https://{host_of(server)}/graphql")
    error = await failure_of(kind.view(client), kind.document)
    assert type(error) is TransportError
    assert "TLS" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)
    assert server.connections == 1


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_handshake_that_breaks_off_is_unsent(
    connect: Connect, server: ScriptedServer, kind: Kind
) -> None:
    """A connection lost in mid-handshake is a lost connection, and nothing was sent on it."""

    async with FaultyProxy(server.port) as proxy:
        proxy.refuse = True
        client = await connect(proxy.url_for(scheme="https"))
        error = await failure_of(kind.view(client), kind.document)
        assert proxy.accepted == ALL_ATTEMPTS
    assert type(error) is TransportError
    assert_told(error, f"{proxy.host}:{proxy.port}", ALL_ATTEMPTS, may_have_executed=False)


@pytest.mark.parametrize("url", ["http://exa mple/?token=s3cret-query", "http://a..b/?token=s3cret-query"])
async def test_a_url_that_no_library_can_use_is_raised_at_once(connect: Connect, url: str) -> None:
    """An invalid URL is an error of the stock's family: when the client is made, or when it is called."""
    try:
        client = await connect(url)
    except GraphQLClientException as refused:
        assert "s3cret" not in str(refused)  # noqa: PT017 -- refused earlier is as good
        return
    error = await failure_of(client)
    assert issubclass(type(error), GraphQLTransportException)
    assert error.may_have_executed is False
    assert "s3cret" not in str(error)


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


# --- which operation it is ------------------------------------------------------------------------

SEVERAL = """
query Read { counter }
query Other { hello }
mutation Add { increment }
"""


async def test_a_document_with_several_operations_is_judged_by_the_one_named(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """What would run decides, not what stands beside it."""
    server.always(Answer.reset("before", execute=True))
    for operation, attempts in (("Read", ALL_ATTEMPTS), ("Other", ALL_ATTEMPTS), ("Add", 1)):
        error = await failure_of(simple, SEVERAL, operation=operation)
        assert_told(error, host_of(server), attempts, may_have_executed=operation == "Add")
    assert server.executions == {"counter": ALL_ATTEMPTS, "hello": ALL_ATTEMPTS, "increment": 1}


async def test_a_request_object_names_its_operation_too(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The name may come with the request instead of the call."""
    server.always(Answer.reset("before"))
    for operation, attempts in (("Read", ALL_ATTEMPTS), ("Add", 1)):
        request: Any = GraphQLRequest(SEVERAL, operation=operation)
        assert (await failure_of(simple, request)).attempts == attempts


UNJUDGEABLE = {
    "several, none named": (SEVERAL, None),
    "a name that is not there": (SEVERAL, "Missing"),
    "two queries, none named": ("query A { counter } query B { counter }", None),
    "a syntax error": ("query Read { counter", None),
    "nothing": ("", None),
    "blanks": ("  \n", None),
    "only a fragment": ("fragment F on Query { counter }", None),
    "deeper than a parser goes": ("{a" * 2400 + "}" * 2400, None),
}
unjudgeable = pytest.mark.parametrize(("document", "operation"), UNJUDGEABLE.values(), ids=UNJUDGEABLE.keys())


@unjudgeable
async def test_what_cannot_be_judged_is_a_mutation(
    simple: ProductionClient, server: ScriptedServer, document: str, operation: str | None
) -> None:
    """No guessing: it is sent once, and may have executed unless it has no operation that would run."""
    server.always(Answer.reset("before"))
    error = await failure_of(simple, document, operation=operation)
    may_have_executed = runs_nothing(document, operation) is None
    assert_told(error, host_of(server), 1, may_have_executed=may_have_executed)
    assert len(server.requests) == 1


async def test_what_cannot_be_judged_may_be_marked(simple: ProductionClient, server: ScriptedServer) -> None:
    """The caller who knows better says so."""
    server.always(Answer.reset("before"))
    for document, operation in UNJUDGEABLE.values():
        error = await failure_of(simple.with_options(idempotent=True), document, operation=operation)
        assert error.attempts == ALL_ATTEMPTS, document[:80]


async def test_only_queries_go_over_get(owner: ProductionClient, server: ScriptedServer) -> None:
    """A mutation over GET is refused before sending: aiohttp itself may send a GET twice."""
    refused = [(MUTATION, None), (SEVERAL, "Add"), (SEVERAL, None), ("query Read { counter", None)]
    for document, operation in refused:
        for view in (owner, owner.with_options(idempotent=True)):
            for send in (
                view.query(document, method="get", operation=operation),
                view.query(document, method="GET", operation=operation),
                view.get(GraphQLRequest(document), operation=operation),
            ):
                with pytest.raises(GraphQLClientException) as caught:
                    await send
                error: Any = caught.value
                assert error.attempts == 0
                assert error.elapsed >= 0
                assert error.may_have_executed is False
                assert host_of(server) in str(error)
                assert not any(secret in str(error) for secret in SECRETS)
    assert server.connections == 0


async def test_a_query_goes_over_get_and_is_retried(owner: ProductionClient, server: ScriptedServer) -> None:
    """GET changes nothing about queries, named ones beside a mutation too."""
    server.script(Answer.page(503))
    response = await owner.query(SEVERAL, method="get", operation="Read")
    assert response.data == {"counter": 0}
    assert [request.method for request in server.requests] == ["GET", "GET"]


# --- the options of a call ------------------------------------------------------------------------


async def test_the_options_of_a_view_hold_for_a_call_that_needs_an_introspection_first(
    connect: Connect, server: ScriptedServer
) -> None:
    """Validation comes before the call; the call then goes by its own options, not by the client's."""
    client = await connect(server.url, validate=True)
    server.on("Read", *[Answer.page(503)] * ALL_ATTEMPTS)
    error = await failure_of(client.with_options(retry=RetryPolicy(attempts=1)), QUERY)
    assert error.attempts == 1
    assert len([request for request in server.requests if request.query == QUERY]) == 1


async def test_a_mark_holds_for_a_call_that_needs_an_introspection_first(
    connect: Connect, server: ScriptedServer
) -> None:
    """with_options(idempotent=True) marks this call, the first one too."""
    client = await connect(server.url, validate=True)
    server.on("Add", *[Answer.reset("before", execute=True)] * ALL_ATTEMPTS)
    error = await failure_of(client.with_options(idempotent=True), MUTATION)
    assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=True)
    assert server.executions["increment"] == ALL_ATTEMPTS


async def test_an_unmarked_mutation_after_an_introspection_runs_once(
    connect: Connect, server: ScriptedServer
) -> None:
    """The query before it (an introspection) does not make a mutation a query."""
    client = await connect(server.url, validate=True)
    server.on("Add", *[Answer.reset("before", execute=True)] * ALL_ATTEMPTS)
    error = await failure_of(client, MUTATION)
    assert_told(error, host_of(server), 1, may_have_executed=True)
    assert server.executions["increment"] == 1


async def test_a_mutation_whose_introspection_failed_has_not_executed(
    connect: Connect, server: ScriptedServer
) -> None:
    """What failed was a query: the mutation was never sent."""
    client = await connect(server.url, validate=True)
    server.always(Answer.page(503))
    error = await failure_of(client, MUTATION)
    assert type(error) is HTTPStatusError
    assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=False)


# --- Retry-After ----------------------------------------------------------------------------------


def waits(caplog: pytest.LogCaptureFixture) -> list[float]:
    """What the log says about each wait."""
    return [record.__dict__["wait"] for record in caplog.records if "wait" in record.__dict__]


RETRY_AFTER_SEVEN = (
    {"Retry-After": "7"},
    {"Retry-After": " 7 "},
    {"retry-after": "7"},
    {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:07 GMT"},
)


async def test_retry_after_replaces_a_shorter_wait(
    client: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Both forms, on a page and on a GraphQL answer; a date is held against the answer's own Date."""
    for headers in RETRY_AFTER_SEVEN:
        for answer in (Answer.page(503, headers=headers), _graphql(503, headers)):
            caplog.clear()
            server.script(answer)
            with no_waiting():
                response = await client.query(QUERY)
            assert response.data == {"counter": 0}
            assert waits(caplog) == [7.0], headers


async def test_retry_after_never_shortens_a_wait(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Shorter, in the past, or unreadable: the computed wait stays."""
    policy = RetryPolicy(wait_initial=3, wait_max=3, jitter="none")
    for value in ("1", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "", "1.5", "²", "1, 2", "8, soon"):
        caplog.clear()
        server.script(Answer.page(503, headers={"Retry-After": value}))
        with no_waiting():
            await simple.with_options(retry=policy).query(QUERY)
        assert waits(caplog) == [3.0], value


async def test_retry_after_may_be_ignored(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """respect_retry_after=False leaves the computed wait."""
    server.script(Answer.page(503, headers={"Retry-After": "3600"}))
    await AS_QUERY.view(simple, respect_retry_after=False).query(QUERY)
    assert waits(caplog) == [0.0]


async def test_a_wait_that_does_not_fit_is_not_begun(owner: ProductionClient, server: ScriptedServer) -> None:
    """What is left of the total is too short for it: the failure is raised at once."""
    for value in ("3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"):
        forget(server)
        server.always(Answer.page(503, headers={"Retry-After": value}))
        error = await failure_of(owner)
        assert error.status == 503
        assert error.retry_after >= 3600
        assert error.elapsed < 5
        assert_told(error, host_of(server), 1, may_have_executed=False)
    endless = owner.with_options(timeout=TimeoutPolicy(total=None))
    server.always(Answer.page(503, headers={"Retry-After": "9" * 400}))
    assert (await failure_of(endless)).attempts == 1


async def test_an_answer_whose_wait_does_not_fit_is_returned_at_once(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A GraphQL answer is returned, also when there is no time for another."""
    server.always(Answer.graphql(503, errors=["no"], headers={"Retry-After": "3600"}))
    assert [error.message for error in (await simple.query(QUERY)).errors] == ["no"]
    assert len(server.requests) == 1


async def test_a_computed_wait_that_does_not_fit_is_not_begun(
    connect: Connect, server: ScriptedServer
) -> None:
    """The total bounds our own waits too."""
    policy = RetryPolicy(wait_initial=60, wait_max=60, jitter="none")
    client = await connect(server.url, retry=policy, timeout=TimeoutPolicy(total=2))
    server.always(Answer.page(503))
    error = await failure_of(client)
    assert error.elapsed < 1
    assert_told(error, host_of(server), 1, may_have_executed=False)


async def test_a_hostile_retry_after_breaks_nothing(client: ProductionClient, server: ScriptedServer) -> None:
    """Whatever a header says, what comes out is the server's failure."""
    for value in (
        "9" * 5000,
        "Wed, 21 Oct 99999 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999999999",
    ):
        server.always(Answer.page(503, headers={"Retry-After": value}))
        error = await failure_of(AS_QUERY.view(client))
        assert type(error) is HTTPStatusError, value
        assert error.status == 503


# --- the log --------------------------------------------------------------------------------------


async def test_each_retry_leaves_one_record_with_the_facts(
    owner: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Four attempts, three records on "graphql_prod", each with the facts in its extra, and no secret."""
    caplog.set_level(logging.DEBUG, "graphql_prod")
    server.script(Answer.page(502), Answer.reset("before"), Answer.login_page(), Answer.page(404))
    await failure_of(owner)
    records = [record.__dict__ for record in caplog.records if record.name == "graphql_prod"]
    shared: dict[str, Any] = {
        "host": host_of(server),
        "operation_name": "Read",
        "wait": 0.0,
        "levelname": "WARNING",
    }
    facts: list[dict[str, Any]] = [
        {"attempt": 1, "status": 502, "reach": "answered", "reason": "502 Bad Gateway"},
        {"attempt": 2, "status": None, "reach": "ambiguous", "reason": "connection lost"},
        {"attempt": 3, "status": 200, "reach": "invalid", "reason": "no GraphQL answer"},
    ]
    wanted = [shared | each for each in facts]
    assert [{key: record[key] for key in shared | facts[0]} for record in records] == wanted
    for record in caplog.records:
        assert not any(secret in f"{record.getMessage()} {record.__dict__}" for secret in SECRETS)


async def test_a_call_that_succeeds_leaves_no_record(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is for retries."""
    caplog.set_level(logging.DEBUG, "graphql_prod")
    await simple.query(QUERY)
    assert not [record for record in caplog.records if record.name == "graphql_prod"]


async def test_a_record_names_the_operation(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The operation's name is a fact, the document is not."""
    server.script(Answer.page(502))
    await simple.query('query Read { echo(value: "s3cret-literal") }', operation="Read")
    assert [record.__dict__["operation_name"] for record in caplog.records] == ["Read"]
    assert "s3cret" not in f"{caplog.text} {[record.__dict__ for record in caplog.records]}"


# --- the idempotency key --------------------------------------------------------------------------


def keys(server: ScriptedServer, name: str = "Idempotency-Key") -> list[str | None]:
    return [request.headers.get(name) for request in server.requests]


async def test_the_key_is_fresh_for_each_call_and_the_same_on_each_attempt(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """The server can tell a repeated attempt from a second call."""
    server.script(Answer.reset("before"), Answer.page(503), Answer(), Answer.page(500))
    view = MARKED[1].view(owner)
    await view.query(MUTATION)
    await view.query(MUTATION)
    first, second = keys(server)[:3], keys(server)[3:]
    assert len(first) == 3
    assert len(second) == 2
    assert len(set(first)) == len(set(second)) == 1
    assert first[0]
    assert second[0]
    assert first[0] != second[0]


async def test_a_query_carries_no_key(owner: ProductionClient, server: ScriptedServer) -> None:
    """There is nothing to be idempotent about."""
    await MARKED[1].view(owner).query(QUERY)
    await MARKED[1].view(owner).query(SEVERAL, operation="Read")
    assert keys(server) == [None, None]


async def test_a_key_of_the_callers_is_kept(simple: ProductionClient, server: ScriptedServer) -> None:
    """Who has a key of his own sends that one, in whatever spelling."""
    server.script(Answer.page(503))
    await MARKED[1].view(simple).query(MUTATION, headers={"idempotency-KEY": "mine"})
    assert keys(server) == ["mine", "mine"]


async def test_the_request_of_the_caller_stays_as_it_is(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A request that is used again gets a new key: the old one was not written into it."""
    request = GraphQLRequest(MUTATION)
    await MARKED[1].view(simple).query(request)
    await MARKED[1].view(simple).query(request)
    first, second = keys(server)
    assert first != second
    assert request.headers == {}


async def test_what_is_taken_back_carries_no_key(owner: ProductionClient, server: ScriptedServer) -> None:
    """A key would tell the server that the mutation is repeated; one of the caller's is sent as it is."""
    await TAKEN_BACK[1].view(owner).query(MUTATION)
    await TAKEN_BACK[1].view(owner).query(MUTATION, headers={"idempotency-KEY": "mine"})
    assert keys(server) == [None, "mine"]


async def test_a_mark_alone_sends_no_key(simple: ProductionClient, server: ScriptedServer) -> None:
    """The header is sent by those who named one."""
    await simple.with_options(idempotent=True).query(MUTATION)
    assert keys(server) == [None]


# --- cancels --------------------------------------------------------------------------------------

YES_TO_ALL = {
    "policy": AT_ONCE,
    "retry_always": tenacity.AsyncRetrying(
        retry=tenacity.retry_always, stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none()
    ),
    "predicate": tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: True), stop=tenacity.stop_never
    ),
    "retry_if_exception_type(BaseException)": tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(BaseException)
    ),
}
yes_to_all = pytest.mark.parametrize("retry", YES_TO_ALL.values(), ids=YES_TO_ALL.keys())


@yes_to_all
async def test_a_cancel_in_mid_attempt_is_neither_retried_nor_swallowed(
    client: ProductionClient, server: ScriptedServer, retry: Any
) -> None:
    """A cancel ends the task as cancelled, though a predicate says True to everything."""
    server.always(Answer.hang())
    task = asyncio.create_task(client.with_options(retry=retry).query(QUERY))
    await server.received(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert client.stats().in_flight == 0
    server.always(None)
    assert (await client.query(QUERY)).data == {"counter": 0}
    assert len(server.requests) == 2


class Stopped(clock.Clock):
    """Waits never end; a test learns that one began."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[float] = asyncio.Queue()

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self.waiting.put_nowait(seconds)
        return super().wake(waiter, 3600)


@yes_to_all
async def test_a_cancel_during_a_wait_is_neither_retried_nor_swallowed(
    owner: ProductionClient, server: ScriptedServer, retry: Any
) -> None:
    """The wait between attempts is left at once."""
    server.always(Answer.page(503))
    with clock.using(Stopped()) as stopped:
        task = asyncio.create_task(owner.with_options(retry=retry).query(QUERY))
        assert isinstance(stopped, Stopped)
        await asyncio.wait_for(stopped.waiting.get(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()
    assert len(server.requests) == 1
    assert owner.stats().in_flight == 0


async def test_a_deadline_of_the_callers_ends_the_call_as_his(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """asyncio.timeout around a call gives its own TimeoutError, not one of ours."""
    server.always(Answer.hang())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await owner.query(QUERY)
    assert type(caught.value) is TimeoutError
    assert len(server.requests) == 1


async def test_closing_during_a_wait_raises_the_last_failure(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A call that waits for its next attempt gives up when the client closes, and says why."""
    server.always(Answer.page(503))
    with clock.using(Stopped()) as stopped:
        running = await _started(owner.query(QUERY))
        assert isinstance(stopped, Stopped)
        await asyncio.wait_for(stopped.waiting.get(), 5)
        await owner.close()
        error = await running.error()
    assert type(error) is HTTPStatusError
    assert_told(error, host_of(server), 1, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_call_that_closing_cuts_off_says_so(
    client: ProductionClient, server: ScriptedServer, kind: Kind
) -> None:
    """Leaving by an exception cuts what is under way: ClientClosedError with the facts, no bare cancel."""
    server.always(Answer.hang(execute=True))
    running = await _started(client.query(kind.document))
    await server.received(1)
    async with asyncio.timeout(0.8):  # leaving by an exception is a shutdown with deadline 0
        with pytest.raises(ZeroDivisionError):
            async with client:
                raise ZeroDivisionError
    error = await running.error()
    assert type(error) is ClientClosedError
    assert_told(error, host_of(server), 1, may_have_executed=kind is UNMARKED)


# --- tenacity narrows -----------------------------------------------------------------------------


def tenacious(retry: Any = tenacity.retry_always, **more: Any) -> tenacity.AsyncRetrying:
    return tenacity.AsyncRetrying(
        **{"retry": retry, "stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none(), **more}
    )


async def test_a_tenacity_object_counts_and_waits_as_it_says(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stop and its wait are taken."""
    server.always(Answer.page(503))
    view = simple.with_options(
        retry=tenacious(wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(2)))
    )
    with no_waiting():
        error = await failure_of(view)
    assert error.attempts == 3
    assert waits(caplog) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "document"),
    [
        (Answer.page(404), QUERY),
        (Answer.page(503), MUTATION),
        (Answer.reset("before", execute=True), MUTATION),
        (Answer.redirect("/x"), QUERY),
    ],
    ids=["404", "mutation answered 503", "mutation reset", "redirect"],
)
async def test_a_tenacity_object_cannot_widen_the_table(
    simple: ProductionClient, server: ScriptedServer, answer: Answer, document: str
) -> None:
    """A predicate that says True to everything repeats nothing that the table does not."""
    server.always(answer)
    error = await failure_of(simple.with_options(retry=tenacious()), document)
    assert error.attempts == 1
    assert server.executions["increment"] <= 1


async def test_a_tenacity_object_may_narrow_the_table(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The stock guide's recipe, retry on GraphQLTransportException, still means just that."""
    view = simple.with_options(retry=tenacious(tenacity.retry_if_exception_type(GraphQLTransportException)))
    server.always(Answer.page(503))
    assert (await failure_of(view)).attempts == 1
    server.always(Answer.reset("before"))
    assert (await failure_of(view)).attempts == 3


async def test_a_predicate_about_exceptions_sees_a_returned_failure_as_one(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A 503 in GraphQL's own media type is a failure for retry_if_exception_type too; still returned."""
    view = simple.with_options(retry=tenacious(tenacity.retry_if_exception_type(GraphQLRequestException)))
    server.always(_graphql(503))
    assert (await view.query(QUERY)).errors
    assert len(server.requests) == 3


async def test_a_predicate_about_results_sees_the_answer(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """retry_if_result is asked about the answer that would be returned, and about no exception."""
    seen: list[Any] = []

    def unwanted(response: Any) -> bool:
        seen.append(response.json)
        return False

    view = simple.with_options(retry=tenacious(tenacity.retry_if_result(unwanted)))
    server.always(_graphql(503))
    assert (await view.query(QUERY)).errors
    assert seen == [{"errors": [{"message": "no"}]}]
    assert len(server.requests) == 1


async def test_one_tenacity_object_serves_many_calls_at_once(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """Each call counts its own attempts."""
    server.always(Answer.page(503))
    view = simple.with_options(retry=tenacious())
    errors = await asyncio.gather(*(failure_of(view) for _ in range(10)))
    assert [error.attempts for error in errors] == [3] * 10


# --- the budget -----------------------------------------------------------------------------------


class Simulated(clock.Clock):
    """Time that passes only while everybody waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._order = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def monotonic(self) -> float:
        return self.now

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self._order += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._order, waiter))
        self._changed.set()
        return asyncio.Handle(lambda: None, (), waiter.get_loop())

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wake(waiter, seconds)
        await waiter

    async def run(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let time pass until all tasks have ended: on to the next alarm whenever all of them wait."""
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        while alive := sum(not task.done() for task in tasks):
            if len(self._waiting) < alive:
                self._changed.clear()
                await self._changed.wait()
                continue
            self.now, _, waiter = heapq.heappop(self._waiting)
            waiter.set_result(None)
            self._changed.clear()
            await self._changed.wait()


TASKS, MINUTE, PACE = 50, 60.0, 2.0


async def _offer(time: Simulated, client: ProductionClient, calls: list[float], start: float) -> None:
    """One task of a service: a call every two seconds, for a minute, whatever comes of it."""
    await time.sleep(start)
    while time.now < 1000.0 + MINUTE:
        calls.append(time.now)
        with contextlib.suppress(GraphQLRequestException):
            await client.query(QUERY)
        await time.sleep(PACE)


async def test_an_outage_sees_little_more_than_what_is_offered(server: ScriptedServer) -> None:
    """50 tasks, a minute, every answer a 503: at most 1.2 times the calls and the floor, not 4 times."""
    server.always(Answer.page(503))
    dice, calls = random.Random(1), list[float]()
    with clock.using(Simulated()) as time:
        assert isinstance(time, Simulated)
        async with ProductionClient(server.url, validate=False) as client:
            views = [client, client.with_options(timeout=60), client.with_options(retry=RetryPolicy())]
            tasks = [
                asyncio.create_task(_offer(time, views[each % 3], calls, dice.uniform(0, PACE)))
                for each in range(TASKS)
            ]
            await time.run(tasks)
            await asyncio.gather(*tasks)
            elapsed = time.now - 1000.0
            attempts, stats = len(server.requests), client.stats()
            assert elapsed < MINUTE + 30
            assert len(calls) < attempts <= 1.2 * len(calls) + 10 * elapsed
            assert attempts < 2 * len(calls)
            assert stats.retries == attempts - len(calls)
            assert stats.budget_rejections > 0
            # Recovery: after a quiet window the floor is there again, and a retry goes through.
            time.now += 11.0
            assert client.stats().budget == 100.0
            server.always(None)
            server.script(Answer.page(503))
            recovered = asyncio.create_task(_once(client))
            await time.run([recovered])
            await recovered
            assert client.stats().retries == stats.retries + 1


async def _once(client: ProductionClient) -> None:
    assert (await client.query(QUERY)).data == {"counter": 0}


async def test_the_budget_is_shared_by_a_client_and_its_views(
    connect: Connect, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One account: what a view spends is gone for all of them; a policy of its own brings no new one."""
    server.always(Answer.page(503))
    policy = RetryPolicy(
        wait_initial=0, wait_max=0, budget=RetryBudget(ratio=0, min_per_second=0.2, window=10)
    )
    client = await connect(server.url, retry=policy)
    views = [
        client.with_options(idempotent=True),
        client,
        client.with_options(retry=AT_ONCE),
        client.with_options(retry=RetryPolicy(wait_initial=0, wait_max=0, budget=None)),
        client.with_options(timeout=20).with_options(retry=tenacious()),
    ]
    errors = [await failure_of(view) for view in views]
    assert [error.attempts for error in errors] == [3, 1, 1, 1, 1]
    assert client.stats().budget_rejections == 5
    assert all("budget" in "".join(error.__notes__) for error in errors)
    refused = [record for record in caplog.records if "budget" in record.getMessage()]
    assert len(refused) == 5
    assert len(waits(caplog)) == 2


async def test_a_spent_budget_returns_an_answer(connect: Connect, server: ScriptedServer) -> None:
    """Without a retry left, what the stock would return is returned."""
    server.always(_graphql(503))
    client = await connect(
        server.url, retry=RetryPolicy(wait_initial=0, budget=RetryBudget(ratio=0, min_per_second=0))
    )
    assert (await client.query(QUERY)).errors
    assert len(server.requests) == 1


async def test_without_a_budget_nothing_is_refused(simple: ProductionClient, server: ScriptedServer) -> None:
    """budget=None: each call has all its attempts."""
    server.always(Answer.page(503))
    errors = await asyncio.gather(*(failure_of(simple) for _ in range(40)))
    assert [error.attempts for error in errors] == [ALL_ATTEMPTS] * 40
    assert simple.stats().budget is None
