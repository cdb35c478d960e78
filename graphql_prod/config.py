"""All settings of a client in one frozen value, and the checks that need more than one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tenacity
from pydantic import BeforeValidator, Field, SecretStr, field_serializer, field_validator

from graphql_prod.admission.policy import AdmissionPolicy
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.headers import TWICE, problems
from graphql_prod.health.policy import HealthPolicy
from graphql_prod.resilience.retry.policy import RetryPolicy
from graphql_prod.resilience.timeouts import TimeoutPolicy, TimeoutPreset, timeout_policy
from graphql_prod.schema.policy import SchemaPolicy
from graphql_prod.sessions.policy import MAX_RESPONSE_BYTES, MAX_RESPONSE_VALUES, PoolPolicy
from graphql_prod.sessions.tls import TlsPolicy
from graphql_prod.sessions.transport_options import TransportOptions
from graphql_prod.settings.base import Listed, Number, Policy, a_setting_called_schema
from graphql_prod.shutdown.policy import ShutdownPolicy
from graphql_prod.subscriptions.policy import SubscriptionPolicy
from graphql_prod.telemetry.policy import TelemetryPolicy
from graphql_prod.throttling.policy import Mode, Preset, ThrottlingPolicy, throttling_policy
from graphql_prod.urls import checked_url, has_credentials, http_url, redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Codes that the GraphQL ecosystem gives to a request without valid credentials: Apollo's, and Hasura's.
AUTH_ERROR_CODES = frozenset({"UNAUTHENTICATED", "invalid-jwt"})


class OperationPolicy(Policy):
    """Settings of one operation: what a group names is changed, what it leaves out stays the client's.

    A number of the client's that is left no room by one of the operation's moves as far as it must.

    :param timeout: as in :class:`ProductionConfig`; a preset replaces all limits. None leaves the client's.
    :param retry: a :class:`RetryPolicy`; None leaves it the client's. The budget stays the client's.
    """

    timeout: Annotated[TimeoutPolicy, BeforeValidator(timeout_policy)] | None = None
    retry: RetryPolicy | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            timeout: TimeoutPolicy | TimeoutPreset | Mapping[str, Any] | None = None,
            retry: RetryPolicy | Mapping[str, Any] | None = None,
        ) -> None: ...


with a_setting_called_schema():

    class _SchemaSetting(Policy):
        schema: SchemaPolicy = Field(default_factory=SchemaPolicy)  # type: ignore[assignment]


class ProductionConfig(_SchemaSetting):
    """Every setting of a client; what is left out has a default made for production.

    :param endpoint: ``http(s)://`` or ``ws(s)://`` URL; may be left to the client's argument.
    :param backend: ``"aiohttp"`` or ``"httpx"``; None leaves it to the given session, else aiohttp.
    :param method: HTTP method of queries, ``"post"`` or ``"get"``; None means post.
    :param headers: sent with every request; the values are secrets and are never shown.
    :param retry: a :class:`RetryPolicy`, or a tenacity object whose ``wait``, ``stop`` and ``retry`` are
        used and whose ``retry`` can only narrow what is repeated.
    :param timeout: a :class:`TimeoutPolicy`, the name of a preset
        (``interactive``, ``standard``, ``batch``, ``probe``), or a part of one.
    :param pool: a :class:`PoolPolicy`.
    :param schema: a :class:`SchemaPolicy`.
    :param subscriptions: a :class:`SubscriptionPolicy`.
    :param shutdown: a :class:`ShutdownPolicy`.
    :param health: a :class:`HealthPolicy`.
    :param telemetry: a :class:`TelemetryPolicy`.
    :param admission: an :class:`AdmissionPolicy`.
    :param throttling: a :class:`ThrottlingPolicy`, or the name of a preset (``github``, ``shopify``,
        ``linear``, ``monday``, ``hasura``, ``appsync``) or of a mode.
    :param tls: a :class:`TlsPolicy`, for our own sessions.
    :param proxy: ``http(s)://[user:password@]host:port``, for our own sessions; None means none.
    :param trust_env: whether our own sessions look at ``HTTP_PROXY``, ``NO_PROXY`` and ``.netrc``.
    :param max_response_bytes: what our own sessions read of an answer at most, after decompression.
        None means no limit.
    :param max_response_values: how many ``,`` ``[`` and ``{`` an answer to our own sessions, or an event, may
        hold if it is over 1 MiB after decompression, those in strings counted too: about as many as it has
        values. A text that is small can be huge as objects. None means no limit.
    :param auth_error_codes: ``extensions.code`` values that mean the credentials were refused, so that the
        ``headers_provider`` is asked for new ones.
    :param operations: settings of single operations, by name.
    """

    secret_keys: ClassVar[frozenset[str]] = frozenset({"headers", "endpoint", "proxy"})

    endpoint: str | None = None
    backend: Literal["aiohttp", "httpx"] | None = None
    method: Annotated[Literal["post", "get"], BeforeValidator(lambda value: _lower(value))] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    retry: RetryPolicy | tenacity.BaseRetrying = Field(default_factory=RetryPolicy)
    timeout: Annotated[TimeoutPolicy, BeforeValidator(timeout_policy)] = Field(default_factory=TimeoutPolicy)
    pool: PoolPolicy = Field(default_factory=PoolPolicy)
    subscriptions: SubscriptionPolicy = Field(default_factory=SubscriptionPolicy)
    shutdown: ShutdownPolicy = Field(default_factory=ShutdownPolicy)
    health: HealthPolicy = Field(default_factory=HealthPolicy)
    telemetry: TelemetryPolicy = Field(default_factory=TelemetryPolicy)
    admission: AdmissionPolicy = Field(default_factory=AdmissionPolicy)
    throttling: Annotated[ThrottlingPolicy, BeforeValidator(throttling_policy)] = Field(
        default_factory=ThrottlingPolicy
    )
    tls: TlsPolicy = Field(default_factory=TlsPolicy)
    proxy: str | None = None
    trust_env: bool = False
    max_response_bytes: Annotated[int, Number, Field(ge=1)] | None = MAX_RESPONSE_BYTES
    max_response_values: Annotated[int, Number, Field(ge=1)] | None = MAX_RESPONSE_VALUES
    auth_error_codes: Listed[str] = AUTH_ERROR_CODES
    operations: dict[str, OperationPolicy] = Field(default_factory=dict)

    if TYPE_CHECKING:
        # What may be given is wider than what is held.
        def __init__(
            self,
            *,
            endpoint: str | None = None,
            backend: Literal["aiohttp", "httpx"] | None = None,
            method: str | None = None,
            headers: Mapping[str, str | SecretStr] = ...,
            retry: RetryPolicy | tenacity.BaseRetrying | Mapping[str, Any] = ...,
            timeout: TimeoutPolicy | TimeoutPreset | Mapping[str, Any] = ...,
            pool: PoolPolicy | Mapping[str, Any] = ...,
            schema: SchemaPolicy | Mapping[str, Any] = ...,
            subscriptions: SubscriptionPolicy | Mapping[str, Any] = ...,
            shutdown: ShutdownPolicy | Mapping[str, Any] = ...,
            health: HealthPolicy | Mapping[str, Any] = ...,
            telemetry: TelemetryPolicy | Mapping[str, Any] = ...,
            admission: AdmissionPolicy | Mapping[str, Any] = ...,
            throttling: ThrottlingPolicy | Mode | Preset | Mapping[str, Any] = ...,
            tls: TlsPolicy | Mapping[str, Any] = ...,
            proxy: str | None = None,
            trust_env: bool = False,
            max_response_bytes: int | None = MAX_RESPONSE_BYTES,
            max_response_values: int | None = MAX_RESPONSE_VALUES,
            auth_error_codes: Iterable[str] = AUTH_ERROR_CODES,
            operations: Mapping[str, OperationPolicy | Mapping[str, Any]] = ...,
        ) -> None: ...

    @field_validator("retry", mode="before")
    @classmethod
    def _one_kind_of_retry(cls, value: object) -> object:
        # Judged here, a mapping's mistakes are told once and not once for each member of the union.
        if isinstance(value, dict):
            return RetryPolicy(**value)
        if not isinstance(value, RetryPolicy | tenacity.BaseRetrying):
            raise ConfigurationError("must be a table of settings, a RetryPolicy or a tenacity object")
        return value

    @field_validator("headers", mode="before")
    @classmethod
    def _sendable_headers(cls, value: object) -> object:
        if isinstance(value, Mapping):
            plain_values = {
                name: each.get_secret_value() if isinstance(each, SecretStr) else each
                for name, each in value.items()
            }
            found = [Problem(name, wrong) for name, wrong in problems(plain_values)]
            if found:
                raise ConfigurationError(found)
        return value

    @field_validator("endpoint")
    @classmethod
    def _usable_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            http_url(value)
            return value.strip()
        return value

    @field_validator("proxy")
    @classmethod
    def _usable_proxy(cls, value: str | None) -> str | None:
        if value is not None:
            checked_url(value, "proxy", ("http", "https"))
        return value

    @classmethod
    def _contradictions(cls, named: dict[str, Any]) -> Iterator[Problem]:
        yield from super()._contradictions(named)
        headers = named.get("headers")
        if isinstance(headers, Mapping) and has_credentials(named.get("endpoint")):
            for name in headers:
                if isinstance(name, str) and name.lower() == "authorization":
                    yield Problem(f"headers.{name}", TWICE)

    @field_serializer("endpoint", "proxy", when_used="json-unless-none")
    def _without_credentials(self, value: str) -> str:
        return redacted(value)

    def __repr_args__(self) -> Any:
        for key, value in super().__repr_args__():
            yield key, redacted(value) if key in ("endpoint", "proxy") and value else value

    def wire(self) -> TransportOptions:
        """What our own sessions are made with."""
        return TransportOptions(
            self.tls.context(),
            self.proxy,
            self.trust_env,
            self.max_response_bytes,
            self.max_response_values,
        )


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Header values as they are sent."""
    return {name: value.get_secret_value() for name, value in headers.items()}
