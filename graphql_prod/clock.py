"""Where time comes from. Tests put another clock in its place; everything here reads the one in use."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator


class Clock:
    """Monotonic seconds, and a wake-up call after some of them."""

    # Not a function around it: every call asks twice.
    monotonic: ClassVar[staticmethod[[], float]] = staticmethod(time.monotonic)

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        """Set the waiter's result after so many seconds, unless it is done by then."""
        return waiter.get_loop().call_later(seconds, end, waiter)


class InstantClock(Clock):
    """Waits end at once; nothing else changes."""

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        return waiter.get_loop().call_soon(end, waiter)


def end(waiter: asyncio.Future[None]) -> None:
    """Let whoever waits go on."""
    if not waiter.done():
        waiter.set_result(None)


_in_use: Clock = Clock()


def monotonic() -> float:
    """Seconds on the clock in use."""
    return _in_use.monotonic()


def wake(waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
    """See :meth:`Clock.wake`."""
    return _in_use.wake(waiter, seconds)


@contextlib.contextmanager
def using(clock: Clock) -> Iterator[Clock]:
    """Read another clock inside the block, in this whole process."""
    global _in_use
    before, _in_use = _in_use, clock
    try:
        yield clock
    finally:
        _in_use = before
