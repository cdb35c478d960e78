"""What a client is made of and shares with its views; the checks that come before it is made."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from aiographql.client import GraphQLClientException
from aiographql.client.subscription import GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from cafeteria.asyncio.callbacks import Callback
from graphql import GraphQLSyntaxError
from pydantic import SecretStr

from graphql_prod.config import ProductionConfig, plain
from graphql_prod.documents import kind_of
from graphql_prod.errors import ConfigurationError
from graphql_prod.headers import STOCK_HEADERS, merge, spellings
from graphql_prod.schema.policy import SchemaPolicy
from graphql_prod.telemetry.stats import ClientStats, PoolStats
from graphql_prod.urls import has_credentials, redacted, same_upstream

if TYPE_CHECKING:
    from aiographql.client import GraphQLCodec, GraphQLRequest, GraphQLTransport

    from graphql_prod.calls.call import CallSettings
    from graphql_prod.calls.transport import ProductionTransport
    from graphql_prod.config import OperationPolicy
    from graphql_prod.resilience.retry import Retry
    from graphql_prod.resilience.timeouts import TimeoutPolicy
    from graphql_prod.schema.store import Schemas
    from graphql_prod.sessions.session import Backend, Sessions
    from graphql_prod.shutdown.conductor import Lifecycle
    from graphql_prod.subscriptions.manager import ConnectionManager

logger = logging.getLogger("graphql_prod")

Client = TypeVar("Client")

_PROTOCOLS = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL)
_PROTOCOLS_ALLOWED = "allowed are " + " and ".join(repr(name) for name in _PROTOCOLS)


@dataclass
class Parts:
    """What a client shares with its views."""

    config: ProductionConfig
    settings: CallSettings
    sessions: Sessions
    lifecycle: Lifecycle
    transport: ProductionTransport
    hub: ConnectionManager
    codec: GraphQLCodec | None
    schemas: Schemas

    def __post_init__(self) -> None:
        self.header_names = spellings([*STOCK_HEADERS, *self.config.headers])
        self.url_credentials = has_credentials(self.config.endpoint)
        self.default_headers = {**STOCK_HEADERS, **plain(self.config.headers)}
        self.operations: dict[str, dict[str, Any]] = {
            name: _own_settings(policy, self.settings) for name, policy in self.config.operations.items()
        }

    def stats(self) -> ClientStats:
        self.hub.forget_the_dead()
        budget = self.transport.budget
        return ClientStats(
            state=self.lifecycle.state,
            in_flight=len(self.lifecycle.calls),
            subscriptions=len(self.hub.readers),
            sockets=len(self.hub.lines),
            events=self.hub.events,
            reconnects=self.hub.reconnects,
            dropped=self.hub.dropped,
            callback_failures=self.hub.callback_failures,
            retries=self.transport.retries,
            budget=None if budget is None else budget.balance(),
            budget_rejections=0 if budget is None else budget.rejections,
            pool=PoolStats(*self.sessions.usage()),
            schema_age=self.schemas.age,
        )

    async def release(self) -> None:
        """Close what calls and subscriptions went over."""
        await self.schemas.close()
        try:
            if self.hub.ground.transport is not None and not self.hub.transport_is_the_parents:
                await self.hub.ground.transport.close()
        finally:
            await self.transport.release()


def settings_of(operation: str, config: ProductionConfig, settings: CallSettings) -> CallSettings:
    """The settings of an operation that has its own, or these."""
    policy = config.operations.get(operation)
    return settings if policy is None else replace(settings, **_own_settings(policy, settings))


def twin_of(client: Client) -> Client:
    """A client with the same attributes, slots among them.

    Not by ``copy``, which asks ``__getstate__``: a subclass may leave out of it what pickles do not carry.
    """
    kind = type(client)
    twin = kind.__new__(kind)
    twin.__dict__.update(client.__dict__)
    for each in kind.__mro__:
        own = each.__dict__.get("__slots__", ())
        for slot in (own,) if isinstance(own, str) else own:
            if slot not in ("__dict__", "__weakref__") and hasattr(client, slot):
                setattr(twin, slot, getattr(client, slot))
    return twin


def viewed(config: ProductionConfig, settings: CallSettings, named: frozenset[str]) -> ProductionConfig:
    """A client's configuration, with what a view of it has named."""
    own: dict[str, Any] = {}
    if "timeout" in named:
        own["timeout"] = settings.timeout
    if "schedule" in named:
        own["retry"] = settings.schedule.retrying if settings.schedule.narrows else settings.schedule.policy
    if settings.headers:
        secret = {name: SecretStr(value) for name, value in settings.headers.items()}
        own["headers"] = merge(config.headers, secret)
    return config.model_copy(update=own) if own else config


def _own_settings(policy: OperationPolicy, clients: CallSettings) -> dict[str, Any]:
    """What differs for an operation: what its groups name, over what the client's say."""
    own: dict[str, Any] = {}
    if policy.timeout is not None:
        own["timeout"] = policy.timeout.merged_over(clients.timeout)
    if policy.retry is not None:
        own["schedule"] = clients.schedule.with_part(policy.retry)
    return own


