"""One subscription on a channel: its place in the protocol, and the queue that its reader empties."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphql_prod import clock
from graphql_prod.errors import SubscriptionClosedError
from graphql_prod.runtime.contexts import called_in
from graphql_prod.subscriptions.event_queue import EventQueue
from graphql_prod.subscriptions.events import SubscriptionEvent
from graphql_prod.subscriptions.moves import Moved, Suspect, bytes_of, cut_off
from graphql_prod.subscriptions.protocol import Message, read, start_message
from graphql_prod.subscriptions.shapes import invalid_event
from graphql_prod.subscriptions.states import StateKeeper

if TYPE_CHECKING:
    from contextvars import Context

    from aiographql.client import GraphQLSubscriptionEvent

    from graphql_prod.subscriptions.context import Resume, SubscribeRequest
    from graphql_prod.subscriptions.events import SubscriptionGap
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.protocol import Dialect
    from graphql_prod.subscriptions.subscriber_channel import SubscriberChannel
    from graphql_prod.telemetry.hooks import Hooks
    from graphql_prod.telemetry.spans import SubscriptionSpan


# Seconds in which a refusal is taken for the answer to the question, so that no event can be missing.
AT_ONCE = 2.0
# Seconds in which the end of a socket may be about what was sent last.
NEW = 30.0


def _uncounted() -> None:
    """Nobody is told, and nothing fails."""


class Subscriber:
    """A subscription, as its channel sees it.

    :ivar key: the id on the wire; unlike ``name`` never used twice.
    :ivar name: the subscription's id, which its events carry.
    :ivar established: whether its channel has been acknowledged since it joined.
    :ivar subscribed: whether the server has been asked for its events, over the socket that is open now.
    :ivar disowned: whether it was left behind in the parent of this process.
    :ivar answered: whether the server has answered since it was last asked.
    :ivar size: characters of the message that asked the server for its events.
    :ivar renewed: whether credentials were renewed for it, and it has not been up for long since.
    :ivar failures: attempts to connect since it joined, until it is established.
    :ivar context: that of whoever subscribed.
    :ivar states: how it is, and whom that is told to.
    :ivar restarts: how often the server has ended it, and it was subscribed anew.
    :ivar heard_at: when an event last came, on the loop's clock; only where somebody watches for silence.
    :ivar silence: the timer of whoever does.
    """

    __slots__ = (
        "_again",
        "_awaited",
        "_hooks",
        "_last",
        "_moved",
        "_patience",
        "_request",
        "_resume",
        "_since",
        "_started",
        "_suspect",
        "answered",
        "channel",
        "context",
        "control",
        "disowned",
        "established",
        "event_queue",
        "failures",
        "heard_at",
        "key",
        "name",
        "renewed",
        "restarts",
        "silence",
        "size",
        "span",
        "states",
        "subscribe_request",
        "subscribed",
    )

    def __init__(
        self,
        channel: SubscriberChannel,
        key: str,
        name: str,
        subscribe_request: SubscribeRequest,
        policy: SubscriptionPolicy,
        context: Context,
        *,
        control: bool,
        hooks: Hooks | None = None,
    ) -> None:
        self.channel: SubscriberChannel = channel
        self.key: str = key
        self.name: str = name
        self.control: bool = control
        self.event_queue: EventQueue = EventQueue(policy.max_queue, policy.overflow, policy.max_queue_bytes)
        self.established: bool = False
        self.subscribed: bool = False
        self.answered: bool = False
        self.renewed: bool = False
        self.restarts: int = 0
        self.heard_at: float = 0.0
        self.silence: asyncio.TimerHandle | None = None
        self.states: StateKeeper = subscribe_request.states or StateKeeper(
            None, None, channel.host, subscribe_request.request, hooks, _uncounted, set()
        )
        self.size: int = 0
        self.span: SubscriptionSpan | None = None
        self.failures: int = 0
        self.disowned: bool = False
        self._patience = policy.ack_timeout
        self.subscribe_request: SubscribeRequest = subscribe_request
        self.context: Context = context
        self._hooks = hooks
        self._request = subscribe_request.request
        self._resume = subscribe_request.resume
        self._last: str | bytes | None = None
        """The last event as it came: callbacks may do what they like with the one that they get."""
        self._again = False
        """Whether it had been acknowledged before it was last."""
        self._since = 0.0
        """When its channel was last acknowledged."""
        self._moved: Moved | None = None
        self._suspect: Suspect | None = None
        self._started: asyncio.Future[None] | None = None
        self._awaited: asyncio.Future[bool] | None = None
        """Who waits for the next acknowledgement."""

    def disown(self) -> object:
        """In a child that was forked: its channel is the parent's, and is not told."""
        self.disowned = True
        return self._started, self.event_queue.disown()

    @property
    def takes_its_time(self) -> bool:
        """Whether code of the caller's is asked before it subscribes again."""
        return self._resume is not None

    async def started(self) -> None:
        """Wait for the acknowledgement. Safe to cancel.

        :raises Exception: why there will be none.
        """
        if not self.event_queue.ended and not self.established:
            self._started = asyncio.get_running_loop().create_future()
            await self._started
        if not self.established:
            raise self.event_queue.error or cut_off(self.channel.host)

    def acknowledged(self, gap: SubscriptionGap, message: Message) -> None:
        """A socket is there; events come next."""
        moved, self._moved = self._moved, None
        if moved is not None:
            gap = moved.gap(gap)
        if self.established and (moved is None or not moved.at_once):
            self.event_queue.put(gap)
            if self.span is not None:
                self.span.gap(gap)
            hooks = self._hooks
            if hooks is not None:
                hooks.tell(
                    hooks.on_gap,
                    self._request,
                    gap.attempts,
                    gap.close_code,
                    gap.close_reason,
                    gap.down_for,
                )
        self._again = self.established
        self.answered = False
        self._since = clock.monotonic()
        self.states.become("subscribed", ack_payload=message.get("payload"))
        self._tell_of(acknowledged=True)
        if self.control:
            self.event_queue.put(dict(message))  # others on this socket have it too
        self.established = True
        self._answer()

    @property
    def is_new(self) -> bool:
        """Whether its socket was acknowledged, or it joined that, a moment ago."""
        return clock.monotonic() - self._since < NEW

    def may_renew(self, stable_after: float) -> bool:
        """Whether new credentials are worth a try: they were not renewed for it, or that has helped."""
        return not self.renewed or clock.monotonic() - self._since >= stable_after

    def lost(self, stable_after: float) -> None:
        """Its socket has ended."""
        self.subscribed = False
        self.renewed = not self.may_renew(stable_after)

    def suspect(self, message: Message, data: str | bytes) -> None:
        """An event with errors and no data is about to be taken."""
        known = self._suspect
        before = known.before if known is not None and self.refusal is not None else self._last
        self._suspect = Suspect(message, data, before)

    @property
    def refusal(self) -> Message | None:
        """The last event if it has errors and no data: that, then ``complete``, is some servers' error."""
        suspect = self._suspect
        return suspect.message if suspect is not None and suspect.data is self._last else None

    def refused(self) -> None:
        """The server refused its credentials, and it will be subscribed anew with others."""
        if self._suspect is not None and self.refusal is not None:
            self._last, self._suspect = self._suspect.before, None  # no cursor can go on after that one
        now = clock.monotonic()
        first = self._last is None and not self.renewed and not self.answered
        self._moved = Moved(now, at_once=first and not self._again and now - self._since < AT_ONCE)
        self.renewed = True

    def end(self, error: Exception | None = None) -> None:
        """Nothing more will come: this is the end for its reader, after what waits."""
        self.event_queue.end(error)
        self.stop_watching()
        code = getattr(error, "close_code", None)
        reason = getattr(error, "close_reason", None) or (None if error is None else type(error).__name__)
        self.states.become("ended", close_code=code, reason=reason)
        self._tell_of(acknowledged=False)
        self._answer()

    def next_acknowledgement(self) -> asyncio.Future[bool]:
        """Done with True when the next connection is acknowledged, with False at the end."""
        if self._awaited is None or self._awaited.done():
            self._awaited = self.channel.loop.create_future()
        return asyncio.shield(self._awaited)

    def _tell_of(self, *, acknowledged: bool) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None and not awaited.done():
            awaited.set_result(acknowledged)

    def stop_watching(self) -> None:
        """Nobody waits for events any more."""
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None

    def over(self) -> None:
        """Its reader is through; nobody watches it any more."""
        span, self.span = self.span, None
        if span is not None:
            span.end(self.event_queue.error)

    def unregister(self) -> None:
        """The reader wants no more. Its channel tells the server; what waits stays."""
        if not self.disowned:
            self.channel.unregister(self)
        self.end()

    def event(self, message: Message) -> GraphQLSubscriptionEvent:
        """The stock object for a message."""
        return SubscriptionEvent(subscription_id=self.name, request=self._request, json=message)

    def invalid(self, payload: object) -> Exception:
        """The end that an event makes which is no GraphQL answer."""
        return invalid_event(self.channel.host, self._request, payload)

    def take_control(self, message: Message, data: str | bytes) -> None:
        """Something about the connection, for callbacks that look at that; never one too many."""
        if self.control and not self.event_queue.is_crowded(size := bytes_of(data)):
            self.event_queue.put(message, size)

    async def take(self, message: Message, data: str | bytes) -> None:
        """An event, and how it came: wait for room, drop the oldest, or end, as the policy says."""
        self._last = data
        if self.silence is not None:
            self.heard_at = self.channel.loop.time()
        event_queue = self.event_queue
        size = bytes_of(data)
        if event_queue.is_full(size):
            await self._squeeze(event_queue, message, size)
        else:
            event_queue.put(message, size)

    async def _squeeze(self, event_queue: EventQueue, message: Message, size: int) -> None:
        if event_queue.overflow == "block" and not self.channel.shared:
            with self.channel.held_back():
                await event_queue.put_when_room(message, size)
            return
        try:
            await event_queue.turn(size)
        finally:
            # Whoever cancels ends the socket: what came before that is not lost with it.
            self._force_in(message, size)

    def _force_in(self, message: Message, size: int) -> None:
        """Add an event in whatever way the policy allows, or end."""
        event_queue = self.event_queue
        if event_queue.overflow != "drop_oldest" and event_queue.is_full(size):
            self.channel.unregister(self)
            self.end(self._overflow(size))
        if event_queue.ended:
            return
        while event_queue.is_full(size):
            event_queue.drop_oldest()
            self.channel.count_drop()
            if self.span is not None:
                self.span.dropped()
        event_queue.put(message, size)

    def _overflow(self, size: int) -> Exception:
        why = "On a shared connection nobody may hold the others back. " if self.channel.shared else ""
        waits, setting = (
            f"its queue of {self.event_queue.limit} is full, and one more event came",
            "max_queue",
        )
        if self.event_queue.is_heavy(size):
            waits = (
                f"with one more, its events that wait would come to over {self.event_queue.max_bytes:,} bytes"
            )
            setting = "max_queue_bytes"
        return SubscriptionClosedError(
            f"The subscription to {self.channel.host} was ended: {waits}. {why}Read faster, raise "
            f"subscriptions.{setting}, or set subscriptions.overflow to drop_oldest.",
            close_reason="the queue was full",
        )

    async def start_message(self, dialect: Dialect, *, again: bool) -> Message:
        """What asks the server for the events; from where they stopped, if the caller knows how.

        :raises SubscriptionClosedError: ``resume`` failed.
        """
        request = self._request
        if again and self._resume is not None:
            variables = await self._resumed(self._resume)
            request = dataclasses.replace(request, operation=request.operationName, variables=variables)
        return start_message(dialect, self.key, request)

    async def _resumed(self, resume: Resume) -> dict[str, Any]:
        data, last = self._last, None
        if data is not None:
            last = self.event(self.receive(read(data, self.channel.serializer)))
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                variables = await called_in(self.context, resume, last, dict(self._request.variables))
            if not isinstance(variables, Mapping):
                raise TypeError(f"resume must return a mapping of variables, not {type(variables).__name__}")  # noqa: TRY301
        except BaseException as error:
            task = asyncio.current_task(self.channel.loop)
            ending = asyncio.CancelledError | GeneratorExit
            if isinstance(error, ending) and (task is None or task.cancelling()):
                raise
            closed = self._unresumed(error, limit.expired())
            if isinstance(error, KeyboardInterrupt | SystemExit):
                self.channel.unregister(self)
                self.end(closed)
                raise
            raise closed from error
        return dict(variables)

    def _unresumed(self, error: BaseException, overdue: bool) -> SubscriptionClosedError:
        what = f"its resume failed with a {type(error).__name__}"
        hint = "See the cause of this error."
        if overdue:
            what = f"its resume gave no variables within {self._patience:g} s"
            hint = "See what it waits for, or raise subscriptions.ack_timeout, which is its limit too."
        return SubscriptionClosedError(
            f"The subscription to {self.channel.host} was ended: {what}, so that nobody knows where to "
            f"go on. {hint}",
            close_reason="resume timed out" if overdue else "resume failed",
        )

    def receive(self, message: Message) -> Message:
        """The message with the id that the subscription is known by."""
        if self.key != self.name:
            message["id"] = self.name
        return message

    def _answer(self) -> None:
        started, self._started = self._started, None
        if started is not None and not started.done():
            started.set_result(None)
