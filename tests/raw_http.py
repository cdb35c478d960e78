"""A raw HTTP server on a loop and a thread of its own: it goes on while the client's loop stands still."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import aiohttp
import httpx

from graphql_prod import ProductionClient, ProductionConfig
from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

Kind = Literal["owned-aiohttp", "owned-httpx", "given-aiohttp", "given-httpx"]

KINDS: tuple[Kind, ...] = ("owned-aiohttp", "owned-httpx", "given-aiohttp", "given-httpx")
QUERY = "query Look { hello }"
MUTATION = "mutation Add { increment }"


def answer(
    data: object = None,
    *,
    status: str = "200 OK",
    content_type: str = "application/json",
    headers: tuple[str, ...] = (),
    body: bytes | None = None,
) -> bytes:
    """A whole HTTP answer."""
    body = json.dumps({"data": data}).encode() if body is None else body
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


@dataclass
class Asked:
    """One request that the server got."""

    number: int
    connection: int
    line: str
    headers: list[tuple[str, str]]
    body: bytes
    writer: asyncio.StreamWriter = field(repr=False)


class RawServer:
    """Answers each request with what ``reply`` makes of it; what it returns is written as it is.

    :ivar asked: the requests so far.
    :ivar connections: how many were accepted.
    """

    def __init__(self, reply: Callable[[Asked], bytes], tls: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.connections = 0
        self._tls = tls
        self._open: list[asyncio.StreamWriter] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/graphql"

    @property
    def mutations(self) -> int:
        """How many mutations were executed."""
        return sum(b"mutation" in asked.body for asked in self.asked)

    def push(self, data: bytes) -> None:
        """Write to every open connection that nobody has asked for anything, before this returns."""

        async def write() -> None:
            for writer in self._open:
                writer.write(data)
                await writer.drain()

        asyncio.run_coroutine_threadsafe(write(), self._loop).result(10)

    def hang_up(self, *, half: bool = False) -> None:
        """Close every open connection, or our half of it, before this returns."""

        async def close() -> None:
            for writer in self._open:
                if half:
                    writer.write_eof()
                else:
                    writer.close()
            if not half:
                self._open.clear()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls, limit=2**24)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        await stop_listening(server)
        for writer in self._open:
            writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._open.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
                length = next((v for k, v in headers if k.lower() == "content-length"), "0")
                body = await reader.readexactly(int(length))
                asked = Asked(len(self.asked) + 1, number, head[0], headers, body, writer)  # type: ignore[arg-type]
                self.asked.append(asked)
                said = self.reply(asked)
                writer.write(said)
                await writer.drain()
                if not said:
                    break
        if writer in self._open:
            self._open.remove(writer)
        writer.close()


@contextlib.asynccontextmanager
async def client_of(
    kind: Kind, url: str, *, verify: Any = None, **arguments: Any
) -> AsyncIterator[ProductionClient]:
    """A client that does not validate, of one of the four kinds."""
    arguments = {"validate": False, **arguments}
    owner, backend = kind.split("-")
    if owner == "owned":
        config = arguments.pop("config", ProductionConfig())
        async with ProductionClient(url, backend=backend, config=config, **arguments) as client:  # type: ignore[arg-type]
            yield client
    elif backend == "aiohttp":
        connector = aiohttp.TCPConnector(ssl=True if verify is None else verify)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            ProductionClient(url, session=session, **arguments) as client,
        ):
            yield client
    else:
        async with (
            httpx.AsyncClient(verify=False if verify is None else verify, trust_env=False) as http,
            ProductionClient(url, session=http, **arguments) as client,
        ):
            yield client
