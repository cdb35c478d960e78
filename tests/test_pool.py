"""The pool is never worn out: not by deadlines, not by cancels, whoever owns it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest

from graphql_prod import (
    ConfigurationError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.sessions.limiter import ConcurrencyLimiter, PoolTimeoutError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]

ONCE = RetryPolicy(attempts=1)
SLOTS = 10
WORKERS = 40
STORM = 1.4
INCREMENT = "mutation Add { increment }"


@contextlib.asynccontextmanager
async def http_session(backend: Backend, limit: int) -> AsyncIterator[GraphQLSession]:
    """A caller's session with a small pool."""
    if backend == "aiohttp":
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit)) as session:
            yield session
    else:
        async with httpx.AsyncClient(
            limits=httpx.Limits(max_connections=limit), verify=False, timeout=10
        ) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner, limit: int = SLOTS, **settings: Any
) -> AsyncIterator[ProductionClient]:
    """A client over a pool of ``limit``, with one attempt a call unless told otherwise."""
    settings = {"retry": ONCE, "pool": PoolPolicy(requests=limit, retry_headroom=0), **settings}
    if owner == "owned":
        config = ProductionConfig(backend=backend, **settings)
        async with ProductionClient(url, validate=False, config=config) as client:
            yield client
    else:
        async with http_session(backend, limit) as session:
            config = ProductionConfig(**settings)
            async with ProductionClient(url, session=session, validate=False, config=config) as client:
                yield client


async def every_slot_serves(client: ProductionClient, server: ScriptedServer, slots: int = SLOTS) -> None:
    """As many calls as there are slots are at the server at once: not one slot is lost."""
    gate, before = asyncio.Event(), len(server.requests)
    server.on("Whole", *(Answer(gate=gate) for _ in range(slots)))
    view = client.with_options(timeout=20)
    calls = [asyncio.create_task(view.query("query Whole { hello }")) for _ in range(slots)]
    try:
        await server.received(before + slots, timeout=5)
    finally:
        gate.set()
        answers = await asyncio.gather(*calls)
    assert [answer.data for answer in answers] == [{"hello": "Hello, world!"}] * slots


async def storm(server: ScriptedServer, call: Callable[[float], Any]) -> int:
    """Workers call with random deadlines of 1 to 60 ms; how many calls ended in time, to be sure of both."""
    chance, ended = random.Random(42), {True: 0, False: 0}
    end = asyncio.get_running_loop().time() + STORM

    async def work() -> None:
        while asyncio.get_running_loop().time() < end:
            server.on("Storm", Answer(delay=chance.uniform(0, 0.04)))
            try:
                await call(chance.uniform(0.001, 0.06))
                ended[True] += 1
            except TimeoutError:
                ended[False] += 1

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    assert ended[False] > WORKERS
    return ended[True]


