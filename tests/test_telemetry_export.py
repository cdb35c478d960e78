"""What a collector gets of a program, over OTLP; and that dashboard and alerts ask for metrics that exist."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Metric, Sum

from graphql_prod import __version__
from graphql_prod.telemetry.error_types import ADDRESS, ERROR, HASH, NAME, PORT, TYPE
from graphql_prod.telemetry.instruments import Instruments, Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

ROOT = Path(__file__).parent.parent
OPERATIONS = ROOT / "docs" / "operations"


class Told(NamedTuple):
    """What the receiver got: the bodies, and what is in them."""

    raw: bytes
    spans: list[Span]
    scopes: dict[bytes, tuple[str, str]]
    metrics: dict[str, Any]
    services: set[str]


@pytest.fixture(scope="module")
def told() -> Told:
    """Everything that examples/telemetry.py sends to a collector on loopback; it runs once for all tests."""
    return asyncio.run(_run_example())


async def _run_example() -> Told:
    traces, metrics, raw = ExportTraceServiceRequest(), ExportMetricsServiceRequest(), bytearray()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        raw.extend(body)
        (traces if request.path.endswith("traces") else metrics).MergeFromString(body)
        return web.Response(content_type="application/x-protobuf")  # an empty message: all of it was taken

    app = web.Application()
    app.router.add_post("/v1/{signal:traces|metrics}", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        command = [sys.executable, "-W", "error", str(ROOT / "examples" / "telemetry.py")]
        running = await asyncio.create_subprocess_exec(
            *command,
            env=_environment(f"http://127.0.0.1:{runner.addresses[0][1]}"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await asyncio.wait_for(running.communicate(), 50)
        assert running.returncode == 0, stderr.decode()
    finally:
        await runner.cleanup()
    scoped = [scope for resource in traces.resource_spans for scope in resource.scope_spans]
    resources = [group.resource for group in chain(traces.resource_spans, metrics.resource_metrics)]
    return Told(
        bytes(raw),
        [span for scope in scoped for span in scope.spans],
        {span.span_id: (scope.scope.name, scope.scope.version) for scope in scoped for span in scope.spans},
        {
            metric.name: metric
            for resource in metrics.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        },
        {_facts(resource.attributes)["service.name"] for resource in resources},
    )


def _environment(collector: str) -> dict[str, str]:
    """Nobody's settings, and no proxy before the receiver."""
    foreign = re.compile(r"OTEL_|GRAPHQL_PROD_|.*_proxy$", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    return kept | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}


def _facts(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in attributes}


def _named(told: Told, name: str) -> list[tuple[Span, dict[str, Any]]]:
    """Spans of a name in the order of their beginnings, with their attributes."""
    found = sorted(
        (span for span in told.spans if span.name == name), key=lambda span: span.start_time_unix_nano
    )
    return [(span, _own(_facts(span.attributes))) for span in found]


def _own(facts: dict[str, Any]) -> dict[str, Any]:
    """Without what all spans say of the upstream, and ours of the document."""
    assert (facts.pop(ADDRESS), type(facts.pop(PORT))) == ("127.0.0.1", int)
    return {key: value for key, value in facts.items() if key != HASH}


def test_one_trace(told: Told) -> None:
    """All calls, and the subscription, are below the program's own span; HTTP attempts are below calls."""
    spans = {span.span_id: span for span in told.spans}
    assert len({span.trace_id for span in told.spans}) == 1
    assert told.services == {"shop"}
    found = sorted(told.spans, key=lambda span: span.start_time_unix_nano)
    parents = [
        (span.name, spans[span.parent_span_id].name if span.parent_span_id else None) for span in found
    ]
    assert parents == [
        ("order", None),
        ("query", "order"),
        ("POST", "query"),
        ("POST", "query"),
        ("mutation", "order"),
        ("POST", "mutation"),
        ("query", "order"),
        ("POST", "query"),
        ("subscription", "order"),
    ]
    ours = {
        scope for span_id, scope in told.scopes.items() if spans[span_id].name in ("query", "subscription")
    }
    assert ours == {("graphql_prod", __version__)}


