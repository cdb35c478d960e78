"""HTTP sessions: those that we open, size and close, and those that a caller keeps owning."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
import warnings
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Literal, cast

import aiohttp
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.errors import ClientClosedError, ConfigurationError
from graphql_prod.loops import call_on
from graphql_prod.registry import current_call
from graphql_prod.resilience.timeouts import TimeoutPolicy
from graphql_prod.runtime import forks
from graphql_prod.sessions.byte_clock import TappedResponse
from graphql_prod.sessions.connector import KeptConnector
from graphql_prod.sessions.env_proxy import upgrade_proxy, websocket_proxy
from graphql_prod.sessions.exchange import (
    AiohttpExchange,
    Exchange,
    GivenAiohttpExchange,
    HttpxExchange,
    OtherExchange,
    OtherHttpxExchange,
    ShieldedExchange,
    WatchedBody,
)
from graphql_prod.sessions.pool import ConcurrencyLimiter, DetachedRequests, PoolPolicy
from graphql_prod.sessions.transport_options import USER_AGENT, environment_proxy
from graphql_prod.sessions.upgrades import one_attempt
from graphql_prod.urls import host_of, redacted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager
    from types import AsyncGeneratorType

    import httpx
    from aiographql.client import GraphQLTransport
    from aiographql.client.transport import GraphQLSession

    from graphql_prod.sessions.transport_options import TransportOptions

logger = logging.getLogger("graphql_prod")

Backend = Literal["aiohttp", "httpx"]

# Bytes of a header line that our own sessions take, and of all else that is one line.
LINE = 64 * 1024
# Seconds given to another loop for the closing of its session.
ELSEWHERE = 2.0


class Session:
    """An HTTP session in use, with the stock transport that fits it."""

    gate: ConcurrencyLimiter | DetachedRequests | None = None
    native: aiohttp.ClientSession | None = None
    backend: Backend
    stock: GraphQLTransport

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


class AiohttpSession(Session):
    """A caller's aiohttp session: its own connect and read limits hold unless a limit was named."""

    backend: Backend = "aiohttp"

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        super().__init__()
        self.native: aiohttp.ClientSession = session
        self.stock = AiohttpTransport(endpoint)

    def exchange(self) -> Exchange:
        return GivenAiohttpExchange(self.native)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        named = _aiohttp_limits(timeout, timeout.named)
        if not named:
            return {"allow_redirects": False}
        own: Any = getattr(self.native, "timeout", None)
        base = own if isinstance(own, aiohttp.ClientTimeout) else aiohttp.ClientTimeout()
        return {"allow_redirects": False, "timeout": _with_limits(base, named)}


class OtherSession(Session):
    """A caller's session of another library, used as the stock uses it: nothing else is asked of it."""

    backend: Backend = "aiohttp"

    def __init__(self, session: Any, endpoint: str) -> None:
        super().__init__()
        self._session = session
        self.native = session if callable(getattr(session, "ws_connect", None)) else None
        self.stock = AiohttpTransport(endpoint)

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
        self.stock = HttpxTransport(endpoint)

    def exchange(self) -> Exchange:
        return OtherHttpxExchange(self._client)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        return {}


class HttpxSession(Session):
    """A caller's httpx client: its own limits hold unless one was named, and nothing on it is cancelled."""

    backend: Backend = "httpx"

    def __init__(self, client: httpx.AsyncClient, endpoint: str, abandoned: DetachedRequests) -> None:
        super().__init__()
        self.client = client
        self.gate = abandoned
        self._abandoned = abandoned
        self.stock = HttpxTransport(endpoint)

    def exchange(self) -> Exchange:
        return ShieldedExchange(self.client, self._abandoned.tasks)

    def options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        return self._options(timeout)  # not remembered: the owner may change the client's limits

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        import httpx

        named = _httpx_limits(timeout, timeout.named)
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
        self.backend = used.backend
        self._host = host_of(endpoint)

    def __getattribute__(self, name: str) -> Any:
        if name in ("stock", "native", "exchange", "traced_exchange", "for_upgrades", "options"):
            raise ClientClosedError(
                f"Nothing was sent to {self._host}: the session given to this client was used by the process "
                "that this one was forked from, and its connections are that one's. Make a client in this "
                "process, with a session of its own."
            )
        return super().__getattribute__(name)


