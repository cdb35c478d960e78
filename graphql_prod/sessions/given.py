"""Sessions that a caller gives, and keeps owning."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import aiohttp
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.errors import ClientClosedError, ConfigurationError
from graphql_prod.sessions.aiohttp_exchange import GivenAiohttpExchange, OtherExchange
from graphql_prod.sessions.httpx_exchange import OtherHttpxExchange, ShieldedExchange
from graphql_prod.sessions.limits import aiohttp_limits, httpx_limits, with_limits
from graphql_prod.sessions.session import Session
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    import httpx
    from aiographql.client.transport import GraphQLTransport

    from graphql_prod.resilience.timeouts import TimeoutPolicy
    from graphql_prod.sessions.exchange import Exchange
    from graphql_prod.sessions.limiter import DetachedRequests
    from graphql_prod.sessions.policy import Backend


class AiohttpSession(Session):
    """A caller's aiohttp session: its own connect and read limits hold unless a limit was named."""

    backend: Backend = "aiohttp"
    over_aiohttp = True

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        super().__init__()
        self.native: aiohttp.ClientSession = session
        self.stock: GraphQLTransport = AiohttpTransport(endpoint)
        self.endpoint = endpoint

    def exchange(self) -> Exchange:
        return GivenAiohttpExchange(self.native)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        named = aiohttp_limits(timeout, timeout.named)
        if not named:
            return {"allow_redirects": False}
        own: Any = getattr(self.native, "timeout", None)
        base = own if isinstance(own, aiohttp.ClientTimeout) else aiohttp.ClientTimeout()
        return {"allow_redirects": False, "timeout": with_limits(base, named)}


class OtherSession(Session):
    """A caller's session of another library, used as the stock uses it: nothing else is asked of it."""

    backend: Backend = "aiohttp"

    def __init__(self, session: Any, endpoint: str) -> None:
        super().__init__()
        self._session = session
        self.native: aiohttp.ClientSession | None = (
            session if callable(getattr(session, "ws_connect", None)) else None
        )
        self.stock: GraphQLTransport = AiohttpTransport(endpoint)

    def exchange(self) -> Exchange:
        return OtherExchange(self._session)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        return {}


class OtherHttpxSession(Session):
    """A test's double of an httpx client, likewise."""

    backend: Backend = "httpx"

    def __init__(self, client: Any, endpoint: str) -> None:
        super().__init__()
        self._client = client
        self.stock: GraphQLTransport = HttpxTransport(endpoint)

    def exchange(self) -> Exchange:
        return OtherHttpxExchange(self._client)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        return {}


class HttpxSession(Session):
    """A caller's httpx client: its own limits hold unless one was named, and nothing on it is cancelled."""

    backend: Backend = "httpx"

    def __init__(self, client: httpx.AsyncClient, endpoint: str, detached: DetachedRequests) -> None:
        super().__init__()
        self.client = client
        self.limiter: DetachedRequests = detached
        self._detached = detached
        self.stock: GraphQLTransport = HttpxTransport(endpoint)

    def exchange(self) -> Exchange:
        return ShieldedExchange(self.client, self._detached.tasks)

    def options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        return self._options(timeout)  # not remembered: the owner may change the client's limits

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        import httpx

        named = httpx_limits(timeout, timeout.named)
        if not named:
            return {"follow_redirects": False}
        own = self.client.timeout.as_dict()
        return {"follow_redirects": False, "timeout": httpx.Timeout(**{**own, **named})}


class ParentsSession(Session):
    """A caller's, in a child that was forked from the process that used it: refused, however it is used.

    Two processes on one connection get each other's answers.
    """

    def __init__(self, used: Session, endpoint: str) -> None:
        super().__init__()
        self.backend: Backend = used.backend
        self._host = host_of(endpoint)

    def __getattribute__(self, name: str) -> Any:
        if name in ("stock", "native", "exchange", "traced_exchange", "for_upgrades", "options"):
            raise ClientClosedError(
                f"Nothing was sent to {self._host}: the session given to this client was used by the process "
                "that this one was forked from, and its connections are that one's. Make a client in this "
                "process, with a session of its own."
            )
        return super().__getattribute__(name)


def usable(session: object) -> str:
    """The name of a session's class, if the stock client could use it.

    :raises ConfigurationError: it could not.
    """
    kind = type(session)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    httpx = sys.modules.get("httpx")
    if httpx is not None and isinstance(session, httpx.Client):
        raise ConfigurationError(
            f"the session is a {name}, which is not asynchronous: give an httpx.AsyncClient"
        )
    if any(base.__name__ == "AsyncClient" for base in kind.__mro__):
        raise ConfigurationError(
            f"the session is a {name}, which looks like an httpx.AsyncClient and is none: its answers and "
            "errors are others. Give an httpx.AsyncClient, an aiohttp.ClientSession, or a transport=."
        )
    if not callable(getattr(session, "request", None)):
        raise ConfigurationError(
            f"the session is a {name}, which has no request(); give an aiohttp.ClientSession or an "
            "httpx.AsyncClient"
        )
    return name
