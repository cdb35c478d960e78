"""Price of a subscription: ours beside the stock client and gql, against a canned server of its own process.

    python -m benchmarks.subscriptions [--rounds 9] [--only cpu memory crowd reconnect]

cpu        CPU time an event, contenders in turn in one process: the median of each round's ratio to stock
memory     what an idle subscription keeps resident, each contender in fresh processes
crowd      5,000 subscriptions that share one socket, fed with 10,000 events a second
reconnect  1,000 subscriptions that share one socket, cut off: when the server has them all back
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import aiohttp
import gql
from aiographql.client import GraphQLClient, GraphQLRequest
from aiographql.client.transport import WebsocketSubscriptionTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.websockets import WebsocketsTransport

from benchmarks.canned_sockets import Canned, canned_sockets
from benchmarks.memory import resident
from graphql_prod import PoolPolicy, ProductionClient, ProductionConfig, SubscriptionPolicy

Figure = TypeVar("Figure")

DOCUMENT = "subscription Ticks($id: ID!) { ticked(id: $id) { id name price tags } }"
VARIABLES = {"id": "42"}
REQUEST = GraphQLRequest(DOCUMENT, variables=VARIABLES)
BASE = "stock, coroutine callback"
LOADS = {"a flood": (6000, 0, 0.0), "one at a time": (500, 1, 0.001)}
"""Events, how many are sent together, and every how many seconds (0: as fast as the client reads)."""


class Tally:
    """Counts events, from whatever thread, and knows when the last one came."""

    def __init__(self, expected: int) -> None:
        self.done = asyncio.Event()
        self.seen = 0
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._expected = expected

    def plain(self, _: object) -> None:
        self.seen = next(self._numbers)
        if self.seen == self._expected:
            self._loop.call_soon_threadsafe(self.done.set)

    async def coroutine(self, event: object) -> None:
        self.plain(event)


# Opens a subscription whose events the tally counts; its task, which ends with it.
Contender = Callable[[Tally], Awaitable[asyncio.Task[None]]]


def with_callback(client: GraphQLClient, plain: bool = False) -> Contender:
    """``subscribe()`` of stock and ours."""

    async def subscribe(tally: Tally) -> asyncio.Task[None]:
        callback = tally.plain if plain else tally.coroutine
        subscription = await client.subscribe(REQUEST, on_data=callback)
        assert subscription.task is not None
        return subscription.task

    return subscribe


def iterated(events: Callable[[], AsyncIterator[object]]) -> Contender:
    """``stream()``, and what other clients have in its place."""

    async def consume(tally: Tally) -> None:
        async for event in events():
            tally.plain(event)

    async def subscribe(tally: Tally) -> asyncio.Task[None]:
        return asyncio.create_task(consume(tally))

    return subscribe


def streamed(client: ProductionClient) -> Contender:
    """Our ``stream()``."""
    return iterated(lambda: client.stream(REQUEST))


def gql_of(session: Any) -> Contender:
    """gql's ``subscribe()``, whose document is parsed beforehand and whose socket is open already."""
    document = gql.gql(DOCUMENT)
    document.variable_values = VARIABLES
    return iterated(lambda: session.subscribe(document))


async def stock(url: str, stack: AsyncExitStack, **options: Any) -> GraphQLClient:
    """The stock client, on a shared aiohttp session."""
    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    return GraphQLClient(url, validate=False, session=session, **options)


async def ours(
    url: str, stack: AsyncExitStack, share_connection: bool = False, **options: Any
) -> ProductionClient:
    """Our client, with places for all."""
    config = ProductionConfig(
        pool=PoolPolicy(subscriptions=1000),
        subscriptions=SubscriptionPolicy(share_connection=share_connection),
    )
    return await stack.enter_async_context(ProductionClient(url, validate=False, config=config, **options))


async def peer(transport: Any, stack: AsyncExitStack) -> Any:
    """A session of gql."""
    return await stack.enter_async_context(gql.Client(transport=transport))


# --- CPU time an event


