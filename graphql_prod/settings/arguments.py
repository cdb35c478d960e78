"""The constructor's arguments over a configuration, checked together."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphql_prod.config import ProductionConfig
from graphql_prod.errors import ConfigurationError
from graphql_prod.headers import merge
from graphql_prod.runtime import logs
from graphql_prod.schema.policy import SchemaPolicy
from graphql_prod.urls import redacted, same_upstream

if TYPE_CHECKING:
    from graphql_prod.resilience.retry.policy import Retry
    from graphql_prod.resilience.timeouts import TimeoutPolicy, TimeoutPreset
    from graphql_prod.sessions.policy import Backend

logger: logging.Logger = logging.getLogger("graphql_prod")


def effective(
    config: ProductionConfig | None,
    endpoint: str,
    headers: Any,
    method: str | None,
    backend: Backend | None,
    validate: bool,
    schema_ttl: float | None,
    timeout: TimeoutPolicy | float | TimeoutPreset | None = None,
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
            extra=logs.facts(endpoint=redacted(endpoint)),
        )
