"""Connections of our own sessions: a kept one is used again only if nothing happened on it meanwhile.

aiohttp takes what comes on an idle connection for the answer to the next request, and sees that the server
has closed it only once the loop has read so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

# Seconds between two rounds of the loop after which it is taken to have stood still once more.
STOOD_STILL = 0.05
ROUNDS = 10


async def settled() -> None:
    """Let the loop read what already waits on its sockets.

    In the first round it looks at them, in the second it has read. Safe to cancel.
    """
    loop = asyncio.get_running_loop()
    for _ in range(ROUNDS):
        before = loop.time()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if loop.time() - before < STOOD_STILL:
            return


class KeptConnector(aiohttp.TCPConnector):
    """Gives a kept connection only if the server neither closed it nor wrote to it since its last answer."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        time = asyncio.get_running_loop().time
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            transport = connection.transport
            if protocol is None or transport is None:
                return connection
            watch = transport.get_protocol()
            if type(watch) is not IdleWatch:  # a new connection
                connection.add_callback(IdleWatch(protocol, transport).begin)
                return connection
            try:
                # The first round of settled(), without its frame: nearly always there is no other.
                before = time()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if time() - before >= STOOD_STILL:
                    await settled()
            except BaseException:
                connection.release()
                raise
            if watch.end():
                connection.add_callback(watch.begin)
                return connection
            connection.close()  # each round takes one out of the pool, and the last one makes a new one


class IdleWatch(asyncio.Protocol):
    """Stands in for a connection's protocol between two requests: nobody has asked for what comes then."""

    def __init__(self, protocol: ResponseHandler, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self._unused = True

    def begin(self) -> None:
        """The connection is given back."""
        if not self._transport.is_closing():
            self._transport.set_protocol(self)

    def end(self) -> bool:
        """Whether the connection can be used for another request, which then begins."""
        # What came together with the end of an answer went to the protocol itself: it was giving it out.
        if not self._unused or self._transport.is_closing() or self._protocol.should_close:
            return False
        self._transport.set_protocol(self._protocol)
        return True

    def data_received(self, data: bytes) -> None:
        self._unused = False
        self._protocol.force_close()
        self._transport.close()

    def eof_received(self) -> None:
        self._unused = False
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unused = False
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
