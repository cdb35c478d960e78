"""A user's program that touches every public name, for mypy's strict rules and for pyright. Never run."""

import asyncio
from collections.abc import Mapping
from typing import Any, assert_type

import tenacity
from aiographql.client import GraphQLSubscriptionEvent

from graphql_prod import (
    BATCH,
    DEVELOPMENT,
    INTERACTIVE,
    PROBE,
    PRODUCTION,
    PRODUCTION_CLOSED,
    STANDARD,
    AdmissionPolicy,
    AdmissionRejectedError,
    AdmissionStats,
    Backend,
    CallError,
    ClientClosedError,
    ClientHooks,
    ClientStats,
    ConfigurationError,
    EndpointProvider,
    GraphQLResponse,
    HeadersProvider,
    HealthPolicy,
    HookRecord,
    HTTPStatusError,
    InvalidResponseError,
    NoSchemaError,
    OnState,
    OperationPolicy,
    PayloadProvider,
    PoolPolicy,
    PoolStats,
    Problem,
    ProductionClient,
    ProductionConfig,
    ProductionSubscription,
    ProductionTransport,
    Quota,
    Readiness,
    RequestTimeoutError,
    Restart,
    Resume,
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
    SubscriptionState,
    TelemetryPolicy,
    Throttle,
    ThrottledError,
    ThrottleReader,
    ThrottleStats,
    ThrottlingPolicy,
    TimeoutPolicy,
    TimeoutPreset,
    TlsPolicy,
    TransportError,
    Watcher,
    __version__,
    headers_from_files,
)
from graphql_prod.testing import Answer, FaultyProxy, RateLimitedServer, ScriptedServer, no_waiting
from graphql_prod.testing.limits import PointsBucket

URL = "https://api.example.com/graphql"
BACKEND: Backend = "httpx"
PRESET: TimeoutPreset = "batch"


async def tokens(refresh: bool = False) -> dict[str, str]:
    return {"Authorization": f"Bearer {refresh}"}


def onward(last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> dict[str, Any]:
    return variables if last is None else {**variables, "after": 1}


def quotas(status: int | None, headers: Mapping[str, str], json: Any) -> Throttle | None:
    return Throttle(refused=True, wait=1.0) if status == 420 else None


class Watch(ClientHooks):
    def on_retry(self, record: HookRecord) -> None:
        print(record)


PROVIDER: HeadersProvider = tokens
RESUME: Resume = onward
READER: ThrottleReader = quotas
WATCHER: Watcher = Watch()


def restarts(end: GraphQLSubscriptionEvent | None) -> bool:
    return end is None


RESTART: Restart = restarts
ON_STATE: OnState = print


def payload() -> dict[str, Any]:
    return {"token": "x"}


PAYLOAD: PayloadProvider = payload


async def endpoint() -> str:
    return "wss://api.example.com/graphql"


ENDPOINT: EndpointProvider = endpoint

CONFIG = ProductionConfig(
    endpoint=URL,
    backend=BACKEND,
    headers={"X-App": "shop"},
    timeout=PRESET,
    retry=RetryPolicy(attempts=3, budget=RetryBudget(ratio=0.1)),
    pool=PoolPolicy(requests=10),
    schema=SchemaPolicy(mode="strict", file="schema.graphql"),
    tls=TlsPolicy(ca_file="ca.pem"),
    health=HealthPolicy(min_interval=2),
    shutdown=ShutdownPolicy(deadline=10),
    telemetry=TelemetryPolicy(document="sanitized"),
    throttling="github",
    admission=AdmissionPolicy(mode="adaptive"),
    subscriptions=SubscriptionPolicy(endpoint=ENDPOINT, overflow="drop_oldest"),
    operations={"Report": OperationPolicy(timeout="batch", retry=RetryPolicy(attempts=1))},
)


async def uses(client: ProductionClient) -> None:
    response = await client.query("{ hello }", variables={"a": 1})
    assert_type(response, GraphQLResponse)
    view = client.with_options(timeout="interactive", retry=RetryPolicy(attempts=1), idempotent=True)
    assert_type(view, ProductionClient)
    assert_type(view.transport, ProductionTransport)
    assert_type(await view.ready(), Readiness)
    stats = client.stats()
    assert_type(stats, ClientStats)
    assert_type(stats.pool, PoolStats)
    parts: tuple[AdmissionStats | None, ThrottleStats | None] = (stats.admission, stats.throttle)
    print(parts)
    async for event in client.stream("subscription { count }", gaps=True, resume=RESUME, restart=RESTART):
        if isinstance(event, SubscriptionGap):
            print(event.down_for)
        else:
            print(event.subscription_id)
    subscription = await client.subscribe(
        "subscription { count }", on_data=print, on_state=ON_STATE, connection_init_payload=PAYLOAD
    )
    assert_type(subscription, ProductionSubscription)
    assert_type(subscription.state, SubscriptionState)
    await subscription.reconnect()
    await client.reconnect_subscriptions()
    client.isolate("maintenance")
    client.restore()
    assert_type(await client.shutdown(5), ShutdownReport)


def ended(event: SubscriptionErrorEvent) -> Exception | None:
    return event.exception


async def fails(client: ProductionClient) -> None:
    try:
        await client.query("mutation { pay }")
    except RequestTimeoutError as error:
        print(error.phase, error.attempts)
    except (HTTPStatusError, InvalidResponseError) as error:
        print(error.may_have_executed)
    except ThrottledError as error:
        print(error.retry_after)
    except (AdmissionRejectedError, ClientClosedError, TransportError, NoSchemaError) as error:
        assert_type(error.attempts, int)
    except (SubscriptionClosedError, SubscriptionLimitError) as error:
        print(error)
    except ConfigurationError as error:
        assert_type(error.problems, tuple[Problem, ...])
    except CallError as error:
        assert_type(error.may_have_executed, bool)


async def main() -> None:
    policies: list[TimeoutPolicy] = [INTERACTIVE, STANDARD, BATCH, PROBE]
    schemas: list[SchemaPolicy] = [DEVELOPMENT, PRODUCTION, PRODUCTION_CLOSED]
    quota: Quota | None = None
    print(policies, schemas, quota, ThrottlingPolicy(mode="pace", rate=5), __version__)
    ProductionClient.from_config("client.toml", env_prefix="B_", headers_provider=PROVIDER)
    files = headers_from_files({"Authorization": "/run/secrets/token"}, format="Bearer {}")
    async with ShutdownCoordinator(deadline=5) as coordinator:
        client = coordinator.register(ProductionClient(URL, config=CONFIG, headers_provider=files))
        coordinator.install_signal_handlers()
        async with ProductionClient(
            URL, retry=tenacity.AsyncRetrying(), timeout=2.0, hooks=WATCHER, throttle_reader=READER
        ) as other:
            await asyncio.gather(uses(client), fails(other))


async def tests() -> None:
    resolvers = {"Query": {"me": "Ada"}}
    with no_waiting():
        async with ScriptedServer(schema="type Query { me: String }", resolvers=resolvers) as server:
            server.script("Me", Answer.page(503), {"me": "Grace"}, variables={"id": "7"})
            assert_type(server.executed("Me"), int)
            await server.executed("Me", 1)
            assert_type(await server.send({"me": 1}), int)
        async with RateLimitedServer(PointsBucket(10, 1)) as limited, FaultyProxy(limited.port) as proxy:
            proxy.latency = 0.1
