"""A loop on which waiting takes no time, and everything happens at the time at which it would."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

from graphql_prod import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Skipping(selectors.SelectSelector):
    """A selector that does not wait: it moves the loop's clock to where the wait would have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; if nothing is, the time is up."""
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class Skipped(asyncio.SelectorEventLoop):
    """A loop on which waiting takes no time, and everything happens at the time at which it would."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


class LoopClock(clock.Clock):
    """The client's clock, read from the running loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def skipping(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on a loop that skips its waits."""
    with clock.using(LoopClock()), asyncio.Runner(loop_factory=Skipped) as runner:
        runner.run(work())
