"""One attempt: over which session or transport of the caller's it goes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.calls.get_requests import query_of
from graphql_prod.calls.stock_transports import StockExchange, is_stock
from graphql_prod.sessions.connector import settled
from graphql_prod.sessions.httpx_exchange import shielded
from graphql_prod.sessions.limiter import ConcurrencyLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiographql.client import GraphQLRequest, GraphQLTransport
    from aiographql.client import GraphQLResponse as StockResponse
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.calls.call import Call
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.sessions import Sessions

logger = logging.getLogger("graphql_prod")
T = TypeVar("T")


class Sender:
    """Sends attempts: over a session, or over a transport of the caller's.

    :ivar custom: that transport; None where there is none.
    :ivar custom_used: whether it was asked for anything.
    """

    def __init__(self, sessions: Sessions, custom: GraphQLTransport | None) -> None:
        self._sessions = sessions
        self.custom = custom
        self.custom_used = False

    async def limited(self, limit: float, sending: Awaitable[StockResponse]) -> StockResponse:
        async with asyncio.timeout(limit):
            return await sending

    def send(
        self,
        call: Call,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        *,
        session: Any = None,
        **kwargs: Any,
    ) -> Awaitable[StockResponse]:
        """One attempt, not yet begun: what has to be awaited, with no frame of ours that it does not need."""
        if self.custom is not None:
            return self._send_custom(call, self.custom, method, request, serializer, session, kwargs)
        used = self._sessions.current() if session is None else self._sessions.wrap(session)
        return self._send_over(call, used, used.stock, method, request, serializer, kwargs)

    async def _send_over(
        self,
        call: Call,
        session: Session,
        stock: GraphQLTransport,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> StockResponse:
        timeout = call.settings.timeout
        span = call.span
        exchange = session.traced_exchange() if span is not None and span.wants_http_spans else None
        if exchange is not None or span is None:
            through: Any = exchange or session.exchange()
            call.exchange = through
        else:
            call.exchange = session.exchange()
            through = span.carrying(call.exchange)
        options = session.options(timeout)
        if kwargs:
            options = {**options, **kwargs}
        limiter = session.limiter
        if limiter is None:
            return await stock.request(method, request, serializer, session=through, **options)
        if not limiter.acquire():
            if (
                call.settings.probe and type(limiter) is ConcurrencyLimiter
            ):  # the connector has a connection for it
                return await stock.request(method, request, serializer, session=through, **options)
            await limiter.wait(timeout.pool)
        try:
            return await stock.request(method, request, serializer, session=through, **options)
        finally:
            limiter.release()

    async def _send_custom(
        self,
        call: Call,
        custom: GraphQLTransport,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        session: Any,
        kwargs: dict[str, Any],
    ) -> StockResponse:
        if session is not None and isinstance(custom, AiohttpTransport | HttpxTransport):
            used = self._sessions.wrap(session)
            return await self._send_over(call, used, custom, method, request, serializer, kwargs)
        self.custom_used = True
        exchange = call.exchange = StockExchange(custom)
        if call.span is not None:
            request = request.copy(headers={**request.headers, **call.span.carrier()})
        if is_stock(custom):
            timeout = call.settings.timeout
            if isinstance(custom, AiohttpTransport):
                await settled()
                seen = exchange.aiohttp_options(method, request, serializer, timeout)
            else:
                seen = exchange.httpx_options(timeout)
            kwargs = {**seen, **kwargs}
        if isinstance(custom, HttpxTransport) and method.lower() == "get":
            kwargs = {**kwargs, "params": query_of(custom.endpoint, request, serializer)}
        sending = custom.request(method, request, serializer, session=session, **kwargs)
        if isinstance(custom, HttpxTransport):
            return await shielded(sending, self._sessions.detached.tasks)
        return await sending
