"""Whom to hold back, for one endpoint and identity: a pure decision, the time is given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from graphql_prod.throttling.meters import PATIENCE, Points, Window

if TYPE_CHECKING:
    from graphql_prod.throttling.quotas import Quota
    from graphql_prod.throttling.recognition import Throttle

OPERATIONS = 1000
"""Operations whose cost is remembered, in one bucket."""
LONG = 5.0
"""Seconds: a server that asks for so long without a quota that is spent has a limit that it does not tell."""
_AGAIN = 0.1
"""Seconds after a refusal at least, doubling while nothing is let in: a reset may be named too early."""
MINUTE = 60.0
"""Seconds over which calls are counted against such a limit: GitHub's is one of points a minute."""
_SLACK = 0.95
"""The share of such a limit that is used, since it is only guessed at."""


_new = object.__new__


@dataclass(slots=True)
class Ticket:
    """A call that was let go.

    :ivar cost: what it was taken to cost.
    :ivar place: how many were under way with it.
    :ivar alone: whether nobody else was under way, so that what is gone is its cost.
    :ivar stranger: whether its cost was not known.
    :ivar before: what calls had cost that were answered when it was let go.
    """

    operation: str
    cost: float
    place: int
    alone: bool
    began: float
    stranger: bool
    before: float


