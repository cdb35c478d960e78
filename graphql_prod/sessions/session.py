"""An HTTP session in use, whoever owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql_prod.sessions.env_proxy import websocket_proxy

if TYPE_CHECKING:
    import aiohttp
    from aiographql.client import GraphQLTransport

    from graphql_prod.resilience.timeouts import TimeoutPolicy
    from graphql_prod.sessions.exchange import (
        Exchange,
    )
    from graphql_prod.sessions.limiter import ConcurrencyLimiter, DetachedRequests
    from graphql_prod.sessions.policy import Backend


class Session:
    """An HTTP session in use, with the stock transport that fits it."""

    limiter: ConcurrencyLimiter | DetachedRequests | None = None
    native: aiohttp.ClientSession | None = None
    backend: Backend
    stock: GraphQLTransport
    over_aiohttp = False
    """Whether attempts are sent as the stock transport for aiohttp sends them, without it."""
    endpoint: str

    def __init__(self) -> None:
        self._fitted: dict[int, tuple[TimeoutPolicy, dict[str, Any]]] = {}

    def exchange(self) -> Exchange:
        """A stand-in for this session, for one attempt."""
        raise NotImplementedError

    def traced_exchange(self) -> Exchange | None:
        """The same, of a session that makes an HTTP span of the attempt; None where there is none."""
        return None

    def for_upgrades(self) -> aiohttp.ClientSession | None:
        """The aiohttp session that subscriptions share; None where there is none."""
        return self.native

    def upgrade_proxy(self, url: str) -> str | None:
        """The proxy for an upgrade; None leaves that to the aiohttp session.

        :raises ConfigurationError: the environment names one that cannot be used.
        """
        # A caller's that looks at the environment does so for its requests, and not for WebSockets.
        return websocket_proxy(url) if getattr(self.native, "trust_env", False) is True else None

    def hold(self) -> None:
        """Count a socket in, so that the session is not closed under it when it has grown too old."""

    def release(self) -> None:
        """Count a socket out."""

    def options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        """Keyword arguments for one request, remembered for the policies in use."""
        known = self._fitted.get(id(timeout))
        if known is None:
            if len(self._fitted) >= 32:  # views made for one call bring policies of their own
                self._fitted.clear()
            known = self._fitted[id(timeout)] = (timeout, self._options(timeout))
        return known[1]

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        raise NotImplementedError
