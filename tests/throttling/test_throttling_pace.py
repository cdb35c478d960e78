"""``mode="pace"``: calls are held back before they are refused, and the quota is used."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from simulating import ROUNDINGS, Points, Silent, Window, simulated
from subscribing import until
from telemetry_sdk import client_of

from graphql_prod import ClientClosedError, ProductionClient, Quota, Throttle, ThrottledError
from graphql_prod.registry import Registry
from graphql_prod.testing import (
    Answer,
    ConcurrencyLimit,
    FixedWindow,
    PointsBucket,
    RateLimitedServer,
    ScriptedServer,
    SecondaryLimit,
)
from graphql_prod.throttling.bucket import Bucket
from graphql_prod.throttling.policy import ThrottlingPolicy
from graphql_prod.throttling.throttling import IDENTITIES, Throttling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Make = Callable[..., Awaitable[ProductionClient]]

HI = "query Hi { hello }"
SEEDS = range(3)


# --- in simulated time: the figures of the promise --------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("capacity", "rate", "dearest"), [(1000, 50, 50), (100, 20, 10), (2000, 100, 100)])
def test_points(capacity: float, rate: float, dearest: float, seed: int) -> None:
    """50 tasks with mixed costs, a minute: next to all of the points, next to no refusal."""
    upstream = Points(capacity, rate)
    outcome = simulated(upstream, costs=(1, 5, dearest / 2, dearest), seed=seed)
    assert upstream.used >= 0.95 * upstream.total(60)
    assert len(outcome.late) <= 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(("limit", "window"), [(100, 10), (600, 60), (1000, 10)])
def test_windows(limit: float, window: float, rounding: str, seed: int) -> None:
    """However the server rounds: the quota is used, nobody is refused, and no herd comes at the reset.

    A server that rounds down names resets that are too early, and that is found out by trying once.
    """
    upstream = Window(limit, window, ROUNDINGS[rounding])
    seconds = max(60, 3 * window)
    outcome = simulated(upstream, seconds, seed=seed)
    assert upstream.used >= 0.95 * upstream.total(seconds)
    assert len(outcome.late) <= (4 if rounding == "down" else 1)
    assert outcome.largest <= 1.2


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_of_points(seed: int) -> None:
    """Costs that no answer names are learned from what is gone."""
    upstream = Window(400, 20)
    outcome = simulated(upstream, costs=(1, 2, 5), seed=seed)
    assert upstream.used >= 0.9 * upstream.total(60)
    assert len(outcome.late) <= 2


def test_order() -> None:
    """Those who wait are let go in the order in which they came."""
    outcome = simulated(Window(100, 10))
    assert outcome.refused == []
    assert outcome.let_go[0] == sorted(outcome.let_go[0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Points(1000, 50),
        lambda: Window(600, 60),
        lambda: Window(1000, 10),
        lambda: Window(100, 10, ROUNDINGS["exact"]),
    ],
    ids=["points", "a minute", "many", "exact"],
)
def test_two_clients(make: Callable[[], Any], seed: int) -> None:
    """Two that do not know of each other share a quota: refusals after the start are 2 % at most."""
    upstream = make()
    costs = (1.0, 5.0, 10.0) if isinstance(upstream, Points) else (1.0,)
    outcome = simulated(upstream, 120, clients=2, tasks=25, costs=costs, seed=seed)
    assert upstream.used >= 0.9 * upstream.total(120)
    assert len(outcome.late) <= 0.02 * len(outcome.sent)


def test_a_limit_that_nobody_tells_of() -> None:
    """It is guessed at from what was let in; then refusals are rare."""
    outcome = simulated(Silent(200, 60, 60), 600)
    assert len([moment for moment in outcome.refused if moment > 61]) <= 6
    assert len(outcome.sent) > 200


def test_costs_and_rates_of_nothing() -> None:
    """A cost of 0, a restore rate of 0 and quotas without numbers hold nobody for ever."""
    bucket = Bucket()
    ticket = bucket.go(0.0, "A")
    quotas = (
        Quota(name="cost", limit=0.0, remaining=0.0, restore_rate=None),
        Quota(name="a"),
        Quota(name="b", remaining=0.0, reset=0.0),
        Quota(name="c", limit=0.0, remaining=5.0, reset=3.0),
    )
    bucket.done(0.1, ticket, Throttle(refused=False, quotas=quotas, cost=0.0))
    now = 0.1
    for _ in range(20):
        wait = bucket.wait(now, "A")
        assert wait < 10
        now += wait
        bucket.done(now + 0.1, bucket.go(now, "A"), None)
        now += 0.1


def test_a_first_call_that_hangs() -> None:
    """The one that goes ahead to learn holds the others up for a second, not for ever."""
    bucket = Bucket()
    bucket.go(0.0, "A")
    assert 0 < bucket.wait(0.5, "A") <= 0.5
    assert bucket.wait(1.01, "A") == 0


async def test_the_end_of_a_long_line(throttled: Make, server: ScriptedServer) -> None:
    """Whoever cannot come in time, because of those ahead, hears so at once."""
    client = await throttled(server.url, "pace")
    server.always(
        Answer(headers={"x-ratelimit-limit": "60", "x-ratelimit-remaining": "60", "x-ratelimit-reset": "60"})
    )
    await client.query(HI)
    waiting = [asyncio.create_task(client.query(HI)) for _ in range(20)]
    await until(lambda: client.stats().throttle and client.stats().throttle.waiting >= 15)  # type: ignore[union-attr]
    began = time.monotonic()
    with pytest.raises(ThrottledError):
        await client.with_options(timeout=5.0).query(HI)
    assert time.monotonic() - began < 1
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# --- with real servers ------------------------------------------------------------------------------


async def hammer(client: ProductionClient, names: tuple[str, ...], seconds: float, tasks: int = 50) -> float:
    """Tasks that call one after another; when it began."""
    began = time.monotonic()

    async def work(number: int) -> None:
        while time.monotonic() < began + seconds:
            name = names[number % len(names)]
            number += 1
            await client.query(f"query {name} {{ hello }}")

    working = [asyncio.create_task(work(number)) for number in range(tasks)]
    await asyncio.wait(working, timeout=seconds)
    for each in working:
        each.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    return began


async def test_points_in_real_time(throttled: Make) -> None:
    """At least 90 % of the points in real time, and next to no refusal after the first second."""
    costs = {"A": 1.0, "B": 5.0, "C": 10.0}
    async with RateLimitedServer(PointsBucket(100, 50), costs=costs) as server:
        client = await throttled(server.url, "pace")
        began = await hammer(client, tuple(costs), 4)
        assert server.spent >= 0.9 * (100 + 50 * 4)
        assert len([moment for moment in server.refusals if moment > began + 1]) <= 1


@pytest.mark.parametrize("style", ["github", "linear", "ratelimit"])
async def test_windows_in_real_time(style: Any) -> None:
    """Each way of telling: nobody is refused, and no second is a herd."""
    async with RateLimitedServer(FixedWindow(60, 3, style)) as server:
        async with client_of(server.url, "aiohttp", throttling={"mode": "pace"}) as client:
            began = await hammer(client, ("A",), 7)
        assert server.refused <= 1
        assert server.spent >= 90
        seconds = Counter(int(moment - began) for moment in server.let_in)
        assert max(seconds.values()) <= 1.5 * 20


async def test_many_at_once() -> None:
    """A limit of concurrency is found, and then kept."""
    async with RateLimitedServer(ConcurrencyLimit(5)) as server:
        server.always(Answer(delay=0.02))
        async with client_of(server.url, "aiohttp", throttling={"mode": "pace"}) as client:
            await asyncio.gather(*(client.query(HI) for _ in range(60)))
        assert server.refused <= 3


async def test_a_secondary_limit() -> None:
    """GitHub's, which only a text tells of: the call waits and comes through."""
    async with RateLimitedServer(SecondaryLimit(3, 1.0, 1.0)) as server:
        throttling = {"preset": "github", "mode": "pace"}
        async with client_of(server.url, "aiohttp", throttling=throttling) as client:
            answers = await asyncio.gather(*(client.query(HI) for _ in range(6)))
        assert all(answer.data for answer in answers)
        assert 1 <= server.refused <= 4


