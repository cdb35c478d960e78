"""One attempt, seen from between the stock transport and the session.

The stock transport asks its session for ``request(...)`` and nothing else. These stand in for the session
during one attempt, hand everything through, and remember what the stock client drops: the status, the
headers, the body, and whether the request was written at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp.payload import BytesPayload

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    import aiohttp
    import httpx
    from aiohttp.abc import AbstractStreamWriter

T = TypeVar("T")


class Exchange:
    """What is known of an attempt, whichever library carries it."""

    __slots__ = ("body", "headers", "sent", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes = b""
        self.sent: bool | None = False
        """Whether the request was written; None where nobody can tell."""


class AiohttpExchange(Exchange):
    """Stands in for an aiohttp session, and for the response that it gives."""

    __slots__ = ("_context", "_response", "_session")

    def __init__(self, session: aiohttp.ClientSession) -> None:
        # Not super().__init__(): one frame less on the path of every call.
        self.status = None
        self.headers = {}
        self.body = b""
        self.sent = False
        self._session = session

    def request(self, method: str, url: str, *, data: Any = None, **options: Any) -> AiohttpExchange:
        if type(data) is bytes:
            data = _Body(data, self)
        else:
            self.sent = None
        self._context: AbstractAsyncContextManager[aiohttp.ClientResponse] = self._session.request(
            method, url, data=data, **options
        )
        return self

    async def __aenter__(self) -> AiohttpExchange:
        response = self._response = await self._context.__aenter__()
        self.sent = True
        self.status = response.status
        self.headers = response.headers
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._context.__aexit__(*exception)

    async def read(self) -> bytes:
        self.body = await self._response.read()
        return self.body


class _Body(BytesPayload):
    """The request's body; aiohttp asks it to write itself, which is when an attempt becomes ambiguous."""

    def __init__(self, value: bytes, exchange: Exchange) -> None:
        super().__init__(value)
        self._exchange = exchange

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._exchange.sent = True
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._exchange.sent = True
        await super().write_with_length(writer, content_length)


class HttpxExchange(Exchange):
    """Stands in for an httpx client."""

    __slots__ = ("_client",)

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__()
        self._client = client

    async def request(self, **options: Any) -> httpx.Response:
        self.sent = None
        response = await self._client.request(**options)
        self.sent = True
        self.status = response.status_code
        self.headers = response.headers
        self.body = response.content
        return response


class ShieldedExchange(HttpxExchange):
    """For a caller's httpx client: whoever gives up abandons the request instead of cancelling it.

    A cancel in httpcore loses a slot of the pool for good (encode/httpcore#1093). The abandoned request
    ends under the httpx client's own timeouts.
    """

    __slots__ = ("_abandoned",)

    def __init__(self, client: httpx.AsyncClient, abandoned: set[asyncio.Task[Any]]) -> None:
        super().__init__(client)
        self._abandoned = abandoned

    async def request(self, **options: Any) -> httpx.Response:
        return await shielded(super().request(**options), self._abandoned)


async def shielded(request: Coroutine[Any, Any, T], abandoned: set[asyncio.Task[Any]]) -> T:
    """Await a request that nobody may cancel; a cancel of the caller leaves it behind in ``abandoned``."""
    task = asyncio.create_task(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            abandoned.add(task)
        task.add_done_callback(abandoned.discard)
        task.add_done_callback(_retrieve)
        raise


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # nobody else will ask
