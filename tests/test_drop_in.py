"""The same program over the stock client and over ours gives the same results."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import inspect
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import aiohttp
import graphql
import httpx
import pytest
from aiographql.client import (
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    GRAPHQL_WS_PROTOCOL,
    AiohttpTransport,
    DefaultGraphQLCodec,
    GraphQLClient,
    GraphQLClientException,
    GraphQLClientValidationException,
    GraphQLCodecException,
    GraphQLIntrospectionException,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLResponse,
    GraphQLSubscriptionEvent,
    GraphQLSubscriptionEventType,
    GraphQLTransport,
    HttpxTransport,
)
from aiographql.client.exceptions import GraphQLTransportException
from aiographql.client.serializer import JSONSerializer
from aiographql.client.transport import AiohttpSubscriptionTransport, WebsocketSubscriptionTransport
from cafeteria.asyncio.callbacks import CallbackRegistry
from pydantic import BaseModel

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from graphql_prod import GraphQLResponse as ProductionResponse

GREET = "query Greet($name: String) { hello(name: $name) }"
BOTH = "query Greet { hello } query Count { counter }"
ADD = "mutation Add($by: Int) { increment(by: $by) }"
STOCK_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json",
    "Accept-Encoding": "gzip",
}


@dataclass(frozen=True)
class Variant:
    """A client class, over a library, with a session of its own or one of the caller's."""

    kind: type[GraphQLClient]
    library: str
    given: bool

    def __str__(self) -> str:
        return f"{self.kind.__name__}-{self.library}{'-given' if self.given else ''}"

    @property
    def ours(self) -> bool:
        return issubclass(self.kind, ProductionClient)

    @contextlib.asynccontextmanager
    async def client(self, server: ScriptedServer, **arguments: Any) -> AsyncIterator[GraphQLClient]:
        """A client, with the waits between attempts taken out; it leaves nothing open."""
        async with contextlib.AsyncExitStack() as stack:
            if self.given:
                arguments["session"] = await stack.enter_async_context(a_session(self.library))
            elif self.ours:
                arguments["backend"] = self.library
            stack.enter_context(no_waiting())
            arguments = {"endpoint": server.url, "validate": False, **arguments}
            yield await stack.enter_async_context(self.kind(**arguments))


def a_session(library: str, **headers: str) -> Any:
    """A session such as a user would bring."""
    if library == "aiohttp":
        return aiohttp.ClientSession(headers=headers)
    return httpx.AsyncClient(headers=headers, verify=False, trust_env=False)


