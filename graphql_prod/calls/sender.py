"""One attempt: over which session or transport of the caller's it goes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from aiographql.client import (
    GraphQLClientException,
    GraphQLRequestException,
)
from aiographql.client.exceptions import GraphQLTransportException
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from aiographql.client.transport.base import is_graphql_response, prepare_get_params

from graphql_prod.calls.get_requests import query_of
from graphql_prod.calls.response import response_of
from graphql_prod.calls.stock_transports import StockExchange, is_stock
from graphql_prod.sessions.bodies import LARGE
from graphql_prod.sessions.connector import settled
from graphql_prod.sessions.httpx_exchange import shielded
from graphql_prod.sessions.limiter import ConcurrencyLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from aiographql.client import GraphQLRequest, GraphQLTransport
    from aiographql.client import GraphQLResponse as StockResponse
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.calls.call import Call
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.sessions import Sessions

logger: logging.Logger = logging.getLogger("graphql_prod")
T = TypeVar("T")


class Sender:
    """Sends attempts: over a session, or over a transport of the caller's.

    :ivar custom: that transport; None where there is none.
    :ivar custom_used: whether it was asked for anything.
    """

    def __init__(self, sessions: Sessions, custom: GraphQLTransport | None) -> None:
        self._sessions = sessions
        self.custom = custom
        self.custom_used: bool = False

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
        if used.over_aiohttp:
            return self._send_over_aiohttp(call, used, method, request, serializer, kwargs)
        return self._send_over(call, used, used.stock, method, request, serializer, kwargs)

    async def _send_over_aiohttp(
        self,
        call: Call,
        session: Session,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> StockResponse:
        """As the stock transport for aiohttp: the same requests, answers and errors, in one frame.

        Written as that is, ``async with session.request(…)``: what users put in its place works as before.
        """
        timeout, span = call.settings.timeout, call.span
        headers: Mapping[str, str] = request.headers
        exchange: Any = session.traced_exchange() if span is not None and span.wants_http_spans else None
        if exchange is None:
            exchange = session.exchange()
            if span is not None:
                headers = span.with_trace(headers)
        call.exchange = exchange
        options = session.options(timeout)
        if kwargs:
            options = {**options, **kwargs}
            options.pop("client", None)
        method = method.lower()
        if method == "post":
            if "data" not in options:
                options = {**options, "data": serializer.dumps(request.payload())}
        elif method != "get":
            raise GraphQLClientException(f"Invalid method ({method}) specified")
        elif "params" not in options:
            options = {**options, "params": prepare_get_params(request, serializer)}
        limiter = session.limiter
        if limiter is not None and not limiter.acquire():
            if call.settings.probe:
                limiter = None  # the connector has a connection for it
            else:
                await limiter.wait(timeout.pool)
        try:
            async with exchange.opened(method, session.endpoint, headers=headers, **options) as response:
                reading = exchange.answered(response)
                response = None  # a traceback with locals would show its URL
                if reading is None:
                    data = await exchange.read()
                else:
                    data = await reading
                    exchange.body = data
                    if type(data) is not bytes or len(data) > LARGE:
                        exchange.take(data)
                try:
                    json = serializer.loads(data)
                except Exception:  # noqa: BLE001 -- as stock: whatever a serializer raises, it is no JSON
                    json = None
                answer = response_of(request, json)
                status = exchange.status
                if 200 <= status < 300 or is_graphql_response(
                    status, exchange.headers.get("Content-Type"), json
                ):
                    return answer
                raise GraphQLRequestException(answer)
        except aiohttp.ClientError as error:
            raise GraphQLTransportException(f"HTTP request failed: {error}") from error
        finally:
            if limiter is not None:
                limiter.release()

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
