"""Slots for calls: how many there are, and who waits for one; requests that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class PoolTimeoutError(TimeoutError):
    """No slot of the pool became free in time; nothing was sent."""


class ConcurrencyLimiter:
    """Slots for calls, first come first served.

    Waiting happens here and not in the HTTP library's pool: so a wait for the pool can be told from a
    slow connect, and a cancel hits plain code that loses no slot.
    """

    __slots__ = ("_idle", "_waiting", "free", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.free: int = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiting)

    def acquire(self) -> bool:
        """Take a slot if one is free."""
        if self.free:
            self.free -= 1
            return True
        return False

    async def wait(self, timeout: float | None) -> None:
        """Wait for a slot, ``timeout`` seconds at most (None: no limit).

        :raises PoolTimeoutError: none became free. Safe to cancel: a slot handed over meanwhile is given on.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                self.release()
            if isinstance(error, TimeoutError):
                raise PoolTimeoutError from None
            raise

    def release(self) -> None:
        """Give the slot to the next in line, or back."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1
        if self._idle is not None and self.free == self.limit:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until nobody holds a slot."""
        self._idle = asyncio.Event()
        if self.free < self.limit:
            await self._idle.wait()


class DetachedRequests:
    """Requests on a caller's httpx client that nobody waits for any more; at most ``limit`` of them."""

    __slots__ = ("limit", "tasks")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.tasks: set[asyncio.Task[Any]] = set()

    def acquire(self) -> bool:
        """True while fewer than ``limit`` of them hold the caller's pool."""
        return len(self.tasks) < self.limit

    async def wait(self, timeout: float | None) -> None:
        """Wait until one of them has ended, ``timeout`` seconds at most (None: no limit).

        :raises PoolTimeoutError: none did. Safe to cancel.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self.acquire():
                    await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise PoolTimeoutError from None

    def release(self) -> None:
        """Nothing to give back: the request itself holds the place."""
