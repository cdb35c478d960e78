"""Headers that HTTP cannot carry are refused where they are given, by name and without their values."""

from __future__ import annotations

import base64
import enum
import traceback
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest
from aiographql.client.serializer import DefaultSerializer
from aiohttp import hdrs
from multidict import CIMultiDict
from raw_http import KINDS, MUTATION, QUERY, RawServer, answer, client_of

from graphql_prod import ConfigurationError, ProductionClient, ProductionConfig, TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from raw_http import Asked, Kind

SECRET = "s3cr3t"
WRONG: dict[str, tuple[Any, str]] = {
    "newline at the end": ({"Authorization": f"Bearer {SECRET}\n"}, "Authorization"),
    "carriage return at the end": ({"Authorization": f"Bearer {SECRET}\r\n"}, "Authorization"),
    "injection": ({"X-User": f"{SECRET}\r\nX-Admin: 1"}, "X-User"),
    "second request": ({"X-User": f"{SECRET}\r\n\r\nGET /admin HTTP/1.1"}, "X-User"),
    "NUL": ({"X-User": f"{SECRET}\0"}, "X-User"),
    "DEL": ({"X-User": f"{SECRET}\x7f"}, "X-User"),
    "C1 control": ({"X-User": f"{SECRET}\x85"}, "X-User"),
    "emoji": ({"X-User": f"{SECRET} 🙂"}, "X-User"),
    "beyond Latin-1": ({"X-User": f"{SECRET} €"}, "X-User"),
    "surrogate": ({"X-User": f"{SECRET}\udcff"}, "X-User"),
    "None": ({"X-User": None}, "X-User"),
    "int": ({"X-User": 5}, "X-User"),
    "bytes": ({"X-User": SECRET.encode()}, "X-User"),
    "empty name": ({"": SECRET}, "is empty"),
    "space in the name": ({"X User": SECRET}, "X User"),
    "colon in the name": ({"X-User:": SECRET}, "X-User:"),
    "newline in the name": ({"X-User\r\nX-Admin": SECRET}, r"X-User\r\nX-Admin"),
    "name beyond ASCII": ({"X-Ü": SECRET}, "X-"),
    "name that is no text": ({5: SECRET}, "int"),
    "list": ([("X-User", SECRET)], "list"),
    "length": ({"content-length": SECRET}, "content-length"),
    "coding": ({"Transfer-Encoding": SECRET}, "Transfer-Encoding"),
}


