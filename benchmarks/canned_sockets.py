"""A WebSocket server whose events are prepared beforehand: what is measured is the client.

It speaks both subscription protocols and keeps every subscription quiet until it is told to feed them.
Who knows its port tells it, over a connection of plain lines to the same port.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import multiprocessing
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

DATA = b'{"data":{"ticked":{"id":"42","name":"Ada","price":101.25,"tags":["a","b"]}}}'
CHUNK = 64
"""Events of a flood that are written at once."""

_UPGRADED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload


class _Feed:
    """One subscription, and its messages as they go over the wire."""

    def __init__(self, socket: _Socket, id: str, modern: bool) -> None:  # noqa: A002
        name = orjson.dumps(id)
        kind = b"next" if modern else b"data"
        self.socket = socket
        self.left = 0
        self.event = _frame(_TEXT, b'{"id":%s,"type":"%s","payload":%s}' % (name, kind, DATA))
        self.end = _frame(_TEXT, b'{"id":%s,"type":"complete"}' % name)

    def flood(self) -> bool:
        """Send what is left for as long as the client reads; True once that is all of it."""
        chunk = self.event * CHUNK
        write = self.socket.transport.write
        while self.left >= CHUNK and not self.socket.full:
            self.left -= CHUNK
            write(chunk)
        if self.socket.full:
            return False
        write(self.event * self.left + self.end)
        return True


class _Server:
    """What the connections share, and what can be asked of it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.sockets: set[_Socket] = set()
        self.feeds: dict[tuple[_Socket, str], _Feed] = {}
        self._listening: asyncio.Server | None = None
        self._port = 0
        self._forget()

    def _forget(self) -> None:
        self._since = self.loop.time()
        self._opened: list[float] = []
        self._subscribed: list[float] = []

    async def listen(self) -> int:
        """Take connections, on the port of before if there was one."""
        make = self.loop.create_server
        self._listening = await make(lambda: _Connection(self), "127.0.0.1", self._port, backlog=4096)
        self._port = self._listening.sockets[0].getsockname()[1]
        self._forget()
        return self._port

    def opened(self, socket: _Socket) -> None:
        self.sockets.add(socket)
        self._opened.append(self.loop.time() - self._since)

    def subscribed(self, socket: _Socket, id: str, feed: _Feed) -> None:  # noqa: A002
        self.feeds[socket, id] = feed
        self._subscribed.append(self.loop.time() - self._since)

    def lost(self, socket: _Socket) -> None:
        self.sockets.discard(socket)
        for key in [key for key in self.feeds if key[0] is socket]:
            del self.feeds[key]

    def obey(self, name: str, *arguments: Any) -> object:
        return getattr(self, f"_do_{name}")(*arguments)

    def _do_subscribed(self) -> int:
        return len(self.feeds)

    def _do_feed(self, events: int, batch: int, pause: float) -> None:
        """So many events to each subscription and its end: a flood, or in turn so many every pause."""
        feeds = list(self.feeds.values())
        self.feeds.clear()
        if not pause:
            for feed in feeds:
                feed.left = events
                feed.socket.flooded.append(feed)
                self.loop.call_soon(feed.socket.resume_writing)
            return
        turns = (feed for _ in range(events) for feed in feeds)
        self.loop.call_soon(self._turn, turns, feeds, batch, pause, self.loop.time())

    def _turn(self, turns: Iterator[_Feed], feeds: list[_Feed], batch: int, pause: float, due: float) -> None:
        written: dict[_Socket, list[bytes]] = {}
        count = 0
        for count, feed in enumerate(turns, 1):
            written.setdefault(feed.socket, []).append(feed.event)
            if count == batch:
                break
        if count < batch:
            # Thousands of ends at once shall not hold up the last events.
            self.loop.call_later(1.0 if len(feeds) > 1 else 0.0, self._end, feeds)
        else:
            self.loop.call_at(due + pause, self._turn, turns, feeds, batch, pause, due + pause)
        for sock, frames in written.items():
            sock.transport.write(b"".join(frames))

    def _end(self, feeds: list[_Feed]) -> None:
        for feed in feeds:
            feed.socket.transport.write(feed.end)

    def _do_drop(self, seconds: float) -> None:
        """Cut every connection, and take new ones only after so many seconds."""
        if seconds:
            assert self._listening is not None
            self._listening.close()
            self.loop.call_later(seconds, lambda: self.loop.create_task(self.listen()))
        for sock in list(self.sockets):
            sock.transport.abort()
        self.feeds.clear()
        self._forget()

    def _do_since(self) -> dict[str, list[float]]:
        """When connections and subscriptions came, in seconds since the server was there again."""
        return {"opened": self._opened, "subscribed": self._subscribed}


