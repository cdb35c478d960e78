"""All subscriptions of a client: which channels there are, who shares one, how many sockets there may be."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import uuid
from typing import TYPE_CHECKING, Protocol

from graphql_prod import clock
from graphql_prod.errors import SubscriptionLimitError
from graphql_prod.loops import call_on
from graphql_prod.runtime import forks, logs
from graphql_prod.subscriptions.channel import Channel
from graphql_prod.subscriptions.connector import Connector
from graphql_prod.subscriptions.payload import payload_key
from graphql_prod.subscriptions.protocol import Parsed
from graphql_prod.subscriptions.refusals import Refusals
from graphql_prod.subscriptions.room import room_of_a_callers
from graphql_prod.subscriptions.states import StateKeeper
from graphql_prod.subscriptions.steering import reconnect_all
from graphql_prod.subscriptions.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiographql.client import GraphQLRequest
    from aiographql.client.transport import GraphQLSubscriptionTransport

    from graphql_prod.runtime.logs import FloodGate
    from graphql_prod.subscriptions.context import SubscribeRequest, SubscriptionContext
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.states import OnState

logger: logging.Logger = logging.getLogger("graphql_prod")

# Seconds for which a renewal that did not help is not asked for again.
IN_VAIN = 30.0


class Reader(Protocol):
    """Who empties a queue: the callbacks of a subscription, or a stream."""

    loop: asyncio.AbstractEventLoop
    subscriber: Subscriber

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order: acknowledged once, and nothing of it cut."""

    def drain(self) -> None:
        """Take nothing new; come to an end after what waits."""

    def abort(self) -> None:
        """Come to an end now."""

    def is_caller(self) -> bool:
        """Whether it is this reader's own code that is running."""

    def disown(self) -> object:
        """In a child that was forked: it has ended, nothing is done for that. Returns what was its own."""


