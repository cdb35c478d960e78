"""All settings of a client in one frozen value, and the checks that need more than one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import SplitResult, urljoin, urlsplit

import tenacity
from pydantic import BeforeValidator, Field, SecretStr, field_serializer, field_validator

from graphql_prod.credentials import AUTH_ERROR_CODES
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.headers import TWICE, problems
from graphql_prod.health.policy import HealthPolicy
from graphql_prod.resilience.retry import RetryPolicy
from graphql_prod.resilience.timeouts import TimeoutPolicy, timeout_policy
from graphql_prod.schema.policy import SchemaPolicy
from graphql_prod.sessions.pool import PoolPolicy
from graphql_prod.sessions.transport_options import (
    MAX_RESPONSE_BYTES,
    MAX_RESPONSE_VALUES,
    TlsPolicy,
    TransportOptions,
)
from graphql_prod.settings.base import Listed, Number, Policy, a_setting_called_schema
from graphql_prod.shutdown.policy import ShutdownPolicy
from graphql_prod.subscriptions.policy import SubscriptionPolicy
from graphql_prod.telemetry.policy import TelemetryPolicy
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class OperationPolicy(Policy):
    """Settings of one operation: what a group names is changed, what it leaves out stays the client's.

    A number of the client's that is left no room by one of the operation's moves as far as it must.

    :param timeout: as in :class:`ProductionConfig`; a preset replaces all limits. None leaves the client's.
    :param retry: a :class:`RetryPolicy`; None leaves it the client's. The budget stays the client's.
    """

    timeout: Annotated[TimeoutPolicy, BeforeValidator(timeout_policy)] | None = None
    retry: RetryPolicy | None = None


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
            timeout: TimeoutPolicy | str | Mapping[str, Any] = ...,
            pool: PoolPolicy | Mapping[str, Any] = ...,
            schema: SchemaPolicy | Mapping[str, Any] = ...,
            subscriptions: SubscriptionPolicy | Mapping[str, Any] = ...,
            shutdown: ShutdownPolicy | Mapping[str, Any] = ...,
            health: HealthPolicy | Mapping[str, Any] = ...,
            telemetry: TelemetryPolicy | Mapping[str, Any] = ...,
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
            _check_url(value, "proxy", ("http", "https"))
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


def http_url(endpoint: object) -> str:
    """The URL that HTTP requests go to: of a ``ws(s)://`` endpoint the ``http(s)://`` one.

    :raises ConfigurationError: it is no URL that a client can use. The text shows no credentials.
    """
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"endpoint must be a text, not {type(endpoint).__name__}")
    parts = _check_url(endpoint.strip(), "endpoint", tuple(_SCHEMES))
    return parts._replace(scheme=_SCHEMES[parts.scheme]).geturl()


def _check_url(url: str, setting: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        problem = "its host or port cannot be read"
    else:
        if parts.scheme not in schemes:
            problem = "it must begin with " + ", ".join(f"{scheme}://" for scheme in schemes)
        elif not host or any(char.isspace() or not char.isprintable() for char in url):
            problem = "it names no host" if not host else "it contains white space or a control character"
        elif ":" not in host and not all(0 < len(label) < 64 for label in host.rstrip(".").split(".")):
            problem = "its host name has an empty part, or one of over 63 characters"
        else:
            return parts
    raise ConfigurationError(f"{setting} {redacted(url)!r} cannot be used: {problem}")


def has_credentials(url: object) -> bool:
    """Whether a URL holds a user's name or a password."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return bool(parts.username or parts.password)


def host_of(url: str) -> str:
    """``host`` or ``host:port``, for texts; never credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def same_upstream(one: str, other: str) -> bool:
    """Whether two endpoints are one server's, for credentials that are meant for it.

    Case of scheme and host, the default port, a slash at the end, credentials and ``ws`` for ``http`` make no
    difference; a scheme, port, path or query of its own does.
    """
    try:
        return _upstream_of(one) == _upstream_of(other)
    except ValueError:
        return one.strip() == other.strip()


def _upstream_of(endpoint: str) -> tuple[object, ...]:
    parts = urlsplit(endpoint.strip())
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    port = parts.port or {"http": 80, "https": 443}.get(scheme)
    return scheme, (parts.hostname or "").rstrip("."), port, parts.path.rstrip("/"), parts.query


UNREADABLE = "an address that cannot be read"


def target_of(location: str) -> str | None:
    """The host that a ``Location`` names, for texts; None if it stays on the same host."""
    try:
        host = urlsplit(location).hostname
        return None if host is None else quoted(host)
    except ValueError:
        return UNREADABLE


def redirect_of(endpoint: str, location: str) -> str | None:
    """Where a redirect leads, for texts: what differs from the endpoint, of host, scheme, port and path.

    Another host is named without its path, which may be anybody's secret; never credentials or a query. None
    where it leads to the endpoint again, with another query perhaps.
    """
    try:
        target = urlsplit(urljoin(endpoint, location))
        host, port = target.hostname, target.port
        own = urlsplit(endpoint)
        address = _address(target)
    except ValueError:
        return UNREADABLE
    if not host:
        return None
    if host != own.hostname and own.hostname:
        shown = f"{host}:{port}" if port else host
        if _SCHEMES.get(target.scheme) != _SCHEMES.get(own.scheme):
            shown = f"{target.scheme}://{shown}"
        return quoted(shown)
    if address == _address(own):
        return None
    return quoted(redacted(target.geturl()))


def _address(parts: SplitResult) -> tuple[object, ...]:
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    return scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(scheme), parts.path or "/"


def redacted(url: str) -> str:
    """A URL without credentials, query and fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    after = rest[len(authority) :]
    if "@" not in authority and "@" in after and (":" in authority or not separator):
        return f"{scheme}{separator}…"  # an unescaped password, perhaps: what would be host ends within it
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{re.split('[?#]', after, maxsplit=1)[0]}"


def plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Header values as they are sent."""
    return {name: value.get_secret_value() for name, value in headers.items()}
