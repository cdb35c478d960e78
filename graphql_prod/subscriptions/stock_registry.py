"""The stock object's registry of callbacks, read through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLSubscriptionEvent
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import Callback, CallbackRegistry

from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.errors import request_failed
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionEvent
from graphql_prod.subscriptions.protocol import errors_of

if TYPE_CHECKING:
    from cafeteria.asyncio.callbacks import CallbackType
    from cafeteria.asyncio.callbacks import EventType as AnyEventType

    from graphql_prod.subscriptions.callbacks import CallbackRunner


EVENT_NAMES = {"next": (EventType.NEXT, EventType.DATA), "data": (EventType.DATA, EventType.NEXT)}
"""An event goes by both protocols' names, first by that which it came with."""


class Said:
    """What the stock object sends through us has been said already, by the channel, or will be."""

    __slots__ = ()

    async def send_str(self, data: str) -> None:
        """Nothing."""


_PLAIN = (GraphQLSubscriptionEvent, SubscriptionEvent)

_NOBODY = CallbackRegistry()
"""In place of a registry where the caller gave none; nobody registers with it."""


if TYPE_CHECKING:

    class _Registry:
        """What is used of the registry, which ships no types."""

        def __init__(self) -> None: ...

else:
    _Registry = CallbackRegistry


class ReadThrough(_Registry):
    """The callbacks of one subscription: its own, and those of the caller's registry, as they are then."""

    def __init__(self, theirs: CallbackRegistry | None, worker: CallbackRunner) -> None:
        super().__init__()
        self._own: CallbackRegistry | None = None
        self._theirs = _NOBODY if theirs is None else theirs
        self._worker = worker

    def own(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Register a callback of this subscription alone."""
        if self._own is None:
            self._own = CallbackRegistry()
        self._own.register(event_type, callback)

    def register(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Register with the caller's registry, as stock does."""
        function = callback.function if isinstance(callback, Callback) else None
        # The stock object asks for its start message at each acknowledgement: the channel sends it.
        if not isinstance(getattr(function, "__self__", None), Said):
            if self._theirs is _NOBODY:
                self._theirs = CallbackRegistry()
            self._theirs.register(event_type, callback)

    def deregister(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Remove a callback, wherever it is registered."""
        if self._own is not None:
            self._own.deregister(event_type, callback)
        self._theirs.deregister(event_type, callback)

    def callbacks(self, event_type: AnyEventType = None) -> list[Callback]:
        """The callbacks for an event; where there is none of its own, the default ones."""
        own: list[Callback] = [] if self._own is None else self._own.callbacks(event_type)
        theirs: list[Callback] = self._theirs.callbacks(event_type)
        # The stock object's own callback for acknowledgements keeps the default ones from running.
        specific = own or event_type is EventType.CONNECTION_ACK
        if specific and event_type is not None and theirs is self._theirs.callbacks(None):
            return own
        return theirs + own if own else theirs

    def dispatch_event(self, event: GraphQLSubscriptionEvent, names: tuple[EventType, EventType]) -> None:
        """Hand an event to the worker that goes by two names, in one go."""
        callbacks = [*self.callbacks(names[0]), *self.callbacks(names[1])]
        if callbacks:
            self._worker.add(callbacks, (event,), {}, counted=True)

    def dispatch(self, event_type: AnyEventType, *args: Any, **kwargs: Any) -> None:
        """Hand an event to the worker; nothing is run here."""
        callbacks = self.callbacks(event_type)
        if callbacks:
            event = args[0] if args else None
            if event_type is EventType.ERROR and type(event) in _PLAIN and event is not None:
                args = (_with_exception(event), *args[1:])
            self._worker.add(callbacks, args, kwargs, counted=False)


def _with_exception(event: GraphQLSubscriptionEvent) -> SubscriptionErrorEvent:
    """The server's error, with the exception that a stream would raise."""
    response = GraphQLResponse(request=event.request, json={"errors": errors_of(event.json)})
    return SubscriptionErrorEvent(
        subscription_id=event.subscription_id,
        request=event.request,
        json=event.json,
        exception=request_failed(response),
    )
