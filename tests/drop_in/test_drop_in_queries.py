"""Queries and errors come out as they do from the stock client."""

from __future__ import annotations

import base64
import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import (
    DefaultGraphQLCodec,
    GraphQLClient,
    GraphQLClientException,
    GraphQLClientValidationException,
    GraphQLCodecException,
    GraphQLIntrospectionException,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLResponse,
)
from aiographql.client.exceptions import GraphQLTransportException
from aiographql.client.serializer import JSONSerializer
from dropping_in import ADD, BOTH, GREET, STOCK_HEADERS, Variant, a_session

from graphql_prod import (
    ClientClosedError,
    ProductionClient,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Callable


def public_methods() -> list[str]:
    """The stock client's."""
    return [
        name for name, member in vars(GraphQLClient).items() if not name.startswith("_") and callable(member)
    ]


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of parameters."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


class TestShape:
    @pytest.fixture(autouse=True)
    def nothing_left_behind(self) -> None:
        """These tests only look; the check would cost more than they do."""

    def test_subclass(self) -> None:
        """Ours is a stock client to isinstance."""
        assert issubclass(ProductionClient, GraphQLClient)
        assert isinstance(ProductionClient("http://h/graphql"), GraphQLClient)

    def test_constructor(self) -> None:
        """The stock arguments come first, in the same order with the same defaults; ours are by name only."""
        stock, ours = shape(GraphQLClient.__init__), shape(ProductionClient.__init__)
        assert ours[: len(stock)] == stock
        for name, how, default in ours[len(stock) :]:
            assert how is inspect.Parameter.KEYWORD_ONLY, name
            assert default is not inspect.Parameter.empty, name

    @pytest.mark.parametrize("name", public_methods())
    def test_methods(self, name: str) -> None:
        """Every public method takes what the stock's takes; what we add comes after it and is optional."""
        stock, ours = getattr(GraphQLClient, name), getattr(ProductionClient, name)
        assert shape(ours)[: len(shape(stock))] == shape(stock)
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(stock)
        for parameter, how, default in shape(ours)[len(shape(stock)) :]:
            optional = default is not inspect.Parameter.empty
            variadic = how in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            assert optional or variadic, parameter

    def test_all_methods_known(self) -> None:
        """The list above is not empty for want of looking."""
        assert {"query", "get", "post", "query_data_as", "subscribe", "close"} <= set(public_methods())


class TestQueries:
    async def test_text(self, server: ScriptedServer, variant: Variant) -> None:
        """A text is executed, and the response says what was asked and answered."""
        async with variant.client(server) as client:
            response = await client.query(GREET, variables={"name": "you"})
        assert isinstance(response, GraphQLResponse)
        assert response.data == {"hello": "Hello, you!"}
        assert response.json == {"data": {"hello": "Hello, you!"}}
        assert response.errors == []
        assert response.query == GREET
        assert isinstance(response.request, GraphQLRequest)
        assert response.request == GraphQLRequest(
            GREET, variables={"name": "you"}, headers=response.request.headers
        )
        assert response.request.headers == STOCK_HEADERS

    @pytest.mark.parametrize("method", ["query", "post", "get"])
    async def test_methods(self, server: ScriptedServer, variant: Variant, method: str) -> None:
        """query(), post() and get() take a text or a request, and send all its parts."""
        parts: dict[str, Any] = {
            "operation": "Greet",
            "variables": {"name": "ü"},
            "extensions": {"persisted": {"version": 1}},
            "headers": {"X-Part": "1"},
        }
        async with variant.client(server) as client:
            call = getattr(client, method)
            responses = [await call(GREET, **parts), await call(GraphQLRequest(GREET, **parts))]
        assert [response.data for response in responses] == [{"hello": "Hello, ü!"}] * 2
        for seen in server.requests:
            assert seen.method == ("GET" if method == "get" else "POST")
            assert (seen.query, seen.operation_name, seen.variables) == (GREET, "Greet", {"name": "ü"})
            assert seen.extensions == {"persisted": {"version": 1}}
            assert seen.headers["X-Part"] == "1"
            assert seen.headers["Accept"] == STOCK_HEADERS["Accept"]

    async def test_method(self, server: ScriptedServer, variant: Variant) -> None:
        """The method may be given to the client or to the call, in any case; post is the default."""
        methods = ["get", "GET", "post", "POST", None]
        for method in methods:
            async with variant.client(server, method=method) as client:
                await client.query(GREET)
        async with variant.client(server) as client:
            for method in methods:
                await client.query(GREET, method=method)
        assert [seen.method for seen in server.requests] == ["GET", "GET", "POST", "POST", "POST"] * 2

    async def test_wrong_method(self, server: ScriptedServer, variant: Variant) -> None:
        """Any other method is refused before anything is sent."""
        async with variant.client(server) as client:
            with pytest.raises(GraphQLClientException, match=r"(?i)put"):
                await client.query(GREET, method="put")
        assert server.requests == []

    async def test_by_position(self, server: ScriptedServer, variant: Variant) -> None:
        """All arguments may be given by position, in the stock's order."""
        async with a_session(variant.library, Mark="s") as session, variant.client(server) as client:
            response = await client.query(
                GraphQLRequest(BOTH, "Count", variables={"a": 1}),
                "get",
                {"X-A": "1"},
                "Greet",
                {"b": 2},
                {"c": 3},
                session,
            )
        (seen,) = server.requests
        assert response.data == {"hello": "Hello, world!"}
        assert (seen.method, seen.headers["X-A"], seen.headers["Mark"]) == ("GET", "1", "s")
        assert (seen.operation_name, seen.variables, seen.extensions) == ("Greet", {"a": 1, "b": 2}, {"c": 3})

    async def test_arguments_over_request(self, server: ScriptedServer, variant: Variant) -> None:
        """What is given to the call is laid over the request, which stays as it was."""
        request = GraphQLRequest(
            BOTH, "Greet", variables={"a": 1, "b": 1}, extensions={"e": 1}, headers={"X-A": "r", "X-B": "r"}
        )
        before = dataclasses.replace(request, operation="Greet")
        async with variant.client(server) as client:
            response = await client.query(
                request, operation="Count", variables={"b": 2}, extensions={"f": 2}, headers={"X-B": "m"}
            )
        (seen,) = server.requests
        assert response.data == {"counter": 0}
        assert (seen.variables, seen.extensions) == ({"a": 1, "b": 2}, {"e": 1, "f": 2})
        assert (seen.headers["X-A"], seen.headers["X-B"]) == ("r", "m")
        assert request == before

    async def test_header_ranks(self, server: ScriptedServer, variant: Variant) -> None:
        """Headers: the call's over the request's over the client's over the stock's."""
        client_headers = {"X-1": "client", "X-2": "client", "X-3": "client", "Accept": "application/json"}
        request = GraphQLRequest(GREET, headers={"X-2": "request", "X-3": "request"})
        async with variant.client(server, headers=client_headers) as client:
            response = await client.query(request, headers={"X-3": "method"})
        seen = server.requests[0].headers
        assert [seen[f"X-{rank}"] for rank in (1, 2, 3)] == ["client", "request", "method"]
        assert seen["Accept"] == "application/json"
        assert isinstance(response.request, GraphQLRequest)
        assert response.request.headers == {
            **STOCK_HEADERS,
            **client_headers,
            "X-2": "request",
            "X-3": "method",
        }

    async def test_partial(self, server: ScriptedServer, variant: Variant) -> None:
        """Data and errors together are returned."""
        async with variant.client(server) as client:
            response = await client.query('{ hello fail(message: "no", code: "X") }')
        assert response.data == {"hello": "Hello, world!", "fail": None}
        (error,) = response.errors
        assert (error.message, error.path, error.extensions) == ("no", ["fail"], {"code": "X"})

    async def test_answer_with_status(self, server: ScriptedServer, variant: Variant) -> None:
        """A GraphQL answer in GraphQL's own media type is returned, whatever its status (F2)."""
        async with variant.client(server) as client:
            for status in (400, 500, 503):
                server.always(Answer.graphql(status, errors=["no"]))
                response = await client.query(GREET)
                assert response.data == {}
                assert [error.message for error in response.errors] == ["no"]

    async def test_mutation(self, server: ScriptedServer, variant: Variant) -> None:
        """A mutation runs once."""
        async with variant.client(server) as client:
            response = await client.post(ADD, variables={"by": 3})  # type: ignore[arg-type]  # stock says request
        assert response.data == {"increment": 3}
        assert server.executions["increment"] == 1

    async def test_session_of_the_call(self, server: ScriptedServer, variant: Variant) -> None:
        """A session given to a call is used for it, and stays open."""
        async with a_session(variant.library, Mark="call") as session:
            async with variant.client(server) as client:
                await client.query(GREET, session=session)
                await client.query(GREET)
            assert not getattr(session, "closed", getattr(session, "is_closed", None))
        assert [seen.headers.get("Mark") for seen in server.requests] == ["call", None]

    async def test_basic_auth(self, server: ScriptedServer, variant: Variant) -> None:
        """Credentials in the endpoint are sent as basic authentication."""
        url = server.url.replace("http://", "http://user:p%40ss@")
        async with variant.client(server, endpoint=url) as client:
            await client.query(GREET)
        expected = base64.b64encode(b"user:p@ss").decode()
        assert server.requests[0].headers["Authorization"] == f"Basic {expected}"

    async def test_query_of_the_url(self, server: ScriptedServer, variant: Variant) -> None:
        """An endpoint's path reaches the server as it is."""
        async with variant.client(server, endpoint=f"{server.url}?tenant=1") as client:
            assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
        assert server.requests[0].path == server.path

    async def test_after_leaving(self, server: ScriptedServer, variant: Variant) -> None:
        """Leaving a client twice, or closing it twice, is no error."""
        async with variant.client(server) as client:
            await client.query(GREET)
            await client.close()
            await client.close()


class TestErrors:
    async def test_refused_document(self, server: ScriptedServer, variant: Variant) -> None:
        """A document that does not fit the schema raises the stock's own exception, and is not sent."""
        async with variant.client(server, validate=True, schema=graphql.build_schema(SDL)) as client:
            with pytest.raises(GraphQLClientValidationException) as caught:
                await client.query("{ nothing }")
        assert type(caught.value) is GraphQLClientValidationException
        assert "Cannot query field 'nothing'" in str(caught.value)
        assert server.requests == []

    async def test_syntax_error(self, server: ScriptedServer, variant: Variant) -> None:
        """A syntax error is graphql-core's own exception."""
        async with variant.client(server, validate=True, schema=graphql.build_schema(SDL)) as client:
            with pytest.raises(graphql.GraphQLSyntaxError) as caught:
                await client.query("{ hello")
        assert type(caught.value) is graphql.GraphQLSyntaxError
        assert server.requests == []

    async def test_refused_introspection(self, server: ScriptedServer, variant: Variant) -> None:
        """A server that will not be introspected raises the stock's own exception."""
        server.on("IntrospectionQuery", Answer.graphql(errors=["introspection is off"]))
        async with variant.client(server, validate=True) as client:
            with pytest.raises(GraphQLIntrospectionException, match="introspection is off"):
                await client.query(GREET)

    async def test_request_exception(self, server: ScriptedServer, variant: Variant) -> None:
        """Any other answer than a success is a GraphQLRequestException with the response on it."""
        refusal = Answer.graphql(400, errors=["bad"], media_type="application/json")
        answers: list[tuple[Answer, object]] = [
            (Answer.page(404), {}),
            (Answer.page(502), {}),
            (refusal, {"errors": [{"message": "bad"}]}),
            (Answer(status=401, body={"code": 7}), {"code": 7}),
        ]
        async with variant.client(server) as client:
            for answer, json in answers:
                server.always(answer)
                with pytest.raises(GraphQLRequestException) as caught:
                    await client.query(GREET)
                assert caught.value.response.json == json
                assert caught.value.response.query == GREET

    async def test_transport_exception(self, server: ScriptedServer, variant: Variant) -> None:
        """A broken connection is a GraphQLTransportException."""
        async with variant.client(server) as client:
            for answer in (Answer.disconnect(), Answer.truncated(5)):
                server.always(answer)
                with pytest.raises(GraphQLTransportException):
                    await client.query(GREET)

    async def test_no_server(self, variant: Variant) -> None:
        """So is a server that is not there."""
        server = ScriptedServer()
        async with server:
            pass
        async with variant.client(server) as client:
            with pytest.raises(GraphQLTransportException):
                await client.query(GREET)

    async def test_serializer_fails(self, server: ScriptedServer, variant: Variant) -> None:
        """What a serializer raises comes out as its kind; the mutation was not sent."""
        async with variant.client(server) as client:
            with pytest.raises(TypeError) as caught:
                await client.query(ADD, variables={"by": object()})
        assert server.requests == []
        if variant.ours:
            error: Any = caught.value
            assert (error.attempts, error.may_have_executed) == (1, False)

    async def test_codec_fails(self, server: ScriptedServer, variant: Variant) -> None:
        """What a codec raises comes out as it is, before anything is sent."""

        class Broken(DefaultGraphQLCodec):
            def encode(self, value: Any, include_primitives: bool = True) -> Any:
                raise GraphQLCodecException("cannot encode")

        async with variant.client(server, codec=Broken()) as client:
            with pytest.raises(GraphQLCodecException, match="cannot encode") as caught:
                await client.query(ADD, variables={"by": 1})
        assert server.requests == []
        if variant.ours:
            error: Any = caught.value
            assert (error.attempts, error.may_have_executed) == (0, False)

    async def test_mutation_over_get(self, server: ScriptedServer, backend: Any) -> None:
        """Ours alone: a mutation over GET is refused before it is sent, and says that it was not."""
        async with ProductionClient(server.url, validate=False, backend=backend) as client:
            for call in (client.get(GraphQLRequest(ADD)), client.query(ADD, method="GET")):
                with pytest.raises(GraphQLClientException) as caught:
                    await call
                error: Any = caught.value
                assert error.may_have_executed is False
        assert server.requests == []

    async def test_closed(self, server: ScriptedServer, backend: Any) -> None:
        """A closed client says so in an exception of the stock's family, on every method that would call."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        await client.close()
        calls: list[Callable[[], Any]] = [
            lambda: client.query(GREET),
            lambda: client.get(GraphQLRequest(GREET)),
            lambda: client.post(GraphQLRequest(GREET)),
            lambda: client.query_data_as(GREET, dict),
            client.introspect,
            client.get_schema,
            lambda: client.subscribe("subscription { count }"),
            lambda: client.transport.request("post", GraphQLRequest(GREET), JSONSerializer()),
            client.__aenter__,
            lambda: client.with_options(timeout=1).query(GREET),
        ]
        for call in calls:
            with pytest.raises(ClientClosedError) as caught:
                await call()
            assert isinstance(caught.value, GraphQLClientException)
            assert (caught.value.attempts, caught.value.may_have_executed) == (0, False)
        assert server.requests == []
