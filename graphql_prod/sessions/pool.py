"""Slots for calls: how many connections there are, and who waits for one."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Annotated, Any

from pydantic import Field

from graphql_prod.resilience.timeouts import Seconds
from graphql_prod.settings.base import Number, Policy


class PoolPolicy(Policy):
    """How many connections a client holds, and for how long. Sizes our own sessions only.

    :param requests: calls that are served at once; further ones wait for ``timeout.pool``.
    :param subscriptions: sockets that subscriptions may hold beside them.
    :param retry_headroom: connections on top of ``requests``, as a share: room for repeated attempts,
        which whoever comes first may take.
    :param keepalive: seconds an idle connection is kept. Node closes one after 5 s; a connection kept
        longer than its server keeps it is a reset waiting for the next mutation.
    :param max_age: seconds after which connections are renewed, for load balancers and DNS that moved;
        calls under way finish on the old ones. None keeps them.
    """

    requests: Annotated[int, Number, Field(ge=1)] = 100
    subscriptions: Annotated[int, Number, Field(ge=0)] = 100
    retry_headroom: Annotated[float, Number, Field(ge=0)] = 0.2
    keepalive: Annotated[float, Number, Field(ge=0)] = 4.0
    max_age: Seconds | None = None

    @property
    def request_connections(self) -> int:
        """Connections that calls may use at once."""
        return math.ceil(self.requests * (1 + self.retry_headroom))


class PoolTimeoutError(TimeoutError):
    """No slot of the pool became free in time; nothing was sent."""


class ConcurrencyLimiter:
    """Slots for calls, first come first served.

    Waiting happens here and not in the HTTP library's pool: so a wait for the pool can be told from a
    slow connect, and a cancel hits plain code that loses no slot.
    """

    __slots__ = ("_idle", "_waiting", "free", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiting)

    def take(self) -> bool:
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
                self.leave()
            if isinstance(error, TimeoutError):
                raise PoolTimeoutError from None
            raise

    def leave(self) -> None:
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
        self.limit = limit
        self.tasks: set[asyncio.Task[Any]] = set()

    def take(self) -> bool:
        """True while fewer than ``limit`` of them hold the caller's pool."""
        return len(self.tasks) < self.limit

    async def wait(self, timeout: float | None) -> None:
        """Wait until one of them has ended, ``timeout`` seconds at most (None: no limit).

        :raises PoolTimeoutError: none did. Safe to cancel.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self.take():
                    await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise PoolTimeoutError from None

    def leave(self) -> None:
        """Nothing to give back: the request itself holds the place."""
