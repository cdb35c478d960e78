"""Which operation of a document decides, and what holds for a call with an introspection."""

from __future__ import annotations

from typing import Any

import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest
from retrying import (
    ALL_ATTEMPTS,
    MUTATION,
    QUERY,
    SECRETS,
    SEVERAL,
    Connect,
    assert_told,
    failure_of,
    host_of,
)

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    RetryPolicy,
)
from graphql_prod.documents import runs_nothing
from graphql_prod.testing import Answer, ScriptedServer


async def test_a_document_with_several_operations_is_judged_by_the_one_named(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """What would run decides, not what stands beside it."""
    server.always(Answer.reset("before", execute=True))
    for operation, attempts in (("Read", ALL_ATTEMPTS), ("Other", ALL_ATTEMPTS), ("Add", 1)):
        error = await failure_of(simple, SEVERAL, operation=operation)
        assert_told(error, host_of(server), attempts, may_have_executed=operation == "Add")
    assert server.executions == {"counter": ALL_ATTEMPTS, "hello": ALL_ATTEMPTS, "increment": 1}


async def test_a_request_object_names_its_operation_too(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """The name may come with the request instead of the call."""
    server.always(Answer.reset("before"))
    for operation, attempts in (("Read", ALL_ATTEMPTS), ("Add", 1)):
        request: Any = GraphQLRequest(SEVERAL, operation=operation)
        assert (await failure_of(simple, request)).attempts == attempts


UNJUDGEABLE = {
    "several, none named": (SEVERAL, None),
    "a name that is not there": (SEVERAL, "Missing"),
    "two queries, none named": ("query A { counter } query B { counter }", None),
    "a syntax error": ("query Read { counter", None),
    "nothing": ("", None),
    "blanks": ("  \n", None),
    "only a fragment": ("fragment F on Query { counter }", None),
    "deeper than a parser goes": ("{a" * 2400 + "}" * 2400, None),
}
unjudgeable = pytest.mark.parametrize(("document", "operation"), UNJUDGEABLE.values(), ids=UNJUDGEABLE.keys())


@unjudgeable
async def test_what_cannot_be_judged_is_a_mutation(
    simple: ProductionClient, server: ScriptedServer, document: str, operation: str | None
) -> None:
    """No guessing: it is sent once, and may have executed unless it has no operation that would run."""
    server.always(Answer.reset("before"))
    error = await failure_of(simple, document, operation=operation)
    may_have_executed = runs_nothing(document, operation) is None
    assert_told(error, host_of(server), 1, may_have_executed=may_have_executed)
    assert len(server.requests) == 1


async def test_what_cannot_be_judged_may_be_marked(simple: ProductionClient, server: ScriptedServer) -> None:
    """The caller who knows better says so."""
    server.always(Answer.reset("before"))
    for document, operation in UNJUDGEABLE.values():
        error = await failure_of(simple.with_options(idempotent=True), document, operation=operation)
        assert error.attempts == ALL_ATTEMPTS, document[:80]


async def test_only_queries_go_over_get(owner: ProductionClient, server: ScriptedServer) -> None:
    """A mutation over GET is refused before sending: aiohttp itself may send a GET twice."""
    refused = [(MUTATION, None), (SEVERAL, "Add"), (SEVERAL, None), ("query Read { counter", None)]
    for document, operation in refused:
        for view in (owner, owner.with_options(idempotent=True)):
            for send in (
                view.query(document, method="get", operation=operation),
                view.query(document, method="GET", operation=operation),
                view.get(GraphQLRequest(document), operation=operation),
            ):
                with pytest.raises(GraphQLClientException) as caught:
                    await send
                error: Any = caught.value
                assert error.attempts == 0
                assert error.elapsed >= 0
                assert error.may_have_executed is False
                assert host_of(server) in str(error)
                assert not any(secret in str(error) for secret in SECRETS)
    assert server.connections == 0


async def test_a_query_goes_over_get_and_is_retried(owner: ProductionClient, server: ScriptedServer) -> None:
    """GET changes nothing about queries, named ones beside a mutation too."""
    server.script(Answer.page(503))
    response = await owner.query(SEVERAL, method="get", operation="Read")
    assert response.data == {"counter": 0}
    assert [request.method for request in server.requests] == ["GET", "GET"]


# --- the options of a call ------------------------------------------------------------------------


async def test_the_options_of_a_view_hold_for_a_call_that_needs_an_introspection_first(
    connect: Connect, server: ScriptedServer
) -> None:
    """Validation comes before the call; the call then goes by its own options, not by the client's."""
    client = await connect(server.url, validate=True)
    server.on("Read", *[Answer.page(503)] * ALL_ATTEMPTS)
    error = await failure_of(client.with_options(retry=RetryPolicy(attempts=1)), QUERY)
    assert error.attempts == 1
    assert len([request for request in server.requests if request.query == QUERY]) == 1


async def test_a_mark_holds_for_a_call_that_needs_an_introspection_first(
    connect: Connect, server: ScriptedServer
) -> None:
    """with_options(idempotent=True) marks this call, the first one too."""
    client = await connect(server.url, validate=True)
    server.on("Add", *[Answer.reset("before", execute=True)] * ALL_ATTEMPTS)
    error = await failure_of(client.with_options(idempotent=True), MUTATION)
    assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=True)
    assert server.executions["increment"] == ALL_ATTEMPTS


async def test_an_unmarked_mutation_after_an_introspection_runs_once(
    connect: Connect, server: ScriptedServer
) -> None:
    """The query before it (an introspection) does not make a mutation a query."""
    client = await connect(server.url, validate=True)
    server.on("Add", *[Answer.reset("before", execute=True)] * ALL_ATTEMPTS)
    error = await failure_of(client, MUTATION)
    assert_told(error, host_of(server), 1, may_have_executed=True)
    assert server.executions["increment"] == 1


async def test_a_mutation_whose_introspection_failed_has_not_executed(
    connect: Connect, server: ScriptedServer
) -> None:
    """What failed was a query: the mutation was never sent."""
    client = await connect(server.url, validate=True)
    server.always(Answer.page(503))
    error = await failure_of(client, MUTATION)
    assert type(error) is HTTPStatusError
    assert_told(error, host_of(server), ALL_ATTEMPTS, may_have_executed=False)
