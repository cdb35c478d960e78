"""Programs test themselves with doubles of a session that have what the stock asks for, and no more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec, patch

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLClient, GraphQLRequest, GraphQLRequestException, GraphQLSubscription

from graphql_prod import InvalidResponseError, ProductionClient
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

QUERY = "query Look { hello }"
MUTATION = "mutation Add { increment }"
DATA = {"data": {"hello": "w"}}
BODY = b'{"data":{"hello":"w"}}'
MISSING = object()
URL = "http://h/graphql"


class Answer:
    """A status and ``read()``: all that the stock reads over aiohttp."""

    def __init__(self, body: Any = BODY, status: int = 200, headers: Any = MISSING) -> None:
        self.status = status
        self._body = body
        if headers is not MISSING:
            self.headers = headers

    async def read(self) -> Any:
        return self._body


class Thin:
    """``async with session.request(...)``: all that the stock asks of an aiohttp session."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def request(self, **options: Any) -> Any:
        self.asked.append(options)
        return self

    async def __aenter__(self) -> Any:
        return self.answer

    async def __aexit__(self, *_: object) -> None:
        """Nothing to leave."""


def mocked(kind: type[Mock], answer: Any, spec: Any = None) -> Any:
    """A mock of a session, with or without a specification."""
    session = kind(spec=spec) if spec else kind()
    session.request = MagicMock(return_value=Thin(answer))
    return session


def autospec(answer: Any) -> Any:
    """The same, made of the whole specification."""
    session = create_autospec(aiohttp.ClientSession, instance=True)
    session.request = MagicMock(return_value=Thin(answer))
    return session


def httpx_mock(answer: Any) -> Any:
    """A mock of an httpx client."""
    client = AsyncMock(spec=httpx.AsyncClient)
    client.request = AsyncMock(return_value=answer)
    return client


def httpx_answer(status: int = 200, headers: Any = None) -> Any:
    """What the stock reads over httpx."""
    return Mock(status_code=status, content=BODY, headers={} if headers is None else headers)


@contextlib.asynccontextmanager
async def both(make: Callable[[], Any]) -> AsyncIterator[list[GraphQLClient]]:
    """The stock client and ours, each with a double of its own."""
    with no_waiting():
        yield [
            GraphQLClient(URL, session=make(), validate=False),
            ProductionClient(URL, session=make(), validate=False),
        ]


ANSWERS: dict[str, Callable[[], Any]] = {
    "no headers": Answer,
    "empty headers": lambda: Answer(headers={}),
    "lower case": lambda: Answer(headers={"content-type": "application/json"}),
    "numbers": lambda: Answer(headers={"Content-Length": 22, "Retry-After": 3}),
    "a Mock": lambda: Answer(headers=Mock()),
    "a MagicMock": lambda: Answer(headers=MagicMock()),
    "all a MagicMock": lambda: MagicMock(status=200, read=AsyncMock(return_value=BODY)),
    "text": lambda: Answer(BODY.decode()),
    "bytearray": lambda: Answer(bytearray(BODY)),
    "memoryview": lambda: Answer(memoryview(BODY)),
}
DOUBLES: dict[str, Callable[[Any], Any]] = {
    "thin": Thin,
    "Mock": lambda answer: mocked(Mock, answer),
    "MagicMock": lambda answer: mocked(MagicMock, answer),
    "with a specification": lambda answer: mocked(MagicMock, answer, aiohttp.ClientSession),
    "AsyncMock": lambda answer: mocked(AsyncMock, answer, aiohttp.ClientSession),
    "autospec": lambda answer: autospec(answer),
}


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("double", DOUBLES)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer(answer: str, double: str, method: str) -> None:
    """Whatever stands for headers and body, what comes out is what comes out of the stock client."""
    async with both(lambda: DOUBLES[double](ANSWERS[answer]())) as clients:
        found = [await client.query(QUERY, method=method) for client in clients]
    assert [each.json for each in found] == [DATA, DATA]


@pytest.mark.parametrize("headers", [None, [], 5, "text"])
async def test_headers_that_the_stock_cannot_read(headers: Any) -> None:
    """They are as good as none."""
    async with ProductionClient(URL, session=Thin(Answer(headers=headers)), validate=False) as client:  # type: ignore[arg-type]
        assert (await client.query(QUERY)).json == DATA


