"""What the Python servers share: the journal, standard input, and uvicorn.

The journal is standard output: one line for whatever has begun, written before anybody is answered, so that
it is there after a kill -9. Standard input is the test: its lines open and close gates, its end ends us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

TICK = 0.002  # seconds between two numbers


def journal(line: str) -> None:
    """One line, in one write."""
    os.write(1, f"{line}\n".encode())


class Gates:
    """What the test holds back, and the counting mutation."""

    def __init__(self) -> None:
        self.released = False
        self.held = False
        self.runs = 0
        self._turned = asyncio.Condition()

    async def until(self, true: Callable[[], bool]) -> None:
        async with self._turned:
            await self._turned.wait_for(true)

    async def read(self) -> None:
        """Take the lines of standard input; end the process at its end."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        async for raw in reader:
            line = raw.decode().strip()
            if line in ("release", "block"):
                self.released = line == "release"
            if line in ("hold", "tick"):
                self.held = line == "hold"
            journal(line)
            async with self._turned:
                self._turned.notify_all()
        os._exit(1)

    async def slow(self, key: str) -> str:
        journal(f"slow {key}")
        await self.until(lambda: self.released)
        return key

    def increment(self, key: str) -> int:
        journal(f"increment {key}")
        self.runs += 1
        return self.runs

    async def slow_increment(self, key: str) -> int:
        runs = self.increment(key)
        await self.until(lambda: self.released)
        return runs

    async def count(self, start: int, to: int | None) -> AsyncGenerator[int, None]:
        journal(f"count {start}")
        number = start
        try:
            while to is None or number < to:
                if self.held:
                    journal(f"held {number}")
                    await self.until(lambda: not self.held)
                yield number
                number += 1
                await asyncio.sleep(TICK)
        finally:
            journal(f"counted {start}")


GATES = Gates()


@contextlib.asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Read standard input while the application runs."""
    reading = asyncio.create_task(GATES.read())
    yield
    reading.cancel()


class Server(uvicorn.Server):
    """Says where it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            journal(f"listening {self.servers[0].sockets[0].getsockname()[1]}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        journal("stopping")
        await super().shutdown(sockets)


def serve(applications: Mapping[str, Any]) -> None:
    """Serve each on its path, on loopback; uvicorn finishes what is under way after a SIGTERM."""
    port = int(sys.argv[1])
    routes = [kind(path, each) for path, each in applications.items() for kind in (Route, WebSocketRoute)]
    app = Starlette(routes=routes, lifespan=lifespan)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        ws="websockets-sansio",
        lifespan="on",
        timeout_graceful_shutdown=5,  # without it a connection that lingers keeps the server for ever
    )
    Server(config).run()
