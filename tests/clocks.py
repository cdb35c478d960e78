"""Clocks that tests put in the place of the one in use."""

from __future__ import annotations

from graphql_prod import clock


class Later(clock.Clock):
    """A clock that can be put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Hand(clock.Clock):
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now
