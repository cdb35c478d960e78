"""A stock transport that a caller gives, with whatever session is in it: seen through what it hands on.

The stock transports hand keyword arguments on to ``session.request()``. Both libraries take a function among
them that is told of an answer, so that status and headers are seen whoever owns the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from multidict import CIMultiDict

from graphql_prod.sessions.aiohttp_exchange import is_stray
from graphql_prod.sessions.exchange import StaleConnectionError
from graphql_prod.sessions.httpx_exchange import HeardExchange
from graphql_prod.sessions.request_body import CautiousBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest, GraphQLTransport
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.resilience.timeouts import TimeoutPolicy

# What names of events that httpcore tells its trace end with.
_SENDING = "send_request_headers.started"
_ANSWERED = "receive_response_headers.complete"


class StockExchange(HeardExchange):
    """What is seen of an attempt over a stock transport, and the arguments that let it be seen."""

    __slots__ = ("_owner",)

    def __init__(self, owner: object) -> None:
        super().__init__()
        self.sent = None
        self._owner = owner

    def aiohttp_options(
        self, method: str, request: GraphQLRequest, serializer: GraphQLSerializer, timeout: TimeoutPolicy
    ) -> dict[str, Any]:
        """Arguments for ``aiohttp.ClientSession.request()``."""
        options: dict[str, Any] = {"allow_redirects": False, "raise_for_status": self._look}
        named = timeout.named
        if named & {"connect", "read"}:
            connect = timeout.connect if "connect" in named else None
            options["timeout"] = aiohttp.ClientTimeout(
                connect=connect, sock_connect=connect, sock_read=timeout.read if "read" in named else None
            )
        if method.lower() == "post":
            data = serializer.dumps(request.payload())
            if type(data) is bytes:
                self.sent = False
                options["data"] = body = CautiousBody(data)
                body.exchange = self
            else:
                options["data"] = data
        return options

    def httpx_options(self, timeout: TimeoutPolicy) -> dict[str, Any]:
        """Arguments for ``httpx.AsyncClient.request()``."""
        options: dict[str, Any] = {"follow_redirects": False, "extensions": {"trace": self._hear}}
        if timeout.named & {"connect", "read", "write", "pool"}:
            import httpx

            options["timeout"] = httpx.Timeout(
                connect=timeout.connect, read=timeout.read, write=timeout.write, pool=timeout.pool
            )
        return options

    async def _look(self, response: aiohttp.ClientResponse) -> None:
        if self.sent is False and is_stray(response, self._owner):
            response.close()
            raise StaleConnectionError
        self.sent = True
        try:
            self.status, self.headers = response.status, response.headers
            self.body: bytes = await response.read()
        except BaseException:
            response.close()
            raise

    async def _hear(self, event: str, details: Any) -> None:
        if self.sent is None:
            self.sent = False
        await self.hear(event, details)
        if event.endswith(_SENDING):
            self.sent, self.status = True, None  # the one before it was a proxy's
        elif event.endswith(_ANSWERED):
            # (version, status, reason, headers, …) in HTTP/1.1, (status, headers) in HTTP/2.
            status, headers = (
                (details["return_value"][1], details["return_value"][3])
                if event.startswith("http11.")
                else details["return_value"][:2]
            )
            self.status = status
            self.headers: Mapping[str, str] = CIMultiDict(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
            )


def is_stock(transport: GraphQLTransport) -> bool:
    """Whether a transport hands arguments on as the stock's do: a subclass may look at them."""
    return type(transport).request in (AiohttpTransport.request, HttpxTransport.request)