VARIANTS = [
    Variant(GraphQLClient, "aiohttp", given=False),
    Variant(GraphQLClient, "aiohttp", given=True),
    Variant(GraphQLClient, "httpx", given=True),
    Variant(ProductionClient, "aiohttp", given=False),
    Variant(ProductionClient, "aiohttp", given=True),
    Variant(ProductionClient, "httpx", given=False),
    Variant(ProductionClient, "httpx", given=True),
]


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Each way to make a client, the stock ones among them."""
    return cast("Variant", request.param)


@pytest.fixture(params=[GraphQLClient, ProductionClient])
def kind(request: pytest.FixtureRequest) -> type[GraphQLClient]:
    """The stock class, and ours in its place."""
    return cast("type[GraphQLClient]", request.param)


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


@dataclass
class Greeting:
    hello: str


class GreetingModel(BaseModel):
    hello: str


@dataclass
class Wrong:
    nothing: str


class TestDecoding:
    async def test_query_data_as(self, server: ScriptedServer, variant: Variant) -> None:
        """Data is decoded into dataclasses, pydantic models and plain types, from a path if one is given."""
        targets: list[tuple[Any, str | None, object]] = [
            (Greeting, None, Greeting("Hello, world!")),
            (GreetingModel, None, GreetingModel(hello="Hello, world!")),
            (str, "hello", "Hello, world!"),
            (dict, None, {"hello": "Hello, world!"}),
            (dict[str, str], None, {"hello": "Hello, world!"}),
            (str, "absent", None),
        ]
        async with variant.client(server) as client:
            for target, path, decoded in targets:
                result = await client.query_data_as(GREET, target, path=path)
                assert result == decoded
                assert type(result) is type(decoded)

    async def test_by_position(self, server: ScriptedServer, variant: Variant) -> None:
        """All arguments may be given by position, in the stock's order."""
        async with variant.client(server) as client:
            result = await client.query_data_as(
                GraphQLRequest(BOTH), str, "hello", "get", {"X-A": "1"}, "Greet", {"b": 2}, {"c": 3}, None
            )
        (seen,) = server.requests
        assert result == "Hello, world!"
        assert (seen.method, seen.headers["X-A"], seen.extensions) == ("GET", "1", {"c": 3})

    async def test_decoding_fails(self, server: ScriptedServer, variant: Variant) -> None:
        """A decoding error is the stock's own; ours tells besides that the mutation was executed."""
        targets: list[tuple[Any, str | None, type[Exception]]] = [
            (Wrong, None, GraphQLCodecException),
            (GreetingModel, "increment", GraphQLCodecException),
            (str, "increment.deeper", ValueError),
            (list[int], "increment", TypeError),
        ]
        async with variant.client(server) as client:
            for target, path, error in targets:
                with pytest.raises(error) as caught:
                    await client.query_data_as(ADD, target, path=path)
                assert type(caught.value) is error
                if variant.ours:
                    found: Any = caught.value
                    assert (found.attempts, found.may_have_executed) == (1, True)
                    assert found.elapsed > 0
        assert server.executions["increment"] == 4

    async def test_decoding_fails_after_retries(self, server: ScriptedServer, backend: Any) -> None:
        """The attempts told are those of the query that was decoded, and a query changed nothing."""
        server.script(Answer.page(503), Answer.page(503))
        with no_waiting():
            async with ProductionClient(server.url, backend=backend) as client:
                with pytest.raises(GraphQLCodecException) as caught:
                    await client.query_data_as(GREET, Wrong)
        error: Any = caught.value
        seen = [each.operation_name or each.query for each in server.requests]
        assert (error.attempts, error.may_have_executed) == (1, False), seen

    @pytest.mark.parametrize("where", ["client", "request"])
    async def test_codec(self, server: ScriptedServer, variant: Variant, where: str) -> None:
        """A codec of the client or of the request encodes variables and decodes data."""

        class Name:
            def __init__(self, text: str) -> None:
                self.text = text

        codec = DefaultGraphQLCodec()
        codec.register_encoder(Name, lambda name: name.text.upper())
        codec.register_decoder(Name, lambda text: Name(text.lower()))
        request = GraphQLRequest(GREET, variables={"name": Name("you")})
        if where == "request":
            request = dataclasses.replace(request, codec=codec)
        async with variant.client(server, codec=codec if where == "client" else None) as client:
            result = await client.query_data_as(request, Name, path="hello")
        assert server.requests[0].variables == {"name": "YOU"}
        assert result.text == "hello, you!"

    async def test_serializer(self, server: ScriptedServer, variant: Variant) -> None:
        """A serializer of the caller's writes requests and reads answers; it may write text."""

        class Counting(JSONSerializer):
            calls: ClassVar[list[str]] = []

            def loads(self, data: str | bytes) -> Any:
                self.calls.append("loads")
                return super().loads(data)

            def dumps(self, value: Any) -> str | bytes:
                self.calls.append("dumps")
                return super().dumps(value)

        Counting.calls.clear()
        async with variant.client(server, serializer=Counting()) as client:
            response = await client.query(GREET, variables={"name": "ü"})
            again = await client.query(GREET, method="get", variables={"name": "ü"})
        assert response.data == again.data == {"hello": "Hello, ü!"}
        assert Counting.calls == ["dumps", "loads"] * 2


