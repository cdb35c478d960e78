"""The errors a user meets: whose children they are, what they carry, what they say, and how they travel."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from typing import TYPE_CHECKING, Any, Literal

import graphql
import pytest
from aiographql.client import (
    GraphQLClient,
    GraphQLClientException,
    GraphQLRequestException,
)
from aiographql.client.exceptions import GraphQLTransportException

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    InvalidResponseError,
    Problem,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Backend = Literal["aiohttp", "httpx"]
QUERY = "query Read { counter }"
MUTATION = "mutation Add { increment }"
ONCE = RetryPolicy(attempts=1)

FAMILY: dict[type[GraphQLClientException], tuple[type[BaseException], ...]] = {
    TransportError: (GraphQLTransportException,),
    RequestTimeoutError: (GraphQLTransportException, TimeoutError),
    HTTPStatusError: (GraphQLRequestException,),
    InvalidResponseError: (GraphQLRequestException,),
    ClientClosedError: (GraphQLClientException,),
    ConfigurationError: (GraphQLClientException, ValueError),
}


@pytest.fixture
async def client(backend: Backend, server: ScriptedServer) -> AsyncIterator[ProductionClient]:
    async with ProductionClient(
        server.url,
        validate=False,
        backend=backend,
        config=ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(read=0.2)),
    ) as client:
        yield client


async def failure_of(client: ProductionClient, document: str = QUERY, **arguments: Any) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- which one is the caller's question
        await client.query(document, **arguments)
    return caught.value


def host_of(server: ScriptedServer) -> str:
    return f"{server.host}:{server.port}"


FAILURES: dict[str, tuple[Answer, type[GraphQLClientException]]] = {
    "page": (
        Answer.page(503, headers={"Retry-After": "7200", "X-Request-Id": "abc"}),
        HTTPStatusError,
    ),
    "redirect": (Answer.redirect("https://elsewhere.example/graphql"), HTTPStatusError),
    "login page": (Answer.login_page(), InvalidResponseError),
    "reset": (Answer.reset("before"), TransportError),
    "timeout": (Answer.hang(), RequestTimeoutError),
}
failures = pytest.mark.parametrize(("answer", "kind"), FAILURES.values(), ids=FAILURES.keys())


# --- the family -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_every_error_is_what_a_stock_user_catches(kind: type[GraphQLClientException]) -> None:
    """An `except` clause written for the stock client still catches."""
    for parent in FAMILY[kind]:
        assert issubclass(kind, parent)
    assert issubclass(kind, GraphQLClientException)


@failures
async def test_it_is_told_with_its_facts(
    client: ProductionClient, server: ScriptedServer, answer: Answer, kind: type[GraphQLClientException]
) -> None:
    """What happened, to which host, after how many attempts, and what to do."""
    server.always(answer)
    for document in (QUERY, MUTATION):
        error = await failure_of(client, document)
        assert issubclass(type(error), kind)
        assert (error.attempts, error.may_have_executed) == (1, document == MUTATION)
        assert 0 <= error.elapsed < 10
        text = str(error)
        assert host_of(server) in text
        assert "after 1 attempt in" in text
        assert text.endswith((".", "'"))
        assert text.count(". ") >= 2
        assert ("may have been executed" in text) is (document == MUTATION)


@failures
async def test_the_cause_is_kept(
    client: ProductionClient, server: ScriptedServer, answer: Answer, kind: type[GraphQLClientException]
) -> None:
    """The library's own exception is there for whoever wants it."""
    server.always(answer)
    error = await failure_of(client)
    if kind is not InvalidResponseError:
        assert error.__cause__ is not None
        assert type(error.__cause__) is not kind


# --- attributes -----------------------------------------------------------------------------------


