"""What passes beneath a WebSocket: when bytes last came, and what they make the library send.

A large message on a slow link is no silence.

websockets and our own aiohttp sessions are told by the transport, a caller's aiohttp session by the
operating system where that is Linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from graphql_prod.sessions.upgrade_heads import AnswerHead

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class Tap(asyncio.Protocol):
    """Stands before a protocol, and notes when data comes for it."""

    __slots__ = ("_loop", "_protocol", "data_at")

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        self._protocol = protocol
        self._loop = loop
        self.data_at: float = loop.time()

    def data_received(self, data: bytes) -> None:
        self.data_at = self._loop.time()
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class TappedResponse(aiohttp.ClientWebSocketResponse):
    """A WebSocket of our own aiohttp sessions."""

    tap: Tap | None = None

    def __init__(
        self,
        reader: Any,
        writer: Any,
        protocol: str | None,
        response: aiohttp.ClientResponse,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(reader, writer, protocol, response, *args, **kwargs)
        transport = None if response.connection is None else response.connection.transport
        if transport is not None:
            told = cast("asyncio.Protocol", transport.get_protocol())
            self.tap = Tap(told, asyncio.get_running_loop())
            transport.set_protocol(self.tap)


# Bytes of pongs that the other side does not read: eight thousand of them, which is days of usual pings.
MOST_UNREAD = 1024 * 1024


@cache
def tapped_connection() -> type[ClientConnection]:
    """The class of our WebSockets over websockets."""
    from websockets.asyncio.client import ClientConnection
    from websockets.protocol import State

    class TappedConnection(ClientConnection):
        """Notes when data comes; reads a refused upgrade, and ends after a close frame, as aiohttp does.

        The library answers pings itself, whether the other side reads the answers or not.

        :ivar unread: whether the connection was given up since it did not.
        """

        data_at = 0.0
        unread = False
        _owed = 0
        head: AnswerHead | None = None
        last_moment: asyncio.TimerHandle | None = None
        made = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.made = True
            self.head = AnswerHead()
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            self.data_at = self.loop.time()
            if self.head is not None:
                data = self.head.feed(data)
                if self.head.through:
                    self.head = None
                if not data:
                    return
            before = self.transport.get_write_buffer_size()
            super().data_received(data)
            self._count(before)
            if self.last_moment is None and self.state is State.CLOSING:
                self.part()

        def _count(self, before: int) -> None:
            """Of what waits to be written, how much was written in answer to what came."""
            waiting = self.transport.get_write_buffer_size()
            if waiting:
                self._owed = min(self._owed, before) + max(0, waiting - before)
                if self._owed > MOST_UNREAD:
                    self.unread = True
                    self.transport.abort()

        def part(self) -> None:
            """See to it that the connection ends: until it has, whoever reads is told nothing.

            Websockets leaves that to the server, for as long as nothing is sent.
            """
            self.last_moment = self.loop.call_later(self.close_timeout or 0.0, self.transport.abort)
            if self.protocol.close_rcvd is not None:
                self.transport.close()  # what it was answered is written first

        def connection_lost(self, exc: Exception | None) -> None:
            if self.last_moment is not None:
                self.last_moment.cancel()
            if self.made:  # else TLS through a proxy has failed, and the library's own would too
                super().connection_lost(exc)

        def eof_received(self) -> None:
            if self.head is not None and (rest := self.head.end()):
                super().data_received(rest)
            super().eof_received()

    return TappedConnection


# The kernel counts in its own ticks, of 10 ms at most: a pong must not seem older than its ping.
_TICK = 0.02
# Where they are in the kernel's ``struct tcp_info``; the first is there since Linux 2.6, the other since 4.1.
_LAST_DATA_RECEIVED, _BYTES_RECEIVED = 52, 128


def seconds_since_data(connection: socket.socket | None) -> float | None:
    """Seconds since the last bytes of a TCP connection came; None where the system does not tell."""
    if connection is None or sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError, struct.error):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
        (milliseconds,) = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)
        (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
        # A sandbox that plays the kernel may leave both at 0; the upgrade was answered, so something came.
        return max(0.0, float(milliseconds) / 1000 - _TICK) if received else None
    return None
