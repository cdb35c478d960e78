"""One way to a schema, for all who wait for it."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from graphql_prod.calls.call import Call
from graphql_prod.errors import ClientClosedError, renewed
from graphql_prod.registry import ASKING
from graphql_prod.schema.building import of_introspection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from graphql_prod.calls.settings import CallSettings
    from graphql_prod.credentials import Credentials
    from graphql_prod.registry import Registry
    from graphql_prod.schema.building import Built


class FlightCall(Call):
    """What the queries sent on the way to a schema are parts of.

    :ivar wait_until: when their next attempt follows, on the loop's clock.
    :ivar news: done when that has changed.
    """

    __slots__ = ("news", "wait_until")

    def __init__(self, settings: CallSettings, owner: Registry) -> None:
        super().__init__(settings, None, owner, internal=True)
        self.is_wrapper: bool = True
        self.task: asyncio.Task[Any] | None = None
        self.wait_until: float = 0.0
        self.news: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def failed(self, error: Exception | None, wait: float = 0.0) -> None:
        """Tell those who wait: some of them have no time for another attempt."""
        super().failed(error, wait)
        loop = asyncio.get_running_loop()
        self.wait_until = loop.time() + wait
        self.news.set_result(None)
        self.news = loop.create_future()


class SingleFlight:
    """A task of the client's that brings a schema.

    It goes on as long as anybody waits for it, whoever began it, and ends in failure where the longest of
    their deadlines leaves no time. One that was begun for nobody has the client's own.

    :ivar call: what the queries sent on the way are parts of.
    :ivar credentials: what they carry.
    """

    def __init__(
        self,
        settings: CallSettings,
        registry: Registry,
        work: Callable[[SingleFlight], Coroutine[None, None, Built]],
        credentials: Credentials | None,
        *,
        background: bool,
    ) -> None:
        self.background = background
        self.credentials = credentials
        self.waiters: int = 0
        # A refresh has nothing of the call that happened to begin it.
        context = contextvars.Context() if background else contextvars.copy_context()
        self.call: FlightCall = FlightCall(settings, registry)
        if background:
            self.call.limit = asyncio.timeout(settings.timeout.total)
        context.run(ASKING.set, self.call)
        loop = asyncio.get_running_loop()
        # Not create_task(): an eager factory would run it before anybody knows of it.
        name = f"graphql_prod schema of {registry.host}"
        self.task: asyncio.Task[Built] = asyncio.Task(work(self), loop=loop, name=name, context=context)

    async def limited(self, work: Awaitable[Built], host: str) -> Built:
        """Do the work; one that nobody waits for within its own limit.

        :raises RequestTimeoutError: the limit was reached.
        """
        if not self.background:
            return await work
        try:
            async with self.call.limit:
                return await work
        except TimeoutError as error:
            if type(error) is TimeoutError and self.call.limit.expired():
                raise self.call.overdue(host) from self.call.last_error or error
            raise

    async def wait(self, call: Call, host: str) -> Built:
        """The schema, for a call; until that call's own deadline.

        :raises ClientClosedError: the client was closed meanwhile.
        """
        self.waiters += 1
        if not self.background:
            self._grant(call.remaining)
        try:
            while not self.task.done():
                last = self.call.last_error
                if last is not None and self.call.wait_until - self._now() >= call.remaining:
                    raise self._annotated(call, last)
                await asyncio.wait({self.task, self.call.news}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            call.activity = " (waiting for the schema)"
            raise
        finally:
            self.waiters -= 1
            call.failed(self.call.last_error)
        if self.task.cancelled():
            raise ClientClosedError(f"The client was closed while a call waited for the schema of {host}.")
        error = self.task.exception()
        if isinstance(error, Exception):
            raise self._annotated(call, error)
        return self.task.result()

    def _annotated(self, call: Call, error: Exception) -> Exception:
        """The failure, as one of this call."""
        error = of_introspection(renewed(error))
        if not hasattr(error, "attempts"):
            self.call.annotate(error)
        call.reported_error = error
        return error

    def _now(self) -> float:
        return self.task.get_loop().time()

    def _grant(self, seconds: float) -> None:
        """Leave at least so much time."""
        if seconds == float("inf"):
            self.call.limit = asyncio.timeout(None)
            return
        end, so_far = self._now() + seconds, self.call.limit.when()
        if self.waiters == 1 or (so_far is not None and end > so_far):
            self.call.limit = asyncio.timeout_at(end)
