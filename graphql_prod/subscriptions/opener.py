"""What a line connects with: fresh headers each time, the session that is in use then."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from graphql_prod.config import has_credentials, host_of, http_url
from graphql_prod.credentials import ProviderError, provider_failed, refuse_twice
from graphql_prod.errors import ConfigurationError, SubscriptionClosedError
from graphql_prod.headers import provided
from graphql_prod.redaction import secrets_of
from graphql_prod.subscriptions.payload import InitPayload
from graphql_prod.subscriptions.protocol import Message, init_message
from graphql_prod.subscriptions.sockets import AiohttpSocket, StockSocket, WebsocketsSocket
from graphql_prod.telemetry.observer import inject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport

    from graphql_prod.session import Session
    from graphql_prod.subscriptions.hub import Ground
    from graphql_prod.subscriptions.payload import Payload, PayloadProvider
    from graphql_prod.subscriptions.sockets import Socket


class Opener:
    """Opens the sockets of one line.

    :ivar renewable: whether refused credentials can be exchanged for others.
    :ivar renews: what is asked for others, to compare.
    """

    __slots__ = (
        "_endpoint",
        "_generation",
        "_ground",
        "_held",
        "_payload",
        "_refused",
        "_request",
        "host",
        "protocols",
        "renewable",
        "renews",
        "serializer",
        "session",
        "transport",
    )

    def __init__(
        self,
        ground: Ground,
        endpoint: str,
        request: GraphQLRequest,
        protocols: tuple[str, ...],
        payload: Payload | PayloadProvider | None,
        session: GraphQLSession | None,
        transport: GraphQLSubscriptionTransport | None,
    ) -> None:
        self.host = host_of(http_url(endpoint))
        self.protocols = protocols
        self.serializer: GraphQLSerializer = ground.serializer
        self._ground = ground
        self._endpoint = endpoint
        self._request = request
        self._payload = InitPayload(payload)
        self.renewable = ground.credentials is not None or self._payload.renewable
        self.renews = (ground.credentials, payload if self._payload.renewable else None)
        self.session = session
        self.transport = transport
        self._held: Session | None = None
        self._generation = 0
        self._refused: int | None = None

    async def headers(self) -> dict[str, str]:
        """The headers for the next attempt, the provider's among them.

        :raises TransportError: the provider failed.
        """
        sent = self._request.headers
        if self._ground.observer.tracer is not None:
            sent = inject(sent)  # the line's own context: that of the subscription that it was begun for
        credentials = self._ground.credentials
        if credentials is None:
            return sent
        try:
            fresh, self._generation = await credentials.headers(self._refused, self._ground.provider_limit)
        except ProviderError as error:
            raise provider_failed(self.host, error) from error.__cause__  # the line takes secrets out
        self._refused = None
        if has_credentials(self._endpoint):
            refuse_twice(self.host, fresh)
        return {**sent, **provided(fresh, sent, self._ground.static_headers)}

    def renew(self) -> None:
        """What the last attempt was made with was refused."""
        self._refused = self._generation
        self._payload.renew()

    def secrets(self) -> frozenset[str]:
        """What must not be seen in the cause of an error."""
        ground = self._ground
        given = {} if ground.credentials is None else ground.credentials.latest
        return secrets_of(
            urls=(self._endpoint, ground.wire.proxy),
            headers=(self._request.headers, ground.static_headers, given),
            payload=self._payload.latest,
        )

    def renewed(self) -> Opener:
        """One for another line, which begins with newer credentials."""
        twin = copy.copy(self)
        twin._held = None
        twin._payload = copy.copy(self._payload)
        twin.renew()
        return twin

    @property
    def outdated(self) -> bool:
        """Whether the provider's headers have been renewed since the last attempt."""
        credentials = self._ground.credentials
        return credentials is not None and credentials.generation > self._generation

    async def init(self, headers: Mapping[str, str]) -> Message:
        """The first message of a connection.

        :raises TransportError: the callable that gives the payload failed.
        """
        payload = await self._payload.current(self.host, self._ground.provider_limit)
        return init_message(payload, headers)

    def dumps(self, message: Message) -> str:
        """A message as it is sent."""
        text = self.serializer.dumps(message)
        if isinstance(text, bytes):
            return text.decode()
        text.encode()  # a lone surrogate: told here, not by a socket that breaks
        return text

    async def open(self, headers: Mapping[str, str]) -> Socket:
        """A new socket. Safe to cancel.

        :raises Exception: there is none; the border in ``verdict`` knows what it means.
        """
        ground = self._ground
        if self.transport is not None:
            request = self._request.copy(headers=dict(headers))
            return await StockSocket.open(
                self.transport, self._endpoint, request, self.serializer, self.protocols, self.session
            )
        limit = ground.wire.max_response_bytes
        if ground.over_websockets(self.session):
            return await WebsocketsSocket.open(self._endpoint, headers, self.protocols, limit, ground.wire)
        session = ground.session_for(self.session)
        native = session.for_upgrades()
        if native is not None and native.closed:
            raise SubscriptionClosedError(
                f"The aiohttp session of the subscription to {self.host} was closed by its owner. "
                "End the subscription before it.",
                close_reason="session closed",
            )
        if native is None:
            raise ConfigurationError("subscriptions over this session need an aiohttp session of their own")
        session.hold()
        self._held = session
        try:
            return await AiohttpSocket.open(native, self._endpoint, headers, self.protocols, limit)
        except BaseException:
            self.closed()
            raise

    def closed(self) -> None:
        """The socket has ended; the session under it may be closed."""
        held, self._held = self._held, None
        if held is not None:
            held.release()