# --- whose quota ------------------------------------------------------------------------------------


def known(client: ProductionClient) -> int:
    """How many identities a client knows."""
    stats = client.stats().throttle
    assert stats is not None
    return stats.identities


async def test_two_tokens_have_two_buckets(throttled: Make, server: ScriptedServer) -> None:
    """A quota that is used up for one token holds no call of another one's."""
    client = await throttled(server.url, "pace")
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}
    server.script(Answer(headers=spent))
    mine = client.with_options(headers={"Authorization": "Bearer mine"}, timeout=1.0)
    yours = client.with_options(headers={"authorization": "Bearer yours"})
    await mine.query(HI)
    with pytest.raises(ThrottledError) as caught:
        await mine.query(HI)
    assert caught.value.retry_after == pytest.approx(30, abs=1)
    assert (caught.value.attempts, caught.value.may_have_executed) == (0, False)
    assert (await yours.query(HI)).data
    assert known(client) == 2


async def test_a_renewed_token_keeps_its_bucket(server: ScriptedServer) -> None:
    """Quotas are the provider's: what it gives may change with every call."""
    given: list[str] = []

    def provider() -> dict[str, str]:
        given.append(f"Bearer {len(given)}")
        return {"Authorization": given[-1]}

    config: dict[str, Any] = {"throttling": {"mode": "pace"}}
    async with client_of(server.url, objects={"headers_provider": provider}, **config) as client:
        for _ in range(3):
            await client.query(HI)
        assert (len(given), known(client)) == (3, 1)
        await client.with_options(headers_provider=lambda: {"Authorization": "x"}).query(HI)
        await client.with_options(headers={"Authorization": "Bearer other"}).query(HI)
        assert known(client) == 3


