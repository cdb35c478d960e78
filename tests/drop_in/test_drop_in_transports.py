"""A transport of the caller's is used as the stock client uses it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from aiographql.client import (
    AiohttpTransport,
    GraphQLClient,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLResponse,
    GraphQLTransport,
    HttpxTransport,
)
from aiographql.client.exceptions import GraphQLTransportException
from aiographql.client.serializer import JSONSerializer
from dropping_in import ADD, GREET, STOCK_HEADERS, a_session

from graphql_prod import (
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Scripted(GraphQLTransport):
    """A transport of a user's own: it does what it is told, then answers."""

    def __init__(self, *acts: BaseException | dict[str, Any]) -> None:
        self.acts = list(acts)
        self.calls: list[tuple[str, GraphQLRequest, Any, dict[str, Any]]] = []
        self.closed = 0

    async def request(
        self, method: str, request: GraphQLRequest, serializer: Any, **kwargs: Any
    ) -> GraphQLResponse:
        self.calls.append((method, request, serializer, kwargs))
        act = self.acts.pop(0) if self.acts else {"data": {"hello": "scripted"}}
        if isinstance(act, BaseException):
            raise act
        return GraphQLResponse(request=request, json=act)

    async def close(self) -> None:
        self.closed += 1


class Stuck(Scripted):
    """A transport that never answers."""

    cancelled = 0

    async def request(
        self, method: str, request: GraphQLRequest, serializer: Any, **kwargs: Any
    ) -> GraphQLResponse:
        self.calls.append((method, request, serializer, kwargs))
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        finally:
            self.cancelled += 1


def caused(cause: Exception) -> GraphQLTransportException:
    """What the stock transports raise."""
    error = GraphQLTransportException(f"HTTP request failed: {cause}")
    error.__cause__ = cause
    return error


KEY: Any = aiohttp.client_reqrep.ConnectionKey("h", 80, False, True, None, None, None)
UNSENT: list[Callable[[], Exception]] = [
    lambda: caused(aiohttp.ClientConnectorError(KEY, OSError(111, "refused"))),
    lambda: caused(aiohttp.ConnectionTimeoutError()),
    lambda: caused(httpx.ConnectError("refused")),
    lambda: caused(httpx.ConnectTimeout("slow")),
    lambda: caused(httpx.PoolTimeout("full")),
    lambda: ConnectionRefusedError(111, "refused"),
    lambda: socket.gaierror(-2, "unknown"),
]
AMBIGUOUS: list[Callable[[], Exception]] = [
    lambda: caused(aiohttp.ServerDisconnectedError()),
    lambda: caused(aiohttp.ClientOSError(104, "reset")),
    lambda: caused(aiohttp.ClientPayloadError("cut")),
    lambda: caused(httpx.ReadError("reset")),
    lambda: caused(httpx.ReadTimeout("slow")),
    lambda: caused(httpx.RemoteProtocolError("cut")),
    lambda: ConnectionResetError(104, "reset"),
    lambda: BrokenPipeError(32, "broken"),
    TimeoutError,
    aiohttp.ServerDisconnectedError,
]


class Throttled(Exception):  # noqa: N818 - anybody's
    """Somebody's own exception."""


class UpstreamTimeout(TimeoutError):  # noqa: N818
    """Somebody's own timeout."""


class Lost(ConnectionResetError):  # noqa: N818
    """Somebody's own reset."""


class Refused(GraphQLTransportException):
    """Somebody's own subclass of the stock's."""


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    """An exception that takes no attributes."""

    code: int = 7


@contextlib.asynccontextmanager
async def custom(transport: GraphQLTransport) -> AsyncIterator[ProductionClient]:
    """A client of ours over a transport of a user's."""
    with no_waiting():
        async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
            yield client


