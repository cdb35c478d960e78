"""One WebSocket of a client, in either GraphQL protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import WSMsgType, web
from graphql import ExecutionResult, GraphQLError, OperationType

from .delivery import reset
from .documents import kind_of, name_in
from .execution import log_failure
from .messages import ReceivedMessage, SentEvent
from .protocols import (
    DIALECTS,
    INIT_TIMEOUT,
    LEGACY,
    MODERN,
    NO_PROTOCOL,
    TOO_MANY_INITS,
    UNAUTHORIZED,
    Refusal,
    invalid,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from graphql import DocumentNode

    from .exchange import ReceivedRequest
    from .execution import Executor

    Outcome = AsyncGenerator[ExecutionResult, None] | ExecutionResult


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation that runs on a socket."""

    connection: Connection
    id: str
    name: str | None
    """Its name; None for one without."""
    document: DocumentNode = field(repr=False)
    operation_name: str | None = field(repr=False)
    """As sent beside the document."""
    variables: dict[str, Any] | None

    def __str__(self) -> str:
        return f"{self.name or 'a subscription without a name'} on connection {self.connection.number}"

    async def send(self, result: ExecutionResult) -> None:
        """Send it an event. Raises ConnectionError when the socket has gone."""
        await self.connection.send_event(self.id, result)

    async def complete(self) -> None:
        """End it with `complete`. Raises ConnectionError when the socket has gone."""
        await self.connection.complete(self.id)


class Script(Protocol):
    """What a server says of how its sockets behave, and where they report what happened."""

    on_init: Callable[[Mapping[str, Any]], int | None] | None
    never_ack: bool
    ack_delay: float
    ack_payload: Mapping[str, Any] | None
    init_timeout: float | None
    padding: int
    messages: list[ReceivedMessage]
    events_sent: list[SentEvent]
    _executor: Executor

    def _changed(self) -> None: ...

    def _scripted(
        self, request: ReceivedRequest, document: DocumentNode, payload: Mapping[str, Any]
    ) -> list[ExecutionResult] | None: ...


