"""What the tests of the retry table share: kinds of operations, clients, faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
import tenacity
from aiographql.client import GraphQLClientException
from logged import facts_of

from graphql_prod import (
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Mapping


Backend = Literal["aiohttp", "httpx"]
Ownership = Literal["owned", "given"]

QUERY = "query Read { counter }"
MUTATION = "mutation Add { increment }"
AT_ONCE = RetryPolicy(wait_initial=0, wait_max=0, budget=None)
TWICE = RetryPolicy(attempts=2, wait_initial=0, wait_max=0, budget=None)
ALL_ATTEMPTS = 4
SECRETS = ("Bearer", "s3cret-header", "s3cret-query")


# --- how a test gets its client -------------------------------------------------------------------


class Connect(Protocol):
    async def __call__(self, url: str, **options: Any) -> ProductionClient: ...


def _owner(server: ScriptedServer, backend: Backend, **config: Any) -> ProductionClient:
    return ProductionClient(
        f"{server.url}?token=s3cret-query",
        headers={"Authorization": "Bearer s3cret-header"},
        validate=False,
        backend=backend,
        config=ProductionConfig(**{"retry": AT_ONCE, **config}),
    )


def forget(server: ScriptedServer) -> None:
    """Begin a new case on a server: no facts, no scripts."""
    server.requests.clear()
    server.executions.clear()
    server.always(None)


@dataclass(frozen=True)
class Kind:
    """One column of the table."""

    name: str
    document: str = MUTATION
    idempotent: bool | None = None
    retry: dict[str, Any] = field(default_factory=dict)

    @property
    def field(self) -> str:
        return "counter" if self.document == QUERY else "increment"

    def view(self, client: ProductionClient, **retry: Any) -> ProductionClient:
        policy = RetryPolicy(**{"wait_initial": 0, "wait_max": 0, **retry, **self.retry})
        return client.with_options(retry=policy, idempotent=self.idempotent)


AS_QUERY = Kind("query", QUERY)
UNMARKED = Kind("mutation")
NEVER = Kind("mutation, never", retry={"mutations": "never"})
MARKED = (
    Kind("mutation marked for this call", idempotent=True),
    Kind("mutation with a key", retry={"idempotency_header": "Idempotency-Key"}),
    Kind("mutation, always", retry={"mutations": "always"}),
)
REPEATABLE = (AS_QUERY, *MARKED)
TAKEN_BACK = (
    Kind("mutation, always, taken back", idempotent=False, retry={"mutations": "always"}),
    Kind(
        "mutation with a key, taken back", idempotent=False, retry={"idempotency_header": "Idempotency-Key"}
    ),
)
ONCE = (UNMARKED, NEVER, *TAKEN_BACK)
KINDS = (*REPEATABLE, *ONCE)

repeatable = pytest.mark.parametrize("kind", REPEATABLE, ids=lambda kind: kind.name)
once = pytest.mark.parametrize("kind", ONCE, ids=lambda kind: kind.name)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


async def failure_of(client: ProductionClient, document: str = QUERY, **arguments: Any) -> Any:
    """The error that ends the call: a sound one, whatever it is."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- which one is the caller's question
        await client.query(document, **arguments)
    error: Any = caught.value
    assert isinstance(error, GraphQLClientException)
    return error


def assert_told(error: Any, host: str, attempts: int, *, may_have_executed: bool) -> None:
    """The error carries the facts, says them in words, and keeps secrets."""
    assert error.attempts == attempts
    assert 0 <= error.elapsed < 30
    assert error.may_have_executed is may_have_executed
    text = str(error)
    assert host in text
    assert f"after {attempts} attempt" in text
    for secret in SECRETS:
        assert secret not in text
        assert secret not in repr(error)


def host_of(server: ScriptedServer) -> str:
    return f"{server.host}:{server.port}"


class _Running:
    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task

    async def error(self) -> Any:
        with pytest.raises(GraphQLClientException) as caught:
            await self.task
        return caught.value

    def close(self) -> None:
        self.task.cancel()


async def _started(call: Any) -> _Running:
    return _Running(asyncio.create_task(call))


# --- ambiguous ------------------------------------------------------------------------------------

LOST = {
    "reset before the answer": Answer.reset("before", execute=True),
    "reset after the headers": Answer.reset("headers", execute=True),
    "reset in mid-body": Answer.reset("body", execute=True),
    "disconnect": Answer.disconnect(execute=True),
    "body cut short": Answer.truncated(),
    "body cut to nothing": Answer.truncated(keep=0),
}


def _graphql(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer.graphql(status, errors=["no"], execute=True, headers=headers or {})


# --- which operation it is ------------------------------------------------------------------------

SEVERAL = """
query Read { counter }
query Other { hello }
mutation Add { increment }
"""


# --- Retry-After ----------------------------------------------------------------------------------


def waits(caplog: pytest.LogCaptureFixture) -> list[float]:
    """What the log says about each wait."""
    return [facts_of(record)["wait"] for record in caplog.records if "wait" in facts_of(record)]


# --- tenacity narrows -----------------------------------------------------------------------------


def tenacious(retry: Any = tenacity.retry_always, **more: Any) -> tenacity.AsyncRetrying:
    return tenacity.AsyncRetrying(
        **{"retry": retry, "stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none(), **more}
    )
