"""Readiness speaks of the server: a pool that is full of calls does not hold a probe up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from subscribing import COUNT, until

from graphql_prod import ProductionClient, ProductionConfig
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from conftest import Backend


def config_of(**more: Any) -> ProductionConfig:
    pool = {"requests": 2, "retry_headroom": 0, "subscriptions": 1}
    return ProductionConfig(pool=pool, schema={"mode": "off"}, health={"min_interval": 0}, **more)


async def test_a_probe_does_not_wait_for_a_slot(server: ScriptedServer, backend: Backend) -> None:
    """Every slot is held, others wait for one, every socket of subscriptions is open: it is ok at once."""
    gate = asyncio.Event()
    server.always(Answer(gate=gate), "Slow")
    async with ProductionClient(server.url, backend=backend, validate=False, config=config_of()) as client:
        subscription = await client.subscribe(COUNT)
        calls = [asyncio.create_task(client.query("query Slow { hello }")) for _ in range(5)]
        await until(lambda: client.stats().pool.waiting == 3)
        for _ in range(3):
            ready = await client.ready()
            assert ready, ready.reason
            assert ready.latency is not None
            pool = client.stats().pool
            assert (pool.in_use, pool.waiting) == (2, 3), "a slot was taken, or given back twice"
        gate.set()
        await asyncio.gather(*calls)
        pool = client.stats().pool
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert await client.ready()
        assert client.stats().pool.in_use == 0
        await subscription.unsubscribe_and_wait()


async def test_a_call_still_waits_for_a_slot(server: ScriptedServer, backend: Backend) -> None:
    """The same query by a caller does: only the probe goes past."""
    gate = asyncio.Event()
    server.always(Answer(gate=gate), "Slow")
    async with ProductionClient(server.url, backend=backend, validate=False, config=config_of()) as client:
        calls = [asyncio.create_task(client.query("query Slow { hello }")) for _ in range(2)]
        await server.received(2)
        asked = asyncio.create_task(client.query("{ __typename }"))
        await until(lambda: client.stats().pool.waiting == 1)
        assert await client.ready()
        assert not asked.done()
        gate.set()
        await asyncio.gather(*calls, asked)


async def test_a_probe_that_fails_gives_nothing_back(server: ScriptedServer, backend: Backend) -> None:
    """It held no slot: the limit of calls stays what it is."""
    gate = asyncio.Event()
    server.always(Answer(gate=gate), "Slow")
    async with ProductionClient(server.url, backend=backend, validate=False, config=config_of()) as client:
        calls = [asyncio.create_task(client.query("query Slow { hello }")) for _ in range(3)]
        await server.received(2)
        server.script(Answer.page(503))
        assert not await client.ready()
        assert client.stats().pool.in_use == 2
        gate.set()
        await asyncio.gather(*calls)
        assert client.stats().pool.in_use == 0
