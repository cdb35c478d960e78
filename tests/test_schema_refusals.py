"""Whether an introspection was refused, for good or for now, or the server is down: decided without I/O."""

from __future__ import annotations

import pytest
from aiographql.client import GraphQLRequestException, GraphQLResponse
from multidict import CIMultiDict

from graphql_prod import HTTPStatusError
from graphql_prod.errors import NoSchemaError
from graphql_prod.schema.refusals import IntrospectionRefusal, refusal_of

AUTH = frozenset({"UNAUTHENTICATED"})
GOOD, NOW, DOWN = IntrospectionRefusal.FOR_GOOD, IntrospectionRefusal.FOR_NOW, None

PAGES = {
    **dict.fromkeys((200, 301, 302, 399, 500, 501, 502, 503, 504, 599), DOWN),
    **dict.fromkeys((408, 425, 429), DOWN),
    **dict.fromkeys((400, 402, 403, 404, 405, 406, 415, 422, 451, 499), GOOD),
    401: NOW,
}
ANSWERS = [
    *((status, "", DOWN) for status in (408, 425, 429, 500, 502, 503, 599)),
    *((status, "", GOOD) for status in (None, 200, 299, 400, 403, 404, 422, 499)),
    (401, "", NOW),
    (200, "UNAUTHENTICATED", NOW),
    (None, "UNAUTHENTICATED", NOW),
    (200, "INTERNAL_SERVER_ERROR", NOW),
    (503, "INTERNAL_SERVER_ERROR", DOWN),
    (200, "FORBIDDEN", GOOD),
    (400, "GRAPHQL_VALIDATION_FAILED", GOOD),
]


def answer(json: object) -> GraphQLResponse:
    return GraphQLResponse(request="", json=json)  # type: ignore[arg-type]  # whatever came


@pytest.mark.parametrize(("status", "refusal"), PAGES.items())
def test_pages(status: int, refusal: IntrospectionRefusal | None) -> None:
    """A status without a GraphQL answer counts, whichever the last one known was."""
    error = HTTPStatusError("no", response=answer({}), status=status, headers=CIMultiDict(), retry_after=None)
    for known in (None, 200, 401, 503):
        assert refusal_of(error, known, AUTH) is refusal


@pytest.mark.parametrize(("code", "refusal"), [("UNAUTHENTICATED", NOW), ("FORBIDDEN", GOOD), (None, GOOD)])
@pytest.mark.parametrize("status", [400, 403])
def test_the_code_in_the_body_of_an_error(
    status: int, code: str | None, refusal: IntrospectionRefusal
) -> None:
    """A status without GraphQL's media type may say with a code that it is the credentials."""
    body = answer({"errors": [{"message": "no", "extensions": {"code": code}}]})
    error = HTTPStatusError("no", response=body, status=status, headers=CIMultiDict(), retry_after=None)
    assert refusal_of(error, None, AUTH) is refusal


@pytest.mark.parametrize(("status", "code", "refusal"), ANSWERS)
def test_answers(status: int | None, code: str, refusal: IntrospectionRefusal | None) -> None:
    """A GraphQL answer that makes no schema is a refusal, unless its status or its codes say otherwise."""
    error = NoSchemaError("no")
    error.codes = frozenset({code} if code else ())
    assert refusal_of(error, status, AUTH) is refusal


def test_a_transport_that_hides_the_status() -> None:
    """Errors without a status may come from a server that is down: asked about again."""
    assert refusal_of(GraphQLRequestException(answer({"errors": []})), None, AUTH) is NOW
    assert refusal_of(GraphQLRequestException(answer({"data": None})), None, AUTH) is DOWN


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionRefusedError(), LookupError()], ids=repr)
def test_what_is_no_answer(error: Exception) -> None:
    """A server that says nothing refuses nothing."""
    assert refusal_of(error, 400, AUTH) is DOWN
