"""What query() returns: the stock answer with the facts of its call, and a repr that tells no secret."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLClient, GraphQLRequest
from aiographql.client import GraphQLResponse as StockResponse

from graphql_prod import (
    GraphQLResponse,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from subscribing import Backend

Owner = Literal["owned", "given"]
ECHO = 'query Echo($v: String) { echo(value: $v) hello(name: "s3cret-literal") }'
ONCE = RetryPolicy(attempts=1)


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner, retry: RetryPolicy | None = None, **arguments: Any
) -> AsyncIterator[ProductionClient]:
    config = ProductionConfig(retry=retry or RetryPolicy())
    async with contextlib.AsyncExitStack() as stack:
        if owner == "owned":
            arguments["backend"] = backend
        elif backend == "aiohttp":
            arguments["session"] = await stack.enter_async_context(aiohttp.ClientSession())
        else:
            arguments["session"] = await stack.enter_async_context(httpx.AsyncClient())
        client = ProductionClient(url, validate=False, config=config, **arguments)
        yield await stack.enter_async_context(client)


async def test_it_has_the_facts_of_the_answer(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Status, headers, wait, attempts and time, which the stock drops."""
    server.script(Answer.page(503), Answer(headers={"X-Request-Id": "abc", "Retry-After": "2.5"}))
    with no_waiting():
        async with client_of(server.url, backend, owner) as client:
            answer = await client.query("{ hello }")
    assert type(answer) is GraphQLResponse
    assert (answer.status, answer.attempts, answer.retry_after) == (200, 2, 2.5)
    assert answer.response_headers is not None
    assert answer.response_headers["x-request-ID"] == "abc"
    assert 0 < answer.elapsed < 10
    assert answer.data == {"hello": "Hello, world!"}


@pytest.mark.parametrize("method", ["query", "post", "get"])
async def test_every_method_returns_it(server: ScriptedServer, backend: Backend, method: str) -> None:
    """get() and post() too, and the transport itself."""
    async with client_of(server.url, backend, "owned") as client:
        answer = await getattr(client, method)(GraphQLRequest("{ hello }"))
        view = client.with_options(timeout=5)
        assert type(await getattr(view, method)(GraphQLRequest("{ hello }"))) is GraphQLResponse
    assert (type(answer), answer.status, answer.attempts) == (GraphQLResponse, 200, 1)


async def test_an_answer_with_errors_has_them_too(server: ScriptedServer, backend: Backend) -> None:
    """Whatever is returned is one of ours: errors under a success, and under a status that is none."""
    server.script(
        Answer.graphql(200, errors=["no"], headers={"Retry-After": "7"}),
        Answer.graphql(503, errors=["busy"], headers={"Retry-After": "8"}),
    )
    async with client_of(server.url, backend, "owned", ONCE) as client:
        told = [await client.query("{ hello }") for _ in range(2)]
    assert [(type(each), each.status, each.retry_after) for each in told] == [
        (GraphQLResponse, 200, 7.0),
        (GraphQLResponse, 503, 8.0),
    ]


async def test_it_equals_the_stocks(server: ScriptedServer, backend: Backend) -> None:
    """An answer of the same request and JSON, compared either way round; another one is unequal."""
    async with (
        GraphQLClient(server.url, validate=False) as stock,
        client_of(server.url, backend, "owned") as client,
    ):
        theirs, ours = await stock.query("{ hello }"), await client.query("{ hello }")
        other = await client.query("{ counter }")
    assert type(theirs) is StockResponse
    assert ours == theirs
    assert theirs == ours
    assert ours == dataclasses.replace(ours, status=599)
    assert ours != other
    assert theirs != other
    assert other != theirs
    assert ours != "an answer"
    assert ours.json is not None


