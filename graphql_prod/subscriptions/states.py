"""How a subscription is: connecting, subscribed, down or ended; and who is told when that changes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from graphql_prod.runtime import logs

if TYPE_CHECKING:
    from contextvars import Context

    from aiographql.client import GraphQLRequest

    from graphql_prod.telemetry.hooks import Hooks

logger: logging.Logger = logging.getLogger("graphql_prod")

Status = Literal["connecting", "subscribed", "down", "ended"]


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """How a subscription is.

    :ivar status: ``"connecting"``: an attempt to connect runs. ``"subscribed"``: the server has acknowledged
        the connection. ``"down"``: it waits for the next attempt. ``"ended"``: for good.
    :ivar close_code: the code of the close frame that ended the last connection; None if there was none.
    :ivar reason: why the last connection was lost, or why the subscription has ended; None if all is well.
    :ivar attempt: attempts to connect since the last connection was lost, or since the beginning.
    :ivar next_in: seconds until the next attempt, while it is down.
    :ivar since: when this state began, in seconds since the epoch.
    :ivar ack_payload: the payload of the server's acknowledgement, of the connection that is open.
    """

    status: Status
    close_code: int | None = None
    reason: str | None = None
    attempt: int = 0
    next_in: float | None = None
    since: float = 0.0
    ack_payload: Any = None


OnState = Callable[[SubscriptionState], Awaitable[object] | object]


class StateKeeper:
    """The state of one subscription, and whom it is told to.

    A callback is told of each state as it happens, in order, whatever waits in the queue of events. What it
    raises is logged and counted.
    """

    __slots__ = (
        "_context",
        "_failures",
        "_hooks",
        "_host",
        "_on_state",
        "_queue",
        "_request",
        "_telling",
        "state",
    )

    def __init__(
        self,
        on_state: OnState | None,
        context: Context | None,
        host: str,
        request: GraphQLRequest,
        hooks: Hooks | None,
        failures: Callable[[], None],
        telling: set[asyncio.Task[None]],
    ) -> None:
        self._on_state = on_state
        self._context = context
        self._host = host
        self._request = request
        self._hooks = hooks
        self._failures = failures
        self._telling = telling
        self.state: SubscriptionState = SubscriptionState("connecting", since=time.time())
        self._queue: deque[SubscriptionState] | None = None

    def become(
        self,
        status: Status,
        *,
        close_code: int | None = None,
        reason: str | None = None,
        attempt: int = 0,
        next_in: float | None = None,
        ack_payload: Any = None,
    ) -> None:
        """Another state; after the end there is none."""
        if self.state.status == "ended":
            return
        state = SubscriptionState(status, close_code, reason, attempt, next_in, time.time(), ack_payload)
        self.state = state
        if self._hooks is not None:
            hooks = self._hooks
            hooks.tell(hooks.on_state, self._request, attempt, close_code, status, None, next_in)
        if self._on_state is None:
            return
        if self._queue is not None:  # a coroutine of an earlier state is under way
            self._queue.append(state)
        else:
            self._tell(state)

    def _tell(self, state: SubscriptionState) -> None:
        on_state = self._on_state
        assert on_state is not None  # noqa: S101 -- asked before
        try:
            result = on_state(state) if self._context is None else self._context.copy().run(on_state, state)
        except Exception as error:  # noqa: BLE001 -- a callback of the program's may raise anything
            self._failed(error)
            return
        if inspect.isawaitable(result):
            self._queue = deque()
            context = None if self._context is None else self._context.copy()
            task = asyncio.create_task(self._told(result), context=context)
            self._telling.add(task)  # the loop itself keeps none; the client cancels it when it is closed
            task.add_done_callback(self._telling.discard)

    async def _told(self, telling: Awaitable[object]) -> None:
        """Await a callback that is a coroutine function, and then tell what came meanwhile."""
        try:
            while True:
                try:
                    await telling
                except Exception as error:  # noqa: BLE001 -- a callback of the program's may raise anything
                    self._failed(error)
                if not self._queue or self._on_state is None:
                    break
                state = self._queue.popleft()
                try:
                    result = self._on_state(state)
                except Exception as error:  # noqa: BLE001 -- a callback of the program's may raise anything
                    self._failed(error)
                    continue
                telling = result if inspect.isawaitable(result) else _nothing()
        finally:
            self._queue = None

    def _failed(self, error: Exception) -> None:
        self._failures()
        logger.error(
            "%s: on_state of a subscription failed with %s; the subscription goes on",
            self._host,
            type(error).__name__,
            exc_info=error,
            extra=logs.facts(host=self._host),
        )


async def _nothing() -> None:
    """A callback that has returned at once."""
