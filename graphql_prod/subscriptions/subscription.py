"""A subscription with callbacks: the stock object, on a line of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aiographql.client import GraphQLSubscription, GraphQLSubscriptionEvent
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import CallbackRegistry

from graphql_prod.loops import is_unborn
from graphql_prod.subscriptions.callbacks import EVENT_NAMES, CallbackRunner, ReadThrough, Said
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionGap, event_of
from graphql_prod.subscriptions.subscriber import cut_off, ended_from_outside
from graphql_prod.urls import host_of, http_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.subscription import CallbacksType
    from aiographql.client.transport import GraphQLSession
    from cafeteria.asyncio.callbacks import CallbackType

    from graphql_prod.subscriptions.connection import Connection
    from graphql_prod.subscriptions.manager import ConnectionManager, SubscribeRequest
    from graphql_prod.subscriptions.protocol import Message
    from graphql_prod.subscriptions.subscriber import Subscriber

logger = logging.getLogger("graphql_prod")


@dataclass(frozen=True, repr=False)
class ProductionSubscription(GraphQLSubscription):
    """The stock ``GraphQLSubscription``, which knows its callbacks and waits for them.

    Made by :meth:`ProductionClient.subscribe`.
    """

    async def handle(self, event: GraphQLSubscriptionEvent) -> None:
        """As stock: the callbacks for the event, which has two names."""
        event = event_of(event)
        names = EVENT_NAMES.get(event.json["type"])
        if names is None or not isinstance(self.callbacks, ReadThrough):
            await super().handle(event)
        elif event.id == self.id:
            self.callbacks.dispatch_event(event, names)

    def unsubscribe(self) -> None:
        """End the subscription. What waits for its callbacks is dropped; one that runs goes on.

        The task ends normally once the server has been told, whatever it is about at that moment.
        """
        task = self.task
        if task is not None and isinstance(self.transport, StockTransportAdapter):
            # Before the stock object's own: it would cancel the task, wherever that is.
            object.__setattr__(self, "task", None)
            self.transport.leave(task)
        super().unsubscribe()

    async def unsubscribe_and_wait(self) -> None:
        """End the subscription; no callback runs after this returns.

        From inside one of its own callbacks that one is not waited for. Safe to cancel.
        """
        task = self.task
        self.unsubscribe()
        if task is not None:
            await asyncio.wait({task})
        if isinstance(self.transport, StockTransportAdapter):
            await self.transport.worker.quiet()

    def __repr__(self) -> str:
        state = "active" if self.active() else "ended"
        return f"<{type(self).__name__} {self.id} {state}>"


class StockTransportAdapter:
    """The transport that the stock object of one subscription is given; it leads to a line."""

    __slots__ = (
        "_admit",
        "_delivery",
        "_hub",
        "_left",
        "_line",
        "_opened",
        "_served",
        "_used",
        "_wish",
        "callbacks",
        "subscription",
        "worker",
    )

    def __init__(
        self,
        hub: ConnectionManager,
        wish: SubscribeRequest,
        on_gap: Callable[[SubscriptionGap], Any] | None,
        admit: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._wish = wish
        self._admit = admit
        self._opened: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self._used = False
        self._line: Connection | None = None
        self.worker = CallbackRunner(on_gap, hub.policy.callback_executor, self._count_failure)
        self.callbacks: ReadThrough | None = None
        self.subscription: ProductionSubscription | None = None
        self._left: asyncio.Task[Any] | None = None
        """The task that ends because unsubscribe() was called."""
        self._served: asyncio.Task[Any] | None = None
        """The task that came through here last."""
        self._delivery: StockSocketAdapter | None = None
        """What it was given."""

    def attach(self, subscription: ProductionSubscription, callbacks: ReadThrough) -> None:
        """Tell the door whose it is."""
        self.subscription = subscription
        self.callbacks = callbacks
        self.worker.name = subscription.id

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Have a task come to its end by itself; no cancel would end it normally wherever it is."""
        self._left = task
        self.worker.discard()
        if is_unborn(task):
            task.get_loop().call_soon(self._leave, task)  # it has come through here by then
        else:
            self._leave(task)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        if task is not self._served:
            task.cancel()  # over another transport, which only a cancel reaches
        elif self._delivery is not None:
            self._delivery.leave()

    def forget(self, delivery: StockSocketAdapter) -> None:
        """It is through."""
        if self._delivery is delivery:
            self._delivery = None

    async def opened(self) -> None:
        """Wait for the first acknowledgement. Safe to cancel.

        :raises Exception: why there will be none.
        """
        if self._opened is not None:
            try:
                await self._opened
            finally:
                self._opened = None

    async def subscribe(
        self,
        endpoint: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        session: GraphQLSession | None = None,
        **_: Any,
    ) -> StockSocketAdapter | Nothing:
        """What the stock object calls for a socket: it gets one that never breaks."""
        self._served, self._delivery = asyncio.current_task(), None
        try:
            if self._is_left():
                return Nothing()
            self._admit()
            wish = self._wish.to(endpoint, session)
            if self._line is not None and not self._line.shared:
                await asyncio.wait({self._line.task})  # its place among the sockets is ours
                if self._is_left():
                    return Nothing()
            member = self._hub.join(wish, self.worker.name, again=self._used, control=True)
            self._used = True
            self._line = member.line
            delivery = self._delivery = StockSocketAdapter(self, self._hub, member)
            try:
                await member.started()
            except BaseException as error:
                await delivery.abandon()
                if self._is_left() and not isinstance(error, asyncio.CancelledError):
                    return Nothing()
                if isinstance(error, asyncio.CancelledError) and delivery.was_cut:
                    raise cut_off(member.line.host) from None
                raise
        except Exception as error:
            if not self._tell(error):
                self.report(error)
            raise
        self._tell(None)
        return delivery

    @property
    def reached(self) -> bool:
        """Whether a task has come through here."""
        return self._served is not None

    def _is_left(self) -> bool:
        return self._left is not None and self._left is self._served

    def ended(self, task: asyncio.Task[Any]) -> None:
        """The first task is over; nobody shall wait for a connection that it would have made."""
        if not task.cancelled():
            task.exception()  # whoever asks was told
        self._tell(ended_from_outside(host_of(http_url(self._wish.endpoint))))

    def _tell(self, error: Exception | None) -> bool:
        """Answer whoever waits for the first connection; False if nobody does."""
        opened = self._opened
        if opened is None or opened.done():
            return False
        if error is None:
            opened.set_result(None)
        else:
            opened.set_exception(error)
        return True

    async def close(self) -> None:
        """Close a transport that was given for this subscription alone, as stock does."""
        if self._wish.transport is not None and self._hub.is_own(self._wish):
            await self._wish.transport.close()

    def report(self, error: Exception) -> None:
        """Tell the log and ``on_error`` of the end that we made."""
        subscription, callbacks = self.subscription, self.callbacks
        if subscription is None or callbacks is None:
            return
        # Not its text, which may quote the server: on_error and the task have that.
        code = getattr(error, "close_code", None)
        logger.error(
            "subscription %s has ended with %s%s",
            subscription.id,
            type(error).__name__,
            "" if code is None else f" (close code {code})",
            extra={"subscription_id": subscription.id, "close_code": code},
        )
        event = SubscriptionErrorEvent(
            subscription_id=subscription.id,
            request=subscription.request,
            json={"type": "error", "id": subscription.id, "payload": [{"message": str(error)}]},
            exception=error,
        )
        callbacks.dispatch(EventType.ERROR, event)

    def _count_failure(self) -> None:
        self._hub.callback_failures += 1


