"""One socket: connects, listens, keeps alive. A new one is made for each connect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from graphql_prod.subscriptions.endings import RejectedError, SilenceError, SocketClosed, not_acknowledged
from graphql_prod.subscriptions.keep_alive import KeepAlive
from graphql_prod.subscriptions.losses import loss_of
from graphql_prod.subscriptions.protocol import Message, dialect_of, pong_message, read, stop_message
from graphql_prod.subscriptions.send_queue import Unread, UnreadError
from graphql_prod.subscriptions.shapes import words_of
from graphql_prod.subscriptions.sockets import CLOSE_TIMEOUT, IN_HASTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.protocol import Dialect
    from graphql_prod.subscriptions.send_queue import SendQueue
    from graphql_prod.subscriptions.sockets import Socket


_BARE_ACK: Message = {"type": "connection_ack"}


class Connection:
    """One socket, from its upgrade to its end.

    Only one task reads it. What is sent beside that goes out in small tasks of the send queue, in order.

    :param send_queue: outlives the connection: what says goodbye for it is still on its way then.
    :param hung_up: called when the socket has been closed.
    :ivar ack: the server's acknowledgement; None before it came.
    :ivar listening: whether somebody reads it.
    """

    __slots__ = (
        "_closed",
        "_connector",
        "_hung_up",
        "_keep_alive",
        "_policy",
        "_scope",
        "_send_queue",
        "_silence",
        "_socket",
        "ack",
        "dialect",
        "listening",
        "unread",
    )

    def __init__(
        self,
        connector: Connector,
        policy: SubscriptionPolicy,
        send_queue: SendQueue,
        hung_up: Callable[[Connection], None],
    ) -> None:
        self._connector = connector
        self._policy = policy
        self._send_queue = send_queue
        self._hung_up = hung_up
        self._socket: Socket | None = None
        self._keep_alive: KeepAlive | None = None
        self._scope: asyncio.Timeout | None = None
        self._silence: Exception | None = None
        self._closed = False
        self.unread: Unread = Unread()
        self.dialect: Dialect = dialect_of(None, connector.protocols)
        self.ack: Message | None = None
        self.listening: bool = False

    async def open(self, headers: dict[str, str], hello: str) -> Message:
        """Connect, and wait for the acknowledgement.

        :param hello: the message that begins the connection.
        :raises Exception: why there is none.
        """
        socket: Socket | None = None
        try:
            async with asyncio.timeout(self._policy.ack_timeout) as limit:
                socket = await self._connector.open(headers)
                dialect = dialect_of(socket.subprotocol, self._connector.protocols)
                with contextlib.suppress(Exception):  # it has gone: the next look at what came will tell why
                    await socket.send(hello)
                ack = await self._acknowledgement(socket)
        except BaseException as error:
            if isinstance(error, SocketClosed):
                error.init = len(hello)
            if socket is not None:
                self._discard(socket, loss_of(error).to_send if isinstance(error, Exception) else None)
            if type(error) is TimeoutError and limit.expired():
                raise not_acknowledged(self._policy.ack_timeout, upgraded=socket is not None) from error
            raise
        # A socket keeps it as long as it is open, and most say nothing but that.
        self._socket, self.dialect, self.ack = socket, dialect, ack if len(ack) > 1 else _BARE_ACK
        return ack

    async def _acknowledgement(self, socket: Socket) -> Message:
        connector = self._connector
        while True:
            message = read(await socket.receive(), connector.serializer, connector.max_values)
            kind = message["type"]
            if kind == "connection_ack":
                return message
            if kind == "connection_error" or (kind == "error" and message.get("id") is None):
                raise RejectedError(words_of(message.get("payload")))
            if kind == "ping":
                with contextlib.suppress(Exception):  # it has gone: the next look at what came will tell why
                    await socket.send(connector.dumps(pong_message(message)))

    def keep_alive(self) -> None:
        """Ping from now on, and give a socket up that stays silent."""
        socket = self._socket
        assert socket is not None  # noqa: S101 -- just connected
        self._keep_alive = KeepAlive(
            self._policy, self._send_queue.post, self._ping, self._dead, socket.data_at
        )

    async def listen(self, take: Callable[[Message, str | bytes], Awaitable[None]]) -> None:
        """Hand over every message, one after another, until :meth:`close` is called.

        :raises Exception: why the socket has ended.
        """
        socket, keep_alive = self._socket, self._keep_alive
        assert socket is not None and keep_alive is not None  # noqa: S101, PT018 -- just connected
        receive, serializer = socket.receive, self._connector.serializer
        max_values = self._connector.max_values
        by_messages = socket.data_at() is None
        self.listening = True
        try:
            async with asyncio.timeout(None) as self._scope:
                while not self._closed:
                    data = await receive()
                    if by_messages:
                        keep_alive.answered()
                    await take(read(data, serializer, max_values), data)
        except TimeoutError:
            if self._silence is not None:
                raise self._silence from None
            raise
        finally:
            self.listening = False

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """While this lasts nothing is read, and silence means nothing."""
        keep_alive = self._keep_alive
        if keep_alive is None:
            yield
            return
        keep_alive.hold()
        try:
            yield
        finally:
            keep_alive.go_on()

    async def send(self, text: str) -> None:
        """Send a message.

        :raises Exception: the socket does not take it.
        """
        if self._socket is not None:
            await self._socket.send(text)

    def stop(self, key: str) -> None:
        """Tell the server that a subscription has ended, in the background."""
        self._post(self._connector.dumps(stop_message(self.dialect, key)))
        if self.unread.suspicious:
            self._send_queue.post(self._look_at_unread())

    def answer_ping(self, message: Message) -> None:
        """Answer a ping of the server's, in the background."""
        self._post(self._connector.dumps(pong_message(message)))

    def _post(self, text: str) -> None:
        if self._socket is not None:
            self._send_queue.post(self._socket.send(text), self.unread, len(text))

    def not_taken(self, error: Exception) -> None:
        """A message that subscribes did not go out. Whoever reads knows why in a moment, or it never will."""
        if self._scope is None or not self.listening:
            return
        self._silence = SilenceError(
            f"did not take the message that subscribes ({type(error).__name__})",
            "Look at the transport, or at what is between.",
            "write",
        )
        self._scope.reschedule(asyncio.get_running_loop().time() + IN_HASTE)

    def interrupt(self, why: Exception) -> None:
        """End it now, with an exception that says why."""
        if self._scope is not None and not self._closed:
            self._silence = why
            self._scope.reschedule(asyncio.get_running_loop().time())

    def close(self, code: int | None = None) -> None:
        """Close it in the background; again does nothing.

        A dead peer answers nothing, and the next socket need not wait for that. Not by a cancel: it makes
        aiohttp drop the connection, and what was just sent is lost with it.
        """
        self._closed = True
        socket, self._socket = self._socket, None
        if self._keep_alive is not None:
            self._keep_alive.stop()
        if socket is not None:
            self._discard(socket, code)

    def _discard(self, socket: Socket, code: int | None) -> None:
        self._connector.closed()
        self._send_queue.post(self._hang_up(socket, code or 1000))

    async def _hang_up(self, socket: Socket, code: int) -> None:
        try:
            # aiohttp's own limit begins anew with each message.
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await socket.close(code)
        finally:
            self._hung_up(self)

    async def _ping(self) -> None:
        socket, keep_alive = self._socket, self._keep_alive
        if socket is None or keep_alive is None:
            return
        if self.dialect.pings:
            await socket.send(self._connector.dumps({"type": "ping"}))
        else:
            await socket.ping(keep_alive.answered)

    def _dead(self) -> None:
        if self._scope is None:
            return
        self._silence = SilenceError(
            f"did not answer a ping within {self._policy.pong_timeout:g} s",
            "Look for a connection that was dropped in between.",
            "read",
        )
        self._scope.reschedule(asyncio.get_running_loop().time())

    async def _look_at_unread(self) -> None:
        """Whether the other side takes what it is told of those that have left."""
        try:
            await self.unread.check()
        except UnreadError as error:
            if self._scope is not None and not self._closed:
                self._silence = error
                self._scope.reschedule(asyncio.get_running_loop().time())
