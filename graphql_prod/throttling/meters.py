"""What is left of one quota, and when the next call may go. Pure: the time is given."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphql_prod.throttling.quotas import Quota

OTHERS = 0.02
"""Below this share of our own use, what others take is as good as an error of measurement."""
SLACK = 1.5
"""Seconds by which two answers may differ about one reset: servers name whole seconds."""
SHORTEST = 0.05
"""Seconds: a shorter window is an error of measurement."""
PATIENCE = 1.0
"""Seconds after which another call goes, if the one that went ahead is not answered."""
_TOLERANCE = 1 / 360_000
"""Of a window of w seconds, w² times this may go at once: 36 s of an hour's, next to none of a minute's."""


def known_less(there: float, told: float, under_way: float) -> float:
    """What is left by our count, and by an answer's.

    The answer may count calls or not that are still under way: so the truth lies between what it says and
    that without them.
    """
    return min(max(there, told - under_way), told)


class Points:
    """A bucket of points that come back at a rate: Shopify's.

    :ivar others: points that somebody else takes for each of ours; learned from what answers say.
    """

    def __init__(self, now: float, quota: Quota) -> None:
        self.limit = quota.limit
        self.rate = quota.restore_rate
        self.others: float = 0.0
        self._there = quota.remaining or 0.0
        self._at = now
        self._ours = self._theirs = 0.0
        self._dearest = 0.0

    def there(self, now: float) -> float:
        """Points in the bucket, as far as we know."""
        found = self._there + (self.rate or 0.0) * (now - self._at)
        return found if self.limit is None else min(found, self.limit)

    def wait(self, now: float, cost: float) -> float:
        """Seconds until a call may go.

        Where others take points too, as many are left in the bucket as they may take at the same moment.
        """
        wanted = cost
        if self.others > OTHERS:
            wanted += max(1.0, min(self.others, 4.0)) * self._dearest
        if self.limit is not None:
            wanted = max(min(wanted, self.limit / 2), min(cost, self.limit))
        missing = wanted - self.there(now)
        if missing <= 1e-9:
            return 0.0
        return missing / self.rate if self.rate else inf

    def take(self, now: float, cost: float) -> None:
        """A call goes."""
        self._there = self.there(now) - cost
        self._at = now
        self._ours += cost
        self._dearest = max(self._dearest * 0.999, cost)

    def told(self, now: float, quota: Quota, under_way: float) -> None:
        """An answer says what is there.

        :param under_way: what calls will cost that are not answered yet.
        """
        if quota.restore_rate is not None:
            self.rate = quota.restore_rate
        self.limit = quota.limit if quota.limit is not None else self.limit
        told, there = quota.remaining or 0.0, self.there(now)
        self._theirs = 0.98 * self._theirs + max(0.0, there - told)
        self._ours *= 0.98
        self.others = self._theirs / self._ours if self._ours > 0 else 0.0
        self._there, self._at = known_less(there, told, under_way), now

    def is_spent(self, now: float, cost: float) -> bool:
        """Whether a refusal is no wonder."""
        return self.there(now) < cost

    def interval(self, now: float, cost: float) -> float:
        """Seconds from one call to the next, for those who wait; 0 where nobody has to."""
        return cost / self.rate if self.rate and self.there(now) < cost else 0.0


class Window:
    """A quota that comes back all at once: what is left is spread over the time until then.

    :ivar resets: when that is.
    """

    def __init__(self, now: float, quota: Quota) -> None:
        self.limit = quota.limit
        self.remaining: float = quota.remaining if quota.remaining is not None else inf
        self.window = quota.window
        self._is_told = quota.window is not None
        """Whether the server says how long the window is; else it is measured."""
        self._boundary: float | None = None
        self.resets: float = now + (quota.reset if quota.reset is not None else quota.window or 0.0)
        self._next = now
        self._scouted = -inf
        """When a call was sent to see whether the quota is whole again; in the past: nobody is on the way."""
        self._early = 0.0
        """Seconds by which resets that servers name are too early: some round down."""
        self._known = False
        """Whether the moment of the reset was seen, and not only told in whole seconds."""

    def wait(self, now: float, cost: float) -> float:
        """Seconds until a call may go; a while, if one is on the way to see whether it is whole again."""
        if now >= self.resets and not self._turned(now):
            return max(0.0, self._scouted + PATIENCE - now)
        if self.remaining < cost:
            return self.resets - now
        return max(0.0, self._next - self._tolerance(now) - now)

    def _turned(self, now: float) -> bool:
        """Begin the next window, if we know when that is; else a call has to find out."""
        if not self._known or self.limit is None or not self.window or self.window < SHORTEST:
            return False
        self.resets += self.window * ((now - self.resets) // self.window + 1)
        self.remaining, self._next = self.limit, now
        return True

    def _tolerance(self, now: float) -> float:
        wide = self.window if self.window is not None else max(self.resets - now, 0.0)
        return wide * wide * _TOLERANCE

    def take(self, now: float, cost: float) -> None:
        """A call goes."""
        if now >= self.resets:
            self._scouted = now
            return
        if self.remaining < inf:
            interval = (self.resets - now) / max(self.remaining, cost, 1e-9)
            self._next = max(self._next, now) + interval * cost
            self.remaining -= cost

    def told(self, now: float, quota: Quota, under_way: float) -> None:
        """An answer says what is left.

        :param under_way: what calls will cost that are not answered yet.
        """
        scouted = self._scouted > -inf
        self._scouted = -inf
        self.limit = quota.limit if quota.limit is not None else self.limit
        if quota.window is not None:
            self.window, self._is_told = quota.window, True
        if quota.remaining is None:
            if quota.reset is not None:
                self.resets = now + quota.reset
            return
        found = known_less(self.remaining, quota.remaining, under_way)
        jumped = found > self.remaining + max(1.0, under_way) and now > self.resets - SLACK - 1
        if scouted and not jumped and found < 1 and self._early == 0.0 and not self._known:
            self._early = 1.0
        ends = now + quota.reset + self._early if quota.reset is not None else None
        if jumped or now >= self.resets:
            seen = self._boundary is not None
            if not self._is_told:
                self.window = self._measured(now, quota.reset)
            self._boundary = now
            self._known = self.window is not None and (seen or self._is_told)
            self.resets = now + self.window if self.window is not None else ends or now
            if ends is not None and abs(ends - self.resets) > SLACK:
                self.resets, self._known = ends, False
            self._next = now
            found = max(quota.remaining - under_way, 0.0)
        elif ends is not None:
            if self._known:
                if abs(ends - self.resets) > SLACK:
                    self.resets, self._known = ends, False
            else:
                self.resets = max(self.resets, ends) if abs(ends - self.resets) <= SLACK else ends
        self.remaining = found

    def _measured(self, now: float, reset: float | None) -> float | None:
        """How long a window is that begins now: from the last beginning to this one, else as it is told."""
        told = reset + self._early if reset is not None and reset > 0 else self.window
        if self._boundary is None or told is None:
            return told
        seen = now - self._boundary
        if abs(seen - told) > SLACK or seen < told / 2:
            return told
        return float(round(seen)) if abs(seen - round(seen)) < 0.25 else seen

    def missed(self) -> None:
        """The call that looked whether the quota is whole again was answered, and nothing was said."""
        self._scouted = -inf

    def is_spent(self, now: float, cost: float) -> bool:
        """Whether a refusal is no wonder."""
        return now < self.resets and self.remaining < cost

    def interval(self, now: float, cost: float) -> float:
        """Seconds from one call to the next, for those who wait; 0 where that is not known."""
        if now >= self.resets or not 0 < self.remaining < inf:
            return 0.0
        return (self.resets - now) * min(1.0, cost / self.remaining)
