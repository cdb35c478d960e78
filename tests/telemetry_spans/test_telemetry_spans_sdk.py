"""Instrumentors, SDKs that come late, and SDKs that fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from clocks import Later
from observing import HI
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor, create_trace_config
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.trace import SpanKind
from subscribing import Follower
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
    ProductionClient,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_sdk import Backend, Owner, Sdk


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
    assert call.kind is SpanKind.CLIENT
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
    assert call.kind is SpanKind.CLIENT


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
        assert {name: each for name, each in sdk.collect().items() if any(each.values())} == {}
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
    assert sdk.metric("request.duration")
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
    facts = told["spans"][2][1]
    assert f"{facts.pop('server.address')}:{facts.pop('server.port')}" in told["url"]
    assert facts.pop("graphql.document.hash").startswith("sha256:")
    assert facts == {"graphql.operation.type": "query", "graphql.operation.name": "Late"}
    assert "graphql.client.request.duration" in told["metrics"]
    names = ("http.request.method", "url.full", "http.response.status_code")
    if not opted:
        names = ("http.method", "http.url", "http.status_code")
    for (_, facts), status in zip(told["spans"], (503, 200), strict=False):
        assert [facts[name] for name in names] == ["POST", told["url"], status]
        assert not (set(facts) & {"http.method" if opted else "http.request.method"})
