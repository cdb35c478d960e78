"""A channel outlives its connections: it opens one after another, for its subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from graphql_prod import clock
from graphql_prod.errors import SubscriptionClosedError
from graphql_prod.subscriptions.backoff import ReconnectBackoff
from graphql_prod.subscriptions.connection import Connection
from graphql_prod.subscriptions.dispatch import Dispatcher
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.protocol import (
    Message,
    dialect_of,
)
from graphql_prod.subscriptions.reconnect import (
    OVERSIZED,
    ConnectionLost,
    CredentialsRefusedError,
    ReconnectDecision,
    blaming,
    loss_of,
    should_reconnect,
)
from graphql_prod.subscriptions.rest import Rest
from graphql_prod.subscriptions.send_queue import SendQueue
from graphql_prod.subscriptions.sockets import CLOSE_TIMEOUT, IN_HASTE
from graphql_prod.subscriptions.subscriber import ended_from_outside
from graphql_prod.texts.redaction import conceal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.protocol import Dialect
    from graphql_prod.subscriptions.refusals import Refusals
    from graphql_prod.subscriptions.subscriber import Subscriber

logger = logging.getLogger("graphql_prod")


class ChannelOwner(Protocol):
    """What a channel has to know of the manager of them all."""

    policy: SubscriptionPolicy
    refusals: Refusals
    draining: bool
    events: int
    reconnects: int
    dropped: int

    def forget(self, channel: Channel) -> None:
        """Let nobody join a channel any more."""

    def ended(self, channel: Channel) -> None:
        """A channel has ended, its socket with it."""

    def reidentify(self, channel: Channel, identity: object) -> None:
        """A shared channel goes on with other credentials."""

    def relocate(self, subscriber: Subscriber, before: Channel) -> None:
        """Give a subscriber that has other credentials now a channel where they fit."""

    def move(self, subscriber: Subscriber, channel: Channel) -> bool:
        """Put a subscription on a channel with newer credentials."""

    def is_superseded(self, channel: Channel) -> bool:
        """Whether another channel takes those that come."""

    def renewed_in_vain(self, channel: Channel) -> None:
        """Credentials were renewed, and refused to a subscription all the same."""

    def is_in_vain(self, connector: Connector) -> bool:
        """Whether a renewal has just not helped."""

    def report_renewal(self, channel: Channel, evidence: str) -> None:
        """Log why new credentials are asked for."""


class Channel:
    """Opens one connection after another, for one subscription or for many that share it.

    Its task is the only one that reads. Subscribers come and go without awaiting. What has to be sent for
    them goes out in small tasks, in order.

    :ivar subscribers: the subscriptions, by the id that they have on the wire.
    """

    __slots__ = (
        "_backoff",
        "_begun",
        "_dispatcher",
        "_expiry",
        "_in_haste",
        "_lost",
        "_over",
        "_policy",
        "_reconnects",
        "_renewed",
        "_rest",
        "_send_queue",
        "_starts",
        "_tried",
        "connection",
        "connector",
        "dialect",
        "elder",
        "key",
        "loop",
        "manager",
        "subscribers",
        "task",
    )

    def __init__(self, manager: ChannelOwner, connector: Connector, key: tuple[object, ...] | None) -> None:
        self.manager = manager
        self.key = key
        self.subscribers: dict[str, Subscriber] = {}
        self.dialect: Dialect = dialect_of(None, connector.protocols)
        self.connector = connector
        self._policy = manager.policy
        self._backoff = ReconnectBackoff(manager.policy)
        self._rest = Rest()
        self.connection: Connection | None = None
        self._dispatcher = Dispatcher(self)
        self._send_queue = SendQueue(connector.host)
        self._starts = SendQueue(connector.host)
        """What asks for events; given up with the socket that it asks over."""
        self._expiry: asyncio.TimerHandle | None = None
        self._renewed = False
        self.elder: Channel | None = None
        """The channel whose credentials were refused before this one was begun."""
        self._over = False
        self._in_haste = False
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
        return self.connection is not None

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""
        return self.connector.host

    @property
    def serializer(self) -> GraphQLSerializer:
        """What reads messages."""
        return self.connector.serializer

    def count_drop(self) -> None:
        """An event was thrown away."""
        self.manager.dropped += 1

    # What subscribers do; nothing of it awaits.

    def join(self, subscriber: Subscriber, missed: SubscriptionGap | None = None) -> None:
        """Take a subscription on; it begins at once if a socket is open, and else wakes who waits.

        :param missed: what it has missed, where it comes from another channel.
        """
        self.subscribers[subscriber.key] = subscriber
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        connection = self.connection
        if connection is not None and connection.ack is not None:
            again = subscriber.established
            subscriber.acknowledged(missed or SubscriptionGap(), connection.ack)
            self._begin_start(connection, [(subscriber, again)])
        else:
            self._rest.wake()

    def take_over(self, subscriber: Subscriber, before: Channel) -> None:
        """Go on with a subscription whose connection was lost by another channel."""
        if not self.subscribers:
            self._lost, self._begun, self._tried = before._lost, before._begun, before._tried - 1
        self.join(subscriber, before._missed())

    def unregister(self, subscriber: Subscriber) -> None:
        """Let a subscription go, and tell the server if it knows of it."""
        if self.subscribers.pop(subscriber.key, None) is None:
            return
        if subscriber.subscribed and self.connection is not None:
            subscriber.subscribed = False
            self.connection.stop(subscriber.key)
        if not self.subscribers:
            self._close_soon()

    def held_back(self) -> AbstractContextManager[None]:
        """While this lasts nothing is read, and silence means nothing."""
        return contextlib.nullcontext() if self.connection is None else self.connection.held_back()

    def _close_soon(self) -> None:
        if not self.shared or self.manager.draining or self.connection is None:
            self.close()
        elif self._expiry is None:
            self._expiry = self.loop.call_later(self._policy.linger, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if not self.subscribers:
            self.close()

    def close(self) -> None:
        """Come to an end, now that nobody is left."""
        if self._over:
            return
        self._over = True
        self.manager.forget(self)
        if self.connection is not None:
            self._drop(self.connection)
        elif asyncio.current_task() is not self.task:
            self.task.cancel()

    def close_if_idle(self) -> None:
        """Do not linger."""
        if not self.subscribers:
            self.close()

    def abort(self) -> None:
        """Come to an end without waiting for anybody."""
        self._over = self._in_haste = True
        self._send_queue.cancel()
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
            self.manager.forget(self)
            self._end_subscribers()
            await self._say_goodbye()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.elder = None
        self._over = True
        self.manager.forget(self)
        self._end_subscribers()
        self.manager.ended(self)
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
            connection = await self._connect()
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``decision``
            return loss_of(error, self.manager.refusals)
        up_since = clock.monotonic()
        loss: ConnectionLost | None = None
        try:
            await connection.listen(self._dispatcher.take)
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``decision``
            loss = loss_of(error, self.manager.refusals)
            if loss.close_code == OVERSIZED:
                loss = blaming(loss, self._unanswered())
        finally:
            self._drop(connection, None if loss is None else loss.to_send)
        if clock.monotonic() - up_since >= self._policy.stable_after:
            self._backoff.forget()
            self._renewed = False
            self.connector.proven = True
            self._reconnects = 0
        self._lost, self._begun, self._tried = loss, clock.monotonic(), 0
        for subscriber in self.subscribers.values():
            subscriber.lost(self._policy.stable_after)
        return loss

    def _drop(self, connection: Connection, code: int | None = None) -> None:
        self.connection = None
        self._starts.cancel()
        connection.close(code)

    def _hung_up(self, connection: Connection) -> None:
        if self._over and connection.listening:
            self.task.cancel()  # a transport of the caller's that goes on waiting all the same

    async def _connect(self) -> Connection:
        first, *_ = self.subscribers.values()
        headers = await self._headers(first)
        init = await self.connector.init(headers, None if self.shared else first.context)
        try:
            hello = self.connector.dumps(init)
        except Exception as error:
            raise self._unsendable(error) from error
        connection = Connection(self.connector, self._policy, self._send_queue, self._hung_up)
        ack = await connection.open(headers, hello)
        self.connection, self.dialect = connection, connection.dialect
        self._begin(connection, ack)
        return connection

    async def _headers(self, first: Subscriber) -> dict[str, str]:
        """The headers for the next socket, that of a subscriber; who has others by now goes elsewhere."""
        headers = await self.connector.headers(first.context)
        if self.shared and self.connector.changed:
            for subscriber in list(self.subscribers.values()):
                if subscriber is not first and not self.connector.fits(subscriber.context):
                    self.manager.relocate(subscriber, self)
            self.manager.reidentify(self, self.connector.identity())
        return headers

    def _begin(self, connection: Connection, ack: Message) -> None:
        """Acknowledged: every subscriber hears of the gap, and subscribes."""
        self._dispatcher.begin()
        gap = self._gap()
        starting = [(subscriber, subscriber.established) for subscriber in self.subscribers.values()]
        for subscriber, _ in starting:
            subscriber.acknowledged(gap, ack)
        connection.keep_alive()
        together: list[tuple[Subscriber, bool]] = []
        for subscriber, again in starting:
            if again and subscriber.takes_its_time:
                self._begin_start(connection, [(subscriber, again)])  # nobody waits for another one's cursor
            else:
                together.append((subscriber, again))
        self._begin_start(connection, together)

    def _gap(self) -> SubscriptionGap:
        gap = self._missed()
        if self._lost is None:
            return gap
        self.manager.reconnects += 1
        logger.info(
            "%s: connected again after %.2f s (attempts: %d, subscriptions: %d)",
            self.host,
            gap.down_for,
            gap.attempts,
            len(self.subscribers),
            extra={"host": self.host, "down_for": gap.down_for, "attempts": gap.attempts},
        )
        return gap

    def _missed(self) -> SubscriptionGap:
        lost = self._lost
        if lost is None:
            return SubscriptionGap()
        down_for = clock.monotonic() - self._begun
        return SubscriptionGap(lost.close_code, lost.close_reason, down_for, self._tried)

    def _begin_start(self, connection: Connection, subscribers: list[tuple[Subscriber, bool]]) -> None:
        # Not their size: it is the caller's affair how much a slow link has to carry.
        self._starts.post(self._start(connection, subscribers), connection.unread)

    async def _start(self, connection: Connection, subscribers: list[tuple[Subscriber, bool]]) -> None:
        for subscriber, again in subscribers:
            if subscriber.key not in self.subscribers or connection is not self.connection:
                continue
            try:
                text = self.connector.dumps(await subscriber.start_message(self.dialect, again=again))
            except Exception as error:  # noqa: BLE001 -- a codec of the caller's may raise anything
                self.unregister(subscriber)
                subscriber.end(self._unsendable(error))
                continue
            if subscriber.key in self.subscribers and connection is self.connection:
                subscriber.subscribed, subscriber.size = True, len(text)
                try:
                    await connection.send(text)
                except Exception as error:
                    connection.not_taken(error)
                    raise

    def _unanswered(self) -> dict[str, int]:
        """How long the messages are that asked for subscriptions, where nothing has come for them."""
        waiting = [each for each in self.subscribers.values() if each.subscribed and not each.answered]
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

    def renews(self, subscriber: Subscriber, message: Message) -> bool:
        """Subscribe anew with other credentials if it was those that were refused, and there are others.

        :raises CredentialsRefusedError: they are for another socket of this channel.
        """
        if not self.connector.renewable or not self.manager.refusals.in_payload(message.get("payload")):
            return False
        if not subscriber.may_renew(self._policy.stable_after):
            self.manager.renewed_in_vain(self)
            return False
        if self.manager.draining or self.manager.is_in_vain(self.connector):
            return False
        if self.shared and (len(self.subscribers) > 1 or self.manager.is_superseded(self)):
            return self.manager.move(subscriber, self)
        subscriber.refused()
        self._renewed = False  # for it they were not, or long ago
        raise CredentialsRefusedError

    # After the end of a socket.

    async def _go_on(self, loss: ConnectionLost) -> None:
        """End whose end this is; for the others, wait until it is time for another socket."""
        renewing = self._sentence(loss)
        if not self.subscribers:
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
            len(self.subscribers),
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
        return min(
            (each.failures for each in self.subscribers.values() if not each.established), default=None
        )

    def _renew(self, loss: ConnectionLost) -> None:
        self._renewed = True
        self.connector.renew()
        for subscriber in self.subscribers.values():
            subscriber.renewed = True
        self.manager.report_renewal(self, loss.evidence)

    def renewed(self) -> Channel:
        """Another channel like this one, with newer credentials."""
        channel = Channel(self.manager, self.connector.renewed(), self.key)
        channel._renewed, channel.elder = True, self
        return channel

    def _sentence(self, loss: ConnectionLost) -> bool:
        """Decide on every subscriber; True if new credentials shall be tried."""
        renewable = self.connector.may_renew(loss, renewed=self._renewed)
        renewing = False
        for subscriber in list(self.subscribers.values()):
            established = subscriber.established
            subscriber.failures += not established
            decision = should_reconnect(
                loss, self._policy.fatal_close_codes, established=established, renewable=renewable
            )
            if loss.blamed not in (None, subscriber.key):
                decision = ReconnectDecision.AGAIN
            if decision is ReconnectDecision.AGAIN and self._is_spent(subscriber):
                self._end(subscriber, loss, gave_up=established)
            elif decision is ReconnectDecision.FATAL:
                self._end(subscriber, loss, gave_up=False)
            renewing = renewing or decision is ReconnectDecision.RENEW
        return renewing

    def _is_spent(self, subscriber: Subscriber) -> bool:
        if not subscriber.established:
            return subscriber.failures >= self._policy.connect_attempts
        limit = self._policy.max_reconnects
        return limit is not None and self._reconnects >= limit

    def _end(self, subscriber: Subscriber, loss: ConnectionLost, *, gave_up: bool) -> None:
        elapsed = clock.monotonic() - self._begun
        plural = "" if self._tried == 1 else "s"
        spent = f"after {self._tried} attempt{plural} in {elapsed:.2f} s" if self._tried else "in mid-stream"
        if gave_up:
            spent += f"; subscriptions.max_reconnects={self._policy.max_reconnects} is reached"
        error = loss.error(self.host, spent, established=subscriber.established)
        conceal(error, self.connector.secrets())
        with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
            error.attempts, error.elapsed = self._tried, elapsed  # type: ignore[attr-defined]
        self.unregister(subscriber)
        subscriber.end(error)

    def _end_subscribers(self) -> None:
        """Whatever ended the task: nobody shall wait for ever."""
        for subscriber in list(self.subscribers.values()):
            self.unregister(subscriber)
            subscriber.end(ended_from_outside(self.host))

    async def _say_goodbye(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        await self._starts.flush(CLOSE_TIMEOUT)  # given up already: this sees their end
        await self._send_queue.flush(IN_HASTE if self._in_haste else 2 * CLOSE_TIMEOUT)
