"""The aiohttp session under our own httpx client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql_prod.registry import current_call
from graphql_prod.sessions.request_body import WatchedBody

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp


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
                data = WatchedBody(data)
                data.exchange = exchange
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
