"""A subscription as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.errors import request_failed
from graphql_prod.registry import ASKING, Asker
from graphql_prod.subscriptions.callbacks import log_drop
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.moves import cut_off
from graphql_prod.subscriptions.protocol import EVENTS, errors_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Never

    from aiographql.client import GraphQLSubscriptionEvent

    from graphql_prod.subscriptions.context import SubscribeRequest
    from graphql_prod.subscriptions.manager import ConnectionManager
    from graphql_prod.subscriptions.protocol import Message
    from graphql_prod.subscriptions.subscriber import Subscriber


class EventStream(AsyncGenerator[Any, None]):
    """The events of a subscription, and its gaps where they are wanted; unsubscribes when it is closed.

    An asynchronous generator but for one thing: a cancel does not end it. Who waits for an event under a
    limit, and in vain, can go on waiting. A generator would be over by then, and would say that the
    subscription has come to its end.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_error",
        "_established",
        "_gaps",
        "_keeper",
        "_manager",
        "_over",
        "_reader",
        "_subscribe_request",
        "_subscriber",
    )

    _subscriber: Subscriber
    _reader: StreamReader

    def __init__(
        self, manager: ConnectionManager, wished: Callable[[], Awaitable[SubscribeRequest]], *, gaps: bool
    ) -> None:
        self._manager = manager
        self._subscribe_request: Callable[[], Awaitable[SubscribeRequest]] | None = wished
        self._gaps = gaps
        self._keeper: AsyncGenerator[None, None] | None = None
        self._established = False
        self._asked = False
        self._over = False
        self._error: Exception | None = None
        """What it ended with, until somebody is told."""

    async def __anext__(self) -> GraphQLSubscriptionEvent | SubscriptionGap:
        if self._asked:
            raise RuntimeError("anext(): asynchronous generator is already running")
        self._asked = True
        try:
            try:
                if not self._established and not self._over:
                    await self._establish()
                while not self._over:
                    event_queue = self._subscriber.event_queue
                    item = event_queue.take()
                    if item is None:
                        if event_queue.ended:
                            self._end(event_queue.error)
                        else:
                            await event_queue.arrival()
                    elif isinstance(item, SubscriptionGap):
                        if self._gaps:
                            self._reader.hands_over()
                            self._asked = False
                            return item
                        log_drop(self._subscriber.name, item)
                    elif item["type"] in EVENTS:
                        self._reader.hands_over()
                        self._asked = False
                        return self._subscriber.event(item)
                    elif item["type"] == "error":
                        self._end(_refusal(self._subscriber, item))
            except Exception as error:  # noqa: BLE001 -- raised below, when all is closed
                self._end(error)
            await self._close()
        except BaseException:
            self._asked = False
            _let_go_of_frames()
            del self  # or a traceback that somebody keeps would keep the subscription
            raise
        self._asked = False
        raise self._ending()

    async def _establish(self) -> None:
        """Subscribe, and wait for the acknowledgement. A cancel leaves that to the next one who asks."""
        try:
            if self._subscribe_request is not None:
                subscribe_request = await self._subscribe_request()
                try:
                    self._subscriber = self._manager.join(subscribe_request)
                except Exception:
                    if subscribe_request.transport is not None and self._manager.is_own(subscribe_request):
                        await subscribe_request.transport.close()  # as one that was used
                    raise
                self._subscribe_request = None  # it keeps all that stream() was given
                self._reader = StreamReader(self._manager, self._subscriber)
                self._keeper = _keeper(self._manager, subscribe_request, self._subscriber, self._reader)
                await anext(self._keeper)
            await self._subscriber.started()
            self._established = True
        except BaseException:
            del self
            raise

    def _ending(self) -> Exception:
        """What says that there is nothing more; an error says so once."""
        error, self._error = self._error, None
        return StopAsyncIteration() if error is None else error

    def _end(self, error: Exception | None) -> None:
        """The end; the first word counts."""
        if not self._over:
            self._over, self._error = True, error
        self._subscribe_request = None

    async def _close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.aclose()

    async def aclose(self) -> None:
        """Unsubscribe, and wait for the socket's end. Whoever waits for an event hears of the end."""
        self._end(None)
        self._error = None
        await self._close()

    async def asend(self, value: None) -> GraphQLSubscriptionEvent | SubscriptionGap:
        """As ``anext()``; the value is ignored."""
        if value is not None and not self._established:
            raise TypeError("can't send non-None value to a just-started async generator")
        return await self.__anext__()

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Never:
        """Unsubscribe, and raise the exception."""
        if isinstance(typ, BaseException):
            error = typ
        elif isinstance(val, BaseException):
            error = val
        else:
            error = typ() if val is None else typ(val)
        await self.aclose()
        raise error if tb is None else error.with_traceback(tb)


async def _keeper(
    manager: ConnectionManager,
    subscribe_request: SubscribeRequest,
    subscriber: Subscriber,
    reader: StreamReader,
) -> AsyncGenerator[None, None]:
    """Holds a subscription until it is closed, by a stream, or because that is collected.

    A loop closes the asynchronous generators begun on it that are collected, and those left at its end.
    """
    try:
        yield
    finally:
        # A cancel is not held up by a server that does not answer the close frame.
        task = asyncio.current_task()
        in_haste = task is not None and task.cancelling() > 0 and subscriber.channel.connected
        subscriber.unregister()
        reader.unregister()
        try:
            if not in_haste and not subscriber.channel.shared and not subscriber.disowned:
                await asyncio.wait({subscriber.channel.task})
        finally:
            if subscribe_request.transport is not None and manager.is_own(subscribe_request):
                await subscribe_request.transport.close()


