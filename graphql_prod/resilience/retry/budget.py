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
    """A client's account of :class:`RetryBudget`: calls and retries, counted over a sliding window.

    One slot more than the window has, so that what is counted is never less than a window.
    """

    policy: RetryBudget
    rejections: int = 0
    _slot: int = 0
    _calls: list[int] = field(default_factory=lambda: [0] * (_SLOTS + 1))
    _retries: list[int] = field(default_factory=lambda: [0] * (_SLOTS + 1))

    def deposit(self, now: float) -> None:
        """Count a call, among those of now if another thread was faster."""
        slot = int(now * _SLOTS / self.policy.window)
        if slot > self._slot:  # asked here, too: most calls find the slot of the one before
            self._forget(slot)
        self._calls[self._slot % (_SLOTS + 1)] += 1

    def withdraw(self) -> bool:
        """Count a retry, if one is left; a refusal is counted too."""
        if self.balance() < 1:
            self.rejections += 1
            return False
        self._retries[self._slot % (_SLOTS + 1)] += 1
        return True

    def balance(self) -> float:
        """How many retries are left now; 0 where retries outlive the calls that earned them."""
        self._forget(int(clock.monotonic() * _SLOTS / self.policy.window))
        earned = self.policy.ratio * sum(self._calls) + self.policy.min_per_second * self.policy.window
        return max(0.0, earned - sum(self._retries))

    def _forget(self, slot: int) -> None:
        if slot <= self._slot:
            return
        for passed in range(self._slot + 1, min(slot, self._slot + _SLOTS + 1) + 1):
            self._calls[passed % (_SLOTS + 1)] = self._retries[passed % (_SLOTS + 1)] = 0
        self._slot = slot
