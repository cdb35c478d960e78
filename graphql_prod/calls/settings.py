"""What a call goes by: the settings of its client, of a view of it, of its operation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from graphql_prod.headers import merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod.config import OperationPolicy, ProductionConfig
    from graphql_prod.credentials import Credentials
    from graphql_prod.resilience.retry.backoff import Backoff
    from graphql_prod.resilience.timeouts import TimeoutPolicy

Client = TypeVar("Client")


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What a call goes by: the client's settings, or those of a view made by ``with_options``."""

    timeout: TimeoutPolicy
    backoff: Backoff
    idempotent: bool | None = None
    """Whether mutations are; None leaves it to the policy."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    validate: bool | None = None
    auth_error_codes: frozenset[str] = frozenset()
    credentials: Credentials | None = None
    probe: bool = False
    """Whether it looks into readiness, and so waits for no slot of ours: that says nothing of the server."""


def settings_of(operation: str, config: ProductionConfig, settings: CallSettings) -> CallSettings:
    """The settings of an operation that has its own, or these."""
    policy = config.operations.get(operation)
    return settings if policy is None else replace(settings, **own_settings(policy, settings))


def own_settings(policy: OperationPolicy, clients: CallSettings) -> dict[str, Any]:
    """What differs for an operation: what its groups name, over what the client's say."""
    own: dict[str, Any] = {}
    if policy.timeout is not None:
        own["timeout"] = policy.timeout.merged_over(clients.timeout)
    if policy.retry is not None:
        own["backoff"] = clients.backoff.with_part(policy.retry)
    return own


def viewed(config: ProductionConfig, settings: CallSettings, named: frozenset[str]) -> ProductionConfig:
    """A client's configuration, with what a view of it has named."""
    own: dict[str, Any] = {}
    if "timeout" in named:
        own["timeout"] = settings.timeout
    if "backoff" in named:
        own["retry"] = settings.backoff.retrying if settings.backoff.narrows else settings.backoff.policy
    if settings.headers:
        secret = {name: SecretStr(value) for name, value in settings.headers.items()}
        own["headers"] = merge(config.headers, secret)
    return config.model_copy(update=own) if own else config


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