class Connection:
    """An open socket. `number` counts the upgrades from 1."""

    def __init__(
        self,
        server: Script,
        number: int,
        request: web.BaseRequest,
        socket: web.WebSocketResponse,
        received: ReceivedRequest,
    ) -> None:
        self.number = number
        self.init_payload: dict[str, Any] | None = None
        """The payload of `connection_init`; None before it came."""
        self.acknowledged: bool = False
        self.running: dict[str, Operation] = {}
        """The operations that were accepted and have not ended, by their ids."""
        self._received = received
        self._server = server
        self._request = request
        self._socket = socket
        self._dialect = DIALECTS.get(socket.ws_protocol or "", MODERN)
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Lock()
        self._told: int | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.number} {self.subprotocol} {self.subscriptions}>"

    @property
    def subprotocol(self) -> str | None:
        """The protocol agreed on; None if there was none in common."""
        return self._socket.ws_protocol

    @property
    def subscriptions(self) -> list[str]:
        """The ids of the operations that are running."""
        return list(self._operations)

    @property
    def close_code(self) -> int | None:
        """The code of whoever closed first; None while it is open and when nobody did."""
        code = self._told or self._socket.close_code
        return None if code is None or code == 1006 else int(code)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close cleanly; returns when the client has answered, or after a second."""
        async with self._closing:
            if not self._socket.closed:
                self._told = code
            await self._socket.close(code=code, message=reason.encode())

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        if self._request.transport is not None:
            reset(self._request.transport)

    async def send(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send a message as it is; bytes go as a binary frame.

        Raises ConnectionError when the socket has gone.
        """
        if isinstance(message, bytes):
            await self._socket.send_bytes(message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await self._socket.send_str(text)

    async def run(self, refused: int | None) -> None:
        """Serve the socket until it ends; `refused` is a code to close it with at once."""
        try:
            await self._listen(refused)
            async with self._closing:  # somebody may be waiting for the client's close frame
                pass
        except Refusal as refusal:
            await self.close(refusal.code, refusal.reason)
        finally:
            await self._end()

    async def _listen(self, refused: int | None) -> None:
        if refused is not None:
            raise Refusal(refused, "")
        if self.subprotocol is None:
            raise Refusal(*NO_PROTOCOL)
        self._spawn(self._init_deadline())
        async for frame in self._socket:
            if frame.type is WSMsgType.ERROR:
                break
            await self._take(self._read(frame.type, frame.data))

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, Exception):
                raise outcome

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        # One that failed is kept, so that the failure is raised in the end.
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    def _read(self, kind: WSMsgType, data: Any) -> dict[str, Any]:
        message: Any = {"binary": len(data)} if kind is WSMsgType.BINARY else {"text": data}
        if kind is WSMsgType.TEXT:
            with contextlib.suppress(ValueError):
                parsed = json.loads(data)
                message = parsed if isinstance(parsed, dict) else message
        self._server.messages.append(ReceivedMessage(self.number, message, time.monotonic()))
        self._server._changed()
        return dict(message)

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "connection_init":
            await self._init(message.get("payload"))
        elif kind == self._dialect.start:
            await self._start(message)
        elif kind == self._dialect.stop:
            await self._stop(message.get("id"))
        elif kind == "ping" and self._dialect.pings:
            await self.send({**message, "type": "pong"})
        elif kind is not None and kind == self._dialect.terminate:
            await self.close()
        elif kind != "pong" or not self._dialect.pings:
            raise invalid("Invalid message received")

    async def _init(self, payload: Any) -> None:
        if self.init_payload is not None:
            raise Refusal(*TOO_MANY_INITS)
        if payload is not None and not isinstance(payload, dict):
            raise invalid("The payload of connection_init must be an object")
        self.init_payload = payload or {}
        ask = self._server.on_init
        code = ask(self.init_payload) if ask is not None else None
        if code is not None:
            raise Refusal(code, "Forbidden" if code == 4403 else "")
        if not self._server.never_ack:
            self._spawn(self._acknowledge(self._server.ack_delay))

    async def _acknowledge(self, delay: float) -> None:
        if delay > 0:
            await asyncio.sleep(delay)
        self.acknowledged = True
        with contextlib.suppress(ConnectionError):
            ack: dict[str, Any] = {"type": "connection_ack"}
            if self._server.ack_payload is not None:
                ack["payload"] = dict(self._server.ack_payload)
            await self.send(ack)

    async def _init_deadline(self) -> None:
        if self._server.init_timeout is None:
            return
        await asyncio.sleep(self._server.init_timeout)
        if self.init_payload is None:
            await self.close(*INIT_TIMEOUT)

    async def _start(self, message: dict[str, Any]) -> None:
        key, payload = message.get("id"), message.get("payload")
        if not isinstance(key, str) or not key:
            raise invalid("An operation needs an id")
        operation = self._checked(payload)
        if not self.acknowledged:
            raise Refusal(*UNAUTHORIZED)
        if key in self._operations:
            if self._dialect is not LEGACY:
                raise Refusal(4409, f"Subscriber for {key} already exists")
            await self._cancel(key)
        self._operations[key] = self._spawn(self._operate(key, operation))

    @staticmethod
    def _checked(payload: Any) -> dict[str, Any]:
        if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
            raise invalid("An operation needs a payload with a query")
        if not isinstance(payload.get("variables"), dict | None):
            raise invalid("Variables are an object")
        if not isinstance(payload.get("operationName"), str | None):
            raise invalid("An operation name is a string")
        return payload

    async def _stop(self, key: Any) -> None:
        if not isinstance(key, str):
            raise invalid("Complete what?")
        if key in self._operations:
            await self._cancel(key)
            if self._dialect is LEGACY:
                await self.send({"type": "complete", "id": key})

    async def _cancel(self, key: str) -> None:
        task = self._operations.pop(key)
        self.running.pop(key, None)
        task.cancel()
        await asyncio.wait([task])
        self._server._changed()

    async def complete(self, key: str) -> None:
        """End an operation with `complete`; nothing if it runs no more."""
        if key in self._operations:
            await self._cancel(key)
            await self._complete(key)

    async def send_event(self, key: str, result: ExecutionResult) -> None:
        """Send an event of an operation, and write it down."""
        await self._event(key, result)
        value = next(iter(result.data.values())) if result.data else None
        self._server.events_sent.append(SentEvent(self.number, key, value))
        self._server._changed()

    async def _operate(self, key: str, payload: dict[str, Any]) -> None:
        try:
            await self._respond(key, payload)
        except ConnectionError:
            pass  # the listener ends by itself
        finally:
            if self._operations.get(key) is asyncio.current_task():
                del self._operations[key]
                self.running.pop(key, None)

    async def _respond(self, key: str, payload: dict[str, Any]) -> None:
        executor, operation = self._server._executor, payload.get("operationName")
        document = executor.checked(payload["query"])
        if isinstance(document, list):
            return await self._fail(key, document)
        variables = payload.get("variables")
        context = {"request": self._received, "connection_params": self.init_payload}
        outcome: Outcome
        if kind_of(document, operation) is OperationType.SUBSCRIPTION:
            scripted = self._server._scripted(self._received, document, payload)
            if scripted is not None:
                return await self._hold(key, document, payload, scripted)
            outcome = await executor.subscribe(document, variables, operation, context)
            if not isinstance(outcome, ExecutionResult):
                self._runs(key, document, payload)
        else:
            outcome = await executor.execute(document, variables, operation, context)
        if not isinstance(outcome, ExecutionResult):
            try:
                await self._stream(key, outcome)
            except Exception as error:
                if not executor.own or isinstance(error, ConnectionError):
                    raise
                failure = (
                    error
                    if isinstance(error, GraphQLError)
                    else GraphQLError(str(error), original_error=error)
                )
                log_failure(failure)
                return await self._fail(key, [failure])
        elif outcome.data is None and outcome.errors and not outcome.errors[0].path:
            return await self._fail(key, outcome.errors)
        else:
            await self._event(key, outcome)
        return await self._complete(key)

    def _runs(self, key: str, document: DocumentNode, payload: dict[str, Any]) -> None:
        name = payload.get("operationName")
        self.running[key] = Operation(
            self, key, name_in(document, name), document, name, payload.get("variables")
        )
        self._server._changed()

    async def _hold(
        self, key: str, document: DocumentNode, payload: dict[str, Any], first: list[ExecutionResult]
    ) -> None:
        """Events of a script, and then those that the test sends."""
        for result in first:
            if result.data is None and result.errors:
                return await self._fail(key, result.errors)
            await self.send_event(key, result)
        self._runs(key, document, payload)
        await asyncio.get_running_loop().create_future()
        return None

    async def _stream(self, key: str, events: AsyncGenerator[ExecutionResult, None]) -> None:
        async with contextlib.aclosing(events):
            async for result in events:
                await self.send_event(key, result)

    async def _event(self, key: str, result: ExecutionResult) -> None:
        payload: dict[str, Any] = {**result.formatted}
        if self._server.padding:
            extensions = payload.get("extensions") or {}
            payload["extensions"] = {**extensions, "padding": "x" * self._server.padding}
        await self.send({"type": self._dialect.event, "id": key, "payload": payload})

    async def _complete(self, key: str) -> None:
        self._operations.pop(key, None)
        self.running.pop(key, None)
        await self.send({"type": "complete", "id": key})

    async def _fail(self, key: str, errors: list[GraphQLError]) -> None:
        self._operations.pop(key, None)
        self.running.pop(key, None)
        found: Any = [error.formatted for error in errors]
        payload = found[0] if self._dialect is LEGACY else found
        await self.send({"type": "error", "id": key, "payload": payload})
