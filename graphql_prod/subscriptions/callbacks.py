"""Callbacks of subscriptions, called one after another in a task of their own."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from cafeteria.asyncio.callbacks import Callback, SimpleTriggerCallback

from graphql_prod.registry import ASKING, Asker, asking
from graphql_prod.runtime import logs
from graphql_prod.subscriptions.event_queue import add
from graphql_prod.subscriptions.events import SubscriptionGap

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.subscriptions.event_queue import EventQueue

logger: logging.Logger = logging.getLogger("graphql_prod")


# A loop that stands still for longer makes other calls late; the contract's figure.
SLOW = 0.05


class CallbackRun(Asker):
    """A callback that is under way, and all that it calls.

    One is made for every event: without a constructor it costs half.
    """

    __slots__ = ()
    done = False


class Run:
    """One event and the callbacks that wait for it."""

    __slots__ = ("args", "callbacks", "counted", "kwargs", "size")

    def __init__(
        self,
        callbacks: list[Callback],
        counted: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        size: int,
    ) -> None:
        self.size: int = size
        self.callbacks: list[Callback] = callbacks
        self.counted: bool = counted
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs


class CallbackRunner:
    """Runs the callbacks of one subscription, one after another, in the order of their events.

    Its task lives while there is something to do. What fails is logged and counted, and ends nothing.
    """

    __slots__ = (
        "_current",
        "_events",
        "_loop",
        "_on_failure",
        "_on_gap",
        "_outer",
        "_queue",
        "_run_now",
        "_threads",
        "_weight",
        "event_queue",
        "name",
        "task",
    )

    def __init__(
        self,
        on_gap: Callable[[SubscriptionGap], Any] | None,
        threads: bool,
        on_failure: Callable[[], None],
    ) -> None:
        self.name: str = ""
        self._on_gap = on_gap
        self._threads = threads
        self._on_failure = on_failure
        self._queue: deque[Run | SubscriptionGap] | None = None
        self._current: Run | None = None
        """What runs; None once the subscription has been left."""
        self._events = 0
        self._weight = 0
        self._outer: Asker | None = None
        self._run_now: CallbackRun | None = None
        self._loop = asyncio.get_running_loop()
        self.event_queue: EventQueue | None = None
        self.task: asyncio.Task[None] | None = None

    def backlog(self) -> int:
        """Events that wait for their callbacks."""
        return self._events

    def length(self) -> int:
        """What waits, events and all else."""
        return len(self._queue or ())

    def weight(self) -> int:
        """How many bytes they came in."""
        return self._weight

    @property
    def inside(self) -> bool:
        """Whether the running task belongs to a callback that is under way here."""
        return self.task is not None and self._run_now is not None and asking(CallbackRun) is self._run_now

    def add(
        self, callbacks: list[Callback], args: tuple[Any, ...], kwargs: dict[str, Any], *, counted: bool
    ) -> None:
        """Queue callbacks; those of an event count against ``max_queue``."""
        size, event_queue = 0, self.event_queue
        if event_queue is not None:
            size, event_queue.handed = event_queue.handed, 0  # there may be more for the same message
        self._put(Run(callbacks, counted, args, kwargs, size), counted)
        self._weight += size

    def gap(self, gap: SubscriptionGap) -> None:
        """Queue a gap, in its place."""
        self._put(gap, False)

    def drop_oldest(self) -> bool:
        """Throw the first waiting event away."""
        for index, item in enumerate(self._queue or ()):
            if isinstance(item, Run) and item.counted:
                assert self._queue is not None  # noqa: S101 -- it was found in there
                del self._queue[index]
                self._events -= 1
                self._weight -= item.size
                return True
        return False

    def discard(self) -> None:
        """Throw away what waits, other callbacks of the same event too; a callback that runs goes on."""
        self._queue = self._current = None
        self._events = self._weight = 0

    async def quiet(self, over: asyncio.Future[None] | None = None) -> None:
        """Wait until nothing runs, or it is ``over``; not for the callback that asks. Safe to cancel."""
        others = () if over is None else (over,)
        # A task that is done is not waited for: that would not yield, and nobody could say that it is over.
        while (task := self.task) is not None and not task.done() and not self.inside:
            await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
            if over is not None and over.done():
                return

    def abort(self) -> None:
        """End at once, a callback that runs too."""
        if self.task is not None and not self.inside:
            self.task.cancel()

    def _put(self, item: Run | SubscriptionGap, counted: bool) -> None:
        if self.task is not None and self.task.done():
            self._ended(self.task)
        if self._queue is None:
            self._queue = deque()
        self._events += counted
        add(self._queue, item)
        if self.task is None:
            # Not create_task(): an eager factory would run it before we know it.
            self.task = asyncio.Task(self._work(), loop=self._loop)
            self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Keep the books of a task that was cancelled before its first step: it ran no ``finally``."""
        if self.task is task:
            self.task = None
            self._log_lost()

    async def _work(self) -> None:
        self._outer = ASKING.get()
        try:
            while self._queue:
                event_queue = self.event_queue
                if event_queue is not None and event_queue.dropped:
                    await self._run_gap(event_queue.gap_of(self._queue))
                    continue
                item = self._queue.popleft()
                if isinstance(item, SubscriptionGap):
                    await self._run_gap(item)
                    continue
                self._events -= item.counted
                self._weight -= item.size
                if event_queue is not None and (item.counted or item.size):
                    event_queue.taken()
                self._current = item
                for callback in item.callbacks:
                    await self._run(callback, item.args, item.kwargs)
                    if self._current is not item:
                        break
        finally:
            self.task = None
            self._log_lost()

    def _log_lost(self) -> None:
        """Log what a cancel of this task has left undone."""
        lost, self._queue = self._events, None
        self._events = self._weight = 0
        if self.event_queue is not None:
            self.event_queue.taken()
        log_drop(self.name, SubscriptionGap(dropped=lost))

    async def _run_gap(self, gap: SubscriptionGap) -> None:
        if self._on_gap is None:
            log_drop(self.name, gap)
            return
        await self._run(Callback(self._on_gap), (gap,), {})

    async def _run(self, callback: Callback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._run_now = run = CallbackRun()
        run.outer = self._outer
        ASKING.set(run)
        try:
            result = await self._call(callback, args, kwargs)
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the callback's own
            self._failed(callback, error)
        except BaseException as error:
            task = asyncio.current_task(self._loop)
            if task is None or task is not self.task or task.cancelling():
                raise  # nobody's callback: this is the end of the task
            self._failed(callback, error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                # Ends the program as from any callback of the loop, and not this task, which has more to do.
                self._loop.call_soon(_raise, error)
                await asyncio.sleep(0)

    async def _call(self, callback: Callback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        function, args, kwargs = _unwrapped(callback, args, kwargs)
        if self._threads and not (inspect.iscoroutinefunction(function) or _is_trigger(function)):
            return await self._in_thread(function, args, kwargs)
        started = self._loop.time()
        result = function(*args, **kwargs)
        took = self._loop.time() - started
        if took > SLOW:
            logger.warning(
                "subscription %s: the callback %s held the event loop for %.0f ms; "
                "make it a coroutine function, or set subscriptions.callback_executor",
                self.name,
                _name_of(function),
                took * 1000,
                extra=logs.facts(subscription_id=self.name, seconds=took),
            )
        return result

    async def _in_thread(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result, error = await asyncio.to_thread(_outcome, function, args, kwargs)
        if error is None:
            return result
        try:
            raise error
        finally:
            del error

    def _failed(self, callback: Callback, error: BaseException) -> None:
        self._on_failure()
        function, _, _ = _unwrapped(callback, (), {})
        ends = isinstance(error, KeyboardInterrupt | SystemExit)
        logger.error(
            "subscription %s: the callback %s failed with %s; %s",
            self.name,
            _name_of(function),
            type(error).__name__,
            "it ends the program" if ends else "the subscription goes on",
            exc_info=error,
            extra=logs.facts(subscription_id=self.name),
        )


def _raise(error: BaseException) -> None:
    raise error


def _outcome(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """What a function came to. A future between threads takes no StopIteration, and waits for ever."""
    try:
        return function(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 -- raised again by whoever asked
        return None, error


def log_drop(name: str, gap: SubscriptionGap) -> None:
    """Log what was dropped, where nobody asked to be told."""
    if gap.dropped:
        logger.warning(
            "subscription %s: %d events were dropped before their reader took them",
            name,
            gap.dropped,
            extra=logs.facts(subscription_id=name, dropped=gap.dropped),
        )


def _unwrapped(
    callback: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function behind a callback object, with the arguments that it would be triggered with."""
    while type(callback) in (Callback, SimpleTriggerCallback):
        if type(callback) is SimpleTriggerCallback:
            args, kwargs = (), {}
        args, kwargs = (*args, *callback.args), {**callback.kwargs, **kwargs}
        callback = callback.function
    if isinstance(callback, Callback):  # a kind of the caller's own
        return callback.trigger, args, kwargs
    return callback, args, kwargs


def _is_trigger(function: Any) -> bool:
    """Whether it is the method of a callback object, which begins tasks and so belongs on the loop."""
    return isinstance(getattr(function, "__self__", None), Callback)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
