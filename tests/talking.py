"""A WebSocket server whose connections are coroutines of the test's: what real servers say, to the letter."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Script = Callable[["Talk"], Awaitable[None]]


class HungUpError(Exception):
    """The client has closed."""


class Talk:
    """One connection; ``number`` counts from 1."""

    def __init__(
        self, number: int, request: web.BaseRequest, ws: web.WebSocketResponse, log: list[Any]
    ) -> None:
        self.number, self.request, self._ws, self._log = number, request, ws, log
        self.init: dict[str, Any] = {}

    @property
    def event(self) -> str:
        """What an event is called in the protocol agreed on."""
        return "data" if self._ws.ws_protocol == "graphql-ws" else "next"

    async def receive(self) -> dict[str, Any]:
        """The next message, pings answered."""
        while True:
            frame = await self._ws.receive()
            if frame.type is not WSMsgType.TEXT:
                raise HungUpError
            message: dict[str, Any] = json.loads(frame.data)
            self._log.append((self.number, message))
            if message["type"] != "ping":
                return message
            await self.send(type="pong")

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self._ws.send_str(json.dumps(message))

    async def hello(self) -> str | None:
        """Wait for ``connection_init``; the authorization header in its payload."""
        self.init = (await self.receive())["payload"]
        token: str | None = self.init["headers"].get("authorization")
        return token

    async def ack(self) -> None:
        """Acknowledge."""
        await self.send(type="connection_ack")

    async def asked(self) -> str:
        """Wait for the next subscription; its id."""
        while True:
            message = await self.receive()
            if message["type"] in ("subscribe", "start"):
                return str(message["id"])

    async def tell(self, key: str, value: int) -> None:
        """Send an event of COUNT."""
        await self.send(type=self.event, id=key, payload={"data": {"count": value}})

    async def close(self, code: int, reason: str = "") -> None:
        """Close with words."""
        await self._ws.close(code=code, message=reason.encode())

    async def quiet(self) -> None:
        """Say nothing more until the client closes."""
        while True:
            await self.receive()


class Server:
    """What was heard, and where."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.upgrades: list[float] = []
        """When they came, on the monotonic clock."""
        self.refuse: Callable[[], web.Response | None] = lambda: None
        """Whether an upgrade is answered with something else."""
        self.heard: list[tuple[int, dict[str, Any]]] = []

    def of(self, *kinds: str) -> list[tuple[int, str]]:
        """Connection and id of each message of a kind."""
        return [(number, message["id"]) for number, message in self.heard if message["type"] in kinds]


@contextlib.asynccontextmanager
async def talking(script: Script, **options: Any) -> AsyncIterator[Server]:
    """A server that runs the script for each connection; ``options`` are aiohttp's WebSocketResponse's."""
    server = Server()
    offered = options.pop("protocols", ("graphql-transport-ws", "graphql-ws"))

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        server.upgrades.append(time.monotonic())
        if (refusal := server.refuse()) is not None:
            return refusal
        server.connections += 1
        number = server.connections
        ws = web.WebSocketResponse(protocols=offered, compress=False, timeout=1, **options)
        await ws.prepare(request)
        with contextlib.suppress(HungUpError, ConnectionError):
            await script(Talk(number, request, ws, server.heard))
        return ws

    web_server = web.Server(serve, handler_cancellation=True, access_log=None)
    listener = await asyncio.get_running_loop().create_server(web_server, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/graphql"
    try:
        yield server
    finally:
        await stop_listening(listener)
        await web_server.shutdown(1)
        await listener.wait_closed()
