"""The WebSocket half of the scripted server."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from graphql import DocumentNode, ExecutionResult, GraphQLError

from .answers import Answer, Whole
from .checking import text_of
from .connection import Connection, Operation
from .delivery import send
from .documents import name_in
from .exchange import ReceivedRequest, receive
from .facts import listed
from .messages import ReceivedMessage, SentEvent
from .protocols import DIALECTS
from .scripting import ScriptedHTTP
from .scripts import answer_of


class ScriptedSockets(ScriptedHTTP):
    """Scripts and facts of WebSockets."""

    def __init__(self, path: str, *own: Any) -> None:
        super().__init__(path, *own)
        self.ack_delay: float = 0.0
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
        self._held: set[str] = set()

    @property
    def tick(self) -> float:
        """Seconds between the events of `count`. Settable, also while it counts."""
        return self._executor.toy.tick

    @tick.setter
    def tick(self, value: float) -> None:
        self._executor.toy.tick = value

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

    @property
    def subscriptions(self) -> list[Operation]:
        """The operations that run on open sockets."""
        return [each for socket in self.sockets for each in socket.running.values()]

    def hold(self, operation_name: str) -> None:
        """Let no resolver run for the next subscriptions of this name: their events come from `send`.

        A subscription that nothing resolves is held anyway.
        """
        self._held.add(operation_name)

    async def send(
        self,
        event: Mapping[str, Any] | None,
        operation_name: str | None = None,
        *,
        errors: Sequence[Mapping[str, Any] | str] = (),
        timeout: float | None = 10.0,
    ) -> int:
        """Send an event to every open subscription, and return to how many.

        `event` is data by the names of fields; each subscription gets what it asked for of it. None:
        no data. `operation_name` limits it to one operation. `errors` go with it; a text becomes a
        message. Waits until there is such a subscription: `timeout` is in seconds, None waits for
        ever. Raises AssertionError when there is none, or when the event breaks the schema; nothing
        is sent then.
        """

        def there() -> list[Operation]:
            return [each for each in self.subscriptions if operation_name in (None, each.name)]

        whose = f" {operation_name}" if operation_name else ""
        await self.until(
            lambda: bool(there()),
            lambda: listed(f"an open subscription{whose}; open are:", [str(s) for s in self.subscriptions]),
            timeout,
        )
        to = there()
        results = [self._selected(each, event, errors) for each in to]
        await asyncio.gather(*(each.send(result) for each, result in zip(to, results, strict=True)))
        return len(to)

    async def complete_subscriptions(self, operation_name: str | None = None) -> None:
        """End open subscriptions with `complete`; sockets stay. A name limits it to one operation."""
        to = [each for each in self.subscriptions if operation_name in (None, each.name)]
        await asyncio.gather(*(each.complete() for each in to))

    async def close_subscriptions(self, code: int = 1012, reason: str = "") -> None:
        """Close every socket that carries a subscription, as a server does that restarts (1012).

        Returns when each client has answered the close frame, or after a second.
        """
        sockets = [socket for socket in self.sockets if socket.running]
        await asyncio.gather(*(socket.close(code, reason) for socket in sockets))

    def _selected(
        self, to: Operation, event: Mapping[str, Any] | None, errors: Sequence[Mapping[str, Any] | str]
    ) -> ExecutionResult:
        told = [_error(each) for each in errors]
        if event is None:
            return ExecutionResult(None, told)
        result = self._executor.event(to.document, to.operation_name, to.variables, event)
        if result.errors:
            found = [f"{'.'.join(map(str, error.path or ()))}: {error.message}" for error in result.errors]
            raise AssertionError(f"the event breaks the schema of {to}: {text_of(found)}")
        return ExecutionResult(result.data, told or None)

    def _scripted(
        self, request: ReceivedRequest, document: DocumentNode, payload: Mapping[str, Any]
    ) -> list[ExecutionResult] | None:
        """The first events of a subscription that no resolver serves; None where one does."""
        operation, variables = payload.get("operationName"), payload.get("variables")
        name = name_in(document, operation)
        answers = self._scripts.take_all(name, variables) if name else []
        if not answers and name not in self._held and self._executor.resolves(document, operation):
            return None
        self._executor.counted(document, operation)
        results = [_event(answer_of(each, request)) for each in answers]
        for each in results if self._executor.own else ():
            found = self._executor.problems(document, operation, variables, each.data) if each.data else []
            if found:
                problem = f"an event of {name}: {text_of(found)}"
                self.problems.append(problem)
                return [
                    ExecutionResult(None, [GraphQLError(f"the scripted event breaks the schema: {problem}")])
                ]
        return results

    async def subscribed(self, n: int, timeout: float | None = 10.0) -> list[ReceivedMessage]:
        """Wait until `n` subscribe (or legacy start) messages have arrived in all.

        Returns them. `timeout` is in seconds, None waits for ever. Raises AssertionError with the
        list of the messages that did arrive.
        """

        def starts() -> list[ReceivedMessage]:
            return [m for m in self.messages if m.subscribes]

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
        await self._serve(Connection(self, len(self.upgrades), request, response, received), verdict)
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

    def what_came(self) -> str:
        """What has arrived so far, a line each, for people; subscriptions too."""
        asked = [str(m) for m in self.messages if m.subscribes]
        more = "\n" + listed("subscriptions that came:", asked[:50]) if asked else ""
        return super().what_came() + more

    def _verdict(self, received: ReceivedRequest) -> Answer | int | None:
        if received.path != self.path:
            return Answer(status=404, body=b"")
        verdict = self.on_connect(received) if self.on_connect is not None else None
        if isinstance(verdict, Answer):
            return verdict
        if verdict is not None and verdict < 1000:
            return Answer(status=verdict, body=b"")
        return verdict


def _event(answer: Answer) -> ExecutionResult:
    body = answer.body if isinstance(answer.body, Mapping) else None
    if body is None or not isinstance(answer.delivery, Whole):
        raise TypeError(
            "an answer that is scripted for a subscription has data or errors, and no trouble of HTTP"
        )
    errors = [_error(each) for each in body.get("errors", ())]
    return ExecutionResult(body.get("data"), errors or None, body.get("extensions"))


def _error(told: Mapping[str, Any] | str) -> GraphQLError:
    if isinstance(told, str):
        return GraphQLError(told)
    return GraphQLError(told.get("message", ""), path=told.get("path"), extensions=told.get("extensions"))
