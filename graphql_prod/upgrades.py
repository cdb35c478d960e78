"""WebSocket upgrades of our own sessions: with our TLS and proxy, and never redirected.

Both libraries follow redirects of an upgrade; aiohttp takes headers and the ``connection_init`` credentials
along to whatever host the redirect names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from aiographql.client.transport import WebsocketSubscriptionTransport

from graphql_prod.config import host_of, target_of
from graphql_prod.errors import TransportError

if TYPE_CHECKING:
    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport.base import GraphQLWebSocketResponse

    from graphql_prod.wire import Wire


def refused_redirect(url: str, location: str) -> TransportError:
    """The error of an upgrade that was redirected; it names the target's host and nothing more of it."""
    host = host_of(url)
    target = target_of(location) or host
    return TransportError(
        f"{host} answered the WebSocket upgrade with a redirect to {target}, which is not followed. "
        f"If {target} is right, make it the endpoint."
    )


def no_redirects() -> aiohttp.TraceConfig:
    """Ends an upgrade over aiohttp that is redirected, before anything is sent to the target."""
    trace = aiohttp.TraceConfig()

    async def refuse(_: object, __: object, redirected: aiohttp.TraceRequestRedirectParams) -> None:
        redirected.response.close()
        location = redirected.response.headers.get("Location", "")
        raise refused_redirect(str(redirected.url), location)

    trace.on_request_redirect.append(refuse)
    return trace


class WireWebsockets(WebsocketSubscriptionTransport):
    """The stock transport over websockets, which looks at the environment only when it is asked to."""

    def __init__(self, endpoint: str, wire: Wire) -> None:
        super().__init__(endpoint)
        self._wire = wire

    async def subscribe(
        self, endpoint: str, request: GraphQLRequest, serializer: GraphQLSerializer, **kwargs: Any
    ) -> GraphQLWebSocketResponse:
        from aiographql.client.transport.websocket import WebsocketResponse
        from websockets.asyncio.client import connect

        class Connect(connect):
            """Upgrades, and follows nobody."""

            def process_redirect(self, exc: Exception) -> Exception | str:
                location = getattr(getattr(exc, "response", None), "headers", {}).get("Location")
                return exc if location is None else refused_redirect(self.uri, location)

        scheme, _, rest = endpoint.partition("://")
        secure = scheme in ("https", "wss")
        kwargs.pop("session", None)
        kwargs.setdefault("subprotocols", kwargs.pop("protocols", None))
        kwargs.setdefault("additional_headers", request.headers)
        kwargs.setdefault("proxy", self._wire.proxy or (True if self._wire.trust_env else None))
        if secure and self._wire.tls is not None:
            kwargs.setdefault("ssl", self._wire.tls)
        return WebsocketResponse(await Connect(f"{'wss' if secure else 'ws'}://{rest}", **kwargs))
