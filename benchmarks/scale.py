"""Whether the price stays the same where there is much of everything: calls in flight, subscriptions, events.

    python -m benchmarks.scale [--rounds 9] [--events 10000000] [--only calls subscriptions events views]

calls          CPU time a call with 1 to 10,000 calls in flight, ours and the stock client in turn
subscriptions  CPU time an event with 1, 100 and 10,000 subscriptions on one socket
events         resident memory over 10 million events of one stream
views          10,000 views by with_options(), each used for one call, beside one view that is used for all
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import statistics
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
from aiographql.client import GraphQLClient

from benchmarks.call import QUERY, VARIABLES, Contender, burst, query_of
from benchmarks.canned import canned_server
from benchmarks.canned_sockets import canned_sockets
from benchmarks.memory import resident
from benchmarks.subscriptions import DOCUMENT, Tally, streamed
from graphql_prod import PoolPolicy, ProductionClient, ProductionConfig, SubscriptionPolicy, TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

FLIGHTS = (1, 10, 100, 1000, 10_000)
CROWDS = (1, 100, 10_000)
SOCKETS = 100
"""Connections of each pool; more calls than that wait for one."""
EVENTS = 100_000
"""Of each round, over all subscriptions together."""
CALLS = 10_000
"""Of each round."""


async def _flights(rounds: int) -> dict[str, dict[int, float]]:
    """The median CPU seconds a call, by contender and by how many are in flight."""
    found: dict[str, dict[int, float]] = {"stock": {}, "ours": {}}
    with canned_server() as url:
        async with AsyncExitStack() as stack:
            connector = aiohttp.TCPConnector(limit=SOCKETS)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            config = ProductionConfig(
                pool=PoolPolicy(requests=SOCKETS), timeout=TimeoutPolicy(total=300, pool=300)
            )
            ours = await stack.enter_async_context(ProductionClient(url, validate=False, config=config))
            field = {
                "stock": query_of(GraphQLClient(url, validate=False, session=session)),
                "ours": query_of(ours),
            }
            for tasks in FLIGHTS:
                spent: dict[str, list[float]] = {name: [] for name in field}
                for number in range(rounds + 1):
                    for name, call in field.items():
                        took = await burst(call, CALLS, tasks)
                        if number:  # the first one connects
                            spent[name].append(took)
                for name, values in spent.items():
                    found[name][tasks] = statistics.median(values)
    return found


def calls(chosen: argparse.Namespace) -> None:
    """A table of ratios to one call in flight at a time."""
    found = asyncio.run(_flights(chosen.rounds))
    print(f"CPU time a call by calls in flight, {SOCKETS} connections; beside it the ratio to 100 in flight")
    for tasks in FLIGHTS:
        line = "".join(
            f"   {name} {values[tasks] * 1e6:6.1f} µs  {values[tasks] / values[100]:4.2f}"
            for name, values in found.items()
        )
        print(f"  {tasks:7,}{line}")


async def _crowd(count: int, rounds: int) -> float:
    """The median CPU seconds an event."""
    spent = []
    each = EVENTS // count
    with canned_sockets() as canned:
        async with AsyncExitStack() as stack:
            config = ProductionConfig(
                subscriptions=SubscriptionPolicy(share_connection=True, max_queue=max(1000, each))
            )
            client = await stack.enter_async_context(
                ProductionClient(canned.url, validate=False, config=config)
            )
            subscribe = streamed(client)
            for number in range(rounds + 1):
                tally = Tally(count * each)
                tasks = await asyncio.gather(*(subscribe(tally) for _ in range(count)))
                await canned.until_subscribed(count)
                gc.collect()
                gc.disable()
                begun = time.process_time()
                canned.ask("feed", each, 0 if count == 1 else 200, 0.0 if count == 1 else 0.002)
                async with asyncio.timeout(120):
                    await tally.done.wait()
                if number:
                    spent.append((time.process_time() - begun) / (count * each))
                gc.enable()
                await asyncio.gather(*tasks)
    return statistics.median(spent)


def subscriptions(chosen: argparse.Namespace) -> None:
    """A line for each crowd."""
    print(f"CPU time an event of {EVENTS:,}, by subscriptions on one socket")
    first = 0.0
    for count in CROWDS:
        value = asyncio.run(_crowd(count, min(chosen.rounds, 3)))
        first = first or value
        print(f"  {count:7,}   {value * 1e6:6.1f} µs   {value / first:4.2f}")


async def _events(total: int) -> None:
    with canned_sockets() as canned:
        async with ProductionClient(canned.url, validate=False) as client:
            before, tenth = 0.0, total // 10
            for number in range(11):
                seen = 0
                events = client.stream(DOCUMENT, variables=VARIABLES)
                reading = asyncio.create_task(anext(events))
                await canned.until_subscribed(1)
                canned.ask("feed", tenth if number else 10_000, 0, 0)
                await reading
                async for _ in events:
                    seen += 1
                before = before or resident()
                if number:
                    print(
                        f"  {tenth * number:12,} events   {resident():7.1f} MiB   {resident() - before:+6.2f}"
                    )


def events(chosen: argparse.Namespace) -> None:
    """What is resident after each tenth."""
    print(f"Resident memory over {chosen.events:,} events of streams on one client")
    asyncio.run(_events(chosen.events))


async def _views(rounds: int) -> None:
    with canned_server() as url:
        async with ProductionClient(url, validate=False) as client:
            one = client.with_options(timeout=10)

            async def kept() -> object:
                return await one.query(QUERY, variables=VARIABLES)

            async def fresh() -> object:
                return await client.with_options(timeout=10).query(QUERY, variables=VARIABLES)

            field: dict[str, Contender] = {"one view for all": kept, "a view a call": fresh}
            spent: dict[str, list[float]] = {name: [] for name in field}
            before = 0.0
            for number in range(rounds + 1):
                for name, call in field.items():
                    took = await burst(call, CALLS, 20)
                    if number:
                        spent[name].append(took)
                before = before or resident()
            ratio = statistics.median(fresh / kept for kept, fresh in zip(*spent.values(), strict=True))
            for name, values in spent.items():
                print(f"  {name:18} {statistics.median(values) * 1e6:6.1f} µs")
            print(
                f"  ratio {ratio:4.2f}; memory over {rounds * CALLS:,} views {resident() - before:+.2f} MiB"
            )


def views(chosen: argparse.Namespace) -> None:
    """Both, and their ratio."""
    print(f"CPU time a call through views, {CALLS:,} calls a round")
    asyncio.run(_views(chosen.rounds))


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "calls": calls,
    "subscriptions": subscriptions,
    "events": events,
    "views": views,
}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = arguments.parse_args()
    logging.disable()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for part in chosen.only:
        PARTS[part](chosen)
        print()


if __name__ == "__main__":
    main()
