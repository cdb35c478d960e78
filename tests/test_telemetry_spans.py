"""Spans of calls, attempts and subscriptions, with their metrics: what is told, and never told twice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import socket
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiographql.client import GraphQLResponse, GraphQLTransport
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor, create_trace_config
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
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
    ClientClosedError,
    HTTPStatusError,
    InvalidResponseError,
    PoolPolicy,
    ProductionClient,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    SubscriptionClosedError,
    TimeoutPolicy,
    TransportError,
    clock,
)
from graphql_prod.telemetry.instruments import Instruments
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiographql.client import GraphQLRequest
    from subscribing import Mode
    from telemetry_sdk import Backend, Owner, Sdk

HI = "query Hi { hello }"
WHAT = {"graphql.operation.type": "query", "graphql.operation.name": "Hi"}
UNAVAILABLE = "503 Service Unavailable"
ONCE = RetryPolicy(attempts=1)
COUNT = {"graphql.operation.type": "subscription", "graphql.operation.name": "Count"}


def key(attributes: dict[str, Any], **more: str) -> frozenset[tuple[str, Any]]:
    """Attributes as the SDK's values are found by; ``error`` is error.type."""
    facts = {"error.type" if name == "error" else name: value for name, value in more.items()}
    return frozenset({**attributes, **facts}.items())


def check_call(
    sdk: Sdk,
    parent: Any,
    server: ScriptedServer | None,
    owner: Owner,
    *,
    error: str | None = None,
    reasons: tuple[str, ...] = (),
    attempts: int | None = None,
    name: str = "query",
    what: dict[str, str] = WHAT,
    rejections: int = 0,
    unanswered: bool = False,
) -> None:
    """One call was told of exactly so: its span, those of its attempts, the requests, all metrics."""
    (call,) = [span for span in sdk.spans() if (span.attributes or {}).get("graphql.operation.name") == "Hi"]
    attempts = len(reasons) + 1 if attempts is None else attempts
    assert (call.name, call.kind) == (name, SpanKind.INTERNAL if owner == "owned" else SpanKind.CLIENT)
    assert is_child(call, parent)
    assert dict(call.attributes or {}) == {**what, **({"error.type": error} if error else {})}
    assert call.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert call.status.description is None
    events = [(event.name, dict(event.attributes or {})) for event in call.events]
    assert [event for event, _ in events] == ["retry"] * len(reasons)
    for number, (_, facts) in enumerate(events):
        assert facts.keys() == {"attempt", "wait", "reason"}
        assert (facts["attempt"], facts["reason"]) == (number + 1, reasons[number])
        assert isinstance(facts["wait"], float)

    http = sdk.spans(http=True)
    if owner == "owned":
        assert [span.name for span in http] == ["POST"] * attempts
        assert all(is_child(span, call) and span.kind is SpanKind.CLIENT for span in http)
        resent = [(span.attributes or {}).get("http.request.resend_count") for span in http]
        assert resent == [None, *range(1, attempts)][:attempts]
        if unanswered:
            assert http[-1].status.status_code is StatusCode.ERROR
            for event in http[-1].events:
                told = {name: value for name, value in (event.attributes or {}).items() if value}
                assert event.name == "exception"
                assert told.keys() <= {"exception.type", "exception.escaped", "exception.stacktrace"}
                assert "Traceback" not in str(told.get("exception.stacktrace", ""))
    else:
        assert http == []
    if server is not None:
        sent = [request.headers.getall("traceparent") for request in server.requests]  # type: ignore[attr-defined]
        carriers = http if owner == "owned" else [call] * attempts
        assert sent == [[traceparent(span)] for span in carriers]

    assert sdk.collect().keys() <= METRICS
    assert sdk.metric("operation.duration") == {key(what, **({"error": error} if error else {})): 1}
    assert sdk.metric("active_requests") == {key(what): 0}
    repeated = {key(what, reason=reason): reasons.count(reason) for reason in reasons}
    assert sdk.metric("retries") == sdk.metric("retry_delay") == repeated
    assert sdk.metric("retry_budget.rejections") == ({key(what): rejections} if rejections else {})


