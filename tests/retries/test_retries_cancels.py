"""A cancel is neither retried nor swallowed; closing ends the waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tenacity
from retrying import AS_QUERY, AT_ONCE, QUERY, UNMARKED, Kind, _started, assert_told, host_of

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    ProductionClient,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

# --- cancels --------------------------------------------------------------------------------------

YES_TO_ALL = {
    "policy": AT_ONCE,
    "retry_always": tenacity.AsyncRetrying(
        retry=tenacity.retry_always, stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none()
    ),
    "predicate": tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(lambda error: True), stop=tenacity.stop_never
    ),
    "retry_if_exception_type(BaseException)": tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(BaseException)
    ),
}
yes_to_all = pytest.mark.parametrize("retry", YES_TO_ALL.values(), ids=YES_TO_ALL.keys())


@yes_to_all
async def test_a_cancel_in_mid_attempt_is_neither_retried_nor_swallowed(
    client: ProductionClient, server: ScriptedServer, retry: Any
) -> None:
    """A cancel ends the task as cancelled, though a predicate says True to everything."""
    server.always(Answer.hang())
    task = asyncio.create_task(client.with_options(retry=retry).query(QUERY))
    await server.received(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert client.stats().in_flight == 0
    server.always(None)
    assert (await client.query(QUERY)).data == {"counter": 0}
    assert len(server.requests) == 2


class Stopped(clock.Clock):
    """Waits never end; a test learns that one began."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[float] = asyncio.Queue()

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self.waiting.put_nowait(seconds)
        return super().wake(waiter, 3600)


@yes_to_all
async def test_a_cancel_during_a_wait_is_neither_retried_nor_swallowed(
    owner: ProductionClient, server: ScriptedServer, retry: Any
) -> None:
    """The wait between attempts is left at once."""
    server.always(Answer.page(503))
    with clock.using(Stopped()) as stopped:
        task = asyncio.create_task(owner.with_options(retry=retry).query(QUERY))
        assert isinstance(stopped, Stopped)
        await asyncio.wait_for(stopped.waiting.get(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()
    assert len(server.requests) == 1
    assert owner.stats().in_flight == 0


async def test_a_deadline_of_the_callers_ends_the_call_as_his(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """asyncio.timeout around a call gives its own TimeoutError, not one of ours."""
    server.always(Answer.hang())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await owner.query(QUERY)
    assert type(caught.value) is TimeoutError
    assert len(server.requests) == 1


async def test_closing_during_a_wait_raises_the_last_failure(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """A call that waits for its next attempt gives up when the client closes, and says why."""
    server.always(Answer.page(503))
    with clock.using(Stopped()) as stopped:
        running = await _started(owner.query(QUERY))
        assert isinstance(stopped, Stopped)
        await asyncio.wait_for(stopped.waiting.get(), 5)
        await owner.close()
        error = await running.error()
    assert type(error) is HTTPStatusError
    assert_told(error, host_of(server), 1, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_call_that_closing_cuts_off_says_so(
    client: ProductionClient, server: ScriptedServer, kind: Kind
) -> None:
    """Leaving by an exception cuts what is under way: ClientClosedError with the facts, no bare cancel."""
    server.always(Answer.hang(execute=True))
    running = await _started(client.query(kind.document))
    await server.received(1)
    async with asyncio.timeout(0.8):  # leaving by an exception is a shutdown with deadline 0
        with pytest.raises(ZeroDivisionError):
            async with client:
                raise ZeroDivisionError
    error = await running.error()
    assert type(error) is ClientClosedError
    assert_told(error, host_of(server), 1, may_have_executed=kind is UNMARKED)