async def contenders(url: str, stack: AsyncExitStack) -> dict[str, Contender]:
    """Everybody, ready to subscribe."""
    sockets = url.replace("http", "ws", 1)
    plain = await stock(url, stack)
    websockets = await stock(url, stack, subscription_transport=WebsocketSubscriptionTransport(url))
    field = {
        BASE: with_callback(plain),
        "stock, plain callback": with_callback(plain, plain=True),
        "stock, coroutine callback, websockets": with_callback(websockets),
        "gql 4, aiohttp": gql_of(await peer(AIOHTTPWebsocketsTransport(sockets), stack)),
        "gql 4, websockets": gql_of(await peer(WebsocketsTransport(sockets), stack)),
    }
    for name, options in (("aiohttp", {}), ("aiohttp, shared", {"share_connection": True})):
        client = await ours(url, stack, **options)
        field[f"ours, stream(), {name}"] = streamed(client)
        field[f"ours, coroutine callback, {name}"] = with_callback(client)
        field[f"ours, plain callback, {name}"] = with_callback(client, plain=True)
    client = await ours(url, stack, backend="httpx")
    field["ours, stream(), httpx"] = streamed(client)
    field["ours, coroutine callback, httpx"] = with_callback(client)
    field["ours, plain callback, httpx"] = with_callback(client, plain=True)
    return field


async def price(canned: Canned, contender: Contender, load: tuple[int, int, float]) -> float:
    """CPU seconds an event, from the first one's sending to the last callback's end."""
    events, batch, pause = load
    tally = Tally(events)
    task = await contender(tally)
    await canned.until_subscribed(1)
    gc.collect()
    gc.disable()
    begun = time.process_time()
    canned.ask("feed", events, batch, pause)
    async with asyncio.timeout(60):
        await tally.done.wait()
    spent = time.process_time() - begun
    gc.enable()
    await task
    return spent / events


async def prices(canned: Canned, load: tuple[int, int, float], rounds: int) -> dict[str, list[float]]:
    """CPU seconds an event of each round, by contender."""
    async with AsyncExitStack() as stack:
        field = await contenders(canned.url, stack)
        figures: dict[str, list[float]] = {name: [] for name in field}
        for contender in field.values():
            await price(canned, contender, load)
        for _ in range(rounds):
            for name, contender in field.items():
                figures[name].append(await price(canned, contender, load))
    return figures


def cpu(canned: Canned, rounds: int) -> None:
    """A table for each load."""
    print("CPU time an event: median of interleaved rounds, and of their ratios to stock")
    for name, load in LOADS.items():
        print(f"\n{name}: {load[0]} events a round")
        figures = asyncio.run(prices(canned, load, rounds))
        for contender, values in figures.items():
            ratio = statistics.median(mine / base for mine, base in zip(values, figures[BASE], strict=True))
            print(f"  {contender:44} {statistics.median(values) * 1e6:7.1f} µs   {ratio:5.2f} x stock")


