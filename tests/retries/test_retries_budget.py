"""The budget is shared by a client and its views."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random

import pytest
from aiographql.client import GraphQLRequestException
from retrying import ALL_ATTEMPTS, AT_ONCE, QUERY, Connect, _graphql, failure_of, tenacious, waits

from graphql_prod import (
    ProductionClient,
    RetryBudget,
    RetryPolicy,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

# --- the budget -----------------------------------------------------------------------------------


class Simulated(clock.Clock):
    """Time that passes only while everybody waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._order = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def monotonic(self) -> float:
        return self.now

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self._order += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._order, waiter))
        self._changed.set()
        return asyncio.Handle(lambda: None, (), waiter.get_loop())

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wake(waiter, seconds)
        await waiter

    async def run(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let time pass until all tasks have ended: on to the next alarm whenever all of them wait."""
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        while alive := sum(not task.done() for task in tasks):
            if len(self._waiting) < alive:
                self._changed.clear()
                await self._changed.wait()
                continue
            self.now, _, waiter = heapq.heappop(self._waiting)
            waiter.set_result(None)
            self._changed.clear()
            await self._changed.wait()


TASKS, MINUTE, PACE = 50, 60.0, 2.0


async def _offer(time: Simulated, client: ProductionClient, calls: list[float], start: float) -> None:
    """One task of a service: a call every two seconds, for a minute, whatever comes of it."""
    await time.sleep(start)
    while time.now < 1000.0 + MINUTE:
        calls.append(time.now)
        with contextlib.suppress(GraphQLRequestException):
            await client.query(QUERY)
        await time.sleep(PACE)


async def test_an_outage_sees_little_more_than_what_is_offered(server: ScriptedServer) -> None:
    """50 tasks, a minute, every answer a 503: the calls and the reserve, not four times as many."""
    server.always(Answer.page(503))
    dice, calls = random.Random(1), list[float]()
    with clock.using(Simulated()) as time:
        assert isinstance(time, Simulated)
        async with ProductionClient(server.url, validate=False) as client:
            views = [client, client.with_options(timeout=60), client.with_options(retry=RetryPolicy())]
            tasks = [
                asyncio.create_task(_offer(time, views[each % 3], calls, dice.uniform(0, PACE)))
                for each in range(TASKS)
            ]
            await time.run(tasks)
            await asyncio.gather(*tasks)
            elapsed = time.now - 1000.0
            attempts, stats = len(server.requests), client.stats()
            assert elapsed < MINUTE + 30
            assert attempts == len(calls) + 10
            assert stats.retries == attempts - len(calls)
            assert stats.budget_rejections > 0
            # Recovery: what succeeds earns retries again, and one goes through.
            server.always(None)
            for _ in range(5):
                await _once(client)
            assert client.stats().budget == pytest.approx(1.0)
            server.script(Answer.page(503))
            recovered = asyncio.create_task(_once(client))
            await time.run([recovered])
            await recovered
            assert client.stats().retries == stats.retries + 1


async def _once(client: ProductionClient) -> None:
    assert (await client.query(QUERY)).data == {"counter": 0}


async def test_the_budget_is_shared_by_a_client_and_its_views(
    connect: Connect, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One account: what a view spends is gone for all of them; a policy of its own brings no new one."""
    server.always(Answer.page(503))
    policy = RetryPolicy(wait_initial=0, wait_max=0, budget=RetryBudget(ratio=0, reserve=2))
    client = await connect(server.url, retry=policy)
    views = [
        client.with_options(idempotent=True),
        client,
        client.with_options(retry=AT_ONCE),
        client.with_options(retry=RetryPolicy(wait_initial=0, wait_max=0, budget=None)),
        client.with_options(timeout=20).with_options(retry=tenacious()),
    ]
    errors = [await failure_of(view) for view in views]
    assert [error.attempts for error in errors] == [3, 1, 1, 1, 1]
    assert client.stats().budget_rejections == 5
    assert all("budget" in "".join(error.__notes__) for error in errors)
    refused = [record for record in caplog.records if "budget" in record.getMessage()]
    assert refused
    assert len(waits(caplog)) == 2


async def test_a_spent_budget_returns_an_answer(connect: Connect, server: ScriptedServer) -> None:
    """Without a retry left, what the stock would return is returned."""
    server.always(_graphql(503))
    client = await connect(
        server.url, retry=RetryPolicy(wait_initial=0, budget=RetryBudget(ratio=0, reserve=0))
    )
    assert (await client.query(QUERY)).errors
    assert len(server.requests) == 1


async def test_without_a_budget_nothing_is_refused(simple: ProductionClient, server: ScriptedServer) -> None:
    """budget=None: each call has all its attempts."""
    server.always(Answer.page(503))
    errors = await asyncio.gather(*(failure_of(simple) for _ in range(40)))
    assert [error.attempts for error in errors] == [ALL_ATTEMPTS] * 40
    assert simple.stats().budget is None