class _Connection(asyncio.Protocol):
    """Somebody who did not say yet whether this is an upgrade or a line of orders."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(b"["):
            *orders, self._buffer = self._buffer.split(b"\n")
            for order in orders:
                self._transport.write(orjson.dumps(self._server.obey(*orjson.loads(order))) + b"\n")
        elif b"\r\n\r\n" in self._buffer:
            self._upgrade(self._buffer.decode("latin-1").split("\r\n"))

    def _upgrade(self, lines: list[str]) -> None:
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        offered = [name.strip() for name in headers["sec-websocket-protocol"].split(",")]
        modern = "graphql-transport-ws" in offered
        protocol = "graphql-transport-ws" if modern else "graphql-ws"
        self._transport.write(_UPGRADED.format(accept, protocol).encode())
        self._transport.set_protocol(_Socket(self._server, self._transport, modern))


class _Socket(asyncio.Protocol):
    """A connection that was upgraded."""

    def __init__(self, server: _Server, transport: asyncio.Transport, modern: bool) -> None:
        self._server = server
        self._modern = modern
        self._buffer = b""
        self.transport = transport
        self.full = False
        self.flooded: list[_Feed] = []
        server.opened(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        while self.flooded and not self.full and self.flooded[0].flood():
            del self.flooded[0]

    def connection_lost(self, _: Exception | None) -> None:
        self.full = True
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        at = 0
        while len(buffer) - at >= 2:
            size, begin = buffer[at + 1] & 0x7F, at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, begin = int.from_bytes(buffer[begin : begin + width]), begin + width
            end = begin + 4 + size
            if len(buffer) < end:
                break
            mask = buffer[begin : begin + 4] * (size // 4 + 1)
            plain = int.from_bytes(buffer[begin + 4 : end]) ^ int.from_bytes(mask[:size])
            self._received(buffer[at] & 0x0F, plain.to_bytes(size))
            at = end
        self._buffer = buffer[at:]

    def _received(self, opcode: int, payload: bytes) -> None:
        if opcode == _TEXT:
            self._message(orjson.loads(payload))
        elif opcode == _PING:
            self.transport.write(_frame(_PONG, payload))
        elif opcode == _CLOSE:
            self.transport.write(_frame(_CLOSE, payload[:2]))
            self.transport.close()

    def _message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "connection_init":
                self.transport.write(_frame(_TEXT, b'{"type":"connection_ack"}'))
            case "ping":
                self.transport.write(_frame(_TEXT, b'{"type":"pong"}'))
            case "subscribe" | "start":
                self._server.subscribed(self, message["id"], _Feed(self, message["id"], self._modern))
            case "complete" | "stop":
                self._server.feeds.pop((self, message["id"]), None)


async def _serve(ready: Connection) -> None:
    ready.send(await _Server().listen())
    await asyncio.Event().wait()


def _run(ready: Connection) -> None:
    asyncio.run(_serve(ready))


class Canned:
    """The way to tell a canned server what to do. It can be taken along into another process."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/graphql"
        self._line: socket.socket | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_line": None}

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def ask(self, order: Literal["subscribed", "feed", "drop", "since"], *arguments: float) -> Any:
        """Give an order; what it answers. Blocks for the moment that takes."""
        if self._line is None:
            self._line = socket.create_connection(("127.0.0.1", self.port))
        self._line.sendall(orjson.dumps([order, *arguments]) + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self._line.recv(1 << 20)
        return orjson.loads(answer)

    async def until_subscribed(self, count: int) -> None:
        """Wait until it has so many subscriptions that wait to be fed."""
        async with asyncio.timeout(60):
            while self.ask("subscribed") < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@contextmanager
def canned_sockets() -> Iterator[Canned]:
    """A canned WebSocket server in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there,), daemon=True)
    process.start()
    try:
        with contextlib.closing(Canned(here.recv())) as canned:
            yield canned
    finally:
        process.terminate()
        process.join()
