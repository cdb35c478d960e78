"""Where the time of one call goes, by package: stock on a shared session, and ours.

The shares are those of cProfile, which counts small functions for more than they cost: read them in pairs.

    python -m benchmarks.where [--calls 3000]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import pstats
from collections import Counter

import aiohttp
from aiographql.client import GraphQLClient

from benchmarks.call import Contender, burst, query_of
from benchmarks.canned import canned_server
from graphql_prod import ProductionClient

PACKAGES = (
    "graphql_prod",
    "aiographql",
    "aiohttp",
    "asyncio",
    "multidict",
    "yarl",
    "dataclasses",
    "copy",
    "contextlib",
)


def package(file: str) -> str:
    """The package that a profiled function belongs to."""
    parts = file.replace("\\", "/").removesuffix(".py").split("/")
    return next((name for name in PACKAGES if name in parts), "built in and others")


async def profiled(call: Contender, calls: int) -> tuple[Counter[str], Counter[str]]:
    """Microseconds and function calls of one call, by package."""
    await burst(call, calls // 10, 1)
    profile = cProfile.Profile()
    profile.enable()
    await burst(call, calls, 1)
    profile.disable()
    spent: Counter[str] = Counter()
    entered: Counter[str] = Counter()
    for (file, _, name), (_, count, own, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if "poll" in name or "gc.collect" in name:
            continue  # waiting, and the benchmark's own
        spent[package(file)] += own / calls * 1e6
        entered[package(file)] += count / calls
    return spent, entered


async def measure(url: str, calls: int) -> None:
    """Print both, side by side."""
    auth = {"Authorization": "Bearer token"}
    async with (
        aiohttp.ClientSession() as session,
        ProductionClient(url, headers=auth, validate=False) as ours,
    ):
        stock = GraphQLClient(url, headers=auth, validate=False, session=session)
        before, entered_before = await profiled(query_of(stock), calls)
        after, entered_after = await profiled(query_of(ours), calls)
    print(f"  {'package':22} {'stock µs':>10} {'calls':>7} {'ours µs':>10} {'calls':>7}")
    for name in sorted(before | after, key=lambda name: -after[name]):
        print(
            f"  {name:22} {before[name]:10.1f} {entered_before[name]:7.0f} "
            f"{after[name]:10.1f} {entered_after[name]:7.0f}"
        )
    print(
        f"  {'in all':22} {before.total():10.1f} {entered_before.total():7.0f} "
        f"{after.total():10.1f} {entered_after.total():7.0f}"
    )


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--calls", type=int, default=3000)
    chosen = arguments.parse_args()
    logging.disable()
    print("Where one call goes (cProfile, one task)")
    with canned_server() as url:
        asyncio.run(measure(url, chosen.calls))


if __name__ == "__main__":
    main()
