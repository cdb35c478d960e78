"""What tests of the schema policy share: documents, a clock set by hand, a schema that is watched."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, Literal

import graphql
from aiographql.client import GraphQLRequest
from subscribing import until

from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy, SchemaPolicy, clock
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    import pytest

    from graphql_prod.testing import ScriptedServer

Backend = Literal["aiohttp", "httpx"]

INTROSPECTION = "IntrospectionQuery"
HELLO = "query Hello { hello }"
WRONG = "query Wrong { nothing }"
ADD = "mutation Add { increment }"
HELLO_DATA = {"hello": "Hello, world!"}
CHANGED = SDL.replace("counter: Int!", "counter: Int!  nothing: Int")
"""A schema that WRONG fits."""
SECRET = "s3cr3t"
ONCE = RetryPolicy(attempts=1)


def client_of(
    url: str, backend: Backend | None = None, *, objects: dict[str, Any] | None = None, **policy: Any
) -> ProductionClient:
    """A strict client that tries once, unless ``policy`` says otherwise; ``objects`` go to its maker."""
    config = ProductionConfig(retry=ONCE, schema=SchemaPolicy(**{"mode": "strict", **policy}))
    return ProductionClient(url, backend=backend, config=config, **(objects or {}))


def asked(server: ScriptedServer) -> int:
    """How many introspections have arrived."""
    return sum("__schema" in (request.query or "") for request in server.requests)


async def asked_so_often(server: ScriptedServer, n: int) -> None:
    """Wait until so many introspections have arrived."""
    await server.until(lambda: asked(server) >= n, lambda: f"{n} introspections, came {asked(server)}")


async def landed() -> None:
    """Wait until nothing brings a schema any more."""
    await until(lambda: not any("graphql_prod schema" in task.get_name() for task in asyncio.all_tasks()))


async def a_few_rounds() -> None:
    """Let tasks that were just made run until they wait for something else than each other."""
    for _ in range(20):
        await asyncio.sleep(0)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the client has warned of."""
    return [
        each for each in caplog.records if each.name == "graphql_prod" and each.levelno >= logging.WARNING
    ]


async def warned(caplog: pytest.LogCaptureFixture, n: int) -> None:
    """Wait until the client has warned so often, and what it warned of is over."""
    await until(lambda: len(warnings_of(caplog)) >= n, lambda: f"{n} warnings: {caplog.text}")
    await landed()


async def renewed(client: ProductionClient) -> None:
    """Wait until the client has a schema of this moment on the clock, and what brought it is over."""
    await until(lambda: client.stats().schema_age == 0, lambda: f"it; age: {client.stats().schema_age}")
    await landed()


async def dropped(client: ProductionClient) -> None:
    """Wait until the client knows no schema any more, and what came of that is over."""
    await until(lambda: client.stats().schema_age is None)
    await landed()


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged: texts, tracebacks and facts."""
    return caplog.text + "".join(repr(vars(record)) for record in caplog.records if "prod" in record.name)


class Hand(clock.InstantClock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        return self.now


class Watched:
    """A schema that tells of validations: they look at the literals of its scalar.

    :ivar seen: the literals that were looked at, in order.
    :ivar gate: validations stand still while it is closed.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        scalar = graphql.GraphQLScalarType("Mark", parse_value=lambda value: value, parse_literal=self._look)
        fields = {
            "hello": graphql.GraphQLField(graphql.GraphQLString),
            "echo": graphql.GraphQLField(
                graphql.GraphQLString, args={"value": graphql.GraphQLArgument(scalar)}
            ),
        }
        self.schema = graphql.GraphQLSchema(graphql.GraphQLObjectType("Query", fields))

    def _look(self, node: Any, _variables: Any = None) -> str:
        self.seen.append(node.value)
        assert self.gate.wait(20), "a test left the gate closed"
        return str(node.value)

    async def standing_still(self) -> None:
        """Wait until a validation does."""
        await until(lambda: self.seen)


def marked(mark: object, more: str = "") -> str:
    """A document that the watched schema and the scripted server both know; ``more`` fields go into it."""
    return f'{{ echo(value: "{mark}") {more} }}'


def requested(document: str, **options: Any) -> GraphQLRequest:
    """A request of a document."""
    return GraphQLRequest(query=document, **options)