class ConnectionManager:
    """Every channel of a client and every reader; channels of other loops too.

    :ivar changed: called whenever somebody has left, for whoever waits for that.
    :ivar drained: subscriptions that have ended in order since the client's end began.
    :ivar cut_off: those that were cut, or were still connecting for the first time.
    """

    def __init__(
        self,
        context: SubscriptionContext,
        policy: SubscriptionPolicy,
        limit: int,
        changed: Callable[[], None],
    ) -> None:
        self.context = context
        self.parsed: Parsed = Parsed(context.serializer)
        self.policy = policy
        self.refusals: Refusals = Refusals(
            policy.refused_close_codes, policy.refused_words, context.auth_error_codes
        )
        self.limit = limit
        self.changed = changed
        self.draining: bool = False
        self.floods: FloodGate = logs.FloodGate()
        self.channels: set[Channel] = set()
        self.readers: set[Reader] = set()
        self.events = 0
        self.dropped = 0
        self.reconnects = 0
        self.callback_failures: int = 0
        self._telling: set[asyncio.Task[None]] = set()
        """Callbacks of states that are coroutines, and have not returned."""
        self.drained: int = 0
        self.cut_off: int = 0
        self._shared: dict[object, Channel] = {}
        self._joined = False
        self.transport_is_the_parents: bool = False
        """Whether the client's transport was used before this process was forked, and so is not closed."""
        self._in_vain: list[tuple[float, tuple[object, object, object]]] = []
        """When renewals did not help, and of which providers."""
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked: nobody is subscribed there."""
        disowned = [(reader, reader.disown()) for reader in self.readers]
        kept = (self.channels, self._shared, self._telling, disowned)
        self.transport_is_the_parents = self._joined
        self.channels, self.readers, self._shared = set(), set(), {}
        self._telling = set()
        self.draining, self.drained, self.cut_off = False, 0, 0
        return kept

    def states_of(self, on_state: OnState | None, request: GraphQLRequest, host: str) -> StateKeeper:
        """What knows how a subscription is, and tells whoever wants to know."""
        context = None if on_state is None else contextvars.copy_context()
        return StateKeeper(
            on_state, context, host, request, self.context.hooks, self._count_failure, self._telling
        )

    def _count_failure(self) -> None:
        self.callback_failures += 1

    @property
    def down(self) -> int:
        """Subscriptions that have lost their connection, and have no other one yet. From any thread."""
        return sum(
            subscriber.established
            for channel in list(self.channels)
            if channel.connection is None
            for subscriber in list(channel.subscribers.values())
        )

    @property
    def transport(self) -> GraphQLSubscriptionTransport | None:
        """The client's own subscription transport; None where sockets are ours."""
        return self.context.transport

    async def close_transport(self) -> None:
        """Close the client's own transport, unless it is one that the parent process has used."""
        for task in list(self._telling):
            call_on(task.get_loop(), task.cancel)
        if self.context.transport is not None and not self.transport_is_the_parents:
            await self.context.transport.close()

    def join(
        self,
        subscribe_request: SubscribeRequest,
        name: str | None = None,
        *,
        again: bool = False,
        control: bool = False,
    ) -> Subscriber:
        """Begin a subscription: over a channel that it can share, or one of its own.

        :param name: the subscription's id; None makes one up.
        :param again: whether the id may have been on the wire before.
        :param control: whether messages about the connection are wanted too.
        :raises SubscriptionLimitError: it would need one socket too many.
        """
        name = str(uuid.uuid4()) if name is None else name
        key = f"{name}.{uuid.uuid4()}" if again else name
        span = self.context.telemetry.subscription(subscribe_request.request)
        try:
            with contextlib.nullcontext() if span is None else span.current():
                context = contextvars.copy_context()
                channel = self._channel(subscribe_request)
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        subscriber = Subscriber(
            channel,
            key,
            name,
            subscribe_request,
            self.policy,
            context,
            control=control,
            hooks=self.context.hooks,
        )
        subscriber.span = span
        channel.join(subscriber)
        self._joined = True
        return subscriber

    def _channel(self, subscribe_request: SubscribeRequest) -> Channel:
        connector = Connector(self.context, subscribe_request)
        share = (
            (*self._key(subscribe_request), connector.identity()) if self.policy.share_connection else None
        )
        channel = self._shared.get(share) if share is not None else None
        if (
            channel is None or channel.task.done()
        ):  # done and not forgotten yet: one cancelled before it began
            self._require_room(subscribe_request)
            channel = Channel(self, connector, share)
            self.channels.add(channel)
            if share is not None:
                self._shared[share] = channel
        return channel

    def reidentify(self, channel: Channel, identity: object) -> None:
        """A shared channel goes on with other credentials: only who has the same may join it from now on."""
        if channel.key is None or channel.key[-1] == identity:
            return
        self.forget(channel)
        channel.key = (*channel.key[:-1], identity)
        self._shared.setdefault(channel.key, channel)

    def relocate(self, subscriber: Subscriber, before: Channel) -> None:
        """Give a subscriber of a shared channel that has other credentials now a channel where they fit."""
        before.subscribers.pop(subscriber.key)
        try:
            subscriber.channel = subscriber.context.copy().run(self._channel, subscriber.subscribe_request)
        except Exception as error:  # noqa: BLE001 -- no room, or a provider that fails: it is this one's end
            subscriber.end(error)
            return
        subscriber.channel.take_over(subscriber, before)

    def _key(self, subscribe_request: SubscribeRequest) -> tuple[object, ...]:
        """What subscriptions on one socket must have in common, besides what their provider gives them."""
        return (
            asyncio.get_running_loop(),
            subscribe_request.where or subscribe_request.endpoint,
            subscribe_request.protocols,
            frozenset(subscribe_request.request.headers.items()),
            payload_key(subscribe_request.payload, self.context.serializer),
            id(subscribe_request.session),
            id(subscribe_request.transport),
        )

    def forget_the_dead(self) -> None:
        """Leave out what was left on loops that have been closed: it holds nothing, and never ends."""
        dead = {channel for channel in self.channels if channel.loop.is_closed()}
        if dead:
            self.channels -= dead
            self.readers -= {each for each in self.readers if each.loop.is_closed()}
            for channel in dead:
                self.forget(channel)

    def _require_room(self, subscribe_request: SubscribeRequest | Connector) -> None:
        self.forget_the_dead()
        if len(self.channels) >= self.limit:
            raise SubscriptionLimitError(
                f"The client has no WebSocket left for another subscription: pool.subscriptions={self.limit} "
                f"allows no more than the {len(self.channels)} it holds. Nothing was opened. Raise it, end "
                "subscriptions that are no longer needed, or let them share sockets "
                "(subscriptions.share_connection)."
            )
        room = room_of_a_callers(self.context.sessions.given, subscribe_request)
        if room is not None and len(self.channels) >= room:
            raise SubscriptionLimitError(
                f"The given aiohttp session may open {room + 1} in all, and a WebSocket more than the "
                f"{len(self.channels)} of its subscriptions would leave none for calls. Nothing was opened. "
                "Raise the limit of the session's connector, lower pool.subscriptions, or let subscriptions "
                "share sockets (subscriptions.share_connection)."
            )

    def is_own(self, subscribe_request: SubscribeRequest) -> bool:
        """Whether its transport is for this subscription alone, and so is closed with it, as stock does."""
        return (
            subscribe_request.transport is not None
            and subscribe_request.transport is not self.context.transport
        )

    def forget(self, channel: Channel) -> None:
        """Let nobody join a channel any more."""
        if channel.key is not None and self._shared.get(channel.key) is channel:
            del self._shared[channel.key]

    # Credentials that are refused to one subscription, on a channel that others share.

    def is_superseded(self, channel: Channel) -> bool:
        """Whether another channel takes those that come, since this one's credentials have grown old."""
        return self._shared.get(channel.key, channel) is not channel

    def move(self, subscriber: Subscriber, channel: Channel) -> bool:
        """Put a subscription on a channel with newer credentials; False if there is no room for another.

        The channel takes those that come, too.
        """
        newer = self._shared.get(channel.key, channel)
        if newer is channel:
            newer = self._fitting(subscriber, channel) or channel
        if newer is channel:
            try:
                self._require_room(channel.connector)
            except SubscriptionLimitError as error:
                logger.warning(
                    "%s: the credentials of a subscription are not renewed: %s", channel.host, error
                )
                return False
            newer = channel.renewed()
            self.channels.add(newer)
            self._shared[channel.key] = newer
            self.report_renewal(channel, "its answer to a subscription says so")
        subscriber.refused()
        channel.unregister(subscriber)
        subscriber.channel = newer
        newer.join(subscriber)
        return True

    def _fitting(self, subscriber: Subscriber, channel: Channel) -> Channel | None:
        """A channel with what a sync provider gives a user by now, where another one has renewed it."""
        connector, before = Connector(self.context, subscriber.subscribe_request), channel.key
        if before is None:
            return None
        try:
            identity = subscriber.context.copy().run(connector.identity)
        except Exception:  # noqa: BLE001 -- a provider that fails: it will say so when it is asked for a renewal
            return None
        return self._shared.get((*before[:-1], identity))

    def renewed_in_vain(self, channel: Channel) -> None:
        """Credentials were renewed, and refused to a subscription all the same."""
        now = clock.monotonic()
        self._in_vain = [each for each in self._in_vain if now - each[0] < IN_VAIN]
        self._in_vain.append((now, channel.connector.renews))
        elder = channel.elder
        if elder is None or elder.over or elder.key != channel.key:
            return
        if self._shared.get(channel.key) is channel:
            self._shared[channel.key] = elder  # its credentials are as good

    def is_in_vain(self, connector: Connector) -> bool:
        """Whether a renewal has just not helped, and nobody has renewed the credentials since."""
        now = clock.monotonic()
        return not connector.outdated and any(
            now - then < IN_VAIN
            and renews[0] is connector.renews[0]
            and renews[1] is connector.renews[1]
            and renews[2] == connector.renews[2]
            for then, renews in self._in_vain
        )

    def report_renewal(self, channel: Channel, evidence: str) -> None:
        """Log why new credentials are asked for."""
        logger.warning(
            "%s refused the credentials (%s); new ones are requested",
            channel.host,
            evidence,
            extra=logs.facts(host=channel.host, reason=evidence),
        )

    async def reconnect(self) -> None:
        """Connect all subscriptions anew, and wait until that is done."""
        await reconnect_all(list(self.channels))

    def ended(self, channel: Channel) -> None:
        """A channel has ended, its socket with it."""
        self.channels.discard(channel)
        self.changed()

    def register(self, reader: Reader) -> None:
        """A reader begins."""
        self.readers.add(reader)

    def unregister(self, reader: Reader) -> None:
        """A reader is through; again does nothing."""
        if reader not in self.readers:
            return
        self.readers.discard(reader)
        reader.subscriber.over()
        if self.draining:
            self.drained += reader.in_order
            self.cut_off += not reader.in_order
        self.changed()

    # The end of the client.

    def own_readers(self) -> set[Reader]:
        """Readers whose own code is asking, and which can therefore not be waited for."""
        return {reader for reader in list(self.readers) if reader.is_caller()}

    def drain(self) -> None:
        """Take nothing new, on any loop."""
        self.draining = True
        for reader in list(self.readers):
            call_on(reader.loop, reader.drain)
        for channel in list(self.channels):
            call_on(channel.loop, channel.close_if_idle)

    def busy(self, exempt: set[Reader]) -> bool:
        """Whether anything is left that comes to its end on a loop that runs."""
        left: list[Reader | Channel] = [*(self.readers - exempt), *self.channels]
        return any(each.loop.is_running() for each in left)

    def abort(self, exempt: set[Reader]) -> None:
        """End what is left, now."""
        for reader in self.readers - exempt:
            call_on(reader.loop, reader.abort)
        for channel in list(self.channels):
            call_on(channel.loop, channel.abort)
