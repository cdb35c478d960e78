"""Which calls are under way, what is still let in, and the way to the end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from graphql_prod import clock
from graphql_prod.calls.call import CURRENT
from graphql_prod.errors import ClientClosedError
from graphql_prod.loops import StartedTask, call_on
from graphql_prod.runtime import forks
from graphql_prod.shutdown.deadline import Deadline, is_lost, joined
from graphql_prod.shutdown.hooks import Hooks
from graphql_prod.shutdown.policy import seconds_of
from graphql_prod.shutdown.sequence import ShutdownSequence
from graphql_prod.shutdown.signals import SignalHandlers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from graphql_prod.calls.call import Call
    from graphql_prod.health.probe import Probe
    from graphql_prod.schema.store import Schemas
    from graphql_prod.shutdown.report import ShutdownReport
    from graphql_prod.shutdown.sequence import ShutdownGroup
    from graphql_prod.subscriptions.manager import ConnectionManager, Reader

State = Literal["open", "draining", "closing", "closed"]


_INSIDE: ContextVar[frozenset[tuple[Lifecycle, str]]] = ContextVar("graphql_prod_ends", default=frozenset())
"""The ``close()`` and ``shutdown()`` of clients that we have called, and that run."""


class Lifecycle:
    """Counts calls in, counts them out, and closes once."""

    hub: ConnectionManager
    """The client's subscriptions."""
    probe: Probe
    schemas: Schemas
    release: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Closes what calls went over, at the end."""
    leader: ShutdownGroup | None = None
    """Who ends this client together with others."""
    closing: Callable[[], Awaitable[object]]
    """The client's ``close()``, which may be a subclass's own."""
    ending: Callable[[float | None], Awaitable[object]]
    """That where it is a subclass's own, else the client's ``shutdown()``."""

    def __init__(self, host: str, deadline: float | None) -> None:
        self.host = host
        self.state: State = "open"
        self.calls: set[Call] = set()
        self.abandoned: set[asyncio.Task[Any]] = set()
        """Requests that nobody waits for, on a session that must not see them cancelled before it has to."""
        self.exempt: set[Call] = set()
        """Calls that asked for the end themselves, and so cannot be waited for."""
        self.exempt_readers: set[Reader] = set()
        """Subscriptions that did."""
        self.hooks = Hooks(host)
        self.signals = SignalHandlers(self.end, host)
        self._deadline = deadline
        self._pauses: set[asyncio.Future[None]] = set()
        self._impatient = False
        self._stages: ShutdownSequence | None = None
        self._closing: asyncio.Task[ShutdownReport] | None = None
        self._latest = math.inf
        """When the end has to be over by, however it begins."""
        self._asked = False
        """Whether the client's own way to the end has been begun from outside."""
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked; one that was closed stays so."""
        kept = (
            self.calls,
            set(self.abandoned),
            self.exempt_readers,
            self._pauses,
            self._stages,
            self._closing,
        )
        self.calls, self.exempt, self.exempt_readers, self._pauses = set(), set(), set(), set()
        self.abandoned.clear()
        self.leader, self._impatient, self._stages, self._closing = None, False, None, None
        self._latest, self._asked = math.inf, False
        CURRENT.set(None)  # what was forked in the middle of a call is no part of it
        if self.state != "closed":
            self.state = "open"
            self.hooks.begin_anew()
        return kept

    def enter(self, call: Call) -> None:
        """Begin a call.

        :raises ClientClosedError: the client takes no new work. A call that is part of work under way may
            still begin: an introspection before a query, what a hook or a callback sends.
        """
        if call.silent:
            return
        if self.state != "open" and call.parent not in self.calls and not self._is_part_of_the_end():
            self.admit()
        self.calls.add(call)

    def _is_part_of_the_end(self) -> bool:
        if self.state != "draining":
            return False
        inside = self.hooks.inside or (self.leader is not None and self.leader.hooks.inside)
        return inside or bool(self.hub.own_readers() - self.exempt_readers)

    def admit(self) -> None:
        """Let new work in.

        :raises ClientClosedError: the client takes none.
        """
        if self.state != "open":
            raise ClientClosedError(
                f"The client for {self.host} is {self.state} and takes no new calls. "
                "Make a new client, or close this one later."
            )

    def leave(self, call: Call) -> None:
        """End a call; one that was never let in is none."""
        if self._stages is None:
            self.calls.discard(call)
        elif call in self.calls:
            self.calls.remove(call)
            self._stages.left(call)

    async def pause(self, seconds: float) -> bool:
        """Wait; False if nobody has the time for that any more. Safe to cancel."""
        if self._impatient:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handle = clock.wake(waiter, seconds)
        self._pauses.add(waiter)
        try:
            await waiter
        finally:
            handle.cancel()
            self._pauses.discard(waiter)
        return not self._impatient

    def give_up_waiting(self) -> None:
        """Calls that wait for their next attempt raise their last failure instead."""
        self._impatient = True
        for waiter in list(self._pauses):
            call_on(waiter.get_loop(), clock.end, waiter)

    def look_again(self) -> None:
        """Somebody has left, or need not be waited for; whoever waits for that counts anew."""
        if self._stages is not None:
            self._stages.look_again()

    # The end.

    def install(self, signals: Iterable[int]) -> None:
        """Have signals begin the end.

        :raises ClientClosedError: it has been; nobody would give the signals back.
        """
        if self.state == "closed":
            self.admit()
        self.signals.install(signals)

    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        """Take no new calls, let those under way finish until the deadline, cut the rest, close.

        Again while it runs: joins, and a shorter deadline shortens it. Cancelling the caller does not stop
        it. A call that asks for the end of its own client is not waited for, nor is a subscription that
        does it in a callback, nor a hook.
        """
        seconds = self._deadline if deadline is None else seconds_of(deadline)
        if self._latest < math.inf:
            left = max(0.0, self._latest - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        while True:
            closing = self._closing
            if closing is None or is_lost(closing):
                closing = self._begin(seconds)
            elif not closing.done():
                self.shorten(seconds)
            self.spare_the_caller()
            await joined(closing)
            if not is_lost(closing):
                return closing.result()

    async def end(self, deadline: float | None) -> ShutdownReport:
        """End the client from outside, for a signal or a coordinator, as its program does it.

        What a subclass does at its end is done once, and the client is closed whatever it does.
        """
        self.limit(deadline)
        if self._asked:
            return await self.shutdown(deadline)
        self._asked = True
        try:
            with self.inside("close"):
                await self.ending(deadline)
        except Exception as error:
            report = await self.shutdown()
            if self._stages is not None and error is self._stages.failure:
                return report  # which says so
            raise
        return await self.shutdown()

    def limit(self, seconds: float | None) -> None:
        """However the end begins, it has no more than so many seconds from now. None changes nothing."""
        if seconds is not None:
            self._latest = min(self._latest, time.monotonic() + seconds)
            self.shorten(seconds)

    async def close_client(self) -> None:
        """Have the client closed by its own ``close()``, unless that is what asks."""
        if (self, "close") in _INSIDE.get():
            await self.close(self.shutdown)
        else:
            with self.inside("close"):
                await self.closing()

    @contextlib.contextmanager
    def inside(self, way: str) -> Iterator[None]:
        """While the client's own ``close()`` or ``shutdown()`` runs, which may come back to us."""
        token = _INSIDE.set(_INSIDE.get() | {(self, way)})
        try:
            yield
        finally:
            _INSIDE.reset(token)

    async def close(self, shutdown: Callable[[], Awaitable[object]]) -> None:
        """Shut down, and raise what closing a transport of the caller's raised.

        :param shutdown: the client's, which may be a subclass's own.
        :raises Exception: the transport's own.
        """
        first = self.state != "closed"
        if (self, "shutdown") in _INSIDE.get():
            await self.shutdown()
        else:
            with self.inside("shutdown"):
                await shutdown()
        if first and self._stages is not None and self._stages.failure is not None:
            raise self._stages.failure

    def _begin(self, seconds: float | None) -> asyncio.Task[ShutdownReport]:
        # What hooks send is no part of the call that happened to ask for the end.
        context = contextvars.copy_context()
        context.run(CURRENT.set, None)
        self.state = "draining"
        self._stages = ShutdownSequence(self, Deadline(seconds))
        self._closing = StartedTask(self._end(self._stages), loop=asyncio.get_running_loop(), context=context)
        return self._closing

    async def _end(self, stages: ShutdownSequence) -> ShutdownReport:
        try:
            return await stages.run()
        finally:
            self.state = "closed"
            self.signals.restore()

    def shorten(self, seconds: float | None) -> None:
        """Bring the end of a shutdown that runs nearer."""
        if self._stages is not None and not self._stages.loop.is_closed():
            self._stages.deadline.shorten(seconds)

    def spare_the_caller(self) -> None:
        """Do not wait for whoever waits for us."""
        call = CURRENT.get()
        if call is not None and call.task is asyncio.current_task():
            self.exempt.update(call.lineage())
        self.exempt_readers |= self.hub.own_readers()
        for hooks in (self.hooks, *([] if self.leader is None else [self.leader.hooks])):
            if hooks.inside:
                hooks.spare()
        self.look_again()
