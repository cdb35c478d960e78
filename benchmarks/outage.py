"""What an upstream that is down gets to see: attempts for each call that was made, ours beside the recipe's.

A server answers everything with 503 while so many tasks keep calling for some seconds.

    python -m benchmarks.outage [--seconds 15] [--tasks 50]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import tenacity
from aiographql.client import GraphQLClient, GraphQLClientException
from aiohttp import web

from graphql_prod import ProductionClient

Call = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def down() -> AsyncIterator[tuple[str, list[int]]]:
    """The URL of a server that is down, and its count of requests."""
    seen = [0]

    async def refuse(request: web.BaseRequest) -> web.Response:
        await request.read()
        seen[0] += 1
        return web.Response(status=503, text="down")

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/graphql", seen
    finally:
        await runner.cleanup()


def recipe(client: GraphQLClient) -> Call:
    """The production guide's, retrying what the stock client raises."""

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        retry=tenacity.retry_if_exception_type(GraphQLClientException),
        reraise=True,
    )
    async def call() -> object:
        return await client.query("{ hello }")

    return call


async def load(call: Call, tasks: int, seconds: float) -> int:
    """How many calls were made by so many tasks, each pausing 0.1 s after a call."""
    made = 0
    end = time.monotonic() + seconds

    async def worker() -> None:
        nonlocal made
        while time.monotonic() < end:
            made += 1
            with contextlib.suppress(GraphQLClientException):
                await call()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(worker() for _ in range(tasks)))
    return made


async def measure(tasks: int, seconds: float) -> None:
    """Both, one after the other."""
    async with down() as (url, seen), aiohttp.ClientSession() as session:
        stock = GraphQLClient(url, validate=False, session=session)
        async with ProductionClient(url, validate=False) as ours:
            for name, call in (
                ("guide's recipe", recipe(stock)),
                ("ours", lambda: ours.query("{ hello }")),
            ):
                before = seen[0]
                made = await load(call, tasks, seconds)
                reached = seen[0] - before
                print(f"  {name:16} {made:6} calls  {reached:6} attempts  {reached / made:5.2f} a call")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--tasks", type=int, default=50)
    chosen = arguments.parse_args()
    logging.disable()
    print(f"A full outage: {chosen.tasks} tasks calling for {chosen.seconds:g} s (reserve: 10 retries)")
    asyncio.run(measure(chosen.tasks, chosen.seconds))


if __name__ == "__main__":
    main()
