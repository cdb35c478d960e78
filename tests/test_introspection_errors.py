"""A call that fails on its way to the schema says that it was the introspection, and how to do without."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLIntrospectionException, GraphQLRequestException

from graphql_prod import (
    CallError,
    HTTPStatusError,
    InvalidResponseError,
    NoSchemaError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    SchemaPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from subscribing import Backend

INTROSPECTION = "IntrospectionQuery"
JSON = "application/json"
REFUSED = {
    "message": "GraphQL introspection is not allowed \x1b[31m",
    "extensions": {"code": "INTROSPECTION_DISABLED"},
}
FAILURES: dict[str, tuple[Answer, type[CallError]]] = {
    "401": (Answer.page(401), HTTPStatusError),
    "403": (Answer.page(403), HTTPStatusError),
    "403 with words": (Answer(status=403, body={"errors": [REFUSED]}, media_type=JSON), HTTPStatusError),
    "a login page": (Answer.login_page(), InvalidResponseError),
    "a reset": (Answer.reset(), TransportError),
    "silence": (Answer.hang(), RequestTimeoutError),
    "an answer": (Answer.graphql(400, errors=[REFUSED]), NoSchemaError),
    "errors under a success": (Answer.graphql(200, errors=[REFUSED]), NoSchemaError),
    "null data": (Answer.graphql(200, data=None), NoSchemaError),
    "other data": (Answer.graphql(200, data={"__schema": {"types": "x" * 10_000}}), NoSchemaError),
}


def client_of(server: ScriptedServer, backend: Backend, **arguments: Any) -> ProductionClient:
    config = ProductionConfig(
        retry=RetryPolicy(attempts=1), timeout=TimeoutPolicy(read=0.2), schema=SchemaPolicy(mode="strict")
    )
    return ProductionClient(server.url, backend=backend, config=config, **arguments)


@pytest.mark.parametrize(("answer", "kind"), FAILURES.values(), ids=FAILURES)
async def test_it_was_the_introspection(
    server: ScriptedServer, backend: Backend, answer: Answer, kind: type[CallError]
) -> None:
    """Once, whoever waited for it; the setting that does without is named; the type is what it would be."""
    server.on(INTROSPECTION, *[answer] * 3)
    async with client_of(server, backend, headers={"Authorization": "Bearer s3cret"}) as client:
        for ask in (client.query("mutation Add { increment }"), client.get_schema()):
            with pytest.raises(kind) as caught:
                await ask
            error: Any = caught.value
            assert type(error) is kind
            assert str(error).count("This was the introspection, not your query") == 1
            assert all(word in str(error) for word in ("schema.mode=off", "validate=False", "schema.file"))
            assert f"{server.host}:{server.port}" in str(error)
            assert error.may_have_executed is False
            assert error.attempts == 1
            assert str(error).isprintable()
            assert len(str(error)) < 1500
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert server.executions == {}


async def test_nothing_of_it_in_a_users_own_query(server: ScriptedServer, backend: Backend) -> None:
    """A 403 to the query itself is the query's."""
    server.on("Add", Answer.page(403))
    async with client_of(server, backend) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("mutation Add { increment }")
    assert "introspection" not in str(caught.value)


async def test_no_schema_is_what_the_stock_raises(server: ScriptedServer, backend: Backend) -> None:
    """A GraphQLIntrospectionException, out of introspect() too, with the codes of the answer."""
    server.on(INTROSPECTION, Answer.graphql(200, errors=[REFUSED]))
    async with client_of(server, backend) as client:
        with pytest.raises(GraphQLIntrospectionException) as caught:
            await client.introspect()
    error = caught.value
    assert isinstance(error, NoSchemaError)
    assert not isinstance(error, GraphQLRequestException)
    assert error.codes == {"INTROSPECTION_DISABLED"}
    assert '"GraphQL introspection is not allowed' in str(error)