# --- calls ----------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What a server answers, the client's retries, and what shall be told of the call."""

    answers: tuple[Answer, ...]
    retry: RetryPolicy = RetryPolicy()
    raised: type[Exception] | None = None
    told: dict[str, Any] = {}  # noqa: RUF012 -- never changed


DOWN, NO_BUDGET = Answer.page(503), RetryPolicy(budget=RetryBudget(ratio=0, min_per_second=0))
CASES = {
    "success": Case(()),
    "retried": Case((DOWN, Answer.reset()), told={"reasons": (UNAVAILABLE, "connection lost")}),
    "used up": Case(
        (DOWN,) * 3, RetryPolicy(attempts=3), HTTPStatusError, {"error": "503", "reasons": (UNAVAILABLE,) * 2}
    ),
    "no budget": Case((DOWN,), NO_BUDGET, HTTPStatusError, {"error": "503", "rejections": 1}),
    "not found": Case((Answer.page(404),), raised=HTTPStatusError, told={"error": "404"}),
    "html": Case((Answer.login_page(),), ONCE, InvalidResponseError, {"error": "InvalidResponseError"}),
    "errors": Case((Answer.graphql(errors=["secret"]),), told={"error": "GraphQLError"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_answers(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner, case: Case) -> None:
    """A call is one span below the caller's, its attempts are below it, its repetitions are its events."""
    server.script(*case.answers)
    failing = contextlib.nullcontext() if case.raised is None else pytest.raises(case.raised)
    async with client_of(server.url, backend, owner, retry=case.retry) as client:
        with no_waiting(), sdk.caller() as parent:
            with failing:
                await client.query(HI)
            assert trace.get_current_span() is parent
    check_call(sdk, parent, server, owner, **case.told)


@pytest.mark.parametrize("phase", ["total", "attempt", "read"])
async def test_a_timeout(
    sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner, phase: str
) -> None:
    """A call that ran out of time is told, with the attempt that it was in."""
    server.always(Answer.hang())
    timeout = TimeoutPolicy(**{phase: 0.1})
    async with client_of(server.url, backend, owner, retry=ONCE, timeout=timeout) as client:
        with sdk.caller() as parent, pytest.raises(RequestTimeoutError) as caught:
            await client.query(HI)
        await server.stop()  # what a given httpx client was left with ends
    assert caught.value.phase == phase
    check_call(sdk, parent, server, owner, error="RequestTimeoutError", unanswered=True)


async def test_a_connect_timeout(sdk: Sdk, backend: Backend, owner: Owner) -> None:
    """Connecting belongs to the attempt, and so to its HTTP span."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/graphql"
        timeout, retry = TimeoutPolicy(connect=0.05, pool=5), RetryPolicy(attempts=2, wait_initial=0)
        async with client_of(url, backend, owner, retry=retry, timeout=timeout) as client:
            with sdk.caller() as parent, pytest.raises(RequestTimeoutError) as caught:
                await client.query(HI)
    assert caught.value.phase == "connect"
    check_call(
        sdk,
        parent,
        None,
        owner,
        error="RequestTimeoutError",
        reasons=("connect timeout",),
        unanswered=True,
    )


async def test_a_pool_timeout(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """Nothing is sent while the pool is full, and so there is no HTTP span."""
    gate = asyncio.Event()
    server.on("Holder", Answer(gate=gate))
    pool, timeout = PoolPolicy(requests=1, retry_headroom=0), TimeoutPolicy(pool=0.05)
    async with client_of(server.url, backend, retry=ONCE, pool=pool, timeout=timeout) as client:
        with suppress_instrumentation():
            holder = asyncio.create_task(client.query("query Holder { hello }"))
        await server.received(1)
        server.requests.clear()
        with sdk.caller() as parent, pytest.raises(RequestTimeoutError):
            await client.query(HI)
        gate.set()
        await holder
    check_call(sdk, parent, server, "owned", error="RequestTimeoutError", attempts=0)


async def test_a_refused_connection(sdk: Sdk, backend: Backend, owner: Owner) -> None:
    """A connection that is refused fails the call, and is told as any other failure."""
    async with ScriptedServer() as gone:
        url = gone.url
    async with client_of(url, backend, owner, retry=RetryPolicy(attempts=2, wait_initial=0)) as client:
        with sdk.caller() as parent, pytest.raises(TransportError):
            await client.query(HI)
    check_call(sdk, parent, None, owner, error="TransportError", reasons=("connect",), unanswered=True)


async def test_a_cancel(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Whoever gives a call up sees it as cancelled, and nothing of it stays active."""
    server.always(Answer.hang())
    async with client_of(server.url, backend, owner, timeout=TimeoutPolicy(read=20)) as client:
        with sdk.caller() as parent:
            task = asyncio.create_task(client.query(HI))
        await server.received(1)
        assert sdk.metric("active_requests") == {key(WHAT): 1}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.stop()
    check_call(sdk, parent, server, owner, error="cancelled", unanswered=True)


async def test_calls_of_several_clients(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """What is under way is summed over clients, falls back to zero, and ends with the client's life."""
    gate = asyncio.Event()
    server.always(Answer(gate=gate))
    async with client_of(server.url, backend) as first, client_of(server.url, backend) as second:
        calls = [asyncio.create_task(client.query(HI)) for client in (first, second, second)]
        other = asyncio.create_task(second.query("query Other { hello }"))
        await server.received(4)
        active = {key(WHAT): 3, key(WHAT, **{"graphql.operation.name": "Other"}): 1}
        assert sdk.metric("active_requests") == active
        gate.set()
        await asyncio.gather(*calls, other)
        assert sdk.metric("active_requests") == dict.fromkeys(active, 0)


def test_a_collected_client_is_not_counted() -> None:
    """Whatever a client left under way, it counts no longer than the client lives; others stay."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    kept, lost = Instruments(meter), Instruments(meter)
    for number, instruments in enumerate((kept, lost, lost)):
        instruments.active.register(number, {"graphql.operation.name": "Hi"})

    def values() -> list[float]:
        data = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        return [point.value for metric in metrics for point in metric.data.data_points]  # type: ignore[union-attr]

    assert values() == [3]
    del lost, instruments
    gc.collect()
    assert values() == [1]
    kept.active.unregister(0, {"graphql.operation.name": "Hi"})
    assert values() == [0]
    del kept
    gc.collect()
    assert values() == []


async def test_a_refused_document(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """A document that the schema refuses fails its call; the introspection is a call of its own below it."""
    async with client_of(server.url, backend, owner, validate=True) as client:
        with sdk.caller() as parent, pytest.raises(Exception, match="nothing") as caught:
            await client.query("query Hi { nothing }")
    call, part = sdk.spans()
    assert is_child(call, parent)
    assert is_child(part, call)
    assert call.attributes == {**WHAT, "error.type": type(caught.value).__name__}
    assert (part.attributes or {}).get("graphql.operation.name") == "IntrospectionQuery"
    assert [is_child(span, part) for span in sdk.spans(http=True)] == [True] * (owner == "owned")
    assert sdk.metric("schema.refreshes") == {frozenset(): 1}
    assert sdk.metric("operation.duration")[key(WHAT, error=type(caught.value).__name__)] == 1
    assert set(sdk.metric("active_requests").values()) == {0}


async def test_a_failed_introspection(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """A schema that did not come is counted with its error."""
    server.always(Answer.page(500))
    async with client_of(server.url, backend, validate=True, retry=ONCE) as client:
        with pytest.raises(HTTPStatusError):
            await client.query(HI)
    assert sdk.metric("schema.refreshes") == {key({}, error="500"): 1}
    assert [dict(span.attributes or {})["error.type"] for span in sdk.spans()] == ["500", "500"]


async def test_a_call_after_the_end(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """A call that a closed client refuses is a failed one, without an attempt."""
    async with client_of(server.url, backend, owner) as client:
        await client.close()
        with sdk.caller() as parent, pytest.raises(ClientClosedError):
            await client.query(HI)
    check_call(sdk, parent, server, owner, error="ClientClosedError", attempts=0)


class Own(GraphQLTransport):
    """A transport of somebody's: it fails as often as it is told, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: list[str | None] = []

    async def request(
        self, method: str, request: GraphQLRequest, *_: object, **__: object
    ) -> GraphQLResponse:
        self.seen.append(request.headers.get("traceparent"))
        if len(self.seen) <= self.failures:
            raise ConnectionRefusedError("secret")
        return GraphQLResponse(request=request, json={"data": {"hello": "you"}})

    async def close(self) -> None:
        return


async def test_a_transport_of_somebodys(sdk: Sdk) -> None:
    """Over a custom transport the call's span is the only one, and its request carries it."""
    own = Own(failures=1)
    async with client_of("http://nowhere.test/", objects={"transport": own}) as client:
        with sdk.caller() as parent:
            await client.query(HI)
    check_call(sdk, parent, None, "given", reasons=("connect",))
    assert own.seen == [traceparent(sdk.spans()[0])] * 2


async def test_a_session_of_one_call(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """A caller's session that is given with the call has no HTTP spans: the call is the client's span."""
    async with session_of(backend, "given") as session, client_of(server.url, backend) as client:
        with sdk.caller() as parent:
            await client.query(HI, session=session)
    check_call(sdk, parent, server, "given")


async def test_what_is_not_sampled(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """A trace that nobody keeps has no spans; servers hear that, at each attempt, and metrics count."""
    server.script(Answer.page(503))
    async with client_of(server.url, backend, owner) as client:
        with sdk.caller(sampled=False) as parent:
            await client.query(HI)
    assert sdk.exporter.get_finished_spans() == ()
    sent = [request.headers["traceparent"] for request in server.requests]
    assert len(sent) == 2
    assert all(each.startswith(f"00-{context_of(parent).trace_id:032x}-") for each in sent)
    assert all(each.endswith("-00") for each in sent)
    assert sdk.metric("operation.duration") == {key(WHAT): 1}


async def test_names_of_spans(sdk: Sdk, server: ScriptedServer) -> None:
    """The type; the operation's name too if that is wanted; a word of ours for what cannot be told."""
    for settings in ({}, {"operation_name_in_span": True}):
        async with client_of(server.url, telemetry=settings) as client:
            await client.query("mutation Add { increment }")
            await client.query("{ hello }")
            await client.query(f"{HI} mutation Add {{ increment }}", operation="Add")
            await client.query("query {")
    names = [span.name for span in sdk.spans()]
    assert names[:4] == ["mutation", "query", "mutation", "GraphQL Operation"]
    assert names[4:] == ["mutation Add", "query", "mutation Add", "GraphQL Operation"]


# --- never twice, and not at all ------------------------------------------------------------------


@pytest.fixture
def instrumentors() -> Iterator[tuple[AioHttpClientInstrumentor, HTTPXClientInstrumentor]]:
    """The contrib's global instrumentation, undone after the test."""
    both = AioHttpClientInstrumentor(), HTTPXClientInstrumentor()
    yield both
    for each in both:
        if each.is_instrumented_by_opentelemetry:
            each.uninstrument()


@pytest.mark.parametrize("when", ["before", "after", "off"])
@pytest.mark.parametrize("http_spans", [True, False])
async def test_never_doubled(
    sdk: Sdk,
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    when: str,
    http_spans: bool,
    instrumentors: tuple[Any, Any],
) -> None:
    """Whatever the program instruments, and when: one HTTP span an attempt at most, on our sessions ours."""
    if when == "before":
        for each in instrumentors:
            each.instrument()
    async with client_of(server.url, backend, owner, telemetry={"http_spans": http_spans}) as client:
        if when != "before":
            await client.query(HI)
        if when == "after":
            for each in instrumentors:
                each.instrument()
        server.requests.clear()
        sdk.forget()
        server.script(Answer.page(503))
        await client.query(HI)
    (call,), http = sdk.spans(), sdk.spans(http=True)
    # httpx is instrumented as a class, aiohttp session by session.
    theirs = owner == "given" and (when == "before" or (when == "after" and backend == "httpx"))
    expected = 2 if theirs or (owner == "owned" and http_spans) else 0
    assert [is_child(span, call) for span in http] == [True] * expected
    assert call.kind is (SpanKind.INTERNAL if expected else SpanKind.CLIENT)
    sent = [request.headers.getall("traceparent") for request in server.requests]  # type: ignore[attr-defined]
    assert sent == [[traceparent(span)] for span in http or [call, call]]
    if owner == "owned":
        assert sdk.collect().keys() <= METRICS


async def test_a_callers_own_instrumentation(sdk: Sdk, server: ScriptedServer, backend: Backend) -> None:
    """A session that its owner has instrumented by itself has its HTTP span, and the call is above it."""
    options = {"trace_configs": [create_trace_config()]} if backend == "aiohttp" else {}
    async with session_of(backend, "given", **options) as session:
        if backend == "httpx":
            HTTPXClientInstrumentor.instrument_client(session)  # type: ignore[arg-type]
        client = ProductionClient(server.url, session=session, validate=False)
        async with client:
            await client.query(HI)
    (call,), (http,) = sdk.spans(), sdk.spans(http=True)
    assert is_child(http, call)
    assert server.requests[0].headers.getall("traceparent") == [traceparent(http)]  # type: ignore[attr-defined]
    # Of a single httpx client nothing public tells that it is instrumented.
    assert call.kind is (SpanKind.INTERNAL if backend == "aiohttp" else SpanKind.CLIENT)


@pytest.mark.parametrize("silent", ["traces", "metrics"])
async def test_one_without_the_other(
    sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner, silent: str
) -> None:
    """Spans and metrics are switched off one by one."""
    async with client_of(server.url, backend, owner, telemetry={silent: False}) as client:
        await client.query(HI)
    told = (len(sdk.spans()), len(sdk.spans(http=True)), sdk.collect().keys() != set())
    assert told == ((0, 0, True) if silent == "traces" else (1, int(owner == "owned"), False))


async def test_suppressed(sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Inside suppress_instrumentation() nothing is told, an introspection included; after it all is."""
    async with client_of(server.url, backend, owner, validate=True) as client:
        with suppress_instrumentation():
            await client.query(HI)
        assert sdk.exporter.get_finished_spans() == ()
        assert sdk.collect() == {}
        await client.query(HI)
    assert len(sdk.spans()) == 1


@pytest.mark.skipif(
    version("opentelemetry-instrumentation-aiohttp-client") < "0.64",
    reason="its contrib makes one all the same",
)
@pytest.mark.parametrize("why", ["excluded", "suppressed"])
async def test_without_an_http_span(
    sdk: Sdk, server: ScriptedServer, backend: Backend, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A request that is to have no HTTP span, by its URL or for now, still carries the trace of the call."""
    if why == "excluded":
        monkeypatch.setenv("OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS", "graphql")
    async with client_of(server.url, backend) as client:
        with suppress_http_instrumentation() if why == "suppressed" else contextlib.nullcontext():
            await client.query(HI)
    assert sdk.spans(http=True) == []
    assert server.requests[0].headers.get("traceparent") == traceparent(sdk.spans()[0])


class Later(clock.Clock):
    """A clock that can be put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.mark.parametrize("kind", ["call", "subscription"])
async def test_metrics_set_up_in_the_middle_of_a_call(
    sdk: Sdk, server: ScriptedServer, backend: Backend, kind: str
) -> None:
    """What was not counted as begun is not counted as ended: nothing is active below zero."""
    sdk.switch(traces=True, metrics=False)
    gate = asyncio.Event()
    server.on("Hi", Answer(gate=gate))
    server.tick = 0.002
    with clock.using(Later()) as later:
        async with client_of(server.url, backend) as client, contextlib.AsyncExitStack() as stack:
            if kind == "call":
                first = asyncio.create_task(client.query(HI))
                await server.received(1)
            else:
                follower = await stack.enter_async_context(Follower(client, "stream"))
                await follower.began()
            sdk.switch(traces=True, metrics=True)
            later.ahead = 5.0  # type: ignore[attr-defined]
            await client.query("query Other { hello }")
            gate.set()
            if kind == "call":
                await first
    assert sdk.metric("operation.duration")
    active = {**sdk.metric("active_requests"), **sdk.metric("subscriptions.active")}
    assert set(active.values()) == {0}


async def test_a_provider_that_fails(
    sdk: Sdk, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """An SDK that is broken is told of once, and breaks no call and no subscription."""
    sdk.broken = True
    server.tick = 0.002
    with clock.using(Later()) as later:
        async with client_of(server.url, backend) as client:
            for _ in range(3):
                assert (await client.query(HI)).data == {"hello": "Hello, world!"}
                later.ahead += 5  # type: ignore[attr-defined]
            async with Follower(client, "stream") as follower:
                await follower.began(2)
    records = [record for record in caplog.records if record.name == "graphql_prod"]
    assert [record.getMessage().partition(":")[0] for record in records] == ["telemetry is off"]


@pytest.mark.parametrize("method", ["on_start", "on_end"])
async def test_a_span_processor_that_fails(
    sdk: Sdk, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """A mistake in the program's telemetry breaks no call and no subscription, and is logged."""
    sdk.failing = method
    server.tick = 0.002
    async with client_of(server.url, backend) as client:
        for _ in range(2):
            assert (await client.query(HI)).data == {"hello": "Hello, world!"}
        async with Follower(client, "stream") as follower:
            await follower.began(2)
    records = [record for record in caplog.records if record.name == "graphql_prod"]
    assert len(records) == (1 if method == "on_start" else 3)
    assert all("telemetry" in record.getMessage() for record in records)


PROGRAM = """
import asyncio, json, sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from graphql_prod import ProductionClient, ProductionConfig, clock
from graphql_prod.testing import Answer, ScriptedServer

class Later(clock.Clock):
    ahead = 0
    def monotonic(self):
        return super().monotonic() + self.ahead

async def main(backend):
    exporter, reader, later = InMemorySpanExporter(), InMemoryMetricReader(), Later()
    async with ScriptedServer() as server:
        config = ProductionConfig(backend=backend, retry={"wait_initial": 0})
        with clock.using(later):
            async with ProductionClient(server.url, validate=False, config=config) as client:
                await client.query("query Early { hello }")
                provider = TracerProvider()
                provider.add_span_processor(SimpleSpanProcessor(exporter))
                trace.set_tracer_provider(provider)
                metrics.set_meter_provider(MeterProvider([reader]))
                later.ahead = 2
                server.script(Answer.page(503))
                await client.query("query Late { hello }")
    spans = [[span.name, dict(span.attributes)] for span in exporter.get_finished_spans()]
    data = reader.get_metrics_data()
    scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics] if data else []
    names = [metric.name for scope in scopes for metric in scope.metrics]
    print(json.dumps({"spans": spans, "metrics": names, "url": server.url}))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(("opted", "backend"), [("", "httpx"), ("http", "aiohttp"), ("disabled", "aiohttp")])
async def test_an_sdk_set_up_late(opted: str, backend: str) -> None:
    """An SDK is found whenever it comes, also by sessions that are open; and it obeys the environment."""
    env = {name: value for name, value in os.environ.items() if not re.match("OTEL_|GRAPHQL_PROD_", name)}
    if opted == "disabled":
        env["OTEL_SDK_DISABLED"] = "true"
    else:
        env["OTEL_SEMCONV_STABILITY_OPT_IN"] = opted
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", PROGRAM, backend), env=env, stdout=asyncio.subprocess.PIPE
    )
    stdout, _ = await asyncio.wait_for(running.communicate(), 30)
    assert running.returncode == 0
    told = json.loads(stdout)
    if opted == "disabled":
        assert (told["spans"], told["metrics"]) == ([], [])
        return
    assert [name for name, _ in told["spans"]] == ["POST", "POST", "query"]
    assert told["spans"][2][1] == {"graphql.operation.type": "query", "graphql.operation.name": "Late"}
    assert "graphql.client.operation.duration" in told["metrics"]
    names = ("http.request.method", "url.full", "http.response.status_code")
    if not opted:
        names = ("http.method", "http.url", "http.status_code")
    for (_, facts), status in zip(told["spans"], (503, 200), strict=False):
        assert [facts[name] for name in names] == ["POST", told["url"], status]
        assert not (set(facts) & {"http.method" if opted else "http.request.method"})


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
        assert span.attributes == COUNT
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
    assert span.attributes == {**COUNT, **({"error.type": error} if error else {})}
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