@pytest.mark.parametrize("double", DOUBLES)
async def test_what_the_double_is_asked(double: str) -> None:
    """The stock's arguments of the stock's types: programs look at them in their assertions."""
    async with both(lambda: DOUBLES[double](Answer())) as clients:
        asked = []
        for client in clients:
            session = DOUBLES[double](Answer())
            await client.query(QUERY, session=session)
            if isinstance(session, Thin):
                asked += session.asked
            else:
                asked.append(session.request.call_args.kwargs)
    assert asked[0] == asked[1]
    assert type(asked[1]["data"]) is bytes


@pytest.mark.parametrize("status", [302, 400, 401, 500])
@pytest.mark.parametrize("headers", [MISSING, None, {}, {"Retry-After": 2}, Mock(), MagicMock()])
@pytest.mark.parametrize("body", [b"no", "no", None, b'{"errors": [{"message": "no"}]}', Mock()])
async def test_a_status(status: int, headers: Any, body: Any) -> None:
    """It is told as ours whatever stands for headers and body; a mutation is not sent twice for it."""
    session = Thin(Answer(body, status, headers))
    with no_waiting():
        async with ProductionClient(URL, session=session, validate=False) as client:  # type: ignore[arg-type]
            with pytest.raises(GraphQLRequestException, match=str(status)):
                await client.query(MUTATION)
    assert len(session.asked) == 1


async def test_the_media_type_of_thin_headers() -> None:
    """What has only ``get()`` is asked for the content type, as the stock asks it."""
    headers = Mock(get=lambda name: "application/graphql-response+json" if name == "Content-Type" else None)
    body = b'{"errors": [{"message": "no"}]}'
    async with both(lambda: Thin(Answer(body, 400, headers))) as clients:
        found = [await client.query(QUERY) for client in clients]
    assert [each.json for each in found] == [{"errors": [{"message": "no"}]}] * 2


@pytest.mark.parametrize("body", [None, Mock(), "junk", b"junk", b"", 5])
async def test_a_body_that_is_none(body: Any) -> None:
    """No answer is told as such, whatever it is."""
    with no_waiting():
        async with ProductionClient(URL, session=Thin(Answer(body)), validate=False) as client:  # type: ignore[arg-type]
            with pytest.raises(InvalidResponseError):
                await client.query(QUERY)


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("headers", [MISSING, None, {}, Mock()])
async def test_a_patched_aiohttp_session(owned: bool, headers: Any) -> None:
    """A session of aiohttp's whose ``request()`` was patched gives what the patch gives."""
    with patch.object(aiohttp.ClientSession, "request", lambda *_, **__: Thin(Answer(headers=headers))):
        async with aiohttp.ClientSession() as native:
            session = None if owned else native
            async with ProductionClient(URL, session=session, validate=False) as client:
                assert (await client.query(QUERY)).json == DATA
                assert (await client.query(MUTATION)).json == DATA
                assert (await client.query(QUERY, method="get")).json == DATA


@pytest.mark.parametrize("headers", [None, Mock(), {"content-type": "application/json"}])
async def test_an_httpx_mock(headers: Any) -> None:
    """A mock with the specification of httpx's client is used as the stock uses it."""
    async with both(lambda: httpx_mock(httpx_answer(headers=headers))) as clients:
        found = [await client.query(MUTATION) for client in clients]
        asked = []
        for client in clients:
            session = httpx_mock(httpx_answer(headers=headers))
            await client.query(MUTATION, session=session)
            asked.append(session.request.call_args.kwargs)
    assert [each.json for each in found] == [DATA, DATA]
    assert asked[0] == asked[1]


async def test_a_patched_httpx_client() -> None:
    """A client of httpx's whose ``request()`` was patched gives what the patch gives."""
    async with httpx.AsyncClient() as http:
        with patch.object(http, "request", AsyncMock(return_value=httpx_answer(headers=Mock()))):
            async with ProductionClient(URL, session=http, validate=False) as client:
                assert (await client.query(MUTATION)).json == DATA


async def test_a_double_of_subscribe() -> None:
    """Programs replace the stock's ``subscribe()``, and call the callbacks by hand."""
    with patch.object(GraphQLSubscription, "subscribe", AsyncMock()) as mock:
        async with ProductionClient(URL, validate=False) as client:
            subscription = await client.subscribe("subscription Follow { count }", on_data=print)
            assert mock.await_args is not None
            assert mock.await_args.kwargs["endpoint"] == URL
            assert isinstance(subscription.request, GraphQLRequest)
            assert subscription.request.query == "subscription Follow { count }"
            assert subscription.task is None
            await subscription.unsubscribe_and_wait()
