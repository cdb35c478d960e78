"""What a caller asks to be subscribed to, and what all channels of a client stand on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLSubscriptionEvent

if TYPE_CHECKING:
    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport

    from graphql_prod.admission.admission import Admission
    from graphql_prod.credentials import Credentials
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.sessions import Sessions
    from graphql_prod.sessions.transport_options import TransportOptions
    from graphql_prod.subscriptions.payload import Payload, PayloadProvider
    from graphql_prod.subscriptions.policy import EndpointProvider
    from graphql_prod.subscriptions.states import StateKeeper
    from graphql_prod.telemetry.hooks import Hooks
    from graphql_prod.telemetry.telemetry import Telemetry


Variables = Mapping[str, Any]
Resume = Callable[[GraphQLSubscriptionEvent | None, dict[str, Any]], Variables | Awaitable[Variables]]
"""Asked with the last event for the variables of the next subscribe."""


Restart = Callable[[GraphQLSubscriptionEvent | None], bool]
"""Asked when the server ends a subscription: with its ``error``, or None for its ``complete``."""


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a caller asks to be subscribed to, and over what."""

    endpoint: str = field(repr=False)
    request: GraphQLRequest
    protocols: tuple[str, ...]
    payload: Payload | PayloadProvider | None = field(repr=False)
    session: GraphQLSession | None
    transport: GraphQLSubscriptionTransport | None
    resume: Resume | None
    restart: Restart | None = None
    where: EndpointProvider | None = None
    """Asked at each connect for the endpoint; None: it stays as it is."""
    compression: bool = False
    states: StateKeeper | None = field(default=None, repr=False)
    credentials: Credentials | None = field(default=None, repr=False)

    def to(self, endpoint: str, session: GraphQLSession | None) -> SubscribeRequest:
        """The same, at another address, or over another session."""
        return dataclasses.replace(self, endpoint=endpoint, session=session or self.session)


@dataclass(frozen=True, slots=True)
class SubscriptionContext:
    """What all channels of a client stand on."""

    sessions: Sessions
    transport_options: TransportOptions
    serializer: GraphQLSerializer
    static_headers: Mapping[str, str] = field(repr=False)
    provider_limit: float | None
    telemetry: Telemetry
    transport: GraphQLSubscriptionTransport | None
    """The client's own subscription transport, which outlives its subscriptions."""
    auth_error_codes: frozenset[str] = frozenset()
    hooks: Hooks | None = None
    admission: Admission | None = None

    def over_websockets(self, session: GraphQLSession | None) -> bool:
        """Whether a socket is one of the websockets library; a session given for it decides."""
        if session is None:
            return self.sessions.backend == "httpx"
        httpx = sys.modules.get("httpx")
        return httpx is not None and isinstance(session, httpx.AsyncClient)

    def session_for(self, session: GraphQLSession | None) -> Session:
        """The aiohttp session for the next socket."""
        return self.sessions.current() if session is None else self.sessions.wrap(session)
