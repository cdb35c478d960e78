"""A line of calls that wait for their turn: let go one by one, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from graphql_prod import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.registry import Registry

_LONGEST = 3600.0
"""Seconds between two looks of whoever waits for an answer to somebody else's call."""


class Line:
    """Those who wait for the same thing.

    :ivar waiting: what each of them waits for, the first one first.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self, wait: Callable[[float], float], go: Callable[[float], None], *, first: bool) -> bool:
        """Wait until it is one's turn, and go; False if the client is closing. Safe to cancel.

        :param first: whether to go before those who wait already.
        """
        if not self.waiting and wait(now := clock.monotonic()) <= 0:
            go(now)
            return True
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = self.waiting.appendleft if first else self.waiting.append
        place(mine)
        try:
            while True:
                seconds = _LONGEST
                if self.waiting[0] is mine:
                    now = clock.monotonic()
                    seconds = min(wait(now), _LONGEST)
                    if seconds <= 0:
                        go(now)
                        return True
                if not await self._registry.pause(seconds, mine):
                    return False
                mine = self._again(mine)
        finally:
            self.waiting.remove(mine)
            self.wake()

    def _again(self, mine: asyncio.Future[None]) -> asyncio.Future[None]:
        """A future to wait for anew, in the same place."""
        fresh: asyncio.Future[None] = mine.get_loop().create_future()
        self.waiting[self.waiting.index(mine)] = fresh
        return fresh

    def wake(self) -> None:
        """Something has changed: whoever is first looks again."""
        if self.waiting:
            clock.end(self.waiting[0])

    @staticmethod
    def estimate(ahead: int, wait: float, interval: float) -> float:
        """Seconds until whoever comes last may go."""
        return 0.0 if wait == inf else wait + ahead * interval
