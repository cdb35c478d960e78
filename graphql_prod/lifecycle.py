"""Which calls are under way, and the end: no new ones, a time to finish, then the cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from graphql_prod import clock
from graphql_prod.call import CURRENT
from graphql_prod.errors import ClientClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from graphql_prod.call import Call
    from graphql_prod.subscriptions.hub import Hub, Reader

State = Literal["open", "draining", "closing", "closed"]

# Kubernetes kills 30 s after SIGTERM.
CLOSE_DEADLINE = 25.0
# Seconds for what has been cut to come to its end.
STRAGGLERS = 2.0
# Long enough for what a healthy server answers; nobody waits for the others.
ABANDONED_GRACE = 1.0


class Lifecycle:
    """Counts calls in, counts them out, and closes once."""

    def __init__(self, host: str) -> None:
        self.state: State = "open"
        self.calls: set[Call] = set()
        self.hub: Hub | None = None
        """The client's subscriptions."""
        self._host = host
        self.abandoned: set[asyncio.Task[Any]] = set()
        """Requests that nobody waits for, on a session that must not see them cancelled before it has to."""
        self.release: Callable[[], Awaitable[None]] | None = None
        """Closes what calls went over, at the end."""
        self._pauses: set[asyncio.Future[None]] = set()
        self._left: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None
        self._exempt: set[Call] = set()
        self._exempt_readers: set[Reader] = set()

    def enter(self, call: Call) -> None:
        """Begin a call.

        :raises ClientClosedError: the client takes no new work. A call that is part of one under way
            (an introspection before a query) may still begin.
        """
        if self.state != "open" and call.parent not in self.calls:
            self.admit()
        self.calls.add(call)

    def admit(self) -> None:
        """Let new work in.

        :raises ClientClosedError: the client takes none.
        """
        if self.state != "open":
            raise ClientClosedError(
                f"The client for {self._host} is {self.state} and takes no new calls. "
                "Make a new client, or close this one later."
            )

    def leave(self, call: Call) -> None:
        """End a call."""
        self.calls.discard(call)
        self.look_again()

    async def pause(self, seconds: float) -> bool:
        """Wait; False if the client began to close meanwhile. Safe to cancel."""
        if self.state != "open":
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handle = clock.wake(waiter, seconds)
        self._pauses.add(waiter)
        try:
            await waiter
        finally:
            handle.cancel()
            self._pauses.discard(waiter)
        return self.state == "open"

    async def close(self, deadline: float = CLOSE_DEADLINE) -> None:
        """Take no new calls, let those under way finish for ``deadline`` seconds, cut the rest, close.

        Again while it runs: joins, and a deadline of 0 cuts at once. Cancelling the caller does not stop it.
        A call that closes its own client is not waited for, nor is a subscription that does it in a callback.
        """
        if self.state == "closed":
            return
        self._spare_the_caller()
        if self._closing is None:
            self._hurry = asyncio.Event()
            self._closing = asyncio.create_task(self._close(deadline))
        if deadline <= 0 and self._hurry is not None:
            self._hurry.set()
        await asyncio.shield(self._closing)

    def _spare_the_caller(self) -> None:
        call = CURRENT.get()
        if call is not None and call.task is asyncio.current_task():
            self._exempt.update(call.lineage())
        if self.hub is not None:
            self._exempt_readers |= self.hub.own_readers()
        self.look_again()

    def look_again(self) -> None:
        """Have the closing task count anew; it may wait on another loop than this one."""
        if self._left is not None and self._closing is not None and not self._closing.done():
            self._closing.get_loop().call_soon_threadsafe(self._left.set)

    async def _close(self, deadline: float) -> None:
        self.state = "draining"
        for waiter in list(self._pauses):
            waiter.get_loop().call_soon_threadsafe(clock.end, waiter)
        if self.hub is not None:
            self.hub.drain()
        try:
            await self._drain(deadline)
        finally:
            self.state = "closing"
            try:
                if self.release is not None:
                    await self.release()
            finally:
                self.state = "closed"

    async def _drain(self, deadline: float) -> None:
        assert self._hurry is not None  # noqa: S101
        drained = asyncio.create_task(self._all_left())
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            {drained, hurried}, timeout=max(0.0, deadline), return_when=asyncio.FIRST_COMPLETED
        )
        if drained.done() and self.abandoned:
            await asyncio.wait(self.abandoned, timeout=min(ABANDONED_GRACE, deadline))
        hurried.cancel()
        for call in self.calls - self._exempt:
            call.cut()
        for task in self.abandoned:
            task.cancel()
        # Bounded: a transport of the user's may swallow the cancel, a dead peer never answers the close.
        if self.hub is not None and not drained.done():
            self.hub.cut(self._exempt_readers)
        await asyncio.wait({drained}, timeout=STRAGGLERS)
        drained.cancel()
        for task in self.abandoned:
            task.cancel()

    async def _all_left(self) -> None:
        self._left = asyncio.Event()
        while self._busy():
            self._left.clear()
            await self._left.wait()

    def _busy(self) -> bool:
        if self.calls - self._exempt:
            return True
        return self.hub is not None and self.hub.busy(self._exempt_readers)