def test_a_call_that_was_repeated(told: Told) -> None:
    """One event for the repetition, two HTTP attempts, the second one numbered; in the end no error."""
    call, facts = _named(told, "query")[0]
    assert facts == {TYPE: "query", NAME: "Greeting"}
    assert (call.kind, call.status.code) == (Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_UNSET)
    assert [event.name for event in call.events] == ["retry"]
    retry = _facts(call.events[0].attributes)
    assert 0 <= retry.pop("wait") <= 0.05
    assert retry == {"attempt": 1, "reason": "503 Service Unavailable"}

    attempts = [(span, facts) for span, facts in _named(told, "POST") if span.parent_span_id == call.span_id]
    assert [facts["http.status_code"] for _, facts in attempts] == [503, 200]
    assert [facts.get("http.request.resend_count") for _, facts in attempts] == [None, 1]
    assert {span.kind for span, _ in attempts} == {Span.SPAN_KIND_CLIENT}


def test_a_call_that_ran_out_of_time(told: Told) -> None:
    """The error's class and no text, on the call and on its attempt."""
    call, facts = _named(told, "query")[1]
    assert facts == {TYPE: "query", NAME: "Report", ERROR: "RequestTimeoutError"}
    assert (call.status.code, call.status.message) == (Status.STATUS_CODE_ERROR, "")
    attempt, _ = _named(told, "POST")[-1]
    assert attempt.parent_span_id == call.span_id
    assert _facts(attempt.events[0].attributes)["exception.message"] == ""


def test_a_subscription(told: Told) -> None:
    """One span over both connections, with the gap between them."""
    ((span, facts),) = _named(told, "subscription")
    assert facts == {TYPE: "subscription", NAME: "Ticks"}
    assert (span.kind, span.status.code) == (Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_UNSET)
    (gap,) = span.events
    assert gap.name == "gap"
    assert _facts(gap.attributes).items() >= {"close_code": 1012, "attempts": 1, "dropped": 0}.items()


def test_metrics(told: Told) -> None:
    """Each with its unit, and the values that the program made."""
    ours = {name: metric for name, metric in told.metrics.items() if name.startswith("graphql.")}
    assert {name: metric.unit for name, metric in ours.items()} == {
        "graphql.client.request.duration": "s",
        "graphql.client.active_requests": "{request}",
        "graphql.client.retries": "{retry}",
        "graphql.client.retry_delay": "s",
        "graphql.client.subscriptions.active": "{subscription}",
        "graphql.client.subscription.events": "{event}",
        "graphql.client.subscription.reconnects": "{reconnect}",
        "graphql.client.subscriptions.down": "{subscription}",
        "graphql.client.pool.in_use": "{connection}",
        "graphql.client.pool.waiting": "{request}",
    }  # those that counted something
    points = ours["graphql.client.request.duration"].histogram.data_points
    assert sorted((_facts(point.attributes)[NAME], point.count) for point in points) == [
        ("Count", 1),
        ("Greeting", 1),
        ("Report", 1),
    ]
    assert [_facts(point.attributes).get(ERROR) for point in points].count("RequestTimeoutError") == 1
    (retries,) = ours["graphql.client.retries"].sum.data_points
    assert (retries.as_int, _facts(retries.attributes)["reason"]) == (1, "503 Service Unavailable")
    assert all(point_of[ADDRESS] == "127.0.0.1" for point_of in _labels(ours.values()))
    under_way = [ours[f"graphql.client.{name}"].sum for name in ("active_requests", "subscriptions.active")]
    assert {point.as_int for sums in under_way for point in sums.data_points} == {0}


def _labels(found: Iterable[Any]) -> list[dict[str, Any]]:
    """The attributes of every value of these metrics."""
    kinds = [getattr(metric, str(metric.WhichOneof("data"))) for metric in found]
    return [_facts(point.attributes) for kind in kinds for point in kind.data_points]


def test_nothing_of_a_document_leaves(told: Told) -> None:
    """No field, no argument and no literal of what was sent; names of operations do."""
    assert b"Greeting" in told.raw
    for word in (b"hello", b"increment", b"seconds: 9", b"count(to"):
        assert word not in told.raw