class TestCustomTransport:
    async def test_asked_as_stock_does(self, kind: type[GraphQLClient]) -> None:
        """A custom transport gets the method, the finished request, the serializer and the call's session."""
        transport, serializer = Scripted(), JSONSerializer()
        async with (
            aiohttp.ClientSession() as session,
            kind(
                "http://h/graphql",
                {"X-A": "1"},
                validate=False,
                serializer=serializer,
                transport=transport,
            ) as client,
        ):
            response = await client.query(GREET, "get", variables={"name": "x"}, session=session)
            await client.query(GREET)
        (method, request, used, kwargs), (default, *_, without) = transport.calls
        assert response.data == {"hello": "scripted"}
        assert response.request == request
        assert (method, default) == ("get", "post")
        assert request.headers == {**STOCK_HEADERS, "X-A": "1"}
        assert request.variables == {"name": "x"}
        assert used is serializer
        assert kwargs == {"session": session}
        assert without == {"session": None}

    async def test_keeps_its_own_session(self, kind: type[GraphQLClient]) -> None:
        """A session given to the client is not forced upon a transport that was given beside it."""
        transport = Scripted()
        async with (
            aiohttp.ClientSession() as session,
            kind("http://h/graphql", session=session, validate=False, transport=transport) as client,
        ):
            await client.query(GREET)
        assert transport.calls[0][3] == {"session": None}

    async def test_response_is_handed_through(self, kind: type[GraphQLClient]) -> None:
        """The response object is the transport's own."""

        class Richer(GraphQLResponse):
            extra = 1

        class Transport(Scripted):
            async def request(self, method: str, request: Any, serializer: Any, **kwargs: Any) -> Richer:
                return Richer(request=request, json={"data": {"hello": "x"}})

        async with kind("http://h/graphql", validate=False, transport=Transport()) as client:
            assert type(await client.query(GREET)) is Richer

    async def test_closed_with_the_client(self, kind: type[GraphQLClient]) -> None:
        """Closing the client closes the transport that it was given."""
        transport = Scripted()
        async with kind("http://h/graphql", validate=False, transport=transport) as client:
            await client.query(GREET)
            assert transport.closed == 0
        assert transport.closed == 1

    async def test_closing_that_fails(self, kind: type[GraphQLClient]) -> None:
        """What a transport raises on being closed is not lost."""

        class Transport(Scripted):
            async def close(self) -> None:
                raise Throttled

        with pytest.raises(Throttled):
            await kind("http://h/graphql", transport=Transport()).close()

    @pytest.mark.parametrize("library", ["aiohttp", "httpx"])
    @pytest.mark.parametrize("own", [True, False])
    async def test_stock_transports(
        self, server: ScriptedServer, kind: type[GraphQLClient], library: str, own: bool
    ) -> None:
        """A stock transport is used with the session it has, or one it opens, which the client closes."""
        base: Any = AiohttpTransport if library == "aiohttp" else HttpxTransport

        class Watched(base):  # type: ignore[misc]
            closed = 0

            async def close(self) -> None:
                self.closed += 1
                await super().close()

        async with a_session(library, Mark="own") as session:
            transport = Watched(server.url, session=session if own else None)
            try:
                async with kind(server.url, validate=False, transport=transport) as client:
                    await client.query(GREET)
                    await client.query(GREET, method="get")
                assert len(server.requests) == 2
                assert {seen.headers.get("Mark") for seen in server.requests} == {"own" if own else None}
                assert not getattr(session, "closed", getattr(session, "is_closed", None))
                assert transport.closed == 1
            finally:
                await transport.close()

    @pytest.mark.parametrize("library", ["aiohttp", "httpx"])
    async def test_stock_transport_beside_a_session(
        self, server: ScriptedServer, kind: type[GraphQLClient], library: str
    ) -> None:
        """A transport's own session counts, not the one given to the client beside it."""
        make: Any = AiohttpTransport if library == "aiohttp" else HttpxTransport
        async with a_session(library, Mark="transport") as inner, a_session(library, Mark="client") as outer:
            transport = make(server.url, session=inner)
            async with kind(server.url, session=outer, validate=False, transport=transport) as client:
                await client.query(GREET)
        assert server.requests[0].headers["Mark"] == "transport"

    @pytest.mark.parametrize("library", ["aiohttp", "httpx"])
    @pytest.mark.parametrize("own", [True, False])
    async def test_stock_transports_are_hardened(
        self, server: ScriptedServer, library: str, own: bool
    ) -> None:
        """Over a stock transport a query survives disconnects, and a mutation is not repeated."""
        make: Any = AiohttpTransport if library == "aiohttp" else HttpxTransport
        async with a_session(library) as session:
            transport = make(server.url, session=session if own else None)
            try:
                with no_waiting():
                    async with ProductionClient(server.url, validate=False, transport=transport) as client:
                        server.script(Answer.disconnect(), Answer.disconnect())
                        assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
                        assert client.stats().retries == 2
                        server.script(Answer.reset("headers", execute=True))
                        with pytest.raises(GraphQLTransportException) as caught:
                            await client.query(ADD)
                error: Any = caught.value
                assert (error.attempts, error.may_have_executed) == (1, True)
                assert server.executions["increment"] == 1
            finally:
                await transport.close()

    @pytest.mark.parametrize("make", UNSENT, ids=lambda make: repr(make().__cause__ or make()))
    async def test_unsent(self, make: Callable[[], Exception]) -> None:
        """What was never sent is tried again, a mutation too."""
        for document in (GREET, ADD):
            transport = Scripted(*(make() for _ in range(3)))
            async with custom(transport) as client:
                assert (await client.query(document)).data == {"hello": "scripted"}
                transport.acts = [make() for _ in range(9)]
                with pytest.raises((GraphQLTransportException, OSError)) as caught:
                    await client.query(document)
            error: Any = caught.value
            assert len(transport.calls) == 8
            assert (error.attempts, error.may_have_executed) == (4, False)

    @pytest.mark.parametrize("make", AMBIGUOUS, ids=lambda make: repr(make().__cause__ or make()))
    async def test_ambiguous(self, make: Callable[[], Exception]) -> None:
        """What may have been sent is tried again for a query only."""
        for document, facts in ((GREET, (4, False)), (ADD, (1, True))):
            transport = Scripted(*(make() for _ in range(9)))
            async with custom(transport) as client:
                with pytest.raises((GraphQLTransportException, OSError)) as caught:
                    await client.query(document)
            error: Any = caught.value
            assert (error.attempts, error.may_have_executed) == facts
            assert len(transport.calls) == error.attempts
            assert error.elapsed >= 0

    @pytest.mark.parametrize(
        ("kind_of_error", "attempts"),
        [(Throttled, 1), (Frozen, 1), (KeyError, 1), (UpstreamTimeout, 4), (Lost, 4), (Refused, 1)],
    )
    async def test_own_exceptions(self, kind_of_error: type[Exception], attempts: int) -> None:
        """A user's own exception comes out as it is, the very object, with the facts on it."""
        errors = [kind_of_error() for _ in range(4)]
        transport = Scripted(*errors)
        with no_waiting():
            async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
                with pytest.raises(kind_of_error) as caught:
                    await client.query(GREET)
        assert caught.value is errors[attempts - 1]
        assert len(transport.calls) == attempts
        if kind_of_error is not Frozen:
            error: Any = caught.value
            assert (error.attempts, error.may_have_executed) == (attempts, False)

    async def test_own_exception_of_a_mutation(self) -> None:
        """Of an exception that nobody knows one cannot tell whether the mutation was sent."""
        transport = Scripted(Throttled())
        async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
            with pytest.raises(Throttled) as caught:
                await client.query(ADD)
        error: Any = caught.value
        assert (error.attempts, error.may_have_executed) == (1, True)

    async def test_same_exception_again(self) -> None:
        """An exception object that is raised by several calls tells the facts of the last one."""
        error: Any = Throttled()
        transport = Scripted(error, error)
        async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
            with pytest.raises(Throttled):
                await client.query(GREET)
            assert error.may_have_executed is False
            with pytest.raises(Throttled):
                await client.query(ADD)
            assert error.may_have_executed is True

    async def test_exception_with_attributes_of_its_own(self) -> None:
        """An exception that counts attempts of its own still says whether a mutation may have run."""
        error: Any = Throttled()
        error.attempts = 17
        transport = Scripted(error)
        async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
            with pytest.raises(Throttled):
                await client.query(ADD)
        assert error.may_have_executed is True

    async def test_request_exception(self) -> None:
        """A GraphQLRequestException of a transport that hides the status is final, and unchanged."""
        response = GraphQLResponse(request=GREET, json={"x": 1})
        raised = GraphQLRequestException(response)
        transport = Scripted(raised)
        async with ProductionClient("http://h/graphql", validate=False, transport=transport) as client:
            with pytest.raises(GraphQLRequestException) as caught:
                await client.query(GREET)
        assert caught.value is raised
        assert len(transport.calls) == 1

    async def test_error_codes(self) -> None:
        """Answers of a custom transport are judged like any: an error code may be worth another attempt."""
        busy = {"data": None, "errors": [{"message": "busy", "extensions": {"code": "BUSY"}}]}
        transport = Scripted(busy, busy)
        config = ProductionConfig(retry=RetryPolicy(error_codes=frozenset({"BUSY"})))
        with no_waiting():
            async with ProductionClient(
                "http://h/graphql", validate=False, transport=transport, config=config
            ) as client:
                assert (await client.query(GREET)).data == {"hello": "scripted"}
        assert len(transport.calls) == 3

    @pytest.mark.parametrize("document", [GREET, ADD], ids=["query", "mutation"])
    async def test_total(self, document: str) -> None:
        """The total holds for a custom transport: it is cancelled, and the error is ours."""
        transport = Stuck()
        config = ProductionConfig(timeout=TimeoutPolicy(total=0.03))
        async with ProductionClient(
            "http://h/graphql", validate=False, transport=transport, config=config
        ) as client:
            with pytest.raises(RequestTimeoutError) as caught:
                await client.query(document)
        assert caught.value.phase == "total"
        assert (caught.value.attempts, caught.value.may_have_executed) == (1, document is ADD)
        assert transport.cancelled == 1

    async def test_attempt(self) -> None:
        """So does the limit of one attempt, after which a query is tried again."""
        transport = Stuck()
        config = ProductionConfig(timeout=TimeoutPolicy(total=10, attempt=0.02))
        with no_waiting():
            async with ProductionClient(
                "http://h/graphql", validate=False, transport=transport, config=config
            ) as client:
                with pytest.raises(RequestTimeoutError) as caught:
                    await client.query(GREET)
        assert (caught.value.phase, caught.value.attempts) == ("attempt", 4)
        assert transport.cancelled == 4

    @pytest.mark.parametrize("library", ["aiohttp", "httpx"])
    async def test_contradiction(self, library: str) -> None:
        """A transport of one library and a session of the other are refused, as neither could be used."""
        make: Any = AiohttpTransport if library == "httpx" else HttpxTransport
        async with a_session(library) as session:
            with pytest.raises(ConfigurationError, match="contradict"):
                ProductionClient("http://h/graphql", session=session, transport=make("http://h/graphql"))
