"""Arguments that cannot work are refused before anything is sent, with what to do instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from aiographql.client import GraphQLClientException
from aiographql.client.subscription import GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from cafeteria.asyncio.callbacks import Callback
from graphql import GraphQLSyntaxError

from graphql_prod.documents import kind_of
from graphql_prod.errors import ConfigurationError

if TYPE_CHECKING:
    from aiographql.client import GraphQLRequest, GraphQLTransport

    from graphql_prod.sessions.policy import Backend
    from graphql_prod.sessions.sessions import Sessions

_PROTOCOLS = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL)
_PROTOCOLS_ALLOWED = "allowed are " + " and ".join(repr(name) for name in _PROTOCOLS)


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
