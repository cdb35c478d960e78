"""Spans and metrics of one trace: printed, and sent on if OTEL_EXPORTER_OTLP_ENDPOINT is set."""

from __future__ import annotations

import asyncio
import contextlib
import os

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graphql_prod import ProductionClient, RequestTimeoutError
from graphql_prod.testing import Answer, ScriptedServer

SETTINGS = {"retry": {"wait_initial": 0.05}, "subscriptions": {"wait_initial": 0.02}}
SHOWN = ("operation.name", "error.type", "status_code", "resend_count")


async def work(server: ScriptedServer) -> None:
    server.on("Greeting", Answer.page(503, delay=0.02), Answer(delay=0.03))
    server.tick = 0.02  # seconds between two events
    async with ProductionClient.from_config({"endpoint": server.url, **SETTINGS}, validate=False) as client:
        await client.query("query Greeting { hello }")
        await client.query("mutation Count { increment }")
        with contextlib.suppress(RequestTimeoutError):
            await client.with_options(timeout=0.08).query("query Report { slow(seconds: 9) }")
        async for _ in client.stream("subscription Ticks { count(to: 3) }"):
            if len(server.upgrades) == 1:
                await server.close_sockets(1012)


def show(spans: list[ReadableSpan], parent: int | None = None, indent: str = "") -> None:
    for span in (span for span in spans if (span.parent and span.parent.span_id) == parent):
        facts = [f"{key}={value!r}" for key, value in (span.attributes or {}).items() if key.endswith(SHOWN)]
        print(indent + span.name, *facts, *(f"[{event.name}]" for event in span.events))
        show(spans, span.context.span_id, indent + "  ")


async def main() -> None:
    resource = Resource.create({"service.name": "shop"})
    spans, values = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, readers = TracerProvider(resource=resource), list[MetricReader]([values])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    trace.set_tracer_provider(tracers)  # that is all: the client finds them
    metrics.set_meter_provider(meters := MeterProvider(readers, resource=resource))
    async with ScriptedServer() as server:
        with trace.get_tracer("shop").start_as_current_span("order"):  # the program's own
            await work(server)
    show(sorted(spans.get_finished_spans(), key=lambda span: span.start_time or 0))
    data = values.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        total = sum(getattr(point, "value", getattr(point, "sum", 0)) for point in metric.data.data_points)
        print(f"{metric.name}: {total:.3g} {metric.unit}")
    for provider in (tracers, meters):
        provider.shutdown()  # sends what is left


if __name__ == "__main__":
    asyncio.run(main())