class TestSchema:
    @staticmethod
    def introspections(server: ScriptedServer) -> int:
        return sum("__schema" in (seen.query or "") for seen in server.requests)

    async def test_asked_once(self, server: ScriptedServer, variant: Variant) -> None:
        """Without a schema the server is asked for it once, with the headers of the call."""
        async with variant.client(server, validate=True) as client:
            for _ in range(3):
                await client.query(GREET, headers={"X-A": "1"})
        assert self.introspections(server) == 1
        assert server.requests[0].headers["X-A"] == "1"
        assert len(server.requests) == 4

    async def test_given(self, server: ScriptedServer, variant: Variant) -> None:
        """A given schema is used, and the server not asked."""
        schema = graphql.build_schema(SDL)
        async with variant.client(server, validate=True, schema=schema) as client:
            await client.query(GREET)
            assert await client.get_schema() is schema
        assert self.introspections(server) == 0

    @pytest.mark.parametrize("how", ["client", "request"])
    async def test_unvalidated(self, server: ScriptedServer, variant: Variant, how: str) -> None:
        """validate=False, of the client or of a request, sends the document as it is."""
        request = GraphQLRequest("{ nothing }", validate=how != "request")
        async with variant.client(server, validate=how != "client") as client:
            response = await client.query(request)
        assert "Cannot query field 'nothing'" in str(response.errors[0].message)
        assert self.introspections(server) == 0

    async def test_validate(self, server: ScriptedServer, variant: Variant) -> None:
        """validate() judges by the given schema, skips what is not to be validated, and can be forced."""
        schema = graphql.build_schema("type Query { other: Int }")
        async with variant.client(server, validate=True) as client:
            await client.validate(GraphQLRequest("{ other }"), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }"), schema=schema)
            await client.validate(GraphQLRequest("{ hello }", validate=False), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }", validate=False), schema, None, True)
            assert server.requests == []
            await client.validate(GraphQLRequest("{ hello }"), headers={"X-A": "1"})
        async with variant.client(server) as client:
            await client.validate(GraphQLRequest("{ hello }"), schema)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(GraphQLRequest("{ hello }"), schema, force=True)
        assert self.introspections(server) == 1
        assert server.requests[0].headers["X-A"] == "1"

    async def test_refresh(self, server: ScriptedServer, variant: Variant) -> None:
        """get_schema() remembers; with refresh it asks again, with the headers given."""
        async with variant.client(server) as client:
            first = await client.get_schema()
            assert await client.get_schema() is first
            second = await client.get_schema(True, {"X-A": "1"})
            assert second is not first
            assert await client.get_schema() is second
        assert self.introspections(server) == 2
        assert server.requests[1].headers["X-A"] == "1"
        assert "hello" in second.query_type.fields  # type: ignore[union-attr]

    async def test_introspect(self, server: ScriptedServer, variant: Variant) -> None:
        """introspect() asks each time, and sends the headers given."""
        async with variant.client(server, headers={"X-B": "2"}) as client:
            schema = await client.introspect({"X-A": "1"})
        assert isinstance(schema, graphql.GraphQLSchema)
        assert (server.requests[0].headers["X-A"], server.requests[0].headers["X-B"]) == ("1", "2")

    @pytest.mark.parametrize(("ttl", "count"), [(3600, 1), (None, 1), (0, 2)])
    async def test_ttl(self, server: ScriptedServer, variant: Variant, ttl: float | None, count: int) -> None:
        """schema_ttl says for how long a schema is good."""
        async with variant.client(server, validate=True, schema_ttl=ttl) as client:
            await client.query(GREET)
            await client.query(GREET)
            await server.until(lambda: self.introspections(server) == count)


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


@dataclass
class Events:
    """Callbacks that remember, and a wait for what they were called with."""

    seen: list[GraphQLSubscriptionEvent]
    more: asyncio.Event

    @classmethod
    def new(cls) -> Events:
        return cls([], asyncio.Event())

    async def take(self, event: GraphQLSubscriptionEvent) -> None:
        self.seen.append(event)
        self.more.set()

    async def arrived(self, count: int) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                self.more.clear()
                await self.more.wait()
        return [cast("GraphQLResponse", event.payload).json for event in self.seen]


COUNTED = [{"data": {"count": number}} for number in range(3)]
PROTOCOLS = [
    ((GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL), "complete"),
    ((GRAPHQL_WS_PROTOCOL,), "stop"),
    (GRAPHQL_WS_PROTOCOL, "stop"),
    (GRAPHQL_TRANSPORT_WS_PROTOCOL, "complete"),
]


