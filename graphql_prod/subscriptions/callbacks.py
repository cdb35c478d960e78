"""Callbacks: a registry that reads through to the caller's, and the worker that runs what it dispatches."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLSubscriptionEvent
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import Callback, CallbackRegistry, SimpleTriggerCallback

from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.errors import request_failed
from graphql_prod.registry import ASKING, Asker, asking
from graphql_prod.subscriptions.event_queue import add
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionEvent, SubscriptionGap
from graphql_prod.subscriptions.protocol import errors_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cafeteria.asyncio.callbacks import CallbackType
    from cafeteria.asyncio.callbacks import EventType as AnyEventType

    from graphql_prod.subscriptions.event_queue import EventQueue

logger = logging.getLogger("graphql_prod")

# A loop that stands still for longer makes other calls late; the contract's figure.
SLOW = 0.05

EVENT_NAMES = {"next": (EventType.NEXT, EventType.DATA), "data": (EventType.DATA, EventType.NEXT)}
"""An event goes by both protocols' names, first by that which it came with."""


class CallbackRun(Asker):
    """A callback that is under way, and all that it calls.

    One is made for every event: without a constructor it costs half.
    """

    __slots__ = ()
    done = False


class Said:
    """What the stock object sends through us has been said already, by the channel, or will be."""

    __slots__ = ()

    async def send_str(self, data: str) -> None:
        """Nothing."""


_PLAIN = (GraphQLSubscriptionEvent, SubscriptionEvent)

_NOBODY = CallbackRegistry()
"""In place of a registry where the caller gave none; nobody registers with it."""


class ReadThrough(CallbackRegistry):  # type: ignore[misc]  # it ships no types
    """The callbacks of one subscription: its own, and those of the caller's registry, as they are then."""

    def __init__(self, theirs: CallbackRegistry | None, worker: CallbackRunner) -> None:
        super().__init__()
        self._own: CallbackRegistry | None = None
        self._theirs = _NOBODY if theirs is None else theirs
        self._worker = worker

    def own(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Register a callback of this subscription alone."""
        if self._own is None:
            self._own = CallbackRegistry()
        self._own.register(event_type, callback)

    def register(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Register with the caller's registry, as stock does."""
        function = callback.function if isinstance(callback, Callback) else None
        # The stock object asks for its start message at each acknowledgement: the channel sends it.
        if not isinstance(getattr(function, "__self__", None), Said):
            if self._theirs is _NOBODY:
                self._theirs = CallbackRegistry()
            self._theirs.register(event_type, callback)

    def deregister(self, event_type: AnyEventType, callback: CallbackType) -> None:
        """Remove a callback, wherever it is registered."""
        if self._own is not None:
            self._own.deregister(event_type, callback)
        self._theirs.deregister(event_type, callback)

    def callbacks(self, event_type: AnyEventType = None) -> list[Callback]:
        """The callbacks for an event; where there is none of its own, the default ones."""
        own: list[Callback] = [] if self._own is None else self._own.callbacks(event_type)
        theirs: list[Callback] = self._theirs.callbacks(event_type)
        # The stock object's own callback for acknowledgements keeps the default ones from running.
        specific = own or event_type is EventType.CONNECTION_ACK
        if specific and event_type is not None and theirs is self._theirs.callbacks(None):
            return own
        return theirs + own if own else theirs

    def dispatch_event(self, event: GraphQLSubscriptionEvent, names: tuple[EventType, EventType]) -> None:
        """Hand an event to the worker that goes by two names, in one go."""
        callbacks = [*self.callbacks(names[0]), *self.callbacks(names[1])]
        if callbacks:
            self._worker.add(callbacks, (event,), {}, counted=True)

    def dispatch(self, event_type: AnyEventType, *args: Any, **kwargs: Any) -> None:
        """Hand an event to the worker; nothing is run here."""
        callbacks = self.callbacks(event_type)
        if callbacks:
            event = args[0] if args else None
            if event_type is EventType.ERROR and type(event) in _PLAIN and event is not None:
                args = (_with_exception(event), *args[1:])
            self._worker.add(callbacks, args, kwargs, counted=False)


def _with_exception(event: GraphQLSubscriptionEvent) -> SubscriptionErrorEvent:
    """The server's error, with the exception that a stream would raise."""
    response = GraphQLResponse(request=event.request, json={"errors": errors_of(event.json)})
    return SubscriptionErrorEvent(
        subscription_id=event.subscription_id,
        request=event.request,
        json=event.json,
        exception=request_failed(response),
    )


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
        self.size = size
        self.callbacks = callbacks
        self.counted = counted
        self.args = args
        self.kwargs = kwargs


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
        self.name = ""
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
            self._tell_lost()

    async def _work(self) -> None:
        self._outer = ASKING.get()
        try:
            while self._queue:
                event_queue = self.event_queue
                if event_queue is not None and event_queue.dropped:
                    await self._run_gap(event_queue.told(self._queue))
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
            self._tell_lost()

    def _tell_lost(self) -> None:
        """Log what a cancel of this task has left undone."""
        lost, self._queue = self._events, None
        self._events = self._weight = 0
        if self.event_queue is not None:
            self.event_queue.taken()
        tell_drop(self.name, SubscriptionGap(dropped=lost))

    async def _run_gap(self, gap: SubscriptionGap) -> None:
        if self._on_gap is None:
            tell_drop(self.name, gap)
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
                extra={"subscription_id": self.name, "seconds": took},
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
            extra={"subscription_id": self.name},
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


def tell_drop(name: str, gap: SubscriptionGap) -> None:
    """Log what was dropped, where nobody asked to be told."""
    if gap.dropped:
        logger.warning(
            "subscription %s: %d events were dropped before their reader took them",
            name,
            gap.dropped,
            extra={"subscription_id": name, "dropped": gap.dropped},
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
