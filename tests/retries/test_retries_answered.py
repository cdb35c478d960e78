"""Which answers are retried, and what comes out at the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequestException
from retrying import (
    ALL_ATTEMPTS,
    AS_QUERY,
    KINDS,
    MARKED,
    MUTATION,
    ONCE,
    QUERY,
    REPEATABLE,
    UNMARKED,
    _graphql,
    assert_told,
    failure_of,
    forget,
    host_of,
)

from graphql_prod import (
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable


# --- answered -------------------------------------------------------------------------------------

TRANSIENT = (500, 502, 503, 504, 507, 508, 509, 520, 530, 599)
FINAL = (400, 401, 403, 404, 405, 408, 409, 413, 422, 425, 429, 451, 501, 505, 506, 510, 511)


def _html(status: int) -> Answer:
    return Answer.page(status, execute=True)


def _json(status: int) -> Answer:
    return Answer.graphql(status, errors=["no"], media_type="application/json", execute=True)


pages = pytest.mark.parametrize("page", [_html, _json], ids=["html", "json"])


@pages
async def test_an_error_page_with_a_transient_status_is_retried_for_queries(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """5XX as a page of whoever stands in between: again, then HTTPStatusError with status and headers."""
    for status in TRANSIENT:
        forget(server)
        server.always(page(status))
        error = await failure_of(client)
        assert type(error) is HTTPStatusError, status
        assert isinstance(error, GraphQLRequestException)
        assert error.status == status
        assert error.headers["content-TYPE"]
        assert str(status) in str(error)
        assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=False)
        assert server.executions == {"counter": ALL_ATTEMPTS}, status


@pages
async def test_an_error_page_with_a_transient_status_is_retried_for_marked_mutations(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """Who marks a mutation says that running it again does no harm."""
    for status in (500, 503, 599):
        for kind in MARKED:
            forget(server)
            server.always(page(status))
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is HTTPStatusError, (status, kind)
            assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=True)
            assert server.executions == {"increment": ALL_ATTEMPTS}, (status, kind)


@pages
async def test_a_mutation_answered_with_an_error_page_is_not_repeated(
    client: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """A 5XX may hide an execution: once, and said so."""
    for status in TRANSIENT:
        for kind in ONCE:
            forget(server)
            server.always(page(status))
            error = await failure_of(kind.view(client), MUTATION)
            assert type(error) is HTTPStatusError, (status, kind)
            assert error.status == status
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert server.executions == {"increment": 1}, (status, kind)


async def test_a_status_that_says_never_is_not_retried(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """501, 505 and 4XX blame the request: nobody repeats it."""
    for status in FINAL:
        for kind in KINDS:
            forget(server)
            server.always(Answer.page(status))
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is HTTPStatusError, (status, kind)
            assert isinstance(error, GraphQLRequestException)
            assert error.status == status
            assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
            assert len(server.requests) == 1, (status, kind)


async def test_a_graphql_answer_with_a_transient_status_is_retried_and_then_returned(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """What the stock client returns is returned, also after the last attempt."""
    for kind in REPEATABLE:
        forget(server)
        server.always(_graphql(503))
        response = await kind.view(client).query(kind.document)
        assert [error.message for error in response.errors] == ["no"]
        assert server.executions == {kind.field: ALL_ATTEMPTS}, kind


async def test_a_graphql_answer_to_a_mutation_is_returned_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """An unmarked mutation that was answered is not repeated, whatever the status."""
    for status in TRANSIENT:
        for kind in ONCE:
            forget(server)
            server.always(_graphql(status))
            response = await kind.view(client).query(kind.document)
            assert [error.message for error in response.errors] == ["no"]
            assert server.executions == {"increment": 1}, (status, kind)


async def test_a_graphql_answer_with_any_other_status_is_returned_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """An answer is an answer: errors of the operation are the caller's affair."""
    for status in (200, 294, 400, 401, 404, 422, 429, 501, 505):
        forget(server)
        server.always(_graphql(status))
        response = await client.query(QUERY)
        assert [error.message for error in response.errors] == ["no"]
        assert len(server.requests) == 1, status


