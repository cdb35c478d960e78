"""A subscription with callbacks: the stock object, over a channel of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLSubscription, GraphQLSubscriptionEvent
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import CallbackRegistry

from graphql_prod.subscriptions.events import SubscriptionGap, event_of
from graphql_prod.subscriptions.stock_adapters import StockTransportAdapter
from graphql_prod.subscriptions.stock_registry import EVENT_NAMES, ReadThrough

if TYPE_CHECKING:
    from collections.abc import Callable

    from cafeteria.asyncio.callbacks import CallbackType

    from graphql_prod.subscriptions.context import SubscribeRequest
    from graphql_prod.subscriptions.manager import ConnectionManager
    from graphql_prod.subscriptions.states import SubscriptionState


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
            self.transport.unregister(task)
        super().unsubscribe()

    @property
    def state(self) -> SubscriptionState:
        """How it is now: connecting, subscribed, down or ended."""
        assert isinstance(self.transport, StockTransportAdapter)  # noqa: S101 -- made so by subscribed()
        return self.transport.state

    async def reconnect(self) -> None:
        """Connect anew now, with fresh credentials, payload and endpoint; told as a gap.

        On a shared connection all that share it are connected anew. Returns when the server has acknowledged
        the new connection; from inside one of its own callbacks it does not wait for that. From any thread
        that runs an event loop. Safe to cancel: the reconnect goes on.

        :raises SubscriptionClosedError: the subscription has ended, or ends now.
        """
        assert isinstance(self.transport, StockTransportAdapter)  # noqa: S101 -- made so by subscribed()
        await self.transport.reconnect()

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


async def subscribed(
    manager: ConnectionManager,
    subscribe_request: SubscribeRequest,
    callbacks: Any,
    on_data: CallbackType | None,
    on_error: CallbackType | None,
    on_gap: Callable[[SubscriptionGap], Any] | None,
    admit: Callable[[], None],
) -> ProductionSubscription:
    """A subscription that the server has acknowledged; nothing is left of one that it has not."""
    transport_adapter = StockTransportAdapter(manager, subscribe_request, on_gap, admit)
    theirs = CallbackRegistry(callbacks) if isinstance(callbacks, dict) else callbacks
    registry = ReadThrough(theirs, transport_adapter.worker)
    for event_type, callback in ((EventType.DATA, on_data), (EventType.ERROR, on_error)):
        if callback is not None:
            registry.own(event_type, callback)
    subscription = ProductionSubscription(
        request=subscribe_request.request,
        callbacks=registry,
        protocols=subscribe_request.protocols,
        connection_init_payload=dict(subscribe_request.payload)
        if isinstance(subscribe_request.payload, Mapping)
        else None,
        serializer=manager.parsed,
        transport=transport_adapter,
    )
    transport_adapter.attach(subscription, registry)
    manager.context.serializer.dumps(
        subscribe_request.request.payload()
    )  # what cannot be sent is told here, not later
    await subscription.subscribe(endpoint=subscribe_request.endpoint)
    task = subscription.task
    if task is None:
        return subscription  # a double stands for the stock's subscribe(), and has begun nothing
    task.add_done_callback(transport_adapter.ended)
    try:
        await transport_adapter.opened()
    except BaseException:
        await _cancelled(task)
        if not transport_adapter.reached:
            await transport_adapter.close()  # cancelled before its first step, the task has not done it
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