def _our_metrics() -> list[Metric]:
    """Each of our metrics, as the SDK gives it out."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instruments = Instruments(provider.get_meter("test"), Numbers(lambda: (1, 0, 9), lambda: 0), {})
    instruments.active.register("a call", {})
    for instrument in vars(instruments).values():
        measure = getattr(instrument, "record", None) or getattr(instrument, "add", None)
        if measure is not None:
            measure(1)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    found = data.resource_metrics[0].scope_metrics[0].metrics
    # One an attribute, and three that are read when they are asked for.
    assert len(found) == len([each for each in vars(instruments) if not each.startswith("_")]) + 3
    return list(found)


def _series(metric: Metric) -> set[str]:
    """What Prometheus calls a metric of OpenTelemetry's.

    The rule: what is no letter, digit or underscore becomes an underscore; the unit s is appended as
    ``_seconds``, a unit in braces is dropped; a counter ends with ``_total``; a histogram is three series.
    """
    unit = metric.unit or ""
    assert unit == "s" or re.fullmatch(r"\{\w+\}", unit), "the rule has to learn this unit"
    base = re.sub(r"\W", "_", metric.name) + ("_seconds" if unit == "s" else "")
    if isinstance(metric.data, Histogram):
        return {f"{base}_{part}" for part in ("bucket", "count", "sum")}
    assert isinstance(metric.data, Sum)
    return {f"{base}_total" if metric.data.is_monotonic else base}


def _dashboard_queries() -> list[str]:
    board = json.loads((OPERATIONS / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return queries + [one["definition"] for one in board["templating"]["list"] if one["type"] == "query"]


def _alert_queries() -> list[str]:
    rules = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def _asked_for(queries: Iterable[str]) -> set[str]:
    return {name for query in queries for name in re.findall(r"\bgraphql_client_\w+", query)}


def test_dashboard_and_alerts_ask_for_what_exists() -> None:
    """Every metric and every label in them is one that we make; of our metrics none is forgotten."""
    ours = {metric.name: _series(metric) for metric in _our_metrics()}
    queries = _dashboard_queries()
    for asked in (queries, _alert_queries()):
        assert asked
        assert _asked_for(asked) - set(chain(*ours.values())) == set()
        text = " ".join(asked)
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text)
        labels += [
            name for group in re.findall(r"\bby \(([^)]*)\)", text) for name in re.split(r"[ ,]+", group)
        ]
        known = {name.replace(".", "_") for name in (TYPE, NAME, ERROR, ADDRESS, PORT)}
        known |= {"reason", "le", "job", "__name__"}
        assert set(labels) <= known
    shown = _asked_for(queries)
    assert [name for name, series in ours.items() if not series & shown] == []


def test_dashboard_is_whole() -> None:
    """Panels have ids of their own, do not overlap, and use the variables that there are."""
    board = json.loads((OPERATIONS / "dashboard.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"datasource", "service", "upstream", "operation"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all"}
    assert used == variables


def test_alerts_say_what_to_look_at() -> None:
    """Each has a summary and a description, and panels that it names are there."""
    rules = yaml.safe_load((OPERATIONS / "alerts.yaml").read_text(encoding="utf-8"))
    board = json.loads((OPERATIONS / "dashboard.json").read_text(encoding="utf-8"))
    titles = {panel["title"] for panel in board["panels"]}
    for rule in chain.from_iterable(group["rules"] for group in rules["groups"]):
        assert rule["annotations"].keys() == {"summary", "description"}
        named = re.findall(r'"([A-Z][^"]+|p95 [^"]+)"', rule["annotations"]["description"])
        assert set(named) <= titles, rule["alert"]


def test_page_names_every_metric() -> None:
    """The table of docs/operations/README.md has each metric with its unit."""
    page = (OPERATIONS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(graphql\.client\.[\w.]+)` \| [^|]+ \| `([^|`]+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted((metric.name, metric.unit) for metric in _our_metrics())