async def test_what_comes_out_is_what_the_last_attempt_came_to(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """Not what looked best: an error after answers is raised, an answer after errors is returned."""
    server.script(_graphql(503), _graphql(503), _graphql(503), _html(502))
    error = await failure_of(owner)
    assert error.status == 502
    assert error.attempts == ALL_ATTEMPTS
    server.script(_html(502), _html(502), _html(502), _graphql(503))
    assert [error.message for error in (await owner.query(QUERY)).errors] == ["no"]
    server.script(_graphql(503), _html(502))
    response = await owner.query(QUERY)
    assert response.data == {"counter": 0}
    assert not response.errors


@pytest.mark.parametrize("page", [_html, _graphql], ids=["html", "graphql"])
async def test_429_is_retried_once_it_is_a_status_of_the_policy(
    owner: ProductionClient, server: ScriptedServer, page: Callable[[int], Answer]
) -> None:
    """The statuses are a setting; they widen the row, and change no column."""
    for kind in (AS_QUERY, *MARKED):
        forget(server)
        server.script(page(429))
        await kind.view(owner, statuses={429, 503}).query(kind.document)
        assert len(server.requests) == 2, kind
    forget(server)
    server.always(page(429))
    with contextlib.suppress(HTTPStatusError):
        await UNMARKED.view(owner, statuses={429, 503}).query(MUTATION)
    assert len(server.requests) == 1


async def test_a_status_taken_out_of_the_policy_is_not_retried(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The statuses are a setting: what is not among them ends the call."""
    server.always(Answer.page(503))
    error = await failure_of(AS_QUERY.view(simple, statuses={429}))
    assert error.attempts == 1


# --- a success that is no GraphQL answer ----------------------------------------------------------

INVALID = {
    "login page": Answer.login_page(execute=True),
    "JSON cut short": Answer(body=b'{"data": {"coun', media_type="application/json", execute=True),
    "JSON list": Answer(body=b'[{"data": {}}]', media_type="application/json", execute=True),
    "data is a list": Answer(body={"data": []}, execute=True),
    "data is a text": Answer(body={"data": "yes"}, execute=True),
    "errors are a text": Answer(body={"errors": "no"}, execute=True),
    "errors are texts": Answer(body={"errors": ["no"]}, execute=True),
    "another object": Answer(body={"message": "fine"}, execute=True),
    "null": Answer(body=b"null", media_type="application/json", execute=True),
    "nothing": Answer(body=b"", media_type="application/graphql-response+json", execute=True),
    "no content": Answer(status=204, body=b"", execute=True),
}


async def test_a_success_without_graphql_is_asked_for_again(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """What the stock returns as empty data is a failure: again, then InvalidResponseError."""
    for name, answer in INVALID.items():
        for kind in (AS_QUERY, MARKED[0]):
            forget(server)
            server.always(answer)
            error = await failure_of(kind.view(client), kind.document)
            assert type(error) is InvalidResponseError, (name, kind)
            assert isinstance(error, GraphQLRequestException)
            assert error.status == (answer.status or 200)
            assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=kind is not AS_QUERY)
            assert server.executions == {kind.field: ALL_ATTEMPTS}, (name, kind)


async def test_a_mutation_answered_without_graphql_is_not_repeated(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The mutation may have run behind that page: once."""
    for name, answer in INVALID.items():
        for kind in ONCE:
            forget(server)
            server.always(answer)
            error = await failure_of(kind.view(client), MUTATION)
            assert type(error) is InvalidResponseError, (name, kind)
            assert_told(error, host_of(server), 1, may_have_executed=True)
            assert server.executions == {"increment": 1}, (name, kind)


async def test_an_odd_answer_is_still_an_answer(client: ProductionClient, server: ScriptedServer) -> None:
    """Null data, no fields, errors beside null: GraphQL's own business, returned as it is."""
    bodies: list[dict[str, Any]] = [
        {"data": None},
        {"data": {}},
        {"data": None, "errors": [{"message": "no"}]},
        {"data": {"counter": None}, "errors": [{"message": "no", "path": ["counter"]}]},
        {"errors": [{}]},
    ]
    for body in bodies:
        forget(server)
        server.always(Answer(body=body))
        response = await client.query(QUERY)
        assert response.json == body
        assert len(server.requests) == 1, body


# --- error codes ----------------------------------------------------------------------------------


def _coded(*codes: str | None, **around: Any) -> Answer:
    errors = [
        {"message": "no"} if code is None else {"message": "no", "extensions": {"code": code}}
        for code in codes
    ]
    return Answer.graphql(errors=errors, execute=True, **around)


CODES = frozenset({"BUSY", "LATER"})


async def test_an_answer_whose_every_error_has_such_a_code_is_retried(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A refusal in the answer itself is retried, and returned after the last attempt."""
    for codes in (("BUSY",), ("BUSY", "LATER")):
        for kind in REPEATABLE:
            forget(server)
            server.always(_coded(*codes))
            response = await kind.view(owner, error_codes=CODES).query(kind.document)
            assert len(response.errors) == len(codes)
            assert len(server.requests) == ALL_ATTEMPTS, (codes, kind)


async def test_an_answer_with_such_a_code_ends_a_mutation(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A code is an answer: an unmarked mutation is not repeated for it."""
    for kind in ONCE:
        forget(server)
        server.always(_coded("BUSY"))
        response = await kind.view(owner, error_codes=CODES).query(kind.document)
        assert response.errors
        assert server.executions == {"increment": 1}, kind


async def test_one_error_without_such_a_code_ends_the_call(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """Only an answer without data, all of whose errors ask for it, is retried."""
    for answer in (
        _coded("BUSY", "FORBIDDEN"),
        _coded("BUSY", None),
        _coded(None),
        _coded("BUSY", data={"counter": 1}),
        Answer.graphql(errors=[{"message": "no", "extensions": "BUSY"}]),
        Answer.graphql(errors=[{"message": "no", "extensions": {"code": ["BUSY"]}}]),
        Answer.graphql(errors=[{"message": "no", "extensions": None}]),
    ):
        forget(server)
        server.always(answer)
        response = await AS_QUERY.view(owner, error_codes=CODES).query(QUERY)
        assert response.errors
        assert len(server.requests) == 1, answer


async def test_no_code_is_retried_unless_it_was_named(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The set of codes is empty by default."""
    server.always(_coded("BUSY"))
    await simple.query(QUERY)
    assert len(server.requests) == 1
