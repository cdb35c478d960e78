"""Spans and metrics of subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from observing import HI, facts_of_span, key
from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanKind, StatusCode
from subscribing import Follower, until
from telemetry_sdk import (  # noqa: F401 -- the fixtures
    METRICS,
    client_of,
    context_of,
    is_child,
    owner_fixture,
    sdk_fixture,
    session_of,
    traceparent,
)

from graphql_prod import (
    SubscriptionClosedError,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from subscribing import Mode
    from telemetry_sdk import Backend, Owner, Sdk

COUNT = {"graphql.operation.type": "subscription", "graphql.operation.name": "Count"}


# --- subscriptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_a_subscription(
    sdk: Sdk,
    counting: ScriptedServer,
    backend: Backend,
    owner: Owner,
    mode: Mode,
    shared: bool,
) -> None:
    """One span for a life over several sockets, whose gaps are events, in whose trace the server is."""
    policy = {"wait_initial": 0.001, "wait_max": 0.01, "share_connection": shared, "linger": 0}
    async with client_of(counting.url, backend, owner, subscriptions=policy) as client:
        with sdk.caller() as parent:
            followers = [Follower(client, mode) for _ in range(1 + shared)]
        for each in followers:
            await each.began(2)
        await counting.close_sockets(1012)
        for each in followers:
            await each.went_on()
            assert sdk.spans() == []
        assert sdk.metric("subscriptions.active") == {key(COUNT): len(followers)}
        for each in followers:
            await each.stop()
        stats = client.stats()
    spans = sdk.spans()
    assert len(spans) == len(followers)
    for span in spans:
        assert (span.name, span.kind) == ("subscription", SpanKind.CLIENT)
        assert facts_of_span(span) == COUNT
        assert span.status.status_code is StatusCode.UNSET
        assert is_child(span, parent)
        (gap,) = span.events
        facts = dict(gap.attributes or {})
        assert gap.name == "gap"
        assert facts.keys() == {"close_code", "down_for", "attempts", "dropped"}
        assert (facts["close_code"], facts["attempts"], facts["dropped"]) == (1012, 1, 0)
    assert sdk.spans(http=True) == []
    inits = [m.message for m in counting.messages if m.message["type"] == "connection_init"]
    told = [m["payload"]["headers"]["traceparent"] for m in inits]
    assert told == [request.headers["traceparent"] for request in counting.upgrades]
    expected = {traceparent(spans[0])} if shared else {traceparent(span) for span in spans}
    assert set(told) == expected
    assert len(told) == 2
    assert sdk.collect().keys() <= METRICS
    assert sdk.metric("subscriptions.active") == {key(COUNT): 0}
    assert sdk.metric("subscription.events") == {key(COUNT): stats.events}
    assert sdk.metric("subscription.reconnects") == {key(COUNT): len(followers)}
    assert sdk.metric("subscription.dropped") == {}


async def test_dropped_events(sdk: Sdk, counting: ScriptedServer, mode: Mode) -> None:
    """What a full queue throws away is counted, and told where the gap is."""
    policy = {"max_queue": 2, "overflow": "drop_oldest"}
    async with client_of(counting.url, subscriptions=policy) as client:
        async with Follower(client, mode) as follower:
            follower.gate.clear()
            await until(lambda: client.stats().dropped > 2)
        stats = client.stats()
    assert sdk.metric("subscription.dropped") == {key(COUNT): stats.dropped}
    assert sdk.metric("subscription.events") == {key(COUNT): stats.events}
    assert sdk.metric("subscription.reconnects") == {}


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("fatal", "SubscriptionClosedError"),
        ("refused", "404"),
        ("message", "GraphQLError"),
        ("complete", None),
        ("shutdown", None),
    ],
)
async def test_ends_of_a_subscription(
    sdk: Sdk, counting: ScriptedServer, mode: Mode, end: str, error: str | None
) -> None:
    """A subscription that fails says with what; one that comes to its end, or is ended, does not."""
    request = "subscription Count { count(to: 3) }" if end == "complete" else "subscription Count { count }"
    if end == "message":
        request = "subscription Count { nothing }"
    if end == "refused":
        counting.on_connect = lambda _: 404
    async with client_of(counting.url) as client:
        follower = Follower(client, mode, request=request)
        if end in ("fatal", "shutdown"):
            await follower.began()
        if end == "fatal":
            await counting.close_sockets(4403, "secret")
        elif end == "shutdown":
            await client.shutdown(10)
        failure = await follower.end()
        assert isinstance(failure, SubscriptionClosedError) or end != "fatal"
        await follower.stop()
    (span,) = sdk.spans()
    told = facts_of_span(span)
    assert told.pop("graphql.error.count", 0) == (error == "GraphQLError")
    assert told == {**COUNT, **({"error.type": error} if error else {})}
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert span.status.description is None
    assert sdk.metric("subscriptions.active") == {key(COUNT): 0}


class _Propagator(TextMapPropagator):
    """A program's own propagator, with a mistake in it."""

    fields: set[str] = set()  # noqa: RUF012 -- as the API has it

    def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
        raise ZeroDivisionError

    def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("what", ["counters", "propagator"])
async def test_what_fails_when_it_is_told(
    sdk: Sdk, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Counters and propagators that raise break no retry, no reconnect and no stream."""
    before = propagate.get_global_textmap()
    if what == "counters":
        sdk.failing = "add"
    else:
        propagate.set_global_textmap(_Propagator())
    server.tick = 0.002
    try:
        async with client_of(server.url, backend) as client:
            server.on("Hi", Answer.page(503))
            with no_waiting():
                assert (await client.query(HI)).data == {"hello": "Hello, world!"}
                async with Follower(client, "stream") as follower:
                    await follower.began(2)
                    server.reset_sockets()
                    await until(lambda: follower.gaps)
    finally:
        propagate.set_global_textmap(before)
    assert any("telemetry has failed" in record.getMessage() for record in caplog.records)
