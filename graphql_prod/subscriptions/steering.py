"""Steers the subscriptions of a channel by hand, by a time-out, or by what the server ends them with."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from graphql_prod.errors import SubscriptionClosedError
from graphql_prod.runtime import logs
from graphql_prod.runtime.contexts import called_in
from graphql_prod.subscriptions.endings import AskedToReconnectError
from graphql_prod.subscriptions.events import SubscriptionGap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphql_prod.subscriptions.connection import Connection
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.subscriber import Subscriber

logger: logging.Logger = logging.getLogger("graphql_prod")

BY_HAND = "reconnect() was called"
ENDED_BY_SERVER = "the server ended the subscription, and restart asks for another one"


class SteeredChannel(Protocol):
    """A channel, as far as it can be steered."""

    loop: asyncio.AbstractEventLoop
    subscribers: dict[str, Subscriber]
    connection: Connection | None

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""

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

    def unregister(self, subscriber: Subscriber) -> None:
        """Let a subscription go, and tell the server if it knows of it."""


def reconnect(channel: SteeredChannel, reason: str = BY_HAND) -> None:
    """Connect anew now, with fresh credentials and payload. On the channel's own loop."""
    if channel.over:
        return
    if channel.connection is None:
        channel.wake()
    else:
        channel.connection.interrupt(AskedToReconnectError(reason))


def has_ended(host: str) -> SubscriptionClosedError:
    """The error of whoever steers a subscription that is over."""
    return SubscriptionClosedError(
        f"The subscription to {host} has ended, and cannot be connected anew. Subscribe again.",
        close_reason="the subscription has ended",
    )


async def reconnected(subscriber: Subscriber, *, wait: bool = True, reason: str = BY_HAND) -> None:
    """Connect the channel of a subscription anew, and wait until that is done. From any loop.

    :param wait: False only asks for it.
    :raises SubscriptionClosedError: it has ended, or ends meanwhile.
    """
    channel: Any = subscriber.channel
    here = asyncio.get_running_loop()
    if channel.loop is here:
        await _reconnected(subscriber, wait=wait, reason=reason)
    elif channel.loop.is_running():
        there = asyncio.run_coroutine_threadsafe(
            _reconnected(subscriber, wait=wait, reason=reason), channel.loop
        )
        await asyncio.wrap_future(there)
    else:
        raise has_ended(channel.host)


async def reconnect_all(channels: Iterable[SteeredChannel]) -> None:
    """Connect channels anew, and wait until that is done.

    A subscription that ends meanwhile tells its own reader, not whoever asked for this.
    """
    first = [list(channel.subscribers.values())[:1] for channel in channels]
    waiting = [reconnected(subscriber) for some in first for subscriber in some]
    await asyncio.gather(*waiting, return_exceptions=True)


async def _reconnected(subscriber: Subscriber, *, wait: bool, reason: str) -> None:
    channel: Any = subscriber.channel
    if channel.over or subscriber.event_queue.ended:
        raise has_ended(channel.host)
    done = subscriber.next_acknowledgement() if wait else None
    reconnect(channel, reason)
    if done is not None and not await done:
        raise subscriber.event_queue.error or has_ended(channel.host)


def resubscribe(channel: SteeredChannel, subscriber: Subscriber, gap: SubscriptionGap, wait: float) -> None:
    """Ask for the events of one subscription of a shared channel anew, after a wait; others hear nothing."""
    connection = channel.connection
    channel.subscribers.pop(subscriber.key, None)
    if subscriber.subscribed and connection is not None:
        subscriber.subscribed = False
        connection.stop(subscriber.key)
    subscriber.key = f"{subscriber.name}.{uuid.uuid4()}"
    subscriber.subscribed = False
    channel.subscribers[subscriber.key] = subscriber
    if wait > 0:
        subscriber.states.become("down", reason=gap.close_reason, next_in=wait)
        channel.loop.call_later(wait, _begin_again, channel, subscriber, subscriber.key, gap)
    else:
        _begin_again(channel, subscriber, subscriber.key, gap)


def _begin_again(channel: SteeredChannel, subscriber: Subscriber, key: str, gap: SubscriptionGap) -> None:
    connection = channel.connection
    if (
        channel.over
        or subscriber.key != key
        or channel.subscribers.get(key) is not subscriber
        or subscriber.subscribed
        or connection is None
        or connection.ack is None
    ):
        return  # it has left, or a new connection subscribes it
    subscriber.acknowledged(gap, connection.ack)
    channel.begin_start(connection, [(subscriber, True)])


def watch_silence(channel: SteeredChannel, subscriber: Subscriber, idle_timeout: float) -> None:
    """Subscribe anew when no event has come for so long. The clock stands still while its queue is full."""

    def look() -> None:
        if channel.over or channel.subscribers.get(subscriber.key) is not subscriber:
            return
        now = channel.loop.time()
        if subscriber.event_queue.is_full(0) or not subscriber.subscribed:
            subscriber.heard_at = now
        left = subscriber.heard_at + idle_timeout - now
        if left > 0:
            subscriber.silence = channel.loop.call_later(left, look)
            return
        subscriber.heard_at = now
        reason = f"no event came for {idle_timeout:g} s (subscriptions.idle_timeout)"
        logger.warning(
            "%s: %s; it is subscribed anew",
            channel.host,
            reason,
            extra=logs.facts(host=channel.host, reason=reason),
        )
        subscriber.silence = channel.loop.call_later(idle_timeout, look)
        if channel.shared:
            resubscribe(channel, subscriber, SubscriptionGap(None, reason, 0.0, 1), 0.0)
        else:
            reconnect(channel, reason)

    subscriber.stop_watching()
    subscriber.heard_at = channel.loop.time()
    subscriber.silence = channel.loop.call_later(idle_timeout, look)


async def is_restarted(subscriber: Subscriber, end: Any, policy: SubscriptionPolicy, host: str) -> bool:
    """Whether a subscription that the server has ended shall be subscribed anew.

    :param end: the event of the server's ``error``; None for its ``complete``.
    """
    restart = subscriber.subscribe_request.restart
    if restart is None:
        return False
    limit = policy.max_reconnects
    if limit is not None and subscriber.restarts >= limit:
        return False
    try:
        async with asyncio.timeout(policy.ack_timeout):
            wanted = await called_in(subscriber.context, restart, end)
        if not isinstance(wanted, bool):
            raise TypeError(f"restart must return True or False, not {type(wanted).__name__}")  # noqa: TRY301
    except Exception as error:
        logger.error(  # noqa: TRY400 -- with its traceback
            "%s: restart of a subscription failed with %s; the subscription ends",
            host,
            type(error).__name__,
            exc_info=error,
            extra=logs.facts(host=host),
        )
        return False
    subscriber.restarts += wanted
    return wanted


def restart_wait(subscriber: Subscriber, policy: SubscriptionPolicy) -> float:
    """Seconds before a subscription is subscribed anew that the server has ended; full jitter."""
    longest = min(policy.wait_max, policy.wait_initial * 2.0 ** min(subscriber.restarts - 1, 32))
    return random.uniform(0, longest)  # noqa: S311 -- no secret
