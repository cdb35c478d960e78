"""Sessions that we open, size and close."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.errors import ConfigurationError
from graphql_prod.resilience.timeouts import TimeoutPolicy
from graphql_prod.runtime import forks
from graphql_prod.sessions.aiohttp_exchange import AiohttpExchange
from graphql_prod.sessions.byte_clock import TappedResponse
from graphql_prod.sessions.connector import KeptConnector
from graphql_prod.sessions.env_proxy import upgrade_proxy
from graphql_prod.sessions.httpx_exchange import HttpxExchange
from graphql_prod.sessions.limiter import ConcurrencyLimiter
from graphql_prod.sessions.limits import aiohttp_limits, httpx_limits, with_limits
from graphql_prod.sessions.netrc import ExplicitFirst
from graphql_prod.sessions.session import Session
from graphql_prod.sessions.transport_options import USER_AGENT
from graphql_prod.sessions.under_httpx import WatchedSession
from graphql_prod.sessions.upgrades import one_attempt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import AsyncGeneratorType

    import httpx
    from aiographql.client.transport import GraphQLTransport

    from graphql_prod.sessions.exchange import Exchange
    from graphql_prod.sessions.policy import Backend, PoolPolicy
    from graphql_prod.sessions.transport_options import TransportOptions


# Bytes of a header line that our own sessions take, and of all else that is one line.
LINE = 64 * 1024


class OwnedSession(Session):
    """A session of ours, on the loop that was running when it was opened."""

    limiter: ConcurrencyLimiter
    native: aiohttp.ClientSession

    def __init__(self, pool: PoolPolicy, transport_options: TransportOptions) -> None:
        super().__init__()
        self._http_spans: aiohttp.TraceConfig | None = None
        self._traced: Any = None
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.limiter: ConcurrencyLimiter = ConcurrencyLimiter(pool.request_connections)
        self._closing: asyncio.Future[None] | None = None
        self.renew_at: float | None = None if pool.max_age is None else self.loop.time() + pool.max_age
        self.sockets: int = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.transport_options = transport_options
        self._upgrading: aiohttp.ClientSession | None = None
        self.native = aiohttp.ClientSession(
            connector=KeptConnector(
                # The gate counts requests and subscriptions are counted too: nobody waits in here. One is for
                # a probe, which does not wait for the gate.
                limit=pool.request_connections + pool.subscriptions + 1,
                **({"keepalive_timeout": pool.keepalive} if pool.keepalive else {"force_close": True}),
                ssl=True if transport_options.tls is None else transport_options.tls,
                socket_factory=forks.new_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            timeout=aiohttp.ClientTimeout(),
            proxy=transport_options.proxy,
            trust_env=transport_options.trust_env,
            max_line_size=LINE,
            max_field_size=LINE,
            auto_decompress=False,  # it is done within our limit
        )
        # What a global instrumentor has added would make a second span, with a URL's query in it.
        self.native.trace_configs.clear()
        self._opened = [self.native]
        self._resources = contextlib.AsyncExitStack()
        self._resources.push_async_callback(self.native.close)
        self.http: Any = self._asked_of(self.native, [])
        self._ended = asyncio.Event()
        self._resources.callback(self._ended.set)
        self._keeper = cast("AsyncGeneratorType[None, None]", _keeper(self._resources))
        with contextlib.suppress(StopIteration):
            self._keeper.__anext__().send(None)  # begins it, which makes it known to the loop

    def for_upgrades(self) -> aiohttp.ClientSession:
        if self._upgrading is None:
            # Of their own: the hook would cost every call.
            self._upgrading = self._beside([one_attempt()], ws_response_class=TappedResponse)
        return self._upgrading

    def upgrade_proxy(self, url: str) -> str | None:
        return upgrade_proxy(self.transport_options, url)

    def _asked_of(self, session: aiohttp.ClientSession, traces: list[aiohttp.TraceConfig]) -> Any:
        """What requests are asked of: the session, or what keeps its .netrc from them."""
        if not self.transport_options.trust_env:
            return session
        plain = self._beside(traces, trust_env=False, timeout=aiohttp.ClientTimeout())
        return ExplicitFirst(session, plain, looks_for_proxy=self.transport_options.proxy is None)

    def _beside(self, traces: list[aiohttp.TraceConfig], **options: Any) -> aiohttp.ClientSession:
        """Another session on the same pool, closed with this one."""
        session = aiohttp.ClientSession(
            connector=self.native.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            proxy=self.transport_options.proxy,
            max_line_size=LINE,
            max_field_size=LINE,
            auto_decompress=False,
            **{"trust_env": self.transport_options.trust_env, **options},
        )
        session.trace_configs[:] = traces
        self._opened.append(session)
        self._resources.push_async_callback(session.close)
        return session

    def observe(self, http_spans: aiohttp.TraceConfig) -> None:
        """Make one HTTP span an attempt of a traced call from here on."""
        self._http_spans = http_spans

    def disown(self) -> object:
        """In a child that was forked: nothing of it is used or closed. Returns what has to be kept."""
        connector = self.native.connector
        for session in self._opened:
            session.detach()  # or it would complain that nobody closes it
        return connector

    def _for_traces(self, http_spans: aiohttp.TraceConfig) -> Any:
        """The session of calls that are traced: hooks would cost all the others too."""
        if self._traced is None:
            traced = self._beside([http_spans], timeout=aiohttp.ClientTimeout())
            self._traced = self._asked_of(traced, [http_spans])
        return self._traced

    @property
    def closed(self) -> bool:
        """Whether the session has been closed, by us or by the end of its loop.

        Not asked of the session itself: when all of this is collected, it may have been told before us.
        """
        return self._ended.is_set()

    async def close(self) -> None:
        """Close the session and its connections."""
        if self._keeper.ag_running:  # its loop is ending, and has begun to close it
            await self._ended.wait()
        else:
            await self._keeper.aclose()

    def close_soon(self) -> None:
        """Begin to close it, on its own loop."""
        self._closing = asyncio.ensure_future(self.close())

    async def retire(self) -> None:
        """Close once the last call and subscription on it have ended."""
        await self.limiter.idle()
        await self._quiet.wait()
        await self.close()

    def hold(self) -> None:
        """Count a socket in."""
        self.sockets += 1
        self._quiet.clear()

    def release(self) -> None:
        """Count a socket out."""
        self.sockets -= 1
        if not self.sockets:
            self._quiet.set()


async def _keeper(resources: contextlib.AsyncExitStack) -> AsyncGenerator[None, None]:
    """Holds resources until it is closed, at the latest at the end of the loop it was begun on.

    A loop closes the asynchronous generators begun on it before it ends (``shutdown_asyncgens``), and those
    that are collected: so a session that nobody closed leaves no open sockets behind a closed loop.
    """
    try:
        yield
    finally:
        await resources.aclose()


class OwnedAiohttp(OwnedSession):
    """Ours, over aiohttp."""

    backend: Backend = "aiohttp"
    over_aiohttp = True

    def __init__(self, pool: PoolPolicy, transport_options: TransportOptions, endpoint: str) -> None:
        super().__init__(pool, transport_options)
        self.stock: GraphQLTransport = AiohttpTransport(endpoint)
        self.endpoint = endpoint

    def exchange(self) -> Exchange:
        return AiohttpExchange(
            self.http, self.transport_options.max_response_bytes, self.transport_options.max_response_values
        )

    def traced_exchange(self) -> Exchange | None:
        if self._http_spans is None:
            return None
        return AiohttpExchange(
            self._for_traces(self._http_spans),
            self.transport_options.max_response_bytes,
            self.transport_options.max_response_values,
        )

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        limits = aiohttp_limits(timeout, frozenset(TimeoutPolicy.model_fields))
        return {"allow_redirects": False, "timeout": with_limits(aiohttp.ClientTimeout(), limits)}


class OwnedHttpx(OwnedSession):
    """Ours, over httpx: its interface, on aiohttp's connections, which survive cancels."""

    backend: Backend = "httpx"

    def __init__(self, pool: PoolPolicy, transport_options: TransportOptions, endpoint: str) -> None:
        import httpx

        url = httpx.URL(endpoint)  # it may be none to httpx: nothing is open yet
        super().__init__(pool, transport_options)
        # httpx makes a header of the URL's credentials and leaves them in the URL, where aiohttp finds them
        # again and refuses to have both.
        self._url = url
        self.stock: GraphQLTransport = HttpxTransport(str(url.copy_with(username=None, password=None)))
        self.client: httpx.AsyncClient = self._over(self.http)
        self._traced_client: httpx.AsyncClient | None = None

    def _over(self, session: Any) -> httpx.AsyncClient:
        import httpx
        from httpx_aiohttp import AiohttpTransport as HttpxOverAiohttp

        url = self._url
        watched: Any = WatchedSession(session)
        client = httpx.AsyncClient(
            auth=(url.username, url.password) if url.username or url.password else None,
            # TLS and proxy are the aiohttp session's affair; an empty context saves loading a second one.
            transport=HttpxOverAiohttp(client=watched, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": USER_AGENT},
            trust_env=False,
        )
        self._resources.push_async_callback(client.aclose)
        return client

    def exchange(self) -> Exchange:
        return HttpxExchange(
            self.client, self.transport_options.max_response_bytes, self.transport_options.max_response_values
        )

    def traced_exchange(self) -> Exchange | None:
        if self._http_spans is None:
            return None
        if self._traced_client is None:
            self._traced_client = self._over(self._for_traces(self._http_spans))
        return HttpxExchange(
            self._traced_client,
            self.transport_options.max_response_bytes,
            self.transport_options.max_response_values,
        )

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        import httpx

        limits = httpx_limits(timeout, frozenset(TimeoutPolicy.model_fields))
        # What httpx calls pool is aiohttp's limit for a whole connect, name look-up included.
        limits["pool"] = limits["connect"]
        return {"timeout": httpx.Timeout(**limits)}


def require_httpx() -> None:
    for module in ("httpx", "httpx_aiohttp"):
        try:
            __import__(module)
        except ImportError:
            raise ConfigurationError(
                f"backend='httpx' needs {module.replace('_', '-')}: pip install 'graphql-prod[httpx]'"
            ) from None