class OwnedSession(Session):
    """A session of ours, on the loop that was running when it was opened."""

    gate: ConcurrencyLimiter
    native: aiohttp.ClientSession

    def __init__(self, pool: PoolPolicy, wire: TransportOptions) -> None:
        super().__init__()
        self._http_spans: aiohttp.TraceConfig | None = None
        self._traced: Any = None
        self.loop = asyncio.get_running_loop()
        self.gate = ConcurrencyLimiter(pool.request_connections)
        self._closing: asyncio.Future[None] | None = None
        self.renew_at = None if pool.max_age is None else self.loop.time() + pool.max_age
        self.sockets = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.wire = wire
        self._upgrading: aiohttp.ClientSession | None = None
        self.native = aiohttp.ClientSession(
            connector=KeptConnector(
                # The gate counts requests and subscriptions are counted too: nobody waits in here. One is for
                # a probe, which does not wait for the gate.
                limit=pool.request_connections + pool.subscriptions + 1,
                **({"keepalive_timeout": pool.keepalive} if pool.keepalive else {"force_close": True}),
                ssl=True if wire.tls is None else wire.tls,
                socket_factory=forks.new_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            timeout=aiohttp.ClientTimeout(),
            proxy=wire.proxy,
            trust_env=wire.trust_env,
            max_line_size=LINE,
            max_field_size=LINE,
            auto_decompress=False,  # it is done within our limit
        )
        # What a global instrumentor has added would make a second span, with a URL's query in it.
        self.native.trace_configs.clear()
        self._opened = [self.native]
        self._resources = contextlib.AsyncExitStack()
        self._resources.push_async_callback(self.native.close)
        self.http = self._asked_of(self.native, [])
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
        return upgrade_proxy(self.wire, url)

    def _asked_of(self, session: aiohttp.ClientSession, traces: list[aiohttp.TraceConfig]) -> Any:
        """What requests are asked of: the session, or what keeps its .netrc from them."""
        if not self.wire.trust_env:
            return session
        plain = self._beside(traces, trust_env=False, timeout=aiohttp.ClientTimeout())
        return ExplicitFirst(session, plain, looks_for_proxy=self.wire.proxy is None)

    def _beside(self, traces: list[aiohttp.TraceConfig], **options: Any) -> aiohttp.ClientSession:
        """Another session on the same pool, closed with this one."""
        session = aiohttp.ClientSession(
            connector=self.native.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            proxy=self.wire.proxy,
            max_line_size=LINE,
            max_field_size=LINE,
            auto_decompress=False,
            **{"trust_env": self.wire.trust_env, **options},
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
        await self.gate.idle()
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

    def __init__(self, pool: PoolPolicy, wire: TransportOptions, endpoint: str) -> None:
        super().__init__(pool, wire)
        self.stock = AiohttpTransport(endpoint)

    def exchange(self) -> Exchange:
        return AiohttpExchange(self.http, self.wire.max_response_bytes, self.wire.max_response_values)

    def traced_exchange(self) -> Exchange | None:
        if self._http_spans is None:
            return None
        return AiohttpExchange(
            self._for_traces(self._http_spans), self.wire.max_response_bytes, self.wire.max_response_values
        )

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        limits = _aiohttp_limits(timeout, frozenset(TimeoutPolicy.model_fields))
        return {"allow_redirects": False, "timeout": _with_limits(aiohttp.ClientTimeout(), limits)}


class OwnedHttpx(OwnedSession):
    """Ours, over httpx: its interface, on aiohttp's connections, which survive cancels."""

    backend: Backend = "httpx"

    def __init__(self, pool: PoolPolicy, wire: TransportOptions, endpoint: str) -> None:
        import httpx

        url = httpx.URL(endpoint)  # it may be none to httpx: nothing is open yet
        super().__init__(pool, wire)
        # httpx makes a header of the URL's credentials and leaves them in the URL, where aiohttp finds them
        # again and refuses to have both.
        self._url = url
        self.stock = HttpxTransport(str(url.copy_with(username=None, password=None)))
        self.client = self._over(self.http)
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
        return HttpxExchange(self.client, self.wire.max_response_bytes, self.wire.max_response_values)

    def traced_exchange(self) -> Exchange | None:
        if self._http_spans is None:
            return None
        if self._traced_client is None:
            self._traced_client = self._over(self._for_traces(self._http_spans))
        return HttpxExchange(self._traced_client, self.wire.max_response_bytes, self.wire.max_response_values)

    def _options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        import httpx

        limits = _httpx_limits(timeout, frozenset(TimeoutPolicy.model_fields))
        # What httpx calls pool is aiohttp's limit for a whole connect, name look-up included.
        limits["pool"] = limits["connect"]
        return {"timeout": httpx.Timeout(**limits)}


class Sessions:
    """Gives each call its session: the caller's, or ours for the loop that runs."""

    def __init__(
        self,
        endpoint: str,
        given: GraphQLSession | None,
        backend: Backend | None,
        pool: PoolPolicy,
        wire: TransportOptions,
    ) -> None:
        self._endpoint = endpoint
        self._pool = pool
        self.wire = wire
        self._retiring: dict[OwnedSession, asyncio.Task[None]] = {}
        self.abandoned = DetachedRequests(pool.request_connections)
        self.given = given
        self._warned = False
        self._given: Session | None = None if given is None else self.wrap(given)
        self._given_used = False
        self.backend: Backend = self._given.backend if self._given else backend or "aiohttp"
        self._require_backend(backend)
        self._owned: dict[asyncio.AbstractEventLoop, OwnedSession] = {}
        self._last: OwnedSession | None = None
        self._http_spans: aiohttp.TraceConfig | None = None
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked: it opens sessions of its own."""
        connectors = [owned.disown() for owned in (*self._owned.values(), *self._retiring)]
        kept = (connectors, self._owned, self._retiring, self._last, self.abandoned.tasks.copy())
        self._owned, self._retiring, self._last = {}, {}, None
        self.abandoned.tasks.clear()
        if isinstance(self._given, AiohttpSession | HttpxSession) and self._given_used:
            self._given = ParentsSession(self._given, self._endpoint)
        return kept

    def _require_backend(self, asked: Backend | None) -> None:
        if asked is not None and asked != self.backend:
            raise ConfigurationError(
                f"backend={asked!r} and the given session contradict each other: the session is one of "
                f"{self.backend}; leave the backend out, or give a session of {asked}"
            )
        if self.backend == "httpx" and self._given is None:
            _require_httpx()

    def wrap(self, session: GraphQLSession) -> Session:
        """A session of a caller's."""
        httpx = sys.modules.get("httpx")
        other: type[OtherSession | OtherHttpxSession] = OtherSession
        # Doubles with a specification say that they are of its class, and have none of its values.
        if httpx is not None and isinstance(session, httpx.AsyncClient):
            if isinstance(session.timeout, httpx.Timeout):
                return HttpxSession(session, self._endpoint, self.abandoned)
            other = OtherHttpxSession
        elif isinstance(session, aiohttp.ClientSession) and isinstance(session.trace_configs, list):
            return AiohttpSession(session, self._endpoint)
        name = _usable(session)
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: the session is a %s, which is neither of aiohttp nor of httpx. It is used as the stock "
                "client uses it: redirects and limits are its own affair, and nobody can tell whether a "
                "failed request was sent.",
                host_of(self._endpoint),
                name,
            )
        return other(session, self._endpoint)

    def current(self) -> Session:
        """The caller's session, or ours for the running loop, opened now if need be."""
        if self._given is not None:
            self._given_used = True
            return self._given
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop and (last.renew_at is None or loop.time() < last.renew_at):
            return last
        self._last = self._open(loop)
        return self._last

    def _open(self, loop: asyncio.AbstractEventLoop) -> OwnedSession:
        """This loop's session; a new one where there is none or it has grown too old."""
        owned = self._owned.get(loop)
        if owned is not None and owned.renew_at is not None and loop.time() >= owned.renew_at:
            self._retire(owned)
            owned = None
        if owned is None:
            # Another thread may open one for its own loop meanwhile.
            for stale in [known for known in list(self._owned) if known.is_closed()]:
                self._owned.pop(stale, None)
            kind = OwnedAiohttp if self.backend == "aiohttp" else OwnedHttpx
            owned = self._owned[loop] = kind(self._pool, self.wire, self._endpoint)
            if self._http_spans is not None:
                owned.observe(self._http_spans)
        return owned

    def observe(self, http_spans: aiohttp.TraceConfig) -> None:
        """Make HTTP spans on our sessions, those that are open already among them."""
        self._http_spans = http_spans
        for owned in list(self._owned.values()):
            owned.observe(http_spans)

    def _retire(self, owned: OwnedSession) -> None:
        for closed in [each for each in self._retiring if each.closed]:  # by the end of its loop
            del self._retiring[closed]
        task = asyncio.create_task(owned.retire())
        self._retiring[owned] = task
        task.add_done_callback(lambda _: self._retired(owned))

    def _retired(self, owned: OwnedSession) -> None:
        """Forget it; one whose task was cancelled is still open, and is closed at the end."""
        if owned.closed:
            self._retiring.pop(owned, None)

    def usage(self) -> tuple[int, int, int]:
        """Connections in use, calls waiting for one, and the limit; zeros for a caller's session."""
        gate = self._last.gate if self._last is not None else None
        return (gate.limit - gate.free, gate.waiting, gate.limit) if gate else (0, 0, 0)

    async def close(self) -> None:
        """Close what we opened, on whichever loop."""
        here = asyncio.get_running_loop()
        owned, self._owned, self._last = self._owned, {}, None
        retiring, self._retiring = self._retiring, {}
        for session in (*owned.values(), *retiring):
            if session.loop is here:
                await session.close()
            elif session.loop.is_running():
                there = asyncio.run_coroutine_threadsafe(session.close(), session.loop)
                # Bounded: that loop may end before it comes to this, and then its keeper has closed it.
                await asyncio.wait({asyncio.wrap_future(there)}, timeout=ELSEWHERE)
            elif not session.closed and not session.loop.is_closed():
                call_on(session.loop, session.close_soon)
                logger.warning(
                    "%s: a session stays open on an event loop that does not run. It is closed when that "
                    "loop goes on; close the client while it runs.",
                    host_of(self._endpoint),
                )
        for task in retiring.values():
            call_on(task.get_loop(), task.cancel)

    def __del__(self) -> None:
        known = (*getattr(self, "_owned", {}).values(), *getattr(self, "_retiring", ()))
        if any(not owned.closed for owned in known):
            warnings.warn(
                f"a ProductionClient for {redacted(self._endpoint)} was collected with its session open; "
                "use `async with client:` or `await client.close()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


def _aiohttp_limits(timeout: TimeoutPolicy, named: frozenset[str]) -> dict[str, float | None]:
    limits: dict[str, float | None] = {}
    if "connect" in named:
        limits |= {"connect": timeout.connect, "sock_connect": timeout.connect}
    if "read" in named:
        limits["sock_read"] = timeout.read
    return limits


def _with_limits(base: aiohttp.ClientTimeout, limits: dict[str, float | None]) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=base.total,
        connect=limits.get("connect", base.connect),
        sock_connect=limits.get("sock_connect", base.sock_connect),
        sock_read=limits.get("sock_read", base.sock_read),
        ceil_threshold=base.ceil_threshold,
    )


def _httpx_limits(timeout: TimeoutPolicy, named: frozenset[str]) -> dict[str, float | None]:
    return {
        phase: getattr(timeout, phase) for phase in ("connect", "read", "write", "pool") if phase in named
    }


def _usable(session: object) -> str:
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


class ExplicitFirst:
    """Two sessions as one: requests with an ``Authorization`` header do not look into .netrc for another.

    aiohttp refuses to have both, and has one switch for .netrc and for the environment's proxies.
    """

    def __init__(
        self, trusting: aiohttp.ClientSession, plain: aiohttp.ClientSession, *, looks_for_proxy: bool
    ) -> None:
        self._trusting = trusting
        self._plain = plain
        self._looks_for_proxy = looks_for_proxy

    def request(self, method: str, url: str, *, headers: Mapping[str, Any], **options: Any) -> Any:
        if not any(name.lower() == "authorization" for name in headers):
            return self._trusting.request(method, url, headers=headers, **options)
        if self._looks_for_proxy:
            options["proxy"] = environment_proxy(url)
        return self._plain.request(method, url, headers=headers, **options)


class WatchedSession:
    """Stands in for the aiohttp session under our httpx client, whose exchange it tells what was written."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self) -> WatchedSession:
        """What httpx-aiohttp asks, of what is no session itself, for the session to use."""
        return self

    def request(self, *, data: Any = None, **options: Any) -> Any:
        call = current_call()
        exchange = None if call is None else call.exchange
        if exchange is not None:
            if type(data) is bytes:
                exchange.sent = False
                data = WatchedBody(data, exchange)
            else:
                exchange.sent = None
        return WatchedContext(self._session.request(data=data, **options))


class WatchedContext:
    """What httpx-aiohttp enters for an answer; a phrase beyond UTF-8 makes it fail, and leave that open."""

    __slots__ = ("_context",)

    def __init__(self, context: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> None:
        self._context = context

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response = await self._context.__aenter__()
        if response.reason and not response.reason.isascii():
            response.reason = response.reason.encode("utf-8", "replace").decode()
        return response

    async def __aexit__(self, *exception: Any) -> None:
        await self._context.__aexit__(*exception)


def _require_httpx() -> None:
    for module in ("httpx", "httpx_aiohttp"):
        try:
            __import__(module)
        except ImportError:
            raise ConfigurationError(
                f"backend='httpx' needs {module.replace('_', '-')}: pip install 'graphql-prod[httpx]'"
            ) from None
