"""A connection that outlives its sockets: opens one after another, and reads them for its members."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from graphql_prod import clock
from graphql_prod.errors import SubscriptionClosedError
from graphql_prod.subscriptions.backoff import ReconnectBackoff
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.keep_alive import KeepAlive
from graphql_prod.subscriptions.protocol import (
    CONTROL,
    ENDINGS,
    EVENTS,
    Message,
    dialect_of,
    pong_message,
    read,
    stop_message,
)
from graphql_prod.subscriptions.reconnect import (
    OVERSIZED,
    ConnectionLost,
    CredentialsRefusedError,
    ReconnectDecision,
    RejectedError,
    SilenceError,
    SocketClosed,
    blaming,
    loss_of,
    not_acknowledged,
    should_reconnect,
)
from graphql_prod.subscriptions.rest import Rest
from graphql_prod.subscriptions.send_queue import SendQueue, Unread, UnreadError
from graphql_prod.subscriptions.shapes import is_event, words_of
from graphql_prod.subscriptions.sockets import CLOSE_TIMEOUT, IN_HASTE
from graphql_prod.subscriptions.subscriber import ended_from_outside
from graphql_prod.texts.redaction import conceal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.manager import ConnectionManager
    from graphql_prod.subscriptions.protocol import Dialect
    from graphql_prod.subscriptions.sockets import Socket
    from graphql_prod.subscriptions.subscriber import Subscriber

logger = logging.getLogger("graphql_prod")


class Connection:
    """One socket at a time, for one subscription or for many that share it.

    Its task is the only one that reads. Members come and go without awaiting; what has to be sent for them
    goes out in small tasks of its own, in order.

    :ivar members: the subscriptions, by the id that they have on the wire.
    """

    __slots__ = (
        "_ack",
        "_backoff",
        "_begun",
        "_expiry",
        "_in_haste",
        "_listening",
        "_lost",
        "_outbox",
        "_over",
        "_policy",
        "_pulse",
        "_reconnects",
        "_renewed",
        "_rest",
        "_scope",
        "_silence",
        "_socket",
        "_starts",
        "_tried",
        "_unread",
        "_warned",
        "dialect",
        "elder",
        "hub",
        "key",
        "loop",
        "members",
        "opener",
        "task",
    )

    def __init__(self, hub: ConnectionManager, opener: Connector, key: tuple[object, ...] | None) -> None:
        self.hub = hub
        self.key = key
        self.members: dict[str, Subscriber] = {}
        self.dialect: Dialect = dialect_of(None, opener.protocols)
        self.opener = opener
        self._policy = hub.policy
        self._backoff = ReconnectBackoff(hub.policy)
        self._rest = Rest()
        self._socket: Socket | None = None
        self._pulse: KeepAlive | None = None
        self._scope: asyncio.Timeout | None = None
        self._silence: SilenceError | UnreadError | None = None
        self._unread = Unread()
        self._outbox = SendQueue(opener.host)
        self._starts = SendQueue(opener.host)
        """What asks for events; given up with the socket that it asks over."""
        self._expiry: asyncio.TimerHandle | None = None
        self._ack: Message | None = None
        self._warned = False
        self._renewed = False
        self.elder: Connection | None = None
        """The line whose credentials were refused before this one was begun."""
        self._over = False
        self._in_haste = False
        self._listening = False
        self._lost: ConnectionLost | None = None
        self._begun = clock.monotonic()
        """When connecting began: at the first attempt, or when the last socket was lost."""
        self._tried = 0
        """Attempts since then."""
        self._reconnects = 0
        """Attempts to reconnect, since a connection was last stable."""
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.Task(self._run(), loop=self.loop)
        self.task.add_done_callback(self._ended)  # one cancelled before it began runs no ``finally``

    @property
    def shared(self) -> bool:
        """Whether other subscriptions may join."""
        return self.key is not None

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self._over

    @property
    def connected(self) -> bool:
        """Whether there is a socket, which takes a moment to close."""
        return self._socket is not None

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""
        return self.opener.host

    # What members do; nothing of it awaits.

    def join(self, member: Subscriber, missed: SubscriptionGap | None = None) -> None:
        """Take a subscription on; it begins at once if a socket is open, and else wakes who waits.

        :param missed: what it has missed, where it comes from another line.
        """
        self.members[member.key] = member
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._socket is not None and self._ack is not None:
            again = member.established
            member.acknowledged(missed or SubscriptionGap(), self._ack)
            self._begin_start(self._socket, [(member, again)])
        else:
            self._rest.wake()

    def take_over(self, member: Subscriber, before: Connection) -> None:
        """Go on with a subscription whose connection was lost by another line."""
        if not self.members:
            self._lost, self._begun, self._tried = before._lost, before._begun, before._tried - 1
        self.join(member, before._missed())

    def leave(self, member: Subscriber) -> None:
        """Let a subscription go, and tell the server if it knows of it."""
        if self.members.pop(member.key, None) is None:
            return
        if member.subscribed and self._socket is not None:
            member.subscribed = False
            text = self.opener.dumps(stop_message(self.dialect, member.key))
            self._outbox.post(self._socket.send(text), self._unread, len(text))
            if self._unread.suspicious:
                self._outbox.post(self._look_at_unread(self._unread))
        if not self.members:
            self._close_soon()

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """While this lasts nothing is read, and silence means nothing."""
        pulse = self._pulse
        if pulse is None:
            yield
            return
        pulse.hold()
        try:
            yield
        finally:
            pulse.go_on()

    def _close_soon(self) -> None:
        if not self.shared or self.hub.draining or self._socket is None:
            self.close()
        elif self._expiry is None:
            self._expiry = self.loop.call_later(self._policy.linger, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if not self.members:
            self.close()

    def close(self) -> None:
        """Come to an end, now that nobody is left."""
        if self._over:
            return
        self._over = True
        self.hub.forget(self)
        if self._socket is not None:
            # Not by a cancel: it makes aiohttp drop the connection, and what was just sent is lost with it.
            self._drop_socket()
        elif asyncio.current_task() is not self.task:
            self.task.cancel()

    def close_if_idle(self) -> None:
        """Do not linger."""
        if not self.members:
            self.close()

    def cut(self) -> None:
        """Come to an end without waiting for anybody."""
        self._over = self._in_haste = True
        self._outbox.cancel()
        self.task.cancel()

    # The task.

    async def _run(self) -> None:
        try:
            while not self._over:
                loss = await self._live()
                if loss is not None and not self._over:
                    await self._go_on(loss)
        except asyncio.CancelledError:
            if not self._over:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # our own doing
        except Exception:
            logger.exception("the connection of subscriptions to %s failed", self.host)
            raise
        finally:
            self._over = True
            self.hub.forget(self)
            self._abandon_members()
            await self._say_goodbye()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.elder = None
        self._over = True
        self.hub.forget(self)
        self._abandon_members()
        self.hub.ended(self)
        if not task.cancelled():
            task.exception()  # it was logged

    async def _live(self) -> ConnectionLost | None:
        """One socket, from its upgrade to its end; None if it was ended by us."""
        if early := self._backoff.early():
            await self._rest.take(early, early)
        self._backoff.began()
        self._tried += 1
        self._reconnects += self._lost is not None
        try:
            await self._connect()
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``verdict``
            return loss_of(error, self.hub.refusals)
        up_since = clock.monotonic()
        loss: ConnectionLost | None = None
        try:
            await self._listen()
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``verdict``
            loss = loss_of(error, self.hub.refusals)
            if loss.close_code == OVERSIZED:
                loss = blaming(loss, self._unanswered())
        finally:
            self._drop_socket(None if loss is None else loss.to_send)
        if clock.monotonic() - up_since >= self._policy.stable_after:
            self._backoff.forget()
            self._renewed = False
            self.opener.proven = True
            self._reconnects = 0
        self._lost, self._begun, self._tried = loss, clock.monotonic(), 0
        for member in self.members.values():
            member.lost(self._policy.stable_after)
        return loss

    def _drop_socket(self, code: int | None = None) -> None:
        socket, self._socket = self._socket, None
        self._starts.cancel()
        if self._pulse is not None:
            self._pulse.stop()
        if socket is not None:
            self._discard(socket, code)

    def _discard(self, socket: Socket, code: int | None = None) -> None:
        """Close in the background: a dead peer answers nothing, the next socket need not wait for that."""
        self.opener.closed()
        self._outbox.post(self._hang_up(socket, code or 1000))

    async def _hang_up(self, socket: Socket, code: int) -> None:
        try:
            # aiohttp's own limit begins anew with each message.
            async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                await socket.close(code)
        finally:
            if self._over and self._listening:
                self.task.cancel()  # a transport of the caller's that goes on waiting all the same

    async def _connect(self) -> None:
        first, *_ = self.members.values()
        headers = await self._headers(first)
        init = await self.opener.init(headers, None if self.shared else first.context)
        try:
            hello = self.opener.dumps(init)
        except Exception as error:
            raise self._unsendable(error) from error
        socket: Socket | None = None
        try:
            async with asyncio.timeout(self._policy.ack_timeout) as limit:
                socket = await self.opener.open(headers)
                dialect = dialect_of(socket.subprotocol, self.opener.protocols)
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
        self._socket, self.dialect, self._ack = socket, dialect, ack
        self._unread = Unread()
        self._begin(socket, ack)

    async def _headers(self, first: Subscriber) -> dict[str, str]:
        """The headers for the next socket, that of a member; who has others by now goes elsewhere."""
        headers = await self.opener.headers(first.context)
        if self.shared and self.opener.changed:
            for member in list(self.members.values()):
                if member is not first and not self.opener.fits(member.context):
                    self.hub.relocate(member)
            self.hub.reidentify(self, self.opener.identity())
        return headers

    async def _acknowledgement(self, socket: Socket) -> Message:
        while True:
            message = read(await socket.receive(), self.opener.serializer, self.opener.max_values)
            kind = message["type"]
            if kind == "connection_ack":
                return message
            if kind == "connection_error" or (kind == "error" and message.get("id") is None):
                raise RejectedError(words_of(message.get("payload")))
            if kind == "ping":
                await self._say(socket, pong_message(message))

    async def _say(self, socket: Socket, message: Message) -> None:
        with contextlib.suppress(Exception):  # it has gone: the next look at what came will tell why
            await socket.send(self.opener.dumps(message))

    def _begin(self, socket: Socket, ack: Message) -> None:
        """Acknowledged: every member hears of the gap, and subscribes."""
        self._warned = False
        gap = self._gap()
        starting = [(member, member.established) for member in self.members.values()]
        for member, _ in starting:
            member.acknowledged(gap, ack)
        self._pulse = KeepAlive(self._policy, self._outbox.post, self._ping, self._dead, socket.data_at)
        together: list[tuple[Subscriber, bool]] = []
        for member, again in starting:
            if again and member.takes_its_time:
                self._begin_start(socket, [(member, again)])  # nobody waits for another one's cursor
            else:
                together.append((member, again))
        self._begin_start(socket, together)

    def _gap(self) -> SubscriptionGap:
        gap = self._missed()
        if self._lost is None:
            return gap
        self.hub.reconnects += 1
        logger.info(
            "%s: connected again after %.2f s (attempts: %d, subscriptions: %d)",
            self.host,
            gap.down_for,
            gap.attempts,
            len(self.members),
            extra={"host": self.host, "down_for": gap.down_for, "attempts": gap.attempts},
        )
        return gap

    def _missed(self) -> SubscriptionGap:
        lost = self._lost
        if lost is None:
            return SubscriptionGap()
        down_for = clock.monotonic() - self._begun
        return SubscriptionGap(lost.close_code, lost.close_reason, down_for, self._tried)

    def _begin_start(self, socket: Socket, members: list[tuple[Subscriber, bool]]) -> None:
        # Not their size: it is the caller's affair how much a slow link has to carry.
        self._starts.post(self._start(socket, members), self._unread)

    async def _start(self, socket: Socket, members: list[tuple[Subscriber, bool]]) -> None:
        for member, again in members:
            if member.key not in self.members or socket is not self._socket:
                continue
            try:
                text = self.opener.dumps(await member.start_message(self.dialect, again=again))
            except Exception as error:  # noqa: BLE001 -- a codec of the caller's may raise anything
                self.leave(member)
                member.end(self._unsendable(error))
                continue
            if member.key in self.members and socket is self._socket:
                member.subscribed, member.size = True, len(text)
                try:
                    await socket.send(text)
                except Exception as error:
                    self._not_taken(error)
                    raise

    def _not_taken(self, error: Exception) -> None:
        """A start message did not go out. Whoever reads knows why in a moment, or it never will."""
        if self._scope is None or not self._listening:
            return
        self._silence = SilenceError(
            f"did not take the message that subscribes ({type(error).__name__})",
            "Look at the transport, or at what is between.",
            "write",
        )
        self._scope.reschedule(self.loop.time() + IN_HASTE)

    def _unanswered(self) -> dict[str, int]:
        """How long the messages are that asked for subscriptions, where nothing has come for them."""
        waiting = [each for each in self.members.values() if each.subscribed and not each.answered]
        return {each.key: each.size for each in waiting if each.is_new} or {
            each.key: each.size for each in waiting
        }

    def _unsendable(self, error: Exception) -> Exception:
        if isinstance(error, SubscriptionClosedError):
            return error
        closed = SubscriptionClosedError(
            f"The subscription to {self.host} was ended: its message could not be written, a "
            f"{type(error).__name__}. See the cause of this error.",
            close_reason="not serializable",
        )
        closed.__cause__ = error
        return closed

    async def _listen(self) -> None:
        socket, pulse = self._socket, self._pulse
        assert socket is not None and pulse is not None  # noqa: S101, PT018 -- just connected
        receive, serializer = socket.receive, self.opener.serializer
        max_values = self.opener.max_values
        by_messages = socket.data_at() is None
        self._silence = None
        self._listening = True
        try:
            async with asyncio.timeout(None) as self._scope:
                while not self._over:
                    data = await receive()
                    if by_messages:
                        pulse.answered()
                    await self._take(read(data, serializer, max_values), data)
        except TimeoutError:
            if self._silence is not None:
                raise self._silence from None
            raise
        finally:
            self._listening = False

    async def _take(self, message: Message, data: str | bytes) -> None:
        kind = message["type"]
        if kind in EVENTS:
            member = self._addressee(message)
            if member is not None:
                if not member.answered:
                    if self._is_refusal(message) and self._renews(member, message):
                        return
                    member.answered = True
                payload = message.get("payload")
                if not (
                    type(payload) is dict and type(payload.get("data")) is dict and "errors" not in payload
                ):
                    if not is_event(payload):
                        self.leave(member)
                        member.end(member.invalid(payload))
                        return
                    if self._is_refusal(message):
                        member.suspect(message, data)
                self.hub.events += 1
                if member.span is not None:
                    member.span.event()
                await member.take(member.receive(message), data)
            else:
                logger.debug("%s: an event for a subscription that has ended", self.host)
        elif kind in ENDINGS:
            self._finish(message)
        elif kind in CONTROL:
            self._control(kind, message, data)
            await self._unread.check()
        else:
            self._unknown(message, data)

    def _addressee(self, message: Message) -> Subscriber | None:
        key = message.get("id")
        if key is None and message["type"] == "error":
            return self._only_one(message)
        return self.members.get(key) if type(key) is str else None

    def _only_one(self, message: Message) -> Subscriber | None:
        """Whose an error is that names no subscription: of the only one, if there is only one."""
        if len(self.members) != 1:
            logger.warning("%s: an error that names none of the subscriptions is ignored", self.host)
            return None
        [member] = self.members.values()
        message["id"] = member.key
        return member

    def _finish(self, message: Message) -> None:
        member = self._addressee(message)
        if member is None:
            return
        member.subscribed = False
        refusal = message if message["type"] == "error" else member.refusal
        if refusal is not None and self._renews(member, refusal):
            return
        if message["type"] == "error" and member.span is not None:
            member.span.refused()
        self.leave(member)
        member.mailbox.put(member.receive(message))
        member.end()

    @staticmethod
    def _is_refusal(message: Message) -> bool:
        """Whether an event has errors and no data."""
        payload = message.get("payload")
        if not isinstance(payload, dict) or not payload.get("errors"):
            return False
        data = payload.get("data")
        return data is None or (isinstance(data, dict) and all(value is None for value in data.values()))

    def _renews(self, member: Subscriber, message: Message) -> bool:
        """Subscribe anew with other credentials if it was those that were refused, and there are others.

        :raises CredentialsRefusedError: they are for another socket of this line.
        """
        if not self.opener.renewable or not self.hub.refusals.in_payload(message.get("payload")):
            return False
        if not member.may_renew(self._policy.stable_after):
            self.hub.renewed_in_vain(self)
            return False
        if self.hub.draining or self.hub.is_in_vain(self.opener):
            return False
        if self.shared and (len(self.members) > 1 or self.hub.is_superseded(self)):
            return self.hub.move(member)
        member.refused()
        self._renewed = False  # for it they were not, or long ago
        raise CredentialsRefusedError

    def _control(self, kind: str, message: Message, data: str | bytes) -> None:
        if kind == "connection_error":
            raise RejectedError(words_of(message.get("payload")))
        if kind == "ping" and self._socket is not None:
            text = self.opener.dumps(pong_message(message))
            self._outbox.post(self._socket.send(text), self._unread, len(text))
        for member in self.members.values():
            member.take_control(message, data)

    def _unknown(self, message: Message, data: str | bytes) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("%s: messages of an unknown type are ignored", self.host)
        for member in self.members.values():
            member.take_control(message, data)

    # After the end of a socket.

    async def _go_on(self, loss: ConnectionLost) -> None:
        """End whose end this is; for the others, wait until it is time for another socket."""
        renewing = self._sentence(loss)
        if not self.members:
            self.close()
            return
        if renewing:
            self._renew(loss)
        wait = 0.0 if renewing else self._backoff.wait(loss.retry_after, self._newest())
        wait = max(wait, self._backoff.early())
        logger.warning(
            "%s %s (subscriptions: %d), the next attempt follows in %.2f s",
            self.host,
            loss.logged or loss.what,
            len(self.members),
            wait,
            extra={
                "host": self.host,
                "reason": loss.logged or loss.close_reason,
                "close_code": loss.close_code,
                "attempt": self._tried,
                "wait": wait,
            },
        )
        await self._rest.take(wait, min(wait, max(loss.retry_after, self._backoff.early())))

    def _newest(self) -> int | None:
        """How often the newest subscription has failed to connect; None if all have been connected."""
        return min((each.failures for each in self.members.values() if not each.established), default=None)

    def _renew(self, loss: ConnectionLost) -> None:
        self._renewed = True
        self.opener.renew()
        for member in self.members.values():
            member.renewed = True
        self.hub.tell_renewal(self, loss.evidence)

    def renewed(self) -> Connection:
        """Another line like this one, with newer credentials."""
        line = Connection(self.hub, self.opener.renewed(), self.key)
        line._renewed, line.elder = True, self
        return line

    def _sentence(self, loss: ConnectionLost) -> bool:
        """Judge every member; True if new credentials shall be tried."""
        renewable = self.opener.may_renew(loss, renewed=self._renewed)
        renewing = False
        for member in list(self.members.values()):
            established = member.established
            member.failures += not established
            verdict = should_reconnect(
                loss, self._policy.fatal_close_codes, established=established, renewable=renewable
            )
            if loss.blamed not in (None, member.key):
                verdict = ReconnectDecision.AGAIN
            if verdict is ReconnectDecision.AGAIN and self._is_spent(member):
                self._end(member, loss, gave_up=established)
            elif verdict is ReconnectDecision.FATAL:
                self._end(member, loss, gave_up=False)
            renewing = renewing or verdict is ReconnectDecision.RENEW
        return renewing

    def _is_spent(self, member: Subscriber) -> bool:
        if not member.established:
            return member.failures >= self._policy.connect_attempts
        limit = self._policy.max_reconnects
        return limit is not None and self._reconnects >= limit

    def _end(self, member: Subscriber, loss: ConnectionLost, *, gave_up: bool) -> None:
        elapsed = clock.monotonic() - self._begun
        plural = "" if self._tried == 1 else "s"
        spent = f"after {self._tried} attempt{plural} in {elapsed:.2f} s" if self._tried else "in mid-stream"
        if gave_up:
            spent += f"; subscriptions.max_reconnects={self._policy.max_reconnects} is reached"
        error = loss.error(self.host, spent, established=member.established)
        conceal(error, self.opener.secrets())
        with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
            error.attempts, error.elapsed = self._tried, elapsed  # type: ignore[attr-defined]
        self.leave(member)
        member.end(error)

    def _abandon_members(self) -> None:
        """Whatever ended the task: nobody shall wait for ever."""
        for member in list(self.members.values()):
            self.leave(member)
            member.end(ended_from_outside(self.host))

    async def _ping(self) -> None:
        socket, pulse = self._socket, self._pulse
        if socket is None or pulse is None:
            return
        if self.dialect.pings:
            await socket.send(self.opener.dumps({"type": "ping"}))
        else:
            await socket.ping(pulse.answered)

    def _dead(self) -> None:
        if self._scope is None:
            return
        self._silence = SilenceError(
            f"did not answer a ping within {self._policy.pong_timeout:g} s",
            "Look for a connection that was dropped in between.",
            "read",
        )
        self._scope.reschedule(self.loop.time())

    async def _look_at_unread(self, unread: Unread) -> None:
        """Whether the other side takes what it is told of those that have left."""
        try:
            await unread.check()
        except UnreadError as error:
            if self._scope is not None and unread is self._unread:
                self._silence = error
                self._scope.reschedule(self.loop.time())

    async def _say_goodbye(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        await self._starts.flush(CLOSE_TIMEOUT)  # given up already: this sees their end
        await self._outbox.flush(IN_HASTE if self._in_haste else 2 * CLOSE_TIMEOUT)
