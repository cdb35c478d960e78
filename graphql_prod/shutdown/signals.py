"""SIGTERM and SIGINT: the first begins a shutdown, the second cuts it short."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from graphql_prod.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("graphql_prod")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Shutdown = Callable[[float | None], Awaitable[object]]


class SignalHandlers:
    """The handlers that one client, or one coordinator, has installed.

    ``signal.signal`` and not ``loop.add_signal_handler``, which cannot give back what it replaces.
    """

    def __init__(self, shutdown: Shutdown, what: str) -> None:
        self._shutdown = shutdown
        self._what = what
        self._before: dict[int, Any] = {}
        """The handlers that were there; kept, for another client's may have to find them behind ours."""
        self._active: set[int] = set()
        self._received: list[int] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Future[object]] = set()
        self._handler = self._arrived  # one object, so that it can be told whether it is still in place

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
                self._what,
            )
            return
        self._loop = loop
        for number in wanted:
            self._install(number)

    def _install(self, number: int) -> None:
        before = signal.getsignal(number)
        if number in self._active or before is self._handler:
            return
        if before is None:  # not installed from Python, and so it could not be restored
            logger.warning("%s: %s belongs to a library and is left to it", self._what, _name(number))
            return
        signal.signal(number, self._handler)
        self._before[number] = before
        self._active.add(number)

    def restore(self) -> None:
        """Give the signals back, and call the handlers of those that came. From any thread."""
        if not self._active or self._loop is None:
            return
        if threading.current_thread() is threading.main_thread():
            self._restore()
        elif self._loop.is_running():
            self._loop.call_soon_threadsafe(self._restore)

    def _restore(self) -> None:
        self._give_back()
        received, self._received = self._received, []
        for number in dict.fromkeys(received):
            handler = self._before[number]
            if callable(handler) and _is_a_programs_own(handler):
                # By the loop: what it raises shall end the program, as it would have without us.
                asyncio.get_running_loop().call_soon(handler, number, None)

    def _give_back(self) -> None:
        active, self._active = self._active, set()
        for number in active:
            if signal.getsignal(number) is self._handler:
                signal.signal(number, _still_good(self._before[number], number))

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        # Nothing is logged in here: the signal may have come in the middle of a log record.
        other = _owner(_still_good(self._before[number], number))
        if other is not None:
            other._arrived(number, frame)  # another client's: both shall end at the same time
        if self._loop is None or not self._loop.is_running():
            self._give_back()  # nobody is left to shut anything down: it does what it did before us
            signal.raise_signal(number)
            return
        deadline = 0.0 if self._received else None
        self._received.append(number)
        self._loop.call_soon_threadsafe(self._begin, number, deadline)

    def _begin(self, number: int, deadline: float | None) -> None:
        what = "the shutdown begins" if deadline is None else "the shutdown is cut short"
        logger.info("%s: %s, %s", self._what, _name(number), what)
        task = asyncio.ensure_future(self._shutdown(deadline))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: the shutdown failed with %s", self._what, type(error).__name__, exc_info=error)


def _checked(signals: Iterable[int]) -> list[int]:
    try:
        wanted = [signal.Signals(number) for number in signals]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"signals must be numbers of signals, such as SIGTERM: {error}") from None
    for number in wanted:
        if number in (getattr(signal, "SIGKILL", None), getattr(signal, "SIGSTOP", None)):
            raise ConfigurationError(f"{_name(number)} cannot be handled by any program")
    return list(wanted)


def _owner(handler: Any) -> SignalHandlers | None:
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, SignalHandlers) else None


def _still_good(handler: Any, number: int) -> Any:
    """The handler to go back to: one of ours that is through has itself gone back to an earlier one."""
    while (owner := _owner(handler)) is not None and number not in owner._active:
        handler = owner._before[number]
    return handler


def _is_a_programs_own(handler: Callable[..., Any]) -> bool:
    """Whether a handler does more than end the program, or than cancel its main task in mid-drain."""
    if handler is signal.default_int_handler or _owner(handler) is not None:
        return False
    # asyncio.Runner's handler of SIGINT is a partial of one of its methods.
    function = handler.func if isinstance(handler, functools.partial) else handler
    return not isinstance(getattr(function, "__self__", None), asyncio.Runner)


def _name(number: int) -> str:
    return signal.Signals(number).name
