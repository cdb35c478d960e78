"""What a subscription hands over beside the server's own events."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from aiographql.client import GraphQLResponse as StockResponse
from aiographql.client import GraphQLSubscriptionEvent

from graphql_prod.calls.response import GraphQLResponse, outline

_new = object.__new__


@dataclass(frozen=True, slots=True)
class SubscriptionGap:
    """Events are missing here: the connection was lost and is back, or events were thrown away.

    :ivar close_code: the code of the server's close frame; None if there was none.
    :ivar close_reason: the server's reason, or our words for what happened.
    :ivar down_for: seconds from the loss to the new acknowledgement; 0 if nothing was lost.
    :ivar attempts: connection attempts that it took; 0 if nothing was lost.
    :ivar dropped: events that we threw away because the queue was full.
    """

    close_code: int | None = None
    close_reason: str | None = None
    down_for: float = 0.0
    attempts: int = 0
    dropped: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class SubscriptionEvent(GraphQLSubscriptionEvent):
    """The stock event, equal to the stock's; its ``repr`` shows nothing of what it holds."""

    def __hash__(self) -> int:
        return GraphQLSubscriptionEvent.__hash__(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GraphQLSubscriptionEvent):
            return NotImplemented
        return (self.request, self.json, self.subscription_id) == (
            other.request,
            other.json,
            other.subscription_id,
        )

    @property
    def payload(self) -> GraphQLResponse | str | None:
        """As stock; an answer in it is a :class:`graphql_prod.GraphQLResponse`."""
        payload = super().payload
        if isinstance(payload, StockResponse):
            return GraphQLResponse(request=self.request, json=payload.json)
        return payload

    def __repr__(self) -> str:
        kind = self.type
        return (
            f"<{type(self).__name__} {'of an unknown type' if kind is None else kind.value} "
            f"subscription={self.subscription_id!r} {outline(self.json.get('payload'))}>"
        )


def event_of(event: GraphQLSubscriptionEvent) -> GraphQLSubscriptionEvent:
    """An event that the stock object made, as one of ours."""
    if type(event) is not GraphQLSubscriptionEvent:
        return event
    made = _new(SubscriptionEvent)
    made.__dict__.update(event.__dict__)
    return made


@dataclass(frozen=True, eq=False, repr=False)
class SubscriptionErrorEvent(SubscriptionEvent):
    """An event for ``on_error``: the server's ``error``, or the end that we made of a subscription.

    :ivar exception: what ended the subscription.
    """

    exception: Exception | None = dataclasses.field(default=None)

    def __hash__(self) -> int:
        return SubscriptionEvent.__hash__(self)