class TestSubscriptions:
    @pytest.mark.parametrize(("protocols", "stop"), PROTOCOLS, ids=str)
    async def test_counts(self, server: ScriptedServer, variant: Variant, protocols: Any, stop: str) -> None:
        """Events arrive in order, over either protocol; wait=True waits for the end."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                cast("Any", "subscription ($to: Int) { count(to: $to) }"),
                variables={"to": 2},
                on_data=events.take,
                wait=True,
                protocols=protocols,
            )
            assert await events.arrived(3) == COUNTED
            assert not subscription.active()
        for event in events.seen:
            assert event.subscription_id == subscription.id == event.id

    @pytest.mark.parametrize(("protocols", "stop"), PROTOCOLS[:2], ids=str)
    async def test_unsubscribe(
        self, server: ScriptedServer, variant: Variant, protocols: Any, stop: str
    ) -> None:
        """unsubscribe_and_wait() tells the server and closes the socket; the client lives on."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count }"), on_data=events.take, protocols=protocols
            )
            await events.arrived(3)
            assert subscription.active()
            await subscription.unsubscribe_and_wait()
            assert not subscription.active()
            assert subscription.task is None
            await server.socket_count(0)
            assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
        assert [m.message["type"] for m in server.messages][-1] == stop

    async def test_async_with(self, server: ScriptedServer, variant: Variant) -> None:
        """Leaving a subscription unsubscribes."""
        events = Events.new()
        async with variant.client(server) as client:
            async with await client.subscribe(
                GraphQLRequest("subscription { count }"), on_data=events.take
            ) as subscription:
                await events.arrived(1)
            assert not subscription.active()
            await server.socket_count(0)

    @pytest.mark.parametrize("how", ["registry", "mapping", "list"])
    async def test_callbacks(self, server: ScriptedServer, variant: Variant, how: str) -> None:
        """Callbacks may come in a registry, or in a mapping of event types to one or several."""
        first, second = Events.new(), Events.new()
        data = GraphQLSubscriptionEventType.DATA
        callbacks: Any = {data: first.take}
        if how == "list":
            callbacks = {data: [first.take, second.take]}
        if how == "registry":
            callbacks = CallbackRegistry({data: first.take})
            callbacks.register(data, second.take)
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count(to: 2) }"), callbacks=callbacks
            )
            assert await first.arrived(3) == COUNTED
            if how != "mapping":
                assert await second.arrived(3) == COUNTED
            assert isinstance(subscription.callbacks, CallbackRegistry)
            assert subscription.callbacks.exists(data, first.take)
            await subscription.unsubscribe_and_wait()

    async def test_on_error(self, server: ScriptedServer, variant: Variant) -> None:
        """An operation that the server refuses arrives at on_error, as an event with the errors."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { nothing }"), on_error=events.take
            )
            await events.arrived(1)
            await subscription.unsubscribe_and_wait()
        (event,) = events.seen
        assert event.type is GraphQLSubscriptionEventType.ERROR
        payload = cast("GraphQLResponse", event.payload)
        assert "Cannot query field 'nothing'" in str(payload.errors[0].message)

    async def test_headers_and_init(self, server: ScriptedServer, variant: Variant) -> None:
        """Upgrade and connection_init carry the merged headers and the payload given."""
        async with variant.client(server, headers={"X-1": "client", "X-2": "client"}) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count(to: 0) }", headers={"X-2": "request"}),
                headers={"X-3": "method"},
                connection_init_payload={"token": "t"},
                wait=True,
            )
            assert not subscription.active()
        upgrade, init = server.upgrades[0].headers, server.messages[0].message
        ranks = {"X-1": "client", "X-2": "request", "X-3": "method"}
        assert {name: upgrade[name] for name in ranks} == ranks
        assert init["payload"]["token"] == "t"
        assert ranks.items() <= init["payload"]["headers"].items()

    async def test_validated(self, server: ScriptedServer, variant: Variant) -> None:
        """A subscription's document is validated like any."""
        async with variant.client(server, validate=True) as client:
            with pytest.raises(GraphQLClientValidationException):
                await client.subscribe(GraphQLRequest("subscription { nothing }"))
        assert server.upgrades == []

    @pytest.mark.parametrize("where", ["client", "call"])
    @pytest.mark.parametrize("library", ["aiohttp", "websockets"])
    async def test_transport(
        self, server: ScriptedServer, kind: type[GraphQLClient], where: str, library: str
    ) -> None:
        """A subscription transport of the caller's is used, given to the client or to the call."""
        base: Any = AiohttpSubscriptionTransport if library == "aiohttp" else WebsocketSubscriptionTransport

        class Recording(base):  # type: ignore[misc]
            endpoints: ClassVar[list[str]] = []

            async def subscribe(self, endpoint: str, request: Any, serializer: Any, **kwargs: Any) -> Any:
                self.endpoints.append(endpoint)
                return await super().subscribe(endpoint, request, serializer, **kwargs)

        transport, events = Recording(server.url), Events.new()
        arguments: dict[str, Any] = {"transport": transport} if where == "call" else {}
        general: dict[str, Any] = {"subscription_transport": transport} if where == "client" else {}
        async with kind(server.url, validate=False, **general) as client:
            await client.subscribe(
                GraphQLRequest("subscription { count(to: 2) }"), on_data=events.take, wait=True, **arguments
            )
            assert await events.arrived(3) == COUNTED
        assert Recording.endpoints == [server.url]

    async def test_session(self, server: ScriptedServer, kind: type[GraphQLClient]) -> None:
        """An aiohttp session given to the call carries its subscription, and stays open."""
        async with aiohttp.ClientSession(headers={"Mark": "call"}) as session:
            async with kind(server.url, validate=False) as client:
                await client.subscribe(
                    GraphQLRequest("subscription { count(to: 0) }"), session=session, wait=True
                )
            assert not session.closed
        assert server.upgrades[0].headers["Mark"] == "call"

    async def test_websocket_endpoint(self, server: ScriptedServer, backend: Any) -> None:
        """With a ws:// endpoint queries go over HTTP and subscriptions over the socket."""
        events = Events.new()
        async with ProductionClient(server.ws_url, validate=False, backend=backend) as client:
            assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
            await client.subscribe("subscription { count(to: 2) }", on_data=events.take, wait=True)
            assert await events.arrived(3) == COUNTED


