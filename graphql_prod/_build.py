"""Makes the parts of a client from the bottom up, each complete when it is made.

The only place that sees all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql_prod.admission.admission import Admission
from graphql_prod.calls.checks import require_agreement
from graphql_prod.calls.reading import TolerantSerializer
from graphql_prod.calls.settings import CallSettings, own_settings, settings_of
from graphql_prod.calls.transport import ProductionTransport
from graphql_prod.config import ProductionConfig, plain
from graphql_prod.credentials import Credentials
from graphql_prod.headers import STOCK_HEADERS, spellings
from graphql_prod.health.probe import Probe
from graphql_prod.registry import Registry
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.budget import Budget
from graphql_prod.schema.store import INTROSPECTION, Schemas
from graphql_prod.sessions.sessions import Sessions
from graphql_prod.shutdown.conductor import Conductor
from graphql_prod.subscriptions.context import SubscriptionContext
from graphql_prod.subscriptions.manager import ConnectionManager
from graphql_prod.telemetry.hooks import hooks_of
from graphql_prod.telemetry.instruments import Numbers
from graphql_prod.telemetry.stats import AdmissionStats, ClientStats, PoolStats, ThrottleStats
from graphql_prod.telemetry.telemetry import Telemetry
from graphql_prod.throttling.throttling import Throttling, throttling_of
from graphql_prod.urls import has_credentials, host_of, http_url, server_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import graphql
    from aiographql.client import GraphQLCodec, GraphQLResponse, GraphQLTransport
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport

    from graphql_prod.credentials import HeadersProvider
    from graphql_prod.resilience.retry.policy import Retry
    from graphql_prod.resilience.timeouts import TimeoutPolicy
    from graphql_prod.throttling.recognition import Reader


@dataclass(frozen=True, slots=True)
class Given:
    """The objects that a program gives beside its settings; None where it gives none."""

    session: GraphQLSession | None
    transport: GraphQLTransport | None
    subscription_transport: GraphQLSubscriptionTransport | None
    serializer: GraphQLSerializer | None
    codec: GraphQLCodec | None
    schema: graphql.GraphQLSchema | None
    headers_provider: HeadersProvider | None
    hooks: object = None
    throttle_reader: Reader | None = None


@dataclass(frozen=True, slots=True)
class Methods:
    """Methods of the client that parts of it call.

    They are looked up when they are called: programs put methods of their own in the place of ours.

    :ivar introspect: ``introspect()``, with headers and with credentials.
    :ivar ask: a probe's query, under limits of its own.
    :ivar close: ``close()``.
    :ivar end: ``close()`` where it is a subclass's own, else ``shutdown()``.
    """

    introspect: Callable[..., Awaitable[graphql.GraphQLSchema]]
    ask: Callable[[TimeoutPolicy], Awaitable[GraphQLResponse]]
    close: Callable[[], Awaitable[object]]
    end: Callable[[float | None], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Composition:
    """What a client is made of, and shares with its views.

    :ivar method: how queries are sent unless a call says otherwise.
    :ivar operations: what differs for operations that have settings of their own, by name.
    :ivar default_headers: what the client sends unless a request says otherwise.
    :ivar header_names: how the names of these are spelt, by their lower-case form.
    :ivar url_credentials: whether the endpoint's URL holds credentials.
    """

    config: ProductionConfig
    settings: CallSettings
    sessions: Sessions
    registry: Registry
    conductor: Conductor
    transport: ProductionTransport
    connections: ConnectionManager
    telemetry: Telemetry
    schemas: Schemas
    probe: Probe
    throttling: Throttling | None
    admission: Admission
    serializer: GraphQLSerializer
    codec: GraphQLCodec | None
    method: str
    operations: dict[str, dict[str, Any]]
    default_headers: dict[str, str]
    header_names: dict[str, str]
    url_credentials: bool

    def stats(self) -> ClientStats:
        """Counts, now."""
        connections, budget = self.connections, self.transport.budget
        connections.forget_the_dead()
        return ClientStats(
            state=self.registry.state,
            in_flight=len(self.registry.calls),
            subscriptions=len(connections.readers),
            subscriptions_down=connections.down,
            sockets=len(connections.channels),
            events=connections.events,
            reconnects=connections.reconnects,
            dropped=connections.dropped,
            callback_failures=connections.callback_failures,
            retries=self.transport.retries,
            budget=None if budget is None else budget.balance(),
            budget_rejections=0 if budget is None else budget.rejections,
            pool=PoolStats(*self.sessions.usage()),
            schema_age=self.schemas.age,
            throttle=self._throttle_stats(),
            admission=self._admission_stats(),
        )

    def _admission_stats(self) -> AdmissionStats | None:
        known = self.admission
        if not known.on:
            return None
        return AdmissionStats(known.state, known.rejection, known.rejected, known.reason)

    def _throttle_stats(self) -> ThrottleStats | None:
        known = self.throttling
        if known is None:
            return None
        return ThrottleStats(known.refused, known.waiting, known.blocked_for, known.identities)


def build(
    endpoint: str, config: ProductionConfig, beneath: Retry | None, given: Given, methods: Methods
) -> Composition:
    """All parts of a client. Needs no running event loop, and does no I/O.

    :param beneath: the configuration's own ``retry``, over which the constructor's stands.
    :raises ConfigurationError: some of it cannot work together.
    """
    url = http_url(endpoint)
    host = host_of(url)
    sessions = Sessions(url, given.session, config.backend, config.pool, config.wire())
    require_agreement(given.transport, sessions, config.backend)
    provider = given.headers_provider
    settings = CallSettings(
        config.timeout,
        Backoff.of(config.retry, beneath),
        auth_error_codes=config.auth_error_codes,
        credentials=None if provider is None else Credentials(provider),
    )
    budget = settings.backoff.policy.budget
    headers = plain(config.headers)
    serializer = given.serializer or TolerantSerializer()
    registry = Registry(host)
    hooks = hooks_of(given.hooks, host)
    owned = given.session is None and given.transport is None
    numbers = Numbers(sessions.usage if owned else None, lambda: connections.down)
    tell = None if hooks is None else lambda state: hooks.tell(hooks.on_state, None, reason=state)
    admission = Admission(config.admission, host, tell)
    throttling = throttling_of(config.throttling, given.throttle_reader, registry)
    telemetry = Telemetry(config.telemetry, sessions, server_of(url), numbers, owned=owned)
    transport = ProductionTransport(
        host=host,
        endpoint=url,
        settings=settings,
        sessions=sessions,
        budget=None if budget is None else Budget(budget),
        registry=registry,
        telemetry=telemetry,
        close=lambda: conductor.close_client(),
        custom=given.transport,
        static_headers=headers,
        hooks=hooks,
        throttling=throttling,
        admission=admission,
    )
    schemas = Schemas(
        config.schema,
        registry,
        settings_of(INTROSPECTION, config, settings),
        given.schema,
        fetch=methods.introspect,
        guard=transport.guard,
        conceal=transport.conceal,
    )
    context = SubscriptionContext(
        telemetry=telemetry,
        sessions=sessions,
        transport_options=sessions.transport_options,
        serializer=serializer,
        static_headers=headers,
        provider_limit=config.timeout.total,
        transport=given.subscription_transport,
        auth_error_codes=config.auth_error_codes,
        hooks=hooks,
        admission=admission,
    )
    connections = ConnectionManager(
        context, config.subscriptions, config.pool.subscriptions, registry.look_again
    )
    held = None if throttling is None else lambda: throttling.blocked_for > 0
    probe = Probe(config.health, registry, methods.ask, held, lambda: admission.isolated)

    async def release() -> None:
        """Close what calls and subscriptions went over."""
        await schemas.close()
        try:
            await connections.close_transport()
        finally:
            await transport.release()

    conductor = Conductor(
        registry,
        connections=connections,
        drained=(probe, schemas),
        release=release,
        closing=methods.close,
        ending=methods.end,
        detached=sessions.detached.tasks,
        deadline=config.shutdown.deadline,
        lame_duck=config.shutdown.lame_duck,
    )
    return Composition(
        config=config.model_copy(update={"backend": sessions.backend}),
        settings=settings,
        sessions=sessions,
        registry=registry,
        conductor=conductor,
        transport=transport,
        connections=connections,
        telemetry=telemetry,
        schemas=schemas,
        probe=probe,
        throttling=throttling,
        admission=admission,
        serializer=serializer,
        codec=given.codec,
        method=config.method or "post",
        operations={name: own_settings(policy, settings) for name, policy in config.operations.items()},
        default_headers={**STOCK_HEADERS, **headers},
        header_names=spellings([*STOCK_HEADERS, *config.headers]),
        url_credentials=has_credentials(config.endpoint),
    )
