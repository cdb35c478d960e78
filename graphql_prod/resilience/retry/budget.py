"""How many retries all calls of a client may make together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphql_prod import clock

if TYPE_CHECKING:
    from graphql_prod.resilience.retry.policy import RetryBudget


_SLOTS = 10


@dataclass(slots=True)
class Budget:
    """A client's account of :class:`RetryBudget`: it begins with the reserve, and successes pay into it.

    The calls of the window are counted in slots, one more than the window has, so that what is counted is
    never less than a window.
    """

    policy: RetryBudget
    rejections: int = 0
    _there: float = field(init=False)
    _at: float | None = None
    """When ``min_per_second`` was last paid in."""
    _slot: int = 0
    _calls: list[int] = field(default_factory=lambda: [0] * (_SLOTS + 1))

    def __post_init__(self) -> None:
        self._there = max(self.policy.reserve, self.policy.min_per_second * self.policy.window)

    def deposit(self, now: float) -> None:
        """A call was successful; counted among those of now if another thread was faster."""
        policy = self.policy
        slot = int(now * _SLOTS / policy.window)
        if slot > self._slot:  # asked here, too: most calls find the slot of the one before
            self._forget(slot)
        self._calls[self._slot % (_SLOTS + 1)] += 1
        there = self._there + policy.ratio
        if there > policy.reserve:
            floor = policy.min_per_second * policy.window
            there = min(there, max(policy.reserve, floor, policy.ratio * sum(self._calls)))
        self._there = there

    def withdraw(self) -> bool:
        """Take a retry, if one is left; a refusal is counted too."""
        if self.balance() < 1:
            self.rejections += 1
            return False
        self._there -= 1
        return True

    def balance(self) -> float:
        """How many retries are left now."""
        policy, now = self.policy, clock.monotonic()
        self._forget(int(now * _SLOTS / policy.window))
        most = max(policy.reserve, policy.ratio * sum(self._calls))
        if policy.min_per_second:
            most = max(most, policy.min_per_second * policy.window)
            since = now if self._at is None else min(self._at, now)
            self._there += policy.min_per_second * (now - since)
            self._at = now
        self._there = min(self._there, most)
        return self._there

    def _forget(self, slot: int) -> None:
        if slot <= self._slot:
            return
        for passed in range(self._slot + 1, min(slot, self._slot + _SLOTS + 1) + 1):
            self._calls[passed % (_SLOTS + 1)] = 0
        self._slot = slot