class Tenant(ProductionClient):
    """A user's subclass: one more constructor parameter, and a query() of its own."""

    def __init__(self, tenant: str, endpoint: str, **arguments: Any) -> None:
        super().__init__(endpoint, **arguments)
        self.tenant = tenant
        self.queries = 0

    async def query(self, request: GraphQLRequest | str, *args: Any, **kwargs: Any) -> ProductionResponse:
        self.queries += 1
        kwargs["headers"] = {**(kwargs.get("headers") or {}), "X-Tenant": self.tenant}
        return await super().query(request, *args, **kwargs)


class Preparing(ProductionClient):
    """A user's subclass that asks something before each query."""

    async def query(self, request: GraphQLRequest | str, *args: Any, **kwargs: Any) -> ProductionResponse:
        await super().query("{ hello }")
        return await super().query(request, *args, **kwargs)


class TestSubclasses:
    @pytest.mark.parametrize("method", ["query", "post", "get", "query_data_as", "introspect", "get_schema"])
    async def test_all_through_query(self, server: ScriptedServer, backend: Any, method: str) -> None:
        """An overridden query() is what every other method calls, as in the stock client."""
        async with Tenant("t1", server.url, validate=False, backend=backend) as client:
            arguments = {"query_data_as": (GREET, dict), "introspect": (), "get_schema": ()}
            await getattr(client, method)(*arguments.get(method, (GREET,)))
            assert client.queries == 1
        assert server.requests[0].headers["X-Tenant"] == "t1"

    async def test_view(self, server: ScriptedServer, backend: Any) -> None:
        """A view of a subclass is one of it: its attributes are there, its constructor is not run again."""
        async with Tenant("t1", server.url, backend=backend) as client:
            view = client.with_options(headers={"X-V": "1"})
            assert type(view) is Tenant
            assert view.tenant == "t1"
            await view.query_data_as(GREET, dict)
        assert all(seen.headers["X-Tenant"] == "t1" for seen in server.requests)
        assert server.requests[-1].headers["X-V"] == "1"

    async def test_retried_within(self, server: ScriptedServer, backend: Any) -> None:
        """An overridden query() is called once a call; attempts are made inside of it."""
        server.script(Answer.page(503), Answer.page(503))
        with no_waiting():
            async with Tenant("t1", server.url, validate=False, backend=backend) as client:
                await client.query_data_as(GREET, dict)
                assert client.queries == 1
        assert len(server.requests) == 3

    async def test_several_queries_in_one(self, server: ScriptedServer, backend: Any) -> None:
        """A decoding error tells of the query that was decoded, not of one made before it."""
        async with Preparing(server.url, validate=False, backend=backend) as client:
            with pytest.raises(GraphQLCodecException) as caught:
                await client.query_data_as(ADD, Wrong)
        error: Any = caught.value
        assert server.executions["increment"] == 1
        assert error.may_have_executed is True