def test_identities_are_bounded() -> None:
    """100,000 calls with more identities than are kept: the memory stays."""
    throttling = Throttling(ThrottlingPolicy(mode="pace"), None, Registry("here"))
    for number in range(100_000):
        throttling.identity(None, {"Authorization": f"Bearer {number % 3000}"}, {})
    assert throttling.identities == IDENTITIES
    one = throttling.identity(None, {"AUTHORIZATION": "Bearer 5"}, {})
    assert one is throttling.identity(None, {"authorization": "Bearer 5", "X-Other": "1"}, {})
    assert one is not throttling.identity(None, {"cookie": "Bearer 5"}, {})


# --- the client's own rate --------------------------------------------------------------------------


async def test_a_rate(throttled: Make, server: ScriptedServer) -> None:
    """So many calls a second, whatever the server says, in the order in which they came."""
    client = await throttled(server.url, {"mode": "retry", "rate": 20, "burst": 2})
    await asyncio.gather(*(client.query(f"query Q{number} {{ hello }}") for number in range(8)))
    moments = [request.at for request in server.requests]
    assert moments[-1] - moments[0] >= 6 / 20 - 0.02
    names = [str(request.query).split()[1] for request in sorted(server.requests, key=lambda each: each.at)]
    assert names[2:] == [f"Q{number}" for number in range(2, 8)]


async def test_a_rate_that_leaves_no_time(throttled: Make, server: ScriptedServer) -> None:
    """A call whose turn does not come in time fails at once, unsent."""
    client = await throttled(server.url, {"mode": "retry", "rate": 1, "burst": 1})
    hurried = client.with_options(timeout=0.5)
    await hurried.query(HI)
    began = time.monotonic()
    with pytest.raises(ThrottledError, match="its turn would come") as caught:
        await hurried.query("mutation M { increment }")
    assert time.monotonic() - began < 0.3
    assert (caught.value.attempts, caught.value.may_have_executed) == (0, False)
    assert caught.value.retry_after == pytest.approx(1.0, abs=0.3)
    assert len(server.requests) == 1


async def test_closing_ends_those_who_wait(throttled: Make, server: ScriptedServer) -> None:
    """They were not sent, and hear that the client is closing."""
    client = await throttled(server.url, {"mode": "retry", "rate": 0.1, "burst": 1})
    await client.query(HI)
    calls = [asyncio.create_task(client.query(HI)) for _ in range(3)]
    await until(lambda: (client.stats().throttle or inf) and client.stats().throttle.waiting == 3)  # type: ignore[union-attr]
    await client.shutdown(5)
    for failure in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(failure, ClientClosedError)
        assert (failure.attempts, failure.may_have_executed) == (0, False)
    assert len(server.requests) == 1


async def test_cancels_leave_no_hole(throttled: Make, server: ScriptedServer) -> None:
    """Whoever leaves the line, or a call under way, takes nobody's turn with them."""
    client = await throttled(server.url, {"mode": "pace", "rate": 50, "burst": 1})
    calls = [asyncio.create_task(client.query(HI)) for _ in range(20)]
    await server.received(2)
    for number, call in enumerate(calls):
        if number % 2:
            call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(not isinstance(each, Exception) for each in results[::2])
    assert (await client.query(HI)).data
    stats = client.stats().throttle
    assert stats is not None
    assert stats.waiting == 0