async def test_an_http_error_has_status_headers_and_the_wish_to_wait(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The stock drops all three."""
    server.always(FAILURES["page"][0])
    error = await failure_of(client)
    assert error.status == 503
    assert error.headers["X-REQUEST-ID"] == error.headers["x-request-id"] == "abc"
    assert error.retry_after == 7200.0
    assert error.response.json == {}


async def test_an_http_error_without_a_wish_has_none(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """No Retry-After, or one that cannot be read: None."""
    server.script(Answer.page(404), Answer.page(404, headers={"Retry-After": "soon"}))
    assert (await failure_of(client)).retry_after is None
    assert (await failure_of(client)).retry_after is None


async def test_an_http_error_keeps_the_body_that_the_stock_keeps(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """Errors in a body of another media type are in .response, as with the stock."""
    server.always(Answer.graphql(400, errors=["no"], media_type="application/json"))
    error = await failure_of(client)
    assert error.response.json == {"errors": [{"message": "no"}]}
    async with GraphQLClient(server.url, validate=False) as stock:
        with pytest.raises(GraphQLRequestException) as caught:
            await stock.query(QUERY)
    assert caught.value.response.json == error.response.json


async def test_an_invalid_response_shows_what_came(client: ProductionClient, server: ScriptedServer) -> None:
    """Status, content type and the body's first 200 characters."""
    body = "ü" * 199 + "Xyz" + "z" * 10_000
    server.always(Answer.page(203, body))
    error = await failure_of(client)
    assert error.status == 203
    assert error.content_type.startswith("text/html")
    assert error.excerpt == "ü" * 199 + "X"
    assert error.excerpt in str(error)
    assert "zz" not in str(error)


async def test_an_empty_response_shows_nothing(client: ProductionClient, server: ScriptedServer) -> None:
    """What did not come is not quoted."""
    server.always(Answer.page(200, ""))
    error = await failure_of(client)
    assert (type(error), error.excerpt) == (InvalidResponseError, "")
    assert str(error).endswith("or a proxy in between.")


async def test_bytes_that_are_no_text_are_shown_as_far_as_they_go(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """An excerpt is always a text."""
    server.always(Answer(body=bytes(range(128, 256)) * 10, media_type="image/png"))
    error = await failure_of(client)
    assert type(error) is InvalidResponseError
    assert len(error.excerpt) == 200


async def test_a_redirect_names_its_target_and_no_more(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The host is told; path, query and credentials of the target are not."""
    server.always(Answer.redirect("https://user:s3cret@elsewhere.example/s3cret?token=s3cret"))
    error = await failure_of(client)
    assert "elsewhere.example" in str(error)
    assert "s3cret" not in str(error)
    server.always(Answer.redirect("/login"))
    assert str(await failure_of(client)).count(server.host) >= 2


# --- secrets --------------------------------------------------------------------------------------


@failures
async def test_no_secret_is_in_an_error(
    backend: Backend, server: ScriptedServer, answer: Answer, kind: type[GraphQLClientException]
) -> None:
    """Credentials of the URL, its query and header values stay out of str() and repr()."""
    server.always(answer)
    url = (
        server.url.replace("http://", "http://user:s3cret-password@") + "?token=s3cret-token#s3cret-fragment"
    )
    config = ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(read=0.1))
    async with ProductionClient(
        url, headers={"X-Api-Key": "s3cret-key"}, validate=False, backend=backend, config=config
    ) as client:
        error = await failure_of(
            client, headers={"X-Other": "s3cret-header"}, variables={"a": "s3cret-variable"}
        )
        told = [str(error), repr(error), repr(client), repr(client.config), repr(client.stats())]
    assert type(error) is kind
    assert host_of(server) in str(error)
    for text in told:
        assert "s3cret" not in text
        assert "user:" not in text


async def test_an_endpoint_with_credentials_works(backend: Backend, server: ScriptedServer) -> None:
    """user:password@ in the endpoint is sent as Basic credentials, as both libraries do it."""
    url = server.url.replace("http://", "http://user:s3cret@")
    async with ProductionClient(url, validate=False, backend=backend) as client:
        response = await client.query(QUERY)
    assert response.data == {"counter": 0}
    assert server.requests[0].headers["Authorization"] == "Basic dXNlcjpzM2NyZXQ="


# --- facts on errors that are not ours ------------------------------------------------------------


@pytest.fixture
async def validating(server: ScriptedServer) -> AsyncIterator[ProductionClient]:
    async with ProductionClient(server.url, config=ProductionConfig(retry=ONCE)) as client:
        yield client


async def test_a_syntax_error_stays_graphqls_own(validating: ProductionClient) -> None:
    """graphql.GraphQLSyntaxError, with the facts."""
    error = await failure_of(validating, "mutation { ")
    assert issubclass(type(error), graphql.GraphQLSyntaxError)
    assert error.elapsed >= 0
    assert error.may_have_executed is False
    assert isinstance(error.attempts, int)


async def test_a_refused_document_carries_the_facts(
    validating: ProductionClient, server: ScriptedServer
) -> None:
    """A validation failure is raised before sending: a mutation was not executed."""
    error = await failure_of(validating, "mutation { nothing }")
    assert issubclass(type(error), GraphQLClientException)
    assert error.may_have_executed is False
    assert error.elapsed >= 0
    assert isinstance(error.attempts, int)
    assert len(server.requests) == 1


@pytest.mark.parametrize("document", [QUERY, MUTATION])
async def test_a_decoding_error_carries_the_facts_of_the_call(
    client: ProductionClient, server: ScriptedServer, document: str
) -> None:
    """What was executed was executed, also when its answer cannot be decoded."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the codec's own
        await client.query_data_as(document, dict[str, list[int]], path="nowhere.to.be.found")
    error: Any = caught.value
    assert error.attempts == 1
    assert error.may_have_executed is (document == MUTATION)
    assert error.elapsed >= 0
    assert len(server.requests) == 1


async def test_a_closed_client_refuses_with_the_facts(server: ScriptedServer) -> None:
    """ClientClosedError at once: nothing was begun, nothing can have happened."""
    client = ProductionClient(server.url, validate=False)
    await client.close()
    error = await failure_of(client, MUTATION)
    assert type(error) is ClientClosedError
    assert (error.attempts, error.may_have_executed) == (0, False)
    assert error.elapsed >= 0
    assert host_of(server) in str(error)
    assert server.connections == 0


async def test_each_error_is_of_its_own_call(client: ProductionClient, server: ScriptedServer) -> None:
    """Calls that run side by side do not write their facts on one another's errors."""
    server.on("Read", *[Answer.page(503)] * 9)
    server.on("Add", *[Answer.page(404)] * 3)
    view = client.with_options(retry=RetryPolicy(attempts=3, wait_initial=0, wait_max=0))
    calls = [failure_of(view, document) for document in (QUERY, MUTATION) * 3]
    told = [(error.status, error.attempts, error.may_have_executed) for error in await asyncio.gather(*calls)]
    assert told == [(503, 3, False), (404, 1, True)] * 3


# --- travelling -----------------------------------------------------------------------------------

FACTS = ("attempts", "elapsed", "may_have_executed")
OWN: dict[type[GraphQLClientException], tuple[str, ...]] = {
    HTTPStatusError: ("status", "retry_after"),
    InvalidResponseError: ("status", "content_type", "excerpt"),
    RequestTimeoutError: ("phase",),
}


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
@failures
async def test_an_error_of_a_call_travels_between_processes(
    client: ProductionClient,
    server: ScriptedServer,
    answer: Answer,
    kind: type[GraphQLClientException],
    protocol: int,
) -> None:
    """pickle brings back type, text, attributes and notes: task queues do nothing else all day."""
    server.always(answer)
    error = await failure_of(client, MUTATION)
    error.add_note("seen by a worker")
    back: Any = pickle.loads(pickle.dumps(error, protocol))
    assert issubclass(type(back), kind)
    assert str(back) == str(error)
    assert back.args == error.args
    for name in (*FACTS, *OWN.get(kind, ())):
        assert getattr(back, name) == getattr(error, name), name
    assert back.__notes__[-1] == "seen by a worker"
    if issubclass(kind, GraphQLRequestException):
        assert back.response.json == error.response.json
    if kind is HTTPStatusError:
        assert dict(back.headers) == dict(error.headers)
        assert back.headers["CONTENT-length"] == error.headers["content-LENGTH"]


@failures
async def test_an_error_of_a_call_can_be_copied(
    client: ProductionClient, server: ScriptedServer, answer: Answer, kind: type[GraphQLClientException]
) -> None:
    """copy and deepcopy too: error trackers do it."""
    server.always(answer)
    error = await failure_of(client)
    for twin in (copy.copy(error), copy.deepcopy(error)):
        assert issubclass(type(twin), kind)
        assert str(twin) == str(error)
        assert twin.attempts == error.attempts


async def test_a_closed_client_error_travels(server: ScriptedServer) -> None:
    """The errors that no server had a part in travel as well."""
    client = ProductionClient(server.url, validate=False)
    await client.close()
    error = await failure_of(client)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is ClientClosedError
    assert (str(back), back.attempts, back.may_have_executed) == (str(error), 0, False)


def test_a_configuration_error_travels() -> None:
    """With all its problems."""
    with contextlib.suppress(ConfigurationError):
        pytest.fail(str(RetryPolicy(attempts=0)))
    for error in (
        ConfigurationError([Problem("a.b", "is wrong", "env"), Problem("c", "is missing")]),
        ConfigurationError("one text"),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is ConfigurationError
        assert str(back) == str(error)
        assert back.problems == error.problems


def test_an_error_made_by_hand_has_the_attributes_too() -> None:
    """A user's test may raise one: nothing about a call is known then, and nothing is missing."""
    for error in (TransportError("no"), RequestTimeoutError("no", phase="read"), ClientClosedError("no")):
        assert (error.attempts, error.elapsed, error.may_have_executed) == (0, 0.0, False)
        assert str(pickle.loads(pickle.dumps(error))) == "no"
