"""Waiting for facts: a test says what must become true, and learns why it did not."""

import asyncio
from collections.abc import Callable


class Facts:
    """Something that records facts, and wakes whoever waits for one."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def _changed(self) -> None:
        for event in self._waiting:
            event.set()

    async def until(
        self,
        true: Callable[[], bool],
        what: Callable[[], str] | str = "the condition to become true",
        timeout: float | None = 10.0,
    ) -> None:
        """Wait until `true()` holds; it is asked again after every recorded fact.

        `timeout` is in seconds, None waits for ever. `what` names the awaited fact in the
        AssertionError that is raised when time is up. Safe to cancel.
        """
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(timeout):
                while not true():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {timeout} s in vain for {text}") from None
        finally:
            self._waiting.discard(event)


def listed(title: str, things: list[str]) -> str:
    """One line for each thing below the title, for people reading a failed test."""
    return "\n".join([title, *(f"  {number}. {thing}" for number, thing in enumerate(things, 1))])
