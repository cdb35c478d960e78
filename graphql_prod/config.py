"""All settings of a client in one frozen value, and the checks that need more than one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import tenacity
from pydantic import BeforeValidator, Field, SecretStr, field_validator

from graphql_prod.errors import ConfigurationError
from graphql_prod.policy import Policy
from graphql_prod.pool import PoolPolicy
from graphql_prod.retry import RetryPolicy
from graphql_prod.timeouts import TimeoutPolicy, timeout_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class ProductionConfig(Policy):
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
    """

    secret_keys: ClassVar[frozenset[str]] = frozenset({"headers", "endpoint"})

    endpoint: str | None = None
    backend: Literal["aiohttp", "httpx"] | None = None
    method: Annotated[Literal["post", "get"], BeforeValidator(lambda value: _lower(value))] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    retry: RetryPolicy | tenacity.BaseRetrying = Field(default_factory=RetryPolicy)
    timeout: Annotated[TimeoutPolicy, BeforeValidator(timeout_policy)] = Field(default_factory=TimeoutPolicy)
    pool: PoolPolicy = Field(default_factory=PoolPolicy)

    @field_validator("retry", mode="before")
    @classmethod
    def _one_kind_of_retry(cls, value: object) -> object:
        # Judged here, a mapping's mistakes are told once and not once for each member of the union.
        return RetryPolicy(**value) if isinstance(value, dict) else value

    @field_validator("endpoint")
    @classmethod
    def _usable_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            http_url(value)
        return value

    def __repr_args__(self) -> Any:
        for key, value in super().__repr_args__():
            yield key, redacted(value) if key == "endpoint" and value else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def http_url(endpoint: object) -> str:
    """The URL that HTTP requests go to: of a ``ws(s)://`` endpoint the ``http(s)://`` one.

    :raises ConfigurationError: it is no URL that a client can use. The text shows no credentials.
    """
    problem = None
    if not isinstance(endpoint, str):
        raise ConfigurationError(f"endpoint must be a text, not {type(endpoint).__name__}")
    try:
        parts = urlsplit(endpoint.strip())
        scheme, host, _ = _SCHEMES.get(parts.scheme.lower()), parts.hostname, parts.port
    except ValueError as error:
        problem = str(error)
    else:
        if scheme is None:
            problem = "it must begin with http://, https://, ws:// or wss://"
        elif not host:
            problem = "it names no host"
        else:
            return parts._replace(scheme=scheme).geturl()
    raise ConfigurationError(f"endpoint {redacted(endpoint)!r} cannot be used: {problem}")


def host_of(url: str) -> str:
    """``host`` or ``host:port``, for texts; never credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def redacted(url: str) -> str:
    """A URL without credentials, query and fragment."""
    head = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = head.partition("://")
    if not separator:
        return head.rpartition("@")[2]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def plain(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Header values as they are sent."""
    return {name: value.get_secret_value() for name, value in headers.items()}
