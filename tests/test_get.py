"""Queries over GET: what goes into the URL and what into the headers, over every session and transport."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest, GraphQLResponse
from aiographql.client.serializer import DefaultSerializer
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from aiohttp import web
from executing import KINDS, Kind, Tokens, client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from graphql_prod import ProductionClient

HELLO = {"hello": "Hello, world!"}
Via = Kind | str
VIAS = (*KINDS, "stock aiohttp", "stock httpx", "stock httpx over a client")
SIGNED = "api-key=s%2Bcret%3D%2F&v=1&sig=a+b%20c~'&empty=&bare&v=2"
DOCUMENT = 'query Q($name: String) { hello(name: $name) a: hello(name: "a+b & c%20d #x ü 🙂 \\"q\\"") }'
VARIABLES = {"name": "a+b & c=d%2F #é 🙂 \\ \n"}
PERSISTED = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(b"{ hello }").hexdigest()}}

every_via = pytest.mark.parametrize("via", VIAS)


@contextlib.asynccontextmanager
async def getting(via: Via, url: str, session: Any = None, **objects: Any) -> AsyncIterator[ProductionClient]:
    """A client whose method is GET."""
    async with contextlib.AsyncExitStack() as stack:
        if via == "stock aiohttp":
            objects["transport"] = AiohttpTransport(url)
        elif via == "stock httpx":
            objects["transport"] = HttpxTransport(url)
        elif via.startswith("stock httpx"):
            inner = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            objects["transport"] = HttpxTransport(url, inner)
        kind: Kind = "owned aiohttp" if via not in KINDS else via
        yield await stack.enter_async_context(
            client_of(kind, url, session=session, **{"method": "get", **objects})
        )


class Listening:
    """Answers everything with the same, and keeps what came as it came."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.failures = 0
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            return web.Response(status=503)
        return web.json_response({"data": HELLO})


