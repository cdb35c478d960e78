"""One socket each: what aiohttp, websockets and a transport of the caller's have in common."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from graphql_prod.sessions.byte_clock import TappedResponse, seconds_since_data
from graphql_prod.sessions.env_proxy import upgrade_proxy
from graphql_prod.sessions.upgrades import connect_websockets, ws_url
from graphql_prod.subscriptions.endings import SocketClosed
from graphql_prod.subscriptions.handshake import translating
from graphql_prod.subscriptions.offer import offering
from graphql_prod.subscriptions.send_queue import SendQueue, Unread, UnreadError
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport.base import GraphQLSubscriptionTransport, GraphQLWebSocketResponse
    from websockets.asyncio.client import ClientConnection

    from graphql_prod.sessions.transport_options import TransportOptions

# Seconds for the other side to answer our close frame.
CLOSE_TIMEOUT = 1.0
# Close codes that stand for the lack of a close frame, and may not be in one.
_NEVER_SENT = (1006, 1015)
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

    def data_at(self) -> float | None:
        """When bytes last came, on the loop's clock; None where nobody tells, and messages have to do."""

    async def ping(self, heard: Callable[[], None]) -> None:
        """Send a ping frame; ``heard`` is called when it is answered. Nothing where that is impossible."""

    async def close(self, code: int) -> None:
        """Say goodbye and close, within about a second."""


class AiohttpSocket:
    """Over aiohttp."""

    __slots__ = ("_heard", "_loop", "_pongs", "_unread", "_ws")

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, host: str = "") -> None:
        self._ws = ws
        self._pongs = SendQueue(host)
        self._unread = Unread()
        self._loop = asyncio.get_running_loop()
        self._heard: Callable[[], None] | None = None

    @classmethod
    async def open(
        cls,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        max_bytes: int | None,
        proxy: str | None,
        *,
        compression: bool = False,
    ) -> AiohttpSocket:
        url = ws_url(url)
        by_get = proxy is not None and url.startswith("ws:")
        with translating(by_get=by_get), offering(session, protocols):
            ws = await session.ws_connect(
                url,
                headers=headers,
                protocols=protocols,
                proxy=proxy,
                compress=15 if compression else 0,  # the window, in bits: the widest
                # A ping frame's answer is news, which aiohttp would keep to itself.
                autoping=False,
                # It refuses what is exactly as long, too.
                max_msg_size=0 if max_bytes is None else max_bytes + 1,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )
        return cls(ws, host_of(url))

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
                # Not here: as long as one waits nothing is read, and aiohttp keeps what comes.
                self._pongs.post(self._ws.pong(frame.data), self._unread, len(frame.data))
                await self._unread.check()
            elif frame.type is aiohttp.WSMsgType.PONG:
                if self._heard is not None:
                    self._heard()
            elif frame.type is aiohttp.WSMsgType.CLOSE:
                raise _closed(frame.data, frame.extra)
            elif isinstance(frame.data, aiohttp.WebSocketError):
                raise SocketClosed(frame.data.code, str(frame.data), ours=True)
            else:
                raise self._ended()

    def _ended(self) -> SocketClosed:
        code = self._ws.close_code
        return SocketClosed(None) if code in (None, 1006) else SocketClosed(code, ours=True)

    async def send(self, text: str) -> None:
        await self._ws.send_str(text)

    def data_at(self) -> float | None:
        ws = self._ws
        if isinstance(ws, TappedResponse) and ws.tap is not None:
            return ws.tap.data_at
        since = seconds_since_data(ws.get_extra_info("socket"))
        return None if since is None else self._loop.time() - since

    async def ping(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        await self._ws.ping()

    async def close(self, code: int) -> None:
        self._pongs.cancel()
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
        transport_options: TransportOptions,
        *,
        compression: bool = False,
    ) -> WebsocketsSocket:
        options = {
            "max_size": max_bytes,
            "close_timeout": CLOSE_TIMEOUT,
            # Ours are the limits for connecting and the pings.
            "open_timeout": None,
            "ping_interval": None,
            # Its state takes more memory than all the rest.
            "compression": "deflate" if compression else None,
            # Messages that it reads ahead, each of which may be as large as our limit.
            "max_queue": 1,
        }
        proxy = upgrade_proxy(transport_options, url, socks=True)
        with translating(proxied=proxy is not None):
            return cls(await connect_websockets(url, headers, protocols, transport_options, proxy, **options))

    @property
    def subprotocol(self) -> str | None:
        return self._ws.subprotocol

    async def receive(self) -> str | bytes:
        try:
            return await self._ws.recv()
        except Exception as error:
            if getattr(self._ws, "unread", False):
                raise UnreadError from error
            from websockets.exceptions import ConnectionClosed

            if not isinstance(error, ConnectionClosed):
                raise
            sent, received = error.sent, error.rcvd
            if sent is not None and not error.rcvd_then_sent:
                # We had to: for a frame too large, bytes that are no text.
                raise SocketClosed(sent.code, sent.reason, ours=True) from error
            if received is None:
                raise SocketClosed(None) from error
            raise _closed(received.code, received.reason) from error

    async def send(self, text: str) -> None:
        await self._ws.send(text)

    def data_at(self) -> float | None:
        return getattr(self._ws, "data_at", None)

    async def ping(self, heard: Callable[[], None]) -> None:
        answered = await self._ws.ping()
        answered.add_done_callback(lambda _: None if answered.cancelled() else heard())  # type: ignore[attr-defined]

    async def close(self, code: int) -> None:
        try:
            await self._ws.close(code=code)
        except BaseException:
            self._ws.transport.abort()  # a cancelled close leaves a paused one open
            raise


def _closed(code: int, reason: str | None) -> SocketClosed:
    """What the server's close frame says; 0 and 1005 stand for one without a code."""
    if code in _NEVER_SENT or code >= 5000:
        # websockets refuses these too, aiohttp does not.
        return SocketClosed(1002, f"invalid close code {code}", ours=True)
    return SocketClosed(None if code in (0, 1005) else code, reason or None, ours=False)


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
        with translating(), offering(session, protocols):
            response = await transport.subscribe(
                endpoint=url, request=request, serializer=serializer, protocols=protocols, session=session
            )
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

    def data_at(self) -> float | None:
        return None

    async def ping(self, heard: Callable[[], None]) -> None:
        """No ping frames here; silence is taken for life."""
        heard()

    async def close(self, code: int) -> None:
        await self._response.__aexit__(None, None, None)
