"""Calls from one event loop to another; tasks that are not lost before they begin."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class StartedTask(asyncio.Task[T]):
    """A task whose first step always runs: a cancel that comes earlier follows right after it.

    A plain task that is cancelled before its first step runs nothing at all, no ``finally`` either
    (cpython#98275). Whatever it was to close or to count would be lost. Made by its constructor and not by
    ``create_task()``: an eager factory would run it before its maker knows it.
    """

    def cancel(self, msg: Any = None) -> bool:
        """As the task's own, but never before the first step."""
        loop = self.get_loop()
        if loop.is_closed() or not is_unborn(self):
            return super().cancel(msg)
        loop.call_soon(super().cancel, msg)  # the first step is in the queue already
        return True


def is_unborn(task: asyncio.Task[Any]) -> bool:
    """Whether a task has not begun yet."""
    coroutine = task.get_coro()
    return inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call on a loop that may be another one, in another thread, or no more; at once on the one that runs."""
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:  # what was left of a loop is collected after its end
        here = None
    if loop is here:
        function(*args)
    else:
        with contextlib.suppress(RuntimeError):  # it is closed, and all that ran on it with it
            loop.call_soon_threadsafe(function, *args)  # one that stands still comes to it when it goes on