def effective(
    config: ProductionConfig | None,
    endpoint: str,
    headers: Any,
    method: str | None,
    backend: Backend | None,
    validate: bool,
    schema_ttl: float | None,
    timeout: TimeoutPolicy | float | str | None = None,
    retry: Retry | None = None,
) -> ProductionConfig:
    """The settings with the constructor's arguments over them, checked together.

    Without settings ``validate`` means what it means to the stock client; with them its default leaves the
    mode to them.

    :raises ConfigurationError: listing every problem.
    """
    if config is None:
        config = ProductionConfig(schema=SchemaPolicy(mode="strict"))
    if not isinstance(config, ProductionConfig):
        raise ConfigurationError(
            f"config must be a ProductionConfig, not {type(config).__name__}; "
            "settings in other forms go through from_config()"
        )
    _warn_of_another_upstream(config, endpoint, headers)
    named = {key: getattr(config, key) for key in config.model_fields_set}
    total = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    given = {
        "endpoint": endpoint,
        "method": method,
        "backend": backend,
        "timeout": {"total": timeout} if total else timeout,
        "retry": retry,
    }
    named.update((key, value) for key, value in given.items() if value is not None)
    schema: dict[str, Any] = {} if validate else {"mode": "off"}
    if schema_ttl is not None:
        schema["ttl"] = None if schema_ttl == math.inf else schema_ttl
    if schema:
        own = config.schema
        named["schema"] = {**{key: getattr(own, key) for key in own.model_fields_set}, **schema}
    if headers is not None and not (
        isinstance(headers, Mapping) and all(isinstance(n, str) for n in headers)
    ):
        named["headers"] = headers  # refused below, with whatever else is wrong
    elif config.headers or headers:
        named["headers"] = merge(config.headers, headers or {})
    return ProductionConfig(**named)


def _warn_of_another_upstream(config: ProductionConfig, endpoint: object, headers: Any) -> None:
    """Tell of a config whose endpoint is replaced, and whose headers, tls or proxy go to the other one."""
    if config.endpoint is None or not isinstance(endpoint, str) or same_upstream(config.endpoint, endpoint):
        return
    own = {str(name).lower() for name in headers} if isinstance(headers, Mapping) else set()
    kept = [f"headers.{name}" for name in config.headers if name.lower() not in own]
    kept += ["tls.cert_file"] * (config.tls.cert_file is not None) + ["proxy"] * (config.proxy is not None)
    if kept:
        logger.warning(
            "the endpoint %s replaces %s of the config, and will be sent what the config says in %s. If that "
            "is another upstream, give it a config of its own",
            redacted(endpoint),
            redacted(config.endpoint),
            ", ".join(kept),
            extra={"endpoint": redacted(endpoint)},
        )


def require_callable(**given: object) -> None:
    for name, value in given.items():
        if value is not None and not callable(value) and not isinstance(value, Callback):
            raise ConfigurationError(f"{name} must be a callable, not {type(value).__name__}")


def require_protocols(protocols: object) -> tuple[str, ...]:
    """The WebSocket protocols to offer, in the order of preference.

    :raises ConfigurationError: there is none, or one that we do not speak.
    """
    if isinstance(protocols, str):
        names: tuple[object, ...] = (protocols,)
    elif isinstance(protocols, Iterable) and not isinstance(protocols, Mapping | bytes):
        names = tuple(protocols)
    else:
        raise ConfigurationError(
            f"protocols must be a text or several, not {type(protocols).__name__}; {_PROTOCOLS_ALLOWED}"
        )
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(
                f"protocols must be texts, not {type(name).__name__}; {_PROTOCOLS_ALLOWED}"
            )
        if name not in _PROTOCOLS:
            raise ConfigurationError(f"protocols: {name[:100]!r} is not known; {_PROTOCOLS_ALLOWED}")
    if not names:
        raise ConfigurationError(f"protocols must name at least one; {_PROTOCOLS_ALLOWED}")
    return tuple(dict.fromkeys(cast("tuple[str, ...]", names)))


def require_subscription(request: GraphQLRequest) -> None:
    """Refuse what a reconnect would repeat without being a subscription.

    :raises graphql.GraphQLSyntaxError: it is no document.
    """
    # An empty document with extensions is a persisted operation's: only the server knows what it is.
    if not request.query.strip() and request.extensions:
        return
    kind = kind_of(request.query, request.operationName) if request.query.strip() else None
    if kind is None:
        raise GraphQLClientException(
            "Not subscribed: the document does not have exactly one operation that would run. "
            "Give it one, or name the one that is meant (operation=…)."
        )
    if kind != "subscription":
        raise GraphQLClientException(
            f"Not subscribed: the document is a {kind}, and a reconnect would send it again. "
            "Send it with query()."
        )


def refuse_subscription(request: GraphQLRequest, operation: str | None) -> None:
    """Refuse a subscription where an answer is expected. Called for documents with that word in them.

    :raises GraphQLClientException: the operation that would run is a subscription.
    """
    if not re.search(r"\bsubscription\b", request.query):
        return  # "subscriptionType" and the like
    try:
        kind = kind_of(request.query, operation or request.operationName)
    except (GraphQLSyntaxError, RecursionError):
        return  # whoever validates it, or the server, has better words
    if kind == "subscription":
        error = GraphQLClientException(
            "Not sent: the document is a subscription, which has many answers or none. "
            "Subscribe to it with subscribe() or stream()."
        )
        vars(error).update(attempts=0, elapsed=0.0, may_have_executed=False)
        raise error


def require_agreement(transport: GraphQLTransport | None, sessions: Sessions, asked: Backend | None) -> None:
    kinds: dict[type[Any], Backend] = {AiohttpTransport: "aiohttp", HttpxTransport: "httpx"}
    backend = next((name for kind, name in kinds.items() if isinstance(transport, kind)), None)
    if backend is None or backend == sessions.backend:
        return
    if sessions.given is not None:
        raise ConfigurationError(
            f"transport and session contradict each other: the transport is one of {backend}, the session "
            f"one of {sessions.backend}; leave one of them out"
        )
    if asked is not None:
        raise ConfigurationError(
            f"transport and backend={asked!r} contradict each other: the transport is one of {backend}"
        )