def _let_go_of_frames() -> None:
    """When the running task ends as cancelled, drop what keeps the stream: its exception's frames.

    A task keeps the exception that it was cancelled by until somebody asks for it.
    """
    task = asyncio.current_task()
    if task is not None:
        task.remove_done_callback(_asked_for)  # of a limit before
        task.add_done_callback(_asked_for)


def _asked_for(task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()


def _refusal(subscriber: Subscriber, message: Message) -> Exception:
    request = subscriber.event(message).request
    response = GraphQLResponse(request=request, json={"errors": errors_of(message)})
    return subscriber.channel.concealed(request_failed(response))


class StreamBody(Asker):
    """The body of a loop over one or several streams.

    :ivar numbers: the streams that have handed something over to this task, or to the one that began it.
    """

    __slots__ = ("numbers",)
    done = False

    def __init__(self, numbers: frozenset[int], outer: Asker | None) -> None:
        self.numbers: frozenset[int] = numbers
        self.outer = outer


_numbers = itertools.count()
_alive: set[int] = set()
"""The streams that have not ended."""

# Seconds without a question, after which a reader that no task stands for is given up at the client's end.
PATIENCE = 2.0


class StreamReader:
    """Who reads a stream."""

    __slots__ = (
        "_carried",
        "_handed",
        "_lost",
        "_manager",
        "_number",
        "_patience",
        "_task",
        "loop",
        "subscriber",
    )

    def __init__(self, manager: ConnectionManager, subscriber: Subscriber) -> None:
        self._manager = manager
        self.subscriber: Subscriber = subscriber
        self._number = next(_numbers)
        _alive.add(self._number)
        self._lost = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._carried = False
        """Whether what reads outlives the tasks that it asks in, as under ``asyncio.wait_for()``."""
        self._handed = False
        self._patience: asyncio.TimerHandle | None = None
        self._read_by(asyncio.current_task())
        manager.register(self)

    def _read_by(self, task: asyncio.Task[Any] | None) -> None:
        before, self._task = self._task, task
        asks = EventStream.__anext__.__code__
        over = before is not None and before.done()
        if over or (task is not None and getattr(task.get_coro(), "cr_code", None) is asks):
            self._carried = True

    def hands_over(self) -> None:
        """Something goes to the task that runs now: what it does next is the reader's own doing."""
        task = asyncio.current_task()
        self._handed = True
        if task is not self._task:
            self._read_by(task)
        here = ASKING.get()
        if not isinstance(here, StreamBody):
            ASKING.set(StreamBody(frozenset({self._number}), here))
        elif self._number not in here.numbers:
            # One that was dropped in the middle has ended in a context of the loop's own.
            ASKING.set(StreamBody((here.numbers & _alive) | {self._number}, here.outer))

    def unregister(self) -> None:
        """The end."""
        _alive.discard(self._number)
        here = ASKING.get()
        if isinstance(here, StreamBody) and self._number in here.numbers:
            others = here.numbers - {self._number}
            ASKING.set(StreamBody(others, here.outer) if others else here.outer)
        if self._patience is not None:
            self._patience.cancel()
        self._manager.unregister(self)

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order; the loop over it may go on with what it has."""
        return self.subscriber.established and not self._lost

    def drain(self) -> None:
        """Take nothing new; what waits can still be read."""
        self.subscriber.unregister()
        if self._carried:
            self._look()
        elif self._task is not None:
            self._task.add_done_callback(self._left_alone)

    def _look(self) -> None:
        """Nobody knows whether what reads is still there: it is, as long as it asks."""
        if not self.subscriber.event_queue.events and not self.subscriber.event_queue.awaited:
            self.abort()  # nothing is lost with it
        elif self._handed or self._patience is None:
            self._handed = False
            self._patience = self.loop.call_later(PATIENCE, self._look)
        else:
            self._left_alone(None)

    def _left_alone(self, _: object) -> None:
        """The task that read is over, and the generator is only kept, by a traceback perhaps."""
        if not self.subscriber.event_queue.awaited:
            self.abort()

    def abort(self) -> None:
        """What waits is thrown away; whoever asks for more hears of it."""
        subscriber, event_queue = self.subscriber, self.subscriber.event_queue
        subscriber.unregister()
        if event_queue.events:
            self._lost = True
            event_queue.discard()
            error = cut_off(subscriber.channel.host)
            # Whatever had ended it, its reader has not read all that came before.
            error.__cause__, event_queue.error = event_queue.error, error
        self._manager.unregister(self)

    def disown(self) -> object:
        """In a child that was forked: there is nothing to read."""
        return self.subscriber.disown()

    def is_caller(self) -> bool:
        """Whether who asks was called by who reads: it cannot be waited for."""
        asker = ASKING.get()
        while asker is not None:
            if isinstance(asker, StreamBody) and self._number in asker.numbers:
                return True
            asker = asker.outer
        return False
