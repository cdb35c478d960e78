"""WebSocket upgrades: with our TLS and proxy, and never redirected.

Both libraries follow redirects of an upgrade; aiohttp takes headers and the ``connection_init`` credentials
along to whatever host the redirect names (see ``subscriptions.offer``).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import aiohttp

from graphql_prod.errors import ConfigurationError, TransportError
from graphql_prod.runtime import forks
from graphql_prod.sessions.byte_clock import tapped_connection
from graphql_prod.sessions.transport_options import USER_AGENT
from graphql_prod.urls import host_of, redirect_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import SimpleNamespace

    from websockets.asyncio.client import ClientConnection

    from graphql_prod.sessions.transport_options import TransportOptions


def ws_url(endpoint: str) -> str:
    """The URL of an upgrade: of an ``http(s)://`` endpoint the ``ws(s)://`` one."""
    scheme, separator, rest = endpoint.partition("://")
    return f"{'wss' if scheme in ('https', 'wss') else 'ws'}{separator}{rest}"


def refused_redirect(url: str, location: str) -> TransportError:
    """The error of an upgrade that was redirected; it names the target without its query."""
    host = host_of(url)
    target = redirect_of(url, location) or host
    return TransportError(
        f"{host} answered the WebSocket upgrade with a redirect to {target}, which is not followed. "
        f"If {target} is right, make it the endpoint."
    )


def one_attempt() -> aiohttp.TraceConfig:
    """Ends an upgrade over aiohttp whose connection broke.

    aiohttp would open a second one at once, and the waits between attempts are our affair.
    """
    trace = aiohttp.TraceConfig()

    async def count(_: object, upgrade: SimpleNamespace, __: object) -> None:
        if upgrade.__dict__.setdefault("connections", 0):
            raise aiohttp.ServerDisconnectedError
        upgrade.connections = 1

    trace.on_connection_create_start.append(count)
    trace.freeze()
    return trace


async def connect_websockets(
    url: str,
    headers: Mapping[str, str],
    protocols: Sequence[str],
    transport_options: TransportOptions,
    proxy: str | None,
    **options: Any,
) -> ClientConnection:
    """Upgrade over websockets, which does not look at the environment itself.

    :raises ConfigurationError: websockets is not installed.
    """
    url = ws_url(url)
    if url.startswith("wss") and transport_options.tls is not None:
        options["ssl"] = transport_options.tls
    if proxy is not None and proxy.startswith("https") and transport_options.tls is not None:
        options["proxy_ssl"] = transport_options.tls
    connecting: ClientConnection = await _connector()(
        url,
        subprotocols=list(protocols),
        additional_headers=headers,
        user_agent_header=None if "user-agent" in map(str.lower, headers) else USER_AGENT,
        proxy=proxy,
        create_connection=tapped_connection(),
        **options,
    )
    forks.follow_websocket(connecting)
    return connecting


@cache
def _connector() -> Callable[..., Any]:
    try:
        from websockets.asyncio.client import connect
    except ImportError:
        raise ConfigurationError(
            "subscriptions with backend='httpx' need websockets: pip install 'graphql-prod[httpx]'"
        ) from None

    class Connect(connect):
        """Upgrades, and follows nobody."""

        def process_redirect(self, exc: Exception) -> Exception | str:
            location = getattr(getattr(exc, "response", None), "headers", {}).get("Location")
            return exc if location is None else refused_redirect(self.uri, location)

    return Connect