class Bucket:
    """What is known of the quotas of one identity.

    :ivar blocked_until: before that nobody goes: the server said so.
    :ivar under_way: calls that were let go and are not answered.
    """

    def __init__(self) -> None:
        self.blocked_until: float = -inf
        self.under_way: int = 0
        self._cost_under_way = self._cost_answered = 0.0
        self._meters: dict[str, Points | Window] = {}
        self._costs: dict[str, float] = {}
        self._unknown = 1.0
        """What an operation is taken to cost that was never sent: as much as the dearest."""
        self._cap = 1.0
        """How many may be under way: one at first and after a refusal, and one more with each success."""
        self._went = -inf
        self._most = inf
        """How many the server was seen to bear."""
        self._most_since = -inf
        self._rate: float | None = None
        self._streak = self._strangers = 0
        self._has_points = False
        self._blocked_at = -inf
        self._newest = -inf
        """When the latest call was sent whose answer has told of quotas."""
        self._next = -inf
        self._answered: deque[float] = deque(maxlen=10_000)
        """When calls were let in, of the last minute or so."""

    def wait(self, now: float, operation: str) -> float:
        """Seconds until a call may go: 0 now, endless until another one is answered."""
        if self.under_way >= self._most and self.under_way >= self._most_at(now):
            return inf
        cost = self._costs.get(operation, self._unknown)
        wait = max(self.blocked_until - now, 0.0)
        if self.under_way >= self._cap:
            wait = max(wait, self._went + PATIENCE - now)
        if self._strangers and operation not in self._costs and self._has_points:
            wait = max(wait, self._went + PATIENCE - now)  # it may be dear: one after another
        if self._rate is not None:
            wait = max(wait, self._next - now)
        for meter in self._meters.values():
            wait = max(wait, meter.wait(now, cost))
        return wait

    def interval(self, now: float, operation: str) -> float:
        """Seconds from one call to the next, for those who wait in line, as far as can be told."""
        cost = self._costs.get(operation, self._unknown)
        return max((meter.interval(now, cost) for meter in self._meters.values()), default=0.0)

    def _most_at(self, now: float) -> float:
        """One more a minute: the server may bear more than it did."""
        if self._most < inf and now - self._most_since > MINUTE:
            self._most += 1
            self._most_since = now
        return self._most

    def try_to_go(self, now: float, operation: str) -> Ticket | None:
        """Let a call go if it may go now. Every call that is not held back comes this way."""
        if (
            self.under_way >= self._cap
            or self.under_way >= self._most
            or now < self.blocked_until
            or self._rate is not None
            or self._meters
        ) and self.wait(now, operation) > 0:
            return None
        return self.go(now, operation)

    def go(self, now: float, operation: str) -> Ticket:
        """Let a call go."""
        cost = self._costs.get(operation, self._unknown)
        for meter in self._meters.values():
            meter.take(now, cost)
        if self._rate is not None:
            self._next = max(self._next, now) + 1 / self._rate
        self.under_way += 1
        self._went = now
        self._strangers += operation not in self._costs
        self._cost_under_way += cost
        known = operation in self._costs
        ticket = _new(Ticket)  # not by its constructor: every call comes here
        ticket.operation, ticket.cost, ticket.began = operation, cost, now
        ticket.place, ticket.alone = self.under_way, self.under_way == 1
        ticket.stranger, ticket.before = not known, self._cost_answered
        return ticket

    def done(self, now: float, ticket: Ticket, told: Throttle | None) -> None:
        """A call that was let go is answered, or nobody waits for it any more.

        :param told: what its answer says; None if it says nothing of quotas.
        """
        self.under_way = max(0, self.under_way - 1)
        self._strangers -= ticket.stranger
        self._cost_under_way = max(0.0, self._cost_under_way - ticket.cost) if self.under_way else 0.0
        # Nobody knows which of these the server had counted when it said what is left.
        unsure = self._cost_under_way + self._cost_answered - ticket.before
        self._cost_answered += ticket.cost
        ticket.alone = ticket.alone and self.under_way == 0
        if told is None:
            for meter in self._meters.values():
                if isinstance(meter, Window):
                    meter.missed()
            self._answered.append(now)
            self._streak = 0
            if self._cap < inf or self._rate is not None:
                self._succeeded(now)
            return
        spent = any(meter.is_spent(now, ticket.cost) for meter in self._meters.values())
        self._learn(ticket, told)
        stale = ticket.began < self._newest  # a later call's answer has come before it
        self._newest = max(self._newest, ticket.began)
        for quota in told.quotas:
            if not stale or quota.restore_rate is not None:
                self._tell(now, quota, unsure)
        if not told.refused:
            if self._meters:
                self._cap = inf  # they say who may go
            self._answered.append(now)
            self._streak = 0
            self._succeeded(now)
            return
        wanted = told.cost or ticket.cost
        spent = spent or any(
            quota.remaining is not None and quota.remaining < wanted for quota in told.quotas
        )
        self._refused(now, ticket, told, spent)

    def _learn(self, ticket: Ticket, told: Throttle) -> None:
        """What the operation costs."""
        cost = told.cost
        if cost is None and ticket.alone and not told.refused:
            for quota in told.quotas:
                meter = self._meters.get(quota.name)
                if isinstance(meter, Window) and quota.remaining is not None and meter.remaining < inf:
                    gone = meter.remaining + ticket.cost - quota.remaining
                    if 0 < gone <= max(1000.0, ticket.cost * 100):
                        cost = max(cost or 0.0, gone)
        if cost is None or cost <= 0:
            return
        if ticket.operation not in self._costs and len(self._costs) >= OPERATIONS:
            self._costs.pop(next(iter(self._costs)))
        self._costs[ticket.operation] = cost
        self._unknown = max(self._unknown, cost)

    def _tell(self, now: float, quota: Quota, unsure: float) -> None:
        known = self._meters.get(quota.name)
        kind = Points if quota.restore_rate is not None else Window
        if known is not None and (type(known) is kind or isinstance(known, Points)):
            known.told(now, quota, unsure)
        elif quota.remaining is not None and (quota.restore_rate is not None or quota.reset is not None):
            made = self._meters[quota.name] = kind(now, quota)
            self._has_points = self._has_points or kind is Points
            if unsure:
                made.told(now, quota, unsure)

    def _succeeded(self, now: float) -> None:
        if self._cap < inf:
            self._cap = self._cap + 1 if self._cap < 200 else inf
        if self._rate is not None:
            self._rate *= 1.001  # it was a guess

    def _refused(self, now: float, ticket: Ticket, told: Throttle, spent: bool) -> None:
        wait = told.wait or 0.0
        was_blocked = now < self.blocked_until or ticket.began < self._blocked_at
        if not was_blocked:
            self._streak += 1
            wait = max(wait, _AGAIN * 2 ** min(self._streak - 1, 10))
            self._blocked_at = now
        self.blocked_until = max(self.blocked_until, now + wait)
        self._cap = 1.0
        if spent:
            return
        # Nothing that the server tells of is used up: it has a limit that it does not tell.
        if wait < LONG:
            self._most = max(1.0, min(self._most, ticket.place - 1.0))
            self._most_since = now
        elif not was_blocked:
            recent = sum(1 for moment in self._answered if now - moment < MINUTE)
            self._rate = _SLACK * min(self._rate or inf, max(recent, 1) / MINUTE)


class Rate:
    """A limit of the client's own: so many calls a second, and so many at once."""

    def __init__(self, rate: float, burst: int | None) -> None:
        self.interval: float = 1 / rate
        self._tolerance = (max(1, burst if burst is not None else int(rate)) - 1) * self.interval
        self._next = -inf

    def try_to_go(self, now: float) -> bool:
        """Let a call go if it may go now."""
        if self._next - self._tolerance > now:
            return False
        self._next = max(self._next, now) + self.interval
        return True

    def wait(self, now: float) -> float:
        """Seconds until a call may go."""
        return max(0.0, self._next - self._tolerance - now)

    def go(self, now: float) -> None:
        """Let a call go."""
        self._next = max(self._next, now) + self.interval
