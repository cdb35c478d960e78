"""What holds for every answer: what it is taken for, what is said of it, and when credentials are renewed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiographql.client import GraphQLRequest, GraphQLRequestException, GraphQLResponse
from aiographql.client.exceptions import GraphQLTransportException
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from graphql_prod import (
    HTTPStatusError,
    InvalidResponseError,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.calls.call import Call
from graphql_prod.calls.outcomes import is_answer, is_unauthenticated, of_answer, of_exception
from graphql_prod.calls.settings import CallSettings
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus
from graphql_prod.sessions.exchange import Exchange


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


AUTH = frozenset({"UNAUTHENTICATED", "invalid-jwt"})
scalars = st.none() | st.booleans() | st.integers() | st.sampled_from(["", "BUSY", "UNAUTHENTICATED", "data"])
extensions: st.SearchStrategy[Any] = scalars | st.fixed_dictionaries({"code": scalars}) | st.just({})
paths: st.SearchStrategy[Any] = st.none() | st.just([]) | st.just(["increment", 0]) | st.just("increment")
errors = st.fixed_dictionaries({"message": st.just("no")}, optional={"extensions": extensions, "path": paths})
coded = st.sampled_from(["BUSY", "LATER", *sorted(AUTH)]).map(
    lambda code: {"message": "no", "extensions": {"code": code}}
)
bodies = (
    scalars
    | st.lists(scalars, max_size=2)
    | st.fixed_dictionaries(
        {},
        optional={
            "data": scalars | st.just({}) | st.just({"hello": "you"}),
            "errors": scalars
            | st.lists(coded, max_size=3)
            | st.lists(errors | coded, max_size=3)
            | st.lists(scalars, max_size=2),
            "extra": scalars,
        },
    )
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "data": st.none() | st.just({"hello": "you"}),
        "errors": st.lists(errors | coded, max_size=3),
    },
)
statuses = st.none() | st.just(401) | st.integers(200, 299) | st.integers(300, 599)


def stated(body: Any) -> bool:
    """The contract: an object with data (an object or null) or errors (a list of objects)."""
    if not isinstance(body, dict) or not {"data", "errors"} & set(body):
        return False
    if not isinstance(body.get("data", {}), dict | None):
        return False
    found = body.get("errors")
    if found is not None and not (isinstance(found, list) and all(isinstance(each, dict) for each in found)):
        return False
    return "data" in body or bool(found)


def codes_of(body: dict[str, Any]) -> list[Any]:
    """The code of each error; None for one without."""
    found = [each.get("extensions") for each in body.get("errors") or ()]
    return [each.get("code") if isinstance(each, dict) else None for each in found]


def ran(body: Any) -> bool:
    """Whether a part of the operation may have run: there is data, be it null, or an error with a path."""
    if not isinstance(body, dict):
        return False
    found = body.get("errors")
    found = found if isinstance(found, list) else []
    return "data" in body or any(isinstance(each, dict) and each.get("path") is not None for each in found)


async def _judged(
    body: Any, status: int | None, document: str, text: bytes
) -> tuple[AttemptOutcome | None, GraphQLResponse, Call]:
    call = Call(CallSettings(TimeoutPolicy(), Backoff.of(RetryPolicy()), auth_error_codes=AUTH), None)
    call.request = GraphQLRequest(document)
    exchange = Exchange()
    exchange.status, exchange.body = status, text
    exchange.headers = {"Retry-After": "7", "Content-Type": "text/x"}
    response = GraphQLResponse(request=call.request, json=body)
    return of_answer(response, exchange, call, "h"), response, call


@settings(max_examples=250)
@given(
    body=answers | bodies,
    status=statuses,
    mutation=st.booleans(),
    text=st.binary(max_size=5) | st.just("é∑s".encode() * 200),
)
@example({"errors": [{"extensions": {"code": "BUSY"}}]}, None, False, b"")
@example({"data": None}, 503, False, b"")
@example({"data": {"a": 1}, "errors": [{"extensions": {"code": "UNAUTHENTICATED"}}]}, 200, False, b"")
def test_an_answer(body: Any, status: int | None, mutation: bool, text: bytes) -> None:
    """Sorted by what it is, whatever is in it.

    No GraphQL answer is an error that quotes 200 characters at most; data, or errors without codes, under a
    success is as good as any; all else is told with its status, its codes and the wait that it asks for.
    """
    document = "mutation { increment }" if mutation else "{ hello }"
    attempt, response, call = asyncio.run(_judged(body, status, document, text))
    assert call.sent
    assert is_answer(body) is stated(body)
    if not stated(body):
        event("no answer")
        assert attempt is not None
        if status is not None and status >= 300:
            assert (attempt.send_status, attempt.status, type(attempt.error)) == (
                SendStatus.ANSWERED,
                status,
                HTTPStatusError,
            )
            return
        assert (attempt.send_status, attempt.status, attempt.response) == (SendStatus.INVALID, status, None)
        assert isinstance(attempt.error, InvalidResponseError)
        assert (attempt.error.status, attempt.error.content_type) == (status, "text/x")
        assert attempt.error.excerpt == text.decode("utf-8", "replace")[:200]
        assert is_unauthenticated(attempt, response, call) is (status == 401 and not (mutation and ran(body)))
        return
    codes = codes_of(body)
    named = all(isinstance(code, str) for code in codes) and codes and body.get("data") is None
    if not named and (status is None or status < 300):
        event("good")
        assert attempt is None
    else:
        event("coded" if named else "status")
        assert attempt is not None
        assert (attempt.send_status, attempt.status, attempt.error) == (SendStatus.ANSWERED, status, None)
        assert attempt.codes == (frozenset(codes) if named else None)
        assert attempt.retry_after == 7
        assert attempt.response is response
        failed = status is not None and status >= 300
        assert attempt.reason.startswith(str(status)) if failed else attempt.reason == "error code"
    refused = status == 401 or bool(AUTH & {code for code in codes if isinstance(code, str)})
    refused = refused and not (mutation and ran(body))
    assert is_unauthenticated(attempt, response, call) is refused
    if attempt is not None:
        assert is_unauthenticated(attempt, None, call) is refused


class OwnError(Exception):
    """Somebody's own, which says what happened better than we could."""