class Nothing(Said):
    """In the place of a socket, for a task that was left before it had one."""

    __slots__ = ()
    subprotocol: str | None = None

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        raise StopAsyncIteration

    async def __aexit__(self, *_: object) -> None:
        """Nothing."""


class StockSocketAdapter(Said):
    """What the stock object takes for its socket: the messages of one subscription, as long as it lives."""

    __slots__ = (
        "_asked_inside",
        "_cancelled",
        "_cut",
        "_door",
        "_haste",
        "_hub",
        "_left",
        "_lost",
        "_task",
        "loop",
        "member",
    )

    def __init__(self, door: StockTransportAdapter, hub: ConnectionManager, member: Subscriber) -> None:
        self._door = door
        self._hub = hub
        self.member = member
        self._task = asyncio.current_task()
        self._cancelled = False
        self._cut = False
        self._lost = False
        self._asked_inside = False
        self._left = False
        self._haste: asyncio.Future[None] | None = None
        """Done when callbacks are not waited for any more."""
        self.loop = asyncio.get_running_loop()
        door.worker.mailbox = member.mailbox
        member.mailbox.downstream = door.worker
        hub.enter(self)

    @property
    def subprotocol(self) -> str | None:
        """The protocol in use."""
        return self.member.line.dialect.name

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        mailbox = self.member.mailbox
        try:
            while True:
                item = mailbox.take()
                if isinstance(item, SubscriptionGap):
                    self._door.worker.gap(item)
                elif item is not None:
                    return item
                elif mailbox.ended:
                    break
                else:
                    await mailbox.arrival()
        except asyncio.CancelledError:
            self._cancelled = True
            raise
        if mailbox.error is None or self._left:
            raise StopAsyncIteration
        self._door.report(mailbox.error)
        raise mailbox.error

    async def __aexit__(self, *_: object) -> None:
        """The end: the server is told, callbacks come to theirs, the socket is closed."""
        member, worker = self.member, self._door.worker
        member.leave()
        try:
            if self._cancelled:
                worker.discard()
            elif not self._asked_inside and not self._left:
                self._haste = self.loop.create_future()
                await worker.quiet(self._haste)
            if not member.line.shared:
                await asyncio.wait({member.line.task})
        except asyncio.CancelledError:
            if self._cut:
                raise cut_off(member.line.host) from None
            raise
        finally:
            self._through()
        if self._was_cancelled():
            raise asyncio.CancelledError

    def _was_cancelled(self) -> bool:
        """Whether a cancel has to come out, which the stock object takes for the end that was asked for."""
        task = self._task
        return task is not None and task.cancelling() > 0 and not self._cut

    def leave(self) -> None:
        """unsubscribe() was called: what waits is dropped, and nobody waits for callbacks."""
        self._left = True
        self.member.leave()
        self.member.mailbox.discard()
        if self._haste is not None and not self._haste.done():
            self._haste.set_result(None)

    async def abandon(self) -> None:
        """It never began."""
        self.member.leave()
        self._hub.leave(self)
        if not self.member.line.shared:
            await asyncio.wait({self.member.line.task})

    def _through(self) -> None:
        self._door.forget(self)
        running = self._door.worker.task
        if running is None:
            self._hub.leave(self)
        else:
            running.add_done_callback(lambda _: self._hub.leave(self))

    # The end of the client.

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order."""
        return self.member.established and not self._lost

    def drain(self) -> None:
        """Take nothing new; what waits is finished."""
        self._asked_inside = self._door.worker.inside
        self.member.leave()

    def cut(self) -> None:
        """End at once; a callback that runs is cancelled."""
        self._cut = True
        self._lost = bool(self.member.mailbox.events) or self._door.worker.task is not None
        if self._task is not None:
            self._task.cancel()
        self._door.worker.cut()

    @property
    def was_cut(self) -> bool:
        """Whether its task was cancelled by the end of the client, and by nobody else."""
        return self._cut

    def disown(self) -> object:
        """In a child that was forked: the subscription is not active there."""
        worker = self._door.worker
        kept = (self.member.disown(), worker.task)
        worker.task = None
        worker.discard()
        if self._door.subscription is not None:
            object.__setattr__(self._door.subscription, "task", None)
        return kept

    def is_caller(self) -> bool:
        """Whether one of its callbacks is asking."""
        return self._door.worker.inside


async def subscribed(
    hub: ConnectionManager,
    wish: SubscribeRequest,
    callbacks: CallbacksType | None,
    on_data: CallbackType | None,
    on_error: CallbackType | None,
    on_gap: Callable[[SubscriptionGap], Any] | None,
    admit: Callable[[], None],
) -> ProductionSubscription:
    """A subscription that the server has acknowledged; nothing is left of one that it has not."""
    door = StockTransportAdapter(hub, wish, on_gap, admit)
    theirs = CallbackRegistry(callbacks) if isinstance(callbacks, dict) else callbacks
    registry = ReadThrough(theirs, door.worker)
    for event_type, callback in ((EventType.DATA, on_data), (EventType.ERROR, on_error)):
        if callback is not None:
            registry.own(event_type, callback)
    subscription = ProductionSubscription(
        request=wish.request,
        callbacks=registry,
        protocols=wish.protocols,
        connection_init_payload=dict(wish.payload) if isinstance(wish.payload, Mapping) else None,
        serializer=hub.parsed,
        transport=door,
    )
    door.attach(subscription, registry)
    hub.ground.serializer.dumps(wish.request.payload())  # what cannot be sent is told here, not later
    await subscription.subscribe(endpoint=wish.endpoint)
    task = subscription.task
    assert task is not None  # noqa: S101 -- the stock object has just begun it
    task.add_done_callback(door.ended)
    try:
        await door.opened()
    except BaseException:
        await _cancelled(task)
        if not door.reached:
            await door.close()  # cancelled before its first step, the task has not done it
        raise
    return subscription


async def ended(subscription: ProductionSubscription) -> None:
    """Wait for the end of a subscription; a cancel ends it.

    :raises Exception: what ended it, if nobody asked for the end.
    """
    task = subscription.task
    if task is None:
        return
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await _cancelled(task)
        raise
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel, and see it through unless the caller is cancelled once more."""
    task.cancel()
    await asyncio.wait({task})
