"""What a subscription hands over beside the server's own events."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from aiographql.client import GraphQLSubscriptionEvent


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


@dataclass(frozen=True)
class SubscriptionErrorEvent(GraphQLSubscriptionEvent):
    """An event for ``on_error``: the server's ``error``, or the end that we made of a subscription.

    :ivar exception: what ended the subscription.
    """

    exception: Exception | None = dataclasses.field(default=None, compare=False)
