"""What is no JSON is refused before anything is sent, by an error that names the variable."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest
from aiographql.client.serializer import JSONSerializer
from raw_http import KINDS, RawServer, answer, client_of

from graphql_prod import TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from raw_http import Asked, Kind

SECRET = "s3cr3t"
QUERY = "query Q($good: String, $bad: Any) { hello(good: $good, bad: $bad) }"
MUTATION = QUERY.replace("query Q", "mutation M")
SUBSCRIPTION = QUERY.replace("query Q", "subscription S")


def itself() -> list[Any]:
    """A list that holds itself."""
    items: list[Any] = []
    items.append(items)
    return items


WRONG: dict[str, Callable[[], Any]] = {
    "surrogate": lambda: f"{SECRET}\ud83d",
    "surrogate in a list": lambda: [{"a": f"{SECRET}\ud83d"}],
    "Decimal": lambda: Decimal("1.5"),
    "object": lambda: [object()],
    "NaN": lambda: float("nan"),
    "infinity, deep": lambda: {"a": [1, {"b": -float("inf")}]},
    "itself": itself,
    "too large a number": lambda: 2**70,
    "lock": threading.Lock,
}


def reply(asked: Asked) -> bytes:
    """Any answer."""
    return answer({"hello": asked.number})


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that should see nothing."""
    with RawServer(reply) as server:
        yield server


@pytest.fixture(params=list(WRONG))
def wrong(request: pytest.FixtureRequest) -> Any:
    """A value that is no JSON."""
    return WRONG[request.param]()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each test runs with all four kinds of session."""
    return request.param  # type: ignore[no-any-return]


def is_discreet(error: BaseException) -> bool:
    """Whether no text of an error, its causes and contexts among them, shows the value."""
    link: BaseException | None = error
    while link is not None:
        if SECRET in f"{link!s} {link!r} {link.args!r}":
            return False
        link = link.__cause__ or link.__context__
    return True


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
async def test_call(server: RawServer, kind: Kind, document: str, wrong: Any) -> None:
    """One attempt at most, nothing on the wire, and a mutation was not executed."""
    variables = {"good": "fine", "bad": wrong}
    async with client_of(kind, server.url) as client:
        for request, given in ((document, variables), (GraphQLRequest(document, variables=variables), None)):
            with no_waiting(), pytest.raises(GraphQLClientException, match="variable 'bad'") as caught:
                await client.query(request, variables=given)
            assert "Nothing was sent" in str(caught.value)
            assert not getattr(caught.value, "may_have_executed", False)
            assert is_discreet(caught.value)
    assert server.asked == []


async def test_get(server: RawServer, kind: Kind, wrong: Any) -> None:
    """Over GET too."""
    async with client_of(kind, server.url) as client:
        with pytest.raises(GraphQLClientException, match="variable 'bad'") as caught:
            await client.query(QUERY, method="get", variables={"bad": wrong})
        assert is_discreet(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("mode", ["subscribe", "stream"])
async def test_subscription(server: RawServer, backend: Any, wrong: Any, mode: str) -> None:
    """A subscription's are looked at before a socket is opened."""
    variables = {"good": "fine", "bad": wrong}
    async with client_of(f"owned-{backend}", server.url) as client:  # type: ignore[arg-type]

        async def begin() -> None:
            if mode == "subscribe":
                await client.subscribe(SUBSCRIPTION, variables=variables, on_data=print)
            else:
                await anext(client.stream(SUBSCRIPTION, variables=variables))

        with pytest.raises(GraphQLClientException, match="variable 'bad'") as caught:
            await begin()
        assert is_discreet(caught.value)
    assert server.asked == []


async def test_serializer_of_the_users(server: RawServer) -> None:
    """What a serializer of the user's can write is sent, and what it cannot is named."""
    async with client_of("owned-aiohttp", server.url, serializer=JSONSerializer()) as client:
        await client.query(QUERY, variables={"bad": 2**70})
        await client.query(QUERY, variables={"bad": "\ud83d"})
        with pytest.raises(GraphQLClientException, match="variable 'bad'"):
            await client.query(QUERY, variables={"bad": Decimal(1)})
        with pytest.raises(GraphQLClientException, match="variable 'bad'"):
            await client.query(QUERY, variables={"bad": float("nan")})
    assert len(server.asked) == 2


async def test_extensions_and_document(server: RawServer) -> None:
    """The other parts of a request are named, too."""
    async with client_of("owned-aiohttp", server.url) as client:
        with pytest.raises(GraphQLClientException, match="extension 'bad'"):
            await client.query(QUERY, extensions={"bad": object()})
    assert server.asked == []


@pytest.mark.parametrize("kind", ["given-aiohttp", "given-httpx"])
@pytest.mark.parametrize("document", ["query Q { hello }", "mutation M { hello }"], ids=["query", "mutation"])
async def test_closed_session(server: RawServer, kind: Kind, document: str) -> None:
    """A session that its owner closed is said to be closed, once; nothing was sent."""
    async with client_of(kind, server.url) as client:
        await client.query(document)
        session: Any = client._prod.sessions.given
        await (session.close() if kind == "given-aiohttp" else session.aclose())
        with no_waiting(), pytest.raises(TransportError, match=r"session .* is closed") as caught:
            await client.query(document)
    assert caught.value.attempts == 1
    assert caught.value.may_have_executed is False
    assert len(server.asked) == 1
