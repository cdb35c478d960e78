"""A tenacity object counts and waits, and narrows the table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from aiographql.client import GraphQLRequestException
from aiographql.client.exceptions import GraphQLTransportException
from retrying import MUTATION, QUERY, _graphql, failure_of, tenacious, waits

from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from graphql_prod import (
        ProductionClient,
    )


async def test_a_tenacity_object_counts_and_waits_as_it_says(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stop and its wait are taken."""
    server.always(Answer.page(503))
    view = simple.with_options(
        retry=tenacious(wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(2)))
    )
    with no_waiting():
        error = await failure_of(view)
    assert error.attempts == 3
    assert waits(caplog) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "document"),
    [
        (Answer.page(404), QUERY),
        (Answer.page(503), MUTATION),
        (Answer.reset("before", execute=True), MUTATION),
        (Answer.redirect("/x"), QUERY),
    ],
    ids=["404", "mutation answered 503", "mutation reset", "redirect"],
)
async def test_a_tenacity_object_cannot_widen_the_table(
    simple: ProductionClient, server: ScriptedServer, answer: Answer, document: str
) -> None:
    """A predicate that says True to everything repeats nothing that the table does not."""
    server.always(answer)
    error = await failure_of(simple.with_options(retry=tenacious()), document)
    assert error.attempts == 1
    assert server.executions["increment"] <= 1


async def test_a_tenacity_object_may_narrow_the_table(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The stock guide's recipe, retry on GraphQLTransportException, still means just that."""
    view = simple.with_options(retry=tenacious(tenacity.retry_if_exception_type(GraphQLTransportException)))
    server.always(Answer.page(503))
    assert (await failure_of(view)).attempts == 1
    server.always(Answer.reset("before"))
    assert (await failure_of(view)).attempts == 3


async def test_a_predicate_about_exceptions_sees_a_returned_failure_as_one(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A 503 in GraphQL's own media type is a failure for retry_if_exception_type too; still returned."""
    view = simple.with_options(retry=tenacious(tenacity.retry_if_exception_type(GraphQLRequestException)))
    server.always(_graphql(503))
    assert (await view.query(QUERY)).errors
    assert len(server.requests) == 3


async def test_a_predicate_about_results_sees_the_answer(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """retry_if_result is asked about the answer that would be returned, and about no exception."""
    seen: list[Any] = []

    def unwanted(response: Any) -> bool:
        seen.append(response.json)
        return False

    view = simple.with_options(retry=tenacious(tenacity.retry_if_result(unwanted)))
    server.always(_graphql(503))
    assert (await view.query(QUERY)).errors
    assert seen == [{"errors": [{"message": "no"}]}]
    assert len(server.requests) == 1


async def test_one_tenacity_object_serves_many_calls_at_once(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """Each call counts its own attempts."""
    server.always(Answer.page(503))
    view = simple.with_options(retry=tenacious())
    errors = await asyncio.gather(*(failure_of(view) for _ in range(10)))
    assert [error.attempts for error in errors] == [3] * 10
