"""Spans and metrics follow the working group's conventions, and each names its upstream."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from observing import HI, client_of, owner_fixture, sdk_fixture  # noqa: F401 -- the fixtures
from opentelemetry.trace import SpanKind
from subscribing import Follower, until

from graphql_prod import HTTPStatusError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from subscribing import Backend
    from telemetry_sdk import Owner, Sdk


async def test_every_span_names_the_upstream(
    sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner
) -> None:
    """The call's span is a client's, above the HTTP spans; all have the server's name and port."""
    async with client_of(server.url, backend, owner) as client:
        await client.query(HI)
    (call,), http = sdk.spans(), sdk.spans(http=True)
    assert call.kind is SpanKind.CLIENT
    assert len(http) == (owner == "owned")
    for span in (call, *http):
        assert (span.attributes or {})["server.address"] == "127.0.0.1"
        assert (span.attributes or {})["server.port"] == server.port


async def test_the_hash_of_a_document(sdk: Sdk, server: ScriptedServer) -> None:
    """Whoever does not see a document can tell whether it is the same one: short ones and long ones."""
    documents = [HI, f"# {'x' * 5000}\n{HI}"]
    async with client_of(server.url) as client:
        for document in documents:
            await client.query(document)
    wanted = [f"sha256:{hashlib.sha256(document.encode()).hexdigest()}" for document in documents]
    assert [(span.attributes or {})["graphql.document.hash"] for span in sdk.spans()] == wanted


async def test_errors_are_events(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Ten at most, with codes and paths; never a message, which may quote a variable."""
    errors: list[Any] = [
        {"message": "s3cret", "path": ["user", 3, "s3cret value", True], "extensions": {"code": "NOT\n"}},
        {"message": "s3cret", "path": "s3cret"},
        *({"message": "s3cret", "path": ["a"] * 40} for _ in range(10)),
    ]
    body = json.dumps({"data": {"user": None}, "errors": errors})
    server.always(Answer(body=body.encode(), media_type="application/json"))
    async with client_of(server.url, backend, owner) as client:
        await client.query(HI)
    (call,) = sdk.spans()
    assert (call.attributes or {})["graphql.error.count"] == 12
    events = [dict(event.attributes or {}) for event in call.events if event.name == "graphql.error"]
    assert len(events) == 10
    first = {"graphql.error.code": "NOT\\n", "graphql.error.path": ("user", "3", "_OTHER", "_OTHER")}
    assert events[:2] == [first, {}]
    assert events[2] == {"graphql.error.path": ("a",) * 32}
    assert "s3cret" not in call.to_json()


async def test_errors_of_what_is_raised(sdk: Sdk, server: ScriptedServer) -> None:
    """An answer that is raised has its errors told too."""
    body = b'{"errors": [{"message": "s3cret", "extensions": {"code": "BAD"}}]}'
    server.always(Answer(status=400, body=body, media_type="application/json"))
    async with client_of(server.url) as client:
        with pytest.raises(HTTPStatusError):
            await client.query(HI)
    (call,) = sdk.spans()
    assert [event.name for event in call.events] == ["graphql.error"]
    assert (call.attributes or {})["error.type"] == "BAD"


async def test_probes_are_silent(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """A probe makes no trace and counts in no metric, below a span of the program's own either."""
    with sdk.caller():
        async with client_of(server.url, backend, owner) as client:
            assert await client.ready()
            assert len(server.requests) == 1
            assert "traceparent" not in server.requests[0].headers
    assert sdk.spans() == sdk.spans(http=True) == []
    assert not any(any(each.values()) for name, each in sdk.collect().items() if name.startswith("graphql"))


async def test_probes_that_are_watched(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """``telemetry.probes`` watches them like calls."""
    async with client_of(server.url, backend, telemetry={"probes": True}) as client:
        assert await client.ready()
    assert len(sdk.spans()) == len(sdk.spans(http=True)) == 1
    assert sum(sdk.metric("request.duration").values()) == 1


async def test_the_pool_is_told(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """How many connections calls hold, and how many calls wait for one."""
    gate = asyncio.Event()
    server.always(Answer(gate=gate))
    async with client_of(server.url, backend, pool={"requests": 2}) as client:
        calls = [asyncio.create_task(client.query(HI))]
        await server.received(1)
        limit = client.stats().pool.limit
        calls += [asyncio.create_task(client.query(HI)) for _ in range(limit)]
        await server.received(limit)
        await until(lambda: client.stats().pool.waiting == 1)
        assert list(sdk.metric("pool.in_use").values()) == [limit]
        assert list(sdk.metric("pool.waiting").values()) == [1]
        gate.set()
        for call in calls:
            await call
        assert list(sdk.metric("pool.in_use").values()) == [0]


async def test_subscriptions_that_are_down(sdk: Sdk, counting: ScriptedServer, backend: Backend) -> None:
    """One that has lost its connection counts until it has another one."""
    async with client_of(counting.url, backend, subscriptions={"wait_initial": 0.05}) as client:
        server = counting
        async with Follower(client, "stream") as follower:
            await follower.came()
            assert list(sdk.metric("subscriptions.down").values()) == [0]
            await server.stop()
            await until(lambda: client.stats().subscriptions_down == 1)
            assert list(sdk.metric("subscriptions.down").values()) == [1]
            await server.start()
            await follower.went_on()
            assert client.stats().subscriptions_down == 0
            assert list(sdk.metric("subscriptions.down").values()) == [0]
