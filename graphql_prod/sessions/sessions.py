"""Which session a call goes over, on which loop; and the end of ours."""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from typing import TYPE_CHECKING

import aiohttp

from graphql_prod.errors import ConfigurationError
from graphql_prod.loops import call_on
from graphql_prod.runtime import forks
from graphql_prod.sessions.given import (
    AiohttpSession,
    HttpxSession,
    OtherHttpxSession,
    OtherSession,
    ParentsSession,
    usable,
)
from graphql_prod.sessions.limiter import DetachedRequests
from graphql_prod.sessions.owned import OwnedAiohttp, OwnedHttpx, OwnedSession, require_httpx
from graphql_prod.urls import host_of, redacted

if TYPE_CHECKING:
    from aiographql.client.transport import GraphQLSession

    from graphql_prod.sessions.policy import Backend, PoolPolicy
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.transport_options import TransportOptions

logger: logging.Logger = logging.getLogger("graphql_prod")

# Seconds given to another loop for the closing of its session.
ELSEWHERE = 2.0


class Sessions:
    """Gives each call its session: the caller's, or ours for the loop that runs."""

    def __init__(
        self,
        endpoint: str,
        given: GraphQLSession | None,
        backend: Backend | None,
        pool: PoolPolicy,
        transport_options: TransportOptions,
    ) -> None:
        self._endpoint = endpoint
        self._pool = pool
        self.transport_options = transport_options
        self._retiring: dict[OwnedSession, asyncio.Task[None]] = {}
        self.detached: DetachedRequests = DetachedRequests(pool.request_connections)
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
        kept = (connectors, self._owned, self._retiring, self._last, self.detached.tasks.copy())
        self._owned, self._retiring, self._last = {}, {}, None
        self.detached.tasks.clear()
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
            require_httpx()

    def wrap(self, session: GraphQLSession) -> Session:
        """A session of a caller's."""
        httpx = sys.modules.get("httpx")
        other: type[OtherSession | OtherHttpxSession] = OtherSession
        # Doubles with a specification say that they are of its class, and have none of its values.
        if httpx is not None and isinstance(session, httpx.AsyncClient):
            if isinstance(session.timeout, httpx.Timeout):
                return HttpxSession(session, self._endpoint, self.detached)
            other = OtherHttpxSession
        elif isinstance(session, aiohttp.ClientSession) and isinstance(session.trace_configs, list):
            return AiohttpSession(session, self._endpoint)
        name = usable(session)
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
            owned = self._owned[loop] = kind(self._pool, self.transport_options, self._endpoint)
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
        limiter = self._last.limiter if self._last is not None else None
        return (limiter.limit - limiter.free, limiter.waiting, limiter.limit) if limiter else (0, 0, 0)

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
