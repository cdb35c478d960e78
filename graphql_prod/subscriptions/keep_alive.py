"""Whether the other side is alive: asked when it has been silent, given up when it stays so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from graphql_prod.subscriptions.policy import SubscriptionPolicy

# Rounds of the loop before the decision: what waits is read and sent in them.
TURNS = 2


class KeepAlive:
    """The clock of one socket: one timer, which looks when something was last heard.

    :param post: begins a coroutine.
    :param ping: sends a ping.
    :param dead: is called when no answer came.
    :param data_at: when bytes last came, on the loop's clock; None where only messages are known.
    :ivar heard: when something was last heard, as far as :meth:`answered` was told.
    """

    __slots__ = (
        "_data_at",
        "_dead",
        "_held",
        "_interval",
        "_loop",
        "_ping",
        "_pinged",
        "_post",
        "_timeout",
        "_timer",
        "_turns",
        "heard",
    )

    def __init__(
        self,
        policy: SubscriptionPolicy,
        post: Callable[[Coroutine[Any, Any, None]], None],
        ping: Callable[[], Coroutine[Any, Any, None]],
        dead: Callable[[], None],
        data_at: Callable[[], float | None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval = policy.ping_interval
        self._timeout = policy.pong_timeout
        self._post = post
        self._ping = ping
        self._dead = dead
        self._data_at = data_at
        self._held = False
        self._pinged: float | None = None
        self._turns = 0
        self._timer: asyncio.Handle | None = None
        self.heard: float = self._loop.time()
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
        self._turns = 0
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        interval, now = self._interval, self._loop.time()
        if interval is None:
            return
        if self._held:
            self._wake_in(interval)
            return
        data_at = self._data_at()
        heard = self.heard if data_at is None else max(self.heard, data_at)
        if self._pinged is not None and heard < self._pinged:
            self._judge(self._pinged, now, interval)
        elif now - heard >= interval:
            self._pinged = now
            self._post(self._beat())
            self._wake_in(interval if self._timeout is None else min(interval, self._timeout))
        else:
            self._wake_in(heard + interval - now)

    async def _beat(self) -> None:
        # Not when it was asked for: the loop may have stood still since.
        self._pinged = self._loop.time()
        await self._ping()

    def _judge(self, pinged: float, now: float, interval: float) -> None:
        if self._timeout is None:
            self._wake_in(interval)
        elif now - pinged < self._timeout:
            self._wake_in(pinged + self._timeout - now)
        elif self._turns < TURNS:
            self._turns += 1
            self._timer = self._loop.call_soon(self._look)
        else:
            self._dead()
