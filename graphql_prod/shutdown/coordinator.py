"""Several clients that end together, under one deadline."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

from graphql_prod import clock
from graphql_prod.errors import ClientClosedError, ConfigurationError
from graphql_prod.loops import StartedTask, call_on
from graphql_prod.registry import leave_calls
from graphql_prod.runtime import forks
from graphql_prod.shutdown.conductor import Conductor
from graphql_prod.shutdown.deadline import Deadline, is_lost, joined
from graphql_prod.shutdown.hooks import Hook, HookPhase, Hooks
from graphql_prod.shutdown.policy import seconds_of
from graphql_prod.shutdown.records import log_safely
from graphql_prod.shutdown.report import ShutdownReport, Stopwatch, log, summed_up
from graphql_prod.shutdown.sequence import ShutdownGroup
from graphql_prod.shutdown.signals import SIGNALS, SignalHandlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from graphql_prod.registry import State


class Ended(Protocol):
    """What a client is made of, as far as the coordinator has to know it."""

    @property
    def conductor(self) -> Conductor:
        """The way to its end."""


class EndedTogether(Protocol):
    """A :class:`ProductionClient`."""

    @property
    def _prod(self) -> Ended: ...

    @property
    def state(self) -> State:
        """How far its end has come."""


Client = TypeVar("Client", bound=EndedTogether)

# A client outlives its deadline by less than this, whatever hangs; a subclass may not.
OVERTIME = 5.0


class ShutdownCoordinator:
    """Ends several clients at once, in order, under one deadline.

    From the first moment no client takes new work. ``before`` hooks, which may use the clients; all of them
    drain at the same time; their sessions are closed, that of the client which
    was registered last first; ``after`` hooks. A client that fails to end does not stop the others.

    Needs no running event loop to be made. Leaving ``async with`` shuts down; by an exception or a cancel
    with deadline 0.

    :param deadline: seconds for all of it; None means no limit.
    :raises ConfigurationError: ``deadline`` is no number.
    """

    def __init__(self, deadline: float | None = 25.0) -> None:
        self._default = None if deadline is None else seconds_of(deadline)
        self._clients: list[EndedTogether] = []
        self._hooks = Hooks("the coordinator")
        self._signals = SignalHandlers(self.shutdown, "the coordinator")
        self._deadline: Deadline | None = None
        self._run: asyncio.Task[ShutdownReport] | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._report: ShutdownReport | None = None
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked; one that is through stays so."""
        kept = (self._deadline, self._run, self._waiters)
        self._waiters = set()
        if self._report is None:
            self._deadline = self._run = None
            self._hooks.begin_anew()
        return kept

    def register(self, client: Client) -> Client:
        """Take a client on, and give it back. Registering it, or a view of it, again does nothing.

        :raises ConfigurationError: it is no :class:`ProductionClient`.
        :raises ClientClosedError: the shutdown has begun; nobody would close it.
        """
        if not isinstance(_conductor(client), Conductor):
            raise ConfigurationError(f"a ProductionClient can be registered, not {type(client).__name__}")
        if self._run is not None:
            raise ClientClosedError(
                f"The coordinator is shutting down and takes no more clients; close {client!r} yourself."
            )
        if all(_conductor(client) is not _conductor(known) for known in self._clients):
            self._clients.append(client)
        return client

    @overload
    def on_shutdown(self, hook: Hook, *, phase: HookPhase = "before") -> Hook: ...

    @overload
    def on_shutdown(self, *, phase: HookPhase = "before") -> Callable[[Hook], Hook]: ...

    def on_shutdown(self, hook: Any = None, *, phase: HookPhase = "before") -> Any:
        """Register a function to be called ``"before"`` or ``"after"`` all clients end.

        As :meth:`ProductionClient.on_shutdown`.

        :raises ConfigurationError: it is not callable, or there is no such phase.
        :raises ClientClosedError: that phase is past.
        """
        return self._hooks.registered(hook, phase)

    def install_signal_handlers(self, signals: Iterable[int] = SIGNALS) -> None:
        """Have SIGTERM and SIGINT begin the shutdown, and the second of them cut it short.

        As :meth:`ProductionClient.install_signal_handlers`.

        :raises ConfigurationError: one of them cannot be handled.
        :raises RuntimeError: no event loop is running.
        :raises ClientClosedError: the shutdown is through; a signal would do nothing.
        """
        if self._report is not None:
            raise ClientClosedError("The coordinator is through with its shutdown and takes no more signals.")
        self._signals.install(signals)

    async def wait(self) -> ShutdownReport:
        """Wait until a shutdown was asked for, by a signal or by anybody, and is through. Safe to cancel."""
        while self._report is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
            if self._run is not None and self._run.done():
                return self._run.result()
        return self._report

    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        """End all clients, and report how it went: counts summed up, of a phase the longest.

        Idempotent; joins one that runs, and can only shorten it. Cancelling the caller does not stop it.

        :param deadline: seconds; 0 cuts at once. None means the coordinator's.
        :raises ConfigurationError: ``deadline`` is no number.
        """
        seconds = self._default if deadline is None else seconds_of(deadline)
        while True:
            run = self._run
            if run is None or is_lost(run):
                run = self._begin(seconds)
            elif not run.done():
                self._shorten(seconds)
            for client in self._clients:
                _conductor(client).spare_the_caller()
            if self._hooks.inside:
                self._hooks.spare()
            await joined(run)
            if not is_lost(run):
                return run.result()

    def _begin(self, seconds: float | None) -> asyncio.Task[ShutdownReport]:
        self._deadline = Deadline(seconds)
        # What hooks send is no part of the call that happened to ask for the end.
        context = contextvars.copy_context()
        leave_calls(context)
        loop = asyncio.get_running_loop()
        self._run = StartedTask(self._end(self._deadline), loop=loop, context=context)
        self._run.add_done_callback(self._ended)
        return self._run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        await self.shutdown(None if exc_type is None else 0)

    def _shorten(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.shorten(seconds)
        for client in self._clients:
            _conductor(client).shorten(seconds)

    async def _end(self, deadline: Deadline) -> ShutdownReport:
        watch, errors = Stopwatch(), list[str]()
        go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        clients = [client for client in self._clients if client.state != "closed"]
        ending = self._begin_clients(clients, deadline, go)
        # A cancel comes from a loop that ends: no time is left, and nothing is skipped.
        cancelled = False
        with watch.phase("before"):
            try:
                await self._hooks.run("before", deadline)
            except asyncio.CancelledError:
                cancelled = True
        go.set_result(None)
        while True:
            if cancelled:
                asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it is this one
                deadline.shorten(0.0)
                ending = self._begin_clients(clients, deadline, go)
            try:
                await _wait_for(ending, deadline)
                break
            except asyncio.CancelledError:
                cancelled = True
        reports = _reports(clients, ending, errors)
        with watch.phase("after"), contextlib.suppress(asyncio.CancelledError):
            await self._hooks.run("after", deadline)
        deadline.close()
        return self._finish(watch, reports, errors)

    def _begin_clients(
        self, clients: list[EndedTogether], deadline: Deadline, go: asyncio.Future[None]
    ) -> list[asyncio.Task[ShutdownReport]]:
        """All of them at once; each closes its session when those registered after it have closed theirs."""
        ending: list[asyncio.Task[ShutdownReport]] = []
        for client in reversed(clients):
            turn = ending[-1] if ending else None
            _conductor(client).join(ShutdownGroup(self._hooks, go, turn))
            ending.append(StartedTask(_shut_down(client, deadline), loop=go.get_loop()))
        ending.reverse()
        return ending

    def _finish(self, watch: Stopwatch, reports: list[ShutdownReport], errors: list[str]) -> ShutdownReport:
        report = self._report = summed_up(
            reports, watch.elapsed, watch.phases, tuple(self._hooks.failed), tuple(errors)
        )
        log(report, "all clients: ")
        return report

    def _ended(self, _: object) -> None:
        """Whatever ended it: nobody waits for ever, and the signals are given back."""
        for waiter in list(self._waiters):
            call_on(waiter.get_loop(), clock.end, waiter)
        self._signals.restore()


async def _wait_for(ending: list[asyncio.Task[ShutdownReport]], deadline: Deadline) -> None:
    # No task around the wait: a cancel would end it, and what it waits for would seem to be over.
    while (left := [task for task in ending if not task.done()]) and not deadline.over.done():
        waited: list[asyncio.Future[Any]] = [*left, deadline.over]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if left:
        await asyncio.wait(left, timeout=OVERTIME)


async def _shut_down(client: EndedTogether, deadline: Deadline) -> ShutdownReport:
    try:
        return await _conductor(client).end(deadline.remaining)
    except asyncio.CancelledError:
        return await _conductor(client).shutdown(0.0)  # by a loop that ends: its own task goes on, in haste


def _reports(
    clients: list[EndedTogether], ended: list[asyncio.Task[ShutdownReport]], errors: list[str]
) -> list[ShutdownReport]:
    """What the clients say of their ends; of one that failed its error."""
    reports = []
    for client, task in zip(clients, ended, strict=True):
        if not task.done():
            task.cancel()
            errors.append(f"the end of {client!r} did not come and was given up")
            continue
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            reports.append(task.result())
            continue
        errors.append(f"the end of {client!r} failed with {type(error).__name__}")
        log_safely(logging.ERROR, "all clients: %s", errors[-1], exc_info=error)
    return reports


def _conductor(client: Any) -> Conductor:
    conductor: Conductor = getattr(getattr(client, "_prod", None), "conductor", None)  # type: ignore[assignment]
    return conductor
