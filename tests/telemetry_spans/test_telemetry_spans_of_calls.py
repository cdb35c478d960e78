"""Spans and metrics of calls: one span a call, whatever it ends with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiographql.client import GraphQLResponse, GraphQLTransport
from observing import HI, facts_of_span, key
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, StatusCode
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
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.telemetry.instruments import Instruments, Numbers
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from aiographql.client import GraphQLRequest
    from telemetry_sdk import Backend, Owner, Sdk

WHAT = {"graphql.operation.type": "query", "graphql.operation.name": "Hi"}
UNAVAILABLE = "503 Service Unavailable"
ONCE = RetryPolicy(attempts=1)


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
    assert (call.name, call.kind) == (name, SpanKind.CLIENT)
    assert is_child(call, parent)
    told = facts_of_span(call)
    assert told.pop("graphql.error.count", 0) == (error == "GraphQLError")
    assert told == {**what, **({"error.type": error} if error else {})}
    assert call.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert call.status.description is None
    events = [(event.name, dict(event.attributes or {})) for event in call.events if event.name == "retry"]
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
    assert sdk.metric("request.duration") == {key(what, **({"error": error} if error else {})): 1}
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


DOWN, NO_BUDGET = Answer.page(503), RetryPolicy(budget=RetryBudget(ratio=0, reserve=0))
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
    numbers = Numbers(None, lambda: 0)
    kept, lost = Instruments(meter, numbers, {}), Instruments(meter, numbers, {})
    for number, instruments in enumerate((kept, lost, lost)):
        instruments.active.register(number, {"graphql.operation.name": "Hi"})

    def values() -> list[float]:
        data = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        metrics = [metric for metric in metrics if metric.name.endswith("active_requests")]
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
    assert facts_of_span(call) == {**WHAT, "error.type": type(caught.value).__name__}
    assert (part.attributes or {}).get("graphql.operation.name") == "IntrospectionQuery"
    assert [is_child(span, part) for span in sdk.spans(http=True)] == [True] * (owner == "owned")
    assert sdk.metric("schema.refreshes") == {frozenset(): 1}
    assert sdk.metric("request.duration")[key(WHAT, error=type(caught.value).__name__)] == 1
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
    async with client_of("http://127.0.0.1:9/", objects={"transport": own}) as client:
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
    assert sdk.metric("request.duration") == {key(WHAT): 1}


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