RESET = ConnectionResetError()


def _wrapped(cause: Exception | None) -> GraphQLTransportException:
    error = GraphQLTransportException("no")
    error.__cause__ = cause
    return error


def failed(error: Exception, exchange: Exchange) -> tuple[AttemptOutcome, Call]:
    """What an attempt that raised is taken for."""

    async def judge() -> tuple[AttemptOutcome, Call]:
        call = Call(CallSettings(TimeoutPolicy(), Backoff.of(RetryPolicy())), None)
        return of_exception(error, exchange, call, "h"), call

    return asyncio.run(judge())


@pytest.mark.parametrize("sent", [True, False, None])
@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (_wrapped(RESET), TransportError, RESET),
        (_wrapped(None), TransportError, None),
        (TimeoutError(), RequestTimeoutError, None),
        (OwnError("mine"), OwnError, None),
    ],
    ids=["wrapped", "bare", "timeout", "own"],
)
def test_the_error_of_a_failure(
    error: Exception, kind: type[Exception], cause: Exception | None, sent: bool | None
) -> None:
    """A plain failure is told in our words, above what really happened; anybody's own is raised as it is."""
    exchange = Exchange()
    exchange.sent = sent
    attempt, call = failed(error, exchange)
    assert type(attempt.error) is kind
    if kind is OwnError:
        assert attempt.error is error
    else:
        assert attempt.error is not None
        assert attempt.error.__cause__ is (cause or error)
    assert call.sent is (
        sent is not False if sent is not None else attempt.send_status is not SendStatus.UNSENT
    )


class OwnRefusal(GraphQLRequestException):
    """A transport's own word for an answer that it does not like."""


@pytest.mark.parametrize("kind", [GraphQLRequestException, OwnRefusal])
@pytest.mark.parametrize("status", [None, 503])
def test_a_refusal(kind: type[GraphQLRequestException], status: int | None) -> None:
    """A status is told as ours; none, or a transport's own exception, is raised as it is and not repeated."""
    error = kind(GraphQLResponse(request="", json={"errors": []}))
    exchange = Exchange()
    exchange.status = status
    attempt, call = failed(error, exchange)
    assert call.sent
    if status is None or kind is OwnRefusal:
        assert attempt == AttemptOutcome(SendStatus.FINAL, "refused", status, error=error)
    else:
        assert (attempt.send_status, attempt.status) == (SendStatus.ANSWERED, 503)
        assert isinstance(attempt.error, HTTPStatusError)
        assert attempt.error.__cause__ is error
        assert attempt.error.response == error.response


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (299, {}, None),
        (300, {}, "a redirect to no address,"),
        (302, {"Location": "http://["}, "a redirect to an address that cannot be read,"),
        (302, {"Location": "https://b.example/x?y"}, "a redirect to b.example,"),
        (399, {"Location": "/x"}, "a redirect to h,"),
        (400, {"Location": "https://b.example"}, None),
    ],
)
def test_a_redirect(status: int, headers: dict[str, str], words: str | None) -> None:
    """It says where it leads, and not more than that; other statuses lead nowhere."""
    error = GraphQLRequestException(GraphQLResponse(request="", json={}))
    exchange = Exchange()
    exchange.status, exchange.headers = status, headers
    attempt, _ = failed(error, exchange)
    assert attempt.reason.startswith(str(status))
    assert ("redirect" in str(attempt.error)) is (words is not None)
    assert (words or "") in str(attempt.error)
    to_another = words is not None and "address" not in words
    assert ("make it the endpoint" in str(attempt.error)) is to_another
