"""What happens to a subscription besides its events: it moves to another channel, or is ended."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphql_prod import clock
from graphql_prod.errors import ClientClosedError, SubscriptionClosedError
from graphql_prod.subscriptions.losses import CREDENTIALS_REFUSED

if TYPE_CHECKING:
    from graphql_prod.subscriptions.events import SubscriptionGap
    from graphql_prod.subscriptions.protocol import Message


def bytes_of(data: str | bytes) -> int:
    """The size of a message as it came."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode("utf-8", "surrogatepass"))


def cut_off(host: str) -> ClientClosedError:
    """What a subscription ends with that outlives its client."""
    return ClientClosedError(f"The client for {host} was closed before this subscription came to its end.")


@dataclasses.dataclass(frozen=True, slots=True)
class Moved:
    """A subscription that is begun anew, for credentials that were refused.

    :ivar at_once: whether it had never begun, so that no event can be missing.
    """

    at: float
    at_once: bool

    def gap(self, gap: SubscriptionGap) -> SubscriptionGap:
        """The gap on its own channel, or what it comes to on another one."""
        if gap.attempts:
            return gap
        down_for = clock.monotonic() - self.at
        return dataclasses.replace(gap, close_reason=CREDENTIALS_REFUSED, down_for=down_for, attempts=1)


def ended_from_outside(host: str) -> SubscriptionClosedError:
    """What a subscription ends with whose task was cancelled by somebody who is not its client."""
    return SubscriptionClosedError(
        f"The connection of the subscription to {host} was ended from outside: its task was "
        "cancelled, or failed for a reason that the log tells.",
        close_reason="ended from outside",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """An event with errors and no data: if nothing but ``complete`` follows, it was what ended it.

    :ivar before: the last event with data before it.
    """

    message: Message
    data: str | bytes
    before: str | bytes | None


def unsendable(host: str, error: Exception) -> Exception:
    """What a subscription ends with whose message could not be written."""
    if isinstance(error, SubscriptionClosedError):
        return error
    closed = SubscriptionClosedError(
        f"The subscription to {host} was ended: its message could not be written, a {type(error).__name__}. "
        "See the cause of this error.",
        close_reason="not serializable",
    )
    closed.__cause__ = error
    return closed
