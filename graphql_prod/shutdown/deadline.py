"""The time of a shutdown: it may become shorter, never longer."""

from __future__ import annotations

import asyncio
from typing import Any

from graphql_prod import clock
from graphql_prod.loops import call_on

# A loop that ends tells nobody: whoever waits for something on it looks after so many seconds.
LOOK = 0.1


def is_lost(task: asyncio.Task[Any]) -> bool:
    """Whether a task will never have a result: it was cancelled, or its loop does not run any more."""
    return task.cancelled() or not (task.done() or task.get_loop().is_running())


async def joined(task: asyncio.Task[Any]) -> None:
    """Wait until a task is over, or is lost. It may run on another loop.

    A cancel of whoever waits does not reach it. Nor does the end of its loop reach whoever waits: no task
    of ours is left there, which that end would cancel.
    """
    here, there = asyncio.get_running_loop(), task.get_loop()
    if there is here:
        await asyncio.wait({task})
        return
    bell = here.create_future()
    call_on(there, task.add_done_callback, lambda _: call_on(here, clock.end, bell))
    while not task.done() and not is_lost(task):
        await asyncio.wait({bell}, timeout=LOOK)


class Deadline:
    """An end in time, for whoever waits for something else until then.

    :ivar over: done when the time is up.
    :ivar passed: when that was, by the loop's clock; None before.
    """

    def __init__(self, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.passed: float | None = None
        self._end = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        if seconds is not None:
            self._bring_forward(self._loop.time() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds that are left; infinite without a limit."""
        return max(0.0, self._end - self._loop.time())

    def shorten(self, seconds: float | None) -> None:
        """End after so many seconds, unless it ends before that anyway. From any loop."""
        if seconds is None:
            return
        call_on(self._loop, self._bring_forward, self._loop.time() + seconds)

    def _bring_forward(self, end: float) -> None:
        if end >= self._end or self.over.done():
            return
        self._end = end
        if self._timer is not None:
            self._timer.cancel()
        if end <= self._loop.time():
            self._expire()
        elif end < float("inf"):
            self._timer = self._loop.call_at(end, self._expire)

    def _expire(self) -> None:
        if not self.over.done():
            self.passed = self._loop.time()
            self.over.set_result(None)

    async def within(self, *futures: asyncio.Future[Any], at_least: float = 0.0) -> bool:
        """Wait for the first of them until the time is up, but ``at_least`` so many seconds.

        True if one is done. Safe to cancel; neither cancels them.
        """
        granted = self._loop.time() + at_least
        await asyncio.wait({*futures, self.over}, return_when=asyncio.FIRST_COMPLETED)
        done = any(future.done() for future in futures)
        if not done and (more := granted - self._loop.time()) > 0:
            await asyncio.wait(futures, timeout=more, return_when=asyncio.FIRST_COMPLETED)
            done = any(future.done() for future in futures)
        return done

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
