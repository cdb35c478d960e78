"""The way to the end of a client: who may ask for it, how long it may take, and that it happens once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from graphql_prod.loops import StartedTask
from graphql_prod.registry import current_call, leave_calls
from graphql_prod.runtime import forks
from graphql_prod.shutdown.deadline import Deadline, is_lost, joined
from graphql_prod.shutdown.hooks import Hooks
from graphql_prod.shutdown.policy import seconds_of
from graphql_prod.shutdown.sequence import ShutdownSequence
from graphql_prod.shutdown.signals import SignalHandlers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from graphql_prod.registry import RegisteredCall, Registry
    from graphql_prod.shutdown.report import ShutdownReport
    from graphql_prod.shutdown.sequence import Connections, Drainable, ShutdownGroup

_INSIDE: ContextVar[frozenset[tuple[Conductor, str]]] = ContextVar("graphql_prod_ends", default=frozenset())
"""The ``close()`` and ``shutdown()`` of clients that we have called, and that run."""


class Conductor:
    """Takes a client from open to closed, once, whoever asks for it.

    :ivar hooks: what the program does before and after the end.
    :ivar group: with whom this client ends together; None: alone.
    :ivar exempt: calls that asked for the end themselves, and so cannot be waited for.
    :ivar exempt_readers: subscriptions that did.

    :param connections: the client's subscriptions.
    :param drained: what sends nothing more from the beginning of the end on.
    :param release: closes what calls went over, at the end.
    :param closing: the client's ``close()``, which may be a subclass's own.
    :param ending: that where it is a subclass's own, else the client's ``shutdown()``.
    :param detached: requests that nobody waits for, on a session that must not see them cancelled before it
        has to.
    :param deadline: seconds, unless whoever asks names others; None means no limit.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        connections: Connections,
        drained: Iterable[Drainable],
        release: Callable[[], Coroutine[Any, Any, None]],
        closing: Callable[[], Awaitable[object]],
        ending: Callable[[float | None], Awaitable[object]],
        detached: set[asyncio.Task[Any]],
        deadline: float | None,
        lame_duck: float = 0.0,
    ) -> None:
        self._lame_duck = lame_duck
        self.registry = registry
        self.host: str = registry.host
        self.connections = connections
        self.drained: tuple[Drainable, ...] = tuple(drained)
        self.release = release
        self.detached = detached
        self.exempt: set[RegisteredCall] = set()
        self.exempt_readers: set[Any] = set()
        self.hooks: Hooks = Hooks(self.host)
        self.signals: SignalHandlers = SignalHandlers(self.end, self.host)
        self.group: ShutdownGroup | None = None
        self._closing_of_the_client = closing
        self._ending_of_the_client = ending
        self._deadline = deadline
        self._sequence: ShutdownSequence | None = None
        self._closing: asyncio.Task[ShutdownReport] | None = None
        self._latest = math.inf
        """When the end has to be over by, however it begins."""
        self._asked = False
        """Whether the client's own way to the end has been begun from outside."""
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked; one that was closed stays so."""
        kept = (set(self.detached), self.exempt, self.exempt_readers, self._sequence, self._closing)
        self.exempt, self.exempt_readers = set(), set()
        self.detached.clear()
        self.group = self._sequence = self._closing = None
        self._latest, self._asked = math.inf, False
        if self.registry.state != "closed":
            self.hooks.begin_anew()
        return kept

    def leave(self) -> None:
        """Be ready for nothing new: probes say so, and subscriptions end after what waits. Calls go on."""
        if self.registry.state == "open":
            self.registry.leaving = True
            self.connections.drain()

    def join(self, group: ShutdownGroup) -> None:
        """End together with others."""
        self.group = group

    def install(self, signals: Iterable[int]) -> None:
        """Have signals begin the end.

        :raises ClientClosedError: it has been; nobody would give the signals back.
        """
        if self.registry.state == "closed":
            self.registry.admit()
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
                await self._ending_of_the_client(deadline)
        except Exception as error:
            report = await self.shutdown()
            if self._sequence is not None and error is self._sequence.failure:
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
                await self._closing_of_the_client()

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
        first = self.registry.state != "closed"
        if (self, "shutdown") in _INSIDE.get():
            await self.shutdown()
        else:
            with self.inside("shutdown"):
                await shutdown()
        if first and self._sequence is not None and self._sequence.failure is not None:
            raise self._sequence.failure

    def _begin(self, seconds: float | None) -> asyncio.Task[ShutdownReport]:
        # What hooks send is no part of the call that happened to ask for the end.
        context = contextvars.copy_context()
        leave_calls(context)
        self._sequence = ShutdownSequence(self, Deadline(seconds))
        self.registry.leaving = True
        if not self._lame_duck or seconds == 0:
            self.registry.begin_end(self._sequence)
        self._closing = StartedTask(
            self._end(self._sequence), loop=asyncio.get_running_loop(), context=context
        )
        return self._closing

    async def _end(self, sequence: ShutdownSequence) -> ShutdownReport:
        try:
            if self.registry.state == "open":
                await sequence.limp(self._lame_duck)
                self.registry.begin_end(sequence)
            return await sequence.run()
        finally:
            self.registry.become("closed")
            self.signals.restore()

    def shorten(self, seconds: float | None) -> None:
        """Bring the end of a shutdown that runs nearer."""
        if self._sequence is not None and not self._sequence.loop.is_closed():
            self._sequence.deadline.shorten(seconds)

    def spare_the_caller(self) -> None:
        """Do not wait for whoever waits for us."""
        call = current_call()
        if call is not None and call.task is asyncio.current_task():
            self.exempt.update(call.lineage())
        self.exempt_readers |= self.connections.own_readers()
        for hooks in self.all_hooks():
            if hooks.inside:
                hooks.spare()
        self.registry.look_again()

    def all_hooks(self) -> list[Hooks]:
        """The client's own, and those of the group that it ends with."""
        return [self.hooks, *([] if self.group is None else [self.group.hooks])]
