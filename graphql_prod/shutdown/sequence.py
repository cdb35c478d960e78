"""One shutdown, from the first hook to the last, and the count of what became of everything."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from graphql_prod.loops import StartedTask, call_on
from graphql_prod.runtime import logs
from graphql_prod.shutdown.records import log_safely
from graphql_prod.shutdown.report import Phase, ShutdownReport, Stopwatch, log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine

    from graphql_prod.registry import RegisteredCall, Registry
    from graphql_prod.shutdown.deadline import Deadline
    from graphql_prod.shutdown.hooks import Hooks

# Seconds for what has been cut to come to its end.
STRAGGLERS = 1.5
# Long enough for what a healthy server answers; nobody waits for the others.
DETACHED_GRACE = 1.0
# For closing the session and the transports, when less is left of the deadline.
CLOSE_LIMIT = 1.5
# For what was given up after that. In all a shutdown outlives its deadline by less than 5 s, whatever hangs.
CANCEL_LIMIT = 0.5

CUT_OFF = "closing the session or a transport was cut off by the end of the event loop"


@dataclass(frozen=True, slots=True)
class ShutdownGroup:
    """What a client waits for that ends together with others.

    :ivar hooks: those of all clients; they may use them.
    :ivar go: done when the ``before`` hooks among them are through.
    :ivar turn: done when the clients have ended that must be closed before this one; None: there is none.
    """

    hooks: Hooks
    go: asyncio.Future[None]
    turn: asyncio.Future[Any] | None


class Drainable(Protocol):
    """What sends nothing more from the beginning of the end on."""

    def drain(self) -> None:
        """Begin nothing new, and end what nobody waits for."""


class Connections(Protocol):
    """The subscriptions of a client."""

    drained: int
    cut_off: int

    @property
    def readers(self) -> Collection[Any]:
        """Those that are not over."""

    def own_readers(self) -> set[Any]:
        """Readers whose own code is asking, and which can therefore not be waited for."""

    def drain(self) -> None:
        """Take nothing new, on any loop."""

    def busy(self, exempt: set[Any]) -> bool:
        """Whether anything is left that comes to its end on a loop that runs."""

    def abort(self, exempt: set[Any]) -> None:
        """End what is left, now."""


class EndingClient(Protocol):
    """What a shutdown has to know of the client that it ends."""

    host: str
    registry: Registry
    hooks: Hooks
    group: ShutdownGroup | None
    connections: Connections
    drained: tuple[Drainable, ...]
    detached: set[asyncio.Task[Any]]
    exempt: set[RegisteredCall]
    exempt_readers: set[Any]
    release: Callable[[], Coroutine[Any, Any, None]]

    def all_hooks(self) -> list[Hooks]:
        """The client's own, and those of the group that it ends with."""


