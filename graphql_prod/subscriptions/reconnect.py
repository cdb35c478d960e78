"""Whether to reconnect: one pure function over how a connection was lost."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from graphql_prod.errors import (
    SubscriptionClosedError,
)
from graphql_prod.subscriptions.policy import FATAL_CLOSE_CODES

if TYPE_CHECKING:
    from graphql_prod.subscriptions.losses import ConnectionLost


class ReconnectDecision(enum.Enum):
    """What comes after the end of a connection."""

    AGAIN = "connect again after a wait"
    RENEW = "connect again with new credentials"
    FATAL = "the end"


def should_reconnect(
    loss: ConnectionLost, fatal: frozenset[int], *, established: bool, renewable: bool
) -> ReconnectDecision:
    """What comes after the end of a connection, for one of its subscriptions.

    :param fatal: close codes that end a subscription.
    :param established: whether the subscription has been acknowledged before.
    :param renewable: whether there are new credentials to be had that were not tried yet.
    """
    if loss.refused and renewable:
        return ReconnectDecision.RENEW
    if loss.fatal or loss.close_code in fatal:
        return ReconnectDecision.FATAL
    # A code that was taken out of the fatal ones reconnects, whatever it says.
    if loss.refused and loss.close_code not in FATAL_CLOSE_CODES:
        return ReconnectDecision.FATAL
    if isinstance(loss.own, SubscriptionClosedError):
        return ReconnectDecision.FATAL
    return ReconnectDecision.FATAL if loss.final and not established else ReconnectDecision.AGAIN
