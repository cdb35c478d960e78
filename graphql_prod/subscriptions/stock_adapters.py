"""What the stock subscription object is given: a transport and a socket that lead to a channel."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType

from graphql_prod.loops import is_unborn
from graphql_prod.runtime import logs
from graphql_prod.subscriptions.callbacks import CallbackRunner
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionGap
from graphql_prod.subscriptions.moves import cut_off, ended_from_outside
from graphql_prod.subscriptions.nothing import Nothing
from graphql_prod.subscriptions.steering import has_ended, reconnected
from graphql_prod.subscriptions.stock_registry import ReadThrough, Said
from graphql_prod.urls import host_of, http_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiographql.client import GraphQLRequest, GraphQLSubscription
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession

    from graphql_prod.subscriptions.context import SubscribeRequest
    from graphql_prod.subscriptions.manager import ConnectionManager
    from graphql_prod.subscriptions.protocol import Message
    from graphql_prod.subscriptions.states import SubscriptionState
    from graphql_prod.subscriptions.subscriber import Subscriber
    from graphql_prod.subscriptions.subscriber_channel import SubscriberChannel

logger: logging.Logger = logging.getLogger("graphql_prod")


class StockTransportAdapter:
    """The transport that the stock object of one subscription is given; it leads to a channel."""

    __slots__ = (
        "_admit",
        "_channel",
        "_left",
        "_manager",
        "_opened",
        "_served",
        "_socket_adapter",
        "_subscribe_request",
        "_used",
        "callbacks",
        "subscription",
        "worker",
    )

    def __init__(
        self,
        manager: ConnectionManager,
        subscribe_request: SubscribeRequest,
        on_gap: Callable[[SubscriptionGap], Any] | None,
        admit: Callable[[], None],
    ) -> None:
        self._manager = manager
        self._subscribe_request = subscribe_request
        self._admit = admit
        self._opened: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self._used = False
        self._channel: SubscriberChannel | None = None
        self.worker: CallbackRunner = CallbackRunner(
            on_gap, manager.policy.callback_executor, self._count_failure
        )
        self.callbacks: ReadThrough | None = None
        self.subscription: GraphQLSubscription | None = None
        self._left: asyncio.Task[Any] | None = None
        """The task that ends because unsubscribe() was called."""
        self._served: asyncio.Task[Any] | None = None
        """The task that came through here last."""
        self._socket_adapter: StockSocketAdapter | None = None
        """What it was given."""

    def attach(self, subscription: GraphQLSubscription, callbacks: ReadThrough) -> None:
        """Tell the door whose it is."""
        self.subscription = subscription
        self.callbacks = callbacks
        self.worker.name = subscription.id

    def unregister(self, task: asyncio.Task[Any]) -> None:
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
        elif self._socket_adapter is not None:
            self._socket_adapter.unregister()

    def forget(self, socket_adapter: StockSocketAdapter) -> None:
        """It is through."""
        if self._socket_adapter is socket_adapter:
            self._socket_adapter = None

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
        self._served, self._socket_adapter = asyncio.current_task(), None
        try:
            if self._is_left():
                return Nothing()
            self._admit()
            subscribe_request = self._subscribe_request.to(endpoint, session)
            if self._channel is not None and not self._channel.shared:
                await asyncio.wait({self._channel.task})  # its place among the sockets is ours
                if self._is_left():
                    return Nothing()
            subscriber = self._manager.join(
                subscribe_request, self.worker.name, again=self._used, control=True
            )
            self._used = True
            self._channel = subscriber.channel
            socket_adapter = self._socket_adapter = StockSocketAdapter(self, self._manager, subscriber)
            try:
                await subscriber.started()
            except BaseException as error:
                await socket_adapter.abandon()
                if self._is_left() and not isinstance(error, asyncio.CancelledError):
                    return Nothing()
                if isinstance(error, asyncio.CancelledError) and socket_adapter.was_cut:
                    raise cut_off(subscriber.channel.host) from None
                raise
        except Exception as error:
            if not self._report_started(error):
                self.report(error)
            raise
        self._report_started(None)
        return socket_adapter

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
        self._report_started(ended_from_outside(host_of(http_url(self._subscribe_request.endpoint))))

    def _report_started(self, error: Exception | None) -> bool:
        """Answer whoever waits for the first connection; False if nobody does."""
        opened = self._opened
        if opened is None or opened.done():
            return False
        if error is None:
            opened.set_result(None)
        else:
            opened.set_exception(error)
        return True

    @property
    def state(self) -> SubscriptionState:
        """How the subscription is."""
        states = self._subscribe_request.states
        assert states is not None  # noqa: S101 -- the client has given one
        return states.state

    async def reconnect(self) -> None:
        """See :meth:`ProductionSubscription.reconnect`."""
        adapter = self._socket_adapter
        if adapter is None or self.state.status == "ended":
            raise has_ended(host_of(http_url(self._subscribe_request.endpoint)))
        await reconnected(adapter.subscriber, wait=not self.worker.inside)

    async def close(self) -> None:
        """Close a transport that was given for this subscription alone, as stock does."""
        if self._subscribe_request.transport is not None and self._manager.is_own(self._subscribe_request):
            await self._subscribe_request.transport.close()

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
            extra=logs.facts(subscription_id=subscription.id, close_code=code),
        )
        event = SubscriptionErrorEvent(
            subscription_id=subscription.id,
            request=subscription.request,
            json={"type": "error", "id": subscription.id, "payload": [{"message": str(error)}]},
            exception=error,
        )
        callbacks.dispatch(EventType.ERROR, event)

    def _count_failure(self) -> None:
        self._manager.callback_failures += 1


class StockSocketAdapter(Said):
    """What the stock object takes for its socket: the messages of one subscription, as long as it lives."""

    __slots__ = (
        "_asked_inside",
        "_cancelled",
        "_cut",
        "_haste",
        "_left",
        "_lost",
        "_manager",
        "_task",
        "_transport_adapter",
        "loop",
        "subscriber",
    )

    def __init__(
        self, transport_adapter: StockTransportAdapter, manager: ConnectionManager, subscriber: Subscriber
    ) -> None:
        self._transport_adapter = transport_adapter
        self._manager = manager
        self.subscriber: Subscriber = subscriber
        self._task = asyncio.current_task()
        self._cancelled = False
        self._cut = False
        self._lost = False
        self._asked_inside = False
        self._left = False
        self._haste: asyncio.Future[None] | None = None
        """Done when callbacks are not waited for any more."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        transport_adapter.worker.event_queue = subscriber.event_queue
        subscriber.event_queue.downstream = transport_adapter.worker
        manager.register(self)

    @property
    def subprotocol(self) -> str | None:
        """The protocol in use."""
        return self.subscriber.channel.dialect.name

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        event_queue = self.subscriber.event_queue
        try:
            while True:
                item = event_queue.take()
                if isinstance(item, SubscriptionGap):
                    self._transport_adapter.worker.gap(item)
                elif item is not None:
                    return item
                elif event_queue.ended:
                    break
                else:
                    await event_queue.arrival()
        except asyncio.CancelledError:
            self._cancelled = True
            raise
        if event_queue.error is None or self._left:
            raise StopAsyncIteration
        self._transport_adapter.report(event_queue.error)
        raise event_queue.error

    async def __aexit__(self, *_: object) -> None:
        """The end: the server is told, callbacks come to theirs, the socket is closed."""
        subscriber, worker = self.subscriber, self._transport_adapter.worker
        subscriber.unregister()
        try:
            if self._cancelled:
                worker.discard()
            elif not self._asked_inside and not self._left:
                self._haste = self.loop.create_future()
                await worker.quiet(self._haste)
            if not subscriber.channel.shared:
                await asyncio.wait({subscriber.channel.task})
        except asyncio.CancelledError:
            if self._cut:
                raise cut_off(subscriber.channel.host) from None
            raise
        finally:
            self._through()
        if self._was_cancelled():
            raise asyncio.CancelledError

    def _was_cancelled(self) -> bool:
        """Whether a cancel has to come out, which the stock object takes for the end that was asked for."""
        task = self._task
        return task is not None and task.cancelling() > 0 and not self._cut

    def unregister(self) -> None:
        """unsubscribe() was called: what waits is dropped, and nobody waits for callbacks."""
        self._left = True
        self.subscriber.unregister()
        self.subscriber.event_queue.discard()
        if self._haste is not None and not self._haste.done():
            self._haste.set_result(None)

    async def abandon(self) -> None:
        """It never began."""
        self.subscriber.unregister()
        self._manager.unregister(self)
        if not self.subscriber.channel.shared:
            await asyncio.wait({self.subscriber.channel.task})

    def _through(self) -> None:
        self._transport_adapter.forget(self)
        running = self._transport_adapter.worker.task
        if running is None:
            self._manager.unregister(self)
        else:
            running.add_done_callback(lambda _: self._manager.unregister(self))

    # The end of the client.

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order."""
        return self.subscriber.established and not self._lost

    def drain(self) -> None:
        """Take nothing new; what waits is finished."""
        self._asked_inside = self._transport_adapter.worker.inside
        self.subscriber.unregister()

    def abort(self) -> None:
        """End at once; a callback that runs is cancelled."""
        self._cut = True
        self._lost = (
            bool(self.subscriber.event_queue.events) or self._transport_adapter.worker.task is not None
        )
        if self._task is not None:
            self._task.cancel()
        self._transport_adapter.worker.abort()

    @property
    def was_cut(self) -> bool:
        """Whether its task was cancelled by the end of the client, and by nobody else."""
        return self._cut

    def disown(self) -> object:
        """In a child that was forked: the subscription is not active there."""
        worker = self._transport_adapter.worker
        kept = (self.subscriber.disown(), worker.task)
        worker.task = None
        worker.discard()
        if self._transport_adapter.subscription is not None:
            object.__setattr__(self._transport_adapter.subscription, "task", None)
        return kept

    def is_caller(self) -> bool:
        """Whether one of its callbacks is asking."""
        return self._transport_adapter.worker.inside