class TestWear:
    async def test_deadlines_around_calls_wear_nothing_out(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """P1: a cancel under contention loses no slot; a healthy call succeeds at once."""
        async with client_of(server.url, backend, owner) as client:

            async def call(deadline: float) -> None:
                async with asyncio.timeout(deadline):
                    await client.query("query Storm { hello }")

            await storm(server, call)
            healthy = client.with_options(timeout=2.0)
            assert (await healthy.query("query Calm { hello }")).data == {"hello": "Hello, world!"}
            assert (client.stats().in_flight, client.stats().pool.in_use) == (0, 0)
            assert client.stats().pool.waiting == 0
            await every_slot_serves(client, server)

    async def test_our_own_deadlines_wear_nothing_out(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """P1: the total of a view is a deadline like any other."""
        async with client_of(server.url, backend, owner) as client:

            async def call(deadline: float) -> None:
                await client.with_options(timeout=deadline).query("query Storm { hello }")

            await storm(server, call)
            healthy = client.with_options(timeout=2.0)
            assert (await healthy.query("query Calm { hello }")).data == {"hello": "Hello, world!"}
            assert (client.stats().in_flight, client.stats().pool.in_use) == (0, 0)
            assert client.stats().pool.waiting == 0
            await every_slot_serves(client, server)

    async def test_closing_in_the_storm_leaves_a_callers_session_whole(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A caller's session is as good after our client as it was before, abandoned requests or not."""
        chance = random.Random(7)
        async with http_session(backend, SLOTS) as session:
            config = ProductionConfig(retry=ONCE, pool=PoolPolicy(requests=SLOTS, retry_headroom=0))
            for _ in range(6):
                client = ProductionClient(server.url, session=session, validate=False, config=config)
                server.on("Storm", *(Answer(delay=chance.uniform(0, 0.02)) for _ in range(200)))

                async def work(client: ProductionClient = client) -> None:
                    for _ in range(5):
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(chance.uniform(0.001, 0.03)):
                                await client.query("query Storm { hello }")

                await asyncio.gather(*(work() for _ in range(WORKERS)))
                await client.close()
            after = ProductionClient(server.url, session=session, validate=False)
            await every_slot_serves(after, server)


class TestSize:
    def test_the_pool_is_sized_as_the_guide_says(self) -> None:
        """A hundred calls, and a fifth on top for repeated attempts."""
        policy = PoolPolicy()
        assert (policy.requests, policy.subscriptions, policy.retry_headroom) == (100, 100, 0.2)
        assert policy.request_connections == 120
        assert policy.keepalive == 4.0
        assert PoolPolicy(requests=1, retry_headroom=0.1).request_connections == 2

    @pytest.mark.parametrize(
        "wrong", [{"requests": 0}, {"subscriptions": -1}, {"retry_headroom": -0.1}, {"keepalive": -1}]
    )
    def test_a_pool_that_cannot_work_is_refused(self, wrong: dict[str, float]) -> None:
        """Bad sizes are refused where they are given, naming the setting."""
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            PoolPolicy(**wrong)  # type: ignore[arg-type]

    async def test_no_more_calls_than_slots_reach_the_server_at_once(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The rest wait, are counted as waiting, and are served in their order."""
        gate = asyncio.Event()
        server.script(*(Answer(gate=gate) for _ in range(5)))
        async with client_of(server.url, backend, "owned", 2) as client:
            names = ["A", "B", "C", "D", "E"]
            calls = [asyncio.create_task(client.query(f"query {name} {{ hello }}")) for name in names]
            await server.received(2)
            pool = client.stats().pool
            assert (pool.in_use, pool.waiting, pool.limit) == (2, 3, 2)
            assert client.stats().in_flight == 5
            assert server.connections == 2
            gate.set()
            await asyncio.gather(*calls)
            assert (client.stats().pool.in_use, client.stats().in_flight) == (0, 0)
        assert server.connections == 2
        order = [request.query.split()[1] for request in server.requests if request.query]
        assert (sorted(order[:2]), sorted(order[2:4]), order[4:]) == (["A", "B"], ["C", "D"], ["E"])

    async def test_a_call_cancelled_while_it_waits_leaves_the_line(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Whoever waited behind it is served."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with client_of(server.url, backend, "owned", 1) as client:
            first = asyncio.create_task(client.query("query A { hello }"))
            await server.received(1)
            second = asyncio.create_task(client.query("query B { hello }"))
            third = asyncio.create_task(client.query("query C { hello }"))
            while client.stats().pool.waiting < 2:
                await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert client.stats().pool.waiting == 1
            gate.set()
            await asyncio.gather(first, third)
        assert [request.query for request in server.requests] == ["query A { hello }", "query C { hello }"]

    async def test_a_failed_attempt_gives_its_slot_back(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Resets, error pages, bodies cut short and garbage: each leaves the pool whole."""
        faults = [
            Answer.reset(),
            Answer.page(502),
            Answer.truncated(5),
            Answer.garbage(),
            Answer.disconnect(),
            Answer.login_page(),
            Answer.reset("body"),
            Answer.redirect("/elsewhere"),
        ]
        async with client_of(server.url, backend, owner, 1, timeout=TimeoutPolicy(total=20)) as client:
            for fault in faults:
                server.script(fault)
                with pytest.raises(Exception):  # noqa: B017, PT011 -- which one is another test's affair
                    await client.query("{ hello }")
            assert client.stats().pool.in_use == 0
            await every_slot_serves(client, server, 1)

    async def test_a_call_that_waits_between_attempts_holds_no_slot(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A retry storm does not block the healthy calls: the slot is given back before the wait."""
        server.on("Ill", Answer.page(503), Answer.page(503))
        retry = RetryPolicy(attempts=2, wait_initial=20, wait_max=20, jitter="none")
        async with client_of(server.url, backend, "owned", 1, retry=retry) as client:
            ill = asyncio.create_task(client.query("query Ill { hello }"))
            await server.received(1)
            assert (await client.with_options(timeout=10).query("query Well { hello }")).data
            ill.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ill


class TestAbandoned:
    async def abandon(self, client: ProductionClient, server: ScriptedServer, number: int) -> None:
        """Give up as many calls as asked, each after its request arrived."""
        for _ in range(number):
            call = asyncio.create_task(client.query("query Lost { hello }"))
            await server.received(len(server.requests) + 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    async def test_a_cancelled_call_ends_at_once_and_its_request_lives_on(
        self, server: ScriptedServer
    ) -> None:
        """On a caller's httpx client the call is given up, the request is not cancelled."""
        gate = asyncio.Event()
        server.on("Lost", Answer(gate=gate))
        async with client_of(server.url, "httpx", "given") as client:
            await self.abandon(client, server, 1)
            assert client.stats().in_flight == 0
            gate.set()
            await every_slot_serves(client, server)
        with pytest.raises(AssertionError, match="in vain"):
            await server.abandoned(1, timeout=0.05)

    async def test_their_number_is_bounded(self, server: ScriptedServer) -> None:
        """With as many abandoned requests as slots the next call is not sent: it waits, as for any pool."""
        gate = asyncio.Event()
        server.on("Lost", *(Answer(gate=gate) for _ in range(3)))
        pool = PoolPolicy(requests=3, retry_headroom=0)
        limits = TimeoutPolicy(pool=0.1)
        async with client_of(server.url, "httpx", "given", 100, pool=pool, timeout=limits) as client:
            await self.abandon(client, server, 3)
            with pytest.raises(RequestTimeoutError) as caught:
                await client.query(INCREMENT)
            assert (caught.value.phase, caught.value.may_have_executed) == ("pool", False)
            assert len(server.requests) == 3
            waiting = asyncio.create_task(
                client.with_options(timeout=TimeoutPolicy(total=20, pool=20)).query("{ hello }")
            )
            gate.set()
            assert (await waiting).data == {"hello": "Hello, world!"}

    async def test_a_call_behind_too_many_of_them_waits_its_whole_time(self, server: ScriptedServer) -> None:
        """That one of several ended is no reason to give up early: the pool's limit is what counts."""
        first, rest = asyncio.Event(), asyncio.Event()
        server.on("Lost", Answer(gate=first), Answer(gate=rest), Answer(gate=rest))
        pool = PoolPolicy(requests=1, retry_headroom=0)
        limits = TimeoutPolicy(total=20, pool=20)
        async with client_of(server.url, "httpx", "given", 100, pool=pool, timeout=limits) as client:
            lost = [asyncio.create_task(client.query("query Lost { hello }")) for _ in range(3)]
            await server.received(3)
            for call in lost:
                call.cancel()
            await asyncio.gather(*lost, return_exceptions=True)
            waiting = asyncio.create_task(client.query("query Next { hello }"))
            first.set()
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            rest.set()
            assert not done, f"gave up long before pool=20: {done}"
            assert (await waiting).data == {"hello": "Hello, world!"}

    async def test_a_failure_of_an_abandoned_request_disturbs_nobody(self, server: ScriptedServer) -> None:
        """It is retrieved: no 'exception was never retrieved' in the log, nothing raised elsewhere."""
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        gate = asyncio.Event()
        server.on("Lost", Answer.reset(gate=gate))
        async with client_of(server.url, "httpx", "given") as client:
            await self.abandon(client, server, 1)
            gate.set()
            await every_slot_serves(client, server)
        assert told == []


async def enter(gate: ConcurrencyLimiter, timeout: float | None = None) -> None:
    """Take a slot the way a call does."""
    if not gate.acquire():
        await gate.wait(timeout)


class TestGate:
    async def test_slots_are_taken_and_given_back(self) -> None:
        """Free slots need no waiting."""
        gate = ConcurrencyLimiter(2)
        await enter(gate)
        await enter(gate, 0.001)
        assert (gate.free, gate.waiting) == (0, 0)
        gate.release()
        gate.release()
        assert (gate.free, gate.limit) == (2, 2)

    async def test_first_come_first_served(self) -> None:
        """Waiters get their slots in the order of their coming; a newcomer never overtakes."""
        gate, order = ConcurrencyLimiter(1), list[int]()
        await enter(gate)

        async def work(number: int) -> None:
            await enter(gate)
            order.append(number)
            gate.release()

        workers = [asyncio.create_task(work(number)) for number in range(5)]
        while gate.waiting < 5:
            await asyncio.sleep(0)
        gate.release()
        workers.append(asyncio.create_task(work(5)))
        await asyncio.gather(*workers)
        assert order == [0, 1, 2, 3, 4, 5]
        assert (gate.free, gate.waiting) == (1, 0)

    async def test_a_wait_is_limited(self) -> None:
        """The wait ends in its own error, leaves the line, and takes nothing with it."""
        gate = ConcurrencyLimiter(1)
        await enter(gate)
        with pytest.raises(PoolTimeoutError):
            await enter(gate, 0.01)
        assert gate.waiting == 0
        gate.release()
        assert gate.free == 1

    async def test_a_slot_handed_to_a_waiter_that_is_cancelled_is_given_on(self) -> None:
        """Cancelled between the handing over and its waking up, it passes the slot to the next in line."""
        gate = ConcurrencyLimiter(1)
        await enter(gate)
        first = asyncio.create_task(enter(gate))
        second = asyncio.create_task(enter(gate))
        while gate.waiting < 2:
            await asyncio.sleep(0)
        gate.release()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.wait_for(second, 5)
        assert (gate.free, gate.waiting) == (0, 0)
        gate.release()
        assert gate.free == 1

    async def test_a_slot_handed_over_as_the_time_runs_out_is_given_on(self) -> None:
        """The caller's deadline and the handing over in one round of the loop: the slot survives."""
        gate = ConcurrencyLimiter(1)
        await enter(gate)
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            async with asyncio.timeout(None) as limit:
                loop.call_soon(gate.release)
                loop.call_soon(lambda: limit.reschedule(loop.time()))
                await enter(gate)

        with contextlib.suppress(TimeoutError):
            await wait()
            gate.release()
        assert (gate.free, gate.waiting) == (1, 0)

    async def test_cancels_at_random_moments_lose_and_make_no_slot(self) -> None:
        """Whatever is cancelled when: never more holders than slots, and in the end all slots are free."""
        gate, chance = ConcurrencyLimiter(3), random.Random(1)
        holders = most = 0

        async def work() -> None:
            nonlocal holders, most
            with contextlib.suppress(PoolTimeoutError):
                await enter(gate, chance.choice([None, 0.001, 0.003]))
                holders += 1
                most = max(most, holders)
                try:
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    holders -= 1
                    gate.release()

        for _ in range(150):
            workers = [asyncio.create_task(work()) for _ in range(12)]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            for worker in chance.sample(workers, 6):
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            assert (gate.free, gate.waiting, holders) == (3, 0, 0)
        assert most == 3
