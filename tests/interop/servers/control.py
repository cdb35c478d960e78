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
from graphql import GraphQLError
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketState

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

TICK = 0.002  # seconds between two numbers


def journal(line: str) -> None:
    """One line, in one write."""
    os.write(1, f"{line}\n".encode())


class Tokens:
    """Which token is good, and where any other one is refused.

    `token N PLACE` makes token N the only good one. Places are `upgrade 401` and `upgrade 403`, `false` and
    `close CODE REASON` in on_connect, `resolver`, `generator`, and over HTTP `code` and `status`.
    `expire CODE REASON` closes the sockets that have another one. `token off` lets all pass.
    """

    def __init__(self) -> None:
        self.place = ""
        self._good: str | None = None
        self._sockets: dict[WebSocket, str | None] = {}

    async def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        first, _, others = rest.partition(" ")
        if word == "token":
            self._good, self.place = None if first == "off" else f"Bearer {first}", others
        if word == "expire":
            for socket, authorization in list(self._sockets.items()):
                if authorization != self._good:
                    await self._close(socket, int(first), others)

    def refuses(self, here: str, authorization: str | None) -> bool:
        if self._good in (None, authorization) or self.place != here:
            return False
        journal(f"refused {here}")
        return True

    def require(self, here: str, authorization: str | None) -> None:
        if self.refuses(here, authorization):
            raise GraphQLError("who are you", extensions={"code": "UNAUTHENTICATED"})

    async def welcome(self, socket: WebSocket, payload: Any) -> bool:
        """For on_connect; False if the payload is to be refused."""
        if payload and payload.get("refuse"):
            return False
        authorization = authorization_in(payload)
        self._sockets[socket] = authorization
        word, _, how = self.place.partition(" ")
        if word == "close" and self.refuses(self.place, authorization):
            code, _, reason = how.partition(" ")
            await self._close(socket, int(code), reason)
            return False
        return not self.refuses("false", authorization)

    async def _close(self, socket: WebSocket, code: int, reason: str) -> None:
        del self._sockets[socket]
        if WebSocketState.DISCONNECTED not in (socket.client_state, socket.application_state):
            with contextlib.suppress(RuntimeError):
                await socket.close(code, reason)


def authorization_in(payload: Any) -> str | None:
    """What clients send as the payload of connection_init."""
    return ((payload or {}).get("headers") or {}).get("Authorization")


TOKENS = Tokens()


class Doorkeeper:
    """A middleware that asks for tokens before the application does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", ())}
        authorization = headers.get("authorization")
        if scope["type"] == "http" and TOKENS.refuses("status", authorization):
            await PlainTextResponse("token expired", 401)(scope, receive, send)
        elif scope["type"] == "websocket" and TOKENS.refuses("upgrade 401", authorization):
            response = PlainTextResponse("token expired", 401)
            await WebSocket(scope, receive, send).send_denial_response(response)
        elif scope["type"] == "websocket" and TOKENS.refuses("upgrade 403", authorization):
            await WebSocket(scope, receive, send).close(1008, "token expired")  # before accept: a 403
        else:
            await self._app(scope, receive, send)


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
            await TOKENS.read(line)
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

    async def count(
        self, start: int, to: int | None, authorization: str | None = None
    ) -> AsyncGenerator[int, None]:
        journal(f"count {start}")
        number = start
        try:
            while to is None or number < to:
                TOKENS.require("generator", authorization)
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
    app = Doorkeeper(Starlette(routes=routes, lifespan=lifespan))
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