class ShutdownSequence:
    """Takes a client from open to closed.

    :ivar failure: what closing the session or a transport raised.
    """

    def __init__(self, client: EndingClient, deadline: Deadline) -> None:
        self.deadline = deadline
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.failure: Exception | None = None
        self._client = client
        self._watch = Stopwatch()
        self._change = self.loop.create_future()
        self._completed = 0
        self._cancelled = 0
        self._errors: list[str] = []
        self._granted = 0.0
        """Until when closing may take, whatever is left of the deadline."""

    # What happens meanwhile.

    def admits(self) -> bool:
        """Whether who is asking is a part of the end: a hook, or a callback that is still waited for."""
        client = self._client
        return any(hooks.inside for hooks in client.all_hooks()) or bool(
            client.connections.own_readers() - client.exempt_readers
        )

    def unregistered(self, call: RegisteredCall) -> None:
        """Count a call that has come to its end; a part of another one is counted with that."""
        if call.parent not in self._client.registry.calls and call not in self._client.exempt:
            self._completed += call.outcome == "own"
            self._cancelled += call.outcome == "aborted"
        self.look_again()

    def look_again(self) -> None:
        """Count anew, for somebody has left; perhaps on another loop than this one."""
        call_on(self.loop, self._changed)

    def _changed(self) -> None:
        if not self._change.done():
            self._change.set_result(None)

    # The phases.

    async def limp(self, seconds: float) -> None:
        """Take calls for so long, or until the deadline, while nobody is sent here any more."""
        self._say(f"lame duck for {seconds:g} s: ready() is false, calls are still taken", seconds=seconds)
        try:
            await asyncio.wait({self.deadline.over}, timeout=seconds)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it is this one
            self.deadline.shorten(0.0)

    async def run(self) -> ShutdownReport:
        """Go through all of them. A cancel, by a loop that ends, leaves no time and skips none."""
        client = self._client
        for part in client.drained:
            part.drain()
        calls, subscriptions = len(client.registry.calls), len(client.connections.readers)
        self._say(
            f"begins (calls: {calls}, subscriptions: {subscriptions})",
            calls=calls,
            subscriptions=subscriptions,
        )
        await self._phase("before", self._wait_for_the_group, self._run_before_hooks)
        await self._phase("subscriptions", self._finish_subscriptions)
        await self._phase("requests", self._finish_requests, self._abort)
        await self._phase("close", self._wait_for_the_turn, self._close)
        await self._phase("after", self._run_after_hooks)
        self.deadline.close()
        return self._report()

    async def _phase(self, name: Phase, *works: Callable[[], Awaitable[None]]) -> None:
        with self._watch.phase(name):
            for work in works:
                try:
                    await work()
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it is this one
                    self.deadline.shorten(0.0)
        took = self._watch.phases[name]
        self._say(f"{name} took {took:.2f} s", phase=name, seconds=took)

    async def _wait_for_the_group(self) -> None:
        if self._client.group is not None:
            await self.deadline.within(self._client.group.go)

    async def _run_before_hooks(self) -> None:
        await self._client.hooks.run("before", self.deadline)

    async def _run_after_hooks(self) -> None:
        await self._client.hooks.run("after", self.deadline)

    async def _finish_subscriptions(self) -> None:
        self._client.connections.drain()
        await self._until(self._no_subscription, self.deadline.over)

    async def _finish_requests(self) -> None:
        client = self._client
        client.registry.give_up_waiting()
        if await self._until(self._no_call, self.deadline.over) and client.detached:
            await asyncio.wait(client.detached, timeout=min(DETACHED_GRACE, self.deadline.remaining))

    async def _abort(self) -> None:
        """End what is left. Bounded: a transport may swallow the cancel, a peer never answer the close."""
        client = self._client
        client.registry.become("closing")
        client.registry.give_up_waiting()
        for call in client.registry.calls - client.exempt:
            call.abort()
        if client.connections.busy(client.exempt_readers):
            client.connections.abort(client.exempt_readers)
        self._cancel_detached()
        try:
            async with asyncio.timeout(STRAGGLERS):
                await self._until(lambda: self._no_call() and self._no_subscription())
        except TimeoutError:
            log_safely(
                logging.WARNING, "shutdown of %s: something does not let itself be cancelled", client.host
            )
        self._cancel_detached()

    def _cancel_detached(self) -> None:
        for task in self._client.detached:
            task.cancel()

    def _no_call(self) -> bool:
        left = self._client.registry.calls - self._client.exempt
        return not any(call.task is None or call.task.get_loop().is_running() for call in left)

    def _no_subscription(self) -> bool:
        return not self._client.connections.busy(self._client.exempt_readers)

    async def _until(self, idle: Callable[[], bool], *over: asyncio.Future[None]) -> bool:
        """Wait until it is so, or it is over; True if it is so."""
        while not idle():
            if any(each.done() for each in over):
                return False
            self._change = self.loop.create_future()
            await asyncio.wait({self._change, *over}, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def _wait_for_the_turn(self) -> None:
        self._granted = self.loop.time() + CLOSE_LIMIT
        group = self._client.group
        if group is not None and group.turn is not None:
            await self.deadline.within(group.turn, at_least=CLOSE_LIMIT)

    async def _close(self) -> None:
        closing: asyncio.Task[None] = StartedTask(self._client.release(), loop=self.loop)
        at_least = max(CANCEL_LIMIT, self._granted - self.loop.time())
        try:
            in_time = await self.deadline.within(closing, at_least=at_least)
        except asyncio.CancelledError:
            await asyncio.wait({closing}, timeout=CANCEL_LIMIT)
            if not closing.done() or closing.cancelled():
                self._failed(CUT_OFF)
            raise
        if not in_time:
            closing.cancel()
            await asyncio.wait({closing}, timeout=CANCEL_LIMIT)
            self._failed("closing the session or a transport took too long and was given up")
        elif closing.cancelled():
            self._failed(CUT_OFF)
        elif (error := closing.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            self.failure = error
            self._failed(f"closing the session or a transport failed with {type(error).__name__}")

    def _failed(self, what: str) -> None:
        self._errors.append(what)
        log_safely(logging.ERROR, "shutdown of %s: %s", self._client.host, what, exc_info=self.failure)

    def _report(self) -> ShutdownReport:
        client = self._client
        calls, connections = client.registry.calls, client.connections
        left = {call for call in calls - client.exempt if call.parent not in calls}
        spared = client.exempt_readers.intersection(connections.readers)
        report = ShutdownReport(
            host=client.host,
            duration=self._watch.elapsed,
            requests_completed=self._completed,
            requests_cancelled=self._cancelled + len(left),
            subscriptions_drained=connections.drained + len(spared),
            subscriptions_cancelled=connections.cut_off + len(connections.readers) - len(spared),
            hooks_failed=tuple(client.hooks.failed),
            errors=tuple(self._errors),
            phases=self._watch.phases,
        )
        log(report)
        return report

    def _say(self, text: str, **facts: object) -> None:
        host = self._client.host
        log_safely(logging.INFO, "shutdown of %s: %s", host, text, extra=logs.facts(host=host, **facts))
