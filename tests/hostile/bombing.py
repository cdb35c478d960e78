"""Peers that mean harm, byte by byte, and a client in a process of its own that is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from raw_http import Kind

    Say = Callable[[asyncio.StreamWriter], Awaitable[None]]

TESTS = Path(__file__).parents[1]
MIB = 1024 * 1024
LIMIT = MIB
# Seconds for the worst of it on a machine that has other things to do.
PATIENCE = 40.0
OWNED: tuple[Kind, ...] = ("owned-aiohttp", "owned-httpx")
GIVEN: tuple[Kind, ...] = ("given-aiohttp", "given-httpx")
ALL: tuple[Kind, ...] = (*OWNED, *GIVEN)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = b'{"data":{"hello":"world"}}'


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def zeros(mib: int, wbits: int = 31) -> bytes:
    """So many MiB of zeros, as gzip or deflate."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(mib)) + compressor.flush()


def zipped(body: bytes) -> bytes:
    """As gzip."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return compressor.compress(body) + compressor.flush()


@contextlib.asynccontextmanager
async def peer(say: Say | bytes) -> AsyncIterator[str]:
    """A server that reads one request a connection and says something; its URL."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((line[15:] for line in lines if line.startswith(b"content-length:")), b"0")
            await reader.readexactly(int(length))
            if isinstance(say, bytes):
                writer.write(say)
            else:
                await say(writer)
            await writer.drain()
            await reader.read()  # until the client goes
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/graphql"
    finally:
        await stop_listening(server)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def without_end(writer: asyncio.StreamWriter, piece: bytes, first: bytes = b"") -> None:
    """Say the same again and again, as fast as it is read."""
    writer.write(first)
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


@dataclass
class Told:
    """What came of a call.

    :ivar grown: MiB that memory had grown at its peak.
    :ivar pause: the longest time that the loop stood still.
    """

    seconds: float
    grown: float
    pause: float
    error: str | None = None
    text: str = ""
    ours: bool = True
    size: int = 0
    errors: int = 0

    def refused(self, *words: str) -> None:
        """It ended with an error of our family, which has these words."""
        assert self.error is not None, self
        assert self.ours, self
        for word in words:
            assert word in self.text, self
        assert len(self.text) < 2000, self
        assert self.text.isprintable(), self

    def within(self, mib: float, seconds: float = PATIENCE) -> None:
        """It took no more than so much memory and time."""
        assert self.grown < mib, self
        assert self.seconds < seconds, self


class Victim:
    """The other process."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "programs" / "victim.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path])},
        )

    async def calls(self, kind: Kind, say: Say | bytes, **job: Any) -> Told:
        """One call to a peer that says this."""
        async with peer(say) as url:
            line = await asyncio.to_thread(self._ask, {"kind": kind, "url": url, **job})
        return Told(**json.loads(line))

    def _ask(self, job: dict[str, Any]) -> bytes:
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write(json.dumps(job).encode() + b"\n")
        asked.flush()
        came = select.select([told], [], [], PATIENCE + 10)[0]
        line = told.readline() if came else b""
        if not line:
            self._end()
            self._begin()  # for the next test
        assert came, f"the client came to no end within {PATIENCE + 10} s"
        assert line, "the client's process has ended"
        return line

    def _end(self) -> None:
        with self._process as process:
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
