"""What a channel connects with: fresh headers each time, the session that is in use then."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

from graphql_prod.credentials import ProviderError, provider_failed, refuse_twice
from graphql_prod.errors import ConfigurationError, SubscriptionClosedError, TransportError
from graphql_prod.headers import provided
from graphql_prod.renewals import of_socket
from graphql_prod.runtime.contexts import called_in
from graphql_prod.subscriptions.payload import InitPayload
from graphql_prod.subscriptions.protocol import Message, init_message
from graphql_prod.subscriptions.sockets import AiohttpSocket, StockSocket, WebsocketsSocket
from graphql_prod.telemetry.spans import inject
from graphql_prod.texts.redaction import secrets_of
from graphql_prod.urls import has_credentials, host_of, http_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Context

    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport

    from graphql_prod.admission.admission import Admission
    from graphql_prod.credentials import Given
    from graphql_prod.sessions.session import Session
    from graphql_prod.subscriptions.context import SubscribeRequest, SubscriptionContext
    from graphql_prod.subscriptions.losses import ConnectionLost
    from graphql_prod.subscriptions.sockets import Socket


class Connector:
    """Opens the sockets of one channel.

    :ivar renewable: whether refused credentials can be exchanged for others.
    :ivar proven: whether the last connection stayed up with what it was made with.
    :ivar changed: whether the last headers of a sync provider differ from those before.
    """

    __slots__ = (
        "_compression",
        "_context",
        "_credentials",
        "_endpoint",
        "_given",
        "_held",
        "_payload",
        "_refused",
        "_request",
        "_unused",
        "_where",
        "changed",
        "host",
        "max_values",
        "protocols",
        "proven",
        "renewable",
        "serializer",
        "session",
        "transport",
    )

    def __init__(self, context: SubscriptionContext, subscribe_request: SubscribeRequest) -> None:
        self.host: str = host_of(http_url(subscribe_request.endpoint))
        self.protocols: tuple[str, ...] = subscribe_request.protocols
        self.serializer: GraphQLSerializer = context.serializer
        self._context = context
        self.max_values: int | None = context.transport_options.max_response_values
        self._credentials = subscribe_request.credentials
        self._endpoint = subscribe_request.endpoint
        self._where = subscribe_request.where
        self._compression = subscribe_request.compression
        self._request = subscribe_request.request
        self._payload = InitPayload(subscribe_request.payload)
        self.renewable: bool = subscribe_request.credentials is not None or self._payload.renewable
        self.proven: bool = False
        self.changed: bool = False
        self.session: GraphQLSession | None = subscribe_request.session
        self.transport: GraphQLSubscriptionTransport | None = subscribe_request.transport
        self._held: Session | None = None
        self._given: Given | None = None
        """What the provider gave last."""
        self._unused = False
        """Whether no attempt has been made with it yet."""
        self._refused: Given | None = None

    @property
    def admission(self) -> Admission | None:
        """Whom a reconnect asks; None: nobody."""
        found = self._context.admission
        return found if found is not None and found.on else None

    def identity(self) -> object:
        """What the provider makes of whoever runs this: only those for whom it is the same share a socket.

        An async provider knows nothing of who asks. A sync one may, and is asked.

        :raises TransportError: the provider failed.
        """
        credentials = self._credentials
        if credentials is None:
            return None
        try:
            credentials.refuse_itself()
            if self._given is None:
                self._given = credentials.given_now()
                self._unused = self._given is not None
        except ProviderError as error:
            raise provider_failed(self.host, error) from error.__cause__ or error
        if credentials.is_async or self._given is None:
            return credentials
        return credentials, frozenset(self._given.headers.items())

    def fits(self, context: Context) -> bool:
        """Whether a sync provider gives the same in somebody else's context."""
        if self._credentials is None or self._given is None:
            return True
        try:
            given = context.copy().run(self._credentials.given_now)
        except ProviderError:
            return False  # where it asks for itself it will hear why
        return given is None or given.headers == self._given.headers

    async def locate(self, context: Context) -> None:
        """Ask where to connect to, if there is somebody to ask. Safe to cancel.

        :raises TransportError: the callable failed, or gave what is no URL.
        """
        if self._where is None:
            return
        try:
            async with asyncio.timeout(self._context.provider_limit):
                found = await called_in(context, self._where)
            http_url(found)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            raise TransportError(
                f"Nothing was sent: subscriptions.endpoint failed with a {type(error).__name__}. It must "
                "return a URL of http(s):// or ws(s)://. See the cause of this error."
            ) from error
        self._endpoint = str(found).strip()
        self.host = host_of(http_url(self._endpoint))

    async def headers(self, context: Context) -> dict[str, str]:
        """The headers for the next attempt, the provider's among them.

        :param context: that of a subscriber; a sync provider is asked in it.
        :raises TransportError: the provider failed.
        """
        sent = self._request.headers
        if self._context.telemetry.tracer is not None:
            sent = inject(sent)  # the channel's own context: that of the subscription that it was begun for
        credentials = self._credentials
        if credentials is None:
            return sent
        before, given = self._given, self._given if self._unused else None
        self._unused = False
        try:
            if given is None:
                given = context.copy().run(credentials.given_now, self._refused)
            if given is None:
                given = await credentials.headers(self._refused, self._context.provider_limit)
        except ProviderError as error:
            # The channel takes secrets out.
            raise provider_failed(self.host, error) from error.__cause__ or error
        if has_credentials(self._endpoint):
            refuse_twice(self.host, given.headers)
        self._given, self._refused, self.proven = given, None, False
        self.changed = before is not None and not credentials.is_async and given.headers != before.headers
        beneath = credentials.beneath or self._context.static_headers
        return {**sent, **provided(given.headers, sent, beneath)}

    def may_renew(self, loss: ConnectionLost, *, renewed: bool) -> bool:
        """Whether refused credentials can be exchanged for others that may be taken.

        :param renewed: whether the lost connection was made with such ones.
        """
        credentials, given = self._credentials, self._given
        if credentials is None or given is None or not loss.refused:
            return self.renewable and not renewed
        refusal, scope = of_socket(loss.close_code, loss.status), credentials.scope(given)
        if renewed:
            credentials.renewals.did_not_help(refusal, given.generation, scope)
            return False
        return self.proven or credentials.renewals.may_help(refusal, scope)

    def renew(self) -> None:
        """What the last attempt was made with was refused."""
        self._refused = self._given
        self._payload.renew()

    def secrets(self) -> frozenset[str]:
        """What must not be seen in the cause of an error."""
        context = self._context
        given = None if self._given is None else self._given.headers
        latest = None if self._credentials is None else self._credentials.latest
        return secrets_of(
            urls=(self._endpoint, context.transport_options.proxy),
            headers=(self._request.headers, context.static_headers, given, latest),
            payload=self._payload.latest,
        )

    def renewed(self) -> Connector:
        """One for another channel, which begins with newer credentials."""
        twin = copy.copy(self)
        twin._held = None
        twin._payload = copy.copy(self._payload)
        twin.renew()
        return twin

    @property
    def outdated(self) -> bool:
        """Whether the provider's headers have been renewed since the last attempt."""
        credentials = self._credentials
        generation = 0 if self._given is None else self._given.generation
        return credentials is not None and credentials.generation > generation

    @property
    def renews(self) -> tuple[object, object, object]:
        """What is asked for other credentials, and for whom, to compare."""
        credentials, given = self._credentials, self._given
        scope = None if credentials is None or given is None else credentials.scope(given)
        return credentials, self._payload.provider, scope

    async def init(self, headers: Mapping[str, str], context: Context | None) -> Message:
        """The first message of a connection.

        :param context: that of the subscriber; None where there may be several, of which none is asked for.
        :raises TransportError: the callable that gives the payload failed.
        """
        payload = await self._payload.current(self.host, self._context.provider_limit, context)
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

        :raises Exception: there is none; the border in ``losses`` knows what it means.
        """
        context = self._context
        if self.transport is not None:
            request = self._request.copy(headers=dict(headers))
            return await StockSocket.open(
                self.transport, self._endpoint, request, self.serializer, self.protocols, self.session
            )
        options = context.transport_options
        limit = options.max_response_bytes
        if context.over_websockets(self.session):
            return await WebsocketsSocket.open(
                self._endpoint,
                headers,
                self.protocols,
                limit,
                context.transport_options,
                compression=self._compression,
            )
        session = context.session_for(self.session)
        native = session.for_upgrades()
        if native is not None and getattr(native, "closed", False):
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
            proxy = session.upgrade_proxy(self._endpoint)
            return await AiohttpSocket.open(
                native, self._endpoint, headers, self.protocols, limit, proxy, compression=self._compression
            )
        except BaseException:
            self.closed()
            raise

    def closed(self) -> None:
        """The socket has ended; the session under it may be closed."""
        held, self._held = self._held, None
        if held is not None:
            held.release()
