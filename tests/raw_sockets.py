"""A server of bytes, for what no WebSocket library would send: refusals, frames, silences."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(data: str | bytes, opcode: int = TEXT, *, first: int = 0x80) -> bytes:
    """A frame of a server's; ``first`` are the bits beside the opcode."""
    data = data.encode() if isinstance(data, str) else data
    if len(data) < 126:
        size = bytes([len(data)])
    elif len(data) < 65536:
        size = b"\x7e" + struct.pack(">H", len(data))
    else:
        size = b"\x7f" + struct.pack(">Q", len(data))
    return bytes([first | opcode]) + size + data


class Peer:
    """One connection of a client."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.line = ""
        self.headers: dict[str, str] = {}

    async def request(self) -> None:
        """Read the head of a request."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.line, *lines = head.split("\r\n")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def upgrade(self, protocol: str | None = None) -> None:
        """Answer 101, with the first protocol that was offered."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        protocol = protocol or self.headers["sec-websocket-protocol"].split(",")[0].strip()
        await self.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the client's."""
        first, size = await self.reader.readexactly(2)
        size &= 127
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(size)
        return first & 15, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))

    async def message(self) -> dict[str, Any]:
        """The next message of the client's; asyncio's IncompleteReadError at the end."""
        while True:
            opcode, data = await self.frame()
            if opcode == TEXT:
                message: dict[str, Any] = json.loads(data)
                return message
            if opcode == CLOSE:
                raise asyncio.IncompleteReadError(data, None)

    async def send(self, **message: Any) -> None:
        await self.write(frame(json.dumps(message)))

    async def subscribed(self) -> str:
        """Upgrade, acknowledge, and read until the subscription: its id."""
        await self.upgrade()
        while True:
            message = await self.message()
            if message["type"] == "connection_init":
                await self.send(type="connection_ack")
            elif message["type"] in ("subscribe", "start"):
                return str(message["id"])

    @property
    def event_type(self) -> str:
        """What an event is called in the protocol that the client prefers."""
        return "data" if self.headers["sec-websocket-protocol"].startswith("graphql-ws") else "next"

    def event(self, key: str, count: Any, pad: int = 0) -> bytes:
        """An event of COUNT, as a frame; larger by ``pad`` bytes."""
        data = {"count": count, "pad": "x" * pad} if pad else {"count": count}
        message = {"type": self.event_type, "id": key, "payload": {"data": data}}
        return frame(json.dumps(message))

    async def complete(self, key: str) -> None:
        await self.send(type="complete", id=key)

    async def read_on(self) -> None:
        """Until the client has gone."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.reader.read(65536):
                pass


class RawServer:
    """Hands each connection to a script, after its request was read.

    :param unread: bytes that a client can send which the script does not read; None: the system's megabytes.
    :ivar peers: every connection there was.
    """

    def __init__(self, script: Callable[[Peer], Awaitable[None]], *, unread: int | None = None) -> None:
        self._script = script
        self._unread = unread
        self._tasks: set[asyncio.Task[Any]] = set()
        self.peers: list[Peer] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        try:
            await peer.request()
            await self._script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        if self._unread is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._unread)
        self._server = await asyncio.start_server(self._connected, sock=listener)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_listening(self._server)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"


def answering(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A script that answers requests with these bytes, the last one for ever, and closes."""

    async def script(peer: Peer) -> None:
        await peer.write(answers[min(peer.number, len(answers)) - 1])

    return script
