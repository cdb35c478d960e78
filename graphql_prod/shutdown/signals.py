"""SIGTERM and SIGINT: the first begins a shutdown, the second cuts it short."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from graphql_prod.errors import ConfigurationError
from graphql_prod.loops import StartedTask
from graphql_prod.runtime import forks
from graphql_prod.shutdown.records import log_safely

if TYPE_CHECKING:
    from types import FrameType

logger: logging.Logger = logging.getLogger("graphql_prod")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PULSE = 1.0

Shutdown = Callable[[float | None], Awaitable[object]]


class SignalHandlers:
    """What one client, or one coordinator, does about signals.

    ``signal.signal`` and not ``loop.add_signal_handler``, which cannot give back what it replaces.
    """

    def __init__(self, shutdown: Shutdown, what: str) -> None:
        self.what = what
        self._shutdown = shutdown
        self._relays: dict[int, Relay] = {}
        self._received: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        forks.follow(self)

    def begin_anew(self) -> object:
        """In a child that was forked signals do what they would do without us."""
        kept = (self._loop, self._pulse, self._tasks)
        relays, self._relays = self._relays, {}
        self._received, self._loop, self._pulse, self._tasks = [], None, None, set()
        for relay in relays.values():
            relay.abandon()
        return kept

    def install(self, signals: Iterable[int]) -> None:
        """Take over signals, on the loop that runs; again for the same ones does nothing.

        :raises ConfigurationError: one of them is no signal that can be handled.
        :raises RuntimeError: no event loop is running.
        """
        wanted = _checked(signals)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "install_signal_handlers() needs the event loop that the shutdown will run on: "
                "call it inside the coroutine that asyncio.run() runs"
            ) from None
        if threading.current_thread() is not threading.main_thread():
            logger.warning(
                "%s: no signal handlers were installed, for this is not the main thread; "
                "have shutdown() called by whatever ends the program",
                self.what,
            )
            return
        self._loop = loop
        for number in wanted:
            relay = self._relays.get(number)
            if relay is None or self not in relay.members:
                self._install(number)
        self._beat()

    def _install(self, number: int) -> None:
        current = signal.getsignal(number)
        if current is None:  # not installed from Python, and so it could not be restored
            logger.warning("%s: %s belongs to a library and is left to it", self.what, _name(number))
            return
        relay = self._relays[number] = current if isinstance(current, Relay) else Relay(number, current)
        relay.members.append(self)
        if relay is not current:
            _taken.add(number)
            signal.signal(number, relay)

    def _beat(self) -> None:
        """Wake an idle loop now and then.

        A signal that comes after Python has looked for one, and before the loop has gone to sleep, is
        handled only when something else wakes the loop.
        """
        if self._relays and self._loop is not None:
            self._pulse = self._loop.call_later(PULSE, self._beat)

    @property
    def running(self) -> bool:
        """Whether there is a loop that could shut something down."""
        return self._loop is not None and self._loop.is_running()

    def arrived(self, number: int) -> None:
        """A signal. Nothing is logged in here: it may have come in the middle of a log record."""
        assert self._loop is not None  # noqa: S101 -- it was installed on one
        deadline = 0.0 if self._received else None
        self._received.append(number)
        # Not in the context of what the signal has interrupted: that has not asked for anything.
        context = contextvars.Context()
        self._loop.call_soon_threadsafe(self._begin, number, deadline, context=context)

    def _begin(self, number: int, deadline: float | None) -> None:
        what = "the shutdown begins" if deadline is None else "the shutdown is cut short"
        log_safely(logging.INFO, "%s: %s, %s", self.what, _name(number), what)
        task = StartedTask(self._see_through(deadline), loop=asyncio.get_running_loop())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _see_through(self, deadline: float | None) -> None:
        """A cancel, by a loop that ends, leaves no time and is no reason to leave the shutdown behind."""
        try:
            await self._shutdown(deadline)
        except asyncio.CancelledError:
            await self._shutdown(0.0)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: the shutdown failed with %s", self.what, type(error).__name__, exc_info=error)

    def restore(self) -> None:
        """Give the signals back, and have the handlers of those that came called. From any thread."""
        if not self._relays or self._loop is None:
            return
        if threading.current_thread() is threading.main_thread():
            self._restore()
        elif self._loop.is_running():
            self._loop.call_soon_threadsafe(self._restore)

    def _restore(self) -> None:
        relays, self._relays = self._relays, {}
        received, self._received = self._received, []
        if self._pulse is not None:
            self._pulse.cancel()
        for number in dict.fromkeys([*received, *relays]):
            relays[number].unregister(self)


class Relay:
    """Our handler of one signal, for all who asked for it: they end at the same time.

    :ivar before: the handler that was there.
    """

    def __init__(self, number: int, before: Any) -> None:
        self.before = before
        self.members: list[SignalHandlers] = []
        self._number = number
        self._came = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that came in the moment of a fork
            self.members = []
        self._forget_the_dead()
        if not self.members:
            self._stand_aside(frame)
        else:
            self._came = True
            for member in self.members:
                member.arrived(number)

    def unregister(self, member: SignalHandlers) -> None:
        """Somebody is through; after the last of them the handler that was there is back, and is called."""
        self.members = [each for each in self.members if each is not member]
        self._forget_the_dead()
        if self.members:
            return
        _taken.discard(self._number)
        if self._is_in_place():
            signal.signal(self._number, self.before)
        came, self._came = self._came, False
        if came and _is_a_programs_own(self.before):
            # By the loop: what it raises shall end the program, as it would have without us.
            asyncio.get_running_loop().call_soon(self.before, self._number, None)

    def abandon(self) -> None:
        """In a child that was forked: the handler that was there is back, and nobody is left."""
        self.members, self._came = [], False
        _taken.discard(self._number)
        if self._is_in_place():
            signal.signal(self._number, self.before)

    def _is_in_place(self) -> bool:
        current: object = signal.getsignal(self._number)
        return current is self

    def _forget_the_dead(self) -> None:
        self.members = [member for member in self.members if member.running]

    def _stand_aside(self, frame: FrameType | None) -> None:
        """Nobody is left to shut anything down: the signal does what it would have done without us."""
        if not self._is_in_place() and callable(self.before):
            self.before(self._number, frame)
        else:
            signal.signal(self._number, self.before)
            signal.raise_signal(self._number)


_taken: set[int] = set()
"""The signals that we handle."""

_masks: dict[int, set[signal.Signals | int]] = {}
"""By thread: what was blocked before the fork that it is about."""


def _before_a_fork() -> None:
    """Hold our signals back until the child has its own handlers.

    Python forgets, in a child, what came before it was ready: a pool that is ended right after it was begun
    would wait for ever.
    """
    if _taken:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _taken)


def _after_a_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_a_fork_in_the_child() -> None:
    _after_a_fork()
    _masks.clear()


if hasattr(os, "register_at_fork"):  # after that of ``forks``, which puts the handlers back
    os.register_at_fork(
        before=_before_a_fork,
        after_in_parent=_after_a_fork,
        after_in_child=_after_a_fork_in_the_child,
    )


def _checked(signals: Iterable[int]) -> list[int]:
    try:
        wanted = [signal.Signals(number) for number in signals]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"signals must be numbers of signals, such as SIGTERM: {error}") from None
    for number in wanted:
        if number in (getattr(signal, "SIGKILL", None), getattr(signal, "SIGSTOP", None)):
            raise ConfigurationError(f"{_name(number)} cannot be handled by any program")
    return list(wanted)


def _is_a_programs_own(handler: Any) -> bool:
    """Whether a handler does more than end the program, or than cancel its main task in mid-drain."""
    if not callable(handler) or handler is signal.default_int_handler:
        return False
    # asyncio.Runner's handler of SIGINT is a partial of one of its methods.
    function = handler.func if isinstance(handler, functools.partial) else handler
    return not isinstance(getattr(function, "__self__", None), asyncio.Runner)


def _name(number: int) -> str:
    return signal.Signals(number).name