def reply(asked: Asked) -> bytes:
    """Any answer."""
    return answer({"hello": asked.number, "increment": asked.number})


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that should see nothing."""
    with RawServer(reply) as server:
        yield server


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each test runs with all four kinds of session."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=list(WRONG))
def wrong(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """Headers, and what the error says of them."""
    return WRONG[request.param]


def is_discreet(error: BaseException) -> bool:
    """Whether no text of an error, its causes and contexts among them, shows the value."""
    link: BaseException | None = error
    while link is not None:
        if SECRET in f"{link!s} {link!r} {link.args!r}":
            return False
        link = link.__cause__ or link.__context__
    return SECRET not in "".join(traceback.format_exception_only(error))


def test_constructor(wrong: tuple[Any, str]) -> None:
    """At construction, by an error that names the header and where it comes from."""
    headers, name = wrong
    for make in (
        partial(ProductionClient, "http://h/graphql", headers=headers),
        partial(ProductionClient.from_config, {"endpoint": "http://h/graphql", "headers": headers}),
        partial(ProductionConfig, headers=headers),
    ):
        if isinstance(headers, list):
            name = "headers"
        elif 5 in headers:
            make = partial(ProductionConfig, headers=headers)  # settings of a mapping have texts for keys
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert name in str(caught.value)
        assert "code" in str(caught.value)
        assert is_discreet(caught.value)


def test_view(wrong: tuple[Any, str]) -> None:
    """A view is not made."""
    headers, name = wrong
    client = ProductionClient("http://h/graphql")
    with pytest.raises(ConfigurationError) as caught:
        client.with_options(headers=headers)
    assert name in str(caught.value)
    assert "with_options" in str(caught.value)
    assert is_discreet(caught.value)


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
async def test_call(server: RawServer, kind: Kind, wrong: tuple[Any, str], document: str) -> None:
    """A call's and a request's headers, before anything is sent, in every kind of session."""
    headers, name = wrong
    async with client_of(kind, server.url) as client:
        calls: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: client.query(document, headers=headers),
            lambda: client.query(GraphQLRequest(document, headers=headers)),
            lambda: client.post(GraphQLRequest(document), headers=headers),
        )
        for call in calls:
            with pytest.raises(GraphQLClientException) as caught:
                await call()
            assert name in str(caught.value)
            assert not getattr(caught.value, "may_have_executed", False)
            assert is_discreet(caught.value)
    assert server.asked == []


async def test_subscription(server: RawServer, backend: Any, wrong: tuple[Any, str]) -> None:
    """The headers of an upgrade, which are those of ``connection_init`` too."""
    headers, name = wrong
    async with client_of(f"owned-{backend}", server.url) as client:  # type: ignore[arg-type]
        with pytest.raises(GraphQLClientException) as caught:
            await client.subscribe("subscription { count }", headers=headers, on_data=print)
        assert name in str(caught.value)
        assert is_discreet(caught.value)
        with pytest.raises(GraphQLClientException) as caught:
            async for _ in client.stream("subscription { count }", headers=headers):
                pass
        assert is_discreet(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("used", ["query", "subscribe"])
async def test_provider(
    server: RawServer, backend: Any, wrong: tuple[Any, str], is_async: bool, used: str
) -> None:
    """What a provider gives is looked at, too: nothing was sent, and the provider is to blame."""
    headers, name = wrong

    async def later() -> Any:
        return headers

    provider: Any = later if is_async else lambda: headers
    async with client_of(f"owned-{backend}", server.url, headers_provider=provider) as client:  # type: ignore[arg-type]
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "query": lambda: client.query(MUTATION),
            "subscribe": lambda: client.subscribe("subscription { count }", on_data=print),
        }
        with pytest.raises(TransportError, match=r"Nothing was sent .* its headers_provider gave") as caught:
            await calls[used]()
    assert name in str(caught.value)
    assert not caught.value.may_have_executed
    assert is_discreet(caught.value)
    assert server.asked == []


async def test_transport_alone(server: RawServer) -> None:
    """``client.transport.request()`` is held to the same."""
    async with client_of("owned-aiohttp", server.url) as client:
        request = GraphQLRequest(MUTATION, headers={"X-User": f"{SECRET}\n"})
        with pytest.raises(ConfigurationError) as caught:
            await client.transport.request("post", request, DefaultSerializer())
    assert is_discreet(caught.value)
    assert server.asked == []


async def test_sendable(server: RawServer, kind: Kind) -> None:
    """What HTTP carries goes out alike over both libraries: Latin-1 in UTF-8, and without space around it."""
    headers = {
        "X-Name": "Müller",
        "X-Tab": "a\tb",
        "X-Space": "  padded ",
        "X-Empty": "",
        "x!#$%&'*+.^_`|~": "1",
    }
    async with client_of(kind, server.url) as client:
        await client.query(MUTATION, headers=headers)
    sent = {name.lower(): value for name, value in server.asked[0].headers}
    assert sent["x-name"].encode("latin-1").decode() == "Müller"
    assert sent["x-tab"] == "a\tb"
    assert sent["x-space"].strip() == "padded"
    assert sent["x!#$%&'*+.^_`|~"] == "1"


class Level(str, enum.Enum):  # noqa: UP042 -- a StrEnum shows what it holds
    """A text that libraries write each its way."""

    HIGH = "high"


class Masked(str):
    """Shows something else than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"no\r\nX-Admin: {SECRET}"


TEXTS: dict[str, tuple[Mapping[str, str], str]] = {
    "istr": ({hdrs.AUTHORIZATION: "Bearer x"}, "Bearer x"),
    "CIMultiDict": (CIMultiDict({"Authorization": "Bearer x"}), "Bearer x"),
    "httpx": (httpx.Headers({"Authorization": "Bearer x"}), "Bearer x"),
    "read only": (MappingProxyType({"Authorization": "Bearer x"}), "Bearer x"),
    "enumeration": ({"Authorization": Level.HIGH}, "high"),
    "subclass": ({"Authorization": Masked("plain")}, "plain"),
}


@pytest.mark.parametrize("place", ["constructor", "view", "call", "request", "provider", "transport"])
@pytest.mark.parametrize("given", TEXTS)
async def test_texts_of_any_kind(server: RawServer, kind: Kind, given: str, place: str) -> None:
    """Every kind of text and mapping goes out as what it holds, and that is what was looked at."""
    headers, expected = TEXTS[given]
    arguments: dict[str, Any] = {}
    if place == "constructor":
        arguments = {"headers": headers}
    elif place == "provider":
        arguments = {"headers_provider": lambda: headers}
    async with client_of(kind, server.url, **arguments) as client:
        if place == "view":
            await client.with_options(headers=headers).query(MUTATION)
        elif place == "call":
            await client.query(MUTATION, headers=headers)  # type: ignore[arg-type]  # the stock says dict
        elif place == "transport":
            request = GraphQLRequest(MUTATION, headers=headers)  # type: ignore[arg-type]
            await client.transport.request("post", request, DefaultSerializer())
        elif place == "request":
            await client.query(GraphQLRequest(MUTATION, headers=headers))  # type: ignore[arg-type]
        else:
            await client.query(MUTATION)
    sent = [value for name, value in server.asked[0].headers if name.lower() == "authorization"]
    assert sent == [expected]


