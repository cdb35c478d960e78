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

State = Literal["open", "draining", "closing", "closed"]

# Kubernetes kills 30 s after SIGTERM.
CLOSE_DEADLINE = 25.0


class Lifecycle:
    """Counts calls in, counts them out, and closes once."""

    def __init__(self, host: str, close_session: Callable[[], Awaitable[None]]) -> None:
        self.state: State = "open"
        self.calls: set[Call] = set()
        self.subscriptions: set[asyncio.Task[Any]] = set()
        self._host = host
        self._close_session = close_session
        self._pauses: set[asyncio.Future[None]] = set()
        self._left: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None

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

    def follow(self, subscription: asyncio.Task[Any] | None) -> None:
        """Keep a subscription's task until it ends, so that closing ends it too."""
        if subscription is not None:
            self.subscriptions.add(subscription)
            subscription.add_done_callback(self.subscriptions.discard)

    def leave(self, call: Call) -> None:
        """End a call."""
        self.calls.discard(call)
        if self._left is not None:
            self._left.set()

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
        A call that closes its own client is not waited for.
        """
        if self.state == "closed":
            return
        if self._closing is None:
            self._hurry = asyncio.Event()
            self._closing = asyncio.create_task(self._close(deadline, CURRENT.get()))
        if deadline <= 0 and self._hurry is not None:
            self._hurry.set()
        await asyncio.shield(self._closing)

    async def _close(self, deadline: float, own: Call | None) -> None:
        self.state = "draining"
        for waiter in list(self._pauses):
            if not waiter.done():
                waiter.set_result(None)
        for subscription in self.subscriptions:
            subscription.cancel()
        exempt = set(own.lineage()) if own is not None else set()
        try:
            await self._drain(deadline, exempt)
        finally:
            self.state = "closing"
            try:
                await self._close_session()
            finally:
                self.state = "closed"

    async def _drain(self, deadline: float, exempt: set[Call]) -> None:
        assert self._hurry is not None  # noqa: S101
        drained = asyncio.create_task(self._all_left(exempt))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            {drained, hurried}, timeout=max(0.0, deadline), return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        for call in self.calls - exempt:
            call.cut()
        await drained
        await asyncio.wait(self.subscriptions) if self.subscriptions else None

    async def _all_left(self, exempt: set[Call]) -> None:
        self._left = asyncio.Event()
        while self.calls - exempt:
            self._left.clear()
            await self._left.wait()
