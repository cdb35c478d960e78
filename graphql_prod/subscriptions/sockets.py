"""One socket each: what aiohttp, websockets and a transport of the caller's have in common."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from graphql_prod.faults import status_of
from graphql_prod.subscriptions.verdict import SocketClosed, UpgradeRefusedError
from graphql_prod.upgrades import connect_websockets, ws_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport.base import GraphQLSubscriptionTransport, GraphQLWebSocketResponse
    from websockets.asyncio.client import ClientConnection

    from graphql_prod.wire import Wire

# Seconds for the other side to answer our close frame.
CLOSE_TIMEOUT = 1.0
# Seconds for a farewell that is not to wait for an answer: enough for it to be written.
IN_HASTE = 0.05


class Socket(Protocol):
    """An open WebSocket."""

    @property
    def subprotocol(self) -> str | None:
        """What the server chose of the protocols offered."""

    async def receive(self) -> str | bytes:
        """The next message. Safe to cancel.

        :raises SocketClosed: there is none any more.
        """

    async def send(self, text: str) -> None:
        """Send a message.

        :raises Exception: the socket has gone; whoever receives is told why.
        """

    async def ping(self, heard: Callable[[], None]) -> None:
        """Send a ping frame; ``heard`` is called when it is answered. Nothing where that is impossible."""

    async def close(self, code: int) -> None:
        """Say goodbye and close, within about a second."""


class AiohttpSocket:
    """Over aiohttp."""

    __slots__ = ("_heard", "_ws")

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._heard: Callable[[], None] | None = None

    @classmethod
    async def open(
        cls,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        max_bytes: int | None,
    ) -> AiohttpSocket:
        try:
            ws = await session.ws_connect(
                ws_url(url),
                headers=headers,
                protocols=protocols,
                # A ping frame's answer is news, which aiohttp would keep to itself.
                autoping=False,
                # It refuses what is exactly as long, too.
                max_msg_size=0 if max_bytes is None else max_bytes + 1,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )
        except aiohttp.ClientResponseError as error:  # with raise_for_status not one of a handshake
            raise _refusal(error) from error
        return cls(ws)

    @property
    def subprotocol(self) -> str | None:
        return self._ws.protocol

    async def receive(self) -> str | bytes:
        while True:
            frame = await self._ws.receive()
            if frame.type is aiohttp.WSMsgType.TEXT:
                return frame.data  # type: ignore[no-any-return]
            if frame.type is aiohttp.WSMsgType.BINARY:
                return frame.data  # type: ignore[no-any-return]
            if frame.type is aiohttp.WSMsgType.PING:
                await self._ws.pong(frame.data)
            elif frame.type is aiohttp.WSMsgType.PONG:
                if self._heard is not None:
                    self._heard()
            elif frame.type is aiohttp.WSMsgType.CLOSE:
                raise SocketClosed(frame.data or None, frame.extra or None, ours=False)
            else:
                raise self._ended()

    def _ended(self) -> SocketClosed:
        code = self._ws.close_code
        return SocketClosed(None if code == 1006 else code, ours=True)

    async def send(self, text: str) -> None:
        await self._ws.send_str(text)

    async def ping(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        await self._ws.ping()

    async def close(self, code: int) -> None:
        try:
            await self._ws.close(code=code)
        except asyncio.CancelledError:
            # Cancelled while it waits for whoever reads, aiohttp leaves the response open.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IN_HASTE):
                    await self._ws.close(code=code)
            raise


class WebsocketsSocket:
    """Over websockets."""

    __slots__ = ("_ws",)

    def __init__(self, ws: ClientConnection) -> None:
        self._ws = ws

    @classmethod
    async def open(
        cls,
        url: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        max_bytes: int | None,
        wire: Wire,
    ) -> WebsocketsSocket:
        from websockets.exceptions import InvalidMessage, InvalidStatus

        options = {
            "max_size": max_bytes,
            "close_timeout": CLOSE_TIMEOUT,
            # Ours are the limits for connecting and the pings.
            "open_timeout": None,
            "ping_interval": None,
            # aiohttp offers none either; its state would take more memory than all the rest.
            "compression": None,
        }
        try:
            return cls(await connect_websockets(url, headers, protocols, wire, **options))
        except (InvalidStatus, InvalidMessage) as error:
            raise _refusal(error) from error

    @property
    def subprotocol(self) -> str | None:
        return self._ws.subprotocol

    async def receive(self) -> str | bytes:
        try:
            return await self._ws.recv()
        except Exception as error:
            from websockets.exceptions import ConnectionClosed

            if not isinstance(error, ConnectionClosed):
                raise
            # What we sent first is told only where we had to: for a frame too large, bytes that are no text.
            close = error.rcvd or error.sent
            if close is None or close.code == 1006:
                raise SocketClosed(None) from error
            ours = error.rcvd is None or error.rcvd_then_sent is False
            raise SocketClosed(close.code, close.reason or None, ours=ours) from error

    async def send(self, text: str) -> None:
        await self._ws.send(text)

    async def ping(self, heard: Callable[[], None]) -> None:
        answered = await self._ws.ping()
        answered.add_done_callback(lambda _: None if answered.cancelled() else heard())  # type: ignore[attr-defined]

    async def close(self, code: int) -> None:
        try:
            await self._ws.close(code=code)
        except BaseException:
            self._ws.transport.abort()  # a cancelled close leaves a paused one open
            raise


def _refusal(error: Exception) -> Exception:
    """The status that an upgrade was answered with, whichever library says so; else the error itself."""
    if (answer := status_of(error)) is not None:
        return UpgradeRefusedError(*answer)
    exceptions = sys.modules.get("websockets.exceptions")
    if exceptions is not None and isinstance(error, exceptions.InvalidStatus):
        return UpgradeRefusedError(error.response.status_code, error.response.headers)
    if exceptions is not None and isinstance(error, exceptions.InvalidMessage):
        return ConnectionResetError("the connection ended before the upgrade was answered")
    return error


class StockSocket:
    """Over a subscription transport of the caller's, which says no more than the stock protocol does."""

    __slots__ = ("_response",)

    def __init__(self, response: GraphQLWebSocketResponse) -> None:
        self._response = response

    @classmethod
    async def open(
        cls,
        transport: GraphQLSubscriptionTransport,
        url: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        protocols: Sequence[str],
        session: Any,
    ) -> StockSocket:
        try:
            response = await transport.subscribe(
                endpoint=url, request=request, serializer=serializer, protocols=protocols, session=session
            )
        except Exception as error:
            refusal = _refusal(error)
            if refusal is error:
                raise
            raise refusal from error
        return cls(await response.__aenter__())

    @property
    def subprotocol(self) -> str | None:
        return self._response.subprotocol

    async def receive(self) -> str | bytes:
        try:
            return await self._response.__anext__()  # type: ignore[no-any-return]
        except StopAsyncIteration:
            # The stock transports have their library's socket in a public attribute.
            ws = getattr(self._response, "ws", None)
            code = getattr(ws, "close_code", None)
            known = isinstance(code, int) and code != 1006
            raise SocketClosed(code if known else None, getattr(ws, "close_reason", None) or None) from None

    async def send(self, text: str) -> None:
        await self._response.send_str(data=text)

    async def ping(self, heard: Callable[[], None]) -> None:
        """No ping frames here; silence is taken for life."""
        heard()

    async def close(self, code: int) -> None:
        await self._response.__aexit__(None, None, None)