class Own:
    """A transport of a user's."""

    async def request(self, method: str, request: Any, serializer: Any, **kwargs: Any) -> StockResponse:
        return StockResponse(request=request, json={"data": {"a": 1}})

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_transport_of_the_users_hides_the_status() -> None:
    """None for what nobody saw; what we know ourselves is told."""
    async with ProductionClient("http://h/graphql", validate=False, transport=Own()) as client:
        answer = await client.query("{ a }")
    assert type(answer) is GraphQLResponse
    assert (answer.status, answer.response_headers, answer.retry_after) == (None, None, None)
    assert answer.attempts == 1
    assert answer.data == {"a": 1}


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
async def test_it_travels(server: ScriptedServer, backend: Backend, copier: Any) -> None:
    """copy, deepcopy and pickle bring everything back."""
    server.always(Answer(headers={"X-A": "b"}))
    async with client_of(server.url, backend, "owned") as client:
        answer = await client.query(ECHO, variables={"v": "x"})
    back = copier(answer)
    assert back == answer
    assert type(back) is GraphQLResponse
    assert [getattr(back, each) for each in ("status", "attempts", "elapsed", "retry_after")] == [
        answer.status,
        answer.attempts,
        answer.elapsed,
        answer.retry_after,
    ]
    assert (back.response_headers or {}).get("x-a") == "b"
    assert dataclasses.asdict(back)["json"] == answer.json


def test_it_can_be_made_by_hand() -> None:
    """For a user's tests."""
    made = GraphQLResponse(request="{ a }", json={"data": {"a": 1}}, status=200, attempts=2)
    assert made == StockResponse(request="{ a }", json={"data": {"a": 1}})
    assert (made.status, made.attempts, made.elapsed, made.response_headers) == (200, 2, 0.0, None)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Answer.page(503),
        Answer.login_page(),
        Answer.graphql(400, errors=["x"], media_type="application/json"),
    ],
    ids=["good", "page", "login page", "4XX"],
)
async def test_its_repr_tells_no_secret(
    server: ScriptedServer, backend: Backend, owner: Owner, answer: Answer | None
) -> None:
    """No header, variable or literal, of the client, a view, a call or a provider; of errors' answers too."""
    if answer is not None:
        server.always(answer)
    provider = {"X-Provider": "s3cret-provided"}
    async with client_of(
        server.url, backend, owner, ONCE, headers={"X-A": "s3cret-client"}, headers_provider=lambda: provider
    ) as client:
        view = client.with_options(headers={"X-V": "s3cret-view"})
        found: Any
        try:
            found = await view.query(ECHO, headers={"X-C": "s3cret-call"}, variables={"v": "s3cret-variable"})
            shown = [found]
        except (HTTPStatusError, InvalidResponseError) as error:
            found = error.response
            shown = [error, found, error.__cause__, getattr(error.__cause__, "response", None)]
        shown += [found.request, view._prod_settings, view.transport]
    assert found.request.variables == {"v": "s3cret-variable"}
    for each in shown:
        assert "s3cret" not in repr(each)
        assert "s3cret" not in f"{each}"
    assert "GraphQLResponse" in repr(found)


async def test_the_repr_of_an_event_tells_no_secret(server: ScriptedServer, backend: Backend) -> None:
    """Events of callbacks and of streams, what they carry, and the error event at the end."""
    shown: list[Any] = []
    headers = {"X-A": "s3cret-client"}
    document = "subscription Count($to: Int) { count(to: $to) }"
    variables = {"to": 2, "unused": "s3cret-variable"}
    async with client_of(server.url, backend, "owned", headers=headers) as client:
        subscription = await client.subscribe(document, variables=variables, on_data=shown.append, wait=True)
        shown += [event async for event in client.stream(document, variables=variables)]
    assert len(shown) == 6
    assert shown[0].payload.data == shown[3].payload.data
    for each in [
        subscription,
        *shown,
        *(event.payload for event in shown),
        *(each.request for each in shown),
    ]:
        assert "s3cret" not in repr(each)
