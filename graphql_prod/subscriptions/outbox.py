"""What a line sends beside reading: small tasks, begun in the order of the calls."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from graphql_prod.loops import StartedTask

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger = logging.getLogger("graphql_prod")


class Outbox:
    """Holds tasks until they are done; empty for most of a subscription's life."""

    __slots__ = ("_host", "_loop", "_tasks")

    def __init__(self, host: str) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] | None = None

    def post(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send in the background; what cannot be sent, whoever reads will know."""
        if self._tasks is None:
            self._tasks = set()
        # A farewell that never began would close no socket.
        task = StartedTask(sending, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._sent)

    def cancel(self) -> None:
        """Give up what is not sent yet."""
        for task in self._tasks or ():
            task.cancel()

    async def flush(self, seconds: float) -> None:
        """Wait until all is sent, so many seconds at most; then give up the rest. Safe to cancel."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds)
        finally:
            self.cancel()

    def _sent(self, task: asyncio.Task[None]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
            self._tasks = self._tasks or None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("%s: not sent: %s", self._host, type(error).__name__)
