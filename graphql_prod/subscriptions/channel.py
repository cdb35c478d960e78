"""A channel outlives its connections: it opens one after another, for its subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from graphql_prod import clock
from graphql_prod.subscriptions.connection import Connection
from graphql_prod.subscriptions.dispatch import Dispatcher
from graphql_prod.subscriptions.endings import CredentialsRefusedError
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.losses import OVERSIZED, ConnectionLost, blaming, loss_of
from graphql_prod.subscriptions.moves import ended_from_outside, unsendable
from graphql_prod.subscriptions.outage import Outage
from graphql_prod.subscriptions.protocol import (
    Message,
    dialect_of,
)
from graphql_prod.subscriptions.send_queue import SendQueue
from graphql_prod.subscriptions.sockets import CLOSE_TIMEOUT, IN_HASTE
from graphql_prod.subscriptions.steering import watch_silence
from graphql_prod.texts.redaction import conceal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.subscriptions.channel_owner import ChannelOwner
    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.protocol import Dialect
    from graphql_prod.subscriptions.subscriber import Subscriber

logger: logging.Logger = logging.getLogger("graphql_prod")


class Channel:
    """Opens one connection after another, for one subscription or for many that share it.

    Only its task reads. Subscribers come and go without awaiting: small tasks send for them, in order.

    :ivar subscribers: the subscriptions, by the id that they have on the wire.
    """

    __slots__ = (
        "_dispatcher",
        "_expiry",
        "_in_haste",
        "_outage",
        "_over",
        "_policy",
        "_send_queue",
        "_starts",
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
        self.manager: ChannelOwner = manager
        self.key: tuple[object, ...] | None = key
        self.subscribers: dict[str, Subscriber] = {}
        self.dialect: Dialect = dialect_of(None, connector.protocols)
        self.connector: Connector = connector
        self._policy = manager.policy
        self._outage = Outage(self, manager.policy)
        self.connection: Connection | None = None
        self._dispatcher = Dispatcher(self)
        self._send_queue = SendQueue(connector.host)
        self._starts = SendQueue(connector.host)
        """What asks for events; given up with the socket that it asks over."""
        self._expiry: asyncio.TimerHandle | None = None
        self.elder: Channel | None = None
        """The channel whose credentials were refused before this one was begun."""
        self._over = False
        self._in_haste = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] = asyncio.Task(self._run(), loop=self.loop)
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

    def wake(self) -> None:
        """Connect as soon as that may be."""
        self._outage.wake()

    def count_drop(self) -> None:
        """An event was thrown away."""
        self.manager.dropped += 1

    def concealed(self, error: Exception) -> Exception:
        """The error, without the secrets that a server, or a function of the caller's, may repeat in it."""
        conceal(error, self.connector.secrets())
        return error

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
            self.begin_start(connection, [(subscriber, again)])
        else:
            self._outage.wake()

    def take_over(self, subscriber: Subscriber, before: Channel) -> None:
        """Go on with a subscription whose connection was lost by another channel."""
        if not self.subscribers:
            self._outage.take_over(before._outage)
        self.join(subscriber, before._outage.missed())

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

    async def _run(self) -> None:
        try:
            while not self._over:
                loss = await self._live()
                if loss is not None and not self._over:
                    await self._outage.pass_over(loss)
                    if not self.subscribers:
                        self.close()
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
        await self._outage.begin_attempt()
        try:
            connection = await self._connect()
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``losses``
            return loss_of(error, self.manager.refusals)
        up_since = clock.monotonic()
        loss: ConnectionLost | None = None
        try:
            await connection.listen(self._dispatcher.take)
        except Exception as error:  # noqa: BLE001 -- sorted by the border in ``losses``
            loss = loss_of(error, self.manager.refusals)
            if loss.close_code == OVERSIZED:
                loss = blaming(loss, self._unanswered())
        finally:
            self._drop(connection, None if loss is None else loss.to_send)
        self._outage.begin(loss, up_since)
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
        await self.connector.locate(first.context)
        headers = await self._headers(first)
        init = await self.connector.init(headers, None if self.shared else first.context)
        try:
            hello = self.connector.dumps(init)
        except Exception as error:
            raise unsendable(self.host, error) from error
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
        gap = self._outage.end()
        starting = [(subscriber, subscriber.established) for subscriber in self.subscribers.values()]
        for subscriber, _ in starting:
            subscriber.acknowledged(gap, ack)
        connection.keep_alive()
        together: list[tuple[Subscriber, bool]] = []
        for subscriber, again in starting:
            if again and subscriber.takes_its_time:
                self.begin_start(connection, [(subscriber, again)])  # nobody waits for another one's cursor
            else:
                together.append((subscriber, again))
        self.begin_start(connection, together)

    def begin_start(self, connection: Connection, subscribers: list[tuple[Subscriber, bool]]) -> None:
        """Ask for the events of some subscriptions."""
        if self._policy.idle_timeout is not None:
            for subscriber, _ in subscribers:
                watch_silence(self, subscriber, self._policy.idle_timeout)
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
                subscriber.end(self.concealed(unsendable(self.host, error)))
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
        self._outage.renewed = False  # for it they were not, or long ago
        raise CredentialsRefusedError

    def renewed(self) -> Channel:
        """Another channel like this one, with newer credentials."""
        channel = Channel(self.manager, self.connector.renewed(), self.key)
        channel._outage.renewed, channel.elder = True, self
        return channel

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