@pytest.fixture
async def server() -> AsyncIterator[Listening]:
    listening = Listening()
    runner = web.ServerRunner(web.Server(listening.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listening.url = "http://{}:{}/graphql".format(*runner.addresses[0][:2])
    try:
        yield listening
    finally:
        await runner.cleanup()


def raw_query_of(server: Listening) -> str:
    return urlsplit(server.requests[-1].raw_path).query


def query_of(server: Listening) -> dict[str, list[str]]:
    return parse_qs(raw_query_of(server), keep_blank_values=True)


@every_via
@pytest.mark.parametrize("own", ["", SIGNED, "query=mine"], ids=["no query", "signed", "a name that we use"])
async def test_the_query_of_the_endpoint(server: Listening, via: Via, own: str) -> None:
    """It stays, and the parameters of the request come to it, whatever characters are in either."""
    async with getting(via, f"{server.url}?{own}" if own else server.url) as client:
        await client.query(DOCUMENT, variables=VARIABLES, operation="Q")
    found = query_of(server)
    for name, values in parse_qs(own, keep_blank_values=True).items():
        assert found[name][: len(values)] == values
    assert found["query"][-1] == DOCUMENT
    assert found["operationName"] == ["Q"]
    assert json.loads(found["variables"][0]) == VARIABLES
    assert server.requests[-1].method == "GET"


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_in_the_query_of_the_endpoint(server: Listening, kind: Kind) -> None:
    """Its order stays, and so do bytes that are no text: a signature may have any."""
    own = "sig=%FF%fe%2F&b=1&a=x%20y&b=2"
    async with getting(kind, f"{server.url}?{own}") as client:
        await client.query("{ hello }")
    assert unquote_to_bytes(raw_query_of(server)).startswith(unquote_to_bytes(f"{own}&query="))


@pytest.mark.parametrize("via", ["owned aiohttp", "owned httpx", "stock aiohttp", "stock httpx"])
async def test_a_session_of_the_call(server: Listening, via: Via) -> None:
    """It stays too where the call brings a session of its own."""
    async with contextlib.AsyncExitStack() as stack:
        session: Any = (
            aiohttp.ClientSession() if via.endswith("aiohttp") else httpx.AsyncClient(trust_env=False)
        )
        await stack.enter_async_context(session)
        client = await stack.enter_async_context(getting(via, f"{server.url}?{SIGNED}"))
        await client.query(DOCUMENT, variables=VARIABLES, session=session)
    found = query_of(server)
    assert found["query"] == [DOCUMENT]
    assert found.items() >= parse_qs(SIGNED, keep_blank_values=True).items()
    assert "Content-Type" not in server.requests[-1].headers


@pytest.mark.parametrize("method", ["get", "post"])
async def test_parameters_of_a_given_httpx_client(server: Listening, method: str) -> None:
    """A caller's httpx client with parameters of its own sends these too, and keeps the endpoint's."""
    async with (
        httpx.AsyncClient(params={"tenant": "7"}, trust_env=False) as session,
        getting("given httpx", f"{server.url}?{SIGNED}", session, method=method) as client,
    ):
        await client.query("{ hello }")
    found = query_of(server)
    assert found["tenant"] == ["7"]
    assert found["v"] == ["1", "2"]
    assert found["api-key"] == ["s+cret=/"]
    assert found.get("query") == (["{ hello }"] if method == "get" else None)


@every_via
async def test_no_content_type(server: Listening, via: Via) -> None:
    """There is no content: neither the stock's header, nor the client's, nor a retry's."""
    server.failures = 1 if via in KINDS else 0  # a stock transport shows no status
    async with getting(via, server.url, headers={"content-type": "application/json", "X-A": "1"}) as client:
        await client.query("{ hello }")
        await client.get(GraphQLRequest("{ hello }", headers={"X-B": "2"}))
        await client.query("{ hello }", method="GET")
        await client.with_options(headers={"X-C": "3"}).query("{ hello }", headers={"X-D": "4"})
    for request in server.requests:
        assert request.method == "GET"
        assert "Content-Type" not in request.headers
        assert request.headers["X-A"] == "1"
    last = server.requests[-1].headers
    assert (last["X-C"], last["X-D"]) == ("3", "4")


@every_via
@pytest.mark.parametrize("where", ["call", "request", "view"])
@pytest.mark.parametrize("value", ["application/json", "text/plain"])
async def test_a_content_type_that_is_named(server: Listening, via: Via, where: str, value: str) -> None:
    """Who names the header for the call sends it, in whatever spelling, be it the usual one."""
    named = {"content-TYPE": value}
    async with getting(via, server.url) as client:
        if where == "call":
            await client.query("{ hello }", headers=named)
        elif where == "request":
            await client.query(GraphQLRequest("{ hello }", headers=named))
        else:
            await client.with_options(headers=named).query("{ hello }")
    sent: Any = server.requests[-1].headers
    assert sent.getall("Content-Type") == [value]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_post_has_one(server: Listening, kind: Kind) -> None:
    """The next call over POST has its Content-Type."""
    async with getting(kind, server.url, headers_provider=Tokens()) as client:
        await client.query("{ hello }")
        await client.query("{ hello }", method="post")
    get, post = server.requests
    assert "Content-Type" not in get.headers
    assert post.headers["Content-Type"] == "application/json"
    assert get.headers["Authorization"] == post.headers["Authorization"] == "Bearer old"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_header_that_apollo_asks_for(server: Listening, kind: Kind) -> None:
    """Apollo refuses a GET without a Content-Type and without this header; a POST does not need it."""
    async with getting(kind, server.url) as client:
        await client.query("{ hello }")
        await client.query("{ hello }", headers={"apollo-require-preflight": "mine"})
        await client.query("{ hello }", method="post")
    sent = [request.headers.get("Apollo-Require-Preflight") for request in server.requests]
    assert sent == ["true", "mine", None]


@every_via
async def test_mutations_are_refused(server: Listening, via: Via) -> None:
    """What is no query, or cannot be judged, is not sent over GET."""
    async with getting(via, f"{server.url}?{SIGNED}") as client:
        for document in ("mutation { increment }", "query A { hello } mutation B { increment }", "{ hello"):
            with pytest.raises(GraphQLClientException, match="only queries"):
                await client.with_options(idempotent=True).query(document)
    assert server.requests == []


@every_via
async def test_persisted(server: Listening, via: Via) -> None:
    """A persisted operation is asked for by its hash; an empty document is none, and is not sent."""
    request = GraphQLRequest("", extensions=PERSISTED, variables={"a": 1}, operation="Q")
    async with getting(via, f"{server.url}?{SIGNED}") as client:
        assert (await client.query(request)).data == HELLO
    found = query_of(server)
    assert json.loads(found.pop("extensions")[0]) == PERSISTED
    assert json.loads(found.pop("variables")[0]) == {"a": 1}
    assert found.pop("operationName") == ["Q"]
    assert found == parse_qs(SIGNED, keep_blank_values=True)


@every_via
async def test_a_document_beside_its_hash(server: Listening, via: Via) -> None:
    """A document that is registered by the way goes along with its hash."""
    async with getting(via, server.url) as client:
        assert (await client.query("{ hello }", extensions=PERSISTED)).data == HELLO
    found = query_of(server)
    assert found["query"] == ["{ hello }"]
    assert json.loads(found["extensions"][0]) == PERSISTED


class OwnTransport:
    """A transport of the caller's: it knows nothing of parameters."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, GraphQLRequest]] = []

    async def request(
        self, method: str, request: GraphQLRequest, serializer: Any, *, session: Any = None
    ) -> GraphQLResponse:
        self.requests.append((method, request))
        return GraphQLResponse(request=request, json={"data": {"hello": "mine"}})

    async def close(self) -> None: ...


async def test_a_transport_of_the_callers() -> None:
    """It gets what the stock would give it."""
    transport = OwnTransport()
    async with client_of("owned aiohttp", "http://h/graphql", transport=transport, method="get") as client:
        assert (await client.query(GraphQLRequest("", extensions=PERSISTED))).data == {"hello": "mine"}
    ((method, request),) = transport.requests
    assert method == "get"
    assert request.extensions == PERSISTED
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_transport_on_its_own(server: Listening, kind: Kind) -> None:
    """All headers of a request that is given to the transport itself were named for it."""
    async with getting(kind, f"{server.url}?{SIGNED}") as client:
        request = GraphQLRequest("{ hello }", headers={"Content-Type": "application/json"})
        answer = await client.transport.request("get", request, DefaultSerializer())
    assert answer.data == HELLO
    assert server.requests[-1].headers["Content-Type"] == "application/json"
    assert query_of(server)["v"] == ["1", "2"]
