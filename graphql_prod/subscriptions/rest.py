"""The wait between two attempts to connect, which somebody who joins cuts short."""

from __future__ import annotations

import asyncio

from graphql_prod import clock


class Rest:
    """One a channel; nothing is held while nobody waits."""

    __slots__ = ("_earliest", "_timer", "_waiter")

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._earliest = 0.0

    async def take(self, seconds: float, least: float = 0.0) -> None:
        """Wait, and no shorter than ``least`` seconds whoever wakes it. Safe to cancel."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        self._earliest = clock.monotonic() + least
        self._timer = clock.wake(waiter, seconds)
        try:
            await waiter
        finally:
            self._timer.cancel()
            self._waiter = self._timer = None

    def wake(self) -> None:
        """End the wait as soon as that may be."""
        waiter, timer = self._waiter, self._timer
        if waiter is None or timer is None:
            return
        left = self._earliest - clock.monotonic()
        if left <= 0:
            clock.end(waiter)
        else:
            timer.cancel()
            self._timer = clock.wake(waiter, left)
