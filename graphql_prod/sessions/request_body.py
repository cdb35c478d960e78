"""The body of a request, which knows whether it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.payload import BytesPayload

from graphql_prod.sessions.exchange import Exchange, StaleConnectionError

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter


class WatchedBody(bytes, BytesPayload):
    """The request's body; aiohttp asks it to write itself, which is when an attempt becomes ambiguous.

    It is the bytes as well: a double of a session reads what it was called with, as it does with the stock.

    :ivar exchange: hears of it. Set by whoever makes this: without a constructor of our own one call less.
    """

    exchange: Exchange

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        """Whoever copies or keeps it, as recorders do, has the bytes alone."""
        return bytes, (self._value,)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.exchange.sent = True
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.exchange.sent = True
        await super().write_with_length(writer, content_length)


class CautiousBody(WatchedBody):
    """Refuses to write itself to a connection on which something has happened since it was kept.

    What that is was read before a byte of this request was written: headers go out together with the body.
    """

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if self.exchange.sent is False:
            transport: asyncio.Transport | None = getattr(writer, "transport", None)
            if transport is None or transport.is_closing():
                raise StaleConnectionError
            if getattr(transport.get_protocol(), "should_close", False):
                transport.close()
                raise StaleConnectionError
        await super().write_with_length(writer, content_length)
