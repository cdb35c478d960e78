"""An SDK that tests can switch on: OpenTelemetry takes one for a whole process, and other tests share that.

While it is off its providers hand out what listens to nobody, so that clients of other tests stay silent.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, SpanContext, TraceFlags

from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiographql.client.transport import GraphQLSession
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Span, Tracer

Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]
Attributes = frozenset[tuple[str, Any]]

SCOPE = "graphql_prod"
METRICS = {
    f"graphql.client.{name}"
    for name in (
        *("request.duration", "active_requests", "retries", "retry_delay", "retry_budget.rejections"),
        *("subscriptions.active", "subscription.events", "subscription.reconnects", "subscription.dropped"),
        *("schema.refreshes", "subscriptions.down", "pool.in_use", "pool.waiting"),
        *("throttled", "throttle.delay", "admission.rejections"),
    )
}


class _Failing(SpanProcessor):
    """A program's own span processor, with a mistake in it."""

    def __init__(self, switch: Sdk) -> None:
        self._switch = switch

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._switch.failing == "on_start":
            raise ZeroDivisionError

    def on_end(self, span: Any) -> None:
        if self._switch.failing == "on_end" and scope_of(span) == SCOPE:
            raise ZeroDivisionError


class Sdk:
    """What the program's SDK was told since the test began.

    :ivar traces: whether somebody listens to spans.
    :ivar metrics: whether somebody listens to metrics.
    :ivar broken: whether asking for a tracer or a meter fails.
    :ivar failing: which method of a span processor fails, if one does; ``"add"``: counters do.
    """

    def __init__(self) -> None:
        self.traces = self.metrics = self.broken = False
        self.failing: str | None = None
        self.exporter = InMemorySpanExporter()
        kinds = dict.fromkeys(
            (Counter, Histogram, UpDownCounter, ObservableUpDownCounter), AggregationTemporality.DELTA
        )
        self.reader = InMemoryMetricReader(preferred_temporality=kinds)  # type: ignore[arg-type]
        self._points: dict[str, dict[Attributes, float]] = {}
        self.raw: list[str] = []
        """All metrics as they were read, for whoever looks for a text in them."""
        tracers, meters = _Tracers(self), _Meters(self, [self.reader])
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracers.add_span_processor(_Failing(self))
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)

    def switch(self, *, traces: bool, metrics: bool) -> None:
        """Have somebody listen, or nobody."""
        self.traces, self.metrics = traces, metrics

    def forget(self) -> None:
        """Begin anew."""
        self.broken, self.failing = False, None
        self.exporter.clear()
        self.reader.get_metrics_data()
        self._points, self.raw = {}, []

    @contextlib.contextmanager
    def caller(self, *, sampled: bool = True) -> Iterator[Span]:
        """A span of the program's own around what it does."""
        if sampled:
            with trace.get_tracer("caller").start_as_current_span("caller") as span:
                yield span
        else:
            foreign = SpanContext(0xCAFE, 0xF00D, is_remote=True, trace_flags=TraceFlags(0))
            with trace.use_span(NonRecordingSpan(foreign)) as span:
                yield span

    def spans(self, *, http: bool = False) -> list[ReadableSpan]:
        """Spans of ours, or those of HTTP by whomever, in the order of their beginnings."""
        found = [
            span
            for span in self.exporter.get_finished_spans()
            if scope_of(span) != "caller" and (scope_of(span) != SCOPE) == http
        ]
        return sorted(found, key=lambda span: span.start_time or 0)

    def metric(self, name: str) -> dict[Attributes, float]:
        """The values of a metric by its attributes; of a histogram how many there were."""
        self.collect()
        return self._points.get(f"graphql.client.{name}", {})

    def collect(self) -> dict[str, dict[Attributes, float]]:
        """All metrics since the test began, of whichever scope."""
        data = self.reader.get_metrics_data()
        if data is not None:
            self.raw.append(data.to_json())
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    known = self._points.setdefault(metric.name, {})
                    for point in metric.data.data_points:
                        value = point.count if isinstance(point, HistogramDataPoint) else point.value  # type: ignore[union-attr]
                        found = dict(point.attributes or {})
                        if scope.scope.name == SCOPE:  # which upstream it is about, all of them say
                            address, port = found.pop("server.address"), found.pop("server.port")
                            assert (address, type(port)) == ("127.0.0.1", int), metric.name
                        key = frozenset(found.items())
                        known[key] = known.get(key, 0) + value
        return self._points


