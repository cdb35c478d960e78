"""The WebSocket half of the scripted server."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from .answers import Answer
from .connection import Connection, ReceivedMessage, SentEvent
from .delivery import send
from .exchange import ReceivedRequest, receive
from .facts import listed
from .protocols import DIALECTS
from .scripting import ScriptedHTTP


class ScriptedSockets(ScriptedHTTP):
    """Scripts and facts of WebSockets."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.ack_delay = 0.0
        """Seconds between `connection_init` and its acknowledgement."""
        self.ack_payload: Mapping[str, Any] | None = None
        """The payload of the acknowledgement. None: it has none."""
        self.padding = 0
        """Characters added to each event, under `extensions.padding`: large events. Settable, also
        while it counts."""
        self.never_ack = False
        """Whether `connection_init` stays without an acknowledgement."""
        self.init_timeout: float | None = 3.0
        """Seconds a client has for `connection_init` before a 4408. None: for ever."""
        self.on_connect: Callable[[ReceivedRequest], int | Answer | None] | None = None
        """Asked at each upgrade. An HTTP status or an `Answer` refuses it, a number from 1000
        closes the socket with that code right after the upgrade, None lets it pass."""
        self.on_init: Callable[[Mapping[str, Any]], int | None] | None = None
        """Asked with the payload of each `connection_init`. A number closes with that code,
        None lets it pass."""
        self.upgrades: list[ReceivedRequest] = []
        """Every request for an upgrade, refused ones too; the n-th is connection number n."""
        self.messages: list[ReceivedMessage] = []
        """Every message of a client."""
        self.events_sent: list[SentEvent] = []
        """Every event handed to a socket."""
        self.close_codes: dict[int, int | None] = {}
        """How sockets ended, by connection number: the code of whoever closed first. None:
        without a close frame."""
        self._sockets: dict[int, Connection] = {}

    @property
    def tick(self) -> float:
        """Seconds between the events of `count`. Settable, also while it counts."""
        return self._executor.tick

    @tick.setter
    def tick(self, value: float) -> None:
        self._executor.tick = value

    @property
    def sockets(self) -> list[Connection]:
        """The open sockets, oldest first."""
        return list(self._sockets.values())

    async def close_sockets(self, code: int = 1012, reason: str = "") -> None:
        """Close every open socket cleanly.

        Returns when each client has answered the close frame, or after a second.
        """
        await asyncio.gather(*(socket.close(code, reason) for socket in self.sockets))

    def reset_sockets(self) -> None:
        """Break every open socket with a TCP reset."""
        for socket in self.sockets:
            socket.reset()

    async def send_to_sockets(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send a message of the test's own to every open socket; bytes go as a binary frame."""
        for socket in self.sockets:
            await socket.send(message)

    async def subscribed(self, n: int, timeout: float | None = 10.0) -> list[ReceivedMessage]:
        """Wait until `n` subscribe (or legacy start) messages have arrived in all.

        Returns them. `timeout` is in seconds, None waits for ever. Raises AssertionError with the
        list of the messages that did arrive.
        """

        def starts() -> list[ReceivedMessage]:
            return [m for m in self.messages if m.message.get("type") in ("subscribe", "start")]

        await self.until(
            lambda: len(starts()) >= n,
            lambda: listed(f"{n} subscribe messages:", [str(m) for m in self.messages[-50:]]),
            timeout,
        )
        return starts()

    async def socket_count(self, n: int, timeout: float | None = 10.0) -> None:
        """Wait until exactly `n` sockets are open.

        `timeout` is in seconds, None waits for ever. Raises AssertionError.
        """
        await self.until(
            lambda: len(self._sockets) == n,
            lambda: listed(f"{n} open sockets:", [repr(s) for s in self.sockets]),
            timeout,
        )

    async def _upgrade(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await receive(request)
        self.upgrades.append(received)
        self._changed()
        verdict = self._verdict(received)
        if isinstance(verdict, Answer):
            return await send(request, verdict, None)
        response = web.WebSocketResponse(protocols=DIALECTS, compress=False, timeout=1.0)
        await response.prepare(request)
        await self._serve(Connection(self, len(self.upgrades), request, response), verdict)
        return response

    async def _serve(self, socket: Connection, refused: int | None) -> None:
        self._sockets[socket.number] = socket
        self._changed()
        try:
            await socket.run(refused)
        finally:
            del self._sockets[socket.number]
            self.close_codes[socket.number] = socket.close_code
            self._changed()

    def _verdict(self, received: ReceivedRequest) -> Answer | int | None:
        if received.path != self.path:
            return Answer(status=404, body=b"")
        verdict = self.on_connect(received) if self.on_connect is not None else None
        if isinstance(verdict, Answer):
            return verdict
        if verdict is not None and verdict < 1000:
            return Answer(status=verdict, body=b"")
        return verdict
