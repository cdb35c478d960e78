"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from graphql_prod import clock

if TYPE_CHECKING:
    from graphql_prod.subscriptions.policy import SubscriptionPolicy

# 2 to that many is more than any wait: no number grows without end in an outage of days.
_DOUBLINGS = 32
# No settings, no renewals and nobody who joins make it more: connections of a channel, in so many seconds.
MOST, SECONDS = 10, 1.05


class ReconnectBackoff:
    """Exponential, with full jitter; one a channel."""

    __slots__ = ("_begun", "_failures", "_policy")

    def __init__(self, policy: SubscriptionPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._begun: tuple[float, ...] = ()  # few channels ever have more than one: a deque would take more

    def began(self) -> None:
        """A connection begins."""
        self._begun = (*self._begun[1 - MOST :], clock.monotonic())

    def early(self) -> float:
        """Seconds until another connection may begin, whyever it is wanted; 0 almost always."""
        if len(self._begun) < MOST:
            return 0.0
        return max(0.0, self._begun[0] + SECONDS - clock.monotonic())

    def wait(self, floor: float = 0.0, newest: int | None = None) -> float:
        """Seconds before the next attempt: as much later as the server asked for, up to the longest.

        :param newest: how often somebody who came later has failed by now, who waits no longer than on a
            channel of its own; None: nobody has come later.
        """
        policy = self._policy
        failures = self._failures if newest is None else min(self._failures, max(0, newest - 1))
        longest = min(policy.wait_max, policy.wait_initial * 2**failures)
        self._failures = min(self._failures + 1, _DOUBLINGS)
        drawn = random.uniform(0, longest)  # noqa: S311 -- no secret
        return min(floor + drawn, policy.wait_max)

    def forget(self) -> None:
        """All is well again."""
        self._failures = 0
