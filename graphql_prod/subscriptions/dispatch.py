"""What becomes of each message that a connection hands over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from graphql_prod.subscriptions.endings import RejectedError, RestartAskedError
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.protocol import CONTROL, ENDINGS, EVENTS
from graphql_prod.subscriptions.shapes import errors_in, is_event, words_of
from graphql_prod.subscriptions.steering import ENDED_BY_SERVER, is_restarted, restart_wait, resubscribe

if TYPE_CHECKING:
    import asyncio

    from graphql_prod.subscriptions.connection import Connection
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.protocol import Message
    from graphql_prod.subscriptions.subscriber import Subscriber

logger: logging.Logger = logging.getLogger("graphql_prod")


class Counts(Protocol):
    """Where events are counted."""

    events: int

    @property
    def policy(self) -> SubscriptionPolicy:
        """The settings of subscriptions."""


class ReceivingChannel(Protocol):
    """The channel that messages come for."""

    loop: asyncio.AbstractEventLoop
    subscribers: dict[str, Subscriber]
    connection: Connection | None

    @property
    def shared(self) -> bool:
        """Whether other subscriptions may join."""

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""

    def wake(self) -> None:
        """Connect as soon as that may be."""

    def begin_start(self, connection: Connection, subscribers: list[tuple[Subscriber, bool]]) -> None:
        """Ask for the events of some subscriptions."""

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""

    @property
    def manager(self) -> Counts:
        """Where events are counted."""

    def unregister(self, subscriber: Subscriber) -> None:
        """Let a subscription go, and tell the server if it knows of it."""

    def concealed(self, error: Exception) -> Exception:
        """The error, without secrets."""

    def renews(self, subscriber: Subscriber, message: Message) -> bool:
        """Subscribe anew with other credentials if it was those that were refused, and there are others."""


class Dispatcher:
    """Hands every message to the subscription that it is for."""

    __slots__ = ("_channel", "_warned")

    def __init__(self, channel: ReceivingChannel) -> None:
        self._channel = channel
        self._warned = False

    def begin(self) -> None:
        """A new connection is there: what is odd about it is logged once more."""
        self._warned = False

    async def take(self, message: Message, data: str | bytes) -> None:
        """Hand a message over, and how it came.

        :raises Exception: the connection is of no use any more.
        """
        channel = self._channel
        kind = message["type"]
        if kind in EVENTS:
            subscriber = self._addressee(message)
            if subscriber is not None:
                if not subscriber.answered:
                    if self._is_refusal(message) and self._channel.renews(subscriber, message):
                        return
                    subscriber.answered = True
                payload = message.get("payload")
                if not (
                    type(payload) is dict and type(payload.get("data")) is dict and "errors" not in payload
                ):
                    if not is_event(payload):
                        self._channel.unregister(subscriber)
                        subscriber.end(channel.concealed(subscriber.invalid(payload)))
                        return
                    if self._is_refusal(message):
                        subscriber.suspect(message, data)
                channel.manager.events += 1
                if subscriber.span is not None:
                    subscriber.span.event()
                await subscriber.take(subscriber.receive(message), data)
            else:
                logger.debug("%s: an event for a subscription that has ended", self._channel.host)
        elif kind in ENDINGS:
            await self._finish(message)
        elif kind in CONTROL:
            self._control(kind, message, data)
            if channel.connection is not None:
                await channel.connection.unread.check()
        else:
            self._unknown(message, data)

    def _addressee(self, message: Message) -> Subscriber | None:
        key = message.get("id")
        if key is None and message["type"] == "error":
            return self._only_one(message)
        return self._channel.subscribers.get(key) if type(key) is str else None

    def _only_one(self, message: Message) -> Subscriber | None:
        """Whose an error is that names no subscription: of the only one, if there is only one."""
        if len(self._channel.subscribers) != 1:
            logger.warning("%s: an error that names none of the subscriptions is ignored", self._channel.host)
            return None
        [subscriber] = self._channel.subscribers.values()
        message["id"] = subscriber.key
        return subscriber

    async def _finish(self, message: Message) -> None:
        subscriber = self._addressee(message)
        if subscriber is None:
            return
        subscriber.subscribed = False
        refusal = message if message["type"] == "error" else subscriber.refusal
        if refusal is not None and self._channel.renews(subscriber, refusal):
            return
        if subscriber.subscribe_request.restart is not None and await self._restarts(subscriber, message):
            return
        if message["type"] == "error" and subscriber.span is not None:
            subscriber.span.refused(errors_in(message.get("payload")))
        self._channel.unregister(subscriber)
        subscriber.event_queue.put(subscriber.receive(message))
        subscriber.end()

    async def _restarts(self, subscriber: Subscriber, message: Message) -> bool:
        """Subscribe anew what the server has ended, if the program wants that."""
        channel = self._channel
        policy = channel.manager.policy
        end = subscriber.event(subscriber.receive(dict(message))) if message["type"] == "error" else None
        if not await is_restarted(subscriber, end, policy, channel.host):
            return False
        if channel.subscribers.get(subscriber.key) is not subscriber:
            return True  # it has left meanwhile
        if not channel.shared:
            raise RestartAskedError(ENDED_BY_SERVER)
        gap = SubscriptionGap(None, ENDED_BY_SERVER, 0.0, 1)
        resubscribe(channel, subscriber, gap, restart_wait(subscriber, policy))
        return True

    @staticmethod
    def _is_refusal(message: Message) -> bool:
        """Whether an event has errors and no data."""
        payload = message.get("payload")
        if not isinstance(payload, dict) or not payload.get("errors"):
            return False
        data = payload.get("data")
        return data is None or (isinstance(data, dict) and all(value is None for value in data.values()))

    def _control(self, kind: str, message: Message, data: str | bytes) -> None:
        if kind == "connection_error":
            raise RejectedError(words_of(message.get("payload")))
        if kind == "ping" and self._channel.connection is not None:
            self._channel.connection.answer_ping(message)
        for subscriber in self._channel.subscribers.values():
            subscriber.take_control(message, data)

    def _unknown(self, message: Message, data: str | bytes) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("%s: messages of an unknown type are ignored", self._channel.host)
        for subscriber in self._channel.subscribers.values():
            subscriber.take_control(message, data)
