"""The types that a user sees, under mypy's strict rules. Never run: checked by tests/test_typing.py."""

import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_type

import aiohttp
import graphql
import httpx
import tenacity
from aiographql.client import (
    GraphQLClient,
    GraphQLClientException,
    GraphQLIntrospectionException,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLSubscription,
    GraphQLSubscriptionEvent,
    GraphQLTransport,
)
from aiographql.client import GraphQLResponse as StockResponse
from aiographql.client.serializer import JSONSerializer
from pydantic import BaseModel, SecretStr

from graphql_prod import (
    BATCH,
    DEVELOPMENT,
    INTERACTIVE,
    PROBE,
    PRODUCTION,
    PRODUCTION_CLOSED,
    STANDARD,
    CallError,
    ClientClosedError,
    ClientStats,
    ConfigurationError,
    GraphQLResponse,
    HealthPolicy,
    HTTPStatusError,
    InvalidResponseError,
    NoSchemaError,
    PoolPolicy,
    PoolStats,
    Problem,
    ProductionClient,
    ProductionConfig,
    ProductionSubscription,
    Readiness,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    SchemaPolicy,
    ShutdownCoordinator,
    ShutdownPolicy,
    ShutdownReport,
    SubscriptionClosedError,
    SubscriptionErrorEvent,
    SubscriptionGap,
    SubscriptionLimitError,
    SubscriptionPolicy,
    TelemetryPolicy,
    TimeoutPolicy,
    TransportError,
    __version__,
    headers_from_files,
)
from graphql_prod.calls.transport import ProductionTransport

if TYPE_CHECKING:
    from aiographql.client.exceptions import GraphQLTransportException


class City(BaseModel):
    name: str


class Mine(ProductionClient):
    def greet(self) -> str:
        return "hello"


def takes_stock(client: GraphQLClient) -> None: ...


def constructing(
    session: aiohttp.ClientSession,
    other: httpx.AsyncClient,
    transport: GraphQLTransport,
    schema: graphql.GraphQLSchema,
) -> None:
    client = ProductionClient("https://h/graphql")
    takes_stock(client)
    ProductionClient("https://h/graphql", {"A": "b"}, "get", schema, session, False)
    ProductionClient("https://h/graphql", session=other, serializer=JSONSerializer(), schema_ttl=60.0)
    ProductionClient("https://h/graphql", transport=transport, backend="httpx", config=ProductionConfig())
    assert_type(ProductionClient.from_config({"endpoint": "https://h/graphql"}), ProductionClient)
    assert_type(Mine.from_config(ProductionConfig(endpoint="https://h/graphql"), session=session), Mine)
    ProductionClient.from_config("c.toml", env_prefix="B_", secrets_dir="/run/secrets", transport=transport)
    ProductionClient.from_config(env_prefix=None, timeout=2.0, retry=RetryPolicy(attempts=2), schema=schema)
    ProductionClient("https://h/graphql", timeout=2.0, retry=RetryPolicy(attempts=2))
    ProductionClient("https://h/graphql", timeout="batch", retry=tenacity.AsyncRetrying())
    assert_type(client.config, ProductionConfig)
    assert_type(client.transport, ProductionTransport)
    assert_type(client.state, Literal["open", "draining", "closing", "closed"])
    assert_type(client.endpoint, str)
    assert_type(__version__, str)


async def calling(client: ProductionClient, request: GraphQLRequest) -> None:
    assert_type(await client.query("{ hello }"), GraphQLResponse)
    assert_type(await client.query(request, "get", {}, "A", {"b": 1}, {}, None), GraphQLResponse)
    assert_type(await client.get(request), GraphQLResponse)
    assert_type(await client.post(request), GraphQLResponse)
    assert_type(await client.query_data_as("{ city }", City, path="city"), City)
    assert_type(await client.query_data_as("{ cities }", list[City], path="cities"), list[City])
    assert_type(await client.introspect(), graphql.GraphQLSchema)
    assert_type(await client.get_schema(refresh=True), graphql.GraphQLSchema)
    assert_type(await client.subscribe("subscription { count }"), ProductionSubscription)
    await client.validate(request, force=True)
    await client.close()
    async with client as entered:
        assert_type(entered, ProductionClient)


async def answer_of(client: ProductionClient) -> None:
    answer = await client.query("{ hello }")
    stock: StockResponse = answer
    assert_type(answer.status, int | None)
    assert_type(answer.response_headers, Mapping[str, str] | None)
    assert_type(answer.retry_after, float | None)
    assert_type(answer.attempts, int)
    assert_type(answer.elapsed, float)
    assert_type(answer == stock, bool)