class _Tracers(TracerProvider):
    def __init__(self, sdk: Sdk) -> None:
        super().__init__(shutdown_on_exit=False)
        self._switch = sdk

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        if self._switch.broken:
            raise RuntimeError("no tracer today")
        return super().get_tracer(*args, **kwargs) if self._switch.traces else NoOpTracer()


class _Meters(MeterProvider):
    def __init__(self, sdk: Sdk, readers: list[InMemoryMetricReader]) -> None:
        super().__init__(readers, shutdown_on_exit=False)
        self._switch = sdk

    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Meter:
        if not self._switch.metrics:
            return NoOpMeter(name)
        meter = super().get_meter(name, *args, **kwargs)
        return _FailingMeter(meter) if self._switch.failing == "add" else meter  # type: ignore[return-value]


class _FailingMeter:
    """A meter whose counters fail when they are told something."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._meter, name)

    def create_counter(self, *_: Any, **__: Any) -> Any:
        return self

    def add(self, *_: Any) -> None:
        raise ZeroDivisionError


_installed: list[Sdk] = []


@pytest.fixture(name="sdk")
def sdk_fixture() -> Iterator[Sdk]:
    """The SDK, switched on for this test and empty."""
    if not _installed:
        _installed.append(Sdk())
    found = _installed[0]
    found.forget()
    found.switch(traces=True, metrics=True)
    yield found
    found.switch(traces=False, metrics=False)
    found.forget()


@pytest.fixture(name="owner", params=["owned", "given"])
def owner_fixture(request: pytest.FixtureRequest) -> Owner:
    """Each test that asks for it runs with a session of ours, and with a caller's."""
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def session_of(backend: Backend, owner: Owner, **options: Any) -> AsyncIterator[GraphQLSession | None]:
    """A caller's session, or None for one of ours."""
    if owner == "owned":
        yield None
    elif backend == "aiohttp":
        async with aiohttp.ClientSession(**options) as session:
            yield session
    else:
        async with httpx.AsyncClient(verify=False, **options) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of(
    url: str,
    backend: Backend | None = None,
    owner: Owner = "owned",
    *,
    objects: dict[str, Any] | None = None,
    validate: bool = False,
    **settings: Any,
) -> AsyncIterator[ProductionClient]:
    """A client that waits for nothing between attempts; ``objects`` go to the constructor."""
    settings.setdefault("retry", RetryPolicy(wait_initial=0, wait_max=0))
    config = ProductionConfig(backend=backend, **settings)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(session_of(backend or "aiohttp", owner))
        client = ProductionClient(url, session=session, validate=validate, config=config, **(objects or {}))
        yield await stack.enter_async_context(client)


def scope_of(span: ReadableSpan) -> str:
    """Who made it."""
    return span.instrumentation_scope.name if span.instrumentation_scope else ""


def context_of(span: ReadableSpan | Span) -> SpanContext:
    """Its ids."""
    found = span.get_span_context()
    assert found is not None
    return found


def traceparent(span: ReadableSpan) -> str:
    """What a request says that was made inside it."""
    context = context_of(span)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def is_child(child: ReadableSpan, parent: ReadableSpan | Span) -> bool:
    """Whether a span is right below another one."""
    above = context_of(parent)
    return child.parent is not None and (child.parent.trace_id, child.parent.span_id) == (
        above.trace_id,
        above.span_id,
    )


def facts_of_span(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes; without those that name the upstream and the document, which all of them have."""
    found = dict(span.attributes or {})
    assert (found.pop("server.address"), type(found.pop("server.port"))) == ("127.0.0.1", int)
    assert re.fullmatch("sha256:[0-9a-f]{64}", str(found.pop("graphql.document.hash")))
    return found


def texts_of(span: ReadableSpan) -> str:
    """All that a span says."""
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    facts = (span.name, dict(span.attributes or {}), events, span.status.description, span.links)
    return repr((*facts, dict(span.resource.attributes)))
