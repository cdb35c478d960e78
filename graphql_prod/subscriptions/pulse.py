"""Whether the other side is alive: asked when it has been silent, given up when it stays so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.subscriptions.policy import SubscriptionPolicy


class Pulse:
    """The clock of one socket. A message costs it one look at the time; the rest is one timer.

    :ivar heard: when something was last heard, on the loop's clock.
    """

    __slots__ = ("_dead", "_held", "_interval", "_loop", "_ping", "_pinged", "_timeout", "_timer", "heard")

    def __init__(
        self, policy: SubscriptionPolicy, ping: Callable[[], None], dead: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval = policy.ping_interval
        self._timeout = policy.pong_timeout
        self._ping = ping
        self._dead = dead
        self._held = False
        self._pinged: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.heard = self._loop.time()
        if self._interval is not None:
            self._wake_in(self._interval)

    def answered(self) -> None:
        """Something was heard."""
        self.heard = self._loop.time()

    def hold(self) -> None:
        """Stand still: a full queue keeps the reader from hearing anything."""
        self._held = True

    def go_on(self) -> None:
        """Begin anew."""
        self._held = False
        self._pinged = None
        self.heard = self._loop.time()

    def stop(self) -> None:
        """The socket has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        interval, now = self._interval, self._loop.time()
        if interval is None:
            return
        if self._held:
            self._wake_in(interval)
        elif self._pinged is not None and self.heard < self._pinged:
            self._judge(self._pinged, now, interval)
        elif now - self.heard >= interval:
            self._pinged = now
            self._ping()
            self._wake_in(interval if self._timeout is None else min(interval, self._timeout))
        else:
            self._wake_in(self.heard + interval - now)

    def _judge(self, pinged: float, now: float, interval: float) -> None:
        if self._timeout is None:
            self._wake_in(interval)
        elif now - pinged >= self._timeout:
            self._dead()
        else:
            self._wake_in(pinged + self._timeout - now)