def onward(last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> dict[str, Any]:
    return variables if last is None else {**variables, "after": last.id}


async def onward_later(last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> Mapping[str, Any]:
    return onward(last, variables)


async def told(gap: SubscriptionGap) -> None: ...


async def subscribing(client: ProductionClient, mine: Mine, request: GraphQLRequest, switch: bool) -> None:
    assert_type(await client.subscribe(request, on_gap=told, resume=onward), ProductionSubscription)
    assert_type(
        await mine.subscribe(request, on_data=print, on_gap=print, resume=onward_later, wait=True),
        ProductionSubscription,
    )
    async with await client.subscribe(request, protocols="graphql-ws") as subscription:
        assert_type(subscription, GraphQLSubscription)

    events = client.stream("subscription { count }", variables={"a": 1}, resume=onward)
    assert_type(events, AsyncGenerator[GraphQLSubscriptionEvent, None])
    assert_type(client.stream(request, gaps=False), AsyncGenerator[GraphQLSubscriptionEvent, None])
    both = mine.stream(request, {"A": "b"}, "A", {"b": 1}, {}, gaps=True, resume=onward_later)
    assert_type(both, AsyncGenerator[GraphQLSubscriptionEvent | SubscriptionGap, None])
    either = client.stream(request, gaps=switch)
    assert_type(either, AsyncGenerator[GraphQLSubscriptionEvent | SubscriptionGap, None])
    async with contextlib.aclosing(both) as closing:
        async for event in closing:
            if isinstance(event, SubscriptionGap):
                assert_type(event.close_code, int | None)
                assert_type(event.close_reason, str | None)
                assert_type(event.down_for, float)
                assert_type(event.attempts, int)
                assert_type(event.dropped, int)
            else:
                assert_type(event, GraphQLSubscriptionEvent)
                assert_type(event.payload, StockResponse | str | None)


def goodbye() -> None: ...


async def later(wait: float = 0.0) -> int:
    return 0


async def ending(client: ProductionClient, mine: Mine) -> None:
    assert_type(await client.shutdown(), ShutdownReport)
    assert_type(await client.with_options().shutdown(deadline=2), ShutdownReport)
    assert_type(client.on_shutdown(goodbye), Callable[[], None])
    decorated = client.on_shutdown(phase="after")(later)
    assert_type(await decorated(wait=0.5), int)

    @mine.on_shutdown
    async def first() -> None: ...

    await first()
    client.install_signal_handlers()
    client.install_signal_handlers([signal.SIGTERM])
    readiness = await client.ready(timeout=0.5)
    assert_type(readiness, Readiness)
    assert_type(readiness.ok, bool)
    assert_type(readiness.reason, str | None)
    assert_type(readiness.latency, float | None)
    assert_type(client.alive(), bool)

    async with ShutdownCoordinator(deadline=10) as coordinator:
        assert_type(coordinator, ShutdownCoordinator)
        assert_type(coordinator.register(mine), Mine)
        assert_type(coordinator.on_shutdown(goodbye, phase="before"), Callable[[], None])
        coordinator.install_signal_handlers((signal.SIGINT,))
        report = await coordinator.wait()
        assert_type(await coordinator.shutdown(deadline=None), ShutdownReport)
    assert_type(report.clean, bool)
    assert_type(report.duration, float)
    assert_type(report.requests_completed + report.requests_cancelled, int)
    assert_type(report.subscriptions_drained + report.subscriptions_cancelled, int)
    assert_type(report.hooks_failed, tuple[str, ...])
    assert_type(str(report), str)
    ProductionConfig(shutdown=ShutdownPolicy(deadline=None), health=HealthPolicy(min_interval=0))
    ProductionConfig(shutdown={"deadline": 5}, health={"min_interval": 2.5})
    ProductionConfig(schema=SchemaPolicy(mode="auto", ttl=60, file=Path("s.graphql"), stale_if_error=False))
    ProductionConfig(schema={"mode": "off", "file": "s.graphql"})
    for policy in (DEVELOPMENT, PRODUCTION, PRODUCTION_CLOSED):
        assert_type(policy, SchemaPolicy)
    assert_type(ProductionConfig().schema, SchemaPolicy)
    ProductionConfig(telemetry=TelemetryPolicy(document="sanitized", traces=False))


def tokens(refresh: bool = False) -> dict[str, str]:
    return {"Authorization": "renewed" if refresh else "known"}


async def later_tokens() -> Mapping[str, str]:
    return tokens()


async def viewing(client: ProductionClient, mine: Mine, headers: Mapping[str, str]) -> None:
    assert_type(client.with_options(), ProductionClient)
    assert_type(mine.with_options(timeout=2.5, idempotent=True, headers=headers, validate=False), Mine)
    assert_type(mine.with_options(timeout="interactive").with_options(timeout=PROBE).greet(), str)
    assert_type(mine.with_options(retry=RetryPolicy(attempts=1)), Mine)
    assert_type(mine.with_options(retry=tenacity.AsyncRetrying()), Mine)
    assert_type(mine.with_options(headers_provider=tokens, headers=headers), Mine)
    assert_type(client.with_options(headers_provider=later_tokens), ProductionClient)
    assert_type(client.with_options(headers_provider=None), ProductionClient)
    mounted = headers_from_files({"Authorization": Path("token"), "X-Key": "key"}, format="Bearer {}")
    assert_type(mounted(refresh=True), Mapping[str, str])
    ProductionClient("https://h/graphql", headers_provider=mounted)
    client.with_options(headers_provider=headers_from_files({"A": "a", "B": "b"}, format={"A": "Bearer {}"}))
    async with mine as entered:
        assert_type(entered, Mine)


def settings() -> None:
    for preset in (BATCH, INTERACTIVE, PROBE, STANDARD):
        assert_type(preset, TimeoutPolicy)
    timeout = TimeoutPolicy(total=5, attempt=None, connect=1.5, read=1, write=1, pool=1)
    assert_type(timeout.total, float | None)
    retry = RetryPolicy(
        attempts=2,
        wait_initial=0.1,
        wait_max=1,
        jitter="none",
        mutations="always",
        statuses=frozenset({503}),
        error_codes=frozenset({"BUSY"}),
        respect_retry_after=False,
        idempotency_header="Idempotency-Key",
        budget=RetryBudget(ratio=0.1, min_per_second=1, window=5),
    )
    assert_type(retry.attempts, int)
    assert_type(retry.jitter, Literal["full", "none"])
    assert_type(retry.budget, RetryBudget | None)
    pool = PoolPolicy(requests=1, subscriptions=0, retry_headroom=0.5, keepalive=1)
    subscriptions = SubscriptionPolicy(
        connect_attempts=1,
        ack_timeout=None,
        ping_interval=5,
        pong_timeout=2.5,
        wait_initial=0.1,
        wait_max=1,
        max_reconnects=3,
        stable_after=1,
        fatal_close_codes=frozenset({4400}),
        max_queue=10,
        max_queue_bytes=None,
        overflow="drop_oldest",
        callback_executor=True,
        share_connection=True,
        linger=0,
    )
    assert_type(subscriptions.overflow, Literal["block", "drop_oldest", "error"])
    assert_type(subscriptions.max_reconnects, int | None)
    assert_type(subscriptions.max_queue_bytes, int | None)
    config = ProductionConfig(
        endpoint="https://h/graphql",
        backend="httpx",
        method="get",
        headers={"Authorization": SecretStr("x")},
        retry=retry,
        timeout=timeout,
        pool=pool,
        subscriptions=subscriptions,
        max_response_values=None,
    )
    assert_type(config.max_response_values, int | None)
    assert_type(config.endpoint, str | None)
    assert_type(config.timeout, TimeoutPolicy)
    assert_type(config.pool, PoolPolicy)
    assert_type(config.subscriptions, SubscriptionPolicy)


def looking(stats: ClientStats) -> None:
    assert_type(stats.in_flight, int)
    assert_type(stats.budget, float | None)
    assert_type(stats.pool, PoolStats)
    assert_type(stats.pool.limit, int)
    assert_type(stats.schema_age, float | None)
    for count in (stats.subscriptions, stats.sockets, stats.events, stats.reconnects, stats.dropped):
        assert_type(count, int)
    assert_type(stats.callback_failures, int)


def failing(
    status: HTTPStatusError,
    invalid: InvalidResponseError,
    timeout: RequestTimeoutError,
    transport: TransportError,
    closed: ClientClosedError,
    ended: SubscriptionClosedError,
    limit: SubscriptionLimitError,
    told: SubscriptionErrorEvent,
    configuration: ConfigurationError,
    schema: NoSchemaError,
) -> None:
    family: list[CallError] = [
        status,
        invalid,
        timeout,
        transport,
        closed,
        ended,
        limit,
        configuration,
        schema,
    ]
    introspection: GraphQLIntrospectionException = schema
    _ = family, introspection
    assert_type(schema.codes, frozenset[str])
    assert_type(invalid.retry_after, float | None)
    request_errors: list[GraphQLRequestException] = [status, invalid]
    transport_errors: list[GraphQLTransportException] = [timeout, transport]
    all_errors: list[GraphQLClientException] = [
        *request_errors,
        *transport_errors,
        closed,
        ended,
        limit,
        configuration,
    ]
    times: TimeoutError = timeout
    values: ValueError = configuration
    _ = all_errors, times, values
    for error in (status, invalid, timeout, transport, closed, ended, limit):
        assert_type(error.attempts, int)
        assert_type(error.elapsed, float)
        assert_type(error.may_have_executed, bool)
    assert_type(status.status, int)
    assert_type(status.headers, Mapping[str, str])
    assert_type(status.retry_after, float | None)
    assert_type(status.response, StockResponse)
    assert_type(invalid.status, int | None)
    assert_type(invalid.content_type, str | None)
    assert_type(invalid.excerpt, str)
    assert_type(ended.close_code, int | None)
    assert_type(ended.close_reason, str | None)
    assert_type(told.exception, Exception | None)
    event: GraphQLSubscriptionEvent = told
    _ = event
    assert_type(timeout.phase, Literal["pool", "connect", "write", "read", "attempt", "total"])
    assert_type(configuration.problems, tuple[Problem, ...])
    assert_type(configuration.problems[0].key, str)


async def refused(client: ProductionClient, stats: ClientStats, anything: Any) -> None:
    """Each line is wrong: an ignore that is not needed is an error, so that these keep being refused."""
    ProductionClient()  # type: ignore[call-arg]
    ProductionClient(5)  # type: ignore[arg-type]
    ProductionClient("https://h", backend="curl")  # type: ignore[arg-type]
    ProductionClient("https://h", timeout=[])  # type: ignore[arg-type]
    ProductionClient("https://h", retry=3)  # type: ignore[arg-type]
    ProductionClient("https://h", headers={"A": 1})  # type: ignore[dict-item]
    ProductionClient.from_config(5)  # type: ignore[arg-type]
    ProductionClient.from_config({}, sesion=None)  # type: ignore[arg-type]
    ProductionClient.from_config({}, session=5)  # type: ignore[arg-type]
    ProductionClient.from_config({}, env_prefix=5)  # type: ignore[arg-type]
    client.with_options(1)  # type: ignore[call-arg]
    client.with_options(timeout=[])  # type: ignore[arg-type]
    client.with_options(retry=3)  # type: ignore[arg-type]
    client.with_options(idempotent="yes")  # type: ignore[arg-type]
    client.with_options(headers_provider={"A": "b"})  # type: ignore[arg-type]
    client.with_options(headers_provider=print)  # type: ignore[arg-type]
    headers_from_files({"Authorization": 3})  # type: ignore[dict-item]
    headers_from_files({"Authorization": "token"}, "Bearer {}")  # type: ignore[call-arg]
    client.with_options(retries=3)  # type: ignore[call-arg]
    client.config = anything  # type: ignore[misc]
    client.state = "open"  # type: ignore[misc]
    await client.query(5)  # type: ignore[arg-type]
    await client.query("{ hello }", headers=["A"])  # type: ignore[arg-type]
    _ = (await client.query_data_as("{ city }", City)).nothing  # type: ignore[attr-defined]
    await client.subscribe("subscription { a }", gaps=True)  # type: ignore[call-arg]
    await client.subscribe("subscription { a }", on_gap=3)  # type: ignore[arg-type]
    await client.subscribe("subscription { a }", resume=told)  # type: ignore[arg-type]
    client.stream("subscription { a }", on_data=print)  # type: ignore[call-overload]
    client.stream("subscription { a }", gaps="yes")  # type: ignore[call-overload]
    client.stream(5)  # type: ignore[call-overload]
    SubscriptionPolicy(overflow="spill")  # type: ignore[arg-type]
    SubscriptionPolicy(max_queue=None)  # type: ignore[arg-type]
    SubscriptionGap(code=3)  # type: ignore[call-arg]
    stats.dropped = 3  # type: ignore[misc]
    TimeoutPolicy(total="soon")  # type: ignore[arg-type]
    TimeoutPolicy(totall=1)  # type: ignore[call-arg]
    RetryPolicy(attempts="many")  # type: ignore[arg-type]
    RetryPolicy(jitter="half")  # type: ignore[arg-type]
    RetryPolicy(budget=0.2)  # type: ignore[arg-type]
    PoolPolicy(requests=None)  # type: ignore[arg-type]
    ProductionConfig(backend="curl")  # type: ignore[arg-type]
    ProductionConfig(pool=3)  # type: ignore[arg-type]
    ProductionConfig(pols=3)  # type: ignore[call-arg]
    stats.in_flight = 3  # type: ignore[misc]
