"""What a channel sends beside reading: small tasks, begun in the order of the calls."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from graphql_prod.loops import StartedTask

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger: logging.Logger = logging.getLogger("graphql_prod")

# Answers and farewells that may wait on one socket. A server pings once in some seconds, and takes the answer
# within one: a thousand are hours of it, and next to nothing in memory.
MOST_UNREAD = 1000
# Characters of them: an answer repeats the payload of its ping, which may be as long as a message may be.
MOST_CHARACTERS_UNREAD = 1024 * 1024
# Seconds to take them once there are so many: they are sent at once to whoever reads.
TAKEN_WITHIN = 1.0


class UnreadError(Exception):
    """The other side does not read what it makes us send: the socket is given up."""

    def __init__(self) -> None:
        super().__init__("did not read our answers to its pings, and went on sending")


class Unread:
    """How much waits on one socket that the other side can make us send."""

    __slots__ = ("_all_sent", "_characters", "_checked", "_count", "_waiting")

    def __init__(self) -> None:
        self._waiting = 0
        self._count = 0
        """Since nothing waited: of what is written, aiohttp tells only now and then whether it has gone."""
        self._characters = 0
        self._checked = False
        self._all_sent: asyncio.Event | None = None

    def add(self, sending: asyncio.Task[None], characters: int) -> None:
        """Count a message in, until it is sent."""
        self._waiting += 1
        self._count += 1
        self._characters += characters
        sending.add_done_callback(self._sent)

    @property
    def suspicious(self) -> bool:
        """Whether there is too much, and nobody looks into it; a single message never is."""
        return self._too_much and not self._checked

    @property
    def _too_much(self) -> bool:
        return self._count > MOST_UNREAD or (self._count > 1 and self._characters > MOST_CHARACTERS_UNREAD)

    async def check(self) -> None:
        """If there is too much, wait until it is sent. Who waits here reads nothing meanwhile.

        :raises UnreadError: it is not taken from us.
        """
        if not self._too_much:
            return
        self._checked = True
        all_sent = self._all_sent = self._all_sent or asyncio.Event()
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                await all_sent.wait()
        except TimeoutError:
            raise UnreadError from None
        finally:
            self._checked = False

    def _sent(self, _: object) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._count = self._characters = 0
            if self._all_sent is not None:
                self._all_sent.set()
                self._all_sent = None


class SendQueue:
    """Holds tasks until they are done; empty for most of a subscription's life."""

    __slots__ = ("_host", "_loop", "_tasks")

    def __init__(self, host: str) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] | None = None

    def post(
        self, sending: Coroutine[Any, Any, None], unread: Unread | None = None, characters: int = 0
    ) -> None:
        """Send in the background; what cannot be sent, whoever reads will know.

        :param unread: counts it, for what the other side can make us send.
        """
        if self._tasks is None:
            self._tasks = set()
        # A farewell that never began would close no socket.
        task = StartedTask(sending, loop=self._loop)
        self._tasks.add(task)
        if unread is not None:
            unread.add(task, characters)
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
