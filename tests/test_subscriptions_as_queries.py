"""A subscription that is sent as a query is refused before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest

from graphql_prod import ProductionClient

if TYPE_CHECKING:
    from conftest import Backend

    from graphql_prod.testing import ScriptedServer

SUBSCRIPTIONS: list[tuple[str, str | None]] = [
    ("subscription { count }", None),
    ("subscription Count($to: Int) { count(to: $to) }", None),
    ("# a comment\n\nsubscription\n{ count }", None),
    ("subscription @live { count }", None),
    ("fragment F on Subscription { count } subscription { ...F }", None),
    ("query Q { greeting } subscription S { count }", "S"),
]
OTHERS: list[tuple[str, str | None]] = [
    ('{ echo(text: "subscription { count }") }', None),
    ("# subscription { count }\n{ greeting }", None),
    ("{ subscription: greeting }", None),
    ("query subscription { greeting }", None),
    ("query Q { greeting } subscription S { count }", "Q"),
]


@pytest.mark.parametrize("how", ["query", "get", "post", "query_data_as", "a view", "a request"])
@pytest.mark.parametrize(("document", "operation"), SUBSCRIPTIONS)
@pytest.mark.parametrize("validate", [True, False])
async def test_a_subscription_is_not_sent(
    server: ScriptedServer, backend: Backend, how: str, document: str, operation: str | None, validate: bool
) -> None:
    """The error names the methods to use, and nothing is sent: no introspection either."""
    async with ProductionClient(server.url, validate=validate, backend=backend) as client:
        request: Any = document
        arguments: dict[str, Any] = {"operation": operation}
        method: Any = getattr(client, how, client.query)
        if how == "query_data_as":
            arguments["result_type"] = dict
        elif how == "a view":
            method = client.with_options(timeout=5.0, idempotent=True).query
        elif how == "a request":
            request, arguments = GraphQLRequest(query=document, operation=operation), {}
        with pytest.raises(GraphQLClientException, match=r"subscribe\(\) or stream\(\)") as caught:
            await method(request, **arguments)
    error: Any = caught.value
    assert (error.attempts, error.may_have_executed) == (0, False)
    assert error.elapsed >= 0
    assert not server.requests + server.upgrades


@pytest.mark.parametrize(("document", "operation"), OTHERS)
async def test_the_word_alone_is_no_subscription(
    server: ScriptedServer, backend: Backend, document: str, operation: str | None
) -> None:
    """A text, a comment, an alias, a name, another operation of the document: all are sent."""
    async with ProductionClient(server.url, validate=False, backend=backend) as client:
        await client.query(document, operation=operation)
    assert len(server.requests) == 1


async def test_a_document_that_is_none_is_no_affair_of_ours(server: ScriptedServer, backend: Backend) -> None:
    """A syntax error comes from where it always came from; without validation the server's word counts."""
    async with ProductionClient(server.url, validate=False, backend=backend) as client:
        answer = await client.query("subscription {")
    assert answer.errors
    assert len(server.requests) == 1