@pytest.mark.parametrize(
    "headers", [5, "text", [1], [("X", "y")], {1}, object()], ids=lambda each: type(each)
)
async def test_no_mapping_for_an_introspection(server: RawServer, headers: Any) -> None:
    """What is no mapping is refused by those that ask for the schema, too."""
    async with client_of("owned-aiohttp", server.url) as client:
        view = client.with_options(headers={"X-View": "1"})
        request = GraphQLRequest(QUERY)
        for call in (client.introspect, client.get_schema, view.get_schema):
            with pytest.raises(ConfigurationError, match="must be a mapping"):
                await call(headers=headers)
        for each in (client, view):
            with pytest.raises(ConfigurationError, match="must be a mapping"):
                await each.validate(request, headers=headers, force=True)
    assert server.asked == []


class TestCredentialsInTheUrl:
    """Beside an ``Authorization`` header there would be two, and the libraries differ in which one counts."""

    URL = f"http://user:{SECRET}@127.0.0.1:1/graphql"

    @pytest.mark.parametrize("name", ["Authorization", "AUTHORIZATION"])
    def test_constructor(self, backend: Any, name: str) -> None:
        """At construction, whichever of the two comes first."""
        with pytest.raises(ConfigurationError, match="credentials in the endpoint's URL") as caught:
            ProductionClient(self.URL, headers={name: f"Bearer {SECRET}"}, backend=backend)
        assert is_discreet(caught.value)
        config = ProductionConfig(headers={name: f"Bearer {SECRET}"})
        with pytest.raises(ConfigurationError, match="credentials in the endpoint's URL"):
            ProductionClient(self.URL, config=config, backend=backend)

    async def test_later(self, server: RawServer, kind: Kind) -> None:
        """A view's, a call's and a provider's are refused, too; without one the URL's are sent."""
        url = server.url.replace("//", f"//user:{SECRET}@")
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with client_of(kind, url) as client:
            with pytest.raises(ConfigurationError, match="credentials in the endpoint's URL"):
                client.with_options(headers=headers)
            with pytest.raises(GraphQLClientException, match="credentials in the endpoint's URL") as caught:
                await client.query(MUTATION, headers=headers)
            assert is_discreet(caught.value)
            assert server.asked == []
            await client.query(MUTATION)
        sent = {name.lower(): value for name, value in server.asked[0].headers}["authorization"]
        assert base64.b64decode(sent.removeprefix("Basic ")) == f"user:{SECRET}".encode()
        async with client_of(kind, url, headers_provider=lambda: headers) as client:
            with pytest.raises(TransportError, match="credentials in the endpoint's URL"):
                await client.query(MUTATION)
        assert len(server.asked) == 1


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
@pytest.mark.parametrize(
    "session",
    [{"headers": {"X-User": f"{SECRET}\n"}}, {"headers": {"Authorization": SECRET}, "trust_env": True}],
    ids=["header", "two credentials"],
)
async def test_headers_of_a_given_session(
    server: RawServer, document: str, session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the session itself adds is its owner's affair; what it cannot write was not sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with (
        aiohttp.ClientSession(**session) as given,
        ProductionClient(server.url, session=given, validate=False) as client,
    ):
        with pytest.raises(TransportError, match="refuses to write this request") as caught:
            await client.query(document)
    assert not caught.value.may_have_executed
    assert caught.value.attempts == 1
    assert is_discreet(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("host", ["xn--", "ä" * 60 + ".invalid", "a" * 64 + ".invalid", "127.0.0.1\u3002"])
async def test_bad_hosts(backend: Any, host: str) -> None:
    """A host that cannot be one is an error of our family, at construction or at a call."""

    async def use() -> None:
        async with client_of(f"owned-{backend}", f"http://{host}/graphql") as client:  # type: ignore[arg-type]
            with no_waiting():
                await client.query(MUTATION)

    with pytest.raises(GraphQLClientException) as caught:
        await use()
    assert not getattr(caught.value, "may_have_executed", False)


async def test_netrc(
    server: RawServer, backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``trust_env`` .netrc is used where no header says otherwise; the explicit one wins."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password word\n")
    monkeypatch.setenv("NETRC", str(netrc))
    config = ProductionConfig(trust_env=True, schema={"mode": "off"})
    async with client_of(f"owned-{backend}", server.url, config=config) as client:  # type: ignore[arg-type]
        await client.query(MUTATION)
        await client.query(MUTATION, headers={"authorization": "Bearer mine"})
    sent = [{n.lower(): v for n, v in asked.headers}["authorization"] for asked in server.asked]
    assert sent == ["Basic " + base64.b64encode(b"user:word").decode(), "Bearer mine"]
    assert server.connections == 1


async def test_proxy_of_the_environment(
    server: RawServer, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with an ``Authorization`` header goes through the environment's proxy, too."""
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/graphql"))
    config = ProductionConfig(trust_env=True, schema={"mode": "off"})
    url = "http://behind.invalid/graphql"
    async with client_of(f"owned-{backend}", url, config=config) as client:  # type: ignore[arg-type]
        await client.query(MUTATION, headers={"Authorization": "Bearer mine"})
        await client.query(MUTATION)
    assert [asked.line for asked in server.asked] == [f"POST {url} HTTP/1.1"] * 2