def fresh_processes() -> ProcessPoolExecutor:
    """Each task gets a process that did nothing else before."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)


def in_child(
    measure: Callable[..., Coroutine[Any, Any, Figure]], canned: Canned, name: str, *numbers: int
) -> Figure:
    """What such a process does."""
    logging.disable()
    with contextlib.closing(canned):
        return asyncio.run(measure(canned, name, *numbers))


# --- memory of an idle subscription

# And how many of them: enough for the figure to stand out from what the interpreter had free anyway.
IDLE = {
    BASE: 400,
    "ours, coroutine callback, aiohttp": 400,
    "ours, stream(), aiohttp": 400,
    "stock, coroutine callback, websockets": 400,
    "ours, coroutine callback, httpx": 400,
    "gql 4, aiohttp": 2000,
    "ours, coroutine callback, aiohttp, shared": 2000,
    "ours, stream(), aiohttp, shared": 2000,
}


async def idle(canned: Canned, name: str, count: int) -> float:
    """KB a subscription, after the first hundred."""
    warm = 100
    async with AsyncExitStack() as stack:
        contender = (await contenders(canned.url, stack))[name]
        tally = Tally(0)
        tasks, before = [], 0.0
        for number in range(1, warm + count + 1):
            tasks.append(await contender(tally))
            if number % 20 == 0:
                await canned.until_subscribed(number)
            if number == warm:
                before = resident()
        after = resident()
        canned.ask("feed", 0, 0, 0)
        await asyncio.gather(*tasks)
    return (after - before) * 1024 / count


def memory(canned: Canned, rounds: int) -> None:
    """KB a subscription, by contender: the median of fresh processes."""
    rounds = min(rounds, 3)
    print(f"Resident memory of an idle subscription: median of {rounds} processes")
    figures: dict[str, list[float]] = {name: [] for name in IDLE}
    with fresh_processes() as children:
        for _ in range(rounds):
            for name, values in figures.items():
                values.append(children.submit(in_child, idle, canned, name, IDLE[name]).result())
    for name, values in figures.items():
        print(f"  {name:44} {IDLE[name]:5} of them {statistics.median(values):7.1f} KB each")


# --- many subscriptions on one socket


CROWD = ("gql 4, aiohttp", "ours, stream(), aiohttp, shared", "ours, coroutine callback, aiohttp, shared")


async def crowded(canned: Canned, name: str, count: int, each: int, rate: int) -> str:
    """What came of sending each so many events, at so many a second in all."""
    tally = Tally(count * each)
    async with AsyncExitStack() as stack:
        contender = (await contenders(canned.url, stack))[name]
        tasks = await asyncio.gather(*(contender(tally) for _ in range(count)))
        await canned.until_subscribed(count)
        gc.collect()
        cpu, clock = time.process_time(), time.monotonic()
        canned.ask("feed", each, rate // 100, 0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                await tally.done.wait()
        cpu, clock = time.process_time() - cpu, time.monotonic() - clock
        await asyncio.gather(*tasks)
    return (
        f"{tally.seen / clock:7.0f} events/s   {cpu / clock:4.0%} of a core   "
        f"{cpu / tally.seen * 1e6:5.1f} µs an event   {count * each - tally.seen} lost"
    )


def crowd(canned: Canned, _: int, count: int = 5000, each: int = 10, rate: int = 10_000) -> None:
    """Throughput, and its share of a core; each contender in a process of its own."""
    seconds = count * each / rate
    print(f"{count:,} subscriptions on one socket, sent {rate:,} events a second for {seconds:g} s")
    with fresh_processes() as children:
        for name in CROWD:
            print(
                f"  {name:44} {children.submit(in_child, crowded, canned, name, count, each, rate).result()}"
            )


# --- coming back


async def _back(canned: Canned, count: int, outage: float) -> tuple[int, float, float]:
    """Connections that were opened, when the first was, and when the last subscription was back."""
    async with AsyncExitStack() as stack:
        client = await ours(canned.url, stack, share_connection=True)
        subscribe = with_callback(client)
        tally = Tally(count)
        tasks = await asyncio.gather(*(subscribe(tally) for _ in range(count)))
        await canned.until_subscribed(count)
        canned.ask("drop", outage)
        await canned.until_subscribed(count)
        since = canned.ask("since")
        canned.ask("feed", 1, 0, 0)
        await tally.done.wait()
        await asyncio.gather(*tasks)
    return len(since["opened"]), since["opened"][0], since["subscribed"][-1]


def reconnect(canned: Canned, rounds: int, count: int = 1000) -> None:
    """Seconds from the server's return."""
    print(f"{count:,} subscriptions on one socket that is cut; seconds since the server's return")
    for outage in (0.0, 1.0):
        for _ in range(min(rounds, 3)):
            opened, first, last = asyncio.run(_back(canned, count, outage))
            print(
                f"  away for {outage:g} s:  connected after {first:5.2f}  all back after {last:5.2f} "
                f"({last - first:4.2f} s of work)  {opened} connection{'s' if opened > 1 else ''}"
            )


PARTS: dict[str, Callable[[Canned, int], None]] = {
    "cpu": cpu,
    "memory": memory,
    "crowd": crowd,
    "reconnect": reconnect,
}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = arguments.parse_args()
    logging.disable()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for part in chosen.only:
        with canned_sockets() as canned:
            PARTS[part](canned, chosen.rounds)
        print()


if __name__ == "__main__":
    main()
